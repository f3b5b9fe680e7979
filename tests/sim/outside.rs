//! The records as the public sees them: what the handlers of the whole cluster wrote last, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picored::time::Instant;

use crate::told::Told;

/// A run that was started somewhere.
#[derive(Clone, Debug)]
pub struct Start {
    pub at: Instant,
    pub by: String,
    pub told: Told,
}

/// A change of the records: a `sync` run that did its work.
#[derive(Clone, Debug)]
pub struct Write {
    pub at: Instant,
    pub by: String,
    pub app: String,
    pub lc: u32,
    pub addrs: Vec<IpAddr>,
}

#[derive(Default)]
pub struct Outside {
    records: BTreeMap<String, Vec<IpAddr>>,
    /// Of handlers that every node runs for itself: by node, handler and app.
    pub own: BTreeMap<(String, String, String), Vec<IpAddr>>,
    /// What each node's `picored1` calls have made of its own table.
    pub called: BTreeMap<String, BTreeSet<IpAddr>>,
    pub starts: Vec<Start>,
    pub writes: Vec<Write>,
}

impl Outside {
    pub fn started(&mut self, at: Instant, by: &str, told: &Told) {
        self.starts.push(Start { at, by: by.to_string(), told: told.clone() });
    }

    /// A `sync` handler of which one node runs it did its work.
    pub fn write(&mut self, at: Instant, by: &str, told: &Told) {
        let mut addrs = told.addrs.clone();
        addrs.sort_unstable();
        self.records.insert(told.app.clone(), addrs.clone());
        self.writes.push(Write { at, by: by.to_string(), app: told.app.clone(), lc: told.lc, addrs });
    }

    /// A `sync` handler that each node runs did its work.
    pub fn write_own(&mut self, by: &str, told: &Told) {
        let mut addrs = told.addrs.clone();
        addrs.sort_unstable();
        self.own.insert((by.to_string(), told.handler.clone(), told.app.clone()), addrs);
    }

    /// A `picored1` call did its work.
    pub fn call(&mut self, by: &str, addr: IpAddr, state: &str) {
        let table = self.called.entry(by.to_string()).or_default();
        match state {
            "up" => table.insert(addr),
            "down" => table.remove(&addr),
            other => panic!("{by} called {other}"),
        };
    }

    /// The history of the records of `app`, for people.
    pub fn history(&self, app: &str) -> Vec<String> {
        let of_app = self.writes.iter().filter(|write| write.app == app);
        of_app
            .map(|write| {
                format!("at {:?} {} wrote number {}: {:?}", write.at, write.by, write.lc, write.addrs)
            })
            .collect()
    }

    /// The addresses of `app`, sorted; empty also before anything was written.
    pub fn records(&self, app: &str) -> &[IpAddr] {
        self.records.get(app).map_or(&[], Vec::as_slice)
    }

    /// Who wrote the records of `app` last.
    pub fn last_writer(&self, app: &str) -> Option<&str> {
        self.writes.iter().rev().find(|write| write.app == app).map(|write| write.by.as_str())
    }

    /// Runs started after `since`, the periodic ones (`resync`) left out.
    pub fn starts_since(&self, since: Instant) -> impl Iterator<Item = &Start> {
        self.starts.iter().filter(move |start| start.at > since && start.told.reason != "resync")
    }
}
