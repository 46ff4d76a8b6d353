//! What a request carries, read with care: whatever is wrong becomes a refusal that says what.

use std::str::FromStr;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::excerpt::excerpt;
use tanist_model::id::{CommandId, IdError, ReplicationName, RunId};

use super::refusal::Refused;
use crate::random;

/// Header that carries the command id: the same id twice does the work once.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";

pub(super) fn invalid(what: &str, cause: impl ToString) -> Refused {
    Refused(Refusal::new(RefusalCode::Invalid, format!("the {what} is not valid")).cause(excerpt(&cause.to_string())))
}

pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(bytes).map_err(|error| {
        let Refused(refusal) = invalid("body", error);
        Refused(refusal.hint("what each request takes: GET /api/v1/openapi.json"))
    })
}

/// A JSON body, whatever content type it claims.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, state).await.map_err(|e| invalid("body", e.body_text()))?;
        read(&bytes).map(Self)
    }
}

/// The same, with the default for an empty one.
#[derive(Debug)]
pub struct OptionalBody<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        let bytes = Bytes::from_request(request, state).await.map_err(|e| invalid("body", e.body_text()))?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        read(&bytes).map(Self)
    }
}

/// The name in the path.
#[derive(Debug)]
pub struct Name<T>(pub T);

impl<T, S> FromRequestParts<S> for Name<T>
where
    T: FromStr<Err: ToString>,
    S: Send + Sync,
{
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let Path(text) =
            Path::<String>::from_request_parts(parts, state).await.map_err(|e| invalid("path", e.body_text()))?;
        text.parse().map(Self).map_err(|error: T::Err| invalid("name", error.to_string()))
    }
}

/// A replication's name and a run of it, in the path.
#[derive(Debug)]
pub struct Point {
    pub name: ReplicationName,
    pub run: RunId,
}

impl<S: Send + Sync> FromRequestParts<S> for Point {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let path = Path::<(String, String)>::from_request_parts(parts, state).await;
        let Path((name, run)) = path.map_err(|e| invalid("path", e.body_text()))?;
        let name = name.parse().map_err(|error: IdError| invalid("name", error.to_string()))?;
        let run = run.parse().map_err(|error: IdError| invalid("run", error.to_string()))?;
        Ok(Self { name, run })
    }
}

/// The query string.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let asked = Query::<T>::from_request_parts(parts, state).await;
        asked.map(|Query(value)| Self(value)).map_err(|error| invalid("query", error.body_text()))
    }
}

/// The command id: the request's own, or a new one.
#[derive(Clone, Copy, Debug)]
pub struct Key(pub CommandId);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Refused> {
        match parts.headers.get(IDEMPOTENCY_KEY) {
            Some(value) => {
                let text = value.to_str().map_err(|error| invalid("Idempotency-Key", error))?;
                text.parse().map(Self).map_err(|error| invalid("Idempotency-Key", error))
            }
            None => fresh_key().map(Self),
        }
    }
}

/// # Errors
/// A refusal if the operating system gives no random numbers.
pub fn fresh_key() -> Result<CommandId, Refused> {
    random::command_id()
        .map_err(|error| Refused(Refusal::new(RefusalCode::Internal, "no random numbers").cause(error.to_string())))
}
