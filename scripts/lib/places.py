"""Where the demo's servers live: network namespaces joined by a router, or addresses of 127.0.0.0/8.

Both know the same few things: each site's address, how to run a command at a site, how to pull its
network cable, and how to leave nothing behind.
"""

import itertools
import os
import random
import re
import signal
import socket
import subprocess

PREFIX = "picored-demo-"


class Namespaces:
    """Each site a network namespace with its own /24, all joined by one more that routes: "internet"."""

    title = "in network namespaces"
    addresses = {"fra1": "203.0.113.10", "par1": "198.51.100.7", "nyc1": "192.0.2.5", "dns": "198.18.0.53"}
    gossip_port, web_port, dns_port = 7946, 80, 53

    def __init__(self):
        self.router = self._name("internet")
        remove_leftovers()
        try:
            self._ip("netns", "add", self.router)
            self._ip("-n", self.router, "link", "set", "lo", "up")
            self._run_in(self.router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
            for site, address in self.addresses.items():
                self._add_site(site, address, address.rsplit(".", 1)[0] + ".1")
        except BaseException:
            self.close()
            raise

    def _add_site(self, site, address, gateway):
        space = self._name(site)
        self._ip("netns", "add", space)
        self._ip("-n", self.router, "link", "add", site, "type", "veth", "peer", "name", "eth0", "netns", space)
        self._ip("-n", self.router, "addr", "add", gateway + "/24", "dev", site)
        self._ip("-n", self.router, "link", "set", site, "up")
        self._ip("-n", space, "addr", "add", address + "/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            self._ip("-n", space, "link", "set", link, "up")
        self._ip("-n", space, "route", "add", "default", "via", gateway)

    def command(self, site, argv):
        """`argv` as it must be called to run at `site`; "internet" is a stranger's place."""
        return ["ip", "netns", "exec", self._name(site), *argv]

    def pids(self, site):
        return [int(pid) for pid in self._ip("netns", "pids", self._name(site)).split()]

    def pull_cable(self, site):
        self._ip("-n", self.router, "link", "set", site, "down")

    def plug_cable(self, site):
        self._ip("-n", self.router, "link", "set", site, "up")

    def close(self):
        for space in namespaces():
            if space.startswith(self._name("")):
                delete(space)

    def _name(self, site):
        return f"{PREFIX}{os.getpid()}-{site}"

    def _run_in(self, space, *argv):
        return self._ip("netns", "exec", space, *argv)

    @staticmethod
    def _ip(*argv):
        done = subprocess.run(["ip", *argv], capture_output=True, text=True)
        if done.returncode != 0:
            raise OSError(f"ip {' '.join(argv)}: {done.stderr.strip()}")
        return done.stdout


class Loopback:
    """Each site an address of the loopback network, which a Linux has without being asked. BIND listens
    only on addresses that an interface lists."""

    title = "on 127.0.0.x"
    addresses = {"fra1": "127.0.0.11", "par1": "127.0.0.12", "nyc1": "127.0.0.13", "dns": "127.0.0.1"}

    def __init__(self):
        # Free now at all of the addresses, as 7946 and 8080 often are not, and below those that the kernel gives
        # to outgoing connections.
        ports = filter(self._is_free, random.sample(range(10_000, 32_768), 1000))
        self.gossip_port, self.web_port, self.dns_port = itertools.islice(ports, 3)

    def _is_free(self, port):
        try:
            for address in self.addresses.values():
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                    with socket.socket(socket.AF_INET, kind) as probe:
                        probe.bind((address, port))
            return True
        except OSError:
            return False

    def command(self, _site, argv):
        return argv

    def pids(self, _site):
        return []

    def pull_cable(self, _site):
        pass

    def plug_cable(self, _site):
        pass

    def close(self):
        pass


def namespaces():
    done = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True)
    return [line.split()[0] for line in done.stdout.splitlines() if line.strip()]


def delete(space):
    pids = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True).stdout
    for pid in pids.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass
    subprocess.run(["ip", "netns", "del", space], capture_output=True)


def remove_leftovers():
    """Namespaces of demos that were killed before they could clean up."""
    for space in namespaces():
        owner = re.fullmatch(PREFIX + r"(\d+)-\w+", space)
        if owner and not os.path.exists(f"/proc/{owner.group(1)}"):
            delete(space)
