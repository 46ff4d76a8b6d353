//! Chaos in the form that every change has to pass: some hundred faults on real processes, on several clusters at the same time.
//!
//! `TANIST_FAULTS` makes it longer, `TANIST_SEED` repeats it. What fails leaves its schedule beside the build, and the line that
//! plays it again.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

use tanist_tests::chaos::chance::{Draw, shapes};
use tanist_tests::chaos::{self, Outcome, Schedule};
use tanist_tests::random::Random;
use tanist_tests::{build, setting};

/// At least so many, where nothing has to be skipped.
const FAULTS: u64 = 100;
/// A longer one would be all that is seen of its cluster.
const LONGEST_STOP_MS: u64 = 10_000;

#[test]
fn a_hundred_faults_damage_nothing_and_are_told_as_they_were() {
    let wanted = setting("TANIST_FAULTS", FAULTS);
    let mut random = Random::seeded("chaos");
    let shapes = shapes();
    // A strike may find nobody left to strike.
    let each = usize::try_from(wanted).unwrap_or(1).div_ceil(shapes.len()) + 3;
    let draws = shapes.into_iter().map(|shape| {
        let draw = Draw { longest_stop_ms: LONGEST_STOP_MS, ..Draw::new(random.number() >> 16, each) };
        draw.schedule_of(shape)
    });
    let schedules: Vec<Schedule> = draws.collect();
    let playing: Vec<_> = schedules.into_iter().map(|s| thread::spawn(move || chaos::play(&s, build!()))).collect();
    let outcomes: Vec<Outcome> = playing.into_iter().map(|playing| playing.join().expect("an outcome")).collect();
    let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
    for outcome in &outcomes {
        println!("{:?}: {outcome}", outcome.schedule.cluster);
        outcome.kinds().into_iter().for_each(|(kind, number)| *kinds.entry(kind).or_default() += number);
    }
    println!("faults by kind: {kinds:?}");
    outcomes.iter().for_each(assert_nothing_found);
    let (injected, skipped): (usize, _) = (kinds.values().sum(), outcomes.iter().any(|o| o.skipped.is_some()));
    assert!(skipped || injected as u64 >= wanted, "{injected} faults were injected, {wanted} were wanted: {kinds:?}");
}

/// Keeps the schedule of what failed.
fn assert_nothing_found(outcome: &Outcome) {
    if !outcome.findings.is_empty() {
        let again = outcome.keep(&Path::new(build!().scratch).join("chaos")).unwrap_or_else(|error| error);
        panic!("{}\n{outcome}\nagain: {again}", outcome.story());
    }
}

/// Those that are kept in the project.
fn kept() -> Vec<(PathBuf, Schedule)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schedules");
    let files = std::fs::read_dir(&folder).expect("the schedules of the project").flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|kind| kind == "json")).collect();
    files.sort();
    files
        .into_iter()
        .map(|file| (file.clone(), Schedule::read(&file).unwrap_or_else(|error| panic!("{error}"))))
        .collect()
}

#[test]
fn every_schedule_of_the_project_can_be_played() {
    let kept = kept();
    assert!(!kept.is_empty(), "there are none");
    for (file, schedule) in kept {
        assert!(!schedule.about.is_empty(), "{}: nobody says what it is for", file.display());
    }
}
