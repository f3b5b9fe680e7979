//! What membership must know after a restart (`interfaces`, section 6), and what it knows at second hand: from the
//! state file, or by the word of a peer.

use core::net::SocketAddr;
use core::time::Duration;
use std::rc::Rc;

use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

use super::join::JoinEntry;
use super::member::{AddrBytes, Source};
use super::rules::{TOMBSTONE_TIME, Tombstone};
use super::sync::Cause;
use super::{Event, Member, Membership, State};
use crate::limits;
use crate::saved::{Part, Read, number_of};
use crate::time::{Date, Instant};
use crate::wire::stream::NodeState;
use crate::wire::{Alive, base64};

/// Members of the state file that are talked to at once at the start. One that answers tells of all others.
const REJOINS_AT_ONCE: usize = 2;

/// By so much the file's own date may be older than what it says: so often it is written at least.
pub const STAMP: Duration = Duration::from_secs(3_600);

/// Own incarnation, members with addresses and tags, forgotten names.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Saved {
    /// This node's; 0: unknown.
    pub incarnation: u32,
    /// Unix time, in whole [`STAMP`]s: all this was so then, or a little later. 0: unknown.
    at: u64,
    members: Vec<SavedMember>,
    forgotten: Vec<Forgotten>,
}

/// A member but this node itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct SavedMember {
    name: Box<str>,
    addr: SocketAddr,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    mapped: bool,
    incarnation: u32,
    state: SavedState,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    said_goodbye: bool,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    hearsay: bool,
    /// Unix time.
    since: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    returned: Option<u64>,
    /// Tags as they go over the wire, in Base64.
    tags: String,
    vsn: [u8; 6],
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum SavedState {
    /// Suspects too: a suspicion does not outlive its observer.
    Alive,
    Failed,
    Left,
}

/// A forgotten member.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Forgotten {
    name: Box<str>,
    addr: SocketAddr,
    incarnation: u32,
    /// Unix time.
    until: u64,
}

/// What speaks against this node itself (`interfaces`, section 5, gate 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Lifeguard's health score.
    pub score: u32,
    /// Other running members, and to how many of them the system refused to send last.
    pub others: usize,
    pub unsendable: usize,
    /// Probe rounds begun since the start, each with the end of the one before.
    pub rounds: u64,
}

/// What becomes a [`Saved`] in the file: written member by member, so that of a thousand no second table is made.
pub struct Saving<'a> {
    membership: &'a Membership,
    now: Instant,
    date: Date,
}

impl Serialize for Saving<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self { membership, now, date } = *self;
        let others = membership.table.members().iter().filter(|m| m.name != membership.config.node);
        let graves =
            membership.tombstones.iter().filter(|tombstone| now < tombstone.until && !tombstone.answered);
        let mut saved = serializer.serialize_struct("Saved", 4)?;
        saved.serialize_field("incarnation", &membership.me().incarnation)?;
        saved.serialize_field("at", &stamp(date.unix(now)))?;
        saved.serialize_field("members", &Each(|| others.clone().map(|m| SavedMember::new(m, date))))?;
        saved.serialize_field(
            "forgotten",
            &Each(|| graves.clone().map(|grave| Forgotten::new(grave, date))),
        )?;
        saved.end()
    }
}

/// A list of which each is made when it is written.
struct Each<F>(F);

impl<F: Fn() -> I, I: Iterator<Item: Serialize>> Serialize for Each<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((self.0)())
    }
}

impl Saved {
    pub fn read(part: Part<'_>) -> Read<Self> {
        Ok(Self {
            incarnation: part.maybe_count("incarnation")?.unwrap_or_default(),
            at: part.maybe_number("at")?.unwrap_or_default(),
            members: part.list("members", SavedMember::read)?,
            forgotten: part.list("forgotten", Forgotten::read)?,
        })
    }
}

impl SavedMember {
    fn read(part: Part<'_>) -> Read<Self> {
        let mut vsn = [0; 6];
        let versions = part.values("vsn")?;
        if versions.len() != vsn.len() {
            return Err("vsn: is six numbers".into());
        }
        for (number, value) in vsn.iter_mut().zip(versions) {
            *number = number_of("vsn", value, u8::MAX.into())? as u8;
        }
        let state = match part.text("state")? {
            "alive" => SavedState::Alive,
            "failed" => SavedState::Failed,
            "left" => SavedState::Left,
            other => return Err(format!("state: cannot be {other:?}")),
        };
        Ok(Self {
            name: part.text("name")?.into(),
            addr: part.parsed("addr")?,
            mapped: part.flag("mapped")?,
            incarnation: part.count("incarnation")?,
            state,
            said_goodbye: part.flag("said_goodbye")?,
            hearsay: part.flag("hearsay")?,
            since: part.number("since")?,
            returned: part.maybe_number("returned")?,
            tags: part.text("tags")?.into(),
            vsn,
        })
    }
}

impl Forgotten {
    fn read(part: Part<'_>) -> Read<Self> {
        Ok(Self {
            name: part.text("name")?.into(),
            addr: part.parsed("addr")?,
            incarnation: part.count("incarnation")?,
            until: part.number("until")?,
        })
    }
}

impl Membership {
    /// What a restart must not forget. `date`: for what has an age.
    pub fn saved(&self, now: Instant, date: Date) -> Saving<'_> {
        Saving { membership: self, now, date }
    }

    /// Takes up what was saved; right after [`Membership::new`]. Who was running then is taken to run, but counts as
    /// not heard; each is tried as if it stood in `join`. What makes no sense, or the configuration refuses by now, is
    /// left out.
    pub fn restore(&mut self, now: Instant, date: Date, saved: Saved) {
        self.begin_input(now);
        if saved.incarnation > 0 {
            // Others may know us with the one that was saved.
            self.me_mut().incarnation = saved.incarnation.saturating_add(1);
            self.broadcast_own_alive();
        }
        self.file_counts_until = file_counts_until(now, date, saved.at);
        for forgotten in saved.forgotten.into_iter().take(limits::TOMBSTONES_MAX) {
            if let Some(tombstone) = forgotten.tombstone(now, date) {
                self.add_tombstone(now, tombstone);
            }
        }
        for member in saved.members.into_iter().take(limits::MEMBERS_MAX - 1) {
            self.restore_member(now, date, &member);
        }
        self.rng.shuffle(&mut self.rejoins);
        for _ in 0..REJOINS_AT_ONCE {
            self.rejoin_next(now);
        }
        self.changed = true;
        self.finish_input(now);
    }

    fn restore_member(&mut self, now: Instant, date: Date, saved: &SavedMember) {
        let Some(meta) = base64::decode(&saved.tags) else { return };
        let addr = AddrBytes::new(saved.addr.ip(), saved.mapped);
        let alive = Alive {
            node: &saved.name,
            addr: addr.as_slice(),
            port: saved.addr.port(),
            incarnation: saved.incarnation,
            meta: &meta,
            vsn: &saved.vsn,
        };
        let Some(mut member) = self.remembered(now, &alive) else { return };
        member.state = match saved.state {
            SavedState::Alive => State::Alive,
            SavedState::Failed => State::Dead,
            SavedState::Left => State::Left,
        };
        member.since = date.past(saved.since);
        member.returned = saved.returned.map(|unix| date.past(unix));
        member.said_goodbye = saved.said_goodbye;
        // What was true of the running may not be any more; who had failed when we saw it, had.
        member.source = match saved.hearsay {
            true => Source::Word,
            false if member.state == State::Alive => Source::File,
            false => Source::Own,
        };
        if member.state == State::Alive && !self.joins.iter().any(|join| join.is_at(member.addr)) {
            self.rejoins.push(member.addr);
        }
        self.table.insert(member, &mut self.rng);
    }

    /// A member that is known at second hand; `None`: it is known already, or cannot be one.
    fn remembered(&mut self, now: Instant, alive: &Alive<'_>) -> Option<Member> {
        if alive.incarnation == 0 || self.table.get(alive.node).is_some() {
            return None;
        }
        let (addr, port) = self.check_alive(alive)?;
        let mut member = Member::new(alive.node, SocketAddr::new(addr.ip(), port), now);
        member.mapped = addr.is_mapped();
        (member.incarnation, member.told) = (alive.incarnation, alive.incarnation);
        (member.heard, member.source) = (false, Source::Word);
        member.meta = alive.meta.into();
        member.vsn = alive.vsn.try_into().unwrap_or_default();
        Some(member)
    }

    /// Talks to the next member of the state file of which nothing was heard yet.
    pub(super) fn rejoin_next(&mut self, now: Instant) {
        if self.leaving.is_some() {
            return;
        }
        while let Some(to) = self.rejoins.pop() {
            let is_silent = |m: &Member| m.addr == to && !m.heard && m.state.is_running();
            if self.table.members().iter().any(is_silent) {
                self.push_pull(now, to, Cause::Remembered);
                return;
            }
        }
    }

    /// It is there, and not only remembered.
    pub(super) fn hear(&mut self, node: &str) {
        let Some(member) = self.table.get_mut(node) else { return };
        if member.heard || !member.state.is_running() {
            return;
        }
        (member.heard, member.source) = (true, Source::Own);
        self.changed = true;
        self.events.push_back(Event::Joined { node: node.into(), returned: false });
    }

    /// A peer reports a failed member that nobody knows here. memberlist ignores it; here whoever takes an address away
    /// must know whose it was (`interfaces`, section 5). Not if it was forgotten lately.
    pub(super) fn take_over_failed(&mut self, now: Instant, node: &NodeState<'_>) {
        self.take_last_tags(node);
        if self.is_forgotten(now, node.name) || self.table.members().len() >= limits::MEMBERS_MAX {
            return;
        }
        let NodeState { name, addr, port, incarnation, meta, vsn, .. } = *node;
        let alive = Alive { node: name, addr, port, incarnation, meta, vsn };
        let Some(mut member) = self.remembered(now, &alive) else { return };
        member.state = State::Dead;
        if let Some(intent) = self.serf.take_buffered(now, name) {
            (member.intent_ltime, member.intent_leaves) = (intent.ltime, intent.leaves);
            if intent.leaves {
                member.state = State::Left; // as Serf sees it: it had said that it leaves
            }
        }
        let has_failed = member.state == State::Dead;
        self.table.insert(member, &mut self.rng);
        if has_failed {
            self.events.push_back(Event::FoundFailed { node: name.into() });
        }
    }

    /// What a failed member said last may have reached the peer alone, say that it is in maintenance: all must count it
    /// alike. memberlist leaves the two tables as they are.
    fn take_last_tags(&mut self, node: &NodeState<'_>) {
        let Some(member) = self.table.get_mut(node.name) else { return };
        let is_same = AddrBytes::parse(node.addr).is_some_and(|addr| member.has_address(&addr, node.port));
        let is_news = node.incarnation > member.told && *node.meta != *member.meta;
        if member.state != State::Dead || !is_same || !is_news || node.meta.len() > limits::META_MAX {
            return;
        }
        member.meta = node.meta.into();
        (member.told, member.incarnation) = (node.incarnation, member.incarnation.max(node.incarnation));
        self.changed = true;
        self.events.push_back(Event::LastTags { node: node.name.into() });
    }

    /// A peer's table has an entry for this node. Another one of our name that runs elsewhere is not meant.
    pub(super) fn see_own_tags(&mut self, node: &NodeState<'_>) {
        let me = self.me();
        let is_here = AddrBytes::parse(node.addr).is_some_and(|addr| me.has_address(&addr, node.port));
        let is_gone = node.state != crate::wire::stream::WireState::Alive;
        if (is_here || is_gone) && *node.meta != *me.meta && node.meta.len() <= limits::META_MAX {
            self.events.push_back(Event::OwnSeen { meta: node.meta.into() });
        }
    }

    /// Failed members with these names are not forgotten when their time is over; a person may still say so.
    pub fn set_kept(&mut self, names: Vec<Rc<str>>) {
        self.kept = names;
    }

    /// Whether others are told of it. By another's word only, it would be remembered for ever because everybody was told
    /// by the other. Who ran when the state file was written and has failed since may have been forgotten meanwhile: it
    /// is told of as long as whoever forgot it still knows that.
    pub(super) fn is_passed_on(&self, now: Instant, member: &Member) -> bool {
        match member.source {
            Source::Own => true,
            Source::File => {
                member.state == State::Dead && self.file_counts_until.is_some_and(|until| now < until)
            }
            Source::Word => false,
        }
    }

    /// A datagram goes to `to`, or could not go.
    pub(super) fn note_sent(&mut self, to: SocketAddr, sent: bool) {
        for member in self.table.members_mut().iter_mut().filter(|m| m.addr == to) {
            member.unsendable = !sent;
        }
    }

    pub fn evidence(&self, _now: Instant) -> Evidence {
        let others = || {
            let is_other = |m: &&Member| m.state.is_running() && m.name != self.config.node;
            self.table.members().iter().filter(is_other)
        };
        Evidence {
            score: self.health_score(),
            others: others().count(),
            unsendable: others().filter(|m| m.unsendable).count(),
            rounds: self.rounds,
        }
    }

    /// The configured join entries that are not this node itself, each with the member that is there, if that is
    /// known. Left out is one that was reached and whose member advertises another address: that member is in the
    /// table under its own name.
    pub fn join_entries(&self) -> impl Iterator<Item = JoinEntry<'_>> {
        self.joins.iter().filter_map(super::join::Join::entry)
    }

    /// Whether anybody else was heard since the start and runs.
    pub fn knows_somebody(&self) -> bool {
        self.table.members().iter().any(|m| m.heard && m.state.is_running() && m.name != self.config.node)
    }
}

/// As [`Saved::at`] has it: what does not change is not written because time passes, but for this.
pub fn stamp(unix: Duration) -> u64 {
    unix.as_secs() / STAMP.as_secs() * STAMP.as_secs()
}

/// A tombstone that was set after the file was written lasts longer than this. `None`: the file's age is unknown, as its
/// date is, or that is still to come.
fn file_counts_until(now: Instant, date: Date, at: u64) -> Option<Instant> {
    let age = date.unix(now).checked_sub(Duration::from_secs(at)).filter(|_| at > 0)?;
    Some(now + TOMBSTONE_TIME.checked_sub(age)?)
}

impl SavedMember {
    fn new(member: &Member, date: Date) -> Self {
        let state = match member.state {
            State::Alive | State::Suspect => SavedState::Alive,
            State::Dead => SavedState::Failed,
            State::Left => SavedState::Left,
        };
        Self {
            name: (*member.name).into(),
            addr: member.addr,
            mapped: member.mapped,
            incarnation: member.incarnation,
            state,
            said_goodbye: member.said_goodbye,
            hearsay: member.source != Source::Own && !member.state.is_running(),
            since: date.unix(member.since).as_secs(),
            returned: member.returned.map(|at| date.unix(at).as_secs()),
            tags: base64::encode(&member.meta),
            vsn: member.vsn,
        }
    }
}

impl Forgotten {
    fn new(tombstone: &Tombstone, date: Date) -> Self {
        Self {
            name: (*tombstone.node).into(),
            addr: tombstone.addr,
            incarnation: tombstone.incarnation,
            until: date.unix(tombstone.until).as_secs(),
        }
    }

    /// `None`: its time is over.
    fn tombstone(self, now: Instant, date: Date) -> Option<Tombstone> {
        // Set back, the clock must not make it last for ever.
        let left = date.left(self.until).min(TOMBSTONE_TIME);
        let Self { name: node, addr, incarnation, .. } = self;
        let until = now + left;
        (!left.is_zero()).then_some(Tombstone {
            node: node.into(),
            addr,
            incarnation,
            until,
            asked_at: None,
            answered: false,
        })
    }
}
