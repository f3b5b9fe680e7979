//! Captured TCP exchanges, and what real nodes reply to odd ones.

use picored::wire::packet::Envelope;
use picored::wire::serf::UserState;
use picored::wire::stream::{self, Reader, Received, StreamError, StreamMessage};
use picored::wire::{Ack, Error, Message};
use serde_json::Value;

use crate::support::*;

/// Feeds `data` in pieces of `size`; what came out first.
pub fn feed(
    envelope: &Envelope,
    accepted: bool,
    data: &[u8],
    size: usize,
) -> Result<Option<Received>, StreamError> {
    let mut reader = Reader::new(accepted);
    for piece in data.chunks(size.max(1)) {
        if let Some(received) = reader.feed(envelope, piece)? {
            return Ok(Some(received));
        }
    }
    Ok(None)
}

#[test]
fn captured_streams_are_read_in_any_pieces_and_written_again_byte_for_byte() {
    for (name, file) in captures("capture_streams_") {
        for case in list(&file, "cases") {
            let layers: Vec<&str> = case["layers"].as_array().unwrap().iter().map(text).collect();
            let envelope =
                Envelope { compress_streams: layers.contains(&"compress"), ..self::envelope(&file) };
            let (stream, inner) = (bytes_of(&case["hex"]), bytes_of(&case["inner"]));
            let opener = case["direction"] == "opener";
            for size in [stream.len(), 1, 3, 7, 100] {
                let received = feed(&envelope, opener, &stream, size).unwrap().unwrap();
                assert_eq!(hex(&received.bytes), hex(&inner), "{name}");
                assert_eq!(hex(&rewritten(&received, &case)), hex(&inner), "{name}");
            }
            // One byte less is never complete.
            assert_eq!(feed(&envelope, opener, &stream[..stream.len() - 1], 50), Ok(None));
            if !layers.contains(&"encrypt_v0") {
                let nonce = case["nonce"].as_str().map_or([0; 12], |hex| nonce(&unhex(hex)));
                assert_eq!(hex(&stream::seal(&envelope, opener, nonce, &inner)), hex(&stream), "{name}");
            }
        }
    }
}

/// Compares the message with the fields of the case and encodes it again.
fn rewritten(received: &Received, case: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    let message = received.message().unwrap();
    match &message {
        StreamMessage::PushPull(push_pull) => {
            assert_eq!(case["message"], "pushPull");
            assert_eq!(case["header"]["Join"], push_pull.join);
            assert_eq!(case["header"]["Nodes"], push_pull.nodes.len());
            assert_eq!(case["header"]["UserStateLen"], push_pull.user_state.len());
            for (node, theirs) in push_pull.nodes.iter().zip(case["nodes"].as_array().unwrap()) {
                assert_fields(&node_fields(node), theirs, &case["hex"]);
            }
            match case["user_state"].as_str() {
                Some(state) => assert_eq!(hex(push_pull.user_state), state),
                // Serf's; the sender is in it itself.
                None => {
                    let state = UserState::decode(push_pull.user_state).unwrap();
                    assert!(state.ltime > 0 && state.status_ltimes.len() < 8);
                }
            }
            let nodes = push_pull.nodes.iter().copied();
            stream::encode_push_pull(push_pull.join, nodes, push_pull.user_state, &mut out);
        }
        StreamMessage::User(payload) => {
            assert_eq!(case["message"], "user");
            assert_eq!(hex(payload), text(&case["payload"]));
            stream::encode_user(payload, &mut out);
        }
        StreamMessage::Ping(ping) => {
            assert_fields(&fields(&Message::Ping(*ping)).1, &case["fields"], &case["hex"]);
            Message::Ping(*ping).encode(&mut out);
        }
        StreamMessage::Ack(ack) => {
            assert_fields(&fields(&Message::Ack(*ack)).1, &case["fields"], &case["hex"]);
            Message::Ack(*ack).encode(&mut out);
        }
        StreamMessage::Error(text) => panic!("{text}"),
    }
    out
}

/// What a node named `n` says to `sent`: the message, and how it is wrapped is up to the envelope.
fn reply(envelope: &Envelope, sent: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match feed(envelope, true, sent, sent.len()) {
        Ok(received) => match received.unwrap().message().unwrap() {
            StreamMessage::Ping(ping) if ping.node == "n" => {
                Message::Ack(Ack { seq: ping.seq, payload: &[] }).encode(&mut out)
            }
            StreamMessage::Ping(_) => return None,
            other => panic!("{other:?}"),
        },
        Err(error) => stream::encode_error(error.reply?, &mut out),
    }
    Some(out)
}

#[test]
fn odd_streams_get_the_replies_that_real_nodes_give() {
    for case in cases("streams_ping_error") {
        let args: Vec<&str> = case["args"].as_array().unwrap().iter().map(text).collect();
        let after =
            |flag: &str| args.iter().position(|arg| *arg == flag).map(|i| args[i + 1]).unwrap_or_default();
        let key = unhex(after("-key"));
        let envelope = Envelope {
            label: after("-label").as_bytes().into(),
            keys: if key.is_empty() { Default::default() } else { ring(&[&key]) },
            compress_streams: !args.contains(&"-nocomp"),
            ..plain()
        };
        let (sent, theirs) = (bytes_of(&case["sent"]), bytes_of(&case["reply"]));
        let ours = reply(&envelope, &sent);
        let Some(ours) = ours else {
            assert!(theirs.is_empty(), "{}", case["name"]);
            continue;
        };
        if case["library"] == "new" || ours[0] != 13 {
            let nonce = if key.is_empty() { [0; 12] } else { nonce(&theirs[6..18]) };
            assert_eq!(
                hex(&stream::seal(&envelope, false, nonce, &ours)),
                text(&case["reply"]),
                "{}",
                case["name"]
            );
            continue;
        }
        // The old library begins its texts with a capital.
        let theirs = feed(&envelope, false, &theirs, theirs.len()).unwrap().unwrap();
        let lower = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_lowercase();
        assert_eq!(lower(&ours), lower(&theirs.bytes), "{}", case["name"]);
    }
}

#[test]
fn each_odd_stream_is_counted_by_its_kind() {
    let error = |envelope: &Envelope, sent: &str| {
        let sent = unhex(sent);
        feed(envelope, true, &sent, sent.len()).unwrap_err().error
    };
    let keyed = Envelope { keys: ring(&[&[1; 16]]), ..plain() };
    let labelled = Envelope { label: b"blue".as_slice().into(), ..plain() };
    assert_eq!(error(&plain(), "0a0000002000"), Error::NotAuthentic);
    assert_eq!(error(&keyed, "0081a55365714e6f07"), Error::NotAuthentic);
    assert_eq!(error(&plain(), "0c00000000"), Error::Unsupported(12));
    assert_eq!(error(&labelled, "0081a55365714e6f07"), Error::WrongLabel);
    assert_eq!(error(&labelled, "f4000081a55365714e6f07"), Error::WrongLabel);
    assert_eq!(error(&plain(), "f404626c7565"), Error::WrongLabel);
    assert_eq!(error(&plain(), "0982a4416c676f01a3427566a0"), Error::Unsupported(1));
    assert_eq!(error(&plain(), "0982a4416c676f00a3427566a3000302"), Error::Malformed);
    assert_eq!(error(&keyed, "0a7fffffff"), Error::TooLong);
}
