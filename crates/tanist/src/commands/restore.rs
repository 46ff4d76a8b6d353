//! `tanist restore`: a recovery point brought back, by a replication for one run.

use tanist_model::api::{CreateReplication, ReplicationView, RestoreFrom};
use tanist_model::id::AgentName;
use tanist_model::policy::Policy;
use tanist_model::replication::Side;

use super::Outcome;
use super::recovery_point::find;
use super::replication::{Consent, agree};
use super::session::Session;
use super::transfer::{carry_out, made_name};
use crate::cli::replication::RestoreArgs;

pub async fn run(args: RestoreArgs, session: &Session<'_>) -> Outcome {
    let client = session.client()?;
    let view = client.replication(&args.name).await?;
    let run = find(&args.name, &args.point, &client.recovery_points(&args.name).await?)?;
    let agents = if args.agents.is_empty() { agents_of(&view) } else { args.agents };
    let source = view.sides.iter().find(|side| side.side == Side::Target).map(|side| side.volume.clone());
    let request = CreateReplication {
        name: made_name("restore")?,
        // The server knows better, and says so in its plan.
        source: source.unwrap_or_else(|| args.to.clone()),
        target: args.to,
        agents,
        policy: Policy {
            bandwidth_bytes_per_second: args.limit.map(|limit| limit.bytes_per_second),
            ..Policy::default()
        },
        overwrite_target: args.overwrite_target,
        once: true,
        restore: Some(RestoreFrom { replication: args.name, run }),
    };
    let consent = Consent { overwrite: args.overwrite_target, yes: args.yes };
    agree(&client.plan_replication(&request).await?, consent, session)?;
    carry_out(&client, &request, session).await
}

/// Those who reach where the recovery point is come first, in their order.
fn agents_of(view: &ReplicationView) -> Vec<AgentName> {
    let order = [Side::Target, Side::Source];
    let sides = order.iter().filter_map(|wanted| view.sides.iter().find(|side| side.side == *wanted));
    let mut agents: Vec<AgentName> = Vec::new();
    for agent in sides.flat_map(|side| &side.agents) {
        if !agents.contains(&agent.agent) {
            agents.push(agent.agent.clone());
        }
    }
    agents
}
