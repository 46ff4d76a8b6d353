//! `tanist storage`.

use std::process::ExitCode;

use super::Outcome;
use super::session::Session;
use crate::cli::StorageCommand;
use crate::output::lists::render_storage;

pub async fn run(command: StorageCommand, session: &Session<'_>) -> Outcome {
    let StorageCommand::List = command;
    let systems = session.client()?.storage().await?;
    session.screen.answer(&systems, |systems, style| render_storage(systems, style))?;
    Ok(ExitCode::SUCCESS)
}
