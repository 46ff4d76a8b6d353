//! An operator's context: which server to ask, by which certificate authority to know it, and as whom. It holds a secret, so its
//! file is for its owner alone.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tanist_model::api::{Refusal, RefusalCode};
use tanist_wire::file;
use tanist_wire::file::{FileError, Readers};

/// What `tanist login` stores.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    /// `HOST:PORT`.
    pub server: String,
    /// The secret that names the operator to the server.
    pub credential: String,
    /// The server's certificate authority, PEM.
    pub ca: String,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Why there is no usable context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("this operator is not logged in to a server")]
    Missing { path: PathBuf },
    #[error("cannot use the context {path}")]
    File { path: PathBuf, source: FileError },
    #[error("the context {path} is not understood")]
    Parse { path: PathBuf, source: Box<toml::de::Error> },
    #[error("cannot put the context into TOML")]
    Encode(#[from] toml::ser::Error),
    #[error("there is no place for a context: neither HOME nor XDG_CONFIG_HOME is set")]
    NoHome,
}

impl Context {
    /// # Errors
    /// [`ContextError`] if the file is missing, open to others, or not a context.
    pub fn load(path: &Path) -> Result<Self, ContextError> {
        let text = file::read_private(path).map_err(|source| match &source {
            FileError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ContextError::Missing { path: path.to_owned() }
            }
            _ => ContextError::File { path: path.to_owned(), source },
        })?;
        toml::from_str(&text).map_err(|e| ContextError::Parse { path: path.to_owned(), source: Box::new(e) })
    }

    /// Stores the context for its owner alone, whole or not at all.
    ///
    /// # Errors
    /// [`ContextError::File`] if the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ContextError> {
        let text = toml::to_string(self)?;
        let failed = |source| ContextError::File { path: path.to_owned(), source };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            file::create_private_folder(folder).map_err(failed)?;
        }
        file::replace(path, text.as_bytes(), Readers::Owner).map_err(failed)
    }
}

impl ContextError {
    /// Error, cause and hint.
    #[must_use]
    pub fn refusal(&self) -> Refusal {
        let login = "`tanist login HOST:PORT --ca-hash HASH`, as `tanist server init` printed it";
        let invalid = || Refusal::new(RefusalCode::Invalid, self.to_string());
        match self {
            Self::Missing { path } => Refusal::new(RefusalCode::Unauthorized, self.to_string())
                .cause(format!("there is no context {}", path.display()))
                .hint(login),
            Self::File { path, source: FileError::Exposed { mode, .. } } => {
                Refusal::new(RefusalCode::Forbidden, self.to_string())
                    .cause(format!("others can read it (mode {mode:04o}), and it holds a credential"))
                    .hint(format!(
                        "`chmod 600 {}`; if others may have read it, have the credential replaced",
                        path.display()
                    ))
            }
            Self::File { source, .. } => invalid().cause(source.to_string()),
            Self::Parse { source, .. } => invalid().cause(source.message().to_owned()).hint(login),
            Self::Encode(source) => invalid().cause(source.to_string()),
            Self::NoHome => invalid().hint("name a file with `--context FILE`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, set_permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn sample() -> Context {
        Context { server: "10.0.0.5:7420".into(), credential: "tcr_secret".into(), ca: "-----BEGIN\nx\n".into() }
    }

    #[test]
    fn a_context_survives_its_file_and_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/context.toml");
        sample().save(&path).unwrap();
        sample().save(&path).unwrap();
        assert_eq!(Context::load(&path).unwrap(), sample());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_context_open_to_others_is_refused_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context.toml");
        sample().save(&path).unwrap();
        set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let refusal = Context::load(&path).unwrap_err().refusal();
        assert!(refusal.cause.unwrap().contains("0640"));
        assert!(refusal.hint.unwrap().starts_with("`chmod 600 "));
    }

    #[test]
    fn a_missing_or_broken_context_says_how_to_log_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("context.toml");
        assert!(Context::load(&path).unwrap_err().refusal().hint.unwrap().contains("tanist login"));
        sample().save(&path).unwrap();
        std::fs::write(&path, "server = 1").unwrap();
        assert!(matches!(Context::load(&path), Err(ContextError::Parse { .. })));
    }

    #[test]
    fn the_secret_is_not_printed() {
        assert!(!format!("{:?}", sample()).contains("secret"));
    }
}
