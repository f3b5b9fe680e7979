//! Requests and replies of the control socket: one JSON line each way, as types that daemon and command line share.
//!
//! A reply is `{"ok":true,…}` or `{"error":"…"}`. The names of the fields are what `--json` prints: they stay.
//! Durations are whole seconds (`…_secs`) or milliseconds (`…_ms`), times are seconds since 1970, and 0 as long as
//! the date is not known.

pub mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::limits::JOIN_ONCE_MAX;
use crate::membership::Target;

/// What a client may ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Status {
        verbose: bool,
    },
    Members,
    /// The newest `n` events; `follow`: and those to come, for ever.
    Events {
        n: usize,
        follow: bool,
    },
    App {
        app: String,
        to: ForceTo,
        for_secs: Option<u64>,
    },
    /// What gets through to the member, or to all that have not left.
    PingMembers {
        node: Option<String>,
    },
    /// Each is tried once.
    Join {
        targets: Vec<Target>,
    },
    /// A failed or left member.
    Forget {
        node: String,
    },
    Leave,
    Stop,
    /// Go on as the program that is now on disk.
    Restart,
    /// Read the configuration anew.
    Reload,
    /// Whether the daemon is there.
    Ping,
}

/// What a person says an app is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForceTo {
    Up,
    Down,
    /// As its checks say.
    Auto,
}

impl ForceTo {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Auto => "auto",
        }
    }
    /// The inverse of [`ForceTo::as_str`].
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Up, Self::Down, Self::Auto].into_iter().find(|to| to.as_str() == word)
    }
}

/// The longest time for which a state can be forced: a year.
pub const FOR_MAX_SECS: u64 = 366 * 24 * 3600;

/// A request as it is written: one flat object, told apart by `cmd`.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    cmd: String,
    #[serde(skip_serializing_if = "is_false")]
    verbose: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<usize>,
    #[serde(skip_serializing_if = "is_false")]
    follow: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_secs: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    targets: Vec<String>,
}

fn is_false(b: &bool) -> bool {
    !*b
}

impl Request {
    /// The words that [`Request::parse`] knows as `cmd`.
    pub const COMMANDS: [&'static str; 12] = [
        "status",
        "members",
        "events",
        "app",
        "ping-members",
        "join",
        "forget",
        "leave",
        "stop",
        "restart",
        "reload",
        "ping",
    ];

    /// Reads a line. The error says what to do, for the client.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| format!("not a request ({error}); send one line like {{\"cmd\":\"status\"}}"))?;
        Ok(match line.cmd.as_str() {
            "status" => Self::Status { verbose: line.verbose },
            "members" => Self::Members,
            "events" => Self::Events { n: line.n.unwrap_or(usize::MAX), follow: line.follow },
            "app" => Self::app(line)?,
            "ping-members" => Self::PingMembers { node: line.node },
            "join" => Self::join(&line.targets)?,
            "forget" => {
                Self::Forget { node: line.node.ok_or("\"node\" is missing: the name of the member")? }
            }
            "leave" => Self::Leave,
            "stop" => Self::Stop,
            "restart" => Self::Restart,
            "reload" => Self::Reload,
            "ping" => Self::Ping,
            "" => return Err(format!("\"cmd\" is missing; known commands: {}", Self::COMMANDS.join(", "))),
            other => {
                let other = text::printable(other);
                return Err(format!(
                    "unknown command {other}; known commands: {}",
                    Self::COMMANDS.join(", ")
                ));
            }
        })
    }

    fn app(line: Line) -> Result<Self, String> {
        let app = line.app.ok_or("\"app\" is missing: the name of the app")?;
        let to = line.to.as_deref().and_then(ForceTo::parse).ok_or("\"to\" must be up, down or auto")?;
        match line.for_secs {
            Some(0) => Err("\"for_secs\" must be at least 1".into()),
            Some(secs) if secs > FOR_MAX_SECS => Err(format!("\"for_secs\" must be at most {FOR_MAX_SECS}")),
            for_secs => Ok(Self::App { app, to, for_secs }),
        }
    }

    fn join(targets: &[String]) -> Result<Self, String> {
        if targets.is_empty() || targets.len() > JOIN_ONCE_MAX {
            return Err(format!("\"targets\" must be 1 to {JOIN_ONCE_MAX} addresses with ports"));
        }
        let parsed = targets.iter().map(|text| {
            let wrong =
                || format!("{}: must be an address or a host name, with a port", text::printable(text));
            parse_target(text).ok_or_else(wrong)
        });
        Ok(Self::Join { targets: parsed.collect::<Result<_, _>>()? })
    }

    /// The line to send, without a newline.
    pub fn to_line(&self) -> String {
        let mut line = Line::default();
        line.cmd = match self {
            Self::Status { verbose } => {
                line.verbose = *verbose;
                "status"
            }
            Self::Members => "members",
            Self::Events { n, follow } => {
                (line.n, line.follow) = (Some(*n), *follow);
                "events"
            }
            Self::App { app, to, for_secs } => {
                (line.app, line.to) = (Some(app.clone()), Some(to.as_str().into()));
                line.for_secs = *for_secs;
                "app"
            }
            Self::PingMembers { node } => {
                line.node = node.clone();
                "ping-members"
            }
            Self::Join { targets } => {
                line.targets = targets.iter().map(target_text).collect();
                "join"
            }
            Self::Forget { node } => {
                line.node = Some(node.clone());
                "forget"
            }
            Self::Leave => "leave",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::Ping => "ping",
        }
        .into();
        serde_json::to_string(&line).unwrap_or_default()
    }
}

/// `192.0.2.1:7946`, `[2001:db8::1]:7946`, `par1.example.net:7946`.
pub fn target_text(target: &Target) -> String {
    match target {
        Target::Addr(addr) => addr.to_string(),
        Target::Name { host, port } => format!("{host}:{port}"),
    }
}

/// The inverse of [`target_text`].
fn parse_target(text: &str) -> Option<Target> {
    const HOST_MAX: usize = 254;
    if let Ok(addr) = text.parse() {
        return Some(Target::Addr(addr));
    }
    let (host, port) = text.rsplit_once(':')?;
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let port = port.parse().ok().filter(|&port: &u16| port > 0)?;
    let sound = (1..=HOST_MAX).contains(&host.len()) && host.bytes().all(is_name) && !host.starts_with('-');
    sound.then(|| Target::Name { host: host.into(), port })
}

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why, and what to do instead.
    pub error: String,
}

/// The request was carried out (or, for `stop` and `leave`, has begun).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub message: String,
}

/// The configuration was read anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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

/// First line of the reply to `events`; that many event lines follow ([`EventLine`]), and more when following.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    pub events: usize,
}

/// First line of the reply to `ping-members` and `join`; that many lines follow ([`Pinged`], [`Joined`]), each as
/// soon as it is known. A refusal in place of one says that the time for all of them is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trying {
    pub count: usize,
}

/// What got through to one member: how many milliseconds the answer took, or why there is none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Joined {
    /// With its port.
    pub target: String,
    pub joined: bool,
    /// Why not.
    pub why: Option<String>,
}

/// One event as a line of JSON. Beside these fields it has those of its kind: `node`, `app`, `handler`, `from`, ….
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
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

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Members {
    pub members: Vec<Member>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// The node that answers.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// All tags as they travel.
    pub tags: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberApp {
    pub name: String,
    /// `up`, `down`, `maint`, `unknown`.
    pub state: String,
    pub forced: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    /// Keys of the configuration file without an effect yet, with `verbose` only.
    pub no_effect: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MemberCounts {
    pub known: usize,
    pub alive: usize,
    pub suspect: usize,
    pub failed: usize,
    pub left: usize,
}

/// How much later than asked for the loop came round.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Late {
    /// The most in the last one to two minutes.
    pub recent_max_ms: u64,
    /// The most since the start.
    pub max_ms: u64,
    /// How often it was more than 2 s.
    pub count: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    pub node: String,
    pub member: String,
    pub state: String,
    pub forced: bool,
    pub addrs: Vec<String>,
    pub published: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Handler {
    pub name: String,
    pub app: Option<String>,
    pub mode: String,
    #[serde(rename = "where")]
    pub place: String,
    /// `idle`, `debouncing`, `running`, `stuck`, `backoff`, `waiting`, `stands back`.
    pub phase: String,
    /// The node that acts; `null`: each for itself, or nobody can.
    pub runner: Option<String>,
    pub failures_in_a_row: u32,
    pub gave_up: bool,
    pub last_run: Option<LastRun>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    fn every_request_reads_as_it_was_written() {
        let requests = [
            Request::Status { verbose: true },
            Request::Status { verbose: false },
            Request::Members,
            Request::Events { n: 7, follow: true },
            Request::App { app: "web".into(), to: ForceTo::Down, for_secs: Some(60) },
            Request::App { app: "web".into(), to: ForceTo::Auto, for_secs: None },
            Request::Leave,
            Request::Stop,
            Request::Restart,
            Request::Reload,
            Request::PingMembers { node: None },
            Request::PingMembers { node: Some("par1".into()) },
            Request::Join {
                targets: vec![
                    Target::Addr("[2001:db8::7]:7946".parse().unwrap()),
                    Target::Name { host: "par1.example.net".into(), port: 7947 },
                ],
            },
            Request::Forget { node: "par1".into() },
            Request::Ping,
        ];
        for request in requests {
            assert_eq!(Request::parse(request.to_line().as_bytes()), Ok(request));
        }
    }

    #[test]
    fn a_request_says_no_more_than_it_needs() {
        assert_eq!(Request::Members.to_line(), r#"{"cmd":"members"}"#);
    }

    #[test]
    fn a_bad_request_is_answered_with_what_to_do() {
        let error = |line: &str| Request::parse(line.as_bytes()).unwrap_err();
        assert!(error("hello").contains(r#"{"cmd":"status"}"#));
        assert!(error("{}").contains("known commands: status"));
        assert!(error(r#"{"cmd":"dance\u001b"}"#).contains(r"unknown command dance\u{1b}; known"));
        assert!(error(r#"{"cmd":"app","to":"up"}"#).contains("name of the app"));
        assert!(error(r#"{"cmd":"app","app":"web","to":"sideways"}"#).contains("up, down or auto"));
        assert!(error(r#"{"cmd":"app","app":"web","to":"up","for_secs":0}"#).contains("at least 1"));
        assert!(error(r#"{"cmd":"app","app":"web","to":"up","for_secs":99999999999}"#).contains("at most"));
        assert!(error(r#"{"cmd":"forget"}"#).contains("name of the member"));
        assert!(error(r#"{"cmd":"join"}"#).contains("1 to 16 addresses"));
        for bad in ["par1", "par1:0", "-x:7946", "a b:7946", ":7946", "192.0.2.1"] {
            let line = format!(r#"{{"cmd":"join","targets":["{bad}"]}}"#);
            assert!(error(&line).contains("with a port"), "{bad}");
        }
        assert!(Request::parse(b"\xff\xfe").is_err());
    }

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
