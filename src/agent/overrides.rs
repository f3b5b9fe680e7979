//! What persons said of apps: forced states and maintenance, with their ends (`interfaces`, section 7).
//!
//! Each word holds until its time has come or a person takes it back, over restarts, too. Maintenance goes before a
//! forced state, a forced state before the checks.

use core::time::Duration;

use serde::Serialize;

use crate::check::AppState;
use crate::limits::OVERRIDES_MAX;
use crate::saved::{Part, Read};
use crate::time::{Date, Instant, earliest};

/// One person's word.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// Whose apps; `None`: this node's. Of other nodes only maintenance is said.
    pub node: Option<Box<str>>,
    /// `None`: all of the node's; of these only maintenance is said.
    pub app: Option<Box<str>>,
    /// Up, down or maintenance.
    pub state: AppState,
    /// Its end, and how long it was to hold altogether.
    pub until: Option<(Instant, Duration)>,
    /// When it was said, in seconds since 1970; 0 if the date was not known.
    pub at: u64,
    pub by: Box<str>,
    pub reason: Box<str>,
}

impl Override {
    /// A later word of this kind about the same replaces it.
    fn is_like(&self, other: &Self) -> bool {
        let maint = |word: &Self| word.state == AppState::Maint;
        (&self.node, &self.app, maint(self)) == (&other.node, &other.app, maint(other))
    }
    fn is_over(&self, now: Instant) -> bool {
        self.until.is_some_and(|(at, _)| at <= now)
    }
}

/// Of which maintenance is the talk: `None` is oneself, or all apps.
#[derive(Clone, Copy, Debug)]
pub struct Whose<'a> {
    pub node: Option<&'a str>,
    pub app: Option<&'a str>,
}

/// All that is in force.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    words: Vec<Override>,
}

impl Overrides {
    /// False: there are too many already.
    pub fn say(&mut self, word: Override) -> bool {
        self.words.retain(|other| !other.is_like(&word));
        if self.words.len() >= OVERRIDES_MAX {
            return false;
        }
        self.words.push(word);
        true
    }

    /// The checks of this node's `app` decide again, unless there is maintenance. False: they did.
    pub fn unforce(&mut self, app: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| word.state == AppState::Maint || word.app.as_deref() != Some(app));
        self.words.len() < before
    }

    /// Ends maintenance: of one app, or all that was said of the node. Gives how many words that were.
    pub fn end_maint(&mut self, of: Whose<'_>) -> usize {
        let before = self.words.len();
        self.words.retain(|word| {
            let same = word.node.as_deref() == of.node && (of.app.is_none() || word.app.as_deref() == of.app);
            word.state != AppState::Maint || !same
        });
        before - self.words.len()
    }

    /// Takes out what is over.
    pub fn expire(&mut self, now: Instant) -> Vec<Override> {
        let (over, rest) = core::mem::take(&mut self.words).into_iter().partition(|word| word.is_over(now));
        self.words = rest;
        over
    }

    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.words.iter().map(|word| word.until.map(|(at, _)| at)))
    }

    /// What decides about this node's `app`; `None`: its checks.
    pub fn of_own(&self, app: &str) -> Option<&Override> {
        let about =
            |word: &&Override| word.node.is_none() && word.app.as_deref().is_none_or(|about| about == app);
        let words = || self.words.iter().filter(about);
        words().find(|word| word.state == AppState::Maint).or_else(|| words().next())
    }

    /// The tags `m.NODE`: what is said of other nodes.
    pub fn tags(&self) -> Vec<(String, String)> {
        let mut tags: Vec<(String, String)> = Vec::new();
        for word in &self.words {
            let Some(node) = &word.node else { continue };
            let (name, app) = (format!("m.{node}"), word.app.as_deref().unwrap_or("*"));
            match tags.iter_mut().find(|(known, _)| *known == name) {
                None => tags.push((name, app.into())),
                Some((_, apps)) if app == "*" || apps == "*" => *apps = "*".into(),
                Some((_, apps)) => {
                    apps.push(',');
                    apps.push_str(app);
                }
            }
        }
        tags
    }

    pub fn list(&self) -> impl Iterator<Item = &Override> {
        self.words.iter()
    }

    /// Takes out what was said of an app of this node that it does not have any more.
    pub fn drop_lost(&mut self, has: impl Fn(&str) -> bool) -> Vec<Override> {
        let stays = |word: &Override| word.node.is_some() || word.app.as_deref().is_none_or(&has);
        let (rest, lost) = core::mem::take(&mut self.words).into_iter().partition(stays);
        self.words = rest;
        lost
    }

    pub fn saved(&self, date: Date) -> Saved {
        let saved = |word: &Override| SavedWord {
            node: word.node.clone(),
            app: word.app.clone(),
            state: word.state.as_str().into(),
            until: word.until.map(|(at, _)| rounded_up(date.unix(at))),
            for_secs: word.until.map(|(_, time)| time.as_secs()),
            at: word.at,
            by: word.by.clone(),
            reason: word.reason.clone(),
        };
        Saved { words: self.words.iter().map(saved).collect() }
    }

    /// What makes no sense is dropped. A clock that was set back makes nothing longer than it was to be.
    pub fn restore(now: Instant, date: Date, saved: Saved) -> Self {
        let word = |saved: SavedWord| {
            let state = AppState::parse(&saved.state).filter(|state| *state != AppState::Unknown)?;
            let until = saved.until.map(|until| {
                let time = Duration::from_secs(saved.for_secs.unwrap_or(u64::from(u32::MAX)));
                let left = date.left(until).min(time);
                (now + left, time)
            });
            let SavedWord { node, app, at, by, reason, .. } = saved;
            let is_sound = state == AppState::Maint || node.is_none() && app.is_some();
            is_sound.then_some(Override { node, app, state, until, at, by, reason })
        };
        let mut overrides = Self::default();
        for word in saved.words.into_iter().filter_map(word).filter(|word| !word.is_over(now)) {
            overrides.say(word);
        }
        overrides
    }
}

fn rounded_up(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// As the state file keeps them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Saved {
    words: Vec<SavedWord>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct SavedWord {
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<Box<str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app: Option<Box<str>>,
    state: Box<str>,
    /// Seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    for_secs: Option<u64>,
    at: u64,
    by: Box<str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: Box<str>,
}

impl Saved {
    pub fn read(part: Part<'_>) -> Read<Self> {
        Ok(Self { words: part.list("words", SavedWord::read)? })
    }
}

impl SavedWord {
    fn read(part: Part<'_>) -> Read<Self> {
        let text = |key| Ok::<_, String>(part.maybe_text(key)?.unwrap_or_default().into());
        Ok(Self {
            node: part.maybe_text("node")?.map(Into::into),
            app: part.maybe_text("app")?.map(Into::into),
            state: text("state")?,
            until: part.maybe_number("until")?,
            for_secs: part.maybe_number("for_secs")?,
            at: part.maybe_number("at")?.unwrap_or_default(),
            by: text("by")?,
            reason: text("reason")?,
        })
    }
}
