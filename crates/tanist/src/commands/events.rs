//! `tanist events`.

use std::process::ExitCode;
use std::time::Duration;

use tanist_model::api::{Refusal, RefusalCode};
use tanist_model::id::EventSeq;

use super::Outcome;
use super::session::Session;
use super::wait::Outage;
use crate::cli::EventsArgs;
use crate::client::{Client, ClientError, EventQuery};
use crate::failure::Failure;
use crate::output::events::{render_event, render_events};

/// How long the server may keep a question for new events.
const LONG_POLL: Duration = Duration::from_secs(25);

pub async fn run(args: EventsArgs, session: &Session<'_>) -> Outcome {
    let client = session.client()?;
    let query = EventQuery {
        after: args.since_seq.map(EventSeq),
        limit: args.limit,
        replication: args.replication,
        wait: Duration::ZERO,
    };
    if args.follow {
        if let Some(unknown) = unknown_replication(&client, &query).await? {
            session.screen.note(&format!("{unknown}; waiting for events"));
        }
        return follow(&client, query, session).await;
    }
    let page = client.events(&query).await?;
    if page.events.is_empty()
        && let Some(unknown) = unknown_replication(&client, &query).await?
    {
        return Err(unknown.hint("tanist replication list shows the replications").into());
    }
    session.screen.answer(&page, render_events)?;
    Ok(ExitCode::SUCCESS)
}

/// Goes on until it is interrupted; a server that restarts is waited for, and no event is missed or shown twice.
async fn follow(client: &Client, mut query: EventQuery, session: &Session<'_>) -> Outcome {
    let mut outage = Outage::default();
    loop {
        match client.events(&query).await {
            Ok(page) => {
                outage.ended(|text| session.screen.note(text));
                for event in &page.events {
                    session.screen.item(event, render_event)?;
                }
                query.after = Some(page.last);
                query.wait = LONG_POLL;
            }
            Err(error) if error.is_passing() => outage.pause(&error, |text| session.screen.note(text)).await,
            Err(error) => return Err(Failure::from(error)),
        }
    }
}

/// A refusal if the replication asked for is not there and has left no events: a name mistyped. One that was deleted has left
/// some.
async fn unknown_replication(client: &Client, query: &EventQuery) -> Result<Option<Refusal>, ClientError> {
    let Some(name) = &query.replication else { return Ok(None) };
    match client.replication(name).await {
        Err(error) if error.is_not_found() => {}
        other => return other.map(|_| None),
    }
    let any = EventQuery { limit: 1, replication: Some(name.clone()), ..EventQuery::default() };
    let left = !client.events(&any).await?.events.is_empty();
    let error = format!("there are no events of a replication {name}, and none of that name exists");
    Ok((!left).then(|| Refusal::new(RefusalCode::NotFound, error)))
}
