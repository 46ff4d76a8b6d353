//! The paths of the API, each with the types of its question and answer.

use std::time::Duration;

use reqwest::Method;
use tanist_model::api::{
    AgentView, AlarmView, BackupTo, ConfirmDead, CreateReplication, CreateToken, Done, DrillHow, EventPage, HandoverTo,
    Plan, PointReading, RecordedSegment, RecoveryPointView, ReplicationView, SetHierarchy, SetPolicy, StatusView,
    StorageView, TokenCreated, VerifyTarget, VolumeView, WhoAmI, WhyView,
};
use tanist_model::id::{AgentName, AlarmName, Epoch, EventSeq, ReplicationName, RunId};
use tanist_model::takeover::SignedRecord;
use tanist_model::time::Timestamp;
use tanist_wire::token::{JoinRequest, JoinResponse};

use super::{ANSWER_TIMEOUT, Client, ClientError, to_value};

/// Which events to ask for.
#[derive(Clone, Debug, Default)]
pub struct EventQuery {
    /// Events after this position; `None`: the latest.
    pub after: Option<EventSeq>,
    pub limit: u32,
    pub replication: Option<ReplicationName>,
    /// How long the server may wait for a first event.
    pub wait: Duration,
}

impl EventQuery {
    fn path(&self) -> String {
        let mut path = match self.after {
            Some(after) => format!("/events?after={after}&limit={}", self.limit),
            None => format!("/events?latest={}", self.limit),
        };
        if let Some(name) = &self.replication {
            path.push_str(&format!("&replication={name}"));
        }
        if !self.wait.is_zero() {
            path.push_str(&format!("&wait_seconds={}", self.wait.as_secs()));
        }
        path
    }
}

/// Longer than the server tries to deliver a test.
const ALARM_TEST_TIMEOUT: Duration = Duration::from_secs(75);

type Answer<T> = Result<T, ClientError>;

impl Client {
    pub async fn whoami(&self) -> Answer<WhoAmI> {
        self.get("/whoami").await
    }

    pub async fn status(&self) -> Answer<StatusView> {
        self.get("/status").await
    }

    pub async fn alarms(&self) -> Answer<Vec<AlarmView>> {
        self.get("/alarms").await
    }

    /// Waits as long as the server tries.
    pub async fn test_alarm(&self, name: &AlarmName) -> Answer<Done> {
        self.change_within(Method::POST, format!("/alarms/{name}/test"), None, ALARM_TEST_TIMEOUT).await
    }

    pub async fn agents(&self) -> Answer<Vec<AgentView>> {
        self.get("/agents").await
    }

    pub async fn drain_agent(&self, name: &AgentName) -> Answer<Done> {
        self.change(Method::POST, format!("/agents/{name}/drain"), None).await
    }

    pub async fn undrain_agent(&self, name: &AgentName) -> Answer<Done> {
        self.change(Method::POST, format!("/agents/{name}/undrain"), None).await
    }

    pub async fn confirm_agent_dead(&self, name: &AgentName, seen: &ConfirmDead) -> Answer<Done> {
        self.change(Method::POST, format!("/agents/{name}/confirm-dead"), Some(to_value(seen))).await
    }

    pub async fn remove_agent(&self, name: &AgentName) -> Answer<Done> {
        self.change(Method::DELETE, format!("/agents/{name}"), None).await
    }

    pub async fn create_token(&self, body: &CreateToken) -> Answer<TokenCreated> {
        self.change(Method::POST, "/tokens", Some(to_value(body))).await
    }

    /// Has a host join. Its token counts, and not the credential that goes with every question.
    pub async fn join(&self, body: &JoinRequest) -> Answer<JoinResponse> {
        self.ask("/join", body).await
    }

    pub async fn storage(&self) -> Answer<Vec<StorageView>> {
        self.get("/storage").await
    }

    pub async fn volumes(&self) -> Answer<Vec<VolumeView>> {
        self.get("/volumes").await
    }

    pub async fn replications(&self) -> Answer<Vec<ReplicationView>> {
        self.get("/replications").await
    }

    pub async fn plan_replication(&self, body: &CreateReplication) -> Answer<Plan> {
        self.ask("/replications/check", body).await
    }

    pub async fn create_replication(&self, body: &CreateReplication) -> Answer<Done> {
        self.change(Method::POST, "/replications", Some(to_value(body))).await
    }

    pub async fn replication(&self, name: &ReplicationName) -> Answer<ReplicationView> {
        self.get(format!("/replications/{name}")).await
    }

    pub async fn delete_replication(&self, name: &ReplicationName, leave_behind: bool) -> Answer<Done> {
        let how = if leave_behind { "?leave_behind=true" } else { "" };
        self.change(Method::DELETE, format!("/replications/{name}{how}"), None).await
    }

    pub async fn check_replication(&self, name: &ReplicationName) -> Answer<Plan> {
        self.get(format!("/replications/{name}/check")).await
    }

    pub async fn sync(&self, name: &ReplicationName, full: bool) -> Answer<Done> {
        let how = if full { "?full=true" } else { "" };
        self.change(Method::POST, format!("/replications/{name}/sync{how}"), None).await
    }

    pub async fn abort(&self, name: &ReplicationName) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/abort"), None).await
    }

    pub async fn pause(&self, name: &ReplicationName) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/pause"), None).await
    }

    pub async fn resume(&self, name: &ReplicationName) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/resume"), None).await
    }

    pub async fn pin(&self, name: &ReplicationName, run: RunId, pinned: bool) -> Answer<Done> {
        let verb = if pinned { "pin" } else { "unpin" };
        self.change(Method::POST, format!("/replications/{name}/recovery-points/{run}/{verb}"), None).await
    }

    pub async fn note_reading(&self, name: &ReplicationName, run: RunId, body: &PointReading) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/recovery-points/{run}/reading"), Some(to_value(body)))
            .await
    }

    pub async fn verify(&self, name: &ReplicationName, body: VerifyTarget) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/verify"), Some(to_value(&body))).await
    }

    pub async fn set_policy(&self, name: &ReplicationName, body: &SetPolicy) -> Answer<Done> {
        self.change(Method::PUT, format!("/replications/{name}/policy"), Some(to_value(body))).await
    }

    pub async fn set_hierarchy(&self, name: &ReplicationName, body: &SetHierarchy) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/hierarchy"), Some(to_value(body))).await
    }

    pub async fn drill(&self, name: &ReplicationName, body: DrillHow) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/drill"), Some(to_value(&body))).await
    }

    pub async fn handover(&self, name: &ReplicationName, body: &HandoverTo) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/handover"), Some(to_value(body))).await
    }

    pub async fn handback(&self, name: &ReplicationName) -> Answer<Done> {
        self.change(Method::POST, format!("/replications/{name}/handback"), None).await
    }

    /// The takeover of this epoch of the target, or the last one.
    pub async fn record(&self, name: &ReplicationName, epoch: Option<Epoch>) -> Answer<SignedRecord> {
        let which = epoch.map_or_else(String::new, |epoch| format!("?epoch={epoch}"));
        self.get(format!("/replications/{name}/record{which}")).await
    }

    pub async fn why(&self, name: &ReplicationName, at: Option<Timestamp>) -> Answer<WhyView> {
        let query = at.map(|time| format!("?at={time}")).unwrap_or_default();
        self.get(format!("/replications/{name}/why{query}")).await
    }

    pub async fn recovery_points(&self, name: &ReplicationName) -> Answer<Vec<RecoveryPointView>> {
        self.get(format!("/replications/{name}/recovery-points")).await
    }

    pub async fn events(&self, query: &EventQuery) -> Answer<EventPage> {
        self.get_within(query.path(), ANSWER_TIMEOUT + query.wait).await
    }

    /// The segments of the server's recording, oldest first.
    pub async fn recording(&self) -> Answer<Vec<RecordedSegment>> {
        self.get("/support/recording").await
    }

    /// One of them, as it lies there.
    pub async fn recorded(&self, segment: u64) -> Answer<Vec<u8>> {
        self.bytes(format!("/api/v1/support/recording/{segment}")).await
    }

    /// The server's configuration, without secrets.
    pub async fn configuration(&self) -> Answer<Vec<u8>> {
        self.bytes("/api/v1/support/configuration").await
    }

    /// The page for Prometheus.
    pub async fn metrics(&self) -> Answer<Vec<u8>> {
        self.bytes("/metrics").await
    }

    pub async fn backup(&self, body: &BackupTo) -> Answer<Done> {
        self.change(Method::POST, "/backup", Some(to_value(body))).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_asked_for_by_position_or_from_the_end() {
        let latest = EventQuery { limit: 50, ..EventQuery::default() };
        assert_eq!(latest.path(), "/events?latest=50");
        let following = EventQuery {
            after: Some(EventSeq(7)),
            limit: 100,
            replication: Some(ReplicationName::new("db").unwrap()),
            wait: Duration::from_secs(25),
        };
        assert_eq!(following.path(), "/events?after=7&limit=100&replication=db&wait_seconds=25");
    }
}
