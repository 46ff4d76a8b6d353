//! `tanist recovery-point export`: a recovery point as a file of this host, which has to be one of those that reach the target.

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;
use tanist_agent::{ExportError, ExportOrder};
use tanist_model::api::{PointReading, RecoveryPointView, Refusal, RefusalCode, ReplicationView};
use tanist_model::id::RunId;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::Side;
use tanist_model::run::ChainDigest;
use tanist_model::time::Timestamp;
use tokio::sync::watch;

use super::Outcome;
use super::recovery_point::find;
use super::session::Session;
use crate::cli::ExportArgs;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::progress::Progress;
use crate::output::{Style, units};

/// What was exported, as JSON.
#[derive(Serialize)]
struct ExportReport {
    replication: String,
    run: RunId,
    file: String,
    size_bytes: u64,
    /// Less than the size where the file has holes.
    stored_bytes: u64,
    digest: ChainDigest,
    source_time: Timestamp,
}

pub async fn run(args: ExportArgs, session: &Session<'_>) -> Outcome {
    let client = session.client()?;
    let view = client.replication(&args.name).await?;
    let mut point = point_of(&args, &client).await?;
    let done = match attempt(&args, &view, &point, session).await {
        Err(error @ ExportError::Digest { .. }) => {
            // A run may have begun meanwhile; where the storage makes snapshots, it kept this point by one before it wrote.
            let moved = point_again(&args, &point, &client).await?;
            let Some(now) = moved.filter(|_| point.place == RecoveryPointPlace::Target) else {
                return Err(refusal(&error, &args, &view, &point).into());
            };
            session
                .screen
                .note("a run has begun to write the target; begun anew from the snapshot that keeps this point");
            point = now;
            attempt(&args, &view, &point, session).await
        }
        done => done,
    };
    note_reading(&args, &point, &done, &client, session).await;
    let stored_bytes = done.map_err(|error| refusal(&error, &args, &view, &point))?;
    session.screen.answer(&report(&args, &point, stored_bytes), render)?;
    Ok(ExitCode::SUCCESS)
}

/// Tells the server what a snapshot was found to hold: whoever looks for one to restore has to know.
async fn note_reading(
    args: &ExportArgs,
    point: &RecoveryPointView,
    done: &Result<u64, ExportError>,
    client: &Client,
    session: &Session<'_>,
) {
    let digest = match done {
        Ok(_) => point.digest,
        Err(ExportError::Digest { found, .. }) => *found,
        Err(_) => return,
    };
    if !matches!(point.place, RecoveryPointPlace::Snapshot(_)) {
        return;
    }
    let reading = PointReading { place: point.place.clone(), digest };
    if let Err(error) = client.note_reading(&args.name, point.run, &reading).await {
        session.screen.note(&format!("the server could not be told what was read: {error}"));
    }
}

async fn point_of(args: &ExportArgs, client: &Client) -> Result<RecoveryPointView, Failure> {
    let mut points = client.recovery_points(&args.name).await?;
    let run = find(&args.name, &args.point, &points)?;
    let at = points.iter().position(|point| point.run == run);
    let lost = || Refusal::new(RefusalCode::NotFound, format!("{} has no recovery point of run {run}", args.name));
    Ok(points.swap_remove(at.ok_or_else(lost)?))
}

/// The point, if a snapshot keeps it by now.
async fn point_again(
    args: &ExportArgs,
    point: &RecoveryPointView,
    client: &Client,
) -> Result<Option<RecoveryPointView>, Failure> {
    let points = client.recovery_points(&args.name).await?;
    let kept = |now: &RecoveryPointView| now.run == point.run && matches!(now.place, RecoveryPointPlace::Snapshot(_));
    Ok(points.into_iter().find(kept))
}

/// The reading is blocking work on a thread of its own; its progress comes over.
async fn attempt(
    args: &ExportArgs,
    view: &ReplicationView,
    point: &RecoveryPointView,
    session: &Session<'_>,
) -> Result<u64, ExportError> {
    let Some(target) = view.sides.iter().find(|side| side.side == Side::Target) else { return Err(ExportError::Gone) };
    let order = ExportOrder {
        volume: target.volume.clone(),
        point: point.clone(),
        file: args.file.clone(),
        replace: args.force,
        bytes_per_second: args.limit.map(|limit| limit.bytes_per_second),
    };
    let folder = args.place.folder().map_err(|_| ExportError::NotHere(order.volume.clone()))?;
    let (told, mut passed) = watch::channel(0);
    let work = tokio::task::spawn_blocking(move || {
        tanist_agent::export(&folder, &order, |bytes| {
            told.send_replace(bytes);
        })
    });
    let mut progress = Progress::new(session.screen);
    while passed.changed().await.is_ok() {
        let bytes = *passed.borrow_and_update();
        progress.passed(bytes, point.size_bytes);
    }
    progress.end();
    work.await.unwrap_or(Err(ExportError::Ended))
}

fn refusal(error: &ExportError, args: &ExportArgs, view: &ReplicationView, point: &RecoveryPointView) -> Refusal {
    let (name, file) = (&args.name, args.file.display());
    let what = |code, hint: String| {
        let error_text = format!("the recovery point of run {} of {name} was not exported", point.run);
        Refusal::new(code, error_text).cause(error.to_string()).hint(hint)
    };
    match error {
        ExportError::Exists(_) => {
            what(RefusalCode::Conflict, format!("choose another name, or replace it with --force: {file}"))
        }
        ExportError::Busy(_) => what(RefusalCode::Conflict, "wait until that one has ended".to_owned()),
        ExportError::NoName(_) => what(RefusalCode::Invalid, "name a file, not a directory or a link".to_owned()),
        ExportError::Config(cause) => what(RefusalCode::Invalid, format!("{}; {}", elsewhere(view), cause.hint())),
        ExportError::NotHere(_) => what(RefusalCode::Conflict, elsewhere(view)),
        ExportError::Gone => what(RefusalCode::NotFound, format!("tanist recovery-point list {name}")),
        ExportError::Digest { .. } if matches!(point.place, RecoveryPointPlace::Snapshot(_)) => what(
            RefusalCode::Conflict,
            format!("it is marked as damaged; another one: tanist recovery-point list {name}"),
        ),
        ExportError::Digest { .. } => what(
            RefusalCode::Conflict,
            format!(
                "if a run has begun meanwhile: tanist replication pause {name}, and export again; if none has: tanist \
                 replication verify {name}"
            ),
        ),
        ExportError::Source(_) => what(RefusalCode::Unavailable, format!("tanist replication check {name}")),
        ExportError::File { .. } => {
            what(RefusalCode::Internal, "is there space, and is the directory writable?".to_owned())
        }
        ExportError::Copy(_) | ExportError::Ended => what(
            RefusalCode::Unavailable,
            format!("give the command again; tanist replication check {name} tells who reads"),
        ),
    }
}

/// Who could.
fn elsewhere(view: &ReplicationView) -> String {
    let target = view.sides.iter().filter(|side| side.side == Side::Target);
    let agents: Vec<String> = target.flat_map(|side| &side.agents).map(|agent| agent.agent.to_string()).collect();
    format!(
        "an export reads where it is called: on the host of {}, as the user of its agent",
        if agents.is_empty() { "an agent".to_owned() } else { agents.join(" or ") }
    )
}

fn report(args: &ExportArgs, point: &RecoveryPointView, stored_bytes: u64) -> ExportReport {
    ExportReport {
        replication: args.name.to_string(),
        run: point.run,
        file: whole(&args.file),
        size_bytes: point.size_bytes,
        stored_bytes,
        digest: point.digest,
        source_time: point.source_time,
    }
}

fn whole(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

fn render(report: &ExportReport, _: Style) -> String {
    let (size, stored) = (units::bytes(report.size_bytes), units::bytes(report.stored_bytes));
    format!(
        "{} holds {} as of {}: {size} ({stored} stored), with the digest of its publication\n",
        report.file,
        report.replication,
        units::clock(report.source_time)
    )
}
