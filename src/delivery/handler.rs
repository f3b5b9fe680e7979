//! One handler: one run at a time, its timeout, and what its jobs or its queue share.

use core::time::Duration;

use super::coalesce::Flushed;
use super::event::Queue;
use super::job::{Job, Step};
use super::ledger::Ledger;
use super::others::Others;
use super::record::Record;
use super::retry::{self, Meaning};
use super::run::Run;
use super::saved::SavedHandler;
use super::secrets::Secrets;
use super::serf::Calls;
use super::waiting::Waiting;
use super::{
    Action, Config, End, HandlerStatus, LastRun, Mode, Place, Report, ReportKind, RunId, Signal, World,
};
use crate::check::attempt::Exit;
use crate::limits::OUTPUT_MAX;
use crate::rng::Rng;
use crate::time::{Instant, earliest};
use crate::wire::serf;

/// From TERM to KILL.
const KILL_AFTER: Duration = Duration::from_secs(5);
/// From KILL until nobody waits for the end any more. With [`KILL_AFTER`] as long as others wait: [`OTHERS_GRACE`].
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// Another node's run is waited for as long as its timeout, and this.
const OTHERS_GRACE: Duration = Duration::from_secs(10);
/// Gates 1 to 4 may be closed for so long before the tag says `n`.
const CLOSED_SHOWN_AFTER: Duration = Duration::from_secs(5);

/// One look at the world, and where to put what is to be done.
pub struct Turn<'a> {
    pub now: Instant,
    pub world: &'a World<'a>,
    pub out: &'a mut Out,
    /// What just happened to members, for `serf` handlers.
    pub flushed: &'a Flushed,
    pub end: End,
}

/// What all handlers share.
pub struct Out {
    pub actions: std::collections::VecDeque<Action>,
    pub rng: Rng,
    pub next_id: RunId,
}

impl Out {
    pub fn report(&mut self, config: &Config, app: Option<&str>, what: ReportKind) {
        let report = Report { handler: config.name.clone(), app: app.map(Into::into), what };
        self.actions.push_back(Action::Report(report));
    }
}

pub struct Handler {
    pub config: Config,
    work: Work,
    running: Option<Running>,
    gates: Gates,
    /// Other nodes' runs of this handler.
    others: Others,
    /// Where the search for the next job begins, so that none starves.
    turn: usize,
    wake: Option<Instant>,
}

enum Work {
    Jobs(Vec<Job>),
    Events(Box<Queue>),
    Calls(Box<Calls>),
}

/// The run that is under way. The job (or the event queue) knows what it tells.
pub struct Running {
    pub id: RunId,
    /// Which job; unused for events.
    job: usize,
    pub started: Instant,
    stage: Stage,
    /// Of the configuration that it was started with: a reload may have brought another one.
    secrets: Secrets,
}

/// How far a run is on its way to its end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running {
        term_at: Instant,
    },
    /// Over its timeout, and told to end.
    Ending {
        kill_at: Instant,
    },
    Killed {
        stuck_at: Instant,
    },
    /// Even KILL does not end a program that waits for a dead disk or file server. It still is the one run that this
    /// handler may have here, but others need not wait for this node, nor this node's own end for it.
    Stuck,
}

/// Whether gates 1 to 4 are open, and since when they are not.
#[derive(Clone, Copy)]
struct Gates {
    closed_since: Option<Instant>,
    /// Closed from the start, or for long enough: the tag says `n`.
    shown: bool,
}

/// What a job or a queue needs to know of its handler.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub config: &'a Config,
    /// The tag says `n`: gates 1 to 4 have been closed for so long, a run is stuck (also one from
    /// before a reload), or the node leaves.
    pub not_able: bool,
    /// The run under way does not end, not even by KILL.
    pub stuck: bool,
    pub others: &'a Others,
    /// Another node, which is at it until then.
    pub busy: Option<(&'a str, Instant)>,
    /// So long a run of this node's last life may go on.
    pub orphan_until: Option<Instant>,
    /// No run is under way, and the handler starts some.
    pub may_start: bool,
    ends: bool,
}

impl Around<'_> {
    /// Why nothing may start.
    pub fn why_not(&self) -> Waiting {
        if self.ends { Waiting::Ending } else { Waiting::OwnRun }
    }
}

impl Handler {
    /// `others` are all handlers' configurations: whose set an event handler is told depends on them.
    pub fn new(config: Config, others: &[Config], now: Instant) -> Self {
        let work = match config.mode {
            Mode::Sync | Mode::Picored1 => {
                Work::Jobs(config.apps.iter().map(|app| Job::new(&config, app)).collect())
            }
            Mode::Event => Work::Events(Box::new(Queue::new(&config, others))),
            Mode::Serf => Work::Calls(Box::new(Calls::new(&config))),
        };
        let gates = Gates { closed_since: Some(now), shown: true };
        Self { config, work, running: None, gates, others: Others::default(), turn: 0, wake: None }
    }

    pub fn queue_mut(&mut self) -> Option<(&mut Queue, &Config)> {
        match &mut self.work {
            Work::Events(queue) => Some((queue, &self.config)),
            _ => None,
        }
    }

    /// `before`: the handler that had this name before a reload, if a run of it is still under way.
    pub fn update(&mut self, turn: &mut Turn<'_>, before: Option<&Self>) {
        self.watch_run(turn);
        self.watch_gates(turn);
        let now = turn.now;
        if self.config.place == Place::One {
            self.others.watch(now, &self.config.name, window(&self.config), turn.world);
        }
        let stuck = self.is_stuck();
        let is_held_for_good = before.is_some_and(Self::is_stuck);
        let ends = !self.goes_on(turn.end);
        let around = Around {
            config: &self.config,
            // Who leaves is not the runner any more; who only stops is soon back.
            not_able: self.gates.shown || stuck || is_held_for_good || turn.end == End::Leaving && ends,
            stuck,
            others: &self.others,
            busy: self.others.busy(now),
            orphan_until: self.ledgers().filter_map(|ledger| ledger.orphan_until(now)).max(),
            may_start: self.running.is_none() && !ends && before.is_none(),
            ends,
        };
        let may_start = around.may_start;
        let (started, wake) = match &mut self.work {
            Work::Jobs(jobs) => step_jobs(jobs, self.turn, turn, around),
            Work::Events(queue) => {
                let (step, wake) = queue.step(turn, around);
                let started = match step {
                    Step::Ready if may_start => queue.start(turn, around).map(|run| (0, run)),
                    _ => None,
                };
                (started, wake)
            }
            Work::Calls(calls) => {
                let started = match calls.step(turn, around) {
                    Step::Ready if may_start => calls.start(turn, &self.config).map(|run| (0, run)),
                    _ => None,
                };
                (started, None)
            }
        };
        self.wake = earliest([self.wake, wake]);
        if let Some((job, run)) = started {
            self.start(turn, job, run);
        }
    }

    fn start(&mut self, turn: &mut Turn<'_>, job: usize, run: Run) {
        let id = turn.out.next_id;
        turn.out.next_id = id.wrapping_add(1);
        turn.out.actions.push_back(Action::Run { id, run: Box::new(run) });
        let running = Running::new(id, job, turn.now, &self.config);
        self.wake = earliest([self.wake, running.deadline()]);
        self.running = Some(running);
        self.turn = job + 1;
    }

    /// The run under way: TERM at the timeout, KILL a little later, both to the group; then it is stuck.
    pub fn watch_run(&mut self, turn: &mut Turn<'_>) {
        self.wake = None;
        let Some(running) = &mut self.running else { return };
        if running.deadline().is_some_and(|at| at <= turn.now) {
            let signal = running.next_stage(turn.now);
            if let Some(signal) = signal {
                turn.out.actions.push_back(Action::Signal { id: running.id, signal });
            }
            if signal != Some(Signal::Kill) {
                let app = match &self.work {
                    Work::Jobs(jobs) => jobs.get(running.job).map(|job| &*job.app),
                    Work::Events(queue) => queue.current_app(),
                    Work::Calls(_) => None,
                };
                // Once more when it is stuck: people must know what nothing here can end.
                let after =
                    if signal.is_some() { self.config.timeout } else { turn.now.since(running.started) };
                turn.out.report(&self.config, app, ReportKind::TimedOut { after });
            }
        }
        self.wake = running.deadline();
    }

    fn watch_gates(&mut self, turn: &Turn<'_>) {
        if turn.world.may_act.is_ok() {
            self.gates = Gates { closed_since: None, shown: false };
            return;
        }
        let shown_at = *self.gates.closed_since.get_or_insert(turn.now) + CLOSED_SHOWN_AFTER;
        self.gates.shown |= shown_at <= turn.now;
        if !self.gates.shown {
            self.wake = earliest([self.wake, Some(shown_at)]);
        }
    }

    /// Whether `id` was this handler's run, which is over now.
    pub fn handle_exit(
        &mut self,
        now: Instant,
        id: RunId,
        exit: &Exit,
        output: &[u8],
        out: &mut Out,
    ) -> bool {
        let Some(running) = self.running.take_if(|running| running.id == id) else { return false };
        let meaning = retry::meaning(exit, running.is_timed_out());
        let last = LastRun {
            started: running.started,
            ended: Some(now),
            exit: Some(exit.clone()),
            ok: meaning == Meaning::Done,
            output: printable(&running.said(output)),
        };
        match &mut self.work {
            Work::Jobs(jobs) => {
                if let Some(job) = jobs.get_mut(running.job) {
                    job.ended(now, &self.config, meaning, last, out);
                }
            }
            Work::Events(queue) => queue.ended(now, &self.config, meaning, last, out),
            Work::Calls(calls) => calls.ended(now, &self.config, meaning, last, out),
        }
        true
    }

    /// Whether it still starts runs.
    pub fn goes_on(&self, end: End) -> bool {
        match end {
            End::Not => true,
            End::Leaving => self.config.mode == Mode::Serf && self.config.place != Place::One,
            End::Stopped => false,
        }
    }

    /// A `serf` handler with something to tell.
    pub fn has_calls(&self) -> bool {
        matches!(&self.work, Work::Calls(calls) if !calls.is_empty())
    }

    /// Whether there is a run under way, be it stuck.
    pub fn has_run(&self) -> bool {
        self.running.is_some()
    }

    /// Whether `config` is this handler's, changed perhaps.
    pub fn is_like(&self, config: &Config) -> bool {
        let one = |config: &Config| config.place == Place::One;
        self.config.name == config.name && self.config.mode == config.mode && one(&self.config) == one(config)
    }

    /// The same with what is now configured.
    pub fn reconfigured(mut self, config: &Config, others: &[Config]) -> Self {
        match &mut self.work {
            Work::Jobs(jobs) => {
                let mut old = core::mem::take(jobs);
                let running = self.running.as_mut().and_then(|running| {
                    // Whose app is gone is waited for, but what it comes to concerns nobody.
                    let index = core::mem::replace(&mut running.job, usize::MAX);
                    Some((old.get(index)?.app.clone(), running))
                });
                for app in &config.apps {
                    let job = match old.iter().position(|job| job.app == *app) {
                        Some(index) => old.remove(index),
                        None => Job::new(config, app),
                    };
                    jobs.push(job);
                }
                jobs.iter_mut().for_each(Job::forgive);
                if let Some((app, running)) = running
                    && let Some(index) = jobs.iter().position(|job| job.app == app)
                {
                    running.job = index;
                }
            }
            Work::Events(queue) => queue.reconfigure(config, others),
            Work::Calls(_) => {}
        }
        self.config = config.clone();
        self
    }

    /// What a peer holds as this node's tags.
    pub fn take_own(&mut self, now: Instant, meta: &[u8]) {
        let window = window(&self.config);
        let record = |ledger: &Ledger| serf::tag(meta, &ledger.key).and_then(Record::parse);
        match &mut self.work {
            Work::Jobs(jobs) => {
                for ledger in jobs.iter_mut().map(|job| &mut job.ledger) {
                    if let Some(record) = record(ledger) {
                        ledger.take_own(now, record, window);
                    }
                }
            }
            Work::Events(queue) => {
                if let Some(record) = record(&queue.ledger) {
                    queue.take_own(now, record, window);
                }
            }
            Work::Calls(_) => {}
        }
    }

    /// A person wants it to run; false if it tells no sets.
    pub fn sync(&mut self, now: Instant) -> bool {
        let Work::Jobs(jobs) = &mut self.work else { return false };
        jobs.iter_mut().for_each(|job| job.sync(now));
        true
    }

    fn ledgers(&self) -> impl Iterator<Item = &Ledger> {
        let queue = match &self.work {
            Work::Events(queue) => Some(&queue.ledger),
            _ => None,
        };
        self.jobs().iter().map(|job| &job.ledger).chain(queue)
    }

    /// What a restart must not forget; `None`: nothing.
    pub fn saved(&self) -> Option<SavedHandler> {
        let name = self.config.name.clone();
        match &self.work {
            Work::Jobs(jobs) => {
                let jobs = jobs.iter().map(Job::saved).collect();
                Some(SavedHandler { name, jobs, queue: None })
            }
            Work::Events(queue) => Some(SavedHandler { name, jobs: Vec::new(), queue: Some(queue.saved()) }),
            Work::Calls(_) => None,
        }
    }

    pub fn restore(&mut self, now: Instant, unix_now: u64, saved: SavedHandler) {
        let window = window(&self.config);
        match &mut self.work {
            Work::Jobs(jobs) => {
                for saved in saved.jobs {
                    if let Some(job) = jobs.iter_mut().find(|job| job.app == saved.app) {
                        job.restore(now, unix_now, window, saved);
                    }
                }
            }
            Work::Events(queue) => {
                if let Some(saved) = saved.queue {
                    queue.restore(now, unix_now, window, saved);
                }
            }
            Work::Calls(_) => {}
        }
    }

    /// The jobs of a `sync` or `picored1` handler.
    pub fn jobs(&self) -> &[Job] {
        match &self.work {
            Work::Jobs(jobs) => jobs,
            _ => &[],
        }
    }

    /// Whether a run is under way whose end is worth waiting for.
    pub fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.is_stuck())
    }

    /// Whether a run is under way that not even KILL ends.
    fn is_stuck(&self) -> bool {
        self.has_run() && !self.is_running()
    }

    /// Whether it tells other nodes what its runs came to.
    pub fn tells_results(&self) -> bool {
        !matches!(self.work, Work::Calls(_))
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.wake
    }

    pub fn tags(&self, tags: &mut Vec<(String, String)>) {
        if self.config.place != Place::One {
            return;
        }
        match &self.work {
            Work::Jobs(jobs) => tags
                .extend(jobs.iter().map(|job| (job.ledger.key.to_string(), job.ledger.record().to_string()))),
            Work::Events(queue) => {
                tags.push((queue.ledger.key.to_string(), queue.ledger.record().to_string()))
            }
            Work::Calls(calls) => tags.push(calls.tag()),
        }
    }

    pub fn status<'a>(&'a self, world: &World<'_>, list: &mut Vec<HandlerStatus<'a>>) {
        match &self.work {
            Work::Jobs(jobs) => list.extend(jobs.iter().map(|job| job.status(&self.config, world))),
            Work::Events(queue) => list.push(queue.status(&self.config, world)),
            Work::Calls(calls) => list.push(calls.status(&self.config, world)),
        }
    }
}

/// Lets every job look; starts the first that is ready, beginning at `first`.
fn step_jobs(
    jobs: &mut [Job],
    first: usize,
    turn: &mut Turn<'_>,
    around: Around<'_>,
) -> (Option<(usize, Run)>, Option<Instant>) {
    let (mut started, mut wake) = (None, None);
    let count = jobs.len();
    for index in (0..count).map(|offset| first.wrapping_add(offset) % count) {
        let Some(job) = jobs.get_mut(index) else { continue };
        let (step, at) = job.step(turn, around);
        wake = earliest([wake, at]);
        if step == Step::Ready && started.is_none() {
            started = job.start(turn, around).map(|run| (index, run));
        }
    }
    (started, wake)
}

impl Running {
    pub fn new(id: RunId, job: usize, now: Instant, config: &Config) -> Self {
        let stage = Stage::Running { term_at: now + config.timeout };
        Self { id, job, started: now, stage, secrets: Secrets::of(config) }
    }

    /// The end of what it printed, without secrets.
    pub fn said(&self, output: &[u8]) -> String {
        let masked = self.secrets.mask(output);
        let end = masked.get(masked.len().saturating_sub(OUTPUT_MAX)..).unwrap_or_default();
        String::from_utf8_lossy(end).into_owned()
    }

    /// Not even KILL ended it.
    pub fn is_stuck(&self) -> bool {
        self.stage == Stage::Stuck
    }

    pub fn is_timed_out(&self) -> bool {
        !matches!(self.stage, Stage::Running { .. })
    }

    /// When the next stage begins, if it does not end.
    pub fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Running { term_at: at }
            | Stage::Ending { kill_at: at }
            | Stage::Killed { stuck_at: at } => Some(at),
            Stage::Stuck => None,
        }
    }

    /// Goes on to the next stage; gives the signal with which that begins.
    pub fn next_stage(&mut self, now: Instant) -> Option<Signal> {
        let (stage, signal) = match self.stage {
            Stage::Running { .. } => (Stage::Ending { kill_at: now + KILL_AFTER }, Some(Signal::Term)),
            Stage::Ending { .. } => (Stage::Killed { stuck_at: now + STUCK_AFTER }, Some(Signal::Kill)),
            Stage::Killed { .. } | Stage::Stuck => (Stage::Stuck, None),
        };
        self.stage = stage;
        signal
    }
}

/// What a run said, fit for a terminal.
fn printable(text: &str) -> Box<str> {
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        _ if c.is_control() => '?',
        _ => c,
    };
    text.trim_end().chars().map(shown).collect::<String>().into()
}

/// Who acts, as all show it now. `ledger`: what this node shows.
pub fn runner<'a>(config: &Config, ledger: &Ledger, world: &World<'a>) -> Option<&'a str> {
    let others = world.members.iter().filter(|m| m.state.is_running() && &*m.name != world.node);
    let shown =
        others.filter_map(|m| Some((&*m.name, serf::tag(&m.meta, &ledger.key).and_then(Record::parse)?)));
    super::record::runner(&config.name, shown.chain([(world.node, ledger.record())]))
}

/// How long another node's run, or one of this node's last life, is waited for.
fn window(config: &Config) -> Duration {
    config.timeout + OTHERS_GRACE
}

/// Notes and reports a run that ended without success. `backoff`: one that is already under way and
/// counts for this failure, too.
#[allow(clippy::too_many_arguments)]
pub fn report_failure(
    now: Instant,
    config: &Config,
    app: Option<&str>,
    standing: &mut retry::Standing,
    meaning: Meaning,
    backoff: Option<Instant>,
    last: &LastRun,
    out: &mut Out,
) {
    let stood_back = standing.stands_back(now);
    let retry_in = match backoff {
        Some(at) if meaning != Meaning::Never => Some(at.since(now)),
        _ => standing.failed(now, meaning, &mut out.rng),
    };
    let exit = last.exit.clone().unwrap_or(Exit::Code(0));
    out.report(config, app, ReportKind::Failed { exit, output: last.output.clone(), retry_in });
    if standing.gave_up {
        out.report(config, app, ReportKind::StandsBack { until: None });
    } else if config.place == Place::One && !stood_back && standing.stands_back(now) {
        out.report(config, app, ReportKind::StandsBack { until: standing.back_until });
    }
}
