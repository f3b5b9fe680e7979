//! What handlers must know after a restart (`interfaces`, section 6).

use core::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::handler::Handler;
use super::ledger::SavedLedger;
use super::{Delivery, EventKind, Occurrence};
use crate::check::AppState;
use crate::limits::{ADDRESSES_PER_INSTANCE_MAX, MEMBERS_MAX};
use crate::safety::Address;
use crate::time::Instant;

/// Records, what the outside shows, events not yet told. It is bounded by the handlers and apps of the configuration,
/// the members and their addresses, and the length of the queues.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    #[serde(default)]
    handlers: Vec<SavedHandler>,
}

/// One handler: its jobs or its queue.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedHandler {
    pub name: Box<str>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub jobs: Vec<SavedJob>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<SavedQueue>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedJob {
    pub app: Box<str>,
    pub record: SavedLedger,
    /// P: address and node.
    pub outside: Option<Vec<Address>>,
    #[serde(default)]
    pub outside_lc: u32,
    /// `picored1`: what is still to be called whatever P says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub round: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedQueue {
    pub record: SavedLedger,
    pub events: Vec<SavedEvent>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedEvent {
    pub kind: Box<str>,
    pub app: Option<Box<str>>,
    pub node: Box<str>,
    pub addrs: Vec<IpAddr>,
    pub state: Box<str>,
    pub incarnation: u32,
    /// Seconds since 1970 when it happened; 0: unknown.
    pub at: u64,
    #[serde(default)]
    pub attempts: u32,
}

impl SavedJob {
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
