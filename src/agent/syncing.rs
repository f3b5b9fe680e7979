//! `sync`: what each handler would be told, and who tells it.

use core::net::IpAddr;

use crate::agent::{Agent, ClientId};
use crate::control::{SyncJob, Synced, error_line, reply_line};
use crate::delivery::{Config, HandlerStatus, Mode, Place, Waiting, rehearsal};
use crate::membership::Member;
use crate::safety::{Address, Addresses};
use crate::time::Instant;

impl Agent {
    /// `sync`, of one handler or all. Nobody else is told, for there is no message for it: it is run here, whoever the
    /// runner is, and its number makes this node the next one.
    pub(super) fn answer_sync(
        &mut self,
        now: Instant,
        client: ClientId,
        handler: Option<&str>,
        (dry_run, force): (bool, bool),
    ) {
        let ends = if dry_run { Ok(()) } else { self.can_start_runs() };
        if let Err(error) = ends.and_then(|()| self.can_sync(handler)) {
            return self.reply(client, error_line(&error));
        }
        let before = self.jobs_before(now);
        if !dry_run {
            let meant = self.delivery.configs().filter(|config| is_meant(config, handler));
            let meant: Vec<Box<str>> = meant.map(|config| config.name.clone()).collect();
            meant.iter().filter(|_| force).for_each(|name| self.skip_max_remove(now, name));
            self.delivery.sync(now, handler);
            // What begins by it, and what it still waits for, is known when all was looked at.
            self.dirty = true;
            self.look_again(now);
            self.store.note_change();
        }
        let jobs = self.plan(now, handler, dry_run, &before);
        self.reply(client, reply_line(&Synced { dry_run, jobs }));
    }

    fn can_sync(&self, handler: Option<&str>) -> Result<(), String> {
        let mut configs = self.delivery.configs().filter(|config| is_told_sets(config));
        let Some(name) = handler else {
            return match configs.next() {
                Some(_) => Ok(()),
                None => Err("no handler of the configuration has the mode sync".into()),
            };
        };
        if configs.any(|config| *config.name == *name) {
            return Ok(());
        }
        match self.delivery.configs().find(|config| *config.name == *name) {
            Some(config) => Err(format!(
                "{name} has the mode {}: it is told what happens, and there is nothing to tell anew",
                config.mode.as_str()
            )),
            None => {
                let known = self.delivery.configs().map(|config| &*config.name);
                Err(rehearsal::unknown("handler", name, known))
            }
        }
    }

    /// Who the runner is of each job, and whether it runs, before a person's word changes that.
    fn jobs_before(&self, now: Instant) -> Vec<Before> {
        let members: Vec<&Member> = self.membership.members().collect();
        let world = self.world(now, &members);
        let before = |job: HandlerStatus<'_>| Before {
            handler: job.config.name.clone(),
            app: job.app.map(Into::into),
            is_running: job.phase == "running",
            runner: job.runner,
        };
        self.delivery.status(&world).into_iter().map(before).collect()
    }

    fn plan(&self, now: Instant, handler: Option<&str>, dry_run: bool, before: &[Before]) -> Vec<SyncJob> {
        let members: Vec<&Member> = self.membership.members().collect();
        let world = self.world(now, &members);
        let jobs = self.delivery.status(&world).into_iter().filter(|job| is_meant(job.config, handler));
        let was = |job: &HandlerStatus<'_>| {
            before.iter().find(|was| was.handler == job.config.name && was.app.as_deref() == job.app)
        };
        jobs.filter_map(|job| self.plan_job(&job, dry_run, was(&job)?)).collect()
    }

    fn plan_job(&self, job: &HandlerStatus<'_>, dry_run: bool, was: &Before) -> Option<SyncJob> {
        let name = job.app?;
        let situation = self.situations.iter().find(|situation| *situation.name == *name)?;
        let verdict = situation.verdict_for(&job.config.name);
        let told = self.told_by(&job.config.name, name);
        let shown = told.as_deref().unwrap_or_default();
        let publish = verdict.publish.as_deref();
        let lacking = |set: &[Address], other: &[Address]| -> Vec<String> {
            let lacks = |addr: &IpAddr| other.iter().all(|entry| entry.addr != *addr);
            set.iter().map(|entry| entry.addr).filter(lacks).map(|addr| addr.to_string()).collect()
        };
        let happens = self.what_happens(job, publish.is_some(), was, dry_run);
        let (here, mut text) = match happens {
            Ok(text) => (true, text),
            Err(text) => (false, text),
        };
        let is_said = matches!(job.waiting, Some(Waiting::Unseen(_)));
        if told.is_none() && publish.is_some() && !is_said {
            text.push_str(" (it is not known what is published, so all of the set counts as added)");
        }
        Some(SyncJob {
            handler: job.config.name.to_string(),
            app: name.into(),
            publish: publish.map(|set| set.iter().map(|entry| entry.addr.to_string()).collect()),
            add: publish.map(|set| lacking(set, shown)).unwrap_or_default(),
            remove: publish.map(|set| lacking(shown, set)).unwrap_or_default(),
            guard: verdict.guard.as_ref().map(ToString::to_string),
            runner: was.runner.as_deref().map(str::to_owned),
            here,
            text,
        })
    }

    /// What the outside is taken to show by this handler.
    pub(super) fn told_by(&self, handler: &str, app: &str) -> Option<Addresses> {
        let by = self.delivery.published_by(app);
        by.into_iter().find(|(name, _)| **name == *handler).and_then(|(_, set)| set)
    }

    /// What comes of it here; `Err`: nothing. In words for a person.
    fn what_happens(
        &self,
        job: &HandlerStatus<'_>,
        has_set: bool,
        was: &Before,
        dry_run: bool,
    ) -> Result<String, String> {
        self.can_start_runs().map_err(|reason| format!("runs nothing: {reason}"))?;
        self.may_act.as_ref().map_err(|reason| format!("runs nothing: {reason}"))?;
        if !has_set {
            return Err("runs nothing: no set is known to be right".into());
        }
        // Without a wait a person's word makes each job run, but for one that is never to be tried here.
        let is_idle = !dry_run && job.phase == "idle" && job.waiting.is_none();
        if is_idle || matches!(job.waiting, Some(Waiting::GaveUp)) {
            return Err("runs nothing: it gave up here, until the configuration is reloaded".into());
        }
        let is_one = job.config.place == Place::One;
        let other = was.runner.as_deref().filter(|runner| is_one && **runner != *self.identity.node);
        match (dry_run, job.waiting) {
            _ if job.phase == "stuck" => Ok("runs here when the run is over that not even KILL ends".into()),
            _ if was.is_running => Ok("runs already; once more after that".into()),
            (true, _) if let Some(runner) = other => {
                let name = &job.config.name;
                Err(format!("{runner} is the runner; `picored sync {name}` here would run it here"))
            }
            (true, Some(Waiting::Unseen(unseen))) => Ok(format!("would run here all the same: {unseen}")),
            (true, Some(waiting)) if !waiting.is_skipped_by_a_person() => {
                Ok(format!("would run here when this is over: {waiting}"))
            }
            (true, _) => Ok("would run here".into()),
            (false, Some(waiting)) => Ok(format!("runs here when this is over: {waiting}")),
            (false, None) if job.phase != "running" => Ok("runs here next".into()),
            (false, None) => match other {
                Some(runner) => Ok(format!("runs here now, though {runner} was the runner")),
                None => Ok("runs here now".into()),
            },
        }
    }
}

/// What was so of a job before a person's word.
struct Before {
    handler: Box<str>,
    app: Option<Box<str>>,
    is_running: bool,
    runner: Option<Box<str>>,
}

/// Whether it is this one (`None`: any) and there is a set that could be told anew.
fn is_meant(config: &Config, handler: Option<&str>) -> bool {
    is_told_sets(config) && handler.is_none_or(|name| *config.name == *name)
}

/// Whether there is a set that could be told anew.
fn is_told_sets(config: &Config) -> bool {
    config.mode == Mode::Sync
}
