//! What the tests of these handlers stand on: one run of a handler, and what it may not leave behind.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Folder, Shell};

/// Sets that no handler may take, nor send anything for.
pub const NO_SETS: [&str; 17] = [
    "",
    "  ",
    "192.0.2.256",
    "192.0.2",
    "01.2.3.4",
    "1.2.3.4.5",
    "0.0.0.0",
    "::",
    "www",
    "192.0.2.2\",\"x\":\"",
    "2001:db8:::1",
    "1:2:3:4:5:6:7",
    "1:2:3:4:5:6:7:8:9",
    "::12345",
    "fe80::1%eth0",
    "1::2::3",
    "*",
];

/// Where the handlers lie.
pub fn handlers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/handlers")
}

/// A handler that is about to run, in a folder of its own and with one for its temporary files.
pub struct Run {
    pub command: Command,
    places: [Folder; 2],
    what: String,
}

/// How a run ended.
pub struct Ended {
    pub code: i32,
    pub output: String,
    pub took: Duration,
}

impl Run {
    pub fn new(shell: &Shell, handler: &str, set: &str) -> Run {
        let places = [Folder::new(), Folder::new()];
        let mut command = shell.command();
        command.arg(handlers().join(handler)).current_dir(&places[0].0).env("TMPDIR", &places[1].0);
        command
            .env("DNS_ZONE", "Example.test.")
            .env("DNS_NAME", "www.example.test.")
            .env("DNS_TIMEOUT", "60");
        command.env("PICORED_MODE", "sync").env("PICORED_APP", "web").env("PICORED_UP_ADDRS", set);
        Run { command, places, what: format!("{handler} by {} for {set:?}", shell.name) }
    }

    pub fn env(mut self, name: &str, value: &str) -> Run {
        self.command.env(name, value);
        self
    }

    /// Runs it to its end and looks whether it left anything behind.
    pub fn ends(mut self) -> Ended {
        let began = Instant::now();
        let output = self.command.output().expect("the handler starts");
        let ended = Ended {
            code: output.status.code().unwrap_or(-1),
            output: String::from_utf8_lossy(&output.stdout).into_owned()
                + &String::from_utf8_lossy(&output.stderr),
            took: began.elapsed(),
        };
        for place in &self.places {
            let left: Vec<_> = fs::read_dir(&place.0).expect("the folder").collect();
            assert!(left.is_empty(), "{} left {left:?} behind: {}", self.what, ended.output);
        }
        for complaint in ["syntax error", "not found\n", "parameter not set", "awk: "] {
            assert!(!ended.output.contains(complaint), "{}: {}", self.what, ended.output);
        }
        ended
    }

    #[track_caller]
    pub fn ends_with(self, code: i32) -> Ended {
        let what = self.what.clone();
        let ended = self.ends();
        assert_eq!(ended.code, code, "{what}: {}", ended.output);
        ended
    }
}

impl Ended {
    #[track_caller]
    pub fn says(&self, word: &str) -> &Ended {
        assert!(self.output.contains(word), "{word:?} is missing in {:?}", self.output);
        self
    }

    #[track_caller]
    pub fn keeps_quiet_about(&self, secret: &str) -> &Ended {
        assert!(!self.output.contains(secret), "{:?}", self.output);
        self
    }
}
