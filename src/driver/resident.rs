//! Gives back the pages of the program that are not needed any more.
//!
//! Most of the program is for the start, for the command line and for what a person asks now and then. The kernel maps
//! such pages as they are touched, sixteen at once, and counts them as this process's until memory is short: on a small
//! machine that is most of what picored would seem to need. Given back each minute, only those are mapped that are in
//! use; each costs a minor fault, less than a microsecond, when it is touched again.
//!
//! Sixteen at once is too much where one function of a page is used now and then. But the kernel stays within one
//! mapping, so the program's are divided into short ones (`filemap_map_pages`, `do_fault_around` in its mm/memory.c).

use core::time::Duration;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use rustix::mm::{Advice, madvise};

/// Between two times.
pub const INTERVAL: Duration = Duration::from_secs(60);

/// So long are the mappings that the program is divided into, in bytes. The kernel needs some 200 bytes for each.
const SPAN: usize = 16 * 1024;
/// A program that is larger is left in one piece: a debug build.
const DIVIDED_MAX: usize = 2 * 1024 * 1024;

/// What of this process may be given back: asked of the kernel once, for reading its long answer each minute would cost
/// more time than all else here.
#[derive(Default)]
pub struct Pages {
    /// Where each begins, and its length.
    found: Option<Vec<(usize, usize)>>,
}

impl Pages {
    /// Gives back all pages of files that nobody has written to. How many bytes of mappings that is.
    pub fn give_back(&mut self) -> usize {
        let found = self.found.get_or_insert_with(|| {
            let found: Vec<_> =
                File::open("/proc/self/smaps").map_or(Vec::new(), |maps| clean(lines(maps)).collect());
            for (start, length) in &found {
                divide(*start, *length);
            }
            found
        });
        found
            .iter()
            .filter(|(start, length)| advise(*start, *length, Advice::LinuxDontNeed))
            .map(|found| found.1)
            .sum()
    }
}

/// Every second part gets a mark of no other effect: what no core file has, as it is in the program's.
fn divide(start: usize, length: usize) {
    if length > DIVIDED_MAX {
        return;
    }
    for part in (SPAN..length).step_by(2 * SPAN) {
        advise(start + part, SPAN.min(length - part), Advice::LinuxDontDump);
    }
}

/// A mapping that only mirrors its file may be forgotten: the kernel reads it anew. This is the one thing that needs
/// `unsafe`, because of memory that has contents of its own; here the kernel itself has just said that there is none.
#[allow(unsafe_code)]
fn advise(start: usize, length: usize, advice: Advice) -> bool {
    // SAFETY: `clean` gives mappings of files that cannot be written to and hold no page of our own, neither in memory
    // nor in swap, so that reading them gives the same bytes afterwards. They stay so: they are the program's own (in a
    // debug build also its libraries'), which nothing here unmaps or makes writable. What relocation has written to
    // was written before `main`.
    unsafe { madvise(start as *mut _, length, advice).is_ok() }
}

/// Each line by itself: all of them would be the largest thing that a quiet daemon holds.
fn lines(maps: impl Read) -> impl Iterator<Item = String> {
    BufReader::new(maps).lines().map_while(Result::ok)
}

/// Where the mappings of files begin that are not writable, are in use and have no page of our own; their length.
/// Relocated pointers are written by the program's first instructions: such a mapping stays, though it is read-only by
/// now, and also while these pages are in swap.
fn clean(smaps: impl Iterator<Item = String>) -> impl Iterator<Item = (usize, usize)> {
    let mut found = None;
    let (mut kib, mut own) = (0, 0);
    smaps.filter_map(move |line| {
        if let Some(text) = line.strip_prefix("Rss:") {
            kib = number(text)?;
        } else if let Some(text) = line.strip_prefix("Anonymous:") {
            own = number(text)?;
        } else if let Some(text) = line.strip_prefix("Swap:") {
            return found.take().filter(|_| kib > 0 && own == 0 && number(text) == Some(0));
        } else if let Some(range) = mapping(&line) {
            found = range;
            (kib, own) = (0, u64::MAX);
        }
        None
    })
}

/// The outer `None`: the line does not begin a mapping. The inner one: that is not a file's, or may be written to.
fn mapping(line: &str) -> Option<Option<(usize, usize)>> {
    // 7f68e6cd6000-7f68e6e05000 r-xp 00009000 fe:01 1050 /usr/local/bin/picored
    let mut words = line.split_ascii_whitespace();
    let (start, end) = words.next()?.split_once('-')?;
    let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let is_read_only = words.next()?.starts_with("r-");
    let is_file = words.nth(2)? != "0";
    Some((is_read_only && is_file).then(|| (start, end.saturating_sub(start))))
}

fn number(text: &str) -> Option<u64> {
    text.trim().strip_suffix(" kB")?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMAPS: &str = "\
55558edb4000-55558edb5000 rw-p 00000000 00:00 0                          [heap]
Rss:                   4 kB
Anonymous:             4 kB
Swap:                  0 kB
7f68e6cc9000-7f68e6ccb000 r--p 00000000 00:00 0                          [vvar]
Rss:                   8 kB
Anonymous:             0 kB
Swap:                  0 kB
7f68e6cd6000-7f68e6e05000 r-xp 00009000 fe:01 1050                       /usr/local/bin/picored
Size:               1212 kB
Rss:                1156 kB
Anonymous:             0 kB
Swap:                  0 kB
VmFlags: rd ex mr mw me
7f68e6e05000-7f68e6e1f000 r--p 00138000 fe:01 1050                       /usr/local/bin/with a name - and spaces
Rss:                 104 kB
Anonymous:             0 kB
Swap:                  0 kB
7f68e6e1f000-7f68e6e28000 r--p 00152000 fe:01 1050                       /usr/local/bin/picored
Rss:                  36 kB
Anonymous:            36 kB
Swap:                  0 kB
7f68e6e28000-7f68e6e29000 rw-p 00152000 fe:01 1050                       /usr/local/bin/picored
Rss:                   4 kB
Anonymous:             0 kB
Swap:                  0 kB
7f68e6e30000-7f68e6e40000 r--p 00000000 fe:01 77                         /never/touched
Rss:                   0 kB
Anonymous:             0 kB
Swap:                  0 kB
7f68e6e50000-7f68e6e58000 r--p 00152000 fe:01 1050                       /swapped/out
Rss:                   4 kB
Anonymous:             0 kB
Swap:                 28 kB
7f68e6e60000-7f68e6e68000 r--p 00000000 fe:01 1051                       /nothing/said/of/swap
Rss:                   4 kB
Anonymous:             0 kB
";

    #[test]
    fn only_what_mirrors_a_file_may_be_given_back() {
        let clean = |smaps: &'static str| clean(lines(smaps.as_bytes()));
        let found: Vec<_> = clean(SMAPS).collect();
        assert_eq!(found, [(0x7f68_e6cd_6000, 0x12f000), (0x7f68_e6e0_5000, 0x1a000)]);
        assert_eq!(clean("").count() + clean("7f68-nonsense r-xp\nRss: 4 kB\nAnonymous: 0 kB\n").count(), 0);
    }

    #[test]
    fn the_program_goes_on_without_its_pages_each_time() {
        let words: Vec<String> = (0..100).map(|n| format!("word {n}")).collect();
        let mut pages = Pages::default();
        let first = pages.give_back();
        assert!(first > 100 * 1024, "this program is larger than that");
        assert_eq!(words.concat().len(), 690);
        assert_eq!(pages.give_back(), first);
        assert_eq!(words.concat().len(), 690);
    }

    #[test]
    fn a_program_of_usual_size_is_divided() {
        let smaps = || lines(File::open("/proc/self/smaps").expect("Linux"));
        // Libraries of the test: all that is not written to, and mapped.
        Pages::default().give_back();
        let divided = || clean(smaps()).filter(|(_, length)| *length <= DIVIDED_MAX).collect::<Vec<_>>();
        assert!(!divided().is_empty());
        assert!(divided().iter().all(|(_, length)| *length <= SPAN), "{:x?}", divided());
    }
}
