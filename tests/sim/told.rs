//! What one run of a handler was told, taken from its environment and its input as a script would.

use std::net::IpAddr;

use picored::delivery::Run;
use serde_json::Value;

/// An instance as the run's input shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub node: String,
    /// `alive`, `suspect`, `failed`, `left`.
    pub member: String,
    /// `up`, `down`, `maint`, `unknown`.
    pub app: String,
    pub addrs: Vec<IpAddr>,
}

impl Shown {
    pub fn is_running(&self) -> bool {
        self.member == "alive" || self.member == "suspect"
    }
    pub fn is_good(&self) -> bool {
        self.is_running() && self.app == "up"
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub handler: String,
    pub mode: String,
    pub app: String,
    pub reason: String,
    pub guard: String,
    pub attempt: u32,
    /// PICORED_GENERATION: the record's number.
    pub lc: u32,
    /// The node and the event that it is about; empty for `sync`. Of several nodes (`serf`) the first.
    pub node: String,
    pub event: String,
    /// `picored1`: the last two arguments.
    pub call: Option<(IpAddr, String)>,
    /// `PICORED_UP_ADDRS`, in the order given.
    pub addrs: Vec<IpAddr>,
    pub add: Vec<IpAddr>,
    pub remove: Vec<IpAddr>,
    /// There was a P.
    pub has_previous: bool,
    pub quorum: bool,
    pub members: Vec<Shown>,
}

impl Told {
    /// Panics where the handler contract is broken: a missing variable, or an address that is none.
    pub fn read(run: &Run) -> Self {
        let found = |name: &str| {
            let found = run.env.iter().find(|(key, _)| &**key == name);
            found.map(|(_, value)| value.to_string())
        };
        let value = |name: &str| found(name).unwrap_or_else(|| panic!("a run without {name}: {run:?}"));
        let optional = |name: &str| found(name).unwrap_or_default();
        let mode = value("PICORED_MODE");
        // A `serf` run is about members, and about no app's set.
        let of_app = |name: &str| if mode == "serf" { optional(name) } else { value(name) };
        let node = match &*mode {
            "serf" => String::from_utf8_lossy(&run.stdin).split('\t').next().unwrap_or_default().to_owned(),
            _ => optional("PICORED_NODE"),
        };
        let call = match (&*mode, run.argv.as_slice()) {
            ("picored1", [.., addr, state]) => Some((addr.parse().expect("an address"), state.to_string())),
            _ => None,
        };
        let input = match &*mode {
            "serf" => Value::Null,
            _ => serde_json::from_slice(&run.stdin).expect("the input is JSON"),
        };
        Self {
            node,
            event: value("PICORED_EVENT"),
            call,
            handler: run.handler.to_string(),
            app: value("PICORED_APP"),
            reason: value("PICORED_REASON"),
            guard: of_app("PICORED_GUARD"),
            attempt: value("PICORED_ATTEMPT").parse().expect("PICORED_ATTEMPT is a number"),
            lc: optional("PICORED_GENERATION").parse().unwrap_or(0),
            addrs: addresses(&of_app("PICORED_UP_ADDRS")),
            add: addresses(&optional("PICORED_ADD")),
            remove: addresses(&optional("PICORED_REMOVE")),
            has_previous: input["previous"].is_object(),
            quorum: input["cluster"]["quorum"].as_bool().unwrap_or(true),
            members: input["members"].as_array().into_iter().flatten().map(shown).collect(),
            mode,
        }
    }

    pub fn is_sync(&self) -> bool {
        self.mode == "sync"
    }
}

fn addresses(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(|addr| addr.parse().expect("the lists hold addresses")).collect()
}

fn shown(member: &Value) -> Shown {
    let text = |key: &str| member[key].as_str().unwrap_or_default().to_string();
    let addrs = member["addrs"].as_array().into_iter().flatten();
    let addr = |addr: &Value| addr.as_str().and_then(|text| text.parse().ok()).expect("an address");
    Shown { node: text("node"), member: text("state"), app: text("app"), addrs: addrs.map(addr).collect() }
}
