//! `tanist replication`.

use std::process::ExitCode;

use tanist_model::api::{
    Done, DrillHow, HandoverTo, Plan, Refusal, RefusalCode, ReplicationView, SetHierarchy, SetPolicy, VerifyTarget,
};
use tanist_model::id::{Epoch, ReplicationName};
use tanist_model::recovery_point::RecoveryPointPlace;

use super::session::Session;
use super::wait::{Awaited, Ending, last_event, wait};
use super::{Outcome, confirm};
use crate::cli::replication::{AbortArgs, CreateArgs, DeleteArgs, HierarchyArgs, ReplicationCommand, SetArgs};
use crate::cli::values::WaitLimit;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::lists::render_replications;
use crate::output::matrix::render_check;
use crate::output::plan::render_plan;
use crate::output::show::{percent, render_hierarchies, render_show};
use crate::output::takeovers::render_takeovers;
use crate::output::why::render_why;

pub async fn run(command: ReplicationCommand, session: &Session<'_>) -> Outcome {
    let client = session.client()?;
    match command {
        ReplicationCommand::Create(args) => create(&client, args, session).await,
        ReplicationCommand::List => list(&client, session).await,
        ReplicationCommand::Show(args) => show(&client, &args.name, session).await,
        ReplicationCommand::Sync { name, full, wait: true, timeout } => {
            sync_and_wait(&client, &name, full, timeout, session).await
        }
        ReplicationCommand::Sync { name, full, wait: false, .. } => session.done(&client.sync(&name, full).await?),
        ReplicationCommand::Abort(args) => abort(&client, &args, session).await,
        ReplicationCommand::Pause(args) => session.done(&client.pause(&args.name).await?),
        ReplicationCommand::Resume(args) => session.done(&client.resume(&args.name).await?),
        ReplicationCommand::Delete(args) => delete(&client, &args, session).await,
        ReplicationCommand::Check(args) => check(&client, &args.name, session).await,
        ReplicationCommand::Hierarchy(args) => hierarchy(&client, args, session).await,
        ReplicationCommand::Handover { name, to } => session.done(&client.handover(&name, &HandoverTo { to }).await?),
        ReplicationCommand::Drill { name, hand_back, wait: true, timeout } => {
            super::drill::drill_and_wait(&client, &name, DrillHow { hand_back }, timeout, session).await
        }
        ReplicationCommand::Drill { name, hand_back, wait: false, .. } => {
            session.done(&client.drill(&name, DrillHow { hand_back }).await?)
        }
        ReplicationCommand::Verify { name, no_repair, wait: true, timeout } => {
            verify_and_wait(&client, &name, VerifyTarget { repair: !no_repair }, timeout, session).await
        }
        ReplicationCommand::Verify { name, no_repair, wait: false, .. } => {
            session.done(&client.verify(&name, VerifyTarget { repair: !no_repair }).await?)
        }
        ReplicationCommand::Set(args) => set(&client, &args, session).await,
        ReplicationCommand::Handback(args) => session.done(&client.handback(&args.name).await?),
        ReplicationCommand::Why { name, at } => {
            session.screen.answer(&client.why(&name, at).await?, render_why)?;
            Ok(ExitCode::SUCCESS)
        }
        ReplicationCommand::Takeovers(args) => {
            session.screen.answer(&client.why(&args.name, None).await?, render_takeovers)?;
            Ok(ExitCode::SUCCESS)
        }
        ReplicationCommand::Record { name, epoch } => {
            super::record::print(&client.record(&name, epoch.map(Epoch)).await?, session)
        }
    }
}

async fn create(client: &Client, args: CreateArgs, session: &Session<'_>) -> Outcome {
    let request = args.what.request(args.name, false);
    let plan = client.plan_replication(&request).await?;
    if args.dry_run {
        session.screen.answer(&plan, render_plan)?;
        return Ok(ExitCode::SUCCESS);
    }
    agree(&plan, Consent { overwrite: args.what.overwrite_target, yes: args.what.yes }, session)?;
    session.done(&client.create_replication(&request).await?)
}

/// What the command line has said already.
#[derive(Clone, Copy, Debug)]
pub struct Consent {
    /// `--overwrite-target`
    pub overwrite: bool,
    /// `--yes`
    pub yes: bool,
}

/// Shows the plan, and asks before data that is there is overwritten.
pub fn agree(plan: &Plan, given: Consent, session: &Session<'_>) -> Result<(), Failure> {
    if !session.screen.is_json() {
        session.screen.text(&(render_plan(plan, session.screen.style()) + "\n"))?;
    }
    if given.overwrite && confirm::is_wanted(given.yes, session.screen) {
        confirm::ask(&format!("Overwrite {} ({})? What stands there is lost.", plan.target, plan.overwrites))?;
    }
    Ok(())
}

async fn abort(client: &Client, args: &AbortArgs, session: &Session<'_>) -> Outcome {
    if confirm::is_wanted(args.yes, session.screen)
        && let Some(question) = giving_up(&client.replication(&args.name).await?)
    {
        confirm::ask(&question)?;
    }
    session.done(&client.abort(&args.name).await?)
}

/// What is lost with the run; nothing without one, and the server says so.
fn giving_up(view: &ReplicationView) -> Option<String> {
    let run = view.run.as_ref()?;
    let target = match (&view.last_recovery_point, view.target_dirty) {
        (_, false) => "Nothing of it is on the target yet.",
        (Some(point), true) if matches!(point.place, RecoveryPointPlace::Snapshot(_)) => {
            "The target is then neither the old state nor the new; the last recovery point stays in its snapshot."
        }
        (_, true) => {
            "The target is then neither the old state nor the new, and there is NOTHING TO RESTORE until the next run."
        }
    };
    Some(format!("the run of {} in progress is at {} %. {target}\nGive it up?", view.name, percent(run)))
}

async fn delete(client: &Client, args: &DeleteArgs, session: &Session<'_>) -> Outcome {
    if confirm::is_wanted(args.yes, session.screen) {
        confirm::ask(&removal(&client.replication(&args.name).await?, args.leave_behind))?;
    }
    session.done(&client.delete_replication(&args.name, args.leave_behind).await?)
}

/// What goes and what stays.
fn removal(view: &ReplicationView, leave_behind: bool) -> String {
    let volumes: Vec<String> = view.sides.iter().map(|side| side.volume.to_string()).collect();
    let run = match &view.run {
        Some(run) => format!(
            "\nThe run in progress ({} %) is given up, and the target is then neither the old state nor the new.",
            percent(run)
        ),
        None => String::new(),
    };
    let snapshots = if leave_behind {
        "of the snapshots that tanist made those go that an agent can remove. The others STAY AT THE STORAGE, and you remove them: \
         event T309 names each."
    } else {
        "the snapshots that tanist made go."
    };
    format!(
        "replication {}: {}. Both volumes keep their data; {snapshots}{run}\nRemove it?",
        view.name,
        volumes.join(" to ")
    )
}

async fn list(client: &Client, session: &Session<'_>) -> Outcome {
    let views = client.replications().await?;
    session.screen.answer(&views, |views, style| render_replications(views, style))?;
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &Client, name: &ReplicationName, session: &Session<'_>) -> Outcome {
    session.screen.answer(&client.replication(name).await?, render_show)?;
    Ok(ExitCode::SUCCESS)
}

async fn check(client: &Client, name: &ReplicationName, session: &Session<'_>) -> Outcome {
    let plan = client.check_replication(name).await?;
    session.screen.answer(&plan, render_check)?;
    let all_can_act = plan.matrix.iter().all(|row| row.ineligible_for.is_empty());
    Ok(if all_can_act { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn hierarchy(client: &Client, args: HierarchyArgs, session: &Session<'_>) -> Outcome {
    match args.side {
        Some(side) => {
            let body = SetHierarchy { side, agents: args.set };
            session.done(&client.set_hierarchy(&args.name, &body).await?)
        }
        None => {
            let show = |view: &ReplicationView, style| render_hierarchies(view, style);
            session.screen.answer(&client.replication(&args.name).await?, show)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn verify_and_wait(
    client: &Client,
    name: &ReplicationName,
    how: VerifyTarget,
    limit: Option<WaitLimit>,
    session: &Session<'_>,
) -> Outcome {
    let since = last_event(client).await?;
    let done = client.verify(name, how).await?;
    let run = done.run.ok_or_else(|| no_run(name, &done.message))?;
    finish(client, &Awaited { name: name.clone(), run, since, done }, limit, session).await
}

/// What was not given stays, as it is at this moment: a change that somebody makes meanwhile is not undone.
async fn set(client: &Client, args: &SetArgs, session: &Session<'_>) -> Outcome {
    let present = client.replication(&args.name).await?.policy;
    let policy = args.policy.over(present.clone());
    session.done(&client.set_policy(&args.name, &SetPolicy { policy, expected: Some(present) }).await?)
}

async fn sync_and_wait(
    client: &Client,
    name: &ReplicationName,
    full: bool,
    limit: Option<WaitLimit>,
    session: &Session<'_>,
) -> Outcome {
    let awaited = start(client, name, full).await?;
    session.screen.note(&format!("run of {name}; if this is interrupted, it goes on: tanist replication show {name}"));
    finish(client, &awaited, limit, session).await
}

/// Asks for a run, and says what to wait for.
pub async fn start(client: &Client, name: &ReplicationName, full: bool) -> Result<Awaited, Failure> {
    let since = last_event(client).await?;
    let done = client.sync(name, full).await?;
    let run = done.run.ok_or_else(|| no_run(name, &done.message))?;
    Ok(Awaited { name: name.clone(), run, since, done })
}

fn no_run(name: &ReplicationName, message: &str) -> Refusal {
    Refusal::new(RefusalCode::Internal, format!("the server started no run of {name}")).cause(message)
}

/// Waits for the run and tells how it ended.
async fn finish(client: &Client, awaited: &Awaited, limit: Option<WaitLimit>, session: &Session<'_>) -> Outcome {
    match wait(client, awaited, limit, session.screen).await? {
        Ending::Published => tell_published(client, awaited, session).await,
        Ending::Abandoned { why } => {
            let show = format!("`tanist replication show {}` and `tanist explain T504`", awaited.name);
            Err(abandoned(awaited, why).hint(show).into())
        }
    }
}

async fn tell_published(client: &Client, awaited: &Awaited, session: &Session<'_>) -> Outcome {
    match client.replication(&awaited.name).await {
        Ok(view) => session.screen.answer(&view, render_show)?,
        // Removed meanwhile: what was asked for is done all the same.
        Err(error) if error.is_not_found() => return session.done(&published(awaited)),
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

/// The answer to the command that started the run, now that it is carried out.
pub fn published(awaited: &Awaited) -> Done {
    let message =
        format!("run {} of {} is published: the target holds what it read of the source", awaited.run, awaited.name);
    Done { message, next: None, ..awaited.done.clone() }
}

pub fn abandoned(awaited: &Awaited, why: String) -> Refusal {
    Refusal::new(RefusalCode::Conflict, format!("run {} of {} was abandoned", awaited.run, awaited.name)).cause(why)
}
