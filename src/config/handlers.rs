//! The `handlers` object.

use core::time::Duration;

use super::address;
use super::apps::argv;
use super::file::Kind;
use super::report::{Report, quoted};
use super::schema::HANDLER;
use super::section::{Section, Spot, word};
use super::{Programs, ReadSecret};
use crate::agent::AppConfig;
use crate::delivery::{Config, EventKind, MemberEvent, Mode, Place};
use crate::limits::HANDLERS_MAX;

const ENV_NAME: &str = "names of variables are letters, digits and _, and do not begin with a digit";
const EVENTS: &[&str] = &[
    "app-up",
    "app-down",
    "app-maint",
    "node-joined",
    "node-failed",
    "node-left",
    "node-address",
    "quorum",
    "no-quorum",
];
const MEMBER_EVENTS: &[&str] =
    &["member-join", "member-leave", "member-failed", "member-update", "member-reap"];

type Variables = Vec<(Box<str>, Box<str>)>;

/// All handlers, sorted by name.
pub fn read(
    report: &mut Report,
    handlers: &Spot<'_>,
    apps: &[AppConfig],
    programs: &mut Programs,
    read_secret: ReadSecret<'_>,
) -> Vec<Config> {
    let members = handlers.members(report).unwrap_or_default();
    if members.len() > HANDLERS_MAX {
        report.at(
            handlers,
            format!("there are {} handlers; at most {HANDLERS_MAX} are allowed", members.len()),
        );
    }
    let mut read = Vec::new();
    for (name, at, spot) in members.iter().take(HANDLERS_MAX) {
        if let Err(why) = address::plain_name(name) {
            report.problem(*at, &spot.path, why);
        }
        let section = Section::open(report, spot, HANDLER);
        if !section.is_set("run") && matches!(spot.value.kind, Kind::Object(_)) {
            report.at(spot, "has no \"run\": the program and its arguments as a list");
        }
        read.push(handler(report, name, &section, apps, programs, read_secret));
    }
    read.sort_by(|a, b| a.name.cmp(&b.name));
    read
}

fn handler(
    report: &mut Report,
    name: &str,
    section: &Section<'_>,
    apps: &[AppConfig],
    programs: &mut Programs,
    read_secret: ReadSecret<'_>,
) -> Config {
    let mode = mode(report, section);
    let ignored: &[&str] = match mode {
        Mode::Sync => &[],
        Mode::Picored1 => &["resync"],
        // An event is told or not: it does not change while it waits, so there is nothing to debounce.
        Mode::Event => &["resync", "debounce"],
        Mode::Serf => &["apps", "resync", "debounce", "min_interval"],
    };
    for spot in ignored.iter().filter_map(|name| section.spot(name)) {
        report.note(spot.value.at, &spot.path, format!("has no effect for mode \"{}\"", mode.as_str()));
    }
    let (events, member_events) = events(report, section, mode);
    let (env, secrets) = environment(report, section, read_secret);
    Config {
        name: name.into(),
        run: section.spot("run").and_then(|spot| argv(report, &spot, programs)).unwrap_or_default(),
        mode,
        apps: app_names(report, section, apps, mode),
        place: place(report, section, mode),
        events,
        member_events,
        timeout: section.duration(report, "timeout"),
        debounce: section.duration(report, "debounce"),
        min_interval: match mode {
            // Each event is a run. Where a queue is not to be told at once, the operator says how far apart.
            Mode::Event if !section.is_set("min_interval") => Duration::ZERO,
            _ => section.duration(report, "min_interval"),
        },
        resync: section.duration(report, "resync"),
        env,
        secrets,
        user: user(report, section),
    }
}

fn mode(report: &mut Report, section: &Section<'_>) -> Mode {
    match section.word(report, "mode") {
        "event" => Mode::Event,
        "picored1" => Mode::Picored1,
        "serf" => Mode::Serf,
        _ => Mode::Sync,
    }
}

/// The default depends on the mode (`interfaces`, 4.1).
fn place(report: &mut Report, section: &Section<'_>, mode: Mode) -> Place {
    match (section.word(report, "where"), mode) {
        ("one", _) => Place::One,
        ("all", _) => Place::All,
        ("self", Mode::Sync) => {
            if let Some(spot) = section.spot("where") {
                report.at(&spot, "\"self\" is not possible for mode \"sync\": the set is about all nodes; say \"one\" or \"all\"");
            }
            Place::One
        }
        ("self", _) => Place::SelfOnly,
        (_, Mode::Sync | Mode::Event) => Place::One,
        (_, Mode::Picored1 | Mode::Serf) => Place::All,
    }
}

fn app_names(report: &mut Report, section: &Section<'_>, apps: &[AppConfig], mode: Mode) -> Vec<Box<str>> {
    let all = || apps.iter().map(|app| app.check.name.clone());
    if mode == Mode::Serf {
        return Vec::new();
    }
    if !section.is_set("apps") {
        if apps.is_empty() && matches!(mode, Mode::Sync | Mode::Picored1) {
            report.note(section.at, &section.path, "never runs: there are no apps in this file");
        }
        return all().collect();
    }
    let mut names: Vec<Box<str>> = Vec::new();
    for spot in section.list(report, "apps") {
        let Some(name) = spot.text(report, 64) else { continue };
        if names.iter().any(|known| known.as_ref() == name) {
            report.at(&spot, "is the same app again; remove it");
        } else if apps.iter().any(|app| app.check.name.as_ref() == name) {
            names.push(name.into());
        } else {
            let what = format!("there is no app {} in this file", quoted(name));
            report.unknown(
                spot.value.at,
                &spot.path,
                &what,
                name,
                apps.iter().map(|app| app.check.name.as_ref()),
            );
        }
    }
    if let Some(spot) = section.spot("apps")
        && matches!((&spot.value.kind, mode), (Kind::List(items), Mode::Sync | Mode::Picored1) if items.is_empty())
    {
        report.at(&spot, "names no app, so it would never run; leave it out for all apps");
    }
    names.sort_unstable();
    names
}

/// Of an `event` handler and of a `serf` handler: what it wants, empty for all.
fn events(report: &mut Report, section: &Section<'_>, mode: Mode) -> (Vec<EventKind>, Vec<MemberEvent>) {
    let none = (Vec::new(), Vec::new());
    let Some(spot) = section.spot("events") else { return none };
    match mode {
        Mode::Serf => {
            (Vec::new(), chosen(report, &spot, MEMBER_EVENTS, &MemberEvent::ALL, MemberEvent::as_str))
        }
        Mode::Event => (chosen(report, &spot, EVENTS, &EventKind::ALL, EventKind::as_str), Vec::new()),
        Mode::Sync | Mode::Picored1 => {
            report.at(&spot, "belongs to handlers with \"mode\": \"event\" or \"serf\"");
            none
        }
    }
}

/// The events that the list at `spot` names.
fn chosen<E: Copy + PartialEq>(
    report: &mut Report,
    spot: &Spot<'_>,
    words: &'static [&'static str],
    all: &[E],
    name: fn(E) -> &'static str,
) -> Vec<E> {
    let mut events = Vec::new();
    let items = spot.list(report);
    for spot in items.iter().flatten() {
        let Some(text) = word(report, spot, words) else { continue };
        match all.iter().find(|&&event| name(event) == text) {
            Some(event) if events.contains(event) => report.at(spot, "is the same event again; remove it"),
            event => events.extend(event),
        }
    }
    if items.is_some_and(|items| items.is_empty()) {
        report.at(spot, "names no event, so it would never run; leave it out for all events");
    }
    events
}

/// `env`, then `env_file`, and the names in that; what both give is the file's.
fn environment(
    report: &mut Report,
    section: &Section<'_>,
    read_secret: ReadSecret<'_>,
) -> (Variables, Vec<Box<str>>) {
    let mut variables = Variables::new();
    let members = section.spot("env").and_then(|spot| spot.members(report)).unwrap_or_default();
    for (name, at, spot) in members {
        if let Err(why) = env_name(name) {
            report.problem(at, &spot.path, why);
        }
        match spot.value.text() {
            Some(text) if !text.contains('\0') => variables.push((name.into(), text.into())),
            Some(_) => report.at(&spot, "must not hold a NUL character"),
            None => report.wrong_type(&spot, "a string in double quotes"),
        }
    }
    let (Some(path), Some(spot)) = (section.text(report, "env_file"), section.spot("env_file")) else {
        return (variables, Vec::new());
    };
    let mut secrets = Vec::new();
    match read_secret(path) {
        Err(why) => report.at(&spot, why),
        Ok(text) => {
            let (from_file, wrong) = env_file(&text);
            for (line, why) in wrong {
                report.at(&spot, format!("line {line} of the file: {why}"));
            }
            variables.retain(|(name, _)| !from_file.iter().any(|(other, _)| other == name));
            secrets = from_file.iter().map(|(name, _)| name.clone()).collect();
            variables.extend(from_file);
        }
    }
    (variables, secrets)
}

/// `NAME=value` lines. Blank lines and lines that begin with `#` are skipped; blanks round the line
/// and round the name go; one pair of double quotes round the value goes; nothing else is
/// interpreted. Returns what is wrong with its line number; never the values.
fn env_file(text: &str) -> (Variables, Vec<(usize, String)>) {
    let (mut variables, mut wrong) = (Variables::new(), Vec::new());
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            wrong.push((i + 1, "is not NAME=value".into()));
            continue;
        };
        let (name, value) = (name.trim_end(), value.trim_start());
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
        if let Err(why) = env_name(name) {
            wrong.push((i + 1, why));
        } else if variables.iter().any(|(known, _)| known.as_ref() == name) {
            wrong.push((i + 1, format!("{name} is there twice; remove one")));
        } else if value.contains('\0') {
            wrong.push((i + 1, "must not hold a NUL character".into()));
        } else {
            variables.push((name.into(), value.into()));
        }
    }
    (variables, wrong)
}

fn env_name(name: &str) -> Result<(), String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    if name.is_empty() || !name.bytes().all(good) || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err(ENV_NAME.into());
    }
    if name.starts_with("PICORED_") {
        return Err("names that begin with PICORED_ are picored's own".into());
    }
    Ok(())
}

fn user(report: &mut Report, section: &Section<'_>) -> Option<Box<str>> {
    let user = section.text(report, "user")?;
    if user.starts_with('-') || !user.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        let spot = section.spot("user")?;
        report.at(&spot, format!("{} is not the name of a user", quoted(user)));
    }
    Some(user.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_has_its_word() {
        assert_eq!(EventKind::ALL.map(EventKind::as_str), EVENTS);
        assert_eq!(MemberEvent::ALL.map(MemberEvent::as_str), MEMBER_EVENTS);
    }

    #[test]
    fn an_env_file_is_names_and_values_and_little_else() {
        let text = "# secret\n\nA=1\r\n B = \"two words\" \nC=a=b#c\nD=\"\nE=\n";
        let (variables, wrong) = env_file(text);
        let seen: Vec<_> = variables.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect();
        assert_eq!(seen, [("A", "1"), ("B", "two words"), ("C", "a=b#c"), ("D", "\""), ("E", "")]);
        assert_eq!(wrong, []);
        let (variables, wrong) = env_file("export A=1\nA\n1A=2\nPICORED_X=1\nA=1\nA=2\n");
        assert_eq!(variables.len(), 1);
        assert_eq!(wrong.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [1, 2, 3, 4, 6]);
    }
}
