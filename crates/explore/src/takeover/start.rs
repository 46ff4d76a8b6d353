//! The first state of a world: agents that have joined and come, and a replication that an operator has created, all by the machines
//! themselves and with nothing going wrong.

use tanist_model::api::CreateReplication;
use tanist_model::policy::Policy;
use tanist_protocol::server::Command;
use tanist_sim::server_shell::first_state;

use super::Bounds;
use super::checks::Ledger;
use super::shared::Shared;
use super::steps::Action;
use super::storage::Storage;
use super::world::{Agent, World, name_of, replication_name, volume};

/// More steps than any beginning takes.
const STEPS: usize = 1000;

impl Bounds {
    /// The state from which everything is explored; `None` if the machines do not get there.
    pub fn begin(&self) -> Option<World> {
        let names: Vec<_> = (0..self.agents).filter_map(name_of).collect();
        let agent = Agent { boot: 0, started: 0, dialled: 0, remembered: Vec::new(), process: None, corpse: None };
        let mut world = World {
            pauses: 0,
            store: Shared::new(first_state(&names)),
            servers: Vec::new(),
            agents: vec![agent; self.agents],
            connections: Vec::new(),
            storage: Storage::new(self.blocks, self.lock_beside),
            echoes: Vec::new(),
            ledger: Shared::new(Ledger::default()),
            left: super::Left::default(),
            reached: true,
            commands: 0,
            violation: None,
        };
        self.begin_server(&mut world)?;
        (0..self.agents).try_for_each(|agent| self.start_agent(&mut world, agent))?;
        self.settle(&mut world, |_| false)?;
        let create = CreateReplication {
            name: replication_name()?,
            source: volume("a")?,
            target: volume("b")?,
            agents: names,
            policy: Policy::default(),
            overwrite_target: true,
            once: false,
            restore: None,
        };
        self.command(&mut world, Command::Create(create))?;
        let from_the_start = self.from_the_start;
        self.settle(&mut world, |world| from_the_start && world.replication().is_some())?;
        world.left = self.left;
        self.ask_for_run(&mut world)?;
        world.left = self.left;
        world.replication().map(|_| ())?;
        Some(world)
    }

    /// Whatever comes first happens, until nothing is left to happen or the end is reached.
    fn settle(&self, world: &mut World, end: impl Fn(&World) -> bool) -> Option<()> {
        for _ in 0..STEPS {
            let mut actions = Vec::new();
            self.possible(world, &mut actions);
            let next = actions.into_iter().find(|action| !matches!(action, Action::ToAgent { reached: false, .. }));
            let Some(next) = next.filter(|_| !end(world)) else { return Some(()) };
            *world = self.after(world, next)?;
        }
        None
    }
}
