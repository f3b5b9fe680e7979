//! Files that differ: what this node would tell, and what the runner told (4.5, last paragraph).
//!
//! A node knows of another one's G no more than the hash of what it told, in its record. So each node that is not the
//! runner compares the greatest record with its own G: where they differ for longer than any run and the gossip take, the
//! two have other settings, or see other things. The runner itself cannot tell, for the others show no G.

use core::time::Duration;

use super::handler::Turn;
use super::{Config, ReportKind};
use crate::time::Instant;

/// Besides a run's timeout.
const PATIENCE: Duration = Duration::from_secs(60);

/// Since when the greatest record is not what this node would tell.
#[derive(Default)]
pub struct Differs {
    since: Option<Instant>,
    told: bool,
}

impl Differs {
    /// `with`: the runner, if it told another set than this node would. Says so once; gives when to look again.
    pub fn watch(
        &mut self,
        turn: &mut Turn<'_>,
        config: &Config,
        app: &str,
        with: Option<Box<str>>,
    ) -> Option<Instant> {
        let Some(with) = with else {
            *self = Self::default();
            return None;
        };
        let until = *self.since.get_or_insert(turn.now) + config.timeout + PATIENCE;
        if until <= turn.now && !self.told {
            self.told = true;
            turn.out.report(config, Some(app), ReportKind::Differs { with });
        }
        Some(until).filter(|_| !self.told)
    }

    /// Since when, if it lasts for so long that people are told.
    pub fn since_if_told(&self) -> Option<Instant> {
        self.since.filter(|_| self.told)
    }
}
