//! `tanist apply`: shows what differs from a declaration, asks, and does it step by step. It stops at the first step that is refused and
//! says what was done and what was not: the same command again goes on from there.

use std::path::Path;
use std::process::ExitCode;

use tanist_model::api::{Refusal, RefusalCode};

use super::session::Session;
use super::{Outcome, confirm};
use crate::cli::ApplyArgs;
use crate::client::{Client, ClientError};
use crate::declared::Declared;
use crate::declared::diff::{Difference, Obstacle, Present, Step, plan_difference};
use crate::failure::Failure;
use crate::output::apply::{Applied, render_applied, report};

pub async fn run(args: ApplyArgs, session: &Session<'_>) -> Outcome {
    let declared = read(&args.file)?;
    let client = session.client()?;
    let difference = look(&client, &declared, args.prune).await?;
    let applied = report(&difference, &[]);
    if args.check || !difference.obstacles.is_empty() || difference.steps.is_empty() {
        session.screen.answer(&applied, render_applied)?;
        return end(&difference);
    }
    agree(&applied, &args, session)?;
    let (done, refused) = carry_out(&client, &difference.steps).await;
    if let Some(error) = refused {
        return Err(stopped(&difference.steps, done.len(), &error).into());
    }
    session.screen.answer(&report(&difference, &done), render_applied)?;
    Ok(ExitCode::SUCCESS)
}

fn read(file: &Path) -> Result<Declared, Failure> {
    let failed = |source| Failure::io(format!("read {}", file.display()), source);
    Ok(Declared::parse(&file.display().to_string(), &std::fs::read_to_string(file).map_err(failed)?)?)
}

/// Compares, and has the server check what would be new: what it would refuse is known before anything is done. What waits for a volume
/// that a removal sets free cannot be checked before.
async fn look(client: &Client, declared: &Declared, prune: bool) -> Result<Difference, Failure> {
    let (replications, storage) = (client.replications().await?, client.storage().await?);
    let present = Present { replications: &replications, storage: &storage };
    let mut difference = plan_difference(declared, present, prune);
    let makes_room = difference.steps.iter().any(|step| matches!(step, Step::Delete { .. }));
    for step in difference.steps.iter().filter(|_| !makes_room) {
        let Step::Create(request) = step else { continue };
        match client.plan_replication(request).await {
            Ok(_) => {}
            Err(ClientError::Refused(refusal)) => {
                difference.obstacles.push(not_possible(&request.name.to_string(), refusal))
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(difference)
}

fn not_possible(name: &str, refusal: Refusal) -> Obstacle {
    let cause = refusal.cause.map_or_else(String::new, |cause| format!(": {cause}"));
    let what = format!("replication {name} cannot be created: {}{cause}", refusal.error);
    Obstacle { what, hint: refusal.hint.unwrap_or_else(|| "correct the declaration".to_owned()) }
}

/// Success if nothing differs; nothing was done.
fn end(difference: &Difference) -> Outcome {
    let same = difference.steps.is_empty() && difference.obstacles.is_empty();
    Ok(if same { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn agree(applied: &Applied, args: &ApplyArgs, session: &Session<'_>) -> Result<(), Failure> {
    if !session.screen.is_json() {
        session.screen.text(&(render_applied(applied, session.screen.style()) + "\n"))?;
    }
    confirm::require(&format!("Apply {} changes?", applied.to_do.len()), args.yes)
}

/// What was done, and why it went no further.
async fn carry_out(client: &Client, steps: &[Step]) -> (Vec<String>, Option<ClientError>) {
    let mut done = Vec::new();
    for step in steps {
        match carry_out_one(client, step).await {
            Ok(()) => done.push(step.in_words()),
            Err(error) => return (done, Some(error)),
        }
    }
    (done, None)
}

async fn carry_out_one(client: &Client, step: &Step) -> Result<(), ClientError> {
    match step {
        Step::SetPolicy { name, change } => client.set_policy(name, change).await,
        Step::SetHierarchy { name, change } => client.set_hierarchy(name, change).await,
        Step::Delete { name } => client.delete_replication(name, false).await,
        Step::Create(request) => client.create_replication(request).await,
    }
    .map(drop)
}

fn stopped(steps: &[Step], done: usize, error: &ClientError) -> Refusal {
    let refusal = error.refusal();
    let words = |steps: &[Step]| match steps {
        [] => "nothing".to_owned(),
        steps => steps.iter().map(Step::in_words).collect::<Vec<_>>().join("; "),
    };
    let (before, after) = steps.split_at(done.min(steps.len()));
    let step = after.first().map_or_else(String::new, Step::in_words);
    let cause = refusal.cause.map_or_else(String::new, |cause| format!(": {cause}"));
    let hint = refusal.hint.map_or_else(String::new, |hint| format!("{hint}; then "));
    Refusal::new(RefusalCode::Conflict, format!("stopped after {done} of {} changes, at: {step}", steps.len()))
        .cause(format!("{}{cause}. Done: {}. Not done: {}", refusal.error, words(before), words(after)))
        .hint(format!("{hint}apply again: it goes on with what is left"))
}
