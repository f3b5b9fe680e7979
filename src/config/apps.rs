//! The `apps` object: apps and their checks.

use core::net::IpAddr;
use core::time::Duration;

use super::file::Kind;
use super::report::{Report, quoted};
use super::schema::{APP, CHECK};
use super::section::{Section, Spot, path};
use super::{Programs, address, units};
use crate::agent::AppConfig;
use crate::check;
use crate::check::CheckConfig;
use crate::check::attempt::{Body, ExecTarget, HttpTarget, Target};
use crate::limits::{ADDRESSES_PER_INSTANCE_MAX, APPS_MAX, CHECKS_MAX, HTTP_BODY_MAX, MEMBERS_MAX};
use crate::safety::{AllDown, AppPolicy, MinUp, Verify};

/// All apps, sorted by name.
pub fn read(report: &mut Report, apps: &Spot<'_>, programs: &mut Programs) -> Vec<AppConfig> {
    let members = apps.members(report).unwrap_or_default();
    if members.len() > APPS_MAX {
        report.at(apps, format!("there are {} apps; at most {APPS_MAX} are allowed", members.len()));
    }
    let mut read = Vec::new();
    for (name, at, spot) in members.iter().take(APPS_MAX) {
        if let Err(why) = address::plain_name(name) {
            report.problem(*at, &spot.path, why);
        }
        read.push(app(report, name, spot, programs));
    }
    read.sort_by(|a, b| a.check.name.cmp(&b.check.name));
    read
}

fn app(report: &mut Report, name: &str, spot: &Spot<'_>, programs: &mut Programs) -> AppConfig {
    let section = Section::open(report, spot, APP);
    let defaults = Defaults::read(report, &section);
    let spots = section.list(report, "checks");
    if !section.is_set("checks") && matches!(spot.value.kind, Kind::Object(_)) {
        report.at(spot, "has no checks; an app that this node does not serve says \"checks\": []");
    }
    if let Some(spot) = spots.get(CHECKS_MAX) {
        report.at(spot, format!("there are {} checks; at most {CHECKS_MAX} are allowed", spots.len()));
    }
    let checks: Vec<_> =
        spots.iter().take(CHECKS_MAX).filter_map(|spot| check(report, spot, &defaults, programs)).collect();
    let shared =
        |check: &CheckConfig| (Some(check.timeout), check.interval) == (defaults.timeout, defaults.interval);
    if let (Some(check), Some(spot)) = (checks.iter().find(|check| shared(check)), section.spot("timeout")) {
        longer_than_interval(report, &spot, check.timeout, check.interval);
    }
    let verify = verify(report, spot, &section, &checks);
    AppConfig {
        check: check::Config {
            name: name.into(),
            checks,
            grace: section.duration(report, "grace"),
            hold_up: section.duration(report, "hold_up"),
        },
        policy: AppPolicy {
            min_up: min_up(report, &section),
            all_down: all_down(report, &section),
            verify,
            hold_up: section.duration(report, "hold_up"),
        },
        publish: addresses(report, &section, "publish"),
    }
}

/// What the app says for all of its checks.
struct Defaults {
    interval: Duration,
    /// `None`: the file does not say.
    timeout: Option<Duration>,
    default_timeout: Duration,
    rise: u64,
    fall: u64,
}

impl Defaults {
    fn read(report: &mut Report, section: &Section<'_>) -> Self {
        Self {
            interval: section.duration(report, "interval"),
            timeout: section.set_duration(report, "timeout"),
            default_timeout: section.default_duration("timeout"),
            rise: section.whole(report, "rise"),
            fall: section.whole(report, "fall"),
        }
    }
}

fn check(
    report: &mut Report,
    spot: &Spot<'_>,
    defaults: &Defaults,
    programs: &mut Programs,
) -> Option<CheckConfig> {
    let section = Section::open(report, spot, CHECK);
    let interval = section.set_duration(report, "interval");
    let timeout = section.set_duration(report, "timeout");
    let rise = section.set_whole(report, "rise").unwrap_or(defaults.rise);
    let fall = section.set_whole(report, "fall").unwrap_or(defaults.fall);
    let own_place = section.spot("timeout").or_else(|| section.spot("interval"));
    // A timeout that nobody set makes room for a short interval; one that somebody set does not.
    let span = interval.unwrap_or(defaults.interval);
    let timeout = timeout.or(defaults.timeout).unwrap_or(defaults.default_timeout.min(span));
    if let Some(place) = own_place {
        longer_than_interval(report, &place, timeout, span);
    }
    let narrow = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let target = target(report, spot, &section, programs)?;
    Some(CheckConfig { target, interval: span, timeout, rise: narrow(rise), fall: narrow(fall) })
}

fn longer_than_interval(report: &mut Report, spot: &Spot<'_>, timeout: Duration, interval: Duration) {
    if timeout > interval {
        let (timeout, interval) = (units::show_duration(timeout), units::show_duration(interval));
        report.at(spot, format!("the timeout ({timeout}) must not be longer than the interval ({interval})"));
    }
}

/// The keys that say what is checked, and the keys that go with each.
const KINDS: [(&str, &[&str]); 4] = [
    ("http", &["host", "status", "body_contains", "body_equals"]),
    ("tcp", &[]),
    ("unix", &[]),
    ("exec", &["warn_ok"]),
];

fn target(
    report: &mut Report,
    spot: &Spot<'_>,
    section: &Section<'_>,
    programs: &mut Programs,
) -> Option<Target> {
    let mut kinds = KINDS.iter().map(|(kind, _)| *kind).filter(|kind| section.is_set(kind));
    let Some(kind) = kinds.next() else {
        if matches!(spot.value.kind, Kind::Object(_)) {
            report.at(spot, "checks nothing: one of \"http\", \"tcp\", \"unix\" or \"exec\" is needed");
        }
        return None;
    };
    for other in kinds {
        if let Some(spot) = section.spot(other) {
            report.at(&spot, format!("there is \"{kind}\" already; make it a check of its own"));
        }
    }
    for (owner, options) in KINDS.iter().filter(|(owner, _)| *owner != kind) {
        for spot in options.iter().filter_map(|option| section.spot(option)) {
            report.at(&spot, format!("belongs to {owner} checks; this one is \"{kind}\""));
        }
    }
    match kind {
        "http" => http(report, section),
        "tcp" => {
            let text = section.text(report, "tcp")?;
            parsed(report, section, "tcp", address::tcp(text)).map(Target::Tcp)
        }
        "unix" => section.text(report, "unix").map(|path| Target::Unix(path.into())),
        _ => {
            let argv = argv(report, &section.spot("exec")?, programs)?;
            Some(Target::Exec(Box::new(ExecTarget { argv, warn_ok: section.flag(report, "warn_ok") })))
        }
    }
}

/// Reports the error at the key.
/// What a reader made of the text of a key, or a problem with it.
pub fn parsed<T>(
    report: &mut Report,
    section: &Section<'_>,
    name: &str,
    result: Result<T, String>,
) -> Option<T> {
    match (result, section.spot(name)) {
        (Ok(value), _) => Some(value),
        (Err(why), Some(spot)) => {
            report.at(&spot, why);
            None
        }
        (Err(_), None) => None,
    }
}

fn http(report: &mut Report, section: &Section<'_>) -> Option<Target> {
    let host = section.text(report, "host");
    if let (Some(text), Some(spot)) = (host, section.spot("host"))
        && text.bytes().any(|b| !b.is_ascii_graphic() || b == b'/')
    {
        report.at(&spot, format!("{} is not a Host header, as in \"www.example.com\"", quoted(text)));
    }
    let status = status(report, section);
    let body = body(report, section);
    let url = section.text(report, "http")?;
    let url = parsed(report, section, "http", address::url(url))?;
    let host = host.unwrap_or(url.host).into();
    Some(Target::Http(Box::new(HttpTarget { addr: url.addr, host, path: url.path.into(), status, body })))
}

fn status(report: &mut Report, section: &Section<'_>) -> Vec<u16> {
    let spots = section.list(report, "status");
    let mut codes = Vec::new();
    for spot in &spots {
        let number = if let Kind::Number(digits) = spot.value.kind { units::whole(digits) } else { None };
        match number.and_then(|n| u16::try_from(n).ok()).filter(|n| (100..=599).contains(n)) {
            Some(code) => codes.push(code),
            None => report.wrong_type(spot, "a status code from 100 to 599"),
        }
    }
    if let Some(spot) = section.spot("status")
        && matches!(&spot.value.kind, Kind::List(items) if items.is_empty())
    {
        report.at(&spot, "no status would pass; leave it out for 200 to 299");
    }
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn body(report: &mut Report, section: &Section<'_>) -> Body {
    let mut text = |name| -> Option<Box<str>> {
        let spot = section.spot(name)?;
        let Some(text) = spot.value.text() else {
            report.wrong_type(&spot, "a string in double quotes");
            return None;
        };
        if text.len() > HTTP_BODY_MAX {
            report
                .at(&spot, format!("is longer than the {HTTP_BODY_MAX} bytes of a body that are looked at"));
        }
        Some(text.into())
    };
    let (contains, equals) = (text("body_contains"), text("body_equals"));
    if let (true, Some(spot)) = (section.is_set("body_contains"), section.spot("body_equals")) {
        report.at(&spot, "there is \"body_contains\" already; give only one of them");
    }
    match (contains, equals) {
        (Some(text), _) if text.is_empty() => {
            if let Some(spot) = section.spot("body_contains") {
                report.at(&spot, "must not be empty: every body contains that");
            }
            Body::Any
        }
        (Some(text), _) => Body::Contains(text),
        (None, Some(text)) => Body::Equals(text),
        (None, None) => Body::Any,
    }
}

/// A program and its arguments: not empty, an absolute path first. The driver looks at the program itself.
pub fn argv(report: &mut Report, spot: &Spot<'_>, programs: &mut Programs) -> Option<Vec<Box<str>>> {
    let items = spot.list(report)?;
    let Some(program) = items.first() else {
        report.at(spot, "is empty; the first element is the program, the others its arguments");
        return None;
    };
    let mut argv = Vec::with_capacity(items.len());
    if let Some(path) = path(report, program, 4_095) {
        programs.add(program, path);
        argv.push(path.into());
    }
    for item in items.iter().skip(1) {
        match item.value.text() {
            Some(text) if !text.contains('\0') => argv.push(text.into()),
            Some(_) => report.at(item, "must not hold a NUL character"),
            None => report.wrong_type(item, "a string in double quotes"),
        }
    }
    (argv.len() == items.len()).then_some(argv)
}

/// A list of addresses to publish.
pub fn addresses(report: &mut Report, section: &Section<'_>, name: &str) -> Vec<IpAddr> {
    let spots = section.list(report, name);
    if let Some(spot) = spots.get(ADDRESSES_PER_INSTANCE_MAX) {
        let count = spots.len();
        report.at(
            spot,
            format!("there are {count} addresses; at most {ADDRESSES_PER_INSTANCE_MAX} are allowed"),
        );
    }
    address_list(report, &spots)
}

fn address_list(report: &mut Report, spots: &[Spot<'_>]) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for spot in spots {
        let Some(text) = spot.text(report, 64) else { continue };
        match address::public_ip(text) {
            Err(why) => report.at(spot, why),
            Ok(ip) if addresses.contains(&ip) => report.at(spot, "is the same address again; remove it"),
            Ok(ip) => {
                if address::is_private(ip) {
                    report.note(spot.value.at, &spot.path, format!("{ip} is a private address"));
                }
                addresses.push(ip);
            }
        }
    }
    addresses
}

/// `off`, an endpoint, or by default TCP to the port of the first http or tcp check. Not HTTP, even for an http check: what
/// is asked inside (path, Host header, a status that is no redirect) is often not what the public address answers, and
/// a wrong "does not serve" takes a node away that does.
fn verify(
    report: &mut Report,
    spot: &Spot<'_>,
    section: &Section<'_>,
    checks: &[CheckConfig],
) -> Option<Verify> {
    match section.text(report, "verify") {
        Some("off") => return None,
        Some(text) => return parsed(report, section, "verify", address::verify(text)),
        None => {}
    }
    let port = |check: &CheckConfig| match &check.target {
        Target::Http(http) => Some(http.addr.port()),
        Target::Tcp(addr) => Some(addr.port()),
        Target::Unix(_) | Target::Exec(_) => None,
    };
    let port = checks.iter().find_map(port);
    if port.is_none() && !checks.is_empty() {
        let text = "is not set and no check has a port: a node that fails is removed without a try whether it still \
                    serves; say \"tcp://{addr}:443\" or the like, or \"off\"";
        report.note(spot.value.at, &section.path_of("verify"), text);
    }
    port.map(|port| Verify::Tcp { port })
}

fn min_up(report: &mut Report, section: &Section<'_>) -> MinUp {
    let default = MinUp::Count(1);
    let Some(spot) = section.spot("min_up") else { return default };
    let read = match &spot.value.kind {
        Kind::Number(digits) => units::whole(digits)
            .filter(|n| *n <= MEMBERS_MAX as u64)
            .and_then(|n| u32::try_from(n).ok())
            .map(MinUp::Count),
        Kind::Text(text) => units::percent(text).map(MinUp::Percent),
        _ => None,
    };
    if read.is_none() {
        report.wrong_type(
            &spot,
            &format!("a number of nodes from 0 to {MEMBERS_MAX}, or a share such as \"50%\""),
        );
    }
    read.unwrap_or(default)
}

fn all_down(report: &mut Report, section: &Section<'_>) -> AllDown {
    let Some(spot) = section.spot("all_down") else { return AllDown::Keep };
    match &spot.value.kind {
        Kind::List(items) => {
            if items.is_empty() {
                report.at(&spot, "holds no address; to publish nothing, say \"empty\"");
            }
            let spots = spot.list(report).unwrap_or_default();
            return AllDown::Fallback(address_list(report, &spots));
        }
        Kind::Text(text) => match text.as_ref() {
            "keep" => return AllDown::Keep,
            "all" => return AllDown::All,
            "empty" => return AllDown::Empty,
            _ => {}
        },
        _ => {}
    }
    report.wrong_type(&spot, "\"keep\", \"all\", \"empty\" or a list of addresses");
    AllDown::Keep
}
