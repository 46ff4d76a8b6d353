//! In turns: in every round of a row each case once, in an order of its own, so that what disturbs the machine disturbs all of them, and every
//! ratio is one of neighbours.

use std::time::Duration;

use crate::cases::{self, Case, Measured, Outcome};
use crate::place::Place;
use crate::random::Random;
use crate::record::{Record, Sample, ThreadTime};

/// What came out.
#[derive(Debug, Default)]
pub struct Harvest {
    pub record: Record,
    pub threads: Vec<ThreadTime>,
    /// Cases that failed, or whose bytes were wrong.
    pub failures: Vec<String>,
}

impl Harvest {
    /// All rounds of a row.
    pub fn run_row(&mut self, place: &mut Place, row: &str, rounds: u64, seed: u64) {
        let cases = cases::of(row);
        let mut random = Random::new(seed);
        for round in 1..=rounds {
            let mut order: Vec<&dyn Case> = cases.iter().map(|case| &**case).collect();
            random.shuffle(&mut order);
            order.into_iter().for_each(|case| self.run_case(place, row, case, round));
        }
    }

    fn run_case(&mut self, place: &mut Place, row: &str, case: &dyn Case, round: u64) {
        let title = format!("{row}, {}, round {round}", case.name());
        match case.run(place, round) {
            Ok(Outcome::Measured(measured)) => self.keep(row, case.name(), round, &measured),
            Ok(Outcome::Missing(why)) => self.miss(&format!("{row}/{}", case.name()), why),
            Err(error) => {
                eprintln!("{title}: {error:#}");
                self.failures.push(format!("{title}: {error:#}"));
            }
        }
    }

    fn miss(&mut self, what: &str, why: String) {
        let name = format!("missing {what}");
        if self.record.about(&name).is_none() {
            println!("{what}: {why}");
            self.record.note(&name, why);
        }
    }

    fn keep(&mut self, row: &str, case: &str, round: u64, measured: &Measured) {
        let mebi = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let sample = Sample {
            row: row.to_owned(),
            case: case.to_owned(),
            round,
            wall_s: measured.wall.as_secs_f64(),
            cpu_s: measured.cpu.as_secs_f64(),
            peak_mib: mebi(measured.peak_bytes),
            wire_mib: measured.wire_bytes.map(mebi),
            again_mib: measured.again_bytes.map(mebi),
        };
        let sent = sample.wire_mib.map_or_else(|| "not counted".to_owned(), |mib| format!("{mib:.1} MiB sent"));
        println!(
            "{row:<13} {case:<22} {round:>2}  {:>7.2} s  {:>7.2} CPU s  {:>6.1} MiB  {sent:>16}",
            sample.wall_s, sample.cpu_s, sample.peak_mib
        );
        self.record.samples.push(sample);
        let time = |(process, thread, ran): &(String, String, Duration)| ThreadTime {
            row: row.to_owned(),
            case: case.to_owned(),
            round,
            process: process.clone(),
            thread: thread.clone(),
            cpu_s: ran.as_secs_f64(),
        };
        self.threads.extend(measured.threads.iter().map(time));
    }
}
