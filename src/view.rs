//! What the members' tags say about each app: who has it, in what state, under which addresses.

use core::net::IpAddr;
use std::rc::Rc;

use crate::check::AppState;
use crate::limits::ADDRESSES_PER_INSTANCE_MAX;
use crate::membership::{Member, State};
use crate::time::Instant;
use crate::wire::serf;

/// An app on one node, as its tags and its member state show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    pub node: Rc<str>,
    pub member: State,
    /// What the node's last `a.APP` tag says.
    pub app: AppState,
    pub forced: bool,
    /// Another node's `m.NODE` tag withdraws it: which node's. Counts while that one runs.
    pub withdrawn_by: Option<Box<str>>,
    /// Since when the member is in its state, and when it came back from failed.
    pub since: Instant,
    pub returned: Option<Instant>,
    /// What it publishes: `p.APP`, else `p`, else its gossip address. Sorted.
    pub addrs: Vec<IpAddr>,
}

impl Instance {
    /// Alive (or suspect) and up: part of the desired set U.
    pub fn is_good(&self) -> bool {
        self.member.is_running() && self.app == AppState::Up && !self.in_maintenance()
    }

    /// A person withdrew it, there or by another node's `m.NODE`.
    pub fn in_maintenance(&self) -> bool {
        self.app == AppState::Maint || self.withdrawn_by.is_some()
    }

    /// What it is taken for: maintenance goes before what its own node says.
    pub fn effective(&self) -> AppState {
        if self.in_maintenance() { AppState::Maint } else { self.app }
    }

    /// Its node failed, and what it last said of the app was not that it is down or withdrawn: the app may serve on.
    pub fn may_still_serve(&self) -> bool {
        let said = matches!(self.app, AppState::Up | AppState::Unknown);
        self.member == State::Dead && said && !self.in_maintenance()
    }
}

/// The instances of `app` among `members`, sorted by node. Members without an `a.APP` tag have none.
pub fn instances<'a>(app: &str, members: impl Iterator<Item = &'a Member>) -> Vec<Instance> {
    let (mut found, mut withdrawn) = (Vec::new(), Vec::new());
    for member in members {
        found.extend(instance(app, member, serf::tags(&member.meta)));
        if member.state.is_running() {
            withdrawn.extend(withdrawn_by(app, member));
        }
    }
    for instance in &mut found {
        let by = withdrawn.iter().find(|(node, _)| **node == *instance.node);
        instance.withdrawn_by = by.map(|(_, by)| (*by).into());
    }
    found.sort_by(|a, b| a.node.cmp(&b.node));
    found
}

/// The nodes whose instances of `app` the tags `m.NODE` of `member` withdraw, each with the member's name.
fn withdrawn_by<'a>(app: &'a str, member: &'a Member) -> impl Iterator<Item = (&'a str, &'a str)> {
    let of_app = move |value: &str| value.split(',').map(str::trim).any(|name| name == "*" || name == app);
    serf::tags(&member.meta)
        .filter(move |(_, value)| of_app(value))
        .filter_map(|(key, _)| Some((key.strip_prefix("m.")?, &*member.name)))
}

/// `member`'s instance of `app`, if its `tags` show one.
fn instance<'t>(
    app: &str,
    member: &Member,
    tags: impl Iterator<Item = (&'t str, &'t str)>,
) -> Option<Instance> {
    let (mut state, mut of_app, mut of_node) = (None, None, None);
    for (key, value) in tags {
        match key.strip_prefix("a.") {
            Some(name) if name == app => state = Some(value),
            _ if key == "p" => of_node = Some(value),
            _ if key.strip_prefix("p.") == Some(app) => of_app = Some(value),
            _ => {}
        }
    }
    let state = state?;
    // A word that a later version may have counts as no verdict: it neither adds nor removes an address.
    let (said, forced) = parse_state(state).unwrap_or((AppState::Unknown, state.ends_with('!')));
    // Who runs only by what the state file remembers has not said yet what its app is now.
    let app_state = if member.state.is_running() && !member.heard { AppState::Unknown } else { said };
    let addrs = [of_app, of_node].into_iter().flatten().map(parse_addresses).find(|addrs| !addrs.is_empty());
    Some(Instance {
        node: member.name.clone(),
        member: member.state,
        app: app_state,
        forced,
        withdrawn_by: None,
        since: member.since,
        returned: member.returned,
        addrs: addrs.unwrap_or_else(|| vec![member.addr.ip().to_canonical()]),
    })
}

/// The addresses that a node publishes whatever the app: `p`, else its gossip address.
pub fn published_by(member: &Member) -> Vec<IpAddr> {
    let tagged = serf::tag(&member.meta, "p").map(parse_addresses).filter(|addrs| !addrs.is_empty());
    tagged.unwrap_or_else(|| vec![member.addr.ip().to_canonical()])
}

/// The value of an `a.APP` tag: the state, and whether it is a forced one. `None`: no state that we know.
pub fn parse_state(value: &str) -> Option<(AppState, bool)> {
    let state = AppState::parse(value.strip_suffix('!').unwrap_or(value))?;
    Some((state, value.ends_with('!')))
}

/// Comma separated addresses; what is none is skipped.
fn parse_addresses(value: &str) -> Vec<IpAddr> {
    let parsed = value.split(',').filter_map(|part| part.trim().parse::<IpAddr>().ok());
    sorted(parsed.map(|addr| addr.to_canonical()).take(ADDRESSES_PER_INSTANCE_MAX).collect())
}

/// The own tags that describe addresses: `p` where they differ from the gossip address.
/// `None`: no tag needed. The form is one that [`instances`] reads.
pub fn publish_tag(publish: &[IpAddr], default: &[IpAddr]) -> Option<String> {
    let publish = sorted(publish.to_vec());
    if publish.is_empty() || publish == sorted(default.to_vec()) {
        return None;
    }
    let mut tag = String::new();
    for addr in publish {
        if !tag.is_empty() {
            tag.push(',');
        }
        tag.push_str(&addr.to_string());
    }
    Some(tag)
}

fn sorted(mut addrs: Vec<IpAddr>) -> Vec<IpAddr> {
    addrs.sort_unstable();
    addrs.dedup();
    addrs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member::new("fra1", "[::ffff:192.0.2.1]:7946".parse().expect("an address"), Instant::ZERO)
    }

    fn with(tags: &[(&str, &str)]) -> Option<Instance> {
        instance("web", &member(), tags.iter().copied())
    }

    fn addrs(tags: &[(&str, &str)]) -> Vec<String> {
        with(tags).expect("an instance").addrs.iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn a_member_without_the_app_s_tag_has_no_instance() {
        assert_eq!(with(&[("a.webmail", "up"), ("web", "up"), ("p", "192.0.2.5")]), None);
        assert_eq!(instances("web", [member()].iter()), []);
    }

    fn tagged(name: &str, tags: &[(&str, &str)]) -> Member {
        let mut member = Member::new(name, "192.0.2.1:7946".parse().expect("an address"), Instant::ZERO);
        member.meta = serf::encode_tags(tags.iter().copied()).into();
        member
    }

    #[test]
    fn a_running_member_withdraws_another_node_s_instances_and_one_that_is_gone_does_not() {
        let fra = tagged("fra1", &[("a.web", "up"), ("a.db", "up")]);
        let mut par = tagged("par1", &[("a.web", "up"), ("m.fra1", "db, web")]);
        let by = |app: &str, par: &Member| {
            let found = instances(app, [&fra, par].into_iter());
            (found[0].withdrawn_by.clone(), found[0].is_good())
        };
        assert_eq!(by("web", &par), (Some("par1".into()), false));
        par.state = State::Suspect;
        assert_eq!(by("db", &par), (Some("par1".into()), false));
        assert!(instances("web", [&fra, &par].into_iter())[1].is_good(), "itself it does not withdraw");
        for (gone, tags) in [(State::Dead, "*"), (State::Left, "*"), (State::Alive, "webmail")] {
            par = tagged("par1", &[("m.fra1", tags)]);
            par.state = gone;
            assert_eq!(by("web", &par), (None, true), "{gone:?} {tags}");
        }
        let all = tagged("par1", &[("m.fra1", "*")]);
        assert_eq!(by("db", &all), (Some("par1".into()), false));
    }

    #[test]
    fn who_is_only_remembered_has_no_verdict() {
        let mut fra = tagged("fra1", &[("a.web", "up")]);
        fra.heard = false;
        assert_eq!(instances("web", [&fra].into_iter())[0].app, AppState::Unknown);
        fra.state = State::Dead;
        assert_eq!(instances("web", [&fra].into_iter())[0].app, AppState::Up, "its last word counts");
    }

    #[test]
    fn the_state_and_the_mark_forced_are_read() {
        for (value, state, forced) in [
            ("up", AppState::Up, false),
            ("down!", AppState::Down, true),
            ("maint", AppState::Maint, false),
            ("unknown", AppState::Unknown, false),
            ("sideways", AppState::Unknown, false),
            ("", AppState::Unknown, false),
        ] {
            let found = with(&[("a.web", value)]).expect("an instance");
            assert_eq!((found.app, found.forced), (state, forced), "{value}");
        }
    }

    #[test]
    fn the_app_s_addresses_go_before_the_node_s_and_those_before_the_gossip_address() {
        let (app, p, p_app) =
            (("a.web", "up"), ("p", "192.0.2.9,2001:db8::1,192.0.2.8"), ("p.web", "192.0.2.7"));
        assert_eq!(addrs(&[p_app, p, app]), ["192.0.2.7"]);
        assert_eq!(addrs(&[app, p, ("p.other", "192.0.2.6")]), ["192.0.2.8", "192.0.2.9", "2001:db8::1"]);
        assert_eq!(addrs(&[app]), ["192.0.2.1"]);
        assert_eq!(addrs(&[app, ("p.web", "nonsense")]), ["192.0.2.1"]);
    }

    #[test]
    fn a_node_publishes_what_its_tag_says_else_its_gossip_address() {
        let mut node = member();
        assert_eq!(published_by(&node), [node.addr.ip().to_canonical()]);
        node.meta = serf::encode_tags([("p", "2001:db8::1,192.0.2.9")].into_iter()).into();
        let addrs: Vec<String> = published_by(&node).iter().map(IpAddr::to_string).collect();
        assert_eq!(addrs, ["192.0.2.9", "2001:db8::1"]);
    }

    #[test]
    fn one_member_cannot_publish_any_number_of_addresses() {
        let many: Vec<String> = (0..30).map(|n| format!("192.0.2.{n}")).collect();
        assert_eq!(addrs(&[("a.web", "up"), ("p", &many.join(","))]).len(), ADDRESSES_PER_INSTANCE_MAX);
    }

    #[test]
    fn a_publish_tag_is_written_only_where_it_says_something_and_reads_back() {
        let ip = |s: &str| s.parse::<IpAddr>().expect("an address");
        let gossip = [ip("192.0.2.1")];
        assert_eq!(publish_tag(&[], &gossip), None);
        assert_eq!(publish_tag(&gossip, &gossip), None);
        let tag = publish_tag(&[ip("2001:db8::1"), ip("192.0.2.2")], &gossip).expect("a tag");
        assert_eq!(tag, "192.0.2.2,2001:db8::1");
        assert_eq!(addrs(&[("a.web", "up"), ("p", &tag)]), ["192.0.2.2", "2001:db8::1"]);
    }
}
