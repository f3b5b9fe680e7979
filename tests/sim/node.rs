//! One server: the agent and its configuration, its applications with scripted health, its handler with
//! scripted behaviour, and the ways in which a server can be away.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use picored::agent::{self, Agent, AppConfig, AttemptId};
use picored::check::attempt::{ExecTarget, Exit, Outcome, Target};
use picored::check::{self, CheckConfig};
use picored::delivery::{self, Mode, Place, RunId};
use picored::membership::{self, ResolveId, Timing};
use picored::safety::{self, AllDown, AppPolicy, MinUp};
use picored::time::Instant;
use picored::wire::crypt::{Key, KeyRing};

use crate::outside::Told;
use crate::{hours, mins, secs};

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
    /// Ends with this code and changes nothing outside.
    Fail(i32),
    /// Until it gets TERM.
    Hang,
    /// Until it gets KILL.
    IgnoreTerm,
    /// As long as the machine is up: it waits for a disk that does not answer.
    IgnoreKill,
}

/// What the cluster's nodes have in common; [`Settings::config`] makes a node's configuration of it.
#[derive(Clone)]
pub struct Settings {
    pub timing: Timing,
    pub apps: Vec<String>,
    pub all_down: AllDown,
    /// One `sync` handler named `dns` for all apps.
    pub handler: bool,
    /// Other handlers, besides `dns`.
    pub handlers: Vec<delivery::Config>,
    /// Apps are checked by a program instead of a connection.
    pub exec: bool,
    pub resync: Duration,
    pub check_interval: Duration,
    /// As many of the first nodes are named in everybody's `join`.
    pub seeds: usize,
    pub key: Option<[u8; 16]>,
}

/// The timing of the default profile, `picored`.
pub fn picored_timing() -> Timing {
    picored::config::profile::timing("picored")
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: picored_timing(),
            apps: Vec::new(),
            all_down: AllDown::Keep,
            handler: true,
            handlers: Vec::new(),
            exec: false,
            resync: mins(10),
            check_interval: secs(10),
            seeds: 3,
            key: None,
        }
    }
}

/// Where the app with this index listens, on its own machine.
pub fn app_target(index: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 8_000 + index as u16)
}

/// The first gossip address of the node with this index.
pub fn first_address(index: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, (index / 200) as u8, (index % 200) as u8 + 1).into(), 7_946)
}

impl Settings {
    fn config(&self, name: &str, advertise: SocketAddr, timing: &Timing) -> agent::Config {
        let join = (0..self.seeds).map(first_address).filter(|&seed| seed != advertise);
        let key = |bytes: [u8; 16]| Key::new(&bytes).expect("16 bytes are a key");
        agent::Config {
            membership: membership::Config {
                node: name.into(),
                cluster: "default".into(),
                advertise,
                label: Box::default(),
                keys: KeyRing { keys: self.key.map(key).into_iter().collect() },
                delegate_versions: [2, 5, 5],
                timing: timing.clone(),
                join: join.map(membership::Target::Addr).collect(),
                members: Vec::new(),
                allow: Vec::new(),
                forget_after: hours(72),
            },
            apps: (0..self.apps.len()).map(|index| self.app(index)).collect(),
            handlers: self.all_handlers(),
            safety: safety::Config::default(),
            publish: Vec::new(),
            tags: Vec::new(),
            no_effect: Vec::new(),
            keys_file: None,
        }
    }

    fn all_handlers(&self) -> Vec<delivery::Config> {
        let dns = (self.handler && !self.apps.is_empty()).then(|| self.handler());
        dns.into_iter().chain(self.handlers.iter().cloned()).collect()
    }

    fn app(&self, index: usize) -> AppConfig {
        let program = || ExecTarget {
            argv: vec!["/usr/local/lib/picored/check".into(), index.to_string().into()],
            warn_ok: false,
        };
        let check = CheckConfig {
            target: match self.exec {
                true => Target::Exec(Box::new(program())),
                false => Target::Tcp(app_target(index)),
            },
            interval: self.check_interval,
            timeout: secs(5),
            rise: 2,
            fall: 3,
        };
        AppConfig {
            check: check::Config {
                name: self.apps[index].as_str().into(),
                checks: vec![check],
                grace: secs(30),
                hold_up: secs(15),
            },
            policy: AppPolicy {
                min_up: MinUp::Count(1),
                all_down: self.all_down.clone(),
                verify: None,
                hold_up: secs(15),
            },
            publish: Vec::new(),
        }
    }

    /// One `sync` handler named `dns` for all apps.
    pub fn handler(&self) -> delivery::Config {
        let mut apps: Vec<Box<str>> = self.apps.iter().map(|app| app.as_str().into()).collect();
        apps.sort_unstable();
        delivery::Config {
            name: "dns".into(),
            run: vec!["/etc/picored/handlers/nsupdate".into()],
            mode: Mode::Sync,
            apps,
            place: Place::One,
            events: Vec::new(),
            member_events: Vec::new(),
            timeout: secs(30),
            debounce: secs(3),
            min_interval: secs(5),
            resync: self.resync,
            env: Vec::new(),
            user: None,
        }
    }
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
}

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
    /// The machine; without it not even its kernel answers.
    pub powered: bool,
    pub frozen: bool,
    /// Its only route is gone: the system refuses to send, and nothing arrives.
    pub no_uplink: bool,
    pub inbox: Vec<Input>,
    /// When `handle_timeout` is due.
    pub wake: Option<Instant>,
    /// As much later than asked for as the process may be woken.
    pub lateness: Duration,
    /// When it was woken last, and how often at that one moment.
    pub woken: (Instant, u32),
    /// Under way; whether it is a child.
    pub attempts: BTreeMap<AttemptId, bool>,
    pub runs: BTreeMap<RunId, Running>,
    pub health: Vec<Health>,
    /// For the next runs, in this order; then [`Node::behaviour`].
    pub script: VecDeque<Behaviour>,
    pub behaviour: Behaviour,
    /// The handler of this name always fails here.
    pub failing: Option<&'static str>,
    pub notes: Vec<Note>,
    /// The process ended by itself, with this code.
    pub exited: Option<u8>,
    /// Answer of the control socket: its lines up to the last.
    pub reply: Vec<String>,
    pub reply_complete: bool,
    /// The greatest incarnation seen of itself in this life.
    pub incarnation: u64,
    /// Address and incarnation of each member when it was asked last, in this life.
    pub known: BTreeMap<String, (String, u64)>,
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
            powered: true,
            frozen: false,
            no_uplink: false,
            inbox: Vec::new(),
            wake: None,
            lateness: Duration::ZERO,
            woken: (Instant::ZERO, 0),
            attempts: BTreeMap::new(),
            runs: BTreeMap::new(),
            health: Vec::new(),
            script: VecDeque::new(),
            behaviour: Behaviour::Succeed,
            failing: None,
            notes: Vec::new(),
            exited: None,
            reply: Vec::new(),
            reply_complete: false,
            incarnation: 0,
            known: BTreeMap::new(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.agent.is_some()
    }

    pub fn start(&mut self, settings: &Settings, seed: picored::rng::Seed, now: Instant) {
        let config = settings.config(&self.name, self.addr, &self.timing);
        self.health.resize(settings.apps.len(), Health::Up);
        let mut agent = Agent::new(config, seed, now);
        agent.handle_wall_clock(now, FIRST_DAY + now.since(Instant::ZERO));
        self.agent = Some(agent);
        self.life += 1;
        self.powered = true;
        self.frozen = false;
        self.exited = None;
        self.woken = (now, 0);
        self.incarnation = 0;
        self.known.clear();
    }

    /// The process is gone, and its children with it.
    pub fn clear(&mut self) {
        self.agent = None;
        self.frozen = false;
        self.wake = None;
        self.inbox.clear();
        self.attempts.clear();
        self.runs.clear();
        self.reply.clear();
    }

    /// How an attempt at `target` ends, and after how long; `None`: it does not by itself.
    pub fn probe(&self, target: &Target) -> Option<Outcome> {
        let index = match target {
            Target::Tcp(addr) => usize::from(addr.port()).checked_sub(8_000),
            Target::Http(http) => usize::from(http.addr.port()).checked_sub(8_000),
            Target::Exec(program) => program.argv.last().and_then(|index| index.parse().ok()),
            Target::Unix(_) => return Some(Outcome::Pass("ok".into())),
        };
        match index.and_then(|index| self.health.get(index)) {
            Some(Health::Up) => Some(Outcome::Pass("connected".into())),
            Some(Health::Hang) => None,
            Some(Health::Down) | None => Some(Outcome::Fail("connection refused".into())),
        }
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
