//! Making an installation: authority, server identity, configuration, store and the first credential. Everything is built beside
//! its place and moved there by one rename, so that a failure or a kill leaves nothing half done.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tanist_model::change::{Change, Condition, Group, GroupOutcome, Transaction};
use tanist_model::enrolment::Credential;
use tanist_model::event::{EventCode, NewEvent};
use tanist_model::id::ClusterId;
use tanist_store::{SqliteStore, Store as _};
use tanist_wire::ca::CertificateAuthority;
use tanist_wire::certificate::CaHash;
use tanist_wire::file::create_private_folder;
use tanist_wire::token::OperatorSecret;

use crate::authority::{issue_identity, of_this_build};
use crate::config::{Layout, LimitsConfig, ServerConfig, default_recording, host_of, likely_address};
use crate::{ServerError, clock, ownership, random};

/// The operator of the first credential.
pub const FIRST_OPERATOR: &str = "admin";

/// What is to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InitOptions {
    pub dir: PathBuf,
    pub listen: SocketAddr,
    /// Where agents and operators reach the server; found out if empty.
    pub advertise: Vec<String>,
}

/// What was made. The credential is shown here once and stored only as a hash.
#[derive(Clone, Debug)]
pub struct Initialised {
    pub cluster: ClusterId,
    pub ca_hash: CaHash,
    pub ca_pem: String,
    pub operator: String,
    pub credential: OperatorSecret,
    /// Where the server will be reached, `HOST:PORT`.
    pub address: String,
}

/// Makes a new installation. If there is an empty directory for it, the installation belongs to whom the directory belongs to.
///
/// # Errors
/// [`ServerError::AlreadyInitialised`], [`ServerError::NotEmpty`]; nothing is changed then. Any other error leaves nothing behind.
pub async fn init(options: InitOptions) -> Result<Initialised, ServerError> {
    refuse_occupied(&options.dir)?;
    let config = configuration(&options)?;
    let owner = ownership::owner_of(&options.dir)?;
    let building = Building::beside(&options.dir)?;
    let layout = Layout::new(&building.0);
    let authority = of_this_build(CertificateAuthority::create(config.cluster, clock::wall())?);
    authority.save(&layout.authority())?;
    issue_identity(&authority, &config)?.save(&layout.identity())?;
    config.save(&layout)?;
    let credential = OperatorSecret::generate()?;
    make_store(&layout, &credential).await?;
    if let Some(owner) = owner {
        ownership::give(&building.0, owner)?;
    }
    building.move_to(&options.dir)?;
    Ok(Initialised {
        cluster: config.cluster,
        ca_hash: authority.ca_hash(),
        ca_pem: authority.certificate_pem().to_owned(),
        operator: FIRST_OPERATOR.to_owned(),
        credential,
        address: config.address(options.listen),
    })
}

fn configuration(options: &InitOptions) -> Result<ServerConfig, ServerError> {
    if let Some(bad) = options.advertise.iter().find(|address| host_of(address).is_none()) {
        return Err(ServerError::Advertise(bad.clone()));
    }
    let mut advertise = options.advertise.clone();
    if advertise.is_empty() {
        advertise.push(likely_address(options.listen));
    }
    Ok(ServerConfig {
        cluster: random::cluster_id()?,
        listen: options.listen,
        advertise,
        recording_limit_bytes: default_recording(),
        limits: LimitsConfig::default(),
        alarm: Vec::new(),
    })
}

fn refuse_occupied(dir: &Path) -> Result<(), ServerError> {
    if Layout::new(dir).config().exists() {
        return Err(ServerError::AlreadyInitialised { dir: dir.to_owned() });
    }
    let occupied = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_some(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        Err(error) => return Err(ServerError::io("look into", dir)(error)),
    };
    if occupied { Err(ServerError::NotEmpty { dir: dir.to_owned() }) } else { Ok(()) }
}

async fn make_store(layout: &Layout, secret: &OperatorSecret) -> Result<(), ServerError> {
    let store = SqliteStore::open(&layout.store()).await?;
    let made = add_first_credential(&store, secret).await;
    store.close().await;
    made
}

async fn add_first_credential(store: &SqliteStore, secret: &OperatorSecret) -> Result<(), ServerError> {
    let at = clock::wall();
    let operator = FIRST_OPERATOR.to_owned();
    let credential = Credential { hash: secret.hash(), operator, created_at: at, revoked: false };
    let message = format!("the installation was made, with a credential for {FIRST_OPERATOR}");
    let actor = "server init".to_owned();
    let event = NewEvent { at, code: EventCode::ServerStarted, replication: None, agent: None, actor, message };
    let changes = vec![Change::PutCredential(credential), Change::AppendEvent(event)];
    let term = store.begin_term().await?;
    let outcomes =
        store.commit(&Transaction { term, groups: vec![Group { condition: Condition::Term, changes }] }).await?;
    if outcomes == [GroupOutcome::Applied] { Ok(()) } else { Err(ServerError::CredentialRefused) }
}

/// A directory that is removed again unless it is moved to its place.
struct Building(PathBuf);

impl Building {
    fn beside(dir: &Path) -> Result<Self, ServerError> {
        let mut name = dir.file_name().unwrap_or_default().to_owned();
        name.push(format!(".init-{:08x}", random::wide()? >> 96));
        let path = dir.with_file_name(name);
        create_private_folder(&path)?;
        Ok(Self(path))
    }

    fn move_to(&self, dir: &Path) -> Result<(), ServerError> {
        sync(&self.0)?;
        // An empty directory at the place is replaced; one that was filled meanwhile is not.
        std::fs::rename(&self.0, dir).map_err(ServerError::io("put the new server in place at", dir))?;
        match dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => sync(parent),
            None => sync(Path::new(".")),
        }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // After the move there is nothing here any more.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn sync(dir: &Path) -> Result<(), ServerError> {
    std::fs::File::open(dir).and_then(|f| f.sync_all()).map_err(ServerError::io("make durable", dir))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn options(dir: PathBuf) -> InitOptions {
        let listen = "127.0.0.1:0".parse().unwrap();
        InitOptions { dir, listen, advertise: vec!["127.0.0.1:0".into()] }
    }

    #[tokio::test]
    async fn an_installation_is_made_once_for_its_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("server");
        let made = init(options(dir.clone())).await.unwrap();
        assert_eq!(std::fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing is left beside it");
        let store = SqliteStore::open(&Layout::new(&dir).store()).await.unwrap();
        let state = store.load().await.unwrap();
        assert_eq!(state.credentials[&made.credential.hash()].operator, FIRST_OPERATOR);

        let again = init(options(dir)).await.unwrap_err();
        assert!(matches!(again, ServerError::AlreadyInitialised { .. }));
        assert!(again.hint().contains("tanist server run"));
        assert_eq!(store.load().await.unwrap(), state);
    }

    #[tokio::test]
    async fn a_directory_with_something_else_in_it_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("letter"), "text").unwrap();
        let refused = init(options(root.path().to_owned())).await;
        assert!(matches!(refused, Err(ServerError::NotEmpty { .. })));
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn an_empty_directory_is_taken_for_its_owner() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("empty");
        std::fs::create_dir(&dir).unwrap();
        // Only root can give a directory away; anybody can see that it stays whose it was.
        let _ = std::os::unix::fs::lchown(&dir, Some(65534), Some(65534));
        let owner = ownership::owner_of(&dir).unwrap();
        init(options(dir.clone())).await.unwrap();
        for path in [dir.clone(), Layout::new(&dir).config(), Layout::new(&dir).store()] {
            assert_eq!(ownership::owner_of(&path).unwrap(), owner, "{}", path.display());
        }
    }
}
