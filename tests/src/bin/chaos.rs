//! Plays one schedule of faults on real processes: a file's, or one drawn from a seed.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tanist_tests::Build;
use tanist_tests::chaos::chance::Draw;
use tanist_tests::chaos::{self, Schedule};

const USAGE: &str = "\
Plays a schedule of faults on a cluster of real processes, and compares every block after each of them.

Usage: tanist-chaos --schedule FILE [--dir D]
       tanist-chaos --seed N [--faults K] [--dir D]

  --schedule FILE  a schedule, as JSON; those in tests/schedules are examples
  --seed N         draw the cluster and the faults from this number
  --faults K       how many faults are drawn (100)
  --dir D          where the cluster and the schedule of a failure are kept (beside the program)

The exit status is 0 if nothing was found, 1 if something was, 2 if the schedule was not played.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match Wish::of(&arguments).and_then(Wish::fulfil) {
        Ok(status) => status,
        Err(complaint) => {
            eprintln!("tanist-chaos: {complaint}");
            ExitCode::from(2)
        }
    }
}

/// What the command line asks for.
#[derive(Default)]
struct Wish {
    schedule: Option<PathBuf>,
    seed: Option<u64>,
    faults: Option<usize>,
    folder: Option<PathBuf>,
}

impl Wish {
    fn of(arguments: &[String]) -> Result<Self, String> {
        let mut wish = Self::default();
        let mut rest = arguments.iter();
        while let Some(name) = rest.next() {
            if name == "--help" || name == "-h" {
                print!("{USAGE}");
                std::process::exit(0);
            }
            let value = rest.next().ok_or_else(|| format!("{name} has no value\n\n{USAGE}"))?;
            let number = || value.parse::<u64>().map_err(|error| format!("{name} {value}: {error}"));
            match name.as_str() {
                "--schedule" => wish.schedule = Some(value.into()),
                "--seed" => wish.seed = Some(number()?),
                "--faults" => wish.faults = usize::try_from(number()?).ok(),
                "--dir" => wish.folder = Some(value.into()),
                _ => return Err(format!("{name} is not known\n\n{USAGE}")),
            }
        }
        Ok(wish)
    }

    fn fulfil(self) -> Result<ExitCode, String> {
        let schedule = self.what()?;
        let program = beside("tanist-test-build")?;
        let folder = match self.folder {
            Some(folder) => folder,
            None => beside("chaos")?,
        };
        std::fs::create_dir_all(&folder).map_err(|error| format!("make {}: {error}", folder.display()))?;
        // It lives as long as the process does.
        let leak = |path: &Path| -> &'static str { Box::leak(path.display().to_string().into_boxed_str()) };
        let outcome = chaos::play(&schedule, Build { program: leak(&program), scratch: leak(&folder) });
        print!("{}", outcome.story());
        println!("{outcome}");
        if let Some(reason) = outcome.skipped {
            return Err(format!("the schedule was not played: {reason}"));
        }
        if outcome.findings.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        println!("again: {}", outcome.keep(&folder)?);
        Ok(ExitCode::from(1))
    }

    fn what(&self) -> Result<Schedule, String> {
        match (&self.schedule, self.seed) {
            (Some(file), None) => Schedule::read(file),
            (None, Some(seed)) => {
                let schedule = Draw::new(seed, self.faults.unwrap_or(100)).schedule();
                schedule.check().map(|()| schedule)
            }
            _ => Err(format!("say --schedule or --seed\n\n{USAGE}")),
        }
    }
}

/// The programs of a build lie beside each other.
fn beside(name: &str) -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("where this program is: {error}"))?;
    Ok(own.with_file_name(name))
}
