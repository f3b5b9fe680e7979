//! Full exchanges over TCP: join, periodic anti-entropy, and the streams that carry them (P 6, 7.6, 7.8).

use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use super::join::RETRY_MIN;
use super::member::{AddrBytes, Source, State};
use super::ping::TryId;
use super::transmit::source;
use super::versions::{Versions, speaks, verify_protocol};
use super::{Action, Event, Member, Membership, StreamEvent, StreamId, Timer};
use crate::limits;
use crate::time::Instant;
use crate::wire::packet::Envelope;
use crate::wire::stream::{self, NodeState, PushPull, Reader, Received, StreamMessage, WireState};
use crate::wire::{Ack, Alive, Claim, Message, Ping};

/// What a stream is for.
#[derive(Debug)]
enum Purpose {
    /// The other side opened it.
    Accepted,
    /// We exchange tables.
    PushPull { cause: Cause },
    /// We ask whether it answers over TCP.
    Ping { seq: u32 },
    /// We tell something and expect no answer.
    User,
}

/// Why tables are exchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// With a member, to be of one mind.
    Member,
    /// The join target of this index is tried.
    Target(usize),
    /// A person wants it joined.
    Person(TryId),
    /// The state file has a member there.
    Remembered,
}

/// One TCP exchange.
struct Stream {
    id: StreamId,
    peer: SocketAddr,
    purpose: Purpose,
    deadline: Instant,
    reader: Reader,
    /// What to say once connected.
    request: Vec<u8>,
    /// What to read it with, if keys were removed after it was opened.
    envelope: Option<Rc<Envelope>>,
}

/// All exchanges that are under way.
#[derive(Default)]
pub(super) struct Streams {
    open: Vec<Stream>,
    last_id: StreamId,
}

impl Streams {
    pub fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.open.iter().map(|stream| stream.deadline)
    }

    /// What was opened before keys were removed is read with them to its end.
    pub fn keep_keys(&mut self, before: &Rc<Envelope>, now: &Envelope) {
        for stream in &mut self.open {
            let known = &stream.envelope.as_ref().unwrap_or(before).keys.keys;
            let mut keys = now.keys.clone();
            keys.keys.extend(known.iter().filter(|key| !now.keys.keys.contains(key)).cloned());
            keys.keys.truncate(2 * limits::KEYS_MAX);
            stream.envelope = Some(Rc::new(Envelope { keys, ..now.clone() }));
        }
    }

    /// The join targets have other places now.
    pub fn move_joins(&mut self, place: impl Fn(usize) -> Option<usize>) {
        for stream in &mut self.open {
            if let Purpose::PushPull { cause } = &mut stream.purpose
                && let Cause::Target(i) = *cause
            {
                *cause = place(i).map_or(Cause::Member, Cause::Target);
            }
        }
    }

    fn held(&self) -> usize {
        self.open.iter().map(|stream| stream.reader.held()).sum()
    }

    fn accepted(&self) -> usize {
        self.open.iter().filter(|stream| matches!(stream.purpose, Purpose::Accepted)).count()
    }

    pub fn next_id(&mut self) -> StreamId {
        self.last_id = self.last_id.wrapping_add(1);
        self.last_id
    }
}

impl Membership {
    // Streams.

    /// A connection came in; `None`: refuse it.
    pub fn accept_stream(&mut self, now: Instant, from: SocketAddr) -> Option<StreamId> {
        self.begin_input(now);
        let full = self.streams.accepted() >= limits::STREAMS_MAX - limits::OWN_STREAMS;
        let id = if full || !self.is_allowed(from.ip()) {
            self.refuse_stream(from);
            None
        } else {
            self.counters.streams_in += 1;
            self.add_stream(from, Purpose::Accepted, Vec::new(), now + self.config.timing.tcp_timeout)
        };
        self.finish_input(now);
        id
    }

    /// A connection came in for which there is no room: it is counted only.
    pub fn refuse_stream(&mut self, from: SocketAddr) {
        match self.is_allowed(from.ip()) {
            true => self.counters.refused += 1,
            false => self.counters.not_allowed += 1,
        }
    }

    pub fn handle_stream(&mut self, now: Instant, id: StreamId, event: StreamEvent<'_>) {
        self.begin_input(now);
        if let Some(at) = self.streams.open.iter().position(|stream| stream.id == id) {
            match event {
                StreamEvent::Connected => self.stream_connected(at),
                StreamEvent::Data(bytes) => self.stream_data(now, at, bytes),
                StreamEvent::Closed("") => self.stream_failed(now, at, "closed without an answer"),
                StreamEvent::Closed(reason) => self.stream_failed(now, at, reason),
            }
        }
        self.finish_input(now);
    }

    pub(super) fn expire_streams(&mut self, now: Instant) {
        while let Some(at) = self.streams.open.iter().position(|stream| stream.deadline <= now) {
            self.stream_failed(now, at, "no answer in time");
        }
    }

    /// Starts a TCP ping (P 6.2), to be answered until `deadline`; false if there is no stream left.
    pub(super) fn tcp_ping(&mut self, to: SocketAddr, node: &str, seq: u32, deadline: Instant) -> bool {
        let addr = self.me().addr_bytes();
        let source = source(&self.config, &addr);
        let mut request = Vec::new();
        Message::Ping(Ping { node, seq, source }).encode(&mut request);
        self.open_stream(to, Purpose::Ping { seq }, request, deadline)
    }

    /// Sends a user message by stream (P 6.3).
    pub(super) fn send_user(&mut self, now: Instant, to: SocketAddr, payload: &[u8]) {
        let mut request = Vec::new();
        stream::encode_user(payload, &mut request);
        let deadline = now + self.config.timing.tcp_timeout;
        self.open_stream(to, Purpose::User, request, deadline);
    }

    /// Exchanges tables with the node at `to`, from which something was just heard. A connection to it that has
    /// not come about for a while was begun when it could not be reached, and is not waited for.
    pub(super) fn sync_with(&mut self, now: Instant, to: SocketAddr) {
        let tcp_timeout = self.config.timing.tcp_timeout;
        let hangs = |s: &Stream| !s.request.is_empty() && s.deadline + RETRY_MIN <= now + tcp_timeout;
        let busy = |s: &Stream| s.peer == to && matches!(s.purpose, Purpose::PushPull { .. }) && !hangs(s);
        if !self.streams.open.iter().any(busy) {
            self.push_pull(now, to, Cause::Member);
        }
    }

    /// Opens an exchange of tables; false if there is no stream left.
    pub(super) fn push_pull(&mut self, now: Instant, to: SocketAddr, cause: Cause) -> bool {
        let request = self.encode_table(now, cause != Cause::Member);
        let deadline = now + self.config.timing.tcp_timeout;
        self.open_stream(to, Purpose::PushPull { cause }, request, deadline)
    }

    fn open_stream(&mut self, to: SocketAddr, purpose: Purpose, request: Vec<u8>, deadline: Instant) -> bool {
        let request = stream::seal(&self.envelope, true, self.nonces.next(), &request);
        let Some(id) = self.add_stream(to, purpose, request, deadline) else { return false };
        self.counters.streams_out += 1;
        self.actions.push_back(Action::StreamOpen { id, to });
        true
    }

    fn add_stream(
        &mut self,
        peer: SocketAddr,
        purpose: Purpose,
        request: Vec<u8>,
        deadline: Instant,
    ) -> Option<StreamId> {
        if self.streams.open.len() >= limits::STREAMS_MAX {
            self.counters.refused += 1;
            return None;
        }
        let id = self.streams.next_id();
        let reader = Reader::new(matches!(purpose, Purpose::Accepted));
        let envelope = None;
        self.streams.open.push(Stream { id, peer, purpose, deadline, reader, request, envelope });
        Some(id)
    }

    fn stream_connected(&mut self, at: usize) {
        let stream = &mut self.streams.open[at];
        let (id, bytes) = (stream.id, core::mem::take(&mut stream.request));
        self.counters.bytes_out += bytes.len() as u64;
        self.actions.push_back(Action::StreamSend { id, bytes });
        if matches!(stream.purpose, Purpose::User) {
            self.close_stream(at);
        }
    }

    fn stream_data(&mut self, now: Instant, at: usize, bytes: &[u8]) {
        self.counters.bytes_in += bytes.len() as u64;
        if self.streams.held() + bytes.len() > limits::STREAMS_TOTAL_MAX {
            self.counters.refused += 1;
            return self.stream_failed(now, at, "too many bytes held by all streams");
        }
        let stream = &mut self.streams.open[at];
        let envelope = stream.envelope.as_ref().unwrap_or(&self.envelope);
        match stream.reader.feed(envelope, bytes) {
            Ok(None) => {}
            Ok(Some(received)) => self.stream_complete(now, at, &received),
            Err(problem) => {
                self.count_bad(problem.error);
                if let Some(text) = problem.reply {
                    let mut reply = Vec::new();
                    stream::encode_error(text, &mut reply);
                    self.reply(at, &reply);
                }
                self.stream_failed(now, at, "the answer makes no sense (another key, label or protocol?)");
            }
        }
    }

    /// The other side has said all it had to say.
    fn stream_complete(&mut self, now: Instant, at: usize, received: &Received) {
        let message = match received.message() {
            Ok(message) => message,
            Err(error) => {
                self.count_bad(error);
                return self.stream_failed(now, at, "the answer makes no sense");
            }
        };
        match (&self.streams.open[at].purpose, message) {
            (Purpose::Accepted, message) => self.serve(now, at, message),
            (Purpose::PushPull { .. }, StreamMessage::PushPull(table)) => {
                let Stream { peer, purpose, .. } = self.close_stream(at);
                let Purpose::PushPull { cause } = purpose else { return };
                self.note_own_address(cause, peer, &table);
                let error = self.merge(now, &table).err();
                let error = error.or_else(|| self.joined_nobody(cause, &table).map(Into::into));
                self.push_pull_done(now, peer, cause, error);
            }
            (Purpose::PushPull { .. }, StreamMessage::Error(text)) => {
                let text = format!("refused: {text}");
                self.stream_failed(now, at, &text);
            }
            (Purpose::Ping { seq }, StreamMessage::Ack(ack)) => {
                if *seq != ack.seq {
                    return self.stream_failed(now, at, "an answer to another ping");
                }
                self.close_stream(at);
                self.tcp_ping_answered(now, ack.seq);
            }
            _ => self.stream_failed(now, at, "an unexpected answer"),
        }
    }

    /// Answers what another node asks on a stream that it opened.
    fn serve(&mut self, now: Instant, at: usize, message: StreamMessage<'_>) {
        match message {
            StreamMessage::PushPull(table) => {
                // The answer is the table as it was before (P 6.1).
                let reply = self.encode_table(now, table.join);
                self.reply(at, &reply);
                let Stream { peer: addr, .. } = self.close_stream(at);
                if let Err(error) = self.merge(now, &table) {
                    self.events.push_back(Event::Synced { addr, join: false, error: Some(error) });
                }
            }
            StreamMessage::Ping(ping) => {
                if ping.node.is_empty() || *ping.node == *self.config.node {
                    let mut reply = Vec::new();
                    Message::Ack(Ack { seq: ping.seq, payload: &[] }).encode(&mut reply);
                    self.reply(at, &reply);
                }
                self.close_stream(at);
            }
            StreamMessage::User(payload) => {
                self.close_stream(at);
                self.handle_user(now, payload);
            }
            StreamMessage::Ack(_) | StreamMessage::Error(_) => {
                self.close_stream(at);
            }
        }
    }

    fn reply(&mut self, at: usize, body: &[u8]) {
        let bytes = stream::seal(&self.envelope, false, self.nonces.next(), body);
        self.counters.bytes_out += bytes.len() as u64;
        self.actions.push_back(Action::StreamSend { id: self.streams.open[at].id, bytes });
    }

    fn stream_failed(&mut self, now: Instant, at: usize, reason: &str) {
        let stream = self.close_stream(at);
        match stream.purpose {
            Purpose::PushPull { cause } => self.push_pull_done(now, stream.peer, cause, Some(reason.into())),
            Purpose::Ping { seq } => self.ping_by_tcp_done(now, seq, Some(reason)),
            Purpose::Accepted | Purpose::User => {}
        }
    }

    /// Closes the streams of something that a person gave up: a ping's, by its number, and a join's.
    pub(super) fn abandon_streams(&mut self, ping: Option<u32>, join: TryId) {
        let is_its = |stream: &Stream| match stream.purpose {
            Purpose::Ping { seq } => ping == Some(seq),
            Purpose::PushPull { cause } => cause == Cause::Person(join),
            Purpose::Accepted | Purpose::User => false,
        };
        while let Some(at) = self.streams.open.iter().position(is_its) {
            self.close_stream(at);
        }
    }

    fn close_stream(&mut self, at: usize) -> Stream {
        let stream = self.streams.open.swap_remove(at);
        self.actions.push_back(Action::StreamClose { id: stream.id });
        if self.streams.open.is_empty() {
            self.streams.open.shrink_to_fit();
        }
        stream
    }

    // Push/pull.

    /// At its interval, one random member (P 7.8).
    pub(super) fn periodic_push_pull(&mut self, now: Instant) {
        let interval = push_pull_scale(self.config.timing.push_pull_interval, self.estimated_members(now));
        self.set_timer(Timer::PushPull, now + interval);
        let me = &self.config.node;
        let picked = self.table.pick(&mut self.rng, 1, |m| m.state == State::Alive && m.name != *me);
        if let Some(to) = picked.first().map(|m| m.addr) {
            self.sync_with(now, to);
        }
    }

    /// The whole table as one message. Left out are members that memberlist would have forgotten and whose versions
    /// could spoil the exchange for others; those known at second hand ([`Membership::is_passed_on`]); and those that
    /// are to be forgotten.
    fn encode_table(&self, now: Instant, join: bool) -> Vec<u8> {
        let dead_time = self.config.timing.gossip_to_the_dead;
        let own = self.own_vsn();
        let shown: Vec<(&Member, AddrBytes)> = self
            .table
            .members()
            .iter()
            .filter(|m| self.is_passed_on(now, m) && !self.is_overdue(now, m))
            .filter(|m| m.is_current(now, dead_time) || speaks(&m.vsn, &own))
            .map(|m| (m, m.addr_bytes()))
            .collect();
        let nodes = shown.iter().map(|(m, addr)| NodeState {
            name: &m.name,
            addr: addr.as_slice(),
            port: m.addr.port(),
            incarnation: m.incarnation,
            meta: &m.meta,
            state: m.wire_state(),
            vsn: &m.vsn,
        });
        let user_state = self.serf.encode_user_state(self.table.members(), &self.queries);
        let mut out = Vec::new();
        stream::encode_push_pull(join, nodes, &user_state, &mut out);
        out
    }

    /// Takes over what another table knows better (P 7.6). An error changes nothing.
    pub(super) fn merge(&mut self, now: Instant, table: &PushPull<'_>) -> Result<(), Box<str>> {
        self.verify_versions(now, table)?;
        for node in &table.nodes {
            let me = self.config.node.clone();
            if *node.name == *me {
                self.see_own_tags(node);
            }
            let accuse = Claim { node: node.name, from: &me, incarnation: node.incarnation };
            match node.state {
                WireState::Alive => self.handle_alive(
                    now,
                    &Alive {
                        node: node.name,
                        addr: node.addr,
                        port: node.port,
                        incarnation: node.incarnation,
                        meta: node.meta,
                        vsn: node.vsn,
                    },
                ),
                WireState::Left => self.handle_dead(now, &Claim { from: node.name, ..accuse }),
                // A death by hearsay is only a suspicion.
                WireState::Dead | WireState::Suspect => self.handle_suspect(now, &accuse),
                WireState::Unknown => {}
            }
        }
        self.handle_user_state(now, table.user_state);
        for node in table.nodes.iter().filter(|node| node.state == WireState::Dead) {
            self.take_over_failed(now, node);
        }
        Ok(())
    }

    /// memberlist's verifyProtocol over the received table and our own (P 3.9).
    fn verify_versions(&self, now: Instant, table: &PushPull<'_>) -> Result<(), Box<str>> {
        let dead_time = self.config.timing.gossip_to_the_dead;
        let remote = table.nodes.iter().map(|node| Versions {
            name: node.name,
            alive: node.state == WireState::Alive,
            vsn: node.vsn.try_into().unwrap_or([0; 6]),
            known: node.vsn.len() == 6,
        });
        let counts = |m: &&Member| m.is_current(now, dead_time) && m.source == Source::Own;
        let local = self.table.members().iter().filter(counts).map(|m| Versions {
            name: &m.name,
            alive: m.state == State::Alive,
            vsn: m.vsn,
            known: true,
        });
        verify_protocol(local.chain(remote))
    }

    fn push_pull_done(&mut self, now: Instant, peer: SocketAddr, cause: Cause, error: Option<Box<str>>) {
        match cause {
            Cause::Member => {}
            Cause::Target(i) => self.target_tried(now, i, error.is_some()),
            Cause::Remembered => {
                self.rejoin_next(now);
                if error.is_some() {
                    return; // it may be gone for long
                }
                self.announce_first_join();
            }
            Cause::Person(id) => {
                self.person_tried(now, id, error.clone());
                if error.is_some() {
                    return; // the person is told, nobody else
                }
            }
        }
        let join = cause != Cause::Member;
        self.events.push_back(Event::Synced { addr: peer, join, error });
    }
}

/// The push/pull interval of a cluster of this size: longer from 33 members on (P 7.8).
fn push_pull_scale(interval: Duration, members: usize) -> Duration {
    const SCALE_FROM: usize = 32;
    if members <= SCALE_FROM {
        return interval;
    }
    let times = ((members as f64).log2() - (SCALE_FROM as f64).log2()).ceil() + 1.0;
    interval * times as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_push_pull_interval_is_the_librarys() {
        let tables: Value =
            serde_json::from_str(include_str!("../../tests/vectors/tables.json")).expect("vector is JSON");
        for row in tables["push_pull_scale"].as_array().expect("a list") {
            let n = row["n"].as_u64().expect("a number") as usize;
            for base in [15, 30, 60] {
                let expected = row[format!("base_{base}s_ns")].as_u64().expect("nanoseconds");
                let scaled = push_pull_scale(Duration::from_secs(base), n);
                assert_eq!(scaled, Duration::from_nanos(expected), "n {n}");
            }
        }
    }
}
