//! The layers of a datagram: label, encryption, CRC, compression, compound (protocol page, 1.2).

use core::ops::Range;

use super::crc::crc32;
use super::crypt::{HEAD, KeyRing};
use super::lzw::{self, Input};
use super::msgpack::Reader;
use super::{COMPOUND, COMPRESSED, CRC, Error, LABEL, Message};
use crate::limits::{
    COMPOUND_PARTS_MAX, INFLATED_PARTS_MAX, MESSAGES_PER_PACKET_MAX, NESTING_MAX, PACKET_IN_MAX,
    PACKET_OUT_MAX,
};

/// Type byte and checksum of the CRC header.
const CRC_HEAD: usize = 1 + 4;
/// What the scratch buffer keeps between packets; an honest packet inflates to less.
const SCRATCH_KEPT: usize = 4 * 1024;

/// What is put round every packet and stream of this cluster.
#[derive(Clone, Default)]
pub struct Envelope {
    /// memberlist's cluster label; empty: none. At most 255 bytes.
    pub label: Box<[u8]>,
    pub keys: KeyRing,
    /// Packets of this size or more are compressed if that makes them shorter. `usize::MAX`: never.
    pub compress_from: usize,
    /// Whether streams are compressed.
    pub compress_streams: bool,
}

impl Envelope {
    /// Bytes of the label header.
    fn label_head(&self) -> usize {
        if self.label.is_empty() { 0 } else { 2 + self.label().len() }
    }

    /// The label; more than its length byte can say is not part of it.
    pub(super) fn label(&self) -> &[u8] {
        self.label.get(..255).unwrap_or(&self.label)
    }

    /// Appends the label header, if there is a label.
    pub(super) fn write_label(&self, out: &mut Vec<u8>) {
        if !self.label.is_empty() {
            out.extend_from_slice(&[LABEL, self.label().len() as u8]);
            out.extend_from_slice(self.label());
        }
    }

    /// The length of the label header at the front of `bytes`, once it is complete and ours.
    pub(super) fn check_label(&self, bytes: &[u8]) -> Result<usize, Error> {
        let label = self.label();
        match (bytes.first().ok_or(Error::Truncated)?, label.is_empty()) {
            (&LABEL, false) => {}
            (&LABEL, true) | (_, false) => return Err(Error::WrongLabel),
            (_, true) => return Ok(0),
        }
        if usize::from(*bytes.get(1).ok_or(Error::Truncated)?) != label.len() {
            return Err(Error::WrongLabel);
        }
        let theirs = bytes.get(2..2 + label.len()).ok_or(Error::Truncated)?;
        if theirs == label { Ok(2 + label.len()) } else { Err(Error::WrongLabel) }
    }
}

/// Takes the layers off `packet` (in place) and gives each message, or why it was none, to `each`.
///
/// An error of the whole packet is returned, one of a single part goes to `each`. `scratch` holds what
/// is decompressed; it is cleared first, and bounded by [`crate::limits::PACKET_IN_MAX`].
pub fn open(
    envelope: &Envelope,
    packet: &mut [u8],
    scratch: &mut Vec<u8>,
    each: &mut dyn FnMut(Result<Message<'_>, Error>),
) -> Result<(), Error> {
    scratch.clear();
    scratch.shrink_to(SCRATCH_KEPT);
    if packet.len() > PACKET_IN_MAX {
        return Err(Error::TooLong);
    }
    let start = envelope.check_label(packet)?;
    let mut body = packet.get_mut(start..).ok_or(Error::Truncated)?;
    if !envelope.keys.is_empty() {
        body = envelope.keys.open(envelope.label(), body)?;
    }
    let body = check_crc(body)?;
    let mut walk = Walk {
        packet: body,
        scratch,
        each,
        messages_left: MESSAGES_PER_PACKET_MAX,
        inflations_left: INFLATED_PARTS_MAX,
    };
    walk.dispatch(&Part { inflated: false, range: 0..body.len() }, 0)
}

/// Checks the CRC header if there is one, and takes it off. This happens once, outermost only.
fn check_crc(bytes: &[u8]) -> Result<&[u8], Error> {
    let Some((&CRC, rest)) = bytes.split_first() else { return Ok(bytes) };
    let (expected, body) = rest.split_first_chunk().ok_or(Error::Truncated)?;
    if crc32(body) == u32::from_be_bytes(*expected) { Ok(body) } else { Err(Error::Checksum) }
}

/// One walk through the compound and compressed wrappers of a packet.
struct Walk<'w> {
    packet: &'w [u8],
    scratch: &'w mut Vec<u8>,
    each: &'w mut dyn FnMut(Result<Message<'_>, Error>),
    messages_left: usize,
    inflations_left: usize,
}

/// Where a part of the packet lies. Not a slice: the scratch buffer grows while parts of it are looked at.
struct Part {
    /// In the scratch buffer, not in the packet.
    inflated: bool,
    range: Range<usize>,
}

impl Part {
    /// The part's bytes. Takes both buffers rather than the walk, so that only they are borrowed.
    fn of<'b>(&self, packet: &'b [u8], scratch: &'b [u8]) -> &'b [u8] {
        let whole = if self.inflated { scratch } else { packet };
        whole.get(self.range.clone()).unwrap_or_default()
    }
}

impl Walk<'_> {
    /// Handles one part, which lies within `depth` wrappers.
    fn dispatch(&mut self, part: &Part, depth: usize) -> Result<(), Error> {
        match part.of(self.packet, self.scratch).first() {
            None => Err(Error::Truncated),
            Some(&(COMPOUND | COMPRESSED)) if depth == NESTING_MAX => Err(Error::TooDeep),
            Some(&COMPOUND) => self.compound(part, depth),
            Some(&COMPRESSED) => self.compressed(part, depth),
            Some(_) => {
                self.messages_left = self.messages_left.checked_sub(1).ok_or(Error::TooLong)?;
                let message = Message::decode(part.of(self.packet, self.scratch))?;
                (self.each)(Ok(message));
                Ok(())
            }
        }
    }

    /// Hands out the parts one by one. When the last ones are cut off, those before them still count.
    fn compound(&mut self, part: &Part, depth: usize) -> Result<(), Error> {
        let bytes = part.of(self.packet, self.scratch);
        let count = usize::from(*bytes.get(1).ok_or(Error::Truncated)?);
        let mut at = part.range.start + 2 + 2 * count;
        if at > part.range.end {
            return Err(Error::Truncated);
        }
        for i in 0..count {
            if self.messages_left == 0 {
                return Err(Error::TooLong);
            }
            let table = part.of(self.packet, self.scratch).get(2 + 2 * i..).unwrap_or_default();
            let len = u16::from_be_bytes(*table.first_chunk().ok_or(Error::Truncated)?);
            let range = at..at + usize::from(len);
            at = range.end;
            let cut = at > part.range.end;
            let inner = Part { inflated: part.inflated, range };
            let result = if cut { Err(Error::Truncated) } else { self.dispatch(&inner, depth + 1) };
            if let Err(error) = result {
                self.messages_left = self.messages_left.saturating_sub(1);
                (self.each)(Err(error));
            }
            if cut {
                break;
            }
        }
        Ok(())
    }

    /// Inflates onto the end of the scratch buffer, which never shrinks within a packet: so its limit is
    /// one for all of the packet.
    fn compressed(&mut self, part: &Part, depth: usize) -> Result<(), Error> {
        self.inflations_left = self.inflations_left.checked_sub(1).ok_or(Error::TooDeep)?;
        let start = self.scratch.len();
        let input = if part.inflated {
            let buf = read_compressed(part.of(&[], self.scratch))?;
            // A part of the scratch buffer (or empty, and then anywhere): say where, to let go of the borrow.
            let offset = (buf.as_ptr() as usize).wrapping_sub(self.scratch.as_ptr() as usize);
            Input::Within(offset..offset.saturating_add(buf.len()))
        } else {
            Input::Apart(read_compressed(part.of(self.packet, &[]))?)
        };
        lzw::inflate(input, self.scratch, PACKET_IN_MAX)?;
        let inner = Part { inflated: true, range: start..self.scratch.len() };
        self.dispatch(&inner, depth + 1)
    }
}

/// The compressed bytes in a compress message, type byte included.
fn read_compressed(bytes: &[u8]) -> Result<&[u8], Error> {
    lzw::read_map(&mut Reader::new(bytes.get(1..).unwrap_or_default()))
}

/// Collects the messages of one datagram. Reused, so that sending allocates nothing in the long run.
#[derive(Default)]
pub struct Builder {
    /// All messages, one after the other.
    bytes: Vec<u8>,
    /// The length of each.
    lengths: Vec<u16>,
}

impl Builder {
    /// Forgets all messages.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
    }

    /// Adds one encoded message. The caller has looked at [`Builder::room`].
    ///
    /// One that could not be sent (empty, which crashes old peers, or too many) is left out.
    pub fn push(&mut self, message: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(message);
        self.close_part(start);
    }

    /// Adds one message.
    pub fn push_message(&mut self, message: &Message<'_>) {
        let start = self.bytes.len();
        message.encode(&mut self.bytes);
        self.close_part(start);
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// How long another message may be so that the datagram stays within
    /// [`crate::limits::PACKET_OUT_MAX`], all headers counted; 0 also when it has
    /// [`crate::limits::COMPOUND_PARTS_MAX`] parts.
    pub fn room(&self, envelope: &Envelope) -> usize {
        let parts = self.lengths.len() + 1;
        if parts > COMPOUND_PARTS_MAX {
            return 0;
        }
        let compound = if parts == 1 { 0 } else { 2 + 2 * parts };
        let headers = envelope.label_head() + envelope.keys.overhead() + CRC_HEAD + compound;
        PACKET_OUT_MAX.saturating_sub(headers + self.bytes.len())
    }

    /// Writes the datagram into `out` (cleared first): a single message bare, several as a compound.
    /// Without messages there is no datagram, and `out` stays empty.
    ///
    /// `nonce` must never be used again with these keys; without keys it means nothing. `crc`: put the
    /// CRC header in, which the receiver must understand (PMax 5 and more).
    pub fn finish(&self, envelope: &Envelope, nonce: [u8; 12], crc: bool, out: &mut Vec<u8>) {
        out.clear();
        if self.is_empty() {
            return;
        }
        envelope.write_label(out);
        let sealed = out.len();
        if !envelope.keys.is_empty() {
            out.extend_from_slice(&[0; HEAD]);
        }
        let checked = out.len();
        if crc {
            out.extend_from_slice(&[CRC, 0, 0, 0, 0]);
        }
        let body = out.len();
        self.write_body(out);
        if out.len() - body >= envelope.compress_from {
            compress_if_shorter(out, body);
        }
        if crc {
            let sum = crc32(&out[body..]);
            out[checked + 1..body].copy_from_slice(&sum.to_be_bytes());
        }
        if !envelope.keys.is_empty() {
            envelope.keys.seal_in_place(nonce, envelope.label(), out, sealed);
        }
    }

    fn close_part(&mut self, start: usize) {
        match u16::try_from(self.bytes.len() - start) {
            Ok(len) if len > 0 && self.lengths.len() < COMPOUND_PARTS_MAX => self.lengths.push(len),
            _ => self.bytes.truncate(start),
        }
    }

    fn write_body(&self, out: &mut Vec<u8>) {
        if self.lengths.len() > 1 {
            out.extend_from_slice(&[COMPOUND, self.lengths.len() as u8]);
            for len in &self.lengths {
                out.extend_from_slice(&len.to_be_bytes());
            }
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// Puts `out[start..]` into a compress message if that is strictly shorter.
fn compress_if_shorter(out: &mut Vec<u8>, start: usize) {
    let mut compressed = Vec::new();
    lzw::write(&out[start..], &mut compressed);
    if compressed.len() < out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&compressed);
    }
}

#[cfg(test)]
mod tests {
    use super::super::crypt::Key;
    use super::*;

    fn opened(envelope: &Envelope, packet: &[u8]) -> (Result<(), Error>, Vec<Result<usize, Error>>) {
        let (mut seen, mut scratch) = (Vec::new(), Vec::new());
        let result = open(envelope, &mut packet.to_vec(), &mut scratch, &mut |message| {
            seen.push(message.map(|message| match message {
                Message::User(payload) => payload.len(),
                _ => usize::MAX,
            }));
        });
        assert!(scratch.capacity() <= PACKET_IN_MAX);
        (result, seen)
    }

    fn plain() -> Envelope {
        Envelope { compress_from: usize::MAX, ..Envelope::default() }
    }

    fn sealed() -> Envelope {
        Envelope {
            label: b"blue".as_slice().into(),
            keys: KeyRing { keys: vec![Key::new(&[1; 16]).unwrap()] },
            ..plain()
        }
    }

    fn built(envelope: &Envelope, parts: &[&[u8]]) -> Vec<u8> {
        let (mut builder, mut out) = (Builder::default(), Vec::new());
        parts.iter().for_each(|part| builder.push(part));
        builder.finish(envelope, [7; 12], true, &mut out);
        out
    }

    fn compressed(body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        lzw::write(body, &mut out);
        out
    }

    #[test]
    fn a_packet_filled_to_its_room_is_exactly_as_long_as_allowed() {
        for envelope in [plain(), sealed()] {
            for parts in 1..4 {
                let (mut builder, mut out) = (Builder::default(), Vec::new());
                (1..parts).for_each(|_| builder.push(b"\x08x"));
                builder.push(&vec![8; builder.room(&envelope)]);
                builder.finish(&envelope, [0; 12], true, &mut out);
                assert_eq!(out.len(), PACKET_OUT_MAX);
                assert_eq!(builder.room(&envelope), 0);
                assert_eq!(opened(&envelope, &out).1.len(), parts);
            }
        }
    }

    #[test]
    fn nothing_goes_out_that_crashes_old_peers() {
        let mut builder = Builder::default();
        builder.push(b"");
        assert!(builder.is_empty());
        let mut out = b"old".to_vec();
        builder.finish(&Envelope::default(), [0; 12], true, &mut out);
        assert!(out.is_empty());
        (0..200).for_each(|_| builder.push(b"\x08"));
        assert_eq!(builder.room(&plain()), 0);
        builder.finish(&plain(), [0; 12], false, &mut out);
        assert_eq!(out[..2], [COMPOUND, 127]);
    }

    #[test]
    fn compression_is_used_only_from_its_size_on_and_only_if_it_helps() {
        let text = [b"\x08".as_slice(), &[b'a'; 400]].concat();
        let mut rng = crate::rng::Rng::new(1);
        let noise: Vec<u8> = (0..400).map(|_| rng.next_u64() as u8).collect();
        let noise = [b"\x08".as_slice(), &noise].concat();
        let from = |compress_from| Envelope { compress_from, ..plain() };
        assert!(built(&from(401), &[&text]).len() < 100);
        assert_eq!(built(&from(402), &[&text]).len(), 401 + CRC_HEAD);
        assert_eq!(built(&from(0), &[&noise]).len(), 401 + CRC_HEAD);
        assert_eq!(opened(&plain(), &built(&from(0), &[&text])), (Ok(()), vec![Ok(400)]));
    }

    #[test]
    fn a_compressed_form_of_equal_length_is_not_used() {
        let envelope = Envelope { compress_from: 0, ..Envelope::default() };
        let mut equal = 0;
        for (period, len) in (2..60).flat_map(|period| (2..200).map(move |len| (period, len))) {
            let body: Vec<u8> = (0..len).map(|i| 8 + i % period).collect();
            let (mut builder, mut out) = (Builder::default(), Vec::new());
            builder.push(&body);
            builder.finish(&envelope, [0; 12], false, &mut out);
            let compressed = compressed(&body);
            equal += usize::from(compressed.len() == body.len());
            assert_eq!(out, if compressed.len() < body.len() { compressed } else { body });
        }
        assert!(equal > 0);
    }

    #[test]
    fn each_error_has_its_kind() {
        let (ours, packet) = (sealed(), built(&sealed(), &[b"\x08hello"]));
        let error = |envelope: &Envelope, packet: &[u8]| opened(envelope, packet).0.unwrap_err();
        let other_label = Envelope { label: b"red".as_slice().into(), ..sealed() };
        let other_key = Envelope { keys: KeyRing { keys: vec![Key::new(&[2; 16]).unwrap()] }, ..sealed() };
        let no_label = Envelope { label: Box::default(), ..sealed() };
        assert_eq!(opened(&ours, &packet), (Ok(()), vec![Ok(5)]));
        assert_eq!(error(&other_label, &packet), Error::WrongLabel);
        let same_length = Envelope { label: b"grey".as_slice().into(), ..sealed() };
        assert_eq!(error(&same_length, &packet), Error::WrongLabel);
        assert_eq!(error(&no_label, &packet), Error::WrongLabel);
        assert_eq!(error(&ours, &packet[6..]), Error::WrongLabel);
        assert_eq!(error(&other_key, &packet), Error::NotAuthentic);
        assert_eq!(error(&no_label, b"\x08plain text"), Error::NotAuthentic);
        assert_eq!(error(&ours, &packet[..5]), Error::Truncated);
        assert_eq!(error(&ours, &[]), Error::Truncated);
        assert_eq!(error(&plain(), &[CRC, 0, 0]), Error::Truncated);
        assert_eq!(error(&plain(), &[CRC, 0, 0, 0, 1, 8]), Error::Checksum);
        assert_eq!(error(&plain(), &[13, 0x80]), Error::Unsupported(13));
        assert_eq!(error(&plain(), &vec![8; PACKET_IN_MAX + 1]), Error::TooLong);
    }

    #[test]
    fn a_bomb_is_too_long_and_leaves_a_bounded_scratch() {
        let bomb = compressed(&vec![8; PACKET_IN_MAX + 1]);
        assert_eq!(opened(&plain(), &bomb), (Err(Error::TooLong), vec![]));
        let large = compressed(&vec![8; PACKET_IN_MAX]);
        assert_eq!(opened(&plain(), &large).0, Ok(()));
    }

    #[test]
    fn three_wrappers_are_opened_and_a_fourth_is_too_deep() {
        let mut packet = b"\x08x".to_vec();
        for depth in 0..=NESTING_MAX + 1 {
            let expected = if depth > NESTING_MAX { Err(Error::TooDeep) } else { Ok(()) };
            assert_eq!(opened(&plain(), &packet).0, expected, "{depth} wrappers");
            packet = compressed(&packet);
        }
    }

    #[test]
    fn messages_and_inflations_are_limited_over_all_wrappers_together() {
        let many = built(&plain(), &[b"\x08".as_slice(); 127]);
        let many = built(&plain(), &[&many[CRC_HEAD..]; 10]);
        let (result, seen) = opened(&plain(), &many);
        assert_eq!(result, Err(Error::TooLong));
        assert!(seen.len() <= MESSAGES_PER_PACKET_MAX + NESTING_MAX);
        let small = compressed(b"\x08x");
        let (_, seen) = opened(&plain(), &built(&plain(), &[small.as_slice(); 20]));
        assert_eq!(seen.iter().filter(|one| one.is_ok()).count(), INFLATED_PARTS_MAX);
    }

    #[test]
    fn sending_the_same_again_allocates_nothing() {
        let (mut builder, mut out) = (Builder::default(), Vec::new());
        let mut sizes = Vec::new();
        for _ in 0..3 {
            builder.clear();
            builder.push_message(&Message::Nack { seq: 70_000 });
            builder.push(b"\x08x");
            builder.finish(&sealed(), [0; 12], true, &mut out);
            sizes.push((builder.bytes.capacity(), builder.lengths.capacity(), out.capacity()));
        }
        assert_eq!(sizes[1], sizes[2]);
    }
}
