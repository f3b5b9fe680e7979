//! One try of anything: what is tried, and how it ended, with the reason.

use core::fmt;
use core::net::SocketAddr;
use core::time::Duration;

use crate::limits::REASON_MAX;

/// What is tried. Cheap to clone.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// A connection is enough.
    Tcp(SocketAddr),
    /// A connection is enough.
    Unix(Box<str>),
    Http(Box<HttpTarget>),
    Exec(Box<ExecTarget>),
}

/// An HTTP/1.1 GET (`interfaces`, section 3).
#[derive(Clone, Debug, PartialEq)]
pub struct HttpTarget {
    pub addr: SocketAddr,
    /// The Host header: as configured, else of the URL.
    pub host: Box<str>,
    /// Path and query, starting with `/`.
    pub path: Box<str>,
    /// Status codes that pass; empty: 200 to 299.
    pub status: Vec<u16>,
    pub body: Body,
}

/// What the body must be.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    Any,
    Contains(Box<str>),
    /// Exactly, to the last byte: a trailing newline counts.
    Equals(Box<str>),
}

/// A program; exit 0 passes.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecTarget {
    pub argv: Vec<Box<str>>,
    /// Exit 1 (a Nagios plugin's "warning") passes too.
    pub warn_ok: bool,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With what it said (`http 200`, the plugin's first line), for people.
    Pass(Box<str>),
    /// With the reason, for people: `connection refused`, `http 502`, `exit 2: DISK CRITICAL`.
    Fail(Box<str>),
    /// It could not even be begun, for a reason of this machine (no descriptor, memory or port, its own firewall). For a
    /// check that is a failure as any other; of somebody else it says nothing.
    NotTried(Box<str>),
}

impl Outcome {
    pub fn passed(&self) -> bool {
        matches!(self, Self::Pass(_))
    }
    pub fn text(&self) -> &str {
        match self {
            Self::Pass(text) | Self::Fail(text) | Self::NotTried(text) => text,
        }
    }
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
    /// It could not be started at all, and why.
    NotStarted(Box<str>),
}

/// The verdict on an exec check that ended by itself; `output` is the first of what it printed.
///
/// Works for Nagios plugins as they are: `exit 2: DISK CRITICAL`.
pub fn exec_outcome(target: &ExecTarget, exit: &Exit, output: &[u8]) -> Outcome {
    let said = clean(output);
    let with = |text: String| match said.is_empty() {
        true => text.into_boxed_str(),
        false => format!("{text}: {said}").into_boxed_str(),
    };
    match exit {
        Exit::Code(0) if said.is_empty() => Outcome::Pass("exit 0".into()),
        Exit::Code(0) => Outcome::Pass(said.into()),
        Exit::Code(1) if target.warn_ok => Outcome::Pass(with("exit 1".into())),
        Exit::Code(code) => Outcome::Fail(with(format!("exit {code}"))),
        Exit::Signal(signal) => Outcome::Fail(with(format!("killed by signal {signal}"))),
        Exit::NotStarted(why) => {
            let program = target.argv.first().map_or("", |program| program);
            Outcome::Fail(format!("cannot run {program}: {why}").into())
        }
    }
}

/// The first [`REASON_MAX`] bytes of what a program or a server said, fit for a table or a log line:
/// one line, no control characters, runs of blanks as one space.
pub fn clean(said: &[u8]) -> String {
    let head = said.get(..REASON_MAX).unwrap_or(said);
    let text = String::from_utf8_lossy(head);
    let mut line = String::new();
    let blank = |c: char| c.is_control() || c.is_whitespace();
    for word in text.split(blank).filter(|word| !word.is_empty()) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    // What the cut left of a character, or what replacing bad bytes made too long.
    if said.len() > REASON_MAX {
        line.truncate(line.trim_end_matches('\u{FFFD}').len());
    }
    while line.len() > REASON_MAX {
        line.pop();
    }
    line
}

impl fmt::Display for Target {
    /// For people: `tcp 127.0.0.1:5432`, `unix /run/app.sock`, `http://127.0.0.1:80/health`, `exec /usr/local/…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(addr) => write!(f, "tcp {addr}"),
            Self::Unix(path) => write!(f, "unix {path}"),
            Self::Http(http) => write!(f, "http://{}{}", http.addr, http.path),
            Self::Exec(exec) => {
                f.write_str("exec")?;
                exec.argv.iter().try_for_each(|word| write!(f, " {word}"))
            }
        }
    }
}

/// A duration for people: `250 ms`, `5 s`, `1.5 s`, `2 min`, `2 min 30 s`, `3 h`.
#[derive(Clone, Copy, Debug)]
pub struct Span(pub Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, millis) = (self.0.as_secs(), self.0.subsec_millis());
        match (secs / 3_600, secs / 60 % 60, secs % 60) {
            (0, 0, 0) if millis > 0 => write!(f, "{millis} ms"),
            (0, 0, secs) if secs < 10 && millis >= 100 => write!(f, "{secs}.{} s", millis / 100),
            (0, 0, secs) => write!(f, "{secs} s"),
            (0, mins, 0) => write!(f, "{mins} min"),
            (0, mins, secs) => write!(f, "{mins} min {secs} s"),
            (hours, 0, _) => write!(f, "{hours} h"),
            (hours, mins, _) => write!(f, "{hours} h {mins} min"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(warn_ok: bool) -> ExecTarget {
        ExecTarget { argv: vec!["/usr/lib/nagios/plugins/check_disk".into(), "-w".into()], warn_ok }
    }

    fn fails(exit: Exit, output: &str) -> String {
        let outcome = exec_outcome(&exec(false), &exit, output.as_bytes());
        assert!(!outcome.passed());
        outcome.text().into()
    }

    #[test]
    fn exit_0_passes_with_what_the_program_said() {
        assert_eq!(exec_outcome(&exec(false), &Exit::Code(0), b"DISK OK\n"), Outcome::Pass("DISK OK".into()));
        assert_eq!(exec_outcome(&exec(false), &Exit::Code(0), b""), Outcome::Pass("exit 0".into()));
    }

    #[test]
    fn a_warning_passes_only_where_it_may() {
        let warning = Exit::Code(1);
        assert!(!exec_outcome(&exec(false), &warning, b"DISK WARNING").passed());
        let outcome = exec_outcome(&exec(true), &warning, b"DISK WARNING");
        assert_eq!(outcome, Outcome::Pass("exit 1: DISK WARNING".into()));
        assert!(!exec_outcome(&exec(true), &Exit::Code(2), b"").passed());
    }

    #[test]
    fn failures_carry_their_reason() {
        assert_eq!(fails(Exit::Code(2), "DISK CRITICAL\n"), "exit 2: DISK CRITICAL");
        assert_eq!(fails(Exit::Code(3), ""), "exit 3");
        assert_eq!(fails(Exit::Signal(9), ""), "killed by signal 9");
        let missing = Exit::NotStarted("no such file".into());
        assert_eq!(fails(missing, ""), "cannot run /usr/lib/nagios/plugins/check_disk: no such file");
    }

    #[test]
    fn output_becomes_one_short_line_without_control_characters() {
        assert_eq!(clean(b"  a\x1b[31m\tb\r\n\nc\x00d "), "a [31m b c d");
        assert_eq!(clean("é".repeat(200).as_bytes()), "é".repeat(100));
        assert_eq!(clean(format!("x{}", "é".repeat(200)).as_bytes()), format!("x{}", "é".repeat(99)));
        assert!(clean(&[0xff; 1_000]).len() <= REASON_MAX);
        assert!(clean(&[0xff; 150]).len() <= REASON_MAX);
    }

    #[test]
    fn targets_are_shown_as_people_write_them() {
        let addr: SocketAddr = ([127, 0, 0, 1], 80).into();
        let http = HttpTarget {
            addr,
            host: "localhost".into(),
            path: "/health".into(),
            status: vec![],
            body: Body::Any,
        };
        assert_eq!(Target::Tcp(addr).to_string(), "tcp 127.0.0.1:80");
        assert_eq!(Target::Http(Box::new(http)).to_string(), "http://127.0.0.1:80/health");
        assert_eq!(Target::Unix("/run/app.sock".into()).to_string(), "unix /run/app.sock");
        let exec = Target::Exec(Box::new(exec(false)));
        assert_eq!(exec.to_string(), "exec /usr/lib/nagios/plugins/check_disk -w");
    }

    #[test]
    fn durations_are_shown_in_the_unit_that_fits() {
        let shown = |millis| Span(Duration::from_millis(millis)).to_string();
        assert_eq!(shown(0), "0 s");
        assert_eq!(shown(250), "250 ms");
        assert_eq!(shown(1_500), "1.5 s");
        assert_eq!(shown(5_000), "5 s");
        assert_eq!(shown(120_000), "2 min");
        assert_eq!(shown(150_000), "2 min 30 s");
        assert_eq!(shown(3_600_000), "1 h");
        assert_eq!(shown(5_400_000), "1 h 30 min");
    }
}
