//! Tables of what there is.

use std::time::Duration;

use tanist_model::agent::Penalty;
use tanist_model::api::{
    AgentView, AlarmView, RecoveryPointView, ReplicationView, StorageAgentView, StorageView, VolumeView,
};
use tanist_model::id::ReplicationName;
use tanist_model::recovery_point::RecoveryPointPlace;
use tanist_model::replication::Intent;
use tanist_model::volume::DeviceReport;

use super::show::percent;
use super::table::Rows;
use super::{Style, Tone, units, words};

#[must_use]
pub fn render_agents(agents: &[AgentView], style: Style) -> String {
    if agents.is_empty() {
        return "no agents yet\n\nnext: tanist token create NAME\n".to_owned();
    }
    let mut rows = Rows::with_heading(
        &["AGENT", "STATE", "LAST BEAT", "ACTS FOR", "STANDS BY FOR", "ADDRESS", "CERTIFICATE"],
        style,
    );
    for agent in agents {
        rows.push([
            agent.name.to_string(),
            agent_state(agent, style),
            agent
                .last_beat_age_ms
                .map_or_else(dash, |ms| format!("{} ago", units::duration(Duration::from_millis(ms)))),
            joined(&acts_for(agent)),
            joined(&agent.failover_for),
            agent.address.clone().unwrap_or_else(dash),
            certificate(agent, style),
        ]);
    }
    rows.render(0)
}

#[must_use]
pub fn render_alarms(alarms: &[AlarmView], style: Style) -> String {
    if alarms.is_empty() {
        return "nobody is told of alarms\n\nnext: add an [[alarm]] to server.toml, and start the server again\n"
            .to_owned();
    }
    let mut rows =
        Rows::with_heading(&["ALARM", "BY", "STATE", "DELIVERED", "LAST", "FAILED ATTEMPTS", "REASON"], style);
    for alarm in alarms {
        let (word, tone) = match (alarm.failing_since, alarm.waiting_since) {
            (Some(since), _) => (format!("failing since {since}"), Tone::Bad),
            (None, Some(since)) => (format!("tries what happened at {since}"), Tone::Warning),
            (None, None) => ("ready".to_owned(), Tone::Good),
        };
        rows.push([
            alarm.name.to_string(),
            alarm.way.clone(),
            style.paint(tone, &word),
            alarm.delivered.to_string(),
            alarm.delivered_at.map_or_else(dash, |at| at.to_string()),
            alarm.failed_attempts.to_string(),
            alarm.reason.clone().unwrap_or_else(dash),
        ]);
    }
    rows.render(0)
}

fn acts_for(agent: &AgentView) -> Vec<String> {
    let acting = agent.acting_for.iter().map(ToString::to_string);
    acting.chain(agent.reading_for.iter().map(|name| format!("{name} (reads)"))).collect()
}

fn agent_state(agent: &AgentView, style: Style) -> String {
    let (word, tone) = match agent {
        AgentView { removed: true, .. } => ("removed", Tone::Dim),
        AgentView { connected: false, .. } => ("away", Tone::Bad),
        AgentView { silent: true, .. } => ("silent", Tone::Bad),
        AgentView { drained: true, .. } => ("drained", Tone::Warning),
        AgentView { damped: true, .. } => ("damped", Tone::Warning),
        _ => ("ready", Tone::Good),
    };
    let penalty = if agent.penalty >= Penalty::DAMPED_FROM / 2.0 {
        format!(", penalty {:.1}", agent.penalty)
    } else {
        String::new()
    };
    let through = agent.through.as_ref().map_or_else(String::new, |relay| format!(", through {relay}"));
    let io = agent.io.as_ref().filter(|io| *io != "io_uring").map_or_else(String::new, |io| format!(", {io}"));
    format!("{}{through}{penalty}{io}", style.paint(tone, word))
}

fn certificate(agent: &AgentView, style: Style) -> String {
    let left = agent.certificate_expires_at.since(style.now);
    if left.is_zero() { style.paint(Tone::Bad, "EXPIRED") } else { format!("{} left", units::duration(left)) }
}

#[must_use]
pub fn render_storage(systems: &[StorageView], style: Style) -> String {
    if systems.is_empty() {
        return "no agent reports a storage system\n\nnext: tanist agent list\n".to_owned();
    }
    let mut rows =
        Rows::with_heading(&["STORAGE", "AGENT", "STATE", "KIND", "SNAPSHOTS", "KERNEL LOCK", "LOCATION"], style);
    for system in systems {
        for agent in &system.agents {
            rows.push(storage_row(system, agent, style));
        }
    }
    rows.render(0)
}

fn storage_row(system: &StorageView, view: &StorageAgentView, style: Style) -> [String; 7] {
    let report = &view.report;
    let state = match &report.error {
        None => style.paint(Tone::Good, "ok"),
        Some(error) => style.paint(Tone::Bad, error),
    };
    let kind = words::storage_kind(report.kind).to_owned();
    let (snapshots, lock) = (yes(report.capabilities.snapshots), yes(report.capabilities.kernel_lock));
    [system.name.to_string(), view.agent.to_string(), state, kind, snapshots, lock, report.location.clone()]
}

#[must_use]
pub fn render_volumes(volumes: &[VolumeView], style: Style) -> String {
    if volumes.is_empty() {
        return "no agent reports a volume\n\nnext: tanist storage list\n".to_owned();
    }
    let mut rows = Rows::with_heading(&["VOLUME", "SIZE", "HOLDS", "STATE", "USED BY", "AGENTS"], style);
    for view in volumes {
        rows.push([
            view.report.address.to_string(),
            units::bytes(view.report.size_bytes),
            words::content(&view.report.content),
            volume_state(view, style),
            used_by(view),
            joined(&view.agents),
        ]);
    }
    rows.render(0)
}

fn volume_state(view: &VolumeView, style: Style) -> String {
    match (&view.report.error, &view.report.in_use_by) {
        (Some(error), _) => style.paint(Tone::Bad, error),
        (None, Some(user)) => style.paint(Tone::Warning, &format!("in use: {user}")),
        (None, None) if view.report.read_only => style.paint(Tone::Warning, "read-only"),
        (None, None) => {
            let device = view.report.device.as_ref().map(device).unwrap_or_default();
            format!("{}{device}", style.paint(Tone::Good, "ok"))
        }
    }
}

/// Where a device is now, how it is written, and whether it may be.
fn device(device: &DeviceReport) -> String {
    let source_only = device.unfit_as_target.as_ref().map(|_| ", as a source only").unwrap_or_default();
    format!(", {} with sectors of {} bytes{source_only}", device.path, device.logical_sector_bytes)
}

fn used_by(view: &VolumeView) -> String {
    view.used_by.as_ref().map_or_else(dash, |user| format!("{} ({})", user.replication, user.side))
}

#[must_use]
pub fn render_replications(views: &[ReplicationView], style: Style) -> String {
    if views.is_empty() {
        return "no replications yet\n\nnext: tanist replication create NAME --source SYSTEM/VOLUME --target SYSTEM/VOLUME --agents h1,h2\n"
            .to_owned();
    }
    let mut rows = Rows::with_heading(&["REPLICATION", "HEALTH", "ACTING", "LAG", "RUN", "SUMMARY"], style);
    for view in views {
        rows.push([
            view.name.to_string(),
            words::painted_health(view.health, style),
            view.acting.as_ref().map_or_else(dash, ToString::to_string),
            view.lag_seconds.map_or_else(dash, units::seconds),
            running(view),
            units::with_short_identities(&view.summary),
        ]);
    }
    rows.render(0)
}

fn running(view: &ReplicationView) -> String {
    match (&view.run, view.intent) {
        (_, Intent::Paused) => "paused".to_owned(),
        (_, Intent::Deleting) => "being removed".to_owned(),
        (Some(run), Intent::Enabled) => format!("{} %", percent(run)),
        (None, Intent::Enabled) => dash(),
    }
}

/// The points that are there, or all; below, how many are not shown.
#[must_use]
pub fn render_recovery_points(name: &ReplicationName, points: &[RecoveryPointView], all: bool, style: Style) -> String {
    if points.is_empty() {
        return "no recovery points yet: no run has ended\n".to_owned();
    }
    let shown: Vec<&RecoveryPointView> = points.iter().filter(|point| all || is_held(point)).collect();
    let hidden = points.len() - shown.len();
    let heading = ["RUN", "SOURCE AS OF", "AGE", "SIZE", "PLACE", "VERIFIED", "DIGEST"];
    let mut rows = Rows::with_heading(&heading, style);
    for point in &shown {
        rows.push([
            units::short(&point.run),
            units::clock(point.source_time),
            units::duration(style.now.since(point.source_time)),
            units::bytes(point.size_bytes),
            place(point, style),
            if point.fuzzy { style.paint(Tone::Warning, "fuzzy") } else { verified(point, style) },
            units::short(&point.digest),
        ]);
    }
    let table = if shown.is_empty() {
        let what = "no recovery point is there now: there is NOTHING TO RESTORE";
        format!("{}\n", style.paint(Tone::Bad, what))
    } else {
        rows.render(0)
    };
    if hidden == 0 {
        return table;
    }
    let verb = if hidden == 1 { "is" } else { "are" };
    format!("{table}\n{hidden} {verb} gone and not shown: tanist recovery-point list {name} --all\n")
}

fn is_held(point: &RecoveryPointView) -> bool {
    point.place != RecoveryPointPlace::Gone
}

fn place(point: &RecoveryPointView, style: Style) -> String {
    let held = is_held(point);
    let tone = if held && !point.expired { Tone::Plain } else { Tone::Dim };
    let note = match (held, point.expired, point.pinned) {
        (true, true, _) => ", being removed",
        (true, false, true) => ", pinned",
        _ => "",
    };
    style.paint(tone, &format!("{}{note}", words::place(&point.place)))
}

/// What is gone was verified once, and that is worth nothing any more.
fn verified(point: &RecoveryPointView, style: Style) -> String {
    if !is_held(point) {
        return dash();
    }
    match point.verified_at {
        _ if point.damaged_at.is_some() => style.paint(Tone::Bad, "DAMAGED"),
        _ if point.doubtful_since.is_some() => style.paint(Tone::Warning, "doubtful"),
        Some(at) => format!("yes, {}", units::ago(at, style.now)),
        None if point.verified && point.assumed_bytes > 0 => "as written".to_owned(),
        None => yes(point.verified),
    }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn dash() -> String {
    "-".to_owned()
}

fn joined(names: &[impl ToString]) -> String {
    if names.is_empty() { dash() } else { names.iter().map(ToString::to_string).collect::<Vec<_>>().join(",") }
}
