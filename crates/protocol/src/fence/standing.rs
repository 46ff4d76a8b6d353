//! What a reservation says about the epochs that are not proven quiet.
//!
//! An epoch is *fenced* while the device refuses its writes and has none of them left: enough for the next snapshot, not for giving the
//! volume up. That holds from the moment in which the reservation was taken from that epoch by name, through any number of successors
//! that took it by name from each other, and ends when the reservation had a gap or when the epoch's own host holds it again.

use tanist_model::id::{Epoch, HostIdentity};

use tanist_model::replication::{ArrayCopies, Standing, UnprovenEpoch};

use super::Taken;
use crate::mutation::{Mutation, Mutations};

impl Fenceable for UnprovenEpoch {
    fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn host(&self) -> &HostIdentity {
        &self.host
    }

    fn needs_reservation(&self) -> bool {
        self.reservation != Standing::NotNeeded
    }

    fn is_fenced(&self) -> bool {
        self.reservation == Standing::Fenced
    }

    fn set_fenced(&mut self, fenced: bool) {
        self.reservation = match (fenced, self.reservation) {
            (true, _) => Standing::Fenced,
            (false, Standing::Fenced) => Standing::Needed,
            (false, same) => same,
        };
        // Who is not shut out any more may order the storage to copy again.
        if !fenced && self.array_copies == ArrayCopies::Over {
            self.array_copies = ArrayCopies::Possible;
        }
    }
}

/// An unproven epoch, as far as it matters here.
pub trait Fenceable {
    fn epoch(&self) -> Epoch;
    fn host(&self) -> &HostIdentity;
    /// Its grant let it write with the reservation only. An agent that cannot reserve may be granted an epoch without.
    fn needs_reservation(&self) -> bool;
    fn is_fenced(&self) -> bool;
    fn set_fenced(&mut self, fenced: bool);
}

/// The holder of epoch `current`, on `host`, has the reservation and says how it got it.
pub fn conclude<E: Fenceable>(
    unproven: &mut [E],
    current: Epoch,
    host: &HostIdentity,
    taken: Taken,
    mutations: Mutations,
) {
    for epoch in unproven.iter_mut().filter(|e| e.epoch() != current) {
        let own_path = epoch.host().machine_id == host.machine_id;
        let fenced = !own_path && is_fenced(epoch, taken, mutations);
        epoch.set_fenced(fenced);
    }
}

fn is_fenced<E: Fenceable>(epoch: &E, taken: Taken, mutations: Mutations) -> bool {
    match taken {
        Taken::Free if mutations.breaks(Mutation::ReserveProves) => true,
        // There was a gap, or nobody knows whether there was.
        Taken::Free | Taken::Unclear => false,
        // Whom it was taken from has nothing left at the device.
        Taken::Preempted(from) if epoch.epoch() == from => true,
        // Between that one and the holder nobody had it, so nobody wrote for whom it was needed; what was fenced before is still.
        Taken::Preempted(from) | Taken::SamePath(from) => {
            let needed = epoch.needs_reservation() || mutations.breaks(Mutation::UnneededCountsAsFenced);
            epoch.epoch() > from && needed || epoch.is_fenced()
        }
    }
}
