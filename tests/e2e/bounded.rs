//! Nothing on the disk grows without limit: not by restarts, not by kills in the middle of a write, not by a full disk.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::daemon::{Daemon, picored, skip, wait_for};

const SOON: Duration = Duration::from_secs(20);
const LOG_MAX: u64 = 4096;

/// Every name that picored may leave in the folders of state and log, and which of them are rests of a write.
const STATE: [&str; 5] =
    ["state.json", "state.json.previous", "state.json.damaged", "state.json.unread", "state.json.lock"];
const RESTS: [&str; 3] =
    [".state.json.picored-tmp", ".state.json.previous.picored-tmp", ".state.json.unread.picored-tmp"];
const LOG: [&str; 2] = ["picored.log", "picored.log.1"];

fn files(folder: &Path) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let file = |entry: fs::DirEntry| {
        Some((entry.file_name().to_str()?.to_owned(), entry.metadata().map_or(0, |metadata| metadata.len())))
    };
    entries.filter_map(file).collect()
}

/// Every file is one that may be, and not larger than it may be.
fn assert_bounded(state: &Path, log: &Path, state_max: u64) {
    let names = |found: &BTreeMap<String, u64>, known: &[&str]| {
        let strangers: Vec<_> =
            found.keys().filter(|name| !known.contains(&name.as_str())).cloned().collect();
        assert!(strangers.is_empty(), "{strangers:?}");
    };
    let (states, logs) = (files(state), files(log));
    names(&states, &[&STATE[..], &RESTS[..]].concat());
    names(&logs, &LOG);
    assert!(states.values().all(|size| *size <= state_max), "{states:?}");
    assert!(logs.values().all(|size| *size <= LOG_MAX), "{logs:?}");
}

fn node() -> Daemon {
    let check = json!({ "exec": ["/bin/true"], "interval": "1h" });
    let node = Daemon::new("n1", json!({ "apps": { "web": { "checks": [check] } } }));
    let mut config: serde_json::Value =
        serde_json::from_str(&node.folder.read("picored.json")).expect("JSON");
    for folder in ["state", "logs"] {
        fs::DirBuilder::new().mode(0o700).create(node.folder.file(folder)).expect("own folder");
    }
    config["log"] =
        json!({ "file": node.folder.file("logs/picored.log"), "max_size": "4KiB", "level": "trace" });
    node.configure(&config);
    node
}

/// The daemon dies when it writes more than 512 bytes of a file: in the middle of its state.
fn killed_in_mid_write() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 1; exec \"$0\" \"$@\" >/dev/null 2>&1", picored()]);
    command
}

#[test]
fn restarts_and_kills_at_bad_moments_leave_a_bounded_number_of_files_and_bytes() {
    let mut node = node();
    let (state, log) = (node.folder.file("state"), node.folder.file("logs"));
    let state_max = 64 * 1024;
    for round in 0..24u64 {
        node.start();
        // A request makes a write; the kill comes while it is answered, at another moment each time.
        let forced = ["down", "up"][(round % 2) as usize];
        let mut client = Command::new(picored());
        client.arg("-c").arg(node.config_path()).args(["app", "web", forced]);
        let mut client = client
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("picored");
        std::thread::sleep(Duration::from_micros(700 * round)); // not waiting for anything: the moment of the kill
        node.kill();
        drop(client.wait());
        assert_bounded(&state, &log, state_max);
    }
    // And killed by the system in the middle of a write, for certain.
    let whole = fs::read_to_string(state.join("state.json")).expect("a state");
    let mut config: serde_json::Value =
        serde_json::from_str(&node.folder.read("picored.json")).expect("JSON");
    config["log"] = json!({ "level": "off" });
    config["tags"] = json!({ "long": "x".repeat(300) });
    node.configure(&config);
    for _ in 0..3 {
        node.spawn_as(killed_in_mid_write());
        wait_for("it to be killed", SOON, || {
            drop(node.run(&["maint", "on", "--reason", &"y".repeat(190)]));
            !node.is_running()
        });
        assert_bounded(&state, &log, state_max);
        assert_eq!(files(&state).get(RESTS[0]), Some(&512), "half a state is left: {:?}", files(&state));
        assert!(
            fs::read_to_string(state.join("state.json"))
                .is_ok_and(|text| text.ends_with(&whole[whole.len() - 1..]))
        );
    }
    // Whatever a kill left, the next one clears away.
    RESTS.iter().for_each(|name| fs::write(state.join(name), "half a st").expect("own folder"));
    node.start();
    assert!(node.run(&["stop"]).status.success());
    let left: Vec<String> = files(&state).into_keys().filter(|name| RESTS.contains(&name.as_str())).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(!state.join("state.json.damaged").exists(), "no kill damages the state");
}

/// Goal: a disk that is full is not filled further, by no restart and no kill, and is used again when it has room.
/// Method: state and log on a small file system of their own, filled by somebody else.
#[test]
fn a_full_disk_stays_bounded_over_restarts_and_is_used_again() {
    let mut node = node();
    let at = node.folder.path.display().to_string();
    let disk = node.folder.file("disk");
    fs::create_dir(&disk).expect("own folder");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", "size=96k,mode=700", "tmpfs"]).arg(&disk).output();
    if !mounted.is_ok_and(|output| output.status.success()) {
        return skip("nothing can be mounted here");
    }
    let _mount = Mount(disk.clone());
    let (state, log) = (disk.join("state"), disk.join("logs"));
    for folder in [&state, &log] {
        fs::create_dir(folder).expect("own disk");
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("own disk");
    }
    let text =
        node.folder.read("picored.json").replace(&format!("{at}/state/"), &format!("{at}/disk/state/"));
    let text = text.replace(&format!("{at}/logs/"), &format!("{at}/disk/logs/"));
    node.configure(&serde_json::from_str(&text).expect("JSON"));
    node.start();
    wait_for("a first state", SOON, || state.join("state.json").exists());
    let filler = disk.join("filler");
    for round in 0..8 {
        drop(fs::write(&filler, vec![b'x'; 200 * 1024])); // as much as fits
        drop(node.run(&["app", "web", ["down", "up"][round % 2]]));
        assert!(node.ask("status").is_some(), "it answers with a full disk");
        assert_bounded(&state, &log, 64 * 1024);
        if round % 2 == 0 {
            node.kill();
        } else {
            drop(node.run(&["stop"]));
            node.kill();
        }
        node.start();
        assert_bounded(&state, &log, 64 * 1024);
    }
    fs::remove_file(&filler).expect("own file");
    assert!(node.run(&["app", "web", "down"]).status.success());
    assert!(node.run(&["stop"]).status.success());
    wait_for("its end", SOON, || !node.is_running());
    assert!(fs::read_to_string(state.join("state.json")).is_ok_and(|text| text.contains("\"web\"")));
    assert!(fs::read_to_string(log.join("picored.log")).is_ok_and(|text| text.contains("event=log-lost")));
    let left = files(&state);
    assert!(!left.keys().any(|name| RESTS.contains(&name.as_str())), "{left:?}");
}

struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}
