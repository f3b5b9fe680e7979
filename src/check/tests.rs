use super::attempt::ExecTarget;
use super::*;
use crate::rng::Rng;
use proptest::prelude::*;
use std::collections::BTreeMap;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn tcp(port: u16) -> CheckConfig {
    check(Target::Tcp(([127, 0, 0, 1], port).into()))
}

fn exec(program: &str) -> CheckConfig {
    check(Target::Exec(Box::new(ExecTarget { argv: vec![program.into()], warn_ok: false })))
}

fn check(target: Target) -> CheckConfig {
    CheckConfig { target, interval: secs(10), timeout: secs(5), rise: 2, fall: 3 }
}

fn config(checks: Vec<CheckConfig>) -> Config {
    Config { name: "web".into(), checks, grace: Duration::ZERO, hold_up: secs(15) }
}

/// An app and its machine: what answers, and what only hangs.
struct World {
    app: App,
    now: Instant,
    rng: Rng,
    /// What the target says; `None`: it hangs.
    answers: BTreeMap<String, Option<bool>>,
    running: BTreeMap<usize, Target>,
    log: Vec<String>,
}

impl World {
    fn new(config: Config) -> Self {
        Self::seeded(config, 1)
    }

    fn seeded(config: Config, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let app = App::new(config, &mut rng, Instant::ZERO);
        let (answers, running) = (BTreeMap::new(), BTreeMap::new());
        Self { app, now: Instant::ZERO, rng, answers, running, log: vec![] }
    }

    fn up_after(checks: Vec<CheckConfig>, time: Duration) -> Self {
        let mut world = Self::new(config(checks));
        world.run_for(time);
        assert_eq!(world.app.state(), AppState::Up);
        world
    }

    /// From now on: `true` passes, `false` fails, `None` hangs. What is not named passes.
    fn answer(&mut self, target: &CheckConfig, answer: Option<bool>) {
        self.answers.insert(target.target.to_string(), answer);
    }

    fn reconfigure(&mut self, config: Config) {
        self.app.reconfigure(config, &mut self.rng, self.now);
        self.perform();
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        let mut turns = 0;
        while let Some(at) = self.app.next_deadline().filter(|&at| at <= end) {
            assert!(at >= self.now, "a deadline in the past");
            turns = if at == self.now { turns + 1 } else { 0 };
            assert!(turns < 10, "deadlines keep the loop busy");
            self.now = at;
            self.app.handle_timeout(at);
            self.perform();
        }
        self.now = end;
    }

    fn run_until(&mut self, state: AppState, limit: Duration) -> Duration {
        let start = self.now;
        while self.app.state() != state {
            assert!(self.now.since(start) < limit, "not {state:?} within {limit:?}: {}", self.summary());
            self.run_for(Duration::from_millis(100));
        }
        self.now.since(start)
    }

    fn perform(&mut self) {
        while let Some(action) = self.app.poll_action() {
            match action {
                Action::Start { check, target } => {
                    self.log.push(format!("start {check}"));
                    assert!(!self.running.values().any(|other| *other == target), "runs overlap");
                    match self.answers.get(&target.to_string()).copied().unwrap_or(Some(true)) {
                        None => drop(self.running.insert(check, target)),
                        Some(true) => self.report(check, Outcome::Pass("ok".into())),
                        Some(false) => self.report(check, Outcome::Fail("connection refused".into())),
                    }
                }
                Action::Abort { check } => {
                    self.log.push(format!("abort {check}"));
                    // A program that hangs does not listen to TERM either.
                    if !matches!(self.running.get(&check), Some(Target::Exec(_))) {
                        assert!(self.running.remove(&check).is_some(), "aborted what does not run");
                    }
                }
                Action::Kill { check } => {
                    self.log.push(format!("kill {check}"));
                    assert!(self.running.remove(&check).is_some(), "killed what does not run");
                    self.report(check, Outcome::Fail("killed by signal 9".into()));
                }
            }
        }
    }

    fn report(&mut self, check: usize, outcome: Outcome) {
        self.app.handle_attempt(self.now, check, outcome);
    }

    fn summary(&self) -> String {
        self.app.summary(self.now)
    }
}

#[test]
fn states_are_written_and_read_alike() {
    for state in [AppState::Unknown, AppState::Up, AppState::Down, AppState::Maint] {
        assert_eq!(AppState::parse(state.as_str()), Some(state));
    }
    assert_eq!(AppState::parse("Up"), None);
}

#[test]
fn an_app_is_unknown_until_all_its_checks_have_a_verdict() {
    let (web, db) = (tcp(80), exec("/bin/db"));
    let mut world = World::new(config(vec![web.clone(), db.clone()]));
    assert_eq!((world.app.state(), world.summary()), (AppState::Unknown, "not checked yet".into()));
    world.answer(&db, None);
    world.run_for(secs(14));
    assert_eq!(world.app.checks().next().unwrap().state, AppState::Up);
    assert_eq!(world.app.state(), AppState::Unknown);
    world.answer(&db, Some(true));
    assert!(world.run_until(AppState::Up, secs(30)) > Duration::ZERO);
    assert_eq!(world.summary(), "passed");
}

#[test]
fn the_first_verdict_comes_within_an_interval_or_so() {
    for seed in 0..20 {
        let mut world = World::seeded(config(vec![tcp(80)]), seed);
        assert!(world.run_until(AppState::Up, secs(11)) <= secs(11));
    }
}

#[test]
fn one_check_that_is_down_makes_the_app_down() {
    let (web, db) = (tcp(80), tcp(5432));
    let mut world = World::new(config(vec![web.clone(), db.clone()]));
    world.answer(&db, Some(false));
    world.run_until(AppState::Down, secs(30));
    assert_eq!(world.summary(), "3/3 failed: connection refused");
    let mut never_up = World::new(config(vec![web.clone(), db.clone()]));
    never_up.answer(&web, None);
    never_up.answer(&db, Some(false));
    never_up.run_until(AppState::Down, secs(30));
}

#[test]
fn the_summary_is_of_the_check_that_decides() {
    let (web, db) = (tcp(80), tcp(5432));
    let mut world = World::up_after(vec![web.clone(), db.clone()], secs(20));
    world.answer(&db, Some(false));
    let mut said = vec![];
    for _ in 0..400 {
        world.run_for(Duration::from_millis(100));
        said.push(world.summary());
    }
    world.answer(&db, Some(true));
    for _ in 0..400 {
        world.run_for(Duration::from_millis(100));
        said.push(world.summary());
    }
    said.dedup();
    said.retain(|line| !line.starts_with("held") || line == "held for 15 s more");
    let expected = [
        "passed",
        "1/3 failed: connection refused",
        "2/3 failed: connection refused",
        "3/3 failed: connection refused",
        "1/2 passed",
        "held for 15 s more",
        "passed",
    ];
    assert_eq!(said, expected);
}

#[test]
fn an_attempt_that_hangs_fails_with_its_timeout_as_the_reason() {
    let web = tcp(80);
    let mut world = World::new(config(vec![web.clone()]));
    world.answer(&web, None);
    world.run_until(AppState::Down, secs(60));
    assert_eq!(world.summary(), "3/3 failed: no answer within 5 s");
    assert_eq!(world.log, ["start 0", "abort 0", "start 0", "abort 0", "start 0", "abort 0"]);
}

#[test]
fn a_program_that_hangs_is_aborted_then_killed() {
    let db = exec("/bin/db");
    let mut world = World::new(config(vec![db.clone()]));
    world.answer(&db, None);
    world.run_for(secs(12));
    assert_eq!(world.log[..3], ["start 0", "abort 0", "kill 0"]);
}

#[test]
fn failures_within_grace_do_not_count() {
    let web = tcp(80);
    let mut world = World::new(Config { grace: secs(60), ..config(vec![web.clone()]) });
    world.answer(&web, Some(false));
    world.run_for(secs(59));
    assert_eq!(world.app.state(), AppState::Unknown);
    assert_eq!(world.summary(), "does not count yet: connection refused");
    assert!(world.run_until(AppState::Down, secs(40)) > secs(15));
}

#[test]
fn a_returning_instance_is_held_and_says_for_how_long() {
    let web = tcp(80);
    let mut world = World::up_after(vec![web.clone()], secs(20));
    world.answer(&web, Some(false));
    world.run_until(AppState::Down, secs(40));
    world.answer(&web, Some(true));
    let down = world.app.since();
    let took = world.run_until(AppState::Up, secs(60));
    assert!(took >= secs(15) + secs(10), "{took:?}");
    assert!(world.app.since() > down);
}

#[test]
fn a_forced_state_covers_the_checks_until_it_expires() {
    let mut world = World::up_after(vec![tcp(80)], secs(20));
    let until = world.now + secs(60);
    world.app.force(world.now, Some(AppState::Down), Some(until));
    assert_eq!((world.app.state(), world.app.is_forced()), (AppState::Down, true));
    assert_eq!((world.app.since(), world.app.forced_until()), (world.now, Some(until)));
    world.run_for(secs(59));
    assert_eq!((world.app.state(), world.summary()), (AppState::Down, "passed".into()));
    world.run_for(secs(1));
    assert_eq!((world.app.state(), world.app.is_forced()), (AppState::Up, false));
    assert_eq!(world.app.since(), until);
}

#[test]
fn maintenance_is_shown_as_such_and_ends_at_once() {
    let mut world = World::up_after(vec![tcp(80)], secs(20));
    world.app.force(world.now, Some(AppState::Maint), None);
    world.run_for(secs(100));
    assert_eq!((world.app.state(), world.app.is_forced()), (AppState::Maint, false));
    world.app.force(world.now, None, None);
    assert_eq!(world.app.state(), AppState::Up);
}

#[test]
fn an_app_without_checks_has_no_instance_and_nothing_to_do() {
    let mut world = World::new(config(vec![]));
    assert!(!world.app.has_instance() && world.app.is_idle());
    assert_eq!((world.app.state(), world.app.next_deadline()), (AppState::Unknown, None));
    world.app.force(Instant::ZERO, Some(AppState::Up), None);
    assert_eq!(world.app.state(), AppState::Unknown);
}

#[test]
fn checks_that_stay_keep_their_counters_and_the_state() {
    let (web, db) = (tcp(80), tcp(5432));
    let mut world = World::up_after(vec![web.clone()], secs(20));
    let passes = world.app.checks().next().unwrap().passes;
    let slower = CheckConfig { interval: secs(20), ..web.clone() };
    world.answer(&db, Some(false));
    world.reconfigure(config(vec![db.clone(), slower]));
    assert_eq!(world.app.checks().nth(1).unwrap().passes, passes);
    assert_eq!(world.app.state(), AppState::Up, "a new check has no verdict yet");
    world.run_until(AppState::Down, secs(40));
    assert!(world.log.contains(&"start 1".into()), "a new check has a new number");
}

#[test]
fn an_app_whose_checks_were_all_replaced_starts_over() {
    let mut world = World::up_after(vec![tcp(80)], secs(20));
    world.reconfigure(config(vec![tcp(81)]));
    assert_eq!(world.app.state(), AppState::Unknown);
    world.run_until(AppState::Up, secs(20));
}

#[test]
fn a_removed_check_is_aborted_and_its_program_waited_for() {
    let (web, db) = (tcp(80), exec("/bin/db"));
    let mut world = World::new(config(vec![web.clone(), db.clone()]));
    world.answer(&web, None);
    world.answer(&db, None);
    world.run_for(secs(1));
    world.log.clear();
    world.reconfigure(config(vec![]));
    assert_eq!(world.log, ["abort 0", "abort 1"]);
    assert!(!world.app.is_idle());
    world.run_for(secs(3));
    assert_eq!(world.log[2..], ["kill 1"]);
    assert!(world.app.is_idle());
    assert_eq!(world.app.next_deadline(), None);
}

#[test]
fn a_check_that_comes_back_waits_for_its_old_program() {
    let db = exec("/bin/db");
    let mut world = World::up_after(vec![db.clone()], secs(20));
    world.answer(&db, None);
    world.run_for(secs(10));
    world.reconfigure(config(vec![]));
    world.reconfigure(config(vec![db.clone()]));
    assert_eq!(world.app.state(), AppState::Unknown);
    world.answer(&db, Some(true));
    // World::perform asserts that runs of one target do not overlap.
    world.run_until(AppState::Up, secs(40));
}

#[test]
fn reports_of_unknown_checks_are_ignored() {
    let mut world = World::up_after(vec![tcp(80)], secs(20));
    world.report(7, Outcome::Fail("nonsense".into()));
    assert_eq!(world.summary(), "passed");
}

#[derive(Clone, Debug)]
enum Event {
    Answer(u16, Option<bool>),
    Pass(u64),
    Reconfigure(u8),
    Force(Option<bool>, u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        (0u16..3, any::<Option<bool>>()).prop_map(|(at, answer)| Event::Answer(at, answer)),
        (1u64..90).prop_map(Event::Pass),
        any::<u8>().prop_map(Event::Reconfigure),
        (any::<Option<bool>>(), 1u64..60).prop_map(|(to, secs)| Event::Force(to, secs)),
    ]
}

proptest! {
    /// The world asserts on the way: runs never overlap, what is aborted ran, no deadline keeps the loop busy.
    #[test]
    fn from_any_history_an_app_whose_checks_pass_comes_up(
        events in prop::collection::vec(event(), 0..30),
        seed in any::<u64>(),
    ) {
        let all = [tcp(80), exec("/bin/a"), exec("/bin/b")];
        let mut world = World::seeded(config(all.to_vec()), seed);
        for event in events {
            match event {
                Event::Answer(at, answer) => world.answer(&all[usize::from(at)], answer),
                Event::Pass(time) => world.run_for(secs(time)),
                Event::Reconfigure(mask) => {
                    let some = all.iter().enumerate().filter(|(i, _)| mask >> i & 1 == 1);
                    world.reconfigure(config(some.map(|(_, check)| check.clone()).collect()));
                }
                Event::Force(to, time) => {
                    let to = to.map(|up| if up { AppState::Up } else { AppState::Down });
                    world.app.force(world.now, to, Some(world.now + secs(time)));
                }
            }
        }
        world.reconfigure(config(all.to_vec()));
        all.iter().for_each(|check| world.answer(check, Some(true)));
        world.run_for(secs(700));
        prop_assert_eq!(world.app.state(), AppState::Up);
        prop_assert!(world.app.is_idle());
    }
}
