//! What the tests of these handlers stand on: shells, temporary folders, one run of a handler.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Sets that no handler may take, nor send anything for.
pub const NO_SETS: [&str; 17] = [
    "",
    "  ",
    "192.0.2.256",
    "192.0.2",
    "01.2.3.4",
    "1.2.3.4.5",
    "0.0.0.0",
    "::",
    "www",
    "192.0.2.2\",\"x\":\"",
    "2001:db8:::1",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "::12345",
    "fe80::1%eth0",
    "1::2::3",
    "*",
];

/// A shell to run the handlers with, and a folder of tools that come first in its PATH.
pub struct Shell {
    pub name: &'static str,
    argv: &'static [&'static str],
    tools: Option<Folder>,
}

impl Shell {
    /// With the environment that picored gives: nothing but what is set here.
    pub fn command(&self) -> Command {
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let path = match &self.tools {
            Some(folder) => format!("{}:{system}", folder.0.display()),
            None => system.into(),
        };
        let mut command = Command::new(self.argv[0]);
        command.args(&self.argv[1..]).env_clear().env("PATH", path).env("LANG", "C").env("HOME", "/");
        command.stdin(Stdio::null()).current_dir("/");
        command
    }
}

pub fn shells() -> Vec<Shell> {
    let mut shells = vec![Shell { name: "sh", argv: &["/bin/sh"], tools: None }];
    if let Some(busybox) = which("busybox") {
        let folder = Folder::new();
        for tool in ["awk", "cat", "date", "mktemp", "mv", "rm", "sed", "sleep", "sort", "tail", "tr"] {
            symlink(&busybox, folder.0.join(tool)).expect("a link");
        }
        shells.push(Shell { name: "busybox sh", argv: &["busybox", "sh"], tools: Some(folder) });
    }
    shells
}

/// Where the handlers lie.
pub fn handlers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/handlers")
}

/// A handler that is about to run, in a folder of its own and with one for its temporary files.
pub struct Run {
    pub command: Command,
    places: [Folder; 2],
    what: String,
}

/// How a run ended.
pub struct Ended {
    pub code: i32,
    pub output: String,
    pub took: Duration,
}

impl Run {
    pub fn new(shell: &Shell, handler: &str, set: &str) -> Run {
        let places = [Folder::new(), Folder::new()];
        let mut command = shell.command();
        command.arg(handlers().join(handler)).current_dir(&places[0].0).env("TMPDIR", &places[1].0);
        command
            .env("DNS_ZONE", "Example.test.")
            .env("DNS_NAME", "www.example.test.")
            .env("DNS_TIMEOUT", "60");
        command.env("PICORED_MODE", "sync").env("PICORED_APP", "web").env("PICORED_UP_ADDRS", set);
        Run { command, places, what: format!("{handler} by {} for {set:?}", shell.name) }
    }

    pub fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end and looks whether it left anything behind.
    pub fn ends(mut self) -> Ended {
        let began = Instant::now();
        let output = self.command.output().expect("the handler starts");
        let ended = Ended {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
            took: began.elapsed(),
        };
        for place in &self.places {
            let left: Vec<_> = fs::read_dir(&place.0).expect("the folder").collect();
            assert!(left.is_empty(), "{} left {left:?} behind: {}", self.what, ended.output);
        }
        for complaint in ["syntax error", "not found\n", "parameter not set", "awk: "] {
            assert!(!ended.output.contains(complaint), "{}: {}", self.what, ended.output);
        }
        ended
    }

    #[track_caller]
    pub fn ends_with(self, code: i32) -> Ended {
        let what = self.what.clone();
        let ended = self.ends();
        assert_eq!(ended.code, code, "{what}: {}", ended.output);
        ended
    }
}

impl Ended {
    #[track_caller]
    pub fn says(&self, word: &str) -> &Ended {
        assert!(self.output.contains(word), "{word:?} is missing in {:?}", self.output);
        self
    }

    #[track_caller]
    pub fn keeps_quiet_about(&self, secret: &str) -> &Ended {
        assert!(!self.output.contains(secret), "{:?}", self.output);
        self
    }
}

/// A temporary folder, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("picored-http-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub fn write(&self, name: &str, content: &str) {
        fs::write(self.0.join(name), content).expect("a file in the temporary folder");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A server that is killed when dropped.
pub struct Server(pub Child);

impl Server {
    pub fn signal(&self, signal: &str) {
        // The shell's own kill: a small system has no other.
        let done = Command::new("sh").args(["-c", &format!("kill -{signal} {}", self.0.id())]).status();
        assert!(done.expect("sh starts").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Polls until `done`; false after 20 s.
pub fn soon(mut done: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}
