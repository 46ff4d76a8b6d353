//! `tanist bench server`, small: that it measures what it says, and leaves nothing behind. No figure of it counts here.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use tanist_tests::answer::Answer;
use tanist_tests::{build, signal, wait};
use tempfile::TempDir;

use rustix::process::Signal;
use std::time::Duration;

/// Everything that the command makes lies below `place`.
fn bench(place: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(build!().program);
    command.args(["bench", "server", "--output", "json"]).args(args).stdin(Stdio::null());
    command.env("TMPDIR", place).env("HOME", place).env_remove("XDG_DATA_HOME").env_remove("TANIST_CONTEXT");
    command
}

fn answer(command: &mut Command) -> Answer {
    let asked = format!("{command:?}");
    let output = command.output().expect("start the program");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    Answer {
        asked,
        status: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

fn is_empty(place: &Path) -> bool {
    std::fs::read_dir(place).expect("list a directory").next().is_none()
}

#[test]
fn agents_come_are_lost_and_come_back() {
    let place = TempDir::new_in(build!().scratch).expect("a directory");
    let report: Value =
        answer(&mut bench(place.path(), &["--agents", "200", "--replications", "20", "--idle", "1s"])).body();
    let size = &report["sizes"][0];
    assert_eq!((size["agents"].as_u64(), size["replications"].as_u64()), (Some(200), Some(20)), "{report:#}");
    for (figure, count) in [
        ("/connect", 200),
        ("/crash/granted", 20),
        ("/crash/activated", 20),
        ("/silence/granted", 20),
        ("/silence/activated", 20),
        ("/restart/back", 200),
    ] {
        let times = size.pointer(figure).unwrap_or(&Value::Null);
        assert_eq!(times["count"].as_u64(), Some(count), "{figure}: {report:#}");
        let [median, p99, most] = ["median_ms", "p99_ms", "most_ms"].map(|key| times[key].as_f64().expect(key));
        assert!(0.0 < median && median <= p99 && p99 <= most, "{figure}: {report:#}");
    }
    // A host that vanishes is noticed by its silence only, which has to be longer than four beats.
    assert!(size.pointer("/silence/granted/median_ms").and_then(Value::as_f64) > Some(750.0), "{report:#}");
    assert!(size["memory_bytes"].as_u64() > Some(1 << 20), "{report:#}");
    assert!(is_empty(place.path()), "something is left behind");
}

#[test]
fn an_interrupted_measurement_leaves_nothing_behind() {
    let place = TempDir::new_in(build!().scratch).expect("a directory");
    let mut child = bench(place.path(), &["--agents", "50", "--idle", "10m"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("start the program");
    let process = child.id();
    let servers = || {
        let path = format!("/proc/{process}/task/{process}/children");
        let children = std::fs::read_to_string(path).unwrap_or_default();
        children.split_whitespace().filter_map(|id| id.parse::<u32>().ok()).collect::<Vec<u32>>()
    };
    let limit = Duration::from_secs(30);
    wait::until("the server of the measurement has a store", limit, || {
        let below = std::fs::read_dir(place.path()).ok()?.next()?.ok()?.path();
        below.join("server-1.log").exists().then_some(())
    });
    let server = servers();
    signal::send(process, Signal::INT);
    let ended = wait::until("the measurement ends", limit, || child.try_wait().ok().flatten());
    assert_eq!(ended.code(), Some(1));
    assert!(is_empty(place.path()), "something is left behind");
    for id in server {
        assert!(!Path::new(&format!("/proc/{id}")).exists(), "process {id} is left behind");
    }
}

#[test]
fn a_directory_that_is_there_is_not_touched_and_nonsense_is_refused() {
    let place = TempDir::new_in(build!().scratch).expect("a directory");
    let dir = place.path().display().to_string();
    let taken = answer(&mut bench(place.path(), &["--agents", "2", "--dir", &dir]));
    assert_eq!(taken.status, 1, "{taken}");
    assert!(taken.stderr.contains("make the new directory") && is_empty(place.path()), "{taken}");
    let many = answer(&mut bench(place.path(), &["--agents", "10", "--replications", "6"]));
    assert!(many.status == 1 && many.stderr.contains("6 replications need 12 agents"), "{many}");
    let one = answer(&mut bench(place.path(), &["--agents", "1"]));
    assert_eq!(one.status, 2, "{one}");
}
