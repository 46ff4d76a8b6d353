//! Where things are kept when the command line does not say: by the rules of the XDG base directories, and below /var/lib for root.

use std::ffi::OsString;
use std::path::PathBuf;

/// The part of the environment that decides about paths.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    pub root: bool,
    pub home: Option<OsString>,
    pub config_home: Option<OsString>,
    pub data_home: Option<OsString>,
}

impl Environment {
    /// Of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self {
            root: rustix::process::geteuid().is_root(),
            home: std::env::var_os("HOME"),
            config_home: std::env::var_os("XDG_CONFIG_HOME"),
            data_home: std::env::var_os("XDG_DATA_HOME"),
        }
    }

    /// The operator's context; `None` without a home.
    #[must_use]
    pub fn context_file(&self) -> Option<PathBuf> {
        let base =
            absolute(self.config_home.as_ref()).or_else(|| Some(absolute(self.home.as_ref())?.join(".config")))?;
        Some(base.join("tanist").join("context.toml"))
    }

    /// The server's directory.
    #[must_use]
    pub fn server_dir(&self) -> Option<PathBuf> {
        self.state_dir("server")
    }

    /// The agent's directory.
    #[must_use]
    pub fn agent_dir(&self) -> Option<PathBuf> {
        self.state_dir("agent")
    }

    fn state_dir(&self, role: &str) -> Option<PathBuf> {
        if self.root {
            return Some(PathBuf::from("/var/lib/tanist").join(role));
        }
        let base =
            absolute(self.data_home.as_ref()).or_else(|| Some(absolute(self.home.as_ref())?.join(".local/share")))?;
        Some(base.join("tanist").join(role))
    }
}

/// The XDG rules ignore paths that are not absolute.
fn absolute(value: Option<&OsString>) -> Option<PathBuf> {
    value.map(PathBuf::from).filter(|path| path.is_absolute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xdg_is_respected_and_relative_values_are_not() {
        let mut env = Environment { home: Some("/home/o".into()), ..Environment::default() };
        assert_eq!(env.context_file(), Some(PathBuf::from("/home/o/.config/tanist/context.toml")));
        assert_eq!(env.agent_dir(), Some(PathBuf::from("/home/o/.local/share/tanist/agent")));
        env.config_home = Some("relative".into());
        env.data_home = Some("/data".into());
        assert_eq!(env.context_file(), Some(PathBuf::from("/home/o/.config/tanist/context.toml")));
        assert_eq!(env.server_dir(), Some(PathBuf::from("/data/tanist/server")));
        assert_eq!(Environment::default().server_dir(), None);
    }

    #[test]
    fn root_keeps_state_below_var_lib() {
        let env = Environment { root: true, home: Some("/root".into()), ..Environment::default() };
        assert_eq!(env.server_dir(), Some(PathBuf::from("/var/lib/tanist/server")));
    }
}
