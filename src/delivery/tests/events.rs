//! `event` handlers: the queue, who tells it, and what is dropped.

use super::*;

fn occurrence(kind: EventKind, node: &str) -> Occurrence {
    let app = matches!(kind, EventKind::AppUp | EventKind::AppDown).then(|| "web".into());
    Occurrence { kind, app, node: node.into(), addrs: vec![ip(7)], state: AppState::Down, incarnation: 3 }
}

/// Without `min_interval`, as the configuration has it where it says nothing.
fn event(place: Place) -> Config {
    Config { min_interval: secs(0), ..config(Mode::Event, place) }
}

fn tell(scene: &mut Scene, nodes: &[&str]) {
    for node in nodes {
        scene.delivery.handle_occurrence(scene.now, &occurrence(EventKind::AppDown, node));
    }
    scene.look();
}

/// The nodes of the events told, each run ending with `code`.
fn told(scene: &mut Scene, code: i32) -> Vec<String> {
    let mut nodes = Vec::new();
    while let Some((id, run)) = scene.runs().pop() {
        nodes.push(env(&run, "PICORED_NODE").to_string());
        scene.end(id, code);
    }
    nodes
}

#[test]
fn events_are_told_one_at_a_time_in_order() {
    let mut scene = Scene::new(event(Place::All));
    tell(&mut scene, &["n1", "n2", "n3"]);
    assert_eq!(told(&mut scene, 0), ["n1", "n2", "n3"]);
}

#[test]
fn an_event_that_failed_is_told_again_before_the_later_ones() {
    let mut scene = Scene::new(event(Place::All));
    tell(&mut scene, &["n1", "n2"]);
    let (id, _) = scene.only_run();
    scene.end(id, 1);
    scene.run_for(secs(10));
    assert_eq!(told(&mut scene, 0), ["n1", "n2"]);
}

#[test]
fn only_events_of_the_wanted_kinds_and_apps_are_told() {
    let mut wanted = event(Place::All);
    wanted.events = vec![EventKind::AppDown];
    let mut scene = Scene::new(wanted);
    scene.delivery.handle_occurrence(scene.now, &occurrence(EventKind::AppUp, "n1"));
    let other = Occurrence { app: Some("mail".into()), ..occurrence(EventKind::AppDown, "n2") };
    scene.delivery.handle_occurrence(scene.now, &other);
    tell(&mut scene, &["n3"]);
    assert_eq!(told(&mut scene, 0), ["n3"]);
}

#[test]
fn where_self_tells_the_own_node_s_events_only() {
    let mut scene = Scene::new(event(Place::SelfOnly));
    tell(&mut scene, &["n1", OWN, "n2"]);
    assert_eq!(told(&mut scene, 0), [OWN]);
}

#[test]
fn an_event_is_retried_until_it_is_ten_minutes_old() {
    let mut scene = Scene::new(event(Place::All));
    tell(&mut scene, &["n1"]);
    let mut attempts = 0;
    for _ in 0..1_200 {
        attempts += told(&mut scene, 1).len();
        scene.run_for(secs(1));
    }
    assert!((6..=10).contains(&attempts), "{attempts}");
    assert!(scene.delivery.next_deadline().is_none());
}

#[test]
fn a_full_queue_drops_the_oldest_and_says_so() {
    let mut scene = Scene::new(event(Place::All));
    for n in 0..300 {
        scene.delivery.handle_occurrence(scene.now, &occurrence(EventKind::AppDown, &format!("n{n}")));
    }
    scene.look();
    let dropped =
        |a: &Action| matches!(a, Action::Report(Report { what: ReportKind::Dropped { count: 44 }, .. }));
    assert!(scene.actions.iter().any(dropped));
    let nodes = told(&mut scene, 0);
    assert_eq!((nodes.len(), nodes.first().map(String::as_str)), (256, Some("n44")));
}

/// What `h.HANDLER` of another node shows when it told the event about `node`.
fn done_by_other(config: &Config, node: &str) -> String {
    let mut other = Scene::new(Config { place: Place::One, ..config.clone() });
    tell(&mut other, &[node]);
    told(&mut other, 0);
    other.tag_shown()
}

#[test]
fn others_drop_what_the_runner_told_and_a_new_runner_tells_the_rest() {
    let config = with_runner("par1", event(Place::One));
    let key = format!("h.{}", config.name);
    let done = done_by_other(&config, "n2");
    let mut scene = Scene::new(config).other("par1", &[(&key, "i:0:-")]);
    tell(&mut scene, &["n1", "n2", "n3"]);
    assert_eq!(scene.runs(), []);
    scene.tag("par1", &[(&key, &done)]);
    scene.run_for(secs(1));
    scene.member("par1").state = MemberState::Dead;
    scene.look();
    let (id, run) = scene.only_run();
    assert_eq!((env(&run, "PICORED_NODE"), env(&run, "PICORED_REASON")), ("n3", "takeover"));
    assert!(scene.tag_shown().starts_with("r:"));
    scene.end(id, 0);
    assert_eq!(scene.runs(), []);
}

#[test]
fn the_guard_an_event_comes_with_belongs_to_the_set_it_comes_with() {
    let mail = Config { name: "mail".into(), ..event(Place::All) };
    let of_mail = |scene: &mut Scene| {
        scene.guard = Some(Reason::KeepLast { good: 1, needed: 2 });
        tell(scene, &["n1"]);
        let run = scene.runs().into_iter().map(|(_, run)| run).find(|run| &*run.handler == "mail");
        run.expect("a run of mail")
    };
    let run = of_mail(&mut Scene::new(mail.clone()));
    assert_eq!(env(&run, "PICORED_GUARD"), "", "no gate made U");
    let mut scene = Scene::new(sync_one());
    scene.delivery = Delivery::new(vec![sync_one(), mail], 1, Instant::ZERO);
    assert_eq!(env(&of_mail(&mut scene), "PICORED_GUARD"), "keep-last");
}

#[test]
fn events_about_the_own_quorum_are_told_here_whoever_the_runner_is() {
    let config = with_runner("par1", event(Place::One));
    let key = format!("h.{}", config.name);
    let mut scene = Scene::new(config).other("par1", &[(&key, "i:0:-")]);
    scene.may_act = Err(Reason::Settling);
    scene.delivery.handle_occurrence(scene.now, &occurrence(EventKind::NoQuorum, OWN));
    tell(&mut scene, &["n1"]);
    let (_, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_EVENT"), "no-quorum");
}
