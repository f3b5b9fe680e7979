//! `picored1` calls: one for each address that differs between P and G (`interfaces`, 4.1).

use core::net::IpAddr;

use super::{AppSituation, EventKind, Occurrence};
use crate::check::AppState;
use crate::safety::Address;

/// An address, and whether it is called `up`.
pub type Call = (Address, bool);

/// The first call that leads from `outside` to `goal`: gone addresses last, since one too many for a moment is better
/// than one too few. Not of `skipped` addresses.
pub fn next(outside: &[Address], goal: &[Address], skipped: &[IpAddr]) -> Option<Call> {
    let lacks = |set: &[Address], entry: &Address| set.iter().all(|other| other.addr != entry.addr);
    let up = goal.iter().filter(|entry| lacks(outside, entry)).map(|entry| (entry, true));
    let down = outside.iter().filter(|entry| lacks(goal, entry)).map(|entry| (entry, false));
    let mut calls = up.chain(down).filter(|(entry, _)| !skipped.contains(&entry.addr));
    calls.next().map(|(entry, up)| (entry.clone(), up))
}

/// Whether a call leads from `outside` to `goal` for this address.
pub fn is_wanted(outside: &[Address], goal: &[Address], addr: IpAddr) -> bool {
    let is_in = |set: &[Address]| set.iter().any(|entry| entry.addr == addr);
    is_in(outside) != is_in(goal)
}

/// What `outside` is after the call.
pub fn after(outside: &mut Vec<Address>, (entry, up): Call) {
    outside.retain(|other| other.addr != entry.addr);
    if up {
        outside.push(entry);
        outside.sort_unstable();
    }
}

/// Every known address that `goal` has not: where it is not known what the outside shows, each is called again.
pub fn all_others(situation: &AppSituation, goal: &[Address]) -> Vec<Address> {
    let of = |addr: IpAddr, node: &str| Address { addr, node: node.into() };
    let instances = situation.instances.iter();
    let mut rest: Vec<Address> =
        instances.flat_map(|i| i.addrs.iter().map(|&addr| of(addr, &i.node))).collect();
    rest.retain(|entry| goal.iter().all(|other| other.addr != entry.addr));
    rest.sort_unstable();
    rest.dedup_by_key(|entry| entry.addr);
    rest
}

/// A call as the event that it is.
pub fn event(app: &str, (entry, up): &Call) -> Occurrence {
    Occurrence {
        kind: if *up { EventKind::AppUp } else { EventKind::AppDown },
        app: Some(app.into()),
        node: entry.node.clone(),
        addrs: vec![entry.addr],
        state: if *up { AppState::Up } else { AppState::Down },
        incarnation: 0,
    }
}
