//! Keys are changed while everybody runs: by `serf keys` and by `picored reload`, with real Serf agents.
//!
//! Without `serf` these tests fail in CI and say loudly elsewhere that they were skipped.

#[allow(dead_code)]
#[path = "e2e/daemon.rs"]
mod daemon;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::{fs, time::Duration};

use daemon::{Daemon, Folder, free_addr, skip, wait_for};
use serde_json::{Value, json};

/// Keys for tests only.
const OLD: &str = "cGljb3JlZCBhbmQgc2VyZiwgb25seSBmb3IgdGVzdHM=";
const NEW: &str = "YW5vdGhlciBvbmUsIGZvciB0ZXN0cyBhcyB3ZWxsLi4=";
const SOON: Duration = Duration::from_secs(30);
/// Longer than it takes to suspect somebody with the profile `lan`. (With `local` each node sends a query on twice
/// only, and one time in nine not all of four get it, Serf agents among themselves too.)
const A_WHILE: Duration = Duration::from_secs(5);

fn serf_is_missing() -> bool {
    let missing = Command::new("serf").arg("version").output().is_err();
    if missing {
        skip("serf is not installed; scripts/setup does it");
    }
    missing
}

fn write_keys(path: &Path, keys: &[&str]) {
    fs::write(path, json!(keys).to_string()).expect("own folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("own file");
}

fn keys_in(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap_or_default()).unwrap_or_default()
}

/// A Serf agent on loopback with a keyring file.
struct Agent {
    name: &'static str,
    addr: String,
    rpc: String,
    keys: PathBuf,
    child: Child,
}

impl Agent {
    fn start(folder: &Folder, name: &'static str, join: Option<&Agent>) -> Self {
        let (addr, rpc) = (free_addr().to_string(), free_addr().to_string());
        let keys = folder.file(&format!("{name}.keys"));
        write_keys(&keys, &[OLD]);
        let log = fs::File::create(folder.file(&format!("{name}.log"))).expect("own folder");
        let mut command = Command::new("serf");
        command.args(["agent", "-node", name, "-profile=lan", "-log-level=debug"]);
        command.args(["-bind", &addr, "-rpc-addr", &rpc, "-keyring-file"]).arg(&keys);
        command.args(join.map(|agent| format!("-retry-join={}", agent.addr)));
        // The second one has the picoreds' tag, too.
        command.args(join.map(|_| "-tag=role=web"));
        let child =
            command.stdout(log.try_clone().expect("a file")).stderr(log).spawn().expect("serf starts");
        let agent = Self { name, addr, rpc, keys, child };
        wait_for("the agent to answer", SOON, || agent.state(name) == "alive");
        agent
    }

    fn run(&self, args: &[&str]) -> Output {
        let (command, options) = args.split_first().expect("a command");
        let mut serf = Command::new("serf");
        // Options come before what is not one.
        serf.arg(command).args(["-rpc-addr", &self.rpc]).args(options).output().expect("serf starts")
    }

    fn state(&self, name: &str) -> String {
        let output = self.run(&["members", "-format=json"]);
        let members: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let found = members["members"].as_array().into_iter().flatten().find(|m| m["name"] == name);
        found.and_then(|m| m["status"].as_str()).unwrap_or_default().to_owned()
    }

    /// `serf keys` says that all nodes did it.
    fn keys(&self, what: &str, key: &str) -> String {
        let output = self.run(&["keys", &format!("-{what}={key}")]);
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "-{what}: {said}");
        said
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Two agents and two daemons that all know each other, encrypted with the old key.
struct Cluster {
    agents: Vec<Agent>,
    nodes: Vec<Daemon>,
    folder: Folder,
}

impl Cluster {
    fn start(agents: usize, nodes: usize) -> Self {
        let mut cluster = Self { agents: Vec::new(), nodes: Vec::new(), folder: Folder::new() };
        for name in ["s1", "s2"].into_iter().take(agents) {
            let agent = Agent::start(&cluster.folder, name, cluster.agents.first());
            cluster.agents.push(agent);
        }
        let mut join: Vec<String> = cluster.agents.iter().map(|agent| agent.addr.clone()).collect();
        for name in ["n1", "n2", "n3"].into_iter().take(nodes) {
            let keys = cluster.folder.file(&format!("{name}.keys"));
            write_keys(&keys, &[OLD]);
            let mut node =
                Daemon::new(name, json!({ "join": join, "keys_file": keys, "tags": { "role": "web" } }));
            join.push(node.addr.to_string());
            node.start();
            cluster.nodes.push(node);
        }
        cluster.wait_until_whole();
        cluster
    }

    fn names(&self) -> Vec<&'static str> {
        let nodes = ["n1", "n2", "n3"].into_iter().take(self.nodes.len());
        self.agents.iter().map(|agent| agent.name).chain(nodes).collect()
    }

    fn node_keys(&self, index: usize) -> PathBuf {
        self.folder.file(&format!("n{}.keys", index + 1))
    }

    /// What is not alive somewhere: (who says so, of whom, what).
    fn not_alive(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        let mut look = |of: &str, by: &str, state: String| {
            if state != "alive" {
                found.push((by.to_owned(), of.to_owned(), state));
            }
        };
        for name in self.names() {
            self.agents.iter().for_each(|agent| look(name, agent.name, agent.state(name)));
            let nodes = self.nodes.iter().enumerate();
            nodes.for_each(|(i, node)| look(name, &format!("n{}", i + 1), node.member_state(name)));
        }
        found
    }

    fn wait_until_whole(&self) {
        wait_for("all to be alive everywhere", SOON, || self.not_alive().is_empty());
    }

    /// Nobody is lost for as long as it would take to notice.
    fn stays_whole(&self, after: &str) {
        let started = std::time::Instant::now();
        while started.elapsed() < A_WHILE {
            let lost = self.not_alive();
            assert!(lost.is_empty(), "after {after}: {lost:?}");
            std::thread::sleep(Duration::from_millis(250));
        }
        for node in &self.nodes {
            let log = node.log();
            assert!(
                !log.contains("event=node-suspect") && !log.contains("event=node-failed"),
                "after {after}:\n{log}"
            );
        }
    }

    /// All files hold these.
    fn files_hold(&self, keys: &[&str], after: &str) {
        let files = self.agents.iter().map(|agent| agent.keys.clone());
        for file in files.chain((0..self.nodes.len()).map(|i| self.node_keys(i))) {
            assert_eq!(keys_in(&file), json!(keys), "{} after {after}", file.display());
        }
    }

    fn reload(&self, index: usize, keys: &[&str]) -> String {
        write_keys(&self.node_keys(index), keys);
        let output = self.nodes[index].run(&["reload"]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

#[test]
fn serf_keys_rotates_the_keys_of_agents_and_picoreds_and_nobody_is_lost() {
    if serf_is_missing() {
        return;
    }
    let cluster = Cluster::start(2, 2);
    fs::set_permissions(cluster.node_keys(0), fs::Permissions::from_mode(0o400)).expect("own file");
    let said = cluster.agents[0].run(&["reachability"]);
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(said.status.success() && text.contains("Successfully contacted all live nodes"), "{text}");
    cluster.agents[0].keys("install", NEW);
    cluster.files_hold(&[OLD, NEW], "-install");
    cluster.stays_whole("-install");
    cluster.agents[1].keys("use", NEW);
    cluster.files_hold(&[NEW, OLD], "-use");
    cluster.stays_whole("-use");
    let refused = cluster.agents[0].run(&["keys", &format!("-remove={NEW}")]);
    assert!(!refused.status.success(), "the primary key cannot be removed: {refused:?}");
    cluster.agents[0].keys("remove", OLD);
    cluster.files_hold(&[NEW], "-remove");
    cluster.stays_whole("-remove");
    let list = cluster.agents[1].run(&["keys", "-list"]);
    let text = String::from_utf8_lossy(&list.stdout);
    assert!(
        list.status.success()
            && text.split_whitespace().collect::<Vec<_>>().ends_with(&[NEW, "[4/4]"])
            && !text.contains(OLD),
        "{text}"
    );
    assert_eq!(fs::metadata(cluster.node_keys(0)).expect("it is there").mode() & 0o777, 0o400);
    for (i, node) in cluster.nodes.iter().enumerate() {
        let output = node.run(&["reload"]);
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "nothing changed\n",
            "n{} agrees with its file",
            i + 1
        );
        let log = node.log();
        assert!(!log.contains(NEW) && !log.contains(OLD), "a key is in the log");
        for event in ["event=keys-install", "event=keys-use", "event=keys-remove"] {
            assert_eq!(log.matches(event).count(), 1, "{event}\n{log}");
        }
    }
    // Queries for some: those named acknowledge them; a regular expression over tags is met in silence by picored.
    for (filter, acks) in [("-node=n1", json!(["n1"])), ("-tag=role=web", json!(["s2"]))] {
        let query = cluster.agents[0].run(&["query", "-format=json", "-timeout=2s", filter, "load"]);
        let said: Value = serde_json::from_slice(&query.stdout).unwrap_or_default();
        assert!(query.status.success() && said["Acks"] == acks, "{filter}: {query:?}");
    }
    cluster.stays_whole("queries");
}

#[test]
fn picored_reload_rotates_the_keys_node_after_node_while_agents_follow_by_serf_keys() {
    if serf_is_missing() {
        return;
    }
    let cluster = Cluster::start(1, 2);
    // The agents alone would hear of no key by a file, and picored of each by the query: both come to the same.
    for i in 0..2 {
        assert_eq!(cluster.reload(i, &[OLD, NEW]), "now in effect: keys\n");
        cluster.stays_whole("a second key");
    }
    cluster.agents[0].keys("install", NEW);
    cluster.files_hold(&[OLD, NEW], "-install");
    for i in 0..2 {
        assert_eq!(cluster.reload(i, &[NEW, OLD]), "now in effect: keys\n");
        cluster.stays_whole("another first key");
    }
    cluster.agents[0].keys("use", NEW);
    cluster.files_hold(&[NEW, OLD], "-use");
    cluster.stays_whole("-use");
    for i in 0..2 {
        assert_eq!(cluster.reload(i, &[NEW]), "now in effect: keys\n");
        cluster.stays_whole("no old key");
    }
    cluster.agents[0].keys("remove", OLD);
    cluster.files_hold(&[NEW], "-remove");
    let log = cluster.folder.read("s1.log");
    let complaints: Vec<&str> = log.lines().filter(|line| line.contains("[ERR]")).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// Goal: keys that stand in the configuration itself change in memory, which the asker and the log are told.
#[test]
fn keys_in_the_configuration_itself_change_until_the_next_start_and_everybody_is_told() {
    if serf_is_missing() {
        return;
    }
    let mut cluster = Cluster::start(1, 0);
    let join = [cluster.agents[0].addr.clone()];
    let mut node = Daemon::new("n1", json!({ "profile": "lan", "join": join, "keys": [OLD] }));
    node.start();
    cluster.nodes.push(node);
    cluster.wait_until_whole();
    cluster.agents[0].keys("install", NEW);
    cluster.agents[0].keys("use", NEW);
    let agents_log = cluster.folder.read("s1.log");
    assert!(agents_log.contains("in use, but not stored: put it into the configuration"), "{agents_log}");
    let log = cluster.nodes[0].log();
    assert_eq!(log.matches("ERROR event=keys-not-stored").count(), 2, "{log}");
    let status = cluster.nodes[0].run(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout);
    assert!(status.status.code() == Some(1) && said.contains("a restart would cut this node off"), "{said}");
    // To go back to the file's, for whatever reason it is read again, would cut the node off.
    let output = cluster.nodes[0].run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("the keys stay as `serf keys` made them"), "{said}");
    cluster.agents[0].keys("remove", OLD);
    cluster.stays_whole("all");
}

#[test]
fn picoreds_rotate_their_keys_by_reload_alone_and_by_signal() {
    let cluster = Cluster::start(0, 3);
    for (step, keys) in [&[OLD, NEW][..], &[NEW, OLD], &[NEW]].into_iter().enumerate() {
        for i in 0..3 {
            if step == 1 && i == 2 {
                write_keys(&cluster.node_keys(i), keys);
                cluster.nodes[i].signal(rustix::process::Signal::HUP);
                let taken_over = || cluster.nodes[i].log().matches("event=keys-reload").count() == 2;
                wait_for("HUP to be obeyed", SOON, taken_over);
            } else {
                assert_eq!(cluster.reload(i, keys), "now in effect: keys\n");
            }
        }
        cluster.stays_whole(&format!("step {step}"));
    }
    // The old key is gone: nobody hears who has nothing else.
    let folder = Folder::new();
    let keys = folder.file("keys");
    write_keys(&keys, &[OLD]);
    let mut late =
        Daemon::new("late", json!({ "join": [cluster.nodes[0].addr.to_string()], "keys_file": keys }));
    late.start();
    wait_for("the old key to be refused", SOON, || cluster.nodes[0].log().contains("wrong-key"));
    assert_eq!(cluster.nodes[0].member_state("late"), "");
}

#[test]
fn a_reload_that_finds_something_wrong_says_what_and_changes_nothing() {
    let folder = Folder::new();
    let keys = folder.file("keys");
    write_keys(&keys, &[OLD]);
    let mut node = Daemon::new("n1", json!({ "keys_file": keys }));
    node.start();
    write_keys(&keys, &[NEW, "no key"]);
    let output = node.run(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let checked = String::from_utf8_lossy(&node.run(&["check-config"]).stdout).into_owned();
    let problem = checked.lines().nth(1).expect("a problem under the heading");
    assert_eq!(said.lines().nth(1), Some(problem), "{said}{checked}");
    assert!(said.starts_with("picored: /") && said.contains("1 problem, all stays as it is\n"), "{said}");
    assert!(!said.contains(NEW) && !node.log().contains(NEW));
    assert_eq!(node.log().matches("event=reload result=refused").count(), 1);
    write_keys(&keys, &[OLD]);
    let mut config: Value = serde_json::from_str(&node.folder.read("picored.json")).expect("ours");
    config["tags"] = json!({ "site": "north" });
    // A log that cannot be opened: nothing at all is taken over.
    config["log"] = json!({ "level": "debug", "file": node.folder.file("none/new-log") });
    node.configure(&config);
    let said = String::from_utf8_lossy(&node.run(&["reload"]).stderr).into_owned();
    assert!(said.contains("none/new-log cannot be opened") && said.contains("all stays as it is"), "{said}");
    assert_eq!((node.tag("n1", "site"), node.log().matches("result=refused").count()), (String::new(), 2));
    config["log"]["file"] = json!(node.folder.file("new-log"));
    config["apps"] = json!({ "web": { "checks": [{ "tcp": "127.0.0.1:9" }] } });
    config["cluster"] = json!("other");
    node.configure(&config);
    let expected = "now in effect: log, tags, apps.web\ntakes effect at a restart: cluster\n";
    assert_eq!(String::from_utf8_lossy(&node.run(&["reload"]).stdout), expected);
    assert_eq!(node.tag("n1", "site"), "north");
    assert!(node.folder.read("new-log").contains("event=reload result=done"));
    let expected = "takes effect at a restart: cluster\n";
    fs::rename(node.folder.file("new-log"), node.folder.file("new-log.0")).expect("own file");
    assert_eq!(String::from_utf8_lossy(&node.run(&["reload"]).stdout), expected);
    assert!(
        node.folder.read("new-log").contains("event=reload result=done"),
        "it is opened anew all the same"
    );
    fs::remove_file(node.config_path()).expect("own file");
    // Where the socket is does not depend on the file.
    let socket = node.folder.file("picored.sock");
    let output = node.run(&["--socket", socket.to_str().expect("UTF-8"), "reload"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("there is no such file"), "{output:?}");
}

/// Goal: a log that could not be opened at the start is tried again, and told as in effect once.
#[test]
fn a_log_that_could_not_be_opened_is_taken_up_by_a_reload() {
    let folder = Folder::new();
    let file = folder.file("later/log");
    let mut node = Daemon::new("n1", json!({ "log": { "level": "info", "file": file } }));
    node.start();
    assert!(node.log().contains("logging to standard error"), "{}", node.log());
    let refused = node.run(&["reload"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("cannot be opened"), "{refused:?}");
    fs::create_dir(folder.file("later")).expect("own folder");
    for said in ["now in effect: log\n", "nothing changed\n"] {
        assert_eq!(String::from_utf8_lossy(&node.run(&["reload"]).stdout), said);
    }
    assert_eq!(folder.read("later/log").matches("event=reload result=done").count(), 2);
}

/// Goal: keys that a person has put into the file, and not reloaded yet, are not lost to `serf keys`.
#[test]
fn a_key_file_that_was_changed_meanwhile_is_not_overwritten() {
    if serf_is_missing() {
        return;
    }
    let cluster = Cluster::start(1, 1);
    let staged = [OLD, "AgICAgICAgICAgICAgICAg=="];
    write_keys(&cluster.node_keys(0), &staged);
    let refused = cluster.agents[0].run(&["keys", &format!("-install={NEW}")]);
    let said = String::from_utf8_lossy(&refused.stdout);
    assert!(!refused.status.success() && said.contains("changed and not reloaded"), "{refused:?}");
    assert_eq!(keys_in(&cluster.node_keys(0)), json!(staged));
    assert_eq!(cluster.nodes[0].run(&["status"]).status.code(), Some(1));
    // A person puts both together.
    assert_eq!(cluster.reload(0, &[OLD, NEW, staged[1]]), "now in effect: keys\n");
    assert_eq!(cluster.nodes[0].run(&["status"]).status.code(), Some(0));
    cluster.agents[0].keys("use", NEW);
    assert_eq!(keys_in(&cluster.node_keys(0)), json!([NEW, OLD, staged[1]]));
}
