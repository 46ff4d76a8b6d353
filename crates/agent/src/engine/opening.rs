//! Opening the volumes of a role, and the kernel lock on the target's I/O descriptor.

use std::thread;
use std::time::{Duration, Instant};

use tanist_protocol::agent::EngineEvent;
use tanist_protocol::message::{Assignment, FenceReport};
use tanist_storage::{LockAttempt, TargetHandle};

use super::{Engine, Next, Open};
use crate::source::same_volume;

/// A killed process gives its lock back only when its last I/O has ended, tens of milliseconds later; that is worth waiting
/// for. One that is stopped does not, and is not waited for longer than this.
const LOCK_PATIENCE: Duration = Duration::from_millis(120);
const LOCK_PAUSE: Duration = Duration::from_millis(2);

impl Engine {
    pub(super) fn open(&mut self, assignment: Assignment) -> Next {
        match self.open_volumes(assignment) {
            Ok(open) => {
                let fence = fence_of(&open);
                self.open = Some(open);
                self.report(EngineEvent::Opened { fence });
                Next::Go
            }
            Err(reason) => {
                self.report(EngineEvent::OpenFailed { reason });
                Next::End
            }
        }
    }

    fn open_volumes(&self, assignment: Assignment) -> Result<Open, String> {
        let system = self.storages.of(&assignment.target)?;
        let target = system.open_target(&assignment.target).map_err(|e| e.to_string())?;
        same_volume("target", &assignment.target_identity, target.identity())?;
        let size = target.device().size_bytes();
        if size < assignment.size_bytes {
            return Err(format!("the target has {size} bytes, the replication needs {}", assignment.size_bytes));
        }
        let sector = target.device().sector_bytes();
        if !assignment.size_bytes.is_multiple_of(sector) {
            return Err(format!(
                "the target is written in sectors of {sector} bytes, and the source's {} bytes are no multiple of that",
                assignment.size_bytes
            ));
        }
        let locked = obtain_lock(&target)?;
        if !locked && !assignment.lock_may_be_held {
            return Err(format!("{} is locked by another program", assignment.target));
        }
        let lock_proves = system.report().capabilities.kernel_lock;
        Ok(Open { assignment, target, locked, lock_proves })
    }

    /// The predecessor may have ended meanwhile.
    pub(super) fn try_lock_again(&mut self) {
        let Some(open) = self.open.as_mut().filter(|open| !open.locked) else { return };
        match open.target.try_lock() {
            Ok(LockAttempt::Held) => {
                open.locked = true;
                let fence = fence_of(open);
                self.report(EngineEvent::Locked { fence });
            }
            Ok(LockAttempt::HeldByAnother) => {}
            Err(error) => tracing::warn!(%error, "the lock on the target cannot be tried"),
        }
    }
}

fn fence_of(open: &Open) -> FenceReport {
    if !(open.locked && open.lock_proves) {
        return FenceReport::default();
    }
    let lock_place = open.target.lock_place().map(ToOwned::to_owned);
    FenceReport { locked: Some(open.target.identity().to_owned()), lock_place, reservation: None }
}

fn obtain_lock(target: &TargetHandle) -> Result<bool, String> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    loop {
        match target.try_lock().map_err(|e| e.to_string())? {
            LockAttempt::Held => return Ok(true),
            LockAttempt::HeldByAnother if Instant::now() >= deadline => return Ok(false),
            LockAttempt::HeldByAnother => thread::sleep(LOCK_PAUSE),
        }
    }
}
