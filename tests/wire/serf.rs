//! The Serf layer's vectors.

use std::collections::BTreeMap;

use picored::wire::msgpack;
use picored::wire::serf::query::{QueryResponse, Record, Status, UserEvent, key_response, requested_key};
use picored::wire::serf::{self, SerfMessage, UserState};
use picored::wire::{Ack, Message};
use serde_json::Value;

use crate::support::*;

fn expected_tags(value: &Value) -> BTreeMap<&str, &str> {
    let tags = value.as_object().map(|tags| tags.iter().map(|(key, value)| (key.as_str(), text(value))));
    tags.map(Iterator::collect).unwrap_or_default()
}

#[test]
fn tags_are_read_and_written_as_serf_does() {
    for case in cases("serf_tags") {
        let meta = bytes_of(&case["hex"]);
        let tags: Vec<(&str, &str)> = serf::tags(&meta).collect();
        let expected = expected_tags(&case["decodes_to"]);
        assert_eq!(tags.iter().copied().collect::<BTreeMap<_, _>>(), expected, "{}", case["name"]);
        expected.iter().for_each(|(key, value)| assert_eq!(serf::tag(&meta, key), Some(*value)));
        // Below protocol 3 there is only the role, bare.
        if case["protocol"] == 5 {
            assert_eq!(serf::encode_tags(tags.into_iter()), meta, "{}", case["name"]);
        }
        if let Some(newest) = case["newest"]["hex"].as_str() {
            assert_eq!(serf::tags(&unhex(newest)).count(), 0);
        }
    }
}

#[test]
fn odd_metadata_is_read_as_the_newest_serf_reads_it() {
    for case in list(&load("serf_tags"), "decode") {
        // The newest takes bin where the old one gives up.
        let theirs = if case["newest"]["decodes_to"].is_object() { &case["newest"] } else { &case };
        let meta = bytes_of(&case["hex"]);
        let tags: BTreeMap<&str, &str> = serf::tags(&meta).collect();
        assert_eq!(tags, expected_tags(&theirs["decodes_to"]), "{}", case["name"]);
    }
}

#[test]
fn a_relayed_message_and_the_record_of_a_member_are_serfs() {
    let cases = cases("serf_messages");
    let named = |name: &str| cases.iter().find(|case| case["name"] == name).expect("it is there");
    let case = named("relay");
    for source in [case, &case["newest"]] {
        let payload = bytes_of(&source["hex"]);
        let Ok(SerfMessage::Relay(relay)) = SerfMessage::decode(&payload) else { panic!("{source}") };
        assert_eq!((relay.addr, relay.port), (&[127, 0, 0, 1][..], 7946));
        // 5, and from there to the end.
        assert!(payload.ends_with(relay.message) && relay.message.first() == Some(&5));
        let inner = SerfMessage::decode(relay.message);
        assert_eq!(inner, Ok(SerfMessage::Other(5)));
    }
    let case = named("conflict_response");
    let (fields, version) = (&case["fields"], |name: &str| case["fields"][name].as_u64().unwrap() as u8);
    let tags = expected_tags(&fields["Tags"]);
    let meta = serf::encode_tags(tags.into_iter());
    let names = ["ProtocolMin", "ProtocolMax", "ProtocolCur", "DelegateMin", "DelegateMax", "DelegateCur"];
    assert_eq!(fields["Status"], 1);
    let record = Record {
        name: text(&fields["Name"]),
        addr: &unhex(text(&fields["Addr"]["$hex"])),
        port: 7946,
        meta: &meta,
        status: Status::Alive,
        vsn: names.map(version),
    };
    assert_eq!(hex(&record.conflict_response()), text(&case["hex"]));
}

#[test]
fn serf_messages_are_told_apart_and_intents_are_the_same_both_ways() {
    for case in cases("serf_messages") {
        let payload = bytes_of(&case["hex"]);
        let (fields, kind) = (&case["fields"], case["type_byte"].as_u64().unwrap() as u8);
        let ltime = fields["LTime"].as_u64().unwrap_or_default();
        let node = fields["Node"].as_str().unwrap_or_default();
        let expected = match text(&case["message"]) {
            "leave" => SerfMessage::Leave { ltime, node, prune: fields["Prune"].as_bool().unwrap() },
            "join" => SerfMessage::Join { ltime, node },
            // What is in these is looked at below.
            "userEvent" | "query" | "relay" => continue,
            _ => SerfMessage::Other(kind),
        };
        assert_eq!(SerfMessage::decode(&payload), Ok(expected), "{}", case["name"]);
        let mut ours = Vec::new();
        expected.encode(&mut ours);
        let written = if matches!(expected, SerfMessage::Other(_)) { &[][..] } else { &payload };
        assert_eq!(ours, written, "{}", case["name"]);
        if let Some(whole) = case["as_memberlist_user_message"].as_str() {
            assert_eq!(Message::decode(&unhex(whole)), Ok(Message::User(&payload)));
            assert_eq!(hex(&encoded(&Message::User(&payload))), whole);
        }
        if let Some(newest) = case["newest"]["hex"].as_str() {
            assert_eq!(SerfMessage::decode(&unhex(newest)), Ok(expected));
        }
    }
}

/// Go's bytes in a vector; nil is none.
fn dollar_hex(value: &Value) -> Vec<u8> {
    value["$hex"].as_str().map(unhex).unwrap_or_default()
}

#[test]
fn events_and_queries_are_read_with_all_that_concerns_us() {
    let mut seen = 0;
    for case in cases("serf_messages") {
        let fields = &case["fields"];
        let newest = case["newest"]["hex"].as_str().map(unhex);
        for payload in [Some(bytes_of(&case["hex"])), newest].into_iter().flatten() {
            match (text(&case["message"]), SerfMessage::decode(&payload).unwrap()) {
                ("userEvent", SerfMessage::UserEvent(event)) => {
                    let expected = UserEvent {
                        ltime: fields["LTime"].as_u64().unwrap(),
                        name: text(&fields["Name"]),
                        payload: &dollar_hex(&fields["Payload"]),
                        coalesce: fields["CC"].as_bool().unwrap(),
                    };
                    assert_eq!(event, expected);
                }
                ("query", SerfMessage::Query(query)) => {
                    let flags = fields["Flags"].as_u64().unwrap();
                    assert_eq!(u64::from(query.id), fields["ID"].as_u64().unwrap());
                    assert_eq!(query.ltime, fields["LTime"].as_u64().unwrap());
                    assert_eq!(query.addr, dollar_hex(&fields["Addr"]));
                    assert_eq!(u64::from(query.port), fields["Port"].as_u64().unwrap());
                    assert_eq!(query.source_node, text(&fields["SourceNode"]));
                    assert_eq!(
                        (query.name, query.payload),
                        (text(&fields["Name"]), &*dollar_hex(&fields["Payload"]))
                    );
                    assert_eq!((query.wants_ack(), query.is_passed_on()), (flags & 1 != 0, flags & 2 == 0));
                    // One has no filter, the other a list of names and a regular expression.
                    assert_eq!(query.asks("node-a"), fields["Filters"].is_null());
                }
                ("userEvent" | "query", other) => panic!("{other:?}"),
                _ => continue,
            }
            seen += 1;
        }
    }
    assert!(seen >= 4);
}

/// A query whose filters are `filters`, each as bytes.
fn filtered(filters: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![4, 0x81];
    msgpack::write_str(&mut payload, "Filters");
    msgpack::write_array(&mut payload, filters.len());
    filters.iter().for_each(|filter| msgpack::write_bytes(&mut payload, filter));
    payload
}

#[test]
fn a_query_asks_those_whom_all_its_filters_name() {
    let names = |names: &[&str]| {
        let mut filter = vec![0];
        msgpack::write_array(&mut filter, names.len());
        names.iter().for_each(|name| msgpack::write_str(&mut filter, name));
        filter
    };
    let asks = |filters: &[&[u8]]| match SerfMessage::decode(&filtered(filters)) {
        Ok(SerfMessage::Query(query)) => query.asks("a"),
        other => panic!("{other:?}"),
    };
    assert!(asks(&[]));
    assert!(asks(&[&names(&["a", "b"])]));
    assert!(asks(&[&names(&["b", "a"]), &names(&["a"])]));
    assert!(!asks(&[&names(&["a"]), &names(&["b"])]));
    assert!(!asks(&[&names(&[])]));
    let tag = b"\x01\x82\xa4Expr\xa2.*\xa3Tag\xa4role";
    assert!(!asks(&[tag]));
    assert!(!asks(&[&names(&["a"]), tag]));
    for broken in [&b""[..], b"\x00", b"\x00\xa1a", b"\x02\x90"] {
        assert!(!asks(&[broken]), "{broken:?}");
    }
}

#[test]
fn answers_to_queries_are_written_as_serf_does() {
    for case in cases("serf_messages").into_iter().filter(|case| case["message"] == "queryResponse") {
        let fields = &case["fields"];
        let response = QueryResponse {
            ltime: fields["LTime"].as_u64().unwrap(),
            id: fields["ID"].as_u64().unwrap() as u32,
            from: text(&fields["From"]),
            ack: fields["Flags"] == 1,
            payload: &dollar_hex(&fields["Payload"]),
        };
        let mut ours = Vec::new();
        response.encode(&mut ours);
        assert_eq!(ours, bytes_of(&case["hex"]), "{}", case["name"]);
    }
}

#[test]
fn queries_about_keys_name_one_and_answers_list_them() {
    assert_eq!(requested_key(b"\x07\x81\xa3Key\xa3abc"), Ok(&b"abc"[..]));
    assert_eq!(requested_key(b"\x07\x81\xa3Key\xc0"), Ok(&b""[..]));
    assert!(requested_key(b"\x08\x81\xa3Key\xa3abc").is_err());
    assert!(requested_key(b"").is_err());
    let keys = ring(&[&[0; 16], &[1; 16]]);
    let expected =
        b"\x08\x84\xa4Keys\x92\xb8AAAAAAAAAAAAAAAAAAAAAA==\xb8AQEBAQEBAQEBAQEBAQEBAQ==\xa7Message\xa4only\
        \xaaPrimaryKey\xb8AAAAAAAAAAAAAAAAAAAAAA==\xa6Result\xc3";
    assert_eq!(key_response(true, "only", &keys.keys), expected);
    assert_eq!(
        key_response(false, "", &[]),
        b"\x08\x84\xa4Keys\x90\xa7Message\xa0\xaaPrimaryKey\xa0\xa6Result\xc2"
    );
}

#[test]
fn user_state_is_read_past_its_events_and_written_without_them() {
    let mut identical = 0;
    for case in cases("serf_push_pull") {
        let (bytes, fields) = (bytes_of(&case["hex"]), &case["fields"]);
        let names = fields["LeftMembers"].as_array().cloned().unwrap_or_default();
        let ltimes = fields["StatusLTimes"].as_object().cloned().unwrap_or_default();
        let expected = UserState {
            ltime: fields["LTime"].as_u64().unwrap(),
            event_ltime: fields["EventLTime"].as_u64().unwrap(),
            query_ltime: fields["QueryLTime"].as_u64().unwrap(),
            left_members: names.iter().map(text).collect(),
            status_ltimes: ltimes
                .iter()
                .map(|(name, ltime)| (name.as_str(), ltime.as_u64().unwrap()))
                .collect(),
        };
        assert_eq!(UserState::decode(&bytes).as_ref(), Ok(&expected), "{}", case["name"]);
        let mut ours = Vec::new();
        expected.encode(&mut ours);
        assert_eq!(UserState::decode(&ours), Ok(expected), "{}", case["name"]);
        if fields["Events"].as_array().is_some_and(Vec::is_empty) {
            assert_eq!(ours, bytes, "{}", case["name"]);
            identical += 1;
        }
    }
    assert!(identical > 0);
}

#[test]
fn an_agents_coordinate_is_just_a_payload() {
    for case in cases("serf_ack_payload") {
        let payload = bytes_of(&case["hex"]);
        let ack = Message::Ack(Ack { seq: 1, payload: &payload });
        assert_eq!(Message::decode(&encoded(&ack)), Ok(ack));
    }
}
