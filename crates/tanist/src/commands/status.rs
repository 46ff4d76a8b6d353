//! `tanist status`, which a monitoring system may run as it is.

use std::process::ExitCode;

use tanist_model::api::StatusView;

use super::Outcome;
use super::session::Session;
use crate::failure::Failure;
use crate::output::status::{exit_status, render_status};

/// Exit status "unknown" of monitoring plugins.
const CANNOT_ASK: u8 = 3;

pub async fn run(session: &Session<'_>) -> Outcome {
    match ask(session).await {
        Ok(view) => {
            session.screen.answer(&view, render_status)?;
            Ok(ExitCode::from(exit_status(&view)))
        }
        Err(failure) => {
            session.screen.failure(&failure);
            Ok(ExitCode::from(CANNOT_ASK))
        }
    }
}

async fn ask(session: &Session<'_>) -> Result<StatusView, Failure> {
    Ok(session.client()?.status().await?)
}
