//! Recording under a real machine: rotation, the bound, a killed process, a disk that refuses.

use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use tanist_model::id::{
    AgentName, ClusterId, Epoch, Epochs, HostIdentity, Incarnation, ReplicationId, RunId, SnapshotId, Term,
};
use tanist_model::policy::{SourceMode, StreamCount};
use tanist_model::run::{BoundSnapshot, RunMethod};
use tanist_model::state::State;
use tanist_model::time::{Monotonic, Now, Timestamp};
use tanist_protocol::agent::{AgentIdentity, AgentMachine, Effect, Input, ReaderCommand};
use tanist_protocol::message::{OrderNumber, PeerAddress, ReadAssignment, ReadOrder, ServerMessage, Stamp, StreamKey};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::server::{self, ServerMachine};
use tanist_protocol::timers::Timers;

use super::{LEAST_LIMIT, Recorder, Settings};
use crate::bundle::BundleWriter;
use crate::folder::{Folder, unpacked};
use crate::machine::Role;
use crate::recorded::Recorded;
use crate::replay::{ReplayError, Replayed, replay};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn at(step: u64) -> Now {
    Now {
        monotonic: Monotonic(step * 50_000),
        wall: Timestamp(1_700_000_000_000_000 + i64::try_from(step).unwrap() * 50_000),
    }
}

fn machine() -> AgentMachine {
    let identity = AgentIdentity {
        name: "h1".parse::<AgentName>().unwrap(),
        incarnation: Incarnation(7),
        host: HostIdentity { machine_id: "m".to_owned(), boot_id: "b".to_owned() },
        version: VERSION.to_owned(),
        io: None,
        listen_address: None,
        granted: vec![(ReplicationId(1), Epochs { source: Epoch(1), target: Epoch(2) })],
        granted_here: Vec::new(),
    };
    AgentMachine::new(identity, Timers::DEFAULT, 42, Mutations::NONE, at(0))
}

fn recorder(directory: &Path, limit_bytes: u64) -> Recorder {
    Recorder::start(Settings { folder: Folder::of(directory), limit_bytes, version: VERSION })
}

/// A connected agent that beats, with something to tell in between.
fn live(machine: &mut Recorded<AgentMachine>, steps: std::ops::Range<u64>) {
    let (storage, volumes, applications) = (Vec::new(), Vec::new(), Vec::new());
    machine.handle(at(steps.start), Input::Connected { storage, volumes, applications, through: None });
    for step in steps {
        machine.handle(at(step), Input::Tick);
        if step.is_multiple_of(1000) {
            wait_written(machine.recorder());
        }
    }
}

/// Ticks come faster here than a disk writes.
fn wait_written(recorder: &Recorder) {
    let Some(active) = &recorder.0 else { return };
    while active.shared.queued_bytes.load(Ordering::Relaxed) > 0 {
        std::thread::yield_now();
    }
}

fn replayed_as(directory: &Path, own: &'static str) -> Result<Replayed, ReplayError> {
    let segments = Folder::of(directory).segments().unwrap();
    let sources =
        segments.iter().map(|segment| Ok((segment.number.to_string(), unpacked(fs::File::open(&segment.path)?)?)));
    replay(sources, own, Mutations::NONE, &mut |_| {})
}

fn replayed(directory: &Path) -> Replayed {
    replayed_as(directory, VERSION).unwrap()
}

fn size(directory: &Path) -> u64 {
    fs::read_dir(directory.join("recording")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

#[test]
fn what_was_recorded_is_decided_again_over_many_segments() {
    let directory = tempfile::tempdir().unwrap();
    let mut machine = Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT));
    live(&mut machine, 1..20_000);
    drop(machine);
    let found = replayed(directory.path());
    assert!(found.divergence.is_none() && found.lost == 0, "{found:?}");
    assert!(found.segments > 3 && found.joined == found.segments - 1, "{found:?}");
    assert!(found.inputs > 19_000 && found.decisions > 200, "{found:?}");
}

/// The limit holds of all files together at any time that somebody looks, and the newest stay.
#[test]
fn a_recording_takes_no_more_room_than_it_may() {
    let directory = tempfile::tempdir().unwrap();
    let mut most = 0;
    for round in 0..12 {
        let mut machine = Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT));
        live(&mut machine, round * 100_000 + 1..round * 100_000 + 30_000);
        drop(machine);
        most = most.max(size(directory.path()));
    }
    assert!(most <= LEAST_LIMIT, "{most}");
    let found = replayed(directory.path());
    assert!(found.divergence.is_none() && found.segments > 3, "{found:?}");
}

#[test]
fn a_killed_process_leaves_a_recording_that_is_replayed_up_to_its_last_line() {
    let directory = tempfile::tempdir().unwrap();
    let mut first = Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT));
    live(&mut first, 1..100);
    drop(first);
    let path = Folder::of(directory.path()).segments().unwrap().pop().unwrap().path;
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 10]).unwrap();
    // The next process closes it as it is.
    let mut second = Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT));
    live(&mut second, 1..100);
    drop(second);
    let found = replayed(directory.path());
    assert!(found.divergence.is_none() && found.segments == 2 && found.joined == 0, "{found:?}");
    assert_eq!(found.inputs, 99 + 100);
}

/// Whoever holds the machine never notices; the recording says what is missing, and goes on.
#[test]
fn a_disk_that_refuses_leaves_a_gap_that_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let in_the_way = directory.path().join("recording");
    fs::write(&in_the_way, "not a folder").unwrap();
    let mut machine = Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT));
    live(&mut machine, 1..50);
    machine.recorder().wait_for_failure();
    machine.handle(at(50), Input::Tick);
    fs::remove_file(&in_the_way).unwrap();
    live(&mut machine, 1000..1100);
    drop(machine);
    let found = replayed(directory.path());
    assert!(found.divergence.is_none() && found.segments == 1, "{found:?}");
    assert_eq!((found.lost, found.inputs), (51, 101));
}

#[test]
fn another_version_is_refused_in_words() {
    let directory = tempfile::tempdir().unwrap();
    live(&mut Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT)), 1..10);
    let refused = replayed_as(directory.path(), "0.0.0").unwrap_err();
    assert!(matches!(&refused, ReplayError::Version { found, .. } if found == VERSION), "{refused}");
}

#[test]
fn a_decision_that_was_changed_is_found() {
    let directory = tempfile::tempdir().unwrap();
    live(&mut Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT)), 1..100);
    let path = Folder::of(directory.path()).segments().unwrap().pop().unwrap().path;
    let text = fs::read_to_string(&path).unwrap();
    let mut changed = Vec::new();
    for line in text.lines() {
        let json = line[17..].replace("\"leaving\":false", "\"leaving\":true");
        crate::line::push(&mut changed, json.as_bytes());
    }
    fs::write(&path, changed).unwrap();
    let divergence = replayed(directory.path()).divergence.unwrap();
    assert!(divergence.recorded.contains("\"leaving\":true") && divergence.replayed.contains("\"leaving\":false"));
}

#[test]
fn a_server_that_takes_the_word_of_its_store_is_replayed() {
    let directory = tempfile::tempdir().unwrap();
    let state = State { term: Term(3), ..State::default() };
    let machine = ServerMachine::new(ClusterId(1), state.clone(), Timers::DEFAULT, 1, Mutations::NONE, at(0));
    let mut machine = Recorded::new(machine, recorder(directory.path(), LEAST_LIMIT));
    for step in 1..200 {
        machine.handle(at(step), server::Input::Tick);
        if step == 100 {
            machine.reload(at(step), state.clone()).unwrap();
        }
    }
    drop(machine);
    let found = replayed(directory.path());
    assert!(found.divergence.is_none() && found.inputs == 199 && found.decisions > 0, "{found:?}");
}

/// A permission passes through the agent's machine, to the engine; it is in no recording.
#[test]
fn a_permission_is_concealed_and_handed_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut recorded = Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT));
    let output = recorded.handle(at(1), Input::Message(order_to_send("planted")));
    let handed_on = |effect: &Effect| matches!(effect, Effect::Reader { command: ReaderCommand::Send { grant, .. }, .. } if grant == "planted");
    assert!(output.decisions().iter().flat_map(|decision| &decision.after).any(handed_on), "{output:?}");
    live(&mut recorded, 2..10);
    drop(recorded);
    let path = Folder::of(directory.path()).segments().unwrap().pop().unwrap().path;
    let text = fs::read_to_string(path).unwrap();
    assert!(text.contains("concealed") && !text.contains("planted"));
    assert_eq!(replayed(directory.path()).divergence, None);
}

fn order_to_send(grant: &str) -> ServerMessage {
    let epochs = Epochs { source: Epoch(2), target: Epoch(3) };
    let snapshot = BoundSnapshot {
        id: SnapshotId(5),
        uid: "u".to_owned(),
        mode: SourceMode::Snapshot,
        size_bytes: 4096,
        application: None,
    };
    let order = ReadOrder::Send {
        run: RunId(4),
        snapshot,
        method: RunMethod::Full,
        holder: PeerAddress { agent: "h2".parse().unwrap(), address: "h2:1".to_owned() },
        stream: StreamKey { epochs, generation: 6, from: 0 },
        grant: grant.to_owned(),
    };
    let assignment = ReadAssignment {
        name: "db".parse().unwrap(),
        source: "san-a/vol1".parse().unwrap(),
        source_identity: "i".to_owned(),
        size_bytes: 4096,
        bandwidth_bytes_per_second: None,
        streams: StreamCount::default(),
    };
    ServerMessage::Read {
        stamp: Stamp { term: Term(1), replication: ReplicationId(1), epochs, incarnation: Incarnation(7) },
        number: OrderNumber { term: Term(1), ..OrderNumber::default() },
        assignment: Box::new(assignment),
        order: Box::new(order),
    }
}

#[test]
fn nothing_is_recorded_with_no_room_for_it() {
    let directory = tempfile::tempdir().unwrap();
    live(&mut Recorded::new(machine(), recorder(directory.path(), 0)), 1..10);
    assert!(!directory.path().join("recording").exists());
    assert!(Settings::check(0).is_ok() && Settings::check(LEAST_LIMIT).is_ok() && Settings::check(1000).is_err());
}

/// The machine's own state is in a recording: whoever changes that has to record the examples of fuzz/ anew, by this test.
#[test]
fn the_examples_for_fuzzing_are_what_is_recorded_now() {
    let directory = tempfile::tempdir().unwrap();
    let mut machine = Recorded::new(machine(), recorder(directory.path(), LEAST_LIMIT));
    live(&mut machine, 1..8);
    drop(machine);
    let segment = fs::read(Folder::of(directory.path()).segments().unwrap().pop().unwrap().path).unwrap();
    let unfinished = segment[..segment.len() - 30].to_vec();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/recordings");
    if std::env::var_os("TANIST_RECORD_EXAMPLES").is_some() {
        fs::write(corpus.join("a-segment"), &segment).unwrap();
        fs::write(corpus.join("an-unfinished-segment"), &unfinished).unwrap();
        let mut bundle = BundleWriter::new(Vec::new(), Role::Agent, VERSION, at(0).wall);
        bundle.add_segment(1, &segment).unwrap();
        bundle.add("agent.toml", b"server = 'h:7420'").unwrap();
        fs::write(corpus.join("a-bundle"), bundle.finish().unwrap().0).unwrap();
    }
    let again = "record them anew: TANIST_RECORD_EXAMPLES=1 cargo test --workspace --lib the_examples_for_fuzzing";
    assert!(fs::read(corpus.join("a-segment")).unwrap() == segment, "{again}");
    assert!(fs::read(corpus.join("an-unfinished-segment")).unwrap() == unfinished, "{again}");
}
