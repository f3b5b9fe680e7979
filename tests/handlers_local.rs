//! The shipped handlers that work on this machine, and nsupdate with Knot, against the real things: a knotd with a
//! TSIG key and an ACL, an HAProxy with a runtime socket, files, and a stand-in for a chat's hook.
//!
//! As in `handlers.rs`, every claim is tried with the system's `sh` and with busybox's. A program that is missing
//! fails the tests in CI and is said loudly elsewhere.

#[path = "handlers_local/files.rs"]
mod files;
#[path = "handlers_local/haproxy.rs"]
mod haproxy;
#[path = "handlers_local/knot.rs"]
mod knot;
#[path = "e2e/ports.rs"]
mod ports;
#[path = "e2e/skip.rs"]
mod skip;
#[allow(dead_code)]
#[path = "handlers/support.rs"]
mod support;
#[path = "handlers_local/webhook.rs"]
mod webhook;

use std::fs;
use std::path::Path;
use std::process::Command;

/// A handler must run when copied alone, so what several need stands in each; it must not drift apart.
#[test]
fn handlers_that_share_a_function_have_the_same() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/handlers");
    let typed = |name: &str| {
        let script = fs::read_to_string(folder.join(name)).expect("a handler");
        let from = script.find("typed() {").unwrap_or_else(|| panic!("{name} has no typed()"));
        let len = script[from..].find("\n}\n").expect("the function's end");
        script[from..from + len].to_owned()
    };
    for name in ["haproxy", "hosts", "records-file"] {
        assert_eq!(typed(name), typed("nsupdate"), "typed() of {name} and nsupdate");
    }
}

/// What a run ended with and said.
fn run(handler: &mut Command) -> (i32, String) {
    let output = handler.output().expect("the shell starts");
    (support::code(&output), support::text(&output))
}
