//! Two of one name, and what reaches a Serf agent through picored alone.

use std::thread;
use std::time::{Duration, Instant};

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, Setting, seconds};
use crate::daemon::wait_for;
use crate::peer::Kind::{Picored, Serf};
use crate::peer::{self, Peer};
use crate::{picored, serf};

/// An agent asks for 3.2 s in a cluster of this size.
const SOON: Duration = Duration::from_secs(15);
/// Both votes are over by then, and a silent member would be suspected.
const A_WHILE: Duration = Duration::from_secs(8);

cell!(
    conflict,
    "a second Serf agent of one name, among 3 picored: it quits, the first one stays",
    super::two_
);
fn two_(setting: &Setting) -> String {
    let options = setting.options();
    // The name is the first one's for as long as there is a cluster.
    let cluster = Cluster::start(&[Serf, Picored, Picored, Picored], &options);
    cluster.wait_for_agreement(EVENTUALLY);
    let first = &cluster.peers[0];
    let place = cluster.net.add_node();
    let began = Instant::now();
    // Both see the other: they exchange their tables.
    let mut second = peer::start(Serf, &cluster.net, place, first.name(), options.join(&[first.addr()]));
    let quits = |peer: &dyn Peer| peer.log().contains("minority in name conflict resolution");
    wait_for("the second one to lose the vote", SOON, || quits(second.as_ref()));
    let took = began.elapsed();
    wait_for("the second one to end", SOON, || !second.process_mut().is_running());
    wait_for("the first one to win the vote", SOON, || {
        first.log().contains("majority in name conflict resolution [3 / 3]")
    });
    let until = Instant::now() + A_WHILE;
    while Instant::now() < until {
        assert!(cluster.agrees() && !quits(first.as_ref()), "{}", first.log());
        thread::sleep(Duration::from_millis(200));
    }
    for peer in &cluster.peers {
        assert_eq!(peer.members()[first.name()].addr, first.addr().to_string(), "as {} sees it", peer.name());
    }
    format!("the second one quits after {}", seconds(took))
}

cell!(passed_on, "events and queries between two Serf agents that only picored reaches", super::between_);
fn between_(setting: &Setting) -> String {
    let cluster = Cluster::start(&[Serf, Picored, Serf], &setting.options());
    cluster.wait_for_agreement(EVENTUALLY);
    cluster.net.drop_all(1, 3);
    let (one, other) = (&cluster.peers[0], &cluster.peers[2]);
    let heard = |what: &str| other.log().contains(&format!("Received event: {what}"));
    let began = Instant::now();
    let run = |args: &[&str]| {
        let output = serf::Serf::command(one.process(), args);
        assert!(output.status.success(), "serf {args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    run(&["event", "deploy", "1"]);
    wait_for("the event to come", SOON, || heard("user-event: deploy"));
    let took = began.elapsed();
    run(&["query", "-timeout=2s", "load"]);
    wait_for("the query to come", SOON, || heard("query: load"));
    let counters = &picored::Picored::ask(cluster.peers[1].process(), &["status", "-v"])["counters"];
    assert_eq!(counters["refused"], 0, "{counters}");
    format!("an event takes {}", seconds(took))
}
