//! Properties over random messages, random bytes, and mutations of good packets and streams.

use picored::limits::{MESSAGES_PER_PACKET_MAX, NESTING_MAX, PACKET_IN_MAX, PACKET_OUT_MAX, STREAM_MAX};
use picored::wire::packet::{self, Builder, Envelope};
use picored::wire::serf::{self, SerfMessage, UserState};
use picored::wire::stream::{self, NodeState, Reader, Received, StreamError, StreamMessage, WireState};
use picored::wire::{Ack, Alive, Claim, IndirectPing, Message, Ping, Source};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use crate::streams::feed;
use crate::support::*;

/// Everything that messages borrow.
#[derive(Clone, Debug)]
struct Parts {
    node: String,
    from: String,
    addr: Vec<u8>,
    meta: Vec<u8>,
    vsn: Vec<u8>,
    number: u32,
    ltime: u64,
    port: u16,
    flag: bool,
}

fn parts() -> impl Strategy<Value = Parts> {
    (
        ("\\PC{0,40}", "[a-z.-]{0,130}"),
        select(vec![vec![], vec![127, 0, 0, 1], vec![0xFD; 16]]),
        vec(any::<u8>(), 0..520),
        select(vec![vec![], vec![1, 5, 2, 2, 5, 5]]),
        (any::<u32>(), any::<u64>(), any::<u16>(), any::<bool>(), 0..32u32),
    )
        .prop_map(|((node, from), addr, meta, vsn, (number, ltime, port, flag, shift))| Parts {
            node,
            from,
            addr,
            meta,
            vsn,
            // All widths are equally likely.
            number: number >> shift,
            ltime: ltime >> shift,
            port,
            flag,
        })
}

impl Parts {
    fn source(&self) -> Source<'_> {
        Source { addr: &self.addr, port: self.port, node: &self.from }
    }

    fn ping(&self) -> Ping<'_> {
        Ping { node: &self.node, seq: self.number, source: self.source() }
    }

    fn messages(&self) -> [Message<'_>; 8] {
        let claim = Claim { node: &self.node, from: &self.from, incarnation: self.number };
        [
            Message::Ping(self.ping()),
            Message::IndirectPing(IndirectPing {
                node: &self.node,
                seq: self.number,
                target: &self.addr,
                port: self.port,
                nack: self.flag,
                source: self.source(),
            }),
            Message::Ack(Ack { seq: self.number, payload: &self.meta }),
            Message::Nack { seq: self.number },
            Message::Suspect(claim),
            Message::Dead(claim),
            Message::Alive(Alive {
                node: &self.node,
                addr: &self.addr,
                port: self.port,
                incarnation: self.number,
                meta: &self.meta,
                vsn: &self.vsn,
            }),
            Message::User(&self.meta),
        ]
    }

    fn node_state(&self) -> NodeState<'_> {
        use WireState::*;
        NodeState {
            name: &self.node,
            addr: &self.addr,
            port: self.port,
            incarnation: self.number,
            meta: &self.meta,
            state: [Alive, Suspect, Dead, Left, Unknown][self.port as usize % 5],
            vsn: &self.vsn,
        }
    }

    /// One stream message of each kind, encoded.
    fn streams(&self) -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new(); 5];
        stream::encode_push_pull(self.flag, [self.node_state(); 3].into_iter(), &self.meta, &mut all[0]);
        stream::encode_user(&self.meta, &mut all[1]);
        stream::encode_error(&self.node, &mut all[2]);
        Message::Ping(self.ping()).encode(&mut all[3]);
        Message::Ack(Ack { seq: self.number, payload: &[] }).encode(&mut all[4]);
        all
    }
}

fn envelopes() -> impl Strategy<Value = Shown> {
    let keys = select(vec![ring(&[]), ring(&[&[1; 16]]), ring(&[&[2; 24], &[1; 16]]), ring(&[&[3; 32]])]);
    (select(vec!["", "blue"]), keys, select(vec![0, 200, usize::MAX]), any::<bool>()).prop_map(
        |(label, keys, compress_from, compress_streams)| {
            Shown(Envelope { label: label.as_bytes().into(), keys, compress_from, compress_streams })
        },
    )
}

/// An envelope that can be printed when a property fails.
struct Shown(Envelope);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Envelope { label, keys, compress_from, compress_streams } = &self.0;
        write!(f, "{label:?} {keys:?} {compress_from} {compress_streams}")
    }
}

/// Opens whatever it is, with everything that must always hold.
fn open_anything(envelope: &Envelope, bytes: &[u8], scratch: &mut Vec<u8>) -> Result<(), TestCaseError> {
    let mut calls = 0;
    let _ = packet::open(envelope, &mut bytes.to_vec(), scratch, &mut |_| calls += 1);
    prop_assert!(calls <= MESSAGES_PER_PACKET_MAX + NESTING_MAX);
    prop_assert!(scratch.capacity() <= PACKET_IN_MAX);
    Ok(())
}

/// Feeds whatever it is in pieces cut at `cuts`; the same must come out as in one piece.
fn split_anything(
    envelope: &Envelope,
    accepted: bool,
    bytes: &[u8],
    cuts: &[usize],
) -> Result<(), TestCaseError> {
    let whole = feed(envelope, accepted, bytes, bytes.len());
    for size in [1, 2, 13] {
        prop_assert_eq!(&feed(envelope, accepted, bytes, size), &whole);
    }
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let mut reader = Reader::new(accepted);
    let mut result: Result<Option<Received>, StreamError> = Ok(None);
    for cut in cuts.windows(2) {
        result = reader.feed(envelope, &bytes[cut[0]..cut[1]]);
        prop_assert!(reader.held() <= STREAM_MAX);
        if result != Ok(None) {
            break;
        }
    }
    prop_assert_eq!(&result, &whole);
    if let Ok(Some(received)) = whole {
        let _ = received.message().map(|message| format!("{message:?}"));
    }
    Ok(())
}

/// Good bytes made bad: some bytes changed, some dropped, some put in.
fn mutated(mut bytes: Vec<u8>, mutations: &[(usize, u8, u8)]) -> Vec<u8> {
    for &(at, value, kind) in mutations {
        let at = at % bytes.len().max(1);
        match kind % 4 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at.min(bytes.len()), value),
            _ => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = value),
        }
    }
    bytes
}

fn mutations() -> impl Strategy<Value = Vec<(usize, u8, u8)>> {
    let telling = select(vec![0, 7, 9, 0x7F, 0x80, 0xC0, 0xDA, 0xDB, 0xDD, 0xDF, 0xFF]);
    vec((any::<usize>(), prop_oneof![any::<u8>(), telling], any::<u8>()), 1..6)
}

/// Tags, intents and user state out of anything.
fn read_as_serf(bytes: &[u8]) {
    serf::tags(bytes).for_each(|tag| drop(format!("{tag:?}")));
    let _ = SerfMessage::decode(bytes).map(|message| format!("{message:?}"));
    let _ = UserState::decode(bytes).map(|state| format!("{state:?}"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_message_comes_back_as_it_was(parts in parts()) {
        for message in parts.messages() {
            let bytes = encoded(&message);
            prop_assert_eq!(Message::decode(&bytes), Ok(message));
            // Cut short it is an error, except that any bytes are a user message.
            if !matches!(message, Message::User(_)) {
                prop_assert!((0..bytes.len()).all(|end| Message::decode(&bytes[..end]).is_err()));
            }
        }
    }

    #[test]
    fn every_packet_comes_back_through_all_layers(parts in parts(), many in 1..12usize, crc: bool,
        envelope in envelopes())
    {
        let envelope = &envelope.0;
        let (mut builder, mut sent, mut out) = (Builder::default(), Vec::new(), Vec::new());
        for message in parts.messages().iter().cycle().take(many) {
            let bytes = encoded(message);
            if bytes.len() <= builder.room(envelope) {
                builder.push_message(message);
                sent.push(fields(message));
            }
        }
        builder.finish(envelope, [7; 12], crc, &mut out);
        prop_assert!(out.len() <= PACKET_OUT_MAX && out.is_empty() == sent.is_empty());
        if !sent.is_empty() {
            let opened = open(envelope, &out);
            prop_assert_eq!(opened.result, Ok(()));
            prop_assert_eq!(opened.parts.into_iter().collect::<Result<Vec<_>, _>>(), Ok(sent));
        }
    }

    #[test]
    fn every_stream_comes_back_through_all_layers_however_it_is_cut(parts in parts(), opener: bool,
        cuts in vec(any::<usize>(), 0..6),
        envelope in envelopes())
    {
        let envelope = &envelope.0;
        for body in parts.streams() {
            let bytes = stream::seal(envelope, opener, [7; 12], &body);
            let received = feed(envelope, opener, &bytes, bytes.len());
            prop_assert_eq!(received, Ok(Some(Received { bytes: body })));
            split_anything(envelope, opener, &bytes, &cuts)?;
            split_anything(envelope, opener, &[bytes, b"and more".to_vec()].concat(), &cuts)?;
        }
        let [push_pull, ..] = &parts.streams()[..] else { unreachable!() };
        let received = Received { bytes: push_pull.clone() };
        prop_assert_eq!(received.message(), Ok(StreamMessage::PushPull(stream::PushPull {
            join: parts.flag,
            nodes: vec![parts.node_state(); 3],
            user_state: &parts.meta,
        })));
    }

    #[test]
    fn serf_data_come_back_as_they_were(parts in parts()) {
        let (node, ltime) = (parts.node.as_str(), parts.ltime);
        for message in [SerfMessage::Join { ltime, node }, SerfMessage::Leave { ltime, node, prune: parts.flag }] {
            let mut out = Vec::new();
            message.encode(&mut out);
            prop_assert_eq!(SerfMessage::decode(&out), Ok(message));
        }
        let tags = [(node, parts.from.as_str()), (parts.from.as_str(), "")];
        let meta = serf::encode_tags(tags.into_iter());
        prop_assert_eq!(serf::tags(&meta).collect::<Vec<_>>(), tags);
        let state = UserState {
            ltime,
            event_ltime: ltime / 3,
            query_ltime: 1,
            left_members: vec![node; 20],
            status_ltimes: vec![(node, ltime); 20],
        };
        let mut out = Vec::new();
        state.encode(&mut out);
        prop_assert_eq!(UserState::decode(&out), Ok(state));
    }

    #[test]
    fn random_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..2_000), first in 0..14u8, accepted: bool,
        cuts in vec(any::<usize>(), 0..4))
    {
        let mut scratch = Vec::new();
        for envelope in [plain(), Envelope { keys: ring(&[&[1; 16]]), ..plain() }] {
            open_anything(&envelope, &bytes, &mut scratch)?;
            open_anything(&envelope, &[&[first], &bytes[..]].concat(), &mut scratch)?;
            split_anything(&envelope, accepted, &bytes, &cuts)?;
            split_anything(&envelope, accepted, &[&[first], &bytes[..]].concat(), &cuts)?;
        }
        // LZW of noise, as a packet and as a stream.
        let lzw = [b"\x09\x81\xA3Buf\xDA".as_slice(), &(bytes.len() as u16).to_be_bytes(), &bytes].concat();
        open_anything(&plain(), &lzw, &mut scratch)?;
        split_anything(&plain(), accepted, &lzw, &cuts)?;
        read_as_serf(&bytes);
        read_as_serf(&[&[first % 3], &bytes[..]].concat());
    }

    #[test]
    fn mutated_packets_do_no_harm(parts in parts(), mutations in mutations(), compress: bool) {
        let envelope = Envelope { compress_from: if compress { 0 } else { usize::MAX }, ..plain() };
        let (mut builder, mut out) = (Builder::default(), Vec::new());
        parts.messages().iter().take(5).for_each(|message| builder.push_message(message));
        builder.finish(&envelope, [0; 12], false, &mut out);
        let mut scratch = Vec::new();
        open_anything(&plain(), &mutated(out, &mutations), &mut scratch)?;
        for message in parts.messages() {
            open_anything(&plain(), &mutated(encoded(&message), &mutations), &mut scratch)?;
        }
    }

    // Long enough to fill the decoder's table, so that its states beyond that are reached.
    #[test]
    fn mutated_lzw_does_no_harm(seed: u64, len in 5_000..20_000usize, mask: u8, mutations in mutations()) {
        let mut rng = picored::rng::Rng::new(seed);
        let body: Vec<u8> = (0..len).map(|_| rng.next_u64() as u8 & mask).collect();
        let bytes = stream::seal(&Envelope { compress_streams: true, ..plain() }, true, [0; 12], &body);
        let mut scratch = Vec::new();
        prop_assert_eq!(&open(&plain(), &bytes).inflated, &body);
        open_anything(&plain(), &mutated(bytes.clone(), &mutations), &mut scratch)?;
        split_anything(&plain(), true, &mutated(bytes, &mutations[..1]), &[])?;
    }

    #[test]
    fn mutated_streams_do_no_harm(parts in parts(), mutations in mutations(), compress_streams: bool,
        cuts in vec(any::<usize>(), 0..4))
    {
        let envelope = Envelope { compress_streams, ..plain() };
        for body in parts.streams() {
            let bytes = stream::seal(&envelope, true, [0; 12], &body);
            split_anything(&plain(), true, &mutated(bytes, &mutations), &cuts)?;
            // What is inside may be mutated too: wrapped again, it is read by the other path.
            let bytes = stream::seal(&envelope, true, [0; 12], &mutated(body, &mutations));
            split_anything(&plain(), true, &bytes, &cuts)?;
        }
    }
}
