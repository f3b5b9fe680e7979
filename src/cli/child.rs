//! What picored does between its own start and the program it was started for: the trampoline.
//!
//! Everything that other daemons do between fork and exec is done here, after an exec of picored itself, as
//! s6's chain-loaders do: `picored __exec [--user NAME] -- PROGRAM [ARGUMENT…]` never returns if it works.
//! `picored __resolve HOST` prints addresses. Neither is for people. Descriptors need no care: all that the
//! daemon opens are close-on-exec. What it was started with beyond 0 to 2 and without that mark (a shell's
//! `3>file`), children have as well: no safe call closes a descriptor that we do not own.

use core::fmt;
use core::net::IpAddr;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::ToSocketAddrs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::Mode;
use rustix::process::{Gid, Signal, Uid, getgid, getuid};

use crate::driver::children::EXEC;
use crate::driver::files;
use crate::limits::RESOLVED_ADDRESSES_MAX;

/// As shells say it: the program is there but cannot be run.
const CANNOT_RUN: u8 = 126;
/// As shells say it: there is no such program.
const NOT_FOUND: u8 = 127;
/// Users and groups are looked for in files of this size at most.
const PASSWD_MAX: u64 = 1 << 20;

/// `args` follow the word [`EXEC`]. Returns only if the program could not be run: the exit code.
pub fn exec(args: impl Iterator<Item = OsString>) -> u8 {
    let failure = match parse(args) {
        Ok(job) => become_it(&job),
        Err(failure) => failure,
    };
    // Standard error is the pipe that the daemon reads; if it is gone there is nobody to tell.
    let _ = io::Write::write_all(&mut io::stderr(), format!("picored: {failure}\n").as_bytes());
    failure.code
}

struct Job {
    user: Option<OsString>,
    argv: Vec<OsString>,
}

struct Failure {
    code: u8,
    text: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn failure(text: String) -> Failure {
    Failure { code: CANNOT_RUN, text }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Result<Job, Failure> {
    let mut user = None;
    loop {
        match args.next() {
            Some(arg) if arg == "--user" => user = args.next(),
            Some(arg) if arg == "--" => break,
            other => return Err(failure(format!("{EXEC}: unexpected argument {other:?}"))),
        }
    }
    Ok(Job { user, argv: args.collect() })
}

/// Becomes the program, or says why it cannot.
fn become_it(job: &Job) -> Failure {
    let Some((name, args)) = job.argv.split_first() else {
        return failure(format!("{EXEC}: no program given"));
    };
    // Fails only if we lead a session already, which is what we want.
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::from_raw_mode(0o077));
    if let Err(error) = rustix::process::chdir("/") {
        return failure(format!("cannot change to /: {error}"));
    }
    reset_signals();
    let program = find(Path::new(name));
    if getuid().is_root()
        && program.exists()
        && let Err(text) = files::check_program(&program)
    {
        return failure(text);
    }
    let mut command = Command::new(&program);
    command.args(args).arg0(name);
    match enter(job.user.as_deref()) {
        // What the operator set stays.
        Ok(home) if std::env::var_os("HOME").is_none() => command.env("HOME", home),
        Ok(_) => &mut command,
        Err(failure) => return failure,
    };
    explain(&program, &command.exec())
}

fn explain(program: &Path, error: &io::Error) -> Failure {
    let program = program.display();
    match error.kind() {
        io::ErrorKind::NotFound => Failure {
            code: NOT_FOUND,
            text: format!("cannot run {program}: no such file, or its interpreter is missing"),
        },
        io::ErrorKind::PermissionDenied => {
            failure(format!("cannot run {program}: not executable for this user"))
        }
        _ => failure(format!("cannot run {program}: {error}")),
    }
}

/// A signal that our own parent ignored (`nohup` does so) would be ignored by the program too. One that has
/// a handler is reset by exec, so each gets one; the mask is emptied and SIGPIPE reset by [`Command::exec`].
/// TERM is left out: one that came before the exec would be swallowed, and the daemon has a handler for it,
/// so it is never ignored here.
fn reset_signals() {
    let signals = [
        Signal::HUP,
        Signal::INT,
        Signal::QUIT,
        Signal::USR1,
        Signal::USR2,
        Signal::ALARM,
        Signal::CHILD,
        Signal::TSTP,
        Signal::TTIN,
        Signal::TTOU,
    ];
    // Forgetting would leave nothing behind either: exec comes next.
    core::mem::forget(signal_hook_mio::v1_0::Signals::new(signals.map(Signal::as_raw)));
}

/// A name without a slash is looked for as a shell does.
fn find(name: &Path) -> PathBuf {
    if name.as_os_str().as_encoded_bytes().contains(&b'/') {
        return name.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file());
    found.unwrap_or_else(|| name.to_owned())
}

/// Takes on the user with all groups, and gives the home directory.
fn enter(user: Option<&OsStr>) -> Result<OsString, Failure> {
    let own = Account { name: "", uid: getuid(), gid: getgid(), home: "/" };
    let passwd = read_limited("/etc/passwd");
    let Some(user) = user.map(OsStr::to_string_lossy) else {
        let account = accounts(&passwd).find(|account| account.uid == own.uid).unwrap_or(own);
        return Ok(account.home.into());
    };
    let account = accounts(&passwd)
        .find(|account| account.name == user)
        .ok_or_else(|| failure(format!("user {user} is not in /etc/passwd")))?;
    if !own.uid.is_root() {
        return match account.uid == own.uid {
            true => Ok(account.home.into()),
            false => Err(failure(format!("cannot become user {user}: picored does not run as root"))),
        };
    }
    let mut groups = groups_of(&read_limited("/etc/group"), account.name);
    groups.push(account.gid);
    // The user last: afterwards the rest is not permitted any more.
    let done = rustix::thread::set_thread_groups(&groups)
        .and_then(|()| rustix::thread::set_thread_gid(account.gid))
        .and_then(|()| rustix::thread::set_thread_uid(account.uid));
    done.map_err(|error| failure(format!("cannot become user {user}: {error}")))?;
    Ok(account.home.into())
}

/// A line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: Uid,
    gid: Gid,
    home: &'a str,
}

/// Damaged lines are passed over. (A static musl binary has no NSS: other sources of users are not seen.)
fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let (uid, gid) = (number(fields.next()?)?, number(fields.next()?)?);
        let (_gecos, home) = (fields.next()?, fields.next()?);
        Some(Account { name, uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), home })
    })
}

/// The groups whose member lists name `user`.
fn groups_of(group: &str, user: &str) -> Vec<Gid> {
    let with_user = |line: &str| {
        let mut fields = line.split(':').skip(2);
        let gid = number(fields.next()?)?;
        fields.next()?.split(',').any(|member| member == user).then(|| Gid::from_raw(gid))
    };
    group.lines().filter_map(with_user).collect()
}

/// A user or group number; `u32::MAX` means "none" to the kernel.
fn number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|&n| n != u32::MAX)
}

fn read_limited(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = io::Read::read_to_end(&mut io::Read::take(file, PASSWD_MAX), &mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Looks `host` up, however long that takes (the daemon ends us), and prints an address per line.
pub fn resolve(host: &str) -> u8 {
    let _ = rustix::process::setsid();
    let found = match (host, 0u16).to_socket_addrs() {
        Ok(found) => found,
        Err(error) => {
            let text = error.to_string();
            let text = text.strip_prefix("failed to lookup address information: ").unwrap_or(&text);
            print(text);
            return 1;
        }
    };
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in found.map(|addr| addr.ip()) {
        if !addresses.contains(&ip) && addresses.len() < RESOLVED_ADDRESSES_MAX {
            addresses.push(ip);
        }
    }
    addresses.iter().for_each(|ip| print(&ip.to_string()));
    0
}

/// Without a panic if nobody listens any more.
fn print(line: &str) {
    let _ = io::Write::write_all(&mut io::stdout(), format!("{line}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str =
        "root:x:0:0:root:/root:/bin/sh\nbroken\nweb:x:33:34::/var/www:/bin/false\nodd:x:x:1::/:\n";
    const GROUP: &str = "root:x:0:\nadm:x:4:syslog,web\nweb:x:34:\nwebs:x:35:webs\nlog:x:7:web\n";

    #[test]
    fn users_are_found_and_damaged_lines_passed_over() {
        let found: Vec<_> = accounts(PASSWD).map(|account| (account.name, account.uid.as_raw())).collect();
        assert_eq!(found, [("root", 0), ("web", 33)]);
        let web = accounts(PASSWD).find(|account| account.name == "web").unwrap();
        assert_eq!((web.gid.as_raw(), web.home), (34, "/var/www"));
    }

    #[test]
    fn a_user_is_in_the_groups_that_name_it_whole() {
        let groups: Vec<_> = groups_of(GROUP, "web").iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(groups, [4, 7]);
    }

    #[test]
    fn options_end_at_two_dashes() {
        let args = ["--user", "web", "--", "/bin/x", "--user", "y"].map(OsString::from);
        let job = parse(args.into_iter()).ok().expect("well-formed");
        assert_eq!(job.user, Some("web".into()));
        assert_eq!(job.argv, ["/bin/x", "--user", "y"]);
        assert!(parse(["x"].map(OsString::from).into_iter()).is_err());
    }
}
