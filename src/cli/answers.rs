//! What `why`, `sync` and `test-handler` look like.

use core::time::Duration;

use crate::cli::screen::{labelled, say};
use crate::cli::table::{Cell, Table, Tone, cell, word};
use crate::control::text::{duration, printable};
use crate::control::{Rehearsed, SyncJob, Synced, Why, WhyAddress, WhyApp, WhyJob};

/// Each app: its addresses, the gate that looks at all of them, and its handlers.
pub fn why(why: &Why, colour: bool) -> String {
    let mut out = String::new();
    match &why.waiting {
        Some(waiting) => labelled(&mut out, "gates", &format!("closed: {waiting}")),
        None => labelled(&mut out, "gates", "open: this node may act"),
    }
    if let Some(short) = &why.short {
        labelled(&mut out, "short", short);
    }
    for app in &why.apps {
        why_app(&mut out, app, colour);
    }
    if why.apps.is_empty() {
        say(&mut out, "there is no app in the configuration");
    }
    out
}

fn why_app(out: &mut String, app: &WhyApp, colour: bool) {
    say(out, "");
    say(out, &Tone::Plain.paint(&printable(&app.name), colour));
    let mut table = Table::new(&["ADDRESS", "NODE", "PUBLISH", "SHOWN", "WHY"]);
    for WhyAddress { address, node, publish, shown, why } in &app.addresses {
        let node = if node.is_empty() { "-" } else { node };
        table.row([cell(address), cell(node), yes_or_no(*publish), yes_or_no(*shown), cell(why)]);
    }
    if app.addresses.is_empty() {
        say(out, "no member shows this app");
    } else {
        out.push_str(&table.render(colour));
    }
    if let Some(guard) = &app.guard {
        labelled(out, "  guard", guard);
    }
    for job in &app.jobs {
        why_job(out, job);
    }
}

fn why_job(out: &mut String, job: &WhyJob) {
    let waits = job.waits.as_deref().map_or(String::new(), |waits| format!(": {waits}"));
    let runner = job.runner.as_deref().map_or(String::new(), |runner| format!(", runner {runner}"));
    labelled(out, "  handler", &format!("{}{runner}, {}{waits}", job.handler, job.phase));
    if !job.records.is_empty() {
        let records: Vec<String> =
            job.records.iter().map(|(node, record)| format!("{node} {record}")).collect();
        labelled(out, "  records", &records.join(", "));
    }
}

fn yes_or_no(value: Option<bool>) -> Cell {
    match value {
        Some(true) => word("yes", "ok"),
        Some(false) => word("no", "down"),
        None => word("?", "unknown"),
    }
}

/// Each job: what it is told and where.
pub fn synced(synced: &Synced, colour: bool) -> String {
    let mut out = String::new();
    for job in &synced.jobs {
        let SyncJob { handler, app, publish, add, remove, guard, text, here, .. } = job;
        let tone = if *here { Tone::Good } else { Tone::Doubtful };
        let head = format!("{} for {}: {}", printable(handler), printable(app), printable(text));
        say(&mut out, &tone.paint(&head, colour));
        let set = publish.as_ref().map_or("none".into(), |set| listed(set));
        labelled(&mut out, "  set", &set);
        labelled(&mut out, "  add", &listed(add));
        labelled(&mut out, "  remove", &listed(remove));
        if let Some(guard) = guard {
            labelled(&mut out, "  guard", guard);
        }
    }
    out
}

fn listed(addresses: &[String]) -> String {
    if addresses.is_empty() { "nothing".into() } else { addresses.join(" ") }
}

/// All that the handler was told and said. Its lines are as long as they are: they are to be read as they came.
pub fn rehearsed(rehearsed: &Rehearsed, colour: bool) -> String {
    let Rehearsed { handler, argv, user, env, stdin, output, exit, meaning, succeeded, took_ms } = rehearsed;
    let mut out = String::new();
    labelled(&mut out, "handler", handler);
    labelled(&mut out, "program", &argv.join(" "));
    if let Some(user) = user {
        labelled(&mut out, "user", user);
    }
    say(&mut out, "environment");
    for (name, value) in env {
        say(&mut out, &format!("  {}={}", printable(name), printable(value)));
    }
    block(&mut out, "standard input", stdin);
    block(&mut out, "output", output);
    let tone = if *succeeded { Tone::Good } else { Tone::Bad };
    let took = duration(Duration::from_millis(*took_ms));
    let text = format!("{} after {took} ({})", printable(exit), printable(meaning));
    say(&mut out, &format!("{:<10}{}", "ended", tone.paint(&text, colour)));
    out
}

fn block(out: &mut String, name: &str, text: &str) {
    say(out, name);
    if text.trim().is_empty() {
        say(out, "  nothing");
    }
    text.trim_end().lines().filter(|_| !text.trim().is_empty()).for_each(|line| {
        say(out, &format!("  {}", printable(line)));
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::WIDTH;

    fn fits(text: &str) {
        let wide = text.lines().find(|line| line.chars().count() > WIDTH);
        assert_eq!(wide, None, "{text}");
        assert!(!text.contains('\x1b'), "{text}");
    }

    fn long_why() -> Why {
        let address = WhyAddress {
            address: "2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff".into(),
            node: "amsterdam-with-a-long-name-1\x1b".into(),
            publish: Some(true),
            shown: None,
            why: "failed 3m ago, its last word: up; its endpoint answers (tried 4s ago)".into(),
        };
        let job = WhyJob {
            handler: "dns".into(),
            runner: Some("fra1".into()),
            phase: "debouncing".into(),
            waits: Some("for a moment".into()),
            records: vec![("fra1".into(), "i:41:00c0ffee".into()); 9],
        };
        let app = WhyApp {
            name: "web".into(),
            guard: Some("only 1 of at least 2 up: nothing is removed".into()),
            addresses: vec![address],
            jobs: vec![job],
        };
        Why { node: "fra1".into(), waiting: None, short: None, apps: vec![app] }
    }

    #[test]
    fn why_fits_the_screen_and_says_all() {
        let text = why(&long_why(), false);
        fits(&text);
        for part in ["gates", "open", "guard", "handler   dns, runner fra1, debouncing", "i:41:00c0ffee"] {
            let found = text.contains(part) || text.contains(&part.replacen("   ", " ", 1));
            assert!(found, "{part}\n{text}");
        }
        let none = why(&Why { waiting: Some("still settling".into()), ..Why::default() }, false);
        assert_eq!(none, "gates     closed: still settling\nthere is no app in the configuration\n");
    }

    #[test]
    fn a_sync_says_what_and_where() {
        let job = SyncJob {
            handler: "dns".into(),
            app: "web".into(),
            publish: Some(vec!["192.0.2.1".into(), "192.0.2.2".into()]),
            add: vec!["192.0.2.2".into()],
            text: "par1 is the runner: say `picored sync dns` there".into(),
            ..SyncJob::default()
        };
        let text = synced(&Synced { dry_run: true, jobs: vec![job.clone(), job] }, false);
        fits(&text);
        let one = "dns for web: par1 is the runner: say `picored sync dns` there\n  set     192.0.2.1 192.0.2.2\n  \
                   add     192.0.2.2\n  remove  nothing\n";
        assert_eq!(text, format!("{one}{one}"));
    }

    #[test]
    fn a_rehearsal_shows_everything_and_nothing_moves_the_cursor() {
        let shown = Rehearsed {
            handler: "dns".into(),
            argv: vec!["/bin/x".into(), "y".into()],
            env: vec![("KEY".into(), "********".into())],
            output: "one\ntwo\x1b[2J\n".into(),
            exit: "exit 1".into(),
            meaning: "failed: tried again later".into(),
            took_ms: 1_500,
            ..Rehearsed::default()
        };
        assert_eq!(
            rehearsed(&shown, false),
            "handler   dns\nprogram   /bin/x y\nenvironment\n  KEY=********\nstandard input\n  nothing\noutput\n  one\n  \
             two\\u{1b}[2J\nended     exit 1 after 1s (failed: tried again later)\n"
        );
    }
}
