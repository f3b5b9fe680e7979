//! Events of the operator's, queries, and the answers to those that are about keys or a name (protocol page, 8.2).

use super::{Error, field_str, field_uint, tags};
use crate::wire::base64;
use crate::wire::crypt::Key;
use crate::wire::msgpack::{self, Reader};
use crate::wire::{Vsn, field_bytes};

// Serf's own type bytes.
const QUERY_RESPONSE: u8 = 5;
const CONFLICT_RESPONSE: u8 = 6;
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

/// 9: a message that is to be sent on: an answer that goes a second way, against loss.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relay<'a> {
    /// Where to: 4 or 16 bytes, and a port.
    pub addr: &'a [u8],
    pub port: u16,
    /// The payload of a user message, as it is to arrive.
    pub message: &'a [u8],
}

impl<'a> Relay<'a> {
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Error> {
        let mut relay = Self::default();
        let mut reader = Reader::new(body);
        reader.fields(&mut |key, value| {
            if key != b"DestAddr" {
                return Ok(false);
            }
            value.fields(&mut |key, value| {
                match key {
                    b"IP" => relay.addr = value.bytes()?,
                    b"Port" => relay.port = value.u16()?,
                    _ => return Ok(false),
                }
                Ok(true)
            })?;
            Ok(true)
        })?;
        relay.message = reader.rest();
        Ok(relay)
    }
}

/// How Serf calls the state of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Alive = 1,
    Left = 3,
    Failed = 4,
}

/// A member as it is held here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub name: &'a str,
    /// 4 or 16 bytes.
    pub addr: &'a [u8],
    pub port: u16,
    pub meta: &'a [u8],
    pub status: Status,
    pub vsn: Vsn,
}

impl Record<'_> {
    /// The payload of the answer to the question who has its name.
    pub fn conflict_response(&self) -> Vec<u8> {
        let [protocol_min, protocol_max, protocol, delegate_min, delegate_max, delegate] = self.vsn;
        let mut out = vec![CONFLICT_RESPONSE];
        msgpack::write_map(&mut out, 11);
        field_bytes(&mut out, "Addr", self.addr);
        field_uint(&mut out, "DelegateCur", delegate);
        field_uint(&mut out, "DelegateMax", delegate_max);
        field_uint(&mut out, "DelegateMin", delegate_min);
        field_str(&mut out, "Name", self.name);
        field_uint(&mut out, "Port", self.port);
        field_uint(&mut out, "ProtocolCur", protocol);
        field_uint(&mut out, "ProtocolMax", protocol_max);
        field_uint(&mut out, "ProtocolMin", protocol_min);
        field_uint(&mut out, "Status", self.status as u8);
        msgpack::write_str(&mut out, "Tags");
        msgpack::write_map(&mut out, tags(self.meta).count());
        tags(self.meta).for_each(|(name, value)| field_str(&mut out, name, value));
        out
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

#[cfg(test)]
mod tests {
    use super::super::{SerfMessage, encode_tags};
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hex")).collect()
    }

    /// Method: what Serf 0.9.4's own structure comes to with go-msgpack 0.5.5.
    #[test]
    fn a_record_is_what_serf_makes_of_it() {
        let meta = encode_tags([("role", "web")].into_iter());
        let vsn = [1, 5, 2, 2, 5, 4];
        let alpha = Record {
            name: "alpha",
            addr: &[192, 0, 2, 1],
            port: 7946,
            meta: &meta,
            status: Status::Alive,
            vsn,
        };
        let expected = "068ba441646472a4c0000201ab44656c656761746543757204ab44656c65676174654d617805ab44656c656761\
            74654d696e02a44e616d65a5616c706861a4506f7274cd1f0aab50726f746f636f6c43757202ab50726f746f636f6c4d6178\
            05ab50726f746f636f6c4d696e01a653746174757301a45461677381a4726f6c65a3776562";
        assert_eq!(alpha.conflict_response(), bytes(expected));
        let addr = [0x20, 1, 0x0D, 0xB8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let beta = Record { name: "beta", addr: &addr, meta: &[0xFF, 0x80], status: Status::Failed, ..alpha };
        let expected = "068ba441646472b020010db8000000000000000000000001ab44656c656761746543757204ab44656c65676174\
            654d617805ab44656c65676174654d696e02a44e616d65a462657461a4506f7274cd1f0aab50726f746f636f6c43757202ab\
            50726f746f636f6c4d617805ab50726f746f636f6c4d696e01a653746174757304a45461677380";
        assert_eq!(beta.conflict_response(), bytes(expected));
    }

    #[test]
    fn a_relayed_message_comes_out_as_it_went_in() {
        let head = "0982a8446573744164647283a24950a47f000009a4506f7274cd1f0aa45a6f6e65a0a8446573744e616d65a56167656e74";
        let mut payload = bytes(head);
        payload.extend_from_slice(&[5, 0x80]);
        let relay = Relay { addr: &[127, 0, 0, 9], port: 7946, message: &[5, 0x80] };
        assert_eq!(SerfMessage::decode(&payload), Ok(SerfMessage::Relay(relay)));
        assert_eq!(SerfMessage::decode(&payload[..20]), Err(Error::Truncated));
    }
}
