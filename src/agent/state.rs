//! The state file: what of all parts survives a restart, as JSON (`interfaces`, section 6).

use serde::{Deserialize, Serialize};

use crate::agent::overrides;
use crate::{delivery, membership, safety};

/// The content of the state file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {
    /// The version of the format.
    pub v: u32,
    pub node: Box<str>,
    pub membership: membership::Saved,
    pub delivery: delivery::Saved,
    pub safety: safety::Saved,
    pub overrides: overrides::Saved,
}

impl Saved {
    /// Reads a state file. The error is for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}
