//! The sequence by itself: what it asks, what it refuses, and that it ends whatever it is told. That it is *right* is explored in all orders
//! by `crates/explore`.

use proptest::prelude::*;
use tanist_model::agent::AgentSlot;
use tanist_model::id::{ClusterId, Epoch};

use super::key::{ClusterTag, ReservationKey, SlotTag};
use super::seizure::{Refusal, Seizure, Step};
use super::{RawKey, Reservation, ReservationAnswer as Answer, ReservationCommand as Command, ReservationKind, Taken};
use crate::mutation::Mutations;

const STRANGER: RawKey = RawKey(0x0123_4567_89ab_cdef);

fn key(epoch: u32) -> ReservationKey {
    ReservationKey { cluster: ClusterTag::of(ClusterId(7)), slot: SlotTag::of(AgentSlot(3)), epoch: Epoch(epoch) }
}

fn held_by(holder: RawKey) -> Answer {
    Answer::Reservation(Some(Reservation { holder, kind: ReservationKind::WriteExclusive }))
}

/// What epoch 5 asks and comes to, answer by answer.
fn played(answers: &[Answer]) -> (Vec<Command>, Option<Step>) {
    let mut seizure = Seizure::new(key(5), Mutations::NONE);
    let mut asked = vec![seizure.begin()];
    for answer in answers {
        match seizure.answered(answer.clone()) {
            Step::Ask(command) => asked.push(command),
            end => return (asked, Some(end)),
        }
    }
    (asked, None)
}

#[test]
fn a_free_target_is_reserved_and_read_back() {
    let (mine, none) = (key(5).raw(), Answer::Reservation(None));
    let told = [
        Answer::Keys(vec![]),
        none.clone(),
        Answer::Done,
        none,
        Answer::Done,
        held_by(mine),
        Answer::Persistence(true),
    ];
    let (asked, end) = played(&told);
    assert_eq!(end, Some(Step::Held(Taken::Free)));
    assert_eq!(asked[2], Command::Register { existing: None, key: mine });
    assert_eq!(asked[4], Command::Reserve { key: mine });
    assert_eq!(asked[5], Command::ReadReservation);
}

#[test]
fn a_predecessor_is_preempted_by_name() {
    let (mine, before) = (key(5).raw(), key(3).raw());
    let told = [
        Answer::Keys(vec![before]),
        held_by(before),
        Answer::Done,
        held_by(before),
        Answer::Done,
        held_by(mine),
        Answer::Persistence(true),
    ];
    let (asked, end) = played(&told);
    assert_eq!(end, Some(Step::Held(Taken::Preempted(Epoch(3)))));
    assert_eq!(asked[4], Command::PreemptAndAbort { key: mine, victim: before });
}

#[test]
fn a_path_that_is_registered_already_changes_its_key_and_nobody_is_preempted() {
    let (mine, before) = (key(5).raw(), key(4).raw());
    let told = [
        Answer::Keys(vec![before]),
        held_by(before),
        Answer::Conflict,
        Answer::Done,
        held_by(mine),
        Answer::Persistence(true),
    ];
    let (asked, end) = played(&told);
    assert_eq!(end, Some(Step::Held(Taken::SamePath(Epoch(4)))));
    assert_eq!(asked[3], Command::Register { existing: Some(before), key: mine });
}

#[test]
fn a_reservation_that_does_not_last_proves_nothing() {
    let (mine, before) = (key(5).raw(), key(3).raw());
    let told = [
        Answer::Keys(vec![before]),
        held_by(before),
        Answer::Done,
        held_by(before),
        Answer::Done,
        held_by(mine),
        Answer::Persistence(false),
    ];
    assert_eq!(played(&told).1, Some(Step::Held(Taken::Unclear)));
}

#[test]
fn a_lost_answer_to_the_decisive_command_proves_nothing() {
    let (mine, before) = (key(5).raw(), key(3).raw());
    let told = [
        Answer::Keys(vec![before]),
        held_by(before),
        Answer::Done,
        held_by(before),
        Answer::Unknown { reason: "no answer in 2 s".to_owned() },
        Answer::Keys(vec![mine]),
        held_by(mine),
        Answer::Persistence(true),
    ];
    assert_eq!(played(&told).1, Some(Step::Held(Taken::Unclear)));
}

#[test]
fn what_is_not_ours_is_refused_in_words() {
    let (_, end) = played(&[Answer::Keys(vec![key(3).raw(), STRANGER])]);
    let Some(Step::Refused(refusal)) = end else { panic!("{end:?}") };
    assert_eq!(refusal, Refusal::Foreign(STRANGER));
    assert!(refusal.to_string().contains("0x0123456789abcdef"), "{refusal}");
    let other = Reservation { holder: key(3).raw(), kind: ReservationKind::Other(5) };
    let (_, end) = played(&[Answer::Keys(vec![key(3).raw()]), Answer::Reservation(Some(other))]);
    assert_eq!(end, Some(Step::Refused(Refusal::ForeignKind(5))));
}

#[test]
fn a_newer_epoch_is_obeyed_at_every_look() {
    let newer = || Some(Step::Refused(Refusal::Newer(Epoch(6))));
    assert_eq!(played(&[Answer::Keys(vec![key(6).raw()])]).1, newer());
    assert_eq!(played(&[Answer::Keys(vec![]), held_by(key(6).raw())]).1, newer());
    let told = [Answer::Keys(vec![]), Answer::Reservation(None), Answer::Done, held_by(key(6).raw())];
    assert_eq!(played(&told).1, newer());
}

#[test]
fn a_registration_that_nobody_reports_is_not_guessed_at() {
    let told = [Answer::Keys(vec![key(4).raw()]), Answer::Reservation(None), Answer::Conflict, Answer::Conflict];
    assert_eq!(played(&told).1, Some(Step::Refused(Refusal::UnknownRegistration)));
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let raw = || prop_oneof![Just(STRANGER), (1..9u32).prop_map(|epoch| key(epoch).raw())];
    let kind = || prop_oneof![4 => Just(ReservationKind::WriteExclusive), 1 => Just(ReservationKind::Other(3))];
    let held = (raw(), kind()).prop_map(|(holder, kind)| Reservation { holder, kind });
    prop_oneof![
        prop::collection::vec(raw(), 0..4).prop_map(Answer::Keys),
        prop::option::of(held).prop_map(Answer::Reservation),
        any::<bool>().prop_map(Answer::Persistence),
        Just(Answer::Done),
        Just(Answer::Conflict),
        Just(Answer::Unknown { reason: String::new() }),
    ]
}

proptest! {
    /// A device that answers anything to anything.
    #[test]
    fn it_ends_and_harms_nobody_whatever_it_is_told(answers in prop::collection::vec(any_answer(), 200)) {
        let (asked, end) = played(&answers);
        prop_assert!(end.is_some(), "{} commands and no end", asked.len());
        for command in asked {
            if let Command::PreemptAndAbort { victim, .. } | Command::Register { existing: Some(victim), .. } = command {
                let victim = ReservationKey::read(victim, ClusterTag::of(ClusterId(7)));
                prop_assert!(victim.is_some_and(|victim| victim.epoch <= Epoch(5)), "{command:?}");
            }
        }
    }
}
