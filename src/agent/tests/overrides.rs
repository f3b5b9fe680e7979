//! What persons said: how long it holds, what it shows, and that it is kept.

use super::*;
use crate::agent::overrides::{Override, Overrides, Whose};
use crate::agent::state::Saved;
use crate::time::Date;

fn word(node: Option<&str>, app: Option<&str>, state: AppState, for_secs: Option<u64>) -> Override {
    let until = for_secs.map(|time| (Instant::ZERO + secs(time), secs(time)));
    let [node, app] = [node, app].map(|name| name.map(Into::into));
    Override { node, app, state, until, at: 1_000, by: "anna".into(), reason: "disk".into() }
}

fn all(words: &[Override]) -> Overrides {
    let mut overrides = Overrides::default();
    words.iter().for_each(|word| assert!(overrides.say(word.clone())));
    overrides
}

fn restored(unix_secs: u64, text: &str) -> Overrides {
    let (now, value) = (Instant::ZERO, serde_json::from_str(text).unwrap());
    let saved = crate::agent::overrides::Saved::read(crate::saved::Part(&value)).unwrap();
    Overrides::restore(now, Date::new(now, secs(unix_secs)), saved)
}

fn tag(world: &mut World, name: &str) -> Option<String> {
    let members: crate::control::Members =
        serde_json::from_str(&world.ask(r#"{"cmd":"members"}"#)[0]).unwrap();
    members.members[0].tags.get(name).cloned()
}

impl World {
    fn with_peer(&mut self) {
        let mut packet = Vec::new();
        let alive = crate::wire::Alive {
            node: "par1",
            addr: &[192, 0, 2, 5],
            port: 7946,
            incarnation: 1,
            meta: &crate::wire::serf::encode_tags([("cluster", "tny"), ("a.web", "up")].into_iter()),
            vsn: &[1, 5, 2, 2, 5, 5],
        };
        let mut builder = crate::wire::packet::Builder::default();
        builder.push_message(&crate::wire::Message::Alive(alive));
        builder.finish(&Default::default(), [0; 12], false, &mut packet);
        self.agent.handle_packet(self.now, "192.0.2.5:7946".parse().unwrap(), &mut packet);
        self.drain();
    }

    fn ok(&mut self, request: &str) -> String {
        let lines = self.ask(request);
        assert!(lines.len() == 1 && lines[0].starts_with(r#"{"ok":true"#), "{lines:?}");
        lines[0].clone()
    }
    fn refused(&mut self, request: &str) -> String {
        let lines = self.ask(request);
        assert!(lines.len() == 1 && lines[0].starts_with(r#"{"error":"#), "{lines:?}");
        lines[0].clone()
    }
}

#[test]
fn maintenance_goes_before_a_forced_state_and_leaves_it_behind() {
    let mut overrides = all(&[
        word(None, Some("web"), AppState::Down, None),
        word(None, None, AppState::Maint, Some(60)),
        word(None, Some("db"), AppState::Up, Some(30)),
    ]);
    let state = |overrides: &Overrides, app| overrides.of_own(app).map(|word| word.state);
    assert_eq!([state(&overrides, "web"), state(&overrides, "new")], [Some(AppState::Maint); 2]);
    assert_eq!(overrides.deadline(), Some(Instant::ZERO + secs(30)));
    assert_eq!(overrides.expire(Instant::ZERO + secs(29)), []);
    assert_eq!(overrides.expire(Instant::ZERO + secs(60)).len(), 2);
    assert_eq!((state(&overrides, "web"), state(&overrides, "db")), (Some(AppState::Down), None));
    overrides.unforce("web");
    assert_eq!((overrides.list().count(), overrides.deadline()), (0, None));
}

#[test]
fn a_later_word_about_the_same_replaces_the_earlier_one() {
    let mut overrides = all(&[
        word(None, Some("web"), AppState::Down, None),
        word(None, Some("web"), AppState::Up, None),
        word(None, Some("web"), AppState::Maint, Some(9)),
        word(Some("par1"), Some("web"), AppState::Maint, None),
    ]);
    assert_eq!(overrides.list().count(), 3);
    assert_eq!(overrides.end_maint(Whose { node: None, app: Some("db") }), 0);
    assert_eq!(overrides.end_maint(Whose { node: None, app: None }), 1);
    assert_eq!(overrides.of_own("web").map(|word| word.state), Some(AppState::Up));
    assert_eq!(overrides.tags(), [("m.par1".to_owned(), "web".to_owned())]);
}

#[test]
fn other_nodes_maintenance_is_a_tag_of_this_one() {
    let at = |node, app| word(Some(node), app, AppState::Maint, None);
    let overrides = all(&[at("par1", Some("web")), at("nyc1", None), at("par1", Some("db"))]);
    let tags = [("m.par1", "web,db"), ("m.nyc1", "*")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(overrides.tags(), tags);
    let overrides = all(&[at("par1", Some("web")), at("par1", None), at("par1", Some("db"))]);
    assert_eq!(overrides.tags(), [("m.par1".to_owned(), "*".to_owned())]);
}

#[test]
fn there_is_an_end_to_what_is_remembered() {
    let mut overrides = Overrides::default();
    let said = (0..1_000)
        .filter(|n| overrides.say(word(Some("par1"), Some(&format!("app{n}")), AppState::Maint, None)));
    assert_eq!(said.count(), crate::limits::OVERRIDES_MAX);
}

#[test]
fn words_outlive_a_restart_and_no_clock_makes_them_longer() {
    let now = Instant::ZERO + secs(40);
    let words =
        [word(None, Some("web"), AppState::Down, Some(100)), word(Some("par1"), None, AppState::Maint, None)];
    let saved = all(&words).saved(Date::new(now, secs(5_000)));
    let text = serde_json::to_string(&saved).unwrap();
    let left = |unix_now| {
        let restored = restored(unix_now, &text);
        let web = restored.of_own("web").cloned();
        assert_eq!(restored.tags(), [("m.par1".to_owned(), "*".to_owned())]);
        web.map(|word| (word.until.unwrap().0.since(Instant::ZERO), word.at, word.by, word.reason))
    };
    let said = |time| Some((secs(time), 1_000, "anna".into(), "disk".into()));
    assert_eq!(left(5_000), said(60));
    assert_eq!(left(5_010), said(50));
    assert_eq!(left(5_060), None, "over meanwhile");
    assert_eq!(left(0), said(100), "a clock set back by years: as long as was said, not longer");
}

#[test]
fn an_end_has_one_date() {
    let words = all(&[word(None, Some("web"), AppState::Down, Some(100))]);
    let saved = |millis: u64| {
        let step = Duration::from_millis(millis);
        words.saved(Date::new(Instant::ZERO + step, Duration::from_millis(1_800_000_000_700) + step))
    };
    let differs = (0..3_000).step_by(7).find(|&millis| saved(millis) != saved(0));
    assert_eq!(differs, None);
}

#[test]
fn nonsense_in_the_state_file_is_dropped() {
    let text = r#"{"words":[{"app":"web","state":"sideways"},{"state":"up"},{"node":"par1","app":"web","state":"up"},
        {"app":"web","state":"unknown"},{"app":"web","state":"down"}]}"#;
    let restored = restored(0, text);
    let left: Vec<_> = restored.list().map(|word| (word.app.as_deref(), word.state)).collect();
    assert_eq!(left, [(Some("web"), AppState::Down)]);
}

#[test]
fn maintenance_withdraws_at_once_ends_by_itself_and_names_who_said_it() {
    let mut world = World::new(Vec::new());
    world.agent.handle_wall_clock(world.now, secs(1_000_000));
    world.run_for(secs(30));
    let line = r#"{"cmd":"maint","to":"on","for_secs":600,"reason":"new disk","by":"anna"}"#;
    assert!(world.ok(line).contains("for 10m, or until `picored maint off`"));
    assert_eq!(world.logged("event=maint"), 1);
    assert_eq!(tag(&mut world, "a.web").as_deref(), Some("maint"));
    world.run_for(secs(60));
    let status = world.status();
    let said = &status.overrides[0];
    assert_eq!((said.app.as_deref(), &*said.node, &*said.state), (None, "fra1", "maint"));
    assert_eq!((&*said.by, &*said.reason), ("anna", "new disk"));
    assert_eq!((said.for_secs, said.since, said.since_secs), (Some(540), 1_000_030, 60));
    assert_eq!(status.code, 1);
    assert!(status.problems[0].contains("all apps at fra1: in maintenance for 9m more"), "{status:?}");
    world.done.clear();
    world.run_for(secs(541));
    assert_eq!(world.logged("event=maint-over"), 1);
    assert_eq!(tag(&mut world, "a.web").as_deref(), Some("up"));
    assert_eq!((world.status().code, world.status().overrides.len()), (0, 0));
}

#[test]
fn maintenance_lasts_a_day_if_nothing_else_was_said() {
    let mut world = World::new(Vec::new());
    world.run_for(secs(30));
    world.ok(r#"{"cmd":"maint","to":"on","app":"web"}"#);
    assert_eq!(world.status().overrides[0].for_secs, Some(24 * 3_600));
    assert!(world.refused(r#"{"cmd":"maint","to":"on","app":"nope"}"#).contains("configuration: web"));
    assert!(world.ok(r#"{"cmd":"maint","to":"off","app":"web"}"#).contains("web at this node is not"));
    assert!(world.refused(r#"{"cmd":"maint","to":"off"}"#).contains("not in maintenance"));
    assert_eq!(tag(&mut world, "a.web").as_deref(), Some("up"));
}

#[test]
fn a_part_of_a_node_s_maintenance_is_not_ended() {
    let mut world = World::new(Vec::new());
    world.run_for(secs(30));
    world.ok(r#"{"cmd":"maint","to":"on","node":"fra1"}"#);
    assert_eq!(tag(&mut world, "m.fra1"), None, "oneself is told by the own apps");
    let refused = world.refused(r#"{"cmd":"maint","to":"off","app":"web"}"#);
    assert!(refused.contains("with the whole node: `picored maint off` ends that"), "{refused}");
    world.ok(r#"{"cmd":"app","app":"web","to":"down"}"#);
    assert_eq!(tag(&mut world, "a.web").as_deref(), Some("maint"));
    world.ok(r#"{"cmd":"maint","to":"off"}"#);
    assert_eq!(tag(&mut world, "a.web").as_deref(), Some("down!"));
}

#[test]
fn another_node_s_maintenance_is_said_of_members_only_and_if_it_fits() {
    let mut world = World::new(Vec::new());
    world.run_for(secs(30));
    let on = |app: &str| format!(r#"{{"cmd":"maint","to":"on","node":"par1","app":"{app}"}}"#);
    assert!(world.refused(&on("web")).contains("no member par1"));
    world.with_peer();
    assert!(world.refused(&on("a,b")).contains("letters, digits"));
    assert!(world.ok(&on("web")).contains("picored maint off --node par1 --app web"));
    assert_eq!(tag(&mut world, "m.par1").as_deref(), Some("web"));
    let long = on(&"x".repeat(128));
    world.ok(&long);
    world.ok(&on(&"x".repeat(127)));
    world.ok(&on(&"y".repeat(100)));
    let refused = world.refused(&on(&"z".repeat(128)));
    assert!(refused.contains("and 512 fit (of these m.par1 "), "{refused}");
    assert_eq!(world.status().overrides.len(), 4, "what was refused is not kept");
    world.ok(r#"{"cmd":"maint","to":"off","node":"par1"}"#);
    assert_eq!(tag(&mut world, "m.par1"), None);
}

#[test]
fn a_person_is_told_when_it_is_written_or_that_it_is_not() {
    // One that keeps its state.
    let agent = Agent::with_state(config(Vec::new()), Seed::from_u64(7), Instant::ZERO, secs(1_000), None);
    let mut world = World::of(agent);
    world.run_for(secs(30));
    world.persists = None;
    assert_eq!(world.ask(r#"{"cmd":"maint","to":"on","by":"anna"}"#), [""; 0], "not before it is written");
    let written = world.done.iter().find_map(|action| match action {
        Action::Persist { text } => Some(text.clone()),
        _ => None,
    });
    assert!(written.unwrap().contains("anna"));
    world.agent.handle_persisted(world.now, Err("No space left on device".into()));
    world.drain();
    let told = |world: &World| {
        let lines = world.done.iter().filter(|action| {
            matches!(action, Action::Reply { line, last: true, .. }
            if line.contains("in memory only") && line.contains("No space left"))
        });
        lines.count()
    };
    assert_eq!(told(&world), 1);
    world.agent.handle_persisted(world.now, Err("No space left on device".into()));
    world.drain();
    assert_eq!(told(&world), 1, "once");
}

#[test]
fn what_was_said_holds_after_a_restart() {
    let saved = all(&[word(None, Some("web"), AppState::Down, Some(100))])
        .saved(Date::new(Instant::ZERO, secs(1_000)));
    let saved = Saved { overrides: saved, node: "fra1".into(), ..Saved::default() };
    let agent =
        Agent::with_state(config(Vec::new()), Seed::from_u64(7), Instant::ZERO, secs(1_000), Some(saved));
    let mut world = World::of(agent);
    world.run_for(secs(99));
    assert_eq!(tag(&mut world, "a.web").as_deref(), Some("down!"));
    world.run_for(secs(1));
    assert_eq!(tag(&mut world, "a.web").as_deref(), Some("up"));
}

#[test]
fn what_was_said_of_an_app_that_is_gone_is_dropped_and_logged() {
    let words = all(&[
        word(None, Some("web"), AppState::Down, None),
        word(None, Some("old"), AppState::Down, None),
        word(None, Some("old"), AppState::Maint, None),
        word(None, None, AppState::Maint, Some(10)),
        word(Some("par1"), Some("old"), AppState::Maint, None),
    ]);
    let saved = words.saved(Date::new(Instant::ZERO, secs(1_000)));
    let saved = Saved { overrides: saved, node: "fra1".into(), ..Saved::default() };
    let agent =
        Agent::with_state(config(Vec::new()), Seed::from_u64(7), Instant::ZERO, secs(1_000), Some(saved));
    let mut world = World::of(agent);
    assert_eq!(world.logged("the configuration has no instance of it"), 2);
    let status = world.status();
    let left: Vec<_> = status.overrides.iter().map(|word| (word.app.as_deref(), &*word.node)).collect();
    assert_eq!(left, [(Some("web"), "fra1"), (None, "fra1"), (Some("old"), "par1")]);
}

#[test]
fn the_kernel_s_word_goes_with_the_client_s() {
    let mut world = World::new(Vec::new());
    for (by, uid, shown) in [
        (r#","by":"anna""#, Some(0), "anna (uid 0)"),
        ("", Some(1_000), "uid 1000"),
        (r#","by":"anna""#, None, "anna"),
    ] {
        let line = format!(r#"{{"cmd":"app","app":"web","to":"up"{by}}}"#);
        world.agent.handle_request_by(world.now, 1, uid, line.as_bytes());
        world.drain();
        assert_eq!(world.status().overrides[0].by, shown);
    }
}

#[test]
fn words_that_do_not_fit_any_more_never_take_the_apps_out_of_the_tags() {
    let node = |n: usize| format!("{n}{}", "x".repeat(60));
    let words: Vec<Override> =
        (0..9).map(|n| word(Some(&node(n)), None, AppState::Maint, Some(3_600))).collect();
    let saved = Saved {
        node: "fra1".into(),
        overrides: all(&words).saved(Date::new(Instant::ZERO, secs(1_000))),
        ..Saved::default()
    };
    let unix = secs(1_000);
    let agent = Agent::with_state(config(Vec::new()), Seed::from_u64(7), Instant::ZERO, unix, Some(saved));
    let mut world = World::of(agent);
    assert!(tag(&mut world, "a.web").is_some() && tag(&mut world, "cluster").as_deref() == Some("tny"));
    world.run_for(secs(30));
    assert_eq!(tag(&mut world, "a.web").as_deref(), Some("up"));
    assert_eq!(tag(&mut world, "dc"), None, "the operator's go first");
    let shown = |world: &mut World, n| tag(world, &format!("m.{}", node(n))).is_some();
    assert!(shown(&mut world, 0) && !shown(&mut world, 8), "the latest goes first");
    let problems = world.status().problems;
    let told = problems.iter().find(|text| text.contains("maintenance of")).expect("a problem");
    assert!(told.contains(&node(8)) && !told.contains(&node(0)), "{told}");
}
