"""What scripts/bench makes of its figures: medians, ratios, the table, and the table's place in the README."""

import json
import math
import pathlib
import re
import statistics

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
OWN = "picored"

# Name in the file, words in the table, digits after the point. In the table's order.
ROWS = [
    ("program_kb", "program, KB", 0),
    ("rss_kib", "resident, KiB", 0),
    ("pss_kib", "of it its share (PSS), KiB", 0),
    ("anonymous_kib", "of it anonymous, KiB", 0),
    ("cpu_ms_per_minute", "processor time, ms a minute", 1),
    ("user_ms_per_minute", "of it user", 1),
    ("system_ms_per_minute", "of it system", 1),
    ("wakeups_per_second", "wake-ups a second", 2),
    ("calls_per_second", "system calls a second", 1),
    ("sent_bytes_per_second", "sent, bytes a second", 0),
    ("sent_packets_per_second", "sent, packets a second", 2),
    ("join_s", "a new one: all see it after, s", 3),
    ("rejoin_s", "one that was killed is started again: all see it after, s", 3),
    ("kill_first_s", "kill -9: the first says failed after, s", 2),
    ("kill_last_s", "kill -9: the last says failed after, s", 2),
    ("cut_first_s", "cut off: the first says failed after, s", 2),
    ("cut_last_s", "cut off: the last says failed after, s", 2),
    ("handler_event_s", "kill -9: an event handler has run after, s", 2),
    ("handler_sync_s", "kill -9: the handler that keeps addresses has run after, s", 2),
    ("heal_s", "a cut ends: all see all after, s", 2),
    ("wrong_loss_10", "10 % loss: false \"failed\"", 0),
    ("wrong_loss_30", "30 % loss: false \"failed\"", 0),
    ("wrong_never_stopped", "others are stopped for 0.5 to 8 s: false \"failed\" of those that never are", 0),
    ("wrong_stopped", "of those that are stopped", 0),
]


def figure(value):
    return {"value": value}


def of_samples(samples, limit=None):
    """Median and 95th percentile. None among the samples: it did not happen within `limit` seconds, which counts as more
    than any number."""
    if not samples:
        return None
    values = sorted(math.inf if sample is None else sample for sample in samples)
    # The mean of a number and never is never.
    middle = statistics.median(values)
    middle, high = (None if math.isinf(value) else value for value in (middle, percentile(values, 95)))
    return {"value": middle, "p95": high, "repeats": len(values), "limit": limit,
            "samples": samples}


def percentile(values, percent):
    """The least of the values that so many of a hundred do not exceed."""
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)]


def number(value, digits):
    return f"{value:,.{digits}f}"


def ratio(value, own):
    """How many times picored's, or nothing where that says nothing."""
    if not own or value is None:
        return ""
    times = value / own
    return f" · {times:.0f}×" if times >= 10 else f" · {times:.1f}×" if times >= 2 else f" · {times:.2f}×"


def cell(kind, figures, digits):
    mine, own = figures.get(kind), figures.get(OWN)
    if mine is None:
        return "-"
    if "limit" not in mine:
        text = number(mine["value"], digits)
    elif mine["value"] is None:
        return f"> {mine['limit']}"
    else:
        p95 = f"> {mine['limit']}" if mine["p95"] is None else number(mine["p95"], digits)
        text = f"{number(mine['value'], digits)} ({p95})"
    return text if kind == OWN else text + ratio(mine["value"], own and own["value"])


def table(result):
    kinds, figures = result["kinds"], result["figures"]
    titles = [result["titles"][kind] for kind in kinds]
    lines = ["| | " + " | ".join(titles) + " |", "| --- |" + " ---: |" * len(kinds)]
    for key, words, digits in ROWS:
        if key in figures:
            lines.append(f"| {words} | " + " | ".join(cell(kind, figures[key], digits) for kind in kinds) + " |")
    return "\n".join(lines)


def section(result):
    """What stands between the markers: of which run, and the table."""
    machine, repeats = result["machine"], result["settings"]
    versions = "; ".join(f"{result['titles'][kind]} {version}" for kind, version in result["versions"].items() if kind != OWN)
    about = (f"{result['settings']['nodes']} of a kind, commit {result['commit']}, {machine['processor']}, "
             f"{machine['cores']} cores, Linux {machine['kernel']}. {versions}. Times: median and, in brackets, 95th "
             f"percentile of {repeats['kills']} failures and {repeats['heals']} cuts of {repeats['cut_s']} s; false "
             f"alarms: those that anybody said in {repeats['adverse_s']} s of {repeats['lossy']} clusters each with loss "
             f"and {repeats['starved']} with two of their nodes stopped in turn.")
    return about + "\n\n" + table(result)


def put(path, text):
    path = pathlib.Path(path)
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"bench: {path} has no {BEGIN} … {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def check(text):
    """What is wrong with the table between the markers: rows that are not written so, ratios that are not those of the
    figures beside them."""
    found = text.partition(BEGIN)[2].partition(END)[0]
    rows = [[part.strip() for part in line.strip().strip("|").split("|")] for line in found.splitlines()
            if line.startswith("|")]
    if len(rows) < 3:
        return ["there is no table"]
    problems, kinds, rows = [], rows[0][1:], rows[2:]
    if kinds[:1] != [OWN]:
        problems.append(f"the first kind is {kinds[:1]}, not {OWN}")
    names = [row[0] for row in rows]
    known = [words for _, words, _ in ROWS]
    if names != [name for name in known if name in names]:
        problems.append(f"rows that the script does not write, or in another order: {names}")
    digits = {words: digits for _, words, digits in ROWS}
    for name, own, *others in rows:
        if len(others) + 1 != len(kinds):
            problems.append(f"{name}: {len(others) + 1} cells for {len(kinds)} kinds")
        for shown in others:
            problems.extend(f"{name}: {why}" for why in wrong_ratio(own, shown, digits.get(name, 0)))
    return problems


def wrong_ratio(own, shown, digits):
    value, _, times = shown.partition(" · ")
    own, value = (re.match(r"[\d,.]+", text) for text in (own, value))
    if not (times and own and value):
        return []
    own, value = (float(text[0].replace(",", "")) for text in (own, value))
    half = 0.5 / 10**digits
    least, most = (value - half) / (own + half), (value + half) / max(own - half, half / 100)
    said = float(times.rstrip("×"))
    step = 0.005 if said < 2 else 0.05 if said < 10 else 0.5
    return [] if least - step <= said <= most + step else [f"{shown} is not so many times {own}"]


def load(path):
    return json.loads(pathlib.Path(path).read_text())
