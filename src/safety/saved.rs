//! What the gates must know after a restart (`interfaces`, section 6).

use serde::{Deserialize, Serialize};

/// The electorate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Saved {}
