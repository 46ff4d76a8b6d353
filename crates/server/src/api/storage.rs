//! `/storage` and `/volumes`: what the agents reach.

use axum::Json;
use axum::extract::State;
use tanist_model::api::{Refusal, StorageView, VolumeView};

use super::Api;
use super::operator::Operator;
use super::refusal::Reply;
use crate::view;

/// The storage systems, each with the agents that reach it.
#[utoipa::path(get, path = "/storage", tag = "storage",
    responses((status = 200, body = Vec<StorageView>), (status = "default", description = "refused", body = Refusal)))]
pub async fn systems(State(api): State<Api>, _: Operator) -> Reply<Vec<StorageView>> {
    Ok(Json(api.core.query(|moment| view::storage::systems(moment.machine)).await?))
}

/// The volumes, each with the agents that reach it and the replication that uses it.
#[utoipa::path(get, path = "/volumes", tag = "storage",
    responses((status = 200, body = Vec<VolumeView>), (status = "default", description = "refused", body = Refusal)))]
pub async fn volumes(State(api): State<Api>, _: Operator) -> Reply<Vec<VolumeView>> {
    Ok(Json(api.core.query(|moment| view::storage::volumes(moment.machine)).await?))
}
