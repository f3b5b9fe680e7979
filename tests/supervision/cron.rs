//! picored under real cron daemons, Debian's and busybox', with the cron line that is shipped.

use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::daemon::wait_for;
use crate::room::{BUSYBOX_STATIC, Room, SOON, can_test, config, shipped};

/// Until cron's next look, and what it starts then, on a busy machine.
const MINUTE: Duration = Duration::from_secs(60 + 20);
/// As long as `run --cron` asks one that hangs.
const ASKED: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
enum Cron {
    Debian,
    Busybox,
}

impl Cron {
    const fn program(self) -> &'static str {
        match self {
            Self::Debian => "cron",
            Self::Busybox => BUSYBOX_STATIC,
        }
    }

    /// A room in which it runs, with `lines` as they stand in `/etc/cron.d/picored`.
    fn room(self, lines: &str, files: &[(&str, &str)], before: &str) -> Room {
        let lines = format!("MAILTO=root\n{lines}");
        // A person's own table does not name the person; and busybox 1.35 crashes at words like @reboot.
        let own = lines.replace("* * * * * root ", "* * * * * ").replace("@reboot", "#@reboot");
        let (path, table, daemon) = match self {
            Self::Debian => ("etc/cron.d/picored", &lines, "cron"),
            Self::Busybox => {
                ("var/spool/cron/crontabs/root", &own, "busybox-static crond -b -L /var/log/crond")
            }
        };
        let mut all = vec![(path, table.as_str())];
        all.extend(files);
        Room::new(&all, &format!("ip link set lo up\n{before}\n{daemon}"))
    }
}

/// Whatever its mail says, there is none.
fn no_mail(room: &Room) {
    assert!(room.mails().is_empty(), "{:?}", room.mails());
}

#[test]
fn debians_cron_starts_it_within_the_minute_and_again_after_kill() {
    starts_and_starts_again(Cron::Debian);
}

#[test]
fn busyboxs_crond_starts_it_within_the_minute_and_again_after_kill() {
    starts_and_starts_again(Cron::Busybox);
}

/// As the README has it: the line is there, the configuration comes later.
fn starts_and_starts_again(cron: Cron) {
    if !can_test(&[cron.program()]) {
        return;
    }
    // Without the start of the machine, which would be quicker.
    let lines = shipped("etc/cron.d/picored").replace("@reboot", "#@reboot");
    let room = cron.room(&lines, &[], "");
    room.write("etc/picored.json", &config(json!({})));
    let (first, took) = room.wait_for_daemon(None, MINUTE);
    println!("started after {took:?}");
    room.must(&format!("kill -KILL {first}"));
    let (second, took) = room.wait_for_daemon(Some(first), MINUTE);
    println!("started again after {took:?}");
    assert_eq!(room.daemons(), [second]);
    no_mail(&room);
}

#[test]
fn debians_cron_replaces_one_that_hangs() {
    replaces_one_that_hangs(Cron::Debian);
}

#[test]
fn busyboxs_crond_replaces_one_that_hangs() {
    replaces_one_that_hangs(Cron::Busybox);
}

fn replaces_one_that_hangs(cron: Cron) {
    if !can_test(&[cron.program()]) {
        return;
    }
    let room = cron.room(&shipped("etc/cron.d/picored"), &[("etc/picored.json", &config(json!({})))], "");
    match cron {
        Cron::Debian => {} // by @reboot
        Cron::Busybox => drop(room.must("picored run --cron")),
    }
    let (first, _) = room.wait_for_daemon(None, SOON);
    no_mail(&room);
    room.must(&format!("kill -STOP {first}"));
    let (second, took) = room.wait_for_daemon(Some(first), MINUTE + ASKED);
    println!("replaced after {took:?}");
    assert!(took >= ASKED, "one that may only be slow is not ended after {took:?}");
    assert_eq!(room.daemons(), [second]);
    wait_for("the mail that says so", SOON, || !room.mails().is_empty());
    let mails = room.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    assert!(mails[0].contains(&format!("(process {first}) did not answer")), "{mails:?}");
}

#[test]
fn of_six_lines_at_once_in_debians_cron_one_starts_it_and_all_are_silent() {
    many_at_once(Cron::Debian);
}

#[test]
fn of_six_lines_at_once_in_busyboxs_crond_one_starts_it_and_all_are_silent() {
    many_at_once(Cron::Busybox);
}

fn many_at_once(cron: Cron) {
    if !can_test(&[cron.program()]) {
        return;
    }
    const LINES: usize = 6;
    let lines: String = (0..LINES)
        .map(|n| format!("* * * * * root /usr/local/bin/picored run --cron; echo {n} $? >>/var/log/exits\n"))
        .collect();
    let room = cron.room(&lines, &[("etc/picored.json", &config(json!({})))], "");
    let mut first = Vec::new();
    // None runs in the first minute, all six race; in the second one runs.
    for round in 1..=2 {
        let ended = || room.read("var/log/exits").lines().count();
        wait_for("all lines to end", MINUTE, || {
            thread::sleep(Duration::from_millis(200));
            ended() >= round * LINES
        });
        let exits = room.read("var/log/exits");
        assert!(exits.lines().all(|line| line.ends_with(" 0")), "{exits}");
        let daemons = room.daemons();
        assert!(daemons.len() == 1 && room.status().is_some(), "{daemons:?}");
        assert!(first.is_empty() || first == daemons, "{first:?} {daemons:?}");
        first = daemons;
    }
    no_mail(&room);
}

#[test]
fn on_a_full_disk_it_runs_and_says_so_once() {
    if !can_test(&["cron"]) {
        return;
    }
    let fill = "for folder in /var/lib/picored /var/log; do\n\
                mkdir -p $folder; mount -t tmpfs -o size=64k tmpfs $folder; cat /dev/zero >$folder/filler\ndone 2>/dev/null";
    let config = config(json!({}));
    // The last line tells when cron has been there.
    let lines = shipped("etc/cron.d/picored") + "* * * * * root sleep 5; echo >>/var/spool/minutes\n";
    let room = Cron::Debian.room(&lines, &[("etc/picored.json", &config)], fill);
    wait_for("a daemon that answers", SOON, || room.status().is_some());
    let daemons = room.daemons();
    wait_for("the mail that says so", SOON, || !room.mails().is_empty());
    // The next minute's line is silent: the same one runs, and answers.
    let minutes = || room.read("var/spool/minutes").lines().count();
    let before = minutes();
    wait_for("cron to have been there", MINUTE, || minutes() > before);
    assert!(daemons.len() == 1 && room.daemons() == daemons, "{daemons:?} {:?}", room.daemons());
    let mails = room.mails();
    assert_eq!(mails.len(), 1, "{mails:?}");
    let lines: Vec<&str> = mails[0].lines().filter(|line| line.starts_with("picored: ")).collect();
    assert!(lines.len() == 2 && lines.iter().all(|line| line.contains("no space left")), "{lines:?}");
    let status = room.status().expect("it answers").to_string();
    assert!(status.contains("not stored"), "{status}");
    // With room again it stores and logs what happens from then on.
    room.must("rm /var/lib/picored/filler /var/log/filler");
    wait_for("the state to be stored", MINUTE, || room.read("var/lib/picored/state.json").contains("\"a\""));
    wait_for("the log to tell of lost lines", SOON, || {
        room.read("var/log/picored.log").contains("event=log-lost")
    });
}

#[test]
fn started_before_network_and_dns_it_comes_up_by_itself() {
    if !can_test(&["cron", "named"]) {
        return;
    }
    let own = config(json!({ "bind": "0.0.0.0:7946", "insecure": true, "join": ["par1.example.net"] }));
    let peer = config(json!({
        "node": "b", "bind": "10.79.0.2:7946", "insecure": true, "control": "/run/b.sock", "state": "/var/lib/b/state.json",
        "log": { "level": "info" },
    }));
    let named = "options { directory \"/tmp\"; listen-on { 10.79.0.53; }; listen-on-v6 { none; }; recursion no; \
                 pid-file none; dnssec-validation no; };\ncontrols { };\n\
                 zone \"example.net\" { type master; file \"/etc/example.net\"; };\n";
    let zone = "$TTL 1\n@ SOA ns h 1 1 1 1 1\n@ NS ns\nns A 10.79.0.53\npar1 A 10.79.0.2\n";
    let files = [
        ("etc/picored.json", own.as_str()),
        ("etc/b.json", &peer),
        ("etc/resolv.conf", "nameserver 10.79.0.53\noptions timeout:1\n"),
        ("etc/named.conf", named),
        ("etc/example.net", zone),
    ];
    let room = Cron::Debian.room(&shipped("etc/cron.d/picored"), &files, "ip link set lo down");
    wait_for("it to wait for the network", SOON, || {
        String::from_utf8_lossy(&room.run("picored status").stdout).contains("no default route")
    });
    let pid = room.holder().expect("it has the lock");

    room.must(
        "set -e; ip netns add par1; ip link set lo up; ip link add eth0 type veth peer name eth0 netns par1; \
         ip -n par1 link set eth0 up; for n in 2 53; do ip -n par1 addr add 10.79.0.$n/24 dev eth0; done; \
         ip link set eth0 up; ip addr add 10.79.0.1/24 dev eth0; ip route add default via 10.79.0.254",
    );
    // The other server, the peer and the name server on it.
    let there = |command: &str| room.must(&format!("nsenter --net=/run/netns/par1 {command}"));
    room.wait_for_daemon(None, SOON);
    there("picored -c /etc/b.json run >/tmp/b.log 2>&1 </dev/null &");
    wait_for("the name not to be found", SOON, || {
        room.read("var/log/picored.log").contains("event=not-resolved")
    });
    let members = || String::from_utf8_lossy(&room.run("picored members --json").stdout).into_owned();
    assert!(!members().contains("\"b\""), "{}", members());

    there("named -c /etc/named.conf");
    wait_for("it to find the other one", Duration::from_secs(120), || {
        thread::sleep(Duration::from_millis(200));
        members().contains("\"b\"")
    });
    assert_eq!(room.holder(), Some(pid), "the one that was started first");
    no_mail(&room);
}
