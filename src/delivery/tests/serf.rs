//! `serf` handlers: Serf's windows, Serf's data, and what becomes of runs that fail, hang or come too late.

use super::MemberEvent::{Failed, Join, Leave, Reap, Update};
use super::*;
use crate::limits::{HANDLER_QUEUE_MAX, MEMBERS_MAX, SERF_KNOWN_MAX, SERF_LINES_MAX};

fn script(place: Place) -> Config {
    Config { name: "script".into(), ..config(Mode::Serf, place) }
}

fn scene() -> Scene {
    Scene::new(script(Place::All))
}

/// It happened to a member with these tags.
fn happened(scene: &mut Scene, event: MemberEvent, name: &str, tags: &[(&str, &str)]) {
    let mut member = member(name);
    member.meta = encoded(tags);
    let member = Some(&member).filter(|_| event != Reap);
    scene.delivery.handle_member(scene.now, event, name, member);
    scene.look();
}

fn happen(scene: &mut Scene, events: &[(MemberEvent, &str)]) {
    for &(event, name) in events {
        happened(scene, event, name, &[]);
    }
}

fn encoded(tags: &[(&str, &str)]) -> Box<[u8]> {
    crate::wire::serf::encode_tags(tags.iter().copied()).into()
}

/// All calls of the next minute, each run ending with `code`: the event and the members' names.
fn calls_ending(scene: &mut Scene, code: i32) -> Vec<String> {
    let end = scene.now + secs(60);
    let mut calls = Vec::new();
    while scene.now < end {
        scene.run_for(Duration::from_millis(100));
        for (id, run) in scene.runs() {
            let names =
                stdin(&run).lines().map(|line| line.split('\t').next().unwrap_or_default().to_owned());
            calls.push(format!("{} {}", env(&run, "SERF_EVENT"), names.collect::<Vec<_>>().join(" ")));
            scene.end(id, code);
        }
    }
    calls
}

fn calls(scene: &mut Scene) -> Vec<String> {
    calls_ending(scene, 0)
}

fn stdin(run: &Run) -> &str {
    core::str::from_utf8(&run.stdin).expect("text")
}

// Windows.

#[test]
fn a_call_comes_when_nothing_happened_for_a_second_and_tells_all_at_once() {
    let mut scene = scene();
    happen(&mut scene, &[(Join, "b")]);
    scene.run_for(Duration::from_millis(900));
    happen(&mut scene, &[(Join, "a")]);
    scene.run_for(Duration::from_millis(999));
    assert_eq!(scene.runs(), []);
    scene.run_for(Duration::from_millis(1));
    assert_eq!(stdin(&scene.only_run().1), "b\t192.0.2.1\t\t\na\t192.0.2.1\t\t\n");
}

#[test]
fn a_window_is_three_seconds_long_at_most() {
    let mut scene = scene();
    for n in 0..5 {
        happened(&mut scene, Join, &format!("n{n}"), &[]);
        scene.run_for(Duration::from_millis(700));
    }
    assert_eq!(stdin(&scene.only_run().1).lines().count(), 5, "of 0 to 2.8 s, at 3 s");
    happen(&mut scene, &[(Join, "late")]);
    assert_eq!(scene.runs(), []);
}

#[test]
fn what_happened_to_different_members_is_one_call_for_each_kind_in_the_order_of_events() {
    let mut scene = scene();
    happen(&mut scene, &[(Join, "a"), (Join, "b"), (Join, "c"), (Join, "d")]);
    assert_eq!(calls(&mut scene), ["member-join a b c d"]);
    happen(&mut scene, &[(Failed, "b"), (Leave, "c"), (Failed, "a"), (Join, "e")]);
    assert_eq!(calls(&mut scene), ["member-failed b a", "member-leave c", "member-join e"]);
}

#[test]
fn of_a_member_the_last_change_counts() {
    let mut scene = scene();
    happen(&mut scene, &[(Join, "a")]);
    assert_eq!(calls(&mut scene), ["member-join a"]);
    happen(&mut scene, &[(Failed, "a"), (Leave, "a")]);
    assert_eq!(calls(&mut scene), ["member-leave a"]);
    happen(&mut scene, &[(Reap, "a"), (Join, "a"), (Failed, "a")]);
    assert_eq!(calls(&mut scene), ["member-failed a"]);
}

#[test]
fn one_that_fails_and_is_back_within_a_window_is_not_mentioned() {
    let mut scene = scene();
    happen(&mut scene, &[(Join, "a")]);
    assert_eq!(calls(&mut scene), ["member-join a"]);
    happen(&mut scene, &[(Failed, "a"), (Join, "a")]);
    assert_eq!(calls(&mut scene), [""; 0]);
    happen(&mut scene, &[(Failed, "a")]);
    assert_eq!(calls(&mut scene), ["member-failed a"]);
}

#[test]
fn each_update_is_told_once_with_the_last_tags() {
    let mut scene = scene();
    happen(&mut scene, &[(Join, "a")]);
    assert_eq!(calls(&mut scene), ["member-join a"]);
    happened(&mut scene, Update, "a", &[("k", "1")]);
    happened(&mut scene, Update, "a", &[("k", "2")]);
    scene.run_for(secs(1));
    let (id, run) = scene.only_run();
    assert_eq!((env(&run, "SERF_EVENT"), stdin(&run)), ("member-update", "a\t192.0.2.1\t\tk=2\n"));
    scene.end(id, 0);
    happened(&mut scene, Update, "a", &[("k", "3")]);
    assert_eq!(calls(&mut scene), ["member-update a"]);
    happen(&mut scene, &[(Join, "b")]);
    assert_eq!(calls(&mut scene), ["member-join b"], "not the update again");
}

#[test]
fn an_update_does_not_hide_that_a_member_joined_but_is_told_of_one_that_is_known() {
    let mut scene = scene();
    happened(&mut scene, Join, "a", &[]);
    happened(&mut scene, Update, "a", &[("k", "1")]);
    scene.run_for(secs(1));
    let (id, run) = scene.only_run();
    assert_eq!((env(&run, "SERF_EVENT"), stdin(&run)), ("member-join", "a\t192.0.2.1\t\tk=1\n"));
    scene.end(id, 0);
    happen(&mut scene, &[(Failed, "a"), (Join, "a"), (Update, "a")]);
    assert_eq!(calls(&mut scene), ["member-update a"]);
}

#[test]
fn a_forgotten_member_is_reaped_with_what_was_last_known_of_it() {
    let mut scene = scene();
    happened(&mut scene, Join, "a", &[("role", "web")]);
    happened(&mut scene, Failed, "a", &[("role", "db")]);
    assert_eq!(calls(&mut scene), ["member-failed a"]);
    happen(&mut scene, &[(Reap, "a"), (Reap, "never-seen")]);
    scene.run_for(secs(1));
    let (id, run) = scene.only_run();
    assert_eq!((env(&run, "SERF_EVENT"), stdin(&run)), ("member-reap", "a\t192.0.2.1\tdb\trole=db\n"));
    scene.end(id, 0);
    happen(&mut scene, &[(Join, "a")]);
    assert_eq!(calls(&mut scene), ["member-join a"]);
}

// Data.

#[test]
fn lines_are_serf_s() {
    let line = |tags: &[(&str, &str)], addr: &str| {
        let mut member = member("web-1");
        (member.meta, member.addr) = (encoded(tags), addr.parse().expect("an address"));
        String::from_utf8(super::super::serf::line(&member).to_vec()).expect("text")
    };
    let v4 = "192.0.2.7:7946";
    assert_eq!(line(&[], v4), "web-1\t192.0.2.7\t\t\n");
    assert_eq!(line(&[("role", "a\tb\nc"), ("k", "x,y=z\\t\r")], v4), {
        "web-1\t192.0.2.7\ta\\tb\\nc\tk=x,y=z\\t\r,role=a\\tb\\nc\n"
    });
    assert_eq!(line(&[("b", "1"), ("a", "2"), ("b", "3")], v4), "web-1\t192.0.2.7\t\ta=2,b=3\n");
    assert_eq!(line(&[], "[2001:db8::7]:7946"), "web-1\t2001:db8::7\t\t\n");
    assert_eq!(line(&[], "[::ffff:192.0.2.7]:7946"), "web-1\t192.0.2.7\t\t\n");
    // Metadata of old: all of it is the role.
    let mut old = member("old");
    old.meta = (*b"db").into();
    assert_eq!(&*super::super::serf::line(&old), b"old\t192.0.2.1\tdb\trole=db\n");
    // Any bytes: Go's texts need not be UTF-8.
    old.meta = (*b"\xFE\tb").into();
    assert_eq!(&*super::super::serf::line(&old), b"old\t192.0.2.1\t\xFE\\tb\trole=\xFE\\tb\n");
    old.meta = (*b"\xFF\x83\xA4role\xA1\xFE\xA1k\xA11\xA1\xFD\xA0").into();
    assert_eq!(&*super::super::serf::line(&old), b"old\t192.0.2.1\t\xFE\tk=1,role=\xFE,\xFD=\n");
}

#[test]
fn the_environment_is_serf_s_with_picored_s_own_variables_and_the_configured_ones() {
    let mut config = script(Place::All);
    config.env = ["SERF_RPC_ADDR", "SERF_EVENT", "SERF_TAG_DC", "PICORED_SELF", "ZONE"]
        .map(|name| (name.into(), "configured".into()))
        .into();
    let mut scene = Scene::new(config);
    scene.tag(OWN, &[("role", "web"), ("dc", "fra"), ("a.web-1", "up"), ("größe", "l"), ("a_web_1", "last")]);
    happen(&mut scene, &[(Join, "b")]);
    scene.run_for(secs(1));
    let (_, run) = scene.only_run();
    let serf: Vec<String> = run
        .env
        .iter()
        .filter(|(name, _)| name.starts_with("SERF_"))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(
        serf,
        [
            "SERF_RPC_ADDR=configured",
            "SERF_EVENT=member-join",
            "SERF_SELF_NAME=fra1",
            "SERF_SELF_ROLE=web",
            "SERF_TAG_A_WEB_1=last",
            "SERF_TAG_DC=fra",
            "SERF_TAG_GR__E=l",
            "SERF_TAG_ROLE=web",
        ]
    );
    for (name, value) in [
        ("PICORED_MODE", "serf"),
        ("PICORED_EVENT", "member-join"),
        ("PICORED_SELF", "fra1"),
        ("PICORED_CLUSTER", "tny"),
        ("PICORED_GENERATION", "1"),
        ("PICORED_DRY_RUN", "0"),
        ("ZONE", "configured"),
    ] {
        assert_eq!(env(&run, name), value);
    }
    assert_eq!(run.argv, ["/bin/dns".into()]);
}

#[test]
fn only_wanted_events_and_with_self_only_the_own_node_s_are_told() {
    let mut wanted = script(Place::All);
    wanted.member_events = vec![Failed, Leave];
    let mut scene = Scene::new(wanted);
    happen(&mut scene, &[(Join, "a"), (Join, "b")]);
    assert_eq!(calls(&mut scene), [""; 0]);
    happen(&mut scene, &[(Failed, "a"), (Update, "b")]);
    assert_eq!(calls(&mut scene), ["member-failed a"]);
    let mut scene = Scene::new(script(Place::SelfOnly));
    happen(&mut scene, &[(Join, "a"), (Join, OWN), (Failed, "b")]);
    assert_eq!(calls(&mut scene), ["member-join fra1"]);
}

// Who tells it, and when not.

#[test]
fn it_tells_before_the_gates_are_open_unless_one_node_tells_for_all() {
    for (place, count) in [(Place::All, 1), (Place::SelfOnly, 1), (Place::One, 0)] {
        let mut scene = Scene::new(script(place));
        scene.may_act = Err(Reason::Settling);
        happen(&mut scene, &[(Join, OWN)]);
        assert_eq!(calls(&mut scene).len(), count, "{place:?}");
    }
}

#[test]
fn with_one_the_runner_of_the_moment_tells_it() {
    let config = with_runner("par1", script(Place::One));
    let key = format!("h.{}", config.name);
    let mut scene = Scene::new(config).other("par1", &[(&key, "i:0:-")]);
    happen(&mut scene, &[(Join, "n1")]);
    assert_eq!(calls(&mut scene), [""; 0]);
    assert_eq!(scene.tag_shown(), "i:0:-");
    scene.member("par1").state = MemberState::Dead;
    happen(&mut scene, &[(Failed, "par1")]);
    scene.run_for(secs(1));
    let (id, run) = scene.only_run();
    assert_eq!(env(&run, "SERF_EVENT"), "member-failed");
    assert_eq!(scene.tag_shown(), "i:0:-", "a tag that changes with each run would be the next event");
    scene.end(id, 0);
}

// Runs that fail or hang, and too much of everything.

#[test]
fn a_run_that_fails_is_logged_and_counted_but_not_repeated_and_never_given_up() {
    for code in [1, 75, 77, 127] {
        let mut scene = scene();
        for (n, event) in [Join, Failed, Join, Failed].into_iter().enumerate() {
            happen(&mut scene, &[(event, "a")]);
            scene.run_for(secs(1));
            let (id, _) = scene.only_run();
            scene.delivery.handle_exit(scene.now, id, Exit::Code(code), b"no");
            let failed = Action::Report(Report {
                handler: "script".into(),
                app: None,
                what: ReportKind::Failed { exit: Exit::Code(code), output: "no".into(), retry_in: None },
            });
            assert_eq!(scene.delivery.poll_action(), Some(failed));
            scene.run_for(secs(1_000));
            assert_eq!(scene.runs(), []);
            let failures = scene.status(|status| (status.failures_in_a_row as usize, status.gave_up));
            assert_eq!(failures, (n + 1, false));
        }
        happen(&mut scene, &[(Join, "a")]);
        calls(&mut scene);
        assert_eq!(scene.status(|status| status.failures_in_a_row), 0);
    }
}

#[test]
fn one_run_at_a_time_and_what_happens_meanwhile_is_told_in_order() {
    let mut scene = scene();
    let phase = |scene: &Scene| scene.status(|status| status.phase);
    assert_eq!(phase(&scene), "idle");
    happen(&mut scene, &[(Join, "a")]);
    scene.run_for(secs(1));
    let (id, _) = scene.only_run();
    for event in [Failed, Join] {
        happen(&mut scene, &[(event, "a")]);
        scene.run_for(secs(2));
        assert_eq!((scene.runs(), phase(&scene)), (vec![], "running"));
    }
    scene.end(id, 0);
    assert_eq!(calls(&mut scene), ["member-failed a", "member-join a"]);
    assert_eq!(phase(&scene), "idle");
}

#[test]
fn a_run_that_hangs_is_ended_and_the_next_call_follows() {
    let mut scene = scene();
    happen(&mut scene, &[(Join, "a")]);
    scene.run_for(secs(1));
    let (id, _) = scene.only_run();
    happen(&mut scene, &[(Failed, "a")]);
    scene.run_for(secs(36));
    let signals: Vec<Signal> = core::mem::take(&mut scene.actions)
        .into_iter()
        .filter_map(|action| if let Action::Signal { signal, .. } = action { Some(signal) } else { None })
        .collect();
    assert_eq!(signals, [Signal::Term, Signal::Kill]);
    scene.delivery.handle_exit(scene.now, id, Exit::Signal(9), b"");
    assert_eq!(calls(&mut scene), ["member-failed a"]);
}

/// The members that were dropped according to the reports.
fn dropped(scene: &Scene) -> usize {
    let count = |action: &Action| match action {
        Action::Report(Report { what: ReportKind::Dropped { count }, .. }) => *count as usize,
        _ => 0,
    };
    scene.actions.iter().map(count).sum()
}

#[test]
fn behind_a_run_that_hangs_the_oldest_calls_are_dropped_and_it_is_said() {
    let mut config = script(Place::All);
    config.timeout = secs(86_400);
    let mut scene = Scene::new(config);
    happen(&mut scene, &[(Join, "a")]);
    scene.run_for(secs(1));
    let (id, _) = scene.only_run();
    for n in 0..HANDLER_QUEUE_MAX + 3 {
        happen(&mut scene, &[(if n % 2 == 0 { Failed } else { Join }, "a")]);
        scene.run_for(secs(1));
    }
    assert_eq!(dropped(&scene), 3);
    scene.actions.clear();
    scene.end(id, 0);
    assert_eq!(calls(&mut scene).len(), HANDLER_QUEUE_MAX);
    // Few calls, but many members.
    happen(&mut scene, &[(Update, "a")]);
    scene.run_for(secs(1));
    scene.only_run();
    for event in [Join, Failed] {
        for n in 0..MEMBERS_MAX - 1 {
            scene.delivery.handle_member(scene.now, event, &format!("n{n}"), Some(&member("x")));
        }
        scene.run_for(secs(1));
    }
    assert_eq!(dropped(&scene), MEMBERS_MAX - 1);
    const { assert!(SERF_LINES_MAX < 2 * (MEMBERS_MAX - 1)) };
}

#[test]
fn a_flood_of_new_names_is_bounded_and_said() {
    let mut scene = scene();
    for n in 0..SERF_KNOWN_MAX + 7 {
        scene.delivery.handle_member(scene.now, Join, &format!("n{n}"), Some(&member("x")));
    }
    scene.run_for(secs(1));
    assert_eq!(dropped(&scene), 7 + SERF_KNOWN_MAX, "7, and a call with more than all members is too long");
}

// The end.

#[test]
fn the_own_leave_is_told_and_waited_for_but_not_where_one_node_tells_for_all() {
    for place in [Place::All, Place::SelfOnly, Place::One] {
        let mut scene = Scene::new(script(place));
        scene.run_for(secs(10));
        happen(&mut scene, &[(Join, OWN)]);
        assert_eq!(calls(&mut scene).len(), 1);
        scene.delivery.leave();
        assert!(!scene.delivery.is_waiting());
        happen(&mut scene, &[(Leave, OWN)]);
        assert_eq!(scene.delivery.is_waiting(), place != Place::One);
        scene.run_for(secs(1));
        let runs = scene.runs();
        assert_eq!(runs.len(), usize::from(place != Place::One));
        assert!(!scene.delivery.is_waiting());
        assert_eq!(scene.delivery.is_running(), place != Place::One);
    }
}

#[test]
fn nothing_is_told_after_stop() {
    let mut scene = scene();
    happen(&mut scene, &[(Join, "a")]);
    scene.delivery.leave();
    assert!(scene.delivery.is_waiting());
    scene.delivery.stop();
    assert!(!scene.delivery.is_waiting());
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
}
