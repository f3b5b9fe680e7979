//! Whether everything that a node says of itself fits into memberlist's 512 bytes of metadata.

use core::net::IpAddr;

use crate::agent::{self, AppConfig};
use crate::control::text::printable;
use crate::delivery::Delivery;
use crate::limits::META_MAX;

/// A tag's name and the longest value that it can have.
pub type Tag = (String, String);

/// Why what an agent of this configuration says in its longest states, with these tags of the operator, does not fit.
pub fn problem(agent: &agent::Config, operators: &[(Box<str>, Box<str>)]) -> Option<String> {
    let version = env!("CARGO_PKG_VERSION");
    let handlers = Delivery::tags_max(&agent.handlers);
    let cluster = &agent.membership.cluster;
    too_long(&longest(cluster, version, &agent.apps, &agent.publish, handlers, operators))
}

/// Why a reload is refused: what persons said here of other nodes (`words`, the tags `m.NODE`) has no room any more
/// beside what `new` says. Where it had none before, only what takes more room than `old` is refused.
pub fn problem_of_reload(old: &agent::Config, new: &agent::Config, words: &[Tag]) -> Option<String> {
    if words.is_empty() {
        return None;
    }
    let longest = |config: &agent::Config| {
        let handlers = Delivery::tags_max(&config.handlers);
        let (version, operators) = (env!("CARGO_PKG_VERSION"), &config.tags);
        // The name of the cluster stays until a restart.
        let cluster = &old.membership.cluster;
        let mut tags = longest(cluster, version, &config.apps, &config.publish, handlers, operators);
        tags.extend_from_slice(words);
        tags
    };
    let tags = longest(new);
    if total(&tags) <= META_MAX.max(total(&longest(old))) {
        return None;
    }
    let nodes: Vec<&str> = words.iter().filter_map(|(name, _)| name.strip_prefix("m.")).collect();
    Some(format!(
        "{}, or end the maintenance of {} that was said here (`picored maint off --node`) and say it on another node",
        too_long(&tags)?,
        printable(&nodes.join(", ")),
    ))
}

/// The tags of a node in their longest states; `handlers` are what delivery says of its own.
fn longest(
    cluster: &str,
    version: &str,
    apps: &[AppConfig],
    publish: &[IpAddr],
    handlers: Vec<Tag>,
    operators: &[(Box<str>, Box<str>)],
) -> Vec<Tag> {
    let mut tags: Vec<Tag> = vec![("cluster".into(), cluster.into()), ("v".into(), version.into())];
    if !publish.is_empty() {
        tags.push(("p".into(), addresses(publish)));
    }
    for app in apps.iter().filter(|app| !app.check.checks.is_empty()) {
        tags.push((format!("a.{}", app.check.name), "unknown!".into()));
        if !app.publish.is_empty() {
            tags.push((format!("p.{}", app.check.name), addresses(&app.publish)));
        }
    }
    tags.extend(handlers);
    tags.extend(operators.iter().map(|(name, value)| (name.to_string(), value.to_string())));
    tags
}

/// As long as the tag's value: the addresses with one byte between them.
fn addresses(list: &[IpAddr]) -> String {
    list.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(",")
}

/// What is wrong, with the size of each part, if the tags do not fit.
fn too_long(tags: &[Tag]) -> Option<String> {
    let total = total(tags);
    if total <= META_MAX {
        return None;
    }
    let parts: Vec<String> = tags.iter().map(|tag| format!("{} {}", printable(&tag.0), size(tag))).collect();
    Some(format!(
        "what this node says of itself can become {total} bytes long, and {META_MAX} fit: {}; \
         use shorter names, fewer addresses, apps, handlers or tags",
        parts.join(", ")
    ))
}

/// The bytes of the metadata.
fn total(tags: &[Tag]) -> usize {
    // 0xFF, then a map of raw strings (protocol page, 8.1 and 2.2).
    let head = if tags.len() < 16 { 2 } else { 4 };
    head + tags.iter().map(size).sum::<usize>()
}

fn size((name, value): &Tag) -> usize {
    let raw = |text: &str| text.len() + if text.len() < 32 { 1 } else { 3 };
    raw(name) + raw(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_fit_up_to_the_last_byte() {
        // 2 + (1+7 + 1+7) + (1+1 + 3+n)
        let with = |n| vec![("cluster".to_string(), "default".to_string()), ("x".into(), "y".repeat(n))];
        assert_eq!(too_long(&with(512 - 2 - 16 - 5)), None);
        let said = too_long(&with(512 - 2 - 16 - 4)).unwrap();
        assert!(said.contains("513 bytes") && said.contains("cluster 16, x 495"), "{said}");
    }
}
