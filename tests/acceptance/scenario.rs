//! A scenario: whether it can run, and its row in the table.

use std::cell::RefCell;
use std::env;
use std::sync::OnceLock;
use std::time::Duration;

use crate::daemon::skip;
use crate::dns;
use crate::net;
use crate::results;
use crate::verdict::{Limits, Verdict};

/// A row of the table; written when dropped.
pub struct Row {
    what: &'static str,
    result: &'static str,
    columns: RefCell<Vec<String>>,
    remark: RefCell<String>,
}

/// Runs a scenario and puts what it found in the table; a panic is FAILED there.
pub fn scenario(what: &'static str, body: impl FnOnce(&Row)) {
    if !available() {
        return;
    }
    let columns = RefCell::new(vec![String::new(); COLUMNS]);
    let mut row = Row { what, result: "FAILED", columns, remark: RefCell::default() };
    body(&row);
    row.result = "ok";
}

impl Row {
    /// The figures of this verdict are the row's; any complaint ends the scenario.
    pub fn judge(&self, verdict: &Verdict, limits: &Limits) {
        self.show(verdict, limits);
        let complaints = verdict.complaints(limits);
        assert!(complaints.is_empty(), "{}", complaints.join("; "));
    }

    /// The figures are the row's, whatever they are.
    pub fn show(&self, verdict: &Verdict, limits: &Limits) {
        *self.columns.borrow_mut() = verdict.columns(limits);
    }

    /// One more figure, in words.
    pub fn remark(&self, text: &str) {
        let mut remark = self.remark.borrow_mut();
        if !remark.is_empty() {
            remark.push_str(", ");
        }
        remark.push_str(text);
    }
}

impl Drop for Row {
    fn drop(&mut self) {
        let (columns, remark) = (self.columns.borrow(), self.remark.borrow());
        let mut line = vec![self.what, self.result];
        line.extend(columns.iter().map(String::as_str));
        line.push(&remark);
        results::append("ACCEPT_RESULTS", &line);
    }
}

/// [`Verdict::columns`].
const COLUMNS: usize = 7;

fn available() -> bool {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    let programs: [(&str, &[&str]); 5] = [
        (dns::NAMED, &["-v"]),
        ("nginx", &["-v"]),
        ("dig", &["-v"]),
        ("nsupdate", &["-V"]),
        ("serf", &["version"]),
    ];
    let Some(missing) = MISSING.get_or_init(|| net::missing(&programs)) else { return true };
    skip(&format!("no acceptance scenarios: {missing}; scripts/setup installs what is missing"));
    false
}

// How long a server that is dead may be published, in seconds, with the settings in `world.rs`: what has to happen
// one after the other, and half as much again for a machine that is busy.

/// Its application is down: two checks 1 s apart that last 1 s at the most, gossip 1 s, debounce, `min_interval` and
/// the handler 1 s each: 7 s.
pub const DEAD_APP: u64 = 11;
/// The whole server is gone, and a majority is there: detection 8 s (the probe's round, its timeout, 4 s suspicion),
/// `node_down_after` 2 s, debounce 1 s, verify 2 s, `min_interval` and the handler 1 s each: 15 s.
pub const DEAD_NODE: u64 = 23;
/// The same where half of the servers are there: `half_delay` 5 s more.
pub const DEAD_HALF: u64 = 30;
/// It died when its picored was dead before and it was published because it answered: tried every 30 s, then 5 s for
/// debounce, verify, `min_interval` and the handler: 35 s.
pub const DEAD_LATER: u64 = 52;

/// For what happens once a cause of trouble is gone: members find each other again within some seconds, then come
/// `hold_up` 3 s, debounce, `min_interval` and the handler.
pub const BACK: Duration = Duration::from_secs(45);

/// Seconds that a cut lasts between healthy servers.
pub fn cut_secs() -> u64 {
    setting("ACCEPT_CUT_SECS", 60)
}

/// A number in the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")),
        Err(_) => default,
    }
}
