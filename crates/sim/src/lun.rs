//! A logical unit as its paths see it: registrations, the reservation, and what each command does to them.
//!
//! SCSI as SPC-5 (5.14, 6.16, 6.17) has it, NVMe as the Base Specification 2.1 (8.1.24) has it, as far as the type "write exclusive" goes.
//! Where the two differ it is said. Writes are the caller's: the unit says which are let in and whose are ended.

use std::collections::BTreeMap;

use tanist_protocol::fence::{RawKey, Reservation, ReservationAnswer, ReservationCommand, ReservationKind};

/// Whose language it speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CommandSet {
    Scsi,
    Nvme,
}

/// A way from a host to the unit: an initiator port and a target port, or a controller.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Path {
    pub host: usize,
    pub port: usize,
}

/// A logical unit or namespace.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Lun {
    set: CommandSet,
    /// Registrations stand through a loss of power.
    persists: bool,
    registrations: BTreeMap<Path, RawKey>,
    holder: Option<Path>,
}

/// What a command did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Executed {
    pub answer: ReservationAnswer,
    /// Whose accepted writes were ended.
    pub aborted: Vec<Path>,
}

impl Lun {
    #[must_use]
    pub fn new(set: CommandSet, persists: bool) -> Self {
        Self { set, persists, registrations: BTreeMap::new(), holder: None }
    }

    /// Who is registered: the path, or with NVMe its host with all its paths.
    fn registrant(&self, path: Path) -> Path {
        match self.set {
            CommandSet::Scsi => path,
            CommandSet::Nvme => Path { port: 0, ..path },
        }
    }

    #[must_use]
    pub fn key_of(&self, path: Path) -> Option<RawKey> {
        self.registrations.get(&self.registrant(path)).copied()
    }

    /// Whether a write that arrives now is let in.
    #[must_use]
    pub fn admits(&self, path: Path) -> bool {
        self.holder.is_none_or(|holder| holder == self.registrant(path))
    }

    #[must_use]
    pub fn is_registered(&self, key: RawKey) -> bool {
        self.registrations.values().any(|k| *k == key)
    }

    /// Power is gone and comes back. What was accepted and not carried out is lost; that is the caller's.
    pub fn lose_power(&mut self) {
        if !self.persists {
            self.clear();
        }
    }

    /// An administrator clears it.
    pub fn clear(&mut self) {
        self.registrations.clear();
        self.holder = None;
    }

    pub fn execute(&mut self, path: Path, command: ReservationCommand) -> Executed {
        use ReservationAnswer as A;
        use ReservationCommand as C;
        let path = self.registrant(path);
        let mut aborted = Vec::new();
        let answer = match command {
            C::ReadKeys => A::Keys(self.registrations.values().copied().collect()),
            C::ReadReservation => A::Reservation(self.reservation()),
            C::ReadPersistence => A::Persistence(self.persists),
            C::Register { existing, key } => self.register(path, existing, key),
            C::RegisterAndIgnore { key } => self.put(path, key),
            C::Unregister { key } => self.unregister(path, key),
            C::Reserve { key } => self.reserve(path, key),
            C::Preempt { key, victim } => self.preempt(path, key, victim).0,
            C::PreemptAndAbort { key, victim } => {
                let (answer, removed) = self.preempt(path, key, victim);
                aborted = removed;
                answer
            }
        };
        Executed { answer, aborted }
    }

    fn reservation(&self) -> Option<Reservation> {
        let holder = *self.registrations.get(&self.holder?)?;
        Some(Reservation { holder, kind: ReservationKind::WriteExclusive })
    }

    fn put(&mut self, path: Path, key: RawKey) -> ReservationAnswer {
        self.registrations.insert(path, key);
        ReservationAnswer::Done
    }

    fn register(&mut self, path: Path, existing: Option<RawKey>, key: RawKey) -> ReservationAnswer {
        let registered = self.registrations.get(&path).copied();
        // NVMe takes the same key again for what it is; SCSI compares with zero.
        let same = self.set == CommandSet::Nvme && existing.is_none() && registered == Some(key);
        if registered == existing || same { self.put(path, key) } else { ReservationAnswer::Conflict }
    }

    fn unregister(&mut self, path: Path, key: RawKey) -> ReservationAnswer {
        if self.registrations.get(&path) != Some(&key) {
            return ReservationAnswer::Conflict;
        }
        self.registrations.remove(&path);
        self.holder = self.holder.filter(|holder| *holder != path);
        ReservationAnswer::Done
    }

    fn reserve(&mut self, path: Path, key: RawKey) -> ReservationAnswer {
        let registered = self.registrations.get(&path) == Some(&key);
        if !registered || self.holder.is_some_and(|holder| holder != path) {
            return ReservationAnswer::Conflict;
        }
        self.holder = Some(path);
        ReservationAnswer::Done
    }

    /// Every registration with the victim's key ends; if one of them held the reservation, the preempting path holds it.
    fn preempt(&mut self, path: Path, key: RawKey, victim: RawKey) -> (ReservationAnswer, Vec<Path>) {
        let removed: Vec<Path> =
            self.registrations.iter().filter(|(p, k)| **k == victim && **p != path).map(|(p, _)| *p).collect();
        if self.registrations.get(&path) != Some(&key) || removed.is_empty() {
            return (ReservationAnswer::Conflict, Vec::new());
        }
        self.registrations.retain(|path, _| !removed.contains(path));
        if self.holder.is_some_and(|holder| removed.contains(&holder)) {
            self.holder = Some(path);
        }
        (ReservationAnswer::Done, removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReservationAnswer as A;
    use ReservationCommand as C;

    const ONE: RawKey = RawKey(1);
    const TWO: RawKey = RawKey(2);

    fn path(host: usize, port: usize) -> Path {
        Path { host, port }
    }

    fn answer(lun: &mut Lun, path: Path, command: C) -> A {
        lun.execute(path, command).answer
    }

    /// The first host holds the reservation, the second is registered.
    fn reserved(set: CommandSet, persists: bool) -> Lun {
        let mut lun = Lun::new(set, persists);
        assert_eq!(answer(&mut lun, path(0, 0), C::Register { existing: None, key: ONE }), A::Done);
        assert_eq!(answer(&mut lun, path(1, 0), C::Register { existing: None, key: TWO }), A::Done);
        assert_eq!(answer(&mut lun, path(0, 0), C::Reserve { key: ONE }), A::Done);
        lun
    }

    #[test]
    fn only_the_holder_writes_and_a_registrant_does_not() {
        let lun = reserved(CommandSet::Scsi, true);
        assert!(lun.admits(path(0, 0)) && !lun.admits(path(1, 0)) && !lun.admits(path(2, 0)));
    }

    #[test]
    fn a_path_is_what_scsi_reserves_for_and_a_host_what_nvme_does() {
        assert!(!reserved(CommandSet::Scsi, true).admits(path(0, 1)));
        assert!(reserved(CommandSet::Nvme, true).admits(path(0, 1)));
    }

    #[test]
    fn preempting_by_name_ends_what_was_accepted_and_only_once() {
        let mut lun = reserved(CommandSet::Scsi, true);
        let preempt = C::PreemptAndAbort { key: TWO, victim: ONE };
        let done = lun.execute(path(1, 0), preempt);
        assert_eq!((done.answer, done.aborted), (A::Done, vec![path(0, 0)]));
        assert!(lun.admits(path(1, 0)) && !lun.admits(path(0, 0)));
        assert_eq!(answer(&mut lun, path(1, 0), preempt), A::Conflict, "nobody has that key any more");
        assert_eq!(answer(&mut lun, path(0, 0), C::Reserve { key: ONE }), A::Conflict, "it is not registered any more");
    }

    #[test]
    fn a_registration_is_compared_with_what_is_there() {
        let mut lun = reserved(CommandSet::Scsi, true);
        assert_eq!(answer(&mut lun, path(0, 0), C::Register { existing: None, key: TWO }), A::Conflict);
        assert_eq!(answer(&mut lun, path(0, 0), C::Register { existing: Some(TWO), key: TWO }), A::Conflict);
        assert_eq!(answer(&mut lun, path(0, 0), C::Register { existing: Some(ONE), key: RawKey(3) }), A::Done);
        assert!(lun.admits(path(0, 0)), "the reservation stays with the path");
        assert_eq!(lun.reservation().map(|r| r.holder), Some(RawKey(3)));
    }

    #[test]
    fn who_unregisters_gives_the_reservation_up() {
        let mut lun = reserved(CommandSet::Scsi, true);
        assert_eq!(answer(&mut lun, path(0, 0), C::Unregister { key: ONE }), A::Done);
        assert!(lun.admits(path(1, 0)) && lun.admits(path(2, 0)));
    }

    #[test]
    fn power_takes_what_does_not_persist() {
        for (persists, others_write) in [(true, false), (false, true)] {
            let mut lun = reserved(CommandSet::Nvme, persists);
            lun.lose_power();
            assert_eq!(lun.admits(path(1, 0)), others_write);
        }
    }
}
