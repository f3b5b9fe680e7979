//! Serf's events and queries, the keys that some of them change, and what a reload changes.

use super::*;
use crate::wire::crypt::{Key, KeyRing};
use crate::wire::msgpack::{self, Reader};
use crate::wire::packet;
use crate::wire::serf::UserState;
use crate::wire::serf::query::{QueryResponse, Record, Status};

const T: Instant = Instant::ZERO;
const OLD: [u8; 16] = [1; 16];
const NEW: [u8; 32] = [2; 32];

fn keys(keys: &[&[u8]]) -> KeyRing {
    KeyRing { keys: keys.iter().map(|key| Key::new(key).expect("a key")).collect() }
}

/// A node `self` that knows `agent` at 127.0.0.9.
fn node(ring: KeyRing) -> Membership {
    let config = Config { keys: ring, ..config("self", addr(1)) };
    let mut m = Membership::new(config, b"\xFF\x80", Seed::from_u64(1), T);
    let (addr, vsn) = ([127, 0, 0, 9], [1, 5, 2, 2, 5, 5]);
    m.handle_alive(
        T,
        &Alive { node: "agent", addr: &addr, port: 7946, incarnation: 1, meta: b"\xFF\x80", vsn: &vsn },
    );
    while m.poll_event().is_some() {}
    m
}

struct Asked<'a> {
    ltime: u64,
    id: u32,
    name: &'a str,
    payload: &'a [u8],
    addr: [u8; 4],
    flags: u32,
    only: Option<&'a str>,
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self { ltime: 1, id: 1, name: "load", payload: b"", addr: [127, 0, 0, 9], flags: 0, only: None }
    }
}

impl Asked<'_> {
    fn payload(&self) -> Vec<u8> {
        let mut out = vec![4];
        msgpack::write_map(&mut out, 9);
        let mut text = |key: &str, value: &[u8]| {
            msgpack::write_str(&mut out, key);
            msgpack::write_bytes(&mut out, value);
        };
        text("Addr", &self.addr);
        text("Name", self.name.as_bytes());
        text("Payload", self.payload);
        text("SourceNode", b"agent");
        let numbers =
            [("Flags", u64::from(self.flags)), ("ID", self.id.into()), ("LTime", self.ltime), ("Port", 7946)];
        for (key, number) in numbers {
            msgpack::write_str(&mut out, key);
            msgpack::write_uint(&mut out, number);
        }
        msgpack::write_str(&mut out, "Filters");
        msgpack::write_array(&mut out, self.only.iter().len());
        if let Some(name) = self.only {
            let mut filter = vec![0];
            msgpack::write_array(&mut filter, 1);
            msgpack::write_str(&mut filter, name);
            msgpack::write_bytes(&mut out, &filter);
        }
        out
    }
}

fn event(ltime: u64, name: &str, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![3];
    msgpack::write_map(&mut out, 3);
    msgpack::write_str(&mut out, "LTime");
    msgpack::write_uint(&mut out, ltime);
    msgpack::write_str(&mut out, "Name");
    msgpack::write_str(&mut out, name);
    msgpack::write_str(&mut out, "Payload");
    msgpack::write_bytes(&mut out, payload);
    out
}

/// The user messages that it has to send at once, and to whom.
fn sent(m: &mut Membership) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut all, mut buf, mut scratch) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(to) = m.poll_transmit(T, &mut buf) {
        let mut take = |message: Result<Message<'_>, wire::Error>| match message {
            Ok(Message::User(payload)) => all.push((to, payload.to_vec())),
            Ok(_) => {}
            Err(error) => panic!("{error:?}"),
        };
        packet::open(&m.envelope, &mut buf, &mut scratch, &mut take).expect("our own packet");
        buf.clear();
    }
    all
}

/// What waits to be passed on.
fn passed_on(m: &mut Membership) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    m.queries.take(u32::MAX, &mut |bytes: &[u8]| {
        all.push(bytes[1..].to_vec());
        true
    });
    all
}

/// Result and message of an answer about keys.
fn answer(payload: &[u8]) -> (bool, String) {
    assert_eq!(payload[0], 5);
    let mut body: &[u8] = &[];
    let mut fields = Reader::new(&payload[1..]);
    let read = fields.fields(&mut |key, value| {
        let known = key == b"Payload";
        if known {
            body = value.bytes()?;
        }
        Ok(known)
    });
    read.expect("an answer");
    assert_eq!(body[0], 8);
    let (mut result, mut message) = (false, String::new());
    let read = Reader::new(&body[1..]).fields(&mut |key, value| {
        match key {
            b"Result" => result = value.bool()?,
            b"Message" => message = value.str()?.into(),
            _ => return Ok(false),
        }
        Ok(true)
    });
    read.expect("an answer about keys");
    (result, message)
}

/// Asks for a change of keys; stores them with `stored`; gives the answer.
fn change(
    m: &mut Membership,
    ltime: u64,
    name: &str,
    key: &[u8],
    stored: Result<&str, &str>,
) -> (bool, String) {
    let mut payload = vec![7, 0x81];
    msgpack::write_str(&mut payload, "Key");
    msgpack::write_bytes(&mut payload, key);
    let query = Asked { ltime, name, payload: &payload, ..Asked::default() }.payload();
    m.handle_user(T, &query);
    while let Some(event) = m.poll_event() {
        if let Event::KeysAsked { id, from, .. } = event {
            assert_eq!(&*from, "agent");
            assert!(sent(m).is_empty(), "the answer waits for the file");
            m.handle_keys_stored(T, id, stored);
        }
    }
    let answers: Vec<_> = sent(m).into_iter().filter(|(_, payload)| payload[0] == 5).collect();
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0, addr(9));
    answer(&answers[0].1)
}

#[test]
fn queries_and_events_are_passed_on_once_as_they_came() {
    let mut m = node(KeyRing::default());
    let query = Asked { ltime: 5, ..Asked::default() }.payload();
    let silent = Asked { ltime: 5, id: 2, flags: 2, ..Asked::default() }.payload();
    let (deploy, other) = (event(3, "deploy", b"1"), event(3, "deploy", b"2"));
    for payload in [&query, &deploy, &query, &silent, &other, &deploy] {
        m.handle_user(T, payload);
    }
    assert_eq!(passed_on(&mut m), [&query, &other, &deploy].map(Vec::clone));
    let state = m.serf.encode_user_state(m.table.members(), &m.queries);
    let state = UserState::decode(&state).expect("our own");
    assert_eq!((state.event_ltime, state.query_ltime), (4, 6));
    // By gossip, and not longer than a Serf agent would.
    m.gossip(T);
    let gossiped = sent(&mut m);
    assert!(gossiped.contains(&(addr(9), query)) && gossiped.contains(&(addr(9), deploy)));
    for _ in 0..100 {
        m.gossip(T);
        sent(&mut m);
    }
    assert!(passed_on(&mut m).is_empty());
}

/// Goal: what agents with other limits than Serf's own send goes round as long as it fits into a packet.
#[test]
fn what_fits_into_a_packet_is_passed_on_and_what_is_too_long_or_too_old_is_not() {
    let room = packet::Builder::default().room(&node(keys(&[&OLD])).envelope) - 1;
    let of_length = |length: usize, payload: &dyn Fn(&[u8]) -> Vec<u8>| {
        let head = payload(&[7; 1_000]).len() - 1_000;
        payload(&vec![7; length - head])
    };
    let one_event = |bytes: &[u8]| event(1, "e", bytes);
    let query = |bytes: &[u8]| Asked { payload: bytes, ..Asked::default() }.payload();
    for payload in [&one_event as &dyn Fn(&[u8]) -> Vec<u8>, &query] {
        let mut m = node(keys(&[&OLD]));
        m.handle_user(T, &of_length(room + 1, payload));
        assert_eq!((passed_on(&mut m).len(), m.counters().refused), (0, 1));
        let fits = of_length(room, payload);
        m.handle_user(T, &fits);
        // What is known of members goes first.
        let gossiped = (0..100).any(|_| {
            m.gossip(T);
            sent(&mut m).contains(&(addr(9), fits.clone()))
        });
        assert!(gossiped);
    }
    let mut m = node(KeyRing::default());
    let at = |ltime| Asked { ltime, ..Asked::default() }.payload();
    m.handle_user(T, &at(1_000));
    m.handle_user(T, &at(1_001 - limits::SERF_SEEN_MAX as u64 - 1));
    assert_eq!(passed_on(&mut m).len(), 1);
    m.handle_user(T, &at(1_001 - limits::SERF_SEEN_MAX as u64));
    assert_eq!(passed_on(&mut m).len(), 2);
}

#[test]
fn a_flood_is_bounded_and_what_is_forgotten_is_no_news_again() {
    let mut m = node(KeyRing::default());
    let flood = || (0..3 * limits::SERF_SEEN_MAX as u32).map(|n| (7 + u64::from(n / 100), n));
    let all = |m: &mut Membership| {
        for (ltime, id) in flood() {
            m.handle_user(T, &Asked { ltime, id, ..Asked::default() }.payload());
        }
    };
    all(&mut m);
    assert_eq!(passed_on(&mut m).len(), limits::SERF_PASSED_ON_MAX);
    m.queries.take(0, &mut |_: &[u8]| true); // all are sent
    all(&mut m);
    assert_eq!(passed_on(&mut m).len(), 0);
}

#[test]
fn an_acknowledgement_goes_to_members_only_and_only_from_those_asked() {
    let mut m = node(KeyRing::default());
    let asked = |ltime| Asked { ltime, flags: 1, name: "_serf_ping", ..Asked::default() };
    m.handle_user(T, &asked(1).payload());
    let acks = sent(&mut m);
    assert_eq!(acks.len(), 1);
    assert_eq!((acks[0].0, acks[0].1[0]), (addr(9), 5));
    m.handle_user(T, &Asked { only: Some("self"), ..asked(2) }.payload());
    assert_eq!(sent(&mut m).len(), 1);
    for silent in [
        Asked { addr: [192, 0, 2, 1], ..asked(3) },
        Asked { addr: [127, 0, 0, 1], ..asked(4) }, // our own
        Asked { only: Some("other"), ..asked(5) },
        Asked { flags: 0, ..asked(6) },
        Asked { flags: 1, ..asked(1) }, // again
    ] {
        m.handle_user(T, &silent.payload());
        assert!(sent(&mut m).is_empty(), "{} {:?}", silent.ltime, silent.addr);
    }
    let plain = Config { delegate_versions: [0, 0, 0], ..config("self", addr(1)) };
    m.serf = serf::Serf::new(plain.delegate_versions);
    m.handle_user(T, &asked(7).payload());
    assert!(sent(&mut m).is_empty(), "this is not Serf's cluster");
}

#[test]
fn keys_are_rotated_by_queries_and_the_answer_says_whether_they_are_stored() {
    let mut m = node(keys(&[&OLD]));
    let done = (true, String::new());
    assert_eq!(change(&mut m, 1, "_serf_install-key", &NEW, Ok("")), done);
    assert_eq!(*m.keys(), keys(&[&OLD, &NEW]));
    assert_eq!(change(&mut m, 2, "_serf_use-key", &NEW, Ok("in memory")), (true, "in memory".into()));
    assert_eq!(*m.keys(), keys(&[&NEW, &OLD]));
    assert_eq!(change(&mut m, 3, "_serf_remove-key", &OLD, Err("no room")), (false, "no room".into()));
    assert_eq!(*m.keys(), keys(&[&NEW]), "it holds in memory");
    assert_eq!(change(&mut m, 4, "_serf_remove-key", &OLD, Ok("")), done);
    for (ltime, name, key, error) in [
        (5, "_serf_use-key", &OLD[..], "not installed"),
        (6, "_serf_remove-key", &NEW[..], "encrypts"),
        (7, "_serf_install-key", &NEW[..20], "16, 24 or 32"),
    ] {
        let (result, message) = change(&mut m, ltime, name, key, Ok(""));
        assert!(!result && message.contains(error), "{name}: {message}");
    }
    assert_eq!(*m.keys(), keys(&[&NEW]));
}

#[test]
fn a_node_without_keys_takes_none() {
    let mut m = node(KeyRing::default());
    let (result, message) = change(&mut m, 1, "_serf_install-key", &NEW, Ok(""));
    assert!(!result && message.contains("without keys"), "{message}");
    assert!(m.keys().is_empty());
    assert!(!m.set_keys(T, keys(&[&NEW])) && m.keys().is_empty());
    let mut m = node(keys(&[&OLD]));
    assert!(!m.set_keys(T, KeyRing::default()) && !m.keys().is_empty());
}

/// Method: the most keys, the longest name, the longest numbers.
#[test]
fn all_keys_fit_into_the_answer_that_lists_them() {
    let all: Vec<[u8; 32]> = (0..limits::KEYS_MAX as u8).map(|n| [n; 32]).collect();
    let all: Vec<&[u8]> = all.iter().map(|key| &key[..]).collect();
    let mut m = node(keys(&all));
    m.config.node = "n".repeat(limits::NAME_MAX).into();
    m.table.insert(Member::new(&m.config.node, addr(1), T), &mut m.rng);
    let list = Asked { ltime: u64::MAX, id: u32::MAX, name: "_serf_list-keys", ..Asked::default() };
    m.handle_user(T, &list.payload());
    let answers = sent(&mut m);
    assert_eq!(answers.len(), 1);
    assert_eq!(answer(&answers[0].1), (true, String::new()));
}

#[test]
fn a_newcomer_does_not_do_what_was_asked_before_it_came() {
    let mut m = node(keys(&[&OLD]));
    let state = UserState { query_ltime: 9, event_ltime: 5, ..UserState::default() };
    let mut bytes = Vec::new();
    state.encode(&mut bytes);
    m.handle_user_state(T, &bytes);
    let ping = |ltime| Asked { ltime, flags: 1, ..Asked::default() }.payload();
    m.handle_user(T, &ping(8));
    assert!(sent(&mut m).is_empty());
    m.handle_user(T, &ping(9));
    assert_eq!(sent(&mut m).len(), 1);
}

/// Goal: the first query of a cluster's life is not lost on who heard of it in a push/pull before it came.
#[test]
fn only_the_first_exchange_says_what_is_old() {
    let told = |m: &mut Membership, query_ltime| {
        let mut bytes = Vec::new();
        UserState { query_ltime, ..UserState::default() }.encode(&mut bytes);
        m.handle_user_state(T, &bytes);
    };
    let ping = |ltime| Asked { ltime, flags: 1, ..Asked::default() }.payload();
    let mut m = node(KeyRing::default());
    told(&mut m, 1);
    told(&mut m, 2);
    m.handle_user(T, &ping(1));
    assert_eq!(sent(&mut m).len(), 1);
    // A recorded packet that comes before the first exchange opens the door to no others.
    let mut m = node(KeyRing::default());
    m.handle_user(T, &ping(3));
    sent(&mut m);
    told(&mut m, 9);
    m.handle_user(T, &ping(5));
    assert!(sent(&mut m).is_empty());
    m.handle_user(T, &ping(9));
    assert_eq!(sent(&mut m).len(), 1);
}

#[test]
fn a_request_that_cannot_be_read_fails() {
    let mut m = node(keys(&[&OLD]));
    let names = ["_serf_install-key", "_serf_use-key", "_serf_remove-key"];
    for (ltime, name) in (1..).zip(names) {
        m.handle_user(T, &Asked { ltime, name, payload: &[7, 0xC1], ..Asked::default() }.payload());
        let answers = sent(&mut m);
        assert_eq!(answers.len(), 1, "{name}");
        let (result, message) = answer(&answers[0].1);
        assert!(!result && message.contains("cannot be read"), "{name}: {message}");
        assert!(matches!(m.poll_event(), Some(Event::KeysRefused { .. })), "{name}");
    }
    assert_eq!(*m.keys(), keys(&[&OLD]));
}

/// Goal: an agent whose only company is picored is not outvoted by silence when another one takes its name.
#[test]
fn who_has_a_name_is_said_of_others_that_are_known() {
    let mut m = node(KeyRing::default());
    let mut ltime = 0;
    let mut answers = |m: &mut Membership, name: &[u8]| {
        ltime += 1;
        m.handle_user(
            T,
            &Asked { ltime, name: "_serf_conflict", payload: name, ..Asked::default() }.payload(),
        );
        sent(m)
    };
    for silent in [&b"self"[..], b"nobody", b"\xFF", b""] {
        assert_eq!(answers(&mut m, silent), []);
    }
    let record = Record {
        name: "agent",
        addr: &[127, 0, 0, 9],
        port: 7946,
        meta: b"\xFF\x80",
        status: Status::Alive,
        vsn: [1, 5, 2, 2, 5, 5],
    };
    let expected = |ltime, record: &Record<'_>| {
        let payload = record.conflict_response();
        let mut out = Vec::new();
        QueryResponse { ltime, id: 1, from: "self", ack: false, payload: &payload }.encode(&mut out);
        vec![(addr(9), out)]
    };
    assert_eq!(answers(&mut m, b"agent"), expected(5, &record));
    m.table.get_mut("agent").expect("it is known").state = State::Dead;
    assert_eq!(answers(&mut m, b"agent"), expected(6, &Record { status: Status::Failed, ..record }));
}

#[test]
fn the_largest_record_of_a_member_fits_into_an_answer() {
    let mut m = node(KeyRing::default());
    let name = "n".repeat(limits::NAME_MAX);
    m.config.node = "m".repeat(limits::NAME_MAX).into();
    m.table.insert(Member::new(&m.config.node, addr(1), T), &mut m.rng);
    let mut member = Member::new(&name, "[2001:db8::1]:65535".parse().expect("an address"), T);
    member.meta = vec![b'x'; limits::META_MAX].into();
    m.table.insert(member, &mut m.rng);
    let asked = Asked { ltime: u64::MAX, id: u32::MAX, name: "_serf_conflict", ..Asked::default() };
    m.handle_user(T, &Asked { payload: name.as_bytes(), ..asked }.payload());
    assert_eq!(sent(&mut m).len(), 1);
}

#[test]
fn answers_are_sent_on_to_members_only() {
    let mut m = node(KeyRing::default());
    let relayed = |ip: [u8; 4], message: &[u8]| {
        let mut out = vec![9];
        msgpack::write_map(&mut out, 2);
        msgpack::write_str(&mut out, "DestAddr");
        msgpack::write_map(&mut out, 2);
        msgpack::write_str(&mut out, "IP");
        msgpack::write_bytes(&mut out, &ip);
        msgpack::write_str(&mut out, "Port");
        msgpack::write_uint(&mut out, 7946);
        msgpack::write_str(&mut out, "DestName");
        msgpack::write_str(&mut out, "agent");
        [&out[..], message].concat()
    };
    m.handle_user(T, &relayed([127, 0, 0, 9], &[5, 0x80]));
    assert_eq!(sent(&mut m), [(addr(9), vec![5, 0x80])]);
    for (ip, message) in [
        ([192, 0, 2, 1], &[5, 0x80][..]),
        ([127, 0, 0, 1], &[5, 0x80]), // our own
        ([127, 0, 0, 9], &[]),
        ([127, 0, 0, 9], &[5; limits::PACKET_OUT_MAX]),
    ] {
        m.handle_user(T, &relayed(ip, message));
        assert_eq!(sent(&mut m), [], "{ip:?}");
    }
}

/// Method: a's exchange with b has begun when both get a new key and drop the old one; b's answer is under the old.
#[test]
fn an_exchange_that_was_begun_with_a_removed_key_is_read_to_its_end() {
    let mut m = node(keys(&[&OLD]));
    let mut b = {
        let config = Config { keys: keys(&[&OLD]), ..config("b", addr(2)) };
        Membership::new(config, b"\xFF\x80", Seed::from_u64(2), T)
    };
    let actions = |m: &mut Membership| core::iter::from_fn(|| m.poll_action()).collect::<Vec<_>>();
    m.sync_with(T, addr(2));
    let Some(&Action::StreamOpen { id, .. }) = actions(&mut m).first() else { panic!("it opens a stream") };
    m.handle_stream(T, id, StreamEvent::Connected);
    let accepted = b.accept_stream(T, addr(1)).expect("there is room");
    for action in actions(&mut m) {
        if let Action::StreamSend { bytes, .. } = action {
            b.handle_stream(T, accepted, StreamEvent::Data(&bytes));
        }
    }
    let answer = actions(&mut b).into_iter().find_map(|action| match action {
        Action::StreamSend { bytes, .. } => Some(bytes),
        _ => None,
    });
    assert!(m.set_keys(T, keys(&[&NEW, &OLD])) && m.set_keys(T, keys(&[&NEW])));
    let late = m.accept_stream(T, addr(2)).expect("there is room");
    m.handle_stream(T, id, StreamEvent::Data(&answer.expect("b answers")));
    assert_eq!(m.member("b").map(|m| m.state), Some(State::Alive));
    // What comes on a stream that was opened afterwards is not for keys that are gone.
    b.sync_with(T, addr(1));
    let Some(&Action::StreamOpen { id, .. }) = actions(&mut b).last() else { panic!("it opens a stream") };
    b.handle_stream(T, id, StreamEvent::Connected);
    for action in actions(&mut b) {
        if let Action::StreamSend { bytes, .. } = action {
            m.handle_stream(T, late, StreamEvent::Data(&bytes));
        }
    }
    assert_eq!(m.counters().bad[wire::Error::NotAuthentic.kind()], 1);
}

/// Goal: a key is swapped node after node, and nobody is suspected of anything.
#[test]
fn a_cluster_that_rotates_its_key_node_after_node_loses_nobody() {
    let mut net = Net::new(&[]);
    for (i, name) in ["a", "b", "c"].iter().enumerate() {
        let join = vec![Target::Addr(addr(1))];
        net.add(Config { keys: keys(&[&OLD]), join, ..config(name, addr(i as u8 + 1)) });
    }
    net.run(60 * SECOND);
    for ring in [keys(&[&OLD, &NEW]), keys(&[&NEW, &OLD]), keys(&[&NEW])] {
        for i in 0..3 {
            assert!(net.nodes[i].set_keys(net.now, ring.clone()));
            net.settle();
            net.run(45 * SECOND);
        }
    }
    assert!(!net.saw(|_, event| matches!(event, Event::Suspected { .. })), "{:?}", net.log);
    assert!(!net.saw(|_, event| matches!(event, Event::Synced { error: Some(_), .. })), "{:?}", net.log);
    // The same in one step cannot work: nobody hears the first that does it.
    net.nodes[0].set_keys(net.now, keys(&[&OLD]));
    net.run(60 * SECOND);
    assert!(net.failures() > 0);
}

#[test]
fn a_reload_changes_whom_to_join_and_whom_to_hear() {
    let mut net = Net::new(&["a", "b"]);
    net.add(config("c", addr(3)));
    net.run(5 * SECOND);
    assert_eq!(net.state(1, "c"), None);
    let streams = |net: &Net| net.nodes[1].counters().streams_out;
    let before = streams(&net);
    let mut changes = Changeable::of(&net.nodes[1].config);
    changes.join.insert(0, Target::Addr(addr(3)));
    let now = net.now;
    net.nodes[1].reconfigure(now, changes.clone());
    net.run(SECOND);
    assert_eq!(net.state(1, "c"), Some(State::Alive));
    assert_eq!(streams(&net), before + 1, "who is joined already is not joined again");
    changes.join = vec![Target::Addr(addr(1))];
    changes.allow = vec![Cidr { addr: addr(1).ip(), prefix: 32 }];
    let now = net.now;
    net.nodes[1].reconfigure(now, changes.clone());
    net.run(60 * SECOND);
    assert!(net.nodes[1].counters().not_allowed > 0, "it is not heard any more");
    net.stopped[2] = true;
    net.run(60 * SECOND);
    assert_eq!(net.state(1, "c"), Some(State::Dead));
    assert!(net.nodes[1].is_joined(), "it is not missed any more");
    changes.forget_after = SECOND;
    let now = net.now;
    net.nodes[1].reconfigure(now, changes);
    net.run(5 * SECOND);
    assert_eq!(net.state(1, "c"), None);
}

/// Method: of two targets under way, the first is dropped; the end of the other's exchange must not be taken for its.
#[test]
fn exchanges_under_way_stay_those_of_their_targets() {
    let join = vec![Target::Addr(addr(7)), Target::Addr(addr(8))];
    let mut m =
        Membership::new(Config { join, ..config("self", addr(1)) }, b"\xFF\x80", Seed::from_u64(1), T);
    m.handle_timeout(T);
    let opened: Vec<_> = core::iter::from_fn(|| m.poll_action()).collect();
    let [Action::StreamOpen { id: first, .. }, Action::StreamOpen { id: second, .. }] = opened[..] else {
        panic!("{opened:?}");
    };
    let changes = Changeable { join: vec![Target::Addr(addr(8))], ..Changeable::of(&m.config) };
    m.reconfigure(T, changes);
    m.handle_stream(T, first, StreamEvent::Closed("refused"));
    m.handle_stream(T, second, StreamEvent::Closed("refused"));
    let joins: Vec<_> = core::iter::from_fn(|| m.poll_event())
        .filter_map(|event| match event {
            Event::Synced { addr, join, .. } => Some((addr, join)),
            _ => None,
        })
        .collect();
    assert_eq!(joins, [(addr(7), false), (addr(8), true)]);
    assert!(m.next_deadline().is_some_and(|at| at > T));
}
