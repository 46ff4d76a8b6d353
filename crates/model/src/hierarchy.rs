//! The predetermined order of agents on a side of a replication.

use serde::{Deserialize, Serialize};

use crate::id::AgentName;

/// Agents by rank: the first is the primary, the others are failover agents. Never empty, no agent twice.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = Vec<String>))]
#[serde(try_from = "Vec<AgentName>", into = "Vec<AgentName>")]
pub struct Hierarchy(Vec<AgentName>);

/// Why a list of agents is not a hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HierarchyError {
    #[error("a hierarchy needs at least one agent")]
    Empty,
    #[error("agent {0} stands twice in the hierarchy")]
    Twice(AgentName),
    #[error("a hierarchy of more than {max} agents is not supported", max = Hierarchy::MAX_AGENTS)]
    TooLong,
}

/// An agent's place in a hierarchy; 1 is the primary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct Rank(pub u8);

impl Hierarchy {
    pub const MAX_AGENTS: usize = 16;

    /// # Errors
    /// [`HierarchyError`] if the list is empty, too long, or names an agent twice.
    pub fn new(agents: Vec<AgentName>) -> Result<Self, HierarchyError> {
        if agents.is_empty() {
            return Err(HierarchyError::Empty);
        }
        if agents.len() > Self::MAX_AGENTS {
            return Err(HierarchyError::TooLong);
        }
        for (i, agent) in agents.iter().enumerate() {
            if agents[..i].contains(agent) {
                return Err(HierarchyError::Twice(agent.clone()));
            }
        }
        Ok(Self(agents))
    }

    #[must_use]
    pub fn rank(&self, agent: &AgentName) -> Option<Rank> {
        let position = self.0.iter().position(|a| a == agent)?;
        u8::try_from(position + 1).ok().map(Rank)
    }

    /// The agents, smallest rank first.
    pub fn iter(&self) -> std::slice::Iter<'_, AgentName> {
        self.0.iter()
    }

    #[must_use]
    pub fn contains(&self, agent: &AgentName) -> bool {
        self.0.contains(agent)
    }

    #[must_use]
    pub fn primary(&self) -> &AgentName {
        &self.0[0]
    }
}

impl<'a> IntoIterator for &'a Hierarchy {
    type Item = &'a AgentName;
    type IntoIter = std::slice::Iter<'a, AgentName>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl TryFrom<Vec<AgentName>> for Hierarchy {
    type Error = HierarchyError;
    fn try_from(agents: Vec<AgentName>) -> Result<Self, HierarchyError> {
        Self::new(agents)
    }
}

impl From<Hierarchy> for Vec<AgentName> {
    fn from(hierarchy: Hierarchy) -> Self {
        hierarchy.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<AgentName> {
        list.iter().map(|n| AgentName::new(*n).unwrap()).collect()
    }

    #[test]
    fn ranks_count_from_one() {
        let hierarchy = Hierarchy::new(names(&["h1", "h2"])).unwrap();
        assert_eq!(hierarchy.rank(&names(&["h2"])[0]), Some(Rank(2)));
        assert_eq!(hierarchy.rank(&names(&["h3"])[0]), None);
    }

    #[test]
    fn an_agent_stands_once() {
        assert_eq!(Hierarchy::new(vec![]), Err(HierarchyError::Empty));
        assert!(matches!(Hierarchy::new(names(&["h1", "h1"])), Err(HierarchyError::Twice(_))));
        assert!(serde_json::from_str::<Hierarchy>("[\"h1\",\"h1\"]").is_err());
    }
}
