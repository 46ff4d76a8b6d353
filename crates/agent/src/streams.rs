//! Streams from readers: the desk at which they report, and where the engine that waits for them is found.
//!
//! A stream is let through only if the engine of its replication waits for exactly its run, epochs and generation, and if the
//! server has signed that this very reader may open it. The gate of the receiver asks the first half again, for every frame.

use std::collections::HashMap;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tanist_datapath::frame::{FrameKey, StreamGeneration};
use tanist_datapath::gate::GateRules;
use tanist_datapath::{Arrival, Link};
use tanist_model::id::{AgentName, ClusterId, ReplicationId, RunId};
use tanist_protocol::message::StreamKey;
use tanist_wire::certificate::TrustAnchor;
use tanist_wire::grant;
use tanist_wire::stream::DataStream;

use crate::engine::Message;

/// A stream says what it wants within this time, or it is cut.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// What an engine waits for.
pub(crate) struct Expected {
    pub(crate) run: RunId,
    pub(crate) stream: StreamKey,
    pub(crate) size_bytes: u64,
    pub(crate) reader: AgentName,
    pub(crate) engine: Sender<Message>,
}

/// Who we are, for the grants.
struct Own {
    name: AgentName,
    cluster: ClusterId,
    anchor: TrustAnchor,
}

/// The desk; cheap to clone.
#[derive(Clone)]
pub(crate) struct StreamDesk {
    own: Arc<Own>,
    expected: Arc<Mutex<HashMap<ReplicationId, Expected>>>,
}

impl std::fmt::Debug for StreamDesk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamDesk")
    }
}

impl StreamDesk {
    pub(crate) fn new(name: AgentName, cluster: ClusterId, anchor: TrustAnchor) -> Self {
        Self { own: Arc::new(Own { name, cluster, anchor }), expected: Arc::default() }
    }

    /// From now on streams of this key belong to this engine; earlier ones of the replication do not.
    pub(crate) fn expect(&self, replication: ReplicationId, expected: Expected) {
        self.lock().insert(replication, expected);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ReplicationId, Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a new stream to its engine, or refuses it. Blocks until it has said what it wants.
    pub(crate) fn receive(&self, stream: DataStream, handle: &tokio::runtime::Handle) {
        let Some(peer) = stream.peer.agent().cloned() else { return };
        let parts = match stream.into_parts() {
            Ok(parts) => parts,
            Err(error) => return tracing::warn!(%error, %peer, "a stream cannot be used"),
        };
        let shutdown = Arc::clone(&parts.shutdown);
        let deadline = handle.spawn(async move {
            tokio::time::sleep(INTRODUCTION).await;
            shutdown();
        });
        let arrival = Arrival::accept(link_of(parts));
        deadline.abort();
        match arrival {
            Ok(arrival) => self.pass_on(arrival, &peer),
            Err(error) => tracing::warn!(%error, %peer, "a stream was not understood"),
        }
    }

    fn pass_on(&self, arrival: Arrival, peer: &AgentName) {
        match self.engine_for(&arrival, peer) {
            Ok(engine) => {
                // An engine that has ended needs no stream; the arrival is cut when it is dropped.
                let _ = engine.send(Message::Arrival(Box::new(arrival)));
            }
            Err(reason) => {
                tracing::warn!(reason, %peer, "a stream was refused");
                arrival.refuse(&reason);
            }
        }
    }

    fn engine_for(&self, arrival: &Arrival, peer: &AgentName) -> Result<Sender<Message>, String> {
        let granted = grant::open(arrival.grant(), &self.own.anchor).map_err(|error| error.to_string())?;
        let expected = self.lock();
        let Some(open) = expected.get(&granted.replication) else {
            return Err("nothing is open here for this replication".to_owned());
        };
        if *peer != open.reader {
            return Err(format!("agent {peer} is not the reader, {} is", open.reader));
        }
        let StreamKey { epochs, generation, from } = open.stream;
        let (own, replication) = (&self.own, granted.replication);
        granted
            .permits(own.cluster, replication, open.run, epochs, generation, &open.reader, &own.name)
            .map_err(|error| error.to_string())?;
        arrival
            .check(key_of(open.run, &open.stream), open.size_bytes, from, GateRules::WHOLE)
            .map_err(|refusal| refusal.to_string())?;
        Ok(open.engine.clone())
    }
}

/// The key that every frame of a stream carries.
pub(crate) fn key_of(run: RunId, stream: &StreamKey) -> FrameKey {
    FrameKey { run, epochs: stream.epochs, generation: StreamGeneration(stream.generation) }
}

/// A stream of the wire, as the block engine takes it.
pub(crate) fn link_of(parts: tanist_wire::stream::StreamParts) -> Link {
    let shutdown = parts.shutdown;
    Link { reader: parts.reader, writer: parts.writer, shutdown: Arc::new(move || shutdown()) }
}
