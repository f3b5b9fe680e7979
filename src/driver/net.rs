//! The datagram socket and the stream listener: bind, addresses in and out.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use mio::net::{TcpListener, UdpSocket};
use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketFlags, SocketType, getpeername, getsockname};

use crate::membership::SendError;

/// Both sockets, on one port.
pub struct Sockets {
    pub udp: UdpSocket,
    pub listener: TcpListener,
    /// Where they are bound.
    pub local: SocketAddr,
}

/// Why nothing could be bound.
#[derive(Debug)]
pub enum BindError {
    /// The address (or the whole network) is not there yet; it is worth trying again.
    NotYet(SocketAddr),
    /// Somebody else has the port.
    InUse(SocketAddr),
    Other(SocketAddr, io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotYet(addr) => write!(f, "cannot bind {addr}: address not available yet"),
            Self::InUse(addr) => write!(
                f,
                "cannot bind {addr}: another program (a second picored, a Serf agent?) uses this port; \
                 `ss -lnptu sport = :{}` shows which; end it or set \"bind\" to another port",
                addr.port()
            ),
            Self::Other(addr, error) => write!(f, "cannot bind {addr}: {error}"),
        }
    }
}

impl Sockets {
    /// Tries `addrs` in turn. A port that is taken ends the search: the next address would only hide it.
    pub fn bind(addrs: &[SocketAddr]) -> Result<Self, BindError> {
        let mut failed = None;
        for &addr in addrs {
            let error = match Self::bind_one(addr) {
                Ok(sockets) => return Ok(sockets),
                Err(error) => error,
            };
            match error.kind() {
                io::ErrorKind::AddrInUse => return Err(BindError::InUse(addr)),
                io::ErrorKind::AddrNotAvailable | io::ErrorKind::NetworkDown => {
                    failed = Some(BindError::NotYet(addr));
                }
                _ if matches!(failed, Some(BindError::NotYet(_))) => {}
                _ => failed = Some(BindError::Other(addr, error)),
            }
        }
        let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
        Err(failed.unwrap_or(BindError::Other(nowhere, io::ErrorKind::InvalidInput.into())))
    }

    fn bind_one(addr: SocketAddr) -> io::Result<Self> {
        let udp = std::net::UdpSocket::from(socket(addr, SocketType::DGRAM)?);
        let local = udp.local_addr()?; // tells the port if none was asked for
        let stream = socket(local, SocketType::STREAM)?;
        rustix::net::listen(&stream, 128)?;
        Ok(Self {
            udp: UdpSocket::from_std(udp),
            listener: TcpListener::from_std(std::net::TcpListener::from(stream)),
            local,
        })
    }

    /// Sends one datagram. From a dual stack socket IPv4 addresses are written as mapped ones.
    pub fn send(&self, packet: &[u8], to: SocketAddr) -> io::Result<()> {
        let to = match (self.local, to.ip()) {
            (SocketAddr::V6(_), IpAddr::V4(ip)) => {
                SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), to.port())
            }
            _ => to,
        };
        self.udp.send_to(packet, to).map(drop)
    }
}

/// A bound socket that does not block; dual stack where the address is `[::]`.
fn socket(addr: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if addr.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(family, kind, flags, None)?;
    if addr.is_ipv6() {
        // Said in both cases: the system's default is the operator's, not ours.
        sockopt::set_ipv6_v6only(&fd, !addr.ip().is_unspecified())?;
    }
    if kind == SocketType::STREAM {
        // Connections of our predecessor that wait for their end must not keep us out.
        sockopt::set_socket_reuseaddr(&fd, true)?;
    }
    rustix::net::bind(&fd, &addr)?;
    Ok(fd)
}

/// IPv4 addresses that a dual stack socket shows as mapped ones, as what they are.
pub fn normalise(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// What the core should know of an error of `send_to`; `None`: nothing, the datagram is just lost.
pub fn send_error(error: &io::Error) -> Option<SendError> {
    match Errno::from_io_error(error) {
        Some(Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::NETDOWN) => Some(SendError::Unreachable),
        Some(Errno::PERM | Errno::ACCESS) => Some(SendError::NotPermitted),
        Some(Errno::NOBUFS | Errno::NOMEM) => Some(SendError::NoBuffers),
        Some(Errno::AGAIN | Errno::INTR) => None,
        // The answer (ICMP) to an earlier datagram: the other machine is there, its port is not.
        Some(Errno::CONNREFUSED) => None,
        _ => Some(SendError::Other),
    }
}

/// Whether a connection that was begun is made. Errors: it failed, and why.
pub fn connect_is_over(socket: impl AsFd) -> io::Result<bool> {
    sockopt::socket_error(&socket)??;
    match getpeername(&socket) {
        // A socket that connects to a local port where nobody listens can be given that very port and meets
        // itself (TCP's simultaneous open): that is no server.
        Ok(Some(peer)) if peer == getsockname(&socket)? => Err(io::ErrorKind::ConnectionRefused.into()),
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The address that others reach us at, if the operator did not say: where we are bound or, bound to all
/// addresses, the source address of the default route. The kernel takes it from the interface which that
/// route uses, so a container bridge or a tunnel is named only if all traffic goes through it.
/// `None`: there is no such route (yet).
pub fn default_advertise(local: SocketAddr) -> Option<SocketAddr> {
    if !local.ip().is_unspecified() {
        return Some(local);
    }
    let v4 = source_address(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)));
    // Bound to [::] we hear both; IPv4 first, since more peers can reach it.
    let ip = v4.or_else(|| {
        let documentation = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        local.is_ipv6().then(|| source_address(documentation)).flatten()
    })?;
    Some(SocketAddr::new(ip, local.port()))
}

/// The source address on the way to `to`. Connecting a datagram socket sends nothing.
fn source_address(to: IpAddr) -> Option<IpAddr> {
    let any =
        if to.is_ipv6() { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    let socket = std::net::UdpSocket::bind((any, 0)).ok()?;
    socket.connect((to, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
}

/// An error of a connection, short and in lower case, for people.
pub fn error_text(error: &io::Error) -> String {
    use io::ErrorKind as Kind;
    let text = match error.kind() {
        Kind::ConnectionRefused => "connection refused",
        Kind::ConnectionReset => "connection reset",
        Kind::ConnectionAborted => "connection aborted",
        Kind::HostUnreachable => "no route to host",
        Kind::NetworkUnreachable => "network unreachable",
        Kind::NetworkDown => "network down",
        Kind::TimedOut => "timed out",
        Kind::NotFound => "no such file",
        Kind::PermissionDenied => "permission denied",
        Kind::AddrNotAvailable => "no local address or port free",
        Kind::BrokenPipe => "broken pipe",
        Kind::WouldBlock => "busy: backlog full",
        _ => return other_text(error),
    };
    text.to_owned()
}

/// Whether it is about this machine and not about the other one: no descriptor, memory, buffer, port or address left, or
/// the own firewall.
pub fn is_own_fault(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::MFILE
                | Errno::NFILE
                | Errno::NOMEM
                | Errno::NOBUFS
                | Errno::PERM
                | Errno::ACCESS
                | Errno::ADDRNOTAVAIL
        )
    )
}

/// Of a connection that could not even be begun: this machine has no way there (no IPv6, say). Nothing was sent, so it is
/// no router's word; that one comes later, as the end of a connection that was begun.
pub fn is_without_route(error: &io::Error) -> bool {
    let without = [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::AFNOSUPPORT];
    Errno::from_io_error(error).is_some_and(|errno| without.contains(&errno))
}

fn other_text(error: &io::Error) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => "too many open files".to_owned(),
        // `error.kind()` has a short text for the rest.
        _ => error.kind().to_string(),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// What the kernel now and then makes of a connection to a port that nobody listens on.
    pub fn connected_to_itself() -> std::net::TcpStream {
        let fd = socket(addr("127.0.0.1:0"), SocketType::STREAM).unwrap();
        let itself = SocketAddr::try_from(getsockname(&fd).unwrap()).unwrap();
        rustix::io::ioctl_fionbio(&fd, false).unwrap();
        rustix::net::connect(&fd, &itself).unwrap();
        std::net::TcpStream::from(fd)
    }

    #[test]
    fn a_connection_is_over_once_there_is_a_peer_other_than_itself() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(connect_is_over(&ours).unwrap());
        let idle = socket(addr("127.0.0.1:0"), SocketType::STREAM).unwrap();
        assert!(!connect_is_over(&idle).unwrap());
        let error = connect_is_over(connected_to_itself()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_dual_stack_socket_speaks_with_ipv4_peers() {
        let Ok(sockets) = Sockets::bind(&[addr("[::]:0")]) else { return }; // a machine without IPv6
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        sockets.send(b"hello", peer.local_addr().unwrap()).unwrap();
        let mut buf = [0; 8];
        let (n, from) = peer.recv_from(&mut buf).unwrap();
        assert_eq!(&buf[..n], b"hello");
        assert_eq!(from.port(), sockets.local.port());
    }

    /// A port that is free for datagrams may be taken for streams: then another one is.
    fn bind_some_port(list: &[SocketAddr]) -> Sockets {
        (0..100).find_map(|_| Sockets::bind(list).ok()).expect("a port that is free for both")
    }

    #[test]
    fn datagrams_and_streams_share_a_port_and_a_second_one_is_told() {
        let first = bind_some_port(&[addr("127.0.0.1:0")]);
        assert_eq!(first.udp.local_addr().unwrap(), first.listener.local_addr().unwrap());
        let second = Sockets::bind(&[first.local, addr("127.0.0.1:0")]);
        let Err(BindError::InUse(at)) = second else { panic!("must be refused") };
        assert_eq!(at, first.local);
    }

    #[test]
    fn an_address_that_is_not_there_is_worth_another_try() {
        assert!(matches!(Sockets::bind(&[addr("203.0.113.77:0")]), Err(BindError::NotYet(_))));
    }

    #[test]
    fn the_next_address_is_tried() {
        let sockets = bind_some_port(&[addr("203.0.113.77:0"), addr("127.0.0.1:0")]);
        assert_eq!(sockets.local.ip(), addr("127.0.0.1:0").ip());
    }

    #[test]
    fn a_specific_address_is_the_one_to_advertise() {
        assert_eq!(default_advertise(addr("192.0.2.7:7946")), Some(addr("192.0.2.7:7946")));
    }

    #[test]
    fn mapped_addresses_are_shown_as_ipv4() {
        assert_eq!(normalise(addr("[::ffff:192.0.2.1]:5")), addr("192.0.2.1:5"));
        assert_eq!(normalise(addr("[2001:db8::1]:5")), addr("[2001:db8::1]:5"));
    }
}
