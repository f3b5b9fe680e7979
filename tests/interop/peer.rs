//! What the three kinds of members have in common: how to start, disturb, end and ask one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bare::Bare;
use crate::daemon::{Folder, signal, wait_for};
use crate::net::{self, Net};
use crate::picored::Picored;
use crate::serf::Serf;

/// Everybody's gossip port, each on its own address.
pub const PORT: u16 = 7946;
/// Long for a process to start or to end.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Picored,
    Serf,
    /// A bare memberlist program.
    Memberlist,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Picored => "picored",
            Self::Serf => "Serf",
            Self::Memberlist => "memberlist",
        })
    }
}

/// How one is started.
#[derive(Clone)]
pub struct Options {
    /// Base64, the first one encrypts; none: plain text.
    pub keys: Vec<String>,
    pub profile: &'static str,
    pub tags: BTreeMap<String, String>,
    /// Told at the start; see [`Peer::join`] for later.
    pub join: Vec<SocketAddr>,
    /// picored is told `"peers": "memberlist"` and a bare program runs as it comes, instead of with Serf's versions.
    pub bare: bool,
    pub v6: bool,
    /// Laid over picored's configuration, key by key.
    pub config: Value,
    /// More arguments of a Serf agent or a bare program.
    pub args: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keys: Vec::new(),
            profile: "lan",
            tags: BTreeMap::new(),
            join: Vec::new(),
            bare: false,
            v6: false,
            config: json!({}),
            args: Vec::new(),
        }
    }
}

impl Options {
    pub fn join(&self, addrs: &[SocketAddr]) -> Self {
        Self { join: addrs.to_vec(), ..self.clone() }
    }

    pub fn tag(mut self, name: &str, value: &str) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }
}

/// What one says of another.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// `alive`, `suspect` (only picored tells), `leaving` (only Serf), `failed`, `left`; a bare program knows only
    /// `alive` and `gone`.
    pub state: String,
    pub addr: String,
    pub tags: BTreeMap<String, String>,
}

/// What one says of all, out of its JSON: under which names it has state and address, and how to find the tags.
pub fn said_members(
    answer: &Value,
    state: &str,
    addr: &str,
    tags: impl Fn(&Value) -> BTreeMap<String, String>,
) -> BTreeMap<String, Member> {
    let all = answer["members"].as_array().into_iter().flatten();
    all.map(|member| {
        let text = |key: &str| member[key].as_str().unwrap_or_default().to_owned();
        (text("name"), Member { state: text(state), addr: text(addr), tags: tags(member) })
    })
    .collect()
}

/// The tags of a member where they are an object.
pub fn json_tags(member: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(member["tags"].clone()).unwrap_or_default()
}

/// A member of the cluster, whatever it is. Asked and told from the router, killed when dropped.
pub trait Peer {
    fn kind(&self) -> Kind;
    fn process(&self) -> &Process;
    fn process_mut(&mut self) -> &mut Process;
    /// Starts it, or starts it again, and waits until it answers.
    fn start(&mut self);
    /// Tells the running program to join.
    fn join(&mut self, addr: SocketAddr);
    /// Leaves gracefully; returns when the program has ended.
    fn leave(&mut self);
    /// Everybody it knows; nobody while it cannot answer.
    fn members(&self) -> BTreeMap<String, Member>;
    /// Whether its log calls a member failed after a [`Peer::mark`] (a bare program: gone). Cheaper than to ask it.
    fn said_failed(&self, name: &str, mark: u64) -> bool;

    /// A command of the bare program, over its stdin; what it said, or why it could not.
    fn tell(&self, line: &str) -> Result<Vec<Value>, String> {
        panic!("{} is no bare program and takes no {line:?}", self.name());
    }

    fn name(&self) -> &str {
        &self.process().name
    }

    /// Where it gossips.
    fn addr(&self) -> SocketAddr {
        self.process().addr()
    }

    /// What it says of a member: [`Member::state`], or `absent`.
    fn state(&self, name: &str) -> String {
        self.members().remove(name).map_or_else(|| "absent".into(), |member| member.state)
    }

    fn is_alive(&self, name: &str) -> bool {
        self.state(name) == "alive"
    }

    /// It takes the member for gone, as far as its kind can tell failed from left.
    fn is_failed(&self, name: &str) -> bool {
        matches!(&*self.state(name), "failed" | "gone")
    }

    fn is_left(&self, name: &str) -> bool {
        matches!(&*self.state(name), "left" | "gone")
    }

    /// kill -9.
    fn kill(&mut self) {
        self.process_mut().kill();
    }

    /// SIGSTOP: all its traffic stops, the kernel goes on accepting for it.
    fn stop(&mut self) {
        self.process_mut().set_stopped(true);
    }

    fn cont(&mut self) {
        self.process_mut().set_stopped(false);
    }

    /// Its next start is at another place of the network.
    #[allow(dead_code)]
    fn move_to(&mut self, n: u8) {
        self.process_mut().place = n;
    }

    /// All it ever wrote, through all its starts.
    fn log(&self) -> String {
        self.process().log_from(0)
    }

    /// A place in the log: what comes later is news to [`Self::said_failed`] and [`Process::log_from`].
    fn mark(&self) -> u64 {
        self.process().log_len()
    }
}

/// Starts one of a kind at place `n` of the network.
pub fn start(kind: Kind, net: &Rc<Net>, n: u8, name: &str, options: Options) -> Box<dyn Peer> {
    let process = Process::new(net, n, name, options);
    let mut peer: Box<dyn Peer> = match kind {
        Kind::Picored => Box::new(Picored::new(process)),
        Kind::Serf => Box::new(Serf::new(process)),
        Kind::Memberlist => Box::new(Bare::new(process)),
    };
    peer.start();
    peer
}

/// One process of a cell with its folder, its place and its log.
pub struct Process {
    pub name: String,
    pub place: u8,
    pub options: Options,
    pub folder: Folder,
    net: Rc<Net>,
    child: Option<Child>,
    stopped: bool,
}

impl Process {
    pub fn new(net: &Rc<Net>, place: u8, name: &str, options: Options) -> Self {
        let name = name.to_owned();
        Self { name, place, options, folder: Folder::new(), net: net.clone(), child: None, stopped: false }
    }

    pub fn ip(&self) -> IpAddr {
        if self.options.v6 { net::addr6(self.place) } else { net::addr(self.place) }
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::new(self.ip(), PORT)
    }

    /// Starts a program at this place; what it writes goes to the log. It dies with the thread that started it.
    pub fn spawn(&mut self, program: &Path, args: &[String]) -> Option<ChildStdin> {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log =
            OpenOptions::new().create(true).append(true).open(self.folder.file("log")).expect("own folder");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(args).stdin(Stdio::piped());
        command.stdout(log.try_clone().expect("a descriptor")).stderr(log);
        let child = self.net.within(self.place, || command.spawn());
        let child = self.child.insert(child.expect("setpriv is essential"));
        self.stopped = false;
        child.stdin.take()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Can be asked something: it was started, not ended by us, and not stopped.
    pub fn answers(&self) -> bool {
        self.child.is_some() && !self.stopped
    }

    /// Waits until `ready`, which is asked again and again; the program must not end meanwhile.
    pub fn wait_until_ready(&mut self, ready: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !ready(self) {
            assert!(self.is_running(), "{} ended at once; its log:\n{}", self.name, self.log_from(0));
            assert!(
                started.elapsed() < PATIENCE,
                "{} does not answer; log:\n{}",
                self.name,
                self.log_from(0)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for it to end by itself.
    pub fn wait_until_ended(&mut self) {
        let name = self.name.clone();
        wait_for(&format!("{name} to end"), PATIENCE, || !self.is_running());
        self.kill();
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
        }
        self.stopped = false;
    }

    pub fn set_stopped(&mut self, stopped: bool) {
        signal(self.pid().expect("it runs"), if stopped { Signal::STOP } else { Signal::CONT });
        self.stopped = stopped;
    }

    fn log_len(&self) -> u64 {
        fs::metadata(self.folder.file("log")).map_or(0, |file| file.len())
    }

    /// The log from a [`Peer::mark`] on.
    pub fn log_from(&self, mark: u64) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(self.folder.file("log")) {
            file.seek(SeekFrom::Start(mark)).expect("a file");
            file.read_to_end(&mut text).expect("a file");
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
