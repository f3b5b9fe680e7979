//! A room: a machine of a test's own, of this one's programs, with processes, network, /etc, /var and /run of its own.
//!
//! It is there as long as the test: its first process ends when its standard input does, and all others with that.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::daemon::{Folder, picored, skip, wait_for};

pub const STATE: &str = "var/lib/picored/state.json";
/// What it waits for is done at once on an idle machine.
pub const SOON: Duration = Duration::from_secs(30);

/// As rooms have it: one with crond, which not every busybox is built with.
pub const BUSYBOX_STATIC: &str = "busybox-static";

/// Where `scripts/setup` puts it.
fn busybox_static() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools").join(BUSYBOX_STATIC)
}

pub struct Room {
    folder: Folder,
    holder: Child,
    init: u32,
    /// Its control group, if it has one of its own.
    cgroup: Option<String>,
}

/// The file of the tree that is shipped.
pub fn shipped(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("it is in the tree")
}

/// Whether all of `programs` are there, and rooms can be made; if not, that is said.
pub fn can_test(programs: &[&str]) -> bool {
    for program in ["unshare", "nsenter", "ip"].iter().chain(programs) {
        let script = match *program {
            BUSYBOX_STATIC => format!("test -x {}", busybox_static().display()),
            name => format!("command -v {name}"),
        };
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let found = Command::new("sh").args(["-c", &script]).env("PATH", path).output().expect("a shell");
        if !found.status.success() {
            skip(&format!("{program} is not installed"));
            return false;
        }
    }
    let own = Command::new("unshare").args(["--mount", "--pid", "--net", "--fork", "true"]).output();
    if !own.is_ok_and(|output| output.status.success()) {
        skip("no namespaces of one's own (not root?)");
        return false;
    }
    true
}

impl Room {
    /// `files`: paths from its root, with their text; `start`: the shell script that it starts with.
    pub fn new(files: &[(&str, &str)], start: &str) -> Self {
        let start = format!(
            "{start}\n# Reaps what has no parent left, as the first process does, until the test ends.\ncat\nexit\n"
        );
        Self::open(files, &start, None)
    }

    /// `start` becomes systemd; it is to look after `unit`.
    pub fn with_systemd(files: &[(&str, &str)], unit: &str) -> Self {
        let target = format!("[Unit]\nRequires={unit}\nAfter={unit}\nAllowIsolate=yes\n");
        let mut all = files.to_vec();
        all.push(("etc/systemd/system/room.target", &target));
        all.push(("etc/machine-id", "0123456789abcdef0123456789abcdef\n"));
        Self::open(&all, SYSTEMD, Some(format!("picored-room-{}", std::process::id())))
    }

    fn open(files: &[(&str, &str)], start: &str, cgroup: Option<String>) -> Self {
        let folder = Folder::new();
        let (root, own) = (folder.file("root"), folder.file("files"));
        fs::create_dir_all(&root).expect("own folder");
        for (path, text) in files.iter().chain(&[("start", start)]) {
            let path = own.join(path);
            fs::create_dir_all(path.parent().expect("a file is in a folder")).expect("own folder");
            fs::write(&path, text).expect("own folder");
            let mode = if text.starts_with("#!") { 0o755 } else { 0o600 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("own file");
        }
        let out = fs::File::create(folder.file("out")).expect("own folder");
        let (room, busybox) = (script("room"), busybox_static());
        let own = format!("{room} {} {} {} {}", root.display(), own.display(), picored(), busybox.display());
        let spaces = "unshare --mount --pid --net --uts --ipc --fork --kill-child=KILL";
        let command = match &cgroup {
            None => format!("exec {spaces} sh {own}"),
            Some(name) => {
                let (enter, root) = (script("cgroup"), root.display());
                format!("exec unshare --mount sh {enter} enter {name} {root} {spaces} --cgroup sh {own}")
            }
        };
        let holder = Command::new("sh")
            .args(["-c", &command])
            .stdin(Stdio::piped())
            .stdout(out.try_clone().expect("a file descriptor"))
            .stderr(out)
            .spawn()
            .expect("it was found before");
        let mut room = Self { folder, holder, init: 0, cgroup };
        let children = format!("/proc/{0}/task/{0}/children", room.holder.id());
        wait_for("the room to be there", SOON, || {
            let text = fs::read_to_string(&children).unwrap_or_default();
            room.init = text.trim().parse().unwrap_or(0);
            room.init != 0 && fs::metadata(room.path("start")).is_ok()
        });
        room
    }

    /// A path of the room, seen from here.
    pub fn path(&self, path: &str) -> PathBuf {
        Path::new("/proc").join(self.init.to_string()).join("root").join(path)
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap_or_default()
    }

    /// Complete at once, and for its owner only.
    pub fn write(&self, path: &str, text: &str) {
        let new = self.path(&format!("{path}.new"));
        fs::write(&new, text).expect("the room's own file");
        fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("the room's own file");
        fs::rename(new, self.path(path)).expect("the room's own file");
    }

    /// Runs a command in the room.
    pub fn run(&self, command: &str) -> Output {
        Command::new("nsenter")
            .current_dir("/")
            .args([
                "--target",
                &self.init.to_string(),
                "--mount",
                "--pid",
                "--net",
                "--uts",
                "--ipc",
                "--root",
                "--wd=/",
            ])
            .args(["sh", "-c", command])
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .output()
            .expect("it was found before")
    }

    pub fn must(&self, command: &str) -> String {
        let output = self.run(command);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{command}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// What `status --json` says, if somebody answers.
    pub fn status(&self) -> Option<Value> {
        serde_json::from_slice(&self.run("timeout 5 picored status --json -v").stdout).ok()
    }

    /// The process, as the room counts it, of the daemon that has the lock on the state.
    pub fn holder(&self) -> Option<u32> {
        self.read(&format!("{STATE}.lock")).trim().parse().ok()
    }

    /// The daemons (for cron `__daemon`, else `run`) that there are: process and state letter.
    pub fn daemons(&self) -> Vec<u32> {
        let processes = fs::read_dir(self.path("proc")).expect("the room is there").flatten();
        let mut found: Vec<u32> = processes
            .filter_map(|entry| {
                let pid = entry.file_name().to_str()?.parse().ok()?;
                let text = fs::read(entry.path().join("cmdline")).ok()?;
                let args: Vec<&[u8]> = text.split(|&byte| byte == 0).collect();
                let is_it = args.first()?.ends_with(b"picored")
                    && (args.get(1) == Some(&&b"__daemon"[..])
                        || args.get(1..3) == Some(&[&b"run"[..], &b""[..]][..]));
                is_it.then_some(pid)
            })
            .collect();
        found.sort_unstable();
        found
    }

    /// Waits for one that answers and is not `old`; gives its process and how long that took.
    pub fn wait_for_daemon(&self, old: Option<u32>, limit: Duration) -> (u32, Duration) {
        let began = Instant::now();
        let mut found = 0;
        wait_for("a daemon that answers", limit, || {
            let holder = self.holder().filter(|&pid| Some(pid) != old);
            found = holder.filter(|&pid| self.path(&format!("proc/{pid}")).exists()).unwrap_or(0);
            if found == 0 || self.status().is_none() {
                thread::sleep(Duration::from_millis(200)); // minutes go by: without haste
                return false;
            }
            true
        });
        (found, began.elapsed())
    }

    /// All mails that were sent so far.
    pub fn mails(&self) -> Vec<String> {
        let files = fs::read_dir(self.path("var/mail")).expect("the room is there").flatten();
        let complete = files.filter(|file| file.path().extension().is_none_or(|ext| ext != "part"));
        complete.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("mails: {:?}\nend of the log:\n{}", self.mails(), self.read("var/log/picored.log"));
            eprintln!("it said: {}", self.folder.read("out"));
        }
        drop(self.holder.stdin.take());
        drop(self.holder.kill());
        drop(self.holder.wait());
        // The folder cannot be removed while the room is there.
        let began = Instant::now();
        while self.path("start").exists() && began.elapsed() < SOON {
            thread::sleep(Duration::from_millis(10));
        }
        if let Some(name) = &self.cgroup {
            let command =
                format!("sh {} remove {name} {}", script("cgroup"), self.folder.file("root").display());
            drop(Command::new("unshare").args(["--mount", "sh", "-c", &command]).output());
        }
    }
}

fn script(name: &str) -> String {
    format!("{}/tests/supervision/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// As the first process: one of its signals is for it to halt at once, for when the test is no more.
const SYSTEMD: &str = "exec 3<&0 </dev/null
{ cat <&3; kill -47 1; } >/dev/null 2>&1 &
exec 3<&-
cd /
ip link set lo up
mkdir -p /sys
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/systemd
mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd || {
    umount /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
}
container=room exec /lib/systemd/systemd --system --unit=room.target --log-target=null --show-status=no
";

/// A quick node on the room's loopback; `extra` is laid over that.
pub fn config(extra: Value) -> String {
    let mut config = json!({
        "node": "a", "bind": "127.0.0.1:7946", "profile": "local", "safety": { "settle": "1s" },
        "log": { "file": "/var/log/picored.log" },
    });
    for (key, value) in extra.as_object().expect("an object") {
        config[key] = value.clone();
    }
    config.to_string()
}
