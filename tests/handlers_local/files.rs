//! The handlers that keep a file: hosts, and what records-file promises like it.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use crate::run;
use crate::skip::skip;
use crate::support::{Folder, Shell, called, executable, fail_at, failing, inode, shells, which};

const OTHERS: &str = "127.0.0.1 localhost\n192.0.2.99 mail.example.com\n";

/// A hosts file in a folder of its own, of another name than the one to be made beside it.
struct Hosts<'a> {
    folder: Folder,
    shell: &'a Shell,
}

impl Hosts<'_> {
    fn path(&self) -> PathBuf {
        self.folder.0.join("hosts")
    }

    fn read(&self) -> String {
        fs::read_to_string(self.path()).expect("the hosts file")
    }

    fn handler(&self, set: &str) -> Command {
        let mut handler = self.shell.handler("hosts");
        handler.env("HOSTS_FILE", self.path()).env("HOSTS_NAMES", "www.example.com www");
        handler.env("PICORED_MODE", "sync").env("PICORED_APP", "web").env("PICORED_UP_ADDRS", set);
        handler
    }

    /// What lies in the folder, hidden files too.
    fn names(&self) -> Vec<String> {
        names(&self.folder.0)
    }
}

/// Runs `test` with a fresh file for each shell.
fn with_hosts(content: &str, test: impl Fn(&Hosts)) {
    for shell in shells() {
        let hosts = Hosts { folder: Folder::new(), shell: &shell };
        hosts.folder.write("hosts", content);
        test(&hosts);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn block(lines: &str) -> String {
    format!("# picored web: begin\n{lines}# picored web: end\n")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn the_block_follows_the_set_and_an_equal_set_writes_nothing() {
    with_hosts(OTHERS, |hosts| {
        fs::set_permissions(hosts.path(), fs::Permissions::from_mode(0o640)).expect("permissions");
        assert_eq!(run(hosts.handler("192.0.2.1").env("PICORED_DRY_RUN", "1")).0, 0);
        assert_eq!(hosts.read(), OTHERS, "a dry run writes nothing");

        let (exit, said) = run(&mut hosts.handler("203.0.113.10 192.0.2.1 2001:db8::1"));
        assert_eq!(exit, 0, "{said}");
        let lines = "192.0.2.1 www.example.com www\n2001:db8::1 www.example.com www\n\
                     203.0.113.10 www.example.com www\n";
        assert_eq!(hosts.read(), OTHERS.to_owned() + &block(lines));
        let before = inode(&hosts.path());
        let (exit, said) = run(&mut hosts.handler("2001:db8::1 192.0.2.1 203.0.113.10"));
        assert_eq!((exit, inode(&hosts.path())), (0, before), "an equal set must not be written: {said}");
        assert!(said.contains("unchanged"), "{said}");

        assert_eq!(run(&mut hosts.handler("192.0.2.1")).0, 0);
        assert_eq!(hosts.read(), OTHERS.to_owned() + &block("192.0.2.1 www.example.com www\n"));
        assert_ne!(inode(&hosts.path()), before, "a new file takes the old one's place at once");
        assert_eq!(fs::metadata(hosts.path()).expect("written").permissions().mode() & 0o777, 0o640);
        assert_eq!(hosts.names(), ["hosts"], "nothing is left behind");
    });
}

#[test]
fn everything_outside_the_block_stays_byte_for_byte() {
    let before = "\u{feff}# tabs\t\r\n\r\n  # picored web: begin\n::1 x\\ny\n";
    let old = block("192.0.2.7 elsewhere\n");
    for after in
        ["", "\n", "no end", "\n\n# picored db: begin\n# picored db: end\nb\r", "# picored web: end \n"]
    {
        with_hosts(&format!("{before}{old}{after}"), |hosts| {
            let (exit, said) = run(&mut hosts.handler("192.0.2.1"));
            assert_eq!(exit, 0, "{said}");
            let new = block("192.0.2.1 www.example.com www\n");
            assert_eq!(hosts.read(), format!("{before}{new}{after}"));
        });
    }
    with_hosts("", |hosts| {
        let with = |lines: &str| [b"a\x01b\xff\n", block(lines).as_bytes(), b"c\xc0\xfe"].concat();
        fs::write(hosts.path(), with("")).expect("a file");
        assert_eq!(run(&mut hosts.handler("192.0.2.1")).0, 0);
        assert_eq!(
            fs::read(hosts.path()).expect("a file"),
            with("192.0.2.1 www.example.com www\n"),
            "no UTF-8"
        );
    });
    with_hosts("127.0.0.1 localhost", |hosts| {
        assert_eq!(run(&mut hosts.handler("192.0.2.1")).0, 0);
        let new = block("192.0.2.1 www.example.com www\n");
        assert_eq!(
            hosts.read(),
            format!("127.0.0.1 localhost\n{new}"),
            "a last line without an end gets one"
        );
    });
}

#[test]
fn two_blocks_in_one_file_leave_each_other_alone() {
    with_hosts(OTHERS, |hosts| {
        assert_eq!(run(&mut hosts.handler("192.0.2.1")).0, 0);
        let mut other = hosts.handler("192.0.2.2");
        assert_eq!(run(other.env("PICORED_APP", "db").env("HOSTS_NAMES", "db.example.com.")).0, 0);
        assert_eq!(run(&mut hosts.handler("192.0.2.3")).0, 0);
        let db = "# picored db: begin\n192.0.2.2 db.example.com\n# picored db: end\n";
        assert_eq!(hosts.read(), OTHERS.to_owned() + &block("192.0.2.3 www.example.com www\n") + db);
    });
}

/// Five at once, each with its own block: the lock keeps one from writing over what another just wrote.
#[test]
fn runs_at_the_same_time_lose_nothing() {
    if which("flock").is_none() {
        return skip("flock is not installed (util-linux)");
    }
    with_hosts(OTHERS, |hosts| {
        let start = |name: &String| {
            let mut handler = hosts.handler("192.0.2.1");
            handler.env("HOSTS_BLOCK", name).stdout(Stdio::null());
            (name.clone(), handler.spawn().expect("starts"))
        };
        let blocks: Vec<String> = (0..5).map(|number| format!("app{number}")).collect();
        let children: Vec<_> = blocks.iter().map(start).collect();
        for (name, mut child) in children {
            let exit = child.wait().expect("ends").code();
            assert_eq!(exit, Some(0), "{name}");
            assert!(hosts.read().contains(&format!("# picored {name}: end\n")), "{name} is missing");
        }
        assert!(hosts.read().starts_with(OTHERS));
        assert_eq!(hosts.names(), ["hosts"]);
    });
}

#[test]
fn a_lock_that_is_held_ends_with_75() {
    if which("flock").is_none() {
        return skip("flock is not installed (util-linux)");
    }
    with_hosts(OTHERS, |hosts| {
        // The waiting itself is not what is tried here.
        let tools = Folder::new();
        executable(&tools.0.join("sleep"), "#!/bin/sh\n");
        let folder = fs::File::open(&hosts.folder.0).expect("the folder");
        flock(&folder, FlockOperation::LockExclusive).expect("a lock");
        let path = format!("{}:{}", tools.0.display(), hosts.shell.path());
        let (exit, said) = run(hosts.handler("192.0.2.1").env("PATH", path));
        assert_eq!(exit, 75, "{said}");
        assert_eq!(hosts.read(), OTHERS);
    });
}

/// A person's editor knows no lock.
#[test]
fn a_file_that_changed_meanwhile_stays_as_it_then_is() {
    for content in [OTHERS.to_owned(), OTHERS.to_owned() + &block("192.0.2.7 www\n")] {
        with_hosts(&content, |hosts| {
            let tools = Folder::new();
            let edit = format!("#!/bin/sh\necho 192.0.2.50 edited >>'{}'\n", hosts.path().display());
            executable(&tools.0.join("sync"), &edit);
            let path = format!("{}:{}", tools.0.display(), hosts.shell.path());
            let (exit, said) = run(hosts.handler("192.0.2.1").env("PATH", path));
            assert_eq!(exit, 75, "{said}");
            assert_eq!(hosts.read(), format!("{content}192.0.2.50 edited\n"));
            assert_eq!(hosts.names(), ["hosts"]);
        });
    }
}

/// As picored does it at the handler's timeout, here just before the new file would take its place.
#[test]
fn a_run_that_is_stopped_leaves_nothing_behind() {
    with_hosts(OTHERS, |hosts| {
        let tools = Folder::new();
        executable(&tools.0.join("sync"), "#!/bin/sh\nkill -TERM $PPID\n");
        let path = format!("{}:{}", tools.0.display(), hosts.shell.path());
        let (exit, said) = run(hosts.handler("192.0.2.1").env("PATH", path));
        assert_eq!(exit, 75, "{said}");
        assert_eq!(hosts.read(), OTHERS);
        assert_eq!(hosts.names(), ["hosts"]);
    });
}

#[test]
fn an_empty_set_and_what_is_no_address_are_refused() {
    with_hosts(&block("192.0.2.7 www\n"), |hosts| {
        for set in ["", " ", "192.0.2.256", "www", "::", "0.0.0.0", "192.0.2.1\n192.0.2.2x", "1::2::3", "*"] {
            let (exit, said) = run(&mut hosts.handler(set));
            assert_eq!(exit, 65, "{set:?}: {said}");
            assert!(said.contains("refused"), "{set:?}: {said}");
        }
        assert_eq!(hosts.read(), block("192.0.2.7 www\n"));
        assert_eq!(run(hosts.handler("").env("HOSTS_ALLOW_EMPTY", "1")).0, 0);
        assert_eq!(hosts.read(), block(""));
    });
}

#[test]
fn damaged_marks_are_refused_and_not_guessed_at() {
    let begin = "# picored web: begin\n";
    let end = "# picored web: end\n";
    for content in [
        begin.to_owned(),
        end.to_owned(),
        format!("{end}{begin}"),
        format!("{begin}{begin}{end}"),
        format!("{begin}{end}{end}"),
        format!("{begin}{end}x\n{begin}{end}"),
        format!("a\0b\n{begin}{end}"),
    ] {
        with_hosts(&content, |hosts| {
            let (exit, said) = run(&mut hosts.handler("192.0.2.1"));
            assert_eq!(exit, 65, "{content:?}: {said}");
            assert!(said.contains("damaged") || said.contains("NUL"), "{said}");
            assert_eq!(hosts.read(), content);
        });
    }
}

#[test]
fn a_link_stays_a_link_and_a_missing_file_is_made() {
    with_hosts(OTHERS, |hosts| {
        let link = hosts.folder.0.join("sub/link");
        fs::create_dir(hosts.folder.0.join("sub")).expect("a folder");
        symlink("../hosts", &link).expect("a link");
        let (exit, said) = run(hosts.handler("192.0.2.1").env("HOSTS_FILE", &link));
        assert_eq!(exit, 0, "{said}");
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        assert!(hosts.read().contains("192.0.2.1 www"));

        let new = hosts.folder.0.join("new");
        assert_eq!(run(hosts.handler("192.0.2.1").env("HOSTS_FILE", &new)).0, 0);
        assert_eq!(fs::read_to_string(&new).expect("a file"), block("192.0.2.1 www.example.com www\n"));
        assert_eq!(fs::metadata(&new).expect("a file").permissions().mode() & 0o777, 0o644);
        assert_eq!(run(hosts.handler("192.0.2.1").env("HOSTS_FILE", "/does/not/exist")).0, 73);
    });
}

#[test]
fn the_owner_stays_or_nothing_is_written() {
    if !is_root() {
        return skip("only root can give a file to another user");
    }
    with_hosts(OTHERS, |hosts| {
        chown(hosts.path(), Some(1234), Some(2345)).expect("an owner");
        assert_eq!(run(&mut hosts.handler("192.0.2.1")).0, 0);
        let metadata = fs::metadata(hosts.path()).expect("the file");
        assert_eq!((metadata.uid(), metadata.gid()), (1234, 2345));

        // Whoever may write the folder only could replace the file, but not by one of the same owner.
        let before = inode(&hosts.path());
        fs::set_permissions(&hosts.folder.0, fs::Permissions::from_mode(0o777)).expect("permissions");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/handlers/hosts");
        let copy = hosts.folder.write("script", &fs::read_to_string(script).expect("the handler"));
        let inner = hosts.handler("192.0.2.2");
        let mut handler = Command::new(inner.get_program());
        let shell: Vec<_> = inner.get_args().take(inner.get_args().count() - 1).collect();
        handler.args(shell).arg(copy).env_clear().envs(inner.get_envs().filter_map(|(k, v)| Some((k, v?))));
        let (exit, said) = run(handler.current_dir("/").uid(65534).gid(65534));
        assert_eq!(exit, 73, "{said}");
        assert!(said.contains("owner"), "{said}");
        assert_eq!(inode(&hosts.path()), before);
        assert_eq!(hosts.names(), ["hosts", "script"]);
    });
}

/// The command `inner` run by `script` (as its "$@") after `program`, with its environment.
fn wrapped(program: &[&str], script: &str, inner: &Command) -> Command {
    let mut command = Command::new(program[0]);
    command.args(&program[1..]).args(["/bin/sh", "-c", script, "sh"]);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear().current_dir("/");
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

#[test]
fn a_write_that_fails_leaves_the_old_file() {
    with_hosts(OTHERS, |hosts| {
        // A full place that needs no rights: files can be made, but nothing can be written to them.
        let full = r#"trap "" XFSZ; ulimit -f 0; exec "$@""#;
        let (exit, said) = run(&mut wrapped(&["env"], full, &hosts.handler("192.0.2.1")));
        assert_eq!(exit, 73, "{said}");
        assert_eq!(hosts.read(), OTHERS);
        assert_eq!(hosts.names(), ["hosts"]);

        let records = hosts.folder.write("records", "192.0.2.7\n");
        let mut handler = hosts.shell.handler("records-file");
        handler.env("RECORDS_FILE", &records).env("PICORED_UP_ADDRS", "192.0.2.1");
        let (exit, said) = run(&mut wrapped(&["env"], full, &handler));
        assert_eq!(exit, 73, "{said}");
        assert_eq!(fs::read_to_string(&records).expect("the file"), "192.0.2.7\n");
        assert_eq!(hosts.names(), ["hosts", "records"]);
    });
}

/// No memory for one more process, say. Each call of each program fails in turn, where the set is new and where there is
/// nothing to do; an empty set would be taken. Success is said only if it is true, and an equal set is not written.
fn each_failure_is_noticed(tools: &[&str], file: &Path, handler: impl Fn(&str) -> Command) {
    let bin = failing(tools);
    let (old, new) = ("192.0.2.1 2001:db8::1", "192.0.2.2 192.0.2.3");
    let write = |set: &str| {
        let (exit, said) = run(&mut handler(set));
        assert_eq!(exit, 0, "{said}");
        fs::read_to_string(file).expect("the file")
    };
    let after = write(new);
    let mut failed = 0;
    for set in [old, new] {
        let before = write(set);
        let calls = Folder::new();
        assert_eq!(run(handler(new).envs(fail_at(usize::MAX, &bin, &calls))).0, 0);
        for at in 0..called(&calls) {
            write(set);
            let inode_before = inode(file);
            let (exit, said) = run(handler(new).envs(fail_at(at, &bin, &Folder::new())));
            let now = fs::read_to_string(file).expect("the file");
            match exit {
                0 => assert_eq!(now, after, "call {at}: {said}"),
                73 | 75 => assert_eq!(now, before, "call {at} ends with {exit}: {said}"),
                _ => panic!("call {at} ends with {exit}: {said}"),
            }
            assert!(set == old || inode(file) == inode_before, "call {at}: an equal set was written: {said}");
            assert_eq!(names(file.parent().expect("a folder")).len(), 1, "call {at} leaves something behind");
            failed += usize::from(exit != 0);
        }
    }
    assert!(failed > 8, "{failed} failed");
}

#[test]
fn a_program_that_fails_neither_shortens_a_block_nor_makes_it_seem_right() {
    let tools = [
        "awk", "cat", "chmod", "cmp", "cp", "head", "ls", "mktemp", "mv", "sed", "sort", "sync", "tail", "tr",
    ];
    with_hosts(OTHERS, |hosts| {
        // What fails is the same program in every shell; what each makes of that is not.
        each_failure_is_noticed(&tools, &hosts.path(), |set| {
            let mut handler = hosts.handler(set);
            handler.env("HOSTS_ALLOW_EMPTY", "1");
            handler
        });
    });
}

#[test]
fn a_program_that_fails_neither_shortens_the_records_file_nor_makes_it_seem_right() {
    let tools = ["awk", "cat", "chmod", "cmp", "cp", "mv", "sed", "sort"];
    let shell = &shells()[0];
    let folder = Folder::new();
    let file = folder.write("records", "192.0.2.7\n");
    each_failure_is_noticed(&tools, &file, |set| {
        let mut handler = shell.handler("records-file");
        handler.env("RECORDS_FILE", &file).env("RECORDS_ALLOW_EMPTY", "1").env("PICORED_UP_ADDRS", set);
        handler
    });
}

/// The disk gets full at each place in turn: at the first copy, at the second, in the middle of the new file.
#[test]
fn a_full_disk_leaves_the_old_file() {
    if !may_mount() {
        return skip("no mounts of one's own here (root and unshare are needed)");
    }
    let addresses = |count: u32| -> Vec<String> {
        (0..count).map(|number| format!("198.18.{}.{}", number / 250, 1 + number % 250)).collect()
    };
    let filler = "# filler 1234567\n".repeat(240);
    with_hosts(&filler, |hosts| {
        let handler = hosts.handler(&addresses(60).join(" "));
        let end = |new: &str| new.starts_with(&filler) && new.ends_with("# picored web: end\n");
        assert_eq!(on_small_disks(hosts, "HOSTS_FILE", &handler, end), [73, 73, 73, 0, 0]);
    });
    with_hosts("192.0.2.7\n", |hosts| {
        let mut handler = hosts.shell.handler("records-file");
        handler.env("PICORED_UP_ADDRS", addresses(600).join(" "));
        let end = |new: &str| new.lines().count() == 600;
        assert_eq!(on_small_disks(hosts, "RECORDS_FILE", &handler, end), [73, 73, 0, 0, 0]);
    });
}

/// The handler's exit codes on disks of one page to five, with the hosts file on it as `setting`. The file must be the
/// old one if the handler failed, else `right`, and nothing else is left there.
fn on_small_disks(hosts: &Hosts, setting: &str, handler: &Command, right: impl Fn(&str) -> bool) -> Vec<i32> {
    let out = |name: &str| hosts.folder.0.join(name);
    let old = hosts.read();
    fs::create_dir(out("disk")).expect("a folder");
    let on_disk = |pages: u32| {
        let script = format!(
            r#"mount -t tmpfs -o size={}k none "$FOLDER/disk" && cp "$FOLDER/hosts" "$FOLDER/disk/hosts" || exit 1
               "$@"; code=$?; cat "$FOLDER/disk/hosts" >"$FOLDER/after"; ls -A "$FOLDER/disk" >"$FOLDER/names"
               exit $code"#,
            pages * 4
        );
        let mut handler = wrapped(&["unshare", "-m"], &script, handler);
        let (exit, said) = run(handler.env(setting, out("disk/hosts")).env("FOLDER", &hosts.folder.0));
        let after = fs::read_to_string(out("after")).unwrap_or_else(|_| panic!("{said}"));
        match exit {
            0 => assert!(right(&after), "{pages} pages: {after}"),
            73 => assert_eq!(after, old, "{pages} pages: {said}"),
            _ => panic!("{pages} pages: {said}"),
        }
        assert_eq!(fs::read_to_string(out("names")).expect("names"), "hosts\n", "{pages} pages");
        exit
    };
    (1..6).map(on_disk).collect()
}

#[test]
fn a_file_that_is_mounted_by_itself_ends_with_77() {
    if !may_mount() {
        return skip("no mounts of one's own here (root and unshare are needed)");
    }
    with_hosts(OTHERS, |hosts| {
        let script = r#"mount --bind "$HOSTS_FILE" "$HOSTS_FILE" && exec "$@""#;
        let (exit, said) = run(&mut wrapped(&["unshare", "-m"], script, &hosts.handler("192.0.2.1")));
        assert_eq!(exit, 77, "{said}");
        assert!(said.contains("HOSTS_FILE"), "{said}");
        assert_eq!(hosts.read(), OTHERS);
        assert_eq!(hosts.names(), ["hosts"]);
    });
}

/// Mounts in a namespace of one's own vanish with it.
fn may_mount() -> bool {
    let trial = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none", "/mnt"]).output();
    is_root() && trial.is_ok_and(|output| output.status.success())
}

#[test]
fn wrong_settings_end_with_78_and_name_the_setting() {
    with_hosts(OTHERS, |hosts| {
        for (name, value) in [
            ("HOSTS_FILE", "relative"),
            ("HOSTS_FILE", "/"),
            ("HOSTS_FILE", "/etc/"),
            ("HOSTS_FILE", "/etc"),
            ("HOSTS_FILE", "/dev/null"),
            ("HOSTS_NAMES", ""),
            ("HOSTS_NAMES", "a b\n192.0.2.1"),
            ("HOSTS_NAMES", "www #x"),
            ("HOSTS_NAMES", "w&w"),
            ("HOSTS_NAMES", "-x"),
            ("HOSTS_BLOCK", "a b"),
            ("HOSTS_BLOCK", "a\nb"),
        ] {
            // Words are separated by any white space: a line break in HOSTS_NAMES is one, and an address a name.
            let fine = value.contains("192.0.2.1");
            let (exit, said) = run(hosts.handler("192.0.2.1").env(name, value));
            assert_eq!(exit, if fine { 0 } else { 78 }, "{name}={value:?}: {said}");
            assert!(fine || said.contains(name), "{name}={value:?}: {said}");
        }
        let lines = hosts.read().lines().count();
        assert_eq!(lines, 5, "no value makes a line of its own: {}", hosts.read());
    });
}

#[test]
fn the_records_file_keeps_owner_and_link_and_refuses_what_is_no_address() {
    for shell in shells() {
        let folder = Folder::new();
        let file = folder.write("records", "192.0.2.7\n");
        if is_root() {
            chown(&file, Some(1234), Some(2345)).expect("an owner");
        }
        let link = folder.0.join("link");
        symlink("records", &link).expect("a link");
        let write = |set: &str| {
            let mut handler = shell.handler("records-file");
            run(handler.env("RECORDS_FILE", &link).env("PICORED_UP_ADDRS", set))
        };
        for set in ["192.0.2.256", "192.0.2.1 www", "::", "1:2"] {
            let (exit, said) = write(set);
            assert_eq!(exit, 65, "{set}: {said}");
        }
        assert_eq!(fs::read_to_string(&file).expect("the file"), "192.0.2.7\n");
        assert_eq!(write("192.0.2.1 2001:db8::1").0, 0);
        assert_eq!(fs::read_to_string(&file).expect("the file"), "192.0.2.1\n2001:db8::1\n");
        assert!(fs::symlink_metadata(&link).expect("the link").is_symlink());
        let metadata = fs::metadata(&file).expect("the file");
        assert!(!is_root() || (metadata.uid(), metadata.gid()) == (1234, 2345));
        assert_eq!(names(&folder.0), ["link", "records"]);
    }
}
