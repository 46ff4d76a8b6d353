//! Bodies of the HTTP API (`/api/v1`), as the server sends them and the operator's commands print them.
//!
//! Views answer an operator's questions; they are computed from records and never stored.

mod administration;
mod fleet;
mod plan;
mod refusal;
mod replication;
mod request;

pub use administration::{BackupTo, CreateToken, RecordedSegment, TokenCreated, WhoAmI};
pub use fleet::{
    AgentView, AlarmView, Concern, EventPage, StatusView, StorageAgentView, StorageView, VolumeUse, VolumeView,
};
pub use plan::{CheckCell, CheckRow, Ineligibility, Plan, RankedAgent};
pub use refusal::{Refusal, RefusalCode};
pub use replication::{
    AwaitedProof, DrillsView, Health, RecoveryPointView, RemovalView, ReplicationView, RunView, RunWaiting, SideView,
    WhyView,
};
pub use request::{
    ConfirmDead, CreateReplication, Done, DrillHow, HandoverTo, PointReading, RestoreFrom, SetHierarchy, SetPolicy,
    VerifyTarget,
};
