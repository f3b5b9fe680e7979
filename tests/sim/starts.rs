//! Stories of processes that have just started: what they do not know yet must not reach the records.

use crate::node::Health;
use crate::world::{Down, World};
use crate::{for_seeds, millis, mins, secs};

fn web(seed: u64, seeds: usize) -> World {
    let world = World::new(seed).nodes(3).with(|settings| {
        settings.joins = crate::settings::Joins::First(seeds);
        settings.check_interval = millis(1_000);
    });
    let mut world = world.app("web").settled();
    world.run_for(mins(1));
    world
}

/// Goal: a restart of any one process takes away no other node's address, whoever is in whose join list.
/// Method: quick checks, so that the restarted node is as early as it can be; away for less and for more than
/// the others need to notice.
#[test]
fn a_restart_of_one_process_takes_no_other_address_away() {
    for_seeds(6, |seed| {
        for seeds in 1..=3 {
            let mut world = web(seed, seeds);
            for name in world.names() {
                let others: Vec<String> = world.names().into_iter().filter(|other| *other != name).collect();
                let first = world.outside.writes.len();
                for away in [millis(500), secs(5), secs(60)] {
                    world.crash(&name, Down::Process);
                    world.run_for(away);
                    world.start(&name);
                    world.run_for(mins(2));
                }
                for write in &world.outside.writes[first..] {
                    let has = |other: &&String| write.addrs.contains(&world.node(other).addr.ip());
                    assert!(others.iter().all(|other| has(&other)), "{}", world.blame(&format!("{write:?}")));
                }
                assert!(world.records_are_right(), "{}", world.full_picture());
            }
        }
    });
}

/// Goal: `settle` is waited for while configured peers are not reached.
#[test]
fn a_node_that_reaches_its_peers_late_tells_nothing_before() {
    for_seeds(10, |seed| {
        let mut world = web(seed, 3);
        for name in world.names() {
            world.crash(&name, Down::Process);
            world.partition(&[&name]);
            world.run_for(secs(2));
            world.start(&name);
            // Its checks have verdicts after some 2 s; `settle` is 20 s.
            let started = world.now;
            world.run_for(secs(15));
            let by_it = world.outside.writes.iter().filter(|write| write.by == name && write.at > started);
            assert_eq!(by_it.count(), 0, "{}", world.blame("a run before it knew anybody"));
            world.heal();
            world.run_for(mins(2));
            assert!(world.records_are_right(), "{}", world.full_picture());
        }
    });
}

/// Goal: gate 1 waits for all local checks, those of other apps, too.
#[test]
fn nothing_runs_before_all_local_checks_have_verdicts() {
    for_seeds(5, |seed| {
        let world = World::new(seed).nodes(1).with(|settings| settings.check_interval = secs(2));
        let mut world = world.app("web").app("mail");
        world.nodes[0].health = vec![Health::Down, Health::Up];
        let start = world.now;
        world.start("n1");
        // `grace` is 30 s: failures do not count before.
        world.run_for(secs(29));
        assert_eq!(world.outside.starts.len(), 0, "{}", world.blame("a run while web had no verdict"));
        world.expect_within(secs(20), "mail is told", |world| world.records("mail") == ["n1"]);
        assert!(world.now.since(start) > secs(30));
        assert_eq!(world.records("web"), Vec::<String>::new());
    });
}
