//! What the connected agents reach.

use std::collections::BTreeMap;

use tanist_model::api::{StorageAgentView, StorageView, VolumeUse, VolumeView};
use tanist_model::id::{AgentName, VolumeAddress};
use tanist_model::replication::Side;
use tanist_model::volume::VolumeReport;
use tanist_protocol::server::{ServerMachine, Session};

/// The storage systems by name, each as its agents report it.
#[must_use]
pub fn systems(machine: &ServerMachine) -> Vec<StorageView> {
    let mut systems: BTreeMap<_, Vec<StorageAgentView>> = BTreeMap::new();
    for (agent, session) in connected(machine) {
        for report in &session.storage {
            let view = StorageAgentView { agent: agent.clone(), report: report.clone() };
            systems.entry(report.name.clone()).or_default().push(view);
        }
    }
    systems.into_iter().map(|(name, agents)| StorageView { name, agents }).collect()
}

/// The volumes by address. Two agents that see different volumes at one address make two rows.
#[must_use]
pub fn volumes(machine: &ServerMachine) -> Vec<VolumeView> {
    let mut volumes: BTreeMap<(&VolumeAddress, &str), (&VolumeReport, Vec<AgentName>)> = BTreeMap::new();
    for (agent, session) in connected(machine) {
        for report in session.inventory.values() {
            let row = volumes.entry((&report.address, &report.identity)).or_insert((report, Vec::new()));
            row.1.push(agent.clone());
        }
    }
    let view = |(report, agents): (&VolumeReport, Vec<AgentName>)| VolumeView {
        used_by: user(machine, report),
        report: report.clone(),
        agents,
    };
    volumes.into_values().map(view).collect()
}

fn connected(machine: &ServerMachine) -> impl Iterator<Item = (&AgentName, &Session)> {
    let agents = machine.state().agents.keys();
    agents.filter_map(|agent| Some((agent, machine.session(agent)?))).filter(|(_, session)| session.is_connected())
}

fn user(machine: &ServerMachine, volume: &VolumeReport) -> Option<VolumeUse> {
    let used = machine.state().replications.values().flat_map(|r| [(r, Side::Source), (r, Side::Target)]);
    let mut used = used.filter(|(record, side)| record.side(*side).volume == volume.address);
    used.next().map(|(record, side)| VolumeUse { replication: record.name.clone(), side })
}
