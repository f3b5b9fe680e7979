//! The table of single addresses with gates 5 and 6, and gate 7 over the set that results.
//!
//! Where gate 7 and the table disagree (below `min_up`, an address in P whose node left, moved, is down or in
//! maintenance), the invariant decides: no run takes an address away when fewer than `min_up` good ones would be left,
//! unless told `empty` or a list. So `keep` keeps all of P, and `all` adds every known node that is not in maintenance
//! to it; what the table wants gone goes as soon as enough are good again. Only what was forgotten is in no set: the
//! caller leaves it out of P, for that is a person's word ("gone from members, E and G").

use core::net::IpAddr;
use core::time::Duration;

use super::{Address, Addresses, AllDown, AppPolicy, MinUp, Reason, Verdict, contains};
use crate::check::AppState;
use crate::membership::State;
use crate::time::{Instant, earliest};
use crate::view::Instance;

/// One app as the gates look at it.
#[derive(Clone, Copy)]
pub struct Case<'a> {
    pub now: Instant,
    /// This node's name, for [`Verdict::withdraw`].
    pub me: &'a str,
    pub instances: &'a [Instance],
    /// P; `None`: this node never published.
    pub published: Option<&'a [Address]>,
    /// Somebody published, and this node does not know what: who failed may be in that set, and is treated as if.
    pub learns: bool,
    /// A person said to go on though not all have a verdict (`interfaces`, 4.5, rule 7): who has none is then taken for
    /// not published.
    pub released: bool,
    pub policy: &'a AppPolicy,
    pub node_down_after: Duration,
    /// Gate 5: what the last try of a failed node's endpoint gave.
    pub tried: &'a dyn Fn(&Instance) -> Tried,
}

/// Gate 5, of one failed node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tried {
    /// No try has ended yet.
    Not,
    Answered,
    /// None of its addresses answered, or there is nothing to try.
    Failed,
}

/// What the table of section 5 says of an instance's addresses.
#[derive(Clone, Debug)]
enum Judgement {
    Out,
    /// As in P, and why; until then, if time ends it.
    Held(Reason, Option<Instant>),
    In,
}

/// Gates 5 to 7.
pub fn decide(case: &Case<'_>) -> Verdict {
    if case.published.is_none()
        && !case.released
        && let Some(silent) =
            case.instances.iter().find(|i| i.member.is_running() && i.app == AppState::Unknown)
    {
        let reason = Reason::NoVerdictThere { node: silent.node.clone() };
        return Verdict { guard: Some(reason), ..Verdict::default() };
    }
    let table = case.by_table();
    let good = case.good(&table.set);
    let needed = case.policy.min_up.of(case.instances);
    let (publish, guard) = match good >= needed {
        true => (
            Some(table.set.into()),
            table.held.iter().map(|held| &held.1).find(|r| !r.guard().is_empty()).cloned(),
        ),
        false => case.below_min_up(&table, good, needed),
    };
    Verdict { publish, guard, held: table.held, withdraw: case.withdraw(needed), until: table.until }
}

/// The set by the table, and what was held.
struct Table {
    set: Vec<Address>,
    held: Vec<(Address, Reason)>,
    until: Option<Instant>,
}

impl Case<'_> {
    fn known(&self) -> &[Address] {
        self.published.unwrap_or_default()
    }

    fn by_table(&self) -> Table {
        let mut table = Table { set: Vec::new(), held: Vec::new(), until: None };
        for (address, judgement) in judged(self.instances, |i| self.judge(i)) {
            match judgement {
                Judgement::In => table.set.push(address),
                Judgement::Out => {}
                Judgement::Held(reason, until) => {
                    if contains(self.known(), address.addr) || (self.learns && reason.is_of_failed()) {
                        table.set.push(address.clone());
                    }
                    table.until = earliest([table.until, until]);
                    table.held.push((address, reason));
                }
            }
        }
        // What P does not show has nothing to lose.
        table.held.retain(|(address, reason)| {
            contains(&table.set, address.addr)
                || matches!(reason, Reason::NoVerdictYet { .. } | Reason::JustBack { .. })
        });
        table
    }

    fn judge(&self, i: &Instance) -> Judgement {
        let node = || i.node.clone();
        match (i.member, i.app) {
            _ if i.in_maintenance() => Judgement::Out,
            (State::Alive | State::Suspect, AppState::Unknown) => {
                Judgement::Held(Reason::NoVerdictYet { node: node() }, None)
            }
            (State::Alive | State::Suspect, AppState::Up) => match self.back_since(i) {
                Some(until) if !self.shows(i) => {
                    Judgement::Held(Reason::JustBack { node: node() }, Some(until))
                }
                _ => Judgement::In,
            },
            (State::Dead, AppState::Up | AppState::Unknown) => self.judge_failed(i),
            _ => Judgement::Out,
        }
    }

    /// Gates 5 and 6: a failed node stays as it is in P until it has failed for long enough and does not serve either.
    fn judge_failed(&self, i: &Instance) -> Judgement {
        let node = i.node.clone();
        let down_at = i.since + self.node_down_after;
        match (self.tried)(i) {
            Tried::Answered => Judgement::Held(Reason::StillServes { node }, None),
            _ if down_at > self.now => Judgement::Held(Reason::JustFailed { node }, Some(down_at)),
            Tried::Not => Judgement::Held(Reason::NotTried { node }, None),
            Tried::Failed => Judgement::Out,
        }
    }

    /// Gate 6: when the hold of a member that is back from failed ends; `None`: there is none.
    fn back_since(&self, i: &Instance) -> Option<Instant> {
        i.returned.map(|at| at + self.policy.hold_up).filter(|&until| until > self.now)
    }

    fn shows(&self, i: &Instance) -> bool {
        i.addrs.iter().any(|&addr| contains(self.known(), addr))
    }

    /// Whether it counts for `min_up`: up and alive, or failed and answering.
    fn is_good(&self, i: &Instance) -> bool {
        i.is_good() || (i.may_still_serve() && (self.tried)(i) == Tried::Answered)
    }

    /// How many nodes in `set` are good.
    fn good(&self, set: &[Address]) -> usize {
        let is_in = |i: &Instance| i.addrs.iter().any(|&addr| contains(set, addr));
        self.instances.iter().filter(|i| self.is_good(i) && is_in(i)).count()
    }

    /// Gate 7: what is published when too few are good.
    fn below_min_up(&self, table: &Table, good: usize, needed: usize) -> (Option<Addresses>, Option<Reason>) {
        let keep = || self.keep_last(table, good, needed);
        // Who is still being tried is not taken away before. And one without a verdict yet (its picored was just
        // restarted), or that is up and only just back, may make them enough within seconds, whether P shows it or not.
        let undecided = table.held.iter().any(|(address, reason)| match reason {
            Reason::StillServes { .. } => false,
            Reason::JustBack { .. } | Reason::NoVerdictYet { .. } => true,
            _ => contains(&table.set, address.addr),
        });
        let (publish, guard) = match &self.policy.all_down {
            AllDown::Keep => return keep(),
            // `all` adds the good ones in any case.
            AllDown::All if undecided => return keep(),
            _ if undecided => return self.wait(good, needed),
            AllDown::All => {
                let all = self.all();
                // "All" that comes to nobody is no order to empty the records.
                if all.is_empty() {
                    return keep();
                }
                (all, Reason::MinUp { good, needed })
            }
            AllDown::Empty => (Vec::new(), Reason::MinUp { good, needed }),
            AllDown::Fallback(list) => {
                let mut list: Vec<Address> =
                    list.iter().map(|&addr| Address { addr, node: "".into() }).collect();
                list.sort_unstable();
                list.dedup();
                (list, Reason::Fallback { good, needed })
            }
        };
        (Some(publish.into()), Some(guard))
    }

    /// P and the good ones: nothing is removed. Without a P nothing is known that could be kept, and telling only the
    /// good ones would take away what the outside may show.
    fn keep_last(&self, table: &Table, good: usize, needed: usize) -> (Option<Addresses>, Option<Reason>) {
        let is_good =
            |address: &&Address| self.instances.iter().any(|i| i.node == address.node && self.is_good(i));
        let set = table.set.iter().filter(is_good).cloned().collect();
        let kept: Option<Addresses> = self
            .published
            .map(|published| with(set, published).into())
            .filter(|kept: &Addresses| !kept.is_empty());
        let guard = match &kept {
            Some(_) => Reason::KeepLast { good, needed },
            None => Reason::NothingToKeep { good, needed },
        };
        (kept, Some(guard))
    }

    /// P as it is, until it is known how many are good: a restart somewhere changes nothing.
    fn wait(&self, good: usize, needed: usize) -> (Option<Addresses>, Option<Reason>) {
        // Also where all that P shows was forgotten: that is no order to empty the records.
        match self.published.filter(|published| !published.is_empty()) {
            Some(published) => (Some(published.into()), Some(Reason::KeepLast { good, needed })),
            None => (None, Some(Reason::NothingToKeep { good, needed })),
        }
    }

    /// P and every known node not in maintenance; nobody, if there is none such.
    fn all(&self) -> Vec<Address> {
        let known = |i: &Instance| match i.member {
            State::Left => Judgement::Out,
            _ if i.in_maintenance() => Judgement::Out,
            _ => Judgement::In,
        };
        let all = judged(self.instances, known).filter(|(_, judgement)| matches!(judgement, Judgement::In));
        let all: Vec<Address> = all.map(|(address, _)| address).collect();
        match all.is_empty() {
            true => all,
            false => with(all, self.known()),
        }
    }

    /// P without this node's addresses, if it has any there and enough good ones are left.
    fn withdraw(&self, needed: usize) -> Option<Addresses> {
        let own = self.instances.iter().find(|i| *i.node == *self.me);
        let is_own = |address: &Address| {
            *address.node == *self.me || own.is_some_and(|own| own.addrs.contains(&address.addr))
        };
        let rest: Vec<Address> = self.known().iter().filter(|address| !is_own(address)).cloned().collect();
        (rest.len() < self.known().len() && !rest.is_empty() && self.good(&rest) >= needed)
            .then(|| rest.into())
    }
}

/// `set` and what of `published` it lacks, sorted.
fn with(mut set: Vec<Address>, published: &[Address]) -> Vec<Address> {
    let lacking: Vec<Address> = published.iter().filter(|old| !contains(&set, old.addr)).cloned().collect();
    set.extend(lacking);
    set.sort_unstable();
    set
}

impl MinUp {
    /// The number that this asks for. A percentage asks for one at least: with every node in
    /// maintenance it must not mean that nobody is needed.
    pub(super) fn of(self, instances: &[Instance]) -> usize {
        match self {
            Self::Count(count) => usize::try_from(count).unwrap_or(usize::MAX),
            Self::Percent(percent) => {
                let counts = |i: &&Instance| i.member != State::Left && !i.in_maintenance();
                let known = instances.iter().filter(counts).count();
                known.saturating_mul(usize::from(percent)).div_ceil(100).max(1)
            }
        }
    }
}

/// Each address and what `judge` says of it, sorted. One that a running member publishes is judged by the running
/// members alone (renamed or replaced nodes); of several of these the one most in favour counts.
fn judged(
    instances: &[Instance],
    judge: impl Fn(&Instance) -> Judgement,
) -> impl Iterator<Item = (Address, Judgement)> {
    let mut best: Vec<(IpAddr, (bool, u8), &Instance, Judgement)> = Vec::new();
    for instance in instances {
        let judgement = judge(instance);
        let rank = (instance.member.is_running(), judgement.rank());
        for &addr in &instance.addrs {
            match best.iter_mut().find(|entry| entry.0 == addr) {
                Some(entry) if rank > entry.1 => *entry = (addr, rank, instance, judgement.clone()),
                Some(_) => {}
                None => best.push((addr, rank, instance, judgement.clone())),
            }
        }
    }
    best.sort_by_key(|entry| entry.0);
    best.into_iter().map(|(addr, _, i, judgement)| (Address { addr, node: i.node.clone() }, judgement))
}

impl Judgement {
    fn rank(&self) -> u8 {
        match self {
            Self::Out => 0,
            Self::Held(..) => 1,
            Self::In => 2,
        }
    }
}
