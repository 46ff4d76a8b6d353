//! Stages on threads of their own: started together, joined together, and none of them waits for one that has panicked.

use std::thread;

use crate::control::{Control, Halt};
use crate::error::TransferError;
use crate::progress::Stage;

/// What a stage does, and under which name its panic is reported.
pub(crate) type Work<'a> = (Stage, Box<dyn FnOnce() + Send + 'a>);

/// Runs the stages, and `last` on this thread; what `last` says, once all have ended.
pub(crate) fn run<'a, T>(control: &Control, stages: Vec<Work<'a>>, last: impl FnOnce() -> T) -> T {
    thread::scope(|scope| {
        let start = |(stage, work): Work<'a>| {
            // The kernel shows who takes the CPU by these names (`top -H`, `/proc/PID/task/*/comm`).
            let thread = thread::Builder::new().name(stage.to_string());
            let started = thread.spawn_scoped(scope, move || guarded(control, work));
            (stage, started.unwrap_or_else(|error| panic!("start the thread of the stage {stage}: {error}")))
        };
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
