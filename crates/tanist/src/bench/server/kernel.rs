//! What the kernel says of a process.

use std::time::{Duration, Instant};

use crate::failure::Failure;

/// The memory that a process has resident now, and the most that it ever had; bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memory {
    pub(super) resident_bytes: u64,
    pub(super) peak_bytes: u64,
}

pub(super) fn memory(process: u32) -> Result<Memory, Failure> {
    let text = read(process, "status")?;
    let kibibytes = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key));
        line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok())
    };
    match (kibibytes("VmRSS:"), kibibytes("VmHWM:")) {
        (Some(resident), Some(peak)) => Ok(Memory { resident_bytes: resident << 10, peak_bytes: peak << 10 }),
        _ => Err(unreadable("memory")),
    }
}

/// The CPU time of a process from a moment on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stopwatch {
    process: u32,
    began: Instant,
    used: Duration,
}

impl Stopwatch {
    pub(super) fn start(process: u32) -> Result<Self, Failure> {
        Ok(Self { process, began: Instant::now(), used: cpu_time(process)? })
    }

    /// The share of one core that the process has used since, in percent, to a hundredth.
    pub(super) fn share_percent(&self) -> Result<f64, Failure> {
        let used = cpu_time(self.process)?.saturating_sub(self.used).as_secs_f64();
        Ok((used / self.began.elapsed().as_secs_f64() * 10_000.0).round() / 100.0)
    }
}

/// In user and system mode, of all threads.
fn cpu_time(process: u32) -> Result<Duration, Failure> {
    let text = read(process, "stat")?;
    cpu_ticks(&text)
        .map(|ticks| Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
        .ok_or_else(|| unreadable("CPU time"))
}

/// Fields 14 and 15 of proc_pid_stat(5). The second is the program's name, in brackets, and may hold spaces.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

fn read(process: u32, file: &str) -> Result<String, Failure> {
    let path = format!("/proc/{process}/{file}");
    std::fs::read_to_string(&path).map_err(|e| Failure::io(format!("read {path}"), e))
}

fn unreadable(what: &str) -> Failure {
    Failure::io(format!("read the {what} of the server"), std::io::Error::other("the kernel says it in other words"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_shift_the_fields() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(300));
        assert_eq!(cpu_ticks("7 (a) S"), None);
    }

    #[test]
    fn this_process_has_memory_and_uses_time() {
        let own = std::process::id();
        let memory = memory(own).unwrap();
        assert!(memory.resident_bytes > 0 && memory.peak_bytes >= memory.resident_bytes);
        assert!(Stopwatch::start(own).unwrap().share_percent().unwrap() >= 0.0);
    }
}
