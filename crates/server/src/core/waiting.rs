//! Who waits for the answer to which command.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tanist_model::api::Refusal;
use tanist_model::id::CommandId;
use tanist_protocol::server::Answer;

use super::handle::Reply;

/// The commands under way.
#[derive(Debug, Default)]
pub struct Waiting(HashMap<CommandId, Vec<Reply>>);

impl Waiting {
    /// Adds somebody who waits; false if the same command is under way already and must not be decided twice.
    pub fn add(&mut self, id: CommandId, reply: Reply) -> bool {
        match self.0.entry(id) {
            Entry::Occupied(mut others) => {
                others.get_mut().push(reply);
                false
            }
            Entry::Vacant(first) => {
                first.insert(vec![reply]);
                true
            }
        }
    }

    /// Answers everybody who waits for this command, if anybody still does.
    pub fn answer(&mut self, id: CommandId, answer: Result<Answer, Refusal>) {
        for reply in self.0.remove(&id).unwrap_or_default() {
            // Whoever asked may be gone by now; the result is in the store.
            let _ = reply.send(answer.clone());
        }
    }

    /// Forgets commands for which nobody waits any more.
    pub fn forget_gone(&mut self) {
        self.0.retain(|_, replies| replies.iter().any(|reply| !reply.is_closed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_model::api::RefusalCode;
    use tokio::sync::oneshot;

    #[test]
    fn the_same_command_twice_is_decided_once_and_answered_twice() {
        let mut waiting = Waiting::default();
        let ((one, mut first), (two, mut second)) = (oneshot::channel(), oneshot::channel());
        assert!(waiting.add(CommandId(1), one));
        assert!(!waiting.add(CommandId(1), two));
        waiting.answer(CommandId(1), Err(Refusal::new(RefusalCode::Conflict, "no")));
        assert_eq!(first.try_recv().unwrap(), second.try_recv().unwrap());
    }

    #[test]
    fn those_who_left_are_forgotten() {
        let mut waiting = Waiting::default();
        let (reply, gone) = oneshot::channel();
        waiting.add(CommandId(1), reply);
        drop(gone);
        waiting.forget_gone();
        let (reply, _stays) = oneshot::channel();
        assert!(waiting.add(CommandId(1), reply));
    }
}
