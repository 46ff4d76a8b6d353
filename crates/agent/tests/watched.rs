//! What a service manager sees of an agent: that it is ready without a server, that its loop lives, and that a loop which hangs falls
//! silent although the other threads of the process are well.

use std::future::poll_fn;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tanist_agent::AgentConfig;
use tanist_model::id::{AgentName, ClusterId};
use tanist_model::time::Timestamp;
use tanist_wire::ca::CertificateAuthority;
use tanist_wire::identity::{Identity, PrivateKey};
use tanist_wire::service_manager::ServiceManager;

const WATCHDOG: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

fn join(folder: &Path) {
    let now = Timestamp(0).plus(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap());
    let authority = CertificateAuthority::create(ClusterId(7), now).unwrap();
    let key = PrivateKey::generate().unwrap();
    let name = AgentName::new("h1").unwrap();
    let issued = authority.issue_agent(&key.certificate_request().unwrap(), &name, now).unwrap();
    let identity = Identity::new(key, issued.certificate_pem, authority.certificate_pem().to_owned()).unwrap();
    identity.save(folder).unwrap();
    // Nobody listens on the server's port.
    let (server, listen) = ("127.0.0.1:1".to_owned(), "127.0.0.1:0".parse().unwrap());
    AgentConfig {
        server,
        listen,
        advertise: None,
        recording_limit_bytes: 0,
        storage: Vec::new(),
        application: Vec::new(),
    }
    .save(folder)
    .unwrap();
}

fn next_word(socket: &UnixDatagram, limit: Duration) -> Option<String> {
    let mut buffer = [0; 256];
    socket.set_read_timeout(Some(limit)).unwrap();
    let length = socket.recv(&mut buffer).ok()?;
    Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
}

fn wait_for(socket: &UnixDatagram, word: &str) {
    let heard = (0..100).map_while(|_| next_word(socket, PATIENCE)).find(|heard| heard == word);
    assert!(heard.is_some(), "{word} was never said");
}

/// Runs an agent on a thread of its own. Its loop looks at every turn whether it should hang (until the sender that came with the
/// order is gone), or leave.
enum Order {
    Hang(mpsc::Receiver<()>),
    Leave,
}

fn start(folder: &Path, manager: ServiceManager) -> (mpsc::Sender<Order>, std::thread::JoinHandle<()>) {
    let folder = folder.to_owned();
    let (orders, ordered) = mpsc::channel();
    let agent = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let leave = poll_fn(move |_| match ordered.try_recv() {
            Ok(Order::Leave) => Poll::Ready(()),
            Ok(Order::Hang(until)) => {
                let _ = until.recv();
                Poll::Pending
            }
            Err(_) => Poll::Pending,
        });
        runtime.block_on(tanist_agent::run(&folder, manager, leave)).unwrap();
    });
    (orders, agent)
}

#[test]
fn a_loop_that_hangs_falls_silent() {
    let folder = tempfile::tempdir().unwrap();
    join(folder.path());
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let manager = ServiceManager::at(path.to_str().unwrap(), Some(WATCHDOG)).unwrap();
    let (orders, agent) = start(folder.path(), manager);
    wait_for(&socket, "READY=1");
    (0..3).for_each(|_| wait_for(&socket, "WATCHDOG=1"));
    let (go_on, until) = mpsc::channel();
    orders.send(Order::Hang(until)).unwrap();
    let silent = (0..100).any(|_| next_word(&socket, WATCHDOG).is_none());
    assert!(silent, "the watchdog was fed on behalf of a loop that hangs");
    drop(go_on);
    wait_for(&socket, "WATCHDOG=1");
    orders.send(Order::Leave).unwrap();
    wait_for(&socket, "STOPPING=1");
    agent.join().unwrap();
}
