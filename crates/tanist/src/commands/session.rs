//! What every command that asks the server has at hand.

use std::path::PathBuf;
use std::process::ExitCode;

use tanist_model::api::Done;

use crate::client::Client;
use crate::client::context::{Context, ContextError};
use crate::failure::Failure;
use crate::output::{Screen, Style, Tone};
use crate::paths::Environment;

use super::Outcome;

/// The operator's context and screen.
#[derive(Debug)]
pub struct Session<'a> {
    context_file: Option<PathBuf>,
    pub screen: &'a Screen,
}

impl<'a> Session<'a> {
    #[must_use]
    pub fn new(context_file: Option<PathBuf>, screen: &'a Screen) -> Self {
        Self { context_file, screen }
    }

    /// The file named on the command line or in the environment, or the usual one.
    pub fn context_file(&self) -> Result<PathBuf, ContextError> {
        let usual = || Environment::of_process().context_file();
        self.context_file.clone().or_else(named_by_variable).or_else(usual).ok_or(ContextError::NoHome)
    }

    /// A client of the server in the context.
    pub fn client(&self) -> Result<Client, Failure> {
        Ok(Client::new(&Context::load(&self.context_file()?)?)?)
    }

    /// Shows the answer to a command that changed something.
    pub fn done(&self, done: &Done) -> Outcome {
        self.screen.answer(done, render_done)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn render_done(done: &Done, style: Style) -> String {
    match &done.next {
        Some(next) => format!("{}\n\n{} {next}\n", done.message, style.paint(Tone::Strong, "next:")),
        None => format!("{}\n", done.message),
    }
}

/// An empty variable is one that is not set.
fn named_by_variable() -> Option<PathBuf> {
    std::env::var_os("TANIST_CONTEXT").filter(|name| !name.is_empty()).map(PathBuf::from)
}
