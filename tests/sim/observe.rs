//! What can be seen of the cluster: each node's members through its control socket, the records, and the
//! conditions that scenarios wait for.

use std::collections::BTreeSet;
use std::net::IpAddr;

use picored::safety::AllDown;
use serde_json::Value;

use crate::node::{Health, Node};
use crate::world::World;

/// A member as one node shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub name: String,
    /// `10.0.0.1:7946`
    pub address: String,
    pub state: String,
    /// Not only remembered from the state file: it has a vote.
    pub heard: bool,
    pub incarnation: u64,
    /// As many bytes as names and values of its tags have.
    pub tags_len: usize,
}

/// The only place that knows what the answer to `members` looks like.
fn members_of(reply: &Value) -> Vec<Seen> {
    let text = |member: &Value, key: &str| member[key].as_str().unwrap_or_default().to_string();
    let list = reply["members"].as_array().unwrap_or_else(|| panic!("no members in {reply}"));
    list.iter()
        .map(|member| Seen {
            name: text(member, "name"),
            address: text(member, "address"),
            state: text(member, "state"),
            heard: false,
            incarnation: member["incarnation"].as_u64().expect("a member has an incarnation"),
            tags_len: tags_len(&member["tags"]),
        })
        .collect()
}

fn tags_len(tags: &Value) -> usize {
    let tags = tags.as_object().into_iter().flatten();
    tags.map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum()
}

impl Seen {
    pub fn is(&self, states: &[&str]) -> bool {
        states.contains(&self.state.as_str())
    }
    /// Of those suspected, too; who is only remembered is not alive for gate 4.
    pub fn is_alive(&self) -> bool {
        self.heard && self.is(&["alive", "suspect"])
    }
}

/// The names of those that fit.
pub fn names_of(view: &[Seen], fits: impl Fn(&Seen) -> bool) -> BTreeSet<String> {
    view.iter().filter(|seen| fits(seen)).map(|seen| seen.name.clone()).collect()
}

impl World {
    /// A request to a running, unfrozen node's control socket; the answer may come later.
    pub fn say(&mut self, index: usize, request: &str) -> u32 {
        let now = self.now;
        let client = (self.sequence % u64::from(u32::MAX)) as u32;
        self.sequence += 1;
        let agent = self.nodes[index].agent.as_mut().expect("only a running node is asked");
        agent.handle_request(now, client, request.as_bytes());
        self.drain(index);
        client
    }

    /// The answer, once it is complete.
    pub fn answer(&mut self, index: usize, client: u32) -> Option<Value> {
        let replies = &mut self.nodes[index].replies;
        if !replies.get(&client)?.1 {
            return None;
        }
        let text = replies.remove(&client)?.0.concat();
        Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}")))
    }

    /// As [`World::say`], where the answer comes at once.
    pub fn ask(&mut self, index: usize, request: &str) -> Value {
        let client = self.say(index, request);
        let answer = self.answer(index, client);
        answer.unwrap_or_else(|| panic!("{} did not answer {request} at once", self.nodes[index].name))
    }

    /// What a running node says of its members.
    pub fn view(&mut self, index: usize) -> Vec<Seen> {
        let mut view = members_of(&self.ask(index, r#"{"cmd":"members"}"#));
        let node = &self.nodes[index];
        for seen in &mut view {
            let joined = node.last_noted("node-joined", &seen.name);
            seen.heard = seen.name == node.name || joined.is_some_and(|at| at >= node.started);
        }
        view
    }

    /// The state in which `who` sees `whom`; `None`: it does not know it (or cannot be asked).
    pub fn sees(&mut self, who: &str, whom: &str) -> Option<Seen> {
        let index = self.index(who);
        if !self.nodes[index].is_running() || self.nodes[index].frozen {
            return None;
        }
        self.view(index).into_iter().find(|member| member.name == whom)
    }

    fn can_be_asked(&self) -> Vec<usize> {
        let awake = self.nodes.iter().filter(|node| node.is_running() && !node.frozen);
        awake.map(|node| node.index).collect()
    }

    /// Every running node shows `whom` in one of `states`, itself left out.
    pub fn all_see(&mut self, whom: &str, states: &[&str]) -> bool {
        let others: Vec<usize> =
            self.can_be_asked().into_iter().filter(|&i| self.nodes[i].name != whom).collect();
        others.into_iter().all(|index| {
            let view = self.view(index);
            view.iter().any(|seen| seen.name == whom && states.contains(&seen.state.as_str()))
        })
    }

    /// Every running node shows exactly the running ones as alive, each at its address.
    pub fn all_see_all(&mut self) -> bool {
        let mut expected: Vec<(String, String)> = Vec::new();
        for node in self.nodes.iter().filter(|node| node.is_running()) {
            expected.push((node.name.clone(), node.addr.to_string()));
        }
        expected.sort();
        self.can_be_asked().into_iter().all(|index| {
            let view = self.view(index).into_iter().filter(|seen| seen.state == "alive");
            let mut alive: Vec<_> = view.map(|seen| (seen.name, seen.address)).collect();
            alive.sort();
            alive == expected
        })
    }

    /// The records of `app`, each address as the name of the node that has it now, in the nodes' order;
    /// an address that nobody has stands as itself.
    pub fn records(&self, app: &str) -> Vec<String> {
        self.names_of(self.outside.records(app))
    }

    fn names_of(&self, addrs: &[IpAddr]) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for node in &self.nodes {
            if addrs.iter().any(|addr| node.publishes(*addr)) {
                found.push(node.name.clone());
            }
        }
        for addr in addrs {
            if !self.nodes.iter().any(|node| node.publishes(*addr)) {
                found.push(addr.to_string());
            }
        }
        found
    }

    /// The nodes whose instance of `app` is good, as an all-knowing observer sees it: its picored runs, it is up, and
    /// nobody withdrew it. Where only its picored is dead and it serves, it stays if it is published.
    pub fn good(&self, app: &str) -> Vec<String> {
        let published = self.records(app);
        let app_index = self.settings.apps.iter().position(|known| known == app).expect("the app is known");
        let is_good = |node: &&Node| {
            let is_up = node.health.get(app_index).is_none_or(|health| *health == Health::Up);
            let stays = || {
                let silent = node.life > 0 && node.powered && !node.has_left && self.settings.verify;
                silent && published.contains(&node.name)
            };
            is_up && !self.is_withdrawn(&node.name, app) && (node.is_running() || stays())
        };
        self.nodes.iter().filter(is_good).map(|node| node.name.clone()).collect()
    }

    /// The records of all apps are what the good nodes and the settings make of them.
    pub fn records_are_right(&self) -> bool {
        self.settings.apps.iter().all(|app| self.record_is_right(app))
    }

    /// Where each node tells itself, too: its own table holds the good ones, if there are enough.
    pub fn own_records_are_right(&self) -> bool {
        let running = |by: &String| self.nodes.iter().any(|node| node.name == *by && node.is_running());
        self.outside.own.iter().filter(|((by, ..), _)| running(by)).all(|((_, _, app), addrs)| {
            let names = self.names_of(addrs);
            let good = self.good(app);
            names == good || good.len() < self.nodes.len()
        })
    }

    fn record_is_right(&self, app: &str) -> bool {
        let (records, good) = (self.records(app), self.good(app));
        let counts = |node: &&Node| node.life > 0 && !node.has_left && !self.is_withdrawn(&node.name, app);
        let known = self.nodes.iter().filter(counts).count();
        if good.len() >= self.settings.needed(known) {
            return records == good;
        }
        match &self.settings.all_down {
            // Where nothing was ever published, or nobody knows any more what was, nothing can be kept.
            AllDown::Keep => {
                records.is_empty()
                    || good.iter().all(|name| records.contains(name))
                    || !self.nodes.iter().any(|node| node.is_running() && node.disk.knows_outside(app))
            }
            AllDown::All => self.nodes.iter().filter(counts).all(|node| records.contains(&node.name)),
            AllDown::Empty => records.is_empty(),
            AllDown::Fallback(list) => {
                let mut list: Vec<IpAddr> = list.clone();
                list.sort_unstable();
                self.outside.records(app) == list
            }
        }
    }

    /// How often anybody logged `event`.
    pub fn count(&self, event: &str) -> usize {
        self.nodes.iter().map(|node| node.count(event)).sum()
    }

    /// Nodes that somebody declared failed although they ran; false alarms, if nothing was cut or frozen.
    pub fn failures(&self) -> usize {
        self.count("node-failed")
    }

    /// The world in a few lines, for a failed test; with `TRACE=1` all that was noted.
    pub fn picture(&self) -> String {
        let mut lines = Vec::new();
        for node in &self.nodes {
            let process = match (node.is_running(), node.frozen, node.exited) {
                (_, _, Some(code)) => format!("exited {code}"),
                (_, true, _) => "frozen".to_string(),
                (true, ..) => "runs".to_string(),
                (false, ..) => "down".to_string(),
            };
            let runs = node.runs.len();
            let mut line =
                format!("  {} {} {process}, apps {:?}, runs {runs}", node.name, node.addr, node.health);
            if let Some(note) = node.notes.last() {
                line += &format!(", last said {} {} at {:?}", note.event, note.node, note.at);
            }
            lines.push(line);
            if lines.len() == 12 {
                break;
            }
        }
        for app in &self.settings.apps {
            lines.push(format!("  records of {app}: {:?}, good: {:?}", self.records(app), self.good(app)));
        }
        if std::env::var_os("TRACE").is_some() {
            for node in &self.nodes {
                let notes = node.notes.iter();
                lines.extend(
                    notes.map(|note| format!("  {} {:?} {} {}", node.name, note.at, note.event, note.node)),
                );
            }
        }
        for app in &self.settings.apps {
            let history = self.outside.history(app);
            let newest = &history[history.len().saturating_sub(5)..];
            lines.extend(newest.iter().map(|write| format!("  {app}: {write}")));
        }
        for start in self.outside.starts.iter().rev().take(5) {
            lines.push(format!("  run at {:?} by {}: {:?}", start.at, start.by, start.told));
        }
        lines.join("\n")
    }

    /// As [`World::picture`], with what every node says of its members.
    pub fn full_picture(&mut self) -> String {
        let mut lines = vec![self.picture()];
        for index in self.can_be_asked() {
            let name = self.nodes[index].name.clone();
            let view = self.view(index);
            let odd = view.iter().filter(|seen| seen.state != "alive");
            let odd: Vec<String> = odd.map(|seen| format!("{} {}", seen.name, seen.state)).collect();
            lines.push(format!("  {name} knows {}, not alive: {odd:?}", view.len()));
            let notes = &self.nodes[index].notes;
            for note in &notes[notes.len().saturating_sub(6)..] {
                lines.push(format!("    at {:?}: {} {}", note.at, note.event, note.node));
            }
        }
        lines.join("\n")
    }
}
