//! Compression, metadata as long as it can be, odd names, IPv6.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use picored::wire::serf::encode_tags;
use serde_json::{Value, json};

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, Setting, agreeing, seconds};
use crate::daemon;
use crate::net::Net;
use crate::peer::Kind::{self, Memberlist, Picored, Serf};
use crate::peer::{self, Options, Peer};
use crate::serf;

/// A dead one of five or six is failed after this, at the latest.
const FAILED: Duration = Duration::from_secs(45);

cell!(compression, "compression on, off, and both in one cluster", super::compression_);
fn compression_(setting: &Setting) -> String {
    let on = setting.options();
    let kinds = [Serf, Picored, Serf, Memberlist];
    let start = |off: [bool; 4]| {
        let mut cluster = Cluster { peers: Vec::new(), net: Rc::new(Net::new(4)) };
        for ((place, kind), off) in (1..).zip(kinds).zip(off) {
            let args = match kind {
                Serf if off => vec!["-disable-compression".into()],
                Memberlist if off => vec!["-compression=false".into()],
                _ => Vec::new(),
            };
            let join: Vec<_> = cluster.peers.first().map(|first| first.addr()).into_iter().collect();
            let options = Options { args, ..on.join(&join) };
            let name = format!("n{place}");
            cluster.peers.push(peer::start(kind, &cluster.net, place, &name, options));
        }
        cluster
    };
    // News in packets that are shorter if compressed, from one Serf agent of each cluster.
    let long = "picored ".repeat(30);
    let ways = [("on", [false; 4]), ("off", [true; 4]), ("both", [true, false, false, true])];
    let took = ways.map(|(way, off)| {
        let (cluster, took) = agreeing(|| start(off));
        let agent = &cluster.peers[0];
        let output = serf::Serf::command(agent.process(), &["tags", "-set", &format!("long={long}")]);
        assert!(output.status.success(), "{output:?}");
        cluster
            .wait_for_all("the agent's new tag", EVENTUALLY, |peer| tag(peer, agent.name(), "long") == long);
        for peer in &cluster.peers {
            let log = peer.log();
            assert!(!log.contains("[ERR]") && !log.contains("event=bad-packet"), "{}: {log}", peer.name());
        }
        let compresses = agent.log().contains("Message Compression Enabled: true");
        assert_eq!(compresses, !off[0], "which agents compress");
        format!("{way}: {took}")
    });
    took.join(", ")
}

/// What one knows of another's tag.
fn tag(peer: &dyn Peer, of: &str, name: &str) -> String {
    peer.members().remove(of).and_then(|mut member| member.tags.remove(name)).unwrap_or_default()
}

cell!(metadata, "metadata of 512 bytes is whole everywhere", super::metadata_);
fn metadata_(setting: &Setting) -> String {
    let kinds = [Picored, Serf, Memberlist, Serf, Memberlist, Picored];
    let fills: Vec<(String, String)> =
        (1..).zip(kinds).map(|(place, kind)| (format!("n{place}"), filling(kind, place))).collect();
    let (cluster, took) = agreeing(|| {
        let mut cluster = Cluster { peers: Vec::new(), net: Rc::new(Net::new(6)) };
        for ((place, kind), (name, fill)) in (1..).zip(kinds).zip(&fills) {
            let join: Vec<_> = cluster.peers.first().map(|first| first.addr()).into_iter().collect();
            let options = setting.options().join(&join).tag("fill", fill);
            cluster.peers.push(peer::start(kind, &cluster.net, place, name, options));
        }
        cluster
    });
    for peer in &cluster.peers {
        let members = peer.members();
        for (name, fill) in &fills {
            let tags = &members[name].tags;
            assert_eq!(tags.get("fill"), Some(fill), "{} of {name}", peer.name());
            assert_eq!(size(tags), 512, "{} of {name}", peer.name());
        }
    }
    // One byte more, and picored says before it starts that it does not fit.
    let process = cluster.peers[0].process();
    let mut config: Value = serde_json::from_str(&process.folder.read("picored.json")).expect("JSON");
    config["tags"]["fill"] = json!(format!("{}x", fills[0].1));
    let path = process.folder.file("long.json");
    fs::write(&path, config.to_string()).expect("own folder");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
    let output = Command::new(daemon::picored()).arg("-c").arg(path).arg("check-config").output();
    let output = output.expect("the binary was built");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success() && said.contains("513 bytes"), "{said}");
    took
}

/// A tag's value with which a member's tags take 512 bytes; hardly to be compressed.
fn filling(kind: Kind, seed: u8) -> String {
    let mut tags = BTreeMap::from([("fill".to_owned(), "x".repeat(100))]);
    if kind == Picored {
        tags.insert("cluster".into(), "default".into());
        tags.insert("v".into(), env!("CARGO_PKG_VERSION").into());
    }
    let mut state = u32::from(seed);
    (0..100 + 512 - size(&tags))
        .map(|_| {
            state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
            char::from(b'!' + (state >> 16) as u8 % 90)
        })
        .collect()
}

fn size(tags: &BTreeMap<String, String>) -> usize {
    encode_tags(tags.iter().map(|(name, value)| (&**name, &**value))).len()
}

cell!(names, "names with dots, dashes and 128 characters", super::names_);
fn names_(setting: &Setting) -> String {
    let kinds = [Picored, Serf, Memberlist, Serf, Memberlist, Picored];
    let (mut cluster, took) = agreeing(|| {
        let mut cluster = Cluster { peers: Vec::new(), net: Rc::new(Net::new(6)) };
        for (place, kind) in (1..).zip(kinds) {
            let mut name = format!("{kind:?}-{place}.fra-1.example.net");
            if place > 3 {
                name.extend(".long-name".chars().cycle().take(128 - name.len()));
            }
            let join: Vec<_> = cluster.peers.first().map(|first| first.addr()).into_iter().collect();
            cluster.peers.push(peer::start(kind, &cluster.net, place, &name, setting.options().join(&join)));
        }
        cluster
    });
    // Those whose names have 128 characters fail, or leave, under their whole names.
    let name = |at: usize, cluster: &Cluster| cluster.peers[at].name().to_owned();
    let (serf, picored) = (name(3, &cluster), name(5, &cluster));
    assert_eq!([serf.len(), picored.len()], [128; 2]);
    cluster.peers[5].leave();
    cluster.wait_for_all("left", EVENTUALLY, |peer| peer.is_left(&picored));
    cluster.peers[3].kill();
    cluster.wait_for_all("failed", FAILED, |peer| peer.is_failed(&serf));
    took
}

cell!(v6, "IPv6", super::v6_);
fn v6_(setting: &Setting) -> String {
    let options = Options { v6: true, ..setting.options() };
    if !Net::new(1).has_v6() {
        daemon::skip("IPv6 is switched off here");
        return "SKIPPED: IPv6 is switched off".into();
    }
    let (mut cluster, took) =
        agreeing(|| Cluster::start(&[Picored, Serf, Memberlist, Serf, Picored], &options));
    for peer in &cluster.peers {
        for other in &cluster.peers {
            assert_eq!(peer.members()[other.name()].addr, other.addr().to_string(), "{}", peer.name());
        }
    }
    cluster.peers[1].kill();
    let failed = cluster.wait_for_all("n2 failed", FAILED, |peer| peer.is_failed("n2"));
    format!("{took}, failed after {}", seconds(failed))
}
