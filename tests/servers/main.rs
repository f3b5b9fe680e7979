//! picored on servers as an operator sets them up: installed by ssh, from a package, by the README's five minutes.
//!
//! Each server is a machine in namespaces of its own, with a real sshd and a real cron. Takes root.

#[path = "../e2e/skip.rs"]
mod skip;

mod bare;
mod five_minutes;
mod install;
mod machines;
mod package;
