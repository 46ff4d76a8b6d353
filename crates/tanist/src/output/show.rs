//! `replication show`: is my data safe, what happened, what do I do. The verdict comes first, the next command last.

use tanist_model::api::{AwaitedProof, Health, RankedAgent, RecoveryPointView, ReplicationView, RunView, SideView};
use tanist_model::application::Quiescence;
use tanist_model::quantity::count;
use tanist_model::removal::Remnant;
use tanist_model::replication::{Intent, Side};
use tanist_model::takeover::TakeoverRecord;

use super::plan::form;
use super::progress::waits;
use super::table::Rows;
use super::why::summary_of_takeover;
use super::{Style, Tone, drills, stages, units, words};

/// The whole page, in blocks with an empty line between them.
#[must_use]
pub fn render_show(view: &ReplicationView, style: Style) -> String {
    let mut blocks = vec![verdict(view, style), facts(view, style)];
    blocks.extend(view.sides.iter().map(|side| render_side(side, style)));
    blocks.extend(view.run.as_ref().map(|run| current_run(run, style)));
    blocks.extend(last_run(view, style));
    blocks.extend(view.quiesced.iter().map(|quiescence| quiesced(quiescence, style)));
    blocks.extend(view.last_takeover.as_ref().map(|takeover| last_takeover(takeover, style)));
    blocks.extend(removal(view, style));
    blocks.extend(waits_of_all(view, style));
    blocks.push(next(view, style));
    blocks.join("\n")
}

fn verdict(view: &ReplicationView, style: Style) -> String {
    format!("{}: {}, {}\n", view.name, words::painted_health(view.health, style), view.summary)
}

fn facts(view: &ReplicationView, style: Style) -> String {
    let mut rows = Rows::facts();
    let mut fact = |name: &str, value: String| rows.push([style.paint(Tone::Dim, name), value]);
    fact("data", data(view, style));
    fact("lag", lag(view, style));
    fact("policy", policy(view));
    fact("runs", runs(view, style));
    fact("fencing", format!("{}: {}", words::tier(view.tier), view.promise));
    fact("drills", drills::summary(&view.drills, &view.policy.drill, style));
    fact("state", state(view));
    if view.refused_frames > 0 {
        fact("gate", format!("{} refused that came late", count(view.refused_frames, "frame")));
    }
    rows.render(2)
}

/// What could be restored if the source were lost now.
fn data(view: &ReplicationView, style: Style) -> String {
    match (&view.last_recovery_point, &view.restorable_point) {
        (Some(last), Some(point)) if last.run == point.run => restorable(point, style),
        (_, Some(point)) => format!("{}; what came after it is not on the target now", restorable(point, style)),
        (Some(last), None) => {
            let text =
                format!("NOTHING TO RESTORE NOW: the target does not hold the recovery point of {}", when(last, style));
            style.paint(Tone::Bad, &text)
        }
        (None, None) if view.target_dirty => {
            style.paint(Tone::Bad, "NOTHING TO RESTORE: the target is being written, and no run has been published yet")
        }
        (None, None) => style.paint(Tone::Bad, "NOTHING TO RESTORE: no run has been published yet"),
    }
}

fn restorable(point: &RecoveryPointView, style: Style) -> String {
    let proof = proof(point);
    let application = point.application.as_ref().map(|name| format!(", {name} quiesced for it")).unwrap_or_default();
    let fuzzy = if point.fuzzy { ", FUZZY: the source may have changed while it was read" } else { "" };
    format!("safe as of {}, on {}, {proof}{application}{fuzzy}", when(point, style), words::place(&point.place))
}

/// What is known of the bytes on the target, and how.
fn proof(point: &RecoveryPointView) -> String {
    let written = if point.verified { "read back and verified" } else { "not read back" };
    let source = if point.by_changes { ", of the source what its storage named as changed was read" } else { "" };
    match point.assumed_bytes {
        0 => format!("{written}{source}"),
        assumed => {
            format!("what was written is {written}, {} did not change and were not read{source}", units::bytes(assumed))
        }
    }
}

fn when(point: &RecoveryPointView, style: Style) -> String {
    format!("{} ({})", units::clock(point.source_time), units::ago(point.source_time, style.now))
}

fn lag(view: &ReplicationView, style: Style) -> String {
    let text = match view.lag_seconds {
        Some(lag) => units::seconds(lag),
        None => "unknown until a first run has ended".to_owned(),
    };
    match view.policy.rpo_seconds.map(units::seconds) {
        None => format!("{text} (no RPO is set)"),
        Some(rpo) if view.rpo_missed => style.paint(Tone::Warning, &format!("{text}, RPO {rpo} MISSED")),
        Some(rpo) if view.lag_seconds.is_none() => format!("{text}, RPO {rpo} not yet due"),
        Some(rpo) => format!("{text}, RPO {rpo} kept"),
    }
}

fn policy(view: &ReplicationView) -> String {
    let mode = words::source_mode(view.policy.source_mode);
    let verify = words::verify(view.policy.verify);
    let (size, limits) = (units::bytes(view.size_bytes), words::limits(&view.policy));
    let disbelieved = view.changes_disbelieved_at.map(|at| {
        format!(", read whole since {}: the source's storage left out a change (tanist explain T520)", units::clock(at))
    });
    format!("{size}, source: {mode}, verify: {verify}, {limits}{}", disbelieved.unwrap_or_default())
}

fn runs(view: &ReplicationView, style: Style) -> String {
    let next = view.next_run_at.map(|at| {
        let due = at.since(style.now);
        let when = if due.is_zero() { "due now".to_owned() } else { format!("in {}", units::duration(due)) };
        format!("; next {} ({when})", units::clock(at))
    });
    format!("{}{}", words::schedule(&view.policy), next.unwrap_or_default())
}

fn state(view: &ReplicationView) -> String {
    let acting = view.acting.as_ref().map_or_else(|| "nobody acts".to_owned(), |agent| format!("{agent} acts"));
    let intent = match view.intent {
        Intent::Enabled => "",
        Intent::Paused => ", PAUSED by an operator",
        Intent::Deleting => ", being removed",
    };
    let reader = view.sides.iter().find(|side| side.side == Side::Source).and_then(|side| side.acting.as_ref());
    let form = form(&view.form, reader, view.acting.as_ref());
    format!("{}, {acting}, epochs {}{intent}; {form}", view.state, view.epochs)
}

fn render_side(side: &SideView, style: Style) -> String {
    let title = style.paint(Tone::Strong, &format!("{} {}, epoch {}", side.side, side.volume, side.epoch));
    let mut rows = Rows::plain();
    for agent in &side.agents {
        rows.push([agent.rank.0.to_string(), agent.agent.to_string(), role(agent, style)]);
    }
    format!("{title}\n{}", rows.render(2))
}

/// The order of agents on both sides.
#[must_use]
pub fn render_hierarchies(view: &ReplicationView, style: Style) -> String {
    view.sides.iter().map(|side| render_side(side, style)).collect::<Vec<_>>().join("\n")
}

fn role(agent: &RankedAgent, style: Style) -> String {
    let (tone, text) = match (agent.eligible, agent.role.as_str()) {
        (_, "acting") => (Tone::Good, "acting"),
        (_, "reader") => (Tone::Good, "reader: reads the source and sends"),
        (_, "holder") => (Tone::Good, "holder: writes the target"),
        (true, role) => (Tone::Plain, role),
        (false, role) => (Tone::Warning, role),
    };
    style.paint(tone, text)
}

fn current_run(run: &RunView, style: Style) -> String {
    let on = run.agent.as_ref().map(|agent| format!(" on {agent}")).unwrap_or_default();
    let title = format!("run {}, {}{on}", units::short(&run.id), words::run_state(run.state));
    let asked = units::ago(run.requested_at, style.now);
    let (title, speed, work) = (style.paint(Tone::Strong, &title), speed(run), work(run));
    let waiting = run.waiting.as_ref().map(|waiting| format!("  {}\n", waits(waiting, style.now))).unwrap_or_default();
    let stages = stages::table(run, style);
    format!("{title}\n  {speed}\n{waiting}{stages}{work}  {}, asked for {asked}\n", troubles(run))
}

/// `61 %, 312 MiB of 512 MiB, 48 MiB/s, 4 s left, limit: bandwidth`.
#[must_use]
pub fn speed(run: &RunView) -> String {
    let mut parts = vec![format!("{} %", percent(run))];
    parts.push(format!("{} of {}", units::bytes(run.done_bytes), units::bytes(run.size_bytes)));
    if run.rate_bytes_per_second > 0 {
        parts.push(units::rate(run.rate_bytes_per_second));
    }
    // Also a server of another version might tell one without a rate.
    let left = run.seconds_left.filter(|seconds| run.rate_bytes_per_second > 0 && *seconds > 0);
    parts.extend(left.map(|s| format!("{} left", units::seconds(s))));
    parts.extend(run.limit.as_ref().map(|stage| format!("limit: {stage}")));
    parts.join(", ")
}

/// Whole percents, 100 only when everything is done.
#[must_use]
pub fn percent(run: &RunView) -> u64 {
    match run.size_bytes {
        0 => 100,
        size => u64::try_from(u128::from(run.done_bytes) * 100 / u128::from(size)).unwrap_or(100).min(100),
    }
}

fn troubles(run: &RunView) -> String {
    format!("{}, {}", count(run.takeovers.into(), "takeover"), count(run.repairs.into(), "repair"))
}

fn last_run(view: &ReplicationView, style: Style) -> Option<String> {
    let run = view.last_run.as_ref()?;
    let ended = run.finished_at.map(|at| format!(" {}", units::ago(at, style.now))).unwrap_or_default();
    let took = run.finished_at.map(|at| format!(" in {}", units::duration(at.since(run.requested_at))));
    let size = units::bytes(run.size_bytes);
    let why = run.failure.as_ref().map(|why| format!("\n  {}", style.paint(Tone::Bad, why))).unwrap_or_default();
    let title = format!("last run {}, {}{ended}", units::short(&run.id), words::run_state(run.state));
    let took = took.unwrap_or_default();
    let (title, work) = (style.paint(Tone::Strong, &title), work(run));
    Some(format!("{title}\n  {size}{took}, {}{why}\n{work}", troubles(run)))
}

/// `by delta: 325 MiB the same, 2 MiB written, 16 MiB copied again`, on a line of its own.
fn work(run: &RunView) -> String {
    let Some(method) = &run.method else { return String::new() };
    let part = |bytes: u64, what: &str| (bytes > 0).then(|| format!("{} {what}", units::bytes(bytes)));
    let work = &run.work;
    let parts = [
        part(work.scanned_bytes, "scanned"),
        part(work.same_bytes, "the same"),
        part(work.assumed_bytes, "of that unread"),
        part(work.unread_bytes, "not read of the source"),
        part(work.compared_bytes, "read of the target"),
        part(work.written_bytes, "written"),
        part(work.zeroed_bytes, "made zero"),
        part(work.sent_bytes, "sent"),
        part(run.copied_again_bytes, "copied again"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { format!("  by {method}\n") } else { format!("  by {method}: {}\n", parts.join(", ")) }
}

fn last_takeover(takeover: &TakeoverRecord, style: Style) -> String {
    let ago = units::ago(takeover.suspected_at, style.now);
    let title = style.paint(Tone::Strong, &format!("last change of the acting agent, {ago}"));
    format!("{title}\n  {}\n", summary_of_takeover(takeover))
}

fn quiesced(quiescence: &Quiescence, style: Style) -> String {
    let (tone, what) =
        if quiescence.alarmed { (Tone::Bad, "MAY STILL BE QUIESCED") } else { (Tone::Strong, "quiesced") };
    let title = style.paint(tone, &format!("{what}: {} on {}", quiescence.application, quiescence.agent));
    let since = units::ago(quiescence.since, style.now);
    let limit = units::duration(quiescence.limit());
    let why = quiescence.failure.as_ref().map(|why| format!("\n  {}", style.paint(Tone::Bad, why))).unwrap_or_default();
    format!("{title}\n  for run {}, {since}; its guard thaws it after {limit}{why}\n", units::short(&quiescence.run))
}

/// What a removal still has to clean up.
fn removal(view: &ReplicationView, style: Style) -> Option<String> {
    let removal = view.removal.as_ref().filter(|removal| !removal.snapshots.is_empty())?;
    let title = if removal.leave_behind { "cleans up, or leaves behind" } else { "has to clean up" };
    let line = |remnant: &Remnant| {
        let perhaps = if remnant.certain { "" } else { ", if it is there" };
        format!("  {} snapshot {remnant}{perhaps}\n", remnant.side)
    };
    let lines: String = removal.snapshots.iter().map(line).collect();
    Some(format!("{}\n{lines}", style.paint(Tone::Strong, title)))
}

fn waits_of_all(view: &ReplicationView, style: Style) -> Option<String> {
    let what = view.waits_for.as_ref()?;
    let tone = if view.health == Health::Ok { Tone::Strong } else { Tone::Warning };
    let epochs: String = view.awaited.iter().map(|awaited| format!("  {}\n", awaited_epoch(awaited, style))).collect();
    Some(format!("{} {what}\n{epochs}", style.paint(tone, "waits for")))
}

fn awaited_epoch(awaited: &AwaitedProof, style: Style) -> String {
    let since = units::duration(style.now.since(awaited.since));
    let boot = units::short(&awaited.host.boot_id);
    format!("epoch {} of {} (boot {boot}), for {since} now", awaited.epoch, awaited.agent)
}

fn next(view: &ReplicationView, style: Style) -> String {
    let command = view.next.as_deref().unwrap_or("nothing to do");
    format!("{} {command}\n", style.paint(Tone::Strong, "next:"))
}
