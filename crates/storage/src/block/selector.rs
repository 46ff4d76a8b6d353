//! Which devices a storage system consists of: those that the operator names, one by one or by a pattern of identities. There is
//! no word for "all", and a pattern that comes near to it is refused.

use std::fmt;
use std::path::{Path, PathBuf};

use tanist_model::excerpt::excerpt;

use super::identity::Loops;

/// Characters of a pattern that are no wildcard, at least.
const FEWEST_LITERALS: usize = 8;

/// Why an entry of the configuration cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SelectorError {
    #[error(
        "\"{0}\" is a name that may be another device's after the next boot: use its link under /dev/disk/by-id or /dev/mapper \
         (ls -l /dev/disk/by-id), or match = with its identity; a loop device needs identity = \"backing-file\""
    )]
    NotPersistent(String),
    #[error("match = \"{0}\" is too wide: at least {FEWEST_LITERALS} characters besides * are needed")]
    TooWide(String),
    #[error("\"{0}\" cannot be the name of a volume: letters, digits and signs without / and blanks, no dot in front")]
    VolumeName(String),
}

/// One entry of the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeviceSelector {
    /// The device that a persistent path leads to, under its identity as its name.
    Path { path: PathBuf, volume: Option<String>, is_loop: bool },
    /// Every whole device with such an identity.
    Identity(IdentityPattern),
}

impl DeviceSelector {
    /// A device by its persistent path; `volume` is the name it is to have instead of its identity.
    ///
    /// # Errors
    /// [`SelectorError`] if the path is not persistent or the name cannot be one.
    pub fn path(path: impl Into<PathBuf>, volume: Option<String>) -> Result<Self, SelectorError> {
        let path = path.into();
        let is_persistent =
            [Path::new("/dev/disk"), Path::new("/dev/mapper")].iter().any(|place| path.starts_with(place));
        if !is_persistent {
            return Err(SelectorError::NotPersistent(excerpt(&path.display().to_string())));
        }
        check_name(volume.as_deref())?;
        Ok(Self::Path { path, volume, is_loop: false })
    }

    /// A loop device, which is known by the file behind it; or a link to one.
    ///
    /// # Errors
    /// [`SelectorError`] if the name cannot be one.
    pub fn backing_file(path: impl Into<PathBuf>, volume: Option<String>) -> Result<Self, SelectorError> {
        check_name(volume.as_deref())?;
        Ok(Self::Path { path: path.into(), volume, is_loop: true })
    }

    /// # Errors
    /// [`SelectorError::TooWide`].
    pub fn identity(pattern: &str) -> Result<Self, SelectorError> {
        let literals = pattern.chars().filter(|c| *c != '*').count();
        if literals < FEWEST_LITERALS {
            return Err(SelectorError::TooWide(excerpt(pattern)));
        }
        Ok(Self::Identity(IdentityPattern(pattern.to_owned())))
    }

    pub(super) fn loops(&self) -> Loops {
        match self {
            Self::Path { is_loop: true, .. } => Loops::ByBackingFile,
            _ => Loops::Refused,
        }
    }
}

fn check_name(volume: Option<&str>) -> Result<(), SelectorError> {
    use tanist_model::id::{StorageName, VolumeAddress};
    let Some(name) = volume else { return Ok(()) };
    let fits = StorageName::new("x").is_ok_and(|system| VolumeAddress::new(system, name).is_ok());
    if fits { Ok(()) } else { Err(SelectorError::VolumeName(excerpt(name))) }
}

/// An identity in which `*` stands for any characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityPattern(String);

impl IdentityPattern {
    #[must_use]
    pub fn matches(&self, identity: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = parts.next().and_then(|head| identity.strip_prefix(head)) else { return false };
        let mut parts = parts.peekable();
        if parts.peek().is_none() {
            return rest.is_empty();
        }
        while let Some(part) = parts.next() {
            if parts.peek().is_none() {
                return rest.ends_with(part);
            }
            let Some(at) = rest.find(part) else { return false };
            rest = rest.get(at + part.len()..).unwrap_or_default();
        }
        true
    }
}

impl fmt::Display for IdentityPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_it_says_and_no_more() {
        let matches = |pattern: &str, identity: &str| IdentityPattern(pattern.to_owned()).matches(identity);
        for (pattern, yes, no) in [
            ("naa.6001405a", "naa.6001405a", "naa.6001405ab"),
            ("naa.6001405*", "naa.6001405", "naa.500"),
            ("*-part1", "a-part1", "a-part12"),
            ("naa.*aa*bb", "naa.1aa2bb", "naa.1bb2aa"),
            ("naa.60*01", "naa.6001", "naa.601"),
        ] {
            assert!(matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn what_is_not_persistent_or_too_wide_is_refused_in_words() {
        for path in ["/dev/sdb", "/dev/nvme0n1", "disk/by-id/x", "/dev/disk0"] {
            let error = DeviceSelector::path(path, None).unwrap_err().to_string();
            assert!(error.contains("by-id"), "{error}");
        }
        assert!(DeviceSelector::path("/dev/disk/by-id/wwn-0x6001405", None).is_ok());
        for pattern in ["*", "naa.*", "", "*******1*"] {
            assert!(matches!(DeviceSelector::identity(pattern), Err(SelectorError::TooWide(_))), "{pattern}");
        }
        assert!(DeviceSelector::backing_file("/dev/loop0", Some("a/b".to_owned())).is_err());
    }
}
