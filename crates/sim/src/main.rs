//! `tanist-sim --seeds A..B [--mutation NAME] [--verbose SEED] [--calm | --cut]`

#![forbid(unsafe_code)]

use std::process::ExitCode;

use tanist_protocol::mutation::Mutation;
use tanist_sim::coverage::Coverage;
use tanist_sim::{Report, run, run_calm, run_cut};

const USAGE: &str = "usage: tanist-sim --seeds A..B [--mutation NAME] [--calm | --cut] | --verbose SEED [--mutation NAME] [--calm | --cut]";

#[derive(Default)]
struct Arguments {
    seeds: (u64, u64),
    mutation: Option<Mutation>,
    verbose: Option<u64>,
    calm: bool,
    cut: bool,
}

fn parse() -> Result<Arguments, String> {
    let mut arguments = Arguments { seeds: (0, 1000), ..Arguments::default() };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        match word.as_str() {
            "--seeds" => arguments.seeds = range(&value()?)?,
            "--mutation" => arguments.mutation = Some(mutation(&value()?)?),
            "--verbose" => arguments.verbose = Some(number(&value()?)?),
            "--calm" => arguments.calm = true,
            "--cut" => arguments.cut = true,
            other => return Err(format!("'{other}' is not known")),
        }
    }
    Ok(arguments)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("'{text}' is not a number"))
}

fn range(text: &str) -> Result<(u64, u64), String> {
    let (from, to) = text.split_once("..").ok_or_else(|| format!("'{text}' is not a range A..B"))?;
    Ok((number(from)?, number(to)?))
}

fn mutation(name: &str) -> Result<Mutation, String> {
    let known = || Mutation::ALL.iter().map(|m| format!("{m:?}")).collect::<Vec<_>>().join(", ");
    Mutation::ALL
        .iter()
        .find(|m| format!("{m:?}") == name)
        .copied()
        .ok_or_else(|| format!("there is no mutation '{name}'; there are {}", known()))
}

fn one(arguments: &Arguments, seed: u64, verbose: bool) -> Report {
    match arguments {
        Arguments { calm: true, .. } => run_calm(seed, verbose),
        Arguments { cut: true, .. } => run_cut(seed, arguments.mutation, verbose),
        _ => run(seed, arguments.mutation, verbose),
    }
}

fn replay(arguments: &Arguments, seed: u64) -> String {
    let mutation = arguments.mutation.map_or_else(String::new, |m| format!(" --mutation {m:?}"));
    let calm = if arguments.calm {
        " --calm"
    } else if arguments.cut {
        " --cut"
    } else {
        ""
    };
    format!("cargo run -p tanist-sim -- --verbose {seed}{mutation}{calm}")
}

fn main() -> ExitCode {
    let arguments = match parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("tanist-sim: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(seed) = arguments.verbose {
        let report = one(&arguments, seed, true);
        report.log.iter().for_each(|line| println!("{line}"));
        println!("seed {seed}: hash {:016x}, {}", report.hash, report.violation.as_deref().unwrap_or("sound"));
        return ExitCode::from(u8::from(report.violation.is_some()));
    }
    let mut coverage = Coverage::default();
    let mut failed = 0;
    for seed in arguments.seeds.0..arguments.seeds.1 {
        let report = one(&arguments, seed, false);
        coverage.add(&report.coverage);
        if let Some(violation) = report.violation {
            failed += 1;
            println!("seed {seed}: {violation}\n  replay: {}", replay(&arguments, seed));
        }
    }
    for (name, count) in coverage.counts() {
        println!("{name:>24} {count}");
    }
    println!("{failed} of {} seeds violate a property", arguments.seeds.1.saturating_sub(arguments.seeds.0));
    ExitCode::from(u8::from(failed > 0))
}
