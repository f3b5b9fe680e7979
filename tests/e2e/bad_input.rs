//! What strangers and broken peers send: the daemon goes on, its members stay, its memory stays, and it says what
//! it got, by kind and not too often.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use picored::rng::Rng;
use picored::wire::crypt::{Key, KeyRing};
use picored::wire::packet::{Builder, Envelope};
use picored::wire::{Alive, Message, Ping};
use serde_json::{Value, json};

use crate::daemon::{Daemon, wait_for};

const PACKETS: u32 = 100_000;
const STREAMS: u32 = 1_000;
/// Connections that a flood leaves open: below the usual limit of descriptors.
const KEPT: usize = 500;
const KEY: [u8; 16] = *b"0123456789abcdef";
const KEY_BASE64: &str = "MDEyMzQ1Njc4OWFiY2RlZg==";

/// Real datagrams of other people's nodes, to start mutations from.
fn captured(names: &[&str], field: &str) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for name in names {
        let path = format!("{}/tests/vectors/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(path).expect("the vectors are in the tree");
        let file: Value = serde_json::from_str(&text).expect("vector is JSON");
        for case in file["cases"].as_array().expect("a list") {
            all.push(unhex(case[field].as_str().expect("hex")));
        }
    }
    all
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

/// A wrong turn somewhere in real bytes, or no sense at all.
fn spoil(rng: &mut Rng, real: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = real[rng.below(real.len())].clone();
    match rng.below(5) {
        0 => bytes = (0..rng.below(1_500)).map(|_| rng.next_u64() as u8).collect(),
        1 => bytes.truncate(rng.below(bytes.len())),
        2 => {
            let at = rng.below(bytes.len());
            bytes.insert(at, rng.next_u64() as u8);
        }
        _ => {
            for _ in 0..1 + rng.below(8) {
                let at = rng.below(bytes.len());
                bytes[at] = rng.next_u64() as u8;
            }
        }
    }
    bytes
}

fn wait_until_read(daemon: &Daemon, sent: u64) {
    wait_for("the packets to be read", Duration::from_secs(60), || {
        let before = daemon.status()["counters"]["packets_in"].as_u64().unwrap_or(0);
        std::thread::sleep(Duration::from_millis(200));
        let after = daemon.status()["counters"]["packets_in"].as_u64().unwrap_or(0);
        // The two go on talking, about the members, too, that were invented for them.
        after < before + 20 && after > sent / 2
    });
}

/// A cluster that is not the captured one: whatever survives mutation must not get in, so a key is set.
fn pair(extra: Value) -> (Daemon, Daemon) {
    let mut config = extra.clone();
    config["keys"] = json!([KEY_BASE64]);
    let mut a = Daemon::new("a", config.clone());
    a.start();
    config["join"] = json!([a.addr.to_string()]);
    let mut b = Daemon::new("b", config);
    b.start();
    wait_for("the two to meet", Duration::from_secs(20), || a.member_state("b") == "alive");
    (a, b)
}

/// Sends spoiled packets and streams; `wrap` is what a holder of the key puts round them.
fn bombard(
    daemon: &mut Daemon,
    seed: u64,
    packets: &[Vec<u8>],
    streams: &[Vec<u8>],
    wrap: impl Fn(Vec<u8>, u32) -> Vec<u8>,
) {
    println!("seed {seed}");
    let mut rng = Rng::new(seed);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port on loopback");
    for i in 0..PACKETS {
        let bytes = wrap(spoil(&mut rng, packets), i);
        // A full send buffer is no failure of the daemon's.
        drop(socket.send_to(&bytes, daemon.addr));
        if i % 64 == 63 {
            std::thread::sleep(Duration::from_micros(300));
        }
    }
    for _ in 0..STREAMS {
        let Ok(mut stream) = TcpStream::connect(daemon.addr) else { continue };
        drop(stream.write_all(&spoil(&mut rng, streams)));
        drop(stream.shutdown(std::net::Shutdown::Write));
        drop(stream.set_read_timeout(Some(Duration::from_millis(1))));
        drop(stream.read(&mut [0; 512]));
    }
    assert!(daemon.is_running(), "it ended:\n{}", daemon.log());
}

#[test]
fn a_hundred_thousand_bad_packets_change_nothing() {
    let (mut a, b) = pair(json!({}));
    let packets =
        captured(&["capture_packets_plain", "capture_packets_enc16", "capture_packets_new_label_enc"], "hex");
    let streams =
        captured(&["capture_streams_plain", "capture_streams_enc16", "capture_streams_new_label_enc"], "hex");
    // Once for the first touch of code and buffers, then what counts.
    bombard(&mut a, 1, &packets, &streams, |bytes, _| bytes);
    wait_until_read(&a, u64::from(PACKETS));
    let before = a.memory();
    bombard(&mut a, 2, &packets, &streams, |bytes, _| bytes);
    wait_until_read(&a, u64::from(2 * PACKETS));
    let after = a.memory();
    println!("memory in KiB (resident, anonymous): {before:?} before, {after:?} after");
    assert!(after.1 <= before.1 + 128, "anonymous memory grew from {before:?} to {after:?} KiB");
    members_are(&a, &["a", "b"]);
    members_are(&b, &["a", "b"]);
    assert!(a.status()["counters"]["bad"]["wrong-key"].as_u64().is_some_and(|n| n > 50_000));
    // Two minutes at the most, and each kind once a minute at the most.
    for kind in picored::wire::Error::KINDS {
        let lines = a.log().lines().filter(|line| line.contains("bad") && line.contains(kind)).count();
        assert!(lines <= 3, "{kind} was logged {lines} times");
    }
}

#[test]
fn bad_content_from_a_holder_of_the_key_does_not_stop_it() {
    let (mut a, _b) = pair(json!({}));
    let packets =
        captured(&["capture_packets_plain", "capture_packets_stop022", "capture_packets_wild"], "hex");
    let streams = captured(&["capture_streams_plain"], "hex");
    let ring = KeyRing { keys: vec![Key::new(&KEY).expect("16 bytes")] };
    let wrap = |bytes: Vec<u8>, i: u32| {
        let mut nonce = [7; 12];
        nonce[..4].copy_from_slice(&i.to_be_bytes());
        let mut out = Vec::new();
        ring.seal(nonce, &[], &bytes, &mut out);
        out
    };
    bombard(&mut a, 3, &packets, &streams, wrap);
    wait_until_read(&a, u64::from(PACKETS));
    let before = a.memory();
    bombard(&mut a, 4, &packets, &streams, wrap);
    wait_until_read(&a, u64::from(2 * PACKETS));
    let after = a.memory();
    println!("memory in KiB (resident, anonymous): {before:?} before, {after:?} after");
    // Who holds the key can invent members: up to the table's limit, 1,000 of them at some 700 bytes each.
    assert!(after.1 <= before.1 + 1_500, "anonymous memory grew from {before:?} to {after:?} KiB");
    assert_eq!(a.member_state("b"), "alive");
}

fn members_are(daemon: &Daemon, expected: &[&str]) {
    let members = daemon.ask("members").expect("the daemon answers");
    let all = members["members"].as_array().expect("a list");
    let mut names: Vec<&str> = all.iter().filter_map(|m| m["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, expected);
    assert!(all.iter().all(|m| m["state"] == "alive"), "{members}");
}

/// Sends one datagram and waits until the counter of its kind has moved.
fn counted(daemon: &Daemon, kind: &str, bytes: &[u8]) {
    let count = || daemon.status()["counters"]["bad"][kind].as_u64().unwrap_or(0);
    let before = count();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port on loopback");
    socket.send_to(bytes, daemon.addr).expect("loopback takes it");
    wait_for(&format!("{kind} to be counted"), Duration::from_secs(5), || count() > before);
}

fn packet(label: &[u8], key: Option<&[u8]>, message: &Message<'_>) -> Vec<u8> {
    let keys = KeyRing { keys: key.map(|key| Key::new(key).expect("16 bytes")).into_iter().collect() };
    let envelope = Envelope { label: label.into(), keys, compress_from: usize::MAX, compress_streams: false };
    let mut builder = Builder::default();
    builder.push_message(message);
    let mut out = Vec::new();
    builder.finish(&envelope, [9; 12], false, &mut out);
    out
}

/// A compress message whose content is zeros, far beyond what a packet may hold.
fn bomb() -> Vec<u8> {
    let mut lzw = weezl::encode::Encoder::new(weezl::BitOrder::Lsb, 8);
    let squeezed = lzw.encode(&vec![0; 8 << 20]).expect("zeros compress");
    let mut bytes = vec![9, 0x82];
    bytes.extend(b"\xa4Algo\x00\xa3Buf\xda");
    bytes.extend((squeezed.len() as u16).to_be_bytes());
    bytes.extend(squeezed);
    assert!(bytes.len() < 65_000);
    bytes
}

#[test]
fn every_kind_of_bad_packet_is_counted_and_rarely_logged() {
    let ping = Message::Ping(Ping { node: "a", seq: 1, ..Ping::default() });
    let mut keyed = Daemon::new("a", json!({ "keys": [KEY_BASE64] }));
    keyed.start();
    counted(&keyed, "wrong-key", &packet(b"", Some(b"another 16 bytes"), &ping));
    counted(&keyed, "wrong-key", &packet(b"", None, &ping));
    counted(&keyed, "wrong-label", &packet(b"stage", Some(&KEY), &ping));

    let mut plain = Daemon::new("a", json!({}));
    plain.start();
    counted(&plain, "wrong-label", &packet(b"stage", None, &ping));
    let whole = packet(b"", None, &ping);
    counted(&plain, "truncated", &whole[..whole.len() - 2]);
    counted(&plain, "malformed", &[0, 0x93, 1, 2, 3]);
    counted(&plain, "unsupported", &[99]);
    counted(&plain, "bad-checksum", &[12, 1, 2, 3, 4, 5]);
    counted(&plain, "too-long", &bomb());
    let meta = [b'x'; 600];
    let vsn = [1, 5, 2, 2, 5, 5];
    let fat = Alive { node: "fat", addr: &[127, 0, 0, 9], port: 7, incarnation: 1, meta: &meta, vsn: &vsn };
    counted(&plain, "malformed", &packet(b"", None, &Message::Alive(fat)));
    // A compress message in a compress message, and so on, more often than any real peer does.
    let mut nested = vec![7, 0];
    for _ in 0..6 {
        let mut outer = vec![7, 1];
        outer.extend((nested.len() as u16).to_be_bytes());
        outer.extend(&nested);
        nested = outer;
    }
    counted(&plain, "too-deep", &nested);
    members_are(&plain, &["a"]);

    // Many more of one kind are still one line.
    let started = Instant::now();
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port on loopback");
    for _ in 0..2_000 {
        drop(socket.send_to(&[99], plain.addr));
    }
    counted(&plain, "unsupported", &[99]);
    let minutes = 1 + started.elapsed().as_secs() / 60;
    let lines = plain.log().lines().filter(|line| line.contains("unsupported")).count() as u64;
    assert!((1..=1 + minutes).contains(&lines), "{lines} lines:\n{}", plain.log());
}

#[test]
fn idle_and_half_said_streams_do_not_keep_others_out() {
    let mut a = Daemon::new("a", json!({}));
    a.start();
    let open: Vec<TcpStream> = (0..60).filter_map(|_| half_said(a.addr)).collect();
    assert!(!open.is_empty());
    let mut b = Daemon::new("b", json!({ "join": [a.addr.to_string()] }));
    b.start();
    wait_for("the join to get through", Duration::from_secs(30), || a.member_state("b") == "alive");
    assert!(a.descriptors() < 100, "{} descriptors", a.descriptors());
}

/// Connections that picored has answered and closed linger until the other side has closed them, too.
#[test]
fn a_flood_of_connections_leaves_a_node_its_own() {
    let mut b = Daemon::new("b", json!({}));
    let mut a = Daemon::new("a", json!({ "join": [b.addr.to_string()] }));
    a.start();
    let (to, over) = (a.addr, Arc::new(AtomicBool::new(false)));
    let flood = std::thread::spawn({
        let over = Arc::clone(&over);
        move || {
            let mut kept = VecDeque::new();
            while !over.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(2));
                let Ok(mut stream) = TcpStream::connect(to) else { continue };
                drop(stream.write_all(b"rubbish"));
                kept.push_back(stream);
                if kept.len() > KEPT {
                    kept.pop_front();
                }
            }
        }
    });
    let refused = || a.status()["counters"]["refused"].as_u64().unwrap_or(0);
    wait_for("the flood to be refused and counted", Duration::from_secs(20), || refused() > 100);
    b.start();
    wait_for("the flooded one to join", Duration::from_secs(40), || a.member_state("b") == "alive");
    over.store(true, Ordering::Relaxed);
    flood.join().expect("it only connects");
    assert!(a.is_running());
}

fn half_said(to: SocketAddr) -> Option<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()?;
    stream.write_all(&[6, 0x83]).ok()?;
    Some(stream)
}
