"""scripts/bench --self-test: tries what computes, against what was reckoned by hand and seen in logs."""

import pathlib
import sys

import costs
import figures
import peers

problems = []


def same(what, found, expected):
    if found != expected:
        problems.append(f"{what}: {found!r}, not {expected!r}")


def logs():
    said = peers.Picored.said
    line = "2026-01-01T00:00:00.000Z"
    same("started", said(f"{line} INFO event=started node=n1 addr=10.77.1.1:7946 apps=1: picored runs"), ("n1", "ready"))
    same("joined", said(f"{line} INFO event=node-joined node=n12 addr=10.77.1.2: n12 joined"), ("n12", "alive"))
    same("failed", said(f"{line} WARN event=node-failed node=n2 from=n3: n2 failed"), ("n2", "failed"))
    same("suspected", said(f"{line} INFO event=node-suspect node=n2 from=n3: suspected"), None)
    said = peers.Serf.said
    same("Serf, failed", said("2026/01/01 00:00:00 [INFO] serf: EventMemberFailed: n2 10.77.1.2"), ("n2", "failed"))
    same("Serf, joined", said("2026/01/01 00:00:00 [INFO] serf: EventMemberJoin: n2 10.77.1.2"), ("n2", "alive"))
    same("Serf, updated", said("2026/01/01 00:00:00 [INFO] serf: EventMemberUpdate: n2"), None)
    said = peers.Memberlist.said
    same("memberlist, failed", said('{"addr":"a","event":"leave","name":"n2","node":"n1","t":1}'), ("n2", "failed"))
    same("memberlist, else", said('{"event":"done","command":"join","node":"n1"}'), None)


def reckoning():
    same("percentile", [figures.percentile(list(range(1, 21)), p) for p in (50, 95, 100)], [10, 19, 20])
    same("of one", figures.percentile([7], 95), 7)
    times = figures.of_samples([5.0, 7.0, None, 6.0, 4.0], 30)
    same("never is more than any", (times["value"], times["p95"], times["repeats"]), (6.0, None, 5))
    same("mostly never", figures.of_samples([5.0, None, None], 30)["value"], None)
    same("no samples", figures.of_samples([]), None)
    same("ratios", [figures.ratio(value, 4) for value in (5, 10, 100, 0)], [" · 1.25×", " · 2.5×", " · 25×", " · 0.00×"])
    same("no ratio", [figures.ratio(5, 0), figures.ratio(None, 4), figures.ratio(5, None)], ["", "", ""])
    used = costs.Used
    before, after = [used(100, 10, 10, 5), used(0, 0, 0, 0)], [used(300, 40, 20, 65), used(100, 0, 0, 60)]
    same("rates", costs.rates(before, after, 30), (300.0, 225.0, 75.0, 2.0))
    same("perf", costs.counted_by_perf("20,,raw_syscalls:sys_enter,926372,100.00,,\n"), 20)
    same("perf without", costs.counted_by_perf("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n"), None)
    same("strace", costs.counted_by_strace("100.00    0.000465          11        40           total\n"), 40)
    same("strace, errors", costs.counted_by_strace("100.00    0.000465          11        40         3 total\n"), 40)


RESULT = {
    "kinds": ["picored", "serf"], "titles": {"picored": "picored", "serf": "Serf"},
    "figures": {
        "rss_kib": {"picored": figures.figure(880), "serf": figures.figure(22000)},
        "join_s": {"picored": figures.of_samples([0.5, 0.25, 0.75], 30), "serf": figures.of_samples([None, None], 30)},
        "handler_sync_s": {"picored": figures.of_samples([17], 30)},
        "wrong_loss_10": {"picored": figures.figure(0), "serf": figures.figure(3)},
    },
}
TABLE = """\
| | picored | Serf |
| --- | ---: | ---: |
| resident, KiB | 880 | 22,000 · 25× |
| a new one: all see it after, s | 0.500 (0.750) | > 30 |
| kill -9: the handler that keeps addresses has run after, s | 17.00 (17.00) | - |
| 10 % loss: false "failed" | 0 | 3 |"""


def tables():
    same("table", figures.table(RESULT), TABLE)
    text = f"before\n{figures.BEGIN}\n{TABLE}\n{figures.END}\nafter"
    same("check", figures.check(text), [])
    for what, changed in {
        "another ratio": text.replace("25×", "26×"),
        "another row": text.replace("resident, KiB", "resident, MiB"),
        "another order": text.replace("| resident, KiB | 880 | 22,000 · 25× |\n", "").replace(
            '| 0 | 3 |', '| 0 | 3 |\n| resident, KiB | 880 | 22,000 · 25× |'),
        "another first": text.replace("| picored | Serf |", "| Serf | picored |"),
        "a cell less": text.replace(" | > 30 |", " |"),
        "no markers": TABLE,
    }.items():
        if not figures.check(changed):
            problems.append(f"a table with {what} passes")


def run(paths):
    for part in (logs, reckoning, tables):
        part()
    for path in paths:
        problems.extend(f"{path}: {why}" for why in figures.check(pathlib.Path(path).read_text()))
    if problems:
        sys.exit("\n".join(f"bench: {problem}" for problem in problems))
