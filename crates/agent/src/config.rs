//! The agent's folder: `agent.toml`, its identity, and a ledger of the epochs it was granted.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tanist_model::id::StorageName;
use tanist_wire::file::{self, Readers};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {path}: {cause}", path = path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("{path} is not a valid agent configuration: {cause}", path = path.display())]
    Parse {
        path: PathBuf,
        #[source]
        cause: Box<toml::de::Error>,
    },
    #[error("write the agent's configuration: {0}")]
    Write(#[from] file::FileError),
    #[error("write the agent's configuration: {0}")]
    Encode(#[from] toml::ser::Error),
    #[error("storage system {0} is configured twice")]
    StorageTwice(StorageName),
}

impl ConfigError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "has this host joined? tanist agent join HOST:PORT --token ... --ca-hash ...",
            Self::Parse { .. } | Self::StorageTwice(_) => {
                "correct the file; config/valid/agent.toml is a commented sample (of the package: /etc/tanist/samples)"
            }
            Self::Write(_) | Self::Encode(_) => "is there space, and is the folder writable?",
        }
    }
}

/// `agent.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The server's address, `HOST:PORT`.
    pub server: String,
    /// Where this agent listens for its peers. Port 0 takes any free one.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// The address that peers dial, if it is not the one it listens on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// The storage systems that this host reaches.
    #[serde(default)]
    pub storage: Vec<StorageConfig>,
}

/// One storage system.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StorageConfig {
    /// The same name on every agent that reaches it.
    pub name: StorageName,
    pub kind: StorageConfigKind,
    /// Where it is mounted.
    pub directory: PathBuf,
}

/// What a configured storage system is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorageConfigKind {
    /// Raw image files in a mounted directory.
    Image,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 7421))
}

impl AgentConfig {
    pub const FILE: &'static str = "agent.toml";

    /// # Errors
    /// [`ConfigError`] if the file is missing, not valid, or names a storage system twice.
    pub fn load(folder: &Path) -> Result<Self, ConfigError> {
        let path = folder.join(Self::FILE);
        let text = std::fs::read_to_string(&path).map_err(|cause| ConfigError::Read { path: path.clone(), cause })?;
        let config: Self =
            toml::from_str(&text).map_err(|cause| ConfigError::Parse { path, cause: Box::new(cause) })?;
        config.check()?;
        Ok(config)
    }

    /// # Errors
    /// [`ConfigError`] if it cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), ConfigError> {
        self.check()?;
        let text = toml::to_string_pretty(self)?;
        Ok(file::replace(&folder.join(Self::FILE), text.as_bytes(), Readers::Everyone)?)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (i, storage) in self.storage.iter().enumerate() {
            if self.storage[..i].iter().any(|other| other.name == storage.name) {
                return Err(ConfigError::StorageTwice(storage.name.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> AgentConfig {
        AgentConfig {
            server: "server.example:7420".to_owned(),
            listen: default_listen(),
            advertise: None,
            storage: vec![StorageConfig {
                name: "san-a".parse().unwrap(),
                kind: StorageConfigKind::Image,
                directory: "/srv/san-a".into(),
            }],
        }
    }

    #[test]
    fn a_configuration_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        sample().save(folder.path()).unwrap();
        assert_eq!(AgentConfig::load(folder.path()).unwrap(), sample());
    }

    #[test]
    fn the_commented_sample_is_valid() {
        let config: AgentConfig = toml::from_str(include_str!("../../../config/valid/agent.toml")).unwrap();
        assert_eq!(config.storage.len(), 2);
        assert!(config.check().is_ok());
    }

    #[test]
    fn a_storage_system_stands_once() {
        let mut config = sample();
        config.storage.push(config.storage[0].clone());
        assert!(matches!(config.check(), Err(ConfigError::StorageTwice(_))));
    }

    #[test]
    fn a_word_that_is_not_known_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(AgentConfig::FILE), "server = 'a:1'\nlisen = '0.0.0.0:1'\n").unwrap();
        let error = AgentConfig::load(folder.path()).unwrap_err();
        assert!(error.to_string().contains("not a valid agent configuration"), "{error}");
    }
}
