//! Scripts that do what scripts do: work, fail, flood, hang, and leave others behind.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, test_kill_process};
use tanist_alarm::{DeliveryError, Notice, Sink};

use crate::{notice, sink};

fn shell(limit_seconds: u64, script: &str) -> Sink {
    sink(&format!("limit_seconds = {limit_seconds}\n[script]\ncommand = ['/bin/sh', '-c', '''{script}''']"))
}

/// Waits until the process that wrote its number is gone.
async fn assert_gone(file: &Path) {
    let number: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    while test_kill_process(Pid::from_raw(number).unwrap()).is_ok() && !is_zombie(number) {
        assert!(Instant::now() < deadline, "process {number} lives");
        tokio::task::yield_now().await;
    }
}

/// Dead, and not yet reaped by whoever adopted it.
fn is_zombie(number: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{number}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[tokio::test]
async fn a_script_reads_the_notice() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("notice.json");
    shell(10, &format!("cat > {}", file.display())).deliver(&notice()).await.unwrap();
    let read: Notice = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    assert_eq!(read, notice());
    // One that decides without reading is well, too.
    shell(10, "exit 0").deliver(&notice()).await.unwrap();
}

#[tokio::test]
async fn a_failure_is_told_with_the_end_of_what_was_said() {
    let failed = shell(10, "echo first; echo no pager >&2; exit 3").deliver(&notice()).await.unwrap_err();
    assert_eq!(failed.to_string(), "the script ended with status 3: first / no pager");
    let missing = sink("[script]\ncommand = ['/no/such/program']").deliver(&notice()).await.unwrap_err();
    assert!(
        matches!(&missing, DeliveryError::NotStarted { program, .. } if program == "/no/such/program"),
        "{missing}"
    );
}

#[tokio::test]
async fn a_flood_is_bounded_and_does_not_stop_the_script() {
    let flood = shell(60, "head -c 50000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1");
    let failed = flood.deliver(&notice()).await.unwrap_err().to_string();
    assert!(failed.len() <= 8192 && failed.ends_with(" / the end"), "{} bytes", failed.len());
}

#[tokio::test]
async fn a_script_that_hangs_is_killed_with_everything_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let (own, child) = (folder.path().join("own"), folder.path().join("child"));
    let script = format!(
        "trap '' TERM; echo $$ > {}; sh -c 'echo $$ > {}; exec sleep 1000' & sleep 1000",
        own.display(),
        child.display()
    );
    let late = shell(1, &script).deliver(&notice()).await.unwrap_err();
    assert!(matches!(late, DeliveryError::Late(_)), "{late}");
    assert_gone(&own).await;
    assert_gone(&child).await;
}

#[tokio::test]
async fn what_stays_in_the_background_does_not_hold_the_delivery_up() {
    let folder = tempfile::tempdir().unwrap();
    let child = folder.path().join("child");
    let script = format!("sh -c 'echo $$ > {0}; exec sleep 1000' & while [ ! -s {0} ]; do :; done", child.display());
    let began = Instant::now();
    shell(30, &script).deliver(&notice()).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(20), "it waited for what stays behind");
    assert_gone(&child).await;
}
