//! picored as a member.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::daemon::picored;
use crate::peer::{Kind, Member, Peer, Process, json_tags, said_members};

pub struct Picored {
    process: Process,
}

impl Picored {
    pub fn new(process: Process) -> Self {
        Self { process }
    }

    /// Writes the configuration; said again before each start.
    pub fn configure(process: &Process) {
        let options = &process.options;
        let mut config = json!({
            "node": process.name,
            "bind": process.addr().to_string(),
            "join": options.join.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
            "profile": options.profile,
            "peers": if options.bare { "memberlist" } else { "serf" },
            "tags": options.tags,
            "control": process.folder.file("picored.sock"),
            "state": process.folder.file("state/state.json"),
            "safety": { "settle": "3s" },
            "log": { "level": "debug" },
        });
        if options.keys.is_empty() {
            config["insecure"] = json!(true);
        } else {
            let file = process.folder.file("keys");
            write(&file, &json!(options.keys));
            config["keys_file"] = json!(file);
        }
        for (key, value) in options.config.as_object().expect("an object") {
            config[key] = value.clone();
        }
        write(&process.folder.file("picored.json"), &config);
    }

    /// Runs a command of the command line.
    pub fn command(process: &Process, args: &[&str]) -> Output {
        let config = process.folder.file("picored.json");
        Command::new(picored()).arg("-c").arg(config).args(args).output().expect("the binary was built")
    }

    /// The `--json` answer of a reading command, or null.
    pub fn ask(process: &Process, args: &[&str]) -> Value {
        let output = Self::command(process, &[args, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn run(&self, args: &[&str]) {
        let output = Self::command(&self.process, args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "picored {args:?}: {said}");
    }
}

fn write(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_string_pretty(value).expect("JSON")).expect("own folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("own file");
}

impl Peer for Picored {
    fn kind(&self) -> Kind {
        Kind::Picored
    }

    fn process(&self) -> &Process {
        &self.process
    }

    fn process_mut(&mut self) -> &mut Process {
        &mut self.process
    }

    fn start(&mut self) {
        Self::configure(&self.process);
        let config = self.process.folder.file("picored.json");
        self.process.spawn(Path::new(picored()), &["-c".into(), config.display().to_string(), "run".into()]);
        self.process.wait_until_ready(|process| Self::ask(process, &["members"])["members"].is_array());
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
        said_members(&Self::ask(&self.process, &["members"]), "state", "address", json_tags)
    }

    fn said_failed(&self, name: &str, mark: u64) -> bool {
        let said = format!("event=node-failed node={name}");
        self.process.log_from(mark).split(&said).skip(1).any(|rest| rest.starts_with([' ', ':']))
    }
}
