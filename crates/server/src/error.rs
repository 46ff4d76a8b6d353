//! Why a server cannot be made, started or kept running: what was being done, why it failed, and what the operator can do.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use tanist_store::StoreError;
use tanist_wire::ca::CaError;
use tanist_wire::file::FileError;
use tanist_wire::identity::IdentityError;
use tanist_wire::tls::ConfigError;

/// An error of the server as a whole. What goes wrong with one connection or one request is told to that one.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{} holds a server already", dir.display())]
    AlreadyInitialised { dir: PathBuf },
    #[error("{} is not empty, and holds no server", dir.display())]
    NotEmpty { dir: PathBuf },
    #[error("{} belongs to another user (uid {uid}), and root would leave files there that its service cannot read", dir.display())]
    AnothersDirectory { dir: PathBuf, uid: u32 },
    #[error("there is no server in {}", dir.display())]
    NotInitialised { dir: PathBuf },
    #[error("the configuration {} is not understood: {reason}", path.display())]
    Config { path: PathBuf, reason: String },
    #[error("'{0}' is not an address that agents can dial")]
    Advertise(String),
    #[error(transparent)]
    Name(#[from] tanist_model::id::IdError),
    #[error("put the configuration into TOML")]
    Encode(#[from] toml::ser::Error),
    #[error("cannot {doing} {}: {source}", path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}: {source}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Authority(#[from] CaError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Tls(#[from] ConfigError),
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{}", in_full(.0))]
    Store(#[from] StoreError),
    #[error("{} cannot be restored: {reason}; the server's store is as it was", path.display())]
    Backup { path: PathBuf, reason: String },
    #[error("the first credential was not taken by the new store")]
    CredentialRefused,
    /// Another server leads; this one has stopped acting.
    #[error("this server is superseded and has stopped: {reason}")]
    Deposed { reason: String },
    #[error("the metrics cannot be set up: {0}")]
    Metrics(String),
    #[error("no rule of the protocol is called '{0}'")]
    UnknownMutation(String),
    /// The task that decides has ended by a fault.
    #[error("the server's loop has ended by a fault of tanist")]
    LoopEnded,
}

impl ServerError {
    /// What the operator can do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::AlreadyInitialised { dir } => {
                format!("run it: tanist server run --dir {}; or choose another directory", dir.display())
            }
            Self::NotEmpty { .. } => "choose an empty or a new directory with --dir".to_owned(),
            Self::AnothersDirectory { .. } => {
                "start its service: systemctl start tanist-server; or run it as that user".to_owned()
            }
            Self::NotInitialised { dir } => format!("make one first: tanist server init --dir {}", dir.display()),
            Self::Config { .. } => {
                "correct what is named there; the settings are cluster, listen, advertise, recording_limit_bytes, [limits] and [[alarm]]; a commented sample is config/valid/server.toml (of the \
                 package: /etc/tanist/samples)".to_owned()
            }
            Self::Advertise(_) => "give --advertise HOST:PORT".to_owned(),
            Self::Io { .. } => "check owner, mode and free space there".to_owned(),
            Self::Listen { .. } => {
                "is another server running, or is the port taken? See listen in server.toml".to_owned()
            }
            Self::Authority(error) => error.hint(),
            Self::Identity(error) => error.hint(),
            Self::Tls(error) => error.hint().to_owned(),
            Self::File(error) => error.hint(),
            Self::Store(_) => "the server keeps its state in store.db of its directory".to_owned(),
            Self::Backup { .. } => {
                "name a file on this host that `tanist server backup FILE` has written, and that was copied whole"
                    .to_owned()
            }
            Self::Deposed { .. } => {
                "see which other server runs with a copy of this state, and stop one of them".to_owned()
            }
            Self::UnknownMutation(_) => "TANIST_MUTATION names one of the switches of the protocol".to_owned(),
            Self::Name(_)
            | Self::Encode(_)
            | Self::Random(_)
            | Self::CredentialRefused
            | Self::Metrics(_)
            | Self::LoopEnded => {
                "this is a fault of the host or of tanist: please report it with the server's log".to_owned()
            }
        }
    }

    pub(crate) fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// An error with everything that led to it, in one line: what an operator reads has no second line for causes.
pub(crate) fn in_full(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes() {
        let source = io::Error::other("the cable is out");
        let error = StoreError::Io { doing: "commit", path: "/srv/store.db".into(), source };
        let told = ServerError::Store(error).to_string();
        assert!(told.contains("commit") && told.ends_with(": the cable is out"), "{told}");
    }
}
