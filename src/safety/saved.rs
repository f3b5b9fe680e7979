//! What the gates must know after a restart (`interfaces`, section 6).

use serde::{Deserialize, Serialize};

/// The electorate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Saved {
    /// Who has a vote; `None`: everybody that is expected or heard of.
    pub voters: Option<Vec<Box<str>>>,
    /// Who was alive at some time.
    pub seen: Vec<Box<str>>,
}
