//! Where the time of a run goes: a line a stage, with a bar for how much it works.

use tanist_model::api::RunView;
use tanist_model::stage::StageUse;

use super::table::Rows;
use super::{Style, Tone, units};

const BAR_CELLS: u64 = 20;

/// The stages of a run, indented; empty if nobody has told of them. The limit stands out.
#[must_use]
pub fn table(run: &RunView, style: Style) -> String {
    if run.stages.is_empty() {
        return String::new();
    }
    let heading = ["stage", "works", "", "waits for input", "for output", "queue in front"];
    let mut rows = Rows::with_heading(&heading, style);
    for stage in &run.stages {
        let is_limit = run.limit.as_deref() == Some(stage.stage.name());
        rows.push(line(stage, if is_limit { Tone::Warning } else { Tone::Plain }, style));
    }
    rows.render(4)
}

fn line(stage: &StageUse, tone: Tone, style: Style) -> [String; 6] {
    [
        style.paint(tone, stage.stage.name()),
        style.paint(tone, &bar(stage.worked_permille.into(), 1000)),
        percent(stage.worked_permille),
        percent(stage.input_permille),
        percent(stage.output_permille),
        queue(stage),
    ]
}

/// A part of a whole, in a fixed width: `██████████░░░░░░░░░░`.
#[must_use]
pub fn bar(part: u64, whole: u64) -> String {
    let full = (part.min(whole) * BAR_CELLS + whole / 2).checked_div(whole).unwrap_or(0);
    (0..BAR_CELLS).map(|cell| if cell < full { '█' } else { '░' }).collect()
}

fn percent(permille: u16) -> String {
    format!("{:>3} %", (permille + 5) / 10)
}

fn queue(stage: &StageUse) -> String {
    if stage.queue_limit_bytes == 0 {
        return String::new();
    }
    format!("{} of {}", units::bytes(stage.queued_bytes), units::bytes(stage.queue_limit_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_full_only_of_the_whole() {
        let full = |part, whole| bar(part, whole).chars().filter(|cell| *cell == '█').count();
        let table = [(0, 1000, 0), (24, 1000, 0), (500, 1000, 10), (974, 1000, 19), (1000, 1000, 20), (5, 0, 0)];
        for (part, whole, expected) in table {
            assert_eq!(full(part, whole), expected, "{part} of {whole}");
            assert_eq!(bar(part, whole).chars().count(), 20);
        }
    }
}
