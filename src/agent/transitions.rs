//! Which changes of the tags `a.APP` are news: transitions of one app on one node.
//!
//! The rule. A node restarts with `unknown`, which is no verdict and never replaces one: `up`, `unknown`, `up` is no
//! transition. A verdict (`up`, `down`, `maint`) is told to event handlers when it differs from the last verdict known
//! here for that instance; or when the instance was known as `unknown` and this node had already settled (gate 1:
//! peers reached, own checks with verdicts), so that it saw the change itself. The first verdict known of an
//! instance that was never seen before, and all that is learned before this node settled, is noted and told to
//! nobody: a restart of this node is no news about apps. So own first verdicts are never told, for they are what
//! settling waits for.

use std::rc::Rc;

use crate::check::AppState;

/// What a tag says, compared with what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// For the log only.
    Learned,
    /// For handlers, too.
    News,
}

struct Known {
    node: Rc<str>,
    app: Rc<str>,
    state: AppState,
}

/// The last verdict known of every instance, sorted by node and app.
#[derive(Default)]
pub struct Transitions(Vec<Known>);

impl Transitions {
    /// The tag of `app` on `node` says `state`. `settled`: this node is past gate 1.
    pub fn learn(&mut self, node: &Rc<str>, app: &str, state: AppState, settled: bool) -> Change {
        let place = self.0.binary_search_by(|known| (&*known.node, &*known.app).cmp(&(&**node, app)));
        let previous = match place {
            Ok(index) => match self.0.get_mut(index) {
                // Unknown is no verdict, and replaces none.
                Some(known) if state != AppState::Unknown => core::mem::replace(&mut known.state, state),
                _ => return Change::Nothing,
            },
            Err(index) => {
                // Most nodes have the same few apps.
                let same = self.0.iter().find(|known| *known.app == *app).map(|known| known.app.clone());
                let app = same.unwrap_or_else(|| app.into());
                self.0.insert(index, Known { node: node.clone(), app, state });
                return if state == AppState::Unknown { Change::Nothing } else { Change::Learned };
            }
        };
        match previous {
            _ if previous == state => Change::Nothing,
            AppState::Unknown if !settled => Change::Learned,
            _ => Change::News,
        }
    }

    /// Of `node` only the apps that it still `has`: it may show ever new ones.
    pub fn keep(&mut self, node: &str, has: impl Fn(&str) -> bool) {
        self.0.retain(|known| *known.node != *node || has(&known.app));
    }

    /// The node is no longer a member.
    pub fn forget(&mut self, node: &str) {
        self.0.retain(|known| *known.node != *node);
    }
}

#[cfg(test)]
mod tests {
    use super::AppState::{Down, Maint, Unknown, Up};
    use super::*;

    fn changes(settled: bool, states: &[AppState]) -> Vec<Change> {
        let mut transitions = Transitions::default();
        states.iter().map(|&state| transitions.learn(&"fra1".into(), "web", state, settled)).collect()
    }

    #[test]
    fn the_first_verdict_ever_seen_is_learned_not_news() {
        assert_eq!(changes(true, &[Up, Up, Down]), [Change::Learned, Change::Nothing, Change::News]);
        assert_eq!(changes(false, &[Down]), [Change::Learned]);
    }

    #[test]
    fn a_restart_in_between_is_no_transition() {
        assert_eq!(changes(true, &[Up, Unknown, Up])[1..], [Change::Nothing, Change::Nothing]);
        assert_eq!(changes(true, &[Up, Unknown, Down])[1..], [Change::Nothing, Change::News]);
    }

    #[test]
    fn the_end_of_unknown_is_news_to_those_who_had_settled() {
        assert_eq!(changes(true, &[Unknown, Up]), [Change::Nothing, Change::News]);
        assert_eq!(changes(false, &[Unknown, Up, Maint]), [Change::Nothing, Change::Learned, Change::News]);
    }

    #[test]
    fn instances_are_kept_apart_and_forgotten_with_their_node() {
        let mut transitions = Transitions::default();
        transitions.learn(&"a".into(), "web", Up, true);
        transitions.learn(&"b".into(), "web", Up, true);
        assert_eq!(transitions.learn(&"a".into(), "db", Down, true), Change::Learned);
        transitions.forget("a");
        assert_eq!(transitions.learn(&"a".into(), "web", Down, true), Change::Learned);
        assert_eq!(transitions.learn(&"b".into(), "web", Down, true), Change::News);
    }

    #[test]
    fn a_node_that_shows_ever_new_apps_does_not_fill_the_memory() {
        let mut transitions = Transitions::default();
        transitions.learn(&"b".into(), "web", Up, true);
        for n in 0..1_000 {
            let app = format!("app{n}");
            transitions.learn(&"a".into(), &app, Up, true);
            transitions.keep("a", |known| known == app);
        }
        assert_eq!(transitions.0.len(), 2);
    }
}
