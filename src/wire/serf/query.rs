//! Events of the operator's, queries, and the answers to those that are about keys (protocol page, 8.2).

use super::{Error, field_str, field_uint};
use crate::wire::base64;
use crate::wire::crypt::Key;
use crate::wire::field_bytes;
use crate::wire::msgpack::{self, Reader};

// Serf's own type bytes.
const QUERY_RESPONSE: u8 = 5;
const KEY_REQUEST: u8 = 7;
const KEY_RESPONSE: u8 = 8;
// Kinds of filters.
const FILTER_NODES: u8 = 0;
// Flags of a query, and (the first) of an answer.
const FLAG_ACK: u32 = 1;
const FLAG_DO_NOT_PASS_ON: u32 = 2;

/// 3: `serf event`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserEvent<'a> {
    pub ltime: u64,
    pub name: &'a str,
    pub payload: &'a [u8],
    /// Whether events of one name may be merged.
    pub coalesce: bool,
}

impl<'a> UserEvent<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut event = Self::default();
        Reader::new(body).fields(&mut |key, value| {
            match key {
                b"CC" => event.coalesce = value.bool()?,
                b"LTime" => event.ltime = value.uint()?,
                b"Name" => event.name = value.str()?,
                b"Payload" => event.payload = value.bytes()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(event)
    }
}

/// 4: a question. How long the asker waits and how many should relay answers is not read: ours go at once, directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query<'a> {
    pub ltime: u64,
    /// With `ltime` it is the query's identity.
    pub id: u32,
    /// Where the answers go: 4 or 16 bytes, and a port.
    pub addr: &'a [u8],
    pub port: u16,
    pub source_node: &'a str,
    pub flags: u32,
    pub name: &'a str,
    pub payload: &'a [u8],
    /// An array of filters as it came.
    filters: &'a [u8],
}

impl<'a> Query<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut query = Self::default();
        Reader::new(body).fields(&mut |key, value| {
            match key {
                b"Addr" => query.addr = value.bytes()?,
                b"Filters" => query.filters = skipped(value)?,
                b"Flags" => query.flags = value.u32()?,
                b"ID" => query.id = value.u32()?,
                b"LTime" => query.ltime = value.uint()?,
                b"Name" => query.name = value.str()?,
                b"Payload" => query.payload = value.bytes()?,
                b"Port" => query.port = value.u16()?,
                b"SourceNode" => query.source_node = value.str()?,
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(query)
    }

    pub fn wants_ack(&self) -> bool {
        self.flags & FLAG_ACK != 0
    }

    pub fn is_passed_on(&self) -> bool {
        self.flags & FLAG_DO_NOT_PASS_ON == 0
    }

    /// Whether `node` is asked. A filter that is not a list of names is never met: Serf's other kind is a regular
    /// expression over a tag, and to be silent is better than to answer what was asked of others.
    pub fn asks(&self, node: &str) -> bool {
        self.meets_filters(node).unwrap_or(false)
    }

    fn meets_filters(&self, node: &str) -> Result<bool, Error> {
        if self.filters.is_empty() {
            return Ok(true);
        }
        let mut filters = Reader::new(self.filters);
        for _ in 0..filters.array()? {
            let Some((&FILTER_NODES, names)) = filters.bytes()?.split_first() else { return Ok(false) };
            let mut names = Reader::new(names);
            let mut found = false;
            for _ in 0..names.array()? {
                found |= names.str()? == node;
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The bytes of the next value, which is read past.
fn skipped<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let before = reader.rest();
    reader.skip()?;
    Ok(before.get(..before.len() - reader.rest().len()).unwrap_or_default())
}

/// 5: an answer to a query, or (`ack`) the word that it was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueryResponse<'a> {
    pub ltime: u64,
    pub id: u32,
    /// Who answers.
    pub from: &'a str,
    pub ack: bool,
    pub payload: &'a [u8],
}

impl QueryResponse<'_> {
    /// Appends the payload of a user message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(QUERY_RESPONSE);
        msgpack::write_map(out, 5);
        field_uint(out, "Flags", if self.ack { FLAG_ACK } else { 0 });
        field_str(out, "From", self.from);
        field_uint(out, "ID", self.id);
        field_uint(out, "LTime", self.ltime);
        field_bytes(out, "Payload", self.payload);
    }
}

/// The key in the payload of a query about keys.
pub fn requested_key(payload: &[u8]) -> Result<&[u8], Error> {
    let Some((&KEY_REQUEST, body)) = payload.split_first() else { return Err(Error::Malformed) };
    let mut requested: &[u8] = &[];
    Reader::new(body).fields(&mut |key, value| {
        let known = key == b"Key";
        if known {
            requested = value.bytes()?;
        }
        Ok(known)
    })?;
    Ok(requested)
}

/// The payload of an answer to a query about keys. `keys`: the whole ring, the primary one first; none where they
/// were not asked for.
pub fn key_response(result: bool, message: &str, keys: &[Key]) -> Vec<u8> {
    let text = |key: &Key| base64::encode(key.bytes());
    let mut out = vec![KEY_RESPONSE];
    msgpack::write_map(&mut out, 4);
    msgpack::write_str(&mut out, "Keys");
    msgpack::write_array(&mut out, keys.len());
    keys.iter().for_each(|key| msgpack::write_str(&mut out, &text(key)));
    field_str(&mut out, "Message", message);
    field_str(&mut out, "PrimaryKey", &keys.first().map(text).unwrap_or_default());
    msgpack::write_str(&mut out, "Result");
    msgpack::write_bool(&mut out, result);
    out
}
