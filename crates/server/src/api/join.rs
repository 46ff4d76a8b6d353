//! `/join`: a host that has a token gets a certificate. It has no credential; the token is what it shows.

use axum::extract::State;
use axum::{Extension, Json};
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::enrolment::SecretHash;
use tanist_model::id::AgentName;
use tanist_protocol::server::{Command, ServerMachine};
use tanist_wire::handshake::judge_clock;
use tanist_wire::token::{JoinRequest, JoinResponse};

use super::Api;
use super::commands::ask;
use super::extract::{Body, fresh_key};
use super::refusal::{Refused, Reply};
use crate::clock;
use crate::connections::ClientAddress;

/// Joins a host under its token's name: uses the token up and signs the host's key.
#[utoipa::path(post, path = "/join", tag = "agents", security(()), request_body = JoinRequest,
    responses((status = 200, body = JoinResponse), (status = "default", description = "refused", body = Refusal)))]
pub async fn join(
    State(api): State<Api>,
    Extension(from): Extension<ClientAddress>,
    Body(request): Body<JoinRequest>,
) -> Reply<JoinResponse> {
    let joined = admit(&api, &request).await;
    if let Err(Refused(refusal)) = &joined {
        let reason = refusal.cause.as_deref().unwrap_or(&refusal.error).to_owned();
        api.refusals.join(&api.core, from.0, request.agent.as_ref(), reason);
    }
    joined.map(Json)
}

async fn admit(api: &Api, request: &JoinRequest) -> Result<JoinResponse, Refused> {
    let (hash, wished) = (request.token.hash(), request.agent.clone());
    // Before anything is signed; decided again, with the commit, by the command.
    let agent = api.core.query(move |moment| named(moment.machine, &hash, wished)).await??;
    judge_clock(request.wall, clock::wall()).map_err(|refusal| {
        Refusal::new(RefusalCode::Forbidden, "the join was refused").cause(refusal.message).hint(refusal.hint)
    })?;
    let issued = api.authority.issue_agent(&request.csr_pem, &agent).map_err(|error| {
        Refusal::new(RefusalCode::Invalid, "the join was refused").cause(error.to_string()).hint(error.hint())
    })?;
    let certificate_pem = issued.pem.clone();
    let command = Command::Admit { token: request.token.hash(), agent: agent.clone(), issued };
    ask(api, agent.as_str(), fresh_key()?, command).await?;
    Ok(JoinResponse {
        certificate_pem,
        ca_pem: api.authority.ca().certificate_pem().to_owned(),
        cluster: api.installation.cluster,
        server_address: api.installation.address.clone(),
    })
}

/// The name that a usable token gives. A host that says a name has to say the same.
fn named(machine: &ServerMachine, hash: &SecretHash, wished: Option<AgentName>) -> Result<AgentName, Refusal> {
    let unknown = || {
        Refusal::new(RefusalCode::Forbidden, "the join was refused")
            .cause("this token is not known here")
            .hint("make a new one: tanist token create NAME")
    };
    let token = machine.state().tokens.get(hash).ok_or_else(unknown)?;
    let agent = wished.unwrap_or_else(|| token.agent.clone());
    machine.check_token(hash, &agent)?;
    Ok(agent)
}
