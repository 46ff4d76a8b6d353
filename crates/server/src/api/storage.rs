//! `/storage` and `/volumes`: what the agents reach.

use axum::Json;
use axum::extract::State;
use tanist_model::api::{Refusal, RefusalCode, StorageView, VolumeView};
use tanist_protocol::server::Command;

use super::Api;
use super::commands::ask;
use super::operator::Operator;
use super::refusal::{Refused, Reply};
use crate::{random, view};

/// Has the agents look now: what was made a second ago is shown. An agent that does not answer in time shows what it saw last.
async fn look(api: &Api, operator: &Operator) -> Result<(), Refused> {
    let key = random::command_id()
        .map_err(|error| Refused(Refusal::new(RefusalCode::Internal, "no random numbers").cause(error.to_string())))?;
    ask(api, &operator.0, key, Command::Look).await?;
    Ok(())
}

/// The storage systems, each with the agents that reach it.
#[utoipa::path(get, path = "/storage", tag = "storage",
    responses((status = 200, body = Vec<StorageView>), (status = "default", description = "refused", body = Refusal)))]
pub async fn systems(State(api): State<Api>, operator: Operator) -> Reply<Vec<StorageView>> {
    look(&api, &operator).await?;
    Ok(Json(api.core.query(|moment| view::storage::systems(moment.machine)).await?))
}

/// The volumes, each with the agents that reach it and the replication that uses it.
#[utoipa::path(get, path = "/volumes", tag = "storage",
    responses((status = 200, body = Vec<VolumeView>), (status = "default", description = "refused", body = Refusal)))]
pub async fn volumes(State(api): State<Api>, operator: Operator) -> Reply<Vec<VolumeView>> {
    look(&api, &operator).await?;
    Ok(Json(api.core.query(|moment| view::storage::volumes(moment.machine)).await?))
}
