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
