//! A configuration that is read anew.

use super::*;

fn reload(scene: &mut Scene, config: Config) {
    scene.apps = config.apps.clone();
    scene.delivery.reconfigure(vec![config], scene.now);
    scene.look();
}

#[test]
fn a_reload_starts_nothing_and_keeps_records_and_what_is_published() {
    let mut scene = Scene::new(sync_one()).settled();
    let before = scene.delivery.saved(scene.now, 1);
    for config in [sync_one(), Config { run: vec!["/bin/other".into()], timeout: secs(9), ..sync_one() }] {
        reload(&mut scene, config);
        scene.run_for(secs(60));
        assert_eq!(scene.runs(), []);
        assert_eq!(scene.delivery.saved(scene.now, 1), before);
    }
    scene.goal = Some(vec![1]);
    scene.run_for(secs(3));
    assert_eq!(&*scene.only_run().1.argv[0], "/bin/other");
}

#[test]
fn what_an_exit_said_is_never_to_be_tried_here_is_tried_after_a_reload() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    scene.end(id, 78);
    scene.run_for(secs(3_600));
    assert_eq!(scene.runs(), []);
    reload(&mut scene, sync_one());
    scene.run_for(secs(3));
    scene.only_run();
}

#[test]
fn the_run_of_a_handler_that_changed_goes_on_and_counts() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    reload(&mut scene, Config { apps: vec!["mail".into(), "web".into()], ..sync_one() });
    assert!(scene.delivery.tags().iter().any(|(key, value)| key == "h.dns.web" && value == "r:1:?"));
    scene.end(id, 0);
    let done = format!("i:1:{}", goal_hash(&[1, 2]));
    assert!(scene.delivery.tags().iter().any(|(key, value)| key == "h.dns.web" && *value == done));
}

#[test]
fn the_run_of_what_is_gone_ends_by_itself_or_by_its_timeout_and_is_dropped() {
    for config in [
        Config { apps: vec!["mail".into()], ..sync_one() },
        Config { mode: Mode::Event, ..sync_one() },
        Config { name: "other".into(), ..sync_one() },
    ] {
        let mut scene = Scene::new(sync_one());
        scene.run_for(secs(3));
        let (id, _) = scene.only_run();
        scene.goal = None;
        reload(&mut scene, config);
        assert!(scene.delivery.is_running());
        scene.run_for(secs(36));
        let signals = scene.actions.iter().filter(|a| matches!(a, Action::Signal { .. })).count();
        assert_eq!(signals, 2, "TERM and KILL");
        scene.end(id, 0);
        assert!(!scene.delivery.is_running());
        assert_eq!(scene.delivery.published("web").flatten(), None);
    }
}

#[test]
fn a_handler_of_the_same_name_waits_for_the_run_of_the_one_before() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    reload(&mut scene, Config { place: Place::All, ..sync_one() });
    scene.run_for(secs(20));
    assert_eq!(scene.runs(), []);
    scene.end(id, 0);
    scene.only_run();
}

#[test]
fn who_is_held_by_a_stuck_run_from_before_the_reload_says_that_it_is_not_able() {
    let mut scene = Scene::new(sync_one());
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    reload(&mut scene, config(Mode::Picored1, Place::One));
    scene.run_for(secs(20));
    assert_eq!(scene.tag_shown(), "i:0:-", "others wait for its end, which may come");
    scene.run_for(secs(60));
    assert_eq!((scene.runs(), scene.tag_shown()), (vec![], "n:0:-".into()));
    scene.end(id, 0);
    scene.run_for(secs(3));
    assert_eq!(scene.tag_shown(), "r:1:?");
}

/// Goal: neither the log nor `status` shows a secret that a run printed, and a reload in mid-run that takes the secret
/// out of the configuration changes nothing of that.
#[test]
fn what_a_run_printed_is_kept_without_the_secrets_that_it_was_given() {
    let mut config = sync_one();
    config.env.extend([("TOKEN".into(), "hunter22".into()), ("TSIG".into(), "sha:name:c2VjcmV0".into())]);
    config.secrets = vec!["TOKEN".into(), "TSIG".into()];
    let mut scene = Scene::new(config);
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    reload(&mut scene, sync_one());
    let said = b"401 for hunter22\nkey c2VjcmV0 of example.com refused\n";
    scene.delivery.handle_exit(scene.now, id, Exit::Code(1), said);
    scene.look();
    let masked = "401 for ********\nkey ******** of example.com refused";
    assert_eq!(
        scene.status(|status| status.last.as_ref().map(|last| last.output.to_string())).as_deref(),
        Some(masked)
    );
    let reported = scene.actions.iter().find_map(|action| match action {
        Action::Report(Report { what: ReportKind::Failed { output, .. }, .. }) => Some(&**output),
        _ => None,
    });
    assert_eq!(reported, Some(masked));
}
