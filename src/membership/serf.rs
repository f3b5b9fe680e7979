//! The Serf layer: intents with Lamport times, its part of a push/pull, and leaving so that Serf calls it
//! left and not failed (P 8.2 to 8.5). Events and queries are in `queries`.

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use super::dissemination::Broadcasts;
use super::queries::Queries;
use super::{Event, Member, Membership, State, Timer};
use crate::limits;
use crate::time::Instant;
use crate::wire::serf::{SerfMessage, UserState};
use crate::wire::{Claim, Message};

/// The intent and the dead message must not be worked off in the wrong order by a receiver that takes the
/// newest first (P 8.5).
const INTENT_LEAD: Duration = Duration::from_millis(300);
/// The intent's own time, and the dead message's (Serf: `BroadcastTimeout`).
const STEP_MAX: Duration = Duration::from_secs(5);
/// Answering goes on for so long after the dead message (Serf: `LeavePropagateDelay`).
const LINGER: Duration = Duration::from_secs(1);
/// How often a step looks whether its news are out.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// Members that are told of our leaving by stream, too, which is reliable.
const TOLD_DIRECTLY: usize = 3;

/// An intent about a member that is not known is kept for so long (Serf: `RecentIntentTimeout`).
const BUFFERED_TIME: Duration = Duration::from_secs(300);

/// An intent that came before its member.
pub(super) struct Intent {
    node: Rc<str>,
    pub ltime: u64,
    /// It is to leave, not to join.
    pub leaves: bool,
    pub heard: Instant,
}

/// The Lamport clock and the intents on their way.
pub(super) struct Serf {
    /// Whether the cluster's application is Serf: plain memberlist programs have other user messages.
    active: bool,
    /// The membership clock.
    clock: u64,
    pub broadcasts: Broadcasts,
    /// The newest intents about members that are not known (yet).
    buffered: VecDeque<Intent>,
    /// Time of the own last join intent.
    own_join: u64,
}

/// The steps of leaving.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// Serf's intent spreads, until this time at most.
    Intent {
        since: Instant,
    },
    /// memberlist's dead message spreads.
    Dead {
        since: Instant,
    },
    /// Done, but pings are still answered.
    Linger,
    Done,
}

impl Serf {
    pub fn new(delegate_versions: [u8; 3]) -> Self {
        Self {
            active: delegate_versions != [0; 3],
            clock: 1,
            broadcasts: Broadcasts::default(),
            buffered: VecDeque::new(),
            own_join: 0,
        }
    }

    /// Lamport's rule: the clock is ahead of everything seen.
    fn witness(&mut self, ltime: u64) {
        if ltime >= self.clock {
            self.clock = ltime.saturating_add(1);
        }
    }

    /// The intent about a member that just became known.
    pub fn take_buffered(&mut self, now: Instant, node: &str) -> Option<Intent> {
        self.expire_buffered(now);
        let at = self.buffered.iter().position(|intent| *intent.node == *node)?;
        self.buffered.remove(at)
    }

    fn expire_buffered(&mut self, now: Instant) {
        self.buffered.retain(|intent| now.since(intent.heard) <= BUFFERED_TIME);
    }

    /// Remembers the newest intent about a stranger. True if it is news.
    fn buffer(&mut self, now: Instant, node: &str, ltime: u64, leaves: bool) -> bool {
        self.expire_buffered(now);
        let known =
            self.buffered.iter().find(|intent| *intent.node == *node).map_or(0, |intent| intent.ltime);
        if ltime <= known || node.len() > limits::NAME_MAX {
            return false;
        }
        self.buffered.retain(|intent| *intent.node != *node);
        if self.buffered.len() >= limits::INTENTS_MAX {
            self.buffered.pop_front();
        }
        self.buffered.push_back(Intent { node: node.into(), ltime, leaves, heard: now });
        true
    }

    fn broadcast(&mut self, node: &str, message: &SerfMessage<'_>) {
        let mut payload = Vec::new();
        message.encode(&mut payload);
        let mut bytes = Vec::new();
        Message::User(&payload).encode(&mut bytes);
        self.broadcasts.push(node, &bytes);
    }

    /// Our part of a push/pull; nothing where the application is not Serf. A member that left without an intent, as
    /// bare memberlist programs do, is failed to Serf's agents (P 8.4); named here it would be left to some of them.
    pub fn encode_user_state(&self, members: &[Member], queries: &Queries) -> Vec<u8> {
        let mut out = Vec::new();
        if self.active {
            let left = members.iter().filter(|m| m.state == State::Left && m.intent_leaves);
            let state = UserState {
                ltime: self.clock,
                event_ltime: queries.event_clock(),
                query_ltime: queries.query_clock(),
                left_members: left.map(|m| &*m.name).collect(),
                status_ltimes: members.iter().map(|m| (&*m.name, m.intent_ltime)).collect(),
            };
            state.encode(&mut out);
        }
        out
    }
}

#[cfg(test)]
impl Serf {
    pub fn buffered_intents(&self) -> usize {
        self.buffered.len()
    }
}

impl Membership {
    /// A user message: what is news is noted and passed on; what is not known here is somebody else's.
    pub(super) fn handle_user(&mut self, now: Instant, payload: &[u8]) {
        if !self.serf.active {
            return;
        }
        match SerfMessage::decode(payload) {
            Ok(SerfMessage::Other(_)) => {}
            Ok(SerfMessage::UserEvent(event)) => self.handle_user_event(payload, &event),
            Ok(SerfMessage::Query(query)) => self.handle_query(payload, &query),
            Ok(SerfMessage::Relay(relay)) => self.handle_relay(&relay),
            Ok(message) => self.handle_intent(now, &message),
            Err(error) => self.count_bad(error),
        }
    }

    fn handle_intent(&mut self, now: Instant, message: &SerfMessage<'_>) {
        let (node, ltime, leaves) = match *message {
            SerfMessage::Leave { node, ltime, .. } => (node, ltime, true),
            SerfMessage::Join { node, ltime } => (node, ltime, false),
            SerfMessage::UserEvent(_)
            | SerfMessage::Query(_)
            | SerfMessage::Relay(_)
            | SerfMessage::Other(_) => return,
        };
        self.serf.witness(ltime);
        if leaves && *node == *self.config.node && self.leaving.is_none() {
            // Somebody says that we leave: say that we are there.
            if ltime >= self.serf.own_join {
                self.announce_join();
            }
            return;
        }
        if self.note_intent(now, node, ltime, leaves) {
            self.serf.broadcast(node, message);
        }
    }

    /// True if it is news. A leave intent about a failed member makes it left, as Serf's force-leave does.
    fn note_intent(&mut self, now: Instant, node: &str, ltime: u64, leaves: bool) -> bool {
        let Some(member) = self.table.get_mut(node) else {
            return self.serf.buffer(now, node, ltime, leaves);
        };
        if ltime <= member.intent_ltime {
            return false;
        }
        (member.intent_ltime, member.intent_leaves) = (ltime, leaves);
        member.leave_heard = leaves.then_some(now);
        if leaves && member.state == State::Dead {
            (member.state, member.since) = (State::Left, now);
            self.changed = true;
            self.events.push_back(Event::Left { node: node.into() });
        }
        true
    }

    /// What a Serf agent adds to a push/pull (P 8.3).
    pub(super) fn handle_user_state(&mut self, now: Instant, bytes: &[u8]) {
        if !self.serf.active || bytes.is_empty() {
            return;
        }
        let state = match UserState::decode(bytes) {
            Ok(state) => state,
            Err(error) => return self.count_bad(error),
        };
        if state.ltime > 0 {
            self.serf.witness(state.ltime - 1);
        }
        self.queries.handle_clocks(state.event_ltime, state.query_ltime);
        for (node, ltime) in &state.status_ltimes {
            let left = state.left_members.contains(node);
            let ltime = if left { ltime.saturating_add(1) } else { *ltime };
            // These count as intents, and the time of an intent is always witnessed (P 8.4): else each exchange
            // would raise that of a left member beyond all clocks, and its return would be old news.
            self.serf.witness(ltime);
            if *node != &*self.config.node {
                self.note_intent(now, node, ltime, left);
            } else if left && ltime >= self.serf.own_join {
                self.announce_join();
            }
        }
    }

    /// After the first join that worked. Later ones find a cluster that knows us.
    pub(super) fn announce_first_join(&mut self) {
        if self.serf.own_join == 0 {
            self.announce_join();
        }
    }

    /// Says, in Serf's terms, that this node is there (P 8.5, 2).
    fn announce_join(&mut self) {
        if !self.serf.active || self.leaving.is_some() {
            return;
        }
        let (node, ltime) = (self.config.node.clone(), self.serf.clock);
        self.serf.witness(ltime);
        self.serf.own_join = ltime;
        let me = self.me_mut();
        (me.intent_ltime, me.intent_leaves) = (ltime, false);
        self.serf.broadcast(&node, &SerfMessage::Join { ltime, node: &node });
    }

    // Leaving.

    /// Says goodbye: Serf's intent first, then memberlist's dead message. Ends with [`Event::LeaveDone`].
    pub fn leave(&mut self, now: Instant) {
        self.begin_input(now);
        if self.leaving.is_none() {
            self.leaving = Some(Leave::Intent { since: now });
            if self.serf.active && self.has_company() {
                self.announce_leave(now);
                self.set_timer(Timer::Leave, now + LOOK_AGAIN);
            } else {
                self.say_dead(now);
            }
        }
        self.finish_input(now);
    }

    fn announce_leave(&mut self, now: Instant) {
        let (node, ltime) = (self.config.node.clone(), self.serf.clock);
        self.serf.clock = self.serf.clock.saturating_add(1);
        let intent = SerfMessage::Leave { ltime, node: &node, prune: false };
        let me = self.me_mut();
        (me.intent_ltime, me.intent_leaves) = (ltime, true);
        self.serf.broadcast(&node, &intent);
        let mut payload = Vec::new();
        intent.encode(&mut payload);
        let picked =
            self.table.pick(&mut self.rng, TOLD_DIRECTLY, |m| m.state == State::Alive && m.name != node);
        let told: Vec<_> = picked.iter().map(|m| m.addr).collect();
        for to in told {
            self.send_user(now, to, &payload);
        }
    }

    fn say_dead(&mut self, now: Instant) {
        self.leaving = Some(Leave::Dead { since: now });
        let (node, incarnation) = (self.config.node.clone(), self.me().incarnation);
        self.handle_dead(now, &Claim { node: &node, from: &node, incarnation });
        self.set_timer(Timer::Leave, now + LOOK_AGAIN);
    }

    /// Looks whether the present step is done.
    pub(super) fn leave_step(&mut self, now: Instant) {
        let node = self.config.node.clone();
        let alone = !self.has_company();
        let out = |since: Instant, waits: bool| alone || !waits || now.since(since) >= STEP_MAX;
        match self.leaving {
            Some(Leave::Intent { since }) if out(since, self.serf.broadcasts.has(&node)) => {
                if now.since(since) >= INTENT_LEAD || alone {
                    self.say_dead(now);
                } else {
                    self.set_timer(Timer::Leave, since + INTENT_LEAD);
                }
            }
            Some(Leave::Dead { since }) if out(since, self.broadcasts.has(&node)) => {
                self.leaving = Some(Leave::Linger);
                self.set_timer(Timer::Leave, if alone { now } else { now + LINGER });
            }
            Some(Leave::Linger) => {
                self.leaving = Some(Leave::Done);
                self.events.push_back(Event::LeaveDone);
            }
            Some(Leave::Intent { .. } | Leave::Dead { .. }) => self.set_timer(Timer::Leave, now + LOOK_AGAIN),
            Some(Leave::Done) | None => {}
        }
    }

    /// Whether anybody else runs.
    fn has_company(&self) -> bool {
        self.table.members().iter().any(|m| m.state.is_running() && m.name != self.config.node)
    }
}
