//! What a node's electorate must be by the rules (`interfaces`, section 5, gate 4), worked out beside the
//! agent from what it shows of its members every few seconds.

use std::collections::BTreeSet;
use std::time::Duration;

use picored::time::Instant;

use crate::observe::{Seen, names_of};
use crate::secs;

/// A view that was stable for so long, with a majority, is the electorate.
const STABLE: Duration = secs(60);
/// By so much the samples, and the moment at which the agent notices, may be off.
const SLACK: Duration = secs(25);
const CANDIDATES_MAX: usize = 8;

type Names = BTreeSet<String>;

/// How many of the electorate are alive; the best first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Share {
    Majority,
    /// Exactly half; these are missing.
    Half(Vec<String>),
    Minority,
}

/// What a node said of its members.
#[derive(Debug, Default)]
pub struct Changes {
    /// When somebody came, failed or left last.
    pub last: Option<Instant>,
    /// Who left, and when.
    pub left: Vec<(Instant, String)>,
}

impl Changes {
    fn left_since(&self, since: Instant) -> impl Iterator<Item = String> {
        self.left.iter().filter(move |(at, _)| *at >= since).map(|(_, name)| name.clone())
    }
}

#[derive(Debug, Default)]
pub struct Shadow {
    /// No view was stable yet: everybody named, or heard of, counts.
    first: Option<Names>,
    /// Around a change the agent may have taken up the new one or not yet.
    candidates: Vec<Names>,
    alive: Names,
    /// Since when at the earliest `alive` is what it is.
    since: Instant,
    /// And at the latest.
    surely_since: Instant,
    sampled: Instant,
    /// When it doubted itself last, or may have.
    doubted: Instant,
    /// All electorates that a state file of this node, or a backup of one, may hold.
    past: Vec<Names>,
    /// Whose it is: who leaves keeps its own vote for its next life.
    own: String,
    /// Whom a person said to forget, and who has not been alive since: the configuration may still name them.
    forgotten: Names,
}

impl Shadow {
    /// The process starts. `named`: by the configuration, itself left out. `is_intact`: with what it wrote last.
    pub fn start(&mut self, now: Instant, own: &str, named: Names, found: bool, is_intact: bool) {
        if found {
            self.slept(now);
        }
        (self.since, self.surely_since, self.sampled) = (now, now, now);
        self.own = own.to_string();
        self.alive.clear();
        if !found {
            self.forgotten.clear();
        }
        let named = named.into_iter().filter(|name| !self.forgotten.contains(name));
        let named: Names = named.collect();
        if found && !self.past.is_empty() {
            if !is_intact {
                self.candidates.clone_from(&self.past);
            }
            // What was not stable yet is not in the file.
            if self.first.is_none() && is_intact {
                return;
            }
        } else {
            self.candidates.clear();
        }
        self.first = Some(named.into_iter().chain([own.to_string()]).collect());
    }

    /// The process ended. Who left between the last sample and then may have lost its vote already.
    pub fn ended(&mut self, changes: &Changes) {
        let left: Names = changes.left_since(self.sampled).filter(|name| *name != self.own).collect();
        let without = |names: &Names| names.difference(&left).cloned().collect::<Names>();
        let fewer: Vec<Names> = self.candidates.iter().map(without).collect();
        for names in fewer {
            if !self.candidates.contains(&names) {
                self.candidates.push(names);
            }
        }
        self.remember();
    }

    fn remember(&mut self) {
        for candidate in &self.candidates {
            if !self.past.contains(candidate) {
                self.past.push(candidate.clone());
            }
        }
        let over = self.past.len().saturating_sub(CANDIDATES_MAX);
        self.past.drain(..over);
    }

    /// What the node shows now. `changes`: what it said of who came, failed and left, which may have been between two
    /// samples.
    pub fn sample(&mut self, now: Instant, view: &[Seen], changes: &Changes) {
        let (alive, mut left) = (names_of(view, Seen::is_alive), names_of(view, |seen| seen.is(&["left"])));
        left.extend(changes.left_since(self.sampled));
        self.forgotten.retain(|name| !alive.contains(name));
        if alive != self.alive {
            // Up to now the view may have been what it was.
            self.take_up(now);
            (self.alive, self.since, self.surely_since) = (alive, self.sampled, now);
        }
        self.surely_since = self.surely_since.max(changes.last.unwrap_or_default());
        self.sampled = now;
        for candidate in self.candidates.iter_mut().chain(&mut self.first) {
            candidate.retain(|name| *name == self.own || !left.contains(name));
        }
        if let Some(first) = &mut self.first {
            first.extend(names_of(view, |seen| !seen.is(&["left"])));
        }
        self.take_up(now);
        // A doubt may have come and gone between two samples.
        let stable = now.since(self.surely_since.max(self.doubted)) >= 2 * STABLE + SLACK;
        // Of those that the agent may have, one may give this view no majority: then it has that one still.
        let surely = self.shares(&self.alive, &self.alive).iter().all(|share| *share == Share::Majority);
        if stable && surely && self.candidates.contains(&self.alive) {
            self.candidates = vec![self.alive.clone()];
            self.first = None;
        }
        self.remember();
    }

    /// The view may have become the electorate.
    fn take_up(&mut self, now: Instant) {
        let stable = now.since(self.since);
        let fits = stable >= STABLE && self.shares(&self.alive, &self.alive).contains(&Share::Majority);
        if fits && !self.candidates.contains(&self.alive) {
            self.candidates.push(self.alive.clone());
        }
    }

    /// The process stood still: being stable begins anew.
    pub fn slept(&mut self, now: Instant) {
        // It may have been, between the last sample and then.
        self.take_up(now);
        self.remember();
        (self.since, self.surely_since, self.sampled) = (now, now, now);
    }

    /// It is not sure of itself, or of the others: what it sees does not become its electorate until that is over.
    pub fn doubts(&mut self, now: Instant) {
        self.doubted = now;
    }

    /// A person said `forget`.
    pub fn forget(&mut self, name: &str) {
        for names in self.candidates.iter_mut().chain(&mut self.first).chain(&mut self.past) {
            names.remove(name);
        }
        self.forgotten.insert(name.to_string());
    }

    /// What each electorate grants which the agent may have. A majority that only those hold up who are suspected (not
    /// `sure`) is no help, and is no half either.
    pub fn shares(&self, alive: &Names, sure: &Names) -> Vec<Share> {
        let granted = |names: &Names| match share_of(names, alive) {
            Share::Majority if share_of(names, sure) != Share::Majority => Share::Minority,
            share => share,
        };
        self.candidates.iter().chain(&self.first).map(granted).collect()
    }
}

fn share_of(electorate: &Names, alive: &Names) -> Share {
    match (2 * electorate.intersection(alive).count()).cmp(&electorate.len()) {
        std::cmp::Ordering::Greater => Share::Majority,
        std::cmp::Ordering::Equal => Share::Half(electorate.difference(alive).cloned().collect()),
        std::cmp::Ordering::Less => Share::Minority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(all: &[&str]) -> Names {
        all.iter().map(|name| name.to_string()).collect()
    }

    fn view(alive: &[&str], failed: &[&str]) -> Vec<Seen> {
        let seen = |name: &&str, state: &str| Seen {
            name: name.to_string(),
            address: String::new(),
            state: state.to_string(),
            heard: true,
            incarnation: 1,
            tags_len: 0,
        };
        alive
            .iter()
            .map(|name| seen(name, "alive"))
            .chain(failed.iter().map(|name| seen(name, "failed")))
            .collect()
    }

    fn best(shadow: &Shadow, alive: Names) -> Share {
        shadow.shares(&alive, &alive).into_iter().min().expect("there always is an electorate")
    }

    #[test]
    fn a_majority_of_one_electorate_does_not_hide_the_half_of_another() {
        let shadow = Shadow {
            first: Some(names(&["n1", "n2", "n3", "n4", "n5"])),
            candidates: vec![names(&["n1", "n2", "n4", "n5"])],
            ..Shadow::default()
        };
        let shares = shadow.shares(&names(&["n1", "n2", "n3"]), &names(&["n1", "n2"]));
        assert_eq!(shares, [Share::Half(vec!["n4".into(), "n5".into()]), Share::Minority]);
    }

    #[test]
    fn who_is_only_remembered_is_not_alive() {
        let mut shadow = Shadow::default();
        let at = |s: u64| Instant::ZERO + secs(s);
        shadow.start(at(0), "n1", names(&["n2", "n3"]), false, true);
        let mut shown = view(&["n1", "n2", "n3"], &[]);
        shown[2].heard = false;
        for s in 1..20 {
            shadow.sample(at(10 * s), &shown, &Changes::default());
        }
        assert_eq!(shadow.candidates, [names(&["n1", "n2"])]);
    }

    #[test]
    fn servers_that_die_one_after_another_keep_the_majority_and_those_that_vanish_at_once_do_not() {
        let mut shadow = Shadow::default();
        let at = |s: u64| Instant::ZERO + secs(s);
        shadow.start(at(0), "n1", names(&["n2", "n3"]), false, true);
        assert_eq!(best(&shadow, names(&["n1"])), Share::Minority);
        for s in 1..20 {
            shadow.sample(at(10 * s), &view(&["n1", "n2", "n3", "n4"], &[]), &Changes::default());
        }
        assert_eq!(best(&shadow, names(&["n1", "n2"])), Share::Half(vec!["n3".into(), "n4".into()]));
        for s in 20..40 {
            shadow.sample(at(10 * s), &view(&["n1", "n2", "n3"], &["n4"]), &Changes::default());
        }
        assert_eq!(best(&shadow, names(&["n1", "n2"])), Share::Majority);
        for s in 40..80 {
            shadow.sample(at(10 * s), &view(&["n1"], &["n2", "n3", "n4"]), &Changes::default());
        }
        assert_eq!(best(&shadow, names(&["n1"])), Share::Minority, "a minority does not become all");
    }
}
