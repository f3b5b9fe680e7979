//! What the cluster does, in numbers, as a table that is kept: all is deterministic, so each difference is a
//! change of behaviour that a commit must mean. `UPDATE=1 cargo test --test sim behaviour` writes it anew.

use std::fmt::Write as _;
use std::time::Duration;

use crate::node::Health;
use crate::table::{Detection, kill_and_watch};
use crate::world::World;
use crate::{mins, secs};

const KILLS: usize = 12;

/// Tenths of a second, so that the last digit of a logarithm is nobody's business.
fn tenths(time: Duration) -> String {
    let tenths = (time.as_millis() + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

fn detection(table: &mut String, nodes: usize) {
    let mut world = World::new(1).nodes(nodes).settled();
    world.inspect_every = mins(1);
    let kills: Vec<Detection> = (0..KILLS).map(|_| kill_and_watch(&mut world)).collect();
    let row = |mut times: Vec<Duration>| {
        times.sort_unstable();
        [0, KILLS / 2, KILLS - 1].map(|at| format!("{:>7}", tenths(times[at]))).concat()
    };
    let (first, last) =
        (row(kills.iter().map(|k| k.first).collect()), row(kills.iter().map(|k| k.last).collect()));
    let _ = writeln!(table, "detection, {nodes:>2} nodes, s: first{first}  last{last}");
}

fn alarms(table: &mut String, percent: u32) {
    let mut world = World::new(1).nodes(10).settled();
    world.net.link.loss = f64::from(percent) / 100.0;
    world.run_for(mins(60));
    let (suspected, failed) = (world.count("node-suspect"), world.failures());
    let _ = writeln!(
        table,
        "{percent:>2} % loss, 10 nodes, 1 h: suspected {suspected:>4}  said failed {failed:>3}"
    );
}

fn traffic(table: &mut String, nodes: usize) {
    let mut world = World::new(1).nodes(nodes).app("web").settled();
    world.inspect_every = mins(10);
    world.run_for(mins(5));
    let before = (world.net.bytes, world.net.datagrams);
    world.run_for(mins(30));
    let per_node = |count: u64| count / (nodes as u64 * 1_800);
    let bytes = per_node(world.net.bytes - before.0);
    let _ = writeln!(table, "at rest, {nodes:>2} nodes: {bytes:>4} bytes/s sent by each");
}

fn runs(table: &mut String) {
    const CHANGES: usize = 20;
    let mut world = World::new(1).nodes(3).app("web").settled();
    world.run_for(mins(1));
    let since = world.now;
    for change in 0..CHANGES {
        // Apart by more than a flap's memory.
        world.set_health("n2", "web", if change % 2 == 0 { Health::Down } else { Health::Up });
        world.run_for(mins(11) + secs(7));
    }
    let runs = world.outside.starts_since(since).count();
    let _ = writeln!(table, "{CHANGES} changes of one app, 3 nodes: {runs} runs");
}

#[test]
fn the_table_of_the_behaviour_is_the_kept_one() {
    let mut table =
        String::from("From simulations with seed 1. first, last to know: least, median, greatest.\n");
    [3, 10, 50].into_iter().for_each(|nodes| detection(&mut table, nodes));
    [10, 20, 30].into_iter().for_each(|percent| alarms(&mut table, percent));
    [3, 10, 50].into_iter().for_each(|nodes| traffic(&mut table, nodes));
    runs(&mut table);
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/sim/table.txt");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(path, &table).expect("the table can be written");
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(
        table, kept,
        "the behaviour changed; if that is meant: UPDATE=1 cargo test --test sim behaviour"
    );
}
