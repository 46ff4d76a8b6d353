//! What has to hold of whatever a client of the API or the server's configuration says. Each function takes any bytes, gives them to one
//! decoder and asserts what must be true of every input; what was refused it gives back in the decoder's own words.
//!
//! Only in builds with the feature `decoders`: the tests and fuzz targets of the crate `decoders` call these.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist_model::api::{
    BackupTo, CreateReplication, CreateToken, HandoverTo, Refusal, SetHierarchy, SetPolicy, VerifyTarget,
};
use tanist_wire::token::JoinRequest;

use crate::api::decoders as api;
use crate::config::{ServerConfig, host_of};

type Verdict = Result<(), String>;

/// What a request asks for survives being written again, and asks for no more than is given. The first byte is the kind: a body, or a
/// query.
///
/// # Errors
/// The cause in the refusal.
pub fn requests(bytes: &[u8]) -> Verdict {
    let (kind, rest) = bytes.split_first().ok_or("an empty request")?;
    match kind % 9 {
        0 => body::<CreateReplication>(rest),
        1 => body::<SetHierarchy>(rest),
        2 => body::<SetPolicy>(rest),
        3 => body::<VerifyTarget>(rest),
        4 => body::<HandoverTo>(rest),
        5 => body::<CreateToken>(rest),
        6 => body::<BackupTo>(rest),
        7 => body::<JoinRequest>(rest),
        _ => api::query(rest).map_err(cause),
    }
}

fn body<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Verdict {
    let read: T = api::body(bytes).map_err(cause)?;
    let written = serde_json::to_vec(&read).map_err(|error| error.to_string())?;
    assert_eq!(api::body::<T>(&written).map_err(cause), Ok(read));
    Ok(())
}

fn cause(refusal: Refusal) -> String {
    refusal.cause.unwrap_or(refusal.error)
}

/// A configuration that is accepted is accepted again as it would be saved, and means the same.
///
/// # Errors
/// Why it is refused.
pub fn server_configurations(bytes: &[u8]) -> Verdict {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let config = ServerConfig::parse(text)?;
    assert!(!config.advertise.is_empty() && config.advertise.iter().all(|address| host_of(address).is_some()));
    assert!(config.hosts().len() >= 2 && host_of(&config.address(config.listen)).is_some());
    let saved = toml::to_string(&config).map_err(|error| error.to_string())?;
    assert_eq!(ServerConfig::parse(&saved), Ok(config), "{saved}");
    Ok(())
}
