//! Who starts picored, and starts it again: cron daemons, systemd's protocol, runit, s6, OpenRC. All of them real.
//!
//! The tests with cron take minutes, for cron does; they wait most of the time, so many run at once: `make supervision`.

mod cron;
#[path = "../e2e/daemon.rs"]
#[allow(dead_code)] // what the end-to-end tests use of it
mod daemon;
mod managers;
mod notify;
mod room;
