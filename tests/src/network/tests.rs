//! The network itself under test: cuts are silent, rough lines are as rough as they are told to be, and both heal.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::*;

/// Nobody listens there: a host that is reached says so, and one that is not says nothing.
fn reaches(network: &Network, from: &str, to: &str) -> bool {
    let mut command = network.command(from, "timeout");
    command.args(["0.5", "bash", "-c", &format!("exec 3<>/dev/tcp/{}/9", network.address(to))]);
    let output = command.output().expect("run bash");
    String::from_utf8_lossy(&output.stderr).contains("refused")
}

#[test]
fn a_cut_is_silent_and_heals() {
    let Some(network) = Network::or_skip("a_cut_is_silent_and_heals", &["a", "b", "c"]) else { return };
    assert!(reaches(&network, "a", "b") && reaches(&network, "b", "a"));
    network.cut_one_way("a", "b");
    assert!(!reaches(&network, "a", "b") && !reaches(&network, "b", "a") && reaches(&network, "a", "c"));
    network.heal("a", "b");
    assert!(reaches(&network, "a", "b"));
    network.isolate("a");
    assert!(!reaches(&network, "a", "c") && reaches(&network, "b", "c"));
    network.rejoin("a");
    assert!(reaches(&network, "a", "c"));
}

const PORT: u16 = 7;
/// Long enough for what was not lost, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(5);
/// A socket keeps a thousand datagrams that nobody reads yet: only the line may lose any.
const ALL_AT_ONCE: usize = 8 << 20;
/// Nothing comes any more after such a silence.
const SILENCE: Duration = Duration::from_millis(500);

/// A socket on a host. The thread that goes there to make it does not come back.
fn socket(network: &Network, host: &str) -> UdpSocket {
    let (namespace, address) = (network.namespace(host), network.address(host));
    let made = std::thread::spawn(move || {
        let file = std::fs::File::open(format!("/run/netns/{namespace}")).expect("open a namespace");
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind)).expect("go there");
        let socket = UdpSocket::bind(SocketAddr::from((address, PORT))).expect("bind a socket");
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, ALL_AT_ONCE).expect("size its buffer");
        socket
    });
    made.join().expect("a socket")
}

/// Sends numbers, and says which arrived in which order, and how long the first of them took.
fn send(network: &Network, [from, to]: [&str; 2], sockets: [&UdpSocket; 2], count: u32) -> (Vec<u32>, Duration) {
    let begun = Instant::now();
    for number in 0..count {
        sockets[0].send_to(&number.to_be_bytes(), (network.address(to), PORT)).expect("send");
    }
    let (mut arrived, mut first) = (Vec::new(), None);
    let mut buffer = [0; 4];
    sockets[1].set_read_timeout(Some(PATIENCE)).expect("set a limit");
    while arrived.len() < count as usize {
        let Ok((4, sender)) = sockets[1].recv_from(&mut buffer) else { break };
        assert_eq!(sender.ip(), network.address(from));
        first.get_or_insert_with(|| begun.elapsed());
        arrived.push(u32::from_be_bytes(buffer));
        sockets[1].set_read_timeout(Some(SILENCE)).expect("set a limit");
    }
    (arrived, first.unwrap_or(Duration::MAX))
}

struct Pair {
    network: Network,
    a: UdpSocket,
    b: UdpSocket,
}

impl Pair {
    fn or_skip(test: &str) -> Option<Self> {
        let network = Network::rough_or_skip(test, &["a", "b", "c"])?;
        let (a, b) = (socket(&network, "a"), socket(&network, "b"));
        Some(Self { network, a, b })
    }

    fn there(&self, count: u32) -> (Vec<u32>, Duration) {
        send(&self.network, ["a", "b"], [&self.a, &self.b], count)
    }

    fn back(&self, count: u32) -> (Vec<u32>, Duration) {
        send(&self.network, ["b", "a"], [&self.b, &self.a], count)
    }
}

#[test]
fn a_late_direction_is_late_and_the_other_is_not() {
    let Some(pair) = Pair::or_skip("a_late_direction_is_late_and_the_other_is_not") else { return };
    let delay = Duration::from_millis(700);
    pair.network.degrade("a", "b", Quality::late(delay));
    let (there, took) = pair.there(20);
    assert!(there == (0..20).collect::<Vec<u32>>() && took >= delay, "{there:?} after {took:?}");
    let (back, took) = pair.back(20);
    assert!(back.len() == 20 && took < delay, "{back:?} after {took:?}");
    pair.network.degrade("b", "a", Quality::late(delay));
    assert!(pair.back(1).1 >= delay);
    pair.network.degrade("b", "a", Quality::GOOD);
    assert!(pair.back(1).1 < delay && pair.there(1).1 >= delay, "one direction is restored by itself");
    pair.network.heal("a", "b");
    assert!(pair.there(1).1 < delay);
}

#[test]
fn a_lossy_direction_loses_its_part() {
    let Some(pair) = Pair::or_skip("a_lossy_direction_loses_its_part") else { return };
    pair.network.degrade("a", "b", Quality::lossy(300));
    let arrived = pair.there(1000).0.len();
    assert!((550..=850).contains(&arrived), "{arrived} of 1000");
    pair.network.degrade("a", "b", Quality::lossy(1000));
    assert!(pair.there(50).0.is_empty());
    assert!(reaches(&pair.network, "a", "c") && !reaches(&pair.network, "a", "b"));
    pair.network.heal("a", "b");
    assert_eq!(pair.there(50).0.len(), 50);
}

#[test]
fn jitter_changes_the_order_of_what_arrives() {
    let Some(pair) = Pair::or_skip("jitter_changes_the_order_of_what_arrives") else { return };
    pair.network.degrade("a", "b", Quality { jitter: Duration::from_millis(50), ..Quality::GOOD });
    let (mut arrived, _) = pair.there(200);
    assert!(arrived.len() == 200 && !arrived.is_sorted(), "{arrived:?}");
    arrived.sort_unstable();
    assert!(arrived == (0..200).collect::<Vec<u32>>(), "each once: {arrived:?}");
}

#[test]
fn a_cut_of_a_late_line_takes_what_is_on_it() {
    let Some(pair) = Pair::or_skip("a_cut_of_a_late_line_takes_what_is_on_it") else { return };
    pair.network.degrade("a", "b", Quality::late(Duration::from_millis(300)));
    pair.a.send_to(&[0; 4], (pair.network.address("b"), PORT)).expect("send");
    pair.network.cut_one_way("a", "b");
    pair.b.set_read_timeout(Some(SILENCE)).expect("set a limit");
    assert!(pair.b.recv_from(&mut [0; 4]).is_err(), "a cut is a cut");
    pair.network.heal("a", "b");
    assert_eq!(pair.there(5).0.len(), 5);
}

/// Large segments, which the sender's kernel leaves to the device to cut up: they have to be whole on the other side.
#[test]
fn a_stream_passes_a_rough_line_whole() {
    let Some(network) = Network::rough_or_skip("a_stream_passes_a_rough_line_whole", &["a", "b"]) else { return };
    let quality = Quality { delay: Duration::from_millis(2), jitter: Duration::from_millis(1), loss_per_mille: 5 };
    network.degrade_both("a", "b", quality);
    let script = format!("head -c 4000000 /dev/zero | tr '\\0' x >/dev/tcp/{}/{PORT}", network.address("b"));
    let namespace = network.namespace("b");
    let address = SocketAddr::from((network.address("b"), PORT));
    let heard = std::thread::spawn(move || {
        let file = std::fs::File::open(format!("/run/netns/{namespace}")).expect("open a namespace");
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(kind)).expect("go there");
        std::net::TcpListener::bind(address).expect("listen")
    });
    let listener = heard.join().expect("a listener");
    let mut sender = network.command("a", "bash").args(["-c", &script]).spawn().expect("run bash");
    let (mut stream, _) = listener.accept().expect("a connection");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut bytes).expect("read");
    assert!(sender.wait().expect("wait").success());
    assert!(bytes.len() == 4_000_000 && bytes.iter().all(|byte| *byte == b'x'), "{} bytes", bytes.len());
}
