//! Who is let in and who is not, with the reason told and recorded.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;
use tanist_model::api::{AgentView, Done};
use tanist_model::enrolment::JoinToken;
use tanist_model::event::EventCode;
use tanist_model::id::ClusterId;
use tanist_model::time::Timestamp;
use tanist_wire::ca::CertificateAuthority;
use tanist_wire::certificate::CaHash;
use tanist_wire::connect::WireError;
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::refusal::RefusalCode;
use tanist_wire::token::JoinSecret;

use crate::puppet::{Alive, Play, Puppet};
use crate::world::{World, name, now};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_joins_once_under_the_name_of_its_token() {
    let world = World::start().await;
    let token = world.token("h1").await;
    assert_eq!((token.address.as_str(), token.ca_hash), (world.address(), world.made.ca_hash.to_string()));

    let (status, refusal) = world.try_join(&token.token, Some("h2")).await.unwrap_err();
    assert_eq!(status, 403);
    assert!(refusal.cause.unwrap().contains("made for agent h1"));

    let identity = world.try_join(&token.token, None).await.unwrap();
    assert_eq!(identity.holder().agent(), Some(&name("h1")));

    let (_, refusal) = world.try_join(&token.token, Some("h1")).await.unwrap_err();
    assert!(refusal.cause.unwrap().contains("used already"));
    assert_eq!(refusal.hint.unwrap(), "make a new one: tanist token create h1");

    let unknown = JoinSecret::generate().unwrap();
    let (_, refusal) = world.try_join(unknown.reveal(), Some("h1")).await.unwrap_err();
    assert!(refusal.cause.unwrap().contains("not known"));
    let recorded = world.event(EventCode::JoinRefused).await;
    assert!(recorded.message.contains("made for agent h1"), "{}", recorded.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joined_agent_is_welcome_and_a_removed_one_is_told_why_it_is_not() {
    let world = World::start().await;
    let (alive, identity) = (Alive::default(), world.join("h1").await);
    let puppet = Puppet::start(&world, &identity, 1, Play::Whole, &alive).await;
    let agents: Vec<AgentView> = world.get("/agents").await;
    assert!(agents[0].connected);

    world.delete::<Done>("/agents/h1").await.unwrap();
    puppet.ended().await;
    let again = Puppet::try_start(&world, &identity, 2, Play::Whole, &alive).await.err().unwrap();
    assert!(matches!(&again, WireError::Refused { refusal, .. } if refusal.code == RefusalCode::Removed), "{again}");
    assert!(again.hint().contains("token create h1"));
    let recorded = world.event(EventCode::ConnectionRefused).await;
    assert!(recorded.message.contains("was removed"), "{}", recorded.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_joined_anew_makes_its_old_certificate_worthless() {
    let world = World::start().await;
    let old = world.join("h1").await;
    let new = world.join("h1").await;
    let refused = Puppet::try_start(&world, &old, 1, Play::Whole, &Alive::default()).await.err().unwrap();
    assert!(
        matches!(&refused, WireError::Refused { refusal, .. } if refusal.code == RefusalCode::Revoked),
        "{refused}"
    );
    Puppet::start(&world, &new, 2, Play::Whole, &Alive::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_and_a_server_are_no_agents() {
    let world = World::start().await;
    let theirs = CertificateAuthority::create(ClusterId(9), now()).unwrap();
    let key = PrivateKey::generate().unwrap();
    let issued = theirs.issue_agent(&key.certificate_request().unwrap(), &name("h1"), now()).unwrap();
    let stranger = Identity::new(key, issued.certificate_pem, theirs.certificate_pem().to_owned()).unwrap();
    assert_ne!(CaHash::of(stranger.anchor().der()), world.made.ca_hash);
    let config = tanist_wire::tls::agent_client_config(
        tanist_wire::tls::LiveCertificate::new(&stranger),
        world.join("h2").await.anchor(),
    );
    type Refused = Result<tanist_wire::connect::Established<(), ()>, WireError>;
    let refused: Refused = tanist_wire::connect::connect(world.address(), config.unwrap(), now).await;
    assert!(matches!(refused, Err(WireError::Tls { .. })));
    let recorded = world.event(EventCode::ConnectionRefused).await;
    assert!(recorded.message.contains("authority"), "{}", recorded.message);

    let server = Identity::load(&world.dir().join("identity")).unwrap();
    let config =
        tanist_wire::tls::agent_client_config(tanist_wire::tls::LiveCertificate::new(&server), server.anchor());
    let refused: Refused = tanist_wire::connect::connect(world.address(), config.unwrap(), now).await;
    assert!(matches!(refused, Err(WireError::Refused { refusal, .. }) if refusal.code == RefusalCode::WrongRole));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_too_far_off_does_not_join() {
    let world = World::start().await;
    let token = world.token("h1").await;
    let csr_pem = PrivateKey::generate().unwrap().certificate_request().unwrap();
    let wall = now().plus(Duration::from_secs(600));
    let body = json!({ "token": token.token, "agent": "h1", "csr_pem": csr_pem, "wall": wall });
    let answer = world.request(Method::POST, "/api/v1/join").json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 403);
    assert!(answer.text().await.unwrap().contains("clocks"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused_with_its_time() {
    let secret = JoinSecret::generate().unwrap();
    let (hash, hour_ago) = (secret.hash(), Timestamp(now().0 - 3_600_000_000));
    let expired = JoinToken {
        hash: hash.clone(),
        agent: name("h1"),
        created_at: hour_ago,
        expires_at: hour_ago.plus(Duration::from_mins(15)),
        used_at: None,
        created_by: "admin".into(),
    };
    let (world, _) = World::start_in_memory(|state| drop(state.tokens.insert(hash, expired))).await;
    let (status, refusal) = world.try_join(secret.reveal(), None).await.unwrap_err();
    assert_eq!(status, 403);
    assert!(refusal.cause.unwrap().contains("expired at"));
}
