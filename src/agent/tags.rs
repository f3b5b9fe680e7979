//! The own tags, written in one place from own state.

use core::net::IpAddr;

use crate::agent::overrides::Overrides;
use crate::agent::{Identity, OwnApp};
use crate::check::AppState;
use crate::delivery::{self, Delivery};
use crate::limits::META_MAX;
use crate::view;
use crate::wire::serf;

/// This version, as the tag `v` and `--version` show it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Own metadata. `withdrawn`: all own apps are shown in maintenance. `None`: more than [`META_MAX`] bytes, even
/// without the operator's tags; the configuration was checked for that, so it should not happen.
pub fn own_meta(
    identity: &Identity,
    apps: &[OwnApp],
    delivery: &Delivery,
    overrides: &Overrides,
    withdrawn: bool,
) -> Option<Vec<u8>> {
    let mut tags = own_tags(identity, apps, withdrawn);
    tags.extend(delivery.tags());
    tags.extend(overrides.tags());
    let own = tags.len();
    tags.extend(identity.tags.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    encode(&tags).or_else(|| encode(tags.get(..own)?))
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
