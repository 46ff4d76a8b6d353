//! Volumes that are not what the replication was created over: another one at the address, or one of another size. No run helps then,
//! and asking for one is no advice: the old volume comes back, or the replication is made anew over what is there now.

use tanist_model::api::Health;
use tanist_model::id::AgentName;
use tanist_model::policy::{Policy, SourceMode, VerifyMode};
use tanist_model::quantity::count;
use tanist_model::replication::{Intent, ReplicationRecord, Side};
use tanist_protocol::server::ServerMachine;

use super::findings::Finding;

/// What is wrong with a volume, and how to replicate what is there now.
#[must_use]
pub fn misfit(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    // What is made for one run is not made anew.
    if record.intent == Intent::Deleting || record.once || machine.state().restoring {
        return None;
    }
    let replaced = [Side::Target, Side::Source].into_iter().find_map(|side| replaced(machine, record, side));
    let (what, delete) = match replaced {
        // Nobody may reach any more what was made of the old one.
        Some(what) => (what, format!("tanist replication delete {} --leave-behind", record.name)),
        None => (resized(machine, record)?, format!("tanist replication delete {}", record.name)),
    };
    let summary = format!("{what}; to replicate what is there now, remove the replication and create it anew");
    let next = Some(format!("{delete}; when it is gone: {}", create_command(record)));
    Some(Finding { health: Health::Stopped, summary, next })
}

fn replaced(machine: &ServerMachine, record: &ReplicationRecord, side: Side) -> Option<String> {
    let seen = machine.replaced(record, side)?;
    let (volume, old) = (&record.side(side).volume, &record.side(side).identity);
    Some(format!("the {side} {volume} was replaced: its agents see {seen} there instead of {old}; bring that one back"))
}

fn resized(machine: &ServerMachine, record: &ReplicationRecord) -> Option<String> {
    let size = record.size_bytes;
    let source = machine.size_now(record, Side::Source).filter(|now| *now != size);
    let target = machine.size_now(record, Side::Target).filter(|now| *now < size);
    match (source, target) {
        (Some(now), _) if now > size => Some(format!(
            "the source {} grew from {size} to {now} bytes, and the size is fixed at create; grow the target to at least that first",
            record.source.volume
        )),
        (Some(now), _) => Some(format!(
            "the source {} shrank from {size} to {now} bytes, and the size is fixed at create",
            record.source.volume
        )),
        (None, Some(now)) => {
            let missing = count(size - now, "byte");
            Some(format!(
                "the target {} is {missing} smaller than the replication; grow it again",
                record.target.volume
            ))
        }
        (None, None) => None,
    }
}

/// The command that makes the same replication over the volumes that are there.
#[must_use]
pub fn create_command(record: &ReplicationRecord) -> String {
    let mut agents: Vec<&AgentName> = record.target.hierarchy.iter().collect();
    agents.extend(record.source.hierarchy.iter().filter(|agent| !record.target.hierarchy.contains(agent)));
    let agents: Vec<&str> = agents.into_iter().map(AgentName::as_str).collect();
    let (source, target) = (&record.source.volume, &record.target.volume);
    let mut words = vec![format!(
        "tanist replication create {} --source {source} --target {target} --agents {}",
        record.name,
        agents.join(",")
    )];
    words.extend(options(&record.policy));
    words.push("--overwrite-target".to_owned());
    words.join(" ")
}

/// A policy as it is typed; what is usual is left out.
fn options(policy: &Policy) -> Vec<String> {
    let usual = Policy::default();
    let mode = match policy.source_mode {
        SourceMode::Sealed => Some("--source-mode sealed".to_owned()),
        SourceMode::Live => Some("--source-mode live".to_owned()),
        SourceMode::Snapshot | SourceMode::RecoveryPoint => None,
    };
    let verify = match policy.verify {
        VerifyMode::Off => Some("--verify off".to_owned()),
        VerifyMode::Full => Some("--verify full".to_owned()),
        VerifyMode::Written => None,
    };
    let drill = &policy.drill;
    let options = [
        mode,
        verify,
        policy.rpo_seconds.map(|seconds| format!("--rpo {seconds}s")),
        policy.bandwidth_bytes_per_second.map(|bytes| format!("--limit {}/s", exact_size(bytes))),
        (policy.streams != usual.streams).then(|| format!("--streams {}", policy.streams)),
        (policy.stored_digests != usual.stored_digests).then(|| "--stored-digests=no".to_owned()),
        policy.schedule.as_ref().map(|schedule| format!("--schedule '{schedule}'")),
        policy.verify_schedule.as_ref().map(|schedule| format!("--verify-schedule '{schedule}'")),
        (policy.retention != usual.retention).then(|| format!("--keep {}", policy.retention)),
        policy.automatic_handback.then(|| "--automatic-handback".to_owned()),
        drill.schedule.as_ref().map(|schedule| format!("--drill-schedule '{schedule}'")),
        drill.limit_ms.map(|ms| format!("--drill-limit {ms}ms")),
        drill.hand_back.then(|| "--drill-hand-back".to_owned()),
        policy.application.as_ref().map(|application| format!("--application {application}")),
    ];
    options.into_iter().flatten().collect()
}

/// In the largest unit that is exact.
fn exact_size(bytes: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let fits = |(shift, _): &&(u32, &str)| bytes.is_multiple_of(1 << shift);
    units.iter().find(fits).map_or_else(|| format!("{bytes}B"), |(shift, unit)| format!("{}{unit}", bytes >> shift))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_told_as_it_is_typed() {
        assert_eq!(options(&Policy::default()), Vec::<String>::new());
        let policy = Policy {
            source_mode: SourceMode::Sealed,
            verify: VerifyMode::Full,
            rpo_seconds: Some(900),
            bandwidth_bytes_per_second: Some(12 << 20),
            streams: 4.try_into().unwrap(),
            stored_digests: false,
            schedule: "every 15m".parse().ok(),
            verify_schedule: "cron 0 4 * * SUN".parse().ok(),
            retention: "last=2".parse().unwrap(),
            automatic_handback: true,
            application: "pg".parse().ok(),
            drill: tanist_model::drill::DrillPolicy {
                schedule: "every 7d".parse().ok(),
                limit_ms: Some(800),
                hand_back: true,
            },
        };
        let expected = [
            "--source-mode sealed",
            "--verify full",
            "--rpo 900s",
            "--limit 12MiB/s",
            "--streams 4",
            "--stored-digests=no",
            "--schedule 'every 15m'",
            "--verify-schedule 'cron 0 4 * * SUN UTC'",
            "--keep last=2",
            "--automatic-handback",
            "--drill-schedule 'every 1w'",
            "--drill-limit 800ms",
            "--drill-hand-back",
            "--application pg",
        ];
        assert_eq!(options(&policy), expected, "every field of a policy is here");
        assert_eq!((exact_size(1 << 30), exact_size(65_537)), ("1GiB".to_owned(), "65537B".to_owned()));
    }
}
