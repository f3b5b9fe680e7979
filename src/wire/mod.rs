//! Bytes ↔ messages of the memberlist protocol and of the Serf layer on top. No state, no clock.

pub mod base64;
mod crc;
pub mod crypt;
mod lzw;
pub mod msgpack;
pub mod packet;
pub mod serf;
pub mod stream;

use core::fmt;

use msgpack::Reader;

// Type bytes (protocol page, 3.1). The layers' own files know the rest of what these mean.
const PING: u8 = 0;
const INDIRECT_PING: u8 = 1;
const ACK: u8 = 2;
const SUSPECT: u8 = 3;
const ALIVE: u8 = 4;
const DEAD: u8 = 5;
const PUSH_PULL: u8 = 6;
const COMPOUND: u8 = 7;
const USER: u8 = 8;
const COMPRESSED: u8 = 9;
const ENCRYPTED: u8 = 10;
const NACK: u8 = 11;
const CRC: u8 = 12;
const ERROR: u8 = 13;
const LABEL: u8 = 244;

/// Why bytes were not a message. Nothing was changed by them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Error {
    /// They end too early.
    Truncated,
    /// They are not what the protocol says.
    Malformed,
    /// A message type, algorithm or version that is not known here.
    Unsupported(u8),
    /// More wrappers, or deeper msgpack, than any real peer sends.
    TooDeep,
    /// Larger than the limit, inflated or as they came.
    TooLong,
    /// The cluster label is missing, or another one.
    WrongLabel,
    /// No key of ours fits (or they are not encrypted and we have a key).
    NotAuthentic,
    /// The CRC header does not match.
    Checksum,
}

impl Error {
    /// The kinds that are counted and shown by `status -v`, in the order of [`Error::kind`].
    pub const KINDS: [&'static str; 8] = [
        "truncated",
        "malformed",
        "unsupported",
        "too-deep",
        "too-long",
        "wrong-label",
        "wrong-key",
        "bad-checksum",
    ];

    /// Index into [`Error::KINDS`].
    pub fn kind(self) -> usize {
        match self {
            Self::Truncated => 0,
            Self::Malformed => 1,
            Self::Unsupported(_) => 2,
            Self::TooDeep => 3,
            Self::TooLong => 4,
            Self::WrongLabel => 5,
            Self::NotAuthentic => 6,
            Self::Checksum => 7,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::KINDS[self.kind()])
    }
}

impl core::error::Error for Error {}

/// A protocol version vector: `[PMin, PMax, PCur, DMin, DMax, DCur]` (protocol page, 3.9).
pub type Vsn = [u8; 6];

/// One message of a packet (protocol page, section 3). Borrows the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// 0: are you there?
    Ping(Ping<'a>),
    /// 1: please ping that one for me.
    IndirectPing(IndirectPing<'a>),
    /// 2: I am (or: it is).
    Ack(Ack<'a>),
    /// 11: it did not answer me.
    Nack {
        /// The requester's number.
        seq: u32,
    },
    /// 3: I could not reach that one.
    Suspect(Claim<'a>),
    /// 5: that one is dead, or (said by itself) left.
    Dead(Claim<'a>),
    /// 4: that one is there, with these data.
    Alive(Alive<'a>),
    /// 8: bytes of the application.
    User(&'a [u8]),
}

/// Who sent a ping, as it says itself; all empty from old peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Source<'a> {
    /// 0, 4 or 16 bytes.
    pub addr: &'a [u8],
    pub port: u16,
    pub node: &'a str,
}

/// See [`Message::Ping`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ping<'a> {
    /// Whom it is meant for; empty: whoever receives it.
    pub node: &'a str,
    pub seq: u32,
    pub source: Source<'a>,
}

/// See [`Message::IndirectPing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndirectPing<'a> {
    /// The target's name.
    pub node: &'a str,
    pub seq: u32,
    /// The target's address, 4 or 16 bytes.
    pub target: &'a [u8],
    pub port: u16,
    /// Whether a nack is wanted.
    pub nack: bool,
    pub source: Source<'a>,
}

/// See [`Message::Ack`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ack<'a> {
    pub seq: u32,
    /// Of the ping delegate; Serf puts a coordinate here.
    pub payload: &'a [u8],
}

/// The content of [`Message::Suspect`] and [`Message::Dead`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claim<'a> {
    pub node: &'a str,
    /// Who says so.
    pub from: &'a str,
    pub incarnation: u32,
}

/// See [`Message::Alive`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alive<'a> {
    pub node: &'a str,
    /// As received: 4 or 16 bytes, compared as bytes (protocol page, 3.7).
    pub addr: &'a [u8],
    pub port: u16,
    pub incarnation: u32,
    pub meta: &'a [u8],
    /// Six bytes; empty from very old peers.
    pub vsn: &'a [u8],
}

impl<'a> Message<'a> {
    /// Reads one message: type byte and body. Bytes after the body are ignored, as memberlist does.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, Error> {
        let (&kind, body) = bytes.split_first().ok_or(Error::Truncated)?;
        let mut reader = Reader::new(body);
        Ok(match kind {
            PING => Self::Ping(Ping::read(&mut reader)?),
            INDIRECT_PING => Self::IndirectPing(IndirectPing::read(&mut reader)?),
            ACK => Self::Ack(Ack::read(&mut reader)?),
            NACK => Self::Nack { seq: Ack::read(&mut reader)?.seq },
            SUSPECT => Self::Suspect(Claim::read(&mut reader)?),
            DEAD => Self::Dead(Claim::read(&mut reader)?),
            ALIVE => Self::Alive(Alive::read(&mut reader)?),
            USER => Self::User(body),
            _ => return Err(Error::Unsupported(kind)),
        })
    }

    /// Appends type byte and body. Empty byte fields are written as nil.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ping(ping) => ping.write(out),
            Self::IndirectPing(ping) => ping.write(out),
            Self::Ack(ack) => ack.write(out),
            Self::Nack { seq } => {
                out.push(NACK);
                msgpack::write_map(out, 1);
                field_uint(out, "SeqNo", *seq);
            }
            Self::Suspect(claim) => claim.write(SUSPECT, out),
            Self::Dead(claim) => claim.write(DEAD, out),
            Self::Alive(alive) => alive.write(out),
            Self::User(payload) => {
                out.push(USER);
                out.extend_from_slice(payload);
            }
        }
    }
}

impl<'a> Source<'a> {
    fn read_field(&mut self, key: &[u8], value: &mut Reader<'a>) -> Result<bool, Error> {
        match key {
            b"SourceAddr" => self.addr = value.bytes()?,
            b"SourceNode" => self.node = value.str()?,
            b"SourcePort" => self.port = value.u16()?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// How many of the three fields are there at all.
    fn fields(&self) -> usize {
        usize::from(!self.addr.is_empty()) + usize::from(!self.node.is_empty()) + usize::from(self.port != 0)
    }

    fn write_fields(&self, out: &mut Vec<u8>) {
        if !self.addr.is_empty() {
            field_bytes(out, "SourceAddr", self.addr);
        }
        if !self.node.is_empty() {
            field_str(out, "SourceNode", self.node);
        }
        if self.port != 0 {
            field_uint(out, "SourcePort", self.port);
        }
    }
}

impl<'a> Ping<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut ping = Self::default();
        reader.fields(&mut |key, value| {
            match key {
                b"Node" => ping.node = value.str()?,
                b"SeqNo" => ping.seq = value.u32()?,
                _ => return ping.source.read_field(key, value),
            }
            Ok(true)
        })?;
        Ok(ping)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(PING);
        msgpack::write_map(out, 2 + self.source.fields());
        field_str(out, "Node", self.node);
        field_uint(out, "SeqNo", self.seq);
        self.source.write_fields(out);
    }
}

impl<'a> IndirectPing<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut ping = Self::default();
        reader.fields(&mut |key, value| {
            match key {
                b"Nack" => ping.nack = value.bool()?,
                b"Node" => ping.node = value.str()?,
                b"Port" => ping.port = value.u16()?,
                b"SeqNo" => ping.seq = value.u32()?,
                b"Target" => ping.target = value.bytes()?,
                _ => return ping.source.read_field(key, value),
            }
            Ok(true)
        })?;
        Ok(ping)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(INDIRECT_PING);
        msgpack::write_map(out, 5 + self.source.fields());
        msgpack::write_str(out, "Nack");
        msgpack::write_bool(out, self.nack);
        field_str(out, "Node", self.node);
        field_uint(out, "Port", self.port);
        field_uint(out, "SeqNo", self.seq);
        self.source.write_fields(out);
        field_bytes(out, "Target", self.target);
    }
}

impl<'a> Ack<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut ack = Self::default();
        reader.fields(&mut |key, value| {
            match key {
                b"Payload" => ack.payload = value.bytes()?,
                b"SeqNo" => ack.seq = value.u32()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(ack)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(ACK);
        msgpack::write_map(out, 2);
        field_bytes(out, "Payload", self.payload);
        field_uint(out, "SeqNo", self.seq);
    }
}

impl<'a> Claim<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut claim = Self::default();
        reader.fields(&mut |key, value| {
            match key {
                b"From" => claim.from = value.str()?,
                b"Incarnation" => claim.incarnation = value.u32()?,
                b"Node" => claim.node = value.str()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(claim)
    }

    fn write(&self, kind: u8, out: &mut Vec<u8>) {
        out.push(kind);
        msgpack::write_map(out, 3);
        field_str(out, "From", self.from);
        field_uint(out, "Incarnation", self.incarnation);
        field_str(out, "Node", self.node);
    }
}

impl<'a> Alive<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self, Error> {
        let mut alive = Self::default();
        reader.fields(&mut |key, value| {
            match key {
                b"Addr" => alive.addr = value.bytes()?,
                b"Incarnation" => alive.incarnation = value.u32()?,
                b"Meta" => alive.meta = value.bytes()?,
                b"Node" => alive.node = value.str()?,
                b"Port" => alive.port = value.u16()?,
                b"Vsn" => alive.vsn = read_vsn(value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(alive)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(ALIVE);
        msgpack::write_map(out, 6);
        field_bytes(out, "Addr", self.addr);
        field_uint(out, "Incarnation", self.incarnation);
        field_bytes(out, "Meta", self.meta);
        field_str(out, "Node", self.node);
        field_uint(out, "Port", self.port);
        field_bytes(out, "Vsn", sound_vsn(self.vsn));
    }
}

/// A version vector is six bytes or none at all: one to five crash old peers that it would be passed on
/// to (protocol page, 3.9), so they make the message malformed.
fn read_vsn<'a>(value: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let vsn = value.bytes()?;
    if vsn.is_empty() { Ok(vsn) } else { vsn.get(..6).ok_or(Error::Malformed) }
}

/// What may be sent of a version vector; see [`read_vsn`].
fn sound_vsn(vsn: &[u8]) -> &[u8] {
    vsn.get(..6).unwrap_or_default()
}

fn field_str(out: &mut Vec<u8>, key: &str, value: &str) {
    msgpack::write_str(out, key);
    msgpack::write_str(out, value);
}

fn field_bytes(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    msgpack::write_str(out, key);
    msgpack::write_bytes(out, value);
}

fn field_uint(out: &mut Vec<u8>, key: &str, value: impl Into<u64>) {
    msgpack::write_str(out, key);
    msgpack::write_uint(out, value.into());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_kind_and_a_name_of_its_own() {
        use Error::*;
        let all =
            [Truncated, Malformed, Unsupported(7), TooDeep, TooLong, WrongLabel, NotAuthentic, Checksum];
        for (kind, error) in all.into_iter().enumerate() {
            assert_eq!(error.kind(), kind);
            assert_eq!(error.to_string(), Error::KINDS[kind]);
        }
    }

    #[test]
    fn a_short_version_vector_is_neither_accepted_nor_sent() {
        let alive = Alive { node: "a", addr: &[127, 0, 0, 1], vsn: &[1, 5, 2], ..Alive::default() };
        let mut out = Vec::new();
        Message::Alive(alive).encode(&mut out);
        assert_eq!(Message::decode(&out), Ok(Message::Alive(Alive { vsn: &[], ..alive })));
        let short = b"\x04\x81\xa3Vsn\xa3\x01\x05\x02";
        assert_eq!(Message::decode(short), Err(Error::Malformed));
    }

    #[test]
    fn types_that_are_no_packet_messages_are_named() {
        for kind in [PUSH_PULL, COMPOUND, COMPRESSED, ENCRYPTED, CRC, ERROR, LABEL, 14, 255] {
            assert_eq!(Message::decode(&[kind, 0x80]), Err(Error::Unsupported(kind)));
        }
        assert_eq!(Message::decode(&[]), Err(Error::Truncated));
    }
}
