//! `tanist server`. `backup` asks a running server; the others work on this host, see [`on_this_host`].

use tanist_model::api::{BackupTo, Refusal, RefusalCode};

use super::session::Session;
use super::{Outcome, ask};
use crate::cli::server::ServerCommand;

pub fn run(command: ServerCommand, session: &Session<'_>) -> Outcome {
    match command {
        ServerCommand::Backup { file } => ask(backup(file, session)),
        command => on_this_host(&command),
    }
}

async fn backup(path: String, session: &Session<'_>) -> Outcome {
    session.done(&session.client()?.backup(&BackupTo { path }).await?)
}

/// `init`, `run` and `restore`: what is done on the server's own host, without asking a server.
fn on_this_host(_command: &ServerCommand) -> Outcome {
    Err(Refusal::new(RefusalCode::Invalid, "this build has the operator's commands only, and no server").into())
}
