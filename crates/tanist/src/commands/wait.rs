//! Waits for a run to end, through takeovers and restarts of the server.

use std::time::Duration;

use tanist_model::api::{Done, EventPage, Health, Refusal, RefusalCode, ReplicationView, RunView};
use tanist_model::event::EventCode;
use tanist_model::id::{EventSeq, ReplicationName, RunId};
use tanist_model::run::RunState;

use tokio::time::Instant;

use crate::cli::values::WaitLimit;
use crate::client::{Client, ClientError, EventQuery};
use crate::failure::Failure;
use crate::output::progress::{self, Progress};
use crate::output::{Screen, screen, units};

const LOOK_EVERY: Duration = Duration::from_millis(300);
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(1);
/// The removal of a transfer that nothing holds up takes some milliseconds.
const REMOVAL_TAKES_AT_MOST: Duration = Duration::from_secs(10);
/// A run that no view shows and no event ends is looked for so many times before the command gives up.
const LOOKS_FOR_A_LOST_RUN: u32 = 20;
const EVENTS_OF_A_RUN: u32 = 500;

/// How a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    Published,
    Abandoned { why: String },
}

/// What a view says of one run.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Sight<'a> {
    Going(&'a RunView),
    Ended(Ending),
    /// The view speaks of other runs only: this one ended a while ago.
    Gone,
}

/// What is waited for.
#[derive(Clone, Debug)]
pub struct Awaited {
    pub name: ReplicationName,
    pub run: RunId,
    /// The last event before the run was asked for: its end comes later.
    pub since: EventSeq,
    /// The answer to the command that asked for it.
    pub done: Done,
}

/// The position of the last event there is, to be asked for before a run is.
pub async fn last_event(client: &Client) -> Result<EventSeq, ClientError> {
    let query = EventQuery { limit: 1, ..EventQuery::default() };
    Ok(client.events(&query).await?.last)
}

/// Shows the run until it has ended, or for as long as the operator wants to wait.
pub async fn wait(
    client: &Client,
    awaited: &Awaited,
    limit: Option<WaitLimit>,
    screen: &Screen,
) -> Result<Ending, Failure> {
    let deadline = limit.map(|limit| (limit, Instant::now() + limit.0));
    let mut progress = Progress::new(screen);
    let mut outage = Outage::default();
    let mut lost = 0;
    let mut told = Told::default();
    while lost < LOOKS_FOR_A_LOST_RUN {
        match look(client, awaited, &mut progress, &mut told).await {
            Ok(seen) => {
                outage.ended(|text| progress.say(text));
                if let Some(ending) = seen {
                    progress.end();
                    return Ok(ending);
                }
            }
            Err(Lost::Run) => lost += 1,
            Err(Lost::Server(error)) if error.is_passing() => outage.pause(&error, |text| progress.say(text)).await,
            Err(Lost::Server(error)) => return Err(error.into()),
        }
        if let Some((limit, _)) = deadline.filter(|(_, at)| Instant::now() >= *at) {
            progress.end();
            return Err(Failure::StillGoingOn(too_long(awaited, limit, &told)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    progress.end();
    Err(lost_run(awaited).into())
}

/// Nothing has failed: the run goes on without somebody who looks.
fn too_long(awaited: &Awaited, limit: WaitLimit, told: &Told) -> Refusal {
    let (run, name, time) = (awaited.run, &awaited.name, units::duration(limit.0));
    let now = told.last.clone().unwrap_or_else(|| "the server has not said how it stands".to_owned());
    Refusal::new(RefusalCode::Unavailable, format!("run {run} of {name} has not ended within {time}; it goes on"))
        .cause(now)
        .hint(format!("tanist replication show {name}; to wait on: tanist replication sync {name} --wait; to give it up: tanist replication abort {name}"))
}

/// Waits until a transfer that has ended is removed, which takes a moment: as long as it is there it owns its target. One whose
/// removal needs something is left to itself, and the operator is told.
pub async fn until_removed(client: &Client, name: &ReplicationName, screen: &Screen) -> Result<(), Failure> {
    let deadline = Instant::now() + REMOVAL_TAKES_AT_MOST;
    let mut seen = None;
    while Instant::now() < deadline {
        match client.replication(name).await {
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) if !error.is_passing() => return Err(error.into()),
            Err(_) => {}
            Ok(view) => seen = view.waits_for,
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let waits = seen.map(|what| format!(": it waits for {what}")).unwrap_or_default();
    screen.note(&format!(
        "transfer {name} has ended and is not removed yet{waits}\nuntil then its target cannot be used again: tanist replication show {name}"
    ));
    Ok(())
}

/// What could not be seen.
enum Lost {
    Run,
    Server(ClientError),
}

impl From<ClientError> for Lost {
    fn from(error: ClientError) -> Self {
        Self::Server(error)
    }
}

async fn look(
    client: &Client,
    awaited: &Awaited,
    progress: &mut Progress,
    told: &mut Told,
) -> Result<Option<Ending>, Lost> {
    let view = match client.replication(&awaited.name).await {
        Err(error) if error.is_not_found() => return ending_in_log(client, awaited).await.map(Some),
        view => view?,
    };
    match sight(&view, awaited.run) {
        Sight::Going(run) => {
            progress.show(run);
            told.last = Some(progress::message(run, screen::now()));
            told.news(&view, run).iter().for_each(|line| progress.say(line));
        }
        Sight::Ended(ending) => return Ok(Some(ending)),
        Sight::Gone => return ending_in_log(client, awaited).await.map(Some),
    }
    Ok(None)
}

/// What was told of the run last: each thing once, not with every look.
#[derive(Debug, Default)]
struct Told {
    /// How the run stood when it was looked at last.
    last: Option<String>,
    failure: Option<String>,
    held_up_by: Option<String>,
}

impl Told {
    /// What the run failed at and what it waits for, as far as that is another thing than before.
    fn news(&mut self, view: &ReplicationView, run: &RunView) -> Vec<String> {
        let failed = changed(&mut self.failure, run.failure.clone());
        let held_up = changed(&mut self.held_up_by, held_up_by(view));
        let failed = failed.map(|why| format!("it does not get on, and is tried again: {why}"));
        failed.into_iter().chain(held_up).collect()
    }
}

fn changed(known: &mut Option<String>, now: Option<String>) -> Option<String> {
    if *known == now {
        return None;
    }
    known.clone_from(&now);
    now
}

/// As `replication show` has it: what is waited for, or else what stops the run, and the command to type.
fn held_up_by(view: &ReplicationView) -> Option<String> {
    let stopped = || (view.health == Health::Stopped).then(|| view.summary.clone());
    let what = view.waits_for.as_ref().map(|what| format!("it waits for {what}")).or_else(stopped)?;
    let next = view.next.as_ref().filter(|next| !what.contains(next.as_str()));
    Some(next.map_or_else(|| what.clone(), |next| format!("{what}\n  next: {next}")))
}

fn sight(view: &ReplicationView, run: RunId) -> Sight<'_> {
    let found = [&view.run, &view.last_run].into_iter().flatten().find(|shown| shown.id == run);
    match found {
        None => Sight::Gone,
        Some(shown) => match shown.state {
            RunState::Published => Sight::Ended(Ending::Published),
            RunState::Abandoned => Sight::Ended(Ending::Abandoned { why: reason(shown) }),
            _ => Sight::Going(shown),
        },
    }
}

fn reason(run: &RunView) -> String {
    run.failure.clone().unwrap_or_else(|| "no reason is recorded".to_owned())
}

/// A transfer removes itself, and later runs push this one out of the view; the audit log keeps its end.
async fn ending_in_log(client: &Client, awaited: &Awaited) -> Result<Ending, Lost> {
    let query = EventQuery {
        after: Some(awaited.since),
        limit: EVENTS_OF_A_RUN,
        replication: Some(awaited.name.clone()),
        ..EventQuery::default()
    };
    ending_of(&client.events(&query).await?).ok_or(Lost::Run)
}

/// The first end after the run was asked for is its own: a replication has one run at a time.
fn ending_of(page: &EventPage) -> Option<Ending> {
    page.events.iter().find_map(|event| match event.code {
        EventCode::RunPublished | EventCode::VerificationPassed => Some(Ending::Published),
        EventCode::RunAbandoned | EventCode::RunAborted => Some(Ending::Abandoned { why: event.message.clone() }),
        _ => None,
    })
}

fn lost_run(awaited: &Awaited) -> Refusal {
    Refusal::new(RefusalCode::NotFound, format!("run {} of {} is not to be found any more", awaited.run, awaited.name))
        .hint(format!("`tanist events --replication {}` tells what became of it", awaited.name))
}

/// A time in which the server does not answer: told once, and once more when it is over.
#[derive(Debug, Default)]
pub struct Outage {
    told: bool,
}

impl Outage {
    /// Tells what is wrong if that is news, and waits a little.
    pub async fn pause(&mut self, error: &ClientError, say: impl FnOnce(&str)) {
        if !std::mem::replace(&mut self.told, true) {
            let cause = error.refusal().cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
            say(&format!("{error}{cause}; agents go on meanwhile; trying again until it does"));
        }
        tokio::time::sleep(TRY_AGAIN_EVERY).await;
    }

    /// Tells that it is over if it had been told at all.
    pub fn ended(&mut self, say: impl FnOnce(&str)) {
        if std::mem::take(&mut self.told) {
            say("the server answers again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn a_run_is_found_as_current_and_as_last() {
        let mut view = samples::replication();
        let run = view.run.clone().unwrap();
        assert_eq!(sight(&view, run.id), Sight::Going(&run));
        view.last_run = view.run.take().map(|run| RunView { state: RunState::Published, ..run });
        assert_eq!(sight(&view, run.id), Sight::Ended(Ending::Published));
        assert_eq!(sight(&view, RunId(77)), Sight::Gone);
    }

    #[test]
    fn what_holds_a_run_up_is_told_once_with_the_command_to_type() {
        let mut view = samples::replication();
        view.waits_for = None;
        view.health = Health::Degraded;
        let run = view.run.clone().unwrap();
        let mut told = Told::default();
        assert_eq!(told.news(&view, &run), Vec::<String>::new());

        view.waits_for = Some("agent h1 to answer".to_owned());
        view.next = Some("tanist replication why db".to_owned());
        let expected = "it waits for agent h1 to answer\n  next: tanist replication why db";
        assert_eq!(told.news(&view, &run), [expected]);
        assert_eq!(told.news(&view, &run), Vec::<String>::new());

        view.waits_for = None;
        view.health = Health::Stopped;
        view.summary = "no agent is eligible".to_owned();
        view.next = None;
        assert_eq!(told.news(&view, &run), ["no agent is eligible"]);
    }

    #[test]
    fn who_waited_long_enough_is_told_how_it_stands_and_how_to_look() {
        let view = samples::replication();
        let run = view.run.clone().unwrap();
        let awaited = Awaited { name: view.name.clone(), run: run.id, since: EventSeq(0), done: samples::done() };
        let told = Told { last: Some(progress::message(&run, samples::style().now)), ..Told::default() };
        let refusal = too_long(&awaited, WaitLimit(Duration::from_secs(300)), &told);
        assert!(refusal.error.ends_with("has not ended within 5 min; it goes on"), "{}", refusal.error);
        assert!(refusal.cause.is_some_and(|cause| cause.starts_with("copying on h2: 60 %")));
        assert!(refusal.hint.is_some_and(|hint| hint.starts_with("tanist replication show db; to wait on:")));
    }

    #[test]
    fn an_abandoned_run_says_why() {
        let mut view = samples::replication();
        let run = view.run.as_mut().unwrap();
        run.state = RunState::Abandoned;
        run.failure = Some("the source grew by 4 KiB".to_owned());
        let id = run.id;
        assert_eq!(sight(&view, id), Sight::Ended(Ending::Abandoned { why: "the source grew by 4 KiB".to_owned() }));
    }

    #[test]
    fn the_audit_log_keeps_the_end_of_a_transfer() {
        let mut page = samples::events();
        assert_eq!(ending_of(&page), None);
        let mut end = page.events[0].clone();
        end.code = EventCode::RunPublished;
        page.events.push(end);
        assert_eq!(ending_of(&page), Some(Ending::Published));
    }
}
