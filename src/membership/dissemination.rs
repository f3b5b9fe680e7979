//! News on their way: each is sent a limited number of times, with whatever packet goes out
//! (SWIM, section 4.1; memberlist's TransmitLimitedQueue; protocol page, 7.9).

use core::cmp::Reverse;

use crate::limits::BROADCASTS_MAX;

/// One piece of news, encoded once.
#[derive(Debug)]
struct Broadcast {
    /// What it is about; newer news of the same subject replaces it.
    subject: Box<str>,
    bytes: Box<[u8]>,
    sent: u32,
    /// Order of arrival.
    id: u64,
}

/// The queue. Kept in the order of sending: fewest transmissions, then longest, then newest.
#[derive(Debug)]
pub struct Broadcasts {
    queue: Vec<Broadcast>,
    next_id: u64,
    max: usize,
}

impl Default for Broadcasts {
    fn default() -> Self {
        Self::with_max(BROADCASTS_MAX)
    }
}

impl Broadcasts {
    /// A queue of at most `max` pieces.
    pub fn with_max(max: usize) -> Self {
        Self { queue: Vec::new(), next_id: 0, max }
    }

    /// Queues `bytes` about `subject`, in place of what waited about it. A full queue drops its most sent piece.
    pub fn push(&mut self, subject: &str, bytes: &[u8]) {
        self.queue.retain(|b| *b.subject != *subject);
        if self.queue.len() >= self.max {
            self.queue.pop();
        }
        self.next_id += 1;
        let new = Broadcast { subject: subject.into(), bytes: bytes.into(), sent: 0, id: self.next_id };
        let at = self.queue.partition_point(|b| order(b) < order(&new));
        self.queue.insert(at, new);
    }

    /// Offers each piece in order to `put`, which says whether it had room for it. A piece that was sent
    /// `limit` times is dropped.
    pub fn take(&mut self, limit: u32, mut put: impl FnMut(&[u8]) -> bool) {
        let mut any = false;
        for broadcast in &mut self.queue {
            if put(&broadcast.bytes) {
                broadcast.sent += 1;
                any = true;
            }
        }
        if any {
            self.queue.retain(|b| b.sent < limit);
            if self.queue.len() < self.queue.capacity() / 4 {
                self.queue.shrink_to(2 * self.queue.len()); // many at once, after a join, are rare
            }
            self.queue.sort_unstable_by_key(order);
        }
    }

    /// Whether news of `subject` still waits.
    pub fn has(&self, subject: &str) -> bool {
        self.queue.iter().any(|b| *b.subject == *subject)
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

fn order(b: &Broadcast) -> (u32, Reverse<usize>, Reverse<u64>) {
    (b.sent, Reverse(b.bytes.len()), Reverse(b.id))
}

/// How often each piece is sent: `mult * ceil(log10(members + 1))`.
pub fn retransmit_limit(mult: u32, members: usize) -> u32 {
    mult * ((members + 1) as f64).log10().ceil() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_limit_is_the_librarys() {
        let tables: Value =
            serde_json::from_str(include_str!("../../tests/vectors/tables.json")).expect("vector is JSON");
        for row in tables["retransmit_limit"].as_array().expect("a list") {
            let n = row["n"].as_u64().expect("a number") as usize;
            for mult in 1..=5u32 {
                let expected = row[format!("mult_{mult}")].as_u64().expect("a number");
                assert_eq!(u64::from(retransmit_limit(mult, n)), expected, "mult {mult}, n {n}");
            }
        }
    }

    /// Goal: order, budget, replacement and limit are those of the real library.
    /// Method: replay its recorded operations; a message's bytes are its id, padded to its length.
    #[test]
    fn the_queue_behaves_like_the_librarys() {
        let file: Value = serde_json::from_str(include_str!("../../tests/vectors/broadcast_queue.json"))
            .expect("vector is JSON");
        for case in file["cases"].as_array().expect("a list") {
            let limit = case["limit"].as_u64().expect("a number") as u32;
            let mut queue = Broadcasts::default();
            for step in case["steps"].as_array().expect("a list") {
                let op = &step["op"];
                let number = |key: &str| op[key].as_u64().expect("a number") as usize;
                if op["get"].as_bool() == Some(true) {
                    let sent = get(&mut queue, limit, number("overhead"), number("limit"));
                    let expected: Vec<String> =
                        serde_json::from_value(step["sent"].clone()).expect("a list of ids");
                    assert_eq!(sent, expected, "{} {op}", case["name"]);
                } else {
                    let id = op["id"].as_str().expect("an id");
                    let mut bytes = id.as_bytes().to_vec();
                    bytes.resize(number("len"), b' ');
                    queue.push(op["queue"].as_str().expect("a name"), &bytes);
                }
                assert_eq!(queue.queue.len() as u64, step["queued_after"].as_u64().expect("a number"));
            }
        }
    }

    fn get(queue: &mut Broadcasts, limit: u32, overhead: usize, budget: usize) -> Vec<String> {
        let (mut used, mut sent) = (0, Vec::new());
        queue.take(limit, |bytes| {
            let fits = used + overhead + bytes.len() <= budget;
            if fits {
                used += overhead + bytes.len();
                sent.push(String::from_utf8_lossy(bytes).trim_end().to_owned());
            }
            fits
        });
        sent
    }

    #[test]
    fn a_full_queue_stays_at_its_limit() {
        let mut queue = Broadcasts::default();
        for i in 0..BROADCASTS_MAX + 10 {
            queue.push(&i.to_string(), b"x");
        }
        assert_eq!(queue.queue.len(), BROADCASTS_MAX);
    }
}
