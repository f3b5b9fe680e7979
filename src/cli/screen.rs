//! What `status`, `members`, `events` and `ping` look like.

use core::fmt::Write;
use core::time::Duration;

use crate::cli::table::{Cell, Table, Tone, WIDTH, cell, word, wrap};
use crate::control::text::{duration, printable};
use crate::control::{
    App, Counters, EventLine, Handler, Joined, LastRun, Members, Override, Pinged, Quorum, Status,
};

/// The table of members; the one that answers has a star.
pub fn members(members: &Members, colour: bool) -> String {
    let mut table = Table::new(&["NAME", "ADDRESS", "STATE", "SINCE", "APPS, TAGS", "VERSION"]);
    for member in &members.members {
        let apps = member
            .apps
            .iter()
            .map(|app| format!("{}={}{}", app.name, app.state, if app.forced { "!" } else { "" }));
        let maint = member.maint.iter().map(|word| format!("{}=maint by {}", word.apps, word.held_by));
        let apps = apps.chain(maint);
        // A Serf agent has tags instead.
        let tags = member.tags.iter().filter(|_| member.version.is_none());
        let apps = apps.chain(tags.map(|(name, value)| format!("{name}={value}")));
        let apps = apps.collect::<Vec<_>>().join(" ");
        table.row([
            cell(&format!("{}{}", member.name, if member.is_self { " *" } else { "" })),
            cell(&member.address),
            match member.udp_blocked {
                true => word(&format!("{} (no UDP)", member.state), "WARNING"),
                false => word(&member.state, &member.state),
            },
            cell(&secs(member.since_secs)),
            cell(if apps.is_empty() { "-" } else { &apps }),
            cell(member.version.as_deref().unwrap_or("-")),
        ]);
    }
    let mut out = table.render(colour);
    let blocked = members.members.iter().filter(|member| member.udp_blocked);
    let blocked: Vec<String> =
        blocked.map(|member| format!("{} ({})", member.name, member.address)).collect();
    if !blocked.is_empty() {
        let text = format!(
            "UDP to or from {} is blocked: only TCP or other members get through. Let that UDP port through the \
             firewalls of both servers and between them, both ways; `picored ping` shows what gets through.",
            blocked.join(", ")
        );
        say(&mut out, "");
        wrap(&printable(&text), WIDTH).iter().for_each(|line| say(&mut out, line));
    }
    out
}

/// The table of pings, and under it what is wrong and what to do.
pub fn pinged(all: &[Pinged], colour: bool) -> String {
    if all.is_empty() {
        return "there is no other member to ping\n".into();
    }
    let mut table = Table::new(&["NAME", "STATE", "UDP", "INDIRECT", "TCP"]);
    for pinged in all {
        let answer = |ms: Option<f64>, via: &str| match ms {
            Some(ms) => word(&format!("{} ms{via}", three_digits(ms)), "ok"),
            None => word("no answer", "failed"),
        };
        let via = pinged.via.as_deref().map_or(String::new(), |via| format!(" by {via}"));
        table.row([
            cell(&pinged.node),
            word(&pinged.state, &pinged.state),
            answer(pinged.udp_ms, ""),
            // Nobody to ask is no failure.
            if pinged.relays.is_empty() { cell("-") } else { answer(pinged.indirect_ms, &via) },
            answer(pinged.tcp_ms, ""),
        ]);
    }
    let mut out = table.render(colour);
    for problem in all.iter().filter_map(|pinged| pinged.problem.as_deref()) {
        say(&mut out, "");
        wrap(&printable(problem), WIDTH).iter().for_each(|line| say(&mut out, line));
    }
    out
}

/// Three digits tell all that a ping can.
fn three_digits(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2}"),
        10.0..100.0 => format!("{ms:.1}"),
        _ => format!("{ms:.0}"),
    }
}

/// One line of `join`.
pub fn joined(tried: &Joined) -> String {
    let target = printable(&tried.target);
    match &tried.why {
        _ if tried.joined => format!("{target}: joined\n"),
        why => format!("{target}: not joined: {}\n", printable(why.as_deref().unwrap_or("no answer"))),
    }
}

/// One line.
pub fn event(event: &EventLine, colour: bool) -> String {
    let tone = match event.level.as_str() {
        "error" => Tone::Bad,
        "warn" => Tone::Doubtful,
        _ => Tone::Plain,
    };
    let time = if event.time.is_empty() { "-" } else { &event.time };
    let level = tone.paint(&format!("{:<5}", printable(&event.level)), colour);
    format!("{} {level} {:<16} {}\n", printable(time), printable(&event.event), printable(&event.message))
}

/// One screen. The first line is the summary, as Nagios wants it.
pub fn status(status: &Status, verbose: bool, colour: bool) -> String {
    let mut out = String::new();
    let tone = [Tone::Good, Tone::Doubtful].get(usize::from(status.code)).copied().unwrap_or(Tone::Bad);
    say(&mut out, &tone.paint(&printable(&status.summary), colour));
    if status.problems.len() > 1 {
        for problem in &status.problems {
            labelled(&mut out, "  !", problem);
        }
    }
    out.push('\n');
    node(&mut out, status);
    apps(&mut out, &status.apps, verbose, colour);
    overrides(&mut out, &status.overrides, colour);
    handlers(&mut out, &status.handlers, verbose, colour);
    if let Some(counters) = status.counters.as_ref().filter(|_| verbose) {
        traffic(&mut out, counters);
    }
    out
}

fn node(out: &mut String, status: &Status) {
    let Status { node, address, cluster, version, members, loop_late, .. } = status;
    labelled(out, "node", &format!("{node} at {address}, cluster {cluster}"));
    labelled(out, "picored", &format!("{version}, {} for {}", status.phase, secs(status.uptime_secs)));
    let control_counts = [
        (members.alive, "alive"),
        (members.suspect, "suspect"),
        (members.failed, "failed"),
        (members.left, "left"),
    ];
    let counts = control_counts.iter().filter(|(count, name)| *count > 0 || *name == "alive");
    let counts: Vec<String> = counts.map(|(count, name)| format!("{count} {name}")).collect();
    labelled(out, "members", &format!("{} known: {}", members.known, counts.join(", ")));
    let gates =
        status.waiting.as_deref().map_or("open: this node may act".into(), |why| format!("closed: {why}"));
    labelled(out, "gates", &gates);
    let quorum = status.quorum.as_ref().map_or("not looked at".into(), |quorum| {
        let Quorum { has, alive, electorate } = quorum;
        format!("{}: {alive} of {electorate} alive", if *has { "yes" } else { "no" })
    });
    labelled(out, "quorum", &quorum);
    if let Some(witness) = &status.witness {
        labelled(out, "witness", &format!("{witness} answer"));
    }
    let rss =
        if status.rss_kib == 0 { "RSS not known".into() } else { format!("RSS {} KiB", status.rss_kib) };
    labelled(out, "process", &format!("{rss}, {} descriptors", status.descriptors));
    let late = format!(
        "at most {} ms late in the last minutes, {} ms since the start",
        loop_late.recent_max_ms, loop_late.max_ms
    );
    let often = match loop_late.count {
        0 => String::new(),
        count => format!("; {count} times more than 2 s"),
    };
    labelled(out, "loop", &format!("{late}{often}"));
    if status.health_score > 0 {
        labelled(out, "health", &format!("{} of 7 (0 is well)", status.health_score));
    }
}

fn apps(out: &mut String, apps: &[App], verbose: bool, colour: bool) {
    if apps.is_empty() {
        return;
    }
    let mut table = Table::new(&["APP", "HERE", "FOR", "CHECKS", "TO PUBLISH"]);
    for app in apps {
        let mut state = app.state.clone();
        if app.forced {
            state.push('!');
        }
        let publish = match &app.publish {
            None => "-".to_owned(),
            Some(addrs) if addrs.is_empty() => "nothing".into(),
            Some(addrs) => addrs.join(" "),
        };
        let age = if app.state == "none" { "-".into() } else { secs(app.since_secs) };
        table.row([
            cell(&app.name),
            word(&state, &app.state),
            cell(&age),
            cell(&app.summary),
            cell(&publish),
        ]);
    }
    say(out, "");
    out.push_str(&table.render(colour));
    for app in apps {
        if let Some(guard) = &app.guard {
            labelled(out, "  guard", &format!("{}: {guard}", app.name));
        }
    }
    if verbose {
        instances(out, apps, colour);
        checks(out, apps, colour);
    }
}

fn overrides(out: &mut String, overrides: &[Override], colour: bool) {
    if overrides.is_empty() {
        return;
    }
    let mut table = Table::new(&["SAID OF", "NODE", "STATE", "FOR", "BY", "REASON"]);
    for said in overrides {
        let Override { app, node, state, for_secs, since_secs, by, reason, .. } = said;
        let by = if by.is_empty() { "-" } else { by };
        table.row([
            cell(app.as_deref().unwrap_or("all apps")),
            cell(node),
            word(state, state),
            cell(&for_secs.map_or("ever".into(), secs)),
            cell(&format!("{by}, {} ago", secs(*since_secs))),
            cell(reason),
        ]);
    }
    say(out, "");
    out.push_str(&table.render(colour));
}

fn instances(out: &mut String, apps: &[App], colour: bool) {
    let mut table = Table::new(&["APP", "NODE", "MEMBER", "STATE", "PUBLISHED", "ADDRESSES"]);
    for (app, there) in apps.iter().flat_map(|app| app.instances.iter().map(move |there| (app, there))) {
        let mut state = format!("{}{}", there.state, if there.forced { "!" } else { "" });
        if let Some(by) = &there.withdrawn_by {
            state.push_str(&format!(" (maint by {by})"));
        }
        table.row([
            cell(&app.name),
            cell(&there.node),
            word(&there.member, &there.member),
            word(&state, &there.state),
            cell(if there.published { "yes" } else { "no" }),
            cell(&there.addrs.join(" ")),
        ]);
    }
    say(out, "");
    out.push_str(&table.render(colour));
}

fn checks(out: &mut String, apps: &[App], colour: bool) {
    let mut table = Table::new(&["APP", "CHECK", "STATE", "IN A ROW", "LAST", "AGE"]);
    for (app, check) in apps.iter().flat_map(|app| app.checks.iter().map(move |check| (app, check))) {
        let row = match (check.passes, check.fails) {
            (0, 0) => "-".to_owned(),
            (0, fails) => format!("{fails} failed"),
            (passes, _) => format!("{passes} passed"),
        };
        table.row([
            cell(&app.name),
            cell(&check.target),
            word(&check.state, &check.state),
            cell(&row),
            cell(check.last.as_deref().unwrap_or("-")),
            cell(&check.last_secs_ago.map_or("-".into(), secs)),
        ]);
    }
    say(out, "");
    out.push_str(&table.render(colour));
}

fn handlers(out: &mut String, handlers: &[Handler], verbose: bool, colour: bool) {
    if handlers.is_empty() {
        return;
    }
    let mut table = Table::new(&["HANDLER", "APP", "MODE", "RUNNER", "PHASE", "LAST RUN"]);
    for handler in handlers {
        let Handler { name, app, mode, place, runner, phase, .. } = handler;
        let runner = match (runner, place.as_str()) {
            (Some(runner), _) => runner.as_str(),
            (None, "one") => "nobody",
            (None, _) => "each",
        };
        table.row([
            cell(name),
            cell(app.as_deref().unwrap_or("-")),
            cell(&format!("{mode}/{place}")),
            cell(runner),
            word(phase, phase),
            last_run(handler),
        ]);
    }
    say(out, "");
    out.push_str(&table.render(colour));
    for handler in handlers {
        if let Some(waits) = &handler.waits {
            let app = handler.app.as_deref().map_or(String::new(), |app| format!(" for {app}"));
            labelled(out, "  waits", &format!("{}{app}: {waits}", handler.name));
        }
    }
    let outputs = handlers.iter().filter_map(|handler| Some((handler, handler.last_run.as_ref()?)));
    for (handler, output) in outputs.filter_map(|(handler, run)| Some((handler, run.output.as_ref()?))) {
        if verbose && !output.is_empty() {
            say(out, "");
            say(out, &format!("{} said:", printable(&handler.name)));
            output.lines().for_each(|line| say(out, &format!("  {}", printable(line))));
        }
    }
}

fn last_run(handler: &Handler) -> Cell {
    let Some(run) = &handler.last_run else { return cell("never") };
    let LastRun { started_secs_ago, ended_secs_ago, took_ms, exit, ok, .. } = run;
    let Some(ended) = ended_secs_ago else { return cell(&format!("for {}", secs(*started_secs_ago))) };
    let took = took_ms.map_or(String::new(), |ms| format!(", took {}", duration(Duration::from_millis(ms))));
    if *ok {
        return word(&format!("ok {} ago{took}", secs(*ended)), "ok");
    }
    let exit = exit.as_deref().unwrap_or("failed");
    let row = match handler.failures_in_a_row {
        0 | 1 => String::new(),
        times => format!(", {times} in a row"),
    };
    word(&format!("{exit} {} ago{took}{row}", secs(*ended)), "failed")
}

fn traffic(out: &mut String, counters: &Counters) {
    let Counters { packets_in, packets_out, bytes_in, bytes_out, streams_in, streams_out, .. } = counters;
    say(out, "");
    labelled(
        out,
        "packets",
        &format!("{packets_in} in ({bytes_in} bytes), {packets_out} out ({bytes_out} bytes)"),
    );
    labelled(out, "streams", &format!("{streams_in} in, {streams_out} out"));
    let bad: Vec<String> = counters.bad.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    labelled(out, "bad", &bad.join(", "));
    let Counters { not_allowed, refused, send_errors, .. } = counters;
    labelled(out, "refused", &format!("source not allowed {not_allowed}, at a limit {refused}"));
    labelled(out, "not sent", &format!("{send_errors}"));
}

/// `label     text`, the text in as many lines as it needs.
pub fn labelled(out: &mut String, label: &str, text: &str) {
    const LABEL: usize = 10;
    let mut label = label;
    for line in wrap(&printable(text), WIDTH - LABEL) {
        say(out, format!("{label:<LABEL$}{line}").trim_end());
        label = "";
    }
}

pub fn say(out: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{line}");
}

fn secs(secs: u64) -> String {
    duration(Duration::from_secs(secs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Check, Instance, Member, MemberApp, MemberCounts};

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
        let text = members(&Members { members: vec![own.clone(), serf.clone(), tagged] }, false);
        assert_eq!(
            text,
            "NAME    ADDRESS            STATE   SINCE  APPS, TAGS              VERSION\n\
             fra1 *  203.0.113.10:7946  alive   3m12s  web=up!                 0.1.0\n\
             serf1                      failed  0s     -                       -\n\
             serf2                      alive   0s     dc=fra role=a\\u{1b}[1m  -\n"
        );
        let long = Member { tags: [("x".into(), "y".repeat(500))].into(), ..serf };
        fits(&members(&Members { members: vec![own, long] }, false));
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
        let text = members(&Members { members: vec![member.clone()] }, false);
        fits(&text);
        assert!(
            text.contains("alive (no UDP)") && text.contains("UDP to or from nyc1 (192.0.2.5:7946)"),
            "{text}"
        );
        let well = Member { udp_blocked: false, ..member };
        assert!(!members(&Members { members: vec![well] }, false).contains("UDP"));
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
        let text = pinged(&[well, ill], false);
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
        fits(&pinged(&[long], false));
        assert!(pinged(&[], false).contains("no other member"));
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
        let status = full();
        for verbose in [false, true] {
            let text = super::status(&status, verbose, false);
            fits(&text);
            assert!(text.starts_with("PICORED CRITICAL - all apps of this node are down (and 1 more)\n"));
            assert!(!text.contains(['\x1b', '\x07']), "{text}");
        }
    }

    #[test]
    fn the_verbose_status_adds_checks_output_and_counters() {
        let (short, long) = (super::status(&full(), false, false), super::status(&full(), true, false));
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
        assert_eq!(event(&line, false), "2026-11-23T00:50:00.042Z warn  node-failed      x\\ny failed\n");
    }
}
