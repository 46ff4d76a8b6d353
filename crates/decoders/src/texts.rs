//! What people type or write into files: names, times, sizes, schedules, and the file of a declaration.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tanist::cli::{moment, values};
use tanist::declared::Declared;
use tanist_model::event::EventCode;
use tanist_model::id::{
    AgentName, AlarmName, ApplicationName, CommandId, Incarnation, ReplicationName, RunId, StorageName, VolumeAddress,
};
use tanist_model::retention::{KeptPoint, Retention, expired};
use tanist_model::schedule::{Missed, Schedule, TimeZone};
use tanist_model::time::Timestamp;

use crate::Verdict;

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

/// What is read of a text is read again of the text that it is shown as.
fn survives<T>(text: &str) -> Result<T, String>
where
    T: FromStr<Err: Display> + Display + PartialEq + Debug,
{
    let read: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    let shown = read.to_string();
    assert!(shown.parse::<T>().is_ok_and(|again| again == read), "{text:?} is shown as {shown:?}");
    Ok(read)
}

/// The same in JSON.
fn survives_json<T: DeserializeOwned + Serialize + PartialEq + Debug>(value: &T) {
    let json = serde_json::to_string(value).unwrap_or_default();
    assert!(serde_json::from_str::<T>(&json).is_ok_and(|again| again == *value), "{json}");
}

pub(crate) fn names(bytes: &[u8]) -> Verdict {
    let text = text(bytes)?;
    let name = survives::<AgentName>(text);
    if let Ok(name) = &name {
        // Names are parts of paths and of URIs.
        assert!(!name.as_str().contains(['/', '\\', ' ', '%', '?', '#', '\0']) && !name.as_str().starts_with('.'));
        survives_json(name);
    }
    let others = [
        survives::<ReplicationName>(text).is_ok(),
        survives::<AlarmName>(text).is_ok(),
        survives::<StorageName>(text).is_ok(),
        survives::<ApplicationName>(text).is_ok(),
    ];
    assert!(others.iter().all(|valid| *valid == name.is_ok()), "{text:?}: one rule for all names");
    let address = survives::<VolumeAddress>(text).inspect(|address| {
        assert!(!address.volume().contains('/') && !address.volume().starts_with('.'), "{address}");
        survives_json(address);
    });
    let ids = survives::<RunId>(text).is_ok() || survives::<CommandId>(text).is_ok();
    let ids = ids || survives::<Incarnation>(text).is_ok() || survives::<EventCode>(text).is_ok();
    let time = Timestamp::parse(text).inspect(survives_json);
    if ids { Ok(()) } else { name.map(drop).or(address.map(drop)).or(time.map(drop)) }
}

/// Two lines: a schedule, and the moment after which it is asked.
pub(crate) fn schedules(bytes: &[u8]) -> Verdict {
    let text = text(bytes)?;
    let (line, moment) = text.split_once('\n').unwrap_or((text, ""));
    let schedule: Schedule = survives(line)?;
    survives_json(&schedule);
    let anchor = Timestamp(1_795_342_800_000_000);
    let last = Timestamp::parse(moment).unwrap_or(anchor);
    let Some(next) = schedule.next_after(last, anchor) else { return Ok(()) };
    assert!(next > last && next >= anchor, "{line:?} after {last} is due at {next}");
    assert_eq!(schedule.next_after(Timestamp(next.0 - 1), anchor), Some(next), "{line:?} at {next}");
    let missed = schedule.missed(last, anchor, next);
    assert_eq!(missed, Some(Missed { due: next, passed: 1 }), "{line:?} after {last}");
    Ok(())
}

/// Two lines: a retention, and bytes of which each pair is a recovery point some hours before the one after it.
pub(crate) fn retentions(bytes: &[u8]) -> Verdict {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (line, points) = bytes.split_at(end);
    let retention: Retention = survives(text(line)?)?;
    survives_json(&retention);
    let mut seconds = 1_795_342_800_i64;
    let mut kept = Vec::new();
    for (run, [hours, flags]) in (1..).zip(points.as_chunks().0) {
        seconds -= i64::from(*hours) * 3601;
        let source_time = Timestamp(seconds * 1_000_000);
        kept.push(KeptPoint { run: RunId(run), source_time, pinned: flags & 1 == 1, is_current: flags & 2 == 2 });
    }
    let gone = expired(&kept, &retention, &TimeZone::UTC);
    let left = kept.iter().filter(|point| !gone.contains(&point.run)).count();
    assert_eq!(left + gone.len(), kept.len());
    assert!(left >= kept.len().min(usize::try_from(retention.keep_last.get()).unwrap_or(usize::MAX)), "{retention}");
    assert!(!kept.iter().any(|point| (point.pinned || point.is_current) && gone.contains(&point.run)));
    Ok(())
}

pub(crate) fn typed_values(bytes: &[u8]) -> Verdict {
    let text = text(bytes)?;
    let words = |error: values::ValueError| error.to_string();
    let span = text.parse::<values::Rpo>().inspect(|rpo| assert!((1..=315_360_000).contains(&rpo.seconds)));
    let rate = text.parse::<values::Bandwidth>().inspect(|limit| assert!(limit.bytes_per_second >= 64 << 10));
    let address = values::host_port(text).inspect(|address| {
        let url = format!("https://{address}/api/v1");
        assert!(!address.contains(['/', '?', '#', '@', ' ', '\\']), "{url} leads elsewhere");
        let (host, port) = address.rsplit_once(':').unwrap_or_default();
        assert!(!host.is_empty() && port.bytes().all(|digit| digit.is_ascii_digit()), "{url}");
    });
    let understood = [
        text.parse::<values::WaitLimit>().is_ok(),
        text.parse::<values::StorageDirectory>().is_ok(),
        values::size(text).is_ok(),
        values::absolute_path(text).is_ok(),
        moment::moment(text).is_ok(),
    ];
    if understood.contains(&true) {
        return Ok(());
    }
    span.map(drop).or(rate.map(drop)).or(address.map(drop)).map_err(words)
}

/// A file of a declaration that is understood asks for what can be asked for.
pub(crate) fn declarations(bytes: &[u8]) -> Verdict {
    let declared = Declared::parse("replications.toml", text(bytes)?);
    let declared = declared.map_err(|refusal| refusal.cause.unwrap_or(refusal.error))?;
    for replication in &declared.replication {
        let request = replication.request();
        survives_json(&request);
        assert!(request.policy.check().is_ok() && !request.agents.is_empty(), "{request:?}");
    }
    Ok(())
}
