//! Stories that broke earlier drafts of the rules, with nodes that see each other differently and a little late.

use super::*;

const TICK: Duration = Duration::from_millis(250);
/// So old is what others see of a node's tags.
const LATE: usize = 3;
/// The date that [`Scene`] says, always.
const UNIX: u64 = 1_000_000;
const NODES: [&str; 3] = ["fra1", "nyc1", "par1"];

/// Three nodes, their one handler, and the outside that it writes.
struct Net {
    now: Instant,
    nodes: Vec<Node>,
    outside: Vec<IpAddr>,
    /// Who started a run, and why.
    started: Vec<(usize, String)>,
    /// Pairs that hear nothing of each other.
    cut: Vec<(usize, usize)>,
    takes: Duration,
    /// The most runs at once.
    at_once: usize,
}

struct Node {
    delivery: Option<Delivery>,
    goal: Vec<u8>,
    /// What it sees of the others: whether they run, and their tags.
    sees: Vec<(bool, Box<[u8]>)>,
    shown: Vec<Box<[u8]>>,
    runs: Vec<(Option<RunId>, Run, Instant)>,
    exit: i32,
    saved: Saved,
}

impl Net {
    fn new() -> Self {
        let blank = meta(&[("h.dns.web".into(), "n:0:-".into())]);
        let node = |seed| Node {
            delivery: Some(Delivery::new(vec![sync_one()], seed, Instant::ZERO)),
            goal: vec![1, 2, 3],
            sees: vec![(true, blank.clone()); 3],
            shown: vec![blank.clone(); LATE],
            runs: vec![],
            exit: 0,
            saved: Saved::default(),
        };
        let mut net = Self {
            now: Instant::ZERO,
            nodes: [1, 2, 3].map(node).into(),
            outside: vec![],
            started: vec![],
            cut: vec![],
            takes: secs(4),
            at_once: 0,
        };
        net.run_for(60);
        assert_eq!((net.started.len(), net.is_right(&[1, 2, 3])), (1, true));
        net
    }

    /// Who ran first, and so is the runner; then the others by name.
    fn by_role(&mut self) -> [usize; 3] {
        let runner = self.started.first().expect("a run").0;
        self.started.clear();
        let mut others = (0..3).filter(|&node| node != runner);
        [runner, others.next().expect("one"), others.next().expect("another")]
    }

    /// Of the two, who acts once the runner is gone.
    fn heir(others: [usize; 2]) -> [usize; 2] {
        let blank = record::Record { state: record::State::Able, lc: 0, told: record::Told::Nothing };
        let [a, b] = others;
        match record::runner("dns", others.map(|n| (NODES[n], blank)).into_iter()) == Some(NODES[a]) {
            true => [a, b],
            false => [b, a],
        }
    }

    fn run_for(&mut self, seconds: u64) {
        for _ in 0..seconds * 4 {
            self.tick();
        }
    }

    fn tick(&mut self) {
        self.now += TICK;
        for index in 0..3 {
            self.end_runs(index);
        }
        for viewer in 0..3 {
            for other in (0..3).filter(|&other| other != viewer) {
                let cut = self.cut.contains(&(viewer, other)) || self.cut.contains(&(other, viewer));
                if !cut && self.nodes[other].delivery.is_some() {
                    self.nodes[viewer].sees[other].1 = self.nodes[other].shown[0].clone();
                }
            }
            self.look(viewer);
        }
        self.at_once = self.at_once.max(self.nodes.iter().map(|node| node.runs.len()).sum());
    }

    fn look(&mut self, index: usize) {
        let mut scene = Scene::new(sync_one());
        scene.members = (0..3)
            .map(|other| {
                let mut member = member(NODES[other]);
                let (runs, tags) = &self.nodes[index].sees[other];
                member.state = if *runs { MemberState::Alive } else { MemberState::Dead };
                member.meta = if other == index { meta(&[]) } else { tags.clone() };
                member
            })
            .collect();
        let node = &mut self.nodes[index];
        let Some(delivery) = &mut node.delivery else { return };
        core::mem::swap(&mut scene.delivery, delivery);
        (scene.now, scene.goal) = (self.now, Some(node.goal.clone()));
        scene.look_as(NODES[index]);
        core::mem::swap(&mut scene.delivery, delivery);
        node.saved = delivery.saved(self.now, UNIX);
        node.shown.push(meta(&delivery.tags()));
        node.shown.remove(0);
        for (id, run) in scene.runs() {
            self.started.push((index, env(&run, "PICORED_REASON").into()));
            node.runs.push((Some(id), run, self.now + self.takes));
        }
    }

    fn end_runs(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        while let Some(at) = node.runs.iter().position(|run| run.2 <= self.now) {
            let (id, run, _) = node.runs.remove(at);
            if node.exit == 0 {
                let addrs = env(&run, "PICORED_UP_ADDRS").split_whitespace();
                self.outside = addrs.map(|addr| addr.parse().expect("an address")).collect();
            }
            if let (Some(id), Some(delivery)) = (id, &mut node.delivery) {
                delivery.handle_exit(self.now, id, Exit::Code(node.exit), b"");
            }
        }
    }

    fn set_goal(&mut self, goal: &[u8]) {
        self.nodes.iter_mut().for_each(|node| node.goal = goal.into());
    }

    /// From now on `viewer` takes `other` for failed, or for running.
    fn see(&mut self, viewer: usize, other: usize, runs: bool) {
        self.nodes[viewer].sees[other].0 = runs;
    }

    /// The daemon is gone, and its child goes on.
    fn crash(&mut self, index: usize) {
        self.nodes[index].delivery = None;
        self.nodes[index].runs.iter_mut().for_each(|run| run.0 = None);
    }

    /// It is back. What peers hold of it comes with the first push/pull, a second later.
    fn restart(&mut self, index: usize, with_state: bool) {
        let mut delivery = Delivery::new(vec![sync_one()], 9, self.now);
        if with_state {
            delivery.restore(self.now, UNIX, self.nodes[index].saved.clone());
        }
        self.nodes[index].shown = vec![meta(&delivery.tags()); LATE];
        self.nodes[index].delivery = Some(delivery);
        let held: Vec<Box<[u8]>> =
            (0..3).filter(|&n| n != index).map(|n| self.nodes[n].sees[index].1.clone()).collect();
        (0..3).for_each(|viewer| self.see(viewer, index, true));
        self.run_for(1);
        for meta in held {
            let delivery = self.nodes[index].delivery.as_mut().expect("running");
            delivery.handle_own_meta(self.now, &meta);
        }
    }

    fn is_right(&self, goal: &[u8]) -> bool {
        self.outside == goal.iter().map(|&n| ip(n)).collect::<Vec<_>>()
    }

    fn tag(&self, index: usize) -> String {
        self.nodes[index].delivery.as_ref().expect("running").tags()[0].1.clone()
    }
}

#[test]
fn two_that_notice_the_same_failure_seconds_apart_run_once() {
    for apart in 5..=8 {
        for late in [0, 1] {
            let mut net = Net::new();
            let [runner, a, b] = net.by_role();
            net.crash(runner);
            let notice = |net: &mut Net, node: usize| {
                net.see(node, runner, false);
                net.nodes[node].goal = vec![1, 2];
            };
            let order = if late == 0 { [a, b] } else { [b, a] };
            notice(&mut net, order[0]);
            net.run_for(apart);
            notice(&mut net, order[1]);
            net.run_for(120);
            assert_eq!((net.started.len(), net.at_once), (1, 1), "{apart} s, {late}: {:?}", net.started);
            assert!(net.is_right(&[1, 2]));
        }
    }
}

#[test]
fn two_that_notice_a_failure_with_different_sets_end_with_the_set_that_all_see_in_the_end() {
    for apart in 5..=8 {
        let mut net = Net::new();
        let [runner, a, b] = net.by_role();
        let [heir, other] = Net::heir([a, b]);
        net.crash(runner);
        for (node, goal) in [(heir, vec![1]), (other, vec![1, 2])] {
            net.see(node, runner, false);
            net.nodes[node].goal = goal;
            net.run_for(apart);
        }
        net.set_goal(&[1, 2]);
        net.run_for(120);
        assert_eq!((net.started.len(), net.at_once), (2, 1), "{:?}", net.started);
        assert!(net.is_right(&[1, 2]));
    }
}

/// Cut from each other, both take over and run at once. `first` is whose run ends first: the later one's set is what the
/// outside shows then.
fn both_take_over(goals: [&[u8]; 2], first: usize) -> (Net, [usize; 3]) {
    let mut net = Net::new();
    let roles @ [runner, a, b] = net.by_role();
    net.crash(runner);
    net.cut = vec![(a, b)];
    let order =
        if first == 0 { [(a, b, goals[0]), (b, a, goals[1])] } else { [(b, a, goals[1]), (a, b, goals[0])] };
    for (node, other, goal) in order {
        net.see(node, runner, false);
        net.see(node, other, false);
        net.nodes[node].goal = goal.into();
        net.run_for(6);
    }
    net.run_for(30);
    assert_eq!(net.started.len(), 2);
    net.started.clear();
    net.cut.clear();
    (net, roles)
}

#[test]
fn after_an_overlap_with_different_sets_one_more_run_follows_whoever_ended_last() {
    for first in [0, 1] {
        let (mut net, [_, a, b]) = both_take_over([&[1], &[2]], first);
        for (viewer, other) in [(a, b), (b, a)] {
            net.see(viewer, other, true);
        }
        // The greatest record has just this set, though the other one's run may have come last.
        let greatest = a.max(b);
        let goal: &[u8] = if greatest == a { &[1] } else { &[2] };
        net.set_goal(goal);
        net.run_for(120);
        assert_eq!(net.started, [(greatest, "resync".to_string())], "first: {first}");
        assert!(net.is_right(goal));
        assert!(!format!("{:?}", net.nodes[b].saved).contains("repeat: true"), "cleared");
        assert!(!format!("{:?}", net.nodes[a].saved).contains("repeat: true"), "cleared everywhere");
    }
}

#[test]
fn after_an_overlap_with_the_same_set_nothing_follows() {
    for first in [0, 1] {
        let (mut net, [_, a, b]) = both_take_over([&[1, 2], &[1, 2]], first);
        for (viewer, other) in [(a, b), (b, a)] {
            net.see(viewer, other, true);
        }
        net.run_for(120);
        assert_eq!(net.started, [], "first: {first}");
    }
}

#[test]
fn an_r_that_the_others_never_saw_is_repaired_when_they_meet() {
    for goal in [&[1, 2][..], &[2][..]] {
        let mut net = Net::new();
        let [runner, a, b] = net.by_role();
        net.cut = vec![(runner, a), (runner, b)];
        net.takes = secs(25);
        net.nodes[runner].goal = vec![1];
        net.run_for(4);
        assert_eq!(net.started, [(runner, "change".to_string())]);
        net.crash(runner);
        net.takes = secs(2);
        for node in [a, b] {
            net.see(node, runner, false);
            net.nodes[node].goal = goal.into();
        }
        net.run_for(30);
        assert_eq!(net.started.len(), 2);
        assert!(net.is_right(&[1]), "the orphan wrote last");
        net.cut.clear();
        net.set_goal(goal);
        net.restart(runner, true);
        net.run_for(100);
        assert!(net.is_right(goal), "{:?}", net.started);
        assert_eq!(net.started.len(), 3, "{:?}", net.started);
    }
}

#[test]
fn a_crashed_runner_whose_child_lives_on_is_waited_for_when_it_is_back() {
    for with_state in [true, false] {
        for away in [1, 10] {
            let mut net = Net::new();
            let [runner, ..] = net.by_role();
            net.at_once = 0;
            net.takes = secs(29);
            net.set_goal(&[1]);
            net.run_for(5);
            assert_eq!(net.started.len(), 1);
            net.crash(runner);
            net.set_goal(&[2]);
            net.run_for(away);
            net.restart(runner, with_state);
            net.run_for(20);
            net.takes = secs(2);
            net.run_for(100);
            assert_eq!((net.started.len(), net.at_once), (2, 1), "{with_state} {away}: {:?}", net.started);
            assert!(net.is_right(&[2]));
        }
    }
}

#[test]
fn after_three_fast_failures_on_one_node_the_next_one_acts_and_if_all_stood_back_one_goes_on() {
    let mut net = Net::new();
    let [runner, a, b] = net.by_role();
    net.takes = secs(0);
    net.nodes.iter_mut().for_each(|node| node.exit = 1);
    net.set_goal(&[1]);
    net.run_for(200);
    let count = |net: &Net, of: usize| net.started.iter().filter(|(node, _)| *node == of).count();
    assert_eq!(net.started.iter().take(3).map(|(node, _)| *node).collect::<Vec<_>>(), [runner; 3]);
    assert!(count(&net, a) >= 3 && count(&net, b) >= 3, "{:?}", net.started);
    let before = net.started.len();
    net.run_for(300);
    let more = &net.started[before..];
    assert!(!more.is_empty(), "one goes on");
    assert!(more.iter().all(|(node, _)| *node == more[0].0), "{more:?}");
    net.nodes.iter_mut().for_each(|node| node.exit = 0);
    net.run_for(310);
    assert!(net.is_right(&[1]));
}

#[test]
fn an_exit_that_means_never_hands_the_job_to_the_next_at_once() {
    let mut net = Net::new();
    let [runner, ..] = net.by_role();
    net.nodes[runner].exit = 77;
    net.set_goal(&[1]);
    net.run_for(30);
    assert!(net.tag(runner).starts_with("n:2:?"));
    let who: Vec<usize> = net.started.iter().map(|(node, _)| *node).collect();
    assert!(who.len() == 2 && who[0] == runner && who[1] != runner, "{who:?}");
    assert!(net.is_right(&[1]));
    // And stays there.
    net.set_goal(&[1, 2]);
    net.run_for(30);
    assert_eq!(net.started.last().map(|(node, _)| *node), Some(who[1]));
}

#[test]
fn a_runner_that_leaves_hands_over_before_its_goodbye() {
    let mut net = Net::new();
    let [runner, ..] = net.by_role();
    net.nodes[runner].delivery.as_mut().expect("running").leave();
    net.set_goal(&[1]);
    net.run_for(15);
    assert!(net.tag(runner).starts_with("n:1:"), "{}", net.tag(runner));
    assert_eq!(net.started.len(), 1);
    assert_ne!(net.started[0].0, runner);
    assert!(net.is_right(&[1]));
}

#[test]
fn a_restart_with_its_state_runs_nothing_and_the_incumbent_stays() {
    let mut net = Net::new();
    let [runner, ..] = net.by_role();
    for node in 0..3 {
        net.crash(node);
        net.run_for(2);
        net.restart(node, true);
        net.run_for(60);
    }
    assert_eq!(net.started, []);
    net.set_goal(&[1]);
    net.run_for(30);
    assert_eq!(net.started, [(runner, "change".to_string())]);
}

#[test]
fn a_runner_that_lost_its_state_runs_once_for_nobody_knows_what_it_told_last() {
    let mut net = Net::new();
    let [runner, ..] = net.by_role();
    net.crash(runner);
    net.run_for(2);
    net.restart(runner, false);
    net.run_for(120);
    assert_eq!(net.started.len(), 1, "{:?}", net.started);
}
