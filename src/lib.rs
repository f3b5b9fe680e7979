//! picored: a distributed server redundancy manager.
//!
//! Every instance checks the applications of its own machine, the instances watch each other by
//! gossip (memberlist's protocol: SWIM with Lifeguard), and handlers, the operator's own scripts,
//! make the outside (DNS records, usually) match the servers that are up.
//!
//! Everything the program decides is one state machine without I/O, [`agent::Agent`]; [`driver`]
//! moves bytes between it and the operating system, and the simulator in `tests/sim` is another
//! driver. The core owns the deadlines, the driver owns the descriptors.
//!
//! The modules below are in layers, lowest first: a module may use those above its own line,
//! never those below. `tests/tidy.rs` keeps it so.
#![deny(unsafe_code)] // one place in `driver::resident` has it, and says why

// layer 1: what everybody may use
pub mod limits;
pub mod queue;
pub mod rng;
pub mod saved;
pub mod time;
// layer 2: bytes and messages, no state, no clock
pub mod wire;
// layer 3: who is in the cluster; how the local applications are. They do not know each other.
pub mod check;
pub mod membership;
// layer 4: what all that says about each app
pub mod view;
// layer 5: what may be concluded from it
pub mod safety;
// layer 6: handlers
pub mod delivery;
// layer 7: requests and replies of the control socket
pub mod control;
// layer 8: all of it joined
pub mod agent;
// layer 9: the configuration file
pub mod config;
// layer 10: everything that touches the operating system, and nothing that decides
pub mod driver;
// layer 11: commands, tables, start-up, exit codes
pub mod cli;
