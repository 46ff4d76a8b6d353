//! `/replications`: what is replicated, how it stands, and commands to it.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use tanist_model::api::{
    CreateReplication, Done, DrillHow, HandoverTo, Plan, Refusal, RefusalCode, ReplicationView, SetHierarchy,
    SetPolicy, VerifyTarget, WhyView,
};
use tanist_model::id::ReplicationName;
use tanist_model::replication::ReplicationRecord;
use tanist_model::time::Timestamp;
use tanist_protocol::server::{Command, ServerMachine};
use tanist_store::EventQuery;

use super::Api;
use super::commands::{command, plan as make_plan};
use super::events::unreadable;
use super::extract::{Asked, Body, Key, Name, OptionalBody};
use super::operator::Operator;
use super::refusal::{Refused, Reply};
use crate::view;

/// All replications.
#[utoipa::path(get, path = "/replications", tag = "replications",
    responses((status = 200, body = Vec<ReplicationView>), (status = "default", description = "refused", body = Refusal)))]
pub async fn list(State(api): State<Api>, _: Operator) -> Reply<Vec<ReplicationView>> {
    let all = |machine: &ServerMachine| {
        machine.state().replications.values().map(|record| view::replication::replication(machine, record)).collect()
    };
    let mut views: Vec<ReplicationView> = api.core.query(move |moment| all(moment.machine)).await?;
    views.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Json(views))
}

/// Creates a replication, after the same checks as `/replications/check`.
#[utoipa::path(post, path = "/replications", tag = "replications", request_body = CreateReplication,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn create(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Body(create): Body<CreateReplication>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Create(create)).await
}

/// The plan of a replication that does not exist yet. Nothing changes.
#[utoipa::path(post, path = "/replications/check", tag = "replications", request_body = CreateReplication,
    responses((status = 200, body = Plan), (status = "default", description = "refused", body = Refusal)))]
pub async fn plan(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Body(create): Body<CreateReplication>,
) -> Reply<Plan> {
    make_plan(&api, &operator, key, Command::Check(create)).await
}

/// Is my data safe, what happened, what do I do.
#[utoipa::path(get, path = "/replications/{name}", tag = "replications", params(("name" = ReplicationName, Path)),
    responses((status = 200, body = ReplicationView), (status = "default", description = "refused", body = Refusal)))]
pub async fn show(State(api): State<Api>, _: Operator, Name(name): Name<ReplicationName>) -> Reply<ReplicationView> {
    look(&api, name, view::replication::replication).await
}

/// How a removal is wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct DeleteHow {
    /// What no agent can clean up stays at the storage and is named by an event; proof of quiet is awaited all the same.
    #[serde(default)]
    leave_behind: bool,
}

/// Removes a replication and what tanist made for it, once every epoch is proven quiet. The data stays.
#[utoipa::path(delete, path = "/replications/{name}", tag = "replications",
    params(("name" = ReplicationName, Path), DeleteHow),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn delete(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
    Asked(how): Asked<DeleteHow>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Delete { name, leave_behind: how.leave_behind }).await
}

/// Who reaches what, by real round trips and reads made now.
#[utoipa::path(get, path = "/replications/{name}/check", tag = "replications",
    params(("name" = ReplicationName, Path)),
    responses((status = 200, body = Plan), (status = "default", description = "refused", body = Refusal)))]
pub async fn check(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
) -> Reply<Plan> {
    make_plan(&api, &operator, key, Command::CheckExisting { name }).await
}

/// How a run is wanted.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SyncHow {
    /// Write everything, also what the target holds already by all that is known.
    #[serde(default)]
    full: bool,
}

/// Starts a run, if none is in progress.
#[utoipa::path(post, path = "/replications/{name}/sync", tag = "replications",
    params(("name" = ReplicationName, Path), SyncHow),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn sync(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
    Asked(how): Asked<SyncHow>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Sync { name, full: how.full }).await
}

/// Gives up the run in progress. The target then equals no recovery point until the next run is published.
#[utoipa::path(post, path = "/replications/{name}/abort", tag = "replications",
    params(("name" = ReplicationName, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn abort(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Abort { name }).await
}

/// Starts no run any more; one in progress waits at its checkpoint.
#[utoipa::path(post, path = "/replications/{name}/pause", tag = "replications",
    params(("name" = ReplicationName, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn pause(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Pause { name }).await
}

/// Goes on after a pause.
#[utoipa::path(post, path = "/replications/{name}/resume", tag = "replications",
    params(("name" = ReplicationName, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn resume(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Resume { name }).await
}

/// Has another agent act: the one named, or the next eligible one.
#[utoipa::path(post, path = "/replications/{name}/handover", tag = "replications",
    params(("name" = ReplicationName, Path)), request_body = HandoverTo,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn handover(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
    OptionalBody(HandoverTo { to }): OptionalBody<HandoverTo>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Handover { name, to }).await
}

/// A takeover on purpose: the acting agent is treated as gone, its successor fences and goes on, and the time is measured.
#[utoipa::path(post, path = "/replications/{name}/drill", tag = "replications",
    params(("name" = ReplicationName, Path)), request_body = DrillHow,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn drill(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
    OptionalBody(DrillHow { hand_back }): OptionalBody<DrillHow>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Drill { name, hand_back }).await
}

/// Has the first eligible agent by rank act again.
#[utoipa::path(post, path = "/replications/{name}/handback", tag = "replications",
    params(("name" = ReplicationName, Path)),
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn handback(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Handback { name }).await
}

/// Changes the order of agents on a side. A change of rank moves no work by itself.
#[utoipa::path(post, path = "/replications/{name}/hierarchy", tag = "replications",
    params(("name" = ReplicationName, Path)), request_body = SetHierarchy,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn hierarchy(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
    Body(change): Body<SetHierarchy>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::SetHierarchy { name, change }).await
}

/// Reads the whole target again, and compares it with what was published.
#[utoipa::path(post, path = "/replications/{name}/verify", tag = "replications",
    params(("name" = ReplicationName, Path)), request_body = VerifyTarget,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn verify(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
    Body(VerifyTarget { repair }): Body<VerifyTarget>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::Verify { name, repair }).await
}

/// Changes the policy. A limit holds at once, the rest from the next run.
#[utoipa::path(put, path = "/replications/{name}/policy", tag = "replications",
    params(("name" = ReplicationName, Path)), request_body = SetPolicy,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn policy(
    State(api): State<Api>,
    operator: Operator,
    key: Key,
    Name(name): Name<ReplicationName>,
    Body(change): Body<SetPolicy>,
) -> Reply<Done> {
    command(&api, &operator, key, Command::SetPolicy { name, change: Box::new(change) }).await
}

/// The newest events of a replication in which changes of its reader are looked for.
const LOOKED_THROUGH: u32 = 1000;

/// Which takeover is asked for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub struct When {
    /// RFC 3339; the takeover of this time, or the nearest one. All of them if absent.
    at: Option<Timestamp>,
}

/// Why another agent acts: the takeovers with evidence, candidates, fence and cost, and the changes of who reads the source.
#[utoipa::path(get, path = "/replications/{name}/why", tag = "replications",
    params(("name" = ReplicationName, Path), When),
    responses((status = 200, body = WhyView), (status = "default", description = "refused", body = Refusal)))]
pub async fn why(
    State(api): State<Api>,
    _: Operator,
    Name(name): Name<ReplicationName>,
    Asked(When { at }): Asked<When>,
) -> Reply<WhyView> {
    let ask = move |machine: &ServerMachine, record: &ReplicationRecord| {
        (view::history::why(machine, record, at), record.created_at)
    };
    let Json((why, created_at)) = look(&api, name.clone(), ask).await?;
    let query = EventQuery { replication: Some(name), ..EventQuery::latest(LOOKED_THROUGH) };
    let log = api.store.events(&query).await.map_err(unreadable)?;
    Ok(Json(WhyView { readers: view::history::readers(log, created_at, at), ..why }))
}

pub(super) async fn look<T: Send + 'static>(
    api: &Api,
    name: ReplicationName,
    ask: impl FnOnce(&ServerMachine, &ReplicationRecord) -> T + Send + 'static,
) -> Reply<T> {
    let asked = name.clone();
    let seen = api.core.query(move |moment| {
        let record = moment.machine.state().replication_by_name(&asked)?;
        Some(ask(moment.machine, record))
    });
    seen.await?.map(Json).ok_or_else(|| unknown(&name))
}

fn unknown(name: &ReplicationName) -> Refused {
    let refusal = Refusal::new(RefusalCode::NotFound, format!("there is no replication {name}"));
    Refused(refusal.hint("tanist replication list shows the replications"))
}
