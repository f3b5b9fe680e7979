//! The haproxy handler with a real HAProxy.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::ports::free_port;
use crate::run;
use crate::skip::skip;
use crate::support::{Folder, Shell, called, executable, fail_at, failing, shells, signal, soon, which};

#[test]
fn servers_follow_the_set_and_an_equal_set_says_nothing() {
    with_haproxy(|haproxy, shell| {
        let write = |set: &str| {
            let (exit, said) = run(&mut haproxy.recorded(shell, set));
            assert_eq!(exit, 0, "{set}: {said}");
            haproxy.orders()
        };
        assert!(write("192.0.2.1 192.0.2.2 2001:db8::3").is_empty(), "as it started");
        assert_eq!(write("192.0.2.1 2001:db8::3"), ["set server web/b state maint"]);
        assert_eq!(haproxy.states("web"), ["a ready", "b maint", "c ready"]);
        assert!(write("2001:db8::3 192.0.2.1").is_empty(), "an equal set must not be said again");
        assert!(write("2001:0DB8:0::0003 192.0.2.1").is_empty(), "another spelling is no change");
        assert_eq!(
            write("192.0.2.2"),
            ["set server web/b state ready", "set server web/a state maint", "set server web/c state maint"],
            "in before out"
        );
        assert_eq!(haproxy.states("web"), ["a maint", "b ready", "c maint"]);

        haproxy.say("set server web/b state drain");
        assert_eq!(write("192.0.2.2"), ["set server web/b state ready"], "a drain is not ready");
        let (exit, said) = run(haproxy.recorded(shell, "192.0.2.1").env("PICORED_DRY_RUN", "1"));
        assert_eq!(exit, 0, "{said}");
        assert!(said.contains("set server web/a state ready"), "{said}");
        assert!(haproxy.orders().is_empty(), "a dry run says nothing");
        assert_eq!(haproxy.states("web"), ["a maint", "b ready", "c maint"]);
    });
}

/// Somebody looks as fast as HAProxy answers, while the set goes through everything it can be.
#[test]
fn there_is_a_ready_server_at_every_moment() {
    with_haproxy(|haproxy, shell| {
        let sets =
            ["192.0.2.1", "192.0.2.2", "2001:db8::3", "192.0.2.1 192.0.2.2", "2001:db8::3", "192.0.2.1"];
        let done = AtomicBool::new(false);
        let (ends, looks) = std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                let mut looks = 0;
                while !done.load(Ordering::Relaxed) {
                    let states = haproxy.states("web");
                    assert!(states.iter().any(|state| state.ends_with(" ready")), "{states:?}");
                    looks += 1;
                }
                looks
            });
            let ends: Vec<_> = sets.iter().map(|set| run(&mut haproxy.handler(shell, set))).collect();
            done.store(true, Ordering::Relaxed);
            (ends, watcher.join())
        });
        assert!(ends.iter().all(|(exit, _)| *exit == 0), "{ends:?}");
        let looks = looks.expect("a ready server at every look");
        assert!(looks > 30, "only {looks} looks");
    });
}

#[test]
fn no_server_goes_out_while_haproxy_counts_no_published_one_as_up() {
    with_haproxy(|haproxy, shell| {
        let state = || haproxy.say("show servers state checked");
        assert!(soon(|| state().contains(" down 127.0.0.1 0 ")), "the check fails: {}", state());
        let (exit, said) = run(haproxy.handler(shell, "127.0.0.1").env("HAPROXY_BACKEND", "checked"));
        assert_eq!(exit, 75, "{said}");
        assert!(said.contains("as up"), "{said}");
        assert_eq!(haproxy.states("checked"), ["up ready", "down ready"]);
    });
}

#[test]
fn what_was_forgotten_at_a_restart_or_reload_is_said_again() {
    with_haproxy(|haproxy, shell| {
        let write = || run(&mut haproxy.handler(shell, "192.0.2.1"));
        assert_eq!(write().0, 0);
        let out = ["a ready", "b maint", "c maint"];
        assert_eq!(haproxy.states("web"), out);

        haproxy.stop();
        let (exit, said) = write();
        assert_eq!(exit, 75, "no HAProxy: {said}");
        haproxy.start(&[]);
        assert_eq!(haproxy.states("web"), ["a ready", "b ready", "c ready"], "forgotten");
        assert_eq!(write().0, 0);
        assert_eq!(haproxy.states("web"), out);

        haproxy.reload();
        assert_eq!(haproxy.states("web"), ["a ready", "b ready", "c ready"], "forgotten");
        assert_eq!(write().0, 0);
        assert_eq!(haproxy.states("web"), out);
        assert!(write().1.contains("unchanged"));
    });
}

#[test]
fn a_published_address_without_a_server_ends_with_1_and_the_rest_is_done() {
    with_haproxy(|haproxy, shell| {
        let (exit, said) = run(&mut haproxy.handler(shell, "192.0.2.1 192.0.2.77"));
        assert_eq!(exit, 1, "{said}");
        assert!(said.contains("192.0.2.77"), "{said}");
        assert_eq!(haproxy.states("web"), ["a ready", "b maint", "c maint"]);
        let (exit, said) = run(&mut haproxy.handler(shell, "192.0.2.77"));
        assert_eq!(exit, 1, "{said}");
        assert_eq!(haproxy.states("web"), ["a ready", "b maint", "c maint"], "the last one stays");
    });
}

#[test]
fn only_the_servers_named_are_touched_and_they_may_have_other_addresses() {
    with_haproxy(|haproxy, shell| {
        let write =
            |set: &str, servers: &str| run(haproxy.handler(shell, set).env("HAPROXY_SERVERS", servers)).0;
        assert_eq!(write("203.0.113.1", "a=203.0.113.1 b=2001:DB8::2"), 0);
        assert_eq!(haproxy.states("web"), ["a ready", "b maint", "c ready"], "c is not ours");
        assert_eq!(write("2001:db8::2", "a=203.0.113.1 b=2001:DB8::2"), 0);
        assert_eq!(haproxy.states("web"), ["a maint", "b ready", "c ready"]);
        assert_eq!(write("2001:db8::3", "a c"), 0);
        assert_eq!(haproxy.states("web"), ["a maint", "b ready", "c ready"], "b is not ours now");
        assert_eq!(write("192.0.2.2", "b bb"), 1);
    });
}

#[test]
fn slots_take_the_published_addresses_and_give_them_back() {
    with_haproxy(|haproxy, shell| {
        let write = |set: &str| {
            let mut handler = haproxy.recorded(shell, set);
            let (exit, said) = run(handler.env("HAPROXY_BACKEND", "slots").env("HAPROXY_MODE", "addr"));
            (exit, said, haproxy.orders())
        };
        assert_eq!(write("192.0.2.1 2001:db8::1").0, 0);
        assert_eq!(haproxy.addresses("slots"), ["192.0.2.1 ready", "2001:db8::1 ready", "0.0.0.0 maint"]);
        assert!(write("2001:db8::1 192.0.2.1").2.is_empty(), "an equal set must not be said again");

        assert_eq!(write("192.0.2.9 2001:db8::1").0, 0);
        let free_first = ["192.0.2.1 maint", "2001:db8::1 ready", "192.0.2.9 ready"];
        assert_eq!(haproxy.addresses("slots"), free_first, "a free slot before one that serves");
        assert_eq!(write("192.0.2.5 192.0.2.6 192.0.2.7").0, 0);
        let mut all = haproxy.addresses("slots");
        all.sort();
        assert_eq!(all, ["192.0.2.5 ready", "192.0.2.6 ready", "192.0.2.7 ready"]);

        let (exit, said, _) = write("192.0.2.5 192.0.2.6 192.0.2.7 192.0.2.8");
        assert_eq!(exit, 1, "{said}");
        assert!(said.contains("192.0.2.8"), "{said}");
    });
}

#[test]
fn several_backends_are_each_tried() {
    with_haproxy(|haproxy, shell| {
        let both = |set: &str| run(haproxy.handler(shell, set).env("HAPROXY_BACKEND", "checked web"));
        let (exit, said) = both("192.0.2.1");
        assert_eq!(exit, 0, "{said}");
        assert_eq!(haproxy.states("checked"), ["up ready", "down maint"]);
        assert_eq!(haproxy.states("web"), ["a ready", "b maint", "c maint"]);
        let (exit, said) = both("192.0.2.2");
        assert_eq!(exit, 1, "{said}");
        assert_eq!(haproxy.states("checked"), ["up ready", "down maint"], "nobody there for 192.0.2.2");
        assert_eq!(haproxy.states("web"), ["a maint", "b ready", "c maint"]);
    });
}

#[test]
fn an_empty_set_and_what_is_no_address_are_refused() {
    with_haproxy(|haproxy, shell| {
        for set in ["", " ", "192.0.2.256", "www", "192.0.2.1\nshutdown", "192.0.2.1 ; set", "::"] {
            let (exit, said) = run(&mut haproxy.recorded(shell, set));
            assert_eq!(exit, 65, "{set:?}: {said}");
        }
        assert!(haproxy.orders().is_empty());
        let (exit, said) = run(haproxy.handler(shell, "").env("HAPROXY_ALLOW_EMPTY", "1"));
        assert_eq!(exit, 0, "{said}");
        assert_eq!(haproxy.states("web"), ["a maint", "b maint", "c maint"]);
    });
}

#[test]
fn a_refusal_ends_with_1_and_says_what_was_refused() {
    with_haproxy(|haproxy, shell| {
        let (exit, said) = run(haproxy.handler(shell, "192.0.2.1").env("HAPROXY_BACKEND", "wob"));
        assert_eq!(exit, 1, "{said}");
        assert!(said.contains("no backend 'wob'"), "{said}");
        let operator = haproxy.folder.0.join("operator.sock");
        let (exit, said) = run(haproxy.handler(shell, "192.0.2.1").env("HAPROXY_SOCKET", operator));
        assert_eq!(exit, 1, "{said}");
        assert!(said.contains("level admin"), "{said}");
        assert_eq!(haproxy.states("web"), ["a ready", "b ready", "c ready"]);
    });
}

#[test]
fn a_haproxy_that_hangs_ends_with_75_and_in_time() {
    with_haproxy(|haproxy, shell| {
        let pid = haproxy.pid();
        signal(pid, "STOP");
        let began = Instant::now();
        let (exit, said) = run(haproxy.handler(shell, "192.0.2.1").env("HAPROXY_TIMEOUT", "1"));
        let took = began.elapsed();
        signal(pid, "CONT");
        assert_eq!(exit, 75, "{said}");
        assert!(took < Duration::from_secs(4), "took {took:?}");
    });
}

/// By path and by port, each with socat alone and with curl alone.
#[test]
fn it_speaks_by_socat_or_by_curl_and_says_what_is_missing() {
    with_haproxy(|haproxy, shell| {
        let mut set = ["192.0.2.1", "192.0.2.2"].iter().cycle();
        for program in ["socat", "curl"] {
            if which(program).is_none() {
                skip(&format!("{program} is not installed; scripts/setup does it"));
                continue;
            }
            let tools = shell.only(&[program]);
            for socket in [haproxy.socket().display().to_string(), format!("127.0.0.1:{}", haproxy.port)] {
                let set = set.next().expect("endless");
                let mut handler = haproxy.handler(shell, set);
                let (exit, said) = run(handler.env("PATH", &tools.0).env("HAPROXY_SOCKET", &socket));
                assert_eq!(exit, 0, "{program} {socket}: {said}");
                let ready = if *set == "192.0.2.1" { "a ready" } else { "b ready" };
                assert_eq!(haproxy.states("web").iter().filter(|state| state.ends_with(" ready")).count(), 1);
                assert!(haproxy.states("web").iter().any(|state| state == ready), "{program} {socket}");
            }
        }
        let none = shell.only(&[]);
        let (exit, said) = run(haproxy.handler(shell, "192.0.2.1").env("PATH", &none.0));
        assert_eq!(exit, 78, "{said}");
        assert!(said.contains("install socat"), "{said}");
    });
}

/// No memory for one more process, say. Each call of each program fails in turn, where the set is new and where there is
/// nothing to do; an empty set would be taken. What was said before stays said, and that is in before out.
#[test]
fn a_program_that_fails_puts_nobody_out_and_makes_nothing_seem_right() {
    with_haproxy(|haproxy, shell| {
        if shell.name != "sh" {
            return; // What fails is the same program in every shell.
        }
        let bin = failing(&["awk", "grep", "sed", "socat", "sort", "tr"]);
        let (old, new) = ("192.0.2.1", "192.0.2.2");
        let handler = |set: &str| {
            let mut handler = haproxy.handler(shell, set);
            handler.env("HAPROXY_SERVERS", "a b=192.0.2.2 c").env("HAPROXY_ALLOW_EMPTY", "1");
            handler
        };
        let write = |set: &str| {
            let (exit, said) = run(&mut handler(set));
            assert_eq!(exit, 0, "{said}");
            haproxy.states("web")
        };
        let (mut failed, after) = (0, write(new));
        for set in [old, new] {
            let before = write(set);
            let between = ["a ready", "b ready", "c maint"].map(str::to_owned).to_vec();
            let calls = Folder::new();
            assert_eq!(run(handler(new).envs(fail_at(usize::MAX, &bin, &calls))).0, 0);
            for at in 0..called(&calls) {
                if haproxy.states("web") != before {
                    write(set);
                }
                let (exit, said) = run(handler(new).envs(fail_at(at, &bin, &Folder::new())));
                let now = haproxy.states("web");
                assert!(exit == 75 || (exit == 0 && now == after), "call {at} ends with {exit}: {said}");
                assert!([&before, &between, &after].contains(&&now), "call {at}: {now:?}, {said}");
                assert!(set == old || now == after, "call {at}: {now:?}, {said}");
                failed += usize::from(exit != 0);
            }
        }
        assert!(failed > 30, "{failed} failed");
    });
}

#[test]
fn wrong_settings_end_with_78_and_name_the_setting() {
    with_haproxy(|haproxy, shell| {
        for (name, value) in [
            ("HAPROXY_SOCKET", "relative"),
            ("HAPROXY_SOCKET", "host"),
            ("HAPROXY_SOCKET", "-x:1"),
            ("HAPROXY_SOCKET", "a b:1"),
            ("HAPROXY_SOCKET", "127.0.0.1:1,exec"),
            ("HAPROXY_SOCKET", "/dev/null"),
            ("HAPROXY_BACKEND", ""),
            ("HAPROXY_BACKEND", "web;shutdown"),
            ("HAPROXY_SERVERS", "a=nonsense"),
            ("HAPROXY_SERVERS", "a="),
            ("HAPROXY_SERVERS", "=192.0.2.1"),
            ("HAPROXY_SERVERS", "a/b"),
            ("HAPROXY_MODE", "both"),
            ("HAPROXY_TIMEOUT", "0"),
            ("HAPROXY_TIMEOUT", "5s"),
        ] {
            let (exit, said) = run(haproxy.recorded(shell, "192.0.2.1").env(name, value));
            assert_eq!(exit, 78, "{name}={value:?}: {said}");
            assert!(said.contains(name), "{name}={value:?}: {said}");
        }
        let mut handler = haproxy.recorded(shell, "192.0.2.1");
        assert_eq!(run(handler.env("HAPROXY_MODE", "addr").env("HAPROXY_SERVERS", "a=192.0.2.1")).0, 78);
        assert!(haproxy.orders().is_empty());
    });
}

/// An HAProxy of one's own with a runtime socket, killed when dropped.
struct Haproxy {
    folder: Folder,
    port: u16,
    process: std::sync::Mutex<Option<Child>>,
}

/// Runs `test` with a fresh HAProxy for each shell.
fn with_haproxy(test: impl Fn(&Haproxy, &Shell)) {
    for shell in shells() {
        if which("haproxy").is_none() || which("socat").is_none() {
            return skip("haproxy or socat is not installed; scripts/setup does it");
        }
        test(&Haproxy::new(), &shell);
    }
}

impl Haproxy {
    fn new() -> Self {
        let (folder, port) = (Folder::new(), free_port());
        let path = folder.0.display();
        folder.write(
            "haproxy.cfg",
            &format!(
                "global\n stats socket {path}/admin.sock level admin\n stats socket {path}/operator.sock level operator\n \
                 stats socket ipv4@127.0.0.1:{port} level admin\n nbthread 1\n maxconn 100\n\
                 defaults\n mode tcp\n timeout connect 1s\n timeout client 1s\n timeout server 1s\n\
                 frontend f\n bind unix@{path}/front.sock\n default_backend web\n\
                 backend web\n server a 192.0.2.1:80\n server b 192.0.2.2:80\n server c [2001:db8::3]:80\n \
                 server local unix@{path}/sorry.sock backup\n\
                 backend checked\n server up 192.0.2.1:80\n server down 127.0.0.1:1 check inter 50ms fall 1\n\
                 backend slots\n server-template slot 3 0.0.0.0:80 disabled\n"
            ),
        );
        // Keeps what the handler says, and passes it on.
        let (log, real) = (folder.0.join("said"), which("socat").expect("socat"));
        fs::create_dir(folder.0.join("bin")).expect("a folder");
        let script = format!("#!/bin/sh\ntee -a '{}' | '{}' \"$@\"\n", log.display(), real.display());
        executable(&folder.0.join("bin/socat"), &script);
        let haproxy = Self { folder, port, process: std::sync::Mutex::new(None) };
        haproxy.start(&[]);
        haproxy
    }

    fn start(&self, args: &[&str]) {
        let log = fs::File::create(self.folder.0.join("haproxy.log")).expect("a log");
        let mut command = Command::new(which("haproxy").expect("haproxy"));
        command.arg("-db").arg("-f").arg(self.folder.0.join("haproxy.cfg")).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("haproxy starts");
        let pid = child.id();
        let old = self.process.lock().expect("no panic").replace(child);
        let answers = || self.ask("show info").is_ok_and(|info| info.contains(&format!("\nPid: {pid}\n")));
        let log = || fs::read_to_string(self.folder.0.join("haproxy.log")).unwrap_or_default();
        assert!(soon(answers), "haproxy does not start: {}", log());
        if let Some(mut old) = old {
            old.wait().expect("the old one ends by itself");
        }
    }

    fn stop(&self) {
        if let Some(mut child) = self.process.lock().expect("no panic").take() {
            child.kill().and_then(|()| child.wait()).expect("haproxy ends");
        }
    }

    /// As its service does it: a new process takes the sockets over and has the old one finish.
    fn reload(&self) {
        let old = self.pid().to_string();
        self.start(&["-sf", &old]);
    }

    fn pid(&self) -> u32 {
        self.process.lock().expect("no panic").as_ref().expect("it runs").id()
    }

    fn socket(&self) -> PathBuf {
        self.folder.0.join("admin.sock")
    }

    fn handler(&self, shell: &Shell, set: &str) -> Command {
        let mut command = shell.handler("haproxy");
        command
            .env("HAPROXY_SOCKET", self.socket())
            .env("HAPROXY_BACKEND", "web")
            .env("HAPROXY_TIMEOUT", "3");
        command.env("PICORED_MODE", "sync").env("PICORED_APP", "web").env("PICORED_UP_ADDRS", set);
        command
    }

    /// The handler, and what it says is kept for [`Self::orders`].
    fn recorded(&self, shell: &Shell, set: &str) -> Command {
        let mut command = self.handler(shell, set);
        command.env("PATH", format!("{}/bin:{}", self.folder.0.display(), shell.path()));
        command
    }

    /// What the handler said since this was last called, but for its questions.
    fn orders(&self) -> Vec<String> {
        let said = fs::read_to_string(self.folder.0.join("said")).unwrap_or_default();
        let _ = fs::remove_file(self.folder.0.join("said"));
        said.lines().filter(|line| !line.starts_with("show ")).map(str::to_owned).collect()
    }

    fn ask(&self, command: &str) -> std::io::Result<String> {
        let mut socket = UnixStream::connect(self.socket())?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        socket.write_all(format!("{command}\n").as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn say(&self, command: &str) -> String {
        self.ask(command).expect("HAProxy answers")
    }

    /// The fields of each server that has an address.
    fn servers(&self, backend: &str) -> Vec<Vec<String>> {
        let answer = self.say(&format!("show servers state {backend}"));
        let rows = answer.lines().skip(2).map(|line| line.split(' ').map(str::to_owned).collect());
        rows.filter(|row: &Vec<String>| row.len() > 6 && row[4] != "-").collect()
    }

    fn state(row: &[String]) -> &'static str {
        let admin: u32 = row[6].parse().expect("a number");
        if admin & 1 != 0 {
            "maint"
        } else if admin & 8 != 0 {
            "drain"
        } else {
            "ready"
        }
    }

    fn states(&self, backend: &str) -> Vec<String> {
        self.servers(backend).iter().map(|row| format!("{} {}", row[3], Self::state(row))).collect()
    }

    fn addresses(&self, backend: &str) -> Vec<String> {
        self.servers(backend).iter().map(|row| format!("{} {}", row[4], Self::state(row))).collect()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.lock().ok().and_then(|mut process| process.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
