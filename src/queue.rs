//! What waits to be handed out.

use std::collections::VecDeque;

/// An empty queue keeps room for this many.
const KEPT: usize = 32;

/// The first of `queue`. When a burst is over, the memory that it took is given back.
pub fn pop<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if queue.is_empty() && queue.capacity() > KEPT {
        *queue = VecDeque::new();
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_leaves_no_room_behind() {
        let mut queue: VecDeque<usize> = (0..1_000).collect();
        assert!((0..1_000).all(|n| pop(&mut queue) == Some(n)));
        assert!(queue.capacity() <= KEPT);
        queue.push_back(7);
        let before = queue.capacity();
        assert_eq!((pop(&mut queue), pop(&mut queue)), (Some(7), None));
        assert_eq!(queue.capacity(), before, "what is small stays: it is wanted again at once");
    }
}
