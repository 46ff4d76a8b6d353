//! A connection through a relay is the agent's own, from end to end: the relay passes bytes, and can neither take part nor change
//! one of them.

#[allow(dead_code, reason = "shared with the tests of links")]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tanist_wire::connect::{self, Established, WireError};
use tanist_wire::handshake::Admission;
use tanist_wire::identity::Identity;
use tanist_wire::relay::{self, CarriedError, Tunnel};
use tanist_wire::socket;
use tanist_wire::tls::{self, LiveCertificate, Protocol};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use world::{CLUSTER, Note, agent, authority, dialling, listening, name, note, now, server, serving};

fn listener() -> (TcpListener, String) {
    let listener = socket::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// The agent's end.
async fn carried(identity: &Identity, relay: &str, address: &str) -> Result<Established<Note, Note>, CarriedError> {
    let to_relay = tls::relay_client_config(LiveCertificate::new(identity), identity.anchor(), name(relay)).unwrap();
    relay::connect(address, to_relay, dialling(identity), now).await
}

/// The relay's end, up to the tunnel.
async fn tunnel(listener: &TcpListener, identity: &Identity) -> Tunnel<TcpStream> {
    let (stream, from) = listener.accept().await.unwrap();
    let incoming = connect::accept(stream, &from.to_string(), listening(identity)).await.unwrap();
    assert_eq!(incoming.protocol(), Protocol::Relay);
    incoming.into_tunnel(&Admission::of_agents(CLUSTER)).unwrap()
}

/// The server's end.
async fn admitted(listener: &TcpListener, identity: &Identity) -> Result<Established<Note, Note>, WireError> {
    let (stream, from) = listener.accept().await.unwrap();
    let incoming = connect::accept(stream, &from.to_string(), serving(identity)).await?;
    incoming.knock().await?.admit(&Admission::of_agents(CLUSTER), now(), |_| Ok(())).await
}

/// Passes on what comes; from the moment that `forges` is set, with one bit of it turned over on the way to the server.
async fn pass_on(tunnel: Tunnel<TcpStream>, server: String, forges: Arc<AtomicBool>) {
    let (mut from_server, mut to_server) = TcpStream::connect(server).await.unwrap().into_split();
    let (mut from_agent, mut to_agent) = tokio::io::split(tunnel.stream);
    let back = tokio::spawn(async move {
        // Whichever side ends it first: that is not what is looked at.
        let _ = tokio::io::copy(&mut from_server, &mut to_agent).await;
    });
    let mut buffer = vec![0; 4096];
    while let Ok(read @ 1..) = from_agent.read(&mut buffer).await {
        if forges.load(Ordering::Acquire) {
            buffer[read - 1] ^= 1;
        }
        to_server.write_all(&buffer[..read]).await.unwrap();
    }
    back.abort();
}

#[tokio::test]
async fn the_server_knows_who_is_carried_and_a_forged_byte_ends_it() {
    let authority = authority();
    let (h1, h2, control) = (agent(&authority, "h1"), agent(&authority, "h2"), server(&authority));
    let ((at_relay, relay_address), (at_server, server_address)) = (listener(), listener());
    let forges = Arc::new(AtomicBool::new(false));
    let relaying = tokio::spawn({
        let forges = Arc::clone(&forges);
        async move { pass_on(tunnel(&at_relay, &h2).await, server_address, forges).await }
    });
    let (dialled, accepted) = tokio::join!(carried(&h1, "h2", &relay_address), admitted(&at_server, &control));
    let (mut dialled, mut accepted) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!(accepted.peer.agent(), Some(&name("h1")), "not the relay, whatever it is");
    dialled.connection.send(&note("there")).await.unwrap();
    assert_eq!(accepted.connection.recv().await.unwrap(), Some(note("there")));
    accepted.connection.send(&note("and back")).await.unwrap();
    assert_eq!(dialled.connection.recv().await.unwrap(), Some(note("and back")));
    forges.store(true, Ordering::Release);
    dialled.connection.send(&note("forged")).await.unwrap();
    assert!(accepted.connection.recv().await.is_err());
    relaying.abort();
}

#[tokio::test]
async fn a_relay_cannot_pass_for_the_server() {
    let authority = authority();
    let (h1, h2) = (agent(&authority, "h1"), agent(&authority, "h2"));
    let (at_relay, relay_address) = listener();
    let posing = async {
        let tunnel = tunnel(&at_relay, &h2).await;
        assert_eq!(tunnel.peer, name("h1"));
        connect::accept(tunnel.stream, "h1", serving(&h2)).await.map(|_| ())
    };
    let (dialled, posed) = tokio::join!(carried(&h1, "h2", &relay_address), posing);
    let Err(CarriedError::Server { source: WireError::Tls { .. }, .. }) = dialled else { panic!("{dialled:?}") };
    assert!(posed.is_err(), "it was not spoken to");
}

#[tokio::test]
async fn another_agent_at_the_address_of_the_relay_is_refused() {
    let authority = authority();
    let (h1, h3) = (agent(&authority, "h1"), agent(&authority, "h3"));
    let (at_relay, relay_address) = listener();
    let wrong = async {
        let (stream, from) = at_relay.accept().await.unwrap();
        connect::accept(stream, &from.to_string(), listening(&h3)).await.map(|_| ())
    };
    let (dialled, _) = tokio::join!(carried(&h1, "h2", &relay_address), wrong);
    assert!(matches!(dialled, Err(CarriedError::Relay(WireError::Tls { .. }))), "{dialled:?}");
}
