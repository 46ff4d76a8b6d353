//! Numbers for Prometheus. Counters are kept where things happen; what has a present value is read off the machine when
//! somebody looks. The recorder belongs to the server and not to the process, so that two servers do not share numbers.

mod stages;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram, with_local_recorder};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tanist_model::api::AlarmView;
use tanist_model::event::EventCode;
use tanist_model::takeover::Evidence;
use tanist_model::time::Timestamp;

use crate::ServerError;
use crate::view::gauges::{Gauges, ReplicationGauges};

const COMMIT_SECONDS: &str = "tanist_store_commit_seconds";
/// Buckets for a commit: from a fast disk to one in trouble.
const COMMIT_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0];

/// A server's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics(..)")
    }
}

impl Metrics {
    /// # Errors
    /// [`ServerError::Metrics`].
    pub fn new() -> Result<Self, ServerError> {
        let matcher = Matcher::Full(COMMIT_SECONDS.to_owned());
        let builder = PrometheusBuilder::new().set_buckets_for_metric(matcher, &COMMIT_BUCKETS);
        let recorder = builder.map_err(|error| ServerError::Metrics(error.to_string()))?.build_recorder();
        let metrics = Self { handle: recorder.handle(), recorder: Arc::new(recorder) };
        metrics.with(describe);
        Ok(metrics)
    }

    fn with(&self, record: impl FnOnce()) {
        with_local_recorder(self.recorder.as_ref(), record);
    }

    pub fn committed(&self, took: Duration) {
        self.with(|| histogram!(COMMIT_SECONDS).record(took.as_secs_f64()));
    }

    pub fn store_failing(&self, failing: bool) {
        self.with(|| gauge!("tanist_store_failing").set(if failing { 1.0 } else { 0.0 }));
    }

    pub fn event(&self, code: EventCode) {
        self.with(|| {
            counter!("tanist_events_total", "code" => code.code()).increment(1);
            if code == EventCode::ReaderGranted {
                counter!("tanist_readers_granted_total").increment(1);
            }
        });
    }

    pub fn takeover(&self, evidence: &Evidence) {
        let kind = evidence_kind(evidence);
        self.with(|| counter!("tanist_takeovers_total", "evidence" => kind).increment(1));
    }

    /// Drains histograms, which otherwise grow until somebody looks.
    pub fn keep_up(&self) {
        self.handle.run_upkeep();
    }

    /// The page for Prometheus: the counters, and the present values.
    #[must_use]
    pub fn page(&self, gauges: &Gauges, alarms: &[AlarmView]) -> String {
        self.with(|| set(gauges));
        let mut page = self.handle.render();
        // Written here and not registered: what is deleted must vanish from the page.
        page.push_str(&replication_lines(&gauges.replications));
        page.push_str(&stages::lines(&gauges.replications));
        page.push_str(&alarm_lines(alarms));
        page
    }
}

fn describe() {
    describe_histogram!(COMMIT_SECONDS, "Time of one durable commit of the store, seconds.");
    describe_gauge!("tanist_store_failing", "1 while the store cannot be written.");
    describe_gauge!("tanist_connected_agents", "Agents connected now.");
    describe_gauge!("tanist_relayed_agents", "Agents whose connection a peer carries.");
    describe_gauge!("tanist_server_term", "The server's term.");
    describe_counter!("tanist_events_total", "Events recorded by this process, by code.");
    describe_counter!("tanist_takeovers_total", "Changes of the acting agent, by evidence.");
    describe_counter!("tanist_readers_granted_total", "Changes of the agent that reads the source.");
    gauge!("tanist_store_failing").set(0.0);
    counter!("tanist_readers_granted_total").absolute(0);
}

#[expect(clippy::cast_precision_loss, reason = "gauges are floating point; terms and counts stay far below 2^53")]
fn set(gauges: &Gauges) {
    gauge!("tanist_connected_agents").set(gauges.connected_agents as f64);
    gauge!("tanist_relayed_agents").set(gauges.relayed_agents as f64);
    gauge!("tanist_server_term").set(gauges.term as f64);
}

/// A family of gauges: its name, its help text, and its value for one replication, if it has one.
type Family<V> = (&'static str, &'static str, fn(&ReplicationGauges) -> Option<V>);

/// Moments and fractions of a second.
const DRILL_FAMILIES: [Family<f64>; 2] = [
    ("tanist_drill_seconds", "How long the last takeover on purpose took, from the decision.", |r| {
        r.drill_ms.map(|ms| Duration::from_millis(ms).as_secs_f64())
    }),
    ("tanist_drill_last_success_timestamp_seconds", "When the last good drill was made.", |r| {
        r.drill_good_at.map(|at| at.since(Timestamp(0)).as_secs_f64())
    }),
];

const FAMILIES: [Family<u64>; 21] = [
    ("tanist_replication_lag_seconds", "Age of the last recovery point.", |r| r.lag_seconds),
    ("tanist_replication_size_bytes", "Size of the volume.", |r| Some(r.size_bytes)),
    ("tanist_replication_durable_bytes", "Bytes of the present run that are durable on the target.", |r| {
        r.durable_bytes
    }),
    ("tanist_replication_passed_bytes", "Bytes of the present run that were passed, by the agent's word.", |r| {
        r.passed_bytes
    }),
    ("tanist_replication_epoch", "The epoch of the target side.", |r| Some(u64::from(r.epoch))),
    ("tanist_replication_source_epoch", "The epoch of the source side.", |r| Some(u64::from(r.source_epoch))),
    ("tanist_replication_has_reader", "1 while one agent reads the source for another.", |r| {
        Some(u64::from(r.has_reader))
    }),
    ("tanist_replication_unproven_epochs", "Epochs that are not proven quiet.", |r| Some(r.unproven)),
    ("tanist_replication_quiesced_applications", "Host applications that may be quiesced now.", |r| Some(r.quiesced)),
    (
        "tanist_replication_damaged_recovery_points",
        "Recovery points that were read and are not what was published.",
        |r| Some(r.damaged_points),
    ),
    ("tanist_replication_refused_frames", "Frames that came late and were refused, since its creation.", |r| {
        Some(r.refused_frames)
    }),
    ("tanist_run_scanned_bytes", "Bytes of the volume that the present or last run passed.", |r| {
        r.work.map(|work| work.scanned_bytes)
    }),
    ("tanist_run_same_bytes", "Bytes that the present or last run left as the target had them.", |r| {
        r.work.map(|work| work.same_bytes)
    }),
    ("tanist_run_assumed_bytes", "Bytes that the present or last run neither wrote nor read of the target.", |r| {
        r.work.map(|work| work.assumed_bytes)
    }),
    ("tanist_run_unread_bytes", "Bytes of its source that the present or last run left unread as unchanged.", |r| {
        r.work.map(|work| work.unread_bytes)
    }),
    ("tanist_run_compared_bytes", "Bytes that the present or last run read of the target to compare them.", |r| {
        r.work.map(|work| work.compared_bytes)
    }),
    ("tanist_run_written_bytes", "Bytes of data that the present or last run wrote.", |r| {
        r.work.map(|work| work.written_bytes)
    }),
    ("tanist_run_zeroed_bytes", "Bytes that the present or last run made zero.", |r| {
        r.work.map(|work| work.zeroed_bytes)
    }),
    ("tanist_run_sent_bytes", "Bytes between the two agents of the present or last run.", |r| {
        r.work.map(|work| work.sent_bytes)
    }),
    ("tanist_run_copied_again_bytes", "Bytes that the present or last run passed more than once.", |r| {
        r.copied_again_bytes
    }),
    (
        "tanist_drill_failing",
        "1 if the last drill failed, or the last good one is older than twice the schedule.",
        |r| r.drill_failing.map(u64::from),
    ),
];

/// The present values of replications in Prometheus' text format. Names need no escaping: their letters are checked.
fn replication_lines(replications: &[ReplicationGauges]) -> String {
    let mut page = family_lines(&FAMILIES, replications) + &family_lines(&DRILL_FAMILIES, replications);
    page.push_str("# HELP tanist_replication_state The state of a replication, 1 for the one it is in.\n");
    page.push_str("# TYPE tanist_replication_state gauge\n");
    for ReplicationGauges { name, state, .. } in replications {
        page.push_str(&format!("tanist_replication_state{{replication=\"{name}\",state=\"{state}\"}} 1\n"));
    }
    page
}

fn family_lines<V: fmt::Display>(families: &[Family<V>], replications: &[ReplicationGauges]) -> String {
    let mut page = String::new();
    for (name, help, value) in families {
        page.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n"));
        for replication in replications {
            if let Some(value) = value(replication) {
                page.push_str(&format!("{name}{{replication=\"{}\"}} {value}\n", replication.name));
            }
        }
    }
    page
}

/// How the deliveries of alarms get on, in Prometheus' text format.
fn alarm_lines(alarms: &[AlarmView]) -> String {
    type Family = (&'static str, &'static str, &'static str, fn(&AlarmView) -> u64);
    const FAMILIES: [Family; 3] = [
        ("tanist_alarm_failing", "gauge", "1 while an alarm cannot be delivered.", |a| {
            u64::from(a.failing_since.is_some())
        }),
        ("tanist_alarm_delivered_total", "counter", "Notices delivered.", |a| a.delivered),
        ("tanist_alarm_failed_attempts_total", "counter", "Deliveries that failed and are tried again.", |a| {
            a.failed_attempts
        }),
    ];
    let mut page = String::new();
    for (family, kind, help, value) in FAMILIES {
        page.push_str(&format!("# HELP {family} {help}\n# TYPE {family} {kind}\n"));
        for alarm in alarms {
            page.push_str(&format!("{family}{{alarm=\"{}\"}} {}\n", alarm.name, value(alarm)));
        }
    }
    page
}

fn evidence_kind(evidence: &Evidence) -> &'static str {
    match evidence {
        Evidence::FirstActivation => "first-activation",
        Evidence::ConnectionEnded { .. } => "connection-ended",
        Evidence::ReportedUnfit { .. } => "reported-unfit",
        Evidence::BeatsMissed { .. } => "beats-missed",
        Evidence::Restarted => "restarted",
        Evidence::ActivationTimeout => "activation-timeout",
        Evidence::Declined { .. } => "declined",
        Evidence::Handover { .. } => "handover",
        Evidence::HandoverOverdue => "handover-overdue",
        Evidence::Drill { .. } => "drill",
        Evidence::Removed => "removed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tanist_model::id::ReplicationName;
    use tanist_model::stage::{Stage, StageUse};
    use tanist_model::work::RunWork;

    fn gauges() -> Gauges {
        let replication = ReplicationGauges {
            name: ReplicationName::new("db").unwrap(),
            state: "active",
            lag_seconds: None,
            size_bytes: 512,
            durable_bytes: Some(128),
            passed_bytes: None,
            epoch: 3,
            source_epoch: 4,
            has_reader: true,
            unproven: 1,
            quiesced: 0,
            damaged_points: 1,
            refused_frames: 2,
            work: Some(RunWork { same_bytes: 77, ..RunWork::default() }),
            copied_again_bytes: None,
            stages: Vec::new(),
            drill_ms: Some(410),
            drill_good_at: Some(Timestamp(1_795_342_800_500_000)),
            drill_failing: Some(false),
        };
        Gauges { term: 4, connected_agents: 2, relayed_agents: 1, replications: vec![replication] }
    }

    #[test]
    fn the_page_shows_counters_and_present_values() {
        let metrics = Metrics::new().unwrap();
        assert!(metrics.page(&gauges(), &[]).contains("\ntanist_readers_granted_total 0\n"));
        metrics.event(EventCode::Exhausted);
        metrics.event(EventCode::ReaderGranted);
        metrics.takeover(&Evidence::Restarted);
        metrics.committed(Duration::from_millis(3));
        let page = metrics.page(&gauges(), &[]);
        for line in [
            "tanist_events_total{code=\"T409\"} 1",
            "tanist_readers_granted_total 1",
            "tanist_replication_source_epoch{replication=\"db\"} 4",
            "tanist_replication_quiesced_applications{replication=\"db\"} 0",
            "tanist_replication_has_reader{replication=\"db\"} 1",
            "tanist_replication_refused_frames{replication=\"db\"} 2",
            "tanist_replication_damaged_recovery_points{replication=\"db\"} 1",
            "tanist_drill_seconds{replication=\"db\"} 0.41",
            "tanist_drill_last_success_timestamp_seconds{replication=\"db\"} 1795342800.5",
            "tanist_drill_failing{replication=\"db\"} 0",
            "tanist_run_same_bytes{replication=\"db\"} 77",
            "tanist_takeovers_total{evidence=\"restarted\"} 1",
            "tanist_store_commit_seconds_bucket{le=\"0.005\"} 1",
            "tanist_store_failing 0",
            "tanist_connected_agents 2",
            "tanist_relayed_agents 1",
            "tanist_server_term 4",
            "tanist_replication_durable_bytes{replication=\"db\"} 128",
            "tanist_replication_state{replication=\"db\",state=\"active\"} 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
        }
        assert!(!page.contains("tanist_replication_lag_seconds{"));
    }

    #[test]
    fn the_page_shows_where_the_time_of_a_run_goes() {
        let of = |stage, worked_permille, output_permille, queue_limit_bytes| StageUse {
            stage,
            worked_permille,
            input_permille: 5,
            output_permille,
            queued_bytes: 7,
            queue_limit_bytes,
        };
        let mut gauges = gauges();
        gauges.replications[0].stages = vec![of(Stage::Source, 120, 860, 0), of(Stage::Target, 985, 0, 8 << 20)];
        let page = Metrics::new().unwrap().page(&gauges, &[]);
        for line in [
            "tanist_run_stage_ratio{replication=\"db\",stage=\"source\",doing=\"work\"} 0.12",
            "tanist_run_stage_ratio{replication=\"db\",stage=\"source\",doing=\"output\"} 0.86",
            "tanist_run_stage_ratio{replication=\"db\",stage=\"target\",doing=\"input\"} 0.005",
            "tanist_run_stage_queued_bytes{replication=\"db\",stage=\"target\"} 7",
            "tanist_run_stage_queue_limit_bytes{replication=\"db\",stage=\"target\"} 8388608",
            "tanist_run_limit{replication=\"db\",stage=\"target\"} 1",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
        }
        assert!(!page.contains("tanist_run_stage_queued_bytes{replication=\"db\",stage=\"source\""), "it has no queue");
    }

    #[test]
    fn what_is_deleted_vanishes() {
        let metrics = Metrics::new().unwrap();
        let _ = metrics.page(&gauges(), &[]);
        let page = metrics.page(&Gauges { replications: Vec::new(), ..gauges() }, &[]);
        assert!(!page.contains("\"db\""));
    }
}
