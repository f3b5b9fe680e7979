//! What the gates must know after a restart (`interfaces`, section 6).

use core::net::IpAddr;
use std::rc::Rc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Address;

/// The electorate.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
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

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<str>::deserialize(deserializer).map(|name| Self(name.into()))
    }
}

/// As a pair.
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.addr, &*self.node).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <(IpAddr, Box<str>)>::deserialize(deserializer).map(|(addr, node)| Self { addr, node: node.into() })
    }
}
