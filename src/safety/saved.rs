//! What the gates must know after a restart (`interfaces`, section 6).

use std::rc::Rc;

use serde::{Serialize, Serializer};

use super::Address;
use crate::saved::{Part, Read};

/// The electorate.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Saved {
    /// Who has a vote; `None`: everybody that is expected or heard of.
    pub voters: Option<Vec<Name>>,
    /// Who was alive at some time.
    pub seen: Vec<Name>,
}

/// A node's name, shared with whoever has it already.
#[derive(Clone, Debug, PartialEq)]
pub struct Name(pub Rc<str>);

impl From<&str> for Name {
    fn from(name: &str) -> Self {
        Self(name.into())
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// As a pair.
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.addr, &*self.node).serialize(serializer)
    }
}

impl Saved {
    pub fn read(part: Part<'_>) -> Read<Self> {
        Ok(Self { voters: part.texts("voters")?, seen: part.texts("seen")?.unwrap_or_default() })
    }
}
