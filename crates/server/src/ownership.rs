//! Whose files a server's directory holds. The package's service runs as a user of its own while `server init` and `server restore` are
//! typed by root: what they make belongs to whom the directory belonged to before, so that the service can read it.

use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use crate::ServerError;

/// User and group of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    uid: u32,
    gid: u32,
}

/// To whom `path` belongs; `None` if there is nothing.
///
/// # Errors
/// [`ServerError::Io`].
pub fn owner_of(path: &Path) -> Result<Option<Owner>, ServerError> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Some(Owner { uid: found.uid(), gid: found.gid() })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ServerError::io("look at", path)(error)),
    }
}

/// Gives `path`, and if it is a directory everything below it, to `owner`. Links are not followed.
///
/// # Errors
/// [`ServerError::Io`]; whoever is not root can give nothing away.
pub fn give(path: &Path, owner: Owner) -> Result<(), ServerError> {
    if owner_of(path)? != Some(owner) {
        lchown(path, Some(owner.uid), Some(owner.gid)).map_err(ServerError::io("give to its owner", path))?;
    }
    let found = path.symlink_metadata().map_err(ServerError::io("look at", path))?;
    if !found.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(path).map_err(ServerError::io("look into", path))? {
        give(&entry.map_err(ServerError::io("look into", path))?.path(), owner)?;
    }
    Ok(())
}

/// Refuses root in a directory of another user: the files that it made there would lock the service out.
///
/// # Errors
/// [`ServerError::AnothersDirectory`].
pub fn refuse_root_in_anothers(dir: &Path) -> Result<(), ServerError> {
    match owner_of(dir)? {
        Some(owner) if owner.uid != 0 && rustix::process::geteuid().is_root() => {
            Err(ServerError::AnothersDirectory { dir: dir.to_owned(), uid: owner.uid })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The user and group that own nothing, on every Linux.
    const NOBODY: Owner = Owner { uid: 65534, gid: 65534 };

    #[test]
    fn everything_below_goes_to_the_owner_and_root_stays_out() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("server");
        std::fs::create_dir_all(dir.join("ca")).unwrap();
        std::fs::write(dir.join("ca/key.pem"), "key").unwrap();
        std::os::unix::fs::symlink(folder.path(), dir.join("link")).unwrap();
        assert_eq!(owner_of(&dir.join("missing")).unwrap(), None);
        let own = owner_of(folder.path()).unwrap().unwrap();
        refuse_root_in_anothers(&dir).unwrap();
        if !rustix::process::geteuid().is_root() {
            assert!(give(&dir, NOBODY).is_err(), "only root can give away");
            return eprintln!("skipped the rest: not root");
        }
        give(&dir, NOBODY).unwrap();
        for name in ["", "ca", "ca/key.pem", "link"] {
            assert_eq!(owner_of(&dir.join(name)).unwrap(), Some(NOBODY), "{name}");
        }
        assert_eq!(owner_of(folder.path()).unwrap(), Some(own), "a link is not followed");
        let refused = refuse_root_in_anothers(&dir).unwrap_err();
        assert!(matches!(refused, ServerError::AnothersDirectory { uid: 65534, .. }));
        assert!(refused.hint().contains("systemctl"), "{}", refused.hint());
    }
}
