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
use crate::cell::{Cluster, EVENTUALLY, Setting};
use crate::daemon;
use crate::net::Net;
use crate::peer::Kind::{self, Memberlist, Picored, Serf};
use crate::peer::{self, Options, Peer};
use crate::serf;
use crate::watch::range;

/// A dead one of five or six is failed after this, at the latest.
const FAILED: Duration = Duration::from_secs(45);

cell!(compression, "compression on, off, and both in one cluster", super::compression_);
fn compression_(setting: &Setting) -> String {
    let net = Rc::new(Net::new(12));
    let on = setting.options();
    let kinds = [Serf, Picored, Serf, Memberlist];
    let start = |first: u8, off: [bool; 4]| {
        let mut cluster = Cluster { peers: Vec::new(), net: net.clone() };
        for ((place, kind), off) in (first..).zip(kinds).zip(off) {
            let args = match kind {
                Serf if off => vec!["-disable-compression".into()],
                Memberlist if off => vec!["-compression=false".into()],
                _ => Vec::new(),
            };
            let join: Vec<_> = cluster.peers.first().map(|first| first.addr()).into_iter().collect();
            let options = Options { args, ..on.join(&join) };
            cluster.peers.push(peer::start(kind, &net, place, &format!("n{place}"), options));
        }
        cluster
    };
    let clusters = [start(1, [false; 4]), start(5, [true; 4]), start(9, [true, false, false, true])];
    let times = clusters.each_ref().map(|cluster| cluster.wait_for_agreement(EVENTUALLY));

    // News in packets that are shorter if compressed, from one Serf agent of each cluster.
    let long = "picored ".repeat(30);
    for cluster in &clusters {
        let agent = &cluster.peers[0];
        let output = serf::Serf::command(agent.process(), &["tags", "-set", &format!("long={long}")]);
        assert!(output.status.success(), "{output:?}");
        cluster
            .wait_for_all("the agent's new tag", EVENTUALLY, |peer| tag(peer, agent.name(), "long") == long);
        for peer in &cluster.peers {
            let log = peer.log();
            assert!(!log.contains("[ERR]") && !log.contains("event=bad-packet"), "{}: {log}", peer.name());
        }
    }
    let told = |n: usize| clusters[n].peers[0].log().contains("Message Compression Enabled: true");
    assert_eq!([told(0), told(1), told(2)], [true, false, false], "which agents compress");
    format!("agree after {}", range(times))
}

/// What one knows of another's tag.
fn tag(peer: &dyn Peer, of: &str, name: &str) -> String {
    peer.members().remove(of).and_then(|mut member| member.tags.remove(name)).unwrap_or_default()
}

cell!(metadata, "metadata of 512 bytes is whole everywhere", super::metadata_);
fn metadata_(setting: &Setting) -> String {
    let kinds = [Picored, Serf, Memberlist, Serf, Memberlist, Picored];
    let mut cluster = Cluster { peers: Vec::new(), net: Rc::new(Net::new(6)) };
    let mut fills = Vec::new();
    for (place, kind) in (1..).zip(kinds) {
        let fill = filling(kind, place);
        let join: Vec<_> = cluster.peers.first().map(|first| first.addr()).into_iter().collect();
        let options = setting.options().join(&join).tag("fill", &fill);
        cluster.peers.push(peer::start(kind, &cluster.net, place, &format!("n{place}"), options));
        fills.push((format!("n{place}"), fill));
    }
    let time = cluster.wait_for_agreement(EVENTUALLY);
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
    format!("agree after {:.1} s", time.as_secs_f64())
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
    let mut cluster = Cluster { peers: Vec::new(), net: Rc::new(Net::new(6)) };
    for (place, kind) in (1..).zip(kinds) {
        let mut name = format!("{kind:?}-{place}.fra-1.example.net");
        if place > 3 {
            name.extend(".long-name".chars().cycle().take(128 - name.len()));
        }
        let join: Vec<_> = cluster.peers.first().map(|first| first.addr()).into_iter().collect();
        cluster.peers.push(peer::start(kind, &cluster.net, place, &name, setting.options().join(&join)));
    }
    let time = cluster.wait_for_agreement(EVENTUALLY);
    // Those whose names have 128 characters fail, or leave, under their whole names.
    let name = |at: usize, cluster: &Cluster| cluster.peers[at].name().to_owned();
    let (serf, picored) = (name(3, &cluster), name(5, &cluster));
    assert_eq!([serf.len(), picored.len()], [128; 2]);
    cluster.peers[5].leave();
    cluster.wait_for_all("left", EVENTUALLY, |peer| peer.is_left(&picored));
    cluster.peers[3].kill();
    cluster.wait_for_all("failed", FAILED, |peer| peer.is_failed(&serf));
    format!("agree after {:.1} s", time.as_secs_f64())
}

cell!(v6, "IPv6", super::v6_);
fn v6_(setting: &Setting) -> String {
    let options = Options { v6: true, ..setting.options() };
    let mut cluster = Cluster::start(&[Picored, Serf, Memberlist, Serf, Picored], &options);
    let time = cluster.wait_for_agreement(EVENTUALLY);
    for peer in &cluster.peers {
        for other in &cluster.peers {
            assert_eq!(peer.members()[other.name()].addr, other.addr().to_string(), "{}", peer.name());
        }
    }
    cluster.peers[1].kill();
    let failed = cluster.wait_for_all("n2 failed", FAILED, |peer| peer.is_failed("n2"));
    format!("agree after {:.1} s, failed after {:.1} s", time.as_secs_f64(), failed.as_secs_f64())
}
