//! Who gets a connection and who does not, with the reason each side is given.

mod world;

use std::sync::Arc;
use std::time::Duration;

use tanist_model::id::ClusterId;
use tanist_wire::ca::CertificateAuthority;
use tanist_wire::certificate::{CaHash, IdentityMismatch, Role};
use tanist_wire::connect::{self, Step, WireError};
use tanist_wire::frame::FrameError;
use tanist_wire::handshake::{Admission, ClientPreamble, VERSION, Version, VersionRange};
use tanist_wire::refusal::{Refusal, RefusalCode};
use tanist_wire::socket;
use tanist_wire::tls::{self, LiveCertificate, Protocol};
use tanist_wire::tls_failure::{PeerVerdict, TlsFailure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use world::{
    CLUSTER, Met, Note, Outcome, agent, agent_since, ago, authority, days, dialling, dialling_peer, listening, meet,
    meet_saying, name, note, now, server, server_since, serving, stream,
};

fn tls_failure(outcome: Outcome) -> TlsFailure {
    match outcome {
        Err(WireError::Tls { failure, .. }) => failure,
        other => panic!("{other:?}"),
    }
}

async fn exchange(met: Met) {
    let (mut dialled, mut accepted) = (met.dialled.unwrap(), met.accepted.unwrap());
    assert_eq!((dialled.version, accepted.version), (VERSION, VERSION));
    dialled.connection.send(&note("there")).await.unwrap();
    assert_eq!(accepted.connection.recv().await.unwrap(), Some(note("there")));
    accepted.connection.send(&note("and back")).await.unwrap();
    assert_eq!(dialled.connection.recv().await.unwrap(), Some(note("and back")));
    dialled.connection.close().await.unwrap();
    assert!(accepted.connection.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn an_agent_and_its_server_speak_in_both_directions() {
    let authority = authority();
    let met = meet(dialling(&agent(&authority, "h1")), serving(&server(&authority))).await;
    assert_eq!(met.dialled.as_ref().unwrap().peer.role, Role::Server("control".into()));
    assert_eq!(met.accepted.as_ref().unwrap().peer.agent(), Some(&name("h1")));
    exchange(met).await;
}

#[tokio::test]
async fn two_agents_speak_in_both_directions() {
    let authority = authority();
    let met = meet(dialling_peer(&agent(&authority, "h1"), "h2"), listening(&agent(&authority, "h2"))).await;
    assert_eq!(met.dialled.as_ref().unwrap().peer.agent(), Some(&name("h2")));
    assert_eq!(met.accepted.as_ref().unwrap().peer.agent(), Some(&name("h1")));
    exchange(met).await;
}

#[tokio::test]
async fn a_real_socket_carries_it_too() {
    let authority = authority();
    let listener = socket::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let client = dialling(&agent(&authority, "h1"));
    let config = serving(&server(&authority));
    let accepted = async {
        let (stream, from) = listener.accept().await.unwrap();
        socket::tune(&stream).unwrap();
        let incoming = connect::accept(stream, &from.to_string(), config).await?;
        assert_eq!(incoming.protocol(), Protocol::Control);
        incoming.knock().await?.admit(&Admission::of_agents(CLUSTER), now(), |_| Ok(())).await
    };
    let (dialled, accepted) = tokio::join!(connect::connect::<Note, Note>(&address, client, now), accepted);
    exchange(Met { dialled, accepted }).await;
}

#[tokio::test]
async fn nobody_listens() {
    let listener = socket::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let client = dialling(&agent(&authority(), "h1"));
    let error = connect::connect::<Note, Note>(&address, client, now).await.unwrap_err();
    assert!(matches!(error, WireError::Dial { .. }), "{error}");
    assert!(error.retry_helps() && error.hint().contains("running"));
}

#[tokio::test]
async fn an_agent_of_another_authority_is_told_so_over_a_real_socket() {
    let (ours, theirs) = (authority(), CertificateAuthority::create(ClusterId(0x0b), now()).unwrap());
    let stranger = LiveCertificate::new(&agent(&theirs, "h1"));
    let client = tls::agent_client_config(stranger, ours.anchor()).unwrap();
    let config = serving(&server(&ours));
    let listener = socket::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let accepted = async {
        let (stream, _) = listener.accept().await.unwrap();
        connect::accept(stream, "client", config).await
    };
    let (dialled, accepted) = tokio::join!(connect::connect::<Note, Note>(&address, client, now), accepted);
    assert_eq!(tls_failure(dialled), TlsFailure::RefusedByPeer(PeerVerdict::ForeignAuthority));
    assert!(matches!(accepted, Err(WireError::Tls { failure: TlsFailure::ForeignAuthority, .. })));
}

#[tokio::test]
async fn what_a_refused_client_still_sends_is_read_so_that_it_learns_why() {
    let (ours, theirs) = (authority(), CertificateAuthority::create(ClusterId(0x0b), now()).unwrap());
    let client = tls::agent_client_config(LiveCertificate::new(&agent(&theirs, "h1")), ours.anchor()).unwrap();
    let (near, far) = tokio::io::duplex(4 << 10);
    let dialled = async {
        let mut stream = connect::secure(near, "server", client).await.unwrap();
        stream.write_all(&[0; 32 << 10]).await.unwrap();
        stream.flush().await.unwrap();
        stream.read_u8().await.unwrap_err()
    };
    let (error, accepted) = tokio::join!(dialled, connect::accept(far, "client", serving(&server(&ours))));
    assert_eq!(TlsFailure::in_io(&error), Some(TlsFailure::RefusedByPeer(PeerVerdict::ForeignAuthority)));
    assert!(accepted.is_err());
}

#[tokio::test]
async fn an_authority_of_the_same_name_with_another_key_is_foreign() {
    let (ours, forged) = (authority(), authority());
    let stranger = LiveCertificate::new(&agent(&forged, "h1"));
    let client = tls::agent_client_config(stranger, ours.anchor()).unwrap();
    let met = meet(client, serving(&server(&ours))).await;
    assert_eq!(tls_failure(met.dialled), TlsFailure::RefusedByPeer(PeerVerdict::ForeignAuthority));
    assert_eq!(tls_failure(met.accepted), TlsFailure::ForeignAuthority);
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_spoken_to() {
    let theirs = CertificateAuthority::create(ClusterId(0x0b), now()).unwrap();
    let met = meet(dialling(&agent(&authority(), "h1")), serving(&server(&theirs))).await;
    assert_eq!(tls_failure(met.dialled), TlsFailure::ForeignAuthority);
    assert_eq!(tls_failure(met.accepted), TlsFailure::RefusedByPeer(PeerVerdict::ForeignAuthority));
}

#[tokio::test]
async fn an_expired_agent_is_refused() {
    let authority = authority();
    let met = meet(dialling(&agent_since(&authority, "h1", ago(days(91)))), serving(&server(&authority))).await;
    assert_eq!(tls_failure(met.dialled), TlsFailure::RefusedByPeer(PeerVerdict::Expired));
    assert!(matches!(tls_failure(met.accepted), TlsFailure::Expired { not_after, now } if not_after < now));
}

#[tokio::test]
async fn an_expired_server_is_not_spoken_to() {
    let authority = authority();
    let met = meet(dialling(&agent(&authority, "h1")), serving(&server_since(&authority, ago(days(91))))).await;
    assert!(matches!(tls_failure(met.dialled), TlsFailure::Expired { .. }));
}

#[tokio::test]
async fn a_certificate_of_the_future_is_refused() {
    let authority = authority();
    let future = now().plus(days(1));
    let met = meet(dialling(&agent_since(&authority, "h1", future)), serving(&server(&authority))).await;
    assert!(matches!(tls_failure(met.accepted), TlsFailure::NotYetValid { not_before, now } if not_before > now));
}

#[tokio::test]
async fn an_agent_cannot_pass_for_the_server() {
    let authority = authority();
    let met = meet(dialling(&agent(&authority, "h1")), serving(&agent(&authority, "h2"))).await;
    let failure = tls_failure(met.dialled);
    assert!(matches!(failure, TlsFailure::Mismatch(IdentityMismatch::Role { .. })), "{failure}");
    assert_eq!(tls_failure(met.accepted), TlsFailure::RefusedByPeer(PeerVerdict::Unexpected));
}

#[tokio::test]
async fn a_server_is_no_agent() {
    let authority = authority();
    let met = meet(dialling(&server(&authority)), serving(&server(&authority))).await;
    assert_eq!(met.refusal().code, RefusalCode::WrongRole);
    let met = meet(dialling_peer(&server(&authority), "h2"), listening(&agent(&authority, "h2"))).await;
    assert_eq!(met.refusal().code, RefusalCode::WrongRole);
}

#[tokio::test]
async fn a_peer_link_goes_to_the_named_agent_only() {
    let authority = authority();
    let met = meet(dialling_peer(&agent(&authority, "h1"), "h2"), listening(&agent(&authority, "h3"))).await;
    let expected = IdentityMismatch::Agent { expected: name("h2"), found: name("h3") };
    assert_eq!(tls_failure(met.dialled), TlsFailure::Mismatch(expected));
}

/// One key that signs for two clusters is a misuse that the authority alone would not stop.
fn same_key_for_another_cluster(ours: &CertificateAuthority) -> CertificateAuthority {
    let folder = tempfile::tempdir().unwrap();
    ours.save(folder.path()).unwrap();
    let key_pem = std::fs::read_to_string(folder.path().join("ca-key.pem")).unwrap();
    let key = rcgen::KeyPair::from_pem(&key_pem).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(ours.certificate_pem(), &key).unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, "tanist");
    params.distinguished_name.push(rcgen::DnType::CommonName, format!("authority of {CLUSTER}"));
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    let other = format!("tanist://{}/authority", ClusterId(0x0b));
    params.subject_alt_names = vec![rcgen::SanType::URI(other.try_into().unwrap())];
    let certificate_pem = params.signed_by(&key, &issuer).unwrap().pem();
    CertificateAuthority::from_pem(&certificate_pem, &key_pem).unwrap()
}

#[tokio::test]
async fn a_genuine_certificate_of_another_cluster_is_refused_on_both_sides() {
    let ours = authority();
    let theirs = same_key_for_another_cluster(&ours);
    let stranger = LiveCertificate::new(&agent(&theirs, "h1"));
    let client = tls::agent_client_config(stranger, ours.anchor()).unwrap();
    assert_eq!(meet(client, serving(&server(&ours))).await.refusal().code, RefusalCode::WrongCluster);

    let met = meet(dialling(&agent(&ours, "h1")), serving(&server(&theirs))).await;
    assert!(matches!(tls_failure(met.dialled), TlsFailure::Mismatch(IdentityMismatch::Cluster { .. })));
}

#[tokio::test]
async fn an_unknown_version_and_a_clock_far_off_are_refused() {
    let authority = authority();
    let (client, config) = (dialling(&agent(&authority, "h1")), serving(&server(&authority)));
    let versions = VersionRange { oldest: Version(7), newest: Version(8) };
    let preamble = ClientPreamble { versions, ..ClientPreamble::new(now()) };
    let met = meet_saying(Arc::clone(&client), Arc::clone(&config), preamble, |_| Ok(())).await;
    let refusal = met.refusal();
    assert_eq!(refusal.code, RefusalCode::UnknownVersion);
    assert!(refusal.message.contains("7 to 8"), "{refusal}");

    let preamble = ClientPreamble::new(ago(Duration::from_secs(600)));
    let met = meet_saying(client, config, preamble, |_| Ok(())).await;
    assert_eq!(met.refusal().code, RefusalCode::ClockTooFar);
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_with_the_line_to_type() {
    let authority = authority();
    let h1 = agent(&authority, "h1");
    let revoked = h1.holder().serial_hex.clone();
    let welcome = |peer: &tanist_wire::certificate::PeerIdentity| match peer.agent() {
        Some(agent) if peer.serial_hex == revoked => Err(Refusal::revoked(agent, &peer.serial_hex)),
        _ => Ok(()),
    };
    let met = meet_saying(dialling(&h1), serving(&server(&authority)), ClientPreamble::new(now()), welcome).await;
    let refusal = met.refusal();
    assert_eq!(refusal.code, RefusalCode::Revoked);
    assert!(refusal.hint.contains("token create h1") && !refusal.code.retry_helps());
}

#[tokio::test]
async fn control_needs_a_certificate_and_the_api_does_not() {
    let authority = authority();
    let mut without = (*tls::api_client_config(authority.anchor()).unwrap()).clone();
    let api = Arc::new(without.clone());
    without.alpn_protocols = vec![Protocol::Control.alpn().to_vec()];
    let config = serving(&server(&authority));
    let met = meet(Arc::new(without), Arc::clone(&config)).await;
    assert_eq!(met.refusal().code, RefusalCode::NoCertificate);

    let (near, far) = stream();
    let (client, incoming) = tokio::join!(connect::secure(near, "server", api), connect::accept(far, "client", config));
    let incoming = incoming.unwrap();
    assert_eq!((incoming.protocol(), incoming.peer()), (Protocol::Http, None));
    let mut answering = incoming.into_stream();
    answering.write_all(b"hello").await.unwrap();
    answering.shutdown().await.unwrap();
    let mut client = client.unwrap();
    let suite = client.get_ref().1.negotiated_cipher_suite().unwrap();
    assert_eq!(suite.suite(), rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    let mut text = String::new();
    client.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hello");
}

#[tokio::test]
async fn a_peer_port_demands_a_certificate() {
    let authority = authority();
    let mut without = (*tls::api_client_config(authority.anchor()).unwrap()).clone();
    without.alpn_protocols = vec![Protocol::Peer.alpn().to_vec()];
    let met = meet(Arc::new(without), listening(&server(&authority))).await;
    assert_eq!(tls_failure(met.accepted), TlsFailure::NoCertificate);
    assert_eq!(tls_failure(met.dialled), TlsFailure::RefusedByPeer(PeerVerdict::NoCertificate));
}

#[tokio::test]
async fn tls_1_2_is_not_spoken() {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let old = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let met = meet(Arc::new(old), serving(&server(&authority()))).await;
    let failure = tls_failure(met.accepted);
    assert!(matches!(failure, TlsFailure::Other(rustls::Error::PeerIncompatible(_))), "{failure}");
}

#[tokio::test]
async fn the_wrong_port_is_recognised() {
    let authority = authority();
    let met = meet(dialling(&agent(&authority, "h1")), listening(&agent(&authority, "h2"))).await;
    assert_eq!(tls_failure(met.accepted), TlsFailure::NoCommonProtocol);
    assert_eq!(tls_failure(met.dialled), TlsFailure::NoCommonProtocol);
}

#[tokio::test]
async fn a_port_without_tls_is_recognised() {
    let (near, mut far) = stream();
    far.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    let error = connect::secure(near, "server", dialling(&agent(&authority(), "h1"))).await.unwrap_err();
    assert!(matches!(error, WireError::Tls { failure: TlsFailure::NotTls, .. }), "{error}");
}

async fn pinned(ca_hash: CaHash, serving: Arc<rustls::ServerConfig>) -> Result<(), WireError> {
    let (near, far) = stream();
    let client = connect::secure(near, "server", tls::pinned_client_config(ca_hash).unwrap());
    let (dialled, _) = tokio::join!(client, connect::accept(far, "client", serving));
    dialled.map(|_| ())
}

#[tokio::test]
async fn a_host_that_knows_only_the_hash_recognises_its_server() {
    let authority = authority();
    pinned(authority.ca_hash(), serving(&server(&authority))).await.unwrap();

    let wrong = CaHash::of(b"another");
    let Err(WireError::Tls { failure, .. }) = pinned(wrong, serving(&server(&authority))).await else { panic!() };
    assert_eq!(failure, TlsFailure::Pin { expected: wrong });
    assert!(failure.hint().contains("--ca-hash"));

    let Err(WireError::Tls { failure, .. }) = pinned(authority.ca_hash(), serving(&agent(&authority, "h1"))).await
    else {
        panic!()
    };
    assert!(matches!(failure, TlsFailure::Mismatch(IdentityMismatch::Role { .. })), "{failure}");
}

/// Shows whatever chain it was given, as an impostor would.
#[derive(Debug)]
struct Impostor(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Impostor {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

#[tokio::test]
async fn showing_the_right_authority_beside_a_leaf_of_another_does_not_help() {
    let (ours, forged) = (authority(), authority());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    let leaf = forged.issue_agent(&request, &name("h1"), now()).unwrap();
    let pem = |text: &str| rustls_pki_types::pem::PemObject::from_pem_slice(text.as_bytes()).unwrap();
    let chain: Vec<rustls_pki_types::CertificateDer<'static>> =
        vec![pem(&leaf.certificate_pem), ours.anchor().der().clone()];
    let private = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let shown = rustls::sign::CertifiedKey::from_der(chain, private, &provider).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Impostor(Arc::new(shown))));
    let Err(WireError::Tls { failure, .. }) = pinned(ours.ca_hash(), Arc::new(config)).await else { panic!() };
    assert_eq!(failure, TlsFailure::ForeignAuthority);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let authority = authority();
    let first = agent(&authority, "h1");
    let live = LiveCertificate::new(&first);
    let client = tls::agent_client_config(Arc::clone(&live), authority.anchor()).unwrap();
    let config = serving(&server(&authority));
    let serial = |met: Met| met.accepted.unwrap().peer.serial_hex;
    assert_eq!(serial(meet(Arc::clone(&client), Arc::clone(&config)).await), first.holder().serial_hex);

    let request = first.key().certificate_request().unwrap();
    let issued = authority.issue_agent(&request, &name("h1"), now()).unwrap();
    live.replace(&first.renewed(issued.certificate_pem, now()).unwrap());
    assert_eq!(serial(meet(client, config).await), issued.serial_hex);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_says_nothing_loses_its_place() {
    let started = tokio::time::Instant::now();
    let (_silent, far) = stream();
    let error = connect::accept(far, "client", serving(&server(&authority()))).await.unwrap_err();
    assert!(matches!(error, WireError::Timeout { step: Step::Tls, .. }), "{error}");
    assert_eq!(started.elapsed(), connect::STEP_LIMIT);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_silent_after_tls_loses_its_place() {
    let authority = authority();
    let (near, far) = stream();
    let client = connect::secure(near, "server", dialling(&agent(&authority, "h1")));
    let knock = async { connect::accept(far, "client", serving(&server(&authority))).await.unwrap().knock().await };
    let (_silent, knock) = tokio::join!(client, knock);
    let error = knock.unwrap_err();
    assert!(matches!(error, WireError::Timeout { step: Step::Preamble, .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_silent_after_tls_is_given_up() {
    let authority = authority();
    let (near, far) = stream();
    let client = async {
        let stream = connect::secure(near, "server", dialling(&agent(&authority, "h1"))).await?;
        connect::greet::<Note, Note, _>(stream, "server", &ClientPreamble::new(now())).await
    };
    let (dialled, _silent) = tokio::join!(client, connect::accept(far, "client", serving(&server(&authority))));
    assert!(matches!(dialled, Err(WireError::Timeout { step: Step::Answer, .. })));
}

#[tokio::test]
async fn a_process_that_dies_is_noticed() {
    let authority = authority();
    let met = meet(dialling(&agent(&authority, "h1")), serving(&server(&authority))).await;
    drop(met.dialled);
    let error = met.accepted.unwrap().connection.recv().await.unwrap_err();
    assert!(matches!(&error, FrameError::Io(cause) if cause.kind() == std::io::ErrorKind::UnexpectedEof), "{error}");
}

/// What a server makes of these bytes in place of a first message.
async fn first_bytes(bytes: &[u8]) -> WireError {
    let authority = authority();
    let (near, far) = stream();
    let client = async {
        let mut stream = connect::secure(near, "server", dialling(&agent(&authority, "h1"))).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        stream
    };
    let knock = async { connect::accept(far, "client", serving(&server(&authority))).await.unwrap().knock().await };
    tokio::join!(client, knock).1.unwrap_err()
}

#[tokio::test]
async fn a_bad_first_message_is_a_typed_error() {
    let frame_error = |error: WireError| match error {
        WireError::Frame { source, .. } => source,
        other => panic!("{other}"),
    };
    let oversized = frame_error(first_bytes(&[0, 1, 0, 0]).await);
    assert!(matches!(oversized, FrameError::TooLarge { length: 0x1_0000, .. }), "{oversized}");
    let garbage = frame_error(first_bytes(b"\0\0\0\x03{]}").await);
    assert!(matches!(garbage, FrameError::Unparsable { length: 3, .. }), "{garbage}");
    let truncated = frame_error(first_bytes(b"\0\0\0\x20{").await);
    assert!(matches!(truncated, FrameError::Truncated { received: 5 }), "{truncated}");
    assert!(matches!(first_bytes(b"").await, WireError::Closed { step: Step::Preamble, .. }));
}
