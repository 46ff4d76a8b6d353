//! Fencing by reservation (tier F1): shutting a predecessor out at the storage itself.
//!
//! A target that can reserve, reserves for its writer: SCSI-3 persistent reservations (SPC-5, 5.14) and the reservations of NVMe (NVM
//! Express Base Specification 2.1, 8.1.24) say the same in two languages, and what is decided here knows neither. [`key`] is the one
//! place that knows what a key means. [`seizure`] is how an agent takes the reservation, command by command. [`standing`] is what the
//! server may conclude from it. Whoever speaks to a device encodes a [`ReservationCommand`] and reads its answer.
//!
//! Three facts decide the shape (each loses data when it is forgotten, see `crates/explore`):
//! - A reservation fences a *path*, not a process. Whatever an earlier process of the same host has queued passes again as soon as this
//!   host registers anew: nothing local may be in flight then.
//! - Taking a reservation away does not stop what the device has already accepted. Only PREEMPT **AND ABORT** does.
//! - It fences only as long as it stands, without a gap. So it is never given up between two holders: the successor takes it from its
//!   predecessor by name, which the device refuses if the predecessor has it no longer.

pub mod key;
pub mod seizure;
pub mod standing;

use serde::{Deserialize, Serialize};
use tanist_model::id::Epoch;

/// A key as the device compares it: 64 bits whose meaning only [`key`] knows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RawKey(pub u64);

/// Who may write while a reservation stands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReservationKind {
    /// The holder alone; anyone reads. SPC-5 type 1h, NVMe RTYPE 1h.
    WriteExclusive,
    /// Any other, by its code. It is not ours.
    Other(u8),
}

/// The reservation on a device.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Reservation {
    pub holder: RawKey,
    pub kind: ReservationKind,
}

/// What is asked of the device. Every registration asks to persist through a loss of power (APTPL, CPTPL).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReservationCommand {
    /// PERSISTENT RESERVE IN, READ KEYS; the registrants of a Reservation Report.
    ReadKeys,
    /// PERSISTENT RESERVE IN, READ RESERVATION; the holder of a Reservation Report.
    ReadReservation,
    /// PERSISTENT RESERVE IN, REPORT CAPABILITIES (PTPL_A); the PTPLS of a Reservation Report.
    ReadPersistence,
    /// PERSISTENT RESERVE OUT, REGISTER; Reservation Register. Refused by the device unless this path is registered with `existing`,
    /// or not at all if that is `None`.
    Register { existing: Option<RawKey>, key: RawKey },
    /// PERSISTENT RESERVE OUT, RESERVE; Reservation Acquire. Refused if anybody else holds it.
    Reserve { key: RawKey },
    /// PERSISTENT RESERVE OUT, PREEMPT AND ABORT; Reservation Acquire with RACQA 2h. Refused if nobody is registered with `victim`.
    PreemptAndAbort { key: RawKey, victim: RawKey },
    /// REGISTER with a new key of zero: the registration ends, and with it a reservation that it holds.
    Unregister { key: RawKey },
    /// REGISTER AND IGNORE EXISTING KEY. Never used: for the test that shows why.
    #[cfg(feature = "mutations")]
    RegisterAndIgnore { key: RawKey },
    /// PREEMPT, which lets writes go on that were accepted. Never used: for the test that shows why.
    #[cfg(feature = "mutations")]
    Preempt { key: RawKey, victim: RawKey },
}

/// What the device answered.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum ReservationAnswer {
    /// To [`ReservationCommand::ReadKeys`]: one key a registered path, in no order. The device may know one key several times.
    Keys(Vec<RawKey>),
    /// To [`ReservationCommand::ReadReservation`].
    Reservation(Option<Reservation>),
    /// To [`ReservationCommand::ReadPersistence`]: whether registrations stand through a loss of power, now.
    Persistence(bool),
    /// Carried out.
    Done,
    /// RESERVATION CONFLICT: not carried out.
    Conflict,
    /// Nobody knows whether it was carried out: no answer in time, an error of the transport, a unit attention in its place.
    Unknown { reason: String },
    /// The device does not know the command, or refuses it whatever the state: it cannot reserve.
    Unsupported { reason: String },
}

/// How the reservation came to its holder.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "from", content = "epoch")]
pub enum Taken {
    /// Nobody had it.
    Free,
    /// Taken by name from the path of this epoch, whose accepted commands were ended.
    Preempted(Epoch),
    /// This very path had it, under this earlier epoch.
    SamePath(Epoch),
    /// It is ours, and that is all that is known: the answer to a decisive command was lost, or the target forgets its reservations
    /// with its power and there may be a gap at any time.
    Unclear,
}

#[cfg(test)]
mod tests;
