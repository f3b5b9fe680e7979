//! The acceptance scenarios: what happens to the DNS records when networks are cut, servers die and everything
//! restarts, with real processes (picored, BIND, nginx, the shipped handler) in network namespaces.
//!
//! `make acceptance` runs it and prints the results as a table, with a Serf cluster in the same trouble beside them.
//! Where `named`, `nginx`, `serf`, `ip`, `nft` or the right to make network namespaces is missing it fails in CI and
//! says loudly elsewhere that it was skipped. The first lines of `scripts/acceptance` name the settings.

#[allow(dead_code)]
#[path = "../interop/bare.rs"]
mod bare;
#[allow(dead_code)]
#[path = "../e2e/daemon.rs"]
mod daemon;
#[allow(dead_code)]
#[path = "../interop/net.rs"]
mod net;
#[allow(dead_code)]
#[path = "../interop/peer.rs"]
mod peer;
#[allow(dead_code)]
#[path = "../interop/picored.rs"]
mod picored;
#[path = "../interop/results.rs"]
mod results;
#[allow(dead_code)]
#[path = "../interop/serf.rs"]
mod serf;

mod dns;
mod poller;
mod runs;
mod scenario;
mod verdict;
mod world;

mod churn;
mod cuts;
mod lost;
mod outages;
mod reboots;
mod runner;
