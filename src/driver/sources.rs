//! What the loop listens to, opened at the start.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::path::Path;

use mio::{Events, Interest, Poll};
use rustix::process::Signal;
use signal_hook_mio::v1_0::Signals;

use super::control::{Client, Control};
use super::net::{self, BindError, Sockets};
use super::notify::Notify;
use super::slots::{CONTROL, LISTENER, SIGNALS, UDP};
use super::{clock, log};
use crate::control::{Done, Reloaded, Request, error_line, reply_line};
use crate::limits::CLIENTS_MAX;

/// An address that is not there yet (a network that is still coming up) is tried again after this.
const RETRY: Duration = Duration::from_secs(5);
/// `EX_OSERR`: the system does not let us.
pub const SYSTEM_ERROR: u8 = 71;
/// `EX_TEMPFAIL`: one of us runs already.
pub const ALREADY_RUNNING: u8 = 75;

/// Sockets, signals, control socket, all registered.
pub struct Sources {
    pub(super) poll: Poll,
    pub(super) signals: Signals,
    pub(super) sockets: Sockets,
    pub(super) control: Control,
    pub(super) notify: Notify,
}

/// Why the daemon cannot start: for a person, and the exit code.
#[derive(Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u8,
    pub text: String,
}

impl Failure {
    fn system(what: &str, error: &io::Error) -> Self {
        Self { code: SYSTEM_ERROR, text: format!("{what}: {error}") }
    }
}

/// How it came out.
pub enum Opened {
    Ready(Box<Sources>, SocketAddr),
    /// TERM, INT or `picored stop` came while it waited. Who asked is told of the end by the end of its connection.
    Stop(Vec<Client>),
    /// HUP, `picored reload` or `restart` came while it waited, and the configuration, read anew, is one to start with.
    Restart(Vec<Client>),
}

impl Sources {
    /// Opens everything and finds the address to advertise, waiting for both if need be. The control socket comes
    /// first: who waits says so there. `reload`: whether the configuration, read anew, is one to start with.
    pub fn open(
        bind: &[SocketAddr],
        advertise: Option<SocketAddr>,
        control: &Path,
        reload: &mut dyn FnMut() -> Result<(), String>,
    ) -> Result<Opened, Failure> {
        let poll = Poll::new().map_err(|error| Failure::system("cannot open epoll", &error))?;
        let signals = signals(&poll).map_err(|error| Failure::system("cannot catch signals", &error))?;
        let mut control = Control::bind(control).map_err(|error| control_failure(control, &error))?;
        (poll.registry().register(&mut control.listener, CONTROL, Interest::READABLE))
            .map_err(|error| Failure::system("cannot listen", &error))?;
        let mut waiting = Waiting {
            poll,
            signals,
            control,
            clients: Vec::new(),
            notify: Notify::from_env(clock::now()),
            reload,
        };
        let sockets = match waiting.wait_for(|| bind_once(bind))? {
            Waited::Done(sockets) => sockets,
            Waited::Stop => return Ok(waiting.stop()),
            Waited::Restart => return Ok(Opened::Restart(waiting.clients)),
        };
        let local = sockets.local;
        // An address without a port (or port 0, in tests) gets the one that is bound.
        let advertise = advertise.map(|addr| match addr.port() {
            0 => SocketAddr::new(addr.ip(), local.port()),
            _ => addr,
        });
        let advertise = match waiting.wait_for(|| find_advertise(advertise, local))? {
            Waited::Done(advertise) => advertise,
            Waited::Stop => return Ok(waiting.stop()),
            Waited::Restart => return Ok(Opened::Restart(waiting.clients)),
        };
        let Waiting { poll, signals, control, notify, .. } = waiting;
        let mut sources = Self { poll, signals, sockets, control, notify };
        sources.register().map_err(|error| Failure::system("cannot register sockets", &error))?;
        Ok(Opened::Ready(Box::new(sources), advertise))
    }

    fn register(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut self.sockets.udp, UDP, Interest::READABLE)?;
        registry.register(&mut self.sockets.listener, LISTENER, Interest::READABLE)?;
        // Who connected meanwhile is told of once more.
        registry.reregister(&mut self.control.listener, CONTROL, Interest::READABLE)
    }
}

fn signals(poll: &Poll) -> io::Result<Signals> {
    let wanted = [Signal::TERM, Signal::INT, Signal::HUP, Signal::CHILD];
    let mut signals = Signals::new(wanted.map(Signal::as_raw))?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    Ok(signals)
}

/// `Ok(Err)`: not yet, and why.
fn bind_once(bind: &[SocketAddr]) -> Result<Result<Sockets, String>, Failure> {
    match Sockets::bind(bind) {
        Ok(sockets) => Ok(Ok(sockets)),
        Err(error @ BindError::NotYet(_)) => Ok(Err(error.to_string())),
        Err(error) => Err(Failure { code: SYSTEM_ERROR, text: error.to_string() }),
    }
}

fn find_advertise(
    advertise: Option<SocketAddr>,
    local: SocketAddr,
) -> Result<Result<SocketAddr, String>, Failure> {
    let found = advertise.or_else(|| net::default_advertise(local));
    Ok(found.ok_or_else(|| {
        "no address to advertise: no default route (yet), and \"advertise\" is not set".into()
    }))
}

/// What can be heard while something is waited for.
struct Waiting<'a> {
    poll: Poll,
    signals: Signals,
    control: Control,
    clients: Vec<Client>,
    /// Who waits is alive: a watchdog that runs on from before a restart must not end it.
    notify: Notify,
    reload: &'a mut dyn FnMut() -> Result<(), String>,
}

enum Waited<T> {
    Done(T),
    Stop,
    Restart,
}

impl Waiting<'_> {
    fn stop(mut self) -> Opened {
        self.notify.stopping();
        Opened::Stop(self.clients)
    }

    /// Tries until it works, says once why it does not, and whenever it is asked.
    fn wait_for<T>(
        &mut self,
        mut attempt: impl FnMut() -> Result<Result<T, String>, Failure>,
    ) -> Result<Waited<T>, Failure> {
        let mut told = false;
        loop {
            let why = match attempt()? {
                Ok(done) => return Ok(Waited::Done(done)),
                Err(why) => why,
            };
            if !core::mem::replace(&mut told, true) {
                ::log::warn!("event=waiting {why}; trying again every {} s", RETRY.as_secs());
                self.notify.status(&format!("waiting: {why}"));
            }
            if let Some(over) = self.sleep(&why)? {
                return Ok(over);
            }
        }
    }

    /// Until it is time to try again, or `Some`: until somebody wants something else.
    fn sleep<T>(&mut self, why: &str) -> Result<Option<Waited<T>>, Failure> {
        let until = clock::now() + RETRY;
        let mut events = Events::with_capacity(4);
        loop {
            let now = clock::now();
            self.notify.handle_timeout(now);
            let left = until.since(now);
            if left.is_zero() {
                return Ok(None);
            }
            let left = self.notify.next_deadline().map_or(left, |at| left.min(at.since(now)));
            match self.poll.poll(&mut events, Some(left)) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                    return Err(Failure::system("cannot wait", &error));
                }
                _ => {}
            }
            let signals: Vec<i32> = self.signals.pending().collect();
            let came = |wanted: Signal| signals.contains(&wanted.as_raw());
            if came(Signal::TERM) || came(Signal::INT) {
                return Ok(Some(Waited::Stop));
            }
            let wanted = self.answer(why);
            if wanted == Some(Wanted::Stop) {
                return Ok(Some(Waited::Stop));
            }
            if wanted == Some(Wanted::Restart) || came(Signal::HUP) && read_anew(self.reload).is_ok() {
                // The next program would not know of a signal that this one has caught meanwhile.
                let ends = |signal| [Signal::TERM, Signal::INT].map(Signal::as_raw).contains(&signal);
                let over = if self.signals.pending().any(ends) { Waited::Stop } else { Waited::Restart };
                return Ok(Some(over));
            }
        }
    }

    /// Everybody is told what is waited for, unless it is to stop or to read the configuration anew.
    fn answer(&mut self, why: &str) -> Option<Wanted> {
        while let Ok((socket, _)) = self.control.listener.accept() {
            if self.clients.len() >= CLIENTS_MAX {
                self.clients.remove(0);
            }
            let mut client = Client::new(0, socket);
            if client.register(self.poll.registry(), CONTROL).is_ok() {
                self.clients.push(client);
            }
        }
        let error = format!("picored has not started yet: {why}; it tries again every {} s", RETRY.as_secs());
        let mut scratch = [0; 1024];
        let (mut stop, mut restart) = (false, false);
        let reload = &mut *self.reload;
        self.clients.retain_mut(|client| {
            loop {
                let line = match client.next_line(&mut scratch) {
                    Ok(None) => return true,
                    Ok(Some(line)) => line,
                    Err(_) => return false,
                };
                let reply = match Request::parse(&line) {
                    Ok(Request::Stop) => {
                        stop = true;
                        reply_line(&Done { message: "stopping".into() })
                    }
                    Ok(request @ (Request::Reload | Request::Restart)) => match read_anew(reload) {
                        Ok(()) => {
                            restart = true;
                            restarting(&request)
                        }
                        Err(error) => error_line(&error),
                    },
                    _ => error_line(&error),
                };
                if client.reply(&reply, false).is_err() {
                    return false;
                }
            }
        });
        match (stop, restart) {
            (true, _) => Some(Wanted::Stop),
            (false, true) => Some(Wanted::Restart),
            (false, false) => None,
        }
    }
}

/// What a client asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Stop,
    Restart,
}

/// What who asked for it expects to hear: both come to the same here.
fn restarting(request: &Request) -> String {
    match request {
        Request::Reload => {
            let all = "everything (it had not started yet, and starts again)".to_owned();
            reply_line(&Reloaded { changed: vec![all], ..Reloaded::default() })
        }
        _ => reply_line(&Done { message: "restarting".into() }),
    }
}

/// The log's file first, as the daemon that runs does it: it is made anew whatever stands in the configuration.
fn read_anew(reload: &mut dyn FnMut() -> Result<(), String>) -> Result<(), String> {
    if let Err(error) = log::reopen() {
        ::log::warn!("event=log-failed {error}; the file that was open stays in use");
    }
    reload().inspect_err(|error| ::log::warn!("event=reload-failed {error}"))
}

fn control_failure(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::AddrInUse => Failure {
            code: ALREADY_RUNNING,
            text: format!("control socket {path}: another picored answers there"),
        },
        io::ErrorKind::AlreadyExists => Failure {
            code: SYSTEM_ERROR,
            text: format!("control socket {path}: there is a file that is no socket"),
        },
        _ => Failure::system(&format!("control socket {path}"), error),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use super::*;

    /// What comes of `cmd`, sent while an address is waited for that is not there: 192.0.2.0/24 is for documentation.
    fn waiting(cmd: &'static str, reload: &mut dyn FnMut() -> Result<(), String>) -> (Opened, String) {
        let path = std::env::temp_dir().join(format!("picored-sources-{}-{cmd}", std::process::id()));
        let there = path.clone();
        let client = std::thread::spawn(move || {
            let began = Instant::now();
            let mut socket = loop {
                match UnixStream::connect(&there) {
                    Ok(socket) => break socket,
                    Err(error) => assert!(began.elapsed() < Duration::from_secs(60), "{error}"),
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            writeln!(socket, "{{\"cmd\":\"{cmd}\"}}").unwrap();
            let mut reply = String::new();
            BufReader::new(socket).read_line(&mut reply).unwrap();
            reply
        });
        let bind = [SocketAddr::from(([192, 0, 2, 77], 7946))];
        let opened =
            Sources::open(&bind, None, &path, reload).unwrap_or_else(|failure| panic!("{failure:?}"));
        (opened, client.join().unwrap())
    }

    #[test]
    fn who_waits_reads_the_configuration_anew_when_asked_to() {
        let mut reloads = 0;
        let (opened, reply) = waiting("restart", &mut || {
            reloads += 1;
            Ok(())
        });
        // The client, once answered, may be gone already.
        assert!(matches!(opened, Opened::Restart(_)));
        assert!(reply.contains("restarting"), "{reply}");
        assert_eq!(reloads, 1);
    }
}
