//! Text for people: what others say made harmless, dates, durations.

use core::time::Duration;
use std::borrow::Cow;

/// `text` with everything escaped that a terminal or a log reader could take for more than a letter: control
/// characters, invisible and direction-changing ones, and the backslash, so that nothing can pass for an escape.
///
/// Names, tags and error texts come from other machines: none reaches a log or a terminal without this.
pub fn printable(text: &str) -> Cow<'_, str> {
    if text.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            // `escape_debug` escapes quotes too, which are harmless here.
            '"' | '\'' => out.push(c),
            _ => out.extend(c.escape_debug()),
        }
    }
    Cow::Owned(out)
}

/// Appends ` key=value` in logfmt; the value is quoted where it must be.
pub fn push_field(out: &mut String, key: &str, value: &str) {
    if !out.is_empty() {
        out.push(' ');
    }
    out.push_str(key);
    out.push('=');
    let value = printable(value);
    if !value.is_empty() && !value.contains([' ', '"', '=', ':']) || is_address(&value) {
        out.push_str(&value);
        return;
    }
    out.push('"');
    out.push_str(&value.replace('"', "\\\""));
    out.push('"');
}

/// Addresses with ports and lists of them are full of colons, and easier to read bare.
fn is_address(value: &str) -> bool {
    !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b'.' | b':' | b'[' | b']' | b','))
}

/// At most `max` bytes of `text`, cut between characters.
pub fn cut(text: &str, max: usize) -> &str {
    let mut end = text.len().min(max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A date as RFC 3339 in UTC with milliseconds: `2026-07-14T09:26:53.589Z`. `unix` is since 1970.
pub fn rfc3339(unix: Duration) -> String {
    let secs = unix.as_secs().min(MAX_SECS);
    let (year, month, day) = civil(secs / 86_400);
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    let millis = unix.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The end of the year 9999, the last that RFC 3339 can write.
const MAX_SECS: u64 = 253_402_300_799;

/// Year, month and day of the day that is `days` after 1970-01-01 (H. Hinnant, `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01: years that begin in March end with the leap day
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A duration with its two greatest units: `3m12s`, `2d4h`, `12s`, `350ms`.
pub fn duration(d: Duration) -> String {
    let secs = d.as_secs();
    if secs == 0 && d.subsec_millis() > 0 {
        return format!("{}ms", d.subsec_millis());
    }
    let (great, small) = match secs {
        0..60 => return format!("{secs}s"),
        60..3_600 => ((secs / 60, 'm'), (secs % 60, 's')),
        3_600..86_400 => ((secs / 3_600, 'h'), (secs / 60 % 60, 'm')),
        _ => ((secs / 86_400, 'd'), (secs / 3_600 % 24, 'h')),
    };
    if small.0 == 0 {
        format!("{}{}", great.0, great.1)
    } else {
        format!("{}{}{}{}", great.0, great.1, small.0, small.1)
    }
}

/// Reads a duration as the configuration writes it, `90s`, `5m`, `24h`, `1d` or whole seconds; parts may follow
/// each other as [`duration`] writes them (`1h30m`). `None`: it is none.
pub fn parse_duration(text: &str) -> Option<Duration> {
    if text.starts_with('+') {
        return None; // which `parse` would take
    }
    if let Ok(secs) = text.parse::<u64>() {
        return Some(Duration::from_secs(secs));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let (unit_millis, len) = match rest.as_bytes() {
            [b'm', b's', ..] => (1, 2),
            [b's', ..] => (1_000, 1),
            [b'm', ..] => (60_000, 1),
            [b'h', ..] => (3_600_000, 1),
            [b'd', ..] => (86_400_000, 1),
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(number.checked_mul(unit_millis)?))?;
        rest = rest.get(len..)?;
    }
    (!text.is_empty()).then_some(total)
}

/// The name that was probably meant: at most a third of its letters are wrong.
pub fn nearest<'n>(wrong: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    if wrong.len() > 64 {
        return None;
    }
    let near = names.map(|name| (distance(wrong, name), name)).min_by_key(|(distance, _)| *distance)?;
    let allowed = (near.1.len().max(wrong.len()) / 3).max(1);
    (near.0 <= allowed && near.0 < near.1.len()).then_some(near.1)
}

/// Edit distance where swapping two neighbours is one step (optimal string alignment).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = usize::from(!a[i].eq_ignore_ascii_case(&b[j]));
            let mut best = (last[j] + changed).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                best = best.min(before[j - 1] + 1);
            }
            row.push(best);
        }
        before = core::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_gets_through() {
        assert_eq!(printable("fra1 (ok) \"x\""), "fra1 (ok) \"x\"");
        assert_eq!(printable("a\x1b[2Jb\n"), r"a\u{1b}[2Jb\n");
        assert_eq!(printable("x\u{202e}y\u{200b}z\u{9b}"), r"x\u{202e}y\u{200b}z\u{9b}");
        assert_eq!(printable(r"\n"), r"\\n");
        assert_eq!(printable("zürich"), "zürich");
    }

    #[test]
    fn a_field_is_quoted_where_a_reader_could_be_misled() {
        let mut line = String::new();
        push_field(&mut line, "node", "nyc1");
        push_field(&mut line, "addr", "[2001:db8::1]:7946");
        push_field(&mut line, "why", "it's \"gone\" event=x");
        push_field(&mut line, "none", "");
        assert_eq!(line, r#"node=nyc1 addr=[2001:db8::1]:7946 why="it's \"gone\" event=x" none="""#);
        line.clear();
        push_field(&mut line, "node", "a: b\nevent=forged");
        assert_eq!(line, r#"node="a: b\nevent=forged""#);
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("zürich", 2), "z");
        assert_eq!(cut("zürich", 3), "zü");
        assert_eq!(cut("abc", 9), "abc");
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        let date = |secs| rfc3339(Duration::from_secs(secs));
        assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(951_782_400), "2000-02-29T00:00:00.000Z");
        assert_eq!(date(1_709_251_199), "2024-02-29T23:59:59.000Z");
        assert_eq!(date(4_107_542_400), "2100-03-01T00:00:00.000Z");
        assert_eq!(rfc3339(Duration::from_millis(1_795_395_000_042)), "2026-11-23T00:50:00.042Z");
        assert_eq!(date(u64::MAX), "9999-12-31T23:59:59.000Z");
    }

    #[test]
    fn durations_show_their_two_greatest_units() {
        let cases = [(0, "0s"), (12, "12s"), (60, "1m"), (192, "3m12s"), (7_260, "2h1m"), (187_200, "2d4h")];
        for (secs, shown) in cases {
            assert_eq!(duration(Duration::from_secs(secs)), shown);
            assert_eq!(parse_duration(shown), Some(Duration::from_secs(secs)), "{shown}");
        }
        assert_eq!(duration(Duration::from_millis(350)), "350ms");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        assert_eq!(parse_duration("90"), Some(Duration::from_secs(90)));
        assert_eq!(parse_duration("500ms"), Some(Duration::from_millis(500)));
        for bad in
            ["", "+5", "m", "5x", "-1s", "5 m", "1h-", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
