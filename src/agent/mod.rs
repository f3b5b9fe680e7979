//! All of it joined: what happened goes in, what to do comes out. No I/O, no clock, no entropy.

mod attempts;
mod end;
pub mod events;
mod gates;
mod lateness;
mod news;
mod noise;
mod overrides;
mod persons;
mod rehearsing;
pub mod reload;
mod requests;
pub mod state;
mod status;
mod syncing;
mod tags;
#[cfg(test)]
mod tests;
mod transitions;
mod tries;
mod turn;
mod why;

use core::cell::Cell;
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::check::attempt::{Exit, Outcome, Target};
use crate::check::{App, AppState};
use crate::delivery::{AppSituation, Delivery, MemberEvent, Run, RunId, Signal, World};
use crate::membership::{Member, Membership, QueryId, ResolveId, SendError, StreamEvent, StreamId, stamp};
use crate::rng::{Rng, Seed};
use crate::time::{Date, Instant, earliest};
use crate::wire::crypt::KeyRing;
use crate::{check, delivery, membership, queue, safety};
use attempts::Attempts;
use end::Ending;
use events::{Ring, Wall};
use gates::Gates;
use lateness::Lateness;
use noise::Noise;
use overrides::Overrides;
use persons::Persons;
use transitions::Transitions;
use tries::Tries;

/// Everything that the agent needs to know, checked.
#[derive(Clone)]
pub struct Config {
    pub membership: membership::Config,
    pub apps: Vec<AppConfig>,
    pub handlers: Vec<delivery::Config>,
    pub safety: safety::Config,
    /// This node's addresses for handlers; empty: the advertised one.
    pub publish: Vec<IpAddr>,
    /// The operator's own tags.
    pub tags: Vec<(Box<str>, Box<str>)>,
    /// Where the gossip keys are kept; `None`: in the configuration itself, or there are none.
    pub keys_file: Option<Box<str>>,
}

/// One app of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct AppConfig {
    pub check: check::Config,
    pub policy: safety::AppPolicy,
    /// Overrides the node's `publish`; empty: does not.
    pub publish: Vec<IpAddr>,
}

pub type AttemptId = u32;
pub type ClientId = u32;

/// What the driver should do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Streams and look-ups.
    Membership(membership::Action),
    /// Try it; answer with `handle_attempt`. One that cannot be started fails at once.
    Attempt {
        id: AttemptId,
        target: Target,
    },
    /// Give it up: close the connection and answer nothing; a child gets TERM (its group) and is answered when it ended.
    AttemptAbort {
        id: AttemptId,
    },
    /// A child that did not go gets KILL (its group).
    AttemptKill {
        id: AttemptId,
    },
    /// Start it; answer with `handle_exit`.
    Run {
        id: RunId,
        run: Box<Run>,
    },
    Signal {
        id: RunId,
        signal: Signal,
    },
    /// One JSON line for a client of the control socket; `last`: close afterwards.
    Reply {
        client: ClientId,
        line: String,
        last: bool,
    },
    /// One line for the log: `event=… key=value …` and a sentence.
    Log {
        level: log::Level,
        line: String,
    },
    /// Write the gossip keys to their file unless it holds others than these and those `known` to be there; answer
    /// with `handle_keys_written`.
    WriteKeys {
        id: QueryId,
        path: Box<str>,
        keys: KeyRing,
        known: KeyRing,
    },
    /// Open the log anew and read the configuration; answer with `handle_reload`, for this client.
    Reload {
        client: ClientId,
    },
    /// Log what is of this level or more serious.
    LogLevel {
        level: log::LevelFilter,
    },
    /// Write the state file; answer with `handle_persisted`. Comes before a run that it must know of.
    Persist {
        text: String,
    },
    /// The process replaces itself by the program that is now on disk.
    Restart,
    /// The process ends, with this exit code.
    Exit {
        code: u8,
    },
}

/// The whole program less the operating system.
///
/// One input: note how late it comes, apply it, take up what it changed ([`Agent::finish`]). Only what matters to an
/// app or a handler makes the agent look at the apps again, so a ping costs nothing.
pub struct Agent {
    identity: Identity,
    membership: Membership,
    apps: Vec<OwnApp>,
    /// Apps that a reload took away, until the programs of their checks have ended.
    retired: Vec<OwnApp>,
    /// The last [`OwnApp::number`].
    numbers: usize,
    delivery: Delivery,
    attempts: Attempts,
    key_source: reload::KeySource,

    /// What the gates make of each app, in the order of `apps`; of the last look.
    situations: Vec<AppSituation>,
    /// Gates 1 to 4, of the last look.
    may_act: Result<(), safety::Reason>,
    gates: Gates,
    /// There is a handler here that one node runs for all.
    has_one_handlers: bool,
    /// Something changed that apps or handlers may depend on.
    dirty: bool,
    /// Own metadata as the members know it.
    meta: Vec<u8>,
    transitions: Transitions,
    ending: Ending,
    store: state::Store,

    actions: VecDeque<Action>,
    events: Ring,
    noise: Noise,
    /// Counters as they were when noise was looked for.
    counted: Counted,
    /// Clients that follow the events.
    followers: Vec<ClientId>,
    tries: Tries,
    persons: Persons,

    rng: Rng,
    started: Instant,
    wall: Wall,
    lateness: Lateness,
    /// The deadline that the driver was told last.
    asked: Cell<Option<Instant>>,
    rss_kib: u64,
    descriptors: u32,
}

/// What the configuration says of this node.
struct Identity {
    node: Rc<str>,
    cluster: Box<str>,
    advertise: SocketAddr,
    publish: Vec<IpAddr>,
    tags: Vec<(Box<str>, Box<str>)>,
}

impl Identity {
    /// What delivery is to look at, put together from the agent's parts; the gates complete it.
    fn world<'a>(
        &'a self,
        unix_now: u64,
        members: &'a [&'a Member],
        apps: &'a [AppSituation],
        may_act: &Result<(), safety::Reason>,
    ) -> World<'a> {
        World {
            node: &self.node,
            cluster: &self.cluster,
            unix_now,
            members,
            apps,
            may_act: may_act.clone(),
            may_withdraw: false,
            unseen: None,
            witness: "",
        }
    }
}

/// One app of the file.
struct OwnApp {
    app: App,
    /// Never another one's, over reloads: by this, attempts find their app.
    number: usize,
    policy: safety::AppPolicy,
    publish: Vec<IpAddr>,
    /// State and forced mark at the last look, to see a change.
    shown: (AppState, bool),
    /// P: what this node takes the outside to show. It follows what a handler told with success, here or, by its
    /// record, on another node; where no handler tells this app, it follows G.
    published: Option<safety::Addresses>,
    /// P of each handler, where more than one tells this app.
    published_by: Vec<(Box<str>, Option<safety::Addresses>)>,
    /// The handlers that tell it.
    told_by: Vec<Box<str>>,
    /// G as people were told of it last.
    goal: Option<safety::Addresses>,
    /// The gate that people were told of last.
    guard: Option<safety::Reason>,
}

impl OwnApp {
    /// Its own checks have no verdict yet.
    fn is_silent(&self) -> bool {
        self.app.has_instance() && self.app.state() == AppState::Unknown
    }
}

/// Counters of membership that become noise when they grow.
#[derive(Clone, Copy, Default, PartialEq)]
struct Counted {
    bad: [u64; 8],
    not_allowed: u64,
    refused: u64,
    send_errors: u64,
}

impl Agent {
    pub fn new(config: Config, seed: Seed, now: Instant) -> Self {
        Self::start(config, seed, now, state::Store::none(), None)
    }

    /// With what the state file holds, and keeping it up to date. `unix`: since 1970, for what in it has an age.
    pub fn with_state(
        config: Config,
        seed: Seed,
        now: Instant,
        unix: Duration,
        saved: Option<state::Saved>,
    ) -> Self {
        Self::start(config, seed, now, state::Store::new(now), Some((unix, saved)))
    }

    fn start(
        config: Config,
        seed: Seed,
        now: Instant,
        store: state::Store,
        saved: Option<(Duration, Option<state::Saved>)>,
    ) -> Self {
        let (unix, saved) = saved.unzip();
        let mut saved = saved.flatten();
        let mut rng = Rng::new(seed.rng);
        let apps = config.apps.into_iter().enumerate();
        let apps: Vec<OwnApp> = apps.map(|(number, app)| OwnApp::new(number, app, &mut rng, now)).collect();
        let identity = Identity {
            node: config.membership.node.clone(),
            cluster: config.membership.cluster.clone(),
            advertise: config.membership.advertise,
            publish: config.publish,
            tags: config.tags,
        };
        let has_one_handlers = gates::has_one(&config.handlers);
        let key_source = reload::KeySource::new(config.keys_file, &config.membership.keys);
        let (handlers, keys) = (config.handlers.len(), config.membership.keys.keys.len());
        let mut delivery = Delivery::new(config.handlers, rng.next_u64(), now);
        let (mut overrides, mut electorate) = (Overrides::default(), safety::Saved::default());
        if let Some(saved) = &mut saved {
            // Before the own tags are shown for the first time: they say what was told, and what persons said.
            saved.keep_for(&identity.node);
            let unix = unix.unwrap_or_default();
            delivery.restore(now, unix.as_secs(), core::mem::take(&mut saved.delivery));
            overrides = Overrides::restore(now, Date::new(now, unix), core::mem::take(&mut saved.overrides));
            electorate = core::mem::take(&mut saved.safety);
        }
        let gates = Gates::new(config.safety, &config.membership, electorate, now);
        let meta = tags::own_meta(&identity, &apps, &delivery, &overrides, false).bytes;
        let persons = Persons::new(overrides);
        let seed = Seed { rng: rng.next_u64(), nonce: seed.nonce };
        let mut agent = Self {
            membership: Membership::new(config.membership, &meta, seed, now),
            identity,
            numbers: apps.len(),
            apps,
            retired: Vec::new(),
            delivery,
            attempts: Attempts::default(),
            key_source,
            situations: Vec::new(),
            may_act: Err(safety::Reason::Settling),
            gates,
            has_one_handlers,
            dirty: true,
            meta,
            transitions: Transitions::default(),
            ending: Ending::Not,
            store,
            actions: VecDeque::new(),
            events: Ring::default(),
            noise: Noise::default(),
            counted: Counted::default(),
            followers: Vec::new(),
            tries: Tries::default(),
            persons,
            rng,
            started: now,
            wall: Wall::default(),
            lateness: Lateness::default(),
            asked: Cell::new(None),
            rss_kib: 0,
            descriptors: 0,
        };
        if let Some(unix) = unix {
            agent.wall.set(now, unix);
        }
        agent.tell(news::started(now, &agent.identity, agent.apps.len(), handlers, keys));
        if let Some(saved) = saved {
            agent.restore(now, saved);
        }
        let node = agent.identity.node.clone();
        agent.delivery.handle_member(now, MemberEvent::Join, &node, agent.membership.member(&node));
        agent.drop_lost_words(now);
        agent.apply_overrides(now);
        agent.finish(now);
        agent
    }

    // What happened.
    /// The state was written, or could not be (the reason is for people).
    pub fn handle_persisted(&mut self, now: Instant, result: Result<(), String>) {
        self.begin(now);
        self.persisted(now, result);
        self.finish(now);
    }
    /// The date at `now`: since 1970. For people only; said at the start and now and then.
    pub fn handle_wall_clock(&mut self, now: Instant, unix: Duration) {
        let before = self.wall.unix(now).map(stamp);
        // The dates in the file are others now, or its own is.
        if self.wall.set(now, unix) || before != Some(stamp(unix)) {
            self.store.note_change();
        }
    }
    pub fn handle_packet(&mut self, now: Instant, from: SocketAddr, packet: &mut [u8]) {
        self.begin(now);
        self.membership.handle_packet(now, from, packet);
        self.count_noise(now, from);
        self.finish(now);
    }
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr, error: SendError) {
        self.begin(now);
        self.membership.handle_send_error(now, to, error);
        self.watch_evidence(now);
        self.count_noise(now, to);
        self.finish(now);
    }
    pub fn accept_stream(&mut self, now: Instant, from: SocketAddr) -> Option<StreamId> {
        self.begin(now);
        let id = self.membership.accept_stream(now, from);
        self.count_noise(now, from);
        self.finish(now);
        id
    }
    /// A connection came in for which the driver has no room.
    pub fn refuse_stream(&mut self, now: Instant, from: SocketAddr) {
        self.begin(now);
        self.membership.refuse_stream(from);
        self.count_noise(now, from);
        self.finish(now);
    }
    pub fn handle_stream(&mut self, now: Instant, id: StreamId, event: StreamEvent<'_>) {
        self.begin(now);
        self.membership.handle_stream(now, id, event);
        self.count_noise(now, UNKNOWN_SOURCE);
        self.finish(now);
    }
    pub fn handle_resolved(&mut self, now: Instant, id: ResolveId, addresses: &[IpAddr], error: &str) {
        self.begin(now);
        self.membership.handle_resolved(now, id, addresses, error);
        self.dirty = true; // where to try who was never reached (gate 4)
        self.finish(now);
    }
    pub fn handle_attempt(&mut self, now: Instant, id: AttemptId, outcome: Outcome) {
        self.begin(now);
        if let Some(owner) = self.attempts.end(id) {
            self.attempt_ended(now, owner, outcome);
        }
        self.finish(now);
    }
    /// A handler's run ended; `output` is the end of what it printed.
    pub fn handle_exit(&mut self, now: Instant, id: RunId, exit: Exit, output: &[u8]) {
        self.begin(now);
        match self.delivery.rehearsal_ended(id, &exit, output) {
            Some(rehearsed) => self.tell_rehearsed(now, &rehearsed, &exit),
            None => self.delivery.handle_exit(now, id, exit, output),
        }
        self.dirty = true;
        self.finish(now);
    }
    /// A line from a client of the control socket, without its newline.
    pub fn handle_request(&mut self, now: Instant, client: ClientId, line: &[u8]) {
        self.handle_request_by(now, client, None, line);
    }
    /// The same; `uid`: the user that the kernel says the client is.
    pub fn handle_request_by(&mut self, now: Instant, client: ClientId, uid: Option<u32>, line: &[u8]) {
        self.begin(now);
        self.answer(now, client, uid, line);
        self.finish(now);
    }
    /// The client is gone.
    pub fn handle_client_gone(&mut self, client: ClientId) {
        self.followers.retain(|&follower| follower != client);
        self.ending.forget(client);
        self.stop_trying(client);
    }
    /// What the process uses, read by the driver now and then (kilobytes, descriptors), for `status`.
    pub fn handle_usage(&mut self, rss_kib: u64, descriptors: u32) {
        (self.rss_kib, self.descriptors) = (rss_kib, descriptors);
    }
    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin(now);
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
        if is_due(self.membership.next_deadline()) {
            self.membership.handle_timeout(now);
            self.count_noise(now, UNKNOWN_SOURCE);
        }
        let apps = self.apps.iter_mut().chain(&mut self.retired);
        for own in apps.filter(|own| is_due(own.app.next_deadline())) {
            own.app.handle_timeout(now);
        }
        self.drain_checks(now);
        self.expire_overrides(now);
        self.dirty |= [self.delivery.next_deadline(), self.gates.next_deadline(), self.hold_deadline()]
            .into_iter()
            .any(is_due);
        self.watch_evidence(now);
        while let Some(event) = self.noise.poll(now) {
            self.log(&event);
        }
        self.finish(now);
    }

    // What the operator wants.
    /// End without leaving: no more runs are started, the one that runs is waited for.
    pub fn stop(&mut self, now: Instant) {
        self.begin(now);
        self.begin_stop(now);
        self.finish(now);
    }
    /// End as [`Agent::stop`] does, and go on as the program that is now on disk. Who ends already just ends.
    pub fn restart(&mut self, now: Instant) {
        self.begin(now);
        let _ = self.begin_restart(now);
        self.finish(now);
    }
    /// Leave the cluster, then end.
    pub fn leave(&mut self, now: Instant) {
        self.begin(now);
        self.begin_leave(now);
        self.finish(now);
    }

    // What to do about it: after any call above, drain both until `None`.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<SocketAddr> {
        self.membership.poll_transmit(now, buf)
    }
    pub fn poll_action(&mut self) -> Option<Action> {
        queue::pop(&mut self.actions).or_else(|| self.membership.poll_action().map(Action::Membership))
    }
    /// What delivery looked at last, or would now.
    fn world<'a>(&'a self, now: Instant, members: &'a [&'a Member]) -> World<'a> {
        let unix_now = self.wall.unix_secs(now);
        self.gates.complete(self.identity.world(unix_now, members, &self.situations, &self.may_act))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let apps = self.apps.iter().chain(&self.retired);
        let checks = earliest(apps.map(|own| own.app.next_deadline()));
        let deadline = earliest([
            self.membership.next_deadline(),
            checks,
            self.delivery.next_deadline(),
            self.gates.next_deadline(),
            self.hold_deadline(),
            self.ending.deadline(),
            self.noise.next_deadline(),
            self.tries.deadline(),
            self.store.deadline(),
            self.persons.overrides.deadline(),
        ]);
        self.asked.set(deadline);
        deadline
    }
}

/// Where bytes of a stream came from is known to membership only.
const UNKNOWN_SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(core::net::Ipv4Addr::UNSPECIFIED), 0);

impl OwnApp {
    fn new(number: usize, config: AppConfig, rng: &mut Rng, now: Instant) -> Self {
        let app = App::new(config.check, rng, now);
        let shown = (app.state(), app.is_forced());
        Self {
            app,
            number,
            policy: config.policy,
            publish: config.publish,
            shown,
            published: None,
            published_by: Vec::new(),
            told_by: Vec::new(),
            goal: None,
            guard: None,
        }
    }
}
