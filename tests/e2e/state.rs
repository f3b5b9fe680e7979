//! What survives a crash, a bad disk and an upgrade: the state file and restart in place, for real.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Folder, free_addr, picored, skip, wait_for, wait_for_quiet};
use crate::web::Web;

const SOON: Duration = Duration::from_secs(20);

fn web_app(web: &Web) -> Value {
    json!({ "web": {
        "interval": "300ms", "timeout": "300ms", "rise": 2, "fall": 2, "grace": "0s", "hold_up": "0s",
        "checks": [{ "http": web.url() }],
    } })
}

fn state_path(node: &Daemon) -> PathBuf {
    node.folder.file("state/state.json")
}

fn read_state(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap_or_default()).unwrap_or_default()
}

/// All lines of the answer to one request.
fn ask(node: &Daemon, request: &Value) -> Vec<String> {
    let mut socket = UnixStream::connect(node.folder.file("picored.sock")).expect("the daemon listens");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    socket.write_all(format!("{request}\n").as_bytes()).expect("the daemon reads");
    BufReader::new(socket).lines().map_while(Result::ok).collect()
}

fn problems(node: &Daemon) -> String {
    node.status()["problems"].to_string()
}

/// The program `command` in a mount namespace of its own, in which `script` was run before. `None`, and said: that is
/// not possible here.
fn with_own_mounts(script: &str) -> Option<Command> {
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec"]);
    command.arg(format!("{script}; exec \"$0\" \"$@\""));
    let possible = Command::new("unshare")
        .args(["-m", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .output();
    if !possible.is_ok_and(|output| output.status.success()) {
        skip("nothing can be mounted here");
        return None;
    }
    command.arg(picored());
    Some(command)
}

/// A file as the daemon sees it.
fn seen_by(node: &Daemon, path: &Path) -> PathBuf {
    let mut seen = Path::new("/proc").join(node.pid().to_string()).join("root");
    seen.push(path.strip_prefix("/").expect("an absolute path"));
    seen
}

#[test]
fn what_a_person_said_is_on_the_disk_when_it_is_acknowledged() {
    let mut a = Daemon::new("a", json!({}));
    let mut b = Daemon::new("b", json!({ "join": [a.addr.to_string()] }));
    a.start();
    b.start();
    wait_for("b to join", SOON, || a.member_state("b") == "alive");
    b.kill();
    wait_for("b to fail", SOON, || a.member_state("b") == "failed");
    assert!(a.run(&["forget", "b"]).status.success());
    a.kill();
    let state = read_state(&state_path(&a));
    assert_eq!(state["membership"]["forgotten"][0]["name"], "b", "{state}");
    a.start();
    assert_eq!(a.member_state("b"), "");
    assert!(a.log().contains("event=state-restored"));
}

#[test]
fn members_are_known_again_after_a_crash() {
    let mut a = Daemon::new("a", json!({}));
    let mut b = Daemon::new("b", json!({ "join": [a.addr.to_string()], "tags": { "dc": "par" } }));
    a.start();
    b.start();
    wait_for("b in the state file", SOON, || {
        read_state(&state_path(&a))["membership"]["members"][0]["name"] == "b"
    });
    let before = a.status()["incarnation"].as_u64().expect("a number");
    a.kill();
    b.kill();
    a.start();
    assert_eq!((a.member_state("b"), a.tag("b", "dc")), ("alive".into(), "par".into()));
    assert!(a.status()["incarnation"].as_u64().expect("a number") > before);
    wait_for("b to fail", SOON, || a.member_state("b") == "failed");
    // b joins nobody by itself now: a remembers it, and finds it.
    b.start();
    wait_for("b to be back", SOON, || a.member_state("b") == "alive");
}

#[test]
fn a_forced_state_survives_a_crash() {
    let web = Web::start();
    let mut node = Daemon::new("a", json!({ "apps": web_app(&web) }));
    node.start();
    assert!(node.run(&["app", "web", "down"]).status.success());
    node.kill();
    node.start();
    assert_eq!(node.tag("a", "a.web"), "down!");
}

#[test]
fn a_full_disk_costs_nothing_that_was_acknowledged() {
    let web = Web::start();
    let mut node = Daemon::new("a", json!({ "apps": web_app(&web) }));
    let folder = node.folder.file("state");
    fs::create_dir(&folder).expect("own folder");
    let Some(command) = with_own_mounts(&format!("mount -t tmpfs -o size=64k tmpfs '{}'", folder.display()))
    else {
        return;
    };
    node.start_as(command);
    let state = seen_by(&node, &state_path(&node));
    wait_for("a first state", SOON, || read_state(&state)["node"] == "a");
    let filler = seen_by(&node, &folder.join("filler"));
    let mut file = fs::File::create(&filler).expect("a file");
    while file.write_all(&[b'x'; 4096]).is_ok() {}
    drop(file); // else its room stays in use
    let said = String::from_utf8_lossy(&node.run(&["app", "web", "down"]).stdout).into_owned();
    assert!(said.contains("in memory only") && said.contains("o space left"), "{said}");
    assert!(problems(&node).contains("not stored"), "{}", problems(&node));
    assert_eq!(read_state(&state)["node"], "a", "the old state is still there");
    assert_eq!(node.tag("a", "a.web"), "down!", "it holds all the same");
    fs::remove_file(&filler).expect("own file");
    let said = String::from_utf8_lossy(&node.run(&["app", "web", "auto"]).stdout).into_owned();
    assert!(!said.contains("memory"), "{said}");
    assert!(!problems(&node).contains("not stored"), "{}", problems(&node));
}

#[test]
fn a_read_only_disk_keeps_no_daemon_from_starting_and_no_second_one_in() {
    let mut node = Daemon::new("a", json!({}));
    let folder = node.folder.file("state");
    fs::create_dir(&folder).expect("own folder");
    let Some(command) = with_own_mounts(&format!("mount -t tmpfs -o ro tmpfs '{}'", folder.display())) else {
        return;
    };
    node.start_as(command);
    assert!(problems(&node).contains("not stored"), "{}", problems(&node));
    assert!(node.log().contains("event=lock "), "{}", node.log());
    // Another one with all its own but the state.
    let second = node.folder.file("second.json");
    let config = json!({
        "node": "a", "bind": free_addr().to_string(), "profile": "local",
        "control": node.folder.file("second.sock"), "state": state_path(&node),
    });
    fs::write(&second, config.to_string()).expect("own folder");
    let pid = node.pid().to_string();
    let output = Command::new("nsenter")
        .args(["-m", "-t", &pid, picored(), "-c"])
        .arg(&second)
        .arg("run")
        .output()
        .expect("nsenter comes with unshare");
    assert_eq!(output.status.code(), Some(75), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_state_of_no_use_costs_no_start() {
    let good = r#"{"v":1,"node":"a","membership":{"incarnation":41}}"#;
    let foreign = r#"{"v":1,"node":"z","membership":{"incarnation":90}}"#;
    let future = r#"{"v":7,"node":"a"}"#;
    // (the state, the previous one, the own incarnation that follows is at least, and is less than, in the log)
    let cases = [
        ("", good, 42, 90, "it is empty"),
        ("{\"v\":1,\"nod", good, 42, 90, "it is damaged"),
        (future, good, 42, 90, "the format 7"),
        (future, "", 1, 42, "starts without a state"),
        ("\0", "{", 1, 42, "starts without a state"),
        (foreign, good, 1, 42, "state-restored from=z"),
        (good, "", 42, 90, "state-restored from=a"),
    ];
    for (state, previous, from, below, logged) in cases {
        let mut node = Daemon::new("a", json!({}));
        fs::DirBuilder::new().mode(0o700).create(node.folder.file("state")).expect("own folder");
        fs::write(state_path(&node), state).expect("own folder");
        fs::write(node.folder.file("state/state.json.previous"), previous).expect("own folder");
        node.start();
        let incarnation = node.status()["incarnation"].as_u64().expect("a number");
        assert!((from..below).contains(&incarnation), "{state:?}: {incarnation}");
        assert!(node.log().contains(logged), "{state:?}: {}", node.log());
        let is_aside = node.folder.read("state/state.json.damaged") == state;
        assert_eq!(is_aside, state != good && state != foreign, "{state:?}");
        wait_for("a good state", SOON, || read_state(&state_path(&node))["node"] == "a");
        assert_eq!(fs::metadata(state_path(&node)).expect("a file").mode() & 0o777, 0o600);
    }
}

#[test]
fn with_64_descriptors_the_state_is_stored_and_persons_are_answered() {
    let web = Web::start();
    let mut node = Daemon::new("a", json!({ "apps": web_app(&web) }));
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\"", picored()]);
    node.start_as(command);
    let crowd: Vec<_> = (0..80).map(|_| std::net::TcpStream::connect(node.addr)).collect();
    let clients: Vec<_> = (0..80).map(|_| UnixStream::connect(node.folder.file("picored.sock"))).collect();
    wait_for("the crowd to be in", SOON, || node.descriptors() > 40);
    drop((crowd, clients));
    wait_for("the crowd to be gone", Duration::from_secs(40), || node.descriptors() < 40);
    let said = String::from_utf8_lossy(&node.run(&["app", "web", "down"]).stdout).into_owned();
    assert!(said.contains("forced down") && !said.contains("memory"), "{said}");
    assert!(read_state(&state_path(&node))["node"] == "a");
}

/// Two nodes with one web server each and a handler that notes its runs.
struct Pair {
    outside: Folder,
    nodes: [Daemon; 2],
    _webs: [Web; 2],
}

const HANDLER: &str = r#"#!/bin/sh
printf '%s %s\n' "$PICORED_SELF" "$PICORED_UP_ADDRS" >> "$1/runs"
[ -e "$1/slow" ] && sleep 3
printf '%s\n' "$PICORED_UP_ADDRS" > "$1/records"
printf '%s\n' "$PICORED_SELF" >> "$1/ends"
"#;

impl Pair {
    fn new() -> Self {
        let outside = Folder::new();
        let handler = outside.script("handler", HANDLER);
        let webs = [Web::start(), Web::start()];
        let addrs = [free_addr(), free_addr()];
        let node = |i: usize| {
            let extra = json!({
                "join": addrs.map(|addr| addr.to_string()), "publish": [format!("192.0.2.{}", i + 1)],
                "apps": web_app(&webs[i]),
                "handlers": { "dns": {
                    "run": [handler, outside.path], "apps": ["web"], "debounce": "300ms", "min_interval": "0s",
                } },
            });
            Daemon::at(["a", "b"][i], addrs[i], extra)
        };
        let nodes = [node(0), node(1)];
        Self { outside, nodes, _webs: webs }
    }

    fn wait_for_records(&self, expected: &str) {
        wait_for(&format!("the records {expected}"), SOON, || {
            self.outside.read("records").trim() == expected
        });
        // And the end of the run was heard by both.
        wait_for("all to be idle", SOON, || {
            self.nodes.iter().all(|node| node.status()["handlers"][0]["phase"] == "idle")
        });
    }

    fn runs(&self) -> usize {
        self.outside.read("runs").lines().count()
    }

    /// 0 or 1.
    fn runner(&self) -> usize {
        usize::from(self.nodes[0].status()["handlers"][0]["runner"] == "b")
    }
}

/// A program file of the test's own; an upgrade replaces it.
fn install(folder: &Folder) -> PathBuf {
    let (program, new) = (folder.file("picored"), folder.file("picored.new"));
    // By another process: what this one has open for writing, the children of other tests have open for a moment, too.
    let copied = Command::new("cp").arg(picored()).arg(&new).status();
    assert!(copied.is_ok_and(|status| status.success()), "the target folder can be written to");
    fs::rename(&new, &program).expect("own file");
    program
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).expect("a file").ino()
}

fn since(node: &Daemon, member: &str) -> u64 {
    let members = node.ask("members").expect("an answer");
    let found = members["members"].as_array().into_iter().flatten().find(|m| m["name"] == member);
    found.and_then(|m| m["since"].as_u64()).expect("a known member")
}

#[test]
fn an_upgrade_in_place_is_noticed_by_nobody() {
    upgrade(Role::Other);
}

#[test]
fn an_upgrade_of_the_runner_runs_nothing() {
    upgrade(Role::Runner);
}

enum Role {
    Runner,
    Other,
}

fn upgrade(role: Role) {
    let mut pair = Pair::new();
    let program = install(&pair.outside);
    for node in &mut pair.nodes {
        node.start_as(Command::new(&program));
    }
    pair.wait_for_records("192.0.2.1 192.0.2.2");
    wait_for_quiet(&pair.nodes);
    let upgraded = match role {
        Role::Runner => pair.runner(),
        Role::Other => 1 - pair.runner(),
    };
    let (a, b, name) = (&pair.nodes[upgraded], &pair.nodes[1 - upgraded], ["a", "b"][upgraded]);
    let (runs, seen, incarnation) = (pair.runs(), since(b, name), a.status()["incarnation"].clone());
    let quiet = b.log().len();
    install(&pair.outside);
    let exe = PathBuf::from(format!("/proc/{}/exe", a.pid()));
    assert_ne!(inode(&exe), inode(&program), "the old program runs, from a file that is gone");
    let replies = ask(a, &json!({ "cmd": "restart" }));
    assert!(replies.len() == 2 && replies[1].contains("restarts"), "{replies:?}");
    wait_for("the new program", SOON, || {
        a.ask("status").is_some_and(|status| status["incarnation"].as_u64() > incarnation.as_u64())
    });
    assert_eq!((inode(&exe), fs::read_link(&exe).expect("a link")), (inode(&program), program));
    wait_for("a to have settled", SOON, || {
        a.status()["handlers"][0]["phase"] == "idle" && problems(a) == "[]"
    });
    assert_eq!(since(b, name), seen);
    let said = b.log().split_off(quiet);
    assert!(!["node-suspect", "node-failed", "node-joined"].iter().any(|word| said.contains(word)), "{said}");
    assert_eq!(pair.runs(), runs, "{}", pair.outside.read("runs"));
    assert!(a.children().iter().all(|(_, state, _)| *state != 'Z'), "{:?}", a.children());
    assert_eq!(a.status()["address"], a.addr.to_string());
}

#[test]
fn a_restart_waits_for_the_run_that_is_under_way() {
    let mut pair = Pair::new();
    pair.nodes.iter_mut().for_each(Daemon::start);
    pair.wait_for_records("192.0.2.1 192.0.2.2");
    let runner = pair.runner();
    fs::write(pair.outside.file("slow"), "").expect("own folder");
    let ends = || pair.outside.read("ends").lines().count();
    let (before, runs) = (ends(), pair.runs());
    assert!(pair.nodes[1 - runner].run(&["app", "web", "down"]).status.success());
    wait_for("a run", SOON, || pair.runs() > runs);
    let replies = ask(&pair.nodes[runner], &json!({ "cmd": "restart" }));
    assert!(replies[0].contains("waits for the handler"), "{replies:?}");
    assert_eq!(ends(), before + 1, "it ended before the restart: {replies:?}");
    wait_for("the daemon to be back", SOON, || pair.nodes[runner].ask("status").is_some());
    assert_eq!(pair.nodes[runner].tag(["b", "a"][runner], "a.web"), "down!");
}

#[test]
fn a_program_that_cannot_be_started_is_not_the_end() {
    let mut node = Daemon::new("a", json!({}));
    let program = install(&node.folder);
    node.start_as(Command::new(&program));
    fs::remove_file(&program).expect("own file");
    fs::write(&program, "no program").expect("own folder");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).expect("own file");
    let incarnation = node.status()["incarnation"].as_u64();
    ask(&node, &json!({ "cmd": "restart" }));
    wait_for("the old program to be back", SOON, || {
        node.ask("status").is_some_and(|status| status["incarnation"].as_u64() > incarnation)
    });
    assert!(node.is_running() && node.log().contains("event=restart-failed"), "{}", node.log());
}

#[test]
fn a_restart_with_a_file_that_would_not_start_is_refused() {
    let mut node = Daemon::new("a", json!({}));
    node.start();
    let incarnation = node.status()["incarnation"].as_u64();
    let good = node.folder.read("picored.json");
    // With the socket named: what the broken file says of it is not asked.
    let socket = node.folder.file("picored.sock");
    let restart = |node: &Daemon| node.run(&["--socket", socket.to_str().expect("UTF-8"), "restart"]);
    fs::write(node.config_path(), good.replacen('{', "{ \"nod\": 1,", 1)).expect("own file");
    let refused = restart(&node);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(78), "{said}");
    assert!(
        said.contains("did you mean \"node\"?") && said.contains("the daemon goes on as it is"),
        "{said}"
    );
    assert!(node.is_running());
    assert_eq!(node.status()["incarnation"].as_u64(), incarnation);
    fs::write(node.config_path(), good).expect("own file");
    assert!(restart(&node).status.success());
    wait_for("the daemon to be back", SOON, || {
        node.ask("status").is_some_and(|status| status["incarnation"].as_u64() > incarnation)
    });
}

#[test]
fn who_leaves_waits_until_the_others_took_its_address_away() {
    for leaves_as_runner in [true, false] {
        let mut pair = Pair::new();
        pair.nodes.iter_mut().for_each(Daemon::start);
        pair.wait_for_records("192.0.2.1 192.0.2.2");
        fs::write(pair.outside.file("slow"), "").expect("own folder");
        let leaving = if leaves_as_runner { pair.runner() } else { 1 - pair.runner() };
        let ends = pair.outside.read("ends").lines().count();
        assert!(pair.nodes[leaving].run(&["leave"]).status.success());
        assert_eq!(pair.outside.read("records").trim(), ["192.0.2.2", "192.0.2.1"][leaving]);
        assert_eq!(pair.outside.read("ends").lines().count(), ends + 1, "{}", pair.outside.read("runs"));
        assert_eq!(pair.nodes[leaving].wait(SOON), Some(0));
    }
}
