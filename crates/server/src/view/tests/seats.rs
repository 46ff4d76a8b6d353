//! The two sides of a replication: who reads, who writes, and what is said when the reader is lost.

use tanist_model::api::{Health, ReplicationView, SideView};
use tanist_model::event::{Event, EventCode};
use tanist_model::hierarchy::Hierarchy;
use tanist_model::id::{AgentName, Epoch, Epochs, EventSeq, Incarnation};
use tanist_model::replication::{Reader, ReplicationRecord, Side, SideRecord};
use tanist_model::run::RunState;
use tanist_model::stage::{Stage, StageUse};
use tanist_protocol::message::{AgentMessage, Heartbeat, RoleReport, RunProgress};
use tanist_protocol::server::{ConnectionId, Input, ServerMachine};

use super::super::replication::{replication, verdict};
use super::super::{agents, gauges, history};
use super::{ID, NOON, RUN, at, beat, machine, name, record, run, side, state};

/// h2 reads the source for h1, which stands for the target alone.
fn networked() -> ReplicationRecord {
    let hierarchy = |agents: &[&str]| Hierarchy::new(agents.iter().map(|agent| name(agent)).collect()).unwrap();
    ReplicationRecord {
        source: SideRecord { hierarchy: hierarchy(&["h2"]), ..side("san-a/vol1") },
        target: SideRecord { hierarchy: hierarchy(&["h1"]), ..side("san-b/vol9") },
        epochs: Epochs { source: Epoch(4), target: Epoch(1) },
        reader: Some(Reader { agent: name("h2"), incarnation: Incarnation(2), granted_at: NOON }),
        ..record()
    }
}

/// Form, and of the source and the target: who acts, under which epoch, and the roles by rank.
type Seats = (String, Vec<(Option<AgentName>, Epoch, Vec<String>)>);

fn seats(view: &ReplicationView) -> Seats {
    let roles = |side: &SideView| side.agents.iter().map(|a| format!("{} {}", a.agent, a.role)).collect();
    (view.form.clone(), view.sides.iter().map(|side| (side.acting.clone(), side.epoch, roles(side))).collect())
}

#[test]
fn each_side_says_who_reads_and_who_writes() {
    let direct = machine(state(record()));
    let (h1, one) = (Some(name("h1")), Epoch(1));
    let roles = vec!["h1 acting".to_owned(), "h2 ready".to_owned()];
    let expected = ("direct".to_owned(), vec![(h1.clone(), one, roles.clone()), (h1.clone(), one, roles)]);
    assert_eq!(seats(&replication(&direct, &direct.state().replications[&ID])), expected);

    let with_reader = machine(state(networked()));
    let (reads, writes) = (vec!["h2 reader".to_owned()], vec!["h1 holder".to_owned()]);
    let expected =
        ("networked".to_owned(), vec![(Some(name("h2")), Epoch(4), reads), (h1.clone(), one, writes.clone())]);
    let view = replication(&with_reader, &with_reader.state().replications[&ID]);
    assert_eq!(seats(&view), expected);
    assert_eq!((view.acting, view.health), (h1.clone(), Health::Ok), "{}", view.summary);

    let without_reader = machine(state(ReplicationRecord { reader: None, ..networked() }));
    let expected = ("networked".to_owned(), vec![(None, Epoch(4), vec!["h2 ready".to_owned()]), (h1, one, writes)]);
    assert_eq!(seats(&replication(&without_reader, &without_reader.state().replications[&ID])), expected);
}

#[test]
fn whoever_reads_for_another_is_listed_as_such() {
    let machine = machine(state(networked()));
    let listed = agents::agents(&machine);
    let counts = |at: usize| (listed[at].acting_for.len(), listed[at].reading_for.len(), listed[at].failover_for.len());
    assert_eq!((counts(0), counts(1)), ((1, 0, 0), (0, 1, 0)));
    let gauges = gauges::gauges(&machine);
    assert_eq!((gauges.replications[0].source_epoch, gauges.replications[0].has_reader), (4, true));
}

/// What two agents say of the stages of a run: the source of h2 has all the time it wants, and the target of h1 never stands still.
#[test]
fn the_limit_of_a_networked_run_is_found_from_what_both_sides_say() {
    let of = |stage, [worked_permille, input_permille, output_permille]: [u16; 3]| StageUse {
        stage,
        worked_permille,
        input_permille,
        output_permille,
        queued_bytes: 0,
        queue_limit_bytes: 0,
    };
    let reads = vec![of(Stage::Source, [100, 0, 890]), of(Stage::Network, [990, 5, 0])];
    let writes = vec![of(Stage::Network, [0, 40, 950]), of(Stage::Target, [980, 10, 0])];
    let mut state = state(ReplicationRecord { run: Some(RUN), target_dirty: Some(RUN), ..networked() });
    state.runs.insert((ID, RUN), run(RunState::Copying));
    let mut machine = machine(state);
    for (number, side, stages) in [(1, Side::Target, writes), (2, Side::Source, reads)] {
        let message = working_beat(number, side, stages);
        let (agent, connection) = (name(&format!("h{number}")), ConnectionId(number.into()));
        machine.handle(at(10), Input::Message { agent, connection, message });
    }
    let shown = replication(&machine, &machine.state().replications[&ID]).run.unwrap();
    assert_eq!(shown.limit.as_deref(), Some("target"), "{:?}", shown.stages);
    let stages: Vec<_> = shown.stages.iter().map(|one| (one.stage, one.worked_permille)).collect();
    assert_eq!(stages, [(Stage::Source, 100), (Stage::Network, 40), (Stage::Target, 980)]);
    assert_eq!(gauges::gauges(&machine).replications[0].stages, shown.stages);
}

/// The beat of an agent that works on the run on this side.
fn working_beat(number: u32, side: Side, stages: Vec<StageUse>) -> AgentMessage {
    let (AgentMessage::Heartbeat(own), AgentMessage::Heartbeat(role)) = (beat(number.into()), beat(1)) else {
        unreachable!("a beat is a heartbeat")
    };
    // The holder has its place since before this reader.
    let epochs = if side == Side::Source { networked().epochs } else { role.roles[0].epochs };
    let progress = role.roles[0].progress.clone().map(|progress| RunProgress { stages, ..progress });
    let role = RoleReport { side, epochs, progress, ..role.roles[0].clone() };
    AgentMessage::Heartbeat(Heartbeat { roles: vec![role], ..own })
}

/// A run is in progress; the agent that reads has lost its connection, and the server has looked at what that means.
fn cut_off(record: ReplicationRecord) -> ServerMachine {
    let mut state = state(ReplicationRecord { run: Some(RUN), target_dirty: Some(RUN), ..record });
    state.runs.insert((ID, RUN), run(RunState::Copying));
    let mut machine = machine(state);
    let (agent, connection) = (name("h2"), ConnectionId(2));
    machine.handle(at(10), Input::Disconnected { agent, connection, reason: "reset".into() });
    machine.handle(at(10), Input::Message { agent: name("h1"), connection: ConnectionId(1), message: resting_beat() });
    machine.handle(at(10), Input::Tick);
    machine
}

/// h1 acts, works on no run, and reaches the target alone.
fn resting_beat() -> AgentMessage {
    let AgentMessage::Heartbeat(mut heartbeat) = beat(1) else { unreachable!("a beat is a heartbeat") };
    heartbeat.roles.iter_mut().for_each(|role| (role.run, role.progress) = (None, None));
    heartbeat.canaries[0].result = Err("no path".into());
    AgentMessage::Heartbeat(heartbeat)
}

#[test]
fn a_source_that_nobody_can_read_stops_a_run() {
    let machine = cut_off(ReplicationRecord { reader: None, ..networked() });
    let view = replication(&machine, &machine.state().replications[&ID]);
    assert_eq!(view.health, Health::Stopped, "{}", view.summary);
    assert_eq!(view.summary, "no agent can read the source (h2: it is not connected: reset)");
    assert_eq!(view.next.as_deref(), Some("tanist replication check db"));
    assert!(view.waits_for.is_some_and(|what| what.contains("able to read it")));
}

#[test]
fn a_reader_that_is_suspected_is_a_finding() {
    let machine = cut_off(networked());
    let found = verdict(&machine, &machine.state().replications[&ID]);
    assert_eq!(found.health, Health::Degraded);
    assert!(found.summary.starts_with("agent h2, which reads the source, is suspected"), "{}", found.summary);
}

#[test]
fn the_log_tells_of_the_readers_near_a_time() {
    let event = |seconds: u64, code: EventCode| Event {
        seq: EventSeq(seconds),
        at: at(seconds).wall,
        code,
        severity: code.severity(),
        replication: None,
        agent: None,
        actor: "server".into(),
        message: String::new(),
    };
    let log: Vec<Event> = (0..20).map(|n| event(n * 100, EventCode::ReaderGranted)).collect();
    let with_others = [log.clone(), vec![event(1950, EventCode::RunPublished)]].concat();
    let seen = |created: u64, asked: Option<u64>| {
        let readers = history::readers(with_others.clone(), at(created).wall, asked.map(|seconds| at(seconds).wall));
        readers.iter().map(|event| event.seq.0).collect::<Vec<_>>()
    };
    assert_eq!(seen(0, None), (12..20).map(|n| n * 100).collect::<Vec<_>>(), "the latest ones");
    assert_eq!(seen(0, Some(1000)), (7..14).map(|n| n * 100).collect::<Vec<_>>());
    assert_eq!(seen(1750, None), [1800, 1900], "nothing of an earlier replication of that name");
}
