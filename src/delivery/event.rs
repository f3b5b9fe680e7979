//! The queue of an `event` handler: one run for each event, in order (`interfaces`, 4.5, last paragraph).

use core::time::Duration;
use std::collections::VecDeque;

use super::handler::{Around, Out, Turn, report_failure, runner};
use super::job::Step;
use super::ledger::{Kind, Ledger};
use super::record::{Fnv, Record, Told};
use super::retry::{FAILURES_MAX, Meaning, Standing};
use super::run::{Run, Telling};
use super::saved::{SavedEvent, SavedQueue};
use super::waiting::Waiting;
use super::{
    AppSituation, Config, EventKind, HandlerStatus, LastRun, Mode, Occurrence, Place, ReportKind, World,
};
use crate::limits::{HANDLER_QUEUE_AGE_MAX, HANDLER_QUEUE_MAX};
use crate::safety::{Address, Addresses};
use crate::time::{Instant, earliest};
use crate::wire::serf;

pub struct Queue {
    /// `h.HANDLER`, with the hash of the last event that this node told.
    pub ledger: Ledger,
    queue: VecDeque<Queued>,
    /// Being told; not in `queue`.
    current: Option<Queued>,
    /// Number of the run under way, and seconds since 1970 when it began.
    current_lc: u32,
    began: u64,
    /// Seconds since 1970, as far as is known.
    unix_now: u64,
    /// Lost since the last report.
    dropped: u32,
    runner_since: Option<Instant>,
    standing: Standing,
    last_end: Option<Instant>,
    last: Option<LastRun>,
    waiting: Option<Waiting>,
    phase: &'static str,
    /// Apps with just one `one` `sync` handler, and that handler: its set is told, else U.
    gated_apps: Vec<(Box<str>, Box<str>)>,
}

struct Queued {
    event: Occurrence,
    hash: u32,
    /// When this node heard of it.
    since: Instant,
    /// Then it is not worth telling any more.
    expires: Instant,
    /// Seconds since 1970 when it happened; 0: unknown.
    at: u64,
    attempts: u32,
}

impl Queue {
    pub fn new(config: &Config, others: &[Config]) -> Self {
        Self {
            ledger: Ledger::new(format!("h.{}", config.name), Kind::Event),
            queue: VecDeque::new(),
            current: None,
            current_lc: 0,
            began: 0,
            unix_now: 0,
            dropped: 0,
            runner_since: None,
            standing: Standing::default(),
            last_end: None,
            last: None,
            waiting: None,
            phase: "idle",
            gated_apps: gated_apps(config, others),
        }
    }

    /// The configuration was read anew.
    pub fn reconfigure(&mut self, config: &Config, others: &[Config]) {
        self.gated_apps = gated_apps(config, others);
        self.queue.retain(|queued| is_wanted(config, &queued.event));
        self.standing.forgive();
    }

    /// A peer holds `record` as this node's own (rule 6). What it says was told needs not be told again.
    pub fn take_own(&mut self, now: Instant, record: Record, window: Duration) {
        self.ledger.take_own(now, record, window);
        let told = self.ledger.told;
        self.drop_until(told);
    }

    /// Takes the event if the handler wants it; the oldest goes when there are too many.
    pub fn push(&mut self, now: Instant, config: &Config, event: &Occurrence) {
        let given_up = self.standing.gave_up && config.place != Place::One;
        if given_up || !is_wanted(config, event) {
            return;
        }
        if self.queue.len() >= HANDLER_QUEUE_MAX {
            self.queue.pop_front();
            self.dropped += 1;
        }
        let expires = now + HANDLER_QUEUE_AGE_MAX;
        let at = self.unix_now;
        let queued = Queued { hash: hash(event), event: event.clone(), since: now, expires, at, attempts: 0 };
        self.queue.push_back(queued);
    }

    /// Looks at the world; gives also when to look again, if nothing else happens.
    pub fn step(&mut self, turn: &mut Turn<'_>, around: Around<'_>) -> (Step, Option<Instant>) {
        let (now, config, world) = (turn.now, around.config, turn.world);
        self.unix_now = world.unix_now;
        match config.place {
            Place::One => {
                self.ledger.watch(now, world, around.others, self.current.is_some());
                if self.current.is_none() && world.may_act.is_ok() {
                    self.ledger.adopt(world.node);
                }
                self.drop_done(world);
            }
            Place::SelfOnly => {
                self.queue.retain(|queued| *queued.event.node == *world.node || is_local(&queued.event));
            }
            Place::All => {}
        }
        self.show(now, around);
        let acts = turn.world.may_act.is_ok() && self.runner(turn.world, config) == Some(turn.world.node);
        match acts {
            true => _ = self.runner_since.get_or_insert(now),
            false => self.runner_since = None,
        }
        self.drop_old(now);
        if self.dropped > 0 {
            if acts || config.place != Place::One {
                turn.out.report(config, None, ReportKind::Dropped { count: self.dropped });
            }
            self.dropped = 0;
        }
        let orphan = self.ledger.orphan_until(now);
        let later = earliest([self.standing.next_deadline(now), self.expiry(), orphan]);
        if self.current.is_some() {
            (self.phase, self.waiting) = (if around.stuck { "stuck" } else { "running" }, None);
            return (Step::Idle, later);
        }
        let is_queued = !self.queue.is_empty();
        let waiting = is_queued.then(|| self.wait(now, world, around)).flatten();
        if let Some(waiting) = &waiting
            && waiting.is_news()
            && self.waiting.as_ref() != Some(waiting)
        {
            turn.out.report(config, None, ReportKind::Waits(waiting.clone()));
        }
        let until = waiting.as_ref().and_then(Waiting::until);
        let idle =
            if self.standing.gave_up || self.stands_back(now, config) { "stands back" } else { "idle" };
        self.phase = match &waiting {
            Some(waiting) => waiting.phase(),
            None if is_queued => "waiting",
            None => idle,
        };
        self.waiting = waiting;
        let step = if is_queued && self.waiting.is_none() { Step::Ready } else { Step::Idle };
        (step, earliest([later, until]))
    }

    fn stands_back(&self, now: Instant, config: &Config) -> bool {
        config.place == Place::One && self.standing.stands_back(now)
    }

    /// What the first event that is this node's to tell waits for. `debounce` is not among it: an event is told or not,
    /// it does not change while it waits.
    fn wait(&self, now: Instant, world: &World<'_>, around: Around<'_>) -> Option<Waiting> {
        let config = around.config;
        if self.standing.gave_up {
            return Some(Waiting::GaveUp);
        }
        let Some(next) = self.next(config).and_then(|index| self.queue.get(index)) else {
            return Some(match &world.may_act {
                Err(reason) => Waiting::Gates(reason.clone()),
                _ if self.stands_back(now, config) => Waiting::StandsBack { until: self.standing.back_until },
                _ => Waiting::Runner(self.runner(world, config).map(Into::into)),
            });
        };
        let is_shared = !is_local(&next.event);
        let spaced = self.last_end.map(|end| end + config.min_interval);
        let busy = around.busy.filter(|_| is_shared);
        let waits = [
            self.standing.retry_at.map(|until| Waiting::Backoff { until }),
            spaced.map(|until| Waiting::MinInterval { until }),
            busy.map(|(node, until)| Waiting::OthersRun { node: node.into(), until }),
            around.orphan_until.map(|until| Waiting::OwnOrphan { until }),
        ];
        let longest = waits.into_iter().flatten().max_by_key(Waiting::until);
        let longest = longest.filter(|waiting| waiting.until() > Some(now));
        longest.or_else(|| (!around.may_start).then(|| around.why_not()))
    }

    /// The first event that is this node's to tell.
    fn next(&self, config: &Config) -> Option<usize> {
        let all = config.place != Place::One || self.runner_since.is_some();
        self.queue.iter().position(|queued| all || is_local(&queued.event))
    }

    /// Drops what another node's tag says was told, and all before it.
    fn drop_done(&mut self, world: &World<'_>) {
        if self.queue.is_empty() {
            return;
        }
        for member in world.members.iter().filter(|member| &*member.name != world.node) {
            if let Some(record) = serf::tag(&member.meta, &self.ledger.key).and_then(Record::parse) {
                self.drop_until(record.told);
            }
        }
    }

    fn drop_until(&mut self, told: Told) {
        let Told::Set(done) = told else { return };
        let same = |queued: &Queued| queued.hash == done && !is_local(&queued.event);
        if let Some(index) = self.queue.iter().rposition(same) {
            let mut place = 0;
            self.queue.retain(|queued| {
                place += 1;
                place > index + 1 || is_local(&queued.event)
            });
        }
    }

    fn drop_old(&mut self, now: Instant) {
        let before = self.queue.len();
        self.queue.retain(|queued| queued.expires > now);
        // Bounded by HANDLER_QUEUE_MAX.
        let dropped = u32::try_from(before - self.queue.len()).unwrap_or(u32::MAX);
        self.dropped = self.dropped.saturating_add(dropped);
    }

    fn expiry(&self) -> Option<Instant> {
        self.queue.iter().map(|queued| queued.expires).min()
    }

    /// A run about this node itself concerns no other one, and none waits for it.
    fn show(&mut self, now: Instant, around: Around<'_>) {
        let is_shared = self.current.as_ref().is_some_and(|queued| !is_local(&queued.event));
        self.ledger.show(now, self.standing.shown(now, is_shared && !around.stuck, around.not_able));
    }

    fn runner<'a>(&self, world: &World<'a>, config: &Config) -> Option<&'a str> {
        runner(config, &self.ledger, world)
    }

    /// Starts the run that [`Queue::step`] said is ready.
    pub fn start(&mut self, turn: &mut Turn<'_>, around: Around<'_>) -> Option<Run> {
        let (now, config, world) = (turn.now, around.config, turn.world);
        let mut queued = self.queue.remove(self.next(config)?)?;
        queued.attempts = queued.attempts.saturating_add(1);
        // One about this node itself is told by whoever it concerns, and must not make it the runner.
        let is_counted = config.place != Place::One || !is_local(&queued.event);
        self.current_lc = if is_counted { self.ledger.begin(now, world.node) } else { self.ledger.lc };
        let inherited = config.place == Place::One
            && !is_local(&queued.event)
            && self.runner_since.is_some_and(|since| queued.since < since);
        let reason = match queued.attempts {
            1 if inherited => "takeover",
            1 => "change",
            _ => "retry",
        };
        let situation = world.apps.iter().find(|app| Some(&app.name) == queued.event.app.as_ref());
        let (publish, guard) = situation.map(|situation| self.set(situation)).unwrap_or_default();
        let telling = Telling {
            config,
            now,
            world,
            situation,
            reason,
            generation: self.current_lc,
            attempt: queued.attempts,
            publish: &publish,
            guard,
            previous: None,
            about: Some(&queued.event),
        };
        let run = telling.run();
        let publish = publish.iter().map(|entry| entry.addr).collect();
        let attempt = queued.attempts;
        let app = queued.event.app.as_deref();
        turn.out.report(config, app, ReportKind::Started { reason, attempt, publish });
        (self.current, self.began) = (Some(queued), world.unix_now);
        (self.phase, self.waiting) = ("running", None);
        self.last = Some(LastRun::begun(now));
        self.show(now, around);
        Some(run)
    }

    /// What an event handler is told of the app's set (4.1), and the gate that made it.
    fn set(&self, situation: &AppSituation) -> (Addresses, &'static str) {
        let gated = self.gated_apps.iter().find(|(app, _)| *app == situation.name);
        if let Some(verdict) = gated.map(|(_, handler)| situation.verdict_for(handler))
            && let Some(gated) = &verdict.publish
        {
            return (gated.clone(), verdict.guard());
        }
        let good = situation.instances.iter().filter(|instance| instance.is_good());
        let mut set: Vec<Address> =
            good.flat_map(|i| i.addrs.iter().map(|&addr| Address { addr, node: i.node.clone() })).collect();
        set.sort_unstable();
        set.dedup_by_key(|entry| entry.addr);
        (set.into(), "")
    }

    pub fn ended(&mut self, now: Instant, config: &Config, meaning: Meaning, last: LastRun, out: &mut Out) {
        let Some(queued) = self.current.take() else { return };
        self.last_end = Some(now);
        let app = queued.event.app.as_deref();
        if meaning == Meaning::Done {
            out.report(config, app, ReportKind::Succeeded { took: now.since(last.started) });
            self.standing.succeeded();
            if !is_local(&queued.event) {
                self.ledger.end(self.current_lc, Some(Told::Set(queued.hash)));
            }
        } else {
            report_failure(now, config, app, &mut self.standing, meaning, None, &last, out);
            // Its age decides how long it is retried; another node may tell it meanwhile.
            self.queue.push_front(queued);
            if self.standing.gave_up && config.place != Place::One {
                self.dropped += u32::try_from(self.queue.len()).unwrap_or(u32::MAX);
                self.queue.clear();
            }
        }
        self.last = Some(last);
    }

    pub fn current_app(&self) -> Option<&str> {
        self.current.as_ref().and_then(|queued| queued.event.app.as_deref())
    }

    /// The event under way counts as not told.
    pub fn saved(&self) -> SavedQueue {
        let under_way = self.current.iter().chain(&self.queue);
        let events = under_way.map(|queued| SavedEvent::new(&queued.event, queued.at, queued.attempts));
        let shared = self.current.as_ref().filter(|queued| !is_local(&queued.event));
        let running_since = shared.map(|_| self.began);
        SavedQueue { record: self.ledger.saved(running_since), events: events.collect() }
    }

    pub fn restore(&mut self, now: Instant, unix_now: u64, window: Duration, saved: SavedQueue) {
        self.ledger.restore(now, unix_now, window, &saved.record);
        let too_many = saved.events.len().saturating_sub(HANDLER_QUEUE_MAX);
        for saved in saved.events.into_iter().skip(too_many) {
            let (at, attempts) = (saved.at, saved.attempts);
            // A clock that was set must not make it live longer than it would have.
            let age = if at == 0 || unix_now == 0 { 0 } else { unix_now.saturating_sub(at) };
            let left = HANDLER_QUEUE_AGE_MAX.saturating_sub(Duration::from_secs(age));
            if let Some(event) = saved.occurrence()
                && !left.is_zero()
            {
                let hash = hash(&event);
                self.queue.push_back(Queued { hash, event, since: now, expires: now + left, at, attempts });
            }
        }
    }

    pub fn status<'a>(&'a self, config: &'a Config, world: &World<'_>) -> HandlerStatus<'a> {
        let one = config.place == Place::One;
        HandlerStatus {
            config,
            app: None,
            runner: self.runner(world, config).filter(|_| one).map(Into::into),
            phase: self.phase,
            waiting: self.waiting.as_ref(),
            last: self.last.clone(),
            failures_in_a_row: self.standing.failures,
            differs_since: None,
            gave_up: self.standing.gave_up || self.standing.failures >= FAILURES_MAX,
        }
    }
}

fn is_wanted(config: &Config, event: &Occurrence) -> bool {
    let kind = config.events.is_empty() || config.events.contains(&event.kind);
    kind && event.app.as_ref().is_none_or(|app| config.apps.contains(app))
}

/// The handler's apps that just one `one` `sync` handler of `others` tells, and that one.
fn gated_apps(config: &Config, others: &[Config]) -> Vec<(Box<str>, Box<str>)> {
    let telling = |app: &str| {
        let tells = |c: &&Config| {
            c.mode == Mode::Sync && c.place == Place::One && c.apps.iter().any(|other| **other == *app)
        };
        let mut telling = others.iter().filter(tells);
        let only = telling.next().filter(|_| telling.next().is_none())?;
        Some((app.into(), only.name.clone()))
    };
    config.apps.iter().filter_map(|app| telling(app)).collect()
}

/// About this node itself: told here, whatever `where` says, and by nobody else.
fn is_local(event: &Occurrence) -> bool {
    matches!(event.kind, EventKind::Quorum | EventKind::NoQuorum)
}

/// The same on every node: (event, app, node, incarnation of the node which told it).
fn hash(event: &Occurrence) -> u32 {
    let mut hash = Fnv::start();
    hash.field(event.kind.as_str().as_bytes());
    hash.field(event.app.as_deref().unwrap_or_default().as_bytes());
    hash.field(event.node.as_bytes());
    hash.write(&event.incarnation.to_be_bytes()).hash()
}
