//! The interop matrix: picored among real Serf agents and memberlist programs, every cell with real processes in a
//! network of its own, most of them in plain text and encrypted.
//!
//! `make interop` runs it and prints the results as a table. Without `serf`, `go` with memberlist's library, `ip`,
//! `nft` or the right to make network namespaces it fails in CI and says loudly elsewhere that it was skipped.

#[allow(dead_code)]
#[path = "../e2e/daemon.rs"]
mod daemon;

mod bare;
mod cell;
mod net;
mod peer;
mod picored;
mod results;
mod serf;
mod watch;

mod address;
mod adverse;
mod blocked;
mod crashes;
mod cuts;
mod disturbances;
mod failures;
mod formats;
mod joins;
mod large;
mod leaves;
mod messages;
mod names;
mod rotation;
mod stops;
mod versions;
