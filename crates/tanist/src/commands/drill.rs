//! `tanist replication drill --wait`: until the drill has a result, through restarts of the server.

use std::process::ExitCode;
use std::time::Duration;

use tanist_model::api::{DrillHow, Refusal, RefusalCode, ReplicationView};
use tanist_model::drill::DrillResult;
use tanist_model::id::{Epoch, ReplicationName};
use tokio::time::Instant;

use super::Outcome;
use super::session::Session;
use super::wait::Outage;
use crate::cli::values::WaitLimit;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::drills::render_drill;
use crate::output::units;

const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A drill has a result after a minute. What has none after this long, with a server that answers, was never committed.
const LOST_AFTER: Duration = Duration::from_secs(120);

pub async fn drill_and_wait(
    client: &Client,
    name: &ReplicationName,
    how: DrillHow,
    limit: Option<WaitLimit>,
    session: &Session<'_>,
) -> Outcome {
    let done = client.drill(name, how).await?;
    let epoch = done.epoch.ok_or_else(|| {
        Refusal::new(RefusalCode::Internal, format!("the server does not say which epoch the drill of {name} granted"))
            .hint("is it of the version of this program? tanist server status")
    })?;
    session.screen.note(&done.message);
    let result = result_of(client, name, epoch, limit, session).await?;
    session.screen.answer(&result, render_drill)?;
    match &result.fault {
        None => Ok(ExitCode::SUCCESS),
        Some(fault) => Err(Refusal::new(RefusalCode::Conflict, format!("the drill of {name} is no good one"))
            .cause(fault.clone())
            .hint(format!("tanist replication why {name}"))
            .into()),
    }
}

async fn result_of(
    client: &Client,
    name: &ReplicationName,
    epoch: Epoch,
    limit: Option<WaitLimit>,
    session: &Session<'_>,
) -> Result<DrillResult, Failure> {
    let begun = Instant::now();
    let mut outage = Outage::default();
    loop {
        match client.replication(name).await {
            Ok(view) => {
                outage.ended(|text| session.screen.note(text));
                if let Some(result) = found(&view, epoch) {
                    return Ok(result);
                }
                if begun.elapsed() >= LOST_AFTER {
                    return Err(lost(name, epoch).into());
                }
            }
            Err(error) if error.is_passing() => outage.pause(&error, |text| session.screen.note(text)).await,
            Err(error) => return Err(error.into()),
        }
        if let Some(limit) = limit.filter(|limit| begun.elapsed() >= limit.0) {
            return Err(Failure::StillGoingOn(too_long(name, limit)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn found(view: &ReplicationView, epoch: Epoch) -> Option<DrillResult> {
    view.drills.results.iter().find(|result| result.epoch == epoch).cloned()
}

fn lost(name: &ReplicationName, epoch: Epoch) -> Refusal {
    Refusal::new(RefusalCode::NotFound, format!("the drill of {name} that granted epoch {epoch} has no result"))
        .hint(format!("tanist events --replication {name}"))
}

fn too_long(name: &ReplicationName, limit: WaitLimit) -> Refusal {
    let time = units::duration(limit.0);
    Refusal::new(RefusalCode::Unavailable, format!("the drill of {name} has no result within {time}; it goes on"))
        .hint(format!("tanist replication show {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn a_result_is_known_by_its_epoch() {
        let view = samples::replication();
        let good = view.drills.last_good.clone().unwrap();
        assert_eq!(found(&view, good.epoch), Some(good));
        assert_eq!(found(&view, Epoch(99)), None);
    }
}
