//! Gates 5 to 8: single addresses, and the set that results.

use proptest::prelude::*;

use super::*;
use crate::safety::max_remove::{WINDOW, Window};

fn failed(node: u8, since: u64, app: AppState) -> Instance {
    Instance { since: at(since), ..instance(node, State::Dead, app) }
}

fn up(node: u8) -> Instance {
    instance(node, State::Alive, AppState::Up)
}

fn verdict(instances: &[Instance], published: &[u8], policy: &AppPolicy, tried: Tried) -> Verdict {
    crate::safety::decide(&case(instances, Some(&set(published)), policy, &|_| tried))
}

#[test]
fn a_failed_node_stays_as_it_is_until_it_was_tried_and_does_not_serve() {
    use AppState::{Down, Maint, Unknown, Up};
    // (its last word, failed since, tried) -> whether it stays in P, and why
    for (app, since, tried, held) in [
        (Up, 0, Tried::Not, Some(Reason::NotTried { node: "n2".into() })),
        (Unknown, 0, Tried::Not, Some(Reason::NotTried { node: "n2".into() })),
        (Up, 0, Tried::Answered, Some(Reason::StillServes { node: "n2".into() })),
        (Up, 0, Tried::Failed, None),
        (Unknown, 0, Tried::Failed, None),
        (Up, 96, Tried::Failed, Some(Reason::JustFailed { node: "n2".into() })),
        (Up, 95, Tried::Failed, None),
        (Down, 99, Tried::Answered, None),
        (Maint, 99, Tried::Answered, None),
    ] {
        let instances = [up(1), failed(2, since, app)];
        let found = verdict(&instances, &[1, 2], &keep_one(), tried);
        let wanted = if held.is_some() { set(&[1, 2]) } else { set(&[1]) };
        assert_eq!(found.publish, Some(wanted), "{app:?} {since} {tried:?}");
        assert_eq!(found.held.into_iter().map(|held| held.1).next(), held);
        let not_in_p = verdict(&instances, &[1], &keep_one(), tried);
        assert_eq!((not_in_p.publish, not_in_p.held), (Some(set(&[1])), vec![]), "{app:?} {tried:?}");
    }
}

#[test]
fn who_was_withdrawn_by_another_node_is_out_without_a_try() {
    for member in [State::Alive, State::Dead] {
        let withdrawn = Instance { withdrawn_by: Some("n1".into()), ..instance(2, member, AppState::Up) };
        let found = verdict(&[up(1), withdrawn], &[1, 2], &keep_one(), Tried::Answered);
        assert_eq!(found.publish, Some(set(&[1])), "{member:?}");
    }
}

#[test]
fn what_still_serves_is_told_to_the_handler_and_a_hold_ends_by_itself() {
    let serving = verdict(&[up(1), failed(2, 0, AppState::Up)], &[1, 2], &keep_one(), Tried::Answered);
    assert_eq!((serving.guard(), serving.until), ("verify", None));
    let just = verdict(&[up(1), failed(2, 98, AppState::Up)], &[1, 2], &keep_one(), Tried::Failed);
    assert_eq!((just.guard(), just.until), ("", Some(at(103))));
}

#[test]
fn a_member_back_from_failed_is_added_after_hold_up_and_never_taken_away_by_it() {
    let policy = AppPolicy { hold_up: Duration::from_secs(15), ..keep_one() };
    for (returned, in_p, shown) in
        [(90, false, false), (90, true, true), (85, false, true), (86, false, false)]
    {
        let back = Instance { returned: Some(at(returned)), ..up(2) };
        let published: &[u8] = if in_p { &[1, 2] } else { &[1] };
        let found = verdict(&[up(1), back], published, &policy, Tried::Failed);
        let wanted = if shown { set(&[1, 2]) } else { set(&[1]) };
        assert_eq!(found.publish, Some(wanted), "back at {returned}, in P {in_p}");
        assert_eq!(found.until, (!shown).then(|| at(returned + 15)));
    }
}

#[test]
fn failed_ones_that_answer_count_for_min_up_and_others_do_not() {
    let policy = policy(MinUp::Count(2), AllDown::Keep);
    let instances = [up(1), failed(2, 0, AppState::Up), instance(3, State::Alive, AppState::Down)];
    let enough = verdict(&instances, &[1, 2, 3], &policy, Tried::Answered);
    assert_eq!(enough.publish, Some(set(&[1, 2])), "two serve: the one that is down goes");
    for tried in [Tried::Not, Tried::Failed] {
        let few = verdict(&instances, &[1, 2, 3], &policy, tried);
        assert_eq!((few.guard(), few.publish), ("keep-last", Some(set(&[1, 2, 3]))), "{tried:?}");
    }
}

#[test]
fn below_min_up_keep_keeps_what_left_or_is_down_too() {
    let instances = [
        instance(1, State::Alive, AppState::Down),
        instance(2, State::Left, AppState::Up),
        instance(3, State::Alive, AppState::Maint),
    ];
    let found = verdict(&instances, &[1, 2, 3], &keep_one(), Tried::Failed);
    assert_eq!(found.publish, Some(set(&[1, 2, 3])));
    let found = verdict(&[&instances[..], &[up(5)]].concat(), &[1, 2, 3], &keep_one(), Tried::Failed);
    assert_eq!(found.publish, Some(set(&[5])), "one is good: what the table wants gone goes");
}

#[test]
fn what_is_still_tried_or_just_failed_is_waited_for_before_empty_is_told() {
    let policy = policy(MinUp::Count(1), AllDown::Empty);
    let told = |since, tried| {
        let instances = [instance(1, State::Alive, AppState::Down), failed(2, since, AppState::Up)];
        verdict(&instances, &[1, 2], &policy, tried).publish
    };
    assert_eq!(told(0, Tried::Not), Some(set(&[1, 2])));
    assert_eq!(told(98, Tried::Failed), Some(set(&[1, 2])));
    assert_eq!(told(0, Tried::Failed), Some(set(&[])));
    assert_eq!(told(0, Tried::Answered), Some(set(&[2])), "one serves");
}

#[test]
fn a_person_s_word_lets_the_table_decide_though_one_has_no_verdict() {
    let policy = keep_one();
    let told = |instances: &[Instance]| {
        let case = case(instances, None, &policy, &|_| Tried::Failed);
        crate::safety::decide(&Case { released: true, ..case }).publish
    };
    let silent = instance(2, State::Alive, AppState::Unknown);
    assert_eq!(told(&[up(1), silent.clone()]), Some(set(&[1])));
    assert_eq!(told(&[silent]), None, "nobody is up, and nothing is known that could be kept");
}

#[test]
fn an_old_address_of_a_member_that_moved_goes() {
    let moved = Instance { addrs: vec![ip(7)], ..up(2) };
    let found = verdict(&[up(1), moved], &[1, 2], &keep_one(), Tried::Failed);
    let addrs: Vec<IpAddr> = found.publish.expect("a set").iter().map(|a| a.addr).collect();
    assert_eq!(addrs, [ip(1), ip(7)]);
}

#[test]
fn a_node_withdraws_only_itself_and_only_if_enough_good_ones_are_left() {
    let cut_off = |tried| {
        let instances = [up(1), failed(2, 0, AppState::Up)];
        verdict(&instances, &[1, 2], &keep_one(), tried).withdraw
    };
    assert_eq!(cut_off(Tried::Answered), Some(set(&[2])));
    assert_eq!(cut_off(Tried::Failed), None, "nobody else would be left that serves");
    assert_eq!(verdict(&[up(1), up(2)], &[2], &keep_one(), Tried::Failed).withdraw, None, "not shown");
    let none_needed = policy(MinUp::Count(0), AllDown::Keep);
    assert_eq!(verdict(&[up(1)], &[1], &none_needed, Tried::Failed).withdraw, None, "never to nothing");
}

fn shrink(
    window: &mut Window,
    now: u64,
    before: &[u8],
    goal: &[u8],
    percent: Option<u8>,
) -> (Addresses, bool) {
    shrink_told(window, now, before, goal, percent, false)
}

/// `is_told`: another node told this set.
fn shrink_told(
    window: &mut Window,
    now: u64,
    before: &[u8],
    goal: &[u8],
    percent: Option<u8>,
    is_told: bool,
) -> (Addresses, bool) {
    let mut verdict = Verdict { publish: Some(set(goal)), ..Verdict::default() };
    window.apply(at(now), percent, Some(&set(before)), |_| is_told, &mut verdict);
    (verdict.publish.expect("a set"), verdict.guard.is_some())
}

#[test]
fn no_more_than_its_share_leaves_within_five_minutes() {
    let (mut window, half) = (Window::default(), Some(50));
    assert_eq!(shrink(&mut window, 0, &[1, 2, 3, 4], &[1, 2, 3, 4], half), (set(&[1, 2, 3, 4]), false));
    assert_eq!(shrink(&mut window, 10, &[1, 2, 3, 4], &[1, 2, 3], half), (set(&[1, 2, 3]), false));
    assert_eq!(shrink(&mut window, 20, &[1, 2, 3], &[1, 2], half), (set(&[1, 2]), false));
    // The third of four is held, whether P has followed or not; the two that went stay away.
    assert_eq!(shrink(&mut window, 30, &[1, 2], &[1], half), (set(&[1, 2]), true));
    assert_eq!(shrink(&mut window, 31, &[1, 2, 3, 4], &[1], half), (set(&[1, 2]), true));
    // What comes back is counted no more.
    assert_eq!(shrink(&mut window, 40, &[1, 2], &[1, 2, 3, 4], half), (set(&[1, 2, 3, 4]), false));
    assert_eq!(shrink(&mut window, 50, &[1, 2, 3, 4], &[1, 2], half), (set(&[1, 2]), false));
    let over = 50 + WINDOW.as_secs();
    assert_eq!(shrink(&mut window, over - 1, &[1, 2], &[1], half), (set(&[1, 2]), true));
    assert_eq!(shrink(&mut window, over, &[1, 2], &[1], half), (set(&[1]), false));
}

#[test]
fn all_at_once_is_held_for_good_until_a_person_forces_it() {
    let (mut window, four) = (Window::default(), &[1, 2, 3, 4]);
    shrink(&mut window, 0, four, four, Some(50));
    for now in [10, 400, 4_000] {
        assert_eq!(shrink(&mut window, now, four, &[1], Some(50)), (set(four), true));
    }
    assert_eq!(shrink(&mut window, 4_001, four, &[1], None), (set(&[1]), false));
    assert_eq!(shrink(&mut window, 4_002, four, &[1], Some(50)), (set(&[1]), false), "let go is let go");
    window.forgive();
    assert_eq!(shrink(&mut window, 4_004, &[1, 5], &[1], Some(50)), (set(&[1]), false));
}

#[test]
fn what_another_node_was_let_tell_is_not_held_and_counts_no_more() {
    let (mut window, four) = (Window::default(), &[1, 2, 3, 4]);
    shrink(&mut window, 0, four, four, Some(40));
    assert_eq!(shrink(&mut window, 10, four, &[1, 2], Some(40)), (set(four), true));
    assert_eq!(shrink_told(&mut window, 11, four, &[1, 2], Some(40), true), (set(&[1, 2]), false));
    assert_eq!(shrink(&mut window, 12, &[1, 2], &[1, 2], Some(40)), (set(&[1, 2]), false));
    // Two of four would be too many already.
    assert_eq!(shrink(&mut window, 13, &[1, 2, 5], &[1, 2], Some(40)), (set(&[1, 2]), false));
}

#[test]
fn what_is_not_published_any_more_is_not_put_back() {
    let (mut window, five) = (Window::default(), &[1, 2, 3, 4, 5]);
    shrink(&mut window, 0, five, five, Some(40));
    // The record told that 3 and 4 went before this node saw them leave.
    assert_eq!(shrink(&mut window, 10, &[1, 2, 5], &[1, 2], Some(40)), (set(&[1, 2, 5]), true));
}

#[test]
fn what_left_while_a_node_could_not_act_is_neither_held_nor_counted() {
    let (mut window, five) = (Window::default(), &[1, 2, 3, 4, 5]);
    shrink(&mut window, 0, five, five, Some(40));
    window.pause(at(10));
    assert_eq!(shrink(&mut window, 3_600, &[1, 2, 3], &[1, 2, 3], Some(40)), (set(&[1, 2, 3]), false));
    assert_eq!(shrink(&mut window, 3_601, &[1, 2, 3], &[1, 2], Some(40)), (set(&[1, 2]), false));
    assert_eq!(shrink(&mut window, 3_602, &[1, 2], &[1], Some(40)), (set(&[1, 2]), true));
    // A short pause is no way around the share.
    window.pause(at(3_610));
    assert_eq!(shrink(&mut window, 3_611, &[1, 2], &[1], Some(40)), (set(&[1, 2]), true));
}

/// Any instance, and how its try ended; some share a second address.
fn any_instance(node: u8) -> impl Strategy<Value = (Instance, Tried)> {
    let members = prop::sample::select(vec![State::Alive, State::Suspect, State::Dead, State::Left]);
    let apps = prop::sample::select(vec![AppState::Up, AppState::Down, AppState::Unknown, AppState::Maint]);
    let tries = prop::sample::select(vec![Tried::Not, Tried::Answered, Tried::Failed]);
    let returned = prop::option::of(80_u64..100);
    (members, apps, tries, 80_u64..100, returned, any::<bool>(), any::<bool>()).prop_map(
        move |(member, app, tried, since, returned, withdrawn, shared)| {
            let mut made = Instance { since: at(since), ..instance(node, member, app) };
            made.returned = returned.map(at);
            made.withdrawn_by = (withdrawn && since < 85).then(|| "n9".into());
            made.addrs.extend(shared.then(|| ip(20)));
            (made, tried)
        },
    )
}

fn any_policy() -> impl Strategy<Value = AppPolicy> {
    let min_up = prop_oneof![(0_u32..4).prop_map(MinUp::Count), (1_u8..=100).prop_map(MinUp::Percent)];
    let list = AllDown::Fallback(vec![ip(99)]);
    let all_down = prop::sample::select(vec![AllDown::Keep, AllDown::All, AllDown::Empty, list]);
    let hold_up = Duration::from_secs(10);
    (min_up, all_down).prop_map(move |(min_up, all_down)| AppPolicy { hold_up, ..policy(min_up, all_down) })
}

/// What the table says of an address of P, written anew: true if it may be taken away.
fn may_go(addr: IpAddr, instances: &[(Instance, Tried)]) -> bool {
    let its = || instances.iter().filter(|(i, _)| i.addrs.contains(&addr));
    let out = |(i, tried): &(Instance, Tried)| {
        let said_gone = matches!(i.app, AppState::Down | AppState::Maint) || i.withdrawn_by.is_some();
        let for_long = at(100).since(i.since) >= Duration::from_secs(5);
        match i.member {
            State::Alive | State::Suspect => said_gone,
            State::Dead => said_gone || (*tried == Tried::Failed && for_long),
            State::Left => true,
        }
    };
    match its().any(|(i, _)| i.member.is_running()) {
        true => its().filter(|(i, _)| i.member.is_running()).all(out),
        false => its().all(out),
    }
}

fn is_good((i, tried): &(Instance, Tried)) -> bool {
    let said = i.app == AppState::Up || (i.member == State::Dead && i.app == AppState::Unknown);
    let serves = i.member.is_running() || (i.member == State::Dead && *tried == Tried::Answered);
    said && serves && i.withdrawn_by.is_none()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// No address leaves P unless the table says so, or `empty` or a list was told; none leaves when fewer than
    /// `min_up` good ones are left, but by these two; and a node withdraws nothing but itself.
    #[test]
    fn nothing_leaves_but_by_the_table_and_never_below_min_up(
        all in (any_instance(1), any_instance(2), any_instance(3), any_instance(4)),
        published in prop::collection::btree_set(prop::sample::select(vec![1_u8, 2, 3, 4, 5, 20]), 0..6),
        policy in any_policy(),
    ) {
        let all = [all.0, all.1, all.2, all.3];
        let instances: Vec<Instance> = all.iter().map(|(i, _)| i.clone()).collect();
        let tried = |i: &Instance| all.iter().find(|it| it.0.node == i.node).map_or(Tried::Not, |it| it.1);
        let before = set(&published.into_iter().collect::<Vec<u8>>());
        let found = crate::safety::decide(&case(&instances, Some(&before), &policy, &tried));
        let told_so = matches!(policy.all_down, AllDown::Empty | AllDown::Fallback(_))
            && matches!(found.guard, Some(Reason::MinUp { .. } | Reason::Fallback { .. }));
        let good = |set: &[Address]| {
            all.iter().filter(|it| is_good(it) && it.0.addrs.iter().any(|&a| contains(set, a))).count()
        };
        let needed = policy.min_up.of(&instances);
        let gone = |after: &[Address]| -> Vec<Address> {
            before.iter().filter(|old| !contains(after, old.addr)).cloned().collect()
        };
        if let Some(after) = found.publish.as_ref().filter(|_| !told_so) {
            let gone = gone(after);
            prop_assert!(gone.iter().all(|old| may_go(old.addr, &all)), "{gone:?} without reason: {found:?}");
            prop_assert!(gone.is_empty() || good(after) >= needed, "below min_up: {found:?}");
        }
        if let Some(rest) = &found.withdraw {
            let own = |old: &Address| &*old.node == "n1" || instances[0].addrs.contains(&old.addr);
            prop_assert!(!rest.is_empty() && good(rest) >= needed && gone(rest).iter().all(own));
            prop_assert!(rest.iter().all(|left| contains(&before, left.addr)));
        }
    }
}
