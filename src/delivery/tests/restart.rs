//! What a restart keeps, and what peers say of a life before it.

use super::*;

const UNIX: u64 = 1_000_000;

fn saved(scene: &Scene) -> Saved {
    let saved = scene.delivery.saved(scene.now, UNIX);
    let value = serde_json::to_value(&saved).expect("JSON");
    assert_eq!(Saved::read(crate::saved::Part(&value)).expect("reads back"), saved);
    saved
}

/// A new life with what the old one saved, `later`.
pub fn restarted(scene: &Scene, config: Config, later: u64) -> Scene {
    let mut new = Scene::new(config.clone());
    new.now = scene.now;
    new.members = scene.members.clone();
    new.delivery = Delivery::new(vec![config], 2, new.now);
    new.delivery.restore(new.now, UNIX + later, saved(scene));
    new
}

fn own_meta(scene: &mut Scene, config: &Config, value: &str) {
    scene.delivery.handle_own_meta(scene.now, &meta(&[(job_key(config), value.to_string())]));
    scene.look();
}

#[test]
fn a_restart_with_state_runs_nothing_and_resync_counts_from_it() {
    let mut scene = Scene::new(sync_one()).settled();
    scene.run_for(secs(500));
    let mut scene = restarted(&scene, sync_one(), 500);
    assert_eq!(scene.delivery.published("web").flatten().map(|set| set.len()), Some(2));
    scene.run_for(secs(599));
    assert_eq!(scene.runs(), []);
    assert_eq!(scene.tag_shown(), format!("i:1:{}", goal_hash(&[1, 2])));
    scene.run_for(secs(4));
    assert_eq!(env(&scene.only_run().1, "PICORED_REASON"), "resync");
}

#[test]
fn the_greatest_record_is_kept_though_its_writer_is_gone_after_the_restart() {
    let shown = format!("i:9:{}", goal_hash(&[1, 2]));
    let mut scene = Scene::new(sync_one()).other("par1", &[("h.dns.web", &shown)]);
    scene.run_for(secs(5));
    let mut scene = restarted(&scene, sync_one(), 10);
    scene.members.retain(|member| &*member.name == OWN);
    scene.run_for(secs(60));
    assert_eq!((scene.runs(), scene.tag_shown()), (vec![], shown));
}

#[test]
fn what_is_saved_is_the_same_as_long_as_nothing_happens() {
    let mut scene = Scene::new(sync_one()).settled();
    let before = saved(&scene);
    scene.run_for(secs(100));
    assert_eq!(saved(&scene), before);
    scene.goal = Some(vec![1]);
    scene.run_for(secs(3));
    assert_ne!(saved(&scene), before, "before a run");
}

#[test]
fn a_run_that_the_file_saw_begin_may_still_go_on_and_has_told_nobody_knows_what() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    scene.only_run();
    let mut scene = restarted(&scene, sync_one(), 10);
    assert_eq!(scene.tag_shown(), "r:1:?", "others must wait, too");
    scene.run_for(secs(29));
    assert_eq!(scene.runs(), []);
    scene.run_for(secs(1));
    let (_, run) = scene.only_run();
    assert_eq!((env(&run, "PICORED_REASON"), env(&run, "PICORED_GENERATION")), ("retry", "2"));
}

#[test]
fn peers_that_saw_how_that_run_ended_save_a_run() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    scene.only_run();
    let mut scene = restarted(&scene, sync_one(), 10);
    own_meta(&mut scene, &sync_one(), &format!("i:1:{}", goal_hash(&[1, 2])));
    scene.run_for(secs(300));
    assert_eq!(scene.runs(), []);
}

#[test]
fn a_record_that_only_peers_know_is_taken_as_unknown_and_stays_so() {
    let mut scene = Scene::new(sync_one());
    scene.look();
    let held = format!("i:41:{}", goal_hash(&[1, 2]));
    // Two push/pulls, and an older one.
    for value in [&*held, &held, "i:40:00000000"] {
        own_meta(&mut scene, &sync_one(), value);
        assert_eq!(scene.tag_shown(), "i:41:?");
    }
    scene.run_for(secs(3));
    assert_eq!(env(&scene.only_run().1, "PICORED_GENERATION"), "42");
}

#[test]
fn an_overlap_is_remembered() {
    let mut scene = Scene::new(sync_one()).settled().other("aaa", &[("h.dns.web", "i:0:-")]);
    scene.run_for(secs(1));
    for value in ["r:1:?", "i:1:00000000"] {
        scene.tag("aaa", &[("h.dns.web", value)]);
        scene.look();
        let mut again = restarted(&scene, sync_one(), 1);
        again.run_for(secs(60));
        assert_eq!(env(&again.only_run().1, "PICORED_REASON"), "resync", "{value}");
    }
}

#[test]
fn the_state_of_another_node_gives_no_own_record_and_no_events() {
    let mut scene = Scene::new(sync_one()).settled();
    let mut foreign = saved(&scene);
    foreign.drop_own();
    scene.delivery = Delivery::new(vec![sync_one()], 1, scene.now);
    scene.delivery.restore(scene.now, UNIX, foreign);
    assert_eq!(scene.tag_shown(), "n:0:-");
    assert!(scene.delivery.published("web").flatten().is_some(), "as good as any stale file");
}

fn mail() -> Config {
    Config { name: "mail".into(), min_interval: secs(0), ..config(Mode::Event, Place::One) }
}

fn failed(node: &str) -> Occurrence {
    let (kind, state) = (EventKind::NodeFailed, AppState::Down);
    Occurrence { kind, app: None, node: node.into(), addrs: vec![ip(7)], state, incarnation: 3 }
}

/// n1 is told, n2 under way, n3 waits.
fn in_the_middle() -> Scene {
    let mut scene = Scene::new(mail());
    scene.look();
    for node in ["n1", "n2", "n3"] {
        scene.delivery.handle_occurrence(scene.now, &failed(node));
    }
    scene.look();
    let (id, _) = scene.only_run();
    scene.end(id, 0);
    scene.only_run();
    scene
}

#[test]
fn events_that_were_not_told_are_told_after_the_restart_in_order_with_growing_numbers() {
    let mut scene = restarted(&in_the_middle(), mail(), 100);
    scene.run_for(secs(1));
    for (node, generation) in [("n2", "3"), ("n3", "4")] {
        let (id, run) = scene.only_run();
        assert_eq!((env(&run, "PICORED_NODE"), env(&run, "PICORED_GENERATION")), (node, generation));
        scene.end(id, 0);
    }
    assert_eq!(scene.runs(), []);
}

#[test]
fn events_do_not_get_younger_by_a_restart() {
    let mut scene = restarted(&in_the_middle(), mail(), 600);
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
}

#[test]
fn an_event_whose_end_only_peers_saw_is_not_told_again() {
    let mut scene = in_the_middle();
    let before = saved(&scene);
    let id = scene.delivery.out.next_id - 1;
    scene.end(id, 0);
    let held: Vec<(String, String)> =
        scene.delivery.tags().into_iter().map(|(k, v)| (k, v.replace("r:3", "i:2"))).collect();
    scene.delivery = Delivery::new(vec![mail()], 1, scene.now);
    scene.delivery.restore(scene.now, UNIX + 100, before);
    scene.delivery.handle_own_meta(scene.now, &meta(&held));
    scene.actions.clear();
    scene.look();
    assert_eq!(env(&scene.only_run().1, "PICORED_NODE"), "n3");
}
