//! The rule that a restarted process never resumes an epoch, broken on purpose: only in test builds, and there only under the
//! mutation `EpochResumed`. The end-to-end tests show with it that they would notice.
//!
//! Such a process takes its predecessor for itself: it shows the same incarnation, repeats to its machine what its predecessor
//! was told, and believes to hold the lock that it never took.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tanist_model::id::{CommandId, Incarnation};
use tanist_protocol::message::{ServerMessage, Stamp};
use tanist_protocol::mutation::{Mutation, Mutations};
use tanist_wire::file::{self, Readers};

/// What a process leaves to the next one.
#[derive(Debug, Serialize, Deserialize)]
struct Estate {
    incarnation: Incarnation,
    activations: Vec<(Stamp, CommandId)>,
}

#[derive(Debug)]
pub(crate) struct Resumption {
    path: PathBuf,
    estate: Estate,
    /// What the predecessor was told, until this process has repeated it to itself.
    inherited: Vec<(Stamp, CommandId)>,
}

impl Resumption {
    /// `None` unless the rule is broken.
    pub(crate) fn of(folder: &Path, mutations: Mutations, fresh: Incarnation) -> Option<Self> {
        if !mutations.breaks(Mutation::EpochResumed) {
            return None;
        }
        let path = folder.join("resumed.json");
        let left = std::fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Estate>(&bytes).ok());
        let estate = left.unwrap_or(Estate { incarnation: fresh, activations: Vec::new() });
        let inherited = estate.activations.clone();
        Some(Self { path, estate, inherited })
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.estate.incarnation
    }

    /// Takes a message in; what the machine is to hear instead.
    pub(crate) fn hear(&mut self, message: ServerMessage) -> Vec<ServerMessage> {
        match message {
            ServerMessage::Welcome { term, .. } => {
                let repeated = std::mem::take(&mut self.inherited)
                    .into_iter()
                    .map(|(stamp, command)| ServerMessage::Activate { stamp: Stamp { term, ..stamp }, command });
                std::iter::once(message).chain(repeated).collect()
            }
            ServerMessage::Activate { ref stamp, command } => {
                self.estate.activations.retain(|(earlier, _)| earlier.replication != stamp.replication);
                self.estate.activations.push((*stamp, command));
                self.save();
                vec![message]
            }
            ServerMessage::Grant { stamp, nonce, mut assignment } => {
                assignment.lock_may_be_held = true;
                vec![ServerMessage::Grant { stamp, nonce, assignment }]
            }
            other => vec![other],
        }
    }

    fn save(&self) {
        let written = serde_json::to_vec(&self.estate).map(|bytes| file::replace(&self.path, &bytes, Readers::Owner));
        tracing::warn!(?written, "a rule is broken for a test: the next process will resume this one's epochs");
    }
}
