//! What handlers must know after a restart (`interfaces`, section 6).

use core::net::IpAddr;

use serde::Serialize;
use serde_json::Value;

use super::handler::Handler;
use super::ledger::SavedLedger;
use super::{Delivery, EventKind, Occurrence};
use crate::check::AppState;
use crate::limits::{ADDRESSES_PER_INSTANCE_MAX, MEMBERS_MAX};
use crate::safety::Address;
use crate::saved::{Part, Read, parsed, text_of, tuple};
use crate::time::Instant;

/// Records, what the outside shows, events not yet told. It is bounded by the handlers and apps of the configuration,
/// the members and their addresses, and the length of the queues.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Saved {
    handlers: Vec<SavedHandler>,
}

/// One handler: its jobs or its queue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SavedHandler {
    pub name: Box<str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<SavedJob>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<SavedQueue>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SavedJob {
    pub app: Box<str>,
    pub record: SavedLedger,
    /// P: address and node.
    pub outside: Option<Vec<Address>>,
    pub outside_lc: u32,
    /// `picored1`: what is still to be called whatever P says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub round: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SavedQueue {
    pub record: SavedLedger,
    pub events: Vec<SavedEvent>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct SavedEvent {
    pub kind: Box<str>,
    pub app: Option<Box<str>>,
    pub node: Box<str>,
    pub addrs: Vec<IpAddr>,
    pub state: Box<str>,
    pub incarnation: u32,
    /// Seconds since 1970 when it happened; 0: unknown.
    pub at: u64,
    pub attempts: u32,
}

impl Saved {
    pub fn read(part: Part<'_>) -> Read<Self> {
        Ok(Self { handlers: part.list("handlers", SavedHandler::read)? })
    }
}

impl SavedHandler {
    fn read(part: Part<'_>) -> Read<Self> {
        Ok(Self {
            name: part.text("name")?.into(),
            jobs: part.list("jobs", SavedJob::read)?,
            queue: part.maybe_part("queue")?.map(SavedQueue::read).transpose()?,
        })
    }
}

impl SavedQueue {
    fn read(part: Part<'_>) -> Read<Self> {
        part.values("events")?;
        Ok(Self {
            record: SavedLedger::read(part.part("record")?)?,
            events: part.list("events", SavedEvent::read)?,
        })
    }
}

/// Addresses and nodes.
fn read_set(values: &[Value]) -> Read<Vec<Address>> {
    let mut set = Vec::with_capacity(values.len());
    for value in values {
        let [addr, node] = tuple("address and node", value)?;
        let (addr, node) = (text_of("address", addr)?, text_of("node", node)?);
        set.push(Address { addr: parsed("address", addr)?, node: node.into() });
    }
    Ok(set)
}

impl SavedJob {
    fn read(part: Part<'_>) -> Read<Self> {
        Ok(Self {
            app: part.text("app")?.into(),
            record: SavedLedger::read(part.part("record")?)?,
            outside: part.maybe_values("outside")?.map(read_set).transpose()?,
            outside_lc: part.maybe_count("outside_lc")?.unwrap_or_default(),
            round: read_set(part.maybe_values("round")?.unwrap_or_default())?,
        })
    }

    pub fn outside(&self) -> Option<Vec<Address>> {
        self.outside.as_deref().map(restored)
    }

    pub fn round(&self) -> Vec<Address> {
        restored(&self.round)
    }
}

fn restored(saved: &[Address]) -> Vec<Address> {
    let saved = saved.iter().take(MEMBERS_MAX * ADDRESSES_PER_INSTANCE_MAX);
    let mut set: Vec<Address> = saved.cloned().collect();
    set.sort_unstable();
    set.dedup_by_key(|entry| entry.addr);
    set
}

impl SavedEvent {
    fn read(part: Part<'_>) -> Read<Self> {
        let mut addrs = Vec::new();
        for addr in part.values("addrs")? {
            addrs.push(parsed("addrs", text_of("addrs", addr)?)?);
        }
        Ok(Self {
            kind: part.text("kind")?.into(),
            app: part.maybe_text("app")?.map(Into::into),
            node: part.text("node")?.into(),
            addrs,
            state: part.text("state")?.into(),
            incarnation: part.count("incarnation")?,
            at: part.number("at")?,
            attempts: part.maybe_count("attempts")?.unwrap_or_default(),
        })
    }

    pub fn new(event: &Occurrence, at: u64, attempts: u32) -> Self {
        Self {
            kind: event.kind.as_str().into(),
            app: event.app.clone(),
            node: (*event.node).into(),
            addrs: event.addrs.clone(),
            state: event.state.as_str().into(),
            incarnation: event.incarnation,
            at,
            attempts,
        }
    }

    /// `None`: a later version's event, or nonsense.
    pub fn occurrence(self) -> Option<Occurrence> {
        let kind = EventKind::ALL.into_iter().find(|kind| *kind.as_str() == *self.kind)?;
        let state = AppState::parse(&self.state)?;
        let Self { app, node, mut addrs, incarnation, .. } = self;
        addrs.truncate(ADDRESSES_PER_INSTANCE_MAX);
        Some(Occurrence { kind, app, node: node.into(), addrs, state, incarnation })
    }
}

impl Saved {
    /// The state file is another node's: its records as a writer and its events are not ours. What it knew of the
    /// others and of the outside is as good as any stale file's.
    pub fn drop_own(&mut self) {
        for handler in &mut self.handlers {
            handler.jobs.iter_mut().for_each(|job| job.record.drop_own());
            if let Some(queue) = &mut handler.queue {
                queue.record.drop_own();
                queue.events.clear();
            }
        }
    }
}

impl Delivery {
    /// What a restart must not forget. It is the same as long as nothing happens, whatever the time.
    pub fn saved(&self, _now: Instant, _unix_now: u64) -> Saved {
        Saved { handlers: self.handlers.iter().filter_map(Handler::saved).collect() }
    }

    /// Takes up what was saved; right after [`Delivery::new`]. `unix_now`: seconds since 1970, 0 if unknown. What is not in the configuration any more is dropped.
    pub fn restore(&mut self, now: Instant, unix_now: u64, saved: Saved) {
        for saved in saved.handlers {
            if let Some(handler) = self.handlers.iter_mut().find(|handler| handler.config.name == saved.name)
            {
                handler.restore(now, unix_now, saved);
            }
        }
    }
}
