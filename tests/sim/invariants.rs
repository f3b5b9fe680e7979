//! What must always hold, whatever the network and the operators do: looked at at every drain, packet and
//! run, and, where nodes have to be asked, every few seconds ([`World::inspect_every`]).

use std::net::SocketAddr;

use picored::limits::{META_MAX, PACKET_OUT_MAX};
use picored::safety::AllDown;
use picored::wire::packet::{Envelope, open};
use picored::wire::{Error, Message};

use crate::node::Minute;
use crate::observe::Seen;
use crate::secs;
use crate::told::Told;
use crate::world::World;

/// Wake-ups at one moment; more is spinning. One may be due for each of a handful of timers.
const WAKES_MAX: u32 = 64;
/// Packets and actions of one drain; a join of a large cluster makes a few hundred.
const DRAIN_MAX: u32 = 10_000;

/// In a minute a node has some 60 s / 400 ms gossip rounds, 20 probes with their deadlines, and checks.
const WAKES_A_MINUTE: u32 = 1_500;
/// Every 5 s, if anything changed all the time; others come at once before a run or at a person's word.
const PERSISTS_A_MINUTE: u32 = 14;
const MINUTE: std::time::Duration = secs(60);
/// Of a handful of nodes, in bytes.
const STATE_MAX: usize = 64 << 10;

/// Type bytes of the wrappers (protocol page, 3.1).
const TYPE_COMPRESS: u8 = 9;
const TYPE_CRC: u8 = 12;

/// After a drain the next deadline is in the future, or nearly always so.
pub fn count_wake(world: &mut World, index: usize) {
    let now = world.now;
    let (last, times) = world.nodes[index].woken;
    let times = if last == now { times + 1 } else { 1 };
    world.nodes[index].woken = (now, times);
    world.nodes[index].minute.wakes += 1;
    check_minute(world, index);
    assert!(times <= WAKES_MAX, "{}", world.blame(&format!("{} spins", world.nodes[index].name)));
}

/// The state file is written seldom and stays small.
pub fn check_state(world: &mut World, index: usize, text: &str) {
    let small = text.len() <= STATE_MAX;
    assert!(small, "{}", world.blame(&format!("{} bytes of state: {text}", text.len())));
    world.nodes[index].minute.persists += 1;
}

/// Once a minute: what was counted since is no more than there is reason for.
fn check_minute(world: &mut World, index: usize) {
    let (now, minute) = (world.now, world.nodes[index].minute);
    if now.since(minute.began) < MINUTE {
        return;
    }
    world.nodes[index].minute = Minute { began: now, ..Minute::default() };
    // It may have stood still.
    let minutes = (now.since(minute.began).as_secs() / MINUTE.as_secs()) as u32 + 1;
    let name = &world.nodes[index].name;
    let wakes = minute.wakes <= WAKES_A_MINUTE * minutes;
    assert!(wakes, "{}", world.blame(&format!("{name} woke up {} times in a minute", minute.wakes)));
    let persists = minute.persists <= (PERSISTS_A_MINUTE + 2 * minute.reasons) * minutes;
    assert!(persists, "{}", world.blame(&format!("{name} wrote its state {} times", minute.persists)));
}

/// A drain ends.
pub fn check_drain(world: &World, index: usize, actions: u32) {
    assert!(actions <= DRAIN_MAX, "{}", world.blame(&format!("{} never drains", world.nodes[index].name)));
}

/// Datagrams are of the promised size and go somewhere; what a node says of itself in them fits the
/// metadata limit, and its own incarnation never falls.
pub fn check_packet(world: &mut World, index: usize, to: SocketAddr, bytes: &[u8]) {
    let name = &world.nodes[index].name;
    assert!(!bytes.is_empty(), "{}", world.blame(&format!("{name} sends an empty datagram")));
    let fits = bytes.len() <= PACKET_OUT_MAX;
    assert!(fits, "{}", world.blame(&format!("{name} sends {} bytes in a datagram", bytes.len())));
    assert!(to.port() != 0, "{}", world.blame(&format!("{name} sends to {to}")));
    let own = own_alive(world, index, bytes);
    let Some((incarnation, meta_len)) = own else { return };
    let node = &mut world.nodes[index];
    let (before, name) = (node.incarnation, node.name.clone());
    node.incarnation = before.max(incarnation);
    assert!(incarnation >= before, "{}", world.blame(&format!("{name} fell from {before} to {incarnation}")));
    assert!(meta_len <= META_MAX, "{}", world.blame(&format!("{name} has {meta_len} bytes of tags")));
}

/// Incarnation and length of the metadata of an alive message that a node sends about itself.
///
/// Most datagrams hold none, and opening each would double the cost of a simulated day: the key of a
/// field that only this message has is looked for first, unless compression hides it.
fn own_alive(world: &World, index: usize, bytes: &[u8]) -> Option<(u64, usize)> {
    let node = &world.nodes[index];
    if world.settings.key.is_some() {
        return None; // sealed; what is inside is looked at in the runs without a key
    }
    let compressed =
        bytes[0] == TYPE_COMPRESS || (bytes[0] == TYPE_CRC && bytes.get(5) == Some(&TYPE_COMPRESS));
    if !compressed && !bytes.windows(3).any(|window| window == b"Vsn") {
        return None;
    }
    let mut copy = bytes.to_vec();
    let (ip, port) = (node.addr.ip(), node.addr.port());
    let mut found = None;
    let mut broken: Option<Error> = None;
    let result = open(&Envelope::default(), &mut copy, &mut Vec::new(), &mut |message| match message {
        // One of the same name at another address is somebody else.
        Ok(Message::Alive(alive)) if alive.node == node.name && alive.port == port => {
            let own = match ip {
                std::net::IpAddr::V4(ip) => {
                    alive.addr == ip.octets() || alive.addr == ip.to_ipv6_mapped().octets()
                }
                std::net::IpAddr::V6(ip) => alive.addr == ip.octets(),
            };
            if own {
                found = Some((u64::from(alive.incarnation), alive.meta.len()));
            }
        }
        Ok(_) => {}
        Err(error) => broken = Some(error),
    });
    let broken = broken.or(result.err());
    assert!(broken.is_none(), "{}", world.blame(&format!("{} sends what is {broken:?}", node.name)));
    found
}

/// A run is started: one at a time for each handler of a node, and never with nothing to publish unless
/// the operator said so.
pub fn check_run(world: &World, index: usize, told: &Told) {
    let node = &world.nodes[index];
    let another = node.runs.values().any(|running| running.told.handler == told.handler);
    assert!(
        !another,
        "{}",
        world.blame(&format!("{} runs {} twice at once: {told:?}", node.name, told.handler))
    );
    let settings = node.settings.as_ref().unwrap_or(&world.settings);
    let may_be_empty = settings.all_down == AllDown::Empty;
    let empties = told.is_sync() && told.addrs.is_empty() && !may_be_empty;
    assert!(!empties, "{}", world.blame(&format!("{} publishes nothing: {told:?}", node.name)));
    let mut sorted = told.addrs.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert!(sorted.len() == told.addrs.len(), "{}", world.blame(&format!("doubled addresses: {told:?}")));
}

/// What is seen by asking: tables are bounded and without doubles, everybody lists itself, tags fit, and no
/// news of a member gives way to older.
pub fn inspect(world: &mut World) {
    for index in 0..world.nodes.len() {
        if !world.nodes[index].is_running() || world.nodes[index].frozen {
            continue;
        }
        let view = world.view(index);
        let name = world.nodes[index].name.clone();
        let mut names: Vec<&str> = view.iter().map(|seen| seen.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert!(
            names.len() == view.len(),
            "{}",
            world.blame(&format!("{name} lists a name twice: {view:?}"))
        );
        let known = names.iter().all(|seen| world.nodes.iter().any(|node| node.name == **seen));
        assert!(known, "{}", world.blame(&format!("{name} lists nodes that never were: {view:?}")));
        let itself = view.iter().find(|seen| seen.name == name);
        let Some(itself) = itself else { panic!("{}", world.blame(&format!("{name} does not list itself"))) };
        let now = world.now;
        if world.ask(index, r#"{"cmd":"status"}"#)["waiting"].is_string() {
            world.nodes[index].shadow.doubts(now);
        }
        let changes = world.nodes[index].changes();
        world.nodes[index].shadow.sample(now, &view, &changes);
        for seen in &view {
            let fits = seen.tags_len <= META_MAX;
            assert!(
                fits,
                "{}",
                world.blame(&format!("{name} knows {} bytes of tags: {seen:?}", seen.tags_len))
            );
            news_stay(world, index, seen);
        }
        // After its leave it is shown as left; never as anything that others could have made of it.
        let fine = ["alive", "left"].contains(&itself.state.as_str());
        assert!(fine, "{}", world.blame(&format!("{name} shows itself as {}", itself.state)));
    }
}

/// Whom this node shows as running.
pub fn alive_in_view(world: &mut World, index: usize) -> Vec<String> {
    let running = |seen: &Seen| seen.state == "alive" || seen.state == "suspect";
    let mut alive: Vec<String> =
        world.view(index).into_iter().filter(running).map(|seen| seen.name).collect();
    alive.sort_unstable();
    alive
}

/// A member's incarnation never falls in the eyes of a process, as long as it stays at its address (a
/// takeover of the name by another address may begin anew).
fn news_stay(world: &mut World, index: usize, seen: &Seen) {
    let news = (seen.address.clone(), seen.incarnation);
    let Some((address, before)) = world.nodes[index].known.insert(seen.name.clone(), news) else { return };
    let falls = address == seen.address && seen.incarnation < before;
    let name = &world.nodes[index].name;
    assert!(!falls, "{}", world.blame(&format!("{name} forgot {before} of {seen:?}")));
}
