//! The own tags, written in one place from own state.

use core::net::IpAddr;

use crate::agent::overrides::Overrides;
use crate::agent::{Identity, OwnApp};
use crate::check::AppState;
use crate::control::text::printable;
use crate::delivery::{self, Delivery};
use crate::limits::META_MAX;
use crate::view;
use crate::wire::serf;

/// This version, as the tag `v` and `--version` show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Own metadata, and the names of the tags for which it has no room.
pub struct OwnMeta {
    pub bytes: Vec<u8>,
    pub left_out: Vec<String>,
}

/// `withdrawn`: all own apps are shown in maintenance. What does not fit into [`META_MAX`] bytes is left out from the
/// end: first the operator's tags, then what persons said of other nodes, the latest first. The rest fits: the
/// configuration was checked for that, but not for words that came back with the state. Never nothing at all: the
/// others would take that for a node without apps.
pub fn own_meta(
    identity: &Identity,
    apps: &[OwnApp],
    delivery: &Delivery,
    overrides: &Overrides,
    withdrawn: bool,
) -> OwnMeta {
    let mut tags = own_tags(identity, apps, withdrawn);
    tags.extend(delivery.tags());
    tags.extend(overrides.tags());
    tags.extend(identity.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    let mut left_out = Vec::new();
    loop {
        if let Some(bytes) = encode(&tags) {
            return OwnMeta { bytes, left_out };
        }
        match tags.pop() {
            Some((name, _)) => left_out.push(name),
            None => return OwnMeta { bytes: Vec::new(), left_out },
        }
    }
}

/// What the others are not told, and what a person can do about it; `None`: they are told all.
pub fn untold(left_out: &[String]) -> Option<String> {
    if left_out.is_empty() {
        return None;
    }
    let listed = |names: &[&str]| printable(&names.join(", ")).into_owned();
    let names: Vec<&str> = left_out.iter().map(|name| &**name).collect();
    let nodes: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("m.")).collect();
    let words = match nodes.is_empty() {
        true => String::new(),
        false => format!(
            "maintenance of {} said here does not hold: say it on another node and end it here (`picored maint off \
             --node`), or ",
            listed(&nodes)
        ),
    };
    Some(format!(
        "what this node says of itself does not fit into {META_MAX} bytes, and the others do not see its tags {}: \
         {words}use shorter or fewer tags, apps or handlers",
        listed(&names)
    ))
}

/// The same in the longest states of apps and handlers, and with the operator's tags.
pub fn longest(
    identity: &Identity,
    apps: &[OwnApp],
    handlers: &[delivery::Config],
    overrides: &Overrides,
) -> Vec<(String, String)> {
    const LONGEST: &str = "unknown!";
    let mut tags = own_tags(identity, apps, false);
    for (_, state) in tags.iter_mut().filter(|(name, _)| name.starts_with("a.")) {
        *state = LONGEST.into();
    }
    tags.extend(Delivery::tags_max(handlers));
    tags.extend(overrides.tags());
    tags.extend(identity.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    tags
}

fn encode(tags: &[(String, String)]) -> Option<Vec<u8>> {
    let mut sorted: Vec<(&str, &str)> = tags.iter().map(|(name, value)| (&**name, &**value)).collect();
    // Stable: of two tags with one name, ours comes before the operator's, and wins.
    sorted.sort_by_key(|&(name, _)| name);
    sorted.dedup_by_key(|&mut (name, _)| name);
    let meta = serf::encode_tags(sorted.into_iter());
    (meta.len() <= META_MAX).then_some(meta)
}

fn own_tags(identity: &Identity, apps: &[OwnApp], withdrawn: bool) -> Vec<(String, String)> {
    let gossip = [identity.advertise.ip().to_canonical()];
    let publish: &[IpAddr] = if identity.publish.is_empty() { &gossip } else { &identity.publish };
    let mut tags =
        vec![("cluster".to_owned(), identity.cluster.to_string()), ("v".to_owned(), VERSION.to_owned())];
    tags.extend(view::publish_tag(publish, &gossip).map(|value| ("p".to_owned(), value)));
    for own in apps.iter().filter(|own| own.app.has_instance()) {
        let name = &own.app.config().name;
        let state = if withdrawn { AppState::Maint } else { own.app.state() };
        let mark = if own.app.is_forced() && !withdrawn { "!" } else { "" };
        tags.push((format!("a.{name}"), format!("{}{mark}", state.as_str())));
        if !own.publish.is_empty() {
            let value = view::publish_tag(&own.publish, publish);
            tags.extend(value.map(|value| (format!("p.{name}"), value)));
        }
    }
    tags
}
