//! The gates between "the desired set differs from what is published" and "act" (`interfaces`, section 5).
//!
//! Gates 1 to 4 stop the node: [`settle`], [`doubt`], the witness and [`quorum`] over the [`electorate`]. 5, 6 and the
//! table hold single addresses, 7 looks at the set that results: [`table`]. 8 limits what may go at once:
//! [`max_remove`]. What others answer, for 3 and 5, is asked by [`verify`]. Each gives its [`Reason`] as a value.

pub mod doubt;
pub mod electorate;
pub mod max_remove;
pub mod quorum;
mod reason;
mod saved;
pub mod settle;
pub mod table;
pub mod verify;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;

use crate::check::attempt::{Body, HttpTarget, Target};
use crate::time::Instant;
pub use reason::Reason;
pub use saved::Saved;
pub use table::decide;

/// The `safety` part of the configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `quorum: auto`; false is `off`.
    pub quorum: bool,
    /// What a node asks to see whether it is itself cut off: tcp or http, literal addresses.
    pub witness: Vec<Target>,
    /// So many of them must answer.
    pub witness_min: usize,
    pub half_delay: Duration,
    /// `None`: never.
    pub minority_delay: Option<Duration>,
    pub on_no_quorum: OnNoQuorum,
    pub node_down_after: Duration,
    pub settle: Duration,
    /// Share in percent that may leave G within 5 min; `None`: off.
    pub max_remove: Option<u8>,
}

impl Default for Config {
    /// The defaults of the configuration file.
    fn default() -> Self {
        Self {
            quorum: true,
            witness: Vec::new(),
            witness_min: 1,
            half_delay: Duration::from_secs(15),
            minority_delay: None,
            on_no_quorum: OnNoQuorum::Freeze,
            node_down_after: Duration::from_secs(5),
            settle: Duration::from_secs(20),
            max_remove: None,
        }
    }
}

/// What a node without quorum does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNoQuorum {
    Freeze,
    /// Takes its own addresses away, and nothing else.
    WithdrawSelf,
}

/// What the gates need to know of one app's settings.
#[derive(Clone, Debug, PartialEq)]
pub struct AppPolicy {
    pub min_up: MinUp,
    pub all_down: AllDown,
    /// How another node sees whether a failed node still serves the app; `None`: it cannot.
    pub verify: Option<Verify>,
    /// How long a member that was failed must be back before its address is.
    pub hold_up: Duration,
}

/// Where an app answers the public: a target without its address.
#[derive(Clone, Debug, PartialEq)]
pub enum Verify {
    Tcp {
        port: u16,
    },
    /// `host`: the Host header as the check has it; `None`: the address.
    Http {
        port: u16,
        host: Option<Box<str>>,
        path: Box<str>,
    },
}

/// How many good instances there must be for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MinUp {
    Count(u32),
    /// Of the app's known nodes not in maintenance, rounded up.
    Percent(u8),
}

/// What is published when there are fewer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllDown {
    Keep,
    All,
    Empty,
    Fallback(Vec<IpAddr>),
}

/// One published address and the node it belongs to (empty for a fallback address). Ordered by address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub addr: IpAddr,
    pub node: Rc<str>,
}

/// A set of them. A large cluster's is large, and in most places the same one: P, G, what the handlers told.
pub type Addresses = Rc<[Address]>;

impl Verify {
    /// The endpoint at `addr`. An HTTP answer counts if its status is 200 to 299, as with checks.
    pub fn target(&self, addr: IpAddr) -> Target {
        match self {
            Self::Tcp { port } => Target::Tcp(SocketAddr::new(addr, *port)),
            Self::Http { port, host, path } => {
                let addr = SocketAddr::new(addr, *port);
                let host = host.clone().unwrap_or_else(|| addr.to_string().into());
                let path = path.clone();
                Target::Http(Box::new(HttpTarget { addr, host, path, status: Vec::new(), body: Body::Any }))
            }
        }
    }
}

/// What the gates make of one app: the set G to publish, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// G, sorted by address; `None`: no run.
    pub publish: Option<Addresses>,
    /// The gate that decided otherwise than U.
    pub guard: Option<Reason>,
    /// Addresses that stay as they are in P, and why: in G because they are in P, or not in G because they are not.
    pub held: Vec<(Address, Reason)>,
    /// P without the own addresses, if enough good ones are left (gate 7): what `withdraw_self` tells.
    pub withdraw: Option<Addresses>,
    /// When to look again because a hold ends then (gates 6 and 8).
    pub until: Option<Instant>,
}

impl Verdict {
    /// What PICORED_GUARD says of this set.
    pub fn guard(&self) -> &'static str {
        self.guard.as_ref().map_or("", Reason::guard)
    }
}

fn contains(set: &[Address], addr: IpAddr) -> bool {
    set.iter().any(|entry| entry.addr == addr)
}

#[cfg(test)]
mod tests;
