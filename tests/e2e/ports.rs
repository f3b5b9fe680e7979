//! Ports for servers of tests.

use std::hash::{BuildHasher, RandomState};
use std::net::{TcpListener, UdpSocket};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that the kernel gives to outgoing connections (32768 and up): of these, one that is free now may be
/// taken when the server starts, or starts again.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// A port that is free for UDP and TCP on 127.0.0.1, and that no other call in this process gets soon. Other processes
/// begin elsewhere.
pub fn free_port() -> u16 {
    static NEXT: LazyLock<AtomicU32> =
        LazyLock::new(|| AtomicU32::new((RandomState::new().hash_one(0) % u64::from(COUNT)) as u32));
    for _ in 0..100 {
        let port = (FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT) as u16;
        if UdpSocket::bind(("127.0.0.1", port)).is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free for both UDP and TCP");
}
