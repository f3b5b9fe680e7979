//! A rehearsal: one run of a handler with PICORED_DRY_RUN=1, because a person wants to see what it would do.
//!
//! It is told what a run at this moment would be told, and nothing is concluded from how it ends: no record, no
//! failure, no P. While it lasts the handler starts no other run here.

use core::net::IpAddr;

use serde_json::Value;

use super::coalesce::{Call, Line};
use super::handler::{Handler, Running};
use super::retry::{self, Meaning};
use super::run::{Run, Telling};
use super::{
    Action, AppSituation, Config, Delivery, EventKind, MemberEvent, Mode, Occurrence, Place, RunId, World,
    serf,
};
use crate::check::AppState;
use crate::check::attempt::Exit;
use crate::membership::Member;
use crate::safety::Address;
use crate::time::Instant;
use crate::view::{self, Instance};

/// What PICORED_EVENT says if the person names no event.
const TEST: &str = "test";

/// What a person wants rehearsed.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub handler: &'a str,
    pub event: Option<EventKind>,
    /// Default: the handler's first one.
    pub app: Option<&'a str>,
    /// The node concerned; default: this one. It is a member.
    pub node: Option<&'a str>,
}

/// The one that is under way.
pub(super) struct Rehearsal {
    handler: Box<str>,
    mode: Mode,
    place: Place,
    running: Running,
}

impl Rehearsal {
    pub fn is_of(&self, handler: &Handler) -> bool {
        self.handler == handler.config.name
    }
    /// One that even KILL does not end does not count.
    pub fn is_running(&self) -> bool {
        !self.running.is_stuck()
    }
    /// When it is told to end, or killed.
    pub fn deadline(&self) -> Option<Instant> {
        self.running.deadline()
    }
}

/// How a rehearsal ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    pub handler: Box<str>,
    pub started: Instant,
    pub ok: bool,
    /// The end of what it printed, without secrets.
    pub output: String,
    /// What picored does after a run that ends so; for people.
    pub meaning: &'static str,
}

impl Delivery {
    /// Begins one; gives the run, which is also among the actions. The error says why not, for a person.
    pub fn rehearse(&mut self, now: Instant, world: &World<'_>, wanted: Wanted<'_>) -> Result<Run, String> {
        let Some(handler) = self.handlers.iter().find(|handler| *handler.config.name == *wanted.handler)
        else {
            return Err(unknown("handler", wanted.handler, self.configs().map(|config| &*config.name)));
        };
        let mut retired = self.retired.iter().filter(|retired| retired.config.name == handler.config.name);
        if handler.has_run() || retired.any(Handler::has_run) {
            return Err(format!("{} runs at this moment; try again when it has ended", wanted.handler));
        }
        if let Some(rehearsal) = &self.rehearsal {
            return Err(format!("{} is being tested already; wait for its end", rehearsal.handler));
        }
        let run = rehearsed(handler, now, world, wanted)?;
        let id = self.out.next_id;
        self.out.next_id = id.wrapping_add(1);
        let running = Running::new(id, 0, now, &handler.config);
        let (mode, place) = (handler.config.mode, handler.config.place);
        self.rehearsal = Some(Rehearsal { handler: wanted.handler.into(), mode, place, running });
        self.out.actions.push_back(Action::Run { id, run: Box::new(run.clone()) });
        Ok(run)
    }

    /// `Some` if it is the rehearsal that ended.
    pub fn rehearsal_ended(&mut self, id: RunId, exit: &Exit, output: &[u8]) -> Option<Rehearsed> {
        let Rehearsal { handler, mode, place, running } = self.rehearsal.take_if(|it| it.running.id == id)?;
        let meaning = retry::meaning(exit, running.is_timed_out());
        let text = follows(mode, place, meaning, running.is_timed_out());
        let (ok, output) = (meaning == Meaning::Done, running.said(output));
        Some(Rehearsed { handler, started: running.started, ok, output, meaning: text })
    }

    /// TERM at the handler's timeout, KILL a little later.
    pub(super) fn watch_rehearsal(&mut self, now: Instant) {
        let Some(Rehearsal { running, .. }) = &mut self.rehearsal else { return };
        if running.deadline().is_some_and(|at| at <= now) {
            let (id, signal) = (running.id, running.next_stage(now));
            self.out.actions.extend(signal.map(|signal| Action::Signal { id, signal }));
        }
    }
}

/// What picored does after a run in earnest that ended so.
fn follows(mode: Mode, place: Place, meaning: Meaning, timed_out: bool) -> &'static str {
    match (meaning, mode) {
        (Meaning::Done, Mode::Sync) => "the outside equals the set: recorded",
        (Meaning::Done, Mode::Event) => "the event is told: done with it",
        (Meaning::Done, Mode::Picored1) => "the address is told: recorded",
        (Meaning::Done, Mode::Serf) => "the event is told",
        // As Serf does it.
        (_, Mode::Serf) if timed_out => "over its timeout, so failed: not tried again",
        (_, Mode::Serf) => "failed: not tried again",
        (Meaning::Never, _) if place == Place::One => "never on this node: another one takes over",
        (Meaning::Never, _) => "never on this node: not tried again before a reload",
        (Meaning::Failed, _) if timed_out => "over its timeout, so failed: tried again later",
        (Meaning::Failed, _) => "failed: tried again later",
    }
}

/// `no handler dnss; handlers: dns, mail`
pub fn unknown<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let name: String = name.chars().flat_map(char::escape_debug).take(64).collect();
    let known: Vec<&str> = known.collect();
    let known = if known.is_empty() { "none".into() } else { known.join(", ") };
    format!("no {what} {name}; {what}s of the configuration: {known}")
}

fn rehearsed(handler: &Handler, now: Instant, world: &World<'_>, wanted: Wanted<'_>) -> Result<Run, String> {
    let config = &handler.config;
    if wanted.event.is_some() && config.mode == Mode::Sync {
        return Err(format!("{} is told sets, not events; leave --event out", config.name));
    }
    let node = wanted.node.unwrap_or(world.node);
    let member = world.members.iter().find(|member| *member.name == *node);
    let mut run = match config.mode {
        Mode::Serf => serf_run(config, world, member.copied(), wanted.event),
        _ => {
            let app = app_of(config, wanted.app)?;
            let situation = world.apps.iter().find(|known| Some(&*known.name) == app);
            let event = wanted.event.unwrap_or(EventKind::AppUp);
            let about = occurrence(event, app, node, situation, member.copied());
            told(handler, now, world, situation, about).run()
        }
    };
    mark(&mut run, wanted.event);
    Ok(run)
}

fn app_of<'a>(config: &'a Config, wanted: Option<&str>) -> Result<Option<&'a str>, String> {
    let Some(name) = wanted else { return Ok(config.apps.first().map(|app| &**app)) };
    let mut known = config.apps.iter().map(|app| &**app);
    match known.find(|app| *app == name) {
        Some(app) => Ok(Some(app)),
        None => Err(unknown("app", name, config.apps.iter().map(|app| &**app))),
    }
}

/// What the next run would be told, and nothing of it is noted.
struct Told<'a> {
    handler: &'a Handler,
    now: Instant,
    world: &'a World<'a>,
    situation: Option<&'a AppSituation>,
    publish: Vec<Address>,
    about: Occurrence,
}

fn told<'a>(
    handler: &'a Handler,
    now: Instant,
    world: &'a World<'a>,
    situation: Option<&'a AppSituation>,
    about: Occurrence,
) -> Told<'a> {
    let publish = situation.map(|situation| set(&handler.config, situation)).unwrap_or_default();
    Told { handler, now, world, situation, publish, about }
}

impl Told<'_> {
    fn run(&self) -> Run {
        let config = &self.handler.config;
        let job = self.situation.and_then(|app| self.handler.jobs().iter().find(|job| job.app == app.name));
        let lc = job.map_or(0, |job| job.ledger.record().lc);
        let is_about = matches!(config.mode, Mode::Event | Mode::Picored1);
        let is_of_app = self.about.app.is_some() || config.mode == Mode::Sync;
        let telling = Telling {
            config,
            now: self.now,
            world: self.world,
            situation: self.situation.filter(|_| is_of_app),
            reason: "manual",
            generation: lc.saturating_add(1),
            attempt: 1,
            publish: &self.publish,
            guard: self.situation.map_or("", |app| app.verdict_for(&config.name).guard()),
            previous: job.and_then(|job| Some((lc, job.outside.as_deref()?))),
            about: Some(&self.about).filter(|_| is_about),
        };
        telling.run()
    }
}

/// G; where there is none, the good ones: a rehearsal tells nobody.
fn set(config: &Config, situation: &AppSituation) -> Vec<Address> {
    if let Some(goal) = &situation.verdict_for(&config.name).publish {
        return goal.to_vec();
    }
    let of = |instance: &Instance| -> Vec<Address> {
        let address = |&addr: &IpAddr| Address { addr, node: instance.node.clone() };
        instance.addrs.iter().map(address).collect()
    };
    let mut good: Vec<Address> =
        situation.instances.iter().filter(|instance| instance.is_good()).flat_map(of).collect();
    good.sort_unstable();
    good
}

fn occurrence(
    kind: EventKind,
    app: Option<&str>,
    node: &str,
    situation: Option<&AppSituation>,
    member: Option<&Member>,
) -> Occurrence {
    let is_of_app = matches!(kind, EventKind::AppUp | EventKind::AppDown | EventKind::AppMaint);
    let instance = situation.and_then(|app| app.instances.iter().find(|there| *there.node == *node));
    let addrs = match (instance.filter(|_| is_of_app), member) {
        (Some(instance), _) => instance.addrs.clone(),
        (None, Some(member)) => view::published_by(member),
        (None, None) => Vec::new(),
    };
    let state = match kind {
        EventKind::AppUp | EventKind::NodeJoined | EventKind::Quorum => AppState::Up,
        EventKind::AppMaint => AppState::Maint,
        _ => AppState::Down,
    };
    Occurrence {
        kind,
        app: app.filter(|_| is_of_app).map(Into::into),
        node: node.into(),
        addrs,
        state,
        incarnation: member.map_or(0, |member| member.incarnation),
    }
}

/// The nearest that Serf has to the event.
fn serf_run(config: &Config, world: &World<'_>, member: Option<&Member>, event: Option<EventKind>) -> Run {
    let event = match event {
        Some(EventKind::NodeJoined) => MemberEvent::Join,
        Some(EventKind::NodeFailed) => MemberEvent::Failed,
        Some(EventKind::NodeLeft) => MemberEvent::Leave,
        _ => MemberEvent::Update,
    };
    let line = |member: &Member| Line { node: (&*member.name).into(), text: serf::line(member) };
    serf::run(config, world, &Call { event, members: member.map(line).into_iter().collect() }, 1)
}

/// Says in the environment and on stdin that this is no run in earnest.
fn mark(run: &mut Run, event: Option<EventKind>) {
    let event = event.map_or(TEST, EventKind::as_str);
    for (name, value) in &mut run.env {
        match &**name {
            "PICORED_DRY_RUN" => *value = "1".into(),
            "PICORED_EVENT" => *value = event.into(),
            _ => {}
        }
    }
    if let Ok(Value::Object(mut input)) = serde_json::from_slice(&run.stdin) {
        input.insert("dry_run".into(), true.into());
        if input.contains_key("event") {
            input.insert("event".into(), event.into());
        }
        run.stdin = serde_json::to_vec(&input).unwrap_or_default();
        run.stdin.push(b'\n');
    }
}
