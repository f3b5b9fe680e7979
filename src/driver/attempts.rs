//! Attempts that are connections: tcp and unix (a connection is enough) and http. Deadlines are the core's.

use core::net::SocketAddr;
use std::io::{self, Read, Write};
use std::path::Path;

use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};

use super::slots::{Slot, token};
use super::unsent::write_some;
use super::{Driver, net, small};
use crate::agent::AttemptId;
use crate::check::attempt::{HttpTarget, Outcome, Target};
use crate::check::http::Exchange;
use crate::limits::ATTEMPTS_MAX;
use crate::time::Instant;

/// Bytes read in one turn from one server.
const READ_PER_TURN: usize = 128 * 1024;

/// One connection on the way to a verdict.
pub struct Attempt {
    pub id: AttemptId,
    socket: Socket,
    connected: bool,
    /// `None`: the connection itself is what is tried.
    exchange: Option<Box<Exchange>>,
    /// How much of the request was written.
    sent: usize,
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Attempt {
    /// Starts to connect. Errors are verdicts.
    fn open(id: AttemptId, target: &Target) -> io::Result<Self> {
        let (socket, exchange) = match target {
            Target::Tcp(addr) => (Socket::tcp(*addr)?, None),
            Target::Unix(path) => (Socket::Unix(UnixStream::connect(Path::new(&**path))?), None),
            Target::Http(http) => (Socket::tcp(http.addr)?, Some(Self::exchange(http))),
            Target::Exec(_) => return Err(io::ErrorKind::Unsupported.into()), // a child, no connection
        };
        Ok(Self { id, socket, connected: false, exchange, sent: 0 })
    }

    fn exchange(target: &HttpTarget) -> Box<Exchange> {
        Box::new(Exchange::new(target))
    }

    /// As far as it goes now. `Some`: the verdict.
    fn advance(&mut self, registry: &Registry, token: Token, scratch: &mut [u8]) -> Option<Outcome> {
        match self.try_advance(registry, token, scratch) {
            Ok(outcome) => outcome,
            Err(error) => Some(failure(&error)),
        }
    }

    fn try_advance(
        &mut self,
        registry: &Registry,
        token: Token,
        scratch: &mut [u8],
    ) -> io::Result<Option<Outcome>> {
        if !self.connected && !self.socket.connect_is_over()? {
            return Ok(None);
        }
        self.connected = true;
        let Some(exchange) = &mut self.exchange else {
            return Ok(Some(Outcome::Pass("connected".into())));
        };
        let written = write_some(&mut self.socket, exchange.request(), &mut self.sent);
        // A server may answer (`503`, say) and close without reading all of the request.
        let outcome = read(&mut self.socket, exchange, registry, token, scratch)?;
        match (outcome, written) {
            (Some(outcome), _) => Ok(Some(outcome)),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Ok(None),
        }
    }
}

/// What it says that a connection could not be begun.
fn unopened(error: &io::Error) -> Outcome {
    match net::is_without_route(error) {
        true => Outcome::NotTried(net::error_text(error).into()),
        false => failure(error),
    }
}

/// What an error says of what was tried, or of this machine.
fn failure(error: &io::Error) -> Outcome {
    // A text of ours stays as it is, an error of the system is put in our words.
    let (ours, text) = match error.get_ref() {
        Some(ours) => (true, ours.to_string()),
        None => (false, net::error_text(error)),
    };
    match ours || net::is_own_fault(error) {
        true => Outcome::NotTried(text.into()),
        false => Outcome::Fail(text.into()),
    }
}

fn read(
    socket: &mut Socket,
    exchange: &mut Exchange,
    registry: &Registry,
    token: Token,
    scratch: &mut [u8],
) -> io::Result<Option<Outcome>> {
    let mut budget = READ_PER_TURN;
    while budget > 0 {
        match socket.read(scratch) {
            Ok(0) => return Ok(Some(exchange.end())),
            Ok(n) => {
                budget = budget.saturating_sub(n);
                if let Some(outcome) = exchange.feed(scratch.get(..n).unwrap_or_default()) {
                    return Ok(Some(outcome));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    // A body without end: the rest has its share in the next turn.
    socket.reregister(registry, token)?;
    Ok(None)
}

impl Socket {
    fn tcp(addr: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(addr).map(Self::Tcp)
    }

    fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(socket) => registry.register(socket, token, both),
            Self::Unix(socket) => registry.register(socket, token, both),
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        match self {
            Self::Tcp(socket) => registry.reregister(socket, token, both),
            Self::Unix(socket) => registry.reregister(socket, token, both),
        }
    }

    fn connect_is_over(&self) -> io::Result<bool> {
        match self {
            Self::Tcp(socket) => net::connect_is_over(socket),
            Self::Unix(socket) => net::connect_is_over(socket),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buf),
            Self::Unix(socket) => socket.read(buf),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(buf),
            Self::Unix(socket) => socket.write(buf),
        }
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Driver {
    pub(super) fn start_attempt(&mut self, now: Instant, id: AttemptId, target: Target) {
        let target = match target {
            Target::Exec(exec) => return self.start_check(now, id, exec),
            other => other,
        };
        if let Err(error) = self.try_start_attempt(id, &target) {
            self.agent.handle_attempt(now, id, unopened(&error));
        }
    }

    fn try_start_attempt(&mut self, id: AttemptId, target: &Target) -> io::Result<()> {
        let full = || io::Error::other("too many checks under way");
        if self.slots.count(|slot| matches!(slot, Slot::Attempt(_))) >= ATTEMPTS_MAX {
            return Err(full());
        }
        let index = self.slots.vacant().ok_or_else(full)?;
        let mut attempt = Attempt::open(id, target)?;
        attempt.socket.register(self.poll.registry(), token(index))?;
        self.slots.put(index, Slot::Attempt(attempt));
        Ok(())
    }

    pub(super) fn attempt_event(&mut self, now: Instant, index: usize) {
        let Some(Slot::Attempt(attempt)) = self.slots.get_mut(index) else { return };
        let outcome = attempt.advance(self.poll.registry(), token(index), small(&mut self.scratch));
        if let Some(outcome) = outcome {
            let id = attempt.id;
            self.slots.close(index);
            self.agent.handle_attempt(now, id, outcome);
            self.drain(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::attempt::ExecTarget;
    use mio::{Events, Poll};
    use std::time::{Duration, Instant};

    fn verdict(target: &Target) -> Outcome {
        let mut poll = Poll::new().unwrap();
        let mut attempt = match Attempt::open(1, target) {
            Ok(attempt) => attempt,
            Err(error) => return unopened(&error),
        };
        attempt.socket.register(poll.registry(), Token(9)).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            poll.poll(&mut Events::with_capacity(4), Some(Duration::from_millis(100))).unwrap();
            if let Some(outcome) = attempt.advance(poll.registry(), Token(9), &mut [0; 1024]) {
                return outcome;
            }
        }
        panic!("no verdict");
    }

    #[test]
    fn a_listener_passes_and_a_closed_port_is_refused() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let target = Target::Tcp(listener.local_addr().unwrap());
        assert!(verdict(&target).passed());
        drop(listener);
        assert_eq!(verdict(&target), Outcome::Fail("connection refused".into()));
    }

    #[test]
    fn a_unix_socket_passes_only_while_somebody_listens() {
        let path = std::env::temp_dir().join(format!("picored-attempt-{}", std::process::id()));
        let target = Target::Unix(path.to_str().unwrap().into());
        assert_eq!(verdict(&target), Outcome::Fail("no such file".into()));
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(verdict(&target).passed());
        drop(listener);
        assert_eq!(verdict(&target), Outcome::Fail("connection refused".into()));
        let _ = std::fs::remove_file(path);
    }

    #[test]
    fn what_this_machine_lacks_says_nothing_of_the_other_one() {
        use rustix::io::Errno;
        let of = |errno: Errno| failure(&io::Error::from(errno));
        for own in [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::NOBUFS,
            Errno::PERM,
            Errno::ACCESS,
            Errno::ADDRNOTAVAIL,
        ] {
            assert!(matches!(of(own), Outcome::NotTried(_)), "{own}");
        }
        // Of a connection that was begun it is a router's word that there is no way.
        for others in [Errno::CONNREFUSED, Errno::TIMEDOUT, Errno::HOSTUNREACH, Errno::NETUNREACH] {
            assert!(matches!(of(others), Outcome::Fail(_)), "{others}");
        }
        let unopened = |errno: Errno| unopened(&io::Error::from(errno));
        for own in [Errno::HOSTUNREACH, Errno::NETUNREACH, Errno::AFNOSUPPORT, Errno::MFILE] {
            assert!(matches!(unopened(own), Outcome::NotTried(_)), "{own}");
        }
        assert!(matches!(unopened(Errno::CONNREFUSED), Outcome::Fail(_)));
        assert_eq!(failure(&io::Error::other("too many")), Outcome::NotTried("too many".into()));
        assert_eq!(of(Errno::MFILE).text(), "too many open files");
    }

    #[test]
    fn what_is_no_connection_is_a_failure_and_not_lost() {
        let exec = ExecTarget { argv: vec!["/bin/true".into()], warn_ok: false };
        assert!(!verdict(&Target::Exec(exec.into())).passed());
    }
}
