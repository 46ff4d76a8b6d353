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
    // Said, so that nobody takes it for fast.
    if report.stages.iter().all(|stage| stage.stage != Stage::Target) {
        let why = "to write destroys what a volume holds (--write-scratch)";
        rows.push([Stage::Target.name(), "", "not measured", why].map(str::to_owned));
    }
    format!("{}\n\n{}\n{}\n", style.paint(Tone::Strong, &title), rows.render(2), verdict(report, style))
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

fn verdict(report: &BenchReport, style: Style) -> String {
    let (Some(limit), Some(rate)) = (report.limit, report.bytes_per_second) else {
        return "limit: unknown, there was nothing to move".to_owned();
    };
    let verdict = format!("limit: {limit}, {:.0} MiB/s", rate as f64 / f64::from(1 << 20));
    format!("{} (of what was measured here; in a run the stages share the cores)", style.paint(Tone::Strong, &verdict))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    fn report(limit: Option<Stage>) -> BenchReport {
        let of = |stage, bytes_per_second: Option<u64>| BenchStage {
            stage,
            what: format!("as a run does the {stage}"),
            bytes: bytes_per_second.unwrap_or(0) * 2,
            took_us: 2_000_000,
            bytes_per_second,
        };
        let rate = limit.map(|_| 860 << 20);
        BenchReport {
            volume: "san-a/db".parse().unwrap(),
            cores: 2,
            io: "io_uring".to_owned(),
            stages: vec![
                of(Stage::Source, rate),
                of(Stage::Encode, Some(1720 << 20)),
                of(Stage::Network, Some(1 << 30)),
            ],
            limit,
            bytes_per_second: rate,
        }
    }

    #[test]
    fn a_bar_a_stage_and_the_limit_at_the_end() {
        let page = render(&report(Some(Stage::Source)), samples::style());
        let lines: Vec<&str> = page.lines().collect();
        assert_eq!(lines[0], "what each stage does by itself, on 2 cores, I/O by io_uring");
        assert!(
            lines[2]
                .starts_with("  source   ██████████░░░░░░░░░░  860 MiB/s     as a run does the source, 1.7 GiB in 2 s"),
            "{page}"
        );
        assert!(lines[3].starts_with("  encode   ████████████████████  1.7 GiB/s"), "{page}");
        assert!(lines[5].starts_with("  target                         not measured  to write destroys"), "{page}");
        assert!(lines.last().is_some_and(|line| line.starts_with("limit: source, 860 MiB/s (")), "{page}");
    }

    #[test]
    fn what_there_was_nothing_of_is_no_limit() {
        let page = render(&report(None), samples::style());
        assert!(
            page.contains("nothing to move") && page.ends_with("limit: unknown, there was nothing to move\n"),
            "{page}"
        );
    }
}
