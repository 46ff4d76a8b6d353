//! `tanist replication` and `tanist transfer`.

use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use clap::{Args, Subcommand};
use tanist_model::api::CreateReplication;
use tanist_model::id::{AgentName, ReplicationName, VolumeAddress};
use tanist_model::policy::{Policy, SourceMode};
use tanist_model::replication::Side;
use tanist_model::time::Timestamp;

use super::moment::moment;
use super::policy::PolicyArgs;
use super::values::{Bandwidth, WaitLimit};

#[derive(Subcommand, Debug)]
pub enum ReplicationCommand {
    /// Check, print the plan, and create a replication. Nothing is copied until `sync`.
    Create(CreateArgs),
    /// List the replications.
    List,
    /// Is my data safe, what happened, what do I do.
    ///
    /// Of the run in progress and of the last one it tells by which method they were made (full, compare, delta) and how many bytes they
    /// scanned, found the same, wrote, sent and copied again.
    Show(NameArgs),
    /// Bring the present state of the source to the target.
    Sync {
        /// The replication.
        name: ReplicationName,
        /// Write everything, also what the target holds already by all that is known.
        #[arg(long)]
        full: bool,
        /// Show the progress until the run has ended; exits 1 if it is abandoned.
        #[arg(long, short)]
        wait: bool,
        /// With --wait: give up waiting after this time, as in 30m, and exit 4. The run itself goes on.
        #[arg(long, value_name = "TIME", requires = "wait")]
        timeout: Option<WaitLimit>,
    },
    /// Read the whole target again and compare it with what was published; what differs is repaired.
    Verify {
        /// The replication.
        name: ReplicationName,
        /// Only look and report. The target then counts as what it is: no recovery point.
        #[arg(long)]
        no_repair: bool,
        /// Show the progress until it has ended; exits 1 if the target differed and was not repaired.
        #[arg(long, short)]
        wait: bool,
        /// With --wait: give up waiting after this time, as in 30m, and exit 4. The run itself goes on.
        #[arg(long, value_name = "TIME", requires = "wait")]
        timeout: Option<WaitLimit>,
    },
    /// Give up the run in progress. The target then equals no recovery point until the next run is published.
    Abort(AbortArgs),
    /// Start no run, and let a run in progress wait at its checkpoint.
    Pause(NameArgs),
    /// End a pause.
    Resume(NameArgs),
    /// Remove a replication. The data of both volumes stays; what tanist made is removed.
    Delete(DeleteArgs),
    /// Show who reaches what, by real round trips and reads; exits 1 if an agent could not act.
    Check(NameArgs),
    /// Show or change the order of agents on a side. A change of rank never moves work by itself.
    Hierarchy(HierarchyArgs),
    /// Change the policy: schedule, retention, RPO, limit, verification. What is not given stays; a limit holds at once, the rest from
    /// the next run.
    Set(SetArgs),
    /// Hand the work over to another agent, as planned.
    Handover {
        /// The replication.
        name: ReplicationName,
        /// To this agent; otherwise to the next eligible one.
        #[arg(long, value_name = "AGENT")]
        to: Option<AgentName>,
    },
    /// Make a takeover on purpose, and measure it: the acting agent is treated as gone, though nothing is wrong with it.
    ///
    /// It is as safe as any takeover. Refused while anything else is going on, or without an eligible successor. The result is event T425
    /// (or T426: it took longer than the limit of the policy, or clearly longer than usual, or it failed), and a record of the takeover. What a drill does not measure is how long a real fault would go unnoticed.
    Drill {
        /// The replication.
        name: ReplicationName,
        /// Afterwards hand the work back, as planned, to the agent that has it now.
        #[arg(long)]
        hand_back: bool,
        /// Wait for the result, and exit 1 if it is not good.
        #[arg(long)]
        wait: bool,
        /// With --wait: give up waiting after this time, as in 30s, and exit 4. A drill has a result after a minute at the latest.
        #[arg(long, value_name = "TIME", requires = "wait")]
        timeout: Option<WaitLimit>,
    },
    /// Hand the work back to the eligible agent of the smallest rank.
    Handback(NameArgs),
    /// Explain a takeover as a timeline in milliseconds, and who has read the source.
    Why {
        /// The replication.
        name: ReplicationName,
        /// The takeover nearest to this time: 14:03 (by this machine's clock), 14:03Z (UTC), '5m ago', or
        /// 2026-11-22T14:03:22Z; otherwise the last one.
        #[arg(long, value_name = "TIME", value_parser = moment, allow_hyphen_values = true)]
        at: Option<Timestamp>,
    },
    /// List the takeovers on record, newest first: the last hundred.
    Takeovers(NameArgs),
    /// Print the signed record of a takeover, for `tanist verify-record`: who was chosen and why, what was proven, what it cost.
    ///
    /// The server signs with its authority's key. Save what is printed as it is: a program that writes it anew breaks it.
    Record {
        /// The replication.
        name: ReplicationName,
        /// The epoch of the target that the takeover granted, as `takeovers` lists it; otherwise the last one.
        epoch: Option<u32>,
    },
}

#[derive(Args, Debug)]
pub struct NameArgs {
    /// The replication.
    pub name: ReplicationName,
}

#[derive(Args, Debug)]
pub struct AbortArgs {
    /// The replication.
    pub name: ReplicationName,
    /// Do not ask. Only somebody at a terminal is asked; a script's command is carried out.
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Args, Debug)]
pub struct DeleteArgs {
    /// The replication.
    pub name: ReplicationName,
    /// Do not wait for an agent that could clean up: what none can remove stays at the storage, and event T309 names it.
    ///
    /// For a volume that was replaced or is gone for good. It is no way round the proof of quiet: an agent that may still be writing is
    /// waited for until it is proven quiet, or you have confirmed it dead (`tanist agent confirm-dead`).
    #[arg(long)]
    pub leave_behind: bool,
    /// Do not ask. Only somebody at a terminal is asked; a script's command is carried out.
    #[arg(long, short)]
    pub yes: bool,
}

#[derive(Args, Debug)]
pub struct SetArgs {
    /// The replication.
    pub name: ReplicationName,
    #[command(flatten)]
    pub policy: PolicyArgs,
}

#[derive(Args, Debug)]
pub struct HierarchyArgs {
    /// The replication.
    pub name: ReplicationName,
    /// Which side to change.
    #[arg(long, requires = "set", value_parser = PossibleValuesParser::new(["source", "target"]).map(|text| side(&text)))]
    pub side: Option<Side>,
    /// The new order, the primary first.
    #[arg(long, requires = "side", value_name = "AGENT,...", value_delimiter = ',')]
    pub set: Vec<AgentName>,
}

#[derive(Args, Debug)]
pub struct CreateArgs {
    /// The replication's name.
    pub name: ReplicationName,
    #[command(flatten)]
    pub what: WhatArgs,
    /// Print the plan and create nothing.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Args, Debug)]
pub struct TransferArgs {
    /// A name for the time of the transfer; otherwise one is made.
    #[arg(long)]
    pub name: Option<ReplicationName>,
    #[command(flatten)]
    pub what: WhatArgs,
}

#[derive(Args, Debug)]
pub struct RestoreArgs {
    /// The replication whose recovery point is restored.
    pub name: ReplicationName,
    /// The volume to restore to: a new one, or the source itself while the replication is paused.
    #[arg(long, value_name = "SYSTEM/VOLUME")]
    pub to: VolumeAddress,
    /// The recovery point: the run that made it, as `recovery-point list` shows it (its beginning is enough), or `last`.
    #[arg(long, value_name = "RUN", default_value = "last")]
    pub point: String,
    /// The agents by rank; otherwise those of the replication's target, then those of its source.
    #[arg(long, value_name = "AGENT,...", value_delimiter = ',')]
    pub agents: Vec<AgentName>,
    /// Upper limit of what the restore reads a second, as in 100MiB/s.
    #[arg(long, value_name = "RATE")]
    pub limit: Option<Bandwidth>,
    /// You know that the target holds data, and want it overwritten. In a script this alone is your consent.
    #[arg(long)]
    pub overwrite_target: bool,
    /// Do not ask before data is overwritten. Only somebody at a terminal is asked.
    #[arg(long, short)]
    pub yes: bool,
}

/// What is copied, by whom and how.
#[derive(Args, Debug)]
pub struct WhatArgs {
    /// The volume to copy.
    #[arg(long, value_name = "SYSTEM/VOLUME")]
    pub source: VolumeAddress,
    /// The volume to copy to.
    #[arg(long, value_name = "SYSTEM/VOLUME")]
    pub target: VolumeAddress,
    /// The agents by rank: the primary, then failover agents. The order is each side's hierarchy as far as each reaches it.
    #[arg(long, value_name = "AGENT,...", value_delimiter = ',', required = true)]
    pub agents: Vec<AgentName>,
    /// How a run gets an unchanging source: a snapshot, your word that nobody writes (sealed), or not at all (live: fuzzy).
    #[arg(long, value_name = "MODE", default_value = "snapshot",
          value_parser = PossibleValuesParser::new(["snapshot", "sealed", "live"]).map(|text| source_mode(&text)))]
    pub source_mode: SourceMode,
    #[command(flatten)]
    pub policy: PolicyArgs,
    /// You know that the target holds data, and want it overwritten. In a script this alone is your consent.
    #[arg(long)]
    pub overwrite_target: bool,
    /// Do not ask before data is overwritten. Only somebody at a terminal is asked.
    #[arg(long, short)]
    pub yes: bool,
}

impl WhatArgs {
    /// The body of the request.
    #[must_use]
    pub fn request(&self, name: ReplicationName, once: bool) -> CreateReplication {
        CreateReplication {
            name,
            source: self.source.clone(),
            target: self.target.clone(),
            agents: self.agents.clone(),
            policy: self.policy(),
            overwrite_target: self.overwrite_target,
            once,
            restore: None,
        }
    }

    fn policy(&self) -> Policy {
        self.policy.over(Policy { source_mode: self.source_mode, ..Policy::default() })
    }
}

fn source_mode(text: &str) -> SourceMode {
    match text {
        "sealed" => SourceMode::Sealed,
        "live" => SourceMode::Live,
        _ => SourceMode::Snapshot,
    }
}

fn side(text: &str) -> Side {
    if text == "source" { Side::Source } else { Side::Target }
}
