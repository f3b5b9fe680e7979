//! What the cluster's nodes have in common, and what configuration a node makes of it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use picored::agent::{self, AppConfig};
use picored::check::attempt::{ExecTarget, Target};
use picored::check::{self, CheckConfig};
use picored::delivery::{self, Mode, Place};
use picored::membership::{self, Timing};
use picored::safety::{self, AllDown, AppPolicy, MinUp, OnNoQuorum, Verify};
use picored::wire::crypt::{Key, KeyRing};

use crate::{hours, mins, secs};

/// The port of the first app, on every machine's own address and on its public one.
pub const APP_PORT: u16 = 8_000;
/// Where witnesses answer.
const WITNESS_PORT: u16 = 53;

/// Who is in whose `join`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joins {
    /// Everybody names the first so many nodes.
    First(usize),
    /// Each names the one before it only; the first one nobody.
    Chain,
}

/// What the cluster's nodes have in common; [`Settings::config`] makes a node's configuration of it.
#[derive(Clone)]
pub struct Settings {
    pub timing: Timing,
    pub apps: Vec<String>,
    pub min_up: MinUp,
    pub all_down: AllDown,
    /// Others make sure at a failed node's public address before they remove it.
    pub verify: bool,
    /// Each node publishes an IPv6 address, too.
    pub dual_stack: bool,
    /// One `sync` handler named `dns` for all apps.
    pub handler: bool,
    /// Other handlers, besides `dns`.
    pub handlers: Vec<delivery::Config>,
    /// Apps are checked by a program instead of a connection.
    pub exec: bool,
    pub resync: Duration,
    pub check_interval: Duration,
    pub joins: Joins,
    /// Everybody's `members` names all.
    pub members: bool,
    pub quorum: bool,
    pub on_no_quorum: OnNoQuorum,
    /// Endpoints that everybody asks, and how many of them must answer.
    pub witnesses: usize,
    pub witness_min: usize,
    /// In percent.
    pub max_remove: Option<u8>,
    pub key: Option<[u8; 16]>,
}

/// The timing of the default profile, `picored`.
pub fn picored_timing() -> Timing {
    picored::config::profile::timing("picored")
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: picored_timing(),
            apps: Vec::new(),
            min_up: MinUp::Count(1),
            all_down: AllDown::Keep,
            verify: true,
            dual_stack: false,
            handler: true,
            handlers: Vec::new(),
            exec: false,
            resync: mins(10),
            check_interval: secs(10),
            joins: Joins::First(3),
            members: false,
            quorum: true,
            on_no_quorum: OnNoQuorum::Freeze,
            witnesses: 0,
            witness_min: 1,
            max_remove: None,
            key: None,
        }
    }
}

/// Where the app with this index listens, on its own machine.
pub fn app_target(index: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), app_port(index))
}

/// Where the public finds the app with this index, on each machine's address.
pub fn app_port(index: usize) -> u16 {
    APP_PORT + index as u16
}

/// The first gossip address of the node with this index.
pub fn first_address(index: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 0, (index / 200) as u8, (index % 200) as u8 + 1).into(), 7_946)
}

/// What the node with this index publishes besides, if all are dual-stack.
pub fn second_address(index: usize) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, index as u16 + 1).into()
}

pub fn witness_address(index: usize) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(192, 0, 2, index as u8 + 1).into(), WITNESS_PORT)
}

/// Which witness answers there.
pub fn witness_at(addr: SocketAddr) -> Option<usize> {
    (0..16).find(|&index| witness_address(index) == addr)
}

impl Settings {
    /// The addresses in the `join` of the node with this index, its own left out.
    fn join_of(&self, index: usize, advertise: SocketAddr, nodes: usize) -> Vec<SocketAddr> {
        let named: Vec<usize> = match self.joins {
            Joins::First(count) => (0..count.min(nodes)).collect(),
            Joins::Chain => index.checked_sub(1).into_iter().collect(),
        };
        named.into_iter().map(first_address).filter(|&addr| addr != advertise).collect()
    }

    /// Whom the configuration of the node with this index lets it expect, of these names.
    pub fn expected_by(&self, index: usize, advertise: SocketAddr, names: &[String]) -> BTreeSet<String> {
        let join = self.join_of(index, advertise, names.len());
        let is_expected =
            |(other, _): &(usize, &String)| self.members || join.contains(&first_address(*other));
        names.iter().enumerate().filter(is_expected).map(|(_, name)| name.clone()).collect()
    }

    /// For the node with this index among `names`.
    pub fn config(
        &self,
        index: usize,
        names: &[String],
        advertise: SocketAddr,
        timing: &Timing,
    ) -> agent::Config {
        let join = self.join_of(index, advertise, names.len());
        let key = |bytes: [u8; 16]| Key::new(&bytes).expect("16 bytes are a key");
        let members = if self.members { names } else { &[] };
        agent::Config {
            membership: membership::Config {
                node: names[index].as_str().into(),
                cluster: "default".into(),
                advertise,
                label: Box::default(),
                keys: KeyRing { keys: self.key.map(key).into_iter().collect() },
                delegate_versions: [2, 5, 5],
                timing: timing.clone(),
                join: join.into_iter().map(membership::Target::Addr).collect(),
                members: members.iter().map(|name| name.as_str().into()).collect(),
                allow: Vec::new(),
                forget_after: hours(72),
            },
            apps: (0..self.apps.len()).map(|index| self.app(index)).collect(),
            handlers: self.all_handlers(),
            safety: self.safety(),
            publish: match self.dual_stack {
                true => vec![advertise.ip(), second_address(index)],
                false => Vec::new(),
            },
            tags: Vec::new(),
            keys_file: None,
        }
    }

    fn safety(&self) -> safety::Config {
        safety::Config {
            quorum: self.quorum,
            on_no_quorum: self.on_no_quorum,
            witness: (0..self.witnesses).map(|index| Target::Tcp(witness_address(index))).collect(),
            witness_min: self.witness_min,
            max_remove: self.max_remove,
            ..safety::Config::default()
        }
    }

    pub fn all_handlers(&self) -> Vec<delivery::Config> {
        let dns = (self.handler && !self.apps.is_empty()).then(|| self.handler());
        dns.into_iter().chain(self.handlers.iter().cloned()).collect()
    }

    fn app(&self, index: usize) -> AppConfig {
        let program = || ExecTarget {
            argv: vec!["/usr/local/lib/picored/check".into(), index.to_string().into()],
            warn_ok: false,
        };
        let check = CheckConfig {
            target: match self.exec {
                true => Target::Exec(Box::new(program())),
                false => Target::Tcp(app_target(index)),
            },
            interval: self.check_interval,
            timeout: secs(5),
            rise: 2,
            fall: 3,
        };
        AppConfig {
            check: check::Config {
                name: self.apps[index].as_str().into(),
                checks: vec![check],
                grace: secs(30),
                hold_up: secs(15),
            },
            policy: AppPolicy {
                min_up: self.min_up,
                all_down: self.all_down.clone(),
                verify: self.verify.then(|| Verify::Tcp { port: app_port(index) }),
                hold_up: secs(15),
            },
            publish: Vec::new(),
        }
    }

    /// One `sync` handler named `dns` for all apps.
    pub fn handler(&self) -> delivery::Config {
        let mut apps: Vec<Box<str>> = self.apps.iter().map(|app| app.as_str().into()).collect();
        apps.sort_unstable();
        delivery::Config {
            name: "dns".into(),
            run: vec!["/etc/picored/handlers/nsupdate".into()],
            mode: Mode::Sync,
            apps,
            place: Place::One,
            events: Vec::new(),
            member_events: Vec::new(),
            timeout: secs(30),
            debounce: secs(3),
            min_interval: secs(5),
            resync: self.resync,
            env: Vec::new(),
            secrets: Vec::new(),
            user: None,
        }
    }

    /// As many good instances are needed among `known` ones that are not in maintenance.
    pub fn needed(&self, known: usize) -> usize {
        match self.min_up {
            MinUp::Count(count) => count as usize,
            MinUp::Percent(percent) => (known * usize::from(percent)).div_ceil(100).max(1),
        }
    }

    /// A list that stands in for the servers, where `all_down` gives one.
    pub fn fallback(&self) -> &[IpAddr] {
        match &self.all_down {
            AllDown::Fallback(list) => list,
            _ => &[],
        }
    }
}
