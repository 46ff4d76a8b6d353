//! What has to be done so that what is declared is there. The order is safe at every point: first what only changes how a replication
//! works, then what makes room, then what is new. A second look after all of it finds nothing.

use serde::Serialize;
use tanist_model::api::{CreateReplication, ReplicationView, SetHierarchy, SetPolicy, SideView, StorageView};
use tanist_model::id::{AgentName, ReplicationName};
use tanist_model::policy::Policy;
use tanist_model::replication::{Intent, Side};

use super::{Declared, DeclaredReplication, DeclaredStorage};

/// One thing to do.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    SetPolicy { name: ReplicationName, change: Box<SetPolicy> },
    SetHierarchy { name: ReplicationName, change: SetHierarchy },
    Delete { name: ReplicationName },
    Create(Box<CreateReplication>),
}

/// The difference between what is declared and what is.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Difference {
    pub steps: Vec<Step>,
    pub unchanged: Vec<ReplicationName>,
    /// There, not declared, and left alone because pruning was not asked for.
    pub undeclared: Vec<ReplicationName>,
    /// What no step can bring about; nothing is done then.
    pub obstacles: Vec<Obstacle>,
}

/// Something that only a person can solve.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Obstacle {
    pub what: String,
    pub hint: String,
}

/// What there is.
#[derive(Clone, Copy, Debug)]
pub struct Present<'a> {
    pub replications: &'a [ReplicationView],
    pub storage: &'a [StorageView],
}

#[must_use]
pub fn plan_difference(declared: &Declared, present: Present<'_>, prune: bool) -> Difference {
    let mut difference = Difference::default();
    difference.obstacles.extend(declared.storage.iter().flat_map(|storage| unreached(storage, present.storage)));
    let mut created = Vec::new();
    for wanted in &declared.replication {
        match present.replications.iter().find(|view| view.name == wanted.name) {
            None => created.push(Step::Create(Box::new(wanted.request()))),
            Some(view) => compare(wanted, view, present.storage, &mut difference),
        }
    }
    let is_declared = |view: &&ReplicationView| declared.replication.iter().any(|wanted| wanted.name == view.name);
    // A transfer or a restore in progress was never meant to be declared, and goes by itself.
    let stays = |view: &&ReplicationView| view.intent != Intent::Deleting && !view.once;
    let others = present.replications.iter().filter(|view| !is_declared(view) && stays(view));
    let others = others.map(|view| view.name.clone());
    if prune {
        difference.steps.extend(others.map(|name| Step::Delete { name }));
    } else {
        difference.undeclared.extend(others);
    }
    difference.steps.extend(created);
    difference
}

fn compare(wanted: &DeclaredReplication, view: &ReplicationView, storage: &[StorageView], difference: &mut Difference) {
    let obstacles = obstacles(wanted, view);
    if !obstacles.is_empty() {
        return difference.obstacles.extend(obstacles);
    }
    let before = difference.steps.len();
    let policy = wanted.policy();
    if policy != view.policy {
        let change = Box::new(SetPolicy { policy, expected: Some(view.policy.clone()) });
        difference.steps.push(Step::SetPolicy { name: view.name.clone(), change });
    }
    for side in &view.sides {
        let agents = hierarchy(wanted, side, storage);
        if agents != ranked(side) {
            let change = SetHierarchy { side: side.side, agents };
            difference.steps.push(Step::SetHierarchy { name: view.name.clone(), change });
        }
    }
    if difference.steps.len() == before {
        difference.unchanged.push(view.name.clone());
    }
}

/// The declared order as far as it reaches the side. Who stands there and is away now stays: being away is no change of plan.
fn hierarchy(wanted: &DeclaredReplication, side: &SideView, storage: &[StorageView]) -> Vec<AgentName> {
    let (there, volume) = (
        ranked(side),
        match side.side {
            Side::Source => wanted.source(),
            Side::Target => wanted.target(),
        },
    );
    let reaches = |agent: &AgentName| {
        let system = storage.iter().find(|view| view.name == volume.system);
        system.is_some_and(|view| view.agents.iter().any(|there| there.agent == *agent))
    };
    wanted.agents.iter().filter(|agent| there.contains(agent) || reaches(agent)).cloned().collect()
}

fn ranked(side: &SideView) -> Vec<AgentName> {
    side.agents.iter().map(|ranked| ranked.agent.clone()).collect()
}

fn obstacles(wanted: &DeclaredReplication, view: &ReplicationView) -> Vec<Obstacle> {
    let name = &view.name;
    let anew = format!("tanist replication delete {name}, then apply again; both volumes keep their data");
    let mut found = Vec::new();
    if view.intent == Intent::Deleting {
        let what = format!("replication {name} is being removed");
        found.push(Obstacle { what, hint: "apply again once it is gone, or take it out of the file".to_owned() });
    }
    for side in &view.sides {
        let volume = match side.side {
            Side::Source => wanted.source(),
            Side::Target => wanted.target(),
        };
        if *volume != side.volume {
            let word = if side.side == Side::Source { "source" } else { "target" };
            let what =
                format!("the {word} of {name} is {} and would be {volume}, which cannot be changed", side.volume);
            found.push(Obstacle { what, hint: anew.clone() });
        }
    }
    if wanted.policy().source_mode != view.policy.source_mode {
        let what = format!("the source mode of {name} cannot be changed");
        found.push(Obstacle { what, hint: anew });
    }
    found
}

fn unreached(wanted: &DeclaredStorage, storage: &[StorageView]) -> Vec<Obstacle> {
    let name = &wanted.name;
    let there = storage.iter().find(|view| view.name == *name);
    let reaches = |agent: &AgentName| {
        there.is_some_and(|view| view.agents.iter().any(|there| there.agent == *agent && there.report.error.is_none()))
    };
    let missing = wanted.agents.iter().filter(|agent| !reaches(agent));
    let obstacle = |agent: &AgentName| Obstacle {
        what: format!("agent {agent} does not reach storage system {name}, as it is expected to"),
        hint: format!(
            "does the agent run, and does its agent.toml name {name}? tanist storage list shows who reaches what"
        ),
    };
    missing.map(obstacle).collect()
}

impl Step {
    /// What is done to what, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::SetPolicy { name, change } => {
                let old = change.expected.clone().unwrap_or_default();
                format!("change {name}: {}", policy_changes(&old, &change.policy).join(", "))
            }
            Self::SetHierarchy { name, change } => {
                let side = if change.side == Side::Source { "source" } else { "target" };
                let agents: Vec<&str> = change.agents.iter().map(AgentName::as_str).collect();
                format!("change {name}: agents of the {side} side to {}", agents.join(", "))
            }
            Self::Delete { name } => format!("delete {name}; both volumes keep their data"),
            Self::Create(request) => {
                let overwrites = if request.overwrite_target { ", OVERWRITING THE TARGET" } else { "" };
                format!("create {}: {} to {}{overwrites}", request.name, request.source, request.target)
            }
        }
    }
}

/// The fields of a policy that differ, from the same words that it is stored in: a field added later is not forgotten here.
fn policy_changes(old: &Policy, new: &Policy) -> Vec<String> {
    let fields = |policy: &Policy| match serde_json::to_value(policy) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    };
    let (old, new) = (fields(old), fields(new));
    let differing = new.iter().filter(|(key, value)| old.get(*key) != Some(value));
    let shown = |value: Option<&serde_json::Value>| value.map_or_else(|| "none".to_owned(), ToString::to_string);
    differing.map(|(key, value)| format!("{key} from {} to {}", shown(old.get(key)), shown(Some(value)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::samples;

    const DB: &str = "[[replication]]\nname = 'db'\nsource = 'san-a/vol1'\ntarget = 'san-b/vol9'\nagents = ['h1', 'h2', 'h3']\n\
                      source_mode = 'sealed'\nrpo = '15m'\nlimit = '100MiB/s'\nschedule = 'every 10m'\nkeep = 'last=3,daily=7'\n";

    /// Against one replication, `db`, and one storage system that h1 reaches.
    fn difference(text: &str, prune: bool) -> Difference {
        let declared = Declared::parse("f", text).unwrap();
        let (replications, storage) = ([samples::quiet_replication()], samples::storage());
        plan_difference(&declared, Present { replications: &replications, storage: &storage }, prune)
    }

    fn words(difference: &Difference) -> Vec<String> {
        difference.steps.iter().map(Step::in_words).collect()
    }

    #[test]
    fn what_is_as_declared_needs_nothing() {
        let same = difference(DB, true);
        assert_eq!((same.steps, same.unchanged.len(), same.obstacles.len()), (vec![], 1, 0));
    }

    #[test]
    fn a_policy_and_an_order_that_differ_are_changed_and_only_they() {
        let changed =
            difference(&DB.replace("15m", "20m").replace("'h1', 'h2', 'h3'", "'h2', 'h1', 'h3', 'h9'"), false);
        let expected = [
            "change db: rpo_seconds from 900 to 1200",
            "change db: agents of the source side to h2, h1, h3",
            "change db: agents of the target side to h2, h1, h3",
        ];
        assert_eq!(words(&changed), expected, "h9 reaches neither side");
        let Step::SetPolicy { change, .. } = &changed.steps[0] else { panic!("{changed:?}") };
        assert_eq!(change.expected, Some(samples::quiet_replication().policy), "a change made meanwhile is not undone");
        // Left out is not left as it is.
        assert_eq!(
            words(&difference(&DB.replace("limit = '100MiB/s'\n", ""), false)),
            ["change db: bandwidth_bytes_per_second from 104857600 to null"]
        );
    }

    #[test]
    fn what_is_not_declared_goes_only_on_request_and_before_what_is_new() {
        let other = DB.replace("'db'", "'mail'");
        let kept = difference(&other, false);
        assert_eq!(words(&kept), ["create mail: san-a/vol1 to san-b/vol9"]);
        assert_eq!(kept.undeclared.len(), 1);
        let pruned = difference(&other, true);
        assert_eq!(
            words(&pruned),
            ["delete db; both volumes keep their data", "create mail: san-a/vol1 to san-b/vol9"]
        );
    }

    #[test]
    fn a_restore_in_progress_is_not_pruned() {
        let declared = Declared::parse("file.toml", "").unwrap();
        let running = [ReplicationView { once: true, ..samples::quiet_replication() }];
        let storage: [StorageView; 0] = [];
        let found = plan_difference(&declared, Present { replications: &running, storage: &storage }, true);
        assert!(found.steps.is_empty() && found.undeclared.is_empty(), "{found:?}");
    }

    #[test]
    fn what_cannot_be_changed_is_an_obstacle_and_no_step() {
        for (from, to, reason) in [
            ("san-b/vol9", "san-b/vol8", "the target of db is san-b/vol9 and would be san-b/vol8"),
            ("san-a/vol1", "san-a/vol2", "the source of db"),
            ("'sealed'", "'live'", "the source mode of db"),
        ] {
            let blocked = difference(&DB.replace(from, to), false);
            assert!(blocked.obstacles[0].what.contains(reason) && blocked.steps.is_empty(), "{blocked:?}");
        }
    }

    #[test]
    fn an_expectation_of_the_hosts_that_does_not_hold_is_an_obstacle() {
        let storage =
            "[[storage]]\nname = 'san-a'\nagents = ['h1', 'h2']\n[[storage]]\nname = 'san-z'\nagents = ['h1']\n";
        let found: Vec<String> =
            difference(&format!("{storage}{DB}"), false).obstacles.into_iter().map(|o| o.what).collect();
        assert_eq!(
            found,
            [
                "agent h2 does not reach storage system san-a, as it is expected to",
                "agent h1 does not reach storage system san-z, as it is expected to"
            ]
        );
    }
}
