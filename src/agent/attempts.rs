//! Which attempt belongs to which check.

use crate::agent::AttemptId;

struct Entry {
    id: AttemptId,
    app: usize,
    check: usize,
    /// A child: it is answered even if it was aborted. A connection is not.
    is_child: bool,
}

/// The attempts under way: one per check at most, so the configuration bounds them.
#[derive(Default)]
pub struct Attempts {
    entries: Vec<Entry>,
    last: AttemptId,
}

impl Attempts {
    /// A new one, for check number `check` of app number `app`.
    pub fn start(&mut self, app: usize, check: usize, is_child: bool) -> AttemptId {
        self.last = self.last.wrapping_add(1);
        self.entries.push(Entry { id: self.last, app, check, is_child });
        self.last
    }

    /// It was answered: whose it was, if it is known.
    pub fn end(&mut self, id: AttemptId) -> Option<(usize, usize)> {
        let index = self.entries.iter().position(|entry| entry.id == id)?;
        let entry = self.entries.swap_remove(index);
        Some((entry.app, entry.check))
    }

    /// The one that is given up, and whether it will still be answered.
    pub fn abort(&mut self, app: usize, check: usize) -> Option<(AttemptId, bool)> {
        let index = self.position(app, check)?;
        let (id, is_child) = self.entries.get(index).map(|entry| (entry.id, entry.is_child))?;
        if !is_child {
            self.entries.swap_remove(index);
        }
        Some((id, is_child))
    }

    /// The one that is killed.
    pub fn find(&self, app: usize, check: usize) -> Option<AttemptId> {
        self.position(app, check).and_then(|index| self.entries.get(index)).map(|entry| entry.id)
    }

    fn position(&self, app: usize, check: usize) -> Option<usize> {
        self.entries.iter().position(|entry| (entry.app, entry.check) == (app, check))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_finds_its_check_once() {
        let mut attempts = Attempts::default();
        let (a, b) = (attempts.start(0, 1, false), attempts.start(2, 0, false));
        assert_eq!(attempts.end(b), Some((2, 0)));
        assert_eq!(attempts.end(b), None);
        assert_eq!(attempts.end(a), Some((0, 1)));
    }

    #[test]
    fn an_aborted_connection_is_forgotten_and_an_aborted_child_waited_for() {
        let mut attempts = Attempts::default();
        let (connection, child) = (attempts.start(0, 0, false), attempts.start(0, 1, true));
        assert_eq!(attempts.abort(0, 0), Some((connection, false)));
        assert_eq!(attempts.end(connection), None);
        assert_eq!(attempts.abort(0, 1), Some((child, true)));
        assert_eq!(attempts.find(0, 1), Some(child));
        assert_eq!(attempts.end(child), Some((0, 1)));
    }
}
