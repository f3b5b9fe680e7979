//! The static program where there is nothing else: no libc, no /proc, no shell, nothing but resolv.conf.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::machines::{Machine, Net, wait_for};
use crate::skip::skip;

/// What PICORED_STATIC names, or what `make static` built.
pub fn program() -> Option<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/static/picored-x86_64");
    let program = std::env::var_os("PICORED_STATIC").map_or(built, PathBuf::from);
    if !program.is_file() {
        skip(&format!("{} is not built (make static)", program.display()));
        return None;
    }
    Some(program)
}

#[test]
fn it_is_static_and_names_no_path_of_the_machine_it_was_built_on() {
    let Some(program) = program() else { return };
    let bytes = fs::read(&program).expect("it is there");
    assert_static_pie(&bytes);
    let home =
        std::env::var("CARGO_HOME").or_else(|_| std::env::var("HOME")).expect("whoever builds has a home");
    for path in [env!("CARGO_MANIFEST_DIR"), &format!("{home}/"), "/registry/src/", "/rustlib/src/"] {
        let found = bytes.windows(path.len()).position(|window| window == path.as_bytes());
        assert!(found.is_none(), "{path} at byte {found:?}");
    }
}

/// ELF, chapter 5: e_type 3 is position-independent; of the program headers 3 asks for an interpreter.
fn assert_static_pie(bytes: &[u8]) {
    let headers =
        (0..number(bytes, 56, 2)).map(|n| number(bytes, number(bytes, 32, 8) + n * number(bytes, 54, 2), 4));
    assert_eq!((&bytes[..4], number(bytes, 16, 2)), (&b"\x7fELF"[..], 3));
    assert!(!headers.clone().any(|kind| kind == 3) && headers.count() > 3, "it wants a dynamic linker");
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    bytes[at..at + len].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte))
}

/// The program for the other architecture, emulated: it starts, answers, and ends when it is told to.
#[test]
fn for_aarch64_there_is_a_program_that_runs_or_a_word_on_what_is_missing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built =
        Command::new(root.join("scripts/static")).env("ARCH", "aarch64").output().expect("sh is there");
    if !built.status.success() {
        let said = String::from_utf8_lossy(&built.stderr);
        assert!(said.contains("rustup target add aarch64-unknown-linux-musl"), "{said}");
        return;
    }
    let program = root.join("target/static/picored-aarch64");
    let bytes = fs::read(&program).expect("it was just built");
    assert_static_pie(&bytes);
    // e_machine
    assert_eq!(number(&bytes, 18, 2), 183);
    let Some(mut net) = Net::new(&["qemu-aarch64-static", "ip", "nsenter"]) else { return };
    net.add("arm", "");
    let at = net.at("arm");
    at.show(&program, "/picored");
    let emulated = "qemu-aarch64-static /picored";
    assert!(at.run(&format!("{emulated} --version")).starts_with("picored "));
    // What it checks is its own port: the emulator starts no other program of its architecture, as an exec check does.
    let config = json!({
        "node": "arm", "bind": "127.0.0.1:7946", "profile": "local",
        "keys": ["cGljb3JlZCBtZWFzdXJlcyBpdHMgb3duIG1lbW9yeSE="],
        "apps": { "itself": { "checks": [{ "tcp": "127.0.0.1:7946" }] } },
        "control": "/control", "state": "/state/state.json", "log": { "file": "/log" },
    });
    at.write("/picored.json", &config.to_string());
    at.run("chmod 600 /picored.json");
    let emulated = format!("{emulated} -c /picored.json");
    at.run(&format!("sh -c '{emulated} run; echo ended with $? >/end' </dev/null >/out 2>&1 &"));
    wait_for("it to say that it is ready and up", || {
        let (code, said) = at.code(&format!("{emulated} status"));
        (code == 0 && said.contains("arm")).then_some(())
    });
    at.run(&format!("{emulated} stop"));
    let end = wait_for("its end", || at.code("cat /end").1.strip_prefix("ended ").map(str::to_owned));
    assert_eq!(end.trim(), "with 0");
}

/// Joins by a name that a real DNS server at 127.0.0.1 has, and answers what it is asked.
#[test]
fn in_an_empty_root_it_runs_and_resolves_and_answers() {
    let Some(program) = program() else { return };
    let Some(mut net) = Net::new(&["named", "ip", "nsenter", "chroot"]) else { return };
    net.add("bare", "");
    let at = net.at("bare");
    at.write("/etc/named.conf", NAMED);
    at.write("/zone", ZONE);
    at.run("named -u root -c /etc/named.conf");
    for (n, node) in ["n1", "n2"].iter().enumerate() {
        at.show(&program, &format!("/{node}/picored"));
        at.write(&format!("/{node}/etc/resolv.conf"), "nameserver 127.0.0.1\n");
        let join = if n == 0 { json!(["peer.example.test"]) } else { json!([]) };
        let config = json!({
            "node": node, "bind": format!("127.0.0.{}:7946", n + 1), "join": join, "profile": "local",
            "control": "/control", "state": "/state/state.json", "log": { "file": "/log" },
        });
        at.write(&format!("/{node}/picored.json"), &config.to_string());
    }
    let all = at.run("cd /n1 && find . -type f | sort");
    assert_eq!(all, "./etc/resolv.conf\n./picored\n./picored.json\n", "there is nothing else");
    for node in ["n2", "n1"] {
        at.run(&format!(
            "setsid chroot /{node} /picored -c /picored.json run </dev/null >/{node}.out 2>&1 &"
        ));
    }
    let alive = |members: &Value| {
        members["members"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|member| member["state"] == "alive"))
    };
    wait_for("n1 to find n2 by its name", || ask(at, "n1", "members").filter(alive));
    let (code, said) = at.code("chroot /n1 /picored -c /picored.json status");
    assert!(code <= 1 && said.contains("n1"), "exit {code}: {said}");
    // Its own restart needs no more either.
    at.run("chroot /n1 /picored -c /picored.json restart");
    wait_for("n1 again", || ask(at, "n1", "members").filter(alive));
    at.run("chroot /n1 /picored -c /picored.json stop");
}

fn ask(at: &Machine, node: &str, words: &str) -> Option<Value> {
    serde_json::from_str(&at.code(&format!("chroot /{node} /picored -c /picored.json {words} --json")).1).ok()
}

const NAMED: &str = r#"options { directory "/"; listen-on { 127.0.0.1; }; listen-on-v6 { none; }; pid-file none;
    session-keyfile none; recursion no; dnssec-validation no; };
controls { };
zone "example.test" { type primary; file "/zone"; };
"#;
const ZONE: &str =
    "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\npeer A 127.0.0.2\n";
