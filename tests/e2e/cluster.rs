//! Three nodes and what follows when a web server, a daemon or a runner goes and comes back.

use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Folder, free_addr, picored, wait_for, wait_for_quiet};
use crate::web::Web;

const SOON: Duration = Duration::from_secs(30);

/// Notes the run, then publishes what it is told as a line of a file that stands for the DNS: who sees the records
/// sees the run.
const HANDLER: &str = r#"#!/bin/sh
dir=$1
printf '%s %s %s\n' "$PICORED_SELF" "$PICORED_REASON" "$PICORED_UP_ADDRS" >> "$dir/runs"
printf '%s\n' "$PICORED_UP_ADDRS" > "$dir/records.new.$$" && mv "$dir/records.new.$$" "$dir/records"
"#;

pub struct Cluster {
    pub outside: Folder,
    pub nodes: Vec<Daemon>,
    pub webs: Vec<Web>,
}

impl Cluster {
    /// Nodes n1 … that publish 192.0.2.1 …, each with its own web server, all with one `sync` handler.
    fn new(count: usize, keys: &str) -> Self {
        Self::new_with(count, keys, |_| Command::new(picored()))
    }

    /// The same, each started by a command of its own.
    pub fn new_with(count: usize, keys: &str, command: impl Fn(usize) -> Command) -> Self {
        let outside = Folder::new();
        let handler = outside.script("handler", HANDLER);
        let addrs: Vec<_> = (0..count).map(|_| free_addr()).collect();
        let webs: Vec<_> = (0..count).map(|_| Web::start()).collect();
        let join: Vec<String> = addrs.iter().map(|addr| addr.to_string()).collect();
        let node = |i: usize| {
            let mut extra = json!({
                "join": join,
                "publish": [format!("192.0.2.{}", i + 1)],
                "apps": { "web": {
                    "interval": "300ms", "timeout": "300ms", "rise": 2, "fall": 2, "grace": "0s", "hold_up": "0s",
                    "checks": [{ "http": webs[i].url() }],
                } },
                "handlers": { "dns": {
                    "run": [handler, outside.path], "apps": ["web"], "debounce": "300ms", "min_interval": "0s",
                } },
            });
            if !keys.is_empty() {
                extra["keys"] = json!([keys]);
            }
            Daemon::at(&format!("n{}", i + 1), addrs[i], extra)
        };
        let nodes = (0..count).map(node).collect();
        let mut cluster = Self { outside, nodes, webs };
        cluster.nodes.iter_mut().enumerate().for_each(|(i, node)| node.start_as(command(i)));
        cluster
    }

    fn records(&self) -> String {
        self.outside.read("records").trim().to_owned()
    }

    pub fn wait_for_records(&self, expected: &str) {
        wait_for(&format!("the records {expected:?}"), SOON, || self.records() == expected);
    }

    pub fn runs(&self) -> usize {
        self.outside.read("runs").lines().count()
    }

    /// The node that n1 names as the runner.
    pub fn runner(&self) -> String {
        self.nodes[0].status()["handlers"][0]["runner"].as_str().unwrap_or_default().to_owned()
    }
}

#[test]
fn records_follow_the_web_servers_and_the_nodes() {
    let mut cluster = Cluster::new(3, "");
    cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3");

    cluster.webs[1].set_up(false);
    cluster.wait_for_records("192.0.2.1 192.0.2.3");
    cluster.webs[1].set_up(true);
    cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3");

    wait_for_quiet(&cluster.nodes);
    cluster.nodes[2].kill();
    cluster.wait_for_records("192.0.2.1 192.0.2.2");
    assert_eq!(cluster.nodes[0].member_state("n3"), "failed");
    cluster.nodes[2].start();
    cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3");

    // All apps down: the last set stays, and no run tells otherwise.
    let runs = cluster.runs();
    cluster.webs.iter().for_each(|web| web.set_up(false));
    wait_for("all to be seen down", SOON, || {
        let status = cluster.nodes[0].status();
        status["apps"][0]["instances"].as_array().is_some_and(|all| all.iter().all(|i| i["state"] == "down"))
    });
    // Four checks more are more than a debounce: a run that must not be would have begun.
    let served = |web: &Web| web.served.load(Ordering::SeqCst);
    let before: Vec<_> = cluster.webs.iter().map(served).collect();
    wait_for("more checks", SOON, || {
        cluster.webs.iter().map(served).zip(&before).all(|(now, was)| now > was + 3)
    });
    cluster.webs.iter().for_each(|web| web.set_up(true));
    cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3");
    let told = cluster.outside.read("runs");
    assert!(told.lines().all(|run| !run.ends_with(' ')), "told to publish nothing:\n{told}");
    assert!(cluster.runs() <= runs + 4, "{told}");
}

#[test]
fn when_the_runner_dies_another_node_runs_the_handler() {
    let mut cluster = Cluster::new(3, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3");
    let runner = cluster.runner();
    let i = (0..3).find(|i| format!("n{}", i + 1) == runner).expect("the runner is one of the three");
    // Killed before everybody knows that its run is over, it would be waited for: its timeout and 10 s more.
    wait_for_quiet(&cluster.nodes);
    cluster.nodes[i].kill();
    let rest: Vec<String> = (0..3).filter(|&j| j != i).map(|j| format!("192.0.2.{}", j + 1)).collect();
    cluster.wait_for_records(&rest.join(" "));
    let last = cluster.outside.read("runs").lines().last().unwrap_or_default().to_owned();
    assert!(!last.starts_with(&runner), "{last}");
}

#[test]
fn a_node_that_leaves_is_withdrawn_and_not_called_failed() {
    let mut cluster = Cluster::new(3, "");
    cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3");
    assert_eq!(cluster.nodes[1].run(&["leave"]).status.code(), Some(0));
    assert_eq!(cluster.nodes[1].wait(SOON), Some(0));
    cluster.wait_for_records("192.0.2.1 192.0.2.3");
    assert_eq!(cluster.nodes[0].member_state("n2"), "left");
    assert!(!cluster.nodes[0].log().contains("event=node-failed"));
}

#[test]
fn a_quick_restart_is_noticed_by_nobody() {
    let mut cluster = Cluster::new(3, "");
    cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3");
    wait_for_quiet(&cluster.nodes);
    let (runs, runner) = (cluster.runs(), cluster.runner());
    // Not the runner: what it last told is in no state file yet.
    let i = (0..3).find(|i| format!("n{}", i + 1) != runner).expect("there is one runner at most");
    let (name, other) = (format!("n{}", i + 1), (i + 1) % 3);
    assert_eq!(cluster.nodes[i].run(&["stop"]).status.code(), Some(0));
    assert_eq!(cluster.nodes[i].wait(SOON), Some(0));
    cluster.nodes[i].start();
    wait_for("the app to be up again", SOON, || cluster.nodes[i].status()["apps"][0]["state"] == "up");
    wait_for("the others to agree", SOON, || cluster.nodes[other].member_state(&name) == "alive");
    let log = cluster.nodes[other].log();
    assert!(!log.contains(&format!("event=node-failed node={name}")), "{log}");
    assert_eq!(cluster.records(), "192.0.2.1 192.0.2.2 192.0.2.3");
    assert_eq!(cluster.runs(), runs, "{}", cluster.outside.read("runs"));
}

#[test]
fn a_forced_state_counts_until_it_ends() {
    let cluster = Cluster::new(2, "");
    cluster.wait_for_records("192.0.2.1 192.0.2.2");
    assert_eq!(cluster.nodes[0].run(&["app", "web", "down", "--for", "10s"]).status.code(), Some(0));
    cluster.wait_for_records("192.0.2.2");
    let forced = |value: &Value| value["apps"][0]["forced"] == true;
    assert!(forced(&cluster.nodes[0].status()));
    cluster.wait_for_records("192.0.2.1 192.0.2.2");
    assert!(!forced(&cluster.nodes[0].status()));
}

#[test]
fn a_node_with_another_key_stays_outside_and_is_counted() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let mut inside = Daemon::new("inside", json!({ "keys": [key] }));
    inside.start();
    let other = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    let join = [inside.addr.to_string()];
    let mut outside = Daemon::new("outside", json!({ "keys": [other], "join": join }));
    outside.start();
    wait_for("the wrong key to be counted", SOON, || {
        inside.status()["counters"]["bad"]["wrong-key"].as_u64().is_some_and(|n| n > 0)
    });
    assert_eq!(inside.member_state("outside"), "");
    assert_eq!(outside.member_state("inside"), "");
}
