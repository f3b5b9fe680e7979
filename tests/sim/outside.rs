//! The records as the public sees them: what the handlers of the whole cluster wrote last, and when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use picored::delivery::Run;
use picored::time::Instant;

/// What one run of a handler was told, taken from its environment as a script would.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub handler: String,
    pub mode: String,
    pub app: String,
    pub reason: String,
    pub guard: String,
    pub attempt: u32,
    /// The node and the event that it is about; empty for `sync`. Of several nodes (`serf`) the first.
    pub node: String,
    pub event: String,
    /// `picored1`: the last two arguments.
    pub call: Option<(IpAddr, String)>,
    /// `PICORED_UP_ADDRS`, in the order given.
    pub addrs: Vec<IpAddr>,
}

impl Told {
    /// Panics where the handler contract is broken: a missing variable, or an address that is none.
    pub fn read(run: &Run) -> Self {
        let value = |name: &str| {
            let found = run.env.iter().find(|(key, _)| &**key == name);
            found.map_or_else(|| panic!("a run without {name}: {run:?}"), |(_, value)| value.to_string())
        };
        let optional = |name: &str| {
            let found = run.env.iter().find(|(key, _)| &**key == name);
            found.map_or(String::new(), |(_, value)| value.to_string())
        };
        let mode = value("PICORED_MODE");
        // A `serf` run is about members, and about no app's set.
        let of_app = |name: &str| if mode == "serf" { optional(name) } else { value(name) };
        let node = match &*mode {
            "serf" => String::from_utf8_lossy(&run.stdin).split('\t').next().unwrap_or_default().to_owned(),
            _ => optional("PICORED_NODE"),
        };
        let addrs = of_app("PICORED_UP_ADDRS");
        let addrs =
            addrs.split_whitespace().map(|addr| addr.parse().expect("PICORED_UP_ADDRS holds addresses"));
        let guard = of_app("PICORED_GUARD");
        let call = match (&*mode, run.argv.as_slice()) {
            ("picored1", [.., addr, state]) => Some((addr.parse().expect("an address"), state.to_string())),
            _ => None,
        };
        Self {
            node,
            event: value("PICORED_EVENT"),
            call,
            handler: run.handler.to_string(),
            mode,
            app: value("PICORED_APP"),
            reason: value("PICORED_REASON"),
            guard,
            attempt: value("PICORED_ATTEMPT").parse().expect("PICORED_ATTEMPT is a number"),
            addrs: addrs.collect(),
        }
    }

    pub fn is_sync(&self) -> bool {
        self.mode == "sync"
    }
}

/// A run that was started somewhere.
#[derive(Clone, Debug)]
pub struct Start {
    pub at: Instant,
    pub by: String,
    pub told: Told,
}

/// A change of the records: a `sync` run that succeeded.
#[derive(Clone, Debug)]
pub struct Write {
    pub at: Instant,
    pub by: String,
    pub app: String,
    pub addrs: Vec<IpAddr>,
}

#[derive(Default)]
pub struct Outside {
    records: BTreeMap<String, Vec<IpAddr>>,
    /// What each node's `picored1` calls have made of its own table.
    pub called: BTreeMap<String, BTreeSet<IpAddr>>,
    pub starts: Vec<Start>,
    pub writes: Vec<Write>,
}

impl Outside {
    pub fn started(&mut self, at: Instant, by: &str, told: &Told) {
        self.starts.push(Start { at, by: by.to_string(), told: told.clone() });
    }

    /// A `sync` handler did its work.
    pub fn write(&mut self, at: Instant, by: &str, told: &Told) {
        let mut addrs = told.addrs.clone();
        addrs.sort_unstable();
        self.records.insert(told.app.clone(), addrs.clone());
        self.writes.push(Write { at, by: by.to_string(), app: told.app.clone(), addrs });
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
        of_app.map(|write| format!("at {:?} {} wrote {:?}", write.at, write.by, write.addrs)).collect()
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
