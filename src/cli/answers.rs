//! What `why`, `sync`, `test-handler`, `reload` and what is answered with a sentence look like.

use core::time::Duration;

use crate::cli::screen::{gates, indented, labelled, padded, say};
use crate::cli::table::{Table, Tone};
use crate::control::Reloaded;
use crate::control::fields::Fields;
use crate::control::text::{duration, printable};

/// Each app: its addresses, the gate that looks at all of them, and its handlers.
pub fn why(why: Fields<'_>, colour: bool) -> String {
    let mut out = String::new();
    gates(&mut out, why);
    if let Some(short) = why.maybe("short") {
        labelled(&mut out, "short", short);
    }
    for app in why.list("apps") {
        why_app(&mut out, app, colour);
    }
    if why.values("apps").is_empty() {
        say(&mut out, "there is no app in the configuration");
    }
    out
}

fn why_app(out: &mut String, app: Fields<'_>, colour: bool) {
    say(out, "");
    say(out, &printable(app.text("name")));
    let mut table = Table::new(&["ADDRESS", "NODE", "PUBLISH", "SHOWN", "WHY"]);
    for address in app.list("addresses") {
        table.cell(address.text("address"));
        table.cell(address.or_dash("node"));
        yes_or_no(&mut table, address.flag("publish"));
        yes_or_no(&mut table, address.flag("shown"));
        table.cell(address.text("why"));
    }
    if app.values("addresses").is_empty() {
        say(out, "no member shows this app");
    } else {
        out.push_str(&table.render(colour));
    }
    if let Some(guard) = app.maybe("guard") {
        labelled(out, "  guard", guard);
    }
    for job in app.list("jobs") {
        why_job(out, job);
    }
}

fn why_job(out: &mut String, job: Fields<'_>) {
    let (of, runner) = job.maybe("runner").map_or(("", ""), |runner| (", runner ", runner));
    let (colon, waits) = job.maybe("waits").map_or(("", ""), |waits| (": ", waits));
    let text = [job.text("handler"), of, runner, ", ", job.text("phase"), colon, waits];
    labelled(out, "  handler", &text.concat());
    let mut records = String::new();
    for (node, record) in job.pairs("records") {
        let comma = if records.is_empty() { "" } else { ", " };
        records.extend([comma, node, " ", record]);
    }
    if !records.is_empty() {
        labelled(out, "  records", &records);
    }
}

fn yes_or_no(table: &mut Table, value: Option<bool>) {
    match value {
        Some(true) => table.word("yes", "ok"),
        Some(false) => table.word("no", "down"),
        None => table.word("?", "unknown"),
    }
}

/// Each job: what it is told and where.
pub fn synced(synced: Fields<'_>, colour: bool) -> String {
    let mut out = String::new();
    for job in synced.list("jobs") {
        let tone = if job.is("here") { Tone::Good } else { Tone::Doubtful };
        let [handler, app, text] = ["handler", "app", "text"].map(|key| printable(job.text(key)));
        say(&mut out, &tone.paint(&[&handler, " for ", &app, ": ", &*text].concat(), colour));
        let set = if job.has("publish") { listed(job, "publish") } else { "none".into() };
        labelled(&mut out, "  set", &set);
        labelled(&mut out, "  add", &listed(job, "add"));
        labelled(&mut out, "  remove", &listed(job, "remove"));
        if let Some(guard) = job.maybe("guard") {
            labelled(&mut out, "  guard", guard);
        }
    }
    out
}

fn listed(job: Fields<'_>, key: &str) -> String {
    let addresses = job.texts(key);
    if addresses.is_empty() { "nothing".into() } else { addresses.join(" ") }
}

/// All that the handler was told and said. Its lines are as long as they are: they are to be read as they came.
pub fn rehearsed(rehearsed: Fields<'_>, colour: bool) -> String {
    let mut out = String::new();
    labelled(&mut out, "handler", rehearsed.text("handler"));
    labelled(&mut out, "program", &rehearsed.texts("argv").join(" "));
    if let Some(user) = rehearsed.maybe("user") {
        labelled(&mut out, "user", user);
    }
    say(&mut out, "environment");
    for (name, value) in rehearsed.pairs("env") {
        say(&mut out, &["  ", &*printable(name), "=", &*printable(value)].concat());
    }
    block(&mut out, "standard input", rehearsed.text("stdin"));
    block(&mut out, "output", rehearsed.text("output"));
    let tone = if rehearsed.is("succeeded") { Tone::Good } else { Tone::Bad };
    let took = duration(Duration::from_millis(rehearsed.number("took_ms")));
    let [exit, meaning] = ["exit", "meaning"].map(|key| printable(rehearsed.text(key)));
    let text = tone.paint(&[&exit, " after ", &took, " (", &*meaning, ")"].concat(), colour);
    say(&mut out, &[padded("ended", 10), text].concat());
    out
}

fn block(out: &mut String, name: &str, text: &str) {
    say(out, name);
    if text.trim().is_empty() {
        return say(out, "  nothing");
    }
    text.trim_end().lines().for_each(|line| indented(out, line));
}

/// A sentence.
pub fn done(done: Fields<'_>, _colour: bool) -> String {
    printable(done.text("message")).into_owned() + "\n"
}

/// What changed, and what a restart would change.
pub fn reloaded(reloaded: Fields<'_>, _colour: bool) -> String {
    let texts = |key| reloaded.texts(key).into_iter().map(str::to_owned).collect();
    let reloaded =
        Reloaded { changed: texts("changed"), at_restart: texts("at_restart"), notes: texts("notes") };
    let mut out = String::new();
    reloaded.sentences().iter().for_each(|line| say(&mut out, &printable(line)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::table::WIDTH;
    use crate::control::{Rehearsed, SyncJob, Synced, Why, WhyAddress, WhyApp, WhyJob};

    /// As the daemon says it.
    fn shown(said: impl serde::Serialize, show: fn(Fields<'_>, bool) -> String) -> String {
        show(Fields(&serde_json::to_value(said).unwrap()), false)
    }

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
        let text = shown(long_why(), why);
        fits(&text);
        for part in ["gates", "open", "guard", "handler   dns, runner fra1, debouncing", "i:41:00c0ffee"] {
            let found = text.contains(part) || text.contains(&part.replacen("   ", " ", 1));
            assert!(found, "{part}\n{text}");
        }
        let none = shown(Why { waiting: Some("still settling".into()), ..Why::default() }, why);
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
        let text = shown(Synced { dry_run: true, jobs: vec![job.clone(), job] }, synced);
        fits(&text);
        let one = "dns for web: par1 is the runner: say `picored sync dns` there\n  set     192.0.2.1 192.0.2.2\n  \
                   add     192.0.2.2\n  remove  nothing\n";
        assert_eq!(text, format!("{one}{one}"));
    }

    #[test]
    fn a_rehearsal_shows_everything_and_nothing_moves_the_cursor() {
        let told = Rehearsed {
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
            shown(told, rehearsed),
            "handler   dns\nprogram   /bin/x y\nenvironment\n  KEY=********\nstandard input\n  nothing\noutput\n  one\n  \
             two\\u{1b}[2J\nended     exit 1 after 1s (failed: tried again later)\n"
        );
    }
}
