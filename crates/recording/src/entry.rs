//! The lines of a segment: a header, the machine as it was, and then one line for each thing that reached it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tanist_model::time::{Monotonic, Now, Timestamp};

use crate::machine::Role;

/// How segments are written; a program reads those of its own only.
pub const FORMAT: u32 = 1;

/// What came before a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Before {
    /// The process began.
    Start,
    /// The segment before it, without a gap.
    Continues,
    /// So many inputs that could not be written.
    Gap { lost: u64 },
}

/// The first line.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Header {
    pub format: u32,
    /// The program's version: another one may decide otherwise, and rightly.
    pub version: String,
    pub role: Role,
    pub before: Before,
    pub begun: Timestamp,
}

/// Both clocks, short: there are many of them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct At(u64, i64);

impl From<Now> for At {
    fn from(now: Now) -> Self {
        Self(now.monotonic.0, now.wall.0)
    }
}

impl From<At> for Now {
    fn from(At(monotonic, wall): At) -> Self {
        Self { monotonic: Monotonic(monotonic), wall: Timestamp(wall) }
    }
}

/// An input, and what was decided on it; nothing stands for nothing.
#[derive(Serialize)]
pub struct StepLine<'a, I, O> {
    pub at: At,
    #[serde(rename = "in")]
    pub input: &'a I,
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    pub output: Option<&'a O>,
}

/// The state that the server's machine took from the store in the place of its own.
#[derive(Serialize)]
pub struct ReloadLine<'a, S> {
    pub reload: &'a S,
}

/// Any line after the machine, as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Read<'a> {
    pub at: Option<At>,
    #[serde(borrow, rename = "in")]
    pub input: Option<&'a RawValue>,
    #[serde(borrow, rename = "out")]
    pub output: Option<&'a RawValue>,
    #[serde(borrow)]
    pub reload: Option<&'a RawValue>,
}
