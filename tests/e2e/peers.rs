//! Members as a person deals with them: pinged, joined, forgotten, and cut off from UDP by a firewall.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};

use crate::daemon::{Daemon, free_addr, skip, wait_for};

const SOON: Duration = Duration::from_secs(30);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Exit code and all that was printed.
fn said(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

fn wait_for_state(node: &Daemon, member: &str, state: &str) {
    wait_for(&format!("{member} to be {state:?}"), SOON, || node.member_state(member) == state);
}

/// What `ping --json` says of each member, by its name.
fn pings(node: &Daemon, args: &[&str]) -> Vec<Value> {
    let output = node.run(&[&["ping", "--json"], args].concat());
    let mut lines: Vec<Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    lines.sort_by_key(|line| line["node"].to_string());
    lines
}

fn is_time(ms: &Value) -> bool {
    ms.as_f64().is_some_and(|ms| (0.0..3_000.0).contains(&ms))
}

#[test]
fn a_person_joins_pings_and_forgets_members() {
    let mut nodes = ["n1", "n2", "n3"].map(|name| Daemon::new(name, json!({})));
    nodes.iter_mut().for_each(Daemon::start);
    let [n1, n2, n3] = &mut nodes;
    let nobody = free_addr().to_string();
    let (code, out) = said(&n1.run(&["join", &nobody]));
    assert_eq!((code, out), (Some(1), format!("{nobody}: not joined: connection refused\n")));
    // By its name, too: a child looks it up.
    let (addr2, name3) = (n2.addr.to_string(), format!("localhost:{}", n3.addr.port()));
    let (code, out) = said(&n1.run(&["join", &nobody, &addr2, &name3]));
    assert_eq!(code, Some(0), "{out}");
    assert!(
        out.contains(&format!("{addr2}: joined\n")) && out.contains(&format!("{name3}: joined\n")),
        "{out}"
    );
    let file = n1.config_path();
    assert!(out.contains(&format!("add it to \"join\" in {}", file.display())), "{out}");
    for node in [&*n1, n2, n3] {
        ["n1", "n2", "n3"].iter().for_each(|name| wait_for_state(node, name, "alive"));
    }

    let (code, out) = said(&n1.run(&["ping"]));
    assert_eq!((code, out.lines().count(), out.matches(" ms").count()), (Some(0), 3, 6), "{out}");
    let told = pings(n1, &["n2"]);
    assert_eq!((told.len(), &told[0]["node"], &told[0]["via"]), (1, &json!("n2"), &json!("n3")));
    for way in ["udp_ms", "indirect_ms", "tcp_ms"] {
        assert!(is_time(&told[0][way]), "{told:?}");
    }
    let (code, out) = said(&n1.run(&["ping", "n4"]));
    assert!(code == Some(1) && out.contains("did you mean n"), "{out}");

    let (code, out) = said(&n1.run(&["forget", "n2"]));
    assert!(code == Some(1) && out.contains("n2 is alive"), "{out}");
    n2.kill();
    wait_for_state(n1, "n2", "failed");
    let (code, out) = said(&n1.run(&["ping"]));
    assert!(code == Some(1) && out.contains("nothing of n2 answers (connection refused)"), "{out}");
    let told = pings(n1, &[]);
    assert_eq!((&told[0]["udp_why"], &told[0]["state"]), (&json!("no answer"), &json!("failed")));
    assert!(is_time(&told[1]["udp_ms"]) && told[1]["problem"].is_null(), "{told:?}");
    wait_for_state(n3, "n2", "failed");
    assert_eq!(said(&n1.run(&["forget", "n2"])).0, Some(0));
    assert_eq!((n1.member_state("n2"), n3.member_state("n2")), (String::new(), "failed".into()));
    // n3 tells its table, in which n2 is.
    let (code, out) = said(&n1.run(&["join", &n3.addr.to_string()]));
    assert_eq!((code, n1.member_state("n2")), (Some(0), String::new()), "{out}");
    assert!(n1.log().contains("event=node-forgotten node=n2"));
    n2.start();
    assert_eq!(said(&n2.run(&["join", &n3.addr.to_string()])).0, Some(0));
    wait_for_state(n1, "n2", "alive");
}

#[test]
fn a_client_that_goes_away_while_it_pings_leaves_nothing_behind() {
    let mut node = Daemon::new("n1", json!({}));
    let mut gone = Daemon::new("n2", json!({ "join": [node.addr.to_string()] }));
    node.start();
    gone.start();
    wait_for_state(&node, "n2", "alive");
    gone.kill();
    wait_for_state(&node, "n2", "failed");
    for _ in 0..20 {
        // More than can ping at once; each is gone long before the 3 s of a ping that nobody answers.
        let client = asking(&node, "{\"cmd\":\"ping-members\"}\n");
        let mut line = String::new();
        BufReader::new(client).read_line(&mut line).expect("it answers");
        assert_eq!(line, "{\"ok\":true,\"count\":1}\n");
    }
    let told = pings(&node, &[]);
    assert_eq!((told.len(), &told[0]["node"]), (1, &json!("n2")), "{told:?}");
}

/// A client that asked.
fn asking(node: &Daemon, request: &str) -> UnixStream {
    let mut client = UnixStream::connect(node.folder.file("picored.sock")).expect("it listens");
    client.set_read_timeout(Some(SOON)).expect("a socket");
    client.write_all(request.as_bytes()).expect("it listens");
    client
}

/// One that closed its own direction at once.
fn half_closed(node: &Daemon, request: &str) -> BufReader<UnixStream> {
    let client = asking(node, request);
    client.shutdown(Shutdown::Write).expect("a socket");
    BufReader::new(client)
}

fn rest(mut client: BufReader<UnixStream>) -> Vec<String> {
    let mut all = String::new();
    client.read_to_string(&mut all).expect("it answers and closes");
    all.lines().map(str::to_owned).collect()
}

/// Goal: who says nothing more, as `echo … | socat` does, is told all that it asked for, and leaves nothing behind.
#[test]
fn a_client_that_closes_its_own_direction_is_answered_to_the_end() {
    let mut node = Daemon::new("n1", json!({}));
    let mut gone = Daemon::new("n2", json!({ "join": [node.addr.to_string()] }));
    node.start();
    gone.start();
    wait_for_state(&node, "n2", "alive");
    gone.kill();
    wait_for_state(&node, "n2", "failed");
    let told = rest(half_closed(&node, "{\"cmd\":\"ping-members\"}\n"));
    assert_eq!((told.len(), &*told[0]), (2, "{\"ok\":true,\"count\":1}"), "{told:?}");
    assert!(told[1].contains("n2"), "{told:?}");
    assert_eq!(rest(half_closed(&node, "{\"cmd\":\"ping\"}\n")), ["{\"ok\":true,\"message\":\"here\"}"]);
    assert!(rest(half_closed(&node, "{\"cmd\":\"st")).is_empty(), "nothing was asked");

    let mut followers: Vec<_> =
        (0..10).map(|_| half_closed(&node, "{\"cmd\":\"events\",\"n\":1,\"follow\":true}\n")).collect();
    assert_eq!(said(&node.run(&["forget", "n2"])).0, Some(0));
    for follower in &mut followers {
        assert!(follower.lines().map_while(Result::ok).any(|line| line.contains("node-forgotten")));
    }
    let (followed, count) = (node.descriptors(), followers.len());
    assert!(followed > count);
    drop(followers);
    wait_for("the followers' places to be free", SOON, || node.descriptors() + count <= followed);
    let told = rest(half_closed(&node, "{\"cmd\":\"stop\"}\n"));
    assert!(told.len() == 2 && told[1].contains("stopped"), "{told:?}");
    assert_eq!(node.wait(SOON), Some(0));
}

/// A network namespace with a loopback of its own, for the thread that made it. A process holds it.
struct Space(Child);

impl Space {
    /// `None`: it cannot be made here, because of rights or a missing program, which is said loudly.
    fn enter() -> Option<Self> {
        let mut holder = Command::new("unshare");
        holder.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let entered = holder.spawn().ok().map(Space).filter(Space::is_entered);
        let works =
            entered.filter(|_| run("ip", &["link", "set", "lo", "up"]) && run("nft", &["list", "ruleset"]));
        if works.is_none() {
            skip(
                "no network namespace with nftables: root, unshare, ip and nft; scripts/setup installs them",
            );
        }
        works
    }

    fn is_entered(&self) -> bool {
        let own = std::fs::read_link("/proc/thread-self/ns/net").expect("Linux");
        let path = format!("/proc/{}/ns/net", self.0.id());
        let is_made = || std::fs::read_link(&path).is_ok_and(|net| net != own);
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !is_made() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let entered = std::fs::File::open(&path).ok().filter(|_| is_made()).and_then(|file| {
            use std::os::fd::AsFd;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).ok()
        });
        entered.is_some()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn run(program: &str, args: &[&str]) -> bool {
    let output = Command::new(program).args(args).output();
    output.is_ok_and(|output| output.status.success())
}

/// What `members` says of a member.
fn member(node: &Daemon, name: &str) -> Value {
    let members = node.ask("members").unwrap_or_default();
    let found = members["members"].as_array().into_iter().flatten().find(|m| m["name"] == name);
    found.cloned().unwrap_or_default()
}

/// Goal: a firewall between two members is named once on both, with what to do, and nobody is called failed, though
/// the third member reaches both.
fn blocked_udp() {
    let Some(_space) = Space::enter() else { return };
    let addrs = [(); 3].map(|()| free_addr());
    let join = json!(addrs.map(|addr| addr.to_string()));
    let mut nodes =
        [0, 1, 2].map(|i| Daemon::at(&format!("n{}", i + 1), addrs[i], json!({ "join": join.clone() })));
    nodes.iter_mut().for_each(Daemon::start);
    let [n1, n2, n3] = &nodes;
    for node in [n1, n2, n3] {
        ["n1", "n2", "n3"].iter().for_each(|name| wait_for_state(node, name, "alive"));
    }
    let (p1, p2) = (addrs[0].port(), addrs[1].port());
    let rules = format!(
        "table ip cut {{ chain incoming {{ type filter hook input priority 0; \
         udp sport {p1} udp dport {p2} drop; udp sport {p2} udp dport {p1} drop; }}; }}"
    );
    assert!(run("nft", &[&rules]), "{rules}");
    let named = |node: &Daemon| node.log().matches("event=udp-blocked").count();
    for (node, other) in [(n1, "n2"), (n2, "n1")] {
        wait_for("UDP to be called blocked", SOON, || member(node, other)["udp_blocked"] == true);
        assert_eq!((named(node), &member(node, "n3")["udp_blocked"]), (1, &json!(false)));
    }
    let status = n1.run(&["status"]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stdout).contains(&format!("UDP port {p2} to or from n2 is blocked")));
    let table = text(&n1.run(&["members"]).stdout);
    assert!(
        table.contains("alive (no UDP)") && table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    let told = pings(n1, &["n2"]);
    assert!(told[0]["udp_ms"].is_null() && is_time(&told[0]["indirect_ms"]) && is_time(&told[0]["tcp_ms"]));
    assert_eq!(told[0]["via"], "n3");
    let (code, out) = said(&n1.run(&["ping"]));
    // Lines are broken where they must be.
    let flat = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        code == Some(1) && flat.contains(&format!("let UDP port {p2} there and {p1} here through")),
        "{out}"
    );

    assert!(run("nft", &["delete", "table", "ip", "cut"]));
    for (node, other) in [(n1, "n2"), (n2, "n1")] {
        wait_for("UDP to be free again", SOON, || member(node, other)["udp_blocked"] == false);
        wait_for("that to be said", SOON, || {
            node.log().contains(&format!("event=udp-restored node={other}"))
        });
        assert_eq!(named(node), 1, "once, in all of that time");
        assert!(!node.log().contains("event=node-failed") && !node.log().contains("event=node-suspect"));
    }
    assert_eq!(said(&n1.run(&["ping"])).0, Some(0));
}

#[test]
fn udp_blocked_by_a_firewall_is_named_once_and_so_is_its_end() {
    // Its own thread: that is what enters a namespace.
    if let Err(panic) = std::thread::spawn(blocked_udp).join() {
        std::panic::resume_unwind(panic);
    }
}
