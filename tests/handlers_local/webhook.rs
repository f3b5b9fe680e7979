//! The webhook handler with a stand-in for a chat's hook, which answers as its path says and keeps what it got.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt as _;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::ports::free_port;
use crate::run;
use crate::skip::skip;
use crate::support::{Folder, Shell, called, executable, fail_at, failing, shells, soon, which};

/// Names that a peer could have: each must arrive as it is, or what is no UTF-8 as U+FFFD.
const HOSTILE: [(&[u8], &str); 12] = [
    (br#"a"b"#, r#"a"b"#),
    (br#"",""x":"#, r#"",""x":"#),
    (br"a\b\", r"a\b\"),
    (br"\u0041\n\\", r"\u0041\n\\"),
    (b"a\nb\r\n\tc", "a\nb\r\n\tc"),
    (b"\x01\x02\x1b[31m\x7f", "\u{1}\u{2}\u{1b}[31m\u{7f}"),
    ("fr\u{e0} \u{20ac} \u{1f600}".as_bytes(), "fr\u{e0} \u{20ac} \u{1f600}"),
    (b"\xff\xfe|\xc3|\xe2\x82", "\u{fffd}\u{fffd}|\u{fffd}|\u{fffd}\u{fffd}"),
    // Too long for what they say, a surrogate, beyond the last character.
    (
        b"\xc0\xaf|\xe0\x80\xaf|\xed\xa0\x80",
        "\u{fffd}\u{fffd}|\u{fffd}\u{fffd}\u{fffd}|\u{fffd}\u{fffd}\u{fffd}",
    ),
    (b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}"),
    (b"<!channel> & @everyone", "<!channel> & @everyone"),
    (b"0012 $(id) `id` %s %d &\x20", "0012 $(id) `id` %s %d & "),
];

#[test]
fn every_template_is_valid_whatever_a_name_holds() {
    with_hook(|hook, shell| {
        for template in ["json", "slack", "discord", "ntfy"] {
            for (raw, shown) in HOSTILE {
                let mut handler = hook.handler(shell, "ok/topic", template);
                handler.env("PICORED_NODE", OsStr::from_bytes(raw));
                let (exit, said) = run(&mut handler);
                assert_eq!(exit, 0, "{template} {shown:?}: {said}");
                let got = hook.last();
                let body: Value =
                    serde_json::from_slice(&got.body).unwrap_or_else(|e| panic!("{template} {shown:?}: {e}"));
                assert_eq!(got.header("content-type"), "application/json");
                match template {
                    "json" => assert_eq!(body["node"], shown),
                    // A line of its own for each thing, so a name has none.
                    "slack" => assert_eq!(body["text"].as_str().expect("text").lines().count(), 6, "{body}"),
                    "discord" => {
                        assert_eq!(body["content"].as_str().expect("text").lines().count(), 6, "{body}")
                    }
                    _ => assert_eq!(body["message"].as_str().expect("text").lines().count(), 5, "{body}"),
                }
            }
        }
    });
}

#[test]
fn each_template_says_what_happened() {
    with_hook(|hook, shell| {
        let post = |path: &str, template: &str| {
            let (exit, said) = run(&mut hook.handler(shell, path, template));
            assert_eq!(exit, 0, "{template}: {said}");
            hook.last()
        };
        let json = |got: &Request| serde_json::from_slice::<Value>(&got.body).expect("JSON");
        let title = "picored: app-down web nyc1";
        let message = "node: nyc1 192.0.2.5 2001:db8::5\napp: web down\nup now: fra1 par1\n\
                       published: 192.0.2.1 2001:db8::1\ntold by: fra1 in cluster tny";

        let body = json(&post("ok", "json"));
        for (key, value) in
            [("event", "app-down"), ("app", "web"), ("state", "down"), ("addr6", "2001:db8::5")]
        {
            assert_eq!(body[key], value, "{body}");
        }
        assert_eq!(body["up_addrs"], serde_json::json!(["192.0.2.1", "2001:db8::1"]));
        assert_eq!(body["text"], format!("{title}\n{message}"));

        let got = post("ok", "text");
        assert_eq!(String::from_utf8_lossy(&got.body), format!("{title}\n{message}"));
        assert!(got.header("content-type").starts_with("text/plain"));

        assert_eq!(json(&post("ok", "slack"))["text"], format!("{title}\n{message}"));
        let body = json(&post("ok", "discord"));
        assert_eq!(body["content"], format!("{title}\n{message}"));
        assert_eq!(body["allowed_mentions"], serde_json::json!({"parse": []}), "nobody can be called");

        // ntfy: https://docs.ntfy.sh/publish/#publish-as-json; it goes to the root, the topic is in it.
        let got = post("ok/my_topic", "ntfy");
        assert_eq!(got.path, "/ok/");
        let body = json(&got);
        assert_eq!((&body["topic"], &body["title"]), (&"my_topic".into(), &title.into()));
        assert_eq!((&body["message"], &body["priority"]), (&message.into(), &4.into()));
    });
}

#[test]
fn nobody_is_called_by_a_name_and_a_long_one_is_cut() {
    with_hook(|hook, shell| {
        let long = format!("<!channel>&{}", "\u{e9}".repeat(5000));
        for (template, key) in
            [("slack", "text"), ("discord", "content"), ("ntfy", "message"), ("json", "text")]
        {
            let mut handler = hook.handler(shell, "ok/topic", template);
            handler.env("PICORED_NODE", &long).env("PICORED_UP_NODES", &long);
            let (exit, said) = run(&mut handler);
            assert_eq!(exit, 0, "{template}: {said}");
            let body: Value = serde_json::from_slice(&hook.last().body).expect("JSON");
            let text = body[key].as_str().expect("text");
            assert!(text.len() < 2000, "{template}: {} bytes", text.len());
            assert!(template != "slack" || text.contains("&lt;!channel&gt;&amp;"), "{text}");
        }
    });
}

#[test]
fn the_answer_decides_the_exit_code() {
    with_hook(|hook, shell| {
        for (path, expected, word) in [
            ("ok", 0, "200"),
            ("204", 0, "204"),
            ("429", 75, "429"),
            ("408", 75, "408"),
            ("500", 75, "500"),
            ("503", 75, "because of 503"),
            ("400", 1, "because of 400"),
            ("401", 1, "WEBHOOK_TOKEN"),
            ("404", 1, "WEBHOOK_URL"),
            ("302", 1, "redirects are not followed"),
            ("cut", 75, "no answer"),
            ("half", 75, "no answer"),
        ] {
            let before = hook.count();
            let (exit, said) = run(&mut hook.handler(shell, path, "json"));
            assert_eq!(exit, expected, "{path}: {said}");
            assert!(said.contains(word), "{path}: {said}");
            assert_eq!(hook.count(), before + 1, "{path}: asked once");
        }
        let gone = format!("http://127.0.0.1:{}/x", free_port());
        assert_eq!(run(hook.handler(shell, "ok", "json").env("WEBHOOK_URL", gone)).0, 75);
    });
}

#[test]
fn a_server_that_throttles_takes_it_later() {
    with_hook(|hook, shell| {
        assert_eq!(run(&mut hook.handler(shell, "throttled", "json")).0, 75);
        assert_eq!(run(&mut hook.handler(shell, "throttled", "json")).0, 0);
    });
}

#[test]
fn a_server_that_is_slow_or_never_ends_ends_with_75_and_in_time() {
    with_hook(|hook, shell| {
        for path in ["slow", "endless"] {
            let began = Instant::now();
            let (exit, said) = run(hook.handler(shell, path, "json").env("WEBHOOK_TIMEOUT", "1"));
            let took = began.elapsed();
            assert_eq!(exit, 75, "{path}: {said}");
            assert!(took < Duration::from_secs(4), "{path} took {took:?}");
            assert!(said.len() < 2000, "{path}: {} bytes", said.len());
        }
    });
}

#[test]
fn secrets_are_sent_but_neither_in_arguments_nor_in_messages() {
    with_hook(|hook, shell| {
        let tools = Folder::new();
        let log = tools.0.join("arguments");
        let real = which("curl").expect("curl");
        let script = format!(
            "#!/bin/sh\nprintf '%s\\n' \"$@\" >>'{}'\nexec '{}' \"$@\"\n",
            log.display(),
            real.display()
        );
        executable(&tools.0.join("curl"), &script);
        let path = format!("{}:{}", tools.0.display(), shell.path());
        for (place, expected) in [("ok/s3cret", 0), ("404/s3cret", 1), ("429/s3cret", 75), ("cut/s3cret", 75)]
        {
            let mut handler = hook.handler(shell, place, "json");
            handler
                .env("WEBHOOK_TOKEN", "t0ken")
                .env("WEBHOOK_HEADER", r#"X-Key: a "k3y" \ b"#)
                .env("PATH", &path);
            let (exit, said) = run(&mut handler);
            assert_eq!(exit, expected, "{said}");
            let got = hook.last();
            assert_eq!(got.path, format!("/{place}"));
            assert_eq!(got.header("authorization"), "Bearer t0ken");
            assert_eq!(got.header("x-key"), r#"a "k3y" \ b"#);
            let dry = run(handler.env("PICORED_DRY_RUN", "1")).1;
            assert!(dry.contains("http://127.0.0.1:"), "{dry}");
            for secret in ["s3cret", "t0ken", "k3y"] {
                assert!(!said.contains(secret) && !dry.contains(secret), "{said}{dry}");
            }
        }
        let arguments = std::fs::read_to_string(&log).expect("curl was run");
        for secret in ["s3cret", "t0ken", "k3y", "127.0.0.1", "nyc1"] {
            assert!(!arguments.contains(secret), "{arguments}");
        }
    });
}

#[test]
fn a_dry_run_sends_nothing_and_a_curlrc_changes_nothing() {
    with_hook(|hook, shell| {
        let (exit, said) = run(hook.handler(shell, "ok", "slack").env("PICORED_DRY_RUN", "1"));
        assert_eq!((exit, hook.count()), (0, 0), "{said}");
        assert!(said.contains("app-down"), "{said}");

        let home = Folder::new();
        home.write(".curlrc", "request = PUT\nuser-agent = other\n");
        assert_eq!(run(hook.handler(shell, "ok", "json").env("HOME", &home.0)).0, 0);
        assert_eq!(
            (hook.last().method.as_str(), hook.last().header("user-agent")),
            ("POST", "picored".into())
        );
    });
}

#[test]
fn wrong_settings_end_with_78_and_name_the_setting() {
    with_hook(|hook, shell| {
        for (name, value) in [
            ("WEBHOOK_URL", ""),
            ("WEBHOOK_URL", "file:///etc/passwd"),
            ("WEBHOOK_URL", "https://"),
            ("WEBHOOK_URL", "-o/tmp/x"),
            ("WEBHOOK_URL", "http://a/\noutput = /tmp/x"),
            ("WEBHOOK_URL", "http://a/\"x"),
            ("WEBHOOK_URL", "http://a b/"),
            ("WEBHOOK_TEMPLATE", "teams"),
            ("WEBHOOK_TOKEN", "a b"),
            ("WEBHOOK_TOKEN", "a\r\nX: y"),
            ("WEBHOOK_HEADER", "no colon"),
            ("WEBHOOK_HEADER", "X: a\nY: b"),
            ("WEBHOOK_TIMEOUT", "0"),
            ("WEBHOOK_TIMEOUT", "10s"),
        ] {
            let (exit, said) = run(hook.handler(shell, "ok", "json").env(name, value));
            assert_eq!(exit, 78, "{name}={value:?}: {said}");
            assert!(said.contains(name), "{name}={value:?}: {said}");
        }
        for url in ["https://ntfy.sh", "https://ntfy.sh/", "https://ntfy.sh/a?b", "https://ntfy.sh/a%2fb"] {
            let (exit, said) = run(hook.handler(shell, "ok", "ntfy").env("WEBHOOK_URL", url));
            assert_eq!(exit, 78, "{url}: {said}");
        }
        let none = shell.only(&[]);
        let (exit, said) = run(hook.handler(shell, "ok", "json").env("PATH", &none.0));
        assert_eq!(exit, 78, "{said}");
        assert!(said.contains("install curl"), "{said}");
        assert_eq!(hook.count(), 0);
    });
}

#[test]
fn a_program_that_fails_is_no_wrong_setting() {
    with_hook(|hook, shell| {
        let bin = failing(&["awk", "sed", "tail", "tr"]);
        for number in 0.. {
            let calls = Folder::new();
            let mut handler = hook.handler(shell, "ok", "json");
            handler.env("WEBHOOK_TOKEN", "t0ken").envs(fail_at(number, &bin, &calls));
            let before = hook.count();
            let (exit, said) = run(&mut handler);
            assert!(exit == 0 || exit == 75, "call {number}: {exit}: {said}");
            if hook.count() > before {
                assert_eq!(hook.last().header("authorization"), "Bearer t0ken", "call {number}: sent whole");
            }
            if called(&calls) <= number {
                assert_eq!((exit, number > 10), (0, true), "call {number}: {said}");
                break;
            }
        }
    });
}

#[derive(Clone, Debug, Default)]
struct Request {
    method: String,
    path: String,
    /// Names in lower case.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Request {
    fn header(&self, name: &str) -> String {
        let header = self.headers.iter().find(|(key, _)| key == name);
        header.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let mut words = line.split(' ').map(str::to_owned);
        let mut request = Self { method: words.next()?, path: words.next()?, ..Self::default() };
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            request.headers.push((name.to_lowercase(), value.to_owned()));
        }
        request.body = vec![0; request.header("content-length").parse().ok()?];
        reader.read_exact(&mut request.body).ok()?;
        Some(request)
    }
}

/// The stand-in. Its threads end with the test's process.
struct Hook {
    port: u16,
    got: Arc<Mutex<Vec<Request>>>,
}

/// Runs `test` with a fresh stand-in for each shell.
fn with_hook(test: impl Fn(&Hook, &Shell)) {
    for shell in shells() {
        if which("curl").is_none() {
            return skip("curl is not installed; scripts/setup does it");
        }
        test(&Hook::start(), &shell);
    }
}

impl Hook {
    fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let got = Arc::new(Mutex::new(Vec::new()));
        let hook = Self { port, got: Arc::clone(&got) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let got = Arc::clone(&got);
                std::thread::spawn(move || serve(stream, &got));
            }
        });
        hook
    }

    fn handler(&self, shell: &Shell, path: &str, template: &str) -> Command {
        let mut command = shell.handler("webhook");
        command.env("WEBHOOK_URL", format!("http://127.0.0.1:{}/{path}", self.port));
        command.env("WEBHOOK_TEMPLATE", template).env("WEBHOOK_TIMEOUT", "5");
        command.env("PICORED_MODE", "event").env("PICORED_EVENT", "app-down").env("PICORED_APP", "web");
        command
            .env("PICORED_NODE", "nyc1")
            .env("PICORED_ADDR", "192.0.2.5")
            .env("PICORED_ADDR6", "2001:db8::5");
        command.env("PICORED_STATE", "down").env("PICORED_UP_NODES", "fra1 par1");
        command.env("PICORED_UP_ADDRS", "192.0.2.1 2001:db8::1");
        command.env("PICORED_SELF", "fra1").env("PICORED_CLUSTER", "tny");
        command
    }

    fn count(&self) -> usize {
        self.got.lock().expect("no panic").len()
    }

    fn last(&self) -> Request {
        assert!(soon(|| self.count() > 0), "nothing came");
        self.got.lock().expect("no panic").last().cloned().expect("a request")
    }
}

/// Answers one request as the first part of its path says.
fn serve(mut stream: TcpStream, got: &Mutex<Vec<Request>>) {
    let Some(request) = Request::read(&mut stream) else { return };
    let kind = request.path.split('/').nth(1).unwrap_or_default().to_owned();
    let before = {
        let mut got = got.lock().expect("no panic");
        got.push(request);
        got.iter().filter(|earlier| earlier.path.starts_with(&format!("/{kind}"))).count()
    };
    let mut say = |text: &str| stream.write_all(text.as_bytes()).is_ok();
    let mut answer = |status: &str| {
        let body = format!("because of {status}\n");
        say(&format!(
            "HTTP/1.1 {status} X\r\nContent-Length: {}\r\nLocation: /ok\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
    };
    match kind.as_str() {
        "ok" => drop(answer("200")),
        "204" => drop(say("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")),
        "throttled" => drop(answer(if before > 1 { "200" } else { "429" })),
        "cut" => {}
        "half" => drop(say("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")),
        // No answer, until the client has had enough.
        "slow" => while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {},
        "endless" => {
            say("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            while say(&"endless ".repeat(1000)) {}
        }
        status => drop(answer(status)),
    }
}
