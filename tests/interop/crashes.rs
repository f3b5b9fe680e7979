//! Goodbyes that are cut short, or said by others.

use std::time::{Duration, Instant};

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, Setting, seconds};
use crate::peer::Kind::{Memberlist, Picored, Serf};
use crate::serf;

/// One of four that is dead is failed after this, at the latest.
const FAILED: Duration = Duration::from_secs(45);

cell!(intent_then_crash, "leave intent, then a crash: left for all after", super::intent_then_crash_);
fn intent_then_crash_(setting: &Setting) -> String {
    let mut cluster = Cluster::start(&[Picored, Serf, Serf, Memberlist], &setting.options());
    cluster.wait_for_agreement(EVENTUALLY);
    // Serf's leave intent: n4, at Lamport time 100.
    let intent = "0083a54c54696d6564a44e6f6465a26e34a55072756e65c2";
    cluster.peers[3].tell(&format!("packet all {intent}")).expect("everybody is told");
    cluster
        .wait_for_all("the intent", EVENTUALLY, |peer| peer.kind() != Serf || peer.state("n4") == "leaving");
    assert!(cluster.peers[0].is_alive("n4"), "picored waits for its end");
    cluster.peers[3].kill();
    let began = Instant::now();
    let gone = |state: String| matches!(&*state, "failed" | "left");
    cluster.wait_for_all("its end", FAILED, |peer| gone(peer.state("n4")));
    let first = cluster.peers[0].state("n4");
    cluster.wait_for_all("left", EVENTUALLY, |peer| peer.is_left("n4"));
    format!("{} (picored first said {first})", seconds(began.elapsed()))
}

cell!(force_leave, "serf force-leave of a failed one: left for all after", super::force_leave_);
fn force_leave_(setting: &Setting) -> String {
    let mut cluster = Cluster::start(&[Picored, Serf, Picored, Serf, Picored], &setting.options());
    cluster.wait_for_agreement(EVENTUALLY);
    // An agent and a picored.
    cluster.peers[3].kill();
    cluster.peers[4].kill();
    cluster.wait_for_all("both failed", FAILED, |peer| peer.is_failed("n4") && peer.is_failed("n5"));
    let began = Instant::now();
    for name in ["n4", "n5"] {
        let output = serf::Serf::command(cluster.peers[1].process(), &["force-leave", name]);
        assert!(output.status.success(), "{output:?}");
    }
    cluster.wait_for_all("both left", EVENTUALLY, |peer| peer.is_left("n4") && peer.is_left("n5"));
    let took = began.elapsed();
    // Whoever was sent away may come back.
    cluster.peers[3].start();
    cluster.peers[4].start();
    format!("{}, back {}", seconds(took), seconds(cluster.wait_for_agreement(EVENTUALLY)))
}
