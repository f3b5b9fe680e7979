//! After many checks and runs: no zombies, no descriptor too many.

use std::time::Duration;

use serde_json::json;

use crate::daemon::{Daemon, wait_for};
use crate::web::Web;

/// Goal: 1,000 checks of all kinds and 100 handler runs leave nothing behind.
/// Method: five checks every 100 ms; an event handler that runs at each of 100 forced turns of the app.
#[test]
fn a_thousand_checks_and_a_hundred_runs_leave_nothing_behind() {
    let web = Web::start();
    let mut daemon = Daemon::new("n1", json!({}));
    let folder = daemon.folder.path.display().to_string();
    let check = daemon.folder.script("check", &format!("#!/bin/sh\necho x >> {folder}/checks\n"));
    let handler =
        daemon.folder.script("handler", &format!("#!/bin/sh\ncat > /dev/null\necho x >> {folder}/runs\n"));
    let every = json!({ "interval": "100ms", "timeout": "100ms", "rise": 1, "fall": 50, "grace": "0s", "hold_up": "0s" });
    let with = |checks: serde_json::Value| {
        let mut app = every.clone();
        app["checks"] = checks;
        app
    };
    daemon.configure(&json!({
        "node": "n1", "bind": daemon.addr.to_string(), "profile": "local", "safety": { "settle": "1s" },
        "control": daemon.folder.file("picored.sock"), "state": daemon.folder.file("state/state.json"),
        "apps": {
            "http": with(json!([{ "http": web.url() }])),
            "tcp": with(json!([{ "tcp": web.addr.to_string() }, { "tcp": "127.0.0.1:1" }])),
            "exec": with(json!([{ "exec": [check] }])),
            "unix": with(json!([{ "unix": daemon.folder.file("picored.sock") }])),
        },
        "handlers": { "note": { "run": [handler], "mode": "event", "apps": ["http"], "where": "all" } },
    }));
    daemon.start();
    wait_for("the app to be up", Duration::from_secs(20), || {
        daemon.status()["apps"]
            .as_array()
            .is_some_and(|apps| apps.iter().any(|a| a["name"] == "http" && a["state"] == "up"))
    });
    let descriptors = daemon.descriptors();
    for i in 0..100 {
        let to = if i % 2 == 0 { "down" } else { "up" };
        let before = daemon.folder.read("runs").lines().count();
        assert_eq!(daemon.run(&["app", "http", to]).status.code(), Some(0));
        wait_for("the handler to run", Duration::from_secs(10), || {
            daemon.folder.read("runs").lines().count() > before
        });
    }
    wait_for("a thousand checks", Duration::from_secs(120), || {
        let programs = daemon.folder.read("checks").lines().count() as u64;
        programs > 100 && web.served.load(std::sync::atomic::Ordering::SeqCst) + 3 * programs > 1_000
    });
    assert!(daemon.folder.read("runs").lines().count() >= 100);
    // One that ended just now is about to be collected; one that was forgotten stays.
    wait_for("no zombie", Duration::from_secs(10), || {
        !daemon.children().iter().any(|(_, state, _)| *state == 'Z')
    });
    // Checks are under way all the time: a socket each, a pipe for a program.
    wait_for("no descriptor too many", Duration::from_secs(10), || daemon.descriptors() <= descriptors + 2);
    let threads = std::fs::read_dir(format!("/proc/{}/task", daemon.pid())).expect("it runs").count();
    assert_eq!(threads, 1);
}
