"""What processes use, from the kernel's own books: memory, processor time, wake-ups, system calls."""

import collections
import os
import pathlib
import re
import subprocess

TICKS = os.sysconf("SC_CLK_TCK")

Used = collections.namedtuple("Used", "cpu_ms user_ms system_ms woken")


def stat(pid):
    """The fields of /proc/PID/stat from the state on; the name before may hold anything."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def family(pid):
    """The process and its descendants."""
    parents = collections.defaultdict(list)
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            parents[int(stat(entry)[1])].append(int(entry))
        except (FileNotFoundError, ProcessLookupError):
            pass
    found = [pid]
    for one in found:
        found.extend(parents[one])
    return found


def memory(pid):
    """(resident, its share of that, anonymous) in KiB, of a process with its descendants."""
    sums = collections.Counter()
    for one in family(pid):
        for line in pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:]:
            sums[line.split(":")[0]] += int(line.split()[1])
    return sums["Rss"], sums["Pss"], sums["Anonymous"]


def used(pid):
    """Since its start, of a process with its descendants, those that ended as well. The sum is the scheduler's, all
    threads added; how it splits into user and system the kernel finds by samples, one each tick."""
    cpu = user = system = woken = 0
    for one in family(pid):
        fields = stat(one)
        user += int(fields[11]) + int(fields[13])
        system += int(fields[12]) + int(fields[14])
        cpu += (int(fields[13]) + int(fields[14])) * 1000 / TICKS
        for task in pathlib.Path(f"/proc/{one}/task").iterdir():
            cpu += int((task / "schedstat").read_text().split()[0]) / 1e6
            text = (task / "status").read_text()
            woken += int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", text, re.MULTILINE).group(1))
    return Used(cpu, user * 1000 / TICKS, system * 1000 / TICKS, woken)


def rates(before, after, seconds):
    """Per process: (ms a minute, of it user, of it system, wake-ups a second); lists of `Used`."""
    total = [sum(used[i] for used in after) - sum(used[i] for used in before) for i in range(4)]
    cpu, user, system, woken = (figure / len(after) / seconds for figure in total)
    share = user / (user + system) if user + system else 0.5
    return cpu * 60, cpu * 60 * share, cpu * 60 * (1 - share), woken


def calls(pids, seconds):
    """(system calls a second per process, the program that counted them), or (None, what it takes)."""
    listed = ",".join(map(str, pids))
    for program, count in (("perf", perf), ("strace", strace)):
        try:
            if (number := count(listed, seconds)) is not None:
                return number / seconds / len(pids), program
        except FileNotFoundError:
            pass
    return None, "needs perf or strace"


def perf(pids, seconds):
    done = subprocess.run(["perf", "stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", pids, "--", "sleep", str(seconds)],
                          capture_output=True, text=True)
    return counted_by_perf(done.stderr)


def counted_by_perf(said):
    found = re.search(r"^(\d+),[^,]*,raw_syscalls:sys_enter", said, re.MULTILINE)
    return int(found.group(1)) if found else None


def strace(pids, seconds):
    """It slows what it watches, which makes no other calls because of that."""
    done = subprocess.run(["timeout", "--signal=INT", str(seconds), "strace", "-f", "-c", "-p", pids],
                          capture_output=True, text=True)
    return counted_by_strace(done.stderr)


def counted_by_strace(said):
    found = re.search(r"^100\.00\s+[\d.]+\s+(?:\d+\s+)?(\d+)\s+(?:\d+\s+)?total$", said, re.MULTILINE)
    return int(found.group(1)) if found else None
