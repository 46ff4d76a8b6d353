//! What was: recovery points and takeovers.

use tanist_model::api::{RecoveryPointView, WhyView};
use tanist_model::recovery_point::RecoveryPoint;
use tanist_model::replication::ReplicationRecord;
use tanist_model::takeover::TakeoverRecord;
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
    WhyView { name: record.name.clone(), takeovers }
}

/// Time between a moment and a takeover; zero within it.
fn distance(takeover: &TakeoverRecord, at: Timestamp) -> std::time::Duration {
    let end = takeover.first_durable_write_at.or(takeover.activated_at).unwrap_or(takeover.committed_at);
    takeover.suspected_at.since(at).max(at.since(end))
}

/// The takeover of the present epoch, unless nobody acted before it.
#[must_use]
pub fn last_takeover(machine: &ServerMachine, record: &ReplicationRecord) -> Option<TakeoverRecord> {
    let key = (record.id, record.epochs.target.0);
    machine.state().takeovers.get(&key).filter(|takeover| takeover.from.is_some()).cloned()
}
