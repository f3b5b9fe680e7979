//! The servers of a scenario round their router, which is also BIND, the witness and whoever looks on.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::dns::{self, Scripts};
use crate::net::{self, Net, ROUTER, addr, pipe, rule};
use crate::peer::{self, Kind, Options, PORT, Peer, Process};
use crate::picored::Picored;
use crate::poller::{Poller, Sample, now};
use crate::runs::{self, Run};
use crate::verdict::{Verdict, names, story};

/// For tests only.
const KEY: &str = "cGljb3JlZCBhbmQgc2VyZiwgb25seSBmb3IgdGVzdHM=";
const WITNESS_PORT: u16 = 9;

/// As long nothing must have happened before a scenario begins: views are stable, state files written.
const QUIET: Duration = Duration::from_secs(6);
/// The longest until the records are right after a start.
const STARTED: Duration = Duration::from_secs(60);
/// After a cut is healed, as long it may take until all know of each other again.
const REUNION_SECS: f64 = 10.0;

pub struct World {
    pub net: Rc<Net>,
    pub nodes: Vec<Node>,
    pub scripts: Scripts,
    poller: Poller,
    witness: RefCell<Option<Witness>>,
    apart: RefCell<Vec<(f64, f64)>>,
    began: Cell<f64>,
    _named: Process,
}

/// One server: a web server, and what watches it.
pub struct Node {
    pub n: u8,
    pub web: Process,
    pub agent: Box<dyn Peer>,
}

/// What a scenario's servers are.
pub struct Setup {
    pub nodes: u8,
    pub kind: Kind,
    /// Changes picored's configuration.
    pub change: fn(&mut Value),
}

impl Setup {
    pub fn picored(nodes: u8) -> Self {
        Self { nodes, kind: Kind::Picored, change: |_| () }
    }

    pub fn with(mut self, change: fn(&mut Value)) -> Self {
        self.change = change;
        self
    }
}

impl World {
    /// Starts everything, and waits until all servers are published and nothing happens any more.
    pub fn start(setup: &Setup) -> Self {
        let net = Rc::new(Net::new(setup.nodes));
        let named = dns::start(&net);
        let mut world = Self {
            scripts: Scripts::new(&named),
            poller: Poller::start(setup.nodes),
            witness: RefCell::new(Some(Witness::start())),
            nodes: Vec::new(),
            apart: RefCell::default(),
            began: Cell::new(now()),
            _named: named,
            net,
        };
        for n in 1..=setup.nodes {
            let mut web = Process::new(&world.net, n, &format!("web{n}"), Options::default());
            start_web(&mut web);
            let agent = peer::start(setup.kind, &world.net, n, &format!("n{n}"), world.options(setup, n));
            world.nodes.push(Node { n, web, agent });
        }
        world.wait_for_records(&world.all(), STARTED);
        world.wait("all to agree", STARTED, || world.agree());
        assert!(world.wait_until_quiet(QUIET), "no peace after the start:\n{}", world.story());
        world.began.set(now());
        world
    }

    fn options(&self, setup: &Setup, n: u8) -> Options {
        let others = (1..=setup.nodes).filter(|&other| other != n);
        let join = others.map(|other| SocketAddr::new(addr(other), PORT)).collect();
        let options = Options { keys: vec![KEY.into()], join, ..Options::default() };
        if setup.kind == Kind::Serf {
            let handler =
                format!("-event-handler=member-failed,member-join={}", self.scripts.serf().display());
            // What it is told to join is not tried again; this is, every 30 s unless told otherwise.
            let join = options.join.iter().map(|addr| format!("-retry-join={addr}"));
            let args = join.chain([handler, "-retry-interval=1s".into()]).collect();
            return Options { join: Vec::new(), args, ..options };
        }
        let mut config = settings(n, &self.scripts.picored());
        (setup.change)(&mut config);
        Options { config, ..options }
    }

    pub fn all(&self) -> Vec<u8> {
        self.nodes.iter().map(|node| node.n).collect()
    }

    pub fn others(&self, than: u8) -> Vec<u8> {
        self.all().into_iter().filter(|&n| n != than).collect()
    }

    pub fn node(&mut self, n: u8) -> &mut Node {
        &mut self.nodes[usize::from(n) - 1]
    }

    // --- trouble ---------------------------------------------------------------------------------

    /// The router no longer forwards: nobody reaches another node, all reach BIND and the witness. Or it does again.
    pub fn forward(&self, forward: bool) {
        fs::write(net::FORWARDING, if forward { "1" } else { "0" })
            .expect("namespaces have settings of their own");
        if forward { self.together() } else { self.are_apart() }
    }

    /// No gossip between `n` and others, or between any where there is no `n`: neither UDP nor TCP.
    pub fn block_gossip(&self, n: Option<u8>) {
        let sides = match n {
            Some(n) => vec![format!("iifname n{n}"), format!("oifname n{n}")],
            None => vec![String::new()],
        };
        for side in sides {
            rule(&format!("cuts {side} meta l4proto {{ tcp, udp }} th dport {PORT} drop"));
        }
        self.are_apart();
    }

    /// Nothing between `n` and other nodes; it reaches BIND and the witness.
    pub fn cut(&self, n: u8) {
        self.net.cut(n);
        self.are_apart();
    }

    /// `n` reaches nobody and nobody reaches it. What it sends vanishes on the way.
    pub fn isolate(&self, n: u8) {
        rule(&format!("gone iifname n{n} drop"));
        rule(&format!("gone oifname n{n} drop"));
        self.are_apart();
    }

    /// Ends all cuts, and starts to forward again.
    pub fn heal(&self) {
        self.net.heal();
        self.together();
    }

    /// Pulls the plug at `n` itself: sending fails there.
    pub fn unplug(&self, n: u8) {
        self.net.within(n, || pipe("ip", &["-batch", "-"], "link set eth0 down\n"));
        self.are_apart();
    }

    pub fn plug(&self, n: u8) {
        let up = format!("link set eth0 up\nroute add default via {ROUTER}\n");
        self.net.within(n, || pipe("ip", &["-batch", "-"], &up));
        self.together();
    }

    pub fn stop_witness(&self) {
        self.witness.take();
    }

    /// kill -9 of all that runs at `n`, but for its web server if that is spared.
    pub fn kill_all(&mut self, n: u8, spare_web: bool) {
        let spared = self.nodes[usize::from(n) - 1].web.pid().filter(|_| spare_web);
        for pid in self.processes(n).into_iter().filter(|&pid| Some(pid) != spared) {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::KILL);
        }
        let node = self.node(n);
        node.agent.kill();
        if !spare_web {
            node.web.kill();
        }
    }

    pub fn start_web(&mut self, n: u8) {
        start_web(&mut self.node(n).web);
    }

    fn processes(&self, n: u8) -> Vec<u32> {
        let namespace = |of: String| fs::read_link(format!("/proc/{of}/ns/net")).ok();
        let wanted = self.net.within(n, || namespace("thread-self".into()));
        let all = fs::read_dir("/proc").expect("Linux").flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        pids.filter(|pid| namespace(pid.to_string()) == wanted).collect()
    }

    fn are_apart(&self) {
        self.apart.borrow_mut().push((now(), f64::INFINITY));
    }

    fn together(&self) {
        for (_, until) in self.apart.borrow_mut().iter_mut().filter(|(_, until)| until.is_infinite()) {
            *until = now() + REUNION_SECS;
        }
    }

    // --- what is seen ----------------------------------------------------------------------------

    /// What was seen since the scenario began.
    pub fn verdict(&self) -> Verdict {
        Verdict::new(&self.samples(), &self.runs(), &self.apart.borrow())
    }

    /// What happens from now on counts, what happened until now no longer.
    pub fn begin(&self) {
        self.began.set(now());
    }

    fn samples(&self) -> Vec<Sample> {
        let mut samples = self.poller.samples();
        // One before: what was there when it began.
        let first = samples.iter().position(|sample| sample.at >= self.began.get()).unwrap_or(samples.len());
        samples.drain(..first.saturating_sub(1));
        samples
    }

    /// Since the scenario began.
    pub fn runs(&self) -> Vec<Run> {
        let mut runs = runs::parse(&self.scripts.log());
        runs.retain(|run| run.began >= self.began.get());
        runs
    }

    /// Who ran the handler last.
    pub fn runner(&self) -> u8 {
        runs::parse(&self.scripts.log()).last().expect("somebody published all").node
    }

    pub fn records(&self) -> BTreeSet<u8> {
        self.poller.last().map(|sample| sample.set).unwrap_or_default()
    }

    /// Waits until exactly these are published; how long it took.
    pub fn wait_for_records(&self, set: &[u8], limit: Duration) -> Duration {
        let wanted = set.iter().copied().collect();
        self.wait(&format!("{} to be published", names(&wanted)), limit, || self.records() == wanted)
    }

    /// Waits until it is so; how long it took.
    pub fn wait(&self, what: &str, limit: Duration, mut done: impl FnMut() -> bool) -> Duration {
        let started = Instant::now();
        while !done() {
            assert!(started.elapsed() < limit, "waited {limit:?} in vain for {what}");
            thread::sleep(Duration::from_millis(100));
        }
        started.elapsed()
    }

    /// Looks on, for as long as a scenario says that its trouble lasts or that nothing must happen.
    pub fn look_on(&self, secs: u64) {
        thread::sleep(Duration::from_secs(secs));
    }

    /// Waits until no run was under way for so long; false: it never was within ten times that.
    pub fn wait_until_quiet(&self, quiet: Duration) -> bool {
        let limit = Instant::now() + 10 * quiet;
        let busy = |run: &Run| run.ended.unwrap_or(run.began) > now() - quiet.as_secs_f64();
        let mut since = Instant::now();
        while since.elapsed() < quiet && Instant::now() < limit {
            if runs::parse(&self.scripts.log()).last().is_some_and(busy) {
                since = Instant::now();
            }
            thread::sleep(Duration::from_millis(100));
        }
        since.elapsed() >= quiet
    }

    /// What node `n` says of another: `alive`, `failed` and so on.
    pub fn state(&self, n: u8, of: u8) -> String {
        self.nodes[usize::from(n) - 1].agent.state(&format!("n{of}"))
    }

    /// Whether all agents that run take exactly those that run for alive.
    pub fn agree(&self) -> bool {
        let runs = |n: &&Node| n.agent.process().answers();
        let running: BTreeSet<String> =
            self.nodes.iter().filter(runs).map(|node| node.agent.name().into()).collect();
        self.nodes.iter().filter(runs).all(|node| {
            let members = node.agent.members().into_iter();
            running == members.filter(|(_, member)| member.state == "alive").map(|(name, _)| name).collect()
        })
    }

    /// Seconds since the scenario began.
    pub fn age(&self) -> f64 {
        now() - self.began.get()
    }

    /// Waits until it is so.
    pub fn wait_for_failed(&self, n: u8, of: u8) {
        let what = format!("n{n} to say that n{of} failed");
        self.wait(&what, Duration::from_secs(60), || self.state(n, of) == "failed");
    }

    /// What `picored COMMAND` says at a node.
    pub fn said(&self, n: u8, command: &[&str]) -> String {
        let agent = &self.nodes[usize::from(n) - 1].agent;
        if agent.kind() != Kind::Picored || !agent.process().answers() {
            return String::new();
        }
        let output = Picored::command(agent.process(), command);
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// All that a node's agent ever logged.
    pub fn log(&self, n: u8) -> String {
        self.nodes[usize::from(n) - 1].agent.log()
    }

    pub fn story(&self) -> String {
        story(&self.samples(), &self.runs())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        eprintln!("seconds since the scenario began:\n{}", self.story());
        for n in self.all() {
            let said = [self.said(n, &["why", "web"]), self.said(n, &["status"])].concat();
            eprintln!(
                "n{n}, log in {}:\n{said}",
                self.nodes[usize::from(n) - 1].agent.process().folder.path.display()
            );
        }
    }
}

/// A node's configuration but for what [`Picored::configure`] writes. Checks and delays are fast, so that a scenario
/// takes minutes; none is so fast that nobody would use it.
fn settings(n: u8, handler: &Path) -> Value {
    let url = format!("http://{}/health", addr(n));
    json!({
        "log": { "level": "debug" },
        "apps": { "web": {
            "interval": "1s", "timeout": "1s", "rise": 1, "fall": 2, "grace": "2s", "hold_up": "3s",
            "checks": [{ "http": url, "body_contains": "OK" }],
        } },
        "handlers": { "dns": {
            "run": [handler], "timeout": "20s", "debounce": "1s", "min_interval": "1s",
        } },
        "safety": {
            "settle": "10s", "half_delay": "5s", "node_down_after": "2s",
            "witness": [format!("tcp://{ROUTER}:{WITNESS_PORT}")],
        },
    })
}

fn start_web(web: &mut Process) {
    let folder = web.folder.path.display().to_string();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temporary: String = kinds.map(|kind| format!("{kind}_temp_path {folder}/tmp;\n")).concat();
    let conf = format!(
        "user root; daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr warn;\n\
         events {{ worker_connections 64; }}\n\
         http {{ access_log off; {temporary}\n\
         server {{ listen {}:80; default_type text/plain; root {folder}; }} }}\n",
        addr(web.place)
    );
    fs::write(web.folder.file("nginx.conf"), conf).expect("own folder");
    fs::write(web.folder.file("health"), "OK\n").expect("own folder");
    let args = ["-e", "stderr", "-p", &folder, "-c", &format!("{folder}/nginx.conf")];
    web.spawn(Path::new("nginx"), &args.map(str::to_owned));
}

/// What nodes try to see whether they are on the Internet: a TCP listener at the router. Refuses once it is dropped.
struct Witness {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Witness {
    const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(ROUTER), WITNESS_PORT);

    fn start() -> Self {
        let listener = TcpListener::bind(Self::ADDR).expect("it is the router's");
        let ended = Arc::new(AtomicBool::new(false));
        let until = ended.clone();
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                drop(stream);
                if until.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        Self { ended, thread: Some(thread) }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the accept up.
        drop(TcpStream::connect(Self::ADDR));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
