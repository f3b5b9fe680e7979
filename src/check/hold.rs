//! What an instance shows while its checks change their mind: a returning one must first be stable.

use core::time::Duration;

use super::AppState;
use crate::time::Instant;

/// The checks' verdict with `hold_up` applied (`interfaces`, section 3).
#[derive(Debug)]
pub struct Hold {
    shown: AppState,
    /// Good again, and shown as down until then.
    until: Option<Instant>,
    /// The first up after a start needs no hold.
    was_up: bool,
    /// How often in a row it went down again soon after it had returned, or while held.
    flaps: u32,
    /// When it last went down, or was last shown as up again.
    turned_at: Option<Instant>,
}

impl Hold {
    pub fn new() -> Self {
        Self { shown: AppState::Unknown, until: None, was_up: false, flaps: 0, turned_at: None }
    }

    /// The checks say `verdict` (`Unknown`, `Up` or `Down`) at `now`. To be called whenever that may
    /// have changed, and at [`Hold::until`].
    pub fn update(&mut self, now: Instant, verdict: AppState, hold_up: Duration) {
        match (verdict, self.until) {
            (AppState::Up, _) if self.shown == AppState::Up => {}
            (AppState::Up, None) if self.was_up => {
                let hold = self.hold(now, hold_up);
                match hold.is_zero() {
                    true => self.show_up(now),
                    false => self.until = Some(now + hold),
                }
            }
            (AppState::Up, Some(until)) if now < until => {}
            (AppState::Up, _) => self.show_up(now),
            (AppState::Down, _) => self.show_down(now),
            // New checks have no verdict yet: what was shown stays, but stable it is not.
            (AppState::Unknown | AppState::Maint, _) => self.until = None,
        }
    }

    pub fn shown(&self) -> AppState {
        self.shown
    }

    /// When an instance that is good again will be shown as up.
    pub fn until(&self) -> Option<Instant> {
        self.until
    }

    fn show_up(&mut self, now: Instant) {
        if self.was_up {
            self.turned_at = Some(now);
        }
        self.was_up = true;
        self.until = None;
        self.shown = AppState::Up;
    }

    fn show_down(&mut self, now: Instant) {
        if self.shown == AppState::Up || self.until.is_some() {
            self.flaps = if self.turned_lately(now) { self.flaps.saturating_add(1) } else { 0 };
            self.turned_at = Some(now);
        }
        self.until = None;
        self.shown = AppState::Down;
    }

    /// How long it is held now that it is good again.
    fn hold(&mut self, now: Instant, hold_up: Duration) -> Duration {
        if !self.turned_lately(now) {
            self.flaps = 0;
        }
        hold_up.saturating_mul(1 << self.flaps.min(16)).min(HOLD_MAX.max(hold_up))
    }

    fn turned_lately(&self, now: Instant) -> bool {
        self.turned_at.is_some_and(|at| now.since(at) < FLAP_WINDOW)
    }
}

/// A return that lasts this long, or an outage, is no flap.
const FLAP_WINDOW: Duration = Duration::from_secs(600);
/// What doubling ends at (a larger `hold_up` is not cut).
const HOLD_MAX: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::AppState::{Down, Unknown, Up};
    use super::*;

    const HOLD_UP: Duration = Duration::from_secs(15);

    struct World {
        hold: Hold,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self { hold: Hold::new(), now: Instant::ZERO }
        }
        /// An instance that was up, and is down for the first time.
        fn after_first_fall() -> Self {
            let mut world = Self::new();
            world.say(Up);
            world.pass(60);
            assert_eq!(world.say(Down), Down);
            world
        }
        fn say(&mut self, verdict: AppState) -> AppState {
            self.hold.update(self.now, verdict, HOLD_UP);
            self.hold.shown()
        }
        fn pass(&mut self, secs: u64) {
            self.now += Duration::from_secs(secs);
        }
        /// Comes back, and says after how many seconds it is shown.
        fn come_back(&mut self) -> u64 {
            let start = self.now;
            if self.say(Up) == Down {
                self.now = self.hold.until().expect("held");
                assert_eq!(self.say(Up), Up, "shown when the hold is over");
            }
            self.now.since(start).as_secs()
        }
    }

    #[test]
    fn the_first_up_after_a_start_needs_no_hold() {
        let mut world = World::new();
        assert_eq!(world.say(Unknown), Unknown);
        assert_eq!(world.say(Down), Down);
        assert_eq!(world.say(Up), Up);
    }

    #[test]
    fn a_returning_instance_is_held() {
        let mut world = World::after_first_fall();
        world.pass(30);
        assert_eq!(world.say(Up), Down);
        world.pass(14);
        assert_eq!(world.say(Up), Down);
        world.pass(1);
        assert_eq!(world.say(Up), Up);
        assert_eq!(world.hold.until(), None);
    }

    #[test]
    fn each_flap_doubles_the_hold_up_to_ten_minutes() {
        let mut world = World::after_first_fall();
        let mut holds = Vec::new();
        for _ in 0..8 {
            holds.push(world.come_back());
            world.pass(60);
            world.say(Down);
            world.pass(5);
        }
        assert_eq!(holds, [15, 30, 60, 120, 240, 480, 600, 600]);
    }

    #[test]
    fn going_down_while_held_is_a_flap() {
        let mut world = World::after_first_fall();
        world.say(Up);
        world.pass(10);
        assert_eq!(world.say(Down), Down);
        assert_eq!(world.come_back(), 30);
    }

    #[test]
    fn ten_calm_minutes_up_or_down_forget_the_flaps() {
        for calm in [Up, Down] {
            let mut world = World::after_first_fall();
            world.come_back();
            world.say(Down);
            assert_eq!(world.come_back(), 30);
            if calm == Up {
                world.pass(600);
            }
            world.say(Down);
            if calm == Down {
                world.pass(600);
            }
            assert_eq!(world.come_back(), 15, "calm {calm:?}");
        }
    }

    #[test]
    fn checks_without_a_verdict_change_nothing_but_interrupt_a_hold() {
        let mut world = World::after_first_fall();
        world.say(Up);
        world.pass(10);
        assert_eq!(world.say(Unknown), Down);
        assert_eq!(world.come_back(), 15);
        assert_eq!(world.say(Unknown), Up);
    }

    #[test]
    fn no_hold_up_means_no_hold() {
        let mut hold = Hold::new();
        for verdict in [Up, Down, Up, Down, Up] {
            hold.update(Instant::ZERO, verdict, Duration::ZERO);
            assert_eq!(hold.shown(), verdict);
        }
    }
}
