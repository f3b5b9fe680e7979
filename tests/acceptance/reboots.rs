//! A whole cluster goes down at once and comes up again, web servers later than picored.

use serde_json::json;

use crate::scenario::scenario;
use crate::verdict::Limits;
use crate::world::{Setup, World};

const ORDERS: [[u8; 3]; 3] = [[1, 2, 3], [3, 2, 1], [2, 3, 1]];
/// From one server to the next, and from a server's picored to its web server.
const NEXT: u64 = 2;
const WEB: u64 = 5;

/// Until all have verdicts and have settled, and some more.
const SETTLED: u64 = 30;

#[test]
fn in_any_order() {
    scenario("all servers rebooted, in three orders: nothing changes", |row| {
        // A check that fails while its web server starts does not count.
        let patient = |config: &mut serde_json::Value| config["apps"]["web"]["grace"] = json!("15s");
        let mut world = World::start(&Setup::picored(3).with(patient));
        for order in ORDERS {
            reboot(&mut world, order);
            let verdict = world.verdict();
            row.judge(&verdict, &Limits::new(None, 0, &[1, 2, 3]));
            assert_eq!(
                verdict.runs,
                0,
                "runs though nothing was to be changed, order {order:?}:\n{}",
                world.story()
            );
        }
    });
}

fn reboot(world: &mut World, order: [u8; 3]) {
    for n in world.all() {
        world.kill_all(n, false);
    }
    world.look_on(5);
    // Of each second, what is started in it.
    for second in 0..=NEXT * 2 + WEB {
        for (n, place) in order.into_iter().zip(0..) {
            if second == place * NEXT {
                world.node(n).agent.start();
            }
            if second == place * NEXT + WEB {
                world.start_web(n);
            }
        }
        world.look_on(1);
    }
    world.look_on(SETTLED);
}
