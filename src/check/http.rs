//! One HTTP/1.1 exchange as bytes out, bytes in, verdict. Heads are read by `httparse`.
//!
//! The verdict comes as early as it can: after the head if no body is wanted, at the first match or
//! difference else. Bodies pass by, they are not kept. Redirects are not followed: their status counts.

mod body;

use super::attempt::{Body, HttpTarget, Outcome};
use crate::limits::HTTP_HEAD_MAX;
use body::{Framing, Matcher};

/// One request and the reading of its response.
pub struct Exchange {
    request: Vec<u8>,
    /// See [`HttpTarget::status`].
    status: Vec<u16>,
    wanted: Body,
    phase: Phase,
}

enum Phase {
    /// `seen`: bytes of interim responses (1xx) that were dropped.
    Head {
        held: Vec<u8>,
        seen: usize,
    },
    Body {
        code: u16,
        framing: Framing,
        matcher: Matcher,
    },
    Done(Outcome),
}

/// The part of a response head that counts here.
struct Head {
    len: usize,
    code: u16,
    framing: Result<Framing, &'static str>,
}

impl Exchange {
    pub fn new(target: &HttpTarget) -> Self {
        Self {
            request: request(target),
            status: target.status.clone(),
            wanted: target.body.clone(),
            phase: Phase::Head { held: Vec::new(), seen: 0 },
        }
    }

    /// The bytes to send once connected.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// More of the response. `Some`: the verdict is known, the connection can be closed.
    pub fn feed(&mut self, data: &[u8]) -> Option<Outcome> {
        if let Phase::Head { .. } = self.phase {
            return self.feed_head(data);
        }
        if let Phase::Body { code, framing, matcher } = &mut self.phase {
            self.phase = Phase::Done(read_body(*code, framing, matcher, data)?);
        }
        match &self.phase {
            Phase::Done(outcome) => Some(outcome.clone()),
            _ => None,
        }
    }

    /// The server closed the connection.
    pub fn end(&mut self) -> Outcome {
        let outcome = match &mut self.phase {
            Phase::Done(outcome) => outcome.clone(),
            Phase::Head { held, .. } if held.is_empty() => Outcome::Fail("closed without an answer".into()),
            Phase::Head { .. } => Outcome::Fail("answer ended within its head".into()),
            Phase::Body { code, framing: Framing::UntilClose, matcher } => verdict(*code, matcher.end()),
            Phase::Body { code, .. } => Outcome::Fail(format!("http {code}, body ended early").into()),
        };
        self.phase = Phase::Done(outcome.clone());
        outcome
    }

    fn feed_head(&mut self, mut data: &[u8]) -> Option<Outcome> {
        while let Phase::Head { held, seen } = &mut self.phase {
            let room = HTTP_HEAD_MAX.saturating_sub(*seen + held.len());
            let (head, rest) = data.split_at(room.min(data.len()));
            held.extend_from_slice(head);
            data = rest;
            match parse_head(held) {
                Err(reason) => self.phase = fail(reason),
                Ok(None) if *seen + held.len() >= HTTP_HEAD_MAX => {
                    self.phase = fail("answer's head too long")
                }
                Ok(None) => return None,
                Ok(Some(head)) if is_interim(head.code) => {
                    held.drain(..head.len);
                    *seen += head.len;
                }
                Ok(Some(head)) => {
                    let body = held.split_off(head.len);
                    self.phase = self.after_head(head.code, head.framing);
                    // No bytes come first: they can be the whole body, or contain what is wanted.
                    return self.feed(&[]).or_else(|| self.feed(&body)).or_else(|| self.feed(data));
                }
            }
        }
        self.feed(data)
    }

    fn after_head(&self, code: u16, framing: Result<Framing, &'static str>) -> Phase {
        let passes = match self.status.is_empty() {
            true => (200..=299).contains(&code),
            false => self.status.contains(&code),
        };
        match framing {
            _ if !passes => fail(&format!("http {code}")),
            _ if self.wanted == Body::Any => Phase::Done(verdict(code, Ok(()))),
            Err(reason) => fail(&format!("http {code}, {reason}")),
            Ok(framing) => Phase::Body { code, framing, matcher: Matcher::new(&self.wanted) },
        }
    }
}

/// `None`: more is needed.
fn read_body(code: u16, framing: &mut Framing, matcher: &mut Matcher, data: &[u8]) -> Option<Outcome> {
    let mut data = data;
    loop {
        let Ok(part) = framing.take(data) else {
            return Some(Outcome::Fail(format!("http {code}, bad chunked body").into()));
        };
        if let Some(result) = matcher.look(part.body) {
            return Some(verdict(code, result));
        }
        if part.ended {
            return Some(verdict(code, matcher.end()));
        }
        if part.rest.is_empty() {
            return None;
        }
        data = part.rest;
    }
}

fn verdict(code: u16, body: Result<(), String>) -> Outcome {
    match body {
        Ok(()) => Outcome::Pass(format!("http {code}").into()),
        Err(reason) => Outcome::Fail(format!("http {code}, {reason}").into()),
    }
}

fn fail(reason: &str) -> Phase {
    Phase::Done(Outcome::Fail(reason.into()))
}

/// 101 is final (RFC 9110, 15.2.2): nothing in HTTP follows it.
fn is_interim(code: u16) -> bool {
    (100..=199).contains(&code) && code != 101
}

/// `None`: not complete yet.
fn parse_head(bytes: &[u8]) -> Result<Option<Head>, &'static str> {
    // What curl puts up with, a check does too: it asks how the app is, not how tidy its server.
    let mut parser = httparse::ParserConfig::default();
    parser
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .ignore_invalid_headers_in_responses(true);
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match parser.parse_response(&mut response, bytes) {
        Ok(httparse::Status::Partial) => Ok(None),
        Ok(httparse::Status::Complete(len)) => {
            let code = response.code.unwrap_or(0);
            Ok(Some(Head { len, code, framing: framing(code, response.headers) }))
        }
        Err(httparse::Error::TooManyHeaders) => Err("answer has too many headers"),
        Err(_) => Err("answer is not http/1"),
    }
}

/// How the body's end is told (RFC 9112, 6.3).
fn framing(code: u16, headers: &[httparse::Header<'_>]) -> Result<Framing, &'static str> {
    let values = |name: &'static str| {
        headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
    };
    if matches!(code, 101 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    if let Some(codings) = values("transfer-encoding").next_back() {
        let coding = codings.rsplit(|&b| b == b',').next().unwrap_or(codings);
        return Ok(match coding.trim_ascii().eq_ignore_ascii_case(b"chunked") {
            true => Framing::chunked(),
            false => Framing::UntilClose,
        });
    }
    let mut length = None;
    for value in values("content-length").flat_map(|value| value.split(|&b| b == b',')) {
        let value = decimal(value.trim_ascii()).ok_or("bad content-length")?;
        if length.is_some_and(|length| length != value) {
            return Err("two content-lengths");
        }
        length = Some(value);
    }
    Ok(length.map_or(Framing::UntilClose, Framing::Length))
}

/// Digits alone: no sign, which `parse` would take.
fn decimal(digits: &[u8]) -> Option<u64> {
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(digits).ok()?.parse().ok()
}

fn request(target: &HttpTarget) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(b"GET ");
    for &byte in target.path.as_bytes() {
        // What would end the request line, or is not ASCII, travels escaped.
        match byte.is_ascii_graphic() {
            true => out.push(byte),
            false => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend(target.host.bytes().filter(u8::is_ascii_graphic));
    out.extend_from_slice(b"\r\nUser-Agent: picored/");
    out.extend_from_slice(env!("CARGO_PKG_VERSION").as_bytes());
    out.extend_from_slice(b"\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    out
}

/// Headers in one response; what servers send is a tenth of it.
const HEADERS_MAX: usize = 100;

#[cfg(test)]
mod tests;
