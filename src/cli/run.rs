//! `picored run`: from the configuration file to the loop, in the foreground or for cron.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use mio::unix::pipe::Receiver;
use rustix::process::{Pid, Signal};

use crate::agent::Agent;
use crate::cli::client::{self, Named};
use crate::cli::{complain, exit};
use crate::config::{self, Config};
use crate::driver::control::connect;
use crate::driver::files::{self, LoadError};
use crate::driver::lock::{self, Lock};
use crate::driver::statefile::{Found, StateFile};
use crate::driver::{
    Driver, End, Ended, Failure, Opened, Reader, Sources, children, clock, log, notify, program,
};
use crate::rng::Seed;

/// The word for the detached daemon: `__daemon CONFIG`.
pub const DAEMON: &str = "__daemon";

/// A daemon that does not answer for this long, this many times, hangs.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const ANSWER_TRIES: u32 = 2;
/// A detached daemon that has not failed by then waits for the network, or runs.
const START_MAX: Duration = Duration::from_secs(3);
const START_POLL: Duration = Duration::from_millis(20);
/// As much of its complaints as is passed on.
const COMPLAINT_MAX: u64 = 64 * 1024;

/// Runs the daemon until it ends, or, for cron, starts one in the background unless there is one.
/// Gives the exit code; what a person must know was printed.
pub fn run(config_path: &Path, cron: bool) -> u8 {
    if cron {
        return run_for_cron(config_path);
    }
    match load(config_path) {
        Ok(config) => serve(config_path, config),
        Err(code) => code,
    }
}

/// `Err`: the exit code; what is wrong was printed.
fn load(config_path: &Path) -> Result<Config, u8> {
    files::load(config_path).map_err(|failure| {
        // Complete, and several lines if there are several problems.
        let _ = writeln!(io::stderr(), "{}", failure.text(", not started"));
        exit::CONFIGURATION
    })
}

/// What [`run`] started for cron: cuts itself loose and is the daemon.
pub fn daemon(config_path: &Path) -> u8 {
    // Fails only if we lead a session already.
    let _ = rustix::process::setsid();
    let _ = rustix::process::chdir("/");
    run(config_path, false)
}

/// Says why, and gives the exit code.
fn fail(code: u8, text: &str) -> u8 {
    complain(text);
    code
}

fn serve(config_path: &Path, mut config: Config) -> u8 {
    let program = program::path();
    children::reap_inherited();
    let to_file = config.log.file.is_some();
    if let Err(error) = log::init(&config.log) {
        log::init_stderr();
        // Not in effect, so that the next reload tries it again.
        let file = config.log.file.take().unwrap_or_default();
        ::log::warn!("event=log-failed file={file} {error}; logging to standard error");
    }
    // Held until all is over.
    let lock = match lock::lock_state(Path::new(&*config.state)) {
        Ok(Lock::Locked(lock)) => lock,
        Ok(Lock::Held { pid }) => return fail(exit::ALREADY_RUNNING, &held(&config, pid)),
        Err(text) => return fail(exit::SYSTEM, &text),
    };
    if let Some(warning) = &lock.warning {
        ::log::warn!("event=lock {warning}");
        if to_file {
            complain(warning); // the log's disk is mostly the same one
        }
    }
    for note in &config.notes {
        ::log::warn!("event=config path={} {}", note.path, note.text);
    }
    match open(config_path, config) {
        Ok(opened) => {
            let Ended { how, clients } = match opened {
                Begun::Runs(driver) => driver.run(),
                Begun::Ended(ended) => ended,
            };
            let code = finish(how, &program);
            // In this order: who waits for our end may start the next one at once.
            drop(lock);
            drop(clients);
            code
        }
        Err(Failure { code, text }) => {
            ::log::error!("event=not-started {text}");
            // Whoever started it looks here, not into the log.
            if to_file { fail(code, &text) } else { code }
        }
    }
}

fn held(config: &Config, pid: Option<u32>) -> String {
    let who = pid.map_or(String::new(), |pid| format!(" (process {pid})"));
    format!("another picored{who} runs with the state {}", config.state)
}

/// What comes of starting.
enum Begun {
    Runs(Box<Driver>),
    /// It was told something else while it waited.
    Ended(Ended),
}

/// Everything between the configuration and the loop.
fn open(config_path: &Path, mut config: Config) -> Result<Begun, Failure> {
    let reload = &mut || {
        let loaded = files::load(config_path).map(drop);
        loaded.map_err(|failure| without_name(&failure, ""))
    };
    let mut state = StateFile::new(PathBuf::from(&*config.state));
    if let Some(text) = state.problem() {
        return Err(Failure { code: exit::CONFIGURATION, text });
    }
    let control = Path::new(&*config.control);
    let (sources, advertise) = match Sources::open(&config.bind, config.advertise, control, reload)? {
        Opened::Ready(sources, advertise) => (*sources, advertise),
        Opened::Stop(clients) => return Ok(Begun::Ended(Ended { how: Ok(End::Exit(exit::DONE)), clients })),
        Opened::Restart(clients) => {
            ::log::info!("event=restart the configuration was read anew while it waited");
            return Ok(Begun::Ended(Ended { how: Ok(End::Restart), clients }));
        }
    };
    config.agent.membership.advertise = advertise;
    let seed = seed()
        .map_err(|error| Failure { code: exit::SYSTEM, text: format!("no random numbers: {error}") })?;
    let now = clock::now();
    let Found { saved, warnings } = state.read();
    let event = if state.is_unread() { "state-unread" } else { "state-damaged" };
    for warning in warnings {
        ::log::warn!("event={event} {warning}");
    }
    let agent = Agent::with_state(config.agent.clone(), seed, now, clock::unix_now(), saved);
    let reader = reader(config_path.to_owned(), config);
    Ok(Begun::Runs(Box::new(Driver::new(sources, agent, children::trampoline(), state, reader))))
}

/// What `reload` reads: the file as it is then, held against what runs.
fn reader(config_path: PathBuf, mut running: Config) -> Reader {
    Box::new(move |words| {
        let new =
            files::load(&config_path).map_err(|failure| without_name(&failure, ", all stays as it is"))?;
        // Before anything is taken over: all or nothing.
        if let Some(problem) = running.reload_problem(&new, words) {
            return Err(format!("{}: {problem}; all stays as it is", config_path.display()));
        }
        let opened = match new.log == running.log {
            true => None,
            false => Some(log::open(&new.log).map_err(|error| log_text(&config_path, &new.log, &error))?),
        };
        for note in new.notes.iter().filter(|note| !running.notes.contains(note)) {
            ::log::warn!("event=config path={} {}", note.path, note.text);
        }
        running.notes.clone_from(&new.notes);
        let reload = running.reload(new);
        if let Some(opened) = opened {
            opened.take_over();
        }
        Ok(Box::new(reload))
    })
}

/// As [`LoadError::text`], for where it is clear who speaks.
fn without_name(failure: &LoadError, follows: &str) -> String {
    let text = failure.text(follows);
    text.strip_prefix("picored: ").unwrap_or(&text).to_owned()
}

fn log_text(config_path: &Path, log: &config::Log, error: &io::Error) -> String {
    let file = log.file.as_deref().unwrap_or_default();
    format!("{}: log.file: {file} cannot be opened: {error}; all stays as it is", config_path.display())
}

/// Does not return if the process goes on as another program.
fn finish(ended: io::Result<End>, program: &Path) -> u8 {
    let code = match ended {
        Ok(End::Exit(code)) => code,
        Ok(End::Restart) => {
            ::log::logger().flush();
            let error = program::replace(program);
            ::log::error!("event=ended the program cannot be started again: {error}");
            exit::SYSTEM
        }
        Err(error) => {
            ::log::error!("event=ended {error}");
            exit::SYSTEM
        }
    };
    ::log::logger().flush();
    code
}

/// From the kernel.
fn seed() -> Result<Seed, getrandom::Error> {
    let mut nonce = [0; 12];
    getrandom::fill(&mut nonce)?;
    Ok(Seed { rng: getrandom::u64()?, nonce })
}

/// Silent and well if a daemon runs and answers; starts one if there is none or it hangs.
///
/// What is wrong with the file matters to one that is to start, not to one that runs. One that hangs is ended only for
/// a file that another can start with.
fn run_for_cron(config_path: &Path) -> u8 {
    let named = client::named(config_path);
    let mut hangs = None;
    // Nothing is made for what may only be a guess.
    if lock::lock_path(&named.state).exists() {
        match lock::lock_state(&named.state) {
            Ok(Lock::Locked(lock)) => drop(lock), // the daemon takes it; of two started at once the second one ends
            Ok(Lock::Held { pid }) => match hanging(&named, pid) {
                Some(pid) => hangs = Some(pid),
                None => return exit::DONE,
            },
            Err(text) => return fail(exit::SYSTEM, &text),
        }
    }
    let config = match load(config_path) {
        Ok(config) => config,
        Err(code) => {
            if let Some(pid) = hangs {
                complain(&format!("{}; it is left alone: none could start in its place", silent(pid)));
            }
            return code;
        }
    };
    if let Some(pid) = hangs {
        // The file was changed while the daemon was asked, which was perhaps another one's: cron comes again.
        if (Path::new(&*config.control), Path::new(&*config.state)) != (&named.control, &named.state) {
            return exit::DONE;
        }
        if !end_hanging(&named, pid) {
            return fail(exit::SYSTEM, &format!("{}, and it cannot be ended", silent(pid)));
        }
        complain(&format!("{}; it was ended, another one is started", silent(pid)));
    }
    let named =
        Named { control: Path::new(&*config.control).into(), state: Path::new(&*config.state).into() };
    let started = std::path::absolute(config_path).and_then(|path| start_detached(path.as_os_str()));
    match started {
        Ok(child) => watch_start(child, &named),
        Err(error) => fail(exit::SYSTEM, &format!("cannot start in the background: {error}")),
    }
}

/// The process of a daemon that hangs, and can be ended safely.
fn hanging(named: &Named, pid: Option<u32>) -> Option<Pid> {
    for _ in 0..ANSWER_TRIES {
        let asked = Instant::now();
        match connect(&named.control).and_then(ask) {
            Err(error) if is_silence(&error) => {
                // Where too many wait already, or this process was stopped meanwhile, nobody has waited.
                thread::sleep(ANSWER_MAX.saturating_sub(asked.elapsed()));
            }
            // Also not there, or nobody listens: it is starting (waits for an address) or ending. Only silence
            // is hanging, and cron comes again.
            _ => return None,
        }
    }
    // None: its lock file is damaged.
    let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)?;
    still_holds(named, pid).then_some(pid)
}

/// A wait with a time limit also ends when the one that waits was stopped, or frozen with all its machine, and goes on
/// (signal(7), "Interruption of system calls"): that says nothing of the daemon.
fn is_silence(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::WouldBlock | Kind::TimedOut | Kind::Interrupted)
}

/// The lock is held, so the number that stands in it is not somebody else's: asked shortly before it is used.
fn still_holds(named: &Named, pid: Pid) -> bool {
    let pid = u32::try_from(pid.as_raw_pid()).ok();
    matches!(lock::lock_state(&named.state), Ok(Lock::Held { pid: now }) if now == pid)
}

/// True: it is gone.
fn end_hanging(named: &Named, pid: Pid) -> bool {
    if still_holds(named, pid) {
        let _ = rustix::process::kill_process(pid, Signal::KILL);
    }
    let start = Instant::now();
    while start.elapsed() < START_MAX {
        if matches!(lock::lock_state(&named.state), Ok(Lock::Locked(_))) {
            return true;
        }
        thread::sleep(START_POLL);
    }
    false
}

fn silent(pid: Pid) -> String {
    let (secs, pid) = (ANSWER_MAX.as_secs(), pid.as_raw_pid());
    format!("the daemon (process {pid}) did not answer for {secs} s, {ANSWER_TRIES} times")
}

/// Any answer to anything will do. False: it closed without one.
fn ask(mut socket: UnixStream) -> io::Result<bool> {
    socket.set_read_timeout(Some(ANSWER_MAX))?;
    socket.set_write_timeout(Some(ANSWER_MAX))?;
    socket.write_all(b"{\"cmd\":\"ping\"}\n")?;
    socket.read(&mut [0]).map(|read| read > 0)
}

fn start_detached(config_path: &OsStr) -> io::Result<Child> {
    let mut command = Command::new(children::trampoline());
    // Cron's own manager, if it tells its children of it, has nothing to do with us.
    for name in notify::VARIABLES {
        command.env_remove(name);
    }
    command
        .arg0(program::path())
        .args([OsStr::new(DAEMON), config_path])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped()) // heard only until it has started
        .spawn()
}

/// What keeps it from starting is said here, where cron mails it.
fn watch_start(mut child: Child, named: &Named) -> u8 {
    let start = Instant::now();
    while start.elapsed() < START_MAX {
        match child.try_wait() {
            Ok(Some(status)) => {
                let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(exit::SYSTEM);
                return pass_on(child, code);
            }
            // The socket alone says little: what it listens to besides is opened after that.
            Ok(None) if connect(&named.control).and_then(ask).is_ok_and(|answered| answered) => break,
            _ => thread::sleep(START_POLL),
        }
    }
    // Who answered may be another cron job's, and ours be about to end, for that reason and no other.
    if Pid::from_raw(child.id().cast_signed()).is_some_and(|pid| still_holds(named, pid)) {
        pass_complaints_on(child);
    }
    exit::DONE
}

/// What it complained of and runs nevertheless; its log, if that goes there as well, is not for a mail.
fn pass_complaints_on(child: Child) {
    let Some(stderr) = child.stderr else { return };
    let pipe = Receiver::from(stderr);
    // It has the other end: there is no end of file to wait for.
    if pipe.set_nonblocking(true).is_err() {
        return;
    }
    let mut text = Vec::new();
    let _ = pipe.take(COMPLAINT_MAX).read_to_end(&mut text);
    for line in text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.starts_with(b"picored: ")) {
        let _ = io::stderr().write_all(line);
    }
}

fn pass_on(child: Child, code: u8) -> u8 {
    // Another cron job was faster: nothing is wrong.
    if code == exit::DONE || code == exit::ALREADY_RUNNING {
        return exit::DONE;
    }
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr {
        let _ = stderr.take(COMPLAINT_MAX).read_to_end(&mut text);
    }
    let _ = io::stderr().write_all(&text);
    code
}
