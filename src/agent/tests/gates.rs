//! The gates at work in whole nodes: what is tried, told and held while members fail, come back, or only seem to.

use super::cluster::{Cluster, Ran, addr, dns};
use super::*;
use crate::safety::OnNoQuorum;

/// From the death of one of few until the others see it failed, at most.
const SEEN: Duration = Duration::from_secs(20);
/// From there to the run: `node_down_after`, the debounce and a little.
const ACTED: Duration = Duration::from_secs(10);

fn plain(_: usize, _: &mut Config) {}

fn no_witness(_: usize, config: &mut Config) {
    config.safety.witness.clear();
}

/// The sets that the `sync` handler was told, in order.
fn sets(cluster: &Cluster) -> Vec<String> {
    cluster.told().iter().map(|ran| ran.publish.clone()).collect()
}

// Gate 5.

#[test]
fn who_failed_but_serves_stays_is_told_of_once_and_tried_again_until_it_does_not() {
    let mut cluster = Cluster::settled(3, plain);
    cluster.node(3).runs = false;
    cluster.run_for(SEEN + ACTED);
    assert!(!cluster.tried.is_empty() && cluster.tried.iter().all(|tried| tried.of == 3));
    cluster.tried.clear();
    let start = cluster.now;
    cluster.run_for(secs(600));
    for by in [1, 2] {
        let at: Vec<u64> = cluster
            .tried
            .iter()
            .filter(|tried| tried.by == by)
            .map(|tried| tried.at.since(start).as_secs())
            .collect();
        assert_eq!(at.len(), 20, "{at:?}");
        assert!(at.windows(2).all(|two| two[1] - two[0] == 30), "{at:?}");
        assert_eq!(cluster.log(by, "event=unreachable-but-serving"), 1);
        assert!(cluster.status(by).problems.iter().any(|text| text.contains("n3 failed but still serves")));
        assert!(cluster.ask(by, r#"{"cmd":"why"}"#).contains("n3 failed but still serves"));
    }
    assert_eq!(sets(&cluster), [""; 0]);
    cluster.serving.remove(&3);
    cluster.run_for(secs(30) + ACTED);
    assert_eq!(sets(&cluster), [cluster.addrs(&[1, 2])]);
}

#[test]
fn a_run_is_preceded_by_a_fresh_try_after_all_its_waits() {
    let mut cluster = Cluster::settled(3, plain);
    cluster.kill(3);
    cluster.run_for(SEEN + ACTED);
    let told = cluster.told();
    let [ran] = told[..] else { panic!("{told:?}") };
    let by_runner: Vec<_> = cluster.tried.iter().filter(|tried| tried.by == ran.node).collect();
    assert_eq!(by_runner.len(), 2, "at once when it failed, and before the run: {by_runner:?}");
    assert_eq!(by_runner[1].at, ran.at);
    let other = cluster.tried.iter().filter(|tried| tried.by != ran.node && tried.at <= ran.at).count();
    assert_eq!(other, 1, "only who acts makes sure again");
}

#[test]
fn who_serves_again_when_the_run_is_about_to_begin_stays() {
    let mut cluster = Cluster::settled(3, plain);
    cluster.kill(3);
    let failed =
        |cluster: &mut Cluster| cluster.log(1, "event=node-failed") + cluster.log(2, "event=node-failed");
    while failed(&mut cluster) < 2 {
        cluster.run_for(Duration::from_millis(100));
    }
    cluster.run_for(secs(6));
    assert!(cluster.tried.len() >= 2 && cluster.ran.is_empty(), "tried, failed, and in the debounce");
    cluster.serving.insert(3);
    cluster.run_for(secs(300));
    assert_eq!(sets(&cluster), [""; 0]);
}

#[test]
fn what_this_machine_cannot_try_is_not_concluded_from() {
    let mut cluster = Cluster::settled(3, plain);
    cluster.kill(3);
    (1..=2).for_each(|node| cluster.node(node).is_full = true);
    cluster.run_for(secs(300));
    assert_eq!(sets(&cluster), [""; 0]);
    assert!(cluster.ask(1, r#"{"cmd":"why"}"#).contains("whether it still serves is being tried"));
    assert_eq!(cluster.waiting(1), "", "with a majority no witness is needed");
    (1..=2).for_each(|node| cluster.node(node).is_full = false);
    cluster.run_for(secs(2) + ACTED);
    assert_eq!(sets(&cluster), [cluster.addrs(&[1, 2])]);
}

// Gate 6.

#[test]
fn who_is_back_from_failed_is_added_after_hold_up() {
    let mut cluster = Cluster::settled(3, plain);
    cluster.cut(&[3], &[1, 2]);
    cluster.serving.remove(&3);
    cluster.run_for(SEEN + ACTED);
    assert_eq!(sets(&cluster), [cluster.addrs(&[1, 2])]);
    cluster.heal();
    let back =
        |cluster: &mut Cluster| cluster.status(1).members.alive == 3 && cluster.status(2).members.alive == 3;
    while !back(&mut cluster) {
        cluster.run_for(Duration::from_millis(100));
    }
    let start = cluster.now;
    assert!(cluster.ask(1, r#"{"cmd":"why"}"#).contains("n3 is back just now"));
    cluster.run_for(secs(60));
    let told = cluster.told();
    assert_eq!(told.len(), 2, "{told:?}");
    let took = told[1].at.since(start).as_secs();
    assert!((16..=20).contains(&took), "hold_up 15 s, debounce 3 s: {took}");
}

// Gates 3 and 4.

#[test]
fn half_acts_after_its_delay_if_a_witness_answers_and_the_missing_one_does_not() {
    let mut cluster = Cluster::settled(2, plain);
    cluster.kill(2);
    while cluster.log(1, "event=node-failed") == 0 {
        cluster.run_for(Duration::from_millis(100));
    }
    let failed = cluster.now;
    assert!(cluster.waiting(1).contains("the delay runs"));
    cluster.run_for(secs(60));
    assert_eq!(sets(&cluster), [cluster.addrs(&[1])]);
    let took = cluster.told()[0].at.since(failed);
    assert!((15..=20).contains(&took.as_secs()), "{took:?}");
    assert_eq!(cluster.log(1, "event=no-quorum"), 0, "while it is undecided it is no news");
    let quorum = cluster.status(1).quorum.expect("it is on");
    assert_eq!((quorum.has, quorum.alive, quorum.electorate), (true, 1, 2), "E stays as it is");
    cluster.run_for(secs(3600));
    assert_eq!(cluster.status(1).quorum.expect("it is on").electorate, 2);
}

#[test]
fn half_is_frozen_while_no_witness_answers_or_the_missing_one_does() {
    for (witness, serves, why) in
        [(false, false, "0 of at least 1 witnesses answer"), (true, true, "n2 still serves")]
    {
        let mut cluster = Cluster::settled(2, plain);
        cluster.kill(2);
        if serves {
            cluster.serving.insert(2);
        }
        cluster.node(1).witness = witness;
        cluster.run_for(secs(600));
        assert_eq!(sets(&cluster), [""; 0]);
        assert!(cluster.waiting(1).contains(why), "{}", cluster.waiting(1));
        assert_eq!((cluster.log(1, "event=no-quorum"), cluster.status(1).code), (1, 2));
        cluster.node(1).witness = true;
        cluster.serving.remove(&2);
        cluster.run_for(secs(30) + ACTED);
        assert_eq!((sets(&cluster), cluster.log(1, "event=quorum")), (vec![cluster.addrs(&[1])], 1));
    }
}

#[test]
fn half_that_has_no_witness_is_frozen() {
    let mut cluster = Cluster::settled(2, no_witness);
    cluster.kill(2);
    cluster.run_for(secs(600));
    assert_eq!(sets(&cluster), [""; 0]);
    assert!(cluster.waiting(1).contains("no \"witness\" is configured"));
}

#[test]
fn half_that_cannot_try_anything_itself_is_undecided() {
    let mut cluster = Cluster::settled(2, plain);
    cluster.kill(2);
    cluster.node(1).is_full = true;
    cluster.run_for(secs(600));
    assert_eq!((sets(&cluster), cluster.log(1, "event=no-quorum")), (vec![], 0));
    assert!(cluster.waiting(1).contains("the others could not be asked yet"), "{}", cluster.waiting(1));
    cluster.node(1).is_full = false;
    cluster.run_for(secs(5) + ACTED);
    assert_eq!(sets(&cluster), [cluster.addrs(&[1])]);
}

/// Method: the missing one is tried at its public endpoint even though nothing of it is published any more.
#[test]
fn half_asks_the_missing_one_though_its_app_is_down() {
    let mut cluster = Cluster::settled(2, plain);
    cluster.node(2).app_up = false;
    cluster.run_for(secs(60));
    assert_eq!(sets(&cluster), [cluster.addrs(&[1])]);
    cluster.node(2).runs = false;
    cluster.run_for(secs(120));
    assert!(cluster.waiting(1).contains("n2 still serves"), "{}", cluster.waiting(1));
}

#[test]
fn two_halves_of_a_cut_cluster_both_freeze_and_meet_again_without_a_run() {
    let mut cluster = Cluster::settled(2, plain);
    cluster.cut(&[1], &[2]);
    cluster.run_for(secs(600));
    for node in [1, 2] {
        assert!(cluster.waiting(node).contains("still serves"));
    }
    cluster.heal();
    cluster.run_for(secs(120));
    assert_eq!((sets(&cluster), cluster.waiting(1), cluster.waiting(2)), (vec![], "".into(), "".into()));
}

#[test]
fn two_of_three_act_at_once_and_need_no_witness() {
    let mut cluster = Cluster::settled(3, no_witness);
    cluster.kill(3);
    cluster.run_for(SEEN + ACTED);
    assert_eq!(sets(&cluster), [cluster.addrs(&[1, 2])]);
    let quorum = cluster.status(1).quorum.expect("it is on");
    assert_eq!((quorum.alive, quorum.electorate), (2, 3));
}

#[test]
fn servers_that_die_one_after_another_keep_quorum() {
    let mut cluster = Cluster::settled(5, no_witness);
    for (dies, left) in [(5, vec![1, 2, 3, 4]), (4, vec![1, 2, 3]), (3, vec![1, 2])] {
        cluster.kill(dies);
        cluster.run_for(SEEN + secs(75));
        assert_eq!(sets(&cluster).last(), Some(&cluster.addrs(&left)));
        let quorum = cluster.status(1).quorum.expect("it is on");
        assert_eq!((quorum.alive, quorum.electorate), (left.len(), left.len()));
    }
    assert_eq!(cluster.log(1, "event=no-quorum"), 0);
}

#[test]
fn servers_that_vanish_at_once_freeze_the_rest() {
    let mut cluster = Cluster::settled(5, plain);
    cluster.cut(&[1, 2], &[3, 4, 5]);
    cluster.run_for(SEEN + secs(20));
    cluster.node(2).app_up = false;
    (3..=5).for_each(|node| cluster.kill(node));
    cluster.run_for(secs(600));
    assert_eq!(sets(&cluster), [""; 0]);
    assert!(cluster.waiting(1).contains("2 of 5 alive"), "{}", cluster.waiting(1));
}

#[test]
fn the_cut_off_one_of_three_freezes_and_says_so_once_and_the_two_carry_on() {
    let mut cluster = Cluster::settled(3, plain);
    cluster.cut(&[1], &[2, 3]);
    cluster.run_for(SEEN + secs(40));
    cluster.node(2).app_up = false;
    cluster.run_for(secs(60));
    assert_eq!(sets(&cluster), [cluster.addrs(&[1, 3])], "n1 serves on, n2's app is down");
    assert_ne!(cluster.told()[0].node, 1);
    cluster.heal();
    cluster.run_for(secs(120));
    let events = |cluster: &Cluster, node: usize| -> Vec<String> {
        let mine = cluster.ran.iter().filter(|ran| ran.handler == "mail" && ran.node == node);
        mine.map(|ran: &Ran| ran.event.clone()).collect()
    };
    assert_eq!(events(&cluster, 1), ["no-quorum", "quorum"]);
    assert_eq!((events(&cluster, 2).len(), events(&cluster, 3).len()), (0, 0));
    assert_eq!((cluster.log(1, "event=no-quorum"), cluster.log(1, "event=quorum")), (1, 1));
}

// Gate 4, withdraw_self.

fn withdraws(_: usize, config: &mut Config) {
    config.safety.on_no_quorum = OnNoQuorum::WithdrawSelf;
}

#[test]
fn a_node_without_quorum_withdraws_itself_if_others_serve_and_only_then() {
    for serve in [true, false] {
        let mut cluster = Cluster::settled(3, withdraws);
        cluster.cut(&[1], &[2, 3]);
        if !serve {
            cluster.kill(2);
            cluster.kill(3);
        }
        cluster.run_for(SEEN + secs(40));
        let by_it: Vec<String> =
            cluster.told().iter().filter(|ran| ran.node == 1).map(|ran| ran.publish.clone()).collect();
        assert_eq!(by_it, if serve { vec![cluster.addrs(&[2, 3])] } else { vec![] });
    }
}

#[test]
fn half_does_not_withdraw_itself_while_it_is_undecided() {
    let mut cluster = Cluster::settled(2, |_, config| {
        withdraws(0, config);
        config.safety.half_delay = secs(120);
    });
    cluster.cut(&[1], &[2]);
    cluster.run_for(SEEN + secs(60));
    assert_eq!(sets(&cluster), [""; 0]);
    cluster.run_for(secs(120));
    let told: Vec<u32> = cluster.told().iter().map(|ran| ran.node as u32).collect();
    assert_eq!(told, [2], "only the half without the smallest name: {:?}", cluster.told());
}

/// Method: the fourth of `members` never comes; the event handler has its record, the set none.
#[test]
fn an_event_handler_s_record_shrinks_no_electorate_before_a_set_was_told() {
    let mut cluster = Cluster::start(3, |_, config| {
        config.membership.members = vec!["n9".into()];
        config.handlers[1].place = Place::One;
        config.handlers[1].events = vec![EventKind::AppUp, EventKind::AppDown];
    });
    cluster.run_for(secs(60));
    cluster.node(2).app_up = false;
    cluster.run_for(secs(300));
    assert_eq!(cluster.ran.last().map(|ran| &*ran.event), Some("app-down"));
    assert_eq!(sets(&cluster), [""; 0]);
    assert_eq!(cluster.status(1).quorum.map(|quorum| (quorum.alive, quorum.electorate)), Some((3, 4)));
    assert!(cluster.ask(1, r#"{"cmd":"why"}"#).contains("n9 was never seen alive"));
    cluster.ask(1, r#"{"cmd":"sync"}"#);
    cluster.run_for(secs(120));
    assert_eq!(sets(&cluster), [cluster.addrs(&[1, 3])]);
    assert_eq!(cluster.status(1).quorum.map(|quorum| (quorum.alive, quorum.electorate)), Some((3, 3)));
}

// Gates 1 and 2.

#[test]
fn a_majority_that_is_back_is_heard_first() {
    let mut cluster = Cluster::settled(3, plain);
    cluster.cut(&[1], &[2, 3]);
    cluster.run_for(SEEN + secs(40));
    cluster.heal();
    cluster.run_for(secs(120));
    assert_eq!(cluster.log(1, "settling again"), 1);
    assert_eq!(cluster.waiting(1), "");
}

#[test]
fn a_late_loop_makes_a_node_doubt_itself_until_two_rounds_without_it() {
    let mut cluster = Cluster::settled(3, plain);
    cluster.node(1).runs = false;
    let late = secs(4);
    cluster.run_for(late);
    cluster.node(1).runs = true;
    cluster.run_for(Duration::from_millis(100));
    assert!(cluster.waiting(1).contains("it came round too late"), "{}", cluster.waiting(1));
    assert_eq!(cluster.log(1, "event=waiting"), 1);
    cluster.run_for(secs(20));
    assert_eq!((cluster.waiting(1), cluster.log(1, "event=may-act")), (String::new(), 1));
}

#[test]
fn a_node_that_cannot_send_doubts_itself() {
    let mut cluster = Cluster::settled(3, plain);
    let now = cluster.now;
    for to in [2, 3] {
        cluster.node(1).agent.handle_send_error(now, addr(to), SendError::NotPermitted);
    }
    assert!(cluster.waiting(1).contains("refuses to send to"), "{}", cluster.waiting(1));
    cluster.run_for(secs(20));
    assert_eq!(cluster.waiting(1), "");
}

// Gate 7 and 8.

fn at_most_a_third(_: usize, config: &mut Config) {
    config.safety.max_remove = Some(34);
}

#[test]
fn no_more_than_max_remove_goes_until_a_person_says_so() {
    let mut cluster = Cluster::settled(5, at_most_a_third);
    cluster.node(5).app_up = false;
    cluster.run_for(secs(60));
    assert_eq!(sets(&cluster), [cluster.addrs(&[1, 2, 3, 4])]);
    cluster.node(4).app_up = false;
    cluster.run_for(secs(60));
    let problems = cluster.status(1).problems.join("\n");
    assert!(problems.contains("2 of 5 addresses would be gone"), "{problems}");
    assert_eq!(cluster.told().len(), 1);
    cluster.ask(1, r#"{"cmd":"sync"}"#);
    cluster.run_for(secs(30));
    assert_eq!(sets(&cluster).last(), Some(&cluster.addrs(&[1, 2, 3, 4])), "a sync goes through the gates");
    cluster.ask(1, r#"{"cmd":"sync","force":true}"#);
    cluster.run_for(secs(30));
    assert_eq!(sets(&cluster).last(), Some(&cluster.addrs(&[1, 2, 3])));
}

/// Goal: what a person forces is one handler's. Method: two apps, each told by its own handler; both go down alike.
#[test]
fn what_is_forced_for_one_handler_lets_no_other_handler_s_app_go() {
    let mut cluster = Cluster::start(5, |_, config| {
        at_most_a_third(0, config);
        let mut api = config.apps[0].clone();
        api.check.name = "api".into();
        config.apps.push(api);
        config.handlers.push(delivery::Config { name: "api".into(), apps: vec!["api".into()], ..dns() });
    });
    cluster.run_for(secs(120));
    for node in [4, 5] {
        cluster.node(node).app_up = false;
    }
    cluster.run_for(secs(60));
    let before = sets(&cluster).len();
    (1..=5).for_each(|node| _ = cluster.ask(node, r#"{"cmd":"sync","handler":"api","force":true}"#));
    cluster.run_for(secs(60));
    let api: Vec<&Ran> = cluster.ran.iter().filter(|ran| ran.handler == "api").collect();
    assert_eq!(api.last().map(|ran| &ran.publish), Some(&cluster.addrs(&[1, 2, 3])));
    assert_eq!(sets(&cluster).len(), before, "{:?}", cluster.told());
}

/// Goal: what a person forced on the runner stays gone whoever is next.
#[test]
fn what_was_forced_on_one_node_no_other_one_puts_back() {
    let mut cluster = Cluster::settled(5, at_most_a_third);
    let runner = cluster.status(1).handlers[0].runner.clone().expect("somebody ran");
    let runner: usize = runner[1..].parse().unwrap();
    let down: Vec<usize> = (1..=5).filter(|&node| node != runner).take(2).collect();
    down.iter().for_each(|&node| cluster.node(node).app_up = false);
    cluster.run_for(secs(60));
    assert_eq!(sets(&cluster).len(), usize::from(!sets(&cluster).is_empty()), "{:?}", cluster.told());
    cluster.ask(runner, r#"{"cmd":"sync","force":true}"#);
    cluster.run_for(secs(60));
    let left: Vec<usize> = (1..=5).filter(|node| !down.contains(node)).collect();
    assert_eq!(sets(&cluster).last(), Some(&cluster.addrs(&left)));
    let count = cluster.told().len();
    // Its own files, or a machine that is rebooted: another one takes over.
    cluster.node(runner).runs = false;
    cluster.run_for(secs(600));
    assert_eq!(cluster.told().len(), count, "{:?}", cluster.told());
    for &node in left.iter().filter(|&&node| node != runner) {
        assert!(!cluster.status(node).problems.join("\n").contains("would be gone"));
    }
}

#[test]
fn what_left_long_ago_counts_no_more() {
    let mut cluster = Cluster::settled(5, at_most_a_third);
    cluster.node(5).app_up = false;
    cluster.run_for(secs(310));
    cluster.node(4).app_up = false;
    cluster.run_for(secs(60));
    assert_eq!(sets(&cluster).last(), Some(&cluster.addrs(&[1, 2, 3])));
}

#[test]
fn with_all_apps_down_nothing_is_removed() {
    let mut cluster = Cluster::settled(3, plain);
    (1..=3).for_each(|node| cluster.node(node).app_up = false);
    cluster.run_for(secs(120));
    // Their checks fail one after another.
    let before = sets(&cluster).len();
    assert!(before < 3 && sets(&cluster).iter().all(|set| !set.is_empty()), "{:?}", cluster.told());
    cluster.run_for(secs(600));
    assert_eq!(sets(&cluster).len(), before);
    assert!(cluster.status(2).problems.iter().any(|text| text.contains("only 0 of at least 1 up")));
}

// What people are told.

#[test]
fn a_node_whose_file_would_tell_another_set_than_the_runner_told_says_so() {
    let mut cluster = Cluster::settled(3, |node, config| {
        config.apps[0].policy.all_down =
            if node == 3 { AllDown::Fallback(vec![[192, 0, 2, 99].into()]) } else { AllDown::Keep };
        config.handlers[0].timeout = secs(10);
    });
    let runner = cluster.status(1).handlers[0].runner.clone();
    let differs = |cluster: &mut Cluster, node| cluster.status(node).handlers[0].differs_for_secs.is_some();
    (1..=3).for_each(|node| cluster.node(node).app_up = false);
    cluster.run_for(secs(75));
    assert_eq!(
        (1..=3).filter(|&node| differs(&mut cluster, node)).count(),
        0,
        "a run and the gossip take their time"
    );
    cluster.run_for(secs(30));
    if runner.as_deref() == Some("n3") {
        assert!(differs(&mut cluster, 1) && differs(&mut cluster, 2));
    } else {
        assert!(differs(&mut cluster, 3) && !differs(&mut cluster, 1) && !differs(&mut cluster, 2));
        assert_eq!(cluster.log(3, "event=handler-differs"), 1);
    }
    (1..=3).for_each(|node| cluster.node(node).app_up = true);
    cluster.run_for(secs(60));
    assert_eq!((1..=3).filter(|&node| differs(&mut cluster, node)).count(), 0);
}
