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

cell!(loss, "5 % loss: false failures by picored, about it, in Serf alone", super::loss_);
fn loss_(setting: &Setting) -> String {
    let secs = env::var("INTEROP_LOSS_SECS");
    let secs = secs.map_or(120, |secs| secs.parse().expect("INTEROP_LOSS_SECS: seconds"));
    // Four Serf agents by themselves are what the other four are measured by.
    let net = Rc::new(Net::new(8));
    let mixed = cluster_from(&net, 1, &[Serf, Serf, Serf, Picored], &setting.options());
    let alone = cluster_from(&net, 5, &[Serf, Serf, Serf, Serf], &setting.options());
    mixed.wait_for_agreement(EVENTUALLY);
    alone.wait_for_agreement(EVENTUALLY);
    let (watch, reference) = (Watch::new(&mixed), Watch::new(&alone));
    net.lose(5);
    thread::sleep(Duration::from_secs(secs));
    let (failures, suspicions) = (watch.verdicts(), watch.suspicions());
    let [allowed, suspected] = [reference.verdicts().len(), reference.suspicions().len()];
    let refuted = [watch.refutations(Picored), watch.refutations(Serf), reference.refutations(Serf)];
    // What the agents had to try in another way: without loss there is nothing of that.
    let logs = watch.logs().map(|(_, _, log)| log.matches("Failed ping: ").count());
    let lost: usize = logs.sum();
    assert!(lost > 0, "no ping of Serf's was lost");
    net.lose(0);
    // Whoever is still suspected can refute now; and who did fail comes back.
    mixed.wait_for_agreement(Duration::from_secs(60));
    let [by, about] = by_and_about_picored(&failures);
    let doubted: usize = by_and_about_picored(&suspicions).iter().sum();
    let figures = format!(
        "{by}, {about}, {allowed} in {secs} s, {lost} pings lost; suspected {doubted} of {}, Serf {suspected}; \
         refuted {} of {}, Serf {}",
        suspicions.len(),
        refuted[0],
        refuted[0] + refuted[1],
        refuted[2]
    );
    setting.note(&figures);
    assert!(by <= allowed && about <= allowed, "{figures}; {failures:?}");
    figures
}

/// Of what was said: how much by picored, and how much about it.
fn by_and_about_picored(said: &[(&str, &str)]) -> [usize; 2] {
    [
        said.iter().filter(|(by, _)| *by == "n4").count(),
        said.iter().filter(|(_, about)| *about == "n4").count(),
    ]
}
