//! One turn: what an input changed is taken up, and where it matters the apps and handlers are looked at again.

use core::net::SocketAddr;

use crate::agent::attempts::Owner;
use crate::agent::events::Event;
use crate::agent::noise::Kind;
use crate::agent::transitions::Change;
use crate::agent::{Action, Agent, ClientId, Counted, UNKNOWN_SOURCE, news, tags};
use crate::check::attempt::{Outcome, Target};
use crate::check::{self, AppState};
use crate::control::text;
use crate::delivery::{self, EventKind, MemberEvent, Occurrence, ReportKind};
use crate::membership::{self, Member};
use crate::time::Instant;
use crate::view;
use crate::wire::{self, serf};

/// Own tags change what handlers see, and handlers' tags are own tags: after so many rounds what is left to look at
/// stays so until the next input (it sets no deadline, so that nothing spins), whatever the tags do.
const ROUNDS_MAX: usize = 3;

impl Agent {
    /// Before anything is changed: how late is it?
    pub(super) fn begin(&mut self, now: Instant) {
        if let Some(late) = self.lateness.note(now, self.asked.get()) {
            self.gates.was_late(now);
            self.dirty = true;
            let late = text::duration(late);
            let event = self.noise.hit(now, Kind::Late, 1, || {
                format!("the loop came round {late} late: suspended or starved; nothing is concluded from the silence")
            });
            self.log_noise(event);
        }
    }

    /// After the input was applied.
    pub(super) fn finish(&mut self, now: Instant) {
        self.take_up_membership(now);
        self.go_on_trying(now);
        if self.dirty {
            self.look_again(now);
            self.store.note_change();
        }
        self.drain_tries();
        self.persist_when_due(now);
        self.go_on_ending(now);
    }

    // Membership.

    pub(super) fn take_up_membership(&mut self, now: Instant) {
        while let Some(event) = self.membership.poll_event() {
            self.store.note_change();
            self.take_up(now, event);
        }
    }

    fn take_up(&mut self, now: Instant, event: membership::Event) {
        use membership::Event as Happened;
        self.dirty |= news::matters(&event);
        if let Some((told, node)) = in_serfs_terms(&event) {
            self.delivery.handle_member(now, told, node, self.membership.member(node));
        }
        match news::of_membership(now, &event) {
            news::Told::Event(told) => self.tell(told),
            news::Told::Noise(kind, text) => {
                let event = self.noise.hit(now, kind, 1, || text);
                self.log_noise(event);
            }
            news::Told::Target(kind, name, error, text) => {
                let event = self.noise.target_failed(now, kind, &name, &error, &text);
                self.log_noise(event);
            }
            news::Told::Nothing => {}
        }
        if let Happened::Synced { error: None, .. } = &event {
            self.gates.synced();
        }
        match event {
            Happened::Joined { node, returned } => {
                self.learn_tags(now, &node);
                // Who was there before us is no news: the members found at our own start.
                if returned || self.gates.has_settled() {
                    self.node_occurrence(now, EventKind::NodeJoined, &node);
                }
            }
            Happened::Updated { node } | Happened::FoundFailed { node } | Happened::LastTags { node } => {
                self.learn_tags(now, &node)
            }
            Happened::OwnSeen { meta } => {
                self.delivery.handle_own_meta(now, &meta);
                self.dirty = true;
            }
            Happened::Failed { node, .. } => self.node_occurrence(now, EventKind::NodeFailed, &node),
            Happened::Left { node } => self.node_occurrence(now, EventKind::NodeLeft, &node),
            Happened::Moved { node, .. } => {
                self.learn_tags(now, &node);
                self.node_occurrence(now, EventKind::NodeAddress, &node);
            }
            Happened::Forgotten { node } => {
                self.transitions.forget(&node);
                self.gates.forget(&node);
            }
            Happened::Synced { addr, join: true, error: None } => {
                self.noise.target_reached(&addr.to_string());
            }
            Happened::KeysAsked { id, .. } => self.store_keys(now, id),
            Happened::LeaveDone => self.ending.leave_done(),
            Happened::Tried { id, result } => self.tried(id, result),
            _ => {}
        }
    }

    /// Tells event handlers of a node. Not before this node has settled: what it finds out then is old.
    fn node_occurrence(&mut self, now: Instant, kind: EventKind, node: &str) {
        let Some(member) = self.membership.member(node) else { return };
        let has_settled = self.gates.has_settled() || kind == EventKind::NodeJoined;
        if !has_settled || node == &*self.identity.node {
            return;
        }
        let state = if kind == EventKind::NodeJoined { AppState::Up } else { AppState::Down };
        let occurrence = Occurrence {
            kind,
            app: None,
            node: node.into(),
            addrs: view::published_by(member),
            state,
            incarnation: member.incarnation,
        };
        self.delivery.handle_occurrence(now, &occurrence);
        self.dirty = true;
    }

    /// Compares the app tags of `node` with what was known of them.
    pub(super) fn learn_tags(&mut self, now: Instant, node: &str) {
        let Some(member) = self.membership.member(node) else { return };
        let settled = self.gates.has_settled();
        let mut told = Vec::new();
        for (name, value) in serf::tags(&member.meta) {
            let Some(app) = name.strip_prefix("a.") else { continue };
            let Some((state, forced)) = view::parse_state(value) else { continue };
            let change = self.transitions.learn(&member.name, app, state, settled);
            if change != Change::Nothing {
                told.push((change, app_occurrence(member, app, state), forced));
            }
        }
        let has = |app: &str| serf::tags(&member.meta).any(|(name, _)| name.strip_prefix("a.") == Some(app));
        self.transitions.keep(node, has);
        for (change, occurrence, forced) in told {
            // What a person said needs no check's word.
            let why =
                self.own_summary(now, &occurrence).filter(|_| !forced && occurrence.state != AppState::Maint);
            self.tell(news::of_app(now, &occurrence, forced, change, why.as_deref()));
            if change == Change::News {
                self.delivery.handle_occurrence(now, &occurrence);
                self.dirty = true;
            }
        }
    }

    /// What the deciding check says, if the instance is an own one.
    fn own_summary(&self, now: Instant, occurrence: &Occurrence) -> Option<String> {
        let is_own = *occurrence.node == *self.identity.node;
        let name = occurrence.app.as_deref().filter(|_| is_own)?;
        self.apps.iter().find(|own| &*own.app.config().name == name).map(|own| own.app.summary(now))
    }

    // Checks.

    /// Hands out what the checks want done, and sees whether an app changed.
    pub(super) fn drain_checks(&mut self, now: Instant) {
        for own in self.apps.iter_mut().chain(&mut self.retired) {
            let app = own.number;
            while let Some(action) = own.app.poll_action() {
                match action {
                    check::Action::Start { check, target } => {
                        let is_child = matches!(target, Target::Exec(_));
                        let id = self.attempts.start(Owner::Check { app, check }, is_child);
                        self.actions.push_back(Action::Attempt { id, target });
                    }
                    check::Action::Abort { check } => {
                        let aborted = self.attempts.abort(Owner::Check { app, check });
                        let Some((id, is_child)) = aborted else { continue };
                        self.actions.push_back(Action::AttemptAbort { id });
                        if !is_child {
                            // The driver says no more about a connection: this is the report that ends it.
                            own.app.handle_attempt(now, check, Outcome::Fail("given up".into()));
                        }
                    }
                    check::Action::Kill { check } => {
                        let id = self.attempts.find(Owner::Check { app, check });
                        self.actions.extend(id.map(|id| Action::AttemptKill { id }));
                    }
                }
            }
            let shown = (own.app.state(), own.app.is_forced());
            self.dirty |= shown != own.shown;
            own.shown = shown;
        }
        self.retired.retain(|own| !own.app.is_idle());
    }

    // Apps and handlers.

    pub(super) fn look_again(&mut self, now: Instant) {
        // Own first verdicts are shown before they open gate 1, so that they are no news (see `transitions`).
        self.show_tags(now);
        self.look_at_gates(now);
        for _ in 0..ROUNDS_MAX {
            self.dirty = false;
            self.weigh(now);
            self.update_delivery(now);
            self.drain_delivery(now);
            let has_changed = self.take_up_published() | self.show_tags(now);
            self.dirty |= has_changed;
            if !self.dirty {
                return;
            }
        }
    }

    /// True if they are others now.
    fn show_tags(&mut self, now: Instant) -> bool {
        let (withdrawn, overrides) = (self.ending.is_leaving(), &self.persons.overrides);
        let own = tags::own_meta(&self.identity, &self.apps, &self.delivery, overrides, withdrawn);
        let (meta, untold) = (own.bytes, tags::untold(&own.left_out));
        if untold != self.persons.untold {
            if let Some(text) = &untold {
                let event = self.noise.hit(now, Kind::TagsTooLong, 1, || text.clone());
                self.log_noise(event);
            }
            self.persons.untold = untold;
        }
        if meta == self.meta {
            return false;
        }
        self.membership.set_meta(now, &meta);
        self.meta = meta;
        let node = self.identity.node.clone();
        self.delivery.handle_member(now, MemberEvent::Update, &node, self.membership.member(&node));
        self.learn_tags(now, &node);
        true
    }

    /// P follows what was told with success, so that `keep` keeps what the outside shows and not what it was about to
    /// show: when all instances go down within one debounce, all of them stay. True if P changed.
    fn take_up_published(&mut self) -> bool {
        let mut changed = false;
        for (own, situation) in self.apps.iter_mut().zip(&self.situations) {
            let published = match self.delivery.published(&own.app.config().name) {
                Some(told) => told,
                None => situation
                    .verdict
                    .publish
                    .clone()
                    .filter(|_| self.may_act.is_ok())
                    .or(own.published.clone()),
            };
            let mut published_by = self.delivery.published_by(&own.app.config().name);
            own.told_by = published_by.iter().map(|(handler, _)| handler.clone()).collect();
            if published_by.len() < 2 {
                published_by = Vec::new();
            }
            changed |= published != own.published || published_by != own.published_by;
            (own.published, own.published_by) = (published, published_by);
        }
        if changed {
            self.keep_published();
        }
        changed
    }

    fn update_delivery(&mut self, now: Instant) {
        let members: Vec<&Member> = self.membership.members().collect();
        let unix_now = self.wall.unix_secs(now);
        let world = self.identity.world(unix_now, &members, &self.situations, &self.may_act);
        self.delivery.update(now, &self.gates.complete(world));
    }

    fn drain_delivery(&mut self, now: Instant) {
        while let Some(action) = self.delivery.poll_action() {
            match action {
                delivery::Action::Run { id, run } => {
                    self.persist_changes(now);
                    self.actions.push_back(Action::Run { id, run });
                }
                delivery::Action::Verify { app, since } => self.gates.refresh(now, &app, since),
                delivery::Action::Signal { id, signal } => {
                    self.actions.push_back(Action::Signal { id, signal });
                }
                delivery::Action::Report(report) => {
                    if let (ReportKind::Succeeded { .. }, Some(app)) = (&report.what, &report.app) {
                        self.gates.succeeded(&report.handler, app);
                    }
                    self.tell(news::of_report(now, &report));
                    if let Some(output) = news::output_of(&report) {
                        let line = news::output_line(&report, output);
                        self.actions.push_back(Action::Log { level: log::Level::Warn, line });
                    }
                }
            }
        }
    }

    // Telling people.

    /// To the log, the ring and those who follow.
    pub(super) fn tell(&mut self, event: Event) {
        self.log(&event);
        if !self.followers.is_empty() {
            let line = event.json_line(self.wall);
            let reply = |&client: &ClientId| Action::Reply { client, line: line.clone(), last: false };
            self.actions.extend(self.followers.iter().map(reply));
        }
        self.events.push(event);
    }

    pub(super) fn log(&mut self, event: &Event) {
        self.actions.push_back(Action::Log { level: event.level, line: event.log_line() });
    }

    fn log_noise(&mut self, event: Option<Event>) {
        if let Some(event) = event {
            self.log(&event);
        }
    }

    /// Looks whether what just came in (or went out) was bad. Noise goes to the log only: a flood must not wash the
    /// history out of the ring.
    pub(super) fn count_noise(&mut self, now: Instant, peer: SocketAddr) {
        let counters = self.membership.counters();
        let counted = Counted {
            bad: counters.bad,
            not_allowed: counters.not_allowed,
            refused: counters.refused,
            send_errors: counters.send_errors,
        };
        if counted == self.counted {
            return;
        }
        let before = core::mem::replace(&mut self.counted, counted);
        let bad = wire::Error::KINDS.iter().enumerate().map(|(kind, name)| {
            let (now, before) = (counted.bad.get(kind), before.bad.get(kind));
            (Kind::Bad(kind), now.copied(), before.copied(), *name)
        });
        let others = [
            (Kind::NotAllowed, counted.not_allowed, before.not_allowed, "\"allow\" does not name the source"),
            (Kind::Refused, counted.refused, before.refused, "at a limit; see `picored status -v`"),
            (Kind::SendError, counted.send_errors, before.send_errors, "a datagram could not be sent"),
        ];
        let others =
            others.into_iter().map(|(kind, now, before, text)| (kind, Some(now), Some(before), text));
        for (kind, after, before, text) in bad.chain(others) {
            let grown = after.unwrap_or(0).saturating_sub(before.unwrap_or(0));
            if grown > 0 {
                let event = self.noise.hit(now, kind, grown, || noise_text(kind, peer, text));
                self.log_noise(event);
            }
        }
    }
}

fn noise_text(kind: Kind, peer: SocketAddr, text: &str) -> String {
    let place = match kind {
        _ if peer == UNKNOWN_SOURCE => String::new(),
        Kind::SendError => format!(" (to {peer})"),
        _ => format!(" (from {peer})"),
    };
    match kind {
        Kind::Bad(_) => format!("dropped a message: {text}{place}"),
        Kind::SendError => format!("{text}{place}"),
        _ => format!("refused: {text}{place}"),
    }
}

/// What a Serf agent would call it, and the member. One that came back at another address is said to have joined, too.
fn in_serfs_terms(event: &membership::Event) -> Option<(MemberEvent, &str)> {
    use membership::Event as Happened;
    match event {
        Happened::Joined { node, .. } => Some((MemberEvent::Join, node)),
        Happened::Left { node } => Some((MemberEvent::Leave, node)),
        Happened::Failed { node, .. } => Some((MemberEvent::Failed, node)),
        Happened::Updated { node } | Happened::Moved { node, .. } => Some((MemberEvent::Update, node)),
        Happened::Forgotten { node } => Some((MemberEvent::Reap, node)),
        _ => None,
    }
}

fn app_occurrence(member: &Member, app: &str, state: AppState) -> Occurrence {
    let kind = match state {
        AppState::Up => EventKind::AppUp,
        AppState::Down | AppState::Unknown => EventKind::AppDown,
        AppState::Maint => EventKind::AppMaint,
    };
    let addrs = view::instances(app, core::iter::once(member)).pop().map(|instance| instance.addrs);
    Occurrence {
        kind,
        app: Some(app.into()),
        node: member.name.clone(),
        addrs: addrs.unwrap_or_default(),
        state,
        incarnation: member.incarnation,
    }
}
