//! etc/picored.schema.json: made from the tables of the configuration and the sentences of the manual.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use picored::config::section::{Key, Type};
use picored::config::units::{show_duration, whole};
use picored::delivery::{EventKind, MemberEvent};
use picored::limits::{
    ADDRESSES_PER_INSTANCE_MAX, CHECKS_MAX, HTTP_BODY_MAX, KEYS_MAX, MEMBERS_MAX, WITNESSES_MAX,
};
use serde_json::{Value, json};

use crate::facts::{TABLES, Table, is_up_to_date, read};
use crate::man::parts;
use crate::patterns as p;

/// JSON whose members stay in their order.
enum Json {
    Value(Value),
    Object(Vec<(String, Json)>),
}

type Members = Vec<(String, Json)>;

fn members<const N: usize>(of: [(&str, Value); N]) -> Members {
    of.into_iter().map(|(name, value)| (name.to_owned(), Json::Value(value))).collect()
}

fn string(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern })
}

fn list_of(items: Value, max: usize) -> Members {
    members([
        ("type", json!("array")),
        ("maxItems", json!(max)),
        ("uniqueItems", json!(true)),
        ("items", items),
    ])
}

/// A program and its arguments.
fn argv() -> Members {
    let path = json!({ "type": "string", "pattern": p_path(), "maxLength": 4095 });
    members([
        ("type", json!("array")),
        ("minItems", json!(1)),
        ("prefixItems", json!([path])),
        ("items", string(r"^[^\u0000]*$")),
    ])
}

fn p_path() -> String {
    r"^/[^\u0000-\u001f\u007f-\u009f]*[^/\u0000-\u001f\u007f-\u009f]$".into()
}

/// Objects whose keys a person chooses, comments among them.
fn named(names: &str, of: Value) -> Members {
    members([
        ("type", json!("object")),
        ("patternProperties", json!({ "^//": true, names: of })),
        ("additionalProperties", json!(false)),
    ])
}

fn words<const N: usize>(events: [&'static str; N]) -> Vec<&'static str> {
    events.to_vec()
}

/// What the tables do not say, since code of its own reads it.
fn by_hand(table: &str, key: &Key) -> Option<Members> {
    let ref_to = |name: &str| json!({ "$ref": format!("#/$defs/{name}") });
    let addresses = || list_of(string(&p::ip()), ADDRESSES_PER_INSTANCE_MAX);
    let text = |max: u64, pattern: String| {
        members([("type", json!("string")), ("maxLength", json!(max)), ("pattern", json!(pattern))])
    };
    Some(match (table, key.name) {
        ("", "node") => text(128, "^[A-Za-z0-9.-]+$".into()),
        ("", "cluster") => text(64, "^[A-Za-z0-9._-]+$".into()),
        ("", "bind" | "advertise") => text(64, p::socket()),
        (_, "publish") => addresses(),
        ("", "join") => {
            list_of(json!({ "type": "string", "maxLength": 300, "pattern": p::join_target() }), MEMBERS_MAX)
        }
        ("", "members") => {
            list_of(json!({ "type": "string", "maxLength": 128, "pattern": "^[A-Za-z0-9.-]+$" }), MEMBERS_MAX)
        }
        ("", "keys") => {
            let mut keys = list_of(string(&p::gossip_key()), KEYS_MAX);
            keys.push(("minItems".into(), Json::Value(json!(1))));
            keys
        }
        ("", "label") => text(255, p::PRINTABLE.into()),
        ("", "allow") => members([
            ("type", json!("array")),
            ("minItems", json!(1)),
            ("maxItems", json!(MEMBERS_MAX)),
            ("items", json!({ "type": "string", "maxLength": 64, "pattern": p::network() })),
        ]),
        ("", "tags") => {
            named(r"^(?!(?:cluster|v|p)$|[aphm]\.|//)[^\u0000-\u001f\u007f-\u009f]+$", string(p::PRINTABLE))
        }
        ("", "apps") => named(p::NAME, ref_to("app")),
        ("", "handlers") => named(p::NAME, ref_to("handler")),
        ("", "safety" | "log") => members([("$ref", json!(format!("#/$defs/{}", key.name)))]),
        ("app", "checks") => {
            members([("type", json!("array")), ("maxItems", json!(CHECKS_MAX)), ("items", ref_to("check"))])
        }
        ("app", "verify") => text(512, p::verify()),
        ("app", "min_up") => members([(
            "anyOf",
            json!([{ "type": "integer", "minimum": 0, "maximum": MEMBERS_MAX }, string(&p::percent())]),
        )]),
        ("app", "all_down") => {
            let list =
                json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": string(&p::ip()) });
            members([("anyOf", json!([{ "enum": ["keep", "all", "empty"] }, list]))])
        }
        ("check", "http") => text(2_048, p::url()),
        ("check", "tcp") => text(256, p::tcp()),
        ("check", "exec") | ("handler", "run") => argv(),
        ("check", "host") => text(256, "^[!-.0-~]+$".into()),
        ("check", "status") => members([
            ("type", json!("array")),
            ("minItems", json!(1)),
            ("items", json!({ "type": "integer", "minimum": 100, "maximum": 599 })),
        ]),
        ("check", "body_contains") => {
            members([("type", json!("string")), ("minLength", json!(1)), ("maxLength", json!(HTTP_BODY_MAX))])
        }
        ("check", "body_equals") => members([("type", json!("string")), ("maxLength", json!(HTTP_BODY_MAX))]),
        ("handler", "apps") => {
            members([("type", json!("array")), ("uniqueItems", json!(true)), ("items", string(p::NAME))])
        }
        ("handler", "events") => {
            let all = [
                words(EventKind::ALL.map(EventKind::as_str)),
                words(MemberEvent::ALL.map(MemberEvent::as_str)),
            ];
            members([
                ("type", json!("array")),
                ("minItems", json!(1)),
                ("uniqueItems", json!(true)),
                ("items", json!({ "enum": all.concat() })),
            ])
        }
        ("handler", "env") => named("^(?!PICORED_)[A-Za-z_][A-Za-z0-9_]*$", string(r"^[^\u0000]*$")),
        ("handler", "user") => text(64, "^[A-Za-z0-9._][A-Za-z0-9._-]*$".into()),
        ("safety", "witness") => members([
            ("type", json!("array")),
            ("maxItems", json!(WITNESSES_MAX)),
            ("items", json!({ "type": "string", "maxLength": 512, "pattern": p::witness() })),
        ]),
        ("safety", "minority_delay") => {
            let day = Duration::from_secs(86_400);
            members([("anyOf", json!([{ "const": "never" }, ref_to(&duration_name(Duration::ZERO, day))]))])
        }
        ("safety", "max_remove") => members([("anyOf", json!([{ "const": "off" }, string(&p::percent())]))]),
        _ => return None,
    })
}

fn duration_name(from: Duration, to: Duration) -> String {
    format!("duration_{}_{}", show_duration(from), show_duration(to))
}

fn of_type(key: &Key, durations: &mut BTreeMap<Duration, Vec<Duration>>) -> Members {
    match &key.of {
        Type::Flag => members([("type", json!("boolean"))]),
        Type::Text { max } => members([
            ("type", json!("string")),
            ("minLength", json!(1)),
            ("maxLength", json!(max)),
            ("pattern", json!(p::PRINTABLE)),
        ]),
        Type::Path { max } => {
            members([("type", json!("string")), ("maxLength", json!(max)), ("pattern", json!(p_path()))])
        }
        Type::Duration(from, to) => {
            let (from, to) = (Duration::from_millis(*from), Duration::from_millis(*to));
            durations.entry(from).or_default().push(to);
            members([("$ref", json!(format!("#/$defs/{}", duration_name(from, to))))])
        }
        Type::Whole(from, to) => {
            members([("type", json!("integer")), ("minimum", json!(from)), ("maximum", json!(to))])
        }
        Type::Size(from, to) => members([(
            "anyOf",
            json!([{ "type": "integer", "minimum": from, "maximum": to }, string(&p::size(*from, *to))]),
        )]),
        Type::Word(words) => members([("enum", json!(words))]),
        Type::List | Type::Object | Type::Other => panic!("{} needs a schema by hand", key.name),
    }
}

fn default(key: &Key) -> Option<Value> {
    match &key.of {
        _ if key.default.is_empty() => None,
        Type::Flag => Some(json!(key.default == "true")),
        Type::Whole(..) | Type::Other if whole(key.default).is_some() => Some(json!(whole(key.default))),
        _ => Some(json!(key.default)),
    }
}

/// The first sentence that the manual says of each key: that is what an editor shows.
fn sentences(table: &Table) -> BTreeMap<String, String> {
    let page = parts(&read("etc/man/picored.json.5"));
    let part = page.into_iter().find(|part| part.heading == table.heading).expect("a heading for each table");
    let sentence = |entry: &crate::man::Entry| {
        let name = entry.headers[0].split(' ').next().unwrap_or("").to_owned();
        // A request of fonts between words leaves a blank before its comma.
        let text = entry.text.split(". ").next().unwrap_or("").replace("  ", " ");
        (name, format!("{}.", text.trim().trim_end_matches('.')))
    };
    part.entries.iter().map(sentence).collect()
}

fn object(table: &Table, durations: &mut BTreeMap<Duration, Vec<Duration>>) -> Members {
    let sentences = sentences(table);
    let mut properties = Members::new();
    for key in table.keys {
        let sentence = sentences.get(key.name).unwrap_or_else(|| panic!("{}: not in the manual", key.name));
        let mut schema = members([("description", json!(sentence))]);
        schema.extend(default(key).map(|default| ("default".to_owned(), Json::Value(default))));
        let hand = by_hand(table.name, key);
        schema.extend(hand.unwrap_or_else(|| of_type(key, durations)));
        properties.push((key.name.to_owned(), Json::Object(schema)));
    }
    let mut all = members([("type", json!("object"))]);
    all.push(("properties".into(), Json::Object(properties)));
    all.extend(members([
        ("patternProperties", json!({ "^//": true })),
        ("additionalProperties", json!(false)),
    ]));
    all.extend(together(table.name));
    all
}

/// What holds between the keys of one object.
fn together(table: &str) -> Members {
    match table {
        "" => members([("not", json!({ "required": ["keys", "keys_file"] }))]),
        "app" => members([("required", json!(["checks"]))]),
        "check" => members([
            (
                "oneOf",
                ["http", "tcp", "unix", "exec"].iter().map(|kind| json!({ "required": [kind] })).collect(),
            ),
            (
                "dependentRequired",
                json!({ "host": ["http"], "status": ["http"], "body_contains": ["http"], "body_equals": ["http"], "warn_ok": ["exec"] }),
            ),
            ("not", json!({ "required": ["body_contains", "body_equals"] })),
        ]),
        "handler" => {
            let mode = |of: Value| json!({ "properties": { "mode": of }, "required": ["mode"] });
            let or_none = |of: Value| json!({ "properties": { "mode": of } });
            let events = |of: Vec<&str>| json!({ "properties": { "events": { "items": { "enum": of } } } });
            members([
                ("required", json!(["run"])),
                (
                    "allOf",
                    json!([
                        { "if": mode(json!({ "const": "event" })), "then": events(words(EventKind::ALL.map(EventKind::as_str))) },
                        { "if": mode(json!({ "const": "serf" })), "then": events(words(MemberEvent::ALL.map(MemberEvent::as_str))) },
                        { "if": or_none(json!({ "enum": ["sync", "picored1"] })), "then": { "properties": { "events": false, "apps": { "minItems": 1 } } } },
                        { "if": or_none(json!({ "const": "sync" })), "then": { "properties": { "where": { "enum": ["one", "all"] } } } },
                    ]),
                ),
            ])
        }
        _ => Members::new(),
    }
}

pub fn generated() -> String {
    let mut durations = BTreeMap::from([(Duration::ZERO, vec![Duration::from_secs(86_400)])]);
    let mut all = members([
        ("$schema", json!("https://json-schema.org/draft/2020-12/schema")),
        ("title", json!("picored.json, the configuration of picored")),
        (
            "$comment",
            json!(
                "Made by tests/docs from src/config/schema.rs and etc/man/picored.json.5: UPDATE=1 cargo test --test docs"
            ),
        ),
    ]);
    let mut objects: Vec<_> =
        TABLES.iter().map(|table| (table.name.to_owned(), object(table, &mut durations))).collect();
    all.extend(objects.remove(0).1);
    let mut defs: Members = objects.into_iter().map(|(name, schema)| (name, Json::Object(schema))).collect();
    for (from, mut ends) in durations {
        ends.sort_unstable();
        ends.dedup();
        for to in ends {
            let (least, most) = (from.as_millis().div_ceil(1_000) as u64, to.as_secs());
            let said = format!(
                "a duration from {} to {}, such as \"500ms\", \"10s\", \"5m\", \"24h\", or whole seconds",
                show_duration(from),
                show_duration(to)
            );
            let schema = members([
                (
                    "anyOf",
                    json!([{ "type": "integer", "minimum": least, "maximum": most }, string(&p::duration(from, to))]),
                ),
                ("errorMessage", json!(format!("must be {said}"))),
            ]);
            defs.push((duration_name(from, to), Json::Object(schema)));
        }
    }
    all.push(("$defs".into(), Json::Object(defs)));
    let mut text = String::new();
    write(&mut text, &Json::Object(all), 0);
    text.push('\n');
    text
}

/// Objects of the order that counts over several lines, the rest on one.
fn write(out: &mut String, json: &Json, depth: usize) {
    match json {
        Json::Value(value) => out.push_str(&value.to_string()),
        Json::Object(all) => {
            out.push('{');
            for (i, (name, value)) in all.iter().enumerate() {
                let comma = if i > 0 { "," } else { "" };
                let _ = write!(out, "{comma}\n{}{}: ", "  ".repeat(depth + 1), json!(name));
                write(out, value, depth + 1);
            }
            let _ = write!(out, "\n{}}}", "  ".repeat(depth));
        }
    }
}

#[test]
fn the_schema_is_what_the_code_says() {
    is_up_to_date("etc/picored.schema.json", &generated());
}
