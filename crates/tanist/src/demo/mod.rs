//! `tanist demo`: the whole product on one machine, in a minute, without root.
//!
//! Nothing is staged: a server and three agents run as separate processes, and the signals are real. The act is told as it
//! happens from the server's own audit log; at the end the two volumes are compared byte for byte.

mod act;
mod stage;
mod volumes;

use std::process::ExitCode;

use serde::Serialize;
use tanist_model::quantity::count;
use tanist_model::takeover::TakeoverRecord;

use crate::cli::server::DemoArgs;
use crate::commands::Outcome;
use crate::failure::Failure;
use crate::output::{Screen, Style, Tone};

/// What the demonstration showed.
#[derive(Debug, Serialize)]
struct Report {
    equal: bool,
    size_bytes: u64,
    runs_published: u32,
    takeovers: Vec<TakeoverRecord>,
    /// From the injected SIGKILL to the successor's first durable write, by this machine's clock.
    crash_to_first_durable_write_ms: Option<u64>,
    seconds: f64,
    directory: String,
    kept: bool,
}

/// Plays the demonstration.
///
/// # Errors
/// [`Failure`] if something did not go as promised; what ran is then stopped.
pub async fn run(args: &DemoArgs, screen: &Screen) -> Outcome {
    let interrupted = async {
        // Without a handler for the signal the demonstration is simply not interruptible.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let report = tokio::select! {
        report = act::play(args, screen) => report?,
        () = interrupted => return Err(Failure::io("play the demonstration", std::io::ErrorKind::Interrupted.into())),
    };
    let equal = report.equal;
    screen.item(&report, render)?;
    Ok(if equal { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn render(report: &Report, style: Style) -> String {
    let verdict = if report.equal {
        style.paint(Tone::Good, "equal: source and target are the same, byte for byte")
    } else {
        style.paint(Tone::Bad, "DIFFERENT: the target is not what the source is")
    };
    let crash = report
        .crash_to_first_durable_write_ms
        .map_or(String::new(), |ms| format!("process killed to the successor's first durable write: {ms} ms\n"));
    format!(
        "\n{verdict}\n{} published, {} of the acting agent, {:.1} s\n{crash}",
        count(report.runs_published.into(), "run"),
        count(report.takeovers.len() as u64, "change"),
        report.seconds
    )
}
