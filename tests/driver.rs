//! Children for real: what handlers do wrong in practice, and what must not come of it.
//!
//! The trampoline is the built binary. No test sleeps for a fixed time: each waits for what it claims, and
//! gives up after a generous limit.

use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use picored::check::attempt::{ExecTarget, Exit};
use picored::delivery::{Run, Signal};
use picored::driver::children::{Child, Job, Purpose, resolved};

const TRAMPOLINE: &str = env!("CARGO_BIN_EXE_picored");
const CHILD: Token = Token(9);

/// One test at a time: they count the descriptors and children of the whole process.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

struct Running {
    child: Child,
    poll: Poll,
    scratch: Vec<u8>,
    started: Instant,
    /// The longest that handling one readiness took.
    longest: Duration,
}

impl Running {
    fn start(job: Job<'_>, purpose: Purpose) -> Self {
        let poll = Poll::new().unwrap();
        let mut child = Child::spawn(Path::new(TRAMPOLINE), job, purpose).unwrap();
        child.register(poll.registry(), CHILD).unwrap();
        Self { child, poll, scratch: vec![0; 65_536], started: Instant::now(), longest: Duration::ZERO }
    }

    /// One turn; `Some` when it has ended.
    fn turn(&mut self) -> Option<Exit> {
        let mut events = Events::with_capacity(8);
        let _ = self.poll.poll(&mut events, Some(Duration::from_millis(2)));
        let before = Instant::now();
        if !events.is_empty() {
            self.child.handle_ready(self.poll.registry(), CHILD, &mut self.scratch);
        }
        let exit = self.child.reap(&mut self.scratch);
        self.longest = self.longest.max(before.elapsed());
        assert!(self.started.elapsed() < Duration::from_secs(30), "it does not end");
        exit
    }

    fn end(&mut self) -> Exit {
        loop {
            if let Some(exit) = self.turn() {
                return exit;
            }
        }
    }

    fn output(&mut self) -> String {
        String::from_utf8_lossy(self.child.output()).into_owned()
    }

    /// Until it has printed `text`.
    fn until_it_says(&mut self, text: &str) {
        while !self.output().contains(text) {
            assert_eq!(self.turn(), None, "{}", self.output());
        }
    }
}

fn run(argv: &[&str]) -> Run {
    Run {
        handler: "test".into(),
        argv: argv.iter().map(|&arg| arg.into()).collect(),
        env: vec![("PICORED_APP".into(), "web".into())],
        stdin: Vec::new(),
        user: None,
    }
}

fn start(argv: &[&str]) -> Running {
    Running::start(Job::run(&mut run(argv)), Purpose::Run { id: 1 })
}

fn shell(script: &str) -> Running {
    start(&["/bin/sh", "-c", script])
}

fn is_alive(pid: &str) -> bool {
    // A zombie that nobody has collected yet is dead, too.
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

fn dies(pid: &str) -> bool {
    let start = Instant::now();
    while is_alive(pid) {
        if start.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// What may be open in a child: 0 to 2, and what was open here without close-on-exec before any test.
fn inherited() -> Vec<u32> {
    let open = std::fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let passed_on = open.filter_map(|entry| {
        let info = std::fs::read_to_string(entry.path()).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?.trim().to_owned();
        let close_on_exec = i64::from_str_radix(&flags, 8).ok()? & 0o2_000_000 != 0;
        (!close_on_exec).then(|| entry.file_name().to_str()?.parse().ok())?
    });
    passed_on.chain(0..3).collect()
}

fn own_children() -> usize {
    let me = std::process::id().to_string();
    let stats = std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        Some(stat.rsplit(") ").next()?.split(' ').nth(1)?.to_owned())
    });
    stats.filter(|parent| *parent == me).count()
}

#[test]
fn a_program_gets_its_environment_and_nothing_else() {
    let _alone = alone();
    let inherited = inherited();
    // `ls` without a pipe after it: the shell would hold that open for a moment and be seen with it.
    let mut child = shell(
        "env | sort; umask; pwd; read -r _ _ _ _ group session _ < /proc/self/stat; \
         echo $$ $group $session; ls /proc/$$/fd; exit 0",
    );
    assert_eq!(child.end(), Exit::Code(0));
    let output = child.output();
    let lines: Vec<&str> = output.lines().collect();
    let (env, rest) = lines.split_at(lines.iter().position(|line| line.starts_with("00")).unwrap());
    let names: Vec<&str> = env.iter().map(|line| line.split('=').next().unwrap()).collect();
    for name in ["HOME", "LANG", "PATH", "PICORED_APP"] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
    // PWD, OLDPWD, SHLVL and _ are the shell's own.
    assert!(names.iter().all(|name| !name.starts_with("CARGO")), "{names:?}");
    assert_eq!(rest[0], "0077");
    assert_eq!(rest[1], "/");
    let ids: Vec<&str> = rest[2].split(' ').collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "leader of its own group and session: {ids:?}");
    let mut open: Vec<u32> = rest[3..].iter().map(|fd| fd.parse().unwrap()).collect();
    assert!(open.len() >= 3, "{output}");
    open.retain(|fd| !inherited.contains(fd));
    assert!(open.is_empty(), "{open:?}: not counting what the caller of this test left open");
}

#[test]
fn a_name_that_no_variable_can_hold_stops_no_run() {
    let _alone = alone();
    let mut run = run(&["/bin/sh", "-c", "echo \"$PICORED_NODE\""]);
    run.env.push(("PICORED_NODE".into(), "a\0b\tc".into()));
    let mut child = Running::start(Job::run(&mut run), Purpose::Run { id: 1 });
    assert_eq!(child.end(), Exit::Code(0));
    assert_eq!(child.output(), "a\u{fffd}b\tc\n");
}

#[test]
fn stdin_arrives_whole_and_is_closed() {
    let _alone = alone();
    let mut run = run(&["/bin/sh", "-c", "sleep 0.1; wc -c"]);
    run.stdin = vec![b'x'; 300_000]; // more than a pipe holds
    let mut child = Running::start(Job::run(&mut run), Purpose::Run { id: 1 });
    assert_eq!(child.end(), Exit::Code(0));
    assert_eq!(child.output().trim(), "300000");
}

#[test]
fn a_program_that_does_not_read_its_stdin_is_no_problem() {
    let _alone = alone();
    let mut run = run(&["/bin/true"]);
    run.stdin = vec![b'x'; 300_000];
    let mut child = Running::start(Job::run(&mut run), Purpose::Run { id: 1 });
    assert_eq!(child.end(), Exit::Code(0));
}

#[test]
fn a_program_that_hangs_is_ended_with_its_group() {
    let _alone = alone();
    let mut child = shell("sleep 1000 & echo pid $!; wait");
    child.until_it_says("pid ");
    let grandchild = child.output().trim().trim_start_matches("pid ").to_owned();
    child.child.signal(Signal::Term);
    assert_eq!(child.end(), Exit::Signal(15));
    assert!(dies(&grandchild));
}

#[test]
fn one_that_ignores_term_is_killed() {
    let _alone = alone();
    let mut child = shell("trap '' TERM; echo ready; while :; do sleep 0.01; done");
    child.until_it_says("ready");
    child.child.signal(Signal::Term);
    for _ in 0..50 {
        assert_eq!(child.turn(), None);
    }
    child.child.signal(Signal::Kill);
    assert_eq!(child.end(), Exit::Signal(9));
}

#[test]
fn a_signal_right_after_the_start_is_not_lost() {
    let _alone = alone();
    for _ in 0..50 {
        let mut child = start(&["/bin/sleep", "1000"]);
        child.child.signal(Signal::Term);
        assert_eq!(child.end(), Exit::Signal(15));
    }
}

#[test]
fn what_a_program_leaves_running_dies_with_it() {
    let _alone = alone();
    let mut child = shell("sleep 1000 & echo $!");
    assert_eq!(child.end(), Exit::Code(0));
    assert!(child.started.elapsed() < Duration::from_secs(10));
    let left = child.output();
    assert!(dies(&left));
}

#[test]
fn a_daemon_that_holds_the_output_open_holds_nobody_up() {
    let _alone = alone();
    // `cat` ends when the daemon is in its session and holds our pipe instead of the one to `cat`.
    let mut child = shell("exec 3>&1; (setsid sh -c 'echo $$; exec sleep 1000 >&3' & ) | cat; echo done");
    assert_eq!(child.end(), Exit::Code(0));
    let output = child.output();
    assert!(output.ends_with("done\n"), "{output}");
    // It made a session of its own, so it goes on: that is what daemons are for.
    let daemon = output.lines().next().unwrap().to_owned();
    let pid = rustix::process::Pid::from_raw(daemon.parse().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(dies(&daemon));
}

#[test]
fn ten_megabytes_of_output_cost_four_kilobytes_and_no_time() {
    let _alone = alone();
    let mut child = shell("head -c 10485760 /dev/zero | tr '\\0' x; echo; echo the end");
    assert_eq!(child.end(), Exit::Code(0));
    let output = child.output();
    assert!(output.len() == 4096 && output.ends_with("x\nthe end\n"));
    assert!(child.longest < Duration::from_millis(500), "{:?}", child.longest);
}

#[test]
fn a_check_keeps_the_start_of_its_output() {
    let _alone = alone();
    let argv = ["/bin/sh", "-c", "echo DISK CRITICAL; yes | head -c 100000; exit 2"].map(Into::into).to_vec();
    let target = ExecTarget { argv, warn_ok: false };
    let purpose = Purpose::Check { id: 1, target: Box::new(target.clone()) };
    let mut child = Running::start(Job::check(&target), purpose);
    assert_eq!(child.end(), Exit::Code(2));
    assert!(child.output().starts_with("DISK CRITICAL\n") && child.output().len() <= 1024);
}

#[test]
fn programs_that_cannot_be_run_say_so_in_the_way_of_shells() {
    let _alone = alone();
    for (argv, code, says) in [
        (&["/no/such/program"][..], 127, "no such file"),
        (&["/etc/passwd"][..], 126, "not executable"),
        (&["no-such-name-anywhere"][..], 127, "no such file"),
        (&[][..], 126, "no program"),
    ] {
        let mut child = start(argv);
        assert_eq!(child.end(), Exit::Code(code), "{argv:?}");
        assert!(child.output().contains(says), "{argv:?}: {}", child.output());
    }
}

#[test]
fn a_name_is_looked_for_in_the_path() {
    let _alone = alone();
    assert_eq!(start(&["true"]).end(), Exit::Code(0));
}

#[test]
fn a_trampoline_that_is_not_there_is_an_error_at_once() {
    let _alone = alone();
    let before = descriptors();
    let mut run = run(&["/bin/true"]);
    let spawned = Child::spawn(Path::new("/no/such/picored"), Job::run(&mut run), Purpose::Run { id: 1 });
    assert_eq!(spawned.err().unwrap().kind(), std::io::ErrorKind::NotFound);
    assert_eq!(descriptors(), before);
}

#[test]
fn another_user_has_its_groups_and_home() {
    let _alone = alone();
    let mut run = run(&["/bin/sh", "-c", "id -un; id -G; echo $HOME; id -G nobody"]);
    run.user = Some("nobody".into());
    let mut child = Running::start(Job::run(&mut run), Purpose::Run { id: 1 });
    let (exit, output) = (child.end(), child.output());
    match exit {
        Exit::Code(0) => {
            let home = output.lines().nth(2).unwrap();
            assert!(
                output.starts_with("nobody\n")
                    && !home.is_empty()
                    && std::env::var("HOME").as_deref() != Ok(home),
                "{output}"
            );
            assert_eq!(output.lines().nth(1), output.lines().nth(3), "its groups: {output}");
        }
        // Not root: it cannot, and says so.
        exit => assert!(exit == Exit::Code(126) && output.contains("does not run as root"), "{output}"),
    }
}

#[test]
fn an_unknown_user_is_never_run_as_oneself() {
    let _alone = alone();
    let mut run = run(&["/bin/echo", "ran"]);
    run.user = Some("no-such-user".into());
    let mut child = Running::start(Job::run(&mut run), Purpose::Run { id: 1 });
    assert_eq!(child.end(), Exit::Code(126));
    assert!(child.output().contains("not in /etc/passwd"), "{}", child.output());
}

#[test]
fn signals_that_our_parent_ignored_work_again() {
    let _alone = alone();
    let mut run = run(&["grep", "SigIgn", "/proc/self/status"]);
    let trampoline = std::env::temp_dir().join(format!("picored-nohup-{}", std::process::id()));
    std::fs::write(&trampoline, format!("#!/bin/sh\ntrap '' HUP INT USR1\nexec {TRAMPOLINE} \"$@\"\n"))
        .unwrap();
    std::fs::set_permissions(&trampoline, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let child = Child::spawn(&trampoline, Job::run(&mut run), Purpose::Run { id: 1 }).unwrap();
    let poll = Poll::new().unwrap();
    let mut child =
        Running { child, poll, scratch: vec![0; 4096], started: Instant::now(), longest: Duration::ZERO };
    child.child.register(child.poll.registry(), CHILD).unwrap();
    assert_eq!(child.end(), Exit::Code(0));
    let _ = std::fs::remove_file(trampoline);
    let ignored = child.output();
    let mask = u64::from_str_radix(ignored.trim().rsplit('\t').next().unwrap(), 16).unwrap();
    let bit = |signal: u32| 1 << (signal - 1);
    assert_eq!(mask & (bit(1) | bit(2) | bit(10) | bit(13)), 0, "{ignored}");
}

#[test]
fn names_are_looked_up_by_a_child() {
    let _alone = alone();
    let look_up = |host| {
        let mut child = Running::start(Job::resolve(host), Purpose::Resolve { id: 1, until: None });
        let exit = child.end();
        resolved(&exit, child.child.output())
    };
    let found = look_up("localhost").unwrap();
    assert!(!found.is_empty() && found.iter().all(|ip| ip.is_loopback()), "{found:?}");
    assert_eq!(look_up("192.0.2.1").unwrap(), ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert!(!look_up("no-such..host").unwrap_err().is_empty());
}

#[test]
fn three_hundred_runs_leave_no_zombie_and_no_descriptor() {
    let _alone = alone();
    let (before, children) = (descriptors(), own_children());
    for n in 0..300 {
        let mut child = match n % 4 {
            0 => shell("cat; exit 3"),
            1 => shell("setsid sleep 0.3 & echo left"),
            2 => start(&["/no/such/program"]),
            _ => shell("sleep 0.001"),
        };
        let exit = child.end();
        assert_eq!(exit, Exit::Code([3, 0, 127, 0][n % 4]));
    }
    assert_eq!((descriptors(), own_children()), (before, children));
}

#[test]
fn a_child_that_is_dropped_is_killed() {
    let _alone = alone();
    let mut child = shell("echo $$; exec sleep 1000");
    child.until_it_says("\n");
    let pid = child.output();
    drop(child);
    assert!(dies(&pid));
}
