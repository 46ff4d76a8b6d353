//! Thousands of worlds in which everything fails: no property is violated, what should happen does happen, and the same seed
//! is the same world. `SEEDS=A..B` widens the search.

use std::collections::BTreeSet;

use tanist_protocol::message::RoleState;
use tanist_sim::coverage::Coverage;
use tanist_sim::lun::CommandSet;
use tanist_sim::pairs::{AgentState, DRAINING, Impossible, MachineState};
use tanist_sim::scenario::Scenario;
use tanist_sim::{Run, run, run_calm, run_cut};

fn seeds() -> std::ops::Range<u64> {
    let given = std::env::var("SEEDS").ok();
    let parsed = given.as_deref().and_then(|text| {
        let (from, to) = text.split_once("..")?;
        Some(from.parse().ok()?..to.parse().ok()?)
    });
    assert!(given.is_none() || parsed.is_some(), "SEEDS must be A..B");
    parsed.unwrap_or(0..5000)
}

/// So many worlds are needed to see the rarest state meet every fault.
const WAITING_WORLDS: u64 = 1500;

/// A world in which faults lie in wait for a process that is granted an epoch while I/O of its own is still under way.
///
/// Every other one waits for nothing else: whoever waits for two states mostly meets the more frequent one.
fn in_wait(mut scenario: Scenario, seed: u64) -> Scenario {
    let fenced = MachineState::Agent(AgentState::In(RoleState::Fenced));
    scenario.ambush = if seed.is_multiple_of(2) { vec![DRAINING] } else { vec![fenced, DRAINING] };
    (scenario.slow_writes, scenario.restores) = (true, true);
    scenario.reserving = seed.is_multiple_of(3).then_some(CommandSet::Scsi);
    scenario.kernel_lock |= scenario.reserving.is_some();
    scenario.lock_beside &= scenario.reserving.is_none();
    scenario.stuck_closes_per_mille = 300;
    scenario
}

#[test]
fn no_property_is_violated_and_everything_happens() {
    let mut coverage = Coverage::default();
    let mut failures = Vec::new();
    let seeds = seeds();
    let many = seeds.end - seeds.start >= 5000;
    let mut pairs = BTreeSet::new();
    for seed in seeds {
        let report = run(seed, None, false);
        coverage.add(&report.coverage);
        assert!(report.coverage.faults >= 20, "seed {seed}");
        pairs.extend(report.pairs);
        if let Some(violation) = report.violation {
            failures.push(format!("{violation}\n    cargo run -p tanist-sim -- --verbose {seed}"));
        }
    }
    assert!(failures.is_empty(), "{} seeds fail:\n{}", failures.len(), failures.join("\n"));
    let never: Vec<_> = coverage.counts().into_iter().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
    assert!(!many || never.is_empty(), "the simulator never saw: {}", never.join(", "));
    for seed in 0..if many { WAITING_WORLDS } else { 0 } {
        let report = Run::of(seed).report_shaped(|scenario| in_wait(scenario, seed));
        pairs.extend(report.pairs);
        assert_eq!(report.violation, None, "seed {seed} of the worlds that lie in wait");
    }
    let impossible = Impossible::parse(include_str!("../impossible.txt")).unwrap();
    let wrong = impossible.judge(&pairs);
    assert!(!many || wrong.is_empty(), "{} pairs of a state and a fault:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_same_seed_is_the_same_world() {
    for seed in 0..40 {
        let (first, again) = (run(seed, None, false), run(seed, None, true));
        assert_eq!(first.hash, again.hash, "seed {seed}");
        assert!(!again.log.is_empty());
    }
    assert_ne!(run(1, None, false).hash, run(2, None, false).hash);
}

/// L3: no takeover while the acting agent is healthy and reachable.
#[test]
fn nobody_is_replaced_without_a_fault() {
    let mut coverage = Coverage::default();
    for seed in 0..150 {
        let report = run_calm(seed, false);
        assert_eq!(report.violation, None, "seed {seed}");
        coverage.add(&report.coverage);
    }
    assert_eq!((coverage.takeovers, coverage.handovers, coverage.exhausted), (0, 0, 0));
    assert!(coverage.publications > 1000, "only {} publications in 150 calm minutes", coverage.publications);
}

/// L3: no takeover while the acting agent is healthy and a peer reaches it and the server; and the work goes on.
#[test]
fn nobody_is_replaced_whom_a_peer_can_carry() {
    let mut coverage = Coverage::default();
    for seed in 0..300 {
        let report = run_cut(seed, None, false);
        assert_eq!(report.violation, None, "seed {seed}");
        coverage.add(&report.coverage);
    }
    assert_eq!(coverage.takeovers, 0);
    assert!(coverage.relayed > 300 && coverage.direct_again > 300, "{coverage:?}");
    assert!(coverage.publications > 1000, "only {} publications in 300 minutes", coverage.publications);
}
