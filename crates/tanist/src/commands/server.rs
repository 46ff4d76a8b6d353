//! `tanist server`. `backup` asks a running server; the others work on the server's own host.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tanist_model::api::{BackupTo, Refusal, RefusalCode};
use tanist_server::{InitOptions, Initialised, ServerError};

use super::session::Session;
use super::{Outcome, ask, service};
use crate::cli::server::{AlarmCommand, ServerCommand, ServerInitArgs, ServerRestoreArgs, ServerRunArgs};
use crate::client::context::Context;
use crate::output::lists::render_alarms;
use crate::output::{Style, Tone};

pub fn run(command: ServerCommand, session: &Session<'_>) -> Outcome {
    match command {
        ServerCommand::Backup { file } => ask(backup(file, session)),
        ServerCommand::Alarm(command) => ask(alarm(command, session)),
        ServerCommand::Init(args) => ask(init(args, session)),
        ServerCommand::Run(args) => run_here(&args),
        ServerCommand::Restore(args) => ask(restore(args, session)),
    }
}

async fn backup(path: String, session: &Session<'_>) -> Outcome {
    session.done(&session.client()?.backup(&BackupTo { path }).await?)
}

async fn alarm(command: AlarmCommand, session: &Session<'_>) -> Outcome {
    match command {
        AlarmCommand::List => {
            let alarms = session.client()?.alarms().await?;
            session.screen.answer(&alarms, |alarms, style| render_alarms(alarms, style))?;
            Ok(ExitCode::SUCCESS)
        }
        AlarmCommand::Test { name } => session.done(&session.client()?.test_alarm(&name).await?),
    }
}

/// What `server init` made, for people and programs. The credential is in the context file and nowhere else.
#[derive(Serialize)]
struct InitReport {
    cluster: String,
    directory: String,
    address: String,
    ca_hash: String,
    operator: String,
    context: String,
    next: String,
}

/// Makes the installation and logs its first operator in on this host.
async fn init(args: ServerInitArgs, session: &Session<'_>) -> Outcome {
    let dir = args.place.folder()?;
    let context_file = session.context_file()?;
    if context_file.exists() {
        return Err(Refusal::new(RefusalCode::Conflict, "this operator is logged in to a server already")
            .cause(format!("{} exists, and would be replaced", context_file.display()))
            .hint("move it away, or name another file: tanist --context FILE server init")
            .into());
    }
    let options = InitOptions { dir: dir.clone(), listen: args.listen, advertise: args.advertise };
    let made = tanist_server::init(options).await.map_err(|error| refusal(&error))?;
    let context = Context {
        server: made.address.clone(),
        credential: made.credential.reveal().to_owned(),
        ca: made.ca_pem.clone(),
    };
    context.save(&context_file)?;
    let report = report(&made, &dir, &context_file, args.place.dir.is_some());
    session.screen.answer(&report, render_init)?;
    Ok(ExitCode::SUCCESS)
}

fn report(made: &Initialised, dir: &Path, context_file: &Path, named: bool) -> InitReport {
    InitReport {
        cluster: made.cluster.to_string(),
        directory: dir.display().to_string(),
        address: made.address.clone(),
        ca_hash: made.ca_hash.to_string(),
        operator: made.operator.clone(),
        context: context_file.display().to_string(),
        next: service::next_step("server", named.then_some(dir)),
    }
}

fn render_init(made: &InitReport, style: Style) -> String {
    let InitReport { cluster, directory, address, ca_hash, operator, context, next } = made;
    let local = address.starts_with("127.") || address.starts_with("[::1]") || address.starts_with("localhost:");
    let unreachable = if local {
        "\nNobody but this host reaches that address. For agents elsewhere, put the right one into advertise in server.toml, and start the server anew; or give it at once: server init --advertise HOST:7420.\n"
    } else {
        ""
    };
    format!(
        "cluster {cluster} is made in {directory}\n\
         you are its operator {operator}; the credential is in {context}, keep it safe\n\
         agents and operators reach the server at {address}; from another machine:\n\n  \
         tanist login {address} --ca-hash {ca_hash}\n{unreachable}\n{} {next}\n",
        style.paint(Tone::Strong, "next:")
    )
}

fn run_here(args: &ServerRunArgs) -> Outcome {
    let dir = args.place.folder()?;
    service::run(|manager, stop| async move {
        tanist_server::run(&dir, manager, stop).await.map_err(|error| refusal(&error))
    })
}

#[derive(Serialize)]
struct RestoreAnswer {
    message: String,
    next: String,
}

async fn restore(args: ServerRestoreArgs, session: &Session<'_>) -> Outcome {
    let dir = args.place.folder()?;
    let report = tanist_server::restore(&dir, &args.file).await.map_err(|error| refusal(&error))?;
    let owing: Vec<String> = report.owing.iter().map(ToString::to_string).collect();
    let kept =
        report.replaced.as_ref().map_or(String::new(), |path| format!("; the old store is kept as {}", path.display()));
    let waits = if owing.is_empty() { "no agent".to_owned() } else { owing.join(", ") };
    let answer = RestoreAnswer {
        message: format!(
            "{} is in place in {}{kept}; nothing is granted until these have shown their epochs: {waits}",
            args.file.display(),
            dir.display()
        ),
        next: service::next_step("server", args.place.dir.as_deref()),
    };
    session.screen.answer(&answer, |answer, style| {
        format!("{}\n\n{} {}\n", answer.message, style.paint(Tone::Strong, "next:"), answer.next)
    })?;
    Ok(ExitCode::SUCCESS)
}

fn refusal(error: &ServerError) -> Refusal {
    let code = match error {
        ServerError::AlreadyInitialised { .. } | ServerError::NotEmpty { .. } | ServerError::Listen { .. } => {
            RefusalCode::Conflict
        }
        ServerError::NotInitialised { .. } => RefusalCode::NotFound,
        ServerError::Config { .. } | ServerError::Advertise(_) | ServerError::Backup { .. } => RefusalCode::Invalid,
        _ => RefusalCode::Internal,
    };
    Refusal::new(code, error.to_string()).hint(error.hint())
}
