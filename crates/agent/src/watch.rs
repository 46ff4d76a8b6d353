//! What the agent looks at by itself: canary reads of its volumes and pings of its peers, and surveys when the server asks.
//!
//! A read that hangs occupies its thread and is reported as hanging; it is never waited for, and never started twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tanist_model::id::VolumeAddress;
use tanist_model::volume::{StorageReport, VolumeReport};
use tanist_protocol::message::{CanaryReport, PeerAddress, PeerReport};
use tokio::sync::{mpsc, watch};

use crate::peers::Pinger;
use crate::storages::Storages;

/// A read that takes longer is reported as failed while it goes on.
const READ_LIMIT: Duration = Duration::from_secs(2);

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
    Inventory { storage: Vec<StorageReport>, volumes: Vec<VolumeReport> },
}

/// Looks at volumes and peers.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    storages: Storages,
    pinger: Pinger,
    /// Reads that have not come back, with their start.
    reading: Arc<Mutex<HashMap<VolumeAddress, Instant>>>,
    ping_limit: Duration,
}

impl Watcher {
    pub(crate) fn new(storages: Storages, pinger: Pinger, ping_limit: Duration) -> Self {
        Self { storages, pinger, reading: Arc::default(), ping_limit }
    }

    /// Looks at what is assigned, again and again, and at once when the assignment changes.
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
                changed = targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
            }
            let now = targets.borrow_and_update().clone();
            let (canaries, peers) = self.look(&now).await;
            // A look that took long is not followed by the next at once: one read that hangs would count as two that failed.
            pace.reset();
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

    pub(crate) async fn inventory(self, seen: mpsc::Sender<Seen>) {
        let storages = self.storages.clone();
        if let Ok((storage, volumes)) = tokio::task::spawn_blocking(move || storages.inventory()).await {
            let _ = seen.send(Seen::Inventory { storage, volumes }).await;
        }
    }

    async fn look(&self, targets: &Targets) -> (Vec<CanaryReport>, Vec<PeerReport>) {
        let reads = self.each(&targets.volumes, |watcher, volume| async move { watcher.canary(volume).await });
        let pings = self
            .each(&targets.peers, |watcher, peer| async move { watcher.pinger.ping(&peer, watcher.ping_limit).await });
        tokio::join!(reads, pings)
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

    async fn canary(self, address: VolumeAddress) -> CanaryReport {
        let started = Instant::now();
        let result = self.read(&address).await;
        let took_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        CanaryReport { address, result, took_us, age_ms: 0 }
    }

    async fn read(&self, address: &VolumeAddress) -> Result<VolumeReport, String> {
        if let Some(hanging) = self.start_reading(address) {
            return Err(format!("a read has not come back for {} ms", hanging.as_millis()));
        }
        let (watcher, volume) = (self.clone(), address.clone());
        let read = tokio::task::spawn_blocking(move || {
            let result = watcher.read_now(&volume);
            watcher.reading().remove(&volume);
            result
        });
        match tokio::time::timeout(READ_LIMIT, read).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err("the read was given up".to_owned()),
            Err(_) => Err(format!("a read has not come back for {} ms", READ_LIMIT.as_millis())),
        }
    }

    /// Notes that a read starts; how long the last one has been hanging, if it has not come back.
    fn start_reading(&self, address: &VolumeAddress) -> Option<Duration> {
        let mut reading = self.reading();
        let hanging = reading.get(address).map(Instant::elapsed).filter(|age| *age >= READ_LIMIT);
        if hanging.is_none() {
            reading.insert(address.clone(), Instant::now());
        }
        hanging
    }

    fn reading(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeAddress, Instant>> {
        self.reading.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_now(&self, address: &VolumeAddress) -> Result<VolumeReport, String> {
        let system = self.storages.of(address)?;
        let report = system.inspect(address).map_err(|e| e.to_string())?;
        system.canary(address).map_err(|e| e.to_string())?;
        Ok(report)
    }
}
