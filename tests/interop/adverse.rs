//! Packets are lost, for long.

use std::env;
use std::rc::Rc;
use std::thread;
use std::time::Duration;

use crate::cell;
use crate::cell::{EVENTUALLY, Setting};
use crate::net::Net;
use crate::peer::Kind::{Picored, Serf};
use crate::watch::{Watch, cluster_from};

cell!(loss, "5 % loss: false failures by or about picored, in Serf", super::loss_);
/// Ordered pairs of those who may fail each other: of picored with the three agents, and of these and the four others
/// among themselves.
const OURS: usize = 2 * 3;
const THEIRS: usize = 3 * 2 + 4 * 3;

fn loss_(setting: &Setting) -> String {
    let secs = env::var("INTEROP_LOSS_SECS");
    let secs = secs.map_or(120, |secs| secs.parse().expect("INTEROP_LOSS_SECS: seconds"));
    // Four Serf agents by themselves are what picored is measured by, and those who are with it.
    let net = Rc::new(Net::new(8));
    let mixed = cluster_from(&net, 1, &[Serf, Serf, Serf, Picored], &setting.options());
    let alone = cluster_from(&net, 5, &[Serf, Serf, Serf, Serf], &setting.options());
    mixed.wait_for_agreement(EVENTUALLY);
    alone.wait_for_agreement(EVENTUALLY);
    let (watch, reference) = (Watch::new(&mixed), Watch::new(&alone));
    net.lose(5);
    thread::sleep(Duration::from_secs(secs));
    let (failures, suspicions) = (watch.verdicts(), watch.suspicions());
    let (alone_failed, suspected) = (reference.verdicts(), reference.suspicions().len());
    let refuted = [watch.refutations(Picored), watch.refutations(Serf), reference.refutations(Serf)];
    // What the agents had to try in another way: without loss there is nothing of that.
    let logs = watch.logs().map(|(_, _, log)| log.matches("Failed ping: ").count());
    let lost: usize = logs.sum();
    assert!(lost > 0, "no ping of Serf's was lost");
    net.lose(0);
    // Whoever is still suspected can refute now; and who did fail comes back.
    mixed.wait_for_agreement(Duration::from_secs(60));
    let ours = with_picored(&failures);
    let theirs = failures.len() - ours + alone_failed.len();
    let doubted = with_picored(&suspicions);
    let figures = format!(
        "{ours} in {OURS} pairs, {theirs} in {THEIRS}, in {secs} s, {lost} pings lost; suspected {doubted} of {}, Serf {suspected}; \
         refuted {} of {}, Serf {}",
        suspicions.len(),
        refuted[0],
        refuted[0] + refuted[1],
        refuted[2]
    );
    setting.note(&figures);
    // Mostly none and none.
    let allowed = (theirs * OURS).div_ceil(THEIRS);
    assert!(ours <= allowed, "{figures}; {failures:?}, {alone_failed:?}");
    figures
}

/// How much of what was said was said by or about picored.
fn with_picored(said: &[(&str, &str)]) -> usize {
    said.iter().filter(|(by, about)| [by, about].contains(&&"n4")).count()
}
