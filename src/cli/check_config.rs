//! `check-config`: everything that is wrong at once, or "ok" and what will be in effect.

use core::fmt::Write;
use core::net::IpAddr;
use core::time::Duration;
use std::path::Path;

use serde_json::{Map, Value};

use super::exit::{CONFIGURATION, DONE};
use crate::agent::AppConfig;
use crate::check::CheckConfig;
use crate::check::attempt::{Body, Target};
use crate::config::{Config, Problem, units};
use crate::delivery::{self, Mode};
use crate::driver::files::{self, LoadError, LoadErrorKind};
use crate::membership;
use crate::safety::{self, AllDown, MinUp, OnNoQuorum, Verify};

/// Parses, validates, looks at permissions and programs. With `show` a good file's effective values
/// are printed as JSON that is itself a configuration, without keys and without the values of `env`.
pub fn check_config(path: &Path, show: bool) -> (String, u8) {
    let (mut config, programs) = match files::load_parts(path) {
        Ok(loaded) => loaded,
        Err(error) => return (format!("{error}\n"), CONFIGURATION),
    };
    config.notes.extend(logs_nowhere(&config));
    if !programs.is_empty() {
        let problems = programs.into_iter().map(|(problem, _)| problem).collect();
        let error = LoadError { path: path.into(), kind: LoadErrorKind::Problems(problems) };
        let mut out = format!("{error}\n");
        tell_notes(&mut out, &config.notes);
        return (out, CONFIGURATION);
    }
    if show {
        let text = serde_json::to_string_pretty(&effective(&config)).unwrap_or_default();
        return (text + "\n", DONE);
    }
    (summary(path, &config), DONE)
}

/// Not a note of the file itself: a daemon in the foreground has somebody who reads its standard error.
fn logs_nowhere(config: &Config) -> Option<Problem> {
    let text = "not set: the log goes to standard error, which nobody reads once `run --cron` has started \
                the daemon; for cron, set it to \"/var/log/picored.log\"";
    let note = Problem { line: 0, column: 0, path: "log.file".into(), text: text.into() };
    config.log.file.is_none().then_some(note)
}

fn say(out: &mut String, line: core::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}

fn tell_notes(out: &mut String, notes: &[Problem]) {
    if !notes.is_empty() {
        say(out, format_args!("to note:"));
    }
    notes.iter().for_each(|note| say(out, format_args!("{note}")));
}

fn summary(path: &Path, config: &Config) -> String {
    let mut out = format!("picored: {}: ok\n", path.display());
    let member = &config.agent.membership;
    let bind: Vec<String> = config.bind.iter().map(ToString::to_string).collect();
    let keys = match member.keys.keys.len() {
        0 => "not encrypted".into(),
        1 => "encrypted, 1 key".into(),
        n => format!("encrypted, {n} keys"),
    };
    say(&mut out, format_args!("  node      {} in cluster {}", member.node, member.cluster));
    say(&mut out, format_args!("  bind      {} ({keys})", bind.join(", else ")));
    let advertise = config.advertise.map_or("found out at the start".into(), |addr| addr.to_string());
    say(&mut out, format_args!("  advertise {advertise}"));
    let join: Vec<String> = member.join.iter().map(show_target).collect();
    say(
        &mut out,
        format_args!("  join      {}", if join.is_empty() { "nobody".into() } else { join.join(", ") }),
    );
    for app in &config.agent.apps {
        let (name, checks) = (&app.check.name, app.check.checks.len());
        let plural = if checks == 1 { "check" } else { "checks" };
        say(&mut out, format_args!("  app       {name}: {checks} {plural}"));
    }
    for handler in &config.agent.handlers {
        let (mode, place) = (handler.mode.as_str(), handler.place.as_str());
        let program = handler.run.first().map_or("", AsRef::as_ref);
        say(&mut out, format_args!("  handler   {}: {mode}, where {place}, {program}", handler.name));
    }
    tell_notes(&mut out, &config.notes);
    out
}

/// An object as it grows. Each of these is in the program once; the macro of `serde_json` would be there for each key.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, key: &str, value: Value) {
        self.0.insert(key.into(), value);
    }

    fn text(&mut self, key: &str, text: &str) {
        self.put(key, text.into());
    }

    fn flag(&mut self, key: &str, flag: bool) {
        self.put(key, flag.into());
    }

    fn number(&mut self, key: &str, number: u64) {
        self.put(key, number.into());
    }

    fn time(&mut self, key: &str, duration: Duration) {
        self.put(key, units::show_duration(duration).into());
    }

    fn texts(&mut self, key: &str, texts: &[Box<str>]) {
        self.list(key, texts.iter().map(ToString::to_string).collect());
    }

    fn list(&mut self, key: &str, texts: Vec<String>) {
        self.put(key, Value::Array(texts.into_iter().map(Value::String).collect()));
    }

    fn object(&mut self, key: &str, object: Self) {
        self.put(key, Value::Object(object.0));
    }
}

/// What is in effect, in the words of the configuration.
fn effective(config: &Config) -> Value {
    let (agent, member) = (&config.agent, &config.agent.membership);
    let timing = &member.timing;
    let mut all = Object::default();
    all.text("node", &member.node);
    all.text("cluster", &member.cluster);
    all.list("publish", addresses(&agent.publish));
    all.list("join", member.join.iter().map(show_target).collect());
    all.texts("members", &member.members);
    all.text("profile", config.profile);
    for (key, time) in [
        ("probe_interval", timing.probe_interval),
        ("probe_timeout", timing.probe_timeout),
        ("gossip_interval", timing.gossip_interval),
        ("push_pull_interval", timing.push_pull_interval),
        ("reclaim_after", timing.reclaim_after),
        ("forget_after", member.forget_after),
    ] {
        all.time(key, time);
    }
    for (key, number) in [
        ("gossip_nodes", timing.gossip_nodes as u64),
        ("suspicion_mult", timing.suspicion_mult.into()),
        ("indirect_checks", timing.indirect_checks as u64),
    ] {
        all.number(key, number);
    }
    all.put("// keys", format!("{} (not shown)", member.keys.keys.len()).into());
    all.text("label", &String::from_utf8_lossy(&member.label));
    all.text("peers", if member.delegate_versions == [0, 0, 0] { "memberlist" } else { "serf" });
    let mut tags = Object::default();
    agent.tags.iter().for_each(|(name, value)| tags.text(name, value));
    all.object("tags", tags);
    let mut apps = Object::default();
    agent.apps.iter().for_each(|app| apps.object(&app.check.name, show_app(app)));
    all.object("apps", apps);
    let mut handlers = Object::default();
    agent.handlers.iter().for_each(|handler| handlers.object(&handler.name, show_handler(handler)));
    all.object("handlers", handlers);
    all.object("safety", show_safety(&agent.safety));
    all.text("state", &config.state);
    all.text("control", &config.control);
    let mut log = Object::default();
    log.text("level", &config.log.level.as_str().to_ascii_lowercase());
    log.put("max_size", units::show_size(config.log.max_size).into());
    // What cannot be said by an empty value is left out.
    if let Some(file) = &config.log.file {
        log.text("file", file);
    }
    all.object("log", log);
    if let [bind] = config.bind.as_slice() {
        all.put("bind", bind.to_string().into());
    }
    if let Some(advertise) = config.advertise {
        all.put("advertise", advertise.to_string().into());
    }
    if !member.allow.is_empty() {
        let networks = member.allow.iter().map(|network| format!("{}/{}", network.addr, network.prefix));
        all.list("allow", networks.collect());
    }
    if member.keys.is_empty() {
        all.flag("insecure", true);
    }
    Value::Object(all.0)
}

fn addresses(addrs: &[IpAddr]) -> Vec<String> {
    addrs.iter().map(IpAddr::to_string).collect()
}

fn show(duration: Duration) -> String {
    units::show_duration(duration)
}

fn show_target(target: &membership::Target) -> String {
    match target {
        membership::Target::Addr(addr) => addr.to_string(),
        membership::Target::Name { host, port } => format!("{host}:{port}"),
    }
}

fn show_safety(safety: &safety::Config) -> Object {
    let mut shown = Object::default();
    shown.text("quorum", if safety.quorum { "auto" } else { "off" });
    shown.list("witness", safety.witness.iter().map(show_endpoint).collect());
    shown.time("half_delay", safety.half_delay);
    shown.text("minority_delay", &safety.minority_delay.map_or("never".into(), show));
    let on_no_quorum = match safety.on_no_quorum {
        OnNoQuorum::Freeze => "freeze",
        OnNoQuorum::WithdrawSelf => "withdraw_self",
    };
    shown.text("on_no_quorum", on_no_quorum);
    shown.time("node_down_after", safety.node_down_after);
    shown.time("settle", safety.settle);
    shown.text("max_remove", &safety.max_remove.map_or("off".into(), |percent| format!("{percent}%")));
    // Without witnesses none can be needed.
    if !safety.witness.is_empty() {
        shown.number("witness_min", safety.witness_min as u64);
    }
    shown
}

fn show_endpoint(target: &Target) -> String {
    match target {
        Target::Http(http) => format!("http://{}{}", http.host, http.path),
        Target::Tcp(addr) => format!("tcp://{addr}"),
        other => other.to_string(),
    }
}

fn show_verify(verify: Option<&Verify>) -> String {
    match verify {
        None => "off".into(),
        Some(Verify::Tcp { port }) => format!("tcp://{{addr}}:{port}"),
        Some(Verify::Http { port, path, .. }) => format!("http://{{addr}}:{port}{path}"),
    }
}

fn show_app(app: &AppConfig) -> Object {
    let mut shown = Object::default();
    let checks = app.check.checks.iter().map(|check| Value::Object(show_check(check).0));
    shown.put("checks", Value::Array(checks.collect()));
    shown.text("verify", &show_verify(app.policy.verify.as_ref()));
    shown.time("grace", app.check.grace);
    shown.time("hold_up", app.check.hold_up);
    match app.policy.min_up {
        MinUp::Count(count) => shown.number("min_up", count.into()),
        MinUp::Percent(percent) => shown.text("min_up", &format!("{percent}%")),
    }
    match &app.policy.all_down {
        AllDown::Keep => shown.text("all_down", "keep"),
        AllDown::All => shown.text("all_down", "all"),
        AllDown::Empty => shown.text("all_down", "empty"),
        AllDown::Fallback(addrs) => shown.list("all_down", addresses(addrs)),
    }
    if !app.publish.is_empty() {
        shown.list("publish", addresses(&app.publish));
    }
    shown
}

fn show_check(check: &CheckConfig) -> Object {
    let mut shown = Object::default();
    match &check.target {
        Target::Tcp(addr) => shown.text("tcp", &addr.to_string()),
        Target::Unix(path) => shown.text("unix", path),
        Target::Exec(exec) => {
            shown.texts("exec", &exec.argv);
            shown.flag("warn_ok", exec.warn_ok);
        }
        Target::Http(http) => {
            shown.text("http", &format!("http://{}{}", http.addr, http.path));
            shown.text("host", &http.host);
            match &http.body {
                Body::Any => {}
                Body::Contains(text) => shown.text("body_contains", text),
                Body::Equals(text) => shown.text("body_equals", text),
            }
            if !http.status.is_empty() {
                shown.put("status", Value::Array(http.status.iter().map(|&status| status.into()).collect()));
            }
        }
    }
    shown.time("interval", check.interval);
    shown.time("timeout", check.timeout);
    shown.number("rise", check.rise.into());
    shown.number("fall", check.fall.into());
    shown
}

fn show_handler(handler: &delivery::Config) -> Object {
    let mut shown = Object::default();
    shown.texts("run", &handler.run);
    shown.text("mode", handler.mode.as_str());
    shown.text("where", handler.place.as_str());
    shown.time("timeout", handler.timeout);
    // Values may be secrets.
    shown.list("// env", handler.env.iter().map(|(name, _)| name.to_string()).collect());
    if !handler.apps.is_empty() {
        shown.texts("apps", &handler.apps);
    }
    if matches!(handler.mode, Mode::Sync | Mode::Picored1) {
        shown.time("debounce", handler.debounce);
    }
    if handler.mode != Mode::Serf {
        shown.time("min_interval", handler.min_interval);
    }
    if handler.mode == Mode::Sync {
        shown.time("resync", handler.resync);
    }
    let mut events: Vec<String> = handler.events.iter().map(|event| event.as_str().into()).collect();
    events.extend(handler.member_events.iter().map(|event| event.as_str().into()));
    if !events.is_empty() {
        shown.list("events", events);
    }
    if let Some(user) = &handler.user {
        shown.text("user", user);
    }
    shown
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;
    use crate::config::schema::{APP, CHECK, FILE, HANDLER, LOG, SAFETY};
    use crate::config::section::Key;

    /// A file of the test's own, gone at its end.
    struct File(PathBuf);

    impl File {
        fn new(name: &str, text: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("picored-check-{name}-{}", std::process::id()));
            std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
            let path = folder.join("picored.json");
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(self.0.parent().unwrap());
        }
    }

    /// Every key, with another value than its default.
    const ALL: &str = r#"{ "node": "fra1", "cluster": "c", "insecure": true, "bind": "0.0.0.0:7000",
        "advertise": "192.0.2.1:7000", "join": ["192.0.2.7", "par1"], "profile": "lan", "probe_interval": "2s",
        "probe_timeout": "700ms", "gossip_interval": "300ms", "gossip_nodes": 5, "suspicion_mult": 6,
        "indirect_checks": 2, "push_pull_interval": "40s", "reclaim_after": "9s", "label": "l",
        "peers": "memberlist", "tags": {"dc": "fra"}, "allow": ["192.0.2.0/24"], "publish": ["203.0.113.1"],
        "members": ["fra1"], "forget_after": "5h", "state": "/s/state.json", "control": "/c.sock",
        "apps": {
          "db": { "checks": [], "all_down": ["203.0.113.9"], "min_up": "50%", "grace": "1s", "hold_up": "2s" },
          "web": { "interval": "9s", "timeout": "4s", "rise": 3, "fall": 4, "checks": [
            { "http": "http://[::1]:81/x?y", "host": "h", "status": [204], "body_equals": "" },
            { "http": "http://[::1]:82/", "body_contains": "b" }, { "http": "http://[::1]/", "body_equals": "e" },
            { "tcp": "localhost:1", "interval": "1s", "timeout": "500ms", "rise": 1, "fall": 2 }, { "unix": "/s" },
            { "exec": ["/bin/true", "a b"], "warn_ok": true } ], "verify": "http://{addr}/v",
            "publish": ["2001:db8::1"] } },
        "handlers": {
          "dns": { "run": ["/bin/true"], "resync": "1h", "user": "nobody", "apps": ["web"], "timeout": "8s",
            "debounce": "1s", "min_interval": "2s" },
          "mail": { "run": ["/bin/true"], "mode": "event", "where": "self", "events": ["app-up"] },
          "script": { "run": ["/bin/true"], "mode": "serf", "events": ["member-join", "member-reap"] } },
        "safety": { "settle": "3s", "quorum": "off", "witness": ["tcp://192.0.2.9:53", "http://192.0.2.8/x"],
          "witness_min": 2, "half_delay": "1s", "minority_delay": "1h", "on_no_quorum": "withdraw_self",
          "node_down_after": "1s", "max_remove": "50%" }, "log": { "level": "debug", "file": "/l", "max_size": "2MiB" } }"#;

    /// All objects of each kind in a configuration, with the table of their keys and what is never shown.
    fn objects(root: &Value) -> [(&[Key], &[&str], Vec<&Value>); 6] {
        let all = |key: &str| root[key].as_object().into_iter().flat_map(Map::values).collect::<Vec<_>>();
        let checks = all("apps").into_iter().filter_map(|app| app["checks"].as_array()).flatten().collect();
        [
            (FILE, &["keys", "keys_file", "$schema"], vec![root]), // the last is an editor's
            (APP, &["interval", "timeout", "rise", "fall"], all("apps")), // shown with each check
            (CHECK, &[], checks),
            (HANDLER, &["env", "env_file"], all("handlers")),
            (SAFETY, &[], vec![&root["safety"]]),
            (LOG, &[], vec![&root["log"]]),
        ]
    }

    #[test]
    fn show_leaves_out_no_key() {
        let (shown, code) = check_config(&File::new("whole", ALL).0, true);
        assert_eq!(code, DONE, "{shown}");
        for text in [ALL, &shown] {
            let root: Value = serde_json::from_str(text).unwrap();
            for (table, hidden, objects) in objects(&root) {
                for key in table.iter().filter(|key| !hidden.contains(&key.name)) {
                    let number = serde_json::from_str(key.default).unwrap_or_default();
                    let default = [json!(key.default), number, json!([]), json!({})];
                    let mut values = objects.iter().filter_map(|object| object.get(key.name));
                    assert!(values.any(|value| !default.contains(value)), "{} is not in {text}", key.name);
                }
            }
        }
    }

    #[test]
    fn what_show_prints_is_the_same_configuration() {
        let file = File::new("show", ALL);
        let (shown, code) = check_config(&file.0, true);
        assert_eq!(code, DONE, "{shown}");
        let again = File::new("again", &shown);
        assert_eq!(check_config(&again.0, true), (shown, DONE));
    }

    #[test]
    fn show_tells_neither_keys_nor_the_values_of_variables() {
        let text = r#"{ "keys": ["MDEyMzQ1Njc4OWFiY2RlZg=="], "node": "a",
            "handlers": { "h": { "run": ["/bin/true"], "mode": "event", "env": { "TOKEN": "hush" } } } }"#;
        let (shown, code) = check_config(&File::new("secret", text).0, true);
        assert_eq!(code, DONE);
        assert!(shown.contains("\"// keys\": \"1 (not shown)\"") && shown.contains("TOKEN"), "{shown}");
        assert!(!shown.contains("MDEy") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn a_good_file_is_ok_and_says_what_to_note() {
        let text = r#"{ "insecure": true, "node": "a", "join": ["b"], "log": { "file": "/l" } }"#;
        let file = File::new("ok", text);
        let (said, code) = check_config(&file.0, false);
        assert_eq!(code, DONE);
        assert!(said.contains(": ok\n  node      a in cluster default\n"), "{said}");
        assert!(
            said.contains("to note:\n  1:1 safety.witness: is not set, and the file names one other node"),
            "{said}"
        );
    }

    #[test]
    fn a_log_that_nobody_would_read_is_noted() {
        let said = |name, text| check_config(&File::new(name, text).0, false);
        let (without, code) = said("nowhere", r#"{ "insecure": true, "node": "a" }"#);
        assert_eq!(code, DONE);
        assert!(without.contains("to note:\n  log.file: not set") && without.contains("--cron"), "{without}");
        let (with, _) = said("somewhere", r#"{ "insecure": true, "node": "a", "log": { "file": "/l" } }"#);
        assert!(!with.contains("log.file"), "{with}");
    }

    #[test]
    fn problems_and_missing_programs_are_refused() {
        let file = File::new("bad", r#"{ "insecure": 1, "nod": "a" }"#);
        let (said, code) = check_config(&file.0, true);
        let path = file.0.display();
        let want = format!(
            "picored: {path}: 2 problems\n  1:15 insecure: must be true or false, not 1\n  \
             1:18 nod: unknown key; did you mean \"node\"?\n"
        );
        assert_eq!((said, code), (want, CONFIGURATION));
        let text = r#"{ "insecure": true, "node": "a", "handlers": { "h": { "run": ["/none"] } } }"#;
        let (said, code) = check_config(&File::new("none", text).0, false);
        assert_eq!(code, CONFIGURATION);
        assert!(
            said.contains(": 1 problem\n") && said.contains("handlers.h.run[0]: /none: no such file"),
            "{said}"
        );
        assert_eq!(check_config(Path::new("/nonexistent"), false).1, CONFIGURATION);
    }
}
