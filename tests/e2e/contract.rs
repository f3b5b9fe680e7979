//! What a handler is given, as a real program sees it: arguments, environment, standard input, its surroundings.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, wait_for};
use crate::web::Web;

const SOON: Duration = Duration::from_secs(30);

/// Writes all it is told into files beside it, the last one being `done.MODE.EVENT`.
const DUMP: &str = r#"#!/bin/sh
exec 2>&1
cd "$(dirname "$0")" && umask 022
n=$PICORED_MODE.$PICORED_EVENT
[ ! -e "done.$n" ] || exit 0 # the second of several calls: the first one's files may be read now
env > env.$n
cat > stdin.$n
echo "$*" > args.$n
cut -d ' ' -f 1,5,6 "/proc/$$/stat" > stat.$n
mv -f early.$n about.$n
touch done.$n
"#;

/// What must be seen before the script itself changes it.
const EARLY: &str = "{ pwd; umask; } > \"$(dirname \"$0\")/early.$PICORED_MODE.$PICORED_EVENT\"\n";

struct Told {
    env: Vec<(String, String)>,
    stdin: Value,
    args: String,
    about: String,
    stat: String,
}

impl Told {
    fn read(folder: &Path, name: &str) -> Self {
        let done = folder.join(format!("done.{name}"));
        wait_for(name, SOON, || done.exists());
        let read = |what: &str| {
            std::fs::read_to_string(folder.join(format!("{what}.{name}"))).expect("the handler wrote it")
        };
        let env = read("env").lines().filter_map(|line| line.split_once('=')).map(own).collect();
        let stdin = serde_json::from_str(&read("stdin")).expect("JSON");
        Self { env, stdin, args: read("args"), about: read("about"), stat: read("stat") }
    }

    fn var(&self, name: &str) -> Option<&str> {
        self.env.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn has(&self, vars: &[(&str, &str)]) {
        for &(name, value) in vars {
            assert_eq!(self.var(name), Some(value), "{name} in {:?}", self.env);
        }
    }

    /// The same whatever the mode.
    fn surroundings(&self) {
        self.has(&[
            ("LANG", "C"),
            ("GREETING", "hello world"),
            ("PICORED_APP", "web"),
            ("PICORED_GUARD", ""),
        ]);
        self.has(&[("PICORED_SELF", "n1"), ("PICORED_CLUSTER", "default"), ("PICORED_DRY_RUN", "0")]);
        self.has(&[("PICORED_ALL_NODES", "n1"), ("PICORED_ALL_ADDRS", "203.0.113.1 2001:db8::1")]);
        assert!(self.var("PATH").is_some_and(|path| path.split(':').any(|folder| folder == "/usr/sbin")));
        assert!(self.var("HOME").is_some_and(|home| home.starts_with('/')));
        assert_eq!(self.var("STRANGER"), None, "picored's own environment stays with it");
        assert_eq!(self.about, "/\n0077\n", "working folder and umask");
        let ids: Vec<&str> = self.stat.split_whitespace().collect();
        assert!(ids[0] == ids[1] && ids[0] == ids[2], "leads its own group and session: {ids:?}");
        let stdin = &self.stdin;
        assert_eq!(
            (&stdin["v"], &stdin["app"], &stdin["dry_run"]),
            (&json!(1), &json!("web"), &json!(false))
        );
        assert_eq!(stdin["self"], json!({ "node": "n1" }));
        assert_eq!(stdin["cluster"]["name"], "default");
        assert_eq!(stdin["cluster"]["known"], 1);
        assert_eq!(stdin["mode"].as_str(), self.var("PICORED_MODE"));
        assert_eq!(stdin["reason"].as_str(), self.var("PICORED_REASON"));
        assert_eq!(
            stdin["generation"].to_string().as_str(),
            self.var("PICORED_GENERATION").unwrap_or_default()
        );
        assert_eq!(stdin["attempt"].to_string().as_str(), self.var("PICORED_ATTEMPT").unwrap_or_default());
        let member = &stdin["members"][0];
        assert_eq!(member["addrs"], json!(["203.0.113.1", "2001:db8::1"]));
        assert!(member["since"].as_u64().is_some_and(|since| since > 1_700_000_000), "{member}");
    }
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_handler_is_told_what_the_contract_says() {
    let web = Web::start();
    let mut daemon = Daemon::new("n1", json!({}));
    let script = daemon.folder.script("dump", &DUMP.replacen("exec 2>&1\n", EARLY, 1));
    let handler = |extra: Value| {
        let mut handler = json!({ "run": [script, "own argument"], "debounce": "100ms", "min_interval": "0s",
            "env": { "GREETING": "hello world" } });
        for (key, value) in extra.as_object().expect("an object") {
            handler[key] = value.clone();
        }
        handler
    };
    daemon.configure(&json!({
        "node": "n1", "bind": daemon.addr.to_string(), "profile": "local", "safety": { "settle": "1s" },
        "control": daemon.folder.file("picored.sock"), "state": daemon.folder.file("state/state.json"),
        "publish": ["203.0.113.1", "2001:db8::1"],
        "apps": { "web": {
            "interval": "200ms", "timeout": "200ms", "rise": 1, "fall": 50, "grace": "0s", "hold_up": "0s",
            "all_down": "empty", "checks": [{ "http": web.url() }],
        } },
        "handlers": {
            "all": handler(json!({ "mode": "picored1" })),
            "one": handler(json!({})),
            "self": handler(json!({ "mode": "event", "where": "self" })),
        },
    }));
    daemon.start();
    let folder = daemon.folder.path.clone();

    let up = Told::read(&folder, "sync.sync");
    up.surroundings();
    up.has(&[("PICORED_UP_ADDRS", "203.0.113.1 2001:db8::1"), ("PICORED_UP_ADDRS4", "203.0.113.1")]);
    up.has(&[("PICORED_UP_ADDRS6", "2001:db8::1"), ("PICORED_UP_NODES", "n1"), ("PICORED_REMOVE", "")]);
    up.has(&[("PICORED_ADD", "203.0.113.1 2001:db8::1"), ("PICORED_REASON", "change")]);
    up.has(&[("PICORED_GENERATION", "1"), ("PICORED_ATTEMPT", "1")]);
    assert_eq!((up.args.as_str(), up.var("PICORED_NODE")), ("own argument\n", None));
    let publish = json!({ "nodes": ["n1"], "addrs4": ["203.0.113.1"], "addrs6": ["2001:db8::1"] });
    assert_eq!(up.stdin["publish"], publish);
    assert_eq!((&up.stdin["guard"], &up.stdin["members"][0]["published"]), (&Value::Null, &json!(true)));

    let call = Told::read(&folder, "picored1.app-up");
    call.surroundings();
    call.has(&[("PICORED_NODE", "n1"), ("PICORED_STATE", "up")]);
    let addr = call.args.split(' ').nth(3).unwrap_or_default();
    assert!(call.args.starts_with("own argument web ") && call.args.ends_with(" up\n"), "{}", call.args);
    assert!(["203.0.113.1", "2001:db8::1"].contains(&addr), "{addr}");

    // By a person: the gates hold the last good one otherwise.
    assert!(daemon.run(&["app", "web", "down"]).status.success());
    let down = Told::read(&folder, "event.app-down");
    down.has(&[("PICORED_NODE", "n1"), ("PICORED_ADDR", "203.0.113.1"), ("PICORED_ADDR6", "2001:db8::1")]);
    down.has(&[("PICORED_STATE", "down"), ("PICORED_REASON", "change"), ("PICORED_ATTEMPT", "1")]);
    down.has(&[("PICORED_ALL_NODES", "n1"), ("PICORED_APP", "web"), ("PICORED_MODE", "event")]);
    assert_eq!(down.var("PICORED_ADD"), None, "a difference belongs to sync");
    assert_eq!(down.stdin["event"], "app-down");
    assert_eq!(down.stdin["members"][0]["app"], "down");
}
