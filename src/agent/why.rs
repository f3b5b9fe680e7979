//! `why`: of each known address whether it is published, and what decided that.

use core::net::IpAddr;
use std::collections::BTreeSet;

use crate::agent::requests::LINE_MAX;
use crate::agent::{Agent, ClientId, OwnApp};
use crate::check::AppState;
use crate::control::text::{duration, nearest, printable};
use crate::control::{Why, WhyAddress, WhyApp, WhyJob, error_line, reply_line};
use crate::delivery::{AppSituation, HandlerStatus, Verified};
use crate::membership::{Member, State};
use crate::safety::Address;
use crate::time::Instant;
use crate::view::Instance;
use crate::wire::serf;

/// Addresses in a short reply: with the longest names and reasons it is half of [`LINE_MAX`].
const ADDRESSES_MAX: usize = 500;

impl Agent {
    pub(super) fn answer_why(&mut self, now: Instant, client: ClientId, app: Option<&str>) {
        let known = || self.apps.iter().map(|own| &*own.app.config().name);
        if let Some(name) = app.filter(|name| !known().any(|known| known == *name)) {
            let near = nearest(name, known()).map_or(String::new(), |near| format!("; did you mean {near}?"));
            let error = format!("no app {} here{near}", printable(name));
            return self.reply(client, error_line(&error));
        }
        let members: Vec<&Member> = self.membership.members().collect();
        let world = self.world(now, &members);
        let jobs = self.delivery.status(&world);
        let pairs = self.apps.iter().zip(&self.situations);
        let asked = pairs.filter(|(_, situation)| app.is_none_or(|app| *situation.name == *app));
        let why = Why {
            node: self.identity.node.to_string(),
            waiting: self.may_act.as_ref().err().map(ToString::to_string),
            short: None,
            apps: asked.map(|(own, situation)| self.why_app(now, own, situation, &jobs)).collect(),
        };
        self.reply(client, fitting(why));
    }

    fn why_app(
        &self,
        now: Instant,
        own: &OwnApp,
        situation: &AppSituation,
        jobs: &[HandlerStatus<'_>],
    ) -> WhyApp {
        let jobs = jobs.iter().filter(|job| job.app == Some(&situation.name));
        WhyApp {
            name: situation.name.to_string(),
            guard: situation.verdict.guard.as_ref().map(ToString::to_string),
            addresses: self.why_addresses(now, own, situation),
            jobs: jobs.map(|job| self.why_job(job)).collect(),
        }
    }

    /// Those of all instances, those published and those to be.
    fn why_addresses(&self, now: Instant, own: &OwnApp, situation: &AppSituation) -> Vec<WhyAddress> {
        let (shown, publish) = (own.published.as_deref(), situation.verdict.publish.as_deref());
        let entry = |addr: IpAddr, node: &str| Address { addr, node: node.into() };
        let of = |instance: &Instance| -> Vec<Address> {
            instance.addrs.iter().map(|&addr| entry(addr, &instance.node)).collect()
        };
        let mut known: BTreeSet<Address> = situation.instances.iter().flat_map(of).collect();
        for set in [shown, publish].into_iter().flatten() {
            let new = set.iter().filter(|entry| known.iter().all(|known| known.addr != entry.addr));
            let new: Vec<Address> = new.cloned().collect();
            known.extend(new);
        }
        let has = |set: Option<&[Address]>, entry: &Address| {
            set.map(|set| set.iter().any(|other| other.addr == entry.addr))
        };
        let why = |entry: &Address| WhyAddress {
            address: entry.addr.to_string(),
            node: entry.node.to_string(),
            publish: has(publish, entry),
            shown: has(shown, entry),
            why: self.why_address(now, own, situation, entry, has(publish, entry)),
        };
        known.iter().map(why).collect()
    }

    fn why_address(
        &self,
        now: Instant,
        own: &OwnApp,
        situation: &AppSituation,
        entry: &Address,
        publish: Option<bool>,
    ) -> String {
        let Some(instance) = situation.instances.iter().find(|there| there.node == entry.node) else {
            return match entry.node.is_empty() {
                true => "a fallback address of `all_down`".into(),
                false => format!("{} shows no such app any more", entry.node),
            };
        };
        let state = self.why_state(now, own, situation, instance);
        // What the states of the instances alone would come to.
        let wanted = match instance.app {
            AppState::Up if instance.member.is_running() => Some(true),
            AppState::Unknown if instance.member.is_running() => None,
            AppState::Up | AppState::Unknown if instance.member == State::Dead => None,
            _ => Some(false),
        };
        let others = situation.instances.iter().any(|there| {
            there.node != entry.node && there.member.is_running() && there.addrs.contains(&entry.addr)
        });
        if let Some((_, reason)) = situation.verdict.held.iter().find(|(held, _)| held.addr == entry.addr) {
            return format!("{state}: {reason}");
        }
        match (wanted, publish) {
            _ if others && !instance.member.is_running() => {
                format!("{state}; a running node has this address, and is judged instead")
            }
            (Some(wanted), Some(publish)) if wanted != publish => match &situation.verdict.guard {
                Some(guard) => format!("{state}, but {guard}"),
                None => state,
            },
            (None, Some(publish)) => {
                format!("{state}: stays {}", if publish { "published" } else { "unpublished" })
            }
            _ => state,
        }
    }

    /// How the instance is, and by whose word.
    fn why_state(&self, now: Instant, own: &OwnApp, situation: &AppSituation, instance: &Instance) -> String {
        let is_own = instance.node == self.identity.node;
        let age = duration(now.since(instance.since));
        if instance.member == State::Left {
            return format!("left the cluster {age} ago");
        }
        if let Some(by) = &instance.withdrawn_by {
            return format!("in maintenance, said at {by}");
        }
        let said = self.persons.overrides.of_own(&situation.name).filter(|_| is_own);
        let by = said.map(|word| &*word.by).filter(|by| !by.is_empty());
        let by = by.map_or(String::new(), |by| format!(" by {by}"));
        let app = match instance.app {
            AppState::Maint => format!("in maintenance{by}"),
            state if instance.forced => format!("forced {}{by}", state.as_str()),
            AppState::Unknown => "no verdict yet".into(),
            AppState::Up => "up".into(),
            AppState::Down if is_own => format!("down: {}", own.app.summary(now)),
            AppState::Down => "its checks say down".into(),
        };
        match instance.member {
            State::Dead => {
                let tried = situation.verified.iter().find(|tried| tried.node == instance.node);
                format!(
                    "failed {age} ago, its last word: {app}{}",
                    tried.map_or_else(String::new, |tried| verify_text(now, tried))
                )
            }
            State::Suspect => format!("{app}, suspected"),
            _ => app,
        }
    }

    fn why_job(&self, job: &HandlerStatus<'_>) -> WhyJob {
        let key = format!("h.{}.{}", job.config.name, job.app.unwrap_or_default());
        let record =
            |member: &Member| Some((member.name.to_string(), serf::tag(&member.meta, &key)?.to_owned()));
        WhyJob {
            handler: job.config.name.to_string(),
            runner: job.runner.as_deref().map(str::to_owned),
            phase: job.phase.into(),
            waits: self.waits_for(job),
            records: self.membership.members().filter_map(record).collect(),
        }
    }

    /// What a handler waits for; `None`: for nothing.
    pub(super) fn waits_for(&self, job: &HandlerStatus<'_>) -> Option<String> {
        match job.phase {
            "stuck" => Some("for a run that does not end, not even by KILL".into()),
            _ => job.waiting.map(ToString::to_string),
        }
    }
}

/// The reply, shortened if it is too long.
fn fitting(mut why: Why) -> String {
    let line = reply_line(&why);
    if line.len() <= LINE_MAX {
        return line;
    }
    shorten(&mut why);
    reply_line(&why)
}

/// Leaves out what few ask for: what each node shows of a handler's runs, and of many addresses those that are as they
/// shall be.
fn shorten(why: &mut Why) {
    let most = ADDRESSES_MAX / why.apps.len().max(1);
    for app in &mut why.apps {
        app.jobs.iter_mut().for_each(|job| job.records.clear());
        app.addresses.sort_by_key(|address| address.publish.is_some() && address.publish == address.shown);
        app.addresses.truncate(most);
    }
    why.short = Some(format!(
        "too much to be shown whole: no records, and of each app at most {most} addresses, first those that are not as \
         they shall be; `picored why APP` may show more of one app, `picored status` all instances"
    ));
}

/// Gate 5: what came of this node's tries.
fn verify_text(now: Instant, tried: &Verified) -> String {
    match tried.last {
        None => "; its endpoint is being tried".into(),
        Some((_, ended)) => {
            let age = duration(now.since(ended));
            let what = if tried.answered { "answers" } else { "does not answer" };
            format!("; its endpoint {what} (tried {age} ago)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_that_is_too_long_is_shortened_to_what_differs_first() {
        let address = |n: usize| WhyAddress {
            address: "2001:db8::1".into(),
            node: "n".repeat(128),
            publish: Some(true),
            shown: Some(n != 3_000),
            why: "y".repeat(300),
        };
        let job = WhyJob { records: vec![("n".into(), "i:1:00000000".into()); 1_000], ..WhyJob::default() };
        let app = |count: usize| WhyApp {
            addresses: (0..count).map(address).collect(),
            jobs: vec![job.clone()],
            ..WhyApp::default()
        };
        let read = |line: &str| -> Why { serde_json::from_str(line).expect("a reply") };
        let small = Why { apps: vec![app(10)], ..Why::default() };
        assert_eq!(read(&fitting(small.clone())), small);
        let line = fitting(Why { apps: vec![app(4_000), app(4_000)], ..Why::default() });
        assert!(line.len() <= LINE_MAX, "{}", line.len());
        let short = read(&line);
        assert!(short.short.is_some_and(|text| text.contains("at most 250 addresses")));
        for app in &short.apps {
            assert_eq!((app.addresses.len(), app.jobs[0].records.len()), (250, 0));
            assert_eq!(app.addresses.iter().position(|address| address.shown == Some(false)), Some(0));
        }
    }
}
