//! SWIM with Lifeguard, as memberlist does it, and the Serf layer: who is in the cluster and in what state.
//!
//! The protocol is memberlist's; `P n.m` in comments names a section of the protocol page. Where picored differs, on
//! purpose and without its peers noticing, is listed with the reasons in `deviations.rs`.

mod awareness;
mod deviations;
mod dissemination;
mod join;
mod member;
mod ping;
mod probe;
mod queries;
mod reload;
mod rules;
mod saved;
mod serf;
mod suspicion;
mod sync;
#[cfg(test)]
mod tests;
mod transmit;
mod versions;

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use crate::limits;
use crate::queue;
use crate::rng::{Rng, Seed};
use crate::time::{Instant, earliest};
use crate::wire::crypt::KeyRing;
use crate::wire::packet::{self, Builder, Envelope};
use crate::wire::{self, Message};
use awareness::Awareness;
use dissemination::Broadcasts;
pub use join::JoinEntry;
use member::Table;
pub use member::{Member, State};
pub use ping::{Answer, Pinged, Tried, TryId};
pub use queries::KeyChange;
pub use reload::Changeable;
pub use rules::NotForgotten;
pub use saved::{Evidence, Saved, Saving, stamp};
use transmit::{Nonces, Outgoing};

/// Everything that membership needs to know from outside.
#[derive(Clone)]
pub struct Config {
    /// This node's name.
    pub node: Rc<str>,
    /// Members that show another cluster name are refused.
    pub cluster: Box<str>,
    /// The address that others reach this node at.
    pub advertise: SocketAddr,
    pub label: Box<[u8]>,
    pub keys: KeyRing,
    /// DMin, DMax, DCur (protocol page, 3.9).
    pub delegate_versions: [u8; 3],
    pub timing: Timing,
    /// Whom to join; tried for ever.
    pub join: Vec<Target>,
    /// Names that are expected and never forgotten.
    pub members: Vec<Box<str>>,
    /// Sources that are heard; empty: all.
    pub allow: Vec<Cidr>,
    /// Failed members that are neither in `members` nor in `join` are forgotten after this.
    pub forget_after: Duration,
}

/// memberlist's timing parameters (protocol page, 7.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Timing {
    pub probe_interval: Duration,
    pub probe_timeout: Duration,
    pub gossip_interval: Duration,
    pub gossip_nodes: usize,
    pub suspicion_mult: u32,
    pub indirect_checks: usize,
    pub retransmit_mult: u32,
    pub push_pull_interval: Duration,
    pub gossip_to_the_dead: Duration,
    pub tcp_timeout: Duration,
    /// How long a member must be failed before another address may take its name over.
    pub reclaim_after: Duration,
}

/// An address to join: a literal, or a host name that is looked up at each try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    Addr(SocketAddr),
    Name { host: Box<str>, port: u16 },
}

/// A network in prefix notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub addr: IpAddr,
    pub prefix: u8,
}

/// What happened in the cluster. Members are named by their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// New, or back from failed or left.
    Joined {
        node: Rc<str>,
        returned: bool,
    },
    Suspected {
        node: Rc<str>,
        from: Rc<str>,
    },
    /// Suspect, and alive after all.
    Recovered {
        node: Rc<str>,
    },
    Failed {
        node: Rc<str>,
        from: Rc<str>,
    },
    Left {
        node: Rc<str>,
    },
    /// Its metadata changed.
    Updated {
        node: Rc<str>,
    },
    /// It came back at another address.
    Moved {
        node: Rc<str>,
        from: SocketAddr,
        to: SocketAddr,
    },
    /// Its time was over, or a person said so; it is in the table no more.
    Forgotten {
        node: Rc<str>,
    },
    /// Somebody else claims this name.
    Conflict {
        node: Rc<str>,
        addr: SocketAddr,
    },
    /// A member of another cluster was refused.
    ForeignCluster {
        node: Rc<str>,
        cluster: Box<str>,
        addr: SocketAddr,
    },
    /// What a failed member had said last came by way of a peer. Serf knows no such event.
    LastTags {
        node: Rc<str>,
    },
    /// A push/pull told of a failed member that was not known here; it is in the table now.
    FoundFailed {
        node: Rc<str>,
    },
    /// A push/pull showed other tags of this node than it has now: older ones, or those of a former life.
    OwnSeen {
        meta: Box<[u8]>,
    },
    /// We were accused and answered.
    Refuted {
        incarnation: u32,
    },
    /// A push/pull that we started did (`None`) or did not work.
    Synced {
        addr: SocketAddr,
        join: bool,
        error: Option<Box<str>>,
    },
    /// A join target could not be looked up.
    NotResolved {
        host: Box<str>,
        error: Box<str>,
    },
    /// Of several probes in a row only TCP or other members got through to it.
    UdpBlocked {
        node: Rc<str>,
        addr: SocketAddr,
    },
    /// Direct pings get through again.
    UdpRestored {
        node: Rc<str>,
    },
    /// What a person wanted tried is done.
    Tried {
        id: TryId,
        result: Tried,
    },
    /// The table is full; this one was refused.
    TableFull {
        node: Rc<str>,
    },
    /// A query changed the keys, or (`changed` is false) found them as it wants them. They are to be stored; then
    /// [`Membership::handle_keys_stored`] answers it.
    KeysAsked {
        id: QueryId,
        change: KeyChange,
        /// Of the key that it is about; see [`crate::wire::crypt::Key::fingerprint`].
        fingerprint: Box<str>,
        /// The node that asks.
        from: Rc<str>,
        changed: bool,
    },
    /// A query about keys was refused.
    KeysRefused {
        change: KeyChange,
        from: Rc<str>,
        error: Box<str>,
    },
    /// [`Membership::leave`] is done; the process may end.
    LeaveDone,
}

pub type StreamId = u32;
pub type ResolveId = u32;
pub type QueryId = u32;

/// What the driver should do for membership, besides sending datagrams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Connect; answer with [`StreamEvent::Connected`] or [`StreamEvent::Closed`].
    StreamOpen {
        id: StreamId,
        to: SocketAddr,
    },
    StreamSend {
        id: StreamId,
        bytes: Vec<u8>,
    },
    /// Flush what was sent, then close. Nothing more is heard of this id.
    StreamClose {
        id: StreamId,
    },
    /// Look the host name up; answer with [`Membership::handle_resolved`].
    Resolve {
        id: ResolveId,
        host: Box<str>,
    },
}

/// What happened on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamEvent<'a> {
    /// Our connection is established.
    Connected,
    Data(&'a [u8]),
    /// The other side closed its direction, or the connection broke (with the reason). The driver has
    /// dropped its side unless the reason is empty (end of file: it can still be written to).
    Closed(&'a str),
}

/// Why a datagram could not be sent: evidence against this machine rather than the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    Unreachable,
    NotPermitted,
    NoBuffers,
    Other,
}

/// Counters for `status -v`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub streams_in: u64,
    pub streams_out: u64,
    /// By [`crate::wire::Error::kind`].
    pub bad: [u64; 8],
    /// Sources that `allow` does not name.
    pub not_allowed: u64,
    /// Refused at a limit (streams, relays, replies, members).
    pub refused: u64,
    pub send_errors: u64,
}

/// The state machine. One input, then drain `poll_transmit`, `poll_action`, `poll_event` until `None`.
pub struct Membership {
    config: Config,
    envelope: Rc<Envelope>,
    rng: Rng,
    nonces: Nonces,
    table: Table,
    /// Number of the last ping.
    seq: u32,
    awareness: Awareness,
    broadcasts: Broadcasts,
    serf: serf::Serf,
    queries: queries::Queries,
    probe: Option<probe::Probe>,
    /// The last probe, if it was answered but not by UDP from the member itself.
    missed: Option<probe::Missed>,
    /// The last probe was of a member whose turn it was not.
    probed_out_of_turn: bool,
    enquiries: Vec<probe::Enquiry>,
    /// When this node, knowing nobody, asked who pinged it.
    asked_stranger_at: Option<Instant>,
    relays: Vec<probe::Relay>,
    streams: sync::Streams,
    joins: Vec<join::Join>,
    joins_once: Vec<join::Once>,
    pings: Vec<ping::MemberPing>,
    last_try: TryId,
    /// Who was forgotten lately.
    tombstones: VecDeque<rules::Tombstone>,
    /// See [`member::Source::File`].
    file_counts_until: Option<Instant>,
    /// Failed members that time does not make forgotten.
    kept: Vec<Rc<str>>,
    /// Members of the state file that are still to be tried.
    rejoins: Vec<SocketAddr>,
    /// Probe rounds since the start.
    rounds: u64,
    timers: [Option<Instant>; Timer::COUNT],
    last_gossip: Instant,
    leaving: Option<serf::Leave>,
    /// The deadline that was asked for after the last input, to notice that we were not running.
    asked_for: Option<Instant>,
    last_input: Instant,
    outgoing: VecDeque<Outgoing>,
    actions: VecDeque<Action>,
    events: VecDeque<Event>,
    counters: Counters,
    /// A member's state or address changed: the join targets are to be looked at.
    changed: bool,
    // Buffers that are kept, so that a ping allocates nothing.
    builder: Builder,
    scratch: Vec<u8>,
    message: Vec<u8>,
}

/// What happens at a time, in the order in which it happens if several are due.
#[derive(Clone, Copy)]
enum Timer {
    /// The probed member did not answer in time: ask others.
    ProbeTimeout,
    /// The probe's verdict.
    ProbeEnd,
    /// The next probe.
    Probe,
    /// News go to a few members.
    Gossip,
    /// A full exchange with one member.
    PushPull,
    /// The next step of leaving.
    Leave,
}

impl Timer {
    const COUNT: usize = 6;
}

impl Membership {
    /// Starts alone, with `meta` as own metadata; the first join is due at once.
    pub fn new(config: Config, meta: &[u8], seed: Seed, now: Instant) -> Self {
        let mut rng = Rng::new(seed.rng);
        let envelope = Envelope {
            label: config.label.clone(),
            keys: config.keys.clone(),
            compress_from: transmit::COMPRESS_FROM,
            compress_streams: true,
        };
        let own = config.advertise;
        let joins = config.join.iter().map(|target| join::Join::new(target.clone(), own, now)).collect();
        let mut membership = Self {
            envelope: Rc::new(envelope),
            nonces: Nonces::new(seed.nonce),
            table: Table::default(),
            // The number is opaque to others, so it need not be guessable (P 9, acks).
            seq: rng.next_u64() as u32,
            awareness: Awareness::default(),
            broadcasts: Broadcasts::default(),
            serf: serf::Serf::new(config.delegate_versions),
            queries: queries::Queries::default(),
            probe: None,
            missed: None,
            probed_out_of_turn: false,
            enquiries: Vec::new(),
            asked_stranger_at: None,
            relays: Vec::new(),
            streams: sync::Streams::default(),
            joins,
            joins_once: Vec::new(),
            pings: Vec::new(),
            last_try: 0,
            tombstones: VecDeque::new(),
            file_counts_until: None,
            kept: Vec::new(),
            rejoins: Vec::new(),
            rounds: 0,
            timers: [None; Timer::COUNT],
            last_gossip: Instant::ZERO,
            leaving: None,
            asked_for: None,
            last_input: now,
            outgoing: VecDeque::new(),
            actions: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            changed: true,
            builder: Builder::default(),
            scratch: Vec::new(),
            message: Vec::new(),
            rng,
            config,
        };
        membership.start(meta, now);
        membership
    }

    fn start(&mut self, meta: &[u8], now: Instant) {
        let timing = &self.config.timing;
        // An incarnation of 0 is never accepted by others (P 10.14); a new member has 1.
        let mut me = Member::new(&self.config.node, self.config.advertise, now);
        (me.meta, me.vsn) = (meta.into(), self.own_vsn());
        self.timers[Timer::Probe as usize] = Some(now + self.rng.duration_below(timing.probe_interval));
        self.timers[Timer::PushPull as usize] =
            Some(now + self.rng.duration_below(timing.push_pull_interval));
        self.table.insert(me, &mut self.rng);
        self.broadcast_own_alive();
        self.finish_input(now);
    }

    // What happened.

    pub fn handle_packet(&mut self, now: Instant, from: SocketAddr, packet: &mut [u8]) {
        self.begin_input(now);
        self.counters.packets_in += 1;
        self.counters.bytes_in += packet.len() as u64;
        if self.is_allowed(from.ip()) {
            let envelope = Rc::clone(&self.envelope);
            let mut scratch = core::mem::take(&mut self.scratch);
            let result = packet::open(&envelope, packet, &mut scratch, &mut |message| match message {
                Ok(message) => self.handle_message(now, from, message),
                Err(error) => self.count_bad(error),
            });
            if let Err(error) = result {
                self.count_bad(error);
            }
            self.scratch = scratch;
        } else {
            self.counters.not_allowed += 1;
        }
        self.probe_early(now);
        self.finish_input(now);
    }

    fn handle_message(&mut self, now: Instant, from: SocketAddr, message: Message<'_>) {
        // No node has a name that long, and what repeats it would fit no datagram. All other names are checked,
        // or looked up, before anything is done with them.
        let repeated = match &message {
            Message::Suspect(claim) | Message::Dead(claim) => claim.from,
            Message::IndirectPing(request) => request.node,
            _ => "",
        };
        if repeated.len() > limits::NAME_MAX {
            return self.count_bad(wire::Error::Malformed);
        }
        match message {
            Message::Ping(ping) => self.handle_ping(now, from, &ping),
            Message::IndirectPing(request) => self.handle_indirect_ping(now, from, &request),
            Message::Ack(ack) => self.handle_ack(now, ack.seq),
            Message::Nack { seq } => self.handle_nack(seq),
            Message::Suspect(claim) => self.handle_suspect(now, &claim),
            Message::Dead(claim) => self.handle_dead(now, &claim),
            Message::Alive(alive) => self.handle_alive(now, &alive),
            Message::User(payload) => self.handle_user(now, payload),
        }
    }

    /// A datagram could not be sent: evidence against this machine, so it accuses nobody.
    pub fn handle_send_error(&mut self, now: Instant, to: SocketAddr, error: SendError) {
        self.begin_input(now);
        self.counters.send_errors += 1;
        self.note_sent(to, false);
        if let Some(probe) = &mut self.probe {
            probe.note_send_error(to);
        }
        self.enquiries.retain(|enquiry| !enquiry.is_about(to));
        self.ping_not_sent(to, error);
        self.finish_input(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.begin_input(now);
        self.expire_relays(now);
        self.expire_enquiries(now);
        if self.take_timer(now, Timer::ProbeTimeout) {
            self.probe_timed_out();
        }
        if self.take_timer(now, Timer::ProbeEnd) {
            self.probe_ended(now);
        }
        if self.take_timer(now, Timer::Probe) {
            self.probe_next(now);
        }
        self.expire_suspicions(now);
        if self.take_timer(now, Timer::Gossip) {
            self.gossip(now);
        }
        if self.take_timer(now, Timer::PushPull) {
            self.periodic_push_pull(now);
        }
        self.join_when_due(now);
        self.expire_streams(now);
        self.expire_pings(now);
        self.expire_joins_once(now);
        if self.take_timer(now, Timer::Leave) {
            self.leave_step(now);
        }
        self.finish_input(now);
    }

    // What the program wants.

    /// New own metadata: told to everybody if it differs. At most [`crate::limits::META_MAX`] bytes; longer
    /// metadata is not taken.
    pub fn set_meta(&mut self, now: Instant, meta: &[u8]) {
        self.begin_input(now);
        debug_assert!(meta.len() <= limits::META_MAX, "metadata is checked when the configuration is loaded");
        let unchanged = *self.me().meta == *meta;
        if !unchanged && meta.len() <= limits::META_MAX && self.leaving.is_none() {
            let me = self.me_mut();
            me.meta = meta.into();
            me.incarnation = me.incarnation.saturating_add(1);
            self.broadcast_own_alive();
        }
        self.finish_input(now);
    }

    /// What to do for membership, besides sending datagrams.
    pub fn poll_action(&mut self) -> Option<Action> {
        queue::pop(&mut self.actions)
    }

    pub fn poll_event(&mut self) -> Option<Event> {
        queue::pop(&mut self.events)
    }

    /// When [`Membership::handle_timeout`] is to be called at the latest.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.asked_for
    }

    // What is true.

    /// All members, this node among them, sorted by name.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.table.members().iter()
    }

    pub fn member(&self, name: &str) -> Option<&Member> {
        self.table.get(name)
    }

    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Lifeguard's local health score, 0 (well) to 7.
    pub fn health_score(&self) -> u32 {
        self.awareness.score()
    }

    /// Whether every configured join target was reached at least once since the start (or is oneself), and everybody
    /// whom the state file says to run was heard, or has failed.
    pub fn is_joined(&self) -> bool {
        let is_silent = |m: &Member| !m.heard && m.state.is_running();
        self.joins.iter().all(|join| join.was_reached()) && !self.table.members().iter().any(is_silent)
    }

    // Helpers for all parts.

    /// Looks whether we were not running (suspended, starved) since the deadline that we had asked for, before
    /// anything is changed. Suspects get that time back, and a probe in it proves nothing.
    fn begin_input(&mut self, now: Instant) {
        let last_input = core::mem::replace(&mut self.last_input, now);
        let Some(asked_for) = self.asked_for.take() else { return };
        // Several inputs may come at once, after one and the same gap.
        let gap = now.since(asked_for.max(last_input));
        if gap <= limits::LATE {
            return;
        }
        for member in self.table.members_mut() {
            if let Some(suspicion) = &mut member.suspicion {
                suspicion.postpone(gap);
            }
        }
        self.abandon_probe();
        self.relays.clear();
        self.enquiries.clear();
        self.awareness.apply(1);
    }

    /// After every input: whatever follows from it that is no message's own business.
    fn finish_input(&mut self, now: Instant) {
        if core::mem::take(&mut self.changed) {
            self.review_joins(now);
        }
        self.report_pings();
        self.arm_gossip(now);
        self.asked_for = self.earliest_deadline();
    }

    /// The earliest of all that waits.
    fn earliest_deadline(&self) -> Option<Instant> {
        let suspicions =
            self.table.members().iter().filter_map(|m| m.suspicion.as_ref().map(|s| s.deadline()));
        let relays = self.relays.iter().map(|relay| relay.deadline);
        let enquiries = self.enquiries.iter().map(|enquiry| enquiry.deadline);
        // Who leaves joins nobody; a try that was due must not keep it awake.
        let joins = self.joins.iter().filter(|_| self.leaving.is_none()).filter_map(|join| join.next_try());
        let others =
            suspicions.chain(relays).chain(enquiries).chain(joins).chain(self.streams.deadlines()).min();
        let pings = self.pings.iter().map(|ping| ping.deadline);
        let tries = pings.chain(self.joins_once.iter().map(|once| once.deadline)).min();
        earliest(self.timers.iter().copied().chain([others, tries]))
    }

    /// Whether `timer` is due; then it is stopped.
    fn take_timer(&mut self, now: Instant, timer: Timer) -> bool {
        let due = self.timers[timer as usize].is_some_and(|at| at <= now);
        if due {
            self.timers[timer as usize] = None;
        }
        due
    }

    fn set_timer(&mut self, timer: Timer, at: Instant) {
        self.timers[timer as usize] = Some(at);
    }

    fn next_seq(&mut self) -> u32 {
        self.seq = self.seq.wrapping_add(1);
        self.seq
    }

    fn me(&self) -> &Member {
        self.table
            .get(&self.config.node)
            .expect("this node is put into the table at the start and never removed")
    }

    fn me_mut(&mut self) -> &mut Member {
        self.table
            .get_mut(&self.config.node)
            .expect("this node is put into the table at the start and never removed")
    }

    /// memberlist speaks protocol 2 and understands 1 to 5 (P 3.9); the rest is the application's.
    fn own_vsn(&self) -> [u8; 6] {
        let [min, max, current] = self.config.delegate_versions;
        [1, 5, 2, min, max, current]
    }

    /// The table's size as memberlist would count it: without those gone for long.
    fn estimated_members(&self, now: Instant) -> usize {
        let dead_time = self.config.timing.gossip_to_the_dead;
        self.table.members().iter().filter(|m| m.is_current(now, dead_time)).count()
    }

    fn is_allowed(&self, ip: IpAddr) -> bool {
        self.config.allow.is_empty() || self.config.allow.iter().any(|network| network.contains(ip))
    }

    fn count_bad(&mut self, error: wire::Error) {
        self.counters.bad[error.kind()] += 1;
    }
}

impl Cidr {
    /// Whether `ip` is in this network.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let shared = |a: u128, b: u128, width: u32| {
            let prefix = u32::from(self.prefix).min(width);
            prefix == 0 || (a ^ b) >> (width - prefix) == 0
        };
        match (self.addr, ip) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => shared(net.to_bits().into(), ip.to_bits().into(), 32),
            (IpAddr::V6(net), IpAddr::V6(ip)) => shared(net.to_bits(), ip.to_bits(), 128),
            _ => false,
        }
    }
}
