//! Gates 1 to 4: whether this node may act at all.

use crate::saved::Part;
use std::rc::Rc;

use super::*;
use crate::membership::Evidence;
use crate::safety::doubt::Doubt;
use crate::safety::electorate::{Electorate, Target as Entry, View, Voter, Votes};
use crate::safety::quorum::{Proof, Quorum, may_withdraw};
use crate::safety::settle::Settle;
use crate::safety::verify::Last;

#[test]
fn a_node_waits_until_it_has_settled_and_its_checks_have_verdicts() {
    let mut settle = Settle::new(at(20));
    settle.update(at(1), false, true);
    assert_eq!(settle.gate(Some("web")), Err(Reason::Settling));
    settle.update(at(2), true, true);
    assert_eq!(settle.gate(Some("web")), Err(Reason::NoVerdictHere { app: "web".into() }));
    assert_eq!(settle.gate(None), Ok(()));
    let mut alone = Settle::new(at(20));
    alone.update(at(19), false, true);
    assert_eq!((alone.gate(None), alone.next_deadline()), (Err(Reason::Settling), Some(at(20))));
    alone.update(at(20), false, true);
    assert_eq!((alone.gate(None), alone.next_deadline()), (Ok(()), None));
}

#[test]
fn a_majority_that_comes_back_is_heard_first_and_the_first_one_is_not_waited_for() {
    for (synced, ends) in [(true, 11), (false, 15)] {
        let mut settle = Settle::new(at(20));
        settle.update(at(1), true, false);
        assert_eq!(settle.gate(None), Ok(()), "no quorum is another gate's matter");
        settle.update(at(10), true, true);
        settle.update(at(ends - 1), true, true);
        assert_eq!(settle.gate(None), Err(Reason::SettlingAgain));
        if synced {
            settle.synced();
        }
        settle.update(at(ends), true, true);
        assert_eq!(settle.gate(None), Ok(()), "{ends}");
    }
}

fn evidence(rounds: u64) -> Evidence {
    Evidence { rounds, others: 4, ..Evidence::default() }
}

#[test]
fn each_evidence_against_oneself_closes_until_two_rounds_without_it() {
    let cannot = Evidence { unsendable: 2, ..evidence(7) };
    let unwell = Evidence { score: 5, ..evidence(7) };
    for (against, late, reason) in [
        (evidence(7), true, Reason::WasLate),
        (cannot, false, Reason::CannotSend { unsendable: 2, others: 4 }),
        (unwell, false, Reason::Unwell { score: 5 }),
    ] {
        let mut doubt = Doubt::new(Duration::from_secs(3));
        doubt.update(at(0), &against, late);
        doubt.update(at(1), &evidence(8), false);
        assert_eq!(doubt.gate(), Err(reason.clone()), "one round had begun before");
        doubt.update(at(2), &Evidence { rounds: 8, ..against }, late);
        doubt.update(at(3), &evidence(9), false);
        assert_eq!(doubt.gate(), Err(reason), "new evidence begins it anew");
        doubt.update(at(4), &evidence(10), false);
        assert_eq!(doubt.gate(), Ok(()));
    }
}

#[test]
fn less_is_no_evidence() {
    for fine in [
        Evidence { score: 4, ..evidence(0) },
        Evidence { unsendable: 1, ..evidence(0) },
        Evidence { score: 7, others: 0, ..evidence(0) },
    ] {
        let mut doubt = Doubt::new(Duration::from_secs(3));
        doubt.update(at(0), &fine, false);
        assert_eq!(doubt.gate(), Ok(()), "{fine:?}");
    }
}

#[test]
fn doubt_ends_even_if_there_is_nobody_to_probe() {
    let mut doubt = Doubt::new(Duration::from_secs(3));
    let alone = Evidence::default();
    doubt.update(at(0), &alone, true);
    let until = doubt.next_deadline().expect("an end");
    doubt.update(until - Duration::from_micros(1), &alone, false);
    assert_eq!(doubt.gate(), Err(Reason::WasLate));
    doubt.update(until, &alone, false);
    assert_eq!((doubt.gate(), doubt.next_deadline()), (Ok(()), None));
}

/// What the node `a` sees of the electorate.
#[derive(Default)]
struct Scene {
    electorate: Electorate,
    expected: Vec<Box<str>>,
    targets: Vec<Entry>,
    no_record: bool,
}

impl Scene {
    /// `members`: names of one letter, capitals are alive, `-x` left.
    fn sees(&mut self, now: u64, members: &str) -> Votes {
        self.sees_as("a", now, members)
    }

    fn sees_as(&mut self, me: &str, now: u64, members: &str) -> Votes {
        let mut named: Vec<(String, bool, bool)> = Vec::new();
        let mut left = false;
        for letter in members.chars() {
            if letter != '-' {
                named.push((letter.to_ascii_lowercase().into(), letter.is_ascii_uppercase(), left));
            }
            left = letter == '-';
        }
        let voter = |(name, alive, left): &'_ (String, bool, bool)| -> (Rc<str>, bool, bool) {
            (name.as_str().into(), *alive, *left)
        };
        let named: Vec<_> = named.iter().map(voter).collect();
        let members: Vec<Voter<'_>> = named
            .iter()
            .map(|(name, alive, left)| Voter { name, alive: *alive, suspect: false, left: *left })
            .collect();
        let (expected, targets, has_record) = (&self.expected, &self.targets, !self.no_record);
        self.electorate.update(at(now), &View { me, members: &members, expected, targets, has_record })
    }

    fn counts(&mut self, now: u64, members: &str) -> (usize, usize) {
        let votes = self.sees(now, members);
        (votes.alive, votes.voters)
    }
}

#[test]
fn servers_that_die_one_after_another_keep_quorum_and_those_that_vanish_at_once_do_not() {
    let mut slowly = Scene::default();
    assert_eq!(slowly.counts(0, "ABCDE"), (5, 5));
    slowly.sees(60, "ABCDE");
    assert_eq!(slowly.counts(1_000, "ABCDe"), (4, 5));
    assert_eq!(slowly.counts(1_059, "ABCDe"), (4, 5), "not before it was stable");
    assert_eq!(slowly.electorate.next_deadline(), Some(at(1_060)));
    assert_eq!(slowly.counts(1_060, "ABCDe"), (4, 4));
    slowly.sees(2_000, "ABCde");
    assert_eq!(slowly.counts(2_060, "ABCde"), (3, 3));
    let mut at_once = Scene::default();
    at_once.sees(0, "ABCDE");
    at_once.sees(60, "ABCDE");
    for now in [1_000, 10_000] {
        assert_eq!(at_once.counts(now, "ABcde"), (2, 5), "a minority never changes E");
    }
}

#[test]
fn half_a_view_never_changes_the_electorate_and_a_changed_one_begins_its_minute_anew() {
    let mut scene = Scene::default();
    scene.sees(0, "ABCD");
    scene.sees(60, "ABCD");
    for now in [100, 5_000] {
        assert_eq!(scene.counts(now, "ABcd"), (2, 4));
    }
    scene.sees(6_000, "ABCd");
    scene.sees(6_050, "ABcD");
    assert_eq!(scene.counts(6_061, "ABcD"), (3, 4));
    assert_eq!(scene.counts(6_110, "ABcD"), (3, 3));
}

#[test]
fn at_a_first_start_all_that_are_expected_or_heard_of_vote() {
    assert_eq!(Scene::default().counts(0, "A"), (1, 1), "alone with none of these, oneself");
    let mut scene = Scene { expected: vec!["a".into(), "x".into()], ..Scene::default() };
    scene.targets = vec![Entry::Never("192.0.2.9:7946".into()), Entry::Reached("b".into())];
    let votes = scene.sees(0, "ABc");
    assert_eq!((votes.alive, votes.voters, votes.unseen.as_deref()), (2, 5, Some("192.0.2.9:7946")));
    assert_eq!(&*votes.missing_text(), "192.0.2.9:7946, c, x");
    scene.targets = vec![Entry::Reached("c".into()), Entry::Reached("b".into())];
    assert_eq!(scene.counts(1, "ABC"), (3, 4), "one voter under its name once reached");
}

#[test]
fn who_left_or_was_forgotten_has_no_vote_at_once() {
    let mut scene = Scene::default();
    assert_eq!(scene.counts(0, "AB-cd"), (2, 3));
    scene.electorate.drop("d");
    assert_eq!(scene.counts(1, "AB-c"), (2, 2));
    scene.sees(100, "AB");
    assert_eq!(scene.counts(101, "Ab"), (1, 2));
    assert_eq!(scene.counts(102, "A-b"), (1, 1));
    assert_eq!(scene.counts(103, "AB"), (1, 1), "back: a voter when the view was stable");
    assert_eq!(scene.counts(163, "AB"), (2, 2));
}

#[test]
fn nobody_loses_its_vote_before_the_first_record_and_all_must_have_been_seen() {
    let mut scene = Scene { no_record: true, ..Scene::default() };
    assert_eq!(scene.sees(0, "ABc").unseen.as_deref(), Some("c"));
    assert_eq!(scene.counts(1_000, "ABc"), (2, 3));
    assert_eq!(scene.sees(1_001, "ABC").unseen, None);
    assert_eq!(scene.sees(1_002, "ABc").unseen, None, "at some time");
    assert_eq!(scene.counts(2_000, "ABc"), (2, 3));
    assert_eq!(scene.electorate.next_deadline(), None, "it would spin");
    scene.no_record = false;
    assert_eq!(scene.counts(2_001, "ABc"), (2, 2));
}

#[test]
fn the_electorate_outlives_a_restart() {
    let mut scene = Scene::default();
    scene.sees(0, "ABC");
    scene.sees(60, "ABC");
    let text = serde_json::to_string(&scene.electorate.saved()).expect("JSON");
    let saved = Saved::read(Part(&serde_json::from_str(&text).expect("JSON"))).expect("as it was written");
    let mut again = Scene { electorate: Electorate::restore(saved), ..Scene::default() };
    let votes = again.sees(0, "A");
    assert_eq!((votes.alive, votes.voters, votes.unseen), (1, 3, None));
    assert_eq!(Saved::read(Part(&serde_json::json!({}))).expect("an older file"), Saved::default());
}

/// Goal: the last to leave, whose file once named nobody, is not frozen for good.
#[test]
fn who_leaves_keeps_its_own_vote_for_its_next_life() {
    let mut scene = Scene::default();
    scene.sees(0, "ABC");
    scene.sees(60, "ABC");
    scene.sees(100, "AB-c");
    scene.sees(101, "A-b-c");
    assert_eq!(scene.counts(102, "-A-b-c"), (1, 1));
    let saved = scene.electorate.saved();
    assert_eq!(saved.voters, Some(vec!["a".into()]));
    let mut again = Scene { electorate: Electorate::restore(saved), ..Scene::default() };
    assert!(again.sees(0, "A").has_majority());
}

#[test]
fn a_file_that_names_nobody_or_not_this_node_gives_it_a_vote_all_the_same() {
    let of = |names: &[&str]| {
        let voters = Some(names.iter().map(|&name| name.into()).collect());
        let electorate = Electorate::restore(Saved { voters, seen: Vec::new() });
        Scene { electorate, expected: vec!["b".into()], ..Scene::default() }
    };
    assert_eq!(of(&[]).counts(0, "A"), (1, 2), "as at a first start");
    assert_eq!(of(&["b", "c"]).counts(0, "A"), (1, 3));
}

fn votes(alive: usize, missing: &[&str]) -> Votes {
    let missing: Vec<Rc<str>> = missing.iter().map(|&name| name.into()).collect();
    Votes { alive, suspects: 0, voters: alive + missing.len(), missing, unseen: None, first_missing: false }
}

#[test]
fn of_two_halves_only_the_one_without_the_smallest_name_withdraws_and_only_when_it_is_decided() {
    for (half, yields) in [("Ab", false), ("aB", true), ("Abc", true), ("aBc", true)] {
        let mut scene = Scene::default();
        let all = half.to_ascii_uppercase();
        scene.sees(0, &all);
        scene.sees(60, &all);
        let votes = scene.sees_as("b", 61, half);
        assert_eq!(votes.yields(), yields, "{half}");
        let serves = Err(Reason::MissingServes { node: "a".into() });
        assert_eq!(may_withdraw(&serves, &votes), yields, "{half}");
        let undecided = Err(Reason::MissingNotTried { node: "a".into() });
        let waiting = Err(Reason::Waiting { alive: 1, voters: 2, missing: "a".into() });
        for no in [Ok(()), undecided, waiting] {
            assert!(!may_withdraw(&no, &votes), "{half}: {no:?}");
        }
    }
    let mut scene = Scene { targets: vec![Entry::Never("192.0.2.1".into())], ..Scene::default() };
    let votes = scene.sees(0, "A");
    assert!(votes.is_half() && !votes.yields(), "who was never reached is not known to be the first");
}

fn config() -> Config {
    let witness = vec![Target::Tcp("192.0.2.250:53".parse().expect("an address"))];
    Config { witness, ..Config::default() }
}

type Tries = Option<Option<Last>>;

fn tried(answered: bool) -> Tries {
    Some(Some(Last { began: at(0), ended: at(0), answered }))
}

/// The gate at `now`, the same case having begun at 0.
fn gate(config: &Config, votes: &Votes, now: u64, witnesses: usize, tried: Tries) -> Result<(), Reason> {
    let mut quorum = Quorum::default();
    let tried = |_: &str| tried;
    let proof = Proof { witnesses: &|_| witnesses, untried: 0, tried: &tried };
    _ = quorum.gate(at(0), config, votes, &proof);
    let found = quorum.gate(at(now), config, votes, &proof);
    assert!(quorum.next_deadline().is_none_or(|due| due > at(now)), "it would spin");
    found
}

#[test]
fn a_majority_acts_and_needs_no_witness_and_quorum_off_needs_nothing() {
    for (alive, missing) in [(1, &[][..]), (2, &["c"]), (3, &["d", "e"])] {
        assert_eq!(gate(&config(), &votes(alive, missing), 0, 0, None), Ok(()));
    }
    let off = Config { quorum: false, ..Config::default() };
    assert_eq!(gate(&off, &votes(1, &["b", "c", "d"]), 0, 0, tried(true)), Ok(()));
}

#[test]
fn half_acts_after_its_delay_if_a_witness_answers_and_nobody_missing_does() {
    let half = votes(1, &["b"]);
    let of = |now, witnesses, tried| gate(&config(), &half, now, witnesses, tried);
    assert_eq!(of(15, 1, tried(false)), Ok(()));
    assert_eq!(of(15, 1, None), Ok(()), "nothing to verify there counts as failed");
    assert!(matches!(of(14, 1, tried(false)), Err(Reason::Waiting { .. })));
    assert!(matches!(of(900, 0, tried(false)), Err(Reason::WitnessSilent { answered: 0, needed: 1, .. })));
    assert_eq!(of(900, 1, Some(None)), Err(Reason::MissingNotTried { node: "b".into() }));
    assert_eq!(of(900, 1, tried(true)), Err(Reason::MissingServes { node: "b".into() }));
    let alone = Config { witness: Vec::new(), ..config() };
    let silent = gate(&alone, &half, 900, 0, tried(false));
    assert!(matches!(silent, Err(Reason::NoWitness { alive: 1, voters: 2, .. })));
    let mut quorum = Quorum::default();
    let by_name = |node: &str| tried(node == "d");
    let (four, proof) = (votes(2, &["c", "d"]), Proof { witnesses: &|_| 1, untried: 0, tried: &by_name });
    _ = quorum.gate(at(0), &config(), &four, &proof);
    let serves = Err(Reason::MissingServes { node: "d".into() });
    assert_eq!(quorum.gate(at(15), &config(), &four, &proof), serves, "all that are missing are asked");
}

/// A node whose Internet goes has an answer from before that is younger than it takes to find the others failed.
#[test]
fn what_a_witness_answered_before_the_majority_was_lost_does_not_count() {
    let (half, nobody) = (votes(1, &["b"]), |_: &str| tried(false));
    let mut quorum = Quorum::default();
    let mut gate = |now, answered: u64| {
        let answered = |since| usize::from(at(answered) >= since);
        quorum.gate(at(now), &config(), &half, &Proof { witnesses: &answered, untried: 0, tried: &nobody })
    };
    assert!(matches!(gate(10, 9), Err(Reason::Waiting { .. })));
    assert!(matches!(gate(25, 9), Err(Reason::WitnessSilent { answered: 0, .. })));
    assert_eq!(gate(25, 10), Ok(()));
}

#[test]
fn less_than_half_freezes_but_for_a_minority_delay() {
    let few = votes(1, &["b", "c"]);
    let frozen = gate(&config(), &few, 900_000, 1, None);
    assert!(matches!(frozen, Err(Reason::Minority { alive: 1, voters: 3, .. })));
    let last_resort = Config { minority_delay: Some(Duration::from_secs(60)), ..config() };
    assert!(matches!(gate(&last_resort, &few, 59, 1, None), Err(Reason::Waiting { .. })));
    assert_eq!(gate(&last_resort, &few, 60, 1, None), Ok(()));
    assert!(matches!(gate(&last_resort, &few, 60, 0, None), Err(Reason::WitnessSilent { .. })));
}

#[test]
fn the_delay_begins_anew_when_the_majority_was_back_or_the_case_is_another() {
    let none = |_: &str| None;
    let proof = Proof { witnesses: &|_| 1, untried: 0, tried: &none };
    let half = votes(1, &["b"]);
    for between in [votes(1, &["b", "c"]), votes(2, &[])] {
        let mut quorum = Quorum::default();
        _ = quorum.gate(at(0), &config(), &half, &proof);
        _ = quorum.gate(at(10), &config(), &between, &proof);
        assert!(quorum.gate(at(16), &config(), &half, &proof).is_err());
        assert_eq!(quorum.gate(at(31), &config(), &half, &proof), Ok(()));
    }
}

#[test]
fn names_that_come_and_go_before_the_first_record_are_not_remembered_but_expected_ones_are() {
    let mut scene = Scene { no_record: true, expected: vec!["x".into()], ..Scene::default() };
    scene.targets = vec![Entry::Reached("y".into())];
    scene.sees(0, "AXY");
    for (now, other) in ('B'..='W').enumerate() {
        scene.sees(now as u64, &format!("A{other}"));
    }
    let seen = scene.electorate.saved().seen;
    assert_eq!(seen.iter().map(|name| &*name.0).collect::<Vec<_>>(), ["a", "w", "x", "y"]);
    let votes = scene.sees(100, "A");
    assert_eq!(votes.unseen, None, "x and y were there");
}
