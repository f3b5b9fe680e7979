//! The records of one job, or of one event handler: the own one, the greatest, and what the other nodes show (4.5).

use core::time::Duration;

use serde::Serialize;

use super::World;
use super::others::Others;
use super::record::{Greatest, LC_MAX, Record, State, Told};
use crate::saved::{Part, Read, number_of, text_of};
use crate::time::Instant;
use crate::wire::serf;

/// What the run number's second half says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The hash of the set that was told: unknown from the start of a run until it succeeds.
    Set,
    /// The hash of the last event that was told: that stays told, whatever comes after it.
    Event,
}

pub struct Ledger {
    /// The tag's name: `h.HANDLER.APP` or `h.HANDLER`.
    pub key: Box<str>,
    kind: Kind,
    /// The own record, as the tag shows it.
    pub lc: u32,
    pub told: Told,
    pub state: State,
    pub greatest: Option<Greatest>,
    /// What the other members show, sorted by name; no more than there are members.
    peers: Vec<Peer>,
    /// The own last run ended beside one that it did not know of.
    overlapped: bool,
    /// Rule 5: one more run.
    repeat: bool,
    /// A run of this node's last life, which nobody watches, may still go on until then.
    orphan_until: Option<Instant>,
    /// The own record says `?` because the state file did, not because a peer knew more than that.
    interrupted: bool,
}

struct Peer {
    node: Box<str>,
    record: Record,
    /// It ran when it showed that.
    ran: bool,
    /// It wrote this without knowing the greatest record.
    overlapped: bool,
}

/// A ledger in the state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SavedLedger {
    /// As the tag shows it; `n` as `i`, for that is of the moment.
    own: Box<str>,
    /// Seconds since 1970 when the run under way began.
    #[serde(skip_serializing_if = "Option::is_none")]
    running_since: Option<u64>,
    /// (LC, node, what it told)
    greatest: Option<(u32, Box<str>, Box<str>)>,
    repeat: bool,
}

impl SavedLedger {
    pub fn read(part: Part<'_>) -> Read<Self> {
        let greatest = part.maybe_values("greatest")?.map(|values| {
            let [lc, node, told] = values else { return Err("greatest: is three values".to_owned()) };
            let text = |value| text_of("greatest", value).map(Into::into);
            Ok((number_of("greatest", lc, u32::MAX.into())? as u32, text(node)?, text(told)?))
        });
        Ok(Self {
            own: part.text("own")?.into(),
            running_since: part.maybe_number("running_since")?,
            greatest: greatest.transpose()?,
            repeat: part.flag("repeat")?,
        })
    }

    /// Drops what belongs to the node whose file this was.
    pub fn drop_own(&mut self) {
        self.own = Box::default();
        self.running_since = None;
    }
}

impl Ledger {
    pub fn new(key: String, kind: Kind) -> Self {
        Self {
            key: key.into(),
            kind,
            lc: 0,
            told: Told::Nothing,
            state: State::NotAble,
            greatest: None,
            peers: Vec::new(),
            overlapped: false,
            repeat: false,
            orphan_until: None,
            interrupted: false,
        }
    }

    pub fn record(&self) -> Record {
        Record { state: self.state, lc: self.lc, told: self.told }
    }

    /// Whether one more run must follow because two overlapped.
    pub fn repeats(&self) -> bool {
        self.repeat
    }

    /// A run of the last life may go on until then.
    pub fn orphan_until(&self, now: Instant) -> Option<Instant> {
        self.orphan_until.filter(|&at| at > now)
    }

    /// Reads the tags of all members. `running`: an own run is under way. Gives those whose records were written
    /// without knowing the greatest one, if that makes one more run necessary.
    ///
    /// Rule 5, made exact: a record that a member shows anew (a greater LC, but also a lower one: it forgot, and ran
    /// again) and that is not greater than the greatest was written without knowing that. Whether both told the same
    /// is known only when both runs are over, and until then rule 2 lets nobody start; so only then is it decided
    /// whether one more run must follow. Two that take over at once with the same set need none. What was not yet
    /// decided counts as decided for the state file.
    ///
    /// A greater record of a member that was there before clears `repeat`: it was begun after the two sides had met.
    /// One of a member that just came back may come from where nobody knew. One that only carries on what the greatest
    /// says ([`Ledger::adopt`]) is of no run at all.
    pub fn watch(
        &mut self,
        now: Instant,
        world: &World<'_>,
        others: &Others,
        running: bool,
    ) -> Vec<Box<str>> {
        self.note(now, self.lc, world.node, self.told);
        let own = world.node;
        let shown: Vec<(&str, Record, bool)> = world
            .members
            .iter()
            .filter(|member| &*member.name != own)
            .filter_map(|member| {
                let record = serf::tag(&member.meta, &self.key).and_then(Record::parse)?;
                Some((&*member.name, record, member.state.is_running()))
            })
            .collect();
        let before = self.greatest.as_ref().map(|known| (known.lc, known.node.clone(), known.told));
        let greater = |lc: u32, node: &str| before.as_ref().is_none_or(|(l, n, _)| (lc, node) > (*l, n));
        let adopted = |record: &Record| {
            before.as_ref().is_some_and(|(lc, _, told)| (record.lc, record.told) == (*lc, *told))
        };
        let mut old = core::mem::take(&mut self.peers);
        let known = |old: &[Peer], node: &str| old.binary_search_by(|peer| (*peer.node).cmp(node)).ok();
        let clears = shown.iter().any(|(node, record, _)| {
            let peer = known(&old, node).and_then(|index| old.get(index));
            let is_new_run = peer.is_some_and(|peer| peer.ran && peer.is_news(record)) && !adopted(record);
            is_new_run && greater(record.lc, node)
        });
        if clears {
            self.forgive(&mut old);
        }
        for (node, record, ran) in shown {
            let peer = known(&old, node).and_then(|index| old.get(index));
            let is_behind = self.kind == Kind::Set
                && peer.is_some_and(|peer| peer.is_news(&record))
                && !greater(record.lc, node)
                && !self.tells_the_same(record.told);
            let overlapped = is_behind || peer.is_some_and(|peer| peer.overlapped);
            self.note(now, record.lc, node, record.told);
            self.peers.push(Peer { node: node.into(), record, ran, overlapped });
        }
        self.judge(now, own, others, running)
    }

    /// The same where other nodes' records are none of this one's business.
    pub fn watch_own(&mut self, now: Instant, own: &str) {
        self.overlapped = false;
        self.note(now, self.lc, own, self.told);
    }

    /// What overlapped and is over: whether one more run must follow.
    fn judge(&mut self, now: Instant, own: &str, others: &Others, running: bool) -> Vec<Box<str>> {
        let Some(greatest) = &self.greatest else { return Vec::new() };
        let at_it = match *greatest.node == *own {
            true => running,
            false => others.is_at_it(now, &greatest.node, &self.key),
        };
        // At the end of the numbers no record says who knew which.
        if at_it || running || self.kind == Kind::Event || self.lc == LC_MAX {
            return Vec::new();
        }
        let (told, lc, writer) = (greatest.told, greatest.lc, greatest.node.clone());
        let differs = |other: Told| !matches!(told, Told::Set(_)) || other != told;
        let mut with = Vec::new();
        for peer in self.peers.iter_mut().filter(|peer| peer.overlapped) {
            if !others.is_at_it(now, &peer.node, &self.key) {
                peer.overlapped = false;
                if differs(peer.record.told) {
                    with.push(peer.node.clone());
                }
            }
        }
        if core::mem::take(&mut self.overlapped) && (self.lc, own) < (lc, &*writer) && differs(self.told) {
            with.push(writer);
        }
        self.repeat |= !with.is_empty();
        with
    }

    /// Whether the greatest record is known to have told just this.
    fn tells_the_same(&self, told: Told) -> bool {
        matches!(told, Told::Set(_)) && self.greatest.as_ref().is_some_and(|greatest| greatest.told == told)
    }

    /// What another member shows.
    pub fn shown_by(&self, node: &str) -> Option<Record> {
        self.peers.iter().find(|peer| *peer.node == *node).map(|peer| peer.record)
    }

    fn forgive(&mut self, peers: &mut [Peer]) {
        (self.repeat, self.overlapped) = (false, false);
        peers.iter_mut().for_each(|peer| peer.overlapped = false);
    }

    /// The greatest record's writer was forgotten, or lost its state, and nobody shows it or a greater one: it is shown
    /// as the own one, so that it is not lost.
    pub fn adopt(&mut self, own: &str) {
        let shown = self.peers.iter().map(|peer| (peer.record.lc, &*peer.node)).max();
        if let Some(greatest) = &mut self.greatest
            && (greatest.lc, &*greatest.node) > shown.unwrap_or_default().max((self.lc, own))
        {
            (self.lc, self.told) = (greatest.lc, greatest.told);
            greatest.node = own.into();
        }
    }

    fn note(&mut self, now: Instant, lc: u32, node: &str, told: Told) {
        Greatest::note(&mut self.greatest, now, (lc, node, told));
    }

    /// What the outside was told last. At the end of the numbers (a broken peer showed the last one) no record is
    /// greater than another node's any more: the own one counts, or this node would run for ever.
    pub fn greatest_told(&self) -> Told {
        match &self.greatest {
            _ if self.lc == LC_MAX => self.told,
            Some(greatest) => greatest.told,
            None => Told::Nothing,
        }
    }

    /// A run starts; gives its number. What came before is known to it.
    pub fn begin(&mut self, now: Instant, own: &str) -> u32 {
        let before = self.greatest.as_ref().map_or(0, |greatest| greatest.lc);
        self.lc = before.max(self.lc).saturating_add(1).min(LC_MAX);
        if self.kind == Kind::Set {
            self.told = Told::Unknown;
        }
        self.interrupted = false;
        let mut peers = core::mem::take(&mut self.peers);
        self.forgive(&mut peers);
        self.peers = peers;
        self.note(now, self.lc, own, self.told);
        self.lc
    }

    /// The run `lc` is over; `told`: what it told with success. A greater record that came meanwhile (a peer knew one of
    /// this node's own, from a life that it does not remember) says that it is not known what came last.
    pub fn end(&mut self, lc: u32, told: Option<Told>) {
        match told {
            Some(told) if self.lc == lc || self.kind == Kind::Event => self.told = told,
            _ => {}
        }
        // Judged with the next look, which knows this node's name.
        self.overlapped = self.kind == Kind::Set;
    }

    /// S of the tag: `shown`, but while a run of the last life may still go on, others must wait for it.
    pub fn show(&mut self, now: Instant, shown: State) {
        self.state = if self.orphan_until(now).is_some() { State::Running } else { shown };
    }

    /// A peer holds `record` as this node's own (rule 6). `window`: how long a run may go on.
    ///
    /// A greater one is taken, as unknown: this node's state was lost, and there may have been later runs. One with the
    /// same number as the file's tells how a run ended that the file only saw begin; that is no loss of state, and
    /// without it every crash within seconds after a run would cost one more.
    pub fn take_own(&mut self, now: Instant, record: Record, window: Duration) {
        let is_event = self.kind == Kind::Event;
        if record.lc > self.lc {
            (self.lc, self.interrupted) = (record.lc, false);
            self.told = if is_event { record.told } else { Told::Unknown };
            if record.state == State::Running {
                self.orphan_until = Some(now + window);
                self.state = State::Running;
            }
        } else if record.lc == self.lc && record.lc > 0 && record.state != State::Running {
            let is_end = matches!(record.told, Told::Set(_)) && (is_event || self.interrupted);
            if is_end {
                (self.told, self.interrupted, self.orphan_until) = (record.told, false, None);
            }
        }
    }

    pub fn saved(&self, running_since: Option<u64>) -> SavedLedger {
        let state = if self.state == State::Running { State::Running } else { State::Able };
        let own = Record { state, lc: self.lc, told: self.told };
        let of = |greatest: &Greatest| (greatest.lc, greatest.node.clone(), greatest.told.to_string().into());
        let repeat = self.repeat || self.overlapped && self.is_behind();
        SavedLedger {
            own: own.to_string().into(),
            running_since,
            greatest: self.greatest.as_ref().map(of),
            repeat: repeat || self.peers.iter().any(|peer| peer.overlapped),
        }
    }

    /// The greatest record is not the own one.
    fn is_behind(&self) -> bool {
        self.greatest.as_ref().is_some_and(|greatest| greatest.lc > self.lc || greatest.told != self.told)
    }

    /// Takes up what was saved (rule 6): a run that was under way has told nobody knows what, and may still go on.
    pub fn restore(&mut self, now: Instant, unix_now: u64, window: Duration, saved: &SavedLedger) {
        if let Some(record) = Record::parse(&saved.own).filter(|record| record.lc > 0) {
            (self.lc, self.told) = (record.lc, record.told);
            if record.state == State::Running {
                // A clock that was set back must not make it longer than it can be.
                let ran =
                    saved.running_since.filter(|_| unix_now > 0).map_or(0, |at| unix_now.saturating_sub(at));
                self.orphan_until = Some(now + window.saturating_sub(Duration::from_secs(ran)));
                if self.kind == Kind::Set {
                    self.told = Told::Unknown;
                }
            }
            self.interrupted = self.told == Told::Unknown;
        }
        if let Some((lc, node, told)) = &saved.greatest
            && let Some(told) = Told::parse(told)
            && (1..=LC_MAX).contains(lc)
        {
            self.greatest = Some(Greatest { lc: *lc, node: node.clone(), told, seen: now });
        }
        self.repeat = saved.repeat;
        self.show(now, State::NotAble);
    }
}

impl Peer {
    /// Whether `record` is of another run than what it showed before, or says otherwise what that one told.
    fn is_news(&self, record: &Record) -> bool {
        let is_end = record.lc == self.record.lc && self.record.told == Told::Unknown;
        let is_same = (record.lc, record.told) == (self.record.lc, self.record.told);
        record.lc > 0 && !is_same && !is_end
    }
}
