//! How long an agent may be silent before it is nobody's successor: whoever beats fast, less.

use tanist_model::replication::Side;
use tanist_protocol::message::{AgentMessage, FenceReport, Heartbeat, LateFrames, RoleReport, RoleState};
use tanist_protocol::server::Input;

use crate::world::{DB, FIRST, at, connect_at, db, name, process, say_at, server_at, state, well};

/// It beats as fast as one that acts: a stopped reader must not be granted its own place again until it is silent for longer.
#[test]
fn a_reader_that_is_silent_long_enough_to_be_suspected_is_nobodys_successor() {
    for (side, silent) in [(Side::Source, true), (Side::Target, false)] {
        let mut machine = server_at(state(db()), at(0));
        connect_at(&mut machine, at(0), ("h1", process("h1")), 1, 0);
        let role = RoleReport {
            replication: DB,
            side,
            epochs: FIRST,
            state: RoleState::Fenced,
            fence: FenceReport::default(),
            run: None,
            stream: None,
            progress: None,
            late: LateFrames::default(),
        };
        let AgentMessage::Heartbeat(beat) = well(&["h2"]) else { unreachable!("a beat") };
        let beat = AgentMessage::Heartbeat(Heartbeat { roles: vec![role], ..beat });
        say_at(&mut machine, at(1000), "h1", 1, beat);
        machine.handle(at(2100), Input::Tick);
        let why = machine.why_ineligible_for(&machine.state().replications[&DB], &name("h1"), Side::Source);
        assert_eq!(why.as_deref() == Some("it has been silent for 1100 ms"), silent, "{why:?}");
    }
}
