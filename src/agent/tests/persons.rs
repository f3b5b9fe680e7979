//! `why`, `sync` and `test-handler` as the control socket answers them.

use super::*;
use crate::control::{Rehearsed, Synced, Why};

fn dns() -> delivery::Config {
    delivery::Config {
        name: "dns".into(),
        mode: Mode::Sync,
        place: Place::One,
        events: Vec::new(),
        timeout: secs(20),
        env: vec![("ZONE".into(), "example.com".into()), ("TOKEN".into(), "s3cret".into())],
        secrets: vec!["TOKEN".into()],
        ..mail()
    }
}

fn why(world: &mut World) -> Why {
    serde_json::from_str(&world.ask(r#"{"cmd":"why"}"#)[0]).unwrap()
}

fn synced(world: &mut World, line: &str) -> Synced {
    serde_json::from_str(&world.ask(line)[0]).unwrap()
}

#[test]
fn why_says_of_each_address_what_decided() {
    let mut world = World::new(vec![dns()]);
    let early = why(&mut world);
    assert!(early.waiting.is_some(), "{early:?}");
    world.run_for(secs(60));
    let reply = why(&mut world);
    let (app, address) = (&reply.apps[0], &reply.apps[0].addresses[0]);
    assert_eq!((reply.waiting.as_deref(), &*app.name, app.addresses.len()), (None, "web", 1));
    assert_eq!((&*address.address, &*address.node, &*address.why), ("192.0.2.1", "fra1", "up"));
    assert_eq!((address.publish, address.shown), (Some(true), Some(true)));
    assert_eq!((app.jobs[0].runner.as_deref(), &*app.jobs[0].handler), (Some("fra1"), "dns"));
    assert!(app.jobs[0].records[0].1.starts_with("i:1:"), "{app:?}");
    world.ask(r#"{"cmd":"app","app":"web","to":"down","by":"anna"}"#);
    let kept = &why(&mut world).apps[0];
    let guard = "only 0 of at least 1 up: nothing is removed";
    assert_eq!(kept.guard.as_deref(), Some(guard));
    assert_eq!(kept.addresses[0].why, format!("forced down by anna, but {guard}"));
    let refused = world.ask(r#"{"cmd":"why","app":"wbe"}"#).concat();
    assert!(refused.contains("did you mean web?"), "{refused}");
}

#[test]
fn a_dry_sync_tells_what_would_be_told_and_runs_nothing() {
    let mut world = World::new(vec![dns(), mail()]);
    world.run_for(secs(60));
    world.done.clear();
    let plan = synced(&mut world, r#"{"cmd":"sync","dry_run":true}"#);
    let job = &plan.jobs[0];
    assert!(plan.dry_run && plan.jobs.len() == 1 && job.here, "{plan:?}");
    assert_eq!((&*job.text, job.publish.as_deref()), ("would run here", Some(&["192.0.2.1".to_owned()][..])));
    assert_eq!((job.add.len(), job.remove.len()), (0, 0));
    world.run_for(secs(5));
    assert_eq!(world.runs(), 0);
    let mut closed = World::new(vec![dns()]);
    let job = synced(&mut closed, r#"{"cmd":"sync","handler":"dns"}"#).jobs.remove(0);
    assert!(!job.here && job.text.starts_with("runs nothing: still settling"), "{job:?}");
    let refused = world.ask(r#"{"cmd":"sync","handler":"mail"}"#).concat();
    assert!(refused.contains("mode event"), "{refused}");
    assert!(world.ask(r#"{"cmd":"sync","handler":"x"}"#).concat().contains("configuration: dns, mail"));
}

fn rehearse(world: &mut World, line: &str) -> (Vec<String>, Option<delivery::Run>) {
    world.done.clear();
    let replies = world.ask(line);
    let run = world.done.iter().find_map(|action| match action {
        Action::Run { run, .. } => Some((**run).clone()),
        _ => None,
    });
    (replies, run)
}

#[test]
fn a_rehearsal_is_told_as_a_run_would_be_and_changes_nothing() {
    let mut world = World::new(vec![dns()]);
    world.run_for(secs(60));
    let before = world.status().handlers;
    let (replies, run) = rehearse(&mut world, r#"{"cmd":"test-handler","handler":"dns"}"#);
    let run = run.expect("it runs");
    let var = |name: &str| run.env.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value);
    assert_eq!((var("PICORED_DRY_RUN"), var("PICORED_EVENT")), (Some("1"), Some("test")));
    assert_eq!((var("PICORED_UP_ADDRS"), var("PICORED_REASON")), (Some("192.0.2.1"), Some("manual")));
    assert_eq!(var("TOKEN"), Some("s3cret"), "the handler itself needs it");
    assert!(String::from_utf8_lossy(&run.stdin).contains(r#""dry_run":true"#));
    let shown: Rehearsed = serde_json::from_str(&replies[0]).unwrap();
    assert_eq!(shown.meaning, "the outside equals the set: recorded");
    assert!(shown.succeeded && shown.exit == "exit 0" && !replies[0].contains("s3cret"), "{replies:?}");
    assert!(shown.env.contains(&("TOKEN".into(), "********".into())), "{shown:?}");
    let after = world.status().handlers;
    assert_eq!((&after[0].last_run, after[0].failures_in_a_row), (&before[0].last_run, 0));
    world.run_for(secs(60));
    assert_eq!(world.runs(), 0);
}

#[test]
fn a_rehearsal_that_hangs_is_ended_and_no_other_run_starts_meanwhile() {
    let mut world = World::new(vec![dns()]);
    world.run_for(secs(60));
    world.runs_hang = true;
    let (replies, _) = rehearse(&mut world, r#"{"cmd":"test-handler","handler":"dns"}"#);
    assert_eq!(replies, [""; 0], "it waits");
    let again = world.ask(r#"{"cmd":"test-handler","handler":"dns"}"#).concat();
    assert!(again.contains("is being tested already"), "{again}");
    world.done.clear();
    // Time for a resync.
    world.run_for(secs(1_000));
    let signals = world.done.iter().filter_map(|action| match action {
        Action::Signal { id, signal } => Some((*id, *signal)),
        _ => None,
    });
    let signals: Vec<_> = signals.collect();
    assert!(matches!(signals[..], [(a, Signal::Term), (b, Signal::Kill)] if a == b), "{signals:?}");
    assert_eq!(world.runs(), 0);
    world.runs_hang = false;
    world.done.clear();
    world.agent.handle_exit(world.now, signals[0].0, Exit::Signal(9), b"my s3cret is out");
    world.drain();
    let reply = world.done.iter().find_map(|action| match action {
        Action::Reply { line, .. } => Some(line.clone()),
        _ => None,
    });
    let shown: Rehearsed = serde_json::from_str(&reply.expect("the answer")).unwrap();
    assert_eq!((shown.succeeded, &*shown.output), (false, "my ******** is out"));
    assert!(shown.meaning.contains("over its timeout"), "{shown:?}");
    assert_eq!(world.runs(), 1, "the resync that waited");
}

#[test]
fn a_rehearsal_is_refused_while_the_handler_runs_and_of_what_is_not_there() {
    let mut world = World::new(vec![dns(), mail()]);
    world.runs_hang = true;
    world.run_for(secs(60));
    for (line, why) in [
        (r#""dns""#, "dns runs at this moment"),
        (r#""dsn""#, "no handler dsn; handlers of the configuration: dns, mail"),
        (r#""mail","app":"db""#, "no app db; apps of the configuration: web"),
        (r#""mail","node":"nyc1""#, "no member nyc1"),
    ] {
        let (replies, run) = rehearse(&mut world, &format!(r#"{{"cmd":"test-handler","handler":{line}}}"#));
        assert!(replies.concat().contains(why) && run.is_none(), "{line}: {replies:?}");
    }
    world.runs_hang = false;
    let (replies, run) =
        rehearse(&mut world, r#"{"cmd":"test-handler","handler":"mail","event":"node-failed"}"#);
    let shown: Rehearsed = serde_json::from_str(&replies[0]).unwrap();
    assert_eq!(shown.meaning, "the event is told: done with it");
    let env = run.expect("another handler").env;
    let var = |name: &str| env.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value);
    assert_eq!((var("PICORED_EVENT"), var("PICORED_NODE")), (Some("node-failed"), Some("fra1")));
    assert_eq!((var("PICORED_STATE"), var("PICORED_APP")), (Some("down"), Some("")));
}

#[test]
fn while_the_node_ends_a_rehearsal_is_waited_for_and_nothing_is_promised() {
    let mut world = World::new(vec![dns()]);
    world.run_for(secs(60));
    world.runs_hang = true;
    rehearse(&mut world, r#"{"cmd":"test-handler","handler":"dns"}"#);
    let reply = world.ask(r#"{"cmd":"stop"}"#).concat();
    assert!(reply.contains("waits for the handler that runs"), "{reply}");
    let exits = |world: &World| world.done.contains(&Action::Exit { code: 0 });
    assert!(!exits(&world));
    let refused = world.ask(r#"{"cmd":"sync"}"#).concat();
    assert!(refused.contains("this node is stopping; it starts no handler"), "{refused}");
    let job = synced(&mut world, r#"{"cmd":"sync","dry_run":true}"#).jobs.remove(0);
    assert!(!job.here && job.text.starts_with("runs nothing: this node is stopping"), "{job:?}");
    world.done.clear();
    // TERM after 20 s, KILL later, and then it is stuck, and not waited for.
    world.run_for(secs(19));
    assert!(!exits(&world));
    world.run_for(secs(60));
    assert!(exits(&world));
}

/// Goal: what a person is told is what then happens.
#[test]
fn a_sync_says_what_it_waits_for() {
    let mut world = World::new(vec![delivery::Config { min_interval: secs(30), ..dns() }]);
    world.run_for(secs(60));
    world.done.clear();
    let text = |world: &mut World| synced(world, r#"{"cmd":"sync"}"#).jobs.remove(0).text;
    assert_eq!((text(&mut world).as_str(), world.runs()), ("runs here now", 1));
    world.run_for(secs(1));
    world.done.clear();
    assert_eq!((text(&mut world).as_str(), world.runs()), ("runs here when this is over: min_interval", 0));
    let dry = synced(&mut world, r#"{"cmd":"sync","dry_run":true}"#).jobs.remove(0);
    assert_eq!((dry.here, &*dry.text), (true, "would run here when this is over: min_interval"));
    world.run_for(secs(30));
    assert_eq!(world.runs(), 1);
}

/// Method: par1, which the configuration names, was never seen.
#[test]
fn who_was_never_seen_is_named_by_a_dry_sync_and_by_why() {
    let mut config = config(vec![dns()]);
    (config.membership.members, config.safety.quorum) = (vec!["par1".into()], false);
    let mut world = World::of(Agent::new(config, Seed::from_u64(7), Instant::ZERO));
    world.run_for(secs(60));
    let waits = why(&mut world).apps[0].jobs[0].waits.clone().unwrap_or_default();
    let unseen =
        "what is published is not known, and par1 was never seen alive; `picored sync` goes on without";
    assert_eq!(waits, unseen);
    let dry = synced(&mut world, r#"{"cmd":"sync","dry_run":true}"#).jobs.remove(0);
    assert_eq!((dry.here, dry.text), (true, format!("would run here all the same: {unseen}")));
    let verdict = delivery::Unseen::Verdict { node: "n2".into() }.to_string();
    assert!(verdict.contains("`picored sync` goes on without"), "{verdict}");
    assert_eq!(synced(&mut world, r#"{"cmd":"sync"}"#).jobs.remove(0).add, ["192.0.2.1"]);
    assert_eq!(world.runs(), 1);
}
