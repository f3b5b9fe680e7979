//! Version ranges: which of them mix, and what is said of those that do not.

use std::rc::Rc;
use std::time::Duration;

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, SOON, Setting};
use crate::daemon::wait_for;
use crate::net::Net;
use crate::peer::Kind::{Memberlist, Picored, Serf};
use crate::peer::{self, Options, Peer};
use crate::serf;
use crate::watch::{Watch, nobody_fails};

/// Several probes of everybody, and the suspicion of three (4 s).
const A_WHILE: Duration = Duration::from_secs(20);

cell!(foreign, "delegate versions 0,0,0 and Serf's do not mix", super::foreign_);
fn foreign_(setting: &Setting) -> String {
    let options = setting.options();
    let net = Rc::new(Net::new(7));
    let as_it_comes = Options { bare: true, ..options.clone() };
    let start = |place: u8, kind, options| peer::start(kind, &net, place, &format!("n{place}"), options);
    let bare = start(4, Memberlist, as_it_comes.clone());
    // picored for Serf, which is told to join that program, and Serf agents.
    let ours = start(1, Picored, options.join(&[bare.addr()]));
    let mut cluster = Cluster { peers: vec![ours], net: net.clone() };
    cluster.add(Serf, &options);
    cluster.add(Serf, &options);
    cluster.wait_for_agreement(EVENTUALLY);
    let (ours, agent) = (&cluster.peers[0], &cluster.peers[1]);
    // picored for such programs, which is told to join an agent.
    let other = start(5, Picored, as_it_comes.join(&[agent.addr()]));

    let [n4, n5] = ["n4", "n5"].map(|name| format!("{name} understands delegate protocol versions 0 to 0"));
    says(ours.as_ref(), &["event=join-failed", &bare.addr().to_string(), &n4]);
    says(other.as_ref(), &["event=join-failed", &agent.addr().to_string(), &n5]);
    let refused = bare.tell(&format!("join {}", ours.addr()));
    assert!(refused.as_ref().is_err_and(|why| why.contains("protocol version")), "{refused:?}");
    says(ours.as_ref(), &["event=sync-failed", &n4]);
    drop(serf::Serf::command(agent.process(), &["join", &other.addr().to_string()]));
    says(other.as_ref(), &["event=sync-failed", &n5]);

    // Neither side has taken harm: nobody is in the wrong table, nobody fails, and newcomers are welcome.
    nobody_fails(&[&Watch::new(&cluster)], A_WHILE);
    assert_eq!(bare.members().keys().collect::<Vec<_>>(), ["n4"]);
    assert_eq!(other.members().keys().collect::<Vec<_>>(), ["n5"]);
    for peer in &cluster.peers {
        assert_eq!(peer.members().keys().collect::<Vec<_>>(), ["n1", "n2", "n3"], "{}", peer.name());
    }
    let join = options.join(&[cluster.peers[0].addr()]);
    for (place, kind) in [(6, Serf), (7, Picored)] {
        cluster.peers.push(start(place, kind, join.clone()));
    }
    cluster.wait_for_agreement(EVENTUALLY);
    let mut pair = Cluster { peers: vec![other], net: net.clone() };
    let first = pair.peers[0].addr();
    pair.peers.push(bare);
    pair.peers[1].join(first);
    pair.wait_for_agreement(EVENTUALLY);
    "refused, said why, no harm".into()
}

/// One line of its log has all of this.
fn says(peer: &dyn Peer, words: &[&str]) {
    let found = || peer.log().lines().any(|line| words.iter().all(|word| line.contains(word)));
    wait_for(&format!("{} to say {words:?}", peer.name()), SOON, found);
}

cell!(serf_protocols, "Serf agents with -protocol 2, 3, 4 and 5", super::serf_protocols_);
fn serf_protocols_(setting: &Setting) -> String {
    let net = Rc::new(Net::new(6));
    let mut cluster = Cluster { peers: Vec::new(), net };
    // Old agents know no other tag.
    let options = setting.options().tag("role", "web");
    cluster.add(Picored, &options);
    for protocol in 2..=5 {
        let args = vec![format!("-protocol={protocol}")];
        cluster.add(Serf, &Options { args, ..options.clone() });
    }
    cluster.add(Picored, &options);
    let time = cluster.wait_for_agreement(EVENTUALLY);
    for (agent, protocol) in cluster.peers[1..5].iter().zip(2..) {
        let member = serf::Serf::ask(agent.process())["members"]
            .as_array()
            .and_then(|members| members.iter().find(|member| member["name"] == agent.name()).cloned());
        let version = member.map(|member| member["protocol"]["version"].clone());
        assert_eq!(version.and_then(|v| v.as_u64()), Some(protocol), "{}", agent.name());
    }
    for peer in &cluster.peers {
        for (name, member) in peer.members() {
            assert_eq!(member.tags.get("role").map(|role| &**role), Some("web"), "{} of {name}", peer.name());
        }
    }
    nobody_fails(&[&Watch::new(&cluster)], A_WHILE);
    // Old agents and new ones hear of leaves alike.
    cluster.peers[5].leave();
    cluster.wait_for_all("n6 left", EVENTUALLY, |peer| peer.is_left("n6"));
    cluster.peers[1].leave();
    cluster.wait_for_all("n2 left", EVENTUALLY, |peer| peer.is_left("n2"));
    format!("agree after {:.1} s", time.as_secs_f64())
}
