//! What persons say to real daemons, and what they see.

use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::{Daemon, Folder, free_addr, wait_for};
use crate::web::Web;

const SOON: Duration = Duration::from_secs(30);

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// It was done; gives what it said.
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn app(web: &Web) -> Value {
    json!({ "interval": "200ms", "timeout": "200ms", "rise": 1, "fall": 1, "grace": "0s", "hold_up": "0s",
            "checks": [{ "http": web.url() }] })
}

/// Two nodes, n1 and n2, that know each other and whose app is up.
fn pair(web: &Web) -> [Daemon; 2] {
    let addrs = [free_addr(), free_addr()];
    let join = addrs.map(|addr| addr.to_string());
    let node = |i: usize| {
        let extra =
            json!({ "join": join, "apps": { "web": app(web) }, "publish": [format!("192.0.2.{}", i + 1)] });
        let mut daemon = Daemon::at(&format!("n{}", i + 1), addrs[i], extra);
        daemon.start();
        daemon
    };
    let nodes = [node(0), node(1)];
    for node in &nodes {
        wait_for("both to be up", SOON, || ["n1", "n2"].iter().all(|name| node.tag(name, "a.web") == "up"));
    }
    nodes
}

#[test]
fn maintenance_is_seen_by_the_others_and_ends_by_itself() {
    let web = Web::start();
    let [n1, n2] = pair(&web);
    let said = done(&n1.run(&["maint", "on", "--app", "web", "--for", "4s", "--reason", "new disk"]));
    assert!(said.contains("web at this node is in maintenance for 4s"), "{said}");
    wait_for("n2 to see it", SOON, || n2.tag("n1", "a.web") == "maint");
    let status = n1.status();
    let word = &status["overrides"][0];
    assert_eq!(
        (&word["reason"], &word["state"], &status["code"]),
        (&json!("new disk"), &json!("maint"), &json!(1))
    );
    let uid = rustix::process::getuid().as_raw();
    assert!(word["by"].as_str().is_some_and(|by| by.contains(&format!("uid {uid}"))), "{word}");
    assert!(text(&n1.run(&["status"]).stdout).contains("new disk"));
    wait_for("its end", SOON, || n2.tag("n1", "a.web") == "up");
    assert!(n1.log().contains("event=maint-over"), "{}", n1.log());
    assert_eq!(n1.run(&["maint", "off"]).status.code(), Some(1), "there is none");
}

#[test]
fn a_forced_state_and_the_maintenance_of_another_node_are_shown_there() {
    let web = Web::start();
    let [n1, mut n2] = pair(&web);
    done(&n1.run(&["app", "web", "down"]));
    wait_for("n2 to see it", SOON, || n2.tag("n1", "a.web") == "down!");
    let members = text(&n2.run(&["members"]).stdout);
    assert!(members.contains("web=down!"), "{members}");
    done(&n1.run(&["app", "web", "auto"]));
    n2.kill();
    wait_for("n2 to be failed", SOON, || n1.member_state("n2") == "failed");
    let said = done(&n1.run(&["maint", "on", "--node", "n2"]));
    assert!(said.contains("all apps of n2 are in maintenance for 1d"), "{said}");
    assert_eq!(n1.tag("n1", "m.n2"), "*");
    let members = text(&n1.run(&["members"]).stdout);
    assert!(members.contains("*=maint by n1"), "{members}");
    done(&n1.run(&["maint", "off", "--node", "n2"]));
    assert_eq!(n1.tag("n1", "m.n2"), "");
    let refused = n1.run(&["maint", "on", "--node", "n3"]);
    assert!(refused.status.code() == Some(1) && text(&refused.stderr).contains("no member n3"));
}

/// Says what it was told, its secret among it.
const HANDLER: &str = "#!/bin/sh\necho \"told $PICORED_UP_ADDRS in $ZONE with $TOKEN, dry run $PICORED_DRY_RUN\"\n\
    [ \"$PICORED_DRY_RUN\" = 1 ] || echo run >> \"$1/runs\"\n";

#[test]
fn why_sync_and_test_handler_show_what_is_told_and_no_secret() {
    let (web, outside) = (Web::start(), Folder::new());
    let handler = outside.script("handler", HANDLER);
    let secrets = outside.file("secrets.env");
    std::fs::write(&secrets, "TOKEN=hunter22\n").expect("own folder");
    std::process::Command::new("chmod").arg("600").arg(&secrets).status().expect("chmod");
    let dns = json!({ "run": [handler, outside.path], "env": { "ZONE": "example.com" }, "env_file": secrets,
                      "debounce": "100ms", "min_interval": "0s" });
    let extra = json!({ "apps": { "web": app(&web) }, "publish": ["192.0.2.1"], "handlers": { "dns": dns } });
    let mut node = Daemon::new("n1", extra);
    node.start();
    wait_for("the first run", SOON, || outside.read("runs") == "run\n");

    let why = node.ask("why web").expect("an answer");
    let address = &why["apps"][0]["addresses"][0];
    assert_eq!((&address["address"], &address["publish"]), (&json!("192.0.2.1"), &json!(true)), "{why}");
    let shown = done(&node.run(&["why"]));
    assert!(shown.contains("192.0.2.1") && shown.contains("dns, runner n1"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    web.set_up(false);
    wait_for("the gate", SOON, || done(&node.run(&["why", "web"])).contains("nothing is removed"));
    web.set_up(true);
    wait_for("the end of the gate", SOON, || {
        !done(&node.run(&["why", "web"])).contains("nothing is removed")
    });

    let plan = done(&node.run(&["sync", "--dry-run"]));
    assert!(plan.contains("dns for web: would run here") && plan.contains("192.0.2.1"), "{plan}");
    let output = node.run(&["test-handler", "dns"]);
    let (shown, said) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{shown}{said}");
    for part in ["TOKEN=********", "ZONE=example.com", "PICORED_DRY_RUN=1", "PICORED_EVENT=test", "exit 0"] {
        assert!(shown.contains(part), "{part}\n{shown}");
    }
    assert!(shown.contains("told 192.0.2.1 in example.com with ********, dry run 1"), "{shown}");
    assert!(!shown.contains("hunter22"), "{shown}");
    assert_eq!(node.run(&["test-handler", "nds"]).status.code(), Some(1));
    assert_eq!(outside.read("runs"), "run\n", "neither of these is a run");
}

#[test]
fn a_reload_adds_and_removes_apps_and_handlers() {
    let (web, outside) = (Web::start(), Folder::new());
    let handler = outside.script("handler", HANDLER);
    let mut node = Daemon::new("n1", json!({ "apps": { "web": app(&web) } }));
    node.start();
    wait_for("web to be up", SOON, || node.tag("n1", "a.web") == "up");
    let before: Value = serde_json::from_str(&node.folder.read("picored.json")).expect("JSON");

    let mut more = before.clone();
    more["apps"]["db"] = app(&web);
    more["handlers"]["dns"] = json!({ "run": [handler, outside.path], "apps": ["db"], "debounce": "100ms" });
    node.configure(&more);
    let said = done(&node.run(&["reload"]));
    assert!(said.contains("now in effect: apps.db, handlers.dns"), "{said}");
    wait_for("db to be up", SOON, || node.tag("n1", "a.db") == "up");

    node.configure(&before);
    let said = done(&node.run(&["reload"]));
    assert!(said.contains("apps.db, handlers.dns"), "{said}");
    assert_eq!((node.tag("n1", "a.db"), node.tag("n1", "h.dns.db")), (String::new(), String::new()));
    assert_eq!(node.tag("n1", "a.web"), "up", "what stays is not touched");

    let mut broken = more;
    broken["apps"]["web"]["rise"] = json!("many");
    node.configure(&broken);
    let refused = node.run(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(node.tag("n1", "a.db"), "", "all or nothing: {}", text(&refused.stderr));
}

/// Goal: a reload does not push out of the tags what holds because a person said it.
#[test]
fn a_reload_that_leaves_no_room_for_another_nodes_maintenance_is_refused() {
    let web = Web::start();
    let [n1, _n2] = pair(&web);
    let app = "x".repeat(120);
    done(&n1.run(&["maint", "on", "--node", "n2", "--app", &app]));
    let before: Value = serde_json::from_str(&n1.folder.read("picored.json")).expect("JSON");
    let mut more = before.clone();
    more["tags"] = json!({ "dc": "t".repeat(330) });
    more["log"] = json!({ "level": "debug" });
    n1.configure(&more);
    let refused = n1.run(&["reload"]);
    let said = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for part in ["picored.json", "512 fit", "maintenance of n2", "all stays as it is"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!((n1.tag("n1", "dc"), n1.tag("n1", "m.n2")), (String::new(), app));
    done(&n1.run(&["maint", "off", "--node", "n2"]));
    let said = done(&n1.run(&["reload"]));
    assert!(said.contains("now in effect: log, tags"), "{said}");
    assert_eq!(n1.tag("n1", "dc"), "t".repeat(330));
}

#[test]
fn the_log_level_holds_until_a_reload() {
    let mut node = Daemon::new("n1", json!({}));
    node.start();
    done(&node.run(&["log-level", "off"]));
    let silent = node.log();
    node.run(&["maint", "on", "--node", "n1"]);
    done(&node.run(&["log-level", "error"]));
    assert_eq!(node.log(), silent, "nothing is logged");
    done(&node.run(&["reload"]));
    assert!(node.log().contains("event=reload"), "{}", node.log());
    done(&node.run(&["log-level", "info"]));
    wait_for("the log to speak again", SOON, || node.log().contains("event=log-level to=info"));
    assert_eq!(node.run(&["log-level", "loud"]).status.code(), Some(64));
}
