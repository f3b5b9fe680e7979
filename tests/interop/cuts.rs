//! The cable of one node is pulled for a minute and plugged in again.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, Setting};
use crate::net::Net;
use crate::peer::Kind::{Memberlist, Picored, Serf};
use crate::peer::Options;
use crate::watch::{cluster_from, seconds, times};

const CUT: Duration = Duration::from_secs(60);
/// Within which a cluster with picored is whole again.
const WHOLE: Duration = Duration::from_secs(5);
/// As long as it is watched how long Serf agents need for it.
const PATIENCE: Duration = Duration::from_secs(60);

cell!(joiner, "cut for 60 s: a picored that joins the others", super::joiner_);
fn joiner_(setting: &Setting) -> String {
    cut(5, &setting.options())
}

cell!(joined, "cut for 60 s: the picored that all others join", super::joined_);
fn joined_(setting: &Setting) -> String {
    cut(1, &setting.options())
}

cell!(default_profile, "cut for 60 s: the joined picored, default profile", super::default_profile_);
fn default_profile_(setting: &Setting) -> String {
    let mut options = setting.options();
    options.config["profile"] = "picored".into();
    cut(1, &options)
}

/// Pulls and plugs in the cable of one of the two picored of a mixed cluster, and beside it that of a Serf agent
/// among three.
fn cut(place: u8, options: &Options) -> String {
    let net = Rc::new(Net::new(8));
    let mixed = cluster_from(&net, 1, &[Picored, Serf, Memberlist, Serf, Picored], options);
    let agents = cluster_from(&net, 6, &[Serf, Serf, Serf], options);
    mixed.wait_for_agreement(EVENTUALLY);
    agents.wait_for_agreement(EVENTUALLY);

    let began = Instant::now();
    net.cut(place);
    net.cut(8);
    thread::sleep(CUT.saturating_sub(began.elapsed()));
    assert_apart(&mixed, &format!("n{place}"));
    assert_apart(&agents, "n8");
    net.heal();
    let [ours, theirs] = times(PATIENCE, [&|| mixed.agrees(), &|| agents.agrees()]);
    assert!(ours.is_some_and(|ours| ours <= WHOLE), "whole again after {}", seconds(ours, PATIENCE));
    format!("{} (Serf alone {})", seconds(ours, PATIENCE), seconds(theirs, PATIENCE))
}

/// There is something to heal: all others took it for failed, and it no longer believes in all of them. Alone it
/// probes ever more slowly, as everybody that doubts itself.
fn assert_apart(cluster: &Cluster, cut: &str) {
    for peer in &cluster.peers {
        if peer.name() == cut {
            let alive = peer.members().values().filter(|member| member.state == "alive").count();
            assert!(alive < cluster.peers.len(), "{cut} is cut off and still sees all alive");
        } else {
            assert!(peer.is_failed(cut), "{} says of {cut}: {}", peer.name(), peer.state(cut));
        }
    }
}
