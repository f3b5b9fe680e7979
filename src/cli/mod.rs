//! Commands, start-up, exit codes.

mod answers;
pub mod check_config;
pub mod child;
mod client;
pub mod init;
pub mod run;
mod screen;
mod table;
pub mod usage;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lexopt::prelude::*;

use crate::config::address::join_target;
use crate::config::units;
use crate::control::text::{parse_duration, printable};
use crate::control::{self, FOR_MAX_SECS, ForceTo, Request};
use crate::driver::children::{EXEC, RESOLVE};
use crate::limits::JOIN_ONCE_MAX;

/// Exit codes (`interfaces`, section 7; sysexits(3)).
pub mod exit {
    pub const DONE: u8 = 0;
    pub const REFUSED: u8 = 1;
    /// Of `status` alone, as Nagios wants it.
    pub const STATUS_NO_DAEMON: u8 = 3;
    pub const USAGE: u8 = 64;
    pub const NO_DAEMON: u8 = 69;
    pub use crate::driver::{ALREADY_RUNNING, SYSTEM_ERROR as SYSTEM};
    /// `EX_CONFIG`.
    pub const CONFIGURATION: u8 = 78;
}

const CONFIG_DEFAULT: &str = "/etc/picored.json";

/// The whole command line.
pub fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    // First what children need: they are started often and need nothing else.
    match args.next() {
        Some(word) if word == EXEC => return child::exec(args).into(),
        Some(word) if word == RESOLVE => {
            return child::resolve(&args.next().unwrap_or_default().to_string_lossy()).into();
        }
        Some(word) if word == run::DAEMON => {
            return run::daemon(Path::new(&args.next().unwrap_or_default())).into();
        }
        _ => {}
    }
    match parse(lexopt::Parser::from_env()) {
        Ok(invocation) => perform(invocation).into(),
        Err(error) => {
            complain(&error);
            exit::USAGE.into()
        }
    }
}

/// What was asked for.
#[derive(Debug, PartialEq)]
struct Invocation {
    config: PathBuf,
    socket: Option<PathBuf>,
    json: bool,
    command: Command,
}

#[derive(Debug, PartialEq)]
enum Command {
    Help(Option<&'static str>),
    Version,
    Run {
        cron: bool,
    },
    Init {
        node: Option<String>,
        join: Vec<String>,
    },
    CheckConfig {
        show: bool,
    },
    Keygen {
        from_raw: Option<String>,
    },
    /// The daemon is asked.
    Ask(Request),
}

fn perform(invocation: Invocation) -> u8 {
    let Invocation { config, socket, json, command } = invocation;
    match command {
        Command::Help(name) => print(&usage::help(name.and_then(usage::command))),
        Command::Version => print(&format!("picored {}\n", env!("CARGO_PKG_VERSION"))),
        Command::Run { cron } => run::run(&config, cron),
        Command::Init { node, join } => print(&init::init(node.as_deref(), &join)),
        Command::CheckConfig { show } => {
            let (text, code) = check_config::check_config(&config, show);
            print(&text).max(code)
        }
        Command::Keygen { from_raw } => match init::keygen(from_raw.as_deref()) {
            Ok(key) => print(&format!("{}\n", key.trim_end())),
            Err(error) => {
                complain(&error);
                exit::REFUSED
            }
        },
        Command::Ask(request) => {
            // The daemon is to become what is on disk, which is this program: if it refuses the file, it would end.
            let is_its_file = socket.is_none() || config.exists();
            if request == Request::Restart && is_its_file {
                let (text, code) = check_config::check_config(&config, false);
                if code != exit::DONE {
                    let said = text.trim_start_matches("picored: ").trim_end();
                    complain(&format!("{said}\nnothing was done, the daemon goes on as it is"));
                    return code;
                }
            }
            let socket = socket.unwrap_or_else(|| client::socket_of(&config));
            client::ask(&socket, &request.said_by(login()), json, &config)
        }
    }
}

/// Who types, as far as the environment says: sudo knows whom it made root.
fn login() -> Option<String> {
    let names = ["SUDO_USER", "LOGNAME", "USER"].into_iter().filter_map(std::env::var_os);
    names.filter_map(|name| name.into_string().ok()).find(|name| !name.is_empty())
}

/// To stdout. A reader that went away (`| head`) is nothing to complain of.
fn print(text: &str) -> u8 {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("cannot write: {error}"));
            exit::SYSTEM
        }
        _ => exit::DONE,
    }
}

/// To stderr; if that is gone there is nobody to tell.
fn complain(text: &str) {
    let _ = writeln!(io::stderr(), "picored: {text}");
}

/// Words and options as they come; what they mean together is looked at in the end.
#[derive(Default)]
struct Given {
    config: Option<PathBuf>,
    socket: Option<PathBuf>,
    json: bool,
    help: bool,
    version: bool,
    words: Vec<String>,
    /// Options of single commands, by their long names, with their values.
    options: Vec<(&'static str, String)>,
}

/// Options of single commands: command, long name, short name, whether a value follows. Manual page and completions
/// are held against it.
pub const OPTIONS: [(&str, &str, Option<char>, bool); 18] = [
    ("run", "cron", None, false),
    ("init", "node", None, true),
    ("init", "join", None, true),
    ("check-config", "show", None, false),
    ("status", "verbose", Some('v'), false),
    ("events", "follow", Some('f'), false),
    ("events", "lines", Some('n'), true),
    ("app", "for", None, true),
    ("maint", "app", None, true),
    ("maint", "node", None, true),
    ("maint", "for", None, true),
    ("maint", "reason", None, true),
    ("sync", "dry-run", None, false),
    ("sync", "force", None, false),
    ("test-handler", "event", None, true),
    ("test-handler", "app", None, true),
    ("test-handler", "node", None, true),
    ("keygen", "from-raw", None, true),
];

fn parse(mut parser: lexopt::Parser) -> Result<Invocation, String> {
    let mut given = Given::default();
    let wrong = |error: lexopt::Error| format!("{error}; see `picored --help`");
    while let Some(arg) = parser.next().map_err(wrong)? {
        match arg {
            Short('c') | Long("config") => given.config = Some(parser.value().map_err(wrong)?.into()),
            Long("socket") => given.socket = Some(parser.value().map_err(wrong)?.into()),
            Long("json") => given.json = true,
            Short('h') | Long("help") => given.help = true,
            Short('V') | Long("version") => given.version = true,
            Value(word) => given.words.push(text(word)?),
            Short(_) | Long(_) => {
                let found = OPTIONS.into_iter().find(|&(command, long, short, _)| {
                    given.words.first().is_none_or(|word| word == command)
                        && match arg {
                            Short(c) => short == Some(c),
                            Long(name) => name == long,
                            Value(_) => false,
                        }
                });
                let Some((_, long, _, has_value)) = found else { return Err(wrong(arg.unexpected())) };
                let value = if has_value { text(parser.value().map_err(wrong)?)? } else { String::new() };
                given.options.push((long, value));
            }
        }
    }
    understand(given)
}

fn text(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| format!("not UTF-8: {}", printable(&word.to_string_lossy())))
}

fn understand(given: Given) -> Result<Invocation, String> {
    let name = given.words.first().map(String::as_str);
    let command = match name {
        _ if given.version => Command::Version,
        None if given.help => Command::Help(None),
        None => return Err("no command; see `picored --help`".into()),
        Some("help") => match given.words.get(1) {
            None => Command::Help(None),
            Some(word) => Command::Help(Some(usage::command(word).ok_or_else(|| unknown(word))?.name)),
        },
        Some(name) => {
            let known = usage::command(name).ok_or_else(|| unknown(name))?.name;
            if given.help { Command::Help(Some(known)) } else { command(known, &given)? }
        }
    };
    let reads = matches!(
        command,
        Command::Ask(
            Request::Status { .. }
                | Request::Members
                | Request::Events { .. }
                | Request::Why { .. }
                | Request::Sync { .. }
                | Request::TestHandler { .. }
                | Request::PingMembers { .. }
        ) | Command::Help(_)
            | Command::Version
    );
    if given.json && !reads {
        return Err("--json is for status, members, events, why, sync, test-handler and ping".into());
    }
    Ok(Invocation {
        config: given.config.unwrap_or_else(|| CONFIG_DEFAULT.into()),
        socket: given.socket,
        json: given.json,
        command,
    })
}

fn unknown(name: &str) -> String {
    let names = usage::COMMANDS.iter().map(|help| help.name);
    match units::nearest(name, names) {
        Some(near) => format!("unknown command {}; did you mean {near}?", printable(name)),
        None => format!("unknown command {}; see `picored --help`", printable(name)),
    }
}

fn command(name: &'static str, given: &Given) -> Result<Command, String> {
    let has = |option: &str| given.options.iter().any(|(long, _)| *long == option);
    let value = |option: &str| {
        given.options.iter().rev().find(|(long, _)| *long == option).map(|(_, value)| value.clone())
    };
    let foreign = given
        .options
        .iter()
        .find(|(long, _)| !OPTIONS.iter().any(|&(command, option, ..)| command == name && option == *long));
    if let Some((long, _)) = foreign {
        return Err(format!("{name} has no option --{long}; see `picored {name} --help`"));
    }
    let words = given.words.get(1..).unwrap_or_default();
    match name {
        "app" => return app(words, value("for")),
        "maint" => return maint(words, &value),
        "why" | "sync" | "test-handler" | "log-level" => {
            return about_handlers(name, words, (has("dry-run"), has("force")), &value);
        }
        "ping" | "join" | "forget" => return about_members(name, words),
        _ => {}
    }
    if let Some(word) = words.first() {
        return Err(format!("{name} takes no {}; see `picored {name} --help`", printable(word)));
    }
    Ok(match name {
        "run" => Command::Run { cron: has("cron") },
        "init" => Command::Init { node: value("node"), join: peers(given) },
        "check-config" => Command::CheckConfig { show: has("show") },
        "keygen" => Command::Keygen { from_raw: value("from-raw") },
        "status" => Command::Ask(Request::Status { verbose: has("verbose") }),
        "members" => Command::Ask(Request::Members),
        "leave" => Command::Ask(Request::Leave),
        "stop" => Command::Ask(Request::Stop),
        "restart" => Command::Ask(Request::Restart),
        "reload" => Command::Ask(Request::Reload),
        "events" => {
            let n = match value("lines") {
                Some(n) => n.parse().map_err(|_| format!("-n {}: not a number", printable(&n)))?,
                None => usize::MAX,
            };
            Command::Ask(Request::Events { n, follow: has("follow") })
        }
        other => return Err(unknown(other)),
    })
}

fn peers(given: &Given) -> Vec<String> {
    let lists = given.options.iter().filter(|(long, _)| *long == "join");
    let peers = lists.flat_map(|(_, list)| list.split(','));
    peers.map(str::trim).filter(|peer| !peer.is_empty()).map(str::to_owned).collect()
}

fn app(words: &[String], time: Option<String>) -> Result<Command, String> {
    let [app, to] = words else {
        return Err("usage: picored app APP up|down|auto [--for TIME]".into());
    };
    let to = ForceTo::parse(to).ok_or_else(|| format!("{}: must be up, down or auto", printable(to)))?;
    if time.is_some() && to == ForceTo::Auto {
        return Err("auto has no --for: it is for ever".into());
    }
    let for_secs = for_secs(time.as_deref())?;
    Ok(Command::Ask(Request::App { app: app.clone(), to, for_secs, by: None }))
}

fn for_secs(time: Option<&str>) -> Result<Option<u64>, String> {
    let Some(text) = time else { return Ok(None) };
    match parse_duration(text).map(|time| time.as_secs()) {
        Some(secs) if (1..=FOR_MAX_SECS).contains(&secs) => Ok(Some(secs)),
        Some(_) => Err("--for: from 1 s to a year".into()),
        None => Err(format!("--for {}: a time is like 90s, 15m, 2h or 1d", printable(text))),
    }
}

fn maint(words: &[String], value: &dyn Fn(&str) -> Option<String>) -> Result<Command, String> {
    let on = match words {
        [word] if word == "on" => true,
        [word] if word == "off" => false,
        _ => {
            return Err(
                "usage: picored maint on|off [--app A] [--node N] [--for TIME] [--reason TEXT]".into()
            );
        }
    };
    let (for_secs, reason) = (for_secs(value("for").as_deref())?, value("reason"));
    if !on && (for_secs.is_some() || reason.is_some()) {
        return Err("off has no --for and no --reason".into());
    }
    let (app, node) = (value("app"), value("node"));
    Ok(Command::Ask(Request::Maint { on, app, node, for_secs, reason, by: None }))
}

/// `why [APP]`, `sync [HANDLER]`, `test-handler NAME`, `log-level L`.
fn about_handlers(
    name: &str,
    words: &[String],
    (dry_run, force): (bool, bool),
    value: &dyn Fn(&str) -> Option<String>,
) -> Result<Command, String> {
    Ok(Command::Ask(match (name, words) {
        ("why", [] | [_]) => Request::Why { app: words.first().cloned() },
        ("why", _) => return Err("usage: picored why [APP] [--json]".into()),
        ("sync", [] | [_]) => Request::Sync { handler: words.first().cloned(), dry_run, force },
        ("sync", _) => return Err("usage: picored sync [HANDLER] [--dry-run] [--force]".into()),
        ("log-level", [level]) => Request::LogLevel { level: control::level(level)? },
        ("log-level", _) => return Err("usage: picored log-level LEVEL".into()),
        (_, [handler]) => Request::TestHandler {
            handler: handler.clone(),
            event: value("event").as_deref().map(control::event).transpose()?,
            app: value("app"),
            node: value("node"),
        },
        _ => return Err("usage: picored test-handler NAME [--event E] [--app A] [--node N]".into()),
    }))
}

/// `ping [NODE]`, `join ADDR…`, `forget NODE`.
fn about_members(name: &str, words: &[String]) -> Result<Command, String> {
    Ok(Command::Ask(match (name, words) {
        ("ping", []) => Request::PingMembers { node: None },
        ("ping", [node]) => Request::PingMembers { node: Some(node.clone()) },
        ("ping", _) => return Err("usage: picored ping [NODE] [--json]".into()),
        ("forget", [node]) => Request::Forget { node: node.clone() },
        ("forget", _) => return Err("usage: picored forget NODE".into()),
        (_, []) => return Err("usage: picored join ADDR...".into()),
        (_, words) if words.len() > JOIN_ONCE_MAX => {
            return Err(format!("at most {JOIN_ONCE_MAX} addresses at once"));
        }
        (_, words) => {
            Request::Join { targets: words.iter().map(|word| join_target(word)).collect::<Result<_, _>>()? }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::membership::Target;

    fn parsed(line: &str) -> Result<Invocation, String> {
        parse(lexopt::Parser::from_args(line.split_whitespace()))
    }

    fn asked(line: &str) -> Command {
        parsed(line).unwrap().command
    }

    #[test]
    fn options_may_stand_before_and_after_the_command() {
        let status = Command::Ask(Request::Status { verbose: true });
        for line in ["status -v --json -c x", "-c x status --json -v", "--json -v -cx status --verbose"] {
            let invocation = parsed(line).unwrap();
            assert_eq!((&invocation.command, invocation.json), (&status, true), "{line}");
            assert_eq!(invocation.config, PathBuf::from("x"));
        }
        assert_eq!(parsed("status").unwrap().config, PathBuf::from(CONFIG_DEFAULT));
    }

    #[test]
    fn every_command_is_understood() {
        assert_eq!(asked("run --cron"), Command::Run { cron: true });
        assert_eq!(asked("events -f -n 5"), Command::Ask(Request::Events { n: 5, follow: true }));
        let join = vec!["a".to_owned(), "b".into(), "c".into()];
        assert_eq!(
            asked("init --node n --join a,b --join c"),
            Command::Init { node: Some("n".into()), join }
        );
        assert_eq!(
            asked("app web down --for 15m"),
            Command::Ask(Request::App {
                app: "web".into(),
                to: ForceTo::Down,
                for_secs: Some(900),
                by: None
            })
        );
        assert_eq!(asked("keygen --from-raw 0123"), Command::Keygen { from_raw: Some("0123".into()) });
        assert_eq!(asked("ping"), Command::Ask(Request::PingMembers { node: None }));
        assert_eq!(
            asked("ping par1 --json"),
            Command::Ask(Request::PingMembers { node: Some("par1".into()) })
        );
        assert_eq!(
            asked("maint on --app web --node par1 --for 2h --reason disk"),
            Command::Ask(Request::Maint {
                on: true,
                app: Some("web".into()),
                node: Some("par1".into()),
                for_secs: Some(7_200),
                reason: Some("disk".into()),
                by: None
            })
        );
        assert_eq!(asked("why web --json"), Command::Ask(Request::Why { app: Some("web".into()) }));
        assert_eq!(
            asked("sync --dry-run"),
            Command::Ask(Request::Sync { handler: None, dry_run: true, force: false })
        );
        assert_eq!(
            asked("sync dns --force --json"),
            Command::Ask(Request::Sync { handler: Some("dns".into()), dry_run: false, force: true })
        );
        assert_eq!(
            asked("test-handler mail --event node-failed --node par1"),
            Command::Ask(Request::TestHandler {
                handler: "mail".into(),
                event: Some(crate::delivery::EventKind::NodeFailed),
                app: None,
                node: Some("par1".into())
            })
        );
        assert_eq!(
            asked("log-level debug"),
            Command::Ask(Request::LogLevel { level: log::LevelFilter::Debug })
        );
        assert_eq!(asked("forget par1"), Command::Ask(Request::Forget { node: "par1".into() }));
        let targets = vec![
            Target::Addr("198.51.100.7:7946".parse().unwrap()),
            Target::Name { host: "par1.example.net".into(), port: 7947 },
        ];
        assert_eq!(asked("join 198.51.100.7 par1.example.net:7947"), Command::Ask(Request::Join { targets }));
        assert_eq!(asked("--version"), Command::Version);
        assert_eq!(asked("events --help"), Command::Help(Some("events")));
        assert_eq!(asked("help stop"), Command::Help(Some("stop")));
        assert_eq!(asked("-h"), Command::Help(None));
        for command in usage::COMMANDS {
            let words = match command.name {
                "app" => "app web up",
                "maint" => "maint off",
                "test-handler" => "test-handler dns",
                "log-level" => "log-level info",
                "join" => "join par1 [2001:db8::7]:7947",
                "forget" => "forget par1",
                other => other,
            };
            assert!(parsed(words).is_ok(), "{words}");
        }
    }

    #[test]
    fn what_is_not_understood_is_answered_with_a_way_out() {
        let error = |line: &str| parsed(line).unwrap_err();
        assert!(error("").contains("--help"));
        assert!(error("staus").contains("did you mean status?"));
        assert!(error("maint").starts_with("usage: "));
        assert!(error("maint sideways").starts_with("usage: "));
        assert!(error("maint off --for 1h").contains("off has no --for"));
        assert!(error("maint on --for soon").contains("15m"));
        assert!(error("why a b").starts_with("usage: "));
        assert!(error("sync a b").starts_with("usage: "));
        assert!(error("test-handler").starts_with("usage: "));
        assert!(error("test-handler a --event x").contains("node-failed"));
        assert!(error("log-level loud").contains("off, error, warn"));
        assert!(error("restart now").contains("restart takes no now"));
        assert!(error("maint on --json").contains("--json is for"));
        assert!(error("xyzzy").contains("--help"));
        assert!(error("help staus").contains("did you mean status?"));
        assert!(error("status --cron").contains("--cron"));
        assert!(error("--cron status").contains("status has no option --cron"));
        assert!(error("stop now").contains("stop takes no now"));
        assert!(error("ping a b").starts_with("usage: "));
        assert!(error("join").starts_with("usage: "));
        assert!(error("join 10.0.0.256").contains("not an IP address"));
        assert!(error(&format!("join{}", " a".repeat(17))).contains("at most 16"));
        assert!(error("join a --json").contains("--json is for"));
        assert!(error("forget").starts_with("usage: "));
        assert!(error("forget a b").starts_with("usage: "));
        assert!(error("app web").starts_with("usage: "));
        assert!(error("app web sideways").contains("up, down or auto"));
        assert!(error("app web up --for soon").contains("15m"));
        assert!(error("app web up --for 0").contains("from 1 s"));
        assert!(error("app web auto --for 1h").contains("auto"));
        assert!(error("events -n many").contains("not a number"));
        assert!(error("stop --json").contains("--json is for"));
        assert!(error("-c").contains("--help"));
    }
}
