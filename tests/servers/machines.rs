//! Machines for tests: each with its own processes, network, host name and files, on one link with the others.
//!
//! The programs are this system's. All of it is below one process that ends with this one, however that ends.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::skip::skip;

/// A link, and what is on it.
pub struct Net {
    folder: PathBuf,
    space: Space,
    machines: Vec<Machine>,
}

/// One of them.
pub struct Machine {
    pub name: String,
    /// Its files, as its namespace of mounts has them.
    root: PathBuf,
    space: Space,
}

/// The namespaces below one `unshare`.
struct Space {
    unshare: Child,
    /// The first process in them, as it is numbered here.
    first: u32,
}

impl Net {
    /// Nothing where machines cannot be made, which is said loudly and fails in CI.
    pub fn new(programs: &[&str]) -> Option<Net> {
        let missing: Vec<&str> = programs.iter().copied().filter(|name| which(name).is_none()).collect();
        if !rustix::process::geteuid().is_root() {
            skip("machines for tests take root, for their namespaces");
            return None;
        }
        if !missing.is_empty() {
            skip(&format!("not installed: {} (scripts/setup test)", missing.join(" ")));
            return None;
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("picored-machines-{}-{count}", std::process::id()));
        fs::create_dir_all(&folder).expect("a temporary folder");
        let space = Space::start(
            Command::new("unshare")
                .args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL", "sh", "-ec"])
                .arg("ip link add link0 type bridge; ip link set link0 up; echo up >\"$0\"; cat >/dev/null")
                .arg(folder.join("link-is-up")),
            1,
        );
        let net = Net { folder, space, machines: Vec::new() };
        wait_for("the link", || net.folder.join("link-is-up").exists().then_some(()));
        Some(net)
    }

    pub fn add(&mut self, name: &str, address: &str) {
        self.add_with(name, address, &[]);
    }

    /// A machine whose programs are busybox's and these.
    pub fn add_small(&mut self, name: &str, address: &str, programs: &[&str]) {
        let files: Vec<String> =
            programs.iter().filter_map(|name| Some(which(name)?.display().to_string())).collect();
        let busybox = which("busybox").expect("asked for").display().to_string();
        self.add_with(name, address, &[("MACHINE_BUSYBOX", busybox), ("MACHINE_PROGRAMS", files.join(" "))]);
    }

    fn add_with(&mut self, name: &str, address: &str, settings: &[(&str, String)]) {
        let root = self.folder.join(name);
        fs::create_dir(&root).expect("a folder");
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--pid", &format!("--target={}", self.space.first), "unshare"]);
        command.args(["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child=KILL"]);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/servers/machine"));
        command.args([name, address]).arg(&root);
        command.envs(settings.iter().map(|(key, value)| (key, value)));
        // nsenter, unshare, the machine.
        let space = Space::start(&mut command, 2);
        let pair = format!(
            "ip link add {name} type veth peer name eth0 netns {0}; ip link set {name} master link0 up",
            space.first
        );
        // The machine's number is the one that this test sees, so from its processes; only the network is the link's.
        let net = format!("--net=/proc/{}/ns/net", self.space.first);
        must(Command::new("nsenter").args([&net, "sh", "-ec", &pair]));
        let machine = Machine { name: name.into(), root, space };
        wait_for(&format!("{name} to be up"), || machine.try_run("test -e /run/machine-is-up").then_some(()));
        self.machines.push(machine);
    }

    pub fn at(&self, name: &str) -> &Machine {
        self.machines.iter().find(|machine| machine.name == name).expect("it was added")
    }

    /// All know all by name, and `from` may go to all others as root, by ssh.
    pub fn trust(&self, from: &str, hosts: &str) {
        let desk = self.at(from);
        desk.run("[ -e ~/.ssh/id_ed25519 ] || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id_ed25519");
        desk.write("~/.ssh/config", "Host *\n  StrictHostKeyChecking accept-new\n  LogLevel ERROR\n");
        let key = desk.run("cat ~/.ssh/id_ed25519.pub");
        for machine in &self.machines {
            machine.write("/etc/hosts", &format!("127.0.0.1 localhost\n{hosts}\n"));
            machine.write("~/.ssh/authorized_keys", &key);
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            machine.space.end();
        }
        self.space.end();
        drop(fs::remove_dir_all(&self.folder));
    }
}

impl Machine {
    /// `words` as they must be called to run here, as root with the path that a login has.
    fn enter(&self) -> Command {
        let mut command = Command::new("nsenter");
        let target = format!("--target={}", self.space.first);
        command.args([&target, "--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd"]);
        command.env_clear().env("LC_ALL", "C").env("USER", "root").env("LOGNAME", "root");
        let path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        command.env("PATH", path);
        command
    }

    pub fn output(&self, script: &str) -> Output {
        let mut command = self.enter();
        command.args(["sh", "-c", &format!("export HOME=~root\n{script}")]).stdin(Stdio::null());
        command.output().expect("nsenter starts")
    }

    /// What a script prints, which must succeed.
    pub fn run(&self, script: &str) -> String {
        let output = self.output(script);
        let (said, error) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{}: {script}: {}\n{said}{error}", self.name, output.status);
        said
    }

    pub fn try_run(&self, script: &str) -> bool {
        self.output(script).status.success()
    }

    /// Exit code, standard output and standard error.
    pub fn code(&self, script: &str) -> (i32, String) {
        let output = self.output(script);
        (output.status.code().unwrap_or(-1), text(&output.stdout) + &text(&output.stderr))
    }

    /// A file with this content; `~/` before its name is root's home there.
    pub fn write(&self, path: &str, content: &str) {
        use std::io::Write as _;
        let script = "home=~root; case $0 in '~/'*) to=$home/${0#??} ;; *) to=$0 ;; esac
            umask 077; mkdir -p \"$(dirname \"$to\")\"; cat >\"$to\"";
        let mut command = self.enter();
        command.args(["sh", "-ec", script, path]).stdin(Stdio::piped());
        let mut child = command.spawn().expect("nsenter starts");
        child.stdin.take().expect("piped").write_all(content.as_bytes()).expect("it reads");
        assert!(child.wait().expect("a child").success(), "{}: {path} could not be written", self.name);
    }

    /// A file or folder of this system, at `to` there, where an empty one is made. Read only.
    pub fn show(&self, from: &Path, to: &str) {
        // The machine's first process changed its root, its mounts begin where this system's do.
        let mounts = format!("--mount=/proc/{}/ns/mnt", self.space.first);
        let to = format!("{}{to}", self.root.display());
        let script = "if [ -d \"$0\" ]; then mkdir -p \"$1\"; else mkdir -p \"${1%/*}\"; : >\"$1\"; fi
            mount --bind \"$0\" \"$1\"; mount -o remount,bind,ro \"$1\"";
        must(Command::new("nsenter").args([&mounts, "sh", "-ec", script]).arg(from).arg(to));
    }
}

impl Space {
    /// `depth`: how many namespaces of processes below this test's it is.
    fn start(command: &mut Command, depth: usize) -> Space {
        let unshare = command.stdin(Stdio::piped()).spawn().expect("unshare and nsenter start");
        let mut first = 0;
        wait_for("namespaces", || {
            first = number_one(unshare.id(), depth)?;
            Some(())
        });
        Space { unshare, first }
    }

    /// Its first process reads until there is nothing to read any more, and all others end with it.
    fn end(&mut self) {
        drop(self.unshare.stdin.take());
        drop(self.unshare.wait());
    }
}

/// Among `pid` and those below it, the process that has number 1 in its own namespace.
fn number_one(pid: u32, depth: usize) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let own = fs::read_to_string("/proc/self/status").ok()?;
    let numbers = numbers(&status);
    if numbers.len() == self::numbers(&own).len() + depth && numbers.last() == Some(&"1") {
        return Some(pid);
    }
    let below = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    below.split_whitespace().filter_map(|child| child.parse().ok()).find_map(|child| number_one(child, depth))
}

fn numbers(status: &str) -> Vec<&str> {
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    line.unwrap_or_default().split_whitespace().collect()
}

/// Of busyboxes the one that `scripts/setup` downloads comes first: it has crontab, as small systems have it.
pub fn which(program: &str) -> Option<PathBuf> {
    let complete = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/busybox-static");
    if program == "busybox" && complete.is_file() {
        return Some(complete);
    }
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    path.split(':').map(|folder| Path::new(folder).join(program)).find(|file| file.is_file())
}

fn must(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `look` returns as soon as it returns something; a minute is the limit for all that is not told to take longer.
pub fn wait_for<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    wait_up_to(Duration::from_secs(60), what, look)
}

pub fn wait_up_to<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "waited {limit:?} for {what}");
        thread::sleep(Duration::from_millis(50));
    }
}
