//! Looks at groups of processes while they work: how much memory each process had at most, and which thread took the CPU. A thread of its
//! own, since what it looks at may be gone when all has ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::kernel;
use crate::measured::{Group, Seen};

const LOOK_EVERY: Duration = Duration::from_millis(25);
/// After this, whatever is measured hangs, and is ended.
const HANGS_AFTER: Duration = Duration::from_secs(1800);
/// Whoever takes less than this part of what the busiest takes, stands by.
const BUSY_PART: u32 = 10;
/// They only hold others together.
const SHELLS: [&str; 2] = ["sh", "bash"];

/// What was seen.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// In KiB, by group and process: what `VmHWM` was at last.
    peaks: BTreeMap<(String, u32), u64>,
    /// By group, thread and name: what it had run when it was first and last seen.
    threads: BTreeMap<(String, u32, String), (Duration, Duration)>,
}

impl Sight {
    /// Of all processes together, the most of each, in the groups that were at work; but for one group.
    #[must_use]
    pub fn peak_bytes_without(&self, group: &str) -> u64 {
        let busy = self.busy();
        let others = self.peaks.iter().filter(|((name, _), _)| name != group && busy.contains(name));
        others.map(|(_, peak)| *peak).sum::<u64>() << 10
    }

    /// Who stands by takes some CPU too, and a hundredth of what those take who work.
    fn busy(&self) -> BTreeSet<String> {
        let mut ran: BTreeMap<String, Duration> = BTreeMap::new();
        for ((group, ..), (first, last)) in &self.threads {
            *ran.entry(group.clone()).or_default() += last.saturating_sub(*first);
        }
        let most = ran.values().max().copied().unwrap_or_default();
        ran.into_iter().filter(|(_, ran)| *ran >= most / BUSY_PART).map(|(group, _)| group).collect()
    }

    /// The CPU of threads of one name in one group, what they ran before it was looked at left out.
    #[must_use]
    pub fn threads(&self) -> BTreeMap<(String, String), Duration> {
        let mut named = BTreeMap::new();
        for ((group, _, name), (first, last)) in &self.threads {
            *named.entry((group.clone(), role(name).to_owned())).or_default() += last.saturating_sub(*first);
        }
        named
    }

    fn look(&mut self, seen: &[Seen], known: bool) {
        for group in seen {
            for process in group.processes() {
                if let Some((peak, _)) = kernel::peak_memory(process).filter(|(_, name)| !is_shell(name)) {
                    self.peaks.insert((group.name.clone(), process), peak);
                }
                self.note_threads(&group.name, process, known);
            }
        }
    }

    /// A thread that was not there at first has run all of it since.
    fn note_threads(&mut self, group: &str, process: u32, known: bool) {
        for (thread, name, ran) in kernel::threads_of(process) {
            let first = if known { Duration::ZERO } else { ran };
            self.threads.entry((group.to_owned(), thread, name)).or_insert((first, ran)).1 = ran;
        }
    }
}

/// What a thread does, without the id of whom it does it for.
fn role(name: &str) -> &str {
    match name.split_once('-') {
        Some((role, id)) if id.len() >= 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => role,
        _ => name,
    }
}

fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}

/// Somebody who looks.
#[derive(Debug)]
pub struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Sight>,
}

impl Watch {
    /// Begins to look; peaks count from here on.
    #[must_use]
    pub fn start(groups: &[&Group]) -> Self {
        let seen: Vec<Seen> = groups.iter().map(|group| group.seen()).collect();
        seen.iter().flat_map(Seen::processes).for_each(kernel::forget_peak_memory);
        let mut sight = Sight::default();
        sight.look(&seen, false);
        let (stop, stopped) = channel();
        let began = Instant::now();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                sight.look(&seen, true);
                if began.elapsed() > HANGS_AFTER {
                    seen.iter().flat_map(Seen::processes).for_each(end);
                }
            }
            sight.look(&seen, true);
            sight
        });
        Self { stop, thread }
    }

    /// What was seen until now.
    #[must_use]
    pub fn end(self) -> Sight {
        drop(self.stop);
        self.thread.join().unwrap_or_default()
    }
}

fn end(process: u32) {
    if let Some(process) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        let _ = kill_process(process, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_known_by_what_it_does() {
        assert_eq!(["engine-8ddf1686", "tokio-rt-worker", "encode"].map(role), ["engine", "tokio-rt-worker", "encode"]);
    }
}
