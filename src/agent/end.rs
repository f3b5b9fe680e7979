//! How the agent ends: by stopping (nobody notices a short absence) or by leaving the cluster.

use core::time::Duration;

use crate::agent::{Action, Agent, ClientId, news};
use crate::control::{Done, reply_line};
use crate::time::Instant;

/// For so long own apps are shown withdrawn before the goodbye: a few gossip rounds.
const WITHDRAW_TIME: Duration = Duration::from_secs(2);
/// A run that is under way and whose result others wait for is waited for with the goodbye, for so long at most.
const RUN_TIME_MAX: Duration = Duration::from_secs(60);
/// So long after the goodbye the process ends even if it did not get through.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(15);

/// Where the end stands.
pub enum Ending {
    Not,
    /// Only a run that is under way is waited for; its own timeout bounds it.
    Stopping {
        clients: Vec<ClientId>,
    },
    /// Own apps are shown in maintenance; the goodbye follows at `until`, which a run moves on to `latest` at most.
    Withdrawing {
        until: Instant,
        latest: Instant,
        clients: Vec<ClientId>,
    },
    /// Goodbye was said; until it got round, or `give_up`.
    Leaving {
        /// Then nothing more is waited for but a run; `None`: that has come.
        give_up: Option<Instant>,
        done: bool,
        clients: Vec<ClientId>,
    },
    /// [`Action::Exit`] was given out.
    Ended,
}

impl Ending {
    /// The next moment at which something happens by itself.
    pub fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Withdrawing { until, .. } => Some(*until),
            // Later only the run that is under way is waited for, and that has its own deadlines.
            Self::Leaving { give_up, .. } => *give_up,
            _ => None,
        }
    }
    pub fn is_leaving(&self) -> bool {
        matches!(self, Self::Withdrawing { .. } | Self::Leaving { .. })
    }
    pub fn leave_done(&mut self) {
        if let Self::Leaving { done, .. } = self {
            *done = true;
        }
    }
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Not => "running",
            Self::Stopping { .. } | Self::Ended => "stopping",
            Self::Withdrawing { .. } | Self::Leaving { .. } => "leaving",
        }
    }
    /// Clients that wait for the end.
    fn clients(&mut self) -> Option<&mut Vec<ClientId>> {
        match self {
            Self::Stopping { clients }
            | Self::Withdrawing { clients, .. }
            | Self::Leaving { clients, .. } => Some(clients),
            Self::Not | Self::Ended => None,
        }
    }
    /// `client` is told when it is over.
    pub fn wait(&mut self, client: ClientId) {
        if let Some(clients) = self.clients()
            && !clients.contains(&client)
        {
            clients.push(client);
        }
    }
    pub fn forget(&mut self, client: ClientId) {
        if let Some(clients) = self.clients() {
            clients.retain(|&waiting| waiting != client);
        }
    }
}

impl Agent {
    pub(super) fn begin_stop(&mut self, now: Instant) {
        // Whoever says stop while it leaves does not want to wait for the goodbye.
        let clients = match &mut self.ending {
            Ending::Stopping { .. } | Ending::Ended => return,
            other => other.clients().map(core::mem::take).unwrap_or_default(),
        };
        self.delivery.stop();
        self.ending = Ending::Stopping { clients };
        self.stop_joins();
        self.tell(news::stopping(now, self.delivery.is_running()));
    }

    pub(super) fn begin_leave(&mut self, now: Instant) {
        if !matches!(self.ending, Ending::Not) {
            return;
        }
        self.delivery.leave();
        let until = match self.apps.iter().any(|own| own.app.has_instance()) {
            true => now + WITHDRAW_TIME,
            false => now,
        };
        self.ending = Ending::Withdrawing { until, latest: now + RUN_TIME_MAX, clients: Vec::new() };
        self.stop_joins();
        self.dirty = true;
        self.tell(news::leaving(now));
    }

    /// At the end of every input.
    pub(super) fn go_on_ending(&mut self, now: Instant) {
        // Nobody hears the tags of a node that left: until its run is over they would wait for its result.
        if let Ending::Withdrawing { until, latest, .. } = &mut self.ending
            && self.delivery.is_awaited()
        {
            *until = (*until).max(now + WITHDRAW_TIME).min(*latest);
        }
        if let Ending::Withdrawing { until, clients, .. } = &mut self.ending
            && *until <= now
        {
            let (give_up, clients) = (Some(now + LEAVE_TIME_MAX), core::mem::take(clients));
            self.ending = Ending::Leaving { give_up, done: false, clients };
            self.membership.leave(now);
            self.take_up_membership(now);
        }
        let is_over = match &mut self.ending {
            Ending::Stopping { .. } => true,
            Ending::Leaving { give_up, done, .. } => {
                if give_up.take_if(|at| *at <= now).is_some() {
                    *done = true;
                    self.delivery.stop();
                }
                *done && !self.delivery.is_waiting()
            }
            _ => false,
        };
        if is_over && !self.delivery.is_running() {
            self.exit(now);
        }
    }

    fn exit(&mut self, now: Instant) {
        let message = if self.ending.is_leaving() { "left the cluster" } else { "stopped" };
        self.tell(news::ended(now, message));
        let line = reply_line(&Done { message: message.into() });
        for client in self.ending.clients().map(core::mem::take).unwrap_or_default() {
            self.actions.push_back(Action::Reply { client, line: line.clone(), last: true });
        }
        self.ending = Ending::Ended;
        self.actions.push_back(Action::Exit { code: 0 });
    }
}
