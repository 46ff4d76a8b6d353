//! The engine of an agent that has no storage: it opens and closes at once, and moves nothing.

use tanist_protocol::agent::{EngineCommand, EngineEvent, ReaderCommand, ReaderEvent};
use tanist_protocol::message::{FenceReport, RunFailureKind};

/// Why a run does not begin here.
const NO_DATA: &str = "a simulated agent moves no data";

/// What the engine of a holder would report to this command; `None` if nothing.
pub(crate) fn obey(command: &EngineCommand) -> Option<EngineEvent> {
    let failed = |run| EngineEvent::RunFailed { run, kind: RunFailureKind::Io, reason: NO_DATA.to_owned() };
    match command {
        EngineCommand::Open { .. } => Some(EngineEvent::Opened { fence: FenceReport::default() }),
        EngineCommand::Close { .. } => Some(EngineEvent::Closed),
        EngineCommand::Halt { run } => Some(EngineEvent::Halted { run: *run }),
        EngineCommand::Prepare { run, .. } | EngineCommand::Keep { run, .. } => Some(failed(*run)),
        EngineCommand::Copy { copy, .. } | EngineCommand::Verify { copy } => Some(failed(copy.run)),
        EngineCommand::TryLock
        | EngineCommand::AskArray { .. }
        | EngineCommand::Committed { .. }
        | EngineCommand::Published { .. }
        | EngineCommand::Release { .. }
        | EngineCommand::Expire { .. } => None,
    }
}

/// What the engine of a reader would report to this command; `None` if nothing.
pub(crate) fn read(command: &ReaderCommand) -> Option<ReaderEvent> {
    match command {
        ReaderCommand::Prepare { run, .. } | ReaderCommand::Send { run, .. } => {
            Some(ReaderEvent::Failed { run: *run, kind: RunFailureKind::Io, reason: NO_DATA.to_owned() })
        }
        ReaderCommand::Close => Some(ReaderEvent::Closed),
        ReaderCommand::Rest | ReaderCommand::Published { .. } | ReaderCommand::Release { .. } => None,
    }
}
