//! Asks the daemon, and turns its reply into text and an exit code.

use core::time::Duration;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cli::{answers, complain, exit, print, screen};
use crate::config::schema::{CONTROL_DEFAULT, STATE_DEFAULT};
use crate::control::Request;
use crate::control::fields::{Fields, read};
use crate::control::text::printable;
use crate::driver::control::connect;
use crate::limits::{CLIENT_BACKLOG_MAX, CONFIG_FILE_MAX, JOIN_TIME_MAX, PING_TIME_MAX, TRYING_CLIENTS_MAX};

/// For each line from the daemon: it never blocks, so it is gone or hangs.
const TIMEOUT: Duration = Duration::from_secs(10);
/// `stop` and `leave` wait for the handler that runs; longer than any sane timeout of one.
const END_TIMEOUT: Duration = Duration::from_secs(3_600);
/// The program that takes the daemon's place answers by then.
const RESTART_TIMEOUT: Duration = Duration::from_secs(10);
const RESTART_POLL: Duration = Duration::from_millis(50);
/// Between two lines of the reply to `join`: others may have begun before us.
const JOIN_TIMEOUT: Duration = Duration::from_secs(2 * JOIN_TIME_MAX.as_secs() + TIMEOUT.as_secs());
/// Between two lines of the reply to `ping`: all who may try at once can share one place.
const PING_TIMEOUT: Duration =
    Duration::from_secs(TRYING_CLIENTS_MAX as u64 * PING_TIME_MAX.as_secs() + TIMEOUT.as_secs());

/// The socket that the configuration names, as [`named`] reads it.
pub fn socket_of(config: &Path) -> PathBuf {
    named(config).control
}

/// Where the daemon of a configuration is found.
pub struct Named {
    pub control: PathBuf,
    pub state: PathBuf,
}

/// The file is read leniently: what is wrong with it is `check-config`'s to say, and a user who may not read it gets the
/// defaults.
pub fn named(config: &Path) -> Named {
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open(config) {
        let _ = file.take(CONFIG_FILE_MAX as u64).read_to_string(&mut text);
    }
    let found = read(&text).ok();
    let path = |key: &str, default: &str| {
        let value = match &found {
            Some(value) => value.get(key).and_then(Value::as_str).map(str::to_owned),
            // With a comma too few it is no JSON, and a daemon may run with the file as it was.
            None => text_behind(&text, key),
        };
        PathBuf::from(value.as_deref().unwrap_or(default))
    };
    Named { control: path("control", CONTROL_DEFAULT), state: path("state", STATE_DEFAULT) }
}

/// The string that follows the first place where `key` stands as a key.
fn text_behind(text: &str, key: &str) -> Option<String> {
    let quoted = format!("\"{key}\"");
    let mut places =
        text.split(quoted.as_str()).skip(1).filter_map(|rest| rest.trim_start().strip_prefix(':'));
    let rest = places.next()?.as_bytes();
    let value = serde_json::Deserializer::from_slice(rest).into_iter::<Value>().next()?.ok()?;
    value.as_str().map(str::to_owned)
}

/// Asks, prints and says the exit code. `config` is the file that a person is told to look into.
pub fn ask(socket: &Path, request: &Request, json: bool, config: &Path) -> u8 {
    let one = |needed: &[&str], show, code| one(socket, request, json, needed, show, code);
    let well: Judge = |_| true;
    let result = match request {
        Request::Status { verbose } => return status(socket, request, *verbose, json),
        Request::Members => one(&[], screen::members, well),
        Request::Why { .. } => one(&[], answers::why, well),
        // Done if this node runs at least one of them.
        Request::Sync { dry_run: false, .. } => {
            one(&[], answers::synced, |synced| synced.list("jobs").any(|job| job.is("here")))
        }
        Request::Sync { .. } => one(&[], answers::synced, well),
        Request::TestHandler { .. } => one(&[], answers::rehearsed, |rehearsed| rehearsed.is("succeeded")),
        Request::App { .. }
        | Request::Maint { .. }
        | Request::LogLevel { .. }
        | Request::Forget { .. }
        | Request::Ping => one(&["message"], answers::done, well),
        Request::Reload => one(&[], answers::reloaded, well),
        Request::Events { follow, .. } => events(socket, request, *follow, json),
        Request::PingMembers { .. } => ping(socket, request, json),
        Request::Join { .. } => join(socket, request, config),
        Request::Leave | Request::Stop => until_the_end(socket, request),
        Request::Restart => restart(socket, request, RESTART_TIMEOUT),
    };
    result.unwrap_or_else(|failure| {
        complain(&failure.text);
        failure.code
    })
}

/// Why there is no answer.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn new(code: u8, text: String) -> Self {
        Self { code, text }
    }

    /// `doing`: "connect to", "read from". `waited`: for how long; not at all for a connection.
    fn of(error: &io::Error, doing: &str, socket: &Path, waited: Duration) -> Self {
        use io::ErrorKind as Kind;
        let place = printable(&socket.to_string_lossy()).into_owned();
        match error.kind() {
            Kind::NotFound | Kind::ConnectionRefused => {
                Self::new(exit::NO_DAEMON, format!("no daemon answers at {place}: is picored running?"))
            }
            Kind::WouldBlock | Kind::TimedOut if waited.is_zero() => {
                Self::new(exit::NO_DAEMON, format!("the daemon at {place} takes no connection: it hangs"))
            }
            Kind::WouldBlock | Kind::TimedOut => {
                let secs = waited.as_secs();
                Self::new(exit::NO_DAEMON, format!("the daemon at {place} gave no answer within {secs} s"))
            }
            Kind::PermissionDenied => {
                Self::new(exit::SYSTEM, format!("not allowed to {doing} {place}: ask as its owner (root)"))
            }
            Kind::ConnectionReset | Kind::BrokenPipe | Kind::UnexpectedEof => {
                Self::new(exit::NO_DAEMON, format!("the daemon at {place} went away"))
            }
            _ => Self::new(exit::SYSTEM, format!("cannot {doing} {place}: {error}")),
        }
    }
}

/// A connection on which the request was sent.
struct Connection<'a> {
    stream: BufReader<UnixStream>,
    socket: &'a Path,
    /// How long each line is waited for.
    patience: Duration,
}

impl<'a> Connection<'a> {
    fn ask(socket: &'a Path, request: &Request) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::of(&error, "connect to", socket, Duration::ZERO);
        let mut stream = connect(socket).map_err(failed)?;
        let failed = |error: io::Error| Failure::of(&error, "write to", socket, TIMEOUT);
        stream.set_read_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.set_write_timeout(Some(TIMEOUT)).map_err(failed)?;
        stream.write_all(format!("{}\n", request.to_line()).as_bytes()).map_err(failed)?;
        Ok(Self { stream: BufReader::new(stream), socket, patience: TIMEOUT })
    }

    /// `None`: for ever.
    fn set_patience(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
        self.patience = timeout.unwrap_or(Duration::MAX);
        let set = self.stream.get_ref().set_read_timeout(timeout);
        set.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::of(error, "read from", self.socket, self.patience)
    }

    /// The next line without its newline; `None`: that was all.
    fn line(&mut self) -> Result<Option<String>, Failure> {
        let mut line = String::new();
        // Whatever listens there, it cannot make us grow without end.
        let limit = 2 * CLIENT_BACKLOG_MAX as u64;
        let got = (&mut self.stream).take(limit).read_line(&mut line);
        let got = got.map_err(|error| self.failed(&error))?;
        line.truncate(line.trim_end_matches('\n').len());
        Ok((got > 0).then_some(line))
    }

    /// The next line, which there must be, unless it is a refusal.
    fn reply(&mut self) -> Result<Reply, Failure> {
        let gone = io::Error::from(io::ErrorKind::UnexpectedEof);
        let line = self.line()?.ok_or_else(|| self.failed(&gone))?;
        let reply = Reply::of(line);
        match reply.value.as_ref().ok().and_then(|value| Fields(value).maybe("error")) {
            Some(error) => {
                let lines: Vec<_> = error.lines().map(printable).collect();
                Err(Failure::new(exit::REFUSED, lines.join("\n")))
            }
            None => Ok(reply),
        }
    }
}

/// A line, and what it says.
#[derive(Debug)]
struct Reply {
    line: String,
    value: Result<Value, String>,
}

impl Reply {
    fn of(line: String) -> Self {
        Self { value: read(&line), line }
    }

    /// `needed` must be there; what else there is to be is empty if it is missing.
    fn fields(&self, needed: &[&str]) -> Result<Fields<'_>, Failure> {
        let fields = match &self.value {
            Ok(value) => Fields(value),
            Err(error) => return Err(no_sense(error)),
        };
        match needed.iter().find(|key| !fields.has(key)) {
            Some(key) => Err(no_sense(&format!("missing field `{key}`"))),
            None => Ok(fields),
        }
    }

    fn into_line(mut self) -> String {
        self.line.push('\n');
        self.line
    }
}

#[cold]
fn no_sense(error: &str) -> Failure {
    Failure::new(exit::SYSTEM, format!("the daemon's answer makes no sense: {error}"))
}

/// How a reply is shown, in colour or not.
type Show = fn(Fields<'_>, bool) -> String;
/// Whether what was asked for was done.
type Judge = fn(Fields<'_>) -> bool;

/// The one line with which most requests are answered.
fn reply_to(socket: &Path, request: &Request) -> Result<Reply, Failure> {
    let mut connection = Connection::ask(socket, request)?;
    // As long as the handler may run.
    if matches!(request, Request::TestHandler { .. }) {
        connection.set_patience(Some(END_TIMEOUT))?;
    }
    connection.reply()
}

/// A request with one line as its reply.
fn one(
    socket: &Path,
    request: &Request,
    json: bool,
    needed: &[&str],
    show: Show,
    judge: Judge,
) -> Result<u8, Failure> {
    let reply = reply_to(socket, request)?;
    let fields = reply.fields(needed)?;
    let code = if judge(fields) { exit::DONE } else { exit::REFUSED };
    let text = if json { reply.into_line() } else { show(fields, has_colour()) };
    Ok(print_then(&text, code))
}

/// As a Nagios plugin: whatever happens, the first line of stdout says it.
fn status(socket: &Path, request: &Request, verbose: bool, json: bool) -> u8 {
    let ask = || {
        let reply = reply_to(socket, request)?;
        let status = reply.fields(&["code"])?;
        let code = status.count("code").and_then(|code| u8::try_from(code).ok());
        let code = code.ok_or_else(|| no_sense("its code is none"))?;
        let text = if json { reply.into_line() } else { screen::status(status, verbose, has_colour()) };
        Ok((text, code))
    };
    match ask() {
        Ok((text, code)) => print_then(&text, code),
        Err(Failure { text, .. }) if json => {
            complain(&text);
            exit::STATUS_NO_DAEMON
        }
        Err(Failure { text, .. }) => {
            print_then(&format!("PICORED UNKNOWN - {text}\n"), exit::STATUS_NO_DAEMON)
        }
    }
}

fn print_then(text: &str, code: u8) -> u8 {
    match print(text) {
        exit::DONE => code,
        failed => failed,
    }
}

fn events(socket: &Path, request: &Request, follow: bool, json: bool) -> Result<u8, Failure> {
    let mut connection = Connection::ask(socket, request)?;
    connection.reply()?; // how many there are: they come line by line anyway
    if follow {
        connection.set_patience(None)?;
    }
    let colour = has_colour();
    let mut out = io::stdout().lock();
    while let Some(line) = connection.line()? {
        let text = match json {
            true => line + "\n",
            false => {
                let event = Reply::of(line);
                screen::event(event.fields(&["time", "level", "event", "message"])?, colour)
            }
        };
        // `events | head` has seen enough: nothing to complain of.
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            return Ok(exit::DONE);
        }
    }
    Ok(if follow { exit::NO_DAEMON } else { exit::DONE })
}

/// The lines of a reply that come one by one, each given to `take`. A refusal among them ends them.
fn each_line(
    socket: &Path,
    request: &Request,
    timeout: Duration,
    take: &mut dyn FnMut(Reply) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut connection = Connection::ask(socket, request)?;
    let count = connection.reply()?.fields(&["count"])?.number("count");
    connection.set_patience(Some(timeout))?;
    for _ in 0..count {
        take(connection.reply()?)?;
    }
    Ok(())
}

/// As JSON each line as it comes; for people one table of all, also if some were not tried in the end.
fn ping(socket: &Path, request: &Request, json: bool) -> Result<u8, Failure> {
    let mut all: Vec<Value> = Vec::new();
    let over = each_line(socket, request, PING_TIMEOUT, &mut |reply| {
        reply.fields(&[])?;
        if json {
            print(&format!("{}\n", reply.line));
        }
        all.extend(reply.value);
        Ok(())
    });
    let mut all: Vec<Fields<'_>> = all.iter().map(Fields).collect();
    if !json && (over.is_ok() || !all.is_empty()) {
        all.sort_by_key(|pinged| pinged.text("node"));
        print(&screen::pinged(&all, has_colour()));
    }
    over?;
    Ok(if all.iter().all(|pinged| !pinged.has("problem")) { exit::DONE } else { exit::REFUSED })
}

fn join(socket: &Path, request: &Request, config: &Path) -> Result<u8, Failure> {
    let mut joined = 0;
    each_line(socket, request, JOIN_TIMEOUT, &mut |reply| {
        let tried = reply.fields(&[])?;
        joined += u32::from(tried.is("joined"));
        print(&screen::joined(tried));
        Ok(())
    })?;
    if joined == 0 {
        return Ok(exit::REFUSED);
    }
    let file = config.to_string_lossy();
    let file = printable(&file);
    Ok(print(&format!("The next start does not remember this: to keep it, add it to \"join\" in {file}\n")))
}

/// Says what the daemon says, until it is gone.
fn until_the_end(socket: &Path, request: &Request) -> Result<u8, Failure> {
    let mut connection = Connection::ask(socket, request)?;
    let mut reply = connection.reply()?;
    connection.set_patience(Some(END_TIMEOUT))?;
    loop {
        print(&answers::done(reply.fields(&["message"])?, false));
        // A daemon that is gone closes without a word, or resets: either way it has ended.
        match connection.line() {
            Ok(Some(next)) => reply = Reply::of(next),
            Ok(None) => return Ok(exit::DONE),
            Err(failure) if failure.code == exit::NO_DAEMON => return Ok(exit::DONE),
            Err(failure) => return Err(failure),
        }
    }
}

/// Done when a daemon answers again: the new program may not start.
fn restart(socket: &Path, request: &Request, patience: Duration) -> Result<u8, Failure> {
    until_the_end(socket, request)?;
    let start = std::time::Instant::now();
    loop {
        match reply_to(socket, &Request::Ping) {
            Ok(_) => return Ok(print("runs again\n")),
            Err(failure) if failure.code == exit::NO_DAEMON && start.elapsed() < patience => {
                std::thread::sleep(RESTART_POLL);
            }
            // It runs, waits for its address, and says so.
            Err(failure) if failure.code == exit::REFUSED => return Err(failure),
            Err(Failure { text, .. }) => {
                let secs = patience.as_secs();
                let text =
                    format!("the daemon has ended, and none answers after {secs} s: {text} Its log says why");
                return Err(Failure::new(exit::SYSTEM, text));
            }
        }
    }
}

/// Only for people: on a terminal, and unless they say no (no-color.org).
fn has_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A daemon that reads one line and says `reply`.
    fn daemon(name: &str, reply: &'static str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("picored-client-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            stream.write_all(reply.as_bytes()).unwrap();
        });
        path
    }

    fn asked(path: &Path, request: &Request) -> Result<String, u8> {
        let reply = Connection::ask(path, request).and_then(|mut connection| connection.reply());
        reply.map(|reply| reply.line).map_err(|failure| failure.code)
    }

    #[test]
    fn a_reply_comes_back_and_a_refusal_is_one() {
        let path = daemon("done", "{\"ok\":true,\"message\":\"here\"}\n");
        assert_eq!(asked(&path, &Request::Ping).as_deref(), Ok("{\"ok\":true,\"message\":\"here\"}"));
        let path = daemon("refused", "{\"error\":\"no\"}\n");
        assert_eq!(asked(&path, &Request::Ping), Err(exit::REFUSED));
        let path = daemon("gone", "");
        assert_eq!(asked(&path, &Request::Ping), Err(exit::NO_DAEMON));
    }

    #[test]
    fn who_gives_no_answer_is_said_to_have_had_the_time_that_it_had() {
        let path = std::env::temp_dir().join(format!("picored-client-{}-mute", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let _mute = UnixListener::bind(&path).unwrap();
        let failure = Connection::ask(&path, &Request::Ping).and_then(|mut connection| {
            connection.set_patience(Some(Duration::from_secs(1)))?;
            connection.reply()
        });
        let failure = failure.expect_err("nobody answers");
        assert!(failure.text.ends_with("gave no answer within 1 s"), "{}", failure.text);
        assert_eq!(failure.code, exit::NO_DAEMON);
    }

    #[test]
    fn no_daemon_has_its_own_exit_codes() {
        let nowhere = Path::new("/nonexistent/picored.sock");
        let ask = |request: &Request, json| ask(nowhere, request, json, Path::new("x"));
        assert_eq!(ask(&Request::Members, false), exit::NO_DAEMON);
        assert_eq!(ask(&Request::PingMembers { node: None }, false), exit::NO_DAEMON);
        assert_eq!(ask(&Request::Status { verbose: false }, true), exit::STATUS_NO_DAEMON);
    }

    #[test]
    fn a_stop_is_done_when_the_daemon_is_gone() {
        let path =
            daemon("stop", "{\"ok\":true,\"message\":\"stopping\"}\n{\"ok\":true,\"message\":\"stopped\"}\n");
        assert_eq!(ask(&path, &Request::Stop, false, Path::new("x")), exit::DONE);
    }

    #[test]
    fn a_restart_is_done_when_a_daemon_answers_again() {
        let restarts = "{\"ok\":true,\"message\":\"restarts\"}\n";
        let code = |path: &Path, patience| restart(path, &Request::Restart, patience).map_err(|f| f.code);
        let gone = daemon("restart-gone", restarts);
        assert_eq!(code(&gone, Duration::from_millis(200)), Err(exit::SYSTEM));
        let path = std::env::temp_dir().join(format!("picored-client-{}-restart", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            // The second one is a connection that the old program took and did not answer any more.
            for reply in [restarts, "", "{\"ok\":true,\"message\":\"here\"}\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                BufReader::new(&stream).read_line(&mut String::new()).unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        assert_eq!(code(&path, RESTART_TIMEOUT), Ok(exit::DONE));
        let refused = daemon("restart-refused", "{\"error\":\"it is leaving already\"}\n");
        assert_eq!(code(&refused, RESTART_TIMEOUT), Err(exit::REFUSED));
    }

    #[test]
    fn a_ping_is_well_when_all_that_were_asked_answer() {
        let asked = |name, reply| {
            ask(&daemon(name, reply), &Request::PingMembers { node: None }, false, Path::new("x"))
        };
        let one = r#"{"node":"a","udp_ms":0.2,"tcp_ms":0.4}"#;
        let bad = r#"{"node":"b","udp_why":"no answer","tcp_ms":0.4,"problem":"UDP is blocked"}"#;
        let reply = |lines: &[&str]| &*format!("{{\"ok\":true,\"count\":2}}\n{}\n", lines.join("\n")).leak();
        assert_eq!(asked("ping-well", reply(&[one, one])), exit::DONE);
        assert_eq!(asked("ping-ill", reply(&[one, bad])), exit::REFUSED);
        assert_eq!(asked("ping-late", reply(&[one, "{\"error\":\"120 s are over\"}"])), exit::REFUSED);
        assert_eq!(asked("ping-gone", reply(&[one])), exit::NO_DAEMON);
        assert_eq!(asked("ping-none", "{\"ok\":true,\"count\":0}\n"), exit::DONE);
    }

    #[test]
    fn a_join_is_done_if_one_target_was_joined() {
        let targets = Vec::new();
        let asked = |name, reply| {
            ask(&daemon(name, reply), &Request::Join { targets: targets.clone() }, false, Path::new("x"))
        };
        let head = "{\"ok\":true,\"count\":2}\n";
        let (yes, no) =
            (r#"{"target":"a:7946","joined":true}"#, r#"{"target":"b:7946","why":"connection refused"}"#);
        assert_eq!(asked("join-one", format!("{head}{yes}\n{no}\n").leak()), exit::DONE);
        assert_eq!(asked("join-none", format!("{head}{no}\n{no}\n").leak()), exit::REFUSED);
    }

    #[test]
    fn the_socket_is_what_the_configuration_says_even_if_the_rest_is_wrong() {
        let path = std::env::temp_dir().join(format!("picored-client-{}.json", std::process::id()));
        std::fs::write(&path, r#"{"control":"/tmp/x.sock","nonsense":[1]}"#).unwrap();
        assert_eq!(socket_of(&path), PathBuf::from("/tmp/x.sock"));
        let broken =
            r#"{"node": "control", "control" : "/tmp/y.sock" "state": "/tmp/\u0079.json", "apps": {"#;
        std::fs::write(&path, broken).unwrap();
        assert_eq!(socket_of(&path), PathBuf::from("/tmp/y.sock"));
        assert_eq!(named(&path).state, PathBuf::from("/tmp/y.json"));
        std::fs::write(&path, "{").unwrap();
        assert_eq!(socket_of(&path), PathBuf::from(CONTROL_DEFAULT));
        assert_eq!(named(&path).state, PathBuf::from(STATE_DEFAULT));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(socket_of(&path), PathBuf::from(CONTROL_DEFAULT));
    }
}
