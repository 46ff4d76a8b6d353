//! What is measured: for every row of the table of goals the cases that run side by side in it. Every one brings volumes and caches into the
//! state that its row begins in, works, and has its bytes compared.

use std::time::Duration;

use tanist_model::api::RunView;

use crate::failures::{End, Killed};
use crate::memory::{Memory, Scale};
use crate::peers::{self, Peer};
use crate::place::{Form, Place};
use crate::probed::Probed;
use crate::replication::{Cost, Policy, Replication, measure};
use crate::volume;

/// What one run of one case gave.
#[derive(Debug)]
pub enum Outcome {
    Measured(Measured),
    /// Why there is nothing, in words.
    Missing(String),
}

/// What was measured of one run.
#[derive(Debug)]
pub struct Measured {
    pub wall: Duration,
    pub cpu: Duration,
    pub peak_bytes: u64,
    pub wire_bytes: Option<u64>,
    pub again_bytes: Option<u64>,
    /// Of our own processes.
    pub threads: Vec<(String, String, Duration)>,
}

impl Measured {
    #[must_use]
    pub fn of_peer(wall: Duration, cost: &Cost) -> Self {
        let peak_bytes = cost.peak_bytes();
        Self { wall, cpu: cost.cpu, peak_bytes, wire_bytes: cost.wire_bytes, again_bytes: None, threads: Vec::new() }
    }

    /// The server's own account of when it was asked and when it had published.
    #[must_use]
    pub fn of_run(run: &RunView, cost: &Cost) -> Self {
        let wall = run.finished_at.map(|at| at.since(run.requested_at)).unwrap_or_default();
        let threads = cost.sight.threads().into_iter().map(|((process, thread), ran)| (process, thread, ran));
        let threads = threads.filter(|(.., ran)| !ran.is_zero()).collect();
        Self { again_bytes: Some(run.copied_again_bytes), threads, ..Self::of_peer(wall, cost) }
    }
}

/// One of those that run side by side.
pub trait Case {
    fn name(&self) -> &'static str;

    /// # Errors
    /// If it fails, or its bytes are not those of the source.
    fn run(&self, place: &mut Place, round: u64) -> anyhow::Result<Outcome>;
}

/// The cases of a row, by the row's name.
#[must_use]
pub fn of(row: &str) -> Vec<Box<dyn Case>> {
    match row {
        "local" => local(),
        "network" => network(),
        "same-warm" => delta(Change::None, Cache::Warm),
        "same-cold" => delta(Change::None, Cache::Cold),
        "changed-warm" => delta(Change::OnePercent, Cache::Warm),
        "killed" => killed(),
        "memory" => memory(),
        _ => Vec::new(),
    }
}

fn local() -> Vec<Box<dyn Case>> {
    let peers = [peers::DD, peers::DDPT, peers::QEMU_IMG, peers::NBDCOPY, peers::RSYNC];
    with_ours(&peers, Form::Direct)
}

fn network() -> Vec<Box<dyn Case>> {
    with_ours(&[peers::NBDCOPY_TCP, peers::NBDCOPY_TLS, peers::SOCAT_TLS], Form::Networked)
}

fn with_ours(peers: &[Peer], form: Form) -> Vec<Box<dyn Case>> {
    let mut cases: Vec<Box<dyn Case>> = peers.iter().map(|peer| Box::new(PeerCopy(*peer)) as Box<dyn Case>).collect();
    cases.push(Box::new(OurCopy { name: "tanist", form, policy: Policy::Bare }));
    cases.push(Box::new(OurCopy { name: "tanist, defaults", form, policy: Policy::Defaults }));
    cases
}

fn delta(change: Change, cache: Cache) -> Vec<Box<dyn Case>> {
    let state = State { change, cache };
    vec![
        Box::new(Probed(state)),
        Box::new(PeerDelta { peer: peers::RSYNC_DELTA, state }),
        Box::new(OurDelta { name: "tanist", volumes: "compared", policy: Policy::BothSides, state }),
        Box::new(OurDelta { name: "tanist, stored digests", volumes: "stored", policy: Policy::Defaults, state }),
    ]
}

fn killed() -> Vec<Box<dyn Case>> {
    vec![
        Box::new(OurCopy { name: "full copy", form: Form::Networked, policy: Policy::Defaults }),
        Box::new(Killed(End::Reader)),
        Box::new(Killed(End::Holder)),
    ]
}

fn memory() -> Vec<Box<dyn Case>> {
    [Scale::One, Scale::ThreeAtOnce, Scale::Vast].map(|scale| Box::new(Memory(scale)) as Box<dyn Case>).into()
}

/// What happened to the source since both were equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    None,
    OnePercent,
}

/// Where both volumes are when it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cache {
    Warm,
    Cold,
}

/// What a row about changes begins with.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub change: Change,
    pub cache: Cache,
}

impl State {
    /// Brings two equal volumes into it.
    ///
    /// # Errors
    /// If they cannot be read or written.
    pub fn bring(self, source: &std::path::Path, target: &std::path::Path, round: u64) -> anyhow::Result<()> {
        if self.change == Change::OnePercent {
            volume::mutate(source, 1, round)?;
        }
        let pass = if self.cache == Cache::Warm { volume::warm } else { volume::evict };
        [source, target].into_iter().try_for_each(pass)
    }
}

struct PeerCopy(Peer);

impl Case for PeerCopy {
    fn name(&self) -> &'static str {
        self.0.name
    }

    fn run(&self, place: &mut Place, _: u64) -> anyhow::Result<Outcome> {
        if let Some(program) = self.0.missing() {
            return Ok(not_installed(program));
        }
        let errand = place.copy()?;
        volume::prepare_target(&errand.target, place.size_bytes())?;
        volume::evict(&errand.source)?;
        let (wall, cost) = self.0.copy(&place.meter, &errand)?;
        volume::compare(&errand.source, &errand.target)?;
        Ok(Outcome::Measured(Measured::of_peer(wall, &cost)))
    }
}

fn not_installed(program: &str) -> Outcome {
    Outcome::Missing(format!("{program} is not installed"))
}

struct OurCopy {
    name: &'static str,
    form: Form,
    policy: Policy,
}

impl Case for OurCopy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, place: &mut Place, _: u64) -> anyhow::Result<Outcome> {
        let replication = ready_for_copy(place, self.form, self.policy, "none")?;
        let work = |cluster: &mut _| replication.run(cluster, true);
        let (run, cost) = measure(place.cluster()?, self.form.all(), work)?;
        volume::compare(&replication.source, &replication.target)?;
        Ok(Outcome::Measured(Measured::of_run(&run, &cost)))
    }
}

/// The state in which every full copy begins: other bytes in a target without holes, and nothing in the cache.
///
/// # Errors
/// If it cannot be brought about.
pub fn ready_for_copy(place: &mut Place, form: Form, policy: Policy, limit: &str) -> anyhow::Result<Replication> {
    let replication = place.full(form)?;
    replication.set(place.cluster()?, policy, limit)?;
    volume::prepare_target(&replication.target, place.size_bytes())?;
    volume::evict(&replication.source)?;
    Ok(replication)
}

struct PeerDelta {
    peer: Peer,
    state: State,
}

impl Case for PeerDelta {
    fn name(&self) -> &'static str {
        self.peer.name
    }

    fn run(&self, place: &mut Place, round: u64) -> anyhow::Result<Outcome> {
        if let Some(program) = self.peer.missing() {
            return Ok(not_installed(program));
        }
        let errand = place.pair()?;
        self.state.bring(&errand.source, &errand.target, round)?;
        let (wall, cost) = self.peer.copy(&place.meter, &errand)?;
        volume::compare(&errand.source, &errand.target)?;
        Ok(Outcome::Measured(Measured::of_peer(wall, &cost)))
    }
}

struct OurDelta {
    name: &'static str,
    volumes: &'static str,
    policy: Policy,
    state: State,
}

impl Case for OurDelta {
    fn name(&self) -> &'static str {
        self.name
    }

    fn run(&self, place: &mut Place, round: u64) -> anyhow::Result<Outcome> {
        let replication = place.equal(self.volumes, self.policy)?;
        self.state.bring(&replication.source, &replication.target, round)?;
        let work = |cluster: &mut _| replication.run(cluster, false);
        let (run, cost) = measure(place.cluster()?, Form::Networked.all(), work)?;
        volume::compare(&replication.source, &replication.target)?;
        Ok(Outcome::Measured(Measured::of_run(&run, &cost)))
    }
}
