//! What handlers must know after a restart (`interfaces`, section 6).

use serde::{Deserialize, Serialize};

use super::Delivery;
use crate::time::Instant;

/// Records, what the outside shows, events not yet told.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {}

impl Saved {
    /// The file is another node's: without what is that node's own, its records and its events.
    pub fn drop_own(&mut self) {}
}

impl Delivery {
    /// What a restart must not forget. `unix_now`: seconds since 1970, for what has an age.
    pub fn saved(&self, _now: Instant, _unix_now: u64) -> Saved {
        Saved {}
    }

    /// Takes up what was saved; right after [`Delivery::new`].
    pub fn restore(&mut self, _now: Instant, _unix_now: u64, _saved: Saved) {}
}
