//! `/alarms`: who is told of what happens, and whether that works.

use axum::Json;
use axum::extract::State;
use tanist_model::api::{AlarmView, Done, Refusal};
use tanist_model::event::{EventCode, NewEvent};
use tanist_model::id::AlarmName;

use super::Api;
use super::extract::{Key, Name};
use super::operator::Operator;
use super::refusal::{Refused, Reply};
use crate::clock;

/// The alarms of the server's configuration, and how their deliveries get on.
#[utoipa::path(get, path = "/alarms", tag = "server",
    responses((status = 200, body = Vec<AlarmView>), (status = "default", description = "refused", body = Refusal)))]
pub async fn list(State(api): State<Api>, _: Operator) -> Reply<Vec<AlarmView>> {
    Ok(Json(api.alarms.views()))
}

/// Delivers a test now. The answer says whether it arrived.
#[utoipa::path(post, path = "/alarms/{name}/test", tag = "server", params(("name" = AlarmName, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn test(
    State(api): State<Api>,
    operator: Operator,
    Name(name): Name<AlarmName>,
    Key(command): Key,
) -> Reply<Done> {
    let tested = api.alarms.test(&name, command, &operator.0).await;
    let message = match &tested {
        Ok(message) => format!("test: {message}"),
        Err(refusal) => format!("test: {}: {}", refusal.error, refusal.cause.as_deref().unwrap_or_default()),
    };
    let (at, code, actor) = (clock::wall(), EventCode::AlarmTested, operator.0);
    api.core.note(NewEvent { at, code, replication: None, agent: None, actor, message });
    let message = tested.map_err(Refused)?;
    Ok(Json(Done { command, message, run: None, epoch: None, next: None }))
}
