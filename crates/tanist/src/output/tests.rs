//! Freezes what people read and what programs parse: a change of a page or of a body shows as a change of a snapshot.

use std::time::Duration;

use serde::Serialize;
use tanist_model::api::{Health, RecoveryPointView, RefusalCode, RemovalView, ReplicationView, RunWaiting, StatusView};
use tanist_model::id::{RunId, SnapshotId};
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::removal::Remnant;
use tanist_model::replication::Side;
use tanist_model::run::RunState;
use tanist_model::takeover::Evidence;
use tanist_model::time::Timestamp;

use super::events::render_events;
use super::lists::{render_agents, render_recovery_points, render_replications, render_storage, render_volumes};
use super::matrix::render_check;
use super::plan::render_plan;
use super::progress::LineLog;
use super::record::render_verified;
use super::samples;
use super::show::{percent, render_hierarchies, render_show, speed};
use super::status::{exit_status, render_status};
use super::takeovers::render_takeovers;
use super::why::render_why;
use super::{Style, explain};

#[test]
fn show() {
    insta::assert_snapshot!(render_show(&samples::replication(), samples::style()));
}

#[test]
fn show_when_all_is_well() {
    insta::assert_snapshot!(render_show(&samples::quiet_replication(), samples::style()));
}

#[test]
fn show_of_a_networked_replication() {
    insta::assert_snapshot!(render_show(&samples::networked_replication(), samples::style()));
}

#[test]
fn what_is_being_overwritten_is_never_called_safe() {
    let mut view = samples::quiet_replication();
    assert!(render_show(&view, samples::style()).contains("safe as of"));
    (view.target_dirty, view.restorable_point) = (true, None);
    assert!(!render_show(&view, samples::style()).contains("safe as of"));
    view.last_recovery_point = None;
    assert!(render_show(&view, samples::style()).contains("NOTHING TO RESTORE"));
}

#[test]
fn an_rpo_is_missed_when_the_server_says_so() {
    let mut view = samples::quiet_replication();
    view.lag_seconds = None;
    assert!(render_show(&view, samples::style()).contains("RPO 15 min not yet due"));
    view.rpo_missed = true;
    assert!(render_show(&view, samples::style()).contains("RPO 15 min MISSED"));
    view.lag_seconds = Some(901);
    assert!(render_show(&view, samples::style()).contains("15 min 1 s, RPO 15 min MISSED"));
}

#[test]
fn hierarchies() {
    insta::assert_snapshot!(render_hierarchies(&samples::replication(), samples::style()));
}

#[test]
fn why() {
    insta::assert_snapshot!(render_why(&samples::why(), samples::style()));
}

#[test]
fn why_names_what_is_still_unproven() {
    let mut view = samples::why();
    view.takeovers[0].unproven.push(tanist_model::id::Epoch(2));
    view.takeovers[0].evidence = Evidence::BeatsMissed { silent_ms: 1004 };
    let text = render_why(&view, samples::style());
    assert!(text.contains("not proven quiet when the successor began: epoch 2"), "{text}");
    assert!(text.contains("it was silent for 1004 ms"), "{text}");
}

#[test]
fn takeovers() {
    insta::assert_snapshot!(render_takeovers(&samples::why(), samples::style()));
}

#[test]
fn a_verified_record_says_what_was_checked() {
    let verified = samples::verified_record();
    assert_eq!(verified.statement.contradictions(), []);
    insta::assert_snapshot!(render_verified(&verified, samples::style()));
}

#[test]
fn plan() {
    insta::assert_snapshot!(render_plan(&samples::plan(), samples::style()));
}

#[test]
fn check() {
    insta::assert_snapshot!(render_check(&samples::plan(), samples::style()));
}

#[test]
fn plan_of_a_networked_replication() {
    insta::assert_snapshot!(render_plan(&samples::networked_plan(), samples::style()));
}

#[test]
fn check_says_which_side_has_nobody_left() {
    let page = |plan: &tanist_model::api::Plan| render_check(plan, samples::style());
    let mut plan = samples::networked_plan();
    assert!(page(&plan).starts_with("db: no agent can write the target\n"), "{}", page(&plan));
    plan.matrix[1].ineligible_for.clear();
    assert!(page(&plan).starts_with("db: every agent can act\n"), "{}", page(&plan));
    let away = |side| tanist_model::api::Ineligibility { side, reason: "it is not connected".into() };
    plan.target_hierarchy.push(plan.source_hierarchy[0].clone());
    plan.matrix[0].ineligible_for = vec![away(Side::Target), away(Side::Source)];
    assert!(page(&plan).starts_with("db: no agent can read the source\n"), "{}", page(&plan));
    assert_eq!(page(&plan).matches("h1 is not eligible: it is not connected").count(), 1, "{}", page(&plan));
    assert!(page(&plan).contains("1 source, 2 target  h1"), "{}", page(&plan));
}

#[test]
fn lists() {
    let style = samples::style();
    let pages = [
        render_agents(&samples::agents(), style),
        render_storage(&samples::storage(), style),
        render_volumes(&samples::volumes(), style),
        render_replications(&[samples::replication(), samples::quiet_replication()], style),
        render_recovery_points(&samples::name(), &[samples::recovery_point()], false, style),
    ];
    insta::assert_snapshot!(pages.join("\n"));
}

#[test]
fn recovery_points_that_are_gone_are_counted_and_not_shown_as_verified() {
    let style = samples::style();
    let list = |points: &[RecoveryPointView], all| render_recovery_points(&samples::name(), points, all, style);
    let there = samples::recovery_point();
    let gone = RecoveryPointView { run: RunId(0x22bb), place: RecoveryPointPlace::Gone, ..there.clone() };
    let both = [there.clone(), gone.clone()];
    let rest = "1 is gone and not shown: tanist recovery-point list db --all\n";
    let short = list(&both, false);
    assert!(short.ends_with(rest) && short.matches(" yes ").count() == 1, "{short}");
    assert_eq!(short.lines().count(), 4, "{short}");
    let whole = list(&both, true);
    assert!(!whole.contains("not shown") && whole.matches(" yes ").count() == 1, "{whole}");
    assert_eq!(whole.lines().count(), 3, "{whole}");
    let none = list(&[gone], false);
    assert!(none.starts_with("no recovery point is there now") && none.ends_with(rest), "{none}");
}

#[test]
fn a_silent_agent_is_not_called_ready() {
    let mut agents = samples::agents();
    agents[0].silent = true;
    agents[0].last_beat_age_ms = Some(4258);
    let text = render_agents(&agents, samples::style());
    assert!(text.contains("h1     silent") && text.contains("4.2 s ago"), "{text}");
}

#[test]
fn an_agent_that_reads_for_another_says_so() {
    let mut agents = samples::agents();
    agents[0].reading_for = vec!["mail".parse().unwrap()];
    let text = render_agents(&agents, samples::style());
    assert!(text.contains("db,mail (reads)"), "{text}");
}

#[test]
fn lists_of_nothing_say_what_to_type() {
    let style = samples::style();
    assert!(render_agents(&[], style).contains("tanist token create"));
    assert!(render_replications(&[], style).contains("tanist replication create"));
}

#[test]
fn status() {
    insta::assert_snapshot!(render_status(&samples::status(), samples::style()));
}

#[test]
fn status_exits_like_a_monitoring_plugin() {
    let view = |degraded, stopped| StatusView { degraded, stopped, concerns: vec![], ..samples::status() };
    assert_eq!([view(0, 0), view(2, 0), view(2, 1)].map(|v| exit_status(&v)), [0, 1, 2]);
    let mut only_a_concern = view(0, 0);
    only_a_concern.concerns = samples::status().concerns;
    only_a_concern.concerns[0].health = Health::Stopped;
    assert_eq!(exit_status(&only_a_concern), 2);
}

#[test]
fn status_first_line_is_never_painted() {
    let style = Style { colour: true, ..samples::style() };
    assert!(render_status(&samples::status(), style).starts_with("3 ok, 1 degraded, 0 stopped\n"));
}

#[test]
fn events() {
    insta::assert_snapshot!(render_events(&samples::events(), samples::style()));
}

#[test]
fn explain_lists_all_codes() {
    insta::assert_snapshot!(explain::render_codes(samples::style()));
}

#[test]
fn no_line_ends_in_a_space() {
    for page in [
        render_show(&samples::replication(), samples::style()),
        render_why(&samples::why(), samples::style()),
        render_plan(&samples::plan(), samples::style()),
        render_agents(&samples::agents(), samples::style()),
    ] {
        assert!(page.lines().all(|line| !line.ends_with(' ')), "{page}");
    }
}

#[test]
fn a_run_is_only_done_when_everything_is() {
    let mut run = samples::run();
    run.done_bytes = run.size_bytes - 1;
    assert_eq!(percent(&run), 99);
    run.done_bytes = run.size_bytes;
    assert_eq!(percent(&run), 100);
    run.size_bytes = 0;
    assert_eq!(percent(&run), 100);
}

#[test]
fn a_removal_shows_what_it_has_to_clean_up() {
    let remnant = |certain| Remnant {
        side: Side::Target,
        volume: "san-b/vol9".parse().unwrap(),
        snapshot: SnapshotId(0xab),
        uid: Some("uid-1".into()),
        certain,
    };
    let removal = |leave_behind| RemovalView { leave_behind, snapshots: vec![remnant(true), remnant(false)] };
    let page = |leave_behind| {
        let view = ReplicationView { removal: Some(removal(leave_behind)), ..samples::quiet_replication() };
        render_show(&view, samples::style())
    };
    let lines = "  target snapshot 00000000000000ab of san-b/vol9 (uid uid-1)\n\
                 \x20 target snapshot 00000000000000ab of san-b/vol9 (uid uid-1), if it is there\n";
    assert!(page(false).contains(&format!("has to clean up\n{lines}")), "{}", page(false));
    assert!(page(true).contains(&format!("cleans up, or leaves behind\n{lines}")), "{}", page(true));
}

#[test]
fn long_identities_are_whole_in_show_and_cut_in_lists() {
    let identity = format!("{}/{}@1795342800.123456789", "0123456789abcdef".repeat(2), "0123-4567".repeat(3));
    let summary = format!("h1 sees another volume: {identity}");
    let view = ReplicationView { summary: summary.clone(), ..samples::replication() };
    let mut status = samples::status();
    status.concerns[0].summary = summary;
    let style = samples::style();
    assert!(render_show(&view, style).contains(&identity));
    assert!(!render_replications(&[view], style).contains(&identity));
    let page = render_status(&status, style);
    assert!(!page.contains(&identity) && page.contains("01234567…342800.123456789"), "{page}");
}

#[test]
fn time_left_is_told_only_with_a_rate() {
    let mut run = samples::run();
    assert!(speed(&run).contains("4 s left"));
    run.seconds_left = Some(0);
    assert!(!speed(&run).contains("left"), "{}", speed(&run));
    (run.seconds_left, run.rate_bytes_per_second) = (Some(4), 0);
    assert!(!speed(&run).contains("left"), "{}", speed(&run));
}

#[test]
fn a_run_that_waits_says_for_what_and_since_when() {
    let now = samples::style().now;
    let mut run = samples::run();
    (run.state, run.agent, run.rate_bytes_per_second, run.seconds_left) = (RunState::SnapshotPending, None, 0, None);
    let what = "host application pg on agent h1: quiesced for the snapshot, 60 s at most".to_owned();
    run.waiting = Some(RunWaiting { what: what.clone(), since: Timestamp(now.0 - 12_000_000) });
    let mut log = LineLog::default();
    let line = log.line(&run, now).unwrap();
    let expected = format!("waiting for its source snapshot; since 2026-11-22 14:03:48Z (12 s) it waits for {what}");
    assert_eq!(line, format!("run 3f2a9c01, {expected}"));
    assert_eq!(log.line(&run, now.plus(Duration::from_secs(1))), None);
    run.waiting.as_mut().unwrap().what = "a free slot".to_owned();
    assert!(log.line(&run, now.plus(Duration::from_secs(1))).is_some(), "another reason is told at once");

    let mut view = samples::replication();
    view.run = Some(run);
    assert!(render_show(&view, samples::style()).contains("it waits for a free slot\n"));
}

#[test]
fn plain_progress_speaks_when_something_changed() {
    let mut log = LineLog::default();
    let mut run = samples::run();
    let start = Timestamp(0);
    let first = log.line(&run, start).unwrap();
    assert_eq!(first, "run 3f2a9c01, copying on h2: 60 %, 312 MiB of 512 MiB, 48 MiB/s, 4 s left, limit: bandwidth");
    assert_eq!(log.line(&run, start.plus(Duration::from_secs(9))), None);
    assert!(log.line(&run, start.plus(Duration::from_secs(10))).is_some(), "a sign of life every ten seconds");
    run.state = RunState::Verifying;
    assert!(log.line(&run, start.plus(Duration::from_secs(11))).is_some());
}

/// The JSON form of every body, as `--output json` prints it.
#[test]
fn json_schema() {
    insta::assert_snapshot!("json_replication", json(&samples::replication()));
    insta::assert_snapshot!("json_plan", json(&samples::plan()));
    insta::assert_snapshot!("json_agents", json(&samples::agents()));
    insta::assert_snapshot!("json_storage", json(&samples::storage()));
    insta::assert_snapshot!("json_volumes", json(&samples::volumes()));
    insta::assert_snapshot!("json_recovery_point", json(&samples::recovery_point()));
    insta::assert_snapshot!("json_status", json(&samples::status()));
    insta::assert_snapshot!("json_events", json(&samples::events()));
    insta::assert_snapshot!("json_why", json(&samples::why()));
    insta::assert_snapshot!("json_done", json(&samples::done()));
    insta::assert_snapshot!("json_token", json(&samples::token()));
    insta::assert_snapshot!("json_whoami", json(&samples::whoami()));
    let refusal = tanist_model::api::Refusal::new(RefusalCode::Guarded, "error").cause("cause").hint("hint");
    insta::assert_snapshot!("json_refusal", json(&refusal));
}

fn json(body: &impl Serialize) -> String {
    serde_json::to_string_pretty(body).unwrap()
}
