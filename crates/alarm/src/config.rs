//! `[[alarm]]` of `server.toml`: who is told, of what, and how. Secrets stand in files of their own, and are read for each delivery.

use std::path::PathBuf;
use std::time::Duration;

use lettre::message::Mailbox;
use reqwest::Url;
use serde::{Deserialize, Serialize};
use tanist_model::event::{EventCode, Severity};
use tanist_model::id::{AlarmName, ReplicationName};

/// The longest that one delivery may be allowed to take.
const LIMIT_MAX_SECONDS: u64 = 600;
const LIMIT_SECONDS: u64 = 30;
/// Recipients of a mail, at most.
const RECIPIENTS_MAX: usize = 100;

/// One sink of alarms. Its filters add up.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlarmConfig {
    pub name: AlarmName,
    /// Only events of at least this severity. Without it: alarms, or any severity if codes are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Only these events; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<EventCode>,
    /// Only events of these replications, and those of none; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replications: Vec<ReplicationName>,
    /// Tell also when what was told of is over.
    #[serde(default = "yes")]
    pub cleared: bool,
    /// The longest that one delivery may take, seconds.
    #[serde(default = "usual_limit")]
    pub limit_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<ScriptConfig>,
}

/// An HTTPS POST of the notice as JSON.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub url: String,
    /// Certificates (PEM) to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Its content goes into `Authorization: Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Its content is the key of an HMAC-SHA256 over the body, in `X-Tanist-Signature`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hmac_key_file: Option<PathBuf>,
}

/// A mail through a server that speaks SMTP over TLS (RFC 5321, RFC 8314).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailConfig {
    /// `HOST:PORT`.
    pub server: String,
    #[serde(default)]
    pub tls: MailTls,
    /// Certificates (PEM) to trust instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    pub from: String,
    pub to: Vec<String>,
}

/// How a mail server speaks TLS. Without TLS is no mail: it would carry the password.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MailTls {
    /// On an open connection, by command (usually port 587).
    #[default]
    Starttls,
    /// From the first byte (usually port 465).
    Implicit,
}

/// A program of the operator's, with the notice as JSON on its standard input.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptConfig {
    /// The program, by its absolute path, and its arguments. No shell is between.
    pub command: Vec<String>,
}

/// Why an alarm cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AlarmConfigError {
    #[error("alarm {0} is configured twice: give each a name of its own")]
    Twice(AlarmName),
    #[error("alarm {0} needs exactly one of [alarm.webhook], [alarm.mail] and [alarm.script]")]
    NotOneWay(AlarmName),
    #[error("alarm {name}: {reason}")]
    Wrong { name: AlarmName, reason: String },
}

fn yes() -> bool {
    true
}

fn usual_limit() -> u64 {
    LIMIT_SECONDS
}

impl AlarmConfig {
    /// Looks at all alarms of a server together.
    ///
    /// # Errors
    /// The first [`AlarmConfigError`].
    pub fn check_all(alarms: &[Self]) -> Result<(), AlarmConfigError> {
        for (i, alarm) in alarms.iter().enumerate() {
            if alarms.iter().take(i).any(|other| other.name == alarm.name) {
                return Err(AlarmConfigError::Twice(alarm.name.clone()));
            }
            alarm.check()?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), AlarmConfigError> {
        let wrong = |reason| AlarmConfigError::Wrong { name: self.name.clone(), reason };
        if !(1..=LIMIT_MAX_SECONDS).contains(&self.limit_seconds) {
            return Err(wrong(format!("limit_seconds is {}; give 1 to {LIMIT_MAX_SECONDS}", self.limit_seconds)));
        }
        match (&self.webhook, &self.mail, &self.script) {
            (Some(webhook), None, None) => webhook.check().map_err(wrong),
            (None, Some(mail), None) => mail.check().map_err(wrong),
            (None, None, Some(script)) => script.check().map_err(wrong),
            _ => Err(AlarmConfigError::NotOneWay(self.name.clone())),
        }
    }

    #[must_use]
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.limit_seconds)
    }

    /// The least severity told of.
    #[must_use]
    pub fn least_severity(&self) -> Severity {
        self.severity.unwrap_or(if self.codes.is_empty() { Severity::Alarm } else { Severity::Info })
    }
}

impl WebhookConfig {
    fn check(&self) -> Result<(), String> {
        self.parsed_url().map(drop)
    }

    pub(crate) fn parsed_url(&self) -> Result<Url, String> {
        let url = Url::parse(&self.url).map_err(|error| format!("'{}' is not a URL: {error}", self.url))?;
        match url.scheme() {
            "https" => Ok(url),
            scheme => {
                Err(format!("'{}' is {scheme}; alarms are sent by https only: they tell where to attack", self.url))
            }
        }
    }
}

impl MailConfig {
    fn check(&self) -> Result<(), String> {
        self.host_and_port()?;
        mailbox(&self.from)?;
        self.to.iter().try_for_each(|to| mailbox(to).map(drop))?;
        if self.to.is_empty() || self.to.len() > RECIPIENTS_MAX {
            return Err(format!("to names {} recipients; give 1 to {RECIPIENTS_MAX}", self.to.len()));
        }
        match (&self.user, &self.password_file) {
            (Some(_), None) => Err("user needs password_file, which holds the password".to_owned()),
            (None, Some(_)) => Err("password_file needs user".to_owned()),
            _ => Ok(()),
        }
    }

    pub(crate) fn host_and_port(&self) -> Result<(&str, u16), String> {
        let not = || format!("server '{}' is not HOST:PORT", self.server);
        let (host, port) = self.server.rsplit_once(':').ok_or_else(not)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if host.is_empty() { Err(not()) } else { Ok((host, port.parse().map_err(|_| not())?)) }
    }
}

pub(crate) fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|error| format!("'{text}' is not a mail address: {error}"))
}

impl ScriptConfig {
    fn check(&self) -> Result<(), String> {
        match self.command.first() {
            None => {
                Err("command is empty; give the program and its arguments: command = [\"/path\", \"arg\"]".to_owned())
            }
            Some(program) if !program.starts_with('/') => {
                Err(format!("'{program}' is no absolute path; the service has no PATH of yours"))
            }
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alarm(text: &str) -> Result<(), String> {
        let alarm: AlarmConfig = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        AlarmConfig::check_all(&[alarm]).map_err(|error| error.to_string())
    }

    #[test]
    fn each_way_is_accepted_by_itself() {
        alarm("name = 'a'\n[webhook]\nurl = 'https://noc.example/hook'").unwrap();
        alarm("name = 'a'\n[mail]\nserver = '[::1]:587'\nfrom = 'tanist <t@a.example>'\nto = ['noc@a.example']")
            .unwrap();
        alarm("name = 'a'\ncodes = ['T409']\n[script]\ncommand = ['/bin/true']").unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (text, reason) in [
            ("name = 'a'", "needs exactly one of"),
            ("name = 'a'\n[script]\ncommand = ['/x']\n[webhook]\nurl = 'https://a'", "needs exactly one of"),
            ("name = 'a'\n[webhook]\nurl = 'http://a'", "by https only"),
            ("name = 'a'\n[webhook]\nurl = 'nonsense'", "is not a URL"),
            ("name = 'a'\n[script]\ncommand = []", "command is empty"),
            ("name = 'a'\n[script]\ncommand = ['notify']", "no absolute path"),
            ("name = 'a'\nlimit_seconds = 0\n[script]\ncommand = ['/x']", "give 1 to 600"),
            ("name = 'a'\n[mail]\nserver = 'mx'\nfrom = 'a@b.example'\nto = ['a@b.example']", "is not HOST:PORT"),
            ("name = 'a'\n[mail]\nserver = 'mx:25'\nfrom = 'a@b.example'\nto = []", "names 0 recipients"),
            ("name = 'a'\n[mail]\nserver = 'mx:25'\nfrom = 'nobody'\nto = []", "is not a mail address"),
            (
                "name = 'a'\n[mail]\nserver = 'mx:25'\nuser = 'u'\nfrom = 'a@b.example'\nto = ['a@b.example']",
                "password_file",
            ),
            ("name = 'a'\ncode = ['T409']", "unknown field `code`"),
            ("name = 'a'\ncodes = ['T999']", "T999"),
        ] {
            let refused = alarm(text).unwrap_err();
            assert!(refused.contains(reason), "{text}: {refused}");
        }
        let twice: AlarmConfig = toml::from_str("name = 'a'\n[script]\ncommand = ['/x']").unwrap();
        assert!(matches!(AlarmConfig::check_all(&[twice.clone(), twice]), Err(AlarmConfigError::Twice(_))));
    }
}
