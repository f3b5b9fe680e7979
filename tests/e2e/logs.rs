//! Who reads the log may hang or die: the daemon does not. With the real `logger` and `script`, and a syslog of the
//! test's own.

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, Folder, picored, signal, skip, wait_for};

const SOON: Duration = Duration::from_secs(20);
/// An answer that takes longer was held up by the log; a loaded machine needs tenths of a second.
const AT_ONCE: Duration = Duration::from_secs(5);

/// A daemon that something else reads the log of, in processes beside it.
struct Read(Daemon, Cell<u32>);

impl Read {
    fn child(&self, name: &str) -> Option<u32> {
        self.0.children().into_iter().find(|(.., command)| command == name).map(|(pid, ..)| pid)
    }

    fn wait_for_child(&self, name: &str) -> u32 {
        wait_for(name, SOON, || self.child(name).is_some());
        self.child(name).expect("it was there")
    }

    /// Things that are logged at length, each asked for and answered while nobody may be reading. Returns the longest
    /// that an answer took.
    fn log_much(&self, times: u32) -> Duration {
        let mut longest = Duration::ZERO;
        for _ in 0..times {
            // Each another one: a line that repeats is counted instead.
            let i = self.1.replace(self.1.get() + 1);
            let reason = format!("{i} {}", "x".repeat(180));
            let request = json!({ "cmd": "maint", "to": "on", "reason": reason });
            let asked = Instant::now();
            let answer = ask(&self.0, &request);
            assert!(answer.contains("message"), "{answer}");
            longest = longest.max(asked.elapsed());
        }
        longest
    }
}

impl Drop for Read {
    fn drop(&mut self) {
        for (pid, ..) in self.0.children() {
            signal(pid, Signal::KILL);
        }
    }
}

fn ask(daemon: &Daemon, request: &Value) -> String {
    let mut socket = UnixStream::connect(daemon.folder.file("picored.sock")).expect("the daemon listens");
    socket.set_read_timeout(Some(SOON)).expect("a timeout");
    socket.write_all(format!("{request}\n").as_bytes()).expect("the daemon reads");
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer).expect("the daemon answers");
    answer
}

fn with_an_app() -> Daemon {
    let check = json!({ "exec": ["/bin/true"], "interval": "1h" });
    Daemon::new("n1", json!({ "apps": { "web": { "checks": [check] } } }))
}

/// What syslog gets: `/dev/log` of those who run behind [`private_dev`].
struct Syslog(UnixDatagram);

impl Syslog {
    fn new(folder: &Folder) -> Self {
        let socket = UnixDatagram::bind(folder.file("devlog")).expect("own folder");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
        Self(socket)
    }

    /// Reads until a line holds `text`, with `meanwhile` done whenever there is none for a moment.
    fn wait_for(&self, text: &str, mut meanwhile: impl FnMut()) -> String {
        let (began, mut buffer) = (Instant::now(), [0; 8192]);
        loop {
            assert!(began.elapsed() < SOON, "syslog never got {text:?}");
            match self.0.recv(&mut buffer) {
                Ok(size) => {
                    let line = String::from_utf8_lossy(&buffer[..size]).into_owned();
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(_) => meanwhile(),
            }
        }
    }
}

/// A shell's lines after which /dev has only what is needed, and a log that is the test's. `None`, and said: that
/// cannot be had here.
fn private_dev(folder: &Folder) -> Option<String> {
    let possible = Command::new("unshare")
        .args(["-m", "--propagation", "private", "mount", "-t", "tmpfs", "tmpfs", "/mnt"])
        .stderr(Stdio::null())
        .status();
    if !possible.is_ok_and(|status| status.success()) {
        skip("nothing can be mounted here, so there is no /dev/log for a test");
        return None;
    }
    if !Command::new("logger").arg("--version").output().is_ok_and(|output| output.status.success()) {
        skip("no logger (bsdutils) here");
        return None;
    }
    let at = folder.path.display();
    Some(format!(
        "mkdir -p '{at}/dev'; mount -t tmpfs tmpfs '{at}/dev'; cd '{at}/dev'
         for one in null zero random urandom; do : >$one; mount --bind /dev/$one $one; done
         : >log; mount --bind '{at}/devlog' log; mount --rbind '{at}/dev' /dev; cd /\n"
    ))
}

/// `command` in a mount namespace of its own, after `first`; arguments that are added are `$0` and so on.
fn unshared(first: &str, command: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "--propagation", "private", "sh", "-ec"]).arg(format!("{first}\n{command}"));
    unshare
}

/// Goal: `picored run 2>&1 | logger -t picored` brings the log to syslog; a syslog that reads nothing and a logger that
/// is dead stop nothing.
/// Method: a /dev/log of the test's own that is read, then not, then again; then logger is killed.
#[test]
fn a_hanging_and_a_dead_logger_stop_nothing() {
    let daemon = with_an_app();
    let Some(dev) = private_dev(&daemon.folder) else { return };
    let syslog = Syslog::new(&daemon.folder);
    let mut read = Read(daemon, Cell::default());
    let mut command = unshared(&dev, "\"$0\" \"$@\" 2>&1 | logger -t picored");
    command.arg(picored());
    read.0.start_as(command);
    let line = syslog.wait_for("event=started", || {});
    assert!(line.contains(" picored: ") || line.contains(" picored["), "{line}");

    let pid = read.wait_for_child("picored");
    let pipe = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/fd/2")).expect("our process");
    rustix::pipe::fcntl_setpipe_size(&pipe, 4096).expect("it is a pipe");
    drop(pipe);
    let longest = read.log_much(150);
    assert!(longest < AT_ONCE, "held up for {longest:?} while syslog reads nothing");
    syslog.wait_for("event=log-lost", || assert!(read.log_much(1) < AT_ONCE));

    signal(read.wait_for_child("logger"), Signal::KILL);
    wait_for("logger to be gone", SOON, || read.child("logger").is_none_or(|_| is_zombie(&read, "logger")));
    let longest = read.log_much(50);
    assert!(longest < AT_ONCE, "held up for {longest:?} by a dead logger");
    assert!(read.0.ask("status").is_some() && read.child("picored") == Some(pid));
}

fn is_zombie(read: &Read, name: &str) -> bool {
    read.0.children().iter().any(|(_, state, command)| command == name && *state == 'Z')
}

/// A terminal takes what it has room for and blocks for the rest: one whose reader hangs must not hang the daemon.
#[test]
fn a_terminal_whose_reader_hangs_stops_nothing() {
    if !Command::new("script").arg("--version").output().is_ok_and(|output| output.status.success()) {
        return skip("no script (bsdutils) here");
    }
    let mut read = Read(with_an_app(), Cell::default());
    let mut command = Command::new("sh");
    command.args(["-c", "exec script -qfc \"exec $0 $*\" /dev/null", picored()]).env("SHELL", "/bin/sh");
    read.0.start_as(command);
    let terminal = fs::read_link(format!("/proc/{}/fd/2", read.wait_for_child("picored")));
    assert!(terminal.expect("our process").starts_with("/dev/pts"), "its standard error is a terminal");
    read.0.signal(Signal::STOP);
    let longest = read.log_much(500);
    assert!(longest < AT_ONCE, "held up for {longest:?}");
    read.0.signal(Signal::CONT);
    wait_for("what was lost to be told", SOON, || {
        read.log_much(1);
        read.0.log().contains("event=log-lost")
    });
}

/// The cron line for syslog that the manual page shows.
fn line_of_the_manual() -> String {
    let page = include_str!("../../etc/man/picored.8");
    let line = page.lines().find(|line| line.starts_with("* * * * *") && line.contains("logger"));
    line.expect("the manual shows how the log comes to syslog").replace("\\-", "-")
}

/// Goal: the log comes to syslog from its file, past rotations; a logger that dies is started again by cron, one that
/// runs is left alone, and one that hangs stops nothing.
/// Method: the line of the manual page, run by hand as cron would.
#[test]
fn the_manual_s_line_for_syslog_survives_rotation_and_a_dead_logger() {
    let mut daemon = with_an_app();
    let Some(dev) = private_dev(&daemon.folder) else { return };
    let log = daemon.folder.file("picored.log");
    let mut config: Value =
        serde_json::from_str(&daemon.folder.read("picored.json")).expect("what was written");
    config["log"] = json!({ "file": log, "max_size": "4KiB" });
    daemon.configure(&config);
    let lock = daemon.folder.file("syslog.lock");
    let line = line_of_the_manual();
    let (when_and_who, command) = line.split_at(line.find("root ").expect("as root") + 5);
    assert_eq!(when_and_who, "* * * * * root ");
    let command = command
        .replace("/var/log/picored.log", log.to_str().expect("UTF-8"))
        .replace("/run/picored-syslog.lock", lock.to_str().expect("UTF-8"));
    assert_eq!(command.matches(daemon.folder.path.to_str().expect("UTF-8")).count(), 2, "{command}");
    let syslog = Syslog::new(&daemon.folder);
    daemon.start();
    let read = Read(daemon, Cell::default());
    let cron = || Cron(unshared(&dev, &command).stdin(Stdio::null()).spawn().expect("sh"));

    let mut first = cron();
    // What happens before tail reads is not told: as long as that may be, something new happens.
    syslog.wait_for("event=maint", || assert!(read.log_much(1) < AT_ONCE));
    assert_eq!(cron().0.wait().expect("it ends").code(), Some(1), "the second one leaves the first alone");
    let longest = read.log_much(100);
    assert!(longest < AT_ONCE, "held up for {longest:?}");
    assert!(fs::metadata(log.with_extension("log.1")).is_ok(), "it was rotated");
    syslog.wait_for(&format!(": {} x", read.1.get() - 1), || {});

    let logger = wait_for_descendant(first.0.id(), "logger");
    signal(logger, Signal::STOP);
    let longest = read.log_much(100);
    assert!(longest < AT_ONCE, "held up for {longest:?}");
    signal(logger, Signal::KILL);
    wait_for("the line to end", SOON, || {
        read.log_much(1);
        matches!(first.0.try_wait(), Ok(Some(_)))
    });
    while syslog.0.recv(&mut [0; 64]).is_ok() {}
    let _second = cron();
    syslog.wait_for("event=maint", || assert!(read.log_much(1) < AT_ONCE));
}

/// What cron started, with all that this started.
struct Cron(Child);

impl Drop for Cron {
    fn drop(&mut self) {
        for pid in descendants(self.0.id()) {
            signal(pid, Signal::KILL);
        }
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn children_of(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn descendants(pid: u32) -> Vec<u32> {
    let mut all = children_of(pid);
    let mut at = 0;
    while at < all.len() {
        all.extend(children_of(all[at]));
        at += 1;
    }
    all
}

fn wait_for_descendant(of: u32, name: &str) -> u32 {
    let named = |pid: &u32| {
        fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("comm"))
            .is_ok_and(|c| c.trim() == name)
    };
    wait_for(name, SOON, || descendants(of).iter().any(named));
    descendants(of).into_iter().find(named).expect("it was there")
}
