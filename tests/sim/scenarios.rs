//! Named stories of the cluster itself: who sees whom, and when. Those of the records are in
//! [`crate::records`].

use crate::settings::{first_address, picored_timing};
use crate::world::{Down, World};
use crate::{for_seeds, hours, mins, say, secs};

/// Goal: a cluster that starts at once comes together on its own.
/// Method: everybody starts within 2 s and joins the first three; when does everybody see everybody?
fn joins_within(nodes: usize, limit: std::time::Duration) {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(nodes);
        let start = world.now;
        world.start_all();
        world.expect_within(limit - secs(2), "all see all", World::all_see_all);
        let took = world.now.since(start);
        assert_eq!(world.failures(), 0, "{}", world.blame("somebody was declared failed while joining"));
        say(&format!("  join of {nodes} nodes, seed {seed}: complete {took:?} after the first start"));
    });
}

#[test]
fn three_nodes_come_together_within_ten_seconds() {
    joins_within(3, secs(10));
}

#[test]
fn ten_nodes_come_together_within_ten_seconds() {
    joins_within(10, secs(10));
}

#[test]
fn fifty_nodes_come_together_within_thirty_seconds() {
    joins_within(50, secs(30));
}

#[test]
fn nodes_join_while_every_tenth_packet_is_lost() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(10).loss(0.1).started();
        world.expect_within(mins(1), "all see all", World::all_see_all);
    });
}

/// Goal: who starts long before the others finds them later.
#[test]
fn a_node_that_was_alone_for_an_hour_is_found_within_ninety_seconds() {
    for_seeds(3, |seed| {
        let mut world = World::new(seed).nodes(3);
        world.start("n1");
        world.run_for(hours(1));
        world.start_all();
        // Targets are tried again at most 60 s apart, and the newcomers ask at once.
        world.expect_within(secs(90), "all see all", World::all_see_all);
    });
}

#[test]
fn an_encrypted_cluster_comes_together_and_one_with_another_key_stays_outside() {
    for_seeds(3, |seed| {
        let mut world = World::new(seed).nodes(3).with(|settings| settings.key = Some([7; 16])).settled();
        world = world.nodes(1).with(|settings| settings.key = Some([8; 16]));
        world.start("n4");
        world.run_for(mins(3));
        for name in ["n1", "n2", "n3"] {
            assert_eq!(world.sees(name, "n4"), None, "{}", world.blame("a stranger was let in"));
        }
    });
}

/// Goal: no false alarm where nothing is wrong.
/// Method: a simulated day of ten nodes with jitter but without loss, with the default timing.
#[test]
fn there_is_no_false_alarm_in_a_day_of_ten_nodes() {
    for_seeds(1, |seed| {
        let mut world = World::new(seed).nodes(10).settled();
        world.inspect_every = mins(30);
        world.run_for(hours(24));
        let alarms = world.count("node-failed") + world.count("node-suspect");
        assert_eq!(alarms, 0, "{}", world.blame("false alarms"));
        assert!(world.all_see_all(), "{}", world.full_picture());
        let per_second = world.net.bytes / (24 * 3_600 * 10);
        say(&format!(
            "  a day of 10 nodes, seed {seed}: no alarm; {} steps, {} datagrams, {per_second} bytes/s sent by each",
            world.steps, world.net.datagrams
        ));
    });
}

/// Goal: loss makes nobody disappear for good.
/// Method: half an hour under loss; false alarms are counted, and at its end, the loss still there,
/// everybody must at some moment see everybody.
fn survives_loss(part: f64, alarms_max_per_hour: usize) {
    let counted = std::cell::Cell::new((0, 0));
    for_seeds(4, |seed| {
        let mut world = World::new(seed).nodes(10).settled();
        world.net.link.loss = part;
        world.run_for(mins(30));
        let (failed, runs) = counted.get();
        counted.set((failed + world.failures(), runs + 1));
        let took = world.expect_within(mins(3), "all see all although packets are lost", World::all_see_all);
        let suspicions = world.count("node-suspect");
        say(&format!(
            "  {:.0} % loss for 30 min, 10 nodes, seed {seed}: {} times said failed, {suspicions} suspected; all seen {took:?} later",
            part * 100.0,
            world.failures(),
        ));
    });
    let (failed, runs) = counted.get();
    let per_hour = failed * 2 / runs.max(1);
    assert!(per_hour <= alarms_max_per_hour, "{per_hour} false alarms an hour at {part} loss");
}

#[test]
fn ten_percent_loss_makes_nobody_disappear() {
    survives_loss(0.1, 0);
}

#[test]
fn thirty_percent_loss_makes_nobody_disappear_for_good() {
    // An alarm counts once for each of the nine others that says so.
    survives_loss(0.3, 90);
}

/// A node that goes and comes ten times is seen right in the end, and nobody else is said to have failed.
fn survives_flapping(seed: u64, nodes: usize) {
    let mut world = World::new(seed).nodes(nodes).settled();
    for round in 0..10 {
        let how = if round % 2 == 0 { Down::Machine } else { Down::Process };
        world.crash("n2", how);
        let away = secs(2) + world.rng.duration_below(secs(60));
        world.run_for(away);
        world.start("n2");
        let back = secs(5) + world.rng.duration_below(secs(40));
        world.run_for(back);
    }
    world.expect_within(mins(1), "all see all after the flapping", World::all_see_all);
    let notes = || world.nodes.iter().flat_map(|node| &node.notes);
    let accused = notes().find(|note| note.event == "node-failed" && note.node != "n2");
    if let Some(note) = accused {
        panic!("{}", world.blame(&format!("{}, which never was away, was said to have failed", note.node)));
    }
}

#[test]
fn a_flapping_node_is_seen_right_at_the_end() {
    for_seeds(5, |seed| {
        for nodes in [3, 5, 10] {
            survives_flapping(seed, nodes);
        }
    });
}

#[test]
fn a_flapping_node_among_fifty_is_seen_right_at_the_end() {
    for_seeds(2, |seed| survives_flapping(seed, 50));
}

/// A cut of ten minutes, two fifths of the nodes on one side, is noticed on both, and forgotten when it is healed.
fn heals(seed: u64, nodes: usize) {
    let mut world = World::new(seed).nodes(nodes).settled();
    let names = world.names();
    let (here, there) = names.split_at(nodes * 2 / 5);
    world.partition(&here.iter().map(String::as_str).collect::<Vec<_>>());
    world.run_for(mins(10));
    let across = [(&here[0], &there[0]), (&there[1], &here[0])];
    for (one, other) in across {
        let seen = world.sees(one, other).map(|seen| seen.state);
        assert_ne!(seen.as_deref(), Some("alive"), "{}", world.blame("a cut was not noticed in 10 min"));
    }
    world.heal();
    world.expect_within(mins(2), "all see all after healing", World::all_see_all);
}

#[test]
fn both_sides_of_a_partition_see_each_other_again_within_two_minutes_of_healing() {
    for_seeds(5, |seed| {
        for nodes in [3, 5, 10] {
            heals(seed, nodes);
        }
    });
}

#[test]
fn both_sides_of_a_partition_of_fifty_see_each_other_again_within_two_minutes_of_healing() {
    for_seeds(2, |seed| heals(seed, 50));
}

#[test]
fn a_node_that_hears_but_is_not_heard_comes_back_after_healing() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).settled();
        for other in ["n1", "n3", "n4", "n5"] {
            world.cut_one_way("n2", other);
        }
        world.run_for(mins(5));
        world.heal();
        world.expect_within(mins(2), "all see all after healing", World::all_see_all);
    });
}

/// Goal: one broken link among five is worked round (SWIM 3.1: that is what indirect probes are for).
#[test]
fn a_cut_between_two_of_five_makes_nobody_fail() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).settled();
        world.cut("n1", "n2");
        world.run_for(mins(30));
        assert_eq!(
            world.failures(),
            0,
            "{}",
            world.blame("a node that three others reach was said to have failed")
        );
        // Not even suspected: the others' pings, and their answers, come through.
        assert_eq!(world.count("node-suspect"), 0, "{}", world.blame("indirect probes did not help"));
    });
}

/// Goal: a machine that cannot send (its route is gone) does not take that for the others' failure, and is
/// welcome again.
#[test]
fn a_node_whose_uplink_is_gone_declares_nobody_failed() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).settled();
        world.partition(&["n2"]);
        world.node_mut("n2").no_uplink = true;
        world.run_for(mins(15));
        let accused = world.node("n2").count("node-failed") + world.node("n2").count("node-suspect");
        assert_eq!(accused, 0, "{}", world.blame("what could not be sent was taken for silence"));
        assert!(world.all_see("n2", &["failed"]) || world.node("n1").count("node-failed") > 0);
        world.node_mut("n2").no_uplink = false;
        world.heal();
        world.expect_within(mins(2), "all see all after the uplink is back", World::all_see_all);
    });
}

#[test]
fn a_node_that_leaves_is_left_and_not_failed() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).settled();
        world.leave("n3");
        world.expect_within(secs(90), "it ended by itself", |world| world.node("n3").exited.is_some());
        assert_eq!(world.node("n3").exited, Some(0), "{}", world.blame("a leave is a success"));
        world.expect_within(secs(10), "everybody shows it as left", |world| world.all_see("n3", &["left"]));
        world.run_for(mins(5));
        assert_eq!(world.failures(), 0, "{}", world.blame("who left was said to have failed"));
        world.start("n3");
        world.expect_within(mins(1), "it is back", World::all_see_all);
    });
}

#[test]
fn a_failed_node_is_accepted_at_a_new_address() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).settled();
        world.crash("n2", Down::Machine);
        world.expect_within(mins(3), "it is failed everywhere", |world| world.all_see("n2", &["failed"]));
        world.move_to_new_address("n2");
        world.start("n2");
        world.expect_within(mins(1), "all see it at its new address", World::all_see_all);
    });
}

/// Method: it comes back before anybody noticed, so that its name is still taken; whoever is told of two
/// addresses finds that the old one does not answer.
#[test]
fn a_node_that_moves_at_once_is_accepted_at_its_new_address() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).settled();
        world.crash("n4", Down::Machine);
        world.move_to_new_address("n4");
        world.run_for(secs(1));
        world.start("n4");
        world.expect_within(mins(5), "all see it at its new address", World::all_see_all);
    });
}

#[test]
fn a_node_that_restarts_without_its_state_is_accepted() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).app("web").settled();
        for round in 0..3 {
            let before = world.sees("n1", "n2").map(|seen| seen.incarnation);
            let how = if round % 2 == 0 { Down::Process } else { Down::Machine };
            world.crash("n2", how);
            world.run_for(secs(1));
            world.start("n2");
            world.expect_within(secs(30), "all see all", World::all_see_all);
            world.run_for(secs(30));
            assert!(world.all_see_all(), "{}", world.full_picture());
            // It began at 1 and with other tags, which is old news: it must have answered with a greater one.
            let after = world.sees("n1", "n2").map(|seen| seen.incarnation);
            assert!(after > before, "{}", world.blame(&format!("incarnation {before:?}, then {after:?}")));
        }
        assert_eq!(world.failures(), 0, "{}", world.blame("a restart within the suspicion time was noticed"));
    });
}

#[test]
fn two_nodes_of_one_name_do_not_end_each_other() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(4);
        for name in ["n1", "n2", "n3"] {
            world.start(name);
        }
        world.run_for(mins(1));
        world.nodes[3].name = "n2".to_string();
        world.start_index(3);
        world.run_for(mins(10));
        for node in &world.nodes {
            assert!(node.is_running(), "{}", world.blame("a name conflict ended a process"));
        }
        let seen = world.sees("n1", "n2").map(|seen| (seen.address, seen.state));
        let first = (first_address(1).to_string(), "alive".to_string());
        assert_eq!(seen, Some(first), "{}", world.blame("the newcomer took the name over"));
    });
}

#[test]
fn a_node_frozen_for_less_than_the_suspicion_time_is_not_failed() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).settled();
        for _ in 0..5 {
            world.freeze("n2");
            // A probe must fail first (3 s), then the shortest suspicion lasts 4 x 3 s.
            world.run_for(secs(14));
            world.thaw("n2");
            world.run_for(mins(2));
        }
        assert_eq!(world.failures(), 0, "{}", world.blame("somebody was said to have failed"));
        assert!(world.all_see_all(), "{}", world.full_picture());
    });
}

#[test]
fn a_node_frozen_for_long_fails_and_comes_back_without_accusing_others() {
    for_seeds(5, |seed| {
        let mut world = World::new(seed).nodes(5).settled();
        world.freeze("n2");
        world.expect_within(mins(3), "it is failed", |world| world.all_see("n2", &["failed"]));
        world.run_for(mins(1));
        world.thaw("n2");
        world.expect_within(mins(1), "all see all", World::all_see_all);
        world.run_for(mins(3));
        let accused = world.node("n2").count("node-failed");
        assert_eq!(accused, 0, "{}", world.blame("the node that was frozen said that others failed"));
    });
}

#[test]
fn nodes_with_other_timing_are_no_reason_for_alarms() {
    for_seeds(3, |seed| {
        // memberlist's LAN profile beside ours.
        let world = World::new(seed).nodes(6).timing_of("n1", |timing| {
            timing.probe_interval = secs(1);
            timing.probe_timeout = crate::millis(500);
            timing.gossip_interval = crate::millis(200);
            timing.gossip_nodes = 3;
            timing.push_pull_interval = secs(30);
        });
        let mut world = world.timing_of("n2", |timing| timing.suspicion_mult = 6).settled();
        assert_ne!(world.node("n1").timing, picored_timing());
        world.run_for(hours(2));
        assert_eq!(world.failures(), 0, "{}", world.blame("somebody was said to have failed"));
        assert!(world.all_see_all(), "{}", world.full_picture());
    });
}
