//! The two machines as something that can be recorded: the same inputs, at the same times, from the same state, and nothing else.

use std::borrow::Cow;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tanist_model::state::State;
use tanist_model::time::Now;
use tanist_protocol::agent::{self, AgentMachine, ReaderCommand};
use tanist_protocol::driver::Output;
use tanist_protocol::message::{ReadOrder, ServerMessage};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::server::{self, ServerMachine, Superseded};

/// Whose machine it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Server,
    Agent,
}

/// A machine whose decisions follow from its state and its inputs alone.
pub trait Machine: Clone + Serialize + DeserializeOwned + Send + 'static {
    const ROLE: Role;
    type Input: Clone + Serialize + DeserializeOwned;
    type Effect: Clone + Serialize + DeserializeOwned;

    fn decide(&mut self, now: Now, input: Self::Input) -> Output<Self::Effect>;

    /// The same machine in a test build that breaks a rule.
    #[must_use]
    fn breaking(self, mutations: Mutations) -> Self;

    /// Takes the store's word in place of what it believed. Only a server has a store.
    ///
    /// # Errors
    /// The store is another server's now.
    fn take_over_state(&mut self, state: State) -> Result<(), Superseded>;

    /// The input without what permits something to whoever has it.
    fn conceal_input(input: &Self::Input) -> Cow<'_, Self::Input>;

    /// The output of a machine, without the same.
    fn conceal_output(output: &Output<Self::Effect>) -> Cow<'_, Output<Self::Effect>>;
}

impl Machine for ServerMachine {
    const ROLE: Role = Role::Server;
    type Input = server::Input;
    type Effect = server::Effect;

    fn decide(&mut self, now: Now, input: server::Input) -> Output<server::Effect> {
        self.handle(now, input)
    }

    fn breaking(self, mutations: Mutations) -> Self {
        self.with_mutations(mutations)
    }

    fn take_over_state(&mut self, state: State) -> Result<(), Superseded> {
        self.reload(state)
    }

    /// Secrets reach the server's machine as hashes, and what it permits is signed only when it leaves the shell.
    fn conceal_input(input: &server::Input) -> Cow<'_, server::Input> {
        Cow::Borrowed(input)
    }

    fn conceal_output(output: &Output<server::Effect>) -> Cow<'_, Output<server::Effect>> {
        Cow::Borrowed(output)
    }
}

/// In place of a permission. The agent's machine hands a permission on and does not look into it, so it decides the same.
const CONCEALED: &str = "concealed";

impl Machine for AgentMachine {
    const ROLE: Role = Role::Agent;
    type Input = agent::Input;
    type Effect = agent::Effect;

    fn decide(&mut self, now: Now, input: agent::Input) -> Output<agent::Effect> {
        self.handle(now, input)
    }

    fn breaking(self, mutations: Mutations) -> Self {
        self.with_mutations(mutations)
    }

    /// An agent's machine has no store: there is nothing to believe instead.
    fn take_over_state(&mut self, _: State) -> Result<(), Superseded> {
        Ok(())
    }

    fn conceal_input(input: &agent::Input) -> Cow<'_, agent::Input> {
        let permits = |input: &agent::Input| matches!(input, agent::Input::Message(ServerMessage::Read { order, .. }) if matches!(**order, ReadOrder::Send { .. }));
        if !permits(input) {
            return Cow::Borrowed(input);
        }
        let mut input = input.clone();
        if let agent::Input::Message(ServerMessage::Read { order, .. }) = &mut input
            && let ReadOrder::Send { grant, .. } = &mut **order
        {
            CONCEALED.clone_into(grant);
        }
        Cow::Owned(input)
    }

    fn conceal_output(output: &Output<agent::Effect>) -> Cow<'_, Output<agent::Effect>> {
        let permits = |effect: &agent::Effect| {
            matches!(effect, agent::Effect::Reader { command: ReaderCommand::Send { .. }, .. })
        };
        if !output.decisions().iter().flat_map(|decision| &decision.after).any(permits) {
            return Cow::Borrowed(output);
        }
        Cow::Owned(output.clone().map(|mut effect| {
            if let agent::Effect::Reader { command: ReaderCommand::Send { grant, .. }, .. } = &mut effect {
                CONCEALED.clone_into(grant);
            }
            effect
        }))
    }
}
