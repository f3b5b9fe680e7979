//! Every key of the file: its type, range and default.
//!
//! One table for each kind of object. The defaults are what `interfaces` section 2 shows; the man
//! page and the JSON Schema are held against these tables (`tests/docs`).

use super::section::{Key, Type};
use Type::{Duration, Flag, List, Object, Other, Path, Size, Text, Whole, Word};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// Where the state is kept.
pub const STATE_DEFAULT: &str = "/var/lib/picored/state.json";
/// Where the daemon listens for the command line.
pub const CONTROL_DEFAULT: &str = "/run/picored.sock";

/// What Linux allows in a path, and in the path of a unix socket.
const PATH_MAX: usize = 4_095;
/// See [`PATH_MAX`].
const SOCKET_PATH_MAX: usize = 107;

const fn key(name: &'static str, of: Type, default: &'static str) -> Key {
    Key { name, of, default }
}

/// The whole file.
pub const FILE: &[Key] = &[
    // For editors, which look there for the JSON Schema; it says nothing to picored.
    key("$schema", Text { max: 2_048 }, ""),
    key("node", Text { max: 128 }, ""),
    key("cluster", Text { max: 64 }, "default"),
    key("bind", Text { max: 64 }, ""),
    key("advertise", Text { max: 64 }, ""),
    key("publish", List, ""),
    key("join", List, ""),
    key("members", List, ""),
    key("profile", Word(&["picored", "lan", "wan", "local"]), "picored"),
    // The defaults of these are the profile's.
    key("probe_interval", Duration(100, HOUR), ""),
    key("probe_timeout", Duration(10, 10 * MINUTE), ""),
    key("gossip_interval", Duration(10, MINUTE), ""),
    key("gossip_nodes", Whole(1, 100), ""),
    key("suspicion_mult", Whole(1, 100), ""),
    key("indirect_checks", Whole(0, 100), ""),
    key("push_pull_interval", Duration(SECOND, DAY), ""),
    key("reclaim_after", Duration(0, 365 * DAY), "0s"),
    key("keys_file", Path { max: PATH_MAX }, ""),
    key("keys", List, ""),
    // May be empty, so read by code of its own.
    key("label", Other, ""),
    key("peers", Word(&["serf", "memberlist"]), "serf"),
    key("insecure", Flag, "false"),
    key("allow", List, ""),
    key("tags", Object, ""),
    key("apps", Object, ""),
    key("handlers", Object, ""),
    key("safety", Object, ""),
    key("forget_after", Duration(SECOND, 3_650 * DAY), "72h"),
    key("state", Path { max: PATH_MAX }, STATE_DEFAULT),
    key("control", Path { max: SOCKET_PATH_MAX }, CONTROL_DEFAULT),
    key("log", Object, ""),
];

/// One app. The first four are defaults for its checks.
pub const APP: &[Key] = &[
    key("interval", Duration(100, DAY), "10s"),
    key("timeout", Duration(10, HOUR), "5s"),
    key("rise", Whole(1, 1_000), "2"),
    key("fall", Whole(1, 1_000), "3"),
    key("grace", Duration(0, DAY), "30s"),
    key("checks", List, ""),
    key("verify", Text { max: 512 }, ""),
    key("hold_up", Duration(0, DAY), "15s"),
    key("min_up", Other, "1"),
    key("all_down", Other, "keep"),
    key("publish", List, ""),
];

/// One check. Of `http`, `tcp`, `unix` and `exec` there is one.
pub const CHECK: &[Key] = &[
    key("http", Text { max: 2_048 }, ""),
    key("tcp", Text { max: 256 }, ""),
    key("unix", Path { max: SOCKET_PATH_MAX }, ""),
    key("exec", List, ""),
    key("host", Text { max: 256 }, ""),
    key("status", List, ""),
    key("body_contains", Other, ""),
    key("body_equals", Other, ""),
    key("warn_ok", Flag, "false"),
    // The defaults of these are the app's.
    key("interval", Duration(100, DAY), ""),
    key("timeout", Duration(10, HOUR), ""),
    key("rise", Whole(1, 1_000), ""),
    key("fall", Whole(1, 1_000), ""),
];

/// One handler.
pub const HANDLER: &[Key] = &[
    key("run", List, ""),
    key("mode", Word(&["sync", "event", "picored1", "serf"]), "sync"),
    key("apps", List, ""),
    // The default depends on the mode.
    key("where", Word(&["one", "self", "all"]), ""),
    key("timeout", Duration(100, DAY), "30s"),
    key("debounce", Duration(0, HOUR), "3s"),
    key("min_interval", Duration(0, DAY), "5s"),
    key("resync", Duration(SECOND, 30 * DAY), "10m"),
    key("events", List, ""),
    key("env", Object, ""),
    key("env_file", Path { max: PATH_MAX }, ""),
    key("user", Text { max: 64 }, ""),
];

/// The `safety` object.
pub const SAFETY: &[Key] = &[
    key("quorum", Word(&["auto", "off"]), "auto"),
    key("witness", List, ""),
    key("witness_min", Whole(1, 32), "1"),
    key("half_delay", Duration(0, DAY), "15s"),
    key("minority_delay", Other, "never"),
    key("on_no_quorum", Word(&["freeze", "withdraw_self"]), "freeze"),
    key("node_down_after", Duration(0, DAY), "5s"),
    key("settle", Duration(0, HOUR), "20s"),
    key("max_remove", Other, "off"),
];

/// The `log` object.
pub const LOG: &[Key] = &[
    key("level", Word(&["off", "error", "warn", "info", "debug", "trace"]), "info"),
    key("file", Path { max: PATH_MAX }, ""),
    key("max_size", Size(4 << 10, 1 << 30), "1MiB"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::units;

    #[test]
    fn every_default_is_of_its_type_and_in_its_range() {
        for key in
            [FILE, APP, CHECK, HANDLER, SAFETY, LOG].into_iter().flatten().filter(|k| !k.default.is_empty())
        {
            let good = match &key.of {
                Flag => matches!(key.default, "true" | "false"),
                Text { max } => key.default.len() <= *max,
                Path { max } => key.default.len() <= *max && key.default.starts_with('/'),
                Duration(from, to) => units::duration(key.default)
                    .is_some_and(|d| (u128::from(*from)..=u128::from(*to)).contains(&d.as_millis())),
                Whole(from, to) => units::whole(key.default).is_some_and(|n| (*from..=*to).contains(&n)),
                Size(from, to) => units::size(key.default).is_some_and(|n| (*from..=*to).contains(&n)),
                Word(words) => words.contains(&key.default),
                List | Object => false,
                Other => true,
            };
            assert!(good, "{key:?}");
        }
    }

    #[test]
    fn no_table_has_a_key_twice() {
        for table in [FILE, APP, CHECK, HANDLER, SAFETY, LOG] {
            let mut names: Vec<_> = table.iter().map(|key| key.name).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), table.len());
        }
    }
}
