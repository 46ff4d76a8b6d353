//! The way to the server, step by step.

use tanist_model::id::{ClusterId, Term};

use super::*;

const MS: u64 = 1000;

fn at(ms: u64) -> Monotonic {
    Monotonic(ms * MS)
}

fn agent(name: &str) -> AgentName {
    AgentName::new(name).unwrap()
}

fn through(name: &str) -> Way {
    Way::Through(agent(name))
}

fn watch(number: u64, names: &[&str]) -> ServerMessage {
    let peers = names.iter().map(|name| PeerAddress { agent: agent(name), address: format!("{name}:1") }).collect();
    let number = OrderNumber { term: Term(1), number };
    ServerMessage::Watch { number, peers, volumes: Vec::new(), failover: true }
}

fn welcome(answers_beats: bool) -> ServerMessage {
    ServerMessage::Welcome { term: Term(1), cluster: ClusterId(1), answers_beats }
}

fn dialled(steps: &[WayStep]) -> Vec<(Attempt, Way)> {
    let dial = |step: &WayStep| match step {
        WayStep::Dial { attempt, way, .. } => Some((*attempt, way.clone())),
        _ => None,
    };
    steps.iter().filter_map(dial).collect()
}

/// Connected directly at 0 ms, with two peers; the server answers beats.
fn connected() -> WayFinder {
    let mut finder = WayFinder::new(Timers::DEFAULT, at(0), Vec::new());
    let steps = finder.tick(at(0));
    assert_eq!(dialled(&steps), [(Attempt(1), Way::Direct)]);
    let steps = finder.established(at(0), Attempt(1));
    assert_eq!(steps, [WayStep::Take { attempt: Attempt(1), way: Way::Direct }]);
    finder.heard(at(0), &welcome(true));
    finder.heard(at(0), &watch(1, &["b", "c"]));
    assert_eq!(finder.deadline(), None);
    finder
}

/// Cut off at 1000 ms, and carried by b from 1150 ms on; the direct attempt hangs.
fn relayed() -> (WayFinder, Attempt) {
    let mut finder = connected();
    finder.beat_said(at(0), 1);
    let direct = dialled(&finder.tick(at(1000)));
    assert_eq!(direct[0].1, Way::Direct);
    let relay = dialled(&finder.tick(at(1150)));
    assert_eq!(relay[0].1, through("b"));
    let steps = finder.established(at(1170), relay[0].0);
    assert_eq!(steps, [WayStep::Take { attempt: relay[0].0, way: through("b") }]);
    finder.heard(at(1170), &welcome(true));
    (finder, direct[0].0)
}

#[test]
fn silence_has_a_limit_and_peers_follow_one_after_the_other() {
    let mut finder = connected();
    finder.beat_said(at(100), 1);
    finder.beat_said(at(350), 2);
    assert_eq!(finder.deadline(), Some(at(1100)));
    finder.heard(at(400), &ServerMessage::Heard { number: 1 });
    assert_eq!(finder.tick(at(1349)), []);
    assert_eq!(dialled(&finder.tick(at(1350))), [(Attempt(2), Way::Direct)]);
    assert_eq!(finder.deadline(), Some(at(1500)));
    assert_eq!(dialled(&finder.tick(at(1500))), [(Attempt(3), through("b"))]);
    assert_eq!(dialled(&finder.tick(at(1650))), [(Attempt(4), through("c"))]);
    let steps = finder.established(at(1651), Attempt(4));
    let expected = [WayStep::Take { attempt: Attempt(4), way: through("c") }, WayStep::Drop(Attempt(3))];
    assert_eq!(steps, expected, "the direct attempt goes on");
}

#[test]
fn a_server_that_answers_no_beats_is_not_suspected() {
    let mut finder = connected();
    finder.heard(at(0), &welcome(false));
    finder.beat_said(at(100), 1);
    assert_eq!((finder.tick(at(60_000)), finder.deadline()), (vec![], None));
}

#[test]
fn a_connection_without_a_welcome_is_not_waited_on_for_ever() {
    let mut finder = WayFinder::new(Timers::DEFAULT, at(0), Vec::new());
    finder.tick(at(0));
    finder.established(at(10), Attempt(1));
    assert_eq!(finder.deadline(), Some(at(5010)));
    assert_eq!(dialled(&finder.tick(at(5009))), []);
    assert_eq!(dialled(&finder.tick(at(5010))), [(Attempt(2), Way::Direct)]);
    let steps = finder.heard(at(5020), &welcome(true));
    assert_eq!(steps, [WayStep::Drop(Attempt(2))], "it comes after all");
}

#[test]
fn a_late_answer_ends_the_search() {
    let mut finder = connected();
    finder.beat_said(at(0), 1);
    let attempts = [dialled(&finder.tick(at(1000))), dialled(&finder.tick(at(1200)))].concat();
    let steps = finder.heard(at(1250), &ServerMessage::Heard { number: 1 });
    assert_eq!(steps, [WayStep::Drop(attempts[1].0), WayStep::Drop(attempts[0].0)]);
    assert_eq!(finder.way(), Some(&Way::Direct));
}

#[test]
fn a_relayed_agent_returns_to_the_direct_way() {
    let (mut finder, direct) = relayed();
    let steps = finder.established(at(1500), direct);
    assert_eq!(steps, [WayStep::Take { attempt: direct, way: Way::Direct }]);
    finder.heard(at(1510), &welcome(true));
    assert_eq!(finder.deadline(), None);
}

#[test]
fn a_direct_attempt_that_hangs_is_begun_anew() {
    let (mut finder, direct) = relayed();
    assert_eq!(finder.deadline(), Some(at(3000)));
    assert_eq!(finder.tick(at(3000)), [WayStep::Drop(direct)]);
    let again = dialled(&finder.tick(finder.deadline().unwrap()));
    assert_eq!(again[0].1, Way::Direct);
    assert_eq!(finder.established(at(5100), direct), [WayStep::Drop(direct)], "too late");
}

#[test]
fn a_direct_way_that_does_not_hold_is_tried_less_and_less_often() {
    let (mut finder, mut direct) = relayed();
    let mut pauses = Vec::new();
    let mut now = 2000;
    for beat in 2..9 {
        finder.established(at(now), direct);
        finder.heard(at(now), &welcome(true));
        finder.beat_said(at(now), beat);
        now += 1000;
        let again = dialled(&finder.tick(at(now)));
        finder.failed(at(now), again[0].0, DialFailure::Silent);
        now += 150;
        let again = dialled(&finder.tick(at(now)));
        let [(direct_again, Way::Direct), (relay, Way::Through(_))] = &again[..] else { panic!("{again:?}") };
        finder.established(at(now), *relay);
        finder.heard(at(now), &welcome(true));
        finder.failed(at(now), *direct_again, DialFailure::Silent);
        let due = finder.deadline().unwrap();
        pauses.push(due.since(at(now)).as_secs());
        now = due.0 / MS;
        direct = dialled(&finder.tick(due))[0].0;
    }
    assert_eq!(pauses, [4, 8, 16, 30, 30, 30, 30]);
}

#[test]
fn a_refusing_host_is_a_server_that_starts() {
    let mut finder = connected();
    finder.ended(at(0), Attempt(1), Ended::Lost);
    let (mut now, mut attempt) = (at(50), dialled(&finder.tick(at(50)))[0].0);
    loop {
        finder.failed(now, attempt, DialFailure::Refused);
        now = finder.deadline().unwrap();
        let next = dialled(&finder.tick(now));
        if now >= at(3050) {
            break;
        }
        assert!(next.len() == 1 && next[0].1 == Way::Direct, "{now:?}: {next:?}");
        attempt = next[0].0;
    }
}

#[test]
fn peers_are_asked_when_the_refusal_lasts() {
    let mut finder = connected();
    finder.ended(at(0), Attempt(1), Ended::Lost);
    let direct = dialled(&finder.tick(at(50)))[0].0;
    finder.failed(at(50), direct, DialFailure::Refused);
    let asked: Vec<Way> = dialled(&finder.tick(at(3050))).into_iter().map(|(_, way)| way).collect();
    assert_eq!(asked, [Way::Direct, through("b"), through("c")]);
}

#[test]
fn another_relay_follows_when_the_relay_is_gone() {
    let (mut finder, direct) = relayed();
    finder.failed(at(1800), direct, DialFailure::Silent);
    let relay = finder.connection().unwrap();
    let steps = finder.ended(at(2000), relay, Ended::Lost);
    assert_eq!(steps, [], "an end is not answered at once");
    assert_eq!(dialled(&finder.tick(at(2050)))[0].1, Way::Direct);
    assert_eq!(dialled(&finder.tick(at(2150)))[0].1, through("c"), "the one that failed comes last");
}

#[test]
fn who_is_refused_waits_on_every_way() {
    let mut finder = connected();
    assert_eq!(finder.ended(at(0), Attempt(1), Ended::Refused), []);
    assert_eq!(finder.deadline(), Some(at(5000)));
    let attempt = dialled(&finder.tick(at(5000)))[0].0;
    finder.failed(at(5000), attempt, DialFailure::Unwanted);
    assert_eq!(finder.deadline(), Some(at(15_000)));
}

#[test]
fn a_renewed_certificate_is_shown_on_the_present_way() {
    let mut finder = connected();
    let again = dialled(&finder.renew(at(10)));
    assert_eq!(again[0].1, Way::Direct);
    let steps = finder.established(at(20), again[0].0);
    assert_eq!(steps, [WayStep::Take { attempt: again[0].0, way: Way::Direct }]);
    let (mut finder, direct) = relayed();
    finder.failed(at(1800), direct, DialFailure::Silent);
    let again = dialled(&finder.renew(at(1900)));
    assert_eq!(again.last().map(|(_, way)| way.clone()), Some(through("b")));
}

#[test]
fn peers_are_remembered_and_an_older_assignment_changes_nothing() {
    let mut finder = connected();
    finder.heard(at(0), &watch(3, &["c"]));
    finder.heard(at(0), &watch(2, &["b"]));
    finder.ended(at(0), Attempt(1), Ended::Lost);
    let asked: Vec<Way> = dialled(&finder.tick(at(500))).into_iter().map(|(_, way)| way).collect();
    assert_eq!(asked, [Way::Direct, through("c")]);
}

#[test]
fn a_process_that_starts_cut_off_asks_the_peers_of_the_one_before() {
    let peer = |name: &str| PeerAddress { agent: agent(name), address: format!("{name}:1") };
    let mut finder = WayFinder::new(Timers::DEFAULT, at(0), vec![peer("b"), peer("c")]);
    assert_eq!(dialled(&finder.tick(at(0))), [(Attempt(1), Way::Direct)]);
    assert!(dialled(&finder.tick(at(2000))).is_empty(), "the direct way has its time");
    assert_eq!(dialled(&finder.tick(at(2150))), [(Attempt(2), through("b"))]);
    assert_eq!(dialled(&finder.tick(at(2300))), [(Attempt(3), through("c"))]);
    let steps = finder.established(at(2310), Attempt(3));
    assert!(steps.contains(&WayStep::Take { attempt: Attempt(3), way: through("c") }), "{steps:?}");
}

#[test]
fn agents_that_lose_one_server_come_back_at_moments_of_their_own() {
    let due = |entropy: u128| {
        let mut finder = WayFinder::new(Timers::DEFAULT, at(0), Vec::new()).spread_by(entropy);
        let first = dialled(&finder.tick(at(0)))[0].0;
        finder.failed(at(0), first, DialFailure::Refused);
        finder.deadline().unwrap().since(at(0))
    };
    let pauses: Vec<Duration> = (0..100).map(due).collect();
    assert!(pauses.iter().all(|pause| (FIRST_PAUSE / 2..=FIRST_PAUSE).contains(pause)), "{pauses:?}");
    let distinct: std::collections::BTreeSet<_> = pauses.iter().collect();
    assert!(distinct.len() > 80, "{} of 100", distinct.len());
}
