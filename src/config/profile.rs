//! The timing of gossip: named profiles, and the single values that the file may set instead.

use core::time::Duration;

use super::report::Report;
use super::section::Section;
use crate::membership::Timing;

/// memberlist's own values (protocol page, 7.2), and picored's.
///
/// `picored` is for servers far from each other that must not raise false alarms: the WAN profile,
/// but probes every 3 s with a timeout of 1.5 s and suspicion ×4, so that a dead server is noticed
/// sooner; gossip every 400 ms; 10 s for a TCP exchange, since nobody waits 30 s for one.
///
/// `reclaim_after` is 0 everywhere, which here means: a failed member's name may be taken over from
/// another address at once. In memberlist 0 means never; a server that came back with a new
/// address would then stay out until it is forgotten.
pub fn timing(name: &str) -> Timing {
    let millis = Duration::from_millis;
    let wan = Timing {
        probe_interval: millis(5_000),
        probe_timeout: millis(3_000),
        gossip_interval: millis(500),
        gossip_nodes: 4,
        suspicion_mult: 6,
        indirect_checks: 3,
        retransmit_mult: 4,
        push_pull_interval: millis(60_000),
        gossip_to_the_dead: millis(60_000),
        tcp_timeout: millis(30_000),
        reclaim_after: Duration::ZERO,
    };
    match name {
        "wan" => wan,
        "lan" => Timing {
            probe_interval: millis(1_000),
            probe_timeout: millis(500),
            gossip_interval: millis(200),
            gossip_nodes: 3,
            suspicion_mult: 4,
            push_pull_interval: millis(30_000),
            gossip_to_the_dead: millis(30_000),
            tcp_timeout: millis(10_000),
            ..wan
        },
        "local" => Timing {
            probe_interval: millis(1_000),
            probe_timeout: millis(200),
            gossip_interval: millis(100),
            gossip_nodes: 3,
            suspicion_mult: 3,
            indirect_checks: 1,
            retransmit_mult: 2,
            push_pull_interval: millis(15_000),
            gossip_to_the_dead: millis(15_000),
            tcp_timeout: millis(1_000),
            ..wan
        },
        _ => Timing {
            probe_interval: millis(3_000),
            probe_timeout: millis(1_500),
            gossip_interval: millis(400),
            suspicion_mult: 4,
            tcp_timeout: millis(10_000),
            ..wan
        },
    }
}

/// The profile that the file names, with the values that it sets itself.
pub(super) fn read(report: &mut Report, file: &Section<'_>) -> Timing {
    let mut timing = timing(file.word(report, "profile"));
    let durations = [
        ("probe_interval", &mut timing.probe_interval),
        ("probe_timeout", &mut timing.probe_timeout),
        ("gossip_interval", &mut timing.gossip_interval),
        ("push_pull_interval", &mut timing.push_pull_interval),
        ("reclaim_after", &mut timing.reclaim_after),
    ];
    for (name, value) in durations {
        *value = file.set_duration(report, name).unwrap_or(*value);
    }
    let counts =
        [("gossip_nodes", &mut timing.gossip_nodes), ("indirect_checks", &mut timing.indirect_checks)];
    for (name, value) in counts {
        *value = file.set_whole(report, name).and_then(|n| usize::try_from(n).ok()).unwrap_or(*value);
    }
    if let Some(mult) = file.set_whole(report, "suspicion_mult").and_then(|n| u32::try_from(n).ok()) {
        timing.suspicion_mult = mult;
    }
    // Indirect pings need what is left of the interval after the timeout (SWIM 3.1).
    if timing.probe_timeout >= timing.probe_interval
        && let Some(spot) = file.spot("probe_timeout").or_else(|| file.spot("probe_interval"))
    {
        report.at(&spot, "probe_timeout must be shorter than probe_interval");
    }
    timing
}
