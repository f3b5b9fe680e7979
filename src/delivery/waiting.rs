//! What a run that is due waits for, as a value.

use core::fmt;
use std::rc::Rc;

use super::World;
use crate::check::AppState;
use crate::safety::Reason;
use crate::time::Instant;
use crate::view::Instance;

/// Why a job or an event queue starts no run now, though one may be due. `Display` is for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Gates 1 to 4 are closed.
    Gates(Reason),
    /// The gates give no set that could be told.
    NoSet(Option<Reason>),
    /// Rule 7, and this node does not know what is published.
    Unseen(Unseen),
    /// Another node is the runner; `None`: no node can act.
    Runner(Option<Box<str>>),
    /// Another node's run, until its timeout and a little more (rule 2).
    OthersRun {
        node: Rc<str>,
        until: Instant,
    },
    /// A run that this node's last life left behind.
    OwnOrphan {
        until: Instant,
    },
    /// The handler's run for another app, or one that is stuck.
    OwnRun,
    Debounce {
        until: Instant,
    },
    MinInterval {
        until: Instant,
    },
    Backoff {
        until: Instant,
    },
    /// It failed three times in a row, and another node can act.
    StandsBack {
        until: Option<Instant>,
    },
    /// An exit meant "never on this node": until the configuration is loaded again.
    GaveUp,
    /// A fresh try of these failed nodes (gate 5).
    Verify {
        nodes: Vec<Rc<str>>,
    },
    /// The program ends.
    Ending,
}

/// What is missing to a first run (`interfaces`, 4.5, rule 7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// This one of the electorate was never seen alive.
    Member { node: Rc<str> },
    /// The instance on this running node has no verdict.
    Verdict { node: Rc<str> },
}

impl Unseen {
    /// What is missing, if anything is.
    pub fn of(world: &World<'_>, instances: &[Instance]) -> Option<Self> {
        if let Some(node) = world.unseen {
            return Some(Self::Member { node: node.into() });
        }
        let silent = instances.iter().find(|i| i.member.is_running() && i.app == AppState::Unknown)?;
        Some(Self::Verdict { node: silent.node.clone() })
    }
}

impl Waiting {
    /// Until when, if that is known.
    pub fn until(&self) -> Option<Instant> {
        match self {
            Self::OthersRun { until, .. }
            | Self::OwnOrphan { until }
            | Self::Debounce { until }
            | Self::MinInterval { until }
            | Self::Backoff { until } => Some(*until),
            Self::StandsBack { until } => *until,
            _ => None,
        }
    }

    /// `status`'s word for the phase.
    pub(super) fn phase(&self) -> &'static str {
        match self {
            Self::Debounce { .. } => "debouncing",
            Self::Backoff { .. } => "backoff",
            Self::StandsBack { .. } | Self::GaveUp => "stands back",
            Self::Runner(_) | Self::NoSet(_) | Self::Ending => "idle",
            _ => "waiting",
        }
    }

    /// A person's `sync` does not wait for it.
    pub fn is_skipped_by_a_person(&self) -> bool {
        use Waiting::{Backoff, Debounce, Runner, StandsBack, Unseen};
        matches!(self, Backoff { .. } | Debounce { .. } | Runner(_) | StandsBack { .. } | Unseen(_))
    }

    /// Worth a line in the log: it may take long, and nobody expects it.
    pub(super) fn is_news(&self) -> bool {
        matches!(self, Self::Unseen(_) | Self::OthersRun { .. } | Self::OwnOrphan { .. })
    }
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gates(reason) => write!(f, "{reason}"),
            Self::NoSet(Some(reason)) => write!(f, "no set to publish: {reason}"),
            Self::NoSet(None) => write!(f, "no set to publish"),
            Self::Unseen(unseen) => write!(f, "{unseen}"),
            Self::Runner(Some(node)) => write!(f, "{node} acts"),
            Self::Runner(None) => write!(f, "no node can act"),
            Self::OthersRun { node, .. } => write!(f, "waits for {node}'s run"),
            Self::OwnOrphan { .. } => write!(f, "waits for a run that began before the restart"),
            Self::OwnRun => write!(f, "waits for the handler's own run"),
            Self::Debounce { .. } => write!(f, "debounce"),
            Self::MinInterval { .. } => write!(f, "min_interval"),
            Self::Backoff { .. } => write!(f, "backoff"),
            Self::StandsBack { .. } => write!(f, "failed three times in a row, stands back"),
            Self::GaveUp => write!(f, "cannot run here until the configuration is loaded again"),
            Self::Verify { nodes } => write!(f, "verify of {}", nodes.join(", ")),
            Self::Ending => write!(f, "starts no more runs"),
        }
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member { node } => write!(
                f,
                "what is published is not known, and {node} was never seen alive; `picored sync` goes on without"
            ),
            Self::Verdict { node } => write!(
                f,
                "what is published is not known, and {node} has no verdict yet; `picored sync` goes on without"
            ),
        }
    }
}
