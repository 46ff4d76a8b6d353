//! `[[application]]` of agent.toml: the scripts of a host application and how long it may be quiesced.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tanist_model::application::ApplicationReport;
use tanist_model::id::ApplicationName;

/// Why an application's configuration cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplicationError {
    #[error("application {0} is configured twice")]
    Twice(ApplicationName),
    #[error("application {0}: `{1}` must be a list of words, the absolute path of a program first")]
    Command(ApplicationName, &'static str),
}

/// How long an application may stay quiesced: `30s`, `2m`; 1 second to 1 hour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuiesceLimit(Duration);

impl QuiesceLimit {
    const LONGEST_SECONDS: u64 = 3600;

    #[must_use]
    pub fn duration(self) -> Duration {
        self.0
    }
}

impl Default for QuiesceLimit {
    fn default() -> Self {
        Self(Duration::from_secs(30))
    }
}

impl TryFrom<String> for QuiesceLimit {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a limit: write 1s to 60m, as in 30s");
        let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).ok_or_else(bad)?);
        let unit = match unit {
            "s" => 1,
            "m" => 60,
            _ => return Err(bad()),
        };
        let seconds = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).ok_or_else(bad)?;
        let fits = (1..=Self::LONGEST_SECONDS).contains(&seconds);
        if fits { Ok(Self(Duration::from_secs(seconds))) } else { Err(bad()) }
    }
}

impl From<QuiesceLimit> for String {
    fn from(limit: QuiesceLimit) -> Self {
        format!("{}s", limit.0.as_secs())
    }
}

/// One host application.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApplicationConfig {
    /// The same name on every agent that can quiesce it.
    pub name: ApplicationName,
    /// Quiesces it: a program and its arguments. No shell is involved.
    pub before: Vec<String>,
    /// Thaws it. Run after every `before`, whatever became of that, and sometimes twice.
    pub after: Vec<String>,
    /// From the start of `before` to the start of `after` at most; `after` has as long again.
    #[serde(default)]
    pub limit: QuiesceLimit,
}

impl ApplicationConfig {
    /// Without the arguments of its scripts: one may be a password.
    pub(crate) fn concealed(&self) -> Self {
        let mut concealed = self.clone();
        for command in [&mut concealed.before, &mut concealed.after] {
            command.iter_mut().skip(1).for_each(|argument| "concealed".clone_into(argument));
        }
        concealed
    }

    /// # Errors
    /// [`ApplicationError`] if a name stands twice or a command names no program by its path.
    pub(crate) fn check(all: &[Self]) -> Result<(), ApplicationError> {
        for (i, one) in all.iter().enumerate() {
            if all[..i].iter().any(|other| other.name == one.name) {
                return Err(ApplicationError::Twice(one.name.clone()));
            }
            for (what, command) in [("before", &one.before), ("after", &one.after)] {
                if !command.first().is_some_and(|program| Path::new(program).is_absolute()) {
                    return Err(ApplicationError::Command(one.name.clone(), what));
                }
            }
        }
        Ok(())
    }

    /// What the server is told. Looks at the programs; blocks as long as their file system does.
    pub(crate) fn report(&self) -> ApplicationReport {
        let limit_ms = u64::try_from(self.limit.0.as_millis()).unwrap_or(u64::MAX);
        let programs = [self.before.first(), self.after.first()].into_iter().flatten();
        let problem = programs.filter_map(|program| why_not_run(Path::new(program))).next();
        ApplicationReport { name: self.name.clone(), limit_ms, problem }
    }
}

fn why_not_run(program: &Path) -> Option<String> {
    match fs::metadata(program) {
        Err(error) => Some(format!("{}: {error}", program.display())),
        Ok(seen) if !seen.is_file() || seen.permissions().mode() & 0o111 == 0 => {
            Some(format!("{} is not executable", program.display()))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(before: &[&str]) -> ApplicationConfig {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect();
        let (name, limit) = ("db".parse().unwrap(), QuiesceLimit::default());
        ApplicationConfig { name, before: words(before), after: words(&["/bin/true"]), limit }
    }

    #[test]
    fn limits_have_a_unit_and_bounds() {
        let limit = |text: &str| QuiesceLimit::try_from(text.to_owned()).map(|l| l.duration().as_secs());
        assert_eq!((limit("30s"), limit("2m")), (Ok(30), Ok(120)));
        for bad in ["", "30", "0s", "s", "61m", "1h", "-1s", "99999999999999999999s"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_program_has_an_absolute_path_and_a_name_stands_once() {
        let good = config(&["/bin/true"]);
        assert_eq!(ApplicationConfig::check(std::slice::from_ref(&good)), Ok(()));
        let twice = ApplicationConfig::check(&[good.clone(), good.clone()]);
        assert_eq!(twice, Err(ApplicationError::Twice(good.name.clone())));
        for bad in [config(&[]), config(&["true"])] {
            assert_eq!(
                ApplicationConfig::check(std::slice::from_ref(&bad)),
                Err(ApplicationError::Command(bad.name, "before"))
            );
        }
    }

    #[test]
    fn what_cannot_be_run_is_told() {
        assert_eq!(config(&["/bin/sh"]).report().problem, None);
        assert!(config(&["/does/not/exist"]).report().problem.unwrap().contains("/does/not/exist"));
        let text = tempfile::NamedTempFile::new().unwrap();
        let problem = config(&[text.path().to_str().unwrap()]).report().problem;
        assert!(problem.unwrap().contains("not executable"));
    }
}
