//! The completions in real shells, with a real daemon and without.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::facts::{program, root};
use crate::values::Folder;

/// A daemon with applications and handlers, and a folder of its own.
struct Daemon {
    folder: Folder,
    child: Option<Child>,
}

impl Daemon {
    /// Not started yet.
    fn new(name: &str) -> Self {
        let folder = Folder::new(name);
        let at = folder.0.display();
        let port = std::net::UdpSocket::bind("127.0.0.1:0")
            .and_then(|socket| socket.local_addr())
            .expect("loopback");
        let config = format!(
            r#"{{ "node": "fra1", "bind": "{port}", "control": "{at}/s", "state": "{at}/state/state.json",
            "apps": {{ "web": {{ "checks": [{{ "exec": ["/bin/true"] }}] }}, "db": {{ "checks": [] }} }},
            "handlers": {{ "dns": {{ "run": ["/bin/true"] }}, "mail": {{ "run": ["/bin/true"], "mode": "event" }} }} }}"#
        );
        fs::write(folder.0.join("c.json"), config).expect("own folder");
        fs::create_dir(folder.0.join("bin")).expect("own folder");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_picored"), folder.0.join("bin/picored"))
            .expect("own folder");
        Self { folder, child: None }
    }

    fn start(&mut self) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_picored"));
        command.arg("-c").arg(self.folder.0.join("c.json")).arg("run").stdin(Stdio::null());
        self.child = Some(command.stderr(Stdio::null()).spawn().expect("the binary was built"));
        let began = Instant::now();
        while std::os::unix::net::UnixStream::connect(self.folder.0.join("s")).is_err() {
            assert!(began.elapsed() < Duration::from_secs(20), "it does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The words that `shell` completes the last word of `line` to, sorted; `@` in it is this daemon's folder.
    fn completed(&self, shell: &Shell, line: &str) -> Vec<String> {
        let at = self.folder.0.to_str().expect("UTF-8");
        let line = line.replace('@', at);
        let path = format!("{at}/bin:{}", std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(&shell.program);
        command.args(shell.arguments).arg(root().join("etc/completions")).arg(line.as_str());
        let output =
            command.env("PATH", path).current_dir(at).stdin(Stdio::null()).output().expect("it was there");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{line}: {said}");
        let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
        let mut words: Vec<String> = text
            .lines()
            .map(|line| line.trim().replace(&format!("{at}/"), "@/"))
            .filter(|line| !line.is_empty())
            .collect();
        words.sort();
        words
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

struct Shell {
    program: std::path::PathBuf,
    arguments: &'static [&'static str],
}

/// As readline does it: the line in words, `=` a word of its own, and the function that was registered is called.
const BASH: &str = r#"
source "$0/picored.bash"
complete -p picored | grep -q -- '-F _picored' || { echo "not registered" >&2; exit 1; }
line=${1//=/ = }
read -r -a COMP_WORDS <<<"$line"
[[ $line == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_LINE=$line COMP_POINT=${#line}
compopt() { :; } # outside of a completion it complains
_picored picored "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\n' "${COMPREPLY[@]}"
"#;

/// An interactive zsh on a terminal of its own is given the line and a tab; what it would offer is printed instead.
const ZSH: &str = r#"
zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z "fpath=($0 \$fpath) PS1= PS2= ; stty -echo"
zpty -w z 'source '$0/../../tests/docs/capture.zsh
zpty -r z line '*READY*' || exit 1
zpty -w -n z "$1"$'\t'
zpty -r z line '*THE END*'
zpty -d z
line=${${line##*THE BEGINNING}%%THE END*}
print -r -- $line
"#;

fn check(shell: &Shell, daemon: &mut Daemon) {
    let all_begin = |found: &[String], with: &str| found.iter().all(|word| word.starts_with(with));
    // A loaded machine may not answer within the second that is waited for names.
    let expect = |daemon: &Daemon, line: &str, wanted: &[&str]| {
        let began = Instant::now();
        let mut found = daemon.completed(shell, line);
        while found != wanted && began.elapsed() < Duration::from_secs(20) {
            found = daemon.completed(shell, line);
        }
        assert_eq!(found, wanted, "{line}");
    };
    let commands = daemon.completed(shell, "picored ");
    let mut wanted: Vec<&str> = picored::cli::usage::COMMANDS.iter().map(|help| help.name).collect();
    wanted.push("help");
    wanted.sort_unstable();
    assert_eq!(commands, wanted);
    expect(daemon, "picored re", &["reload", "restart"]);
    expect(daemon, "picored -c @/c.json ma", &["maint"]);
    let options = daemon.completed(shell, "picored maint on --");
    for option in ["--app", "--config", "--for", "--help", "--node", "--reason", "--socket"] {
        assert!(options.iter().any(|found| found == option), "{option} of {options:?}");
    }
    assert!(all_begin(&options, "--") && !options.iter().any(|option| option == "--cron"), "{options:?}");
    expect(daemon, "picored app web ", &["auto", "down", "up"]);
    expect(daemon, "picored log-level i", &["info"]);
    expect(
        daemon,
        "picored test-handler dns --event node-",
        &["node-address", "node-failed", "node-joined", "node-left"],
    );
    let files = daemon.completed(shell, "picored -c @/c");
    assert!(files.len() == 1 && files[0].ends_with("c.json"), "{files:?}");

    // Without a daemon: nothing, at once and without a word (which `completed` looks for).
    let began = Instant::now();
    expect(daemon, "picored -c @/c.json ping ", &[]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    daemon.start();
    expect(daemon, "picored -c @/c.json ping ", &["fra1"]);
    expect(daemon, "picored --config=@/c.json forget f", &["fra1"]);
    expect(daemon, "picored -c @/c.json why ", &["db", "web"]);
    expect(daemon, "picored app -c @/c.json w", &["web"]);
    expect(daemon, "picored -c @/c.json sync ", &["dns", "mail"]);
    expect(daemon, "picored --socket @/s test-handler ", &["dns", "mail"]);
    expect(daemon, "picored -c @/c.json maint on --app ", &["db", "web"]);
    expect(daemon, "picored -c @/c.json maint on --node ", &["fra1"]);
    // One that hangs is not waited for.
    let pid = rustix::process::Pid::from_child(daemon.child.as_ref().expect("started"));
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("our child");
    let began = Instant::now();
    expect(daemon, "picored -c @/c.json ping ", &[]);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn bash_completes_commands_options_names_and_files() {
    let Some(program) = program("bash", &["--version"], "bash") else { return };
    check(&Shell { program, arguments: &["--norc", "-c", BASH] }, &mut Daemon::new("bash"));
}

#[test]
fn zsh_completes_commands_options_names_and_files() {
    let Some(program) = program("zsh", &["--version"], "zsh") else { return };
    assert!(Path::new(&root().join("tests/docs/capture.zsh")).exists());
    check(&Shell { program, arguments: &["-f", "-c", ZSH] }, &mut Daemon::new("zsh"));
}
