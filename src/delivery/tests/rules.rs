//! The rules of 4.5 one by one, as one node follows them.

use super::*;

fn waits_for(scene: &Scene) -> String {
    scene.status(|status| status.waiting.map(ToString::to_string).unwrap_or_default())
}

fn set_tag(scene: &mut Scene, node: &str, value: &str) {
    scene.tag(node, &[("h.dns.web", value)]);
    scene.run_for(secs(0));
}

/// Settled on [1, 2] with LC 1, and `par1` beside it.
fn settled_beside(value: &str) -> Scene {
    Scene::new(sync_one()).settled().other("par1", &[("h.dns.web", value)])
}

#[test]
fn the_incumbent_stays_the_runner_and_a_greater_record_makes_another_one() {
    let mut scene = settled_beside("i:0:-");
    scene.goal = Some(vec![1]);
    scene.run_for(secs(3));
    let (id, _) = scene.only_run();
    scene.end(id, 0);
    set_tag(&mut scene, "par1", &format!("i:3:{}", goal_hash(&[1])));
    scene.goal = Some(vec![2]);
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
    assert_eq!(waits_for(&scene), "par1 acts");
}

#[test]
fn before_any_record_nothing_runs_until_everybody_was_seen_or_a_person_says_so() {
    for by_person in [false, true] {
        let mut scene = Scene::new(sync_one());
        scene.unseen = Some("nyc1");
        scene.run_for(secs(3_600));
        assert_eq!((scene.runs(), scene.tag_shown()), (vec![], "n:0:-".into()));
        assert!(waits_for(&scene).contains("nyc1 was never seen alive"), "{}", waits_for(&scene));
        if by_person {
            assert!(scene.delivery.sync(scene.now, None));
        } else {
            scene.unseen = None;
        }
        scene.run_for(secs(3));
        let (_, run) = scene.only_run();
        assert_eq!(env(&run, "PICORED_REASON"), if by_person { "manual" } else { "change" });
    }
}

#[test]
fn a_person_s_word_to_go_on_without_everybody_lapses_after_ten_minutes() {
    let mut scene = Scene::new(sync_one());
    (scene.unseen, scene.may_act) = (Some("nyc1"), Err(Reason::Settling));
    scene.run_for(secs(60));
    assert!(scene.delivery.sync(scene.now, None));
    scene.may_act = Ok(());
    scene.goal = None;
    scene.run_for(secs(599));
    assert_eq!(scene.tag_shown(), "i:0:-", "it may run");
    scene.run_for(secs(1));
    assert_eq!(scene.tag_shown(), "n:0:-");
    scene.goal = Some(vec![1, 2]);
    scene.run_for(secs(3_600));
    assert_eq!(scene.runs(), []);
    assert!(waits_for(&scene).contains("nyc1 was never seen alive"), "{}", waits_for(&scene));
}

#[test]
fn before_any_record_every_running_instance_needs_a_verdict() {
    let mut scene = Scene::new(sync_one());
    scene.silent = vec![3];
    scene.run_for(secs(60));
    assert_eq!((scene.runs(), scene.tag_shown()), (vec![], "n:0:-".into()));
    assert!(waits_for(&scene).contains("n3 has no verdict"), "{}", waits_for(&scene));
    scene.failed = vec![3];
    scene.run_for(secs(3));
    scene.only_run();
}

#[test]
fn who_does_not_know_what_is_published_is_not_able_until_the_record_has_its_set() {
    let shown = format!("n:5:{}", goal_hash(&[1]));
    let mut scene = Scene::new(sync_one()).other("par1", &[("h.dns.web", &shown)]);
    scene.unseen = Some("nyc1");
    scene.run_for(secs(60));
    assert_eq!((scene.runs(), scene.tag_shown()), (vec![], "n:0:-".into()));
    scene.goal = Some(vec![1]);
    scene.run_for(secs(60));
    assert_eq!((scene.runs(), scene.tag_shown()), (vec![], "i:0:-".into()));
    scene.goal = Some(vec![1, 2]);
    scene.run_for(secs(3));
    assert_eq!(env(&scene.only_run().1, "PICORED_REMOVE"), "");
}

/// How often fresh tries were asked for since the last call, and since when the last ones count.
fn asked(scene: &mut Scene) -> (usize, Instant) {
    let mut since = Vec::new();
    scene.actions.retain(|action| match action {
        Action::Verify { since: at, .. } => {
            since.push(*at);
            false
        }
        _ => true,
    });
    (since.len(), since.last().copied().unwrap_or_default())
}

fn tried(last: Option<(Instant, Instant)>, answered: bool) -> Vec<Verified> {
    vec![Verified { node: "n2".into(), last, answered, untried: None }]
}

#[test]
fn a_run_waits_for_a_try_of_the_failed_node_that_began_after_all_waits_and_is_fresh() {
    let mut scene = Scene::new(sync_one()).settled();
    (scene.failed, scene.goal) = (vec![2], Some(vec![1]));
    scene.verified = tried(Some((scene.now, scene.now + secs(1))), false);
    scene.run_for(secs(3));
    let (times, since) = asked(&mut scene);
    assert_eq!((times, since, scene.runs()), (1, scene.now, vec![]));
    assert_eq!(waits_for(&scene), "verify of n2");
    scene.run_for(secs(9));
    assert_eq!(asked(&mut scene).0, 0);
    scene.verified = tried(Some((since - secs(1), scene.now)), false);
    scene.look();
    assert_eq!(scene.runs(), [], "begun before the waits were over");
    scene.verified = tried(Some((since, scene.now)), false);
    scene.look();
    assert_eq!(env(&scene.only_run().1, "PICORED_REMOVE"), "192.0.2.2");
}

#[test]
fn a_try_that_is_late_is_asked_for_again_and_one_that_is_too_old_made_anew() {
    let mut scene = Scene::new(sync_one()).settled();
    (scene.failed, scene.goal) = (vec![2], Some(vec![1]));
    scene.verified = tried(None, false);
    scene.run_for(secs(3));
    let (_, since) = asked(&mut scene);
    scene.run_for(secs(10));
    assert_eq!(asked(&mut scene), (1, since));
    scene.verified = tried(Some((since + secs(10), scene.now)), false);
    // Another node is at it meanwhile, and after that all is tried anew.
    scene = scene.other("par1", &[("h.dns.web", "r:1:?")]);
    scene.run_for(secs(20));
    assert_eq!(scene.runs(), []);
    set_tag(&mut scene, "par1", "n:1:00000000");
    scene.run_for(secs(3));
    assert_eq!((asked(&mut scene).0, waits_for(&scene)), (1, "verify of n2".into()));
    assert_eq!(scene.runs(), []);
}

/// Goal: with more failed nodes than can be tried within the time that a failed try counts, the run starts when the
/// last one was tried, and not before.
#[test]
fn all_tries_of_a_round_count_until_it_is_over() {
    let mut scene = Scene::new(sync_one());
    scene.goal = Some(vec![1, 2, 3]);
    let mut scene = scene.settled();
    (scene.failed, scene.goal) = (vec![2, 3], Some(vec![1]));
    let of = |n: u8, last| Verified { node: format!("n{n}").into(), last, answered: false, untried: None };
    scene.verified = vec![of(2, None), of(3, None)];
    scene.run_for(secs(3));
    let (_, since) = asked(&mut scene);
    scene.run_for(secs(4));
    scene.verified[0] = of(2, Some((since, scene.now)));
    scene.run_for(secs(36));
    assert_eq!((asked(&mut scene), waits_for(&scene).as_str()), ((4, since), "verify of n3"));
    assert_eq!(scene.runs(), []);
    scene.verified[1] = of(3, Some((scene.now - secs(5), scene.now)));
    scene.look();
    assert_eq!(env(&scene.only_run().1, "PICORED_REMOVE"), "192.0.2.2 192.0.2.3");
}

/// Goal: one node that this machine has no way to, and so stays as it is, is not in the way of all others.
#[test]
fn who_cannot_be_tried_is_not_waited_for() {
    let mut scene = Scene::new(sync_one());
    scene.goal = Some(vec![1, 2, 3]);
    let mut scene = scene.settled();
    (scene.failed, scene.goal) = (vec![2, 3], Some(vec![1, 3]));
    let of = |n: u8, last, untried| Verified { node: format!("n{n}").into(), last, answered: false, untried };
    scene.verified = vec![of(2, None, None), of(3, None, None)];
    scene.run_for(secs(3));
    let (_, since) = asked(&mut scene);
    scene.verified = vec![of(2, Some((since, scene.now)), None), of(3, None, Some(since - secs(1)))];
    scene.look();
    assert_eq!(scene.runs(), [], "before the waits were over");
    scene.verified[1] = of(3, None, Some(since));
    scene.look();
    assert_eq!(env(&scene.only_run().1, "PICORED_REMOVE"), "192.0.2.2");
}

/// The machine was suspended between the end of the try and the run.
#[test]
fn a_try_that_ended_long_before_the_run_is_made_anew() {
    let mut scene = Scene::new(sync_one()).settled();
    (scene.failed, scene.goal) = (vec![2], Some(vec![1]));
    scene.verified = tried(None, false);
    scene.run_for(secs(3));
    let (_, since) = asked(&mut scene);
    scene.verified = tried(Some((since, since + secs(1))), false);
    scene.now = since + secs(60);
    scene.look();
    assert_eq!((asked(&mut scene), scene.runs()), ((1, scene.now), vec![]));
}

#[test]
fn a_node_that_answers_and_so_stays_published_makes_no_run() {
    let mut scene = Scene::new(sync_one()).settled();
    (scene.failed, scene.goal) = (vec![2], Some(vec![1]));
    scene.verified = tried(None, false);
    scene.run_for(secs(4));
    (scene.verified, scene.goal) = (tried(Some((scene.now - secs(1), scene.now)), true), Some(vec![1, 2]));
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
}

#[test]
fn a_run_whose_node_forgot_it_is_waited_for_all_the_same() {
    for forgets in ["n:0:-", "(forgotten)"] {
        let mut scene = settled_beside("r:7:?");
        scene.run_for(secs(5));
        match forgets {
            "(forgotten)" => scene.members.retain(|member| &*member.name == OWN),
            value => set_tag(&mut scene, "par1", value),
        }
        scene.run_for(secs(34));
        assert_eq!(scene.runs(), [], "{forgets}");
        scene.run_for(secs(1));
        let (_, run) = scene.only_run();
        assert_eq!(env(&run, "PICORED_GENERATION"), "8");
    }
}

#[test]
fn a_record_written_without_knowing_the_greatest_makes_one_more_run_that_clears_it() {
    let mut scene = settled_beside("i:0:-");
    set_tag(&mut scene, "par1", "f:1:00000000");
    scene.run_for(secs(3));
    // par1 is the greater name: its record is the greatest now, and has another set.
    let (id, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_GENERATION"), "2");
    scene.end(id, 0);
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
    set_tag(&mut scene, "par1", "r:2:?");
    set_tag(&mut scene, "par1", "f:2:00000000");
    scene.run_for(secs(3));
    let (id, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_GENERATION"), "3");
    scene.end(id, 0);
    // A late one that is not the greatest.
    scene.run_for(secs(60));
    scene = scene.other("aaa", &[("h.dns.web", "i:0:-")]);
    scene.run_for(secs(1));
    set_tag(&mut scene, "aaa", "i:3:00000000");
    scene.run_for(secs(3));
    let (id, run) = scene.only_run();
    assert_eq!((env(&run, "PICORED_GENERATION"), env(&run, "PICORED_REASON")), ("4", "resync"));
    scene.end(id, 0);
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
}

#[test]
fn a_late_record_with_the_same_set_makes_no_run() {
    let mut scene = settled_beside("i:0:-").other("aaa", &[("h.dns.web", "i:0:-")]);
    scene.run_for(secs(1));
    let same = goal_hash(&[1, 2]);
    for value in ["r:1:?", &format!("i:1:{same}")] {
        set_tag(&mut scene, "aaa", value);
        scene.run_for(secs(30));
        assert_eq!(scene.runs(), []);
    }
}

#[test]
fn without_quorum_each_node_may_take_its_own_addresses_away_and_nothing_else() {
    let mut scene = settled_beside("i:9:00000000");
    scene.member("par1").state = MemberState::Dead;
    scene.may_act = Err(Reason::Settling);
    scene.goal = Some(vec![3]);
    scene.run_for(secs(60));
    assert_eq!(scene.runs(), []);
    scene.withdraw = Some(vec![2]);
    scene.run_for(secs(3));
    let (id, run) = scene.only_run();
    assert_eq!((env(&run, "PICORED_REMOVE"), env(&run, "PICORED_ADD")), ("192.0.2.1", ""));
    assert!(scene.tag_shown().starts_with("r:10:?"));
    scene.end(id, 0);
    scene.run_for(secs(3_600));
    assert_eq!(scene.runs(), []);
    assert!(scene.tag_shown().starts_with("n:10:"));
}

#[test]
fn a_person_s_word_runs_at_once_and_here_but_not_beside_another_run() {
    let mut scene = settled_beside(&format!("i:9:{}", goal_hash(&[1, 2])));
    scene.run_for(secs(5));
    assert!(!scene.delivery.sync(scene.now, Some("mail")));
    assert!(scene.delivery.sync(scene.now, Some("dns")));
    scene.look();
    let (id, run) = scene.only_run();
    assert_eq!((env(&run, "PICORED_REASON"), env(&run, "PICORED_GENERATION")), ("manual", "10"));
    scene.end(id, 1);
    set_tag(&mut scene, "par1", "r:9:?");
    scene.delivery.sync(scene.now, None);
    scene.run_for(secs(39));
    assert_eq!(scene.runs(), []);
    assert_eq!(waits_for(&scene), "waits for par1's run");
    set_tag(&mut scene, "par1", "i:9:?");
    assert_eq!(env(&scene.only_run().1, "PICORED_REASON"), "manual");
}

#[test]
fn a_person_s_word_overrides_no_gate_and_lapses() {
    let mut scene = Scene::new(sync_one()).settled();
    scene.may_act = Err(Reason::Settling);
    scene.delivery.sync(scene.now, None);
    scene.run_for(secs(300));
    assert_eq!(scene.runs(), []);
    scene.may_act = Ok(());
    scene.look();
    let (id, _) = scene.only_run();
    scene.end(id, 0);
    scene.may_act = Err(Reason::Settling);
    scene.delivery.sync(scene.now, None);
    scene.run_for(secs(601));
    scene.may_act = Ok(());
    // Only resync, which is due by now.
    assert_eq!(scene.runs(), []);
    scene.run_for(secs(4));
    assert!(scene.runs().iter().all(|(_, run)| env(run, "PICORED_REASON") == "resync"));
}

#[test]
fn a_run_that_overlapped_and_never_ends_is_judged_when_its_window_does() {
    let mut scene = settled_beside("i:0:-").other("aaa", &[("h.dns.web", "i:0:-")]);
    scene.run_for(secs(1));
    // It ran without knowing of the own run, and died at it.
    set_tag(&mut scene, "aaa", "r:1:?");
    scene.member("aaa").state = MemberState::Dead;
    scene.run_for(secs(39));
    assert_eq!(scene.runs(), []);
    scene.run_for(secs(5));
    let (_, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_REASON"), "resync");
}

#[test]
fn a_record_that_is_only_carried_on_does_not_stand_for_the_one_more_run() {
    let mut scene = settled_beside("n:0:-").other("aaa", &[("h.dns.web", "i:0:-")]);
    scene.run_for(secs(1));
    // One more run must follow, but may not yet.
    scene.may_act = Err(Reason::Settling);
    set_tag(&mut scene, "aaa", "n:1:00000000");
    set_tag(&mut scene, "par1", &format!("n:1:{}", goal_hash(&[1, 2])));
    scene.may_act = Ok(());
    scene.run_for(secs(5));
    let (_, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_REASON"), "resync");
}

/// What the gates make of n1 up and n2 without a verdict, as long as nobody told anything yet.
fn first_goal(scene: &Scene) -> Option<Vec<u8>> {
    let instance = |n: u8, app: AppState| Instance {
        node: format!("n{n}").into(),
        member: MemberState::Alive,
        app,
        forced: false,
        withdrawn_by: None,
        since: Instant::ZERO,
        returned: None,
        addrs: vec![ip(n)],
    };
    let policy = crate::safety::AppPolicy {
        min_up: crate::safety::MinUp::Count(1),
        all_down: crate::safety::AllDown::Keep,
        verify: None,
        hold_up: secs(0),
    };
    let case = crate::safety::table::Case {
        now: scene.now,
        me: OWN,
        instances: &[instance(1, AppState::Up), instance(2, AppState::Unknown)],
        published: None,
        learns: scene.delivery.learns("", "web"),
        released: scene.delivery.is_released(scene.now, "dns", "web"),
        policy: &policy,
        node_down_after: secs(5),
        tried: &|_| crate::safety::table::Tried::Failed,
    };
    let publish = crate::safety::decide(&case).publish?;
    Some((1..=3).filter(|&n| publish.iter().any(|entry| entry.addr == ip(n))).collect())
}

#[test]
fn a_person_s_word_goes_on_though_an_instance_has_no_verdict() {
    let mut scene = Scene::new(sync_one());
    (scene.silent, scene.goal) = (vec![2], first_goal(&scene));
    scene.run_for(secs(60));
    assert_eq!((scene.runs(), scene.goal.clone()), (vec![], None));
    assert!(scene.delivery.sync(scene.now, None));
    assert!(
        !scene.delivery.is_released(scene.now, "mail", "web")
            && !scene.delivery.is_released(scene.now, "", "mail")
    );
    scene.goal = first_goal(&scene);
    scene.look();
    let (id, run) = scene.only_run();
    assert_eq!(env(&run, "PICORED_UP_ADDRS"), "192.0.2.1");
    scene.end(id, 0);
    assert!(!scene.delivery.is_released(scene.now, "", "web"), "until the next success");
}

/// Goal: nodes without quorum that each take themselves away put nobody back.
/// Method: n2 told that it is gone, before n3 did so or at the same time.
#[test]
fn who_withdraws_itself_does_not_put_back_who_did_so_before_or_meanwhile() {
    fn go(scene: &mut Scene, time: u64) -> Option<String> {
        for _ in 0..time {
            scene.now += secs(1);
            scene.look_as("n3");
        }
        let (id, run) = scene.runs().pop()?;
        scene.delivery.handle_exit(scene.now, id, Exit::Code(0), b"");
        scene.look_as("n3");
        Some(env(&run, "PICORED_UP_ADDRS").to_owned())
    }
    for meanwhile in [false, true] {
        let mut scene = Scene::new(sync_one());
        scene.members = vec![member("n2"), member("n3")];
        scene.goal = Some(vec![1, 2, 3]);
        assert_eq!(go(&mut scene, 4).as_deref(), Some("192.0.2.1 192.0.2.2 192.0.2.3"));
        assert_eq!(go(&mut scene, 60), None);
        scene.may_act = Err(Reason::MissingServes { node: "n1".into() });
        scene.withdraw = Some(vec![1, 2]);
        if meanwhile {
            assert_eq!(go(&mut scene, 10).as_deref(), Some("192.0.2.1 192.0.2.2"));
        }
        scene.tag("n2", &[("h.dns.web", &format!("n:3:{}", goal_hash(&[1, 3])))]);
        assert_eq!(go(&mut scene, 1), None);
        let known = scene.delivery.published("web").flatten().expect("it is known");
        assert_eq!(known.iter().map(|entry| entry.addr).collect::<Vec<_>>(), [ip(1), ip(3)], "{meanwhile}");
        scene.withdraw = Some(vec![1]);
        assert_eq!(go(&mut scene, 10).as_deref(), Some("192.0.2.1"));
    }
}

/// Goal: a broken peer that showed the last number there is, and is gone, hides from nobody what is published.
#[test]
fn at_the_end_of_the_numbers_what_the_runner_shows_is_what_is_published() {
    let mut scene = settled_beside("i:0:-");
    let broken = "n:4000000000:deadbeef";
    scene = scene.other("zrh1", &[("h.dns.web", broken)]);
    scene.member("zrh1").state = MemberState::Dead;
    scene.goal = Some(vec![1]);
    set_tag(&mut scene, "par1", &format!("i:4000000000:{}", goal_hash(&[1])));
    scene.run_for(secs(120));
    assert_eq!(scene.runs(), []);
    let known = scene.delivery.published("web").flatten().expect("it is known");
    assert_eq!(known.iter().map(|entry| entry.addr).collect::<Vec<_>>(), [ip(1)]);
    assert!(scene.status(|status| status.differs_since.is_none()), "it is the runner's set");
}
