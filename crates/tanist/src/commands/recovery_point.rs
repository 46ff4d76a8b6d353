//! `tanist recovery-point`.

use std::process::ExitCode;

use tanist_model::api::{RecoveryPointView, Refusal, RefusalCode};
use tanist_model::id::{ReplicationName, RunId};
use tanist_model::recovery_point::RecoveryPointPlace;

use super::Outcome;
use super::session::Session;
use crate::cli::{PointArgs, RecoveryPointCommand};
use crate::output::lists::render_recovery_points;

pub async fn run(command: RecoveryPointCommand, session: &Session<'_>) -> Outcome {
    match command {
        RecoveryPointCommand::List { name, all } => {
            let points = session.client()?.recovery_points(&name).await?;
            session.screen.answer(&points, |points, style| render_recovery_points(&name, points, all, style))?;
            Ok(ExitCode::SUCCESS)
        }
        RecoveryPointCommand::Export(args) => super::export::run(args, session).await,
        RecoveryPointCommand::Pin(args) => pin(&args, true, session).await,
        RecoveryPointCommand::Unpin(args) => pin(&args, false, session).await,
    }
}

async fn pin(args: &PointArgs, pinned: bool, session: &Session<'_>) -> Outcome {
    let client = session.client()?;
    let run = find(&args.name, &args.point, &client.recovery_points(&args.name).await?)?;
    session.done(&client.pin(&args.name, run, pinned).await?)
}

/// The point that was meant: by the beginning of its run's identity, or the last one that is there.
///
/// # Errors
/// A refusal if none or several could be meant.
pub fn find(name: &ReplicationName, text: &str, points: &[RecoveryPointView]) -> Result<RunId, Refusal> {
    let held = |point: &&RecoveryPointView| point.place != RecoveryPointPlace::Gone && !point.expired;
    let hint = format!("tanist recovery-point list {name}");
    if text == "last" {
        let none = || Refusal::new(RefusalCode::NotFound, format!("{name} has no recovery point")).hint(hint);
        return points.iter().find(held).map(|point| point.run).ok_or_else(none);
    }
    let meant: Vec<RunId> =
        points.iter().map(|point| point.run).filter(|run| run.to_string().starts_with(text)).collect();
    match meant.as_slice() {
        [run] => Ok(*run),
        [] => {
            Err(Refusal::new(RefusalCode::NotFound, format!("{name} has no recovery point of a run {text}")).hint(hint))
        }
        _ => Err(Refusal::new(RefusalCode::Invalid, format!("'{text}' begins several runs of {name}")).hint(hint)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn a_point_is_found_by_the_beginning_of_its_run() {
        let name = ReplicationName::new("db").unwrap();
        let point = |run, place| RecoveryPointView { run: RunId(run), place, ..samples::recovery_point() };
        let points = [
            point(0xaa00_0000_0000_0003, RecoveryPointPlace::Gone),
            point(0xab00_0000_0000_0002, RecoveryPointPlace::Target),
            point(0xcd00_0000_0000_0001, RecoveryPointPlace::Snapshot("s".into())),
        ];
        let found = |text: &str| find(&name, text, &points).map_err(|refusal| refusal.code);
        assert_eq!(found("last"), Ok(RunId(0xab00_0000_0000_0002)));
        assert_eq!(found("cd"), Ok(RunId(0xcd00_0000_0000_0001)));
        assert_eq!(found("a"), Err(RefusalCode::Invalid));
        assert_eq!(found("ff"), Err(RefusalCode::NotFound));
    }
}
