//! The date of one node jumps by days, forth and back, while it runs and between two lives. Deadlines are another
//! clock's: nobody does anything because of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::daemon::{Daemon, Folder, picored, skip, wait_for, wait_for_quiet};

/// Time costs nothing where all goes well; a loaded machine is slow.
const SOON: Duration = Duration::from_secs(90);
const DAY: i64 = 86_400;

/// What lays itself between a program and the date; Debian's package `libfaketime`.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib64/faketime/libfaketime.so.1",
    "/usr/lib/faketime/libfaketime.so.1",
];

/// The date as one process sees it.
struct Dates {
    folder: Folder,
}

impl Dates {
    fn new() -> Self {
        let dates = Self { folder: Folder::new() };
        dates.set(0);
        dates
    }

    /// So many seconds after the machine's. Never half written: it is read at any time.
    fn set(&self, off: i64) {
        let (new, file) = (self.folder.file("new"), self.folder.file("offset"));
        fs::write(&new, format!("{off:+}\n")).expect("own folder");
        fs::rename(&new, &file).expect("own folder");
    }

    fn command(&self, preload: &str) -> Command {
        let mut command = Command::new(picored());
        command.env("LD_PRELOAD", preload).env("FAKETIME_TIMESTAMP_FILE", self.folder.file("offset"));
        // What waits and measures time is left alone, and nothing is shared with others. (It makes its files in /dev/shm
        // all the same, and takes them away when the process ends by itself: see [`remove_shared`].)
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DISABLE_SHM", "1").env("NO_FAKE_STAT", "1");
        command
    }
}

/// What the library leaves of a process that was killed.
fn remove_shared(pid: u32) {
    for name in [format!("faketime_shm_{pid}"), format!("sem.faketime_sem_{pid}")] {
        drop(fs::remove_file(Path::new("/dev/shm").join(name)));
    }
}

/// `None`, and said: it is not here.
fn library() -> Option<&'static str> {
    let library = LIBRARIES.into_iter().find(|path| Path::new(path).exists());
    if library.is_none() {
        skip("no jumps of the date: libfaketime is not installed; scripts/setup installs it");
    }
    library
}

/// Four nodes of which the last is dead and forgotten by the one whose date jumps.
struct Trouble {
    cluster: Cluster,
    dates: Vec<Dates>,
    preload: &'static str,
    /// Its date jumps. It is not the runner: what that told last is in no state file yet.
    jumper: usize,
    failures: usize,
    /// All that ran.
    pids: Vec<u32>,
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.cluster.nodes.iter_mut().for_each(Daemon::kill);
        self.pids.iter().copied().for_each(remove_shared);
    }
}

impl Trouble {
    fn new(preload: &'static str) -> Self {
        let dates: Vec<_> = (0..4).map(|_| Dates::new()).collect();
        let mut cluster = Cluster::new_with(4, "", |i| dates[i].command(preload));
        cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4");
        let pids = cluster.nodes.iter().map(Daemon::pid).collect();
        wait_for_quiet(&cluster.nodes);
        cluster.nodes[3].kill();
        cluster.wait_for_records("192.0.2.1 192.0.2.2 192.0.2.3");
        let runner = cluster.runner();
        let jumper = (0..3).find(|i| format!("n{}", i + 1) != runner).expect("there is one runner at most");
        // Who runs is not forgotten; and failures that come later are the jumps'.
        wait_for("all to have seen it fail", SOON, || {
            cluster.nodes[..3].iter().all(|node| node.log().contains("event=node-failed"))
        });
        assert!(cluster.nodes[jumper].run(&["forget", "n4"]).status.success());
        let mut trouble = Self { cluster, dates, preload, jumper, failures: 0, pids };
        trouble.failures = trouble.count_failures();
        trouble
    }

    fn node(&self) -> &Daemon {
        &self.cluster.nodes[self.jumper]
    }

    fn all(&self) -> Vec<String> {
        (1..=3).map(|n| format!("192.0.2.{n}")).collect()
    }

    fn wait_for_all(&self) {
        self.cluster.wait_for_records(&self.all().join(" "));
    }

    fn wait_for_others(&self) {
        let others: Vec<String> =
            self.all().into_iter().enumerate().filter(|(i, _)| *i != self.jumper).map(|(_, a)| a).collect();
        self.cluster.wait_for_records(&others.join(" "));
    }

    fn count_failures(&self) -> usize {
        let lines = |node: &Daemon| node.log().matches("event=node-failed").count();
        self.cluster.nodes.iter().map(lines).sum()
    }

    fn state(&self) -> Value {
        serde_json::from_str(&self.node().folder.read("state/state.json")).unwrap_or_default()
    }

    /// Since when, by its state file, the node knows the first of the others to be as it is.
    fn since(&self) -> i64 {
        let state = self.state();
        let members = state["membership"]["members"].as_array().cloned().unwrap_or_default();
        members.iter().find(|m| m["state"] == "alive").and_then(|m| m["since"].as_i64()).unwrap_or_default()
    }

    /// The date jumps by so many days; the state file follows.
    fn jump(&self, from: i64, to: i64) {
        let before = self.since();
        self.dates[self.jumper].set(to * DAY);
        let moved = (to - from) * DAY;
        wait_for(&format!("a state file of day {to}"), SOON, || (self.since() - before - moved).abs() < 60);
    }

    /// Ten checks more, made neither at once nor late.
    fn checks_go_on(&self) {
        let web = &self.cluster.webs[self.jumper];
        let (began, before) = (Instant::now(), web.served.load(Ordering::SeqCst));
        wait_for("ten checks", Duration::from_secs(15), || web.served.load(Ordering::SeqCst) >= before + 10);
        // Every 300 ms, give or take a tenth.
        assert!(began.elapsed() > Duration::from_secs(2), "ten checks in {:?}", began.elapsed());
    }

    /// The web server dies and is back: two runs. Without a change there was none.
    fn changes_are_told(&self) {
        let runs = self.cluster.runs();
        self.checks_go_on();
        assert_eq!(self.cluster.runs(), runs, "{}", self.cluster.outside.read("runs"));
        self.cluster.webs[self.jumper].set_up(false);
        self.wait_for_others();
        self.cluster.webs[self.jumper].set_up(true);
        self.wait_for_all();
        assert_eq!(self.cluster.runs(), runs + 2, "{}", self.cluster.outside.read("runs"));
    }

    /// Nobody failed, what a person forgot stays forgotten, and what was said of another node holds.
    fn nothing_is_lost(&self) {
        assert_eq!(self.count_failures(), self.failures);
        let node = self.node();
        assert_eq!(node.member_state("n4"), "", "it was forgotten");
        assert_eq!(self.state()["membership"]["forgotten"][0]["name"], "n4");
        let words = node.status()["overrides"].clone();
        let word = words.as_array().into_iter().flatten().find(|word| word["app"] == "other").cloned();
        let left = word.as_ref().and_then(|word| word["for_secs"].as_i64()).unwrap_or_default();
        assert!((6_000..=7_200).contains(&left), "{words}");
    }

    /// It ends, the date jumps, it begins anew.
    fn restart(&mut self, days: i64) {
        wait_for_quiet(&self.cluster.nodes[..3]);
        let node = &mut self.cluster.nodes[self.jumper];
        assert_eq!(node.run(&["stop"]).status.code(), Some(0));
        assert_eq!(node.wait(SOON), Some(0));
        let restored = node.log().matches("event=state-restored").count();
        self.dates[self.jumper].set(days * DAY);
        node.start_as(self.dates[self.jumper].command(self.preload));
        self.pids.push(node.pid());
        assert_eq!(node.log().matches("event=state-restored").count(), restored + 1);
        let name = format!("n{}", self.jumper + 1);
        wait_for("its app to be up again", SOON, || self.node().tag(&name, "a.web") == "up");
    }
}

#[test]
fn a_date_that_jumps_by_days_changes_nothing() {
    let Some(library) = library() else { return };
    let mut trouble = Trouble::new(library);
    let other = format!("n{}", (trouble.jumper + 1) % 3 + 1);
    let said = trouble.node().run(&["maint", "on", "--node", &other, "--app", "other", "--for", "2h"]);
    assert!(said.status.success());

    // Maintenance of a time that ends while the date is another one.
    let runs = trouble.cluster.runs();
    assert!(trouble.node().run(&["maint", "on", "--app", "web", "--for", "30s"]).status.success());
    let began = Instant::now();
    trouble.wait_for_others();
    trouble.jump(0, 1);
    assert!(began.elapsed() < Duration::from_secs(29), "it was seen too late to show anything");
    trouble.wait_for_all();
    assert!(began.elapsed() >= Duration::from_secs(29), "over after {:?}, a day early", began.elapsed());
    assert_eq!(trouble.cluster.runs(), runs + 2, "{}", trouble.cluster.outside.read("runs"));

    trouble.changes_are_told();
    trouble.nothing_is_lost();
    trouble.jump(1, -1);
    trouble.changes_are_told();
    trouble.nothing_is_lost();
    trouble.jump(-1, 0);
    trouble.changes_are_told();
    trouble.nothing_is_lost();

    // The next life finds a file of tomorrow.
    let runs = trouble.cluster.runs();
    trouble.restart(-1);
    trouble.checks_go_on();
    trouble.nothing_is_lost();
    trouble.jump(-1, 0);
    trouble.restart(0);
    trouble.checks_go_on();
    trouble.nothing_is_lost();
    assert_eq!(trouble.cluster.runs(), runs, "{}", trouble.cluster.outside.read("runs"));
    trouble.changes_are_told();
}
