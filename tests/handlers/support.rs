//! What the tests of the shipped handlers stand on: the shells that run them, temporary folders, small helpers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

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
