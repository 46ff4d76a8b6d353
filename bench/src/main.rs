//! `tanist-bench`: measures, or writes the page of what was measured.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::{Parser, Subcommand};
use tanist_bench::goals::ROWS;
use tanist_bench::place::{Place, Wish};
use tanist_bench::probe::Probe;
use tanist_bench::record::Record;
use tanist_bench::rounds::Harvest;
use tanist_bench::{page, peers, wire};

const FUNCTION_MIB: u64 = 24;

/// Measures tanist beside other tools, on the same work and in turns.
#[derive(Parser, Debug)]
struct Line {
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Measure, and write docs/performance.md.
    Measure(Measure),
    /// Write docs/performance.md of what was measured.
    Page {
        /// The checkout.
        #[arg(long, default_value = ".")]
        root: PathBuf,
    },
    /// Read two volumes and compare their hashes: the bound.
    Probe {
        source: PathBuf,
        target: PathBuf,
        /// Past the page cache.
        #[arg(long)]
        direct: bool,
    },
}

#[derive(clap::Args, Debug)]
struct Measure {
    /// The size of a volume.
    #[arg(long, default_value_t = 1024)]
    size_mib: u64,
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Only the rows whose names contain one of these.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// The order of the cases.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where volumes are made, ten of their size at most; all of it is removed afterwards.
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
    /// The program; otherwise the one beside this.
    #[arg(long)]
    program: Option<PathBuf>,
    /// Where docs/performance.md is written: the checkout.
    #[arg(long, default_value = ".")]
    root: PathBuf,
    /// What else the machine did, for the page.
    #[arg(long)]
    beside: Option<String>,
    /// Small and once, only to see that everything works; no page.
    #[arg(long)]
    function: bool,
}

fn main() -> ExitCode {
    match act(Line::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tanist-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn act(what: What) -> anyhow::Result<()> {
    match what {
        What::Measure(measure) => {
            wire::isolate();
            measure.run()
        }
        What::Page { root } => write_page(&root),
        What::Probe { source, target, direct } => {
            let differing = Probe { source: &source, target: &target, direct, threads: 2 }.run()?;
            println!("{differing} pieces of 64 KiB differ");
            Ok(())
        }
    }
}

fn write_page(root: &Path) -> anyhow::Result<()> {
    page::write(root)?.iter().for_each(|file| println!("{}", file.display()));
    Ok(())
}

impl Measure {
    fn run(self) -> anyhow::Result<()> {
        let program = self.program()?;
        let size_mib = if self.function { FUNCTION_MIB } else { self.size_mib };
        let rounds = if self.function { 1 } else { self.rounds };
        let wish = Wish { program: program.clone(), size_mib, function: self.function };
        let mut place = Place::new(&self.folder, wish)?;
        let mut harvest = Harvest::default();
        self.describe(&mut harvest.record, &place, &program, rounds);
        for row in ROWS.iter().filter(|row| self.wants(row.name)) {
            harvest.run_row(&mut place, row.name, rounds, self.seed);
        }
        self.conclude(&harvest)
    }

    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| row.contains(part.as_str()))
    }

    fn conclude(&self, harvest: &Harvest) -> anyhow::Result<()> {
        if !self.function {
            page::keep(&self.root, &harvest.record, &harvest.threads)?;
            write_page(&self.root)?;
        }
        ensure!(harvest.failures.is_empty(), "{} failed:\n{}", harvest.failures.len(), harvest.failures.join("\n"));
        Ok(())
    }

    fn program(&self) -> anyhow::Result<PathBuf> {
        let beside = || Some(std::env::current_exe().ok()?.parent()?.join("tanist"));
        let program = self.program.clone().or_else(beside).context("find the program")?;
        ensure!(program.is_file(), "{} is not there: cargo build --package tanist", program.display());
        program.canonicalize().context("find the program")
    }

    fn describe(&self, record: &mut Record, place: &Place, program: &Path, rounds: u64) {
        let only = if self.only.is_empty() { String::new() } else { format!(" ONLY={}", self.only.join(",")) };
        let build = program.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
        let profile = if build == "debug" { " PROFILE=dev" } else { "" };
        record.note("command", format!("make bench SIZE_MIB={} ROUNDS={rounds}{profile}{only}", place.wish.size_mib));
        record.note("date", said("date", &["-u", "+%F"]));
        record.note("cpus", std::thread::available_parallelism().map_or(0, usize::from).to_string());
        record.note("kernel", said("uname", &["-r"]).split('-').next().unwrap_or_default());
        if let Some(beside) = &self.beside {
            record.note("beside", beside);
        }
        record.note("size_mib", place.wish.size_mib.to_string());
        record.note("rounds", rounds.to_string());
        record.note("build", if build == "debug" { "dev (lightly optimised)".into() } else { build });
        record.note("cpu by", place.meter.how());
        let bytes = "by the loopback interface of a network namespace of its own";
        record.note("bytes", if wire::is_isolated() { bytes } else { "not counted, which needs root" });
        for (tool, version) in peers::versions() {
            record.note(&format!("tool {tool}"), version);
        }
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}
