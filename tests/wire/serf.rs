//! The Serf layer's vectors.

use std::collections::BTreeMap;

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
fn serf_messages_are_told_apart_and_intents_are_the_same_both_ways() {
    for case in cases("serf_messages") {
        let payload = bytes_of(&case["hex"]);
        let (fields, kind) = (&case["fields"], case["type_byte"].as_u64().unwrap() as u8);
        let ltime = fields["LTime"].as_u64().unwrap_or_default();
        let node = fields["Node"].as_str().unwrap_or_default();
        let expected = match text(&case["message"]) {
            "leave" => SerfMessage::Leave { ltime, node, prune: fields["Prune"].as_bool().unwrap() },
            "join" => SerfMessage::Join { ltime, node },
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
