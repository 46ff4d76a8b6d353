//! What has to hold of whatever lies in an agent's directory, and of what a guard says. Each function takes any bytes, gives them to one
//! decoder and asserts what must be true of every input; what was refused it gives back in the decoder's own words.
//!
//! Only in builds with the feature `decoders`: the tests and fuzz targets of the crate `decoders` call these.

use std::fmt::{Debug, Display};
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist_model::excerpt::excerpt;
use tanist_protocol::message::PeerAddress;

use crate::application::decoders::{Outcome, Task, Telling};
use crate::config::AgentConfig;
use crate::ledger::Granted;

type Verdict = Result<(), String>;

fn words(error: impl Display) -> String {
    excerpt(&error.to_string())
}

/// What an agent has left for its next process, and a guard's words to it, survive being written again. The first byte is the kind.
///
/// # Errors
/// Why it is not understood.
pub fn agent_files(bytes: &[u8]) -> Verdict {
    let (kind, text) = bytes.split_first().ok_or("an empty file")?;
    match kind % 5 {
        0 => survives::<Granted>(text),
        1 => survives::<Vec<PeerAddress>>(text),
        2 => survives::<Task>(text),
        3 => survives::<Outcome>(text),
        _ => survives::<Telling>(text),
    }
}

fn survives<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &[u8]) -> Verdict {
    let read: T = serde_json::from_slice(text).map_err(words)?;
    let written = serde_json::to_vec(&read).map_err(words)?;
    assert_eq!(serde_json::from_slice::<T>(&written).map_err(words)?, read);
    Ok(())
}

fn file() -> PathBuf {
    PathBuf::from(AgentConfig::FILE)
}

/// A configuration that is accepted is accepted again as it would be saved, and means the same.
///
/// # Errors
/// Why it is refused.
pub fn agent_configurations(bytes: &[u8]) -> Verdict {
    let config = AgentConfig::parse(file(), std::str::from_utf8(bytes).map_err(words)?).map_err(words)?;
    let saved = toml::to_string_pretty(&config).map_err(words)?;
    assert_eq!(AgentConfig::parse(file(), &saved).map_err(words), Ok(config), "{saved}");
    Ok(())
}
