//! Host applications: quiesced for exactly the moment of the snapshot, and thawed whatever becomes of the agent that quiesced.
//!
//! The application here is a script that writes down what it is told. It marks the source itself, so that the target shows on which
//! side of it the snapshot was made. Each test makes its own XFS, which needs root; without, it says so and ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tanist_model::api::{Plan, RecoveryPointView, RefusalCode};
use tanist_model::event::{Event, EventCode};
use tanist_model::replication::Side;
use tanist_model::run::RunState;
use tanist_model::time::Timestamp;
use tanist_tests::cluster::{Builder, Cluster, SOURCES};
use tanist_tests::mounted::{Mounted, XFS};
use tanist_tests::scene::{RUN_LIMIT, Scene};
use tanist_tests::{Build, build, signal, volume, wait};
use tempfile::TempDir;

const SIZE: u64 = 8 << 20;
const FILE_SYSTEM_BYTES: u64 = 512 << 20;
const APPLICATION: [&str; 2] = ["--application", "orders-db"];
/// Orders, scripts and their reports.
const WORD_LIMIT: Duration = Duration::from_secs(30);

const SCRIPT: &str = r#"
cd FOLDER
mark() { printf "$1" | dd of=SOURCE bs=1 count=1 conv=notrunc 2>/dev/null; }
echo "$1 $TANIST_AGENT $TANIST_REPLICATION $TANIST_PHASE $(date +%s%N)" >> diary
case $1 in
before)
    : > quiesced-$TANIST_AGENT
    mark Q
    ls -l /proc/$$/fd > descriptors
    if [ -e fails ]; then echo the tables cannot be locked; exit 3; fi
    while [ -e hangs-$TANIST_AGENT ]; do sleep 0.05; done
    ;;
after)
    mark T
    rm -f quiesced-$TANIST_AGENT
    ;;
esac
"#;

/// A cluster with an application on its agents, and a replication that quiesces it.
struct Place {
    cluster: Cluster,
    scene: Scene,
    folder: TempDir,
    /// Dropped last: the agents are gone by then.
    _mounted: Mounted,
}

/// A line that the script wrote down.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    phase: String,
    agent: String,
    at_ns: u64,
}

impl Place {
    /// `has`: the agents that have the application.
    fn set(build: Build, agents: usize, has: &[&str], limit: &str) -> Option<Self> {
        let mounted = match Mounted::new(Path::new(build.scratch), XFS, FILE_SYSTEM_BYTES) {
            Ok(mounted) => mounted,
            Err(reason) => {
                println!("skipped: snapshots with {}: {reason}", XFS.join(" "));
                return None;
            }
        };
        let folder = TempDir::with_prefix_in("application-", build.scratch).expect("make a directory");
        let source = mounted.path.join(SOURCES).join("db");
        let script = SCRIPT.replace("FOLDER", &text(folder.path())).replace("SOURCE", &text(&source));
        fs::write(folder.path().join("script"), script).expect("write the script");
        let entry = application(&folder.path().join("script"), limit);
        let start: Builder = Cluster::builder(build).agents(agents).storage_place(&mounted.path);
        let cluster = has.iter().fold(start, |builder, agent| builder.agent_config(agent, &entry)).start();
        let scene = Scene::at(&cluster, "db", SIZE);
        volume::make_noise(&scene.source, SIZE, 1);
        Some(Self { cluster, scene, folder, _mounted: mounted })
    }

    fn create(self) -> Self {
        self.scene.create_as_typed(&self.cluster, &APPLICATION);
        self
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn put(&self, name: &str) {
        fs::write(self.file(name), "").expect("write a file");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.file(name)).expect("remove a file");
    }

    fn diary(&self) -> Vec<Line> {
        let text = fs::read_to_string(self.file("diary")).unwrap_or_default();
        let line = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            assert_eq!((words[2], words[3]), ("db", words[0]), "what the script was told: {line}");
            Line { phase: words[0].into(), agent: words[1].into(), at_ns: words[4].parse().expect("a time") }
        };
        text.lines().map(line).collect()
    }

    fn of(&self, phase: &str, agent: &str) -> Vec<Line> {
        self.diary().into_iter().filter(|line| line.phase == phase && line.agent == agent).collect()
    }

    /// Until the application is quiesced on this agent, in the middle of `before`.
    fn wait_quiesced(&self, agent: &str) {
        wait::until("the application is quiesced", WORD_LIMIT, || self.is_quiesced(agent).then_some(()));
    }

    fn is_quiesced(&self, agent: &str) -> bool {
        self.file(&format!("quiesced-{agent}")).exists()
    }

    /// Until it is thawed there; how long that took from now.
    fn wait_thawed(&self, agent: &str) -> Duration {
        let begun = Instant::now();
        wait::until("the application is thawed", WORD_LIMIT, || (!self.is_quiesced(agent)).then_some(()));
        begun.elapsed()
    }

    /// Until nothing of it is on record as quiesced.
    fn wait_all_clear(&self) {
        wait::until("every thaw is on record", WORD_LIMIT, || {
            self.cluster.try_show("db")?.quiesced.is_empty().then_some(())
        });
    }

    /// The run is published, and its snapshot was made while the application was quiesced.
    #[track_caller]
    fn assert_quiesced_state(&self, run: tanist_model::id::RunId) {
        let ended = self.scene.wait_ended(&self.cluster, run);
        assert_eq!(ended.state, RunState::Published, "{ended:?}");
        let target = fs::read(&self.scene.target).expect("read the target");
        assert_eq!(target.first(), Some(&b'Q'), "the snapshot was made outside of the quiescence");
        let points: Vec<RecoveryPointView> = self.cluster.tanist(&["recovery-point", "list", "db"]).body();
        assert_eq!(points[0].application.as_ref().map(|a| a.as_str()), Some("orders-db"));
    }

    fn events(&self, code: EventCode) -> Vec<Event> {
        self.cluster.events_of("db").into_iter().filter(|event| event.code == code).collect()
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn application(script: &Path, limit: &str) -> String {
    let command = |phase: &str| format!("[\"/bin/sh\", \"{}\", \"{phase}\"]", script.display());
    let (before, after) = (command("before"), command("after"));
    format!("[[application]]\nname = \"orders-db\"\nbefore = {before}\nafter = {after}\nlimit = \"{limit}\"\n")
}

/// The guard of an agent, and the script that it runs now.
fn guard_and_script(agent: u32) -> (u32, u32) {
    wait::until("a guard at work", WORD_LIMIT, || {
        let guard = children(agent).into_iter().find(|pid| command_line(*pid).contains("application-guard"))?;
        Some((guard, children(guard).into_iter().next()?))
    })
}

fn command_line(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}

fn children(parent: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists.flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()).collect()
}

#[test]
fn the_snapshot_is_made_between_before_and_after() {
    let Some(place) = Place::set(build!(), 1, &["h1"], "30s").map(Place::create) else { return };
    let run = place.scene.sync(&place.cluster);
    place.assert_quiesced_state(run);
    let phases: Vec<String> = place.diary().into_iter().map(|line| line.phase).collect();
    assert_eq!(phases, ["before", "after"]);
    place.wait_all_clear();
    let thawed = place.events(EventCode::ApplicationThawed);
    assert_eq!(thawed.len(), 1, "{thawed:?}");
    assert!(thawed[0].message.contains("after the snapshot"), "{thawed:?}");
    wait::until("the mark is forgotten", WORD_LIMIT, || {
        let marks = fs::read_dir(place.cluster.folder("h1").join("applications")).ok()?.flatten();
        marks.map(|entry| entry.path()).all(|path| path.extension().is_some_and(|e| e == "lock")).then_some(())
    });
    let descriptors = fs::read_to_string(place.file("descriptors")).expect("the script's descriptors");
    for held in ["/db", "agent.lock", "socket:", ".mark"] {
        assert!(!descriptors.contains(held), "the script inherited {held}: {descriptors}");
    }
}

#[test]
fn a_killed_agent_leaves_a_guard_that_thaws_and_its_successor_quiesces_on_its_own() {
    let Some(place) = Place::set(build!(), 2, &["h1", "h2"], "30s").map(Place::create) else { return };
    let mut place = place;
    place.put("hangs-h1");
    let run = place.scene.sync(&place.cluster);
    place.wait_quiesced("h1");
    let on_record = place.cluster.show("db").quiesced;
    assert_eq!(on_record.len(), 1, "on record before it is done");
    assert_eq!(on_record[0].agent.as_str(), "h1");
    place.cluster.kill("h1");
    let took = place.wait_thawed("h1");
    assert!(took < Duration::from_secs(1), "thawed after {took:?}");
    place.assert_quiesced_state(run);
    assert_eq!((place.of("before", "h1").len(), place.of("before", "h2").len()), (1, 1));
    assert_eq!(place.of("after", "h2").len(), 1);
    let left = place.cluster.show("db").quiesced;
    assert_eq!(left.iter().map(|q| q.agent.as_str()).collect::<Vec<_>>(), ["h1"], "nobody has told it yet");
    place.cluster.start_agent("h1");
    place.wait_all_clear();
    let told = place.events(EventCode::ThawedByGuard);
    assert!(told.len() == 1 && told[0].message.contains("the agent's process was gone"), "{told:?}");
    assert_eq!(place.of("after", "h1").len(), 1, "the guard has done it, and nobody does it again");
}

#[test]
fn the_guard_of_a_stopped_agent_thaws_at_the_limit() {
    let Some(place) = Place::set(build!(), 2, &["h1", "h2"], "3s").map(Place::create) else { return };
    place.put("hangs-h1");
    let run = place.scene.sync(&place.cluster);
    place.wait_quiesced("h1");
    place.cluster.agent("h1").stop();
    place.remove("hangs-h1");
    place.wait_thawed("h1");
    let held = place.of("after", "h1")[0].at_ns - place.of("before", "h1")[0].at_ns;
    assert!((2_500_000_000..6_000_000_000).contains(&held), "{held} ns");
    // As long as it is stopped it is not proven quiet, and the next snapshot waits.
    assert!(place.of("before", "h2").is_empty(), "{:?}", place.diary());
    place.cluster.agent("h1").wake();
    place.assert_quiesced_state(run);
    let attempts = place.diary().into_iter().filter(|line| line.phase == "before").count();
    assert!(attempts >= 2, "the snapshot is of another attempt: {:?}", place.diary());
    place.wait_all_clear();
    let told = place.events(EventCode::ThawedByGuard);
    assert!(told.len() == 1 && told[0].message.contains("the limit had passed"), "{told:?}");
}

#[test]
fn a_before_that_fails_or_hangs_is_quoted_and_tried_again() {
    let Some(place) = Place::set(build!(), 1, &["h1"], "1s").map(Place::create) else { return };
    place.put("fails");
    let begun = Timestamp(0);
    let run = place.scene.sync(&place.cluster);
    let failed = place.cluster.wait_event(EventCode::QuiesceFailed, begun, WORD_LIMIT);
    let quoted = "host application orders-db: its before script ended with status 3: the tables cannot be locked";
    assert!(failed.message.contains(quoted), "{failed:?}");
    place.put("hangs-h1");
    place.remove("fails");
    wait::until("an attempt that hangs", WORD_LIMIT, || {
        let hung = |event: &Event| event.message.contains("did not end within 1 s and was killed");
        place.events(EventCode::QuiesceFailed).iter().any(hung).then_some(())
    });
    place.remove("hangs-h1");
    place.assert_quiesced_state(run);
    assert_eq!(place.of("before", "h1").len(), place.of("after", "h1").len(), "{:?}", place.diary());
    place.wait_all_clear();
}

/// What a host leaves behind that dies with everything on it, and comes back.
#[test]
fn a_host_that_comes_back_thaws_what_it_left_quiesced() {
    let Some(mut place) = Place::set(build!(), 1, &["h1"], "1s").map(Place::create) else { return };
    place.put("hangs-h1");
    let run = place.scene.sync(&place.cluster);
    place.wait_quiesced("h1");
    let agent = place.cluster.take_agent("h1");
    agent.stop();
    let (guard, script) = guard_and_script(agent.id());
    signal::send(guard, Signal::KILL);
    signal::send(script, Signal::KILL);
    let died = agent.kill();
    place.remove("hangs-h1");
    assert!(place.is_quiesced("h1"));

    let alarm = place.cluster.wait_event(EventCode::MayBeQuiesced, died, WORD_LIMIT);
    assert!(alarm.message.contains("host application orders-db on agent h1 may be quiesced since"), "{alarm:?}");
    let view = place.cluster.show("db");
    assert!(view.quiesced.len() == 1 && view.quiesced[0].alarmed, "{view:?}");
    assert!(place.is_quiesced("h1"));

    place.cluster.start_agent("h1");
    place.wait_thawed("h1");
    place.assert_quiesced_state(run);
    place.wait_all_clear();
    let told = place.events(EventCode::ThawedByGuard);
    assert!(told.len() == 1 && told[0].message.contains("a later process of the agent"), "{told:?}");
}

#[test]
fn only_an_agent_with_the_application_makes_the_snapshot() {
    let Some(place) = Place::set(build!(), 2, &["h2"], "30s") else { return };
    volume::blank(&place.scene.target, SIZE);
    let base = ["replication", "create", "db", "--source", "san-a/db", "--target", "san-b/db"];
    let create = |agents: &str, more: &[&str]| {
        place.cluster.tanist(&[&base[..], &["--agents", agents], &APPLICATION, more].concat())
    };
    let refusal = create("h1", &[]).refused(RefusalCode::NotFound);
    assert!(refusal.cause.iter().any(|cause| cause.contains("h1: it has no scripts for")), "{refusal:?}");
    let refusal = create("h2", &["--source-mode", "sealed"]).refused(RefusalCode::Invalid);
    assert!(refusal.error.contains("for the moment of a snapshot"), "{refusal:?}");

    create("h1,h2", &[]).done();
    let plan: Plan = wait::until("every agent has looked", WORD_LIMIT, || {
        let plan: Plan = place.cluster.tanist(&["replication", "check", "db"]).any_body();
        plan.matrix.iter().all(|row| row.ineligible_for.iter().all(|u| u.side == Side::Source)).then_some(plan)
    });
    let unable =
        &plan.matrix.iter().find(|row| row.agent.as_str() == "h1").expect("h1 is in the matrix").ineligible_for;
    assert!(
        unable.len() == 1 && unable[0].reason.contains("no scripts for the host application orders-db"),
        "{plan:?}"
    );
    let run = place.scene.sync(&place.cluster);
    place.assert_quiesced_state(run);
    assert_eq!(place.cluster.show("db").acting.map(|a| a.to_string()).as_deref(), Some("h1"));
    assert!(place.diary().iter().all(|line| line.agent == "h2"), "{:?}", place.diary());
    wait::until_or(RUN_LIMIT, || place.cluster.try_show("db")?.quiesced.is_empty().then_some(()))
        .expect("all is clear");
}
