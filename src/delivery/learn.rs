//! What another node told, found by the hash in its record (4.5).
//!
//! P follows the greatest record where it has this node's own G. Below `min_up` that is not enough: `keep` is P and the
//! good ones, so two nodes whose P once differed never agree again, and who takes over puts back what was taken away long
//! ago. But what the runner told is nearly always this node's P with a few addresses more or less, and few sets need to
//! be tried to find the one that has the record's hash.

use super::record::set_hash;
use crate::safety::Address;
use crate::view::Instance;

/// Sets tried for one record: some milliseconds at most, once for each record that is not understood. That one of so many
/// has the hash of another set by accident happens once in a million.
const TRIES_MAX: usize = 4_096;
/// Addresses hashed for one record: fewer sets are tried where they are large.
const WORK_MAX: usize = 200_000;
/// Addresses more or less.
const CHANGES_MAX: usize = 3;

/// What may differ from P. Who failed and may serve stays in P, as always: that another node took it away is not this
/// node's try.
pub fn changes(published: &[Address], instances: &[Instance]) -> Vec<Address> {
    let stays = |entry: &&Address| {
        let its = || instances.iter().filter(|i| i.addrs.contains(&entry.addr));
        its().all(|i| !i.member.is_running()) && its().any(Instance::may_still_serve)
    };
    let mut changes: Vec<Address> = published.iter().filter(|entry| !stays(entry)).cloned().collect();
    for i in instances {
        let new = i.addrs.iter().filter(|addr| published.iter().all(|entry| entry.addr != **addr));
        changes.extend(new.map(|&addr| Address { addr, node: i.node.clone() }));
    }
    changes
}

/// `base` with as few of `changes` as possible put in, or taken out, so that its hash is `told`; sorted.
pub fn find(told: u32, base: &[Address], changes: &[Address]) -> Option<Vec<Address>> {
    let mut left = TRIES_MAX.min(WORK_MAX / (base.len() + 1));
    let mut picked = Vec::new();
    (0..=CHANGES_MAX.min(changes.len()))
        .find_map(|count| try_all(told, base, changes, count, &mut picked, &mut left))
}

/// All ways to pick `count` more of `changes`, from the first of them on.
fn try_all<'a>(
    told: u32,
    base: &[Address],
    changes: &'a [Address],
    count: usize,
    picked: &mut Vec<&'a Address>,
    left: &mut usize,
) -> Option<Vec<Address>> {
    if *left == 0 {
        return None;
    }
    if count == 0 {
        *left -= 1;
        let set = with(base, picked);
        return (set_hash(set.iter().map(|entry| entry.addr)) == told)
            .then(|| set.into_iter().cloned().collect());
    }
    for (index, change) in changes.iter().enumerate() {
        picked.push(change);
        let found = try_all(told, base, &changes[index + 1..], count - 1, picked, left);
        picked.pop();
        if found.is_some() {
            return found;
        }
    }
    None
}

fn with<'a>(base: &'a [Address], picked: &[&'a Address]) -> Vec<&'a Address> {
    let is_picked = |entry: &&Address| picked.iter().any(|change| change.addr == entry.addr);
    let is_new = |change: &&&Address| base.iter().all(|entry| entry.addr != change.addr);
    let mut set: Vec<&Address> = base.iter().filter(|entry| !is_picked(entry)).collect();
    set.extend(picked.iter().filter(is_new));
    set.sort_unstable();
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(last: &[u8]) -> Vec<Address> {
        let address = |n: &u8| Address { addr: [192, 0, 2, *n].into(), node: format!("n{n}").into() };
        last.iter().map(address).collect()
    }

    fn found(told: &[u8], base: &[u8], changes: &[u8]) -> Option<Vec<Address>> {
        let (told, base, changes) = (set(told), set(base), set(changes));
        find(set_hash(told.iter().map(|entry| entry.addr)), &base, &changes)
    }

    #[test]
    fn a_set_with_up_to_three_changes_is_found() {
        assert_eq!(found(&[1, 2], &[1, 2], &[]), Some(set(&[1, 2])));
        assert_eq!(found(&[1, 2, 4], &[1, 2, 3, 4], &[1, 2, 3, 4]), Some(set(&[1, 2, 4])));
        assert_eq!(found(&[2, 4, 5], &[1, 2, 4], &[1, 2, 5]), Some(set(&[2, 4, 5])));
        assert_eq!(found(&[], &[1, 2, 3], &[1, 2, 3]), Some(set(&[])));
        assert_eq!(found(&[], &[1, 2, 3, 4], &[1, 2, 3, 4]), None, "four are too many");
        assert_eq!(found(&[1, 2, 4], &[1, 2, 3, 4], &[1, 2, 4]), None, "the third may not go");
    }

    #[test]
    fn the_work_is_bounded_whatever_is_told() {
        let many: Vec<u8> = (0..=255).collect();
        let (many, mut left, mut picked) = (set(&many), 1_000, Vec::new());
        for count in 0..=CHANGES_MAX {
            assert_eq!(try_all(7, &many, &many, count, &mut picked, &mut left), None);
        }
        assert_eq!(left, 0);
    }
}
