//! What every store must do, run over every store there is.

mod support;

use std::num::NonZeroU32;

use support::{
    Random, agent, agent_name, command, conditional, credential, current, event, plain, put_replication,
    recovery_point, replication, replication_name, run, takeover, token,
};
use tanist_model::change::{Change, Condition, GroupOutcome, Transaction};
use tanist_model::event::{Event, Severity};
use tanist_model::history::Touched;
use tanist_model::id::{CommandId, Epoch, EventSeq, ReplicationId, RunId, Term};
use tanist_model::run::RunState;
use tanist_model::state::State;
use tanist_store::{
    EventQuery, EventRetention, EventWindow, MemoryStore, SqliteStore, Store, StoreError, StoreFailure,
};

const RETENTION: EventRetention = EventRetention { kept: 20, prune_every: NonZeroU32::new(10).unwrap() };

macro_rules! conformance {
    ($($test:ident)*) => {
        mod memory {
            $(#[tokio::test] async fn $test() {
                super::$test(&super::MemoryStore::with_retention(super::RETENTION)).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test] async fn $test() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("state.db");
                super::$test(&super::SqliteStore::open_with(&path, super::RETENTION).await.unwrap()).await;
            })*
        }
    };
}

conformance! {
    terms_only_grow
    a_deposed_writer_has_no_effect
    a_burst_stands_or_falls_by_group
    groups_see_the_groups_before_them
    current_checks_epochs_and_incarnation
    a_name_is_taken_once
    events_keep_their_order_and_filters
    event_numbers_survive_pruning
    a_deleted_replication_takes_its_history_along
    a_command_result_is_stored_once_by_id
    history_is_bounded
    random_transactions_equal_the_model
}

async fn must_apply(store: &dyn Store, transaction: &Transaction) {
    let outcomes = store.commit(transaction).await.unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == GroupOutcome::Applied), "{outcomes:?}");
}

async fn messages(store: &dyn Store, query: &EventQuery) -> Vec<(u64, String)> {
    store.events(query).await.unwrap().into_iter().map(|e| (e.seq.0, e.message)).collect()
}

async fn terms_only_grow(store: &dyn Store) {
    assert_eq!(store.load().await.unwrap(), State::default());
    assert_eq!(store.begin_term().await.unwrap(), Term(1));
    assert_eq!(store.begin_term().await.unwrap(), Term(2));
    assert_eq!(store.load().await.unwrap().term, Term(2));
}

async fn a_deposed_writer_has_no_effect(store: &dyn Store) {
    let old = store.begin_term().await.unwrap();
    let new = store.begin_term().await.unwrap();
    let before = store.load().await.unwrap();
    let transaction = plain(old, vec![Change::PutAgent(agent("h1", 0.0)), event("late", None, None)]);
    let refused = store.commit(&transaction).await;
    assert!(matches!(&refused, Err(StoreError::Deposed { stored }) if *stored == new), "{refused:?}");
    assert!(!refused.unwrap_err().is_transient());
    assert_eq!(store.load().await.unwrap(), before);
    assert!(store.events(&EventQuery::latest(10)).await.unwrap().is_empty());
    let from_the_future = store.commit(&plain(Term(new.0 + 1), vec![])).await;
    assert!(matches!(from_the_future, Err(StoreError::Deposed { .. })));
}

async fn a_burst_stands_or_falls_by_group(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let records = (1..=3).map(|id| put_replication(replication(id, &format!("r{id}"), 4, Some(9)))).collect();
    must_apply(store, &plain(term, records)).await;
    let take_over = |id: u64, from: u32| {
        let record = put_replication(replication(id, &format!("r{id}"), from + 1, Some(10)));
        (current(id, from, Some(9)), vec![event(&format!("takeover of {id}"), None, None), record])
    };
    let burst = conditional(term, vec![take_over(1, 4), take_over(2, 3), take_over(3, 4)]);
    let outcomes = store.commit(&burst).await.unwrap();
    assert_eq!(outcomes, [GroupOutcome::Applied, GroupOutcome::Refused, GroupOutcome::Applied]);
    let epochs: Vec<u32> = store.load().await.unwrap().replications.values().map(|r| r.epochs.target.0).collect();
    assert_eq!(epochs, [5, 4, 5]);
    let told = messages(store, &EventQuery::latest(10)).await;
    assert_eq!(told, [(1, "takeover of 1".to_owned()), (2, "takeover of 3".to_owned())]);
}

async fn groups_see_the_groups_before_them(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let raise = |from: u32| (current(1, from, Some(9)), vec![put_replication(replication(1, "r", from + 1, Some(9)))]);
    must_apply(store, &plain(term, vec![put_replication(replication(1, "r", 1, Some(9)))])).await;
    let outcomes = store.commit(&conditional(term, vec![raise(1), raise(2), raise(2)])).await.unwrap();
    assert_eq!(outcomes, [GroupOutcome::Applied, GroupOutcome::Applied, GroupOutcome::Refused]);
    assert_eq!(store.load().await.unwrap().replications[&ReplicationId(1)].epochs.target.0, 3);
}

async fn current_checks_epochs_and_incarnation(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let records = vec![
        put_replication(replication(1, "held", 4, Some(9))),
        put_replication(replication(2, "free", u32::MAX, None)),
    ];
    must_apply(store, &plain(term, records)).await;
    let mut other_source = current(1, 4, Some(9));
    if let Condition::Current { epochs, .. } = &mut other_source {
        epochs.source.0 = 5;
    }
    let cases = [
        (current(1, 4, Some(9)), true),
        (current(1, 4, Some(8)), false),
        (current(1, 4, None), false),
        (current(1, 5, Some(9)), false),
        (other_source, false),
        (current(2, u32::MAX, None), true),
        (current(2, u32::MAX, Some(0)), false),
        (current(3, 4, None), false),
    ];
    for (condition, allowed) in cases {
        let outcomes = store.commit(&conditional(term, vec![(condition.clone(), vec![])])).await.unwrap();
        assert_eq!(outcomes == [GroupOutcome::Applied], allowed, "{condition:?}");
    }
}

async fn a_name_is_taken_once(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let create = |id| {
        let free = Condition::NameFree { name: replication_name("db") };
        (free, vec![put_replication(replication(id, "db", 0, None))])
    };
    let outcomes = store.commit(&conditional(term, vec![create(1), create(2)])).await.unwrap();
    assert_eq!(outcomes, [GroupOutcome::Applied, GroupOutcome::Refused]);
    must_apply(store, &plain(term, vec![Change::DeleteReplication(ReplicationId(1))])).await;
    must_apply(store, &conditional(term, vec![create(3)])).await;
    assert!(store.load().await.unwrap().replications.contains_key(&ReplicationId(3)));
}

async fn events_keep_their_order_and_filters(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let changes = vec![
        event("a", Some("db"), None),
        event("b", Some("web"), Some("h1")),
        event("c", None, Some("h1")),
        event("d", Some("db"), Some("h1")),
    ];
    must_apply(store, &plain(term, changes)).await;
    let ask = async |query: EventQuery| messages(store, &query).await.into_iter().map(|(_, m)| m).collect::<String>();
    let all = EventQuery::after(EventSeq(0), 10);
    let (db, h1) = (Some(replication_name("db")), Some(agent_name("h1")));
    assert_eq!(ask(all.clone()).await, "abcd");
    assert_eq!(ask(EventQuery::after(EventSeq(2), 10)).await, "cd");
    assert_eq!(ask(EventQuery::after(EventSeq(1), 2)).await, "bc");
    assert_eq!(ask(EventQuery::after(EventSeq(u64::MAX), 2)).await, "");
    assert_eq!(ask(EventQuery::latest(3)).await, "bcd");
    assert_eq!(ask(EventQuery { replication: db.clone(), ..all.clone() }).await, "ad");
    assert_eq!(ask(EventQuery { agent: h1.clone(), ..all.clone() }).await, "bcd");
    assert_eq!(ask(EventQuery { agent: h1.clone(), replication: db, ..all.clone() }).await, "d");
    assert_eq!(ask(EventQuery { agent: h1, window: EventWindow::Latest(1), ..all }).await, "d");
    let first: Event = store.events(&EventQuery::latest(4)).await.unwrap().swap_remove(0);
    assert_eq!((first.severity, first.replication), (Severity::Alarm, Some(replication_name("db"))));
}

async fn event_numbers_survive_pruning(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let batch = |from: u64, to: u64| plain(term, (from..=to).map(|n| event(&n.to_string(), None, None)).collect());
    must_apply(store, &batch(1, 39)).await;
    let kept = messages(store, &EventQuery::latest(100)).await;
    assert_eq!((kept.len(), kept[0].0, kept[19].0), (20, 20, 39));
    must_apply(store, &batch(40, 43)).await;
    let kept = messages(store, &EventQuery::latest(100)).await;
    assert_eq!((kept.len(), kept[0].0, kept[19].0), (20, 24, 43));
    must_apply(store, &batch(44, 44)).await;
    let kept = messages(store, &EventQuery::after(EventSeq(23), 100)).await;
    assert_eq!((kept.len(), &kept[20]), (21, &(44, "44".to_owned())), "pruned only now and then");
}

async fn a_deleted_replication_takes_its_history_along(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let of = |id: u64| {
        vec![
            put_replication(replication(id, &format!("r{id}"), 1, None)),
            Change::PutRun(Box::new(run(id, 5, RunState::Copying, 1))),
            Change::PutRecoveryPoint(Box::new(recovery_point(id, 4, false, 1))),
            Change::PutTakeover(Box::new(takeover(id, 1))),
            event("kept", Some(&format!("r{id}")), None),
        ]
    };
    must_apply(store, &plain(term, of(1))).await;
    let only_one = store.load().await.unwrap();
    must_apply(store, &plain(term, of(2))).await;
    must_apply(store, &plain(term, vec![Change::DeleteReplication(ReplicationId(2))])).await;
    assert_eq!(store.load().await.unwrap(), only_one);
    assert_eq!(store.events(&EventQuery::latest(10)).await.unwrap().len(), 2, "events stay");
}

async fn a_command_result_is_stored_once_by_id(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let put = |id, at, body| plain(term, vec![Change::PutCommandResult(command(id, at, body))]);
    must_apply(store, &put(1, 1, "first")).await;
    must_apply(store, &put(1, 2, "again")).await;
    must_apply(store, &put(2, 2, "other")).await;
    let commands = store.load().await.unwrap().commands;
    assert_eq!(commands.len(), 2);
    assert_eq!(commands[&CommandId(1)], command(1, 2, "again"));
}

async fn history_is_bounded(store: &dyn Store) {
    let term = store.begin_term().await.unwrap();
    let kept = State::HISTORY_PER_REPLICATION as u64;
    let mut record = replication(1, "r", 1, None);
    record.target_dirty = Some(RunId(2));
    must_apply(store, &plain(term, vec![put_replication(record)])).await;
    let step = |n: u64| {
        let at = i64::try_from(n).unwrap();
        vec![
            Change::PutRun(Box::new(run(1, n, RunState::Abandoned, at))),
            Change::PutRun(Box::new(run(1, 10_000 + n, RunState::Copying, at))),
            Change::PutRecoveryPoint(Box::new(recovery_point(1, n, true, at))),
            Change::PutRecoveryPoint(Box::new(recovery_point(1, 10_000 + n, false, at))),
            Change::PutTakeover(Box::new(takeover(1, u32::try_from(n).unwrap()))),
        ]
    };
    must_apply(store, &plain(term, (1..=kept + 5).flat_map(step).collect())).await;
    let state = store.load().await.unwrap();
    let finished: Vec<u64> = state.runs.values().filter(|r| r.state.is_finished()).map(|r| r.id.0).collect();
    let expected: Vec<u64> = [2].into_iter().chain(6..=kept + 5).collect();
    assert_eq!(finished, expected, "the newest, and the one the replication refers to");
    assert_eq!(state.runs.len() as u64, expected.len() as u64 + kept + 5);
    assert_eq!(state.recovery_points.len() as u64, 2 * kept + 5);
    assert_eq!(state.takeovers.keys().next(), Some(&(ReplicationId(1), 6)));
    let results =
        (0..State::COMMAND_RESULTS as u32 + 3).map(|n| Change::PutCommandResult(command(n.into(), n.into(), "x")));
    must_apply(store, &plain(term, results.collect())).await;
    let commands = store.load().await.unwrap().commands;
    assert_eq!((commands.len(), commands.keys().next()), (State::COMMAND_RESULTS, Some(&CommandId(3))));
}

async fn random_transactions_equal_the_model(store: &dyn Store) {
    let seed = std::env::var("TANIST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x7a91_57aa);
    println!("TANIST_SEED={seed}");
    let mut random = Random(seed);
    let mut mirror = State { term: store.begin_term().await.unwrap(), ..State::default() };
    let (mut refused, mut events) = (0, 0);
    for step in 0..500 {
        let groups = (0..random.below(4)).map(|_| random_group(&mut random, &mirror)).collect();
        let transaction = conditional(mirror.term, groups);
        let expected = apply_to_model(&mut mirror, &transaction, &mut events);
        assert_eq!(store.commit(&transaction).await.unwrap(), expected, "seed {seed}, step {step}");
        refused += expected.iter().filter(|outcome| **outcome == GroupOutcome::Refused).count();
        if step % 50 == 0 {
            assert_eq!(store.load().await.unwrap(), mirror, "seed {seed}, step {step}");
        }
    }
    assert_eq!(store.load().await.unwrap(), mirror, "seed {seed}");
    assert!(refused > 20, "seed {seed}: only {refused} groups were refused");
    let last = store.events(&EventQuery::latest(1)).await.unwrap();
    assert_eq!(last[0].seq, EventSeq(events), "seed {seed}");
}

fn apply_to_model(mirror: &mut State, transaction: &Transaction, events: &mut u64) -> Vec<GroupOutcome> {
    let mut touched = Touched::default();
    let mut outcomes = Vec::new();
    for group in &transaction.groups {
        if !mirror.allows(&group.condition) {
            outcomes.push(GroupOutcome::Refused);
            continue;
        }
        for change in &group.changes {
            mirror.apply(change);
            touched.note(change);
            *events += u64::from(matches!(change, Change::AppendEvent(_)));
        }
        outcomes.push(GroupOutcome::Applied);
    }
    touched.prune(mirror);
    outcomes
}

fn random_group(random: &mut Random, mirror: &State) -> (Condition, Vec<Change>) {
    let condition = match random.below(3) {
        0 => Condition::Term,
        1 => Condition::NameFree { name: replication_name(&format!("r{}", random.below(6))) },
        _ => random_current(random, mirror),
    };
    let changes = (0..random.below(12)).map(|_| random_change(random)).collect();
    (condition, changes)
}

/// Mostly true, often off by one epoch.
fn random_current(random: &mut Random, mirror: &State) -> Condition {
    let record = mirror.replications.values().nth(random.below(5) as usize);
    let Some(record) = record else { return current(random.below(5), 1, None) };
    let incarnation = record.holder.as_ref().map(|holder| holder.incarnation.0);
    current(record.id.0, record.epochs.target.0 + u32::from(random.below(3) == 0), incarnation)
}

fn random_change(random: &mut Random) -> Change {
    let (id, at) = (random.below(5), i64::try_from(random.below(1000)).unwrap());
    let number = random.below(400);
    // Two replications are busy enough for their history to be pruned.
    let busy = random.below(2);
    let states = [RunState::Copying, RunState::Published, RunState::Abandoned];
    let run_state = states[random.below(3) as usize];
    match random.below(20) {
        0 => Change::PutAgent(agent(&format!("h{id}"), random.next() as f64 / 3e17)),
        1..=3 => put_replication(random_replication(random, id)),
        4 if number < 10 => Change::DeleteReplication(ReplicationId(id)),
        5 => Change::SetRestoring(number.is_multiple_of(2)),
        6 => Change::PutToken(token(&format!("{number:x}"))),
        7 => Change::PutCredential(credential(&format!("{id:x}"), number.is_multiple_of(2))),
        8 => Change::PutCommandResult(command(random.next().into(), at, "x")),
        9 if number < 200 => Change::NoteRemovedEpoch(Epoch(u32::try_from(number).unwrap())),
        9 => event("x", Some("db"), None),
        10..=13 => Change::PutRun(Box::new(run(busy, number, run_state, at))),
        14..=16 => Change::PutRecoveryPoint(Box::new(recovery_point(busy, number, !number.is_multiple_of(5), at))),
        _ => Change::PutTakeover(Box::new(takeover(busy, u32::try_from(number).unwrap()))),
    }
}

fn random_replication(random: &mut Random, id: u64) -> tanist_model::replication::ReplicationRecord {
    let incarnation = random.below(3).checked_sub(1).map(u128::from);
    let mut record = replication(id, &format!("r{id}"), u32::try_from(random.below(4)).unwrap(), incarnation);
    record.run = Some(RunId(random.below(400)));
    record.target_dirty = (random.below(2) == 0).then(|| RunId(random.below(400)));
    record.published = (random.below(2) == 0).then(|| RunId(random.below(400)));
    record
}

#[tokio::test]
async fn a_memory_store_fails_when_told_to_and_recovers() {
    let store = MemoryStore::new();
    let term = store.begin_term().await.unwrap();
    store.fail_with(Some(StoreFailure::Full));
    let failed = store.commit(&plain(term, vec![Change::SetRestoring(true)])).await.unwrap_err();
    assert!(matches!(failed, StoreError::Full { .. }) && failed.is_transient());
    assert!(store.begin_term().await.is_err());
    assert_eq!(store.load().await.unwrap(), State { term, ..State::default() });
    store.fail_with(None);
    must_apply(&store, &plain(term, vec![Change::SetRestoring(true)])).await;
}

#[tokio::test]
async fn a_memory_store_refuses_to_wrap_its_term() {
    let state = State { term: Term(tanist_store::NUMBER_MAX), ..State::default() };
    let store = MemoryStore::with_state(state.clone());
    assert!(matches!(store.begin_term().await, Err(StoreError::Overflow { .. })));
    assert_eq!(store.load().await.unwrap(), state);
}
