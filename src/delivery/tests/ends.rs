//! Runs that end badly, or not at all, and the end of the program.

use super::*;

#[test]
fn a_run_that_takes_too_long_gets_term_and_five_seconds_later_kill_and_has_failed() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    let signals = |scene: &mut Scene| -> Vec<Signal> {
        let actions = core::mem::take(&mut scene.actions);
        actions
            .iter()
            .filter_map(|a| if let Action::Signal { signal, .. } = a { Some(*signal) } else { None })
            .collect()
    };
    scene.run_for(Duration::from_millis(29_999));
    assert_eq!(signals(&mut scene), []);
    scene.run_for(secs(4));
    assert_eq!(signals(&mut scene), [Signal::Term]);
    scene.run_for(secs(60));
    assert_eq!(signals(&mut scene), [Signal::Kill]);
    scene.end(id, 0);
    assert_eq!(scene.tag_shown(), "i:1:?", "exit 0 after TERM is no success");
}

#[test]
fn nothing_starts_after_stop_but_the_run_under_way_is_waited_for() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    scene.delivery.stop();
    scene.goal = Some(vec![1]);
    assert!(scene.delivery.is_running());
    scene.end(id, 0);
    assert!(!scene.delivery.is_running());
    scene.run_for(secs(3_600));
    assert_eq!(scene.runs(), []);
}

#[test]
fn a_run_over_its_timeout_is_not_shown_as_ok_whatever_its_exit() {
    let shown = |scene: &Scene| scene.status(|status| status.last.clone()).expect("a run");
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    assert!(!shown(&scene).ok);
    scene.run_for(secs(31));
    scene.end(id, 0);
    assert_eq!((shown(&scene).exit, shown(&scene).ok), (Some(Exit::Code(0)), false));
    scene.run_for(secs(10));
    let (id, _) = scene.only_run();
    scene.end(id, 0);
    assert!(shown(&scene).ok);
}

#[test]
fn a_run_under_way_is_shown_even_if_there_is_nothing_to_publish_any_more() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    scene.only_run();
    scene.goal = None;
    scene.run_for(secs(1));
    assert_eq!(scene.status(|status| status.phase), "running");
}

/// How often it was said that a run takes too long.
fn warnings(scene: &Scene) -> usize {
    let is = |a: &&Action| matches!(a, Action::Report(Report { what: ReportKind::TimedOut { .. }, .. }));
    scene.actions.iter().filter(is).count()
}

#[test]
fn a_run_that_kill_does_not_end_holds_up_neither_others_nor_the_end_of_the_program() {
    let config = with_runner(OWN, Config { apps: vec!["mail".into(), "web".into()], ..sync_one() });
    let key = format!("h.{}.mail", config.name);
    let mut scene = Scene::new(config).other("par1", &[(&key, "i:0:-")]);
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    scene.run_for(secs(30 + 5 + 4));
    assert_eq!(scene.tag_shown(), "r:1:?");
    scene.run_for(secs(1));
    assert_eq!(scene.tag_shown(), "n:1:?");
    assert_eq!(warnings(&scene), 2, "at the timeout, and now");
    assert!(!scene.delivery.is_running());
    // The handler's one run at a time is still that one, for its other app, too.
    assert!(scene.delivery.tags().iter().all(|(_, value)| value.starts_with("n:")));
    assert_eq!(scene.status(|status| status.phase), "stuck");
    scene.run_for(secs(3_600));
    assert_eq!(scene.runs(), []);
    assert!(scene.delivery.next_deadline().is_none());
    // The disk is back.
    scene.delivery.handle_exit(scene.now, id, Exit::Signal(9), b"");
    scene.run_for(secs(30));
    assert_eq!(scene.runs().len(), 1);
    assert!(scene.delivery.is_running());
}

#[test]
fn who_sees_that_a_run_is_stuck_elsewhere_takes_over() {
    let config = with_runner("par1", sync_one());
    let key = job_key(&config);
    let mut scene = Scene::new(config).other("par1", &[(&key, "r:7:?")]);
    scene.run_for(secs(20));
    assert_eq!(scene.runs(), []);
    scene.tag("par1", &[(&key, "n:7:?")]);
    scene.run_for(secs(3));
    assert_eq!(env(&scene.only_run().1, "PICORED_REASON"), "takeover");
}

#[test]
fn a_stuck_run_of_an_event_handler_leaves_the_events_to_the_others() {
    let config = with_runner(OWN, config(Mode::Event, Place::One));
    let key = format!("h.{}", config.name);
    let mut scene = Scene::new(config).other("par1", &[(&key, "i:0:-")]);
    let event = Occurrence {
        kind: EventKind::AppDown,
        app: Some("web".into()),
        node: "n3".into(),
        addrs: vec![ip(3)],
        state: AppState::Down,
        incarnation: 1,
    };
    scene.delivery.handle_occurrence(scene.now, &event);
    scene.look();
    scene.only_run();
    scene.run_for(secs(39));
    assert_eq!(scene.tag_shown(), "r:1:-");
    scene.run_for(secs(1));
    assert_eq!(scene.tag_shown(), "n:1:-");
    assert!(!scene.delivery.is_running());
}
