//! The applications of this machine: their checks, and what the results add up to.

pub mod attempt;
mod hold;
pub mod http;
pub mod schedule;

use core::time::Duration;
use std::collections::VecDeque;

use crate::limits::CHECKS_MAX;
use crate::rng::Rng;
use crate::time::{Instant, earliest};
use attempt::{Outcome, Span, Target};
use hold::Hold;
use schedule::{Schedule, Step};

/// The state of an app on one node, as its tag shows it (`interfaces`, section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AppState {
    Unknown,
    Up,
    Down,
    Maint,
}

impl AppState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
            Self::Maint => "maint",
        }
    }
    /// The inverse of [`AppState::as_str`].
    pub fn parse(s: &str) -> Option<Self> {
        [Self::Unknown, Self::Up, Self::Down, Self::Maint].into_iter().find(|state| state.as_str() == s)
    }
}

/// One app as the configuration gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub name: Box<str>,
    /// Empty: no instance here, only the app's settings.
    pub checks: Vec<CheckConfig>,
    /// Failures do not count for this long after the start.
    pub grace: Duration,
    /// A returning instance must be stable this long; doubles with each flap within 10 min, to 10 min at most.
    pub hold_up: Duration,
}

/// One check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckConfig {
    pub target: Target,
    pub interval: Duration,
    pub timeout: Duration,
    pub rise: u16,
    pub fall: u16,
}

/// What the driver should do for the check with this number.
///
/// Checks are numbered from 0 in the order of the configuration; those that a reconfiguration adds go
/// on counting, so that a number never means another check and late reports find their own.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Start {
        check: usize,
        target: Target,
    },
    /// Give it up: close the connection, or TERM to the group.
    Abort {
        check: usize,
    },
    /// It did not go: KILL to the group.
    Kill {
        check: usize,
    },
}

/// One app of this machine.
///
/// All its checks must pass. It is unknown until each has its verdict, but down as soon as one is down.
pub struct App {
    config: Config,
    /// One for each check of the configuration, in its order.
    checks: Vec<Check>,
    /// Programs of checks that are no more, told to end.
    retired: Vec<(Target, Check)>,
    next_number: usize,
    grace_until: Instant,
    hold: Hold,
    forced: Option<Forced>,
    /// What is shown, and since when; [`App::settle`] keeps it.
    state: AppState,
    since: Instant,
    actions: VecDeque<Action>,
}

struct Check {
    number: usize,
    schedule: Schedule,
}

#[derive(Clone, Copy)]
struct Forced {
    to: AppState,
    until: Option<Instant>,
}

impl App {
    pub fn new(config: Config, rng: &mut Rng, now: Instant) -> Self {
        let mut app = Self {
            config: Config { checks: Vec::new(), ..config.clone() },
            checks: Vec::new(),
            retired: Vec::new(),
            next_number: 0,
            grace_until: now,
            hold: Hold::new(),
            forced: None,
            state: AppState::Unknown,
            since: now,
            actions: VecDeque::new(),
        };
        app.reconfigure(config, rng, now);
        app
    }

    /// The configuration changed. Checks of the same target keep their counters and the run under way;
    /// runs of checks that are no more are aborted. `grace` begins anew. What is shown stays until new
    /// checks have their verdicts; if no check stayed, it is unknown again.
    pub fn reconfigure(&mut self, config: Config, rng: &mut Rng, now: Instant) {
        let old = core::mem::take(&mut self.config.checks).into_iter().map(|check| check.target);
        let mut old: Vec<(Target, Check)> = old.zip(core::mem::take(&mut self.checks)).collect();
        let mut kept = false;
        for check in &config.checks {
            let same = |(target, _): &(Target, Check)| *target == check.target;
            let found = if let Some(at) = old.iter().position(same) {
                kept = true;
                old.remove(at).1
            } else if let Some(at) = self.retired.iter().position(same) {
                // Its program still runs: only its own end lets it start again.
                let mut check = self.retired.remove(at).1;
                check.schedule.forget();
                check
            } else {
                self.next_number += 1;
                Check { number: self.next_number - 1, schedule: Schedule::new(check, rng, now) }
            };
            self.checks.push(found);
        }
        for (check, config) in self.checks.iter_mut().zip(&config.checks) {
            check.schedule.reconfigure(config, now);
        }
        self.retire(old, now);
        if !kept {
            self.hold = Hold::new();
        }
        self.grace_until = now + config.grace;
        self.config = config;
        self.settle(now);
    }

    /// How the attempt of the check with this number ended. Also the report that ends an aborted
    /// attempt, whose outcome is ignored.
    pub fn handle_attempt(&mut self, now: Instant, check: usize, outcome: Outcome) {
        let counts = self.failures_count(now);
        self.retired.retain(|(_, retired)| retired.number != check);
        if let Some(check) = self.checks.iter_mut().find(|known| known.number == check) {
            check.schedule.handle_report(now, outcome, counts);
        }
        self.settle(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let counts = self.failures_count(now);
        for (config, check) in self.config.checks.iter().zip(&mut self.checks) {
            while let Some(step) = check.schedule.handle_timeout(now, counts) {
                self.actions.push_back(check.action(step, &config.target));
            }
        }
        for (target, check) in &mut self.retired {
            if let Some(step) = check.schedule.handle_timeout(now, false) {
                self.actions.push_back(check.action(step, target));
            }
        }
        self.settle(now);
    }

    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let retired = self.retired.iter().map(|(_, check)| check);
        let checks = self.checks.iter().chain(retired).map(|check| Some(check.schedule.next_deadline()));
        earliest(checks.chain([self.hold.until(), self.forced_until()]))
    }

    /// A person says how it is (`None`: the checks decide again), until `until` if given.
    pub fn force(&mut self, now: Instant, to: Option<AppState>, until: Option<Instant>) {
        self.forced = to.map(|to| Forced { to, until });
        self.settle(now);
    }

    pub fn config(&self) -> &Config {
        &self.config
    }
    /// Without checks there is no instance here, only the app's settings; then [`App::state`] is unknown.
    pub fn has_instance(&self) -> bool {
        !self.checks.is_empty()
    }
    /// No attempt is under way, none has still to end. After a reconfiguration without checks: it can go.
    pub fn is_idle(&self) -> bool {
        self.retired.is_empty() && self.checks.iter().all(|check| check.schedule.is_idle())
    }
    /// What the tag shows: forced state, else the checks' verdict after `hold_up`.
    pub fn state(&self) -> AppState {
        self.state
    }
    /// Forced up or down; `maint` is not what the tag marks as forced.
    pub fn is_forced(&self) -> bool {
        self.forced.is_some_and(|forced| forced.to != AppState::Maint)
    }
    /// When the forced state (or maintenance) ends by itself.
    pub fn forced_until(&self) -> Option<Instant> {
        self.forced.and_then(|forced| forced.until)
    }
    /// Since when [`App::state`] is what it is.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// For people, of the check that decides: `2/3 failed: connection refused`, `1/2 passed`, `passed`,
    /// `held for 12 s more`. Says how the checks are even while the state is forced.
    pub fn summary(&self, now: Instant) -> String {
        if let Some(until) = self.hold.until() {
            let left = until.since(now) + Duration::from_millis(999);
            return format!("held for {} more", Span(Duration::from_secs(left.as_secs())));
        }
        match self.checks.iter().map(|check| &check.schedule).min_by_key(|schedule| weight(schedule)) {
            None => "no checks here".into(),
            Some(schedule) => describe(schedule),
        }
    }

    /// Every check for `status -v`: name of the target, passes and failures in a row, last outcome.
    pub fn checks(&self) -> impl Iterator<Item = CheckStatus<'_>> {
        self.config.checks.iter().zip(&self.checks).map(|(config, Check { schedule, .. })| CheckStatus {
            target: &config.target,
            state: schedule.state(),
            passes: schedule.passes(),
            fails: schedule.fails(),
            last: schedule.last().map(|(_, outcome)| outcome),
            last_at: schedule.last().map(|(at, _)| at),
        })
    }

    /// Aborts what runs of checks that are no more, and remembers what has to be waited for.
    fn retire(&mut self, old: Vec<(Target, Check)>, now: Instant) {
        for (target, mut check) in old {
            if let Some(step) = check.schedule.abort(now) {
                self.actions.push_back(check.action(step, &target));
            }
            if check.schedule.is_ending() {
                self.retired.push((target, check));
            }
        }
        // Programs that nothing ends, over many reconfigurations: the oldest are left to the system.
        let excess = self.retired.len().saturating_sub(CHECKS_MAX);
        self.retired.drain(..excess);
    }

    fn failures_count(&self, now: Instant) -> bool {
        now >= self.grace_until
    }

    /// Brings what is shown in line with everything else. Every change ends here.
    fn settle(&mut self, now: Instant) {
        if self.forced_until().is_some_and(|until| until <= now) {
            self.forced = None;
        }
        self.hold.update(now, self.verdict(), self.config.hold_up);
        let state = match self.forced {
            _ if !self.has_instance() => AppState::Unknown,
            Some(forced) => forced.to,
            None => self.hold.shown(),
        };
        if state != self.state {
            self.state = state;
            self.since = now;
        }
    }

    fn verdict(&self) -> AppState {
        let any = |state| self.checks.iter().any(|check| check.schedule.state() == state);
        if any(AppState::Down) {
            AppState::Down
        } else if any(AppState::Unknown) || self.checks.is_empty() {
            AppState::Unknown
        } else {
            AppState::Up
        }
    }
}

impl Check {
    fn action(&self, step: Step, target: &Target) -> Action {
        let check = self.number;
        match step {
            Step::Start => Action::Start { check, target: target.clone() },
            Step::Abort => Action::Abort { check },
            Step::Kill => Action::Kill { check },
        }
    }
}

/// How much a check decides; least: most.
fn weight(schedule: &Schedule) -> u8 {
    let failing = schedule.last().is_some_and(|(_, outcome)| !outcome.passed());
    match (schedule.state(), failing) {
        (AppState::Down, true) => 0,
        (AppState::Down, false) => 1,
        (AppState::Unknown | AppState::Maint, true) => 2,
        (AppState::Unknown | AppState::Maint, false) => 3,
        (AppState::Up, true) => 4,
        (AppState::Up, false) => 5,
    }
}

fn describe(schedule: &Schedule) -> String {
    let (rise, fall) = (schedule.rise(), schedule.fall());
    match schedule.last() {
        None => "not checked yet".into(),
        Some((_, Outcome::Fail(reason) | Outcome::NotTried(reason))) => match schedule.fails() {
            // Within `grace`.
            0 => format!("does not count yet: {reason}"),
            fails => format!("{}/{fall} failed: {reason}", fails.min(fall)),
        },
        Some((_, Outcome::Pass(_))) if schedule.state() == AppState::Up => "passed".into(),
        Some((_, Outcome::Pass(_))) => format!("{}/{rise} passed", schedule.passes().min(rise)),
    }
}

/// One check for `status -v`.
pub struct CheckStatus<'a> {
    pub target: &'a Target,
    pub state: AppState,
    pub passes: u16,
    pub fails: u16,
    pub last: Option<&'a Outcome>,
    pub last_at: Option<Instant>,
}

#[cfg(test)]
mod tests;
