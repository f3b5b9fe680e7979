//! The deterministic simulator: whole clusters of [`picored::agent::Agent`], the program less the
//! operating system, driven through its public API with bytes, in virtual time.
//!
//! All randomness, each agent's included, comes from one seed. `SEED=7 cargo test --test sim NAME`
//! repeats one run exactly, `SEEDS=1000 cargo test --test sim swarm` tries many. This file holds what
//! the tests share: seeds, units, printing.

mod behaviour;
mod children;
mod disk;
mod electorate;
mod engine;
mod faults;
mod handlers;
mod invariants;
mod net;
mod node;
mod observe;
mod outside;
mod person;
mod public;
mod records;
mod rules;
mod scenarios;
mod settings;
mod starts;
mod stories;
mod stories_count;
mod stories_gates;
mod stories_memory;
mod stories_newcomers;
mod stories_rules;
mod streams;
mod swarm;
mod table;
mod told;
mod world;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(3_600 * n)
}

/// Prints also where the test harness would keep the output of a passing test to itself: the numbers
/// are what these tests are for.
pub fn say(line: &str) {
    // Nobody to tell if the terminal is gone.
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn number_from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs `story` with each of the seeds `1..=count`, or `SEEDS` many (from `FIRST` on), or with `SEED` alone. A failing
/// seed does not stop the others (unless `STOP=1`); at the end all of them are named with the command that repeats them.
pub fn for_seeds(count: u64, story: impl Fn(u64)) {
    let seeds: Vec<u64> = match number_from_environment("SEED") {
        Some(seed) => vec![seed],
        None => {
            let first = number_from_environment("FIRST").unwrap_or(1);
            (first..first + number_from_environment("SEEDS").unwrap_or(count)).collect()
        }
    };
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("").to_string();
    say(&format!("sim {test}: seeds {}..={}", seeds[0], seeds[seeds.len() - 1]));
    let mut failed = Vec::new();
    for seed in seeds {
        if catch_unwind(AssertUnwindSafe(|| story(seed))).is_err() {
            say(&format!("FAILED, repeat with: SEED={seed} cargo test --test sim {test} -- --exact"));
            failed.push(seed);
            if number_from_environment("STOP").is_some() {
                break;
            }
        }
    }
    assert!(failed.is_empty(), "{test} failed with the seeds {failed:?}; SEED=N repeats one of them");
}
