//! Canary reads: one at a time for each volume, on a thread that the agent can do without.
//!
//! A slow read is waited for without being called a failure: a busy disk is not a lost path. One that hangs for long is
//! reported as hanging. It is never started a second time while it is out.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tanist_model::id::VolumeAddress;
use tanist_model::volume::VolumeReport;
use tanist_protocol::message::CanaryReport;
use tokio::sync::watch;

use crate::storages::Storages;

/// How long one look waits for a read. What comes later is seen by the next look.
const PATIENCE: Duration = Duration::from_millis(800);
/// A read that is out for longer is reported as a failure, and counts as a lost path when it is reported again.
const HANGING_AFTER: Duration = Duration::from_secs(10);

type Outcome = Option<CanaryReport>;

/// A read that has not come back.
#[derive(Clone)]
struct Out {
    since: Instant,
    outcome: watch::Receiver<Outcome>,
}

/// The reads that are out, by volume.
#[derive(Clone)]
pub(crate) struct Reads {
    storages: Storages,
    out: Arc<Mutex<HashMap<VolumeAddress, Out>>>,
}

impl fmt::Debug for Reads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.out().keys()).finish()
    }
}

impl Reads {
    pub(crate) fn new(storages: Storages) -> Self {
        Self { storages, out: Arc::default() }
    }

    /// What a read of the volume gives; `None` while it is slow and not yet hanging.
    pub(crate) async fn look(&self, volume: &VolumeAddress) -> Outcome {
        let mut read = self.join_or_start(volume);
        match tokio::time::timeout(PATIENCE, read.outcome.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => outcome.clone(),
            Ok(Err(_)) => Some(failed(volume, read.since, "the read was given up".to_owned())),
            Err(_) => hanging(volume, read.since),
        }
    }

    fn join_or_start(&self, volume: &VolumeAddress) -> Out {
        let mut out = self.out();
        if let Some(read) = out.get(volume) {
            return read.clone();
        }
        let (done, outcome) = watch::channel(None);
        let read = Out { since: Instant::now(), outcome };
        out.insert(volume.clone(), read.clone());
        let (reads, volume, since) = (self.clone(), volume.clone(), read.since);
        tokio::task::spawn_blocking(move || {
            let result = reads.read(&volume);
            reads.out().remove(&volume);
            // Nobody may be looking any more; the next look starts a new read.
            let _ = done.send(Some(report(&volume, since, result)));
        });
        read
    }

    fn read(&self, volume: &VolumeAddress) -> Result<VolumeReport, String> {
        let system = self.storages.of(volume)?;
        let report = system.inspect(volume).map_err(|e| e.to_string())?;
        system.canary(volume).map_err(|e| e.to_string())?;
        Ok(report)
    }

    fn out(&self) -> MutexGuard<'_, HashMap<VolumeAddress, Out>> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn report(volume: &VolumeAddress, since: Instant, result: Result<VolumeReport, String>) -> CanaryReport {
    let took_us = u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
    CanaryReport { address: volume.clone(), result, took_us, age_ms: 0 }
}

fn failed(volume: &VolumeAddress, since: Instant, reason: String) -> CanaryReport {
    report(volume, since, Err(reason))
}

fn hanging(volume: &VolumeAddress, since: Instant) -> Outcome {
    let age = since.elapsed();
    (age >= HANGING_AFTER).then(|| failed(volume, since, format!("a read has not come back for {} s", age.as_secs())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume() -> VolumeAddress {
        "san-a/v1".parse().unwrap()
    }

    #[test]
    fn a_slow_read_is_no_failure_and_a_hanging_one_is() {
        let now = Instant::now();
        assert_eq!(hanging(&volume(), now), None);
        let long_ago = now.checked_sub(HANGING_AFTER).unwrap();
        assert!(hanging(&volume(), long_ago).unwrap().result.unwrap_err().contains("has not come back for 10 s"));
    }

    #[tokio::test]
    async fn a_read_that_is_out_is_joined_and_not_started_again() {
        let (reads, volume) = (Reads::new(Storages::open(&[]).unwrap()), volume());
        let (done, outcome) = watch::channel(None);
        reads.out().insert(volume.clone(), Out { since: Instant::now(), outcome });
        let (looked, ()) = tokio::join!(reads.look(&volume), async {
            let result = Err("of the one that was out".to_owned());
            done.send(Some(report(&volume, Instant::now(), result))).unwrap();
        });
        assert_eq!(looked.unwrap().result.unwrap_err(), "of the one that was out");
    }

    #[tokio::test]
    async fn a_volume_that_is_not_there_is_a_failure_at_once() {
        let reads = Reads::new(Storages::open(&[]).unwrap());
        let looked = reads.look(&volume()).await.unwrap();
        assert!(looked.result.unwrap_err().contains("no storage system san-a"));
        assert!(reads.out().is_empty());
    }
}
