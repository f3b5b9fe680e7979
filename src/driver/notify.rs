//! What a service manager is told, by systemd's `sd_notify` protocol: datagrams to the socket that it names.
//!
//! All of it is a courtesy: nothing waits for the socket, and what does not get through is lost. Without the variables
//! (cron, a shell) nothing is opened, sent or woken for. Children do not have the variables; the program that a restart
//! puts in our place does, and its process id is the same.

use core::time::Duration;
use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use rustix::time::{ClockId, clock_gettime};

use crate::time::Instant;

/// Where to.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How often it wants to hear of us, in microseconds, and which process that is about.
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";
/// All of them, for who starts something that is not the service.
pub const VARIABLES: [&str; 3] = [SOCKET, WATCHDOG, WATCHDOG_PID];
/// Not more often than this, however impatient the manager is.
const PING_MIN: Duration = Duration::from_millis(10);
/// One line of `systemctl status`.
const STATUS_MAX: usize = 400;

/// The manager's socket, and when it is to hear of us next.
pub struct Notify {
    socket: Option<UnixDatagram>,
    /// Half of what it allows; `None`: it does not watch.
    interval: Option<Duration>,
    next: Instant,
    is_stopping: bool,
}

impl Notify {
    /// From the environment. What it cannot be used for is not an error: who does not hear of us says so itself.
    pub fn from_env(now: Instant) -> Self {
        let socket = env::var_os(SOCKET).and_then(|name| open(&name).ok());
        let own = |pid: &str| pid.parse() == Ok(std::process::id());
        // Without a process id it is meant for whoever has the variables.
        let is_own = env::var(WATCHDOG_PID).map_or(true, |pid| own(&pid));
        let usecs: Option<u64> = env::var(WATCHDOG).ok().and_then(|usecs| usecs.parse().ok());
        let interval = usecs
            .filter(|&usecs| is_own && socket.is_some() && usecs > 0)
            .map(|usecs| (Duration::from_micros(usecs) / 2).max(PING_MIN));
        Self { socket, interval, next: now, is_stopping: false }
    }

    /// When the manager is to hear of us; `None`: never.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.interval.map(|_| self.next)
    }

    /// To be called by the loop itself, so that one that hangs is silent.
    pub fn handle_timeout(&mut self, now: Instant) {
        if let Some(interval) = self.interval.filter(|_| now >= self.next) {
            self.next = now + interval;
            self.send("WATCHDOG=1");
        }
    }

    /// It serves, or it is done with [`Notify::reloading`].
    pub fn ready(&self, status: &str) {
        self.send(&with_status("READY=1", status));
    }

    /// Not there yet, or not any more, and why.
    pub fn status(&self, status: &str) {
        self.send(&with_status("", status));
    }

    /// [`Notify::ready`] follows, from this program or from the one that takes its place.
    pub fn reloading(&self) {
        if self.socket.is_some() {
            let time = clock_gettime(ClockId::Monotonic);
            let usecs = i128::from(time.tv_sec) * 1_000_000 + i128::from(time.tv_nsec) / 1_000;
            self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usecs}"));
        }
    }

    /// The first time only: it does not come back from there.
    pub fn stopping(&mut self) {
        if !core::mem::replace(&mut self.is_stopping, true) {
            self.send(&with_status("STOPPING=1", "stopping"));
        }
    }

    fn send(&self, text: &str) {
        if let Some(socket) = &self.socket {
            let _ = socket.send(text.as_bytes());
        }
    }
}

/// A path, or a name without a file behind an `@`.
fn open(name: &OsStr) -> io::Result<UnixDatagram> {
    let addr = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        [b'/', ..] => SocketAddr::from_pathname(name)?,
        _ => return Err(io::ErrorKind::Unsupported.into()),
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&addr)?;
    Ok(socket)
}

/// One line, whatever stands in `status`.
fn with_status(first: &str, status: &str) -> String {
    let status: String =
        status.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_MAX).collect();
    let separator = if first.is_empty() { "" } else { "\n" };
    [first, separator, "STATUS=", &status].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(socket: UnixDatagram, interval: Option<Duration>) -> Notify {
        socket.set_nonblocking(true).unwrap();
        Notify { socket: Some(socket), interval, next: Instant::BOOT, is_stopping: false }
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut text = [0; 1024];
        let len = socket.recv(&mut text).unwrap();
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    #[test]
    fn names_of_both_kinds_are_found_and_others_refused() {
        let name = format!("picored-notify-{}", std::process::id());
        let addr = SocketAddr::from_abstract_name(&name).unwrap();
        let there = UnixDatagram::bind_addr(&addr).unwrap();
        open(OsStr::new(&format!("@{name}"))).unwrap().send(b"x").unwrap();
        assert_eq!(received(&there), "x");
        assert!(open(OsStr::new("vsock:2:1234")).is_err() && open(OsStr::new("")).is_err());
    }

    #[test]
    fn a_status_is_one_line_and_stopping_is_said_once() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut notify = to(ours, None);
        notify.ready("all\nREADY=0");
        assert_eq!(received(&theirs), "READY=1\nSTATUS=all READY=0");
        notify.stopping();
        notify.stopping();
        notify.status("over");
        assert_eq!(received(&theirs), "STOPPING=1\nSTATUS=stopping");
        assert_eq!(received(&theirs), "STATUS=over");
        assert_eq!(notify.next_deadline(), None);
    }

    #[test]
    fn who_does_not_read_holds_nobody_up_and_is_not_told_too_often() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let mut notify = to(ours, Some(Duration::from_secs(5)));
        for millis in 0..30_000 {
            notify.handle_timeout(Instant::BOOT + Duration::from_millis(millis));
        }
        assert_eq!(notify.next_deadline(), Some(Instant::BOOT + Duration::from_secs(30)));
        theirs.set_nonblocking(true).unwrap();
        assert_eq!(std::iter::from_fn(|| theirs.recv(&mut [0; 16]).ok()).count(), 6);
        // Its queue is full long before.
        (0..10_000).for_each(|_| notify.status("x"));
    }
}
