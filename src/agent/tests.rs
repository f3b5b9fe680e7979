//! The parts joined, by way of the public methods only.

mod alone;
mod cluster;
mod gates;
mod overrides;
mod persons;
mod reload;
mod state;
mod tries;

use super::*;
use crate::check::CheckConfig;
use crate::delivery::{EventKind, Mode, Place};
use crate::safety::{AllDown, AppPolicy, MinUp};
use crate::wire::crypt::KeyRing;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn membership_config() -> membership::Config {
    membership::Config {
        node: "fra1".into(),
        cluster: "tny".into(),
        advertise: "192.0.2.1:7946".parse().unwrap(),
        label: Box::default(),
        keys: KeyRing::default(),
        delegate_versions: [2, 5, 5],
        timing: crate::config::profile::timing("lan"),
        join: Vec::new(),
        members: Vec::new(),
        allow: Vec::new(),
        forget_after: secs(72 * 3600),
    }
}

fn mail() -> delivery::Config {
    delivery::Config {
        name: "mail".into(),
        run: vec!["/bin/mail".into()],
        mode: Mode::Event,
        apps: vec!["web".into()],
        place: Place::All,
        events: vec![EventKind::AppUp, EventKind::AppDown],
        member_events: Vec::new(),
        timeout: secs(30),
        debounce: Duration::ZERO,
        min_interval: Duration::ZERO,
        resync: secs(600),
        env: Vec::new(),
        secrets: Vec::new(),
        user: None,
    }
}

fn config(handlers: Vec<delivery::Config>) -> Config {
    let check = CheckConfig {
        target: Target::Tcp("127.0.0.1:80".parse().unwrap()),
        interval: secs(10),
        timeout: secs(5),
        rise: 1,
        fall: 1,
    };
    let web = AppConfig {
        check: check::Config {
            name: "web".into(),
            checks: vec![check],
            grace: Duration::ZERO,
            hold_up: secs(15),
        },
        policy: AppPolicy {
            min_up: MinUp::Count(1),
            all_down: AllDown::Keep,
            verify: None,
            hold_up: secs(15),
        },
        publish: Vec::new(),
    };
    Config {
        membership: membership_config(),
        apps: vec![web],
        handlers,
        safety: safety::Config::default(),
        publish: Vec::new(),
        tags: vec![("dc".into(), "fra".into()), ("cluster".into(), "forged".into())],
        keys_file: None,
    }
}

/// An agent alone, its clock, and what it did. Every attempt passes at once, and so does every run, unless runs hang.
struct World {
    agent: Agent,
    now: Instant,
    done: Vec<Action>,
    runs_hang: bool,
    /// Checks are not answered.
    attempts_hang: bool,
    /// How writing the state ends; `None`: not at all.
    persists: Option<Result<(), String>>,
}

impl World {
    fn new(handlers: Vec<delivery::Config>) -> Self {
        let agent = Agent::new(config(handlers), Seed::from_u64(7), Instant::ZERO);
        Self::of(agent)
    }

    fn of(agent: Agent) -> Self {
        let (done, persists) = (Vec::new(), Some(Ok(())));
        let mut world =
            Self { agent, now: Instant::ZERO, done, runs_hang: false, attempts_hang: false, persists };
        world.drain();
        world
    }

    fn drain(&mut self) {
        let mut packet = Vec::new();
        loop {
            while self.agent.poll_transmit(self.now, &mut packet).is_some() {}
            let Some(action) = self.agent.poll_action() else { return };
            if let Action::Attempt { id, .. } = &action
                && !self.attempts_hang
            {
                self.agent.handle_attempt(self.now, *id, Outcome::Pass("connected".into()));
            }
            if let Action::Run { id, .. } = &action
                && !self.runs_hang
            {
                self.agent.handle_exit(self.now, *id, Exit::Code(0), b"");
            }
            if let (Action::Persist { .. }, Some(result)) = (&action, self.persists.clone()) {
                self.agent.handle_persisted(self.now, result);
            }
            self.done.push(action);
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.agent.next_deadline().filter(|&at| at <= end) {
            self.now = self.now.max(at);
            self.agent.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    /// All reply lines to one request.
    fn ask(&mut self, request: &str) -> Vec<String> {
        self.done.clear();
        self.agent.handle_request(self.now, 1, request.as_bytes());
        self.drain();
        let replies = self.done.iter().filter_map(|action| match action {
            Action::Reply { line, .. } => Some(line.clone()),
            _ => None,
        });
        replies.collect()
    }

    fn status(&mut self) -> crate::control::Status {
        serde_json::from_str(&self.ask(r#"{"cmd":"status","verbose":true}"#)[0]).unwrap()
    }

    fn logged(&self, what: &str) -> usize {
        let is = |action: &&Action| matches!(action, Action::Log { line, .. } if line.contains(what));
        self.done.iter().filter(is).count()
    }

    fn runs(&self) -> usize {
        self.done.iter().filter(|action| matches!(action, Action::Run { .. })).count()
    }
}

#[test]
fn a_check_that_passes_shows_in_the_own_tags() {
    let mut world = World::new(Vec::new());
    world.run_for(secs(30));
    let members: crate::control::Members =
        serde_json::from_str(&world.ask(r#"{"cmd":"members"}"#)[0]).unwrap();
    let own = &members.members[0];
    assert!(own.is_self && own.version.as_deref() == Some(tags::VERSION), "{own:?}");
    let tag = |name: &str| own.tags.get(name).map(String::as_str);
    assert_eq!((tag("a.web"), tag("dc"), tag("p")), (Some("up"), Some("fra"), None));
    assert_eq!(tag("cluster"), Some("tny"), "the operator's tags must not replace ours");
    let status = world.status();
    assert_eq!((status.code, status.problems.as_slice()), (0, &[][..]));
    assert_eq!(status.apps[0].publish.as_deref(), Some(&["192.0.2.1".to_owned()][..]));
}

#[test]
fn bad_packets_are_counted_and_logged_once_a_minute() {
    let mut world = World::new(Vec::new());
    let from = "192.0.2.66:7946".parse().unwrap();
    for _ in 0..1_000 {
        world.agent.handle_packet(world.now, from, &mut [0xEE, 1, 2, 3]);
        world.drain();
    }
    assert_eq!(world.logged("event=bad-packet"), 1);
    let counters = world.status().counters.unwrap();
    assert_eq!(counters.bad.values().sum::<u64>(), 1_000);
    assert_eq!(
        world.ask(r#"{"cmd":"members"}"#)[0].matches(r#""name":"#).count(),
        2,
        "fra1 and its app only"
    );
}

#[test]
fn the_first_verdict_after_a_start_is_no_event_and_a_forced_one_is() {
    let mut world = World::new(vec![mail()]);
    world.run_for(secs(60));
    assert_eq!(world.runs(), 0);
    let reply = world.ask(r#"{"cmd":"app","app":"web","to":"down","for_secs":60}"#);
    assert_eq!(reply, [r#"{"ok":true,"message":"web is forced down for 1m"}"#]);
    world.run_for(secs(20));
    assert_eq!(world.runs(), 1);
    assert!(world.status().apps[0].forced);
}

#[test]
fn stop_answers_and_exits_and_a_refusal_changes_nothing() {
    let mut world = World::new(Vec::new());
    assert!(
        world.ask(r#"{"cmd":"app","app":"nope","to":"up"}"#)[0].contains("apps of the configuration: web")
    );
    let replies = world.ask(r#"{"cmd":"stop"}"#);
    assert!(replies.iter().any(|line| line.contains("stopped")), "{replies:?}");
    assert_eq!(world.done.last(), Some(&Action::Exit { code: 0 }));
}

#[test]
fn leave_withdraws_first_and_ends_within_its_time() {
    let mut world = World::new(Vec::new());
    world.run_for(secs(30));
    world.ask(r#"{"cmd":"leave"}"#);
    assert!(world.ask(r#"{"cmd":"members"}"#)[0].contains(r#""a.web":"maint""#));
    world.run_for(secs(20));
    assert!(world.done.contains(&Action::Exit { code: 0 }));
}

#[test]
fn leave_says_goodbye_after_the_run_that_is_under_way_or_after_a_minute() {
    for run_takes in [secs(10), secs(90)] {
        let mut world = World::new(vec![delivery::Config { timeout: secs(300), ..mail() }]);
        world.runs_hang = true;
        world.run_for(secs(60));
        world.ask(r#"{"cmd":"app","app":"web","to":"down"}"#);
        world.run_for(secs(5));
        let id = world.done.iter().find_map(|action| match action {
            Action::Run { id, .. } => Some(*id),
            _ => None,
        });
        let start = world.now;
        world.ask(r#"{"cmd":"leave"}"#);
        let has_left = |world: &World| matches!(world.agent.ending, Ending::Leaving { .. } | Ending::Ended);
        world.run_for(run_takes.min(secs(59)));
        assert!(!has_left(&world), "the others wait for what it tells");
        world.run_for((start + run_takes).since(world.now));
        assert_eq!(has_left(&world), run_takes > secs(60));
        world.agent.handle_exit(world.now, id.expect("it runs"), Exit::Code(0), b"");
        world.run_for(secs(20));
        assert!(has_left(&world) && world.done.contains(&Action::Exit { code: 0 }));
    }
}

#[test]
fn leave_does_not_wait_for_a_serf_handler_before_the_goodbye() {
    let mut world = World::new(vec![delivery::Config { timeout: secs(300), ..script() }]);
    world.runs_hang = true;
    world.run_for(secs(30));
    assert!(world.agent.delivery.is_running());
    world.ask(r#"{"cmd":"leave"}"#);
    world.run_for(secs(1));
    assert!(matches!(world.agent.ending, Ending::Withdrawing { .. }), "own apps are withdrawn first");
    world.run_for(secs(2));
    assert!(matches!(world.agent.ending, Ending::Leaving { .. }), "nobody else waits for its result");
}

#[test]
fn followers_are_told_and_those_gone_are_not() {
    let mut world = World::new(Vec::new());
    let lines = world.ask(r#"{"cmd":"events","n":1,"follow":true}"#);
    assert_eq!(lines.len(), 2, "{lines:?}");
    let told = |world: &mut World| world.ask(r#"{"cmd":"app","app":"web","to":"up"}"#).concat();
    assert!(told(&mut world).contains("app-forced"));
    world.agent.handle_client_gone(1);
    assert!(!told(&mut world).contains("app-forced"));
}

#[test]
fn a_late_loop_is_gauged_and_told_once() {
    let mut world = World::new(Vec::new());
    world.run_for(secs(30));
    world.done.clear();
    world.agent.next_deadline();
    world.now += secs(100);
    let from = "192.0.2.66:7946".parse().unwrap();
    world.agent.handle_packet(world.now, from, &mut []);
    world.agent.handle_timeout(world.now);
    world.drain();
    assert_eq!(world.logged("event=loop-late"), 1);
    let late = world.status().loop_late;
    assert!(late.max_ms > 80_000 && late.count == 1, "{late:?}");
}

/// The runs of `serf` handlers: the event and stdin.
fn told(world: &World) -> Vec<String> {
    let run = |action: &Action| {
        let Action::Run { run, .. } = action else { return None };
        let event = run.env.iter().find(|(name, _)| &**name == "SERF_EVENT").map(|(_, value)| value)?;
        Some(format!("{event} {}", String::from_utf8_lossy(&run.stdin)))
    };
    world.done.iter().filter_map(run).collect()
}

fn script() -> delivery::Config {
    delivery::Config { name: "script".into(), mode: Mode::Serf, events: Vec::new(), ..mail() }
}

#[test]
fn serf_handlers_are_told_of_the_own_start_and_of_changes_of_the_own_tags() {
    let mut world = World::new(vec![script()]);
    world.run_for(secs(30));
    let version = tags::VERSION;
    let line = |app| format!("fra1\t192.0.2.1\t\ta.web={app},cluster=tny,dc=fra,v={version}\n");
    // The verdict came in the same window.
    assert_eq!(told(&world), [format!("member-join {}", line("up"))]);
    world.ask(r#"{"cmd":"app","app":"web","to":"down"}"#);
    world.run_for(secs(30));
    assert_eq!(told(&world), [format!("member-update {}", line("down!"))]);
}

#[test]
fn serf_handlers_are_told_of_the_own_leave_before_the_end_and_of_nothing_after_a_stop() {
    for (command, last) in [("leave", Some("member-leave")), ("stop", None)] {
        let mut world = World::new(vec![script()]);
        world.run_for(secs(30));
        world.ask(&format!(r#"{{"cmd":"{command}"}}"#));
        world.run_for(secs(30));
        let told = told(&world);
        assert_eq!(told.last().and_then(|told| told.split(' ').next()), last, "{told:?}");
        let place = |is: fn(&Action) -> bool| world.done.iter().rposition(is);
        let (run, exit) = (
            place(|action| matches!(action, Action::Run { .. })),
            place(|action| matches!(action, Action::Exit { .. })),
        );
        assert!(exit.is_some() && run < exit, "{:?}", world.done);
    }
}

#[test]
fn calls_that_wait_behind_one_that_hangs_do_not_hold_up_the_end() {
    let mut world = World::new(vec![delivery::Config { timeout: secs(300), ..script() }]);
    world.run_for(secs(30));
    world.runs_hang = true;
    world.ask(r#"{"cmd":"app","app":"web","to":"down"}"#);
    world.run_for(secs(1));
    let id = world.done.iter().find_map(|action| match action {
        Action::Run { id, .. } => Some(*id),
        _ => None,
    });
    world.ask(r#"{"cmd":"leave"}"#);
    world.run_for(secs(100));
    assert!(world.agent.delivery.is_running() && told(&world).is_empty());
    assert!(world.agent.next_deadline().is_none_or(|at| at > world.now), "it would spin");
    world.agent.handle_exit(world.now, id.expect("it ran"), Exit::Signal(9), b"");
    world.drain();
    assert!(world.done.contains(&Action::Exit { code: 0 }) && told(&world).is_empty());
}
