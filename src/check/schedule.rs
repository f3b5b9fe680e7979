//! One check: when it runs, and its rise/fall counters.
//!
//! How an attempt is made is not known here: the driver does what [`Step`] says and reports how it ended.

use core::time::Duration;

use super::attempt::{Outcome, Span, Target};
use super::{AppState, CheckConfig};
use crate::rng::Rng;
use crate::time::Instant;

/// `rise` passes in a row make a check up, `fall` failures in a row make it down (the terms are
/// HAProxy's); anything less changes nothing, so one slow reply never reaches a handler.
///
/// Runs never overlap: a program that is over its timeout must be reported as ended before the next starts.
#[derive(Debug)]
pub struct Schedule {
    timing: Timing,
    phase: Phase,
    state: AppState,
    passes: u16,
    fails: u16,
    last: Option<(Instant, Outcome)>,
    /// Taken off the first interval, so that the checks of one start drift apart. Zero afterwards.
    spread: Duration,
}

/// What the driver should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    Start,
    /// Close the connection, or TERM to the program's group.
    Abort,
    /// KILL to the group.
    Kill,
}

#[derive(Debug)]
struct Timing {
    interval: Duration,
    timeout: Duration,
    rise: u16,
    fall: u16,
    /// A program has to be waited for after an abort; a connection is gone at once.
    waits_for_end: bool,
}

#[derive(Debug)]
enum Phase {
    Waiting {
        run_at: Instant,
    },
    Running {
        started: Instant,
        give_up_at: Instant,
    },
    /// Told to end, not reported as ended.
    Ending {
        kill_at: Instant,
        next_at: Instant,
    },
    /// Killed, and still not reported as ended.
    Killed {
        missed_at: Instant,
        next_at: Instant,
    },
}

impl Schedule {
    /// A check that runs for the first time within its interval or a second, for a quick first verdict.
    pub fn new(config: &CheckConfig, rng: &mut Rng, now: Instant) -> Self {
        let timing = Timing::new(config);
        Self {
            phase: Phase::Waiting { run_at: now + rng.duration_below(timing.interval.min(FIRST_RUN_WITHIN)) },
            // At most half: `rise` passes should not lie within a moment.
            spread: rng.duration_below(timing.interval / 2),
            timing,
            state: AppState::Unknown,
            passes: 0,
            fails: 0,
            last: None,
        }
    }

    /// New settings for the same target: counters, verdict and a run under way stay.
    pub fn reconfigure(&mut self, config: &CheckConfig, now: Instant) {
        self.timing = Timing::new(config);
        match &mut self.phase {
            Phase::Waiting { run_at } => *run_at = (*run_at).min(now + self.timing.interval),
            Phase::Running { started, give_up_at } => *give_up_at = *started + self.timing.timeout,
            Phase::Ending { next_at, .. } | Phase::Killed { next_at, .. } => {
                *next_at = (*next_at).min(now + self.timing.interval);
            }
        }
    }

    /// What is due. Call again until `None`. `counts`: whether failures do (not during `grace`).
    pub fn handle_timeout(&mut self, now: Instant, counts: bool) -> Option<Step> {
        if now < self.next_deadline() {
            return None;
        }
        match self.phase {
            Phase::Waiting { .. } => {
                self.phase = Phase::Running { started: now, give_up_at: now + self.timing.timeout };
                Some(Step::Start)
            }
            Phase::Running { .. } => {
                let reason = format!("no answer within {}", Span(self.timing.timeout));
                self.count(now, Outcome::Fail(reason.into()), counts);
                self.abort(now)
            }
            Phase::Ending { next_at, .. } => {
                self.phase = Phase::Killed { missed_at: next_at.max(now + KILL_AFTER), next_at };
                Some(Step::Kill)
            }
            Phase::Killed { .. } => {
                // Even KILL does not end a program that waits for a dead disk or file server: the
                // missed run is a failed one, or an app could hang unseen for ever.
                self.count(now, Outcome::Fail("the last run does not end".into()), counts);
                let next_at = now + self.timing.interval;
                self.phase = Phase::Killed { missed_at: next_at, next_at };
                None
            }
        }
    }

    /// An attempt ended. After [`Step::Abort`] the outcome is ignored, it was counted then.
    pub fn handle_report(&mut self, now: Instant, outcome: Outcome, counts: bool) {
        match self.phase {
            Phase::Waiting { .. } => {}
            Phase::Running { started, .. } => {
                self.count(now, outcome, counts);
                let run_at = self.next_run(started, now);
                self.phase = Phase::Waiting { run_at };
            }
            Phase::Ending { next_at, .. } | Phase::Killed { next_at, .. } => {
                self.phase = Phase::Waiting { run_at: next_at.max(now) };
            }
        }
    }

    /// Gives up a run under way without a verdict. `None` if there is none, or it is ending already.
    pub fn abort(&mut self, now: Instant) -> Option<Step> {
        let Phase::Running { started, .. } = self.phase else { return None };
        let next_at = self.next_run(started, now);
        self.phase = match self.timing.waits_for_end {
            true => Phase::Ending { kill_at: now + KILL_AFTER, next_at },
            false => Phase::Waiting { run_at: next_at },
        };
        Some(Step::Abort)
    }

    /// Forgets all results, as if it were new; a run that has to end is waited for all the same.
    pub fn forget(&mut self) {
        (self.state, self.passes, self.fails, self.last) = (AppState::Unknown, 0, 0, None);
    }

    /// No run is under way, or has still to end.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. })
    }

    /// The end of a run that was told to end has not been reported yet.
    pub fn is_ending(&self) -> bool {
        matches!(self.phase, Phase::Ending { .. } | Phase::Killed { .. })
    }

    pub fn next_deadline(&self) -> Instant {
        match self.phase {
            Phase::Waiting { run_at } => run_at,
            Phase::Running { give_up_at, .. } => give_up_at,
            Phase::Ending { kill_at, .. } => kill_at,
            Phase::Killed { missed_at, .. } => missed_at,
        }
    }

    /// `Unknown` until the first verdict, then `Up` or `Down`.
    pub fn state(&self) -> AppState {
        self.state
    }
    /// Passes in a row.
    pub fn passes(&self) -> u16 {
        self.passes
    }
    /// Failures in a row.
    pub fn fails(&self) -> u16 {
        self.fails
    }
    /// Passes in a row that make it up.
    pub fn rise(&self) -> u16 {
        self.timing.rise
    }
    /// Failures in a row that make it down.
    pub fn fall(&self) -> u16 {
        self.timing.fall
    }
    /// How the last attempt ended, and when.
    pub fn last(&self) -> Option<(Instant, &Outcome)> {
        self.last.as_ref().map(|(at, outcome)| (*at, outcome))
    }

    fn count(&mut self, now: Instant, outcome: Outcome, counts: bool) {
        if outcome.passed() {
            self.passes = self.passes.saturating_add(1);
            self.fails = 0;
            if self.passes >= self.timing.rise {
                self.state = AppState::Up;
            }
        } else {
            self.passes = 0;
            if counts {
                self.fails = self.fails.saturating_add(1);
                if self.fails >= self.timing.fall {
                    self.state = AppState::Down;
                }
            }
        }
        self.last = Some((now, outcome));
    }

    /// An interval after the start of the last run; at once if that is over.
    fn next_run(&mut self, started: Instant, now: Instant) -> Instant {
        let spread = core::mem::take(&mut self.spread);
        (started + self.timing.interval.saturating_sub(spread)).max(now)
    }
}

impl Timing {
    fn new(config: &CheckConfig) -> Self {
        Self {
            interval: config.interval.max(INTERVAL_MIN),
            timeout: config.timeout,
            rise: config.rise.max(1),
            fall: config.fall.max(1),
            waits_for_end: matches!(config.target, Target::Exec(_)),
        }
    }
}

/// The first run of a check comes within this time.
const FIRST_RUN_WITHIN: Duration = Duration::from_secs(1);
/// From TERM to KILL (`interfaces`, section 3).
const KILL_AFTER: Duration = Duration::from_secs(2);
/// Keeps a zero from keeping the loop busy, whatever the configuration says.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::super::attempt::ExecTarget;
    use super::*;

    const MAX_GAP: Duration = Duration::from_secs(1);

    fn config(target: Target) -> CheckConfig {
        let secs = Duration::from_secs;
        CheckConfig { target, interval: secs(10), timeout: secs(5), rise: 2, fall: 3 }
    }

    fn tcp() -> Target {
        Target::Tcp(([127, 0, 0, 1], 80).into())
    }

    fn exec() -> Target {
        Target::Exec(Box::new(ExecTarget { argv: vec!["/bin/true".into()], warn_ok: false }))
    }

    fn schedule(target: Target) -> Schedule {
        Schedule::new(&config(target), &mut Rng::new(1), Instant::ZERO)
    }

    fn pass() -> Outcome {
        Outcome::Pass("ok".into())
    }

    fn fail() -> Outcome {
        Outcome::Fail("connection refused".into())
    }

    /// Goes to the next start and says when it was.
    fn start(check: &mut Schedule) -> Instant {
        let at = check.next_deadline();
        assert_eq!(check.handle_timeout(at, true), Some(Step::Start));
        assert_eq!(check.handle_timeout(at, true), None);
        at
    }

    fn run(check: &mut Schedule, outcomes: &str) -> Vec<AppState> {
        let report = |outcome: char| if outcome == 'P' { pass() } else { fail() };
        let mut states = Vec::new();
        for outcome in outcomes.chars() {
            let at = start(check);
            check.handle_report(at, report(outcome), true);
            states.push(check.state());
        }
        states
    }

    #[test]
    fn a_streak_broken_by_one_pass_starts_again() {
        use AppState::{Down, Unknown, Up};
        let mut check = schedule(tcp());
        assert_eq!(run(&mut check, "PP"), [Unknown, Up]);
        assert_eq!(run(&mut check, "FFPFF"), [Up; 5]);
        assert_eq!(run(&mut check, "F"), [Down]);
        assert_eq!(run(&mut check, "PFPP"), [Down, Down, Down, Up]);
    }

    #[test]
    fn the_first_run_is_early_and_the_next_ones_are_an_interval_apart() {
        let mut firsts = Vec::new();
        for seed in 0..50 {
            let mut check = Schedule::new(&config(tcp()), &mut Rng::new(seed), Instant::ZERO);
            let mut starts = Vec::new();
            for _ in 0..4 {
                let at = start(&mut check);
                starts.push(at);
                check.handle_report(at, pass(), true);
            }
            assert!(starts[0] < Instant::ZERO + MAX_GAP);
            let gap = |i: usize| starts[i + 1].since(starts[i]);
            assert!((Duration::from_secs(5)..=Duration::from_secs(10)).contains(&gap(0)), "{starts:?}");
            assert_eq!((gap(1), gap(2)), (Duration::from_secs(10), Duration::from_secs(10)));
            firsts.push(starts[1]);
        }
        let (first, last) = (firsts.iter().min().unwrap(), firsts.iter().max().unwrap());
        assert!(last.since(*first) > Duration::from_secs(3), "runs bunch up: {firsts:?}");
    }

    #[test]
    fn a_connection_over_its_timeout_is_aborted_and_counts_as_failed() {
        let mut check = schedule(tcp());
        let at = start(&mut check);
        assert_eq!(check.handle_timeout(at + Duration::from_secs(4), true), None);
        let late = at + Duration::from_secs(5);
        assert_eq!(check.handle_timeout(late, true), Some(Step::Abort));
        assert_eq!(check.fails(), 1);
        assert_eq!(check.last(), Some((late, &Outcome::Fail("no answer within 5 s".into()))));
        check.handle_report(late, pass(), true);
        assert_eq!((check.passes(), check.fails()), (0, 1), "a late report must not count");
        assert!(!check.is_ending());
    }

    #[test]
    fn a_program_over_its_timeout_gets_term_then_kill_and_is_waited_for() {
        let mut check = schedule(exec());
        let at = start(&mut check);
        let secs = Duration::from_secs;
        assert_eq!(check.handle_timeout(at + secs(5), true), Some(Step::Abort));
        assert_eq!(check.next_deadline(), at + secs(7));
        assert_eq!(check.handle_timeout(at + secs(7), true), Some(Step::Kill));
        let ended = at + secs(8);
        check.handle_report(ended, pass(), true);
        assert_eq!((check.passes(), check.fails()), (0, 1));
        assert!(start(&mut check) >= ended);
    }

    #[test]
    fn a_program_that_kill_does_not_end_goes_on_failing_and_never_overlaps() {
        let mut check = schedule(exec());
        let mut now = start(&mut check);
        let mut steps = Vec::new();
        while check.state() != AppState::Down {
            now = check.next_deadline();
            steps.extend(check.handle_timeout(now, true));
            assert!(now < Instant::ZERO + Duration::from_secs(60), "never down");
        }
        assert_eq!(steps, [Step::Abort, Step::Kill]);
        check.handle_report(now, pass(), true);
        assert_eq!(check.state(), AppState::Down);
        assert!(start(&mut check) >= now);
    }

    #[test]
    fn a_run_longer_than_the_interval_is_followed_at_its_end() {
        let mut check = Schedule::new(
            &CheckConfig { timeout: Duration::from_secs(60), ..config(exec()) },
            &mut Rng::new(1),
            Instant::ZERO,
        );
        let ended = start(&mut check) + Duration::from_secs(25);
        check.handle_report(ended, pass(), true);
        assert_eq!(start(&mut check), ended);
    }

    #[test]
    fn failures_that_do_not_count_break_a_streak_of_passes_all_the_same() {
        let mut check = schedule(tcp());
        for outcome in [pass(), fail(), pass()] {
            let at = start(&mut check);
            check.handle_report(at, outcome, false);
            assert_eq!((check.state(), check.fails()), (AppState::Unknown, 0));
        }
        assert_eq!(check.passes(), 1);
    }

    #[test]
    fn senseless_settings_do_not_keep_the_loop_busy() {
        let zero = Duration::ZERO;
        let config = CheckConfig { interval: zero, timeout: zero, rise: 0, fall: 0, ..config(tcp()) };
        let mut check = Schedule::new(&config, &mut Rng::new(1), Instant::ZERO);
        let now = check.next_deadline();
        let steps = core::iter::from_fn(|| check.handle_timeout(now, true)).take(10).count();
        assert!(steps < 10);
        assert!(check.next_deadline() > now);
    }
}
