//! Tries of what others serve: failed nodes' public endpoints (gate 5, and those missing in gate 4) and witnesses
//! (gate 3). One machine for all: what is wanted is tried at once, and again at its pace.

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::check::attempt::{Outcome, Target};
use crate::limits::VERIFY_TRIES_MAX;
use crate::time::Instant;

/// A failed node is tried again after this.
pub const VERIFY_EVERY: Duration = Duration::from_secs(30);
/// A connection that did not answer within this does not.
pub const TRY_TIMEOUT: Duration = Duration::from_secs(5);
/// What could not even be tried is tried again after this.
pub const UNTRIED_AGAIN: Duration = Duration::from_secs(2);

/// One connection of a try.
pub type TryId = u32;

/// Whose endpoint is tried.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// Number so many of the configured ones.
    Witness(usize),
    Node {
        app: Box<str>,
        node: Rc<str>,
    },
}

/// What is to be tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    pub key: Key,
    /// Since when it is so: what was found out of an earlier life counts no more.
    pub since: Instant,
    /// One answer is enough. None: it is not known where, and the try says nothing.
    pub targets: Vec<Target>,
    pub every: Duration,
}

/// What the driver is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    Start { id: TryId, target: Target },
    Abort { id: TryId },
}

/// How the last try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    pub began: Instant,
    pub ended: Instant,
    pub answered: bool,
}

struct Entry {
    wanted: Wanted,
    last: Option<Last>,
    /// When the last one ended that was answered.
    answered_at: Option<Instant>,
    /// Since the last try that said something, one could not be made, which began then: it is not known how it would
    /// answer now.
    untried: Option<Instant>,
    /// A run waits for a try that begins then or later. None: not, or there was one.
    asked: Option<Instant>,
    phase: Phase,
}

enum Phase {
    Waiting {
        at: Instant,
    },
    Running {
        began: Instant,
        open: Vec<TryId>,
        /// Connections that could be begun. Of several addresses some may be out of this node's reach for good (IPv6,
        /// say); but where there is none at all, nothing was tried.
        made: usize,
        /// A run waits for it.
        counts: bool,
    },
}

/// All tries. At most [`VERIFY_TRIES_MAX`] connections at once.
#[derive(Default)]
pub struct Tries {
    /// Sorted by key.
    entries: Vec<Entry>,
    steps: VecDeque<Step>,
    last_id: TryId,
}

impl Tries {
    /// Exactly this is wanted from now on.
    pub fn want(&mut self, now: Instant, mut wanted: Vec<Wanted>) {
        wanted.sort_by(|a, b| a.key.cmp(&b.key));
        wanted.dedup_by(|a, b| a.key == b.key);
        let mut before = core::mem::take(&mut self.entries);
        for new in wanted {
            let same = |entry: &Entry| {
                let old = &entry.wanted;
                (&old.key, old.since) == (&new.key, new.since) && old.targets == new.targets
            };
            match before.iter().position(same).map(|at| before.remove(at)) {
                Some(entry) => self.entries.push(entry.at_pace(new.every)),
                None => self.entries.push(Entry {
                    wanted: new,
                    last: None,
                    answered_at: None,
                    untried: None,
                    asked: None,
                    phase: Phase::Waiting { at: now },
                }),
            }
        }
        before.into_iter().for_each(|gone| self.abort(gone));
        self.start_due(now);
    }

    /// A run waits for tries of the failed nodes of `app`: where none began at `since` or later, one does as soon as there
    /// is room. To ask again changes nothing, and what another run waits for is not given up: so each round ends once
    /// all that was in line before it, and its own tries, had their turn.
    pub fn refresh(&mut self, now: Instant, app: &str, since: Instant) {
        for entry in &mut self.entries {
            if matches!(&entry.wanted.key, Key::Node { app: of, .. } if **of == *app) {
                self.steps.extend(entry.ask(now, since));
            }
        }
        self.start_due(now);
    }

    /// A connection answered, or did not, or could not be made. True if something is known now that was not.
    pub fn handle_result(&mut self, now: Instant, id: TryId, outcome: &Outcome) -> bool {
        let found = self.entries.iter_mut().find_map(|entry| match &mut entry.phase {
            Phase::Running { open, .. } if open.contains(&id) => Some(entry),
            _ => None,
        });
        let Some(entry) = found else { return false };
        let Phase::Running { open, made, .. } = &mut entry.phase else { return false };
        open.retain(|&other| other != id);
        if matches!(outcome, Outcome::NotTried(_)) {
            *made = made.saturating_sub(1);
        }
        let answered = outcome.passed();
        let is_over = answered || open.is_empty();
        if is_over {
            self.steps.extend(entry.end(now, answered));
        }
        self.start_due(now);
        is_over
    }

    /// Begins what is due and gives up what takes too long. True if something is known now that was not.
    pub fn handle_timeout(&mut self, now: Instant) -> bool {
        let mut ended = false;
        for entry in &mut self.entries {
            if matches!(entry.phase, Phase::Running { began, .. } if began + TRY_TIMEOUT <= now) {
                self.steps.extend(entry.end(now, false));
                ended = true;
            }
        }
        self.start_due(now);
        ended
    }

    pub fn poll_step(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        let ends = |entry: &Entry| match entry.phase {
            Phase::Running { began, .. } => Some(began + TRY_TIMEOUT),
            Phase::Waiting { .. } => None,
        };
        // For want of room it begins when one that runs ends.
        let next = self.next_waiting().filter(|(_, index)| self.has_room(*index)).map(|(at, _)| at);
        self.entries.iter().filter_map(ends).chain(next).min()
    }

    /// How the last try ended; `None`: none has, it is not wanted, or it failed and could not be repeated.
    pub fn last(&self, key: &Key) -> Option<Last> {
        self.entry(key).and_then(|entry| entry.last)
    }

    /// When the last try began, if it could not be made.
    pub fn untried(&self, key: &Key) -> Option<Instant> {
        self.entry(key).and_then(|entry| entry.untried)
    }

    /// Whether it is wanted: there is something to try.
    pub fn is_wanted(&self, key: &Key) -> bool {
        self.entry(key).is_some()
    }

    /// The nodes of which an endpoint answered the last try, with the app.
    pub fn answering(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().filter(|entry| entry.last.is_some_and(|last| last.answered)).filter_map(|entry| {
            match &entry.wanted.key {
                Key::Node { app, node } => Some((&**app, &**node)),
                Key::Witness(_) => None,
            }
        })
    }

    /// How many witnesses answered since `since`.
    pub fn witnesses_since(&self, since: Instant) -> usize {
        let answers = |entry: &&Entry| {
            matches!(entry.wanted.key, Key::Witness(_)) && entry.answered_at.is_some_and(|at| at >= since)
        };
        self.entries.iter().filter(answers).count()
    }

    /// Of how many witnesses it is not known whether they would answer.
    pub fn witnesses_untried(&self) -> usize {
        let is_untried = |entry: &&Entry| {
            matches!(entry.wanted.key, Key::Witness(_)) && (entry.untried.is_some() || entry.last.is_none())
        };
        self.entries.iter().filter(is_untried).count()
    }

    fn entry(&self, key: &Key) -> Option<&Entry> {
        let at = self.entries.binary_search_by(|entry| entry.wanted.key.cmp(key)).ok()?;
        self.entries.get(at)
    }

    fn running(&self) -> usize {
        let open = |entry: &Entry| match &entry.phase {
            Phase::Running { open, .. } => open.len(),
            Phase::Waiting { .. } => 0,
        };
        self.entries.iter().map(open).sum()
    }

    /// What is to begin next, the longest due first.
    fn next_waiting(&self) -> Option<(Instant, usize)> {
        let at = |(index, entry): (usize, &Entry)| match entry.phase {
            Phase::Waiting { at } => Some((at, index)),
            Phase::Running { .. } => None,
        };
        self.entries.iter().enumerate().filter_map(at).min()
    }

    /// Whether the try may begin; alone one always may.
    fn has_room(&self, index: usize) -> bool {
        let count = self.entries.get(index).map_or(0, |entry| entry.wanted.targets.len());
        let running = self.running();
        running == 0 || running + count <= VERIFY_TRIES_MAX
    }

    /// Begins what is due as far as there is room. What comes later in the line waits for who is before it.
    fn start_due(&mut self, now: Instant) {
        while let Some((_, index)) =
            self.next_waiting().filter(|(at, index)| *at <= now && self.has_room(*index))
        {
            let Some(entry) = self.entries.get_mut(index) else { return };
            let mut open = Vec::with_capacity(entry.wanted.targets.len());
            for target in &entry.wanted.targets {
                self.last_id = self.last_id.wrapping_add(1);
                open.push(self.last_id);
                self.steps.push_back(Step::Start { id: self.last_id, target: target.clone() });
            }
            let (made, counts) = (entry.wanted.targets.len(), entry.asked.is_some());
            entry.phase = Phase::Running { began: now, open, made, counts };
        }
    }

    fn abort(&mut self, entry: Entry) {
        self.steps.extend(entry.phase.aborts());
    }
}

impl Entry {
    fn end(&mut self, now: Instant, answered: bool) -> Vec<Step> {
        let waits = Phase::Waiting { at: now };
        let phase = core::mem::replace(&mut self.phase, waits);
        let Phase::Running { began, made, .. } = phase else { return Vec::new() };
        self.untried = (made == 0).then_some(began);
        if self.untried.is_some() {
            // An answer stands until there is another one; that it did not answer is not concluded from old news.
            self.last = self.last.filter(|last| last.answered);
            self.phase = Phase::Waiting { at: now + UNTRIED_AGAIN };
            return phase.aborts();
        }
        self.asked = self.asked.filter(|&asked| asked > began);
        let next = self.asked.unwrap_or((began + self.wanted.every).max(now));
        self.phase = Phase::Waiting { at: next };
        self.last = Some(Last { began, ended: now, answered });
        if answered {
            self.answered_at = Some(now);
        }
        phase.aborts()
    }

    /// The pace may be another one now: a shorter one counts from the last try.
    fn at_pace(mut self, every: Duration) -> Self {
        if let (Phase::Waiting { at }, Some(last)) = (&mut self.phase, self.last)
            && every < self.wanted.every
        {
            *at = (*at).min(last.began + every);
        }
        self.wanted.every = every;
        self
    }

    /// A try is to begin at `since` or later, if none did.
    fn ask(&mut self, now: Instant, since: Instant) -> Vec<Step> {
        match &mut self.phase {
            Phase::Running { began, counts, .. } if *began >= since => *counts = true,
            // It comes to its end first, since another run waits for it.
            Phase::Running { counts: true, .. } => self.asked = self.asked.max(Some(since)),
            Phase::Running { .. } => {
                self.asked = Some(since);
                return core::mem::replace(&mut self.phase, Phase::Waiting { at: now }).aborts();
            }
            Phase::Waiting { at } if self.last.is_none_or(|last| last.began < since) => {
                *at = (*at).min(now);
                self.asked = self.asked.max(Some(since));
            }
            Phase::Waiting { .. } => {}
        }
        Vec::new()
    }
}

impl Phase {
    fn aborts(self) -> Vec<Step> {
        match self {
            Self::Running { open, .. } => open.into_iter().map(|id| Step::Abort { id }).collect(),
            Self::Waiting { .. } => Vec::new(),
        }
    }
}
