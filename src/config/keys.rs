//! Gossip keys: base64 in the file or in a key file (Serf's keyring format).

use super::file::{self, Value};
use super::report::Report;
use super::section::{Section, Spot};
use crate::limits::KEYS_MAX;
use crate::wire::base64;
use crate::wire::crypt::{Key, KeyRing};

/// The key ring, and whether the file names keys at all, good ones or bad.
pub fn read(
    report: &mut Report,
    config: &Section<'_>,
    secrets_allowed: &Result<(), String>,
    read_secret: &mut dyn FnMut(&str) -> Result<String, String>,
) -> (KeyRing, bool) {
    let path = config.text(report, "keys_file");
    let mut ring = KeyRing::default();
    if let Some(spot) = config.spot("keys") {
        if config.is_set("keys_file") {
            report.at(&spot, "there is a keys_file too; give only one of them");
        }
        if let Err(why) = secrets_allowed {
            report.at(&spot, format!("{why}; a file that holds keys must be its owner's alone (chmod 600)"));
        }
        let items = spot.list(report).unwrap_or_default();
        ring = decode(&items, &mut |spot, text| report.at(spot, text));
        if items.is_empty() {
            report.at(&spot, "holds no key; `picored keygen` makes one, or leave it out");
        }
    } else if let (Some(path), Some(spot)) = (path, config.spot("keys_file")) {
        match read_secret(path).and_then(|text| parse_file(&text)) {
            Ok(read) => ring = read,
            Err(why) => report.at(&spot, why),
        }
    }
    (ring, config.is_set("keys") || config.is_set("keys_file"))
}

/// The text of a key file: what [`read`] reads, and what Serf's agents write.
pub fn file_text(keys: &KeyRing) -> String {
    let lines: Vec<String> =
        keys.keys.iter().map(|key| format!("  \"{}\"", base64::encode(key.bytes()))).collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

/// A JSON list of base64 keys. The error names the first thing that is wrong in it.
pub fn parse_file(text: &str) -> Result<KeyRing, String> {
    let list: Value<'_> = file::parse(text)
        .map_err(|e| format!("the file is not a JSON list of keys: line {}: {}", e.line, e.text))?;
    let spot = Spot { path: String::new(), value: &list };
    let Some(items) = spot.list(&mut Report::default()) else {
        return Err(format!("the file must hold a JSON list of keys, not {}", list.kind_name()));
    };
    let mut wrong = None;
    let ring = decode(&items, &mut |spot, what| {
        let (line, column) = file::place(text, spot.value.at);
        wrong.get_or_insert_with(|| format!("line {line}, column {column} of the file: {what}"));
    });
    match wrong {
        Some(wrong) => Err(wrong),
        None if items.is_empty() => Err("the file holds no key; `picored keygen` makes one".into()),
        None => Ok(ring),
    }
}

/// Messages never repeat any part of a key.
fn decode(items: &[Spot<'_>], problem: &mut dyn FnMut(&Spot<'_>, String)) -> KeyRing {
    let mut ring = KeyRing::default();
    let mut seen: Vec<Vec<u8>> = Vec::new();
    if let Some(spot) = items.get(KEYS_MAX) {
        problem(spot, format!("there are {} keys; at most {KEYS_MAX} are used", items.len()));
    }
    for spot in items.iter().take(KEYS_MAX) {
        let Some(bytes) = spot.value.text().and_then(base64::decode) else {
            problem(spot, "is not a key: keys are base64 strings, as `picored keygen` prints them".into());
            continue;
        };
        if !matches!(bytes.len(), 16 | 24 | 32) {
            problem(spot, format!("is a key of {} bytes; keys have 16, 24 or 32", bytes.len()));
        } else if seen.contains(&bytes) {
            problem(spot, "is the same key again; remove it".into());
        } else {
            ring.keys.extend(Key::new(&bytes));
            seen.push(bytes);
        }
    }
    ring
}
