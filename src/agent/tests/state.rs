//! What is stored when, what a person is told of it, and how it ends and begins again.

use super::*;
use crate::agent::state::Saved;

const UNIX: Duration = Duration::from_secs(1_800_000_000);

fn web() -> delivery::Config {
    delivery::Config { name: "dns".into(), mode: Mode::Sync, place: Place::One, events: Vec::new(), ..mail() }
}

/// With a state file that holds `saved`.
pub fn stored(handlers: Vec<delivery::Config>, saved: Option<Saved>) -> World {
    World::of(Agent::with_state(config(handlers), Seed::from_u64(7), Instant::ZERO, UNIX, saved))
}

impl World {
    fn writes(&self) -> Vec<&str> {
        fn text(action: &Action) -> Option<&str> {
            match action {
                Action::Persist { text } => Some(text),
                _ => None,
            }
        }
        self.done.iter().filter_map(text).collect()
    }

    pub fn last_saved(&self) -> Saved {
        Saved::parse(self.writes().last().expect("something was written")).expect("a state")
    }

    fn place(&self, is: impl Fn(&Action) -> bool) -> usize {
        self.done.iter().position(is).unwrap_or_else(|| panic!("never done: {:?}", self.done))
    }
}

const DOWN: &str = r#"{"cmd":"app","app":"web","to":"down"}"#;

#[test]
fn without_a_state_file_nothing_is_written() {
    let mut world = World::new(vec![web()]);
    world.run_for(secs(60));
    assert!(world.writes().is_empty());
    assert_eq!(world.ask(DOWN).len(), 1);
    assert!(world.writes().is_empty());
}

#[test]
fn it_is_written_at_the_start_then_when_something_changed_and_not_too_often() {
    let mut world = stored(Vec::new(), None);
    assert_eq!(world.writes().len(), 1);
    assert_eq!((world.last_saved().v, &*world.last_saved().node), (1, "fra1"));
    world.run_for(secs(4));
    assert_eq!(world.writes().len(), 1, "5 s lie between two writes");
    world.run_for(secs(60));
    let before = world.writes().len();
    assert!((2..=4).contains(&before), "{before} writes");
    world.run_for(secs(3600));
    assert_eq!(world.writes().len(), before, "nothing changed, so nothing is written");
}

#[test]
fn a_person_is_answered_when_it_is_stored() {
    let mut world = stored(Vec::new(), None);
    world.run_for(secs(60));
    let replies = world.ask(DOWN);
    assert_eq!(replies, [r#"{"ok":true,"message":"web is forced down until `app web auto`"}"#]);
    let write = world.place(|action| matches!(action, Action::Persist { .. }));
    assert!(write < world.place(|action| matches!(action, Action::Reply { .. })));
}

#[test]
fn a_full_disk_is_said_once_shown_and_tried_again() {
    let mut world = stored(Vec::new(), None);
    world.run_for(secs(60));
    let full = "/var/lib/picored/state.json: no space left on device";
    world.persists = Some(Err(full.into()));
    let replies = world.ask(DOWN);
    assert!(replies[0].contains("in memory only") && replies[0].contains("no space left"), "{replies:?}");
    let mut logged = world.logged("event=state-not-stored");
    world.done.clear();
    world.run_for(secs(300));
    logged += world.logged("event=state-not-stored");
    assert_eq!((logged, world.writes().len()), (1, 10), "every 30 s, and said once");
    let status = world.status();
    assert_eq!(status.code.max(1), status.code);
    assert!(status.problems.iter().any(|text| text.contains("not stored")), "{:?}", status.problems);
    world.persists = Some(Ok(()));
    world.done.clear();
    world.run_for(secs(31));
    assert_eq!((world.logged("event=state-stored"), world.writes().len()), (1, 1));
    assert!(!world.status().problems.iter().any(|text| text.contains("not stored")));
}

#[test]
fn it_is_written_before_a_run_begins() {
    let mut world = stored(vec![mail()], None);
    world.run_for(secs(60));
    world.done.clear();
    world.ask(DOWN);
    world.run_for(secs(1));
    let run = world.place(|action| matches!(action, Action::Run { .. }));
    let write = world.place(|action| matches!(action, Action::Persist { .. }));
    assert!(write < run, "{:?}", world.done);
}

#[test]
fn what_is_written_before_a_run_of_one_says_that_it_runs() {
    let mut world = stored(vec![web()], None);
    world.runs_hang = true;
    world.run_for(secs(60));
    let run = world.place(|action| matches!(action, Action::Run { .. }));
    world.done.truncate(run);
    let written = world.writes();
    let last = written.last().expect("something was written");
    assert!(last.contains(r#""r:1:?""#), "{last}");
}

#[test]
fn a_restart_waits_for_the_run_answers_and_stores_before_it_begins() {
    let mut world = stored(vec![mail()], None);
    world.run_for(secs(60));
    world.runs_hang = true;
    world.ask(DOWN);
    world.run_for(secs(1));
    let id = world.done.iter().find_map(|action| match action {
        Action::Run { id, .. } => Some(*id),
        _ => None,
    });
    let replies = world.ask(r#"{"cmd":"restart"}"#);
    assert!(replies.len() == 1 && replies[0].contains("restarting; waits for the handler"), "{replies:?}");
    world.run_for(secs(5));
    let is_restart = |action: &Action| *action == Action::Restart;
    assert!(!world.done.iter().any(is_restart), "the run is not over");
    world.done.clear();
    world.agent.handle_exit(world.now, id.expect("it runs"), Exit::Code(0), b"");
    world.drain();
    let restart = world.place(is_restart);
    // Not its last line: the connection closes with the process.
    let is_end = |line: &str| line.contains(r#":"restarts"}"#);
    let told = |action: &Action| matches!(action, Action::Reply { line, last: false, .. } if is_end(line));
    assert!(world.place(told) < restart);
    assert_eq!(restart + 1, world.done.len(), "nothing comes after it: {:?}", world.done);
    let mut again = stored(vec![mail()], None);
    again.agent.restart(again.now);
    again.drain();
    assert_eq!(again.done.last(), Some(&Action::Restart));
}

#[test]
fn who_says_stop_while_it_restarts_wants_it_gone() {
    let mut world = stored(vec![mail()], None);
    world.run_for(secs(60));
    world.runs_hang = true;
    world.ask(DOWN);
    world.run_for(secs(1));
    world.ask(r#"{"cmd":"restart"}"#);
    world.done.clear();
    world.agent.stop(world.now);
    world.run_for(secs(60));
    world.agent.handle_exit(world.now, 1, Exit::Code(0), b"");
    world.drain();
    assert!(world.done.contains(&Action::Exit { code: 0 }) && !world.done.contains(&Action::Restart));
}

#[test]
fn who_ends_already_does_not_restart_and_says_so() {
    let restart = r#"{"cmd":"restart"}"#;
    let with_run = || {
        let mut world = stored(vec![mail()], None);
        world.run_for(secs(60));
        world.runs_hang = true;
        world.ask(DOWN);
        world.run_for(secs(1));
        world
    };
    for (end, what) in [(r#"{"cmd":"stop"}"#, "stopping"), (r#"{"cmd":"leave"}"#, "leaving")] {
        let mut world = with_run();
        world.ask(end);
        let refused = world.ask(restart);
        let said = format!(r#"{{"error":"it is {what} already"#);
        assert!(refused.len() == 1 && refused[0].starts_with(&said), "{refused:?}");
    }
    let mut world = with_run();
    for _ in 0..2 {
        assert!(world.ask(restart)[0].contains("restarting; waits"), "a second one waits with the first");
    }
}

#[test]
fn the_last_state_is_stored_before_the_end() {
    let mut world = stored(Vec::new(), None);
    world.run_for(secs(2));
    world.done.clear();
    world.agent.stop(world.now);
    world.drain();
    assert_eq!(world.writes().len(), 1, "the verdict since the start is not stored yet");
    assert_eq!(world.done.last(), Some(&Action::Exit { code: 0 }));
}

#[test]
fn what_was_another_nodes_own_is_not_taken_up() {
    let mut world = stored(Vec::new(), None);
    world.run_for(secs(60));
    let saved = world.last_saved();
    assert!(saved.membership.incarnation > 1);
    let again = stored(Vec::new(), Some(saved.clone()));
    let incarnation = |world: &World| world.last_saved().membership.incarnation;
    assert!(incarnation(&again) > saved.membership.incarnation);
    let renamed = Saved { node: "par1".into(), ..saved.clone() };
    assert!(incarnation(&stored(Vec::new(), Some(renamed))) < saved.membership.incarnation);
}

#[test]
fn a_date_that_jumps_is_taken_up_in_the_file() {
    let mut world = stored(Vec::new(), None);
    world.run_for(secs(60));
    for shift in [secs(2 * 86_400), Duration::ZERO] {
        world.agent.handle_wall_clock(world.now, UNIX - secs(86_400) + shift);
        world.run_for(secs(10));
        assert_eq!(world.status().problems, Vec::<String>::new());
    }
}

#[test]
fn what_cannot_be_read_is_told_in_words() {
    let said = |text: &str| Saved::parse(text).expect_err(text);
    assert_eq!(said(""), "it is empty");
    assert_eq!(said("\0\0"), "it is empty");
    assert!(said("{\"v\": 1, \"no").starts_with("it is damaged: "));
    assert!(said("{\"v\": 2}").starts_with("it has the format 2, and this picored"));
    assert!(
        Saved::parse("{\"v\": 1, \"node\": \"a\", \"later\": {}}").is_ok(),
        "parts may be missing or new"
    );
}
