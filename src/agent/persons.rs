//! What persons say: maintenance and forced states, and that it is kept before they are told so.

use core::time::Duration;

use crate::agent::overrides::{Override, Overrides, Whose};
use crate::agent::{Agent, ClientId, news, tags};
use crate::check::AppState;
use crate::control::text::{duration, printable};
use crate::control::{self, ForceTo, MAINT_SECS, error_line};
use crate::limits::{META_MAX, NAME_MAX, OVERRIDES_MAX};
use crate::time::Instant;
use crate::wire::serf;

/// What persons said, and who waits for an answer.
#[derive(Default)]
pub struct Persons {
    pub overrides: Overrides,
    /// Who wants to see a rehearsal.
    pub audience: Option<super::rehearsing::Audience>,
    /// What the others are not told, for want of room.
    pub untold: Option<String>,
    /// What is logged is not what the configuration says.
    pub level_changed: bool,
}

impl Persons {
    pub fn new(overrides: Overrides) -> Self {
        Self { overrides, ..Self::default() }
    }
}

/// Maintenance, as a client asks for it or for its end.
pub struct MaintAsked<'a> {
    pub app: Option<&'a str>,
    pub node: Option<&'a str>,
    pub time: Option<Duration>,
    pub reason: &'a str,
    pub by: &'a str,
}

impl Agent {
    fn reply_word(&mut self, now: Instant, client: ClientId, result: Result<String, String>) {
        match result {
            Ok(message) => self.reply_when_stored(now, client, message),
            Err(error) => self.reply(client, error_line(&error)),
        }
    }

    // What is in force.

    /// Brings own apps in line with what persons said, and the tags after them.
    pub(super) fn apply_overrides(&mut self, now: Instant) {
        for own in &mut self.apps {
            let said = self.persons.overrides.of_own(&own.app.config().name);
            own.app.force(
                now,
                said.map(|word| word.state),
                said.and_then(|word| word.until).map(|(at, _)| at),
            );
        }
        self.dirty = true;
        self.drain_checks(now);
    }

    /// Ends what is over.
    pub(super) fn expire_overrides(&mut self, now: Instant) {
        let over = self.persons.overrides.expire(now);
        if over.is_empty() {
            return;
        }
        for word in &over {
            self.tell(news::word_over(now, word, &self.identity.node));
        }
        self.apply_overrides(now);
    }

    /// What was said of an app whose instance went from the file: nobody could take it back, or see what it is for.
    pub(super) fn drop_lost_words(&mut self, now: Instant) {
        let has = |name: &str| {
            self.apps.iter().any(|own| *own.app.config().name == *name && own.app.has_instance())
        };
        for word in self.persons.overrides.drop_lost(has) {
            self.tell(news::word_lost(now, &word, &self.identity.node));
        }
    }

    // Forced states.

    /// A person says how the instance here is.
    pub(super) fn answer_app(
        &mut self,
        now: Instant,
        client: ClientId,
        name: &str,
        to: ForceTo,
        (time, by): (Option<Duration>, &str),
    ) {
        let result = self.force(now, name, to, time, by);
        self.reply_word(now, client, result);
    }

    fn force(
        &mut self,
        now: Instant,
        name: &str,
        to: ForceTo,
        time: Option<Duration>,
        by: &str,
    ) -> Result<String, String> {
        let state = match to {
            ForceTo::Up => Some(AppState::Up),
            ForceTo::Down => Some(AppState::Down),
            ForceTo::Auto => None,
        };
        let time = time.filter(|_| state.is_some());
        match state {
            None => {
                if !self.persons.overrides.unforce(name) {
                    self.own_instance(name)?;
                }
            }
            Some(state) => {
                self.own_instance(name)?;
                let word = self.word(now, state, time, (by, ""));
                self.say(Override { app: Some(name.into()), ..word })?;
            }
        }
        self.tell(news::forced(now, name, to.as_str(), time, by));
        self.apply_overrides(now);
        let mut message = match (to, time) {
            (ForceTo::Auto, _) => format!("{name} is as its checks say"),
            (_, Some(time)) => format!("{name} is forced {} for {}", to.as_str(), duration(time)),
            (_, None) => format!("{name} is forced {} until `app {name} auto`", to.as_str()),
        };
        let own = self.persons.overrides.of_own(name);
        if own.is_some_and(|word| word.state == AppState::Maint) {
            message.push_str(" as soon as its maintenance is over (`picored maint off`)");
        }
        Ok(message)
    }

    // Maintenance.

    pub(super) fn answer_maint(&mut self, now: Instant, client: ClientId, on: bool, asked: &MaintAsked<'_>) {
        let whose = Whose { node: asked.node.filter(|node| *node != &*self.identity.node), app: asked.app };
        let result = match on {
            true => self.begin_maint(now, whose, asked),
            false => self.end_maint(now, whose, asked),
        };
        self.reply_word(now, client, result);
    }

    fn begin_maint(
        &mut self,
        now: Instant,
        whose: Whose<'_>,
        asked: &MaintAsked<'_>,
    ) -> Result<String, String> {
        match (whose.node, whose.app) {
            (None, Some(app)) => self.own_instance(app)?,
            (None, None) if !self.apps.iter().any(|own| own.app.has_instance()) => {
                return Err("this node has no app that could be withdrawn".into());
            }
            (Some(node), app) => self.can_withdraw(node, app)?,
            (None, None) => {}
        }
        let time = asked.time.unwrap_or(Duration::from_secs(MAINT_SECS));
        let word = self.word(now, AppState::Maint, Some(time), (asked.by, asked.reason));
        let word = Override { node: whose.node.map(Into::into), app: whose.app.map(Into::into), ..word };
        self.say(word.clone())?;
        self.tell(news::maint_on(now, &word, &self.identity.node));
        self.apply_overrides(now);
        let what = subject(whose.node, whose.app);
        let options = options(whose);
        let mut message =
            format!("{what} in maintenance for {}, or until `picored maint off{options}`", duration(time));
        if whose.node.is_some() {
            message.push_str(
                ". This node holds it: it counts as long as this one runs, and wherever the others see it run",
            );
        }
        Ok(message)
    }

    fn end_maint(
        &mut self,
        now: Instant,
        whose: Whose<'_>,
        asked: &MaintAsked<'_>,
    ) -> Result<String, String> {
        if self.persons.overrides.end_maint(whose) == 0 {
            return Err(self.no_maint(whose));
        }
        self.tell(news::maint_off(now, whose.node.unwrap_or(&self.identity.node), whose.app, asked.by));
        self.apply_overrides(now);
        Ok(format!("{} not in maintenance any more", subject(whose.node, whose.app)))
    }

    /// Who else holds it, if it is not held here.
    fn no_maint(&self, whose: Whose<'_>) -> String {
        let node = whose.node.unwrap_or(&self.identity.node);
        let what = subject(whose.node, whose.app);
        let mut overrides = self.persons.overrides.list().filter(|word| word.state == AppState::Maint);
        if whose.app.is_some()
            && overrides.any(|word| word.node.as_deref() == whose.node && word.app.is_none())
        {
            let options = options(Whose { app: None, ..whose });
            return format!(
                "{what} in maintenance with the whole node: `picored maint off{options}` ends that"
            );
        }
        match self.maint_elsewhere(node).first() {
            Some(control::MaintElsewhere { held_by, .. }) => {
                let by = printable(held_by);
                format!("{what} in maintenance by a word said at {by}: end it there")
            }
            None => format!("{what} not in maintenance by a word said here"),
        }
    }

    /// What other running members' `m.NODE` tags say of `node`.
    pub(super) fn maint_elsewhere(&self, node: &str) -> Vec<control::MaintElsewhere> {
        let key = format!("m.{node}");
        let holders = self.membership.members().filter(|member| member.state.is_running());
        let said = holders.filter_map(|member| {
            let apps = serf::tag(&member.meta, &key)?;
            Some(control::MaintElsewhere { held_by: member.name.to_string(), apps: apps.into() })
        });
        said.collect()
    }

    /// Another node's apps can be withdrawn from here: it is known, and the names can stand in a tag.
    fn can_withdraw(&self, node: &str, app: Option<&str>) -> Result<(), String> {
        if self.membership.member(node).is_none() {
            return Err(self.no_such_member(node));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        match app {
            Some(app) if app.is_empty() || app.len() > NAME_MAX || !app.bytes().all(plain) => {
                Err(format!("{}: names of apps are letters, digits, - and _", printable(app)))
            }
            _ => Ok(()),
        }
    }

    fn own_instance(&self, name: &str) -> Result<(), String> {
        let Some(own) = self.apps.iter().find(|own| &*own.app.config().name == name) else {
            let known: Vec<&str> = self.apps.iter().map(|own| &*own.app.config().name).collect();
            let known = if known.is_empty() { "none".into() } else { known.join(", ") };
            return Err(format!("no app {} here; apps of the configuration: {known}", printable(name)));
        };
        match own.app.has_instance() {
            true => Ok(()),
            false => {
                Err(format!("{name} has no checks here, so no instance; say it on a node that serves it"))
            }
        }
    }

    fn word(
        &self,
        now: Instant,
        state: AppState,
        time: Option<Duration>,
        (by, reason): (&str, &str),
    ) -> Override {
        Override {
            node: None,
            app: None,
            state,
            until: time.map(|time| (now + time, time)),
            at: self.wall.unix_secs(now),
            by: by.into(),
            reason: reason.into(),
        }
    }

    /// Takes the word if there is room for it, in the tags, too.
    fn say(&mut self, word: Override) -> Result<(), String> {
        let mut overrides = self.persons.overrides.clone();
        if !overrides.say(word) {
            return Err(format!("{OVERRIDES_MAX} such words are in force already; take one back first"));
        }
        let configs: Vec<_> = self.delivery.configs().cloned().collect();
        fits(&tags::longest(&self.identity, &self.apps, &configs, &overrides))?;
        self.persons.overrides = overrides;
        Ok(())
    }

    /// The tags `m.NODE`: what persons said here of other nodes.
    pub fn words_of_others(&self) -> Vec<(String, String)> {
        self.persons.overrides.tags()
    }

    // What is shown of it.

    pub(super) fn overrides_shown(&self, now: Instant) -> Vec<control::Override> {
        let unix_now = self.wall.unix_secs(now);
        let shown = |word: &Override| control::Override {
            app: word.app.as_deref().map(str::to_owned),
            node: word.node.as_deref().unwrap_or(&self.identity.node).into(),
            state: word.state.as_str().into(),
            for_secs: word.until.map(|(at, _)| at.since(now).as_secs()),
            since: word.at,
            since_secs: if word.at == 0 { 0 } else { unix_now.saturating_sub(word.at) },
            by: word.by.to_string(),
            reason: word.reason.to_string(),
        };
        self.persons.overrides.list().map(shown).collect()
    }
}

/// The beginning of a sentence: `web is`, `all apps of par1 are`.
fn subject(node: Option<&str>, app: Option<&str>) -> String {
    let at = node.map_or("this node".into(), |node| printable(node).into_owned());
    match app {
        Some(app) => format!("{} at {at} is", printable(app)),
        None => format!("all apps of {at} are"),
    }
}

/// As the command line wants them again.
fn options(whose: Whose<'_>) -> String {
    let of = |name, value: Option<&str>| {
        value.map_or(String::new(), |value| format!(" {name} {}", printable(value)))
    };
    of("--node", whose.node) + &of("--app", whose.app)
}

/// Whether the tags fit into the metadata, in their longest states.
fn fits(tags: &[(String, String)]) -> Result<(), String> {
    let size = |tags: &[(String, String)]| {
        serf::encode_tags(tags.iter().map(|(name, value)| (&**name, &**value))).len()
    };
    let total = size(tags);
    if total <= META_MAX {
        return Ok(());
    }
    let words: Vec<_> = tags.iter().filter(|(name, _)| name.starts_with("m.")).cloned().collect();
    let ours = words.iter().map(|word| size(core::slice::from_ref(word)) - size(&[]));
    let parts: Vec<String> =
        words.iter().zip(ours).map(|((name, _), size)| format!("{} {size}", printable(name))).collect();
    Err(format!(
        "what this node says of itself could become {total} bytes long, and {META_MAX} fit (of these {}): end other \
         maintenance here, or say it on another node",
        if parts.is_empty() { "none is of maintenance".into() } else { parts.join(", ") }
    ))
}
