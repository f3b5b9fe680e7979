//! The driver's children: how many, whose, and what becomes of their results.

use core::time::Duration;
use std::io;

use super::children::{Child, Job, Purpose, resolved};
use super::slots::{Slot, token};
use super::{Driver, small};
use crate::agent::AttemptId;
use crate::check::attempt::{ExecTarget, Exit, Outcome, exec_outcome};
use crate::delivery::{Run, RunId, Signal};
use crate::limits::CHILDREN_MAX;
use crate::membership::ResolveId;
use crate::time::Instant;

/// A look-up that takes longer is killed: twice what resolvers wait for one server.
const RESOLVE_MAX: Duration = Duration::from_secs(10);
/// So long children that were killed are waited for, and looked at again in between.
const KILL_MAX: Duration = Duration::from_secs(2);
const KILL_POLL: Duration = Duration::from_millis(2);

impl Driver {
    pub(super) fn start_run(&mut self, now: Instant, id: RunId, run: &mut Run) {
        if let Err(error) = self.start_child(Job::run(run), Purpose::Run { id }) {
            self.agent.handle_exit(now, id, not_started(&error), &[]);
        }
    }

    pub(super) fn start_check(&mut self, now: Instant, id: AttemptId, target: Box<ExecTarget>) {
        // Its own copy: the job borrows what the child keeps for the verdict.
        let purpose = Purpose::Check { id, target: target.clone() };
        if let Err(error) = self.start_child(Job::check(&target), purpose) {
            let outcome = exec_outcome(&target, &not_started(&error), &[]);
            self.agent.handle_attempt(now, id, outcome);
        }
    }

    pub(super) fn start_resolve(&mut self, now: Instant, id: ResolveId, host: &str) {
        let purpose = Purpose::Resolve { id, until: Some(now + RESOLVE_MAX) };
        if let Err(error) = self.start_child(Job::resolve(host), purpose) {
            self.agent.handle_resolved(now, id, &[], &error.to_string());
        }
    }

    fn start_child(&mut self, job: Job<'_>, purpose: Purpose) -> io::Result<()> {
        let full = || io::Error::other("too many children");
        if self.slots.count(|slot| matches!(slot, Slot::Child(_))) >= CHILDREN_MAX {
            return Err(full());
        }
        let index = self.slots.vacant().ok_or_else(full)?;
        let mut child = Child::spawn(&self.trampoline, job, purpose)?;
        if let Err(error) = child.register(self.poll.registry(), token(index)) {
            // Nobody would hear it. It must be reaped all the same, and that is when its failure is told.
            ::log::warn!("event=child-failed a child cannot be listened to, so it is ended: {error}");
            child.signal(Signal::Kill);
        }
        self.slots.put(index, Slot::Child(Box::new(child)));
        Ok(())
    }

    pub(super) fn child_event(&mut self, index: usize) {
        if let Some(Slot::Child(child)) = self.slots.get_mut(index) {
            child.handle_ready(self.poll.registry(), token(index), small(&mut self.scratch));
        }
    }

    /// A child has ended, or several: signals do not count.
    pub(super) fn reap(&mut self, now: Instant) {
        for index in 0..self.slots.end() {
            let Some(Slot::Child(child)) = self.slots.get_mut(index) else { continue };
            if let Some(exit) = child.reap(small(&mut self.scratch))
                && let Some(Slot::Child(child)) = self.slots.close(index)
            {
                self.child_ended(now, *child, exit);
                self.drain(now);
            }
        }
    }

    fn child_ended(&mut self, now: Instant, mut child: Child, exit: Exit) {
        let output = child.output().to_vec();
        match &child.purpose {
            Purpose::Run { id } => self.agent.handle_exit(now, *id, exit, &output),
            Purpose::Check { id, target } => {
                let outcome: Outcome = exec_outcome(target, &exit, &output);
                self.agent.handle_attempt(now, *id, outcome);
            }
            Purpose::Resolve { id, .. } => match resolved(&exit, &output) {
                Ok(addresses) => self.agent.handle_resolved(now, *id, &addresses, "no address"),
                Err(error) => self.agent.handle_resolved(now, *id, &[], &error),
            },
        }
    }

    /// Before the process becomes another program, which would not know them: each is killed and waited for. One that
    /// even KILL does not end at once is left behind.
    pub(super) fn end_children(&mut self) {
        let start = std::time::Instant::now();
        for (_, slot) in self.slots.iter() {
            if let Slot::Child(child) = slot {
                child.signal(Signal::Kill);
            }
        }
        loop {
            for index in 0..self.slots.end() {
                let Some(Slot::Child(child)) = self.slots.get_mut(index) else { continue };
                if child.reap(small(&mut self.scratch)).is_some() {
                    self.slots.close(index);
                }
            }
            let are_left = self.slots.count(|slot| matches!(slot, Slot::Child(_))) > 0;
            if !are_left || start.elapsed() > KILL_MAX {
                return;
            }
            std::thread::sleep(KILL_POLL);
        }
    }

    pub(super) fn signal_run(&mut self, id: RunId, signal: Signal) {
        self.signal_child(signal, |purpose| matches!(purpose, Purpose::Run { id: its } if *its == id));
    }

    /// A connection is closed and not heard of again; a child gets the signal and is reported when it ends.
    pub(super) fn abort_attempt(&mut self, id: AttemptId, signal: Signal) {
        if let Some(index) =
            self.slots.find(|slot| matches!(slot, Slot::Attempt(attempt) if attempt.id == id))
        {
            self.slots.close(index);
            return;
        }
        self.signal_child(signal, |purpose| matches!(purpose, Purpose::Check { id: its, .. } if *its == id));
    }

    fn signal_child(&self, signal: Signal, is: impl Fn(&Purpose) -> bool) {
        let wanted = self.slots.iter().find_map(|(_, slot)| match slot {
            Slot::Child(child) if is(&child.purpose) => Some(child),
            _ => None,
        });
        if let Some(child) = wanted {
            child.signal(signal);
        }
    }
}

fn not_started(error: &io::Error) -> Exit {
    Exit::NotStarted(format!("cannot start: {error}").into())
}
