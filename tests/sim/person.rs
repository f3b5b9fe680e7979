//! What persons say, through a node's control socket.

use serde_json::{Value, json};

use crate::world::World;

impl World {
    /// `picored sync` on this node.
    pub fn sync(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].synced = true;
        self.command(index, &json!({"cmd": "sync"}));
    }

    /// `picored sync --force`: past `max_remove`.
    pub fn force(&mut self, name: &str) {
        let index = self.index(name);
        self.nodes[index].synced = true;
        self.command(index, &json!({"cmd": "sync", "force": true}));
    }

    /// `picored maint on|off`, said on `by` about `node`.
    pub fn maint(&mut self, by: &str, node: &str, app: &str, on: bool) -> Said {
        let index = self.index(by);
        let to = if on { "on" } else { "off" };
        let about = if by == node { Value::Null } else { json!(node) };
        let entry = (node.to_string(), app.to_string(), by.to_string());
        self.ever_withdrawn.insert((node.to_string(), app.to_string()));
        match on {
            true => self.maint.insert(entry),
            false => self.maint.remove(&entry),
        };
        self.command(index, &json!({"cmd": "maint", "to": to, "app": app, "node": about}))
    }

    /// `picored forget`, said on every node that runs.
    pub fn forget_everywhere(&mut self, whom: &str) {
        let known = self.node(whom).addresses.clone();
        self.forgotten.extend(known);
        for index in 0..self.nodes.len() {
            self.nodes[index].shadow.forget(whom);
            if self.nodes[index].is_awake() && self.nodes[index].name != whom {
                self.command(index, &json!({"cmd": "forget", "node": whom}));
            }
        }
    }

    fn command(&mut self, index: usize, request: &Value) -> Said {
        self.nodes[index].minute.reasons += 1;
        self.disturb();
        let client = self.say(index, &request.to_string());
        Said { index, life: self.nodes[index].life, client }
    }

    /// The answer to a command, once it came.
    pub fn reply_to(&mut self, said: Said) -> Option<Value> {
        let is_there = self.nodes[said.index].life == said.life && self.nodes[said.index].is_running();
        is_there.then(|| self.answer(said.index, said.client)).flatten()
    }
}

/// A command that was given.
#[derive(Clone, Copy, Debug)]
pub struct Said {
    pub index: usize,
    life: u32,
    client: u32,
}
