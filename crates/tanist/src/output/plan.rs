//! The plan of a replication: what will be done, what it promises, and what will be lost.

use tanist_model::api::Plan;
use tanist_model::id::AgentName;

use super::matrix::render_matrix;
use super::table::Rows;
use super::{Style, Tone, units, words};

/// Everything `replication create` prints before it creates.
#[must_use]
pub fn render_plan(plan: &Plan, style: Style) -> String {
    let title = style.paint(Tone::Strong, &format!("plan for {}", plan.name));
    format!("{title}\n\n{}\n{}{}", facts(plan, style), render_matrix(plan, style), remarks(plan, style))
}

fn facts(plan: &Plan, style: Style) -> String {
    let mut rows = Rows::facts();
    let mut fact = |name: &str, value: String| rows.push([style.paint(Tone::Dim, name), value]);
    fact("source", format!("{}, {}", plan.source, units::bytes(plan.size_bytes)));
    fact("target", format!("{}, {}", plan.target, units::bytes(plan.target_size_bytes)));
    fact("overwrites", style.paint(Tone::Warning, &plan.overwrites));
    fact("form", form(&plan.form, plan.source_hierarchy.first(), plan.target_hierarchy.first()));
    fact("source mode", words::source_mode(plan.policy.source_mode).to_owned());
    fact("verify", words::verify(plan.policy.verify).to_owned());
    fact("limits", words::limits(&plan.policy));
    fact("fencing", words::tier(plan.tier).to_owned());
    fact("promise", plan.promise.clone());
    fact("source side", hierarchy(&plan.source_hierarchy));
    fact("target side", hierarchy(&plan.target_hierarchy));
    rows.render(2)
}

/// What a form means, with the agent that reads and the one that writes as far as they are known.
#[must_use]
pub fn form(form: &str, reader: Option<&AgentName>, writer: Option<&AgentName>) -> String {
    match form {
        "direct" => "direct: one agent reads the source and writes the target".to_owned(),
        "networked" => {
            format!("networked: {} reads the source and sends, {} writes the target", who(reader), who(writer))
        }
        other => other.to_owned(),
    }
}

fn who(agent: Option<&AgentName>) -> String {
    agent.map_or_else(|| "nobody yet".to_owned(), ToString::to_string)
}

fn hierarchy(agents: &[AgentName]) -> String {
    let ranked = agents.iter().enumerate().map(|(i, agent)| format!("{}. {agent}", i + 1));
    let text = ranked.collect::<Vec<_>>().join("  ");
    if text.is_empty() { "no agent".to_owned() } else { text }
}

fn remarks(plan: &Plan, style: Style) -> String {
    let lines = plan.remarks.iter().map(|remark| format!("{} {remark}\n", style.paint(Tone::Warning, "note:")));
    let text: String = lines.collect();
    if text.is_empty() { text } else { format!("\n{text}") }
}
