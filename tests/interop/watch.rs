//! What the logs of a cell say from some moment on: who took whom for failed, suspected or blocked.

use std::ops::Range;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crate::bare;
use crate::cell::Cluster;
use crate::net::Net;
use crate::peer::{self, Kind, Options, Peer};

/// A cluster of its own within a network: its members are at the places from `first` on, and join the first one.
pub fn cluster_from(net: &Rc<Net>, first: u8, kinds: &[Kind], options: &Options) -> Cluster {
    let mut cluster = Cluster { peers: Vec::new(), net: net.clone() };
    for (place, &kind) in (first..).zip(kinds) {
        let target: Vec<_> = cluster.peers.first().map(|first| first.addr()).into_iter().collect();
        cluster.peers.push(peer::start(kind, net, place, &format!("n{place}"), options.join(&target)));
    }
    cluster
}

/// The places in the logs of a cluster's members from which on they are read.
pub struct Watch<'a> {
    peers: &'a [Box<dyn Peer>],
    marks: Vec<u64>,
}

impl<'a> Watch<'a> {
    pub fn new(cluster: &'a Cluster) -> Self {
        let peers = &cluster.peers[..];
        Self { peers, marks: peers.iter().map(|peer| peer.mark()).collect() }
    }

    /// What a member wrote since then.
    pub fn log(&self, of: usize) -> String {
        self.peers[of].process().log_from(self.marks[of])
    }

    /// All logs since then, with the kind and the name of who wrote them.
    pub fn logs(&self) -> impl Iterator<Item = (Kind, &str, String)> {
        self.peers.iter().enumerate().map(|(i, peer)| (peer.kind(), peer.name(), self.log(i)))
    }

    /// Who said of whom that it failed, as often as it was said.
    pub fn failures(&self) -> Vec<(&str, &str)> {
        let mut found = Vec::new();
        for (kind, by, log) in self.logs() {
            let gone = bare::events(if kind == Kind::Memberlist { &log } else { "" });
            for about in self.peers.iter().map(|peer| peer.name()) {
                let times = match kind {
                    Kind::Picored => log.matches(&format!("event=node-failed node={about} ")).count(),
                    Kind::Serf => log.matches(&format!("serf: EventMemberFailed: {about} ")).count(),
                    // It cannot tell failed from left.
                    Kind::Memberlist => gone
                        .iter()
                        .filter(|event| event["event"] == "leave" && event["name"] == about)
                        .count(),
                };
                found.extend((0..times).map(|_| (by, about)));
            }
        }
        found
    }

    /// Who declared whom failed, and did not only hear of it.
    pub fn verdicts(&self) -> Vec<(&str, &str)> {
        self.said(|kind, by, about| match kind {
            Kind::Picored => format!("event=node-failed node={about} from={by}:"),
            Kind::Serf | Kind::Memberlist => format!("Marking {about} as failed, suspect timeout reached"),
        })
    }

    /// Who suspected whom because of its own probe.
    pub fn suspicions(&self) -> Vec<(&str, &str)> {
        self.said(|kind, by, about| match kind {
            Kind::Picored => format!("event=node-suspect node={about} from={by}:"),
            Kind::Serf | Kind::Memberlist => format!("Suspect {about} has failed, no acks received"),
        })
    }

    /// Who said of whom the words that are given for both, as often as they were said.
    fn said(&self, words: impl Fn(Kind, &str, &str) -> String) -> Vec<(&str, &str)> {
        let mut found = Vec::new();
        for (kind, by, log) in self.logs() {
            for about in self.peers.iter().map(|peer| peer.name()) {
                found.extend(log.matches(&words(kind, by, about)).map(|_| (by, about)));
            }
        }
        found
    }

    /// How often members told the others that they are there.
    pub fn refutations(&self, of: Kind) -> usize {
        let said = |kind| if kind == Kind::Picored { "event=refuted" } else { "Refuting a" };
        self.logs()
            .filter(|(kind, ..)| *kind == of)
            .map(|(kind, _, log)| log.matches(said(kind)).count())
            .sum()
    }
}

/// Watches for so long that nobody is said to have failed; the first time it is, is the end of the cell.
pub fn nobody_fails(watches: &[&Watch<'_>], time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        for watch in watches {
            let failures = watch.failures();
            assert!(failures.is_empty(), "after {:?} by and about: {failures:?}", started.elapsed());
        }
        thread::sleep(Duration::from_millis(500));
    }
}

/// Waits for each of some things; how long each took, or nothing if it did not happen in time.
pub fn times<const N: usize>(limit: Duration, happened: [&dyn Fn() -> bool; N]) -> [Option<Duration>; N] {
    let started = Instant::now();
    let mut times = [None; N];
    while started.elapsed() < limit && times.contains(&None) {
        for (time, happened) in times.iter_mut().zip(happened).filter(|(time, _)| time.is_none()) {
            *time = happened().then(|| started.elapsed());
        }
        thread::sleep(Duration::from_millis(50));
    }
    times
}

/// For the table: `4.2 s`, or `> 60 s`.
pub fn seconds(time: Option<Duration>, limit: Duration) -> String {
    match time {
        Some(time) => format!("{:.1} s", time.as_secs_f64()),
        None => format!("> {} s", limit.as_secs()),
    }
}

/// For the table: `4 to 6 s`.
pub fn range(times: impl IntoIterator<Item = Duration>) -> String {
    let times: Vec<f64> = times.into_iter().map(|time| time.as_secs_f64()).collect();
    let Range { start, end } =
        times.iter().fold(f64::MAX..0.0, |range, &time| range.start.min(time)..range.end.max(time));
    format!("{start:.1} to {end:.1} s")
}
