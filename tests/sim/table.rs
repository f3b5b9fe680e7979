//! How long it takes until a dead node is known to be dead, measured and held against the protocol's own
//! bounds (protocol page, 7.4, 7.5.1 and 7.9; SWIM sections 3.2 and 4; Lifeguard, LHA-Suspicion).

use std::fmt::Write as _;
use std::time::Duration;

use picored::membership::Timing;

use crate::settings::picored_timing;
use crate::world::{Down, World};
use crate::{for_seeds, millis, mins, say, secs};

const KILLS: usize = 20;

/// When the first and the last of the others said that a killed node failed, counted from the kill.
#[derive(Clone, Copy, Debug)]
pub struct Detection {
    pub first: Duration,
    pub last: Duration,
}

/// What the protocol promises for a cluster of `n`, all of whose survivors are healthy at the kill.
#[derive(Debug)]
struct Bounds {
    /// Nobody can know earlier.
    first_min: Duration,
    /// Half of the kills are known to all by then.
    median_max: Duration,
    /// Everybody always knows by then.
    last_max: Duration,
}

/// 7.5.1: `s = max(1, log10 n)` cut to three decimals; `min = SuspicionMult * s * ProbeInterval`.
fn suspicion_min(n: usize, timing: &Timing) -> Duration {
    let scale = ((n as f64).log10().max(1.0) * 1_000.0).floor() / 1_000.0;
    timing.probe_interval.mul_f64(f64::from(timing.suspicion_mult) * scale)
}

/// 7.5.1: `max = 6 * min`, but where fewer than k others could confirm (k = 0) the timer starts at `min`.
fn suspicion_max(n: usize, timing: &Timing) -> Duration {
    let confirmations = (timing.suspicion_mult as usize).saturating_sub(2);
    let can_confirm = confirmations >= 1 && n >= 2 + confirmations;
    suspicion_min(n, timing) * if can_confirm { 6 } else { 1 }
}

impl Bounds {
    fn of(n: usize, timing: &Timing) -> Self {
        let (probe, min, max) = (timing.probe_interval, suspicion_min(n, timing), suspicion_max(n, timing));
        // A ping that was on its way when the node died may have begun a little before: link delays.
        let under_way = millis(50);
        // A probe fails one interval after it began, at health score 0; then the shortest suspicion.
        let first_min = probe + min - under_way;
        // SWIM 4.3: round robin over a shuffled ring probes a given member again after 2(n - 1) - 1
        // intervals at the latest. That many for one prober alone, were the others to have no luck.
        let until_probed = probe * (2 * (n as u32 - 1) - 1);
        // Survivors may still carry a health score of 1 from the kill before: the probe that fails may
        // take twice as long (Lifeguard, LHA-Probe), and one more round is skipped meanwhile.
        let failing_probe = probe * 3;
        // Gossip reaches all in some log rounds; ten are ample for 50 with four targets each.
        let dissemination = timing.gossip_interval * 10;
        let last_max = until_probed + failing_probe + max + dissemination;
        // As a rule: each interval, one of the n - 1 others probes the dead one with probability
        // 1 - 1/e (SWIM 3.1), so that within four intervals somebody began and as many as k confirm
        // before the shortest suspicion ends.
        let median_max = probe * 4 + probe + min + dissemination;
        Self { first_min, median_max, last_max }
    }
}

pub fn kill_and_watch(world: &mut World) -> Detection {
    let victim = world.rng.below(world.nodes.len());
    let name = world.nodes[victim].name.clone();
    // Not in step with anybody's ticker.
    let pause = world.rng.duration_below(secs(10));
    world.run_for(pause);
    let killed = world.now;
    world.crash_index(victim, Down::Machine);
    let noted = |world: &World| -> Vec<Option<Duration>> {
        let others = world.nodes.iter().filter(|node| node.index != victim);
        others.map(|node| node.noted("node-failed", &name, killed).map(|at| at.since(killed))).collect()
    };
    world.expect_within(mins(10), "all say that it failed", |world| noted(world).iter().all(Option::is_some));
    let times: Vec<Duration> = noted(world).into_iter().flatten().collect();
    world.start_index(victim);
    world.expect_within(mins(2), "it is back", World::all_see_all);
    // Health scores come down by one with each answered probe, from at most 7.
    world.run_for(mins(1));
    let extreme = |found: Option<&Duration>| *found.expect("there are others");
    Detection { first: extreme(times.iter().min()), last: extreme(times.iter().max()) }
}

fn quantile(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part).round() as usize]
}

fn row(label: &str, mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let mut line = format!("  {label:<16}");
    for part in [0.0, 0.25, 0.5, 0.75, 0.9, 1.0] {
        let _ = write!(line, "{:>8.1}", quantile(&times, part).as_secs_f64());
    }
    line
}

fn detects_within_bounds(n: usize) {
    for_seeds(1, |seed| {
        let mut world = World::new(seed).nodes(n).settled();
        world.inspect_every = mins(1);
        let detections: Vec<Detection> = (0..KILLS).map(|_| kill_and_watch(&mut world)).collect();
        let bounds = Bounds::of(n, &picored_timing());
        let of = |pick: fn(&Detection) -> Duration| detections.iter().map(pick).collect::<Vec<_>>();
        let mut lasts = of(|detection| detection.last);
        lasts.sort_unstable();
        let median = quantile(&lasts, 0.5);
        say(&format!(
            "  seconds until a killed node is said to have failed, {n} nodes, {KILLS} kills, seed {seed}\n  \
             {:<16}{:>8}{:>8}{:>8}{:>8}{:>8}{:>8}\n{}\n{}\n  bounds: first >= {:.1}, median of last <= {:.1}, last <= {:.1}",
            "",
            "min",
            "25 %",
            "median",
            "75 %",
            "90 %",
            "max",
            row("first to know", of(|detection| detection.first)),
            row("last to know", lasts.clone()),
            bounds.first_min.as_secs_f64(),
            bounds.median_max.as_secs_f64(),
            bounds.last_max.as_secs_f64(),
        ));
        for detection in &detections {
            assert!(detection.first >= bounds.first_min, "{detection:?} is too early: {bounds:?}");
            assert!(detection.last <= bounds.last_max, "{detection:?} is too late: {bounds:?}");
        }
        assert!(median <= bounds.median_max, "median {median:?} is too late: {bounds:?}");
        only_the_killed_were_accused(&world);
    });
}

/// No survivor was ever said to have failed: the only failures are `KILLS` times each of the others.
fn only_the_killed_were_accused(world: &World) {
    let expected = KILLS * (world.nodes.len() - 1);
    // A node that was killed loses nothing of what it noted before.
    assert_eq!(world.failures(), expected, "{}", world.blame("somebody else was said to have failed"));
}

#[test]
fn among_three_nodes_a_dead_one_is_detected_within_the_bounds() {
    detects_within_bounds(3);
}

#[test]
fn among_ten_nodes_a_dead_one_is_detected_within_the_bounds() {
    detects_within_bounds(10);
}

#[test]
fn among_fifty_nodes_a_dead_one_is_detected_within_the_bounds() {
    detects_within_bounds(50);
}

#[test]
fn the_suspicion_times_are_those_of_the_protocol_page() {
    let timing = picored_timing();
    assert_eq!(suspicion_min(3, &timing), secs(12));
    assert_eq!(suspicion_max(3, &timing), secs(12));
    assert_eq!(suspicion_min(10, &timing), secs(12));
    assert_eq!(suspicion_max(10, &timing), secs(72));
    assert_eq!(suspicion_min(50, &timing), millis(20_376));
}
