//! What the kernel tells in its files: CPU, memory and threads of processes, cgroups, the bytes of the loopback interface.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Every kernel that Rust runs on shows its times in these, whatever its own clock.
const TICKS_PER_SECOND: u64 = 100;

/// The cgroup (version 2) of this process.
#[must_use]
pub fn own_cgroup() -> Option<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next() == Some("cgroup2")).then(|| place.to_owned())
    })?;
    Some(Path::new(&mount).join(own))
}

#[must_use]
pub fn cpu_of_cgroup(cgroup: &Path) -> Duration {
    let text = fs::read_to_string(cgroup.join("cpu.stat")).unwrap_or_default();
    let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec ")).and_then(|text| text.parse().ok());
    Duration::from_micros(usage.unwrap_or_default())
}

#[must_use]
pub fn processes_in(cgroup: &Path) -> Vec<u32> {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// These and whatever they have started that still has them as parents.
#[must_use]
pub fn with_descendants(started: &[u32]) -> Vec<u32> {
    let parents: Vec<(u32, u32)> =
        numbers_in(Path::new("/proc")).into_iter().filter_map(|process| Some((process, parent_of(process)?))).collect();
    let mut found = started.to_vec();
    let mut looked = 0;
    while let Some(parent) = found.get(looked).copied() {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        looked += 1;
    }
    found
}

fn parent_of(process: u32) -> Option<u32> {
    u32::try_from(stat(&format!("/proc/{process}/stat"))?.get(1).copied()?).ok()
}

/// Of a process and of the children that it has waited for.
#[must_use]
pub fn cpu_of(process: u32) -> Duration {
    cpu_fields(&format!("/proc/{process}/stat"), 11..15)
}

/// Of the children that this process has waited for.
#[must_use]
pub fn cpu_of_reaped() -> Duration {
    cpu_fields("/proc/self/stat", 13..15)
}

fn cpu_fields(path: &str, fields: std::ops::Range<usize>) -> Duration {
    let ticks: u64 = stat(path).and_then(|stat| Some(stat.get(fields)?.iter().sum())).unwrap_or_default();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}

/// The fields after the name, which may hold anything; the letter of the state, and what is negative, as zero.
fn stat(path: &str) -> Option<Vec<u64>> {
    let text = fs::read_to_string(path).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split(' ').map(|field| field.trim().parse().unwrap_or_default()).collect())
}

/// The most memory that a process had resident, in KiB, and its name.
#[must_use]
pub fn peak_memory(process: u32) -> Option<(u64, String)> {
    let text = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let kibibytes = field("VmHWM:")?.trim_end_matches(" kB").parse().ok()?;
    Some((kibibytes, field("Name:")?))
}

/// From here on the peak is measured anew.
pub fn forget_peak_memory(process: u32) {
    let _ = fs::write(format!("/proc/{process}/clear_refs"), "5");
}

/// The threads of a process with their names and what each has run.
#[must_use]
pub fn threads_of(process: u32) -> Vec<(u32, String, Duration)> {
    let folder = PathBuf::from(format!("/proc/{process}/task"));
    numbers_in(&folder).into_iter().filter_map(|thread| thread_of(&folder, thread)).collect()
}

fn thread_of(folder: &Path, thread: u32) -> Option<(u32, String, Duration)> {
    let folder = folder.join(thread.to_string());
    let ran = fs::read_to_string(folder.join("schedstat")).ok()?;
    let nanos = ran.split(' ').next()?.parse().ok()?;
    let name = fs::read_to_string(folder.join("comm")).ok()?;
    Some((thread, name.trim().to_owned(), Duration::from_nanos(nanos)))
}

fn numbers_in(folder: &Path) -> Vec<u32> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// What the loopback interface of this network namespace has sent.
#[must_use]
pub fn loopback_sent_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/net/dev").ok()?;
    let counters = text.lines().find_map(|line| line.trim().strip_prefix("lo:"))?;
    counters.split_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let own = std::process::id();
        let (kibibytes, name) = peak_memory(own).unwrap();
        assert!(kibibytes > 1000 && name.starts_with("tanist"), "{kibibytes} {name}");
        assert!(!threads_of(own).is_empty());
        assert!(loopback_sent_bytes().is_some());
        assert!(with_descendants(&[parent_of(own).unwrap()]).contains(&own));
    }
}
