//! The command line as a person and a monitoring system meet it.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;

use crate::daemon::{Daemon, Folder, picored, signal, wait_for};
use crate::web::Web;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let output = std::process::Command::new(picored()).args(args).output().expect("the binary was built");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn every_command_explains_itself() {
    let names =
        ["run", "init", "check-config", "status", "members", "events", "app", "leave", "stop", "keygen"];
    for command in names.into_iter().chain(["ping", "join", "forget"]) {
        let (code, out, _) = run(&[command, "--help"]);
        assert_eq!(code, Some(0), "{command}");
        assert!(out.contains(command) && out.lines().all(|line| line.chars().count() <= 80), "{out}");
    }
    let (code, out, _) = run(&["--version"]);
    assert_eq!((code, out.trim()), (Some(0), concat!("picored ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn an_unknown_command_or_flag_is_a_usage_error_with_advice() {
    let (code, _, err) = run(&["statsu"]);
    assert_eq!(code, Some(64));
    assert!(err.contains("status"), "{err}");
    assert_eq!(run(&["status", "--no-such-flag"]).0, Some(64));
    assert_eq!(run(&["app", "web", "sideways"]).0, Some(64));
}

#[test]
fn without_a_daemon_status_is_3_and_the_others_are_69() {
    let daemon = Daemon::new("n1", json!({}));
    assert_eq!(daemon.run(&["status"]).status.code(), Some(3));
    for command in ["members", "stop", "leave", "events", "ping", "join 192.0.2.1", "forget n2"] {
        let output = daemon.run(&command.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(69), "{command}");
        assert!(text(&output.stderr).contains("picored"), "{command} says what to do");
    }
}

#[test]
fn a_starter_configuration_passes_and_a_broken_one_is_explained() {
    let folder = Folder::new();
    let (code, out, _) = run(&["init", "--node", "fra1", "--join", "198.51.100.7"]);
    assert_eq!(code, Some(0));
    let path = folder.file("picored.json");
    std::fs::write(&path, &out).expect("own folder");
    std::process::Command::new("chmod").arg("600").arg(&path).status().expect("chmod");
    let path = path.to_str().expect("UTF-8");
    let (code, said, err) = run(&["-c", path, "check-config"]);
    // The handler's program is not installed here: a problem of this machine, and said as such.
    assert!(
        code == Some(0) || (code == Some(78) && (said.clone() + &err).contains("nsupdate")),
        "{said}{err}"
    );

    let broken = out.replacen("\"join\"", "\"jion\"", 1);
    std::fs::write(path, broken).expect("own folder");
    let (code, said, err) = run(&["-c", path, "check-config"]);
    assert_eq!(code, Some(78));
    let all = said + &err;
    assert!(all.contains("jion") && all.contains("did you mean \"join\"?"), "{all}");
    assert!(!all.contains("not started"), "nobody asked for it: {all}");
    let (code, _, err) = run(&["-c", path, "run"]);
    assert_eq!(code, Some(78));
    assert!(err.contains(": 1 problem, not started\n") && err.contains("did you mean \"join\"?"), "{err}");
}

#[test]
fn a_second_daemon_on_the_same_state_is_refused() {
    let mut daemon = Daemon::new("n1", json!({}));
    daemon.start();
    let output = daemon.run(&["run"]);
    assert_eq!(output.status.code(), Some(75), "{}", text(&output.stderr));
    // For cron that is the normal case, and no reason to send a mail.
    let output = daemon.run(&["run", "--cron"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{}", text(&output.stderr));
    assert!(daemon.is_running());
}

#[test]
fn a_file_that_a_person_is_editing_is_no_matter_for_cron_while_a_daemon_runs() {
    let mut daemon = Daemon::new("n1", json!({}));
    daemon.start();
    let whole = std::fs::read_to_string(daemon.config_path()).expect("the file");
    for broken in [whole.replacen("\"bind\"", "\"bnid\"", 1), whole.replacen("\",", "\"", 1)] {
        assert_ne!(broken, whole);
        std::fs::write(daemon.config_path(), broken).expect("own folder");
        let output = daemon.run(&["run", "--cron"]);
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{}", text(&output.stderr));
        assert_eq!(output.status.code(), Some(0));
    }
    // It matters to one that is to start.
    daemon.kill();
    let output = daemon.run(&["run", "--cron"]);
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output.stderr).contains("not started"), "{}", text(&output.stderr));
}

/// A daemon that detached ends with its test, however that ends.
struct Detached(Daemon);

impl Drop for Detached {
    fn drop(&mut self) {
        drop(self.0.run(&["stop"]));
    }
}

#[test]
fn from_cron_it_detaches_without_a_word_and_a_stopped_one_is_started_again() {
    let daemon = Detached(Daemon::new("n1", json!({ "log": { "file": "/dev/null" } })));
    let pid = || {
        let output = daemon.0.run(&["run", "--cron"]);
        assert_eq!(output.status.code(), Some(0));
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{}", text(&output.stderr));
        wait_for("the detached daemon to answer", Duration::from_secs(10), || {
            daemon.0.ask("status").is_some()
        });
        let lock = daemon.0.folder.read("state/state.json.lock");
        lock.trim().parse::<i32>().expect("the lock names the process")
    };
    let first = pid();
    assert_eq!(pid(), first, "one that runs is left alone");
    // A session of its own: it goes on when cron's does not. Both are read from /proc, where the tests' own
    // is 0 if it began outside their PID namespace, as in a container.
    let session = |pid: &str| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
        let (_, fields) = stat.rsplit_once(") ").expect("the name is in parentheses");
        fields.split(' ').nth(3).and_then(|sid| sid.parse::<i32>().ok()).expect("the session")
    };
    assert_ne!(session(&first.to_string()), session("self"));
    assert_eq!(daemon.0.run(&["stop"]).status.code(), Some(0));
    assert_ne!(pid(), first);
}

#[test]
fn one_that_hangs_is_replaced_from_cron_but_not_for_a_broken_file() {
    let mut daemon = Detached(Daemon::new("n1", json!({})));
    daemon.0.start();
    let first = daemon.0.pid();
    daemon.0.signal(rustix::process::Signal::STOP);
    let whole = std::fs::read_to_string(daemon.0.config_path()).expect("the file");
    let broken = whole.replacen("\"bind\"", "\"bnid\"", 1);
    std::fs::write(daemon.0.config_path(), broken).expect("own folder");
    let output = daemon.0.run(&["run", "--cron"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{said}");
    assert!(said.contains("not started") && said.contains("it is left alone"), "{said}");
    assert!(daemon.0.is_running());

    std::fs::write(daemon.0.config_path(), whole).expect("own folder");
    // Stopped itself while it waits, as on a machine that sleeps: that ends its wait and must not end its patience.
    let mut asks = std::process::Command::new(picored())
        .arg("-c")
        .arg(daemon.0.config_path())
        .args(["run", "--cron"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    wait_for("it to end", Duration::from_secs(60), || {
        let ended = asks.try_wait().expect("a child").is_some();
        if !ended {
            signal(asks.id(), Signal::STOP);
            signal(asks.id(), Signal::CONT);
        }
        ended
    });
    let output = asks.wait_with_output().expect("a child");
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.contains(&format!("(process {first}) did not answer")) && said.contains("was ended"),
        "{said}"
    );
    assert!(!daemon.0.is_running());
    wait_for("the new one to answer", Duration::from_secs(10), || daemon.0.ask("status").is_some());
}

#[test]
fn status_is_a_nagios_plugin() {
    let web = Web::start();
    let app = json!({ "web": {
        "interval": "200ms", "timeout": "200ms", "rise": 1, "fall": 1, "grace": "0s", "hold_up": "0s",
        "checks": [{ "http": web.url() }],
    } });
    let mut daemon = Daemon::new("n1", json!({ "apps": app }));
    daemon.start();
    let shows = |code: i32, first: &str, then: &str| {
        let output = daemon.run(&["status"]);
        let out = text(&output.stdout);
        let head = out.lines().next().unwrap_or_default();
        output.status.code() == Some(code) && head.contains(first) && out.contains(then)
    };
    wait_for("all to be well", Duration::from_secs(20), || shows(0, "OK", ""));
    web.set_up(false);
    wait_for("the only app to be down", Duration::from_secs(20), || shows(2, "CRITICAL", "503"));
    web.set_up(true);
    wait_for("all to be well again", Duration::from_secs(20), || shows(0, "OK", ""));
    for command in ["status", "status -v", "members", "events"] {
        let args: Vec<&str> = command.split(' ').collect();
        let out = text(&daemon.run(&args).stdout);
        let widest = out.lines().map(|line| line.chars().count()).max().unwrap_or(0);
        assert!(command == "events" || widest <= 80, "{command} is {widest} wide:\n{out}");
        assert!(!out.contains('\x1b'), "{command} has no colour where there is no terminal");
    }
}

#[test]
fn events_are_followed_as_they_happen() {
    use std::io::{BufRead, BufReader};
    let mut daemon = Daemon::new("n1", json!({}));
    daemon.start();
    let mut follower = std::process::Command::new("timeout")
        .args(["30", picored(), "-c"])
        .arg(daemon.config_path())
        .args(["events", "-f", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the binary was built");
    let lines = BufReader::new(follower.stdout.take().expect("a pipe")).lines();
    let mut other = Daemon::new("n2", json!({ "join": [daemon.addr.to_string()] }));
    other.start();
    let joined = lines.map_while(Result::ok).find(|line| line.contains("node-joined") && line.contains("n2"));
    drop(follower.kill());
    drop(follower.wait());
    let event: serde_json::Value = serde_json::from_str(&joined.expect("the event")).expect("a JSON line");
    assert_eq!(event["node"], "n2");
}

#[test]
fn term_and_int_end_it_without_leaving() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut daemon = Daemon::new("n1", json!({}));
        daemon.start();
        daemon.signal(signal);
        assert_eq!(daemon.wait(Duration::from_secs(10)), Some(0), "{signal:?}");
        assert!(!daemon.folder.file("picored.sock").exists());
    }
}
