//! The gates between "the desired set differs from what is published" and "act" (`interfaces`, section 5).
//!
//! Today: settle (gate 1), the table of single addresses without verify and hold, and `min_up`/`all_down` (gate 7).

mod saved;

use core::fmt;
use core::net::IpAddr;
use core::time::Duration;

use crate::check::AppState;
use crate::check::attempt::Target;
use crate::membership::State;
use crate::view::Instance;
pub use saved::Saved;

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
    pub node: Box<str>,
}

/// Why something is kept as it is, or told otherwise. Printed by `status`, the log and PICORED_GUARD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Gate 1: not all configured peers were reached, and `settle` is not over.
    Settling,
    /// Gate 1: an own check has no verdict yet.
    NoVerdictHere { app: Box<str> },
    /// Nothing was ever published by this node and some running instance has no verdict yet.
    NoVerdictThere { node: Box<str> },
    /// Gate 7, `keep`: what was published stays (PICORED_GUARD `keep-last`).
    KeepLast { good: usize, needed: usize },
    /// Gate 7, `keep`, and nothing was published yet: no run.
    NothingToKeep { good: usize, needed: usize },
    /// Gate 7, `all` or `empty` (PICORED_GUARD `min-up`).
    MinUp { good: usize, needed: usize },
    /// Gate 7, a list (PICORED_GUARD `fallback`).
    Fallback { good: usize, needed: usize },
}

impl Reason {
    /// What PICORED_GUARD says, empty where the reason does not reach a handler.
    pub fn guard(&self) -> &'static str {
        match self {
            Self::KeepLast { .. } => "keep-last",
            Self::MinUp { .. } => "min-up",
            Self::Fallback { .. } => "fallback",
            _ => "",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settling => write!(f, "still settling: not every configured peer was reached yet"),
            Self::NoVerdictHere { app } => write!(f, "the checks of {app} have no verdict here yet"),
            Self::NoVerdictThere { node } => {
                write!(f, "{node} has no verdict yet, and nothing was ever published")
            }
            Self::KeepLast { good, needed } => {
                write!(f, "only {good} of at least {needed} up: nothing is removed")
            }
            Self::NothingToKeep { good, needed } => {
                write!(f, "only {good} of at least {needed} up, and nothing was published that could be kept")
            }
            Self::MinUp { good, needed } => {
                write!(f, "only {good} of at least {needed} up: all_down decides what is published")
            }
            Self::Fallback { good, needed } => {
                write!(f, "only {good} of at least {needed} up: the fallback addresses are published")
            }
        }
    }
}

/// What the gates make of one app: the set G to publish, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// G, sorted by address; `None`: no run.
    pub publish: Option<Vec<Address>>,
    /// The gate that decided otherwise than U.
    pub guard: Option<Reason>,
    /// P without the own addresses, if enough good ones are left (gate 7): what `withdraw_self` tells.
    pub withdraw: Option<Vec<Address>>,
}

impl Verdict {
    /// What PICORED_GUARD says of this set.
    pub fn guard(&self) -> &'static str {
        self.guard.as_ref().map_or("", Reason::guard)
    }
}

/// Gate 1: whether this node knows enough to act at all.
///
/// `settled`: every configured peer was reached at some time, or [`Config::settle`] is over. `without_verdict`: an own
/// app whose checks have none yet.
pub fn settle(settled: bool, without_verdict: Option<&str>) -> Result<(), Reason> {
    if !settled {
        return Err(Reason::Settling);
    }
    match without_verdict {
        Some(app) => Err(Reason::NoVerdictHere { app: app.into() }),
        None => Ok(()),
    }
}

/// Gates of single addresses and of the set, as one function over values.
/// `published` is P, `None` if this node never published.
pub fn decide(instances: &[Instance], published: Option<&[Address]>, policy: &AppPolicy) -> Verdict {
    if published.is_none()
        && let Some(silent) = instances.iter().find(|i| i.member.is_running() && i.app == AppState::Unknown)
    {
        let reason = Reason::NoVerdictThere { node: silent.node.clone() };
        return Verdict { publish: None, guard: Some(reason), withdraw: None };
    }
    let good = instances.iter().filter(|i| i.is_good()).count();
    let needed = policy.min_up.of(instances);
    if good >= needed {
        return Verdict {
            publish: Some(by_table(instances, published.unwrap_or_default())),
            guard: None,
            withdraw: None,
        };
    }
    below_min_up(instances, published, policy, good, needed)
}

/// Gate 7: what is published when too few are good.
fn below_min_up(
    instances: &[Instance],
    published: Option<&[Address]>,
    policy: &AppPolicy,
    good: usize,
    needed: usize,
) -> Verdict {
    // Who has no verdict yet (its picored was just restarted) is not taken away before it has one.
    let undecided = instances.iter().any(|i| {
        let shown = i.addrs.iter().any(|&addr| contains(published.unwrap_or_default(), addr));
        i.member.is_running() && i.app == AppState::Unknown && shown
    });
    let (publish, guard) = match &policy.all_down {
        AllDown::Keep => return keep_last(instances, published, good, needed),
        AllDown::Empty | AllDown::Fallback(_) if undecided => {
            return keep_last(instances, published, good, needed);
        }
        AllDown::All => {
            let known = |i: &Instance| match i.app {
                AppState::Maint => Judgement::Out,
                _ if i.member == State::Left => Judgement::Out,
                _ => Judgement::In,
            };
            let all = judged(instances, &[], known);
            // "All" that comes to nobody is no order to empty the records.
            if all.is_empty() {
                return keep_last(instances, published, good, needed);
            }
            (all, Reason::MinUp { good, needed })
        }
        AllDown::Empty => (Vec::new(), Reason::MinUp { good, needed }),
        AllDown::Fallback(list) => {
            let mut list: Vec<Address> =
                list.iter().map(|&addr| Address { addr, node: Box::default() }).collect();
            list.sort_unstable();
            list.dedup();
            (list, Reason::Fallback { good, needed })
        }
    };
    Verdict { publish: Some(publish), guard: Some(guard), withdraw: None }
}

impl MinUp {
    /// The number that this asks for. A percentage asks for one at least: with every node in
    /// maintenance it must not mean that nobody is needed.
    fn of(self, instances: &[Instance]) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Percent(percent) => {
                let counts = |i: &&Instance| i.member != State::Left && i.app != AppState::Maint;
                let known = instances.iter().filter(counts).count();
                known.saturating_mul(usize::from(percent)).div_ceil(100).max(1)
            }
        }
    }
}

/// What the table of section 5 says of an instance's addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Judgement {
    Out,
    AsPublished,
    In,
}

/// The set by the table of section 5, without verify and hold: a failed node's address goes.
fn by_table(instances: &[Instance], published: &[Address]) -> Vec<Address> {
    judged(instances, published, |i| match (i.member.is_running(), i.app) {
        (true, AppState::Up) => Judgement::In,
        (true, AppState::Unknown) => Judgement::AsPublished,
        _ => Judgement::Out,
    })
}

/// Nothing is removed. Without a P nothing is known that could be kept, and telling only the good ones would take
/// away what the outside may show.
fn keep_last(instances: &[Instance], published: Option<&[Address]>, good: usize, needed: usize) -> Verdict {
    let kept = published.map(|published| keep(instances, published)).filter(|kept| !kept.is_empty());
    let guard = match &kept {
        Some(_) => Reason::KeepLast { good, needed },
        None => Reason::NothingToKeep { good, needed },
    };
    Verdict { publish: kept, guard: Some(guard), withdraw: None }
}

/// P and the good ones.
fn keep(instances: &[Instance], published: &[Address]) -> Vec<Address> {
    let mut set = judged(instances, &[], |i| if i.is_good() { Judgement::In } else { Judgement::Out });
    set.extend(published.iter().filter(|old| !contains(&set, old.addr)).cloned().collect::<Vec<_>>());
    set.sort_unstable();
    set
}

/// The addresses that `judge` lets in. One that a running member publishes is judged by the running
/// members alone (renamed or replaced nodes); of several of these the one most in favour counts.
fn judged(
    instances: &[Instance],
    published: &[Address],
    judge: impl Fn(&Instance) -> Judgement,
) -> Vec<Address> {
    let mut best: Vec<(IpAddr, (bool, Judgement), &str)> = Vec::new();
    for instance in instances {
        let rank = (instance.member.is_running(), judge(instance));
        for &addr in &instance.addrs {
            match best.iter_mut().find(|entry| entry.0 == addr) {
                Some(entry) if rank > entry.1 => *entry = (addr, rank, &instance.node),
                Some(_) => {}
                None => best.push((addr, rank, &instance.node)),
            }
        }
    }
    best.retain(|&(addr, (_, judgement), _)| match judgement {
        Judgement::In => true,
        Judgement::AsPublished => contains(published, addr),
        Judgement::Out => false,
    });
    let mut set: Vec<Address> =
        best.into_iter().map(|(addr, _, node)| Address { addr, node: node.into() }).collect();
    set.sort_unstable();
    set
}

fn contains(set: &[Address], addr: IpAddr) -> bool {
    set.iter().any(|entry| entry.addr == addr)
}

#[cfg(test)]
mod tests;
