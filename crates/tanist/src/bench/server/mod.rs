//! `tanist bench server`: what thousands of agents cost a server, and how it does when many of them are lost at once.
//!
//! The server is this program as a process of its own, with its real store. The agents are a [`Crowd`](tanist_crowd::Crowd) in this
//! process. What is measured of the server is what the kernel says of its process; what is measured of takeovers is what the server has on
//! record of them, against the moment of the loss.

mod act;
mod enrol;
mod kernel;
mod percentiles;
mod report;
mod room;
mod stage;

use std::process::ExitCode;

use crate::cli::bench::BenchServerArgs;
use crate::commands::Outcome;
use crate::failure::Failure;
use crate::output::Screen;

use report::Report;

pub(crate) fn run(args: &BenchServerArgs, screen: &Screen) -> Outcome {
    let most = args.agents.iter().copied().max().unwrap_or(0);
    room::check(args)?;
    room::raise_open_files(most)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|source| Failure::io("start the runtime", source))?;
    let report = runtime.block_on(async {
        tokio::select! {
            report = measure(args, screen) => report,
            () = interrupted() => Err(Failure::io("measure a server", std::io::ErrorKind::Interrupted.into())),
        }
    })?;
    screen.answer(&report, report::render)?;
    Ok(ExitCode::SUCCESS)
}

async fn measure(args: &BenchServerArgs, screen: &Screen) -> Result<Report, Failure> {
    let mut sizes = Vec::with_capacity(args.agents.len());
    for agents in &args.agents {
        let agents = usize::try_from(*agents).unwrap_or(usize::MAX);
        let replications = args.replications.map_or(agents / 10, |n| usize::try_from(n).unwrap_or(usize::MAX)).max(1);
        sizes.push(act::play(agents, replications, args, screen).await?);
    }
    Ok(Report::new(sizes))
}

/// Ctrl-C, or the service manager's word.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without a handler the measurement is simply not interruptible.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
