//! A server's directory: what lies where, and the configuration an operator may edit.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tanist_alarm::AlarmConfig;
use tanist_model::excerpt::excerpt;
use tanist_model::id::ClusterId;
use tanist_model::spelling::nearest;
use tanist_protocol::limits::Limits;
use tanist_recording::Settings;
use tanist_wire::file::{self, Readers};

use crate::ServerError;

/// The port a server listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 7420;

/// Everything of a server lies below one directory of mode 0700.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The authority's certificate and key.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.dir.join("ca")
    }

    /// The server's own key and certificate.
    #[must_use]
    pub fn identity(&self) -> PathBuf {
        self.dir.join("identity")
    }

    #[must_use]
    pub fn store(&self) -> PathBuf {
        self.dir.join("store.db")
    }

    /// How far each alarm's sink has come in the log of events.
    #[must_use]
    pub fn alarms(&self) -> PathBuf {
        self.dir.join("alarms")
    }

    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.join("server.toml")
    }
}

/// `server.toml`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// The installation that this server leads; never changed.
    pub cluster: ClusterId,
    /// Where the server listens, for agents and operators alike.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where agents and operators reach it, `HOST:PORT`; the first is the one shown. A port of 0 stands for the one listened on.
    pub advertise: Vec<String>,
    /// The room for the record of what the server was told and decided, bytes; zero: nothing is recorded.
    #[serde(default = "default_recording", skip_serializing_if = "is_default_recording")]
    pub recording_limit_bytes: u64,
    /// How much runs at once.
    #[serde(default, skip_serializing_if = "LimitsConfig::is_default")]
    pub limits: LimitsConfig,
    /// Who is told of what happens.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alarm: Vec<AlarmConfig>,
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::UNSPECIFIED, DEFAULT_PORT).into()
}

/// What stands where something was that is nobody else's business.
const CONCEALED: &str = "concealed";
/// Hours of a small installation that works (docs/operations/support-bundles.md).
const DEFAULT_RECORDING: u64 = 64 << 20;

pub(crate) fn default_recording() -> u64 {
    DEFAULT_RECORDING
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_default_recording(limit_bytes: &u64) -> bool {
    *limit_bytes == DEFAULT_RECORDING
}

/// `[limits]` in `server.toml`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Runs in progress at once, over all agents.
    pub runs: NonZeroU32,
    /// Runs in progress at once whose target one agent writes.
    pub runs_per_agent: NonZeroU32,
    /// A run that commits less is slow, whatever it did before; zero: only what is usual counts.
    pub slow_bytes_per_second: u64,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let or_one = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            runs: or_one(Limits::DEFAULT.runs),
            runs_per_agent: or_one(Limits::DEFAULT.runs_per_agent),
            slow_bytes_per_second: Limits::DEFAULT.slow_bytes_per_second,
        }
    }
}

impl LimitsConfig {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// As the server's machine takes them.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let (runs, runs_per_agent) = (self.runs.get(), self.runs_per_agent.get());
        Limits { runs, runs_per_agent, slow_bytes_per_second: self.slow_bytes_per_second }
    }
}

impl ServerConfig {
    /// # Errors
    /// [`ServerError::NotInitialised`] if there is no server in the directory, [`ServerError::Config`] with the line that is wrong.
    pub fn load(layout: &Layout) -> Result<Self, ServerError> {
        let path = layout.config();
        if !path.exists() {
            return Err(ServerError::NotInitialised { dir: layout.dir().to_owned() });
        }
        Self::parse(&file::read(&path)?).map_err(|reason| ServerError::Config { path, reason })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let config: Self = toml::from_str(text).map_err(|error| in_words(text, &error))?;
        if config.advertise.is_empty() {
            return Err("advertise must name at least one HOST:PORT".to_owned());
        }
        AlarmConfig::check_all(&config.alarm).map_err(|error| excerpt(&error.to_string()))?;
        Settings::check(config.recording_limit_bytes).map_err(|why| format!("recording_limit_bytes: {why}"))?;
        match config.advertise.iter().find(|address| host_of(address).is_none()) {
            Some(bad) => Err(format!("advertise: '{}' is not HOST:PORT", excerpt(bad))),
            None => Ok(config),
        }
    }

    /// Without what lets somebody in: an address of a webhook may carry a token, and an argument of a script a password.
    #[must_use]
    pub fn concealed(&self) -> Self {
        let mut config = self.clone();
        for alarm in &mut config.alarm {
            if let Some(webhook) = &mut alarm.webhook {
                CONCEALED.clone_into(&mut webhook.url);
            }
            if let Some(script) = &mut alarm.script {
                script.command.iter_mut().skip(1).for_each(|argument| CONCEALED.clone_into(argument));
            }
        }
        config
    }

    /// # Errors
    /// [`ServerError::File`].
    pub fn save(&self, layout: &Layout) -> Result<(), ServerError> {
        let text = toml::to_string(self)?;
        Ok(file::replace(&layout.config(), text.as_bytes(), Readers::Owner)?)
    }

    /// Where the server is reached, given where it listens now.
    #[must_use]
    pub fn address(&self, bound: SocketAddr) -> String {
        let first = self.advertise.first().cloned().unwrap_or_else(|| bound.to_string());
        match first.strip_suffix(":0") {
            Some(host) => format!("{host}:{}", bound.port()),
            None => first,
        }
    }

    /// Names and addresses for the server's certificate.
    #[must_use]
    pub fn hosts(&self) -> Vec<String> {
        let mut hosts = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string()];
        hosts.extend(self.advertise.iter().filter_map(|address| host_of(address)).map(str::to_owned));
        if !self.listen.ip().is_unspecified() {
            hosts.push(self.listen.ip().to_string());
        }
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

/// What is wrong in which line, and which word was perhaps meant.
fn in_words(text: &str, error: &toml::de::Error) -> String {
    let (message, meant) = (excerpt(error.message()), nearest(error.message()));
    let line = error.span().and_then(|span| text.get(..span.start)).map(|before| before.matches('\n').count());
    let place = line.and_then(|line| Some((line + 1, text.lines().nth(line)?.trim())));
    let place = place.map_or_else(String::new, |(number, line)| format!("line {number}, {}: ", excerpt(line)));
    let meant = meant.map_or_else(String::new, |word| format!("; did you mean `{word}`?"));
    format!("{place}{message}{meant}")
}

/// The host of `HOST:PORT`; an IPv6 address stands in brackets.
#[must_use]
pub fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

/// The address that this host uses towards the outside, with the port listened on. Nothing is sent to find it out.
#[must_use]
pub fn likely_address(listen: SocketAddr) -> String {
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    // A documentation address (RFC 5737): the routing table is asked, no packet leaves.
    let outward = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    });
    let ip = outward.map_or(Ipv4Addr::LOCALHOST.into(), |address| address.ip());
    SocketAddr::new(ip, listen.port()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(advertise: &[&str]) -> ServerConfig {
        let advertise = advertise.iter().map(|a| (*a).to_owned()).collect();
        ServerConfig {
            cluster: ClusterId(7),
            listen: default_listen(),
            advertise,
            recording_limit_bytes: DEFAULT_RECORDING,
            limits: LimitsConfig::default(),
            alarm: Vec::new(),
        }
    }

    /// The samples whose name begins with `server`.
    fn samples(kind: &str) -> Vec<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(kind);
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let read = |path: PathBuf| (path.display().to_string(), std::fs::read_to_string(&path).unwrap());
        let is_ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("server");
        files.filter(is_ours).map(read).collect()
    }

    #[test]
    fn the_commented_samples_are_valid() {
        let parsed = |text: &str| ServerConfig::parse(text).map(|config| config.alarm.len());
        let alarms: usize = samples("valid").iter().map(|(name, text)| parsed(text).expect(name)).sum();
        assert_eq!(alarms, 3);
    }

    /// Its first line says how an invalid sample is refused.
    #[test]
    fn the_invalid_samples_are_refused_in_these_words() {
        let samples = samples("invalid");
        assert!(samples.len() >= 3);
        for (name, text) in samples {
            let expected = text.lines().next().unwrap().strip_prefix("#! ").expect(&name);
            assert_eq!(ServerConfig::parse(&text).unwrap_err(), expected, "{name}");
        }
    }

    #[test]
    fn a_configuration_survives_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        assert!(matches!(ServerConfig::load(&layout), Err(ServerError::NotInitialised { .. })));
        let made = config(&["control.example.org:7420"]);
        made.save(&layout).unwrap();
        assert_eq!(ServerConfig::load(&layout).unwrap(), made);
    }

    #[test]
    fn mistakes_are_named() {
        let base = "cluster = \"0000000000000007\"\n";
        let wrong = |rest: &str| ServerConfig::parse(&format!("{base}{rest}")).unwrap_err();
        assert!(wrong("advertise = []").contains("advertise"));
        assert!(wrong("advertise = [\"nowhere\"]").contains("nowhere"));
        assert!(wrong("advertise = [\"a:1\"]\ncolour = 1").contains("colour"));
        assert!(wrong("advertise = [\"a:1\"]\n[limits]\nruns = 0").contains("runs"));
        assert!(wrong("advertise = [\"a:1\"]\nlisten = \"here\"").contains("listen"));
        let least = ServerConfig::parse(&format!("{base}advertise = [\"a:1\"]")).unwrap();
        assert_eq!(least.listen.port(), DEFAULT_PORT);
    }

    #[test]
    fn the_address_shown_has_the_port_in_use() {
        let bound: SocketAddr = "127.0.0.1:4711".parse().unwrap();
        assert_eq!(config(&["a.example:0"]).address(bound), "a.example:4711");
        assert_eq!(config(&["a.example:80"]).address(bound), "a.example:80");
    }

    #[test]
    fn the_certificate_names_every_host() {
        assert_eq!(config(&["[2001:db8::1]:7420", "x:1"]).hosts(), ["127.0.0.1", "2001:db8::1", "localhost", "x"]);
    }

    #[test]
    fn the_likely_address_can_be_dialled() {
        let address = likely_address("0.0.0.0:7420".parse().unwrap());
        assert!(address.ends_with(":7420") && !address.starts_with("0.0.0.0"), "{address}");
    }
}
