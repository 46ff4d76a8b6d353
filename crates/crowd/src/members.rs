//! The crowd: who is in it, how they come, and how they are lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tanist_agent::{Dialler, Link, clock};
use tanist_model::id::{AgentName, HostIdentity, IdError, Incarnation, Term};
use tanist_protocol::agent::{AgentIdentity, AgentMachine};
use tanist_protocol::mutation::Mutations;
use tanist_protocol::timers::Timers;
use tanist_wire::identity::Identity;
use tanist_wire::tls::{self, LiveCertificate};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;

use crate::body::Body;
use crate::roll::{Loss, Roll};
use crate::volumes::Volumes;

/// What the link may tell an agent before the agent has heard it.
const QUEUE: usize = 256;
/// Where peers are told to dial: the port for what is thrown away, where nobody listens. A simulated agent carries nobody to the server.
const NOWHERE: &str = "127.0.0.1:9";

/// Why an agent could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CrowdError {
    #[error("prepare TLS: {0}")]
    Tls(#[from] tls::ConfigError),
    #[error("get entropy from the operating system: {0}")]
    Entropy(#[from] getrandom::Error),
    #[error("name a volume: {0}")]
    Name(#[from] IdError),
    /// The certificate is not an agent's.
    #[error("the certificate of {0} is not an agent's")]
    NotAnAgent(String),
    #[error("{missing} of {expected} agents had not begun to act after {} s", limit.as_secs())]
    Idle { missing: usize, expected: usize, limit: Duration },
    #[error("{missing} of {expected} agents were not welcomed by the server in {} s", limit.as_secs())]
    Unwelcome { missing: usize, expected: usize, limit: Duration },
}

/// A server has welcomed an agent.
#[derive(Clone, Copy, Debug)]
pub struct Welcome {
    pub agent: usize,
    /// Of the server.
    pub term: Term,
    pub at: Instant,
}

/// What all agents of a crowd have in common.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) roll: Roll,
    pub(crate) welcomes: mpsc::UnboundedSender<Welcome>,
    /// How often an agent has begun to act.
    pub(crate) openings: watch::Sender<usize>,
}

/// One of the crowd.
#[derive(Debug)]
struct Member {
    name: AgentName,
    identity: Identity,
    process: Option<Process>,
}

/// It ends with this value, without a goodbye.
#[derive(Debug)]
struct Process {
    link: AbortHandle,
    body: AbortHandle,
    vanish: Arc<Notify>,
    /// The certificate that the link shows is another when this says so; here it never is.
    _serial: watch::Sender<String>,
    began: Instant,
}

impl Drop for Process {
    fn drop(&mut self) {
        self.body.abort();
        self.link.abort();
    }
}

/// Agents that live in this process. They end with this value.
#[derive(Debug)]
pub struct Crowd {
    server: String,
    members: Vec<Member>,
    ground: Arc<Ground>,
    welcomes: mpsc::UnboundedReceiver<Welcome>,
    /// The latest of the servers that have welcomed anybody.
    term: Term,
}

impl Crowd {
    /// Agents that have joined the server at this address and are not connected yet. The first two see the same two volumes, the next two
    /// others, and so on.
    ///
    /// # Errors
    /// [`CrowdError::NotAnAgent`].
    pub fn new(server: &str, identities: Vec<Identity>) -> Result<Self, CrowdError> {
        let (welcomed, welcomes) = mpsc::unbounded_channel();
        let openings = watch::Sender::new(0);
        let ground = Arc::new(Ground { roll: Roll::default(), welcomes: welcomed, openings });
        let members: Result<Vec<Member>, CrowdError> = identities.into_iter().map(Member::of).collect();
        Ok(Self { server: server.to_owned(), members: members?, ground, welcomes, term: Term(0) })
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The numbers of the agents with these names.
    #[must_use]
    pub fn numbers_of(&self, names: &BTreeSet<AgentName>) -> Vec<usize> {
        let numbered = self.members.iter().enumerate();
        numbered.filter(|(_, member)| names.contains(&member.name)).map(|(number, _)| number).collect()
    }

    /// Starts these agents as new processes, `at_once` of them on their way to the server at a time; how long each took from its start
    /// to the server's welcome.
    ///
    /// # Errors
    /// [`CrowdError::Unwelcome`] if the server has not welcomed all of them within `limit`.
    pub async fn enter(
        &mut self,
        agents: &[usize],
        at_once: usize,
        limit: Duration,
    ) -> Result<Vec<Duration>, CrowdError> {
        let deadline = Instant::now() + limit;
        let mut waiting = agents.iter();
        for agent in waiting.by_ref().take(at_once) {
            self.start(*agent)?;
        }
        let mut took = Vec::with_capacity(agents.len());
        let mut missing: BTreeSet<usize> = agents.iter().copied().collect();
        while !missing.is_empty() {
            let welcome = self.welcome_before(deadline).await;
            let unwelcome = CrowdError::Unwelcome { missing: missing.len(), expected: agents.len(), limit };
            let welcome = welcome.ok_or(unwelcome)?;
            if missing.remove(&welcome.agent) {
                took.extend(self.began(welcome.agent).map(|began| welcome.at.duration_since(began)));
                if let Some(next) = waiting.next() {
                    self.start(*next)?;
                }
            }
        }
        Ok(took)
    }

    /// Waits until all agents that live are welcomed by the next server, or `limit` is over; when each was that was.
    pub async fn welcomed_anew(&mut self, limit: Duration) -> Vec<Instant> {
        let (deadline, term) = (Instant::now() + limit, self.term);
        let alive = self.members.iter().enumerate().filter(|(_, member)| member.process.is_some());
        let mut missing: BTreeSet<usize> = alive.map(|(number, _)| number).collect();
        let mut at = Vec::with_capacity(missing.len());
        while !missing.is_empty() {
            let Some(welcome) = self.welcome_before(deadline).await else { break };
            if welcome.term > term && missing.remove(&welcome.agent) {
                at.push(welcome.at);
            }
        }
        at
    }

    /// Loses all of these agents in one moment.
    pub fn lose(&mut self, agents: &[usize], loss: Loss) {
        for agent in agents {
            let Some(member) = self.members.get_mut(*agent) else { continue };
            self.ground.roll.lose(&member.name, loss);
            match (loss, &member.process) {
                (Loss::Crash, _) => member.process = None,
                // Its sockets stay open, and nobody is behind them.
                (Loss::Silence, Some(process)) => process.vanish.notify_one(),
                (Loss::Silence, None) => {}
            }
        }
    }

    /// How often an agent of this crowd has begun to act so far.
    #[must_use]
    pub fn openings(&self) -> usize {
        *self.ground.openings.borrow()
    }

    /// Waits until agents have begun to act `more` times since there were `before`.
    ///
    /// # Errors
    /// [`CrowdError::Idle`] if they have not within `limit`.
    pub async fn opened(&self, before: usize, more: usize, limit: Duration) -> Result<(), CrowdError> {
        let mut openings = self.ground.openings.subscribe();
        let enough = tokio::time::timeout(limit, openings.wait_for(|now| *now >= before + more)).await;
        if matches!(enough, Ok(Ok(_))) {
            return Ok(());
        }
        let missing = (before + more).saturating_sub(self.openings());
        Err(CrowdError::Idle { missing, expected: more, limit })
    }

    async fn welcome_before(&mut self, deadline: Instant) -> Option<Welcome> {
        let welcome = tokio::time::timeout_at(deadline.into(), self.welcomes.recv()).await.ok().flatten()?;
        self.term = self.term.max(welcome.term);
        Some(welcome)
    }

    fn began(&self, agent: usize) -> Option<Instant> {
        Some(self.members.get(agent)?.process.as_ref()?.began)
    }

    fn start(&mut self, agent: usize) -> Result<(), CrowdError> {
        if let Some(member) = self.members.get_mut(agent) {
            // First the end of an earlier process, should there be one.
            member.process = None;
            member.process = Some(member.start(agent, &self.server, &self.ground)?);
        }
        Ok(())
    }
}

impl Member {
    fn of(identity: Identity) -> Result<Self, CrowdError> {
        let name = identity.holder().agent().cloned();
        let name = name.ok_or_else(|| CrowdError::NotAnAgent(identity.holder().role.to_string()))?;
        Ok(Self { name, identity, process: None })
    }

    fn start(&self, number: usize, server: &str, ground: &Arc<Ground>) -> Result<Process, CrowdError> {
        let began = Instant::now();
        let incarnation = Incarnation(entropy()?);
        let machine = self.machine(incarnation)?;
        let live = LiveCertificate::new(&self.identity);
        let anchor = self.identity.anchor().clone();
        let config = tls::agent_client_config(Arc::clone(&live), &anchor)?;
        let dialler = Dialler { server: server.to_owned(), config, live, anchor };
        let (serial, followed) = watch::channel(self.identity.holder().serial_hex.clone());
        let (events, heard) = mpsc::channel(QUEUE);
        ground.roll.enter(self.name.clone(), incarnation);
        let link = tokio::spawn(Link::new(dialler, followed, Timers::DEFAULT, Vec::new(), entropy()?, events).keep());
        let body = Body::new(number, machine, Volumes::of_pair(number / 2)?, Arc::clone(ground));
        let vanish = Arc::new(Notify::new());
        let body = tokio::spawn(body.live(heard, Arc::clone(&vanish)));
        Ok(Process { link: link.abort_handle(), body: body.abort_handle(), vanish, _serial: serial, began })
    }

    fn machine(&self, incarnation: Incarnation) -> Result<AgentMachine, CrowdError> {
        let identity = AgentIdentity {
            name: self.name.clone(),
            incarnation,
            host: HostIdentity { machine_id: format!("machine-{}", self.name), boot_id: "boot-1".to_owned() },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            io: None,
            listen_address: Some(NOWHERE.to_owned()),
            granted: Vec::new(),
            granted_here: Vec::new(),
        };
        Ok(AgentMachine::new(identity, Timers::DEFAULT, entropy()?, Mutations::NONE, clock::now()))
    }
}

fn entropy() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_le_bytes(bytes))
}
