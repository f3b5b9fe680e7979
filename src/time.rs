//! The core's idea of time: a point on a clock that somebody else reads.

use core::fmt;
use core::num::NonZeroU64;
use core::ops::{Add, AddAssign, Sub};
use core::time::Duration;

/// Microseconds on the driver's clock (`CLOCK_BOOTTIME`, from [`Instant::BOOT`] on), or on the simulator's.
///
/// It never goes back, goes on while the machine is suspended, and says nothing of the date. Held one greater, so that
/// one that may be missing needs no more room: members have many of these.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(NonZeroU64);

impl Instant {
    /// The first moment there is; tests count from it.
    pub const ZERO: Self = Self::from_micros(0);

    /// Where the driver's clock stands when the machine starts. Eleven years can lie before it, so that what is known
    /// from before keeps its age.
    pub const BOOT: Self = Self::from_micros(11 * 366 * 86_400 * 1_000_000);

    /// `micros` microseconds after [`Instant::ZERO`].
    pub const fn from_micros(micros: u64) -> Self {
        Self(NonZeroU64::MIN.saturating_add(micros))
    }

    /// Microseconds since [`Instant::ZERO`].
    pub const fn as_micros(self) -> u64 {
        self.0.get() - 1
    }

    /// How long after `earlier` this is; zero if it is not after it.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Default for Instant {
    fn default() -> Self {
        Self::ZERO
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        let micros = u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX);
        Self::from_micros(self.as_micros().saturating_sub(micros))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}", self.as_micros() / 1_000_000, self.as_micros() % 1_000_000)
    }
}

/// What the date was at one moment, so that others can be said as dates, and dates as moments. The date may be set
/// anew, so of what is read from a file it says only how old that is.
#[derive(Clone, Copy, Debug)]
pub struct Date {
    now: Instant,
    /// In whole microseconds, as moments are: there and back gives the same.
    unix: Duration,
}

impl Date {
    /// It is `unix` since 1970 at `now`.
    pub const fn new(now: Instant, unix: Duration) -> Self {
        let unix = Duration::new(unix.as_secs(), unix.subsec_micros() * 1_000);
        Self { now, unix }
    }
    /// Since 1970. The same moment gives the same date, whenever it is asked.
    pub const fn unix(self, at: Instant) -> Duration {
        let later = self.unix.saturating_add(at.since(self.now));
        later.saturating_sub(self.now.since(at))
    }
    /// So many seconds since 1970, now if that is still to come: nothing is put into the future.
    pub fn past(self, unix_secs: u64) -> Instant {
        self.now - self.unix.saturating_sub(Duration::from_secs(unix_secs))
    }
    /// How long it is until so many seconds since 1970; zero if that is over.
    pub const fn left(self, unix_secs: u64) -> Duration {
        Duration::from_secs(unix_secs).saturating_sub(self.unix)
    }
}

/// The earliest of several deadlines, if there is any.
pub fn earliest(deadlines: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    deadlines.into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(Instant::ZERO.since(Instant::from_micros(5)), Duration::ZERO);
        let end = Instant::from_micros(u64::MAX);
        assert_eq!(end + Duration::MAX, end);
    }

    #[test]
    fn a_moment_has_one_date() {
        let (zero, past) = (Instant::from_micros(90_000_000), Instant::from_micros(73_400_001));
        let to_come = Instant::from_micros(111_700_003);
        for micros in (0..3_000_000).step_by(333) {
            let step = Duration::from_micros(micros);
            let date = Date::new(zero + step, Duration::new(1_800_000_000, 123_456_789) + step);
            assert_eq!(date.unix(past), Duration::new(1_799_999_983, 523_457_000));
            assert_eq!(date.unix(to_come), Duration::new(1_800_000_021, 823_459_000));
            assert_eq!(date.unix(date.past(1_799_999_990)), Duration::from_secs(1_799_999_990));
            let left = date.left(1_800_000_009);
            assert_eq!(date.unix(zero + step + left), Duration::from_secs(1_800_000_009));
        }
    }

    #[test]
    fn the_earliest_of_no_deadlines_is_none() {
        assert_eq!(earliest([None, None]), None);
        let at = Instant::from_micros;
        assert_eq!(earliest([Some(at(7)), None, Some(at(3))]), Some(at(3)));
    }
}
