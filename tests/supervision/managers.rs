//! runit, s6 and OpenRC with the files that are shipped for them, and what systemd says to its unit.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::daemon::{Folder, picored, wait_for};
use crate::room::{Room, SOON, can_test, config, shipped};

/// Started, killed, back, stopped by `stop` within its words, and gone for good.
fn supervises(room: &Room, stop: &str, start: &str) {
    let (first, _) = room.wait_for_daemon(None, SOON);
    room.must(&format!("kill -KILL {first}"));
    let (second, took) = room.wait_for_daemon(Some(first), SOON);
    println!("started again after {took:?}");
    assert_eq!(room.daemons(), [second]);
    room.must(stop);
    assert!(room.daemons().is_empty() && room.status().is_none());
    let log = room.read("var/log/picored.log");
    assert!(
        log.lines().last().is_some_and(|line| line.contains("event=stopped") || line.contains("stopped")),
        "{log}"
    );
    room.must(start);
    room.wait_for_daemon(Some(second), SOON);
}

#[test]
fn under_runit() {
    if !can_test(&["runsvdir", "sv", "svlogd"]) {
        return;
    }
    let room = Room::new(
        &[
            ("etc/picored.json", &config(json!({}))),
            ("etc/sv/picored/run", &shipped("etc/runit/run")),
            ("etc/sv/picored/log/run", &shipped("etc/runit/log/run")),
        ],
        "ip link set lo up; mkdir /etc/service; ln -s /etc/sv/picored /etc/service/; runsvdir /etc/service &",
    );
    supervises(&room, "sv -w 90 stop /etc/service/picored", "sv start /etc/service/picored");
    // Without a file of its own, the log is svlogd's.
    room.write("etc/picored.json", &config(json!({ "log": { "level": "info" } })));
    let old = room.holder();
    room.must("sv restart /etc/service/picored");
    room.wait_for_daemon(old, SOON);
    wait_for("svlogd to write", SOON, || room.read("var/log/picored/current").contains("event=started"));
}

#[test]
fn under_s6() {
    if !can_test(&["s6-svscan", "s6-svc", "s6-log"]) {
        return;
    }
    let room = Room::new(
        &[
            ("etc/picored.json", &config(json!({}))),
            ("run/service/picored/run", &shipped("etc/s6/run")),
            ("run/service/picored/log/run", &shipped("etc/s6/log/run")),
        ],
        "ip link set lo up; s6-svscan /run/service &",
    );
    supervises(&room, "s6-svc -wD -T 90000 -d /run/service/picored", "s6-svc -u /run/service/picored");
    room.write("etc/picored.json", &config(json!({ "log": { "level": "info" } })));
    let old = room.holder();
    room.must("s6-svc -r /run/service/picored");
    room.wait_for_daemon(old, SOON);
    wait_for("s6-log to write", SOON, || room.read("var/log/picored/current").contains("event=started"));
}

#[test]
fn under_openrc() {
    if !can_test(&["openrc-run", "supervise-daemon", "rc-service"]) {
        return;
    }
    let room = Room::new(
        &[
            ("etc/picored.json", &config(json!({}))),
            ("etc/init.d/picored", &shipped("etc/openrc/picored")),
            // It is not the first process here, and does not look after mounts.
            ("etc/rc.conf", "rc_provide=\"net\"\n"),
        ],
        // The folders that `openrc sysinit` makes.
        "ip link set lo up; mkdir -p /etc/runlevels/default; for folder in starting started stopping inactive wasinactive \
         failed hotplugged daemons options exclusive scheduled tmp; do mkdir -p /run/openrc/$folder; done; \
         echo default >/run/openrc/softlevel; rc-service picored start",
    );
    supervises(&room, "rc-service picored stop", "rc-service picored start");
    room.must("rc-service picored reload");
    assert!(room.read("var/log/picored.log").contains("event=reload"));
    room.must("rc-service picored status");
}

/// systemd itself, with the unit as it is shipped.
#[test]
fn under_systemd() {
    if !can_test(&["systemctl", "systemd-analyze"]) {
        return;
    }
    let handler = json!({ "who": { "run": ["/usr/bin/id", "-un"], "mode": "event", "user": "nobody" } });
    let config = config(json!({ "handlers": handler, "apps": { "web": { "checks": [] } } }));
    let unit = shipped("etc/systemd/picored.service");
    let files = [("etc/picored.json", config.as_str()), ("etc/systemd/system/picored.service", &unit)];
    let room = Room::with_systemd(&files, "picored.service");
    let (first, _) = room.wait_for_daemon(None, SOON);
    let status = || room.must("systemctl --no-pager status picored");
    wait_for("it to be ready", SOON, || room.run("systemctl is-active picored").status.success());
    assert!(status().contains("Status: \"serving at 127.0.0.1:7946\""), "{}", status());
    // What the unit allows suffices to run handlers as somebody else.
    let said = room.must("picored test-handler who");
    assert!(said.contains("nobody"), "{said}");
    room.must("systemctl reload picored");
    room.must("picored restart");
    wait_for("it to be there again", SOON, || room.status().is_some());
    assert_eq!(room.daemons(), [first], "the same process");

    room.must(&format!("kill -STOP {first}"));
    let (second, took) = room.wait_for_daemon(Some(first), SOON * 3);
    println!("replaced after {took:?}");
    assert!(room.must("systemctl show --property=NRestarts picored").contains("NRestarts=1"));
    supervises(&room, "systemctl stop picored", "systemctl start picored");
    assert_ne!(room.holder(), Some(second));
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    if !can_test(&["systemd-analyze"]) {
        return;
    }
    // With the program that was built: the one that it names need not be installed here.
    let folder = Folder::new();
    let unit = folder.file("picored.service");
    let text = shipped("etc/systemd/picored.service").replace("/usr/local/bin/picored", picored());
    // Its man page is looked for as well.
    let text = text.replace("Documentation=man:picored(8)\n", "");
    fs::write(&unit, text).expect("own folder");
    let analyze = |args: &[&str]| {
        let output = Command::new("systemd-analyze").args(args).arg(&unit).output().expect("it was found");
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    assert_eq!(analyze(&["verify"]), (true, String::new()));
    // 0: may do nothing, 10: all.
    let (ok, said) = analyze(&["security", "--offline=yes", "--threshold=30", "--no-pager"]);
    assert!(ok, "{said}");
    println!("{}", said.lines().last().unwrap_or_default());
}
