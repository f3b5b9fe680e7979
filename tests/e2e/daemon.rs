//! One picored of a test: its folder, its configuration, its process, and questions to it.

#[path = "ports.rs"]
mod ports;
#[path = "skip.rs"]
mod skip;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
pub use skip::skip;

/// A folder that goes away with the test, unless the test fails.
pub struct Folder {
    pub path: PathBuf,
}

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("e2e-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::SeqCst));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("the target folder can be written to");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own folder");
        Self { path }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// An executable script.
    pub fn script(&self, name: &str, text: &str) -> PathBuf {
        let path = self.file(name);
        fs::write(&path, text).expect("own folder can be written to");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("own file");
        path
    }

    pub fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("kept for a look: {}", self.path.display());
        } else {
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Free for UDP and TCP.
pub fn free_addr() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], ports::free_port()))
}

pub struct Daemon {
    pub folder: Folder,
    pub addr: SocketAddr,
    child: Option<Child>,
}

impl Daemon {
    /// A quick node on loopback. `extra` is laid over the defaults, key by key.
    pub fn new(name: &str, extra: Value) -> Self {
        Self::at(name, free_addr(), extra)
    }

    pub fn at(name: &str, addr: SocketAddr, extra: Value) -> Self {
        let folder = Folder::new();
        let mut config = json!({
            "node": name,
            "bind": addr.to_string(),
            "profile": "local",
            "control": folder.file("picored.sock"),
            "state": folder.file("state/state.json"),
            "safety": { "settle": "3s" },
            "log": { "level": "info" },
        });
        for (key, value) in extra.as_object().expect("an object") {
            config[key] = value.clone();
        }
        let daemon = Self { folder, addr, child: None };
        daemon.configure(&config);
        daemon
    }

    pub fn config_path(&self) -> PathBuf {
        self.folder.file("picored.json")
    }

    pub fn configure(&self, config: &Value) {
        let path = self.config_path();
        fs::write(&path, serde_json::to_string_pretty(config).expect("JSON")).expect("own folder");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("own file");
    }

    /// Starts it and waits until it answers.
    pub fn start(&mut self) {
        self.start_as(Command::new(picored()));
    }

    /// As [`Daemon::start`], by a command that is, or becomes, the program; the arguments are put behind it.
    pub fn start_as(&mut self, command: Command) {
        self.spawn_as(command);
        wait_for("the daemon to answer", Duration::from_secs(10), || {
            assert!(self.is_running(), "it ended at once; its log:\n{}", self.log());
            self.ask("status").is_some()
        });
    }

    /// Starts it and waits for nothing.
    pub fn spawn(&mut self) {
        self.spawn_as(Command::new(picored()));
    }

    /// As [`Daemon::start_as`], and waits for nothing.
    pub fn spawn_as(&mut self, mut command: Command) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.file("log"))
            .expect("own folder");
        let child = command
            .arg("-c")
            .arg(self.config_path())
            .arg("run")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file descriptor"))
            .stderr(log)
            .spawn()
            .expect("the binary was built");
        self.child = Some(child);
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it was started").id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its exit code, once it has ended by itself.
    pub fn wait(&mut self, limit: Duration) -> Option<i32> {
        wait_for("the daemon to end", limit, || !self.is_running());
        self.child.as_mut().and_then(|child| child.wait().ok()).and_then(|status| status.code())
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
    }

    pub fn signal(&self, which: Signal) {
        signal(self.pid(), which);
    }

    /// Runs a command of the command line with this node's configuration.
    pub fn run(&self, args: &[&str]) -> Output {
        Command::new(picored())
            .arg("-c")
            .arg(self.config_path())
            .args(args)
            .output()
            .expect("the binary was built")
    }

    /// The `--json` answer of a reading command, if there was one.
    pub fn ask(&self, command: &str) -> Option<Value> {
        let mut args: Vec<&str> = command.split(' ').collect();
        args.push("--json");
        serde_json::from_slice(&self.run(&args).stdout).ok()
    }

    pub fn status(&self) -> Value {
        self.ask("status -v").expect("the daemon answers")
    }

    /// What this node says of a member: `alive`, `suspect`, `failed`, `left`, or `""`.
    pub fn member_state(&self, name: &str) -> String {
        let members = self.ask("members").unwrap_or_default();
        let found = members["members"].as_array().into_iter().flatten().find(|m| m["name"] == name);
        found.and_then(|m| m["state"].as_str()).unwrap_or_default().to_owned()
    }

    /// A tag of a member as this node knows it, or `""`.
    pub fn tag(&self, member: &str, tag: &str) -> String {
        let members = self.ask("members").unwrap_or_default();
        let found = members["members"].as_array().into_iter().flatten().find(|m| m["name"] == member);
        found.and_then(|m| m["tags"][tag].as_str()).unwrap_or_default().to_owned()
    }

    pub fn log(&self) -> String {
        self.folder.read("log")
    }

    /// Resident memory in KiB, and its part that is not backed by files.
    pub fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0)
        };
        (field("VmRSS:"), field("RssAnon:"))
    }

    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, |entries| entries.count())
    }

    /// Its children: (process id, state letter, command).
    pub fn children(&self) -> Vec<(u32, char, String)> {
        let mut children = Vec::new();
        for entry in fs::read_dir("/proc").expect("Linux").flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            let Some((head, tail)) = stat.rsplit_once(") ") else { continue };
            let mut fields = tail.split(' ');
            let state = fields.next().and_then(|field| field.chars().next()).unwrap_or('?');
            if fields.next() == Some(&self.pid().to_string()) {
                children.push((pid, state, head.split('(').nth(1).unwrap_or_default().to_owned()));
            }
        }
        children
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(40).collect();
            eprintln!("end of the log of {}:", self.folder.path.display());
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
        self.kill();
    }
}

/// A small system has no program for it.
pub fn signal(pid: u32, which: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, which).expect("the process is there");
}

pub fn picored() -> &'static str {
    env!("CARGO_BIN_EXE_picored")
}

/// Waits until no handler of the nodes is busy and each knows of all what they say of themselves: what is killed
/// then leaves no run behind whose end nobody heard of.
pub fn wait_for_quiet(nodes: &[Daemon]) {
    wait_for("no run and equal knowledge", Duration::from_secs(30), || {
        let idle = |node: &Daemon| {
            node.status()["handlers"].as_array().into_iter().flatten().all(|h| h["phase"] == "idle")
        };
        let tags = |node: &Daemon| {
            let members = node.ask("members").unwrap_or_default();
            let of = |m: &Value| (m["name"].to_string(), m["tags"].to_string());
            let running =
                members["members"].as_array().into_iter().flatten().filter(|m| m["state"] == "alive");
            running.map(of).collect::<BTreeMap<_, _>>()
        };
        let first = tags(&nodes[0]);
        first.len() == nodes.len() && nodes.iter().all(idle) && nodes.iter().all(|node| tags(node) == first)
    });
}

/// Looks again and again until it is so.
pub fn wait_for(what: &str, limit: Duration, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
