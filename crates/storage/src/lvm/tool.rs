//! LVM's own commands, each under a limit of time, with an answer of bounded length, and no words of a locale.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tanist_script::{Keep, Keeps, RunError};

use super::answer::{self, AnswerError, COLUMNS, LogicalVolume};
use super::metadata::DeltaTools;
use crate::error::StorageError;

/// A thousand volumes are below half a MiB.
const ANSWER_BYTES: usize = 4 << 20;
const COMPLAINT_BYTES: usize = 16 << 10;
/// Where distributions have lvm, before whatever the agent was started with.
const PLACES: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// How LVM is called.
#[derive(Clone, Debug)]
pub(super) struct Tool {
    pub(super) program: PathBuf,
    /// For each command.
    pub(super) limit: Duration,
    pub(super) delta: DeltaTools,
}

/// What is wrong with a call.
#[derive(Debug, thiserror::Error)]
enum Complaint {
    #[error("it could not be started: {0}; install the package {1}")]
    Start(std::io::Error, &'static str),
    #[error(
        "it {0}; a command that is killed may leave a device suspended, and all that use it hanging: look at dmsetup info, and \
         end that with dmsetup resume"
    )]
    Killed(RunError),
    #[error("it {0}{1}")]
    Ended(String, String),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

impl Tool {
    /// Every logical volume of the group.
    pub(super) fn list(&self, group: &str) -> Result<Vec<LogicalVolume>, StorageError> {
        let form = ["--reportformat", "json", "--units", "b", "--nosuffix", "-o", COLUMNS];
        let text = self.run("lvs", group, &form, group)?;
        answer::volumes(group, &text).map_err(|error| failed("lvs", group, error))
    }

    /// An immutable snapshot, active at once and with every activation of its group.
    pub(super) fn snapshot(&self, group: &str, volume: &str, name: &str, tags: &[String]) -> Result<(), StorageError> {
        let mut arguments =
            vec!["--snapshot", "--permission", "r", "--setactivationskip", "n", "--yes", "--name", name];
        arguments.extend(tags.iter().flat_map(|tag| ["--addtag", tag.as_str()]));
        self.run("lvcreate", &format!("{group}/{volume}"), &arguments, &format!("{group}/{volume}")).map(drop)
    }

    pub(super) fn remove(&self, group: &str, name: &str) -> Result<(), StorageError> {
        let what = format!("{group}/{name}");
        self.run("lvremove", &what, &["--force", "--yes"], &what).map(drop)
    }

    pub(super) fn activate(&self, group: &str, name: &str) -> Result<(), StorageError> {
        let what = format!("{group}/{name}");
        self.run("lvchange", &what, &["--activate", "y", "--ignoreactivationskip"], &what).map(drop)
    }

    fn run(&self, verb: &'static str, on: &str, options: &[&str], of: &str) -> Result<Vec<u8>, StorageError> {
        let mut command = Command::new(&self.program);
        command.arg(verb).args(options).arg(on);
        self.ask(verb, of, command, ANSWER_BYTES)
    }

    /// What a program says that ends well. It is started with nothing of this process's environment but where programs are.
    pub(super) fn ask(
        &self,
        verb: &'static str,
        of: &str,
        mut command: Command,
        answer_bytes: usize,
    ) -> Result<Vec<u8>, StorageError> {
        command.env_clear();
        let others = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{PLACES}:{others}")).env("LC_ALL", "C").env("LVM_SUPPRESS_FD_WARNINGS", "1");
        // Without udev the library makes the nodes itself; who set this for the agent meant its tools.
        if let Ok(value) = std::env::var("DM_DISABLE_UDEV") {
            command.env("DM_DISABLE_UDEV", value);
        }
        let package = if verb == "thin_delta" { "thin-provisioning-tools" } else { "lvm2" };
        let keeps = Keeps { out: Keep::Whole(answer_bytes), err: Keep::Last(COMPLAINT_BYTES) };
        match tanist_script::run(command, Vec::new(), keeps, self.limit) {
            Ok((exit, said)) if exit.is_well() => Ok(said.out),
            Ok((exit, said)) => Err(failed(verb, of, Complaint::Ended(exit.in_words(), said.quote_err()))),
            Err(RunError::Start(cause)) => Err(failed(verb, of, Complaint::Start(cause, package))),
            Err(error) => Err(failed(verb, of, Complaint::Killed(error))),
        }
    }
}

pub(super) fn failed(verb: &'static str, of: &str, complaint: impl std::fmt::Display) -> StorageError {
    StorageError::Lvm { verb, of: of.to_owned(), why: complaint.to_string() }
}
