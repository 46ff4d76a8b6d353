//! Due times around clock changes: by example, and against a plain enumeration of every minute.

use std::collections::BTreeSet;

use jiff::ToSpan;
use jiff::civil::{Date, DateTime, date};
use jiff::tz::AmbiguousOffset;
use proptest::prelude::*;

use super::*;

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Casablanca",
    "Africa/Cairo",
    "Asia/Kathmandu",
];

const ANCHOR: Timestamp = Timestamp(0);

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn cron(expression: &str, zone: &str) -> Schedule {
    Schedule::Cron(Cron::new(expression, zone.parse().unwrap()).unwrap())
}

/// The due times in (`after`, `until`]; not endlessly many, if the schedule should stand still.
fn due(schedule: &Schedule, after: Timestamp, until: Timestamp) -> Vec<Timestamp> {
    let next = |time: &Timestamp| schedule.next_after(*time, ANCHOR).filter(|due| *due <= until);
    std::iter::successors(Some(after), next).skip(1).take(10_000).collect()
}

/// The due times of a local day, as the clocks show them, with their offset.
fn shown(expression: &str, zone: &str, day: Date) -> Vec<String> {
    let rules = zone.parse::<TimeZone>().unwrap();
    let before = |day: Date| Timestamp(day.to_zoned(rules.rules().clone()).unwrap().timestamp().as_microsecond() - 1);
    let times = due(&cron(expression, zone), before(day), before(day.tomorrow().unwrap()));
    times.into_iter().map(|time| rules.zoned(time).strftime("%H:%M %:z").to_string()).collect()
}

#[test]
fn berlin_in_spring_has_no_time_between_two_and_three() {
    let day = |expression| shown(expression, "Europe/Berlin", date(2026, 3, 29));
    assert_eq!(day("30 2 * * *"), ["03:00 +02:00"]);
    assert_eq!(day("*/20 2 * * *"), ["03:00 +02:00"]);
    assert_eq!(day("0 2,3 * * *"), ["03:00 +02:00"]);
    assert_eq!(day("0 */2 * * *")[..4], ["00:00 +01:00", "03:00 +02:00", "04:00 +02:00", "06:00 +02:00"]);
    assert_eq!(day("30 * * * *")[..4], ["00:30 +01:00", "01:30 +01:00", "03:30 +02:00", "04:30 +02:00"]);
}

#[test]
fn berlin_in_autumn_has_the_hour_from_two_twice() {
    let day = |expression| shown(expression, "Europe/Berlin", date(2026, 10, 25));
    assert_eq!(day("30 2 * * *"), ["02:30 +02:00"]);
    assert_eq!(day("0 3 * * *"), ["03:00 +01:00"]);
    assert_eq!(day("0 */2 * * *")[..3], ["00:00 +02:00", "02:00 +02:00", "04:00 +01:00"]);
    assert_eq!(day("30 * * * *")[1..5], ["01:30 +02:00", "02:30 +02:00", "02:30 +01:00", "03:30 +01:00"]);
}

#[test]
fn new_york_changes_at_two_as_well() {
    let [spring, autumn] = [date(2026, 3, 8), date(2026, 11, 1)];
    assert_eq!(shown("15 2 * * *", "America/New_York", spring), ["03:00 -04:00"]);
    assert_eq!(shown("15 1 * * *", "America/New_York", autumn), ["01:15 -04:00"]);
    assert_eq!(shown("15 0-23 * * *", "America/New_York", autumn)[1..3], ["01:15 -04:00", "01:15 -05:00"]);
}

#[test]
fn lord_howe_changes_by_half_an_hour() {
    let [spring, autumn] = [date(2026, 10, 4), date(2026, 4, 5)];
    let day = |expression, day| shown(expression, "Australia/Lord_Howe", day);
    assert_eq!(day("15 2 * * *", spring), ["02:30 +11:00"]);
    assert_eq!(day("45 2 * * *", spring), ["02:45 +11:00"]);
    assert_eq!(day("45 1 * * *", autumn), ["01:45 +11:00"]);
    assert_eq!(day("0 * * * *", spring)[1..4], ["01:00 +10:30", "02:30 +11:00", "03:00 +11:00"]);
    assert_eq!(day("45 * * * *", autumn)[1..4], ["01:45 +11:00", "01:45 +10:30", "02:45 +10:30"]);
}

#[test]
fn utc_never_changes() {
    let whole_day: Vec<String> = (0..24).map(|hour| format!("{hour:02}:30 +00:00")).collect();
    assert_eq!(shown("30 * * * *", "UTC", date(2026, 3, 29)), whole_day);
    assert_eq!(shown("30 2 * * *", "UTC", date(2026, 10, 25)), ["02:30 +00:00"]);
}

#[test]
fn a_day_that_samoa_skipped_is_made_at_its_end() {
    // Samoa crossed the date line at the end of Thursday 29 December 2011, 10:00 UTC on the 30th, and went on with Saturday.
    let [thursday, saturday, change] = ["2011-12-29T12:00:00Z", "2011-12-31T09:00:00Z", "2011-12-30T10:00:00Z"]
        .map(|time| Timestamp::parse(time).unwrap());
    assert_eq!(due(&cron("0 12 * * FRI", "Pacific/Apia"), thursday, saturday), [change]);
    assert_eq!(due(&cron("0 0 * * *", "Pacific/Apia"), thursday, saturday), [change]);
}

/// A cron expression as sets of numbers, for an enumeration that shares no code with what it checks.
#[derive(Clone, Debug)]
struct Numbers {
    minutes: BTreeSet<i8>,
    hours: BTreeSet<i8>,
    weekdays: BTreeSet<i8>,
}

impl Numbers {
    fn expression(&self) -> String {
        let list = |set: &BTreeSet<i8>| set.iter().map(i8::to_string).collect::<Vec<_>>().join(",");
        let weekdays = if self.weekdays.len() == 7 { "*".to_owned() } else { list(&self.weekdays) };
        format!("{} {} * * {weekdays}", list(&self.minutes), list(&self.hours))
    }

    fn matches(&self, time: DateTime) -> bool {
        self.minutes.contains(&time.minute())
            && self.hours.contains(&time.hour())
            && self.weekdays.contains(&time.weekday().to_sunday_zero_offset())
    }

    fn instants(&self, zone: &TimeZone, time: DateTime) -> Vec<jiff::Timestamp> {
        let every_hour = self.hours.len() == 24;
        let read = |offset: jiff::tz::Offset| offset.to_timestamp(time).unwrap();
        match zone.rules().to_ambiguous_timestamp(time).offset() {
            AmbiguousOffset::Unambiguous { offset } => vec![read(offset)],
            AmbiguousOffset::Gap { before, .. } if every_hour => vec![read(before)],
            AmbiguousOffset::Gap { .. } => vec![gap_end(zone, time)],
            AmbiguousOffset::Fold { before, after } if every_hour => vec![read(before), read(after)],
            AmbiguousOffset::Fold { before, .. } => vec![read(before)],
        }
    }

    /// All due times in (`after`, `until`], minute by minute, in whatever order and as often as they come up.
    fn enumerate(&self, zone: &TimeZone, after: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
        let [first, end] = [after, until].map(|time| zone.zoned(time).datetime());
        let first = first.checked_sub(2.days()).unwrap().with().second(0).subsec_nanosecond(0).build().unwrap();
        let minutes = first.series(1.minute()).take_while(|time| *time <= end.checked_add(2.days()).unwrap());
        let instants = minutes.filter(|time| self.matches(*time)).flat_map(|time| self.instants(zone, time));
        let times = instants.map(|instant| Timestamp(instant.as_microsecond()));
        times.filter(|time| *time > after && *time <= until).collect()
    }
}

/// The first local minute after `time` that exists.
fn gap_end(zone: &TimeZone, time: DateTime) -> jiff::Timestamp {
    let mut after = time.series(1.minute()).map(|minute| zone.rules().to_ambiguous_timestamp(minute));
    after.find_map(|minute| minute.unambiguous().ok()).unwrap()
}

fn set(largest: i8, most: usize) -> impl Strategy<Value = BTreeSet<i8>> {
    proptest::collection::btree_set(0..=largest, 1..=most)
}

fn numbers() -> impl Strategy<Value = Numbers> {
    let hours = prop_oneof![set(23, 5), set(3, 4), Just((0..24).collect())];
    let weekdays = prop_oneof![Just((0..7).collect()), set(6, 3)];
    (set(59, 4), hours, weekdays).prop_map(|(minutes, hours, weekdays)| Numbers { minutes, hours, weekdays })
}

/// Two days before some change of the zone's clocks from 2024 on (UTC has none), shifted by up to four days.
fn near_a_change(zone: &TimeZone, which: usize, shift_us: i64) -> Timestamp {
    let since = jiff::Timestamp::from_second(1_704_067_200).unwrap();
    let change = zone.rules().following(since).nth(which).map_or(since, |change| change.timestamp());
    Timestamp(change.as_microsecond() - 2 * 86_400_000_000 + shift_us)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn due_times_are_those_that_an_enumeration_finds(
        numbers in numbers(), zone in 0..ZONES.len(), which in 0..12_usize, shift_us in 0..345_600_000_000_i64,
    ) {
        let (schedule, zone) = (cron(&numbers.expression(), ZONES[zone]), ZONES[zone].parse::<TimeZone>().unwrap());
        let after = near_a_change(&zone, which, shift_us);
        let until = after.plus(96 * HOUR);
        let found = due(&schedule, after, until);
        prop_assert!(found.is_sorted_by(|earlier, later| earlier < later));
        prop_assert_eq!(found, numbers.enumerate(&zone, after, until).into_iter().collect::<Vec<_>>());
    }

    #[test]
    fn due_times_do_not_depend_on_where_one_asks_from(
        numbers in numbers(), zone in 0..ZONES.len(), which in 0..12_usize, shift_us in 0..345_600_000_000_i64, share in 0.0..1.0,
    ) {
        let schedule = cron(&numbers.expression(), ZONES[zone]);
        let after = near_a_change(&ZONES[zone].parse().unwrap(), which, shift_us);
        let next = schedule.next_after(after, ANCHOR).unwrap();
        let between = after.plus(next.since(after).mul_f64(share)).min(Timestamp(next.0 - 1));
        prop_assert_eq!(schedule.next_after(between, ANCHOR), Some(next));
        prop_assert!(schedule.next_after(next, ANCHOR).unwrap() > next);
    }

    #[test]
    fn a_daily_run_is_made_once_for_each_day_of_a_year(
        hour in 0..24, minute in 0..60, zone in 0..ZONES.len(), year in 2005..2100_i16,
    ) {
        let rules = ZONES[zone].parse::<TimeZone>().unwrap();
        let start = |year| date(year, 1, 1).to_zoned(rules.rules().clone()).unwrap().timestamp().as_microsecond() - 1;
        let schedule = cron(&format!("{minute} {hour} * * *"), ZONES[zone]);
        let runs = due(&schedule, Timestamp(start(year)), Timestamp(start(year + 1)));
        prop_assert_eq!(runs.len(), usize::try_from(date(year, 1, 1).days_in_year()).unwrap());
    }

    #[test]
    fn an_hourly_run_is_made_each_real_hour(
        minute in 0..60, zone in 0..ZONES.len(), which in 0..12_usize, shift_us in 0..345_600_000_000_i64,
    ) {
        let after = near_a_change(&ZONES[zone].parse().unwrap(), which, shift_us);
        let times = due(&cron(&format!("{minute} * * * *"), ZONES[zone]), after, after.plus(96 * HOUR));
        let by_half_hours = ZONES[zone] == "Australia/Lord_Howe";
        let distances: Vec<_> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
        prop_assert!(by_half_hours || distances.iter().all(|distance| *distance == HOUR), "{distances:?}");
        let hours: BTreeSet<i64> = times.iter().map(|time| time.0.div_euclid(3_600_000_000)).collect();
        let (first, last) = (hours.first().unwrap(), hours.last().unwrap());
        prop_assert_eq!(i64::try_from(hours.len()).unwrap(), last - first + 1, "an hour without a run");
    }
}
