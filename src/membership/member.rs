//! One member, and the table of them: sorted by name, which is the identity, with the probe order beside it.

use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::rc::Rc;

use super::suspicion::Suspicion;
use crate::rng::Rng;
use crate::time::Instant;
use crate::wire::Claim;
use crate::wire::stream::WireState;

/// A member's state (memberlist's names; people see [`State::as_str`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Alive,
    Suspect,
    /// Shown as `failed`.
    Dead,
    Left,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "failed",
            Self::Left => "left",
        }
    }

    /// Alive or suspect: as far as is known, it runs.
    pub fn is_running(self) -> bool {
        matches!(self, Self::Alive | Self::Suspect)
    }
}

/// The one that had a member's name before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Former {
    /// When the name was taken over.
    pub since: Instant,
    /// Its last incarnation.
    pub incarnation: u32,
    /// The last incarnation that the present owner of the name has announced itself.
    pub successor: u32,
}

/// What is known of a member.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: Rc<str>,
    /// Where it is reached.
    pub addr: SocketAddr,
    /// It says its IPv4 address in the 16-byte mapped form, and its address is passed on so
    /// (protocol page, 3.7, the verbatim rule).
    pub(super) mapped: bool,
    pub incarnation: u32,
    /// The incarnation of its own announcement that `meta` is of. What others claim of it raises only the other one.
    pub(super) told: u32,
    pub state: State,
    /// Since when it is in that state.
    pub since: Instant,
    /// Something of it was heard since this node started: it is not only remembered from the state file.
    pub heard: bool,
    /// When it came back from failed; `None`: it never was, as far as is known.
    pub returned: Option<Instant>,
    /// How this node knows that it is in its state.
    pub(super) source: Source,
    /// The system refused to send the last datagram to it.
    pub(super) unsendable: bool,
    /// Serf-format tags ([`crate::wire::serf::tags`]).
    pub meta: Box<[u8]>,
    pub vsn: [u8; 6],
    /// It is reached by TCP or by way of others, but its UDP pings go unanswered.
    pub udp_blocked: bool,
    /// Probes in a row that say otherwise than `udp_blocked`.
    pub(super) udp_doubts: u8,
    /// Who had the name before, if another address took it over.
    pub(super) former: Option<Former>,
    /// While suspect.
    pub(super) suspicion: Option<Box<Suspicion>>,
    /// Serf's Lamport time of the last intent about it.
    pub(super) intent_ltime: u64,
    /// That intent was to leave.
    pub(super) intent_leaves: bool,
    /// When that was heard. `None` also once it said something since: then it does not leave after all.
    pub(super) leave_heard: Option<Instant>,
    /// It left by its own memberlist goodbye. Who is left by Serf's intent alone is dead to memberlist, which lets a
    /// member refute that.
    pub(super) said_goodbye: bool,
    /// When it was last asked, out of turn, whether it is alive after all.
    pub(super) asked_at: Option<Instant>,
}

/// How something is known of a member, which says whether it is passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Something of it was heard, or was not heard any more.
    Own,
    /// It ran when the state file was written, and nothing of it was heard since.
    File,
    /// By another's word only.
    Word,
}

impl Member {
    /// A member that is alive since `now`, with its first incarnation and nothing known of it but its address.
    pub fn new(name: &str, addr: SocketAddr, now: Instant) -> Self {
        Self {
            name: name.into(),
            addr,
            mapped: false,
            incarnation: 1,
            told: 0,
            state: State::Alive,
            since: now,
            heard: true,
            returned: None,
            source: Source::Own,
            unsendable: false,
            meta: [].into(),
            vsn: [0; 6],
            udp_blocked: false,
            udp_doubts: 0,
            former: None,
            suspicion: None,
            intent_ltime: 0,
            intent_leaves: false,
            leave_heard: None,
            said_goodbye: false,
            asked_at: None,
        }
    }

    /// Whether `addr` and `port` say the same address in the same bytes as this member's own.
    pub(super) fn has_address(&self, addr: &AddrBytes, port: u16) -> bool {
        self.addr.port() == port && AddrBytes::new(self.addr.ip(), self.mapped).as_slice() == addr.as_slice()
    }

    /// The address bytes as they go over the wire.
    pub(super) fn addr_bytes(&self) -> AddrBytes {
        AddrBytes::new(self.addr.ip(), self.mapped)
    }

    /// Whether `claim` may be about the one that had this name before, of which there may still be news. A goodbye
    /// is its own, not the present one's, if it names an incarnation that the present one has not reached.
    pub(super) fn may_mean_former(&self, now: Instant, claim: &Claim<'_>, dead_time: Duration) -> bool {
        self.former.is_some_and(|former| {
            let is_recent = now.since(former.since) <= dead_time;
            let is_goodbye = claim.from == claim.node;
            is_recent
                && claim.incarnation <= former.incarnation
                && (!is_goodbye || claim.incarnation > former.successor)
        })
    }

    /// Its state in memberlist's terms.
    pub(super) fn wire_state(&self) -> WireState {
        match self.state {
            State::Alive => WireState::Alive,
            State::Suspect => WireState::Suspect,
            State::Left if self.said_goodbye => WireState::Left,
            State::Dead | State::Left => WireState::Dead,
        }
    }

    /// memberlist would still have it in its table: running, or gone for less than `dead_time`.
    pub(super) fn is_current(&self, now: Instant, dead_time: Duration) -> bool {
        self.state.is_running() || now.since(self.since) <= dead_time
    }
}

/// An address in the protocol's form: 4 bytes, or 16 (IPv6, or IPv4 mapped into it).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddrBytes {
    bytes: [u8; 16],
    len: u8,
}

impl AddrBytes {
    pub fn new(ip: IpAddr, mapped: bool) -> Self {
        let mut bytes = [0; 16];
        let len = match ip {
            IpAddr::V4(v4) if !mapped => {
                bytes[..4].copy_from_slice(&v4.octets());
                4
            }
            IpAddr::V4(v4) => {
                bytes = v4.to_ipv6_mapped().octets();
                16
            }
            IpAddr::V6(v6) => {
                bytes = v6.octets();
                16
            }
        };
        Self { bytes, len }
    }

    /// Reads received bytes; `None` if they are neither 4 nor 16.
    pub fn parse(received: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        let len = received.len();
        if len != 4 && len != 16 {
            return None;
        }
        bytes[..len].copy_from_slice(received);
        Some(Self { bytes, len: len as u8 })
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// The address to open a socket to: mapped IPv4 becomes IPv4.
    pub fn ip(&self) -> IpAddr {
        match self.len {
            4 => Ipv4Addr::new(self.bytes[0], self.bytes[1], self.bytes[2], self.bytes[3]).into(),
            _ => IpAddr::from(self.bytes).to_canonical(),
        }
    }

    /// 16 bytes that hold an IPv4 address.
    pub fn is_mapped(&self) -> bool {
        self.len == 16 && self.ip().is_ipv4()
    }
}

/// All members, this node among them.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Sorted by name.
    members: Vec<Member>,
    /// The probe order: a permutation of the indexes of `members`.
    ring: Vec<u16>,
    /// The place in `ring` of the next probe.
    next: usize,
}

impl Table {
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn members_mut(&mut self) -> &mut [Member] {
        &mut self.members
    }

    pub fn get(&self, name: &str) -> Option<&Member> {
        self.position(name).ok().map(|i| &self.members[i])
    }

    pub fn get_mut(&mut self, name: &str) -> Option<&mut Member> {
        self.position(name).ok().map(|i| &mut self.members[i])
    }

    /// The member at `addr` that is known to run, and not only remembered, if there is one.
    pub fn running_at(&self, addr: SocketAddr) -> Option<&Member> {
        self.members.iter().find(|m| m.addr == addr && m.state.is_running() && m.heard)
    }

    /// Adds a member that is not there yet, at a random place of the probe order (SWIM, 4.3).
    pub fn insert(&mut self, member: Member, rng: &mut Rng) {
        let Err(at) = self.position(&member.name) else { return };
        self.members.insert(at, member);
        for index in &mut self.ring {
            if usize::from(*index) >= at {
                *index += 1;
            }
        }
        self.ring.push(at as u16);
        let last = self.ring.len() - 1;
        self.ring.swap(rng.below(last + 1), last);
    }

    /// Removes the members for which `gone` says so and returns their names.
    pub fn remove_if(&mut self, mut gone: impl FnMut(&Member) -> bool) -> Vec<Rc<str>> {
        let mut names = Vec::new();
        for at in (0..self.members.len()).rev() {
            if gone(&self.members[at]) {
                names.push(self.members.remove(at).name);
                self.ring.retain(|i| usize::from(*i) != at);
                for index in &mut self.ring {
                    if usize::from(*index) > at {
                        *index -= 1;
                    }
                }
            }
        }
        self.next = self.next.min(self.ring.len());
        names
    }

    /// The next one to probe for which `wanted` says so. At the end of the order, which is then shuffled
    /// anew, `wrapped` is true and the walk goes on from the start, once.
    pub fn next_to_probe(
        &mut self,
        rng: &mut Rng,
        wanted: impl Fn(&Member) -> bool,
    ) -> (Option<usize>, bool) {
        let mut wrapped = false;
        for _ in 0..self.ring.len() {
            if self.next >= self.ring.len() {
                if wrapped {
                    break;
                }
                rng.shuffle(&mut self.ring);
                self.next = 0;
                wrapped = true;
            }
            let at = usize::from(self.ring[self.next]);
            self.next += 1;
            if wanted(&self.members[at]) {
                return (Some(at), wrapped);
            }
        }
        (None, wrapped)
    }

    /// Up to `count` different random members for which `wanted` says so.
    pub fn pick(&self, rng: &mut Rng, count: usize, wanted: impl Fn(&Member) -> bool) -> Vec<&Member> {
        let mut candidates: Vec<&Member> = self.members.iter().filter(|m| wanted(m)).collect();
        let count = count.min(candidates.len());
        for i in 0..count {
            let j = i + rng.below(candidates.len() - i);
            candidates.swap(i, j);
        }
        candidates.truncate(count);
        candidates
    }

    fn position(&self, name: &str) -> Result<usize, usize> {
        self.members.binary_search_by(|m| (*m.name).cmp(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str) -> Member {
        Member::new(name, SocketAddr::from(([127, 0, 0, 1], 7946)), Instant::ZERO)
    }

    fn table(names: &[&str]) -> (Table, Rng) {
        let (mut table, mut rng) = (Table::default(), Rng::new(1));
        for name in names {
            table.insert(member(name), &mut rng);
        }
        (table, rng)
    }

    #[test]
    fn one_round_of_probes_meets_every_member_once() {
        let names = ["e", "b", "a", "d", "c"];
        let (mut table, mut rng) = table(&names);
        table.next = table.ring.len();
        for _ in 0..20 {
            let mut met: Vec<usize> =
                (0..5).filter_map(|_| table.next_to_probe(&mut rng, |_| true).0).collect();
            met.sort_unstable();
            assert_eq!(met, [0, 1, 2, 3, 4]);
        }
    }

    #[test]
    fn removing_members_keeps_the_order_a_permutation() {
        let (mut table, mut rng) = table(&["a", "b", "c", "d", "e", "f"]);
        let gone = table.remove_if(|m| ["b", "e"].contains(&&*m.name));
        assert_eq!(gone, ["e".into(), Rc::<str>::from("b")]);
        let mut ring = table.ring.clone();
        ring.sort_unstable();
        assert_eq!(ring, [0, 1, 2, 3]);
        table.insert(member("bb"), &mut rng);
        assert_eq!(table.get("bb").map(|m| &*m.name), Some("bb"));
        assert!(table.get("b").is_none());
    }

    #[test]
    fn a_walk_with_nobody_wanted_ends() {
        let (mut table, mut rng) = table(&["a", "b"]);
        assert_eq!(table.next_to_probe(&mut rng, |_| false).0, None);
        assert_eq!(Table::default().next_to_probe(&mut rng, |_| true), (None, false));
    }

    #[test]
    fn a_pick_has_no_member_twice() {
        let (table, mut rng) = table(&["a", "b", "c", "d"]);
        for count in 0..6 {
            let mut names: Vec<_> =
                table.pick(&mut rng, count, |m| &*m.name != "d").iter().map(|m| &m.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), count.min(3));
        }
    }

    #[test]
    fn mapped_and_plain_ipv4_are_one_address_but_other_bytes() {
        let plain = AddrBytes::parse(&[127, 0, 0, 2]).expect("4 bytes");
        let mapped = AddrBytes::new(plain.ip(), true);
        assert_eq!(mapped.as_slice().len(), 16);
        assert_eq!(mapped.ip(), plain.ip());
        assert_ne!(mapped.as_slice(), plain.as_slice());
        assert!(mapped.is_mapped() && !plain.is_mapped());
        assert_eq!(AddrBytes::parse(&[1, 2, 3]), None);
    }
}
