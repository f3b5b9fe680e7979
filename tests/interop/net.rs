//! A network of a cell's own: a namespace per node, joined by one that routes, and ways to disturb it.
//!
//! The nodes' packets are forwarded, so what is dropped on the way is dropped silently, and it is known who sent it;
//! the router itself, where the test is, reaches everybody at any time. Nothing outlives the test process: a namespace
//! is there while a process is in it or a descriptor of it is open.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::daemon::wait_for;

pub const FORWARDING: &str = "/proc/sys/net/ipv4/ip_forward";

/// The router's address on every link.
pub const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 254);

/// The longest that a new link may take to work; each try lasts a hundredth of it.
const LINK_UP: Duration = Duration::from_secs(10);

pub struct Net {
    home: File,
    router: File,
    nodes: RefCell<Vec<File>>,
}

impl Net {
    /// A network of nodes 1 to `count`. The calling thread and what it starts are at the router from now on.
    pub fn new(count: u8) -> Self {
        let home = File::open("/proc/thread-self/ns/net").expect("Linux has namespaces");
        let holder = Holder::new();
        let net = Self { home, router: holder.namespace(), nodes: RefCell::default() };
        enter(&net.router);
        fs::write(FORWARDING, "1").expect("namespaces have settings of their own");
        // IPv6 may be missing.
        drop(fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1"));
        pipe("nft", &["-f", "-"], RULES);
        pipe("ip", &["-batch", "-"], "link set lo up\n");
        let nodes: Vec<u8> = (0..count).map(|_| net.make_node()).collect();
        nodes.into_iter().for_each(|n| net.wait_for_link(n));
        net
    }

    /// One node more, or another address for one that is to move; returns its number.
    pub fn add_node(&self) -> u8 {
        let n = self.make_node();
        self.wait_for_link(n);
        n
    }

    fn make_node(&self) -> u8 {
        let n = u8::try_from(self.nodes.borrow().len() + 1).expect("few nodes");
        let holder = Holder::new();
        let (v4, v6) = (addr(n), addr6(n));
        let router6 = addr6(u8::MAX);
        let outer = format!(
            "link add n{n} type veth peer name eth0 netns {}\nlink set n{n} up\n\
             addr add {ROUTER} peer {v4} dev n{n}\n",
            holder.child.id(),
        );
        pipe("ip", &["-batch", "-"], &outer);
        // Where IPv6 is switched off this fails; see `has_v6`.
        drop(try_pipe("ip", &["-batch", "-"], &format!("addr add {router6} peer {v6} dev n{n} nodad\n")));
        self.nodes.borrow_mut().push(holder.namespace());
        let inner = format!(
            "link set lo up\nlink set eth0 up\n\
             addr add {v4} peer {ROUTER} dev eth0\nroute add default via {ROUTER}\n"
        );
        let inner6 = format!(
            "addr add {v6} peer {router6} dev eth0 nodad\nroute add ::/0 via {router6} dev eth0 onlink\n"
        );
        self.within(n, || {
            pipe("ip", &["-batch", "-"], &inner);
            drop(try_pipe("ip", &["-batch", "-"], &inner6));
        });
        n
    }

    /// Whether the nodes have their IPv6 addresses.
    pub fn has_v6(&self) -> bool {
        self.within(1, || UdpSocket::bind((addr6(1), 0)).is_ok())
    }

    /// A link that has just been set up drops what is sent for up to a second. Once a refusal comes back, it works both
    /// ways.
    fn wait_for_link(&self, n: u8) {
        wait_for("the link to work", LINK_UP, || {
            let tried = TcpStream::connect_timeout(&SocketAddr::new(addr(n), 1), LINK_UP / 100);
            tried.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
        });
    }

    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.borrow().len()
    }

    /// Does it at node `n`, 0 is the router: what is started there lives there.
    pub fn within<T>(&self, n: u8, work: impl FnOnce() -> T) -> T {
        if n > 0 {
            enter(&self.nodes.borrow()[usize::from(n) - 1]);
        }
        let done = work();
        enter(&self.router);
        done
    }

    /// No UDP between two nodes, either way.
    pub fn drop_udp(&self, a: u8, b: u8) {
        self.drop_udp_one_way(a, b);
        self.drop_udp_one_way(b, a);
    }

    pub fn drop_udp_one_way(&self, from: u8, to: u8) {
        rule(&format!("cuts iifname n{from} oifname n{to} meta l4proto udp drop"));
    }

    /// Nothing at all between two nodes.
    pub fn drop_all(&self, a: u8, b: u8) {
        self.drop_one_way(a, b);
        self.drop_one_way(b, a);
    }

    /// Nothing at all from one node to another; the other way all passes.
    pub fn drop_one_way(&self, from: u8, to: u8) {
        rule(&format!("cuts iifname n{from} oifname n{to} drop"));
    }

    /// The cable of node `n` is pulled: nothing between it and the other nodes.
    pub fn cut(&self, n: u8) {
        rule(&format!("cuts iifname n{n} drop"));
        rule(&format!("cuts oifname n{n} drop"));
    }

    /// Undoes all of the above, and what tests added to these chains with [`rule`].
    pub fn heal(&self) {
        pipe("nft", &["-f", "-"], "flush chain inet interop cuts\nflush chain inet interop gone\n");
    }

    /// From now on so many of a hundred packets between nodes are lost, TCP's too; 0 ends it.
    pub fn lose(&self, percent: u32) {
        pipe("nft", &["-f", "-"], "flush chain inet interop loss\n");
        if percent > 0 {
            rule(&format!("loss numgen random mod 100 < {percent} drop"));
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        enter(&self.home);
    }
}

/// Node `n`'s address; see [`addr6`] for the other.
pub fn addr(n: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, n).into()
}

/// Node `n`'s IPv6 address; 255 is the router.
pub fn addr6(n: u8) -> IpAddr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, n.into()).into()
}

const RULES: &str = "
table inet interop {
    # Between nodes; and, of the rules of the tests, what the router itself must not get either.
    chain cuts { }
    chain gone { }
    chain loss { }
    chain input {
        type filter hook input priority 0; policy accept
        jump gone
    }
    chain forward {
        type filter hook forward priority 0; policy accept
        jump cuts
        jump gone
        jump loss
    }
}
";

/// Adds a rule, `CHAIN MATCH VERDICT`.
pub fn rule(text: &str) {
    pipe("nft", &["-f", "-"], &format!("add rule inet interop {text}\n"));
}

/// What is missing of these programs (with arguments that do no harm) and of what [`Net`] needs.
pub fn missing(programs: &[(&str, &[&str])]) -> Option<String> {
    let quiet = |program: &str, args: &[&str]| {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let own: [(&str, &[&str]); 3] = [("ip", &["-V"]), ("nft", &["--version"]), ("setpriv", &["--version"])];
    let absent = programs.iter().chain(&own).find(|(program, args)| !quiet(program, args));
    absent
        .map(|(program, _)| format!("{program} is not installed"))
        .or_else(|| works().err().map(|why| format!("no networks can be made here (are you root?): {why}")))
}

/// Whether all that the tests need can be had in a namespace of its own: links, forwarding, rules that drop by chance.
/// An error says what cannot.
fn works() -> Result<(), String> {
    let script =
        format!("set -e; ip link add n1 type veth peer name eth0; echo 1 >{FORWARDING}; exec nft -f -");
    let rules = format!("{RULES}add rule inet interop loss iifname n1 numgen random mod 100 < 5 drop\n");
    try_pipe("unshare", &["--net", "sh", "-c", &script], &rules)
}

/// Runs a program on a text; it must succeed.
pub fn pipe(program: &str, args: &[&str], input: &str) {
    try_pipe(program, args, input).unwrap_or_else(|why| panic!("{why}; told:\n{input}"));
}

fn try_pipe(program: &str, args: &[&str], input: &str) -> Result<(), String> {
    let started = Command::new(program).args(args).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = started.map_err(|e| format!("{program}: {e}"))?;
    // Who does not read it says why.
    drop(child.stdin.take().expect("a pipe").write_all(input.as_bytes()));
    let output = child.wait_with_output().expect("our child");
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("{program} {args:?}: {}", said.trim())) }
}

/// Moves this thread, and only this one.
fn enter(namespace: &File) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
}

/// A process in a new network namespace; the namespace goes with it unless somebody else uses it by then.
struct Holder {
    child: Child,
}

impl Holder {
    fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is essential");
        let mut line = String::new();
        let out = child.stdout.take().expect("a pipe");
        BufReader::new(out).read_line(&mut line).expect("a pipe");
        assert_eq!(line, "\n", "no new network namespace; see the error above");
        Self { child }
    }

    fn namespace(&self) -> File {
        File::open(format!("/proc/{}/ns/net", self.child.id())).expect("it runs")
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
