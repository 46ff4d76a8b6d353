//! `tanist bench data` and its other end, `tanist bench sink`.

use std::process::ExitCode;

use tanist_agent::{BenchError, BenchLink, BenchOrder, InUse};
use tanist_model::api::{Refusal, RefusalCode, ReplicationView};
use tanist_model::id::VolumeAddress;

use super::super::{Outcome, ask};
use super::Session;
use crate::cli::bench::{BenchDataArgs, BenchSinkArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::bench::render;

pub(super) fn run(args: &BenchDataArgs, session: &Session<'_>) -> Outcome {
    let order = BenchOrder {
        volume: args.volume.clone(),
        scratch: args.write_scratch.clone(),
        in_use: in_use(args, session)?,
        link: args
            .to
            .as_ref()
            .map_or(BenchLink::Loopback, |to| BenchLink::To { agent: to.agent.clone(), address: to.address.clone() }),
        streams: args.streams,
        time: args.time(),
        bytes: args.bytes,
    };
    let folder = args.place.folder()?;
    let tell = |stage| session.screen.note(&format!("measuring: {stage}"));
    let report = tanist_agent::bench(&folder, &order, tell).map_err(|error| refusal(&error))?;
    session.screen.answer(&report, render)?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn sink(args: &BenchSinkArgs, session: &Session<'_>) -> Outcome {
    let folder = args.place.folder()?;
    let ended = tanist_agent::sink(&folder, args.listen, |text| session.screen.note(&text));
    ended.map_err(|error| refusal(&error))?;
    Ok(ExitCode::SUCCESS)
}

/// What must not be overwritten. Without a scratch volume nobody is asked.
fn in_use(args: &BenchDataArgs, session: &Session<'_>) -> Result<Vec<InUse>, Failure> {
    let Some(scratch) = &args.write_scratch else { return Ok(Vec::new()) };
    if args.destroy.as_ref() != Some(scratch) {
        let error = format!("{scratch} is not overwritten");
        let hint = format!("what it holds is lost; if that is meant: --write-scratch {scratch} --destroy {scratch}");
        let cause = "--destroy names another volume";
        return Err(Refusal::new(RefusalCode::Invalid, error).cause(cause).hint(hint).into());
    }
    ask(volumes_of_replications(&session.client()?))
}

/// Both sides of every replication, with what an agent says of them.
async fn volumes_of_replications(client: &Client) -> Result<Vec<InUse>, Failure> {
    let (replications, volumes) = (client.replications().await?, client.volumes().await?);
    let report =
        |of: &VolumeAddress| volumes.iter().find(|view| view.report.address == *of).map(|view| view.report.clone());
    let of_one = |view: ReplicationView| {
        let name = view.name;
        view.sides.into_iter().map(move |side| (name.clone(), side))
    };
    let sides = replications.into_iter().flat_map(of_one);
    let used = sides.map(|(replication, side)| InUse {
        report: report(&side.volume),
        volume: side.volume,
        replication,
        side: side.side,
    });
    Ok(used.collect())
}

fn refusal(error: &BenchError) -> Refusal {
    let (code, hint) = match error {
        BenchError::Config(cause) => {
            (RefusalCode::Invalid, format!("run it on the host of an agent; {}", cause.hint()))
        }
        BenchError::Identity(cause) => {
            (RefusalCode::Invalid, format!("run it as the user of the agent; {}", cause.hint()))
        }
        BenchError::NoAgent | BenchError::Tls(_) => {
            (RefusalCode::Invalid, "join this host: tanist agent join".to_owned())
        }
        BenchError::NotHere(_) => {
            (RefusalCode::NotFound, "tanist volume list shows which agent reaches what".to_owned())
        }
        BenchError::Storage(_) | BenchError::Device { .. } => {
            (RefusalCode::Unavailable, "run it as the user of the agent, who may open the volume".to_owned())
        }
        BenchError::NoScratch { .. } => {
            (RefusalCode::Conflict, "name a volume that nothing uses, or leave --write-scratch out".to_owned())
        }
        BenchError::Socket { .. } => (RefusalCode::Unavailable, "is the address free? --listen ADDR:PORT".to_owned()),
        BenchError::Wire(_) | BenchError::Link(_) => {
            (RefusalCode::Unavailable, "does `tanist bench sink` run there, as the agent that --to names?".to_owned())
        }
    };
    Refusal::new(code, "it was not measured").cause(error.to_string()).hint(hint)
}
