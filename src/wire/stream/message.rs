//! The messages of a TCP exchange (protocol page, 3.8 and section 6).

use crate::limits::{STREAM_MAX, STREAM_NODES_MAX};
use crate::wire::msgpack::{self, Reader as Msgpack};
use crate::wire::{
    ACK, Ack, ERROR, Error, PING, PUSH_PULL, Ping, USER, field_bytes, field_str, field_uint, read_vsn,
    sound_vsn,
};

/// Member states on the wire (`pushNodeState.State`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WireState {
    Alive,
    Suspect,
    Dead,
    Left,
    /// Anything else; ignored by the merge.
    Unknown,
}

/// One member in a push/pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeState<'a> {
    pub name: &'a str,
    pub addr: &'a [u8],
    pub port: u16,
    pub incarnation: u32,
    pub meta: &'a [u8],
    pub state: WireState,
    /// Six bytes, or empty.
    pub vsn: &'a [u8],
}

impl WireState {
    fn from_int(n: i128) -> Self {
        match n {
            0 => Self::Alive,
            1 => Self::Suspect,
            2 => Self::Dead,
            3 => Self::Left,
            _ => Self::Unknown,
        }
    }

    fn as_int(self) -> u8 {
        match self {
            Self::Alive => 0,
            Self::Suspect => 1,
            Self::Dead => 2,
            Self::Left => 3,
            // The first number that means nothing to anybody.
            Self::Unknown => 4,
        }
    }
}

impl<'a> NodeState<'a> {
    pub(super) fn read(reader: &mut Msgpack<'a>) -> Result<Self, Error> {
        let mut node = Self {
            name: "",
            addr: &[],
            port: 0,
            incarnation: 0,
            meta: &[],
            state: WireState::Alive,
            vsn: &[],
        };
        reader.fields(&mut |key, value| {
            match key {
                b"Addr" => node.addr = value.bytes()?,
                b"Incarnation" => node.incarnation = value.u32()?,
                b"Meta" => node.meta = value.bytes()?,
                b"Name" => node.name = value.str()?,
                b"Port" => node.port = value.u16()?,
                b"State" => node.state = WireState::from_int(value.int()?),
                b"Vsn" => node.vsn = read_vsn(value)?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(node)
    }

    fn write(&self, out: &mut Vec<u8>) {
        msgpack::write_map(out, 7);
        field_bytes(out, "Addr", self.addr);
        field_uint(out, "Incarnation", self.incarnation);
        field_bytes(out, "Meta", self.meta);
        field_str(out, "Name", self.name);
        field_uint(out, "Port", self.port);
        field_uint(out, "State", self.state.as_int());
        field_bytes(out, "Vsn", sound_vsn(self.vsn));
    }
}

/// A complete push/pull, request or reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushPull<'a> {
    pub join: bool,
    pub nodes: Vec<NodeState<'a>>,
    pub user_state: &'a [u8],
}

/// What one side said on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamMessage<'a> {
    PushPull(PushPull<'a>),
    Ping(Ping<'a>),
    Ack(Ack<'a>),
    User(&'a [u8]),
    /// The other side could not make sense of us.
    Error(&'a str),
}

/// What a push/pull begins with (`pushPullHeader`). The counts are within our limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushPullHead {
    pub join: bool,
    pub nodes: usize,
    /// In bytes.
    pub user_state_len: usize,
}

impl PushPullHead {
    /// Reads the map. Negative counts, which crash old peers, are malformed; large ones are too long.
    pub fn read(reader: &mut Msgpack<'_>) -> Result<Self, Error> {
        let (mut join, mut nodes, mut user_state) = (false, 0, 0);
        reader.fields(&mut |key, value| {
            match key {
                b"Join" => join = value.bool()?,
                b"Nodes" => nodes = value.int()?,
                b"UserStateLen" => user_state = value.int()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        let nodes = checked(nodes, STREAM_NODES_MAX)?;
        Ok(Self { join, nodes, user_state_len: checked(user_state, STREAM_MAX)? })
    }

    /// Appends the map.
    pub fn write(&self, out: &mut Vec<u8>) {
        msgpack::write_map(out, 3);
        msgpack::write_str(out, "Join");
        msgpack::write_bool(out, self.join);
        field_uint(out, "Nodes", self.nodes as u64);
        field_uint(out, "UserStateLen", self.user_state_len as u64);
    }
}

/// A count as Go's `int` (protocol page, 2.3) that must lie in `0..=max`.
fn checked(n: i128, max: usize) -> Result<usize, Error> {
    if n > i128::from(i64::MAX) {
        return Err(Error::Malformed);
    }
    let n = u64::try_from(n).map_err(|_| Error::Malformed)?;
    usize::try_from(n).ok().filter(|&n| n <= max).ok_or(Error::TooLong)
}

pub(super) fn read_user_head(reader: &mut Msgpack<'_>) -> Result<usize, Error> {
    let mut len = 0;
    reader.fields(&mut |key, value| {
        if key == b"UserMsgLen" {
            len = value.int()?;
            return Ok(true);
        }
        Ok(false)
    })?;
    checked(len, STREAM_MAX)
}

pub(super) fn read_error<'a>(reader: &mut Msgpack<'a>) -> Result<&'a str, Error> {
    let mut text = "";
    reader.fields(&mut |key, value| {
        if key == b"Error" {
            text = value.str()?;
            return Ok(true);
        }
        Ok(false)
    })?;
    Ok(text)
}

/// A complete message, out of its wrappers: type byte and body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub bytes: Vec<u8>,
}

impl Received {
    /// Reads it. Bytes after the message are ignored.
    pub fn message(&self) -> Result<StreamMessage<'_>, Error> {
        let (&kind, body) = self.bytes.split_first().ok_or(Error::Truncated)?;
        let mut reader = Msgpack::new(body);
        Ok(match kind {
            PING => StreamMessage::Ping(Ping::read(&mut reader)?),
            ACK => StreamMessage::Ack(Ack::read(&mut reader)?),
            ERROR => StreamMessage::Error(read_error(&mut reader)?),
            USER => {
                let len = read_user_head(&mut reader)?;
                StreamMessage::User(reader.take(len)?)
            }
            PUSH_PULL => StreamMessage::PushPull(read_push_pull(&mut reader)?),
            _ => return Err(Error::Unsupported(kind)),
        })
    }
}

fn read_push_pull<'a>(reader: &mut Msgpack<'a>) -> Result<PushPull<'a>, Error> {
    let head = PushPullHead::read(reader)?;
    let mut nodes = Vec::new();
    for _ in 0..head.nodes {
        nodes.push(NodeState::read(reader)?);
    }
    Ok(PushPull { join: head.join, nodes, user_state: reader.take(head.user_state_len)? })
}

/// Appends a push/pull (type byte, header, nodes, user state).
pub fn encode_push_pull<'a>(
    join: bool,
    nodes: impl ExactSizeIterator<Item = NodeState<'a>>,
    user_state: &[u8],
    out: &mut Vec<u8>,
) {
    out.push(PUSH_PULL);
    PushPullHead { join, nodes: nodes.len(), user_state_len: user_state.len() }.write(out);
    nodes.for_each(|node| node.write(out));
    out.extend_from_slice(user_state);
}

/// Appends a user message (type byte, header, bytes).
pub fn encode_user(payload: &[u8], out: &mut Vec<u8>) {
    out.push(USER);
    msgpack::write_map(out, 1);
    field_uint(out, "UserMsgLen", payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Appends an error message (type byte and map).
pub fn encode_error(text: &str, out: &mut Vec<u8>) {
    out.push(ERROR);
    msgpack::write_map(out, 1);
    field_str(out, "Error", text);
}
