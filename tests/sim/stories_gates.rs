//! Named stories of the gates (`interfaces`, section 5): what must not reach the records.

use picored::safety::{AllDown, MinUp, OnNoQuorum};
use picored::time::Instant;

use crate::node::{Behaviour, Health};
use crate::stories::{
    DOWN_WITHIN, NODE_DOWN_WITHIN, RESYNC, is_right, never_empty, others, runner, runs, web, with,
};
use crate::world::{Down, World};
use crate::{for_seeds, millis, mins, secs};

/// No run but `resync` may begin while `disturbance` lasts and for a while after it; the records stay.
fn changes_nothing(
    mut world: World,
    lasts: std::time::Duration,
    disturbance: impl FnOnce(&mut World),
) -> World {
    let (since, before) = (world.now, world.records("web"));
    world.always("the records stay", move |world| world.records("web") == before);
    disturbance(&mut world);
    world.run_for(lasts);
    let count = runs(&world, since);
    assert_eq!(count, 0, "{}", world.blame("a run"));
    world
}

#[test]
fn two_healthy_servers_whose_link_is_cut_change_nothing() {
    for_seeds(10, |seed| {
        for witnesses in [0, 2] {
            // With witnesses both sides may act, and find that the other one... cannot be reached: see below.
            let world = with(seed, 2, |settings| settings.witnesses = witnesses);
            let mut world = match witnesses {
                0 => changes_nothing(world, mins(5), |world| world.cut("n1", "n2")),
                _ => {
                    let mut world = world;
                    never_empty(&mut world);
                    world.cut("n1", "n2");
                    world.run_for(mins(5));
                    world
                }
            };
            world.heal();
            world.expect_within(mins(3), "all see all", World::all_see_all);
            is_right(&mut world, mins(3), "both are there");
        }
    });
}

#[test]
fn with_the_gossip_port_blocked_only_nothing_changes() {
    for_seeds(10, |seed| {
        for nodes in [2, 3, 4] {
            let world = with(seed, nodes, |settings| settings.witnesses = 2);
            let mut world = changes_nothing(world, mins(5), |world| world.block_gossip("n1"));
            world.heal();
            world.expect_within(mins(3), "all see all", World::all_see_all);
            is_right(&mut world, secs(30), "all are there");
        }
    });
}

/// The one that was cut off freezes; the others carry on, and nobody's healthy address goes for long.
#[test]
fn of_three_the_one_that_is_cut_off_freezes_and_two_carry_on() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let since = world.now;
        world.partition(&["n1"]);
        is_right_on_the_side(&mut world, &["n2", "n3"]);
        world.set_health("n2", "web", Health::Down);
        world.run_for(mins(5));
        assert_eq!(world.records("web"), ["n3"], "{}", world.full_picture());
        let by_it = world.outside.starts.iter().filter(|start| start.at > since && start.by == "n1").count();
        assert_eq!(by_it, 0, "{}", world.blame("the minority ran"));
        world.set_health("n2", "web", Health::Up);
        world.heal();
        is_right(&mut world, mins(3), "all are back");
    });
}

fn is_right_on_the_side(world: &mut World, side: &[&str]) {
    world.expect_within(NODE_DOWN_WITHIN + secs(10), "they carry on", |world| world.records("web") == side);
}

#[test]
fn a_node_whose_internet_is_gone_does_nothing_and_goes() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| settings.witnesses = 2);
        never_empty(&mut world);
        world.partition(&["n1"]);
        world.cut_from_internet("n1");
        is_right_on_the_side(&mut world, &["n2", "n3"]);
        world.run_for(mins(3));
        world.heal();
        is_right(&mut world, mins(3), "all are back");
    });
}

#[test]
fn with_the_witness_down_as_well_half_a_cluster_freezes() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 2, |settings| settings.witnesses = 2);
        world.witness_off.extend([0, 1]);
        world.run_for(mins(1));
        let mut world = changes_nothing(world, mins(5), |world| world.crash("n1", Down::Machine));
        world.start("n1");
        is_right(&mut world, mins(2), "both are there");
    });
}

#[test]
fn of_two_servers_the_dead_one_goes_where_a_witness_answers() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 2, |settings| settings.witnesses = 2);
        never_empty(&mut world);
        world.crash("n1", Down::Machine);
        // `half_delay` is 15 s.
        is_right(&mut world, NODE_DOWN_WITHIN + secs(20), "its address is gone");
        world.start("n1");
        is_right(&mut world, mins(2), "it is back");
    });
}

#[test]
fn a_server_whose_picored_is_killed_stays_published_while_it_serves() {
    for_seeds(10, |seed| {
        for nodes in [2, 3, 5] {
            let world = with(seed, nodes, |settings| settings.witnesses = 1);
            let mut world = changes_nothing(world, mins(9), |world| world.crash("n2", Down::Process));
            world.start("n2");
            world.run_for(mins(2));
            assert!(world.records_are_right(), "{}", world.full_picture());
        }
        let mut world = web(seed, 3);
        world.crash("n2", Down::Process);
        world.run_for(mins(5));
        // Tried again every 30 s.
        world.set_health("n2", "web", Health::Down);
        world.expect_within(secs(30 + 5 + 3 + 5 + 2), "its address is gone", |world| {
            world.records("web") == ["n1", "n3"]
        });
    });
}

#[test]
fn with_all_apps_down_the_last_set_is_kept() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        for name in world.names() {
            world.set_health(&name, "web", Health::Down);
            let pause = world.rng.duration_below(secs(40));
            world.run_for(pause);
        }
        world.run_for(mins(30));
        for name in world.names() {
            world.set_health(&name, "web", Health::Up);
        }
        is_right(&mut world, mins(3), "all are back");
    });
}

#[test]
fn a_whole_cluster_s_reboot_in_any_order_changes_nothing() {
    for_seeds(10, |seed| {
        for nodes in [2, 3, 5] {
            let world = web(seed, nodes);
            changes_nothing(world, mins(4), |world| {
                for name in world.names() {
                    world.crash(&name, Down::Machine);
                }
                let away = secs(1) + world.rng.duration_below(mins(3));
                world.run_for(away);
                let mut order = world.names();
                world.rng.shuffle(&mut order);
                for name in order {
                    world.start(&name);
                    // Who is away for longer is dead, and goes.
                    let pause = world.rng.duration_below(secs(3));
                    world.run_for(pause);
                }
            });
        }
    });
}

#[test]
fn a_node_that_stood_still_for_a_minute_does_nothing_rash() {
    for_seeds(10, |seed| {
        for whole_machine in [false, true] {
            let mut world = web(seed, 3);
            never_empty(&mut world);
            match whole_machine {
                true => world.suspend("n1"),
                false => world.freeze("n1"),
            }
            world.run_for(mins(1));
            let since = world.now;
            world.thaw("n1");
            world.run_for(mins(3));
            assert!(world.records_are_right(), "{}", world.full_picture());
            let others: Vec<_> = ["n2", "n3"].map(|name| world.node(name).addr.ip()).into();
            let rash = |start: &&crate::outside::Start| {
                start.by == "n1" && others.iter().any(|addr| !start.told.addrs.contains(addr))
            };
            assert_eq!(world.outside.starts_since(since).filter(rash).count(), 0, "{}", world.blame("rash"));
        }
    });
}

/// Goal: what a node sees while it doubts itself (gate 2) does not become its electorate.
/// Method: n1 reaches n2 by way of n3 only, for the system refuses to send there; when n4 and n5 are gone, that is one
/// of two. It sees a majority all the time, as n2 does, whose electorate follows.
#[test]
fn a_node_that_doubts_itself_keeps_its_electorate() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 5);
        never_empty(&mut world);
        world.run_for(mins(2));
        assert_eq!((electorate(&mut world, "n1"), electorate(&mut world, "n2")), (5, 5));
        let n2 = world.node("n2").addr;
        world.node_mut("n1").no_route = vec![n2];
        world.crash("n4", Down::Machine);
        world.crash("n5", Down::Machine);
        world.run_for(mins(5));
        assert!(world.sees("n1", "n2").is_some_and(|seen| seen.is_alive()), "{}", world.full_picture());
        let seen = (electorate(&mut world, "n1"), electorate(&mut world, "n2"));
        assert_eq!(seen, (5, 3), "{}", world.full_picture());
        world.node_mut("n1").no_route.clear();
        world.expect_within(mins(3), "it follows when the doubt is over", |world| {
            electorate(world, "n1") == 3
        });
    });
}

fn electorate(world: &mut World, name: &str) -> u64 {
    let index = world.index(name);
    world.ask(index, r#"{"cmd":"status"}"#)["quorum"]["electorate"].as_u64().expect("the gate is on")
}

/// All nodes but one stand still, as virtual machines on one host that swaps: the one left alone is a minority.
#[test]
fn one_left_alone_does_not_take_the_others_away() {
    for_seeds(10, |seed| {
        for (nodes, on_no_quorum) in
            [(3, OnNoQuorum::Freeze), (5, OnNoQuorum::Freeze), (3, OnNoQuorum::WithdrawSelf)]
        {
            let mut world = with(seed, nodes, |settings| settings.on_no_quorum = on_no_quorum);
            never_empty(&mut world);
            let rest = others(&world, "n1");
            for name in &rest {
                world.suspend(name);
            }
            world.run_for(mins(2));
            let still = rest.iter().all(|name| world.records("web").contains(name));
            assert!(still, "{}", world.full_picture());
            for name in &rest {
                world.thaw(name);
            }
            is_right(&mut world, mins(3), "all are there");
        }
    });
}

#[test]
fn a_node_without_quorum_withdraws_itself_where_it_is_told_to() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| settings.on_no_quorum = OnNoQuorum::WithdrawSelf);
        never_empty(&mut world);
        // It reaches the records, and others still reach it: the two see it failed but serving.
        world.block_gossip("n1");
        world.expect_within(mins(2), "it has gone", |world| world.records("web") == ["n2", "n3"]);
        world.heal();
        is_right(&mut world, mins(3), "it is back");
    });
}

/// Goal: two of five that are without quorum each take themselves away, and neither puts the other one back.
#[test]
fn two_without_quorum_that_withdraw_themselves_do_not_put_each_other_back() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 5, |settings| settings.on_no_quorum = OnNoQuorum::WithdrawSelf);
        never_empty(&mut world);
        // They reach the records, and the three find that they serve.
        for (a, b) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
            world.net.block_gossip(a, b);
            world.net.block_gossip(b, a);
        }
        world.disturb();
        world.expect_within(mins(3), "both have gone", |world| world.records("web") == ["n3", "n4", "n5"]);
        world.run_for(mins(1));
        assert_eq!(world.records("web"), ["n3", "n4", "n5"], "{}", world.full_picture());
        world.heal();
        is_right(&mut world, mins(4), "both are back");
    });
}

/// The tries fail while the link is cut; it heals before the run that they were for.
#[test]
fn verify_failed_during_a_cut_that_heals_before_the_run() {
    for_seeds(20, |seed| {
        let mut world = web(seed, 3);
        let first = runner(&world);
        let victim = others(&world, &first)[0].clone();
        let address = world.node(&victim).addr.ip();
        world.crash(&victim, Down::Process);
        for name in others(&world, &victim) {
            world.cut(&name, &victim);
        }
        world.expect_within(mins(1), "it is failed", |world| world.all_see(&victim, &["failed"]));
        // The debounce of 3 s has begun, and `node_down_after` 5 s.
        let pause = world.rng.duration_below(secs(8));
        world.run_for(pause);
        if world.outside.writes.last().is_some_and(|write| !write.addrs.contains(&address)) {
            return; // it was too late for this seed
        }
        let running = world.nodes.iter().any(|node| !node.runs.is_empty());
        world.heal();
        let since = world.now + millis(1);
        world.run_for(mins(2));
        let late = world.outside.starts.iter().filter(|start| start.at > since);
        let rash = late.filter(|start| start.told.remove.contains(&address)).count();
        assert!(running || rash == 0, "{}", world.blame("it served when the run began"));
        is_right(&mut world, mins(1), "it serves, and stays");
    });
}

/// Three nodes whose files differ: nobody quarrels, the runner's file counts.
#[test]
fn nodes_with_different_all_down_and_min_up_do_not_quarrel() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(3).app("web");
        let base = world.settings.clone();
        let list = vec!["192.0.2.99".parse().expect("an address")];
        let different = [
            (AllDown::Keep, MinUp::Count(1)),
            (AllDown::Fallback(list), MinUp::Count(2)),
            (AllDown::All, MinUp::Percent(50)),
        ];
        for (node, (all_down, min_up)) in world.nodes.iter_mut().zip(different) {
            let mut own = base.clone();
            (own.all_down, own.min_up) = (all_down, min_up);
            node.settings = Some(own);
        }
        let mut world = world.settled();
        world.run_for(mins(3));
        never_empty(&mut world);
        let since = world.now;
        for name in world.names() {
            world.set_health(&name, "web", Health::Down);
            let pause = world.rng.duration_below(secs(20));
            world.run_for(pause);
        }
        world.run_for(mins(30));
        let count = runs(&world, since);
        assert!(count <= 4, "{}", world.blame(&format!("{count} runs: a quarrel")));
        for name in world.names() {
            world.set_health(&name, "web", Health::Up);
        }
        is_right(&mut world, mins(4), "all are back");
    });
}

/// Goal: what a run that failed in the middle left behind is repaired, by whoever is next.
#[test]
fn a_run_that_wrote_and_failed_is_followed_by_another() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        let first = runner(&world);
        let other = others(&world, &first)[0].clone();
        world.script(&first, [Behaviour::FailAfter(1)]);
        let since = world.now;
        world.set_health(&other, "web", Health::Down);
        world.expect_within(DOWN_WITHIN + secs(10), "a second run", |world| runs(world, since) == 2);
        world.run_for(RESYNC / 2);
        assert_eq!(runs(&world, since), 2, "{}", world.blame("one failed, one did not"));
    });
}

/// Goal: a bad update that stops most of the web servers within minutes takes half of them away at most, until a
/// person says so.
#[test]
fn no_more_than_max_remove_goes_within_five_minutes() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 6, |settings| settings.max_remove = Some(50));
        world.always("half of them stay", |world| world.records("web").len() >= 3 || world.nodes[0].synced);
        for name in ["n2", "n3", "n4", "n5", "n6"] {
            world.set_health(name, "web", Health::Down);
            let pause = world.rng.duration_below(secs(8));
            world.run_for(pause);
        }
        world.run_for(mins(3));
        for name in world.names() {
            world.force(&name);
        }
        is_right(&mut world, mins(1), "a person forced it");
    });
}

/// A member that was failed is back for `hold_up` before it is published, and one that flaps for longer.
#[test]
fn a_machine_that_comes_back_is_published_after_hold_up() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| settings.check_interval = secs(1));
        world.crash("n2", Down::Machine);
        is_right(&mut world, NODE_DOWN_WITHIN, "it is gone");
        world.start("n2");
        world.expect_within(secs(20), "it is alive", |world| world.all_see("n2", &["alive"]));
        let took = world.expect_within(mins(1), "it is back", |world| world.records_are_right());
        assert!(took > secs(13), "{}", world.blame(&format!("published after {took:?}")));
    });
}

/// Goal: with `empty`, one that is up and only just back counts before the last ones are taken away.
#[test]
fn a_member_just_back_is_waited_for_before_the_records_are_emptied() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| {
            (settings.all_down, settings.min_up) = (AllDown::Empty, MinUp::Count(2));
            settings.check_interval = secs(1);
        });
        never_empty(&mut world);
        world.crash("n1", Down::Machine);
        is_right(&mut world, NODE_DOWN_WITHIN, "it is gone");
        world.start("n1");
        world.expect_within(secs(20), "it is alive", |world| world.all_see("n1", &["alive"]));
        world.run_for(secs(3));
        world.set_health("n2", "web", Health::Down);
        world.expect_within(mins(1), "two are up", |world| world.records("web") == ["n1", "n3"]);
    });
}

/// Goal: a node that misses its electorate, but sees one that may act, leaves it to that one.
/// Method: n2 and n3 know of each other only, and one of them is gone for good; n1, which was away, remembers all
/// three. Without n2 it is n3 that may withdraw itself: of two halves the one without the smallest name does.
#[test]
fn a_node_without_quorum_does_not_quarrel_with_one_that_has_it() {
    for_seeds(10, |seed| {
        for (stays, gone) in [("n2", "n3"), ("n3", "n2")] {
            let mut world = with(seed, 3, |settings| settings.on_no_quorum = OnNoQuorum::WithdrawSelf);
            never_empty(&mut world);
            world.crash("n1", Down::Machine);
            world.run_for(mins(4));
            world.crash(gone, Down::Machine);
            world.node_mut(gone).gone_for_good = true;
            world.run_for(secs(1));
            world.start("n1");
            world.expect_within(mins(4), "both are published", |world| world.records("web") == ["n1", stays]);
            let since = world.now;
            world.run_for(mins(9));
            let count = runs(&world, since);
            assert!(count <= 1, "{}", world.blame(&format!("{count} runs: {stays} quarrels")));
        }
    });
}

/// Goal: of two servers without a witness the one that is left changes nothing when the other dies: it cannot know
/// whether it is itself cut off.
#[test]
fn of_two_servers_without_a_witness_the_one_that_is_left_changes_nothing() {
    for_seeds(10, |seed| {
        let mut world = changes_nothing(web(seed, 2), mins(5), |world| world.crash("n1", Down::Machine));
        world.start("n1");
        is_right(&mut world, mins(2), "both are there");
    });
}

/// When this node said so last.
fn said(world: &World, name: &str, event: &str) -> Option<Instant> {
    world.node(name).notes.iter().rev().find(|note| note.event == event).map(|note| note.at)
}

/// Goal: a node that has its majority back does not go by what it saw while it was alone, but waits for news from a
/// peer (gate 1, again); who mended the network and says `join` brings them, and sees it act at once.
#[test]
fn who_has_its_majority_back_waits_for_news_which_a_join_brings() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        for name in ["n2", "n3"] {
            world.suspend(name);
        }
        world.run_for(mins(2));
        assert!(said(&world, "n1", "no-quorum").is_some(), "{}", world.full_picture());
        let since = world.now;
        for name in ["n2", "n3"] {
            world.thaw(name);
        }
        while said(&world, "n1", "quorum").is_none_or(|at| at < since) {
            assert!(world.now.since(since) < mins(1), "{}", world.blame("no majority"));
            world.run_for(millis(20));
        }
        let back = said(&world, "n1", "quorum").expect("just seen");
        let acts = said(&world, "n1", "may-act").is_some_and(|at| at >= back);
        assert!(said(&world, "n1", "may-act") != Some(back), "{}", world.blame("it waits for nothing"));
        let target = world.node("n2").addr;
        world.say(0, &format!(r#"{{"cmd":"join","targets":["{target}"]}}"#));
        // Without, it is 5 s.
        world.run_for(secs(2));
        // Its own bad health, after so many probes that nobody answered, may stop it for longer.
        let status = world.ask(0, r#"{"cmd":"status"}"#).to_string();
        assert!(
            acts || !status.contains("its news are waited for"),
            "{}",
            world.blame(&format!("no news: {status}"))
        );
    });
}

/// Goal: a virtual machine that slept takes its view from before for nothing: it was not stable for a minute (gate 4).
/// Method: n3 is dead, n1 sees that and is suspended, and wakes up cut off from n2, which serves.
#[test]
fn what_was_seen_before_a_sleep_is_no_stable_view() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| (settings.witnesses, settings.verify) = (1, false));
        world.always("n2 stays", |world| world.records("web").contains(&"n2".to_string()));
        world.crash("n3", Down::Machine);
        let sees = |world: &mut World| world.sees("n1", "n3").is_some_and(|seen| seen.state == "failed");
        world.expect_within(mins(1), "n1 noticed", sees);
        world.suspend("n1");
        world.partition(&["n1"]);
        world.run_for(mins(2));
        world.thaw("n1");
        world.run_for(mins(5));
        world.heal();
        is_right(&mut world, mins(4), "n1 and n2 are there");
    });
}

/// Goal: who withdraws itself leaves somebody who serves: the last server stays, though it has no quorum.
#[test]
fn the_last_one_that_serves_does_not_withdraw_itself() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| settings.on_no_quorum = OnNoQuorum::WithdrawSelf);
        world.always("n1 stays", |world| world.records("web").contains(&"n1".to_string()));
        for name in ["n2", "n3"] {
            world.crash(name, Down::Machine);
        }
        world.run_for(mins(10));
        for name in ["n2", "n3"] {
            world.start(name);
        }
        is_right(&mut world, mins(3), "all are there");
    });
}

/// Goal: with all apps down the records hold what `all_down` says, whatever that is, and the first one back alone.
#[test]
fn with_all_apps_down_the_records_hold_what_all_down_says() {
    for_seeds(10, |seed| {
        let list = vec!["192.0.2.99".parse().expect("an address"), "192.0.2.98".parse().expect("an address")];
        for all_down in [AllDown::Empty, AllDown::Fallback(list), AllDown::All] {
            let mut world = with(seed, 3, |settings| settings.all_down = all_down);
            for name in world.names() {
                world.set_health(&name, "web", Health::Down);
            }
            world.run_for(DOWN_WITHIN);
            is_right(&mut world, secs(10), "nobody is up");
            world.run_for(mins(11));
            world.set_health("n2", "web", Health::Up);
            world.expect_within(mins(2), "n2 is back", |world| world.records("web") == ["n2"]);
        }
    });
}

/// Goal: `hold_up` of a machine that came back counts on though the runner's picored is upgraded meanwhile.
#[test]
fn a_restart_of_the_runner_does_not_shorten_hold_up() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| settings.check_interval = secs(1));
        let first = runner(&world);
        let victim = others(&world, &first)[0].clone();
        world.crash(&victim, Down::Machine);
        is_right(&mut world, NODE_DOWN_WITHIN, "it is gone");
        // The state file knows it, too.
        world.run_for(secs(10));
        world.start(&victim);
        world.expect_within(secs(20), "it is alive", |world| world.all_see(&victim, &["alive"]));
        let back = world.now;
        world.crash(&first, Down::Process);
        world.run_for(millis(500));
        world.start(&first);
        is_right(&mut world, mins(1), "it is back");
        let took = world.now.since(back);
        assert!(took > secs(12), "{}", world.blame(&format!("published after {took:?}")));
    });
}
