//! Words for what the model names, in one place, so that every command says the same.

use tanist_model::api::Health;
use tanist_model::event::Severity;
use tanist_model::policy::{Policy, SourceMode, StreamCount, VerifyMode};
use tanist_model::quantity::count;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::{FencingTier, ProofKind};
use tanist_model::run::RunState;
use tanist_model::takeover::PeerVerdict;
use tanist_model::volume::{StorageKind, VolumeContent};

use super::{Style, Tone, units};

#[must_use]
pub fn health(health: Health) -> (&'static str, Tone) {
    match health {
        Health::Ok => ("ok", Tone::Good),
        Health::Degraded => ("degraded", Tone::Warning),
        Health::Stopped => ("stopped", Tone::Bad),
    }
}

/// The health's word in its colour.
#[must_use]
pub fn painted_health(value: Health, style: Style) -> String {
    let (word, tone) = health(value);
    style.paint(tone, word)
}

#[must_use]
pub fn severity_tone(severity: Severity) -> Tone {
    match severity {
        Severity::Info => Tone::Plain,
        Severity::Warning => Tone::Warning,
        Severity::Alarm => Tone::Bad,
    }
}

#[must_use]
pub fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Warning => "warning",
        Severity::Alarm => "alarm",
    }
}

#[must_use]
pub fn source_mode(mode: SourceMode) -> &'static str {
    match mode {
        SourceMode::Snapshot => "a snapshot for each run",
        SourceMode::RecoveryPoint => "a recovery point that is restored",
        SourceMode::Sealed => "sealed (nobody writes during a run)",
        SourceMode::Live => "live (the replica is fuzzy)",
    }
}

#[must_use]
pub fn verify(mode: VerifyMode) -> &'static str {
    match mode {
        VerifyMode::Off => "off (the flush of the storage is trusted)",
        VerifyMode::Written => "what a run wrote is read back",
        VerifyMode::Full => "what a run wrote, and the whole target at the end",
    }
}

/// The limits of a policy, or that there are none.
#[must_use]
pub fn limits(policy: &Policy) -> String {
    let rpo = policy.rpo_seconds.map(|s| format!("RPO {}", units::seconds(s)));
    let rate = policy.bandwidth_bytes_per_second.map(|b| format!("at most {}", units::rate(b)));
    let streams = (policy.streams != StreamCount::default()).then(|| count(u8::from(policy.streams).into(), "stream"));
    let digests = (!policy.stored_digests).then(|| "no stored digests".to_owned());
    let application = policy.application.as_ref().map(|name| format!("{name} quiesced for each snapshot"));
    let parts: Vec<String> = [rpo, rate, streams, digests, application].into_iter().flatten().collect();
    if parts.is_empty() { "no RPO, no rate limit".to_owned() } else { parts.join(", ") }
}

/// When runs are made, and what is kept of them.
#[must_use]
pub fn schedule(policy: &Policy) -> String {
    let runs = policy.schedule.as_ref().map_or_else(|| "on command only".to_owned(), ToString::to_string);
    let verified = policy.verify_schedule.as_ref().map(|schedule| format!("; verifies {schedule}")).unwrap_or_default();
    format!("{runs}; keeps {}{verified}", policy.retention)
}

#[must_use]
pub fn tier(tier: FencingTier) -> &'static str {
    match tier {
        FencingTier::F1 => "F1, reservation",
        FencingTier::F2 => "F2, proof of quiet",
        FencingTier::F3 => "F3, neither reservation nor proof",
    }
}

#[must_use]
pub fn proof(kind: ProofKind) -> &'static str {
    match kind {
        ProofKind::Drained => "it drained, finally",
        ProofKind::KernelLock => "its kernel lock on the target was obtained",
        ProofKind::NewBoot => "its host has booted anew",
        ProofKind::OperatorConfirmed => "an operator confirmed it dead",
    }
}

#[must_use]
pub fn run_state(state: RunState) -> &'static str {
    match state {
        RunState::SnapshotPending => "waiting for its source snapshot",
        RunState::Bound => "bound to its snapshot, nothing written yet",
        RunState::Copying => "copying",
        RunState::Verifying => "verifying the whole target",
        RunState::Flushed => "flushed, being published",
        RunState::Published => "published",
        RunState::Abandoned => "abandoned",
    }
}

#[must_use]
pub fn place(place: &RecoveryPointPlace) -> String {
    match place {
        RecoveryPointPlace::Target => "the target volume itself".to_owned(),
        RecoveryPointPlace::Snapshot(uid) => format!("target snapshot {uid}"),
        RecoveryPointPlace::Gone => "gone".to_owned(),
    }
}

#[must_use]
pub fn storage_kind(kind: StorageKind) -> &'static str {
    match kind {
        StorageKind::Image => "image files",
        StorageKind::Block => "block devices",
        StorageKind::LvmThin => "LVM thin pool",
        StorageKind::Nbd => "NBD exports",
        StorageKind::Memory => "memory",
    }
}

#[must_use]
pub fn content(content: &VolumeContent) -> String {
    match content {
        VolumeContent::Blank => "blank".to_owned(),
        VolumeContent::Signature(what) => what.clone(),
        VolumeContent::Data => "data".to_owned(),
    }
}

#[must_use]
pub fn verdict(verdict: &PeerVerdict) -> String {
    match verdict {
        PeerVerdict::Reached { incarnation } => format!("reached it, process {}", units::short(incarnation)),
        PeerVerdict::Refused => "refused by its host: the process is gone (no proof of quiet)".to_owned(),
        PeerVerdict::Unreachable => "no answer in time".to_owned(),
    }
}
