//! The simulator's loop, which stands where the driver's loop stands in the daemon: takes the nearest of
//! deadlines and arrivals, gives it to an agent, drains that agent, performs its actions.

use std::cmp::{Ordering, Reverse};
use std::net::{IpAddr, SocketAddr};

use picored::agent::{Action, AttemptId};
use picored::check::attempt::{Exit, Outcome};
use picored::delivery::RunId;
use picored::membership;
use picored::membership::SendError;
use picored::time::Instant;

use crate::net::Segment;
use crate::node::{Input, Node, SOCKET_BUFFER};
use crate::world::World;
use crate::{invariants, millis, rules, secs};

/// An attempt at a public address failed if it was given up after so long.
pub const TRY_TIMEOUT: std::time::Duration = secs(5);

/// Something on its way.
pub struct Entry {
    pub at: Instant,
    pub sequence: u64,
    pub what: What,
}

pub enum What {
    Packet {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    /// Towards one end of a stream.
    Segment {
        stream: u64,
        towards: usize,
        segment: Segment,
    },
    /// For one life of one process.
    Input {
        node: usize,
        life: u32,
        input: Input,
    },
    /// A connection whose SYN nobody answered is tried again.
    Syn {
        node: usize,
        life: u32,
        id: AttemptId,
        to: SocketAddr,
        times: u32,
    },
    /// Of a handler's run that this life of the process started.
    Exit {
        node: usize,
        life: u32,
        id: RunId,
        exit: Exit,
    },
    /// The process that took another's place.
    Start {
        node: usize,
    },
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    // The heap gives its greatest first: the earliest entry is the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        Reverse((self.at, self.sequence)).cmp(&Reverse((other.at, other.sequence)))
    }
}

impl World {
    pub fn push(&mut self, at: Instant, what: What) {
        self.sequence += 1;
        self.queue.push(Entry { at, sequence: self.sequence, what });
    }

    /// One arrival or one deadline, if there is one before `end`; else it is `end`, and false.
    pub fn step(&mut self, end: Instant) -> bool {
        let arrival = self.queue.peek().map(|entry| entry.at);
        let awake = self.nodes.iter().filter(|node| !node.frozen);
        let timer = awake.filter_map(|node| Some((node.wake?, node.index))).min();
        // At the same moment arrivals come first, as in the daemon's loop.
        let (at, woken) = match (arrival, timer) {
            (Some(at), Some((wake, _))) if at <= wake => (at, None),
            (_, Some((wake, index))) => (wake, Some(index)),
            (Some(at), None) => (at, None),
            (None, None) => (end, None),
        };
        if at > end || (arrival.is_none() && timer.is_none()) {
            self.now = self.now.max(end);
            return false;
        }
        self.now = self.now.max(at);
        self.steps += 1;
        match woken {
            Some(index) => self.wake(index),
            None => self.arrive(),
        }
        self.check_always();
        if self.now >= self.inspect_at {
            self.inspect_at = self.now + self.inspect_every;
            invariants::inspect(self);
        }
        true
    }

    fn wake(&mut self, index: usize) {
        invariants::count_wake(self, index);
        let now = self.now;
        if let Some(agent) = &mut self.nodes[index].agent {
            agent.handle_timeout(now);
            self.drain(index);
        }
    }

    fn arrive(&mut self) {
        let Some(entry) = self.queue.pop() else { return };
        match entry.what {
            What::Packet { from, to, bytes } => {
                let hears = |node: &Node| node.addr == to && node.is_running() && !node.no_uplink;
                if let Some(node) = self.nodes.iter().position(hears) {
                    self.deliver(node, Input::Packet { from, bytes });
                }
            }
            What::Segment { stream, towards, segment } => self.segment_arrives(stream, towards, segment),
            What::Syn { node, life, id, to, times } => {
                if self.nodes[node].life == life && self.nodes[node].attempts.contains_key(&id) {
                    self.send_syn(node, id, to, times);
                }
            }
            What::Input { node, life, input } => {
                if self.nodes[node].life == life && self.nodes[node].is_running() {
                    self.deliver(node, input);
                }
            }
            What::Exit { node, life, id, exit } => self.child_ends(node, life, id, exit),
            What::Start { node } => {
                if !self.nodes[node].is_running() && self.nodes[node].powered {
                    self.start_index(node);
                }
            }
        }
    }

    /// To the process, or to the kernel's queues if it is frozen.
    pub fn deliver(&mut self, index: usize, input: Input) {
        let node = &mut self.nodes[index];
        if !node.frozen {
            self.handle(index, input);
            return;
        }
        let is_packet = |input: &Input| matches!(input, Input::Packet { .. });
        let full = node.inbox.iter().filter(|input| is_packet(input)).count() >= SOCKET_BUFFER;
        if !(full && is_packet(&input)) {
            node.inbox.push(input);
        }
    }

    pub fn thaw_index(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if !node.frozen {
            return;
        }
        node.frozen = false;
        node.suspended = false;
        let waiting = std::mem::take(&mut node.inbox);
        self.nodes[index].shadow.slept(self.now);
        self.resume_children(index);
        for input in waiting {
            self.handle(index, input);
        }
    }

    /// One input, then a full drain.
    fn handle(&mut self, index: usize, input: Input) {
        let now = self.now;
        let node = &mut self.nodes[index];
        let Some(agent) = &mut node.agent else { return };
        match input {
            Input::Packet { from, mut bytes } => agent.handle_packet(now, from, &mut bytes),
            Input::Resolved { id, addresses } => agent.handle_resolved(now, id, &addresses, "no such host"),
            Input::Attempt { id, outcome } => {
                if self.end_attempt(index, id, outcome.passed()).is_some()
                    && let Some(agent) = &mut self.nodes[index].agent
                {
                    agent.handle_attempt(now, id, outcome);
                }
            }
            Input::Exit { id, exit } => agent.handle_exit(now, id, exit, b"scripted\n"),
            Input::Persisted(result) => agent.handle_persisted(now, result),
            Input::Accept { stream, from } => self.accept(index, stream, from),
            Input::Stream { stream, end, segment } => self.stream_event(index, stream, end, segment),
        }
        self.drain(index);
    }

    /// Everything the agent wants done, done. Results come back as entries of the queue, never at once.
    pub fn drain(&mut self, index: usize) {
        let now = self.now;
        let Some(mut agent) = self.nodes[index].agent.take() else { return };
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut actions = 0;
        loop {
            buffer.clear();
            while let Some(to) = agent.poll_transmit(now, &mut buffer) {
                let node = &self.nodes[index];
                match node.no_uplink || node.no_route.contains(&to) {
                    true => agent.handle_send_error(now, to, SendError::Unreachable),
                    false => self.send_packet(index, to, &buffer),
                }
                buffer.clear();
                actions += 1;
                invariants::check_drain(self, index, actions);
            }
            let Some(action) = agent.poll_action() else { break };
            actions += 1;
            invariants::check_drain(self, index, actions);
            self.perform(index, action);
        }
        self.buffer = buffer;
        let deadline = agent.next_deadline();
        let lateness = self.nodes[index].lateness;
        let late = self.rng.duration_below(lateness);
        let node = &mut self.nodes[index];
        node.wake = deadline.map(|at| at.max(now) + late);
        if node.exited.is_none() {
            node.agent = Some(agent);
            for (index, told) in std::mem::take(&mut self.to_judge) {
                rules::judge(self, index, &told);
            }
            return;
        }
        let (life, restarting) = (node.life, node.restarting);
        node.clear();
        node.restarting = false;
        self.drop_streams(index, life);
        self.to_judge.retain(|(node, _)| *node != index);
        if restarting {
            self.push(now + millis(50), What::Start { node: index });
        }
    }

    fn send_packet(&mut self, index: usize, to: SocketAddr, bytes: &[u8]) {
        invariants::check_packet(self, index, to, bytes);
        let Some(target) = self.nodes.iter().position(|node| node.addr == to) else { return };
        let from = self.nodes[index].addr;
        for at in self.net.datagram(self.now, index, target, bytes.len()).into_iter().flatten() {
            self.push(at, What::Packet { from, to, bytes: bytes.to_vec() });
        }
    }

    fn perform(&mut self, index: usize, action: Action) {
        match action {
            Action::Membership(membership::Action::StreamOpen { id, to }) => self.open_stream(index, id, to),
            Action::Membership(membership::Action::StreamSend { id, bytes }) => {
                self.send_on_stream(index, id, bytes)
            }
            Action::Membership(membership::Action::StreamClose { id }) => {
                if let Some((stream, end)) = self.net.find(index, self.nodes[index].life, id) {
                    self.close_stream(stream, end, "");
                }
            }
            Action::Membership(membership::Action::Resolve { id, host }) => {
                let known = self.nodes.iter().filter(|node| node.name == *host);
                let addresses: Vec<IpAddr> = known.map(|node| node.addr.ip()).collect();
                self.later(index, 5, 40, Input::Resolved { id, addresses });
            }
            Action::Attempt { id, target } => self.start_attempt(index, id, &target),
            Action::AttemptAbort { id } => {
                // A connection is closed and nothing is answered; a child is, when it has ended.
                match self.nodes[index].attempts.get(&id) {
                    Some(attempt) if attempt.is_child => {
                        let outcome = Outcome::Fail("killed by signal 15".into());
                        self.later(index, 5, 50, Input::Attempt { id, outcome });
                    }
                    // One that was not waited for says nothing.
                    Some(attempt) if self.now.since(attempt.began) < TRY_TIMEOUT => {
                        self.nodes[index].attempts.remove(&id);
                    }
                    _ => drop(self.end_attempt(index, id, false)),
                }
            }
            Action::AttemptKill { id } => {
                let outcome = Outcome::Fail("killed by signal 9".into());
                self.later(index, 1, 10, Input::Attempt { id, outcome });
            }
            Action::Run { id, run } => self.start_run(index, id, &run),
            Action::Signal { id, signal } => self.signal(index, id, signal),
            Action::Reply { client, line, last } => {
                let reply = self.nodes[index].replies.entry(client).or_default();
                reply.0.push(line);
                reply.1 |= last;
            }
            Action::Log { line, .. } => {
                let now = self.now;
                self.nodes[index].note(now, &line);
            }
            Action::WriteKeys { .. } | Action::Reload { .. } => unreachable!("nobody here asks for it"),
            Action::LogLevel { .. } => {}
            Action::Persist { text } => {
                invariants::check_state(self, index, &text);
                let result = self.nodes[index].disk.write(text);
                self.later(index, 0, 2, Input::Persisted(result));
            }
            Action::Restart => {
                self.nodes[index].exited = Some(0);
                self.nodes[index].restarting = true;
            }
            Action::Exit { code } => self.nodes[index].exited = Some(code),
        }
    }

    /// Back to the same process, between `from` and `to` milliseconds later.
    pub fn later(&mut self, node: usize, from: u64, to: u64, input: Input) {
        let delay = millis(from) + self.rng.duration_below(millis(to - from));
        let life = self.nodes[node].life;
        self.push(self.now + delay, What::Input { node, life, input });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BinaryHeap;

    #[test]
    fn the_queue_gives_the_earliest_first_and_of_one_moment_the_oldest() {
        let entry = |at, sequence| Entry {
            at: Instant::from_micros(at),
            sequence,
            what: What::Segment { stream: sequence, towards: 0, segment: Segment::Syn },
        };
        let mut queue: BinaryHeap<Entry> = [entry(5, 1), entry(3, 2), entry(5, 0), entry(3, 3)].into();
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|entry| entry.sequence).collect();
        assert_eq!(order, [2, 3, 0, 1]);
    }
}
