"""The programs that scripts/bench compares: how each is started, and what its log says of the others."""

import json
import os
import pathlib
import re
import selectors
import shutil
import subprocess
import threading
import time

PORT = 7946
KEY = "cGljb3JlZCBtZWFzdXJlcyBpdHMgb3duIG1lbW9yeSE="
PROFILE = "lan"
ALIVE, FAILED, READY = "alive", "failed", "ready"


def output(*argv):
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.strip()


def script(path, *lines):
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return str(path)


class Kind:
    """One that gossips. `told` of a node is what its handler writes: TIME HANDLER ABOUT, a line a run."""

    name = title = package = None
    handlers = ()

    def __init__(self, root):
        self.root = root
        self.program = self.find()

    def find(self):
        return shutil.which(self.name)

    def missing(self):
        return None if self.program else f"the program {self.name} (Debian: {self.package})"


class Picored(Kind):
    name = title = "picored"
    handlers = ("event", "sync")

    def find(self):
        program = self.root / f"target/static/picored-{os.uname().machine}"
        return str(program) if program.exists() else None

    def missing(self):
        return None if self.program else "target/static/picored (make static)"

    def version(self):
        return output(self.program, "--version")

    def argv(self, node, join, drill):
        """In the drills there is an event handler, too: it is what Serf's are."""
        write = f">>{node.folder}/told"
        sync = script(node.folder / "sync", f'echo "$(date +%s.%N) sync $PICORED_UP_ADDRS" {write}')
        event = script(node.folder / "event", f'echo "$(date +%s.%N) event $PICORED_NODE" {write}')
        handlers = {"dns": {"mode": "sync", "run": [sync]}}
        if drill:
            handlers["told"] = {"mode": "event", "run": [event], "events": ["node-failed"]}
        config = {
            "node": node.name,
            "bind": f"{node.address}:{PORT}",
            "advertise": f"{node.address}:{PORT}",
            "join": [f"{address}:{PORT}" for address in join],
            "keys": [KEY],
            "profile": PROFILE,
            "apps": {"web": {"checks": [{"http": "http://127.0.0.1:80/"}]}},
            "handlers": handlers,
            "state": f"{node.folder}/state.json",
            "control": f"{node.folder}/picored.sock",
            "log": {"level": "info"},
        }
        path = node.folder / "picored.json"
        path.write_text(json.dumps(config))
        path.chmod(0o600)
        return [self.program, "-c", str(path), "run"]

    @staticmethod
    def said(line):
        found = re.search(r" event=(started|node-[a-z-]+) node=([\w.-]+)", line)
        if not found:
            return None
        states = {"started": READY, "node-joined": ALIVE, "node-failed": FAILED, "node-failed-before": FAILED,
                  "node-left": "left", "node-forgotten": "left"}
        return (found[2], states[found[1]]) if found[1] in states else None


class Serf(Kind):
    name, title, package = "serf", "Serf", "serf"
    handlers = ("event",)

    def version(self):
        return f"Debian {debian('serf')}"

    def argv(self, node, join, drill):
        event = script(node.folder / "event", "while read -r name rest; do",
                       f'echo "$(date +%s.%N) event $name" >>{node.folder}/told', "done")
        return [self.program, "agent", f"-node={node.name}", f"-bind={node.address}:{PORT}", f"-profile={PROFILE}",
                f"-encrypt={KEY}", f"-event-handler=member-failed={event}", "-rpc-addr=127.0.0.1:7373",
                *(f"-join={address}:{PORT}" for address in join)]

    @staticmethod
    def said(line):
        if "agent: Serf agent starting" in line:
            return "", READY
        found = re.search(r" serf: EventMember(Join|Failed|Leave|Reap): (\S+)", line)
        return (found[2], {"Join": ALIVE, "Failed": FAILED}.get(found[1], "left")) if found else None


class Memberlist(Kind):
    """The program of the interop tests: the library and nothing else."""

    name, title = "memberlist", "memberlist"

    def find(self):
        if not shutil.which("go"):
            return None
        program = self.root / "target/bench/peer"
        program.parent.mkdir(parents=True, exist_ok=True)
        env = dict(os.environ, GO111MODULE="off", GOPATH="/usr/share/gocode", GOFLAGS="",
                   GOCACHE=str(self.root / "target/tmp/go-cache"))
        done = subprocess.run(["go", "build", "-o", program, self.root / "tests/interop/peer/main.go"], env=env)
        return str(program) if done.returncode == 0 else None

    def missing(self):
        return None if self.program else "memberlist (Debian: golang-go, golang-github-hashicorp-memberlist-dev)"

    def version(self):
        return f"Debian {debian('golang-github-hashicorp-memberlist-dev')}, {output('go', 'version')}"

    def argv(self, node, join, drill):
        node.commands = [f"join {address}:{PORT}" for address in join]
        return [self.program, f"-name={node.name}", f"-bind={node.address}", f"-profile={PROFILE}", f"-keys={KEY}"]

    @staticmethod
    def said(line):
        found = re.match(r'\{.*"event":"(ready|join|leave)"', line)
        if not found:
            return None
        # What left and what failed are one to it; nobody leaves here.
        return json.loads(line).get("name", ""), {"ready": READY, "join": ALIVE, "leave": FAILED}[found[1]]


class Keepalived(Kind):
    """Addresses that move when a check fails or a server dies, by VRRP: what one would take for two servers on one
    network. For the memory and the processor time alone."""

    name = title = package = "keepalived"

    def version(self):
        return output(self.program, "--version").split("\n")[0].removeprefix("Keepalived ")

    def argv(self, node, join, drill):
        notify = script(node.folder / "notify", "exit 0")
        config = node.folder / "keepalived.conf"
        config.write_text(f"""
            global_defs {{ router_id {node.name}
                script_user root
                enable_script_security }}
            vrrp_script web {{
                script "/usr/bin/curl --silent --fail --output /dev/null http://127.0.0.1/"
                interval 10
                rise 2
                fall 3 }}
            vrrp_instance web {{
                state BACKUP
                interface eth0
                virtual_router_id 7
                priority {100 + node.place}
                advert_int 1
                notify {notify}
                virtual_ipaddress {{ 10.77.{node.wire.number}.200/32 }}
                track_script {{ web }} }}
        """)
        return [self.program, "--dont-fork", "--vrrp", f"--use-file={config}", "--log-console",
                f"--pid={node.folder}/pid", f"--vrrp_pid={node.folder}/vrrp.pid"]


class Monit(Kind):
    """One check of the application and a ping of each other server, each with a program that is run. For the memory and
    the processor time alone."""

    name = title = package = "monit"

    def version(self):
        return output(self.program, "--version").split("\n")[0].removeprefix("This is Monit version ")

    def argv(self, node, join, drill):
        act = script(node.folder / "act", "exit 0")
        others = [i for i in range(1, node.wire.count + 1) if i != node.place]
        config = node.folder / "monitrc"
        config.write_text("\n".join([
            "set daemon 10", f"set idfile {node.folder}/id", f"set statefile {node.folder}/state",
            "check host web with address 127.0.0.1", "  if failed port 80 protocol http request / for 3 cycles then exec "
            f'"{act}"',
            *(f"check host n{i} with address {node.wire.address(i)}\n  if failed ping for 2 cycles then exec \"{act}\""
              for i in others)]) + "\n")
        config.chmod(0o600)
        return [self.program, "-I", "-c", str(config), "-p", f"{node.folder}/pid"]


def debian(package):
    return output("dpkg-query", "--show", "--showformat=${Version}", package) or "unknown"


class Listener:
    """Reads what all nodes write, and when."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        self.news = threading.Condition()
        threading.Thread(target=self._listen, daemon=True).start()

    def add(self, node):
        os.set_blocking(node.process.stdout.fileno(), False)
        self.selector.register(node.process.stdout, selectors.EVENT_READ, [node, node.process, b""])

    def wait(self, condition, seconds):
        """Whether it came true; looked at after each line that anybody writes."""
        with self.news:
            return self.news.wait_for(condition, seconds)

    def _listen(self):
        while True:
            for key, _ in self.selector.select(0.2):
                data = key.fileobj.read(65536)
                if data is None:
                    continue
                now = time.monotonic()
                node, process, rest = key.data
                *lines, key.data[2] = (rest + data).split(b"\n")
                with self.news:
                    for line in lines:
                        node.heard(process, line.decode(errors="replace"), now)
                    self.news.notify_all()
                if not data:
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()


class Node:
    """One program at its place. `view` is who is in which state as it says; `said` all that it said of states:
    (time, name, state)."""

    def __init__(self, kind, wire, place, folder, listener, drill):
        self.kind, self.wire, self.place, self.listener, self.drill = kind, wire, place, listener, drill
        self.name, self.address = f"n{place}", wire.address(place)
        self.folder = folder / f"{wire.number}-{place}"
        self.folder.mkdir()
        self.process, self.commands, self.view, self.said, self.log = None, [], {}, [], []

    def start(self, join):
        self.commands = []
        argv = self.kind.argv(self, join, self.drill)
        with self.wire.within(self.place):
            self.view = {self.name: ALIVE}
            process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                       cwd=self.folder)
        self.process, self.pid, self.ready = process, process.pid, False
        self.listener.add(self)

    def heard(self, process, line, now):
        self.log = [*self.log[-20:], line]
        if process is not self.process or not hasattr(self.kind, "said") or not (said := self.kind.said(line)):
            return
        name, state = said
        if state == READY:
            self.ready = True
            for command in self.commands:
                process.stdin.write(f"{command}\n".encode())
                process.stdin.flush()
        elif name != self.name:
            self.view[name] = state
            self.said.append((now, name, state))

    def alive(self):
        return list(self.view.values()).count(ALIVE)

    def said_since(self, since, state):
        return [(at, name) for at, name, what in self.said if at >= since and what == state]

    def runs(self):
        """(time of day, handler, about whom) of each run."""
        path = self.folder / "told"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(at), handler, about) for at, handler, about in (f"{line} ".split(" ", 2) for line in lines)]

    def signal(self, number):
        os.kill(self.pid, number)

    def kill(self):
        if self.process:
            process, self.process = self.process, None
            process.kill()
            process.wait()
            process.stdin.close()
