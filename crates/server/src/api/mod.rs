//! The HTTP API: what operators and their programs ask of the server. Bodies are the types of `tanist_model::api`.
//!
//! Every route is declared once, with its documentation; the OpenAPI document is made of the same declarations. `/healthz`,
//! `/metrics`, `/api/v1/openapi.json`, `/api/v1/ca` and `/api/v1/join` need no credential; everything else does.

mod agents;
mod alarms;
mod commands;
#[cfg(feature = "decoders")]
pub(crate) mod decoders;
mod events;
mod extract;
mod join;
mod operator;
mod records;
mod recovery_points;
mod refusal;
mod replications;
mod service;
mod storage;
mod support;
mod tokens;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::id::ClusterId;
use tanist_recording::Folder;
use tanist_store::Store;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::alarms::Alarms;
use crate::authority::Authority;
use crate::config::ServerConfig;
use crate::connections::Refusals;
use crate::core::CoreHandle;
use crate::metrics::Metrics;
use commands::Finished;
use operator::Places;
use refusal::Refused;
use tokens::TokenMaker;

/// The largest body, bytes: a hierarchy of sixteen agents is far below.
const BODY_LIMIT: usize = 64 << 10;
/// The longest that a request may take; longer than the longest wait for events.
const REQUEST_LIMIT: Duration = Duration::from_secs(90);

/// What the server says of itself.
#[derive(Clone, Debug)]
pub struct Installation {
    pub cluster: ClusterId,
    pub ca_hash: String,
    /// Where agents and operators reach it.
    pub address: String,
    /// Its configuration, without secrets.
    pub configuration: ServerConfig,
    /// What its machine was given and decided.
    pub recording: Folder,
}

impl Installation {
    pub(crate) fn new(config: &ServerConfig, bound: SocketAddr, authority: &Authority, recording: Folder) -> Self {
        Self {
            cluster: config.cluster,
            ca_hash: authority.ca().ca_hash().to_string(),
            address: config.address(bound),
            configuration: config.concealed(),
            recording,
        }
    }
}

/// What the handlers need. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Api(Arc<Inner>);

#[derive(Debug)]
pub struct Inner {
    core: CoreHandle,
    store: Arc<dyn Store>,
    authority: Arc<Authority>,
    metrics: Metrics,
    alarms: Alarms,
    installation: Installation,
    refusals: Arc<Refusals>,
    tokens: TokenMaker,
    places: Places,
    backups: Finished,
}

impl std::ops::Deref for Api {
    type Target = Inner;
    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Api {
    pub(crate) fn new(
        core: CoreHandle,
        store: Arc<dyn Store>,
        authority: Arc<Authority>,
        metrics: Metrics,
        alarms: Alarms,
        installation: Installation,
        refusals: Arc<Refusals>,
    ) -> Result<Self, getrandom::Error> {
        let tokens = TokenMaker::new()?;
        let (places, backups) = (Places::default(), Finished::default());
        let inner = Inner { core, store, authority, metrics, alarms, installation, refusals, tokens, places, backups };
        Ok(Self(Arc::new(inner)))
    }
}

#[derive(OpenApi)]
#[openapi(
    info(title = "tanist", description = "The API of the tanist management server. Refusals have one shape everywhere."),
    security(("credential" = [])),
    modifiers(&BearerCredential)
)]
struct Document;

/// How requests show who asks.
struct BearerCredential;

impl utoipa::Modify for BearerCredential {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        document.components.get_or_insert_default().add_security_scheme("credential", scheme);
    }
}

/// Every route with its documentation.
fn documented() -> OpenApiRouter<Api> {
    let versioned = OpenApiRouter::new()
        .routes(routes!(service::whoami))
        .routes(routes!(service::status))
        .routes(routes!(service::backup))
        .routes(routes!(service::ca))
        .routes(routes!(support::recording))
        .routes(routes!(support::segment))
        .routes(routes!(support::configuration))
        .routes(routes!(alarms::list))
        .routes(routes!(alarms::test))
        .routes(routes!(agents::list))
        .routes(routes!(agents::drain))
        .routes(routes!(agents::undrain))
        .routes(routes!(agents::confirm_dead))
        .routes(routes!(agents::remove))
        .routes(routes!(tokens::create))
        .routes(routes!(join::join))
        .routes(routes!(storage::systems))
        .routes(routes!(storage::volumes))
        .routes(routes!(events::events))
        .routes(routes!(replications::list, replications::create))
        .routes(routes!(replications::plan))
        .routes(routes!(replications::show, replications::delete))
        .routes(routes!(replications::check))
        .routes(routes!(replications::sync))
        .routes(routes!(replications::abort))
        .routes(routes!(replications::pause))
        .routes(routes!(replications::resume))
        .routes(routes!(replications::handover))
        .routes(routes!(replications::handback))
        .routes(routes!(replications::drill))
        .routes(routes!(replications::hierarchy))
        .routes(routes!(replications::verify))
        .routes(routes!(replications::policy))
        .routes(routes!(recovery_points::pin))
        .routes(routes!(recovery_points::unpin))
        .routes(routes!(recovery_points::reading))
        .routes(routes!(replications::why))
        .routes(routes!(records::record))
        .routes(routes!(recovery_points::recovery_points));
    OpenApiRouter::with_openapi(Document::openapi())
        .nest("/api/v1", versioned)
        .routes(routes!(service::healthz))
        .routes(routes!(service::metrics))
}

/// The OpenAPI document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    documented().into_openapi()
}

pub(crate) fn router(api: Api) -> Router {
    let (router, document) = documented().split_for_parts();
    router
        .route("/api/v1/openapi.json", get(move || std::future::ready(Json(document.clone()))))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn(limit_time))
        .with_state(api)
}

async fn limit_time(request: Request, next: Next) -> Response {
    let late = || Refusal::new(RefusalCode::Unavailable, "the request took too long").hint("tanist status");
    tokio::time::timeout(REQUEST_LIMIT, next.run(request)).await.unwrap_or_else(|_| Refused(late()).into_response())
}

async fn unknown_path() -> Refused {
    Refused(
        Refusal::new(RefusalCode::NotFound, "there is no such path").hint("/api/v1/openapi.json lists what there is"),
    )
}

async fn unknown_method() -> Refused {
    Refused(
        Refusal::new(RefusalCode::Invalid, "this path does not know this method")
            .hint("/api/v1/openapi.json lists what there is"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented() {
        let document = serde_json::to_value(document()).unwrap();
        let documented = |method: &str, path: &str| {
            let operation = &document["paths"][path][method];
            assert!(operation["responses"]["default"].is_object(), "{method} {path}: {operation}");
            assert!(operation["description"].is_string() || operation["summary"].is_string(), "{method} {path}");
        };
        for path in
            ["/whoami", "/status", "/agents", "/alarms", "/storage", "/volumes", "/events", "/ca", "/replications"]
        {
            documented("get", &format!("/api/v1{path}"));
        }
        for path in ["/tokens", "/join", "/backup", "/replications", "/replications/check"] {
            documented("post", &format!("/api/v1{path}"));
        }
        for verb in ["drain", "undrain", "confirm-dead"] {
            documented("post", &format!("/api/v1/agents/{{name}}/{verb}"));
        }
        for verb in ["sync", "abort", "pause", "resume", "handover", "handback", "drill", "hierarchy", "verify"] {
            documented("post", &format!("/api/v1/replications/{{name}}/{verb}"));
        }
        for what in ["", "/check", "/why", "/record", "/recovery-points"] {
            documented("get", &format!("/api/v1/replications/{{name}}{what}"));
        }
        for verb in ["pin", "unpin", "reading"] {
            documented("post", &format!("/api/v1/replications/{{name}}/recovery-points/{{run}}/{verb}"));
        }
        documented("put", "/api/v1/replications/{name}/policy");
        documented("delete", "/api/v1/replications/{name}");
        documented("delete", "/api/v1/agents/{name}");
        for what in ["recording", "recording/{number}", "configuration"] {
            documented("get", &format!("/api/v1/support/{what}"));
        }
        documented("get", "/healthz");
        documented("get", "/metrics");
        let operations = document["paths"].as_object().unwrap().values();
        let count: usize = operations.map(|path| path.as_object().unwrap().len()).sum();
        assert_eq!(count, 43, "a route was added or removed without this test");
        assert!(document["components"]["schemas"]["ReplicationView"].is_object());
        let joins = ["JoinRequest", "JoinResponse"].map(|name| &document["components"]["schemas"][name]["required"]);
        assert_eq!(*joins[0], serde_json::json!(["token", "csr_pem", "wall"]));
        assert_eq!(*joins[1], serde_json::json!(["certificate_pem", "ca_pem", "cluster", "server_address"]));
        assert!(document["components"]["securitySchemes"]["credential"].is_object());
    }
}
