"""Clusters' networks for scripts/bench: each node a network namespace, and one bridge that joins them.

All of it lives in a network, mount and process namespace of the measurement's own, see `alone`: when that ends, however
it ends, the kernel takes namespaces and processes away.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
NEW_NETWORK = 0x40000000
INSIDE = "PICORED_BENCH_FOLDER"


def alone():
    """Runs this program again in namespaces of its own, and ends with what that ended with; there, returns the folder
    for its files."""
    if INSIDE in os.environ:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        names = pathlib.Path("/run/netns")
        names.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "none", names], check=True)
        return pathlib.Path(os.environ[INSIDE])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with tempfile.TemporaryDirectory(prefix="picored-bench-") as folder:
        argv = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child",
                "--mount-proc"]
        child = subprocess.Popen([*argv, sys.executable, *sys.argv], env=dict(os.environ, **{INSIDE: folder}))
        try:
            code = child.wait()
        except KeyboardInterrupt:
            code = 130
        finally:
            child.kill()
            child.wait()
    sys.exit(code)


def ip(batch):
    subprocess.run(["ip", "-batch", "-"], input=batch, text=True, check=True)


def enter(namespace):
    if LIBC.setns(namespace, NEW_NETWORK) != 0:
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


class Wire:
    """Nodes 1 to `count` at 10.77.NUMBER.I on one bridge."""

    home = None

    def __init__(self, number, count):
        self.number, self.count = number, count
        Wire.home = Wire.home or os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        nodes = range(1, count + 1)
        pathlib.Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        ip("".join([f"link add b{number} type bridge\nlink set b{number} up\n"]
                   + [f"netns add {number}-{i}\n"
                      f"link add v{number}-{i} master b{number} type veth peer name eth0 netns {number}-{i}\n"
                      f"link set v{number}-{i} up\n" for i in nodes]))
        self.spaces = {i: os.open(f"/run/netns/{number}-{i}", os.O_RDONLY) for i in nodes}
        for i in nodes:
            with self.within(i):
                pathlib.Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
                ip(f"link set lo up\nlink set eth0 up\naddr add {self.address(i)}/24 dev eth0\n")

    def address(self, i):
        return f"10.77.{self.number}.{i}"

    @contextlib.contextmanager
    def within(self, i):
        """What this thread starts or opens meanwhile is at node `i`."""
        enter(self.spaces[i])
        try:
            yield
        finally:
            enter(self.home)

    def cut(self, i):
        ip(f"link set v{self.number}-{i} down\n")

    def mend(self, i):
        ip(f"link set v{self.number}-{i} up\n")

    def reaches(self, one, other, port):
        """Whether TCP connects; a link that was set up may drop what is sent for a second."""
        for _ in range(20):
            with self.within(one), contextlib.suppress(OSError):
                socket.create_connection((self.address(other), port), 0.5).close()
                return True
            time.sleep(0.1)
        return False

    def lose(self, percent):
        """From now on each node loses so many of a hundred packets that reach it."""
        for i in self.spaces:
            with self.within(i):
                subprocess.run(["nft", "-f", "-"], text=True, check=True, input="add table ip bench\n"
                               "add chain ip bench in { type filter hook input priority 0; }\n"
                               f"add rule ip bench in iif eth0 numgen random mod 100 < {percent} drop\n")

    def sent(self):
        """Bytes and packets that all nodes sent, by the counters of the bridge's ports."""
        done = subprocess.run(["ip", "-json", "-stats", "link"], capture_output=True, text=True, check=True)
        ports = [link for link in json.loads(done.stdout) if link["ifname"].startswith(f"v{self.number}-")]
        assert len(ports) == self.count
        return tuple(sum(port["stats64"]["rx"][what] for port in ports) for what in ("bytes", "packets"))

    def close(self):
        for space in self.spaces.values():
            os.close(space)
        # The links by name, for a namespace without a name goes when the kernel has time.
        ip("".join(f"link del v{self.number}-{i}\nnetns del {self.number}-{i}\n" for i in self.spaces)
           + f"link del b{self.number}\n")


class Web:
    """The application that is checked: one answer to everything, at 127.0.0.1:80 of each node."""

    ANSWER = b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nOK\n"

    def __init__(self):
        self.selector = selectors.DefaultSelector()
        threading.Thread(target=self._serve, daemon=True).start()

    def serve_at(self, wire, i):
        with wire.within(i):
            listener = socket.create_server(("127.0.0.1", 80), backlog=16)
        self.selector.register(listener, selectors.EVENT_READ)
        return listener

    def gone(self, listener):
        self.selector.unregister(listener)
        listener.close()

    def _serve(self):
        while True:
            for key, _ in self.selector.select(0.5):
                with contextlib.suppress(OSError):
                    connection, _ = key.fileobj.accept()
                    with connection:
                        connection.settimeout(1)
                        connection.recv(4096)
                        connection.sendall(self.ANSWER)
