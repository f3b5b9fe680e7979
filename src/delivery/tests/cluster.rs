//! Several nodes that see each other's tags a second late: do they come to rest, with the outside right?

use super::*;
use crate::rng::Rng;

const NODES: [&str; 3] = ["fra1", "nyc1", "par1"];
const TICK: Duration = Duration::from_millis(500);

struct Cluster {
    rng: Rng,
    now: Instant,
    nodes: Vec<Node>,
    goal: Vec<u8>,
    outside: Vec<IpAddr>,
    started: usize,
}

struct Node {
    delivery: Delivery,
    alive: bool,
    /// Oldest first: what was shown one and two ticks ago.
    shown: Vec<Box<[u8]>>,
    run: Option<(RunId, Run, Instant)>,
}

impl Cluster {
    fn new(seed: u64) -> Self {
        let node = |n: u64| Node {
            delivery: Delivery::new(vec![sync_one()], seed ^ n, Instant::ZERO),
            alive: true,
            shown: vec![meta(&[("h.dns.web".into(), "n:0:-".into())]); 2],
            run: None,
        };
        let nodes = (0..3).map(node).collect();
        let (rng, now) = (Rng::new(seed), Instant::ZERO);
        Self { rng, now, nodes, goal: vec![1, 2, 3], outside: vec![], started: 0 }
    }

    /// One tick: runs that are over end (`fail`: with this probability badly), everybody looks.
    fn tick(&mut self, fail: f64) {
        self.now += TICK;
        for index in 0..NODES.len() {
            self.end_run(index, fail);
            let mut scene = Scene::new(sync_one());
            scene.members = self.members(index);
            let Some(node) = self.nodes.get_mut(index).filter(|node| node.alive) else { continue };
            core::mem::swap(&mut scene.delivery, &mut node.delivery);
            (scene.now, scene.goal) = (self.now, Some(self.goal.clone()));
            scene.look_as(NODES.get(index).expect("a name"));
            core::mem::swap(&mut scene.delivery, &mut node.delivery);
            for (id, run) in scene.runs() {
                self.started += 1;
                node.run = Some((id, run, self.now + self.rng.duration_below(secs(20))));
            }
            node.shown.push(meta(&node.delivery.tags()));
            node.shown.remove(0);
        }
        let at_it = self.nodes.iter().filter(|node| node.run.is_some()).count();
        assert!(at_it <= 1, "{at_it} runs at once");
    }

    fn end_run(&mut self, index: usize, fail: f64) {
        let failed = self.rng.chance(fail);
        let Some(node) = self.nodes.get_mut(index) else { return };
        let Some((id, run, _)) = node.run.take_if(|(_, _, end)| *end <= self.now) else { return };
        if !failed {
            let addrs = env(&run, "PICORED_UP_ADDRS").split_whitespace();
            self.outside = addrs.map(|addr| addr.parse().expect("an address")).collect();
        }
        if node.alive {
            node.delivery.handle_exit(self.now, id, Exit::Code(i32::from(failed)), b"");
        }
    }

    fn members(&self, viewer: usize) -> Vec<Member> {
        let all = NODES.iter().zip(&self.nodes).enumerate();
        all.map(|(index, (name, node))| {
            let mut member = member(name);
            member.state = if node.alive { MemberState::Alive } else { MemberState::Dead };
            member.meta = if index == viewer { meta(&[]) } else { node.shown.first().expect("one").clone() };
            member
        })
        .collect()
    }

    fn is_right(&self) -> bool {
        self.outside == self.goal.iter().map(|&n| ip(n)).collect::<Vec<_>>()
    }
}

/// Goal: with one view, runs of one handler never overlap, the outside ends right, and runs then stop.
/// Method: sets change, runs fail, nodes die and come back without their state; then all that stops.
#[test]
fn nodes_with_one_view_come_to_rest_with_the_outside_right_and_never_run_at_once() {
    for seed in 0..60 {
        let mut cluster = Cluster::new(seed);
        for tick in 0..1_000 {
            if cluster.rng.chance(0.02) {
                cluster.goal = (1..=3).filter(|_| cluster.rng.chance(0.6)).collect();
            }
            let victim = cluster.rng.below(3);
            let alive = cluster.nodes.iter().filter(|node| node.alive).count();
            if let Some(node) = cluster.nodes.get_mut(victim)
                && tick % 100 == 50
                && (alive > 2 || !node.alive)
            {
                let was_alive = core::mem::replace(&mut node.alive, false);
                // Whoever comes back has waited for a run that it left behind.
                if !was_alive && node.run.is_none() {
                    node.alive = true;
                    node.delivery = Delivery::new(vec![sync_one()], seed, cluster.now);
                }
            }
            cluster.tick(0.3);
        }
        for _ in 0..1_000 {
            cluster.tick(0.0);
        }
        assert!(cluster.started > 5, "SEED={seed}: {} runs test nothing", cluster.started);
        assert!(cluster.is_right(), "SEED={seed}: {:?} instead of {:?}", cluster.outside, cluster.goal);
        let before = cluster.started;
        for _ in 0..200 {
            cluster.tick(0.0);
        }
        assert!(cluster.started - before <= 1, "SEED={seed}: more runs than one resync");
    }
}
