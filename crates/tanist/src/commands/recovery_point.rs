//! `tanist recovery-point`.

use std::process::ExitCode;

use super::Outcome;
use super::session::Session;
use crate::cli::RecoveryPointCommand;
use crate::output::lists::render_recovery_points;

pub async fn run(command: RecoveryPointCommand, session: &Session<'_>) -> Outcome {
    let RecoveryPointCommand::List { name } = command;
    let points = session.client()?.recovery_points(&name).await?;
    session.screen.answer(&points, |points, style| render_recovery_points(points, style))?;
    Ok(ExitCode::SUCCESS)
}
