//! Single messages: `messages*.json` and the decoder's tolerance, `msgpack_decode.json`.

use picored::limits::{STREAM_MAX, STREAM_NODES_MAX};
use picored::wire::msgpack::Reader;
use picored::wire::stream::{self, PushPullHead, Received, StreamMessage};
use picored::wire::{Error, Message};
use serde_json::{Value, json};

use crate::support::*;

/// Encodings that differ from Go's on purpose: bytes that are empty but not nil there. We do not tell the
/// two apart and write nil; to every reader they mean the same.
const EMPTY_NOT_NIL: &[&str] = &["ack_empty_payload", "alive_memberlist_empty_meta"];

#[test]
fn every_message_is_written_as_the_library_writes_it_and_read_back() {
    for case in cases("messages") {
        let bytes = bytes_of(&case["hex"]);
        match text(&case["message"]) {
            "pushPullHeader" | "userMsgHeader" => header(&case, &bytes, true),
            "pushNodeState" => push_node_state(&case, &bytes),
            "errResp" => err_resp(&case, &bytes),
            // Its three bytes are no LZW: only that the map is read is seen here (`compress.json` has the rest).
            "compress" => assert_eq!(open(&plain(), &bytes).result, Err(Error::Malformed)),
            kind => packet_message(kind, &case, &bytes),
        }
    }
}

#[test]
fn signed_numbers_of_the_newest_library_are_read() {
    cases("messages_new_signed_ints").iter().for_each(|case| header(case, &bytes_of(&case["hex"]), false));
}

fn packet_message(kind: &str, case: &Value, bytes: &[u8]) {
    let expected = message(kind, &case["fields"]);
    let (found, actual) = fields(&Message::decode(bytes).unwrap());
    assert_eq!(found, kind);
    assert_fields(&actual, &case["fields"], &case["name"]);
    let ours = encoded(&expected);
    if EMPTY_NOT_NIL.contains(&text(&case["name"])) {
        assert_ne!(ours, bytes);
        assert_eq!(Message::decode(&ours), Ok(expected));
    } else {
        assert_eq!(hex(&ours), text(&case["hex"]), "{}", case["name"]);
    }
}

/// The two headers. Counts above our limits are refused when read.
fn header(case: &Value, bytes: &[u8], write: bool) {
    let count = |key: &str| case["fields"][key].as_u64().map(|n| n as usize);
    if let Some(len) = count("UserMsgLen") {
        let payload = vec![7; len];
        let mut ours = Vec::new();
        stream::encode_user(&payload, &mut ours);
        if write {
            assert_eq!(hex(&ours[1..ours.len() - len]), hex(bytes), "{}", case["name"]);
        }
        let received = Received { bytes: [&[8], bytes, &payload].concat() };
        let expected = if len > STREAM_MAX { Err(Error::TooLong) } else { Ok(StreamMessage::User(&payload)) };
        assert_eq!(received.message(), expected, "{}", case["name"]);
        return;
    }
    let expected = PushPullHead {
        join: case["fields"]["Join"].as_bool().unwrap(),
        nodes: count("Nodes").unwrap(),
        user_state_len: count("UserStateLen").unwrap(),
    };
    let fits = expected.nodes <= STREAM_NODES_MAX && expected.user_state_len <= STREAM_MAX;
    let expected_read = if fits { Ok(expected) } else { Err(Error::TooLong) };
    assert_eq!(PushPullHead::read(&mut Reader::new(bytes)), expected_read, "{}", case["name"]);
    if write {
        let mut ours = Vec::new();
        expected.write(&mut ours);
        assert_eq!(hex(&ours), hex(bytes), "{}", case["name"]);
    }
}

fn push_node_state(case: &Value, bytes: &[u8]) {
    let mut ours = Vec::new();
    stream::encode_push_pull(true, [node_state(&case["fields"])].into_iter(), b"", &mut ours);
    let (head, node) = ours.split_at(ours.len() - bytes.len());
    assert_eq!(hex(node), text(&case["hex"]), "{}", case["name"]);
    assert_fields(&read_node(head, bytes).unwrap(), &case["fields"], &case["name"]);
}

/// Reads one node state after `head`, the beginning of a push/pull with one node.
fn read_node(head: &[u8], bytes: &[u8]) -> Result<Value, Error> {
    let received = Received { bytes: [head, bytes].concat() };
    match received.message()? {
        StreamMessage::PushPull(push_pull) => Ok(node_fields(&push_pull.nodes[0])),
        other => panic!("{other:?}"),
    }
}

fn err_resp(case: &Value, bytes: &[u8]) {
    let expected = text(&case["fields"]["Error"]);
    let mut ours = Vec::new();
    stream::encode_error(expected, &mut ours);
    assert_eq!(ours, bytes);
    assert_eq!(Received { bytes: ours }.message(), Ok(StreamMessage::Error(expected)));
}

/// Where we differ from both libraries, or have to choose between them, on purpose.
const DIFFERENCES: &[(&str, Result<(), Error>, &str)] = &[
    ("bytes_field_as_array_of_ints", Err(Error::Malformed), "cannot be borrowed; no peer sends it"),
    ("struct_as_array", Err(Error::Malformed), "the protocol page allows refusing it; no peer sends it"),
    ("struct_as_array_with_extra", Err(Error::Malformed), "as struct_as_array"),
    ("struct_as_nil", Err(Error::Malformed), "the protocol page allows refusing it; it would say nothing"),
    ("string_invalid_utf8", Err(Error::Malformed), "names go to terminals, JSON and environments"),
    ("int_field_as_neg1", Err(Error::Malformed), "negative counts crash old peers; they mean nothing"),
    ("int_field_as_int64_min", Err(Error::Malformed), "as int_field_as_neg1"),
    ("int_field_as_uint64_max", Err(Error::Malformed), "wraps to -1 in Go: an error by the protocol page"),
    ("algo_1", Err(Error::Unsupported(1)), "the map is read; the algorithm is unknown to the libraries too"),
    ("buf_bin8", Err(Error::Truncated), "the map is read; its three bytes are LZW without an end"),
];

#[test]
fn the_decoder_is_as_tolerant_as_the_libraries() {
    let cases = cases("msgpack_decode");
    assert_eq!(cases.len(), 90);
    let mut differences = Vec::new();
    for case in &cases {
        let name = text(&case["name"]);
        let actual = decode_as(text(&case["target"]), &bytes_of(&case["hex"]));
        if let Some((name, expected, _)) = DIFFERENCES.iter().find(|(other, ..)| *other == name) {
            differences.push(*name);
            assert_eq!(actual.map(drop), *expected, "{name}");
            continue;
        }
        // Where the two differ (bin for strings and keys) the newest is the more tolerant one: as it does.
        let theirs = &case["go_msgpack_v2.1.5"];
        if theirs["ok"].as_bool().unwrap() {
            let mut expected = theirs["fields"].clone();
            // A state that means nothing to anybody is one state here.
            if !matches!(expected["State"].as_i64(), None | Some(0..=3)) {
                expected["State"] = json!("unknown");
            }
            assert_fields(&actual.expect(name), &expected, &case["name"]);
        } else {
            assert!(matches!(actual, Err(Error::Malformed | Error::Truncated)), "{name}: {actual:?}");
        }
    }
    assert_eq!(differences.len(), DIFFERENCES.len(), "a difference without a case");
}

fn decode_as(target: &str, body: &[u8]) -> Result<Value, Error> {
    let kind = match target {
        "ping" => 0,
        "indirectPing" => 1,
        "ackResp" => 2,
        "suspect" => 3,
        "alive" => 4,
        "pushPullHeader" => {
            let head = PushPullHead::read(&mut Reader::new(body))?;
            return Ok(
                json!({ "Join": head.join, "Nodes": head.nodes, "UserStateLen": head.user_state_len }),
            );
        }
        "pushNodeState" => return read_node(b"\x06\x81\xA5Nodes\x01", body),
        "compress" => return open(&plain(), &[&[9], body].concat()).result.map(|()| Value::Null),
        other => panic!("{other}"),
    };
    let bytes = [&[kind], body].concat();
    Message::decode(&bytes).map(|message| fields(&message).1)
}
