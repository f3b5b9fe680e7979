//! What the loop listens to, opened at the start.

use core::net::SocketAddr;
use core::time::Duration;
use std::io;
use std::path::Path;

use mio::{Events, Interest, Poll};
use rustix::process::Signal;
use signal_hook_mio::v1_0::Signals;

use super::control::Control;
use super::net::{self, BindError, Sockets};
use super::slots::{CONTROL, LISTENER, SIGNALS, UDP};

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

impl Sources {
    /// Opens everything and finds the address to advertise, waiting for both if need be.
    ///
    /// `None`: TERM or INT came while it waited.
    pub fn open(
        bind: &[SocketAddr],
        advertise: Option<SocketAddr>,
        control: &Path,
    ) -> Result<Option<(Self, SocketAddr)>, Failure> {
        let mut poll = Poll::new().map_err(|error| Failure::system("cannot open epoll", &error))?;
        let mut signals = signals(&poll).map_err(|error| Failure::system("cannot catch signals", &error))?;
        let Some(sockets) = wait_for(&mut poll, &mut signals, || bind_once(bind))? else { return Ok(None) };
        let local = sockets.local;
        // An address without a port (or port 0, in tests) gets the one that is bound.
        let advertise = advertise.map(|addr| match addr.port() {
            0 => SocketAddr::new(addr.ip(), local.port()),
            _ => addr,
        });
        let Some(advertise) = wait_for(&mut poll, &mut signals, || find_advertise(advertise, local))? else {
            return Ok(None);
        };
        let control = Control::bind(control).map_err(|error| control_failure(control, &error))?;
        let mut sources = Self { poll, signals, sockets, control };
        sources.register().map_err(|error| Failure::system("cannot register sockets", &error))?;
        Ok(Some((sources, advertise)))
    }

    fn register(&mut self) -> io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut self.sockets.udp, UDP, Interest::READABLE)?;
        registry.register(&mut self.sockets.listener, LISTENER, Interest::READABLE)?;
        registry.register(&mut self.control.listener, CONTROL, Interest::READABLE)
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

/// Tries until it works, says once why it does not, and gives up at TERM and INT (`None`).
fn wait_for<T>(
    poll: &mut Poll,
    signals: &mut Signals,
    mut attempt: impl FnMut() -> Result<Result<T, String>, Failure>,
) -> Result<Option<T>, Failure> {
    let mut told = false;
    loop {
        let why = match attempt()? {
            Ok(done) => return Ok(Some(done)),
            Err(why) => why,
        };
        if !core::mem::replace(&mut told, true) {
            ::log::warn!("event=waiting {why}; trying again every {} s", RETRY.as_secs());
        }
        let mut events = Events::with_capacity(4);
        match poll.poll(&mut events, Some(RETRY)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(Failure::system("cannot wait", &error));
            }
            _ => {}
        }
        let ends = [Signal::TERM.as_raw(), Signal::INT.as_raw()];
        if signals.pending().any(|signal| ends.contains(&signal)) {
            return Ok(None);
        }
    }
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
