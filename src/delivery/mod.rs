//! Handlers: when one runs, on which node, with what, and what its result means (`interfaces`, section 4).

mod calls;
mod coalesce;
mod differs;
mod event;
mod handler;
mod job;
mod learn;
mod ledger;
mod others;
pub mod record;
pub mod rehearsal;
mod retry;
pub mod run;
mod saved;
pub mod secrets;
mod serf;
mod verify;
mod waiting;

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::check::AppState;
use crate::check::attempt::Exit;
use crate::membership::Member;
use crate::queue;
use crate::rng::Rng;
use crate::safety::{Address, Addresses, Reason, Verdict};
use crate::time::{Instant, earliest};
use crate::view::Instance;
use coalesce::Coalescer;
use handler::{Handler, Out, Turn};
use record::{LC_MAX, Record, State, Told};
use rehearsal::Rehearsal;
pub use rehearsal::Rehearsed;
pub use run::Run;
pub use saved::Saved;
pub use waiting::{Unseen, Waiting};

/// One handler as the configuration gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub name: Box<str>,
    pub run: Vec<Box<str>>,
    pub mode: Mode,
    /// Apps it is for, sorted.
    pub apps: Vec<Box<str>>,
    pub place: Place,
    /// Of `event` handlers: the events they want; empty: all.
    pub events: Vec<EventKind>,
    /// Of `serf` handlers: the events they want; empty: all.
    pub member_events: Vec<MemberEvent>,
    pub timeout: Duration,
    pub debounce: Duration,
    pub min_interval: Duration,
    pub resync: Duration,
    /// `env` and the content of `env_file`, in that order.
    pub env: Vec<(Box<str>, Box<str>)>,
    /// Names of the variables whose values are from `env_file`: never shown.
    pub secrets: Vec<Box<str>>,
    pub user: Option<Box<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Sync,
    Event,
    Picored1,
    Serf,
}

impl Mode {
    /// As the configuration and PICORED_MODE spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Event => "event",
            Self::Picored1 => "picored1",
            Self::Serf => "serf",
        }
    }
}

/// `where` it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    One,
    SelfOnly,
    All,
}

impl Place {
    /// As the configuration spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::SelfOnly => "self",
            Self::All => "all",
        }
    }
}

/// What an `event` handler can be told (`interfaces`, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    AppUp,
    AppDown,
    AppMaint,
    NodeJoined,
    NodeFailed,
    NodeLeft,
    NodeAddress,
    Quorum,
    NoQuorum,
}

impl EventKind {
    pub const ALL: [Self; 9] = [
        Self::AppUp,
        Self::AppDown,
        Self::AppMaint,
        Self::NodeJoined,
        Self::NodeFailed,
        Self::NodeLeft,
        Self::NodeAddress,
        Self::Quorum,
        Self::NoQuorum,
    ];
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AppUp => "app-up",
            Self::AppDown => "app-down",
            Self::AppMaint => "app-maint",
            Self::NodeJoined => "node-joined",
            Self::NodeFailed => "node-failed",
            Self::NodeLeft => "node-left",
            Self::NodeAddress => "node-address",
            Self::Quorum => "quorum",
            Self::NoQuorum => "no-quorum",
        }
    }
}

/// What happened to a member, in Serf's terms: what a `serf` handler can be told (`interfaces`, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberEvent {
    Join,
    Leave,
    Failed,
    /// Its tags changed, or its address while it was alive.
    Update,
    /// It is forgotten.
    Reap,
}

impl MemberEvent {
    pub const ALL: [Self; 5] = [Self::Join, Self::Leave, Self::Failed, Self::Update, Self::Reap];
    /// As Serf and the configuration spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "member-join",
            Self::Leave => "member-leave",
            Self::Failed => "member-failed",
            Self::Update => "member-update",
            Self::Reap => "member-reap",
        }
    }
}

/// One event, for `event` handlers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    pub kind: EventKind,
    /// `None` for node events.
    pub app: Option<Box<str>>,
    pub node: Rc<str>,
    pub addrs: Vec<IpAddr>,
    /// For app events; node events say `up` for joined, else `down`.
    pub state: AppState,
    /// Of the node which told it.
    pub incarnation: u32,
}

/// One app of this node's file, as everybody's tags show it, and what the gates make of it.
#[derive(Clone, Debug)]
pub struct AppSituation {
    pub name: Box<str>,
    pub instances: Vec<Instance>,
    /// Why this node tells nothing of it, though it may act else: its own checks of an app that a reload brought have no
    /// verdict yet (gate 1).
    pub held: Option<Reason>,
    pub verdict: Verdict,
    /// Where more than one handler tells it: by its name, what the gates make of each one's own P. One that always
    /// fails must not make another tell what only the failing one's outside still shows.
    pub of_handlers: Vec<(Box<str>, Verdict)>,
    /// For people and stdin's `why`, where this node knows it (its own checks): (node, text).
    pub why: Vec<(Rc<str>, String)>,
    /// Gate 5: this node's tries of failed members' endpoints, of those whose addresses are in P or G.
    pub verified: Vec<Verified>,
}

/// The last try of a failed member's public endpoint for one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    pub node: Rc<str>,
    /// When it began and ended; `None`: none has ended yet. Where there is nothing to try, it is as if one had just
    /// failed.
    pub last: Option<(Instant, Instant)>,
    pub answered: bool,
    /// When one began since that could not be made: this machine has no way there. The gates hold such a node, and the
    /// others need not wait for it.
    pub untried: Option<Instant>,
}

impl AppSituation {
    /// What the gates say to this handler.
    pub fn verdict_for(&self, handler: &str) -> &Verdict {
        let own = self.of_handlers.iter().find(|(name, _)| **name == *handler);
        own.map_or(&self.verdict, |(_, verdict)| verdict)
    }

    /// The addresses that `node` publishes.
    fn addresses_of(&self, node: &str) -> impl Iterator<Item = Address> {
        let its = self.instances.iter().filter(move |i| *i.node == *node);
        its.flat_map(|i| i.addrs.iter().map(|&addr| Address { addr, node: i.node.clone() }))
    }
}

/// All that delivery looks at, put together by the agent each time.
pub struct World<'a> {
    pub node: &'a str,
    pub cluster: &'a str,
    /// Seconds since 1970, for `since` in stdin only: nothing is decided by it.
    pub unix_now: u64,
    /// All members sorted by name, this node among them.
    pub members: &'a [&'a Member],
    pub apps: &'a [AppSituation],
    /// Whether the gates of the node (1 to 4) let it act.
    pub may_act: Result<(), Reason>,
    /// Only gates 3 and 4 are closed, for good so far as can be told, and `on_no_quorum` is `withdraw_self`: own
    /// addresses may be taken away, by `sync` handlers. Of two halves of the electorate it is so in one only.
    pub may_withdraw: bool,
    /// Somebody of the electorate who was never seen alive (`interfaces`, 4.5, rule 7).
    pub unseen: Option<&'a str>,
    /// Gate 3 as people are told: `2/3`; empty without witnesses.
    pub witness: &'a str,
}

pub type RunId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    Term,
    Kill,
}

/// What the driver should do. A signal goes to the run's process group.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Run {
        id: RunId,
        run: Box<Run>,
    },
    Signal {
        id: RunId,
        signal: Signal,
    },
    /// A run is to be started: try the endpoints of the app's failed members. Only tries begun at `since` or later
    /// count.
    Verify {
        app: Box<str>,
        since: Instant,
    },
    /// For the log and the event ring: a run started, ended, failed, was timed out, stands back.
    Report(Report),
}

/// Something to tell people about a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub handler: Box<str>,
    pub app: Option<Box<str>>,
    pub what: ReportKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportKind {
    Started {
        reason: &'static str,
        attempt: u32,
        publish: Vec<IpAddr>,
    },
    Succeeded {
        took: Duration,
    },
    Failed {
        exit: Exit,
        output: Box<str>,
        retry_in: Option<Duration>,
    },
    TimedOut {
        after: Duration,
    },
    StandsBack {
        until: Option<Instant>,
    },
    /// Events were dropped: the queue was full, or they were too old.
    Dropped {
        count: u32,
    },
    /// A run is due, and waits for something that may take long.
    Waits(Waiting),
    /// A run of this node and one of these did not know of each other: one more run follows.
    Overlapped {
        with: Box<str>,
    },
    /// For long, this node would tell another set than this one, the runner, told.
    Differs {
        with: Box<str>,
    },
}

/// A handler for `status`.
#[derive(Clone, Debug)]
pub struct HandlerStatus<'a> {
    pub config: &'a Config,
    /// The app, for `sync` and `picored1` handlers one entry each; `None` for `event` and `serf` handlers.
    pub app: Option<&'a str>,
    /// Who acts, as this node sees it; `None`: nobody can, or everybody does (`all`, `self`).
    pub runner: Option<Box<str>>,
    /// `idle`, `debouncing`, `running`, `stuck`, `backoff`, `waiting`, `stands back`.
    pub phase: &'static str,
    /// What a run that is due waits for; `None`: none is due, or it runs.
    pub waiting: Option<&'a Waiting>,
    pub last: Option<LastRun>,
    pub failures_in_a_row: u32,
    /// Since when this node would tell another set than the runner told; `None`: it does not, or not for long.
    pub differs_since: Option<Instant>,
    /// It gave up here (exit 77, 78, 126, 127, or three failures in a row).
    pub gave_up: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastRun {
    pub started: Instant,
    /// `None`: it still runs.
    pub ended: Option<Instant>,
    pub exit: Option<Exit>,
    /// It ended, and did what it was told. One over its timeout did not, whatever its exit says.
    pub ok: bool,
    pub output: Box<str>,
}

impl LastRun {
    fn begun(started: Instant) -> Self {
        Self { started, ended: None, exit: None, ok: false, output: Box::default() }
    }
}

/// All handlers of this node.
pub struct Delivery {
    handlers: Vec<Handler>,
    /// Handlers that a reload took away or changed altogether, whose run goes on to its end.
    retired: Vec<Handler>,
    /// Where there are `serf` handlers: what happened to members.
    members: Option<Coalescer>,
    out: Out,
    end: End,
    rehearsal: Option<Rehearsal>,
}

/// Whether runs are still started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Not,
    /// Only those that tell what this node sees of its own goodbye.
    Leaving,
    Stopped,
}

impl Delivery {
    /// `seed` is for the jitter of backoffs.
    pub fn new(configs: Vec<Config>, seed: u64, now: Instant) -> Self {
        let handlers = configs.iter().map(|config| Handler::new(config.clone(), &configs, now)).collect();
        let out = Out { actions: VecDeque::new(), rng: Rng::new(seed), next_id: 1 };
        let members = configs.iter().any(|config| config.mode == Mode::Serf).then(Coalescer::default);
        Self { handlers, retired: Vec::new(), members, out, end: End::Not, rehearsal: None }
    }

    /// Something happened to a member, this node among them; `serf` handlers are told. `member` is `None` if it is no
    /// longer in the table. Call `update` afterwards.
    pub fn handle_member(&mut self, now: Instant, event: MemberEvent, node: &str, member: Option<&Member>) {
        if let Some(members) = &mut self.members {
            members.push(now, event, node, member.map(serf::line));
        }
    }

    /// Queues an event for the handlers that want it. Call `update` afterwards.
    pub fn handle_occurrence(&mut self, now: Instant, event: &Occurrence) {
        for (queue, config) in self.handlers.iter_mut().filter_map(Handler::queue_mut) {
            queue.push(now, config, event);
        }
    }
    /// A run ended. Call `update` afterwards.
    pub fn handle_exit(&mut self, now: Instant, id: RunId, exit: Exit, output: &[u8]) {
        let mut handlers = self.handlers.iter_mut().chain(&mut self.retired);
        handlers.any(|handler| handler.handle_exit(now, id, &exit, output, &mut self.out));
        self.retired.retain(Handler::has_run);
    }
    /// Looks at the world again: after anything that may matter, and when `next_deadline` has come.
    pub fn update(&mut self, now: Instant, world: &World<'_>) {
        let flushed = self.members.as_mut().map(|members| members.flush(now)).unwrap_or_default();
        let mut turn = Turn { now, world, out: &mut self.out, flushed: &flushed, end: self.end };
        for handler in &mut self.retired {
            handler.watch_run(&mut turn);
        }
        for handler in &mut self.handlers {
            let rehearsed = self.rehearsal.as_ref().is_some_and(|rehearsal| rehearsal.is_of(handler));
            turn.end = if rehearsed { End::Stopped } else { self.end };
            // One run at a time, though the handler is another one now.
            let before = self.retired.iter().find(|retired| retired.config.name == handler.config.name);
            handler.update(&mut turn, before);
        }
        self.watch_rehearsal(now);
    }
    /// The configuration was read anew. Handlers that stay keep what they know, changed ones, too, and so do their
    /// apps; one that had given up may try again. What is under way goes on to its end. No run becomes due by this but
    /// where G changed. Call `update` afterwards.
    pub fn reconfigure(&mut self, configs: Vec<Config>, now: Instant) {
        let mut old = core::mem::take(&mut self.handlers);
        for config in &configs {
            let stays = |handler: &Handler| handler.is_like(config);
            let handler = match old.iter().position(stays) {
                Some(index) => old.remove(index).reconfigured(config, &configs),
                None => Handler::new(config.clone(), &configs, now),
            };
            self.handlers.push(handler);
        }
        self.retired.extend(old.into_iter().filter(Handler::has_run));
        let has_serf = configs.iter().any(|config| config.mode == Mode::Serf);
        self.members = self.members.take().or(Some(Coalescer::default())).filter(|_| has_serf);
    }
    /// A peer holds these tags of this node, from a life that it does not remember (`interfaces`, 4.5, rule 6). Call
    /// `update` afterwards.
    pub fn handle_own_meta(&mut self, now: Instant, meta: &[u8]) {
        for handler in self.handlers.iter_mut().filter(|handler| handler.config.place == Place::One) {
            handler.take_own(now, meta);
        }
    }
    /// A person wants `handler` (`None`: all `sync` ones) to run now, through the gates: without debounce and backoff,
    /// here whoever the runner is, and though nobody knows what is published (rule 7). It lapses after ten minutes.
    /// False: there is no such handler that tells sets. Call `update` afterwards.
    pub fn sync(&mut self, now: Instant, handler: Option<&str>) -> bool {
        let mut found = false;
        for own in &mut self.handlers {
            let is_meant = match handler {
                Some(name) => *own.config.name == *name,
                None => own.config.mode == Mode::Sync,
            };
            found |= is_meant && own.sync(now);
        }
        found
    }
    /// No more runs are started.
    pub fn stop(&mut self) {
        self.end = End::Stopped;
    }
    /// The node leaves. Only `serf` handlers go on, for as a Serf agent's they are told of the own leave; not those of
    /// which one node acts: that is another one now.
    pub fn leave(&mut self) {
        self.end = End::Leaving;
    }
    pub fn poll_action(&mut self) -> Option<Action> {
        queue::pop(&mut self.out.actions)
    }
    pub fn next_deadline(&self) -> Option<Instant> {
        let window = self.members.as_ref().and_then(Coalescer::deadline);
        let rehearsal = self.rehearsal.as_ref().and_then(Rehearsal::deadline);
        let handlers = self.handlers.iter().chain(&self.retired);
        earliest(handlers.map(Handler::next_deadline).chain([window, rehearsal]))
    }
    /// Whether a child of a handler is still running; one that even KILL does not end does not count.
    pub fn is_running(&self) -> bool {
        let is_rehearsing = self.rehearsal.as_ref().is_some_and(Rehearsal::is_running);
        is_rehearsing || self.handlers.iter().chain(&self.retired).any(Handler::is_running)
    }
    /// Of these, whether there is one whose result the other nodes wait for; not for that of a `serf` handler.
    pub fn is_awaited(&self) -> bool {
        self.handlers.iter().any(|handler| handler.tells_results() && handler.is_running())
    }
    /// While leaving: whether something is still to be told.
    pub fn is_waiting(&self) -> bool {
        let is_open = self.members.as_ref().is_some_and(|members| members.deadline().is_some());
        let is_waiting = |handler: &Handler| handler.goes_on(self.end) && (is_open || handler.has_calls());
        self.end == End::Leaving && self.handlers.iter().any(is_waiting)
    }
    /// P: what this node takes the outside to show of `app`, over all handlers that tell it. `None`: no handler here
    /// tells it at all; `Some(None)`: nothing is known to have been told yet.
    pub fn published(&self, app: &str) -> Option<Option<Addresses>> {
        let mut jobs = self.handlers.iter().flat_map(Handler::jobs).filter(|job| *job.app == *app);
        let first = jobs.next()?.outside.clone();
        // Where two handlers have told different sets, an address that either shows is outside.
        Some(jobs.filter_map(|job| job.outside.as_ref()).fold(first, |known, outside| match known {
            Some(known) if known == *outside => Some(known),
            Some(known) => {
                let mut both = [&known[..], &outside[..]].concat();
                both.sort_unstable();
                both.dedup();
                Some(both.into())
            }
            None => Some(outside.clone()),
        }))
    }
    /// Whether a person let `handler` (empty: any) tell `app` without having seen everybody (rule 7).
    pub fn is_released(&self, now: Instant, handler: &str, app: &str) -> bool {
        let is_meant = |own: &&Handler| handler.is_empty() || *own.config.name == *handler;
        let mut jobs = self.handlers.iter().filter(is_meant).flat_map(Handler::jobs);
        jobs.any(|job| *job.app == *app && job.is_released(now))
    }
    /// Whether runs of `handler` (empty: any), which is a `one` handler, are known that told `app`, but not what: P is
    /// still to be learnt.
    pub fn learns(&self, handler: &str, app: &str) -> bool {
        let is_meant = |own: &&Handler| {
            own.config.place == Place::One && (handler.is_empty() || *own.config.name == *handler)
        };
        let one = self.handlers.iter().filter(is_meant);
        let jobs = || one.clone().flat_map(Handler::jobs).filter(|job| *job.app == *app);
        jobs().any(|job| job.ledger.greatest.is_some()) && jobs().all(|job| job.outside.is_none())
    }
    /// Whether this is what `handler` (empty: any) told the outside of `app` last, on whichever node.
    pub fn has_told(&self, handler: &str, app: &str, set: &[Address]) -> bool {
        let is_meant = |own: &&Handler| handler.is_empty() || *own.config.name == *handler;
        let mut jobs = self.handlers.iter().filter(is_meant).flat_map(Handler::jobs);
        jobs.any(|job| *job.app == *app && job.has_told(set))
    }
    /// P of each handler that tells `app`, by the handler's name; `None`: nothing is known to have been told yet.
    pub fn published_by(&self, app: &str) -> Vec<(Box<str>, Option<Addresses>)> {
        let of = |handler: &Handler| {
            let job = handler.jobs().iter().find(|job| *job.app == *app)?;
            Some((handler.config.name.clone(), job.outside.clone()))
        };
        self.handlers.iter().filter_map(of).collect()
    }
    /// The own tags `h.HANDLER.APP` and `h.HANDLER` as they are now.
    pub fn tags(&self) -> Vec<(String, String)> {
        let mut tags = Vec::new();
        for handler in &self.handlers {
            handler.tags(&mut tags);
        }
        tags
    }
    /// The longest that [`Delivery::tags`] can become, for the check at load that all fits into the metadata.
    pub fn tags_max(configs: &[Config]) -> Vec<(String, String)> {
        let longest = Record { state: State::Running, lc: LC_MAX, told: Told::Set(u32::MAX) };
        let mut tags = Vec::new();
        for config in configs.iter().filter(|config| config.place == Place::One) {
            match config.mode {
                Mode::Sync | Mode::Picored1 => tags.extend(
                    config.apps.iter().map(|app| (format!("h.{}.{app}", config.name), longest.to_string())),
                ),
                Mode::Event => tags.push((format!("h.{}", config.name), longest.to_string())),
                Mode::Serf => {
                    let longest = Record { lc: 0, told: Told::Nothing, ..longest };
                    tags.push((format!("h.{}", config.name), longest.to_string()));
                }
            }
        }
        tags
    }
    /// As they are in effect.
    pub fn configs(&self) -> impl Iterator<Item = &Config> {
        self.handlers.iter().map(|handler| &handler.config)
    }
    pub fn status(&self, world: &World<'_>) -> Vec<HandlerStatus<'_>> {
        let mut list = Vec::new();
        for handler in &self.handlers {
            handler.status(world, &mut list);
        }
        list
    }
}

#[cfg(test)]
mod tests;
