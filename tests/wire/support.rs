//! Vectors as JSON, and messages to and from their fields.

use std::path::PathBuf;

use picored::wire::packet::{self, Envelope};
use picored::wire::stream::{NodeState, WireState};
use picored::wire::{
    Ack, Alive, Claim, Error, IndirectPing, Message, Ping, Source,
    crypt::{Key, KeyRing},
};
use serde_json::{Value, json};

pub fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

pub fn load(name: &str) -> Value {
    let text = std::fs::read_to_string(directory().join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The list `key` of a file, which must not be empty.
pub fn list(file: &Value, key: &str) -> Vec<Value> {
    let list = file[key].as_array().unwrap().clone();
    assert!(!list.is_empty());
    list
}

pub fn cases(name: &str) -> Vec<Value> {
    list(&load(name), "cases")
}

pub fn captures(prefix: &str) -> Vec<(&'static str, Value)> {
    let names = crate::READ_HERE.iter().filter(|name| name.starts_with(prefix));
    let files: Vec<_> = names.map(|name| (*name, load(name))).collect();
    assert_eq!(files.len(), 11);
    files
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn bytes_of(value: &Value) -> Vec<u8> {
    unhex(text(value))
}

pub fn nonce(bytes: &[u8]) -> [u8; 12] {
    bytes.try_into().unwrap()
}

pub fn ring(keys: &[&[u8]]) -> KeyRing {
    KeyRing { keys: keys.iter().map(|key| Key::new(key).unwrap()).collect() }
}

pub fn plain() -> Envelope {
    Envelope { compress_from: usize::MAX, ..Envelope::default() }
}

/// The envelope of a capture file.
pub fn envelope(file: &Value) -> Envelope {
    let keys = file["key"].as_str().map(|key| ring(&[&unhex(key)])).unwrap_or_default();
    Envelope { label: text(&file["label"]).as_bytes().into(), keys, ..plain() }
}

/// Everything that comes out of a datagram, as fields; and what was inflated on the way.
pub struct Opened {
    pub result: Result<(), Error>,
    pub parts: Vec<Result<(&'static str, Value), Error>>,
    pub inflated: Vec<u8>,
}

pub fn open(envelope: &Envelope, datagram: &[u8]) -> Opened {
    let (mut parts, mut inflated) = (Vec::new(), Vec::new());
    let result = packet::open(envelope, &mut datagram.to_vec(), &mut inflated, &mut |message| {
        parts.push(message.map(|message| fields(&message)));
    });
    Opened { result, parts, inflated }
}

/// A message as the vectors show it. Bytes that are nil there are empty here ([`normal`]).
pub fn fields(message: &Message<'_>) -> (&'static str, Value) {
    let bytes = |bytes: &[u8]| json!({ "$hex": hex(bytes) });
    match message {
        Message::Ping(ping) => (
            "ping",
            json!({
                "Node": ping.node, "SeqNo": ping.seq, "SourceAddr": bytes(ping.source.addr),
                "SourceNode": ping.source.node, "SourcePort": ping.source.port,
            }),
        ),
        Message::IndirectPing(ping) => (
            "indirectPing",
            json!({
                "Nack": ping.nack, "Node": ping.node, "Port": ping.port, "SeqNo": ping.seq,
                "SourceAddr": bytes(ping.source.addr), "SourceNode": ping.source.node,
                "SourcePort": ping.source.port, "Target": bytes(ping.target),
            }),
        ),
        Message::Ack(ack) => ("ackResp", json!({ "Payload": bytes(ack.payload), "SeqNo": ack.seq })),
        Message::Nack { seq } => ("nackResp", json!({ "SeqNo": seq })),
        Message::Suspect(claim) => ("suspect", claim_fields(claim)),
        Message::Dead(claim) => ("dead", claim_fields(claim)),
        Message::Alive(alive) => (
            "alive",
            json!({
                "Addr": bytes(alive.addr), "Incarnation": alive.incarnation, "Meta": bytes(alive.meta),
                "Node": alive.node, "Port": alive.port, "Vsn": bytes(alive.vsn),
            }),
        ),
        Message::User(payload) => ("user", bytes(payload)),
    }
}

fn claim_fields(claim: &Claim<'_>) -> Value {
    json!({ "From": claim.from, "Incarnation": claim.incarnation, "Node": claim.node })
}

pub fn node_fields(node: &NodeState<'_>) -> Value {
    let bytes = |bytes: &[u8]| json!({ "$hex": hex(bytes) });
    let state = [WireState::Alive, WireState::Suspect, WireState::Dead, WireState::Left]
        .iter()
        .position(|&state| state == node.state);
    json!({
        "Addr": bytes(node.addr), "Incarnation": node.incarnation, "Meta": bytes(node.meta), "Name": node.name,
        "Port": node.port, "State": state.map_or(json!("unknown"), |state| json!(state)), "Vsn": bytes(node.vsn),
    })
}

/// Nil and empty bytes mean the same (`tests/vectors/README.md`); `like` tells which nulls are bytes.
pub fn normal(expected: &Value, like: &Value) -> Value {
    let mut expected = expected.clone();
    for (key, value) in expected.as_object_mut().unwrap() {
        if value.is_null() && like[key].is_object() {
            *value = json!({ "$hex": "" });
        }
    }
    expected
}

pub fn assert_fields(actual: &Value, expected: &Value, name: &Value) {
    assert_eq!(actual, &normal(expected, actual), "{name}");
}

/// Fields that live as long as the test: messages borrow.
fn field_bytes(value: &Value) -> &'static [u8] {
    match value {
        Value::Null => &[],
        value => bytes_of(&value["$hex"]).leak(),
    }
}

fn field_str(value: &Value) -> &'static str {
    text(value).to_owned().leak()
}

fn field_u32(value: &Value) -> u32 {
    value.as_u64().unwrap().try_into().unwrap()
}

fn field_u16(value: &Value) -> u16 {
    value.as_u64().unwrap().try_into().unwrap()
}

/// The other way round: the message that has these fields.
pub fn message(kind: &str, fields: &Value) -> Message<'static> {
    let source = || Source {
        addr: field_bytes(&fields["SourceAddr"]),
        port: field_u16(&fields["SourcePort"]),
        node: field_str(&fields["SourceNode"]),
    };
    let node = || field_str(&fields["Node"]);
    let seq = || field_u32(&fields["SeqNo"]);
    let claim = || Claim {
        node: node(),
        from: field_str(&fields["From"]),
        incarnation: field_u32(&fields["Incarnation"]),
    };
    match kind {
        "ping" => Message::Ping(Ping { node: node(), seq: seq(), source: source() }),
        "indirectPing" => Message::IndirectPing(IndirectPing {
            node: node(),
            seq: seq(),
            target: field_bytes(&fields["Target"]),
            port: field_u16(&fields["Port"]),
            nack: fields["Nack"].as_bool().unwrap(),
            source: source(),
        }),
        "ackResp" => Message::Ack(Ack { seq: seq(), payload: field_bytes(&fields["Payload"]) }),
        "nackResp" => Message::Nack { seq: seq() },
        "suspect" => Message::Suspect(claim()),
        "dead" => Message::Dead(claim()),
        "alive" => Message::Alive(Alive {
            node: node(),
            addr: field_bytes(&fields["Addr"]),
            port: field_u16(&fields["Port"]),
            incarnation: field_u32(&fields["Incarnation"]),
            meta: field_bytes(&fields["Meta"]),
            vsn: field_bytes(&fields["Vsn"]),
        }),
        _ => panic!("no packet message: {kind}"),
    }
}

pub fn node_state(fields: &Value) -> NodeState<'static> {
    let states = [WireState::Alive, WireState::Suspect, WireState::Dead, WireState::Left];
    NodeState {
        name: field_str(&fields["Name"]),
        addr: field_bytes(&fields["Addr"]),
        port: field_u16(&fields["Port"]),
        incarnation: field_u32(&fields["Incarnation"]),
        meta: field_bytes(&fields["Meta"]),
        state: states[field_u32(&fields["State"]) as usize],
        vsn: field_bytes(&fields["Vsn"]),
    }
}

pub fn encoded(message: &Message<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}
