use super::table::{Case, Tried};
mod node;
mod set;
mod tries;

use super::*;
use crate::check::AppState;
use crate::membership::State;
use crate::view::Instance;

/// The table and gate 7 with what nobody holds: failed for long, and not serving.
fn decide(instances: &[Instance], published: Option<&[Address]>, policy: &AppPolicy) -> Verdict {
    super::decide(&case(instances, published, policy, &|_| Tried::Failed))
}

fn case<'a>(
    instances: &'a [Instance],
    published: Option<&'a [Address]>,
    policy: &'a AppPolicy,
    tried: &'a dyn Fn(&Instance) -> Tried,
) -> Case<'a> {
    let node_down_after = Duration::from_secs(5);
    Case {
        now: at(100),
        me: "n1",
        instances,
        published,
        learns: false,
        released: false,
        policy,
        node_down_after,
        tried,
    }
}

/// Seconds after the beginning.
fn at(secs: u64) -> Instant {
    Instant::from_micros(secs * 1_000_000)
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn instance(node: u8, member: State, app: AppState) -> Instance {
    Instance {
        node: format!("n{node}").into(),
        member,
        app,
        forced: false,
        withdrawn_by: None,
        since: crate::time::Instant::ZERO,
        returned: None,
        addrs: vec![ip(node)],
    }
}

fn set(nodes: &[u8]) -> Addresses {
    nodes.iter().map(|&n| Address { addr: ip(n), node: format!("n{n}").into() }).collect()
}

fn policy(min_up: MinUp, all_down: AllDown) -> AppPolicy {
    AppPolicy { min_up, all_down, verify: None, hold_up: core::time::Duration::ZERO }
}

fn keep_one() -> AppPolicy {
    policy(MinUp::Count(1), AllDown::Keep)
}

#[test]
fn single_addresses_follow_the_table() {
    use AppState::{Down, Maint, Unknown, Up};
    let yes = (true, true);
    let no = (false, false);
    // (member, app) -> in G when (in P, not in P)
    for (member, app, (in_p, not_in_p)) in [
        (State::Alive, Up, yes),
        (State::Suspect, Up, yes),
        (State::Alive, Unknown, (true, false)),
        (State::Suspect, Unknown, (true, false)),
        (State::Alive, Down, no),
        (State::Alive, Maint, no),
        (State::Dead, Up, no),
        (State::Dead, Unknown, no),
        (State::Dead, Down, no),
        (State::Left, Up, no),
    ] {
        // n1 is good, so that gate 7 has no say.
        let instances = [instance(1, State::Alive, Up), instance(2, member, app)];
        for (published, expected) in [(set(&[1, 2]), in_p), (set(&[1]), not_in_p)] {
            let verdict = decide(&instances, Some(&published), &keep_one());
            let wanted = if expected { set(&[1, 2]) } else { set(&[1]) };
            assert_eq!(verdict.publish, Some(wanted), "{member:?} {app:?}, P {published:?}");
            assert_eq!(verdict.guard, None);
        }
    }
}

#[test]
fn an_address_of_a_running_member_is_judged_by_that_member_alone() {
    let mut renamed = instance(2, State::Alive, AppState::Up);
    renamed.addrs = vec![ip(1)];
    let gone = instance(1, State::Dead, AppState::Up);
    let verdict = decide(&[gone.clone(), renamed.clone()], Some(&set(&[1])), &keep_one());
    assert_eq!(verdict.publish, Some([Address { addr: ip(1), node: "n2".into() }].into()));
    renamed.app = AppState::Maint;
    let down = instance(3, State::Alive, AppState::Down);
    let verdict = decide(&[gone, renamed, down], Some(&set(&[1])), &policy(MinUp::Count(1), AllDown::All));
    let shown = verdict.publish.expect("a set");
    assert_eq!(
        shown,
        [set(&[1]), set(&[3])].concat().into(),
        "in maintenance at n2, but nothing is taken away"
    );
}

#[test]
fn nothing_is_told_while_a_running_instance_has_no_verdict_and_nothing_was_published() {
    let instances = [instance(1, State::Alive, AppState::Up), instance(2, State::Alive, AppState::Unknown)];
    let verdict = decide(&instances, None, &keep_one());
    assert_eq!(verdict.publish, None);
    assert!(matches!(verdict.guard, Some(Reason::NoVerdictThere { node, .. }) if &*node == "n2"));
    let failed = [instance(1, State::Alive, AppState::Up), instance(2, State::Dead, AppState::Unknown)];
    assert_eq!(decide(&failed, None, &keep_one()).publish, Some(set(&[1])));
}

#[test]
fn below_min_up_keep_removes_nothing_and_adds_the_good_ones() {
    let instances = [
        instance(1, State::Alive, AppState::Down),
        instance(2, State::Dead, AppState::Up),
        instance(3, State::Alive, AppState::Up),
    ];
    let verdict = decide(&instances, Some(&set(&[1, 2])), &policy(MinUp::Count(2), AllDown::Keep));
    assert_eq!(verdict.publish, Some(set(&[1, 2, 3])));
    assert_eq!(verdict.guard, Some(Reason::KeepLast { good: 1, needed: 2 }));
    assert_eq!(verdict.guard.expect("a guard").guard(), "keep-last");
}

#[test]
fn keep_without_anything_to_keep_runs_nothing() {
    let instances = [instance(1, State::Alive, AppState::Down)];
    // A node that has just started knows of no P: telling the one good instance would take the others away.
    let newcomer = [instance(1, State::Alive, AppState::Up), instance(2, State::Alive, AppState::Down)];
    let verdict = decide(&newcomer, None, &policy(MinUp::Count(2), AllDown::Keep));
    assert_eq!(verdict.publish, None);
    assert_eq!(verdict.guard, Some(Reason::NothingToKeep { good: 1, needed: 2 }));
    let verdict = decide(&newcomer, Some(&[]), &policy(MinUp::Count(2), AllDown::Keep));
    assert_eq!(verdict.publish, Some(set(&[1])), "known to show nothing: the good one is added");
    for published in [None, Some(&[][..])] {
        let verdict = decide(&instances, published, &keep_one());
        assert_eq!(verdict.publish, None);
        assert_eq!(verdict.guard, Some(Reason::NothingToKeep { good: 0, needed: 1 }));
    }
}

#[test]
fn below_min_up_all_publishes_every_known_node_but_those_in_maintenance_or_gone() {
    let instances = [
        instance(1, State::Alive, AppState::Down),
        instance(2, State::Dead, AppState::Up),
        instance(3, State::Alive, AppState::Maint),
        instance(4, State::Left, AppState::Up),
    ];
    let verdict = decide(&instances, Some(&set(&[])), &policy(MinUp::Count(1), AllDown::All));
    assert_eq!(verdict.publish, Some(set(&[1, 2])));
    assert_eq!(verdict.guard.expect("a guard").guard(), "min-up");
    let verdict = decide(&instances, Some(&set(&[3, 4, 5])), &policy(MinUp::Count(1), AllDown::All));
    assert_eq!(verdict.publish, Some(set(&[1, 2, 3, 4, 5])), "nothing is taken away when nobody is good");
}

#[test]
fn all_that_comes_to_nobody_empties_nothing() {
    let instances = [instance(1, State::Alive, AppState::Maint), instance(2, State::Left, AppState::Up)];
    let verdict = decide(&instances, Some(&set(&[1])), &policy(MinUp::Count(1), AllDown::All));
    assert_eq!(verdict.publish, Some(set(&[1])));
    assert_eq!(verdict.guard, Some(Reason::KeepLast { good: 0, needed: 1 }));
}

#[test]
fn an_instance_without_a_verdict_is_waited_for_before_all_or_empty_or_a_list_is_told() {
    let instances = [
        instance(1, State::Alive, AppState::Down),
        instance(2, State::Alive, AppState::Unknown),
        instance(3, State::Alive, AppState::Up),
    ];
    let told = |all_down, published: Option<&[u8]>| {
        let published = published.map(set);
        decide(&instances, published.as_deref(), &policy(MinUp::Count(2), all_down)).publish
    };
    for all_down in [AllDown::Empty, AllDown::Fallback(vec![ip(99)])] {
        // It may make them enough, whether it is published or not. Meanwhile nothing comes in either: a restart of its
        // picored is no reason for a run.
        for published in [&[1, 2][..], &[1]] {
            assert_eq!(told(all_down.clone(), Some(published)), Some(set(published)));
        }
        assert_eq!(told(all_down.clone(), Some(&[])), None, "all that was published was forgotten");
        assert_eq!(told(all_down, None), None);
    }
    assert_eq!(told(AllDown::All, Some(&[1, 2])), Some(set(&[1, 2, 3])), "who is good comes in in any case");
}

#[test]
fn who_does_not_know_what_was_published_takes_a_failed_node_for_published() {
    let instances = [instance(1, State::Alive, AppState::Up), instance(2, State::Dead, AppState::Up)];
    let policy = policy(MinUp::Count(1), AllDown::Empty);
    let told = |learns, tried: Tried| {
        let tried = |_: &Instance| tried;
        super::decide(&Case { learns, ..case(&instances, None, &policy, &tried) }).publish
    };
    assert_eq!(told(true, Tried::Not), Some(set(&[1, 2])));
    assert_eq!(told(true, Tried::Answered), Some(set(&[1, 2])));
    assert_eq!(told(true, Tried::Failed), Some(set(&[1])));
    assert_eq!(
        told(false, Tried::Answered),
        Some(set(&[1])),
        "nobody ever published: there is nothing to keep"
    );
}

#[test]
fn below_min_up_empty_publishes_nothing_and_a_list_that_list() {
    let instances = [instance(1, State::Alive, AppState::Down)];
    let empty = decide(&instances, Some(&set(&[1])), &policy(MinUp::Count(1), AllDown::Empty));
    assert_eq!(empty.publish, Some(set(&[])));
    let list = AllDown::Fallback(vec![ip(99), ip(98), ip(99)]);
    let list = decide(&instances, Some(&set(&[1])), &policy(MinUp::Count(1), list));
    let addrs: Vec<IpAddr> = list.publish.expect("a set").iter().map(|a| a.addr).collect();
    assert_eq!(addrs, [ip(98), ip(99)]);
    assert_eq!(list.guard.expect("a guard").guard(), "fallback");
}

#[test]
fn a_percentage_is_of_the_known_nodes_not_in_maintenance_rounded_up_and_at_least_one() {
    use AppState::{Down, Maint, Up};
    let of = |instances: &[Instance], percent| MinUp::Percent(percent).of(instances);
    let three = [1, 2, 3].map(|n| instance(n, State::Alive, Up));
    assert_eq!(of(&three, 50), 2);
    assert_eq!(of(&three, 100), 3);
    let mixed = [
        instance(1, State::Alive, Maint),
        instance(2, State::Dead, Down),
        instance(3, State::Left, Up),
        instance(4, State::Alive, Up),
    ];
    assert_eq!(of(&mixed, 50), 1);
    assert_eq!(of(&mixed, 51), 2);
    assert_eq!(of(&[instance(1, State::Alive, Maint)], 50), 1);
}

#[test]
fn a_reason_is_a_sentence_for_people() {
    let reason = Reason::KeepLast { good: 0, needed: 1 };
    assert_eq!(reason.to_string(), "only 0 of at least 1 up: nothing is removed");
}
