//! What happened, in words: the events that `events` shows and the log holds.

use core::net::IpAddr;

use log::Level;

use crate::agent::Identity;
use crate::agent::events::Event;
use crate::agent::noise::Kind;
use crate::agent::overrides::Override;
use crate::agent::reload::key_changes;
use crate::agent::tags::VERSION;
use crate::agent::transitions::Change;
use crate::check::AppState;
use crate::check::attempt::Exit;
use crate::control::Reloaded;
use crate::control::text::{cut, duration, printable, push_field};
use crate::delivery::{Occurrence, Report, ReportKind};
use crate::limits::{OUTPUT_MAX, REASON_MAX};
use crate::membership::{self, KeyChange};
use crate::safety::{Address, Reason};
use crate::time::Instant;
use crate::wire::crypt::KeyRing;

/// What becomes of a membership event.
pub enum Told {
    Event(Event),
    Noise(Kind, String),
    /// A target of `join` that could not be reached: its name, why, and a sentence.
    Target(Kind, String, Box<str>, String),
    Nothing,
}

/// Whether apps or handlers may depend on it.
pub fn matters(event: &membership::Event) -> bool {
    use membership::Event as Happened;
    match event {
        Happened::Joined { .. }
        | Happened::Suspected { .. }
        | Happened::Recovered { .. }
        | Happened::Failed { .. }
        | Happened::Left { .. }
        | Happened::Updated { .. }
        | Happened::Moved { .. }
        | Happened::Forgotten { .. }
        | Happened::FoundFailed { .. }
        | Happened::LastTags { .. } => true,
        // A peer was reached: gate 1 may open.
        Happened::Synced { error, .. } => error.is_none(),
        _ => false,
    }
}

pub fn of_membership(now: Instant, event: &membership::Event) -> Told {
    use membership::Event as Happened;
    let new = |level, kind, text: String| Event::new(now, level, kind, text);
    Told::Event(match event {
        Happened::Joined { node, returned } => {
            let text = if *returned { format!("{node} is back") } else { format!("{node} is a member") };
            new(Level::Info, "node-joined", text).with("node", node)
        }
        Happened::Suspected { node, from } => {
            let text = format!("{node} does not answer {from}; it is suspected");
            new(Level::Info, "node-suspect", text).with("node", node).with("from", from)
        }
        Happened::Recovered { node } => {
            new(Level::Info, "node-recovered", format!("{node} answers after all")).with("node", node)
        }
        Happened::Failed { node, from } => {
            new(Level::Warn, "node-failed", format!("{node} failed")).with("node", node).with("from", from)
        }
        Happened::FoundFailed { node } => {
            let text = format!("{node} had failed before this node heard of it");
            new(Level::Info, "node-failed-before", text).with("node", node)
        }
        Happened::Left { node } => {
            new(Level::Info, "node-left", format!("{node} left the cluster")).with("node", node)
        }
        Happened::Moved { node, from, to } => {
            let text = format!("{node} came back at another address");
            new(Level::Info, "node-address", text)
                .with("node", node)
                .with("from", &from.to_string())
                .with("to", &to.to_string())
        }
        Happened::Forgotten { node } => {
            new(Level::Info, "node-forgotten", format!("{node} is forgotten")).with("node", node)
        }
        Happened::Refuted { incarnation } => {
            let text = "others took this node for failed, or for its former self; told them better";
            new(Level::Info, "refuted", text.into()).with("incarnation", &incarnation.to_string())
        }
        Happened::Synced { addr, join: true, error: None } => {
            new(Level::Info, "join", format!("joined by way of {addr}")).with("addr", &addr.to_string())
        }
        Happened::UdpBlocked { node, addr } => {
            let port = addr.port();
            let text = format!(
                "UDP to or from {node} is blocked, only TCP or other members reach it: let UDP port {port} through, \
                 both ways; `picored ping {node}` shows what gets through"
            );
            new(Level::Warn, "udp-blocked", text).with("node", node).with("addr", &addr.to_string())
        }
        Happened::UdpRestored { node } => {
            new(Level::Info, "udp-restored", format!("{node} answers by UDP again")).with("node", node)
        }
        Happened::KeysAsked { change, fingerprint, from, changed: true, .. } => {
            let (kind, what) = match change {
                KeyChange::Install => ("keys-install", "is installed"),
                KeyChange::Use => ("keys-use", "encrypts from now on"),
                KeyChange::Remove => ("keys-remove", "is removed"),
            };
            new(Level::Info, kind, format!("key {fingerprint} {what}; {from} asked for it"))
                .with("key", fingerprint)
                .with("from", from)
        }
        other => return noise_of(other),
    })
}

fn noise_of(event: &membership::Event) -> Told {
    use membership::Event as Happened;
    let target = |kind, name: String, error: &str, what: &str| {
        let text =
            format!("{name} could not be {what}: {error}; it is tried again, which is not logged each time");
        Told::Target(kind, name, error.into(), text)
    };
    let (kind, text) = match event {
        Happened::Synced { addr, join: true, error: Some(error) } => {
            return target(Kind::JoinFailed, addr.to_string(), error, "joined");
        }
        Happened::NotResolved { host, error } => {
            return target(Kind::NotResolved, host.to_string(), error, "looked up");
        }
        Happened::Synced { addr, join: false, error: Some(error) } => {
            (Kind::SyncFailed, format!("no exchange of states with {addr}: {error}"))
        }
        Happened::Conflict { node, addr } => {
            (Kind::Conflict, format!("{addr} claims the name {node} too: give one of the two another name"))
        }
        Happened::ForeignCluster { node, cluster, addr } => (
            Kind::ForeignCluster,
            format!("{node} at {addr} belongs to the cluster {cluster}; it is refused"),
        ),
        Happened::TableFull { node } => {
            (Kind::TableFull, format!("the table of members is full; {node} is refused"))
        }
        Happened::KeysRefused { change, from, error } => (
            Kind::KeysRefused,
            format!("{} of a key, which {from} asked for, is refused: {error}", change.as_str()),
        ),
        _ => return Told::Nothing,
    };
    Told::Noise(kind, text)
}

/// A transition of an app, or what was learned of it.
pub fn of_app(now: Instant, event: &Occurrence, forced: bool, change: Change, why: Option<&str>) -> Event {
    let app = event.app.as_deref().unwrap_or_default();
    let mut text = format!("{app} is {} at {}", event.state.as_str(), event.node);
    if forced {
        text.push_str(", forced");
    }
    if let Some(why) = why {
        text = format!("{text}: {why}");
    }
    if change == Change::Learned {
        text.push_str(" (first verdict seen)");
    }
    let level = if event.state == AppState::Down { Level::Warn } else { Level::Info };
    Event::new(now, level, event.kind.as_str(), text)
        .with("app", app)
        .with("node", &event.node)
        .with("addrs", &list(event.addrs.iter()))
}

/// The gate that changes what is published is another one now, or none.
pub fn of_guard(now: Instant, app: &str, guard: Option<&Reason>) -> Event {
    match guard {
        Some(reason) => Event::new(now, Level::Warn, "guard", format!("{app}: {reason}")).with("app", app),
        None => {
            Event::new(now, Level::Info, "guard-over", format!("{app}: no gate holds it")).with("app", app)
        }
    }
}

pub fn published(now: Instant, app: &str, publish: &[Address]) -> Event {
    let addrs = list(publish.iter().map(|address| &address.addr));
    let text = match publish.len() {
        0 => format!("{app}: no address is to be published"),
        1 => format!("{app}: 1 address is to be published"),
        n => format!("{app}: {n} addresses are to be published"),
    };
    Event::new(now, Level::Info, "publish", text).with("app", app).with("addrs", &addrs)
}

pub fn of_report(now: Instant, report: &Report) -> Event {
    let name = match &report.app {
        Some(app) => format!("{} for {app}", report.handler),
        None => report.handler.to_string(),
    };
    let new = |level, kind, text: String| Event::new(now, level, kind, text);
    let event = match &report.what {
        ReportKind::Started { reason, attempt, publish } => {
            new(Level::Info, "handler-started", format!("{name} runs ({reason}, attempt {attempt})"))
                .with("reason", reason)
                .with("attempt", &attempt.to_string())
                .with("addrs", &list(publish.iter()))
        }
        ReportKind::Succeeded { took } => {
            let took_ms = took.as_millis().to_string();
            new(Level::Info, "handler-done", format!("{name} succeeded after {}", duration(*took)))
                .with("took_ms", &took_ms)
        }
        ReportKind::Failed { exit, output, retry_in } => {
            let next = match retry_in {
                Some(wait) => format!("tried again in {}", duration(*wait)),
                None => "not tried again here".into(),
            };
            let said = last_line(output);
            let said = if said.is_empty() { String::new() } else { format!(": {said}") };
            new(
                Level::Warn,
                "handler-failed",
                format!("{name} failed with {}, {next}{said}", exit_text(exit)),
            )
            .with("exit", &exit_text(exit))
        }
        ReportKind::TimedOut { after } => {
            let text = format!("{name} still ran after {}; its group was told to end", duration(*after));
            new(Level::Warn, "handler-timeout", text)
        }
        ReportKind::StandsBack { until } => {
            let text = match until {
                Some(until) => format!("{name} stands back here for {}", duration(until.since(now))),
                None => format!("{name} stands back here until the configuration is loaded again"),
            };
            new(Level::Warn, "handler-stands-back", text)
        }
        ReportKind::Dropped { count } => {
            new(Level::Warn, "handler-dropped", format!("{name} was not told of {count} events"))
                .with("count", &count.to_string())
        }
        ReportKind::Waits(waiting) => new(Level::Info, "handler-waits", format!("{name}: {waiting}")),
        ReportKind::Overlapped { with } => {
            let text = format!("{name}: {with} ran without knowing of the last run; one more follows");
            new(Level::Warn, "handler-overlap", text).with("node", with)
        }
        ReportKind::Differs { with } => {
            let text = format!(
                "{name}: {with} told another set than this node would: compare the two files, and `picored why` on both"
            );
            new(Level::Warn, "handler-differs", text).with("node", with)
        }
    };
    let event = event.with("handler", &report.handler);
    if let Some(app) = &report.app { event.with("app", app) } else { event }
}

/// The whole output of a failed run, for the log; the ring has its last line only.
pub fn output_of(report: &Report) -> Option<&str> {
    match &report.what {
        ReportKind::Failed { output, .. } if output.trim().lines().nth(1).is_some() => {
            Some(cut(output, OUTPUT_MAX))
        }
        _ => None,
    }
}

/// The log line for [`output_of`]: one line, whatever was printed.
pub fn output_line(report: &Report, output: &str) -> String {
    let mut line = String::new();
    push_field(&mut line, "event", "handler-output");
    push_field(&mut line, "handler", &report.handler);
    line.push_str(": ");
    line.push_str(&printable(output.trim_end()));
    line
}

/// The first line of a log: enough to see whether this is what was meant.
pub fn started(now: Instant, identity: &Identity, apps: usize, handlers: usize, keys: usize) -> Event {
    let Identity { node, cluster, advertise, .. } = identity;
    Event::new(
        now,
        Level::Info,
        "started",
        format!(
            "picored {VERSION} runs as {node} in the cluster {cluster}, {}",
            if keys == 0 { "not encrypted" } else { "encrypted" }
        ),
    )
    .with("node", node)
    .with("addr", &advertise.to_string())
    .with("apps", &apps.to_string())
    .with("handlers", &handlers.to_string())
    .with("keys", &keys.to_string())
}

/// `joined`: by reaching its peers, not only because `settle` is over. `first`: since the start.
pub fn gates_open(now: Instant, joined: bool, first: bool) -> Event {
    let text = match (first, joined) {
        (true, true) => "peers and own checks are known; this node may act",
        (true, false) => {
            "`settle` is over and peers are missing, or there are none; this node acts on what it knows"
        }
        (false, _) => "no gate stops this node any more; it may act",
    };
    let level = if joined || !first { Level::Info } else { Level::Warn };
    Event::new(now, level, if first { "settled" } else { "may-act" }, text)
}

/// Gates 3 and 4.
pub fn of_quorum(now: Instant, quorum: &Result<(), Reason>) -> Event {
    match quorum {
        Ok(()) => Event::new(now, Level::Info, "quorum", "there is a quorum again"),
        Err(reason) => Event::new(now, Level::Warn, "no-quorum", format!("this node does not act: {reason}")),
    }
}

/// Gate 5.
pub fn still_serves(now: Instant, app: &str, node: &str) -> Event {
    let text = format!(
        "{node} failed, but {app} answers at its address and stays published: look at picored there and at the \
         gossip port between"
    );
    Event::new(now, Level::Warn, "unreachable-but-serving", text).with("app", app).with("node", node)
}

pub fn gates_closed(now: Instant, reason: &Reason) -> Event {
    Event::new(now, Level::Warn, "waiting", format!("this node does not act: {reason}"))
}

pub fn stopping(now: Instant, is_running: bool) -> Event {
    let text = if is_running { "stops as soon as the handler that runs has ended" } else { "stops" };
    Event::new(now, Level::Info, "stopping", text)
}

pub fn restarting(now: Instant, is_running: bool) -> Event {
    let text = if is_running { "restarts as soon as the handler that runs has ended" } else { "restarts" };
    Event::new(now, Level::Info, "restarting", text)
}

/// What the state file told.
pub fn restored(now: Instant, from: &str, members: usize) -> Event {
    let text = format!("took up the state that {from} saved, with {members} other members");
    Event::new(now, Level::Info, "state-restored", text).with("from", from)
}

pub fn state_not_stored(now: Instant, problem: &str) -> Event {
    Event::new(now, Level::Error, "state-not-stored", problem)
}

pub fn state_stored(now: Instant) -> Event {
    Event::new(now, Level::Info, "state-stored", "the state is stored again")
}

pub fn leaving(now: Instant) -> Event {
    Event::new(now, Level::Info, "leaving", "withdraws its apps and leaves the cluster")
}

pub fn ended(now: Instant, how: &str) -> Event {
    Event::new(now, Level::Info, "ended", how)
}

pub fn forced(now: Instant, app: &str, to: &str, until: Option<core::time::Duration>, by: &str) -> Event {
    let who = who(by);
    let text = match (to, until) {
        ("auto", _) => format!("{app} is as its checks say, {who} said"),
        (_, Some(time)) => format!("{app} is {to} for {}, {who} said", duration(time)),
        (_, None) => format!("{app} is {to} until further notice, {who} said"),
    };
    Event::new(now, Level::Info, "app-forced", text).with("app", app).with("to", to).with("by", by)
}

/// `own`: this node's name.
pub fn maint_on(now: Instant, word: &Override, own: &str) -> Event {
    let node = word.node.as_deref().unwrap_or(own);
    let time = word.until.map_or(String::new(), |(_, time)| format!(" for {}", duration(time)));
    let reason = if word.reason.is_empty() { String::new() } else { format!(": {}", word.reason) };
    let text = format!(
        "{} in maintenance{time}, {} said{reason}",
        apps_of(node, word.app.as_deref()),
        who(&word.by)
    );
    about_apps(Event::new(now, Level::Info, "maint", text), node, word.app.as_deref()).with("by", &word.by)
}

pub fn maint_off(now: Instant, node: &str, app: Option<&str>, by: &str) -> Event {
    let text = format!("{} not in maintenance any more, {} said", apps_of(node, app), who(by));
    about_apps(Event::new(now, Level::Info, "maint-over", text), node, app).with("by", by)
}

/// What a person said has come to the end that it was given.
pub fn word_over(now: Instant, word: &Override, own: &str) -> Event {
    let node = word.node.as_deref().unwrap_or(own);
    let what = apps_of(node, word.app.as_deref());
    let (kind, text) = match word.state {
        AppState::Maint => ("maint-over", format!("{what} not in maintenance any more: its time is over")),
        state => ("app-forced", format!("{what} not forced {} any more: its time is over", state.as_str())),
    };
    about_apps(Event::new(now, Level::Info, kind, text), node, word.app.as_deref())
}

/// What a person said is of an app that has no instance here any more.
pub fn word_lost(now: Instant, word: &Override, own: &str) -> Event {
    let (kind, said) = match word.state {
        AppState::Maint => ("maint-over", "in maintenance"),
        AppState::Up => ("app-forced", "forced up"),
        _ => ("app-forced", "forced down"),
    };
    let what = apps_of(own, word.app.as_deref());
    let text = format!("{what} not {said} any more: the configuration has no instance of it");
    about_apps(Event::new(now, Level::Warn, kind, text), own, word.app.as_deref())
}

fn about_apps(event: Event, node: &str, app: Option<&str>) -> Event {
    event.with("node", node).with("app", app.unwrap_or("*"))
}

fn apps_of(node: &str, app: Option<&str>) -> String {
    match app {
        Some(app) => format!("{app} at {node} is"),
        None => format!("all apps of {node} are"),
    }
}

fn who(by: &str) -> &str {
    if by.is_empty() { "a person" } else { by }
}

pub fn rehearsing(now: Instant, handler: &str) -> Event {
    Event::new(now, Level::Info, "handler-test", format!("{handler} runs with PICORED_DRY_RUN=1"))
        .with("handler", handler)
}

pub fn rehearsed(now: Instant, handler: &str, exit: &Exit) -> Event {
    let exit = exit_text(exit);
    Event::new(now, Level::Info, "handler-test", format!("the test of {handler} ended with {exit}"))
        .with("handler", handler)
        .with("exit", &exit)
}

pub fn log_level(now: Instant, level: log::LevelFilter) -> Event {
    let word = level.as_str().to_ascii_lowercase();
    Event::new(now, Level::Info, "log-level", format!("logs {word} until the next restart or reload"))
        .with("to", &word)
}

/// The configuration was read anew.
pub fn reloaded(now: Instant, reloaded: &Reloaded) -> Event {
    let Reloaded { changed, at_restart, notes } = reloaded;
    let level = if notes.is_empty() { Level::Info } else { Level::Warn };
    let text = format!("the configuration was read anew: {}", reloaded.sentences().join("; "));
    let parts =
        [("changed", changed), ("at_restart", at_restart)].into_iter().filter(|part| !part.1.is_empty());
    let event = Event::new(now, level, "reload", text).with("result", "done");
    parts.fold(event, |event, (name, keys)| event.with(name, &keys.join(",")))
}

pub fn not_reloaded(now: Instant, error: &str) -> Event {
    let text =
        format!("all stays as it is (`picored check-config` shows it all): {}", error.replace('\n', ";"));
    Event::new(now, Level::Error, "reload", text).with("result", "refused")
}

/// Never a key itself: its fingerprint.
pub fn keys_reloaded(now: Instant, before: &KeyRing, after: &KeyRing) -> Event {
    let text = format!("keys of the configuration taken over: {}", key_changes(before, after));
    Event::new(now, Level::Info, "keys-reload", text).with("keys", &after.keys.len().to_string())
}

pub fn keys_not_stored(now: Instant, why: &str) -> Event {
    let text = format!(
        "the keys hold in memory only, and a restart would cut this node off: {why}; put right what keeps them from \
         being stored and repeat the last `serf keys`, or write them there by hand, the one in use first"
    );
    Event::new(now, Level::Error, "keys-not-stored", text)
}

/// They are written, but it is not certain that this outlives a power cut.
pub fn keys_doubtful(now: Instant, why: &str) -> Event {
    Event::new(now, Level::Warn, "keys-stored", format!("the keys are stored: {why}"))
}

/// `exit 0`, `signal 9`, `not started: …`.
pub fn exit_text(exit: &Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exit {code}"),
        Exit::Signal(signal) => format!("signal {signal}"),
        Exit::NotStarted(why) => format!("not started: {why}"),
    }
}

fn last_line(output: &str) -> &str {
    output.trim().lines().next_back().unwrap_or_default().trim()
}

/// Whole addresses only: half a one would be another one.
fn list<'a>(addrs: impl Iterator<Item = &'a IpAddr>) -> String {
    const MORE: usize = ",+65536".len();
    let mut list = String::new();
    let mut more = 0;
    for addr in addrs.map(IpAddr::to_string) {
        if more > 0 || list.len() + addr.len() + 1 + MORE > REASON_MAX {
            more += 1;
            continue;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&addr);
    }
    if more > 0 {
        list.push_str(&format!(",+{more}"));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_run_shows_its_last_line_and_the_log_gets_all() {
        let what =
            ReportKind::Failed { exit: Exit::Code(2), output: "a\nb: refused\n".into(), retry_in: None };
        let report = Report { handler: "dns".into(), app: Some("web".into()), what };
        let line = of_report(Instant::ZERO, &report).log_line();
        assert_eq!(
            line,
            "event=handler-failed exit=\"exit 2\" handler=dns app=web: \
             dns for web failed with exit 2, not tried again here: b: refused"
        );
        assert_eq!(output_of(&report), Some("a\nb: refused\n"));
    }

    #[test]
    fn a_long_list_of_addresses_ends_with_a_whole_one_and_how_many_more_there_are() {
        let addrs: Vec<IpAddr> = (10..74).map(|n| IpAddr::from([203, 0, 113, n])).collect();
        assert_eq!(list(addrs[..2].iter()), "203.0.113.10,203.0.113.11");
        let event = Event::new(Instant::ZERO, Level::Info, "publish", "").with("addrs", &list(addrs.iter()));
        let (_, shown) = &event.fields[0];
        assert!(shown.ends_with(",203.0.113.23,+50"), "{shown}");
    }

    #[test]
    fn only_what_handlers_may_depend_on_makes_the_agent_look_again() {
        let addr = "192.0.2.1:7946".parse().unwrap();
        assert!(matters(&membership::Event::Updated { node: "a".into() }));
        assert!(matters(&membership::Event::Synced { addr, join: true, error: None }));
        assert!(!matters(&membership::Event::Refuted { incarnation: 3 }));
        assert!(!matters(&membership::Event::Synced { addr, join: true, error: Some("x".into()) }));
    }
}
