//! What `--help` says.

/// One command.
pub struct Help {
    pub name: &'static str,
    pub arguments: &'static str,
    pub summary: &'static str,
    /// What there is to say beyond the summary, exit codes included.
    pub text: &'static str,
}

/// All commands of this version.
pub const COMMANDS: [Help; 20] = [
    Help {
        name: "run",
        arguments: "[--cron]",
        summary: "the daemon, in the foreground",
        text: "\
TERM and INT stop it without leaving the cluster: back within the suspicion
time, nobody noticed.

  --cron  detach; do nothing if a healthy one runs already; replace a hung one.
          For a line in /etc/crontab:
          * * * * * root /usr/local/bin/picored run --cron

Exit codes: 0 stopped, 71 system error, 75 already running, 78 configuration.",
    },
    Help {
        name: "init",
        arguments: "[--node NAME] [--join ADDR,...]",
        summary: "prints a commented starter configuration with a fresh key",
        text: "  --node NAME      this node's name (default: the host name)
  --join ADDR,...  other nodes to join; may be given more than once

Other nodes need the same key: copy the file and change the node's own values.
  (umask 077; picored init --join 198.51.100.7 > /etc/picored.json)

Exit codes: 0 printed.",
    },
    Help {
        name: "check-config",
        arguments: "[--show]",
        summary: "says everything that is wrong with the configuration",
        text: "\
Reads the file, checks values, permissions and programs, and prints every
problem at once, with its place. What is allowed but rarely meant is noted.

  --show  print the effective values, too

Exit codes: 0 no problem, 78 problems.",
    },
    Help {
        name: "status",
        arguments: "[-v] [--json]",
        summary: "one screen: this node, its apps and handlers",
        text: "\
Works as a Nagios plugin: the first line is the summary.

  -v      checks, instances, counters, the output of failed handlers
  --json  one line of JSON

Exit codes: 0 well; 1 degraded (an app down or in maintenance, a gate active, a
handler failing, a member failed); 2 critical (no quorum, all own apps down, a
handler gave up); 3 no daemon.",
    },
    Help {
        name: "members",
        arguments: "[--json]",
        summary: "name, address, state, since, apps and version of each member",
        text: "\
The node that answers is marked with *. Members that do not run picored have
no version. (no UDP): of several probes in a row only TCP or other members got
through; `picored ping` shows more.

Exit codes: 0 shown, 69 no daemon, 71 system error.",
    },
    Help {
        name: "events",
        arguments: "[-f] [-n N] [--json]",
        summary: "the last 256 events",
        text: "  -f      follow: go on with those to come, until interrupted
  -n N    the newest N only
  --json  one line of JSON for each event

Exit codes: 0 shown, 69 no daemon (or it ended while it was followed),
71 system error.",
    },
    Help {
        name: "ping",
        arguments: "[NODE] [--json]",
        summary: "what gets through to one member or all, and how fast",
        text: "\
Pings by UDP, by way of up to three other members (that whose answer came first
is named), and by TCP, where the time includes connecting. Without NODE all
members that have not left are pinged, four at a time. An answer is waited for
3 s, all of them 2 min. Whether a member counts as failed does not depend on it.

  --json  one line of JSON for each member, as soon as it is known

Exit codes: 0 all that were asked answer by UDP and TCP, 1 one does not,
64 usage, 69 no daemon, 71 system error.",
    },
    Help {
        name: "join",
        arguments: "ADDR...",
        summary: "tries once to join the nodes at these addresses",
        text: "\
ADDR is an address or a host name, with or without a port (default: 7946). At
most 16, and 20 s for each. The next start does not remember them: what is to be
tried for ever belongs into \"join\" of the configuration.

Exit codes: 0 one at least was joined, 1 none was, 64 usage, 69 no daemon,
71 system error.",
    },
    Help {
        name: "forget",
        arguments: "NODE",
        summary: "removes a failed or left member at once",
        text: "\
For servers that are gone for good, or renamed. Without it, members that failed
are remembered for `forget_after`, and those in \"members\" or \"join\" for ever.
Its addresses are withdrawn as those of a node that left. It comes back only by
being alive again. Other nodes remember it: say the same on each that runs
handlers.

Exit codes: 0 forgotten, 1 refused, 64 usage, 69 no daemon, 71 system error.",
    },
    Help {
        name: "why",
        arguments: "[APP] [--json]",
        summary: "of each address whether it is published, and what decided that",
        text: "\
PUBLISH: whether it is to be published, after the gates. SHOWN: whether the
outside shows it, as far as this node knows. Below: the gate that looks at all
of them, and of each handler the runner, what it waits for, and the records
that the nodes show (state:run:hash of what was told).

  --json  one line of JSON

Exit codes: 0 shown, 1 no such app, 64 usage, 69 no daemon, 71 system error.",
    },
    Help {
        name: "app",
        arguments: "APP up|down|auto [--for TIME]",
        summary: "forces the state of the app on this node",
        text: "\
auto: the checks decide again.

  --for TIME  ends by itself after TIME: 90s, 15m, 2h, 1d (default: never)

Exit codes: 0 done, 1 refused, 64 usage, 69 no daemon, 71 system error.",
    },
    Help {
        name: "maint",
        arguments: "on|off [--app A] [--node N] [--for T] [...]",
        summary: "withdraws apps, of this node or of another one",
        text: "\
For work on a server: its addresses go as if its checks said down, and that is
no alarm. It ends by itself. Of another node (a failed one, too) it is kept by
this one, and counts as long as this one runs. off: ends what was said here.

  --app A        this app only (default: all)
  --node N       of this node (default: the one that is asked)
  --for TIME     90s, 15m, 2h, 1d (default: 24h)
  --reason TEXT  shown by `picored status`

Exit codes: 0 done, 1 refused, 64 usage, 69 no daemon, 71 system error.",
    },
    Help {
        name: "sync",
        arguments: "[HANDLER] [--dry-run] [--force] [--json]",
        summary: "runs the sync handlers now, through the gates",
        text: "\
Without debounce and backoff, and here, even where another node is the runner.
Where nothing was ever told and nodes are missing, this is also the word that
lets the first run happen.

  --dry-run  only say what would be told, and where
  --force    once without `max_remove`; no other gate is skipped
  --json     one line of JSON

Exit codes: 0 at least one runs here, 1 refused, or none runs here, 64 usage,
69 no daemon, 71 system error.",
    },
    Help {
        name: "test-handler",
        arguments: "NAME [--event E] [--app A] [--node N]",
        summary: "runs a handler with PICORED_DRY_RUN=1 and shows all of it",
        text: "\
It is told what a run at this moment would be told. Shows environment (values
of env_file are masked), standard input, output, exit and time, and changes no
record. A handler that does not look at PICORED_DRY_RUN acts in earnest.

  --event E  app-up, app-down, node-failed, ... (default: test)
  --app A    the app (default: the handler's first)
  --node N   the node concerned (default: this one)
  --json     one line of JSON

Exit codes: 0 the handler succeeded, 1 it failed, or refused, 64 usage,
69 no daemon, 71 system error.",
    },
    Help {
        name: "leave",
        arguments: "",
        summary: "withdraws this node's apps, leaves the cluster and ends",
        text: "\
Returns when the daemon has ended. Cron or another supervisor starts it again,
if it is told to.

Exit codes: 0 left, 1 refused, 69 no daemon, 71 system error.",
    },
    Help {
        name: "stop",
        arguments: "",
        summary: "ends the daemon without leaving the cluster",
        text: "\
Starts no more handlers and waits for one that runs, for its timeout at most.
Returns when the daemon has ended.

Exit codes: 0 stopped, 1 refused, 69 no daemon, 71 system error.",
    },
    Help {
        name: "restart",
        arguments: "",
        summary: "ends like stop, and starts the program that is now on disk",
        text: "\
For upgrades: the process stays the same, and the other nodes notice nothing.
Waits for a handler that runs, for its timeout at most. Keeps the state. Does
nothing where check-config finds a problem, with which it would not start.

Exit codes: 0 done, 1 refused, 69 no daemon, 71 system error, 78 problems.",
    },
    Help {
        name: "reload",
        arguments: "",
        summary: "reads the configuration anew, as HUP does",
        text: "\
With an error everything stays as it is. Otherwise apps, handlers, safety,
publish, keys, join, members, allow, forget_after, tags and log are in effect at
once; what else differs is named, and takes effect at a restart. No handler runs
because of it; one that gave up here may try again.

Exit codes: 0 done, 1 refused, 69 no daemon, 71 system error.",
    },
    Help {
        name: "log-level",
        arguments: "LEVEL",
        summary: "what is logged, until the next restart or reload",
        text: "\
LEVEL is off, error, warn, info, debug or trace.

Exit codes: 0 done, 64 usage, 69 no daemon, 71 system error.",
    },
    Help {
        name: "keygen",
        arguments: "[--from-raw TEXT]",
        summary: "prints a fresh gossip key",
        text: "  --from-raw TEXT  the key that the original PicoRed used as plain text, of
                   16, 24 or 32 characters, as this one wants it

Exit codes: 0 printed, 1 no random bytes or not a key, 64 usage.",
    },
];

const GLOBAL: &str = "\
Options of every command:
  -c, --config FILE  the configuration (default: /etc/picored.json)
      --socket PATH  the control socket (default: what the configuration says)
  -h, --help         of the command, if one is given
      --version
";

/// Of the program, or of one command.
pub fn help(command: Option<&Help>) -> String {
    match command {
        Some(Help { name, arguments, summary, text }) => {
            let line = format!("picored [-c FILE] {name} {arguments}");
            format!("usage: {}\n\n{name}: {summary}.\n\n{text}\n\n{GLOBAL}", line.trim_end())
        }
        None => {
            let mut out = String::from(
                "picored watches servers and their applications and keeps the outside in step.\n\n\
                 usage: picored [-c FILE] COMMAND\n\n",
            );
            for Help { name, summary, .. } in &COMMANDS {
                out.push_str(&format!("  {name:<13} {summary}\n"));
            }
            out.push_str("\n`picored COMMAND --help` says more.\n\n");
            out.push_str(GLOBAL);
            out
        }
    }
}

/// The help of the command of that name.
pub fn command(name: &str) -> Option<&'static Help> {
    COMMANDS.iter().find(|help| help.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_fits_the_screen_and_names_exit_codes() {
        for text in COMMANDS.iter().map(|command| help(Some(command))).chain([help(None)]) {
            assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
            assert!(text.contains("--config FILE"));
            let option = text.lines().find(|line| line.starts_with('-'));
            assert_eq!(option, None, "options are indented");
        }
        assert!(COMMANDS.iter().all(|command| command.text.contains("Exit codes: ")));
    }
}
