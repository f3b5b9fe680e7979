//! Five servers and many random kills, flaps and restarts: how often the handlers run for one change.
//!
//! A change is one of the set that is wanted, those whose web servers serve, which lasts until it is told. What else
//! is done must not make a handler run: picored killed and started again at once or after the others called it failed,
//! or asleep for some seconds; a web server that is away for less than two checks.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use picored::rng::Rng;
use serde_json::json;

use crate::poller::now;
use crate::scenario::{DEAD_NODE, Row, scenario, setting};
use crate::verdict::{Limits, names};
use crate::world::{Setup, World};

const NODES: u8 = 5;
/// So many always serve: what happens below `min_up` is another scenario.
const SERVING_MIN: usize = 2;
/// After an act is over, as long no run must begin or be under way before the next one.
const QUIET: Duration = Duration::from_millis(1500);
/// Until a change is told, or until all agree after a restart.
const TOLD: Duration = Duration::from_secs(3 * DEAD_NODE);

#[test]
fn random_kills_flaps_and_restarts() {
    scenario("five servers, random kills, flaps and restarts", |row| {
        let seed = setting("ACCEPT_SEED", (now() * 1e3) as u64);
        let acts = setting("ACCEPT_CHANGES", 200);
        row.remark(&format!("seed {seed}"));
        let mut churn = Churn::start(seed);
        let counts: Vec<Count> = (0..acts).map(|_| churn.act()).collect();
        judge(row, &churn, &counts);
    });
}

/// What is done next.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    /// The web server stops, or starts. With another node: its picored is killed and started again meanwhile.
    Toggle(u8, Option<u8>),
    /// Web server and picored are killed, or started.
    Power(u8, bool),
    /// The web server is away for a moment.
    Flap(u8),
    /// picored is killed and started again soon.
    Restart(u8),
    /// picored is killed and started again once the others call it failed.
    Failed(u8),
    /// picored is stopped for some seconds.
    Sleep(u8),
}

/// Of one act.
struct Count {
    act: Act,
    /// Whether the set that is wanted was another after it.
    change: bool,
    runs: usize,
}

struct Churn {
    world: World,
    rng: Rng,
    /// Whose web server serves.
    serving: BTreeSet<u8>,
    /// Who is off altogether.
    off: Option<u8>,
}

impl Churn {
    fn start(seed: u64) -> Self {
        // A web server that flaps would be held ever longer, as it should be.
        let change = |config: &mut serde_json::Value| config["apps"]["web"]["hold_up"] = json!("0s");
        let world = World::start(&Setup::picored(NODES).with(change));
        let serving = world.all().into_iter().collect();
        Self { world, rng: Rng::new(seed), serving, off: None }
    }

    /// Does something, waits until it is told and all is quiet, and counts.
    fn act(&mut self) -> Count {
        let act = self.pick();
        let (before, runs) = (self.serving.clone(), self.world.runs().len());
        eprintln!("{:8.1}  {act:?}", self.world.age());
        self.perform(act);
        self.settle(act);
        Count { act, change: self.serving != before, runs: self.world.runs().len() - runs }
    }

    fn pick(&mut self) -> Act {
        if let Some(off) = self.off {
            // It is done with soon, and two that are off at once are another scenario.
            return Act::Power(off, true);
        }
        let n = self.node();
        let stops = self.serving.contains(&n);
        let may_stop = !stops || self.serving.len() > SERVING_MIN;
        match self.rng.below(11) {
            0..5 if may_stop => {
                let other = self.node();
                Act::Toggle(n, (other != n && self.rng.chance(0.25)).then_some(other))
            }
            5 if stops && may_stop => Act::Power(n, false),
            6 if stops => Act::Flap(n),
            7 => Act::Failed(n),
            8 => Act::Sleep(n),
            _ => Act::Restart(n),
        }
    }

    fn node(&mut self) -> u8 {
        1 + u8::try_from(self.rng.below(NODES.into())).expect("few nodes")
    }

    fn pause(&mut self, millis: std::ops::Range<u64>) {
        let more = self.rng.below((millis.end - millis.start) as usize) as u64;
        thread::sleep(Duration::from_millis(millis.start + more));
    }

    fn perform(&mut self, act: Act) {
        match act {
            Act::Toggle(n, other) => {
                self.set_web(n, !self.serving.contains(&n));
                if let Some(other) = other {
                    self.pause(0..3000);
                    self.world.node(other).agent.kill();
                    self.pause(0..2000);
                    self.world.node(other).agent.start();
                }
            }
            Act::Power(n, false) => {
                self.off = Some(n);
                self.serving.remove(&n);
                self.world.kill_all(n, false);
            }
            Act::Power(n, true) => {
                self.off = None;
                self.set_web(n, true);
                self.world.node(n).agent.start();
            }
            Act::Flap(n) => {
                self.set_web(n, false);
                self.pause(50..400);
                self.set_web(n, true);
            }
            Act::Restart(n) => {
                self.world.node(n).agent.kill();
                self.pause(0..2000);
                self.world.node(n).agent.start();
            }
            Act::Failed(n) => {
                self.world.node(n).agent.kill();
                let witness = if n == 1 { 2 } else { 1 };
                self.world.wait_for_failed(witness, n);
                self.pause(0..6000);
                self.world.node(n).agent.start();
            }
            Act::Sleep(n) => {
                self.world.node(n).agent.stop();
                self.pause(1000..9000);
                self.world.node(n).agent.cont();
            }
        }
    }

    fn set_web(&mut self, n: u8, up: bool) {
        if up {
            self.world.start_web(n);
            self.serving.insert(n);
        } else {
            self.world.node(n).web.kill();
            self.serving.remove(&n);
        }
    }

    fn settle(&self, after: Act) {
        let set: Vec<u8> = self.serving.iter().copied().collect();
        let agree = || self.world.agree();
        self.world.wait(&format!("all to agree after {after:?}"), TOLD, agree);
        self.world.wait_for_records(&set, TOLD);
        assert!(self.world.wait_until_quiet(QUIET), "no peace after {after:?}:\n{}", self.world.story());
    }
}

fn judge(row: &Row, churn: &Churn, counts: &[Count]) {
    let verdict = churn.world.verdict();
    let changes: Vec<&Count> = counts.iter().filter(|count| count.change).collect();
    let once = changes.iter().filter(|count| count.runs == 1).count();
    let needless: usize = counts.iter().filter(|count| !count.change).map(|count| count.runs).sum();
    row.remark(&format!("{} acts, {} changes, {once} with one run", counts.len(), changes.len()));
    row.remark(&format!("{needless} runs without a change"));
    let serving: Vec<u8> = churn.serving.iter().copied().collect();
    // Not one change more than is wanted, but for those that are run twice.
    let allowed = changes.len().div_ceil(100);
    let writes = u32::try_from(changes.len() + allowed).expect("few changes");
    row.judge(&verdict, &Limits::new(None, writes, &serving));
    let odd = counts.iter().filter(|count| count.runs != usize::from(count.change));
    let odd: Vec<(Act, usize)> = odd.map(|count| (count.act, count.runs)).collect();
    let story = || format!("acts and runs: {odd:?}\n{}", churn.world.story());
    assert!(changes.iter().all(|count| count.runs > 0), "changes without a run: {}", story());
    assert!(changes.len() - once <= allowed, "less than 99 % ran once: {}", story());
    assert!(needless <= counts.len().div_ceil(100), "runs without a change: {}", story());
    assert!(
        changes.len() * 4 > counts.len(),
        "{} are published, hardly anything changed",
        names(&verdict.last)
    );
}
