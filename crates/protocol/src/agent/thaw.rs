//! The word that a host application is thawed: said until the server has it on record, also for an earlier process.

use tanist_model::application::ThawReport;
use tanist_model::id::SnapshotId;

use super::{AgentMachine, Effect};
use crate::message::AgentMessage;

impl AgentMachine {
    /// A later report of an attempt replaces an earlier one: what could not be thawed is tried again.
    pub(super) fn on_thawed(&mut self, report: ThawReport) {
        self.thaws.insert(report.attempt, (report.clone(), self.now.monotonic));
        self.send(AgentMessage::Thawed(Box::new(report)));
    }

    /// A word of failure that is on record says nothing of the success after it.
    pub(super) fn handle_thaw_noted(&mut self, attempt: SnapshotId, thawed: bool) {
        let noted = |(report, _): &(ThawReport, _)| report.failure.is_none() == thawed;
        if self.thaws.get(&attempt).is_some_and(noted) {
            self.thaws.remove(&attempt);
            if thawed {
                self.out.perform(Effect::ForgetMark { attempt });
            }
        }
    }

    pub(super) fn resend_thaws(&mut self) {
        let (now, pause) = (self.now.monotonic, self.timers.resend);
        let mut words = Vec::new();
        for (report, said) in self.thaws.values_mut().filter(|(_, said)| now.since(*said) >= pause) {
            *said = now;
            words.push(AgentMessage::Thawed(Box::new(report.clone())));
        }
        words.into_iter().for_each(|word| self.send(word));
    }
}
