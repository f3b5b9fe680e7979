//! How much later than asked for the loop comes round: a suspended machine, or one that starves us.

use core::time::Duration;

use crate::limits::LATE;
use crate::time::Instant;

/// Gauges, for `status` and the log.
#[derive(Default)]
pub struct Lateness {
    max: Duration,
    /// Of the running minute and of the one before it.
    minutes: [Duration; 2],
    minute: u64,
    count: u64,
    counted_at: Option<Instant>,
}

impl Lateness {
    /// Something happened at `now`, when `deadline` had been asked for. Gives the lateness the first time that it
    /// is beyond [`LATE`]: further inputs of the same moment are no further lateness.
    pub fn note(&mut self, now: Instant, deadline: Option<Instant>) -> Option<Duration> {
        let late = now.since(deadline?);
        if late.is_zero() {
            return None;
        }
        self.turn(now);
        self.max = self.max.max(late);
        self.minutes[0] = self.minutes[0].max(late);
        if late <= LATE || self.counted_at == Some(now) {
            return None;
        }
        self.counted_at = Some(now);
        self.count += 1;
        Some(late)
    }

    fn turn(&mut self, now: Instant) {
        let minute = now.as_micros() / 60_000_000;
        match minute.saturating_sub(self.minute) {
            0 => return,
            1 => self.minutes = [Duration::ZERO, self.minutes[0]],
            _ => self.minutes = [Duration::ZERO; 2],
        }
        self.minute = minute;
    }

    /// The most in the running minute and the one before.
    pub fn recent_max(&mut self, now: Instant) -> Duration {
        self.turn(now);
        self.minutes[0].max(self.minutes[1])
    }
    /// The most since the start.
    pub fn max(&self) -> Duration {
        self.max
    }
    /// How often it was beyond [`LATE`].
    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    #[test]
    fn being_early_or_unasked_is_not_being_late() {
        let mut late = Lateness::default();
        assert_eq!(late.note(at(5_000), None), None);
        assert_eq!(late.note(at(5_000), Some(at(6_000))), None);
        assert_eq!((late.max(), late.count()), (Duration::ZERO, 0));
    }

    #[test]
    fn the_maximum_stays_and_the_recent_one_goes() {
        let mut late = Lateness::default();
        late.note(at(1_300), Some(at(1_000)));
        late.note(at(1_310), Some(at(1_300)));
        assert_eq!(late.recent_max(at(61_000)), Duration::from_millis(300));
        assert_eq!(late.recent_max(at(125_000)), Duration::ZERO);
        assert_eq!(late.max(), Duration::from_millis(300));
    }

    #[test]
    fn one_pause_counts_once_however_many_packets_waited() {
        let mut late = Lateness::default();
        assert_eq!(late.note(at(9_000), Some(at(1_000))), Some(Duration::from_secs(8)));
        assert_eq!(late.note(at(9_000), Some(at(1_000))), None);
        assert_eq!(late.count(), 1);
        assert_eq!(late.note(at(20_000), Some(at(17_999))), Some(Duration::from_millis(2_001)));
        assert_eq!(late.count(), 2);
    }
}
