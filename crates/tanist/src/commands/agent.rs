//! `tanist agent`. `join` and `run` work on the agent's own host; the others ask the server.

use std::process::ExitCode;

use tanist_agent::AgentError;
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::id::AgentName;

use super::session::Session;
use super::{Outcome, ask, confirm, join, service};
use crate::cli::agent::{AgentCommand, AgentRunArgs};
use crate::failure::Failure;
use crate::output::lists::render_agents;

pub fn run(command: AgentCommand, session: &Session<'_>) -> Outcome {
    match command {
        AgentCommand::Join(args) => ask(join::run(args, session)),
        AgentCommand::Run(args) => run_here(&args),
        AgentCommand::List => ask(list(session)),
        AgentCommand::Drain(args) => ask(async { session.done(&session.client()?.drain_agent(&args.name).await?) }),
        AgentCommand::Undrain(args) => ask(async { session.done(&session.client()?.undrain_agent(&args.name).await?) }),
        AgentCommand::Remove(args) => ask(async { session.done(&session.client()?.remove_agent(&args.name).await?) }),
        AgentCommand::ConfirmDead { name, yes } => ask(confirm_dead(&name, yes, session)),
    }
}

/// Runs the agent of this host until it is told to stop.
fn run_here(args: &AgentRunArgs) -> Outcome {
    let folder = args.place.folder()?;
    service::abort_on_panic();
    service::run(|stop| async move { tanist_agent::run(&folder, stop).await.map_err(|error| refusal(&error)) })
}

fn refusal(error: &AgentError) -> Refusal {
    Refusal::new(RefusalCode::Internal, "the agent cannot run").cause(error.to_string()).hint(error.hint())
}

async fn list(session: &Session<'_>) -> Outcome {
    let agents = session.client()?.agents().await?;
    session.screen.answer(&agents, |agents, style| render_agents(agents, style))?;
    Ok(ExitCode::SUCCESS)
}

async fn confirm_dead(name: &AgentName, yes: bool, session: &Session<'_>) -> Result<ExitCode, Failure> {
    let client = session.client()?;
    confirm::require(&format!("is {name}'s host off, so that nothing of it can still write?"), yes)?;
    session.done(&client.confirm_agent_dead(name).await?)
}
