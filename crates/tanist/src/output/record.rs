//! What `verify-record` found, in words: every sentence stands for a check that was made, and the last for what none can make.

use serde::Serialize;
use tanist_model::quantity::count;
use tanist_model::takeover::{Ending, TakeoverRecord, TakeoverStatement};
use tanist_model::time::Timestamp;
use tanist_wire::record::Opened;

use super::table::Rows;
use super::why::summary_of_takeover;
use super::{Style, Tone, units, words};

/// A record that is genuine and consistent.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct VerifiedRecord {
    pub verified: bool,
    /// BLAKE3 of the authority's certificate.
    pub authority: String,
    pub authority_valid_from: Timestamp,
    pub authority_valid_to: Timestamp,
    /// What was checked, a sentence each.
    pub checked: Vec<String>,
    pub statement: TakeoverStatement,
}

impl VerifiedRecord {
    /// What is to be said of a record whose statement has no contradiction.
    #[must_use]
    pub fn of(opened: Opened) -> Self {
        let Opened { statement, authority } = opened;
        let (authority_valid_from, authority_valid_to) = authority.validity();
        let mut checked = vec![format!(
            "signed by the authority of cluster {} on {}, within the validity of its certificate, and not altered since",
            statement.cluster, statement.signed_at
        )];
        checked.extend(consistency(&statement));
        Self {
            verified: true,
            authority: authority.hash().to_string(),
            authority_valid_from,
            authority_valid_to,
            checked,
            statement,
        }
    }
}

#[must_use]
pub fn render_verified(verified: &VerifiedRecord, style: Style) -> String {
    let statement = &verified.statement;
    let takeover = &statement.takeover;
    let mut facts = Rows::facts();
    let mut fact = |name: &str, value: String| facts.push([style.paint(Tone::Dim, name), value]);
    fact("replication", format!("{}: {} to {}", statement.replication, statement.source, statement.target));
    fact("takeover", summary_of_takeover(takeover));
    fact("epochs", takeover.epochs.to_string());
    fact("began", units::clock_ms(takeover.suspected_at));
    fact("authority", verified.authority.clone());
    let checked: String = verified.checked.iter().map(|line| format!("  - {line}\n")).collect();
    let title = style.paint(Tone::Good, "genuine, and all of it can be true");
    format!(
        "{title}\n\n{}\nchecked:\n{checked}\nnot to be checked offline: that it happened. The server says so, and the times are by clocks of hosts.\n",
        facts.render(2)
    )
}

/// What [`TakeoverStatement::contradictions`] has looked for and not found.
fn consistency(statement: &TakeoverStatement) -> Vec<String> {
    let takeover = &statement.takeover;
    let mut said = vec![epochs(statement), choice(takeover), moments(takeover)];
    said.extend(takeover.tier.map(|tier| format!("tier {}: {}", words::tier(tier), proof(takeover))));
    said.extend(work(statement));
    said.push(ending(statement.ending).to_owned());
    said
}

fn epochs(statement: &TakeoverStatement) -> String {
    let epochs = statement.takeover.epochs;
    match statement.follows {
        Some(before) => format!("epochs grow: {epochs} after {before}"),
        None => format!("epochs {epochs}: no earlier takeover was on record"),
    }
}

fn choice(takeover: &TakeoverRecord) -> String {
    let of = count(takeover.candidates.len() as u64, "candidate");
    match &takeover.named {
        Some(named) if *named == takeover.to => format!("{named} was named to succeed, and eligible, among {of}"),
        _ => format!("{} is the first of the eligible among {of}: undamped before damped, then by rank", takeover.to),
    }
}

fn moments(takeover: &TakeoverRecord) -> String {
    let since = |at: Option<Timestamp>, what: &str| {
        let ms = at?.since(takeover.suspected_at).as_millis();
        Some(format!("{what} {ms} ms"))
    };
    let parts = [
        since(Some(takeover.committed_at), "commit"),
        since(takeover.granted_at, "grant"),
        since(takeover.activated_at, "activation"),
        since(takeover.first_durable_write_at, "first durable write"),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    format!("in this order, after the first suspicion: {}", parts.join(", "))
}

fn proof(takeover: &TakeoverRecord) -> String {
    let proven = takeover.proven.iter().map(|p| {
        let late = if takeover.unproven.contains(&p.epoch) { ", after the activation" } else { "" };
        format!("epoch {} of {} ({}{late})", p.epoch, p.agent, words::proof(p.proof))
    });
    let unproven = takeover.unproven.iter().filter(|e| takeover.proven.iter().all(|p| p.epoch != **e));
    let unproven = unproven.map(|epoch| format!("epoch {epoch} is not proven quiet"));
    let each: Vec<String> = proven.chain(unproven).collect();
    if each.is_empty() { "no earlier epoch was left to prove quiet".to_owned() } else { each.join("; ") }
}

fn work(statement: &TakeoverStatement) -> Option<String> {
    let takeover = &statement.takeover;
    takeover.run?;
    let resumed = units::bytes(takeover.resumed_seq);
    let reported = match takeover.reported_seq {
        Some(seq) => format!(", not past {}, which its predecessor reported", units::bytes(seq)),
        None => ", within the volume".to_owned(),
    };
    let again = match takeover.copied_again_bytes {
        Some(most) => format!("; at most {} copied again, no more than the window of a writer", units::bytes(most)),
        None => String::new(),
    };
    Some(format!("the run was taken up at {resumed}{reported}{again}"))
}

fn ending(ending: Ending) -> &'static str {
    match ending {
        Ending::Complete => "complete: the successor acted, and wrote durably if a run was in progress",
        Ending::WithoutWrite => "the successor acted; the run in progress ended before its first durable write",
        Ending::Superseded => "superseded: the next epoch was committed before it was complete",
    }
}
