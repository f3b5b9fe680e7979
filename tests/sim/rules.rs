//! Which runs there may be at all (`interfaces`, section 5, the invariants): each one is judged when it starts,
//! by what its node was told, shows and tried, and by what the world knows and the node cannot.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use picored::delivery::Place;
use picored::safety::{AllDown, OnNoQuorum};

use crate::electorate::Share;
use crate::engine::TRY_TIMEOUT;
use crate::node::Tried;
use crate::observe::{Seen, names_of};
use crate::settings::{Settings, app_port, witness_address};
use crate::told::{Shown, Told};
use crate::world::World;
use crate::{invariants, secs};

/// A try counts for a run that begins so long after its end.
const FRESH: Duration = secs(10);
/// So many failed nodes are tried at once if each has two addresses.
const TRIES_AT_ONCE: usize = 8;
/// Those that are missing are tried again after 30 s, for 5 s.
const TRIED_AGAIN: Duration = secs(30);
/// A witness's answer counts for so long.
const WITNESSED: Duration = secs(30);
/// A failed node stays for so long in any case.
const DOWN_AFTER: Duration = secs(5);
/// One that came back stays out for so long.
const HOLD_UP: Duration = secs(15);
/// By then all know of a run. Two apps may have two runners, whose runs are due in the same moment.
const TOLD_WITHIN: std::time::Duration = secs(1);
/// So long after the last disturbance all that is to be known is known to all.
const CALM: Duration = secs(120);

/// One run, with all that is needed to judge it.
struct Case<'a> {
    index: usize,
    told: &'a Told,
    settings: Settings,
    /// What it takes away of what it knows to be outside.
    removed: Vec<IpAddr>,
}

/// The run that this node has just started.
pub fn judge(world: &mut World, index: usize, told: &Told) {
    if !told.is_sync() && told.call.is_none() {
        return;
    }
    let settings = world.nodes[index].settings.clone().unwrap_or_else(|| world.settings.clone());
    let removed = match &told.call {
        Some((addr, state)) if state == "down" => vec![*addr],
        Some(_) => Vec::new(),
        None => told.remove.clone(),
    };
    let case = Case { index, told, settings, removed };
    let withdraws = case.withdraws_itself(world);
    let has_quorum = case.has_quorum(world);
    let allowed = has_quorum || withdraws;
    let stored = world.nodes[index].disk.text().and_then(|text| Some(&text[text.find("\"safety\"")?..]));
    let shadow = format!("{:?}\n  stored: {}", world.nodes[index].shadow, stored.unwrap_or_default());
    let what = format!("{} runs without quorum: {told:?}\n  {shadow}", case.name(world));
    assert!(allowed, "{}", world.blame(&what));
    case.enough_are_left(world);
    case.each_addition_is_by_the_table(world);
    if !withdraws {
        case.each_removal_is_by_the_table(world);
    }
    case.maintenance_is_a_persons_word(world);
    case.nothing_unknown_is_removed(world);
    case.nobody_else_is_at_it(world);
}

impl Case<'_> {
    fn name(&self, world: &World) -> String {
        world.nodes[self.index].name.clone()
    }

    fn place(&self) -> Place {
        let all = self.settings.all_handlers();
        all.iter().find(|config| *config.name == *self.told.handler).map_or(Place::One, |config| config.place)
    }

    fn own_addresses(&self) -> Vec<IpAddr> {
        let own = |shown: &&Shown, name: &str| shown.node == name;
        let name = format!("n{}", self.index + 1);
        self.told
            .members
            .iter()
            .filter(|shown| own(shown, &name))
            .flat_map(|shown| shown.addrs.clone())
            .collect()
    }

    /// Rule (c), exception: only own addresses go, nothing comes.
    fn withdraws_itself(&self, _world: &World) -> bool {
        let own = self.own_addresses();
        self.settings.on_no_quorum == OnNoQuorum::WithdrawSelf
            && self.told.add.is_empty()
            && !self.removed.is_empty()
            && self.removed.iter().all(|addr| own.contains(addr))
    }

    /// Rule (c): as this node must see it.
    fn has_quorum(&self, world: &mut World) -> bool {
        if !self.settings.quorum {
            return true;
        }
        let view = world.view(self.index);
        let now = world.now;
        let node = &mut world.nodes[self.index];
        let changes = node.changes();
        node.shadow.sample(now, &view, &changes);
        let alive = names_of(&view, Seen::is_alive);
        let sure = names_of(&view, |seen| seen.is_alive() && !seen.is(&["suspect"]));
        let shares = node.shadow.shares(&alive, &sure);
        shares.iter().any(|share| match share {
            Share::Majority => true,
            Share::Half(missing) => self.may_act_with_half(world, missing),
            Share::Minority => false,
        })
    }

    fn may_act_with_half(&self, world: &World, missing: &[String]) -> bool {
        let node = &world.nodes[self.index];
        let recent = |tried: &&Tried| tried.answered_at.is_some_and(|at| world.now.since(at) <= WITNESSED);
        let witnesses = (0..self.settings.witnesses).map(witness_address);
        let answered = witnesses.filter(|addr| node.tried.get(addr).filter(recent).is_some()).count();
        let serves = |name: &&String| {
            let Some(other) = world.nodes.iter().find(|other| other.name == **name) else { return false };
            let apps = 0..self.settings.apps.len();
            let mut tries = apps.map(|app| SocketAddr::new(other.addr.ip(), app_port(app)));
            let answers = |tried: &Tried| tried.answered && world.now.since(tried.ended) < TRIED_AGAIN;
            self.settings.verify && tries.any(|addr| node.tried.get(&addr).is_some_and(answers))
        };
        answered >= self.settings.witness_min && !missing.iter().any(|name| serves(&name))
    }

    fn tried(&self, world: &World, addr: IpAddr) -> Option<Tried> {
        let app = world.settings.apps.iter().position(|app| *app == self.told.app)?;
        world.nodes[self.index].tried.get(&SocketAddr::new(addr, app_port(app))).copied()
    }

    /// Up and alive, or failed but seen serving.
    fn is_good(&self, world: &World, shown: &Shown) -> bool {
        let answers = |addr: &IpAddr| self.tried(world, *addr).is_some_and(|tried| tried.answered);
        let serves = || shown.member == "failed" && ["up", "unknown"].contains(&&*shown.app);
        shown.is_good() || (serves() && shown.addrs.iter().any(answers))
    }

    fn needed(&self) -> usize {
        let counts = |shown: &&Shown| shown.member != "left" && shown.app != "maint";
        self.settings.needed(self.told.members.iter().filter(counts).count())
    }

    fn good_among(&self, world: &World, set: &[IpAddr]) -> usize {
        let is_in = |shown: &&Shown| shown.addrs.iter().any(|addr| set.contains(addr));
        self.told.members.iter().filter(is_in).filter(|shown| self.is_good(world, shown)).count()
    }

    /// Whether P had it, as the run was told.
    fn was_published(&self, addr: IpAddr) -> bool {
        let told = self.told;
        let stays = told.addrs.contains(&addr) && !told.add.contains(&addr);
        told.has_previous && (stays || told.remove.contains(&addr))
    }

    /// Rule (a).
    fn enough_are_left(&self, world: &World) {
        let told_otherwise = match &self.settings.all_down {
            AllDown::Keep => false,
            // Those in maintenance and those that left go; nobody else.
            AllDown::All => self.told.guard == "min-up",
            AllDown::Empty => self.told.guard == "min-up",
            AllDown::Fallback(_) => self.told.guard == "fallback",
        };
        let (good, needed) = (self.good_among(world, &self.told.addrs), self.needed());
        if told_otherwise {
            let counts = |shown: &&Shown| shown.app != "maint";
            let everybody = self.told.members.iter().filter(counts);
            // Who failed is in G only if it is in P, whatever it answers.
            let may_be_in = everybody.flat_map(|shown| {
                let in_reach = |addr: &&IpAddr| shown.is_running() || self.was_published(**addr);
                shown.addrs.iter().filter(in_reach).copied().collect::<Vec<_>>()
            });
            let may_be_in: Vec<IpAddr> = may_be_in.collect();
            let good = self.good_among(world, &may_be_in);
            let what =
                format!("{} says that too few are up: {good} of {needed}: {:?}", self.name(world), self.told);
            assert!(good < needed, "{}", world.blame(&what));
            return;
        }
        let what =
            format!("{} takes away although {good} of {needed} stay: {:?}", self.name(world), self.told);
        // Whom a person said to forget nothing keeps.
        let mut removed = self.removed.iter().filter(|addr| !world.forgotten.contains(addr));
        assert!(removed.next().is_none() || good >= needed, "{}", world.blame(&what));
    }

    /// Rule (b).
    fn each_removal_is_by_the_table(&self, world: &World) {
        if ["min-up", "fallback"].contains(&&*self.told.guard) && self.settings.all_down != AllDown::All {
            return; // told so
        }
        for addr in &self.removed {
            if let Err(why) = self.may_go(world, *addr) {
                let what = format!("{} takes {addr} away, {why}: {:?}", self.name(world), self.told);
                panic!("{}", world.blame(&what));
            }
        }
    }

    fn may_go(&self, world: &World, addr: IpAddr) -> Result<(), &'static str> {
        let mut holders = self.told.members.iter().filter(|shown| shown.addrs.contains(&addr)).peekable();
        if holders.peek().is_none() {
            let moved = || world.nodes.iter().any(|node| node.had(addr) && self.knows(&node.name));
            return match world.forgotten.contains(&addr)
                || self.settings.fallback().contains(&addr)
                || moved()
            {
                true => Ok(()),
                false => Err("whose owner it does not know"),
            };
        }
        let running: Vec<&Shown> = holders.clone().filter(|shown| shown.is_running()).collect();
        if !running.is_empty() {
            let stays = |shown: &&&Shown| ["up", "unknown"].contains(&&*shown.app);
            return match running.iter().any(|shown| stays(&shown)) {
                true => Err("whose owner runs and is not down"),
                false => Ok(()),
            };
        }
        for shown in
            holders.filter(|shown| shown.member == "failed" && shown.app != "down" && shown.app != "maint")
        {
            let node = &world.nodes[self.index];
            let failed_at = node.last_noted("node-failed", &shown.node);
            if failed_at.is_some_and(|at| at >= node.started && world.now.since(at) < DOWN_AFTER) {
                return Err("whose owner failed just now");
            }
            if !self.settings.verify {
                continue;
            }
            match self.tried(world, addr) {
                None => return Err("which it never tried"),
                Some(tried) if tried.answered => return Err("which answers it"),
                Some(tried) if world.now.since(tried.ended) >= FRESH + self.round() => {
                    return Err("which it tried long ago");
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// How much longer ago than the last try of a round the first may have ended: they take turns, and one that hangs is
    /// tried for each of two rounds that overlap.
    fn round(&self) -> Duration {
        let failed = self.told.members.iter().filter(|shown| shown.member == "failed").count();
        TRY_TIMEOUT * (1 + failed.saturating_sub(1) / TRIES_AT_ONCE) as u32
    }

    /// Only who runs and is up comes in, and one that was failed not at once.
    fn each_addition_is_by_the_table(&self, world: &World) {
        if ["min-up", "fallback"].contains(&&*self.told.guard) {
            return; // told so
        }
        let added = match &self.told.call {
            Some((addr, state)) if state == "up" => vec![*addr],
            Some(_) => Vec::new(),
            None => self.told.add.clone(),
        };
        let node = &world.nodes[self.index];
        for addr in added {
            let good =
                self.told.members.iter().filter(|shown| shown.is_good() && shown.addrs.contains(&addr));
            let held = |shown: &&Shown| {
                let noted = |event| node.last_noted(event, &shown.node).filter(|at| *at >= node.started);
                let failed =
                    noted("node-failed").filter(|at| noted("node-left").is_none_or(|left| left < *at));
                let back = noted("node-joined").filter(|back| failed.is_some_and(|at| at <= *back));
                shown.node != node.name && back.is_some_and(|at| world.now.since(at) < HOLD_UP)
            };
            // One that does not know what is outside takes who failed for published until it knows that it does not serve.
            let learns = |shown: &Shown| {
                let said = ["up", "unknown"].contains(&&*shown.app);
                let may_serve = shown.member == "failed" && said && shown.addrs.contains(&addr);
                let failed_at = node.last_noted("node-failed", &shown.node).unwrap_or_default();
                let is_gone = |tried: Tried| {
                    !tried.answered
                        && tried.ended > failed_at
                        && world.now.since(failed_at) > DOWN_AFTER
                        && world.now.since(tried.ended) < TRIED_AGAIN
                };
                let goes = match self.settings.verify {
                    true => self.tried(world, addr).is_some_and(is_gone),
                    false => world.now.since(failed_at) > DOWN_AFTER,
                };
                !self.told.has_previous && may_serve && !goes && self.place() == Place::One
            };
            let fine = good.clone().any(|shown| !held(&shown)) || self.told.members.iter().any(learns);
            let why =
                if good.count() == 0 { "whose owner is not up" } else { "whose owner is back too shortly" };
            let what = format!("{} publishes {addr}, {why}: {:?}", self.name(world), self.told);
            assert!(fine, "{}", world.blame(&what));
        }
    }

    /// Who counts as withdrawn was so at some time: news is late, and an old state file brings back old words.
    fn maintenance_is_a_persons_word(&self, world: &World) {
        for shown in self.told.members.iter().filter(|shown| shown.app == "maint") {
            let said = world.was_withdrawn(&shown.node, &self.told.app);
            let what =
                format!("{} believes {} in maintenance: {:?}", self.name(world), shown.node, self.told);
            assert!(said, "{}", world.blame(&what));
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.told.members.iter().any(|shown| shown.node == name)
    }

    /// An amnesic or half-deployed cluster replaces nothing: whatever of the true records this run takes away has an
    /// owner that its node knows, unless a person told it to. Who is named in no configuration cannot be missed.
    fn nothing_unknown_is_removed(&self, world: &World) {
        if self.place() != Place::One || !self.told.is_sync() || world.nodes[self.index].synced {
            return;
        }
        let names = world.names();
        let node = &world.nodes[self.index];
        let expected = self.settings.expected_by(self.index, node.addr, &names);
        for addr in world.outside.records(&self.told.app) {
            let Some(owner) = world.nodes.iter().find(|node| node.had(*addr)) else { continue };
            if world.forgotten.contains(addr) || owner.has_left || !expected.contains(&owner.name) {
                continue;
            }
            let fine = self.told.addrs.contains(addr) || self.knows(&owner.name);
            let what = format!("{} wrecks {addr} of {}: {:?}", self.name(world), owner.name, self.told);
            assert!(fine, "{}", world.blame(&what));
        }
    }

    /// Rule (g): where all see the same, one run at a time.
    fn nobody_else_is_at_it(&self, world: &mut World) {
        if self.place() != Place::One || world.now.since(world.disturbed_at) < CALM || !world.net.is_whole() {
            return;
        }
        let patience = world.patience(&self.told.handler);
        for other in 0..world.nodes.len() {
            let is_at_it = world.nodes[other].runs.values().any(|running| {
                let told = world.now.since(running.began);
                running.told.handler == self.told.handler && (TOLD_WITHIN..patience).contains(&told)
            });
            if other == self.index || !is_at_it || !world.nodes[other].is_awake() {
                continue;
            }
            let what = format!("{} runs while n{} does: {:?}", self.name(world), other + 1, self.told);
            let differ =
                invariants::alive_in_view(world, self.index) != invariants::alive_in_view(world, other);
            assert!(differ, "{}", world.blame(&what));
        }
    }
}
