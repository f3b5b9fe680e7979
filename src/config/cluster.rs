//! The keys that are about the cluster: addresses, names, whom to join and whom to hear.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::file::Kind;
use super::report::{Report, quoted};
use super::section::{Section, Spot};
use super::{ReadSecret, address, apps, keys, profile};
use crate::limits::MEMBERS_MAX;
use crate::membership::{Cidr, Config, Target};

/// `bind` and `advertise`.
pub fn addresses(report: &mut Report, root: &Section<'_>) -> (Vec<SocketAddr>, Option<SocketAddr>) {
    let any = |ip: IpAddr| SocketAddr::new(ip, address::GOSSIP_PORT);
    let mut bind = vec![any(Ipv6Addr::UNSPECIFIED.into()), any(Ipv4Addr::UNSPECIFIED.into())];
    if let Some(addr) = socket(report, root, "bind", address::GOSSIP_PORT) {
        bind = vec![addr];
    }
    let port = bind.first().map_or(address::GOSSIP_PORT, SocketAddr::port);
    let Some(advertise) = socket(report, root, "advertise", port) else {
        // One address that is bound to is the one that others reach us at.
        return match bind.as_slice() {
            [one] if !one.ip().is_unspecified() => (bind.clone(), Some(*one)),
            _ => (bind, None),
        };
    };
    let deaf = bind.len() == 1 && advertise.is_ipv6() && bind.iter().all(SocketAddr::is_ipv4);
    if let Some(spot) = root.spot("advertise") {
        if advertise.ip().is_unspecified() || advertise.ip().is_multicast() {
            report.at(&spot, format!("{} is nobody's address", advertise.ip()));
        } else if deaf {
            report.at(&spot, "is an IPv6 address, but \"bind\" hears IPv4 only");
        }
    }
    (bind, Some(advertise))
}

fn socket(report: &mut Report, root: &Section<'_>, name: &str, default_port: u16) -> Option<SocketAddr> {
    let text = root.text(report, name)?;
    apps::parsed(report, root, name, address::socket(text, default_port))
}

/// What membership wants to know.
pub fn read(
    report: &mut Report,
    root: &Section<'_>,
    default_node: &str,
    bind: &[SocketAddr],
    advertise: Option<SocketAddr>,
    secrets_allowed: &Result<(), String>,
    read_secret: ReadSecret<'_>,
) -> Config {
    let (keys, keys_given) = keys::read(report, root, secrets_allowed, read_secret);
    let insecure = root.flag(report, "insecure");
    // What is wrong itself is not also the cause of another problem.
    let readable = (!root.is_set("bind") || bind.len() == 1)
        && root.spot("insecure").is_none_or(|spot| matches!(spot.value.kind, Kind::Bool(_)));
    if readable && !keys_given && !insecure && bind.iter().any(|addr| !addr.ip().is_loopback()) {
        let at = root.spot("bind").map_or(root.at, |spot| spot.value.at);
        report.problem(at, if root.is_set("bind") { "bind" } else { "keys_file" }, NO_KEYS);
    }
    let port = bind.first().map_or(address::GOSSIP_PORT, SocketAddr::port);
    let unspecified: IpAddr = match bind {
        [one] if one.is_ipv4() => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let allow = allow(report, root);
    let node = node(report, root, default_node);
    Config {
        cluster: name(report, root, "cluster"),
        advertise: advertise.unwrap_or(SocketAddr::new(unspecified, port)),
        label: label(report, root),
        keys,
        delegate_versions: if root.word(report, "peers") == "memberlist" { [0, 0, 0] } else { [2, 5, 5] },
        timing: profile::read(report, root),
        join: join(report, root, &allow),
        members: members(report, root, &node),
        node: node.into(),
        allow,
        forget_after: root.duration(report, "forget_after"),
    }
}

const NO_KEYS: &str = "the address is not loopback and there are no keys: anybody could join; \
    give \"keys_file\" or \"keys\" (`picored keygen` makes one), or say \"insecure\": true";

fn node(report: &mut Report, root: &Section<'_>, default_node: &str) -> Box<str> {
    let given = root.text(report, "node");
    if given.is_none() && root.is_set("node") {
        return default_node.into();
    }
    let node = given.unwrap_or(default_node);
    if let Err(why) = address::node_name(node) {
        match root.spot("node") {
            Some(spot) => report.at(&spot, why),
            None => report.problem(root.at, "node", format!("the host name {why}; set \"node\"")),
        }
    }
    node.into()
}

/// A name that becomes a tag's value: what node names may be, and `_`.
fn name(report: &mut Report, root: &Section<'_>, key: &str) -> Box<str> {
    let name = root.text_or_default(report, key);
    if let (Err(why), Some(spot)) = (address::plain_name(&name.replace('.', "-")), root.spot(key)) {
        let why = why.replace("names of apps and handlers are", "may hold");
        report.at(&spot, why.replace("- and _ only", "-, _ and . only"));
    }
    name
}

fn label(report: &mut Report, root: &Section<'_>) -> Box<[u8]> {
    let Some(spot) = root.spot("label") else { return Box::default() };
    match spot.value.text() {
        Some("") => Box::default(),
        Some(_) => spot.text(report, 255).unwrap_or_default().as_bytes().into(),
        None => {
            report.wrong_type(&spot, "a string in double quotes");
            Box::default()
        }
    }
}

fn join(report: &mut Report, root: &Section<'_>, allow: &[Cidr]) -> Vec<Target> {
    let mut targets = Vec::new();
    for spot in limited(report, root, "join") {
        let Some(text) = spot.text(report, 300) else { continue };
        match address::join_target(text) {
            Err(why) => report.at(&spot, why),
            Ok(target) if targets.contains(&target) => report.at(&spot, "is there twice; remove one"),
            Ok(target) => {
                if let Target::Addr(addr) = target
                    && !allow.is_empty()
                    && !allow.iter().any(|network| network.contains(addr.ip()))
                {
                    report.at(
                        &spot,
                        format!("{} is not in \"allow\", so its answers would not be heard", addr.ip()),
                    );
                }
                targets.push(target);
            }
        }
    }
    targets
}

fn members(report: &mut Report, root: &Section<'_>, node: &str) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for spot in limited(report, root, "members") {
        let Some(text) = spot.text(report, 300) else { continue };
        match address::node_name(text) {
            Err(why) => report.at(&spot, why),
            Ok(()) if names.iter().any(|known| known.as_ref() == text) => {
                report.at(&spot, "is there twice; remove one");
            }
            Ok(()) => names.push(text.into()),
        }
    }
    if let Some(spot) = root.spot("members").filter(|_| !names.iter().any(|name| name.as_ref() == node)) {
        report.note(spot.value.at, &spot.path, format!("this node, {}, is not among them", quoted(node)));
    }
    names
}

fn allow(report: &mut Report, root: &Section<'_>) -> Vec<Cidr> {
    let mut networks = Vec::new();
    for spot in limited(report, root, "allow") {
        let Some(text) = spot.text(report, 64) else { continue };
        match address::cidr(text) {
            Ok(network) => networks.push(network),
            Err(why) => report.at(&spot, why),
        }
    }
    if let Some(spot) =
        root.spot("allow").filter(|spot| spot.list(&mut Report::default()).is_some_and(|l| l.is_empty()))
    {
        report.at(&spot, "names no network; leave it out to hear everybody");
    }
    networks
}

/// A list no longer than the cluster can be.
fn limited<'v>(report: &mut Report, root: &Section<'v>, name: &str) -> Vec<Spot<'v>> {
    let mut spots = root.list(report, name);
    if let Some(spot) = spots.get(MEMBERS_MAX) {
        report.at(spot, format!("there are {} entries; at most {MEMBERS_MAX} are allowed", spots.len()));
    }
    spots.truncate(MEMBERS_MAX);
    spots
}
