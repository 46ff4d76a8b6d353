//! Retention by example, and the properties that keep somebody's last good copy alive.

use proptest::prelude::*;

use super::*;

fn retention(text: &str) -> Retention {
    text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
}

fn refusal(text: &str) -> RetentionError {
    text.parse::<Retention>().expect_err(text)
}

/// Points of these times, numbered from 1.
fn points(times: &[&str]) -> Vec<KeptPoint> {
    let point = |(run, time): (u64, &&str)| KeptPoint {
        run: RunId(run),
        source_time: Timestamp::parse(time).unwrap(),
        pinned: false,
        is_current: false,
    };
    (1..).zip(times).map(point).collect()
}

fn gone(points: &[KeptPoint], policy: &str, zone: &str) -> Vec<u64> {
    expired(points, &retention(policy), &zone.parse().unwrap()).iter().map(|run| run.0).collect()
}

#[test]
fn text_and_json() {
    let full = retention("monthly=12, weekly=4,daily=7,hourly=24,last=3");
    assert_eq!(full.to_string(), "last=3,hourly=24,daily=7,weekly=4,monthly=12");
    let json = serde_json::to_string(&full).unwrap();
    assert_eq!(json, r#"{"keep_last":3,"hourly":24,"daily":7,"weekly":4,"monthly":12}"#);
    assert_eq!(serde_json::from_str::<Retention>(&json).unwrap(), full);
    assert_eq!(serde_json::from_str::<Retention>("{}").unwrap(), Retention::default());
    assert!(serde_json::from_str::<Retention>(r#"{"keep_last":0}"#).is_err());
}

#[test]
fn what_is_no_retention_is_refused_by_its_part() {
    for bad in ["", "3", "last", "yearly=1", "Last=1", "yearly=x", "=1"] {
        assert_eq!(refusal(bad), RetentionError::Part(bad.to_owned()));
    }
    for bad in ["last=", "daily=x", "daily=-1", "daily=4294967296", "daily=1=2"] {
        assert_eq!(refusal(bad), RetentionError::Number(bad.to_owned()));
    }
    assert_eq!(refusal("last=1,"), RetentionError::Part(String::new()));
    assert_eq!(refusal("daily=1,daily=2"), RetentionError::Twice("daily".to_owned()));
    assert_eq!(refusal("last=0,daily=7"), RetentionError::None);
}

#[test]
fn nothing_expires_of_nothing() {
    assert_eq!(gone(&[], "last=1", "UTC"), Vec::<u64>::new());
}

#[test]
fn the_newest_of_each_bucket_stays() {
    let points = points(&[
        "2026-09-30T23:59:59Z",
        "2026-10-31T12:00:00Z",
        "2026-11-01T12:00:00Z", // a Sunday
        "2026-11-02T08:00:00Z",
        "2026-11-02T20:00:00Z",
        "2026-11-03T08:10:00Z",
        "2026-11-03T08:50:00Z",
    ]);
    assert_eq!(gone(&points, "last=1", "UTC"), [1, 2, 3, 4, 5, 6]);
    assert_eq!(gone(&points, "last=3", "UTC"), [1, 2, 3, 4]);
    assert_eq!(gone(&points, "hourly=2", "UTC"), [1, 2, 3, 4, 6]);
    assert_eq!(gone(&points, "daily=3", "UTC"), [1, 2, 4, 6]);
    assert_eq!(gone(&points, "weekly=2", "UTC"), [1, 2, 4, 5, 6]);
    assert_eq!(gone(&points, "monthly=3", "UTC"), [3, 4, 5, 6]);
    assert_eq!(gone(&points, "last=2,daily=2,monthly=9", "UTC"), [3, 4]);
}

#[test]
fn buckets_without_a_point_do_not_count() {
    let points = points(&["2020-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2026-11-22T00:00:00Z"]);
    assert_eq!(gone(&points, "daily=3", "UTC"), Vec::<u64>::new());
    assert_eq!(gone(&points, "weekly=2", "UTC"), [1]);
}

#[test]
fn days_are_those_of_the_zone() {
    let points = points(&["2026-11-21T20:00:00Z", "2026-11-21T23:30:00Z", "2026-11-22T12:00:00Z"]);
    assert_eq!(gone(&points, "daily=2", "UTC"), [1]);
    assert_eq!(gone(&points, "daily=2", "Europe/Berlin"), [2]);
    assert_eq!(gone(&points, "daily=2", "America/New_York"), [1]);
}

#[test]
fn the_repeated_hour_is_two_hours() {
    // 02:30 twice, then 03:30.
    let points = points(&["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]);
    assert_eq!(gone(&points, "hourly=3", "Europe/Berlin"), Vec::<u64>::new());
}

#[test]
fn weeks_do_not_end_with_the_year() {
    // Monday 28 December 2026 to Sunday 3 January 2027 is one week.
    let points = points(&["2026-12-27T12:00:00Z", "2026-12-28T12:00:00Z", "2027-01-03T12:00:00Z"]);
    assert_eq!(gone(&points, "weekly=5", "UTC"), [2]);
}

#[test]
fn pinned_and_current_points_stay_and_count() {
    let mut points =
        points(&["2026-11-18T00:00:00Z", "2026-11-19T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-21T00:00:00Z"]);
    points[0].pinned = true;
    points[1].is_current = true;
    assert_eq!(gone(&points, "last=1", "UTC"), [3]);
    points[3].pinned = true;
    assert_eq!(gone(&points, "last=1", "UTC"), [3]);
    assert_eq!(gone(&points, "last=2", "UTC"), Vec::<u64>::new());
}

#[test]
fn times_outside_the_calendar_are_no_trouble() {
    let mut points = points(&["2026-11-22T00:00:00Z"; 3]);
    points[0].source_time = Timestamp(i64::MIN);
    points[2].source_time = Timestamp(i64::MAX);
    assert_eq!(gone(&points, "hourly=2,weekly=2", "Europe/Berlin"), [1]);
}

/// Points over some years, many of them in the same hours and at the same microsecond.
fn some_points() -> impl Strategy<Value = Vec<KeptPoint>> {
    let time = prop_oneof![0..6_i64, 0..90_i64, 0..50_000_i64].prop_map(|steps| 1_790_000_000 + steps * 1200);
    let point = (time, proptest::bool::weighted(0.1), proptest::bool::weighted(0.1));
    let numbered = |(run, (time, pinned, is_current)): (u64, (i64, bool, bool))| KeptPoint {
        run: RunId(run),
        source_time: Timestamp(time * 1_000_000),
        pinned,
        is_current,
    };
    proptest::collection::vec(point, 0..60).prop_map(move |points| (0..).zip(points).map(numbered).collect())
}

fn some_retention() -> impl Strategy<Value = Retention> {
    (1..5_u32, 0..5_u32, 0..5_u32, 0..5_u32, 0..5_u32).prop_map(|(last, hourly, daily, weekly, monthly)| Retention {
        keep_last: NonZeroU32::new(last).unwrap(),
        hourly,
        daily,
        weekly,
        monthly,
    })
}

fn some_zone() -> impl Strategy<Value = TimeZone> {
    let names = ["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"];
    proptest::sample::select(names.to_vec()).prop_map(|name| name.parse().unwrap())
}

fn without(points: &[KeptPoint], gone: &[RunId]) -> Vec<KeptPoint> {
    points.iter().filter(|point| !gone.contains(&point.run)).copied().collect()
}

proptest! {
    #[test]
    fn text_is_read_back(policy in some_retention()) {
        prop_assert_eq!(policy.to_string().parse::<Retention>().unwrap(), policy);
    }

    #[test]
    fn removing_what_expired_expires_nothing_more(points in some_points(), policy in some_retention(), zone in some_zone()) {
        let kept = without(&points, &expired(&points, &policy, &zone));
        prop_assert_eq!(expired(&kept, &policy, &zone), []);
    }

    #[test]
    fn removing_only_some_of_it_leaves_the_rest_expired(
        points in some_points(), policy in some_retention(), zone in some_zone(), some in 0.0..1.0,
    ) {
        let gone = expired(&points, &policy, &zone);
        let (removed, rest) = gone.split_at((gone.len() as f64 * some) as usize);
        prop_assert_eq!(expired(&without(&points, removed), &policy, &zone), rest);
    }

    #[test]
    fn the_newest_the_pinned_and_the_current_stay(points in some_points(), policy in some_retention(), zone in some_zone()) {
        let gone = expired(&points, &policy, &zone);
        prop_assert!(points.iter().all(|point| !(point.pinned || point.is_current) || !gone.contains(&point.run)));
        let newest = points.iter().max_by_key(|point| (point.source_time, point.run));
        prop_assert!(newest.is_none_or(|newest| !gone.contains(&newest.run)));
    }

    #[test]
    fn the_order_of_the_points_does_not_matter(
        points in some_points().prop_shuffle(), policy in some_retention(), zone in some_zone(),
    ) {
        let mut sorted = points.clone();
        sorted.sort_by_key(|point| point.run);
        prop_assert_eq!(expired(&points, &policy, &zone), expired(&sorted, &policy, &zone));
    }

    #[test]
    fn a_newer_point_brings_none_back(
        points in some_points(), policy in some_retention(), zone in some_zone(), later_s in 0..5_000_000_i64,
    ) {
        let newest = points.iter().map(|point| point.source_time.0).max().unwrap_or(0);
        let source_time = Timestamp(newest + later_s * 1_000_000);
        let newer = KeptPoint { run: RunId(u64::MAX), source_time, pinned: false, is_current: true };
        let gone = expired(&points, &policy, &zone);
        let gone_then = expired(&[points, vec![newer]].concat(), &policy, &zone);
        prop_assert!(gone.iter().all(|run| gone_then.contains(run)));
    }

    #[test]
    fn no_more_is_kept_than_the_rules_ask_for(points in some_points(), policy in some_retention(), zone in some_zone()) {
        let ordinary: Vec<KeptPoint> =
            points.into_iter().map(|point| KeptPoint { pinned: false, is_current: false, ..point }).collect();
        let kept = ordinary.len() - expired(&ordinary, &policy, &zone).len();
        let Retention { keep_last, hourly, daily, weekly, monthly } = policy;
        prop_assert!(kept <= (keep_last.get() + hourly + daily + weekly + monthly) as usize);
        prop_assert!(kept >= ordinary.len().min(keep_last.get() as usize));
    }
}
