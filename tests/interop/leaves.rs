//! Who says goodbye is `left`, never failed, and may come back.

use std::time::Instant;

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, Setting, seconds};
use crate::peer::Kind::{self, Memberlist, Picored, Serf};
use crate::peer::{Options, Peer};

cell!(picored_leaves, "picored leaves, and comes back", super::n4_picored);
fn n4_picored(setting: &Setting) -> String {
    leaves_and_comes_back(&[Picored, Serf, Memberlist, Picored], setting)
}

cell!(serf_leaves, "Serf leaves, and comes back", super::n4_serf);
fn n4_serf(setting: &Setting) -> String {
    leaves_and_comes_back(&[Picored, Serf, Memberlist, Serf], setting)
}

/// The last one does.
fn leaves_and_comes_back(kinds: &[Kind], setting: &Setting) -> String {
    let mut cluster = Cluster::start(kinds, &setting.options());
    let who = kinds.len() - 1;
    cluster.wait_for_agreement(EVENTUALLY);
    let name = cluster.peers[who].name().to_owned();
    let mut figures = Vec::new();
    // Twice: the second goodbye must be news to those who remember the first.
    for _ in 0..2 {
        let marks: Vec<u64> = cluster.peers.iter().map(|peer| peer.mark()).collect();
        let began = Instant::now();
        cluster.peers[who].leave();
        cluster.wait_for_all("it left", EVENTUALLY, |peer| peer.is_left(&name));
        let took = began.elapsed();
        for (peer, mark) in cluster.peers.iter().zip(marks) {
            // A bare program knows no difference.
            let failed = peer.kind() != Memberlist && peer.said_failed(&name, mark);
            assert!(!failed, "{} said that {name} failed:\n{}", peer.name(), peer.process().log_from(mark));
        }
        cluster.peers[who].start();
        let back = cluster.wait_for_agreement(EVENTUALLY);
        figures.push(format!("{}, back {}", seconds(took), seconds(back)));
    }
    figures.swap_remove(1)
}

cell!(memberlist_leaves, "memberlist leaves: what Serf's agents say", super::n3_memberlist);
fn n3_memberlist(setting: &Setting) -> String {
    let mut real = Cluster::start(&[Serf, Serf, Memberlist], &setting.options());
    real.wait_for_agreement(EVENTUALLY);
    real.peers[2].leave();
    real.wait_for_all("it is gone", EVENTUALLY, |peer| !peer.is_alive("n3"));
    let first = real.peers[0].addr();
    real.peers[1].join(first);
    let among_themselves = real.peers[0].state("n3");
    assert_eq!(real.peers[1].state("n3"), among_themselves);
    drop(real);

    let mut mixed = Cluster::start(&[Picored, Serf, Memberlist, Serf], &setting.options());
    mixed.wait_for_agreement(EVENTUALLY);
    mixed.peers[2].leave();
    let says = |peer: &dyn Peer| match peer.kind() {
        Picored => peer.is_left("n3"),
        _ => peer.state("n3") == among_themselves,
    };
    mixed.wait_for_all("it left, or what Serf makes of it", EVENTUALLY, says);
    // An exchange of states with picored changes nothing in that.
    let picored = mixed.peers[0].addr();
    mixed.peers[1].join(picored);
    assert!(mixed.peers.iter().all(|peer| !peer.process().answers() || says(peer.as_ref())));
    assert!(!mixed.peers[0].said_failed("n3", 0), "{}", mixed.peers[0].log());
    mixed.peers[2].start();
    mixed.wait_for_agreement(EVENTUALLY);
    format!("{among_themselves}, picored says left")
}

cell!(bare_leaves, "memberlist as it comes and picored leave each other", super::bare);
fn bare(setting: &Setting) -> String {
    let options = Options { bare: true, ..setting.options() };
    let mut cluster = Cluster::start(&[Memberlist, Picored, Memberlist, Picored], &options);
    for who in [2, 3] {
        cluster.wait_for_agreement(EVENTUALLY);
        let name = cluster.peers[who].name().to_owned();
        let marks: Vec<u64> = cluster.peers.iter().map(|peer| peer.mark()).collect();
        cluster.peers[who].leave();
        cluster.wait_for_all("it left", EVENTUALLY, |peer| peer.is_left(&name));
        for (peer, mark) in cluster.peers.iter().zip(marks) {
            assert!(peer.kind() != Picored || !peer.said_failed(&name, mark), "{}", peer.log());
        }
        cluster.peers[who].start();
    }
    cluster.wait_for_agreement(EVENTUALLY);
    String::new()
}
