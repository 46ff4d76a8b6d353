//! Who asks: the operator whose credential the request carries.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::event::{EventCode, NewEvent};
use tanist_wire::token::OperatorSecret;

use super::Api;
use super::refusal::Refused;
use crate::clock;
use crate::connections::ClientAddress;

/// A handler that has this is asked by somebody known.
#[derive(Clone, Debug)]
pub struct Operator(pub String);

impl FromRequestParts<Api> for Operator {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Refused> {
        let header = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let secret = header.and_then(|text| text.strip_prefix("Bearer "));
        let secret = secret.ok_or_else(|| unauthorized(api, "no credential was shown"))?;
        let secret: OperatorSecret = secret.parse().map_err(|_| unauthorized(api, "this is not a credential"))?;
        let hash = secret.hash();
        let known = api.core.query(move |moment| moment.machine.state().credentials.get(&hash).cloned()).await?;
        match known {
            Some(credential) if !credential.revoked => {
                api.places.note(api, &credential.operator, parts.extensions.get::<ClientAddress>());
                Ok(Self(credential.operator))
            }
            Some(_) => Err(unauthorized(api, "this credential is revoked")),
            None => Err(unauthorized(api, "this credential is not known here")),
        }
    }
}

fn unauthorized(api: &Api, cause: &str) -> Refused {
    let login = format!("tanist login {} --ca-hash {}", api.installation.address, api.installation.ca_hash);
    Refused(Refusal::new(RefusalCode::Unauthorized, "the server does not know who asks").cause(cause).hint(login))
}

/// Places from which credentials have been used since the server started; more are not recorded.
const PLACES: usize = 1024;

/// From where which operator has been seen.
#[derive(Debug, Default)]
pub struct Places(Mutex<BTreeSet<(String, ClientAddress)>>);

impl Places {
    fn note(&self, api: &Api, operator: &str, from: Option<&ClientAddress>) {
        let Some(from) = from else { return };
        if !self.is_new(operator, *from) {
            return;
        }
        api.core.note(NewEvent {
            at: clock::wall(),
            code: EventCode::OperatorLoggedIn,
            replication: None,
            agent: None,
            actor: operator.to_owned(),
            message: format!("the credential of {operator} is used from {}", from.0),
        });
    }

    fn is_new(&self, operator: &str, from: ClientAddress) -> bool {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.len() < PLACES && seen.insert((operator.to_owned(), from))
    }
}
