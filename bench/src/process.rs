//! A process of a measured group. It dies with the value that stands for it.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::Context as _;

use crate::measured::Group;

#[derive(Debug)]
pub struct Process {
    child: Child,
    group: Group,
    ended: bool,
}

impl Process {
    /// Starts a command of a group; what it says goes to the log, or nowhere.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(group: &Group, command: &mut Command, log: Option<&Path>) -> anyhow::Result<Self> {
        command.stdin(Stdio::null());
        if let Some(log) = log {
            let file = File::options().create(true).append(true).open(log).context("open a log")?;
            command.stdout(file.try_clone()?).stderr(file);
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        group.note_start(child.id());
        Ok(Self { child, group: group.clone(), ended: false })
    }

    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Until it ends by itself.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn wait(mut self) -> anyhow::Result<ExitStatus> {
        self.ended = true;
        let child = &mut self.child;
        self.group.reap(child.id(), || child.wait()).context("wait for a process")
    }

    /// SIGKILL; it is reaped when this returns.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let child = &mut self.child;
            let _ = child.kill();
            let _ = self.group.reap(child.id(), || child.wait());
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}
