//! No UDP between picored and one other, one way or both: nobody fails as long as TCP or a third member reaches it.

use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, Setting, seconds};
use crate::daemon::wait_for;
use crate::net::Net;
use crate::peer::Kind::{self, Memberlist, Picored, Serf};
use crate::picored::Picored as Program;
use crate::watch::{Watch, cluster_from, nobody_fails, range};

/// It takes several probes, in seconds.
const SOON: Duration = Duration::from_secs(20);
/// Three times the longest suspicion among six (24 s), which is six times the one between two.
const LONG: Duration = Duration::from_secs(75);

/// Four probes that get through; each of five others is probed within ten probes, which are a second apart, or two.
const RESTORED: Duration = Duration::from_secs(80);

cell!(serf, "UDP blocked between picored and Serf: none fail", super::serf_);
fn serf_(setting: &Setting) -> String {
    blocked(Serf, setting)
}

cell!(memberlist, "UDP blocked between picored and memberlist: none fail", super::memberlist_);
fn memberlist_(setting: &Setting) -> String {
    blocked(Memberlist, setting)
}

cell!(picored, "UDP blocked between picored and picored: none fail", super::picored_);
fn picored_(setting: &Setting) -> String {
    blocked(Picored, setting)
}

/// Side by side: three of the kind in a cluster with picored and two relays, and three that are alone with a
/// picored; each of the three is cut off in one of the three ways.
fn blocked(kind: Kind, setting: &Setting) -> String {
    let net = Rc::new(Net::new(12));
    let options = setting.options();
    let relayed = cluster_from(&net, 1, &[Picored, kind, kind, kind, Serf, Memberlist], &options);
    let pairs = [7, 9, 11].map(|first| cluster_from(&net, first, &[Picored, kind], &options));
    relayed.wait_for_agreement(EVENTUALLY);
    for pair in &pairs {
        pair.wait_for_agreement(EVENTUALLY);
    }

    let watched = Watch::new(&relayed);
    let watched_pairs = pairs.each_ref().map(Watch::new);
    let began = Instant::now();
    net.drop_udp(1, 2);
    net.drop_udp_one_way(1, 3);
    net.drop_udp_one_way(4, 1);
    net.drop_udp(7, 8);
    net.drop_udp_one_way(9, 10);
    net.drop_udp_one_way(12, 11);

    // Where only TCP answers, picored says so soon, and once; where relays do as well, later.
    let told =
        |watch: &Watch<'_>, of: &str| watch.log(0).matches(&format!("event=udp-blocked node={of} ")).count();
    let mut named = [("n8", None), ("n10", None), ("n12", None)];
    while named.iter().any(|(_, when)| when.is_none()) {
        assert!(began.elapsed() < SOON, "not named as blocked within {SOON:?}: {named:?}");
        for (watch, (of, when)) in watched_pairs.iter().zip(&mut named) {
            if when.is_none() && told(watch, of) > 0 {
                *when = Some(began.elapsed());
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    let [a, b, c] = &watched_pairs;
    nobody_fails(&[&watched, a, b, c], LONG.saturating_sub(began.elapsed()));
    for (watch, (of, _)) in watched_pairs.iter().zip(named) {
        assert_eq!(told(watch, of), 1, "picored's lines about {of}");
        assert!(!watch.log(0).contains("last line repeated"), "{}", watch.log(0));
    }
    // Relays answer for them, and it is named all the same: a ping of each got lost, or its answer.
    for of in ["n2", "n3", "n4"] {
        assert_eq!(told(&watched, of), 1, "picored's lines about {of}:\n{}", watched.log(0));
    }
    assert_eq!(shown(&relayed), ["n2", "n3", "n4"]);
    for (pair, (of, _)) in pairs.iter().zip(named) {
        assert_eq!(shown(pair), [of]);
    }
    assert!(relayed.agrees() && pairs.iter().all(|pair| pair.agrees()), "still all of them alive");
    let suspicions: usize = [&watched, a, b, c].iter().map(|watch| watch.suspicions().len()).sum();
    net.heal();
    let healed = Instant::now();
    wait_for("all to answer by UDP again", RESTORED, || {
        shown(&relayed).is_empty() && pairs.iter().all(|pair| shown(pair).is_empty())
    });
    let restored = healed.elapsed();
    for (watch, of) in
        [(&watched, "n2"), (&watched, "n3"), (&watched, "n4"), (a, "n8"), (b, "n10"), (c, "n12")]
    {
        let lines = watch.log(0).matches(&format!("event=udp-restored node={of}:")).count();
        assert_eq!(lines, 1, "picored's lines about {of} after healing");
    }
    format!(
        "none in {} s ({suspicions} suspicions); named after {}, restored after {}",
        LONG.as_secs(),
        range(named.iter().filter_map(|(_, when)| *when)),
        seconds(restored)
    )
}

/// Whom the first one, a picored, shows as blocked.
fn shown(cluster: &Cluster) -> Vec<String> {
    let answer = Program::ask(cluster.peers[0].process(), &["members"]);
    let all = answer["members"].as_array().into_iter().flatten();
    let blocked = all.filter(|member| member["udp_blocked"] == true);
    let mut names: Vec<_> =
        blocked.map(|member| member["name"].as_str().unwrap_or_default().to_owned()).collect();
    names.sort_unstable();
    names
}
