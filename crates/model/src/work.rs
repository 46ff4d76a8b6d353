//! What a run costs: how much of the volume was looked at, and how little of it had to be moved. For people, bills and tests; nothing is
//! decided by it. It is the agents' word, and what an agent did in the last moment before it died is in no word of it.

use serde::{Deserialize, Serialize};

use crate::id::Epoch;

/// Bytes, over all attempts of a run or of one agent at it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RunWork {
    /// Of the volume, passed: holes and zeros count. More than its size where something was passed again.
    pub scanned_bytes: u64,
    /// Left as it was, because the target holds it: it was read there, or did not change since the last recovery point.
    pub same_bytes: u64,
    /// Of these, what was left as it was because it did not change, and was not read.
    pub assumed_bytes: u64,
    /// Not read of the source, because its storage system did not name it as changed; in the direct form alone.
    pub unread_bytes: u64,
    /// Read of the target to be compared.
    pub compared_bytes: u64,
    /// Written as data.
    pub written_bytes: u64,
    /// Made zero without being written as data.
    pub zeroed_bytes: u64,
    /// Between the two agents of the networked form, in both directions, with the headers of frames.
    pub sent_bytes: u64,
}

impl RunWork {
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    fn each(self, other: Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            scanned_bytes: of(self.scanned_bytes, other.scanned_bytes),
            same_bytes: of(self.same_bytes, other.same_bytes),
            assumed_bytes: of(self.assumed_bytes, other.assumed_bytes),
            unread_bytes: of(self.unread_bytes, other.unread_bytes),
            compared_bytes: of(self.compared_bytes, other.compared_bytes),
            written_bytes: of(self.written_bytes, other.written_bytes),
            zeroed_bytes: of(self.zeroed_bytes, other.zeroed_bytes),
            sent_bytes: of(self.sent_bytes, other.sent_bytes),
        }
    }

    /// What was passed more than once, of a run that stands at `seq`.
    #[must_use]
    pub fn again_bytes(&self, seq: u64) -> u64 {
        self.scanned_bytes.saturating_sub(seq)
    }
}

/// The work of a run under one epoch after another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct WorkLog {
    /// Under epochs that are over.
    before: RunWork,
    epoch: Epoch,
    /// Under this epoch, so far.
    present: RunWork,
}

impl WorkLog {
    /// Takes the word of the holder of an epoch; it counts from the beginning of its epoch, so that a word that is lost is made good by the
    /// next, and one that comes twice counts once.
    pub fn note(&mut self, epoch: Epoch, work: RunWork) {
        if epoch < self.epoch {
            return;
        }
        if epoch > self.epoch {
            *self = Self { before: self.total(), epoch, present: RunWork::default() };
        }
        self.present = self.present.each(work, u64::max);
    }

    #[must_use]
    pub fn total(&self) -> RunWork {
        self.before.plus(self.present)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scanned(scanned_bytes: u64) -> RunWork {
        RunWork { scanned_bytes, same_bytes: scanned_bytes / 2, ..RunWork::default() }
    }

    #[test]
    fn each_epoch_counts_once_whatever_is_lost_late_or_doubled() {
        let mut log = WorkLog::default();
        for (epoch, bytes) in [(1, 10), (1, 30), (1, 20), (2, 5), (1, 40), (2, 8), (2, 8)] {
            log.note(Epoch(epoch), scanned(bytes));
        }
        assert_eq!(log.total(), RunWork { scanned_bytes: 38, same_bytes: 19, ..RunWork::default() });
        assert_eq!(log.total().again_bytes(30), 8);
    }

    #[test]
    fn a_record_of_an_earlier_version_has_done_nothing() {
        assert_eq!(serde_json::from_str::<WorkLog>("{}").unwrap(), WorkLog::default());
    }
}
