//! `tanist agent`. `join` and `run` work on the agent's own host; the others ask the server.

use std::process::ExitCode;

use tanist_agent::AgentError;
use tanist_model::api::{AgentView, ConfirmDead, Refusal, RefusalCode};
use tanist_model::id::{AgentName, ReplicationName};

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
        AgentCommand::Remove { name, yes } => ask(remove(&name, yes, session)),
        AgentCommand::ConfirmDead { name, yes } => ask(confirm_dead(&name, yes, session)),
    }
}

/// Runs the agent of this host until it is told to stop.
fn run_here(args: &AgentRunArgs) -> Outcome {
    let folder = args.place.folder()?;
    service::abort_on_panic();
    service::run(|manager, stop| async move {
        tanist_agent::run(&folder, manager, stop).await.map_err(|error| refusal(&error))
    })
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
    // Before anybody is asked: the word covers what there was when it was asked for, and nothing that begins while it is thought over.
    let term = client.status().await?.term;
    let agent = client.agents().await?.into_iter().find(|agent| agent.name == *name);
    let processes = agent.map(|agent| agent.unproven.into_iter().collect()).unwrap_or_default();
    confirm::require(&vow(name), yes)?;
    session.done(&client.confirm_agent_dead(name, &ConfirmDead { term, processes }).await?)
}

/// What is vouched for, in the words that count afterwards.
fn vow(name: &AgentName) -> String {
    format!(
        "You vouch that the process of agent {name} is gone or its host is powered off. A process that is stopped or hung is \
         not gone: if it writes later, the target is corrupted, and nobody will notice. Did you look at the host itself?"
    )
}

async fn remove(name: &AgentName, yes: bool, session: &Session<'_>) -> Outcome {
    let client = session.client()?;
    if confirm::is_wanted(yes, session.screen) {
        // One that the server does not know is refused by it.
        if let Some(agent) = client.agents().await?.into_iter().find(|agent| agent.name == *name) {
            confirm::ask(&removal(&agent))?;
        }
    }
    session.done(&client.remove_agent(name).await?)
}

fn removal(agent: &AgentView) -> String {
    format!(
        "agent {}: acts for {}, stands by for {}. Its certificate is revoked at once, and to come back it has to join anew.\n\
         Remove it?",
        agent.name,
        listed(&agent.acting_for),
        listed(&agent.failover_for)
    )
}

fn listed(names: &[ReplicationName]) -> String {
    let names: Vec<&str> = names.iter().map(ReplicationName::as_str).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
