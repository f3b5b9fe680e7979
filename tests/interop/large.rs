//! Forty members: what is told of many at once.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::bare;
use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, Setting};
use crate::peer::Kind::{Memberlist, Picored, Serf};
use crate::peer::{self, Options, Peer};
use crate::watch::{seconds, times};

/// Somebody may miss a piece of news; among forty push/pulls are a minute apart, and the first comes after 90 s at most,
/// by chance. A third as much again, for a machine that is busy.
const JOINED: Duration = Duration::from_secs(120);
/// The suspicion of forty is 38 s at the longest; before it, many that do not answer are probed one by one.
const FAILED: Duration = Duration::from_secs(120);
/// No single message with the headers around it is as long here; from 29 bytes on they are encrypted.
const SEVERAL: u32 = 300;

cell!(forty, "40 members: 35 join at once, 20 die at once", super::forty_);
fn forty_(setting: &Setting) -> String {
    let options = setting.options();
    let cluster = Cluster::start(&[Picored, Serf, Serf, Serf, Picored], &options);
    cluster.wait_for_agreement(EVENTUALLY);
    let mut many = [(6, 20), (7, 15)].map(|(place, count)| many(&cluster, place, count, &options));
    let names =
        |process: &dyn Peer, count: u8| (1..=count).map(|i| format!("{}-{i}", process.name())).collect();
    let [dying, staying]: [BTreeSet<_>; 2] = [names(many[0].as_ref(), 20), names(many[1].as_ref(), 15)];
    let agents: BTreeSet<_> = cluster.peers.iter().map(|peer| peer.name().to_owned()).collect();
    let all = &agents | &(&dying | &staying);
    assert_eq!(all.len(), 40);

    nft(&format!("add rule inet interop forward iifname n1 udp length > {SEVERAL} counter"));
    let began = Instant::now();
    for process in &many {
        process.tell(&format!("join {}", cluster.peers[0].addr())).expect("the first of them joined");
    }
    let agreed = |all: &BTreeSet<String>, many: &[Box<dyn Peer>]| {
        cluster.peers.iter().all(|peer| alive(peer.as_ref()) == *all)
            && many
                .iter()
                .map(|process| views(process.as_ref()))
                .all(|views| views.values().all(|view| view == all))
    };
    let [joined] = times(JOINED, [&|| agreed(&all, &many)]);
    assert!(joined.is_some(), "not all 40 know all 40 within {JOINED:?}");
    let joined = began.elapsed();
    let packets = counted();
    assert!(packets > 0, "picored told of one member at a time");
    assert_eq!([0, 1].map(|i| views(many[i].as_ref()).len()), [20, 15]);

    many[0].kill();
    let left = &agents | &staying;
    let says = |i: usize| {
        let peer = cluster.peers[i].as_ref();
        alive(peer) == left && members_that_are(peer, "failed") == dying
    };
    let seen = times(
        FAILED,
        [&|| says(0) && says(4), &|| (1..4).all(says), &|| {
            views(many[1].as_ref()).values().all(|view| *view == left)
        }],
    );
    assert!(!seen.contains(&None), "who died is failed for picored, Serf, memberlist after {seen:?}");
    let [ours, serf, memberlist] = seen.map(|time| seconds(time, FAILED));
    let joined = joined.as_secs_f64();
    format!("{joined:.1} s, {packets} compound packets; {ours} (Serf {serf}, memberlist {memberlist})")
}

/// A process with so many members.
fn many(cluster: &Cluster, place: u8, count: u8, options: &Options) -> Box<dyn Peer> {
    assert_eq!(cluster.net.add_node(), place);
    let options = Options { args: vec![format!("-count={count}")], ..options.clone() };
    peer::start(Memberlist, &cluster.net, place, &format!("m{place}"), options)
}

fn alive(peer: &dyn Peer) -> BTreeSet<String> {
    members_that_are(peer, "alive")
}

fn members_that_are(peer: &dyn Peer, state: &str) -> BTreeSet<String> {
    let members = peer.members().into_iter();
    members.filter(|(_, member)| member.state == state).map(|(name, _)| name).collect()
}

/// Whom each of the members of a process knows alive, by what it told as it happened.
fn views(process: &dyn Peer) -> BTreeMap<String, BTreeSet<String>> {
    let mut views = BTreeMap::<_, BTreeSet<_>>::new();
    for event in bare::events(&process.log()) {
        let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let view = views.entry(text("node")).or_default();
        match event["event"].as_str() {
            Some("join") => drop(view.insert(text("name"))),
            Some("leave") => drop(view.remove(&text("name"))),
            _ => {}
        }
    }
    views
}

/// Tells the router something; what it answers.
fn nft(args: &str) -> Vec<u8> {
    let output = Command::new("nft").args(args.split(' ')).output().expect("nft is there");
    assert!(output.status.success(), "nft {args}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The packets that the router counted.
fn counted() -> u64 {
    let said: Value = serde_json::from_slice(&nft("-j list chain inet interop forward")).expect("JSON");
    let rules = said["nftables"].as_array().into_iter().flatten();
    let counters = rules.flat_map(|rule| rule["rule"]["expr"].as_array().into_iter().flatten());
    counters.filter_map(|expression| expression["counter"]["packets"].as_u64()).sum()
}
