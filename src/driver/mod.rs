//! The loop, and everything that touches the operating system. It decides nothing.
//!
//! One turn: sleep until a descriptor is ready or a deadline has come, tell the [`Agent`] one thing after
//! the other, and after each do all that it asks for. mio is edge-triggered: what is ready is read until it
//! would block, or its readiness is remembered, or it is registered anew to be told again.

mod attempts;
pub mod children;
pub mod clock;
pub mod control;
pub mod files;
mod jobs;
mod keyfile;
pub mod lock;
pub mod log;
pub mod net;
pub mod notify;
pub mod program;
pub mod resident;
mod slots;
mod sources;
pub mod statefile;
mod streams;
mod unsent;
mod usage;

use core::time::Duration;
use std::io;
use std::path::{Path, PathBuf};

use mio::event::Event;
use mio::{Events, Poll};
use rustix::process::Signal as Unix;
use signal_hook_mio::v1_0::Signals;

use crate::agent::reload::Reload;
use crate::agent::{Action, Agent, ClientId};
use crate::delivery::Signal;
use crate::limits::{PACKET_IN_MAX, PACKET_OUT_MAX, PACKETS_PER_TURN};
use crate::membership;
use crate::time::{Instant, earliest};
use children::Purpose;
use control::{Client, Control};
use net::Sockets;
use notify::Notify;
use slots::{CONTROL, LISTENER, SIGNALS, Slot, Slots, UDP};
pub use sources::{ALREADY_RUNNING, Failure, Opened, SYSTEM_ERROR, Sources};
use statefile::StateFile;

/// How often the core is told the date. A machine without a clock battery learns it some time after its start, and the
/// state file must not hold the wrong one for long.
const WALL_CLOCK_INTERVAL: Duration = Duration::from_secs(10);
/// As much of the buffer as streams and pipes read into at once: what is never touched is no memory.
const READ_SIZE: usize = 8 * 1024;
/// Events taken from the kernel in one turn; the rest come in the next.
const EVENTS_PER_TURN: usize = 64;

/// Reads the configuration anew, and takes the log's part over. Is told the tags that must have room beside what the
/// configuration makes this node say. The error is complete, and for a person.
pub type Reader = Box<dyn FnMut(&[(String, String)]) -> Result<Box<Reload>, String>>;

/// The agent and its descriptors.
pub struct Driver {
    agent: Agent,
    poll: Poll,
    signals: Signals,
    sockets: Sockets,
    control: Control,
    slots: Slots,
    trampoline: PathBuf,
    state: StateFile,
    reader: Reader,
    /// Whatever is read goes through here; a datagram fits whole.
    scratch: Box<[u8]>,
    packet: Vec<u8>,
    /// There may be more datagrams.
    udp_ready: bool,
    /// There may be more connections; tried again each turn, without hurry.
    accept_again: bool,
    accept_clients_again: bool,
    next_client: u32,
    /// TERM or INT came already.
    stopping: bool,
    wall_clock_told: Instant,
    given_back: Instant,
    pages: resident::Pages,
    notify: Notify,
    exit: Option<End>,
}

/// How the loop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process ends, with this exit code.
    Exit(u8),
    /// The process goes on as the program that is now on disk. No child is left.
    Restart,
}

/// What is left when all is closed but the connections of the clients.
pub struct Ended {
    /// Errors: only of the kernel's polling itself.
    pub how: io::Result<End>,
    /// `picored stop` is over when its connection closes, so that has to come last.
    pub clients: Vec<Client>,
}

impl Driver {
    /// `trampoline`: the program that children are started through ([`children::trampoline`]).
    pub fn new(
        sources: Sources,
        agent: Agent,
        trampoline: PathBuf,
        state: StateFile,
        reader: Reader,
    ) -> Self {
        let Sources { poll, signals, sockets, control, notify } = sources;
        Self {
            agent,
            poll,
            signals,
            sockets,
            control,
            slots: Slots::default(),
            trampoline,
            state,
            reader,
            scratch: vec![0; PACKET_IN_MAX].into_boxed_slice(),
            packet: Vec::with_capacity(PACKET_OUT_MAX),
            udp_ready: true,
            accept_again: true,
            accept_clients_again: true,
            next_client: 0,
            stopping: false,
            wall_clock_told: Instant::ZERO,
            given_back: clock::now(),
            pages: resident::Pages::default(),
            notify,
            exit: None,
        }
    }

    /// Runs until the agent says that the process ends.
    pub fn run(mut self) -> Ended {
        let mut how = self.run_loop();
        if let Ok(End::Restart) = how {
            self.end_children();
            // The next program would not know of a signal that this one has caught.
            if self.is_told_to_stop() {
                ::log::info!("event=stop it was told to stop while it ended for a restart");
                how = Ok(End::Exit(0));
            } else {
                self.notify.reloading(); // the next program says when it is ready
            }
        }
        if !matches!(how, Ok(End::Restart)) {
            self.notify.stopping();
        }
        Ended { how, clients: self.slots.into_clients() }
    }

    fn run_loop(&mut self) -> io::Result<End> {
        let mut events = Events::with_capacity(EVENTS_PER_TURN);
        self.drain(clock::now());
        log::complain_of_loss();
        self.notify.ready(&self.ready_text());
        loop {
            if let Some(end) = self.exit {
                return Ok(end);
            }
            match self.poll.poll(&mut events, self.wait(clock::now())) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            let now = clock::now(); // one moment for the whole turn
            self.tell_wall_clock(now);
            for event in &events {
                self.handle_event(now, event);
            }
            self.handle_readiness(now);
            self.handle_timeouts(now);
            self.slots.release_closed();
            // Last: a turn that does not end is not told of.
            self.notify.handle_timeout(now);
            if self.agent.is_ending() {
                self.notify.stopping();
            }
        }
    }

    fn ready_text(&self) -> String {
        format!("serving at {}", self.sockets.local)
    }

    /// How long nothing is due.
    fn wait(&self, now: Instant) -> Option<Duration> {
        if self.udp_ready {
            return Some(Duration::ZERO);
        }
        earliest([self.agent.next_deadline(), self.next_deadline(), self.notify.next_deadline()])
            .map(|at| at.since(now))
    }

    fn handle_event(&mut self, now: Instant, event: &Event) {
        match event.token() {
            UDP => self.udp_ready = true,
            LISTENER => self.accept_again = true,
            CONTROL => self.accept_clients_again = true,
            SIGNALS => self.handle_signals(now),
            token => {
                let Some(index) = slots::index(token) else { return };
                match self.slots.get_mut(index) {
                    Some(Slot::Stream(_)) => self.stream_event(now, index),
                    Some(Slot::Attempt(_)) => self.attempt_event(now, index),
                    Some(Slot::Client(_)) => {
                        let hung_up = event.is_write_closed() || event.is_error();
                        self.client_event(now, index, hung_up);
                    }
                    Some(Slot::Child(_)) => self.child_event(index),
                    None => {} // closed earlier in this turn
                }
            }
        }
    }

    fn handle_readiness(&mut self, now: Instant) {
        if self.udp_ready {
            self.read_udp(now);
        }
        if self.accept_again {
            self.accept_streams(now);
        }
        if self.accept_clients_again {
            self.accept_clients(now);
        }
    }

    fn read_udp(&mut self, now: Instant) {
        let mut errors = 0;
        for _ in 0..PACKETS_PER_TURN {
            match self.sockets.udp.recv_from(&mut self.scratch) {
                Ok((n, from)) => {
                    let packet = self.scratch.get_mut(..n).unwrap_or_default();
                    self.agent.handle_packet(now, net::normalise(from), packet);
                    self.drain(now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.udp_ready = false;
                    return;
                }
                Err(_) => errors += 1, // of an earlier datagram; the next one may be well
            }
        }
        // Nothing but errors: not without a pause. The next datagram announces itself again.
        self.udp_ready = errors < PACKETS_PER_TURN;
    }

    fn handle_signals(&mut self, now: Instant) {
        let pending: Vec<i32> = self.signals.pending().collect();
        for signal in pending {
            match Unix::from_named_raw(signal) {
                Some(Unix::TERM | Unix::INT) => self.stop(now, signal),
                Some(Unix::CHILD) => self.reap(now),
                Some(Unix::HUP) => {
                    self.reload(now, None);
                    self.drain(now);
                }
                _ => {}
            }
        }
    }

    /// The log's file and the control socket's first: they are made anew whatever stands in the configuration.
    fn reload(&mut self, now: Instant, client: Option<ClientId>) {
        self.notify.reloading();
        if let Err(error) = log::reopen() {
            ::log::warn!("event=log-failed {error}; the file that was open stays in use");
        }
        if let Err(error) = self.restore_control() {
            ::log::warn!("event=control-failed the control socket cannot be made anew: {error}");
        }
        let result = (self.reader)(&self.agent.words_of_others());
        self.agent.handle_reload(now, client, result);
        self.notify.ready(&self.ready_text());
    }

    /// The first time asks, the second time does not.
    fn stop(&mut self, now: Instant, signal: i32) {
        if core::mem::replace(&mut self.stopping, true) {
            ::log::warn!("event=stop reason=second-signal ending at once");
            self.exit = Some(End::Exit(u8::try_from(128 + signal).unwrap_or(u8::MAX)));
            return;
        }
        self.agent.stop(now);
        self.drain(now);
    }

    fn is_told_to_stop(&mut self) -> bool {
        let ends = |signal| matches!(Unix::from_named_raw(signal), Some(Unix::TERM | Unix::INT));
        self.stopping || self.signals.pending().any(ends)
    }

    fn tell_wall_clock(&mut self, now: Instant) {
        if now.since(self.wall_clock_told) >= WALL_CLOCK_INTERVAL {
            self.wall_clock_told = now;
            self.agent.handle_wall_clock(now, clock::unix_now());
            if now.since(self.given_back) >= resident::INTERVAL {
                self.given_back = now;
                self.pages.give_back();
            }
        }
    }

    fn handle_timeouts(&mut self, now: Instant) {
        if self.agent.next_deadline().is_some_and(|at| at <= now) {
            self.agent.handle_timeout(now);
            self.drain(now);
        }
        for index in 0..self.slots.end() {
            match self.slots.get_mut(index) {
                Some(slot) if deadline(slot).is_some_and(|at| at <= now) => self.slot_timeout(index),
                _ => {}
            }
        }
    }

    /// The driver's own deadlines: ends of streams that the core has closed, and look-ups.
    fn next_deadline(&self) -> Option<Instant> {
        earliest(self.slots.iter().map(|(_, slot)| deadline(slot)))
    }

    fn slot_timeout(&mut self, index: usize) {
        match self.slots.get_mut(index) {
            Some(Slot::Stream(_)) => drop(self.slots.close(index)),
            Some(Slot::Child(child)) => child.give_up(),
            _ => {}
        }
    }

    /// Does everything that the agent wants done. What fails at once is told it, and the drain goes on.
    fn drain(&mut self, now: Instant) {
        loop {
            self.packet.clear();
            while let Some(to) = self.agent.poll_transmit(now, &mut self.packet) {
                if let Err(error) = self.sockets.send(&self.packet, to)
                    && let Some(error) = net::send_error(&error)
                {
                    self.agent.handle_send_error(now, to, error);
                }
                self.packet.clear();
            }
            let Some(action) = self.agent.poll_action() else { return };
            self.perform(now, action);
        }
    }

    fn perform(&mut self, now: Instant, action: Action) {
        match action {
            Action::Membership(membership::Action::StreamOpen { id, to }) => self.open_stream(now, id, to),
            Action::Membership(membership::Action::StreamSend { id, bytes }) => {
                self.send_stream(now, id, &bytes)
            }
            Action::Membership(membership::Action::StreamClose { id }) => self.close_stream(now, id),
            Action::Membership(membership::Action::Resolve { id, host }) => {
                self.start_resolve(now, id, &host)
            }
            Action::Attempt { id, target } => self.start_attempt(now, id, target),
            Action::AttemptAbort { id } => self.abort_attempt(id, Signal::Term),
            Action::AttemptKill { id } => self.abort_attempt(id, Signal::Kill),
            Action::Run { id, mut run } => self.start_run(now, id, &mut run),
            Action::Signal { id, signal } => self.signal_run(id, signal),
            Action::Reply { client, line, last } => self.reply(client, &line, last),
            Action::Log { level, line } => ::log::log!(level, "{line}"),
            Action::WriteKeys { id, path, keys, known } => {
                let result = keyfile::write(Path::new(&*path), &keys, &known);
                self.agent.handle_keys_written(now, id, keys, result);
            }
            Action::Reload { client } => self.reload(now, Some(client)),
            Action::LogLevel { level } => ::log::set_max_level(level),
            Action::Persist { text } => {
                let result = self.state.write(&text).map(|doubt| {
                    if let Some(doubt) = doubt {
                        ::log::warn!("event=state-doubtful {doubt}");
                    }
                });
                self.agent.handle_persisted(now, result);
            }
            Action::Restart => self.exit = Some(End::Restart),
            Action::Exit { code } => self.exit = Some(End::Exit(code)),
        }
    }
}

/// The part of the buffer that is for streams and pipes.
fn small(scratch: &mut [u8]) -> &mut [u8] {
    let size = scratch.len().min(READ_SIZE);
    scratch.get_mut(..size).unwrap_or_default()
}

fn deadline(slot: &Slot) -> Option<Instant> {
    match slot {
        Slot::Stream(stream) => stream.deadline(),
        Slot::Child(child) => match child.purpose {
            Purpose::Resolve { until, .. } => until,
            _ => None,
        },
        _ => None,
    }
}
