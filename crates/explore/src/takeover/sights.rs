//! What has to be seen somewhere in a world, or the world is too small to show anything. Seen on the way, and no part of a state: a
//! memory of it would make two states of one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// What may be seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sight {
    Published,
    Takeover,
    /// An epoch left the unproven set.
    Proof,
    PublishedWithoutProof,
    /// A second snapshot, bound after a predecessor was proven quiet.
    BoundAfterProof,
    /// A write of a process that is dead lands when its successor acts.
    LateWrite,
    /// A server begins while a successor is granted and does not act yet.
    ServerInTakeover,
    /// A server that does not lead any more is told so by the store.
    Deposed,
    /// A process hands a superseded role back.
    SteppedDown,
    /// The server that leads ends the connection of a process that lives and has no newer one. It has no reason to, and where steps are put
    /// first it must not.
    EndedOnTheLiving,
}

impl Sight {
    pub const ALL: &[Self] = &[
        Self::Published,
        Self::Takeover,
        Self::Proof,
        Self::PublishedWithoutProof,
        Self::BoundAfterProof,
        Self::LateWrite,
        Self::ServerInTakeover,
        Self::Deposed,
        Self::SteppedDown,
        Self::EndedOnTheLiving,
    ];
}

/// Those that were seen in any order of any steps.
#[derive(Clone, Debug, Default)]
pub struct Sights(Arc<AtomicU32>);

impl Sights {
    pub fn note(&self, sight: Sight) {
        self.0.fetch_or(1 << sight as u32, Ordering::Relaxed);
    }

    pub fn note_if(&self, sight: Sight, seen: bool) {
        if seen {
            self.note(sight);
        }
    }

    #[must_use]
    pub fn saw(&self, sight: Sight) -> bool {
        self.0.load(Ordering::Relaxed) & (1 << sight as u32) != 0
    }
}
