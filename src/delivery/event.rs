//! The queue of an `event` handler: one run for each event, in order (`interfaces`, 4.5, last paragraph).

use std::collections::VecDeque;

use super::handler::{Around, Out, Turn, report_failure, runner};
use super::job::Step;
use super::record::{EventRecord, Fnv, State, Told};
use super::retry::{FAILURES_MAX, Meaning, Standing};
use super::run::{Run, Telling};
use super::{
    AppSituation, Config, EventKind, HandlerStatus, LastRun, Mode, Occurrence, Place, ReportKind, World,
};
use crate::limits::{HANDLER_QUEUE_AGE_MAX, HANDLER_QUEUE_MAX};
use crate::safety::Address;
use crate::time::{Instant, earliest};
use crate::wire::serf;

pub struct Queue {
    /// `h.HANDLER`
    pub key: Box<str>,
    waiting: VecDeque<Queued>,
    /// Being told; not in `waiting`.
    current: Option<Queued>,
    /// The last event that this node told.
    done: Told,
    runs: u32,
    /// Lost since the last report.
    dropped: u32,
    runner_since: Option<Instant>,
    state: State,
    standing: Standing,
    last: Option<LastRun>,
    phase: &'static str,
    /// Apps with just one `one` `sync` handler, and that handler: its set is told, else U.
    gated_apps: Vec<(Box<str>, Box<str>)>,
}

struct Queued {
    event: Occurrence,
    hash: u32,
    since: Instant,
    attempts: u32,
}

impl Queue {
    pub fn new(config: &Config, others: &[Config]) -> Self {
        let telling = |app: &str| {
            let tells = |c: &&Config| {
                c.mode == Mode::Sync && c.place == Place::One && c.apps.iter().any(|other| **other == *app)
            };
            let mut telling = others.iter().filter(tells);
            let only = telling.next().filter(|_| telling.next().is_none())?;
            Some((app.into(), only.name.clone()))
        };
        Self {
            key: format!("h.{}", config.name).into(),
            waiting: VecDeque::new(),
            current: None,
            done: Told::Nothing,
            runs: 0,
            dropped: 0,
            runner_since: None,
            state: State::NotAble,
            standing: Standing::default(),
            last: None,
            phase: "idle",
            gated_apps: config.apps.iter().filter_map(|app| telling(app)).collect(),
        }
    }

    /// Takes the event if the handler wants it; the oldest goes when there are too many.
    pub fn push(&mut self, now: Instant, config: &Config, event: &Occurrence) {
        let kind = config.events.is_empty() || config.events.contains(&event.kind);
        let app = event.app.as_ref().is_none_or(|app| config.apps.contains(app));
        let given_up = self.standing.gave_up && config.place != Place::One;
        if !kind || !app || given_up {
            return;
        }
        if self.waiting.len() >= HANDLER_QUEUE_MAX {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        let queued = Queued { hash: hash(event), event: event.clone(), since: now, attempts: 0 };
        self.waiting.push_back(queued);
    }

    /// Looks at the world; gives also when to look again, if nothing else happens.
    pub fn step(&mut self, turn: &mut Turn<'_>, around: Around<'_>) -> (Step, Option<Instant>) {
        let (now, config) = (turn.now, around.config);
        self.show(now, around);
        if config.place == Place::SelfOnly {
            self.waiting.retain(|queued| *queued.event.node == *turn.world.node || is_local(&queued.event));
        }
        if config.place == Place::One {
            self.drop_done(turn.world);
        }
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
        let later = earliest([self.standing.next_deadline(now), self.expiry()]);
        let (phase, step, wait) = self.when(now, around);
        self.phase = phase;
        (step, earliest([later, wait]))
    }

    fn when(&self, now: Instant, around: Around<'_>) -> (&'static str, Step, Option<Instant>) {
        if self.current.is_some() {
            return (if around.stuck { "stuck" } else { "running" }, Step::Idle, None);
        }
        if self.standing.gave_up {
            return ("stands back", Step::Idle, None);
        }
        let Some(next) = self.next(around.config).and_then(|index| self.waiting.get(index)) else {
            let back = around.config.place == Place::One && self.standing.stands_back(now);
            return (if back { "stands back" } else { "idle" }, Step::Idle, None);
        };
        let busy = around.busy_until.filter(|_| !is_local(&next.event));
        for (at, phase) in [(self.standing.retry_at, "backoff"), (busy, "waiting")] {
            if let Some(at) = at.filter(|&at| at > now) {
                return (phase, Step::Idle, Some(at));
            }
        }
        ("waiting", Step::Ready, None)
    }

    /// The first event that is this node's to tell.
    fn next(&self, config: &Config) -> Option<usize> {
        let all = config.place != Place::One || self.runner_since.is_some();
        self.waiting.iter().position(|queued| all || is_local(&queued.event))
    }

    /// Drops what another node's tag says was told, and all before it.
    fn drop_done(&mut self, world: &World<'_>) {
        if self.waiting.is_empty() {
            return;
        }
        for member in world.members.iter().filter(|member| &*member.name != world.node) {
            let Some(record) = serf::tag(&member.meta, &self.key).and_then(EventRecord::parse) else {
                continue;
            };
            let Told::Set(done) = record.done else { continue };
            let same = |queued: &Queued| queued.hash == done && !is_local(&queued.event);
            if let Some(index) = self.waiting.iter().rposition(same) {
                let mut place = 0;
                self.waiting.retain(|queued| {
                    place += 1;
                    place > index + 1 || is_local(&queued.event)
                });
            }
        }
    }

    fn drop_old(&mut self, now: Instant) {
        let before = self.waiting.len();
        self.waiting.retain(|queued| queued.expires() > now);
        // Bounded by HANDLER_QUEUE_MAX.
        let dropped = u32::try_from(before - self.waiting.len()).unwrap_or(u32::MAX);
        self.dropped = self.dropped.saturating_add(dropped);
    }

    fn expiry(&self) -> Option<Instant> {
        self.waiting.iter().map(Queued::expires).min()
    }

    fn show(&mut self, now: Instant, around: Around<'_>) {
        self.state = self.standing.shown(now, self.current.is_some() && !around.stuck, around.not_able);
    }

    fn runner<'a>(&self, world: &World<'a>, config: &Config) -> Option<&'a str> {
        let state = |value: &str| EventRecord::parse(value).map(|record| record.state);
        runner(config, &self.key, self.state, world, state)
    }

    /// Starts the run that [`Queue::step`] said is ready.
    pub fn start(&mut self, turn: &mut Turn<'_>, around: Around<'_>) -> Option<Run> {
        let (now, config, world) = (turn.now, around.config, turn.world);
        let mut queued = self.waiting.remove(self.next(config)?)?;
        queued.attempts = queued.attempts.saturating_add(1);
        self.runs = self.runs.saturating_add(1);
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
            generation: self.runs,
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
        self.current = Some(queued);
        self.phase = "running";
        self.last = Some(LastRun::begun(now));
        self.show(now, around);
        Some(run)
    }

    /// What an event handler is told of the app's set (4.1), and the gate that made it.
    fn set(&self, situation: &AppSituation) -> (Vec<Address>, &'static str) {
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
        (set, "")
    }

    pub fn ended(&mut self, now: Instant, config: &Config, meaning: Meaning, last: LastRun, out: &mut Out) {
        let Some(queued) = self.current.take() else { return };
        let app = queued.event.app.as_deref();
        if meaning == Meaning::Done {
            out.report(config, app, ReportKind::Succeeded { took: now.since(last.started) });
            self.standing.succeeded();
            if !is_local(&queued.event) {
                self.done = Told::Set(queued.hash);
            }
        } else {
            report_failure(now, config, app, &mut self.standing, meaning, None, &last, out);
            // Its age decides how long it is retried; another node may tell it meanwhile.
            self.waiting.push_front(queued);
            if self.standing.gave_up && config.place != Place::One {
                self.dropped += u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
                self.waiting.clear();
            }
        }
        self.last = Some(last);
    }

    pub fn current_app(&self) -> Option<&str> {
        self.current.as_ref().and_then(|queued| queued.event.app.as_deref())
    }

    pub fn record(&self) -> EventRecord {
        EventRecord { state: self.state, done: self.done }
    }

    pub fn status<'a>(&'a self, config: &'a Config, world: &World<'_>) -> HandlerStatus<'a> {
        let one = config.place == Place::One;
        HandlerStatus {
            config,
            app: None,
            runner: self.runner(world, config).filter(|_| one).map(Into::into),
            phase: self.phase,
            last: self.last.clone(),
            failures_in_a_row: self.standing.failures,
            gave_up: self.standing.gave_up || self.standing.failures >= FAILURES_MAX,
        }
    }
}

impl Queued {
    fn expires(&self) -> Instant {
        self.since + HANDLER_QUEUE_AGE_MAX
    }
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
