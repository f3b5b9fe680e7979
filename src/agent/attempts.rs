//! Which attempt belongs to whom: a check of an own app, or a try of the gates.

use crate::agent::AttemptId;
use crate::safety::verify::TryId;

/// Who wants to know how an attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Check number `check` of app number `app`.
    Check { app: usize, check: usize },
    /// A witness, or the public endpoint of a failed node.
    Try(TryId),
}

struct Entry {
    id: AttemptId,
    owner: Owner,
    /// A child: it is answered even if it was aborted. A connection is not.
    is_child: bool,
}

/// The attempts under way: one per check, and [`crate::limits::VERIFY_TRIES_MAX`] at most.
#[derive(Default)]
pub struct Attempts {
    entries: Vec<Entry>,
    last: AttemptId,
}

impl Attempts {
    /// A new one.
    pub fn start(&mut self, owner: Owner, is_child: bool) -> AttemptId {
        self.last = self.last.wrapping_add(1);
        self.entries.push(Entry { id: self.last, owner, is_child });
        self.last
    }

    /// It was answered: whose it was, if it is known.
    pub fn end(&mut self, id: AttemptId) -> Option<Owner> {
        let index = self.entries.iter().position(|entry| entry.id == id)?;
        Some(self.entries.swap_remove(index).owner)
    }

    /// The one that is given up, and whether it will still be answered.
    pub fn abort(&mut self, owner: Owner) -> Option<(AttemptId, bool)> {
        let index = self.position(owner)?;
        let (id, is_child) = self.entries.get(index).map(|entry| (entry.id, entry.is_child))?;
        if !is_child {
            self.entries.swap_remove(index);
        }
        Some((id, is_child))
    }

    /// The one that is killed.
    pub fn find(&self, owner: Owner) -> Option<AttemptId> {
        self.position(owner).and_then(|index| self.entries.get(index)).map(|entry| entry.id)
    }

    fn position(&self, owner: Owner) -> Option<usize> {
        self.entries.iter().position(|entry| entry.owner == owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(app: usize, check: usize) -> Owner {
        Owner::Check { app, check }
    }

    #[test]
    fn an_answer_finds_its_owner_once() {
        let mut attempts = Attempts::default();
        let (a, b) = (attempts.start(check(0, 1), false), attempts.start(Owner::Try(1), false));
        assert_eq!(attempts.end(b), Some(Owner::Try(1)));
        assert_eq!(attempts.end(b), None);
        assert_eq!(attempts.end(a), Some(check(0, 1)));
    }

    #[test]
    fn an_aborted_connection_is_forgotten_and_an_aborted_child_waited_for() {
        let mut attempts = Attempts::default();
        let (connection, child) = (attempts.start(check(0, 0), false), attempts.start(check(0, 1), true));
        assert_eq!(attempts.abort(check(0, 0)), Some((connection, false)));
        assert_eq!(attempts.end(connection), None);
        assert_eq!(attempts.abort(check(0, 1)), Some((child, true)));
        assert_eq!(attempts.find(check(0, 1)), Some(child));
        assert_eq!(attempts.end(child), Some(check(0, 1)));
    }
}
