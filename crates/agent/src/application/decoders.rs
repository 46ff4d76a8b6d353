//! What only this room can name, for [`crate::decoders`].

pub(crate) use super::guard::Telling;
pub(crate) use super::mark::{Outcome, Task};
