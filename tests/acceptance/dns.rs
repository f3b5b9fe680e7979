//! A real BIND at the router, and what the nodes' handlers tell it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use crate::daemon::Folder;
use crate::net::{Net, ROUTER};
use crate::peer::{Options, Process};

pub const ZONE: &str = "example.test";
pub const NAME: &str = "www.example.test";

pub const NAMED: &str = "/usr/sbin/named";

const KEY: &str =
    "key \"picored\" { algorithm hmac-sha256; secret \"cGljb3JlZCB0ZXN0IGtleSBvZiAzMiBieXRlcyE9PT0=\"; };\n";

/// A handler is told that it shall dawdle by a file of this name in the scenario's folder.
pub const SLOW: &str = "slow";
/// As long it does.
pub const SLOW_SECS: u64 = 10;

/// Starts BIND with an empty name that the holder of the key may change; one change more is one more in its serial.
pub fn start(net: &Rc<Net>) -> Process {
    let mut named = Process::new(net, 0, "named", Options::default());
    let folder = named.folder.path.display().to_string();
    let zone = format!("$TTL 60\n@ SOA ns hostmaster 1 3600 600 86400 60\n@ NS ns\nns A {ROUTER}\n");
    let conf = format!(
        "options {{ directory \"{folder}\"; listen-on port 53 {{ {ROUTER}; }}; listen-on-v6 {{ none; }};\n\
           pid-file none; lock-file none; session-keyfile \"{folder}/session.key\"; recursion no; notify no;\n\
           dnssec-validation no; }};\n\
         controls {{ }};\n{KEY}\
         zone \"{ZONE}\" {{ type primary; file \"{folder}/zone\"; update-policy {{ grant picored name {NAME} A AAAA; }}; }};\n"
    );
    // Debian confines /usr/sbin/named to its own folders by its path (AppArmor); a copy may read these.
    let program = named.folder.file("named");
    // By another process: what this one has open for writing, a child of another test has, too, until it is exec'ed.
    let copied = Command::new("cp").arg(NAMED).arg(&program).status();
    assert!(copied.is_ok_and(|status| status.success()), "named is installed");
    for (name, text) in [("zone", &*zone), ("key", KEY), ("named.conf", &conf)] {
        fs::write(named.folder.file(name), text).expect("own folder");
    }
    let args = ["-g", "-4", "-n", "1", "-U", "1", "-c", &format!("{folder}/named.conf")];
    named.spawn(&program, &args.map(str::to_owned));
    named.wait_until_ready(|_| ask().is_some());
    named
}

/// Last octets of the addresses published, and the zone's serial. Nothing: no answer within a second.
pub fn ask() -> Option<(Vec<u8>, u32)> {
    let server = format!("@{ROUTER}");
    let args =
        ["-r", "+norecurse", "+time=1", "+tries=1", "+noall", "+answer", &server, NAME, "A", ZONE, "SOA"];
    let output = Command::new("dig").args(args).output().expect("dig is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let of = |kind| words.iter().filter(move |line| line.get(3) == Some(&kind));
    let set = of("A").filter_map(|line| line.get(4)?.rsplit('.').next()?.parse().ok()).collect();
    let serial = of("SOA").find_map(|line| line.get(6)?.parse().ok())?;
    output.status.success().then_some((set, serial))
}

/// The scripts that nodes run, and the log that all of them write: a line at the beginning and one at the end of
/// each run, see [`crate::runs`].
pub struct Scripts {
    folder: Folder,
    key: PathBuf,
}

impl Scripts {
    pub fn new(named: &Process) -> Self {
        Self { folder: Folder::new(), key: named.folder.file("key") }
    }

    pub fn log(&self) -> String {
        self.folder.read("runs")
    }

    /// From now on handlers take long, or no longer.
    pub fn set_slow(&self, slow: bool) {
        let file = self.folder.file(SLOW);
        let done = if slow { fs::write(file, "") } else { fs::remove_file(file) };
        done.expect("own folder");
    }

    /// The shipped handler, wrapped. A copy: picored run by root refuses a program that others may write to, as in a
    /// user's checkout.
    pub fn picored(&self) -> PathBuf {
        let handler = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/handlers/nsupdate");
        self.folder.script("nsupdate", &fs::read_to_string(handler).expect("it is shipped"));
        let (folder, key) = (self.folder.path.display(), self.key.display());
        let text = format!(
            "#!/bin/sh\n{BEGIN}begin \"$PICORED_SELF\" \"$PICORED_REASON\" \"$PICORED_GENERATION\" $PICORED_UP_ADDRS\n\
             [ ! -e '{folder}/{SLOW}' ] || sleep {SLOW_SECS}\n\
             DNS_SERVER={ROUTER} DNS_ZONE={ZONE} DNS_NAME={NAME}. DNS_KEY_FILE='{key}' DNS_TIMEOUT=2 '{folder}/nsupdate'\n\
             {END}"
        );
        self.folder.script("picored", &text.replace("LOG", &format!("'{folder}/runs'")))
    }

    /// What Serf's users write: the one that failed is taken out, the one that joins is put in.
    pub fn serf(&self) -> PathBuf {
        let (folder, key) = (self.folder.path.display(), self.key.display());
        let text = format!(
            "#!/bin/sh\ncase $SERF_EVENT in\n\
             member-failed) change='delete {NAME}.' ;;\n\
             member-join) change='add {NAME}. 60' ;;\n\
             *) exit 0 ;;\n\
             esac\n\
             addresses=$(cut -f 2)\n\
             {BEGIN}begin \"$SERF_SELF_NAME\" \"$SERF_EVENT\" 0 $addresses\n\
             {{\n\
                 echo server {ROUTER}\n\
                 for address in $addresses; do echo \"update $change A $address\"; done\n\
                 echo send\n\
             }} | nsupdate -k '{key}' -t 4\n\
             {END}"
        );
        self.folder.script("serf", &text.replace("LOG", &format!("'{folder}/runs'")))
    }
}

const BEGIN: &str = "begin() { echo \"begin $(date +%s.%N) $$ $*\" >>LOG; }\n";
const END: &str = "code=$?\necho \"end $(date +%s.%N) $$ $code\" >>LOG\nexit $code\n";
