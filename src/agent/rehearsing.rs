//! `test-handler`: a rehearsal for a person, who is shown all that the handler was told and said, but no secret.

use crate::agent::{Agent, ClientId, news};
use crate::check::attempt::Exit;
use crate::control::{Rehearsed as Shown, error_line, reply_line};
use crate::delivery::Rehearsed;
use crate::delivery::rehearsal::Wanted;
use crate::delivery::run::Run;
use crate::delivery::secrets::MASK;
use crate::time::Instant;

/// Who waits for the end of the rehearsal, and what is known before that.
pub struct Audience {
    client: ClientId,
    shown: Shown,
}

impl Agent {
    pub(super) fn begin_rehearsal(&mut self, now: Instant, client: ClientId, wanted: Wanted<'_>) {
        if let Err(error) = self.can_start_runs() {
            return self.reply(client, error_line(&error));
        }
        if let Some(node) = wanted.node.filter(|node| self.membership.member(node).is_none()) {
            return self.reply(client, error_line(&self.no_such_member(node)));
        }
        let members: Vec<_> = self.membership.members().collect();
        let unix_now = self.wall.unix_secs(now);
        let world = self.identity.world(unix_now, &members, &self.situations, &self.may_act);
        let world = self.gates.complete(world);
        let begun = self.delivery.rehearse(now, &world, wanted);
        match begun {
            Ok(run) => {
                let audience = self.audience(client, &run);
                self.persons.audience = Some(audience);
                self.tell(news::rehearsing(now, wanted.handler));
                self.dirty = true;
            }
            Err(error) => self.reply(client, error_line(&error)),
        }
    }

    fn audience(&self, client: ClientId, run: &Run) -> Audience {
        let config = self.delivery.configs().find(|config| config.name == run.handler);
        let names = config.map(|config| config.secrets.as_slice()).unwrap_or_default();
        let is_secret = |name: &str| names.iter().any(|secret| **secret == *name);
        let value =
            |name: &str, value: &str| if is_secret(name) { MASK.to_owned() } else { value.to_owned() };
        let shown = Shown {
            handler: run.handler.to_string(),
            argv: run.argv.iter().map(ToString::to_string).collect(),
            user: run.user.as_deref().map(str::to_owned),
            env: run.env.iter().map(|(name, text)| (name.to_string(), value(name, text))).collect(),
            stdin: String::from_utf8_lossy(&run.stdin).into_owned(),
            ..Shown::default()
        };
        Audience { client, shown }
    }

    pub(super) fn tell_rehearsed(&mut self, now: Instant, rehearsed: &Rehearsed, exit: &Exit) {
        self.dirty = true;
        self.tell(news::rehearsed(now, &rehearsed.handler, exit));
        let Some(Audience { client, mut shown }) = self.persons.audience.take() else { return };
        shown.output = rehearsed.output.clone();
        shown.exit = news::exit_text(exit);
        (shown.succeeded, shown.meaning) = (rehearsed.ok, rehearsed.meaning.into());
        shown.took_ms = u64::try_from(now.since(rehearsed.started).as_millis()).unwrap_or(u64::MAX);
        self.reply(client, reply_line(&shown));
    }
}
