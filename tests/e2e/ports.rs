//! Ports for servers of tests.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the kernel gives to outgoing connections (32768 and up): of these, one that is free now may be
/// taken when the server starts, or starts again.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// A port that is free for UDP and TCP, and that no other call in this process gets soon. Other processes begin
/// elsewhere.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new((RandomState::new().hash_one(0) % u64::from(COUNT)) as u32));
    for _ in 0..100 {
        let port = (FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) as u16;
        if !is_used(port) {
            return port;
        }
    }
    panic!("no port is free for both UDP and TCP");
}

/// By the kernel's tables. To bind it would show it, too, but a child that another thread starts just then has the
/// socket until it is its own program, and the port is taken for so long.
fn is_used(port: u16) -> bool {
    let end = format!(":{port:04X}");
    ["tcp", "tcp6", "udp", "udp6"].iter().any(|table| {
        let lines = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        lines.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|local| local.ends_with(&end)))
    })
}
