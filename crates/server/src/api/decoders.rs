//! What only this room can reach, for [`crate::decoders`].

use axum::extract::Query;
use axum::http::Uri;
use serde::de::DeserializeOwned;
use tanist_model::api::Refusal;

use super::{events, extract, replications};

pub(crate) fn body<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Refusal> {
    extract::read(bytes).map_err(|refused| refused.0)
}

/// Reads a query string as each of the questions that the API knows.
pub(crate) fn query(bytes: &[u8]) -> Result<(), Refusal> {
    let uri = Uri::builder().path_and_query([b"/?", bytes].concat()).build();
    let uri = uri.map_err(|error| extract::invalid("query", error).0)?;
    let wanted = asked::<events::Wanted>(&uri)?;
    assert!(wanted.is_bounded(), "{wanted:?}");
    asked::<replications::DeleteHow>(&uri)?;
    asked::<replications::SyncHow>(&uri)?;
    asked::<replications::When>(&uri).map(drop)
}

fn asked<T: DeserializeOwned>(uri: &Uri) -> Result<T, Refusal> {
    let asked = Query::<T>::try_from_uri(uri).map_err(|error| extract::invalid("query", error.body_text()).0)?;
    Ok(asked.0)
}
