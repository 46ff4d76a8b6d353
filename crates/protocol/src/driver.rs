//! The one interpreter of outputs: first durable, then said.
//!
//! A machine returns an [`Output`]; the interpreter turns it into [`Step`]s and does not hand out an effect before the commit
//! it rests on has succeeded. It does no I/O itself: the server's loop, the agent's loop and the simulator carry the steps out, and
//! the simulator stops between any two of them.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use tanist_model::change::{Group, GroupOutcome, Transaction};
use tanist_model::id::Term;

use crate::mutation::{Mutation, Mutations};

/// One decision: what must be durable (if anything), and what may be done once it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision<E> {
    pub group: Option<Group>,
    pub after: Vec<E>,
}

/// What a machine decided on one input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Output<E> {
    decisions: Vec<Decision<E>>,
}

impl<E> Default for Output<E> {
    fn default() -> Self {
        Self { decisions: Vec::new() }
    }
}

impl<E> Output<E> {
    /// An effect that rests on nothing new.
    pub fn perform(&mut self, effect: E) {
        self.decisions.push(Decision { group: None, after: vec![effect] });
    }

    /// Effects that rest on a commit.
    pub fn commit(&mut self, group: Group, after: Vec<E>) {
        self.decisions.push(Decision { group: Some(group), after });
    }

    /// Appends what was decided on the next input: both are committed in one transaction.
    pub fn extend(&mut self, other: Self) {
        self.decisions.extend(other.decisions);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.decisions.is_empty()
    }

    /// The same decisions with other effects in the place of these.
    #[must_use]
    pub fn map(self, mut change: impl FnMut(E) -> E) -> Self {
        let changed =
            |d: Decision<E>| Decision { group: d.group, after: d.after.into_iter().map(&mut change).collect() };
        Self { decisions: self.decisions.into_iter().map(changed).collect() }
    }

    #[must_use]
    pub fn decisions(&self) -> &[Decision<E>] {
        &self.decisions
    }
}

/// What to carry out next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<E> {
    /// Commit this, then call [`Interpreter::committed`] or [`Interpreter::commit_failed`].
    Commit(Transaction),
    Perform(E),
}

/// Carries out one output, step by step.
#[derive(Clone, Debug)]
pub struct Interpreter<E> {
    waiting: Vec<Decision<E>>,
    effects: VecDeque<E>,
    transaction: Option<Transaction>,
    stale: bool,
    mutations: Mutations,
}

impl<E: Clone> Interpreter<E> {
    #[must_use]
    pub fn new(mutations: Mutations) -> Self {
        Self { waiting: Vec::new(), effects: VecDeque::new(), transaction: None, stale: false, mutations }
    }

    /// Takes an output to carry out. The last one must have been carried out.
    pub fn load(&mut self, term: Term, output: Output<E>) {
        debug_assert!(self.waiting.is_empty() && self.effects.is_empty());
        let groups: Vec<Group> = output.decisions.iter().filter_map(|d| d.group.clone()).collect();
        if self.mutations.breaks(Mutation::PersistAfterSend) && !groups.is_empty() {
            self.effects.extend(output.decisions.iter().flat_map(|d| d.after.iter().cloned()));
            self.waiting =
                output.decisions.into_iter().map(|d| Decision { group: d.group, after: Vec::new() }).collect();
        } else if groups.is_empty() {
            self.effects.extend(output.decisions.into_iter().flat_map(|d| d.after));
        } else {
            self.waiting = output.decisions;
        }
        self.transaction = (!groups.is_empty()).then_some(Transaction { term, groups });
    }

    /// The next step; `None` when the output is carried out.
    pub fn next_step(&mut self) -> Option<Step<E>> {
        if let Some(effect) = self.effects.pop_front() {
            return Some(Step::Perform(effect));
        }
        self.transaction.take().map(Step::Commit)
    }

    /// The commit succeeded; each group has its own outcome. What rests on a refused group is not done.
    pub fn committed(&mut self, outcomes: &[GroupOutcome]) {
        let any_refused = outcomes.contains(&GroupOutcome::Refused);
        let mut outcome = outcomes.iter();
        for decision in std::mem::take(&mut self.waiting) {
            let stands = match decision.group {
                Some(_) => outcome.next() == Some(&GroupOutcome::Applied),
                // It may rest on what the machine believed committed; with a refusal among the rest, that is in doubt.
                None => !any_refused,
            };
            if stands {
                self.effects.extend(decision.after);
            }
        }
        self.stale |= any_refused;
    }

    /// The commit failed: nothing that was decided with it is done. Everything is decided again from the store.
    pub fn commit_failed(&mut self) {
        self.waiting.clear();
        self.effects.clear();
        self.stale = true;
    }

    /// True once if the machine's mirror of the store is no longer to be believed and must be loaded anew.
    pub fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_model::change::Condition;

    fn group() -> Group {
        Group { condition: Condition::Term, changes: Vec::new() }
    }

    #[test]
    fn an_effect_waits_for_its_commit() {
        let mut output = Output::default();
        output.commit(group(), vec!["ack"]);
        let mut interpreter = Interpreter::new(Mutations::NONE);
        interpreter.load(Term(1), output);
        assert!(matches!(interpreter.next_step(), Some(Step::Commit(_))));
        assert_eq!(interpreter.next_step(), None);
        interpreter.committed(&[GroupOutcome::Applied]);
        assert_eq!(interpreter.next_step(), Some(Step::Perform("ack")));
    }

    #[test]
    fn a_refused_group_drops_only_its_own_effects_and_the_doubtful_ones() {
        let mut output = Output::default();
        output.commit(group(), vec!["a"]);
        output.commit(group(), vec!["b"]);
        output.perform("doubtful");
        let mut interpreter = Interpreter::new(Mutations::NONE);
        interpreter.load(Term(1), output);
        interpreter.next_step();
        interpreter.committed(&[GroupOutcome::Refused, GroupOutcome::Applied]);
        assert_eq!(interpreter.next_step(), Some(Step::Perform("b")));
        assert_eq!(interpreter.next_step(), None);
        assert!(interpreter.take_stale());
    }

    #[test]
    fn a_failed_commit_says_nothing() {
        let mut output = Output::default();
        output.commit(group(), vec!["a"]);
        output.perform("b");
        let mut interpreter = Interpreter::new(Mutations::NONE);
        interpreter.load(Term(1), output);
        interpreter.next_step();
        interpreter.commit_failed();
        assert_eq!(interpreter.next_step(), None);
        assert!(interpreter.take_stale());
    }

    #[cfg(feature = "mutations")]
    #[test]
    fn the_mutation_says_before_it_is_durable() {
        let mut output = Output::default();
        output.commit(group(), vec!["ack"]);
        let mut interpreter = Interpreter::new(Mutations::breaking(Mutation::PersistAfterSend));
        interpreter.load(Term(1), output);
        assert_eq!(interpreter.next_step(), Some(Step::Perform("ack")));
    }
}
