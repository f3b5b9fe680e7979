//! Named stories of what survives a restart, and of what does not (`interfaces`, section 6; 4.5, rules 6 and 7).

use picored::safety::MinUp;
use serde_json::Value;

use crate::disk::Memory;
use crate::node::Health;
use crate::settings::Joins;
use crate::stories::{
    DOWN_WITHIN, NODE_DOWN_WITHIN, RESYNC, is_right, never_empty, others, runner, runs, web, with,
};
use crate::world::{Down, World};
use crate::{for_seeds, hours, mins, secs};

/// All nodes lose their state and one is gone for good: the rest wait, for they cannot know whom they would take away;
/// a person's `sync` releases them.
fn amnesia(seed: u64, nodes: usize) {
    let mut world = web(seed, nodes);
    never_empty(&mut world);
    let before = world.records("web");
    for name in world.names() {
        world.crash(&name, Down::Machine);
    }
    world.run_for(mins(1));
    let gone = "n1";
    world.node_mut(gone).gone_for_good = true;
    let since = world.now;
    for name in others(&world, gone) {
        world.start_with(&name, Memory::Lost);
    }
    world.run_for(mins(20));
    let ran = world.outside.starts.iter().filter(|start| start.at > since).count();
    assert_eq!(ran, 0, "{}", world.blame("a run of those who remember nothing"));
    assert_eq!(world.records("web"), before);
    for name in others(&world, gone) {
        world.sync(&name);
    }
    if nodes > 2 {
        is_right(&mut world, mins(1), "sync released them");
        world.set_health("n2", "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN + secs(5), "and they go on");
    }
}

#[test]
fn all_nodes_lose_their_state_and_one_of_three_is_gone_for_good() {
    for_seeds(10, |seed| amnesia(seed, 3));
}

/// Of two, the one that is left is half of its electorate; without a witness not even `sync` makes it act.
#[test]
fn all_nodes_lose_their_state_and_one_of_two_is_gone_for_good() {
    for_seeds(10, |seed| amnesia(seed, 2));
}

#[test]
fn all_nodes_lose_their_state_and_all_come_back() {
    for_seeds(10, |seed| {
        for nodes in [2, 3, 5] {
            // They must be expected: who is named nowhere cannot be missed.
            let mut world = with(seed, nodes, |settings| settings.members = true);
            let before = world.records("web");
            world.always("the records stay", move |world| world.records("web") == before);
            for name in world.names() {
                world.crash(&name, Down::Machine);
            }
            for name in world.names() {
                world.start_with(&name, Memory::Lost);
                let pause = world.rng.duration_below(secs(90));
                world.run_for(pause);
            }
            world.run_for(mins(5));
            assert!(world.records_are_right(), "{}", world.full_picture());
        }
    });
}

/// The greatest record is the lost one's: it returns with an older file while the others have gone on, or begun anew.
#[test]
fn a_stale_record_returns_after_amnesia() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        for name in ["n2", "n3", "n2"] {
            world.set_health(name, "web", Health::Down);
            is_right(&mut world, DOWN_WITHIN + secs(5), "gone");
            world.set_health(name, "web", Health::Up);
            world.run_for(mins(3));
            is_right(&mut world, mins(3), "back");
        }
        for name in world.names() {
            world.crash(&name, Down::Machine);
        }
        for name in ["n2", "n3"] {
            world.start_with(name, Memory::Lost);
        }
        world.run_for(mins(3));
        for name in ["n2", "n3"] {
            world.sync(name);
        }
        world.run_for(mins(3));
        world.start_with("n1", Memory::Older);
        world.run_for(mins(1));
        is_right(&mut world, mins(4), "all three are there");
        world.set_health("n2", "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN + secs(10), "and changes are told");
        let since = world.now;
        world.run_for(mins(9));
        assert!(runs(&world, since) <= 2, "{}", world.blame("runs without a change"));
    });
}

/// With its state, without, with an older one, with a damaged one: it runs nothing, and nothing is run for it.
#[test]
fn a_restart_without_a_change_runs_nothing() {
    for_seeds(10, |seed| {
        for memory in [Memory::Kept, Memory::Lost, Memory::Older, Memory::Damaged] {
            let mut world = web(seed, 3);
            let before = world.records("web");
            world.always("the records stay", move |world| world.records("web") == before);
            let since = world.now;
            let mut allowed = 0;
            for name in world.names() {
                for gracefully in [true, false] {
                    // Who wrote last and does not know it any more: nobody can know whether it wrote once more
                    // (rule 6), and so one run tells the same again.
                    allowed += usize::from(memory != Memory::Kept && runner(&world) == name);
                    match gracefully {
                        true => world.stop(&name),
                        false => world.crash(&name, Down::Process),
                    }
                    let away = secs(1) + world.rng.duration_below(secs(50));
                    world.run_for(away);
                    world.start_with(&name, memory);
                    world.run_for(mins(1));
                }
            }
            let count = runs(&world, since);
            assert!(count <= allowed, "{}", world.blame(&format!("{count} runs after {memory:?}")));
        }
    });
}

#[test]
fn a_restart_in_place_is_noticed_by_nobody() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        let since = world.now;
        for name in world.names() {
            let index = world.index(&name);
            world.say(index, r#"{"cmd":"restart"}"#);
            world.run_for(secs(20));
            assert!(
                world.node(&name).life == 2 && world.node(&name).is_running(),
                "{}",
                world.full_picture()
            );
        }
        world.run_for(mins(2));
        assert_eq!((runs(&world, since), world.failures()), (0, 0), "{}", world.full_picture());
    });
}

/// Goal: what a person was told is done survives whatever comes after.
#[test]
fn an_acknowledged_maintenance_is_not_lost() {
    for_seeds(10, |seed| {
        for (by, about) in [("n2", "n2"), ("n3", "n2")] {
            let mut world = web(seed, 3);
            never_empty(&mut world);
            let said = world.maint(by, about, "web", true);
            let mut reply: Option<Value> = None;
            world.expect_within(secs(5), "it is acknowledged", |world| {
                reply = reply.take().or_else(|| world.reply_to(said));
                reply.is_some()
            });
            assert_eq!(reply.expect("checked")["ok"], true);
            world.crash(by, Down::Machine);
            world.run_for(secs(3));
            world.start(by);
            is_right(&mut world, mins(2), "it is withdrawn");
            world.run_for(mins(10));
            assert!(world.records_are_right(), "{}", world.full_picture());
            world.maint(by, about, "web", false);
            is_right(&mut world, mins(2), "and back");
        }
    });
}

#[test]
fn a_maintenance_ends_by_itself_whatever_the_date_says() {
    for_seeds(3, |seed| {
        for off in [0, 86_400, -86_400] {
            let mut world = web(seed, 3);
            world.inspect_every = mins(10);
            world.maint("n2", "n2", "web", true);
            is_right(&mut world, mins(1), "it is withdrawn");
            world.set_clock("n2", off);
            world.run_for(mins(1));
            world.crash("n2", Down::Process);
            world.run_for(secs(1));
            world.start("n2");
            world.run_for(hours(24) + mins(5));
            world.maint.clear();
            is_right(&mut world, mins(5), "it is over after a day, at the latest");
        }
    });
}

#[test]
fn maintenance_of_a_failed_node_takes_it_away_although_it_serves() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        world.crash("n2", Down::Process);
        world.run_for(mins(2));
        assert_eq!(world.records("web"), ["n1", "n2", "n3"], "{}", world.full_picture());
        world.maint("n1", "n2", "web", true);
        is_right(&mut world, secs(30), "it is withdrawn");
        world.maint("n1", "n2", "web", false);
        // Not published, failed: only its return brings it back.
        world.run_for(mins(1));
        world.start("n2");
        is_right(&mut world, mins(2), "and back");
    });
}

#[test]
fn a_full_disk_stops_nothing() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        for node in &mut world.nodes {
            node.disk.broken = true;
        }
        world.set_health("n2", "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN, "the change is told");
        let runner = runner(&world);
        world.crash(&runner, Down::Machine);
        world.run_for(mins(2));
        world.start(&runner);
        for node in &mut world.nodes {
            node.disk.broken = false;
        }
        world.run_for(mins(2));
        is_right(&mut world, mins(1), "and the next");
        let written: Vec<u64> = world.nodes.iter().map(|node| node.disk.writes).collect();
        world.run_for(mins(1));
        let _: &World = &world;
        assert!(world.nodes.iter().all(|node| node.disk.text().is_some()), "{written:?}");
    });
}

#[test]
fn a_jump_of_the_date_changes_nothing() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        let since = world.now;
        let before = world.records("web");
        world.always("the records stay", move |world| world.records("web") == before);
        for (name, off) in [("n1", 86_400), ("n2", -86_400), ("n3", 86_400 * 400)] {
            world.set_clock(name, off);
            world.run_for(mins(2));
            world.crash(name, Down::Process);
            world.set_clock(name, -off);
            world.run_for(secs(2));
            world.start(name);
            world.run_for(mins(2));
        }
        assert_eq!((runs(&world, since), world.failures()), (0, 0), "{}", world.full_picture());
    });
}

/// A forgotten node is gone from the records, though it was serving, and does not come back from peers.
#[test]
fn a_forgotten_node_is_gone_and_comes_back_only_alive() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        never_empty(&mut world);
        world.crash("n2", Down::Process);
        world.run_for(mins(2));
        world.forget_everywhere("n2");
        world.expect_within(mins(1), "it is gone", |world| world.records("web") == ["n1", "n3"]);
        world.run_for(mins(20));
        assert_eq!(world.records("web"), ["n1", "n3"], "{}", world.full_picture());
        world.forgotten.clear();
        world.start("n2");
        world.expect_within(mins(3), "it is back", |world| world.records("web") == ["n1", "n2", "n3"]);
    });
}

/// Goal: who was forgotten is gone also where `keep` keeps all others: a person's word goes before it.
#[test]
fn with_too_few_up_a_forgotten_node_is_not_kept() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 3, |settings| settings.min_up = MinUp::Count(3));
        never_empty(&mut world);
        world.crash("n2", Down::Process);
        world.run_for(mins(2));
        for name in ["n1", "n3"] {
            world.set_health(name, "web", Health::Down);
        }
        world.run_for(mins(2));
        assert_eq!(world.records("web"), ["n1", "n2", "n3"], "{}", world.full_picture());
        world.forget_everywhere("n2");
        world.expect_within(mins(1), "it is gone", |world| world.records("web") == ["n1", "n3"]);
    });
}

/// Goal: two of four planned servers are cancelled before the cluster was ever at rest: once forgotten they have no vote,
/// not after a restart either, though the files still name them.
#[test]
fn who_was_forgotten_before_the_first_rest_has_no_vote_after_a_restart() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(4).app("web").with(|settings| {
            (settings.members, settings.joins) = (true, Joins::First(2));
        });
        world = world.started();
        world.expect_within(secs(20), "all see all", World::all_see_all);
        for name in ["n3", "n4"] {
            world.crash(name, Down::Machine);
            world.node_mut(name).gone_for_good = true;
        }
        world.expect_within(mins(1), "both failed", |world| {
            ["n3", "n4"].iter().all(|name| world.all_see(name, &["failed"]))
        });
        for name in ["n3", "n4"] {
            world.forget_everywhere(name);
        }
        world.run_for(secs(10));
        for name in ["n1", "n2"] {
            world.crash(name, Down::Process);
            world.run_for(secs(1));
            world.start(name);
        }
        world.run_for(mins(2));
        world.set_health("n2", "web", Health::Down);
        world.expect_within(DOWN_WITHIN + mins(1), "the two go on", |world| world.records("web") == ["n1"]);
    });
}

/// Goal: a newcomer knows who is published and failed, also if that was in a power cut of all, so that nobody saw it
/// fail. Method: n3's picored does not come back and its web server does.
#[test]
fn a_newcomer_knows_who_did_not_come_back_after_a_power_cut_of_all() {
    for_seeds(10, |seed| {
        let mut world = World::new(seed).nodes(4).app("web");
        for name in ["n1", "n2", "n3"] {
            world.start(name);
        }
        world.run_for(mins(5));
        never_empty(&mut world);
        world.let_join_first_only("n4");
        for name in ["n1", "n2"] {
            world.crash(name, Down::Machine);
        }
        world.crash("n3", Down::Process);
        world.run_for(secs(30));
        for name in ["n1", "n2"] {
            world.start(name);
        }
        world.run_for(mins(2));
        world.start_with("n4", Memory::Lost);
        world.expect_within(mins(2), "the newcomer knows of n3", |world| {
            world.sees("n4", "n3").is_some_and(|seen| seen.is(&["failed"]))
        });
        world.expect_within(mins(3), "the newcomer is published, and n3 is still", |world| {
            world.records("web") == ["n1", "n2", "n3", "n4"]
        });
        world.run_for(mins(10));
        assert_eq!(world.records("web"), ["n1", "n2", "n3", "n4"], "{}", world.full_picture());
    });
}

/// Goal: below `min_up`, where what is published is kept, one that was away learns what the others took away meanwhile,
/// and does not put it back when it has to go on alone.
/// Method: n1 goes down while n4 is away, and n2 stays published for `min_up`. No app comes up again.
#[test]
fn who_was_away_below_min_up_does_not_put_back_what_was_taken_away_meanwhile() {
    for_seeds(10, |seed| {
        let mut world = with(seed, 4, |settings| {
            (settings.min_up, settings.quorum) = (MinUp::Count(2), false);
        });
        never_empty(&mut world);
        world.crash("n4", Down::Machine);
        is_right(&mut world, NODE_DOWN_WITHIN, "n4 is gone");
        world.set_health("n1", "web", Health::Down);
        is_right(&mut world, DOWN_WITHIN, "n1 is gone");
        world.set_health("n2", "web", Health::Down);
        world.set_health("n4", "web", Health::Down);
        world.run_for(mins(2));
        assert_eq!(world.records("web"), ["n2", "n3"], "{}", world.full_picture());
        world.start("n4");
        world.run_for(mins(2));
        let since = world.now;
        for name in ["n1", "n2", "n3"] {
            world.crash(name, Down::Process);
        }
        // It tells the set anew after `resync`.
        world.run_for(RESYNC + mins(5));
        assert_eq!(world.records("web"), ["n2", "n3"], "{}", world.full_picture());
        assert!(runs(&world, since) <= 2, "{}", world.blame("n4 tells what is told already"));
    });
}
