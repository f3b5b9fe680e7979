//! A bare memberlist program as a member: `peer/main.go`.

use std::collections::BTreeMap;
use std::env;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::sync::OnceLock;
use std::time::Instant;

use picored::wire::serf::{encode_tags, tags};
use serde_json::Value;

use crate::peer::{Kind, Member, PATIENCE, Peer, Process, said_members};

pub struct Bare {
    process: Process,
    stdin: Option<ChildStdin>,
}

impl Bare {
    pub fn new(process: Process) -> Self {
        Self { process, stdin: None }
    }

    fn run(&self, line: &str) -> Vec<Value> {
        self.tell(line).unwrap_or_else(|why| panic!("{} {line}: {why}", self.name()))
    }
}

/// The events among the lines of a log.
pub fn events(log: &str) -> Vec<Value> {
    log.lines()
        .filter(|line| line.starts_with('{'))
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// Builds the program, once per test run. An error is what `go` said.
pub fn program() -> Result<&'static Path, &'static str> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join("interop-peer");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/peer/main.go");
        let output = Command::new("go")
            .args(["build", "-o"])
            .arg(&program)
            .arg(source)
            .envs([("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")])
            .env("GOCACHE", folder.join("go-cache"))
            .output()
            .map_err(|e| format!("go: {e}"))?;
        match output.status.success() {
            true => Ok(program),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    });
    built.as_deref().map_err(String::as_str)
}

impl Peer for Bare {
    fn kind(&self) -> Kind {
        Kind::Memberlist
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    fn start(&mut self) {
        let (process, options) = (&self.process, &self.process.options);
        let mut args = vec![format!("-name={}", process.name), format!("-bind={}", process.ip())];
        args.push(format!("-profile={}", options.profile));
        if !options.keys.is_empty() {
            args.push(format!("-keys={}", options.keys.join(",")));
        }
        if !options.bare {
            args.push("-delegate=2,5,5".into());
            let tags = options.tags.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            args.push(format!("-meta={}", hex(&encode_tags(tags))));
        }
        args.extend(options.args.iter().cloned());
        let program = program().expect("checked before the first cell");
        let mark = self.mark();
        self.stdin = self.process.spawn(program, &args);
        self.process.wait_until_ready(|process| process.log_from(mark).contains(r#""event":"ready""#));
        for addr in self.process.options.join.clone() {
            self.join(addr);
        }
    }

    fn join(&mut self, addr: SocketAddr) {
        self.run(&format!("join {addr}"));
    }

    fn leave(&mut self) {
        self.run("leave");
        // As any program does that is polite: the news is out, but not yet everywhere.
        std::thread::sleep(std::time::Duration::from_secs(1));
        self.stdin = None;
        self.process.wait_until_ended();
    }

    fn members(&self) -> BTreeMap<String, Member> {
        if !self.process.answers() {
            return BTreeMap::new();
        }
        let said = self.run("members");
        let answer = said.iter().find(|event| event["event"] == "members");
        said_members(answer.unwrap_or(&Value::Null), "state", "addr", |member| {
            let meta = unhex(member["meta"].as_str().unwrap_or_default());
            tags(&meta).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        })
    }

    fn tell(&self, line: &str) -> Result<Vec<Value>, String> {
        let mark = self.mark();
        let mut stdin = self.stdin.as_ref().expect("it runs");
        stdin.write_all(format!("{line}\n").as_bytes()).map_err(|e| format!("{}: {e}", self.name()))?;
        let started = Instant::now();
        let word = line.split(' ').next().unwrap_or_default();
        loop {
            let events = events(&self.process.log_from(mark));
            if let Some(end) =
                events.iter().find(|event| event["event"] == "done" && event["command"] == word)
            {
                let failure = end["error"].as_str().unwrap_or_default();
                return if failure.is_empty() { Ok(events) } else { Err(failure.into()) };
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("{}: no answer to {line}", self.name()));
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    fn said_failed(&self, name: &str, mark: u64) -> bool {
        let said = events(&self.process.log_from(mark));
        said.iter().any(|event| event["event"] == "leave" && event["name"] == name)
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|i| u8::from_str_radix(text.get(2 * i..2 * i + 2)?, 16).ok()).collect()
}
