//! One child process: start, feed, read, signal, reap. Handlers, exec checks and look-ups alike.
//!
//! A child is started through a short-lived picored (`cli/child.rs`) that makes it leader of its own
//! session and hence of its process group, so that a signal reaches whatever it started in turn. Here the
//! process is waited for, not the end of its output: a grandchild may hold that open as long as it likes.

use core::net::IpAddr;
use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use mio::unix::pipe::{Receiver, Sender};
use mio::{Interest, Registry, Token};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, WaitId, WaitIdOptions, WaitOptions, kill_process, kill_process_group, wait, waitid,
};

use super::unsent::Unsent;
use crate::agent::AttemptId;
use crate::check::attempt::{ExecTarget, Exit};
use crate::delivery::{Run, RunId, Signal};
use crate::limits::{OUTPUT_MAX, RESOLVED_ADDRESSES_MAX};
use crate::membership::ResolveId;
use crate::time::Instant;

/// The word that makes picored become another program: `__exec [--user NAME] -- PROGRAM [ARGUMENT…]`.
pub const EXEC: &str = "__exec";
/// The word that makes it look a host name up: `__resolve HOST`.
pub const RESOLVE: &str = "__resolve";

/// Every child finds its programs here, as in a login shell of root.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// As much of the start of a check's (or a look-up's) output as is looked at.
const HEAD_MAX: usize = 1024;
/// Output read in one turn, so that one that prints without end delays nobody's deadline.
const READ_PER_TURN: usize = 256 * 1024;
/// Output that is waiting in the pipe when the process ends; the kernel's limit for a pipe.
const REST_MAX: usize = 1024 * 1024;

/// Whose child it is.
pub enum Purpose {
    Check {
        id: AttemptId,
        target: Box<ExecTarget>,
    },
    Run {
        id: RunId,
    },
    /// Killed at `until`; `None`: that was done.
    Resolve {
        id: ResolveId,
        until: Option<Instant>,
    },
}

/// What to start, complete.
pub struct Job<'a> {
    /// Arguments for the trampoline.
    args: Vec<&'a OsStr>,
    env: &'a [(Box<str>, Box<str>)],
    stdin: Vec<u8>,
}

impl<'a> Job<'a> {
    pub fn run(run: &'a mut Run) -> Self {
        let stdin = core::mem::take(&mut run.stdin);
        Self { args: exec_args(run.user.as_deref(), &run.argv), env: &run.env, stdin }
    }

    pub fn check(target: &'a ExecTarget) -> Self {
        Self { args: exec_args(None, &target.argv), env: &[], stdin: Vec::new() }
    }

    pub fn resolve(host: &'a str) -> Self {
        Self { args: [RESOLVE, host].map(OsStr::new).to_vec(), env: &[], stdin: Vec::new() }
    }
}

fn exec_args<'a>(user: Option<&'a str>, argv: &'a [Box<str>]) -> Vec<&'a OsStr> {
    let mut args: Vec<&OsStr> = vec![OsStr::new(EXEC)];
    if let Some(user) = user {
        args.extend(["--user", user].map(OsStr::new));
    }
    args.push(OsStr::new("--"));
    args.extend(argv.iter().map(|arg| OsStr::new(&**arg)));
    args
}

/// The program that children are started through: this one.
pub fn trampoline() -> PathBuf {
    // The link names the running program even if its file was replaced or removed by an upgrade.
    let link = Path::new("/proc/self/exe");
    if std::fs::metadata(link).is_ok() {
        return link.to_owned();
    }
    std::env::current_exe().unwrap_or_else(|_| std::env::args_os().next().unwrap_or_default().into())
}

/// A running child.
pub struct Child {
    pub purpose: Purpose,
    process: std::process::Child,
    input: Option<Input>,
    output: Option<Receiver>,
    kept: Kept,
}

/// What is still to be written to stdin.
struct Input {
    pipe: Sender,
    bytes: Unsent,
}

impl Child {
    /// Starts it. Nothing is left behind on an error.
    pub fn spawn(trampoline: &Path, job: Job<'_>, purpose: Purpose) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        let mut command = Command::new(trampoline);
        command.arg0("picored").args(&job.args);
        command.env_clear().env("PATH", PATH).env("LANG", "C");
        // memberlist lets a member have any name, and the system no variable with a NUL in it: one such member must not
        // keep the handlers of the others from running.
        command.envs(job.env.iter().map(|(name, value)| (&**name, value.replace('\0', "\u{fffd}"))));
        command.stdout(write.try_clone()?).stderr(write);
        // Nothing to read is a pipe that nobody writes to: an empty root has no /dev/null.
        command.stdin(match job.stdin.is_empty() {
            true => Stdio::from(pipe_with(PipeFlags::CLOEXEC)?.0),
            false => Stdio::piped(),
        });
        let output = receiver(read)?;
        let mut process = command.spawn()?;
        let input = process.stdin.take().map(Sender::from).and_then(|pipe| {
            // Without it the child would be fed blockingly; rather not at all.
            pipe.set_nonblocking(true).ok()?;
            Some(Input { pipe, bytes: job.stdin.into() })
        });
        let kept = match purpose {
            Purpose::Run { .. } => Kept::End(Vec::new()),
            _ => Kept::Start(Vec::new()),
        };
        Ok(Self { purpose, process, input, output: Some(output), kept })
    }

    /// Both pipes speak with one token: [`Child::handle_ready`] looks at both.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        if let Some(output) = &mut self.output {
            registry.register(output, token, Interest::READABLE)?;
        }
        if let Some(input) = &mut self.input {
            registry.register(&mut input.pipe, token, Interest::WRITABLE)?;
        }
        Ok(())
    }

    /// Writes and reads what is possible now. With more to read than one turn allows, the readiness is
    /// asked for again.
    pub fn handle_ready(&mut self, registry: &Registry, token: Token, scratch: &mut [u8]) {
        if self.input.as_mut().is_some_and(Input::write_is_over) {
            self.input = None;
        }
        match self.read(scratch, READ_PER_TURN) {
            Reading::Over => self.output = None,
            Reading::Waits => {}
            Reading::More => {
                if let Some(output) = &mut self.output {
                    // Cannot fail for a descriptor that is registered.
                    let _ = registry.reregister(output, token, Interest::READABLE);
                }
            }
        }
    }

    fn read(&mut self, scratch: &mut [u8], budget: usize) -> Reading {
        let Some(output) = &mut self.output else { return Reading::Over };
        let mut total = 0;
        while total < budget {
            match output.read(scratch) {
                Ok(0) => return Reading::Over,
                Ok(n) => {
                    total += n;
                    self.kept.push(scratch.get(..n).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Reading::Waits,
                Err(_) => return Reading::Over,
            }
        }
        Reading::More
    }

    /// To its whole group.
    pub fn signal(&self, signal: Signal) {
        let signal = match signal {
            Signal::Term => rustix::process::Signal::TERM,
            Signal::Kill => rustix::process::Signal::KILL,
        };
        let Some(pid) = self.pid() else { return };
        // No such group: it was started just now and has not made its session yet, so it is alone.
        if kill_process_group(pid, signal).is_err() {
            let _ = kill_process(pid, signal);
        }
    }

    /// A look-up that takes too long.
    pub fn give_up(&mut self) {
        if let Purpose::Resolve { until, .. } = &mut self.purpose {
            *until = None;
        }
        self.signal(Signal::Kill);
    }

    /// `Some`: it has ended, what it left running in its group was killed, and its output is complete.
    pub fn reap(&mut self, scratch: &mut [u8]) -> Option<Exit> {
        let pid = self.pid()?;
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if let Ok(None) = waitid(WaitId::Pid(pid), options) {
            return None;
        }
        // Before it is reaped: until then its number cannot become somebody else's.
        let _ = kill_process_group(pid, rustix::process::Signal::KILL);
        let exit = match self.process.try_wait() {
            Ok(Some(status)) => exit(status),
            Ok(None) => return None,
            Err(error) => Exit::NotStarted(format!("lost: {}", error.kind()).into()),
        };
        self.read(scratch, REST_MAX);
        (self.input, self.output) = (None, None);
        Some(exit)
    }

    /// What it printed: the end of a handler's output, the start of others'.
    pub fn output(&mut self) -> &[u8] {
        self.kept.bytes()
    }

    fn pid(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.process.id()).ok()?)
    }
}

/// Children that this process has from the program that it was before, and that have ended: nobody else reaps them.
/// Only before it has any of its own.
pub fn reap_inherited() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}

/// Ends with the daemon: nobody would reap or time it out. (It is not waited for.)
impl Drop for Child {
    fn drop(&mut self) {
        if let Ok(None) = self.process.try_wait() {
            self.signal(Signal::Kill);
        }
    }
}

impl Input {
    /// True: all was written, or the child does not want it. Closing is what it waits for.
    fn write_is_over(&mut self) -> bool {
        self.bytes.write_to(&mut self.pipe).unwrap_or(true) // EPIPE is fine
    }
}

enum Reading {
    /// End of file.
    Over,
    /// Nothing there now.
    Waits,
    /// The budget is used up.
    More,
}

/// The part of the output that is kept.
enum Kept {
    /// Its first [`HEAD_MAX`] bytes.
    Start(Vec<u8>),
    /// Its last [`OUTPUT_MAX`] bytes (up to twice as many in between).
    End(Vec<u8>),
}

impl Kept {
    fn push(&mut self, data: &[u8]) {
        match self {
            Self::Start(kept) => {
                let room = HEAD_MAX.saturating_sub(kept.len());
                kept.extend_from_slice(data.get(..room).unwrap_or(data));
            }
            Self::End(kept) => {
                if data.len() >= OUTPUT_MAX {
                    kept.clear();
                } else if kept.len() + data.len() > 2 * OUTPUT_MAX {
                    trim(kept);
                }
                let skipped = data.len().saturating_sub(OUTPUT_MAX);
                kept.extend_from_slice(data.get(skipped..).unwrap_or_default());
            }
        }
    }

    fn bytes(&mut self) -> &[u8] {
        match self {
            Self::Start(kept) => kept,
            Self::End(kept) => {
                trim(kept);
                kept
            }
        }
    }
}

fn trim(kept: &mut Vec<u8>) {
    let surplus = kept.len().saturating_sub(OUTPUT_MAX);
    kept.drain(..surplus);
}

fn receiver(fd: OwnedFd) -> io::Result<Receiver> {
    let pipe = Receiver::from(fd);
    pipe.set_nonblocking(true)?;
    Ok(pipe)
}

fn exit(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, signal) => Exit::Signal(signal.unwrap_or(0)),
    }
}

/// What a look-up printed: addresses, or why there are none.
pub fn resolved(exit: &Exit, output: &[u8]) -> Result<Vec<IpAddr>, String> {
    let text = String::from_utf8_lossy(output);
    if *exit != Exit::Code(0) {
        let line = text.lines().next().unwrap_or_default();
        return Err(match exit {
            Exit::Signal(_) => "no answer from the resolver within 10 s".to_owned(),
            Exit::NotStarted(why) => why.to_string(),
            Exit::Code(_) if line.is_empty() => "look-up failed".to_owned(),
            Exit::Code(_) => line.to_owned(),
        });
    }
    Ok(text.lines().filter_map(|line| line.parse().ok()).take(RESOLVED_ADDRESSES_MAX).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_handlers_output_is_kept() {
        let mut kept = Kept::End(Vec::new());
        for n in 0..10_000u32 {
            kept.push(format!("line {n}\n").as_bytes());
        }
        assert_eq!(kept.bytes().len(), OUTPUT_MAX);
        assert!(kept.bytes().ends_with(b"line 9998\nline 9999\n"));
        kept.push(&[b'x'; 3 * OUTPUT_MAX]);
        assert_eq!(kept.bytes(), [b'x'; OUTPUT_MAX]);
    }

    #[test]
    fn the_start_of_a_checks_output_is_kept() {
        let mut kept = Kept::Start(Vec::new());
        kept.push(b"DISK CRITICAL\n");
        kept.push(&[b'x'; 5000]);
        assert_eq!(kept.bytes().len(), HEAD_MAX);
        assert!(kept.bytes().starts_with(b"DISK CRITICAL\nxxx"));
    }

    #[test]
    fn a_look_up_gives_addresses_or_a_reason() {
        let found = resolved(&Exit::Code(0), b"192.0.2.1\n2001:db8::1\nrubbish\n").unwrap();
        assert_eq!(found, ["192.0.2.1".parse::<IpAddr>().unwrap(), "2001:db8::1".parse().unwrap()]);
        assert_eq!(resolved(&Exit::Code(1), b"no such name\n").unwrap_err(), "no such name");
        assert!(resolved(&Exit::Signal(9), b"").is_err());
    }
}
