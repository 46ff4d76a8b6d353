//! Where the time of a run goes: how much of it each stage of the data path worked and waited, and for which stage the others wait.
//! For people; nothing is decided by it. Each side measures its own stages, and the server puts the two together.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A part of the data path that can be the slowest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// The bandwidth limit that the operator set.
    Bandwidth,
    /// Reading the source.
    Source,
    /// Finding zeros and hashing.
    Encode,
    /// Reading the target and comparing.
    Compare,
    /// The streams between the two sides, with their encryption and the checksums of frames.
    Network,
    /// Writing the target.
    Target,
    /// Flushing, reading back, and waiting for the checkpoint to be committed.
    Commit,
}

impl Stage {
    /// In the order in which a block passes them.
    pub const ALL: [Self; 7] =
        [Self::Bandwidth, Self::Source, Self::Encode, Self::Compare, Self::Network, Self::Target, Self::Commit];

    /// One word, as in JSON and in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bandwidth => "bandwidth",
            Self::Source => "source",
            Self::Encode => "encode",
            Self::Compare => "compare",
            Self::Network => "network",
            Self::Target => "target",
            Self::Commit => "commit",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How a stage spent its time lately, and how full the queue in front of it was. The three shares are of the same time; together they are
/// at most 1000, and less where the stage was not there for all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StageUse {
    pub stage: Stage,
    pub worked_permille: u16,
    /// It waited for what the stage before it was to hand on.
    pub input_permille: u16,
    /// It waited until the stage after it took something.
    pub output_permille: u16,
    /// What waited for it, on average.
    #[serde(default)]
    pub queued_bytes: u64,
    /// How much can wait for it; 0 where there is no queue, or none that can be measured.
    #[serde(default)]
    pub queue_limit_bytes: u64,
}

/// A stage that works less than this holds nobody up.
const LEAST_PERMILLE: u16 = 300;

const WHOLE_PERMILLE: u16 = 1000;

/// The stage that works most while its neighbours wait for it, of stages in the order of [`Stage::ALL`]; `None` if all of them do little.
#[must_use]
pub fn limit_of(stages: &[StageUse]) -> Option<Stage> {
    let works = |at: &usize| stages.get(*at).is_some_and(|stage| stage.worked_permille >= LEAST_PERMILLE);
    // Of two alike the earlier one: the later may be busy only with what it is given.
    let most = (0..stages.len()).rev().filter(works).max_by_key(|at| held_up_by(stages, *at))?;
    stages.get(most).map(|stage| stage.stage)
}

/// How long a stage works, with how long the one before waits to hand on and the one after to be given something.
fn held_up_by(stages: &[StageUse], at: usize) -> u32 {
    let before = at.checked_sub(1).and_then(|before| stages.get(before)).map_or(0, |stage| stage.output_permille);
    let after = stages.get(at + 1).map_or(0, |stage| stage.input_permille);
    let worked = stages.get(at).map_or(0, |stage| stage.worked_permille);
    u32::from(worked) + u32::from(before) + u32::from(after)
}

/// The stages of a run, from what its holder says and, in the networked form, its reader; in the order of [`Stage::ALL`].
#[must_use]
pub fn merged(holder: &[StageUse], reader: &[StageUse]) -> Vec<StageUse> {
    let of = |stages: &[StageUse], stage: Stage| stages.iter().find(|one| one.stage == stage).copied();
    let one = |stage| match (of(reader, stage), of(holder, stage)) {
        (Some(sends), Some(receives)) if stage == Stage::Network => Some(between(&sends, &receives)),
        // Both compare, each in its own way: the busier one matters.
        (Some(reader), Some(holder)) if reader.worked_permille > holder.worked_permille => Some(reader),
        (reader, holder) => holder.or(reader),
    };
    Stage::ALL.into_iter().filter_map(one).collect()
}

/// The streams, seen from both ends. A sender that cannot write does not know whether the network is slow or the other end takes nothing; a
/// receiver that gets nothing does not know whether the network is slow or nothing is sent. Only what neither explains is the network's.
fn between(sends: &StageUse, receives: &StageUse) -> StageUse {
    let output_permille = receives.output_permille.min(WHOLE_PERMILLE);
    let rest = WHOLE_PERMILLE - output_permille;
    let input_permille = WHOLE_PERMILLE.saturating_sub(sends.worked_permille).min(rest);
    StageUse { worked_permille: rest - input_permille, input_permille, output_permille, ..*sends }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of a stage: how much it worked, and waited for input and for output, in percent.
    fn used(stage: Stage, [worked, input, output]: [u16; 3]) -> StageUse {
        StageUse {
            stage,
            worked_permille: worked * 10,
            input_permille: input * 10,
            output_permille: output * 10,
            queued_bytes: 0,
            queue_limit_bytes: 0,
        }
    }

    #[test]
    fn the_limit_is_the_stage_for_which_its_neighbours_wait() {
        use Stage::{Bandwidth, Commit, Encode, Source, Target};
        let table = [
            (
                Some(Target),
                vec![(Source, [20, 0, 78]), (Encode, [22, 1, 75]), (Target, [97, 1, 0]), (Commit, [30, 70, 0])],
            ),
            (
                Some(Source),
                vec![(Source, [98, 0, 1]), (Encode, [20, 79, 0]), (Target, [40, 58, 0]), (Commit, [9, 90, 0])],
            ),
            (
                Some(Encode),
                vec![(Source, [40, 0, 55]), (Encode, [95, 3, 0]), (Target, [40, 58, 0]), (Commit, [9, 90, 0])],
            ),
            (
                Some(Commit),
                vec![(Source, [9, 0, 90]), (Encode, [9, 0, 89]), (Target, [12, 0, 86]), (Commit, [99, 0, 0])],
            ),
            (
                Some(Bandwidth),
                vec![(Bandwidth, [93, 0, 0]), (Source, [5, 93, 0]), (Encode, [3, 96, 0]), (Target, [9, 90, 0])],
            ),
            // Busy by itself, and nobody waits for it: the window takes what it does not.
            (
                Some(Target),
                vec![(Source, [30, 0, 65]), (Encode, [30, 0, 65]), (Target, [92, 2, 0]), (Commit, [96, 2, 0])],
            ),
            (None, vec![(Source, [3, 0, 0]), (Encode, [1, 99, 0]), (Target, [0, 99, 0]), (Commit, [29, 70, 0])]),
            (None, vec![]),
        ];
        for (expected, stages) in table {
            let stages: Vec<_> = stages.into_iter().map(|(stage, shares)| used(stage, shares)).collect();
            assert_eq!(limit_of(&stages), expected, "{stages:?}");
        }
    }

    /// What reader and holder measure when something else is slow; the streams look alike to one of the two each time.
    #[test]
    fn two_sides_together_know_more_than_each() {
        use Stage::{Bandwidth, Compare, Encode, Network, Source, Target};
        let table = [
            (
                Network,
                vec![(Source, [15, 0, 84]), (Encode, [15, 1, 82]), (Network, [99, 1, 0])],
                vec![(Network, [0, 98, 0]), (Target, [20, 79, 0])],
            ),
            (
                Target,
                vec![(Source, [15, 0, 84]), (Encode, [15, 1, 82]), (Network, [99, 1, 0])],
                vec![(Network, [0, 6, 93]), (Target, [98, 1, 0])],
            ),
            (
                Source,
                vec![(Source, [97, 0, 0]), (Encode, [15, 84, 0]), (Network, [20, 79, 0])],
                vec![(Network, [0, 98, 0]), (Target, [20, 79, 0])],
            ),
            (
                Bandwidth,
                vec![(Bandwidth, [95, 0, 0]), (Source, [4, 95, 0]), (Encode, [2, 97, 0]), (Network, [4, 95, 0])],
                vec![(Network, [0, 98, 0]), (Target, [5, 94, 0])],
            ),
            (
                Compare,
                vec![(Source, [40, 0, 59]), (Encode, [30, 10, 59]), (Compare, [10, 89, 0]), (Network, [1, 98, 0])],
                vec![(Compare, [99, 0, 0]), (Network, [0, 98, 0]), (Target, [1, 98, 0])],
            ),
        ];
        let uses = |stages: Vec<(Stage, [u16; 3])>| stages.into_iter().map(|(s, u)| used(s, u)).collect::<Vec<_>>();
        for (expected, reader, holder) in table {
            let together = merged(&uses(holder), &uses(reader));
            assert!(together.is_sorted_by_key(|one| one.stage), "{together:?}");
            assert_eq!(limit_of(&together), Some(expected), "{together:?}");
        }
    }

    #[test]
    fn a_receiver_alone_does_not_blame_the_network() {
        let alone = [used(Stage::Network, [0, 98, 0]), used(Stage::Target, [5, 94, 0])];
        assert_eq!(limit_of(&merged(&alone, &[])), None);
    }

    #[test]
    fn shares_of_the_streams_are_never_more_than_the_whole() {
        let (sends, receives) = (used(Stage::Network, [30, 70, 0]), used(Stage::Network, [0, 30, 60]));
        let both = between(&sends, &receives);
        assert_eq!((both.worked_permille, both.input_permille, both.output_permille), (0, 400, 600));
    }
}
