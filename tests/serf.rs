//! picored and a real Serf agent in one cluster: the words of one are the words of the other.
//!
//! Without `serf` this fails in CI and says loudly elsewhere that it was skipped.

#[allow(dead_code)]
#[path = "e2e/daemon.rs"]
mod daemon;

use std::io::Write as _;
use std::process::{Child, Command, Output};
use std::{fs, time::Duration};

use daemon::{Daemon, free_addr, wait_for};
use serde_json::{Value, json};

/// A key for tests only.
const KEY: &str = "cGljb3JlZCBhbmQgc2VyZiwgb25seSBmb3IgdGVzdHM=";
const SOON: Duration = Duration::from_secs(30);

/// A Serf agent on loopback, with the tag `role=web`.
struct Agent {
    addr: String,
    rpc: String,
    child: Child,
}

impl Agent {
    fn start(args: &[&str]) -> Self {
        let (addr, rpc) = (free_addr().to_string(), free_addr().to_string());
        let child = Command::new("serf")
            .args(["agent", "-node=agent", "-tag=role=web", "-profile=local", "-log-level=debug"])
            .args(["-bind", &addr, "-rpc-addr", &rpc])
            .args(args)
            .stdout(fs::File::create(concat!(env!("CARGO_TARGET_TMPDIR"), "/serf.log")).expect("ours"))
            .spawn()
            .expect("serf starts");
        let agent = Self { addr, rpc, child };
        agent.wait_for("agent", "alive");
        agent
    }

    /// What this agent says of a member, or null.
    fn member(&self, name: &str) -> Value {
        let output = serf(&["members", "-format=json", "-rpc-addr", &self.rpc]);
        let members: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let found = members["members"].as_array().into_iter().flatten().find(|m| m["name"] == name);
        found.cloned().unwrap_or_default()
    }

    fn wait_for(&self, name: &str, state: &str) {
        wait_for(&format!("{name} to be {state}"), SOON, || self.member(name)["status"] == state);
    }
}

fn serf(args: &[&str]) -> Output {
    Command::new("serf").args(args).output().expect("serf starts")
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn picored_and_a_serf_agent_see_each_other_alive_with_tags_failed_and_left() {
    if Command::new("serf").arg("version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "serf is not installed, and in CI nothing is skipped");
        // Past the test harness, which would show this only if the test failed.
        let text = b"\n*** SKIPPED: serf is not installed; scripts/setup does it ***\n\n";
        return drop(std::io::stderr().write_all(text));
    }
    for (args, mut extra) in [(&[][..], json!({})), (&["-encrypt", KEY], json!({ "keys": [KEY] }))] {
        let mut agent = Agent::start(args);
        (extra["join"], extra["tags"]) = (json!([agent.addr]), json!({ "site": "north" }));
        let mut node = Daemon::new("n1", extra);
        node.start();
        agent.wait_for("n1", "alive");
        assert_eq!(agent.member("n1")["tags"]["site"], "north");
        wait_for("the agent to be alive", SOON, || node.member_state("agent") == "alive");
        assert_eq!(node.tag("agent", "role"), "web");
        node.kill();
        agent.wait_for("n1", "failed");
        node.start();
        agent.wait_for("n1", "alive");
        assert!(node.run(&["leave"]).status.success());
        agent.wait_for("n1", "left");
        node.wait(SOON);
        node.start();
        agent.wait_for("n1", "alive");
        if args.is_empty() {
            agent.child.kill().expect("it runs");
            wait_for("the agent to be failed", SOON, || node.member_state("agent") == "failed");
        } else {
            assert!(serf(&["leave", "-rpc-addr", &agent.rpc]).status.success());
            wait_for("the agent to be left", SOON, || node.member_state("agent") == "left");
        }
    }
}
