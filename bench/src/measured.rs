//! What a group of processes costs: the CPU of all of them, ended ones too, from a cgroup (version 2) of their own; where there is none that
//! can be made, from `/proc`, where a process counts when it has been waited for.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;

use crate::kernel;

/// Where groups are made.
#[derive(Debug)]
pub struct Meter {
    cgroup: Option<PathBuf>,
    made: Cell<u32>,
}

impl Meter {
    /// With a cgroup if this process may make one.
    #[must_use]
    pub fn new() -> Self {
        let cgroup = kernel::own_cgroup().map(|own| own.join(format!("tanist-bench-{}", std::process::id())));
        let cgroup = cgroup.filter(|path| fs::create_dir(path).is_ok());
        Self { cgroup: cgroup.filter(|path| path.join("cpu.stat").exists()), made: Cell::new(0) }
    }

    /// How CPU is measured, for the page.
    #[must_use]
    pub fn how(&self) -> &'static str {
        if self.cgroup.is_some() { "cgroup v2" } else { "/proc of the processes that were waited for" }
    }

    /// # Errors
    /// If its cgroup cannot be made.
    pub fn group(&self, name: &str) -> anyhow::Result<Group> {
        self.made.set(self.made.get() + 1);
        let cgroup = self.cgroup.as_ref().map(|parent| parent.join(format!("{name}-{}", self.made.get())));
        if let Some(path) = &cgroup {
            fs::create_dir(path).with_context(|| format!("make {}", path.display()))?;
        }
        Ok(Group(Rc::new(Shared { name: name.to_owned(), cgroup, reaped: Cell::default(), started: Arc::default() })))
    }
}

impl Default for Meter {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(path) = &self.cgroup {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Processes that are measured together.
#[derive(Clone, Debug)]
pub struct Group(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    name: String,
    cgroup: Option<PathBuf>,
    /// Of what has ended, where there is no cgroup.
    reaped: Cell<Duration>,
    started: Arc<Mutex<Vec<u32>>>,
}

fn locked(started: &Mutex<Vec<u32>>) -> MutexGuard<'_, Vec<u32>> {
    started.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Group {
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A command that begins in this group.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let Some(cgroup) = &self.0.cgroup else { return Command::new(program) };
        // The shell enters and becomes the program: nothing of it is measured elsewhere.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ >\"$0\" && exec \"$@\""]).arg(cgroup.join("cgroup.procs")).arg(program);
        command
    }

    pub(crate) fn note_start(&self, process: u32) {
        locked(&self.0.started).push(process);
    }

    /// Reaps a child; nobody else may reap one meanwhile.
    pub(crate) fn reap<T>(&self, process: u32, wait: impl FnOnce() -> T) -> T {
        let before = kernel::cpu_of_reaped();
        let ended = wait();
        self.0.reaped.set(self.0.reaped.get() + kernel::cpu_of_reaped().saturating_sub(before));
        locked(&self.0.started).retain(|other| *other != process);
        ended
    }

    /// What all its processes have taken since there is this group, those that have ended included.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        if let Some(cgroup) = &self.0.cgroup {
            return kernel::cpu_of_cgroup(cgroup);
        }
        let living: Duration = locked(&self.0.started).iter().map(|process| kernel::cpu_of(*process)).sum();
        living + self.0.reaped.get()
    }

    /// The cgroup, else the processes that are started, also later; for a thread that looks again and again.
    #[must_use]
    pub fn seen(&self) -> Seen {
        Seen { name: self.0.name.clone(), cgroup: self.0.cgroup.clone(), started: Arc::clone(&self.0.started) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(path) = &self.cgroup {
            let _ = fs::write(path.join("cgroup.kill"), "1");
            let _ = crate::wait::until("a cgroup is empty", Duration::from_secs(5), || fs::remove_dir(path).ok());
        }
    }
}

/// Where the processes of a group are found.
#[derive(Clone, Debug)]
pub struct Seen {
    pub name: String,
    cgroup: Option<PathBuf>,
    started: Arc<Mutex<Vec<u32>>>,
}

impl Seen {
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        match &self.cgroup {
            Some(cgroup) => kernel::processes_in(cgroup),
            None => kernel::with_descendants(&locked(&self.started)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Process;

    fn busy(meter: &Meter) -> Duration {
        let group = meter.group("busy").unwrap();
        let mut command = group.command(Path::new("/bin/sh"));
        command.args(["-c", "(i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done); true"]);
        Process::start(&group, &mut command, None).unwrap().wait().unwrap();
        group.cpu()
    }

    #[test]
    fn the_cpu_of_children_that_have_ended_is_counted_either_way() {
        let without = Meter { cgroup: None, made: Cell::new(0) };
        for meter in [Meter::new(), without] {
            let cpu = busy(&meter);
            assert!(cpu >= Duration::from_millis(10) && cpu < Duration::from_secs(30), "{}: {cpu:?}", meter.how());
        }
    }
}
