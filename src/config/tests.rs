use core::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::check::attempt::{self, Body};
use crate::delivery::{Mode, Place};
use crate::membership;
use crate::safety::{AllDown, MinUp};

const EXAMPLE: &str = include_str!("../../etc/picored.json");
const KEY: &str = "AAECAwQFBgcICQoLDA0ODw==";

/// What stands in the files that the example names.
fn secrets(path: &str) -> Result<String, String> {
    match path {
        "/etc/picored.keys" => Ok(format!("[\"{KEY}\"]")),
        "/etc/picored/dns.env" => Ok("TSIG=abc\n".into()),
        "/bad.keys" => Ok(format!("[\"{KEY}\",\n \"{KEY}\"]")),
        "/bad.env" => Ok("A=1\nPICORED_X=2\n".into()),
        _ => Err(format!("{path}: no such file")),
    }
}

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, "host1", Ok(()), &mut secrets)
}

fn good(text: &str) -> Config {
    parse(text).unwrap_or_else(|problems| panic!("{}", shown(&problems)))
}

fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The problems of `text`, each as it is shown.
fn problems(text: &str) -> Vec<String> {
    match parse(text) {
        Ok(_) => panic!("no problem in {text}"),
        Err(problems) => problems.iter().map(|problem| problem.to_string().trim_start().to_owned()).collect(),
    }
}

/// The problems of a file with this inside, on line 2, which is otherwise good.
fn problems_of(inside: &str) -> Vec<String> {
    problems(&format!("{{ \"insecure\": true,\n{inside}\n}}"))
}

/// One problem, and its place is right where `mark` begins.
#[track_caller]
fn one(inside: &str, mark: &str, want: &str) {
    let column = inside.rfind(mark).expect("the mark is there") + 1;
    assert_eq!(problems_of(inside), [format!("2:{column} {want}")], "{inside}");
}

#[test]
fn the_shipped_example_is_good_and_sets_every_key() {
    let config = good(EXAMPLE);
    let all = [FILE, schema::APP, schema::CHECK, schema::HANDLER, schema::SAFETY, LOG].into_iter().flatten();
    let exceptions = ["keys", "body_equals"];
    for key in all.filter(|key| !exceptions.contains(&key.name)) {
        assert!(EXAMPLE.contains(&format!("{}\":", key.name)), "{} is not in the example", key.name);
    }
    assert_eq!(config.notes, []);
}

#[test]
fn what_the_example_writes_out_are_the_defaults() {
    let config = good(EXAMPLE);
    let small = good(
        "{\"insecure\": true, \"apps\": {\"web\": {\"checks\": [{\"tcp\": \"127.0.0.1:443\"}]}}, \"handlers\": {\"dns\": {\"run\": [\"/x\"]}}}",
    );
    assert_eq!(config.agent.membership.timing, small.agent.membership.timing);
    // The example names witnesses; the default is none.
    let witness = config.agent.safety.witness.clone();
    assert_eq!(witness.len(), 2);
    assert_eq!(config.agent.safety, crate::safety::Config { witness, ..small.agent.safety.clone() });
    assert_eq!(
        (&config.control, &config.state, config.log.max_size),
        (&small.control, &small.state, 1 << 20)
    );
    let (a, b) = (&config.agent.apps[0], &small.agent.apps[0]);
    assert_eq!((a.check.grace, a.check.hold_up, &a.policy), (b.check.grace, b.check.hold_up, &b.policy));
    let (a, b) = (&a.check.checks[2], &b.check.checks[0]);
    assert_eq!((a.interval, a.timeout, a.rise, a.fall), (b.interval, b.timeout, b.rise, b.fall));
    let (a, b) = (&config.agent.handlers[0], &small.agent.handlers[0]);
    assert_eq!((a.mode, a.place, a.timeout, a.debounce), (b.mode, b.place, b.timeout, b.debounce));
    assert_eq!((a.min_interval, a.resync, &a.apps), (b.min_interval, b.resync, &b.apps));
    assert_eq!(small.notes, []);
}

#[test]
fn the_example_means_what_it_says() {
    let config = good(EXAMPLE);
    let member = &config.agent.membership;
    assert_eq!((member.node.as_ref(), member.cluster.as_ref()), ("fra1", "default"));
    assert_eq!(config.advertise, Some("203.0.113.10:7946".parse().unwrap()));
    assert_eq!((member.join.len(), member.members.len(), member.keys.keys.len()), (3, 3, 1));
    assert_eq!(member.delegate_versions, [2, 5, 5]);
    assert_eq!(member.forget_after, Duration::from_secs(72 * 3_600));
    let app = &config.agent.apps[0];
    assert_eq!((app.policy.min_up, &app.policy.all_down), (MinUp::Count(1), &AllDown::Keep));
    let attempt::Target::Http(http) = &app.check.checks[0].target else { panic!() };
    assert_eq!(
        (http.host.as_ref(), http.path.as_ref(), &http.status[..]),
        ("www.example.com", "/health", &[200][..])
    );
    assert_eq!(http.body, Body::Contains("OK".into()));
    assert_eq!(app.check.checks[3].interval, Duration::from_secs(60));
    let [dns, mail] = config.agent.handlers.as_slice() else { panic!() };
    assert_eq!(
        (dns.mode, dns.place, dns.env.len(), dns.user.as_deref()),
        (Mode::Sync, Place::One, 4, Some("nobody"))
    );
    assert_eq!((mail.mode, mail.events.len(), mail.apps.len()), (Mode::Event, 4, 1));
    let programs: Vec<&str> = config.programs.iter().map(|program| program.text.as_str()).collect();
    assert_eq!(
        programs,
        ["/usr/local/lib/picored/disk-ok", "/etc/picored/handlers/nsupdate", "/etc/picored/handlers/mail"]
    );
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_their_places() {
    let text = r#"{
  "insecure": true,
  "nodes": "x",
  "apps": {
    "web": {
      "checks": [ { "http": "https://127.0.0.1/", "inteval": "10s" }, { "tcp": "db:5432", "rise": 0 } ],
      "checks": []
    }
  },
  "handlers": { "dns": { "run": ["nsupdate"], "apps": ["wep"], "where": "self" } },
  "log": { "level": "inof" }
}"#;
    let want = [
        "3:3 nodes: unknown key; did you mean \"node\"?",
        "6:29 apps.web.checks[0].http: https is not built in; use \"exec\": [\"/usr/bin/curl\", \"-fsS\", \"-o\", \"/dev/null\", \"https://…\"]",
        "6:51 apps.web.checks[0].inteval: unknown key; did you mean \"interval\"?",
        "6:80 apps.web.checks[1].tcp: \"db\": host names are not looked up for checks; write the IP address, or localhost for 127.0.0.1",
        "6:99 apps.web.checks[1].rise: must be a whole number from 1 to 1000, not \"0\"",
        "7:7 apps.web.checks: is there twice; remove one",
        "10:34 handlers.dns.run[0]: \"nsupdate\" is not an absolute path of a file; it must start with /",
        "10:56 handlers.dns.apps[0]: there is no app \"wep\" in this file; did you mean \"web\"?",
        "10:73 handlers.dns.where: \"self\" is not possible for mode \"sync\": the set is about all nodes; say \"one\" or \"all\"",
        "11:21 log.level: \"inof\" is not one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\"; did you mean \"info\"?",
    ];
    assert_eq!(problems(text), want);
}

#[test]
fn each_wrong_value_of_the_file_is_one_problem_at_its_place() {
    one(
        r#""node": "a_b""#,
        "\"a_b",
        "node: \"a_b\" is no node name: letters, digits, - and . only, at most 128",
    );
    one(
        r#""node": null"#,
        "null",
        "node: must be a string in double quotes, not null (leave the key out for its default)",
    );
    one(r#""cluster": "a b""#, "\"a b", "cluster: may hold letters, digits, -, _ and . only, at most 64");
    one(
        r#""bind": "eth0""#,
        "\"eth0",
        "bind: \"eth0\" is not an IP address; host names are not allowed here",
    );
    one(
        r#""bind": "0.0.0.0", "advertise": "2001:db8::1""#,
        "\"2001",
        "advertise: is an IPv6 address, but \"bind\" hears IPv4 only",
    );
    one(
        r#""publish": ["1.2.3.4:80"]"#,
        "\"1.2",
        "publish[0]: must be an address without a port: \"1.2.3.4\"",
    );
    let nine: Vec<String> = (1..=9).map(|n| format!("\"203.0.113.{n}\"")).collect();
    one(
        &format!("\"publish\": [{}]", nine.join(", ")),
        "\"203.0.113.9",
        "publish[8]: there are 9 addresses; at most 8 are allowed",
    );
    one(r#""publish": "1.2.3.4""#, "\"1.2", "publish: must be a list, not \"1.2.3.4\"");
    one(r#""join": ["10.0.0.256"]"#, "\"10", "join[0]: \"10.0.0.256\" is not an IP address");
    one(
        r#""allow": ["203.0.113.5/24"]"#,
        "\"203",
        "allow[0]: has address bits beyond its prefix; did you mean \"203.0.113.0/24\"?",
    );
    one(
        r#""allow": ["10.0.0.0/8"], "join": ["1.2.3.4"]"#,
        "\"1.2",
        "join[0]: 1.2.3.4 is not in \"allow\", so its answers would not be heard",
    );
    one(r#""members": ["a", "a"]"#, "\"a\"", "members[1]: is there twice; remove one");
    one(
        r#""profile": "LAN""#,
        "\"LAN",
        "profile: \"LAN\" is not one of \"picored\", \"lan\", \"wan\", \"local\"; did you mean \"lan\"?",
    );
    one(
        r#""probe_timeout": "3s""#,
        "\"3s",
        "probe_timeout: probe_timeout must be shorter than probe_interval",
    );
    one(
        r#""probe_interval": "1 s""#,
        "\"1 s",
        "probe_interval: must be a duration (\"500ms\", \"10s\", \"5m\", \"24h\", or whole seconds), not \"1 s\"",
    );
    one(r#""gossip_nodes": 1.5"#, "1.5", "gossip_nodes: must be a whole number from 1 to 100, not \"1.5\"");
    one(r#""forget_after": "10ms""#, "\"10ms", "forget_after: must be from 1s to 87600h, not 10ms");
    one(r#""insecure": "yes""#, "\"insecure", "insecure: is there twice; remove one");
    one(
        r#""tags": {"a.web": "up"}"#,
        "\"a.web",
        "tags.a.web: begins like a tag of picored's own; choose another name",
    );
    one(
        r#""tags": {"cluster": "x"}"#,
        "\"cluster",
        "tags.cluster: is a tag of picored's own; choose another name",
    );
    one(r#""peers": 1"#, "1", "peers: must be one of \"serf\", \"memberlist\", not 1");
    one(
        r#""control": "picored.sock""#,
        "\"picored",
        "control: \"picored.sock\" is not an absolute path of a file; it must start with /",
    );
    one(
        r#""log": {"max_size": "1"}"#,
        "\"1\"",
        "log.max_size: must be a size from 4KiB to 1GiB, such as \"1MiB\" or \"64KiB\", or bytes",
    );
    let long = format!(r#""label": "{}""#, "x".repeat(256));
    one(&long, "\"x", "label: is 256 bytes long; at most 255 are allowed");
}

#[test]
fn each_wrong_value_of_an_app_is_one_problem_at_its_place() {
    let app = |inside: &str, mark: &str, want: &str| {
        one(&format!("\"apps\": {{\"web\": {{{inside}}}}}"), mark, &format!("apps.web{want}"));
    };
    let check = |inside: &str, mark: &str, want: &str| {
        app(&format!("\"checks\": [{{{inside}}}]"), mark, &format!(".checks[0]{want}"));
    };
    app("", "{}", ": has no checks; an app that this node does not serve says \"checks\": []");
    app(
        r#""checks": [{"unix": "/s"}, {"unix": "/t"}], "timeout": "11s""#,
        "\"11s",
        ".timeout: the timeout (11s) must not be longer than the interval (10s)",
    );
    app(
        r#""checks": [], "min_up": "0%""#,
        "\"0%",
        ".min_up: must be a number of nodes from 0 to 1000, or a share such as \"50%\", not \"0%\"",
    );
    app(
        r#""checks": [], "all_down": "kep""#,
        "\"kep",
        ".all_down: must be \"keep\", \"all\", \"empty\" or a list of addresses, not \"kep\"",
    );
    app(
        r#""checks": [], "all_down": []"#,
        "[]",
        ".all_down: holds no address; to publish nothing, say \"empty\"",
    );
    app(
        r#""checks": [], "verify": "on""#,
        "\"on",
        ".verify: \"on\" is neither \"off\" nor like \"tcp://{addr}:443\" or \"http://{addr}/health\"",
    );
    check("", "{}", ": checks nothing: one of \"http\", \"tcp\", \"unix\" or \"exec\" is needed");
    check(r#""tcp": "127.0.0.1""#, "\"127", ".tcp: \"127.0.0.1\" has no port, as in \"127.0.0.1:5432\"");
    check(
        r#""tcp": "127.0.0.1:1", "unix": "/s""#,
        "\"/s",
        ".unix: there is \"tcp\" already; make it a check of its own",
    );
    check(
        r#""tcp": "127.0.0.1:1", "status": [200]"#,
        "[200",
        ".status: belongs to http checks; this one is \"tcp\"",
    );
    check(
        r#""http": "http://127.0.0.1/", "warn_ok": true"#,
        "true",
        ".warn_ok: belongs to exec checks; this one is \"http\"",
    );
    check(
        r#""http": "http://127.0.0.1/", "status": [99]"#,
        "99",
        ".status[0]: must be a status code from 100 to 599, not 99",
    );
    check(
        r#""http": "http://127.0.0.1/", "body_contains": "a", "body_equals": "b""#,
        "\"b\"",
        ".body_equals: there is \"body_contains\" already; give only one of them",
    );
    check(
        r#""exec": []"#,
        "[]",
        ".exec: is empty; the first element is the program, the others its arguments",
    );
    check(r#""exec": ["/x", 95]"#, "95", ".exec[1]: must be a string in double quotes, not 95");
    check(
        r#""tcp": "127.0.0.1:1", "interval": "2s", "timeout": "3s""#,
        "\"3s",
        ".timeout: the timeout (3s) must not be longer than the interval (2s)",
    );
}

#[test]
fn each_wrong_value_of_a_handler_is_one_problem_at_its_place() {
    let handler = |inside: &str, mark: &str, want: &str| {
        one(&format!("\"handlers\": {{\"h\": {{{inside}}}}}"), mark, &format!("handlers.h{want}"));
    };
    handler("", "{}", ": has no \"run\": the program and its arguments as a list");
    handler(
        r#""run": ["/x"], "mode": "evnet""#,
        "\"evnet",
        ".mode: \"evnet\" is not one of \"sync\", \"event\", \"picored1\", \"serf\"; did you mean \"event\"?",
    );
    handler(
        r#""run": ["/x"], "events": ["app-up"]"#,
        "[\"app",
        ".events: belongs to handlers with \"mode\": \"event\" or \"serf\"",
    );
    handler(
        r#""run": ["/x"], "mode": "serf", "events": ["member-join", "app-up"]"#,
        "\"app",
        ".events[1]: \"app-up\" is not one of \"member-join\", \"member-leave\", \"member-failed\", \"member-update\", \"member-reap\"",
    );
    handler(
        r#""run": ["/x"], "mode": "event", "events": ["app-upp"]"#,
        "\"app-upp",
        ".events[0]: \"app-upp\" is not one of \"app-up\", \"app-down\", \"app-maint\", \"node-joined\", \"node-failed\", \"node-left\", \"node-address\", \"quorum\", \"no-quorum\"; did you mean \"app-up\"?",
    );
    handler(
        r#""run": ["/x"], "apps": []"#,
        "[]",
        ".apps: names no app, so it would never run; leave it out for all apps",
    );
    handler(
        r#""run": ["/x"], "env": {"PICORED_X": "1"}"#,
        "\"PICORED",
        ".env.PICORED_X: names that begin with PICORED_ are picored's own",
    );
    handler(r#""run": ["/x"], "env": {"A": 1}"#, "1", ".env.A: must be a string in double quotes, not 1");
    handler(
        r#""run": ["/x"], "env_file": "/bad.env""#,
        "\"/bad",
        ".env_file: line 2 of the file: names that begin with PICORED_ are picored's own",
    );
    handler(r#""run": ["/x"], "user": "a b""#, "\"a b", ".user: \"a b\" is not the name of a user");
    one(
        r#""handlers": {"a b": {"run": ["/x"]}}"#,
        "\"a b",
        "handlers.a b: names of apps and handlers are letters, digits, - and _ only, at most 64",
    );
}

#[test]
fn each_wrong_value_of_safety_is_one_problem() {
    let safety = |inside: &str, mark: &str, want: &str| {
        one(&format!("\"safety\": {{{inside}}}"), mark, &format!("safety.{want}"));
    };
    safety(r#""quorum": "on""#, "\"on", "quorum: \"on\" is not one of \"auto\", \"off\"");
    safety(
        r#""witness": ["1.1.1.1:53"]"#,
        "\"1.1",
        "witness[0]: \"1.1.1.1:53\" is not like \"tcp://192.0.2.1:443\" or \"http://192.0.2.1/\"",
    );
    safety(
        r#""witness": ["tcp://1.1.1.1:53"], "witness_min": 2"#,
        "2",
        "witness_min: 2 cannot answer: \"witness\" names 1",
    );
    safety(
        r#""minority_delay": "nevr""#,
        "\"nevr",
        "minority_delay: must be a duration (\"500ms\", \"10s\", \"5m\", \"24h\", or whole seconds), not \"nevr\"",
    );
    safety(r#""max_remove": 3"#, "3", "max_remove: must be \"off\" or a share such as \"50%\", not 3");
    safety(
        r#""settle": "-1s""#,
        "\"-1s",
        "settle: must be a duration (\"500ms\", \"10s\", \"5m\", \"24h\", or whole seconds), not \"-1s\"",
    );
}

#[test]
fn an_address_that_others_reach_needs_keys() {
    assert!(
        problems("{}")[0].starts_with("1:1 keys_file: the address is not loopback and there are no keys")
    );
    assert!(problems("{\"bind\": \"192.0.2.1\"}")[0].starts_with("1:10 bind: the address is not loopback"));
    good("{\"bind\": \"127.0.0.2\"}");
    good("{\"bind\": \"::1\"}");
    good("{\"insecure\": true}");
    good(&format!("{{\"keys\": [\"{KEY}\"]}}"));
}

#[test]
fn keys_are_checked_and_never_repeated_in_messages() {
    let said = problems("{\"keys\": [\"c2VjcmV0\", \"secret!\", 7]}");
    let want = [
        "1:11 keys[0]: is a key of 6 bytes; keys have 16, 24 or 32",
        "1:23 keys[1]: is not a key: keys are base64 strings, as `picored keygen` prints them",
        "1:34 keys[2]: is not a key: keys are base64 strings, as `picored keygen` prints them",
    ];
    assert_eq!(said, want);
    assert_eq!(problems("{\"keys_file\": \"/none\"}"), ["1:15 keys_file: /none: no such file"]);
    let said = problems("{\"keys_file\": \"/bad.keys\"}");
    assert_eq!(said, ["1:15 keys_file: line 2, column 2 of the file: is the same key again; remove it"]);
    let both = format!("{{\"keys_file\": \"/etc/picored.keys\", \"keys\": [\"{KEY}\"]}}");
    assert_eq!(problems(&both), ["1:44 keys: there is a keys_file too; give only one of them"]);
    let text = format!("{{\"keys\": [\"{KEY}\"]}}");
    let refused = Config::parse(&text, "a", Err("can be read by others (mode 0644)".into()), &mut secrets);
    let said = refused.err().unwrap()[0].to_string();
    assert!(
        said.starts_with("  1:10 keys: can be read by others (mode 0644); a file that holds keys"),
        "{said}"
    );
}

#[test]
fn a_host_name_that_is_no_node_name_is_a_problem_unless_the_file_names_the_node() {
    let with = |text: &str| Config::parse(text, "my_host", Ok(()), &mut secrets);
    let said = with("{\"insecure\": true}").err().unwrap()[0].to_string();
    assert!(said.starts_with("  1:1 node: the host name \"my_host\" is no node name"), "{said}");
    assert!(with("{\"insecure\": true, \"node\": \"a\"}").is_ok());
}

#[test]
fn a_short_interval_shortens_the_timeout_that_nobody_set() {
    let config =
        good(r#"{"insecure": true, "apps": {"web": {"checks": [{"tcp": "127.0.0.1:1", "interval": 2}]}}}"#);
    let check = &config.agent.apps[0].check.checks[0];
    assert_eq!((check.interval, check.timeout), (Duration::from_secs(2), Duration::from_secs(2)));
    let own = r#"{"insecure": true, "apps": {"web": {"timeout": "15s", "checks": [{"unix": "/s", "interval": "60s"}]}}}"#;
    assert_eq!(good(own).agent.apps[0].check.checks[0].timeout, Duration::from_secs(15));
}

#[test]
fn the_default_place_depends_on_the_mode() {
    for (mode, want) in
        [("sync", Place::One), ("event", Place::One), ("picored1", Place::All), ("serf", Place::All)]
    {
        let config = good(&format!(
            r#"{{"insecure": true, "handlers": {{"h": {{"run": ["/x"], "mode": "{mode}"}}}}}}"#
        ));
        assert_eq!(config.agent.handlers[0].place, want);
    }
}

#[test]
fn single_values_override_the_profile() {
    let config = good(r#"{"insecure": true, "profile": "lan", "suspicion_mult": 9, "reclaim_after": "30s"}"#);
    let timing = config.agent.membership.timing;
    let lan = profile::timing("lan");
    assert_eq!(
        timing,
        membership::Timing { suspicion_mult: 9, reclaim_after: Duration::from_secs(30), ..lan }
    );
}

#[test]
fn an_address_that_is_bound_to_is_advertised() {
    let config = good("{\"bind\": \"127.0.0.2:7000\"}");
    assert_eq!(config.advertise, Some("127.0.0.2:7000".parse().unwrap()));
    assert_eq!(config.agent.membership.advertise, "127.0.0.2:7000".parse().unwrap());
    let config = good("{\"bind\": \"0.0.0.0:7000\", \"insecure\": true}");
    assert_eq!((config.advertise, config.bind.len()), (None, 1));
    assert_eq!(config.agent.membership.advertise, "0.0.0.0:7000".parse().unwrap());
}

#[test]
fn metadata_that_would_not_fit_is_refused_with_the_size_of_each_part() {
    let tags = format!("\"tags\": {{\"x\": \"{}\"}}", "y".repeat(500));
    let said = problems_of(&tags);
    assert!(said[0].starts_with("2:9 tags: what this node says of itself can become"), "{said:?}");
    assert!(said[0].contains("cluster 16, v ") && said[0].contains("x 505"), "{said:?}");
}

#[test]
fn a_flood_of_problems_is_cut_short() {
    let keys: String = (0..50_000).map(|i| format!(",\n\"k{i}\": 1")).collect();
    let said = problems(&format!("{{\"insecure\": true{keys}}}"));
    assert_eq!((said.len(), said[100].as_str()), (101, "and 49900 more"));
}

/// Where to change the text, how, and with what.
fn edits() -> impl Strategy<Value = Vec<(usize, u8, String)>> {
    const PIECES: [&str; 16] = [
        "{", "}", "[", "]", "\"", ",", ":", "null", "1e999", "-1", "\\u0000", "é", "//", "0", "true", "\u{0}",
    ];
    let piece = proptest::sample::select(&PIECES[..]).prop_map(String::from);
    proptest::collection::vec((0..EXAMPLE.len(), 0..4u8, piece), 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Goal: no file makes the parser panic, and every problem has a place in the file.
    /// Method: cut, doubled and replaced pieces of the example.
    #[test]
    fn a_mutated_example_never_panics(edits in edits()) {
        let mut bytes = EXAMPLE.as_bytes().to_vec();
        for (at, how, piece) in edits {
            let at = at.min(bytes.len());
            let end = (at + piece.len() * 7 % 40).min(bytes.len());
            match how {
                0 => { bytes.drain(at..end); }
                1 => { bytes.splice(at..at, piece.bytes()); }
                2 => { bytes.splice(at..end, piece.bytes()); }
                _ => { let part = bytes[at..end].to_vec(); bytes.splice(at..at, part); }
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        if let Err(problems) = parse(&text) {
            let lines = text.lines().count().max(1) + 1;
            prop_assert!(!problems.is_empty());
            prop_assert!(problems.iter().all(|p| p.line <= lines && !p.text.is_empty()));
        }
    }

    /// Goal: values of every kind in every place are told, not tripped over.
    /// Method: one value of the example is replaced by another kind of value.
    #[test]
    fn any_value_in_any_place_never_panics(pick in any::<prop::sample::Index>(), with in 0..9usize) {
        let places: Vec<usize> = EXAMPLE.match_indices("\": ").map(|(at, _)| at + 3).collect();
        let at = places[pick.index(places.len())];
        let rest = &EXAMPLE[at..];
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde_json::Value>();
        values.next();
        let end = at + values.byte_offset();
        let with = ["null", "[]", "{}", "\"\"", "-0.0", "18446744073709551616", "[[null]]", "{\"\": {}}", "\"\\u0000é\""][with];
        let _ = parse(&format!("{}{with}{}", &EXAMPLE[..at], &EXAMPLE[end..]));
    }
}
