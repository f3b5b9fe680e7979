//! The node that runs the handlers dies while one runs.

use std::time::Duration;

use crate::scenario::{BACK, scenario};
use crate::verdict::Limits;
use crate::world::{Setup, World};

/// The handler's timeout, which is later than the detection, and 15 s.
const SUCCEEDED: Duration = Duration::from_secs(20 + 15);

#[test]
fn killed_in_mid_run() {
    scenario("the runner and its handler killed in mid-run", |row| {
        let mut world = World::start(&Setup::picored(3));
        let runner = world.runner();
        let others = world.others(runner);
        world.scripts.set_slow(true);
        world.node(others[0]).web.kill();
        world.wait("the runner to begin", BACK, || world.runs().iter().any(|run| run.node == runner));
        world.look_on(2);
        world.kill_all(runner, true);
        world.scripts.set_slow(false);
        let took = world.wait("another to run", SUCCEEDED, || {
            world.runs().iter().any(|run| run.node != runner && run.exit == Some(0))
        });
        row.remark(&format!("another ran after {:.0} s", took.as_secs_f64()));
        let left = [runner, others[1]];
        world.wait_for_records(&left, Duration::from_secs(5));
        world.look_on(20);
        // Both the slow run and the wait for its end lie between the failure and the change.
        row.judge(&world.verdict(), &Limits::new(None, 1, &left));
        let by_runner = world.runs().into_iter().filter(|run| run.node == runner);
        assert!(by_runner.into_iter().all(|run| run.ended.is_none()), "it was killed:\n{}", world.story());
    });
}
