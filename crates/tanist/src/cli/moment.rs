//! Moments of the past as a person in a hurry types them. Whatever was shown can be typed back.

use jiff::civil::{DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};
use tanist_model::excerpt::excerpt;
use tanist_model::time::Timestamp;

use super::values::ValueError;

/// A whole time, a time of day, or how long ago.
///
/// # Errors
/// [`ValueError::Moment`], which lists the accepted forms.
pub fn moment(text: &str) -> Result<Timestamp, ValueError> {
    moment_before(text, &Zoned::now()).ok_or_else(|| ValueError::Moment(excerpt(text)))
}

fn moment_before(text: &str, now: &Zoned) -> Option<Timestamp> {
    let whole = text.parse::<jiff::Timestamp>().ok();
    let found = whole.or_else(|| time_of_day(text, now)).or_else(|| local(text, now)).or_else(|| ago(text, now))?;
    Some(Timestamp(found.as_microsecond()))
}

/// The last time that the clock showed this: at ten past midnight 23:50 was yesterday.
fn time_of_day(text: &str, now: &Zoned) -> Option<jiff::Timestamp> {
    let (time, zone) = match text.strip_suffix(['Z', 'z']) {
        Some(time) => (time, TimeZone::UTC),
        None => (text, now.time_zone().clone()),
    };
    let time: Time = time.parse().ok()?;
    let now = now.with_time_zone(zone.clone());
    let today = now.date().to_datetime(time).to_zoned(zone.clone()).ok()?;
    if today <= now {
        return Some(today.timestamp());
    }
    Some(now.date().yesterday().ok()?.to_datetime(time).to_zoned(zone).ok()?.timestamp())
}

/// A day, with a time or without, by the clock of this machine.
fn local(text: &str, now: &Zoned) -> Option<jiff::Timestamp> {
    let time: DateTime = text.parse().ok()?;
    Some(time.to_zoned(now.time_zone().clone()).ok()?.timestamp())
}

/// `5m`, `-5m`, `2h 30m ago`: what is explained is always past, so the sign says nothing.
fn ago(text: &str, now: &Zoned) -> Option<jiff::Timestamp> {
    let span: Span = text.parse().ok()?;
    let back = if span.is_negative() { span } else { span.negate() };
    Some(now.checked_add(back).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half past midnight, an hour east of Greenwich.
    fn now() -> Zoned {
        let instant: jiff::Timestamp = "2026-11-22T23:30:00Z".parse().unwrap();
        instant.to_zoned(TimeZone::fixed(jiff::tz::offset(1)))
    }

    fn found(text: &str) -> Option<String> {
        moment_before(text, &now()).map(|time| time.to_string().replace(".000000Z", "Z"))
    }

    #[test]
    fn what_people_type_is_understood() {
        let table = [
            ("2026-11-22T14:03:22Z", "2026-11-22T14:03:22Z"),
            // As `show` and `events` print it.
            ("2026-11-22 14:03:22Z", "2026-11-22T14:03:22Z"),
            ("2026-11-22 14:03", "2026-11-22T13:03:00Z"),
            ("2026-11-22", "2026-11-21T23:00:00Z"),
            ("00:10", "2026-11-22T23:10:00Z"),
            ("23:50:05", "2026-11-22T22:50:05Z"),
            ("14:03Z", "2026-11-22T14:03:00Z"),
            ("23:50Z", "2026-11-21T23:50:00Z"),
            ("5m ago", "2026-11-22T23:25:00Z"),
            ("-5m", "2026-11-22T23:25:00Z"),
            ("5m", "2026-11-22T23:25:00Z"),
            ("1d 2h ago", "2026-11-21T21:30:00Z"),
        ];
        for (text, expected) in table {
            assert_eq!(found(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_told_with_the_forms_that_are() {
        for text in ["yesterday", "", "25:00", "5", "99999999999y ago"] {
            assert_eq!(found(text), None, "{text}");
        }
        let error = moment("yesterday").unwrap_err().to_string();
        for form in ["14:03", "14:03Z", "5m ago", "2026-11-22T14:03:22Z"] {
            assert!(error.contains(form), "{error}");
        }
    }
}
