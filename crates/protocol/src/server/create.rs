//! A new replication: the plan, committed.

use tanist_model::api::{CreateReplication, Plan, Refusal};
use tanist_model::byte_range::ByteRanges;
use tanist_model::change::{Change, Condition};
use tanist_model::drill::DrillLog;
use tanist_model::event::EventCode;
use tanist_model::hierarchy::Hierarchy;
use tanist_model::id::{AgentName, CommandId, Epoch, Epochs, VolumeAddress};
use tanist_model::replication::{Agenda, ChangesTrust, Intent, RefusedFrames, ReplicationRecord, SideRecord};

use super::ServerMachine;
use super::command::Answer;
use super::concerns::members;

impl ServerMachine {
    pub(super) fn create(&mut self, id: CommandId, actor: &str, create: &CreateReplication) {
        let record = self.plan(create).and_then(|plan| {
            let (create, origin) = self.settled(create)?;
            Ok(ReplicationRecord { origin, ..self.record_of(&create, &plan)? })
        });
        let record = match record {
            Ok(record) => record,
            Err(refusal) => return self.refuse_command(id, refusal),
        };
        let replication = record.id;
        let what = record.origin.as_ref().map(|origin| format!(", a restore of run {} of {}", origin.run, origin.name));
        let what = what.unwrap_or_default();
        let message = format!("{} from {} to {} was created{what}", record.name, record.source.volume, create.target);
        let mut event = self.event(EventCode::ReplicationCreated, message.clone());
        event.replication = Some((replication, record.name.clone()));
        event.actor = actor.to_owned();
        let members = members(&record);
        let condition = Condition::NameFree { name: record.name.clone() };
        let mut answer = Answer::done(id, message);
        if let Answer::Done(done) = &mut answer {
            done.next = Some(format!("tanist replication sync {}", record.name));
        }
        let changes = vec![Change::PutReplication(Box::new(record)), Change::AppendEvent(event)];
        self.finish(id, condition, changes, answer);
        self.send_watches_to(members);
        self.touched.insert(replication);
    }

    fn record_of(&mut self, create: &CreateReplication, plan: &Plan) -> Result<ReplicationRecord, Refusal> {
        Ok(ReplicationRecord {
            id: self.ids.replication(),
            name: create.name.clone(),
            source: self.side_of(&create.source, &plan.source_hierarchy)?,
            target: self.side_of(&create.target, &plan.target_hierarchy)?,
            policy: create.policy.clone(),
            intent: Intent::Enabled,
            size_bytes: plan.size_bytes,
            created_at: self.now.wall,
            epochs: self.first_epochs(create),
            holder: None,
            reader: None,
            vacancy: None,
            handover: None,
            unproven: Vec::new(),
            reserved: None,
            target_dirty: None,
            doubtful: ByteRanges::default(),
            changes: ChangesTrust::default(),
            run: None,
            published: None,
            quarantine: None,
            once: create.once,
            agenda: Agenda::starting(self.now.wall, true),
            leave_behind: false,
            rpo_missed: false,
            drills: DrillLog::default().starting(self.now.wall),
            origin: None,
            quiesced: Vec::new(),
            refused: RefusedFrames::default(),
        })
    }

    /// A unit that can be reserved may still show the key of a replication that is gone: of a newer epoch, it would be obeyed.
    fn first_epochs(&self, create: &CreateReplication) -> Epochs {
        let reserves = |agent: &AgentName| {
            self.storage_report(agent, &create.target).is_some_and(|storage| storage.capabilities.reservations)
        };
        let target = if create.agents.iter().any(reserves) { self.state.removed_epoch } else { Epoch::default() };
        Epochs { target, ..Epochs::default() }
    }

    fn side_of(&self, volume: &VolumeAddress, agents: &[AgentName]) -> Result<SideRecord, Refusal> {
        use tanist_model::api::RefusalCode;
        let hierarchy =
            Hierarchy::new(agents.to_vec()).map_err(|e| Refusal::new(RefusalCode::Invalid, e.to_string()))?;
        let identity = self.report(hierarchy.primary(), volume).map(|r| r.identity.clone()).unwrap_or_default();
        Ok(SideRecord { volume: volume.clone(), identity, hierarchy })
    }
}
