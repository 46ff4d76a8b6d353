//! `replication why`: a takeover as a timeline, in milliseconds since the server first had reason to suspect.

use tanist_model::api::WhyView;
use tanist_model::event::Event;
use tanist_model::hierarchy::Rank;
use tanist_model::quantity::inflect;
use tanist_model::takeover::{Candidate, Evidence, ProvenEpoch, TakeoverRecord};
use tanist_model::time::Timestamp;

use super::{Style, Tone, units, words};

/// The takeovers asked for, the newest alone unless a time chose another; then what happened to the reading of the source.
#[must_use]
pub fn render_why(view: &WhyView, style: Style) -> String {
    let takeovers = match view.takeovers.as_slice() {
        [] => format!(
            "{}: the acting agent has never changed\n\nnext: tanist replication show {}\n",
            view.name, view.name
        ),
        [newest, earlier @ ..] => format!("{}{}", render_takeover(view, newest, style), others(view, earlier)),
    };
    takeovers + &readers(&view.readers, style)
}

/// Who has read the source for another agent: nothing in the direct form.
fn readers(events: &[Event], style: Style) -> String {
    if events.is_empty() {
        return String::new();
    }
    let line = |event: &Event| format!("  {}  {}  {}\n", units::clock_ms(event.at), event.code, event.message);
    let title = style.paint(Tone::Strong, "who reads the source");
    format!("\n{title}\n{}", events.iter().map(line).collect::<String>())
}

fn render_takeover(view: &WhyView, takeover: &TakeoverRecord, style: Style) -> String {
    let title = format!("{} of {}, {}", kind(takeover), view.name, units::clock_ms(takeover.suspected_at));
    let lines: String = timeline(takeover).iter().map(|line| render_line(line, takeover.suspected_at, style)).collect();
    let summary = summary_of_takeover(takeover);
    format!("{}\n{summary}\n\n{lines}\n{}", style.paint(Tone::Strong, &title), outcome(takeover))
}

fn kind(takeover: &TakeoverRecord) -> &'static str {
    match takeover.evidence {
        Evidence::FirstActivation => "first activation",
        Evidence::Handover { .. } => "handover",
        Evidence::Drill { .. } => "drill",
        _ => "takeover",
    }
}

/// Who for whom, why, and what it cost, in one sentence.
#[must_use]
pub fn summary_of_takeover(takeover: &TakeoverRecord) -> String {
    let from = takeover.from.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
    let why = takeover.evidence.in_words();
    let cost = match takeover.first_durable_write_at {
        Some(at) => format!("; first durable write after {} ms", millis(takeover.suspected_at, at)),
        None => String::new(),
    };
    format!("{from} -> {}: {why}{cost}{}", takeover.to, copied_again(takeover))
}

/// One moment of a takeover.
struct Moment {
    at: Option<Timestamp>,
    text: String,
}

fn timeline(takeover: &TakeoverRecord) -> Vec<Moment> {
    let mut moments = vec![moment(takeover.suspected_at, suspicion(takeover))];
    moments.extend(probes(takeover));
    moments.extend(takeover.proven.iter().map(proof));
    moments.push(moment(takeover.committed_at, commit(takeover)));
    moments.extend(takeover.granted_at.map(|at| moment(at, format!("granted: {} may act", takeover.to))));
    moments.extend(takeover.activated_at.map(|at| moment(at, activation(takeover))));
    moments.extend(
        takeover.first_durable_write_at.map(|at| moment(at, "first durable write of the successor".to_owned())),
    );
    moments.sort_by_key(|moment| moment.at);
    insert_candidates(&mut moments, takeover);
    moments
}

fn moment(at: Timestamp, text: String) -> Moment {
    Moment { at: Some(at), text }
}

fn suspicion(takeover: &TakeoverRecord) -> String {
    let evidence = takeover.evidence.in_words();
    match &takeover.from {
        Some(from) => format!("evidence against {from}: {evidence}"),
        None => format!("cause: {evidence}"),
    }
}

fn probes(takeover: &TakeoverRecord) -> impl Iterator<Item = Moment> {
    let suspect = takeover.from.as_ref().map_or_else(|| "the suspect".to_owned(), ToString::to_string);
    takeover.verdicts.iter().map(move |probe| {
        moment(probe.at, format!("{} probed {suspect}: {}", probe.peer, words::verdict(&probe.verdict)))
    })
}

fn proof(proven: &ProvenEpoch) -> Moment {
    moment(
        proven.at,
        format!("epoch {} of {} proven quiet: {}", proven.epoch, proven.agent, words::proof(proven.proof)),
    )
}

fn commit(takeover: &TakeoverRecord) -> String {
    format!("committed: {} holds epochs {}", takeover.to, takeover.epochs)
}

fn activation(takeover: &TakeoverRecord) -> String {
    let tier = takeover.tier.map_or("no fence reported", words::tier);
    let lock = if takeover.held_kernel_lock { ", kernel lock held" } else { "" };
    format!("acting: its fence stands ({tier}{lock})")
}

/// The candidates were weighed in the moment before the commit.
fn insert_candidates(moments: &mut Vec<Moment>, takeover: &TakeoverRecord) {
    let chosen = takeover.candidates.iter().find(|c| c.agent == takeover.to).map(|c| c.rank);
    let lines = takeover.candidates.iter().map(|c| Moment { at: None, text: candidate(c, takeover, chosen) });
    let commit = moments.iter().position(|m| m.at == Some(takeover.committed_at) && m.text.starts_with("committed"));
    let place = commit.unwrap_or(moments.len());
    moments.splice(place..place, lines);
}

fn candidate(candidate: &Candidate, takeover: &TakeoverRecord, chosen: Option<Rank>) -> String {
    let verdict = match &candidate.passed_over {
        _ if candidate.agent == takeover.to => "chosen".to_owned(),
        Some(reason) => format!("passed over: {reason}"),
        None if candidate.damped => "eligible, but damped after failures".to_owned(),
        None if chosen.is_some_and(|rank| rank > candidate.rank) => "eligible".to_owned(),
        None => "eligible, comes after the one chosen".to_owned(),
    };
    format!("candidate rank {}, {}: {verdict}", candidate.rank.0, candidate.agent)
}

fn render_line(line: &Moment, start: Timestamp, style: Style) -> String {
    let at = line.at.map(|at| format!("{:+} ms", signed_millis(start, at))).unwrap_or_default();
    format!("{}  {}\n", style.paint(Tone::Dim, &format!("{at:>12}")), line.text)
}

/// A proof can be older than the suspicion; it then stands before zero.
fn signed_millis(start: Timestamp, at: Timestamp) -> i64 {
    at.0.saturating_sub(start.0) / 1000
}

/// Between what the predecessor reported past the checkpoint and what it may have written there at most.
fn copied_again(takeover: &TakeoverRecord) -> String {
    let Some(most) = takeover.copied_again_bytes else { return String::new() };
    let reported = takeover.reported_seq.map_or(0, |seq| seq.saturating_sub(takeover.resumed_seq));
    match (reported, most) {
        (_, 0) => ", nothing copied again".to_owned(),
        (0, most) => format!(", at most {} copied again", units::bytes(most)),
        (least, most) => format!(", {} copied again, at most {}", units::bytes(least), units::bytes(most)),
    }
}

fn millis(start: Timestamp, at: Timestamp) -> u128 {
    at.since(start).as_millis()
}

fn outcome(takeover: &TakeoverRecord) -> String {
    let run = match takeover.run {
        Some(run) => format!("run {} taken up at {}", units::short(&run), units::bytes(takeover.resumed_seq)),
        None => "no run was in progress".to_owned(),
    };
    let mut lines = vec![format!("{run}{}", copied_again(takeover))];
    if !takeover.unproven.is_empty() {
        let noun = inflect(takeover.unproven.len() as u64, "epoch");
        let epochs = takeover.unproven.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        lines.push(format!(
            "not proven quiet when the successor began: {noun} {epochs}; the next snapshot waits for that"
        ));
    }
    lines.join("\n") + "\n"
}

fn others(view: &WhyView, earlier: &[TakeoverRecord]) -> String {
    if earlier.is_empty() {
        return String::new();
    }
    let line = |t: &TakeoverRecord| format!("  {}  {}\n", units::clock(t.suspected_at), summary_of_takeover(t));
    let lines: String = earlier.iter().take(5).map(line).collect();
    format!("\nearlier:\n{lines}next: tanist replication why {} --at TIME\n", view.name)
}
