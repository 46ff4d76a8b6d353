//! Epochs that an agent shows and the store does not know: whether its present process was granted them decides who can prove them quiet.

use tanist_model::event::EventCode;
use tanist_model::id::{Epoch, Epochs, Incarnation};
use tanist_protocol::message::{AgentMessage, Hello, ServerMessage};
use tanist_protocol::server::{Effect, Input, ServerMachine};

use crate::world::{DB, at, connect_with, db, hello, process, say_at, seen, server, state};

const LOST: Epochs = Epochs { source: Epoch(5), target: Epoch(5) };

/// h2 shows an epoch that the store has lost; whether it was this process that was granted it.
fn shown(here: bool) -> ServerMachine {
    let mut machine = server(state(db()));
    let granted = vec![(DB, LOST)];
    let granted_here = if here { granted.clone() } else { Vec::new() };
    let hello = Hello { granted, granted_here, ..hello("h2", process("h2")) };
    let said = connect_with(&mut machine, at(10), "h2", 2, hello);
    assert!(said.events().contains(&EventCode::StoreRolledBack), "{:?}", said.events());
    machine
}

fn holder_of_the_lost_epoch(machine: &ServerMachine) -> Option<Incarnation> {
    let unproven = &machine.state().replications[&DB].unproven;
    unproven.iter().find(|epoch| epoch.epoch == LOST.target).map(|epoch| epoch.incarnation)
}

/// Nobody has to vouch for a process that lives, and nobody can: it is asked.
#[test]
fn a_living_process_says_itself_that_its_lost_epoch_is_over() {
    let mut machine = shown(true);
    assert_eq!(holder_of_the_lost_epoch(&machine), Some(process("h2")));
    let output = seen(machine.handle(at(600), Input::Tick));
    let beat = say_at(&mut machine, at(700), "h2", 2, crate::world::well(&["h1"]));
    let asked = |seen: &crate::world::Seen| {
        seen.effects().iter().any(|effect| {
            matches!(effect, Effect::Send { message: ServerMessage::StepDown { stamp }, .. } if stamp.epochs.same_holder(LOST))
        })
    };
    assert!(asked(&output) || asked(&beat), "it is asked for the end of that epoch");
    say_at(&mut machine, at(710), "h2", 2, AgentMessage::Drained { replication: DB, epochs: LOST });
    assert_eq!(holder_of_the_lost_epoch(&machine), None, "proven quiet");
}

#[test]
fn of_an_earlier_process_the_present_one_proves_nothing() {
    let mut machine = shown(false);
    assert_eq!(holder_of_the_lost_epoch(&machine), Some(Incarnation(0)));
    say_at(&mut machine, at(710), "h2", 2, AgentMessage::Drained { replication: DB, epochs: LOST });
    assert_eq!(holder_of_the_lost_epoch(&machine), Some(Incarnation(0)));
}
