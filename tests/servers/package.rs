//! What `make dist` makes: a package for dpkg, and an archive that installs itself.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::machines::{Machine, Net, wait_for};

const DPKG: [&str; 10] =
    ["dpkg", "dpkg-deb", "dpkg-split", "dpkg-query", "tar", "gzip", "busybox", "ip", "nsenter", "git"];
const CONFIG: &str = r#"{ "bind": "192.0.2.11:7946", "keys": ["AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="],
    "profile": "local", "log": { "file": "/var/log/picored.log" } }"#;

/// A folder that goes when it is not needed any more.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A machine with dpkg that has nothing installed, and a folder for what is made.
fn machine(name: &str) -> Option<(Net, Folder)> {
    let mut net = Net::new(&DPKG)?;
    net.add_small(name, "192.0.2.11", &DPKG[..6]);
    let folder =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("picored-dist-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).expect("a temporary folder");
    Some((net, Folder(folder)))
}

/// The static program where it is built, which `make dist` ships; what is tried here holds for another one as well.
fn program() -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/static/picored-x86_64");
    if built.is_file() { built } else { env!("CARGO_BIN_EXE_picored").into() }
}

/// What scripts/dist makes of `program` as version 1.0.`n`, by a user with other habits each time.
fn dist(out: &Path, program: &Path, n: u8, habits: &str) {
    let script = format!("umask {habits}; OUT='{0}' VERSION=1.0.{n} ARCH=x86_64 scripts/dist", out.display());
    let mut command = Command::new("sh");
    command.args(["-ec", &script]).env("PROGRAM", program).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = command.env("SOURCE_DATE_EPOCH", "1700000000").output().expect("sh starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn running(machine: &Machine) -> String {
    machine.code("pidof picored").1
}

#[test]
fn the_package_installs_upgrades_and_goes() {
    let Some((net, folder)) = machine("deb") else { return };
    let at = net.at("deb");
    let (first, second) = (folder.0.join("first"), folder.0.join("second"));
    let next = folder.0.join("picored");
    fs::copy(program(), &next).expect("it is built");
    let mut upgraded = fs::OpenOptions::new().append(true).open(&next).expect("own folder");
    upgraded.write_all(b"\n").expect("own folder");
    drop(upgraded);
    dist(&first, &program(), 1, "022");
    dist(&second, &next, 2, "077");
    at.show(&folder.0, "/packages");
    at.run("mkdir -p /var/lib/dpkg/info /var/lib/dpkg/updates && : >/var/lib/dpkg/status");
    // By its path: a busybox may take the word for its own.
    let dpkg = "/bin/dpkg --force-bad-path --force-confold";
    at.run(&format!("{dpkg} -i /packages/first/*.deb"));
    let (code, said) = at.code("sh -c \"$(sed -n 's/^\\* \\* \\* \\* \\* root //p' /etc/cron.d/picored)\"");
    assert_eq!(
        (code, said.as_str(), running(at).as_str()),
        (0, "", ""),
        "nothing runs without a configuration"
    );
    at.write("/etc/picored.json", CONFIG);
    at.run("sh -c \"$(sed -n 's/^\\* \\* \\* \\* \\* root //p' /etc/cron.d/picored)\"");
    wait_for("it to answer", || [0, 1, 2].contains(&at.code("picored status").0).then_some(()));
    let before = running(at);
    at.run("echo '# mine' >>/etc/picored/handlers/hosts");

    at.run(&format!("{dpkg} -i /packages/second/*.deb"));
    assert_eq!(running(at), before, "the process stays the same");
    wait_for("the new program", || {
        at.try_run("cmp /proc/$(pidof picored)/exe /packages/picored").then_some(())
    });
    assert_eq!(at.run("cat /etc/picored.json"), CONFIG);
    assert_eq!(at.run("tail -n 1 /etc/picored/handlers/hosts"), "# mine\n");

    at.run(&format!("{dpkg} -r picored"));
    assert_eq!(running(at), "", "who removes it wants it to end");
    let (code, said) = at.code("sh -c \"$(sed -n 's/^\\* \\* \\* \\* \\* root //p' /etc/cron.d/picored)\"");
    assert_eq!((code, said.as_str()), (0, ""), "the cron line that dpkg leaves says nothing");
    assert!(at.try_run("test -e /etc/picored.json && test -e /var/lib/picored/state.json"));
    at.run(&format!("{dpkg} -P picored"));
    let find = "find / -xdev -name '*picored*' ! -path '/proc/*' ! -path '/packages*' ! -path '/dev/*'";
    assert_eq!(at.run(find), "", "nothing is left");
}

#[test]
fn the_archive_installs_itself_and_is_the_same_each_time() {
    let Some((net, folder)) = machine("tar") else { return };
    let at = net.at("tar");
    let (first, again) = (folder.0.join("first"), folder.0.join("again"));
    dist(&first, &program(), 1, "022");
    dist(&again, &program(), 1, "077; export TZ=Asia/Tokyo LC_ALL=C.UTF-8");
    let names: Vec<_> =
        fs::read_dir(&first).expect("it was made").map(|entry| entry.expect("one").file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in names {
        let same = fs::read(first.join(&name)).ok() == fs::read(again.join(&name)).ok();
        assert!(same, "{} differs from the one made before", name.display());
    }
    at.show(&first, "/packages");
    at.run("cd /packages && sha256sum -c SHA256SUMS-x86_64");
    at.run("mkdir -p /srv && cd /srv && tar -xzf /packages/picored-1.0.1-linux-x86_64.tar.gz");
    let home = "/srv/picored-1.0.1-linux-x86_64";
    at.run(&format!("cd {home} && sha256sum -c SHA256SUMS"));
    at.run(&format!("{home}/install"));
    at.write("/etc/picored.json", CONFIG);
    at.run("picored check-config && picored run --cron && picored members");
    at.run(&format!("{home}/uninstall"));
    assert_eq!(running(at), "");
    assert!(at.try_run("test -e /etc/picored.json && ! test -e /usr/local/bin/picored"));
}
