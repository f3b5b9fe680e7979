//! scripts/install and scripts/uninstall, run on one machine against sshd on others.

use std::path::Path;

use serde_json::{Value, json};

use crate::machines::{Machine, Net, wait_for};

const HOSTS: &str = "192.0.2.1 desk\n192.0.2.11 n1\n192.0.2.12 n2\n192.0.2.13 n3";
const SSHD: [&str; 7] = ["ssh", "sshd", "dropbear", "cron", "busybox", "ip", "nsenter"];
/// Where a desk has the project.
const HOME: &str = "/srv/picored";

/// A desk with the project and a program, and machines called `names` with sshd.
fn net(names: &[&str]) -> Option<Net> {
    let mut net = Net::new(&SSHD)?;
    net.add("desk", "192.0.2.1");
    for name in names {
        net.add(name, &format!("192.0.2.1{}", &name[1..]));
    }
    net.trust("desk", HOSTS);
    for name in names {
        net.at(name).run("ssh-keygen -q -A && /usr/sbin/sshd");
    }
    furnish(net.at("desk"));
    Some(net)
}

/// Two programs, of which the second is an upgrade of the first.
fn furnish(desk: &Machine) {
    desk.show(Path::new(env!("CARGO_MANIFEST_DIR")), HOME);
    desk.show(Path::new(env!("CARGO_BIN_EXE_picored")), "/srv/program");
    desk.run(
        "cp /srv/program /usr/local/first && cp /srv/program /usr/local/second && echo >>/usr/local/second",
    );
}

fn install(desk: &Machine, words: &str) -> (i32, String) {
    desk.code(&format!("cd {HOME} && scripts/install --program /usr/local/first {words}"))
}

/// Three members that know one another; fast, and with a log on disk.
fn configure(machine: &Machine) {
    let config = json!({
        "join": ["n1", "n2", "n3"], "keys": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
        "profile": "local", "safety": { "settle": "1s" }, "log": { "file": "/var/log/picored.log" },
    });
    machine.write("/etc/picored.json", &config.to_string());
}

fn ask(machine: &Machine, words: &str) -> Option<Value> {
    let (_, said) = machine.code(&format!("picored {words} --json"));
    serde_json::from_str(&said).ok()
}

/// The others that it says are alive.
fn alive(machine: &Machine) -> usize {
    let members = ask(machine, "members").unwrap_or_default();
    let states = members["members"].as_array().into_iter().flatten();
    states.filter(|member| member["state"] == "alive").count()
}

#[test]
fn an_upgrade_of_all_three_is_seen_by_none() {
    let Some(net) = net(&["n1", "n2", "n3"]) else { return };
    let desk = net.at("desk");
    let servers = ["n1", "n2", "n3"].map(|name| net.at(name));
    let (code, said) = install(desk, "root@n1 root@n2 root@n3");
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.matches("next: /usr/local/bin/picored init").count(), 3, "{said}");
    for server in servers {
        configure(server);
        server.run("picored run --cron");
    }
    for server in servers {
        wait_for("three members", || (alive(server) == 3).then_some(()));
    }
    let before = servers.map(|server| server.run("pidof picored"));
    let (code, said) =
        desk.code(&format!("cd {HOME} && scripts/install --program /usr/local/second n1 n2 n3"));
    assert_eq!((code, said.matches("which runs").count()), (0, 3), "{said}");
    for (server, before) in servers.into_iter().zip(before) {
        wait_for("three members", || (alive(server) == 3).then_some(()));
        assert_eq!(server.run("pidof picored"), before, "the process stays the same");
        assert!(
            server.try_run("cmp /proc/$(pidof picored)/exe /usr/local/bin/picored"),
            "it runs the new one"
        );
        assert_eq!(server.run("wc -c </usr/local/bin/picored"), desk.run("wc -c </usr/local/second"));
    }
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/install --program /usr/local/second n1"));
    assert!(code == 0 && said.contains("runs already"), "{said}");

    // What it looks like if one is gone: so long after, all there was to notice would have been noticed.
    servers[2].run("kill -9 $(pidof picored)");
    for server in &servers[..2] {
        let log = wait_for("n3 to be missed", || {
            Some(server.run("cat /var/log/picored.log"))
                .filter(|log| log.contains("event=node-failed node=n3"))
        });
        assert_eq!(log.matches("event=node-failed").count(), 1, "only this one: {log}");
        assert!(!log.contains("event=node-left"), "{log}");
    }
}

#[test]
fn what_an_operator_changed_stays() {
    let Some(net) = net(&["n1"]) else { return };
    let (desk, server) = (net.at("desk"), net.at("n1"));
    let (code, said) = install(desk, "n1");
    assert_eq!(code, 0, "{said}");
    configure(server);
    server
        .run("echo '# mine' >>/etc/picored/handlers/hosts; sed -i 's/@reboot/#@reboot/' /etc/cron.d/picored");
    server.run("rm /etc/picored/handlers/hetzner; picored run --cron");
    let kept = "cat /etc/picored.json /etc/picored/handlers/hosts /etc/cron.d/picored";
    let before = server.run(kept);

    // The same again says nothing of it; a new one comes beside it, what was not changed is replaced.
    let (code, said) = install(desk, "n1");
    assert!(code == 0 && !said.contains("changed here"), "{said}");
    desk.run(&format!("mkdir /srv/next && cd {HOME} && cp -R etc scripts README.md LICENSE* /srv/next/"));
    desk.run("cd /srv/next/etc && echo '# new' | tee -a handlers/hosts handlers/mail handlers/hetzner cron.d/picored");
    let (code, said) = desk.code("/srv/next/scripts/install --program /usr/local/second n1");
    assert!(code == 0 && said.contains("hosts was changed here") && said.contains("which runs"), "{said}");
    assert!(said.contains("cron.d/picored was changed here"), "{said}");
    assert_eq!(server.run(kept), before);
    assert!(
        server.run("tail -n 1 /etc/picored/handlers/hosts.new /etc/picored/cron.d.new").contains("# new")
    );
    assert_eq!(server.run("tail -n 1 /etc/picored/handlers/mail"), "# new\n");
    assert_eq!(server.run("ls /etc/cron.d"), "picored\n", "nothing else that cron would read");
    assert!(!server.try_run("test -e /etc/picored/handlers/mail.new"));

    // Removed: what is the operator's stays, until it may go.
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/uninstall n1"));
    assert!(code == 0 && said.contains("handlers/hosts was changed here and stays"), "{said}");
    let left =
        server.run("ls /etc/picored.json /etc/picored/handlers /var/lib/picored /usr/local/bin /etc/cron.d");
    assert!(
        left.contains("hosts\n") && left.contains("picored.json") && left.contains("state.json"),
        "{left}"
    );
    assert!(
        !left.contains("mail") && !server.try_run("pidof picored || test -e /usr/local/bin/picored"),
        "{left}"
    );
    assert!(!server.try_run("test -e /etc/cron.d/picored"));

    let (code, said) = install(desk, "n1");
    assert!(code == 0 && said.contains("cron starts it"), "{said}");
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/uninstall --leave --purge n1"));
    assert_eq!(code, 0, "{said}");
    let left = server.run(
        "find / -xdev \\( -name 'picored*' -o -path '/etc/picored*' \\) ! -path '/proc/*' ! -path '/tmp/*'",
    );
    assert_eq!(left, "", "nothing is left");
}

#[test]
fn what_cannot_run_there_changes_nothing() {
    let Some(net) = net(&["n1", "n2"]) else { return };
    let (desk, server) = (net.at("desk"), net.at("n1"));
    assert_eq!(install(desk, "n1").0, 0);
    configure(server);
    server.run("picored run --cron");
    let before = server.run("sha256sum /usr/local/bin/picored; pidof picored");
    // A program that does not run here, as one for another machine would not.
    desk.run("head -c 1000 /usr/local/second >/usr/local/broken && chmod +x /usr/local/broken");
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/install --program /usr/local/broken n1 n2"));
    assert!(
        code == 1 && said.contains("does not run on") && said.contains("after it were not touched"),
        "{said}"
    );
    assert_eq!(server.run("sha256sum /usr/local/bin/picored; pidof picored"), before);
    assert!(!net.at("n2").try_run("test -e /usr/local/bin/picored"));
    // A configuration with which the new one would not start: the one before runs on, and it is said.
    server.run("echo '{ \"nonsense\": 1 }' >/etc/picored.json");
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/install --program /usr/local/second n1 n2"));
    assert!(code == 1 && said.contains("the one before runs on") && said.contains("nonsense"), "{said}");
    assert!(server.try_run("pidof picored"));
    // Put right, the same call does it.
    configure(server);
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/install --program /usr/local/second n1 n2"));
    assert!(code == 0 && said.contains("which runs"), "{said}");
    // Nobody there, no key there.
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/install -p 23 n1"));
    assert!(code == 1 && said.contains("n1: ssh failed"), "{said}");
}

#[test]
fn it_runs_as_a_user_of_its_own() {
    let Some(net) = net(&["n1"]) else { return };
    let (desk, server) = (net.at("desk"), net.at("n1"));
    let (code, said) = install(desk, "--user picored n1");
    assert_eq!(code, 0, "{said}");
    let config = json!({
        "node": "n1", "bind": "192.0.2.11:7946", "keys": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
        "profile": "local", "safety": { "settle": "1s" }, "control": "/var/lib/picored/picored.sock",
        "handlers": { "file": { "run": ["/etc/picored/handlers/records-file"], "mode": "sync",
            "debounce": "0s", "env": { "RECORDS_FILE": "/var/lib/picored/records" } } },
        "apps": { "web": { "checks": [{ "exec": ["/bin/true"] }], "interval": "1s", "rise": 1, "hold_up": "0s" } },
        "log": { "file": "/var/lib/picored/picored.log" },
    });
    server.write("/etc/picored.json", &config.to_string());
    server.run("chown picored /etc/picored.json");
    // The line as cron runs it, by the user that it names.
    let line = server.run("sed -n 's/^\\* \\* \\* \\* \\* picored //p' /etc/cron.d/picored");
    assert!(line.contains("picored run --cron"), "{line}");
    server.write("/srv/line", &line);
    server.run(
        "setpriv --reuid=picored --regid=picored --clear-groups --no-new-privs sh -c \"$(cat /srv/line)\"",
    );
    assert_eq!(server.run("stat -c %U /proc/$(pidof picored)"), "picored\n");
    wait_for("its handler to write", || {
        server.try_run("grep -qx 192.0.2.11 /var/lib/picored/records").then_some(())
    });
    assert_eq!(server.run("stat -c %U /var/lib/picored/records"), "picored\n");
    let before = server.run("pidof picored");
    let (code, said) =
        desk.code(&format!("cd {HOME} && scripts/install --user picored --program /usr/local/second n1"));
    assert!(code == 0 && said.contains("which runs"), "{said}");
    assert_eq!(server.run("pidof picored"), before);
    assert_eq!(
        server.run("stat -c %U /proc/$(pidof picored)"),
        "picored\n",
        "root said restart; it is who it was"
    );
}

/// The other side has busybox, dropbear and nothing else.
#[test]
fn a_small_machine_is_enough() {
    let Some(mut net) = net(&[]) else { return };
    net.add_small("n1", "192.0.2.11", &["dropbear", "dropbearkey"]);
    net.trust("desk", HOSTS);
    let (desk, server) = (net.at("desk"), net.at("n1"));
    server.run("sed -i 's|^root:.*|root:x:0:0:root:/root:/bin/sh|' /etc/passwd; mkdir -p /etc/dropbear && dropbear -R");
    // The first key is made when the first asks.
    wait_for("dropbear", || desk.try_run("ssh n1 true").then_some(()));
    let (code, said) = install(desk, "n1");
    assert!(code == 0 && said.contains("next: "), "{said}");
    configure(server);
    assert!(
        server
            .run("crontab -l")
            .contains("* * * * * [ ! -e /etc/picored.json ] || /usr/local/bin/picored run --cron")
    );
    server.run("picored run --cron");
    let before = server.run("pidof picored");
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/install --program /usr/local/second n1"));
    assert!(code == 0 && said.contains("which runs"), "{said}");
    assert_eq!(server.run("pidof picored"), before);
    assert_eq!(server.run("crontab -l | grep -c picored"), "1\n");
    let (code, said) = desk.code(&format!("cd {HOME} && scripts/uninstall n1"));
    assert_eq!(code, 0, "{said}");
    let left = server.run("pidof picored; ls /usr/local/bin; crontab -l | grep picored; true");
    assert_eq!(left, "", "{said}");
    assert!(server.try_run("test -e /etc/picored.json && test -e /var/lib/picored/state.json"));
}
