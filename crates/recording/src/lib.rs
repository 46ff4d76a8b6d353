//! What a machine was given and what it decided, kept in a bounded log, so that any of its decisions can be looked at afterwards and made
//! again (docs/decisions/0029).
//!
//! A server and an agent own their machine through [`Recorded`]: nothing reaches it that is not recorded. Writing is a thread's of its own, and a
//! disk that is slow or full costs recordings and never a decision. [`replay`] gives the recorded inputs to the same machines and
//! compares what they decide.

#![forbid(unsafe_code)]

pub mod bundle;
mod entry;
mod folder;
mod line;
pub mod machine;
mod recorded;
pub mod replay;
mod writer;

pub use entry::{Before, FORMAT, Header};
pub use folder::{Folder, SEGMENT_LIMIT, Segment, unpacked};
pub use machine::{Machine, Role};
pub use recorded::Recorded;
pub use writer::{LEAST_LIMIT, MOST_LIMIT, Recorder, Settings};
