//! systemd's `sd_notify` protocol, as a manager's socket hears it.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::daemon::{Daemon, picored, wait_for};
use crate::room::SOON;

const WATCHDOG: Duration = Duration::from_secs(2);

struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn at(addr: &SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(addr).expect("a name of one's own");
        socket.set_read_timeout(Some(SOON)).expect("a socket");
        Self { socket }
    }

    /// The next message.
    fn hears(&self) -> String {
        let mut text = [0; 4096];
        let len = self.socket.recv(&mut text).expect("a message, soon");
        String::from_utf8_lossy(&text[..len]).into_owned()
    }

    /// The next message that is no ping.
    fn hears_news(&self) -> String {
        loop {
            let text = self.hears();
            if text != "WATCHDOG=1" {
                return text;
            }
        }
    }

    /// How many messages come in that time.
    fn count(&self, time: Duration) -> usize {
        let began = Instant::now();
        let mut count = 0;
        while let Some(left) = time.checked_sub(began.elapsed()).filter(|left| !left.is_zero()) {
            self.socket.set_read_timeout(Some(left)).expect("a socket");
            if self.socket.recv(&mut [0; 64]).is_ok() {
                count += 1;
            }
        }
        self.socket.set_read_timeout(Some(SOON)).expect("a socket");
        count
    }
}

/// As systemd starts it: the variables name the process itself.
fn watched(socket: &str) -> Command {
    let mut command = Command::new("sh");
    let script = "WATCHDOG_PID=$$ exec \"$0\" \"$@\"";
    command.args(["-c", script, picored()]).env("NOTIFY_SOCKET", socket);
    command.env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    command
}

#[test]
fn the_manager_hears_of_readiness_reloads_restarts_and_the_end() {
    let mut daemon = Daemon::new("n1", json!({}));
    let path = daemon.folder.file("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).expect("a short path"));
    let mut command = Command::new(picored());
    command.env("NOTIFY_SOCKET", &path);
    daemon.start_as(command);
    let ready = format!("READY=1\nSTATUS=serving at {}", daemon.addr);
    assert_eq!(manager.hears(), ready);

    let reloading = |text: String| {
        let usecs =
            text.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("what comes before it is ready again");
        assert!(usecs.parse::<u64>().expect("microseconds") > 0);
    };
    assert!(daemon.run(&["reload"]).status.success());
    reloading(manager.hears());
    assert_eq!(manager.hears(), ready);

    let pid = daemon.pid();
    assert!(daemon.run(&["restart"]).status.success());
    reloading(manager.hears());
    assert_eq!(manager.hears(), ready, "the program that took its place");
    assert_eq!(daemon.folder.read("state/state.json.lock").trim(), pid.to_string());

    // Nothing is said without need: nobody watches it.
    assert_eq!(manager.count(Duration::from_secs(2)), 0);
    daemon.signal(Signal::TERM);
    assert_eq!(manager.hears(), "STOPPING=1\nSTATUS=stopping");
    assert_eq!(daemon.wait(SOON), Some(0));
    assert_eq!(manager.count(Duration::from_millis(100)), 0);
}

#[test]
fn who_waits_for_its_address_is_not_ready_and_says_why() {
    let mut daemon = Daemon::new("n1", json!({ "bind": "192.0.2.77:7946", "insecure": true }));
    let path = daemon.folder.file("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).expect("a short path"));
    let mut command = watched(path.to_str().expect("a plain path"));
    command.arg("-c").arg(daemon.config_path()).arg("run").stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("a shell");
    let said = manager.hears_news();
    assert!(said.starts_with("STATUS=waiting: ") && said.contains("192.0.2.77:7946"), "{said}");
    for _ in 0..3 {
        assert_eq!(manager.hears(), "WATCHDOG=1", "it does not hang");
    }
    drop(daemon.run(&["stop"]));
    assert_eq!(manager.hears_news(), "STOPPING=1\nSTATUS=stopping");
    assert!(child.wait().expect("our child").success());
    daemon.kill();
}

#[test]
fn the_watchdog_hears_twice_per_interval_of_a_loop_that_runs_and_nothing_of_one_that_hangs() {
    let name = format!("picored-supervision-{}", std::process::id());
    let manager = Manager::at(&SocketAddr::from_abstract_name(&name).expect("a short name"));
    let mut daemon = Daemon::new("n1", json!({}));
    let mut command = watched(&format!("@{name}"));
    // `Daemon` puts the arguments behind it.
    command.stdin(std::process::Stdio::null());
    daemon.start_as(command);
    assert!(manager.hears_news().starts_with("READY=1"));
    for _ in 0..2 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
        // Four intervals are eight pings; a busy machine may delay one over the edge.
        let count = manager.count(WATCHDOG * 4);
        assert!((7..=9).contains(&count), "{count} pings in {:?}", WATCHDOG * 4);
        // After a restart as before.
        assert!(daemon.run(&["restart"]).status.success());
        while !manager.hears_news().starts_with("READY=1") {}
    }
    daemon.signal(Signal::STOP);
    // What it had sent before.
    wait_for("it to be stopped", SOON, || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", daemon.pid())).unwrap_or_default();
        stat.contains(") T ")
    });
    while manager.count(Duration::from_millis(10)) > 0 {}
    assert_eq!(manager.count(WATCHDOG * 2), 0, "a process that is stopped says nothing");
    daemon.signal(Signal::CONT);
    assert_eq!(manager.hears(), "WATCHDOG=1");
}

#[test]
fn a_watchdog_that_is_meant_for_another_process_is_none_of_ours() {
    let mut daemon = Daemon::new("n1", json!({}));
    let path = daemon.folder.file("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).expect("a short path"));
    let mut command = Command::new(picored());
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").env("WATCHDOG_PID", "1");
    daemon.start_as(command);
    assert!(manager.hears().starts_with("READY=1"));
    assert_eq!(manager.count(Duration::from_secs(1)), 0);
}

#[test]
fn a_manager_that_does_not_read_or_is_not_there_is_no_matter() {
    let mut daemon = Daemon::new("n1", json!({}));
    let path = daemon.folder.file("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).expect("a short path"));
    let mut command = watched(path.to_str().expect("a plain path"));
    command.env("WATCHDOG_USEC", "20000");
    daemon.start_as(command);
    // A hundred a second; the kernel holds some ten of them (net.unix.max_dgram_qlen).
    thread::sleep(Duration::from_secs(1));
    assert!(daemon.ask("status").is_some());
    drop(manager);
    assert!(daemon.ask("status").is_some() && daemon.is_running());
    let mut other = Daemon::new("n2", json!({}));
    let mut command = Command::new(picored());
    command.env("NOTIFY_SOCKET", "vsock:2:1234").env("WATCHDOG_USEC", "never");
    other.start_as(command);
}

#[test]
fn handlers_and_checks_do_not_have_the_variables() {
    let mut daemon = Daemon::new("n1", json!({}));
    let path = daemon.folder.file("notify");
    let manager = Manager::at(&SocketAddr::from_pathname(&path).expect("a short path"));
    let env = daemon.folder.file("env");
    let check =
        daemon.folder.script("check", &format!("#!/bin/sh\nenv >{0}.new\nmv {0}.new {0}\n", env.display()));
    std::fs::set_permissions(&daemon.folder.path, std::fs::Permissions::from_mode(0o755))
        .expect("own folder");
    daemon.configure(&json!({
        "node": "n1", "bind": daemon.addr.to_string(), "profile": "local", "log": { "level": "info" },
        "control": daemon.folder.file("picored.sock"), "state": daemon.folder.file("state/state.json"),
        "apps": { "web": { "interval": "1s", "checks": [{ "exec": [check] }], "verify": "off" } },
    }));
    daemon.start_as(watched(path.to_str().expect("a plain path")));
    assert!(manager.hears_news().starts_with("READY=1"));
    wait_for("the check to run", SOON, || env.exists());
    let env = std::fs::read_to_string(env).expect("own file");
    assert!(env.contains("PATH=") && !env.contains("NOTIFY") && !env.contains("WATCHDOG"), "{env}");
}
