//! A Serf agent as a member.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::peer::{Kind, Member, Peer, Process, json_tags, said_members};

const RPC_PORT: u16 = 7373;

pub struct Serf {
    process: Process,
}

impl Serf {
    pub fn new(process: Process) -> Self {
        Self { process }
    }

    /// Runs `serf COMMAND` against the agent.
    pub fn command(process: &Process, args: &[&str]) -> Output {
        let rpc = SocketAddr::new(process.ip(), RPC_PORT).to_string();
        let (command, rest) = args.split_first().expect("a command");
        let mut serf = Command::new("serf");
        serf.arg(command).args(["-rpc-addr", &rpc]).args(rest).output().expect("serf is there")
    }

    /// What `serf members -format=json` says, as it is.
    pub fn ask(process: &Process) -> Value {
        let output = Self::command(process, &["members", "-format=json"]);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn run(&self, args: &[&str]) {
        let output = Self::command(&self.process, args);
        let said = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "serf {args:?}: {}", String::from_utf8_lossy(&said));
    }
}

impl Peer for Serf {
    fn kind(&self) -> Kind {
        Kind::Serf
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    fn start(&mut self) {
        let (process, options) = (&self.process, &self.process.options);
        let rpc = SocketAddr::new(process.ip(), RPC_PORT);
        let mut args = vec!["agent".into(), format!("-node={}", process.name), "-log-level=debug".into()];
        args.push(format!("-bind={}", process.addr()));
        args.push(format!("-rpc-addr={rpc}"));
        args.push(format!("-profile={}", options.profile));
        args.extend(options.tags.iter().map(|(name, value)| format!("-tag={name}={value}")));
        args.extend(options.join.iter().map(|addr| format!("-join={addr}")));
        if !options.keys.is_empty() {
            let file = process.folder.file("keys");
            // The agent writes it itself when keys change.
            if !file.exists() {
                fs::write(&file, json!(options.keys).to_string()).expect("own folder");
            }
            args.push(format!("-keyring-file={}", file.display()));
        }
        args.extend(options.args.iter().cloned());
        self.process.spawn(Path::new("serf"), &args);
        self.process.wait_until_ready(|process| Self::ask(process)["members"].is_array());
    }

    fn join(&mut self, addr: SocketAddr) {
        self.run(&["join", &addr.to_string()]);
    }

    fn leave(&mut self) {
        self.run(&["leave"]);
        self.process.wait_until_ended();
    }

    fn members(&self) -> BTreeMap<String, Member> {
        if !self.process.answers() {
            return BTreeMap::new();
        }
        said_members(&Self::ask(&self.process), "status", "addr", json_tags)
    }

    fn said_failed(&self, name: &str, mark: u64) -> bool {
        self.process.log_from(mark).contains(&format!("serf: EventMemberFailed: {name} "))
    }
}
