//! What `tanist apply` reads: the replications that shall be, and which agents must reach which storage. The words and units are those of
//! the command line. Nothing here acts; [`diff`] compares with what there is.

pub mod diff;
mod text;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tanist_model::api::{CreateReplication, Refusal, RefusalCode};
use tanist_model::drill::DrillPolicy;
use tanist_model::excerpt::excerpt;
use tanist_model::id::{AgentName, ApplicationName, ReplicationName, StorageName, VolumeAddress};
use tanist_model::policy::{Policy, SourceMode, StreamCount, VerifyMode};
use tanist_model::retention::Retention;
use tanist_model::schedule::Schedule;
use tanist_model::spelling::nearest;

use crate::cli::values::{Bandwidth, DrillLimit, Rpo};
use text::Text;

/// A declaration is refused beyond so many bytes: it is written by hand or by a program, and not a volume.
const LARGEST_BYTES: usize = 4 << 20;
/// What is wrong in a file is told whole up to here: all the keys that it could have.
const LONGEST_CAUSE_BYTES: usize = 1000;

/// A file of `tanist apply`.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declared {
    #[serde(default)]
    pub storage: Vec<DeclaredStorage>,
    #[serde(default)]
    pub replication: Vec<DeclaredReplication>,
}

/// An expectation: each of these agents reaches this storage system. It is looked at and never brought about.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredStorage {
    pub name: StorageName,
    pub agents: Vec<AgentName>,
}

/// A replication that shall be. What is left out is as `replication create` has it.
#[derive(Clone, PartialEq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeclaredReplication {
    pub name: ReplicationName,
    source: Text<VolumeAddress>,
    target: Text<VolumeAddress>,
    /// By rank.
    pub agents: Vec<AgentName>,
    #[serde(default)]
    source_mode: SourceMode,
    #[serde(default)]
    verify: VerifyMode,
    rpo: Option<Text<Rpo>>,
    limit: Option<Text<Bandwidth>>,
    #[serde(default)]
    streams: StreamCount,
    stored_digests: Option<bool>,
    schedule: Option<Text<Schedule>>,
    verify_schedule: Option<Text<Schedule>>,
    keep: Option<Text<Retention>>,
    /// The host application that is quiesced for the moment of each snapshot.
    application: Option<ApplicationName>,
    #[serde(default)]
    automatic_handback: bool,
    drill_schedule: Option<Text<Schedule>>,
    drill_limit: Option<Text<DrillLimit>>,
    #[serde(default)]
    drill_hand_back: bool,
    /// The target may be overwritten when the replication is created.
    #[serde(default)]
    overwrite_target: bool,
}

impl DeclaredReplication {
    #[must_use]
    pub fn source(&self) -> &VolumeAddress {
        &self.source.0
    }

    #[must_use]
    pub fn target(&self) -> &VolumeAddress {
        &self.target.0
    }

    /// The whole policy: what is not declared is the default, and not what somebody set by hand.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let usual = Policy::default();
        Policy {
            source_mode: self.source_mode,
            verify: self.verify,
            rpo_seconds: self.rpo.as_ref().map(|rpo| rpo.0.seconds),
            bandwidth_bytes_per_second: self.limit.as_ref().map(|limit| limit.0.bytes_per_second),
            streams: self.streams,
            stored_digests: self.stored_digests.unwrap_or(usual.stored_digests),
            schedule: self.schedule.as_ref().map(|schedule| schedule.0.clone()),
            verify_schedule: self.verify_schedule.as_ref().map(|schedule| schedule.0.clone()),
            application: self.application.clone(),
            retention: self.keep.as_ref().map_or(usual.retention, |keep| keep.0),
            automatic_handback: self.automatic_handback,
            drill: DrillPolicy {
                schedule: self.drill_schedule.as_ref().map(|schedule| schedule.0.clone()),
                limit_ms: self.drill_limit.as_ref().map(|limit| limit.0.millis),
                hand_back: self.drill_hand_back,
            },
        }
    }

    /// The request that makes it.
    #[must_use]
    pub fn request(&self) -> CreateReplication {
        CreateReplication {
            name: self.name.clone(),
            source: self.source().clone(),
            target: self.target().clone(),
            agents: self.agents.clone(),
            policy: self.policy(),
            overwrite_target: self.overwrite_target,
            once: false,
            restore: None,
        }
    }
}

impl Declared {
    /// Reads a declaration; `file` is its name for whoever corrects it.
    ///
    /// # Errors
    /// A [`Refusal`] that names file, line, what is wrong and what to do.
    pub fn parse(file: &str, text: &str) -> Result<Self, Refusal> {
        if text.len() > LARGEST_BYTES {
            let refusal =
                Refusal::new(RefusalCode::Invalid, format!("{file} is larger than {} MiB", LARGEST_BYTES >> 20));
            return Err(refusal.hint("declare the replications in several files"));
        }
        let declared: Self = read(file, text)?;
        declared.check().map_err(|(cause, hint)| {
            Refusal::new(RefusalCode::Invalid, format!("{file} cannot be applied")).cause(cause).hint(hint)
        })?;
        Ok(declared)
    }

    /// What no server has to be asked about.
    fn check(&self) -> Result<(), (String, String)> {
        let mut names = BTreeSet::new();
        let mut targets = BTreeSet::new();
        for replication in &self.replication {
            let name = &replication.name;
            if !names.insert(name) {
                return Err((
                    format!("replication {name} is declared twice"),
                    "give each a name of its own".to_owned(),
                ));
            }
            if !targets.insert(replication.target()) {
                let cause = format!("{} is the target of two replications", replication.target());
                return Err((cause, "each replication needs a target of its own".to_owned()));
            }
            if let Err(error) = replication.policy().check() {
                return Err((format!("replication {name}: {error}"), error.hint().to_owned()));
            }
            if replication.agents.is_empty() {
                let hint = "name them by rank, the primary first: agents = [\"h1\", \"h2\"]";
                return Err((format!("replication {name} has no agents"), hint.to_owned()));
            }
        }
        Ok(())
    }
}

/// The words that are known here are told whole, if they are not those of the file.
fn told(message: &str) -> String {
    if message.len() <= LONGEST_CAUSE_BYTES { message.to_owned() } else { excerpt(message) }
}

fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, Refusal> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().and_then(|span| text.get(..span.start)).map_or(1, |t| t.matches('\n').count() + 1);
        let meant = nearest(error.message()).map(|word| format!("did you mean `{word}`?"));
        let hint = meant.unwrap_or_else(|| "correct that line; config/valid has commented samples".to_owned());
        Refusal::new(RefusalCode::Invalid, format!("{file}, line {line}: not understood"))
            .cause(told(error.message()))
            .hint(hint)
    })
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn samples(kind: &str) -> Vec<(String, String)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config").join(kind);
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let is_ours = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("replications");
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        files.filter(is_ours).map(|path| (name(&path), std::fs::read_to_string(&path).unwrap())).collect()
    }

    #[test]
    fn the_commented_sample_is_valid_and_means_what_it_says() {
        let samples = samples("valid");
        assert_eq!(samples.len(), 1);
        let declared = Declared::parse(&samples[0].0, &samples[0].1).unwrap();
        assert_eq!((declared.storage.len(), declared.replication.len()), (2, 2));
        let db = &declared.replication[0];
        assert_eq!((db.source().to_string().as_str(), db.policy().rpo_seconds), ("san-a/db", Some(1800)));
        assert_eq!(db.policy().drill.limit_ms, Some(1500));
        assert_eq!(declared.replication[1].policy(), Policy::default(), "what is left out is as `create` has it");
    }

    /// Their first line is the refusal: error, cause and hint, separated by ` | `.
    #[test]
    fn the_invalid_samples_are_refused_in_these_words() {
        let samples = samples("invalid");
        assert!(samples.len() >= 6);
        for (name, text) in samples {
            let expected = text.lines().next().unwrap().strip_prefix("#! ").expect(&name);
            let refusal = Declared::parse(&name, &text).unwrap_err();
            let said = [Some(refusal.error), refusal.cause, refusal.hint].map(Option::unwrap_or_default).join(" | ");
            assert_eq!(said, expected, "{name}");
        }
    }
}
