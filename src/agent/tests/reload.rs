//! The configuration read anew, and keys that queries change.

use super::*;
use crate::agent::reload::Reload;
use crate::membership::Changeable;
use crate::wire::crypt::Key;
use crate::wire::packet::{Builder, Envelope};
use crate::wire::{Alive, Message, msgpack};

const OLD: [u8; 16] = [1; 16];
const NEW: [u8; 16] = [2; 16];

fn keys(keys: &[[u8; 16]]) -> KeyRing {
    KeyRing { keys: keys.iter().map(|key| Key::new(key).unwrap()).collect() }
}

fn encrypted(file: Option<&str>) -> World {
    let mut config = config(vec![mail()]);
    config.membership.keys = keys(&[OLD]);
    config.keys_file = file.map(Into::into);
    let agent = Agent::new(config, Seed::from_u64(7), Instant::ZERO);
    let mut world = World::of(agent);
    world.run_for(secs(60));
    world.done.clear();
    world
}

/// What the reader would give if the file were as it was, with these keys.
pub fn reload(ring: KeyRing, file: Option<&str>) -> Reload {
    let config = config(vec![mail()]);
    Reload {
        membership: Changeable::of(&config.membership),
        keys: ring,
        keys_file: file.map(Into::into),
        tags: config.tags,
        publish: config.publish,
        apps: config.apps,
        handlers: config.handlers,
        safety: config.safety,
        log_level: log::LevelFilter::Info,
        changed: Vec::new(),
        at_restart: Vec::new(),
    }
}

impl World {
    pub fn reload(&mut self, reload: Reload) -> String {
        assert_eq!(self.ask(r#"{"cmd":"reload"}"#), [""; 0], "the reply waits for the file");
        assert!(self.done.contains(&Action::Reload { client: 1 }));
        self.done.clear();
        self.agent.handle_reload(self.now, Some(1), Ok(Box::new(reload)));
        self.drain();
        let reply = self.done.iter().find_map(|action| match action {
            Action::Reply { line, last: true, .. } => Some(line.clone()),
            _ => None,
        });
        reply.unwrap()
    }

    /// A packet from a Serf agent, with a query about a key.
    fn query(&mut self, ring: &KeyRing, ltime: u64, name: &str, key: &[u8]) {
        let from: SocketAddr = "192.0.2.9:7946".parse().unwrap();
        let vsn = [1, 5, 2, 2, 5, 5];
        let alive = Alive {
            node: "agent",
            addr: &[192, 0, 2, 9],
            port: 7946,
            incarnation: 1,
            meta: b"\xFF\x80",
            vsn: &vsn,
        };
        let mut request = vec![7, 0x81];
        msgpack::write_str(&mut request, "Key");
        msgpack::write_bytes(&mut request, key);
        let mut query = vec![4, 0x86];
        let texts = [("Addr", &[192, 0, 2, 9][..]), ("Name", name.as_bytes()), ("Payload", &request)];
        for (field, value) in texts.into_iter().chain([("SourceNode", &b"agent"[..])]) {
            msgpack::write_str(&mut query, field);
            msgpack::write_bytes(&mut query, value);
        }
        for (field, value) in [("LTime", ltime), ("Port", 7946)] {
            msgpack::write_str(&mut query, field);
            msgpack::write_uint(&mut query, value);
        }
        let envelope = Envelope { keys: ring.clone(), compress_from: usize::MAX, ..Envelope::default() };
        let (mut builder, mut packet) = (Builder::default(), Vec::new());
        builder.push_message(&Message::Alive(alive));
        builder.push_message(&Message::User(&query));
        builder.finish(&envelope, [ltime as u8; 12], false, &mut packet);
        self.done.clear();
        self.agent.handle_packet(self.now, from, &mut packet);
        self.drain();
    }

    fn written(&self) -> Option<(QueryId, Box<str>, KeyRing)> {
        self.done.iter().find_map(|action| match action {
            Action::WriteKeys { id, path, keys, .. } => Some((*id, path.clone(), keys.clone())),
            _ => None,
        })
    }
}

#[test]
fn a_reload_swaps_keys_and_tags_and_says_so_without_showing_a_key() {
    let mut world = encrypted(Some("/k"));
    let mut new = reload(keys(&[NEW, OLD]), Some("/k"));
    new.tags = vec![("dc".into(), "par".into())];
    (new.changed, new.at_restart) = (vec!["tags".into()], vec!["apps.web".into()]);
    let reply = world.reload(new);
    assert_eq!(reply, r#"{"ok":true,"changed":["tags","keys"],"at_restart":["apps.web"],"notes":[]}"#);
    assert_eq!(*world.agent.membership.keys(), keys(&[NEW, OLD]));
    assert_eq!((world.logged("event=reload"), world.logged("event=keys-reload")), (1, 1));
    let (new, old) = (Key::new(&NEW).unwrap().fingerprint(), Key::new(&OLD).unwrap().fingerprint());
    assert_eq!(world.logged(&format!("{new} is new, {new} encrypts")), 1);
    assert_eq!(world.logged(&old), 0, "it stays as it was");
    let members: crate::control::Members =
        serde_json::from_str(&world.ask(r#"{"cmd":"members"}"#)[0]).unwrap();
    assert_eq!(members.members[0].tags["dc"], "par");
    world.run_for(secs(60));
    assert_eq!(world.runs(), 0, "a reload runs no handler");
}

#[test]
fn a_reload_that_failed_changes_nothing_and_says_why() {
    let mut world = encrypted(Some("/k"));
    world.agent.handle_reload(world.now, Some(1), Err("/c.json: 1 problem\n  1:2 x: unknown key".into()));
    world.drain();
    assert_eq!(world.logged("event=reload result=refused"), 1);
    let reply = world.done.iter().find(|action| matches!(action, Action::Reply { .. }));
    let line = r#"{"error":"/c.json: 1 problem\n  1:2 x: unknown key"}"#.to_owned();
    assert_eq!(reply, Some(&Action::Reply { client: 1, line, last: true }));
    assert_eq!(*world.agent.membership.keys(), keys(&[OLD]));
    world.done.clear();
    world.agent.handle_reload(world.now, None, Ok(Box::new(reload(keys(&[OLD]), Some("/k")))));
    world.drain();
    assert_eq!(world.logged("nothing changed"), 1, "a signal is answered in the log alone");
    assert!(!world.done.iter().any(|action| matches!(action, Action::Reply { .. })));
}

#[test]
fn the_first_key_and_the_last_take_a_restart() {
    let mut world = encrypted(Some("/k"));
    let reply = world.reload(reload(KeyRing::default(), None));
    assert!(
        reply.contains(r#""changed":[],"at_restart":["keys"]"#) && reply.contains("restart of all nodes"),
        "{reply}"
    );
    assert_eq!(*world.agent.membership.keys(), keys(&[OLD]));
}

#[test]
fn a_key_of_a_query_is_written_to_the_file_before_the_answer() {
    let mut world = encrypted(Some("/k"));
    world.query(&keys(&[OLD]), 1, "_serf_install-key", &NEW);
    let (id, path, written) = world.written().unwrap();
    assert_eq!((&*path, written), ("/k", keys(&[OLD, NEW])));
    assert_eq!(world.logged("event=keys-install"), 1);
    let sent = world.status().counters.unwrap().packets_out;
    world.agent.handle_keys_written(world.now, id, keys(&[OLD, NEW]), Ok(None));
    world.drain();
    assert_eq!(world.status().counters.unwrap().packets_out, sent + 1);
    // Once more: it is there, and stored.
    world.query(&keys(&[OLD]), 2, "_serf_install-key", &NEW);
    assert_eq!((world.written(), world.logged("event=keys-")), (None, 0));
    assert_eq!(world.status().counters.unwrap().packets_out, sent + 2);
    // A reload agrees with the file.
    let reply = world.reload(reload(keys(&[OLD, NEW]), Some("/k")));
    assert_eq!(reply, r#"{"ok":true,"changed":[],"at_restart":[],"notes":[]}"#);
}

#[test]
fn keys_that_could_not_be_written_hold_are_told_of_loudly_and_are_tried_again() {
    let mut world = encrypted(Some("/k"));
    world.query(&keys(&[OLD]), 1, "_serf_install-key", &NEW);
    let (id, ..) = world.written().unwrap();
    let ring = keys(&[OLD, NEW]);
    world.agent.handle_keys_written(world.now, id, ring, Err("/k: Read-only file system".into()));
    world.drain();
    assert_eq!(world.logged("event=keys-not-stored"), 1);
    let status = world.status();
    assert!(status.code == 1 && status.problems[0].contains("what keeps /k from being"), "{status:?}");
    assert_eq!(*world.agent.membership.keys(), keys(&[OLD, NEW]));
    // The file has the old ones: a reload for another reason must not go back to them.
    let reply = world.reload(reload(keys(&[OLD]), Some("/k")));
    assert!(reply.contains("the keys stay as `serf keys` made them"), "{reply}");
    assert_eq!(*world.agent.membership.keys(), keys(&[OLD, NEW]));
    world.query(&keys(&[OLD]), 2, "_serf_install-key", &NEW);
    assert_eq!(world.written().map(|(_, _, keys)| keys), Some(keys(&[OLD, NEW])));
    // What a person wrote there is newer.
    world.reload(reload(keys(&[NEW]), Some("/k")));
    assert_eq!(*world.agent.membership.keys(), keys(&[NEW]));
    assert_eq!(world.status().problems, [""; 0]);
}

/// Goal: what is told as stored is what was written, not what holds by then.
#[test]
fn stored_is_what_was_written() {
    let mut world = encrypted(Some("/k"));
    world.query(&keys(&[OLD]), 1, "_serf_install-key", &NEW);
    let Some(Action::WriteKeys { id, keys: first, known, .. }) =
        world.done.iter().find(|action| matches!(action, Action::WriteKeys { .. })).cloned()
    else {
        panic!("{:?}", world.done);
    };
    assert_eq!(known, keys(&[OLD]));
    world.query(&keys(&[OLD]), 2, "_serf_use-key", &NEW);
    let written = world.written();
    world.agent.handle_keys_written(world.now, id, first, Ok(None));
    world.drain();
    assert_eq!(world.status().code, 1, "the second change is not stored yet");
    let (id, _, second) = written.unwrap();
    let doubt = Some("/k: Input/output error".into());
    world.agent.handle_keys_written(world.now, id, second, Ok(doubt));
    world.drain();
    assert_eq!((world.logged("event=keys-stored"), world.logged("event=keys-not-stored")), (1, 0));
    assert_eq!(world.status().code, 0);
}

#[test]
fn the_key_file_is_another_one_only_together_with_its_keys() {
    let mut world = encrypted(Some("/k"));
    let reply = world.reload(reload(keys(&[OLD]), Some("/other")));
    assert_eq!(reply, r#"{"ok":true,"changed":["keys_file"],"at_restart":[],"notes":[]}"#);
    world.query(&keys(&[OLD]), 1, "_serf_install-key", &NEW);
    let (id, path, ring) = world.written().unwrap();
    assert_eq!(&*path, "/other");
    world.agent.handle_keys_written(world.now, id, ring, Err("/other: no".into()));
    // The keys of the third are as old as those of the second.
    let reply = world.reload(reload(keys(&[OLD]), Some("/third")));
    assert!(reply.contains(r#""changed":[]"#), "{reply}");
    world.query(&keys(&[OLD]), 2, "_serf_install-key", &NEW);
    assert_eq!(world.written().map(|(_, path, _)| path), Some("/other".into()));
    let reply = world.reload(reload(keys(&[OLD, NEW]), Some("/third")));
    assert!(reply.contains(r#""changed":["keys_file"]"#), "{reply}");
}

#[test]
fn keys_of_the_configuration_itself_are_not_written() {
    let mut world = encrypted(None);
    world.query(&keys(&[OLD]), 1, "_serf_install-key", &NEW);
    assert_eq!(world.written(), None);
    assert_eq!(world.logged("event=keys-not-stored"), 1);
    assert_eq!(*world.agent.membership.keys(), keys(&[OLD, NEW]));
    world.query(&keys(&[OLD]), 2, "_serf_remove-key", &OLD);
    assert_eq!(world.logged("event=keys-refused"), 1);
    // It is told as long as it is so.
    world.run_for(secs(3_600));
    let told = |world: &mut World| {
        let problems = world.status().problems;
        problems.iter().any(|problem| problem.contains("into \"keys\" of the configuration"))
    };
    assert!(told(&mut world));
    world.reload(reload(keys(&[OLD, NEW]), None));
    assert!(!told(&mut world));
}

fn app(name: &str, target: Target) -> AppConfig {
    let mut web = config(Vec::new()).apps.remove(0);
    web.check.name = name.into();
    web.check.checks[0].target = target;
    web
}

fn tcp(port: u16) -> Target {
    Target::Tcp(format!("127.0.0.1:{port}").parse().unwrap())
}

fn with_apps(apps: Vec<AppConfig>) -> Reload {
    Reload { apps, ..reload(keys(&[OLD]), Some("/k")) }
}

impl World {
    fn attempts(&self) -> Vec<(AttemptId, Target)> {
        let of = |action: &Action| match action {
            Action::Attempt { id, target } => Some((*id, target.clone())),
            _ => None,
        };
        self.done.iter().filter_map(of).collect()
    }

    fn own_tags(&mut self) -> std::collections::BTreeMap<String, String> {
        let line = self.ask(r#"{"cmd":"members"}"#).remove(0);
        let members: crate::control::Members = serde_json::from_str(&line).unwrap();
        members.members.into_iter().next().unwrap().tags
    }
}

#[test]
fn apps_come_stay_and_go_by_name() {
    let mut world = encrypted(Some("/k"));
    world.ask(r#"{"cmd":"app","app":"web","to":"down"}"#);
    let since = world.status().apps[0].since_secs;
    world.reload(with_apps(vec![app("db", tcp(5_432)), app("web", tcp(80))]));
    world.run_for(secs(30));
    let tags = world.own_tags();
    assert_eq!((&*tags["a.web"], &*tags["a.db"]), ("down!", "up"));
    let status = world.status();
    assert_eq!(status.apps[1].since_secs, since + 30, "what stays is not touched");
    world.reload(with_apps(vec![app("db", tcp(5_432))]));
    let tags = world.own_tags();
    assert!(!tags.contains_key("a.web") && tags["a.db"] == "up", "{tags:?}");
    let status = world.status();
    assert_eq!((status.apps.len(), status.overrides.len()), (1, 0), "nobody's word is about what is gone");
    world.done.clear();
    world.run_for(secs(60));
    assert!(world.attempts().iter().all(|(_, target)| *target == tcp(5_432)));
    assert!(world.attempts().len() >= 5);
    assert_eq!(world.runs(), 0, "no handler runs because of it");
}

/// Goal: what a retired app's program says late is nobody else's, and it is waited for, and killed at last.
#[test]
fn a_program_of_an_app_that_is_gone_is_ended_and_its_word_finds_nobody() {
    let exec = Target::Exec(Box::new(crate::check::attempt::ExecTarget {
        argv: vec!["/bin/check".into()],
        warn_ok: false,
    }));
    let mut world = encrypted(Some("/k"));
    world.attempts_hang = true;
    world.reload(with_apps(vec![app("old", exec.clone()), app("web", tcp(80))]));
    world.done.clear();
    world.run_for(secs(1));
    let is_exec = |(_, target): &(AttemptId, Target)| *target == exec;
    let (id, _) = world.attempts().into_iter().find(is_exec).expect("it was started");
    // One less before "web", so that a place in the list would be another app's.
    world.reload(with_apps(vec![app("web", tcp(80))]));
    assert!(world.done.contains(&Action::AttemptAbort { id }));
    world.run_for(secs(10));
    assert!(world.done.contains(&Action::AttemptKill { id }));
    assert_eq!(world.agent.retired.len(), 1);
    let before = world.status().apps;
    world.agent.handle_attempt(world.now, id, Outcome::Fail("killed".into()));
    world.drain();
    assert_eq!((world.status().apps, world.agent.retired.len()), (before, 0));
}

#[test]
fn an_app_that_is_back_before_its_program_ended_starts_no_second_one() {
    let exec = Target::Exec(Box::new(crate::check::attempt::ExecTarget {
        argv: vec!["/bin/check".into()],
        warn_ok: false,
    }));
    let mut world = encrypted(Some("/k"));
    world.attempts_hang = true;
    let apps = vec![app("old", exec.clone())];
    world.reload(with_apps(apps.clone()));
    world.done.clear();
    world.run_for(secs(1));
    let started = |world: &World| world.attempts().iter().filter(|(_, target)| *target == exec).count();
    assert_eq!(started(&world), 1);
    world.reload(with_apps(Vec::new()));
    world.reload(with_apps(apps));
    world.done.clear();
    world.run_for(secs(60));
    assert_eq!(started(&world), 0, "the first one has not ended");
}

#[test]
fn a_reload_takes_over_publish_and_ends_what_a_person_said_of_the_log() {
    let mut world = encrypted(Some("/k"));
    let lines = world.ask(r#"{"cmd":"log-level","level":"debug"}"#);
    assert!(lines[0].contains("logs debug until the next restart or reload"), "{lines:?}");
    assert!(world.done.contains(&Action::LogLevel { level: log::LevelFilter::Debug }));
    let publish = vec!["203.0.113.9".parse().unwrap()];
    let levels = |world: &World| {
        let levels = world.done.iter().filter(|action| matches!(action, Action::LogLevel { .. }));
        levels.cloned().collect::<Vec<_>>()
    };
    world.reload(Reload { publish, ..reload(keys(&[OLD]), Some("/k")) });
    assert_eq!(levels(&world), [Action::LogLevel { level: log::LevelFilter::Info }]);
    assert_eq!(world.own_tags()["p"], "203.0.113.9");
    world.reload(reload(keys(&[OLD]), Some("/k")));
    assert_eq!((levels(&world), world.own_tags().get("p")), (vec![], None));
}
