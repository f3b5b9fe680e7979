//! A cell of the matrix: whether it can run, its cluster, and its line in the table.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::bare;
use crate::daemon::skip;
use crate::net::{self, Net};
use crate::peer::{self, Kind, Options, Peer};
use crate::results;

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
#[derive(Default)]
pub struct Setting {
    pub encrypted: bool,
    noted: RefCell<String>,
}

impl Setting {
    pub fn new(encrypted: bool) -> Self {
        Self { encrypted, ..Self::default() }
    }

    /// Options with this setting's key, else as they come.
    pub fn options(&self) -> Options {
        let keys = if self.encrypted { vec![KEY.to_owned()] } else { Vec::new() };
        Options { keys, ..Options::default() }
    }

    /// Figures for the table that are wanted there if the cell fails, too.
    pub fn note(&self, figures: &str) {
        figures.clone_into(&mut self.noted.borrow_mut());
    }
}

/// Runs a cell's body and puts what it returns, figures of any kind, in the table; a panic is FAILED there.
pub fn run(what: &'static str, encrypted: bool, body: fn(&Setting) -> String) {
    if !available() {
        return;
    }
    let mut line = Line { what, setting: Setting::new(encrypted), result: "FAILED" };
    let figures = body(&line.setting);
    line.setting.note(&figures);
    line.result = "ok";
}

/// Of the table; written when dropped.
struct Line {
    what: &'static str,
    setting: Setting,
    result: &'static str,
}

impl Drop for Line {
    fn drop(&mut self) {
        let setting = if self.setting.encrypted { "encrypted" } else { "plain" };
        let figures = self.setting.noted.borrow();
        // Of this run alone; scripts/interop makes the table of it.
        results::append("INTEROP_RESULTS", &[self.what, setting, self.result, &figures]);
    }
}

/// Whether the real peers and the means to disturb them are here.
pub fn available() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let Some(missing) = MISSING.get_or_init(missing) else { return true };
    skip(&format!("no real peers: {missing}; scripts/setup installs what is missing"));
    false
}

fn missing() -> Option<String> {
    net::missing(&[("serf", &["version"])])
        .or_else(|| bare::program().err().map(|why| format!("the memberlist program cannot be built: {why}")))
}

/// For something everybody is to know. Gossip sends each piece of news four times among five, to members picked at
/// random, so once in some hundred times somebody misses it; its next push/pull tells. In memberlist's profile lan
/// that is 30 s later at the most, but the first one after a start comes only after 30 to 60 s, by chance. Half as
/// much again, for a machine that is busy.
pub const EVENTUALLY: Duration = Duration::from_secs(90);
/// For something everybody is to know unless gossip missed somebody.
pub const SOON: Duration = Duration::from_secs(10);
/// So often a cluster is tried, where gossip may miss somebody. Among six that happens in a few of a hundred starts,
/// with Serf agents alone as well; three times in a row, it was not by chance.
pub const TRIES: usize = 3;

/// Starts a cluster that agrees within [`SOON`], and says after what time, and how often it took longer before.
pub fn agreeing(start: impl Fn() -> Cluster) -> (Cluster, String) {
    let mut late = Vec::new();
    while late.len() < TRIES {
        let cluster = start();
        let took = cluster.wait_for_agreement(EVENTUALLY);
        if took <= SOON {
            let before =
                if late.is_empty() { String::new() } else { format!(", before {}", late.join(", ")) };
            return (cluster, format!("agree after {}{before}", seconds(took)));
        }
        late.push(seconds(took));
    }
    panic!("no agreement within {SOON:?}, but after {late:?}");
}

/// Members in a network of their own; `n1` is at place 1, and so on.
pub struct Cluster {
    pub peers: Vec<Box<dyn Peer>>,
    pub net: Rc<Net>,
}

impl Cluster {
    /// One after the other; all but the first join the first.
    pub fn start(kinds: &[Kind], options: &Options) -> Self {
        let net = Rc::new(Net::new(u8::try_from(kinds.len()).expect("few nodes")));
        let mut cluster = Self { peers: Vec::new(), net };
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
