//! The `safety` object.

use super::file::Kind;
use super::report::Report;
use super::schema::SAFETY;
use super::section::{Section, Spot, duration};
use super::{address, units};
use crate::check::attempt::Target;
use crate::limits::WITNESSES_MAX;
use crate::safety::{Config, OnNoQuorum};

const DAY_MILLIS: u64 = 86_400_000;

pub fn read(report: &mut Report, file: &Section<'_>) -> Config {
    let section = match file.spot("safety") {
        Some(spot) => Section::open(report, &spot, SAFETY),
        None => Section::empty("safety", file.at, SAFETY),
    };
    let (witness, witness_min) = witness(report, &section);
    let minority_delay = section.spot("minority_delay").filter(|spot| !says(spot, "never"));
    let max_remove = section.spot("max_remove").filter(|spot| !says(spot, "off"));
    let on_no_quorum = match section.word(report, "on_no_quorum") {
        "withdraw_self" => OnNoQuorum::WithdrawSelf,
        _ => OnNoQuorum::Freeze,
    };
    Config {
        quorum: section.word(report, "quorum") != "off",
        witness,
        witness_min,
        half_delay: section.duration(report, "half_delay"),
        minority_delay: minority_delay.and_then(|spot| duration(report, &spot, 0, DAY_MILLIS)),
        on_no_quorum,
        node_down_after: section.duration(report, "node_down_after"),
        settle: section.duration(report, "settle"),
        max_remove: max_remove.and_then(|spot| share(report, &spot)),
    }
}

/// Where two nodes have no witness, neither ever acts while the other is gone: worth saying. `peers`: how many others
/// the file names at the most.
pub fn note_no_witness(report: &mut Report, file: &Section<'_>, config: &Config, peers: usize) {
    if config.quorum && config.witness.is_empty() && peers == 1 {
        let text = "is not set, and the file names one other node: while one of two is gone, the other changes nothing, \
                    because it cannot tell whether it is itself cut off; name one or two endpoints outside of the \
                    cluster, such as \"tcp://1.1.1.1:53\"";
        let at = file.spot("safety").map_or(file.at, |spot| spot.value.at);
        report.note(at, "safety.witness", text);
    }
}

fn share(report: &mut Report, spot: &Spot<'_>) -> Option<u8> {
    let share = spot.value.text().and_then(units::percent);
    if share.is_none() {
        report.wrong_type(spot, "\"off\" or a share such as \"50%\"");
    }
    share
}

fn says(spot: &Spot<'_>, word: &str) -> bool {
    matches!(&spot.value.kind, Kind::Text(text) if text == word)
}

/// The endpoints, and how many must answer.
fn witness(report: &mut Report, section: &Section<'_>) -> (Vec<Target>, usize) {
    let spots = section.list(report, "witness");
    if let Some(spot) = spots.get(WITNESSES_MAX) {
        report.at(spot, format!("there are {} witnesses; at most {WITNESSES_MAX} are allowed", spots.len()));
    }
    let mut witnesses = Vec::new();
    for spot in spots.iter().take(WITNESSES_MAX) {
        let Some(text) = spot.text(report, 512) else { continue };
        match address::witness(text) {
            Ok(target) => witnesses.push(target),
            Err(why) => report.at(spot, why),
        }
    }
    let needed = section.whole(report, "witness_min");
    if let Some(spot) = section.spot("witness_min").filter(|_| needed > spots.len() as u64) {
        report.at(&spot, format!("{needed} cannot answer: \"witness\" names {}", spots.len()));
    }
    (witnesses, usize::try_from(needed).unwrap_or(usize::MAX))
}
