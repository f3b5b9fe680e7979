//! A cell of the matrix: whether it can run, its cluster, and its line in the table.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, thread};

use crate::bare;
use crate::net::Net;
use crate::peer::{self, Kind, Options, Peer};

/// A key for tests only.
pub const KEY: &str = "cGljb3JlZCBhbmQgc2VyZiwgb25seSBmb3IgdGVzdHM=";

/// Two tests of one body, `fn(&Setting) -> String`: `cell!(name, "what it shows", body)` makes `name::plain` and
/// `name::encrypted`.
#[macro_export]
macro_rules! cell {
    ($name:ident, $what:expr, $body:path) => {
        mod $name {
            #[test]
            fn plain() {
                $crate::cell::run($what, false, $body);
            }
            #[test]
            fn encrypted() {
                $crate::cell::run($what, true, $body);
            }
        }
    };
}

/// In which of its two ways a cell runs.
pub struct Setting {
    pub encrypted: bool,
}

impl Setting {
    /// Options with this setting's key, else as they come.
    pub fn options(&self) -> Options {
        let keys = if self.encrypted { vec![KEY.to_owned()] } else { Vec::new() };
        Options { keys, ..Options::default() }
    }
}

/// Runs a cell's body and notes what it returns, figures of any kind, in the table; a panic is noted as FAILED.
pub fn run(what: &'static str, encrypted: bool, body: fn(&Setting) -> String) {
    if !available() {
        return;
    }
    let mut line = Line { what, encrypted, figures: None };
    line.figures = Some(body(&Setting { encrypted }));
}

struct Line {
    what: &'static str,
    encrypted: bool,
    figures: Option<String>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let setting = if self.encrypted { "encrypted" } else { "plain" };
        let result = if self.figures.is_some() { "ok" } else { "FAILED" };
        let figures = self.figures.as_deref().unwrap_or_default();
        let path = concat!(env!("CARGO_TARGET_TMPDIR"), "/interop-results.tsv");
        let file = OpenOptions::new().create(true).append(true).open(path);
        // The test's name, for the order of the table.
        let test = thread::current().name().unwrap_or_default().to_owned();
        let line = format!("{test}\t{}\t{setting}\t{result}\t{figures}\n", self.what);
        let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
        assert!(written.is_ok() || thread::panicking(), "{path}: {written:?}");
    }
}

/// Whether the real peers and the means to disturb them are here.
pub fn available() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let Some(missing) = MISSING.get_or_init(missing) else { return true };
    assert!(env::var_os("CI").is_none(), "{missing}, and in CI nothing is skipped");
    // Past the test harness, which would show this only if the test failed.
    let text =
        format!("\n*** SKIPPED: no real peers: {missing}; scripts/setup installs what is missing ***\n\n");
    drop(std::io::stderr().write_all(text.as_bytes()));
    false
}

fn missing() -> Option<String> {
    let quiet = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    for (program, args) in
        [("serf", &["version"][..]), ("ip", &["-V"]), ("nft", &["--version"]), ("setpriv", &["--version"])]
    {
        if !quiet(program, args) {
            return Some(format!("{program} is not installed"));
        }
    }
    if !quiet("unshare", &["--net", "ip", "link", "add", "n1", "type", "veth"]) {
        return Some("network namespaces cannot be made here; are you root?".into());
    }
    bare::program().err().map(|why| format!("the memberlist program cannot be built: {why}"))
}

/// Members in a network of their own; `n1` is at place 1, and so on.
pub struct Cluster {
    pub peers: Vec<Box<dyn Peer>>,
    pub net: Rc<Net>,
}

impl Cluster {
    /// One after the other; all but the first join the first.
    pub fn start(kinds: &[Kind], options: &Options) -> Self {
        let mut cluster = Self { peers: Vec::new(), net: Rc::new(Net::new(0)) };
        kinds.iter().for_each(|&kind| cluster.add(kind, options));
        cluster
    }

    /// Starts one more at the next place, which is made if there is none; it joins the first.
    pub fn add(&mut self, kind: Kind, options: &Options) {
        let n = u8::try_from(self.peers.len() + 1).expect("few nodes");
        if self.net.len() < usize::from(n) {
            self.net.add_node();
        }
        let first: Vec<_> = self.peers.first().map(|first| first.addr()).into_iter().collect();
        let peer = peer::start(kind, &self.net, n, &format!("n{n}"), options.join(&first));
        self.peers.push(peer);
    }

    /// Whether everybody who can be asked takes exactly those who can be asked for alive.
    pub fn agrees(&self) -> bool {
        self.disagreement().is_none()
    }

    /// Waits for it; how long it took.
    pub fn wait_for_agreement(&self, limit: Duration) -> Duration {
        let started = Instant::now();
        while let Some(why) = self.disagreement() {
            assert!(started.elapsed() < limit, "no agreement within {limit:?}: {why}");
            thread::sleep(Duration::from_millis(50));
        }
        started.elapsed()
    }

    fn disagreement(&self) -> Option<String> {
        let there = || self.peers.iter().filter(|peer| peer.process().answers());
        let mut expected: Vec<&str> = there().map(|peer| peer.name()).collect();
        expected.sort_unstable();
        there().find_map(|peer| {
            let members = peer.members();
            let alive: Vec<_> =
                members.iter().filter(|(_, member)| member.state == "alive").map(|m| m.0).collect();
            (alive != expected)
                .then(|| format!("{} sees {alive:?} alive, there are {expected:?}", peer.name()))
        })
    }

    /// Waits until all but `about` itself who can be asked say so of it; how long it took.
    pub fn wait_for_all(&self, what: &str, limit: Duration, says: impl Fn(&dyn Peer) -> bool) -> Duration {
        let started = Instant::now();
        let mut waiting: Vec<_> = self.peers.iter().filter(|peer| peer.process().answers()).collect();
        loop {
            waiting.retain(|peer| !says(peer.as_ref()));
            if waiting.is_empty() {
                return started.elapsed();
            }
            let names: Vec<_> = waiting.iter().map(|peer| (peer.kind(), peer.name())).collect();
            assert!(started.elapsed() < limit, "waited {limit:?} in vain for {names:?} to say: {what}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// A figure of the table.
pub fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}
