//! `/replications/{name}/recovery-points`: what could be restored.

use axum::extract::State;
use tanist_model::api::{Done, PointReading, RecoveryPointView, Refusal};
use tanist_model::id::{ReplicationName, RunId};
use tanist_protocol::server::Command;

use super::Api;
use super::commands::command;
use super::extract::{Body, Key, Name, Point};
use super::operator::Operator;
use super::refusal::Reply;
use super::replications::look;
use crate::view;

/// The recovery points, newest first.
#[utoipa::path(get, path = "/replications/{name}/recovery-points", tag = "replications",
    params(("name" = ReplicationName, Path)),
    responses((status = 200, body = Vec<RecoveryPointView>), (status = "default", description = "refused", body = Refusal)))]
pub async fn recovery_points(
    State(api): State<Api>,
    _: Operator,
    Name(name): Name<ReplicationName>,
) -> Reply<Vec<RecoveryPointView>> {
    look(&api, name, view::history::recovery_points).await
}

/// Keeps a recovery point whatever the retention says.
#[utoipa::path(post, path = "/replications/{name}/recovery-points/{run}/pin", tag = "replications",
    params(("name" = ReplicationName, Path), ("run" = RunId, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn pin(State(api): State<Api>, operator: Operator, key: Key, Point { name, run }: Point) -> Reply<Done> {
    command(&api, &operator, key, Command::Pin { name, run, pinned: true }).await
}

/// Leaves a recovery point to the retention again.
#[utoipa::path(post, path = "/replications/{name}/recovery-points/{run}/unpin", tag = "replications",
    params(("name" = ReplicationName, Path), ("run" = RunId, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn unpin(State(api): State<Api>, operator: Operator, key: Key, Point { name, run }: Point) -> Reply<Done> {
    command(&api, &operator, key, Command::Pin { name, run, pinned: false }).await
}

/// Notes what a recovery point was found to be by somebody who has read all of it.
#[utoipa::path(post, path = "/replications/{name}/recovery-points/{run}/reading", tag = "replications",
    params(("name" = ReplicationName, Path), ("run" = RunId, Path)), request_body = PointReading,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn reading(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Point { name, run }: Point,
    Body(reading): Body<PointReading>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::NoteReading { name, run, reading }).await
}
