//! nsupdate with Knot DNS, whose access list names owners and types as BIND's update policy does.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::ports::free_port;
use crate::run;
use crate::skip::skip;
use crate::support::{Folder, Shell, shells, signal, soon, text, which};

const ZONE: &str = "example.test";
const NAME: &str = "www.example.test";
const SECRET: &str = "cGljb3JlZCB0ZXN0IGtleSBvZiAzMiBieXRlcyE9PT0=";

#[test]
fn records_follow_the_set_and_an_equal_set_writes_nothing() {
    with_knot(|knot, shell| {
        let write = |set: &str| {
            let (exit, said) = run(&mut knot.handler(shell, set));
            assert_eq!(exit, 0, "{set}: {said}");
            said
        };
        let first = knot.serial();
        write("192.0.2.1 198.51.100.7");
        assert_eq!(knot.records("A"), ["192.0.2.1", "198.51.100.7"]);
        assert_eq!(knot.serial(), first + 1, "one transaction");

        assert!(write("198.51.100.7 192.0.2.1").contains("unchanged"));
        assert_eq!(knot.serial(), first + 1, "an equal set must not be written");

        write("192.0.2.1 203.0.113.10 2001:db8::10");
        assert_eq!(knot.records("A"), ["192.0.2.1", "203.0.113.10"]);
        assert_eq!(knot.records("AAAA"), ["2001:db8::10"]);
        assert_eq!(knot.serial(), first + 2, "both families in one transaction");

        assert!(write("192.0.2.1 203.0.113.10 2001:0DB8:0::0010").contains("unchanged"));
        assert_eq!(knot.serial(), first + 2, "another spelling of the same address is no change");

        write("2001:db8::10 2001:db8::11");
        assert!(knot.records("A").is_empty(), "a family without addresses goes while the other has some");
        assert_eq!(knot.records("AAAA"), ["2001:db8::10", "2001:db8::11"]);
        assert_eq!(knot.serial(), first + 3);
    });
}

#[test]
fn several_names_and_another_ttl_are_one_transaction() {
    with_knot(|knot, shell| {
        let names = format!("{NAME}. {ZONE}");
        let before = knot.serial();
        let (exit, said) = run(knot.handler(shell, "192.0.2.1").env("DNS_NAME", names).env("DNS_TTL", "30"));
        assert_eq!(exit, 0, "{said}");
        assert_eq!(knot.serial(), before + 1);
        assert!(knot.ask(NAME, "A", "+answer").contains("\t30\t"), "the TTL follows the setting");
        assert!(knot.ask(ZONE, "A", "+short").contains("192.0.2.1"), "the apex has it too");
    });
}

#[test]
fn an_empty_set_is_refused_and_a_dry_run_writes_nothing() {
    with_knot(|knot, shell| {
        assert_eq!(run(&mut knot.handler(shell, "192.0.2.1")).0, 0);
        let before = knot.serial();
        assert_eq!(run(&mut knot.handler(shell, "")).0, 65);
        let (exit, said) = run(knot.handler(shell, "192.0.2.9").env("PICORED_DRY_RUN", "1"));
        assert_eq!(exit, 0, "{said}");
        assert!(said.contains("update add www.example.test. 60 A 192.0.2.9"), "{said}");
        assert_eq!(knot.serial(), before);
        assert_eq!(knot.records("A"), ["192.0.2.1"]);
        assert_eq!(run(knot.handler(shell, "").env("DNS_ALLOW_EMPTY", "1")).0, 0);
        assert!(knot.records("A").is_empty());
    });
}

#[test]
fn a_refusal_ends_with_1_and_says_what_was_refused() {
    with_knot(|knot, shell| {
        let before = knot.serial();
        let expect = |handler: &mut Command, word: &str| {
            let (exit, said) = run(handler);
            assert_eq!(exit, 1, "{said}");
            assert!(said.contains(word), "{word:?} is missing: {said}");
        };
        let with = |tsig: String| {
            let mut handler = knot.handler(shell, "192.0.2.1");
            handler.env("DNS_TSIG", tsig);
            handler
        };
        expect(&mut with("picored:d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I=".into()), "TSIG key");
        expect(&mut with(format!("stranger:{SECRET}")), "TSIG key");
        // Knot answers nothing, not even a question, to a key that no rule of the zone names.
        expect(&mut with(format!("reader:{SECRET}")), "TSIG key");
        expect(knot.handler(shell, "192.0.2.1").env_remove("DNS_TSIG"), "no acl");
        expect(knot.handler(shell, "192.0.2.1").env("DNS_NAME", "mail.example.test"), "no acl");
        expect(knot.handler(shell, "192.0.2.1").env("DNS_NAME", "alias.example.test"), "CNAME");
        expect(
            knot.handler(shell, "192.0.2.1")
                .env("DNS_ZONE", "example.org")
                .env("DNS_NAME", "www.example.org"),
            "example.org",
        );
        assert_eq!(knot.serial(), before);
        assert!(knot.records("A").is_empty());
    });
}

#[test]
fn a_server_that_hangs_or_is_gone_ends_with_75_and_in_time() {
    with_knot(|knot, shell| {
        signal(knot.knotd.id(), "STOP");
        let began = Instant::now();
        let (exit, said) = run(&mut knot.handler(shell, "192.0.2.1"));
        let took = began.elapsed();
        signal(knot.knotd.id(), "CONT");
        assert_eq!(exit, 75, "{said}");
        assert!(took < Duration::from_secs(6), "took {took:?}");
        assert_eq!(run(knot.handler(shell, "192.0.2.1").env("DNS_PORT", free_port().to_string())).0, 75);
    });
}

/// A Knot of one's own on a high port of 127.0.0.1, with one zone and a key that may write `NAME`, killed when dropped.
struct Knot {
    folder: Folder,
    port: u16,
    knotd: Child,
}

/// Runs `test` with a fresh server for each shell.
fn with_knot(test: impl Fn(&Knot, &Shell)) {
    for shell in shells() {
        let Some(knot) = Knot::start() else {
            return skip("knotd, kdig, dig or nsupdate is not installed; scripts/setup does it");
        };
        test(&knot, &shell);
    }
}

impl Knot {
    fn start() -> Option<Self> {
        which("knotd").and(which("kdig")).and(which("dig")).and(which("nsupdate"))?;
        // The port is free now; should somebody take it before knotd does, try another.
        (0..3).find_map(|_| Self::start_once()).or_else(|| panic!("knotd does not start"))
    }

    fn start_once() -> Option<Self> {
        let (folder, port) = (Folder::new(), free_port());
        let path = folder.0.display();
        folder.write(
            "example.test.zone",
            "$ORIGIN example.test.\n$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n\
             alias CNAME ns\n",
        );
        let config = folder.write(
            "knot.conf",
            &format!(
                "server:\n  rundir: {path}\n  listen: 127.0.0.1@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  \
                 background-workers: 1\n\
                 database:\n  storage: {path}\n\
                 log:\n  - target: stderr\n    any: info\n\
                 key:\n  - id: picored\n    algorithm: hmac-sha256\n    secret: {SECRET}\n  \
                 - id: reader\n    algorithm: hmac-sha256\n    secret: {SECRET}\n\
                 acl:\n  - id: picored\n    key: picored\n    action: update\n    update-owner: name\n    \
                 update-owner-match: equal\n    update-owner-name: [{NAME}., {ZONE}., alias.{ZONE}.]\n    \
                 update-type: [A, AAAA]\n\
                 zone:\n  - domain: {ZONE}\n    storage: {path}\n    file: example.test.zone\n    acl: picored\n"
            ),
        );
        let log = fs::File::create(folder.0.join("knotd.log")).expect("a log");
        let mut command = Command::new(which("knotd")?);
        command.arg("-c").arg(config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let knot = Self { folder, port, knotd: command.spawn().expect("knotd starts") };
        if soon(|| knot.ask(ZONE, "SOA", "+short").contains("hostmaster")) {
            return Some(knot);
        }
        eprintln!("{}", fs::read_to_string(knot.folder.0.join("knotd.log")).unwrap_or_default());
        None
    }

    fn handler(&self, shell: &Shell, set: &str) -> Command {
        let mut command = shell.handler("nsupdate");
        command.env("DNS_SERVER", "127.0.0.1").env("DNS_PORT", self.port.to_string());
        command.env("DNS_ZONE", ZONE).env("DNS_NAME", NAME).env("DNS_TIMEOUT", "2");
        command.env("DNS_TSIG", format!("picored:{SECRET}")).env("TMPDIR", &self.folder.0);
        command.env("PICORED_MODE", "sync").env("PICORED_APP", "web").env("PICORED_UP_ADDRS", set);
        command
    }

    fn ask(&self, name: &str, kind: &str, how: &str) -> String {
        let mut kdig = Command::new("kdig");
        kdig.args(["@127.0.0.1", "-p", &self.port.to_string(), "+norec", "+time=1", "+retry=0", how]);
        text(&kdig.args([name, kind]).output().expect("kdig starts"))
    }

    fn records(&self, kind: &str) -> Vec<String> {
        let mut records: Vec<String> = self.ask(NAME, kind, "+short").lines().map(str::to_owned).collect();
        records.sort();
        records
    }

    fn serial(&self) -> u32 {
        let soa = self.ask(ZONE, "SOA", "+short");
        soa.split(' ').nth(2).and_then(|serial| serial.parse().ok()).expect("a serial in the SOA")
    }
}

impl Drop for Knot {
    fn drop(&mut self) {
        let _ = self.knotd.kill();
        let _ = self.knotd.wait();
    }
}
