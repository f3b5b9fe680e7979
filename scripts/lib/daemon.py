"""What the demo knows of picored: its configuration, and the JSON that its commands print."""

import json
import queue
import subprocess
import threading


def configuration(node, place, files, handler):
    """A node's configuration. Faster than the defaults, so that a person can watch: the app is checked
    every second and memberlist's profile for local networks finds a dead node within a few seconds."""
    address, port = place.addresses[node], place.gossip_port
    others = [name for name in ("fra1", "par1", "nyc1") if name != node]
    return {
        "node": node,
        "bind": f"{address}:{port}",
        "advertise": f"{address}:{port}",
        "join": [f"{place.addresses[other]}:{port}" for other in others],
        "keys_file": f"{files}/picored.keys",
        "profile": "local",
        "apps": {
            "web": {
                "interval": "1s", "timeout": "1s", "rise": 2, "fall": 3, "grace": "2s", "hold_up": "2s",
                "checks": [{"http": f"http://{address}:{place.web_port}/health", "body_contains": "OK"}],
                "min_up": 1, "all_down": "keep",
            }
        },
        "handlers": {
            "dns": dict(handler, mode="sync", apps=["web"], timeout="20s", debounce="2s", min_interval="1s")
        },
        "safety": {"settle": "3s", "node_down_after": "1s", "half_delay": "3s"},
        "state": f"{files}/{node}/state.json",
        "control": f"{files}/{node}/picored.sock",
        "log": {"level": "info"},
    }


class Daemon:
    """One node's picored, asked through its own command line."""

    def __init__(self, program, config):
        self.program, self.config = program, config

    def argv(self, *words):
        return [self.program, "-c", self.config, *words]

    def ask(self, *words):
        """(exit code, what it printed). A command that hangs is a failure like any other."""
        try:
            done = subprocess.run(self.argv(*words), capture_output=True, text=True, timeout=5)
        except subprocess.TimeoutExpired:
            return 124, f"picored {' '.join(words)}: no answer within 5 s"
        return done.returncode, done.stdout + done.stderr

    def members(self):
        """{node: (member state, state of the app "web")}, empty if there is no answer."""
        code, text = self.ask("members", "--json")
        try:
            members = json.loads(text)["members"] if code == 0 else []
            return {member["name"]: (member["state"], app_state(member)) for member in members}
        except (ValueError, KeyError, TypeError):
            return {}


def app_state(member):
    """The state of the app "web" on this member, `none` where it has no such app."""
    return next((app["state"] for app in member["apps"] if app["name"] == "web"), "none")


# Events that every node has of its own, at about the same time: not news after the first.
OWN_BUSINESS = {"config", "started", "settled", "join", "join-failed", "publish", "guard-over"}


class Events:
    """Follows `picored events -f --json` of any number of nodes."""

    def __init__(self):
        self.queue, self.seen, self.followers, self.step = queue.SimpleQueue(), set(), [], 0
        self.running = set()  # nodes whose handler runs

    def follow(self, node, argv):
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                   start_new_session=True)
        self.followers.append(process)
        threading.Thread(target=self._read, args=(node, process), daemon=True).start()

    def _read(self, node, process):
        for line in process.stdout:
            self.queue.put((node, line))

    def new(self):
        """(node that says it, the sentence). Gossip tells all nodes the same about members and apps: that is
        taken from whom it is about and from fra1, whoever says it first in this step. What each node makes
        of it for itself is left out, but for a gate that holds something and for what the runner does."""
        while not self.queue.empty():
            sayer, line = self.queue.get()
            try:
                event = json.loads(line)
            except ValueError:
                continue
            name, about, app = (event.get(key) or "" for key in ("event", "node", "app"))
            if name == "handler-started":
                self.running.add(sayer)
            elif name in ("handler-done", "handler-failed", "handler-timeout"):
                self.running.discard(sayer)
            shared = name.startswith(("app-", "node-"))
            if name in OWN_BUSINESS or (shared and sayer not in (about, "fra1")) or (name == "guard" and sayer != "fra1"):
                continue
            key = (self.step, name, about, app) if shared else (sayer, line)
            if key in self.seen:
                continue
            self.seen.add(key)
            yield sayer, event.get("message", name)

    def close(self):
        for process in self.followers:
            process.kill()
            process.wait()
