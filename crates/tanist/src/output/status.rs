//! `status`: the counts, then only what needs a human.

use std::fmt::Write as _;

use tanist_model::api::{Concern, Health, StatusView};

use super::{Style, Tone, units, words};

/// First line `3 ok, 1 degraded, 0 stopped`, counting replications, and what is worse than they are; never painted: programs read it.
#[must_use]
pub fn render_status(view: &StatusView, style: Style) -> String {
    let mut text = format!("{} ok, {} degraded, {} stopped", view.ok, view.degraded, view.stopped);
    let worst = view.concerns.iter().max_by_key(|concern| severity(concern.health));
    if let Some(worst) = worst.filter(|worst| severity(worst.health) > counted(view)) {
        let _ = write!(text, "; {} {}", worst.subject, words::health(worst.health).0);
    }
    text.push('\n');
    for concern in &view.concerns {
        text.push_str(&render_concern(concern, style));
    }
    text
}

fn render_concern(concern: &Concern, style: Style) -> String {
    // `show` has the sentence with every identity whole, and so has JSON.
    let summary = units::with_short_identities(&concern.summary);
    let head = format!("\n{}: {}, {summary}\n", concern.subject, words::painted_health(concern.health, style));
    match &concern.next {
        Some(next) => format!("{head}  {} {next}\n", style.paint(Tone::Strong, "next:")),
        None => head,
    }
}

/// Exit status as monitoring plugins have it: the worst of the counts and of the concerns.
#[must_use]
pub fn exit_status(view: &StatusView) -> u8 {
    view.concerns.iter().map(|concern| severity(concern.health)).fold(counted(view), u8::max)
}

/// What the counts of replications say.
fn counted(view: &StatusView) -> u8 {
    if view.stopped > 0 { 2 } else { u8::from(view.degraded > 0) }
}

fn severity(health: Health) -> u8 {
    match health {
        Health::Ok => 0,
        Health::Degraded => 1,
        Health::Stopped => 2,
    }
}
