//! The check matrix: each cell a real round trip or read, with its age.

use tanist_model::api::{CheckCell, CheckRow, Plan};
use tanist_model::quantity::count;

use super::table::Rows;
use super::{Style, Tone, units};

/// Everything `replication check` prints.
#[must_use]
pub fn render_check(plan: &Plan, style: Style) -> String {
    let bad = plan.matrix.iter().filter(|row| row.ineligible.is_some()).count();
    let verdict = match bad {
        0 => style.paint(Tone::Good, "every agent can act"),
        n if n == plan.matrix.len() => style.paint(Tone::Bad, "no agent can act"),
        n => style.paint(Tone::Warning, &format!("{} cannot act", count(n as u64, "agent"))),
    };
    let mut text = format!("{}: {verdict}\n\n{}", plan.name, render_matrix(&plan.matrix, style));
    for remark in &plan.remarks {
        text.push_str(&format!("\nnote: {remark}"));
    }
    text.trim_end().to_owned() + "\n"
}

/// The matrix, then the reason of every cell that is missing.
#[must_use]
pub fn render_matrix(matrix: &[CheckRow], style: Style) -> String {
    let columns = columns(matrix);
    let names: Vec<String> = columns.iter().map(|to| heading(to)).collect();
    let heading: Vec<&str> = ["RANK", "AGENT"].into_iter().chain(names.iter().map(String::as_str)).collect();
    let mut rows = Rows::with_heading(&heading, style);
    for row in matrix {
        let cells = columns.iter().map(|to| cell(row, to, style));
        rows.push([row.rank.0.to_string(), row.agent.to_string()].into_iter().chain(cells));
    }
    rows.render(0) + &reasons(matrix, style)
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
    if matches!(to, "server" | "source" | "target") { to.to_uppercase() } else { to.to_owned() }
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
        if let Some(why) = &row.ineligible {
            text.push_str(&format!("  {} {}: {why}\n", row.agent, style.paint(Tone::Warning, "is not eligible")));
        }
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}
