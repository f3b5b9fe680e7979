//! memberlist's dialect of MessagePack (protocol page, section 2): the old raw type for strings and
//! bytes, structs as maps with sorted keys, nil for what is empty.
//!
//! From `rmp` come the marker bytes and their names. Its readers and writers are not used: they are
//! generic over I/O traits, know `bin` and `str8` but not the old raw type, and their errors would
//! have to be taken apart again to tell "ends too early" (wait for more of a stream) from "wrong".

use rmp::Marker;

use super::Error;

/// Reads values from the front of a byte slice. Borrows, allocates nothing, trusts no length.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// How many more map entries and skipped values will be looked at.
    values: usize,
}

/// Reads the value of a key; false if it does not know the key. See [`Reader::fields`].
pub type Field<'a, 'f> = dyn FnMut(&[u8], &mut Reader<'a>) -> Result<bool, Error> + 'f;

impl<'a> Reader<'a> {
    /// Reads `bytes`; the work is bounded by their number.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self::with_limit(bytes, usize::MAX)
    }

    /// Like [`Reader::new`], and gives up with [`Error::TooLong`] after `values` map entries and
    /// skipped values, so that what is read again and again (a stream that comes byte by byte) stays cheap.
    pub fn with_limit(bytes: &'a [u8], values: usize) -> Self {
        Self { rest: bytes, values }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads a struct: a map whose keys are strings, in any order. `field` reads the value of each key it
    /// knows and returns whether it did; other values are skipped. Of a key that comes twice the last wins.
    ///
    /// A struct as an array or as nil is refused: Go would take both, but no peer sends them.
    pub fn fields(&mut self, field: &mut Field<'a, '_>) -> Result<(), Error> {
        for _ in 0..self.map()? {
            self.count()?;
            let key = self.raw()?;
            if !field(key, self)? {
                self.skip()?;
            }
        }
        Ok(())
    }

    /// The number of entries of a map that follow.
    pub fn map(&mut self) -> Result<u32, Error> {
        match self.marker()? {
            Marker::FixMap(n) => Ok(u32::from(n)),
            Marker::Map16 => self.be(2).map(|n| n as u32),
            Marker::Map32 => self.be(4).map(|n| n as u32),
            _ => Err(Error::Malformed),
        }
    }

    /// The number of elements of an array that follow; nil is an empty one.
    pub fn array(&mut self) -> Result<u32, Error> {
        match self.marker()? {
            Marker::Null => Ok(0),
            Marker::FixArray(n) => Ok(u32::from(n)),
            Marker::Array16 => self.be(2).map(|n| n as u32),
            Marker::Array32 => self.be(4).map(|n| n as u32),
            _ => Err(Error::Malformed),
        }
    }

    /// Reads a nil if that is what comes next.
    pub fn nil(&mut self) -> bool {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte == Marker::Null.to_u8() => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// A number that is not negative, in any integer format; nil is 0.
    pub fn uint(&mut self) -> Result<u64, Error> {
        u64::try_from(self.int()?).map_err(|_| Error::Malformed)
    }

    /// See [`Reader::uint`]; one that does not fit is refused.
    pub fn u32(&mut self) -> Result<u32, Error> {
        u32::try_from(self.int()?).map_err(|_| Error::Malformed)
    }

    /// See [`Reader::u32`].
    pub fn u16(&mut self) -> Result<u16, Error> {
        u16::try_from(self.int()?).map_err(|_| Error::Malformed)
    }

    /// See [`Reader::u32`].
    pub fn u8(&mut self) -> Result<u8, Error> {
        u8::try_from(self.int()?).map_err(|_| Error::Malformed)
    }

    /// A number in any integer format; nil is 0. Wide enough for all of them.
    pub fn int(&mut self) -> Result<i128, Error> {
        match self.marker()? {
            Marker::Null => Ok(0),
            Marker::FixPos(n) => Ok(i128::from(n)),
            Marker::FixNeg(n) => Ok(i128::from(n)),
            Marker::U8 => self.be(1).map(i128::from),
            Marker::U16 => self.be(2).map(i128::from),
            Marker::U32 => self.be(4).map(i128::from),
            Marker::U64 => self.be(8).map(i128::from),
            Marker::I8 => self.be(1).map(|n| i128::from(n as u8 as i8)),
            Marker::I16 => self.be(2).map(|n| i128::from(n as u16 as i16)),
            Marker::I32 => self.be(4).map(|n| i128::from(n as u32 as i32)),
            Marker::I64 => self.be(8).map(|n| i128::from(n as i64)),
            _ => Err(Error::Malformed),
        }
    }

    /// True or false; also the fixints 1 and 0, and nil for false.
    pub fn bool(&mut self) -> Result<bool, Error> {
        match self.marker()? {
            Marker::True | Marker::FixPos(1) => Ok(true),
            Marker::False | Marker::FixPos(0) | Marker::Null => Ok(false),
            _ => Err(Error::Malformed),
        }
    }

    /// A text: raw, `str8`, or `bin` (as the newest peers take it); nil is empty.
    ///
    /// Go's strings are bytes. Ours go to terminals, JSON and environments, so what is not UTF-8 is refused.
    pub fn str(&mut self) -> Result<&'a str, Error> {
        core::str::from_utf8(self.raw()?).map_err(|_| Error::Malformed)
    }

    /// Bytes: raw, `str8` or `bin`; nil is empty. An array of numbers is taken if all are positive fixints:
    /// their encodings are their values, so it can be borrowed. Other arrays are refused: Go takes them,
    /// but no peer sends them.
    pub fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let before = self.rest;
        match self.marker()? {
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => {
                self.rest = before;
                let n = self.array()?;
                let elements = self.take(n as usize)?;
                if elements.iter().all(|&byte| byte < 0x80) { Ok(elements) } else { Err(Error::Malformed) }
            }
            _ => {
                self.rest = before;
                self.raw()
            }
        }
    }

    /// Skips one value, whatever is in it. Not recursive: an array or map only adds to what is still to skip.
    pub fn skip(&mut self) -> Result<(), Error> {
        let mut left: u64 = 1;
        while left > 0 {
            left -= 1;
            self.count()?;
            let (bytes, values) = self.extent()?;
            self.take(bytes)?;
            left = left.saturating_add(values);
        }
        Ok(())
    }

    /// What follows the next marker (which is read): so many bytes, then so many values.
    fn extent(&mut self) -> Result<(usize, u64), Error> {
        let marker = self.marker()?;
        Ok(match marker {
            Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => (0, 0),
            Marker::U8 | Marker::I8 => (1, 0),
            Marker::U16 | Marker::I16 => (2, 0),
            Marker::U32 | Marker::I32 | Marker::F32 => (4, 0),
            Marker::U64 | Marker::I64 | Marker::F64 => (8, 0),
            Marker::FixStr(n) => (usize::from(n), 0),
            Marker::Str8 | Marker::Bin8 => (self.be(1)? as usize, 0),
            Marker::Str16 | Marker::Bin16 => (self.be(2)? as usize, 0),
            Marker::Str32 | Marker::Bin32 => (self.be(4)? as usize, 0),
            // The type byte of an extension counts with its data.
            Marker::FixExt1 => (2, 0),
            Marker::FixExt2 => (3, 0),
            Marker::FixExt4 => (5, 0),
            Marker::FixExt8 => (9, 0),
            Marker::FixExt16 => (17, 0),
            Marker::Ext8 => ((self.be(1)? as usize).saturating_add(1), 0),
            Marker::Ext16 => ((self.be(2)? as usize).saturating_add(1), 0),
            Marker::Ext32 => ((self.be(4)? as usize).saturating_add(1), 0),
            Marker::FixArray(n) => (0, u64::from(n)),
            Marker::Array16 => (0, self.be(2)?),
            Marker::Array32 => (0, self.be(4)?),
            Marker::FixMap(n) => (0, 2 * u64::from(n)),
            Marker::Map16 => (0, 2 * self.be(2)?),
            Marker::Map32 => (0, 2 * self.be(4)?),
            Marker::Reserved => return Err(Error::Malformed),
        })
    }

    /// A text as Go takes it, any bytes; see [`Reader::str`].
    pub fn raw(&mut self) -> Result<&'a [u8], Error> {
        let len = match self.marker()? {
            Marker::Null => 0,
            Marker::FixStr(n) => u64::from(n),
            Marker::Str8 | Marker::Bin8 => self.be(1)?,
            Marker::Str16 | Marker::Bin16 => self.be(2)?,
            Marker::Str32 | Marker::Bin32 => self.be(4)?,
            _ => return Err(Error::Malformed),
        };
        self.take(len as usize)
    }

    fn marker(&mut self) -> Result<Marker, Error> {
        Ok(Marker::from_u8(self.be(1)? as u8))
    }

    /// A big-endian number of `width` bytes, 8 at most.
    fn be(&mut self, width: usize) -> Result<u64, Error> {
        Ok(self.take(width)?.iter().fold(0, |n, &byte| n << 8 | u64::from(byte)))
    }

    /// The next `len` bytes, raw.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Error::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn count(&mut self) -> Result<(), Error> {
        self.values = self.values.checked_sub(1).ok_or(Error::TooLong)?;
        Ok(())
    }
}

/// Appends the head of a map of `entries` entries.
pub fn write_map(out: &mut Vec<u8>, entries: usize) {
    if entries < 16 {
        out.push(Marker::FixMap(entries as u8).to_u8());
    } else {
        write_sized(out, Marker::Map16, Marker::Map32, entries);
    }
}

/// Appends the head of an array of `elements` elements.
pub fn write_array(out: &mut Vec<u8>, elements: usize) {
    if elements < 16 {
        out.push(Marker::FixArray(elements as u8).to_u8());
    } else {
        write_sized(out, Marker::Array16, Marker::Array32, elements);
    }
}

/// Appends a text: fixstr, raw16 or raw32, never `str8` (go-msgpack 0.5.5 does not write it).
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    write_raw(out, text.as_bytes());
}

/// Appends bytes as [`write_str`] does; nil if there are none.
pub fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_empty() {
        out.push(Marker::Null.to_u8());
    } else {
        write_raw(out, bytes);
    }
}

/// Appends the head of `len` bytes that the caller appends.
pub fn write_raw_head(out: &mut Vec<u8>, len: usize) {
    if len < 32 {
        out.push(Marker::FixStr(len as u8).to_u8());
    } else {
        write_sized(out, Marker::Str16, Marker::Str32, len);
    }
}

/// Appends a number in the shortest unsigned form.
pub fn write_uint(out: &mut Vec<u8>, n: u64) {
    let (marker, width) = match n {
        0..=0x7F => return out.push(n as u8),
        0x80..=0xFF => (Marker::U8, 1),
        0x100..=0xFFFF => (Marker::U16, 2),
        0x1_0000..=0xFFFF_FFFF => (Marker::U32, 4),
        _ => (Marker::U64, 8),
    };
    out.push(marker.to_u8());
    out.extend_from_slice(&n.to_be_bytes()[8 - width..]);
}

/// Appends true or false.
pub fn write_bool(out: &mut Vec<u8>, value: bool) {
    out.push(if value { Marker::True } else { Marker::False }.to_u8());
}

fn write_raw(out: &mut Vec<u8>, bytes: &[u8]) {
    write_raw_head(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn write_sized(out: &mut Vec<u8>, short: Marker, long: Marker, n: usize) {
    match u16::try_from(n) {
        Ok(n) => {
            out.push(short.to_u8());
            out.extend_from_slice(&n.to_be_bytes());
        }
        Err(_) => {
            out.push(long.to_u8());
            out.extend_from_slice(&(n as u32).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_in_every_width() {
        for n in [0, 127, 128, 255, 256, 65_535, 65_536, u64::from(u32::MAX), 1 << 32, u64::MAX] {
            let mut out = Vec::new();
            write_uint(&mut out, n);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.uint(), Ok(n));
            assert!(reader.rest().is_empty());
        }
    }

    #[test]
    fn a_text_changes_its_head_at_32_and_at_65536_bytes() {
        for (len, head) in [(0, 0xA0), (31, 0xBF), (32, 0xDA), (65_535, 0xDA), (65_536, 0xDB)] {
            let mut out = Vec::new();
            let text = "x".repeat(len);
            write_str(&mut out, &text);
            assert_eq!(out[0], head);
            assert_eq!(Reader::new(&out).str(), Ok(&*text));
        }
    }

    #[test]
    fn nesting_is_skipped_without_recursion() {
        let mut deep = vec![0x91; 1 << 20];
        deep.push(0xC0);
        assert_eq!(Reader::new(&deep).skip(), Ok(()));
        assert_eq!(Reader::with_limit(&deep, 256).skip(), Err(Error::TooLong));
    }

    #[test]
    fn declared_sizes_are_not_believed() {
        assert_eq!(Reader::new(&[0xDB, 0xFF, 0xFF, 0xFF, 0xFF]).bytes(), Err(Error::Truncated));
        assert_eq!(Reader::new(&[0xDD, 0xFF, 0xFF, 0xFF, 0xFF]).skip(), Err(Error::Truncated));
        assert_eq!(Reader::new(&[0xDF, 0xFF, 0xFF, 0xFF, 0xFF]).skip(), Err(Error::Truncated));
        assert_eq!(Reader::new(&[0xC9, 0xFF, 0xFF, 0xFF, 0xFF]).skip(), Err(Error::Truncated));
    }

    #[test]
    fn the_last_of_two_equal_keys_wins() {
        let bytes = [0x82, 0xA1, b'a', 1, 0xA1, b'a', 2];
        let mut a = 0;
        Reader::new(&bytes)
            .fields(&mut |key, value| {
                if key == b"a" {
                    a = value.u32()?;
                }
                Ok(key == b"a")
            })
            .unwrap();
        assert_eq!(a, 2);
    }
}
