//! `tanist-sim --replay`: the decisions of a real server or agent, made again from what was recorded, and shown.

use std::fs::File;
use std::io::{self, BufRead};
use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use tanist_model::time::Timestamp;
use tanist_protocol::mutation::{Mutation, Mutations};
use tanist_recording::bundle::Bundle;
use tanist_recording::replay::{Divergence, Replayed, Step, replay as play};
use tanist_recording::unpacked;

/// Characters of one input or decision that are shown.
const WIDTH: usize = 300;

/// What of a recording is printed; nothing, if neither a time nor a replication is named.
#[derive(Args, Debug)]
pub struct Shown {
    /// Print what happened from this time on (RFC 3339).
    #[arg(long, value_name = "TIME", requires = "replay", value_parser = Timestamp::parse)]
    from: Option<Timestamp>,
    /// Print what happened up to this time.
    #[arg(long, value_name = "TIME", requires = "replay", value_parser = Timestamp::parse)]
    to: Option<Timestamp>,
    /// Print what names this replication: its name, or its id.
    #[arg(long, value_name = "NAME", requires = "replay")]
    replication: Option<String>,
    /// Print the inputs too on which nothing was decided.
    #[arg(long, requires = "replay")]
    all: bool,
}

/// Replays a bundle or a folder; fails if something else is decided, or the recording is not all there.
pub fn replay(recording: &Path, shown: &Shown, mutation: Option<Mutation>) -> ExitCode {
    match replayed(recording, shown, mutation.map_or(Mutations::NONE, Mutations::breaking)) {
        Ok(found) => report(&found),
        Err(error) => {
            println!("{} cannot be replayed: {error}", recording.display());
            ExitCode::FAILURE
        }
    }
}

fn replayed(recording: &Path, shown: &Shown, mutations: Mutations) -> Result<Replayed, Box<dyn std::error::Error>> {
    let mut printer = Printer::new(shown);
    let mut watch = |step: Step<'_>| printer.print(&step);
    let own = env!("CARGO_PKG_VERSION");
    if recording.is_dir() {
        let segments = tanist_recording::Folder::at(recording).segments()?;
        let lines = segments.iter().map(|segment| {
            let name = segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let lines: Box<dyn BufRead> = unpacked(File::open(&segment.path)?)?;
            Ok((name, lines))
        });
        return Ok(play(lines, own, mutations, &mut watch)?);
    }
    let bundle = Bundle::read(io::BufReader::new(File::open(recording)?))?;
    println!(
        "a bundle of {:?}, version {}, made at {}",
        bundle.manifest.of, bundle.manifest.version, bundle.manifest.made_at
    );
    Ok(play(bundle.segments(), own, mutations, &mut watch)?)
}

fn report(found: &Replayed) -> ExitCode {
    let Replayed { segments, inputs, decisions, joined, lost, divergence } = found;
    if let Some(divergence) = divergence {
        println!("{inputs} inputs and {decisions} decisions up to here; here something else is decided:");
        explain(divergence);
        return ExitCode::FAILURE;
    }
    println!("{inputs} inputs, {decisions} decisions, all reproduced");
    println!("{segments} segments; {joined} begin exactly where the replay of the one before had come to");
    if *lost > 0 {
        println!("{lost} inputs were not recorded: the disk was slow or full");
    }
    ExitCode::SUCCESS
}

fn explain(divergence: &Divergence) {
    let Divergence { file, line, at, input, recorded, replayed } = divergence;
    println!("  {at}  {file}, line {line}");
    println!("  input:    {input}");
    println!("  recorded: {recorded}");
    println!("  replayed: {replayed}");
}

/// Prints what was asked for.
struct Printer<'a> {
    shown: &'a Shown,
    /// What the replication is called in what is recorded: its name, and its id once a decision has told it.
    words: Vec<String>,
}

impl<'a> Printer<'a> {
    fn new(shown: &'a Shown) -> Self {
        let words = shown.replication.iter().map(|name| format!("\"{name}\"")).collect();
        Self { shown, words }
    }

    fn print(&mut self, step: &Step<'_>) {
        let Shown { from, to, replication, all } = self.shown;
        if from.is_none() && to.is_none() && replication.is_none() && !all {
            return;
        }
        self.learn(step);
        let in_time = from.is_none_or(|from| step.at >= from) && to.is_none_or(|to| step.at <= to);
        let texts = [step.input.unwrap_or_default(), step.output.unwrap_or_default()];
        let concerns =
            self.words.is_empty() || self.words.iter().any(|word| texts.iter().any(|text| text.contains(word)));
        if !in_time || !concerns || (!all && step.output.is_none() && step.input.is_some()) {
            return;
        }
        match step.input {
            None => println!("{}  took the state of the store in the place of its own", step.at),
            Some(input) => println!("{}  {}", step.at, short(input)),
        }
        for decision in step.output.map(decisions).unwrap_or_default() {
            println!("      -> {decision}");
        }
    }

    /// Inputs of agents name a replication by its id only; a record of it has both.
    fn learn(&mut self, step: &Step<'_>) {
        let Some(name) = &self.shown.replication else { return };
        let named = format!("\"name\":\"{name}\"");
        for text in [step.input, step.output].into_iter().flatten().filter(|text| text.contains(&named)) {
            let found = serde_json::from_str(text).ok().and_then(|value: Value| id_of(&value, name));
            if let Some(word) = found.map(|id| format!("\"{id}\"")).filter(|word| !self.words.contains(word)) {
                self.words.push(word);
            }
        }
    }
}

/// The id beside a name.
fn id_of(value: &Value, name: &str) -> Option<String> {
    match value {
        Value::Object(fields) => match (fields.get("name"), fields.get("id")) {
            (Some(Value::String(found)), Some(Value::String(id))) if found == name => Some(id.clone()),
            _ => fields.values().find_map(|value| id_of(value, name)),
        },
        Value::Array(values) => values.iter().find_map(|value| id_of(value, name)),
        _ => None,
    }
}

/// One line for each decision: what is committed, and what is done then.
fn decisions(output: &str) -> Vec<String> {
    let Ok(output) = serde_json::from_str::<Value>(output) else { return vec![short(output)] };
    let decisions = output["decisions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut lines = Vec::new();
    for decision in decisions {
        let changes = decision["group"]["changes"].as_array().map(Vec::as_slice).unwrap_or_default();
        lines.extend(changes.iter().map(|change| format!("commit {}", short(&change.to_string()))));
        let effects = decision["after"].as_array().map(Vec::as_slice).unwrap_or_default();
        lines.extend(effects.iter().map(|effect| short(&effect.to_string())));
    }
    lines
}

fn short(text: &str) -> String {
    match text.char_indices().nth(WIDTH) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
