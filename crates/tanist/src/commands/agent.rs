//! `tanist agent`. `join` and `run` work on the agent's own host, see [`on_this_host`]; the others ask the server.

use std::process::ExitCode;

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::id::AgentName;

use super::session::Session;
use super::{Outcome, ask, confirm};
use crate::cli::agent::AgentCommand;
use crate::failure::Failure;
use crate::output::lists::render_agents;

pub fn run(command: AgentCommand, session: &Session<'_>) -> Outcome {
    match command {
        AgentCommand::Join(_) | AgentCommand::Run(_) => on_this_host(&command),
        AgentCommand::List => ask(list(session)),
        AgentCommand::Drain(args) => ask(async { session.done(&session.client()?.drain_agent(&args.name).await?) }),
        AgentCommand::Undrain(args) => ask(async { session.done(&session.client()?.undrain_agent(&args.name).await?) }),
        AgentCommand::Remove(args) => ask(async { session.done(&session.client()?.remove_agent(&args.name).await?) }),
        AgentCommand::ConfirmDead { name, yes } => ask(confirm_dead(&name, yes, session)),
    }
}

/// `join` and `run`: what is done on the agent's own host, without the operator's context.
fn on_this_host(_command: &AgentCommand) -> Outcome {
    Err(Refusal::new(RefusalCode::Invalid, "this build has the operator's commands only, and no agent").into())
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
