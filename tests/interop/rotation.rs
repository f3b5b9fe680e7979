//! The gossip key is changed while everybody runs: a second key everywhere, then it comes first, then the old one goes.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cell::{self, Cluster, EVENTUALLY, KEY, SOON, Setting, seconds};
use crate::daemon::wait_for;
use crate::peer::Kind::{Memberlist, Picored, Serf};
use crate::peer::Peer;
use crate::watch::Watch;
use crate::{picored, serf};

/// Another key for tests only.
const NEW: &str = "YW5vdGhlciBvbmUsIGZvciB0ZXN0cyBhcyB3ZWxsLi4=";
/// The steps, as Serf names them, and what a file holds after each.
const STEPS: [(&str, &str, &[&str]); 3] =
    [("install", NEW, &[KEY, NEW]), ("use", NEW, &[NEW, KEY]), ("remove", KEY, &[NEW])];
/// The longest suspicion among four (24 s), after two rounds of probes.
const FAILED: Duration = Duration::from_secs(40);
/// Each is probed by somebody in this time (a probe a second by each), and who cannot be read is suspected.
const LOOK: Duration = Duration::from_secs(3);

#[test]
fn by_reload() {
    cell::run("new key by picored reload, node after node", true, node_after_node);
}

fn node_after_node(setting: &Setting) -> String {
    let cluster = Cluster::start(&[Memberlist, Picored, Memberlist, Picored], &setting.options());
    cluster.wait_for_agreement(EVENTUALLY);
    let (watch, began) = (Watch::new(&cluster), Instant::now());
    for (step, key, file) in STEPS {
        for peer in &cluster.peers {
            match peer.kind() {
                Picored => reload(peer.as_ref(), file),
                _ => {
                    let word = if step == "install" { "add" } else { step };
                    peer.tell(&format!("key {word} {key}")).expect("it is allowed");
                }
            }
            stays_whole(&cluster, &watch, &format!("{step} at {}", peer.name()));
        }
    }
    heeds_only_the_new_key(cluster);
    format!("none lost in {}", seconds(began.elapsed()))
}

#[test]
fn by_serf_keys() {
    cell::run("new key by serf keys", true, everywhere_at_once);
}

fn everywhere_at_once(setting: &Setting) -> String {
    let cluster = Cluster::start(&[Serf, Picored, Serf, Picored], &setting.options());
    cluster.wait_for_agreement(EVENTUALLY);
    let (watch, began) = (Watch::new(&cluster), Instant::now());
    for (step, key, file) in STEPS {
        let output = serf::Serf::command(cluster.peers[0].process(), &["keys", &format!("-{step}={key}")]);
        assert!(output.status.success(), "serf keys -{step}: {output:?}");
        for peer in &cluster.peers {
            // The answer comes when the file is written.
            let text = peer.process().folder.read("keys");
            let held: Vec<String> = serde_json::from_str(&text).expect("a list of keys");
            assert_eq!(held, file, "{step}: {}", peer.name());
        }
        stays_whole(&cluster, &watch, step);
    }
    heeds_only_the_new_key(cluster);
    format!("none lost in {}", seconds(began.elapsed()))
}

fn reload(peer: &dyn Peer, keys: &[&str]) {
    let process = peer.process();
    std::fs::write(process.folder.file("keys"), json!(keys).to_string()).expect("own folder");
    let output = picored::Picored::command(process, &["reload"]);
    assert!(output.status.success(), "{output:?}");
}

/// Nobody is suspected for a while, let alone failed.
fn stays_whole(cluster: &Cluster, watch: &Watch<'_>, what: &str) {
    let until = Instant::now() + LOOK;
    while Instant::now() < until {
        assert!(cluster.agrees(), "after {what}");
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!((watch.failures(), watch.suspicions()), (vec![], vec![]), "after {what}");
}

/// Else the old key was never gone, and nothing was shown: the last one comes back with it alone, and is not taken in.
fn heeds_only_the_new_key(mut cluster: Cluster) {
    let last = cluster.peers.len() - 1;
    let name = cluster.peers[last].name().to_owned();
    cluster.peers[last].kill();
    cluster.wait_for_all("it failed", FAILED, |peer| peer.is_failed(&name));
    let mark = cluster.peers[last].mark();
    cluster.peers[last].start();
    let refused = || cluster.peers[last].process().log_from(mark).contains("another key");
    wait_for("the old key to be refused", SOON, refused);
    assert!(cluster.peers[..last].iter().all(|peer| !peer.is_alive(&name)), "the old key still opens");
}
