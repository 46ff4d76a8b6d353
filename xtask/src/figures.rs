//! The page of what takeovers cost, written from what was measured: `docs/figures/*.tsv` hold every single takeover, and from nothing else
//! come the tables and the charts. A test writes them again and compares, so that no figure is edited by hand.

mod chart;
mod measured;

use anyhow::Context as _;

use crate::workspace::Workspace;
use measured::{Measured, Row};

/// What is simulated and what is real, never in one table.
const SETS: [(&str, &str); 2] = [("simulated", "Simulated"), ("real", "Real processes")];

/// What a fault is called, what it is, and its goal: the 99th percentile of the time to the first durable write, in milliseconds.
const FAULTS: [(&str, &str, f64); 6] = [
    ("crash", "the process is killed", 500.0),
    ("stop", "the process is stopped, and its host is not", 2500.0),
    ("host-death", "the host is gone", 2500.0),
    ("partition", "silent, from everybody", 2500.0),
    ("path-lost", "the way to the storage, reported", 1500.0),
    ("handover", "planned", 1000.0),
];

/// A file of the page: its path in the checkout, and what it holds.
pub type Page = (String, String);

/// Writes the page and its charts.
pub fn write(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let pages = pages(workspace)?;
    for (path, text) in &pages {
        std::fs::write(workspace.directory(path), text).with_context(|| format!("write {path}"))?;
    }
    Ok(pages.into_iter().map(|(path, _)| path).collect())
}

/// The page and its charts, from the measured takeovers.
pub fn pages(workspace: &Workspace) -> anyhow::Result<Vec<Page>> {
    let mut page = INTRODUCTION.to_owned();
    let mut charts = Vec::new();
    for (name, title) in SETS {
        let path = format!("docs/figures/{name}.tsv");
        let text = std::fs::read_to_string(workspace.directory(&path)).with_context(|| format!("read {path}"))?;
        let measured = Measured::parse(&text).with_context(|| format!("understand {path}"))?;
        page.push_str(&section(name, title, &measured));
        charts.push((format!("docs/figures/{name}.svg"), chart::draw(title, &rows(&measured))));
    }
    page.push_str(END);
    charts.push(("docs/figures.md".to_owned(), page));
    Ok(charts)
}

fn rows(measured: &Measured) -> Vec<(Row, f64)> {
    let row = |(name, _, goal): (&str, &str, f64)| Some((measured.row(name)?, goal));
    FAULTS.into_iter().filter_map(row).collect()
}

fn section(name: &str, title: &str, measured: &Measured) -> String {
    let about = |what: &str| measured.about(what).unwrap_or("unknown");
    let mut text = format!(
        "\n## {title}\n\n![{title}: from the fault to the first durable write](figures/{name}.svg)\n\n\
         `{}`, {}, {} CPUs, {}{}. Milliseconds since the fault, median / 99th percentile.\n\n\
         | fault | takeovers | detected | fenced | first durable write | most | goal | copied again, most |\n\
         |---|---|---|---|---|---|---|---|\n",
        about("command"),
        about("date"),
        about("cpus"),
        about("kernel"),
        measured.about("beside").map(|beside| format!("; beside it, {beside}")).unwrap_or_default(),
    );
    for (row, goal) in rows(measured) {
        text.push_str(&line(&row, goal));
    }
    if let (Some(count), Some(seconds)) = (measured.about("false takeovers"), measured.about("rough seconds")) {
        let hours = seconds.parse::<f64>().unwrap_or_default() / 3600.0;
        text.push_str(&format!(
            "\nIn {hours:.0} simulated hours in which nothing failed, every message took up to 200 ms and one packet of a hundred was lost, the acting \
             agent was replaced **{count}** times. The goal is none.\n"
        ));
    }
    text
}

fn line(row: &Row, goal: f64) -> String {
    let what = FAULTS.iter().find(|(name, ..)| *name == row.fault).map_or("", |(_, what, _)| what);
    let kept = if row.wrote.percentile(99) <= goal { "kept" } else { "**missed**" };
    let detected = if row.detected.most() > 0.0 { row.detected.in_words() } else { "-".to_owned() };
    let (fenced, wrote, most) = (row.fenced.in_words(), row.wrote.in_words(), row.wrote.most());
    let again = row.most_again_bytes as f64 / f64::from(1 << 20);
    format!(
        "| {}: {what} | {} | {detected} | {fenced} | {wrote} | {most:.0} | {goal:.0}, {kept} | {again:.0} MiB |\n",
        row.fault, row.takeovers
    )
}

const INTRODUCTION: &str = "# What a takeover costs

One fault in the middle of a run, and the time from it until the server has reason to suspect (*detected*), until the successor's fence stands and it
acts (*fenced*), and until its first durable write. The goals are of the 99th percentile of the last. Every takeover that was measured stands in
[simulated.tsv](figures/simulated.tsv) or [real.tsv](figures/real.tsv); this page is made of them by `cargo run -p xtask -- figures`, and a test
makes it again and compares. `make figures` measures anew.
";

const END: &str = "
## How to read them

- *Simulated* is the protocol with its timers, in virtual time, over a network and disks that are made up: 0.1 to 2 ms a message, 3 % of them up to
  200 ms. It tells what the protocol costs, and what happens in a thousand different moments; it does not tell how fast a host is. What it copied again
  is an upper bound in blocks of 64 MiB.
- *Real processes* are the programs of a test build on one machine, over image files, with real signals; hosts that are cut off are network
  namespaces. *Copied again* is what the run passed more than once. A first durable write is a checkpoint: written, flushed, read back, committed.
- A lost path fails the run at once, and the run is tried again from its checkpoint: one error of a disk is no lost path. That it is one, the acting
  agent says when a reading of the volume fails, and again half a second later. It reads when a run fails, and once a second.
- A planned handover is not detected. It is drained to its last byte before the next epoch, so that nothing is copied again.
- Of fewer than 100 takeovers the slowest is the 99th percentile.
- Where the storage itself copies on an agent's order and goes on after that agent, the first write waits until it says that it is over: not in these
  worlds.
- Not measured here: the loss of a path and the death of a host with real processes; the loss of the control server, of which there is only one
  (agents go on without it); an agent that is far too slow ([README](../README.md#what-was-measured)).
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_what_was_measured() {
        let workspace = Workspace::of_this_checkout();
        for (path, text) in pages(&workspace).expect("the measured takeovers") {
            let there = std::fs::read_to_string(workspace.directory(&path)).unwrap_or_default();
            assert!(there == text, "{path} is not what was measured: cargo run -p xtask -- figures");
        }
    }

    #[test]
    fn a_goal_that_was_missed_is_told() {
        let text = "fault\tdetected_ms\tfenced_ms\twrote_ms\tagain_bytes\ncrash\t1.0\t30.0\t501.0\t1048576\n";
        let measured = Measured::parse(text).unwrap();
        let section = section("real", "Real", &measured);
        assert!(section.contains("| 1.0 / 1.0 | 30 / 30 | 501 / 501 | 501 | 500, **missed** | 1 MiB |"), "{section}");
    }
}
