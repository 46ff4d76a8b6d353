//! Data streams between agents over real sockets: both directions at once, cut from outside, and refused to whoever is no agent of
//! the cluster.

#[allow(dead_code, reason = "shared with the tests of links")]
mod world;

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use tanist_model::id::ClusterId;
use tanist_wire::ca::CertificateAuthority;
use tanist_wire::certificate::{IdentityMismatch, Role};
use tanist_wire::connect::{self, Incoming, WireError};
use tanist_wire::handshake::Admission;
use tanist_wire::identity::Identity;
use tanist_wire::refusal::RefusalCode;
use tanist_wire::socket;
use tanist_wire::stream::{self, DataStream, StreamParts};
use tanist_wire::tls::{self, LiveCertificate, Protocol};
use tanist_wire::tls_failure::TlsFailure;
use tokio::net::{TcpListener, TcpStream};
use world::{CLUSTER, Note, agent, authority, dialling_peer, listening, name, note, now, server};

/// More than the buffers of a loopback connection hold.
const MUCH: usize = 32 << 20;
/// Far below what the kernel's own limits would need, far above what a cut needs.
const AT_ONCE: Duration = Duration::from_secs(2);
const LONG: Duration = Duration::from_secs(30);

fn dialling_data(identity: &Identity, peer: &str) -> Arc<ClientConfig> {
    tls::data_client_config(LiveCertificate::new(identity), identity.anchor(), name(peer)).unwrap()
}

struct Port {
    listener: TcpListener,
    config: Arc<ServerConfig>,
}

impl Port {
    fn open(config: Arc<ServerConfig>) -> Self {
        Self { listener: socket::listen("127.0.0.1:0".parse().unwrap()).unwrap(), config }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    async fn accept(&self) -> Result<Incoming<TcpStream>, WireError> {
        let (stream, from) = self.listener.accept().await.unwrap();
        connect::accept(stream, &from.to_string(), Arc::clone(&self.config)).await
    }

    /// What both sides saw of one attempt.
    async fn meet(&self, client: Arc<ClientConfig>) -> (Result<DataStream, WireError>, Result<DataStream, WireError>) {
        let address = self.address();
        let accepted = async { self.accept().await?.into_data(&Admission::of_agents(CLUSTER)) };
        tokio::join!(stream::dial(&address, client), accepted)
    }
}

/// The stream from h1 to h2, as each has it.
async fn pair() -> (StreamParts, StreamParts) {
    let authority = authority();
    let port = Port::open(listening(&agent(&authority, "h2")));
    let (dialled, accepted) = port.meet(dialling_data(&agent(&authority, "h1"), "h2")).await;
    let (dialled, accepted) = (dialled.unwrap(), accepted.unwrap());
    assert_eq!(dialled.peer.agent(), Some(&name("h2")));
    assert_eq!(accepted.peer.agent(), Some(&name("h1")));
    (dialled.into_parts().unwrap(), accepted.into_parts().unwrap())
}

/// Bytes that tell their place.
fn pattern(seed: u8) -> Vec<u8> {
    (0..MUCH).map(|at| (at % 251) as u8 ^ (at >> 16) as u8 ^ seed).collect()
}

/// Writes in pieces of every kind of size, then ends.
fn write_all(mut writer: Box<dyn Write + Send>, bytes: Vec<u8>) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut rest, sizes) = (bytes.as_slice(), [1, 40, 4096, 70_000, 256 << 10, 1 << 20, (1 << 20) + 7]);
        for size in sizes.into_iter().cycle() {
            let (piece, more) = rest.split_at(size.min(rest.len()));
            writer.write_all(piece).unwrap();
            rest = more;
            if rest.is_empty() {
                break;
            }
        }
        writer.flush().unwrap();
    })
}

fn read_to_end(mut reader: Box<dyn Read + Send>) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

#[tokio::test]
async fn many_bytes_both_ways_at_once_and_a_clean_end() {
    let (near, far) = pair().await;
    let writers = [write_all(near.writer, pattern(1)), write_all(far.writer, pattern(2))];
    let (at_far, at_near) = (read_to_end(far.reader), read_to_end(near.reader));
    assert!(at_far.join().unwrap() == pattern(1));
    assert!(at_near.join().unwrap() == pattern(2));
    for writer in writers {
        writer.join().unwrap();
    }
}

#[tokio::test]
async fn a_waiting_read_holds_up_no_write() {
    let (mut near, mut far) = pair().await;
    let waiting = thread::spawn(move || {
        let mut answer = [0; 4];
        near.reader.read_exact(&mut answer).unwrap();
        answer
    });
    // The answer comes only after all of this has arrived, so that the read above waits all the while.
    let writer = write_all(near.writer, pattern(3));
    let mut arrived = vec![0; MUCH];
    far.reader.read_exact(&mut arrived).unwrap();
    assert!(arrived == pattern(3));
    far.writer.write_all(b"done").unwrap();
    far.writer.flush().unwrap();
    assert_eq!(&waiting.join().unwrap(), b"done");
    writer.join().unwrap();
}

#[tokio::test]
async fn what_is_flushed_arrives_before_anything_else_is_written() {
    let (mut near, mut far) = pair().await;
    for round in 0..100_u8 {
        near.writer.write_all(&[round; 17]).unwrap();
        near.writer.flush().unwrap();
        let mut arrived = [0; 17];
        far.reader.read_exact(&mut arrived).unwrap();
        assert_eq!(arrived, [round; 17]);
        std::mem::swap(&mut near, &mut far);
    }
}

#[tokio::test]
async fn what_was_not_flushed_is_a_stream_cut_off_and_no_end() {
    let (mut near, mut far) = pair().await;
    near.writer.write_all(b"flushed").unwrap();
    near.writer.flush().unwrap();
    near.writer.write_all(b"lost").unwrap();
    drop(near.writer);
    let mut arrived = Vec::new();
    let error = far.reader.read_to_end(&mut arrived).unwrap_err();
    assert_eq!((error.kind(), arrived.as_slice()), (std::io::ErrorKind::UnexpectedEof, b"flushed".as_slice()));
}

/// Writes until that fails, and tells of each write.
fn write_for_ever(mut writer: Box<dyn Write + Send>) -> (JoinHandle<std::io::Error>, mpsc::Receiver<()>) {
    let (tell, told) = mpsc::channel();
    let writing = thread::spawn(move || {
        loop {
            if let Err(error) = writer.write_all(&[7; 1 << 20]) {
                return error;
            }
            let _ = tell.send(());
        }
    });
    (writing, told)
}

/// Waits until nothing more goes into a stream that nobody reads.
fn until_blocked(told: &mpsc::Receiver<()>) {
    while told.recv_timeout(Duration::from_millis(300)).is_ok() {}
}

fn ended_within<T: Send + 'static>(work: JoinHandle<T>, limit: Duration) -> T {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(work.join().unwrap()));
    told.recv_timeout(limit).unwrap()
}

#[tokio::test]
async fn a_cut_from_another_thread_ends_reads_and_writes_on_both_sides_at_once() {
    let (mut near, mut far) = pair().await;
    let read = thread::spawn(move || near.reader.read(&mut [0; 16]).unwrap_err());
    let (write, told) = write_for_ever(near.writer);
    until_blocked(&told);
    assert!(!read.is_finished() && !write.is_finished());
    let shutdown = near.shutdown;
    thread::spawn(move || shutdown());
    let read = ended_within(read, AT_ONCE);
    assert_eq!(read.kind(), std::io::ErrorKind::UnexpectedEof, "{read}");
    let write = ended_within(write, AT_ONCE);
    assert_eq!(write.kind(), std::io::ErrorKind::BrokenPipe, "{write}");

    let other = thread::spawn(move || std::io::copy(&mut far.reader, &mut std::io::sink()).unwrap_err());
    ended_within(other, LONG);
    // Whoever cuts later, and again, does no harm.
    (far.shutdown)();
    (far.shutdown)();
}

#[tokio::test]
async fn the_way_to_cut_a_stream_does_not_keep_it_open() {
    let (near, mut far) = pair().await;
    let StreamParts { reader, writer, shutdown } = near;
    drop((reader, writer));
    assert_eq!(far.reader.read(&mut [0; 16]).unwrap(), 0);
    let (write, _told) = write_for_ever(far.writer);
    // Nobody is left to read: what comes is discarded for a moment, and then the kernel says so.
    ended_within(write, LONG);
    shutdown();
}

#[tokio::test]
async fn what_was_flushed_arrives_though_its_sender_left_without_reading() {
    let (near, mut far) = pair().await;
    // Never read: a socket that is closed over it would reset the connection.
    far.writer.write_all(b"an acknowledgement").unwrap();
    far.writer.flush().unwrap();
    drop(near.reader);
    let writer = write_all(near.writer, pattern(5));
    let mut first = vec![0; MUCH / 2];
    far.reader.read_exact(&mut first).unwrap();
    let rest = read_to_end(far.reader);
    writer.join().unwrap();
    assert!([first, rest.join().unwrap()].concat() == pattern(5));
}

#[tokio::test]
async fn a_holder_that_does_not_read_for_a_while_keeps_its_stream() {
    let (near, mut far) = pair().await;
    let patience = socket::DATA_RECEIVER.user_timeout;
    let (write, told) = write_for_ever(near.writer);
    until_blocked(&told);
    // Longer than after which the other direction would be given up.
    let blocked = Instant::now();
    assert_eq!(told.recv_timeout(patience + AT_ONCE), Err(RecvTimeoutError::Timeout));
    assert!(blocked.elapsed() > patience && !write.is_finished());
    let mut arrived = vec![0; MUCH];
    far.reader.read_exact(&mut arrived).unwrap();
    assert!(arrived.iter().all(|byte| *byte == 7));
    (near.shutdown)();
    ended_within(write, AT_ONCE);
}

#[tokio::test]
async fn pings_and_data_go_to_the_same_port() {
    let authority = authority();
    let port = Port::open(listening(&agent(&authority, "h2")));
    let reader = agent(&authority, "h1");
    let address = port.address();
    let ping = connect::connect::<Note, Note>(&address, dialling_peer(&reader, "h2"), now);
    let answer = async {
        let incoming = port.accept().await.unwrap();
        assert_eq!(incoming.protocol(), Protocol::Peer);
        let knock = incoming.knock().await.unwrap();
        knock.admit::<Note, Note>(&Admission::of_agents(CLUSTER), now(), |_| Ok(())).await
    };
    let (pinger, ponger) = tokio::join!(ping, answer);
    let (mut pinger, mut ponger) = (pinger.unwrap().connection, ponger.unwrap().connection);

    let data = tokio::join!(stream::dial(&address, dialling_data(&reader, "h2")), port.accept());
    let (dialled, incoming) = (data.0.unwrap(), data.1.unwrap());
    assert_eq!(incoming.protocol(), Protocol::Data);
    let accepted = incoming.into_data(&Admission::of_agents(CLUSTER)).unwrap();
    let (dialled, accepted) = (dialled.into_parts().unwrap(), accepted.into_parts().unwrap());
    let writer = write_all(dialled.writer, pattern(4));
    let arriving = read_to_end(accepted.reader);

    pinger.send(&note("ping")).await.unwrap();
    assert_eq!(ponger.recv().await.unwrap(), Some(note("ping")));
    writer.join().unwrap();
    assert!(arriving.join().unwrap() == pattern(4));
}

#[tokio::test]
async fn a_ping_is_no_data_stream() {
    let authority = authority();
    let port = Port::open(listening(&agent(&authority, "h2")));
    let (dialled, accepted) = port.meet(dialling_peer(&agent(&authority, "h1"), "h2")).await;
    assert_eq!(tls_failure(dialled), TlsFailure::NoCommonProtocol);
    assert_eq!(tls_failure(accepted), TlsFailure::NoCommonProtocol);
}

fn tls_failure(outcome: Result<DataStream, WireError>) -> TlsFailure {
    match outcome {
        Err(WireError::Tls { failure, .. }) => failure,
        other => panic!("{other:?}"),
    }
}

fn refusal(outcome: Result<DataStream, WireError>) -> RefusalCode {
    match outcome {
        Err(WireError::TurnedAway { refusal, .. }) => refusal.code,
        other => panic!("{other:?}"),
    }
}

/// The dialling side is not told in words: its first read fails or ends.
fn assert_leads_nowhere(dialled: Result<DataStream, WireError>) {
    let Ok(stream) = dialled else { return };
    let mut parts = stream.into_parts().unwrap();
    let read = thread::spawn(move || parts.reader.read(&mut [0; 16]));
    assert!(!matches!(ended_within(read, LONG), Ok(1..)));
}

#[tokio::test]
async fn another_agent_at_that_address_is_refused() {
    let authority = authority();
    let port = Port::open(listening(&agent(&authority, "h2")));
    let (dialled, accepted) = port.meet(dialling_data(&agent(&authority, "h1"), "h3")).await;
    let mismatch = IdentityMismatch::Agent { expected: name("h3"), found: name("h2") };
    assert_eq!(tls_failure(dialled), TlsFailure::Mismatch(mismatch));
    assert!(matches!(tls_failure(accepted), TlsFailure::RefusedByPeer(_)));
}

#[tokio::test]
async fn a_server_neither_opens_data_streams_nor_answers_them() {
    let authority = authority();
    let port = Port::open(listening(&server(&authority)));
    let (dialled, _) = port.meet(dialling_data(&agent(&authority, "h1"), "control")).await;
    let TlsFailure::Mismatch(IdentityMismatch::Role { found, .. }) = tls_failure(dialled) else { panic!() };
    assert_eq!(found, Role::Server("control".into()));

    let port = Port::open(listening(&agent(&authority, "h2")));
    let (dialled, accepted) = port.meet(dialling_data(&server(&authority), "h2")).await;
    assert_eq!(refusal(accepted), RefusalCode::WrongRole);
    assert_leads_nowhere(dialled);
}

#[tokio::test]
async fn another_cluster_is_refused() {
    let stranger = CertificateAuthority::create(ClusterId(1), now()).unwrap();
    let port = Port::open(listening(&agent(&authority(), "h2")));
    let (dialled, accepted) = port.meet(dialling_data(&agent(&stranger, "h1"), "h2")).await;
    assert_eq!(tls_failure(dialled), TlsFailure::ForeignAuthority);
    assert!(matches!(tls_failure(accepted), TlsFailure::RefusedByPeer(_)));
}

#[tokio::test]
async fn a_reader_of_another_cluster_that_knows_our_authority_is_refused() {
    let (authority, stranger) = (authority(), CertificateAuthority::create(ClusterId(1), now()).unwrap());
    let port = Port::open(listening(&agent(&authority, "h2")));
    let mut config = (*dialling_data(&agent(&authority, "h1"), "h2")).clone();
    config.client_auth_cert_resolver =
        Arc::clone(&dialling_data(&agent(&stranger, "h1"), "h2").client_auth_cert_resolver);
    let (dialled, accepted) = port.meet(Arc::new(config)).await;
    assert_eq!(tls_failure(accepted), TlsFailure::ForeignAuthority);
    assert_leads_nowhere(dialled);
}

#[tokio::test]
async fn a_port_that_expects_another_cluster_is_told_of_the_difference() {
    let authority = authority();
    let port = Port::open(listening(&agent(&authority, "h2")));
    let address = port.address();
    let met = tokio::join!(stream::dial(&address, dialling_data(&agent(&authority, "h1"), "h2")), port.accept());
    let accepted = met.1.unwrap().into_data(&Admission::of_agents(ClusterId(1)));
    assert_eq!(refusal(accepted), RefusalCode::WrongCluster);
    assert_leads_nowhere(met.0);
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let authority = authority();
    let port = Port::open(listening(&agent(&authority, "h2")));
    let expired = world::agent_since(&authority, "h1", world::ago(world::days(91)));
    let (dialled, accepted) = port.meet(dialling_data(&expired, "h2")).await;
    assert!(matches!(tls_failure(accepted), TlsFailure::Expired { .. }));
    assert_leads_nowhere(dialled);
}

#[derive(Debug)]
struct Nobody;

impl ResolvesClientCert for Nobody {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[tokio::test]
async fn without_a_certificate_there_is_no_stream() {
    let authority = authority();
    let port = Port::open(listening(&agent(&authority, "h2")));
    let mut config = (*dialling_data(&agent(&authority, "h1"), "h2")).clone();
    config.client_auth_cert_resolver = Arc::new(Nobody);
    let (dialled, accepted) = port.meet(Arc::new(config)).await;
    assert_eq!(tls_failure(accepted), TlsFailure::NoCertificate);
    assert_leads_nowhere(dialled);
}
