//! Chaos in the form that every change has to pass: some hundred faults on real processes, on several clusters at the same time.
//!
//! `TANIST_FAULTS` makes it longer and draws new ones, `TANIST_SEED` repeats it. What fails leaves its schedule beside the build, and the line that
//! plays it again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread;

use tanist_tests::chaos::chance::{Draw, shapes};
use tanist_tests::chaos::outcome::Found;
use tanist_tests::chaos::schedule::{Moment, Planned};
use tanist_tests::chaos::{self, Outcome, Schedule};
use tanist_tests::random::Random;
use tanist_tests::{build, setting};

/// At least so many, or as many fewer as there are clusters that this machine cannot have.
const FAULTS: u64 = 100;
/// Every change meets the same schedules, so that what is found is its own; the longer form draws others each time.
const SEED_OF_EVERY_CHANGE: u64 = 20_261_123;
/// A longer one would be all that is seen of its cluster.
const LONGEST_STOP_MS: u64 = 10_000;

#[test]
fn a_hundred_faults_damage_nothing_and_are_told_as_they_were() {
    let wanted = setting("TANIST_FAULTS", FAULTS);
    let mut random =
        if wanted > FAULTS { Random::seeded("chaos") } else { Random::seeded_or("chaos", SEED_OF_EVERY_CHANGE) };
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
    assert_nothing_found(&outcomes);
    let (injected, played) = (kinds.values().sum::<usize>(), outcomes.iter().filter(|o| o.skipped.is_none()).count());
    assert!(played > 0, "not one cluster was played");
    let owed = wanted * played as u64 / outcomes.len() as u64;
    assert!(
        injected as u64 >= owed,
        "{injected} faults were injected, {owed} were wanted of {played} clusters: {kinds:?}"
    );
}

/// Keeps the schedules of what failed.
fn assert_nothing_found(outcomes: &[Outcome]) {
    let failed = outcomes.iter().filter(|outcome| !outcome.findings.is_empty());
    let told = failed.map(|outcome| {
        let again = outcome.keep(&Path::new(build!().scratch).join("chaos")).unwrap_or_else(|error| error);
        format!("{}{outcome}\nagain: {again}\n", outcome.story())
    });
    let told: Vec<String> = told.collect();
    assert!(told.is_empty(), "{}", told.join("\n"));
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

fn kept_as(name: &str) -> Schedule {
    let found = kept().into_iter().find(|(file, _)| file.file_stem().is_some_and(|stem| stem == name));
    found.unwrap_or_else(|| panic!("there is no schedule {name}")).1
}

#[test]
fn every_schedule_of_the_project_can_be_played_and_is() {
    let named: BTreeSet<&str> = CONTROLS.iter().chain(&PLAYED).copied().collect();
    for (file, schedule) in kept() {
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        assert!(!schedule.about.is_empty(), "{name}: nobody says what it is for");
        assert!(named.contains(name.as_str()), "{name} is played by no test");
        assert_eq!(schedule.cluster.without.is_some(), CONTROLS.contains(&name.as_str()), "{name}: a control or not");
    }
}

/// Schedules that find nothing.
const PLAYED: [&str; 1] = ["takeover-under-fire"];
/// Schedules that break a rule, and find the damage.
const CONTROLS: [&str; 5] =
    ["without-proof", "verdict-as-proof", "one-proof-for-all", "gate-left-open", "epoch-resumed"];
/// Rounds that are played with the rule in force.
const ROUNDS_IN_FORCE: usize = 2;

#[test]
fn the_schedules_of_the_project_find_nothing() {
    PLAYED.iter().for_each(|name| assert_nothing_found(&[chaos::play(&kept_as(name), build!())]));
}

#[test]
fn without_waiting_for_proof_chaos_finds_corruption() {
    control("without-proof");
}

#[test]
fn with_a_verdict_as_proof_chaos_finds_corruption() {
    control("verdict-as-proof");
}

#[test]
fn with_one_proof_for_all_chaos_finds_corruption() {
    control("one-proof-for-all");
}

#[test]
fn without_the_gate_chaos_finds_corruption() {
    control("gate-left-open");
}

#[test]
fn with_an_epoch_resumed_chaos_finds_corruption() {
    control("epoch-resumed");
}

/// With the rule broken the data is damaged, and chaos notices; with the rule in force the very same faults damage nothing.
fn control(name: &str) {
    let broken = kept_as(name);
    let outcome = chaos::play(&broken, build!());
    println!("{name}, rule broken: {outcome}");
    assert!(outcome.has(Found::Corruption), "no corruption: this control proves nothing\n{}", outcome.story());
    let mut in_force = broken.with_every_rule();
    let begins = |planned: &&Planned| matches!(planned.when, Moment::ProgressPercent(_));
    let rounds = in_force.faults.iter().filter(begins).count();
    in_force.faults.truncate(in_force.faults.len() / rounds * ROUNDS_IN_FORCE);
    let outcome = chaos::play(&in_force, build!());
    println!("{name}, rule in force: {outcome}");
    assert_nothing_found(&[outcome]);
}
