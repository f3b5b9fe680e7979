//! How long a suspect member has to refute: the timeout that shrinks as others confirm
//! (Lifeguard, LHA-Suspicion; protocol page, 7.5.1).

use core::time::Duration;

use crate::time::Instant;

/// Accusers remembered: the first, and the confirmations that count. `suspicion_mult` is small.
const ACCUSERS_MAX: usize = 16;

/// One running suspicion.
#[derive(Clone, Debug)]
pub struct Suspicion {
    started: Instant,
    min: Duration,
    max: Duration,
    /// Confirmations that shorten the timeout.
    wanted: u32,
    /// Who accused, the first one included.
    accusers: Vec<Box<str>>,
    deadline: Instant,
}

impl Suspicion {
    /// Starts a suspicion, first raised by `from`. `members` is the table's size, oneself included.
    pub fn new(now: Instant, from: &str, members: usize, mult: u32, probe_interval: Duration) -> Self {
        let min = timeout_min(mult, members, probe_interval);
        let mut wanted = mult.saturating_sub(2);
        // With fewer than that many others there is nobody to wait for.
        if members.saturating_sub(2) < wanted as usize {
            wanted = 0;
        }
        let max = timeout_max(mult, members, probe_interval);
        let timeout = if wanted == 0 { min } else { max };
        Self { started: now, min, max, wanted, accusers: vec![from.into()], deadline: now + timeout }
    }

    /// `from` accuses, too. True if that is news worth passing on.
    pub fn confirm(&mut self, from: &str) -> bool {
        let confirmations = self.confirmations();
        if confirmations >= self.wanted
            || self.accusers.len() >= ACCUSERS_MAX
            || self.accusers.iter().any(|known| **known == *from)
        {
            return false;
        }
        self.accusers.push(from.into());
        let timeout = timeout_after(confirmations + 1, self.wanted, self.min, self.max);
        self.deadline = self.started + timeout;
        true
    }

    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Time passed in which this node was not running: it does not count against the suspect.
    pub fn postpone(&mut self, gap: Duration) {
        self.started += gap;
        self.deadline += gap;
    }

    /// Confirmations that counted; the first accuser is none.
    pub fn confirmations(&self) -> u32 {
        (self.accusers.len() as u32).saturating_sub(1)
    }

    #[cfg(test)]
    pub fn wanted(&self) -> u32 {
        self.wanted
    }
}

/// memberlist's `SuspicionMaxTimeoutMult`, the same in all its profiles.
const TIMEOUT_MAX_MULT: u32 = 6;

/// The timeout while confirmations are wanted and none came: the longest of a cluster of `members`.
pub fn timeout_max(mult: u32, members: usize, probe_interval: Duration) -> Duration {
    timeout_min(mult, members, probe_interval) * TIMEOUT_MAX_MULT
}

/// The timeout when all wanted confirmations came, or none is wanted.
fn timeout_min(mult: u32, members: usize, probe_interval: Duration) -> Duration {
    let scale = (members.max(1) as f64).log10().max(1.0);
    // memberlist util.go, suspicionTimeout: truncated to thousandths before multiplying.
    let thousandths = (scale * 1000.0) as u32;
    probe_interval * mult * thousandths / 1000
}

/// memberlist suspicion.go, remainingSuspicionTime: logarithmic between `max` and `min`.
fn timeout_after(confirmations: u32, wanted: u32, min: Duration, max: Duration) -> Duration {
    if confirmations == 0 || wanted == 0 {
        return if wanted == 0 { min } else { max };
    }
    let part = (f64::from(confirmations) + 1.0).ln() / (f64::from(wanted) + 1.0).ln();
    let secs = max.as_secs_f64() - part * (max.as_secs_f64() - min.as_secs_f64());
    Duration::from_millis((secs * 1000.0).floor().max(0.0) as u64).max(min)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tables() -> serde_json::Value {
        serde_json::from_str(include_str!("../../tests/vectors/tables.json")).expect("vector is JSON")
    }

    fn nanos(value: &serde_json::Value) -> Duration {
        Duration::from_nanos(value.as_u64().expect("nanoseconds"))
    }

    #[test]
    fn the_shortest_timeout_is_the_librarys() {
        let tables = tables();
        for row in tables["suspicion_timeout_min"].as_array().expect("a list") {
            let n = row["n"].as_u64().expect("a number") as usize;
            assert_eq!(timeout_min(4, n, Duration::from_secs(1)), nanos(&row["lan_mult4_1s_ns"]), "n {n}");
            assert_eq!(timeout_min(6, n, Duration::from_secs(5)), nanos(&row["wan_mult6_5s_ns"]), "n {n}");
            assert_eq!(timeout_min(3, n, Duration::from_secs(1)), nanos(&row["local_mult3_1s_ns"]), "n {n}");
        }
    }

    #[test]
    fn the_remaining_time_is_the_librarys() {
        let tables = tables();
        let rows = tables["suspicion_remaining"].as_array().expect("a list");
        assert!(rows.len() > 40);
        for row in rows {
            let number = |key: &str| row[key].as_i64().expect("a number");
            let (min, max) = (nanos(&row["min_ns"]), nanos(&row["max_ns"]));
            let timeout = timeout_after(number("confirmations") as u32, number("k") as u32, min, max);
            let remaining = timeout.as_nanos() as i64 - number("elapsed_ns");
            assert_eq!(remaining, number("remaining_ns"), "{row}");
        }
    }

    #[test]
    fn the_same_accuser_twice_is_no_confirmation() {
        let mut suspicion = Suspicion::new(Instant::ZERO, "a", 7, 4, Duration::from_secs(1));
        let first = suspicion.deadline();
        assert!(!suspicion.confirm("a"));
        assert_eq!(suspicion.deadline(), first);
        assert!(suspicion.confirm("b"));
        assert!(suspicion.deadline() < first);
        assert!(suspicion.confirm("c"));
        assert_eq!(suspicion.deadline(), Instant::ZERO + Duration::from_secs(4));
        assert!(!suspicion.confirm("d"), "two confirmations are all that is wanted");
    }

    #[test]
    fn three_members_wait_for_nobodys_confirmation() {
        let suspicion = Suspicion::new(Instant::ZERO, "a", 3, 4, Duration::from_secs(1));
        assert_eq!(suspicion.deadline(), Instant::ZERO + Duration::from_secs(4));
    }
}
