//! The README says nothing that the program does not take.

#[path = "e2e/skip.rs"]
mod skip;

use std::process::Command;

use picored::config::Config;
use skip::skip;

/// The text between a line "```LANGUAGE" and the next "```".
fn blocks(language: &str) -> Vec<String> {
    let readme = include_str!("../README.md");
    let opening = format!("\n```{language}\n");
    readme.split(&opening).skip(1).filter_map(|rest| Some(rest.split_once("\n```")?.0.to_owned())).collect()
}

#[test]
fn the_configuration_shown_is_one() {
    let shown = blocks("json");
    assert_eq!(shown.len(), 1, "one configuration is shown");
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let text = shown[0].replace("the key that init made", key);
    assert_ne!(text, shown[0], "the key is left for init to make");
    let mut secrets = |path: &str| match path {
        "/etc/picored/dns.env" => Ok("DNS_TSIG=hmac-sha256:picored:SECRET\n".to_owned()),
        other => Err(format!("the README does not say how {other} is made")),
    };
    let config = Config::parse(&text, "fra1", Ok(()), &mut secrets);
    let config = config.unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(config.agent.handlers.len(), 2);
    assert!(config.log.file.is_some(), "cron starts it, so without a file the log would be nowhere");
    assert!(config.notes.is_empty(), "{:#?}", config.notes);
}

#[test]
fn the_handlers_named_are_shipped() {
    for name in ["nsupdate", "powerdns", "cloudflare", "hetzner", "records-file", "mail"] {
        assert!(include_str!("../README.md").contains(&format!("- `{name}`:")), "{name}");
        let path = format!("{}/etc/handlers/{name}", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&path).exists(), "{path}");
    }
}

/// Goal: the table of what picored's peers cost is one that `scripts/bench` writes, and its ratios are those of the
/// figures beside them. Method: that script's own test of what it computes, and of this file.
#[test]
fn the_table_beside_its_peers_is_what_the_bench_writes() {
    let home = env!("CARGO_MANIFEST_DIR");
    let done = Command::new("python3")
        .args(["scripts/bench", "--self-test", "README.md"])
        .current_dir(home)
        .output();
    let Ok(done) = done else { return skip("python3 is not installed; scripts/setup does it") };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
