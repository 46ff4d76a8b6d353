//! Where it all happens: a folder with the volumes, the cluster, and how large everything is.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use crate::measured::Meter;
use crate::ours::{Cluster, Plan, SOURCES, TARGETS};
use crate::peers::Errand;
use crate::replication::{Policy, Replication};
use crate::volume;

/// The agent that reaches both sides.
pub const DIRECT: &str = "h5";
/// Those that reach one side each, two a side.
const READERS: [&str; 2] = ["h1", "h2"];
const HOLDERS: [&str; 2] = ["h3", "h4"];
/// Volumes of the full size that are there at once, at most, and one to spare.
const VOLUMES_AT_ONCE: u64 = 10;
/// Of every volume that is made here.
const SEED: u64 = 1;

/// What the caller wants.
#[derive(Clone, Debug)]
pub struct Wish {
    pub program: PathBuf,
    pub size_mib: u64,
    /// Only to see that everything works.
    pub function: bool,
}

/// The folder and what is in it.
#[derive(Debug)]
pub struct Place {
    pub wish: Wish,
    // The processes end before the folder goes.
    cluster: Option<Cluster>,
    pub meter: Meter,
    folder: TempDir,
}

impl Place {
    /// # Errors
    /// If there is no room.
    pub fn new(parent: &Path, wish: Wish) -> anyhow::Result<Self> {
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        let needed = wish.size_mib * VOLUMES_AT_ONCE;
        let room = rustix::fs::statvfs(parent).context("ask for the free space")?;
        let free = (room.f_bavail * room.f_frsize) >> 20;
        ensure!(free >= needed, "{} has {free} MiB free, and {needed} MiB are needed", parent.display());
        let folder = tempfile::Builder::new().prefix("bench-").tempdir_in(parent).context("make a folder")?;
        std::fs::create_dir(folder.path().join("peer"))?;
        Ok(Self { wish, cluster: None, meter: Meter::new(), folder })
    }

    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.wish.size_mib << 20
    }

    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A cluster with an agent that reaches both sides, and two for each side, as soon as somebody wants it.
    ///
    /// # Errors
    /// If it does not start.
    pub fn cluster(&mut self) -> anyhow::Result<&mut Cluster> {
        if self.cluster.is_none() {
            let agents: [(&str, &[&str]); 5] = [
                (READERS[0], &[SOURCES]),
                (READERS[1], &[SOURCES]),
                (HOLDERS[0], &[TARGETS]),
                (HOLDERS[1], &[TARGETS]),
                (DIRECT, &[SOURCES, TARGETS]),
            ];
            self.cluster = Some(self.start("cluster", self.folder(), &agents)?);
        }
        self.cluster.as_mut().context("a cluster")
    }

    /// A further cluster.
    ///
    /// # Errors
    /// If it does not start.
    pub fn start(&self, name: &str, volumes: &Path, agents: &[(&str, &[&str])]) -> anyhow::Result<Cluster> {
        let folder = self.folder().join(name);
        Cluster::start(&self.meter, &Plan { program: &self.wish.program, folder: &folder, volumes, agents })
    }

    /// The source of every full copy.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn source(&mut self) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(self.folder().join(SOURCES))?;
        let path = self.folder().join(SOURCES).join("full");
        self.made(&path)
    }

    /// A replication of the full source, by one agent or over the network.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn full(&mut self, form: Form) -> anyhow::Result<Replication> {
        let source = self.source()?;
        let mut replication = Replication::at(self.cluster()?, form.name());
        replication.source = source;
        if !replication.target.exists() {
            volume::prepare_target(&replication.target, self.size_bytes())?;
            replication.create(self.cluster()?, "full", &form.agents())?;
        }
        Ok(replication)
    }

    /// A replication of two volumes that are equal, and that the server knows to be.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn equal(&mut self, name: &str, policy: Policy) -> anyhow::Result<Replication> {
        let replication = Replication::at(self.cluster()?, name);
        if !replication.target.exists() {
            self.made(&replication.source)?;
            self.made(&replication.target)?;
            let cluster = self.cluster()?;
            replication.create(cluster, name, &Form::Networked.agents())?;
            replication.set(cluster, policy, "none")?;
            replication.run(cluster, false)?;
        }
        Ok(replication)
    }

    /// Two volumes for the others, which are equal at first.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn pair(&self) -> anyhow::Result<Errand> {
        let errand = self.errand("source", "target");
        self.made(&errand.source)?;
        self.made(&errand.target)?;
        Ok(errand)
    }

    /// The full source, to be copied by others.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn copy(&mut self) -> anyhow::Result<Errand> {
        Ok(Errand { source: self.source()?, ..self.errand("source", "copy") })
    }

    fn errand(&self, source: &str, target: &str) -> Errand {
        let peer = self.folder().join("peer");
        Errand { source: peer.join(source), target: peer.join(target), keys: self.folder().join("keys") }
    }

    fn made(&self, path: &Path) -> anyhow::Result<PathBuf> {
        if !path.exists() {
            volume::make(path, self.size_bytes(), SEED)?;
        }
        Ok(path.to_owned())
    }
}

/// Who moves the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// One agent that reaches both sides.
    Direct,
    /// Two agents, with TLS between them.
    Networked,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Networked => "networked",
        }
    }

    fn agents(self) -> String {
        match self {
            Self::Direct => DIRECT.to_owned(),
            Self::Networked => [READERS, HOLDERS].concat().join(","),
        }
    }

    /// Those that a run of it may keep busy.
    #[must_use]
    pub fn all(self) -> &'static [&'static str] {
        match self {
            Self::Direct => &[DIRECT],
            Self::Networked => &["h1", "h2", "h3", "h4"],
        }
    }
}
