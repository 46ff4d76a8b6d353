//! `tanist-sim`: simulates seeds, replays one of them with a readable log, and shortens what violates a property.

#![forbid(unsafe_code)]

mod replay;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tanist_protocol::mutation::Mutation;
use tanist_sim::coverage::Coverage;
use tanist_sim::figures::{self, Kind, Outcome};
use tanist_sim::injection::Injection;
use tanist_sim::{Run, Weather};

/// Failing seeds that are shortened at once; of more, the first ones tell enough.
const SHORTENED: usize = 3;

/// Simulates a cluster in which everything fails, in virtual time: the machines of the product, and a seed for everything else.
#[derive(Debug, Parser)]
#[command(name = "tanist-sim")]
struct Arguments {
    /// Simulate these seeds, and say which of them violate a property.
    #[arg(long, value_name = "A..B", value_parser = seeds, default_value = "0..1000")]
    seeds: Range<u64>,
    /// Simulate one seed, and print what happens in it.
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    verbose: Option<u64>,
    /// Find out which faults and commands the violation of one seed needs.
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "verbose"])]
    shrink: Option<u64>,
    /// Make only these faults (fN, aN) and commands of the operator (oN); an empty list makes none.
    #[arg(long, value_name = "LIST", value_parser = injections, requires = "verbose")]
    only: Option<BTreeSet<Injection>>,
    /// Measure so many takeovers of each kind of fault, from seed 1, and print them as a table of tab-separated values.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "verbose", "shrink"])]
    figures: Option<u64>,
    /// With --figures: how many seconds of a rough network are simulated, to count the takeovers that nothing called for.
    #[arg(long, value_name = "SECONDS", default_value = "86400", requires = "figures")]
    rough_seconds: u64,
    /// Switch this rule of the protocol off.
    #[arg(long, value_name = "NAME", value_parser = mutation)]
    mutation: Option<Mutation>,
    /// Make the decisions of a recording again: a bundle (`tanist support bundle`), or the folder `recording` of a server or agent.
    #[arg(long, value_name = "BUNDLE", conflicts_with_all = ["seeds", "verbose", "shrink"])]
    replay: Option<PathBuf>,
    #[command(flatten)]
    shown: replay::Shown,
    /// Nothing fails.
    #[arg(long, conflicts_with = "cut")]
    calm: bool,
    /// Nothing fails but the network around one agent at a time.
    #[arg(long)]
    cut: bool,
}

fn seeds(text: &str) -> Result<Range<u64>, String> {
    let number = |part: &str| part.parse().map_err(|_| format!("'{part}' is not a number"));
    let (from, to) = text.split_once("..").ok_or("a range is written A..B")?;
    Ok(number(from)?..number(to)?)
}

// An alias, so that the list is one value and not a value each.
type Injected = BTreeSet<Injection>;

fn injections(text: &str) -> Result<Injected, String> {
    text.split(',').filter(|word| !word.is_empty()).map(str::parse).collect()
}

fn mutation(name: &str) -> Result<Mutation, String> {
    let known = || Mutation::ALL.iter().map(|m| format!("{m:?}")).collect::<Vec<_>>().join(", ");
    let found = Mutation::ALL.iter().find(|m| format!("{m:?}") == name).copied();
    found.ok_or_else(|| format!("there are {}", known()))
}

impl Arguments {
    fn run(&self, seed: u64) -> Run {
        let weather = match (self.calm, self.cut) {
            (true, _) => Weather::Calm,
            (_, true) => Weather::Cut,
            _ => Weather::Storm,
        };
        Run { seed, weather, broken: self.mutation, only: None, verbose: false }
    }

    /// The command that shows a seed again, with these injections alone if that is given.
    fn again(&self, seed: u64, only: Option<&Injected>) -> String {
        let mutation = self.mutation.map_or_else(String::new, |m| format!(" --mutation {m:?}"));
        let weather = match (self.calm, self.cut) {
            (true, _) => " --calm",
            (_, true) => " --cut",
            _ => "",
        };
        let only = only.map_or_else(String::new, |only| {
            let words: Vec<String> = only.iter().map(ToString::to_string).collect();
            format!(" --only '{}'", words.join(","))
        });
        format!("cargo run --package tanist-sim -- --verbose {seed}{only}{mutation}{weather}")
    }
}

fn show(arguments: &Arguments, seed: u64) -> ExitCode {
    let run = Run { only: arguments.only.clone(), verbose: true, ..arguments.run(seed) };
    let report = run.report();
    report.log.iter().for_each(|line| println!("{line}"));
    println!("seed {seed}: hash {:016x}, {}", report.hash, report.violation.as_deref().unwrap_or("sound"));
    ExitCode::from(u8::from(report.violation.is_some()))
}

/// Says what the violation of a seed needs.
fn shorten(arguments: &Arguments, seed: u64) -> ExitCode {
    let Some(only) = arguments.run(seed).shortened() else {
        println!("seed {seed} violates nothing");
        return ExitCode::SUCCESS;
    };
    println!("  of its faults and commands it needs {}: {}", only.len(), arguments.again(seed, Some(&only)));
    ExitCode::FAILURE
}

fn search(arguments: &Arguments) -> ExitCode {
    let mut coverage = Coverage::default();
    let mut failed = 0;
    for seed in arguments.seeds.clone() {
        let report = arguments.run(seed).report();
        coverage.add(&report.coverage);
        if let Some(violation) = report.violation {
            failed += 1;
            println!("seed {seed}: {violation}\n  replay: {}", arguments.again(seed, None));
            if failed <= SHORTENED {
                shorten(arguments, seed);
            }
        }
    }
    for (name, count) in coverage.counts() {
        println!("{name:>24} {count}");
    }
    println!("{failed} of {} seeds violate a property", arguments.seeds.end.saturating_sub(arguments.seeds.start));
    ExitCode::from(u8::from(failed > 0))
}

/// One line a takeover. What could not be measured is told, and fails the command.
fn measure(times: u64, rough_seconds: u64) -> ExitCode {
    let mut failed = false;
    match figures::false_takeovers(1, rough_seconds, figures::LOST_PER_MILLE) {
        Ok(takeovers) => println!("# false takeovers: {takeovers}\n# rough seconds: {rough_seconds}"),
        Err(violation) => {
            eprintln!("a rough network: {violation}");
            failed = true;
        }
    }
    println!("fault\tdetected_ms\tfenced_ms\twrote_ms\tagain_bytes");
    for kind in Kind::ALL {
        let (mut seed, mut measured) = (0, 0);
        // A fault that meets a run in its last moment has no figure of this kind: another seed is taken for it.
        while measured < times && seed < 2 * times + 100 {
            seed += 1;
            match figures::measure(kind, seed) {
                Outcome::Measured(sample) => {
                    measured += 1;
                    let ms = |us: u64| us as f64 / 1000.0;
                    let (detected, fenced, wrote) = (ms(sample.detected_us), ms(sample.fenced_us), ms(sample.wrote_us));
                    println!("{}\t{detected:.1}\t{fenced:.1}\t{wrote:.1}\t{}", kind.name(), sample.copied_again_bytes);
                }
                Outcome::NothingToWrite => {}
                Outcome::Failed(why) => {
                    eprintln!("{} with seed {seed}: {why}", kind.name());
                    failed = true;
                }
            }
        }
        failed |= measured < times;
    }
    ExitCode::from(u8::from(failed))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(times) = arguments.figures {
        return measure(times, arguments.rough_seconds);
    }
    if let Some(recording) = &arguments.replay {
        return replay::replay(recording, &arguments.shown, arguments.mutation);
    }
    match (arguments.verbose, arguments.shrink) {
        (Some(seed), _) => show(&arguments, seed),
        (_, Some(seed)) => shorten(&arguments, seed),
        _ => search(&arguments),
    }
}
