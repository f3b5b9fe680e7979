//! The JSON reader in `dns-api.sh`, against serde_json.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::stage::handlers;
use crate::support::{Shell, shells};

const GOOD: [&str; 16] = [
    "0",
    " \"\" ",
    "[]",
    "{}\n",
    "[[],{},[{}]]",
    r#"{"a":[1,-2.5e3,1E+9,-0,0.25,true,false,null],"b":{"c":{"d":"e"}}}"#,
    "\t{ \"a\" :\r\n1 , \"b\"\t:[ 2 ,3 ] }\n\n",
    r#"{"result":[{"content":"192.0.2.1"},{"comment":"},{\"content\":\"192.0.2.9\"","content":"192.0.2.2"}]}"#,
    r#"["\u0041\u005A\u007a","\"\\\/","a,b,,c",",","{[,:]}","\\","\\\\\"","\\u0041"]"#,
    r#"{"a,b":{"c/d":{"~e":1,"~1":2}},"":{"":3}}"#,
    r#"["\u00e9\ud83d\ude00","\b\f\n\r\t\u0000\u001f\u007f"]"#,
    "[\"\u{e9}\u{1f600}\", \"x\"]",
    r#"[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]"#,
    "[1,2,3,4,5,6,7,8,9,10,11,12]",
    r#"{"a":1,"b":2,"c":[{"d":3},{"d":4},{"d":5,"e":[6]}]}"#,
    "12345678901234",
];

const BAD: [&str; 40] = [
    "",
    " ",
    "{",
    "[",
    "}",
    "]",
    "[1,]",
    "[,1]",
    "{\"a\":1,}",
    "{,}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\" 1}",
    "{1:2}",
    "{a:1}",
    "[1 2]",
    "[1}",
    "{\"a\":1]",
    "[1]]",
    "{}{}",
    "1,",
    "1,2",
    "01",
    "1.",
    ".5",
    "+1",
    "1e",
    "--1",
    "nul",
    "True",
    "\"a",
    "\"\\x\"",
    "\"\\u12g4\"",
    "\"\\u12\"",
    "\"a\tb\"",
    "\"a\nb\"",
    "'a'",
    "<html></html>",
    "[\"a\\\",\"b]",
    "\"\\",
];

/// Lines of path, literal and text, or nothing if it says that this is no JSON.
fn read(shell: &Shell, document: &str) -> Option<Vec<[String; 3]>> {
    let mut command = shell.command();
    command.args(["-c", "me=test; . \"$0\"; json"]).arg(handlers().join("dns-api.sh"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the shell starts");
    let mut stdin = child.stdin.take().expect("its stdin");
    let document = document.to_owned();
    let writer = std::thread::spawn(move || drop(stdin.write_all(document.as_bytes())));
    let output = child.wait_with_output().expect("it ends");
    writer.join().expect("the writer ends");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    output.status.success().then(|| text.lines().map(columns).collect())
}

fn columns(line: &str) -> [String; 3] {
    let mut parts = line.splitn(3, '\t').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap_or_else(|| panic!("three columns in {line:?}")))
}

/// Path → value, containers by their opening mark, the paths as in RFC 6901.
fn flat(value: &Value, path: String, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(i, item)| flat(item, format!("{path}/{i}"), all));
            all.insert(path, "[".into());
        }
        Value::Object(items) => {
            for (key, item) in items {
                flat(item, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), all);
            }
            all.insert(path, "{".into());
        }
        scalar => drop(all.insert(path, scalar.clone())),
    }
}

#[test]
fn json_is_read_as_others_read_it() {
    for shell in shells() {
        for document in GOOD {
            let lines = read(&shell, document).unwrap_or_else(|| panic!("{}: {document}", shell.name));
            let mut expected = BTreeMap::new();
            flat(&serde_json::from_str(document).expect("JSON"), String::new(), &mut expected);
            assert_eq!(lines.len(), expected.len(), "{}: {lines:?}", shell.name);
            for [path, literal, text] in lines {
                let value = expected.get(&path).unwrap_or_else(|| panic!("{path} of {document}"));
                if literal == "[" || literal == "{" {
                    assert_eq!(value, &Value::from(literal));
                    continue;
                }
                assert_eq!(&serde_json::from_str::<Value>(&literal).expect("a literal"), value, "{document}");
                match value {
                    // Of what is no printable ASCII the text keeps the escapes, if there were any.
                    Value::String(s) if s.bytes().all(|b| (b' '..127).contains(&b)) => assert_eq!(&text, s),
                    Value::String(_) => assert!(!text.bytes().any(|b| b < b' '), "{text:?}"),
                    _ => assert_eq!(text, literal),
                }
            }
        }
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for shell in shells() {
        for document in BAD {
            assert!(serde_json::from_str::<Value>(document).is_err(), "{document:?} is JSON");
            assert_eq!(read(&shell, document), None, "{}: {document:?}", shell.name);
        }
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(read(&shell, &nested(64)).map(|lines| lines.len()), Some(64), "{}", shell.name);
        assert_eq!(read(&shell, &nested(65)), None, "{}: too deep", shell.name);
        // Every beginning of a document is none.
        let whole = GOOD[7];
        for end in 0..whole.len() {
            assert_eq!(read(&shell, &whole[..end]), None, "{}: {:?}", shell.name, &whole[..end]);
        }
    }
}

/// A zone of a server that ignores the filter by name comes as a whole.
#[test]
fn a_long_document_takes_no_quadratic_time() {
    let record = r#"{"name":"host.example.test.","type":"A","ttl":60,"records":[{"content":"192.0.2.1","disabled":false}]}"#;
    let document = format!("[{}]", vec![record; 10_000].join(","));
    for shell in shells() {
        let began = Instant::now();
        let lines = read(&shell, &document).expect("JSON");
        assert_eq!(lines.len(), 1 + 10_000 * 8, "{}", shell.name);
        assert!(began.elapsed() < Duration::from_secs(30), "{}: {:?}", shell.name, began.elapsed());
        eprintln!("{}: {} bytes in {:?}", shell.name, document.len(), began.elapsed());
    }
}
