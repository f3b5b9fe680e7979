//! What could not be written yet: to a client, a peer, a program's stdin, a server that is checked.

use std::io::{self, Write};

/// Bytes that wait until the other side takes them.
#[derive(Default)]
pub struct Unsent {
    bytes: Vec<u8>,
    sent: usize,
}

impl Unsent {
    /// Bytes that still wait.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.sent
    }

    /// Adds `parts`. `StorageFull`: more than `max` bytes would wait.
    pub fn push(&mut self, parts: &[&[u8]], max: usize) -> io::Result<()> {
        let added: usize = parts.iter().map(|part| part.len()).sum();
        if self.waiting() + added > max {
            return Err(io::ErrorKind::StorageFull.into());
        }
        // What was sent goes first: a reader that is slow but never idle would make us grow for ever.
        self.bytes.drain(..self.sent);
        self.sent = 0;
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        Ok(())
    }

    /// Writes what is possible now. True: nothing waits any more.
    pub fn write_to(&mut self, to: &mut impl Write) -> io::Result<bool> {
        let done = write_some(to, &self.bytes, &mut self.sent)?;
        if done {
            *self = Self::default(); // given back: it may have been large
        }
        Ok(done)
    }
}

impl From<Vec<u8>> for Unsent {
    fn from(bytes: Vec<u8>) -> Self {
        Self { bytes, sent: 0 }
    }
}

/// Writes of `bytes`, of which `sent` were written, what is possible now. True: that was all.
pub fn write_some(to: &mut impl Write, bytes: &[u8], sent: &mut usize) -> io::Result<bool> {
    while let Some(rest) = bytes.get(*sent..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *sent += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, then would block.
    struct Slow {
        room: usize,
        got: Vec<u8>,
    }

    impl Write for Slow {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            let n = buf.len().min(self.room);
            if n == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            self.room -= n;
            self.got.extend_from_slice(buf.get(..n).unwrap_or_default());
            Ok(n)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn all_arrives_in_its_order_however_slowly() {
        let (mut unsent, mut slow) = (Unsent::default(), Slow { room: 0, got: Vec::new() });
        for part in [&b"one "[..], b"two ", b"three"] {
            unsent.push(&[part], 100).unwrap();
            slow.room = 3;
            assert!(!unsent.write_to(&mut slow).unwrap());
        }
        slow.room = 100;
        assert!(unsent.write_to(&mut slow).unwrap() && unsent.waiting() == 0);
        assert_eq!(slow.got, b"one two three");
    }

    #[test]
    fn a_reader_that_is_slow_but_never_idle_cannot_make_it_grow() {
        let (mut unsent, mut slow) = (Unsent::default(), Slow { room: 0, got: Vec::new() });
        for _ in 0..1_000 {
            unsent.push(&[&[b'x'; 100]], 250).unwrap();
            slow.room = 100.min(unsent.waiting() - 1);
            assert!(!unsent.write_to(&mut slow).unwrap());
            assert!(unsent.bytes.len() <= 500, "{}", unsent.bytes.len());
        }
        assert_eq!(unsent.push(&[&[b'x'; 250]], 250).unwrap_err().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_writer_that_takes_nothing_is_an_error_and_no_endless_loop() {
        let mut nothing: &mut [u8] = &mut [];
        let mut unsent = Unsent::from(b"x".to_vec());
        assert_eq!(unsent.write_to(&mut nothing).unwrap_err().kind(), io::ErrorKind::WriteZero);
    }
}
