//! The check matrix: each cell a real round trip or read, with its age.

use tanist_model::api::{CheckCell, CheckRow, Plan};
use tanist_model::id::AgentName;
use tanist_model::quantity::count;
use tanist_model::replication::Side;

use super::table::Rows;
use super::{Style, Tone, units};

/// Everything `replication check` prints.
#[must_use]
pub fn render_check(plan: &Plan, style: Style) -> String {
    let mut text = format!("{}: {}\n\n{}", plan.name, verdict(plan, style), render_matrix(plan, style));
    for remark in &plan.remarks {
        text.push_str(&format!("\nnote: {remark}"));
    }
    text.trim_end().to_owned() + "\n"
}

fn verdict(plan: &Plan, style: Style) -> String {
    let nobody = |side, agents: &[AgentName]| agents.iter().all(|agent| unable(plan, agent, side));
    let bad = plan.matrix.iter().filter(|row| !row.ineligible_for.is_empty()).count();
    if bad == 0 {
        return style.paint(Tone::Good, "every agent can act");
    }
    let text = match (nobody(Side::Source, &plan.source_hierarchy), nobody(Side::Target, &plan.target_hierarchy)) {
        (true, true) => "no agent can act",
        (true, false) => "no agent can read the source",
        (false, true) => "no agent can write the target",
        (false, false) => {
            return style.paint(Tone::Warning, &format!("{} cannot act", count(bad as u64, "agent")));
        }
    };
    style.paint(Tone::Bad, text)
}

fn unable(plan: &Plan, agent: &AgentName, side: Side) -> bool {
    let row = plan.matrix.iter().find(|row| row.agent == *agent);
    row.is_none_or(|row| row.ineligible_for.iter().any(|unable| unable.side == side))
}

/// The matrix, then the reason of every cell that is missing.
#[must_use]
pub fn render_matrix(plan: &Plan, style: Style) -> String {
    let matrix = &plan.matrix;
    let columns = columns(matrix);
    let names: Vec<String> = columns.iter().map(|to| heading(to)).collect();
    let heading: Vec<&str> = ["RANK", "AGENT"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut rows = Rows::with_heading(&heading, style);
    for row in matrix {
        let cells = columns.iter().map(|to| cell(row, to, style));
        rows.push([ranks(plan, &row.agent), row.agent.to_string()].into_iter().chain(cells));
    }
    rows.render(0) + &reasons(matrix, style)
}

/// `2` where an agent has the same rank on both sides, otherwise its rank on each side on which it stands.
fn ranks(plan: &Plan, agent: &AgentName) -> String {
    let rank = |hierarchy: &[AgentName]| hierarchy.iter().position(|other| other == agent).map(|at| at + 1);
    match (rank(&plan.source_hierarchy), rank(&plan.target_hierarchy)) {
        (Some(source), Some(target)) if source == target => target.to_string(),
        (Some(source), Some(target)) => format!("{source} source, {target} target"),
        (Some(source), None) => format!("{source} source"),
        (None, Some(target)) => format!("{target} target"),
        (None, None) => "-".to_owned(),
    }
}

/// `server`, the agents by rank, then whatever else they looked at: `source`, `target`.
fn columns(matrix: &[CheckRow]) -> Vec<String> {
    let agents = matrix.iter().map(|row| row.agent.to_string());
    let seen = matrix.iter().flat_map(|row| &row.cells).map(|cell| cell.to.clone());
    let mut all: Vec<String> = Vec::new();
    for to in std::iter::once("server".to_owned()).chain(agents).chain(seen) {
        if !all.contains(&to) {
            all.push(to);
        }
    }
    all
}

/// Names of agents stay as they are; the rest are headings.
fn heading(to: &str) -> String {
    if matches!(to, "server" | "source" | "target" | "application") { to.to_uppercase() } else { to.to_owned() }
}

fn cell(row: &CheckRow, to: &str, style: Style) -> String {
    if row.agent.as_str() == to {
        return style.paint(Tone::Dim, "-");
    }
    match row.cells.iter().find(|cell| cell.to == to) {
        Some(cell) if cell.ok => style.paint(Tone::Good, &good(cell)),
        Some(cell) => style.paint(Tone::Bad, &missing(cell)),
        None => style.paint(Tone::Dim, "-"),
    }
}

fn good(cell: &CheckCell) -> String {
    match (cell.took_us, cell.age_ms) {
        (Some(took), Some(age)) => format!("{}, {} old", units::micros(took), millis(age)),
        (None, Some(age)) => format!("{} old", millis(age)),
        _ => "ok".to_owned(),
    }
}

fn missing(cell: &CheckCell) -> String {
    cell.age_ms.map_or_else(|| "never".to_owned(), |age| format!("NOT, {} old", millis(age)))
}

fn millis(amount: u64) -> String {
    units::duration(std::time::Duration::from_millis(amount))
}

fn reasons(matrix: &[CheckRow], style: Style) -> String {
    let mut text = String::new();
    for row in matrix {
        for cell in row.cells.iter().filter(|cell| !cell.ok) {
            let reason = cell.reason.as_deref().unwrap_or("not shown yet");
            text.push_str(&format!("  {} to {}: {reason}\n", row.agent, cell.to));
        }
        text.push_str(&ineligible(row, style));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

fn ineligible(row: &CheckRow, style: Style) -> String {
    let line =
        |to: &str, why: &str| format!("  {} {}{to}: {why}\n", row.agent, style.paint(Tone::Warning, "is not eligible"));
    match row.ineligible_for.as_slice() {
        [one, other] if one.reason == other.reason => line("", &one.reason),
        sides => sides.iter().map(|unable| line(doing(unable.side), &unable.reason)).collect(),
    }
}

fn doing(side: Side) -> &'static str {
    match side {
        Side::Source => " to read the source",
        Side::Target => " to write the target",
    }
}
