//! Somebody outside who asks once a second what is published, and tries each server.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use crate::dns;
use crate::net::addr;

/// What is seen at one moment; nodes are known by their numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Seconds of the wall clock.
    pub at: f64,
    pub set: BTreeSet<u8>,
    pub serial: u32,
    /// Who answered a request.
    pub serving: BTreeSet<u8>,
}

/// In the namespace of the thread that starts it; it ends when it is dropped.
pub struct Poller {
    samples: Arc<Mutex<Vec<Sample>>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Poller {
    pub fn start(nodes: u8) -> Self {
        let (samples, ended) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (to, until) = (samples.clone(), ended.clone());
        let thread = thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                let began = Instant::now();
                // Without an answer nothing is known of this second.
                if let Some(sample) = look(nodes) {
                    to.lock().unwrap_or_else(PoisonError::into_inner).push(sample);
                }
                thread::sleep(EVERY.saturating_sub(began.elapsed()));
            }
        });
        Self { samples, ended, thread: Some(thread) }
    }

    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn last(&self) -> Option<Sample> {
        self.samples.lock().unwrap_or_else(PoisonError::into_inner).last().cloned()
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

const EVERY: Duration = Duration::from_secs(1);
/// A server that is well answers within some milliseconds; this is for a machine that is busy.
const REPLY: Duration = Duration::from_millis(700);

pub fn now() -> f64 {
    SystemTime::UNIX_EPOCH.elapsed().expect("it is later").as_secs_f64()
}

fn look(nodes: u8) -> Option<Sample> {
    let at = now();
    let (set, serial) = dns::ask()?;
    let serving = thread::scope(|scope| {
        let tries: Vec<_> = (1..=nodes).map(|n| (n, scope.spawn(move || serves(n)))).collect();
        tries.into_iter().filter_map(|(n, reply)| reply.join().ok()?.then_some(n)).collect()
    });
    Some(Sample { at, set: set.into_iter().collect(), serial, serving })
}

/// Whether node `n`'s web server answers.
fn serves(n: u8) -> bool {
    let reply = || {
        let mut stream = TcpStream::connect_timeout(&SocketAddr::new(addr(n), 80), REPLY)?;
        stream.set_read_timeout(Some(REPLY))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut status = [0; 12];
        stream.read_exact(&mut status)?;
        Ok::<bool, std::io::Error>(status.ends_with(b" 200"))
    };
    reply().unwrap_or(false)
}
