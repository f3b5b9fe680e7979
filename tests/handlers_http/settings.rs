//! Settings are checked before anything is sent.

use crate::skip::skip;
use crate::stage::{NO_SETS, Run, handlers};
use crate::support::{Folder, shells, which};

/// Handler, its secret's setting, its address's setting.
const HANDLERS: [(&str, &str, &str); 3] = [
    ("powerdns", "POWERDNS_API_KEY", "POWERDNS_URL"),
    ("cloudflare", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_URL"),
    ("hetzner", "HETZNER_API_TOKEN", "HETZNER_URL"),
];

#[test]
fn wrong_settings_end_with_78_and_name_the_setting() {
    if which("curl").is_none() {
        return skip("curl is not installed; scripts/setup does it");
    }
    for shell in shells() {
        for (handler, secret, url) in HANDLERS {
            let common = [
                ("DNS_ZONE", ""),
                ("DNS_ZONE", "a\"b"),
                ("DNS_ZONE", "a&b"),
                ("DNS_NAME", ""),
                ("DNS_NAME", "www"),
                ("DNS_NAME", "www.example.org"),
                ("DNS_NAME", "a/../b.example.test"),
                ("DNS_TTL", "1m"),
                ("DNS_TTL", "060"),
                ("DNS_TYPES", "A TXT"),
                ("DNS_TIMEOUT", "0"),
                ("DNS_TIMEOUT", "601"),
                (secret, ""),
                (secret, "a b"),
                (secret, "a\nurl = file:///etc/passwd"),
                (secret, "schlüssel"),
                (url, "ftp://127.0.0.1"),
                (url, "127.0.0.1:1"),
                (url, "http://"),
                (url, "https:///v1"),
                (url, "https://user:pass@127.0.0.1"),
                (url, "https://127.0.0.1/?a=b"),
                (url, "https://127.0.0.1\"\noutput = \"/x"),
            ];
            let own: &[(&str, &str)] = match handler {
                "powerdns" => &[("POWERDNS_SERVER_ID", "a/b")],
                "cloudflare" => &[
                    ("CLOUDFLARE_ZONE_ID", "a/b"),
                    ("DNS_TTL", "0"),
                    ("DNS_TTL", "29"),
                    ("DNS_TTL", "86401"),
                    (url, "http://192.0.2.1/client/v4"),
                    (url, "http://127.example.net"),
                ],
                _ => &[
                    ("DNS_TTL", "59"),
                    (url, "http://localhost.example.net/v1"),
                    (url, "http://a:localhost:1"),
                ],
            };
            for &(name, value) in common.iter().chain(own) {
                let run = Run::new(&shell, handler, "192.0.2.1")
                    .env(url, "http://127.0.0.1:1")
                    .env(secret, "s3cr3t");
                let ended = run.env(name, value).ends();
                assert_eq!(ended.code, 78, "{handler} {name}={value:?}: {}", ended.output);
                ended.says(name);
            }
            for set in NO_SETS {
                let run = Run::new(&shell, handler, set).env(url, "http://127.0.0.1:1").env(secret, "s3cr3t");
                run.ends_with(65).says("refused");
            }
        }
    }
}

#[test]
fn a_handler_without_what_it_shares_says_so() {
    for shell in shells() {
        for (handler, secret, _) in HANDLERS {
            let alone = Folder::new();
            std::fs::copy(handlers().join(handler), alone.0.join(handler)).expect("a copy");
            let mut run = Run::new(&shell, handler, "192.0.2.1").env(secret, "s3cr3t");
            run.command = shell.command();
            run.command.arg(alone.0.join(handler));
            run.ends_with(78).says("dns-api.sh");
        }
        let ended = Run::new(&shell, "dns-api.sh", "192.0.2.1").ends_with(78);
        ended.says("nothing by itself");
    }
}
