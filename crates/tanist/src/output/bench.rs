//! What a host can do: a bar a stage, and the stage that would be the limit.

use tanist_agent::{BenchReport, BenchStage};
use tanist_model::stage::Stage;

use super::stages::bar;
use super::table::Rows;
use super::{Style, Tone, units};

/// The whole page; its last line is the verdict.
#[must_use]
pub fn render(report: &BenchReport, style: Style) -> String {
    let cores = tanist_model::quantity::count(report.cores as u64, "core");
    let title = format!("what each stage does by itself, on {cores}, I/O by {}", report.io);
    let fastest = report.stages.iter().filter_map(|stage| stage.bytes_per_second).max().unwrap_or(0);
    let mut rows = Rows::plain();
    for stage in &report.stages {
        let tone = if report.limit == Some(stage.stage) { Tone::Warning } else { Tone::Plain };
        rows.push(line(stage, fastest, tone, style));
    }
    let title = style.paint(Tone::Strong, &title);
    format!("{title}\n\n{}{}\n{}\n", rows.render(2), missing(report), verdict(report, style))
}

fn line(stage: &BenchStage, fastest: u64, tone: Tone, style: Style) -> [String; 4] {
    let rate = stage.bytes_per_second.map_or_else(|| "nothing to move".to_owned(), units::rate);
    [
        style.paint(tone, stage.stage.name()),
        style.paint(tone, &bar(stage.bytes_per_second.unwrap_or(0), fastest)),
        style.paint(tone, &rate),
        format!("{}, {} in {}", stage.what, units::bytes(stage.bytes), units::micros(stage.took_us)),
    ]
}

/// What was left out, so that nobody takes it for fast.
fn missing(report: &BenchReport) -> &'static str {
    let written = report.stages.iter().any(|stage| stage.stage == Stage::Target);
    if written { "" } else { "  target  not measured: to write destroys what a volume holds (--write-scratch)\n" }
}

fn verdict(report: &BenchReport, style: Style) -> String {
    let (Some(limit), Some(rate)) = (report.limit, report.bytes_per_second) else {
        return "limit: unknown, there was nothing to move".to_owned();
    };
    let verdict = format!("limit: {limit}, {:.0} MiB/s", rate as f64 / f64::from(1 << 20));
    format!(
        "{} of what was measured here; a run shares the cores among its stages",
        style.paint(Tone::Strong, &verdict)
    )
}
