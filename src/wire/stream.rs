//! One TCP exchange: framing (protocol page, 1.6), and when a message is complete. The messages
//! themselves are in `stream/message.rs`.

mod message;

use super::lzw::{self, Input};
use super::msgpack::Reader as Msgpack;
use super::packet::Envelope;
use super::{ACK, Ack, COMPRESSED, ENCRYPTED, ERROR, Error, PING, PUSH_PULL, Ping, USER};
use crate::limits::{STREAM_MAX, STREAM_VALUES_MAX};
pub use message::{
    NodeState, PushPull, PushPullHead, Received, StreamMessage, WireState, encode_error, encode_push_pull,
    encode_user,
};
use message::{read_error, read_user_head};

/// Type byte and length of an encrypted frame; both are authenticated.
const FRAME_HEAD: usize = 1 + 4;

/// A stream that makes no sense, and what an acceptor answers before it closes (protocol page, 1.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamError {
    pub error: Error,
    /// The text of the error message to send; `None`: close without a word.
    pub reply: Option<&'static str>,
}

/// Collects what the other side says until it is complete.
///
/// However the bytes are cut into pieces, the result is the same. What was read stays read: a piece costs
/// no more than itself and one structure ([`STREAM_VALUES_MAX`]).
pub struct Reader {
    accepted: bool,
    /// Received and not yet consumed by a layer.
    held: Vec<u8>,
    stage: Stage,
}

/// What comes next.
enum Stage {
    Label,
    /// The first byte after the label says what.
    Frame,
    /// `length` bytes of version, nonce, ciphertext and tag.
    Sealed {
        length: usize,
    },
    /// A compress message, not encrypted.
    Compressed,
    /// The message itself, neither encrypted nor compressed; `held` starts with its type byte.
    Message(Progress),
    /// Complete, or failed; nothing more is wanted.
    Done,
}

/// How much of a plain message is there.
#[derive(Clone, Copy)]
enum Progress {
    Head,
    /// Push/pull: `nodes` more node states from `at` on, then `user_state` bytes.
    Nodes {
        at: usize,
        nodes: usize,
        user_state: usize,
    },
    /// Complete with `end` bytes.
    Rest {
        end: usize,
    },
}

impl Reader {
    /// `accepted`: the other side opened the connection (and so sends the label header).
    pub fn new(accepted: bool) -> Self {
        let stage = if accepted { Stage::Label } else { Stage::Frame };
        Self { accepted, held: Vec::new(), stage }
    }

    /// More bytes came. `Ok(None)`: not complete yet. Never holds more than [`crate::limits::STREAM_MAX`]
    /// and never allocates by a declared size. What comes after a complete message, or after an error, is
    /// ignored.
    pub fn feed(&mut self, envelope: &Envelope, data: &[u8]) -> Result<Option<Received>, StreamError> {
        if let Stage::Done = self.stage {
            return Ok(None);
        }
        let fits = data.len().min(STREAM_MAX - self.held.len());
        self.hold(&data[..fits]);
        let result = loop {
            match self.step(envelope) {
                Ok(None) => {}
                // In the middle of a stage: more may come, unless there is no room for more.
                Err((Error::Truncated, _)) if !matches!(self.stage, Stage::Done) => {
                    if fits == data.len() {
                        return Ok(None);
                    }
                    break Err((Error::TooLong, None));
                }
                other => break other,
            }
        };
        self.stage = Stage::Done;
        self.held = Vec::new();
        result.map_err(|(error, reply)| StreamError { error, reply: reply.filter(|_| self.accepted) })
    }

    /// Bytes held at the moment, for the budget of all streams.
    pub fn held(&self) -> usize {
        self.held.capacity()
    }

    /// Doubles as a `Vec` does, but never beyond the limit.
    fn hold(&mut self, data: &[u8]) {
        let needed = self.held.len() + data.len();
        if needed > self.held.capacity() {
            let target = needed.max((2 * self.held.capacity()).min(STREAM_MAX));
            self.held.reserve_exact(target - self.held.len());
        }
        self.held.extend_from_slice(data);
    }

    /// Goes one stage on. [`Error::Truncated`] while a stage is incomplete; it then is as it was.
    fn step(&mut self, envelope: &Envelope) -> Result<Option<Received>, Failure> {
        match self.stage {
            Stage::Label => {
                let header = envelope.check_label(&self.held).map_err(silent)?;
                self.held.drain(..header);
                self.stage = Stage::Frame;
                Ok(None)
            }
            Stage::Frame => {
                self.stage = self.read_frame_head(envelope)?;
                Ok(None)
            }
            Stage::Sealed { length } => {
                if self.held.len() < FRAME_HEAD + length {
                    return Err((Error::Truncated, None));
                }
                self.open_frame(envelope, length).map(Some)
            }
            Stage::Compressed => self.read_compressed().map(Some),
            Stage::Message(progress) => {
                let progress = advance(&self.held, progress).map_err(silent)?;
                self.stage = Stage::Message(progress);
                match progress {
                    Progress::Rest { end } if self.held.len() >= end => {
                        self.held.truncate(end);
                        Ok(Some(Received { bytes: core::mem::take(&mut self.held) }))
                    }
                    Progress::Rest { .. } => Err((Error::Truncated, None)),
                    _ => Ok(None),
                }
            }
            Stage::Done => Ok(None),
        }
    }

    fn read_frame_head(&self, envelope: &Envelope) -> Result<Stage, Failure> {
        let kind = *self.held.first().ok_or((Error::Truncated, None))?;
        match (kind, envelope.keys.is_empty()) {
            (ENCRYPTED, true) => Err((Error::NotAuthentic, Some(ENCRYPTED_REPLY))),
            (ENCRYPTED, false) => {
                let length = self.held[1..].first_chunk().ok_or((Error::Truncated, None))?;
                let length = u32::from_be_bytes(*length) as usize;
                if length > STREAM_MAX - FRAME_HEAD {
                    return Err((Error::TooLong, Some(TOO_LONG_REPLY)));
                }
                Ok(Stage::Sealed { length })
            }
            (_, false) => Err((Error::NotAuthentic, Some(PLAIN_REPLY))),
            (COMPRESSED, true) => Ok(Stage::Compressed),
            (_, true) => Ok(Stage::Message(Progress::Head)),
        }
    }

    /// Decrypts the complete frame, in place.
    fn open_frame(&mut self, envelope: &Envelope, length: usize) -> Result<Received, Failure> {
        self.stage = Stage::Done;
        let mut aad = [0; FRAME_HEAD + 255];
        let aad = frame_aad(&mut aad, length, envelope.label());
        let frame = &mut self.held[FRAME_HEAD..FRAME_HEAD + length];
        let plain = envelope.keys.open(aad, frame).map_err(|error| (error, Some(WRONG_KEY_REPLY)))?.len();
        // The plaintext lies where the ciphertext was: behind version and nonce.
        self.held.truncate(FRAME_HEAD + super::crypt::HEAD + plain);
        self.held.drain(..FRAME_HEAD + super::crypt::HEAD);
        match self.held.first() {
            Some(&COMPRESSED) => self.read_compressed(),
            _ => complete(core::mem::take(&mut self.held)),
        }
    }

    fn read_compressed(&mut self) -> Result<Received, Failure> {
        let body = self.held.get(1..).unwrap_or_default();
        let mut reader = Msgpack::with_limit(body, STREAM_VALUES_MAX);
        let buf = lzw::read_map(&mut reader).map_err(|error| (error, Some(COMPRESSION_REPLY)))?;
        self.stage = Stage::Done;
        let mut inflated = Vec::new();
        lzw::inflate(Input::Apart(buf), &mut inflated, STREAM_MAX)
            .map_err(|error| (error, Some(COMPRESSION_REPLY)))?;
        complete(inflated)
    }
}

/// An error, and the reply of a real acceptor.
type Failure = (Error, Option<&'static str>);

/// An error that a real acceptor answers by closing.
fn silent(error: Error) -> Failure {
    (error, None)
}

// The texts of the newest memberlist (old ones begin with a capital, or say it a little differently).
const ENCRYPTED_REPLY: &str = "remote state is encrypted and encryption is not configured";
const PLAIN_REPLY: &str = "encryption is configured but remote state is not encrypted";
const TOO_LONG_REPLY: &str = "remote node state is larger than limit";
const WRONG_KEY_REPLY: &str = "no installed keys could decrypt the message";
const COMPRESSION_REPLY: &str = "failed to decompress the message";

/// A message out of a frame or a compress message: all of it is there, or it never will be.
fn complete(bytes: Vec<u8>) -> Result<Received, Failure> {
    let mut progress = Progress::Head;
    loop {
        progress = advance(&bytes, progress).map_err(silent)?;
        if let Progress::Rest { end } = progress {
            return if end <= bytes.len() { Ok(Received { bytes }) } else { Err((Error::Truncated, None)) };
        }
    }
}

/// Reads the next structure of a message, to find where it ends.
fn advance(bytes: &[u8], progress: Progress) -> Result<Progress, Error> {
    match progress {
        Progress::Head => advance_head(bytes),
        Progress::Nodes { at, nodes: 0, user_state } => Ok(Progress::Rest { end: at + user_state }),
        Progress::Nodes { at, nodes, user_state } => {
            let rest = bytes.get(at..).unwrap_or_default();
            let mut reader = Msgpack::with_limit(rest, STREAM_VALUES_MAX);
            NodeState::read(&mut reader)?;
            let at = bytes.len() - reader.rest().len();
            Ok(Progress::Nodes { at, nodes: nodes - 1, user_state })
        }
        done => Ok(done),
    }
}

fn advance_head(bytes: &[u8]) -> Result<Progress, Error> {
    let (&kind, body) = bytes.split_first().ok_or(Error::Truncated)?;
    let mut reader = Msgpack::with_limit(body, STREAM_VALUES_MAX);
    let consumed = |reader: &Msgpack<'_>| bytes.len() - reader.rest().len();
    match kind {
        PING => Ping::read(&mut reader).map(drop)?,
        ACK => Ack::read(&mut reader).map(drop)?,
        ERROR => read_error(&mut reader).map(drop)?,
        USER => {
            let len = read_user_head(&mut reader)?;
            return Ok(Progress::Rest { end: consumed(&reader) + len });
        }
        PUSH_PULL => {
            let head = PushPullHead::read(&mut reader)?;
            let at = consumed(&reader);
            return Ok(Progress::Nodes { at, nodes: head.nodes, user_state: head.user_state_len });
        }
        _ => return Err(Error::Unsupported(kind)),
    }
    Ok(Progress::Rest { end: consumed(&reader) })
}

/// Puts the layers round a complete message (pings and acks come from [`super::Message::encode`]).
/// `opener`: we opened the connection, so the label header comes first.
///
/// `nonce` must never be used again with these keys. Compression, if it is on, is unconditional, as in
/// memberlist. There is no empty message: for an empty `body` nothing is returned.
pub fn seal(envelope: &Envelope, opener: bool, nonce: [u8; 12], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if body.is_empty() {
        return out;
    }
    let mut compressed = Vec::new();
    let mut body = body;
    if envelope.compress_streams {
        lzw::write(body, &mut compressed);
        body = &compressed;
    }
    if opener {
        envelope.write_label(&mut out);
    }
    if envelope.keys.is_empty() {
        out.extend_from_slice(body);
        return out;
    }
    let length = body.len() + envelope.keys.overhead();
    let mut aad = [0; FRAME_HEAD + 255];
    let aad = frame_aad(&mut aad, length, envelope.label());
    out.reserve_exact(FRAME_HEAD + length);
    out.extend_from_slice(&aad[..FRAME_HEAD]);
    envelope.keys.seal(nonce, aad, body, &mut out);
    out
}

/// What is authenticated besides the text: the frame's head and the label, in both directions.
fn frame_aad<'a>(aad: &'a mut [u8; FRAME_HEAD + 255], length: usize, label: &[u8]) -> &'a [u8] {
    let end = FRAME_HEAD + label.len();
    aad[0] = ENCRYPTED;
    aad[1..FRAME_HEAD].copy_from_slice(&(length as u32).to_be_bytes());
    aad[FRAME_HEAD..end].copy_from_slice(label);
    &aad[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::STREAM_NODES_MAX;
    use crate::wire::crypt::{Key, KeyRing};

    fn plain() -> Envelope {
        Envelope::default()
    }

    fn full() -> Envelope {
        Envelope {
            label: b"blue".as_slice().into(),
            keys: KeyRing { keys: vec![Key::new(&[1; 16]).unwrap()] },
            compress_from: 0,
            compress_streams: true,
        }
    }

    fn fed(envelope: &Envelope, accepted: bool, data: &[u8]) -> Result<Option<Received>, StreamError> {
        Reader::new(accepted).feed(envelope, data)
    }

    fn failed(envelope: &Envelope, data: &[u8]) -> (Error, Option<&'static str>) {
        let error = fed(envelope, true, data).unwrap_err();
        (error.error, error.reply)
    }

    fn user(len: usize) -> Vec<u8> {
        let mut out = Vec::new();
        encode_user(&vec![7; len], &mut out);
        out
    }

    #[test]
    fn only_the_opener_sends_the_label_and_both_authenticate_it() {
        let (request, reply) =
            (seal(&full(), true, [1; 12], &user(9)), seal(&full(), false, [2; 12], &user(9)));
        assert_eq!(request[..6], *b"\xF4\x04blue");
        assert_eq!(fed(&full(), true, &request).unwrap().unwrap().bytes, user(9));
        assert_eq!(fed(&full(), false, &reply).unwrap().unwrap().bytes, user(9));
        assert_eq!(failed(&full(), &reply), (Error::WrongLabel, None));
        let other = Envelope { label: Box::default(), ..full() };
        assert_eq!(failed(&other, &request), (Error::WrongLabel, None));
        assert_eq!(failed(&other, &reply), (Error::NotAuthentic, Some(WRONG_KEY_REPLY)));
        assert_eq!(fed(&other, false, &reply).unwrap_err().reply, None);
    }

    #[test]
    fn declared_sizes_are_refused_before_anything_of_them_comes() {
        assert_eq!(
            failed(&Envelope { label: Box::default(), ..full() }, &[ENCRYPTED, 0, 0x10, 0, 0]),
            (Error::TooLong, Some(TOO_LONG_REPLY))
        );
        let header = |nodes, user_state_len| {
            let mut out = vec![PUSH_PULL];
            PushPullHead { join: false, nodes, user_state_len }.write(&mut out);
            out
        };
        assert_eq!(fed(&plain(), true, &header(STREAM_NODES_MAX, STREAM_MAX)), Ok(None));
        assert_eq!(failed(&plain(), &header(STREAM_NODES_MAX + 1, 0)), (Error::TooLong, None));
        assert_eq!(failed(&plain(), &header(0, STREAM_MAX + 1)), (Error::TooLong, None));
    }

    #[test]
    fn no_more_than_the_limit_is_ever_held() {
        let mut reader = Reader::new(true);
        let mut data = user(STREAM_MAX);
        data.truncate(STREAM_MAX);
        for piece in data.chunks(10_000) {
            assert_eq!(reader.feed(&plain(), piece), Ok(None));
            assert!(reader.held() <= STREAM_MAX);
        }
        assert_eq!(reader.feed(&plain(), b"x").unwrap_err().error, Error::TooLong);
        assert_eq!(reader.held(), 0);
        assert_eq!(reader.feed(&plain(), b"more"), Ok(None));
    }

    #[test]
    fn a_bomb_is_too_long() {
        let envelope = Envelope { compress_streams: true, ..plain() };
        let bomb = seal(&envelope, true, [0; 12], &user(STREAM_MAX));
        assert!(bomb.len() < STREAM_MAX / 100);
        assert_eq!(failed(&envelope, &bomb), (Error::TooLong, Some(COMPRESSION_REPLY)));
    }

    #[test]
    fn a_structure_of_endless_fields_is_given_up_early() {
        let mut endless = vec![PUSH_PULL, 0xDF, 0xFF, 0xFF, 0xFF, 0xFF];
        endless.extend_from_slice(&[0xA0, 0x01].repeat(STREAM_VALUES_MAX));
        assert_eq!(failed(&plain(), &endless), (Error::TooLong, None));
    }

    #[test]
    fn what_is_wrapped_must_be_whole() {
        let envelope = Envelope { compress_streams: true, ..plain() };
        let cut = seal(&envelope, true, [0; 12], &user(9)[..5]);
        assert_eq!(failed(&envelope, &cut), (Error::Truncated, None));
        assert!(seal(&envelope, true, [0; 12], &[]).is_empty());
    }
}
