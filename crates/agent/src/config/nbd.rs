//! A server of NBD in `agent.toml`: where it is, which of its exports are volumes, and TLS (docs/operations/nbd.md).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::id::{StorageName, VolumeAddress};
use tanist_storage::{NbdPlace, NbdServer, NbdTls, PlaceError};

use super::storage::CallLimit;

/// Connections to one export, if nothing else is said.
const CONNECTIONS: u8 = 4;
const MOST_CONNECTIONS: u8 = 16;
/// The longest that a name of an export may be, bytes ("Conventions" of the protocol document).
const NAME_LIMIT: usize = 4096;

/// A server, as an operator writes it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NbdConfig {
    /// The name of the storage system.
    pub name: StorageName,
    /// `HOST:PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Or a socket of this host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// What tells this server from all others, where agents reach it in different ways.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
    /// To one export at once, where the server allows several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u8>,
    /// For a handshake, and for each request: `30s`, `2m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<CallLimit>,
    /// Volumes with the names of their exports, instead of all that the server lists.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub exports: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<NbdTlsConfig>,
}

/// TLS with the server. Once it is configured, nothing is said without it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NbdTlsConfig {
    /// The authorities that may vouch for the server, PEM.
    pub ca: PathBuf,
    /// What this agent shows, with its key; if the server wants to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// The name in the server's certificate, if it is not the host of `address`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// What is wrong with it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NbdConfigError {
    #[error("a server of NBD needs either address or socket")]
    AddressOrSocket,
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("\"{0}\" cannot be the name of a volume; exports = {{ VOLUME = \"EXPORT\" }}")]
    Volume(String),
    #[error("the export of volume {0} has a name of more than 4096 bytes")]
    Export(String),
    #[error("identity has 1 to 200 printable characters")]
    Identity,
    #[error("connections is a number from 1 to 16")]
    Connections,
    #[error("tls: {0} has to be an absolute path")]
    NotAbsolute(&'static str),
    #[error("tls: certificate and key belong together")]
    HalfIdentity,
    #[error("tls needs server_name where there is a socket: it has no host whose name the certificate could bear")]
    ServerName,
}

impl NbdConfig {
    /// # Errors
    /// [`NbdConfigError`].
    pub(super) fn server(&self) -> Result<NbdServer, NbdConfigError> {
        let place = match (&self.address, &self.socket) {
            (Some(address), None) => NbdPlace::tcp(address)?,
            (None, Some(socket)) => NbdPlace::unix(socket)?,
            _ => return Err(NbdConfigError::AddressOrSocket),
        };
        self.exports.iter().try_for_each(|(volume, export)| self.check_export(volume, export))?;
        let printable = |text: &String| (1..=200).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if !self.identity.as_ref().is_none_or(printable) {
            return Err(NbdConfigError::Identity);
        }
        let connections = self.connections.unwrap_or(CONNECTIONS);
        if !(1..=MOST_CONNECTIONS).contains(&connections) {
            return Err(NbdConfigError::Connections);
        }
        Ok(NbdServer {
            tls: self.tls.as_ref().map(|tls| tls.checked(&place)).transpose()?,
            place,
            exports: self.exports.clone(),
            identity: self.identity.clone(),
            connections: usize::from(connections),
            limit: Duration::from(self.timeout.unwrap_or_default()),
        })
    }

    fn check_export(&self, volume: &str, export: &str) -> Result<(), NbdConfigError> {
        if VolumeAddress::new(self.name.clone(), volume).is_err() {
            return Err(NbdConfigError::Volume(volume.chars().take(100).collect()));
        }
        if export.len() > NAME_LIMIT { Err(NbdConfigError::Export(volume.to_owned())) } else { Ok(()) }
    }
}

impl NbdTlsConfig {
    fn checked(&self, place: &NbdPlace) -> Result<NbdTls, NbdConfigError> {
        let paths = [("ca", Some(&self.ca)), ("certificate", self.certificate.as_ref()), ("key", self.key.as_ref())];
        if let Some((what, _)) = paths.iter().find(|(_, path)| path.is_some_and(|path| !path.is_absolute())) {
            return Err(NbdConfigError::NotAbsolute(what));
        }
        if self.certificate.is_some() != self.key.is_some() {
            return Err(NbdConfigError::HalfIdentity);
        }
        if matches!(place, NbdPlace::Unix(_)) && self.server_name.is_none() {
            return Err(NbdConfigError::ServerName);
        }
        Ok(NbdTls {
            authorities: self.ca.clone(),
            identity: self.certificate.clone().zip(self.key.clone()),
            server_name: self.server_name.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NbdServer, String> {
        let config: NbdConfig =
            toml::from_str(&format!("name = 'san-e'\n{text}")).map_err(|error| error.to_string())?;
        config.server().map_err(|error| error.to_string())
    }

    #[test]
    fn a_server_is_where_it_is_said_to_be() {
        let place = |text: &str| read(text).unwrap().place.to_string();
        assert_eq!(place("address = 'vm7.example'"), "nbd://vm7.example:10809");
        assert_eq!(place("address = 'vm7.example:10810'"), "nbd://vm7.example:10810");
        assert_eq!(place("address = '[2001:db8::7]:10809'"), "nbd://[2001:db8::7]:10809");
        assert_eq!(place("socket = '/run/vm7.sock'"), "nbd+unix:///run/vm7.sock");
        let full =
            read("socket = '/s'\nconnections = 16\ntimeout = '5s'\nidentity = 'vm7'\nexports = { disk = '' }").unwrap();
        assert_eq!((full.connections, full.limit, full.identity.as_deref()), (16, Duration::from_secs(5), Some("vm7")));
        assert_eq!(full.exports["disk"], "");
    }

    #[test]
    fn what_cannot_be_is_refused_in_words() {
        for (bad, complaint) in [
            ("", "either address or socket"),
            ("address = 'a'\nsocket = '/s'", "either address or socket"),
            ("address = 'a:b:c'", "\"a:b:c\" is no address"),
            ("address = 'a:0'", "is no address"),
            ("address = 'nbd://a'", "is no address"),
            ("socket = 'run/s'", "has to be an absolute path"),
            ("address = 'a'\nconnections = 0", "from 1 to 16"),
            ("address = 'a'\nidentity = ''", "identity has 1 to 200"),
            ("address = 'a'\ntimeout = '5'", "\"5\" is no time limit"),
            ("address = 'a'\nexports = { 'a/b' = 'c' }", "\"a/b\" cannot be the name of a volume"),
            ("address = 'a'\ntls = { ca = 'ca.pem' }", "tls: ca has to be an absolute path"),
            ("address = 'a'\ntls = { ca = '/ca', key = '/key' }", "certificate and key belong together"),
            ("address = 'a'\ntls = { key = '/key' }", "missing field `ca`"),
            ("socket = '/s'\ntls = { ca = '/ca' }", "tls needs server_name"),
            ("address = 'a'\nexport = 'b'", "unknown field `export`"),
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.contains(complaint), "{bad}: {error}");
        }
    }
}
