//! The layers of a datagram: compound, CRC, compression, encryption, and whole captured datagrams.

use picored::limits::COMPOUND_PARTS_MAX;
use picored::wire::crypt::KeyRing;
use picored::wire::packet::{Builder, Envelope};
use picored::wire::{Error, Message, stream};
use serde_json::Value;

use crate::support::*;

fn built<'p>(
    envelope: &Envelope,
    nonce: [u8; 12],
    crc: bool,
    parts: impl IntoIterator<Item = &'p [u8]>,
) -> Vec<u8> {
    let (mut builder, mut out) = (Builder::default(), Vec::new());
    parts.into_iter().for_each(|part| builder.push(part));
    builder.finish(envelope, nonce, crc, &mut out);
    out
}

fn parts_of(case: &Value) -> Vec<Vec<u8>> {
    case["parts"].as_array().map(|parts| parts.iter().map(bytes_of).collect()).unwrap_or_default()
}

/// What should come out of parts: each message, or its error.
fn expected(parts: &[Vec<u8>]) -> Vec<Result<(&'static str, Value), Error>> {
    parts.iter().map(|part| Message::decode(part).map(|message| fields(&message))).collect()
}

#[test]
fn compounds_are_built_and_taken_apart_as_the_library_does() {
    for case in cases("compound") {
        let (parts, bytes) = (parts_of(&case), bytes_of(&case["hex"]));
        let opened = open(&plain(), &bytes);
        assert_eq!((opened.result, opened.parts), (Ok(()), expected(&parts)), "{}", case["name"]);
        let ours = built(&plain(), [0; 12], false, parts.iter().map(Vec::as_slice));
        match parts.len() {
            // Alone it goes bare, as in memberlist's own sending (protocol page, 1.5).
            1 => assert_eq!(ours, parts[0]),
            2..=COMPOUND_PARTS_MAX => assert_eq!(ours, bytes),
            // Old peers misparse 128 and more: never sent.
            _ => assert_eq!(usize::from(ours[1]), COMPOUND_PARTS_MAX),
        }
    }
}

#[test]
fn odd_compounds_are_read_as_the_newest_library_reads_them() {
    for case in list(&load("compound"), "decode") {
        let theirs = if case["newest"].is_object() { &case["newest"] } else { &case };
        let bytes = [vec![7], bytes_of(&case["hex_after_type_byte"])].concat();
        let opened = open(&plain(), &bytes);
        if theirs["error"].is_string() {
            assert_eq!((opened.result, opened.parts.len()), (Err(Error::Truncated), 0), "{}", case["name"]);
            continue;
        }
        let mut expected = expected(&parts_of(theirs));
        // However many parts are cut off, it is one accident.
        if theirs["truncated"].as_u64().unwrap() > 0 {
            expected.push(Err(Error::Truncated));
        }
        assert_eq!((opened.result, opened.parts), (Ok(()), expected), "{}", case["name"]);
    }
}

#[test]
fn compounds_of_up_to_255_parts_are_read() {
    for case in list(&load("compound"), "many_parts") {
        let count = case["parts"].as_u64().unwrap() as usize;
        assert!(case["newest_parses_correctly"].as_bool().unwrap());
        assert_eq!(case["old_parses_correctly"].as_bool().unwrap(), count <= COMPOUND_PARTS_MAX);
        let mut bytes = vec![7, count as u8];
        (0..count).for_each(|_| bytes.extend_from_slice(&[0, 2]));
        (0..count).for_each(|i| bytes.extend_from_slice(&[8, i as u8]));
        let payloads: Vec<Vec<u8>> = (0..count).map(|i| vec![8, i as u8]).collect();
        assert_eq!(open(&plain(), &bytes).parts, expected(&payloads));
    }
}

#[test]
fn the_crc_header_is_checked_and_written() {
    for case in cases("crc") {
        let (bytes, payload) = (bytes_of(&case["hex"]), bytes_of(&case["payload"]));
        let (with, without) = (open(&plain(), &bytes), open(&plain(), &payload));
        assert_eq!((with.result, with.parts), (without.result, without.parts), "{}", case["name"]);
        if payload.is_empty() {
            assert_eq!(without.result, Err(Error::Truncated));
        } else {
            assert_eq!(built(&plain(), [0; 12], true, [payload.as_slice()]), bytes);
        }
        let mut damaged = bytes;
        damaged[1] ^= 1;
        assert_eq!(open(&plain(), &damaged).result, Err(Error::Checksum));
    }
}

#[test]
fn compressed_messages_are_inflated_and_deflated_as_the_library_does() {
    let compressing = Envelope { compress_streams: true, compress_from: 0, ..Envelope::default() };
    for case in cases("compress") {
        let (bytes, body) = (bytes_of(&case["hex"]), bytes_of(&case["plain"]));
        let opened = open(&plain(), &bytes);
        assert_eq!(hex(&opened.inflated), text(&case["plain"]), "{}", case["name"]);
        if body.is_empty() {
            assert_eq!(opened.result, Err(Error::Malformed));
            assert!(stream::seal(&compressing, true, [0; 12], &body).is_empty());
            continue;
        }
        assert_eq!(stream::seal(&compressing, true, [0; 12], &body), bytes, "{}", case["name"]);
        let shorter = if bytes.len() < body.len() { &bytes } else { &body };
        assert_eq!(&built(&compressing, [0; 12], false, [body.as_slice()]), shorter);
    }
}

/// The plain texts of `compress_big.json`, by their rules.
fn plain_of(name: &str) -> Vec<u8> {
    let mut x: u64 = 1;
    let mut next = |mask: u64| {
        x = (x * 1_103_515_245 + 12_345) % (1 << 31);
        ((x >> 16) & mask) as u8
    };
    match name {
        "lcg_8000" => (0..8_000).map(|_| next(0xFF)).collect(),
        "lcg_nibble_9000" => (0..9_000).map(|_| next(0x0F)).collect(),
        "zeros_20000" => vec![0; 20_000],
        other => panic!("{other}"),
    }
}

#[test]
fn inputs_that_fill_the_table_are_inflated_and_ours_come_back() {
    let compressing = Envelope { compress_streams: true, ..Envelope::default() };
    for case in cases("compress_big") {
        let (lzw, body) = (bytes_of(&case["lzw"]), plain_of(text(&case["name"])));
        assert_eq!(body.len() as u64, case["plain_len"].as_u64().unwrap());
        let head =
            [b"\x09\x82\xA4Algo\x00\xA3Buf\xDA".as_slice(), &(lzw.len() as u16).to_be_bytes()].concat();
        assert!(open(&plain(), &[head, lzw].concat()).inflated == body, "{}", case["name"]);
        // The encoder differs by a byte once the table is full; the libraries read its output (protocol page, 4).
        let ours = stream::seal(&compressing, true, [0; 12], &body);
        assert!(open(&plain(), &ours).inflated == body, "{}", case["name"]);
    }
}

fn sealed(keys: &KeyRing, case: &Value) -> Vec<u8> {
    let (nonce, aad, plain) =
        (nonce(&bytes_of(&case["nonce"])), bytes_of(&case["aad"]), bytes_of(&case["plain"]));
    let mut out = Vec::new();
    match case["version"].as_u64().unwrap() {
        0 => keys.seal_version_0(nonce, &aad, &plain, &mut out),
        _ => keys.seal(nonce, &aad, &plain, &mut out),
    }
    out
}

#[test]
fn encryption_is_the_same_both_ways_for_every_key_size_and_version() {
    for file in ["encrypt_packet", "encrypt_packet_label"] {
        for case in cases(file) {
            let keys = ring(&[&bytes_of(&case["key"])]);
            let (mut bytes, body) = (bytes_of(&case["hex"]), bytes_of(&case["plain"]));
            assert_eq!(sealed(&keys, &case), bytes, "{}", case["name"]);
            assert_eq!(bytes.len() as u64, case["length_formula"].as_u64().unwrap());
            let opened = keys.open(&bytes_of(&case["aad"]), &mut bytes).map(|plain| plain.to_vec());
            // An empty plaintext is authentic, and no message.
            let expected = if body.is_empty() { Err(Error::Malformed) } else { Ok(body.clone()) };
            assert_eq!(opened, expected, "{}", case["name"]);
            if file == "encrypt_packet_label" {
                labelled(&case, keys, &body);
            }
        }
    }
}

/// The complete datagram of a case with a label.
fn labelled(case: &Value, keys: KeyRing, body: &[u8]) {
    let envelope = Envelope { label: text(&case["label"]).as_bytes().into(), keys, ..plain() };
    let wire = bytes_of(&case["wire"]);
    let (through, bare) = (open(&envelope, &wire), open(&plain(), body));
    if body.is_empty() {
        assert_eq!(through.result, Err(Error::Malformed));
        return;
    }
    assert_eq!((through.result, through.parts), (bare.result, bare.parts), "{}", case["name"]);
    if case["version"] == 1 && body.len() <= 1_300 {
        let ours = built(&envelope, nonce(&bytes_of(&case["nonce"])), false, [body]);
        assert_eq!(ours, wire, "{}", case["name"]);
    }
}

#[test]
fn the_second_key_opens_too_and_what_should_be_refused_is() {
    let file = load("encrypt_packet");
    let keyring = &file["keyring"];
    let keys: Vec<Vec<u8>> = list(keyring, "keys_primary_first").iter().map(bytes_of).collect();
    let keys = ring(&[&keys[0], &keys[1]]);
    assert_eq!(keys.open(b"", &mut bytes_of(&keyring["hex"])).unwrap(), bytes_of(&keyring["plain"]));
    for case in list(&file, "reject") {
        let keys = ring(&[&bytes_of(&case["key"])]);
        let mut bytes = bytes_of(&case["hex"]);
        let opened = keys.open(&bytes_of(&case["aad"]), &mut bytes).map(|plain| hex(plain));
        let expected = match text(&case["name"]) {
            "good" => Ok(text(&case["plain"]).to_owned()),
            // Go crashes on the one and returns a wrong plaintext for the other.
            "v0_padding_byte_larger_than_plaintext" | "v0_padding_byte_zero" => Err(Error::Malformed),
            _ => {
                assert!(case["error"].is_string(), "{case}");
                Err(Error::NotAuthentic)
            }
        };
        assert_eq!(opened, expected, "{}", case["name"]);
    }
}

#[test]
fn captured_datagrams_are_read_and_written_again_byte_for_byte() {
    let mut seen = 0;
    for (name, file) in captures("capture_packets_") {
        let envelope = envelope(&file);
        for case in list(&file, "cases") {
            captured(name, &envelope, &case);
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

fn captured(name: &str, envelope: &Envelope, case: &Value) {
    let datagram = bytes_of(&case["hex"]);
    let opened = open(envelope, &datagram);
    assert_eq!(opened.result, Ok(()), "{name}: {case}");
    let messages = case["messages"].as_array().unwrap();
    assert_eq!(opened.parts.len(), messages.len());
    let mut encodings = Vec::new();
    for (part, theirs) in opened.parts.into_iter().zip(messages) {
        let (kind, actual) = part.unwrap();
        assert_eq!(kind, text(&theirs["message"]));
        if kind == "user" {
            assert_eq!(actual["$hex"], theirs["payload"]);
            encodings.push(encoded(&Message::User(&bytes_of(&theirs["payload"]))));
        } else {
            assert_fields(&actual, &theirs["fields"], &case["hex"]);
            encodings.push(encoded(&message(kind, &theirs["fields"])));
        }
    }
    let layers: Vec<&str> = case["layers"].as_array().unwrap().iter().map(text).collect();
    let has = |layer: &str| layers.contains(&layer);
    let compress_from = if has("compress") { 0 } else { usize::MAX };
    let parts = || encodings.iter().map(Vec::as_slice);
    if has("encrypt_v0") {
        // We do not send version 0: what is inside must be the same.
        let inner = Envelope { compress_from, ..plain() };
        assert_eq!(hex(&built(&inner, [0; 12], has("crc"), parts())), text(&case["decrypted"]), "{name}");
        return;
    }
    let label = if envelope.label.is_empty() { 0 } else { 2 + envelope.label.len() };
    let nonce = if has("encrypt_v1") { nonce(&datagram[label + 1..label + 13]) } else { [0; 12] };
    let ours = built(&Envelope { compress_from, ..envelope.clone() }, nonce, has("crc"), parts());
    assert_eq!(hex(&ours), hex(&datagram), "{name}");
}
