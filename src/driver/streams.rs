//! Streams: memberlist's TCP exchanges. Connect, read, bounded writing, and an end that loses nothing.

use core::net::SocketAddr;
use core::time::Duration;
use std::io::{self, Read};
use std::net::Shutdown;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::slots::{Slot, token};
use super::unsent::Unsent;
use super::{Driver, net, small};
use crate::limits::{OWN_STREAMS, STREAM_MAX, STREAMS_MAX};
use crate::membership::{StreamEvent, StreamId};
use crate::time::Instant;

/// Bytes waiting to be written to one stream: the largest message twice, once as it is and once encrypted.
const UNSENT_MAX: usize = 2 * STREAM_MAX;
/// Once the core has closed a stream, the other side has this long to take what was sent.
const FLUSH_MAX: Duration = Duration::from_secs(10);
/// And this long to read it before we are gone: bytes from it that meet a closed socket would be answered
/// with a reset, which destroys what it has not read yet.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes read in one turn from one stream.
const READ_PER_TURN: usize = 256 * 1024;
/// Connections taken in one turn.
const ACCEPTS_PER_TURN: usize = 2 * STREAMS_MAX;

/// One connection of either direction.
pub struct Stream {
    id: StreamId,
    socket: TcpStream,
    state: State,
    unsent: Unsent,
    /// The other side has closed its direction.
    ended: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Connecting,
    Open,
    /// The core has closed it and hears no more of it.
    Flushing {
        until: Instant,
    },
    /// All is sent and our direction closed; what still comes is discarded.
    Lingering {
        until: Instant,
    },
}

impl Stream {
    fn new(id: StreamId, socket: TcpStream, state: State) -> Self {
        Self { id, socket, state, unsent: Unsent::default(), ended: false }
    }

    /// When it is closed whatever is still to come.
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Flushing { until } | State::Lingering { until } => Some(until),
            _ => None,
        }
    }

    /// Whether the core still knows it.
    fn is_the_cores(&self) -> bool {
        matches!(self.state, State::Connecting | State::Open)
    }

    /// True once the connection is made.
    fn connect_is_over(&mut self) -> io::Result<bool> {
        let over = net::connect_is_over(&self.socket)?;
        if over {
            self.state = State::Open;
        }
        Ok(over)
    }

    /// Writes what is possible now; after the last byte of a closed one, closes our direction.
    /// True: it is over, drop it.
    fn advance(&mut self, now: Instant) -> io::Result<bool> {
        if self.state == State::Connecting {
            return Ok(false);
        }
        if !self.unsent.write_to(&mut self.socket)? {
            return Ok(false);
        }
        if let State::Flushing { .. } = self.state {
            self.socket.shutdown(Shutdown::Write)?;
            self.state = State::Lingering { until: now + LINGER };
        }
        Ok(self.ended && !self.is_the_cores())
    }

    fn send(&mut self, now: Instant, bytes: &[u8]) -> io::Result<()> {
        self.unsent.push(&[bytes], UNSENT_MAX)?;
        self.advance(now).map(drop)
    }
}

impl Driver {
    /// Takes waiting connections. Without a descriptor left they keep waiting until a later turn.
    pub(super) fn accept_streams(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_TURN {
            match self.sockets.listener.accept() {
                Ok((socket, from)) => self.accept_stream(now, socket, net::normalise(from)),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        self.accept_again = false;
                        return;
                    }
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => {}
                    _ => break,
                },
            }
        }
        self.accept_again = true;
    }

    fn accept_stream(&mut self, now: Instant, socket: TcpStream, from: SocketAddr) {
        // The core keeps some free as well, but knows nothing of those that it has closed and that linger.
        if self.stream_count() >= STREAMS_MAX - OWN_STREAMS {
            self.agent.refuse_stream(now, from);
        } else if let Some(id) = self.agent.accept_stream(now, from) {
            self.put_stream(now, Stream::new(id, socket, State::Open));
        }
        self.drain(now);
    }

    /// Lingering ones count: they hold descriptors, too.
    fn stream_count(&self) -> usize {
        self.slots.count(|slot| matches!(slot, Slot::Stream(_)))
    }

    fn put_stream(&mut self, now: Instant, mut stream: Stream) {
        let id = stream.id;
        let both = Interest::READABLE | Interest::WRITABLE;
        let Some(index) = self.slots.vacant() else {
            return self.agent.handle_stream(now, id, StreamEvent::Closed("too many connections"));
        };
        match self.poll.registry().register(&mut stream.socket, token(index), both) {
            Ok(()) => self.slots.put(index, Slot::Stream(stream)),
            Err(error) => self.agent.handle_stream(now, id, StreamEvent::Closed(&net::error_text(&error))),
        }
    }

    pub(super) fn open_stream(&mut self, now: Instant, id: StreamId, to: SocketAddr) {
        if self.stream_count() >= STREAMS_MAX {
            return self.agent.handle_stream(now, id, StreamEvent::Closed("too many connections"));
        }
        match TcpStream::connect(to) {
            Ok(socket) => self.put_stream(now, Stream::new(id, socket, State::Connecting)),
            Err(error) => self.agent.handle_stream(now, id, StreamEvent::Closed(&net::error_text(&error))),
        }
    }

    pub(super) fn send_stream(&mut self, now: Instant, id: StreamId, bytes: &[u8]) {
        let Some(index) = self.stream_index(id) else { return };
        let Some(Slot::Stream(stream)) = self.slots.get_mut(index) else { return };
        if let Err(error) = stream.send(now, bytes) {
            self.break_stream(now, index, &error);
        }
    }

    pub(super) fn close_stream(&mut self, now: Instant, id: StreamId) {
        let Some(index) = self.stream_index(id) else { return };
        let Some(Slot::Stream(stream)) = self.slots.get_mut(index) else { return };
        let connecting = stream.state == State::Connecting;
        stream.state = State::Flushing { until: now + FLUSH_MAX };
        if connecting || stream.advance(now).unwrap_or(true) {
            self.slots.close(index);
        }
    }

    fn stream_index(&self, id: StreamId) -> Option<usize> {
        self.slots
            .find(|slot| matches!(slot, Slot::Stream(stream) if stream.id == id && stream.is_the_cores()))
    }

    pub(super) fn stream_event(&mut self, now: Instant, index: usize) {
        let Some(Slot::Stream(stream)) = self.slots.get_mut(index) else { return };
        if stream.state == State::Connecting {
            match stream.connect_is_over() {
                Ok(false) => return,
                Ok(true) => {
                    let id = stream.id;
                    self.agent.handle_stream(now, id, StreamEvent::Connected);
                    self.drain(now);
                }
                Err(error) => return self.lose_stream(now, index, &error),
            }
        }
        let Some(Slot::Stream(stream)) = self.slots.get_mut(index) else { return };
        match stream.advance(now) {
            Ok(false) => self.read_stream(now, index),
            Ok(true) => drop(self.slots.close(index)),
            Err(error) => self.lose_stream(now, index, &error),
        }
    }

    fn read_stream(&mut self, now: Instant, index: usize) {
        let mut budget = READ_PER_TURN;
        while budget > 0 {
            // Looked up each time: the core may have closed it because of what it just read.
            let Some(Slot::Stream(stream)) = self.slots.get_mut(index) else { return };
            if stream.ended {
                return;
            }
            let (id, heard) = (stream.id, stream.is_the_cores());
            match stream.socket.read(small(&mut self.scratch)) {
                Ok(0) => return self.end_stream(now, index),
                Ok(n) => {
                    budget = budget.saturating_sub(n);
                    if heard {
                        let data = self.scratch.get(..n).unwrap_or_default();
                        self.agent.handle_stream(now, id, StreamEvent::Data(data));
                        self.drain(now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => return self.lose_stream(now, index, &error),
            }
        }
        self.stream_again(index, token(index));
    }

    /// More than one turn's share was there: registering again asks for its readiness once more.
    fn stream_again(&mut self, index: usize, token: Token) {
        let Some(Slot::Stream(stream)) = self.slots.get_mut(index) else { return };
        let both = Interest::READABLE | Interest::WRITABLE;
        let _ = self.poll.registry().reregister(&mut stream.socket, token, both);
    }

    /// The other side has sent all. It may still want to read.
    fn end_stream(&mut self, now: Instant, index: usize) {
        let Some(Slot::Stream(stream)) = self.slots.get_mut(index) else { return };
        stream.ended = true;
        match stream.state {
            State::Lingering { .. } => drop(self.slots.close(index)),
            State::Flushing { .. } => {}
            _ => {
                let id = stream.id;
                self.agent.handle_stream(now, id, StreamEvent::Closed(""));
                self.drain(now);
            }
        }
    }

    fn lose_stream(&mut self, now: Instant, index: usize, error: &io::Error) {
        self.break_stream(now, index, error);
        self.drain(now);
    }

    /// The connection is gone; the core hears why, if it still cares.
    fn break_stream(&mut self, now: Instant, index: usize, error: &io::Error) {
        let Some(Slot::Stream(stream)) = self.slots.close(index) else { return };
        if stream.is_the_cores() {
            self.agent.handle_stream(now, stream.id, StreamEvent::Closed(&net::error_text(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use mio::Poll;
    use signal_hook_mio::v1_0::Signals;

    use super::super::Sources;
    use super::super::control::Control;
    use super::super::notify::Notify;
    use super::*;
    use crate::agent::Agent;
    use crate::config::Config;
    use crate::driver::statefile::StateFile;
    use crate::rng::Seed;

    fn connected() -> (Stream, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (ours, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        (Stream::new(1, TcpStream::from_std(ours), State::Open), theirs)
    }

    #[test]
    fn a_connection_with_itself_is_no_peer() {
        let socket = net::tests::connected_to_itself();
        let mut stream = Stream::new(1, TcpStream::from_std(socket), State::Connecting);
        assert_eq!(stream.connect_is_over().unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_closed_stream_sends_all_it_has_before_it_ends() {
        let (mut stream, mut theirs) = connected();
        let now = Instant::ZERO;
        stream.send(now, &vec![b'x'; STREAM_MAX]).unwrap();
        stream.state = State::Flushing { until: now + FLUSH_MAX };
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            theirs.read_to_end(&mut all).unwrap();
            all.len()
        });
        while !matches!(stream.state, State::Lingering { .. }) {
            assert!(!stream.advance(now).unwrap());
        }
        assert_eq!(reader.join().unwrap(), STREAM_MAX);
        assert_eq!(stream.deadline(), Some(now + LINGER));
    }

    #[test]
    fn a_peer_that_does_not_read_cannot_make_us_grow() {
        let (mut stream, _theirs) = connected();
        let block = vec![b'x'; STREAM_MAX];
        let sent = (0..100).take_while(|_| stream.send(Instant::ZERO, &block).is_ok()).count();
        assert!((2..100).contains(&sent), "{sent}");
        assert!(stream.unsent.waiting() <= UNSENT_MAX);
    }

    /// A driver on loopback that hears no signals.
    fn driver() -> Driver {
        let text = r#"{ "node": "a", "insecure": true }"#;
        let config = Config::parse(text, "a", Ok(()), &mut |_| Err("no file".into())).unwrap();
        let loopback = "127.0.0.1:0".parse().unwrap();
        let sockets = (0..100).find_map(|_| net::Sockets::bind(&[loopback]).ok()).expect("a port");
        let path = std::env::temp_dir().join(format!("picored-streams-{}", std::process::id()));
        let control = Control::bind(&path).unwrap();
        let signals = Signals::new([0; 0]).unwrap();
        let notify = Notify::from_env(Instant::ZERO);
        let sources = Sources { poll: Poll::new().unwrap(), signals, sockets, control, notify };
        let seed = Seed { rng: 1, nonce: [1; 12] };
        let agent = Agent::new(config.agent, seed, Instant::ZERO);
        Driver::new(
            sources,
            agent,
            PathBuf::new(),
            StateFile::new(PathBuf::new()),
            Box::new(|_| Err("no file".into())),
        )
    }

    #[test]
    fn streams_that_linger_leave_our_own_share_free() {
        let (mut driver, now) = (driver(), Instant::ZERO);
        let to = driver.sockets.local;
        let mut theirs = Vec::new();
        for _ in 0..2 {
            theirs.extend((0..STREAMS_MAX).map(|_| std::net::TcpStream::connect(to).unwrap()));
            driver.accept_streams(now);
            let ids = driver.slots.iter().filter_map(|(_, slot)| match slot {
                Slot::Stream(stream) => Some(stream.id),
                _ => None,
            });
            for id in ids.collect::<Vec<_>>() {
                driver.agent.handle_stream(now, id, StreamEvent::Data(b"rubbish")); // the core closes it
                driver.drain(now);
            }
            assert_eq!(driver.stream_count(), STREAMS_MAX - OWN_STREAMS);
        }
    }
}
