//! The server itself: who asks, what needs a human, backups, its authority, its health and its numbers.

use std::path::PathBuf;

use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use tanist_model::api::{BackupTo, Done, Refusal, RefusalCode, StatusView, WhoAmI};
use tanist_model::event::{EventCode, NewEvent};
use tanist_store::StoreError;

use super::Api;
use super::extract::{Body, Key};
use super::operator::Operator;
use super::refusal::{Refused, Reply};
use crate::error::in_full;
use crate::{clock, view};

/// Whom the credential names, and which server this is.
#[utoipa::path(get, path = "/whoami", tag = "server",
    responses((status = 200, body = WhoAmI), (status = "default", description = "refused", body = Refusal)))]
pub async fn whoami(State(api): State<Api>, operator: Operator) -> Reply<WhoAmI> {
    Ok(Json(WhoAmI {
        operator: operator.0,
        cluster: api.installation.cluster.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }))
}

/// How many replications are well, and everything that needs a human.
#[utoipa::path(get, path = "/status", tag = "server",
    responses((status = 200, body = StatusView), (status = "default", description = "refused", body = Refusal)))]
pub async fn status(State(api): State<Api>, _: Operator) -> Reply<StatusView> {
    let mut status = api.core.query(view::status::status).await?;
    status.concerns.extend(api.alarms.concerns());
    status.concerns.sort_by_key(|concern| std::cmp::Reverse(concern.health));
    Ok(Json(status))
}

/// Writes a consistent copy of the store to a new file on the server's host.
#[utoipa::path(post, path = "/backup", tag = "server", request_body = BackupTo,
    responses((status = 200, body = Done), (status = "default", description = "refused", body = Refusal)))]
pub async fn backup(
    State(api): State<Api>,
    operator: Operator,
    Key(command): Key,
    Body(BackupTo { path }): Body<BackupTo>,
) -> Reply<Done> {
    if let Some(done) = api.backups.get(command) {
        return Ok(Json(done));
    }
    let to = PathBuf::from(&path);
    if !to.is_absolute() {
        let refusal = Refusal::new(RefusalCode::Invalid, format!("'{path}' is not an absolute path"));
        return Err(Refused(refusal.hint("the file is written on the server's host: give its whole path")));
    }
    api.store.backup(&to).await.map_err(|error| not_backed_up(&error))?;
    let message = format!("a backup of the store was written to {path}");
    let (code, actor) = (EventCode::BackupMade, operator.0);
    api.core.note(NewEvent {
        at: clock::wall(),
        code,
        replication: None,
        agent: None,
        actor,
        message: message.clone(),
    });
    let done = Done { command, message, run: None, epoch: None, next: None };
    api.backups.put(done.clone());
    Ok(Json(done))
}

fn not_backed_up(error: &StoreError) -> Refused {
    let code = match error {
        StoreError::Exists { .. } => RefusalCode::Conflict,
        StoreError::Io { .. } | StoreError::Unsupported { .. } => RefusalCode::Invalid,
        _ => RefusalCode::Unavailable,
    };
    let refusal = Refusal::new(code, "no backup was made").cause(in_full(error));
    Refused(refusal.hint("name a new file in a directory that the server may write to"))
}

/// The certificate of this installation's authority, PEM. It needs no credential: whoever asks compares its hash.
#[utoipa::path(get, path = "/ca", tag = "server", security(()),
    responses((status = 200, body = String, content_type = "application/x-pem-file"),
        (status = "default", description = "refused", body = Refusal)))]
pub async fn ca(State(api): State<Api>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/x-pem-file")], api.authority.ca().certificate_pem().to_owned())
}

/// 200 while the server decides and its store can be written, else 503. It needs no credential.
#[utoipa::path(get, path = "/healthz", tag = "server", security(()),
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", description = "not well", body = Refusal)))]
pub async fn healthz(State(api): State<Api>) -> Result<&'static str, Refused> {
    let trouble = api.core.query(|moment| moment.trouble.cloned()).await?;
    match trouble {
        None => Ok("ok\n"),
        Some(trouble) => {
            Err(Refused(Refusal::new(RefusalCode::Unavailable, "the store cannot be written").cause(trouble.reason)))
        }
    }
}

/// Numbers for Prometheus, in its text format. They need no credential.
#[utoipa::path(get, path = "/metrics", tag = "server", security(()),
    responses((status = 200, body = String, content_type = "text/plain"),
        (status = "default", description = "refused", body = Refusal)))]
pub async fn metrics(State(api): State<Api>) -> Result<impl IntoResponse, Refused> {
    let gauges = api.core.query(|moment| view::gauges::gauges(moment.machine)).await?;
    Ok(([(CONTENT_TYPE, "text/plain; version=0.0.4")], api.metrics.page(&gauges, &api.alarms.views())))
}
