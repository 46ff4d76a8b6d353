//! A run whose reader or holder is killed when half of it is durable: what is sent again, and how long the rest takes from the kill on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use tanist_model::time::Timestamp;

use crate::cases::{Case, Measured, Outcome, ready_for_copy};
use crate::ours::Cluster;
use crate::place::{Form, Place};
use crate::replication::{Policy, Replication, measure};
use crate::volume;

/// Which of the two agents is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Reader,
    Holder,
}

#[derive(Clone, Copy, Debug)]
pub struct Killed(pub End);

impl Case for Killed {
    fn name(&self) -> &'static str {
        match self.0 {
            End::Reader => "reader killed",
            End::Holder => "holder killed",
        }
    }

    fn run(&self, place: &mut Place, _: u64) -> anyhow::Result<Outcome> {
        // A small volume would be over before anybody could be killed.
        let limit = if place.wish.function { "4MiB/s" } else { "none" };
        let replication = ready_for_copy(place, Form::Networked, Policy::Defaults, limit)?;
        let half = place.size_bytes() / 2;
        let work = |cluster: &mut Cluster| self.kill_at(cluster, &replication, half);
        let ((wall, run), cost) = measure(place.cluster()?, Form::Networked.all(), work)?;
        volume::compare(&replication.source, &replication.target)?;
        replication.wait_whole(place.cluster()?)?;
        Ok(Outcome::Measured(Measured { wall, ..Measured::of_run(&run, &cost) }))
    }
}

impl Killed {
    /// The time from the kill to the publication, and the run.
    fn kill_at(
        self,
        cluster: &mut Cluster,
        replication: &Replication,
        bytes: u64,
    ) -> anyhow::Result<(Duration, tanist_model::api::RunView)> {
        replication.ask_for_run(cluster, true)?;
        ensure!(replication.wait_passed(cluster, bytes)?, "the run was over before anybody was killed");
        let (holder, reader) = replication.holder_and_reader(cluster)?;
        let victim = if self.0 == End::Holder { holder } else { reader.context("nobody reads for the holder")? };
        let at = now();
        cluster.kill_agent(&victim)?;
        let run = replication.wait_published(cluster)?;
        cluster.start_agent(&victim)?;
        cluster.wait_connected(&victim)?;
        let finished = run.finished_at.context("a run that has ended")?;
        Ok((finished.since(at), run))
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
