//! A machine that nothing reaches unrecorded.

use std::ops::Deref;

use tanist_model::state::State;
use tanist_model::time::Now;
use tanist_protocol::driver::Output;
use tanist_protocol::server::Superseded;

use crate::entry::{At, ReloadLine, StepLine};
use crate::machine::Machine;
use crate::writer::Recorder;

/// A machine and its recorder.
#[derive(Debug)]
pub struct Recorded<M> {
    machine: M,
    recorder: Recorder,
}

impl<M> Deref for Recorded<M> {
    type Target = M;
    fn deref(&self) -> &M {
        &self.machine
    }
}

impl<M: Machine> Recorded<M> {
    #[must_use]
    pub fn new(machine: M, recorder: Recorder) -> Self {
        Self { machine, recorder }
    }

    #[cfg(test)]
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Has the machine decide on an input.
    pub fn handle(&mut self, now: Now, input: M::Input) -> Output<M::Effect> {
        if !self.recorder.is_ready(&self.machine, now) {
            return self.machine.decide(now, input);
        }
        // Written down before: the machine takes the input with it.
        let given = serde_json::value::to_raw_value(M::conceal_input(&input).as_ref());
        let output = self.machine.decide(now, input);
        let concealed = M::conceal_output(&output);
        let output_said = (!concealed.is_empty()).then_some(concealed.as_ref());
        let line = given
            .and_then(|input| serde_json::to_vec(&StepLine { at: At::from(now), input: &input, output: output_said }));
        self.recorder.push(line);
        drop(concealed);
        output
    }

    /// Has the machine take the store's word.
    ///
    /// # Errors
    /// The store is another server's now.
    pub fn reload(&mut self, now: Now, state: State) -> Result<(), Superseded> {
        if self.recorder.is_ready(&self.machine, now) {
            let state = state.clone();
            self.recorder.push_later(move || serde_json::to_vec(&ReloadLine { reload: &state }));
        }
        self.machine.take_over_state(state)
    }
}
