//! One app of one `sync` or `picored1` handler: whether a run is due, and when it may start (4.5).

use core::net::IpAddr;
use std::borrow::Cow;

use super::handler::{Around, Out, Turn, report_failure, runner};
use super::record::{Greatest, LC_MAX, Record, State, Told, set_hash};
use super::retry::{FAILURES_MAX, Meaning, Standing};
use super::run::{Run, Telling};
use super::{
    AppSituation, Config, EventKind, HandlerStatus, LastRun, Mode, Occurrence, Place, ReportKind, World,
};
use crate::check::AppState;
use crate::safety::Address;
use crate::time::{Instant, earliest};
use crate::wire::serf;

pub struct Job {
    pub app: Box<str>,
    /// `h.HANDLER.APP`
    pub key: Box<str>,
    /// The own record, as the tag shows it.
    lc: u32,
    told: Told,
    state: State,
    greatest: Option<Greatest>,
    /// P: what the outside shows as far as this node knows; `None`: it does not know.
    pub outside: Option<Vec<Address>>,
    /// Number of the run that told it.
    outside_lc: u32,
    /// Since when a run is due (and it is this node's turn): the debounce counts from here.
    due_since: Option<Instant>,
    /// The run that is due goes on with what the last one began: the debounce is over.
    in_round: bool,
    current: Option<Current>,
    standing: Standing,
    /// Addresses whose `picored1` call failed since the last backoff: the others go first.
    failed_calls: Vec<IpAddr>,
    last_end: Option<Instant>,
    last: Option<LastRun>,
    phase: &'static str,
}

/// What the run under way tells.
struct Current {
    set: Vec<Address>,
    /// `picored1`: the one address, and whether it is called `up`.
    call: Option<(Address, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Idle,
    Ready,
}

/// Whether a run is due.
enum Due {
    No { until: Option<Instant> },
    Yes(&'static str),
}

impl Job {
    pub fn new(config: &Config, app: &str) -> Self {
        let fresh = config.mode == Mode::Picored1 && config.place != Place::One;
        Self {
            app: app.into(),
            key: format!("h.{}.{app}", config.name).into(),
            lc: 0,
            told: Told::Nothing,
            state: State::NotAble,
            greatest: None,
            outside: fresh.then(Vec::new),
            outside_lc: 0,
            due_since: None,
            in_round: false,
            current: None,
            standing: Standing::default(),
            failed_calls: Vec::new(),
            last_end: None,
            last: None,
            phase: "idle",
        }
    }

    fn situation<'a>(&self, world: &World<'a>) -> Option<&'a AppSituation> {
        world.apps.iter().find(|app| app.name == self.app)
    }

    /// Looks at the world; gives also when to look again, if nothing else happens.
    pub fn step(&mut self, turn: &Turn<'_>, around: Around<'_>) -> (Step, Option<Instant>) {
        let now = turn.now;
        self.watch_records(turn, around);
        self.show(now, around);
        let later = self.standing.next_deadline(now);
        let goal = self.situation(turn.world).and_then(|app| goal(app, turn.world, around.config));
        if around.config.place == Place::One
            && let (Some(goal), Some(greatest)) = (&goal, &self.greatest)
            && self.greatest_told() == Told::Set(hash(goal))
        {
            (self.outside, self.outside_lc) = (Some(goal.to_vec()), greatest.lc);
        }
        if let Some(current) = &self.current {
            if goal.is_some_and(|goal| hash(&current.set) != hash(&goal)) {
                self.due_since.get_or_insert(now);
            }
            self.phase = if around.stuck { "stuck" } else { "running" };
            return (Step::Idle, later);
        }
        let Some(goal) = goal.as_deref() else { return self.rest("idle", later) };
        match self.due(now, turn.world, around.config, goal) {
            Due::No { until } => {
                // What failed is not wanted any more, so nothing is left that could succeed. (The record of a `one`
                // handler says `?` after a failure, which makes a run due.)
                if around.config.place != Place::One && !self.standing.gave_up {
                    self.failed_calls.clear();
                    self.standing.succeeded();
                }
                self.rest("idle", earliest([self.standing.next_deadline(now), until]))
            }
            Due::Yes(_) if self.standing.gave_up => self.rest("stands back", later),
            Due::Yes(_) if turn.world.may_act.is_err() => self.rest("waiting", later),
            Due::Yes(_) if !self.is_runner(turn.world, around.config) => {
                self.rest(if self.standing.stands_back(now) { "stands back" } else { "idle" }, later)
            }
            Due::Yes(_) => self.when(now, around, goal, later),
        }
    }

    fn rest(&mut self, phase: &'static str, wake: Option<Instant>) -> (Step, Option<Instant>) {
        (self.phase, self.due_since, self.in_round) = (phase, None, false);
        (Step::Idle, wake)
    }

    /// A run is due here: whether all that it waits for is over.
    fn when(
        &mut self,
        now: Instant,
        around: Around<'_>,
        goal: &[Address],
        later: Option<Instant>,
    ) -> (Step, Option<Instant>) {
        let due_since = *self.due_since.get_or_insert(now);
        // A call for another address does not wait for the one that failed.
        let other_call = around.config.mode == Mode::Picored1 && self.next_call(goal, false).is_some();
        let first_try = other_call && !self.failed_calls.is_empty();
        let retry_at = self.standing.retry_at.filter(|_| !first_try);
        let calls_on = self.in_round && around.config.mode == Mode::Picored1;
        let spaced = self.last_end.filter(|_| !calls_on).map(|end| end + around.config.min_interval);
        let debounced = Some(due_since + around.config.debounce).filter(|_| !self.in_round);
        let waits = [
            (debounced, "debouncing"),
            (retry_at, "backoff"),
            (spaced, "waiting"),
            (around.busy_until, "waiting"),
        ];
        let longest =
            waits.into_iter().filter_map(|(at, phase)| Some((at?, phase))).max_by_key(|wait| wait.0);
        match longest {
            Some((at, phase)) if at > now => {
                self.phase = phase;
                (Step::Idle, earliest([later, Some(at)]))
            }
            _ => {
                self.phase = "waiting";
                (Step::Ready, later)
            }
        }
    }

    /// The greatest record among all members' tags, failed and left ones' too, and the own one.
    fn watch_records(&mut self, turn: &Turn<'_>, around: Around<'_>) {
        let (now, own) = (turn.now, turn.world.node);
        let mut shown: (u32, &str) = (self.lc, own);
        self.note(now, self.lc, own, self.told);
        if around.config.place != Place::One {
            return;
        }
        for member in turn.world.members.iter().filter(|member| &*member.name != own) {
            if let Some(record) = serf::tag(&member.meta, &self.key).and_then(Record::parse) {
                self.note(now, record.lc, &member.name, record.told);
                shown = shown.max((record.lc, &*member.name));
            }
        }
        // Its writer was forgotten, or lost its state: shown as the own one, so that it is not lost.
        if let Some(greatest) = &mut self.greatest
            && self.current.is_none()
            && (greatest.lc, &*greatest.node) > shown
        {
            (self.lc, self.told) = (greatest.lc, greatest.told);
            greatest.node = own.into();
        }
    }

    fn note(&mut self, now: Instant, lc: u32, node: &str, told: Told) {
        Greatest::note(&mut self.greatest, now, (lc, node, told));
    }

    /// What the outside was told last. At the end of the numbers (a broken peer showed the last one) no record is
    /// greater than another node's any more: the own one counts, or this node would run for ever.
    fn greatest_told(&self) -> Told {
        match &self.greatest {
            _ if self.lc == LC_MAX => self.told,
            Some(greatest) => greatest.told,
            None => Told::Nothing,
        }
    }

    fn due(&self, now: Instant, world: &World<'_>, config: &Config, goal: &[Address]) -> Due {
        let again = if self.standing.failures > 0 { "retry" } else { "change" };
        if config.mode == Mode::Picored1 && config.place != Place::One {
            return match self.next_call(goal, true) {
                Some(_) => Due::Yes(again),
                None => Due::No { until: None },
            };
        }
        let Some(greatest) = &self.greatest else { return Due::Yes(again) };
        let is_own = &*greatest.node == world.node;
        match self.greatest_told() {
            Told::Set(told) if told == hash(goal) => {
                // At the end of the numbers an own run does not become the greatest record.
                let until = greatest.seen.max(self.last_end.unwrap_or_default()) + config.resync;
                match () {
                    // `picored1` calls are about differences only (4.1).
                    () if config.resync.is_zero() || config.mode == Mode::Picored1 => Due::No { until: None },
                    () if until > now => Due::No { until: Some(until) },
                    () => Due::Yes("resync"),
                }
            }
            Told::Unknown if !is_own => Due::Yes("takeover"),
            // Its own run was interrupted, or failed.
            Told::Unknown => Due::Yes("retry"),
            Told::Set(_) | Told::Nothing => Due::Yes(again),
        }
    }

    /// What the tag shows besides the record.
    fn show(&mut self, now: Instant, around: Around<'_>) {
        self.state = self.standing.shown(now, self.current.is_some() && !around.stuck, around.not_able);
    }

    fn is_runner(&self, world: &World<'_>, config: &Config) -> bool {
        config.place != Place::One || self.runner(world, config) == Some(world.node)
    }

    fn runner<'a>(&self, world: &World<'a>, config: &Config) -> Option<&'a str> {
        let state = |value: &str| Record::parse(value).map(|record| record.state);
        runner(config, &self.key, self.state, world, state)
    }

    /// The first address that a `picored1` call must be made for: gone ones last, since an address
    /// too many for a moment is better than one too few.
    fn next_call(&self, goal: &[Address], failed_too: bool) -> Option<(Address, bool)> {
        let before = self.outside.as_deref().unwrap_or_default();
        let lacks = |set: &[Address], entry: &Address| set.iter().all(|other| other.addr != entry.addr);
        let up = goal.iter().filter(|entry| lacks(before, entry)).map(|entry| (entry, true));
        let down = before.iter().filter(|entry| lacks(goal, entry)).map(|entry| (entry, false));
        up.chain(down)
            .find(|(entry, _)| failed_too || !self.failed_calls.contains(&entry.addr))
            .map(|(entry, up)| (entry.clone(), up))
    }

    /// Starts the run that [`Job::step`] said is ready.
    pub fn start(&mut self, turn: &mut Turn<'_>, around: Around<'_>) -> Option<Run> {
        let (now, world, config) = (turn.now, turn.world, around.config);
        let situation = self.situation(world)?;
        let goal = &*goal(situation, world, config)?;
        let Due::Yes(reason) = self.due(now, world, config, goal) else { return None };
        let call = match config.mode {
            Mode::Picored1 => Some(self.choose_call(situation, goal)?),
            _ => None,
        };
        let before = self.greatest.as_ref().map_or(0, |greatest| greatest.lc);
        self.lc = before.max(self.lc).saturating_add(1).min(LC_MAX);
        self.told = Told::Unknown;
        let about = call.as_ref().map(|(entry, up)| call_event(&self.app, entry, *up));
        let attempt = self.standing.failures.saturating_add(1);
        let telling = Telling {
            config,
            now,
            world,
            situation: Some(situation),
            reason,
            generation: self.lc,
            attempt,
            publish: goal,
            guard: situation.verdict_for(&config.name).guard(),
            previous: self.outside.as_deref().map(|set| (self.outside_lc, set)),
            about: about.as_ref(),
        };
        let run = telling.run();
        let publish = match &call {
            Some((entry, _)) => vec![entry.addr],
            None => goal.iter().map(|entry| entry.addr).collect(),
        };
        turn.out.report(config, Some(&self.app), ReportKind::Started { reason, attempt, publish });
        self.current = Some(Current { set: goal.to_vec(), call });
        (self.due_since, self.phase) = (None, "running");
        self.last = Some(LastRun::begun(now));
        self.note(now, self.lc, world.node, self.told);
        self.show(now, around);
        Some(run)
    }

    /// The next `picored1` call. Where it is not known what the outside shows (another node's calls
    /// were interrupted), every known address is called again.
    fn choose_call(&mut self, situation: &AppSituation, goal: &[Address]) -> Option<(Address, bool)> {
        if self.next_call(goal, true).is_none() {
            self.outside = None;
        }
        if self.outside.is_none() {
            let known = situation.instances.iter().filter(|_| self.greatest.is_some());
            let of = |addr: IpAddr, node: &str| Address { addr, node: node.into() };
            let mut rest: Vec<Address> =
                known.flat_map(|i| i.addrs.iter().map(|&addr| of(addr, &i.node))).collect();
            rest.retain(|entry| goal.iter().all(|other| other.addr != entry.addr));
            rest.sort_unstable();
            rest.dedup_by_key(|entry| entry.addr);
            (self.outside, self.outside_lc) =
                (Some(rest), self.greatest.as_ref().map_or(0, |greatest| greatest.lc));
        }
        if self.next_call(goal, false).is_none() {
            self.failed_calls.clear();
        }
        self.next_call(goal, false)
    }

    pub fn ended(&mut self, now: Instant, config: &Config, meaning: Meaning, last: LastRun, out: &mut Out) {
        let Some(current) = self.current.take() else { return };
        self.last_end = Some(now);
        // A call for another address, or a retry, needs no further debounce.
        self.in_round = current.call.is_some() || meaning != Meaning::Done;
        if meaning == Meaning::Done {
            let took = now.since(last.started);
            out.report(config, Some(&self.app), ReportKind::Succeeded { took });
            self.succeeded(current);
        } else {
            self.failed(now, config, meaning, &current, &last, out);
        }
        self.last = Some(last);
    }

    fn succeeded(&mut self, current: Current) {
        self.outside_lc = self.lc;
        let Some((entry, up)) = current.call else {
            self.told = Told::Set(hash(&current.set));
            self.outside = Some(current.set);
            self.standing.succeeded();
            return;
        };
        let outside = self.outside.get_or_insert_default();
        outside.retain(|other| other.addr != entry.addr);
        if up {
            outside.push(entry);
            outside.sort_unstable();
        }
        self.told = Told::Set(hash(outside));
        if self.failed_calls.is_empty() {
            self.standing.succeeded();
        }
    }

    fn failed(
        &mut self,
        now: Instant,
        config: &Config,
        meaning: Meaning,
        current: &Current,
        last: &LastRun,
        out: &mut Out,
    ) {
        // One backoff for all the calls of a round that fail.
        let backoff = self.standing.retry_at.filter(|_| !self.failed_calls.is_empty());
        report_failure(now, config, Some(&self.app), &mut self.standing, meaning, backoff, last, out);
        if let Some((entry, _)) = &current.call {
            self.failed_calls.push(entry.addr);
        }
    }

    pub fn record(&self) -> Record {
        Record { state: self.state, lc: self.lc, told: self.told }
    }

    pub fn status<'a>(&'a self, config: &'a Config, world: &World<'_>) -> HandlerStatus<'a> {
        let one = config.place == Place::One;
        HandlerStatus {
            config,
            app: Some(&self.app),
            runner: self.runner(world, config).filter(|_| one).map(Into::into),
            phase: self.phase,
            last: self.last.clone(),
            failures_in_a_row: self.standing.failures,
            gave_up: self.standing.gave_up || self.standing.failures >= FAILURES_MAX,
        }
    }
}

/// G as it concerns this node: with `self` the own addresses only.
fn goal<'a>(situation: &'a AppSituation, world: &World<'_>, config: &Config) -> Option<Cow<'a, [Address]>> {
    let goal = situation.verdict_for(&config.name).publish.as_deref()?;
    Some(match config.place {
        Place::SelfOnly => goal.iter().filter(|entry| &*entry.node == world.node).cloned().collect(),
        Place::One | Place::All => Cow::Borrowed(goal),
    })
}

/// A `picored1` call as the event that it is.
fn call_event(app: &str, entry: &Address, up: bool) -> Occurrence {
    Occurrence {
        kind: if up { EventKind::AppUp } else { EventKind::AppDown },
        app: Some(app.into()),
        node: entry.node.clone(),
        addrs: vec![entry.addr],
        state: if up { AppState::Up } else { AppState::Down },
        incarnation: 0,
    }
}

fn hash(set: &[Address]) -> u32 {
    set_hash(set.iter().map(|entry| entry.addr))
}
