//! Tokens, and the one table of everything that has a descriptor and comes and goes.

use mio::Token;

use super::attempts::Attempt;
use super::children::Child;
use super::control::Client;
use super::streams::Stream;
use crate::limits::{ATTEMPTS_MAX, CHILDREN_MAX, CLIENTS_MAX, STREAMS_MAX};

/// The datagram socket.
pub const UDP: Token = Token(0);
/// The listener for streams.
pub const LISTENER: Token = Token(1);
/// The listener of the control socket.
pub const CONTROL: Token = Token(2);
/// Signals, as a readable pipe.
pub const SIGNALS: Token = Token(3);
/// `Token(FIRST + n)` is slot `n`.
const FIRST: usize = 8;

/// Everything at once.
pub const SLOTS_MAX: usize = STREAMS_MAX + ATTEMPTS_MAX + CLIENTS_MAX + CHILDREN_MAX;

/// What a slot holds. A child has one even without pipes.
pub enum Slot {
    Stream(Stream),
    Attempt(Attempt),
    Client(Client),
    Child(Box<Child>),
}

/// A table of at most [`SLOTS_MAX`] entries. An entry that is closed leaves its number unused until
/// [`Slots::release_closed`], so that an event already fetched cannot reach a newcomer.
#[derive(Default)]
pub struct Slots {
    slots: Vec<Entry>,
}

#[derive(Default)]
enum Entry {
    #[default]
    Free,
    Closed,
    Used(Slot),
}

/// The token of slot `index`.
pub fn token(index: usize) -> Token {
    Token(FIRST + index)
}

/// The slot that a token stands for; `None` for the fixed ones.
pub fn index(token: Token) -> Option<usize> {
    token.0.checked_sub(FIRST)
}

impl Slots {
    /// A number for a newcomer. `None`: the table is full.
    pub fn vacant(&mut self) -> Option<usize> {
        if let Some(free) = self.slots.iter().position(|entry| matches!(entry, Entry::Free)) {
            return Some(free);
        }
        if self.slots.len() >= SLOTS_MAX {
            return None;
        }
        self.slots.push(Entry::Free);
        Some(self.slots.len() - 1)
    }

    /// Puts `slot` where [`Slots::vacant`] said.
    pub fn put(&mut self, index: usize, slot: Slot) {
        if let Some(entry) = self.slots.get_mut(index) {
            *entry = Entry::Used(slot);
        }
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut Slot> {
        match self.slots.get_mut(index)? {
            Entry::Used(slot) => Some(slot),
            _ => None,
        }
    }

    /// Takes it out; its descriptor closes when the caller drops it.
    pub fn close(&mut self, index: usize) -> Option<Slot> {
        let entry = self.slots.get_mut(index)?;
        if !matches!(entry, Entry::Used(_)) {
            return None;
        }
        match core::mem::replace(entry, Entry::Closed) {
            Entry::Used(slot) => Some(slot),
            _ => None,
        }
    }

    /// At the end of a turn: the numbers of closed entries can be used again.
    pub fn release_closed(&mut self) {
        for entry in &mut self.slots {
            if matches!(entry, Entry::Closed) {
                *entry = Entry::Free;
            }
        }
        while matches!(self.slots.last(), Some(Entry::Free)) {
            self.slots.pop();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &Slot)> {
        self.slots.iter().enumerate().filter_map(|(index, entry)| match entry {
            Entry::Used(slot) => Some((index, slot)),
            _ => None,
        })
    }

    /// The first slot that `is` says is wanted.
    pub fn find(&self, is: impl Fn(&Slot) -> bool) -> Option<usize> {
        self.iter().find(|(_, slot)| is(slot)).map(|(index, _)| index)
    }

    pub fn count(&self, is: impl Fn(&Slot) -> bool) -> usize {
        self.iter().filter(|(_, slot)| is(slot)).count()
    }

    /// Closes all but the clients.
    pub fn into_clients(self) -> Vec<Client> {
        let client = |entry| match entry {
            Entry::Used(Slot::Client(client)) => Some(client),
            _ => None,
        };
        self.slots.into_iter().filter_map(client).collect()
    }

    /// One past the last number in use.
    pub fn end(&self) -> usize {
        self.slots.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(id: u32) -> Slot {
        let (socket, _) = mio::net::UnixStream::pair().expect("a socket pair");
        Slot::Client(Client::new(id, socket))
    }

    #[test]
    fn a_closed_slot_is_not_given_away_before_the_turn_ends() {
        let mut slots = Slots::default();
        let first = slots.vacant().unwrap();
        slots.put(first, client(1));
        assert!(slots.close(first).is_some());
        assert!(slots.close(first).is_none() && slots.get_mut(first).is_none());
        assert_ne!(slots.vacant(), Some(first));
        slots.release_closed();
        assert_eq!(slots.vacant(), Some(first));
    }

    #[test]
    fn the_table_ends_at_its_limit() {
        let mut slots = Slots::default();
        for n in 0..SLOTS_MAX {
            let index = slots.vacant().unwrap();
            slots.slots[index] = Entry::Closed;
            assert_eq!(index, n);
        }
        assert_eq!(slots.vacant(), None);
    }

    #[test]
    fn fixed_tokens_are_no_slots() {
        assert_eq!(index(SIGNALS), None);
        assert_eq!(index(token(3)), Some(3));
    }
}
