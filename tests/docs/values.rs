//! The schema and the program agree on what is a configuration, but for what a schema cannot say.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use picored::config::Config;
use picored::config::section::{Key, Type};
use picored::rng::{Rng, Seed};
use serde_json::{Value, json};

use crate::facts::{TABLES, Table, quoted, read, root};
use crate::skip::skip;

/// Reads a configuration on each line, and says of each whether the schema takes it: 1 or 0.
const VALIDATE: &str = r#"
import json, sys
from jsonschema import Draft202012Validator as V
schema = json.load(open(sys.argv[1]))
V.check_schema(schema)
validator = V(schema)
for line in sys.stdin:
    print(1 if validator.is_valid(json.loads(line)) else 0)
"#;

/// A Python that has jsonschema: Debian's has it as python3-jsonschema. `None`, and said: none has.
fn python() -> Option<&'static str> {
    static FOUND: OnceLock<Option<&'static str>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let has = |python: &&'static str| {
            let probe = ["-c", "from jsonschema import Draft202012Validator"];
            let status = Command::new(python).args(probe).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        ["/usr/bin/python3", "python3"].into_iter().find(has)
    });
    if found.is_none() {
        skip("no Python with jsonschema (python3-jsonschema) here");
    }
    *found
}

/// What the schema says of each text.
fn judged(texts: &[String]) -> Option<Vec<bool>> {
    let mut command = Command::new(python()?);
    command.args(["-c", VALIDATE]).arg(root().join("etc/picored.schema.json"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it was there");
    let mut stdin = child.stdin.take().expect("a pipe");
    let lines: String = texts.iter().map(|text| text.replace('\n', " ") + "\n").collect();
    let writer = std::thread::spawn(move || stdin.write_all(lines.as_bytes()));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("a thread").expect("it reads all");
    let verdicts: Vec<bool> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| line == "1").collect();
    assert!(
        output.status.success() && verdicts.len() == texts.len(),
        "the schema is one, and all were judged"
    );
    Some(verdicts)
}

/// The problems that picored has with it.
fn problems(text: &str) -> Vec<String> {
    let mut secrets = |path: &str| match path {
        path if path.contains("/bad") => Err("it is bad".to_owned()),
        _ if text.contains("\"env_file\"") && !path.contains("keys") => Ok("A=1\n".to_owned()),
        _ => Ok("[\"AAECAwQFBgcICQoLDA0ODw==\"]".to_owned()),
    };
    match Config::parse(text, "host1", Ok(()), &mut secrets) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

/// What picored refuses and a schema cannot: what stands in more than one place, what a pattern would be too long for,
/// files, and how JSON is written (1.0 and 1e3 are whole numbers to a schema, and the last of two keys counts).
const BEYOND_A_SCHEMA: [&str; 21] = [
    "is there twice",
    "again; remove it",
    "must be shorter than probe_interval",
    "must not be longer than the interval",
    "is not in \"allow\"",
    "there is no app",
    "cannot answer: \"witness\" names",
    "there are no keys",
    "what this node says of itself can become",
    "address bits beyond its prefix",
    "is nobody's address",
    "hears IPv4 only",
    "it is bad",
    "apps; at most",
    "handlers; at most",
    "is not an IPv6 address",
    "is not an IP address",
    "is not an address",
    "is not a network",
    "is neither an IP address nor a host name",
    "the host name",
];

/// `text` is a number that is whole to a schema alone.
fn is_whole_to_a_schema(text: &str) -> bool {
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || ".eE+-".contains(c)));
    numbers
        .into_iter()
        .any(|n| n.parse::<f64>().is_ok_and(|n| n.fract() == 0.0) && n.contains(['.', 'e', 'E', '-']))
        || quoted(text).any(is_sum) // which no pattern adds up
}

/// A duration in more than one unit.
fn is_sum(text: &str) -> bool {
    let units = text.split(|c: char| c.is_ascii_digit()).filter(|unit| !unit.is_empty());
    text.starts_with(|c: char| c.is_ascii_digit())
        && units.clone().all(|unit| ["ms", "s", "m", "h", "d"].contains(&unit))
        && units.count() > 1
}

/// What the schema refuses and picored takes: it does not look at the applications of a `serf` handler, which has none.
fn is_stricter(text: &str) -> bool {
    text.contains(r#""serf""#) && text.contains(r#""apps":"#)
}

/// Fails for those that they do not agree on. Returns how many picored took and refused.
fn assert_agreed(texts: &[String]) -> (usize, usize) {
    let Some(verdicts) = judged(texts) else { return (0, 0) };
    let mut differences = Vec::new();
    let (mut taken, mut refused) = (0, 0);
    for (text, schema) in texts.iter().zip(verdicts) {
        let problems = problems(text);
        *(if problems.is_empty() { &mut taken } else { &mut refused }) += 1;
        let beyond = |problem: &String| BEYOND_A_SCHEMA.iter().any(|known| problem.contains(known));
        match (problems.is_empty(), schema) {
            (true, false) if !is_stricter(text) => differences.push(format!("only picored takes {text}")),
            (false, true) if !problems.iter().all(beyond) && !is_whole_to_a_schema(text) => {
                differences.push(format!("only the schema takes {text}: {problems:?}"));
            }
            _ => {}
        }
    }
    let shown: Vec<_> = differences.iter().take(20).map(String::as_str).collect();
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), shown.join("\n"));
    (taken, refused)
}

#[test]
fn what_is_shipped_shown_and_printed_fits_the_schema() {
    let readme = read("README.md");
    let shown =
        readme.split("\n```json\n").nth(1).and_then(|rest| rest.split("\n```").next()).expect("one is shown");
    let shown = shown.replace("the key that init made", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let manual = read("etc/man/picored.json.5");
    let example =
        manual.split("\n.nf\n{\n").nth(1).and_then(|rest| rest.split("\n.fi").next()).expect("an example");
    let folder = Folder::new("printed");
    let print = |args: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_picored")).args(args).output().expect("the binary was built");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let init = print(&["init", "--node", "n1", "--join", "198.51.100.7"]);
    let of = |name: &str, text: &str| {
        let path = folder.0.join(name);
        std::fs::write(&path, text).expect("own folder");
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .expect("own file");
        path.display().to_string()
    };
    // Which is not installed here.
    let path = of("init.json", &init.replace("/etc/picored/handlers/nsupdate", "/bin/true"));
    let small = r#"{"insecure": true, "apps": {"web": {"checks": [{"tcp": "127.0.0.1:1"}]}}, "handlers": {"h": {"run": ["/bin/true"], "mode": "event", "events": ["app-up"]}}}"#;
    let small = of("small.json", small);
    let texts = [
        read("etc/picored.json"),
        shown,
        format!("{{\n{}", example.replace("\\-", "-")),
        init,
        print(&["-c", &path, "check-config", "--show"])
            .replace("\"// keys\"", "\"insecure\": true, \"// keys\""),
        print(&["-c", &small, "check-config", "--show"]),
    ];
    texts.iter().for_each(|text| assert_eq!(problems(text), [""; 0], "{text}"));
    let verdicts = judged(&texts).unwrap_or_else(|| vec![true; texts.len()]);
    assert!(verdicts.iter().all(|fits| *fits), "{verdicts:?}");
}

/// Every piece of a configuration that the unit tests of `config` take or refuse, as each of the objects that it can
/// be a part of.
#[test]
fn what_the_tests_of_the_configuration_hold_is_judged_alike() {
    let code = read("src/config/tests.rs");
    let pieces: Vec<&str> = code.split("r#\"").skip(1).filter_map(|rest| rest.split("\"#").next()).collect();
    assert!(pieces.len() > 50, "{} pieces", pieces.len());
    let wraps = [
        ("", ""),
        ("{\"insecure\": true, ", "}"),
        ("{\"insecure\": true, \"apps\": {\"web\": {", "}}}"),
        ("{\"insecure\": true, \"apps\": {\"web\": {\"checks\": [{", "}]}}}"),
        ("{\"insecure\": true, \"handlers\": {\"h\": {", "}}}"),
        ("{\"insecure\": true, \"safety\": {", "}}"),
    ];
    let mut texts = Vec::new();
    for piece in pieces {
        for (before, after) in wraps {
            let text = format!("{before}{piece}{after}");
            if serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()) {
                texts.push(text);
            }
        }
    }
    let (taken, refused) = assert_agreed(&texts);
    assert!(python().is_none() || taken > 3 && refused > 200, "{taken} taken, {refused} refused");
}

/// A configuration with this value for a key, and all else so that nothing else is wrong.
fn with(table: &Table, key: &Key, value: &str) -> String {
    let rest = match (table.name, key.name) {
        ("app", "checks") => "",
        ("app", _) => r#""checks": [{"tcp": "127.0.0.1:1", "interval": "1d", "timeout": "1s"}], "#,
        ("check", "http" | "tcp" | "unix" | "exec") => "",
        ("check", "warn_ok") => r#""exec": ["/x"], "#,
        ("check", "interval") => r#""timeout": "10ms", "http": "http://127.0.0.1/", "#,
        ("check", "timeout") => r#""interval": "1d", "http": "http://127.0.0.1/", "#,
        ("check", _) => r#""http": "http://127.0.0.1/", "#,
        ("handler", "run") => "",
        ("handler", "events") => r#""run": ["/x"], "mode": "event", "#,
        ("handler", _) => r#""run": ["/x"], "#,
        ("safety", "witness_min") => r#""witness": ["tcp://1.1.1.1:53", "tcp://9.9.9.9:53"], "#,
        ("", "insecure") => r#""bind": "127.0.0.1", "#,
        ("", "probe_interval") => r#""probe_timeout": "10ms", "insecure": true, "#,
        ("", "probe_timeout") => r#""probe_interval": "1h", "insecure": true, "#,
        ("", _) => r#""insecure": true, "#,
        _ => "",
    };
    let object = format!("{{{rest}{}: {value}}}", json!(key.name));
    match table.name {
        "" => object,
        "app" => format!(r#"{{"insecure": true, "apps": {{"web": {object}}}}}"#),
        "check" => format!(r#"{{"insecure": true, "apps": {{"web": {{"checks": [{object}]}}}}}}"#),
        "handler" => {
            format!(
                r#"{{"insecure": true, "apps": {{"web": {{"checks": []}}}}, "handlers": {{"h": {object}}}}}"#
            )
        }
        name => format!(r#"{{"insecure": true, "{name}": {object}}}"#),
    }
}

/// Values that the key may have, to be changed a little.
fn good_values(table: &Table, key: &Key) -> Vec<Value> {
    let example: Value = serde_json::from_str(&read("etc/picored.json")).expect("JSON");
    let places = match table.name {
        "" => vec![&example],
        "app" => vec![&example["apps"]["web"]],
        "check" => example["apps"]["web"]["checks"].as_array().expect("checks").iter().collect(),
        "handler" => vec![&example["handlers"]["dns"], &example["handlers"]["mail"]],
        name => vec![&example[name]],
    };
    let mut values: Vec<Value> = places.iter().filter_map(|object| object.get(key.name)).cloned().collect();
    values.extend(match key.name {
        "keys" => vec![json!(["AAECAwQFBgcICQoLDA0ODw==", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"])],
        "allow" => vec![json!(["203.0.113.0/24", "2001:db8::/32", "::1"])],
        "body_equals" => vec![json!("OK"), json!("")],
        "verify" => vec![json!("off"), json!("http://{addr}:81/x?y")],
        "min_up" | "max_remove" => vec![json!("50%")],
        "all_down" => vec![json!("all"), json!("empty"), json!(["203.0.113.10"])],
        "minority_delay" => vec![json!("5m")],
        "witness" => vec![json!(["http://192.0.2.1:80/x"])],
        "http" => vec![json!("http://localhost:8080?x")],
        "interval" | "timeout" | "rise" | "fall" => vec![json!(7)],
        "label" => vec![json!("blue")],
        "where" => vec![json!("all"), json!("self")],
        _ => Vec::new(),
    });
    assert!(!values.is_empty(), "{} needs a value", key.name);
    values
}

/// Values at the edges of the type, and of others.
fn edges(key: &Key) -> Vec<Value> {
    let mut values: Vec<Value> = [
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "1.5",
        "1000000000",
        "\"\"",
        "\"x\"",
        "\"1\"",
        "\" \"",
        "[]",
        "[1]",
        "[null]",
        "[\"x\"]",
        "[\"\"]",
        "{}",
        "{\"// a\": 1}",
        "{\"a\": \"b\"}",
        "{\"a\": 1}",
        "{\"v\": \"x\", \"\": \"y\"}",
        "\"/x/\"",
        "\"\\u0001\"",
    ]
    .iter()
    .map(|text| serde_json::from_str(text).expect("JSON"))
    .collect();
    match &key.of {
        Type::Duration(from, to) => {
            for millis in [from.saturating_sub(1), *from, *to, to + 1] {
                values.push(json!(format!("{millis}ms")));
            }
            for (unit, millis) in
                [("s", 1_000), ("", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)]
            {
                for number in [from / millis, from / millis + 1, to / millis, to / millis + 1] {
                    values.push(json!(format!("{number}{unit}")));
                    values.push(json!(format!("00{number}{unit}")));
                }
            }
            values.extend([
                json!(from.div_ceil(1_000)),
                json!(to / 1_000),
                json!(to / 1_000 + 1),
                json!("1h30m"),
            ]);
        }
        Type::Whole(from, to) => {
            values.extend([from.saturating_sub(1), *from, *to, to + 1].map(|n| json!(n)))
        }
        Type::Size(from, to) => {
            values.extend([from - 1, *from, *to, to + 1].map(|n| json!(n)));
            values.extend(
                ["4KiB", "3KiB", "1GiB", "2GiB", "5kB", "4kB", "1073MB", "1074MB", "4096B", "4095B"]
                    .map(|n| json!(n)),
            );
        }
        Type::Word(words) => {
            values.extend(words.iter().flat_map(|word| [json!(word), json!(word.to_uppercase())]));
        }
        Type::Text { max } => values.extend([json!("a".repeat(*max)), json!("a".repeat(max + 1))]),
        Type::Path { max } => values.extend([
            json!("/".to_owned() + &"a".repeat(max - 1)),
            json!("/".to_owned() + &"a".repeat(*max)),
        ]),
        _ => {}
    }
    values
}

/// One letter of one string in it is removed, doubled or another one, or a number or an element is.
fn changed(rng: &mut Rng, value: &Value) -> Value {
    const LETTERS: &[u8] = b"0159:./-_aZ %#{}[]msKBd@,";
    let at = |rng: &mut Rng, len: usize| (rng.next_u64() % len.max(1) as u64) as usize;
    match value {
        Value::String(text) => {
            let mut bytes = text.clone().into_bytes();
            let place = at(rng, bytes.len());
            match at(rng, 3) {
                0 if !bytes.is_empty() => drop(bytes.remove(place)),
                1 if !bytes.is_empty() => bytes[place] = LETTERS[at(rng, LETTERS.len())],
                _ => bytes.insert(place, LETTERS[at(rng, LETTERS.len())]),
            }
            json!(String::from_utf8(bytes).expect("ASCII stays ASCII"))
        }
        Value::Array(list) if !list.is_empty() => {
            let mut list = list.clone();
            let place = at(rng, list.len());
            match at(rng, 4) {
                0 => drop(list.remove(place)),
                1 => list.push(list[place].clone()),
                _ => list[place] = changed(rng, &list[place].clone()),
            }
            json!(list)
        }
        Value::Object(all) if !all.is_empty() => {
            let mut all = all.clone();
            let name = all.keys().nth(at(rng, all.len())).expect("counted").clone();
            let old = all.remove(&name).expect("it is there");
            match at(rng, 2) {
                0 => drop(all.insert(name, changed(rng, &old))),
                _ => drop(all.insert(changed(rng, &json!(name)).as_str().expect("text").to_owned(), old)),
            }
            json!(all)
        }
        Value::Number(n) => json!(n.as_u64().unwrap_or(0).wrapping_mul(at(rng, 3) as u64)),
        _ => Value::Null,
    }
}

/// Goal: for any single value that is changed, the schema says what `check-config` would.
/// Method: each key with values at the edges of its type, of other types, and good ones with a letter changed.
#[test]
fn schema_and_program_agree_on_each_single_key() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    let mut rng = Rng::new(Seed { rng: seed, nonce: [0; 12] }.rng);
    let mut texts = Vec::new();
    for table in &TABLES {
        for key in table.keys {
            let good = good_values(table, key);
            // Where objects of their own stand there are tables of their own.
            let is_table = matches!(
                (table.name, key.name),
                ("", "apps" | "handlers" | "safety" | "log") | ("app", "checks")
            );
            let mut values = if is_table { Vec::new() } else { good.clone() };
            values.extend(edges(key));
            for value in good.iter().filter(|_| !is_table) {
                values.extend((0..40).map(|_| changed(&mut rng, value)));
            }
            texts.extend(values.iter().map(|value| with(table, key, &value.to_string())));
        }
        let stranger = Key { name: "strange", of: Type::Other, default: "" };
        texts.push(with(table, &stranger, "1"));
        texts.push(with(table, &Key { name: "//strange", ..stranger }, "1"));
    }
    let (taken, refused) = assert_agreed(&texts);
    println!("{taken} taken, {refused} refused; SEED={seed}");
    assert!(python().is_none() || taken > 400 && refused > 1_000, "{taken} taken, {refused} refused");
}

/// What is asked of the library above is what the command says.
#[test]
fn check_config_says_the_same() {
    let folder = Folder::new("command");
    let path = folder.0.join("c.json");
    for (text, code) in [
        (
            r#"{"insecure": true, "$schema": "picored.schema.json", "handlers": {"h": {"run": ["/bin/true"], "mode": "event"}}}"#,
            0,
        ),
        (r#"{"insecure": true, "$schema": 1}"#, 78),
        (r#"{"insecure": true, "log": {"max_size": "4095B"}}"#, 78),
        (r#"{"insecure": true, "log": {"max_size": "4096B"}}"#, 0),
        (r#"{"insecure": true, "strange": 1}"#, 78),
    ] {
        std::fs::write(&path, text).expect("own folder");
        let output =
            Command::new(env!("CARGO_BIN_EXE_picored")).arg("-c").arg(&path).arg("check-config").output();
        let output = output.expect("the binary was built");
        assert_eq!(output.status.code(), Some(code), "{text}: {}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(problems(text).is_empty(), code == 0, "{text}");
    }
}

/// A folder that goes away.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path =
            PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("docs-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).expect("the target folder can be written to");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
