//! Taking a stopped server back to a backup of its store. The epoch rule is the store's: nothing is granted afterwards until
//! every known agent has shown its highest epochs.
//!
//! Who restores is in trouble already. So a file that is no backup is told apart from a store that is in trouble, and what is
//! said never sends in a circle.

use std::io;
use std::path::Path;

use tanist_store::{RestoreReport, StoreError};

use crate::config::{Layout, ServerConfig};
use crate::{ServerError, ownership};

/// Puts the backup in place of the store of the server in `dir`.
///
/// # Errors
/// [`ServerError::NotInitialised`]; [`ServerError::Backup`] if the file is not a sound backup; [`ServerError::Store`] if a server
/// runs there, or its store cannot be replaced. The store is then as it was.
pub async fn restore(dir: &Path, backup: &Path) -> Result<RestoreReport, ServerError> {
    let layout = Layout::new(dir);
    ServerConfig::load(&layout)?;
    let unusable = |reason| ServerError::Backup { path: backup.to_owned(), reason };
    look_at(backup).map_err(unusable)?;
    let restored = tanist_store::restore(backup, &layout.store()).await;
    let report = restored.map_err(|error| match fault_of(backup, &error) {
        Some(reason) => unusable(reason),
        None => error.into(),
    })?;
    if let Some(owner) = ownership::owner_of(dir)? {
        ownership::give(dir, owner)?;
    }
    Ok(report)
}

/// What a database would only say by a number.
fn look_at(backup: &Path) -> Result<(), String> {
    match backup.metadata() {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err("it is not a file".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err("there is no such file".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// What is wrong with the backup, if it is the backup that something is wrong with.
fn fault_of(backup: &Path, error: &StoreError) -> Option<String> {
    match error {
        StoreError::NotAStore { path } if path == backup => Some("it is not the backup of a tanist server".to_owned()),
        StoreError::Damaged { path, reason } if path == backup => {
            Some(format!("it is damaged, or never was a backup ({reason})"))
        }
        StoreError::Corrupt { table, key, .. } => Some(format!("it is damaged: table {table}, row {key}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::init::{InitOptions, init};

    async fn server(root: &Path) -> PathBuf {
        let (dir, listen) = (root.join("server"), "127.0.0.1:0".parse().unwrap());
        init(InitOptions { dir: dir.clone(), listen, advertise: vec!["127.0.0.1:0".into()] }).await.unwrap();
        dir
    }

    #[tokio::test]
    async fn what_is_no_backup_is_refused_in_plain_words_and_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let dir = server(root.path()).await;
        let store = std::fs::read(Layout::new(&dir).store()).unwrap();
        let file = |name: &str, content: &[u8]| {
            let path = root.path().join(name);
            std::fs::write(&path, content).unwrap();
            path
        };
        let cases = [
            (root.path().join("missing"), "there is no such file"),
            (root.path().to_owned(), "it is not a file"),
            (file("letter", b"dear operator"), "never was a backup"),
            (file("empty", b""), "not the backup of a tanist server"),
            (file("half", &store[..store.len() / 2]), "it is damaged"),
        ];
        for (path, reason) in cases {
            let error = restore(&dir, &path).await.unwrap_err();
            let (told, hint) = (error.to_string(), error.hint());
            assert!(matches!(error, ServerError::Backup { .. }), "{told}");
            assert!(told.contains(reason) && told.contains(path.to_str().unwrap()), "{told}");
            assert!(!told.contains("server restore"), "in a circle: {told}");
            assert!(hint.contains("tanist server backup"), "{hint}");
            assert_eq!(std::fs::read(Layout::new(&dir).store()).unwrap(), store);
        }
        let good = file("good", &store);
        assert!(restore(&dir, &good).await.is_ok());
    }
}
