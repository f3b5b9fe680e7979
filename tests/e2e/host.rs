//! What the machine around it does: ports that are taken, files that are moved away, clients that hang up.

use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, wait_for};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn why_it_does_not_start_is_said_where_it_was_started_too() {
    let taken = UdpSocket::bind("127.0.0.1:0").expect("a port on loopback");
    let addr = taken.local_addr().expect("a bound socket has an address");
    let daemon = Daemon::at("n1", addr, json!({}));
    let log = daemon.folder.file("its-log");
    daemon.configure(&json!({
        "node": "n1", "bind": addr.to_string(), "profile": "local", "log": { "file": log },
        "control": daemon.folder.file("picored.sock"), "state": daemon.folder.file("state/state.json"),
    }));
    for args in [&["run"][..], &["run", "--cron"]] {
        let ended = daemon.run(args);
        assert_eq!(ended.status.code(), Some(71), "{args:?}");
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(said.contains("another program") && said.lines().count() == 1, "{args:?}: {said}");
    }
    assert!(daemon.folder.read("its-log").contains("event=not-started"));
}

#[test]
fn after_hup_the_log_and_the_control_socket_are_there_again() {
    let mut daemon = Daemon::new("n1", json!({}));
    let log = daemon.folder.file("its-log");
    daemon.configure(&json!({
        "node": "n1", "bind": daemon.addr.to_string(), "profile": "local", "safety": { "settle": "1s" }, "log": { "file": log },
        "control": daemon.folder.file("picored.sock"), "state": daemon.folder.file("state/state.json"),
    }));
    daemon.start();
    let descriptors = daemon.descriptors();
    std::fs::rename(&log, daemon.folder.file("moved")).expect("own folder");
    std::fs::remove_file(daemon.folder.file("picored.sock")).expect("own folder");
    assert!(daemon.ask("status").is_none());
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("the socket to be there again", SOON, || daemon.ask("status").is_some());
    wait_for("the log to be there again", SOON, || daemon.folder.read("its-log").contains("event=reload"));
    assert!(daemon.folder.read("moved").contains("event=started"));
    wait_for("no descriptor too many", SOON, || daemon.descriptors() <= descriptors);
}

#[test]
fn a_client_that_has_said_all_it_has_to_say_gets_its_whole_answer() {
    let mut daemon = Daemon::new("n1", json!({}));
    daemon.start();
    let mut client = UnixStream::connect(daemon.folder.file("picored.sock")).expect("it listens");
    client.set_read_timeout(Some(SOON)).expect("a socket");
    client.write_all(b"{\"cmd\":\"status\"}\n{\"cmd\":\"ping\"}\n").expect("it listens");
    client.shutdown(Shutdown::Write).expect("a socket");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("it answers and closes");
    let first: Value = serde_json::from_str(answer.lines().next().unwrap_or_default()).expect("JSON");
    assert!(first.to_string().contains("n1"), "{answer}");
}

/// An address that is not there: 192.0.2.0/24 is for documentation.
#[test]
fn who_waits_for_its_address_says_so_and_listens() {
    let said = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let mut daemon = Daemon::new("n1", json!({ "bind": "192.0.2.77:7946", "insecure": true }));
    daemon.spawn();
    wait_for("it to say what it waits for", SOON, || {
        let status = daemon.run(&["status"]);
        status.status.code() == Some(3) && said(status).contains("192.0.2.77:7946")
    });
    let cron = daemon.run(&["run", "--cron"]);
    assert_eq!((cron.status.code(), cron.stderr.len()), (Some(0), 0), "it does not hang");

    // A broken file is no reason to end, a corrected one is read.
    let corrected = std::fs::read_to_string(daemon.config_path()).expect("the file");
    let corrected = corrected.replace("192.0.2.77:7946", &daemon.addr.to_string());
    std::fs::write(daemon.config_path(), corrected.replace("\"node\"", "\"nod\"")).expect("own folder");
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("it to say what is wrong", SOON, || daemon.log().contains("event=reload-failed"));
    let refused = daemon.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(1), "as by the signal");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("nod"), "{refused:?}");
    assert!(daemon.is_running());
    std::fs::write(daemon.config_path(), corrected).expect("own folder");
    daemon.signal(rustix::process::Signal::HUP);
    wait_for("it to start", SOON, || daemon.ask("status").is_some());
    let lock = daemon.folder.read("state/state.json.lock");
    assert_eq!(lock.trim(), daemon.pid().to_string(), "the process stays the same");
    assert!(daemon.is_running());
}

#[test]
fn who_waits_for_its_address_reads_the_file_anew_when_asked_to() {
    let mut daemon = Daemon::new("n1", json!({ "bind": "192.0.2.77:7946", "insecure": true }));
    daemon.spawn();
    wait_for("it to wait", SOON, || daemon.log().contains("event=waiting"));
    let whole = std::fs::read_to_string(daemon.config_path()).expect("the file");
    let restarted = daemon.run(&["restart"]);
    let said = String::from_utf8_lossy(&restarted.stderr).into_owned();
    assert!(restarted.status.code() == Some(1) && said.contains("192.0.2.77:7946"), "it still waits: {said}");
    std::fs::write(daemon.config_path(), whole.replace("192.0.2.77:7946", &daemon.addr.to_string()))
        .expect("own folder");
    let reloaded = daemon.run(&["reload"]);
    assert_eq!(reloaded.status.code(), Some(0), "{reloaded:?}");
    wait_for("it to start", SOON, || daemon.ask("status").is_some());
    assert!(daemon.is_running());
}

#[test]
fn who_waits_for_its_address_can_be_stopped() {
    for command in [true, false] {
        let mut daemon = Daemon::new("n1", json!({ "bind": "192.0.2.77:7946", "insecure": true }));
        daemon.spawn();
        wait_for("it to wait", SOON, || daemon.log().contains("event=waiting"));
        if command {
            assert_eq!(daemon.run(&["stop"]).status.code(), Some(0));
        } else {
            daemon.signal(rustix::process::Signal::TERM);
        }
        assert_eq!(daemon.wait(SOON), Some(0));
        assert!(!daemon.folder.file("picored.sock").exists());
    }
}
