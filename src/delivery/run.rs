//! A run complete: argv, environment and stdin for each mode (`interfaces`, 4.2 and 4.3).

use core::net::IpAddr;
use std::borrow::Cow;

use serde::Serialize;

use super::{AppSituation, Config, Mode, Occurrence, World};
use crate::limits::REASON_MAX;
use crate::membership::State;
use crate::safety::{Address, Reason};
use crate::time::Instant;
use crate::view::Instance;

/// What the driver starts. The driver adds PATH, LANG and HOME, starts it in its own session and
/// closes stdin after [`Run::stdin`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// For the log.
    pub handler: Box<str>,
    pub argv: Vec<Box<str>>,
    pub env: Vec<(Box<str>, Box<str>)>,
    pub stdin: Vec<u8>,
    pub user: Option<Box<str>>,
}

/// All that a run is told.
pub struct Telling<'a> {
    pub config: &'a Config,
    pub now: Instant,
    pub world: &'a World<'a>,
    /// `None` for node events.
    pub situation: Option<&'a AppSituation>,
    pub reason: &'static str,
    pub generation: u32,
    pub attempt: u32,
    /// The set to publish, sorted by address.
    pub publish: &'a [Address],
    /// The gate that made this set, for PICORED_GUARD; empty: none.
    pub guard: &'static str,
    /// P and the generation that told it, where known.
    pub previous: Option<(u32, &'a [Address])>,
    /// The event, or the one address of a `picored1` call.
    pub about: Option<&'a Occurrence>,
}

impl Telling<'_> {
    /// Its size is bounded by the members, the addresses of an instance, and [`REASON_MAX`].
    pub fn run(&self) -> Run {
        let mut env = self.config.env.clone();
        env.retain(|(name, _)| !name.starts_with("PICORED_"));
        self.common_env(&mut env);
        if let Some(about) = self.about {
            event_env(about, &mut env);
        }
        if self.config.mode != Mode::Event {
            self.difference_env(&mut env);
        }
        Run {
            handler: self.config.name.clone(),
            argv: self.argv(),
            env,
            stdin: self.stdin(),
            user: self.config.user.clone(),
        }
    }

    /// As configured; `picored1` adds APP IP up|down, as the original PicoRed calls its handlers.
    fn argv(&self) -> Vec<Box<str>> {
        let mut argv = self.config.run.clone();
        if let (Mode::Picored1, Some(about)) = (self.config.mode, self.about) {
            argv.push(about.app.clone().unwrap_or_default());
            argv.push(join(about.addrs.iter().take(1)));
            argv.push(about.state.as_str().into());
        }
        argv
    }

    fn common_env(&self, env: &mut Vec<(Box<str>, Box<str>)>) {
        let mut put = |name: &str, value: Box<str>| env.push((name.into(), value));
        let addrs = || self.publish.iter().map(|entry| entry.addr);
        let instances = self.instances();
        let mut known: Vec<IpAddr> = instances.iter().flat_map(|i| i.addrs.iter().copied()).collect();
        known.sort_unstable();
        known.dedup();
        put("PICORED_MODE", self.mode().into());
        put("PICORED_EVENT", self.event().into());
        put("PICORED_APP", self.app().unwrap_or_default().into());
        put("PICORED_UP_ADDRS", join(addrs()));
        put("PICORED_UP_ADDRS4", join(addrs().filter(IpAddr::is_ipv4)));
        put("PICORED_UP_ADDRS6", join(addrs().filter(IpAddr::is_ipv6)));
        put("PICORED_UP_NODES", join(nodes(self.publish)));
        put("PICORED_ALL_ADDRS", join(known));
        put("PICORED_ALL_NODES", join(instances.iter().map(|i| &i.node)));
        put("PICORED_REASON", self.reason.into());
        put("PICORED_GUARD", self.guard.into());
        put("PICORED_GENERATION", self.generation.to_string().into());
        put("PICORED_ATTEMPT", self.attempt.to_string().into());
        put("PICORED_SELF", self.world.node.into());
        put("PICORED_CLUSTER", self.world.cluster.into());
        put("PICORED_DRY_RUN", "0".into());
    }

    fn difference_env(&self, env: &mut Vec<(Box<str>, Box<str>)>) {
        let before = self.previous.map_or(&[][..], |(_, set)| set);
        env.push(("PICORED_ADD".into(), join(missing(self.publish, before))));
        env.push(("PICORED_REMOVE".into(), join(missing(before, self.publish))));
    }

    fn stdin(&self) -> Vec<u8> {
        let of_family = |v4: bool| -> Vec<IpAddr> {
            self.publish.iter().map(|entry| entry.addr).filter(|addr| addr.is_ipv4() == v4).collect()
        };
        let running = self.world.members.iter().filter(|m| m.state.is_running()).count();
        let input = Input {
            v: 1,
            mode: self.mode(),
            app: self.app(),
            event: self.about.map(|about| about.kind.as_str()),
            reason: self.reason,
            generation: self.generation,
            attempt: self.attempt,
            dry_run: false,
            self_: SelfPart { node: self.world.node },
            cluster: ClusterPart {
                name: self.world.cluster,
                known: self.world.members.iter().filter(|m| m.state != State::Left).count(),
                alive: running,
                quorum: !self.world.may_act.as_ref().is_err_and(Reason::is_no_quorum),
                witness: Some(self.world.witness).filter(|witness| !witness.is_empty()),
            },
            publish: PublishPart {
                nodes: nodes(self.publish),
                addrs4: of_family(true),
                addrs6: of_family(false),
            },
            previous: self.previous.map(|(generation, set)| PreviousPart { generation, nodes: nodes(set) }),
            guard: Some(self.guard).filter(|guard| !guard.is_empty()),
            about: self.about.map(|about| AboutPart {
                node: &about.node,
                state: about.state.as_str(),
                addrs: &about.addrs,
            }),
            members: self.instances().iter().map(|instance| self.member(instance)).collect(),
        };
        // Plain strings and numbers: nothing in it can fail to be written.
        let mut bytes = serde_json::to_vec(&input).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    fn member<'b>(&'b self, instance: &'b Instance) -> MemberPart<'b> {
        let member = self.world.members.iter().find(|m| m.name == instance.node);
        let age = member.map_or(0, |m| self.now.since(m.since).as_secs());
        let why = self.situation.and_then(|s| s.why.iter().find(|(node, _)| *node == instance.node));
        MemberPart {
            node: &instance.node,
            state: instance.member.as_str(),
            app: instance.effective().as_str(),
            since: self.world.unix_now.saturating_sub(age),
            addrs: &instance.addrs,
            published: instance.addrs.iter().any(|&addr| self.publish.iter().any(|e| e.addr == addr)),
            why: match (why, &instance.withdrawn_by) {
                (Some((_, text)), _) => shorten(text).into(),
                (None, Some(by)) => format!("maintenance, said on {by}").into(),
                (None, None) => "".into(),
            },
        }
    }

    fn mode(&self) -> &'static str {
        self.config.mode.as_str()
    }

    fn event(&self) -> &'static str {
        self.about.map_or("sync", |about| about.kind.as_str())
    }

    fn app(&self) -> Option<&str> {
        match (self.situation, self.about) {
            (Some(situation), _) => Some(&situation.name),
            (None, Some(about)) => about.app.as_deref(),
            _ => None,
        }
    }

    fn instances(&self) -> &[Instance] {
        self.situation.map_or(&[], |situation| &situation.instances)
    }
}

/// The variables about the node concerned.
fn event_env(about: &Occurrence, env: &mut Vec<(Box<str>, Box<str>)>) {
    let first = |v4: bool| join(about.addrs.iter().filter(|addr| addr.is_ipv4() == v4).take(1));
    env.push(("PICORED_NODE".into(), (*about.node).into()));
    env.push(("PICORED_ADDR".into(), first(true)));
    env.push(("PICORED_ADDR6".into(), first(false)));
    env.push(("PICORED_STATE".into(), about.state.as_str().into()));
}

/// The first [`REASON_MAX`] bytes, at a character's end.
fn shorten(text: &str) -> &str {
    let end = (0..=REASON_MAX.min(text.len())).rev().find(|&at| text.is_char_boundary(at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// The addresses of `set` that `other` does not have.
fn missing(set: &[Address], other: &[Address]) -> impl Iterator<Item = IpAddr> {
    set.iter().map(|entry| entry.addr).filter(|&addr| other.iter().all(|entry| entry.addr != addr))
}

/// The nodes of a set, sorted; fallback addresses have none.
fn nodes(set: &[Address]) -> Vec<&str> {
    let mut nodes: Vec<&str> = set.iter().map(|entry| &*entry.node).filter(|node| !node.is_empty()).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes
}

fn join(items: impl IntoIterator<Item = impl core::fmt::Display>) -> Box<str> {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&item.to_string());
    }
    text.into()
}

/// The JSON on stdin, in the order of the contract's example.
#[derive(Serialize)]
struct Input<'a> {
    v: u8,
    mode: &'a str,
    app: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a str>,
    reason: &'a str,
    generation: u32,
    attempt: u32,
    dry_run: bool,
    #[serde(rename = "self")]
    self_: SelfPart<'a>,
    cluster: ClusterPart<'a>,
    publish: PublishPart<'a>,
    previous: Option<PreviousPart<'a>>,
    guard: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<AboutPart<'a>>,
    members: Vec<MemberPart<'a>>,
}

#[derive(Serialize)]
struct SelfPart<'a> {
    node: &'a str,
}

#[derive(Serialize)]
struct ClusterPart<'a> {
    name: &'a str,
    /// Left members do not count.
    known: usize,
    alive: usize,
    quorum: bool,
    /// `2/2`; null where no witness is asked.
    witness: Option<&'a str>,
}

#[derive(Serialize)]
struct PublishPart<'a> {
    nodes: Vec<&'a str>,
    addrs4: Vec<IpAddr>,
    addrs6: Vec<IpAddr>,
}

#[derive(Serialize)]
struct PreviousPart<'a> {
    generation: u32,
    nodes: Vec<&'a str>,
}

#[derive(Serialize)]
struct AboutPart<'a> {
    node: &'a str,
    state: &'a str,
    addrs: &'a [IpAddr],
}

#[derive(Serialize)]
struct MemberPart<'a> {
    node: &'a str,
    state: &'a str,
    app: &'a str,
    since: u64,
    addrs: &'a [IpAddr],
    published: bool,
    why: Cow<'a, str>,
}
