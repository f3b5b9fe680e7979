//! Handlers and checks that hang, will not die, flood, detach or are not there. During each, the loop stays on
//! time: gossip and checks go on.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::daemon::{Daemon, signal, wait_for};
use crate::web::Web;

const SOON: Duration = Duration::from_secs(30);
/// How late the loop may be: far below the probe timeout of the quickest profile (200 ms), but a busy test machine
/// must not fail a test. What is looked for is a loop that waits for a child: seconds.
const LATE_MS: u64 = 500;

/// A node with one app that is up, a handler made of `script`, and a check every 100 ms.
fn node(script: &str, timeout: &str) -> (Daemon, Web) {
    let web = Web::start();
    let mut daemon = Daemon::new("n1", json!({}));
    let handler = if script.is_empty() {
        daemon.folder.file("not-there")
    } else {
        daemon.folder.script("handler", &format!("#!/bin/sh\ncd {}\n{script}", daemon.folder.path.display()))
    };
    daemon.configure(&json!({
        "node": "n1", "bind": daemon.addr.to_string(), "profile": "local", "safety": { "settle": "1s" },
        "control": daemon.folder.file("picored.sock"), "state": daemon.folder.file("state/state.json"),
        "apps": { "web": {
            "interval": "100ms", "timeout": "100ms", "rise": 1, "fall": 50, "grace": "0s", "hold_up": "0s",
            "checks": [{ "http": web.url() }],
        } },
        "handlers": { "dns": { "run": [handler], "timeout": timeout, "debounce": "100ms", "min_interval": "0s" } },
    }));
    daemon.start();
    (daemon, web)
}

fn handler(daemon: &Daemon) -> Value {
    daemon.status()["handlers"][0].clone()
}

/// Waits for the end of the first run; checks meanwhile, and after, that the checks went on and the loop was on time.
fn first_run(daemon: &Daemon, web: &Web) -> Value {
    wait_for("the handler to start", SOON, || !handler(daemon)["last_run"].is_null());
    let served = web.served.load(std::sync::atomic::Ordering::SeqCst);
    wait_for("checks to go on", SOON, || web.served.load(std::sync::atomic::Ordering::SeqCst) > served + 5);
    wait_for("the run to end", SOON, || !handler(daemon)["last_run"]["exit"].is_null());
    let status = daemon.status();
    let late = status["loop_late"]["max_ms"].as_u64().expect("a number");
    println!("the loop was at most {late} ms late");
    assert!(late < LATE_MS, "the loop was {late} ms late");
    handler(daemon)["last_run"].clone()
}

fn no_children(daemon: &Daemon) {
    wait_for("all children to be gone", SOON, || daemon.children().is_empty());
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

#[test]
fn a_handler_that_hangs_is_ended_at_its_timeout_with_all_it_started() {
    let (daemon, web) = node("sleep 300 &\necho $! > grandchild\nsleep 300\n", "1s");
    let run = first_run(&daemon, &web);
    assert_eq!(run["ok"], false);
    assert!(run["took_ms"].as_u64().is_some_and(|ms| (900..4_000).contains(&ms)), "{run}");
    let grandchild = daemon.folder.read("grandchild");
    wait_for("the grandchild to be gone", SOON, || !alive(&grandchild));
    assert!(daemon.log().contains("handler"), "{}", daemon.log());
}

#[test]
fn a_handler_that_ignores_term_is_killed_five_seconds_later() {
    let (daemon, web) = node("trap '' TERM\nwhile :; do sleep 1; done\n", "1s");
    let run = first_run(&daemon, &web);
    assert!(run["took_ms"].as_u64().is_some_and(|ms| (5_500..9_000).contains(&ms)), "{run}");
    assert!(run["exit"].as_str().is_some_and(|exit| exit.contains('9')), "{run}");
}

#[test]
fn a_daemon_that_holds_the_handlers_output_open_does_not_hold_picored() {
    // `cat` ends when the daemon is in its session and holds the handler's own output instead.
    let script = "exec 3>&1\n(setsid sh -c 'echo $$; exec sleep 20 >&3' & ) | cat > grandchild\necho done\n";
    let (daemon, web) = node(script, "10s");
    let run = first_run(&daemon, &web);
    assert_eq!(run["ok"], true, "{run}");
    assert!(run["took_ms"].as_u64().is_some_and(|ms| ms < 3_000), "{run}");
    no_children(&daemon);
    let grandchild = daemon.folder.read("grandchild");
    signal(grandchild.trim().parse().expect("a process id"), Signal::KILL);
}

#[test]
fn ten_megabytes_of_output_are_read_and_the_end_is_kept() {
    let (daemon, web) = node("head -c 10485760 /dev/zero | tr '\\0' x\necho\necho THE END\nexit 1\n", "20s");
    let before = daemon.memory();
    let run = first_run(&daemon, &web);
    assert_eq!(run["exit"], "exit 1", "{run}");
    let output = run["output"].as_str().expect("kept for a failed run");
    assert!(output.trim_end().ends_with("THE END") && output.len() <= 4 * 1024, "{} bytes", output.len());
    let after = daemon.memory();
    assert!(after.1 < before.1 + 256, "anonymous memory grew from {before:?} to {after:?} KiB");
}

#[test]
fn a_handler_that_is_not_there_is_not_tried_again() {
    let (daemon, web) = node("", "5s");
    let run = first_run(&daemon, &web);
    assert_eq!(run["ok"], false);
    wait_for("it to give up", SOON, || handler(&daemon)["gave_up"] == true);
    assert_eq!(daemon.run(&["status"]).status.code(), Some(2));
    no_children(&daemon);
}

#[test]
fn a_failing_handler_is_tried_again_with_its_output_shown() {
    let (daemon, web) =
        node("echo tried >> tries\n[ $(wc -l < tries) -gt 1 ] || { echo NOT YET; exit 75; }\n", "5s");
    let run = first_run(&daemon, &web);
    assert_eq!(run["exit"], "exit 75", "{run}");
    assert_eq!(daemon.run(&["status"]).status.code(), Some(1));
    wait_for("the second try", SOON, || handler(&daemon)["last_run"]["ok"] == true);
    assert_eq!(daemon.folder.read("tries").lines().count(), 2);
    assert!(daemon.log().contains("NOT YET"), "{}", daemon.log());
}

#[test]
fn a_check_that_hangs_fails_at_its_timeout_and_never_runs_twice_at_once() {
    let web = Web::start();
    let mut daemon = Daemon::new("n1", json!({}));
    let check = daemon.folder.script(
        "check",
        &format!(
            "#!/bin/sh\ncd {}\nfor pid in $(cat pids 2>/dev/null); do kill -0 $pid 2>/dev/null && echo twice >> twice\ndone\n\
             echo $$ >> pids\ntrap '' TERM\nsleep 300 &\nwait\nwait\n",
            daemon.folder.path.display()
        ),
    );
    daemon.configure(&json!({
        "node": "n1", "bind": daemon.addr.to_string(), "profile": "local", "safety": { "settle": "1s" },
        "control": daemon.folder.file("picored.sock"), "state": daemon.folder.file("state/state.json"),
        "apps": {
            "web": { "interval": "100ms", "timeout": "100ms", "rise": 1, "fall": 50, "checks": [{ "http": web.url() }] },
            "slow": { "interval": "500ms", "timeout": "500ms", "rise": 1, "fall": 1, "grace": "0s",
                      "checks": [{ "exec": [check] }] },
        },
    }));
    daemon.start();
    let app = |name: &str| {
        let status = daemon.status();
        let apps = status["apps"].as_array().cloned().unwrap_or_default();
        apps.into_iter().find(|app| app["name"] == name).unwrap_or_default()
    };
    wait_for("the hanging check to fail", SOON, || app("slow")["state"] == "down");
    assert_eq!(app("web")["state"], "up");
    wait_for("the second run", SOON, || daemon.folder.read("pids").lines().count() > 1);
    assert!(!daemon.folder.file("twice").exists());
    let late = daemon.status()["loop_late"]["max_ms"].as_u64().expect("a number");
    assert!(late < LATE_MS, "the loop was {late} ms late");
}
