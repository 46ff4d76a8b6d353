//! The page of what was measured: `docs/performance/*.tsv` hold every run, and from nothing else come tables and charts; a test makes them again
//! and compares. What people say about a miss stands in `remarks.tsv`, and is shown beside it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::chart;
use crate::goals::{self, Goal, NOT_BUILT, ROWS, Row};
use crate::ratio::{Spread, paired, spread};
use crate::record::{Record, ThreadTime, parse_threads};

const FOLDER: &str = "docs/performance";
const RUNS: &str = "docs/performance/runs.tsv";
const THREADS: &str = "docs/performance/threads.tsv";
const REMARKS: &str = "docs/performance/remarks.tsv";
const PAGE: &str = "docs/performance.md";
/// Threads that take less of a GiB are not shown.
const SHOWN_CPU_S: f64 = 0.005;

/// Everything that the page is made of.
#[derive(Debug)]
struct Source {
    record: Record,
    threads: Vec<ThreadTime>,
    /// By row.
    remarks: BTreeMap<String, Vec<String>>,
}

/// Keeps what was measured below a checkout.
///
/// # Errors
/// If it cannot be written.
pub fn keep(root: &Path, record: &Record, threads: &[ThreadTime]) -> anyhow::Result<()> {
    std::fs::create_dir_all(root.join(FOLDER)).context("make the folder of what was measured")?;
    std::fs::write(root.join(RUNS), record.text()).context("write the runs")?;
    std::fs::write(root.join(THREADS), crate::record::threads_text(threads)).context("write the threads")
}

/// Writes the page and its charts.
///
/// # Errors
/// If what was measured cannot be read, or the page not written.
pub fn write(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let files = files(root)?;
    for (path, text) in &files {
        std::fs::write(root.join(path), text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

/// The page and its charts, by their paths.
///
/// # Errors
/// If what was measured cannot be read.
pub fn files(root: &Path) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| format!("read {path}"));
    let record = Record::parse(&read(RUNS)?).with_context(|| format!("understand {RUNS}"))?;
    let threads = parse_threads(&read(THREADS)?).with_context(|| format!("understand {THREADS}"))?;
    let source = Source { record, threads, remarks: remarks(&read(REMARKS).unwrap_or_default()) };
    let mut files = Vec::new();
    for row in measured_rows(&source.record) {
        files.push((format!("{FOLDER}/{}.svg", row.name).into(), chart::draw(&source.record, row)));
    }
    files.push((PAGE.into(), text(&source)));
    Ok(files)
}

/// `row<TAB>what is to be said`, one a line.
fn remarks(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut remarks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (row, remark) in text.lines().filter_map(|line| line.split_once('\t')) {
        remarks.entry(row.to_owned()).or_default().push(remark.to_owned());
    }
    remarks
}

fn measured_rows(record: &Record) -> Vec<&'static Row> {
    let has_runs = |row: &&Row| record.samples.iter().any(|sample| sample.row == row.name);
    ROWS.iter().filter(has_runs).collect()
}

fn text(source: &Source) -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str(&circumstances(&source.record));
    text.push_str(&goals_table(&source.record));
    for row in measured_rows(&source.record) {
        text.push_str(&section(source, row));
    }
    text.push_str(END);
    text
}

fn circumstances(record: &Record) -> String {
    let about = |what: &str| record.about(what).unwrap_or("unknown");
    let tools: Vec<String> = record.notes("tool ").map(|(name, version)| format!("{name} {version}")).collect();
    let beside = record.about("beside").map(|beside| format!("; beside it, {beside}")).unwrap_or_default();
    format!(
        "\n`{}`, {}, {} CPUs, Linux {}{beside}. Volumes of {} MiB, {} rounds, a {} build. CPU by {}; bytes {}. {}.\n",
        about("command"),
        about("date"),
        about("cpus"),
        about("kernel"),
        about("size_mib"),
        about("rounds"),
        about("build"),
        about("cpu by"),
        about("bytes"),
        tools.join(", ")
    )
}

fn goals_table(record: &Record) -> String {
    let mut text = String::from(
        "\n## The goals\n\nA goal for all of 4 GiB is told for each GiB here.\n\n| work | case | goal | measured: median (least-most) | |\n|---|---|---|---|---|\n",
    );
    for goal in goals::all() {
        let title = ROWS.iter().find(|row| row.name == goal.row).map_or("", |row| row.title);
        let (measured, verdict) = verdict(&goal, record);
        let _ = writeln!(text, "| {title} | {} | {} | {measured} | {verdict} |", goal.case, goal.in_words());
    }
    for (what, why) in NOT_BUILT {
        let _ = writeln!(text, "| {what} | | | | {why} |");
    }
    text
}

fn verdict(goal: &Goal, record: &Record) -> (String, &'static str) {
    match goal.result(record) {
        None => ("-".to_owned(), "not measured"),
        Some(result) if goal.is_kept(&result) => (result.in_words(), "kept"),
        Some(result) => (result.in_words(), "**missed**"),
    }
}

fn section(source: &Source, row: &Row) -> String {
    let mut text = format!(
        "\n## {}\n\n![{}: {} of {}](performance/{}.svg)\n\n\
         | case | wall s | of {} | CPU s | of {} | CPU s a GiB | memory MiB | sent MiB |\n|---|---|---|---|---|---|---|---|\n",
        row.title,
        row.title,
        chart::measure_name(row),
        row.beside,
        row.name,
        row.beside,
        row.beside
    );
    for case in cases(&source.record, row) {
        text.push_str(&line(&source.record, row, case));
    }
    for (case, why) in
        source.record.notes("missing ").filter_map(|(name, why)| Some((name.strip_prefix(row.name)?, why)))
    {
        let _ = writeln!(text, "| {} | {why} | | | | | | |", case.trim_start_matches('/'));
    }
    text.push_str(&where_the_cpu_goes(source, row));
    for remark in source.remarks.get(row.name).into_iter().flatten() {
        let _ = write!(text, "\n{remark}\n");
    }
    text
}

/// The fastest first.
pub(crate) fn cases<'a>(record: &'a Record, row: &Row) -> Vec<&'a str> {
    let mut names: Vec<&str> =
        record.samples.iter().filter(|sample| sample.row == row.name).map(|sample| sample.case.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let wall = |case: &str| spread(record, row.name, case, |sample| Some(sample.wall_s)).map_or(0.0, |w| w.median());
    names.sort_by(|a, b| wall(a).total_cmp(&wall(b)));
    names
}

fn line(record: &Record, row: &Row, case: &str) -> String {
    let gib = gib(record);
    let words = |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| spread.in_words());
    let middle =
        |spread: Option<Spread>| spread.map_or_else(|| "-".to_owned(), |spread| format!("{:.2}", spread.median()));
    let pair = [case, row.beside];
    format!(
        "| {case} | {} | {} | {} | {} | {} | {} | {} |\n",
        words(spread(record, row.name, case, |sample| Some(sample.wall_s))),
        words(paired(record, row.name, pair, |ours, other| Some(ours.wall_s / other.wall_s))),
        words(spread(record, row.name, case, |sample| Some(sample.cpu_s))),
        middle(paired(record, row.name, pair, |ours, other| Some(ours.cpu_s / other.cpu_s))),
        middle(spread(record, row.name, case, |sample| (row.name != "memory").then_some(sample.cpu_s / gib))),
        middle(spread(record, row.name, case, |sample| Some(sample.peak_mib))),
        middle(spread(record, row.name, case, |sample| sample.wire_mib)),
    )
}

fn gib(record: &Record) -> f64 {
    record.about("size_mib").and_then(|size| size.parse::<f64>().ok()).unwrap_or(1024.0) / 1024.0
}

/// Of our own processes: CPU seconds of the threads of one name, in the middle of all rounds, for each GiB.
fn where_the_cpu_goes(source: &Source, row: &Row) -> String {
    // The volumes of this row have other sizes, and it is not about time.
    if row.name == "memory" {
        return String::new();
    }
    let gib = gib(&source.record);
    let mut text = String::new();
    for case in cases(&source.record, row) {
        let shares = shares(&source.threads, row.name, case, gib);
        if !shares.is_empty() {
            let _ = write!(text, "\nCPU s a GiB by process and thread, {case}: {}.\n", shares.join(", "));
        }
    }
    text
}

fn shares(threads: &[ThreadTime], row: &str, case: &str, gib: f64) -> Vec<String> {
    let mut times: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for time in threads.iter().filter(|time| time.row == row && time.case == case) {
        times.entry((&time.process, &time.thread)).or_default().push(time.cpu_s / gib);
    }
    let middle = |(name, times): (_, Vec<f64>)| Some((name, Spread::of(times)?.median()));
    let mut shares: Vec<((&str, &str), f64)> = times.into_iter().filter_map(middle).collect();
    shares.retain(|(_, cpu)| *cpu >= SHOWN_CPU_S);
    shares.sort_by(|a, b| b.1.total_cmp(&a.1));
    shares.into_iter().map(|((process, thread), cpu)| format!("{process} `{thread}` {cpu:.3}")).collect()
}

const INTRODUCTION: &str = "# What moving data costs

The program beside other tools, on the same volumes, in turns: a third of a volume is noise, a third text, a third zeros of which half are holes. Every
ratio is of two runs of one round; of several rounds the median counts, and the least and the most stand beside it. After every run the target was compared
with the source, byte for byte. Every run stands in [runs.tsv](performance/runs.tsv); this page is made of it by `tanist-bench page`, and a test makes it
again and compares. `make bench` measures anew.
";

const END: &str = "
## How to read it

- *tanist* reads nothing back and remembers no digests (`--verify off --stored-digests=no`), as the tools beside it do; in the rows about changes it reads
  and compares both sides. *tanist, defaults* is what nobody changed.
- A run of ours counts from the moment the server was asked until it had published, by the server's own clock: snapshot, checkpoints and commits are in
  it, the start of the command is not. A tool counts from the start of its process to its end, with its target flushed.
- CPU is that of both ends and their servers; of ours the agents and the server. What the kernel does later for whoever wrote into the page cache
  is nobody's. Memory is the sum of the largest residence of each process; of ours that of the agents which were at work.
- Before a full copy the target holds other bytes and no holes, and nothing of the source is in the cache.
- *Killed*: SIGKILL when half is durable; wall time from there to the publication. *Passed again* is the word of the agents; what was sent is the kernel's.
- Of the 200 GiB the first 64 MiB are compared, which is all the data there is; of the holes, that the target stores no more than the source.
- The probe reads both volumes on two threads, hashes 64 KiB with xxh3 and compares; it sends and writes nothing. It is a bound and no tool.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_page_says_what_was_measured() {
        for (path, text) in files(&root()).expect("what was measured") {
            let there = std::fs::read_to_string(root().join(&path)).unwrap_or_default();
            assert!(there == text, "{} is not what was measured: cargo run -p tanist-bench -- page", path.display());
        }
    }

    #[test]
    fn a_miss_is_shown_as_one() {
        let mut record = Record::default();
        record.note("size_mib", "1024");
        for (case, wall_s) in [("dd", 1.0), ("tanist", 2.0)] {
            let text = format!("local\t{case}\t1\t{wall_s}\t1.0\t1.0\t-\t-");
            record.samples.extend(Record::parse(&format!("{}{text}\n", Record::default().text())).unwrap().samples);
        }
        let table = goals_table(&record);
        assert!(table.contains("wall time at most 1 of dd | 2.00 (2.00-2.00) | **missed** |"), "{table}");
        assert!(table.contains("CPU at most 1.5 of dd | 1.00 (1.00-1.00) | kept |"), "{table}");
    }
}
