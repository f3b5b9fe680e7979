//! Failed members come back under their names at other addresses.

use std::thread;
use std::time::{Duration, Instant};

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, Setting};
use crate::daemon::wait_for;
use crate::peer::Kind::{Memberlist, Picored, Serf};
use crate::peer::Peer;
use crate::watch::seconds;

/// Three of five die at once: none of the two that are left can ask a third one.
const FAILED: Duration = Duration::from_secs(90);
/// From the start of the new process; memberlist keeps the name for half a minute and more.
const AT_ONCE: Duration = Duration::from_secs(5);
/// As long as it is watched what Serf needs.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that came back.
struct Moved {
    name: String,
    addr: String,
    began: Instant,
    picored: Option<Duration>,
    serf: Option<Duration>,
}

cell!(change, "back at another address: Serf, picored, memberlist", super::change_);
fn change_(setting: &Setting) -> String {
    let mut cluster = Cluster::start(&[Picored, Serf, Picored, Memberlist, Serf], &setting.options());
    cluster.wait_for_agreement(EVENTUALLY);
    let names = ["n2", "n3", "n4"];
    cluster.peers[1..4].iter_mut().for_each(|peer| peer.kill());
    cluster
        .wait_for_all("n2, n3 and n4 failed", FAILED, |peer| names.iter().all(|name| peer.is_failed(name)));

    let mark = cluster.peers[0].mark();
    let mut moved = Vec::new();
    for i in 1..4 {
        let place = cluster.net.add_node();
        let peer = &mut cluster.peers[i];
        peer.move_to(place);
        let (name, addr) = (peer.name().to_owned(), peer.addr().to_string());
        let began = Instant::now();
        peer.start();
        let mut one = Moved { name, addr, began, picored: None, serf: None };
        while one.picored.is_none() {
            assert!(began.elapsed() < AT_ONCE, "{} is not known at {} after {AT_ONCE:?}", one.name, one.addr);
            one.picored = one.seen_by(cluster.peers[0].as_ref());
            thread::sleep(Duration::from_millis(20));
        }
        moved.push(one);
    }
    while moved.iter().any(|one| one.serf.is_none() && one.began.elapsed() < PATIENCE) {
        for one in moved.iter_mut().filter(|one| one.serf.is_none()) {
            one.serf = one.seen_by(cluster.peers[4].as_ref());
        }
        thread::sleep(Duration::from_millis(50));
    }
    // The other picored came back itself, and knows all of them; and nobody was taken for failed again.
    for peer in [&cluster.peers[0], &cluster.peers[2]] {
        let all = || moved.iter().all(|one| one.seen_by(peer.as_ref()).is_some());
        wait_for(&format!("{} to see who moved", peer.name()), EVENTUALLY, all);
    }
    let log = cluster.peers[0].process().log_from(mark);
    assert!(!log.contains("event=node-failed"), "{log}");
    let list = |times: fn(&Moved) -> Option<Duration>| {
        let times: Vec<_> = moved.iter().map(|one| seconds(times(one), PATIENCE)).collect();
        times.join(", ")
    };
    format!("{} (seen by Serf {})", list(|one| one.picored), list(|one| one.serf))
}

impl Moved {
    /// The time since its start, if this one takes it for alive where it is now.
    fn seen_by(&self, peer: &dyn Peer) -> Option<Duration> {
        let member = peer.members().remove(&self.name)?;
        (member.state == "alive" && member.addr == self.addr).then(|| self.began.elapsed())
    }
}
