//! The streams of a measurement: frames over the TLS of runs, from this host to itself or to another one that listens for them.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use tanist_datapath::Link;
use tanist_datapath::bench::{self, Bounds, Sample};
use tanist_model::id::AgentName;
use tanist_model::stage::Stage;
use tanist_wire::connect;
use tanist_wire::handshake::Admission;
use tanist_wire::identity::Identity;
use tanist_wire::socket;
use tanist_wire::stream::{self, DataStream};
use tanist_wire::tls::{self, LiveCertificate};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::{BenchError, BenchLink, BenchOrder, BenchStage, stage};
use crate::streams::link_of;

/// Who this host is.
struct Own<'a> {
    identity: &'a Identity,
    live: Arc<LiveCertificate>,
}

impl<'a> Own<'a> {
    fn of(identity: &'a Identity) -> Self {
        Self { identity, live: LiveCertificate::new(identity) }
    }

    async fn dial(&self, agent: &AgentName, address: &str) -> Result<DataStream, BenchError> {
        let config = tls::data_client_config(Arc::clone(&self.live), self.identity.anchor(), agent.clone())?;
        Ok(stream::dial(address, config).await?)
    }

    async fn accept(&self, listener: &TcpListener) -> Result<DataStream, BenchError> {
        let (socket, from) = listener.accept().await.map_err(failed("accept a stream"))?;
        let config = tls::peer_listener_config(Arc::clone(&self.live), self.identity.anchor())?;
        let incoming = connect::accept(socket, &from.to_string(), config).await?;
        Ok(incoming.into_data(&Admission::of_agents(self.identity.anchor().cluster()))?)
    }
}

pub(super) fn measure(
    identity: &Identity,
    order: &BenchOrder,
    sample: &Sample,
    bounds: Bounds,
) -> Result<BenchStage, BenchError> {
    let (own, runtime) = (Own::of(identity), runtime()?);
    let streams = tanist_model::quantity::count(order.streams.into(), "stream");
    let (links, to) = match &order.link {
        BenchLink::Loopback => (loopback(&own, &runtime, order.streams)?, "this host itself".to_owned()),
        BenchLink::To { agent, address } => {
            let dial = |_| parts(runtime.block_on(own.dial(agent, address))?);
            ((0..order.streams).map(dial).collect::<Result<_, _>>()?, format!("{agent} at {address}"))
        }
    };
    let measured = bench::send(links, sample, bounds)?;
    Ok(stage(Stage::Network, format!("TLS and checksums, {streams} to {to}"), measured))
}

/// The sending ends of streams whose other ends are being read on threads of their own.
fn loopback(own: &Own<'_>, runtime: &Runtime, streams: u8) -> Result<Vec<Link>, BenchError> {
    let name = own.identity.holder().agent().cloned().ok_or(BenchError::NoAgent)?;
    let listener = listen(runtime, SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = listener.local_addr().map_err(failed("listen"))?.to_string();
    let pair = |_| {
        let meet = async { tokio::join!(own.dial(&name, &address), own.accept(&listener)) };
        let (ours, theirs) = runtime.block_on(meet);
        swallow(parts(theirs?)?)?;
        parts(ours?)
    };
    (0..streams).map(pair).collect()
}

/// Takes the streams of other hosts' measurements and drops what they bring, until something fails. Stores nothing. `tell` hears where it
/// listens, and who comes.
///
/// # Errors
/// [`BenchError`] if it cannot listen.
pub fn sink(folder: &Path, address: SocketAddr, mut tell: impl FnMut(String)) -> Result<(), BenchError> {
    let identity = Identity::load(folder)?;
    let (own, runtime) = (Own::of(&identity), runtime()?);
    let name = identity.holder().agent().cloned().ok_or(BenchError::NoAgent)?;
    let listener = listen(&runtime, address)?;
    let port = listener.local_addr().map_err(failed("listen"))?.port();
    tell(format!("from another host: tanist bench data VOLUME --to {name}=HOST:{port}"));
    loop {
        match runtime.block_on(own.accept(&listener)) {
            Ok(stream) => {
                tell(format!("a stream of agent {}", stream.peer.agent().map_or("?", AgentName::as_str)));
                swallow(parts(stream)?)?;
            }
            // Whoever is no agent of this cluster is none of ours.
            Err(error @ BenchError::Wire(_)) => tell(error.to_string()),
            Err(error) => return Err(error),
        }
    }
}

/// Takes what comes, on a thread that ends with the stream.
fn swallow(link: Link) -> Result<(), BenchError> {
    // A stream that breaks shows at its other end.
    let work = move || drop(bench::receive(link));
    let thread = thread::Builder::new().name(Stage::Network.name().to_owned());
    thread.spawn(work).map(drop).map_err(failed("start a thread"))
}

fn parts(stream: DataStream) -> Result<Link, BenchError> {
    stream.into_parts().map(link_of).map_err(failed("use a stream"))
}

fn listen(runtime: &Runtime, address: SocketAddr) -> Result<TcpListener, BenchError> {
    let _inside = runtime.enter();
    socket::listen(address).map_err(failed("listen"))
}

fn runtime() -> Result<Runtime, BenchError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed("start the runtime"))
}

fn failed(doing: &'static str) -> impl Fn(std::io::Error) -> BenchError {
    move |cause| BenchError::Socket { doing, cause }
}
