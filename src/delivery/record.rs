//! The tag `h.HANDLER.APP`: state, Lamport run number and hash of what was told; and who the runner is.

use core::fmt;
use core::net::IpAddr;

use crate::time::Instant;

/// A node's record of one job as its tag shows it: `S:LC:HASH8` (`interfaces`, 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub state: State,
    /// Lamport number of its last run; 0: it never ran.
    pub lc: u32,
    pub told: Told,
}

/// Whether the node can act for the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Able,
    Running,
    StoodBack,
    NotAble,
}

/// What the outside was told by a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// No run yet.
    Nothing,
    /// The run has not ended, or failed.
    Unknown,
    /// [`set_hash`] of what it told with success.
    Set(u32),
}

/// The end of the numbers: a greater one is no record, and own runs count no further. A broken peer may show this one;
/// then no run is greater than another any more, and each node goes by its own last one.
pub const LC_MAX: u32 = 4_000_000_000;

impl Record {
    /// The inverse of `Display`; `None` for anything else.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split(':');
        let (state, lc, told) = (parts.next()?, parts.next()?, parts.next()?);
        let state = State::parse(state)?;
        let lc = lc.parse().ok().filter(|&lc| lc <= LC_MAX)?;
        if parts.next().is_some() {
            return None;
        }
        Some(Self { state, lc, told: Told::parse(told)? })
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.state.letter(), self.lc, self.told)
    }
}

impl State {
    fn parse(letter: &str) -> Option<Self> {
        let all = [Self::Able, Self::Running, Self::StoodBack, Self::NotAble];
        all.into_iter().find(|state| letter.chars().eq([state.letter()]))
    }
    fn letter(self) -> char {
        match self {
            Self::Able => 'i',
            Self::Running => 'r',
            Self::StoodBack => 'f',
            Self::NotAble => 'n',
        }
    }
}

impl Told {
    /// The inverse of `Display`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "-" => Some(Self::Nothing),
            "?" => Some(Self::Unknown),
            _ if text.len() == 8 => u32::from_str_radix(text, 16).ok().map(Self::Set),
            _ => None,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => write!(f, "-"),
            Self::Unknown => write!(f, "?"),
            Self::Set(hash) => write!(f, "{hash:08x}"),
        }
    }
}

/// The record with the greatest (LC, node) that this node ever saw. It outlives its writer.
#[derive(Clone, Debug)]
pub struct Greatest {
    pub lc: u32,
    pub node: Box<str>,
    pub told: Told,
    /// When this node first saw that this was told; `resync` counts from here.
    pub seen: Instant,
}

impl Greatest {
    /// Takes a record that `node` shows, if it is greater, or the same one told anew.
    pub fn note(greatest: &mut Option<Self>, now: Instant, (lc, node, told): (u32, &str, Told)) {
        let Some(known) = greatest else {
            if lc > 0 {
                *greatest = Some(Self { lc, node: node.into(), told, seen: now });
            }
            return;
        };
        if (lc, node) < (known.lc, &*known.node) || (lc, node, told) == (known.lc, &*known.node, known.told) {
            return;
        }
        if (lc, told) != (known.lc, known.told) {
            known.seen = now;
        }
        (known.lc, known.node, known.told) = (lc, node.into(), told);
    }
}

/// FNV-1a, 32 bits (Fowler, Noll, Vo; RFC 9923), over each address in turn: the byte 4 or 6, then its
/// bytes in network order. `addrs` is sorted; addresses that follow their like do not count.
pub fn set_hash(addrs: impl Iterator<Item = IpAddr>) -> u32 {
    let mut hash = Fnv::start();
    let mut last = None;
    for addr in addrs.filter(|&addr| last.replace(addr) != Some(addr)) {
        match addr {
            IpAddr::V4(v4) => hash.write(&[4]).write(&v4.octets()),
            IpAddr::V6(v6) => hash.write(&[6]).write(&v6.octets()),
        };
    }
    hash.0
}

/// FNV-1a, 32 bits.
pub struct Fnv(u32);

impl Fnv {
    pub fn start() -> Self {
        Self(0x811c_9dc5)
    }
    pub fn write(&mut self, bytes: &[u8]) -> &mut Self {
        for &byte in bytes {
            self.0 = (self.0 ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        }
        self
    }
    /// Bytes and an end mark, so that `ab`, `c` differs from `a`, `bc`.
    pub fn field(&mut self, bytes: &[u8]) -> &mut Self {
        self.write(bytes).write(&[0xff])
    }
    pub fn hash(&self) -> u32 {
        self.0
    }
}

/// Who acts, among the running members that show the handler's tag (4.5): of those that are able or run, the one that
/// shows the greatest (LC, node), so that it stays the same one until it fails, leaves or cannot; as long as none of
/// them ever ran, the first by rendezvous hash. If there is none, the same of those that stood back.
pub fn runner<'a>(handler: &str, shown: impl Iterator<Item = (&'a str, Record)>) -> Option<&'a str> {
    let weigh = |(node, record): (&'a str, Record)| {
        let unused = if record.lc == 0 { rendezvous(handler, node) } else { 0 };
        (record.state != State::StoodBack, record.lc, unused, node)
    };
    let first = shown.filter(|(_, record)| record.state != State::NotAble).map(weigh).max();
    first.map(|(.., node)| node)
}

/// The weight of `node` for `handler` (Thaler and Ravishankar 1998: the greatest wins). FNV-1a alone
/// mixes its last bytes badly; SplitMix64's output function does the rest.
fn rendezvous(handler: &str, node: &str) -> u64 {
    let low = Fnv::start().field(handler.as_bytes()).field(node.as_bytes()).hash();
    let high = Fnv::start().field(node.as_bytes()).field(handler.as_bytes()).hash();
    crate::rng::Rng::new((u64::from(high) << 32) | u64::from(low)).next_u64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_it_was_written() {
        for text in ["i:0:-", "r:41:?", "i:41:00c0ffee", "f:7:?", "n:4000000000:deadbeef"] {
            assert_eq!(Record::parse(text).map(|r| r.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn what_is_not_a_record_is_none() {
        for text in
            ["", "i", "i:1", "x:1:?", "i:1:?:", "i:-1:?", "i:1:c0ffee", "i:4000000001:?", "i:1:zzzzzzzz"]
        {
            assert_eq!(Record::parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_hash_of_a_set_is_stable_and_tells_sets_apart() {
        let hash = |set: &[&str]| set_hash(set.iter().map(|s| s.parse().expect("an address")));
        assert_eq!(hash(&[]), 0x811c_9dc5);
        // FNV-1a of 04 c0 00 02 01, by hand: other nodes must find the same.
        assert_eq!(hash(&["192.0.2.1"]), Fnv::start().write(&[4, 192, 0, 2, 1]).hash());
        assert_ne!(hash(&["192.0.2.1"]), hash(&["192.0.2.2"]));
        assert_ne!(hash(&["192.0.2.1"]), hash(&["::ffff:192.0.2.1"]));
        assert_eq!(hash(&["192.0.2.1", "192.0.2.1"]), hash(&["192.0.2.1"]));
        assert_eq!(Fnv::start().write(b"foobar").hash(), 0xbf9c_f968, "the published test vector");
    }

    fn shown(state: State, lc: u32) -> Record {
        Record { state, lc, told: Told::Nothing }
    }

    #[test]
    fn before_the_first_run_the_runner_is_the_same_for_everybody_and_moves_only_if_it_goes() {
        use State::{Able, NotAble, Running, StoodBack};
        let all = [("fra1", Able), ("par1", Able), ("nyc1", Running)].map(|(n, s)| (n, shown(s, 0)));
        let first = runner("dns", all.into_iter()).expect("a runner");
        assert_eq!(runner("dns", all.into_iter().rev()), Some(first));
        let without_another = all.into_iter().filter(|(n, _)| *n == first || *n == "fra1");
        assert_eq!(runner("dns", without_another), Some(first));
        for gone in [StoodBack, NotAble] {
            let rest = all.map(|(n, r)| (n, if n == first { shown(gone, 0) } else { r }));
            assert_ne!(runner("dns", rest.into_iter()), Some(first));
        }
        assert!(runner("dns", all.map(|(n, _)| (n, shown(StoodBack, 0))).into_iter()).is_some());
        assert_eq!(runner("dns", all.map(|(n, _)| (n, shown(NotAble, 0))).into_iter()), None);
    }

    #[test]
    fn the_greatest_record_shown_by_one_that_can_makes_the_runner() {
        use State::{Able, NotAble, Running, StoodBack};
        for (all, first) in [
            ([("fra1", Able, 3), ("nyc1", Able, 7), ("par1", Able, 0)], "nyc1"),
            ([("fra1", Running, 3), ("nyc1", NotAble, 7), ("par1", Able, 0)], "fra1"),
            ([("fra1", Able, 3), ("nyc1", StoodBack, 7), ("par1", Able, 4)], "par1"),
            ([("fra1", Able, 7), ("nyc1", Able, 7), ("par1", Able, 6)], "nyc1"),
            ([("fra1", StoodBack, 8), ("nyc1", StoodBack, 7), ("par1", NotAble, 9)], "fra1"),
        ] {
            let all = all.map(|(node, state, lc)| (node, shown(state, lc)));
            assert_eq!(runner("dns", all.into_iter()), Some(first), "{all:?}");
        }
    }

    #[test]
    fn different_handlers_have_different_runners() {
        let names: Vec<String> = (0..8).map(|n| format!("n{n}")).collect();
        let all = || names.iter().map(|n| (n.as_str(), shown(State::Able, 0)));
        let mut runners: Vec<&str> = (0..64).filter_map(|h| runner(&format!("h{h}"), all())).collect();
        runners.sort_unstable();
        runners.dedup();
        assert!(runners.len() >= 7, "{runners:?}");
    }
}
