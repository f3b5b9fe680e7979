//! The clocks: one for deadlines, one for people.

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::time::Instant;

/// `CLOCK_BOOTTIME`: goes on while the machine is suspended, so that a gap shows as lateness.
pub fn now() -> Instant {
    Instant::BOOT + duration(clock_gettime(ClockId::Boottime))
}

/// The date: since 1970, UTC. For people and the log; nothing is decided by it. Asked for by way of the C library, as
/// other programs do it, so that a test can set it for one process.
pub fn unix_now() -> Duration {
    // A date before 1970 is a machine without a clock battery: the epoch will do.
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn duration(time: Timespec) -> Duration {
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(secs, u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_does_not_go_back() {
        let first = now();
        assert!(first >= Instant::BOOT, "{first:?}");
        assert!(now() >= first);
    }
}
