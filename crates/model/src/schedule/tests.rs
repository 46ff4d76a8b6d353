//! Schedules as text, and what is due after a time in which nobody looked.

use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).unwrap()
}

fn schedule(text: &str) -> Schedule {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refusal(text: &str) -> ScheduleError {
    text.parse::<Schedule>().expect_err(text)
}

#[test]
fn json_names_the_kind() {
    let cron = schedule("cron 0  2 * * mon-fri europe/berlin");
    let json = r#"{"kind":"cron","expression":"0 2 * * mon-fri","time_zone":"Europe/Berlin"}"#;
    assert_eq!(serde_json::to_string(&cron).unwrap(), json);
    assert_eq!(serde_json::from_str::<Schedule>(json).unwrap(), cron);
    let json = r#"{"kind":"interval","seconds":5400}"#;
    assert_eq!(serde_json::to_string(&schedule("every 1h 30m")).unwrap(), json);
    assert_eq!(serde_json::from_str::<Schedule>(json).unwrap(), schedule("every 90m"));
}

#[test]
fn json_is_checked_like_text() {
    for bad in [
        r#"{"kind":"interval","seconds":0}"#,
        r#"{"kind":"cron","expression":"61 2 * * *","time_zone":"UTC"}"#,
        r#"{"kind":"cron","expression":"0 2 * * *","time_zone":"Mars"}"#,
        r#"{"kind":"never"}"#,
    ] {
        assert!(serde_json::from_str::<Schedule>(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_is_no_schedule_is_told_the_two_forms() {
    for bad in ["", "daily", "15m", "Every 15m", "@daily", "0 2 * * *"] {
        assert_eq!(refusal(bad), ScheduleError::Kind(bad.to_owned()));
    }
    assert_eq!(refusal("every"), ScheduleError::Interval(String::new()));
}

#[test]
fn seconds_and_missing_fields_are_counted() {
    for (bad, fields) in [
        ("cron", 0),
        ("cron 0 2 * *", 4),
        ("cron 0 2 * * Europe/Berlin", 4),
        ("cron UTC", 0),
        ("cron 0 0 2 * * *", 6),
        ("cron 0 0 2 * * * Europe/Berlin", 6),
    ] {
        assert_eq!(refusal(bad), ScheduleError::CronFields(fields));
    }
    assert!(matches!(refusal("cron 0 2 * * * Berlin"), ScheduleError::TimeZone(_)));
}

#[test]
fn a_wrong_field_is_named() {
    for (bad, wrong, text) in [
        ("cron 60 2 * * *", "minute", "60"),
        ("cron 0 24 * * *", "hour", "24"),
        ("cron 0 2 0 * *", "day of month", "0"),
        ("cron 0 2 * JANUARY *", "month", "JANUARY"),
        ("cron 0 2 * * 8", "day of week", "8"),
        ("cron , 2 * * *", "minute", ","),
        ("cron 0 2,,3 * * *", "hour", "2,,3"),
        ("cron */0 2 * * *", "minute", "*/0"),
        ("cron 0 2 @daily * *", "day of month", "@daily"),
    ] {
        let ScheduleError::CronField { name, field, .. } = refusal(bad) else { panic!("{bad}: {}", refusal(bad)) };
        assert_eq!((name, field.as_str()), (wrong, text));
    }
    let words = refusal("cron 0 2 * 13 *").to_string();
    assert_eq!(
        words,
        "'13' is not possible for the month of a cron expression: use 1-12 or JAN-DEC, or *, lists, ranges and steps of these"
    );
}

#[test]
fn days_that_no_year_has_are_refused() {
    for bad in ["0 2 30 FEB *", "0 2 31 4,6,9,11 *"] {
        assert_eq!(refusal(&format!("cron {bad}")), ScheduleError::NeverDue(bad.to_owned()));
    }
}

#[test]
fn rare_days_are_found() {
    let anchor = at("1999-01-01T00:00:00Z");
    for (text, last, due) in [
        ("cron 0 0 29 2 * UTC", "2096-03-01T00:00:00Z", "2104-02-29T00:00:00Z"),
        ("cron 0 0 * 2 MON#5 Europe/Berlin", "2072-03-01T00:00:00Z", "2112-02-28T23:00:00Z"),
        ("cron 0 12 L * * America/New_York", "2026-02-01T00:00:00Z", "2026-02-28T17:00:00Z"),
        ("cron 0 2 * * FRI#L UTC", "2026-11-01T00:00:00Z", "2026-11-27T02:00:00Z"),
        ("cron 0 2 13 * FRI UTC", "2026-11-10T00:00:00Z", "2026-11-13T02:00:00Z"),
        ("cron 0 2 13 * FRI UTC", "2026-11-13T02:00:00Z", "2026-11-20T02:00:00Z"),
        ("cron 0 2 * * 7 UTC", "2026-11-20T02:00:00Z", "2026-11-22T02:00:00Z"),
    ] {
        assert_eq!(schedule(text).next_after(at(last), anchor), Some(at(due)), "{text}");
    }
}

#[test]
fn nothing_is_due_before_the_anchor() {
    let [anchor, long_ago] = [at("2026-11-22T02:00:00Z"), Timestamp(i64::MIN)];
    for text in ["cron 0 2 * * *", "every 1d"] {
        assert_eq!(schedule(text).next_after(long_ago, anchor), Some(anchor), "{text}");
        assert_eq!(schedule(text).missed(long_ago, anchor, Timestamp(anchor.0 - 1)), None, "{text}");
    }
}

#[test]
fn a_fraction_of_a_second_does_not_repeat_a_due_time() {
    let [due, anchor] = [at("2026-11-22T02:00:00Z"), at("2026-01-01T00:00:00Z")];
    let daily = schedule("cron 0 2 * * *");
    assert_eq!(daily.next_after(Timestamp(due.0 - 1), anchor), Some(due));
    assert_eq!(daily.next_after(Timestamp(due.0 + 1), anchor), Some(at("2026-11-23T02:00:00Z")));
    assert_eq!(daily.next_after(due, Timestamp(due.0 + 1)), Some(at("2026-11-23T02:00:00Z")));
}

#[test]
fn the_ends_of_the_calendar_are_no_trouble() {
    let ends = [i64::MIN, -1, 0, i64::MAX].map(Timestamp);
    for text in ["cron * * * * *", "cron 0 0 29 2 * Europe/Berlin", "every 1s"] {
        for (last, anchor) in ends.into_iter().flat_map(|last| ends.map(|anchor| (last, anchor))) {
            let due = schedule(text).next_after(last, anchor);
            assert!(
                due.is_none_or(|due| due >= anchor && due > last),
                "{text} after {last:?} from {anchor:?}: {due:?}"
            );
        }
    }
}

#[test]
fn one_run_catches_up_on_a_night() {
    let [anchor, last, now] = [at("2026-11-01T00:07:00Z"), at("2026-11-21T22:07:00Z"), at("2026-11-22T06:30:00Z")];
    let newest = at("2026-11-22T06:22:00Z");
    let missed = Missed { due: newest, passed: 33 };
    assert_eq!(schedule("every 15m").missed(last, anchor, now), Some(missed));
    assert_eq!(schedule("every 15m").missed(newest, anchor, now), None);
    assert_eq!(schedule("every 15m").missed(newest, anchor, at("2026-11-22T06:37:00Z")).unwrap().passed, 1);
}

#[test]
fn a_clock_that_went_back_makes_nothing_due() {
    let [anchor, last] = [at("2026-11-01T00:00:00Z"), at("2026-11-22T02:00:00Z")];
    assert_eq!(schedule("cron * * * * *").missed(last, anchor, at("2026-11-22T01:00:00Z")), None);
}

#[test]
fn counting_ends_and_the_newest_is_found_all_the_same() {
    let [anchor, now] = [at("2006-01-01T00:00:00Z"), at("2026-11-22T06:30:30Z")];
    let missed = schedule("cron * * * * *").missed(anchor, anchor, now).unwrap();
    assert_eq!(missed, Missed { due: at("2026-11-22T06:30:00Z"), passed: Missed::COUNT_LIMIT });
}

proptest! {
    #[test]
    fn no_text_panics_and_what_is_read_is_read_back(text in "(cron|every) [0-9*,/LWF#?+@A-Zäİ. -]{0,24}") {
        if let Ok(schedule) = text.parse::<Schedule>() {
            prop_assert_eq!(schedule.to_string().parse::<Schedule>().unwrap(), schedule);
        }
    }

    #[test]
    fn no_field_panics_or_takes_long(fields in proptest::collection::vec("[0-9*,/LW#SUNJAE-]{1,5}", 5)) {
        if let Ok(cron) = Cron::new(&fields.join(" "), TimeZone::UTC) {
            let anchor = at("2026-01-01T00:00:00Z");
            prop_assert!(Schedule::Cron(cron).next_after(anchor, anchor).is_some());
        }
    }

    #[test]
    fn missed_is_what_going_through_all_of_them_finds(
        which in 0..4_usize, last_s in 1_767_225_600..1_798_761_600_i64, for_s in 0..400_000_i64,
    ) {
        let texts = ["every 7m", "cron */17 * * * * Europe/Berlin", "cron 30 2,14 * * * America/New_York", "cron * 2 * * 0"];
        let (schedule, anchor) = (schedule(texts[which]), at("2025-06-01T00:00:00Z"));
        let [last, now] = [last_s, last_s + for_s].map(|seconds| Timestamp(seconds * 1_000_000));
        let all = std::iter::successors(Some(last), |time| schedule.next_after(*time, anchor).filter(|due| *due <= now));
        let all: Vec<Timestamp> = all.skip(1).take(10_000).collect();
        let expected = all.last().map(|due| Missed { due: *due, passed: u32::try_from(all.len()).unwrap() });
        prop_assert_eq!(schedule.missed(last, anchor, now), expected);
    }
}
