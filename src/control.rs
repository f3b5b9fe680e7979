//! Requests and replies of the control socket: one JSON line each way, as types from which the daemon writes them. The
//! command line reads them by the names of their [`fields`].
//!
//! A reply is `{"ok":true,…}` or `{"error":"…"}`. The names of the fields are what `--json` prints: they stay.
//! Durations are whole seconds (`…_secs`) or milliseconds (`…_ms`), times are seconds since 1970, and 0 as long as
//! the date is not known.

pub mod fields;
mod request;
pub mod text;

use std::collections::BTreeMap;

#[cfg(test)]
use serde::Deserialize;
use serde::Serialize;

pub use request::{FOR_MAX_SECS, ForceTo, MAINT_SECS, Request, event, level, target_text};

/// The line of a reply: `body`, which must be a struct, with `"ok":true` before its fields.
pub fn reply_line(body: &impl Serialize) -> String {
    // Strings, numbers and maps with string keys: nothing here that JSON cannot say.
    let json = serde_json::to_string(body).unwrap_or_default();
    match json.strip_prefix('{') {
        Some("}") | None => "{\"ok\":true}".into(),
        Some(fields) => format!("{{\"ok\":true,{fields}"),
    }
}

/// The line that refuses a request.
pub fn error_line(error: &str) -> String {
    serde_json::to_string(&Refused { error: error.into() }).unwrap_or_default()
}

/// The request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Refused {
    /// Why, and what to do instead.
    pub error: String,
}

/// The request was carried out (or, for `stop` and `leave`, has begun).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Done {
    pub message: String,
}

/// The configuration was read anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Reloaded {
    /// Keys of the file whose new values are in effect.
    pub changed: Vec<String>,
    /// Keys of the file whose new values take effect at a restart.
    pub at_restart: Vec<String>,
    /// What else there is to know.
    pub notes: Vec<String>,
}

impl Reloaded {
    /// What it comes to.
    pub fn sentences(&self) -> Vec<String> {
        let mut said = Vec::new();
        if !self.changed.is_empty() {
            said.push(format!("now in effect: {}", self.changed.join(", ")));
        }
        if !self.at_restart.is_empty() {
            said.push(format!("takes effect at a restart: {}", self.at_restart.join(", ")));
        }
        if said.is_empty() {
            said.push("nothing changed".into());
        }
        said.extend(self.notes.iter().cloned());
        said
    }
}

/// What would be told, or is told now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Synced {
    pub dry_run: bool,
    pub jobs: Vec<SyncJob>,
}

/// One app of one `sync` or `picored1` handler.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct SyncJob {
    pub handler: String,
    pub app: String,
    /// `null`: no set is known to be right, so no run.
    pub publish: Option<Vec<String>>,
    /// Against what the outside is taken to show.
    pub add: Vec<String>,
    pub remove: Vec<String>,
    /// The gate that decided otherwise than the instances' states.
    pub guard: Option<String>,
    /// The node that acts; `null`: each for itself, or nobody can.
    pub runner: Option<String>,
    /// This node acts.
    pub here: bool,
    /// What happens now, or would.
    pub text: String,
}

/// How a handler's rehearsal went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Rehearsed {
    pub handler: String,
    pub argv: Vec<String>,
    pub user: Option<String>,
    /// Names and values; those of `env_file` are masked.
    pub env: Vec<(String, String)>,
    pub stdin: String,
    pub output: String,
    /// `exit 0`, `signal 9`, `not started: …`.
    pub exit: String,
    /// What picored would do then.
    pub meaning: String,
    pub succeeded: bool,
    pub took_ms: u64,
}

/// Why each address is published or not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Why {
    pub node: String,
    /// `null` while gates 1 to 4 let this node act, else why they do not.
    pub waiting: Option<String>,
    /// What was left out because there is too much; `null`: nothing.
    pub short: Option<String>,
    pub apps: Vec<WhyApp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct WhyApp {
    pub name: String,
    /// The gate that looks at the whole set and decided otherwise.
    pub guard: Option<String>,
    pub addresses: Vec<WhyAddress>,
    pub jobs: Vec<WhyJob>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct WhyAddress {
    pub address: String,
    /// Empty for one that belongs to no member.
    pub node: String,
    /// To be published, after the gates; `null`: nothing is known to be right.
    pub publish: Option<bool>,
    /// What the outside shows as far as this node knows; `null`: it does not know.
    pub shown: Option<bool>,
    pub why: String,
}

/// A handler that tells the app.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct WhyJob {
    pub handler: String,
    pub runner: Option<String>,
    pub phase: String,
    pub waits: Option<String>,
    /// What each node shows of it: (node, `S:LC:HASH8`).
    pub records: Vec<(String, String)>,
}

/// First line of the reply to `events`; that many event lines follow ([`EventLine`]), and more when following.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Events {
    pub events: usize,
}

/// First line of the reply to `ping-members` and `join`; that many lines follow ([`Pinged`], [`Joined`]), each as
/// soon as it is known. A refusal in place of one says that the time for all of them is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize))]
pub struct Trying {
    pub count: usize,
}

/// What got through to one member: how many milliseconds the answer took, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Pinged {
    pub node: String,
    pub address: String,
    /// As `members` shows it.
    pub state: String,
    pub udp_ms: Option<f64>,
    pub udp_why: Option<String>,
    /// By way of other members.
    pub indirect_ms: Option<f64>,
    pub indirect_why: Option<String>,
    /// The members that were asked to ping it for us.
    pub relays: Vec<String>,
    /// The one of them whose answer came first.
    pub via: Option<String>,
    /// Connecting and the ping.
    pub tcp_ms: Option<f64>,
    pub tcp_why: Option<String>,
    /// What that means and what to do; `null` if both UDP and TCP get through.
    pub problem: Option<String>,
}

/// What came of one target of `join`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Joined {
    /// With its port.
    pub target: String,
    pub joined: bool,
    /// Why not.
    pub why: Option<String>,
}

/// One event as a line of JSON. Beside these fields it has those of its kind: `node`, `app`, `handler`, `from`, ….
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Serialize, Deserialize))]
pub struct EventLine {
    /// RFC 3339, UTC, with milliseconds; empty as long as the date is not known.
    pub time: String,
    /// `error`, `warn`, `info`.
    pub level: String,
    /// The kind: `node-failed`, `app-up`, `handler-failed`, ….
    pub event: String,
    /// A sentence.
    pub message: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Members {
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Member {
    pub name: String,
    pub address: String,
    /// `alive`, `suspect`, `failed`, `left`.
    pub state: String,
    /// Seconds since 1970.
    pub since: u64,
    pub since_secs: u64,
    pub incarnation: u32,
    pub apps: Vec<MemberApp>,
    /// picored's; `null` for members that do not run it.
    pub version: Option<String>,
    /// UDP to or from it is blocked: only TCP or other members reach it.
    pub udp_blocked: bool,
    /// Maintenance of it that other nodes hold, and that counts as long as they run.
    pub maint: Vec<MaintElsewhere>,
    /// The node that answers.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// All tags as they travel.
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct MaintElsewhere {
    /// The node where it was said.
    pub held_by: String,
    /// Names of apps, or `*`.
    pub apps: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct MemberApp {
    pub name: String,
    /// `up`, `down`, `maint`, `unknown`.
    pub state: String,
    pub forced: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Status {
    /// 0 well, 1 degraded, 2 critical: the exit code of `picored status`.
    pub code: u8,
    /// One line: `PICORED OK - …`.
    pub summary: String,
    /// What is not well, the worst first.
    pub problems: Vec<String>,
    pub node: String,
    pub cluster: String,
    pub version: String,
    pub address: String,
    pub uptime_secs: u64,
    /// `running`, `stopping`, `leaving`.
    pub phase: String,
    /// `null` while gates 1 to 4 let this node act, else why they do not.
    pub waiting: Option<String>,
    /// `null` as long as it is not looked at (`"quorum": "off"`).
    pub quorum: Option<Quorum>,
    /// Endpoints of `witness` that answer, of all: `2/3`; `null` without any.
    pub witness: Option<String>,
    /// What persons said here, and is in force.
    pub overrides: Vec<Override>,
    /// Why the state file is not written; what was said since holds in memory only.
    pub state_problem: Option<String>,
    pub members: MemberCounts,
    pub apps: Vec<App>,
    pub handlers: Vec<Handler>,
    /// Of the process; 0 as long as it is not known.
    pub rss_kib: u64,
    pub descriptors: u32,
    pub loop_late: Late,
    /// Lifeguard's local health, 0 (well) to 7.
    pub health_score: u32,
    pub incarnation: u32,
    /// With `verbose` only.
    pub counters: Option<Counters>,
}

/// Gate 4.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Quorum {
    pub has: bool,
    /// Of the electorate.
    pub alive: usize,
    pub electorate: usize,
}

/// What a person said of an app, and that it is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Override {
    /// `null`: all of the node.
    pub app: Option<String>,
    pub node: String,
    /// `up`, `down`, `maint`.
    pub state: String,
    /// Until it ends by itself; `null`: never.
    pub for_secs: Option<u64>,
    /// Seconds since 1970.
    pub since: u64,
    pub since_secs: u64,
    /// Empty if not known.
    pub by: String,
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct MemberCounts {
    pub known: usize,
    pub alive: usize,
    pub suspect: usize,
    pub failed: usize,
    pub left: usize,
}

/// How much later than asked for the loop came round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Late {
    /// The most in the last one to two minutes.
    pub recent_max_ms: u64,
    /// The most since the start.
    pub max_ms: u64,
    /// How often it was more than 2 s.
    pub count: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct App {
    pub name: String,
    /// `none` for an app that has no checks here, hence no instance.
    pub state: String,
    pub forced: bool,
    /// Until the forced state ends by itself.
    pub forced_for_secs: Option<u64>,
    pub since: u64,
    pub since_secs: u64,
    /// Of the check that decides: `2/3 failed: connection refused`.
    pub summary: String,
    /// What is to be published, after the gates; `null`: nothing is known to be right yet, so no run.
    pub publish: Option<Vec<String>>,
    /// The gate that decided otherwise than the instances' states.
    pub guard: Option<String>,
    pub instances: Vec<Instance>,
    /// With `verbose` only.
    pub checks: Vec<Check>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Instance {
    pub node: String,
    pub member: String,
    pub state: String,
    pub forced: bool,
    /// The node whose `m.NODE` tag withdraws it.
    pub withdrawn_by: Option<String>,
    pub addrs: Vec<String>,
    pub published: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Check {
    /// `tcp 127.0.0.1:80`, `http://127.0.0.1:80/health`, `exec /usr/lib/…`.
    pub target: String,
    pub state: String,
    pub passes: u16,
    pub fails: u16,
    /// What the last try said.
    pub last: Option<String>,
    pub last_passed: Option<bool>,
    pub last_secs_ago: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Handler {
    pub name: String,
    pub app: Option<String>,
    pub mode: String,
    #[serde(rename = "where")]
    pub place: String,
    /// `idle`, `debouncing`, `running`, `stuck`, `backoff`, `waiting`, `stands back`.
    pub phase: String,
    /// What it waits for; `null`: for nothing.
    pub waits: Option<String>,
    /// The node that acts; `null`: each for itself, or nobody can.
    pub runner: Option<String>,
    /// For so long this node would tell another set than the runner told; `null`: it would not, or not for long.
    pub differs_for_secs: Option<u64>,
    pub failures_in_a_row: u32,
    pub gave_up: bool,
    pub last_run: Option<LastRun>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct LastRun {
    pub started: u64,
    pub started_secs_ago: u64,
    /// `null` while it runs.
    pub took_ms: Option<u64>,
    pub ended_secs_ago: Option<u64>,
    /// `exit 0`, `signal 9`, `not started: …`; `null` while it runs.
    pub exit: Option<String>,
    pub ok: bool,
    /// The end of what it printed, if it failed, with `verbose` only.
    pub output: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(Deserialize), serde(default))]
pub struct Counters {
    pub packets_in: u64,
    pub packets_out: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub streams_in: u64,
    pub streams_out: u64,
    pub send_errors: u64,
    /// Packets and streams that made no sense, by kind.
    pub bad: BTreeMap<String, u64>,
    pub not_allowed: u64,
    pub refused: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_begins_with_ok_and_a_refusal_with_error() {
        assert_eq!(reply_line(&Done { message: "x".into() }), r#"{"ok":true,"message":"x"}"#);
        assert_eq!(error_line("no \"such\" app"), r#"{"error":"no \"such\" app"}"#);
    }

    #[test]
    fn a_status_reads_back_and_an_older_one_with_fewer_fields_too() {
        let status = Status { node: "fra1".into(), apps: vec![App::default()], ..Status::default() };
        let line = reply_line(&status);
        assert_eq!(serde_json::from_str::<Status>(&line).unwrap(), status);
        assert_eq!(serde_json::from_str::<Status>(r#"{"ok":true,"node":"a"}"#).unwrap().node, "a");
    }
}
