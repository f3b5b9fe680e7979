//! The real library's traces, step by step.

use super::*;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex")).collect()
}

fn bytes(value: &Value) -> Vec<u8> {
    value["$hex"].as_str().map(hex).unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value.as_u64().expect("a number")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn apply(m: &mut Membership, now: Instant, input: &Value) {
    let incarnation = input["Incarnation"].as_u64().unwrap_or(0) as u32;
    let claim =
        |input: &'static Value| Claim { node: text(&input["Node"]), from: text(&input["From"]), incarnation };
    let input: &'static Value = Box::leak(Box::new(input.clone()));
    match text(&input["message"]) {
        "alive" => {
            let (addr, meta, vsn) = (bytes(&input["Addr"]), bytes(&input["Meta"]), bytes(&input["Vsn"]));
            let (node, port) = (text(&input["Node"]), number(&input["Port"]) as u16);
            m.handle_alive(now, &Alive { node, addr: &addr, port, incarnation, meta: &meta, vsn: &vsn });
        }
        "suspect" => m.handle_suspect(now, &claim(input)),
        "dead" => m.handle_dead(now, &claim(input)),
        "local_leave" => m.leave(now),
        "push_pull_merge" => merge(m, now, input),
        other => panic!("the test does not know {other}"),
    }
}

fn merge(m: &mut Membership, now: Instant, input: &Value) {
    let fields: Vec<_> = input["nodes"].as_array().expect("a list").iter().collect();
    let parts: Vec<_> =
        fields.iter().map(|n| (bytes(&n["Addr"]), bytes(&n["Meta"]), bytes(&n["Vsn"]))).collect();
    let states = [WireState::Alive, WireState::Suspect, WireState::Dead, WireState::Left];
    let nodes = fields.iter().zip(&parts).map(|(n, (addr, meta, vsn))| NodeState {
        name: text(&n["Name"]),
        addr,
        port: number(&n["Port"]) as u16,
        incarnation: number(&n["Incarnation"]) as u32,
        meta,
        state: states[number(&n["State"]) as usize],
        vsn,
    });
    let table = PushPull { join: false, nodes: nodes.collect(), user_state: &[] };
    m.merge(now, &table).expect("the versions fit");
}

fn table(m: &Membership) -> Vec<Value> {
    let row = |m: &Member| {
        let state = if m.state == State::Dead { "dead" } else { m.state.as_str() };
        let meta: String = m.meta.iter().map(|b| format!("{b:02x}")).collect();
        let [a, b, c, d, e, f] = m.vsn;
        let mut row = serde_json::json!({
            "addr": m.addr.to_string(), "incarnation": m.incarnation, "meta": meta, "name": &*m.name,
            "state": state, "suspicion_timer": m.suspicion.is_some(), "vsn": format!("[{a} {b} {c} {d} {e} {f}]"),
        });
        if let Some(suspicion) = &m.suspicion {
            row["suspicion_confirmations"] = suspicion.confirmations().into();
            row["suspicion_k"] = suspicion.wanted().into();
        }
        row
    };
    // What only picored takes over (deviations.rs) is none of the library's.
    m.members().filter(|m| m.source == member::Source::Own).map(row).collect()
}

fn broadcasts(m: &mut Membership) -> Vec<String> {
    let mut all = Vec::new();
    m.broadcasts.take(0, |bytes| {
        all.push(bytes.iter().map(|b| format!("{b:02x}")).collect::<String>());
        true
    });
    all.sort();
    all
}

/// The library's event delegate knows joins, leaves, updates and conflicts.
fn events(m: &mut Membership) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(event) = m.poll_event() {
        match event {
            Event::Joined { node, .. } => all.push(format!("join {node}")),
            Event::Failed { node, .. } | Event::Left { node } => all.push(format!("leave {node}")),
            Event::Updated { node } => all.push(format!("update {node}")),
            Event::Conflict { node, addr } => {
                let existing = m.member(&node).expect("known").addr;
                all.push(format!("conflict {node} existing={existing} other={addr}"));
            }
            _ => {}
        }
    }
    all
}

/// Goal: the table, the news, the events and the health score are the library's after every step.
/// Method: replay its trace. The only difference is the dead entry that it keeps for a member that was
/// announced with incarnation 0, and we do not.
fn replay(name: &str, reclaim_after: Duration) {
    let path = format!("{}/tests/vectors/state_machine_{name}.json", env!("CARGO_MANIFEST_DIR"));
    let file = crate_file(&path);
    let mut config = config("self", addr(1));
    config.timing.reclaim_after = reclaim_after;
    config.delegate_versions = [0, 0, 0];
    let mut now = Instant::ZERO + SECOND;
    let mut m = Membership::new(config, b"M0", Seed::from_u64(1), now);
    if name.starts_with("7_") {
        for (i, node) in ["b", "c", "d", "e", "f", "g"].into_iter().enumerate() {
            let addr = [127, 0, 0, i as u8 + 2];
            let vsn = &[1, 5, 2, 0, 0, 0];
            m.handle_alive(now, &Alive { node, addr: &addr, port: 7946, incarnation: 1, meta: &[], vsn });
        }
    }
    broadcasts(&mut m);
    events(&mut m);
    let steps = file["steps"].as_array().expect("a list");
    assert!(!steps.is_empty());
    let mut refutation = String::new();
    for (i, step) in steps.iter().enumerate() {
        let note = text(&step["note"]);
        if note.contains("after the reclaim time") {
            now += Duration::from_millis(40);
        }
        apply(&mut m, now, &step["input"]);
        let expected: Vec<Value> = serde_json::from_value(step["nodes"].clone()).expect("rows");
        let expected: Vec<Value> = expected.into_iter().filter(|row| row["incarnation"] != 0).collect();
        assert_eq!(table(&m), expected, "{name}, step {i}: {note}");
        let mut expected: Vec<String> = serde_json::from_value(step["new_broadcasts"].clone()).expect("hex");
        if note.contains("self, lower incarnation: ignored") {
            expected.push(refutation.clone()); // deviations.rs: sent again
        }
        refutation = expected.last().cloned().unwrap_or(refutation);
        assert_eq!(broadcasts(&mut m), expected, "{name}, step {i}: {note}");
        let expected: Vec<String> = serde_json::from_value(step["events"].clone()).expect("texts");
        assert_eq!(events(&mut m), expected, "{name}, step {i}: {note}");
        assert_eq!(u64::from(m.health_score()), number(&step["health_score"]), "{name}, step {i}: {note}");
    }
}

fn crate_file(path: &str) -> Value {
    let text = match path.rsplit('/').next().expect("a name") {
        "state_machine_1_remote_node_lifecycle.json" => {
            include_str!("../../../tests/vectors/state_machine_1_remote_node_lifecycle.json")
        }
        "state_machine_2_name_conflict.json" => {
            include_str!("../../../tests/vectors/state_machine_2_name_conflict.json")
        }
        "state_machine_3_dead_node_reclaim.json" => {
            include_str!("../../../tests/vectors/state_machine_3_dead_node_reclaim.json")
        }
        "state_machine_4_self_refutation.json" => {
            include_str!("../../../tests/vectors/state_machine_4_self_refutation.json")
        }
        "state_machine_5_local_leave.json" => {
            include_str!("../../../tests/vectors/state_machine_5_local_leave.json")
        }
        "state_machine_6_push_pull_merge.json" => {
            include_str!("../../../tests/vectors/state_machine_6_push_pull_merge.json")
        }
        "state_machine_7_suspicion_confirmations.json" => {
            include_str!("../../../tests/vectors/state_machine_7_suspicion_confirmations.json")
        }
        "state_machine_8_vsn_checks.json" => {
            include_str!("../../../tests/vectors/state_machine_8_vsn_checks.json")
        }
        _ => include_str!(
            "../../../tests/vectors/state_machine_9_address_bytes_verbatim_and_incarnation_zero.json"
        ),
    };
    serde_json::from_str(text).expect("vector is JSON")
}

/// As if reclaiming were switched off.
const NEVER: Duration = Duration::MAX;

#[test]
fn a_members_life() {
    replay("1_remote_node_lifecycle", NEVER);
}
#[test]
fn two_addresses_with_one_name() {
    replay("2_name_conflict", NEVER);
}
#[test]
fn a_dead_members_name_is_free_after_the_reclaim_time() {
    replay("3_dead_node_reclaim", Duration::from_millis(20));
}
#[test]
fn accusations_of_oneself() {
    replay("4_self_refutation", NEVER);
}
#[test]
fn leaving() {
    replay("5_local_leave", NEVER);
}
#[test]
fn merging_another_table() {
    replay("6_push_pull_merge", NEVER);
}
#[test]
fn confirming_a_suspicion() {
    replay("7_suspicion_confirmations", NEVER);
}
#[test]
fn version_vectors() {
    replay("8_vsn_checks", NEVER);
}
#[test]
fn address_bytes_as_received() {
    replay("9_address_bytes_verbatim_and_incarnation_zero", NEVER);
}
