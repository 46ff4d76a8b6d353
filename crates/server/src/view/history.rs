//! What was: recovery points and takeovers.

use std::time::Duration;

use tanist_model::api::{RecoveryPointView, WhyView};
use tanist_model::event::{Event, EventCode};
use tanist_model::id::{ClusterId, Epoch};
use tanist_model::recovery_point::RecoveryPoint;
use tanist_model::replication::ReplicationRecord;
use tanist_model::takeover::{Ending, TakeoverRecord, TakeoverStatement};
use tanist_model::time::Timestamp;
use tanist_protocol::server::ServerMachine;

/// The recovery points on record, newest first.
#[must_use]
pub fn recovery_points(machine: &ServerMachine, record: &ReplicationRecord) -> Vec<RecoveryPointView> {
    let points = machine.state().recovery_points.values().filter(|point| point.replication == record.id);
    let mut points: Vec<RecoveryPointView> = points.map(recovery_point).collect();
    points.sort_by_key(|point| std::cmp::Reverse(point.published_at));
    points
}

#[must_use]
pub fn recovery_point(point: &RecoveryPoint) -> RecoveryPointView {
    RecoveryPointView {
        run: point.run,
        place: point.place.clone(),
        size_bytes: point.size_bytes,
        digest: point.chain,
        source_time: point.source_time,
        published_at: point.published_at,
        fuzzy: point.fuzzy,
        verified: point.verified,
        assumed_bytes: point.assumed_bytes,
        by_changes: point.by_changes,
        verified_at: point.verified_at,
        damaged_at: point.damaged_at,
        doubtful_since: point.doubtful_since,
        pinned: point.pinned,
        expired: point.expired,
        application: point.application.clone(),
    }
}

/// The takeovers, newest first; with a time the one nearest to it alone.
#[must_use]
pub fn why(machine: &ServerMachine, record: &ReplicationRecord, at: Option<Timestamp>) -> WhyView {
    let takeovers = machine.state().takeovers.values().filter(|takeover| takeover.replication == record.id);
    let mut takeovers: Vec<TakeoverRecord> = takeovers.cloned().collect();
    takeovers.sort_by_key(|takeover| std::cmp::Reverse(takeover.epochs.target));
    if let Some(at) = at {
        takeovers = takeovers.into_iter().min_by_key(|takeover| distance(takeover, at)).into_iter().collect();
    }
    WhyView { name: record.name.clone(), takeovers, readers: Vec::new() }
}

/// Changes of the reader that are shown when no time was asked for.
const LATEST_READERS: usize = 8;
/// How far from the time asked for a change of the reader may be.
const AROUND: Duration = Duration::from_mins(5);

/// What the log says of who reads the source, oldest first: the latest, or what is near a time.
#[must_use]
pub fn readers(log: Vec<Event>, created_at: Timestamp, at: Option<Timestamp>) -> Vec<Event> {
    use EventCode::{ReaderGranted, ReaderSuspected, SourceExhausted};
    let about = |event: &Event| matches!(event.code, ReaderGranted | ReaderSuspected | SourceExhausted);
    let near = |event: &Event| at.is_none_or(|at| event.at.since(at).max(at.since(event.at)) <= AROUND);
    // An earlier replication may have had the name.
    let kept = |event: &Event| about(event) && near(event) && event.at >= created_at;
    let mut readers: Vec<Event> = log.into_iter().filter(kept).collect();
    let surplus = if at.is_some() { 0 } else { readers.len().saturating_sub(LATEST_READERS) };
    readers.drain(..surplus);
    readers
}

/// Time between a moment and a takeover; zero within it.
fn distance(takeover: &TakeoverRecord, at: Timestamp) -> Duration {
    let end = takeover.first_durable_write_at.or(takeover.activated_at).unwrap_or(takeover.committed_at);
    takeover.suspected_at.since(at).max(at.since(end))
}

/// The takeover of the present epoch, unless nobody acted before it.
#[must_use]
pub fn last_takeover(machine: &ServerMachine, record: &ReplicationRecord) -> Option<TakeoverRecord> {
    let key = (record.id, record.epochs.target.0);
    machine.state().takeovers.get(&key).filter(|takeover| takeover.from.is_some()).cloned()
}

/// What can be stated of a takeover, or why not.
#[derive(Debug)]
pub enum Stated {
    /// There is no record of it.
    Unknown,
    GoesOn(Epoch),
    Ended(Box<TakeoverStatement>),
}

/// What is to be signed of a takeover: of this epoch of the target, or of the last one.
#[must_use]
pub fn statement(
    machine: &ServerMachine,
    record: &ReplicationRecord,
    epoch: Option<Epoch>,
    (cluster, signed_at): (ClusterId, Timestamp),
) -> Stated {
    let takeovers = || machine.state().takeovers.range((record.id, 0)..=(record.id, u32::MAX)).map(|(_, t)| t);
    let asked = takeovers().rfind(|t| epoch.is_none_or(|epoch| t.epochs.target == epoch));
    let Some(takeover) = asked else { return Stated::Unknown };
    let run = takeover.run.and_then(|run| machine.state().runs.get(&(record.id, run)));
    let Some(ending) = Ending::of(takeover, record, run) else { return Stated::GoesOn(takeover.epochs.target) };
    let before = takeovers().rfind(|t| t.epochs.target < takeover.epochs.target);
    Stated::Ended(Box::new(TakeoverStatement {
        cluster,
        signed_at,
        replication: record.name.clone(),
        source: record.source.volume.clone(),
        source_identity: record.source.identity.clone(),
        target: record.target.volume.clone(),
        target_identity: record.target.identity.clone(),
        size_bytes: record.size_bytes,
        follows: before.map(|t| t.epochs),
        ending,
        takeover: takeover.clone(),
    }))
}
