//! The state file: what of all parts survives a restart, as JSON (`interfaces`, section 6), and when it is written.

use core::time::Duration;
use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::rc::Rc;

use serde::Serialize;

use crate::agent::{Action, Agent, ClientId, news, overrides};
use crate::control::{Done, fields, reply_line};
use crate::saved::{Part, Read};
use crate::time::Instant;
use crate::{delivery, membership, safety};

/// The version of the format that is written, and the only one that is read.
const VERSION: u32 = 1;
/// Between two writes, unless something must not wait.
const WRITE_INTERVAL: Duration = Duration::from_secs(5);
/// After a write that failed.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

/// The content of the state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Saved {
    /// The version of the format.
    pub v: u32,
    pub node: Box<str>,
    pub membership: membership::Saved,
    pub delivery: delivery::Saved,
    pub safety: safety::Saved,
    pub overrides: overrides::Saved,
}

/// What becomes a [`Saved`]: the same fields, without a copy of all members.
#[derive(Serialize)]
struct Saving<'a> {
    v: u32,
    node: &'a str,
    membership: membership::Saving<'a>,
    delivery: delivery::Saved,
    safety: safety::Saved,
    overrides: overrides::Saved,
}

impl Saved {
    /// Reads a state file. The error is for people: what is wrong with the file.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.trim_matches(['\0', ' ', '\n']).is_empty() {
            return Err("it is empty".into());
        }
        let damaged = |error: String| format!("it is damaged: {error}");
        let value = fields::read(text).map_err(damaged)?;
        match Part(&value).count("v").map_err(damaged)? {
            VERSION => Self::read(Part(&value)).map_err(damaged),
            other => {
                Err(format!("it has the format {other}, and this picored ({}) knows {VERSION}", version()))
            }
        }
    }

    fn read(part: Part<'_>) -> Read<Self> {
        Ok(Self {
            v: VERSION,
            node: part.text("node")?.into(),
            membership: membership::Saved::read(part.part("membership")?)?,
            delivery: delivery::Saved::read(part.part("delivery")?)?,
            safety: safety::Saved::read(part.part("safety")?)?,
            overrides: overrides::Saved::read(part.part("overrides")?)?,
        })
    }

    /// As the file holds it.
    pub fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Of another node's file (copied, or this one was renamed) `node` may not take up what was that node's own.
    pub(super) fn keep_for(&mut self, node: &str) {
        if *self.node != *node {
            self.membership.incarnation = 0;
            self.delivery.drop_own();
            (self.safety, self.overrides) = Default::default();
        }
    }
}

fn version() -> &'static str {
    crate::agent::tags::VERSION
}

/// What is known of the state file, and who waits for it.
pub(super) struct Store {
    /// False: there is none, and nothing is written.
    exists: bool,
    /// Something may be other than what was written last.
    changed: bool,
    /// Not written before, unless it must not wait.
    next: Instant,
    /// Of the text that was given out last; `None`: none, or it was not stored.
    written: Option<u64>,
    /// Why the last write failed.
    problem: Option<String>,
    /// For each write that was given out: who is to be told what when it is done.
    waiting: VecDeque<Option<(ClientId, String)>>,
}

impl Store {
    pub fn none() -> Self {
        Self {
            exists: false,
            changed: false,
            next: Instant::ZERO,
            written: None,
            problem: None,
            waiting: VecDeque::new(),
        }
    }

    /// The first write is due at once: whether it works is to be known at the start.
    pub fn new(now: Instant) -> Self {
        Self { exists: true, changed: true, next: now, ..Self::none() }
    }

    /// Something changed that may be in the file.
    pub fn note_change(&mut self) {
        self.changed = self.exists;
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.changed.then_some(self.next)
    }
}

impl Agent {
    /// Takes up what the state file held, less what delivery did already; before anything else happens.
    pub(super) fn restore(&mut self, now: Instant, saved: Saved) {
        self.membership.restore(now, self.wall.date(now), saved.membership);
        let others = self.membership.members().filter(|member| *member.name != *self.identity.node);
        let names: Vec<Rc<str>> = others.map(|member| member.name.clone()).collect();
        names.iter().for_each(|node| self.learn_tags(now, node));
        self.tell(news::restored(now, &saved.node, names.len()));
    }

    /// [`Saved`] as the file holds it.
    fn state_text(&self, now: Instant) -> String {
        let date = self.wall.date(now);
        let saving = Saving {
            v: VERSION,
            node: &self.identity.node,
            membership: self.membership.saved(now, date),
            delivery: self.delivery.saved(now, date.unix(now).as_secs()),
            safety: self.gates.saved(),
            overrides: self.persons.overrides.saved(date),
        };
        serde_json::to_string(&saving).unwrap_or_default()
    }

    /// At the end of every input.
    pub(super) fn persist_when_due(&mut self, now: Instant) {
        if self.store.deadline().is_some_and(|at| at <= now) {
            self.persist_changes(now);
        }
    }

    /// What must not wait: before a run, and at the end.
    pub(super) fn persist_changes(&mut self, now: Instant) {
        if !self.store.exists {
            return;
        }
        let text = self.state_text(now);
        self.store.changed = false;
        if self.store.written != Some(hash(&text)) {
            self.write(now, text, None);
        }
    }

    /// A person is told when it is stored; if it cannot be, that too.
    pub(super) fn reply_when_stored(&mut self, now: Instant, client: ClientId, message: String) {
        if !self.store.exists {
            return self.reply(client, reply_line(&Done { message }));
        }
        let text = self.state_text(now);
        self.write(now, text, Some((client, message)));
    }

    fn write(&mut self, now: Instant, text: String, waits: Option<(ClientId, String)>) {
        self.store.written = Some(hash(&text));
        self.store.next = now + WRITE_INTERVAL;
        self.store.waiting.push_back(waits);
        self.actions.push_back(Action::Persist { text });
    }

    pub(super) fn persisted(&mut self, now: Instant, result: Result<(), String>) {
        let waiting = self.store.waiting.pop_front().flatten();
        if let Some((client, mut message)) = waiting {
            if let Err(why) = &result {
                message.push_str(&format!(". It holds in memory only, until the next restart: {why}"));
            }
            self.reply(client, reply_line(&Done { message }));
        }
        match result {
            Ok(()) => {
                if self.store.problem.take().is_some() {
                    self.tell(news::state_stored(now));
                }
            }
            Err(why) => {
                self.store.written = None;
                self.store.changed = true;
                self.store.next = now + RETRY_INTERVAL;
                let is_new = self.store.problem.as_ref() != Some(&why);
                self.store.problem = Some(why);
                if let Some(problem) = self.state_problem().filter(|_| is_new) {
                    self.tell(news::state_not_stored(now, &problem));
                }
            }
        }
    }

    /// Why the state on disk is not what it should be, for people.
    pub(super) fn state_problem(&self) -> Option<String> {
        let why = self.store.problem.as_ref()?;
        Some(format!("the state is not stored, a restart forgets what changed since: {why}"))
    }

    /// Who is published must not be forgotten for having failed long ago.
    pub(super) fn keep_published(&mut self) {
        let sets = self.apps.iter().flat_map(|own| {
            own.published.iter().chain(own.published_by.iter().filter_map(|(_, set)| set.as_ref()))
        });
        let mut names: Vec<Rc<str>> =
            sets.flat_map(|set| set.iter()).map(|address| address.node.clone()).collect();
        names.sort_unstable();
        names.dedup();
        self.membership.set_kept(names);
    }
}

fn hash(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(text.as_bytes());
    hasher.finish()
}
