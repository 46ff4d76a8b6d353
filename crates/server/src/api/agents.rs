//! `/agents`: who there is, and taking them out of service and back.

use axum::Json;
use axum::extract::State;
use tanist_model::api::{AgentView, ConfirmDead, Done, Refusal};
use tanist_model::id::AgentName;
use tanist_protocol::server::Command;

use super::Api;
use super::commands::command;
use super::extract::{Body, Key, Name};
use super::operator::Operator;
use super::refusal::Reply;
use crate::view;

/// The agents that have joined.
#[utoipa::path(get, path = "/agents", tag = "agents",
    responses((status = 200, body = Vec<AgentView>), (status = "default", description = "refused", body = Refusal)))]
pub async fn list(State(api): State<Api>, _: Operator) -> Reply<Vec<AgentView>> {
    Ok(Json(api.core.query(|moment| view::agents::agents(moment.machine)).await?))
}

/// Hands over all roles of an agent and gives it none until it is undrained.
#[utoipa::path(post, path = "/agents/{name}/drain", tag = "agents", params(("name" = AgentName, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn drain(State(api): State<Api>, operator: Operator, key: Key, Name(agent): Name<AgentName>) -> Reply<Done> {
    command(&api, &operator, key, Command::DrainAgent { agent }).await
}

/// Makes a drained agent available again.
#[utoipa::path(post, path = "/agents/{name}/undrain", tag = "agents", params(("name" = AgentName, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn undrain(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(agent): Name<AgentName>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::UndrainAgent { agent }).await
}

/// Takes the operator's word that these processes of an agent are gone: their epochs count as proven quiet. Refused while anybody
/// reaches one of them, and by a server of another term.
#[utoipa::path(post, path = "/agents/{name}/confirm-dead", tag = "agents", params(("name" = AgentName, Path)),
    request_body = ConfirmDead,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn confirm_dead(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(agent): Name<AgentName>,
    Body(seen): Body<ConfirmDead>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::ConfirmDead { agent, seen }).await
}

/// Removes an agent and revokes its certificate at once.
#[utoipa::path(delete, path = "/agents/{name}", tag = "agents", params(("name" = AgentName, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn remove(State(api): State<Api>, operator: Operator, key: Key, Name(agent): Name<AgentName>) -> Reply<Done> {
    command(&api, &operator, key, Command::RemoveAgent { agent }).await
}
