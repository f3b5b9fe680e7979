//! One app of one `sync` or `picored1` handler: whether a run is due, and when it may start (4.5).

use core::net::IpAddr;
use core::time::Duration;

use super::calls::{self, Call};
use super::differs::Differs;
use super::handler::{Around, Out, Turn, report_failure, runner};
use super::ledger::{Kind, Ledger};
use super::record::{LC_MAX, Told, set_hash};
use super::retry::{FAILURES_MAX, Meaning, Standing};
use super::run::{Run, Telling};
use super::saved::SavedJob;
use super::verify::Verify;
use super::waiting::{Unseen, Waiting};
use super::{AppSituation, Config, HandlerStatus, LastRun, Mode, Place, ReportKind, World, learn};
use crate::safety::{Address, Addresses};
use crate::time::{Instant, earliest};

/// A person's `sync` lapses if nothing lets it run for so long: nobody expects it any more.
const MANUAL_MAX: Duration = Duration::from_secs(600);

pub struct Job {
    pub app: Box<str>,
    pub ledger: Ledger,
    /// P: what the outside shows as far as this node knows; `None`: it does not know. It follows success (the greatest
    /// record's, too), not what is about to be told: otherwise `keep` would keep what the outside never showed.
    pub outside: Option<Addresses>,
    /// Number of the run that told it.
    pub outside_lc: u32,
    /// Since when a run is due (and it is this node's turn): the debounce counts from here.
    due_since: Option<Instant>,
    /// The run that is due goes on with what the last one began: the debounce is over.
    in_round: bool,
    current: Option<Current>,
    standing: Standing,
    /// Addresses whose `picored1` call failed since the last backoff: the others go first.
    failed_calls: Vec<IpAddr>,
    /// `picored1`: addresses that are still to be called whatever P says of them, for it is not known what the outside
    /// shows. Not in P: what the gates keep must not depend on how far the round has come.
    round: Vec<Address>,
    /// Of these, whom the gates hold outside of G for now: not called down before that is decided.
    held: Vec<IpAddr>,
    verify: Verify,
    /// A person wants a run, until then.
    manual: Option<Instant>,
    /// A person said to go on without having seen everybody (rule 7): until the next success, and then at the latest.
    released: Option<Instant>,
    last_end: Option<Instant>,
    last: Option<LastRun>,
    waiting: Option<Waiting>,
    differs: Differs,
    /// For which P was looked last: the hashes of the record, of P and of what may differ from it.
    learnt: Option<(u32, u32, u32)>,
    phase: &'static str,
}

/// What the run under way tells.
struct Current {
    lc: u32,
    set: Addresses,
    /// `picored1`: the one address.
    call: Option<Call>,
    /// Seconds since 1970 when it began.
    began: u64,
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

/// What is to be told.
struct Plan {
    goal: Addresses,
    /// Without quorum: P less the own addresses. Each node does that for itself.
    withdraws: bool,
}

impl Job {
    pub fn new(config: &Config, app: &str) -> Self {
        let fresh = config.mode == Mode::Picored1 && config.place != Place::One;
        Self {
            app: app.into(),
            ledger: Ledger::new(format!("h.{}.{app}", config.name), Kind::Set),
            outside: fresh.then(Addresses::default),
            outside_lc: 0,
            due_since: None,
            in_round: false,
            current: None,
            standing: Standing::default(),
            failed_calls: Vec::new(),
            round: Vec::new(),
            held: Vec::new(),
            verify: Verify::default(),
            manual: None,
            released: None,
            last_end: None,
            last: None,
            waiting: None,
            differs: Differs::default(),
            learnt: None,
            phase: "idle",
        }
    }

    /// Without quorum this node may take itself away, but not while one that it sees running shows that it can act:
    /// that one sees it, too, and would put it back again and again. `picored1` runs nothing without quorum (4.1): its
    /// calls are about differences, and two nodes that each take themselves away would leave nothing.
    fn plan(&self, situation: &AppSituation, world: &World<'_>, config: &Config) -> Option<Plan> {
        let is_alone = config.place != Place::One || self.runner(world, config).is_none();
        let may_withdraw = world.may_withdraw && config.mode == Mode::Sync && is_alone;
        plan(situation, world, config, may_withdraw)
    }

    fn situation<'a>(&self, world: &World<'a>) -> Option<&'a AppSituation> {
        world.apps.iter().find(|app| app.name == self.app)
    }

    /// Looks at the world; gives also when to look again, if nothing else happens.
    pub fn step(&mut self, turn: &mut Turn<'_>, around: Around<'_>) -> (Step, Option<Instant>) {
        let (now, world) = (turn.now, turn.world);
        self.watch_records(turn, around);
        let situation = self.situation(world);
        let plan = situation.and_then(|situation| self.plan(situation, world, around.config));
        if around.config.place == Place::One
            && let (Some(plan), Some(greatest)) = (&plan, &self.ledger.greatest)
            && self.told(world, around.config) == Told::Set(hash(&plan.goal))
        {
            (self.outside, self.outside_lc) = (Some(plan.goal.clone()), greatest.lc);
            self.round.clear();
        }
        let unseen = situation.and_then(|situation| self.unseen(now, world, situation, around.config));
        let is_held = situation.is_some_and(|situation| situation.held.is_some());
        // Who knows neither P nor a set cannot be the runner: another one may know both.
        let knows_nothing = around.config.place == Place::One && plan.is_none() && self.outside.is_none();
        let lags = knows_nothing && self.ledger.greatest.is_some();
        self.show(now, around, unseen.is_some() || is_held || lags);
        let learnt = situation.is_some_and(|situation| {
            self.adopt_withdrawn(world, situation, around.config)
                || self.learn(world, situation, around.config)
        });
        let disagrees = self.disagrees(turn, around, plan.as_ref());
        let differs = self.differs.watch(turn, around.config, &self.app, disagrees);
        // When another node's run counts as over nothing else may happen, but that it overlapped one is known then.
        let others_end = around.busy.map(|(_, until)| until);
        let lapses = self.released.filter(|&until| until > now);
        let later = earliest([
            self.standing.next_deadline(now),
            self.ledger.orphan_until(now),
            differs,
            others_end,
            lapses,
        ]);
        if let Some(current) = &self.current {
            if plan.is_some_and(|plan| hash(&current.set) != hash(&plan.goal)) {
                self.due_since.get_or_insert(now);
            }
            (self.phase, self.waiting) = (if around.stuck { "stuck" } else { "running" }, None);
            return (Step::Idle, later);
        }
        // What the gates gave was of the P before.
        let (Some(situation), Some(plan)) = (situation, plan.filter(|_| !learnt)) else {
            let reason = situation.and_then(|app| app.verdict_for(&around.config.name).guard.clone());
            return self.rest(Some(Waiting::NoSet(reason)), later);
        };
        let held = situation.verdict_for(&around.config.name).held.iter().map(|(entry, _)| entry.addr);
        self.held = held.filter(|&addr| plan.goal.iter().all(|entry| entry.addr != addr)).collect();
        let is_rid = self.drop_unwanted_calls(&plan.goal);
        let due = self.due(now, world, around.config, &plan);
        if let Due::No { until } = due {
            // What failed is not wanted any more, so nothing is left that could succeed. (The record of a `one`
            // handler says `?` after a failure, which makes a run due, but not if another call succeeded since.)
            if (around.config.place != Place::One || is_rid) && !self.standing.gave_up {
                self.failed_calls.clear();
                self.standing.succeeded();
            }
            return self.rest(None, earliest([later, until]));
        }
        let waiting = self.barred(turn, around, situation, &plan, unseen);
        match waiting {
            Some(waiting) => {
                self.report_waiting(turn, around, &waiting);
                self.rest(Some(waiting), later)
            }
            None => self.when(turn, around, situation, &plan, later),
        }
    }

    /// `withdraw_self`: who ran last took itself out of what this node takes for P, perhaps while this node did the same.
    /// That is seen by the hash, and followed, or else this node's own withdrawal would put that one back, without quorum.
    fn adopt_withdrawn(&mut self, world: &World<'_>, situation: &AppSituation, config: &Config) -> bool {
        let (Told::Set(told), Some(outside)) = (self.ledger.greatest_told(), &self.outside) else {
            return false;
        };
        let Some(greatest) = self.ledger.greatest.as_ref().filter(|greatest| &*greatest.node != world.node)
        else {
            return false;
        };
        let withdraws = world.may_withdraw && world.may_act.is_err() && config.mode == Mode::Sync;
        if !withdraws || config.place != Place::One || hash(outside) == told {
            return false;
        }
        let with_own = with(outside, situation.addresses_of(world.node));
        let mut sets = [&outside[..], &with_own].map(|set| {
            let is_its = |entry: &Address| {
                let mut its = situation.addresses_of(&greatest.node);
                *entry.node == *greatest.node || its.any(|other| other.addr == entry.addr)
            };
            set.iter().filter(|entry| !is_its(entry)).cloned().collect::<Vec<_>>()
        });
        let Some(shown) = sets.iter_mut().find(|set| hash(set) == told) else { return false };
        (self.outside, self.outside_lc) = (Some(core::mem::take(shown).into()), greatest.lc);
        true
    }

    /// What the greatest record told is neither P nor G: P may be found by its hash. True: it was.
    fn learn(&mut self, world: &World<'_>, situation: &AppSituation, config: &Config) -> bool {
        let (Told::Set(told), Some(outside)) = (self.told(world, config), &self.outside) else {
            return false;
        };
        if config.place != Place::One || config.mode != Mode::Sync || told == hash(outside) {
            return false;
        }
        let changes = learn::changes(outside, &situation.instances);
        let tried = (told, hash(outside), hash(&changes));
        if self.learnt.replace(tried) == Some(tried) {
            return false;
        }
        let Some(set) = learn::find(told, outside, &changes) else { return false };
        self.outside = Some(set.into());
        self.outside_lc = self.ledger.greatest.as_ref().map_or(0, |greatest| greatest.lc);
        true
    }

    /// Another node is the runner, which told another set than this node would.
    fn disagrees(&self, turn: &Turn<'_>, around: Around<'_>, plan: Option<&Plan>) -> Option<Box<str>> {
        let (world, config) = (turn.world, around.config);
        let Told::Set(told) = self.told(world, config) else { return None };
        let differs = plan.is_some_and(|plan| !plan.withdraws && hash(&plan.goal) != told);
        let can_know =
            differs && config.place == Place::One && world.may_act.is_ok() && self.current.is_none();
        let other = self.runner(world, config).filter(|runner| *runner != world.node);
        other.filter(|_| can_know).map(Into::into)
    }

    /// Why a run that is due is not this node's to start, however long it waits.
    fn barred(
        &self,
        turn: &Turn<'_>,
        around: Around<'_>,
        situation: &AppSituation,
        plan: &Plan,
        unseen: Option<Unseen>,
    ) -> Option<Waiting> {
        let (now, world) = (turn.now, turn.world);
        let acts_alone = plan.withdraws || self.is_manual(now) || around.config.place != Place::One;
        match &world.may_act {
            _ if self.standing.gave_up => Some(Waiting::GaveUp),
            Err(reason) if !plan.withdraws => Some(Waiting::Gates(reason.clone())),
            _ if let Some(reason) = &situation.held => Some(Waiting::Gates(reason.clone())),
            _ if acts_alone && unseen.is_none() => None,
            _ if let Some(unseen) = unseen => Some(Waiting::Unseen(unseen)),
            _ => match self.runner(world, around.config) {
                Some(runner) if runner == world.node => None,
                _ if self.standing.stands_back(now) => {
                    Some(Waiting::StandsBack { until: self.standing.back_until })
                }
                runner => Some(Waiting::Runner(runner.map(Into::into))),
            },
        }
    }

    fn rest(&mut self, waiting: Option<Waiting>, wake: Option<Instant>) -> (Step, Option<Instant>) {
        self.phase = waiting.as_ref().map_or("idle", Waiting::phase);
        (self.waiting, self.due_since, self.in_round) = (waiting, None, false);
        self.verify.forget();
        (Step::Idle, wake)
    }

    /// A run is due here: whether all that it waits for is over.
    fn when(
        &mut self,
        turn: &mut Turn<'_>,
        around: Around<'_>,
        situation: &AppSituation,
        plan: &Plan,
        later: Option<Instant>,
    ) -> (Step, Option<Instant>) {
        let now = turn.now;
        let due_since = *self.due_since.get_or_insert(now);
        let waiting = self.longest_wait(now, around, &plan.goal, due_since);
        let waiting = match waiting {
            None if !around.may_start => Some(around.why_not()),
            waiting => waiting,
        };
        if let Some(waiting) = waiting {
            self.verify.forget();
            self.report_waiting(turn, around, &waiting);
            let until = waiting.until();
            (self.phase, self.waiting) = (waiting.phase(), Some(waiting));
            return (Step::Idle, earliest([later, until]));
        }
        let before = self.outside.as_deref();
        // Who takes its own addresses away alone asks nobody.
        let tried = match plan.withdraws {
            true => None,
            false => self.verify.wait(turn, situation, before, &plan.goal),
        };
        self.phase = "waiting";
        match tried {
            Some((nodes, until)) => {
                self.waiting = Some(Waiting::Verify { nodes });
                (Step::Idle, earliest([later, Some(until)]))
            }
            None => {
                self.waiting = None;
                (Step::Ready, later)
            }
        }
    }

    /// Of all that a due run waits for in time, what takes longest.
    fn longest_wait(
        &self,
        now: Instant,
        around: Around<'_>,
        goal: &[Address],
        due_since: Instant,
    ) -> Option<Waiting> {
        let (config, manual) = (around.config, self.is_manual(now));
        // A call for another address does not wait for the one that failed.
        let is_calls = config.mode == Mode::Picored1;
        let first_try = is_calls && !self.failed_calls.is_empty() && self.next_call(goal, false).is_some();
        let backoff = self.standing.retry_at.filter(|_| !first_try && !manual);
        let spaced =
            self.last_end.filter(|_| !(self.in_round && is_calls)).map(|end| end + config.min_interval);
        let debounced = Some(due_since + config.debounce).filter(|_| !self.in_round && !manual);
        let waits = [
            debounced.map(|until| Waiting::Debounce { until }),
            backoff.map(|until| Waiting::Backoff { until }),
            spaced.map(|until| Waiting::MinInterval { until }),
            around.busy.map(|(node, until)| Waiting::OthersRun { node: node.into(), until }),
            around.orphan_until.map(|until| Waiting::OwnOrphan { until }),
        ];
        let longest = waits.into_iter().flatten().max_by_key(Waiting::until);
        longest.filter(|waiting| waiting.until() > Some(now))
    }

    /// Says once what a run waits for, where that may take long.
    fn report_waiting(&self, turn: &mut Turn<'_>, around: Around<'_>, waiting: &Waiting) {
        if waiting.is_news() && self.waiting.as_ref() != Some(waiting) {
            turn.out.report(around.config, Some(&self.app), ReportKind::Waits(waiting.clone()));
        }
    }

    fn watch_records(&mut self, turn: &mut Turn<'_>, around: Around<'_>) {
        let (now, world) = (turn.now, turn.world);
        let running = self.current.is_some();
        if around.config.place != Place::One {
            return self.ledger.watch_own(now, world.node);
        }
        for with in self.ledger.watch(now, world, around.others, running) {
            turn.out.report(around.config, Some(&self.app), ReportKind::Overlapped { with });
        }
        if !running && world.may_act.is_ok() {
            self.ledger.adopt(world.node);
        }
    }

    /// Rule 7: what is missing to a run while this node has no record, or does not know what is published.
    fn unseen(
        &self,
        now: Instant,
        world: &World<'_>,
        situation: &AppSituation,
        config: &Config,
    ) -> Option<Unseen> {
        let knows = self.ledger.greatest.is_some() && self.outside.is_some();
        if config.place != Place::One || self.is_released(now) || knows {
            return None;
        }
        Unseen::of(world, &situation.instances)
    }

    fn due(&self, now: Instant, world: &World<'_>, config: &Config, plan: &Plan) -> Due {
        let goal = &plan.goal;
        let again = if self.standing.failures > 0 { "retry" } else { "change" };
        if plan.withdraws {
            // A person's word does not make it tell the others' addresses again: by now others may have told better.
            let differs = self.outside.as_ref().is_some_and(|outside| hash(outside) != hash(goal));
            return if differs { Due::Yes(again) } else { Due::No { until: None } };
        }
        if self.is_manual(now) {
            return Due::Yes("manual");
        }
        if config.mode == Mode::Picored1 && config.place != Place::One {
            return match self.next_call(goal, true) {
                Some(_) => Due::Yes(again),
                None => Due::No { until: None },
            };
        }
        if !self.round.is_empty() {
            let reason = if self.standing.failures > 0 { "retry" } else { "resync" };
            return match self.next_call(goal, true) {
                Some(_) => Due::Yes(reason),
                None => Due::No { until: None },
            };
        }
        let Some(greatest) = &self.ledger.greatest else { return Due::Yes(again) };
        let is_own = &*greatest.node == world.node;
        match self.told(world, config) {
            Told::Set(told) if told == hash(goal) => {
                // At the end of the numbers an own run does not become the greatest record.
                let until = greatest.seen.max(self.last_end.unwrap_or_default()) + config.resync;
                match () {
                    // Two runs overlapped: told again, though nothing changed.
                    () if self.ledger.repeats() => Due::Yes("resync"),
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
    fn show(&mut self, now: Instant, around: Around<'_>, unseen: bool) {
        let running = self.current.is_some() && !around.stuck;
        self.ledger.show(now, self.standing.shown(now, running, around.not_able || unseen));
    }

    fn runner<'a>(&self, world: &World<'a>, config: &Config) -> Option<&'a str> {
        runner(config, &self.ledger, world)
    }

    /// What the outside was told last. At the end of the numbers no record is the greatest: what the runner shows counts.
    fn told(&self, world: &World<'_>, config: &Config) -> Told {
        let is_at_end = self.ledger.greatest.as_ref().is_some_and(|greatest| greatest.lc == LC_MAX);
        let other = self.runner(world, config).filter(|runner| is_at_end && *runner != world.node);
        let shown = other.and_then(|runner| self.ledger.shown_by(runner));
        shown.filter(|record| record.lc == LC_MAX).map_or(self.ledger.greatest_told(), |record| record.told)
    }

    /// The first address that a `picored1` call must be made for.
    fn next_call(&self, goal: &[Address], failed_too: bool) -> Option<Call> {
        let skipped = if failed_too { &[][..] } else { &self.failed_calls };
        calls::next(&self.shown_to_calls(goal), goal, skipped)
    }

    /// P, and of what is still to be called in this round the opposite of `goal`.
    fn shown_to_calls(&self, goal: &[Address]) -> Vec<Address> {
        let decided = self.round.iter().filter(|entry| !self.held.contains(&entry.addr));
        let doubtful: Vec<Address> = decided.cloned().collect();
        calls::in_doubt(self.outside.as_deref().unwrap_or_default(), goal, &doubtful)
    }

    /// Calls that failed and that nobody wants any more count no longer; true if those were all that had failed. What
    /// else there is to call has not failed, so it waits for no backoff.
    fn drop_unwanted_calls(&mut self, goal: &[Address]) -> bool {
        let shown = self.shown_to_calls(goal);
        let before = self.failed_calls.len();
        self.failed_calls.retain(|&addr| calls::is_wanted(&shown, goal, addr));
        let is_rid = self.failed_calls.is_empty() && before > 0;
        if is_rid && self.next_call(goal, true).is_some() {
            self.standing.retry_at = None;
        }
        is_rid
    }

    /// Starts the run that [`Job::step`] said is ready.
    pub fn start(&mut self, turn: &mut Turn<'_>, around: Around<'_>) -> Option<Run> {
        let (now, world, config) = (turn.now, turn.world, around.config);
        let situation = self.situation(world)?;
        let plan = self.plan(situation, world, config)?;
        let goal = &plan.goal;
        let Due::Yes(reason) = self.due(now, world, config, &plan) else { return None };
        let call = match config.mode {
            Mode::Picored1 => Some(self.choose_call(world.node, situation, goal)?),
            _ => None,
        };
        self.manual = None;
        let lc = self.ledger.begin(now, world.node);
        let about = call.as_ref().map(|call| calls::event(&self.app, call));
        let attempt = self.standing.failures.saturating_add(1);
        let guard = if plan.withdraws { "" } else { situation.verdict_for(&config.name).guard() };
        let telling = Telling {
            config,
            now,
            world,
            situation: Some(situation),
            reason,
            generation: lc,
            attempt,
            publish: goal,
            guard,
            previous: self.outside.as_deref().map(|set| (self.outside_lc, set)),
            about: about.as_ref(),
        };
        let run = telling.run();
        let publish = match &call {
            Some((entry, _)) => vec![entry.addr],
            None => goal.iter().map(|entry| entry.addr).collect(),
        };
        turn.out.report(config, Some(&self.app), ReportKind::Started { reason, attempt, publish });
        self.current = Some(Current { lc, set: goal.clone(), call, began: world.unix_now });
        (self.due_since, self.phase, self.waiting) = (None, "running", None);
        self.verify.forget();
        self.last = Some(LastRun::begun(now));
        self.show(now, around, false);
        Some(run)
    }

    /// The next `picored1` call. Where it is not known what the outside shows (another node's calls
    /// were interrupted, or a person said so), every known address is called again.
    fn choose_call(&mut self, me: &str, situation: &AppSituation, goal: &[Address]) -> Option<Call> {
        let greatest = self.ledger.greatest.as_ref();
        if self.outside.is_none() {
            // Whatever there is may be shown, so that nothing of it is lost before it was called.
            self.round = greatest.map(|_| calls::all(situation, goal)).unwrap_or_default();
            self.outside_lc = greatest.map_or(0, |greatest| greatest.lc);
            self.outside = Some(self.round.as_slice().into());
        }
        let is_others =
            greatest.is_some_and(|greatest| *greatest.node != *me && greatest.told == Told::Unknown);
        let begins = is_others && self.round.is_empty();
        if begins || self.next_call(goal, true).is_none() {
            self.round = calls::all(situation, goal);
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
        self.outside_lc = current.lc;
        self.released = None;
        let told = match current.call {
            None => self.outside.insert(current.set),
            Some(call) => {
                self.round.retain(|entry| entry.addr != call.0.addr);
                let before = self.outside.as_deref().unwrap_or_default();
                self.outside.insert(calls::after(before, call))
            }
        };
        // Who takes over in the middle of a round begins it anew.
        let told = self.round.is_empty().then(|| Told::Set(hash(told)));
        self.ledger.end(current.lc, told);
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
        self.ledger.end(current.lc, None);
        // One backoff for all the calls of a round that fail.
        let backoff = self.standing.retry_at.filter(|&at| at > now && !self.failed_calls.is_empty());
        report_failure(now, config, Some(&self.app), &mut self.standing, meaning, backoff, last, out);
        if let Some((entry, _)) = &current.call {
            self.failed_calls.push(entry.addr);
        }
    }

    /// A person's word: due now, without backoff, whoever the runner is (its number makes this node the next one), and
    /// even if it is not known what is published (rule 7). What an exit said is never to be tried here is not.
    pub fn sync(&mut self, now: Instant) {
        if self.standing.gave_up {
            return;
        }
        (self.manual, self.released) = (Some(now + MANUAL_MAX), Some(now + MANUAL_MAX));
        (self.standing.retry_at, self.standing.back_until) = (None, None);
        self.failed_calls.clear();
    }

    /// Whether this is what the outside was told last.
    pub fn has_told(&self, set: &[Address]) -> bool {
        self.ledger.greatest_told() == Told::Set(hash(set))
    }

    /// Whether a person let it run without having seen everybody.
    pub fn is_released(&self, now: Instant) -> bool {
        self.released.is_some_and(|until| until > now)
    }

    fn is_manual(&self, now: Instant) -> bool {
        self.manual.is_some_and(|until| until > now)
    }

    /// The configuration was read anew: what could never be done here may be possible now.
    pub fn forgive(&mut self) {
        self.standing.forgive();
    }

    pub fn saved(&self) -> SavedJob {
        SavedJob {
            app: self.app.clone(),
            record: self.ledger.saved(self.current.as_ref().map(|current| current.began)),
            outside: self.outside.as_deref().map(<[Address]>::to_vec),
            outside_lc: self.outside_lc,
            round: self.round.clone(),
        }
    }

    pub fn restore(&mut self, now: Instant, unix_now: u64, window: Duration, saved: SavedJob) {
        self.ledger.restore(now, unix_now, window, &saved.record);
        if let Some(outside) = saved.outside() {
            (self.outside, self.outside_lc) = (Some(outside.into()), saved.outside_lc);
            self.round = saved.round();
        }
    }

    pub fn status<'a>(&'a self, config: &'a Config, world: &World<'_>) -> HandlerStatus<'a> {
        let one = config.place == Place::One;
        HandlerStatus {
            config,
            app: Some(&self.app),
            runner: self.runner(world, config).filter(|_| one).map(Into::into),
            phase: self.phase,
            waiting: self.waiting.as_ref(),
            last: self.last.clone(),
            failures_in_a_row: self.standing.failures,
            differs_since: self.differs.since_if_told(),
            gave_up: self.standing.gave_up || self.standing.failures >= FAILURES_MAX,
        }
    }
}

/// What is to be told: G as it concerns this node (with `self` the own addresses only), or without quorum P less the own
/// addresses, where that is wanted and gate 7 lets it.
fn plan(situation: &AppSituation, world: &World<'_>, config: &Config, may_withdraw: bool) -> Option<Plan> {
    let verdict = situation.verdict_for(&config.name);
    if let Some(left) = verdict.withdraw.as_ref().filter(|_| may_withdraw && world.may_act.is_err()) {
        return Some(Plan { goal: left.clone(), withdraws: true });
    }
    let goal = verdict.publish.as_ref()?;
    let goal = match config.place {
        Place::SelfOnly => goal.iter().filter(|entry| &*entry.node == world.node).cloned().collect(),
        Place::One | Place::All => goal.clone(),
    };
    Some(Plan { goal, withdraws: false })
}

/// `set` and these, sorted.
fn with(set: &[Address], more: impl Iterator<Item = Address>) -> Vec<Address> {
    let mut all = set.to_vec();
    all.extend(more.filter(|entry| set.iter().all(|other| other.addr != entry.addr)));
    all.sort_unstable();
    all
}

fn hash(set: &[Address]) -> u32 {
    set_hash(set.iter().map(|entry| entry.addr))
}
