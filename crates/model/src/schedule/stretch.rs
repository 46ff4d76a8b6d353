//! A stretch of time in which a zone's clocks run evenly: between two changes of its offset from UTC.
//!
//! Within a stretch, local time and real time are one count shifted against the other. Everything that is peculiar about a
//! clock change happens at the start of a stretch, and can be said in terms of the offsets before and after.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

pub(super) const SECOND: jiff::SignedDuration = jiff::SignedDuration::from_secs(1);

#[derive(Clone, Debug)]
pub(super) struct Stretch {
    pub start: Timestamp,
    /// The start of the next one; `None` if the zone's clocks are never changed again.
    pub end: Option<Timestamp>,
    /// The offset until `start`.
    pub before: Offset,
    /// The offset from `start` on.
    pub offset: Offset,
}

impl Stretch {
    /// The stretch that holds `instant`, a whole second (as all clock changes are).
    pub fn around(zone: &TimeZone, instant: Timestamp) -> Self {
        let last_change = zone.preceding(instant.checked_add(SECOND).unwrap_or(instant)).next();
        let start = last_change.map_or(Timestamp::MIN, |change| change.timestamp());
        let offset = zone.to_offset(instant);
        let before = start.checked_sub(SECOND).map_or(offset, |earlier| zone.to_offset(earlier));
        Self { start, end: zone.following(instant).next().map(|change| change.timestamp()), before, offset }
    }

    /// What the clocks would have shown at `start`, had they not been changed.
    pub fn would_have_shown(&self) -> DateTime {
        self.before.to_datetime(self.start)
    }

    /// What they showed instead. Later than [`Self::would_have_shown`]: the times between do not exist. Earlier: those
    /// between come a second time.
    pub fn shows(&self) -> DateTime {
        self.offset.to_datetime(self.start)
    }

    pub fn contains(&self, instant: Timestamp) -> bool {
        instant >= self.start && self.end.is_none_or(|end| instant < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::TimeZone as Zone;

    fn around(zone: &str, instant: &str) -> Stretch {
        Stretch::around(zone.parse::<Zone>().unwrap().rules(), instant.parse().unwrap())
    }

    #[test]
    fn a_stretch_begins_with_the_second_of_the_change() {
        let [last_of_winter, first_of_summer] =
            ["2026-03-29T00:59:59Z", "2026-03-29T01:00:00Z"].map(|instant| around("Europe/Berlin", instant));
        assert_eq!(last_of_winter.end, Some(first_of_summer.start));
        assert!(first_of_summer.contains(first_of_summer.start) && !last_of_winter.contains(first_of_summer.start));
        assert_eq!(first_of_summer.would_have_shown().to_string(), "2026-03-29T02:00:00");
        assert_eq!(first_of_summer.shows().to_string(), "2026-03-29T03:00:00");
    }

    #[test]
    fn utc_is_one_stretch() {
        let always = around("UTC", "2026-01-01T00:00:00Z");
        assert_eq!((always.start, always.end, always.before), (Timestamp::MIN, None, always.offset));
    }
}
