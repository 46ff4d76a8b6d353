//! What this host can do for a run: its volume, its cores, its link. The stages of the block engine one at a time, each with nothing beside
//! it, over the storage and under the identity of this host's agent. The agent itself has no part in it.

mod link;
mod scratch;

use std::path::Path;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use tanist_datapath::LinkError;
use tanist_datapath::bench::{self, Bounds, Measured, Sample};
use tanist_model::id::{AgentName, VolumeAddress};
use tanist_model::stage::Stage;
use tanist_storage::{SourceView, StorageError, StorageSystem};
use tanist_wire::connect::WireError;
use tanist_wire::identity::{Identity, IdentityError};
use tanist_wire::tls;

use crate::config::{AgentConfig, ConfigError};
use crate::storages::Storages;

pub use self::link::sink;
pub use self::scratch::InUse;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct BenchOrder {
    /// It is read, and nothing else.
    pub volume: VolumeAddress,
    /// It is overwritten.
    pub scratch: Option<VolumeAddress>,
    /// What replications use, and is not overwritten.
    pub in_use: Vec<InUse>,
    pub link: BenchLink,
    /// Streams between the two ends of the link, 1 to 4.
    pub streams: u8,
    /// Of each stage.
    pub time: Duration,
    pub bytes: u64,
}

/// Over what the streams are measured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BenchLink {
    /// From this host to itself.
    Loopback,
    /// To the [`sink`] of another host.
    To { agent: AgentName, address: String },
}

/// What one stage did by itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BenchStage {
    pub stage: Stage,
    /// How it was measured, in words.
    pub what: String,
    pub bytes: u64,
    pub took_us: u64,
    /// `None` if there was nothing to move.
    pub bytes_per_second: Option<u64>,
}

/// All of them, in the order in which a block passes them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BenchReport {
    pub volume: VolumeAddress,
    pub cores: usize,
    /// `io_uring`, or why not.
    pub io: String,
    pub stages: Vec<BenchStage>,
    /// The slowest of them.
    pub limit: Option<Stage>,
    pub bytes_per_second: Option<u64>,
}

/// Why nothing was measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error("the agent of this host does not reach {0}")]
    NotHere(VolumeAddress),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("{scratch} is not overwritten: {why}")]
    NoScratch { scratch: VolumeAddress, why: String },
    #[error("cannot {doing} {volume}: {cause}")]
    Device {
        doing: &'static str,
        volume: VolumeAddress,
        #[source]
        cause: std::io::Error,
    },
    #[error("the identity of this host is no agent's")]
    NoAgent,
    #[error("cannot {doing}: {cause}")]
    Socket {
        doing: &'static str,
        #[source]
        cause: std::io::Error,
    },
    #[error(transparent)]
    Tls(#[from] tls::ConfigError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Link(#[from] LinkError),
}

/// Measures each stage, one after the other; `tell` hears which one is being measured. Blocks. Nothing is written but the scratch volume, and
/// that only if nothing uses it.
///
/// # Errors
/// [`BenchError`].
pub fn bench(folder: &Path, order: &BenchOrder, mut tell: impl FnMut(Stage)) -> Result<BenchReport, BenchError> {
    let storages = Storages::open(&AgentConfig::load(folder)?.storage)?;
    let identity = Identity::load(folder)?;
    let scratch = order.scratch.as_ref().map(|scratch| scratch::open(&storages, scratch, order)).transpose()?;
    let bounds = Bounds { time: order.time, bytes: order.bytes };
    tell(Stage::Source);
    let (source, sample) = read(&storages, &order.volume, bounds)?;
    tell(Stage::Encode);
    let encode = stage(Stage::Encode, "zeros and digests, on one core".to_owned(), bench::encode(&sample, bounds));
    tell(Stage::Network);
    let network = link::measure(&identity, order, &sample, bounds)?;
    let mut stages = vec![source, encode, network];
    if let Some(scratch) = scratch {
        tell(Stage::Target);
        stages.push(scratch.overwrite(&sample, bounds)?);
    }
    Ok(report(order, stages))
}

fn system_of(storages: &Storages, volume: &VolumeAddress) -> Result<std::sync::Arc<dyn StorageSystem>, BenchError> {
    storages.of(volume).map_err(|_| BenchError::NotHere(volume.clone()))
}

fn read(storages: &Storages, volume: &VolumeAddress, bounds: Bounds) -> Result<(BenchStage, Sample), BenchError> {
    let device = system_of(storages, volume)?.open_source(volume, &SourceView::Live)?.device;
    let failed = |cause| BenchError::Device { doing: "read", volume: volume.clone(), cause };
    let (measured, sample) = bench::read(&*device, bounds).map_err(failed)?;
    let way = if device.is_direct() { "around the page cache" } else { "through the page cache, which may hold it" };
    Ok((stage(Stage::Source, format!("reading {volume} {way}"), measured), sample))
}

fn stage(stage: Stage, what: String, measured: Measured) -> BenchStage {
    let took_us = u64::try_from(measured.took.as_micros()).unwrap_or(u64::MAX);
    BenchStage { stage, what, bytes: measured.bytes, took_us, bytes_per_second: measured.bytes_per_second() }
}

fn report(order: &BenchOrder, stages: Vec<BenchStage>) -> BenchReport {
    let slowest = slowest(&stages);
    BenchReport {
        volume: order.volume.clone(),
        cores: thread::available_parallelism().map_or(1, std::num::NonZero::get),
        io: tanist_datapath::io::uring::engine().to_string(),
        limit: slowest.map(|(stage, _)| stage),
        bytes_per_second: slowest.map(|(_, rate)| rate),
        stages,
    }
}

/// The stage that would be the limit, of those for which there was something to measure.
fn slowest(stages: &[BenchStage]) -> Option<(Stage, u64)> {
    let measured = stages.iter().filter_map(|stage| Some((stage.stage, stage.bytes_per_second?)));
    measured.min_by_key(|(_, rate)| *rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stage_is_the_limit_and_what_was_not_measured_is_not() {
        let of = |of, bytes| stage(of, String::new(), Measured { bytes, took: Duration::from_secs(2) });
        let stages = [of(Stage::Source, 0), of(Stage::Encode, 900), of(Stage::Network, 700), of(Stage::Target, 800)];
        assert_eq!(slowest(&stages), Some((Stage::Network, 350)));
        assert_eq!(slowest(&stages[..1]), None);
    }
}
