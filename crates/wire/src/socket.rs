//! TCP options of control connections. They are what bounds how long a dead host can look alive: a process that dies is noticed
//! by its FIN at once, a host that vanishes only by silence.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Data that is not acknowledged for this long ends the connection (`TCP_USER_TIMEOUT`, RFC 5482). Longer than the second in
/// which missed beats raise suspicion, so that a short loss of the network costs no reconnection; short enough that a
/// connection to a host that is gone does not hold its agent's place.
pub const USER_TIMEOUT: Duration = Duration::from_secs(5);
/// Silence after which the kernel asks whether the other side is there.
pub const KEEPALIVE_IDLE: Duration = Duration::from_secs(5);
/// Time between two such questions; [`USER_TIMEOUT`] ends them.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// After a restart of the server all agents dial at once.
const BACKLOG: u32 = 1024;

/// Sets the options of a control connection.
///
/// # Errors
/// The operating system's.
pub fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_user_timeout(stream, u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX))?;
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
        drop((accepted, dialled, listener));
        listen(address).unwrap();
    }
}
