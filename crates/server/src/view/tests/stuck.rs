//! What helps a replication that nothing can move by itself: the sentence and the command, not a command that fails again.

use tanist_model::api::{Health, ReplicationView};
use tanist_model::id::RunId;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{Intent, ReplicationRecord, SideRecord};
use tanist_protocol::server::Input;

use super::{ID, at, machine, record, state};
use crate::view::replication::replication;

/// The agents see another volume at the target's address, and whoever acted has drained. The last recovery point is in a snapshot.
fn replaced() -> ReplicationRecord {
    let target = SideRecord { identity: "the old one".into(), ..record().target };
    ReplicationRecord { target, holder: None, unproven: Vec::new(), ..record() }
}

fn view(record: ReplicationRecord) -> ReplicationView {
    let mut state = state(record);
    state.recovery_points.get_mut(&(ID, RunId(4))).unwrap().place = RecoveryPointPlace::Snapshot("uid-4".into());
    let mut machine = machine(state);
    machine.handle(at(11), Input::Tick);
    replication(&machine, &machine.state().replications[&ID])
}

#[test]
fn a_removal_that_cannot_go_on_says_why_and_names_the_command() {
    let stuck = view(ReplicationRecord { intent: Intent::Deleting, ..replaced() });
    assert_eq!(stuck.health, Health::Stopped);
    assert!(stuck.summary.contains("no agent can clean up"), "{}", stuck.summary);
    assert!(stuck.summary.contains("0000000000000004 of san-b/vol9 (uid uid-4)"), "{}", stuck.summary);
    let command = "tanist replication delete db --leave-behind";
    assert_eq!(stuck.next.as_deref(), Some(command));
    assert!(stuck.waits_for.as_ref().is_some_and(|what| what.contains(command)), "{:?}", stuck.waits_for);
    let removal = stuck.removal.expect("what is left to do");
    assert_eq!((removal.leave_behind, removal.snapshots.len()), (false, 1));
}
