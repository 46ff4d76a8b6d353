//! An agent played by the test: it speaks the protocol over the real connection and moves no blocks.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tanist_model::id::{AgentName, Epochs, HostIdentity, Incarnation, Nonce, ReplicationId, RunId, StorageName, Term};
use tanist_model::replication::Side;
use tanist_model::run::{BoundSnapshot, ChainDigest, Checkpoint};
use tanist_model::takeover::PeerVerdict;
use tanist_model::volume::{StorageCapabilities, StorageKind, StorageReport, VolumeContent, VolumeReport};
use tanist_protocol::message::{
    AgentMessage, CanaryReport, FenceReport, Heartbeat, Hello, OrderNumber, PeerAddress, PeerReport, RoleReport,
    RoleState, RunOrder, ServerMessage, Stamp,
};
use tanist_wire::connect::{self, WireError};
use tanist_wire::frame::{Receiver, Sender};
use tanist_wire::identity::Identity;
use tanist_wire::tls::{self, LiveCertificate};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::world::{PATIENCE, World, now};

pub const SIZE: u64 = 1 << 20;
const BEAT: Duration = Duration::from_millis(100);

/// How a run goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Play {
    /// To its end.
    Whole,
    /// To a checkpoint in the middle, and no further.
    Half,
}

/// The puppets that live, for the probes among them.
pub type Alive = Arc<Mutex<BTreeMap<AgentName, Incarnation>>>;

/// A puppet on its connection.
pub struct Puppet {
    name: AgentName,
    task: JoinHandle<()>,
    alive: Alive,
    acked: watch::Receiver<u64>,
    welcomes: watch::Receiver<Term>,
}

impl Puppet {
    pub async fn start(world: &World, identity: &Identity, incarnation: u128, play: Play, alive: &Alive) -> Self {
        Self::try_start(world, identity, incarnation, play, alive).await.unwrap()
    }

    pub async fn try_start(
        world: &World,
        identity: &Identity,
        incarnation: u128,
        play: Play,
        alive: &Alive,
    ) -> Result<Self, WireError> {
        let name = identity.holder().agent().unwrap().clone();
        let config = tls::agent_client_config(LiveCertificate::new(identity), identity.anchor()).unwrap();
        let established = connect::connect(world.address(), config, now).await?;
        let (receiver, sender) = established.connection.split();
        let (ack, acked) = watch::channel(0);
        let (welcome, welcomes) = watch::channel(Term(0));
        let incarnation = Incarnation(incarnation);
        let mind = Mind {
            incarnation,
            play,
            alive: Arc::clone(alive),
            ack,
            welcome,
            roles: BTreeMap::new(),
            watch: Vec::new(),
            watching: OrderNumber::default(),
            sender,
        };
        alive.lock().unwrap().insert(name.clone(), incarnation);
        let task = tokio::spawn(mind.live(receiver));
        let mut puppet = Self { name, task, alive: Arc::clone(alive), acked, welcomes };
        puppet.welcomed().await;
        Ok(puppet)
    }

    async fn welcomed(&mut self) {
        tokio::time::timeout(PATIENCE, self.welcomes.wait_for(|term| term.0 > 0)).await.unwrap().unwrap();
    }

    /// The term of the server that welcomed it.
    pub fn term(&self) -> Term {
        *self.welcomes.borrow()
    }

    /// Waits until the server has acknowledged a checkpoint.
    pub async fn acknowledged(&mut self) -> u64 {
        *tokio::time::timeout(PATIENCE, self.acked.wait_for(|seq| *seq > 0)).await.unwrap().unwrap()
    }

    /// Dies without a goodbye.
    pub async fn die(self) {
        self.alive.lock().unwrap().remove(&self.name);
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }

    /// Waits until the server has ended the connection.
    pub async fn ended(self) {
        tokio::time::timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

struct RoleOf {
    epochs: Epochs,
    state: RoleState,
    locked: Option<String>,
    run: Option<RunId>,
}

struct Mind {
    incarnation: Incarnation,
    play: Play,
    alive: Alive,
    ack: watch::Sender<u64>,
    welcome: watch::Sender<Term>,
    roles: BTreeMap<ReplicationId, RoleOf>,
    watch: Vec<PeerAddress>,
    watching: OrderNumber,
    sender: Sender<AgentMessage>,
}

impl Mind {
    async fn live(mut self, mut receiver: Receiver<ServerMessage>) {
        let hello = self.hello();
        self.say(AgentMessage::Hello(Box::new(hello))).await;
        let mut beat = tokio::time::interval(BEAT);
        loop {
            tokio::select! {
                _ = beat.tick() => { let beat = self.beat(); self.say(AgentMessage::Heartbeat(beat)).await }
                message = receiver.recv() => match message {
                    Ok(Some(message)) => self.hear(message).await,
                    _ => return,
                },
            }
        }
    }

    async fn say(&mut self, message: AgentMessage) {
        // The server may be gone; the next receive shows it.
        let _ = self.sender.send(&message).await;
    }

    fn hello(&self) -> Hello {
        Hello {
            incarnation: self.incarnation,
            host: HostIdentity { machine_id: "m1".into(), boot_id: "b1".into() },
            version: "test".into(),
            io: None,
            listen_address: Some("127.0.0.1:9".into()),
            highest_term: Term(0),
            storage: ["san-a", "san-b"].map(storage).to_vec(),
            volumes: volumes(),
            roles: self.roles(),
            applications: Vec::new(),
            granted: Vec::new(),
            granted_here: Vec::new(),
            through: None,
            connection: 0,
        }
    }

    fn roles(&self) -> Vec<RoleReport> {
        let report = |(id, role): (&ReplicationId, &RoleOf)| RoleReport {
            replication: *id,
            side: Side::Target,
            epochs: role.epochs,
            state: role.state,
            fence: FenceReport { locked: role.locked.clone(), ..FenceReport::default() },
            run: role.run,
            stream: None,
            progress: None,
            late: Default::default(),
        };
        self.roles.iter().map(report).collect()
    }

    fn beat(&self) -> Heartbeat {
        let peers = self.watch.iter().map(|peer| self.ping(peer)).collect();
        Heartbeat { roles: self.roles(), canaries: canaries(), peers, watching: self.watching, ..Heartbeat::default() }
    }

    fn ping(&self, peer: &PeerAddress) -> PeerReport {
        let incarnation = self.alive.lock().unwrap().get(&peer.agent).copied();
        let verdict = incarnation.map_or(PeerVerdict::Refused, |incarnation| PeerVerdict::Reached { incarnation });
        PeerReport { peer: peer.agent.clone(), verdict, took_us: 100, age_ms: 0 }
    }

    async fn hear(&mut self, message: ServerMessage) {
        match message {
            ServerMessage::Welcome { term, .. } => drop(self.welcome.send_replace(term)),
            ServerMessage::Watch { number, peers, .. } => {
                self.watch = peers;
                self.watching = number;
            }
            ServerMessage::Survey { survey, peers, .. } => {
                let peers = peers.iter().map(|peer| self.ping(peer)).collect();
                self.say(AgentMessage::Surveyed { survey, canaries: canaries(), peers }).await;
            }
            ServerMessage::Activate { stamp, .. } => {
                let (replication, epochs) = (stamp.replication, stamp.epochs);
                self.say(AgentMessage::GrantRequest { replication, epochs, nonce: Nonce(7) }).await;
            }
            ServerMessage::Grant { stamp, assignment, .. } => {
                let (replication, epochs) = (stamp.replication, stamp.epochs);
                let locked = Some(assignment.target_identity);
                let role = RoleOf { epochs, state: RoleState::Active, locked: locked.clone(), run: None };
                self.roles.insert(replication, role);
                self.say(AgentMessage::Activated {
                    replication,
                    epochs,
                    fence: FenceReport { locked, ..FenceReport::default() },
                })
                .await;
            }
            ServerMessage::OpenRun { stamp, order, .. } => self.open(stamp, *order).await,
            ServerMessage::CheckpointAck { stamp, run, seq } => self.acknowledged(stamp, run, seq).await,
            ServerMessage::CloseRun { stamp, .. } => self.work_on(stamp, None),
            ServerMessage::StepDown { stamp } | ServerMessage::Drain { stamp, .. } => self.drain(stamp).await,
            _ => {}
        }
    }

    fn work_on(&mut self, stamp: Stamp, run: Option<RunId>) {
        if let Some(role) = self.roles.get_mut(&stamp.replication) {
            role.run = run;
        }
    }

    async fn open(&mut self, stamp: Stamp, order: RunOrder) {
        let (replication, epochs) = (stamp.replication, stamp.epochs);
        self.work_on(stamp, Some(order.run()));
        match order {
            RunOrder::Prepare { run, attempt, mode, .. } => {
                let snapshot =
                    BoundSnapshot { id: attempt, uid: "s1".into(), mode, size_bytes: SIZE, application: None };
                self.say(AgentMessage::BindSnapshot { replication, epochs, run, snapshot, kept: None }).await;
            }
            // What it has just made, it first copies to the half.
            RunOrder::Copy { copy, .. } if copy.from == Checkpoint::START => {
                self.checkpoint(stamp, copy.run, SIZE / 2).await;
            }
            RunOrder::Copy { copy, .. } => self.checkpoint(stamp, copy.run, SIZE).await,
            RunOrder::Verify { copy } => self.acknowledged(stamp, copy.run, SIZE).await,
            RunOrder::Keep { .. } => panic!("this agent reads for itself: {order:?}"),
        }
    }

    async fn checkpoint(&mut self, stamp: Stamp, run: RunId, seq: u64) {
        let (replication, epochs) = (stamp.replication, stamp.epochs);
        let checkpoint = Checkpoint { seq, chain: ChainDigest([1; 32]) };
        self.say(AgentMessage::Checkpoint {
            replication,
            epochs,
            run,
            checkpoint,
            durable_at: now(),
            work: Default::default(),
        })
        .await;
    }

    async fn acknowledged(&mut self, stamp: Stamp, run: RunId, seq: u64) {
        self.ack.send_replace(seq);
        let (replication, epochs) = (stamp.replication, stamp.epochs);
        if seq == SIZE {
            let checkpoint = Checkpoint { seq, chain: ChainDigest([1; 32]) };
            self.say(AgentMessage::RunComplete {
                replication,
                epochs,
                run,
                checkpoint,
                verified: true,
                work: Default::default(),
            })
            .await;
        } else if self.play == Play::Whole {
            self.checkpoint(stamp, run, SIZE).await;
        }
    }

    async fn drain(&mut self, stamp: Stamp) {
        self.roles.remove(&stamp.replication);
        self.say(AgentMessage::Drained { replication: stamp.replication, epochs: stamp.epochs }).await;
    }
}

fn storage(name: &str) -> StorageReport {
    StorageReport {
        name: StorageName::new(name).unwrap(),
        kind: StorageKind::Image,
        location: "/srv".into(),
        identity: name.into(),
        capabilities: StorageCapabilities {
            snapshots: false,
            kernel_lock: true,
            reservations: false,
            outlives_host: false,
            changed_extents: false,
        },
        error: None,
        copy_manager: None,
        pool: None,
    }
}

fn volumes() -> Vec<VolumeReport> {
    let volume = |address: &str| VolumeReport {
        address: address.parse().unwrap(),
        identity: format!("fs:{address}"),
        size_bytes: SIZE,
        read_only: false,
        in_use_by: None,
        content: VolumeContent::Blank,
        error: None,
        device: None,
    };
    vec![volume("san-a/vol1"), volume("san-b/vol9")]
}

fn canaries() -> Vec<CanaryReport> {
    let canary = |report: VolumeReport| CanaryReport {
        address: report.address.clone(),
        result: Ok(report),
        took_us: 100,
        age_ms: 0,
    };
    volumes().into_iter().map(canary).collect()
}
