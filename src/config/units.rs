//! Durations, sizes, names that are near: small readings of strings.

use core::time::Duration;

const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];
const SIZE_UNITS: [(&str, u64); 6] =
    [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000), ("B", 1)];

pub use crate::control::text::{nearest, parse_duration as duration};

/// `1MiB`, `64KiB`, or bytes.
pub fn size(text: &str) -> Option<u64> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match SIZE_UNITS.iter().find(|(name, _)| *name == unit) {
        Some((_, factor)) => *factor,
        None if unit.is_empty() => 1,
        None => return None,
    };
    whole(number)?.checked_mul(factor)
}

/// `50%`: 1 to 100.
pub fn percent(text: &str) -> Option<u8> {
    let number = whole(text.strip_suffix('%')?)?;
    u8::try_from(number).ok().filter(|n| (1..=100).contains(n))
}

/// Digits alone: no sign, no point, no exponent.
pub fn whole(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// The inverse of [`duration`], in the greatest unit that says it exactly (for people who want to know about
/// how long, there is `control::text::duration`).
pub fn show_duration(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if millis == 0 {
        return "0s".into();
    }
    let exact = DURATION_UNITS.iter().rev().find(|(_, factor)| millis % factor == 0);
    exact.map_or_else(|| format!("{millis}ms"), |(unit, factor)| format!("{}{unit}", millis / factor))
}

/// The inverse of [`size`].
pub fn show_size(bytes: u64) -> String {
    let exact = SIZE_UNITS[..3].iter().rev().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    exact.map_or_else(|| bytes.to_string(), |(unit, factor)| format!("{}{unit}", bytes / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_and_shown() {
        let table =
            [("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("24h", 86_400_000), ("1500ms", 1_500)];
        for (text, millis) in table {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)), "{text}");
            assert_eq!(show_duration(Duration::from_millis(millis)), text);
        }
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("15"), Some(Duration::from_secs(15)));
        for wrong in
            ["", "s", "-1s", "1.5s", "10 s", "10S", "1e3", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        assert_eq!((size("1MiB"), size("64KiB"), size("512")), (Some(1 << 20), Some(65_536), Some(512)));
        assert_eq!((size("1mib"), size("MiB")), (None, None));
        assert_eq!((show_size(1 << 20), show_size(1_000)), ("1MiB".into(), "1000".into()));
        assert_eq!(
            (percent("50%"), percent("0%"), percent("101%"), percent("50")),
            (Some(50), None, None, None)
        );
    }

    #[test]
    fn the_nearest_name_is_near() {
        let names = ["interval", "timeout", "rise", "fall"];
        let near = |wrong| nearest(wrong, names.into_iter());
        assert_eq!(near("inteval"), Some("interval"));
        assert_eq!(near("tiemout"), Some("timeout"));
        assert_eq!(near("Interval"), Some("interval"));
        assert_eq!(near("fal"), Some("fall"));
        assert_eq!(near("colour"), None);
        assert_eq!(near(""), None);
        assert_eq!(near(&"x".repeat(1_000)), None);
    }
}
