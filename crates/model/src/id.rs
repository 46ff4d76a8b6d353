//! Identities. Each is a type of its own, so that two numbers side by side cannot be exchanged by mistake.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::excerpt::excerpt;

/// Why a text is not a valid identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdError {
    /// A name has the wrong length or a character outside `[a-z0-9._-]`.
    #[error(
        "'{0}' is not a valid name: use 1 to 63 characters of a-z, 0-9, '.', '_' and '-', starting with a letter or digit"
    )]
    Name(String),
    /// A hexadecimal identity has the wrong length or digits.
    #[error("'{0}' is not a valid identity: {1} hexadecimal digits are expected")]
    Hex(String, usize),
    /// A volume address is not `SYSTEM/VOLUME`.
    #[error("'{0}' is not a volume address: write STORAGE-SYSTEM/VOLUME, for example san-a/vol1")]
    Volume(String),
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident, $int:ty, $digits:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
        pub struct $name(pub $int);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{:0", $digits, "x}"), self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let bad = || IdError::Hex(excerpt(text), $digits);
                if text.len() != $digits || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return Err(bad());
                }
                <$int>::from_str_radix(text, 16).map(Self).map_err(|_| bad())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id!(
    /// One installation: a server (or several, later) and the agents that trust its certificate authority.
    ClusterId, u64, 16
);
random_id!(
    /// A replication, for life. A name can be given again after `delete`; this identity cannot.
    ReplicationId, u64, 16
);
random_id!(
    /// One run of a replication: one snapshot brought to the target.
    RunId, u64, 16
);
random_id!(
    /// One attempt to make a source snapshot. An attempt that was not bound is never used; the next one has a new id.
    SnapshotId, u64, 16
);
random_id!(
    /// One process start of an agent. A restarted process is another writer, whatever its name.
    Incarnation, u128, 32
);
random_id!(
    /// Idempotency of a command: the same id twice returns the stored result.
    CommandId, u128, 32
);
random_id!(
    /// Binds a grant to the request it answers, so that an old grant cannot make a new activation effective.
    Nonce, u128, 32
);

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $int:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub $int);

        impl $name {
            /// The next number; `None` on overflow: a fencing number never wraps, the caller refuses.
            #[must_use]
            pub fn next(self) -> Option<Self> {
                self.0.checked_add(1).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

counter!(
    /// Leadership of the control server; raised in the store by each server start. Only grows.
    Term, u64
);
counter!(
    /// The fencing token of one side of a replication, raised by each grant. 32 bits, as a reservation key has room for.
    Epoch, u32
);
counter!(
    /// Position of an event in the audit log. Only grows.
    EventSeq, u64
);

/// The epochs of both sides of a replication. In the direct form one agent holds both and they rise together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Epochs {
    pub source: Epoch,
    pub target: Epoch,
}

impl Epochs {
    /// Both sides raised by one; `None` if either would wrap.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        Some(Self { source: self.source.next()?, target: self.target.next()? })
    }

    /// The same grant of the target's side. In the networked form the source's epoch changes under its holder.
    #[must_use]
    pub fn same_holder(self, other: Self) -> bool {
        self.target == other.target
    }

    /// Both sides raised by this much; `None` if either would wrap.
    #[must_use]
    pub fn raised(self, by: u32) -> Option<Self> {
        let raise = |epoch: Epoch| epoch.0.checked_add(by).map(Epoch);
        Some(Self { source: raise(self.source)?, target: raise(self.target)? })
    }

    /// True if either side is below the other's: such a command is from the past.
    #[must_use]
    pub fn is_older_than(self, other: Self) -> bool {
        self.source < other.source || self.target < other.target
    }
}

impl fmt::Display for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.source, self.target)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// # Errors
            /// [`IdError::Name`] unless the text is 1 to 63 characters of `[a-z0-9._-]`, starting with a letter or digit.
            pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                if is_valid_name(&text) { Ok(Self(text)) } else { Err(IdError::Name(excerpt(&text))) }
            }

            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// An agent's name, given by its join token and written into its certificate.
    AgentName
);
name!(
    /// A replication's name, chosen by the operator.
    ReplicationName
);
name!(
    /// The name of a way to tell somebody of alarms, as the server's configuration has it.
    AlarmName
);
name!(
    /// A storage system's name, the same on every agent that reaches it.
    StorageName
);
name!(
    /// A host application's name, the same on every agent that can quiesce it.
    ApplicationName
);

fn is_valid_name(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=63).contains(&text.len())
        && text.bytes().all(allowed)
        && text.as_bytes()[0].is_ascii_alphanumeric()
        && !text.contains("..")
}

/// The address of a volume: `STORAGE-SYSTEM/VOLUME`. The volume part is as the storage system names it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeAddress {
    pub system: StorageName,
    volume: String,
}

#[cfg(feature = "schema")]
impl utoipa::PartialSchema for VolumeAddress {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        String::schema()
    }
}

#[cfg(feature = "schema")]
impl utoipa::ToSchema for VolumeAddress {}

impl VolumeAddress {
    /// # Errors
    /// [`IdError::Volume`] if the volume part is empty, too long, hidden, or could leave its storage system.
    pub fn new(system: StorageName, volume: impl Into<String>) -> Result<Self, IdError> {
        let volume = volume.into();
        let plain = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b'\\';
        let valid = (1..=200).contains(&volume.len()) && volume.bytes().all(plain) && !volume.starts_with('.');
        if valid { Ok(Self { system, volume }) } else { Err(IdError::Volume(excerpt(&format!("{system}/{volume}")))) }
    }

    #[must_use]
    pub fn volume(&self) -> &str {
        &self.volume
    }
}

impl TryFrom<String> for VolumeAddress {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        let (system, volume) = text.split_once('/').ok_or_else(|| IdError::Volume(excerpt(&text)))?;
        Self::new(StorageName::new(system)?, volume)
    }
}

impl FromStr for VolumeAddress {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::try_from(text.to_owned())
    }
}

impl From<VolumeAddress> for String {
    fn from(address: VolumeAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for VolumeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.system, self.volume))
    }
}

impl fmt::Debug for VolumeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// The identity of a host's installation and of its current boot (`/etc/machine-id`,
/// `/proc/sys/kernel/random/boot_id`). A changed boot is a proof that nothing of the old one still writes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct HostIdentity {
    pub machine_id: String,
    pub boot_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for good in ["h1", "san-a", "a.b_c", "0"] {
            assert!(AgentName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-h", "H1", "a/b", "a..b", "..", &"x".repeat(64)] {
            assert!(AgentName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn volume_addresses_cannot_leave_their_system() {
        assert!("san-a/vol1.img".parse::<VolumeAddress>().is_ok());
        for bad in ["san-a", "san-a/", "san-a/../x", "san-a/.hidden", "san-a/a/b", "/x", "san-a/a b"] {
            assert!(bad.parse::<VolumeAddress>().is_err(), "{bad}");
        }
    }

    #[test]
    fn identities_survive_json() {
        let id = Incarnation(0xabc);
        let text = serde_json::to_string(&id).unwrap();
        assert_eq!(text, "\"00000000000000000000000000000abc\"");
        assert_eq!(serde_json::from_str::<Incarnation>(&text).unwrap(), id);
        assert!(serde_json::from_str::<Incarnation>("\"abc\"").is_err());
    }

    #[test]
    fn counters_do_not_wrap() {
        assert_eq!(Epoch(u32::MAX).next(), None);
        assert_eq!(Epoch(1).next(), Some(Epoch(2)));
    }
}
