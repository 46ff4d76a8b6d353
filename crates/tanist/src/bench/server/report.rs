//! What was measured, as a table with a column for each number of agents, beside the goals.

use serde::Serialize;

use super::percentiles::Percentiles;
use crate::output::table::Rows;
use crate::output::{Style, units};

/// The goals, for 10,000 idle agents and for 1,000 takeovers at once.
const IDLE_CPU_PERCENT: f64 = 5.0;
const CONNECTION_BYTES: u64 = 20 << 10;
const CRASH_MS: f64 = 500.0;
const SILENCE_MS: f64 = 2500.0;

/// The answer of `tanist bench server`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    version: &'static str,
    /// Not so of a build for development, whose figures are no figures of the product.
    optimised: bool,
    cores: usize,
    sizes: Vec<Size>,
}

/// A server with one number of agents.
#[derive(Debug, Serialize)]
pub(super) struct Size {
    pub(super) agents: usize,
    pub(super) replications: usize,
    /// Each with a token, a key and a certificate.
    pub(super) joins_per_second: f64,
    /// From the start of an agent to the server's welcome.
    pub(super) connect: Option<Percentiles>,
    /// Resident memory of the server with all agents connected and idle.
    pub(super) memory_bytes: u64,
    /// What it is more than before they connected, for each of them.
    pub(super) memory_bytes_per_connection: u64,
    /// The most it ever was, takeovers included.
    pub(super) peak_memory_bytes: u64,
    /// Of one core, with all agents connected and idle; then with an agent acting for each replication.
    pub(super) idle_cpu_percent: f64,
    pub(super) acting_cpu_percent: f64,
    pub(super) crash: Takeovers,
    pub(super) silence: Takeovers,
    pub(super) restart: Restart,
}

/// All who act were lost in one moment: from there to the grant of the successor, and to its activation.
#[derive(Debug, Serialize)]
pub(super) struct Takeovers {
    pub(super) granted: Option<Percentiles>,
    pub(super) activated: Option<Percentiles>,
    /// Grants beyond the first one of each replication: successors that were given up too early.
    pub(super) repeated: usize,
}

/// The server was killed and started anew.
#[derive(Debug, Serialize)]
pub(super) struct Restart {
    /// From its death to its first answer.
    pub(super) answered_ms: u64,
    /// From its death to its welcome of each agent.
    pub(super) back: Option<Percentiles>,
    /// Agents that were not back two minutes after.
    pub(super) missing: usize,
    /// Of agents that came too late to be taken for alive, by the time that the last one was back.
    pub(super) takeovers: usize,
}

impl Report {
    pub(super) fn new(sizes: Vec<Size>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { version: env!("CARGO_PKG_VERSION"), optimised: !cfg!(debug_assertions), cores, sizes }
    }
}

pub(super) fn render(report: &Report, style: Style) -> String {
    let sizes: Vec<String> = report.sizes.iter().map(|size| format!("{} agents", size.agents)).collect();
    let heading = ["", "goal"].into_iter().chain(sizes.iter().map(String::as_str));
    let mut rows = Rows::with_heading(&heading.collect::<Vec<_>>(), style);
    let mut line = |what: &str, goal: String, cell: &dyn Fn(&Size) -> String| {
        rows.push([what.to_owned(), goal].into_iter().chain(report.sizes.iter().map(cell)));
    };
    let none = String::new;
    line("replications", none(), &|s| s.replications.to_string());
    line("joined a second", none(), &|s| s.joins_per_second.to_string());
    line("connected, median, p99", none(), &|s| pair(s.connect));
    line("memory of the server", none(), &|s| units::bytes(s.memory_bytes));
    line("  each connection", units::bytes(CONNECTION_BYTES), &|s| units::bytes(s.memory_bytes_per_connection));
    line("  at most", none(), &|s| units::bytes(s.peak_memory_bytes));
    line("CPU, all idle", format!("{IDLE_CPU_PERCENT} %"), &|s| format!("{} %", s.idle_cpu_percent));
    line("CPU, one acts for each replication", none(), &|s| format!("{} %", s.acting_cpu_percent));
    line("processes lost: granted, median, p99", none(), &|s| pair(s.crash.granted));
    line("  activated", format!("p99 {CRASH_MS} ms"), &|s| pair(s.crash.activated));
    line("hosts lost: granted, median, p99", none(), &|s| pair(s.silence.granted));
    line("  activated", format!("p99 {SILENCE_MS} ms"), &|s| pair(s.silence.activated));
    line("granted more than once", "0".to_owned(), &|s| (s.crash.repeated + s.silence.repeated).to_string());
    line("server killed: it answers after", none(), &|s| format!("{} ms", s.restart.answered_ms));
    line("  agents back, median, p99", none(), &|s| pair(s.restart.back));
    line("  the last one", none(), &|s| s.restart.back.map_or_else(none, |p| format!("{:.0} ms", p.most_ms)));
    line("  not back after two minutes", "0".to_owned(), &|s| s.restart.missing.to_string());
    line("  takeovers by it", "0".to_owned(), &|s| s.restart.takeovers.to_string());
    format!("{}\n{}", rows.render(0), footing(report))
}

fn pair(times: Option<Percentiles>) -> String {
    times.map_or_else(String::new, |p| format!("{:.0}, {:.0} ms", p.median_ms, p.p99_ms))
}

fn footing(report: &Report) -> String {
    let build = if report.optimised { "" } else { ", a build for development: no figures of the product" };
    format!(
        "tanist {}, {} cores for the server and all agents together{build}. The goals are for 10000 agents and 1000 replications; CPU is of one \
         core.\n",
        report.version, report.cores
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tanist_model::time::Timestamp;

    use super::*;

    fn size() -> Size {
        let times = || Percentiles::of(vec![Duration::from_millis(7), Duration::from_millis(90)]);
        let takeovers = || Takeovers { granted: times(), activated: times(), repeated: 1 };
        Size {
            agents: 200,
            replications: 20,
            joins_per_second: 500.0,
            connect: times(),
            memory_bytes: 30 << 20,
            memory_bytes_per_connection: 15 << 10,
            peak_memory_bytes: 40 << 20,
            idle_cpu_percent: 0.25,
            acting_cpu_percent: 4.0,
            crash: takeovers(),
            silence: takeovers(),
            restart: Restart { answered_ms: 120, back: times(), missing: 0, takeovers: 0 },
        }
    }

    #[test]
    fn every_figure_is_in_the_table_with_its_goal() {
        let report = Report { version: "0.1.0", optimised: false, cores: 2, sizes: vec![size(), size()] };
        let text = render(&report, Style { colour: false, now: Timestamp(0) });
        insta::assert_snapshot!("report", text);
    }
}
