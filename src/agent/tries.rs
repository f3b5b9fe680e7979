//! What a person wants tried by way of the network: members pinged, addresses joined. A few at once whoever asks, each
//! client in its turn, so that a thousand members do not take the streams that the node itself needs.

use core::time::Duration;
use std::collections::VecDeque;
use std::rc::Rc;

use serde::Serialize;

use crate::agent::{Action, Agent, ClientId, Ending};
use crate::control::text::printable;
use crate::control::{self, Trying, error_line, reply_line, target_text};
use crate::limits::{TRYING_CLIENTS_MAX, TRYING_TIME_MAX};
use crate::membership::{Answer, Member, Pinged, State, Target, Tried, TryId};
use crate::time::{Instant, earliest};

/// One thing to try.
enum Task {
    Ping(Rc<str>),
    Join(Target),
}

/// What one client wants tried.
struct Job {
    client: ClientId,
    left: VecDeque<Task>,
    running: Vec<(TryId, Task)>,
    until: Instant,
}

impl Job {
    fn joins(&self) -> bool {
        let mut tasks = self.left.iter().chain(self.running.iter().map(|(_, task)| task));
        tasks.any(|task| matches!(task, Task::Join(_)))
    }
}

/// All of it; who comes next is first.
#[derive(Default)]
pub struct Tries {
    jobs: VecDeque<Job>,
}

impl Tries {
    pub fn deadline(&self) -> Option<Instant> {
        earliest(self.jobs.iter().map(|job| Some(job.until)))
    }
}

impl Agent {
    /// Pings `node`, or all members that have not left.
    pub(super) fn begin_pings(&mut self, now: Instant, client: ClientId, node: Option<&str>) {
        let own = &self.identity.node;
        let tasks: VecDeque<Task> = match node {
            Some(node) if *node == **own => {
                let error = format!("{} is this node itself", printable(node));
                return self.reply(client, error_line(&error));
            }
            Some(node) if self.membership.member(node).is_none() => {
                return self.reply(client, error_line(&self.no_such_member(node)));
            }
            Some(node) => VecDeque::from([Task::Ping(node.into())]),
            None => {
                let asked = |member: &&Member| member.name != *own && member.state != State::Left;
                self.membership.members().filter(asked).map(|m| Task::Ping(m.name.clone())).collect()
            }
        };
        self.begin_trying(now, client, tasks);
    }

    pub(super) fn begin_joins(&mut self, now: Instant, client: ClientId, targets: Vec<Target>) {
        if !matches!(self.ending, Ending::Not) {
            return self.refuse_join(client);
        }
        self.begin_trying(now, client, targets.into_iter().map(Task::Join).collect());
    }

    fn refuse_join(&mut self, client: ClientId) {
        let error = format!("this node is {}; it joins nobody", self.ending.as_str());
        self.reply(client, error_line(&error));
    }

    /// This node begins to end: joins that are under way or wait are over.
    pub(super) fn stop_joins(&mut self) {
        while let Some(client) = self.tries.jobs.iter().find(|job| job.joins()).map(|job| job.client) {
            self.stop_trying(client);
            self.refuse_join(client);
        }
    }

    fn begin_trying(&mut self, now: Instant, client: ClientId, left: VecDeque<Task>) {
        let same = self.tries.jobs.iter().any(|job| job.client == client);
        if same || self.tries.jobs.len() >= TRYING_CLIENTS_MAX {
            let error = "others ping or join already; try again when they are done";
            return self.reply(client, error_line(error));
        }
        let head = reply_line(&Trying { count: left.len() });
        self.actions.push_back(Action::Reply { client, line: head, last: left.is_empty() });
        if !left.is_empty() {
            let until = now + TRYING_TIME_MAX;
            self.tries.jobs.push_back(Job { client, left, running: Vec::new(), until });
        }
    }

    /// At the end of every input: gives up what took too long, and begins what there is room for.
    pub(super) fn go_on_trying(&mut self, now: Instant) {
        while let Some(at) = self.tries.jobs.iter().position(|job| job.until <= now) {
            let Some(client) = self.tries.jobs.get(at).map(|job| job.client) else { return };
            let left = self.stop_trying(client);
            let secs = TRYING_TIME_MAX.as_secs();
            self.reply(client, error_line(&format!("{secs} s are over; {left} were not tried to the end")));
        }
        while let Some(at) = self.next_job()
            && let Some(mut job) = self.tries.jobs.remove(at)
        {
            let Some(task) = job.left.pop_front() else { return };
            let id = match &task {
                Task::Ping(node) => self.membership.ping_member(now, node),
                Task::Join(target) => self.membership.join_once(now, target),
            };
            let client = job.client;
            match id {
                Some(id) => {
                    job.running.push((id, task));
                    self.tries.jobs.push_back(job);
                }
                None => {
                    self.tries.jobs.push_back(job);
                    self.tell_tried(client, &not_tried(&task));
                }
            }
            // Some are over at once.
            self.take_up_membership(now);
        }
    }

    /// The place of the first job of which there is room for more.
    fn next_job(&self) -> Option<usize> {
        let (ping, join) = (self.membership.may_try(), self.membership.may_join());
        self.tries.jobs.iter().position(|job| match job.left.front() {
            Some(Task::Ping(_)) => ping,
            Some(Task::Join(_)) => join,
            None => false,
        })
    }

    /// The client wants it no more. Gives how many were not done.
    pub(super) fn stop_trying(&mut self, client: ClientId) -> usize {
        let Some(at) = self.tries.jobs.iter().position(|job| job.client == client) else { return 0 };
        let Some(job) = self.tries.jobs.remove(at) else { return 0 };
        job.running.iter().for_each(|(id, _)| self.membership.cancel_try(*id));
        job.running.len() + job.left.len()
    }

    /// Something was tried.
    pub(super) fn tried(&mut self, id: TryId, result: Tried) {
        let mut running = self.tries.jobs.iter_mut().flat_map(|job| {
            let at = job.running.iter().position(|(running, _)| *running == id)?;
            Some((job.client, job.running.swap_remove(at).1))
        });
        let Some((client, task)) = running.next() else { return };
        drop(running);
        match (task, result) {
            (Task::Join(target), Tried::Join { error }) => {
                let (joined, why) = (error.is_none(), error.map(String::from));
                self.tell_tried(client, &control::Joined { target: target_text(&target), joined, why });
            }
            (_, Tried::Ping(pinged)) => {
                let line = self.pinged(&pinged);
                self.tell_tried(client, &line);
            }
            (Task::Ping(_), Tried::Join { .. }) => {}
        }
    }

    /// One line of the reply; the last one ends it.
    fn tell_tried(&mut self, client: ClientId, what: &impl Serialize) {
        let Some(at) = self.tries.jobs.iter().position(|job| job.client == client) else { return };
        let last = self.tries.jobs.get(at).is_some_and(|job| job.left.is_empty() && job.running.is_empty());
        if last {
            self.tries.jobs.remove(at);
        }
        let line = serde_json::to_string(what).unwrap_or_default();
        self.actions.push_back(Action::Reply { client, line, last });
    }

    fn pinged(&self, pinged: &Pinged) -> control::Pinged {
        let took = |answer: &Answer| match answer {
            Answer::Took(time) => Some(millis(*time)),
            Answer::Missing(_) => None,
        };
        let why = |answer: &Answer| match answer {
            Answer::Took(_) => None,
            Answer::Missing(why) => Some(why.to_string()),
        };
        let state = self.membership.member(&pinged.node).map_or("forgotten", |member| member.state.as_str());
        control::Pinged {
            node: pinged.node.to_string(),
            address: pinged.addr.to_string(),
            state: state.into(),
            udp_ms: took(&pinged.udp),
            udp_why: why(&pinged.udp),
            indirect_ms: took(&pinged.indirect),
            indirect_why: why(&pinged.indirect),
            relays: pinged.relays.iter().map(|relay| relay.to_string()).collect(),
            via: pinged.via.as_deref().map(str::to_owned),
            tcp_ms: took(&pinged.tcp),
            tcp_why: why(&pinged.tcp),
            problem: problem(pinged, self.identity.advertise.port()),
        }
    }
}

/// What a ping's result means and what to do. `own` is our port: theirs is where we ping, ours where they do.
fn problem(pinged: &Pinged, own: u16) -> Option<String> {
    let node = &pinged.node;
    let port = match pinged.addr.port() {
        port if port == own => format!("port {port}"),
        port => format!("port {port} there and {own} here"),
    };
    Some(match (&pinged.udp, &pinged.tcp) {
        (Answer::Took(_), Answer::Took(_)) => return None,
        (Answer::Missing(why), Answer::Took(_)) => format!(
            "UDP to or from {node} is blocked ({why}): let UDP {port} through the firewalls of both servers and \
             between them, both ways"
        ),
        (Answer::Took(_), Answer::Missing(why)) => format!(
            "TCP to {node} does not work ({why}): let TCP {port} through the firewalls of both servers and \
             between them, both ways; without it they cannot join and compare what they know"
        ),
        (Answer::Missing(_), Answer::Missing(why)) => match &pinged.via {
            Some(via) => format!(
                "{node} is well, {via} reaches it; this node does not ({why}): look at the route and the firewalls \
                 between the two, UDP and TCP {port}, both ways"
            ),
            None => format!(
                "nothing of {node} answers ({why}): is the server up, does picored run there, is {port} let \
                 through by UDP and TCP, both ways?"
            ),
        },
    })
}

/// A member that was forgotten before its turn came.
fn not_tried(task: &Task) -> control::Pinged {
    let node = match task {
        Task::Ping(node) => node.to_string(),
        Task::Join(target) => target_text(target),
    };
    let problem = Some(format!("{node} is no member any more"));
    control::Pinged { node, state: "forgotten".into(), problem, ..control::Pinged::default() }
}

/// To the microsecond.
fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1_000.0
}
