//! Regular expressions of the schema, in what JavaScript and Python have in common.

use std::time::Duration;

/// IPv6 by its letters.
const V6: &str = r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*";
/// No control character.
pub const PRINTABLE: &str = r"^[^\u0000-\u001f\u007f-\u009f]*$";
pub const NAME: &str = r"^[A-Za-z0-9_-]{1,64}$";

/// One of the whole numbers from `from` to `to`, without leading zeros.
pub fn range(from: u64, to: u64) -> String {
    let (mut parts, mut at) = (Vec::new(), from);
    while at <= to {
        let mut block = 1;
        while at != 0 && at % (block * 10) == 0 && at + block * 10 - 1 <= to {
            block *= 10;
        }
        let first = at / block % 10;
        let mut last = first;
        while last < 9 && at + (last - first + 2) * block - 1 <= to {
            last += 1;
        }
        let prefix = match at / block / 10 {
            0 => String::new(),
            prefix => prefix.to_string(),
        };
        let digit = if first == last { first.to_string() } else { format!("[{first}-{last}]") };
        let rest = match block.ilog10() {
            0 => String::new(),
            1 => "[0-9]".into(),
            zeros => format!("[0-9]{{{zeros}}}"),
        };
        parts.push(format!("{prefix}{digit}{rest}"));
        at += (last - first + 1) * block;
    }
    format!("0*(?:{})", parts.join("|"))
}

fn port() -> String {
    format!(":{}", range(1, 65_535))
}

/// An address.
pub fn ip() -> String {
    format!("^(?:{}|{V6})$", v4())
}

fn v4() -> String {
    let byte = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    format!(r"{byte}(?:\.{byte}){{3}}")
}

/// An address with or without a port.
pub fn socket() -> String {
    let (v4, port) = (v4(), port());
    format!(r"^(?:{v4}(?:{port})?|{V6}|\[{V6}\](?:{port})?)$")
}

/// The same, or a host name.
pub fn join_target() -> String {
    let (v4, port) = (v4(), port());
    let label = "[A-Za-z0-9_-]{1,63}";
    // A last label of digits alone is a slip of the pen: no top-level domain is a number.
    let name = format!(r"(?!(?:[^:]*\.)?[0-9]+\.?(?:$|:)){label}(?:\.{label})*\.?");
    format!(r"^(?:{v4}(?:{port})?|{V6}|\[{V6}\](?:{port})?|{name}(?:{port})?)$")
}

pub fn network() -> String {
    format!("^(?:{}(?:/{})?|{V6}(?:/{})?)$", v4(), range(0, 32), range(0, 128))
}

const LOCALHOST: &str = "[Ll][Oo][Cc][Aa][Ll][Hh][Oo][Ss][Tt]";
/// What may follow the host of a URL: no blank, nothing behind a #.
const PATH: &str = r#"(?:[/?][!-"$-~]*)?"#;

fn endpoint() -> String {
    format!(r"(?:{}|\[{V6}\]|{LOCALHOST}){}", v4(), port())
}

fn url_host() -> String {
    let (v4, port) = (v4(), port());
    format!(r"(?:{v4}(?:{port})?|{V6}|\[{V6}\](?:{port})?|{LOCALHOST}(?:{port})?)")
}

pub fn tcp() -> String {
    format!("^{}$", endpoint())
}

pub fn url() -> String {
    format!("^[Hh][Tt][Tt][Pp]://{}{PATH}$", url_host())
}

pub fn witness() -> String {
    format!("^(?:tcp://{}|http://{}{PATH})$", endpoint(), url_host())
}

pub fn verify() -> String {
    let port = port();
    format!(r"^(?:off|tcp://\{{addr\}}{port}|http://\{{addr\}}(?:{port})?{PATH})$")
}

/// Base64 of 16, 24 or 32 bytes.
pub fn gossip_key() -> String {
    let letter = "[A-Za-z0-9+/]";
    format!("^(?:{letter}{{21}}[AQgw]==|{letter}{{32}}|{letter}{{42}}[AEIMQUYcgkosw048]=)$")
}

pub fn percent() -> String {
    format!("^{}%$", range(1, 100))
}

/// A duration in one unit, within the range; or in several (`1h30m`), which no pattern adds up.
pub fn duration(from: Duration, to: Duration) -> String {
    let mut units = Vec::new();
    for (unit, millis) in [("ms", 1), ("s?", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)] {
        let (from, to) = (from.as_millis() as u64, to.as_millis() as u64);
        let (least, most) = (from.div_ceil(millis), to / millis);
        if least <= most {
            units.push(range(least, most) + unit);
        }
    }
    format!("^(?:{}|(?:[0-9]+(?:ms|s|m|h|d)){{2,}})$", units.join("|"))
}

pub fn size(from: u64, to: u64) -> String {
    let mut units = Vec::new();
    for (unit, bytes) in
        [("B?", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("kB", 1_000), ("MB", 1_000_000)]
    {
        let (least, most) = (from.div_ceil(bytes), to / bytes);
        if least <= most {
            units.push(range(least, most) + unit);
        }
    }
    format!("^(?:{})$", units.join("|"))
}

#[test]
fn a_range_is_written_as_people_would() {
    assert_eq!(range(0, 9), "0*(?:[0-9])");
    assert_eq!(range(1, 100), "0*(?:[1-9]|[1-9][0-9]|100)");
    assert_eq!(range(7, 65), "0*(?:[7-9]|[1-5][0-9]|6[0-5])");
    assert_eq!(
        range(100, 86_400_000),
        "0*(?:[1-9][0-9]{2}|[1-9][0-9]{3}|[1-9][0-9]{4}|[1-9][0-9]{5}|[1-9][0-9]{6}|[1-7][0-9]{7}|8[0-5][0-9]{6}|86[0-3][0-9]{5}|86400000)"
    );
}
