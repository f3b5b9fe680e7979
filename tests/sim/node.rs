//! One server: the agent and its configuration, its applications with scripted health, its handler with
//! scripted behaviour, and the ways in which a server can be away.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use picored::agent::{Agent, AttemptId};
use picored::check::attempt::{Exit, Outcome};
use picored::delivery::RunId;
use picored::membership::{ResolveId, Timing};
use picored::time::Instant;

use crate::disk::{Disk, Memory};
use crate::electorate::{Changes, Shadow};
use crate::engine::Entry;
use crate::secs;
use crate::settings::{Settings, first_address, second_address};
use crate::told::Told;

/// How an application answers its check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Up,
    Down,
    /// Accepts nothing and refuses nothing: the check's own deadline ends it.
    Hang,
}

/// How a run of the handler goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Succeed,
    /// Succeeds after some seconds.
    Slow,
    /// Succeeds after so long.
    Takes(Duration),
    /// Ends with this code and changes nothing outside.
    Fail(i32),
    /// Does its work, and ends with this code all the same.
    FailAfter(i32),
    /// Until it gets TERM.
    Hang,
    /// Until it gets KILL.
    IgnoreTerm,
    /// As long as the machine is up: it waits for a disk that does not answer.
    IgnoreKill,
}

/// What reaches the process, and waits while it is frozen.
#[derive(Clone, Debug)]
pub enum Input {
    Packet {
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// The kernel made the connection; the process is asked now.
    Accept {
        stream: u64,
        from: SocketAddr,
    },
    Stream {
        stream: u64,
        end: usize,
        segment: crate::net::Segment,
    },
    Attempt {
        id: AttemptId,
        outcome: Outcome,
    },
    Exit {
        id: RunId,
        exit: Exit,
    },
    Persisted(Result<(), String>),
    Resolved {
        id: ResolveId,
        addresses: Vec<IpAddr>,
    },
}

/// A line of the log, as far as tests look at it.
#[derive(Clone, Debug)]
pub struct Note {
    pub at: Instant,
    pub event: String,
    pub node: String,
}

/// A run that has not ended.
#[derive(Clone, Debug)]
pub struct Running {
    pub told: Told,
    pub behaviour: Behaviour,
    pub began: Instant,
}

/// An attempt under way.
#[derive(Clone, Copy, Debug)]
pub struct Underway {
    pub is_child: bool,
    /// Somewhere else than on the own machine.
    pub public: Option<SocketAddr>,
    pub began: Instant,
}

/// The last attempt at a public address that ended.
#[derive(Clone, Copy, Debug)]
pub struct Tried {
    pub ended: Instant,
    pub answered: bool,
    /// When one was answered last.
    pub answered_at: Option<Instant>,
}

/// Notes that are looked through for what happened since a node was inspected last.
const LATELY: usize = 200;

/// Datagrams that a socket holds for a process that does not read (212,992 bytes on Linux, small ones
/// cost about 800 each).
pub const SOCKET_BUFFER: usize = 256;

/// When this world began, since 1970.
const FIRST_DAY: Duration = secs(1_800_000_000);

pub struct Node {
    pub index: usize,
    pub name: String,
    pub addr: SocketAddr,
    pub timing: Timing,
    /// `None`: the process does not run.
    pub agent: Option<Agent>,
    /// Counts the starts of the process.
    pub life: u32,
    pub started: Instant,
    /// The machine; without it not even its kernel answers.
    pub powered: bool,
    /// The process is stopped; the machine, its applications and handlers go on.
    pub frozen: bool,
    /// With the whole machine.
    pub suspended: bool,
    /// Its only route is gone: the system refuses to send, and nothing arrives.
    pub no_uplink: bool,
    /// The system refuses to send to these.
    pub no_route: Vec<SocketAddr>,
    /// It never comes back.
    pub gone_for_good: bool,
    pub disk: Disk,
    /// Its date is so many seconds off.
    pub clock_off: i64,
    pub inbox: Vec<Input>,
    /// Children that would have ended while the machine was suspended.
    pub stalled: Vec<Entry>,
    /// When `handle_timeout` is due.
    pub wake: Option<Instant>,
    /// As much later than asked for as the process may be woken.
    pub lateness: Duration,
    /// When it was woken last, and how often at that one moment.
    pub woken: (Instant, u32),
    /// Since the beginning of a minute: when that was, wake-ups, writes of the state file, runs.
    pub minute: Minute,
    pub attempts: BTreeMap<AttemptId, Underway>,
    /// Of this life.
    pub tried: BTreeMap<SocketAddr, Tried>,
    pub runs: BTreeMap<RunId, Running>,
    /// Children of processes that are gone, by those lives.
    pub orphans: BTreeMap<(u32, RunId), Running>,
    pub health: Vec<Health>,
    /// For the next runs, in this order; then [`Node::behaviour`].
    pub script: VecDeque<Behaviour>,
    pub behaviour: Behaviour,
    /// The handler of this name always fails here.
    pub failing: Option<&'static str>,
    /// Its own settings, where they differ from the others'.
    pub settings: Option<Settings>,
    pub notes: Vec<Note>,
    /// The process ended by itself, with this code.
    pub exited: Option<u8>,
    /// It asked to be replaced by the program that is on disk now.
    pub restarting: bool,
    /// Answers of the control socket by client: lines, and whether the last one was among them.
    pub replies: BTreeMap<u32, (Vec<String>, bool)>,
    /// The greatest incarnation seen of itself in this life.
    pub incarnation: u64,
    /// Address and incarnation of each member when it was asked last, in this life.
    pub known: BTreeMap<String, (String, u64)>,
    /// A life of it began without what an earlier one knew.
    pub forgot_all: bool,
    /// A person told it to run, whatever it knows.
    pub synced: bool,
    pub has_left: bool,
    /// A life of it began with what was outdated.
    pub restored: bool,
    /// A handler of this life ended with a code that means "never on this node".
    pub has_said_never: bool,
    /// All that it ever had.
    pub addresses: Vec<IpAddr>,
    /// What its electorate must be.
    pub shadow: Shadow,
}

/// What is counted by the minute.
#[derive(Clone, Copy, Default)]
pub struct Minute {
    pub began: Instant,
    pub wakes: u32,
    pub persists: u32,
    /// Whatever may want the state file written at once: runs, commands, stops.
    pub reasons: u32,
}

impl Node {
    pub fn new(index: usize, timing: Timing) -> Self {
        Self {
            index,
            name: format!("n{}", index + 1),
            addr: first_address(index),
            timing,
            agent: None,
            life: 0,
            started: Instant::ZERO,
            powered: true,
            frozen: false,
            suspended: false,
            no_uplink: false,
            no_route: Vec::new(),
            gone_for_good: false,
            disk: Disk::default(),
            clock_off: 0,
            inbox: Vec::new(),
            stalled: Vec::new(),
            wake: None,
            lateness: Duration::ZERO,
            woken: (Instant::ZERO, 0),
            minute: Minute::default(),
            attempts: BTreeMap::new(),
            tried: BTreeMap::new(),
            runs: BTreeMap::new(),
            orphans: BTreeMap::new(),
            health: Vec::new(),
            script: VecDeque::new(),
            behaviour: Behaviour::Succeed,
            failing: None,
            settings: None,
            notes: Vec::new(),
            exited: None,
            restarting: false,
            replies: BTreeMap::new(),
            incarnation: 0,
            known: BTreeMap::new(),
            forgot_all: false,
            synced: false,
            has_left: false,
            restored: false,
            has_said_never: false,
            addresses: vec![first_address(index).ip()],
            shadow: Shadow::default(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    /// It runs and can be asked.
    pub fn is_awake(&self) -> bool {
        self.is_running() && !self.frozen
    }

    /// The date there, since 1970.
    pub fn date(&self, now: Instant) -> Duration {
        let date = (FIRST_DAY + now.since(Instant::ZERO)).as_secs();
        Duration::from_secs(date.saturating_add_signed(self.clock_off))
    }

    pub fn start(
        &mut self,
        settings: &Settings,
        names: &[String],
        seed: picored::rng::Seed,
        now: Instant,
        memory: Memory,
    ) {
        let settings = self.settings.as_ref().unwrap_or(settings);
        let config = settings.config(self.index, names, self.addr, &self.timing);
        self.health.resize(settings.apps.len(), Health::Up);
        let saved = self.disk.read(memory);
        let is_intact = memory == Memory::Kept && !self.disk.failed;
        let named = settings.expected_by(self.index, self.addr, names);
        let changes = self.changes();
        self.shadow.ended(&changes);
        self.shadow.start(now, &self.name, named, saved.is_some(), is_intact);
        self.forgot_all |= saved.is_none() && self.life > 0;
        self.restored |= !is_intact;
        self.has_said_never = false;
        let mut agent = Agent::with_state(config, seed, now, self.date(now), saved);
        agent.handle_wall_clock(now, self.date(now));
        self.agent = Some(agent);
        self.life += 1;
        self.started = now;
        self.powered = true;
        self.frozen = false;
        self.suspended = false;
        self.exited = None;
        self.has_left = false;
        self.woken = (now, 0);
        self.minute = Minute { began: now, ..Minute::default() };
        self.incarnation = 0;
        self.known.clear();
        self.tried.clear();
    }

    /// The process is gone; the children of its handlers live on.
    pub fn clear(&mut self) {
        self.agent = None;
        self.frozen = false;
        self.suspended = false;
        self.wake = None;
        self.inbox.clear();
        self.attempts.clear();
        for (id, running) in std::mem::take(&mut self.runs) {
            self.orphans.insert((self.life, id), running);
        }
        self.replies.clear();
    }

    /// Nothing on this machine lives on.
    pub fn cut_power(&mut self) {
        self.clear();
        self.orphans.clear();
        self.stalled.clear();
        self.powered = false;
    }

    /// Keeps what is of interest of a line of the log: `event=node-failed node=n3 …`.
    pub fn note(&mut self, at: Instant, line: &str) {
        let Some(event) = log_field(line, "event") else { return };
        let node = log_field(line, "node").unwrap_or("");
        self.notes.push(Note { at, event: event.to_string(), node: node.to_string() });
    }

    /// When this node said `event` about `node` first, `since` then.
    pub fn noted(&self, event: &str, node: &str, since: Instant) -> Option<Instant> {
        let is_it = |note: &&Note| note.at >= since && note.event == event && note.node == node;
        self.notes.iter().find(is_it).map(|note| note.at)
    }

    /// Its address, or the second one that it has where all are dual-stack.
    pub fn publishes(&self, addr: IpAddr) -> bool {
        addr == self.addr.ip() || addr == second_address(self.index)
    }

    /// When this node said `event` about `node` last.
    pub fn last_noted(&self, event: &str, node: &str) -> Option<Instant> {
        self.notes.iter().rev().find(|note| note.event == event && note.node == node).map(|note| note.at)
    }

    /// What it said lately of its members.
    pub fn changes(&self) -> Changes {
        let is_change = |event: &str| ["node-joined", "node-failed", "node-left"].contains(&event);
        let left = self.notes.iter().rev().take(LATELY).filter(|note| note.event == "node-left");
        Changes {
            last: self.notes.iter().rev().find(|note| is_change(&note.event)).map(|note| note.at),
            left: left.map(|note| (note.at, note.node.clone())).collect(),
        }
    }

    pub fn had(&self, addr: IpAddr) -> bool {
        self.addresses.contains(&addr)
    }

    pub fn count(&self, event: &str) -> usize {
        self.notes.iter().filter(|note| note.event == event).count()
    }
}

fn log_field<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let value = |word: &'a str| word.strip_prefix(key)?.strip_prefix('=');
    // A colon ends the fields and begins the sentence.
    let word = line.split_ascii_whitespace().find_map(value)?;
    Some(word.strip_suffix(':').unwrap_or(word).trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::log_field;

    #[test]
    fn the_fields_of_a_log_line_are_found() {
        let line = "event=node-failed from=n1 node=n3: n3 failed";
        assert_eq!(log_field(line, "event"), Some("node-failed"));
        assert_eq!(log_field(line, "node"), Some("n3"));
        assert_eq!(log_field(line, "app"), None);
    }
}
