//! Cuts between healthy servers: all serve all the time, whatever the nodes think of each other.

use std::net::UdpSocket;
use std::time::Duration;

use crate::net::addr;
use crate::peer::Kind;
use crate::scenario::{BACK, DEAD_HALF, DEAD_NODE, Row, cut_secs, scenario};
use crate::verdict::Limits;
use crate::world::{Setup, World};

/// As long nothing must happen after healing.
const AFTER: u64 = 10;
/// A Serf agent tries those that it lost every 30 s.
const SERF_BACK: Duration = Duration::from_secs(90);

/// Each side takes the other out at the most, and both come back with one change each at the most.
const WRITES: u32 = 4;

#[test]
fn two_nodes() {
    scenario("two servers, link cut", |row| {
        let limits = Limits::new(Some(DEAD_HALF), WRITES, &[1, 2]);
        let world = cut_in_two(row, &Setup::picored(2), &limits, BACK);
        row.judge(&world.verdict(), &limits);
    });
}

/// The same, with what Serf's users write. That the same verdict complains here shows that it can.
#[test]
fn two_serf_agents() {
    scenario("the same with Serf agents and \"remove the other\"", |row| {
        let limits = Limits::new(Some(DEAD_HALF), WRITES, &[1, 2]);
        let setup = Setup { kind: Kind::Serf, ..Setup::picored(2) };
        let world = cut_in_two(row, &setup, &limits, SERF_BACK);
        let verdict = world.verdict();
        row.show(&verdict, &limits);
        let complaints = verdict.complaints(&limits);
        assert!(
            complaints.iter().any(|what| what.contains("empty")),
            "no longer the usual way to fail: {complaints:?}"
        );
        row.remark("fails, as expected");
    });
}

fn cut_in_two(row: &Row, setup: &Setup, limits: &Limits, back: Duration) -> World {
    let world = World::start(setup);
    world.forward(false);
    world.wait_for_failed(1, 2);
    world.wait_for_failed(2, 1);
    world.look_on(cut_secs());
    row.show(&world.verdict(), limits);
    row.remark(&format!("cut for {} s", cut_secs()));
    world.forward(true);
    let took = world.wait_for_records(&[1, 2], back);
    row.remark(&format!("both back after {:.0} s", took.as_secs_f64()));
    world.look_on(AFTER);
    world
}

#[test]
fn two_nodes_without_witness() {
    scenario("two servers, link cut, witness down: frozen", |row| {
        let world = World::start(&Setup::picored(2));
        world.stop_witness();
        world.forward(false);
        world.wait_for_failed(1, 2);
        world.wait_for_failed(2, 1);
        world.look_on(cut_secs());
        world.forward(true);
        world.look_on(AFTER);
        nothing_changed(row, &world);
    });
}

#[test]
fn minority_of_three() {
    scenario("one of three cut off: the two carry on", |row| {
        let mut world = World::start(&Setup::picored(3));
        // The harder case: the one that ran the handlers is the minority.
        let lone = world.runner();
        let others = world.others(lone);
        world.cut(lone);
        let took = world.wait_for_records(&others, Duration::from_secs(DEAD_NODE));
        row.remark(&format!("out after {:.0} s", took.as_secs_f64()));
        // The majority goes on working.
        let (down, up) = (others[0], others[1]);
        world.node(down).web.kill();
        world.wait_for_records(&[up], BACK);
        world.start_web(down);
        world.wait_for_records(&others, BACK);
        world.look_on(20);
        let runs = world.runs();
        world.heal();
        world.wait_for_records(&[1, 2, 3], BACK);
        world.look_on(AFTER);
        row.judge(&world.verdict(), &Limits::new(Some(DEAD_NODE), 4, &[1, 2, 3]));
        let by_lone = runs.iter().filter(|run| run.node == lone).count();
        assert_eq!(by_lone, 0, "runs of n{lone}, which is cut off:\n{}", world.story());
    });
}

#[test]
fn one_link_of_three() {
    scenario("one link among three cut: asked by way of the third", |row| {
        let world = World::start(&Setup::picored(3));
        world.net.drop_all(1, 2);
        world.look_on(60);
        world.heal();
        world.look_on(AFTER);
        nothing_changed(row, &world);
    });
}

/// What one sends to another is lost, answers and all; what the other sends arrives. First what the node that runs the
/// handlers sends, then what is sent to it.
#[test]
fn one_way_of_three() {
    scenario("one link among three cut one way, then the other", |row| {
        let world = World::start(&Setup::picored(3));
        let runner = world.runner();
        let other = world.others(runner)[0];
        // Both ways together are over before the first `resync`, after 10 min.
        let lasts = cut_secs().min(150);
        for (from, to) in [(runner, other), (other, runner)] {
            world.net.drop_one_way(from, to);
            let socket = |n| world.net.within(n, || UdpSocket::bind((addr(n), 0)).expect("its own address"));
            let reaches = |n, target| arrives(&socket(n), &socket(target));
            assert!(!reaches(from, to) && reaches(to, from), "the cut from n{from} to n{to} is none");
            world.look_on(lasts);
            world.heal();
            world.look_on(AFTER);
        }
        row.remark(&format!("{lasts} s each"));
        nothing_changed(row, &world);
    });
}

fn arrives(from: &UdpSocket, at: &UdpSocket) -> bool {
    let to = at.local_addr().expect("it is bound");
    at.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout");
    (0..5).any(|_| from.send_to(b"?", to).is_ok() && at.recv_from(&mut [0; 8]).is_ok())
}

#[test]
fn gossip_of_all_blocked() {
    scenario("three servers, gossip port blocked between all", |row| gossip_blocked(row, 3, false));
}

#[test]
fn gossip_of_two_blocked() {
    scenario("two servers, gossip port blocked", |row| gossip_blocked(row, 2, false));
}

#[test]
fn gossip_of_one_blocked() {
    scenario("three servers, gossip port of one blocked", |row| gossip_blocked(row, 3, true));
}

/// The servers still reach each other's web server, so nobody must be taken out.
fn gossip_blocked(row: &Row, nodes: u8, one: bool) {
    let world = World::start(&Setup::picored(nodes));
    let lone = world.runner();
    world.block_gossip(one.then_some(lone));
    for other in world.others(lone) {
        world.wait_for_failed(other, lone);
        world.wait_for_failed(lone, other);
    }
    world.look_on(60);
    world.heal();
    world.look_on(20);
    nothing_changed(row, &world);
}

fn nothing_changed(row: &Row, world: &World) {
    row.judge(&world.verdict(), &Limits::new(None, 0, &world.all()));
    let runs = world.runs();
    assert!(runs.is_empty(), "runs though nothing was to be changed:\n{}", world.story());
}
