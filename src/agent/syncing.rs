//! `sync`: what each handler would be told, and who tells it.

use core::net::IpAddr;

use crate::agent::{Agent, ClientId};
use crate::control::{SyncJob, Synced, error_line, reply_line};
use crate::delivery::{Config, HandlerStatus, Mode, Place, rehearsal};
use crate::membership::Member;
use crate::safety::Address;
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
        let jobs = self.plan(now, handler, dry_run);
        if !dry_run {
            if force {
                let names = jobs.iter().map(|job| job.handler.clone());
                let names: std::collections::BTreeSet<String> = names.collect();
                names.iter().for_each(|name| self.skip_max_remove(now, name));
            }
            self.delivery.sync(now, handler);
            self.dirty = true;
        }
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

    fn plan(&self, now: Instant, handler: Option<&str>, dry_run: bool) -> Vec<SyncJob> {
        let members: Vec<&Member> = self.membership.members().collect();
        let world = self.world(now, &members);
        let jobs =
            self.delivery.status(&world).into_iter().filter(|job| {
                is_told_sets(job.config) && handler.is_none_or(|name| *job.config.name == *name)
            });
        jobs.filter_map(|job| self.plan_job(&job, dry_run)).collect()
    }

    fn plan_job(&self, job: &HandlerStatus<'_>, dry_run: bool) -> Option<SyncJob> {
        let name = job.app?;
        let situation = self.situations.iter().find(|situation| *situation.name == *name)?;
        let verdict = situation.verdict_for(&job.config.name);
        let before = self.told_by(&job.config.name, name).unwrap_or_default();
        let publish = verdict.publish.as_deref();
        let lacking = |set: &[Address], other: &[Address]| -> Vec<String> {
            let lacks = |addr: &IpAddr| other.iter().all(|entry| entry.addr != *addr);
            set.iter().map(|entry| entry.addr).filter(lacks).map(|addr| addr.to_string()).collect()
        };
        let is_one = job.config.place == Place::One;
        let is_runner = !is_one || job.runner.as_deref() == Some(&*self.identity.node);
        let text = self.what_happens(job, publish.is_some(), is_runner, dry_run);
        let can = self.can_start_runs().is_ok() && self.may_act.is_ok() && publish.is_some() && !job.gave_up;
        Some(SyncJob {
            handler: job.config.name.to_string(),
            app: name.into(),
            publish: publish.map(|set| set.iter().map(|entry| entry.addr.to_string()).collect()),
            add: publish.map(|set| lacking(set, &before)).unwrap_or_default(),
            remove: publish.map(|set| lacking(&before, set)).unwrap_or_default(),
            guard: verdict.guard.as_ref().map(ToString::to_string),
            runner: job.runner.as_deref().map(str::to_owned),
            here: can && (is_runner || !dry_run),
            text,
        })
    }

    /// What the outside is taken to show by this handler.
    pub(super) fn told_by(&self, handler: &str, app: &str) -> Option<Vec<Address>> {
        let by = self.delivery.published_by(app);
        by.into_iter().find(|(name, _)| **name == *handler).and_then(|(_, set)| set)
    }

    fn what_happens(&self, job: &HandlerStatus<'_>, has_set: bool, is_runner: bool, dry_run: bool) -> String {
        let name = &job.config.name;
        if let Err(reason) = self.can_start_runs() {
            return format!("runs nothing: {reason}");
        }
        if let Err(reason) = &self.may_act {
            return format!("runs nothing: {reason}");
        }
        match &job.runner {
            _ if !has_set => "runs nothing: no set is known to be right".into(),
            _ if job.gave_up => "runs nothing: it gave up here, until the configuration is reloaded".into(),
            _ if job.phase == "running" => "runs already; once more after that".into(),
            Some(runner) if !is_runner && dry_run => {
                format!("{runner} is the runner; `picored sync {name}` here would run it here")
            }
            Some(runner) if !is_runner => format!("runs here now, though {runner} was the runner"),
            _ if dry_run => "would run here".into(),
            _ => "runs here now".into(),
        }
    }
}

/// Whether there is a set that could be told anew.
fn is_told_sets(config: &Config) -> bool {
    config.mode == Mode::Sync
}
