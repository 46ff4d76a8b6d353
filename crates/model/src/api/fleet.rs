//! Agents, storage and the cluster as a whole as an operator sees them.

use serde::{Deserialize, Serialize};

use super::Health;
use crate::event::Event;
use crate::id::{AgentName, AlarmName, EventSeq, Incarnation, ReplicationName, StorageName, Term};
use crate::replication::Side;
use crate::time::Timestamp;
use crate::volume::{StorageReport, VolumeReport};

/// `GET /agents`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AgentView {
    pub name: AgentName,
    pub connected: bool,
    pub incarnation: Option<Incarnation>,
    pub last_beat_age_ms: Option<u64>,
    /// Connected, and yet without a beat for longer than a healthy agent: stopped, hung, or cut off.
    #[serde(default)]
    pub silent: bool,
    /// The peer that carries its connection, because it does not reach the server itself.
    #[serde(default)]
    pub through: Option<AgentName>,
    pub address: Option<String>,
    pub drained: bool,
    pub removed: bool,
    pub damped: bool,
    pub penalty: f64,
    /// Replications it acts for.
    pub acting_for: Vec<ReplicationName>,
    /// Replications whose source it reads for another agent.
    #[serde(default)]
    pub reading_for: Vec<ReplicationName>,
    /// Replications it is a failover agent of.
    pub failover_for: Vec<ReplicationName>,
    pub certificate_expires_at: Timestamp,
    pub version: Option<String>,
    /// How it reads and writes volumes: `io_uring`, or blocking calls and why.
    #[serde(default)]
    pub io: Option<String>,
    /// Processes of it that may still act: an epoch of theirs is not proven quiet, or an application that they quiesced is not known
    /// to be thawed. A living one is among them. Whoever confirms the agent dead names them.
    #[serde(default)]
    pub unproven: Vec<Incarnation>,
}

/// `GET /storage`: one storage system and the agents that reach it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StorageView {
    pub name: StorageName,
    pub agents: Vec<StorageAgentView>,
}

/// A storage system as one agent reports it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StorageAgentView {
    pub agent: AgentName,
    pub report: StorageReport,
}

/// `GET /volumes`: one volume and the agents that reach it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VolumeView {
    pub report: VolumeReport,
    pub agents: Vec<AgentName>,
    pub used_by: Option<VolumeUse>,
}

/// The replication that uses a volume, and as which of its sides.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct VolumeUse {
    pub replication: ReplicationName,
    pub side: Side,
}

/// `GET /status`: only what needs a human.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct StatusView {
    pub term: Term,
    pub ok: u32,
    pub degraded: u32,
    pub stopped: u32,
    pub concerns: Vec<Concern>,
}

/// One thing that needs a human.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Concern {
    /// A replication, an agent, or `server`.
    pub subject: String,
    pub health: Health,
    pub summary: String,
    pub next: Option<String>,
}

/// An entry of `GET /alarms`: a configured way to tell somebody, and how its deliveries get on. Numbers are since the server started.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct AlarmView {
    pub name: AlarmName,
    /// `webhook`, `mail` or `script`.
    pub way: String,
    /// Since when it cannot be delivered, told after several failures in a row.
    pub failing_since: Option<Timestamp>,
    /// Why the last attempt failed.
    pub reason: Option<String>,
    /// When that happened which is tried to be delivered now; what happened later waits behind it.
    pub waiting_since: Option<Timestamp>,
    pub delivered_at: Option<Timestamp>,
    pub delivered: u64,
    pub failed_attempts: u64,
}

/// `GET /events`: after a position, waiting for new ones if asked to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct EventPage {
    pub events: Vec<Event>,
    /// Ask again after this.
    pub last: EventSeq,
}
