//! Snapshot commands that misbehave: what they say is checked, what they leave is taken away, and the agent is never held up by them.

mod support;

use std::time::{Duration, Instant};

use support::{ByCommand, Fixture, ID, Images, address, bytes, contents, images_by_command};
use tanist_model::id::SnapshotId;
use tanist_storage::{SourceView, StorageError, StorageSystem};

const LONG: Duration = Duration::from_secs(30);

struct Place {
    _directory: tempfile::TempDir,
    command: ByCommand<Images>,
}

/// One volume of 5000 bytes.
fn place() -> Place {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let command = images_by_command(directory.path());
    command.put("a", &bytes(5000));
    Place { _directory: directory, command }
}

impl Place {
    /// The sample with another way to make a snapshot; `$@` is what it is called with, and `sample` the sample.
    fn creating(&self, text: &str, limit: Duration) -> std::sync::Arc<dyn StorageSystem> {
        let sample = self.command.sample();
        let head = format!("sample() {{ {sample} \"$@\"; }}\nif [ \"$1\" != create ]; then sample \"$@\"; exit; fi\n");
        self.command.with(&format!("{head}{text}"), limit)
    }

    fn path(&self) -> String {
        self.command.storage.path("a").display().to_string()
    }

    /// What a create of this text is refused with; afterwards there is no snapshot.
    fn refused(&self, text: &str, limit: Duration) -> String {
        let error = self.creating(text, limit).create_snapshot(&address("a"), ID).unwrap_err();
        assert!(matches!(error, StorageError::Command { .. } | StorageError::Io { .. }), "{text}: {error}");
        assert_eq!(self.command.system().list_snapshots(&address("a")).unwrap(), [], "{text}");
        error.to_string()
    }
}

fn entry(uid: &str, path: &str, size: u64) -> String {
    format!(r#"echo '{{"version":1,"snapshot":{{"id":"{ID}","uid":"{uid}","path":"{path}","size_bytes":{size}}}}}'"#)
}

#[test]
fn whatever_a_command_claims_without_having_done_it_is_refused() {
    let place = place();
    for (text, complaint) in [
        ("exit 0", "not the JSON"),
        ("echo done", "not the JSON"),
        ("head -c 100000 /dev/urandom", "not the JSON"),
        ("yes", "more than is taken for an answer"),
        ("sample \"$@\" >/dev/null; echo 'array is full' >&2; exit 9", "ended with status 9: array is full"),
        ("sample \"$@\" >/dev/null; kill -9 $$", "was ended by signal 9"),
        ("sample \"$@\" | sed 's/\"uid\":\"/&x/'", "does not list it"),
        ("sample \"$@\" | sed 's/5000/4999/'", "has 4999 bytes, and the volume has 5000"),
        ("sample \"$@\" | sed 's/\"version\":1/\"version\":2/'", "in version 2"),
        ("sample \"$@\" | sed 's/\"id\":\"0/\"id\":\"1/'", "answered about snapshot"),
    ] {
        let said = place.refused(text, LONG);
        assert!(said.contains(complaint) && said.contains("other create"), "'{complaint}' in {said}");
    }
    let said = place.refused(&entry("u", "/dev/null", 5000), LONG);
    assert!(said.contains("does not list it"), "{said}");
}

/// Half done and then killed with all that it had started: nothing of it is left.
#[test]
fn one_that_hangs_half_way_is_ended_and_leaves_nothing() {
    let place = place();
    let begun = Instant::now();
    let said =
        place.refused("sample \"$@\" >/dev/null; echo waiting for the array >&2; sleep 600", Duration::from_secs(2));
    assert!(said.contains("did not end within 2 s and was killed: waiting for the array"), "{said}");
    assert!(begun.elapsed() < LONG);
}

/// Both the answer and the list say so; the volume itself is no snapshot of it all the same.
#[test]
fn the_volume_itself_is_not_taken_for_its_snapshot() {
    let place = place();
    let marker = place.command.directory.path().join("made");
    let one = format!(r#"{{"id":"{ID}","uid":"u","path":"{}","size_bytes":5000}}"#, place.path());
    let text = format!(
        "case $1 in\ncreate) touch {0}; echo '{{\"version\":1,\"snapshot\":{one}}}' ;;\n\
         delete) rm -f {0}; echo '{{\"version\":1}}' ;;\n\
         list) if [ -e {0} ]; then echo '{{\"version\":1,\"snapshots\":[{one}]}}'; else echo '{{\"version\":1,\"snapshots\":[]}}'; fi ;;\nesac",
        marker.display()
    );
    let system = place.command.with(&text, LONG);
    let said = system.create_snapshot(&address("a"), ID).unwrap_err().to_string();
    assert!(said.contains("it is the volume itself"), "{said}");
    assert!(!marker.exists(), "it was taken away");
}

#[test]
fn what_says_that_it_deleted_and_did_not_is_caught() {
    let place = place();
    place.command.system().create_snapshot(&address("a"), ID).unwrap();
    let text =
        format!("if [ \"$1\" = delete ]; then echo '{{\"version\":1}}'; else {} \"$@\"; fi", place.command.sample());
    let said = place.command.with(&text, LONG).delete_snapshot(&address("a"), ID).unwrap_err().to_string();
    assert!(said.contains("says that it deleted the snapshot, and lists it"), "{said}");
}

/// The agent is gone in the middle; another asks what there is, and takes away what nobody was told of.
#[test]
fn the_list_tells_what_a_crash_has_left() {
    let place = place();
    let sample = place.command.sample();
    let status = std::process::Command::new("/bin/sh")
        .args(["-c", &format!("exec {sample} create")])
        .envs([("TANIST_STORAGE", "san-a"), ("TANIST_VOLUME", "a"), ("TANIST_VOLUME_PATH", &place.path())])
        .env("TANIST_SNAPSHOT", ID.to_string())
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let system = place.command.system();
    let found = system.list_snapshots(&address("a")).unwrap();
    assert_eq!((found.len(), found[0].id, found[0].size_bytes), (1, ID, 5000));
    assert!(matches!(system.create_snapshot(&address("a"), ID), Err(StorageError::SnapshotExists { .. })));
    system.delete_snapshot(&address("a"), ID).unwrap();
    assert_eq!(system.list_snapshots(&address("a")).unwrap(), []);
    let next = system.create_snapshot(&address("a"), SnapshotId(8)).unwrap();
    assert_ne!(next.uid, found[0].uid);
    let view = SourceView::Snapshot { id: next.id, uid: next.uid };
    assert!(contents(&system.open_source(&address("a"), &view).unwrap()) == bytes(5000));
}

#[test]
fn a_command_that_cannot_be_run_is_shown_and_makes_no_snapshots() {
    let place = place();
    let report = place.command.system().report();
    assert!(report.capabilities.snapshots && report.location.contains("; snapshots by "), "{report:?}");
    let gone = place.command.with("exit 0", LONG);
    std::fs::remove_file(place.command.directory.path().join("other")).unwrap();
    let report = gone.report();
    assert!(
        !report.capabilities.snapshots && report.location.ends_with("which is no program that can be run"),
        "{report:?}"
    );
    let said = gone.create_snapshot(&address("a"), ID).unwrap_err().to_string();
    assert!(said.contains("could not be started"), "{said}");
}
