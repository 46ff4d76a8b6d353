//! The memory of an agent with its default settings: one run, three at once, and a volume a hundred times as large of which nearly nothing is
//! there. Each in a cluster of its own, since a process does not forget what it once had.

use std::path::Path;

use crate::cases::{Case, Measured, Outcome};
use crate::ours::{Cluster, SOURCES, TARGETS};
use crate::place::Place;
use crate::replication::{Replication, measure};
use crate::volume;

const AGENT: &str = "h1";
/// A run of a volume of this size says what one of any size would.
const ENOUGH_MIB: u64 = 1024;
const VAST_MIB: u64 = 200 << 10;
const VAST_IN_FUNCTION_MIB: u64 = 4 << 10;

/// How much at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scale {
    One,
    ThreeAtOnce,
    Vast,
}

#[derive(Clone, Copy, Debug)]
pub struct Memory(pub Scale);

impl Case for Memory {
    fn name(&self) -> &'static str {
        match self.0 {
            Scale::One => "one run",
            Scale::ThreeAtOnce => "three runs at once",
            Scale::Vast => "200 GiB, sparse",
        }
    }

    fn run(&self, place: &mut Place, round: u64) -> anyhow::Result<Outcome> {
        let folder = tempfile::tempdir_in(place.folder())?;
        let name = format!("memory-{:?}-{round}", self.0);
        let mut cluster = place.start(&name, folder.path(), &[(AGENT, &[SOURCES, TARGETS])])?;
        let names: &[&str] = if self.0 == Scale::ThreeAtOnce { &["one", "two", "three"] } else { &["one"] };
        let replications: Vec<Replication> = names.iter().map(|name| Replication::at(&cluster, name)).collect();
        for (replication, name) in replications.iter().zip(names) {
            self.make_volumes(place, replication)?;
            replication.create(&cluster, name, AGENT)?;
        }
        let (run, cost) = measure(&mut cluster, &[AGENT], |cluster| run_all(cluster, &replications))?;
        for replication in replications.iter().filter(|_| self.0 != Scale::Vast) {
            volume::compare(&replication.source, &replication.target)?;
        }
        if let Some(vast) = replications.first().filter(|_| self.0 == Scale::Vast) {
            compare_beginning(vast)?;
        }
        Ok(Outcome::Measured(Measured::of_run(&run, &cost)))
    }
}

impl Memory {
    fn make_volumes(self, place: &Place, replication: &Replication) -> anyhow::Result<()> {
        let size_bytes = place.wish.size_mib.min(ENOUGH_MIB) << 20;
        if self.0 == Scale::Vast {
            let vast_bytes = if place.wish.function { VAST_IN_FUNCTION_MIB } else { VAST_MIB } << 20;
            return make_vast(replication, vast_bytes, size_bytes.min(64 << 20));
        }
        volume::make(&replication.source, size_bytes, 1)?;
        volume::prepare_target(&replication.target, size_bytes)
    }
}

/// Some data at the beginning, and holes from there on.
fn make_vast(replication: &Replication, vast_bytes: u64, data_bytes: u64) -> anyhow::Result<()> {
    volume::make(&replication.source, data_bytes, 1)?;
    std::fs::File::options().write(true).open(&replication.source)?.set_len(vast_bytes)?;
    volume::make_sparse(&replication.target, vast_bytes)
}

/// The whole would take minutes to read; what is not at the beginning is a hole on both sides, of which nothing is stored.
fn compare_beginning(vast: &Replication) -> anyhow::Result<()> {
    use std::os::unix::fs::MetadataExt as _;
    let stored = |path: &Path| anyhow::Ok(std::fs::metadata(path)?.blocks());
    anyhow::ensure!(stored(&vast.target)? <= stored(&vast.source)?, "the target stores what the source does not");
    volume::compare_first(&vast.source, &vast.target, 64 << 20)
}

/// The last that was asked for is told of.
fn run_all(cluster: &Cluster, replications: &[Replication]) -> anyhow::Result<tanist_model::api::RunView> {
    replications.iter().try_for_each(|replication| replication.ask_for_run(cluster, false))?;
    let runs: anyhow::Result<Vec<_>> =
        replications.iter().map(|replication| replication.wait_published(cluster)).collect();
    runs?.pop().ok_or_else(|| anyhow::anyhow!("nothing was run"))
}
