//! Where the time of the present runs goes, in Prometheus' text format. Per replication at most the few stages that there are.

use tanist_model::id::ReplicationName;
use tanist_model::stage::{Stage, StageUse, limit_of};

use crate::view::gauges::ReplicationGauges;

const RATIO: &str = "tanist_run_stage_ratio";
const QUEUED: &str = "tanist_run_stage_queued_bytes";
const QUEUE_LIMIT: &str = "tanist_run_stage_queue_limit_bytes";
const LIMIT: &str = "tanist_run_limit";

pub(super) fn lines(replications: &[ReplicationGauges]) -> String {
    let mut page =
        heading(RATIO, "Share of the last seconds in which a stage worked, or waited for input or for output.");
    for (name, stage) in each(replications) {
        let shares =
            [("work", stage.worked_permille), ("input", stage.input_permille), ("output", stage.output_permille)];
        for (doing, permille) in shares {
            let labels = format!("replication=\"{name}\",stage=\"{}\",doing=\"{doing}\"", stage.stage);
            page.push_str(&format!("{RATIO}{{{labels}}} {}\n", f64::from(permille) / 1000.0));
        }
    }
    page.push_str(&bytes(replications, QUEUED, "What waited for a stage lately, on average.", |one| one.queued_bytes));
    page.push_str(&bytes(replications, QUEUE_LIMIT, "How much can wait for a stage.", |one| one.queue_limit_bytes));
    page.push_str(&heading(LIMIT, "1 for the stage that is the limit of the present run."));
    for ReplicationGauges { name, stages, .. } in replications {
        let stage = limit_of(stages).map(Stage::name);
        page.extend(stage.map(|stage| format!("{LIMIT}{{replication=\"{name}\",stage=\"{stage}\"}} 1\n")));
    }
    page
}

/// Of the stages that have a queue in front of them.
fn bytes(replications: &[ReplicationGauges], name: &str, help: &str, value: fn(&StageUse) -> u64) -> String {
    let mut page = heading(name, help);
    for (replication, stage) in each(replications).filter(|(_, stage)| stage.queue_limit_bytes > 0) {
        let labels = format!("replication=\"{replication}\",stage=\"{}\"", stage.stage);
        page.push_str(&format!("{name}{{{labels}}} {}\n", value(stage)));
    }
    page
}

fn each(replications: &[ReplicationGauges]) -> impl Iterator<Item = (&ReplicationName, &StageUse)> {
    replications.iter().flat_map(|one| one.stages.iter().map(move |stage| (&one.name, stage)))
}

fn heading(name: &str, help: &str) -> String {
    format!("# HELP {name} {help}\n# TYPE {name} gauge\n")
}
