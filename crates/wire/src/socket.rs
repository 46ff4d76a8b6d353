//! TCP options of connections. They are what bounds how long a dead host can look alive: a process that dies is noticed
//! by its FIN at once, a host that vanishes only by silence.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// How fast a host that has vanished is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Patience {
    /// Data that is not acknowledged for this long ends the connection (`TCP_USER_TIMEOUT`, RFC 5482).
    pub user_timeout: Duration,
    /// Silence after which the kernel asks whether the other side is there.
    pub keepalive_idle: Duration,
    /// Time between two such questions; the user timeout ends them.
    pub keepalive_interval: Duration,
}

/// For messages. Longer than the second in which missed beats raise suspicion, so that a short loss of the network costs no
/// reconnection; short enough that a connection to a host that is gone does not hold its agent's place.
pub const CONTROL: Patience = Patience {
    user_timeout: Duration::from_secs(5),
    keepalive_idle: Duration::from_secs(5),
    keepalive_interval: Duration::from_secs(1),
};

/// For the side of a data stream that receives blocks (it accepted): nobody tells it sooner that the other host is gone.
pub const DATA_RECEIVER: Patience = Patience {
    user_timeout: Duration::from_secs(4),
    keepalive_idle: Duration::from_secs(1),
    keepalive_interval: Duration::from_secs(1),
};

/// For the side that sends blocks (it dialled). Linux counts a receiver that is there and does not read as one that does not
/// acknowledge; and a holder does not read while it waits for its disk or for the server. So this is longer than such a wait should
/// be. If the holder's host is gone, the server's order ends the stream sooner.
pub const DATA_SENDER: Patience = Patience { user_timeout: Duration::from_secs(60), ..DATA_RECEIVER };

/// After a restart of the server all agents dial at once.
const BACKLOG: u32 = 1024;

/// Sets the options of a control connection.
///
/// # Errors
/// The operating system's.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    set(stream, CONTROL)
}

/// Sets the options of a data stream, whatever they were before.
///
/// # Errors
/// The operating system's.
pub fn tune_data(stream: &TcpStream, patience: Patience) -> io::Result<()> {
    set(stream, patience)
}

fn set(stream: &TcpStream, patience: Patience) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, patience.keepalive_idle)?;
    sockopt::set_tcp_keepintvl(stream, patience.keepalive_interval)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(patience.user_timeout.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// Listens, also while connections of an earlier process on this address still linger.
///
/// # Errors
/// The operating system's.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Dials `HOST:PORT`, each address the name has in turn. The caller limits the time.
///
/// # Errors
/// The resolver's, or that of the last address tried.
pub async fn dial(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    tune(&stream)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn options_are_in_force_and_an_address_is_used_again_at_once() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let address_text = address.to_string();
        let (dialled, accepted) = tokio::join!(dial(&address_text), listener.accept());
        let (dialled, (accepted, _)) = (dialled.unwrap(), accepted.unwrap());
        assert_eq!(sockopt::tcp_user_timeout(&dialled).unwrap(), 5000);
        assert!(dialled.nodelay().unwrap() && sockopt::socket_keepalive(&dialled).unwrap());
        tune_data(&accepted, DATA_RECEIVER).unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 4000);
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), DATA_RECEIVER.keepalive_idle);
        drop((accepted, dialled, listener));
        listen(address).unwrap();
    }
}
