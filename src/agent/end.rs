//! How the agent ends: by stopping (nobody notices a short absence) or by leaving the cluster.

use core::time::Duration;

use crate::agent::{Action, Agent, ClientId, news};
use crate::control::{Done, reply_line};
use crate::safety::Address;
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
        /// Then the program is replaced by the one on disk.
        restart: bool,
        clients: Vec<ClientId>,
    },
    /// Own apps are shown in maintenance; the goodbye follows at `until`, which runs, here and elsewhere, move on to
    /// `latest` at most.
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
    /// [`Action::Exit`] or [`Action::Restart`] was given out.
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
            Self::Stopping { restart: true, .. } => "restarting",
            Self::Stopping { .. } | Self::Ended => "stopping",
            Self::Withdrawing { .. } | Self::Leaving { .. } => "leaving",
        }
    }
    /// Clients that wait for the end.
    fn clients(&mut self) -> Option<&mut Vec<ClientId>> {
        match self {
            Self::Stopping { clients, .. }
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
    /// It stops or leaves, and does not come back as another program.
    pub fn is_ending(&self) -> bool {
        !matches!(self.ending, Ending::Not | Ending::Ended | Ending::Stopping { restart: true, .. })
    }

    /// Refuses what a person wants to run while the node ends.
    pub(super) fn can_start_runs(&self) -> Result<(), String> {
        match self.ending {
            Ending::Not => Ok(()),
            _ => Err(format!("this node is {}; it starts no handler", self.ending.as_str())),
        }
    }

    pub(super) fn begin_stop(&mut self, now: Instant) {
        // Whoever says stop while it leaves does not want to wait for the goodbye.
        let clients = match &mut self.ending {
            // It is to be gone, says a person, and not to come back.
            Ending::Stopping { restart, .. } => return *restart = false,
            Ending::Ended => return,
            other => other.clients().map(core::mem::take).unwrap_or_default(),
        };
        self.delivery.stop();
        self.ending = Ending::Stopping { restart: false, clients };
        self.stop_joins();
        self.tell(news::stopping(now, self.delivery.is_running()));
    }

    /// Who stops or leaves already goes on with that, and the error says so.
    pub(super) fn begin_restart(&mut self, now: Instant) -> Result<(), String> {
        match self.ending {
            Ending::Not => {}
            Ending::Stopping { restart: true, .. } => return Ok(()),
            _ => {
                let what = self.ending.as_str();
                return Err(format!(
                    "it is {what} already, so it does not restart; start it when it has ended"
                ));
            }
        }
        self.delivery.stop();
        self.ending = Ending::Stopping { restart: true, clients: Vec::new() };
        self.stop_joins();
        self.tell(news::restarting(now, self.delivery.is_running()));
        Ok(())
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
        // Nobody hears the tags of a node that left: until its run is over they would wait for its result. And what it
        // published is to be gone before it is.
        let is_awaited =
            self.delivery.is_awaited() || (self.ending.is_leaving() && self.is_still_published());
        if let Ending::Withdrawing { until, latest, .. } = &mut self.ending
            && is_awaited
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

    /// Whether an own address is still in P though not in G any more, and somebody is there to take it away.
    fn is_still_published(&self) -> bool {
        let holds = |set: Option<&[Address]>| {
            set.is_some_and(|set| set.iter().any(|address| address.node == self.identity.node))
        };
        self.membership.knows_somebody()
            && self.situations.iter().any(|app| {
                let told = self.delivery.published(&app.name).flatten();
                holds(told.as_deref()) && !holds(app.verdict.publish.as_deref())
            })
    }

    fn exit(&mut self, now: Instant) {
        let (message, last) = match self.ending {
            Ending::Leaving { .. } => ("left the cluster", Action::Exit { code: 0 }),
            Ending::Stopping { restart: true, .. } => ("restarts", Action::Restart),
            _ => ("stopped", Action::Exit { code: 0 }),
        };
        self.tell(news::ended(now, message));
        let line = reply_line(&Done { message: message.into() });
        for client in self.ending.clients().map(core::mem::take).unwrap_or_default() {
            // Its connection closes when all is over: what is done after the end must find nothing of us.
            self.actions.push_back(Action::Reply { client, line: line.clone(), last: false });
        }
        self.ending = Ending::Ended;
        self.persist_changes(now);
        self.actions.push_back(last);
    }
}
