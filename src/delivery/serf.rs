//! Mode `serf`: a script that was written for `serf agent -event-handler` gets the same variables and the same bytes on
//! stdin (Serf's invoke.go), besides picored's own variables and its clean environment.
//!
//! As in Serf, a run that fails is not repeated: such scripts are not written to be told the same thing twice, and
//! the next call must not wait for it. It is logged, and `status` counts it until a run succeeds. What must not be
//! missed belongs in a `sync` handler.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use super::coalesce::{Call, Flushed};
use super::handler::{Around, Out, Turn, runner};
use super::job::Step;
use super::ledger::{Kind, Ledger};
use super::record::State;
use super::retry::Meaning;
use super::run::Run;
use super::{Config, HandlerStatus, LastRun, Place, ReportKind, World};
use crate::check::attempt::Exit;
use crate::limits::{HANDLER_QUEUE_MAX, SERF_LINES_MAX};
use crate::membership::Member;
use crate::time::Instant;
use crate::wire::serf;

/// The calls that one handler has before it.
pub struct Calls {
    /// The tag `h.HANDLER`, shown with `where` `one`: whether this node can act. Runs are not in it, for a tag that
    /// changes would be a change of a member, and so the next call.
    ledger: Ledger,
    waiting: VecDeque<Call>,
    /// Members in `waiting`.
    lines: usize,
    /// Members not told of since the last report.
    dropped: u32,
    running: bool,
    runs: u32,
    failures: u32,
    last: Option<LastRun>,
    phase: &'static str,
}

impl Calls {
    pub fn new(config: &Config) -> Self {
        Self {
            ledger: Ledger::new(format!("h.{}", config.name), Kind::Event),
            waiting: VecDeque::new(),
            lines: 0,
            dropped: 0,
            running: false,
            runs: 0,
            failures: 0,
            last: None,
            phase: "idle",
        }
    }

    /// Takes what just happened, and says whether a call is ready.
    pub fn step(&mut self, turn: &mut Turn<'_>, around: Around<'_>) -> Step {
        let config = around.config;
        self.ledger.state = if around.not_able { State::NotAble } else { State::Able };
        self.take(turn.flushed, turn.world, config);
        if self.dropped > 0 {
            turn.out.report(config, None, ReportKind::Dropped { count: self.dropped });
            self.dropped = 0;
        }
        self.phase = match () {
            () if self.running => {
                if around.stuck {
                    "stuck"
                } else {
                    "running"
                }
            }
            () if !self.waiting.is_empty() => "waiting",
            () => "idle",
        };
        if self.waiting.is_empty() { Step::Idle } else { Step::Ready }
    }

    /// With `one` the runner of this moment tells it; nobody notes what another one did not get to.
    fn take(&mut self, flushed: &Flushed, world: &World<'_>, config: &Config) {
        let acts = || world.may_act.is_ok() && self.runner(world, config) == Some(world.node);
        if flushed.calls.is_empty() && flushed.dropped == 0 || config.place == Place::One && !acts() {
            return;
        }
        self.dropped = self.dropped.saturating_add(flushed.dropped);
        for call in &flushed.calls {
            if !config.member_events.is_empty() && !config.member_events.contains(&call.event) {
                continue;
            }
            let mut call = call.clone();
            if config.place == Place::SelfOnly {
                call.members.retain(|line| *line.node == *world.node);
            }
            if !call.members.is_empty() {
                self.lines += call.members.len();
                self.waiting.push_back(call);
            }
        }
        while self.waiting.len() > HANDLER_QUEUE_MAX || self.lines > SERF_LINES_MAX {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.lines -= oldest.members.len();
            // Bounded by SERF_LINES_MAX and one window.
            self.dropped =
                self.dropped.saturating_add(u32::try_from(oldest.members.len()).unwrap_or(u32::MAX));
        }
    }

    /// Starts the run that [`Calls::step`] said is ready.
    pub fn start(&mut self, turn: &mut Turn<'_>, config: &Config) -> Option<Run> {
        let call = self.waiting.pop_front()?;
        self.lines -= call.members.len();
        self.runs = self.runs.saturating_add(1);
        let reason = call.event.as_str();
        turn.out.report(config, None, ReportKind::Started { reason, attempt: 1, publish: Vec::new() });
        (self.running, self.phase) = (true, "running");
        self.last = Some(LastRun::begun(turn.now));
        Some(run(config, turn.world, &call, self.runs))
    }

    pub fn ended(&mut self, now: Instant, config: &Config, meaning: Meaning, last: LastRun, out: &mut Out) {
        self.running = false;
        if meaning == Meaning::Done {
            self.failures = 0;
            out.report(config, None, ReportKind::Succeeded { took: now.since(last.started) });
        } else {
            self.failures = self.failures.saturating_add(1);
            let exit = last.exit.clone().unwrap_or(Exit::Code(0));
            let output = last.output.clone();
            out.report(config, None, ReportKind::Failed { exit, output, retry_in: None });
        }
        self.last = Some(last);
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The tag `h.HANDLER`.
    pub fn tag(&self) -> (String, String) {
        (self.ledger.key.to_string(), self.ledger.record().to_string())
    }

    fn runner<'a>(&self, world: &World<'a>, config: &Config) -> Option<&'a str> {
        runner(config, &self.ledger, world)
    }

    pub fn status<'a>(&'a self, config: &'a Config, world: &World<'_>) -> HandlerStatus<'a> {
        let one = config.place == Place::One;
        HandlerStatus {
            config,
            app: None,
            runner: self.runner(world, config).filter(|_| one).map(Into::into),
            phase: self.phase,
            waiting: None,
            last: self.last.clone(),
            failures_in_a_row: self.failures,
            differs_since: None,
            gave_up: false,
        }
    }
}

/// The line of a member on stdin: name, address without the port, the tag `role`, all tags (Serf's
/// `memberEventStdin`). Tags are passed on byte for byte, be they text or not. Serf's are in an order by chance, these
/// are sorted by name.
pub fn line(member: &Member) -> Rc<[u8]> {
    let tags: BTreeMap<&[u8], &[u8]> = serf::raw_tags(&member.meta).collect();
    let pairs: Vec<Vec<u8>> = tags.iter().map(|(name, value)| [*name, b"=", value].concat()).collect();
    let role = tags.get(&b"role"[..]).copied().unwrap_or_default();
    let addr = member.addr.ip().to_canonical().to_string();
    let fields =
        [&escaped(member.name.as_bytes()), addr.as_bytes(), &escaped(role), &escaped(&pairs.join(&b','))];
    let mut line = fields.join(&b'\t');
    line.push(b'\n');
    line.into()
}

/// Serf's `eventClean`: nothing else is escaped, not even a backslash.
fn escaped(text: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            b'\t' => escaped.extend(b"\\t"),
            b'\n' => escaped.extend(b"\\n"),
            _ => escaped.push(*byte),
        }
    }
    escaped
}

pub fn run(config: &Config, world: &World<'_>, call: &Call, generation: u32) -> Run {
    let own = environment(config, world, call, generation);
    let is_own = |name: &str| name.starts_with("PICORED_") || own.iter().any(|(own, _)| **own == *name);
    let mut env: Vec<_> = config.env.iter().filter(|(name, _)| !is_own(name)).cloned().collect();
    env.extend(own);
    Run {
        handler: config.name.clone(),
        argv: config.run.clone(),
        env,
        stdin: call.members.iter().flat_map(|line| line.text.iter().copied()).collect(),
        user: config.user.clone(),
    }
}

/// Serf's variables and picored's. Own tags are as they are now, members as they were when it happened: so it is in
/// Serf.
fn environment(
    config: &Config,
    world: &World<'_>,
    call: &Call,
    generation: u32,
) -> Vec<(Box<str>, Box<str>)> {
    let own = world.members.iter().find(|member| &*member.name == world.node);
    let tags: BTreeMap<&str, &str> = own.into_iter().flat_map(|own| serf::tags(&own.meta)).collect();
    // Two tags may have one variable.
    let mut variables: BTreeMap<String, &str> =
        tags.iter().map(|(name, value)| (tag_variable(name), *value)).collect();
    let generation = generation.to_string();
    let event = call.event.as_str();
    for (name, value) in [
        ("SERF_EVENT", event),
        ("SERF_SELF_NAME", world.node),
        ("SERF_SELF_ROLE", tags.get("role").copied().unwrap_or_default()),
        ("PICORED_MODE", config.mode.as_str()),
        ("PICORED_EVENT", event),
        ("PICORED_APP", ""),
        ("PICORED_REASON", "change"),
        ("PICORED_GENERATION", &generation),
        ("PICORED_ATTEMPT", "1"),
        ("PICORED_SELF", world.node),
        ("PICORED_CLUSTER", world.cluster),
        ("PICORED_DRY_RUN", "0"),
    ] {
        variables.insert(name.into(), value);
    }
    variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// Serf's name for the variable of a tag: upper case, and `_` for what is then no letter of ASCII, digit or `_`.
fn tag_variable(tag: &str) -> String {
    let fit = |c: char| {
        let mut upper = c.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(c), None) if c.is_ascii_alphanumeric() => c,
            _ => '_',
        }
    };
    format!("SERF_TAG_{}", tag.chars().map(fit).collect::<String>())
}
