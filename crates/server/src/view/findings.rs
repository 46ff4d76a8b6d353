//! What is wrong with a replication, worst first. Its health, its summary and the command to type follow from the first one.

use tanist_model::api::Health;
use tanist_model::application::Quiescence;
use tanist_model::id::AgentName;
use tanist_model::recovery_point::{RecoveryPoint, RecoveryPointPlace};
use tanist_model::removal::in_words;
use tanist_model::replication::{Intent, ReplicationRecord, Side};
use tanist_model::run::RunState;
use tanist_protocol::server::eligibility::passed_over_in_words;
use tanist_protocol::server::{Phase, ServerMachine};

use super::drills::unproven_takeover;
use super::misfit::misfit;
use super::{run, seats, waiting};

/// One thing that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    pub health: Health,
    pub summary: String,
    /// The command to type.
    pub next: Option<String>,
}

impl Finding {
    fn stopped(summary: impl Into<String>, next: impl Into<String>) -> Self {
        Self { health: Health::Stopped, summary: summary.into(), next: Some(next.into()) }
    }

    pub(super) fn degraded(summary: impl Into<String>, next: impl Into<String>) -> Self {
        Self { health: Health::Degraded, summary: summary.into(), next: Some(next.into()) }
    }

    fn passing(summary: impl Into<String>) -> Self {
        Self { health: Health::Degraded, summary: summary.into(), next: None }
    }
}

/// Everything wrong with a replication; empty if it is well.
#[must_use]
pub fn findings(machine: &ServerMachine, record: &ReplicationRecord) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        [standstill(machine, record), transition(machine, record), reading(machine, record)]
            .into_iter()
            .flatten()
            .collect();
    findings.extend(quiesced(machine, record));
    findings.extend(damaged_point(machine, record));
    findings.extend(held_up(machine, record));
    if record.intent != Intent::Deleting {
        findings.extend(missed_rpo(machine, record));
        findings.extend(redundancy(machine, record));
        findings.extend(unproven_takeover(machine, record));
    }
    if let Some(misfit) = misfit(machine, record) {
        advise(&mut findings, record, misfit);
    }
    // Stable: the order above stays within one health.
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.health));
    findings
}

/// A volume that does not fit comes first, and what is advised besides is what helps with it: no run does.
fn advise(findings: &mut Vec<Finding>, record: &ReplicationRecord, misfit: Finding) {
    let sync = format!("tanist replication sync {}", record.name);
    for finding in findings.iter_mut().filter(|finding| finding.next.as_ref() == Some(&sync)) {
        finding.next.clone_from(&misfit.next);
    }
    findings.insert(0, misfit);
}

/// What keeps runs from their end. It is graver while there is nothing that could be restored: only the end of a run changes that.
fn held_up(machine: &ServerMachine, record: &ReplicationRecord) -> Vec<Finding> {
    let proof = proof(machine, record);
    let others = [stuck_run(machine, record), lost_data(machine, record), intent(record)].into_iter().flatten();
    if record.intent == Intent::Deleting || !nothing_to_restore(machine, record) {
        return proof.into_iter().chain(others).collect();
    }
    // A run that is bound to its snapshot goes on without the proof.
    let bound = machine.state().current_run(record).is_some_and(|run| run.state != RunState::SnapshotPending);
    let proof = proof.map(|finding| if bound { finding } else { raised(finding) });
    proof.into_iter().chain(others.map(raised)).collect()
}

fn raised(finding: Finding) -> Finding {
    let summary = format!("{}; NOTHING TO RESTORE NOW, until a run ends", finding.summary);
    Finding { health: Health::Stopped, summary, ..finding }
}

/// The target was overwritten, and no snapshot of it keeps the last recovery point. Before the first run nothing was lost.
fn nothing_to_restore(machine: &ServerMachine, record: &ReplicationRecord) -> bool {
    let had_one = last_point(machine, record).is_some() || record.target_dirty.is_some();
    had_one && restorable_point(machine, record).is_none()
}

/// No run can go on.
fn standstill(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let name = &record.name;
    if record.intent == Intent::Deleting && !machine.state().restoring {
        return stuck_removal(machine, record);
    }
    if let Some(reason) = &record.quarantine {
        let next = format!("tanist replication delete {name}");
        return Some(Finding::stopped(format!("quarantined: {reason}; look at the storage"), next));
    }
    if machine.state().restoring {
        return Some(Finding::stopped(format!("waits for {}", waiting::owing(machine)), "tanist agent list"));
    }
    if machine.phase(record) == Phase::Exhausted {
        let reasons = passed_over_in_words(&machine.candidates(record));
        let next = format!("tanist replication check {name}");
        return Some(Finding::stopped(format!("no agent is eligible ({reasons})"), next));
    }
    if waiting::lacks_reader(machine, record) {
        let reasons = passed_over_in_words(&machine.candidates_of(record, Side::Source));
        let next = format!("tanist replication check {name}");
        return Some(Finding::stopped(format!("no agent can read the source ({reasons})"), next));
    }
    (record.holder.is_none() && record.intent == Intent::Enabled)
        .then(|| Finding::stopped("nobody acts", format!("tanist replication check {name}")))
}

/// A removal whose cleaning up nobody can do. That somebody may still be writing is another matter, and told elsewhere.
fn stuck_removal(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let side = waiting::cannot_clean_up(machine, record)?;
    let reasons = passed_over_in_words(&machine.candidates_of(record, side));
    let made = in_words(&machine.remnants(record)).unwrap_or_else(|| "nothing that is there".to_owned());
    let summary = format!("it is being removed, and no agent can clean up ({reasons}); what tanist made: {made}");
    Some(Finding::stopped(summary, waiting::leave_behind(record)))
}

/// Things that pass or are decided within seconds.
fn transition(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let holder = &record.holder.as_ref()?.agent;
    match machine.phase(record) {
        Phase::Granted => Some(Finding::passing(format!("agent {holder} is taking over"))),
        Phase::Suspect => Some(Finding::degraded(
            format!("acting agent {holder} is suspected, and the server cannot reach it"),
            format!("tanist replication why {}", record.name),
        )),
        Phase::Probing => Some(Finding::passing(format!("acting agent {holder} is suspected; its peers are asked"))),
        _ if machine.session(holder).is_none() => {
            Some(Finding::passing(format!("acting agent {holder} has not come back since the server started")))
        }
        _ => None,
    }
}

/// The agent that reads the source for another one is suspected, or does not reach that one.
fn reading(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let reader = &record.reader.as_ref()?.agent;
    if machine.is_reader_cut_off(record) {
        let holder = &record.holder.as_ref()?.agent;
        let what = format!("agent {reader}, which reads the source, does not reach {holder}, which writes the target");
        let next = format!("tanist replication check {}", record.name);
        return Some(Finding::stopped(
            format!("{what}, and no other reader does; look at the network between them"),
            next,
        ));
    }
    let suspicion = machine.supervision(record.id)?.reader_suspicion()?;
    let who = format!("agent {reader}, which reads the source, is suspected");
    Some(if suspicion.lasts() {
        let next = format!("tanist replication why {}", record.name);
        Finding::degraded(format!("{who}, and the server cannot reach it"), next)
    } else {
        Finding::passing(format!("{who}; its peers are asked"))
    })
}

/// A host application of which nobody says that it is thawed, but for one whose snapshot is just being made.
fn quiesced(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let attempt = machine.state().current_run(record).map(|run| run.attempt);
    let now = machine.now().wall;
    let reached =
        |agent: &AgentName| machine.session(agent).is_some_and(tanist_protocol::server::Session::is_connected);
    let is_usual = |q: &Quiescence| {
        q.failure.is_none() && now < q.since.plus(q.limit()) && (attempt == Some(q.attempt) || reached(&q.agent))
    };
    let open = record.quiesced.iter().filter(|q| !is_usual(q)).max_by_key(|q| q.alarmed)?;
    let what = format!(
        "host application {} on agent {} may still be quiesced since {}",
        open.application, open.agent, open.since
    );
    let known = match &open.failure {
        Some(failure) => failure.clone(),
        None if open.alarmed => "nothing was heard of its guard; look at the application there".to_owned(),
        None => format!("its guard thaws it within {} s", open.limit().as_secs()),
    };
    let next = if open.alarmed { "tanist explain T604".to_owned() } else { "tanist agent list".to_owned() };
    Some(Finding::degraded(format!("{what}: {known}"), next))
}

/// Tier F3 is in force: only the same snapshot goes on.
fn proof(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let words = waiting::proof_in_words(machine, record)?;
    // Look first: to confirm a living agent dead is the one dangerous way out, and the words name it last. Of an agent that is back
    // as another process it is known that the one of then is gone.
    let what = if record.intent == Intent::Deleting { "the removal" } else { "the next snapshot" };
    let back = record.awaited().find(|epoch| !epoch.awaits_array() && waiting::has_come_back(machine, epoch));
    let by_itself = machine.proves_itself(record).map(|_| format!("tanist replication sync {}", record.name));
    let next = by_itself.unwrap_or_else(|| back.map_or_else(|| "tanist agent list".to_owned(), waiting::confirm));
    Some(Finding::degraded(format!("{what} needs {words}"), next))
}

/// The run in progress fails at the storage, and has made no checkpoint since.
fn stuck_run(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let run = machine.state().current_run(record)?;
    let why = run.failure.as_deref()?;
    let next = format!("tanist events --replication {}", record.name);
    Some(Finding::degraded(format!("the run does not get on: {why}; it is tried again"), next))
}

/// The target equals no recovery point and nothing is being done about it, or the last attempt failed.
fn lost_data(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    if record.run.is_some() || record.intent == Intent::Deleting {
        return None;
    }
    let sync = format!("tanist replication sync {}", record.name);
    if let Some(failed) = run::last_record(machine, record).filter(|run| run.state == RunState::Abandoned) {
        let why = failed.failure.as_deref().unwrap_or("no reason is on record");
        return Some(Finding::degraded(format!("the last run was abandoned: {why}"), sync));
    }
    if let Some(point) = machine.doubted_point(record) {
        let time = point.source_time;
        let doubt = format!(
            "since the store was restored nobody knows whether the target still holds the recovery point of {time}"
        );
        return Some(Finding::degraded(doubt, format!("tanist replication verify {}", record.name)));
    }
    record.target_dirty.is_some().then(|| {
        Finding::degraded("the target was written to by a run that did not end: it equals no recovery point", sync)
    })
}

/// Those that are there.
pub fn damaged_points<'a>(
    machine: &'a ServerMachine,
    record: &ReplicationRecord,
) -> impl Iterator<Item = &'a RecoveryPoint> {
    let id = record.id;
    let is_there = |point: &&RecoveryPoint| point.place != RecoveryPointPlace::Gone && !point.expired;
    let points = machine.state().recovery_points.values().filter(move |point| point.replication == id);
    points.filter(|point| point.damaged_at.is_some()).filter(is_there)
}

/// A recovery point that is there and must not be relied on. What stands on the target itself can be read again and repaired.
fn damaged_point(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let point = damaged_points(machine, record).max_by_key(|point| point.published_at)?;
    let name = &record.name;
    let next = match point.place {
        RecoveryPointPlace::Target => format!("tanist replication verify {name}"),
        _ => format!("tanist recovery-point list {name}"),
    };
    let time = point.source_time;
    let summary = format!("the recovery point of {time} is DAMAGED: it was read, and is not what was published");
    Some(Finding::degraded(summary, next))
}

/// To be removed as asked for is no trouble: what holds a removal up is a finding of its own.
fn intent(record: &ReplicationRecord) -> Option<Finding> {
    (record.intent == Intent::Paused)
        .then(|| Finding::degraded("paused by an operator", format!("tanist replication resume {}", record.name)))
}

fn missed_rpo(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let age = machine.age_beyond_rpo(record)?;
    let rpo = record.policy.rpo_seconds?;
    // A run that is under way, waits or is paused is not helped by another one.
    let look = record.run.is_some() || record.intent == Intent::Paused;
    let verb = if look { "show" } else { "sync" };
    Some(Finding::degraded(
        if last_point(machine, record).is_some() {
            format!("RPO missed: the last recovery point is {age} s old, {rpo} s are allowed")
        } else {
            format!("RPO missed: there has been no recovery point for {age} s, {rpo} s are allowed")
        },
        format!("tanist replication {verb} {}", record.name),
    ))
}

/// Agents that could not take over now, or not read the source if they had to.
fn redundancy(machine: &ServerMachine, record: &ReplicationRecord) -> Option<Finding> {
    let writing = unable(machine, record, Side::Target);
    let reading = unable(machine, record, Side::Source).into_iter().filter(|unable| !writing.contains(unable));
    let told = |what: &str, (agent, reason): &Unable| format!("agent {agent} could not {what}: {reason}");
    let mut list: Vec<String> = writing.iter().map(|unable| told("take over", unable)).collect();
    let reading: Vec<Unable> = reading.collect();
    list.extend(reading.iter().map(|unable| told("read the source", unable)));
    let (first, _) = writing.first().or_else(|| reading.first())?;
    let drained = machine.state().agents.get(first).is_some_and(|agent| agent.drained);
    let next = if drained {
        format!("tanist agent undrain {first}")
    } else {
        format!("tanist replication check {}", record.name)
    };
    Some(Finding::degraded(list.join("; "), next))
}

/// An agent that is passed over, and why.
type Unable = (AgentName, String);

/// Whoever stands for a side and could not act for it, but for the one that does: what is wrong with that is told elsewhere.
fn unable(machine: &ServerMachine, record: &ReplicationRecord, side: Side) -> Vec<Unable> {
    let holder = record.holder.as_ref().map(|holder| &holder.agent);
    let acting = if side == Side::Target { holder } else { seats::acting(record, side).or(holder) };
    let candidates = machine.candidates_of(record, side).into_iter().filter(|c| Some(&c.agent) != acting);
    candidates.filter_map(|c| Some((c.agent, c.passed_over?))).collect()
}

/// The newest recovery point whose bytes are there now.
#[must_use]
pub fn restorable_point<'a>(machine: &'a ServerMachine, record: &ReplicationRecord) -> Option<&'a RecoveryPoint> {
    let target_stands = record.target_dirty.is_none() && machine.replaced_target(record).is_none();
    let stands = |point: &&RecoveryPoint| match point.place {
        _ if point.damaged_at.is_some() || point.doubtful_since.is_some() => false,
        // One on the target itself ends with the first write of the next run.
        RecoveryPointPlace::Target => target_stands,
        RecoveryPointPlace::Snapshot(_) => !point.expired,
        RecoveryPointPlace::Gone => false,
    };
    let points = machine.state().recovery_points.values().filter(|point| point.replication == record.id);
    points.filter(stands).max_by_key(|point| point.published_at)
}

/// The last recovery point, wherever its bytes are.
#[must_use]
pub fn last_point<'a>(machine: &'a ServerMachine, record: &ReplicationRecord) -> Option<&'a RecoveryPoint> {
    machine.state().recovery_points.get(&(record.id, record.published?))
}
