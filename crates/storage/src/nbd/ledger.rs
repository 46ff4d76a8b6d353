//! What a handle has sent that may change its export, and of which nobody can say yet, or ever, that it is over.
//!
//! A write that was sent is in the server's hands, and stays there when the connection ends: it may lie in the server's queue, in the
//! kernel below it, or on the way to a storage that hangs, and be carried out much later. Nothing of the protocol tells whether it was, or
//! takes it back. So a closed socket is no end of I/O, and neither is a new connection, to a new process of the server even. This is
//! where a handle remembers (docs/decisions/0033).

use std::sync::{Mutex, MutexGuard, PoisonError};

use tanist_model::quantity::count;

use super::error::NbdError;

/// One for each handle.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Answered with an error by us because they took too long; the connection still stands, and the answer may come.
    overdue: u64,
    /// Sent on a connection that was lost before their answer came.
    unresolved: u64,
    /// Why, of the first such loss.
    lost_by: String,
    /// Something was answered, and its connection was given up before a flush: a flush on another says nothing of it.
    forgotten: Option<String>,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note_overdue(&self) {
        self.entries().overdue += 1;
    }

    /// One that was overdue has been answered.
    pub(super) fn note_late_answer(&self) {
        self.entries().overdue -= 1;
    }

    /// A connection is gone with so many requests that may still be carried out; `overdue` of them were noted as such.
    pub(super) fn note_lost(&self, in_flight: u64, overdue: u64, why: &str) {
        let mut entries = self.entries();
        entries.overdue -= overdue;
        if in_flight > 0 && entries.unresolved == 0 {
            why.clone_into(&mut entries.lost_by);
        }
        entries.unresolved += in_flight;
    }

    /// A connection is given up on which something was answered and not flushed.
    pub(super) fn note_forgotten(&self, why: &str) {
        self.entries().forgotten.get_or_insert_with(|| why.to_owned());
    }

    /// Whether anything more may be written: not while something may still land that was ordered before.
    pub(super) fn may_write(&self) -> Result<(), NbdError> {
        let entries = self.entries();
        if entries.unresolved > 0 {
            return Err(NbdError::Unresolved { requests: requests(entries.unresolved), why: entries.lost_by.clone() });
        }
        if entries.overdue > 0 { Err(NbdError::Overdue(requests(entries.overdue))) } else { Ok(()) }
    }

    /// Whether a flush covers all that was answered before it: asked before it, and after. What a connection forgot is told once:
    /// whoever hears it writes all of it again.
    pub(super) fn may_flush(&self) -> Result<(), NbdError> {
        self.may_write()?;
        let forgotten = self.entries().forgotten.take();
        forgotten.map_or(Ok(()), |why| Err(NbdError::Unflushed(why)))
    }
}

fn requests(number: u64) -> String {
    count(number, "request")
}
