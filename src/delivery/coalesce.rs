//! What happened to members, collected for `serf` handlers the way a Serf agent does it: changes that come close
//! together are told at once, one call for each kind.
//!
//! As in Serf (coalesce.go, coalesce_member.go; the agent's periods): of a member only its last change within a window
//! counts, and one that it was told of last is not told again, unless it is an update. So a member that fails and is
//! back within one window is not mentioned. Where picored differs from Serf 0.9.4, on purpose:
//!
//! - A join and an update in one window are a join, with the new tags. Serf tells the update alone; a script that does
//!   something for every joined member would never hear of this one, and picored's own tags change just after a start.
//! - An update is told once. Serf repeats it with every later window until something else happens to the member.
//! - The goodbye of a memberlist program without Serf's intents is `member-leave`, for that is what it is. Serf calls
//!   each end without an intent `member-failed`.
//! - Calls, and members within a call, are in the order of what happened. In Serf the order is by chance.

use core::time::Duration;
use std::collections::BTreeMap;
use std::rc::Rc;

use super::MemberEvent;
use crate::limits::SERF_KNOWN_MAX;
use crate::time::{Instant, earliest};

/// A window is over at the latest this long after its first change (Serf's agent: `CoalescePeriod`).
const WINDOW_MAX: Duration = Duration::from_secs(3);
/// And as soon as nothing happened for so long (Serf's agent: `QuiescentPeriod`).
const QUIET: Duration = Duration::from_secs(1);

/// Members of one window to whom the same happened: one call of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    pub event: MemberEvent,
    pub members: Vec<Line>,
}

/// A member, and its line on stdin. Shared by all handlers that tell it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub node: Rc<str>,
    pub text: Rc<[u8]>,
}

/// What a window amounts to.
#[derive(Default)]
pub struct Flushed {
    pub calls: Vec<Call>,
    /// Changes of members for whom there was no room.
    pub dropped: u32,
}

#[derive(Default)]
pub struct Coalescer {
    /// All members that are not forgotten, by name.
    known: BTreeMap<Rc<str>, Known>,
    /// The number of the next change.
    next: u64,
    /// When the window's first and last changes came; `None`: no window is open.
    window: Option<(Instant, Instant)>,
    dropped: u32,
}

struct Known {
    /// As it is now; of one that is forgotten, as it was.
    text: Rc<[u8]>,
    /// What was told of it last.
    told: Option<MemberEvent>,
    /// Its last change in this window, and that one's number.
    pending: Option<(u64, MemberEvent)>,
}

impl Coalescer {
    /// Something happened to `node`, whose line now is `text`; `None`: it is no longer a member, and its last line counts.
    pub fn push(&mut self, now: Instant, event: MemberEvent, node: &str, text: Option<Rc<[u8]>>) {
        let number = self.next;
        if let Some(known) = self.known.get_mut(node) {
            known.text = text.unwrap_or_else(|| known.text.clone());
            known.push(number, event);
        } else {
            let Some(text) = text else { return };
            if self.known.len() >= SERF_KNOWN_MAX {
                self.dropped = self.dropped.saturating_add(1);
                return;
            }
            self.known.insert(node.into(), Known { text, told: None, pending: Some((number, event)) });
        }
        self.next += 1;
        let first = self.window.map_or(now, |(first, _)| first);
        self.window = Some((first, now));
    }

    /// When the window is over; `None`: none is open.
    pub fn deadline(&self) -> Option<Instant> {
        let (first, last) = self.window?;
        earliest([Some(first + WINDOW_MAX), Some(last + QUIET)])
    }

    /// What the window amounts to, if it is over.
    pub fn flush(&mut self, now: Instant) -> Flushed {
        if self.deadline().is_none_or(|at| at > now) {
            return Flushed::default();
        }
        self.window = None;
        let mut changes: Vec<(u64, MemberEvent, Line)> = Vec::new();
        for (node, known) in &mut self.known {
            let Some((number, event)) = known.pending.take() else { continue };
            if known.told.replace(event) != Some(event) || event == MemberEvent::Update {
                changes.push((number, event, Line { node: node.clone(), text: known.text.clone() }));
            }
        }
        self.known.retain(|_, known| known.told != Some(MemberEvent::Reap));
        changes.sort_unstable_by_key(|&(number, ..)| number);
        let mut calls: Vec<Call> = Vec::new();
        for (_, event, line) in changes {
            match calls.iter_mut().find(|call| call.event == event) {
                Some(call) => call.members.push(line),
                None => calls.push(Call { event, members: vec![line] }),
            }
        }
        Flushed { calls, dropped: core::mem::take(&mut self.dropped) }
    }
}

impl Known {
    fn push(&mut self, number: u64, event: MemberEvent) {
        let is_told_there = matches!(self.told, Some(MemberEvent::Join | MemberEvent::Update));
        let keeps_join = event == MemberEvent::Update
            && !is_told_there
            && matches!(self.pending, Some((_, MemberEvent::Join)));
        if !keeps_join {
            self.pending = Some((number, event));
        }
    }
}
