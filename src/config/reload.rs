//! What differs between the configuration that runs and the file as it is now.

use super::{Config, metadata};
use crate::agent::reload::Reload;
use crate::membership::{Changeable, Timing};

impl Config {
    /// Takes over from `new` what can be changed while it runs, and gives what the agent is to do. What takes a
    /// restart stays as it is here, so that it is named at each reload until then.
    pub fn reload(&mut self, new: Self) -> Reload {
        let mut at_restart = differences(self, &new);
        let parts = parts(self, &new);
        let fits = self.takes_parts(&new);
        let (ours, theirs) = (&mut self.agent, new.agent);
        let membership = Changeable::of(&theirs.membership);
        let before = Changeable::of(&ours.membership);
        let looked_at = [
            ("join", before.join != membership.join),
            ("members", before.members != membership.members),
            ("allow", before.allow != membership.allow),
            ("forget_after", before.forget_after != membership.forget_after),
            ("safety", ours.safety != theirs.safety),
            ("log", self.log != new.log),
        ];
        let changed = looked_at.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned());
        let mut changed: Vec<String> = changed.collect();
        if fits {
            changed.extend(parts);
            (ours.tags, ours.publish) = (theirs.tags, theirs.publish);
            (ours.apps, ours.handlers) = (theirs.apps, theirs.handlers);
        } else {
            at_restart.extend(parts);
        }
        ours.safety = theirs.safety;
        let of_membership = &mut ours.membership;
        of_membership.join.clone_from(&membership.join);
        of_membership.members.clone_from(&membership.members);
        of_membership.allow.clone_from(&membership.allow);
        of_membership.forget_after = membership.forget_after;
        self.log = new.log;
        Reload {
            membership,
            keys: theirs.membership.keys,
            keys_file: theirs.keys_file,
            tags: ours.tags.clone(),
            publish: ours.publish.clone(),
            apps: ours.apps.clone(),
            handlers: ours.handlers.clone(),
            safety: ours.safety.clone(),
            log_level: self.log.level,
            changed,
            at_restart,
        }
    }

    /// Why `new` cannot be taken over beside what persons said here of other nodes (`words`, the tags `m.NODE`). To be
    /// asked before [`Config::reload`]; what that leaves for a restart takes no room now.
    pub fn reload_problem(&self, new: &Self, words: &[(String, String)]) -> Option<String> {
        let problem = || metadata::problem_of_reload(&self.agent, &new.agent, words);
        self.takes_parts(new).then(problem).flatten()
    }

    /// Whether what the new parts say fits into the metadata together with the cluster's name that stays; with the new
    /// one it does.
    fn takes_parts(&self, new: &Self) -> bool {
        let mut agent = new.agent.clone();
        agent.membership.cluster.clone_from(&self.agent.membership.cluster);
        metadata::problem(&agent, &new.agent.tags).is_none()
    }
}

/// The keys of the file that differ and that the metadata are made of.
fn parts(ours: &Config, theirs: &Config) -> Vec<String> {
    let (agent, new) = (&ours.agent, &theirs.agent);
    let looked_at = [("tags", agent.tags != new.tags), ("publish", agent.publish != new.publish)];
    let differ = looked_at.into_iter().filter(|(_, differs)| *differs);
    let mut names: Vec<String> = differ.map(|(name, _)| name.to_owned()).collect();
    names.extend(each("apps", &agent.apps, &new.apps, |app| &app.check.name));
    names.extend(each("handlers", &agent.handlers, &new.handlers, |handler| &handler.name));
    names
}

/// The keys of the file that differ and take effect at a restart only.
fn differences(ours: &Config, theirs: &Config) -> Vec<String> {
    let (agent, new) = (&ours.agent, &theirs.agent);
    let (member, new_member) = (&agent.membership, &new.membership);
    let bind = ours.bind != theirs.bind;
    let looked_at = [
        ("node", member.node != new_member.node),
        ("cluster", member.cluster != new_member.cluster),
        ("bind", bind),
        // Where it is not given, it follows `bind`.
        ("advertise", !bind && ours.advertise != theirs.advertise),
        ("profile", ours.profile != theirs.profile),
        ("label", member.label != new_member.label),
        ("peers", member.delegate_versions != new_member.delegate_versions),
        ("state", ours.state != theirs.state),
        ("control", ours.control != theirs.control),
    ];
    let mut names: Vec<String> =
        looked_at.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect();
    if ours.profile == theirs.profile {
        names.extend(timing(&member.timing, &new_member.timing).map(str::to_owned));
    }
    names
}

/// The single values of the profile that can be set.
fn timing(ours: &Timing, theirs: &Timing) -> impl Iterator<Item = &'static str> {
    let looked_at = [
        ("probe_interval", ours.probe_interval != theirs.probe_interval),
        ("probe_timeout", ours.probe_timeout != theirs.probe_timeout),
        ("gossip_interval", ours.gossip_interval != theirs.gossip_interval),
        ("gossip_nodes", ours.gossip_nodes != theirs.gossip_nodes),
        ("suspicion_mult", ours.suspicion_mult != theirs.suspicion_mult),
        ("indirect_checks", ours.indirect_checks != theirs.indirect_checks),
        ("push_pull_interval", ours.push_pull_interval != theirs.push_pull_interval),
        ("reclaim_after", ours.reclaim_after != theirs.reclaim_after),
    ];
    looked_at.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name)
}

/// `apps.web` for each that is new, gone or another one.
fn each<T: PartialEq>(part: &str, ours: &[T], theirs: &[T], name: impl Fn(&T) -> &str) -> Vec<String> {
    let missing = |of: &T, from: &[T]| !from.contains(of);
    let mut names: Vec<String> = Vec::new();
    for item in theirs.iter().filter(|item| missing(item, ours)) {
        names.push(format!("{part}.{}", name(item)));
    }
    for item in ours.iter().filter(|item| missing(item, theirs)) {
        let named = format!("{part}.{}", name(item));
        if !names.contains(&named) {
            names.push(named);
        }
    }
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Config {
        let parsed = Config::parse(text, "host1", Ok(()), &mut |path| match path {
            "/a.keys" => Ok("[\"AAAAAAAAAAAAAAAAAAAAAA==\"]".into()),
            _ => Ok("[\"AQEBAQEBAQEBAQEBAQEBAQ==\", \"AAAAAAAAAAAAAAAAAAAAAA==\"]".into()),
        });
        parsed.unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
    }

    const OLD: &str = r#"{
        "bind": "127.0.0.1", "join": ["10.0.0.1"], "keys_file": "/a.keys", "probe_interval": "3s",
        "apps": { "web": { "checks": [{ "tcp": "127.0.0.1:80" }] }, "db": { "checks": [{ "tcp": "127.0.0.1:81" }] } },
        "handlers": { "dns": { "run": ["/bin/true"], "env": { "A": "1" } } }
    }"#;

    #[test]
    fn the_same_file_changes_nothing_and_defaults_may_be_written_out() {
        let mut running = parse(OLD);
        let same = OLD.replace("\"join\"", "\"suspicion_mult\": 4, \"forget_after\": \"72h\", \"join\"");
        let reload = running.reload(parse(&same));
        assert_eq!((reload.changed, reload.at_restart), (vec![], vec![]));
        assert_eq!(reload.keys.keys.len(), 1);
    }

    #[test]
    fn what_can_be_changed_is_named_once_and_what_cannot_each_time() {
        let new = r#"{
            "bind": "127.0.0.2", "join": ["10.0.0.2"], "keys_file": "/b.keys", "probe_interval": "2s",
            "members": ["host1"], "allow": ["10.0.0.0/8"], "forget_after": "1h", "tags": { "dc": "x" },
            "log": { "level": "debug" }, "cluster": "other", "peers": "memberlist", "label": "l",
            "publish": ["10.0.0.9"], "state": "/tmp/s", "control": "/tmp/c", "safety": { "settle": "9s" },
            "apps": { "web": { "min_up": 2, "checks": [{ "tcp": "127.0.0.1:80" }] } },
            "handlers": { "dns": { "run": ["/bin/true"], "env": { "A": "2" } }, "new": { "run": ["/bin/true"] } }
        }"#;
        let mut running = parse(OLD);
        let first = running.reload(parse(new));
        let changed = [
            "join",
            "members",
            "allow",
            "forget_after",
            "safety",
            "log",
            "tags",
            "publish",
            "apps.db",
            "apps.web",
            "handlers.dns",
            "handlers.new",
        ];
        assert_eq!(first.changed, changed);
        let at_restart = ["cluster", "bind", "label", "peers", "state", "control", "probe_interval"];
        assert_eq!(first.at_restart, at_restart);
        assert_eq!((first.keys.keys.len(), first.keys_file.as_deref()), (2, Some("/b.keys")));
        assert_eq!(first.membership, Changeable::of(&parse(new).agent.membership));
        let second = running.reload(parse(new));
        assert_eq!(second.changed, [""; 0]);
        assert_eq!(second.at_restart, at_restart);
        let back = running.reload(parse(OLD));
        assert_eq!(back.changed, changed);
        assert_eq!(back.at_restart, [""; 0]);
    }

    #[test]
    fn another_profile_is_one_difference() {
        let mut running = parse(r#"{ "bind": "127.0.0.1" }"#);
        let reload = running.reload(parse(r#"{ "bind": "127.0.0.1", "profile": "lan" }"#));
        assert_eq!(reload.at_restart, ["profile"]);
    }

    #[test]
    fn what_does_not_fit_beside_the_cluster_s_name_that_stays_waits_with_the_new_one() {
        let app =
            |n| format!("\"{}{n}\": {{ \"checks\": [{{ \"tcp\": \"127.0.0.1:80\" }}] }}", "x".repeat(60));
        let config = |cluster: usize, apps: usize| {
            let apps: Vec<String> = (0..apps).map(app).collect();
            let (cluster, apps) = ("c".repeat(cluster), apps.join(","));
            parse(&format!(r#"{{ "bind": "127.0.0.1", "cluster": "{cluster}", "apps": {{ {apps} }} }}"#))
        };
        let mut running = config(64, 1);
        let reload = running.reload(config(1, 6));
        assert!(reload.at_restart.contains(&format!("apps.{}5", "x".repeat(60))), "{reload:?}");
        assert_eq!((reload.changed, reload.apps.len()), (vec![], 1));
        assert_eq!(running.reload(config(64, 2)).apps.len(), 2);
    }

    #[test]
    fn what_persons_said_of_other_nodes_keeps_its_room() {
        let config = |tag: usize| {
            let tag = "t".repeat(tag);
            parse(&format!(r#"{{ "bind": "127.0.0.1", "tags": {{ "dc": "{tag}" }} }}"#))
        };
        let word = |len: usize| vec![("m.par1".to_owned(), "w".repeat(len))];
        let running = config(200);
        assert_eq!(running.reload_problem(&config(400), &[]), None, "alone it fits");
        let refused = running.reload_problem(&config(400), &word(200)).unwrap();
        assert!(refused.contains("m.par1 210") && refused.contains("maintenance of par1"), "{refused}");
        assert_eq!(running.reload_problem(&config(200), &word(200)), None);
        // Too long before, by words that came back with the state: what makes it no longer is taken over.
        let long = word(400);
        assert_eq!(running.reload_problem(&config(200), &long), None);
        assert_eq!(running.reload_problem(&config(100), &long), None);
        assert!(running.reload_problem(&config(201), &long).is_some());
    }

    #[test]
    fn what_waits_for_a_restart_takes_no_room_now() {
        let config = |cluster: usize, tag: usize| {
            let (cluster, tag) = ("c".repeat(cluster), "t".repeat(tag));
            let text = r#"{ "bind": "127.0.0.1", "cluster": "CLUSTER", "tags": { "dc": "TAG" } }"#;
            parse(&text.replace("CLUSTER", &cluster).replace("TAG", &tag))
        };
        let word = [("m.par1".to_owned(), "web".to_owned())];
        assert_eq!(config(64, 10).reload_problem(&config(1, 450), &word), None);
    }
}
