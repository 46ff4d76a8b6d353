//! Records in JSON: those of the store, the bookmarks of alarms, the secrets by which somebody joins, and what a server answers.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist_alarm::bookmark::Bookmark;
use tanist_model::agent::AgentRecord;
use tanist_model::api::{
    AgentView, EventPage, Plan, RecoveryPointView, Refusal, ReplicationView, StatusView, StorageView, VolumeView,
    WhyView,
};
use tanist_model::byte_range::ByteRanges;
use tanist_model::change::CommandResult;
use tanist_model::enrolment::{Credential, JoinToken};
use tanist_model::event::NewEvent;
use tanist_model::excerpt::excerpt;
use tanist_model::recovery_point::RecoveryPoint;
use tanist_model::replication::ReplicationRecord;
use tanist_model::run::RunRecord;
use tanist_model::takeover::TakeoverRecord;
use tanist_wire::certificate::CaHash;
use tanist_wire::token::{JoinRequest, JoinResponse, JoinSecret, OperatorSecret};

use crate::Verdict;

/// What is understood is understood again as it would be written.
fn survives<T: DeserializeOwned + Serialize + PartialEq + Debug>(text: &[u8]) -> Verdict {
    let words = |error: serde_json::Error| excerpt(&error.to_string());
    let read: T = serde_json::from_slice(text).map_err(words)?;
    let written = serde_json::to_vec(&read).map_err(words)?;
    let again: T = serde_json::from_slice(&written).unwrap_or_else(|error| panic!("{error}: {read:?}"));
    assert_eq!(again, read);
    Ok(())
}

/// The body of a row; the first byte is its table.
pub(crate) fn store_records(bytes: &[u8]) -> Verdict {
    let (table, body) = bytes.split_first().ok_or("an empty row")?;
    match table % 10 {
        0 => survives::<ReplicationRecord>(body),
        1 => survives::<AgentRecord>(body),
        2 => survives::<RunRecord>(body),
        3 => survives::<RecoveryPoint>(body),
        4 => survives::<TakeoverRecord>(body),
        5 => survives::<CommandResult>(body),
        6 => survives::<JoinToken>(body),
        7 => survives::<Credential>(body),
        8 => survives::<NewEvent>(body),
        _ => byte_ranges(body),
    }
}

/// A set of ranges is one, in whatever order it was written down.
fn byte_ranges(body: &[u8]) -> Verdict {
    survives::<ByteRanges>(body)?;
    let ranges: ByteRanges = serde_json::from_slice(body).map_err(|error| excerpt(&error.to_string()))?;
    assert!(ranges.as_slice().len() <= ByteRanges::LIMIT);
    assert!(ranges.as_slice().iter().all(|range| range.start < range.end), "{ranges:?}");
    assert!(ranges.as_slice().windows(2).all(|pair| pair[0].end < pair[1].start), "{ranges:?}");
    Ok(())
}

pub(crate) fn bookmarks(bytes: &[u8]) -> Verdict {
    survives::<Bookmark>(bytes)
}

/// A join's request or answer, or a secret as text. A secret never shows itself in an error.
pub(crate) fn secrets(bytes: &[u8]) -> Verdict {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    if text.starts_with('{') {
        return survives::<JoinRequest>(bytes).or_else(|_| survives::<JoinResponse>(bytes));
    }
    let token = text.parse::<JoinSecret>().inspect(|secret| {
        assert_eq!(secret.reveal().parse::<JoinSecret>().as_ref(), Ok(secret));
        assert!(!format!("{secret:?}{}", secret.hash().0).contains(&secret.reveal()[4..]));
    });
    let credential = text.parse::<OperatorSecret>();
    let hash = text.parse::<CaHash>().inspect(|hash| assert_eq!(hash.to_string().parse::<CaHash>(), Ok(*hash)));
    let known = usize::from(token.is_ok()) + usize::from(credential.is_ok()) + usize::from(hash.is_ok());
    assert!(known <= 1, "{text:?} is two things");
    if known == 1 {
        return Ok(());
    }
    // The same words whatever was typed: they repeat nothing of it.
    let refused = |text: &str| text.parse::<OperatorSecret>().map(drop).map_err(|error| error.to_string());
    assert_eq!(refused(text), refused(""));
    refused(text)
}

/// What a server answers to an operator's program; the first byte is the question.
pub(crate) fn server_answers(bytes: &[u8]) -> Verdict {
    let (question, body) = bytes.split_first().ok_or("an empty answer")?;
    match question % 10 {
        0 => survives::<Refusal>(body),
        1 => survives::<ReplicationView>(body),
        2 => survives::<StatusView>(body),
        3 => survives::<Plan>(body),
        4 => survives::<WhyView>(body),
        5 => survives::<EventPage>(body),
        6 => survives::<Vec<AgentView>>(body),
        7 => survives::<Vec<RecoveryPointView>>(body),
        8 => survives::<Vec<StorageView>>(body),
        _ => survives::<Vec<VolumeView>>(body),
    }
}
