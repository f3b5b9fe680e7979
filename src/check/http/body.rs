//! The body of a response while it passes by: where it ends, and whether it is the wanted one.

use super::super::attempt::{Body, clean};
use crate::limits::HTTP_BODY_MAX;

/// How a body's end is told (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    UntilClose,
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunk),
}

/// Where in a chunked body we are (RFC 9112, section 7.1). LF alone ends a line, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    Size {
        value: u64,
        digits: u8,
    },
    /// What follows the size up to the end of its line; nothing that matters here.
    Extension {
        value: u64,
    },
    Data {
        left: u64,
    },
    /// The end of line behind the data.
    DataEnd,
}

/// Some bytes with the framing taken off.
pub struct Part<'d> {
    pub body: &'d [u8],
    pub rest: &'d [u8],
    /// The body is complete. Trailers are not waited for.
    pub ended: bool,
}

/// The bytes are not a chunked body.
#[derive(Debug)]
pub struct BadChunk;

impl Framing {
    pub fn chunked() -> Self {
        Self::Chunked(Chunk::START)
    }

    /// The next part of the body; takes at least one byte, unless there is none or the body ended.
    pub fn take<'d>(&mut self, data: &'d [u8]) -> Result<Part<'d>, BadChunk> {
        match self {
            Self::UntilClose => Ok(Part { body: data, rest: &[], ended: false }),
            Self::Length(left) => {
                let (body, rest) = split(data, left);
                Ok(Part { body, rest, ended: *left == 0 })
            }
            Self::Chunked(Chunk::Data { left }) => {
                let (body, rest) = split(data, left);
                if *left == 0 {
                    *self = Self::Chunked(Chunk::DataEnd);
                }
                Ok(Part { body, rest, ended: false })
            }
            Self::Chunked(chunk) => {
                let Some((&byte, rest)) = data.split_first() else {
                    return Ok(Part { body: &[], rest: &[], ended: false });
                };
                let next = chunk.after(byte)?;
                *self = next.map_or(Self::Length(0), Self::Chunked);
                Ok(Part { body: &[], rest, ended: next.is_none() })
            }
        }
    }
}

impl Chunk {
    const START: Self = Self::Size { value: 0, digits: 0 };
    /// 2^60 bytes are more than any body has; what is left of the type's range keeps sums from overflowing.
    const DIGITS_MAX: u8 = 15;

    /// The state after one more byte of a line; `None`: that was the last chunk.
    fn after(self, byte: u8) -> Result<Option<Self>, BadChunk> {
        let line_ended = |value| match value {
            0 => None,
            left => Some(Self::Data { left }),
        };
        match (self, byte) {
            (Self::Size { value, digits }, _) if byte.is_ascii_hexdigit() && digits < Self::DIGITS_MAX => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                Ok(Some(Self::Size { value: value * 16 + u64::from(digit), digits: digits + 1 }))
            }
            (Self::Size { digits: 0, .. }, _) => Err(BadChunk),
            (Self::Size { value, .. }, b'\n') => Ok(line_ended(value)),
            (Self::Size { value, .. }, b'\r' | b';' | b' ' | b'\t') => Ok(Some(Self::Extension { value })),
            (Self::Extension { value }, b'\n') => Ok(line_ended(value)),
            (Self::Extension { .. } | Self::DataEnd, b'\r') => Ok(Some(self)),
            (Self::Extension { .. }, _) => Ok(Some(self)),
            (Self::DataEnd, b'\n') => Ok(Some(Self::START)),
            (Self::Size { .. } | Self::DataEnd | Self::Data { .. }, _) => Err(BadChunk),
        }
    }
}

/// Looks at the first [`HTTP_BODY_MAX`] bytes of a body, in any pieces, and keeps none of them.
pub struct Matcher {
    wanted: Wanted,
    seen: usize,
}

enum Wanted {
    Any,
    Contains(Search),
    /// Byte for byte: a trailing newline counts. `matched` bytes of it were there.
    Equals {
        text: Box<str>,
        matched: usize,
    },
}

impl Matcher {
    pub fn new(wanted: &Body) -> Self {
        let wanted = match wanted {
            Body::Any => Wanted::Any,
            Body::Contains(text) => Wanted::Contains(Search::new(text)),
            Body::Equals(text) => Wanted::Equals { text: text.clone(), matched: 0 },
        };
        Self { wanted, seen: 0 }
    }

    /// More of the body. `Some`: it is decided, with the reason if the body is not the wanted one.
    pub fn look(&mut self, data: &[u8]) -> Option<Result<(), String>> {
        let room = HTTP_BODY_MAX.saturating_sub(self.seen);
        let data = data.get(..room).unwrap_or(data);
        self.seen += data.len();
        let full = self.seen >= HTTP_BODY_MAX;
        match &mut self.wanted {
            Wanted::Any => Some(Ok(())),
            Wanted::Equals { text, matched } => {
                let end = matched.saturating_add(data.len());
                if text.as_bytes().get(*matched..end) != Some(data) {
                    return Some(Err(differs(text)));
                }
                *matched = end;
                full.then(|| self.end())
            }
            Wanted::Contains(search) => match search.feed(data) {
                true => Some(Ok(())),
                false => full.then(|| self.end()),
            },
        }
    }

    /// The body is complete, or as much of it as is looked at.
    pub fn end(&self) -> Result<(), String> {
        match &self.wanted {
            Wanted::Any => Ok(()),
            Wanted::Contains(search) if search.found() => Ok(()),
            Wanted::Contains(search) => Err(format!("body does not contain {}", quoted(&search.needle))),
            Wanted::Equals { text, matched } if *matched == text.len() => Ok(()),
            Wanted::Equals { text, .. } => Err(differs(text)),
        }
    }
}

fn differs(text: &str) -> String {
    format!("body is not {}", quoted(text))
}

/// For a reason: short and on one line.
fn quoted(text: &str) -> String {
    let line = clean(text.as_bytes());
    match line.char_indices().nth(QUOTED_MAX) {
        Some((at, _)) => format!("\"{}…\"", &line[..at]),
        None => format!("\"{line}\""),
    }
}

const QUOTED_MAX: usize = 40;

/// Finds a text in pieces of a body without keeping them (Knuth, Morris, Pratt 1977).
struct Search {
    needle: Box<str>,
    /// For each prefix of the needle: how long its longest proper prefix is that also ends it.
    fallback: Box<[u32]>,
    matched: usize,
}

impl Search {
    fn new(needle: &str) -> Self {
        let bytes = needle.as_bytes();
        let mut search = Self { needle: needle.into(), fallback: vec![0; bytes.len()].into(), matched: 0 };
        for (i, &byte) in bytes.iter().enumerate().skip(1) {
            search.step(byte);
            // A needle as long as the configuration file's limit fits.
            search.fallback[i] = search.matched as u32;
        }
        search.matched = 0;
        search
    }

    fn found(&self) -> bool {
        self.matched == self.needle.len()
    }

    /// True once the needle was there.
    fn feed(&mut self, data: &[u8]) -> bool {
        for &byte in data {
            if self.found() {
                break;
            }
            self.step(byte);
        }
        self.found()
    }

    /// One byte more, the needle not being found yet.
    fn step(&mut self, byte: u8) {
        let bytes = self.needle.as_bytes();
        while self.matched > 0 && bytes.get(self.matched) != Some(&byte) {
            self.matched = self.fallback.get(self.matched - 1).map_or(0, |&len| len as usize);
        }
        if bytes.get(self.matched) == Some(&byte) {
            self.matched += 1;
        }
    }
}

fn split<'d>(data: &'d [u8], left: &mut u64) -> (&'d [u8], &'d [u8]) {
    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len());
    *left -= taken as u64;
    data.split_at(taken)
}
