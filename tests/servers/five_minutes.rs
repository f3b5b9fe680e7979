//! The README's five minutes, word by word: its commands, its configuration, its lines for named.conf and dns.env.
//!
//! What this adds is what the README takes for granted: web servers, a BIND, cron, somebody who puts key and secret
//! into the files. It leaves out `make static` alone, which was done before.

use std::path::Path;
use std::time::Duration;

use crate::bare;
use crate::machines::{Machine, Net, wait_for, wait_up_to};

const HOSTS: &str = "203.0.113.10 fra1\n198.51.100.7 par1\n192.0.2.5 nyc1\n192.0.2.53 dns\n198.18.0.1 desk";
const SERVERS: [&str; 3] = ["fra1", "par1", "nyc1"];
const PROGRAMS: [&str; 9] =
    ["ssh", "sshd", "cron", "named", "tsig-keygen", "dig", "nsupdate", "nginx", "nsenter"];

/// The code between fences in the README's section, as (language, text).
fn blocks() -> Vec<(String, String)> {
    let readme = include_str!("../../README.md");
    let section = readme
        .split_once("<!-- five minutes")
        .and_then(|(_, rest)| rest.split_once("<!-- end of five minutes"));
    let section = section.expect("the README's five minutes are between two comments").0;
    let mut parts = section.split("\n```");
    parts.next();
    let mut found = Vec::new();
    while let (Some(block), Some(_)) = (parts.next(), parts.next()) {
        let (language, text) = block.split_once('\n').expect("a block has lines");
        found.push((language.to_owned(), text.to_owned()));
    }
    found
}

/// The next block, which must be in this language.
fn next(blocks: &mut std::vec::IntoIter<(String, String)>, language: &str) -> String {
    let (found, text) = blocks.next().expect("there is one more block");
    assert_eq!(found, language, "{text}");
    text
}

fn dns(desk: &Machine) -> Vec<String> {
    let said = desk.run("dig +short +time=1 +tries=1 @192.0.2.53 www.example.com A || true");
    let mut addresses: Vec<String> = said.lines().map(str::to_owned).collect();
    addresses.sort();
    addresses
}

#[test]
fn the_readme_leads_to_a_cluster_of_three() {
    let Some(_) = bare::program() else { return };
    let Some(net) = furnished() else { return };
    let (desk, name_server) = (net.at("desk"), net.at("dns"));
    let mut blocks = blocks().into_iter();

    // 1. Build, and copy to all three.
    let copy = next(&mut blocks, "sh");
    let copy = copy.strip_prefix("make static\n").expect("it is built first");
    let said = desk.run(&format!("cd /srv/picored\n{copy}"));
    assert_eq!(said.matches("next: ").count(), 3, "{said}");

    // 2. A configuration; the person's editor puts the key that init made into the one that is shown.
    desk.run(&format!("cd /srv/picored\n{}", next(&mut blocks, "sh")));
    let made = desk.run("cat ~/picored.json");
    let key = made
        .split_once("\"keys\": [\"")
        .and_then(|(_, rest)| rest.split_once('"'))
        .expect("init makes a key")
        .0;
    let shown = next(&mut blocks, "json");
    assert!(shown.contains("the key that init made"));
    desk.write("~/picored.json", &shown.replace("the key that init made", key));
    assert_eq!(desk.run("stat -c %a ~/picored.json"), "600\n");

    // 3. The DNS key.
    let zone = next(&mut blocks, "text");
    name_server.run("tsig-keygen picored >/etc/bind.key");
    name_server.write("/etc/named.conf", &format!("{NAMED}include \"/etc/bind.key\";\n{zone}\n"));
    name_server.run("named -u root -c /etc/named.conf");
    let secret = name_server.run("sed -n 's/.*secret \"\\(.*\\)\";/\\1/p' /etc/bind.key");
    let env = next(&mut blocks, "text");
    desk.write("~/dns.env", &format!("{}\n", env.replace("SECRET", secret.trim())));
    wait_for("BIND to answer", || desk.try_run("dig +time=1 @192.0.2.53 example.com SOA").then_some(()));

    // 5. Copy both, and look.
    let copied = desk.run(&next(&mut blocks, "sh"));
    assert!(!copied.contains("problem"), "{copied}");
    let all = ["192.0.2.5", "198.51.100.7", "203.0.113.10"];
    wait_up_to(Duration::from_secs(240), "cron, and all three in DNS", || (dns(desk) == all).then_some(()));
    for server in SERVERS {
        let parent = net.at(server).run("pidof picored | wc -w; test -e /var/run/crond.pid && echo cron");
        assert_eq!(parent, "1\ncron\n", "{server}: one picored, by cron");
    }
    let look = next(&mut blocks, "sh");
    let lines: Vec<&str> = look.lines().collect();
    let [status, members, events] = lines[..] else { panic!("status, members, events: {look}") };
    let said = wait_for("all to be well", || {
        let (code, said) = desk.code(status);
        (code == 0).then_some(said)
    });
    assert!(said.contains("fra1"), "{said}");
    let said = desk.run(members);
    assert!(SERVERS.iter().all(|server| said.contains(server)), "{said}");
    let events = events.split('#').next().unwrap_or_default();
    desk.run(&format!("{events} >~/events 2>&1 </dev/null &"));
    wait_for("events that were", || desk.try_run("grep -q . ~/events").then_some(()));

    // "And now stop a web server."
    net.at("par1").run("nginx -s stop");
    wait_up_to(Duration::from_secs(120), "par1 to go from DNS", || {
        (dns(desk) == ["192.0.2.5", "203.0.113.10"]).then_some(())
    });
    wait_for("the event", || desk.try_run("grep -q 'web is down at par1' ~/events").then_some(()));
    wait_for("a mail about it", || {
        SERVERS
            .iter()
            .any(|server| net.at(server).try_run("grep -q 'app-down web par1' /var/mail/root"))
            .then_some(())
    });
    assert!(blocks.next().is_none(), "the README goes on, and this does not");
    for server in SERVERS {
        assert!(!net.at(server).try_run("test -s /var/mail/cron"), "cron had nothing to mail");
    }
}

/// Servers with nginx, cron and sshd, a machine for BIND, and the desk with the project.
fn furnished() -> Option<Net> {
    let mut net = Net::new(&PROGRAMS)?;
    for line in HOSTS.lines() {
        let (address, name) = line.split_once(' ').expect("ADDRESS NAME");
        net.add(name, address);
    }
    net.trust("desk", HOSTS);
    net.at("desk").show(Path::new(env!("CARGO_MANIFEST_DIR")), "/srv/picored");
    for server in SERVERS {
        let at = net.at(server);
        at.write("/etc/nginx/nginx.conf", NGINX);
        at.write("/usr/local/sbin/sendmail", SENDMAIL);
        at.run("chmod 755 /usr/local/sbin/sendmail; mkdir -p /var/log/nginx /var/lib/nginx && nginx");
        at.run("ssh-keygen -q -A && /usr/sbin/sshd && cron");
    }
    let at = net.at("dns");
    at.run("mkdir -p /var/bind /run/named");
    at.write(
        "/var/bind/example.com",
        "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 192.0.2.53\n",
    );
    Some(net)
}

const NGINX: &str = "events { } pid /run/nginx.pid; error_log /var/log/nginx/error.log;
http { access_log off; server { listen 80; server_name www.example.com; location /health { return 200 OK; } } }\n";

/// Who gets mail on a server without a mail server: a file.
const SENDMAIL: &str = "#!/bin/sh
case $* in *-FCronDaemon*) exec cat >>/var/mail/cron ;; *) exec cat >>/var/mail/root ;; esac\n";

const NAMED: &str = r#"options { directory "/var/bind"; listen-on { 192.0.2.53; }; listen-on-v6 { none; };
    pid-file none; session-keyfile none; recursion no; dnssec-validation no; };
controls { };
"#;
