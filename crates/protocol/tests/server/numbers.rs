//! Many agents: what one of them does costs those it has something to do with, and nobody else.

use tanist_model::enrolment::{JoinToken, SecretHash};
use tanist_model::id::CommandId;
use tanist_protocol::message::ServerMessage;
use tanist_protocol::server::command::IssuedCertificate;
use tanist_protocol::server::{Command, Effect, Input, ServerMachine};

use crate::world::{Seen, at, connect, db, member, name, process, seen, server, state};

/// Who is told what to watch.
fn told(seen: &Seen) -> Vec<String> {
    let watcher = |effect: &'_ Effect| match effect {
        Effect::Send { agent, message: ServerMessage::Watch { .. }, .. } => Some(agent.to_string()),
        _ => None,
    };
    let mut told: Vec<String> = seen.effects().into_iter().filter_map(watcher).collect();
    told.sort_unstable();
    told
}

#[test]
fn who_comes_is_told_to_its_peers_and_to_nobody_else() {
    let mut machine = server(state(db()));
    assert_eq!(told(&connect(&mut machine, "h3", process("h3"), 3, 0)), ["h3"]);
    assert_eq!(told(&connect(&mut machine, "h1", process("h1"), 1, 0)), ["h1"]);
    // h1 and h2 stand by one replication, h3 by none.
    assert_eq!(told(&connect(&mut machine, "h2", process("h2"), 2, 0)), ["h1", "h2"]);
    assert_eq!(told(&connect(&mut machine, "h3", process("h3"), 4, 0)), ["h3"]);
}

#[test]
fn more_agents_can_join_than_a_reservation_key_has_numbers() {
    let mut first = state(db());
    first.agents.insert(name("h255"), member("h255", 255));
    let mut machine = server(first);
    for number in 256..260 {
        join(&mut machine, &format!("h{number}"));
    }
    let numbers: Vec<u32> = (256..260).map(|n| machine.state().agents[&name(&format!("h{n}"))].slot.0).collect();
    assert_eq!(numbers, [256, 257, 258, 259]);
}

fn join(machine: &mut ServerMachine, agent: &str) {
    let hash = SecretHash(agent.to_owned());
    let token = JoinToken {
        hash: hash.clone(),
        agent: name(agent),
        created_at: at(0).wall,
        expires_at: at(60_000).wall,
        used_at: None,
        created_by: "op".to_owned(),
    };
    let issued = IssuedCertificate { serial: "02".to_owned(), expires_at: at(60_000).wall, pem: String::new() };
    let admit = Command::Admit { token: hash, agent: name(agent), issued };
    for command in [Command::CreateToken { token }, admit] {
        let id = CommandId(machine.state().commands.len() as u128 + 1);
        let actor = "op".to_owned();
        seen(machine.handle(at(10), Input::Command { id, actor, command: Box::new(command) }));
    }
}
