//! Named stories of nodes that come to a cluster in trouble, and of many that go at once.

use crate::disk::Memory;
use crate::node::Health;
use crate::stories::{is_right, never_empty, runs, with};
use crate::world::{Down, World};
use crate::{for_seeds, mins, say, secs};

#[test]
fn a_fourth_node_joins_during_a_2_1_split() {
    for_seeds(10, |seed| {
        for with_the_one in [true, false] {
            let mut world = World::new(seed).nodes(4).app("web");
            for name in ["n1", "n2", "n3"] {
                world.start(name);
            }
            world.run_for(mins(5));
            assert_eq!(world.records("web"), ["n1", "n2", "n3"], "{}", world.full_picture());
            never_empty(&mut world);
            let side: &[&str] = if with_the_one { &["n1", "n4"] } else { &["n1"] };
            world.partition(side);
            world.run_for(secs(45));
            let since = world.now;
            world.start("n4");
            world.run_for(mins(5));
            let wrong: &[&str] = if with_the_one { &["n1", "n4"] } else { &["n1"] };
            for start in world.outside.starts.iter().filter(|start| start.at > since) {
                assert!(!wrong.contains(&&*start.by), "{}", world.blame("the smaller side ran"));
            }
            world.heal();
            is_right(&mut world, mins(4), "all four are there");
        }
    });
}

/// A newcomer knows one node only. It must know whom it would remove, and not be the one that acts for half a cluster.
#[test]
fn a_newcomer_with_one_join_entry_while_a_failed_node_is_still_published() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(4).app("web");
        for name in ["n1", "n2", "n3"] {
            world.start(name);
        }
        world.run_for(mins(5));
        never_empty(&mut world);
        world.let_join_first_only("n4");
        // Its picored is dead and it serves.
        world.crash("n3", Down::Process);
        world.run_for(mins(2));
        world.start("n4");
        world.expect_within(mins(2), "the newcomer is there", |world| {
            world.records("web") == ["n1", "n2", "n3", "n4"]
        });
        world.run_for(mins(15));
        assert_eq!(world.records("web"), ["n1", "n2", "n3", "n4"], "{}", world.full_picture());
        world.set_health("n3", "web", Health::Down);
        world.expect_within(mins(2), "it goes now", |world| world.records("web") == ["n1", "n2", "n4"]);
    });
}

/// It never published, so what the others did is not in its own P. When it has to act alone it must not take those
/// away whose picored is dead, though it never tried them before.
#[test]
fn a_newcomer_that_becomes_the_runner_knows_who_is_published() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(4).app("web").with(|settings| settings.quorum = false);
        for name in ["n1", "n2", "n3"] {
            world.start(name);
        }
        world.run_for(mins(5));
        assert_eq!(world.records("web"), ["n1", "n2", "n3"], "{}", world.full_picture());
        never_empty(&mut world);
        // Their web servers run on.
        world.crash("n3", Down::Process);
        world.run_for(mins(2));
        world.start("n4");
        world.set_health("n4", "web", Health::Down);
        world.run_for(mins(5));
        for name in ["n1", "n2"] {
            world.crash(name, Down::Process);
        }
        world.run_for(mins(5));
        assert_eq!(world.records("web"), ["n1", "n2", "n3"], "{}", world.full_picture());
        world.set_health("n4", "web", Health::Up);
        world.expect_within(mins(3), "it comes in, and nobody goes", |world| {
            world.records("web") == ["n1", "n2", "n3", "n4"]
        });
        world.set_health("n3", "web", Health::Down);
        world.expect_within(mins(3), "who serves no more goes", |world| {
            world.records("web") == ["n1", "n2", "n4"]
        });
    });
}

/// A reinstalled server finds two others dead, whose hosts refuse connections, each at its own moment. What it found of
/// one must not be forgotten when it finds the other: it would try them in turn for ever and never know P.
#[test]
fn a_reinstalled_node_learns_what_is_published_though_two_others_are_dead() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 4, |settings| settings.quorum = false);
        for name in ["n3", "n4"] {
            world.crash(name, Down::Process);
            world.set_health(name, "web", Health::Down);
        }
        world.expect_within(mins(2), "the dead are gone", |world| world.records("web") == ["n1", "n2"]);
        world.crash("n2", Down::Process);
        world.start_with("n2", Memory::Lost);
        world.run_for(mins(3));
        let published = world.node("n2").count("publish");
        world.run_for(mins(10));
        let more = world.node("n2").count("publish") - published;
        assert!(more <= 1, "{}", world.blame(&format!("n2 changed its mind {more} times")));
        // It carries on with it.
        world.crash("n1", Down::Machine);
        world.expect_within(mins(2), "n2 takes n1 away", |world| world.records("web") == ["n2"]);
    });
}

#[test]
fn a_newcomer_with_one_join_entry_while_a_partition_lasts() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(5).app("web");
        for name in ["n1", "n2", "n3", "n4"] {
            world.start(name);
        }
        world.run_for(mins(5));
        never_empty(&mut world);
        world.let_join_first_only("n5");
        // Half and half, without witnesses: nobody acts, and the newcomer is no majority.
        world.partition(&["n1", "n2", "n5"]);
        world.run_for(mins(1));
        let since = world.now;
        world.start_with("n5", Memory::Lost);
        world.run_for(mins(5));
        let gone =
            world.outside.starts.iter().filter(|start| start.at > since && !start.told.remove.is_empty());
        assert_eq!(gone.count(), 0, "{}", world.blame("a half took the other half away"));
        world.heal();
        is_right(&mut world, mins(4), "all five are there");
    });
}

/// Goal: many more failed nodes than can be tried within the time that a failed try counts go in the end, and the
/// connections of the one that tries them keep to their limit.
/// Method: 30 of 40 machines, each with two addresses, lose their power at once, and nobody refuses a connection.
#[test]
fn thirty_of_forty_dual_stack_nodes_that_fail_at_once_go_in_the_end() {
    for_seeds(1, |seed| {
        let mut world = with(seed, 40, |settings| (settings.quorum, settings.dual_stack) = (false, true));
        world.inspect_every = mins(1);
        never_empty(&mut world);
        world.always("no more than 16 connections to others at once", |world| {
            let open = |node: &crate::node::Node| {
                node.attempts.values().filter(|attempt| attempt.public.is_some()).count() <= 16
            };
            world.nodes.iter().all(open)
        });
        let (since, gone) = (world.now, world.names().split_off(10));
        gone.iter().for_each(|name| world.crash(name, Down::Machine));
        let took = world.expect_within(mins(10), "they are gone", |world| world.records("web").len() == 10);
        world.run_for(mins(5));
        is_right(&mut world, secs(1), "it stays so");
        say(&format!("30 of 40 were gone after {took:?}, by {} runs", runs(&world, since)));
    });
}
