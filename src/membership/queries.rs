//! Serf's user events and queries (P 8.2): each is passed on once, and a query that asks this node about the keys,
//! or whether it is there, is answered.
//!
//! Where picored differs from a Serf agent, on purpose and without its peers being worse off:
//!
//! - Queries of the application's get the acknowledgement that they want, and no answer.
//! - In a dispute over a name (`_serf_conflict`) picored says who has it, as an agent does, so that an agent among
//!   picoreds is not outvoted by silence. Of a name that is not known here an agent sends an empty record, which
//!   counts against whoever asks; picored sends nothing.
//! - Answers go to members' addresses only: a query can name any address, and a cluster that answers there is a weapon.
//! - A query that filters by tags, which takes regular expressions, is passed on and not answered.
//! - Our answers are not relayed by way of others (`RelayFactor`): a help against loss that nobody counts on. Those of
//!   others we send on, to members' addresses only.
//! - Events and queries are passed on if they fit into a packet: Serf's limits of their size are settings of agents.
//! - Who has just started does not do what was asked before, which may be a recorded packet.
//! - A ring has [`limits::KEYS_MAX`] keys at most; Serf's has no limit.

use core::hash::{Hash, Hasher};
use core::net::SocketAddr;
use std::collections::{BTreeSet, VecDeque};
use std::hash::DefaultHasher;
use std::rc::Rc;

use super::dissemination::Broadcasts;
use super::member::{AddrBytes, State};
use super::transmit::Outgoing;
use super::{Event, Membership, QueryId};
use crate::limits;
use crate::time::Instant;
use crate::wire::Message;
use crate::wire::crypt::{Key, KeyError};
use crate::wire::packet::Builder;
use crate::wire::serf::query::{
    Query, QueryResponse, Record, Relay, Status, UserEvent, key_response, requested_key,
};

/// What a query wants done with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    Install,
    Use,
    Remove,
}

impl KeyChange {
    /// As a part of a name: `keys-install`, …
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Use => "use",
            Self::Remove => "remove",
        }
    }
}

/// Events and queries: what was seen of them, what is on its way, what waits for an answer.
#[derive(Debug)]
pub(super) struct Queries {
    seen_events: Seen,
    seen_queries: Seen,
    passed_on_events: Broadcasts,
    passed_on_queries: Broadcasts,
    /// Those that are answered once the keys are stored.
    waiting: VecDeque<Waiting>,
    last_id: QueryId,
}

/// Where an answer goes, and to which query.
#[derive(Debug)]
struct Waiting {
    id: QueryId,
    asker: Asker,
}

#[derive(Clone, Copy, Debug)]
struct Asker {
    to: SocketAddr,
    ltime: u64,
    query: u32,
}

impl Default for Queries {
    fn default() -> Self {
        Self {
            seen_events: Seen::default(),
            seen_queries: Seen::default(),
            passed_on_events: Broadcasts::with_max(limits::SERF_PASSED_ON_MAX),
            passed_on_queries: Broadcasts::with_max(limits::SERF_PASSED_ON_MAX),
            waiting: VecDeque::new(),
            last_id: 0,
        }
    }
}

impl Queries {
    pub fn event_clock(&self) -> u64 {
        self.seen_events.clock
    }

    pub fn query_clock(&self) -> u64 {
        self.seen_queries.clock
    }

    /// Another node's clocks, out of a push/pull: they stamp what comes next.
    pub fn handle_clocks(&mut self, event_ltime: u64, query_ltime: u64) {
        self.seen_events.handle_clock(event_ltime);
        self.seen_queries.handle_clock(query_ltime);
    }

    pub fn is_empty(&self) -> bool {
        self.passed_on_queries.is_empty() && self.passed_on_events.is_empty()
    }

    /// See [`Broadcasts::take`]. Queries first: somebody waits for them.
    pub fn take(&mut self, limit: u32, put: &mut impl FnMut(&[u8]) -> bool) {
        self.passed_on_queries.take(limit, &mut *put);
        self.passed_on_events.take(limit, put);
    }
}

/// A Lamport clock, and what was seen of late.
#[derive(Debug)]
struct Seen {
    clock: u64,
    /// Time and identity of the newest.
    newest: BTreeSet<(u64, u64)>,
    /// Nothing is news that is this old.
    floor: u64,
    /// Another node's clock was told, for the first time since this process began.
    told: bool,
}

impl Default for Seen {
    fn default() -> Self {
        Self { clock: 1, newest: BTreeSet::new(), floor: 0, told: false }
    }
}

impl Seen {
    /// Notes it. True if it was not seen before and is not too old to tell.
    fn is_news(&mut self, ltime: u64, id: u64) -> bool {
        if ltime >= self.clock {
            self.clock = ltime.saturating_add(1);
        }
        let window = limits::SERF_SEEN_MAX as u64;
        if ltime <= self.floor || ltime.saturating_add(window) < self.clock {
            return false;
        }
        if !self.newest.insert((ltime, id)) {
            return false;
        }
        // What is forgotten must not become news again: else a flood would go round for ever.
        if self.newest.len() > limits::SERF_SEEN_MAX
            && let Some((oldest, _)) = self.newest.pop_first()
        {
            self.floor = oldest;
        }
        true
    }

    /// `clock` is the next time that its owner would stamp.
    fn handle_clock(&mut self, clock: u64) {
        if !core::mem::replace(&mut self.told, true) {
            // Who just came (back) has nothing to do with what was asked before: it may be a recorded packet.
            self.floor = self.floor.max(clock.saturating_sub(1));
        }
        self.clock = self.clock.max(clock);
    }
}

impl Membership {
    /// `serf event`: nothing to this node, but it carries its share.
    pub(super) fn handle_user_event(&mut self, payload: &[u8], event: &UserEvent<'_>) {
        if !self.fits(payload) {
            return;
        }
        // Two events at one time differ by what they say.
        let mut hasher = DefaultHasher::new();
        (event.name, event.payload).hash(&mut hasher);
        let id = hasher.finish();
        if self.queries.seen_events.is_news(event.ltime, id) {
            pass_on(&mut self.queries.passed_on_events, event.ltime, id, payload);
        }
    }

    /// Whether a user message goes into one packet; if not, that is counted.
    fn fits(&mut self, payload: &[u8]) -> bool {
        let fits = payload.len() < Builder::default().room(&self.envelope); // the type takes a byte
        self.counters.refused += u64::from(!fits);
        fits
    }

    pub(super) fn handle_query(&mut self, payload: &[u8], query: &Query<'_>) {
        if !self.fits(payload) {
            return;
        }
        let id = u64::from(query.id);
        if !self.queries.seen_queries.is_news(query.ltime, id) {
            return;
        }
        if query.is_passed_on() {
            pass_on(&mut self.queries.passed_on_queries, query.ltime, id, payload);
        }
        if query.asks(&self.config.node)
            && let Some(asker) = self.asker(query)
        {
            if query.wants_ack() {
                self.respond(asker, true, &[]);
            }
            self.answer_query(asker, query);
        }
    }

    /// Where the answers to a query go. Only to a member: else one packet would make all nodes send to anybody.
    fn asker(&self, query: &Query<'_>) -> Option<Asker> {
        let to = self.others_addr(query.addr, query.port)?;
        Some(Asker { to, ltime: query.ltime, query: query.id })
    }

    /// Another member's address, as it came.
    fn others_addr(&self, addr: &[u8], port: u16) -> Option<SocketAddr> {
        let to = SocketAddr::new(AddrBytes::parse(addr)?.ip(), port);
        let is_members = self.table.members().iter().any(|m| m.addr == to && m.name != self.config.node);
        is_members.then_some(to)
    }

    /// Sends it on.
    pub(super) fn handle_relay(&mut self, relay: &Relay<'_>) {
        if let Some(to) = self.others_addr(relay.addr, relay.port)
            && !relay.message.is_empty()
            && self.fits(relay.message)
        {
            self.send(Outgoing::User { to, payload: relay.message.into() });
        }
    }

    fn answer_query(&mut self, asker: Asker, query: &Query<'_>) {
        let change = match query.name {
            "_serf_install-key" => KeyChange::Install,
            "_serf_use-key" => KeyChange::Use,
            "_serf_remove-key" => KeyChange::Remove,
            "_serf_list-keys" => return self.list_keys(asker),
            "_serf_conflict" => return self.say_who_has(asker, query.payload),
            // `_serf_ping` wants the acknowledgement alone.
            _ => return,
        };
        let from: Rc<str> = name_of(query.source_node).into();
        let asked = requested_key(query.payload).map_err(|_| NOT_READABLE.into());
        match asked.and_then(|key| self.change_keys(change, key).map(|changed| (key, changed))) {
            Ok((key, changed)) => {
                let fingerprint = Key::new(key).map(|key| key.fingerprint()).unwrap_or_default().into();
                let id = self.wait(asker);
                self.events.push_back(Event::KeysAsked { id, change, fingerprint, from, changed });
            }
            Err(error) => {
                self.respond_about_keys(asker, false, &error);
                self.events.push_back(Event::KeysRefused { change, from, error });
            }
        }
    }

    /// Whether they are others now, or why they may not be.
    fn change_keys(&mut self, change: KeyChange, key: &[u8]) -> Result<bool, Box<str>> {
        // The query came in the clear then, from anybody.
        if self.envelope.keys.is_empty() {
            return Err(NOT_ENCRYPTED.into());
        }
        let mut keys = self.envelope.keys.clone();
        let changed = match change {
            KeyChange::Install => keys.install(key),
            KeyChange::Use => keys.make_primary(key),
            KeyChange::Remove => keys.remove(key),
        };
        let changed = changed.map_err(|error: KeyError| error.to_string())?;
        if changed {
            self.swap_keys(keys);
        }
        Ok(changed)
    }

    /// The oldest makes room; its asker hears nothing, as if the answer had been lost.
    fn wait(&mut self, asker: Asker) -> QueryId {
        let queries = &mut self.queries;
        if queries.waiting.len() >= limits::KEY_QUERIES_MAX {
            queries.waiting.pop_front();
            self.counters.refused += 1;
        }
        queries.last_id = queries.last_id.wrapping_add(1);
        queries.waiting.push_back(Waiting { id: queries.last_id, asker });
        queries.last_id
    }

    /// The keys that [`Event::KeysAsked`] told of were stored (`Ok`, with a word about it if there is one to say), or
    /// hold in memory only, and why. This answers the query; its asker counts an `Err` as a failure. What is said
    /// should be no longer than [`limits::REASON_MAX`].
    pub fn handle_keys_stored(&mut self, now: Instant, id: QueryId, result: Result<&str, &str>) {
        self.begin_input(now);
        if let Some(at) = self.queries.waiting.iter().position(|waiting| waiting.id == id)
            && let Some(Waiting { asker, .. }) = self.queries.waiting.remove(at)
        {
            self.respond_about_keys(asker, result.is_ok(), result.unwrap_or_else(|error| error));
        }
        self.finish_input(now);
    }

    fn respond_about_keys(&mut self, asker: Asker, result: bool, message: &str) {
        self.respond(asker, false, &key_response(result, message, &[]));
    }

    /// All of them fit into an answer: there are [`limits::KEYS_MAX`] at most.
    fn list_keys(&mut self, asker: Asker) {
        if self.envelope.keys.is_empty() {
            return self.respond_about_keys(asker, false, NOT_ENCRYPTED);
        }
        let response = key_response(true, "", &self.envelope.keys.keys);
        self.respond(asker, false, &response);
    }

    /// `name` is the one that two agents have. Nobody speaks in its own dispute.
    fn say_who_has(&mut self, asker: Asker, name: &[u8]) {
        let known = core::str::from_utf8(name).ok().filter(|name| *name != &*self.config.node);
        let Some(member) = known.and_then(|name| self.table.get(name)) else { return };
        let status = match member.state {
            State::Alive | State::Suspect => Status::Alive,
            State::Left => Status::Left,
            State::Dead => Status::Failed,
        };
        let addr = member.addr_bytes();
        let record = Record {
            name: &member.name,
            addr: addr.as_slice(),
            port: member.addr.port(),
            meta: &member.meta,
            status,
            vsn: member.vsn,
        };
        let response = record.conflict_response();
        self.respond(asker, false, &response);
    }

    fn respond(&mut self, asker: Asker, ack: bool, payload: &[u8]) {
        let Asker { to, ltime, query: id } = asker;
        let mut out = Vec::new();
        QueryResponse { ltime, id, from: &self.config.node, ack, payload }.encode(&mut out);
        if out.len() <= limits::QUERY_RESPONSE_MAX {
            self.send(Outgoing::User { to, payload: out.into() });
        } else {
            self.counters.refused += 1;
        }
    }
}

const NOT_ENCRYPTED: &str = "this node runs without keys; to begin with keys it must be started anew";

const NOT_READABLE: &str = "the request for a change of keys cannot be read here; nothing was changed";

fn pass_on(queue: &mut Broadcasts, ltime: u64, id: u64, payload: &[u8]) {
    let mut bytes = Vec::with_capacity(1 + payload.len());
    Message::User(payload).encode(&mut bytes);
    queue.push(&format!("{ltime} {id}"), &bytes);
}

/// No node has a longer one.
fn name_of(node: &str) -> Box<str> {
    if node.len() <= limits::NAME_MAX { node.into() } else { "".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_what_is_forgotten_is_no_news() {
        let mut seen = Seen::default();
        let all = || (1..=2_000).map(|n| (1 + n / 10, n));
        assert_eq!(all().filter(|&(ltime, id)| seen.is_news(ltime, id)).count(), 2_000);
        assert_eq!(seen.newest.len(), limits::SERF_SEEN_MAX);
        assert_eq!(all().filter(|&(ltime, id)| seen.is_news(ltime, id)).count(), 0);
        assert_eq!(seen.clock, 202);
        assert!(seen.is_news(202, 1));
    }

    #[test]
    fn a_clock_that_is_at_its_end_stays_there() {
        let mut seen = Seen::default();
        assert!(seen.is_news(u64::MAX, 1));
        assert_eq!(seen.clock, u64::MAX);
        assert!(seen.is_news(u64::MAX, 2) && !seen.is_news(1, 1));
    }
}
