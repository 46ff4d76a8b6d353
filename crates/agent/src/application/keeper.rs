//! The keeper of marks: tells what became of each, and thaws what nobody else has thawed.
//!
//! It looks at the disk alone, so it makes no difference whether an attempt was this process's own, or that of one that was killed.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use tanist_model::application::{ThawCause, ThawReport};
use tanist_model::id::{ApplicationName, ReplicationId, SnapshotId};
use tokio::sync::mpsc::UnboundedSender;

use super::attempt::Applications;
use super::guard::thaw;
use super::mark::{Found, HeldMark, Outcome, exists, find, forget, try_sole};
use crate::clock;

/// How often it looks by itself.
const PACE: Duration = Duration::from_millis(250);
/// After an `after` that failed it is tried again so often.
const RETRY: Duration = Duration::from_secs(30);

/// What the keeper is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum MarkOrder {
    /// Something may have changed.
    Look,
    /// The server has it on record.
    Forget(SnapshotId),
    /// Say so if there is no mark.
    Ask { replication: ReplicationId, attempt: SnapshotId, application: ApplicationName },
}

/// The keeper.
#[derive(Debug)]
pub(crate) struct Keeper {
    applications: Applications,
    reports: UnboundedSender<ThawReport>,
    told: BTreeMap<SnapshotId, Outcome>,
}

impl Keeper {
    /// Starts its thread, which ends with the process.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub(crate) fn start(
        applications: Applications,
        orders: Receiver<MarkOrder>,
        reports: UnboundedSender<ThawReport>,
    ) -> std::io::Result<()> {
        let keeper = Self { applications, reports, told: BTreeMap::new() };
        thread::Builder::new().name("marks".to_owned()).spawn(move || keeper.run(&orders)).map(drop)
    }

    fn run(mut self, orders: &Receiver<MarkOrder>) {
        loop {
            self.look();
            match orders.recv_timeout(PACE) {
                Ok(order) => self.obey(order),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn obey(&mut self, order: MarkOrder) {
        match order {
            MarkOrder::Look => {}
            MarkOrder::Forget(attempt) => {
                forget(self.applications.folder(), attempt);
                self.told.remove(&attempt);
            }
            MarkOrder::Ask { replication, attempt, application } => {
                if !exists(self.applications.folder(), attempt) {
                    let (cause, quiesced_ms, failure) = (ThawCause::NothingFound, None, None);
                    self.tell(ThawReport { replication, attempt, application, cause, quiesced_ms, failure });
                }
            }
        }
    }

    fn tell(&self, report: ThawReport) {
        // The loop ends only with the process.
        let _ = self.reports.send(report);
    }

    fn look(&mut self) {
        for found in find(self.applications.folder()) {
            match found {
                Found::Held => {}
                Found::Owed(mark) => self.thaw(mark),
                Found::Settled(mark, outcome) => self.settled(mark, outcome),
            }
        }
    }

    fn settled(&mut self, mark: HeldMark, outcome: Outcome) {
        let attempt = mark.task.attempt;
        if self.told.get(&attempt) != Some(&outcome) {
            if let Some(failure) = &outcome.failure {
                tracing::error!(application = %mark.task.application, failure, "a host application may still be quiesced");
            }
            self.tell(mark.task.report(&outcome));
            self.told.insert(attempt, outcome.clone());
        }
        if outcome.failure.is_some() && clock::wall().since(outcome.at) >= RETRY {
            self.thaw(mark);
        }
    }

    /// In a thread of its own, which holds the mark. The scripts of today count, where there are any: they may have been mended.
    fn thaw(&self, mark: HeldMark) {
        let applications = self.applications.clone();
        let body = move || {
            let (folder, application) = (applications.folder(), &mark.task.application);
            // One that is being quiesced anew is thawed by its own guard.
            let Ok(Some(_sole)) = try_sole(folder, application) else { return };
            tracing::warn!(%application, since = %mark.task.since, "a host application was left quiesced and is thawed now");
            let after = applications.find(application).map_or(&mark.task.after, |config| &config.after);
            let outcome = thaw(&mark.task, after, ThawCause::FoundLater);
            if let Err(error) = mark.settle(&outcome) {
                tracing::error!(%error, %application, "what became of a host application cannot be written down");
                // The mark is owed all the same: held for a while, or `after` would be run without end.
                thread::sleep(RETRY);
            }
        };
        if let Err(error) = thread::Builder::new().name("thaw".to_owned()).spawn(body) {
            tracing::error!(%error, "no thread to thaw a host application");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc::{Sender, channel};

    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::application::ApplicationConfig;
    use crate::application::mark::FOLDER;
    use crate::application::mark::tests::task;

    fn keep(folder: &Path, after: &[&str]) -> (Sender<MarkOrder>, UnboundedReceiver<ThawReport>) {
        let (orders, queue) = channel();
        let (reports, told) = unbounded_channel();
        let words = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect();
        let (name, limit) = ("db".parse().unwrap(), crate::application::QuiesceLimit::default());
        let config = ApplicationConfig { name, before: words(&["/bin/false"]), after: words(after), limit };
        let applications = Applications::open("h1".parse().unwrap(), folder, vec![config], orders.clone()).unwrap();
        Keeper::start(applications, queue, reports).unwrap();
        (orders, told)
    }

    #[test]
    fn what_was_left_quiesced_is_thawed_by_the_script_of_today_and_told_until_it_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let marks = folder.path().join(FOLDER);
        fs::create_dir(&marks).unwrap();
        drop(HeldMark::place(task(&marks, "", "exit 1")).unwrap());
        let diary = folder.path().join("diary");
        let (orders, mut told) = keep(folder.path(), &["/bin/sh", "-c", &format!("echo thawed > {}", diary.display())]);
        let report = told.blocking_recv().unwrap();
        assert_eq!((report.attempt, report.cause, report.failure), (SnapshotId(7), ThawCause::FoundLater, None));
        assert_eq!(fs::read_to_string(diary).unwrap(), "thawed\n");
        assert!(exists(&marks, SnapshotId(7)), "the server has not heard it yet");

        let ask =
            |attempt| MarkOrder::Ask { replication: ReplicationId(1), attempt, application: "db".parse().unwrap() };
        orders.send(ask(SnapshotId(7))).unwrap();
        orders.send(MarkOrder::Forget(SnapshotId(7))).unwrap();
        orders.send(ask(SnapshotId(7))).unwrap();
        assert_eq!(told.blocking_recv().unwrap().cause, ThawCause::NothingFound);
        assert!(!exists(&marks, SnapshotId(7)));
    }

    #[test]
    fn an_after_that_fails_is_told_and_the_mark_stays() {
        let folder = tempfile::tempdir().unwrap();
        let marks = folder.path().join(FOLDER);
        fs::create_dir(&marks).unwrap();
        drop(HeldMark::place(task(&marks, "", "true")).unwrap());
        let (_orders, mut told) = keep(folder.path(), &["/bin/sh", "-c", "echo gone away; exit 9"]);
        let report = told.blocking_recv().unwrap();
        assert_eq!(report.failure.unwrap(), "its after script ended with status 9: gone away");
        assert!(exists(&marks, SnapshotId(7)));
    }
}
