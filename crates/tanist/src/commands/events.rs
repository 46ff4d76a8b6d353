//! `tanist events`.

use std::process::ExitCode;
use std::time::Duration;

use tanist_model::id::EventSeq;

use super::Outcome;
use super::session::Session;
use super::wait::Outage;
use crate::cli::EventsArgs;
use crate::client::{Client, EventQuery};
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
        return follow(&client, query, session).await;
    }
    let page = client.events(&query).await?;
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
