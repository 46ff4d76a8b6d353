//! The plan of a replication: guards, hierarchies, tier and promise, and the matrix of who reaches what. Pure over what agents
//! have just shown.

use tanist_model::api::{CheckCell, CheckRow, CreateReplication, Ineligibility, Plan, Refusal, RefusalCode};
use tanist_model::hierarchy::{Hierarchy, Rank};
use tanist_model::id::{AgentName, ApplicationName, VolumeAddress};
use tanist_model::policy::SourceMode;
use tanist_model::quantity::count;
use tanist_model::replication::{FencingTier, Intent, Origin, ReplicationRecord, Side};
use tanist_model::takeover::PeerVerdict;
use tanist_model::volume::{StorageKind, StorageReport, VolumeContent, VolumeReport};

use super::ServerMachine;
use super::application::why_not_quiescing;
use super::overlap::guard_pair;

impl ServerMachine {
    /// The plan for a replication that does not exist yet.
    ///
    /// # Errors
    /// The first guard that forbids it, as a [`Refusal`].
    pub fn plan(&self, create: &CreateReplication) -> Result<Plan, Refusal> {
        let (create, origin) = &self.settled(create)?;
        let hierarchy = Hierarchy::new(create.agents.clone()).map_err(|e| {
            Refusal::new(RefusalCode::Invalid, e.to_string()).hint("--agents h1,h2,h3, the primary first")
        })?;
        self.check_agents(&hierarchy)?;
        let source = self.volume_seen(&hierarchy, &create.source, Side::Source)?;
        let target = self.volume_seen(&hierarchy, &create.target, Side::Target)?;
        self.guard(create, source, target)?;
        let source_hierarchy = self.reaching(&hierarchy, &create.source);
        let target_hierarchy = self.reaching(&hierarchy, &create.target);
        let mut plan = Plan {
            name: create.name.clone(),
            source: create.source.clone(),
            target: create.target.clone(),
            size_bytes: source.size_bytes,
            target_size_bytes: target.size_bytes,
            policy: create.policy.clone(),
            form: form(&source_hierarchy, &target_hierarchy).to_owned(),
            tier: FencingTier::F3,
            promise: String::new(),
            overwrites: what_is_overwritten(target),
            remarks: self.remarks(create, origin.as_ref(), &target_hierarchy),
            matrix: Vec::new(),
            source_hierarchy,
            target_hierarchy,
        };
        plan.tier = self.reachable_tier(&plan.target_hierarchy, &create.target);
        plan.tier.promise().clone_into(&mut plan.promise);
        let application = create.policy.application.as_ref();
        let volumes = (&create.source, &create.target);
        plan.matrix = self.matrix(&plan.source_hierarchy, &plan.target_hierarchy, volumes, application, None);
        Ok(plan)
    }

    /// The plan of a replication that exists, from what is known now.
    #[must_use]
    pub fn plan_of(&self, record: &ReplicationRecord) -> Plan {
        let source_hierarchy: Vec<AgentName> = record.source.hierarchy.iter().cloned().collect();
        let target_hierarchy: Vec<AgentName> = record.target.hierarchy.iter().cloned().collect();
        let tier = self.reachable_tier(&target_hierarchy, &record.target.volume);
        let volumes = (&record.source.volume, &record.target.volume);
        let target_size = target_hierarchy.iter().find_map(|a| Some(self.report(a, volumes.1)?.size_bytes));
        Plan {
            name: record.name.clone(),
            source: record.source.volume.clone(),
            target: record.target.volume.clone(),
            size_bytes: record.size_bytes,
            target_size_bytes: target_size.unwrap_or(record.size_bytes),
            policy: record.policy.clone(),
            form: form(&source_hierarchy, &target_hierarchy).to_owned(),
            tier,
            promise: tier.promise().to_owned(),
            overwrites: "the target belongs to this replication".to_owned(),
            remarks: Vec::new(),
            matrix: self.matrix(
                &source_hierarchy,
                &target_hierarchy,
                volumes,
                record.policy.application.as_ref(),
                Some(record),
            ),
            source_hierarchy,
            target_hierarchy,
        }
    }

    /// The tier that a takeover can count on: F2 if the agents share one host whose kernel lock proves quiet, F1 if all can reserve.
    #[must_use]
    pub fn reachable_tier(&self, agents: &[AgentName], target: &VolumeAddress) -> FencingTier {
        let mut machines: Vec<&str> =
            agents.iter().filter_map(|a| Some(self.sessions.get(a)?.host.machine_id.as_str())).collect();
        machines.dedup();
        let locks = agents.iter().all(|a| self.storage_report(a, target).is_some_and(|s| s.capabilities.kernel_lock));
        let reserve =
            agents.iter().all(|a| self.storage_report(a, target).is_some_and(|s| s.capabilities.reservations));
        match () {
            () if machines.len() == 1 && locks => FencingTier::F2,
            () if reserve && locks => FencingTier::F1,
            () => FencingTier::F3,
        }
    }

    fn check_agents(&self, hierarchy: &Hierarchy) -> Result<(), Refusal> {
        for agent in hierarchy {
            if self.state.agents.get(agent).is_none_or(|a| a.removed) {
                return Err(Refusal::new(RefusalCode::NotFound, format!("there is no agent {agent}"))
                    .hint(format!("join it first: tanist token create {agent}")));
            }
        }
        Ok(())
    }

    pub(super) fn report(&self, agent: &AgentName, volume: &VolumeAddress) -> Option<&VolumeReport> {
        let session = self.sessions.get(agent).filter(|s| s.is_connected())?;
        session
            .canaries
            .get(volume)
            .map_or_else(|| session.inventory.get(volume), |seen| seen.value.result.as_ref().ok())
    }

    pub(super) fn storage_report(&self, agent: &AgentName, volume: &VolumeAddress) -> Option<&StorageReport> {
        self.sessions.get(agent)?.storage.iter().find(|s| s.name == volume.system)
    }

    /// What of a write to a sealed source would show.
    fn sealed_remark(&self, create: &CreateReplication) -> &'static str {
        let is_nbd = |a: &AgentName| {
            self.storage_report(a, &create.source).is_some_and(|storage| storage.kind == StorageKind::Nbd)
        };
        match () {
            () if create.agents.iter().any(is_nbd) => {
                "sealed source: nobody may write to it during a run; over NBD no write shows, only another size"
            }
            () if create.agents.iter().any(|a| self.is_device(a, &create.source)) => {
                "sealed source: nobody may write to it during a run; on a block device only writes of the host that reads show"
            }
            () => "sealed source: nobody may write to it during a run; a change that shows stops the run",
        }
    }

    fn is_device(&self, agent: &AgentName, volume: &VolumeAddress) -> bool {
        self.report(agent, volume).is_some_and(|report| report.device.is_some())
    }

    fn reaching(&self, hierarchy: &Hierarchy, volume: &VolumeAddress) -> Vec<AgentName> {
        hierarchy.iter().filter(|a| self.report(a, volume).is_some()).cloned().collect()
    }

    fn volume_seen(&self, agents: &Hierarchy, volume: &VolumeAddress, side: Side) -> Result<&VolumeReport, Refusal> {
        let reports: Vec<(&AgentName, &VolumeReport)> =
            agents.iter().filter_map(|a| Some((a, self.report(a, volume)?))).collect();
        let Some((first, report)) = reports.first() else {
            let why: Vec<String> = agents.iter().map(|a| format!("{a}: {}", self.why_unseen(a, volume))).collect();
            return Err(Refusal::new(RefusalCode::NotFound, format!("no agent reaches the {side} {volume}"))
                .cause(why.join("; "))
                .hint("tanist volume list shows what the agents reach"));
        };
        if let Some((other, differs)) =
            reports.iter().find(|(_, r)| r.size_bytes != report.size_bytes || r.identity != report.identity)
        {
            return Err(Refusal::new(RefusalCode::Conflict, format!("the agents see different volumes as {volume}"))
                .cause(format!(
                    "{first} sees {} bytes, identity {}; {other} sees {} bytes, identity {}",
                    report.size_bytes, report.identity, differs.size_bytes, differs.identity
                ))
                .hint(
                    "a storage system's name must mean the same storage on every agent. A directory is the same on two hosts only if it is on \
                     one network or cluster file system; one on a local file system belongs to its host alone, also if containers share it",
                ));
        }
        Ok(report)
    }

    fn why_unseen(&self, agent: &AgentName, volume: &VolumeAddress) -> String {
        let Some(session) = self.sessions.get(agent).filter(|s| s.is_connected()) else {
            return "not connected".to_owned();
        };
        match session.canaries.get(volume).map(|seen| &seen.value.result) {
            Some(Err(reason)) => reason.clone(),
            _ if !session.storage.iter().any(|s| s.name == volume.system) => {
                format!("it has no storage system {}", volume.system)
            }
            _ => "there is no such volume".to_owned(),
        }
    }

    fn guard(&self, create: &CreateReplication, source: &VolumeReport, target: &VolumeReport) -> Result<(), Refusal> {
        self.guard_name_and_policy(create)?;
        self.guard_other_replications(create, source, target)?;
        guard_volumes(create, source, target)?;
        self.guard_source_mode(create)?;
        self.guard_application(create.policy.application.as_ref(), &create.agents, &create.source)
    }

    /// Somebody of those that see the source has to be able to quiesce it.
    pub(super) fn guard_application<'a>(
        &self,
        application: Option<&ApplicationName>,
        agents: impl IntoIterator<Item = &'a AgentName>,
        source: &VolumeAddress,
    ) -> Result<(), Refusal> {
        let Some(application) = application else { return Ok(()) };
        let sources = agents.into_iter().filter_map(|a| Some((a, self.sessions.get(a)?)));
        let sources = sources.filter(|(a, _)| self.report(a, source).is_some());
        let unable: Vec<_> = sources.map(|(a, session)| (a, why_not_quiescing(session, application))).collect();
        if unable.iter().any(|(_, why)| why.is_none()) {
            return Ok(());
        }
        let why: Vec<String> =
            unable.into_iter().filter_map(|(agent, why)| Some(format!("{agent}: {}", why?))).collect();
        let what = format!("no agent that reads {source} can quiesce the host application {application}");
        Err(Refusal::new(RefusalCode::NotFound, what).cause(why.join("; ")).hint(
            "add [[application]] to agent.toml on those hosts and start their agents anew: docs/operations/host-applications.md",
        ))
    }

    fn guard_name_and_policy(&self, create: &CreateReplication) -> Result<(), Refusal> {
        if self.state.replication_by_name(&create.name).is_some() {
            return Err(Refusal::new(RefusalCode::Conflict, format!("there is a replication {} already", create.name))
                .hint("choose another name, or: tanist replication show NAME"));
        }
        create.policy.check().map_err(|e| Refusal::new(RefusalCode::Invalid, e.to_string()).hint(e.hint()))
    }

    /// A target belongs to one replication; data never goes round in a circle.
    fn guard_other_replications(
        &self,
        create: &CreateReplication,
        source: &VolumeReport,
        target: &VolumeReport,
    ) -> Result<(), Refusal> {
        for other in self.state.replications.values() {
            let is_target = self.is_on(&other.target, target);
            if is_target && other.intent == Intent::Deleting {
                let cause = format!("it is the target of replication {}, which is being removed", other.name);
                return Err(
                    guarded(create, cause).hint("try again in a moment; tanist status says if the removal waits")
                );
            }
            if is_target {
                return Err(guarded(create, format!("it is the target of replication {}", other.name)));
            }
            let goes_round = self.is_on(&other.source, target) && self.leads_to(&other.target.identity, source);
            if goes_round && !self.may_go_back(create, other)? {
                return Err(guarded(create, format!("it is the source of replication {}: a loop", other.name)));
            }
        }
        let read_by = self.state.replications.values().find(|other| self.is_on(&other.source, target));
        match read_by {
            Some(other) if self.may_go_back(create, other)? => Ok(()),
            Some(other) => Err(guarded(create, format!("it is the source of replication {}", other.name))),
            None => Ok(()),
        }
    }

    /// Whether data from this volume arrives, over any number of replications, at the given one.
    fn leads_to(&self, from_identity: &str, volume: &VolumeReport) -> bool {
        let mut reached = vec![from_identity.to_owned()];
        let mut next = 0;
        while next < reached.len() {
            if volume.is_made_of(&reached[next]) {
                return true;
            }
            let onward = self.state.replications.values().filter(|r| r.source.identity == reached[next]);
            let fresh: Vec<String> =
                onward.map(|r| r.target.identity.clone()).filter(|i| !reached.contains(i)).collect();
            reached.extend(fresh);
            next += 1;
        }
        false
    }

    fn guard_source_mode(&self, create: &CreateReplication) -> Result<(), Refusal> {
        let can_snapshot = create
            .agents
            .iter()
            .filter(|a| self.report(a, &create.source).is_some())
            .all(|a| self.storage_report(a, &create.source).is_some_and(|s| s.capabilities.snapshots));
        if create.policy.source_mode != SourceMode::Snapshot || can_snapshot {
            return Ok(());
        }
        Err(Refusal::new(RefusalCode::Conflict, format!("the storage of {} cannot make snapshots", create.source))
            .cause("without an immutable source a replica is not a state that ever existed")
            .hint(
                "--source-mode sealed: you state that nobody writes to the source during a run; \
                 --source-mode live: the replica is fuzzy and marked so",
            ))
    }

    fn remarks(&self, create: &CreateReplication, origin: Option<&Origin>, targets: &[AgentName]) -> Vec<String> {
        if let Some(origin) = origin {
            let what = format!("restores the recovery point of run {} of {}", origin.run, origin.name);
            return vec![what, format!("it counts only if its digest is {} at the end", origin.chain)];
        }
        let mut remarks = Vec::new();
        let keeps =
            targets.iter().all(|a| self.storage_report(a, &create.target).is_some_and(|s| s.capabilities.snapshots));
        if keeps {
            remarks.push(
                "each run keeps the state before it as a target snapshot, as long as --keep says: watch the space"
                    .to_owned(),
            );
        } else {
            remarks.push(
                "the target's storage makes no snapshots: from the start of a run to its end no recovery point exists"
                    .to_owned(),
            );
        }
        match create.policy.source_mode {
            SourceMode::Sealed => remarks.push(self.sealed_remark(create).to_owned()),
            SourceMode::Live => remarks.push(
                "live source: the replica is fuzzy, its recovery points are marked so, and a takeover waits for proof of quiet"
                    .to_owned(),
            ),
            SourceMode::Snapshot | SourceMode::RecoveryPoint => {}
        }
        let missing: Vec<String> = create
            .agents
            .iter()
            .filter_map(|a| {
                let (source, target) =
                    (self.report(a, &create.source).is_some(), self.report(a, &create.target).is_some());
                match (source, target) {
                    (true, true) => None,
                    (true, false) => Some(format!("agent {a} reaches only the source: it can read for another agent")),
                    (false, true) => Some(format!("agent {a} reaches only the target: another agent reads for it")),
                    (false, false) => Some(format!("agent {a} reaches neither volume and stands in no hierarchy")),
                }
            })
            .collect();
        remarks.extend(missing);
        remarks
    }

    /// Agent x (server, each peer, source, target): each cell a real round trip or read, with its age.
    #[must_use]
    pub fn matrix(
        &self,
        sources: &[AgentName],
        targets: &[AgentName],
        (source, target): (&VolumeAddress, &VolumeAddress),
        application: Option<&ApplicationName>,
        record: Option<&ReplicationRecord>,
    ) -> Vec<CheckRow> {
        let mut agents: Vec<AgentName> = targets.to_vec();
        agents.extend(sources.iter().filter(|a| !targets.contains(a)).cloned());
        let row = |(position, agent): (usize, &AgentName)| {
            let (reads, writes) = (sources.contains(agent), targets.contains(agent));
            let mut cells = vec![self.server_cell(agent)];
            cells.extend(agents.iter().filter(|p| *p != agent).map(|peer| self.peer_cell(agent, peer)));
            // What it is not to act for, it need not reach.
            cells.extend(reads.then(|| self.volume_cell(agent, "source", source)));
            cells.extend(writes.then(|| self.volume_cell(agent, "target", target)));
            cells.extend(application.filter(|_| reads).map(|name| self.application_cell(agent, name)));
            let ineligible_for = self.ineligible_for(agent, (reads, writes), &cells, record);
            let first =
                ineligible_for.first().filter(|_| ineligible_for.len() == usize::from(reads) + usize::from(writes));
            CheckRow {
                agent: agent.clone(),
                rank: Rank(u8::try_from(position + 1).unwrap_or(u8::MAX)),
                ineligible: first.map(|unable| unable.reason.clone()),
                ineligible_for,
                cells,
            }
        };
        agents.iter().enumerate().map(row).collect()
    }

    /// The sides that an agent stands for and cannot act for.
    fn ineligible_for(
        &self,
        agent: &AgentName,
        (reads, writes): (bool, bool),
        cells: &[CheckCell],
        record: Option<&ReplicationRecord>,
    ) -> Vec<Ineligibility> {
        let why = |side| record.map_or_else(|| first_gap(cells, side), |r| self.why_ineligible_for(r, agent, side));
        let sides = [(Side::Target, writes), (Side::Source, reads)].into_iter().filter(|(_, stands)| *stands);
        sides.filter_map(|(side, _)| Some(Ineligibility { side, reason: why(side)? })).collect()
    }

    fn age_ms(&self, at: tanist_model::time::Monotonic) -> Option<u64> {
        u64::try_from(self.now.monotonic.since(at).as_millis()).ok()
    }

    fn server_cell(&self, agent: &AgentName) -> CheckCell {
        let to = "server".to_owned();
        match self.sessions.get(agent) {
            Some(s) if s.is_connected() => {
                CheckCell { to, ok: true, age_ms: self.age_ms(s.last_beat), took_us: None, reason: None }
            }
            Some(s) => {
                let reason = s.ended.as_ref().map(|(_, reason)| reason.clone());
                CheckCell { to, ok: false, age_ms: self.age_ms(s.last_beat), took_us: None, reason }
            }
            None => CheckCell { to, ok: false, age_ms: None, took_us: None, reason: Some("not connected".to_owned()) },
        }
    }

    fn peer_cell(&self, agent: &AgentName, peer: &AgentName) -> CheckCell {
        let to = peer.to_string();
        let Some(seen) = self.sessions.get(agent).filter(|s| s.is_connected()).and_then(|s| s.peers.get(peer)) else {
            return CheckCell { to, ok: false, age_ms: None, took_us: None, reason: Some("not tried yet".to_owned()) };
        };
        let reason = match seen.value.verdict {
            PeerVerdict::Reached { .. } => None,
            PeerVerdict::Refused => Some("nobody listens there".to_owned()),
            PeerVerdict::Unreachable => Some("no answer".to_owned()),
        };
        CheckCell { to, ok: reason.is_none(), age_ms: self.age_ms(seen.at), took_us: Some(seen.value.took_us), reason }
    }

    fn application_cell(&self, agent: &AgentName, application: &ApplicationName) -> CheckCell {
        let reason = match self.sessions.get(agent).filter(|s| s.is_connected()) {
            None => Some("not connected".to_owned()),
            Some(session) => why_not_quiescing(session, application),
        };
        CheckCell { to: "application".to_owned(), ok: reason.is_none(), age_ms: None, took_us: None, reason }
    }

    fn volume_cell(&self, agent: &AgentName, to: &str, volume: &VolumeAddress) -> CheckCell {
        let to = to.to_owned();
        let session = self.sessions.get(agent).filter(|s| s.is_connected());
        let Some(seen) = session.and_then(|s| s.canaries.get(volume)) else {
            return CheckCell { to, ok: false, age_ms: None, took_us: None, reason: Some("not read yet".to_owned()) };
        };
        let reason = seen.value.result.as_ref().err().cloned();
        CheckCell { to, ok: reason.is_none(), age_ms: self.age_ms(seen.at), took_us: Some(seen.value.took_us), reason }
    }
}

/// The first cell that is missing and that this side needs.
fn first_gap(cells: &[CheckCell], side: Side) -> Option<String> {
    let others: &[&str] = if side == Side::Source { &["target"] } else { &["source", "application"] };
    let gap = cells.iter().find(|cell| !cell.ok && !others.contains(&cell.to.as_str()))?;
    Some(format!("{}: {}", gap.to, gap.reason.as_deref().unwrap_or("not shown")))
}

/// What must hold of the two volumes themselves.
fn guard_volumes(create: &CreateReplication, source: &VolumeReport, target: &VolumeReport) -> Result<(), Refusal> {
    guard_pair(create, source, target)?;
    if source.size_bytes == 0 {
        let error = format!("{} is empty: it has 0 bytes, and there is nothing to replicate", create.source);
        return Err(
            Refusal::new(RefusalCode::Conflict, error).hint("is what it lies on mounted, and was it restored whole?")
        );
    }
    if target.size_bytes < source.size_bytes {
        let missing = source.size_bytes - target.size_bytes;
        return Err(guarded(create, format!("it is {} smaller than the source", count(missing, "byte")))
            .hint("grow the target first"));
    }
    if target.read_only {
        return Err(guarded(create, "it is read-only".to_owned()));
    }
    if let Some(user) = &target.in_use_by {
        return Err(guarded(create, format!("it is in use: {user}")).hint("stop what uses it first"));
    }
    if target.content != VolumeContent::Blank && !create.overwrite_target {
        return Err(guarded(create, what_is_overwritten(target)).hint("if that may be lost: --overwrite-target"));
    }
    Ok(())
}

pub(super) fn guarded(create: &CreateReplication, cause: String) -> Refusal {
    Refusal::new(RefusalCode::Guarded, format!("{} cannot become a target", create.target)).cause(cause)
}

fn what_is_overwritten(target: &VolumeReport) -> String {
    match &target.content {
        VolumeContent::Blank => "nothing: the target is blank".to_owned(),
        VolumeContent::Signature(what) => format!("the target holds {what}"),
        VolumeContent::Data => "the target holds data without a known signature".to_owned(),
    }
}

/// Direct: the first agent of the target's order reads the source itself. Networked: another one reads for it.
fn form(sources: &[AgentName], targets: &[AgentName]) -> &'static str {
    if targets.first().is_some_and(|first| sources.contains(first)) { "direct" } else { "networked" }
}
