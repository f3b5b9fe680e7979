//! A handler in mode `serf` against the real thing: in one cluster a Serf agent with `-event-handler` and a picored
//! run the same script; what it got from both is compared byte for byte.
//!
//! Without `serf` this fails in CI and says loudly elsewhere that it was skipped.

#[allow(dead_code)]
#[path = "e2e/daemon.rs"]
mod daemon;

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::{fs, time::Duration};

use daemon::{Daemon, Folder, free_addr, skip, wait_for};
use serde_json::json;

/// Serf looks every 15 s whom to forget.
const SOON: Duration = Duration::from_secs(60);

/// What a script got of one member: the event and all other variables of Serf's, then the member's line on stdin.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    event: String,
    env: Vec<String>,
    line: String,
}

/// A script that writes down what it gets, and where.
struct Capture {
    folder: Folder,
    /// This node's own name is written as `SELF`.
    node: &'static str,
    /// Serf repeats an update with whatever it tells next of anybody, which picored does not; such repeats are left out.
    repeats: bool,
}

impl Capture {
    fn new(node: &'static str, repeats: bool) -> Self {
        let folder = Folder::new();
        folder.script("capture", "{ env | grep ^SERF_; echo --; cat; echo ==; } >> \"$1\"\n");
        Self { folder, node, repeats }
    }

    /// The same line for both.
    fn command(&self) -> String {
        let file = |name| self.folder.file(name).display().to_string();
        format!("/bin/sh {} {}", file("capture"), file("out"))
    }

    /// All that was told, call by call.
    fn calls(&self) -> Vec<Vec<Told>> {
        let text = self.folder.read("out");
        // What follows the last mark is still being written.
        let complete = text.rfind("==\n").map_or("", |end| &text[..end]);
        let calls = complete.split("==\n").filter_map(|call| call.split_once("--\n"));
        calls.map(|(env, stdin)| self.lines(env, stdin)).collect()
    }

    /// The calls that told of one of `nodes`: what, and of whom.
    fn groups(&self, nodes: &[&str]) -> Vec<(String, BTreeSet<String>)> {
        let group = |call: Vec<Told>| {
            let name = |told: &Told| told.line.split('\t').next().unwrap_or_default().to_owned();
            let names: BTreeSet<String> = call.iter().map(name).collect();
            let event = call.first().map(|told| told.event.clone()).unwrap_or_default();
            nodes.iter().any(|node| names.contains(*node)).then_some((event, names))
        };
        self.calls().into_iter().filter_map(group).collect()
    }

    /// All that was told of `node`.
    fn of(&self, node: &str) -> Vec<Told> {
        let mut told: Vec<Told> = self.calls().into_iter().flatten().collect();
        told.retain(|told| told.line.split('\t').next() == Some(node));
        told.dedup_by(|a, b| self.repeats && a == b && a.event == "member-update");
        told
    }

    fn lines(&self, env: &str, stdin: &str) -> Vec<Told> {
        let mut env: Vec<String> = env.lines().map(str::to_owned).collect();
        env.sort_unstable();
        let event = env.iter().find_map(|line| line.strip_prefix("SERF_EVENT=")).expect("always there");
        let event = event.to_owned();
        let own = format!("SERF_SELF_NAME={}", self.node);
        assert!(env.contains(&own), "{env:?}");
        env.retain(|line| *line != own);
        let line = |line: &str| {
            let line = match line.strip_prefix(&format!("{}\t", self.node)) {
                Some(rest) => format!("SELF\t{rest}"),
                None => line.to_owned(),
            };
            Told { event: event.clone(), env: env.clone(), line }
        };
        assert!(stdin.ends_with('\n'), "{stdin:?}");
        stdin.split_terminator('\n').map(line).collect()
    }

    fn events(&self, node: &str) -> Vec<String> {
        self.of(node).into_iter().map(|told| told.event).collect()
    }
}

/// Serf shows several tags in an order by chance, picored by name.
fn by_name(mut told: Vec<Told>) -> Vec<Told> {
    for told in &mut told {
        let (start, tags) = told.line.rsplit_once('\t').expect("four fields");
        let mut tags: Vec<&str> = tags.split(',').collect();
        tags.sort_unstable();
        told.line = format!("{start}\t{}", tags.join(","));
    }
    told
}

/// A Serf agent on loopback.
struct Agent {
    rpc: String,
    addr: String,
    child: Child,
}

impl Agent {
    fn start(name: &str, addr: &str, args: &[&str]) -> Self {
        let rpc = free_addr().to_string();
        let child = Command::new("serf")
            .args(["agent", "-node", name, "-profile=local", "-bind", addr, "-rpc-addr", &rpc])
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("serf starts");
        let agent = Self { rpc, addr: addr.into(), child };
        wait_for("the agent to answer", SOON, || agent.ask(&["members"]));
        agent
    }

    fn ask(&self, args: &[&str]) -> bool {
        let (command, rest) = args.split_first().expect("a command");
        let output = Command::new("serf").args([command, "-rpc-addr", &self.rpc]).args(rest).output();
        output.expect("serf starts").status.success()
    }

    /// How many members it knows alive.
    fn members(&self) -> usize {
        let output = Command::new("serf").args(["members", "-rpc-addr", &self.rpc, "-status=alive"]).output();
        String::from_utf8_lossy(&output.expect("serf starts").stdout).lines().count()
    }

    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Goal: a script for `serf agent -event-handler` gets the same from picored, of Serf agents and of picored.
/// Method: both watch a Serf agent and a picored join, change a tag, fail, return, leave and be forgotten, and one more
/// agent fail and be forgotten; then what they told of each is the same.
#[test]
fn a_script_for_serf_s_event_handler_gets_the_same_from_picored() {
    if Command::new("serf").arg("version").output().is_err() {
        return skip("serf is not installed; scripts/setup does it");
    }
    // Both watchers have the same tags: picored's own and the operator's.
    let (by_serf, by_picored) = (Capture::new("watch1", true), Capture::new("watch2", false));
    let own_tags = [
        "-tag=cluster=default",
        concat!("-tag=v=", env!("CARGO_PKG_VERSION")),
        "-tag=role=db",
        "-tag=rack-no.7=a b",
    ];
    let settings = by_serf.folder.file("serf.json");
    let times = json!({ "reconnect_timeout": "20s", "reconnect_interval": "2s", "tombstone_timeout": "1s" });
    fs::write(&settings, times.to_string()).expect("own folder");
    let command = by_serf.command();
    let mut args = vec!["-config-file", settings.to_str().expect("plain"), "-event-handler", &command];
    args.extend(own_tags);
    let watch1 = Agent::start("watch1", &free_addr().to_string(), &args);
    let run = json!(["/bin/sh", "-c", by_picored.command()]);
    let mut watch2 = Daemon::new(
        "watch2",
        json!({
            "join": [watch1.addr],
            "tags": { "role": "db", "rack-no.7": "a b" },
            "forget_after": "20s",
            "handlers": { "script": { "run": run, "mode": "serf" } },
        }),
    );
    watch2.start();
    let told = |node: &str, events: &[&str]| {
        let what = format!("both to be told of {node}: {events:?}");
        wait_for(&what, SOON, || {
            by_serf.events(node).len() >= events.len() && by_picored.events(node).len() >= events.len()
        });
        assert_eq!(by_picored.events(node), events, "{node} in picored's words");
        assert_eq!(by_serf.events(node), events, "{node} in Serf's words");
    };
    told("SELF", &["member-join"]);
    assert_eq!(by_name(by_picored.of("SELF")), by_name(by_serf.of("SELF")));

    // Two that come with one exchange of states, which each watcher has with them: one call tells of both.
    let pair = ["pair1", "pair2"].map(|name| Agent::start(name, &free_addr().to_string(), &[]));
    assert!(pair[0].ask(&["join", &pair[1].addr]));
    wait_for("the two to know each other", SOON, || pair.iter().all(|agent| agent.members() == 2));
    assert!(pair[0].ask(&["join", &watch1.addr, &watch2.addr.to_string()]));
    told("pair1", &["member-join"]);
    told("pair2", &["member-join"]);
    let both = BTreeSet::from(["pair1".to_owned(), "pair2".to_owned()]);
    let together = [("member-join".to_owned(), both)];
    assert_eq!(by_serf.groups(&["pair1", "pair2"]), together, "in Serf's words");
    assert_eq!(by_picored.groups(&["pair1", "pair2"]), together, "in picored's words");
    for agent in &pair {
        assert!(agent.ask(&["leave"]));
    }
    drop(pair);

    // A Serf agent, with one tag at a time, so that nothing is by chance.
    let join = ["-join", watch1.addr.as_str()];
    let first = ["-tag=role=we\tb\\,=x", join[0], join[1]];
    let mut agent = Agent::start("agent", &free_addr().to_string(), &first);
    told("agent", &["member-join"]);
    assert!(agent.ask(&["tags", "-delete", "role", "-set", "k=ä\n1"]));
    told("agent", &["member-join", "member-update"]);
    agent.kill();
    told("agent", &["member-join", "member-update", "member-failed"]);
    agent = Agent::start("agent", &agent.addr, &first);
    told("agent", &["member-join", "member-update", "member-failed", "member-join"]);
    assert!(agent.ask(&["leave"]));
    told("agent", &["member-join", "member-update", "member-failed", "member-join", "member-leave"]);

    // One that is forgotten without having left.
    let mut lost = Agent::start("lost", &free_addr().to_string(), &join);
    told("lost", &["member-join"]);
    lost.kill();
    told("lost", &["member-join", "member-failed"]);

    // A picored. It takes up changed tags with a restart, which the others do not notice otherwise.
    let config = |tags| json!({ "join": [watch1.addr], "tags": tags });
    let mut node = Daemon::new("node", config(json!({ "role": "old" })));
    let mut changed: serde_json::Value =
        serde_json::from_str(&node.folder.read("picored.json")).expect("it was written just now");
    changed["tags"] = json!({ "k": "new" });
    node.start();
    told("node", &["member-join"]);
    node.configure(&changed);
    node.kill();
    node.start();
    told("node", &["member-join", "member-update"]);
    node.kill();
    told("node", &["member-join", "member-update", "member-failed"]);
    node.start();
    told("node", &["member-join", "member-update", "member-failed", "member-join"]);
    assert!(node.run(&["leave"]).status.success());
    told("node", &["member-join", "member-update", "member-failed", "member-join", "member-leave"]);

    let all = ["member-join", "member-update", "member-failed", "member-join", "member-leave", "member-reap"];
    told("agent", &all);
    told("node", &all);
    told("lost", &["member-join", "member-failed", "member-reap"]);
    assert_eq!(by_picored.of("agent"), by_serf.of("agent"));
    assert_eq!(by_picored.of("lost"), by_serf.of("lost"));
    assert_eq!(by_name(by_picored.of("node")), by_name(by_serf.of("node")));
    let lines: Vec<String> = by_picored.of("agent").into_iter().map(|told| told.line).collect();
    assert_eq!(lines[0], "agent\t127.0.0.1\twe\\tb\\,=x\trole=we\\tb\\,=x", "it is Serf's, and this");
    assert_eq!(lines[1], "agent\t127.0.0.1\t\tk=ä\\n1");
    assert_eq!(
        by_picored.of("agent")[1].env,
        [
            "SERF_EVENT=member-update",
            "SERF_SELF_ROLE=db",
            "SERF_TAG_CLUSTER=default",
            "SERF_TAG_RACK_NO_7=a b",
            "SERF_TAG_ROLE=db",
            concat!("SERF_TAG_V=", env!("CARGO_PKG_VERSION")),
        ]
    );

    // The own goodbye, too. A Serf agent manages to tell its own only if it has time left.
    assert!(watch2.run(&["leave"]).status.success());
    watch2.wait(SOON);
    assert_eq!(by_picored.events("SELF"), ["member-join", "member-leave"]);
}
