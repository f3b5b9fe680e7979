//! The shipped handlers for HTTP APIs against what they are for: a real PowerDNS, and for the clouds a stand-in that
//! answers as their documents say (`handlers_http/clouds.py`) and fails as clouds do.
//!
//! Every claim is tried with the system's `sh` and, where it is installed, with busybox's ash, `awk` and `sed`.
//! curl is the real one. What is not installed fails in CI and is said loudly elsewhere.

#[path = "handlers_http/clouds.rs"]
mod clouds;
#[path = "handlers_http/json.rs"]
mod json;
#[path = "e2e/ports.rs"]
mod ports;
#[path = "handlers_http/powerdns.rs"]
mod powerdns;
#[path = "handlers_http/settings.rs"]
mod settings;
#[path = "e2e/skip.rs"]
mod skip;
#[path = "handlers_http/stage.rs"]
mod stage;
#[allow(dead_code)]
#[path = "handlers/support.rs"]
mod support;
