//! Stages on threads of their own: started together, joined together, and none of them waits for one that has panicked.

use std::thread::{self, JoinHandle, Scope, ScopedJoinHandle};

use crate::control::{Control, Halt};
use crate::error::TransferError;
use crate::progress::Stage;

/// What a stage does, and under which name its panic is reported.
pub(crate) type Work<'a> = (Stage, Box<dyn FnOnce() + Send + 'a>);

/// Runs the stages, and `last` on this thread; what `last` says, once all have ended.
pub(crate) fn run<'a, T>(control: &Control, stages: Vec<Work<'a>>, last: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let start = |(stage, work): Work<'a>| (stage, spawn_in(scope, stage, move || guarded(control, work)));
        let running: Vec<_> = stages.into_iter().map(start).collect();
        let outcome = guarded(control, last);
        for (stage, handle) in running {
            if handle.join().is_err() {
                control.fail(TransferError::Panicked(stage));
            }
        }
        outcome
    })
}

/// Starts a thread under the name of its stage: by it the kernel shows who takes the CPU (`top -H`, `/proc/PID/task/*/comm`).
///
/// # Panics
/// If the operating system has no thread left, as [`thread::spawn`] does.
pub(crate) fn spawn(stage: Stage, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    named(stage).spawn(work).unwrap_or_else(|error| no_thread(stage, &error))
}

/// The same within a scope.
pub(crate) fn spawn_in<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    stage: Stage,
    work: impl FnOnce() -> T + Send + 'scope,
) -> ScopedJoinHandle<'scope, T> {
    named(stage).spawn_scoped(scope, work).unwrap_or_else(|error| no_thread(stage, &error))
}

fn named(stage: Stage) -> thread::Builder {
    thread::Builder::new().name(stage.name().to_owned())
}

fn no_thread(stage: Stage, error: &std::io::Error) -> ! {
    panic!("start a thread of the stage {stage}: {error}")
}

/// Ends the other stages if the thread it lives on panics, so that none of them waits for ever.
struct AbortOnPanic<'a>(&'a Control);

impl Drop for AbortOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.halt(Halt::Abort);
        }
    }
}

pub(crate) fn guarded<T>(control: &Control, work: impl FnOnce() -> T) -> T {
    let _guard = AbortOnPanic(control);
    work()
}
