//! Plays a schedule: runs go on, faults strike, and after each of them every block of every target is compared.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use tanist_model::api::Done;
use tanist_model::event::EventCode;
use tanist_model::id::RunId;
use tanist_model::run::RunState;
use tanist_model::time::Timestamp;

use super::injector::Injector;
use super::matching::{self, Records, Round};
use super::outcome::{Finding, Found, Outcome};
use super::schedule::{Lasts, Moment, Planned, Schedule};
use super::stage::Stage;
use crate::random::Random;
use crate::scene::{RUN_LIMIT, Scene};
use crate::{Build, compare, signal, story, volume, wait};

/// Late writes land within moments.
const LATE: Duration = Duration::from_secs(2);
/// A run without a limit begins within moments, or waits for something.
const BEGIN_LIMIT: Duration = Duration::from_secs(10);
/// Until nothing is to be done any more, after the last fault: the longest wait of the product for another try of the direct way, and more.
const WELL_LIMIT: Duration = Duration::from_secs(90);
/// A run that an operator's storage broke is asked for again so many times.
const RUNS_PER_ROUND: usize = 4;

/// Plays a schedule on a cluster of its own, to its end or to the first thing that does not come about.
#[must_use]
pub fn play(schedule: &Schedule, build: Build) -> Outcome {
    let mut outcome = Outcome::of(schedule);
    let began = Instant::now();
    let played = catch_unwind(AssertUnwindSafe(|| {
        let mut random = Random::new(schedule.seed);
        match Stage::set(schedule, build, &mut random) {
            Ok(stage) => Player::new(stage, random, schedule, &mut outcome).play(),
            Err(reason) => outcome.skipped = Some(reason),
        }
    }));
    if let Err(panic) = played {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        outcome.findings.push(Finding::new(Found::Stuck, text.unwrap_or_else(|| "it ended in a panic".to_owned())));
    }
    outcome.took = began.elapsed();
    outcome
}

struct Player<'a> {
    stage: Stage,
    random: Random,
    schedule: &'a Schedule,
    outcome: &'a mut Outcome,
    injector: Injector,
    rounds: Vec<Round>,
    records: Records,
    /// Takeovers by replication and epoch: the server keeps the last of them only.
    takeovers: BTreeMap<String, BTreeMap<u32, tanist_model::takeover::TakeoverRecord>>,
}

impl<'a> Player<'a> {
    fn new(stage: Stage, random: Random, schedule: &'a Schedule, outcome: &'a mut Outcome) -> Self {
        Self {
            stage,
            random,
            schedule,
            outcome,
            injector: Injector::default(),
            rounds: Vec::new(),
            records: Records::default(),
            takeovers: BTreeMap::new(),
        }
    }

    fn play(mut self) {
        for faults in rounds(&self.schedule.faults) {
            self.round(&faults);
            if self.outcome.has(Found::Corruption) {
                break;
            }
        }
        if !self.outcome.has(Found::Corruption) {
            self.close();
        }
        self.collect();
        self.judge();
    }

    /// When nothing fails any more, a run is published, which asks for every proof that is left, and nothing is to be done.
    fn close(&mut self) {
        self.change_sources();
        let runs = self.sync();
        self.finish(runs);
        let mut concerns = Vec::new();
        let well = wait::until_or(WELL_LIMIT, || {
            let (exit, status) = self.stage.cluster.status();
            concerns = status.concerns;
            (exit == 0).then_some(())
        });
        if well.is_none() {
            let text = format!("{} s after the last fault: {concerns:?}", WELL_LIMIT.as_secs());
            self.find(Found::Stuck, text);
        }
    }

    /// From one moment in which all is well to the next.
    fn round(&mut self, faults: &[(usize, Planned)]) {
        let from = signal::now();
        let sleeps = faults.iter().any(|(_, planned)| planned.lasts == Lasts::ThroughNextRun);
        self.change_sources();
        let runs = self.begin(percent_of(faults));
        self.injector.play(&mut self.stage, faults);
        self.finish(runs);
        if sleeps {
            self.sleep_through_a_run();
        }
        self.stage.scenes.iter().for_each(|scene| scene.wait_whole(&self.stage.cluster));
        self.compare("when all was well again");
        self.rounds.push(Round { from, to: signal::now() });
        self.collect();
    }

    /// Another content, or a few other blocks: a run that copies all, or one that looks for what differs.
    fn change_sources(&mut self) {
        for scene in &self.stage.scenes {
            let seed = self.random.number();
            match seed % 4 {
                0 => volume::change_one_page_in(&scene.source, 8, seed),
                _ => volume::renew(&scene.source, seed),
            }
        }
    }

    /// Asks for a run of every replication, and waits until the first one's is in the middle.
    fn begin(&self, percent: u64) -> Vec<RunId> {
        if self.schedule.cluster.limit_mib_per_second.is_some() {
            let runs = self.sync();
            self.wait_progress(&runs, percent);
            return runs;
        }
        let agent = self.who_reads();
        let from = self.stage.cluster.agent(&agent).read_bytes();
        let runs = self.sync();
        self.wait_read(&agent, from, percent);
        runs
    }

    /// Who reads the first replication's source.
    fn who_reads(&self) -> String {
        let (cluster, name) = (&self.stage.cluster, self.stage.scenes[0].name.as_str());
        let agents = cluster.agents();
        let reader = agents.iter().find(|agent| agent.reading_for.iter().any(|of| of.as_str() == name));
        reader.map_or_else(|| self.stage.scenes[0].acting(cluster), |agent| agent.name.to_string())
    }

    fn sync(&self) -> Vec<RunId> {
        self.stage.scenes.iter().map(|scene| scene.sync(&self.stage.cluster)).collect()
    }

    /// A run without a limit is over before a command could tell how far it is: what its agent reads is looked at.
    fn wait_read(&self, agent: &str, from: u64, percent: u64) {
        let scene = &self.stage.scenes[0];
        let bytes = from + scene.size_bytes / 100 * percent;
        let reads = || (self.stage.cluster.agent(agent).read_bytes() >= bytes).then_some(());
        if wait::until_or(BEGIN_LIMIT, reads).is_none() {
            println!("{agent} read less than {percent} % of {} in {} s", scene.name, BEGIN_LIMIT.as_secs());
        }
    }

    /// Until the first replication's run has come as far as the schedule says, and the others have begun.
    fn wait_progress(&self, runs: &[RunId], percent: u64) {
        let first = &self.stage.scenes[0].name;
        for (scene, run) in self.stage.scenes.iter().zip(runs).rev() {
            let bytes = if scene.name == *first { scene.size_bytes / 100 * percent } else { 0 };
            wait::until(&format!("run {run} of {} has passed {bytes} bytes", scene.name), RUN_LIMIT, || {
                let view = self.stage.cluster.try_show(&scene.name)?;
                let passed = view.run.is_some_and(|now| {
                    now.id == *run && now.state != RunState::SnapshotPending && now.done_bytes >= bytes
                });
                let ended = view.last_run.is_some_and(|last| last.id == *run && last.state.is_finished());
                (passed || ended).then_some(())
            });
        }
    }

    /// Until a run of every replication is published; then each target must equal its source.
    fn finish(&mut self, runs: Vec<RunId>) {
        for (number, run) in runs.into_iter().enumerate() {
            self.finish_one(number, run);
        }
        self.compare("after the run");
    }

    fn finish_one(&mut self, number: usize, mut run: RunId) {
        let scene = self.stage.scenes[number].clone();
        for _ in 0..RUNS_PER_ROUND {
            let ended = scene.wait_ended(&self.stage.cluster, run);
            if ended.state == RunState::Published {
                self.outcome.runs += 1;
                return;
            }
            if self.schedule.cluster.faulty.is_none() {
                self.find(Found::Untruth, format!("{}: a run was given up: {ended:?}", scene.name));
            }
            run = self.ask_again(&scene);
        }
        panic!("{}: {RUNS_PER_ROUND} runs were given up in one round", scene.name);
    }

    fn ask_again(&self, scene: &Scene) -> RunId {
        wait::until("another run can be asked for", RUN_LIMIT, || {
            let answer = self.stage.cluster.tanist(&["replication", "sync", &scene.name]);
            (answer.status == 0).then(|| answer.body::<Done>().run).flatten()
        })
    }

    /// An agent is asleep. The sources change altogether and the next run is made, or waits for proof; once it is made the first source moves
    /// on. Then the agent wakes, and nobody tells it to stand down. Nothing of what it writes then belongs on the target.
    fn sleep_through_a_run(&mut self) {
        self.stage.scenes.iter().for_each(|scene| volume::renew(&scene.source, self.random.number()));
        let since = signal::now();
        let runs = self.sync();
        let first = self.stage.scenes[0].clone();
        let published = wait::until("the next run is published or waits for proof", RUN_LIMIT, || {
            if self.awaits_proof(&first, since) {
                return Some(false);
            }
            let last = self.stage.cluster.try_show(&first.name)?.last_run?;
            (last.id == runs[0] && last.state == RunState::Published).then_some(true)
        });
        let waiting = if published {
            self.finish(runs);
            volume::renew(&first.source, self.random.number());
            None
        } else {
            Some(runs)
        };
        self.wake_over(
            &first,
            if published { "below a recovery point" } else { "while the next snapshot waited for proof" },
        );
        self.stage.cluster.start_server();
        self.injector.end_supplanted(&mut self.stage);
        if !self.outcome.has(Found::Corruption) {
            let runs = waiting.unwrap_or_else(|| self.sync());
            self.finish(runs);
        }
        self.injector.end_twins(&mut self.stage);
    }

    /// Wakes who sleeps, and looks whether the target stays as it is.
    fn wake_over(&mut self, scene: &Scene, when: &str) {
        let before = compare::fingerprint(&scene.target);
        self.injector.wake_unheard(&mut self.stage);
        let touched = wait::until_or(LATE, || (compare::fingerprint(&scene.target) != before).then_some(()));
        if touched.is_some() {
            self.find(Found::Corruption, format!("{}: late writes landed {when}", scene.name));
        }
    }

    fn awaits_proof(&self, scene: &Scene, since: Timestamp) -> bool {
        let events = self.stage.cluster.events_of(&scene.name);
        events.iter().any(|event| event.code == EventCode::AwaitingProof && event.at >= since)
    }

    /// Every block of every target.
    fn compare(&mut self, when: &str) {
        for scene in self.stage.scenes.clone() {
            if let Some(found) = compare::first_difference(&scene.source, &scene.target) {
                self.find(Found::Corruption, format!("{} differs from its source {when}: {found:?}", scene.name));
            }
        }
    }

    fn find(&mut self, found: Found, text: String) {
        let struck = self.injector.log().last().map_or_else(String::new, |last| format!(" (the last was {last})"));
        self.outcome.findings.push(Finding::new(found, text + &struck));
    }

    /// What the server tells, while it still does.
    fn collect(&mut self) {
        let last = self.records.events.last().map_or(0, |event| event.seq.0);
        self.records.events.extend(self.stage.cluster.events_after(last));
        for scene in &self.stage.scenes {
            let known = self.takeovers.entry(scene.name.clone()).or_default();
            let told = self.stage.cluster.takeovers(&scene.name);
            known.extend(told.into_iter().map(|takeover| (takeover.epochs.target.0, takeover)));
        }
    }

    fn judge(mut self) {
        let by_epoch = std::mem::take(&mut self.takeovers);
        self.records.takeovers = by_epoch.into_iter().map(|(name, all)| (name, all.into_values().collect())).collect();
        let all = self.records.takeovers.values().flatten();
        self.outcome.takeovers = all.filter(|takeover| story::is_unplanned(takeover)).count();
        let faulty = self.schedule.cluster.faulty;
        let untruths = matching::untruths(self.injector.log(), &self.rounds, &self.records, faulty);
        self.outcome.findings.extend(untruths.into_iter().map(|text| Finding::new(Found::Untruth, text)));
    }
}

fn percent_of(faults: &[(usize, Planned)]) -> u64 {
    match faults.first().map(|(_, planned)| planned.when) {
        Some(Moment::ProgressPercent(percent)) => u64::from(percent),
        _ => 0,
    }
}

impl Drop for Player<'_> {
    /// What was done is known after a panic too.
    fn drop(&mut self) {
        self.outcome.injected = self.injector.log().to_vec();
    }
}

/// The faults by rounds, each with its number.
fn rounds(faults: &[Planned]) -> Vec<Vec<(usize, Planned)>> {
    let mut rounds: Vec<Vec<(usize, Planned)>> = Vec::new();
    for (planned, number) in faults.iter().zip(1..) {
        match (planned.when, rounds.last_mut()) {
            (Moment::AfterMs(_), Some(round)) => round.push((number, *planned)),
            _ => rounds.push(vec![(number, *planned)]),
        }
    }
    rounds
}
