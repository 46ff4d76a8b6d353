//! `tanist transfer`: one run of the same protocol, by a replication that removes itself afterwards.

use tanist_model::api::{CreateReplication, Refusal, RefusalCode};
use tanist_model::id::ReplicationName;

use super::Outcome;
use super::replication::{Consent, abandoned, agree, published, start};
use super::session::Session;
use super::wait::{Awaited, Ending, until_removed, wait};
use crate::cli::replication::TransferArgs;
use crate::client::{Client, ClientError};
use crate::failure::Failure;

pub async fn run(args: TransferArgs, session: &Session<'_>) -> Outcome {
    let client = session.client()?;
    let name = args.name.map_or_else(|| made_name("transfer"), Ok)?;
    let request = args.what.request(name.clone(), true);
    let consent = Consent { overwrite: args.what.overwrite_target, yes: args.what.yes };
    agree(&client.plan_replication(&request).await?, consent, session)?;
    carry_out(&client, &request, session).await
}

/// Creates a replication for one run, and waits for its end and its removal.
pub async fn carry_out(client: &Client, request: &CreateReplication, session: &Session<'_>) -> Outcome {
    let name = &request.name;
    client.create_replication(request).await?;
    session.screen.note(&format!("{name}; if this is interrupted, it goes on: tanist replication show {name}"));
    let awaited = start_or_remove(client, name).await?;
    let ending = wait(client, &awaited, None, session.screen).await?;
    // Only then the target is free for the next one.
    until_removed(client, name, session.screen).await?;
    match ending {
        Ending::Published => session.done(&published(&awaited)),
        Ending::Abandoned { why } => {
            Err(abandoned(&awaited, why).hint(format!("`tanist events --replication {name}`")).into())
        }
    }
}

/// A transfer whose run is refused must not stay behind as a replication.
async fn start_or_remove(client: &Client, name: &ReplicationName) -> Result<Awaited, Failure> {
    let started = start(client, name, false).await;
    if matches!(&started, Err(Failure::Client(ClientError::Refused(_)))) {
        let _ = client.delete_replication(name, false).await;
    }
    started
}

/// What it is for, and eight random digits.
pub fn made_name(what: &str) -> Result<ReplicationName, Failure> {
    let number = getrandom::u32().map_err(|source| ClientError::Random { source })?;
    let name = ReplicationName::new(format!("{what}-{number:08x}"));
    name.map_err(|e| Refusal::new(RefusalCode::Internal, e.to_string()).into())
}
