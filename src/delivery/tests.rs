//! The claims of `interfaces` section 4 that hold today, in virtual time.

mod cluster;
mod ends;
mod events;
mod picored1;
mod reload;
mod restart;
mod rules;
mod serf;
mod stories;

use super::*;
use crate::membership::State as MemberState;
use crate::safety::Address;

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn config(mode: Mode, place: Place) -> Config {
    Config {
        name: "dns".into(),
        run: vec!["/bin/dns".into()],
        mode,
        apps: vec!["web".into()],
        place,
        events: vec![],
        member_events: vec![],
        timeout: secs(30),
        debounce: secs(3),
        min_interval: secs(5),
        resync: secs(600),
        env: vec![("ZONE".into(), "example.com".into()), ("PICORED_SELF".into(), "x".into())],
        secrets: Vec::new(),
        user: None,
    }
}

/// Metadata as Serf writes it, for fewer than 16 tags.
fn meta(tags: &[(String, String)]) -> Box<[u8]> {
    let mut bytes = vec![0xff, 0x80 | u8::try_from(tags.len()).expect("few")];
    for text in tags.iter().flat_map(|(key, value)| [key, value]) {
        bytes.extend([0xda, 0, u8::try_from(text.len()).expect("short")]);
        bytes.extend(text.as_bytes());
    }
    bytes.into()
}

/// One node's delivery, the others' tags, and the set G that it sees.
struct Scene {
    delivery: Delivery,
    now: Instant,
    members: Vec<Member>,
    goal: Option<Vec<u8>>,
    /// All with the same goal.
    apps: Vec<Box<str>>,
    /// The gate that made it, where one did.
    guard: Option<Reason>,
    may_act: Result<(), Reason>,
    /// What `withdraw_self` would tell.
    withdraw: Option<Vec<u8>>,
    /// Of the electorate, never seen alive.
    unseen: Option<&'static str>,
    /// Nodes that failed, that have no verdict, that the gates hold, and what was tried of the failed ones.
    failed: Vec<u8>,
    silent: Vec<u8>,
    held: Vec<u8>,
    verified: Vec<Verified>,
    actions: Vec<Action>,
}

const OWN: &str = "fra1";

fn member(name: &str) -> Member {
    let mut member = Member::new(name, "192.0.2.1:7946".parse().expect("an address"), Instant::ZERO);
    member.meta = meta(&[]);
    member
}

impl Scene {
    fn new(config: Config) -> Self {
        Self::seeded(config, 1)
    }

    fn seeded(config: Config, seed: u64) -> Self {
        Self {
            apps: config.apps.clone(),
            delivery: Delivery::new(vec![config], seed, Instant::ZERO),
            now: Instant::ZERO,
            members: vec![member(OWN)],
            goal: Some(vec![1, 2]),
            guard: None,
            may_act: Ok(()),
            withdraw: None,
            unseen: None,
            failed: vec![],
            silent: vec![],
            held: vec![],
            verified: vec![],
            actions: Vec::new(),
        }
    }

    /// Another node with these tags.
    fn other(mut self, name: &str, tags: &[(&str, &str)]) -> Self {
        self.members.push(member(name));
        self.tag(name, tags);
        self
    }

    fn tag(&mut self, name: &str, tags: &[(&str, &str)]) {
        let tags: Vec<(String, String)> = tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        self.member(name).meta = meta(&tags);
    }

    fn member(&mut self, name: &str) -> &mut Member {
        self.members.iter_mut().find(|m| &*m.name == name).expect("a member")
    }

    fn look(&mut self) {
        self.look_as(OWN);
    }

    fn look_as(&mut self, node: &str) {
        let state = |n: u8| match self.goal.iter().flatten().any(|&g| g == n) || self.failed.contains(&n) {
            _ if self.silent.contains(&n) => AppState::Unknown,
            true => AppState::Up,
            false => AppState::Down,
        };
        let instance = |n: u8| Instance {
            node: format!("n{n}").into(),
            member: if self.failed.contains(&n) { MemberState::Dead } else { MemberState::Alive },
            app: state(n),
            forced: false,
            withdrawn_by: None,
            since: Instant::ZERO,
            returned: None,
            addrs: vec![ip(n)],
        };
        let address = |&n: &u8| Address { addr: ip(n), node: format!("n{n}").into() };
        let set = |set: &Option<Vec<u8>>| Some(set.as_ref()?.iter().map(address).collect());
        let held: Vec<_> = self.held.iter().map(|n| (address(n), Reason::Settling)).collect();
        let (publish, withdraw) = (set(&self.goal), set(&self.withdraw));
        let app = |name: &str| AppSituation {
            held: None,
            name: name.into(),
            instances: [1, 2, 3].map(instance).into(),
            verdict: Verdict {
                publish: publish.clone(),
                guard: self.guard.clone(),
                withdraw: withdraw.clone(),
                held: held.clone(),
                ..Verdict::default()
            },
            of_handlers: vec![],
            why: vec![("n3".into(), "http 502, 3/3 failed".into())],
            verified: self.verified.clone(),
        };
        let members: Vec<&Member> = self.members.iter().collect();
        let apps: Vec<AppSituation> = self.apps.iter().map(|name| app(name)).collect();
        let world = World {
            node,
            cluster: "tny",
            unix_now: 1_000_000,
            members: &members,
            apps: &apps,
            may_act: self.may_act.clone(),
            may_withdraw: self.withdraw.is_some(),
            unseen: self.unseen,
            witness: "",
        };
        self.delivery.update(self.now, &world);
        while let Some(action) = self.delivery.poll_action() {
            self.actions.push(action);
        }
        assert!(self.delivery.next_deadline().is_none_or(|at| at > self.now), "it would spin");
    }

    /// Goes on for `time`, waking only at deadlines.
    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.look();
        while let Some(at) = self.delivery.next_deadline().filter(|&at| at <= end) {
            self.now = at;
            self.look();
        }
        self.now = end;
    }

    /// The runs started since the last call.
    fn runs(&mut self) -> Vec<(RunId, Run)> {
        core::mem::take(&mut self.actions)
            .into_iter()
            .filter_map(|action| match action {
                Action::Run { id, run } => Some((id, *run)),
                _ => None,
            })
            .collect()
    }

    fn only_run(&mut self) -> (RunId, Run) {
        let runs = self.runs();
        assert_eq!(runs.len(), 1, "{runs:?}");
        runs.into_iter().next().expect("one")
    }

    fn end(&mut self, id: RunId, code: i32) {
        self.delivery.handle_exit(self.now, id, Exit::Code(code), b"");
        self.look();
    }

    fn tag_shown(&self) -> String {
        self.delivery.tags().first().expect("a tag").1.clone()
    }

    /// What `status` shows of the first handler.
    fn status<T>(&self, look: impl FnOnce(&HandlerStatus<'_>) -> T) -> T {
        let members: Vec<&Member> = self.members.iter().collect();
        let world = World {
            node: OWN,
            cluster: "tny",
            unix_now: 1_000_000,
            members: &members,
            apps: &[],
            may_act: self.may_act.clone(),
            may_withdraw: false,
            unseen: None,
            witness: "",
        };
        look(self.delivery.status(&world).first().expect("a handler"))
    }

    fn settled(mut self) -> Self {
        self.run_for(secs(4));
        let (id, _) = self.only_run();
        self.end(id, 0);
        self.run_for(secs(60));
        assert_eq!(self.runs(), []);
        self
    }
}

fn env<'a>(run: &'a Run, name: &str) -> &'a str {
    let found: Vec<&str> = run.env.iter().filter(|(n, _)| &**n == name).map(|(_, v)| &**v).collect();
    assert!(found.len() <= 1, "{name} twice");
    found.first().copied().unwrap_or("(none)")
}

fn goal_hash(goal: &[u8]) -> String {
    format!("{:08x}", record::set_hash(goal.iter().map(|&n| ip(n))))
}

fn sync_one() -> Config {
    config(Mode::Sync, Place::One)
}

/// A handler name under which `OWN`, or `par1`, is the runner of the two before the first run.
fn with_runner(first: &str, mut config: Config) -> Config {
    let able = record::Record { state: record::State::Able, lc: 0, told: record::Told::Nothing };
    let both = [(OWN, able), ("par1", able)];
    let is_first = |name: &String| record::runner(name, both.into_iter()) == Some(first);
    config.name = (0..).map(|n| format!("dns{n}")).find(is_first).expect("one of many").into();
    config
}

fn job_key(config: &Config) -> String {
    format!("h.{}.web", config.name)
}

#[test]
fn a_change_runs_once_after_the_debounce_and_is_recorded() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(Duration::from_millis(2_900));
    assert_eq!(scene.runs(), []);
    assert_eq!(scene.tag_shown(), "i:0:-");
    scene.run_for(Duration::from_millis(100));
    let (id, run) = scene.only_run();
    assert_eq!(scene.tag_shown(), "r:1:?");
    assert!(scene.delivery.is_running());
    assert_eq!(env(&run, "PICORED_UP_ADDRS"), "192.0.2.1 192.0.2.2");
    scene.end(id, 0);
    assert_eq!(scene.tag_shown(), format!("i:1:{}", goal_hash(&[1, 2])));
    scene.run_for(secs(300));
    assert_eq!(scene.runs(), []);
}

#[test]
fn later_changes_do_not_prolong_the_debounce() {
    let mut scene = Scene::new(sync_one());
    for goal in [vec![1], vec![1, 2], vec![2]] {
        scene.goal = Some(goal);
        scene.run_for(secs(1));
    }
    scene.look();
    assert_eq!(env(&scene.only_run().1, "PICORED_UP_ADDRS"), "192.0.2.2");
}

#[test]
fn a_change_that_goes_back_within_the_debounce_runs_nothing() {
    let mut scene = Scene::new(sync_one()).settled();
    scene.goal = Some(vec![1]);
    scene.run_for(secs(2));
    scene.goal = Some(vec![1, 2]);
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
}

#[test]
fn a_newer_set_never_kills_a_run_and_obsolete_ones_are_dropped() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    for goal in [vec![1], vec![3], vec![2, 3]] {
        scene.goal = Some(goal);
        scene.run_for(secs(5));
    }
    assert_eq!(scene.actions, []);
    scene.end(id, 0);
    scene.run_for(secs(30));
    let (_, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_UP_ADDRS"), "192.0.2.2 192.0.2.3");
    assert_eq!(env(&run, "PICORED_ADD"), "192.0.2.3");
    assert_eq!(env(&run, "PICORED_REMOVE"), "192.0.2.1");
    assert_eq!(env(&run, "PICORED_GENERATION"), "2");
}

#[test]
fn runs_are_min_interval_apart() {
    let mut scene = Scene::new(Config { min_interval: secs(60), debounce: secs(0), ..sync_one() });
    scene.look();
    let (id, _) = scene.only_run();
    scene.end(id, 0);
    scene.goal = Some(vec![1]);
    scene.run_for(Duration::from_millis(59_999));
    assert_eq!(scene.runs(), []);
    scene.run_for(Duration::from_millis(1));
    scene.only_run();
}

#[test]
fn failures_are_retried_with_a_growing_backoff_and_the_outside_is_unknown_meanwhile() {
    for (seed, code) in [(1, 1), (2, 75), (3, 1), (4, 75)] {
        let mut scene = Scene::seeded(sync_one(), seed);
        scene.run_for(secs(3));
        for (attempt, backoff) in [(2, 5u64), (3, 10), (4, 20), (5, 40)] {
            let (id, _) = scene.only_run();
            scene.end(id, code);
            assert!(scene.tag_shown().ends_with(":?"), "{}", scene.tag_shown());
            // min_interval is the least.
            scene.run_for(Duration::from_millis(backoff * 800 - 1));
            assert_eq!(scene.runs(), [], "before attempt {attempt}");
            scene.run_for(Duration::from_millis(backoff * 400 + 1_000));
            let run = scene.only_run();
            assert_eq!(env(&run.1, "PICORED_ATTEMPT"), attempt.to_string());
            assert_eq!(env(&run.1, "PICORED_REASON"), "retry");
            scene.actions.push(Action::Run { id: run.0, run: Box::new(run.1) });
        }
    }
}

#[test]
fn after_three_failures_it_stands_back_and_shows_f_for_ten_minutes() {
    let config = with_runner(OWN, sync_one());
    let key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, "i:0:-")]);
    for _ in 0..3 {
        scene.run_for(secs(30));
        let (id, _) = scene.only_run();
        scene.end(id, 1);
    }
    assert_eq!(scene.tag_shown(), "f:3:?");
    scene.run_for(secs(590));
    assert_eq!(scene.runs(), [], "par1 is the runner now");
    scene.run_for(secs(11));
    assert_eq!(scene.tag_shown(), "i:3:?");
    scene.run_for(secs(3));
    assert_eq!(scene.tag_shown(), "r:4:?");
}

#[test]
fn if_all_stood_back_one_goes_on_in_its_backoff() {
    let config = with_runner(OWN, sync_one());
    let key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, "f:0:-")]);
    for _ in 0..4 {
        scene.run_for(secs(40));
        let (id, _) = scene.only_run();
        scene.end(id, 1);
    }
}

#[test]
fn exits_that_mean_never_are_not_retried_here() {
    for exit in [Exit::Code(77), Exit::Code(78), Exit::Code(126), Exit::Code(127)] {
        let mut scene = Scene::new(sync_one());
        scene.run_for(secs(3));
        let (id, _) = scene.only_run();
        scene.delivery.handle_exit(scene.now, id, exit, b"");
        scene.run_for(secs(3_600));
        assert_eq!(scene.runs(), []);
        assert_eq!(scene.tag_shown(), "n:1:?");
    }
}

#[test]
fn nothing_runs_when_the_record_already_has_the_set() {
    let config = sync_one();
    let shown = format!("i:41:{}", goal_hash(&[1, 2]));
    for state in [MemberState::Alive, MemberState::Dead, MemberState::Left] {
        let mut scene = Scene::new(config.clone()).other("par1", &[("h.dns.web", &shown)]);
        scene.member("par1").state = state;
        scene.run_for(secs(599));
        assert_eq!(scene.runs(), [], "{state:?}");
    }
}

#[test]
fn another_set_in_the_greatest_record_is_a_change_and_its_number_is_passed() {
    let config = with_runner(OWN, sync_one());
    let shown = format!("f:41:{}", goal_hash(&[1]));
    let key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, &shown)]);
    scene.run_for(secs(3));
    let (_, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_GENERATION"), "42");
    assert_eq!(env(&run, "PICORED_REASON"), "change");
    assert_eq!(scene.tag_shown(), "r:42:?");
}

#[test]
fn only_the_runner_acts_and_another_takes_over_when_it_fails() {
    let config = with_runner("par1", sync_one());
    let key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, "r:7:?")]);
    scene.run_for(secs(20));
    assert_eq!(scene.runs(), []);
    scene.member("par1").state = MemberState::Dead;
    scene.run_for(secs(19));
    assert_eq!(scene.runs(), [], "par1's run may still go on: timeout + 10 s since it was seen");
    scene.run_for(secs(1));
    let (_, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_REASON"), "takeover");
    assert_eq!(env(&run, "PICORED_GENERATION"), "8");
}

#[test]
fn no_run_while_another_s_is_fresh_even_for_another_app_of_the_handler() {
    let config = with_runner(OWN, sync_one());
    let key = format!("h.{}.mail", config.name);
    let own_key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, "r:3:?"), (&own_key, "i:0:-")]);
    scene.run_for(secs(10));
    assert_eq!(scene.runs(), []);
    scene.tag("par1", &[(&key, "i:3:00000000"), (&own_key, "i:0:-")]);
    scene.run_for(secs(1));
    scene.only_run();
}

#[test]
fn a_record_that_nobody_shows_any_more_is_shown_on_without_a_run() {
    let shown = format!("i:9:{}", goal_hash(&[1, 2]));
    let mut scene = Scene::new(sync_one()).other("par1", &[("h.dns.web", &shown)]);
    scene.run_for(secs(5));
    assert_eq!(scene.tag_shown(), "i:0:-");
    scene.members.retain(|m| &*m.name == OWN);
    scene.run_for(secs(60));
    assert_eq!(scene.tag_shown(), shown);
    assert_eq!(scene.runs(), []);
}

#[test]
fn an_old_record_is_told_again_after_resync() {
    let mut scene = Scene::new(sync_one()).settled();
    scene.run_for(secs(530));
    assert_eq!(scene.runs(), []);
    scene.run_for(secs(20));
    let (_, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_REASON"), "resync");
}

#[test]
fn without_resync_a_record_never_gets_old() {
    let mut scene = Scene::new(Config { resync: secs(0), ..sync_one() }).settled();
    scene.run_for(secs(100_000));
    assert_eq!(scene.runs(), []);
}

#[test]
fn another_handler_s_run_whose_name_begins_alike_is_not_waited_for() {
    let config = with_runner(OWN, sync_one());
    let alike = format!("h.{}x.web", config.name);
    let key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, "i:0:-"), (&alike, "r:3:?")]);
    scene.run_for(secs(3));
    scene.only_run();
}

#[test]
fn an_app_that_is_due_again_and_again_does_not_starve_the_other_of_its_handler() {
    let config = Config { apps: vec!["mail".into(), "web".into()], min_interval: secs(0), ..sync_one() };
    let mut scene = Scene::new(config);
    scene.run_for(secs(3));
    let (id, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_APP"), "mail");
    scene.goal = Some(vec![1]);
    scene.run_for(secs(10));
    scene.end(id, 0);
    assert_eq!(env(&scene.only_run().1, "PICORED_APP"), "web");
}

#[test]
fn what_the_record_says_was_told_is_what_every_node_takes_the_outside_to_show() {
    let config = with_runner("par1", sync_one());
    let key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, "r:1:?")]);
    scene.look();
    assert_eq!(scene.delivery.published("web"), Some(None));
    scene.tag("par1", &[(&key, &format!("i:1:{}", goal_hash(&[1, 2])))]);
    scene.look();
    let published = scene.delivery.published("web").flatten().expect("told");
    assert_eq!(published.iter().map(|entry| entry.addr).collect::<Vec<_>>(), [ip(1), ip(2)]);
    // The next set is not taken over before its record is seen.
    scene.goal = Some(vec![1]);
    scene.look();
    assert_eq!(scene.delivery.published("web").flatten().map(|set| set.len()), Some(2));
}

#[test]
fn at_the_end_of_the_numbers_a_success_is_a_success() {
    // A broken peer whose name is greater: no record of ours is greater any more.
    let config = with_runner(OWN, sync_one());
    let key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, "n:4000000000:deadbeef")]);
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    scene.end(id, 0);
    for _ in 0..3 {
        scene.run_for(secs(599));
        assert_eq!(scene.runs(), []);
        scene.run_for(secs(5));
        let (id, run) = scene.only_run();
        assert_eq!(env(&run, "PICORED_REASON"), "resync");
        scene.end(id, 0);
    }
    scene.goal = Some(vec![1]);
    scene.run_for(secs(5));
    scene.only_run();
}

#[test]
fn each_handler_keeps_what_its_own_outside_shows() {
    let broken = Config { name: "api".into(), ..sync_one() };
    let mut scene = Scene::new(sync_one());
    scene.delivery = Delivery::new(vec![sync_one(), broken], 1, Instant::ZERO);
    let end = |scene: &mut Scene, broken: i32| {
        scene.run_for(secs(10));
        for (id, run) in scene.runs() {
            scene.end(id, if env(&run, "ZONE") != "(none)" && &*run.handler == "api" { broken } else { 0 });
        }
    };
    end(&mut scene, 0);
    scene.goal = Some(vec![1]);
    end(&mut scene, 1);
    let count = |set: Option<Addresses>| set.map(|set| set.len());
    let by: Vec<_> =
        scene.delivery.published_by("web").into_iter().map(|(name, set)| (name, count(set))).collect();
    assert_eq!(by, [("dns".into(), Some(1)), ("api".into(), Some(2))]);
    // Either's outside may show it.
    assert_eq!(count(scene.delivery.published("web").flatten()), Some(2));
}

#[test]
fn closed_gates_start_nothing_and_show_n_from_the_start_or_after_five_seconds() {
    let mut scene = Scene::new(sync_one());
    scene.may_act = Err(Reason::Settling);
    scene.run_for(secs(30));
    assert_eq!((scene.runs(), scene.tag_shown()), (vec![], "n:0:-".into()));
    scene.may_act = Ok(());
    let mut scene = scene.settled();
    scene.may_act = Err(Reason::Settling);
    scene.goal = Some(vec![1]);
    scene.run_for(Duration::from_millis(4_999));
    assert!(scene.tag_shown().starts_with("i:1:"));
    scene.run_for(secs(5));
    assert!(scene.tag_shown().starts_with("n:1:"));
    assert_eq!(scene.runs(), []);
}

#[test]
fn without_a_set_to_publish_nothing_runs() {
    let mut scene = Scene::new(sync_one());
    scene.goal = None;
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
}

#[test]
fn a_sync_handler_for_all_tells_what_differs_from_its_own_last_success_and_shows_no_tag() {
    let mut scene = Scene::new(config(Mode::Sync, Place::All)).other("par1", &[("h.dns.web", "r:5:?")]);
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    assert_eq!(scene.delivery.tags(), []);
    scene.end(id, 1);
    scene.run_for(secs(7));
    let (id, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_ADD"), "192.0.2.1 192.0.2.2", "the failed run told nothing");
    scene.end(id, 0);
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
}

#[test]
fn a_sync_run_is_told_everything_that_the_contract_lists() {
    let mut scene = Scene::new(sync_one()).settled();
    scene.goal = Some(vec![2]);
    scene.run_for(secs(3));
    let (_, run) = scene.only_run();
    for (name, value) in [
        ("ZONE", "example.com"),
        ("PICORED_MODE", "sync"),
        ("PICORED_EVENT", "sync"),
        ("PICORED_APP", "web"),
        ("PICORED_UP_ADDRS4", "192.0.2.2"),
        ("PICORED_UP_ADDRS6", ""),
        ("PICORED_UP_NODES", "n2"),
        ("PICORED_ALL_ADDRS", "192.0.2.1 192.0.2.2 192.0.2.3"),
        ("PICORED_ALL_NODES", "n1 n2 n3"),
        ("PICORED_ADD", ""),
        ("PICORED_REMOVE", "192.0.2.1"),
        ("PICORED_GUARD", ""),
        ("PICORED_ATTEMPT", "1"),
        ("PICORED_SELF", OWN),
        ("PICORED_CLUSTER", "tny"),
        ("PICORED_DRY_RUN", "0"),
        ("PICORED_NODE", "(none)"),
    ] {
        assert_eq!(env(&run, name), value, "{name}");
    }
    let stdin = String::from_utf8(run.stdin).expect("text");
    let start = r#"{"v":1,"mode":"sync","app":"web","reason":"change","generation":2,"attempt":1,"dry_run":false,"self":{"node":"fra1"},"cluster":{"name":"tny","known":1,"alive":1,"quorum":true,"witness":null},"publish":{"nodes":["n2"],"addrs4":["192.0.2.2"],"addrs6":[]},"previous":{"generation":1,"nodes":["n1","n2"]},"guard":null,"members":["#;
    assert!(stdin.starts_with(start), "{stdin}");
    let last = r#"{"node":"n3","state":"alive","app":"down","since":1000000,"addrs":["192.0.2.3"],"published":false,"why":"http 502, 3/3 failed"}]}"#;
    assert_eq!(stdin.trim_end().get(stdin.len() - 1 - last.len()..), Some(last));
}

#[test]
fn the_previous_set_comes_with_the_number_of_the_run_that_told_it() {
    let mut scene = Scene::new(sync_one()).settled();
    scene.goal = Some(vec![1]);
    for generation in 2..=3 {
        scene.run_for(secs(20));
        let (id, run) = scene.only_run();
        assert_eq!(env(&run, "PICORED_GENERATION"), generation.to_string());
        let stdin = String::from_utf8(run.stdin).expect("text");
        assert!(stdin.contains(r#""previous":{"generation":1,"nodes":["n1","n2"]}"#), "{stdin}");
        scene.end(id, 1);
    }
}

#[test]
fn the_guard_is_that_of_the_set_that_is_told() {
    let mut scene = Scene::new(sync_one());
    scene.guard = Some(Reason::KeepLast { good: 1, needed: 2 });
    scene.run_for(secs(3));
    let (_, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_GUARD"), "keep-last");
    let stdin = String::from_utf8(run.stdin).expect("text");
    assert!(stdin.contains(r#""guard":"keep-last""#), "{stdin}");
}

#[test]
fn output_is_kept_to_its_end_and_made_printable() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    let mut output = vec![b'x'; 10_000];
    output.extend(b"\x1b[31m\xff end\n");
    scene.delivery.handle_exit(scene.now, id, Exit::Code(1), &output);
    let kept = core::iter::from_fn(|| scene.delivery.poll_action()).find_map(|action| match action {
        Action::Report(Report { what: ReportKind::Failed { output, .. }, .. }) => Some(output),
        _ => None,
    });
    let kept = kept.expect("a report");
    assert!(kept.len() <= crate::limits::OUTPUT_MAX + 2, "{}", kept.len());
    assert!(kept.ends_with("?[31m\u{fffd} end"), "{kept}");
}

#[test]
fn no_tag_ever_exceeds_what_the_check_at_load_reckons_with() {
    let configs = [sync_one(), Config { name: "mail".into(), ..config(Mode::Event, Place::One) }];
    let tags = Delivery::tags_max(&configs);
    let keys: Vec<&str> = tags.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, ["h.dns.web", "h.mail"]);
    assert_eq!(tags.first().map(|(_, value)| value.len()), Some("r:4000000000:ffffffff".len()));
}
