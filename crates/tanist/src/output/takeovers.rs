//! `replication takeovers`: which records there are, one line each.

use tanist_model::api::WhyView;
use tanist_model::takeover::TakeoverRecord;

use super::table::Rows;
use super::{Style, units, words};

#[must_use]
pub fn render_takeovers(view: &WhyView, style: Style) -> String {
    if view.takeovers.is_empty() {
        return format!("{}: nobody has acted yet\n", view.name);
    }
    let mut rows = Rows::with_heading(&["EPOCH", "WHEN", "FROM", "TO", "TIER", "TOOK", "WHY"], style);
    for takeover in &view.takeovers {
        rows.push([
            takeover.epochs.target.to_string(),
            units::clock(takeover.suspected_at),
            takeover.from.as_ref().map_or_else(dash, ToString::to_string),
            takeover.to.to_string(),
            takeover.tier.map_or_else(dash, |tier| words::tier(tier).to_owned()),
            took(takeover),
            takeover.evidence.in_words(),
        ]);
    }
    let name = &view.name;
    format!("{}\nnext: tanist replication record {name} EPOCH > FILE; tanist verify-record FILE\n", rows.render(0))
}

/// To the first durable write, or to the activation where no run waited.
fn took(takeover: &TakeoverRecord) -> String {
    let end = takeover.first_durable_write_at.or(takeover.activated_at.filter(|_| takeover.run.is_none()));
    end.map_or_else(dash, |at| format!("{} ms", at.since(takeover.suspected_at).as_millis()))
}

fn dash() -> String {
    "-".to_owned()
}
