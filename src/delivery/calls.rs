//! `picored1` calls: one for each address that differs between P and G (`interfaces`, 4.1).

use core::net::IpAddr;

use super::{AppSituation, EventKind, Occurrence};
use crate::check::AppState;
use crate::safety::{Address, Addresses};

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
pub fn after(outside: &[Address], (entry, up): Call) -> Addresses {
    let others = outside.iter().filter(|other| other.addr != entry.addr).cloned();
    let mut after: Vec<Address> = others.chain(up.then(|| entry.clone())).collect();
    after.sort_unstable();
    after.into()
}

/// `outside`, but of the addresses in `doubtful` the opposite of what `goal` wants, so that each of them is called.
pub fn in_doubt(outside: &[Address], goal: &[Address], doubtful: &[Address]) -> Vec<Address> {
    let is_in = |set: &[Address], addr: IpAddr| set.iter().any(|entry| entry.addr == addr);
    let sure = outside.iter().filter(|entry| !is_in(doubtful, entry.addr));
    sure.chain(doubtful.iter().filter(|entry| !is_in(goal, entry.addr))).cloned().collect()
}

/// `goal` and every other known address: where it is not known what the outside shows, each is called again.
pub fn all(situation: &AppSituation, goal: &[Address]) -> Vec<Address> {
    let of = |addr: IpAddr, node: &str| Address { addr, node: node.into() };
    let known = situation.instances.iter().flat_map(|i| i.addrs.iter().map(|&addr| of(addr, &i.node)));
    let mut all = goal.to_vec();
    all.extend(known.filter(|entry| goal.iter().all(|other| other.addr != entry.addr)));
    all.sort_unstable();
    all.dedup_by_key(|entry| entry.addr);
    all
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
