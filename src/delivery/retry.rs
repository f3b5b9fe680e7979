//! What the end of a run means for the next one: backoff, standing back, giving up (`interfaces`, 4.4).

use core::time::Duration;

use super::record::State;
use crate::check::attempt::Exit;
use crate::rng::Rng;
use crate::time::Instant;

/// After the first failure; doubles with each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Backoffs are this much longer or shorter, so that nodes do not retry in step.
const BACKOFF_JITTER_PERCENT: u32 = 20;
/// After so many failures in a row the node stands back.
pub const FAILURES_MAX: u32 = 3;
/// For so long, while others act.
const STANDS_BACK: Duration = Duration::from_secs(600);

/// What an exit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    Done,
    /// Also exit 75: later.
    Failed,
    /// Never on this node.
    Never,
}

/// The table of 4.4. A run that had to be timed out failed, whatever it says at its end.
pub fn meaning(exit: &Exit, timed_out: bool) -> Meaning {
    match exit {
        _ if timed_out => Meaning::Failed,
        Exit::Code(0) => Meaning::Done,
        // A program that is not there or not executable is 126 or 127, said by the child that was to become it.
        Exit::Code(77 | 78 | 126 | 127) => Meaning::Never,
        // No child at all: too many, or no memory; of this moment, not of this node.
        Exit::Code(_) | Exit::Signal(_) | Exit::NotStarted(_) => Meaning::Failed,
    }
}

/// How this node has fared with a job.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// In a row.
    pub failures: u32,
    /// Counted on while others run.
    pub retry_at: Option<Instant>,
    pub back_until: Option<Instant>,
    /// Until a reload.
    pub gave_up: bool,
}

impl Standing {
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// What was never to be tried here again may be.
    pub fn forgive(&mut self) {
        if self.gave_up {
            *self = Self::default();
        }
    }

    /// Notes a failure; gives the backoff, `None` if there is no retry.
    pub fn failed(&mut self, now: Instant, meaning: Meaning, rng: &mut Rng) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if meaning == Meaning::Never {
            (self.gave_up, self.retry_at) = (true, None);
            return None;
        }
        // 5 s times 2^6 is beyond the greatest backoff already.
        let doublings = (self.failures - 1).min(6);
        let backoff = rng.jitter((BACKOFF_FIRST * (1 << doublings)).min(BACKOFF_MAX), BACKOFF_JITTER_PERCENT);
        self.retry_at = Some(now + backoff);
        if self.failures >= FAILURES_MAX {
            self.back_until = Some(now + STANDS_BACK);
        }
        Some(backoff)
    }

    /// S of the tag (4.5). `not_able`: nothing can be started here, and for long enough to say so.
    pub fn shown(&self, now: Instant, running: bool, not_able: bool) -> State {
        match () {
            () if running => State::Running,
            () if self.gave_up || not_able => State::NotAble,
            () if self.stands_back(now) => State::StoodBack,
            () => State::Able,
        }
    }

    pub fn stands_back(&self, now: Instant) -> bool {
        self.back_until.is_some_and(|until| now < until)
    }

    /// When something changes by itself.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        self.back_until.filter(|&at| at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exits_mean_what_the_contract_says() {
        assert_eq!(meaning(&Exit::Code(0), false), Meaning::Done);
        for code in [77, 78, 126, 127] {
            assert_eq!(meaning(&Exit::Code(code), false), Meaning::Never);
        }
        assert_eq!(meaning(&Exit::NotStarted("no memory".into()), false), Meaning::Failed);
        for exit in [Exit::Code(75), Exit::Code(1), Exit::Code(255), Exit::Signal(9)] {
            assert_eq!(meaning(&exit, false), Meaning::Failed);
        }
        assert_eq!(meaning(&Exit::Code(0), true), Meaning::Failed, "timed out");
    }

    #[test]
    fn backoffs_double_from_5_s_to_5_min_within_a_fifth() {
        for seed in 0..50 {
            let (mut rng, mut standing) = (Rng::new(seed), Standing::default());
            for expected in [5u64, 10, 20, 40, 80, 160, 300, 300, 300] {
                let backoff = standing.failed(Instant::ZERO, Meaning::Failed, &mut rng).expect("a retry");
                let millis = u64::try_from(backoff.as_millis()).expect("small");
                assert!((expected * 800..=expected * 1200).contains(&millis), "{expected} s: {backoff:?}");
            }
        }
    }

    #[test]
    fn the_third_failure_in_a_row_stands_back_for_10_min_and_a_success_forgives() {
        let (mut rng, mut standing) = (Rng::new(1), Standing::default());
        standing.failed(Instant::ZERO, Meaning::Failed, &mut rng);
        standing.failed(Instant::ZERO, Meaning::Failed, &mut rng);
        assert!(!standing.stands_back(Instant::ZERO));
        standing.failed(Instant::ZERO, Meaning::Failed, &mut rng);
        assert!(standing.stands_back(Instant::ZERO + Duration::from_secs(599)));
        assert!(!standing.stands_back(Instant::ZERO + Duration::from_secs(600)));
        standing.succeeded();
        assert!(!standing.stands_back(Instant::ZERO));
        assert_eq!(standing.failures, 0);
    }
}
