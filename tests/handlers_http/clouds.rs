//! `cloudflare` and `hetzner` against the stand-in, and what holds for both.

use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::ports::free_port;
use crate::skip::skip;
use crate::stage::{NO_SETS, Run};
use crate::support::{Folder, Server, Shell, called, fail_at, failing, shells, soon, which};

const NAME: &str = "www.example.test";
const CLOUDS: [Cloud; 2] = [
    Cloud {
        name: "cloudflare",
        settings: "CLOUDFLARE",
        path: "client/v4",
        token: "cloudflare-token-of-the-tests",
    },
    Cloud { name: "hetzner", settings: "HETZNER", path: "v1", token: "hetzner-token-of-the-tests" },
];

#[derive(Clone, Copy)]
struct Cloud {
    name: &'static str,
    settings: &'static str,
    path: &'static str,
    token: &'static str,
}

/// The stand-in, playing one cloud.
struct Stand {
    cloud: Cloud,
    folder: Folder,
    port: u16,
    _server: Server,
}

/// A request as the stand-in saw it, and what was published after it.
#[derive(Debug)]
struct Seen {
    method: String,
    path: String,
    status: u64,
    body: Value,
    published: BTreeSet<String>,
}

impl Seen {
    fn writes(&self) -> bool {
        self.method != "GET"
    }
}

/// Runs `test` with a fresh stand-in for each cloud of `clouds` and each shell, all at the same time.
fn with(clouds: &[Cloud], seed: &Value, test: impl Fn(&Stand, &Shell) + Sync) {
    with_shells(&shells(), clouds, seed, test);
}

fn with_shells(shells: &[Shell], clouds: &[Cloud], seed: &Value, test: impl Fn(&Stand, &Shell) + Sync) {
    if which("curl").and(which("python3")).is_none() {
        return skip("python3 or curl is not installed; scripts/setup does it");
    }
    std::thread::scope(|scope| {
        for (shell, &cloud) in shells.iter().flat_map(|shell| clouds.iter().map(move |cloud| (shell, cloud)))
        {
            let test = &test;
            scope.spawn(move || test(&Stand::start(cloud, seed), shell));
        }
    });
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

fn fault(on: &str, nth: usize, does: &Value) -> Value {
    let mut fault = json!({"on": on, "nth": nth});
    fault.as_object_mut().expect("an object").append(&mut does.as_object().expect("an object").clone());
    json!({"page": 2, "faults": [fault]})
}

impl Stand {
    fn start(cloud: Cloud, seed: &Value) -> Stand {
        // The port is free now; should somebody take it first, try another.
        let started = (0..3).find_map(|_| Stand::start_once(cloud, seed));
        started.unwrap_or_else(|| panic!("the stand-in does not start"))
    }

    fn start_once(cloud: Cloud, seed: &Value) -> Option<Stand> {
        let (folder, port) = (Folder::new(), free_port());
        folder.write("seed.json", &seed.to_string());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/handlers_http/clouds.py");
        let mut command = Command::new("python3");
        command.args(["-B", script, &port.to_string()]).arg(&folder.0).stdin(Stdio::null());
        let mut server = Server(command.spawn().expect("python3 starts"));
        let up = || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok();
        if !soon(|| up() || server.0.try_wait().is_ok_and(|end| end.is_some())) || !up() {
            return None;
        }
        let stand = Stand { cloud, folder, port, _server: server };
        stand.plan(&json!({}));
        Some(stand)
    }

    fn plan(&self, plan: &Value) {
        // The stand-in counts anew when the text changes.
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let mut plan = plan.clone();
        plan["number"] = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed).into();
        self.folder.write("plan.new", &plan.to_string());
        fs::rename(self.folder.0.join("plan.new"), self.folder.0.join("plan.json")).expect("renamed");
    }

    fn run(&self, shell: &Shell, set: &str) -> Run {
        let Cloud { name, settings, path, token } = self.cloud;
        let run = Run::new(shell, name, set).env(&format!("{settings}_API_TOKEN"), token);
        run.env(&format!("{settings}_URL"), &format!("http://127.0.0.1:{}/{path}", self.port))
    }

    /// The requests since the last call.
    fn log(&self) -> Vec<Seen> {
        let file = self.folder.0.join("log.jsonl");
        let text = fs::read_to_string(&file).unwrap_or_default();
        let _ = fs::remove_file(&file);
        text.lines().map(|line| self.seen(&serde_json::from_str(line).expect("JSON in the log"))).collect()
    }

    fn seen(&self, line: &Value) -> Seen {
        let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        Seen {
            method: word("method"),
            path: word("path"),
            status: line["status"].as_u64().unwrap_or_default(),
            body: serde_json::from_str(&word("body")).unwrap_or_default(),
            published: self.of_name(&line["published"], NAME),
        }
    }

    fn of_name(&self, published: &Value, name: &str) -> BTreeSet<String> {
        let all = published[format!("{} {name}", self.cloud.name)].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| one.as_str().expect("a record").to_owned()).collect()
    }

    fn state(&self) -> Value {
        let text = fs::read_to_string(self.folder.0.join("state.json")).expect("a state");
        serde_json::from_str(&text).expect("JSON in the state")
    }

    /// "A 192.0.2.1" and so on.
    fn published(&self) -> BTreeSet<String> {
        self.of_name(&self.state()["published"], NAME)
    }

    /// The one record or set of records that `is` picks.
    fn item(&self, is: impl Fn(&Value) -> bool) -> Value {
        let state = self.state();
        let items = state[self.cloud.name].as_array().expect("a list");
        items.iter().find(|item| is(item)).cloned().unwrap_or_default()
    }

    fn writes(&self) -> Vec<Seen> {
        self.log().into_iter().filter(Seen::writes).collect()
    }
}

#[test]
fn records_follow_the_set_over_pages_and_an_equal_set_writes_nothing() {
    let plans = [
        json!({"page": 2}),
        json!({"page": 1, "style": "weird", "polls": 1}),
        json!({"page": 2, "no_total_pages": true, "style": "weird"}),
    ];
    with(&CLOUDS, &json!({}), |stand, shell| {
        for plan in &plans {
            stand.plan(plan);
            let five = "192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4 2001:0DB8:0::0010";
            stand.run(shell, five).ends_with(0).says("written");
            let all = ["A 192.0.2.1", "A 192.0.2.2", "A 192.0.2.3", "A 192.0.2.4", "AAAA 2001:db8::10"];
            assert_eq!(stand.published(), set(&all));
            assert!(!stand.writes().is_empty());
            stand.run(shell, five).ends_with(0).says("unchanged");
            assert_eq!(stand.writes().len(), 0, "an equal set must not be written");

            stand.run(shell, "192.0.2.4 192.0.2.9 2001:db8::10").ends_with(0);
            assert_eq!(stand.published(), set(&["A 192.0.2.4", "A 192.0.2.9", "AAAA 2001:db8::10"]));
            stand.run(shell, "192.0.2.9").ends_with(0);
            assert_eq!(stand.published(), set(&["A 192.0.2.9"]), "a family without addresses goes");
            stand.run(shell, "::1").ends_with(0);
            assert_eq!(stand.published(), set(&["AAAA ::1"]));
            for seen in stand.log() {
                assert!(!seen.published.is_empty() || !seen.writes(), "empty after {seen:?}");
            }
            stand.run(shell, "::1").ends_with(0).says("unchanged");
            assert_eq!(stand.writes().len(), 0);
            stand.run(shell, "").env("DNS_ALLOW_EMPTY", "1").ends_with(0);
            assert_eq!(stand.published(), set(&[]));
        }
    });
}

#[test]
fn several_names_are_added_to_before_any_is_deleted_from() {
    with(&CLOUDS, &json!({}), |stand, shell| {
        let names = "www.example.test WWW.example.test. example.test *.app.example.test";
        let run = |set: &str| stand.run(shell, set).env("DNS_NAME", names).ends_with(0);
        run("192.0.2.1 192.0.2.2");
        stand.log();
        run("2001:db8::1");
        let state = stand.state();
        for name in [NAME, "example.test", "*.app.example.test"] {
            assert_eq!(stand.of_name(&state["published"], name), set(&["AAAA 2001:db8::1"]), "{name}");
        }
        let methods: Vec<String> = stand.writes().into_iter().map(|seen| seen.method).collect();
        let deletes = if stand.cloud.name == "cloudflare" { 6 } else { 3 };
        let expected: Vec<&str> =
            std::iter::repeat_n("POST", 3).chain(std::iter::repeat_n("DELETE", deletes)).collect();
        assert_eq!(methods, expected);
    });
}

/// Every write fails in every way that leaves the writer in doubt; what is published then is never less than what
/// both sets share, and never empty, and the next run finishes the work.
#[test]
fn a_run_that_fails_half_way_leaves_too_many_rather_than_too_few() {
    let one = ("192.0.2.1 192.0.2.2 2001:db8::1", set(&["A 192.0.2.1", "A 192.0.2.2", "AAAA 2001:db8::1"]));
    let other = ("192.0.2.2 192.0.2.3 192.0.2.4", set(&["A 192.0.2.2", "A 192.0.2.3", "A 192.0.2.4"]));
    let ways = [
        json!({"do": "status", "status": 503}),
        json!({"do": "status", "status": 502, "html": true}),
        json!({"do": "drop"}),
        json!({"do": "lose"}),
    ];
    with(&CLOUDS, &json!({}), |stand, shell| {
        let count = |log: &[Seen]| log.iter().filter(|seen| seen.writes()).count();
        stand.run(shell, one.0).ends_with(0);
        stand.log();
        stand.run(shell, other.0).ends_with(0);
        let writes = count(&stand.log());
        assert!(writes >= 2, "{writes} writes");
        // From one to the other, then back.
        let (mut old, mut new) = (&other, &one);
        for nth in 1..=writes {
            for way in &ways {
                stand.plan(&fault("write", nth, way));
                stand.run(shell, new.0).ends_with(75);
                let log = stand.log();
                for seen in &log {
                    let now = &seen.published;
                    assert!(
                        now.is_superset(&old.1) || now.is_superset(&new.1),
                        "{way}, write {nth}: {now:?}"
                    );
                }
                assert_eq!(count(&log), nth, "{way}: nothing is sent after write {nth}");
                stand.run(shell, new.0).ends_with(0);
                stand.log();
                assert_eq!(stand.published(), new.1, "{way}, write {nth}");
                (old, new) = (new, old);
            }
        }
    });
}

#[test]
fn what_may_pass_ends_with_75_and_writes_nothing() {
    let ways = [
        json!({"do": "status", "status": 429, "headers": {"Retry-After": "37"}}),
        json!({"do": "status", "status": 429}),
        json!({"do": "status", "status": 500}),
        json!({"do": "status", "status": 502, "html": true}),
        json!({"do": "status", "status": 403, "headers": {"Retry-After": "37"}}),
        json!({"do": "status", "status": 409}),
        json!({"do": "status", "status": 423}),
        json!({"do": "html"}),
        json!({"do": "cut"}),
        json!({"do": "huge"}),
        json!({"do": "drop"}),
    ];
    with(&CLOUDS, &json!({}), |stand, shell| {
        stand.run(shell, "192.0.2.1").ends_with(0);
        for way in &ways {
            stand.log();
            stand.plan(&fault("read", 1, way));
            let ended = stand.run(shell, "192.0.2.2").ends_with(75);
            ended.keeps_quiet_about("<html>").keeps_quiet_about(stand.cloud.token);
            if way["headers"].is_object() {
                ended.says("37");
            }
            if way["do"] == "huge" {
                ended.says("4 MiB");
            }
            assert_eq!(stand.log().len(), 1, "{way}: nothing after it");
            stand.plan(&fault(
                "write",
                1,
                &json!({"do": "status", "status": 429, "headers": {"Retry-After": "37"}}),
            ));
            stand.run(shell, "192.0.2.2").ends_with(75).says("37");
            assert_eq!(stand.published(), set(&["A 192.0.2.1"]));
        }
    });
}

/// No memory for one more process, say. Each call of each program fails in turn; the published set is then never less
/// than the old one or the new one, and success is said only if it is true.
#[test]
fn a_program_that_fails_never_shortens_a_set() {
    let (old, new) = ("192.0.2.1 2001:db8::1", "192.0.2.2");
    let old_set = set(&["A 192.0.2.1", "AAAA 2001:db8::1"]);
    let new_set = set(&["A 192.0.2.2"]);
    let bin = failing(&["awk", "cat", "curl", "mv", "sed", "sort", "tr"]);
    // What fails is the same program in every shell.
    with_shells(&shells()[..1], &CLOUDS, &json!({}), |stand, shell| {
        let failing = |at: usize, calls: &Folder| {
            let settings = fail_at(at, &bin, calls);
            settings.iter().fold(stand.run(shell, new), |run, (name, value)| run.env(name, value))
        };
        stand.run(shell, old).ends_with(0);
        let calls = Folder::new();
        failing(usize::MAX, &calls).ends_with(0);
        let all = called(&calls);
        assert!(all > 50, "{all} calls");
        for at in 0..all {
            if stand.published() != old_set {
                stand.run(shell, old).ends_with(0);
            }
            stand.log();
            let ended = failing(at, &Folder::new()).ends();
            for seen in stand.log() {
                let now = &seen.published;
                assert!(
                    now.is_superset(&old_set) || now.is_superset(&new_set),
                    "call {at}: {now:?}, {}",
                    ended.output
                );
            }
            match ended.code {
                0 => assert_eq!(stand.published(), new_set, "call {at}: {}", ended.output),
                code => assert_eq!(code, 75, "call {at}: {}", ended.output),
            }
        }
    });
}

/// Filters are the API's; what another name has must not depend on them.
#[test]
fn other_names_stay_even_if_the_list_holds_them() {
    with(&CLOUDS, &json!({}), |stand, shell| {
        stand.run(shell, "192.0.2.1").env("DNS_NAME", "other.example.test").ends_with(0);
        stand.plan(&json!({"unfiltered": true, "page": 2}));
        stand.run(shell, "192.0.2.2 192.0.2.3").ends_with(0);
        stand.run(shell, "192.0.2.3").ends_with(0);
        assert_eq!(stand.published(), set(&["A 192.0.2.3"]));
        assert_eq!(stand.of_name(&stand.state()["published"], "other.example.test"), set(&["A 192.0.2.1"]));
    });
}

#[test]
fn an_answer_without_its_list_is_not_an_empty_list() {
    with(&CLOUDS, &json!({}), |stand, shell| {
        stand.run(shell, "192.0.2.1").ends_with(0);
        stand.log();
        // The first answer is Cloudflare's list of zones.
        let nth = if stand.cloud.name == "cloudflare" { 2 } else { 1 };
        stand.plan(&fault("read", nth, &json!({"do": "empty"})));
        let ended = stand.run(shell, "192.0.2.2").ends();
        assert!(matches!(ended.code, 1 | 75), "{}", ended.output);
        assert_eq!(stand.writes().len(), 0);
    });
}

#[test]
fn slow_answers_end_with_75_in_time_and_no_argument_tells_the_token() {
    with(&CLOUDS, &json!({}), |stand, shell| {
        let ways = [json!({"do": "slow", "seconds": 30}), json!({"do": "trickle"})];
        for (i, way) in ways.iter().enumerate() {
            for on in ["read", "write"] {
                stand.plan(&fault(on, 1, way));
                // What is written slowly is written: another set each time.
                let run = stand.run(shell, &format!("192.0.2.{}", i + 1)).env("DNS_TIMEOUT", "2");
                let (token, url) = (stand.cloud.token, format!("127.0.0.1:{}", stand.port));
                let handler = std::thread::spawn(move || run.ends());
                let mut curls = 0;
                while !handler.is_finished() {
                    for arguments in arguments_of_all() {
                        assert!(!arguments.contains(token), "{arguments}");
                        assert!(!arguments.contains(&url), "{arguments}");
                        curls += usize::from(arguments.starts_with("curl -q"));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                let ended = handler.join().expect("the handler ran");
                assert!(curls > 0, "no curl was seen");
                assert_eq!(ended.code, 75, "{way} {on}: {}", ended.output);
                assert!(ended.took < Duration::from_secs(10), "{way} {on}: took {:?}", ended.took);
            }
        }
    });
}

/// The arguments of all processes, but for this test's own.
fn arguments_of_all() -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let texts = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok());
    texts.map(|text| String::from_utf8_lossy(&text).replace('\0', " ")).collect()
}

#[test]
fn a_refusal_ends_with_1_says_what_to_check_and_never_tells_the_token() {
    with(&CLOUDS, &json!({}), |stand, shell| {
        stand.run(shell, "192.0.2.1").ends_with(0);
        stand.log();
        let setting = format!("{}_API_TOKEN", stand.cloud.settings);
        let wrong = stand.run(shell, "192.0.2.2").env(&setting, "wrong-token-of-the-tests").ends_with(1);
        wrong.says(&setting).keeps_quiet_about("wrong-token-of-the-tests");
        for (on, way) in [
            ("read", json!({"do": "echo"})),
            ("write", json!({"do": "echo"})),
            ("read", json!({"do": "status", "status": 301, "headers": {"Location": "http://127.0.0.1:1/"}})),
            ("write", json!({"do": "status", "status": 400})),
        ] {
            stand.plan(&fault(on, 1, &way));
            stand.run(shell, "192.0.2.2").ends_with(1).keeps_quiet_about(stand.cloud.token);
        }
        stand.plan(&json!({}));
        let other =
            stand.run(shell, "192.0.2.2").env("DNS_ZONE", "example.org").env("DNS_NAME", "www.example.org");
        other.ends_with(1).says("no zone example.org");
        assert_eq!(stand.published(), set(&["A 192.0.2.1"]));
    });
}

#[test]
fn sets_that_are_none_and_dry_runs_write_nothing() {
    with(&CLOUDS, &json!({}), |stand, shell| {
        for set in NO_SETS {
            stand.run(shell, set).ends_with(65).says("refused");
        }
        stand.run(shell, "2001:db8::1").env("DNS_TYPES", "A").ends_with(65);
        assert_eq!(stand.log().len(), 0, "not even asked");
        stand.run(shell, "192.0.2.1 2001:db8::1").ends_with(0);
        stand.log();
        let dry = stand.run(shell, "192.0.2.2").env("PICORED_DRY_RUN", "1").ends_with(0);
        dry.says("www.example.test A: 192.0.2.1 -> 192.0.2.2")
            .says("www.example.test AAAA: 2001:db8::1 -> none");
        assert_eq!(stand.writes().len(), 0);
        stand.run(shell, "192.0.2.2").env("DNS_TYPES", "A").ends_with(0);
        assert_eq!(
            stand.published(),
            set(&["A 192.0.2.2", "AAAA 2001:db8::1"]),
            "types that are not ours stay"
        );
    });
}

#[test]
fn a_service_that_is_gone_or_speaks_no_tls_ends_with_75() {
    with(&CLOUDS, &json!({}), |stand, shell| {
        let url = format!("{}_URL", stand.cloud.settings);
        for at in [
            format!("http://127.0.0.1:{}", free_port()),
            format!("https://127.0.0.1:{}", stand.port),
            "https://gone.invalid/v1".to_owned(),
        ] {
            stand.run(shell, "192.0.2.1").env(&url, &at).ends_with(75).keeps_quiet_about(stand.cloud.token);
        }
    });
}

#[test]
fn a_name_that_is_an_alias_is_refused() {
    let seed = json!({
        "cloudflare": [{"name": NAME, "type": "CNAME", "content": "other.example.net"}],
        "hetzner": [{"name": "www", "type": "CNAME", "ttl": 60, "records": [{"value": "other.example.net.", "comment": ""}]}],
    });
    with(&CLOUDS, &seed, |stand, shell| {
        stand.run(shell, "192.0.2.1").ends_with(1).says("CNAME");
        assert_eq!(stand.writes().len(), 0);
    });
}

// --- Cloudflare ------------------------------------------------------------------------------------

#[test]
fn cloudflare_leaves_right_records_alone_and_new_ones_are_like_them() {
    let comment = "},{\"content\":\"192.0.2.77\",\"type\":\"A\"";
    let seed = json!({"cloudflare": [
        {"name": NAME, "type": "A", "content": "192.0.2.1", "ttl": 1, "proxied": true, "comment": comment},
        {"name": NAME, "type": "TXT", "content": "\"192.0.2.66\"", "ttl": 300},
        {"name": "other.example.test", "type": "A", "content": "192.0.2.67", "ttl": 300},
    ]});
    with(&CLOUDS[..1], &seed, |stand, shell| {
        let record =
            |name: &str, content: &str| stand.item(|item| item["name"] == name && item["content"] == content);
        stand.plan(&json!({"page": 1, "style": "weird"}));
        stand.run(shell, "192.0.2.1 192.0.2.2 2001:db8::1").env("DNS_TTL", "120").ends_with(0);
        let kept = record(NAME, "192.0.2.1");
        assert_eq!(
            (&kept["comment"], &kept["id"]),
            (&comment.into(), &format!("{:032x}", 1).into()),
            "{kept}"
        );
        for content in ["192.0.2.2", "2001:db8::1"] {
            let new = record(NAME, content);
            assert_eq!((&new["proxied"], &new["ttl"]), (&true.into(), &1.into()), "{new}");
        }
        // Its TTL is not DNS_TTL, but that is no reason to write.
        stand.log();
        stand
            .run(shell, "192.0.2.1 192.0.2.2 2001:db8::1")
            .env("DNS_TTL", "120")
            .ends_with(0)
            .says("unchanged");
        assert_eq!(stand.writes().len(), 0);

        let apex = stand.run(shell, "192.0.2.1").env("DNS_NAME", "example.test").env("DNS_TTL", "120");
        apex.ends_with(0);
        let new = record("example.test", "192.0.2.1");
        assert_eq!((&new["proxied"], &new["ttl"]), (&false.into(), &120.into()), "{new}");
        stand.run(shell, "192.0.2.9").ends_with(0);
        assert_eq!(stand.published(), set(&["A 192.0.2.9", "TXT \"192.0.2.66\""]));
        assert_eq!(record("other.example.test", "192.0.2.67")["ttl"], 300);
    });
}

#[test]
fn cloudflare_asks_for_its_zone_only_without_an_id() {
    with(&CLOUDS[..1], &json!({}), |stand, shell| {
        let id = "023e105f4ecef8ad9ca31a8372d0c353";
        stand.run(shell, "192.0.2.1").env("CLOUDFLARE_ZONE_ID", id).ends_with(0);
        assert!(stand.log().iter().all(|seen| seen.path.starts_with(&format!("/client/v4/zones/{id}/"))));
        stand.run(shell, "192.0.2.1").ends_with(0).says("unchanged");
        let asked: Vec<String> = stand.log().into_iter().map(|seen| seen.path).collect();
        assert_eq!(asked[0], "/client/v4/zones?name=example.test&per_page=50");
        assert!(asked[1].contains("dns_records?name.exact=www.example.test&"), "{asked:?}");
        let other = stand.run(shell, "192.0.2.2").env("CLOUDFLARE_ZONE_ID", "b0b0");
        other.ends_with(1).says("identifier");
    });
}

#[test]
fn cloudflare_takes_a_record_that_somebody_else_wrote_in_between() {
    with(&CLOUDS[..1], &json!({}), |stand, shell| {
        stand.run(shell, "192.0.2.1 192.0.2.2").ends_with(0);
        stand.log();
        stand.plan(&fault("read", 2, &json!({"do": "blind"})));
        stand.run(shell, "192.0.2.1 192.0.2.2").ends_with(0);
        let statuses: Vec<u64> = stand.writes().iter().map(|seen| seen.status).collect();
        assert_eq!(statuses, [400, 400], "identical records");
        // Gone when it comes to delete it.
        stand.plan(&fault("write", 2, &json!({"do": "status", "status": 404})));
        stand.run(shell, "192.0.2.2 192.0.2.3").ends_with(75).says("not all is there");
        stand.run(shell, "192.0.2.2 192.0.2.3").ends_with(0);
        // A refusal that comes as a success.
        stand.plan(&fault("write", 1, &json!({"do": "refuse"})));
        stand.run(shell, "192.0.2.4").ends_with(1).says("DNS Validation Error").says("1004");
        assert_eq!(stand.published(), set(&["A 192.0.2.2", "A 192.0.2.3"]));
    });
}

// --- Hetzner ---------------------------------------------------------------------------------------

fn hetzner_set(kind: &str, ttl: Value, records: Value) -> Value {
    json!({"id": format!("www/{kind}"), "name": "www", "type": kind, "ttl": ttl, "labels": {"a": "b"},
        "protection": {"change": false}, "records": records, "zone": 42})
}

#[test]
fn hetzner_keeps_comments_and_labels_and_sets_the_ttl() {
    let comment = "},{\"value\":\"192.0.2.77\" \\ \u{e9}\t";
    let records = json!([{"value": "192.0.2.1", "comment": comment}, {"value": "192.0.2.2", "comment": ""}]);
    let seed = json!({"hetzner": [
        hetzner_set("TXT", 60.into(), json!([{"value": "\"192.0.2.66\"", "comment": ""}])),
        hetzner_set("A", Value::Null, records),
    ]});
    with(&CLOUDS[1..], &seed, |stand, shell| {
        stand.plan(&json!({"page": 1, "style": "weird"}));
        let a = || stand.item(|item| item["type"] == "A");
        // The zone's own TTL is in force there, and DNS_TTL says otherwise.
        stand.run(shell, "192.0.2.1 192.0.2.2").ends_with(0).says("TTL");
        assert_eq!(a()["ttl"], 60);
        let writes = stand.writes();
        assert_eq!(writes.len(), 1, "{writes:?}");
        assert_eq!(writes[0].body, json!({"ttl": 60}));

        stand.run(shell, "192.0.2.3 192.0.2.1").env("DNS_TTL", "300").ends_with(0);
        let now = a();
        assert_eq!(
            now["records"],
            json!([{"value": "192.0.2.1", "comment": comment}, {"value": "192.0.2.3", "comment": ""}])
        );
        assert_eq!((&now["ttl"], &now["labels"]), (&300.into(), &json!({"a": "b"})));
        assert_eq!(stand.writes().len(), 2);
        assert_eq!(stand.published(), set(&["A 192.0.2.1", "A 192.0.2.3", "TXT \"192.0.2.66\""]));
    });
}

#[test]
fn hetzner_waits_for_its_actions() {
    with(&CLOUDS[1..], &json!({}), |stand, shell| {
        stand.plan(&json!({"polls": 2}));
        stand.run(shell, "192.0.2.1").ends_with(0);
        let polls = stand.log().iter().filter(|seen| seen.path.contains("/actions/")).count();
        assert_eq!(polls, 2);
        stand.plan(&json!({"polls": 100}));
        let ended = stand.run(shell, "192.0.2.2").env("DNS_TIMEOUT", "2").ends_with(75);
        assert!(ended.took < Duration::from_secs(10), "took {:?}", ended.took);
        stand.plan(&json!({"polls": 1, "action": "error"}));
        stand.run(shell, "192.0.2.2").ends_with(1).says("action_failed");
        assert_eq!(stand.published(), set(&["A 192.0.2.1"]));
    });
}

#[test]
fn hetzner_says_that_a_set_is_protected() {
    let mut protected = hetzner_set("A", 60.into(), json!([{"value": "192.0.2.1", "comment": ""}]));
    protected["protection"]["change"] = true.into();
    with(&CLOUDS[1..], &json!({"hetzner": [protected]}), |stand, shell| {
        stand.run(shell, "192.0.2.1").ends_with(0).says("unchanged");
        stand.run(shell, "192.0.2.2").ends_with(1).says("protected");
    });
}
