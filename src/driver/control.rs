//! The control socket: request lines in, reply lines out.

use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream as Blocking;
use std::path::{Path, PathBuf};

use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::slots::{CONTROL, Slot, token};
use super::unsent::Unsent;
use super::{Driver, small, usage};
use crate::agent::ClientId;
use crate::limits::{CLIENT_BACKLOG_MAX, CLIENTS_MAX, REQUEST_MAX};
use crate::time::Instant;

/// Requests of one client that are handled in one turn.
const REQUESTS_PER_TURN: usize = 16;

/// The listener; its file goes with it.
pub struct Control {
    pub listener: UnixListener,
    path: PathBuf,
    /// Device and inode of the file, to know it again.
    file: Option<(u64, u64)>,
}

impl Control {
    /// Only the owner may connect. A socket that nobody answers any more is replaced.
    ///
    /// Errors: `AddrInUse` if somebody answers; else what the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        remove_stale(path)?;
        let before = rustix::process::umask(Mode::from_raw_mode(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        Ok(Self { listener: listener?, path: path.to_owned(), file: file(path) })
    }

    /// Whether the file is still the one that [`Control::bind`] made.
    fn is_there(&self) -> bool {
        self.file.is_some() && file(&self.path) == self.file
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Another one's, by now: it stays.
        if self.is_there() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn file(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Connects to a daemon without waiting; reading and writing then block.
///
/// Errors: `WouldBlock` if so many connections wait there already that it must hang.
pub fn connect(path: &Path) -> io::Result<Blocking> {
    let addr = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&fd, &addr)?;
    let socket = Blocking::from(fd);
    socket.set_nonblocking(false)?;
    Ok(socket)
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let is_socket = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type().is_socket(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !is_socket {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    match connect(path).map_err(|error| error.kind()) {
        Err(io::ErrorKind::ConnectionRefused) => std::fs::remove_file(path),
        Err(io::ErrorKind::NotFound) => Ok(()), // gone meanwhile
        Ok(_) | Err(io::ErrorKind::WouldBlock) => Err(io::ErrorKind::AddrInUse.into()),
        Err(other) => Err(other.into()),
    }
}

/// One connection.
pub struct Client {
    pub id: ClientId,
    /// The user that the kernel says it is.
    uid: Option<u32>,
    socket: UnixStream,
    request: Vec<u8>,
    unsent: Unsent,
    /// It asked something; the last line of a reply is to come.
    asked: bool,
    /// It says nothing more, but may still listen.
    silent: bool,
    /// It does not listen any more either.
    hung_up: bool,
    /// Closed once all is sent.
    last: bool,
}

impl Client {
    pub fn new(id: ClientId, socket: UnixStream) -> Self {
        let (asked, silent, hung_up, last) = (false, false, false, false);
        let uid = rustix::net::sockopt::socket_peercred(&socket).ok().map(|peer| peer.uid.as_raw());
        Self { id, uid, socket, request: Vec::new(), unsent: Unsent::default(), asked, silent, hung_up, last }
    }

    /// The next whole line that came; `Err`: it is gone, or says too much.
    pub(super) fn next_line(&mut self, scratch: &mut [u8]) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.request.iter().position(|&byte| byte == b'\n') {
                let rest = self.request.split_off(end + 1);
                let mut line = core::mem::replace(&mut self.request, rest);
                line.pop();
                return Ok(Some(line));
            }
            if self.request.len() >= REQUEST_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let room = scratch.len().min(REQUEST_MAX - self.request.len());
            let buf = scratch.get_mut(..room).unwrap_or_default();
            match self.socket.read(buf) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.request.extend_from_slice(buf.get(..n).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn reply(&mut self, line: &str, last: bool) -> io::Result<()> {
        self.unsent.push(&[line.as_bytes(), b"\n"], CLIENT_BACKLOG_MAX)?;
        self.last |= last;
        self.flush()
    }

    /// Writes what is possible now. `Err`: it is over with this one.
    fn flush(&mut self) -> io::Result<()> {
        match self.unsent.write_to(&mut self.socket)? && self.last {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE | Interest::WRITABLE)
    }
}

impl Driver {
    /// If somebody removed the socket's file (a cleaner of /tmp, say), makes it anew: nobody could reach us.
    pub(super) fn restore_control(&mut self) -> io::Result<()> {
        if self.control.is_there() {
            return Ok(());
        }
        let mut control = Control::bind(&self.control.path)?;
        self.poll.registry().register(&mut control.listener, CONTROL, Interest::READABLE)?;
        self.control = control;
        self.accept_clients_again = true;
        Ok(())
    }

    pub(super) fn accept_clients(&mut self, now: Instant) {
        // As many as there can be: more in one turn would only push each other out.
        for _ in 0..CLIENTS_MAX {
            match self.control.listener.accept() {
                Ok((socket, _)) => self.accept_client(now, socket),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_clients_again = false;
                    return;
                }
                Err(_) => break, // no descriptor left: later
            }
        }
        self.accept_clients_again = true;
    }

    fn accept_client(&mut self, now: Instant, socket: UnixStream) {
        self.make_room(now);
        let Some(index) = self.slots.vacant() else { return };
        self.next_client = self.next_client.wrapping_add(1);
        let mut client = Client::new(self.next_client, socket);
        if client.register(self.poll.registry(), token(index)).is_ok() {
            self.slots.put(index, Slot::Client(client));
        }
    }

    /// The oldest goes if there are too many. Their numbers grow, however often they wrap around.
    fn make_room(&mut self, now: Instant) {
        let next = self.next_client;
        let clients = self.slots.iter().filter_map(|(index, slot)| match slot {
            Slot::Client(client) => Some((next.wrapping_sub(client.id), index)),
            _ => None,
        });
        let (count, oldest) =
            clients.fold((0, None), |(count, oldest), it| (count + 1, oldest.max(Some(it))));
        if let (CLIENTS_MAX.., Some((_, index))) = (count, oldest) {
            self.lose_client(index);
            self.drain(now);
        }
    }

    /// `hung_up`: its socket is closed altogether, not only for writing. What came before that is still done.
    pub(super) fn client_event(&mut self, now: Instant, index: usize, hung_up: bool) {
        if let Some(Slot::Client(client)) = self.slots.get_mut(index) {
            client.hung_up |= hung_up;
        }
        for _ in 0..REQUESTS_PER_TURN {
            let Some(Slot::Client(client)) = self.slots.get_mut(index) else { return };
            let (id, uid) = (client.id, client.uid);
            let is_deaf = client.hung_up && (client.last || client.silent);
            if is_deaf || client.flush().is_err() {
                return self.lose_client(index);
            }
            if client.last || client.silent {
                return; // it is told the rest, and not listened to
            }
            match client.next_line(small(&mut self.scratch)) {
                Ok(None) => return,
                Ok(Some(line)) => {
                    let (rss_kib, descriptors) = usage::read();
                    client.asked = true;
                    self.agent.handle_usage(rss_kib, descriptors);
                    self.agent.handle_request_by(now, id, uid, &line);
                }
                Err(error) => self.end_client(index, error.kind()),
            }
            self.drain(now);
        }
        let Some(Slot::Client(client)) = self.slots.get_mut(index) else { return };
        let both = Interest::READABLE | Interest::WRITABLE;
        let _ = self.poll.registry().reregister(&mut client.socket, token(index), both);
    }

    /// It asks nothing more, for this reason. What it is still owed it gets first, as fast as it takes that; who only
    /// closed its own direction after a question, all lines that are still to come.
    fn end_client(&mut self, index: usize, why: io::ErrorKind) {
        let Some(Slot::Client(client)) = self.slots.get_mut(index) else { return };
        let is_end = why == io::ErrorKind::UnexpectedEof;
        if is_end && client.asked && !client.hung_up {
            client.silent = true;
            return;
        }
        client.last = true;
        match client.flush() {
            // What is to come is not owed to it.
            Ok(()) => self.agent.handle_client_gone(client.id),
            Err(_) => self.lose_client(index),
        }
    }

    pub(super) fn reply(&mut self, id: ClientId, line: &str, last: bool) {
        let wanted = |slot: &Slot| matches!(slot, Slot::Client(client) if client.id == id);
        let Some(index) = self.slots.find(wanted) else { return };
        let Some(Slot::Client(client)) = self.slots.get_mut(index) else { return };
        if client.reply(line, last).is_err() {
            self.lose_client(index);
        }
    }

    fn lose_client(&mut self, index: usize) {
        if let Some(Slot::Client(client)) = self.slots.close(index) {
            self.agent.handle_client_gone(client.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    fn path(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("picored-ctl-{}-{name}", std::process::id())).join("sock")
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let path = path("stale");
        let stale = {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::net::UnixListener::bind(&path).unwrap()
        };
        drop(stale); // the file stays, nobody listens
        let live = Control::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(Control::bind(&path).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        assert!(!path.exists());
        std::fs::write(&path, "precious").unwrap();
        assert_eq!(Control::bind(&path).err().unwrap().kind(), io::ErrorKind::AlreadyExists);
        let _ = std::fs::remove_dir_all(path.parent().unwrap());
    }

    #[test]
    fn the_file_of_another_one_is_left_alone() {
        let path = path("others");
        let first = Control::bind(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!first.is_there());
        let second = Control::bind(&path).unwrap();
        drop(first);
        assert!(second.is_there() && connect(&path).is_ok());
        drop(second);
        let _ = std::fs::remove_dir_all(path.parent().unwrap());
    }

    #[test]
    fn connecting_to_one_that_hangs_does_not_hang() {
        let path = path("hangs");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let family = AddressFamily::UNIX;
        let listener = rustix::net::socket(family, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&listener, 1).unwrap();
        let waiting: Vec<_> = (0..8).map(|_| connect(&path)).collect();
        let last = waiting.last().unwrap().as_ref().map_err(io::Error::kind).err();
        assert_eq!(last, Some(io::ErrorKind::WouldBlock));
        assert_eq!(Control::bind(&path).err().unwrap().kind(), io::ErrorKind::AddrInUse);
        let _ = std::fs::remove_dir_all(path.parent().unwrap());
    }

    #[test]
    fn requests_are_lines_of_limited_length() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(1, ours);
        let mut scratch = [0; 65_536];
        theirs.write_all(b"one\ntw").unwrap();
        assert_eq!(client.next_line(&mut scratch).unwrap(), Some(b"one".to_vec()));
        assert_eq!(client.next_line(&mut scratch).unwrap(), None);
        theirs.write_all(b"o\n").unwrap();
        assert_eq!(client.next_line(&mut scratch).unwrap(), Some(b"two".to_vec()));
        theirs.write_all(&[b'x'; REQUEST_MAX]).unwrap();
        assert_eq!(client.next_line(&mut scratch).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_client_that_does_not_read_is_dropped_at_the_limit() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let mut client = Client::new(1, ours);
        let line = "x".repeat(64 * 1024);
        let replies = (0..100).take_while(|_| client.reply(&line, false).is_ok()).count();
        assert!((16..40).contains(&replies), "{replies}");
    }
}
