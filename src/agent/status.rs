//! What `status` and `members` show.

use core::time::Duration;
use std::collections::BTreeMap;

use crate::agent::noise::Kind;
use crate::agent::tags::VERSION;
use crate::agent::{Agent, OwnApp, news};
use crate::check::attempt::Outcome;
use crate::check::{AppState, CheckStatus};
use crate::control;
use crate::delivery::{AppSituation, HandlerStatus, LastRun};
use crate::membership::{Member, State};
use crate::time::Instant;
use crate::view;
use crate::wire::{self, serf};

/// How bad something is: the exit code of `picored status`.
const DEGRADED: u8 = 1;
const CRITICAL: u8 = 2;

impl Agent {
    pub(super) fn members(&self, now: Instant) -> control::Members {
        let members = self.membership.members().map(|member| self.member(now, member)).collect();
        control::Members { members }
    }

    fn member(&self, now: Instant, member: &Member) -> control::Member {
        let apps = serf::tags(&member.meta).filter_map(|(name, value)| {
            let (state, forced) = view::parse_state(value)?;
            let name = name.strip_prefix("a.")?.to_owned();
            Some(control::MemberApp { name, state: state.as_str().into(), forced })
        });
        control::Member {
            name: member.name.to_string(),
            address: member.addr.to_string(),
            state: member.state.as_str().into(),
            since: self.wall.unix_secs(member.since),
            since_secs: now.since(member.since).as_secs(),
            incarnation: member.incarnation,
            apps: apps.collect(),
            version: serf::tag(&member.meta, "v").map(str::to_owned),
            udp_blocked: member.udp_blocked && member.state.is_running(),
            maint: self.maint_elsewhere(&member.name),
            is_self: member.name == self.identity.node,
            tags: serf::tags(&member.meta).map(|(name, value)| (name.into(), value.into())).collect(),
        }
    }

    pub(super) fn status(&mut self, now: Instant, verbose: bool) -> control::Status {
        let recent_late = self.lateness.recent_max(now);
        let members: Vec<&Member> = self.membership.members().collect();
        let world = self.world(now, &members);
        let handlers = self.delivery.status(&world);
        let apps = self.apps.iter().zip(&self.situations);
        let mut status = control::Status {
            node: self.identity.node.to_string(),
            cluster: self.identity.cluster.to_string(),
            version: VERSION.into(),
            address: self.identity.advertise.to_string(),
            uptime_secs: now.since(self.started).as_secs(),
            phase: self.ending.as_str().into(),
            waiting: self.may_act.as_ref().err().map(ToString::to_string),
            quorum: self.gates.quorum(),
            witness: self.gates.witness(),
            overrides: self.overrides_shown(now),
            state_problem: self.state_problem(),
            members: count(&members),
            apps: apps.map(|(own, situation)| self.app(now, own, situation, verbose)).collect(),
            handlers: handlers.iter().map(|handler| self.handler(now, handler, verbose)).collect(),
            rss_kib: self.rss_kib,
            descriptors: self.descriptors,
            loop_late: control::Late {
                recent_max_ms: millis(recent_late),
                max_ms: millis(self.lateness.max()),
                count: self.lateness.count(),
            },
            health_score: self.membership.health_score(),
            incarnation: self.membership.member(&self.identity.node).map_or(0, |own| own.incarnation),
            counters: verbose.then(|| self.counters()),
            ..control::Status::default()
        };
        let mut problems = self.problems(now, &members);
        problems.extend(problems_of_apps(&status.apps, &self.identity.node));
        problems.extend(problems_of_handlers(&status.handlers));
        judge(&mut status, problems);
        status
    }

    fn app(&self, now: Instant, own: &OwnApp, situation: &AppSituation, verbose: bool) -> control::App {
        let has_instance = own.app.has_instance();
        let verdict = &situation.verdict;
        let publish = verdict.publish.as_ref();
        let instances = situation.instances.iter().map(|instance| control::Instance {
            node: instance.node.to_string(),
            member: instance.member.as_str().into(),
            state: instance.app.as_str().into(),
            forced: instance.forced,
            withdrawn_by: instance.withdrawn_by.as_deref().map(str::to_owned),
            addrs: instance.addrs.iter().map(ToString::to_string).collect(),
            published: publish
                .is_some_and(|publish| publish.iter().any(|address| address.node == instance.node)),
        });
        let checks = own.app.checks().filter(|_| verbose);
        control::App {
            name: situation.name.to_string(),
            state: if has_instance { own.app.state().as_str().into() } else { "none".into() },
            forced: own.app.is_forced(),
            forced_for_secs: own.app.forced_until().map(|until| until.since(now).as_secs()),
            since: self.wall.unix_secs(own.app.since()),
            since_secs: now.since(own.app.since()).as_secs(),
            summary: if has_instance { own.app.summary(now) } else { "no checks here".into() },
            publish: publish.map(|publish| publish.iter().map(|address| address.addr.to_string()).collect()),
            guard: verdict.guard.as_ref().map(ToString::to_string),
            instances: instances.collect(),
            checks: checks.map(|check| check_status(now, &check)).collect(),
        }
    }

    fn handler(&self, now: Instant, handler: &HandlerStatus<'_>, verbose: bool) -> control::Handler {
        control::Handler {
            name: handler.config.name.to_string(),
            app: handler.app.map(str::to_owned),
            mode: handler.config.mode.as_str().into(),
            place: handler.config.place.as_str().into(),
            phase: handler.phase.into(),
            waits: self.waits_for(handler),
            runner: handler.runner.as_deref().map(str::to_owned),
            differs_for_secs: handler.differs_since.map(|since| now.since(since).as_secs()),
            failures_in_a_row: handler.failures_in_a_row,
            gave_up: handler.gave_up,
            last_run: handler.last.as_ref().map(|run| self.last_run(now, run, verbose)),
        }
    }

    fn last_run(&self, now: Instant, run: &LastRun, verbose: bool) -> control::LastRun {
        control::LastRun {
            started: self.wall.unix_secs(run.started),
            started_secs_ago: now.since(run.started).as_secs(),
            took_ms: run.ended.map(|ended| millis(ended.since(run.started))),
            ended_secs_ago: run.ended.map(|ended| now.since(ended).as_secs()),
            exit: run.exit.as_ref().map(news::exit_text),
            ok: run.ok,
            output: (verbose && !run.ok && run.ended.is_some()).then(|| run.output.to_string()),
        }
    }

    fn counters(&self) -> control::Counters {
        let counters = self.membership.counters();
        let kinds = wire::Error::KINDS.iter().zip(&counters.bad);
        control::Counters {
            packets_in: counters.packets_in,
            packets_out: counters.packets_out,
            bytes_in: counters.bytes_in,
            bytes_out: counters.bytes_out,
            streams_in: counters.streams_in,
            streams_out: counters.streams_out,
            send_errors: counters.send_errors,
            bad: kinds.map(|(kind, &count)| ((*kind).to_owned(), count)).collect::<BTreeMap<_, _>>(),
            not_allowed: counters.not_allowed,
            refused: counters.refused,
        }
    }

    /// What is not well with the node and the cluster.
    fn problems(&self, now: Instant, members: &[&Member]) -> Vec<(u8, String)> {
        let mut problems = Vec::new();
        if let Err(reason) = &self.may_act {
            problems.push((DEGRADED, format!("does not act: {reason}")));
        }
        for member in members.iter().filter(|member| member.state == State::Dead) {
            let age = crate::control::text::duration(now.since(member.since));
            problems.push((DEGRADED, format!("{} failed {age} ago", member.name)));
        }
        for member in members.iter().filter(|member| member.udp_blocked && member.state.is_running()) {
            let (name, port) = (&member.name, member.addr.port());
            problems.push((
                DEGRADED,
                format!("UDP port {port} to or from {name} is blocked (see `picored ping`)"),
            ));
        }
        if self.gates.is_past_settle() && !self.membership.is_joined() {
            let text = "not all of \"join\" was reached since the start (see event=join-failed in the log)";
            problems.push((DEGRADED, text.to_owned()));
        }
        problems.extend(self.state_problem().map(|text| (DEGRADED, text)));
        problems.extend(self.keys_problem().map(|text| (DEGRADED, text)));
        if let Some(quorum) = self.gates.quorum().filter(|quorum| !quorum.has) {
            let control::Quorum { alive, electorate, .. } = quorum;
            problems.push((CRITICAL, format!("no quorum: {alive} of {electorate} alive")));
        }
        problems.extend(self.overrides_shown(now).iter().filter_map(problem_of_override));
        problems.extend(self.persons.untold.clone().map(|text| (DEGRADED, text)));
        for kind in [Kind::Conflict, Kind::ForeignCluster] {
            problems.extend(self.noise.recent(now, kind).map(|text| (DEGRADED, text.to_owned())));
        }
        problems
    }
}

/// Sorts the problems and says the verdict in one line.
fn judge(status: &mut control::Status, mut problems: Vec<(u8, String)>) {
    problems.sort_by_key(|&(code, _)| core::cmp::Reverse(code));
    status.code = problems.first().map_or(0, |&(code, _)| code);
    status.problems = problems.into_iter().map(|(_, text)| text).collect();
    let word = match status.code {
        0 => "OK",
        DEGRADED => "WARNING",
        _ => "CRITICAL",
    };
    let well = || {
        let control::MemberCounts { known, alive, suspect, .. } = status.members;
        let apps = match status.apps.len() {
            1 => "1 app".to_owned(),
            n => format!("{n} apps"),
        };
        format!("{}: {} of {known} members alive, {apps}", status.node, alive + suspect)
    };
    let what = match status.problems.split_first() {
        None => well(),
        Some((first, [])) => first.clone(),
        Some((first, rest)) => format!("{first} (and {} more)", rest.len()),
    };
    status.summary = format!("PICORED {word} - {what}");
}

fn problems_of_apps(apps: &[control::App], node: &str) -> Vec<(u8, String)> {
    let mut problems = Vec::new();
    let down = AppState::Down.as_str();
    let own = || apps.iter().filter(|app| app.state != "none");
    if own().count() > 0 && own().all(|app| app.state == down) {
        problems.push((CRITICAL, "all apps of this node are down".to_owned()));
    }
    for app in apps {
        if let Some(guard) = &app.guard {
            problems.push((DEGRADED, format!("{}: {guard}", app.name)));
        }
        let is_running = |member: &str| member != State::Dead.as_str() && member != State::Left.as_str();
        for there in app.instances.iter().filter(|there| there.state == down && is_running(&there.member)) {
            // A check says nothing about what a person said.
            let why = match () {
                () if there.forced => ", forced".to_owned(),
                () if there.node == node => format!(": {}", app.summary),
                () => String::new(),
            };
            problems.push((DEGRADED, format!("{} is down at {}{why}", app.name, there.node)));
        }
        // Own maintenance is told with its end and its reason.
        let maint = AppState::Maint.as_str();
        for there in app.instances.iter().filter(|there| is_running(&there.member) && there.node != node) {
            if there.state == maint || there.withdrawn_by.is_some() {
                problems.push((DEGRADED, format!("{} is in maintenance at {}", app.name, there.node)));
            }
        }
    }
    problems
}

/// That an app is forced down is told where apps are told that are down.
fn problem_of_override(said: &control::Override) -> Option<(u8, String)> {
    let what = said.app.as_deref().unwrap_or("all apps");
    let by = if said.by.is_empty() { String::new() } else { format!(", said {}", said.by) };
    let left = said.for_secs.map_or(String::new(), |secs| {
        format!(" for {} more", crate::control::text::duration(Duration::from_secs(secs)))
    });
    let reason = if said.reason.is_empty() { String::new() } else { format!(": {}", said.reason) };
    let state = match said.state.as_str() {
        "maint" => "in maintenance",
        "up" => "forced up, whatever the checks say,",
        _ => return None,
    };
    Some((DEGRADED, format!("{what} at {}: {state}{left}{by}{reason}", said.node)))
}

fn problems_of_handlers(handlers: &[control::Handler]) -> Vec<(u8, String)> {
    let mut problems = Vec::new();
    for handler in handlers {
        let exit = handler.last_run.as_ref().and_then(|run| run.exit.as_deref()).unwrap_or("no exit");
        let name = match &handler.app {
            Some(app) => format!("{} for {app}", handler.name),
            None => handler.name.clone(),
        };
        if handler.gave_up {
            problems.push((CRITICAL, format!("handler {name} gave up here: {exit}")));
        } else if handler.phase == "stuck" {
            problems.push((DEGRADED, format!("handler {name} does not end, not even by KILL")));
        } else if handler.failures_in_a_row > 0 {
            let times = handler.failures_in_a_row;
            problems.push((DEGRADED, format!("handler {name} failed {times} times in a row: {exit}")));
        }
        if let Some(secs) = handler.differs_for_secs {
            let age = crate::control::text::duration(Duration::from_secs(secs));
            let runner = handler.runner.as_deref().unwrap_or("the runner");
            problems.push((
                DEGRADED,
                format!(
                    "handler {name}: for {age}, {runner} tells another set than this node would; compare the files, \
                     and `picored why` on both"
                ),
            ));
        }
    }
    problems
}

fn count(members: &[&Member]) -> control::MemberCounts {
    let of = |state: State| members.iter().filter(|member| member.state == state).count();
    control::MemberCounts {
        known: members.len(),
        alive: of(State::Alive),
        suspect: of(State::Suspect),
        failed: of(State::Dead),
        left: of(State::Left),
    }
}

fn check_status(now: Instant, check: &CheckStatus<'_>) -> control::Check {
    control::Check {
        target: check.target.to_string(),
        state: check.state.as_str().into(),
        passes: check.passes,
        fails: check.fails,
        last: check.last.map(|outcome| outcome.text().to_owned()),
        last_passed: check.last.map(Outcome::passed),
        last_secs_ago: check.last_at.map(|at| now.since(at).as_secs()),
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(name: &str, state: &str) -> control::App {
        let here = control::Instance {
            node: "fra1".into(),
            member: "alive".into(),
            state: state.into(),
            ..Default::default()
        };
        control::App { name: name.into(), state: state.into(), instances: vec![here], ..Default::default() }
    }

    fn judged(apps: Vec<control::App>, handlers: Vec<control::Handler>) -> control::Status {
        let mut problems = problems_of_apps(&apps, "fra1");
        problems.extend(problems_of_handlers(&handlers));
        let mut status = control::Status { node: "fra1".into(), apps, handlers, ..Default::default() };
        judge(&mut status, problems);
        status
    }

    #[test]
    fn the_codes_are_those_of_a_nagios_plugin() {
        let handler = |failures_in_a_row, gave_up| control::Handler {
            name: "dns".into(),
            failures_in_a_row,
            gave_up,
            ..Default::default()
        };
        assert_eq!(judged(vec![app("web", "up")], vec![handler(0, false)]).code, 0);
        assert_eq!(judged(vec![app("web", "up"), app("db", "down")], vec![]).code, 1);
        assert_eq!(judged(vec![app("web", "down"), app("db", "down")], vec![]).code, 2);
        assert_eq!(judged(vec![app("web", "up")], vec![handler(1, false)]).code, 1);
        assert_eq!(judged(vec![app("web", "up")], vec![handler(3, true)]).code, 2);
        let stuck = control::Handler { phase: "stuck".into(), ..handler(0, false) };
        assert_eq!(judged(vec![app("web", "up")], vec![stuck]).code, 1);
        assert_eq!(judged(vec![], vec![]).code, 0);
    }

    #[test]
    fn what_a_person_forced_is_not_blamed_on_a_check() {
        let mut web = app("web", "down");
        (web.forced, web.summary, web.instances[0].forced) = (true, "passed".into(), true);
        let problems = problems_of_apps(&[web, app("db", "up")], "fra1");
        assert_eq!(problems, [(DEGRADED, "web is down at fra1, forced".to_owned())]);
    }

    #[test]
    fn the_summary_names_the_worst_problem() {
        let status = judged(vec![app("web", "down")], vec![]);
        assert_eq!(status.summary, "PICORED CRITICAL - all apps of this node are down (and 1 more)");
        assert_eq!(judged(vec![], vec![]).summary, "PICORED OK - fra1: 0 of 0 members alive, 0 apps");
    }
}
