//! kill -9: how long until the last of the others says failed, compared with a cluster without picored.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell;
use crate::cell::{Cluster, EVENTUALLY, SOON, Setting, seconds};
use crate::daemon::wait_for;
use crate::peer::Kind::{self, Memberlist, Picored, Serf};
use crate::peer::Options;

/// The longest suspicion of memberlist's profile lan among five, and some rounds of probes.
const LIMIT: Duration = Duration::from_secs(40);
/// Times more than what the real peers need that are tolerated, of the medians.
const RATIO_MAX: f64 = 1.2;
/// So many of each kind's 20 kills may take longer than [`TAIL_MAX`] times what nine in ten of the real peers' take, no
/// more. Without picored about one in 500 does (each second, two of three of those who are still unnoticed are found),
/// so three of 20 do once in 100 000 times; and where every third did, it would hardly ever be only two.
const SLOW_MAX: usize = 2;
const TAIL_MAX: f64 = 1.5;

const MIXED: [Kind; 5] = [Picored, Serf, Memberlist, Serf, Picored];
const REAL: [Kind; 5] = [Serf, Serf, Memberlist, Serf, Serf];
/// Clusters of each that run at the same time, and the rounds of each cluster: 20 samples of each kind and 45 of the
/// real peers. Were there no difference at all, the medians of samples as they come (5 to 9 s, most of them below 6)
/// would be further apart than that in one run of some ten thousand.
const MIXED_CLUSTERS: u32 = 4;
const REAL_CLUSTERS: u32 = 3;
const ROUNDS: usize = 15;

type Samples = Mutex<Vec<(Kind, f64)>>;

cell!(kill, "killed: all say failed after (median, ratio; slowest)", super::killed);
fn killed(setting: &Setting) -> String {
    let (mixed, real) = (Samples::default(), Samples::default());
    thread::scope(|scope| {
        for i in 0..MIXED_CLUSTERS + REAL_CLUSTERS {
            let (kinds, samples) = if i < MIXED_CLUSTERS { (MIXED, &mixed) } else { (REAL, &real) };
            let options = setting.options();
            scope.spawn(move || rounds(&options, kinds, i, samples));
        }
    });
    let real: Vec<f64> = real.lock().unwrap().iter().map(|sample| sample.1).collect();
    let mixed = mixed.lock().unwrap();
    let reference = median(real.clone());
    let slow = longest_but(real.clone(), real.len() / 10);
    let slowest = longest_but(real.clone(), 0);
    let mut figures =
        vec![format!("real peers alone {reference:.1} s (nine in ten {slow:.1}, slowest {slowest:.1})")];
    let (mut worst, mut tail): (f64, f64) = (0.0, 0.0);
    for kind in [Picored, Serf, Memberlist] {
        let of_kind: Vec<f64> =
            mixed.iter().filter(|sample| sample.0 == kind).map(|sample| sample.1).collect();
        let middle = median(of_kind.clone());
        let slowest = longest_but(of_kind.clone(), 0);
        worst = worst.max(middle / reference);
        tail = tail.max(longest_but(of_kind, SLOW_MAX) / slow);
        figures.push(format!("{kind} {middle:.1} s ({:.2}; {slowest:.1})", middle / reference));
    }
    let figures = figures.join(", ");
    setting.note(&figures);
    println!("{figures}\nreal {real:.1?}\nmixed {mixed:.1?}");
    assert!(worst <= RATIO_MAX, "{figures}");
    assert!(
        tail <= TAIL_MAX,
        "more than {SLOW_MAX} of a kind took {tail:.2} times {slow:.1} s; {figures}; {mixed:?}"
    );
    figures
}

cell!(pair, "one of two is killed, comes back, leaves, comes back", super::alone);
fn alone(setting: &Setting) -> String {
    let pairs = [[Picored, Serf], [Serf, Picored], [Picored, Memberlist], [Memberlist, Picored]];
    let took = pairs.map(|kinds| {
        let mut pair = Cluster::start(&kinds, &setting.options());
        pair.wait_for_agreement(SOON);
        pair.peers[1].kill();
        let took = pair.wait_for_all("n2 failed", LIMIT, |peer| peer.is_failed("n2"));
        pair.peers[1].start();
        pair.wait_for_agreement(SOON);
        pair.peers[1].leave();
        // No bare program is here with an agent, which would take its goodbye for a failure.
        pair.wait_for_all("n2 left", SOON, |peer| peer.is_left("n2"));
        pair.peers[1].start();
        pair.wait_for_agreement(SOON);
        format!("{} by {} {}", kinds[1], kinds[0], seconds(took))
    });
    took.join(", ")
}

/// One cluster: one after the other is killed, found failed by all the others, and started again.
fn rounds(options: &Options, kinds: [Kind; 5], seed: u32, samples: &Samples) {
    let mut cluster = Cluster::start(&kinds, options);
    for round in 0..ROUNDS {
        cluster.wait_for_agreement(EVENTUALLY);
        // Health scores go back to normal meanwhile, and the probes' phases differ.
        thread::sleep(Duration::from_millis(2_000 + u64::from(seed) * 130 + (round as u64 * 370) % 1_000));
        // All three kinds equally often.
        let who = [4, 3, 2, 0, 1, 2][(round + seed as usize) % 6];
        let name = cluster.peers[who].name().to_owned();
        let marks: Vec<u64> = cluster.peers.iter().map(|peer| peer.mark()).collect();
        cluster.peers[who].kill();
        let killed = Instant::now();
        wait_for(&format!("{name} to be failed"), LIMIT, || {
            let mut others = cluster.peers.iter().zip(&marks).filter(|(peer, _)| peer.name() != name);
            others.all(|(peer, &mark)| peer.said_failed(&name, mark))
        });
        samples.lock().unwrap().push((kinds[who], killed.elapsed().as_secs_f64()));
        cluster.wait_for_all("it failed", SOON, |peer| peer.is_failed(&name));
        let other = cluster.peers[(who + 1) % 5].addr();
        cluster.peers[who].process_mut().options.join = vec![other];
        cluster.peers[who].start();
    }
}

/// The longest but so many.
fn longest_but(mut values: Vec<f64>, but: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() - 1 - but]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 { values[middle] } else { (values[middle - 1] + values[middle]) / 2.0 }
}
