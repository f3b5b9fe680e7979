//! The compress message: `{Algo: 0, Buf: LZW}` (protocol page, section 4).
//!
//! Coder and decoder hold tens of KiB each; they live only as long as one call.

use core::ops::Range;

use weezl::{BitOrder, LzwStatus, decode, encode};

use super::msgpack::{self, Reader};
use super::{COMPRESSED, Error};

/// Go's `compress/lzw` with LSB order; the only algorithm there is.
const ALGO_LZW: u8 = 0;
/// Output is produced in pieces of this size, so that a bomb is noticed early and nothing is allocated by
/// a declared size.
const PIECE: usize = 4 * 1024;

/// Reads the map of a compress message (after its type byte) and returns `Buf`.
pub fn read_map<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Error> {
    let (mut algo, mut buf): (u8, &[u8]) = (ALGO_LZW, &[]);
    reader.fields(&mut |key, value| {
        match key {
            b"Algo" => algo = value.u8()?,
            b"Buf" => buf = value.bytes()?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if algo == ALGO_LZW { Ok(buf) } else { Err(Error::Unsupported(algo)) }
}

/// Where compressed bytes are.
#[derive(Clone)]
pub enum Input<'a> {
    /// Somewhere else.
    Apart(&'a [u8]),
    /// In the output buffer itself, before what is appended.
    Within(Range<usize>),
}

/// Appends what `input` inflates to, so that `out` holds at most `limit` bytes; on an error `out` is as
/// before. Nothing at all is an error too: there is no empty message.
pub fn inflate(input: Input<'_>, out: &mut Vec<u8>, limit: usize) -> Result<(), Error> {
    let start = out.len();
    let result = inflate_onto(&input, out, limit);
    if result.is_err() {
        out.truncate(start);
    } else if out.len() == start {
        return Err(Error::Malformed);
    }
    result
}

fn inflate_onto(input: &Input<'_>, out: &mut Vec<u8>, limit: usize) -> Result<(), Error> {
    let mut decoder = decode::Decoder::new(BitOrder::Lsb, 8);
    let (mut consumed, mut idle) = (0, 0);
    loop {
        let end = out.len();
        out.resize(end.saturating_add(PIECE).min(limit).max(end), 0);
        let (held, space) = out.split_at_mut(end);
        let bytes = match input {
            Input::Apart(bytes) => bytes,
            Input::Within(range) => held.get(range.clone()).unwrap_or_default(),
        };
        // At the limit one more byte is asked for, to tell a full buffer from one that overflows.
        let mut beyond = [0];
        let full = space.is_empty();
        let space = if full { &mut beyond[..] } else { space };
        let step = decoder.decode_bytes(bytes.get(consumed..).unwrap_or_default(), space);
        out.truncate(if full { end } else { end + step.consumed_out });
        if full && step.consumed_out > 0 {
            return Err(Error::TooLong);
        }
        consumed += step.consumed_in;
        idle = if step.consumed_in + step.consumed_out == 0 { idle + 1 } else { 0 };
        match step.status {
            Ok(LzwStatus::Done) => return Ok(()),
            // The second idle round guards against a decoder that would say "go on" for ever.
            Ok(LzwStatus::NoProgress) => return Err(Error::Truncated),
            Ok(LzwStatus::Ok) if idle > 1 => return Err(Error::Truncated),
            Ok(LzwStatus::Ok) => {}
            Err(_) => return Err(Error::Malformed),
        }
    }
}

/// Appends the compress message (type byte and map) that holds `body`, which must not be empty: old Serf
/// agents crash on an empty one (protocol page, section 10).
pub fn write(body: &[u8], out: &mut Vec<u8>) {
    let buf = deflate(body);
    out.push(COMPRESSED);
    msgpack::write_map(out, 2);
    msgpack::write_str(out, "Algo");
    msgpack::write_uint(out, u64::from(ALGO_LZW));
    msgpack::write_str(out, "Buf");
    msgpack::write_raw_head(out, buf.len());
    out.extend_from_slice(&buf);
}

fn deflate(body: &[u8]) -> Vec<u8> {
    let mut encoder = encode::Encoder::new(BitOrder::Lsb, 8);
    encoder.finish();
    let (mut out, mut consumed) = (Vec::new(), 0);
    loop {
        let end = out.len();
        out.resize(end + PIECE.min(body.len() + 16), 0);
        let step = encoder.encode_bytes(&body[consumed..], &mut out[end..]);
        consumed += step.consumed_in;
        out.truncate(end + step.consumed_out);
        match step.status {
            Ok(LzwStatus::Ok) => {}
            Ok(LzwStatus::Done | LzwStatus::NoProgress) | Err(_) => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inflated(bytes: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
        let mut out = Vec::new();
        inflate(Input::Apart(bytes), &mut out, limit).map(|()| out)
    }

    #[test]
    fn what_was_deflated_comes_back_whole() {
        for len in [1, 2, 300, 4_096, 5_000, 70_000] {
            let body: Vec<u8> = (0..len).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
            assert_eq!(inflated(&deflate(&body), 70_000).unwrap(), body);
        }
    }

    #[test]
    fn exactly_the_limit_is_accepted_and_one_byte_more_is_not() {
        for len in [100, PIECE, 3 * PIECE + 1] {
            let deflated = deflate(&vec![7; len]);
            assert_eq!(inflated(&deflated, len).map(|out| out.len()), Ok(len));
            assert_eq!(inflated(&deflated, len - 1), Err(Error::TooLong));
        }
    }

    #[test]
    fn an_error_leaves_the_output_as_it_was() {
        let mut out = b"before".to_vec();
        assert_eq!(inflate(Input::Apart(&deflate(&[7; 1_000])), &mut out, 100), Err(Error::TooLong));
        assert_eq!(inflate(Input::Apart(&[0, 3, 2]), &mut out, 100), Err(Error::Malformed));
        assert_eq!(inflate(Input::Apart(&[0]), &mut out, 100), Err(Error::Truncated));
        assert_eq!(inflate(Input::Within(3..900), &mut out, 100), Err(Error::Truncated));
        assert_eq!(out, b"before");
    }
}
