//! Runs of handlers: children of a picored that may outlive it, and that reach the records over the network.

use picored::check::attempt::Exit;
use picored::delivery::{Run, RunId, Signal};

use crate::engine::{Entry, What};
use crate::net::INTERNET;
use crate::node::{Behaviour, Input, Running};
use crate::told::Told;
use crate::world::World;
use crate::{invariants, millis, secs};

impl World {
    pub fn start_run(&mut self, index: usize, id: RunId, run: &Run) {
        let told = Told::read(run);
        invariants::check_run(self, index, &told);
        let (now, life) = (self.now, self.nodes[index].life);
        let node = &mut self.nodes[index];
        let behaviour = match node.failing == Some(&told.handler) {
            true => Behaviour::Fail(1),
            false => node.script.pop_front().unwrap_or(node.behaviour),
        };
        node.minute.reasons += 1;
        node.runs.insert(id, Running { told: told.clone(), behaviour, began: now });
        let name = node.name.clone();
        self.outside.started(now, &name, &told);
        self.to_judge.push((index, told));
        let (from, to, code) = match behaviour {
            Behaviour::Succeed => (50, 1_500, 0),
            Behaviour::Slow => (2_000, 12_000, 0),
            Behaviour::Takes(time) => (time.as_millis() as u64, time.as_millis() as u64 + 10, 0),
            Behaviour::Fail(code) | Behaviour::FailAfter(code) => (50, 1_500, code),
            Behaviour::Hang | Behaviour::IgnoreTerm | Behaviour::IgnoreKill => return,
        };
        let at = now + millis(from) + self.rng.duration_below(millis(to - from));
        self.push(at, What::Exit { node: index, life, id, exit: Exit::Code(code) });
    }

    pub fn signal(&mut self, index: usize, id: RunId, signal: Signal) {
        let life = self.nodes[index].life;
        let Some(running) = self.nodes[index].runs.get(&id) else { return };
        let exit = match (signal, running.behaviour) {
            (Signal::Term, Behaviour::IgnoreTerm) | (_, Behaviour::IgnoreKill) => return,
            (Signal::Term, _) => Exit::Signal(15),
            (Signal::Kill, _) => Exit::Signal(9),
        };
        let at = self.now + millis(1) + self.rng.duration_below(millis(20));
        self.push(at, What::Exit { node: index, life, id, exit });
    }

    /// A child ends by itself or by a signal, whether its parent is still there or not.
    pub fn child_ends(&mut self, index: usize, life: u32, id: RunId, exit: Exit) {
        let node = &mut self.nodes[index];
        if node.suspended {
            let what = What::Exit { node: index, life, id, exit };
            node.stalled.push(Entry { at: self.now, sequence: 0, what });
            return;
        }
        let has_parent = node.life == life && node.is_running();
        let running = match has_parent {
            true => node.runs.remove(&id),
            false => node.orphans.remove(&(life, id)),
        };
        let Some(running) = running else { return };
        let exit = self.do_its_work(index, &running, exit);
        if has_parent {
            self.nodes[index].has_said_never |= matches!(exit, Exit::Code(77 | 78 | 126 | 127));
            self.deliver(index, Input::Exit { id, exit });
        }
    }

    /// What becomes of the outside; a success turns into a failure where the network is in the way.
    fn do_its_work(&mut self, index: usize, running: &Running, exit: Exit) -> Exit {
        let works = exit == Exit::Code(0)
            || matches!((running.behaviour, &exit), (Behaviour::FailAfter(_), Exit::Code(_)));
        let (told, name) = (&running.told, self.nodes[index].name.clone());
        let is_local = told.mode == "picored1" || self.is_for_all(&told.handler);
        let no_uplink = self.nodes[index].no_uplink;
        let sends = is_local || !(no_uplink || self.net.is_cut(index, INTERNET));
        let hears = is_local || !(no_uplink || self.net.is_cut(INTERNET, index));
        if works && sends {
            match (&told.call, told.is_sync()) {
                (Some((addr, state)), _) => self.outside.call(&name, *addr, state),
                (None, true) if is_local => self.outside.write_own(&name, told),
                (None, true) => self.outside.write(self.now, &name, told),
                (None, false) => {}
            }
        }
        match exit {
            Exit::Code(0) if !(sends && hears) => Exit::Code(1),
            exit => exit,
        }
    }

    fn is_for_all(&self, handler: &str) -> bool {
        let all = self.settings.all_handlers();
        let is_it = |config: &&picored::delivery::Config| *config.name == *handler;
        all.iter().find(is_it).is_some_and(|config| config.place == picored::delivery::Place::All)
    }

    /// What the machine's children would have done while it was suspended, they do now.
    pub fn resume_children(&mut self, index: usize) {
        for entry in std::mem::take(&mut self.nodes[index].stalled) {
            self.push(self.now, entry.what);
        }
    }

    /// When a run of this handler, begun long ago, counts no longer (its `timeout`, and 10 s).
    pub fn patience(&self, handler: &str) -> std::time::Duration {
        let all = self.settings.all_handlers();
        let timeout = all.iter().find(|config| *config.name == *handler).map(|config| config.timeout);
        timeout.unwrap_or_default() + secs(10)
    }
}
