//! Who has a vote (gate 4): E, dynamic, each node's own.
//!
//! At a first start everybody that is expected or heard of votes. Once the view was stable and had a majority for
//! [`STABLE`], those alive then do: servers that die one after another keep quorum, servers that vanish at once don't.

use core::time::Duration;
use std::rc::Rc;

use super::saved::{Name, Saved};
use crate::limits::TOMBSTONES_MAX;
use crate::time::Instant;

/// So long the view must be unchanged, and hold a majority, before E follows it.
pub const STABLE: Duration = Duration::from_secs(60);

/// A member as the electorate sees it.
#[derive(Clone, Copy, Debug)]
pub struct Voter<'a> {
    pub name: &'a Rc<str>,
    /// It runs and was heard, or is this node.
    pub alive: bool,
    /// It did not answer lately.
    pub suspect: bool,
    pub left: bool,
}

/// What is known now.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub me: &'a str,
    pub members: &'a [Voter<'a>],
    /// `members` of the configuration.
    pub expected: &'a [Box<str>],
    /// Entries of `join` that are not this node: the name reached there, else a text that stands for it.
    pub targets: &'a [Target],
    /// Some run of a `one` handler is known: before that E does not shrink (`interfaces`, 4.5, rule 7).
    pub has_record: bool,
}

/// An entry of `join`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Reached(Box<str>),
    /// As it stands in the file.
    Never(Box<str>),
}

/// The votes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    pub alive: usize,
    /// Of these, those that are suspected.
    pub suspects: usize,
    pub voters: usize,
    /// Members, or entries of `join` never reached, that are not alive. Sorted.
    pub missing: Vec<Rc<str>>,
    /// One of E that was never seen alive.
    pub unseen: Option<Rc<str>>,
    /// The one of E with the smallest name was seen alive at some time, and is not now.
    pub first_missing: bool,
}

impl Votes {
    /// Whether this side may take itself away for the other's sake. Of two halves only the one without the smallest
    /// name of E: each may see the other serve and be without quorum, and both together would empty the records. With
    /// less than half, somebody else may have the majority.
    pub fn yields(&self) -> bool {
        !self.is_half() || self.first_missing
    }
    pub fn has_majority(&self) -> bool {
        self.alive * 2 > self.voters
    }
    /// A majority without those that are suspected. Who is cut off sees the others fail one after another: the last of
    /// them, suspected only, must not help it to take the first away.
    pub fn is_sure(&self) -> bool {
        (self.alive - self.suspects.min(self.alive)) * 2 > self.voters
    }
    pub fn is_half(&self) -> bool {
        self.alive * 2 == self.voters
    }
    /// For people: some of those that are missing.
    pub fn missing_text(&self) -> Box<str> {
        let some: Vec<&str> = self.missing.iter().take(NAMED_MAX).map(|name| &**name).collect();
        match self.missing.len().saturating_sub(NAMED_MAX) {
            0 => some.join(", ").into(),
            more => format!("{} and {more} more", some.join(", ")).into(),
        }
    }
}

/// Names in one sentence.
const NAMED_MAX: usize = 5;

/// Names, sorted. Those who vote, who are alive and who were seen are mostly the same: then they are held once.
type Names = Rc<Vec<Rc<str>>>;

fn sorted(names: impl Iterator<Item = Rc<str>>) -> Names {
    let mut names: Vec<Rc<str>> = names.collect();
    names.sort_unstable();
    names.dedup();
    Rc::new(names)
}

fn place(names: &[Rc<str>], name: &str) -> Result<usize, usize> {
    names.binary_search_by(|other| (**other).cmp(name))
}

fn has(names: &[Rc<str>], name: &str) -> bool {
    place(names, name).is_ok()
}

fn insert(names: &mut Names, name: &str, shared: Option<&Rc<str>>) {
    if let Err(at) = place(names, name) {
        Rc::make_mut(names).insert(at, shared.cloned().unwrap_or_else(|| name.into()));
    }
}

fn remove(names: &mut Names, name: &str) {
    if let Ok(at) = place(names, name) {
        Rc::make_mut(names).remove(at);
    }
}

/// E, and how it changes.
#[derive(Debug, Default)]
pub struct Electorate {
    /// `None`: it never was stable; all that are expected or heard of vote.
    voters: Option<Names>,
    /// Alive at some time.
    seen: Names,
    /// Dropped before E was stable.
    dropped: Names,
    /// Who is alive, since when it is so, with a majority.
    alive: Names,
    since: Option<Instant>,
    /// When E follows; `None`: it does not.
    due: Option<Instant>,
}

impl Electorate {
    /// A list of nobody, which gives no majority ever, is none.
    pub fn restore(saved: Saved) -> Self {
        let shared = |names: Vec<Name>| sorted(names.into_iter().map(|name| name.0));
        let voters = saved.voters.filter(|names| !names.is_empty()).map(shared);
        Self { voters, seen: shared(saved.seen), ..Self::default() }
    }

    pub fn saved(&self) -> Saved {
        let saved = |names: &Names| names.iter().map(|name| Name(name.clone())).collect();
        Saved { voters: self.voters.as_ref().map(saved), seen: saved(&self.seen) }
    }

    /// It left or was forgotten: it has no vote any more.
    pub fn drop(&mut self, name: &str) {
        match &mut self.voters {
            Some(voters) => remove(voters, name),
            None if self.dropped.len() < TOMBSTONES_MAX => insert(&mut self.dropped, name, None),
            None => {}
        }
    }

    /// This node slept, or was starved, or doubts itself for another reason: what it saw says nothing of the others, so
    /// being stable begins anew.
    pub fn slept(&mut self, now: Instant) {
        self.since = self.since.map(|_| now);
    }

    /// Takes up what is known now and counts the votes.
    pub fn update(&mut self, now: Instant, view: &View<'_>) -> Votes {
        // Not this node, which leaves: its next life reads this E, and votes in it.
        for left in view.members.iter().filter(|member| member.left && **member.name != *view.me) {
            self.drop(left.name);
        }
        if let Some(voters) = &mut self.voters {
            insert(voters, view.me, None);
        }
        let alive = sorted(view.members.iter().filter(|m| m.alive).map(|m| m.name.clone()));
        if alive != self.alive {
            (self.alive, self.since) = (alive, None);
        }
        for name in self.alive.iter() {
            remove(&mut self.dropped, name);
            insert(&mut self.seen, name, Some(name));
        }
        let votes = self.count(view);
        self.since = self.since.or(Some(now)).filter(|_| votes.has_majority());
        let is_stable = self.since.is_some_and(|since| now.since(since) >= STABLE);
        if is_stable && (self.voters.is_some() || view.has_record) {
            self.voters = Some(self.alive.clone());
            self.dropped = Names::default();
        }
        self.forget_unknown(view);
        for names in self.voters.iter_mut().chain([&mut self.seen]).filter(|names| **names == self.alive) {
            *names = self.alive.clone();
        }
        let follows = self.voters.as_ref() != Some(&self.alive);
        self.due = self.since.map(|since| since + STABLE).filter(|&at| follows && at > now);
        self.count(view)
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        self.due
    }

    fn count(&self, view: &View<'_>) -> Votes {
        let voters = match &self.voters {
            Some(voters) => voters.clone(),
            None => self.first(view),
        };
        let missing: Vec<Rc<str>> = voters.iter().filter(|name| !has(&self.alive, name)).cloned().collect();
        let suspects = view.members.iter().filter(|m| m.alive && m.suspect && has(&voters, m.name)).count();
        Votes {
            alive: voters.len().saturating_sub(missing.len()),
            suspects,
            voters: voters.len(),
            unseen: voters.iter().find(|name| !has(&self.seen, name)).cloned(),
            // A text that stands for one never reached says nothing of who is first.
            first_missing: missing
                .first()
                .is_some_and(|name| voters.first() == Some(name) && has(&self.seen, name)),
            missing,
        }
    }

    /// E at a first start.
    fn first(&self, view: &View<'_>) -> Names {
        let targets = view.targets.iter().map(|target| match target {
            Target::Reached(name) | Target::Never(name) => (**name).into(),
        });
        let heard_of = view.members.iter().filter(|member| !member.left).map(|member| member.name.clone());
        let all = heard_of
            .chain(view.expected.iter().map(|name| (**name).into()))
            .chain(targets)
            .chain([view.me.into()]);
        sorted(all.filter(|name| !has(&self.dropped, name)))
    }

    /// Of those seen alive only voters, and who may become one, matter: names that come and go add nothing.
    fn forget_unknown(&mut self, view: &View<'_>) {
        let targets = view.targets.iter().map(|target| match target {
            Target::Reached(name) | Target::Never(name) => &**name,
        });
        let members = view.members.iter().map(|member| &**member.name);
        let expected = view.expected.iter().map(|name| &**name);
        let mut known: Vec<&str> = members.chain(expected).chain(targets).collect();
        known.sort_unstable();
        let votes = |name: &str| self.voters.as_ref().is_some_and(|voters| has(voters, name));
        let stays = |name: &Rc<str>| known.binary_search(&&**name).is_ok() || votes(name);
        if !self.seen.iter().all(stays) {
            Rc::make_mut(&mut self.seen).retain(stays);
        }
    }
}
