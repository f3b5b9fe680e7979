//! A process that is stopped is suspected; if it goes on in time nobody calls it failed, and if not it is failed and
//! alive again everywhere when it goes on.

use std::thread;
use std::time::{Duration, Instant};

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, SOON, Setting, seconds};
use crate::daemon::wait_for;
use crate::peer::Kind::{self, Memberlist, Picored, Serf};

/// Suspicion in memberlist's profile lan is 4 s among five at the least, 24 s at the most.
const SUSPICION_MIN: Duration = Duration::from_secs(4);
const SUSPICION_MAX: Duration = Duration::from_secs(24);
/// The longest suspicion, after two rounds of probes: who missed that it is suspected finds out by itself.
const FAILED: Duration = Duration::from_secs(40);

const MIXED: [Kind; 5] = [Picored, Serf, Memberlist, Serf, Picored];
/// The last one of each kind.
const EACH: [(Kind, usize); 3] = [(Picored, 4), (Serf, 3), (Memberlist, 2)];

cell!(short, "stopped until suspected, and then refuted after", super::shortly);
fn shortly(setting: &Setting) -> String {
    let mut cluster = Cluster::start(&MIXED, &setting.options());
    let mut figures = Vec::new();
    for (kind, who) in EACH {
        cluster.wait_for_agreement(EVENTUALLY);
        let name = cluster.peers[who].name().to_owned();
        let marks: Vec<u64> = cluster.peers.iter().map(|peer| peer.mark()).collect();
        cluster.peers[who].stop();
        // n1 is the one that tells of suspects.
        let suspected = Instant::now();
        wait_for("the stopped one to be suspected", SOON, || cluster.peers[0].state(&name) == "suspect");
        let suspected = suspected.elapsed();
        // Whoever was first, its shortest time is not over yet.
        thread::sleep(SUSPICION_MIN / 4);
        cluster.peers[who].cont();
        // Whoever missed it tells of its suspicion again with its next probe.
        let refuted = cluster.wait_for_agreement(SUSPICION_MAX);
        // A suspicion that somebody still has would end by now.
        let until = Instant::now() + SUSPICION_MIN + Duration::from_secs(2);
        while Instant::now() < until {
            for (peer, &mark) in cluster.peers.iter().zip(&marks) {
                let all = cluster.peers.iter().find(|other| peer.said_failed(other.name(), mark));
                let log = || peer.process().log_from(mark);
                assert!(
                    all.is_none(),
                    "{} said that {} failed:\n{}",
                    peer.name(),
                    all.unwrap().name(),
                    log()
                );
            }
            thread::sleep(Duration::from_millis(250));
        }
        figures.push(format!("{kind} {} and {}", seconds(suspected), seconds(refuted)));
    }
    figures.join(", ")
}

cell!(long, "stopped until failed, and then alive again after", super::long_enough);
fn long_enough(setting: &Setting) -> String {
    let mut figures = Vec::new();
    let mut cluster = Cluster::start(&MIXED, &setting.options());
    for (kind, who) in EACH {
        cluster.wait_for_agreement(EVENTUALLY);
        let name = cluster.peers[who].name().to_owned();
        cluster.peers[who].stop();
        let failed = cluster.wait_for_all("it failed", FAILED, |peer| peer.is_failed(&name));
        cluster.peers[who].cont();
        let back = cluster.wait_for_agreement(EVENTUALLY);
        figures.push(format!("{kind} {} and {}", seconds(failed), seconds(back)));
    }
    figures.join(", ")
}
