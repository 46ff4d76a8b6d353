//! What the agent looks at by itself: canary reads of its volumes and pings of its peers, and surveys when the server asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tanist_model::application::ApplicationReport;
use tanist_model::id::VolumeAddress;
use tanist_model::volume::{StorageReport, VolumeReport};
use tanist_protocol::message::{CanaryReport, PeerAddress, PeerReport};
use tokio::sync::{Notify, mpsc, watch};

use crate::application::Applications;
use crate::peers::Pinger;
use crate::reads::Reads;
use crate::storages::Storages;

/// What to look at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Targets {
    pub(crate) peers: Vec<PeerAddress>,
    pub(crate) volumes: Vec<VolumeAddress>,
}

/// What was seen.
#[derive(Debug)]
pub(crate) enum Seen {
    Routine { canaries: Vec<CanaryReport>, peers: Vec<PeerReport> },
    Survey { survey: u64, canaries: Vec<CanaryReport>, peers: Vec<PeerReport> },
    Inventory { storage: Vec<StorageReport>, volumes: Vec<VolumeReport>, applications: Vec<ApplicationReport> },
}

/// Looks at volumes and peers.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    storages: Storages,
    applications: Applications,
    pinger: Pinger,
    reads: Reads,
    /// A listing of all storage is out.
    listing: Arc<AtomicBool>,
    ping_limit: Duration,
    /// What is watched shall be looked at before it is time.
    at_once: Arc<Notify>,
}

impl Watcher {
    pub(crate) fn new(storages: Storages, applications: Applications, pinger: Pinger, ping_limit: Duration) -> Self {
        Self {
            reads: Reads::new(storages.clone()),
            storages,
            applications,
            pinger,
            listing: Arc::default(),
            ping_limit,
            at_once: Arc::default(),
        }
    }

    /// Makes the routine look at once; or once more, if it looks already.
    pub(crate) fn look_at_once(&self) {
        self.at_once.notify_one();
    }

    /// Looks at what is assigned, again and again, and at once when the assignment changes or it is asked to.
    pub(crate) async fn routine(
        self,
        every: Duration,
        mut targets: watch::Receiver<Targets>,
        seen: mpsc::Sender<Seen>,
    ) {
        let mut pace = tokio::time::interval(every);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = pace.tick() => {}
                () = self.at_once.notified() => {}
                changed = targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            let now = targets.borrow_and_update().clone();
            let (canaries, peers) = self.look(&now).await;
            if seen.send(Seen::Routine { canaries, peers }).await.is_err() {
                return;
            }
        }
    }

    pub(crate) async fn survey(self, survey: u64, targets: Targets, seen: mpsc::Sender<Seen>) {
        let (canaries, peers) = self.look(&targets).await;
        // The loop ends only with the process.
        let _ = seen.send(Seen::Survey { survey, canaries, peers }).await;
    }

    /// Everything this host can see. While a storage system hangs, the one listing that is out is enough.
    pub(crate) async fn inventory(self, seen: mpsc::Sender<Seen>) {
        if self.listing.swap(true, Ordering::AcqRel) {
            return;
        }
        let (storages, applications) = (self.storages.clone(), self.applications.clone());
        let listing = Arc::clone(&self.listing);
        let listed = tokio::task::spawn_blocking(move || {
            let inventory = (storages.inventory(), applications.reports());
            listing.store(false, Ordering::Release);
            inventory
        });
        if let Ok(((storage, volumes), applications)) = listed.await {
            let _ = seen.send(Seen::Inventory { storage, volumes, applications }).await;
        }
    }

    async fn look(&self, targets: &Targets) -> (Vec<CanaryReport>, Vec<PeerReport>) {
        let reads = self.each(&targets.volumes, |watcher, volume| async move { watcher.reads.look(&volume).await });
        let pings = self
            .each(&targets.peers, |watcher, peer| async move { watcher.pinger.ping(&peer, watcher.ping_limit).await });
        let (reads, pings) = tokio::join!(reads, pings);
        (reads.into_iter().flatten().collect(), pings)
    }

    /// All at the same time: one that is slow holds up none of the others.
    async fn each<T, O, F>(&self, subjects: &[T], look: impl Fn(Self, T) -> F) -> Vec<O>
    where
        T: Clone,
        O: Send + 'static,
        F: Future<Output = O> + Send + 'static,
    {
        let mut looks = tokio::task::JoinSet::new();
        for subject in subjects {
            looks.spawn(look(self.clone(), subject.clone()));
        }
        let mut found = Vec::with_capacity(subjects.len());
        while let Some(result) = looks.join_next().await {
            found.extend(result.ok());
        }
        found
    }
}
