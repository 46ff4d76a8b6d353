//! Drills as people read them: how long a takeover took when it was proven last, and when that was.

use std::time::Duration;

use tanist_model::api::DrillsView;
use tanist_model::drill::{DrillPolicy, DrillResult};

use super::{Style, Tone, units};

/// The answer to `drill --wait`.
#[must_use]
pub fn render_drill(result: &DrillResult, style: Style) -> String {
    let (tone, word) = if result.is_good() { (Tone::Good, "passed") } else { (Tone::Bad, "FAILED") };
    let fault = result.fault.as_ref().map(|fault| format!(", {fault}")).unwrap_or_default();
    format!("{}: epoch {}, {}{fault}\n", style.paint(tone, word), result.epoch, figure(result))
}

/// The line of `show`: the proof, its age, and when it is renewed.
#[must_use]
pub fn summary(drills: &DrillsView, policy: &DrillPolicy, style: Style) -> String {
    let proven = match &drills.last_good {
        Some(good) => format!("last proven {}: {}", units::ago(good.at, style.now), figure(good)),
        None => "no takeover was proven by a drill yet".to_owned(),
    };
    let last = drills.results.first().filter(|last| !last.is_good());
    let failed = last.and_then(|last| last.fault.as_ref()).map(|fault| {
        let text = format!("the last one FAILED: {fault}");
        format!("; {}", style.paint(Tone::Bad, &text))
    });
    let overdue = drills.overdue.then(|| format!("; {}", style.paint(Tone::Bad, "OVERDUE")));
    let schedule = policy.schedule.as_ref().map(|schedule| format!("; {schedule}{}", next(drills, style)));
    let parts = [failed, overdue, schedule].into_iter().flatten();
    parts.fold(proven, |text, part| text + &part)
}

fn next(drills: &DrillsView, style: Style) -> String {
    match (&drills.waits_for, drills.next_at) {
        (Some(why), _) => format!(", due and waits: {why}"),
        (None, Some(at)) if at > style.now => format!(", next in {}", units::duration(at.since(style.now))),
        (None, Some(_)) => ", due now".to_owned(),
        (None, None) => String::new(),
    }
}

fn figure(result: &DrillResult) -> String {
    match result.took_ms {
        Some(took) => format!("{} to {}", seconds(took), result.until.in_words()),
        None => format!("{} did not get so far", result.to),
    }
}

/// `0.41 s`: what is compared from week to week has the same unit each time.
fn seconds(millis: u64) -> String {
    format!("{:.2} s", Duration::from_millis(millis).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    #[test]
    fn the_line_has_the_proof_its_age_and_what_is_wrong() {
        let (view, style) = (samples::replication(), samples::style());
        let mut drills = view.drills;
        let mut policy = DrillPolicy { schedule: "every 7d".parse().ok(), ..DrillPolicy::default() };
        let good = summary(&drills, &policy, style);
        assert_eq!(good, "last proven 3 d ago: 0.41 s to first durable write; every 1w, next in 4 d");
        (drills.waits_for, drills.overdue) = (Some("it has no recovery point yet".to_owned()), true);
        drills.results[0].fault = Some("more than the limit of 400 ms".to_owned());
        let bad = summary(&drills, &policy, style);
        let expected = "last proven 3 d ago: 0.41 s to first durable write; the last one FAILED: more than the limit of 400 ms; OVERDUE; \
                        every 1w, due and waits: it has no recovery point yet";
        assert_eq!(bad, expected);
        policy.schedule = None;
        assert_eq!(summary(&DrillsView::default(), &policy, style), "no takeover was proven by a drill yet");
        assert_eq!(
            render_drill(&drills.results[0], style),
            "FAILED: epoch 2, 0.41 s to first durable write, more than the limit of 400 ms\n"
        );
    }
}
