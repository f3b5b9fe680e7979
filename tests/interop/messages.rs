//! What the applications of a cluster send each other passes picored by without harm.

use crate::bare;
use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, SOON, Setting, TRIES};
use crate::daemon::wait_for;
use crate::peer::Kind::{Memberlist, Picored, Serf};
use crate::peer::{Options, Peer};
use crate::watch::times;
use crate::{picored, serf};

cell!(serf_messages, "Serf's events, queries and intents do no harm", super::events_queries_intents);
fn events_queries_intents(setting: &Setting) -> String {
    let cluster = Cluster::start(&[Picored, Serf, Picored, Serf], &setting.options());
    cluster.wait_for_agreement(EVENTUALLY);
    let serf = |args: &[&str]| {
        let output = serf::Serf::command(cluster.peers[1].process(), args);
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    // Events that gossip alone spreads, without a push/pull: once in a while somebody misses one for good.
    let mut missing: Vec<String> = (0..20).map(|i| format!("deploy{i}")).collect();
    let mut again = Vec::new();
    for _ in 0..=TRIES {
        for event in &missing {
            serf(&["event", "-coalesce=false", event, "payload"]);
        }
        let is_missing = |event: &str| {
            let line = format!("user-event: {event}");
            !cluster.peers[3].log().lines().any(|told| told.ends_with(&line))
        };
        times(SOON, [&|| !missing.iter().any(|event| is_missing(event))]);
        missing.retain(|event| is_missing(event));
        if missing.is_empty() {
            break;
        }
        again.push(missing.join(", "));
    }
    let logs =
        || cluster.peers.iter().map(|peer| format!("{}:\n{}", peer.name(), peer.log())).collect::<String>();
    assert!(missing.is_empty(), "n4 misses {missing:?}, which n2 sent {} times; {}", TRIES + 1, logs());
    let answers = serf(&["query", "-timeout=2s", "load"]);
    assert!(["n2", "n4"].iter().all(|name| answers.contains(&format!("Ack from '{name}'"))), "{answers}");

    // A lie: the member is there. It says so, as Serf's agents do, and everybody takes it back.
    for name in ["n1", "n4"] {
        serf(&["force-leave", name]);
        cluster.wait_for_agreement(EVENTUALLY);
    }
    nobody_failed(&cluster);
    assert!(nothing_is_bad(cluster.peers[0].as_ref()), "{}", cluster.peers[0].log());
    if again.is_empty() { String::new() } else { format!("ok; sent again: {}", again.join("; then ")) }
}

cell!(user_messages, "user messages by packet and by stream do no harm", super::packets_and_streams);
fn packets_and_streams(setting: &Setting) -> String {
    for bare in [false, true] {
        let options = Options { bare, ..setting.options() };
        let cluster = Cluster::start(&[Picored, Memberlist, Memberlist], &options);
        cluster.wait_for_agreement(EVENTUALLY);
        let sender = |line: &str| cluster.peers[1].tell(line);
        // Nothing, a join intent cut short, no Serf message, long text.
        let messages = ["01", "0182", "ff00ff", "00", &"61".repeat(1_200)];
        for message in messages {
            for how in ["packet", "stream"] {
                sender(&format!("{how} all {message}")).expect("they are members");
            }
        }
        sender(&format!("stream all {}", "62".repeat(25_000))).expect("they are members");
        wait_for("the messages", SOON, || {
            let events = bare::events(&cluster.peers[2].log());
            events.iter().filter(|event| event["event"] == "message").count() == 2 * messages.len() + 1
        });
        // What is not Serf's it counts, if it is told that the others are.
        wait_for("picored to have them, too", SOON, || bare || !nothing_is_bad(cluster.peers[0].as_ref()));
        cluster.wait_for_agreement(EVENTUALLY);
        nobody_failed(&cluster);
    }
    String::new()
}

fn nobody_failed(cluster: &Cluster) {
    for peer in &cluster.peers {
        let failed: Vec<_> = cluster.peers.iter().filter(|other| peer.said_failed(other.name(), 0)).collect();
        let names: Vec<_> = failed.iter().map(|other| other.name()).collect();
        assert!(names.is_empty(), "{} said that {names:?} failed:\n{}", peer.name(), peer.log());
    }
}

/// Whether picored took nothing for garbage.
pub fn nothing_is_bad(peer: &dyn Peer) -> bool {
    let status = picored::Picored::ask(peer.process(), &["status", "-v"]);
    let bad = status["counters"]["bad"].as_object().expect("a daemon that answers");
    bad.values().all(|count| count == 0)
}
