//! What changes while the agent runs: the configuration, read anew by the driver, and the gossip keys, by queries.

use core::net::IpAddr;

use crate::agent::{Action, Agent, AppConfig, ClientId, OwnApp, gates, news};
use crate::control::text::cut;
use crate::control::{Reloaded, error_line, reply_line};
use crate::limits::REASON_MAX;
use crate::membership::{Changeable, QueryId};
use crate::time::Instant;
use crate::wire::crypt::KeyRing;
use crate::{check, delivery, safety};

/// A configuration that was read anew: what can be taken over now, and names of what differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Reload {
    pub membership: Changeable,
    pub keys: KeyRing,
    pub keys_file: Option<Box<str>>,
    pub tags: Vec<(Box<str>, Box<str>)>,
    pub publish: Vec<IpAddr>,
    pub apps: Vec<AppConfig>,
    pub handlers: Vec<delivery::Config>,
    pub safety: safety::Config,
    /// What is logged, whatever a person said meanwhile.
    pub log_level: log::LevelFilter,
    /// Keys of the file that differ and take effect now. The gossip keys and their file are not among them: the agent
    /// knows those in use.
    pub changed: Vec<String>,
    /// Keys of the file that differ and take effect at a restart.
    pub at_restart: Vec<String>,
}

/// Where the gossip keys come from, and what was there when it was last read or written.
pub struct KeySource {
    file: Option<Box<str>>,
    stored: KeyRing,
}

impl KeySource {
    pub fn new(file: Option<Box<str>>, keys: &KeyRing) -> Self {
        Self { file, stored: keys.clone() }
    }
}

impl Agent {
    // The configuration.

    /// The configuration was read anew, because a client asked for it or (`None`) by a signal. With an error, complete
    /// and for a person, nothing is changed.
    pub fn handle_reload(
        &mut self,
        now: Instant,
        client: Option<ClientId>,
        result: Result<Box<Reload>, String>,
    ) {
        self.begin(now);
        let line = match result {
            Ok(reload) => {
                let reloaded = self.take_over(now, *reload);
                self.tell(news::reloaded(now, &reloaded));
                reply_line(&reloaded)
            }
            Err(error) => {
                self.tell(news::not_reloaded(now, &error));
                error_line(&error)
            }
        };
        if let Some(client) = client {
            self.actions.push_back(Action::Reply { client, line, last: true });
        }
        self.finish(now);
    }

    fn take_over(&mut self, now: Instant, reload: Reload) -> Reloaded {
        let Reload { membership, keys, keys_file, tags, publish, apps, handlers, .. } = reload;
        let (changed, at_restart) = (reload.changed, reload.at_restart);
        let mut reloaded = Reloaded { changed, at_restart, notes: Vec::new() };
        self.take_over_keys(now, keys, keys_file, &mut reloaded);
        let members = membership.members.clone();
        self.membership.reconfigure(now, membership);
        (self.identity.tags, self.identity.publish) = (tags, publish);
        self.gates.reconfigure(reload.safety, &members);
        self.has_one_handlers = gates::has_one(&handlers);
        self.take_over_apps(now, apps);
        self.delivery.reconfigure(handlers, now);
        self.drop_lost_words(now);
        self.apply_overrides(now);
        if core::mem::take(&mut self.persons.level_changed) {
            self.actions.push_back(Action::LogLevel { level: reload.log_level });
        }
        reloaded
    }

    /// By name: what stays keeps all that it knows; what is gone has no instance any more, and only the programs of its
    /// checks are waited for.
    fn take_over_apps(&mut self, now: Instant, configs: Vec<AppConfig>) {
        let mut old = core::mem::take(&mut self.apps);
        old.append(&mut self.retired);
        for config in configs {
            let own = match old.iter().position(|own| own.app.config().name == config.check.name) {
                Some(index) => {
                    let mut own = old.remove(index);
                    // Also `grace` would begin anew.
                    if *own.app.config() != config.check {
                        own.app.reconfigure(config.check, &mut self.rng, now);
                    }
                    (own.policy, own.publish) = (config.policy, config.publish);
                    own
                }
                None => {
                    self.numbers += 1;
                    OwnApp::new(self.numbers, config, &mut self.rng, now)
                }
            };
            self.apps.push(own);
        }
        for mut own in old {
            let nothing = check::Config { checks: Vec::new(), ..own.app.config().clone() };
            own.app.reconfigure(nothing, &mut self.rng, now);
            self.retired.push(own);
        }
        self.drain_checks(now);
    }

    /// The keys and where they are kept, or neither.
    fn take_over_keys(
        &mut self,
        now: Instant,
        keys: KeyRing,
        file: Option<Box<str>>,
        reloaded: &mut Reloaded,
    ) {
        let before = self.membership.keys().clone();
        if keys != before && keys == self.key_source.stored {
            // They are as old as the start: to go back to them would cut this node off.
            reloaded.notes.push(KEYS_NOT_STORED.into());
            return;
        }
        if keys != before {
            if !self.membership.set_keys(now, keys.clone()) {
                reloaded.at_restart.push("keys".into());
                reloaded.notes.push(FIRST_OR_LAST_KEY.into());
                return;
            }
            reloaded.changed.push("keys".into());
            self.tell(news::keys_reloaded(now, &before, &keys));
        }
        if file != self.key_source.file {
            reloaded.changed.push("keys_file".into());
        }
        self.key_source = KeySource { file, stored: keys };
    }

    // The keys.

    /// A query wants the keys as they are now: they must still be so after a restart.
    pub(super) fn store_keys(&mut self, now: Instant, id: QueryId) {
        let keys = self.membership.keys();
        if *keys == self.key_source.stored {
            return self.membership.handle_keys_stored(now, id, Ok(""));
        }
        if let Some(path) = self.key_source.file.clone() {
            let known = self.key_source.stored.clone();
            self.actions.push_back(Action::WriteKeys { id, path, keys: keys.clone(), known });
            return;
        }
        self.tell(news::keys_not_stored(now, "the configuration itself holds them, and is not written"));
        self.membership.handle_keys_stored(
            now,
            id,
            Ok("in use, but not stored: put it into the configuration"),
        );
    }

    /// `keys` were written to their file, with a word about it if there is one to say, or why they could not be.
    pub fn handle_keys_written(
        &mut self,
        now: Instant,
        id: QueryId,
        keys: KeyRing,
        result: Result<Option<String>, String>,
    ) {
        self.begin(now);
        match &result {
            Ok(doubt) => {
                self.key_source.stored = keys;
                if let Some(doubt) = doubt {
                    self.tell(news::keys_doubtful(now, doubt));
                }
            }
            Err(why) => self.tell(news::keys_not_stored(now, why)),
        }
        let answer = result.map(Option::unwrap_or_default);
        let answer = answer.map_err(|why| format!("in use, but not stored: {why}"));
        let cut = |text| cut(text, REASON_MAX);
        self.membership.handle_keys_stored(now, id, answer.as_deref().map(cut).map_err(|why| cut(why)));
        self.finish(now);
    }

    /// What a person has to know and do as long as the keys in use are not those that a restart would find.
    pub(super) fn keys_problem(&self) -> Option<String> {
        let KeySource { file, stored } = &self.key_source;
        if self.membership.keys() == stored {
            return None;
        }
        let todo = match file {
            Some(path) => format!(
                "put right what keeps {path} from being written (event=keys-not-stored in the log) and repeat the \
                 last `serf keys`, or write them there and run `picored reload`"
            ),
            None => "write them into \"keys\" of the configuration and run `picored reload`".into(),
        };
        Some(format!(
            "the gossip keys in use are not stored, and a restart would cut this node off: `serf keys -list` shows \
             them; {todo}"
        ))
    }
}

/// See [`Agent::take_over_keys`].
const KEYS_NOT_STORED: &str = "the keys stay as `serf keys` made them: they could not be stored, and those of the \
    configuration are older; write them there, or make the key file writable and repeat the last `serf keys`";
const FIRST_OR_LAST_KEY: &str = "to begin with keys, or to do without them, takes a restart of all nodes: neither side would hear the other";

/// What changed from one ring to the next, in words and without the keys: `1a2b3c4d encrypts, …`.
pub fn key_changes(before: &KeyRing, after: &KeyRing) -> String {
    let new = after.keys.iter().filter(|key| !before.keys.contains(key));
    let gone = before.keys.iter().filter(|key| !after.keys.contains(key));
    let first = after.keys.first().filter(|key| before.keys.first() != Some(key));
    let mut parts: Vec<String> = new.map(|key| format!("{} is new", key.fingerprint())).collect();
    parts.extend(first.map(|key| format!("{} encrypts", key.fingerprint())));
    parts.extend(gone.map(|key| format!("{} is removed", key.fingerprint())));
    if parts.is_empty() { "the order of those that decrypt".into() } else { parts.join(", ") }
}
