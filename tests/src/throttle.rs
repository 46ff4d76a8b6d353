//! A sick host: a process that is stopped again and again and gets next to no processor. It goes on, says what it always says, and is
//! slow: nothing that a connection or a beat could show.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::process::Process;
use crate::{signal, wait};

/// Well under the silence that makes an acting agent suspected, 1 s.
const STOPPED: Duration = Duration::from_millis(400);
/// So much processor time it gets in between: enough for a beat,
const SLICE: Duration = Duration::from_millis(2);
/// or so much time, if it wants none.
const LONGEST_SLICE: Duration = Duration::from_millis(20);
const LOOK: Duration = Duration::from_millis(1);

/// The process goes on as before when this is dropped.
#[derive(Debug)]
pub struct Throttle {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Throttle {
    #[must_use]
    pub fn start(process: &Process) -> Self {
        let (ends, id) = (Arc::new(AtomicBool::new(false)), process.id());
        let told = Arc::clone(&ends);
        let thread = thread::spawn(move || {
            while !told.load(Ordering::Acquire) {
                signal::send(id, Signal::STOP);
                wait::pass(STOPPED);
                signal::send(id, Signal::CONT);
                let (begun, used) = (Instant::now(), used(id));
                while self::used(id).saturating_sub(used) < SLICE && begun.elapsed() < LONGEST_SLICE {
                    wait::pass(LOOK);
                }
            }
        });
        Self { ends, thread: Some(thread) }
    }
}

impl Drop for Throttle {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The processor time of all threads of a process: the first number of `/proc/PID/task/TID/schedstat`, nanoseconds.
fn used(id: u32) -> Duration {
    let tasks = std::fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    };
    Duration::from_nanos(tasks.map(of).sum())
}
