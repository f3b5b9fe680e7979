//! Why something is kept as it is, as a value.

use core::fmt;
use std::rc::Rc;

/// Why something is kept as it is, or told otherwise: which gate, what is missing, what a person can do. Printed by
/// `status`, `why`, the log and PICORED_GUARD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Gate 1: not all configured peers were reached, and `settle` is not over.
    Settling,
    /// Gate 1: the majority is back, and no peer told yet what it knows.
    SettlingAgain,
    /// Gate 1: an own check has no verdict yet.
    NoVerdictHere { app: Box<str> },
    /// Gate 2: the loop came round too late.
    WasLate,
    /// Gate 2: the system refuses to send to so many of the other members.
    CannotSend { unsendable: usize, others: usize },
    /// Gate 2: Lifeguard's health score.
    Unwell { score: u32 },
    /// Gate 3 in the cases of gate 4: there is no witness that could be asked.
    NoWitness { alive: usize, voters: usize, missing: Box<str> },
    /// Gate 3 in the cases of gate 4: too few answer.
    WitnessSilent { answered: usize, needed: usize, missing: Box<str> },
    /// Gate 3 in the cases of gate 4: too few answer, and some could not be asked yet.
    WitnessNotTried { answered: usize, needed: usize, missing: Box<str> },
    /// Gate 4: exactly half is alive, or less with a `minority_delay`, and the delay is not over.
    Waiting { alive: usize, voters: usize, missing: Box<str> },
    /// Gate 4: a majority is alive, but only with members that are suspected.
    Suspecting { alive: usize, suspects: usize, voters: usize },
    /// Gate 4: exactly half is alive, and this one was not tried to the end yet.
    MissingNotTried { node: Rc<str> },
    /// Gate 4: exactly half is alive, but this one still serves: it is cut off rather than dead.
    MissingServes { node: Rc<str> },
    /// Gate 4: less than half is alive.
    Minority { alive: usize, voters: usize, missing: Box<str> },
    /// Nothing was ever published by this node and some running instance has no verdict yet.
    NoVerdictThere { node: Rc<str> },
    /// Table: the instance has no verdict yet.
    NoVerdictYet { node: Rc<str> },
    /// Gate 5: its public endpoint was not tried to the end yet.
    NotTried { node: Rc<str> },
    /// Gate 5: its public endpoint answers (PICORED_GUARD `verify`).
    StillServes { node: Rc<str> },
    /// Gate 6: not failed for `node_down_after` yet.
    JustFailed { node: Rc<str> },
    /// Gate 6: back from failed, and not yet for `hold_up`.
    JustBack { node: Rc<str> },
    /// Gate 7, `keep`: what was published stays (PICORED_GUARD `keep-last`).
    KeepLast { good: usize, needed: usize },
    /// Gate 7, `keep`, and nothing was published yet: no run.
    NothingToKeep { good: usize, needed: usize },
    /// Gate 7, `all` or `empty` (PICORED_GUARD `min-up`).
    MinUp { good: usize, needed: usize },
    /// Gate 7, a list (PICORED_GUARD `fallback`).
    Fallback { good: usize, needed: usize },
    /// Gate 8: so many would be gone within 5 min, of so many (PICORED_GUARD `keep-last`).
    TooMany { leaving: usize, of: usize, percent: u8 },
}

impl Reason {
    /// What PICORED_GUARD says, empty where the reason does not reach a handler.
    pub fn guard(&self) -> &'static str {
        match self {
            Self::KeepLast { .. } | Self::TooMany { .. } => "keep-last",
            Self::MinUp { .. } => "min-up",
            Self::Fallback { .. } => "fallback",
            Self::StillServes { .. } => "verify",
            _ => "",
        }
    }

    /// Gates 5 and 6: a failed node is kept.
    pub fn is_of_failed(&self) -> bool {
        matches!(self, Self::NotTried { .. } | Self::StillServes { .. } | Self::JustFailed { .. })
    }

    /// Whether it is the same gate for the same cause, whatever the numbers.
    pub fn is_like(&self, other: &Self) -> bool {
        core::mem::discriminant(self) == core::mem::discriminant(other)
    }

    /// Gates 3 and 4: there is no quorum, so far as this node can tell.
    pub fn is_no_quorum(&self) -> bool {
        self.is_quorum() && !self.is_undecided()
    }

    /// Time, or a try, will tell.
    fn is_undecided(&self) -> bool {
        matches!(
            self,
            Self::Waiting { .. }
                | Self::MissingNotTried { .. }
                | Self::WitnessNotTried { .. }
                | Self::Suspecting { .. }
        )
    }

    /// Gates 3 and 4, undecided as they may be.
    pub fn is_quorum(&self) -> bool {
        matches!(
            self,
            Self::NoWitness { .. }
                | Self::WitnessSilent { .. }
                | Self::WitnessNotTried { .. }
                | Self::Waiting { .. }
                | Self::Suspecting { .. }
                | Self::MissingNotTried { .. }
                | Self::MissingServes { .. }
                | Self::Minority { .. }
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settling => write!(f, "still settling: not every configured peer was reached yet"),
            Self::SettlingAgain => write!(f, "settling again: the majority is back, its news are waited for"),
            Self::NoVerdictHere { app } => write!(f, "the checks of {app} have no verdict here yet"),
            Self::WasLate => {
                write!(f, "in doubt of itself: it came round too late (suspended or starved); ")?;
                write!(f, "two clean probe rounds are waited for")
            }
            Self::CannotSend { unsendable, others } => {
                write!(
                    f,
                    "in doubt of itself: the system refuses to send to {unsendable} of {others} members; "
                )?;
                write!(f, "look at this server's routes and firewall")
            }
            Self::Unwell { score } => {
                write!(f, "in doubt of itself: its health score is {score}, at most 4 will do; ")?;
                write!(f, "look at this server's load and network")
            }
            Self::NoWitness { alive, voters, missing } => {
                write!(f, "no quorum: {alive} of {voters} alive ({missing} missing), ")?;
                write!(f, "and no \"witness\" is configured that could tell whether this node is cut off")
            }
            Self::WitnessSilent { answered, needed, missing } => {
                write!(
                    f,
                    "no quorum: {missing} missing, and {answered} of at least {needed} witnesses answer: "
                )?;
                write!(f, "this node is cut off, or they are down")
            }
            Self::WitnessNotTried { answered, needed, missing } => {
                write!(
                    f,
                    "waiting: {missing} missing, {answered} of at least {needed} witnesses answer, and "
                )?;
                write!(f, "the others could not be asked yet")
            }
            Self::Waiting { alive, voters, missing } => {
                write!(
                    f,
                    "waiting: {alive} of {voters} alive ({missing} missing), no majority; the delay runs"
                )
            }
            Self::Suspecting { alive, suspects, voters } => {
                write!(f, "waiting: {alive} of {voters} alive, but {suspects} of them suspected")
            }
            Self::MissingNotTried { node } => {
                write!(f, "waiting: half of the voters is alive, and {node} is still being tried")
            }
            Self::MissingServes { node } => {
                write!(
                    f,
                    "no quorum: half of the voters is alive, and {node} still serves, so it may act itself; "
                )?;
                write!(f, "look at the gossip port and at picored there")
            }
            Self::Minority { alive, voters, missing } => {
                write!(f, "no quorum: {alive} of {voters} alive ({missing} missing); ")?;
                write!(f, "what is gone for good can be dropped by `picored forget`")
            }
            Self::NoVerdictThere { node } => {
                write!(f, "{node} has no verdict yet, and nothing was ever published")
            }
            Self::NoVerdictYet { node } => write!(f, "{node} has no verdict yet: stays as it is"),
            Self::NotTried { node } => {
                write!(f, "{node} failed, and whether it still serves is being tried: stays published")
            }
            Self::StillServes { node } => {
                write!(
                    f,
                    "{node} failed but still serves: stays published; look at picored and its port there"
                )
            }
            Self::JustFailed { node } => {
                write!(f, "{node} failed just now (\"node_down_after\"): stays published")
            }
            Self::JustBack { node } => write!(f, "{node} is back just now (\"hold_up\"): not published yet"),
            Self::KeepLast { good, needed } => {
                write!(f, "only {good} of at least {needed} up: nothing is removed")
            }
            Self::NothingToKeep { good, needed } => {
                write!(f, "only {good} of at least {needed} up, and nothing was published that could be kept")
            }
            Self::MinUp { good, needed } => {
                write!(f, "only {good} of at least {needed} up: all_down decides what is published")
            }
            Self::Fallback { good, needed } => {
                write!(f, "only {good} of at least {needed} up: the fallback addresses are published")
            }
            Self::TooMany { leaving, of, percent } => {
                write!(
                    f,
                    "{leaving} of {of} addresses would be gone within 5 min, \"max_remove\" is {percent} %: "
                )?;
                write!(f, "no more are removed; `picored sync --force` does it")
            }
        }
    }
}
