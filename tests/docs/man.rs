//! The manual pages: rendered without a warning, and with all that the code has and nothing else.

use std::collections::BTreeSet;
use std::process::Command;

use picored::cli::exit;
use picored::cli::usage::COMMANDS;
use picored::config::profile;
use picored::config::units::show_duration;
use picored::limits::*;

use crate::facts::{
    TABLES, code, exit_codes, in_words, numbers, options, program, quoted, read, root, variables,
};

const PAGES: [&str; 2] = ["etc/man/picored.8", "etc/man/picored.json.5"];

/// A part of a page as it is read: without requests and fonts.
pub struct Part {
    pub heading: String,
    pub entries: Vec<Entry>,
    /// All of it, entries included.
    pub text: String,
}

/// What a .TP begins: its header, those of .TQ, and the text.
#[derive(Default)]
pub struct Entry {
    pub headers: Vec<String>,
    pub text: String,
}

/// The parts of a page between headings, `.SS` of a section as parts of their own behind it.
pub fn parts(page: &str) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    let mut is_header = false;
    let joined = page.replace("\\\n", "");
    for line in joined.lines().filter(|line| !line.starts_with(".\\\"")) {
        if let Some(heading) = line.strip_prefix(".SH ").or_else(|| line.strip_prefix(".SS ")) {
            parts.push(Part { heading: plain(heading), entries: Vec::new(), text: String::new() });
            continue;
        }
        let Some(part) = parts.last_mut() else { continue };
        match line {
            ".TP" => part.entries.push(Entry::default()),
            ".TQ" | ".PP" | ".br" | ".RS" | ".RE" | ".nf" | ".fi" => {}
            _ => {
                let text = plain(line);
                part.text.push_str(&text);
                part.text.push(' ');
                match part.entries.last_mut() {
                    Some(entry) if is_header => entry.headers.push(text),
                    Some(entry) => entry.text.push_str(&format!("{text} ")),
                    None => {}
                }
            }
        }
        is_header = matches!(line, ".TP" | ".TQ");
    }
    parts
}

/// A line without requests of fonts: `.BR a b` is `ab`, `.B a b` is `a b`.
fn plain(line: &str) -> String {
    let (request, rest) = match line.strip_prefix('.') {
        Some(request) => request.split_once(' ').unwrap_or((request, "")),
        None => ("", line),
    };
    let text = match request {
        "" => rest.to_owned(),
        "B" | "I" => arguments(rest).join(" "),
        "BR" | "IR" | "RB" | "RI" | "BI" | "IB" => arguments(rest).concat(),
        _ => String::new(),
    };
    let unfonted = ["\\fB", "\\fI", "\\fR", "\\fP"].iter().fold(text, |text, font| text.replace(font, ""));
    unfonted.replace("\\-", "-")
}

fn arguments(line: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (one, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        all.push(one.to_owned());
        rest = after.trim_start();
    }
    all
}

fn part(page: &str, heading: &str) -> Part {
    let found = parts(&read(page)).into_iter().find(|part| part.heading == heading);
    found.unwrap_or_else(|| panic!("{page} has no {heading}"))
}

/// The entries of a page's section, as far as the headings go from `from` up to `to`.
fn entries_between(page: &str, from: &str, to: &str) -> Vec<Entry> {
    let all = parts(&read(page));
    let section =
        all.into_iter().skip_while(|part| part.heading != from).take_while(|part| part.heading != to);
    section.flat_map(|part| part.entries).collect()
}

/// `found` is what the manual has and `wanted` is what the code has.
fn assert_same(what: &str, found: &BTreeSet<String>, wanted: &BTreeSet<String>) {
    let missing: Vec<_> = wanted.difference(found).collect();
    let strange: Vec<_> = found.difference(wanted).collect();
    assert!(missing.is_empty(), "{what}: not in the manual: {missing:?}");
    assert!(strange.is_empty(), "{what}: in the manual and not in the code: {strange:?}");
}

fn headers(entries: &[Entry]) -> BTreeSet<String> {
    entries.iter().flat_map(|entry| entry.headers.iter().cloned()).collect()
}

fn set<I: IntoIterator<Item = S>, S: Into<String>>(of: I) -> BTreeSet<String> {
    of.into_iter().map(Into::into).collect()
}

#[test]
fn the_pages_are_rendered_without_a_warning() {
    let renderers: [(&str, &[&str], &[&str], &str); 3] = [
        ("mandoc", &["-Tlint", "-Wwarning"], &["-Tutf8", "/dev/null"], "mandoc"),
        ("groff", &["-man", "-ww", "-Tutf8", "-z"], &["--version"], "groff-base"),
        ("man", &["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"], &["--version"], "man-db"),
    ];
    for (name, options, probe, package) in renderers {
        let Some(program) = program(name, probe, package) else { continue };
        for page in PAGES {
            let output =
                Command::new(&program).args(options).arg(root().join(page)).output().expect("it was there");
            let said =
                String::from_utf8_lossy(if name == "mandoc" { &output.stdout } else { &output.stderr });
            assert!(output.status.success() && said.is_empty(), "{name}: {said}");
        }
    }
}

#[test]
fn every_command_has_its_synopsis_options_and_exit_codes_and_there_is_no_other() {
    let entries = entries_between(PAGES[0], "COMMANDS", "EXIT STATUS");
    let name = |entry: &Entry| entry.headers[0].split(' ').next().unwrap_or("").to_owned();
    assert_same("commands", &entries.iter().map(name).collect(), &set(COMMANDS.map(|help| help.name)));
    assert_eq!(entries.len(), COMMANDS.len());
    for help in &COMMANDS {
        let entry = entries.iter().find(|entry| name(entry) == help.name).expect("compared above");
        let synopsis = format!("{} {}", help.name, help.arguments);
        // Where the help is short of room it says [...].
        if !help.arguments.contains("[...]") {
            let said = synopsis.trim_end().replace("[--json]", "").replace("  ", " ");
            let header = entry.headers[0].replace("[--json]", "").replace("  ", " ");
            assert_eq!(header.trim_end(), said.trim_end());
        }
        let said = format!("{} {}", entry.headers[0], entry.text);
        let is_of_option = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let found = said.split(|c| !is_of_option(c)).filter(|word| word.starts_with('-') && word.len() > 1);
        assert_same(help.name, &set(found), &set(options(help.name)));
        let (_, codes) = entry.text.split_once("Exit status:").expect("each entry ends with its codes");
        assert_eq!(numbers(codes), exit_codes(help), "{}", help.name);
    }
}

#[test]
fn every_exit_code_is_explained_and_no_other() {
    let module = read("src/cli/mod.rs");
    let module = module.split("pub mod exit {").nth(1).expect("the codes").split("\n}").next().unwrap_or("");
    let names = module.lines().filter(|line| line.contains("pub const ")).count();
    // Of the driver's two come with other names.
    assert!(
        names == 6 && module.contains("{ALREADY_RUNNING, SYSTEM_ERROR as SYSTEM}"),
        "a code is new: {module}"
    );
    let mut codes: BTreeSet<u8> = BTreeSet::from([
        exit::DONE,
        exit::REFUSED,
        exit::STATUS_NO_DAEMON,
        exit::USAGE,
        exit::NO_DAEMON,
        exit::CONFIGURATION,
        exit::ALREADY_RUNNING,
        exit::SYSTEM,
    ]);
    codes.extend(COMMANDS.iter().flat_map(exit_codes));
    let found = headers(&part(PAGES[0], "EXIT STATUS").entries);
    assert_same("exit codes", &found, &set(codes.iter().map(u8::to_string)));
}

#[test]
fn every_key_has_its_type_range_and_default_and_there_is_no_other() {
    let all = parts(&read(PAGES[1]));
    for table in &TABLES {
        let part = all.iter().find(|part| part.heading == table.heading);
        let entries = &part.unwrap_or_else(|| panic!("no {}", table.heading)).entries;
        let split = |entry: &Entry| {
            let (name, rest) = entry.headers[0].split_once(" (").expect("KEY (TYPE)");
            (name.to_owned(), rest.strip_suffix(')').expect("KEY (TYPE)").to_owned())
        };
        assert_same(
            table.heading,
            &entries.iter().map(|entry| split(entry).0).collect(),
            &set(table.keys.iter().map(|key| key.name)),
        );
        for (key, entry) in table.keys.iter().zip(entries) {
            let (name, said) = split(entry);
            assert_eq!(name, key.name, "in the order of the code");
            assert!(!entry.text.trim().is_empty(), "{name}: says nothing");
            match in_words(key) {
                Some(wanted) if key.default.is_empty() => {
                    let rest =
                        said.strip_prefix(&wanted).unwrap_or_else(|| panic!("{name}: {said}, not {wanted}"));
                    assert!(
                        rest.starts_with("; default ") || rest == "; required" || is_optional_kind(&name),
                        "{name}: {rest}"
                    );
                }
                Some(wanted) => assert_eq!(said, wanted, "{name}"),
                None if key.default.is_empty() => {}
                None => assert!(said.ends_with(&format!("; default {}", key.default)), "{name}: {said}"),
            }
        }
    }
}

/// What needs no default: there is one of the four, and what an editor reads.
fn is_optional_kind(name: &str) -> bool {
    ["http", "tcp", "unix", "exec", "$schema"].contains(&name)
}

/// `3s, lan and local 1s, wan 5s`: the value of the profile picored, and of those that differ from it.
#[test]
fn the_defaults_of_each_profile_are_those_of_the_code() {
    let page = part(PAGES[1], "The file");
    let shown = |key: &str, profile: &str| {
        let timing = profile::timing(profile);
        match key {
            "probe_interval" => show_duration(timing.probe_interval),
            "probe_timeout" => show_duration(timing.probe_timeout),
            "gossip_interval" => show_duration(timing.gossip_interval),
            "gossip_nodes" => timing.gossip_nodes.to_string(),
            "suspicion_mult" => timing.suspicion_mult.to_string(),
            "indirect_checks" => timing.indirect_checks.to_string(),
            "push_pull_interval" => show_duration(timing.push_pull_interval),
            "reclaim_after" => show_duration(timing.reclaim_after),
            _ => panic!("{key} is not a profile's"),
        }
    };
    let timing = read("src/config/reload.rs");
    let timing = timing.split("\nfn timing(").nth(1).expect("the values of a profile");
    let keys: Vec<&str> = timing.split("\n}").next().unwrap_or("").lines().flat_map(quoted).collect();
    assert_eq!(keys.len(), 8, "{keys:?}");
    for key in keys {
        let entry = page.entries.iter().find(|entry| entry.headers[0].starts_with(&format!("{key} ")));
        let header = &entry.expect("a key of the file").headers[0];
        let said = header.split("; default ").nth(1).expect("a default").trim_end_matches(')');
        let (first, others) = said.split_once(", ").unwrap_or((said, ""));
        for profile in ["picored", "lan", "wan", "local"] {
            let own = others.split(", ").find_map(|other| {
                let (names, value) = other.rsplit_once(' ')?;
                names.split(" and ").any(|name| name == profile).then_some(value)
            });
            assert_eq!(own.unwrap_or(first), shown(key, profile), "{key} of the profile {profile}: {header}");
        }
    }
}

/// What a reload takes over: all keys of the file but those that the code names for a restart, and two that nothing
/// depends on while it runs.
#[test]
fn what_a_reload_takes_over_is_said() {
    let code = read("src/config/reload.rs");
    let function = |name: &str| {
        let body = code.split(&format!("\nfn {name}(")).nth(1).expect("it is there");
        body.split("\n}").next().unwrap_or("").to_owned()
    };
    let at_restart = function("differences") + &function("timing");
    let at_restart: Vec<&str> = at_restart.lines().flat_map(quoted).chain(["insecure", "$schema"]).collect();
    let keys = TABLES[0].keys.iter().map(|key| key.name).filter(|name| !at_restart.contains(name));
    let text = part(PAGES[1], "RELOAD").text;
    let names = text.split("takes over").nth(1).and_then(|rest| rest.split(';').next()).expect("a list");
    let is_of_key = |c: char| c.is_ascii_lowercase() || c == '_';
    let found = names.split(|c| !is_of_key(c)).filter(|word| !word.is_empty() && *word != "and");
    assert_same("reload", &set(found), &set(keys));
}

#[test]
fn the_pages_are_of_this_version() {
    for page in PAGES {
        let wanted = format!("\"picored {}\"", env!("CARGO_PKG_VERSION"));
        assert!(
            read(page).lines().any(|line| line.starts_with(".TH ") && line.contains(&wanted)),
            "{page}: {wanted}"
        );
    }
}

#[test]
fn every_variable_of_handlers_is_there_and_no_other() {
    let code = code("delivery");
    let page = part(PAGES[1], "HANDLERS");
    for prefix in ["PICORED_", "SERF_"] {
        let mut wanted: BTreeSet<String> =
            code.lines().flat_map(quoted).flat_map(|text| variables(text, prefix)).collect();
        // A variable for each tag.
        if wanted.remove("SERF_TAG_") {
            wanted.insert("SERF_TAG_NAME".into());
        }
        let found = headers(&page.entries).into_iter().filter(|name| name.starts_with(prefix)).collect();
        assert!(wanted.len() > 3);
        assert_same("variables", &found, &wanted);
    }
    let guards = code_of_guards();
    assert!(guards.len() == 4 && guards.iter().all(|guard| page.text.contains(guard.as_str())), "{guards:?}");
}

fn code_of_guards() -> BTreeSet<String> {
    let reasons = read("src/safety/reason.rs");
    let guards = reasons.split("pub fn guard(").nth(1).and_then(|rest| rest.split("\n    }\n").next());
    guards
        .expect("the guards")
        .lines()
        .flat_map(quoted)
        .filter(|guard| !guard.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn events_are_all_named() {
    let page = part(PAGES[1], "A handler (handlers.NAME)");
    let entry = page.entries.iter().find(|entry| entry.headers[0].starts_with("events ")).expect("events");
    let kinds = picored::delivery::EventKind::ALL.map(|kind| kind.as_str());
    let members = picored::delivery::MemberEvent::ALL.map(|kind| kind.as_str());
    for event in kinds.iter().chain(&members) {
        assert!(entry.text.contains(event), "{event}");
    }
}

#[test]
fn what_picored_looks_at_in_its_environment_is_there_and_nothing_else() {
    let code = code("cli") + &code_of_driver();
    let mut wanted = BTreeSet::new();
    for line in code.lines().filter(|line| line.contains("env::var") || line.contains("var_os")) {
        wanted.extend(quoted(line).map(str::to_owned));
        // A constant, whatever file it is of.
        let arguments = line.split("env::var").skip(1).filter_map(|rest| rest.split(['(', ')']).nth(1));
        for name in arguments.filter(|name| !name.is_empty()) {
            let constant = format!("const {name}: &str = \"");
            let values = code.split(&constant).skip(1);
            wanted.extend(values.filter_map(|rest| rest.split('"').next()).map(str::to_owned));
        }
    }
    wanted.retain(|name| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
    assert_same("environment", &headers(&part(PAGES[0], "ENVIRONMENT").entries), &wanted);
}

fn code_of_driver() -> String {
    code("driver")
}

#[test]
fn every_signal_is_there_and_no_other() {
    let code = code_of_driver();
    let (_, handled) = code.split_once("fn handle_signals(").expect("the signals");
    let handled = handled.split("\n    }\n").next().unwrap_or("");
    let named: BTreeSet<String> = handled
        .split("Unix::")
        .skip(1)
        .map(|rest| rest.chars().take_while(char::is_ascii_uppercase).collect::<String>())
        .filter(|name| !name.is_empty() && name != "CHILD")
        .collect();
    assert_same("signals", &headers(&part(PAGES[0], "SIGNALS").entries), &named);
}

#[test]
fn every_file_is_there() {
    let page = part(PAGES[0], "FILES");
    use picored::config::schema::{CONTROL_DEFAULT, STATE_DEFAULT};
    let files = headers(&page.entries);
    for file in ["/etc/picored.json", CONTROL_DEFAULT, STATE_DEFAULT] {
        assert!(files.contains(file), "{file}");
    }
    let code = code_of_driver();
    let beside = code.split("beside(").skip(1).filter_map(|rest| {
        let argument = rest.split(')').next()?;
        argument.split('"').nth(1)
    });
    let suffixes: BTreeSet<&str> = beside.chain(["lock", "1", "picored-tmp"]).collect();
    assert_eq!(suffixes.len(), 6, "{suffixes:?}");
    for suffix in suffixes {
        assert!(page.text.contains(&format!(".{suffix}")), "{suffix}");
    }
}

/// Limits that an operator can meet: what the manual says, with the value for `{}`.
fn limits() -> Vec<(&'static str, u64, &'static str)> {
    let n = |n: usize| n as u64;
    vec![
        ("MEMBERS_MAX", n(MEMBERS_MAX), "{} members"),
        ("APPS_MAX", n(APPS_MAX), "{} applications"),
        ("CHECKS_MAX", n(CHECKS_MAX), "{} checks each"),
        ("HANDLERS_MAX", n(HANDLERS_MAX), "{} handlers"),
        ("WITNESSES_MAX", n(WITNESSES_MAX), "{} witnesses"),
        ("ADDRESSES_PER_INSTANCE_MAX", n(ADDRESSES_PER_INSTANCE_MAX), "{} addresses to publish"),
        ("META_MAX", n(META_MAX), "{} bytes for what a node says"),
        ("NAME_MAX", n(NAME_MAX), "{} bytes for a node's name"),
        ("KEYS_MAX", n(KEYS_MAX), "{} keys in a ring"),
        ("PACKET_OUT_MAX", n(PACKET_OUT_MAX), "{} bytes in a packet that is sent"),
        ("PACKET_IN_MAX", n(PACKET_IN_MAX), "{} in one that is received"),
        ("STREAM_MAX", n(STREAM_MAX), "{} bytes in a TCP exchange"),
        ("STREAMS_MAX", n(STREAMS_MAX), "may be {} at once"),
        ("CHILDREN_MAX", n(CHILDREN_MAX), "{} child processes"),
        ("ATTEMPTS_MAX", n(ATTEMPTS_MAX), "{} checks at once"),
        ("HTTP_HEAD_MAX", n(HTTP_HEAD_MAX), "{} bytes of the head"),
        ("HTTP_BODY_MAX", n(HTTP_BODY_MAX), "and {} of its body"),
        ("REASON_MAX", n(REASON_MAX), "{} bytes of what a check says"),
        ("OUTPUT_MAX", n(OUTPUT_MAX), "{} bytes, the last ones"),
        ("HANDLER_QUEUE_MAX", n(HANDLER_QUEUE_MAX), "{} events wait"),
        ("HANDLER_QUEUE_AGE_MAX", HANDLER_QUEUE_AGE_MAX.as_secs(), "handler, for {} s"),
        ("EVENTS_MAX", n(EVENTS_MAX), "{} are shown by events"),
        ("CLIENTS_MAX", n(CLIENTS_MAX), "{} connections to the control socket"),
        ("JOIN_ONCE_MAX", n(JOIN_ONCE_MAX), "{} addresses in one join"),
        ("PING_TIME_MAX", PING_TIME_MAX.as_secs(), "{} s for a ping"),
        ("JOIN_TIME_MAX", JOIN_TIME_MAX.as_secs(), "{} s for a join"),
        ("TRYING_TIME_MAX", TRYING_TIME_MAX.as_secs(), "{} s for all that one command"),
        ("CONFIG_FILE_MAX", n(CONFIG_FILE_MAX), "{} bytes in the configuration"),
        ("STATE_FILE_MAX", n(STATE_FILE_MAX), "{} in the state"),
        ("OVERRIDES_MAX", n(OVERRIDES_MAX), "{} things that persons said"),
        ("TOMBSTONES_MAX", n(TOMBSTONES_MAX), "{} forgotten names"),
    ]
}

/// Limits inside: nobody who only uses the program meets them as such.
const INSIDE: [&str; 29] = [
    "NESTING_MAX",
    "COMPOUND_PARTS_MAX",
    "MESSAGES_PER_PACKET_MAX",
    "OWN_STREAMS",
    "STREAMS_TOTAL_MAX",
    "BROADCASTS_MAX",
    "INTENTS_MAX",
    "SERF_SEEN_MAX",
    "SERF_PASSED_ON_MAX",
    "QUERY_RESPONSE_MAX",
    "KEY_QUERIES_MAX",
    "RELAYS_MAX",
    "REPLIES_MAX",
    "RESOLVES_MAX",
    "RESOLVED_ADDRESSES_MAX",
    "TRIES_MAX",
    "TRYING_CLIENTS_MAX",
    "VERIFY_TRIES_MAX",
    "OTHER_RUNS_MAX",
    "SERF_LINES_MAX",
    "SERF_KNOWN_MAX",
    "REQUEST_MAX",
    "CLIENT_BACKLOG_MAX",
    "PACKETS_PER_TURN",
    "LOG_REPEAT",
    "LATE",
    "INFLATED_PARTS_MAX",
    "STREAM_NODES_MAX",
    "STREAM_VALUES_MAX",
];

#[test]
fn every_limit_that_can_be_met_is_there_with_its_value() {
    let text = part(PAGES[0], "LIMITS").text;
    for (name, value, said) in limits() {
        let wanted = said.replace("{}", &value.to_string());
        assert!(text.contains(&wanted), "{name}: not in the manual: {wanted}");
    }
    let code = read("src/limits.rs");
    let names =
        code.lines().filter_map(|line| line.strip_prefix("pub const ")?.split(':').next().map(str::to_owned));
    let known = limits().into_iter().map(|(name, ..)| name.to_owned()).chain(INSIDE.map(str::to_owned));
    assert_eq!(
        names.collect::<BTreeSet<_>>(),
        known.collect::<BTreeSet<_>>(),
        "say where a new limit belongs"
    );
    // And each number in the page is one of these.
    let values: BTreeSet<String> = limits().iter().map(|(_, value, _)| value.to_string()).collect();
    let said = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| word.len() > 1);
    let strange: Vec<_> =
        said.filter(|word| word.bytes().all(|b| b.is_ascii_digit()) && !values.contains(*word)).collect();
    assert!(strange.is_empty(), "{strange:?}");
}
