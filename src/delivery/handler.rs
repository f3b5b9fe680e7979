//! One handler: one run at a time, its timeout, and what its jobs or its queue share.

use core::time::Duration;

use super::coalesce::Flushed;
use super::event::Queue;
use super::job::{Job, Step};
use super::record::{Record, State};
use super::retry::{self, Meaning};
use super::run::Run;
use super::serf::Calls;
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
    others: Vec<OtherRun>,
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

/// A tag of another node that says `r`.
struct OtherRun {
    node: Box<str>,
    key: Box<str>,
    lc: u32,
    first_seen: Instant,
}

/// What a job or a queue needs to know of its handler.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    pub config: &'a Config,
    /// The tag says `n`: gates 1 to 4 have been closed for so long, or a run is stuck.
    pub not_able: bool,
    /// The run under way does not end, not even by KILL.
    pub stuck: bool,
    /// Another node is at it until then.
    pub busy_until: Option<Instant>,
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
        Self { config, work, running: None, gates, others: Vec::new(), turn: 0, wake: None }
    }

    pub fn queue_mut(&mut self) -> Option<(&mut Queue, &Config)> {
        match &mut self.work {
            Work::Events(queue) => Some((queue, &self.config)),
            _ => None,
        }
    }

    pub fn update(&mut self, turn: &mut Turn<'_>) {
        self.wake = None;
        self.check_timeout(turn);
        self.watch_gates(turn);
        if self.config.place == Place::One {
            self.watch_others(turn.now, turn.world);
        }
        let stuck = self.running.is_some() && !self.is_running();
        let around = Around {
            config: &self.config,
            not_able: self.gates.shown || stuck,
            stuck,
            busy_until: self.others.iter().map(|o| o.until(&self.config)).max().filter(|&at| at > turn.now),
        };
        let may_start = self.running.is_none() && self.goes_on(turn.end);
        let (started, wake) = match &mut self.work {
            Work::Jobs(jobs) => step_jobs(jobs, self.turn, turn, around, may_start),
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
        let running = Running::new(id, job, turn.now, self.config.timeout);
        self.wake = earliest([self.wake, running.deadline()]);
        self.running = Some(running);
        self.turn = job + 1;
    }

    /// TERM at the timeout, KILL a little later, both to the group; then it is stuck.
    fn check_timeout(&mut self, turn: &mut Turn<'_>) {
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

    /// Notes since when other nodes' tags say `r`, for any app of this handler (4.5, rule 2).
    fn watch_others(&mut self, now: Instant, world: &World<'_>) {
        let mut seen = Vec::new();
        for member in world.members.iter().filter(|member| &*member.name != world.node) {
            for (key, value) in serf::tags(&member.meta) {
                let lc = match is_of(key, &self.config.name) {
                    true => running_number(value),
                    false => None,
                };
                let Some(lc) = lc else { continue };
                let same = |o: &&OtherRun| *o.node == *member.name && *o.key == *key && o.lc == lc;
                let first_seen = self.others.iter().find(same).map_or(now, |o| o.first_seen);
                seen.push(OtherRun { node: member.name.clone(), key: key.into(), lc, first_seen });
            }
        }
        self.others = seen;
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
            output: printable(output),
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

    /// The jobs of a `sync` or `picored1` handler.
    pub fn jobs(&self) -> &[Job] {
        match &self.work {
            Work::Jobs(jobs) => jobs,
            _ => &[],
        }
    }

    /// Whether a run is under way, also one that does not end.
    pub fn has_run(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a run is under way whose end is worth waiting for.
    pub fn is_running(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.stage != Stage::Stuck)
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
            Work::Jobs(jobs) => {
                tags.extend(jobs.iter().map(|job| (job.key.to_string(), job.record().to_string())))
            }
            Work::Events(queue) => tags.push((queue.key.to_string(), queue.record().to_string())),
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
    may_start: bool,
) -> (Option<(usize, Run)>, Option<Instant>) {
    let (mut started, mut wake) = (None, None);
    let count = jobs.len();
    for index in (0..count).map(|offset| first.wrapping_add(offset) % count) {
        let Some(job) = jobs.get_mut(index) else { continue };
        let (step, at) = job.step(turn, around);
        wake = earliest([wake, at]);
        if step == Step::Ready && may_start && started.is_none() {
            started = job.start(turn, around).map(|run| (index, run));
        }
    }
    (started, wake)
}

impl Running {
    pub fn new(id: RunId, job: usize, now: Instant, timeout: Duration) -> Self {
        Self { id, job, started: now, stage: Stage::Running { term_at: now + timeout } }
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

impl OtherRun {
    fn until(&self, config: &Config) -> Instant {
        self.first_seen + config.timeout + OTHERS_GRACE
    }
}

/// Whether `key` is `h.HANDLER` or `h.HANDLER.APP`.
fn is_of(key: &str, handler: &str) -> bool {
    let rest = key.strip_prefix("h.").and_then(|key| key.strip_prefix(handler));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The run number of a tag that says `r`; event handlers' tags have none.
fn running_number(value: &str) -> Option<u32> {
    match value.strip_prefix("r:")? {
        rest if rest.contains(':') => Record::parse(value).map(|record| record.lc),
        // Another event done is another run.
        rest => Some(u32::from_str_radix(rest, 16).unwrap_or(0)),
    }
}

/// The end of what a run printed, fit to be shown.
fn printable(output: &[u8]) -> Box<str> {
    let end = output.get(output.len().saturating_sub(OUTPUT_MAX)..).unwrap_or_default();
    let text = String::from_utf8_lossy(end);
    let shown = |c: char| match c {
        '\n' | '\t' => c,
        _ if c.is_control() => '?',
        _ => c,
    };
    text.trim_end().chars().map(shown).collect::<String>().into()
}

/// Who acts for `key` (a tag's name), as all show it now. `own` is what this node shows.
pub fn runner<'a>(
    config: &Config,
    key: &str,
    own: State,
    world: &World<'a>,
    state: fn(&str) -> Option<State>,
) -> Option<&'a str> {
    let others = world.members.iter().filter(|m| m.state.is_running() && &*m.name != world.node);
    let shown = others.filter_map(|m| Some((&*m.name, serf::tag(&m.meta, key).and_then(state)?)));
    super::record::runner(&config.name, shown.chain([(world.node, own)]))
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
