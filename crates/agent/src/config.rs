//! The agent's folder: `agent.toml`, its identity, and a ledger of the epochs it was granted.

mod nbd;
mod storage;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tanist_model::id::StorageName;
use tanist_recording::Settings;
use tanist_storage::{LvmNameError, SelectorError};
use tanist_wire::file::{self, Readers};

pub use self::nbd::NbdConfigError;
pub use self::storage::StorageConfig;
use crate::application::{ApplicationConfig, ApplicationError};

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
    #[error("storage system {0} names no device")]
    NoDevices(StorageName),
    #[error("storage system {0}: a device needs either path or match, and match takes nothing besides")]
    PathOrMatch(StorageName),
    #[error("storage system {system}: the snapshot command {command} is not an absolute path", command = command.display())]
    SnapshotCommand { system: StorageName, command: PathBuf },
    #[error("storage system {system}: {cause}")]
    Device {
        system: StorageName,
        #[source]
        cause: SelectorError,
    },
    #[error("storage system {system}: {cause}")]
    ThinPool {
        system: StorageName,
        #[source]
        cause: LvmNameError,
    },
    #[error("storage system {system}: {cause}")]
    Nbd {
        system: StorageName,
        #[source]
        cause: NbdConfigError,
    },
    #[error(transparent)]
    Application(#[from] ApplicationError),
    #[error("recording_limit_bytes: {0}")]
    Recording(String),
}

impl ConfigError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "has this host joined? tanist agent join HOST:PORT --token ... --ca-hash ...",
            Self::Parse { .. }
            | Self::StorageTwice(_)
            | Self::NoDevices(_)
            | Self::PathOrMatch(_)
            | Self::SnapshotCommand { .. }
            | Self::Application(_)
            | Self::Recording(_)
            | Self::Device { .. }
            | Self::Nbd { .. }
            | Self::ThinPool { .. } => {
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
    /// The room for the record of what the agent was told and decided, bytes; zero: nothing is recorded.
    #[serde(default = "default_recording", skip_serializing_if = "is_default_recording")]
    pub recording_limit_bytes: u64,
    /// The storage systems that this host reaches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub storage: Vec<StorageConfig>,
    /// The host applications that this host can quiesce.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub application: Vec<ApplicationConfig>,
}

/// Hours of an agent that acts (docs/operations/support-bundles.md).
pub const DEFAULT_RECORDING: u64 = 16 << 20;

fn default_recording() -> u64 {
    DEFAULT_RECORDING
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_default_recording(limit_bytes: &u64) -> bool {
    *limit_bytes == DEFAULT_RECORDING
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
        Self::parse(path, &text)
    }

    pub(crate) fn parse(path: PathBuf, text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|cause| ConfigError::Parse { path, cause: Box::new(cause) })?;
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

    /// Without the arguments of the operator's scripts: one may be a password.
    #[must_use]
    pub fn concealed(&self) -> Self {
        let application = self.application.iter().map(ApplicationConfig::concealed).collect();
        Self { application, ..self.clone() }
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (i, storage) in self.storage.iter().enumerate() {
            if self.storage[..i].iter().any(|other| other.name() == storage.name()) {
                return Err(ConfigError::StorageTwice(storage.name().clone()));
            }
            storage.open()?;
        }
        Settings::check(self.recording_limit_bytes).map_err(ConfigError::Recording)?;
        Ok(ApplicationConfig::check(&self.application)?)
    }
}

#[cfg(test)]
mod tests {
    use super::storage::{BackingFile, CallLimit, DeviceConfig, SnapshotConfig};
    use super::*;

    fn sample() -> AgentConfig {
        AgentConfig {
            server: "server.example:7420".to_owned(),
            listen: default_listen(),
            advertise: None,
            recording_limit_bytes: DEFAULT_RECORDING,
            storage: vec![
                StorageConfig::Image {
                    name: "san-a".parse().unwrap(),
                    directory: "/srv/san-a".into(),
                    snapshots: None,
                },
                StorageConfig::Block {
                    name: "san-b".parse().unwrap(),
                    devices: vec![
                        DeviceConfig { pattern: Some("naa.6001405*".to_owned()), ..DeviceConfig::default() },
                        DeviceConfig {
                            path: Some("/dev/loop7".into()),
                            identity: Some(BackingFile::BackingFile),
                            volume: Some("db".to_owned()),
                            ..DeviceConfig::default()
                        },
                    ],
                    snapshots: Some(SnapshotConfig {
                        command: "/etc/tanist/snapshots".into(),
                        timeout: CallLimit::try_from("2m".to_owned()).unwrap(),
                    }),
                },
            ],
            application: Vec::new(),
        }
    }

    #[test]
    fn a_configuration_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        sample().save(folder.path()).unwrap();
        assert_eq!(AgentConfig::load(folder.path()).unwrap(), sample());
    }

    /// Tables can be added to it by hand, as the documentation shows them.
    #[test]
    fn one_without_storage_leaves_the_word_to_whoever_adds_some() {
        let folder = tempfile::tempdir().unwrap();
        AgentConfig { storage: Vec::new(), ..sample() }.save(folder.path()).unwrap();
        let path = folder.path().join(AgentConfig::FILE);
        let added = "\n[[storage]]\nkind = 'lvm-thin'\nname = 'a'\ngroup = 'g'\npool = 'p'\n";
        std::fs::write(&path, std::fs::read_to_string(&path).unwrap() + added).unwrap();
        assert_eq!(AgentConfig::load(folder.path()).unwrap().storage.len(), 1);
    }

    #[test]
    fn the_commented_sample_is_valid() {
        let config: AgentConfig = toml::from_str(include_str!("../../../config/valid/agent.toml")).unwrap();
        assert_eq!((config.storage.len(), config.application.len()), (5, 1));
        assert!(config.check().is_ok());
    }

    #[test]
    fn a_storage_system_stands_once() {
        let mut config = sample();
        config.storage.push(config.storage[0].clone());
        assert!(matches!(config.check(), Err(ConfigError::StorageTwice(_))));
    }

    fn loaded(storage: &str) -> Result<AgentConfig, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let text = format!("server = 'a:1'\n[[storage]]\nname = 'san-a'\n{storage}\n");
        std::fs::write(folder.path().join(AgentConfig::FILE), text).unwrap();
        AgentConfig::load(folder.path())
    }

    #[test]
    fn devices_are_named_one_by_one_or_by_a_narrow_pattern() {
        let block = |devices: &str| loaded(&format!("kind = 'block'\ndevices = [{devices}]"));
        for good in [
            "{ path = '/dev/disk/by-id/wwn-0x6001405' }",
            "{ path = '/dev/mapper/mpatha', volume = 'db' }",
            "{ match = 'naa.6001405*' }",
            "{ path = '/dev/loop0', identity = 'backing-file' }",
        ] {
            assert!(block(good).is_ok(), "{good}: {:?}", block(good));
        }
        for (bad, complaint) in [
            ("", "storage system san-a names no device"),
            ("{ path = '/dev/sdb' }", "may be another device's after the next boot"),
            ("{ path = '/dev/loop0' }", "a loop device needs identity = \"backing-file\""),
            ("{ match = '*' }", "match = \"*\" is too wide"),
            ("{ volume = 'db' }", "a device needs either path or match"),
            ("{ match = 'naa.6001405*', volume = 'db' }", "match takes nothing besides"),
            ("{ path = '/dev/mapper/a', volume = 'a/b' }", "cannot be the name of a volume"),
            ("{ path = '/dev/mapper/a', identity = 'guessed' }", "unknown variant `guessed`"),
        ] {
            let error = block(bad).unwrap_err().to_string();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
        let error = loaded("kind = 'block'\ndirectory = '/srv'").unwrap_err().to_string();
        assert!(error.contains("unknown field `directory`"), "{error}");
    }

    #[test]
    fn a_thin_pool_is_named_as_lvm_names_it() {
        let thin = |rest: &str| loaded(&format!("kind = 'lvm-thin'\n{rest}"));
        assert!(thin("group = 'vg-0'\npool = 'pool'").is_ok());
        assert!(thin("group = 'vg-0'\npool = 'pool'\ntimeout = '5m'").is_ok());
        for (bad, complaint) in [
            ("group = 'vg0'", "missing field `pool`"),
            ("group = '-f'\npool = 'pool'", "storage system san-a: \"-f\" cannot be a name in LVM"),
            ("group = 'vg0'\npool = 'a/b'", "\"a/b\" cannot be a name in LVM"),
            ("group = 'vg0'\npool = 'pool'\nsnapshots = { command = '/s' }", "unknown field `snapshots`"),
        ] {
            let error = thin(bad).unwrap_err().to_string();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
    }

    #[test]
    fn a_snapshot_command_is_absolute_and_has_a_limit() {
        let with =
            |snapshots: &str| loaded(&format!("kind = 'image'\ndirectory = '/srv'\nsnapshots = {{ {snapshots} }}"));
        assert!(with("command = '/etc/tanist/snap'").is_ok());
        assert!(with("command = '/etc/tanist/snap', timeout = '60m'").is_ok());
        for (bad, complaint) in [
            ("command = 'snap'", "storage system san-a: the snapshot command snap is not an absolute path"),
            ("timeout = '30s'", "missing field `command`"),
            ("command = '/s', timeout = '0s'", "\"0s\" is no time limit"),
            ("command = '/s', timeout = '61m'", "\"61m\" is no time limit"),
            ("command = '/s', timeout = '30'", "\"30\" is no time limit"),
            ("command = '/s', arguments = []", "unknown field `arguments`"),
        ] {
            let error = with(bad).unwrap_err().to_string();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
    }

    #[test]
    fn a_word_that_is_not_known_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(AgentConfig::FILE), "server = 'a:1'\nlisen = '0.0.0.0:1'\n").unwrap();
        let error = AgentConfig::load(folder.path()).unwrap_err();
        assert!(error.to_string().contains("not a valid agent configuration"), "{error}");
    }
}
