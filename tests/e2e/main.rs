//! The real binary, with real processes and sockets on loopback: does it start, check, run handlers, answer,
//! stay small and end as the operator was told it would?

mod bad_input;
mod bad_programs;
mod bounded;
mod cli;
mod cluster;
mod contract;
mod daemon;
mod dates;
mod host;
mod leaks;
mod logs;
mod peers;
mod persons;
mod state;
mod web;
