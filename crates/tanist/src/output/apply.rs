//! The difference between a declaration and what is, and what was done about it.

use serde::Serialize;

use super::{Style, Tone};
use crate::declared::diff::{Difference, Obstacle, Step};

/// What `tanist apply` answers.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Applied {
    pub to_do: Vec<String>,
    pub done: Vec<String>,
    pub unchanged: Vec<String>,
    /// There and not declared; `--prune` would remove them.
    pub undeclared: Vec<String>,
    pub obstacles: Vec<Obstacle>,
}

/// What is left of a difference once these steps are done.
#[must_use]
pub fn report(difference: &Difference, done: &[String]) -> Applied {
    let names = |names: &[tanist_model::id::ReplicationName]| names.iter().map(ToString::to_string).collect();
    Applied {
        to_do: difference.steps.iter().skip(done.len()).map(Step::in_words).collect(),
        done: done.to_vec(),
        unchanged: names(&difference.unchanged),
        undeclared: names(&difference.undeclared),
        obstacles: difference.obstacles.clone(),
    }
}

#[must_use]
pub fn render_applied(applied: &Applied, style: Style) -> String {
    let mut page = String::new();
    let mut line = |tone: Tone, word: &str, text: &str| page.push_str(&format!("{} {text}\n", style.paint(tone, word)));
    applied.done.iter().for_each(|step| line(Tone::Good, "done:", step));
    applied.to_do.iter().for_each(|step| line(Tone::Strong, "to do:", step));
    if !applied.unchanged.is_empty() {
        line(Tone::Dim, "unchanged:", &applied.unchanged.join(", "));
    }
    if !applied.undeclared.is_empty() {
        let text = format!("{} (there, not declared; removed only with --prune)", applied.undeclared.join(", "));
        line(Tone::Dim, "left alone:", &text);
    }
    for obstacle in &applied.obstacles {
        line(Tone::Bad, "impossible:", &format!("{}\n  hint: {}", obstacle.what, obstacle.hint));
    }
    if !applied.obstacles.is_empty() {
        page.push_str("nothing is done while something is impossible\n");
    } else if applied.to_do.is_empty() && applied.done.is_empty() {
        page.push_str("everything is as declared\n");
    }
    page
}
