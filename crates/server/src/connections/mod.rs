//! The server's one port. TLS tells by ALPN who comes: an agent with its control protocol, or a client of the API.

mod agent;
mod http;
mod reason;
mod refusals;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use tanist_protocol::server::ConnectionId;
use tanist_wire::connect;
use tanist_wire::handshake::Admission;
use tanist_wire::socket;
use tanist_wire::tls::Protocol;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;

pub use http::ClientAddress;
pub use refusals::Refusals;

use crate::authority::Authority;
use crate::core::CoreHandle;

/// Connections at once, of agents and operators together; more wait in the kernel's queue.
const CONNECTIONS: usize = 16 << 10;
/// After a failed accept, most likely for want of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// What every connection needs.
#[derive(Debug)]
pub struct Door {
    pub core: CoreHandle,
    pub authority: Arc<Authority>,
    pub tls: Arc<rustls::ServerConfig>,
    pub admission: Admission,
    pub router: Router,
    pub refusals: Arc<Refusals>,
    pub next_connection: AtomicU64,
}

impl Door {
    fn number(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }
}

/// Accepts connections until `stop` ends, then ends all of them and returns when they are gone. Dropping this ends them too.
pub async fn accept(listener: TcpListener, door: Arc<Door>, mut stop: oneshot::Receiver<()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = next(&listener, &room) => accepted,
            _ = &mut stop => break,
        };
        let door = Arc::clone(&door);
        open.spawn(async move {
            let (stream, from, _place) = accepted;
            serve(stream, from, door).await;
        });
        while open.try_join_next().is_some() {}
    }
    open.shutdown().await;
}

/// The next connection, once there is room for it.
async fn next(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>) {
    // Nobody closes the semaphore.
    let place = Arc::clone(room).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => return (stream, from, place),
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, from: SocketAddr, door: Arc<Door>) {
    if let Err(error) = socket::tune(&stream) {
        tracing::debug!(%from, %error, "a connection ended before it began");
        return;
    }
    // What a handshake or a request needs is much more than what an idle agent needs, and goes when it is over.
    let tls = Box::pin(connect::accept(stream, &from.to_string(), Arc::clone(&door.tls))).await;
    match tls {
        Ok(incoming) if incoming.protocol() == Protocol::Http => {
            Box::pin(http::serve(incoming.into_stream(), from, door.router.clone())).await;
        }
        Ok(incoming) => agent::serve(incoming, from, &door).await,
        Err(error) => door.refusals.failed(&door.core, from, None, &error),
    }
}
