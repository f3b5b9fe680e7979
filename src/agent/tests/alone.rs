//! The gates of one node: what it reads, what it remembers, what it cannot know.

use super::cluster::dns;
use super::reload::reload;
use super::state::stored;
use super::tries::{hear, with_member, with_members};
use super::*;
use crate::safety::Verify;
use crate::wire::{Claim, Message};

/// `fra1` with a witness, and `par1.example.net` in `join`.
fn with_name() -> World {
    let mut config = config(vec![dns()]);
    config.apps[0].policy.verify = Some(Verify::Tcp { port: 443 });
    config.safety.witness = vec![Target::Tcp("198.51.100.53:53".parse().unwrap())];
    config.membership.join = vec![membership::Target::Name { host: "par1.example.net".into(), port: 7946 }];
    World::of(Agent::new(config, Seed::from_u64(7), Instant::ZERO))
}

impl World {
    /// Answers the look-ups so far; gives their number.
    fn resolve(&mut self, addresses: &[IpAddr]) -> usize {
        let lookup = |action: &Action| match action {
            Action::Membership(membership::Action::Resolve { id, .. }) => Some(*id),
            _ => None,
        };
        let ids: Vec<_> = self.done.iter().filter_map(lookup).collect();
        self.done.clear();
        for id in &ids {
            self.agent.handle_resolved(
                self.now,
                *id,
                addresses,
                if addresses.is_empty() { "no such host" } else { "" },
            );
            self.drain();
        }
        ids.len()
    }

    fn waiting(&mut self) -> String {
        self.status().waiting.unwrap_or_default()
    }

    /// Answers those that hang.
    fn answer_attempts(&mut self, passes: impl Fn(&str) -> bool) {
        let attempt = |action: &Action| match action {
            Action::Attempt { id, target } => Some((*id, passes(&target.to_string()))),
            _ => None,
        };
        let open: Vec<(AttemptId, bool)> = self.done.iter().filter_map(attempt).collect();
        for (id, passes) in open {
            let outcome =
                if passes { Outcome::Pass("connected".into()) } else { Outcome::Fail("refused".into()) };
            self.agent.handle_attempt(self.now, id, outcome);
            self.drain();
        }
    }

    fn tries_at(&self, to: &str) -> Vec<AttemptId> {
        let tried = |action: &Action| match action {
            Action::Attempt { id, target } if target.to_string() == format!("tcp {to}") => Some(*id),
            _ => None,
        };
        self.done.iter().filter_map(tried).collect()
    }
}

#[test]
fn a_name_in_join_that_was_never_reached_is_tried_at_its_hosts() {
    let mut world = with_name();
    world.run_for(secs(60));
    assert!(world.resolve(&[]) > 0);
    assert!(world.waiting().contains("par1.example.net:7946 is still being tried"), "{}", world.waiting());
    world.run_for(secs(120));
    // Attempts pass here: it serves.
    assert!(world.resolve(&[[203, 0, 113, 7].into(), [203, 0, 113, 8].into()]) > 0);
    assert_eq!((world.tries_at("203.0.113.7:443").len(), world.tries_at("203.0.113.8:443").len()), (1, 1));
    assert!(world.waiting().contains("par1.example.net:7946 still serves"), "{}", world.waiting());
    // From now on nobody is there.
    world.attempts_hang = true;
    for _ in 0..40 {
        world.done.clear();
        world.run_for(secs(1));
        world.answer_attempts(|target| !target.contains(":443"));
    }
    assert_eq!(world.waiting(), "");
    let why = world.ask(r#"{"cmd":"why"}"#).concat();
    assert!(why.contains("par1.example.net:7946 was never seen alive"), "{why}");
}

#[test]
fn a_rehearsal_is_told_what_the_gates_know() {
    let mut config = config(vec![dns()]);
    config.safety.witness = vec![Target::Tcp("198.51.100.53:53".parse().unwrap())];
    let mut world = World::of(Agent::new(config, Seed::from_u64(7), Instant::ZERO));
    world.run_for(secs(60));
    world.ask(r#"{"cmd":"test-handler","handler":"dns"}"#);
    let rehearsed = |action: &Action| match action {
        Action::Run { run, .. } => Some(String::from_utf8_lossy(&run.stdin).into_owned()),
        _ => None,
    };
    let stdin = world.done.iter().find_map(rehearsed).unwrap_or_else(|| panic!("{:?}", world.done));
    assert!(stdin.contains(r#""witness":"1/1""#), "{stdin}");
}

/// How many of how many vote.
fn votes(world: &mut World) -> (usize, usize) {
    let quorum = world.status().quorum.expect("it is on");
    (quorum.alive, quorum.electorate)
}

fn published(world: &mut World) -> Vec<String> {
    world.status().apps[0].publish.clone().unwrap_or_default()
}

#[test]
fn an_app_that_a_reload_brings_holds_its_own_jobs_only() {
    let of = |apps: &[&str]| {
        let apps = apps.iter().map(|&app| app.into()).collect();
        vec![delivery::Config { apps, ..dns() }]
    };
    let mut world = World::new(of(&["web"]));
    world.run_for(secs(60));
    let mut new = reload(KeyRing::default(), None);
    (new.handlers, new.publish) = (of(&["db", "web"]), vec![[203, 0, 113, 9].into()]);
    let mut db = new.apps[0].clone();
    db.check.name = "db".into();
    new.apps.push(db);
    world.attempts_hang = true;
    world.reload(new);
    world.run_for(secs(4));
    assert_eq!((world.runs(), world.waiting()), (1, String::new()), "web's set is another one");
    world.attempts_hang = false;
    world.done.clear();
    world.run_for(secs(30));
    assert_eq!(world.runs(), 1);
}

/// Method: what is published is known here, and another node joins meanwhile.
#[test]
fn an_app_whose_checks_begin_anew_is_not_told_before_their_verdict() {
    let mut world = World::new(vec![dns()]);
    world.run_for(secs(60));
    let mut new = reload(KeyRing::default(), None);
    new.handlers = vec![dns()];
    new.apps[0].check.checks[0].target = Target::Tcp("127.0.0.1:81".parse().unwrap());
    world.attempts_hang = true;
    world.reload(new);
    with_members(&mut world, 1);
    world.run_for(secs(4));
    assert_eq!((world.runs(), world.waiting()), (0, String::new()));
    let why = world.ask(r#"{"cmd":"why"}"#).concat();
    assert!(why.contains("the checks of web have no verdict here yet"), "{why}");
}

#[test]
fn who_is_expected_follows_the_configuration() {
    let mut world = World::new(vec![dns()]);
    world.run_for(secs(1));
    assert_eq!(votes(&mut world), (1, 1));
    let mut new = reload(KeyRing::default(), None);
    new.handlers = vec![dns()];
    new.membership.members = vec!["fra1".into(), "par1".into()];
    world.reload(new);
    assert_eq!(votes(&mut world), (1, 2));
}

fn fail(world: &mut World, node: &str) {
    hear(world, &Message::Dead(Claim { node, from: "n9", incarnation: 1 }));
}

/// Method: the run that would tell the set without it does not end before the restart.
#[test]
fn who_was_forgotten_is_kept_by_no_gate_over_a_restart() {
    // The other one does not answer pings, and a suspect's vote does not count.
    let stored = |saved| {
        let mut config = config(vec![dns()]);
        config.safety.quorum = false;
        World::of(Agent::with_state(config, Seed::from_u64(7), Instant::ZERO, secs(1_800_000_000), saved))
    };
    let mut world = stored(None);
    world.run_for(secs(30));
    with_members(&mut world, 1);
    world.run_for(secs(4));
    fail(&mut world, "n000");
    world.ask(r#"{"cmd":"app","app":"web","to":"down"}"#);
    assert_eq!(published(&mut world), ["192.0.2.1", "192.0.2.10"]);
    world.runs_hang = true;
    world.ask(r#"{"cmd":"forget","node":"n000"}"#);
    let saved = world.last_saved();
    let mut again = stored(Some(saved));
    again.runs_hang = true;
    again.run_for(secs(30));
    assert_eq!(published(&mut again), ["192.0.2.1"]);
}

/// Nothing is told when only the name of an address changes, so P may hold the old one for long.
#[test]
fn a_renamed_node_is_kept_though_its_old_name_was_forgotten() {
    let mut config = config(vec![delivery::Config { place: Place::All, ..dns() }]);
    config.safety.quorum = false;
    let mut world = World::of(Agent::new(config, Seed::from_u64(7), Instant::ZERO));
    world.run_for(secs(30));
    with_member(&mut world, "n000", 10);
    world.run_for(secs(4));
    assert_eq!(published(&mut world), ["192.0.2.1", "192.0.2.10"]);
    fail(&mut world, "n000");
    with_member(&mut world, "renamed", 10);
    world.ask(r#"{"cmd":"forget","node":"n000"}"#);
    world.run_for(secs(1));
    fail(&mut world, "renamed");
    assert_eq!(published(&mut world), ["192.0.2.1", "192.0.2.10"], "it failed just now");
}

#[test]
fn who_was_forgotten_has_no_vote_though_the_file_expects_it() {
    let expects = |saved| {
        let mut config = config(vec![dns()]);
        config.membership.members = vec!["fra1".into(), "n000".into()];
        World::of(Agent::with_state(config, Seed::from_u64(7), Instant::ZERO, secs(1_800_000_000), saved))
    };
    let mut world = expects(None);
    with_members(&mut world, 1);
    assert_eq!(votes(&mut world), (2, 2));
    fail(&mut world, "n000");
    assert_eq!(votes(&mut world), (1, 2));
    world.ask(r#"{"cmd":"forget","node":"n000"}"#);
    let saved = world.last_saved();
    assert_eq!(votes(&mut world), (1, 1));
    assert_eq!(votes(&mut expects(Some(saved))), (1, 1));
}

#[test]
fn who_is_only_remembered_does_not_count_as_alive() {
    let mut world = stored(vec![dns()], None);
    with_members(&mut world, 1);
    world.run_for(secs(6));
    let saved = world.last_saved();
    assert_eq!(votes(&mut stored(vec![dns()], Some(saved))), (1, 2));
}

#[test]
fn who_was_forgotten_has_lost_its_vote_when_that_is_stored() {
    let mut world = stored(vec![dns()], None);
    with_members(&mut world, 1);
    world.run_for(secs(6));
    let mut saved = world.last_saved();
    saved.safety.voters = Some(vec!["fra1".into(), "n000".into()]);
    let mut again = stored(vec![dns()], Some(saved));
    fail(&mut again, "n000");
    assert!(again.ask(r#"{"cmd":"forget","node":"n000"}"#).concat().contains("is forgotten here"));
    assert_eq!(again.last_saved().safety.voters, Some(vec!["fra1".into()]));
}
