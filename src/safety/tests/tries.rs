//! Tries of failed nodes and witnesses.

use super::*;
use crate::check::attempt::Outcome;
use crate::limits::{ADDRESSES_PER_INSTANCE_MAX, VERIFY_TRIES_MAX};
use crate::safety::verify::{
    Key, Last, Step, TRY_TIMEOUT, Tries, TryId, UNTRIED_AGAIN, VERIFY_EVERY, Wanted,
};

fn key(node: &str) -> Key {
    Key::Node { app: "web".into(), node: node.into() }
}

fn wanted(node: &str, since: u64, addrs: u8) -> Wanted {
    let targets = (1..=addrs).map(|n| Verify::Tcp { port: 443 }.target(ip(n))).collect();
    Wanted { key: key(node), since: at(since), targets, every: VERIFY_EVERY }
}

fn answer() -> Outcome {
    Outcome::Pass("connected".into())
}

fn silence() -> Outcome {
    Outcome::Fail("connection refused".into())
}

fn untried() -> Outcome {
    Outcome::NotTried("too many open files".into())
}

/// Ids of what is started and aborted.
fn steps(tries: &mut Tries) -> (Vec<TryId>, Vec<TryId>) {
    let (mut started, mut aborted) = (Vec::new(), Vec::new());
    while let Some(step) = tries.poll_step() {
        match step {
            Step::Start { id, .. } => started.push(id),
            Step::Abort { id } => aborted.push(id),
        }
    }
    (started, aborted)
}

#[test]
fn all_addresses_are_tried_at_once_and_one_answer_is_enough() {
    let mut tries = Tries::default();
    tries.want(at(0), vec![wanted("b", 0, 3)]);
    let (started, _) = steps(&mut tries);
    assert_eq!(started.len(), 3);
    assert!(!tries.handle_result(at(1), started[0], &silence()), "two are still open");
    assert!(tries.handle_result(at(2), started[1], &answer()));
    assert_eq!(tries.last(&key("b")), Some(Last { began: at(0), ended: at(2), answered: true }));
    assert_eq!(steps(&mut tries), (vec![], vec![started[2]]));
    assert!(!tries.handle_result(at(3), started[2], &silence()), "too late to matter");
    assert_eq!(tries.next_deadline(), Some(at(30)));
}

#[test]
fn what_does_not_answer_in_time_has_failed_and_is_tried_again_at_its_pace() {
    let mut tries = Tries::default();
    tries.want(at(0), vec![wanted("b", 0, 1)]);
    let (first, _) = steps(&mut tries);
    assert_eq!(tries.next_deadline(), Some(at(0) + TRY_TIMEOUT));
    assert!(tries.handle_timeout(at(5)));
    assert_eq!(tries.last(&key("b")).map(|last| last.answered), Some(false));
    assert_eq!(steps(&mut tries), (vec![], first));
    tries.handle_timeout(at(29));
    assert_eq!(steps(&mut tries).0.len(), 0);
    tries.handle_timeout(at(30));
    assert_eq!(steps(&mut tries).0.len(), 1);
    assert_eq!(tries.last(&key("b")).map(|last| last.ended), Some(at(5)), "the last result stands meanwhile");
}

#[test]
fn a_run_is_given_tries_begun_after_all_its_waits() {
    let mut tries = Tries::default();
    tries.want(at(0), vec![wanted("b", 0, 1)]);
    let (old, _) = steps(&mut tries);
    tries.refresh(at(3), "web", at(3));
    let (new, aborted) = steps(&mut tries);
    assert_eq!((new.len(), aborted), (1, old), "begun too early: given up for a new one");
    tries.refresh(at(4), "web", at(3));
    assert_eq!(steps(&mut tries), (vec![], vec![]), "one begun since is waited for");
    tries.handle_result(at(4), new[0], &silence());
    tries.refresh(at(5), "web", at(3));
    assert_eq!(steps(&mut tries), (vec![], vec![]), "it is fresh");
    tries.refresh(at(5), "db", at(5));
    assert_eq!(steps(&mut tries), (vec![], vec![]), "another app's");
    tries.refresh(at(20), "web", at(3));
    assert_eq!(
        steps(&mut tries),
        (vec![], vec![]),
        "it counts until its round is over, however long that takes"
    );
    tries.refresh(at(20), "web", at(20));
    assert_eq!(steps(&mut tries).0.len(), 1, "the next round");
}

/// Goal: a round ends, and keeps to the limit, with many more addresses than can be tried at once; nor does another
/// run that asks for newer tries all the time keep it from its end.
#[test]
fn a_round_ends_however_many_there_are_and_however_often_others_ask() {
    const NODES: usize = 40;
    let names: Vec<String> = (0..NODES).map(|n| format!("n{n:02}")).collect();
    for ask_every in [1, 3, 7, 60] {
        let mut tries = Tries::default();
        tries.want(at(0), names.iter().map(|name| wanted(name, 0, 2)).collect());
        let mut open: Vec<TryId> = Vec::new();
        // What runs when the round begins may come to its end, then its own tries take this long at most, each.
        let turns = (2 * NODES).div_ceil(VERIFY_TRIES_MAX) as u64;
        let end = 2 + (1 + 2 * turns) * TRY_TIMEOUT.as_secs();
        for now in 2..=end {
            tries.handle_timeout(at(now));
            if now == 2 || now % 10 == 0 {
                tries.refresh(at(now), "web", at(2));
            }
            if now % ask_every == 0 {
                tries.refresh(at(now), "web", at(now));
            }
            let (started, aborted) = steps(&mut tries);
            open.extend(started);
            open.retain(|id| !aborted.contains(id));
            assert!(open.len() <= VERIFY_TRIES_MAX, "{} at {now}", open.len());
        }
        let counts = |name: &&String| tries.last(&key(name)).is_some_and(|last| last.began >= at(2));
        assert_eq!(names.iter().filter(counts).count(), NODES, "asked every {ask_every} s");
    }
}

#[test]
fn who_failed_anew_is_tried_anew_and_who_is_back_not_at_all() {
    let mut tries = Tries::default();
    tries.want(at(0), vec![wanted("b", 0, 1)]);
    let id = steps(&mut tries).0[0];
    tries.handle_result(at(1), id, &answer());
    tries.want(at(2), vec![wanted("b", 2, 1)]);
    assert_eq!(tries.last(&key("b")), None);
    let (started, _) = steps(&mut tries);
    tries.want(at(3), vec![]);
    assert_eq!(steps(&mut tries), (vec![], started.clone()));
    assert!(!tries.handle_result(at(4), started[0], &answer()));
    assert_eq!((tries.last(&key("b")), tries.next_deadline()), (None, None));
}

#[test]
fn never_more_than_the_limit_at_once_and_everybody_has_its_turn() {
    let mut tries = Tries::default();
    let names: Vec<String> = (0..40).map(|n| format!("n{n:02}")).collect();
    tries.want(at(0), names.iter().map(|name| wanted(name, 0, ADDRESSES_PER_INSTANCE_MAX as u8)).collect());
    let mut open: Vec<TryId> = Vec::new();
    for now in 0..400 {
        tries.handle_timeout(at(now));
        let (started, aborted) = steps(&mut tries);
        open.extend(started);
        open.retain(|id| !aborted.contains(id));
        assert!(open.len() <= VERIFY_TRIES_MAX);
        assert!(tries.next_deadline().is_some_and(|deadline| deadline > at(now)), "it would spin");
    }
    assert!(names.iter().all(|name| tries.last(&key(name)).is_some()));
}

/// Goal: a try with more addresses than there is room for waits for a place, and nobody looks for it before.
#[test]
fn what_does_not_fit_beside_the_others_sets_no_deadline() {
    let mut tries = Tries::default();
    let most = VERIFY_TRIES_MAX as u8;
    tries.want(at(0), vec![wanted("b", 0, most - 1), wanted("c", 0, 2)]);
    assert_eq!(steps(&mut tries).0.len(), VERIFY_TRIES_MAX - 1);
    assert_eq!(tries.next_deadline(), Some(at(0) + TRY_TIMEOUT));
    tries.handle_timeout(at(5));
    assert_eq!(steps(&mut tries).0.len(), 2);
}

#[test]
fn a_witness_counts_for_its_time_and_a_faster_pace_counts_from_the_last_try() {
    let mut tries = Tries::default();
    let witness = |every| {
        let targets = vec![Target::Tcp("192.0.2.250:53".parse().expect("an address"))];
        Wanted { key: Key::Witness(0), since: at(0), targets, every: Duration::from_secs(every) }
    };
    tries.want(at(0), vec![witness(60)]);
    let id = steps(&mut tries).0[0];
    tries.handle_result(at(1), id, &answer());
    assert_eq!((tries.witnesses_since(at(1)), tries.witnesses_since(at(2))), (1, 0));
    tries.want(at(4), vec![witness(10)]);
    assert_eq!(tries.next_deadline(), Some(at(10)));
    tries.want(at(30), vec![witness(10)]);
    let id = steps(&mut tries).0[0];
    tries.handle_result(at(31), id, &silence());
    assert_eq!(tries.witnesses_since(at(1)), 1, "an older answer counts on for its time");
}

#[test]
fn what_could_not_be_tried_says_nothing_and_is_tried_again_soon() {
    let mut tries = Tries::default();
    tries.want(at(0), vec![wanted("b", 0, 2)]);
    let (ids, _) = steps(&mut tries);
    assert!(!tries.handle_result(at(1), ids[0], &untried()));
    assert!(tries.handle_result(at(1), ids[1], &untried()));
    assert_eq!((tries.last(&key("b")), tries.next_deadline()), (None, Some(at(1) + UNTRIED_AGAIN)));
    assert_eq!(tries.untried(&key("b")), Some(at(0)));
    tries.handle_timeout(at(3));
    let (ids, _) = steps(&mut tries);
    tries.handle_result(at(3), ids[0], &untried());
    tries.handle_result(at(4), ids[1], &silence());
    let failed = Last { began: at(3), ended: at(4), answered: false };
    assert_eq!(tries.untried(&key("b")), None);
    assert_eq!(tries.last(&key("b")), Some(failed), "one address was within reach, and does not serve");
    tries.handle_timeout(at(33));
    let (ids, _) = steps(&mut tries);
    ids.iter().for_each(|&id| _ = tries.handle_result(at(33), id, &untried()));
    assert_eq!(tries.last(&key("b")), None, "that it did not answer once is not concluded for ever");
    tries.handle_timeout(at(35));
    let (ids, _) = steps(&mut tries);
    tries.handle_result(at(35), ids[0], &answer());
    tries.handle_timeout(at(65));
    let (ids, _) = steps(&mut tries);
    ids.iter().for_each(|&id| _ = tries.handle_result(at(65), id, &untried()));
    assert_eq!(tries.last(&key("b")).map(|last| last.ended), Some(at(35)), "an answer stands");
}

#[test]
fn a_witness_that_could_not_be_asked_is_not_silent() {
    let mut tries = Tries::default();
    let targets = vec![Target::Tcp("192.0.2.250:53".parse().expect("an address"))];
    let every = Duration::from_secs(10);
    tries.want(at(0), vec![Wanted { key: Key::Witness(0), since: at(0), targets, every }]);
    assert_eq!(tries.witnesses_untried(), 1, "not yet");
    for (now, outcome, count) in [(0, untried(), 1), (2, silence(), 0), (12, untried(), 1), (14, answer(), 0)]
    {
        tries.handle_timeout(at(now));
        let id = steps(&mut tries).0[0];
        tries.handle_result(at(now), id, &outcome);
        assert_eq!(tries.witnesses_untried(), count, "at {now}");
    }
}

#[test]
fn an_endpoint_is_the_template_at_the_address() {
    let http = Verify::Http { port: 81, host: None, path: "/health".into() };
    let Target::Http(target) = http.target("2001:db8::1".parse().expect("an address")) else {
        panic!("not http");
    };
    assert_eq!((&*target.host, &*target.path), ("[2001:db8::1]:81", "/health"));
}
