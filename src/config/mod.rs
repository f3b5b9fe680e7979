//! The configuration: as written (`file`) → checked. No I/O: the texts of files are arguments.
//!
//! `schema` says which keys there are, `section` reads one object by its table, the other files
//! turn the parts into what the layers above want.

pub mod address;
mod apps;
mod cluster;
mod file;
mod handlers;
pub mod keys;
mod metadata;
pub mod profile;
pub mod reload;
mod report;
mod safety;
pub mod schema;
pub mod section;
#[cfg(test)]
mod tests;
pub mod units;

use core::fmt;
use core::net::SocketAddr;

use crate::agent;
use report::Report;
use schema::{FILE, LOG};
use section::{Section, Spot};

/// One thing that is wrong with the file, or worth saying about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 where no place can be given.
    pub line: usize,
    pub column: usize,
    /// `apps.web.checks[0].interval`
    pub path: String,
    /// `unknown key; did you mean "interval"?`
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("  ")?;
        if self.line > 0 {
            write!(f, "{}:{} ", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

/// A checked configuration.
#[derive(Clone)]
pub struct Config {
    /// Where the sockets are bound: what `bind` says, to be tried in turn (dual stack, then 0.0.0.0 by default).
    pub bind: Vec<SocketAddr>,
    /// As configured, else `bind` where that is one address; `None`: the driver finds it out.
    pub advertise: Option<SocketAddr>,
    pub control: Box<str>,
    pub state: Box<str>,
    pub log: Log,
    /// The name of the timing profile.
    pub profile: &'static str,
    /// Complete but for `membership.advertise`, which is what [`Config::advertise`] says or, until the
    /// driver has found it, the unspecified address with `bind`'s port.
    pub agent: agent::Config,
    /// Not wrong, but to be said: two nodes without a witness, a private address to publish, …
    pub notes: Vec<Problem>,
    /// Every program that the file names and where (the text is its path), for the driver to look at.
    pub programs: Vec<Problem>,
}

/// The `log` part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    pub level: log::LevelFilter,
    /// `None`: stderr.
    pub file: Option<Box<str>>,
    /// In bytes; one old file is kept.
    pub max_size: u64,
}

/// See [`Config::parse`].
pub type ReadSecret<'a> = &'a mut dyn FnMut(&str) -> Result<String, String>;

impl Config {
    /// Reads and checks the whole file, and gives every problem at once, in the order of their places.
    ///
    /// `default_node` is the name if the file has none. `read_secret` reads a file that holds keys or secrets
    /// (`keys_file`, `env_file`) and refuses, with the reason, one that others than its owner may read;
    /// `secrets_allowed` says why the configuration file itself may not hold keys (`Err`: its mode).
    pub fn parse(
        text: &str,
        default_node: &str,
        secrets_allowed: Result<(), String>,
        read_secret: ReadSecret<'_>,
    ) -> Result<Self, Vec<Problem>> {
        let value = file::parse(text).map_err(|e| {
            vec![Problem { line: e.line, column: e.column, path: String::new(), text: e.text }]
        })?;
        let mut report = Report::default();
        let root = Section::open(&mut report, &Spot { path: String::new(), value: &value }, FILE);
        let mut programs = Programs(Vec::new());
        let checked = read(&mut report, &root, default_node, &secrets_allowed, read_secret, &mut programs);
        let good = report.is_good();
        let (problems, notes) = report.finish(text);
        if !good {
            return Err(problems);
        }
        Ok(Self { notes, programs: programs.placed(text), ..checked })
    }
}

fn read(
    report: &mut Report,
    root: &Section<'_>,
    default_node: &str,
    secrets_allowed: &Result<(), String>,
    read_secret: ReadSecret<'_>,
    programs: &mut Programs,
) -> Config {
    let (bind, advertise) = cluster::addresses(report, root);
    let membership =
        cluster::read(report, root, default_node, &bind, advertise, secrets_allowed, read_secret);
    let apps = root.spot("apps").map(|spot| apps::read(report, &spot, programs)).unwrap_or_default();
    let handlers = root.spot("handlers");
    let handlers = handlers.map(|spot| handlers::read(report, &spot, &apps, programs, read_secret));
    let agent = agent::Config {
        membership,
        apps,
        handlers: handlers.unwrap_or_default(),
        safety: safety::read(report, root),
        publish: apps::addresses(report, root, "publish"),
        tags: tags(report, root),
        // Reported already, if it is none.
        keys_file: root.text(&mut Report::default(), "keys_file").map(Into::into),
    };
    let peers = agent.membership.members.iter().filter(|name| ***name != *agent.membership.node).count();
    safety::note_no_witness(report, root, &agent.safety, peers.max(agent.membership.join.len()));
    check_metadata(report, root, &agent);
    root.text(report, "$schema"); // an editor's
    Config {
        bind,
        advertise,
        control: root.text_or_default(report, "control"),
        state: root.text_or_default(report, "state"),
        log: read_log(report, root),
        // Reported already, if it is none.
        profile: root.word(&mut Report::default(), "profile"),
        agent,
        notes: Vec::new(),
        programs: Vec::new(),
    }
}

/// The operator's own tags, which must not be taken for picored's.
fn tags(report: &mut Report, root: &Section<'_>) -> Vec<(Box<str>, Box<str>)> {
    let mut tags = Vec::new();
    for (name, at, spot) in root.spot("tags").and_then(|spot| spot.members(report)).unwrap_or_default() {
        let own = matches!(name, "cluster" | "v" | "p");
        let prefix = ["a.", "p.", "h.", "m."].into_iter().find(|prefix| name.starts_with(prefix));
        if own || prefix.is_some() {
            let what = prefix.map_or("is a tag", |_| "begins like a tag");
            report.problem(at, &spot.path, format!("{what} of picored's own; choose another name"));
        } else if name.is_empty() || name.chars().any(char::is_control) {
            report.problem(at, &spot.path, "is no name for a tag");
        }
        match spot.value.text() {
            Some(text) if !text.chars().any(char::is_control) => tags.push((name.into(), text.into())),
            Some(_) => report.at(&spot, "must not hold control characters"),
            None => report.wrong_type(&spot, "a string in double quotes"),
        }
    }
    tags
}

fn check_metadata(report: &mut Report, root: &Section<'_>, agent: &agent::Config) {
    if let Some(text) = metadata::problem(agent, &agent.tags) {
        let spot = ["apps", "handlers", "tags"].into_iter().find_map(|name| root.spot(name));
        report.problem(
            spot.as_ref().map_or(root.at, |spot| spot.value.at),
            spot.as_ref().map_or("", |s| &s.path),
            text,
        );
    }
}

fn read_log(report: &mut Report, root: &Section<'_>) -> Log {
    let section = match root.spot("log") {
        Some(spot) => Section::open(report, &spot, LOG),
        None => Section::empty("log", root.at, LOG),
    };
    Log {
        level: section.word(report, "level").parse().unwrap_or(log::LevelFilter::Info),
        file: section.text(report, "file").map(Into::into),
        max_size: section.size(report, "max_size"),
    }
}

/// Programs that the file names, with offsets.
struct Programs(Vec<(usize, String, Box<str>)>);

impl Programs {
    fn add(&mut self, spot: &Spot<'_>, program: &str) {
        self.0.push((spot.value.at, spot.path.clone(), program.into()));
    }

    fn placed(self, text: &str) -> Vec<Problem> {
        let place = |(at, path, program): (usize, String, Box<str>)| {
            let (line, column) = file::place(text, at);
            Problem { line, column, path, text: program.into() }
        };
        self.0.into_iter().map(place).collect()
    }
}
