//! Every limit of the program, each with its reason.
//!
//! What would exceed a limit is refused and counted, never grown into, so that memory is a sum one
//! can do on paper. Sources: `interfaces` section 9 of the design, and the protocol's own bounds.

use core::time::Duration;

/// Members in the table, dead ones included. 64 are what a small cluster looks like.
pub const MEMBERS_MAX: usize = 1_000;
/// Metadata of one member (memberlist's `MetaMaxSize`).
pub const META_MAX: usize = 512;
/// A node's name in bytes (Serf's limit).
pub const NAME_MAX: usize = 128;
/// A datagram that we send (memberlist's `UDPBufferSize`; fits an Ethernet frame with room to spare).
pub const PACKET_OUT_MAX: usize = 1_400;
/// A datagram that we receive, and what a compressed one may inflate to.
pub const PACKET_IN_MAX: usize = 65_536;
/// Compound and compressed wrappers within each other. Real senders use two.
pub const NESTING_MAX: usize = 3;
/// Parts in one compound message that we send: memberlist 0.2.2 misparses 128 and more.
pub const COMPOUND_PARTS_MAX: usize = 127;
/// Messages handled out of one datagram, wrappers multiplied out.
pub const MESSAGES_PER_PACKET_MAX: usize = 512;

/// Streams (TCP exchanges) open at once, ours and others'.
pub const STREAMS_MAX: usize = 32;
/// Of these, kept free for our own joins, exchanges and TCP pings, whatever others open.
pub const OWN_STREAMS: usize = 8;
/// One stream, inflated. 1,000 members of 700 bytes fit.
pub const STREAM_MAX: usize = 1 << 20;
/// Received bytes held by all streams together.
pub const STREAMS_TOTAL_MAX: usize = 4 << 20;

/// Broadcasts waiting: one for each member, and Serf intents.
pub const BROADCASTS_MAX: usize = MEMBERS_MAX + 256;
/// Serf intents remembered, so that each is passed on once.
pub const INTENTS_MAX: usize = 256;
/// Serf's user events and queries remembered, so that each is passed on, and answered, once.
pub const SERF_SEEN_MAX: usize = 512;
/// Of these, waiting to be passed on.
pub const SERF_PASSED_ON_MAX: usize = 64;
/// Our answer to a query, in bytes (Serf's `QueryResponseSizeLimit`).
pub const QUERY_RESPONSE_MAX: usize = 1_024;
/// Queries about keys that wait until the key file is written.
pub const KEY_QUERIES_MAX: usize = 16;
/// Keys in a ring. Each packet that none fits is tried with all of them.
pub const KEYS_MAX: usize = 16;
/// Indirect pings that we relay for others at once (56 bytes each).
pub const RELAYS_MAX: usize = 32;
/// Small replies (acks, nacks, pings) waiting to be written.
pub const REPLIES_MAX: usize = 256;
/// Host names of `join` being looked up at once.
pub const RESOLVES_MAX: usize = 4;
/// Addresses taken from one look-up.
pub const RESOLVED_ADDRESSES_MAX: usize = 8;

/// Pings and joins of persons under way at once, with a stream each: half of [`OWN_STREAMS`]. Joins leave one to
/// pings.
pub const TRIES_MAX: usize = OWN_STREAMS / 2;
/// Clients whose pings or joins are under way or wait for their turn.
pub const TRYING_CLIENTS_MAX: usize = 4;
/// Addresses of one `picored join`.
pub const JOIN_ONCE_MAX: usize = 16;
/// A person's ping of one member is answered within this, or is not: a lost SYN is sent again after 1 s.
pub const PING_TIME_MAX: Duration = Duration::from_secs(3);
/// A person's join of one target, its look-up included.
pub const JOIN_TIME_MAX: Duration = Duration::from_secs(20);
/// All that one request wants pinged or joined; what is left then is not tried.
pub const TRYING_TIME_MAX: Duration = Duration::from_secs(120);
/// Names that a person said to forget; the oldest makes room.
pub const TOMBSTONES_MAX: usize = 256;

/// Attempts (checks, witnesses, verify) under way at once.
pub const ATTEMPTS_MAX: usize = 64;
/// Of these, for witnesses and failed nodes: as many as two nodes with all the addresses that they may publish.
pub const VERIFY_TRIES_MAX: usize = 2 * ADDRESSES_PER_INSTANCE_MAX;
/// Endpoints of `witness`.
pub const WITNESSES_MAX: usize = 32;
/// Child processes at once: handlers, exec checks, look-ups.
pub const CHILDREN_MAX: usize = 64;
/// Apps, handlers, and checks in one app. They come from the operator's own file; the metadata is full long before.
pub const APPS_MAX: usize = 32;
/// See [`APPS_MAX`].
pub const HANDLERS_MAX: usize = 16;
/// See [`APPS_MAX`].
pub const CHECKS_MAX: usize = 16;
/// The head of an HTTP response.
pub const HTTP_HEAD_MAX: usize = 8 * 1024;
/// As much of an HTTP body as `body_contains` and `body_equals` look at.
pub const HTTP_BODY_MAX: usize = 64 * 1024;
/// Reasons that are shown to people (exec output, errors), in bytes.
pub const REASON_MAX: usize = 200;
/// The end of a handler's output that is kept.
pub const OUTPUT_MAX: usize = 4 * 1024;
/// Events that an `event` handler has waiting, and how long they stay worth telling.
pub const HANDLER_QUEUE_MAX: usize = 256;
/// See [`HANDLER_QUEUE_MAX`].
pub const HANDLER_QUEUE_AGE_MAX: Duration = Duration::from_secs(600);
/// Runs of other nodes that a handler remembers although their tags are gone: more are a broken peer's.
pub const OTHER_RUNS_MAX: usize = MEMBERS_MAX;

/// Members in all the calls that a `serf` handler has waiting: one window about all members, and some more.
pub const SERF_LINES_MAX: usize = MEMBERS_MAX + HANDLER_QUEUE_MAX;
/// Members that `serf` handlers may have heard of: all, and those forgotten in the last window.
pub const SERF_KNOWN_MAX: usize = 2 * MEMBERS_MAX;

/// What persons said of apps and nodes at once: two words for each own app, and other nodes' maintenance.
pub const OVERRIDES_MAX: usize = 2 * APPS_MAX + 64;

/// Recent events that `events` shows.
pub const EVENTS_MAX: usize = 256;
/// Control connections at once; the oldest makes room.
pub const CLIENTS_MAX: usize = 32;
/// A request on the control socket, in bytes.
pub const REQUEST_MAX: usize = 4 * 1024;
/// Bytes waiting for a client that does not read; beyond it the client is dropped.
pub const CLIENT_BACKLOG_MAX: usize = 1 << 20;
/// The configuration file, and the key and environment files beside it.
pub const CONFIG_FILE_MAX: usize = 1 << 20;

/// The state file: a thousand members with all their tags are a third of it.
pub const STATE_FILE_MAX: usize = 4 << 20;

/// Datagrams read in one turn of the loop, so that a flood delays nobody's deadline.
pub const PACKETS_PER_TURN: usize = 64;
/// A kind of noise (bad packets of one kind, say) is logged once in this time at most.
pub const LOG_REPEAT: Duration = Duration::from_secs(60);
/// The loop counts as late (suspended machine, starved) beyond this.
pub const LATE: Duration = Duration::from_secs(2);
/// Addresses that one instance may publish: together with [`MEMBERS_MAX`] it bounds what a handler is told.
pub const ADDRESSES_PER_INSTANCE_MAX: usize = 8;
/// Compressed parts inflated out of one datagram: real senders make one, and each costs a decoder of 60 KiB.
pub const INFLATED_PARTS_MAX: usize = 4;
/// Members in a push/pull, and names in Serf's user state. More than our table holds: peers may know members
/// that we have no room for, and what fits is still worth having.
pub const STREAM_NODES_MAX: usize = 2 * MEMBERS_MAX;
/// Map entries and skipped values in one structure of a stream; it is read anew whenever more bytes come.
pub const STREAM_VALUES_MAX: usize = 256;
