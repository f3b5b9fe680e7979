//! The shipped handlers against what they are for: a real BIND with a TSIG key, real files, a stand-in sendmail.
//!
//! Every claim is tried with the system's `sh` and, where it is installed, with busybox's ash and
//! busybox's own `awk`, `sed` and friends, which is what a small Alpine server has. Without `named`
//! the DNS tests fail in CI and say loudly elsewhere that they were skipped.

#[path = "e2e/ports.rs"]
mod ports;
#[path = "e2e/skip.rs"]
mod skip;
#[allow(dead_code)]
#[path = "handlers/support.rs"]
mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ports::free_port;
use skip::skip;
use support::{
    Folder, Server, Shell, called, code, executable, fail_at, failing, inode, install, shells, text, which,
};

const ZONE: &str = "example.test";
const NAME: &str = "www.example.test";

#[test]
fn every_handler_is_executable_and_parses_in_every_shell() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/handlers");
    for file in fs::read_dir(&folder).expect("etc/handlers") {
        let path = file.expect("an entry").path();
        let mode = fs::metadata(&path).expect("metadata").permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{} is not executable", path.display());
        for shell in shells() {
            let output = shell.command().arg("-n").arg(&path).output().expect("the shell starts");
            assert!(output.status.success(), "{}: {}", shell.name, text(&output));
        }
    }
}

// --- nsupdate --------------------------------------------------------------------------------------

#[test]
fn records_follow_the_set_and_an_equal_set_writes_nothing() {
    with_bind(|bind, shell| {
        let run = |set: &str| {
            let output = bind.handler(shell, set).output().expect("the handler starts");
            (code(&output), text(&output))
        };
        let first = bind.serial();
        assert_eq!(run("192.0.2.1 198.51.100.7").0, 0);
        assert_eq!(bind.records("A"), ["192.0.2.1", "198.51.100.7"]);
        assert_eq!(bind.serial(), first + 1, "one transaction");

        let (exit, output) = run("198.51.100.7 192.0.2.1");
        assert_eq!(exit, 0);
        assert!(output.contains("unchanged"), "{output}");
        assert_eq!(bind.serial(), first + 1, "an equal set must not be written");

        assert_eq!(run("192.0.2.1 198.51.100.7 203.0.113.10 2001:db8::10").0, 0);
        assert_eq!(bind.records("A"), ["192.0.2.1", "198.51.100.7", "203.0.113.10"]);
        assert_eq!(bind.records("AAAA"), ["2001:db8::10"]);
        assert_eq!(bind.serial(), first + 2, "both families in one transaction");

        assert_eq!(run("192.0.2.1 198.51.100.7 203.0.113.10 2001:0DB8:0::0010").0, 0);
        assert_eq!(bind.serial(), first + 2, "another spelling of the same address is no change");

        assert_eq!(run("203.0.113.10").0, 0);
        assert_eq!(bind.records("A"), ["203.0.113.10"]);
        assert!(bind.records("AAAA").is_empty(), "a family without addresses goes while the other has some");

        assert_eq!(run("2001:db8::10 ::ffff:192.0.2.7").0, 0);
        assert!(bind.records("A").is_empty());
        assert_eq!(bind.records("AAAA"), ["2001:db8::10", "::ffff:192.0.2.7"]);
    });
}

#[test]
fn several_names_and_another_ttl_are_one_transaction() {
    with_bind(|bind, shell| {
        let mut handler = bind.handler(shell, "192.0.2.1");
        assert_eq!(code(&handler.output().expect("starts")), 0);
        let before = bind.serial();
        let output = bind
            .handler(shell, "192.0.2.1")
            .env("DNS_NAME", "WWW.example.test. example.test")
            .env("DNS_TTL", "30")
            .output()
            .expect("starts");
        assert_eq!(code(&output), 0, "{}", text(&output));
        assert_eq!(bind.serial(), before + 1);
        assert!(bind.dig(NAME, "A", "+noall").contains("\t30\t"), "the TTL follows the setting");
        assert!(bind.dig(ZONE, "A", "+short").contains("192.0.2.1"), "the apex has it too");
    });
}

#[test]
fn types_that_are_not_ours_stay() {
    with_bind(|bind, shell| {
        assert_eq!(code(&bind.handler(shell, "192.0.2.1 2001:db8::1").output().expect("starts")), 0);
        let output = bind.handler(shell, "192.0.2.9").env("DNS_TYPES", "A").output().expect("starts");
        assert_eq!(code(&output), 0, "{}", text(&output));
        assert_eq!(bind.records("A"), ["192.0.2.9"]);
        assert_eq!(bind.records("AAAA"), ["2001:db8::1"]);
        let output = bind.handler(shell, "2001:db8::1").env("DNS_TYPES", "A").output().expect("starts");
        assert_eq!(code(&output), 65, "no address of our types is an empty set");
    });
}

#[test]
fn an_empty_set_and_what_is_no_address_are_refused() {
    with_bind(|bind, shell| {
        assert_eq!(code(&bind.handler(shell, "192.0.2.1").output().expect("starts")), 0);
        let before = bind.serial();
        let injection = "192.0.2.2\nupdate delete www.example.test.";
        let bad =
            ["", "  ", "192.0.2.256", "192.0.2", "01.2.3.4", "1.2.3.4.5", "0.0.0.0", "::", "www", injection];
        let bad6 =
            ["2001:db8:::1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "::12345", "fe80::1%eth0", "1::2::3", "*"];
        for set in bad.iter().chain(&bad6) {
            let output = bind.handler(shell, set).output().expect("starts");
            assert_eq!(code(&output), 65, "{set:?}: {}", text(&output));
            assert!(text(&output).contains("refused"), "{set:?}: {}", text(&output));
        }
        assert_eq!(bind.serial(), before);
        assert_eq!(bind.records("A"), ["192.0.2.1"]);

        let output = bind.handler(shell, "").env("DNS_ALLOW_EMPTY", "1").output().expect("starts");
        assert_eq!(code(&output), 0, "{}", text(&output));
        assert!(bind.records("A").is_empty());
    });
}

#[test]
fn a_dry_run_prints_and_writes_nothing() {
    with_bind(|bind, shell| {
        let before = bind.serial();
        let output = bind.handler(shell, "192.0.2.1").env("PICORED_DRY_RUN", "1").output().expect("starts");
        assert_eq!(code(&output), 0, "{}", text(&output));
        assert!(text(&output).contains("update add www.example.test. 60 A 192.0.2.1"), "{}", text(&output));
        assert_eq!(bind.serial(), before);
        assert!(bind.records("A").is_empty());
    });
}

#[test]
fn a_key_in_the_environment_works_like_a_key_file_and_leaves_nothing_behind() {
    with_bind(|bind, shell| {
        let scratch = bind.folder.0.join("scratch");
        fs::create_dir_all(&scratch).expect("a folder");
        for tsig in [format!("picored:{SECRET}"), format!("hmac-sha256:picored:{SECRET}")] {
            let set = if tsig.starts_with('h') { "192.0.2.2" } else { "192.0.2.1" };
            let mut handler = bind.handler(shell, set);
            handler.env_remove("DNS_KEY_FILE").env("DNS_TSIG", tsig).env("TMPDIR", &scratch);
            let output = handler.output().expect("starts");
            assert_eq!(code(&output), 0, "{}", text(&output));
            assert!(!text(&output).contains(SECRET));
            assert_eq!(bind.records("A"), [set]);
        }
        assert_eq!(fs::read_dir(&scratch).expect("the folder").count(), 0);
    });
}

#[test]
fn a_key_that_cannot_be_written_ends_with_75() {
    with_bind(|bind, shell| {
        // A full place that needs no rights: files can be made, but nothing can be written to them.
        let full = r#"trap "" XFSZ; ulimit -f 0; exec "$@""#;
        let inner = bind.handler(shell, "192.0.2.1");
        let mut handler = Command::new("/bin/sh");
        handler.args(["-c", full, "sh"]).arg(inner.get_program()).args(inner.get_args()).env_clear();
        handler.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
        handler.env_remove("DNS_KEY_FILE").env("DNS_TSIG", format!("picored:{SECRET}")).current_dir("/");
        let output = handler.output().expect("starts");
        assert_eq!(code(&output), 75, "{}", text(&output));
        assert!(text(&output).contains("cannot write the key"), "{}", text(&output));
        assert!(bind.records("A").is_empty());
    });
}

#[test]
fn a_refusal_ends_with_1_and_says_what_was_refused() {
    with_bind(|bind, shell| {
        let expect = |handler: &mut Command, word: &str| {
            let output = handler.output().expect("starts");
            assert_eq!(code(&output), 1, "{}", text(&output));
            assert!(text(&output).contains(word), "{word:?} is missing: {}", text(&output));
        };
        let wrong =
            bind.folder.write("wrong.key", &key("picored", "d3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3Jvbmcgd3I="));
        let unknown = bind.folder.write("unknown.key", &key("stranger", SECRET));
        expect(bind.handler(shell, "192.0.2.1").env("DNS_KEY_FILE", wrong), "TSIG key");
        expect(bind.handler(shell, "192.0.2.1").env("DNS_KEY_FILE", unknown), "TSIG key");
        expect(bind.handler(shell, "192.0.2.1").env_remove("DNS_KEY_FILE"), "policy");
        expect(bind.handler(shell, "192.0.2.1").env("DNS_NAME", "mail.example.test"), "policy");
        expect(bind.handler(shell, "192.0.2.1").env("DNS_NAME", "alias.example.test"), "CNAME");
        expect(
            bind.handler(shell, "192.0.2.1")
                .env("DNS_ZONE", "example.org")
                .env("DNS_NAME", "www.example.org"),
            "REFUSED",
        );
    });
}

#[test]
fn a_server_that_hangs_or_is_gone_ends_with_75_and_in_time() {
    with_bind(|bind, shell| {
        bind.named.signal("STOP");
        let began = Instant::now();
        let output = bind.handler(shell, "192.0.2.1").output().expect("starts");
        bind.named.signal("CONT");
        assert_eq!(code(&output), 75, "{}", text(&output));
        assert!(began.elapsed() < Duration::from_secs(6), "took {:?}", began.elapsed());

        let output = bind.handler(shell, "192.0.2.1").env("DNS_PORT", free_port().to_string()).output();
        assert_eq!(code(&output.expect("starts")), 75);
        let output = bind.handler(shell, "192.0.2.1").env("DNS_SERVER", "gone.invalid").output();
        assert_eq!(code(&output.expect("starts")), 75);
    });
}

/// The comparison was answered, the update itself is not: nsupdate says 2, as it does for a refusal.
#[test]
fn a_server_that_hangs_between_question_and_update_ends_with_75() {
    with_bind(|bind, shell| {
        let folder = bind.folder.0.join("bin");
        fs::create_dir_all(&folder).expect("a folder");
        let real = which("nsupdate").expect("nsupdate is installed with dig");
        let script = format!("#!/bin/sh\nkill -STOP {}\nexec {} \"$@\"\n", bind.named.0.id(), real.display());
        executable(&folder.join("nsupdate"), &script);
        let mut handler = bind.handler(shell, "192.0.2.1");
        handler.env("PATH", format!("{}:{}", folder.display(), shell.path()));
        let output = handler.output().expect("starts");
        bind.named.signal("CONT");
        assert_eq!(code(&output), 75, "{}", text(&output));
        assert!(text(&output).contains("timed out"), "{}", text(&output));
    });
}

#[test]
fn wrong_settings_end_with_78_and_name_the_setting() {
    for shell in shells() {
        let settings = [
            ("DNS_SERVER", ""),
            ("DNS_SERVER", "-x"),
            ("DNS_SERVER", "a b"),
            ("DNS_ZONE", ""),
            ("DNS_ZONE", "a\nsend"),
            ("DNS_NAME", ""),
            ("DNS_NAME", "www"),
            ("DNS_NAME", "www.example.org"),
            ("DNS_PORT", "0"),
            ("DNS_PORT", "65536"),
            ("DNS_TTL", "1m"),
            ("DNS_TTL", "060"),
            ("DNS_TYPES", "A TXT"),
            ("DNS_TIMEOUT", "0"),
            ("DNS_KEY_FILE", "/does/not/exist"),
            ("DNS_TSIG", "nonsense"),
            ("DNS_TSIG", "md4:picored:c2VjcmV0"),
        ];
        if which("dig").is_none() || which("nsupdate").is_none() {
            return skip("dig or nsupdate is not installed; scripts/setup does it");
        }
        for (name, value) in settings {
            let mut handler = shell.handler("nsupdate");
            handler.env("DNS_SERVER", "127.0.0.1").env("DNS_ZONE", ZONE).env("DNS_NAME", NAME);
            handler.env("PICORED_UP_ADDRS", "192.0.2.1").env(name, value);
            let output = handler.output().expect("starts");
            assert_eq!(code(&output), 78, "{name}={value:?}: {}", text(&output));
            assert!(text(&output).contains(name), "{name}={value:?}: {}", text(&output));
        }
    }
}

/// No memory for one more process, say. Each call of each program fails in turn; all is then as before or as told, and
/// success is said only if it is true.
#[test]
fn a_program_that_fails_neither_shortens_a_set_nor_makes_it_seem_right() {
    let tools = ["awk", "dig", "grep", "head", "mktemp", "nsupdate", "sed", "sort", "tr"];
    let (old, new) = ("192.0.2.1 2001:db8::1", "192.0.2.2 192.0.2.3");
    with_bind(|bind, shell| {
        if shell.name != "sh" {
            return; // What fails is the same program in every shell.
        }
        let bin = failing(&tools);
        let run = |set: &str, settings: &[(&str, String)]| {
            let mut handler = bind.handler(shell, set);
            let told = settings.iter().map(|(name, value)| (*name, value.as_str()));
            let output = handler.envs(told).output().expect("the handler starts");
            (code(&output), text(&output))
        };
        let there = || [bind.records("A"), bind.records("AAAA")];
        run(old, &[]);
        let before = there();
        run(new, &[]);
        let after = there();
        let mut failed = 0;
        // From one set to the other; and where nothing is to be done.
        for (set, was) in [(old, &before), (new, &after)] {
            run(set, &[]);
            let calls = Folder::new();
            assert_eq!(run(new, &fail_at(usize::MAX, &bin, &calls)).0, 0);
            let mut now = there();
            for at in 0..called(&calls) {
                if now != *was {
                    run(set, &[]);
                }
                let serial = bind.serial();
                let (exit, output) = run(new, &fail_at(at, &bin, &Folder::new()));
                now = there();
                assert!(exit == 75 || (exit == 0 && now == after), "call {at} ends with {exit}: {output}");
                assert!([&before, &after].contains(&&now), "call {at}: {now:?}, {output}");
                assert!(
                    set == old || bind.serial() == serial,
                    "call {at}: an equal set was written: {output}"
                );
                failed += usize::from(exit != 0);
            }
        }
        assert!(failed > 30, "{failed} failed");
    });
}

// --- records-file ----------------------------------------------------------------------------------

#[test]
fn the_records_file_is_replaced_only_by_a_different_set_and_never_emptied() {
    for shell in shells() {
        let folder = Folder::new();
        let file = folder.0.join("records");
        let run = |set: &str, dry: &str| {
            let mut handler = shell.handler("records-file");
            handler.env("RECORDS_FILE", &file).env("PICORED_UP_ADDRS", set).env("PICORED_DRY_RUN", dry);
            let output = handler.output().expect("starts");
            (code(&output), text(&output))
        };
        assert_eq!(run("192.0.2.1", "1").0, 0);
        assert!(!file.exists(), "a dry run writes nothing");
        assert_eq!(run("203.0.113.10 192.0.2.1 2001:db8::1", "").0, 0);
        assert_eq!(fs::read_to_string(&file).expect("written"), "192.0.2.1\n2001:db8::1\n203.0.113.10\n");
        assert_eq!(fs::metadata(&file).expect("written").permissions().mode() & 0o777, 0o644);

        let before = inode(&file);
        assert!(run("192.0.2.1 2001:db8::1 203.0.113.10", "").1.contains("unchanged"));
        assert_eq!(inode(&file), before, "an equal set must not be written");
        assert_eq!(run("", "").0, 65);
        assert_eq!(inode(&file), before, "an empty set is refused");
        assert_eq!(run("192.0.2.1", "").0, 0);
        assert_ne!(inode(&file), before, "a new file takes the old one's place at once");
        assert_eq!(fs::read_dir(&folder.0).expect("the folder").count(), 1, "nothing is left behind");

        let mut handler = shell.handler("records-file");
        handler.env("RECORDS_FILE", "relative").env("PICORED_UP_ADDRS", "192.0.2.1");
        assert_eq!(code(&handler.output().expect("starts")), 78);
        let mut handler = shell.handler("records-file");
        handler.env("RECORDS_FILE", "/does/not/exist").env("PICORED_UP_ADDRS", "192.0.2.1");
        assert_eq!(code(&handler.output().expect("starts")), 73);
    }
}

// --- mail ------------------------------------------------------------------------------------------

#[test]
fn a_mail_has_one_subject_even_if_a_value_holds_a_line_break() {
    for shell in shells() {
        let folder = Folder::new();
        executable(&folder.0.join("sendmail"), "#!/bin/sh\necho \"$@\"; cat\nexit 75\n");
        let mut handler = shell.handler("mail");
        handler.args(["root", "ops@example.com"]);
        handler.env("PATH", format!("{}:{}", folder.0.display(), shell.path()));
        handler
            .env("PICORED_EVENT", "app-down")
            .env("PICORED_APP", "web")
            .env("PICORED_NODE", "nyc1\nBcc: x@y.z")
            .env("PICORED_SELF", "fr\u{e0}1\n~!id");
        let output = handler.output().expect("starts");
        assert_eq!(code(&output), 75, "sendmail's own exit code is passed on");
        let mail = text(&output);
        assert!(mail.starts_with("-i -- root ops@example.com\nTo: root, ops@example.com\n"), "{mail}");
        assert!(mail.contains("\nSubject: picored: app-down web nyc1 Bcc: x@y.z\n"), "{mail}");
        let head = mail.split("\n\n").next().expect("a head");
        assert_eq!(head.lines().filter(|line| line.starts_with("Bcc")).count(), 0, "{mail}");
        assert!(mail.contains("\ntold by:    fr\u{e0}1 ~!id in cluster"), "the text keeps its lines: {mail}");

        handler.env("PICORED_NODE", format!("fr\u{e0}{}", "a".repeat(2000)));
        let mail = text(&handler.output().expect("starts"));
        let subject = mail.lines().find(|line| line.starts_with("Subject:")).expect("a subject");
        assert!(subject.is_ascii() && subject.len() < 250, "{subject}");

        let mut handler = shell.handler("mail");
        assert_eq!(code(&handler.arg("-oQ/tmp").output().expect("starts")), 78, "an option is no recipient");
        assert_eq!(code(&shell.handler("mail").output().expect("starts")), 78, "nobody to mail to");
    }
}

// --- what the tests stand on -----------------------------------------------------------------------

const SECRET: &str = "cGljb3JlZCB0ZXN0IGtleSBvZiAzMiBieXRlcyE9PT0=";

fn key(name: &str, secret: &str) -> String {
    format!("key \"{name}\" {{ algorithm hmac-sha256; secret \"{secret}\"; }};\n")
}

/// A BIND of one's own on a high port of 127.0.0.1, with one zone and one key, killed when dropped.
struct Bind {
    folder: Folder,
    port: u16,
    named: Server,
}

/// Runs `test` with a fresh server for each shell.
fn with_bind(test: impl Fn(&Bind, &Shell)) {
    for shell in shells() {
        let Some(bind) = Bind::start() else {
            return skip("named, dig or nsupdate is not installed; scripts/setup does it");
        };
        test(&bind, &shell);
    }
}

impl Bind {
    fn start() -> Option<Bind> {
        let named = which("named")?;
        which("dig").and(which("nsupdate"))?;
        // The port is free now; should somebody take it before named does, try another.
        (0..3).find_map(|_| Bind::start_once(&named)).or_else(|| panic!("named does not start"))
    }

    fn start_once(named: &Path) -> Option<Bind> {
        let (folder, port) = (Folder::new(), free_port());
        let path = folder.0.display();
        // Debian confines /usr/sbin/named to its own folders by its path (AppArmor); a copy is free to read these.
        let program = folder.0.join("named");
        install(named, &program);
        folder.write("picored.key", &key("picored", SECRET));
        folder.write(
            "zone",
            "$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\nalias CNAME ns\n",
        );
        let config = folder.write(
            "named.conf",
            &format!(
                "options {{ directory \"{path}\"; listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 {{ none; }};
                   pid-file none; session-keyfile \"{path}/session.key\"; lock-file none;
                   recursion no; notify no; dnssec-validation no; }};
                 controls {{ }};
                 include \"{path}/picored.key\";
                 zone \"{ZONE}\" {{ type primary; file \"{path}/zone\"; update-policy {{
                   grant picored name {NAME} A AAAA; grant picored name {ZONE} A AAAA;
                   grant picored name alias.{ZONE} A AAAA; }}; }};\n"
            ),
        );
        let log = fs::File::create(folder.0.join("named.log")).expect("a log");
        let mut command = Command::new(&program);
        command.args(["-g", "-4", "-n", "1", "-U", "1", "-c"]).arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let bind = Bind { folder, port, named: Server(command.spawn().expect("named starts")) };
        let until = Instant::now() + Duration::from_secs(20);
        while !bind.dig(ZONE, "SOA", "+short").contains("hostmaster") {
            if Instant::now() > until {
                eprintln!("{}", fs::read_to_string(bind.folder.0.join("named.log")).unwrap_or_default());
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Some(bind)
    }

    fn handler(&self, shell: &Shell, set: &str) -> Command {
        let mut command = shell.handler("nsupdate");
        command.env("DNS_SERVER", "127.0.0.1").env("DNS_PORT", self.port.to_string());
        command.env("DNS_ZONE", "Example.test.").env("DNS_NAME", format!("{NAME}."));
        command.env("DNS_KEY_FILE", self.folder.0.join("picored.key")).env("DNS_TIMEOUT", "2");
        command.env("PICORED_MODE", "sync").env("PICORED_APP", "web").env("PICORED_UP_ADDRS", set);
        command
    }

    fn dig(&self, name: &str, kind: &str, how: &str) -> String {
        let mut dig = Command::new("dig");
        dig.args(["-r", "-p", &self.port.to_string(), "+norecurse", "+time=1", "+tries=1", how, "+answer"]);
        text(&dig.args(["@127.0.0.1", name, kind]).output().expect("dig starts"))
    }

    fn records(&self, kind: &str) -> Vec<String> {
        let mut records: Vec<String> = self.dig(NAME, kind, "+short").lines().map(str::to_owned).collect();
        records.sort();
        records
    }

    fn serial(&self) -> u32 {
        let soa = self.dig(ZONE, "SOA", "+short");
        soa.split(' ').nth(2).and_then(|serial| serial.parse().ok()).expect("a serial in the SOA")
    }
}
