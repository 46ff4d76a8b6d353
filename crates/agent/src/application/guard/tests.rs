//! The guard in this process, its scripts real: what it does with every end that an attempt can take.

use std::fs;
use std::path::Path;
use std::thread::JoinHandle;

use super::*;
use crate::application::mark::tests::task;
use crate::application::mark::{Found, find};

const PATIENCE: Duration = Duration::from_secs(30);

/// Takes what a guard says.
struct Ear(Sender<Telling>);

impl Write for Ear {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.send(serde_json::from_slice(line)?);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A guard at work over a folder, in which its scripts write down what they do.
struct Scene {
    folder: tempfile::TempDir,
    events: Sender<Event>,
    tellings: Receiver<Telling>,
    guard: JoinHandle<()>,
}

fn diary(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("diary")).unwrap_or_default();
    text.lines().map(ToOwned::to_owned).collect()
}

impl Scene {
    /// The scripts note their phase, then do this.
    fn set(before: &str, after: &str, limit: Duration) -> Self {
        Self::set_in(tempfile::tempdir().unwrap(), before, after, limit)
    }

    fn set_in(folder: tempfile::TempDir, before: &str, after: &str, limit: Duration) -> Self {
        let note = format!("cd {}; echo $TANIST_PHASE >> diary", folder.path().display());
        let mut task = task(folder.path(), &format!("{note}; {before}"), &format!("{note}; {after}"));
        task.limit = limit;
        let (events, queue) = channel();
        let (ear, tellings) = channel();
        let mut guard = Guard { events: events.clone(), queue, output: Ear(ear) };
        let guard = thread::spawn(move || guard.serve(task));
        Self { folder, events, tellings, guard }
    }

    fn hear(&self) -> Telling {
        self.tellings.recv_timeout(PATIENCE).expect("the guard says something")
    }

    fn word(&self, word: &str) {
        self.events.send(Event::Word(word.to_owned())).unwrap();
    }

    /// What it ended with. Its scripts have done this.
    #[track_caller]
    fn thawed(self, diary: &[&str]) -> Outcome {
        let Telling::Thawed(outcome) = self.hear() else { panic!("it is not thawed") };
        self.guard.join().unwrap();
        assert_eq!(super::tests::diary(self.folder.path()), diary);
        let [Found::Settled(_, settled)] = &find(self.folder.path())[..] else { panic!("its mark is not settled") };
        assert_eq!(*settled, outcome);
        outcome
    }
}

#[test]
fn it_quiesces_and_thaws_when_asked() {
    let scene = Scene::set("", "", PATIENCE);
    assert_eq!(scene.hear(), Telling::Quiesced);
    assert!(matches!(find(scene.folder.path())[..], [Found::Held]), "the mark is on disk before anything else");
    scene.word(THAW);
    let outcome = scene.thawed(&["before", "after"]);
    assert_eq!((outcome.cause, outcome.failure), (ThawCause::SnapshotDone, None));
}

#[test]
fn it_thaws_by_itself_when_the_agent_is_gone_or_it_is_told_to_stop() {
    for (event, cause) in [(Event::AgentGone, ThawCause::AgentGone), (Event::Stop, ThawCause::HostStops)] {
        let scene = Scene::set("", "", PATIENCE);
        assert_eq!(scene.hear(), Telling::Quiesced);
        scene.events.send(event).unwrap();
        assert_eq!(scene.thawed(&["before", "after"]).cause, cause);
    }
}

#[test]
fn it_thaws_by_itself_at_the_limit() {
    let scene = Scene::set("", "", Duration::from_secs(1));
    assert_eq!(scene.hear(), Telling::Quiesced);
    assert_eq!(scene.thawed(&["before", "after"]).cause, ThawCause::LimitPassed);
}

#[test]
fn a_before_that_fails_is_followed_by_after() {
    let scene = Scene::set("echo the tables are locked; exit 4", "", PATIENCE);
    let reason = "its before script ended with status 4: the tables are locked".to_owned();
    assert_eq!(scene.hear(), Telling::Failed { reason });
    assert_eq!(scene.thawed(&["before", "after"]).cause, ThawCause::BeforeFailed);
}

#[test]
fn a_before_that_hangs_is_killed_before_after_begins() {
    let scene = Scene::set("sleep 300; echo late >> diary", "", Duration::from_secs(1));
    let Telling::Failed { reason } = scene.hear() else { panic!("it did not fail") };
    assert!(reason.contains("did not end within 1 s"), "{reason}");
    assert_eq!(scene.thawed(&["before", "after"]).cause, ThawCause::LimitPassed);
}

#[test]
fn an_attempt_that_is_given_up_during_before_is_thawed() {
    let scene = Scene::set("touch begun; sleep 300; echo late >> diary", "", PATIENCE);
    let begun = scene.folder.path().join("begun");
    let deadline = Instant::now() + PATIENCE;
    while !begun.exists() {
        assert!(Instant::now() < deadline, "it does not begin");
        thread::yield_now();
    }
    scene.word(GIVE_UP);
    assert_eq!(scene.hear(), Telling::Failed { reason: "it was given up".to_owned() });
    assert_eq!(scene.thawed(&["before", "after"]).cause, ThawCause::GivenUp);
}

#[test]
fn an_after_that_fails_is_tried_again_and_then_told() {
    let scene = Scene::set("", "test $(grep -c after diary) = 2", PATIENCE);
    assert_eq!(scene.hear(), Telling::Quiesced);
    scene.word(THAW);
    assert_eq!(scene.thawed(&["before", "after", "after"]).failure, None);

    let scene = Scene::set("", "echo no connection >&2; exit 1", PATIENCE);
    assert_eq!(scene.hear(), Telling::Quiesced);
    scene.word(THAW);
    let outcome = scene.thawed(&["before", "after", "after", "after"]);
    let failure = Some("its after script ended with status 1: no connection".to_owned());
    assert_eq!((outcome.cause, outcome.failure), (ThawCause::SnapshotDone, failure));
}

#[test]
fn a_before_that_cannot_be_started_says_so() {
    let (folder, (events, queue)) = (tempfile::tempdir().unwrap(), channel());
    let (ear, tellings) = channel();
    let mut task = task(folder.path(), "", "");
    task.before = vec!["/does/not/exist".to_owned()];
    Guard { events, queue, output: Ear(ear) }.serve(task);
    let Telling::Failed { reason } = tellings.recv().unwrap() else { panic!("it did not fail") };
    assert!(reason.contains("could not be started: /does/not/exist"), "{reason}");
    assert!(matches!(tellings.recv(), Ok(Telling::Thawed(Outcome { failure: None, .. }))));
}

#[test]
fn one_attempt_waits_for_another_and_leaves_nothing_when_it_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let other = try_sole(folder.path(), &"db".parse().unwrap()).unwrap().expect("nobody is at it");
    let scene = Scene::set_in(folder, "", "", PATIENCE);
    scene.word(GIVE_UP);
    assert!(matches!(scene.hear(), Telling::Refused { .. }));
    assert!(diary(scene.folder.path()).is_empty() && find(scene.folder.path()).is_empty());

    let scene = Scene::set_in(scene.folder, "", "", PATIENCE);
    assert!(scene.tellings.try_recv().is_err());
    drop(other);
    assert_eq!(scene.hear(), Telling::Quiesced);
    scene.word(THAW);
    scene.thawed(&["before", "after"]);
}
