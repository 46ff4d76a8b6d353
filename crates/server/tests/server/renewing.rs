//! Certificates are renewed on the connection that shows them, and no loss of an answer locks an agent out.

use std::sync::Arc;

use rustls::ClientConfig;
use tanist_model::event::EventCode;
use tanist_model::id::{HostIdentity, Incarnation, Term};
use tanist_protocol::message::{AgentMessage, Hello, ServerMessage};
use tanist_wire::connect::{self, Established, WireError};
use tanist_wire::identity::Identity;
use tanist_wire::refusal::RefusalCode;
use tanist_wire::tls::{self, LiveCertificate};
use tokio::time::timeout;

use crate::world::{PATIENCE, World, now};

type Control = Established<ServerMessage, AgentMessage>;

fn config(identity: &Identity) -> Arc<ClientConfig> {
    tls::agent_client_config(LiveCertificate::new(identity), identity.anchor()).unwrap()
}

fn hello() -> AgentMessage {
    AgentMessage::Hello(Box::new(Hello {
        incarnation: Incarnation(1),
        host: HostIdentity { machine_id: "m1".into(), boot_id: "b1".into() },
        version: "test".into(),
        io: None,
        listen_address: None,
        highest_term: Term(0),
        storage: Vec::new(),
        volumes: Vec::new(),
        roles: Vec::new(),
        applications: Vec::new(),
        granted: Vec::new(),
        granted_here: Vec::new(),
        through: None,
        connection: 0,
    }))
}

/// A connection on which the server has welcomed this identity.
async fn try_link(world: &World, identity: &Identity) -> Result<Control, WireError> {
    let mut link: Control = connect::connect(world.address(), config(identity), now).await?;
    link.connection.send(&hello()).await.unwrap();
    let welcomed = hear(&mut link, |message| matches!(message, ServerMessage::Welcome { .. })).await;
    assert!(welcomed.is_some(), "the server has hung up");
    Ok(link)
}

async fn link(world: &World, identity: &Identity) -> Control {
    try_link(world, identity).await.unwrap()
}

/// The next message of a kind; none if the server ends the connection.
async fn hear(link: &mut Control, is_it: impl Fn(&ServerMessage) -> bool) -> Option<ServerMessage> {
    let heard = async {
        loop {
            match link.connection.recv().await {
                Ok(Some(message)) if is_it(&message) => return Some(message),
                Ok(Some(_)) => {}
                _ => return None,
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("the server says nothing")
}

/// Asks for a renewal, and has the answer.
async fn renew(link: &mut Control, identity: &Identity) -> Option<Identity> {
    let csr_pem = identity.key().certificate_request().unwrap();
    link.connection.send(&AgentMessage::RenewCertificate { csr_pem }).await.unwrap();
    match hear(link, |message| matches!(message, ServerMessage::CertificateIssued { .. })).await? {
        ServerMessage::CertificateIssued { certificate_pem } => Some(identity.renewed(certificate_pem, now()).unwrap()),
        other => panic!("{other:?}"),
    }
}

fn is_revoked(refused: &Result<Control, WireError>) -> bool {
    matches!(refused, Err(WireError::Refused { refusal, .. }) if refusal.code == RefusalCode::Revoked)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_got_its_renewals_is_still_welcome() {
    let world = World::start().await;
    let first = world.join("h1").await;
    // Each answer is lost with its connection, or the agent dies before it has stored it.
    for _ in 0..3 {
        assert!(renew(&mut link(&world, &first).await, &first).await.is_some());
    }
    let mut same = link(&world, &first).await;
    for _ in 0..2 {
        assert!(renew(&mut same, &first).await.is_some(), "it could not store the one before");
    }
    link(&world, &first).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_old_certificate_is_worthless_once_the_new_one_was_shown() {
    let world = World::start().await;
    let first = world.join("h1").await;
    let second = renew(&mut link(&world, &first).await, &first).await.unwrap();
    assert_ne!(second.holder().serial_hex, first.holder().serial_hex);
    link(&world, &second).await;
    assert!(is_revoked(&try_link(&world, &first).await));
    let third = renew(&mut link(&world, &second).await, &second).await.unwrap();
    // Neither is forgotten: the agent may be at either.
    link(&world, &second).await;
    link(&world, &third).await;
    assert!(is_revoked(&try_link(&world, &second).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_outlives_its_certificate_renews_nothing() {
    let world = World::start().await;
    // The token was made while the host was away; it came back before another one used it.
    let old = world.join("h1").await;
    let token = world.token("h1").await;
    let mut standing = link(&world, &old).await;
    let new = world.try_join(&token.token, None).await.unwrap();
    assert!(renew(&mut standing, &old).await.is_none(), "a host whose name was given away got a certificate for it");
    let told = world.event(EventCode::ConnectionRefused).await;
    assert!(told.message.contains("revoked"), "{}", told.message);
    assert!(!world.all_events().await.iter().any(|event| event.code == EventCode::CertificateRenewed));
    link(&world, &new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_own_identity_is_mixed_up_certifies_itself_anew() {
    let mut world = World::initialised().await;
    let folder = world.dir().join("identity");
    // As a crash would leave it that had replaced the key and not yet the certificate.
    let other = tanist_wire::identity::PrivateKey::generate().unwrap();
    std::fs::write(folder.join("key.pem"), other.to_pem().as_bytes()).unwrap();
    assert!(Identity::load(&folder).is_err());
    world.run().await;
    let agent = world.join("h1").await;
    link(&world, &agent).await;
    assert!(Identity::load(&folder).is_ok());
}
