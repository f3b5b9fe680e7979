//! What is known after a restart, and what is known at second hand only.

use super::*;
use crate::membership::Saving;
use crate::saved::Part;
use crate::time::Date;

const DAY: Duration = Duration::from_secs(24 * 3600);
const UNIX: u64 = 1_800_000_000;

fn date(now: Instant, unix_secs: u64) -> Date {
    Date::new(now, Duration::from_secs(unix_secs))
}

/// All that node `i` would save.
fn saved(net: &Net, i: usize) -> Saved {
    read(&net.nodes[i].saved(net.now, date(net.now, UNIX)))
}

/// Node `i` ends, and starts again with this state, when the date is `unix`.
fn restart_at(net: &mut Net, i: usize, saved: Option<Saved>, unix: u64) {
    let mut node =
        Membership::new(net.nodes[i].config.clone(), &meta("new"), Seed::from_u64(5_000 + i as u64), net.now);
    if let Some(saved) = saved {
        let value = serde_json::to_value(&saved).expect("JSON");
        node.restore(
            net.now,
            date(net.now, unix),
            Saved::read(crate::saved::Part(&value)).expect("what was written can be read"),
        );
    }
    net.streams.retain(|(from, _, to, _)| *from != i && *to != i);
    (net.nodes[i], net.stopped[i]) = (node, false);
    net.settle();
}

fn restart(net: &mut Net, i: usize) {
    let saved = saved(net, i);
    restart_at(net, i, Some(saved), UNIX);
}

fn meta(life: &str) -> Vec<u8> {
    encode_tags([("cluster", "default"), ("life", life)].into_iter())
}

fn known<'a>(net: &'a Net, i: usize, name: &str) -> &'a Member {
    net.nodes[i].member(name).expect("known")
}

fn joined() -> Net {
    let mut net = Net::new(&["a", "b", "c"]);
    net.run(10 * SECOND);
    net.log.clear();
    net
}

fn with_c_failed() -> Net {
    let mut net = joined();
    net.stopped[2] = true;
    net.run(60 * SECOND);
    assert_eq!(known(&net, 0, "c").state, State::Dead);
    net
}

#[test]
fn a_restart_with_a_state_file_is_noticed_by_nobody() {
    let mut net = joined();
    let before = (known(&net, 1, "a").since, known(&net, 0, "a").incarnation);
    restart(&mut net, 0);
    assert_eq!(known(&net, 0, "a").incarnation, before.1 + 1);
    net.run(30 * SECOND);
    assert!(net.nodes[0].members().all(|m| m.heard && m.state == State::Alive));
    assert_eq!((known(&net, 1, "a").since, known(&net, 2, "a").state), (before.0, State::Alive));
    assert!(!net.saw(|_, event| matches!(event, Event::Suspected { .. } | Event::Failed { .. })));
    assert!(!net.saw(|i, event| i != 0 && matches!(event, Event::Joined { .. })));
    let met = |name: &str| Event::Joined { node: name.into(), returned: false };
    assert!(net.saw(|i, event| i == 0 && *event == met("b")) && net.saw(|_, event| *event == met("c")));
}

#[test]
fn who_is_only_remembered_does_not_count_until_it_is_heard() {
    let mut net = joined();
    let state = saved(&net, 0);
    (net.stopped[1], net.stopped[2]) = (true, true);
    restart_at(&mut net, 0, Some(state), UNIX);
    let b = known(&net, 0, "b");
    assert_eq!((b.state, b.heard), (State::Alive, false));
    assert!(!net.nodes[0].is_joined() && !net.nodes[0].knows_somebody());
    net.run(60 * SECOND);
    assert_eq!((known(&net, 0, "b").state, known(&net, 0, "b").heard), (State::Dead, false));
    assert!(net.nodes[0].is_joined() && !net.nodes[0].knows_somebody());
    net.stopped[1] = false;
    net.run(30 * SECOND);
    let b = known(&net, 0, "b");
    assert!(b.heard && b.state == State::Alive && b.returned.is_some() && net.nodes[0].knows_somebody());
}

/// Method: c ends, all others forget it, and a comes back with an old file that has it as running.
#[test]
fn a_stale_state_brings_nobody_back() {
    let mut net = joined();
    let old = saved(&net, 0);
    net.stopped[2] = true;
    net.run(60 * SECOND);
    let now = net.now;
    net.nodes[1].forget_member(now, "c").expect("it has failed");
    net.run(DAY + SECOND);
    restart_at(&mut net, 0, Some(old), UNIX + 86_461);
    net.run(300 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Dead), None));
}

#[test]
fn a_clock_that_was_set_makes_nothing_last_longer_and_puts_nothing_into_the_future() {
    let mut net = with_c_failed();
    net.run(3600 * SECOND);
    let state = saved(&net, 0);
    for unix in [UNIX - 86_400, UNIX, UNIX + 86_400, 0] {
        restart_at(&mut net, 0, Some(state.clone()), unix);
        let age = net.now.since(known(&net, 0, "c").since);
        assert_eq!(known(&net, 0, "c").state, State::Dead);
        assert!(age == Duration::ZERO || unix >= UNIX, "{unix}: {age:?}");
        assert!(unix != UNIX || age >= 3600 * SECOND, "{age:?}");
    }
    let now = net.now;
    net.nodes[0].forget_member(now, "c").expect("it has failed");
    let state = saved(&net, 0);
    for (unix, forgotten) in [(UNIX, true), (UNIX + 86_401, false), (UNIX - 86_400 * 400, true)] {
        restart_at(&mut net, 0, Some(state.clone()), unix);
        let (now, later) = (net.now, net.now + DAY);
        assert_eq!(net.nodes[0].is_forgotten(now, "c"), forgotten, "{unix}");
        assert!(!net.nodes[0].is_forgotten(later, "c"), "{unix}: not for more than a day");
    }
}

/// Method: d joins while c is failed; then e joins by way of d alone.
#[test]
fn a_newcomer_learns_who_has_failed_from_those_who_saw_it() {
    let mut net = with_c_failed();
    let d = net.add(Config { join: vec![Target::Addr(addr(1))], ..config("d", addr(4)) });
    net.run(10 * SECOND);
    let c = known(&net, d, "c");
    assert_eq!((c.state, c.heard, &*c.meta), (State::Dead, false, &*known(&net, 0, "c").meta));
    assert!(net.saw(|i, event| i == d && *event == Event::FoundFailed { node: "c".into() }));
    (net.stopped[0], net.stopped[1]) = (true, true);
    let e = net.add(Config { join: vec![Target::Addr(addr(4))], ..config("e", addr(5)) });
    net.run(30 * SECOND);
    assert_eq!((net.state(e, "d"), net.state(e, "c")), (Some(State::Alive), None), "hearsay goes no further");
    net.stopped[2] = false;
    net.run(90 * SECOND);
    assert_eq!(net.state(d, "c"), Some(State::Alive));
    assert!(known(&net, d, "c").returned.is_some());
}

#[test]
fn what_a_failed_member_said_last_reaches_who_did_not_hear_it() {
    let mut net = joined();
    let cut = [(0, 1), (1, 0), (0, 2), (2, 0)];
    net.no_packets.extend(cut);
    net.no_streams.extend(cut);
    net.run(60 * SECOND);
    let (now, last) = (net.now, meta("last"));
    net.nodes[2].set_meta(now, &last);
    net.run(10 * SECOND);
    net.stopped[2] = true;
    net.run(60 * SECOND);
    let tags = |net: &Net, i: usize| (known(net, i, "c").state, known(net, i, "c").meta.to_vec());
    let first = known(&net, 0, "c").meta.to_vec();
    assert!(
        first != last
            && tags(&net, 0) == (State::Dead, first)
            && tags(&net, 1) == (State::Dead, last.clone())
    );
    (net.no_packets, net.no_streams) = (Vec::new(), Vec::new());
    net.log.clear();
    net.run(90 * SECOND);
    assert_eq!((tags(&net, 0), tags(&net, 1)), ((State::Dead, last.clone()), (State::Dead, last)));
    assert!(net.saw(|i, event| i == 0 && *event == Event::LastTags { node: "c".into() }), "{:?}", net.log);
    assert!(!net.saw(|i, event| i == 1 && matches!(event, Event::LastTags { .. })), "{:?}", net.log);
    // It is no news of its own that it runs: it is back as ever.
    net.stopped[2] = false;
    net.run(90 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Alive), Some(State::Alive)));
}

/// All end, and c does not come back; a's file is as old as it says.
fn back_without_c(age: u64) -> Net {
    let mut net = joined();
    let (of_a, of_b) = (saved(&net, 0), saved(&net, 1));
    // Nobody is there who says that c runs.
    (net.stopped[1], net.stopped[2]) = (true, true);
    restart_at(&mut net, 0, Some(of_a), UNIX.wrapping_add(age));
    restart_at(&mut net, 1, Some(of_b), UNIX.wrapping_add(age));
    net.run(60 * SECOND);
    assert_eq!((known(&net, 0, "c").state, known(&net, 0, "c").heard), (State::Dead, false));
    net
}

/// What a newcomer that joins a is told of c.
fn told_of_c(net: &mut Net) -> Option<State> {
    let ip = u8::try_from(net.nodes.len() + 1).expect("few nodes");
    let name: &'static str = ["d", "e", "f"][net.nodes.len() - 3];
    let new = net.add(Config { join: vec![Target::Addr(addr(1))], ..config(name, addr(ip)) });
    net.run(10 * SECOND);
    net.state(new, "c")
}

#[test]
fn a_newcomer_learns_who_failed_while_all_were_away() {
    let mut net = back_without_c(3_600);
    assert_eq!(told_of_c(&mut net), Some(State::Dead));
    // As long as who forgot c may still know it; then nobody else is told.
    net.run(DAY);
    assert_eq!((told_of_c(&mut net), net.state(0, "c")), (None, Some(State::Dead)));
    for age in [2 * 86_400, 86_400, 0_u64.wrapping_sub(7_200)] {
        let mut net = back_without_c(age);
        assert_eq!(told_of_c(&mut net), None, "its age is {age} s, or not known");
    }
}

/// Method: all others forget c, which has failed, and a comes back with a file of the time before.
#[test]
fn what_the_state_file_holds_brings_nobody_back_whom_others_forgot() {
    for away in [60, 3_600, 20 * 3_600] {
        let mut net = joined();
        let old = saved(&net, 0);
        (net.stopped[0], net.stopped[2]) = (true, true);
        net.run(60 * SECOND);
        let now = net.now;
        net.nodes[1].forget_member(now, "c").expect("it has failed");
        net.run(Duration::from_secs(away));
        restart_at(&mut net, 0, Some(old), UNIX + 60 + away);
        for _ in 0..30 {
            net.run(3_600 * SECOND);
            assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Dead), None), "{away}");
        }
    }
}

#[test]
fn who_was_forgotten_is_not_taken_over_for_a_day() {
    let mut net = with_c_failed();
    let now = net.now;
    net.nodes[0].forget_member(now, "c").expect("it has failed");
    restart(&mut net, 0);
    net.run(DAY - 60 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (None, Some(State::Dead)));
    net.run(600 * SECOND);
    assert_eq!(net.state(0, "c"), Some(State::Dead));
}

/// Method: of two nodes one forgets much earlier than the other one.
#[test]
fn who_was_forgotten_by_time_does_not_come_back_from_a_slower_node() {
    let mut net = with_c_failed();
    net.nodes[0].config.forget_after = 600 * SECOND;
    net.run(3600 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (None, Some(State::Dead)));
}

#[test]
fn a_failed_member_that_is_to_be_kept_is_not_forgotten_by_time() {
    let mut net = with_c_failed();
    net.nodes[0].set_kept(vec!["b".into(), "c".into()]);
    net.run(84 * 3600 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Dead), None));
    let now = net.now;
    assert!(net.nodes[0].forget_member(now, "c").is_ok(), "a person's word counts all the same");
    let mut net = with_c_failed();
    net.nodes[0].set_kept(vec!["c".into()]);
    net.run(4 * DAY);
    net.nodes[0].set_kept(vec![]);
    net.run(60 * SECOND);
    assert_eq!(net.state(0, "c"), None);
}

#[test]
fn a_member_that_left_and_is_still_published_is_not_forgotten_by_time() {
    let mut net = joined();
    let now = net.now;
    net.nodes[2].leave(now);
    net.settle();
    net.run(10 * SECOND);
    net.stopped[2] = true;
    net.nodes[0].set_kept(vec!["c".into()]);
    net.run(84 * 3600 * SECOND);
    assert_eq!((net.state(0, "c"), net.state(1, "c")), (Some(State::Left), None));
    net.nodes[0].set_kept(vec![]);
    net.run(60 * SECOND);
    assert_eq!(net.state(0, "c"), None, "its address went");
}

#[test]
fn without_a_state_the_own_former_tags_are_shown_by_peers() {
    let mut net = joined();
    let former = known(&net, 1, "a").meta.clone();
    restart_at(&mut net, 0, None, UNIX);
    net.run(30 * SECOND);
    assert!(net.saw(|i, event| i == 0 && *event == Event::OwnSeen { meta: former.clone() }), "{:?}", net.log);
    assert!(!net.saw(|i, event| i != 0 && matches!(event, Event::OwnSeen { .. })));
}

#[test]
fn what_the_system_refuses_to_send_is_evidence_until_it_sends_again() {
    let mut net = joined();
    let now = net.now;
    for _ in 0..3 {
        net.nodes[0].handle_send_error(now, addr(2), SendError::Unreachable);
    }
    let evidence = net.nodes[0].evidence(now);
    assert_eq!((evidence.others, evidence.unsendable, evidence.score), (2, 1, 0));
    net.run(10 * SECOND);
    let later = net.nodes[0].evidence(now);
    assert_eq!(later.unsendable, 0);
    assert_eq!(later.rounds, evidence.rounds + 10, "one each second");
    (net.stopped[1], net.stopped[2]) = (true, true);
    net.run(60 * SECOND);
    let alone = net.nodes[0].evidence(now);
    assert!(alone.rounds >= later.rounds + 60 && alone.others == 0, "{alone:?}");
}

#[test]
fn join_entries_are_named_after_the_members_there() {
    let targets: Vec<Target> = [1, 2, 9].map(|n| Target::Addr(addr(n))).to_vec();
    let mut net = Net::new(&["a"]);
    net.add(Config { join: targets.clone(), ..config("b", addr(2)) });
    let entries = |net: &Net| -> Vec<(Target, Option<String>)> {
        let owned = |entry: JoinEntry<'_>| (entry.target.clone(), entry.member.map(str::to_owned));
        net.nodes[1].join_entries().map(owned).collect()
    };
    assert_eq!(entries(&net), [(targets[0].clone(), None), (targets[2].clone(), None)]);
    net.run(10 * SECOND);
    assert_eq!(entries(&net), [(targets[0].clone(), Some("a".into())), (targets[2].clone(), None)]);
    // Behind a NAT it is reached, and nobody advertises that address.
    net.aliases.push((addr(9), addr(1)));
    net.run(120 * SECOND);
    assert_eq!(entries(&net), [(targets[0].clone(), Some("a".into()))]);
    net.stopped[0] = true;
    net.run(60 * SECOND);
    let now = net.now;
    net.nodes[1].forget_member(now, "a").expect("it has failed");
    assert_eq!(entries(&net), []);
}

#[test]
fn who_moved_while_this_node_was_away_has_its_name_at_once() {
    let mut net = joined();
    let state = saved(&net, 0);
    net.stopped[1] = true;
    let moved = net.add(Config { join: vec![Target::Addr(addr(3))], ..config("b", addr(5)) });
    net.stopped[0] = true;
    net.run(60 * SECOND);
    assert_eq!(known(&net, 2, "b").addr, addr(5));
    net.log.clear();
    restart_at(&mut net, 0, Some(state), UNIX);
    net.run(3 * SECOND);
    assert_eq!((known(&net, 0, "b").addr, known(&net, 0, "b").heard), (addr(5), true));
    assert!(!net.saw(|i, event| i != moved && matches!(event, Event::Conflict { .. })), "{:?}", net.log);
}

#[test]
fn what_makes_no_sense_is_left_out() {
    let entry = |name: &str, addr: &str, incarnation: u32, tags: &str| {
        serde_json::json!({ "name": name, "addr": addr, "incarnation": incarnation, "state": "failed",
            "since": UNIX, "tags": tags, "vsn": [1, 5, 2, 2, 5, 5] })
    };
    let long = "x".repeat(200);
    let (good, foreign) = (
        crate::wire::base64::encode(&meta("c")),
        crate::wire::base64::encode(&encode_tags([("cluster", "x")].into_iter())),
    );
    let members = [
        entry("a", "127.0.0.1:7946", 7, &good),
        entry("c", "127.0.0.3:7946", 7, &good),
        entry("c", "127.0.0.4:7946", 8, &good),
        entry("d", "127.0.0.4:7946", 0, &good),
        entry("e", "224.0.0.1:7946", 1, &good),
        entry("f", "127.0.0.6:7946", 1, "?"),
        entry("g", "127.0.0.7:7946", 1, &foreign),
        entry(&long, "127.0.0.8:7946", 1, &good),
    ];
    let saved = serde_json::json!({ "incarnation": u32::MAX, "members": members, "later": true });
    let mut net = Net::new(&["a"]);
    let now = net.now;
    net.nodes[0].restore(now, date(now, UNIX), Saved::read(crate::saved::Part(&saved)).expect("a state"));
    let names: Vec<&str> = net.nodes[0].members().map(|m| &*m.name).collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!((known(&net, 0, "c").addr, known(&net, 0, "a").incarnation), (addr(3), u32::MAX));
}

#[test]
fn a_reboot_makes_nobody_younger() {
    let mut net = with_c_failed();
    let saved = saved(&net, 0);
    // The machine's clock begins anew; on it, nothing of this has a place after its start.
    let (now, hours) = (Instant::BOOT + 5 * SECOND, Duration::from_secs(70 * 3_600));
    let mut node = Membership::new(config("a", addr(1)), &meta("new"), Seed::from_u64(5_000), now);
    node.restore(now, date(now, UNIX + hours.as_secs()), saved);
    net.nodes[0] = node;
    let age = now.since(known(&net, 0, "c").since);
    assert!((hours..hours + 61 * SECOND).contains(&age), "{age:?}");
}

#[test]
fn what_does_not_change_has_the_same_dates_at_all_times() {
    let mut net = with_c_failed();
    net.stopped[1] = true;
    net.run(60 * SECOND);
    let now = net.now;
    net.nodes[0].forget_member(now, "b").expect("it has failed");
    let saved = |millis: u64| {
        let (now, unix) = (net.now + Duration::from_millis(millis), Duration::from_secs(UNIX));
        read(&net.nodes[0].saved(now, Date::new(now, unix + Duration::from_millis(millis))))
    };
    let differs = (0..3_000).step_by(7).find(|&millis| saved(millis) != saved(0));
    assert_eq!(differs, None);
}

/// As it comes back from the file.
fn read(saving: &Saving<'_>) -> Saved {
    let value = serde_json::to_value(saving).expect("it can be written");
    Saved::read(Part(&value)).expect("what is written can be read")
}
