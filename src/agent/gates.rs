//! The gates joined: what they look at is put together here, and what they want tried is handed out.

use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::agent::attempts::Owner;
use crate::agent::{Action, Agent, OwnApp, news};
use crate::check::AppState;
use crate::check::attempt::Outcome;
use crate::control::{self, target_text};
use crate::delivery::record::Record;
use crate::delivery::{AppSituation, EventKind, Occurrence, Place, Verified, World};
use crate::membership::{self, JoinEntry, Member, State};
use crate::safety::doubt::Doubt;
use crate::safety::electorate::{Electorate, Target, View, Voter, Votes};
use crate::safety::max_remove::{WINDOW, Window};
use crate::safety::quorum::{Proof, Quorum, may_withdraw};
use crate::safety::settle::Settle;
use crate::safety::table::{Case, Tried, decide};
use crate::safety::verify::{Key, Last, Step, Tries, VERIFY_EVERY, Wanted};
use crate::safety::{self, Address, Addresses, OnNoQuorum, Reason, Verdict};
use crate::time::{Instant, earliest};
use crate::view::{self, Instance};
use crate::wire::serf;

/// A witness is asked so often while there is no majority, and while there is one.
const WITNESS_EVERY: Duration = Duration::from_secs(10);
/// See [`WITNESS_EVERY`].
const WITNESS_EVERY_IDLE: Duration = Duration::from_secs(60);
/// So long an answer of a witness counts.
const WITNESS_COUNTS: Duration = Duration::from_secs(30);

/// What is known of the outside of one app, by a handler's runs.
struct Known<'a> {
    /// P.
    published: Option<&'a Addresses>,
    /// See [`Case::learns`].
    learns: bool,
    /// See [`Case::released`].
    released: bool,
}

/// All gates of this node, and what they remember.
pub struct Gates {
    config: safety::Config,
    /// `members` of the configuration.
    expected: Vec<Box<str>>,
    started: Instant,
    settle: Settle,
    doubt: Doubt,
    electorate: Electorate,
    votes: Votes,
    quorum: Quorum,
    tries: Tries,
    /// Gate 3 for people: `2/3`; empty without witnesses.
    witness: String,
    /// The loop came round too late since the last look.
    is_late: bool,
    /// Gate 1 was open once: what comes now is news.
    has_settled: bool,
    may_withdraw: bool,
    /// The quorum that people were told of last; `None`: nothing yet.
    told_quorum: Option<bool>,
    /// Gate 8 of each app, and of each of its handlers where there are several.
    windows: BTreeMap<(Box<str>, Box<str>), Window>,
    /// Handlers whose next success gate 8 does not hinder, until then at the latest.
    forced: Vec<(Box<str>, Instant)>,
    /// (app, node) that failed but serve on, as people were told.
    serving: BTreeSet<(Box<str>, Rc<str>)>,
}

impl Gates {
    pub fn new(
        config: safety::Config,
        membership: &membership::Config,
        saved: safety::Saved,
        now: Instant,
    ) -> Self {
        Self {
            settle: Settle::new(now + config.settle),
            doubt: Doubt::new(membership.timing.probe_interval),
            electorate: Electorate::restore(saved),
            expected: membership.members.clone(),
            config,
            started: now,
            votes: Votes::default(),
            quorum: Quorum::default(),
            tries: Tries::default(),
            witness: String::new(),
            is_late: false,
            has_settled: false,
            may_withdraw: false,
            told_quorum: None,
            windows: BTreeMap::new(),
            forced: Vec::new(),
            serving: BTreeSet::new(),
        }
    }

    /// What the state file keeps.
    pub fn saved(&self) -> safety::Saved {
        self.electorate.saved()
    }

    /// The configuration was read anew.
    pub fn reconfigure(&mut self, config: safety::Config, expected: &[Box<str>]) {
        self.config = config;
        self.expected = expected.to_vec();
    }

    pub fn next_deadline(&self) -> Option<Instant> {
        earliest([
            self.settle.next_deadline(),
            self.doubt.next_deadline(),
            self.electorate.next_deadline(),
            self.quorum.next_deadline(),
            self.tries.next_deadline(),
        ])
    }

    /// The loop came round too late: gate 2.
    pub fn was_late(&mut self, now: Instant) {
        self.is_late = true;
        self.electorate.slept(now);
    }
    /// A push/pull went well.
    pub fn synced(&mut self) {
        self.settle.synced();
    }
    /// A member was forgotten.
    pub fn forget(&mut self, node: &str) {
        self.electorate.drop(node);
    }
    /// Past gate 1 at some time since the start.
    pub fn has_settled(&self) -> bool {
        self.has_settled
    }
    /// Peers were reached since the start, or `settle` is over.
    pub fn is_past_settle(&self) -> bool {
        !self.settle.is_first()
    }
    /// Gate 4 for `status`; `None`: it is off. What speaks for acting without a majority does not count here.
    pub fn quorum(&self) -> Option<control::Quorum> {
        let votes = &self.votes;
        let quorum = || control::Quorum {
            has: self.told_quorum.unwrap_or(votes.has_majority()),
            alive: votes.alive,
            electorate: votes.voters,
        };
        self.config.quorum.then(quorum)
    }
    /// Gate 3 for people: `2/3`; `None` without witnesses.
    pub fn witness(&self) -> Option<String> {
        (!self.witness.is_empty()).then(|| self.witness.clone())
    }
    /// A run is to be started: fresh tries are wanted.
    pub fn refresh(&mut self, now: Instant, app: &str, since: Instant) {
        self.tries.refresh(now, app, since);
    }

    /// What delivery must know of them besides `may_act`.
    pub fn complete<'a>(&'a self, world: World<'a>) -> World<'a> {
        World {
            may_withdraw: self.may_withdraw,
            unseen: self.votes.unseen.as_deref(),
            witness: &self.witness,
            ..world
        }
    }

    /// Gates 5 to 7 for one P, and 8 if this node `may_act`. `handler`: whose P; empty: all handlers' together.
    #[expect(clippy::too_many_arguments, reason = "all of it decides")]
    fn decide(
        &mut self,
        now: Instant,
        me: &str,
        own: &OwnApp,
        instances: &[Instance],
        handler: &str,
        known: Known<'_>,
        is_told: impl FnOnce(&[Address]) -> bool,
        may_act: bool,
    ) -> Verdict {
        let Known { published, learns, released } = known;
        let app = &own.app.config().name;
        let tries = &self.tries;
        let tried = |i: &Instance| match (&own.policy.verify, last_try(tries, app, i)) {
            (None, _) => Tried::Failed,
            (Some(_), None) => Tried::Not,
            (Some(_), Some(last)) if last.answered => Tried::Answered,
            (Some(_), Some(_)) => Tried::Failed,
        };
        let node_down_after = self.config.node_down_after;
        let policy = &own.policy;
        let case = Case {
            now,
            me,
            instances,
            published: published.map(|set| &**set),
            learns,
            released,
            policy,
            node_down_after,
            tried: &tried,
        };
        let mut verdict = decide(&case);
        if self.config.on_no_quorum != OnNoQuorum::WithdrawSelf {
            verdict.withdraw = None;
        }
        // One set in memory, not one more like it.
        if let Some(same) = published.filter(|set| verdict.publish.as_ref() == Some(set)) {
            verdict.publish = Some(same.clone());
        }
        let percent = self.config.max_remove.filter(|_| !self.is_forced(now, own, handler));
        let window = self.windows.entry((app.clone(), handler.into())).or_default();
        // What is seen before this node may act is no measure of what it takes away.
        match may_act {
            true => window.apply(now, percent, case.published, is_told, &mut verdict),
            false => window.pause(now),
        }
        verdict
    }

    fn is_forced(&self, now: Instant, own: &OwnApp, handler: &str) -> bool {
        self.forced.iter().filter(|(_, until)| *until > now).any(|(forced, _)| {
            let is_of_app = || own.told_by.iter().any(|name| name == forced);
            // With one handler there is only the verdict of all.
            **forced == *handler || (handler.is_empty() && is_of_app())
        })
    }

    /// `handler` told `app` with success: what a person forced is done.
    pub fn succeeded(&mut self, handler: &str, app: &str) {
        let before = self.forced.len();
        self.forced.retain(|(forced, _)| **forced != *handler);
        if self.forced.len() < before {
            let of_app = self.windows.iter_mut().filter(|((of, _), _)| **of == *app);
            of_app.for_each(|(_, window)| window.forgive());
        }
    }
}

/// The last try of the failed node's endpoint since it failed.
fn last_try(tries: &Tries, app: &str, i: &Instance) -> Option<Last> {
    let last = tries.last(&Key::Node { app: app.into(), node: i.node.clone() });
    last.filter(|last| last.began >= i.since)
}

impl Agent {
    /// Gates 1 to 4 of now.
    pub(super) fn look_at_gates(&mut self, now: Instant) {
        self.gates.tries.handle_timeout(now);
        self.watch_evidence(now);
        self.count_votes(now);
        // Who is the join target of all others has none itself, and knows nobody at first.
        let joined = self.membership.is_joined() && self.membership.knows_somebody();
        let has_majority = !self.gates.config.quorum || self.gates.votes.has_majority();
        self.gates.settle.update(now, joined, has_majority);
        let quorum = self.gate_quorum(now);
        // Later, an app that a reload brought holds nothing but its own jobs.
        let silent = self.apps.iter().find(|own| own.is_silent() && !self.gates.has_settled);
        let settled = self.gates.settle.gate(silent.map(|own| &*own.app.config().name));
        let first = settled.is_ok() && !self.gates.has_settled;
        self.gates.has_settled |= first;
        let node = settled.and_then(|()| self.gates.doubt.gate());
        let withdraws = self.gates.config.on_no_quorum == OnNoQuorum::WithdrawSelf;
        self.gates.may_withdraw = node.is_ok() && withdraws && may_withdraw(&quorum, &self.gates.votes);
        self.tell_quorum(now, &quorum);
        let may_act = node.and(quorum);
        match (&self.may_act, &may_act) {
            // A suspicion comes and goes, and is told as such.
            (Err(Reason::Suspecting { .. }), Ok(())) if !first => {}
            (Err(_), Ok(())) => self.tell(news::gates_open(now, joined, first)),
            (before, Err(reason)) if self.is_news(before, reason, first) => {
                self.tell(news::gates_closed(now, reason));
            }
            _ => {}
        }
        self.may_act = may_act;
    }

    /// Whether people are told that the gates are closed for `reason`. Of no quorum they are told in another way.
    fn is_news(&self, before: &Result<(), Reason>, reason: &Reason, first: bool) -> bool {
        let is_other = before.as_ref().err().is_none_or(|before| first || !before.is_like(reason));
        let is_passing = matches!(reason, Reason::Suspecting { .. });
        is_other && self.gates.has_settled && !reason.is_no_quorum() && !is_passing
    }

    /// Gate 2's evidence. What is in its way may end, or begin, without any other news.
    pub(super) fn watch_evidence(&mut self, now: Instant) {
        let evidence = self.membership.evidence(now);
        let before = self.gates.doubt.gate().is_ok();
        let late = core::mem::take(&mut self.gates.is_late);
        self.gates.doubt.update(now, &evidence, late);
        self.dirty |= before != self.gates.doubt.gate().is_ok();
    }

    fn count_votes(&mut self, now: Instant) {
        let me = &self.identity.node;
        let voter = |member: &'_ Member| member.name == *me || (member.state.is_running() && member.heard);
        let members: Vec<Voter<'_>> = self
            .membership
            .members()
            .map(|member| Voter {
                name: &member.name,
                alive: voter(member),
                suspect: member.state == State::Suspect,
                left: member.state == State::Left,
            })
            .collect();
        let targets: Vec<Target> =
            self.membership.join_entries().map(|entry| self.join_entry(&entry)).collect();
        // Who was forgotten has no vote after a restart either, though the file still expects it.
        let expected = self.gates.expected.iter().filter(|node| !self.membership.is_forgotten(now, node));
        let expected: Vec<Box<str>> = expected.cloned().collect();
        // What a node sees while it doubts itself may be its own fault.
        if self.gates.doubt.gate().is_err() {
            self.gates.electorate.slept(now);
        }
        let view = View {
            me,
            members: &members,
            expected: &expected,
            targets: &targets,
            has_record: self.has_record(),
        };
        self.gates.votes = self.gates.electorate.update(now, &view);
    }

    /// One that was reached, or leads to a member, votes under its name.
    fn join_entry(&self, entry: &JoinEntry<'_>) -> Target {
        let is_at = |member: &&Member| *entry.target == membership::Target::Addr(member.addr);
        let named =
            entry.member.or_else(|| self.membership.members().find(is_at).map(|member| &*member.name));
        match named {
            Some(name) => Target::Reached(name.into()),
            None => Target::Never(target_text(entry.target).into()),
        }
    }

    /// Some run of a `one` handler is known, with what it told, or there are none such here.
    fn has_record(&self) -> bool {
        let is_record = |(name, value): (&str, &str)| {
            // `h.HANDLER` alone is an event handler's: that says nothing of what is published.
            name.strip_prefix("h.").is_some_and(|name| name.contains('.'))
                && Record::parse(value).is_some_and(|record| record.lc > 0)
        };
        let shows = |member: &Member| serf::tags(&member.meta).any(is_record);
        // Who does not know yet what was published must not take those for gone whom it would take away.
        let learns = || self.apps.iter().any(|own| self.delivery.learns("", &own.app.config().name));
        !self.has_one_handlers || (self.membership.members().any(shows) && !learns())
    }

    /// Gates 3 and 4.
    fn gate_quorum(&mut self, now: Instant) -> Result<(), Reason> {
        let gates = &mut self.gates;
        let untried = gates.tries.witnesses_untried();
        let tries = &gates.tries;
        let witnesses = |since: Instant| tries.witnesses_since(since.max(now - WITNESS_COUNTS));
        let apps = &self.apps;
        let tried = |node: &str| {
            let keys =
                apps.iter().map(|own| Key::Node { app: own.app.config().name.clone(), node: node.into() });
            let wanted: Vec<Option<Last>> =
                keys.filter(|key| tries.is_wanted(key)).map(|key| tries.last(&key)).collect();
            // One that answers is enough, and all must have been tried before none does.
            let answers = wanted.iter().flatten().find(|last| last.answered).copied();
            match answers {
                Some(last) => Some(Some(last)),
                None => wanted.into_iter().min_by_key(Option::is_some),
            }
        };
        let proof = Proof { witnesses: &witnesses, untried, tried: &tried };
        let found = gates.quorum.gate(now, &gates.config, &gates.votes, &proof);
        let shown = match gates.quorum.lost_since() {
            Some(since) => witnesses(since),
            None => tries.witnesses_since(now - 2 * WITNESS_EVERY_IDLE),
        };
        gates.witness = match gates.config.witness.len() {
            0 => String::new(),
            all => format!("{shown}/{all}"),
        };
        found
    }

    /// `quorum` and `no-quorum`, once this node has settled. What is undecided yet is no news.
    fn tell_quorum(&mut self, now: Instant, quorum: &Result<(), Reason>) {
        let has = match quorum {
            Ok(()) => true,
            Err(reason) if reason.is_no_quorum() => false,
            Err(_) => return,
        };
        if !self.gates.has_settled || self.gates.told_quorum == Some(has) {
            return;
        }
        let first = self.gates.told_quorum.replace(has).is_none();
        if first && has {
            return;
        }
        self.tell(news::of_quorum(now, quorum));
        let Some(member) = self.membership.member(&self.identity.node) else { return };
        let occurrence = Occurrence {
            kind: if has { EventKind::Quorum } else { EventKind::NoQuorum },
            app: None,
            node: self.identity.node.clone(),
            addrs: view::published_by(member),
            state: if has { AppState::Up } else { AppState::Down },
            incarnation: member.incarnation,
        };
        self.delivery.handle_occurrence(now, &occurrence);
        self.dirty = true;
    }

    /// Instances, gates and P of every app.
    pub(super) fn weigh(&mut self, now: Instant) {
        let may_act = self.may_act.is_ok();
        let mut told = Vec::new();
        let mut situations = core::mem::take(&mut self.situations);
        situations.clear(); // before new ones are made: a large cluster's are large
        for own in &mut self.apps {
            let name = own.app.config().name.clone();
            let instances = view::instances(&name, self.membership.members());
            let me = &self.identity.node;
            // What was forgotten by a person's word, or after it left, no gate keeps, unless it is another's by now: a node
            // that was renamed.
            let is_held = |address: &Address| instances.iter().any(|i| i.addrs.contains(&address.addr));
            let known = |published: &Option<Addresses>| -> Option<Addresses> {
                let is_known =
                    |address: &Address| !self.membership.is_forgotten(now, &address.node) || is_held(address);
                let published = published.as_ref()?;
                Some(match published.iter().all(is_known) {
                    true => published.clone(),
                    false => published.iter().filter(|address| is_known(address)).cloned().collect(),
                })
            };
            let mut decide = |handler: &str, published: Option<&Addresses>| {
                let released = self.delivery.is_released(now, handler, &name);
                let learns = published.is_none() && self.delivery.learns(handler, &name);
                let known = Known { published, learns, released };
                let is_told = |set: &[Address]| self.delivery.has_told(handler, &name, set);
                self.gates.decide(now, me, own, &instances, handler, known, is_told, may_act)
            };
            let verdict = decide("", known(&own.published).as_ref());
            let of_handlers = own.published_by.iter();
            let of_handlers = of_handlers
                .map(|(handler, published)| (handler.clone(), decide(handler, known(published).as_ref())))
                .collect();
            // Before this node may act, a guard holds nothing that would not be held anyway.
            if may_act && own.guard != verdict.guard {
                told.push(news::of_guard(now, &name, verdict.guard.as_ref()));
                own.guard = verdict.guard.clone();
            }
            if let Some(publish) = verdict.publish.as_ref().filter(|_| may_act) {
                if own.goal.as_ref() != Some(publish) {
                    told.push(news::published(now, &name, publish));
                }
                own.goal = Some(publish.clone());
            }
            let why = match own.app.has_instance() {
                true => vec![(me.clone(), own.app.summary(now))],
                false => Vec::new(),
            };
            situations.push(AppSituation {
                held: own.is_silent().then(|| Reason::NoVerdictHere { app: name.clone() }),
                name,
                instances,
                verdict,
                of_handlers,
                why,
                verified: Vec::new(),
            });
        }
        self.situations = situations;
        told.into_iter().for_each(|event| self.tell(event));
        self.want_tries(now);
        self.tell_serving(now);
    }

    /// Says what is to be tried, and what is known of it.
    fn want_tries(&mut self, now: Instant) {
        let mut wanted = self.witnesses();
        for (own, situation) in self.apps.iter().zip(&self.situations) {
            let Some(verify) = &own.policy.verify else { continue };
            let missing = self.is_half().then_some(&self.gates.votes.missing);
            let is_missing =
                |node: &str| missing.is_some_and(|missing| missing.iter().any(|name| **name == *node));
            let learns = self.learns(own);
            let asked = situation.instances.iter().filter(|i| {
                (i.may_still_serve() && (learns || is_shown(own, situation, i))) || is_missing(&i.node)
            });
            for i in asked {
                let targets: Vec<_> = own_addrs(situation, i).map(|addr| verify.target(addr)).collect();
                if !targets.is_empty() {
                    let key = Key::Node { app: situation.name.clone(), node: i.node.clone() };
                    wanted.push(Wanted { key, since: i.since, targets, every: VERIFY_EVERY });
                }
            }
            // An entry of `join` that was never reached is tried at its host; with a name that cannot be looked up there is
            // nowhere to try, but somebody may be there.
            for entry in self.membership.join_entries().filter(|_| missing.is_some()) {
                if let Target::Never(node) = self.join_entry(&entry)
                    && is_missing(&node)
                {
                    let key = Key::Node { app: situation.name.clone(), node: node.into() };
                    let hosts = entry.addrs.iter().map(|addr| addr.ip().to_canonical());
                    let targets = hosts.map(|addr| verify.target(addr)).collect();
                    wanted.push(Wanted { key, since: self.gates.started, targets, every: VERIFY_EVERY });
                }
            }
        }
        self.gates.tries.want(now, wanted);
        let learns: Vec<bool> = self.apps.iter().map(|own| self.learns(own)).collect();
        for ((own, situation), learns) in self.apps.iter().zip(&mut self.situations).zip(learns) {
            situation.verified = verified(&self.gates.tries, own, situation, learns);
        }
    }

    /// Some handler's P is not known here yet, so any failed node may be in it. Each is tried, and what was found is kept:
    /// those that do not answer are neither in G nor in P.
    fn learns(&self, own: &OwnApp) -> bool {
        let app = &own.app.config().name;
        let unknown = own.published_by.iter().filter(|(_, published)| published.is_none());
        let mut handlers =
            unknown.map(|(handler, _)| &**handler).chain(own.published.is_none().then_some(""));
        handlers.any(|handler| self.delivery.learns(handler, app))
    }

    fn is_half(&self) -> bool {
        self.gates.config.quorum && self.gates.votes.is_half()
    }

    fn witnesses(&self) -> Vec<Wanted> {
        let config = &self.gates.config;
        let every = match config.quorum && !self.gates.votes.has_majority() {
            true => WITNESS_EVERY,
            false => WITNESS_EVERY_IDLE,
        };
        // Tried anew at once when the majority is lost.
        let since = self.gates.quorum.lost_since().unwrap_or(self.gates.started);
        let wanted = |(index, target): (usize, &crate::check::attempt::Target)| Wanted {
            key: Key::Witness(index),
            since,
            targets: vec![target.clone()],
            every,
        };
        config.witness.iter().enumerate().map(wanted).collect()
    }

    /// Hands out what is to be tried.
    pub(super) fn drain_tries(&mut self) {
        while let Some(step) = self.gates.tries.poll_step() {
            match step {
                Step::Start { id, target } => {
                    let id = self.attempts.start(Owner::Try(id), false);
                    self.actions.push_back(Action::Attempt { id, target });
                }
                Step::Abort { id } => {
                    let aborted = self.attempts.abort(Owner::Try(id));
                    self.actions.extend(aborted.map(|(id, _)| Action::AttemptAbort { id }));
                }
            }
        }
    }

    /// An attempt ended: its owner is told.
    pub(super) fn attempt_ended(&mut self, now: Instant, owner: Owner, outcome: Outcome) {
        match owner {
            Owner::Check { app, check } => {
                let mut apps = self.apps.iter_mut().chain(&mut self.retired);
                if let Some(own) = apps.find(|own| own.number == app) {
                    own.app.handle_attempt(now, check, outcome);
                    self.drain_checks(now);
                }
            }
            Owner::Try(id) => self.dirty |= self.gates.tries.handle_result(now, id, &outcome),
        }
    }

    /// Warns of each node that failed but serves on, once.
    fn tell_serving(&mut self, now: Instant) {
        let mut serving = BTreeSet::new();
        for situation in &self.situations {
            for (_, reason) in &situation.verdict.held {
                if let Reason::StillServes { node } = reason {
                    serving.insert((situation.name.clone(), node.clone()));
                }
            }
        }
        let before = core::mem::replace(&mut self.gates.serving, serving.clone());
        for (app, node) in serving.difference(&before) {
            self.tell(news::still_serves(now, app, node));
        }
    }

    /// `sync --force`: gate 8 does not hinder the next success of `handler`.
    pub(super) fn skip_max_remove(&mut self, now: Instant, handler: &str) {
        self.gates.forced.retain(|(forced, until)| **forced != *handler && *until > now);
        self.gates.forced.push((handler.into(), now + WINDOW));
        self.dirty = true;
    }

    /// When a hold of single addresses, or of gate 8, ends.
    pub(super) fn hold_deadline(&self) -> Option<Instant> {
        let of = |situation: &AppSituation| {
            earliest(situation.of_handlers.iter().map(|(_, v)| v.until).chain([situation.verdict.until]))
        };
        earliest(self.situations.iter().map(of))
    }
}

/// Whether P (of any handler) or G has an address of it.
fn is_shown(own: &OwnApp, situation: &AppSituation, i: &Instance) -> bool {
    let has = |set: Option<&[Address]>| set.is_some_and(|set| set.iter().any(|a| i.addrs.contains(&a.addr)));
    has(own.published.as_deref())
        || own.published_by.iter().any(|(_, published)| has(published.as_deref()))
        || has(situation.verdict.publish.as_deref())
        || situation.of_handlers.iter().any(|(_, verdict)| has(verdict.publish.as_deref()))
        || situation.verdict.held.iter().any(|(address, _)| i.addrs.contains(&address.addr))
}

/// Its addresses that no running member publishes: what answers there is that one.
fn own_addrs<'a>(situation: &'a AppSituation, i: &'a Instance) -> impl Iterator<Item = core::net::IpAddr> {
    let running = |addr| {
        situation
            .instances
            .iter()
            .any(|o| o.member.is_running() && o.node != i.node && o.addrs.contains(addr))
    };
    i.addrs.iter().filter(move |addr| !running(addr)).copied()
}

/// Of each failed node that P or G shows, or may show, and that may serve on: its last try, where there is something to try.
fn verified(tries: &Tries, own: &OwnApp, situation: &AppSituation, learns: bool) -> Vec<Verified> {
    let may_be_shown = |i: &&Instance| learns || is_shown(own, situation, i);
    let shown = situation.instances.iter().filter(|i| i.member == State::Dead).filter(may_be_shown);
    let verified = |i: &Instance| {
        let key = Key::Node { app: situation.name.clone(), node: i.node.clone() };
        let last = last_try(tries, &situation.name, i);
        (tries.is_wanted(&key) && i.may_still_serve()).then(|| Verified {
            node: i.node.clone(),
            last: last.map(|last| (last.began, last.ended)),
            answered: last.is_some_and(|last| last.answered),
            untried: tries.untried(&key),
        })
    };
    shown.filter_map(verified).collect()
}

/// Whether a handler is told by one node only, so that there will be records.
pub fn has_one(handlers: &[crate::delivery::Config]) -> bool {
    use crate::delivery::Mode;
    handlers.iter().any(|h| h.place == Place::One && matches!(h.mode, Mode::Sync | Mode::Picored1))
}
