"""A node for tests: a network of its own, in which kube-dns answers and nodens is started as the manifests have it.

kube-dns is `nodens demo` on the loopback address. Everything else is real: interface, rules, guardian and server. It needs
util-linux, iproute2, dig and curl, and root or user namespaces; where they are missing a test is skipped, in CI it fails.
"""

import os
import pathlib
import shutil
import subprocess
import time

import pytest

from support import NODENS

KUBE_DNS = "10.96.0.10"
TOOLS_NEEDED = ["unshare", "nsenter", "ip", "mount", "dig", "curl"]


class Node:
    """A node; use it in a `with`, which ends all that runs there."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        # What Kubernetes gives to each container of kube-system.
        self.environment = {
            "PATH": os.environ["PATH"],
            "KUBE_DNS_SERVICE_HOST": KUBE_DNS,
            "KUBE_DNS_UPSTREAM_SERVICE_HOST": "127.0.0.1",
            "NODE_IP": "127.0.0.1",
        }
        self.inside = []
        self.nodens = None

    def __enter__(self):
        missing = [tool for tool in TOOLS_NEEDED if not shutil.which(tool)]
        if missing:
            cannot(f"{', '.join(missing)} is missing")
        resolv = self.folder / "resolv.conf"
        resolv.write_text(
            "nameserver 169.254.20.10\n"
            "search default.svc.cluster.local svc.cluster.local cluster.local\n"
            "options ndots:5\n"
        )
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        world = ["--net", "--mount", "--pid"]
        script = f'ip link set lo up && mount --bind "{resolv}" /etc/resolv.conf && echo here && exec sleep 300'
        self.holder = subprocess.Popen(
            ["unshare", *user, *world, "--fork", "--kill-child", "--mount-proc", "sh", "-c", script],
            stdout=subprocess.PIPE, text=True,
        )
        if self.holder.stdout.readline() != "here\n":
            self.holder.wait()
            cannot("no namespaces can be made here")
        pid = pathlib.Path(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children").read_text().split()[0]
        preserve = ["--user", "--preserve-credentials"] if user else []
        self.inside = ["nsenter", "--target", pid, *preserve, *world, "--"]
        self.start("demo", "--port", "53", "--metrics", "127.0.0.1:9999", "--health", "127.0.0.1:9998")
        self.until(lambda: "NOERROR" in self.run("dig", "@127.0.0.1", "+time=1", "kubernetes.default.svc.cluster.local"))
        return self

    def __exit__(self, *_):
        self.holder.kill()
        self.holder.wait()

    def start(self, *arguments):
        """Starts nodens, which ends with the node; its log is in the folder, by the name of the command."""
        with open(self.folder / f"{arguments[0]}.log", "a") as log:
            return subprocess.Popen(
                [*self.inside, str(NODENS), *arguments], env=self.environment, stdout=log, stderr=log
            )

    def serve(self, text):
        """Starts nodens with a configuration, and waits until it is ready. What it would save goes into the folder."""
        file = self.folder / "nodens.yaml"
        file.write_text(text.replace("/var/lib/nodens", str(self.folder)))
        self.nodens = self.start("serve", "--config", str(file))
        self.until(self.ready)

    def ready(self):
        """Does /ready say so, at the address of the manifests' probes?"""
        if self.nodens.poll() is not None:
            raise AssertionError((self.folder / "serve.log").read_text())
        return self.run("curl", "-s", "--max-time", "1", "http://169.254.20.10:8080/ready").startswith("ready")

    def kill(self):
        """Kills guardian and server, as the kernel does when memory runs out."""
        guardian = self.run("sh", "-c", "pgrep -f -- '[ ]serve --config'").split()
        assert len(guardian) == 2, "a guardian and a server"
        self.run("kill", "-KILL", *guardian, check=True)
        self.nodens.wait()

    def run(self, *command, check=False, both=False, env=None):
        """Runs a command on the node and gives what it printed; with `check` it has to succeed."""
        environment = {**self.environment, **(env or {})}
        done = subprocess.run(
            [*self.inside, *map(str, command)], env=environment, capture_output=True, text=True, timeout=60
        )
        if check and done.returncode != 0:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done if both else done.stdout

    @staticmethod
    def until(done, seconds=20):
        """Waits until `done` is true."""
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s")
            time.sleep(0.1)


def cannot(why):
    """Skips a test that cannot run here; in CI it has to."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
