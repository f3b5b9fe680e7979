//! `powerdns` against the real server, asked by dig.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::ports::free_port;
use crate::skip::skip;
use crate::stage::{NO_SETS, Run};
use crate::support::{Folder, Server, Shell, shells, soon, which};

const ZONE: &str = "example.test";
const NAME: &str = "www.example.test";
/// With what must be escaped for curl.
const KEY: &str = r#"key\"of-the-tests"#;
const SCHEMAS: [&str; 2] = [
    "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql",
    "/usr/share/doc/pdns-backend-sqlite3/schema.sqlite3.sql",
];

/// A PowerDNS of one's own with one zone, on high ports of 127.0.0.1.
struct Pdns {
    folder: Folder,
    dns: u16,
    api: u16,
    server: Server,
}

/// Runs `test` with a fresh server for each shell.
fn with_pdns(test: impl Fn(&Pdns, &Shell)) {
    for shell in shells() {
        let Some(pdns) = Pdns::start() else {
            return skip(
                "pdns_server, its sqlite3 backend, sqlite3, dig or curl is not installed; scripts/setup does it",
            );
        };
        test(&pdns, &shell);
    }
}

impl Pdns {
    fn start() -> Option<Pdns> {
        let program = which("pdns_server")?;
        which("dig").and(which("curl")).and(which("sqlite3"))?;
        let schema = SCHEMAS.into_iter().find(|path| Path::new(path).is_file())?;
        // The ports are free now; should somebody take one before the server does, try others.
        (0..3)
            .find_map(|_| Pdns::start_once(&program, schema))
            .or_else(|| panic!("pdns_server does not start"))
    }

    fn start_once(program: &Path, schema: &str) -> Option<Pdns> {
        let (folder, dns, api) = (Folder::new(), free_port(), free_port());
        let path = folder.0.display();
        let tables =
            Command::new("sqlite3").arg(folder.0.join("db")).stdin(fs::File::open(schema).ok()?).status();
        assert!(tables.expect("sqlite3 starts").success());
        let config = format!(
            "launch=gsqlite3\ngsqlite3-database={path}/db\nsocket-dir={path}\nsecurity-poll-suffix=\n\
             local-address=127.0.0.1\nlocal-port={dns}\ncache-ttl=0\nquery-cache-ttl=0\nnegquery-cache-ttl=0\n\
             api=yes\napi-key={KEY}\nwebserver=yes\nwebserver-address=127.0.0.1\nwebserver-port={api}\n\
             daemon=no\nguardian=no\nsecondary=yes\n"
        );
        folder.write("pdns.conf", &config);
        let log = fs::File::create(folder.0.join("log")).expect("a log");
        let mut command = Command::new(program);
        command.arg(format!("--config-dir={path}")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let server = Server(command.spawn().expect("pdns_server starts"));
        let pdns = Pdns { folder, dns, api, server };
        if !soon(|| pdns.call("GET", "zones", None).is_array()) {
            eprintln!("{}", fs::read_to_string(pdns.folder.0.join("log")).unwrap_or_default());
            return None;
        }
        let zone = json!({"name": "example.test.", "kind": "Native", "soa_edit_api": "INCREASE",
            "nameservers": ["ns.example.test."], "rrsets": [
                {"name": "alias.example.test.", "type": "CNAME", "ttl": 60, "records": [{"content": "ns.example.test."}]},
                {"name": "www.example.test.", "type": "TXT", "ttl": 60, "records": [{"content": "\"192.0.2.66, kept\""}]},
        ]});
        assert_eq!(pdns.call("POST", "zones", Some(zone))["name"], "example.test.");
        Some(pdns)
    }

    /// The API, past the handler; null if there is no answer.
    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Value {
        let mut curl = Command::new("curl");
        curl.args(["-q", "-s", "-X", method, "-H", &format!("X-API-Key: {KEY}")]);
        if let Some(body) = body {
            curl.args(["-d", &body.to_string()]);
        }
        curl.arg(format!("http://127.0.0.1:{}/api/v1/servers/localhost/{path}", self.api));
        serde_json::from_slice(&curl.output().expect("curl starts").stdout).unwrap_or(Value::Null)
    }

    /// The name's set of that type as the API shows it.
    fn rrset(&self, kind: &str) -> Value {
        let zone = self.call("GET", "zones/example.test.", None);
        let sets = zone["rrsets"].as_array().expect("rrsets");
        sets.iter()
            .find(|set| set["name"] == "www.example.test." && set["type"] == kind)
            .cloned()
            .unwrap_or_default()
    }

    fn run(&self, shell: &Shell, set: &str) -> Run {
        let run = Run::new(shell, "powerdns", set).env("POWERDNS_API_KEY", KEY);
        run.env("POWERDNS_URL", &format!("http://127.0.0.1:{}/", self.api))
    }

    fn dig(&self, name: &str, kind: &str, how: &str) -> Vec<String> {
        let mut dig = Command::new("dig");
        dig.args(["-r", "-p", &self.dns.to_string(), "+norecurse", "+time=2", "+tries=2", how, "+answer"]);
        let output = dig.args(["@127.0.0.1", name, kind]).output().expect("dig starts");
        let mut lines: Vec<String> =
            String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }

    fn records(&self, kind: &str) -> Vec<String> {
        self.dig(NAME, kind, "+short")
    }

    fn serial(&self) -> u32 {
        let soa = self.dig(ZONE, "SOA", "+short").concat();
        soa.split(' ').nth(2).and_then(|serial| serial.parse().ok()).expect("a serial in the SOA")
    }
}

#[test]
fn records_follow_the_set_and_an_equal_set_writes_nothing() {
    with_pdns(|pdns, shell| {
        let first = pdns.serial();
        pdns.run(shell, "192.0.2.1 198.51.100.7").ends_with(0).says("written");
        assert_eq!(pdns.records("A"), ["192.0.2.1", "198.51.100.7"]);
        assert_eq!(pdns.serial(), first + 1, "one transaction");

        pdns.run(shell, "198.51.100.7 192.0.2.1").ends_with(0).says("unchanged");
        assert_eq!(pdns.serial(), first + 1, "an equal set must not be written");

        pdns.run(shell, "192.0.2.1 198.51.100.7 2001:db8::10").ends_with(0);
        assert_eq!(pdns.records("AAAA"), ["2001:db8::10"]);
        pdns.run(shell, "192.0.2.1 203.0.113.10 2001:db8:0:1::10").ends_with(0);
        assert_eq!(pdns.records("A"), ["192.0.2.1", "203.0.113.10"]);
        assert_eq!(pdns.records("AAAA"), ["2001:db8:0:1::10"]);
        assert_eq!(pdns.serial(), first + 3, "both families in one transaction");
        pdns.run(shell, "192.0.2.1 203.0.113.10 2001:0DB8:0:1:0::0010").ends_with(0).says("unchanged");

        pdns.run(shell, "203.0.113.10").ends_with(0);
        assert!(pdns.records("AAAA").is_empty(), "a family without addresses goes while the other has some");
        pdns.run(shell, "2001:db8::10 ::ffff:192.0.2.7 2001:db8:0:0:1::").ends_with(0);
        assert!(pdns.records("A").is_empty());
        assert_eq!(pdns.records("AAAA"), ["2001:db8:0:0:1::", "2001:db8::10", "::ffff:192.0.2.7"]);
        pdns.run(shell, "2001:db8::10 ::ffff:192.0.2.7 2001:db8:0:0:1::").ends_with(0).says("unchanged");
        assert_eq!(pdns.serial(), first + 5);
        assert_eq!(pdns.records("TXT"), ["\"192.0.2.66, kept\""]);
    });
}

#[test]
fn several_names_and_another_ttl_are_one_transaction() {
    with_pdns(|pdns, shell| {
        pdns.run(shell, "192.0.2.1").ends_with(0);
        let before = pdns.serial();
        let run = pdns.run(shell, "192.0.2.1 2001:db8::1").env("DNS_TTL", "30");
        run.env("DNS_NAME", "WWW.example.test. example.test *.app.example.test www.example.test")
            .ends_with(0);
        assert_eq!(pdns.serial(), before + 1);
        assert!(pdns.dig(NAME, "A", "+noall").concat().contains("\t30\t"), "the TTL follows the setting");
        for name in [ZONE, "x.app.example.test"] {
            assert_eq!(pdns.dig(name, "AAAA", "+short"), ["2001:db8::1"]);
        }
    });
}

#[test]
fn comments_disabled_records_and_types_that_are_not_ours_stay() {
    with_pdns(|pdns, shell| {
        let set = json!({"rrsets": [{"name": "www.example.test.", "type": "A", "ttl": 60, "changetype": "REPLACE",
            "records": [{"content": "192.0.2.1", "disabled": false}, {"content": "192.0.2.8", "disabled": true},
                        {"content": "192.0.2.9", "disabled": true}],
            "comments": [{"content": "},{\"content\":\"192.0.2.5\"", "account": "ops"}]}]});
        pdns.call("PATCH", "zones/example.test.", Some(set));
        assert_eq!(pdns.records("A"), ["192.0.2.1"]);
        pdns.run(shell, "192.0.2.1").ends_with(0).says("unchanged");

        pdns.run(shell, "192.0.2.2 192.0.2.9 2001:db8::1").ends_with(0);
        assert_eq!(pdns.records("A"), ["192.0.2.2", "192.0.2.9"]);
        let set = pdns.rrset("A");
        assert_eq!(set["comments"][0]["account"], "ops", "{set}");
        let off = |record: &&Value| record["disabled"] == true;
        let disabled: Vec<&Value> = set["records"].as_array().expect("records").iter().filter(off).collect();
        assert_eq!(disabled.len(), 1, "{set}");
        assert_eq!(disabled[0]["content"], "192.0.2.8");

        pdns.run(shell, "192.0.2.3").env("DNS_TYPES", "A").ends_with(0);
        assert_eq!(pdns.records("AAAA"), ["2001:db8::1"], "not ours");
        pdns.run(shell, "2001:db8::1").env("DNS_TYPES", "A").ends_with(65);
        pdns.run(shell, "2001:db8::1").ends_with(0);
        assert!(pdns.records("A").is_empty());
        assert_eq!(pdns.rrset("A")["records"].as_array().map(Vec::len), Some(1), "the disabled one stays");
    });
}

#[test]
fn where_more_is_found_than_is_shown_nothing_is_written() {
    with_pdns(|pdns, shell| {
        let many = |count: u32| {
            let texts = (0..count).map(|n| json!({"content": format!("\"{n}\""), "disabled": false}));
            let set = json!({"rrsets": [{"name": "www.example.test.", "type": "TXT", "ttl": 60,
                "changetype": "REPLACE", "records": texts.collect::<Vec<_>>()}]});
            pdns.call("PATCH", "zones/example.test.", Some(set));
        };
        many(990);
        pdns.run(shell, "192.0.2.1").ends_with(0).says("written");
        many(1001);
        let before = pdns.serial();
        pdns.run(shell, "192.0.2.2").ends_with(1).says("nothing was written").says("1000");
        assert_eq!((pdns.serial(), pdns.records("A")), (before, vec!["192.0.2.1".to_owned()]));
        // What is right already needs no search.
        pdns.run(shell, "192.0.2.1").ends_with(0).says("unchanged");
    });
}

#[test]
fn an_empty_set_and_what_is_no_address_are_refused() {
    with_pdns(|pdns, shell| {
        pdns.run(shell, "192.0.2.1 2001:db8::1").ends_with(0);
        let before = pdns.serial();
        for set in NO_SETS {
            pdns.run(shell, set).ends_with(65).says("refused");
        }
        assert_eq!(pdns.serial(), before);
        assert_eq!(pdns.records("A"), ["192.0.2.1"]);
        pdns.run(shell, "").env("DNS_ALLOW_EMPTY", "1").ends_with(0);
        assert!(pdns.records("A").is_empty() && pdns.records("AAAA").is_empty());
        assert_eq!(pdns.records("TXT").len(), 1);
    });
}

#[test]
fn a_dry_run_prints_and_writes_nothing() {
    with_pdns(|pdns, shell| {
        let before = pdns.serial();
        let ended = pdns.run(shell, "192.0.2.1").env("PICORED_DRY_RUN", "1").ends_with(0);
        ended.says("www.example.test A: none -> 192.0.2.1").says("nothing was sent");
        assert_eq!(pdns.serial(), before);
        assert!(pdns.records("A").is_empty());
    });
}

#[test]
fn a_refusal_ends_with_1_and_says_what_to_do() {
    with_pdns(|pdns, shell| {
        let before = pdns.serial();
        let secondary = json!({"name": "copy.test.", "kind": "Secondary", "masters": ["127.0.0.1"]});
        pdns.call("POST", "zones", Some(secondary));
        let wrong =
            pdns.run(shell, "192.0.2.1").env("POWERDNS_API_KEY", "wrong-key-of-the-tests").ends_with(1);
        wrong.says("401").says("POWERDNS_API_KEY").keeps_quiet_about("wrong-key-of-the-tests");
        let missing =
            pdns.run(shell, "192.0.2.1").env("DNS_ZONE", "example.org").env("DNS_NAME", "www.example.org");
        missing.ends_with(1).says("no zone example.org");
        let copy = pdns.run(shell, "192.0.2.1").env("DNS_ZONE", "copy.test").env("DNS_NAME", "www.copy.test");
        copy.ends_with(1).says("primary");
        pdns.run(shell, "192.0.2.1").env("DNS_NAME", "alias.example.test").ends_with(1).says("CNAME");
        pdns.run(shell, "192.0.2.1").env("POWERDNS_SERVER_ID", "other").ends_with(1).says("POWERDNS_URL");
        assert_eq!(pdns.serial(), before);
    });
}

#[test]
fn a_server_that_hangs_or_is_gone_ends_with_75_and_in_time() {
    with_pdns(|pdns, shell| {
        pdns.server.signal("STOP");
        let ended = pdns.run(shell, "192.0.2.1").env("DNS_TIMEOUT", "2").ends();
        pdns.server.signal("CONT");
        assert_eq!(ended.code, 75, "{}", ended.output);
        ended.keeps_quiet_about(KEY);
        assert!(ended.took < Duration::from_secs(10), "took {:?}", ended.took);

        let gone =
            pdns.run(shell, "192.0.2.1").env("POWERDNS_URL", &format!("http://127.0.0.1:{}", free_port()));
        gone.ends_with(75);
        pdns.run(shell, "192.0.2.1").env("POWERDNS_URL", "http://gone.invalid:8081").ends_with(75);
        // No TLS there.
        let tls =
            pdns.run(shell, "192.0.2.1").env("POWERDNS_URL", &format!("https://127.0.0.1:{}", pdns.api));
        tls.ends_with(75);
    });
}
