//! `/tokens`: the permission for one host to join under one name.

use std::fmt;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use tanist_model::api::{CreateToken, Refusal, RefusalCode, TokenCreated};
use tanist_model::enrolment::JoinToken;
use tanist_model::id::CommandId;
use tanist_protocol::server::Command;
use tanist_wire::token::{JoinSecret, SecretError};

use super::Api;
use super::commands::ask;
use super::extract::{Body, Key};
use super::operator::Operator;
use super::refusal::{Refused, Reply};
use crate::{clock, random};

/// How long a token may be used.
pub const LIFETIME: Duration = Duration::from_mins(15);

/// Makes the secrets of tokens out of command ids, so that a request repeated after a lost answer gets the same secret without
/// the server keeping it. The key lives as long as the process.
pub struct TokenMaker([u8; 32]);

impl fmt::Debug for TokenMaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenMaker(..)")
    }
}

impl TokenMaker {
    /// # Errors
    /// Only if the operating system gives no random numbers.
    pub fn new() -> Result<Self, getrandom::Error> {
        let (one, two) = (random::wide()?.to_be_bytes(), random::wide()?.to_be_bytes());
        let mut key = [0; 32];
        key[..16].copy_from_slice(&one);
        key[16..].copy_from_slice(&two);
        Ok(Self(key))
    }

    /// The secret for a command: 256 bits that nobody without the key can tell from random ones (keyed BLAKE3).
    fn secret(&self, id: CommandId) -> Result<JoinSecret, SecretError> {
        let bits = blake3::keyed_hash(&self.0, &id.0.to_be_bytes());
        format!("{}{}", JoinSecret::PREFIX, bits.to_hex()).parse()
    }
}

/// Makes a token with which a host can join once, within 15 minutes, under this name. It is shown once and stored as a hash.
#[utoipa::path(post, path = "/tokens", tag = "agents", request_body = CreateToken,
    responses((status = 200, body = TokenCreated), (status = "default", description = "refused", body = Refusal)))]
pub async fn create(
    State(api): State<Api>,
    operator: Operator,
    Key(key): Key,
    Body(CreateToken { agent }): Body<CreateToken>,
) -> Reply<TokenCreated> {
    let secret = api.tokens.secret(key).map_err(|error| {
        Refused(Refusal::new(RefusalCode::Internal, "no token can be made").cause(error.to_string()))
    })?;
    let now = clock::wall();
    let (hash, created_by) = (secret.hash(), operator.0.clone());
    let token = JoinToken { hash, agent, created_at: now, expires_at: now.plus(LIFETIME), used_at: None, created_by };
    ask(&api, &operator.0, key, Command::CreateToken { token }).await?;
    let hash = secret.hash();
    let stored = api.core.query(move |moment| moment.machine.state().tokens.get(&hash).cloned()).await?;
    let token = stored.ok_or_else(shown_before)?;
    Ok(Json(TokenCreated {
        agent: token.agent,
        token: secret.reveal().to_owned(),
        expires_at: token.expires_at,
        ca_hash: api.installation.ca_hash.clone(),
        address: api.installation.address.clone(),
    }))
}

/// The request was answered by an earlier process, whose secrets nobody can make again.
fn shown_before() -> Refusal {
    Refusal::new(RefusalCode::Conflict, "this token was made before the server restarted, and is not shown again")
        .hint("make a new one: tanist token create NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_has_one_secret_and_another_key_gives_another() {
        let (maker, other) = (TokenMaker::new().unwrap(), TokenMaker::new().unwrap());
        let secret = maker.secret(CommandId(7)).unwrap();
        assert_eq!(secret, maker.secret(CommandId(7)).unwrap());
        assert_ne!(secret, maker.secret(CommandId(8)).unwrap());
        assert_ne!(secret, other.secret(CommandId(7)).unwrap());
    }
}
