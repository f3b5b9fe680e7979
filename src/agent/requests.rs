//! What clients of the control socket ask, and what they get.

use core::time::Duration;

use crate::agent::persons::MaintAsked;
use crate::agent::{Action, Agent, ClientId, Ending, news};
use crate::control::text::{nearest, printable};
use crate::control::{Done, Events, Request, error_line, reply_line};
use crate::delivery::rehearsal::Wanted;
use crate::limits::{CLIENT_BACKLOG_MAX, CLIENTS_MAX};
use crate::membership::NotForgotten;
use crate::time::Instant;

/// A client that is sent more than its limit is dropped without a word.
pub(super) const LINE_MAX: usize = CLIENT_BACKLOG_MAX / 2;

impl Agent {
    pub(super) fn answer(&mut self, now: Instant, client: ClientId, uid: Option<u32>, line: &[u8]) {
        match Request::parse(line) {
            Ok(Request::Status { verbose }) => {
                let mut status = self.status(now, verbose);
                let mut line = reply_line(&status);
                if line.len() > LINE_MAX {
                    // Rather the apps without their instances everywhere.
                    status.apps.iter_mut().for_each(|app| app.instances.clear());
                    line = reply_line(&status);
                }
                self.reply(client, line);
            }
            Ok(Request::Members) => {
                let mut members = self.members(now);
                let mut line = reply_line(&members);
                if line.len() > LINE_MAX {
                    // Rather without the raw tags.
                    members.members.iter_mut().for_each(|member| member.tags.clear());
                    line = reply_line(&members);
                }
                self.reply(client, line);
            }
            Ok(Request::Events { n, follow }) => self.reply_events(client, n, follow),
            Ok(Request::Why { app }) => self.answer_why(now, client, app.as_deref()),
            Ok(Request::App { app, to, for_secs, by }) => {
                let (time, by) = (for_secs.map(Duration::from_secs), who(by.as_deref(), uid));
                self.answer_app(now, client, &app, to, (time, &by));
            }
            Ok(Request::Maint { on, app, node, for_secs, reason, by }) => {
                let asked = MaintAsked {
                    app: app.as_deref(),
                    node: node.as_deref(),
                    time: for_secs.map(Duration::from_secs),
                    reason: reason.as_deref().unwrap_or_default(),
                    by: &who(by.as_deref(), uid),
                };
                self.answer_maint(now, client, on, &asked);
            }
            Ok(Request::Sync { handler, dry_run, force }) => {
                self.answer_sync(now, client, handler.as_deref(), (dry_run, force));
            }
            Ok(Request::TestHandler { handler, event, app, node }) => {
                let wanted = Wanted { handler: &handler, event, app: app.as_deref(), node: node.as_deref() };
                self.begin_rehearsal(now, client, wanted);
            }
            Ok(Request::Stop) => {
                self.begin_stop(now);
                self.reply_ending(client);
            }
            Ok(Request::Restart) => match self.begin_restart(now) {
                Ok(()) => self.reply_ending(client),
                Err(why) => self.reply(client, error_line(&why)),
            },
            Ok(Request::Leave) => {
                self.begin_leave(now);
                self.reply_ending(client);
            }
            Ok(Request::LogLevel { level }) => self.set_log_level(now, client, level),
            Ok(Request::Reload) => self.actions.push_back(Action::Reload { client }),
            Ok(Request::PingMembers { node }) => self.begin_pings(now, client, node.as_deref()),
            Ok(Request::Join { targets }) => self.begin_joins(now, client, targets),
            Ok(Request::Forget { node }) => match self.forget_member(now, &node) {
                Ok(message) => self.reply_when_stored(now, client, message),
                Err(error) => self.reply(client, error_line(&error)),
            },
            Ok(Request::Ping) => self.reply(client, reply_line(&Done { message: "here".into() })),
            Err(error) => self.reply(client, error_line(&error)),
        }
    }

    pub(super) fn reply(&mut self, client: ClientId, line: String) {
        self.actions.push_back(Action::Reply { client, line, last: true });
    }

    /// Says what is going on; the last line comes when it is over.
    fn reply_ending(&mut self, client: ClientId) {
        if matches!(self.ending, Ending::Ended) {
            return self.reply(client, reply_line(&Done { message: "it has ended already".into() }));
        }
        let mut message = self.ending.as_str().to_owned();
        if self.delivery.is_running() {
            message.push_str("; waits for the handler that runs, for its timeout at most");
        }
        let line = reply_line(&Done { message });
        self.actions.push_back(Action::Reply { client, line, last: false });
        self.ending.wait(client);
    }

    fn reply_events(&mut self, client: ClientId, n: usize, follow: bool) {
        if follow && self.followers.len() >= CLIENTS_MAX {
            let error = format!("{CLIENTS_MAX} clients follow the events already; end one of them");
            return self.reply(client, error_line(&error));
        }
        let wall = self.wall;
        let lines: Vec<String> = self.events.newest(n).map(|event| event.json_line(wall)).collect();
        let count = lines.len();
        let head = reply_line(&Events { events: count });
        self.actions.push_back(Action::Reply { client, line: head, last: !follow && count == 0 });
        for (index, line) in lines.into_iter().enumerate() {
            let last = !follow && index + 1 == count;
            self.actions.push_back(Action::Reply { client, line, last });
        }
        if follow && !self.followers.contains(&client) {
            self.followers.push(client);
        }
    }

    /// Until the next restart or reload.
    fn set_log_level(&mut self, now: Instant, client: ClientId, level: log::LevelFilter) {
        self.persons.level_changed = true;
        // First, so that at "off" or "error" it is still seen who silenced it.
        self.tell(news::log_level(now, level));
        self.actions.push_back(Action::LogLevel { level });
        let word = level.as_str().to_ascii_lowercase();
        let message = format!("logs {word} until the next restart or reload");
        self.reply(client, reply_line(&Done { message }));
    }

    fn forget_member(&mut self, now: Instant, node: &str) -> Result<String, String> {
        let name = printable(node);
        match self.membership.forget_member(now, node) {
            Ok(named) => {
                // Before it is stored: the electorate drops it, too.
                self.take_up_membership(now);
                let here = match named {
                    false => "",
                    true => {
                        "\"members\" or \"join\" names it: until the next start it is not asked for any more. "
                    }
                };
                Ok(format!(
                    "{name} is forgotten here. {here}Other nodes remember it: say the same on each that runs handlers"
                ))
            }
            Err(NotForgotten::Unknown) => Err(self.no_such_member(node)),
            Err(NotForgotten::Oneself) => {
                Err(format!("{name} is this node itself; `picored leave` takes it out of the cluster"))
            }
            Err(NotForgotten::Running(state)) => Err(format!(
                "{name} is {}: say `picored leave` there first, or stop it and wait until it is failed",
                state.as_str()
            )),
        }
    }

    /// Says which members there are instead.
    pub(super) fn no_such_member(&self, node: &str) -> String {
        const SHOWN_MAX: usize = 10;
        let names = || self.membership.members().map(|member| &*member.name);
        let name = printable(node);
        if let Some(near) = nearest(node, names()) {
            return format!("no member {name}; did you mean {}?", printable(near));
        }
        let mut known: Vec<_> = names().take(SHOWN_MAX).map(printable).collect();
        if names().nth(SHOWN_MAX).is_some() {
            known.push("…".into());
        }
        format!("no member {name}; members: {}", known.join(", "))
    }
}

/// The name that the client gives, which is what a person wants to see, and the user that it cannot choose.
fn who(by: Option<&str>, uid: Option<u32>) -> String {
    match (by.filter(|by| !by.is_empty()), uid) {
        (Some(by), Some(uid)) => format!("{by} (uid {uid})"),
        (Some(by), None) => by.to_owned(),
        (None, Some(uid)) => format!("uid {uid}"),
        (None, None) => String::new(),
    }
}
