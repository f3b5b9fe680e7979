//! What persons said of apps: forced states and maintenance, with their ends (`interfaces`, section 7).

use serde::{Deserialize, Serialize};

/// As the state file keeps them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {}
