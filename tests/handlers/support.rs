//! What the tests of the shipped handlers stand on: the shells that run them, temporary folders, small helpers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// What the handlers use of a small system.
const BUSYBOX_TOOLS: [&str; 21] = [
    "awk", "cat", "chmod", "cmp", "cp", "cut", "date", "grep", "head", "id", "ls", "mktemp", "mv",
    "readlink", "rm", "sed", "sleep", "sort", "sync", "tail", "tr",
];

/// A shell to run the handlers with, and a folder of tools that come first in its PATH.
pub struct Shell {
    pub name: &'static str,
    argv: &'static [&'static str],
    tools: Option<Folder>,
}

impl Shell {
    pub fn path(&self) -> String {
        let system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        match &self.tools {
            Some(folder) => format!("{}:{system}", folder.0.display()),
            None => system.into(),
        }
    }

    /// With the environment that picored gives: nothing but what is set here.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.argv[0]);
        command.args(&self.argv[1..]).env_clear().env("PATH", self.path()).env("LANG", "C").env("HOME", "/");
        command.stdin(Stdio::null()).current_dir("/");
        command
    }

    pub fn handler(&self, name: &str) -> Command {
        let mut command = self.command();
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/handlers").join(name));
        command
    }
}

impl Shell {
    /// A folder with what a small system has and `programs`: as the only PATH, everything else is not installed.
    pub fn only(&self, programs: &[&str]) -> Folder {
        let folder = Folder::new();
        // The shell as well, should it be looked up.
        let itself = self.argv.first().filter(|program| !program.starts_with('/'));
        let path = self.path();
        for tool in BUSYBOX_TOOLS.iter().chain(programs).chain(itself) {
            let places = path.split(':').map(|place| Path::new(place).join(tool));
            let found = places.into_iter().find(|place| place.is_file());
            symlink(found.unwrap_or_else(|| panic!("{tool} is not installed")), folder.0.join(tool))
                .expect("a link");
        }
        folder
    }
}

pub fn shells() -> Vec<Shell> {
    let mut shells = vec![Shell { name: "sh", argv: &["/bin/sh"], tools: None }];
    if let Some(busybox) = which("busybox") {
        let folder = Folder::new();
        for tool in BUSYBOX_TOOLS {
            symlink(&busybox, folder.0.join(tool)).expect("a link");
        }
        shells.push(Shell { name: "busybox sh", argv: &["busybox", "sh"], tools: Some(folder) });
    }
    shells
}

/// A temporary folder, removed when dropped.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("picored-handlers-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a temporary folder");
        Folder(path)
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("a file in the temporary folder");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn executable(path: &Path, script: &str) {
    let draft = path.with_extension("draft");
    fs::write(&draft, script).expect("a script");
    install(&draft, path);
}

/// A copy that can be run. Another process makes it: a file that this one had open for writing while
/// another test's thread forks could not be run yet (ETXTBSY).
pub fn install(from: &Path, to: &Path) {
    let done = Command::new("install").args(["-m", "0755"]).args([from, to]).status();
    assert!(done.expect("install starts").success());
}

pub fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|path| path.is_file())
}

pub fn inode(path: &Path) -> u64 {
    std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("the file"))
}

pub fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or(-1)
}

pub fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A server that is killed when dropped.
pub struct Server(pub Child);

impl Server {
    pub fn signal(&self, name: &str) {
        signal(self.0.id(), name);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The shell's own kill: a small system has no other.
pub fn signal(pid: u32, signal: &str) {
    let done = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
    assert!(done.expect("sh starts").success());
}

/// `wanted` came true within 20 s.
pub fn soon(wanted: impl FnMut() -> bool) -> bool {
    within(Duration::from_secs(20), wanted)
}

pub fn within(time: Duration, mut wanted: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if wanted() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    wanted()
}

/// Programs that run as ever but for one call: of all their calls, counted together, the one of number `FAIL_AT` ends
/// with 99 at once, as if there were no memory for it. Each call leaves a file in the folder `CALLS`.
pub fn failing(tools: &[&str]) -> Folder {
    let bin = Folder::new();
    for tool in tools {
        let real = which(tool).unwrap_or_else(|| panic!("{tool} is not installed")).display().to_string();
        // Several run at once in a pipeline: each takes the next number by making a file that was not there.
        let counts = r#"set -C; n=0; until true 2>/dev/null >"$CALLS/$n"; do n=$((n + 1)); done"#;
        let fails = r#"[ "$n" != "$FAIL_AT" ] || exit 99"#;
        executable(&bin.0.join(tool), &format!("#!/bin/sh\n{counts}\n{fails}\nexec {real} \"$@\"\n"));
    }
    bin
}

/// What [`failing`] programs are told by: to be set for a run.
pub fn fail_at(number: usize, bin: &Folder, calls: &Folder) -> [(&'static str, String); 3] {
    [
        ("PATH", format!("{}:/usr/bin:/bin", bin.0.display())),
        ("CALLS", calls.0.display().to_string()),
        ("FAIL_AT", number.to_string()),
    ]
}

/// How many programs ran.
pub fn called(calls: &Folder) -> usize {
    fs::read_dir(&calls.0).expect("a folder").count()
}
