//! What the code says of itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use picored::cli::OPTIONS;
use picored::cli::usage::{COMMANDS, Help};
use picored::config::schema::{APP, CHECK, FILE, HANDLER, LOG, SAFETY};
use picored::config::section::{Key, Type};
use picored::config::units::{show_duration, show_size};
use std::time::Duration;

use crate::skip::skip;

/// One kind of object of the configuration: its heading in the manual, its name in the schema, its keys.
pub struct Table {
    pub heading: &'static str,
    pub name: &'static str,
    pub keys: &'static [Key],
}

pub const TABLES: [Table; 6] = [
    Table { heading: "The file", name: "", keys: FILE },
    Table { heading: "An application (apps.NAME)", name: "app", keys: APP },
    Table { heading: "A check (apps.NAME.checks)", name: "check", keys: CHECK },
    Table { heading: "A handler (handlers.NAME)", name: "handler", keys: HANDLER },
    Table { heading: "safety", name: "safety", keys: SAFETY },
    Table { heading: "log", name: "log", keys: LOG },
];

/// What the manual says of a key's type, range and default; `None`: the type is said in words, by hand.
pub fn in_words(key: &Key) -> Option<String> {
    let millis = |millis| show_duration(Duration::from_millis(millis));
    let of = match &key.of {
        Type::Flag => "true or false".into(),
        Type::Text { max } => format!("string, at most {max} bytes"),
        Type::Path { .. } => "path".into(),
        Type::Duration(from, to) => format!("duration, {} to {}", millis(*from), millis(*to)),
        Type::Whole(from, to) => format!("number, {from} to {to}"),
        Type::Size(from, to) => format!("size, {} to {}", show_size(*from), show_size(*to)),
        Type::Word(words) => format!("one of {}", words.join(", ")),
        Type::List => "list".into(),
        Type::Object => "object".into(),
        Type::Other => return None,
    };
    Some(match key.default {
        "" => of,
        default => format!("{of}; default {default}"),
    })
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The shipped code of a folder of `src`, tests left out.
pub fn code(folder: &str) -> String {
    let mut text = String::new();
    let mut folders = vec![root().join("src").join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in
            fs::read_dir(&folder).expect("a folder of src").map(|entry| entry.expect("an entry").path())
        {
            match entry.is_dir() {
                true if entry.ends_with("tests") => {}
                true => folders.push(entry),
                false if entry.ends_with("tests.rs") => {}
                false => {
                    let file = fs::read_to_string(&entry).expect("text");
                    text.push_str(file.split("\n#[cfg(test)]\nmod ").next().unwrap_or(""));
                }
            }
        }
    }
    assert!(text.len() > 10_000, "there is code in {folder}");
    text
}

/// The words of `text` that begin with `prefix`: capitals, digits and `_`.
pub fn variables(text: &str, prefix: &str) -> BTreeSet<String> {
    let is_word = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let words = text.split(|c: char| !is_word(c));
    words.filter(|word| word.starts_with(prefix) && word.len() > prefix.len()).map(str::to_owned).collect()
}

/// The strings in double quotes of a line of code.
pub fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// The numbers behind "Exit codes:" in a command's help.
pub fn exit_codes(help: &Help) -> BTreeSet<u8> {
    let (_, codes) = help.text.split_once("Exit codes: ").expect("every help names its exit codes");
    numbers(codes)
}

pub fn numbers(text: &str) -> BTreeSet<u8> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter_map(|word| word.parse().ok()).collect()
}

/// All options of a command, as they are typed: those of [`OPTIONS`], and `--json` where the command reads.
pub fn options(command: &str) -> Vec<String> {
    let mut all = Vec::new();
    for (_, long, short, _) in OPTIONS.iter().filter(|(of, ..)| *of == command) {
        all.push(format!("--{long}"));
        all.extend(short.map(|short| format!("-{short}")));
    }
    if reads(command) {
        all.push("--json".into());
    }
    all
}

/// Whether the command takes `--json`.
pub fn reads(command: &str) -> bool {
    let help = COMMANDS.iter().find(|help| help.name == command).expect("a command");
    help.arguments.contains("--json") || help.text.contains("--json")
}

/// Holds the file against what it should be, or writes it, with UPDATE=1.
pub fn is_up_to_date(path: &str, wanted: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(root().join(path), wanted).expect("the folder can be written to");
    }
    let found = fs::read_to_string(root().join(path)).unwrap_or_default();
    let differs = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    assert!(
        found == wanted,
        "{path} is not what the code says (first in line {}); UPDATE=1 cargo test --test docs writes it anew",
        differs.unwrap_or(found.lines().count().min(wanted.lines().count())) + 1
    );
}

/// The program of that name with this argument, which asks it whether it is there. `None`, and said: it is not.
pub fn program(name: &str, probe: &[&str], package: &str) -> Option<PathBuf> {
    let mut command = Command::new(name);
    command.args(probe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if command.status().is_ok_and(|status| status.success()) {
        return Some(name.into());
    }
    skip(&format!("no {name} ({package}) here"));
    None
}

#[test]
fn every_option_is_in_the_help_of_its_command() {
    for help in &COMMANDS {
        let said = format!("{} {}", help.arguments, help.text);
        for option in OPTIONS.iter().filter(|(of, ..)| *of == help.name) {
            let (_, long, short, _) = option;
            let short = short.map(|short| format!("-{short}"));
            assert!(
                said.contains(&format!("--{long}")) || short.is_some_and(|short| said.contains(&short)),
                "{}: --{long}",
                help.name
            );
        }
    }
}
