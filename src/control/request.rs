//! What clients of the control socket ask, as they write it and as it is understood.

use log::LevelFilter;
use serde_json::{Map, Value};

use super::text;
use crate::delivery::EventKind;
use crate::limits::{JOIN_ONCE_MAX, REASON_MAX};
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
    /// The state of the app here is what a person says.
    App {
        app: String,
        to: ForceTo,
        for_secs: Option<u64>,
        /// Who says so, as the client calls itself.
        by: Option<String>,
    },
    /// Maintenance of an app or of all, of this node or of another one.
    Maint {
        on: bool,
        app: Option<String>,
        node: Option<String>,
        for_secs: Option<u64>,
        reason: Option<String>,
        by: Option<String>,
    },
    /// Why each address of the app, or of all, is published or not.
    Why {
        app: Option<String>,
    },
    /// Runs the `sync` handler, or all, now.
    Sync {
        handler: Option<String>,
        /// Only says what would be told.
        dry_run: bool,
        /// Once without `max_remove`.
        force: bool,
    },
    /// Runs the handler with PICORED_DRY_RUN=1.
    TestHandler {
        handler: String,
        event: Option<EventKind>,
        app: Option<String>,
        node: Option<String>,
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
    /// Ends like `stop`, and the program that is then on disk takes its place.
    Restart,
    /// Read the configuration anew.
    Reload,
    /// What is logged, until the next restart or reload.
    LogLevel {
        level: LevelFilter,
    },
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

/// The longest time for which a state can be forced, or maintenance lasts: a year.
pub const FOR_MAX_SECS: u64 = 366 * 24 * 3600;
/// Maintenance ends by itself after this if nothing else was said.
pub const MAINT_SECS: u64 = 24 * 3600;
/// A person's name that is kept, in bytes.
const BY_MAX: usize = 64;

/// A request as it is written: one flat object, told apart by `cmd`. What is `null` is not there.
#[derive(Default)]
struct Line {
    fields: Map<String, Value>,
    /// The first field that was not of its kind, and was taken for missing.
    wrong: Option<String>,
}

impl Line {
    fn take(&mut self, key: &str) -> Value {
        self.fields.remove(key).unwrap_or_default()
    }

    #[cold]
    fn must_be(&mut self, key: &str, kind: &str) {
        self.wrong.get_or_insert_with(|| no_request(&format!("\"{key}\" must be {kind}")));
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.take(key) {
            Value::String(text) => return Some(text),
            Value::Null => {}
            _ => self.must_be(key, "text"),
        }
        None
    }

    fn number(&mut self, key: &str) -> Option<u64> {
        let value = self.take(key);
        if !value.is_null() && !value.is_u64() {
            self.must_be(key, "a whole number, 0 or more");
        }
        value.as_u64()
    }

    fn flag(&mut self, key: &str) -> bool {
        let value = self.take(key);
        if !value.is_null() && !value.is_boolean() {
            self.must_be(key, "true or false");
        }
        value == Value::Bool(true)
    }

    fn texts(&mut self, key: &str) -> Vec<String> {
        let mut texts = Vec::new();
        match self.take(key) {
            Value::Null => {}
            Value::Array(values) => values.into_iter().for_each(|value| match value {
                Value::String(text) => texts.push(text),
                _ => self.must_be(key, "a list of texts"),
            }),
            _ => self.must_be(key, "a list of texts"),
        }
        texts
    }

    /// What cannot be done without.
    fn needed(&mut self, key: &str, what: &str) -> Result<String, String> {
        self.text(key).ok_or_else(|| format!("\"{key}\" is missing: {what}"))
    }

    /// What says nothing is left out.
    fn put(&mut self, key: &str, value: Value) {
        if !matches!(value, Value::Null | Value::Bool(false)) {
            self.fields.insert(key.into(), value);
        }
    }

    fn put_text(&mut self, key: &str, text: Option<&str>) {
        self.put(key, text.map_or(Value::Null, |text| Value::String(text.into())));
    }

    fn put_number(&mut self, key: &str, number: Option<u64>) {
        self.put(key, number.map_or(Value::Null, Value::from));
    }
}

#[cold]
fn no_request(why: &str) -> String {
    format!("not a request ({why}); send one line like {{\"cmd\":\"status\"}}")
}

impl Request {
    /// The words that [`Request::parse`] knows as `cmd`.
    pub const COMMANDS: [&'static str; 17] = [
        "status",
        "members",
        "events",
        "why",
        "app",
        "maint",
        "sync",
        "test-handler",
        "ping-members",
        "join",
        "forget",
        "leave",
        "stop",
        "restart",
        "reload",
        "log-level",
        "ping",
    ];

    /// Reads a line. The error says what to do, for the client.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let mut line = match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) => Line { fields, wrong: None },
            Ok(_) => return Err(no_request("it is no object")),
            Err(error) => return Err(no_request(&error.to_string())),
        };
        let read = Self::read(&mut line);
        line.wrong.map_or(read, Err)
    }

    fn read(line: &mut Line) -> Result<Self, String> {
        Ok(match &*line.text("cmd").unwrap_or_default() {
            "status" => Self::Status { verbose: line.flag("verbose") },
            "members" => Self::Members,
            "events" => {
                let n = line.number("n").and_then(|n| usize::try_from(n).ok());
                Self::Events { n: n.unwrap_or(usize::MAX), follow: line.flag("follow") }
            }
            "why" => Self::Why { app: line.text("app") },
            "app" => Self::app(line)?,
            "maint" => Self::maint(line)?,
            "sync" => Self::Sync {
                handler: line.text("handler"),
                dry_run: line.flag("dry_run"),
                force: line.flag("force"),
            },
            "test-handler" => Self::test_handler(line)?,
            "ping-members" => Self::PingMembers { node: line.text("node") },
            "join" => Self::join(&line.texts("targets"))?,
            "forget" => Self::Forget { node: line.needed("node", "the name of the member")? },
            "leave" => Self::Leave,
            "stop" => Self::Stop,
            "restart" => Self::Restart,
            "reload" => Self::Reload,
            "log-level" => Self::LogLevel { level: level(&line.text("level").unwrap_or_default())? },
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

    fn app(line: &mut Line) -> Result<Self, String> {
        let app = line.needed("app", "the name of the app")?;
        let to = line.text("to").as_deref().and_then(ForceTo::parse);
        let to = to.ok_or("\"to\" must be up, down or auto")?;
        let for_secs = for_secs(line.number("for_secs"))?;
        Ok(Self::App { app, to, for_secs, by: line.text("by").map(name_of) })
    }

    fn maint(line: &mut Line) -> Result<Self, String> {
        let on = match line.text("to").as_deref() {
            Some("on") => true,
            Some("off") => false,
            _ => return Err("\"to\" must be on or off".into()),
        };
        let for_secs = for_secs(line.number("for_secs"))?;
        let reason = line.text("reason").map(|reason| text::cut(&reason, REASON_MAX).to_owned());
        let (app, node, by) = (line.text("app"), line.text("node"), line.text("by").map(name_of));
        Ok(Self::Maint { on, app, node, for_secs, reason, by })
    }

    fn test_handler(line: &mut Line) -> Result<Self, String> {
        let handler = line.needed("handler", "its name")?;
        let event = line.text("event").as_deref().map(event).transpose()?;
        Ok(Self::TestHandler { handler, event, app: line.text("app"), node: line.text("node") })
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

    /// The same, said by this person where that is kept.
    pub fn said_by(mut self, person: Option<String>) -> Self {
        if let Self::App { by, .. } | Self::Maint { by, .. } = &mut self {
            *by = person;
        }
        self
    }

    /// The line to send, without a newline.
    pub fn to_line(&self) -> String {
        let mut line = Line::default();
        let cmd = match self {
            Self::Status { verbose } => {
                line.put("verbose", Value::Bool(*verbose));
                "status"
            }
            Self::Members => "members",
            Self::Events { n, follow } => {
                line.put_number("n", u64::try_from(*n).ok());
                line.put("follow", Value::Bool(*follow));
                "events"
            }
            Self::Why { app } => {
                line.put_text("app", app.as_deref());
                "why"
            }
            Self::App { app, to, for_secs, by } => {
                line.put_text("app", Some(app));
                line.put_text("to", Some(to.as_str()));
                line.put_number("for_secs", *for_secs);
                line.put_text("by", by.as_deref());
                "app"
            }
            Self::Maint { on, app, node, for_secs, reason, by } => {
                line.put_text("to", Some(if *on { "on" } else { "off" }));
                line.put_number("for_secs", *for_secs);
                let texts = [("app", app), ("node", node), ("reason", reason), ("by", by)];
                texts.into_iter().for_each(|(key, text)| line.put_text(key, text.as_deref()));
                "maint"
            }
            Self::Sync { handler, dry_run, force } => {
                line.put_text("handler", handler.as_deref());
                line.put("dry_run", Value::Bool(*dry_run));
                line.put("force", Value::Bool(*force));
                "sync"
            }
            Self::TestHandler { handler, event, app, node } => {
                line.put_text("handler", Some(handler));
                line.put_text("event", event.map(EventKind::as_str));
                line.put_text("app", app.as_deref());
                line.put_text("node", node.as_deref());
                "test-handler"
            }
            Self::PingMembers { node } => {
                line.put_text("node", node.as_deref());
                "ping-members"
            }
            Self::Join { targets } => {
                line.put(
                    "targets",
                    Value::Array(targets.iter().map(|target| target_text(target).into()).collect()),
                );
                "join"
            }
            Self::Forget { node } => {
                line.put_text("node", Some(node));
                "forget"
            }
            Self::Leave => "leave",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
            Self::LogLevel { level } => {
                line.put_text("level", Some(&level.as_str().to_ascii_lowercase()));
                "log-level"
            }
            Self::Ping => "ping",
        };
        line.put_text("cmd", Some(cmd));
        serde_json::to_string(&Value::Object(line.fields)).unwrap_or_default()
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

fn for_secs(secs: Option<u64>) -> Result<Option<u64>, String> {
    match secs {
        Some(0) => Err("\"for_secs\" must be at least 1".into()),
        Some(secs) if secs > FOR_MAX_SECS => Err(format!("\"for_secs\" must be at most {FOR_MAX_SECS}")),
        secs => Ok(secs),
    }
}

/// What is logged, as the configuration spells it.
pub fn level(word: &str) -> Result<LevelFilter, String> {
    word.parse().map_err(|_| {
        let word = text::printable(word);
        format!("{word}: a level is off, error, warn, info, debug or trace")
    })
}

/// An event of `event` handlers, as the configuration spells it.
pub fn event(word: &str) -> Result<EventKind, String> {
    EventKind::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or_else(|| {
        let known: Vec<&str> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("{}: an event is one of {}", text::printable(word), known.join(", "))
    })
}

fn name_of(person: String) -> String {
    text::cut(&person, BY_MAX).to_owned()
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
            Request::App { app: "web".into(), to: ForceTo::Down, for_secs: Some(60), by: None },
            Request::App { app: "web".into(), to: ForceTo::Auto, for_secs: None, by: Some("anna".into()) },
            Request::Maint { on: true, app: None, node: None, for_secs: None, reason: None, by: None },
            Request::Maint {
                on: false,
                app: Some("web".into()),
                node: Some("par1".into()),
                for_secs: Some(3_600),
                reason: Some("new \"disk\"".into()),
                by: Some("anna".into()),
            },
            Request::Why { app: None },
            Request::Why { app: Some("web".into()) },
            Request::Sync { handler: None, dry_run: false, force: true },
            Request::Sync { handler: Some("dns".into()), dry_run: true, force: false },
            Request::TestHandler {
                handler: "mail".into(),
                event: Some(EventKind::NodeFailed),
                app: Some("web".into()),
                node: Some("par1".into()),
            },
            Request::Restart,
            Request::LogLevel { level: LevelFilter::Debug },
            Request::Leave,
            Request::Stop,
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
        assert!(error(r#"{"cmd":"maint"}"#).contains("on or off"));
        assert!(error(r#"{"cmd":"maint","to":"on","for_secs":0}"#).contains("at least 1"));
        assert!(error(r#"{"cmd":"test-handler"}"#).contains("its name"));
        assert!(error(r#"{"cmd":"test-handler","handler":"a","event":"x"}"#).contains("node-failed"));
        assert!(error(r#"{"cmd":"log-level","level":"loud"}"#).contains("off, error, warn"));
        assert!(error(r#"{"cmd":"log-level"}"#).contains("off, error, warn"));
        assert!(error(r#"{"cmd":"forget"}"#).contains("name of the member"));
        assert!(error(r#"{"cmd":"join"}"#).contains("1 to 16 addresses"));
        for bad in ["par1", "par1:0", "-x:7946", "a b:7946", ":7946", "192.0.2.1"] {
            let line = format!(r#"{{"cmd":"join","targets":["{bad}"]}}"#);
            assert!(error(&line).contains("with a port"), "{bad}");
        }
        assert!(Request::parse(b"\xff\xfe").is_err());
        assert!(error("[]").contains("it is no object"));
        assert!(error(r#"{"cmd":"app","app":7,"to":"up"}"#).contains("\"app\" must be text"));
        assert!(error(r#"{"cmd":7}"#).contains("\"cmd\" must be text"));
        assert!(error(r#"{"cmd":"status","verbose":1}"#).contains("\"verbose\" must be true or false"));
        assert!(error(r#"{"cmd":"events","n":-1}"#).contains("\"n\" must be a whole number"));
        assert!(error(r#"{"cmd":"join","targets":[7]}"#).contains("\"targets\" must be a list of texts"));
    }

    #[test]
    fn what_a_person_writes_is_kept_in_bounds() {
        let line = format!(r#"{{"cmd":"maint","to":"on","reason":"{0}","by":"{0}"}}"#, "x".repeat(1_000));
        let Ok(Request::Maint { reason, by, .. }) = Request::parse(line.as_bytes()) else {
            panic!("{line}");
        };
        assert_eq!((reason.unwrap().len(), by.unwrap().len()), (REASON_MAX, BY_MAX));
    }
}
