//! `tanist volume`.

use std::process::ExitCode;

use super::Outcome;
use super::session::Session;
use crate::cli::VolumeCommand;
use crate::output::lists::render_volumes;

pub async fn run(command: VolumeCommand, session: &Session<'_>) -> Outcome {
    let VolumeCommand::List { storage } = command;
    let mut volumes = session.client()?.volumes().await?;
    volumes.retain(|view| storage.as_ref().is_none_or(|system| view.report.address.system == *system));
    session.screen.answer(&volumes, |volumes, style| render_volumes(volumes, style))?;
    Ok(ExitCode::SUCCESS)
}
