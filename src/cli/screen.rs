//! What `status`, `members`, `events` and `ping` look like.

use core::time::Duration;

use crate::cli::table::{Table, Tone, WIDTH, wrap};
use crate::control::fields::Fields;
use crate::control::text::{duration, printable};

/// The table of members; the one that answers has a star.
pub fn members(members: Fields<'_>, colour: bool) -> String {
    let mut table = Table::new(&["NAME", "ADDRESS", "STATE", "SINCE", "APPS, TAGS", "VERSION"]);
    let mut blocked: Vec<String> = Vec::new();
    for member in members.list("members") {
        let (name, address, state) = (member.text("name"), member.text("address"), member.text("state"));
        let mut runs: Vec<String> = Vec::new();
        for app in member.list("apps") {
            runs.push([app.text("name"), "=", &forced(app)].concat());
        }
        for word in member.list("maint") {
            runs.push([word.text("apps"), "=maint by ", word.text("held_by")].concat());
        }
        // A Serf agent has tags instead.
        for (name, value) in member.map("tags").into_iter().flatten().filter(|_| !member.has("version")) {
            runs.push([name, "=", value.as_str().unwrap_or_default()].concat());
        }
        table.cell(&[name, if member.is("self") { " *" } else { "" }].concat());
        table.cell(address);
        if member.is("udp_blocked") {
            table.word(&[state, " (no UDP)"].concat(), "WARNING");
            blocked.push([name, " (", address, ")"].concat());
        } else {
            table.word(state, state);
        }
        table.cell(&secs(member.number("since_secs")));
        table.cell(if runs.is_empty() { "-".into() } else { runs.join(" ") }.as_str());
        table.cell(member.maybe("version").unwrap_or("-"));
    }
    let mut out = table.render(colour);
    if !blocked.is_empty() {
        let text = format!(
            "UDP to or from {} is blocked: only TCP or other members get through. Let that UDP port through the \
             firewalls of both servers and between them, both ways; `picored ping` shows what gets through.",
            blocked.join(", ")
        );
        paragraph(&mut out, &text);
    }
    out
}

/// The table of pings, and under it what is wrong and what to do.
pub fn pinged(all: &[Fields<'_>], colour: bool) -> String {
    if all.is_empty() {
        return "there is no other member to ping\n".into();
    }
    let mut table = Table::new(&["NAME", "STATE", "UDP", "INDIRECT", "TCP"]);
    for pinged in all {
        let via = pinged.maybe("via").map_or(String::new(), |via| [" by ", via].concat());
        table.cell(pinged.text("node"));
        table.word(pinged.text("state"), pinged.text("state"));
        answer(&mut table, pinged.fraction("udp_ms"), "");
        // Nobody to ask is no failure.
        match pinged.values("relays") {
            [] => table.cell("-"),
            _ => answer(&mut table, pinged.fraction("indirect_ms"), &via),
        }
        answer(&mut table, pinged.fraction("tcp_ms"), "");
    }
    let mut out = table.render(colour);
    all.iter().filter_map(|pinged| pinged.maybe("problem")).for_each(|problem| paragraph(&mut out, problem));
    out
}

fn answer(table: &mut Table, ms: Option<f64>, via: &str) {
    match ms {
        Some(ms) => table.word(&[&three_digits(ms), " ms", via].concat(), "ok"),
        None => table.word("no answer", "failed"),
    }
}

/// Three digits tell all that a ping can.
fn three_digits(ms: f64) -> String {
    // Whole numbers: the standard library's way to print a fraction would be kilobytes of program for this alone.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = |times: f64| (ms * times).round_ties_even() as u64;
    match ms {
        ..10.0 => format!("{}.{:02}", whole(100.0) / 100, whole(100.0) % 100),
        10.0..100.0 => format!("{}.{}", whole(10.0) / 10, whole(10.0) % 10),
        _ => whole(1.0).to_string(),
    }
}

/// One line of `join`.
pub fn joined(tried: Fields<'_>) -> String {
    let target = printable(tried.text("target"));
    match tried.maybe("why") {
        _ if tried.is("joined") => [&*target, ": joined\n"].concat(),
        why => [&*target, ": not joined: ", &*printable(why.unwrap_or("no answer")), "\n"].concat(),
    }
}

/// One line.
pub fn event(event: Fields<'_>, colour: bool) -> String {
    let tone = match event.text("level") {
        "error" => Tone::Bad,
        "warn" => Tone::Doubtful,
        _ => Tone::Plain,
    };
    let (time, name) = (printable(event.or_dash("time")), printable(event.text("event")));
    let level = tone.paint(&padded(&printable(event.text("level")), 5), colour);
    [&time, " ", &level, " ", &padded(&name, 16), " ", &printable(event.text("message")), "\n"].concat()
}

/// One screen. The first line is the summary, as Nagios wants it.
pub fn status(status: Fields<'_>, verbose: bool, colour: bool) -> String {
    let mut out = String::new();
    let tone = match status.number("code") {
        0 => Tone::Good,
        1 => Tone::Doubtful,
        _ => Tone::Bad,
    };
    say(&mut out, &tone.paint(&printable(status.text("summary")), colour));
    let problems = status.texts("problems");
    if problems.len() > 1 {
        problems.iter().for_each(|problem| labelled(&mut out, "  !", problem));
    }
    out.push('\n');
    node(&mut out, status);
    apps(&mut out, status, verbose, colour);
    overrides(&mut out, status, colour);
    handlers(&mut out, status, verbose, colour);
    if verbose && status.has("counters") {
        traffic(&mut out, status.object("counters"));
    }
    out
}

fn node(out: &mut String, status: Fields<'_>) {
    let (text, number) = (|key| status.text(key), |key| status.number(key));
    labelled(out, "node", &[text("node"), " at ", text("address"), ", cluster ", text("cluster")].concat());
    let uptime = secs(number("uptime_secs"));
    labelled(out, "picored", &[text("version"), ", ", text("phase"), " for ", &uptime].concat());
    let members = status.object("members");
    let mut counts = Vec::new();
    for name in ["alive", "suspect", "failed", "left"] {
        let count = members.number(name);
        if count > 0 || name == "alive" {
            counts.push(format!("{count} {name}"));
        }
    }
    labelled(out, "members", &format!("{} known: {}", members.number("known"), counts.join(", ")));
    gates(out, status);
    let quorum = status.object("quorum");
    let quorum = match quorum.flag("has") {
        None => "not looked at".into(),
        Some(has) => {
            let has = if has { "yes" } else { "no" };
            format!("{has}: {} of {} alive", quorum.number("alive"), quorum.number("electorate"))
        }
    };
    labelled(out, "quorum", &quorum);
    if let Some(witness) = status.maybe("witness") {
        labelled(out, "witness", &[witness, " answer"].concat());
    }
    let rss = match number("rss_kib") {
        0 => "RSS not known".into(),
        rss => format!("RSS {rss} KiB"),
    };
    labelled(out, "process", &format!("{rss}, {} descriptors", number("descriptors")));
    let late = status.object("loop_late");
    let often = match late.number("count") {
        0 => String::new(),
        count => format!("; {count} times more than 2 s"),
    };
    let (recent, most) = (late.number("recent_max_ms"), late.number("max_ms"));
    let late = format!("at most {recent} ms late in the last minutes, {most} ms since the start{often}");
    labelled(out, "loop", &late);
    if number("health_score") > 0 {
        labelled(out, "health", &format!("{} of 7 (0 is well)", number("health_score")));
    }
}

/// Whether gates 1 to 4 let this node act.
pub fn gates(out: &mut String, fields: Fields<'_>) {
    match fields.maybe("waiting") {
        Some(why) => labelled(out, "gates", &["closed: ", why].concat()),
        None => labelled(out, "gates", "open: this node may act"),
    }
}

/// The state, with a mark if a person said so.
fn forced(fields: Fields<'_>) -> String {
    [fields.text("state"), if fields.is("forced") { "!" } else { "" }].concat()
}

fn apps(out: &mut String, status: Fields<'_>, verbose: bool, colour: bool) {
    let apps = || status.list("apps");
    if apps().next().is_none() {
        return;
    }
    let mut table = Table::new(&["APP", "HERE", "FOR", "CHECKS", "TO PUBLISH"]);
    for app in apps() {
        table.cell(app.text("name"));
        table.word(&forced(app), app.text("state"));
        let age = if app.text("state") == "none" { "-".into() } else { secs(app.number("since_secs")) };
        table.cell(&age);
        table.cell(app.text("summary"));
        let publish = app.texts("publish").join(" ");
        table.cell(match app.has("publish") {
            false => "-",
            true if publish.is_empty() => "nothing",
            true => &publish,
        });
    }
    add(out, &table, colour);
    for app in apps() {
        if let Some(guard) = app.maybe("guard") {
            labelled(out, "  guard", &[app.text("name"), ": ", guard].concat());
        }
    }
    if verbose {
        instances(out, status, colour);
        checks(out, status, colour);
    }
}

fn overrides(out: &mut String, status: Fields<'_>, colour: bool) {
    let mut table = Table::new(&["SAID OF", "NODE", "STATE", "FOR", "BY", "REASON"]);
    for said in status.list("overrides") {
        table.cell(said.maybe("app").unwrap_or("all apps"));
        table.cell(said.text("node"));
        table.word(said.text("state"), said.text("state"));
        table.cell(&said.count("for_secs").map_or("ever".into(), secs));
        table.cell(&[said.or_dash("by"), ", ", &secs(said.number("since_secs")), " ago"].concat());
        table.cell(said.text("reason"));
    }
    if !status.values("overrides").is_empty() {
        add(out, &table, colour);
    }
}

fn instances(out: &mut String, status: Fields<'_>, colour: bool) {
    let mut table = Table::new(&["APP", "NODE", "MEMBER", "STATE", "PUBLISHED", "ADDRESSES"]);
    for (app, there) in of_apps(status, "instances") {
        let mut state = forced(there);
        if let Some(by) = there.maybe("withdrawn_by") {
            state = [&state, " (maint by ", by, ")"].concat();
        }
        table.cell(app);
        table.cell(there.text("node"));
        table.word(there.text("member"), there.text("member"));
        table.word(&state, there.text("state"));
        table.cell(if there.is("published") { "yes" } else { "no" });
        table.cell(&there.texts("addrs").join(" "));
    }
    add(out, &table, colour);
}

fn checks(out: &mut String, status: Fields<'_>, colour: bool) {
    let mut table = Table::new(&["APP", "CHECK", "STATE", "IN A ROW", "LAST", "AGE"]);
    for (app, check) in of_apps(status, "checks") {
        let row = match (check.number("passes"), check.number("fails")) {
            (0, 0) => "-".to_owned(),
            (0, fails) => format!("{fails} failed"),
            (passes, _) => format!("{passes} passed"),
        };
        table.cell(app);
        table.cell(check.text("target"));
        table.word(check.text("state"), check.text("state"));
        table.cell(&row);
        table.cell(check.maybe("last").unwrap_or("-"));
        table.cell(&check.count("last_secs_ago").map_or("-".into(), secs));
    }
    add(out, &table, colour);
}

/// What each app has many of, with the app's name.
fn of_apps<'a>(status: Fields<'a>, key: &str) -> Vec<(&'a str, Fields<'a>)> {
    let mut all = Vec::new();
    for app in status.list("apps") {
        app.values(key).iter().for_each(|value| all.push((app.text("name"), Fields(value))));
    }
    all
}

fn handlers(out: &mut String, status: Fields<'_>, verbose: bool, colour: bool) {
    let handlers = || status.list("handlers");
    if handlers().next().is_none() {
        return;
    }
    let mut table = Table::new(&["HANDLER", "APP", "MODE", "RUNNER", "PHASE", "LAST RUN"]);
    for handler in handlers() {
        let (place, phase) = (handler.text("where"), handler.text("phase"));
        let nobody = if place == "one" { "nobody" } else { "each" };
        table.cell(handler.text("name"));
        table.cell(handler.maybe("app").unwrap_or("-"));
        table.cell(&[handler.text("mode"), "/", place].concat());
        table.cell(handler.maybe("runner").unwrap_or(nobody));
        table.word(phase, phase);
        last_run(&mut table, handler);
    }
    add(out, &table, colour);
    for handler in handlers() {
        if let Some(waits) = handler.maybe("waits") {
            let (of, app) = handler.maybe("app").map_or(("", ""), |app| (" for ", app));
            labelled(out, "  waits", &[handler.text("name"), of, app, ": ", waits].concat());
        }
    }
    for handler in handlers().filter(|_| verbose) {
        let output = handler.object("last_run").text("output");
        if !output.is_empty() {
            say(out, "");
            say(out, &[&printable(handler.text("name")), " said:"].concat());
            output.lines().for_each(|line| indented(out, line));
        }
    }
}

fn last_run(table: &mut Table, handler: Fields<'_>) {
    if !handler.has("last_run") {
        return table.cell("never");
    }
    let run = handler.object("last_run");
    let Some(ended) = run.count("ended_secs_ago") else {
        return table.cell(&["for ", &secs(run.number("started_secs_ago"))].concat());
    };
    let (ended, took) = (secs(ended), run.count("took_ms").map(|ms| duration(Duration::from_millis(ms))));
    let (and, took) = took.as_ref().map_or(("", ""), |took| (", took ", took));
    if run.is("ok") {
        return table.word(&["ok ", &ended, " ago", and, took].concat(), "ok");
    }
    let row = match handler.number("failures_in_a_row") {
        0 | 1 => String::new(),
        times => format!(", {times} in a row"),
    };
    let exit = run.maybe("exit").unwrap_or("failed");
    table.word(&[exit, " ", &ended, " ago", and, took, &row].concat(), "failed");
}

fn traffic(out: &mut String, counters: Fields<'_>) {
    let n = |key| counters.number(key);
    say(out, "");
    let (packets, bytes) = ((n("packets_in"), n("packets_out")), (n("bytes_in"), n("bytes_out")));
    let packets = format!("{} in ({} bytes), {} out ({} bytes)", packets.0, bytes.0, packets.1, bytes.1);
    labelled(out, "packets", &packets);
    labelled(out, "streams", &format!("{} in, {} out", n("streams_in"), n("streams_out")));
    let mut bad: Vec<String> = Vec::new();
    for (kind, count) in counters.map("bad").into_iter().flatten() {
        bad.push(format!("{kind} {}", count.as_u64().unwrap_or_default()));
    }
    labelled(out, "bad", &bad.join(", "));
    let refused = format!("source not allowed {}, at a limit {}", n("not_allowed"), n("refused"));
    labelled(out, "refused", &refused);
    labelled(out, "not sent", &n("send_errors").to_string());
}

/// `label     text`, the text in as many lines as it needs.
pub fn labelled(out: &mut String, label: &str, text: &str) {
    const LABEL: usize = 10;
    let mut label = label;
    for line in wrap(&printable(text), WIDTH - LABEL) {
        say(out, [&padded(label, LABEL), &*line].concat().trim_end());
        label = "";
    }
}

/// `text`, and spaces to this width.
pub fn padded(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(text.chars().count());
    [text, &" ".repeat(missing)].concat()
}

pub fn say(out: &mut String, line: &str) {
    out.push_str(line);
    out.push('\n');
}

/// A line of others' making under one of ours.
pub fn indented(out: &mut String, line: &str) {
    out.push_str("  ");
    say(out, &printable(line));
}

/// An empty line and the table.
fn add(out: &mut String, table: &Table, colour: bool) {
    out.push('\n');
    out.push_str(&table.render(colour));
}

/// An empty line and the text in as many lines as it needs.
fn paragraph(out: &mut String, text: &str) {
    out.push('\n');
    wrap(&printable(text), WIDTH).iter().for_each(|line| say(out, line));
}

fn secs(secs: u64) -> String {
    duration(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        App, Check, Counters, EventLine, Handler, Instance, LastRun, Member, MemberApp, MemberCounts,
        Members, Pinged, Status,
    };

    /// As the daemon says it.
    fn shown<T>(said: impl serde::Serialize, show: impl FnOnce(Fields<'_>) -> T) -> T {
        show(Fields(&serde_json::to_value(said).unwrap()))
    }

    fn members(said: &Members) -> String {
        shown(said, |members| super::members(members, false))
    }

    fn pinged(said: &[Pinged]) -> String {
        let said: Vec<_> = said.iter().map(|pinged| serde_json::to_value(pinged).unwrap()).collect();
        super::pinged(&said.iter().map(Fields).collect::<Vec<_>>(), false)
    }

    fn fits(text: &str) {
        let wide = text.lines().find(|line| line.chars().count() > WIDTH);
        assert_eq!(wide, None, "{text}");
    }

    #[test]
    fn members_show_what_they_run_and_serf_agents_their_tags() {
        let app = MemberApp { name: "web".into(), state: "up".into(), forced: true };
        let own = Member {
            name: "fra1".into(),
            address: "203.0.113.10:7946".into(),
            state: "alive".into(),
            since_secs: 192,
            apps: vec![app],
            version: Some("0.1.0".into()),
            is_self: true,
            ..Member::default()
        };
        let serf = Member { name: "serf1".into(), state: "failed".into(), ..Member::default() };
        let tags = [("dc", "fra"), ("role", "a\u{1b}[1m")].map(|(name, value)| (name.into(), value.into()));
        let tagged =
            Member { name: "serf2".into(), state: "alive".into(), tags: tags.into(), ..serf.clone() };
        let text = members(&Members { members: vec![own.clone(), serf.clone(), tagged] });
        assert_eq!(
            text,
            "NAME    ADDRESS            STATE   SINCE  APPS, TAGS              VERSION\n\
             fra1 *  203.0.113.10:7946  alive   3m12s  web=up!                 0.1.0\n\
             serf1                      failed  0s     -                       -\n\
             serf2                      alive   0s     dc=fra role=a\\u{1b}[1m  -\n"
        );
        let long = Member { tags: [("x".into(), "y".repeat(500))].into(), ..serf };
        fits(&members(&Members { members: vec![own, long] }));
    }

    #[test]
    fn a_member_without_udp_is_shown_as_such_with_what_to_do() {
        let member = Member {
            name: "nyc1".into(),
            address: "192.0.2.5:7946".into(),
            state: "alive".into(),
            udp_blocked: true,
            ..Member::default()
        };
        let text = members(&Members { members: vec![member.clone()] });
        fits(&text);
        assert!(
            text.contains("alive (no UDP)") && text.contains("UDP to or from nyc1 (192.0.2.5:7946)"),
            "{text}"
        );
        let well = Member { udp_blocked: false, ..member };
        assert!(!members(&Members { members: vec![well] }).contains("UDP"));
    }

    #[test]
    fn pings_show_times_and_what_a_missing_answer_means() {
        let well = Pinged {
            node: "par1".into(),
            state: "alive".into(),
            udp_ms: Some(0.412),
            indirect_ms: Some(23.456),
            relays: vec!["nyc1".into()],
            via: Some("nyc1".into()),
            tcp_ms: Some(250.4),
            ..Pinged::default()
        };
        let ill = Pinged {
            node: "ber1".into(),
            state: "failed".into(),
            problem: Some("ber1 does not answer \x1b".into()),
            ..Pinged::default()
        };
        let text = pinged(&[well, ill]);
        assert_eq!(
            text,
            "NAME  STATE   UDP        INDIRECT         TCP\n\
             par1  alive   0.41 ms    23.5 ms by nyc1  250 ms\n\
             ber1  failed  no answer  -                no answer\n\
             \n\
             ber1 does not answer \\u{1b}\n"
        );
        let mut long = Pinged { node: "n".repeat(128), via: Some("v".repeat(128)), ..Pinged::default() };
        (long.indirect_ms, long.relays) = (Some(1.0), vec!["v".repeat(128)]);
        fits(&pinged(&[long]));
        assert!(pinged(&[]).contains("no other member"));
    }

    fn full() -> Status {
        let instance = Instance {
            node: "amsterdam-very-long-name-1".into(),
            member: "suspect".into(),
            state: "down".into(),
            addrs: vec!["2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".into(), "203.0.113.110".into()],
            ..Instance::default()
        };
        let check = Check {
            target: "exec /usr/local/lib/picored/check-something-long --with arguments".into(),
            fails: 3,
            last: Some("exit 2: CRITICAL \x1b[31mno space left on device".into()),
            ..Check::default()
        };
        let app = App {
            name: "web".into(),
            state: "down".into(),
            summary: "3/3 failed: connection refused by 127.0.0.1:8080".into(),
            publish: Some(vec!["203.0.113.10".into(), "2001:db8::10".into()]),
            guard: Some("fewer than min_up".into()),
            instances: vec![instance],
            checks: vec![check],
            ..App::default()
        };
        let run = LastRun {
            ended_secs_ago: Some(75),
            took_ms: Some(1_200),
            exit: Some("exit 1".into()),
            output: Some("line one\nline \x07two\n".into()),
            ..LastRun::default()
        };
        let handler = Handler {
            name: "dns".into(),
            app: Some("web".into()),
            mode: "sync".into(),
            place: "one".into(),
            phase: "backoff".into(),
            failures_in_a_row: 2,
            last_run: Some(run),
            ..Handler::default()
        };
        Status {
            code: 2,
            summary: "PICORED CRITICAL - all apps of this node are down (and 1 more)".into(),
            problems: vec!["all apps of this node are down".into(), "web: fewer than min_up".into()],
            node: "fra1".into(),
            members: MemberCounts { known: 3, alive: 2, failed: 1, ..MemberCounts::default() },
            apps: vec![app],
            handlers: vec![handler],
            counters: Some(Counters::default()),
            ..Status::default()
        }
    }

    #[test]
    fn a_status_fits_the_screen_and_begins_with_the_summary() {
        for verbose in [false, true] {
            let text = shown(full(), |status| super::status(status, verbose, false));
            fits(&text);
            assert!(text.starts_with("PICORED CRITICAL - all apps of this node are down (and 1 more)\n"));
            assert!(!text.contains(['\x1b', '\x07']), "{text}");
        }
    }

    #[test]
    fn the_verbose_status_adds_checks_output_and_counters() {
        let [short, long] =
            [false, true].map(|verbose| shown(full(), |status| super::status(status, verbose, false)));
        for what in ["dns said:", "packets", "ADDRESSES", "IN A ROW"] {
            assert!(!short.contains(what) && long.contains(what), "{what}\n{long}");
        }
        assert!(short.contains("2 in a row"), "{short}");
    }

    #[test]
    fn an_event_is_one_line_whatever_it_says() {
        let line = EventLine {
            time: "2026-11-23T00:50:00.042Z".into(),
            level: "warn".into(),
            event: "node-failed".into(),
            message: "x\ny failed".into(),
        };
        let text = shown(line, |line| event(line, false));
        assert_eq!(text, "2026-11-23T00:50:00.042Z warn  node-failed      x\\ny failed\n");
    }
}
