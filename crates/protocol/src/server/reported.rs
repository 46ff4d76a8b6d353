//! What a holder says of itself with its beats and nothing is decided by: what it has done for its run, and what it did not let in.

use tanist_model::change::Change;
use tanist_model::event::EventCode;
use tanist_model::id::{AgentName, RunId};
use tanist_model::quantity::count;
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::RunRecord;
use tanist_model::work::RunWork;

use super::ServerMachine;
use crate::message::{Heartbeat, RoleReport, RunProgress};

impl ServerMachine {
    /// What the last beat of the holder says of this run.
    pub(super) fn reported_progress<'a>(
        &'a self,
        record: &'a ReplicationRecord,
        run: RunId,
    ) -> Option<&'a RunProgress> {
        let (_, session) = self.holder_session(record)?;
        let role = session.roles.get(&record.id)?;
        let is_of_it = role.epochs.same_holder(record.epochs) && role.run == Some(run);
        role.progress.as_ref().filter(|_| is_of_it)
    }

    /// The run with what its holder says that it has done for it. Whoever puts a run into the store puts this.
    pub(super) fn with_reported_work(&self, record: &ReplicationRecord, run: RunRecord) -> RunRecord {
        let reported = self.reported_progress(record, run.id).map(|progress| progress.work);
        Self::with_work(record, run, reported.unwrap_or_default())
    }

    pub(super) fn with_work(record: &ReplicationRecord, mut run: RunRecord, work: RunWork) -> RunRecord {
        run.work.note(record.epochs.target, work);
        run
    }

    /// Counts the late frames that holders have refused since their last beats.
    pub(super) fn note_late_frames(&mut self, agent: &AgentName, beat: &Heartbeat) {
        for role in beat.roles.iter().filter(|role| role.late.refused > 0) {
            if self.is_current(agent, role.replication, role.epochs) {
                self.count_late_frames(agent, role);
            }
        }
    }

    fn count_late_frames(&mut self, agent: &AgentName, role: &RoleReport) {
        let Some(record) = self.state.replications.get(&role.replication).cloned() else { return };
        let Some(refused) = record.refused.with(role.epochs.target, role.late.refused) else { return };
        let more = count(refused.total - record.refused.total, "frame");
        let message = format!("agent {agent} refused {more} that came late; the last because {}", role.late.why);
        let event = self.event_of(&record, Some(agent), EventCode::LateFramesRefused, message);
        let next = ReplicationRecord { refused, ..record.clone() };
        self.commit_current(&record, vec![event, Change::PutReplication(Box::new(next))], Vec::new());
    }
}
