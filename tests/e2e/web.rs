//! A web server that can be stopped and started, for checks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

pub struct Web {
    pub addr: SocketAddr,
    up: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    /// Requests answered so far.
    pub served: Arc<AtomicU64>,
}

impl Web {
    /// Answers 200 while up and 503 while not.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port on loopback");
        let addr = listener.local_addr().expect("a bound listener has an address");
        let (up, ended) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicBool::new(false)));
        let served = Arc::new(AtomicU64::new(0));
        let web = Self { addr, up: up.clone(), ended: ended.clone(), served: served.clone() };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(mut stream) = stream else { continue };
                stream.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout of 2 s is valid");
                let mut request = [0; 2048];
                if stream.read(&mut request).is_err() {
                    continue;
                }
                let status = if up.load(Ordering::SeqCst) { "200 OK" } else { "503 Service Unavailable" };
                let reply =
                    format!("HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nOK\n");
                if stream.write_all(reply.as_bytes()).is_ok() {
                    served.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        web
    }

    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    pub fn url(&self) -> String {
        format!("http://{}/health", self.addr)
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the accept up.
        drop(std::net::TcpStream::connect(self.addr));
    }
}
