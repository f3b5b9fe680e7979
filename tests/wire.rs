//! Golden vectors made with the real Go libraries (`tests/vectors/README.md`), both ways, and properties.
//!
//! Goal: we read what real peers write and write what they read, byte for byte.
//! Method: every case of every file goes through the public API; a file that nobody knows fails the test.

#[path = "wire/messages.rs"]
mod messages;
#[path = "wire/packets.rs"]
mod packets;
#[path = "wire/properties.rs"]
mod properties;
#[path = "wire/serf.rs"]
mod serf;
#[path = "wire/streams.rs"]
mod streams;
#[path = "wire/support.rs"]
mod support;

/// The files that these tests read.
const READ_HERE: &[&str] = &[
    "capture_packets_enc16",
    "capture_packets_enc32_nocomp",
    "capture_packets_new_enc_v0",
    "capture_packets_new_label_enc",
    "capture_packets_new_label_plain",
    "capture_packets_old_enc24_v0",
    "capture_packets_old_plain",
    "capture_packets_plain",
    "capture_packets_plain_nocomp",
    "capture_packets_stop022",
    "capture_packets_wild",
    "capture_streams_enc16",
    "capture_streams_enc32_nocomp",
    "capture_streams_new_enc_v0",
    "capture_streams_new_label_enc",
    "capture_streams_new_label_plain",
    "capture_streams_old_enc24_v0",
    "capture_streams_old_plain",
    "capture_streams_plain",
    "capture_streams_plain_nocomp",
    "capture_streams_stop022",
    "capture_streams_wild",
    "compound",
    "compress",
    "compress_big",
    "crc",
    "encrypt_packet",
    "encrypt_packet_label",
    "messages",
    "messages_new_signed_ints",
    "msgpack_decode",
    "serf_ack_payload",
    "serf_messages",
    "serf_push_pull",
    "serf_tags",
    "streams_ping_error",
];

/// The files about what membership does with messages; its own tests read them.
const READ_ELSEWHERE: &[&str] = &[
    "broadcast_queue",
    "state_machine_1_remote_node_lifecycle",
    "state_machine_2_name_conflict",
    "state_machine_3_dead_node_reclaim",
    "state_machine_4_self_refutation",
    "state_machine_5_local_leave",
    "state_machine_6_push_pull_merge",
    "state_machine_7_suspicion_confirmations",
    "state_machine_8_vsn_checks",
    "state_machine_9_address_bytes_verbatim_and_incarnation_zero",
    "tables",
    "verify_protocol",
];

#[test]
fn every_vector_file_is_known() {
    let mut found: Vec<String> = std::fs::read_dir(support::directory())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(".json").map(str::to_owned))
        .collect();
    found.sort();
    let mut known: Vec<&str> = [READ_HERE, READ_ELSEWHERE].concat();
    known.sort();
    assert_eq!(found, known);
}
