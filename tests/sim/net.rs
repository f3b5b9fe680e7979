//! The network: which datagrams arrive, when and how often; streams that carry bytes in order, late or
//! not at all. Nodes are known here by their index.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use picored::membership::StreamId;
use picored::rng::Rng;
use picored::time::Instant;

use crate::{millis, secs};

/// The largest UDP payload over IPv4.
pub const DATAGRAM_MAX: usize = 65_507;
/// A TCP segment's retransmissions end here; later ones would come after every timeout anyway.
const RETRANSMISSIONS_MAX: u32 = 5;

/// What the public and the witnesses are to a link: everybody else.
pub const INTERNET: usize = usize::MAX - 1;

/// How all links behave.
#[derive(Clone, Debug)]
pub struct Link {
    /// One way.
    pub delay: Duration,
    /// Added at random.
    pub jitter: Duration,
    /// Part of the datagrams that is lost, 0 to 1. Streams get slower by it, as TCP does.
    pub loss: f64,
    /// Part of the datagrams that comes twice.
    pub duplicates: f64,
    /// Part of the datagrams that is held up by as much as [`Link::held_up`], so that later ones overtake.
    pub reordered: f64,
    pub held_up: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: millis(2),
            jitter: millis(8),
            loss: 0.0,
            duplicates: 0.0,
            reordered: 0.0,
            held_up: millis(400),
        }
    }
}

/// What travels on a stream.
#[derive(Clone, Debug)]
pub enum Segment {
    /// The opener asks; handled by the other machine's kernel.
    Syn,
    /// That kernel's answer.
    Established,
    Data(Vec<u8>),
    /// The end, with the reason; empty: the other side closed its direction.
    End(&'static str),
}

/// One end of a stream: a process (`life` tells a restarted one apart) and its number for the stream.
#[derive(Clone, Debug)]
pub struct End {
    pub node: usize,
    pub life: u32,
    pub id: StreamId,
    /// Not accepted yet, closed by its process, or its process is gone.
    pub gone: bool,
}

pub struct Stream {
    /// The opener, then the acceptor.
    pub ends: [End; 2],
    pub to: SocketAddr,
    /// When the last segment towards each end arrives: none overtakes it.
    last: [Instant; 2],
    /// A segment met a cut: nothing arrives any more, and nobody is told.
    broken: bool,
}

pub struct Net {
    pub link: Link,
    /// Directed: datagrams from the first to the second vanish.
    cuts: BTreeSet<(usize, usize)>,
    /// As cuts, but of gossip alone: a firewall in front of its port.
    blocked: BTreeSet<(usize, usize)>,
    pub streams: BTreeMap<u64, Stream>,
    streams_made: u64,
    rng: Rng,
    pub datagrams: u64,
    pub bytes: u64,
}

impl Net {
    pub fn new(seed: u64) -> Self {
        Self {
            link: Link::default(),
            cuts: BTreeSet::new(),
            blocked: BTreeSet::new(),
            streams: BTreeMap::new(),
            streams_made: 0,
            rng: Rng::new(seed),
            datagrams: 0,
            bytes: 0,
        }
    }

    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.cuts.insert((from, to));
    }

    pub fn heal_one_way(&mut self, from: usize, to: usize) {
        self.cuts.remove(&(from, to));
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
        self.blocked.clear();
    }

    pub fn block_gossip(&mut self, from: usize, to: usize) {
        self.blocked.insert((from, to));
    }

    /// For everything.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.cuts.contains(&(from, to))
    }

    /// For gossip.
    fn is_shut(&self, from: usize, to: usize) -> bool {
        self.is_cut(from, to) || self.blocked.contains(&(from, to))
    }

    /// Nothing is cut or blocked anywhere, and little is lost.
    pub fn is_whole(&self) -> bool {
        self.cuts.is_empty() && self.blocked.is_empty() && self.link.loss < 0.1
    }

    /// When copies of a datagram that is sent now arrive: none, one or two times.
    pub fn datagram(&mut self, now: Instant, from: usize, to: usize, len: usize) -> [Option<Instant>; 2] {
        self.datagrams += 1;
        self.bytes += len as u64;
        if len > DATAGRAM_MAX || self.is_shut(from, to) || self.chance(self.link.loss) {
            return [None; 2];
        }
        let second = self.chance(self.link.duplicates).then(|| now + self.delay(true));
        [Some(now + self.delay(true)), second]
    }

    fn delay(&mut self, may_be_held_up: bool) -> Duration {
        let mut delay = self.link.delay + self.rng.duration_below(self.link.jitter);
        if may_be_held_up && self.chance(self.link.reordered) {
            delay += self.rng.duration_below(self.link.held_up);
        }
        delay
    }

    /// Draws nothing where there is nothing to decide: a quiet network is cheap and its trace stable.
    fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.rng.chance(probability)
    }

    /// A new stream; the acceptor's end is filled in by [`Net::accepted`].
    pub fn open(&mut self, opener: End, to: SocketAddr) -> u64 {
        let unknown = End { node: usize::MAX, life: 0, id: 0, gone: true };
        self.streams_made += 1;
        let stream = Stream { ends: [opener, unknown], to, last: [Instant::ZERO; 2], broken: false };
        self.streams.insert(self.streams_made, stream);
        self.streams_made
    }

    pub fn accepted(&mut self, number: u64, acceptor: End) {
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.ends[1] = acceptor;
        }
    }

    /// The stream and the end (0 or 1) that this process knows by `id`.
    pub fn find(&self, node: usize, life: u32, id: StreamId) -> Option<(u64, usize)> {
        self.streams.iter().find_map(|(&number, stream)| {
            let is_it = |end: &End| !end.gone && end.node == node && end.life == life && end.id == id;
            stream.ends.iter().position(is_it).map(|end| (number, end))
        })
    }

    /// When a segment that `from` sends now towards the end `towards` arrives; `None`: never.
    pub fn segment(
        &mut self,
        now: Instant,
        number: u64,
        from: usize,
        to: usize,
        towards: usize,
        segment: &Segment,
    ) -> Option<Instant> {
        let cut = self.is_shut(from, to) || self.is_shut(to, from);
        let stream = self.streams.get_mut(&number)?;
        stream.broken |= cut;
        if stream.broken {
            return None;
        }
        let mut delay = self.delay(false);
        // RFC 6298: the first retransmission of a SYN comes after 1 s, of data after 200 ms on Linux.
        let first =
            if matches!(segment, Segment::Syn | Segment::Established) { secs(1) } else { millis(200) };
        for attempt in 0..RETRANSMISSIONS_MAX {
            if !self.chance(self.link.loss) {
                break;
            }
            delay += first * 2u32.pow(attempt);
        }
        let stream = self.streams.get_mut(&number)?;
        let at = (now + delay).max(stream.last[towards]);
        stream.last[towards] = at;
        Some(at)
    }

    /// Bytes in the pieces in which they arrive.
    pub fn chunks(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        if bytes.len() < 2 || self.rng.chance(0.5) {
            return vec![bytes];
        }
        let (head, tail) = bytes.split_at(1 + self.rng.below(bytes.len() - 1));
        vec![head.to_vec(), tail.to_vec()]
    }

    /// This end sends and hears no more. When both are gone the stream is forgotten.
    pub fn close_end(&mut self, number: u64, end: usize) {
        let Some(stream) = self.streams.get_mut(&number) else { return };
        stream.ends[end].gone = true;
        // An acceptor that is still to come (its SYN is under way) has no node yet.
        if stream.ends.iter().all(|end| end.gone) {
            self.streams.remove(&number);
        }
    }

    /// The ends that a process has.
    pub fn ends_of(&self, node: usize, life: u32) -> Vec<(u64, usize)> {
        let mut found = Vec::new();
        for (&number, stream) in &self.streams {
            for (index, end) in stream.ends.iter().enumerate() {
                if !end.gone && end.node == node && end.life == life {
                    found.push((number, index));
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(net: &mut Net) -> u64 {
        let end = |node| End { node, life: 1, id: 7, gone: false };
        let number = net.open(end(0), crate::settings::first_address(1));
        net.accepted(number, end(1));
        number
    }

    #[test]
    fn a_whole_link_delivers_once_and_a_cut_one_never() {
        let mut net = Net::new(1);
        net.cut_one_way(0, 1);
        for _ in 0..100 {
            assert!(matches!(net.datagram(Instant::ZERO, 1, 0, 100), [Some(_), None]));
            assert_eq!(net.datagram(Instant::ZERO, 0, 1, 100), [None; 2]);
        }
        assert_eq!(net.datagram(Instant::ZERO, 1, 0, DATAGRAM_MAX + 1), [None; 2]);
    }

    #[test]
    fn loss_and_duplication_are_as_often_as_asked_for() {
        let mut net = Net::new(1);
        (net.link.loss, net.link.duplicates) = (0.25, 0.5);
        let sent: Vec<_> = (0..10_000).map(|_| net.datagram(Instant::ZERO, 0, 1, 100)).collect();
        let lost = sent.iter().filter(|copies| copies[0].is_none()).count();
        let twice = sent.iter().filter(|copies| copies[1].is_some()).count();
        assert!((2_300..2_700).contains(&lost) && (3_500..4_000).contains(&twice), "{lost} {twice}");
    }

    #[test]
    fn on_a_stream_nothing_overtakes_and_nothing_passes_after_a_cut() {
        let mut net = Net::new(1);
        net.link.loss = 0.3;
        let number = stream(&mut net);
        let mut last = Instant::ZERO;
        for _ in 0..1_000 {
            let data = Segment::Data(vec![1]);
            let at = net.segment(Instant::ZERO, number, 0, 1, 1, &data).expect("the link is whole");
            assert!(at >= last);
            last = at;
        }
        net.cut_one_way(1, 0);
        assert_eq!(net.segment(Instant::ZERO, number, 0, 1, 1, &Segment::End("")), None);
        net.heal();
        assert_eq!(net.segment(Instant::ZERO, number, 0, 1, 1, &Segment::End("")), None);
    }

    #[test]
    fn a_stream_is_forgotten_when_both_ends_are_closed() {
        let mut net = Net::new(1);
        let number = stream(&mut net);
        assert_eq!(net.find(1, 1, 7), Some((number, 1)));
        assert_eq!(net.find(1, 2, 7), None, "another life of the process");
        net.close_end(number, 0);
        assert_eq!(net.ends_of(1, 1), [(number, 1)]);
        net.close_end(number, 1);
        assert!(net.streams.is_empty());
    }
}
