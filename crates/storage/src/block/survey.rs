//! The devices that are there now and that the operator has named, each under one name; and what is wrong with the others.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use tanist_model::id::VolumeAddress;
use tanist_model::quantity::count;

use super::identity::{Identified, IdentityError, Loops, identify, tidy};
use super::selector::{DeviceSelector, IdentityPattern};
use super::sysfs::{DeviceNumber, Node, Sysfs};
use crate::error::StorageError;

/// A device that was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub(super) node: Node,
    pub(super) number: DeviceNumber,
    pub(super) identified: Identified,
    /// Where it is opened.
    pub(super) path: PathBuf,
    pub(super) loops: Loops,
    /// The name of a link that udev made of what it knows, where the device itself says nothing.
    by_id: Option<String>,
}

/// Why a name leads to no device.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Trouble {
    Absent(String),
    Refused(String),
}

/// One look at the host.
#[derive(Debug, Default)]
pub(super) struct Survey {
    found: BTreeMap<String, Vec<Found>>,
    troubles: BTreeMap<String, Trouble>,
}

impl Found {
    fn at(sysfs: &Sysfs, path: &Path, loops: Loops) -> Result<Self, IdentityError> {
        let number = DeviceNumber::at(path).ok_or(IdentityError::Gone)?;
        let node = sysfs.node(number).map_err(|_| IdentityError::Gone)?;
        let mut found = Self {
            identified: Identified { identity: String::new(), backed_by: Vec::new() },
            by_id: name_by_id(path),
            path: path.to_owned(),
            node,
            number,
            loops,
        };
        found.identified = found.identify(sysfs)?;
        Ok(found)
    }

    /// Who it is now.
    pub(super) fn identify(&self, sysfs: &Sysfs) -> Result<Identified, IdentityError> {
        match (identify(sysfs, &self.node, self.loops), &self.by_id) {
            (Err(IdentityError::None { .. }), Some(name)) => {
                Ok(Identified { identity: format!("by-id.{name}"), backed_by: Vec::new() })
            }
            (identified, _) => identified,
        }
    }

    /// What it is called where the operator gave no name: its identity, or the file's name for a loop device.
    fn default_name(&self) -> String {
        let file = self.node.attribute("loop/backing_file");
        let file = file.as_deref().and_then(|path| Path::new(path).file_name()?.to_str());
        tidy(file.unwrap_or(&self.identified.identity))
    }
}

/// `/dev/disk/by-id/NAME`, unless NAME is of a partition.
fn name_by_id(path: &Path) -> Option<String> {
    let name = path.strip_prefix("/dev/disk/by-id").ok()?.to_str()?;
    (!name.contains("-part")).then(|| tidy(name))
}

impl Survey {
    /// # Errors
    /// If the kernel's list of devices cannot be read.
    pub(super) fn of(sysfs: &Sysfs, selectors: &[DeviceSelector]) -> io::Result<Self> {
        let mut survey = Self::default();
        for selector in selectors {
            match selector {
                DeviceSelector::Path { path, volume, .. } => {
                    survey.look_at(sysfs, path, volume.as_deref(), selector.loops());
                }
                DeviceSelector::Identity(pattern) => survey.look_for(sysfs, pattern)?,
            }
        }
        Ok(survey)
    }

    fn look_at(&mut self, sysfs: &Sysfs, path: &Path, volume: Option<&str>, loops: Loops) {
        match Found::at(sysfs, path, loops) {
            Ok(found) => {
                let name = volume.map_or_else(|| found.default_name(), ToOwned::to_owned);
                self.add(name, found);
            }
            Err(error) => {
                let file = path.file_name().and_then(|name| name.to_str()).unwrap_or("device");
                let reason = format!("{}: {error}", path.display());
                let is_gone = matches!(error, IdentityError::Gone);
                let trouble = if is_gone { Trouble::Absent(reason) } else { Trouble::Refused(reason) };
                self.troubles.insert(volume.map_or_else(|| tidy(file), ToOwned::to_owned), trouble);
            }
        }
    }

    fn look_for(&mut self, sysfs: &Sysfs, pattern: &IdentityPattern) -> io::Result<()> {
        for node in sysfs.disks()? {
            let is_hidden = node.number_of("hidden") == Some(1);
            let Some(number) = node.number().filter(|_| !is_hidden && node.size_bytes() > 0) else { continue };
            let Ok(identified) = identify(sysfs, &node, Loops::Refused) else { continue };
            if pattern.matches(&identified.identity) {
                let (path, loops) = (node.path(), Loops::Refused);
                self.add(tidy(&identified.identity), Found { node, number, identified, path, loops, by_id: None });
            }
        }
        Ok(())
    }

    /// What was found already, under whatever name, stays what it is.
    fn add(&mut self, name: String, found: Found) {
        if self.found.values().flatten().all(|other| other.number != found.number) {
            self.found.entry(name).or_default().push(found);
        }
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.found.keys().chain(self.troubles.keys()).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    /// The one device of that name.
    pub(super) fn find(&self, volume: &VolumeAddress) -> Result<Found, StorageError> {
        let name = volume.volume();
        let Some(found) = self.found.get(name) else { return Err(self.why_not(volume)) };
        match found.iter().find(|one| found.iter().all(|other| other == *one || is_path_of(other, one))) {
            Some(one) => Ok(one.clone()),
            None => Err(StorageError::Refused { volume: volume.clone(), reason: ambiguous(found) }),
        }
    }

    fn why_not(&self, volume: &VolumeAddress) -> StorageError {
        match self.troubles.get(volume.volume()) {
            Some(Trouble::Refused(reason)) => StorageError::Refused { volume: volume.clone(), reason: reason.clone() },
            Some(Trouble::Absent(reason)) => StorageError::Absent { volume: volume.clone(), reason: reason.clone() },
            None => StorageError::NotFound { volume: volume.clone() },
        }
    }

    /// How many there are, and by which words they were looked for.
    pub(super) fn location(&self, selectors: &[DeviceSelector]) -> String {
        let words = selectors.iter().map(|selector| match selector {
            DeviceSelector::Path { path, .. } => path.display().to_string(),
            DeviceSelector::Identity(pattern) => pattern.to_string(),
        });
        let words: Vec<String> = words.collect();
        format!("{} of {}", count(self.found.len() as u64, "device"), words.join(", "))
    }
}

/// Whether `path` is one of the paths that `upper` combines.
fn is_path_of(path: &Found, upper: &Found) -> bool {
    let combines = upper.node.attribute("dm/uuid").is_some_and(|uuid| uuid.starts_with("mpath-"));
    combines && upper.node.slaves().iter().any(|slave| slave.number() == Some(path.number))
}

fn ambiguous(found: &[Found]) -> String {
    let paths: Vec<String> = found.iter().map(|one| one.node.path().display().to_string()).collect();
    format!(
        "this host sees it as {}; let device-mapper multipath combine the paths (multipathd), or give the devices names of \
         their own",
        paths.join(" and ")
    )
}

#[cfg(test)]
mod tests {
    use super::super::sysfs::fixture::Fixture;
    use super::*;

    const NAA: &str = "naa.6001405aaaabbbb";

    fn volume() -> VolumeAddress {
        format!("san-a/{NAA}").parse().unwrap()
    }

    fn survey(fixture: &Fixture) -> Survey {
        Survey::of(&fixture.sysfs(), &[DeviceSelector::identity("naa.6001405*").unwrap()]).unwrap()
    }

    fn disk(fixture: &Fixture, name: &str, number: &str, identity: &str) {
        fixture.disk(name, number, &[("device/wwid", identity), ("size", "8")]);
    }

    #[test]
    fn only_what_was_named_is_found() {
        let fixture = Fixture::new();
        disk(&fixture, "sda", "8:0", NAA);
        disk(&fixture, "sdb", "8:16", "naa.5000c50000000001");
        fixture.disk("sdc", "8:32", &[("device/wwid", "naa.6001405cccc"), ("size", "0")]);
        fixture.disk("nvme0c0n1", "259:1", &[("wwid", "naa.6001405dddd"), ("size", "8"), ("hidden", "1")]);
        assert_eq!(survey(&fixture).names(), [NAA]);
        let found = survey(&fixture).find(&volume()).unwrap();
        assert_eq!((found.node.name.as_str(), found.path), ("sda", PathBuf::from("/dev/sda")));
        assert_eq!(
            survey(&fixture).location(&[DeviceSelector::identity("naa.6001405*").unwrap()]),
            "1 device of naa.6001405*"
        );
    }

    #[test]
    fn several_paths_need_somebody_who_combines_them() {
        let fixture = Fixture::new();
        disk(&fixture, "sda", "8:0", NAA);
        disk(&fixture, "sdb", "8:16", NAA);
        let refused = survey(&fixture).find(&volume()).unwrap_err().to_string();
        assert!(refused.contains("/dev/sda and /dev/sdb") && refused.contains("multipath"), "{refused}");
        fixture.disk("dm-0", "253:0", &[("dm/uuid", "mpath-36001405"), ("size", "8")]);
        fixture.stack("dm-0", "sda");
        fixture.stack("dm-0", "sdb");
        assert_eq!(survey(&fixture).find(&volume()).unwrap().node.name, "dm-0");
    }

    #[test]
    fn what_is_not_there_is_told_from_what_was_never_named() {
        let selectors = [DeviceSelector::path("/dev/disk/by-id/wwn-0x6001405-none", None).unwrap()];
        let survey = Survey::of(&Fixture::new().sysfs(), &selectors).unwrap();
        assert_eq!(survey.names(), ["wwn-0x6001405-none"]);
        let absent = survey.find(&"san-a/wwn-0x6001405-none".parse().unwrap()).unwrap_err();
        assert!(matches!(absent, StorageError::Absent { .. }), "{absent}");
        assert!(matches!(survey.find(&volume()), Err(StorageError::NotFound { .. })));
    }
}
