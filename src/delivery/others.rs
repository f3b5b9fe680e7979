//! Rule 2 of 4.5: other nodes' runs of a handler are waited for.

use core::time::Duration;
use std::rc::Rc;

use super::World;
use super::record::{Record, State};
use crate::limits::OTHER_RUNS_MAX;
use crate::time::Instant;
use crate::wire::serf;

/// Other nodes' runs of one handler, as their tags announced them.
///
/// A run is waited for until its node says that it is over, and for its timeout and a little more at most, whether
/// the node is alive or not. A tag that vanishes, or falls back to a lower number, does not say so: its node was
/// forgotten, or restarted without its state while the run goes on.
#[derive(Default)]
pub struct Others(Vec<OtherRun>);

struct OtherRun {
    node: Rc<str>,
    key: Box<str>,
    lc: u32,
    until: Instant,
}

impl Others {
    /// `window`: how long a run may take.
    pub fn watch(&mut self, now: Instant, handler: &str, window: Duration, world: &World<'_>) {
        let old = core::mem::take(&mut self.0);
        for member in world.members.iter().filter(|member| &*member.name != world.node) {
            for (key, value) in serf::tags(&member.meta).filter(|(key, _)| is_of(key, handler)) {
                let Some(record) = Record::parse(value).filter(|r| r.state == State::Running) else {
                    continue;
                };
                let same = |o: &&OtherRun| *o.node == *member.name && *o.key == *key && o.lc == record.lc;
                let until = old.iter().find(same).map_or(now + window, |o| o.until);
                self.0.push(OtherRun { node: member.name.clone(), key: key.into(), lc: record.lc, until });
            }
        }
        for run in old.into_iter().filter(|run| run.until > now) {
            if self.0.len() >= OTHER_RUNS_MAX {
                break;
            }
            let is_shown = self.0.iter().any(|o| o.node == run.node && o.key == run.key);
            let member = world.members.iter().find(|member| member.name == run.node);
            let record = member.and_then(|m| serf::tag(&m.meta, &run.key)).and_then(Record::parse);
            if !is_shown && record.is_none_or(|record| record.lc < run.lc) {
                self.0.push(run);
            }
        }
    }

    /// The last of them that is waited for, and until when.
    pub fn busy(&self, now: Instant) -> Option<(&str, Instant)> {
        let busy = self.0.iter().map(|run| (&*run.node, run.until)).max_by_key(|(_, until)| *until);
        busy.filter(|(_, until)| *until > now)
    }

    /// Whether `node` is at it for the tag `key`.
    pub fn is_at_it(&self, now: Instant, node: &str, key: &str) -> bool {
        self.0.iter().any(|run| *run.node == *node && *run.key == *key && run.until > now)
    }
}

/// Whether `key` is `h.HANDLER` or `h.HANDLER.APP`.
fn is_of(key: &str, handler: &str) -> bool {
    let rest = key.strip_prefix("h.").and_then(|key| key.strip_prefix(handler));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
