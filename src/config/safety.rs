//! The `safety` object. Only `settle` has an effect today; the others are read and checked.

use super::file::Kind;
use super::report::Report;
use super::schema::SAFETY;
use super::section::{Section, Spot, duration};
use super::{address, units};
use crate::safety::Config;

const DAY_MILLIS: u64 = 86_400_000;

pub fn read(report: &mut Report, file: &Section<'_>) -> Config {
    let section = match file.spot("safety") {
        Some(spot) => Section::open(report, &spot, SAFETY),
        None => Section::empty("safety", file.at, SAFETY),
    };
    for name in ["quorum", "on_no_quorum"] {
        section.word(report, name);
    }
    for name in ["half_delay", "node_down_after"] {
        section.duration(report, name);
    }
    witness(report, &section);
    if let Some(spot) = section.spot("minority_delay").filter(|spot| !says(spot, "never")) {
        duration(report, &spot, 0, DAY_MILLIS);
    }
    if let Some(spot) = section.spot("max_remove").filter(|spot| !says(spot, "off"))
        && spot.value.text().and_then(units::percent).is_none()
    {
        report.wrong_type(&spot, "\"off\" or a share such as \"50%\"");
    }
    Config { settle: section.duration(report, "settle"), ..Config::default() }
}

fn says(spot: &Spot<'_>, word: &str) -> bool {
    matches!(&spot.value.kind, Kind::Text(text) if text == word)
}

fn witness(report: &mut Report, section: &Section<'_>) {
    let spots = section.list(report, "witness");
    for spot in &spots {
        let Some(text) = spot.text(report, 512) else { continue };
        if let Err(why) = address::endpoint(text, false) {
            report.at(spot, why);
        }
    }
    let Some(needed) = section.set_whole(report, "witness_min") else { return };
    if let Some(spot) = section.spot("witness_min").filter(|_| needed > spots.len() as u64) {
        report.at(&spot, format!("{needed} cannot answer: \"witness\" names {}", spots.len()));
    }
}
