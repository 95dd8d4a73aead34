"""A small cluster for `render`: nodes that run a real nodens, who they ask, and who asks them.

Each node is a network namespace with a link to ours, where the upstreams answer: kube-dns, two resolvers, and the one
server of a stub zone. Upstreams and clients are in this process, so that a fault is one line: `world.silent.add(CORP)`.
Has to run as root of namespaces of its own, of networks, mounts and processes.
"""

import asyncio
import ctypes
import math
import os
import pathlib
import random
import signal
import socket
import struct
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

KUBE_DNS = "10.96.0.11"
PODS = {1: ["10.244.0.11", "10.244.0.12"], 28: ["fd00:244::11", "fd00:244::12"]}
RESOLVERS = ["192.0.2.53", "192.0.2.54"]
CORP = "10.1.0.53"
LISTEN = ["169.254.20.10", "fd00:169:254::10"]
# Seconds that each upstream takes, as the middle of a wide range.
DELAYS = {KUBE_DNS: 0.0008, RESOLVERS[0]: 0.009, RESOLVERS[1]: 0.014, CORP: 0.005}

A, PTR, TXT, AAAA, SRV, HTTPS = 1, 12, 16, 28, 33, 65
NXDOMAIN, SERVFAIL = 3, 2

CONFIG = """
listen: {{ addresses: [{listen}] }}
network: {{ firewall: nftables }}
cache: {{ persist: {{ path: {folder}/cache.bin, interval: 5s }} }}
limits: {{ inFlightPerClient: 4 }}
zones:
  - match: [cluster.local, in-addr.arpa, ip6.arpa]
    forward: {{ to: [kube-dns] }}
  - match: [corp.example]
    forward: {{ to: [{corp}], protocol: auto }}
    cache: {{ positive: {{ maxTtl: {ttl}s }} }}
  - match: [.]
    forward: {{ to: [{resolvers}], protocol: auto, timeout: 1s }}
    hosts: {{ entries: {{ 10.0.0.7: [db.internal] }}, files: [{folder}/hosts] }}
    acl: [{{ action: block, names: [ads.example] }}]
"""


def sh(*lines, pid=None):
    """Runs lines of shell, in the network namespace of a process if one is given."""
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net"] if pid else []
    subprocess.run([*inside, "sh", "-ec", "\n".join(lines)], check=True, stdin=subprocess.DEVNULL)


def inside(pid, make):
    """What `make` returns in the network namespace of a process: sockets made there stay there."""

    def body():
        with open(f"/proc/{pid}/ns/net") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0) != 0:
                raise OSError(ctypes.get_errno(), "setns")
        return make()

    # A namespace is that of a thread, so this one is for nothing else.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(body).result()


def encode(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.strip(".").split(".")) + b"\0"


def query(name, kind):
    """A query with EDNS, as resolvers of clients send it."""
    head = struct.pack("!6H", random.getrandbits(16), 0x0100, 1, 0, 0, 1)
    return head + encode(name) + struct.pack("!2H", kind, 1) + b"\0\0\x29\x04\xd0" + bytes(6)


def answer(packet):
    """The reply of an upstream: what it says of a name follows from the name."""
    at, labels = 12, []
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode().lower())
        at += 1 + packet[at]
    kind, end, name = struct.unpack("!H", packet[at + 1 : at + 3])[0], at + 5, ".".join(labels)
    rcode, data, ttl = 0, [], 30 if name.endswith("cluster.local") else 20 + sum(name.encode()) % 40
    seed = random.Random(name)
    first = labels[0] if labels else ""
    if first == "broken":
        rcode = SERVFAIL
    elif "nx" in labels or name.count("svc") > 1:
        rcode = NXDOMAIN
    elif kind in (A, AAAA):
        family = socket.AF_INET if kind == A else socket.AF_INET6
        if first == "kube-dns-endpoints":
            data = [socket.inet_pton(family, pod) for pod in PODS[kind]]
        else:
            data = [seed.randbytes(4 if kind == A else 16)]
    elif kind == PTR:
        data = [encode(f"pod-{seed.randrange(999)}.shop.svc.cluster.local")]
    elif kind == SRV:
        data = [struct.pack("!3H", 0, 10, 8080) + encode("web.shop.svc.cluster.local")]
    elif kind == TXT:
        data = [b"\x05hello"]
    answers = b"".join(b"\xc0\x0c" + struct.pack("!2HIH", kind, 1, ttl, len(part)) + part for part in data)
    authority = b""
    if not data and rcode != SERVFAIL:
        soa = encode("ns.example") + encode("hostmaster.example") + struct.pack("!5I", 1, 7200, 1800, 86400, 5)
        authority = encode(".".join(labels[-2:])) + struct.pack("!2HIH", 6, 1, 5, len(soa)) + soa
    head = packet[:2] + struct.pack("!5H", 0x8180 | rcode, 1, len(data), bool(authority), 1)
    return head + packet[12:end] + answers + authority + b"\0\0\x29\x04\xd0" + bytes(6)


class Datagrams(asyncio.DatagramProtocol):
    """An upstream over UDP."""

    def __init__(self, world, address):
        self.world, self.address = world, address

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, packet, sender):
        self.world.later(self.address, lambda: self.transport.sendto(answer(packet), sender))


class Stream(asyncio.Protocol):
    """An upstream over TCP."""

    def __init__(self, world, address):
        self.world, self.address, self.got = world, address, b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.got += data
        while len(self.got) > 2 and len(self.got) >= 2 + (length := int.from_bytes(self.got[:2], "big")):
            packet, self.got = self.got[2 : 2 + length], self.got[2 + length :]
            self.world.later(self.address, lambda packet=packet: self.send(answer(packet)))

    def send(self, reply):
        if not self.transport.is_closing():
            self.transport.write(len(reply).to_bytes(2, "big") + reply)


def names():
    """What pods ask for, without end: mostly a few Services, and all else that a resolver makes of ndots:5."""
    services = [f"{a}-{b}.shop.svc.cluster.local" for a in ("web", "cart", "pay", "mail") for b in range(40)]
    outside = [f"{a}{b}.example.net" for a in ("api", "cdn", "storage", "metrics") for b in range(25)]
    popular = [1 / (rank + 1) for rank in range(len(services))]
    while True:
        service, site = random.choices(services, popular)[0], random.choices(outside, popular[: len(outside)])[0]
        yield from random.choices(
            [
                [(service, A), (service, AAAA)],
                [(f"{service}.shop.svc.cluster.local", A), (f"{site}.shop.svc.cluster.local", AAAA)],
                [(site, A), (site, AAAA)],
                [(site, HTTPS)],
                [(f"{random.randrange(200)}.0.244.10.in-addr.arpa", PTR)],
                [(f"_http._tcp.{service}", SRV)],
                [(f"key{random.randrange(50)}.example.net", TXT)],
                [(f"host{random.randrange(40)}.corp.example", A)],
                [(f"{random.getrandbits(40)}.tracker.example.org", A)],
                [("broken.example.org", A)],
                [("db.internal", A)],
                [("ads.example", A)],
            ],
            [50, 9, 12, 2, 5, 2, 1, 5, 3, 0.2, 1, 0.3],
        )[0]


class Node:
    """A node with its nodens."""

    def __init__(self, world, number, binary):
        self.name, self.address = f"worker-{number}", f"10.0.0.1{number}"
        self.folder = world.folder / self.name
        self.folder.mkdir()
        self.config = self.folder / "nodens.yaml"
        (self.folder / "hosts").write_text("10.0.0.8 printer.internal\n")
        self.holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
        self.pid = self.holder.pid
        while os.readlink(f"/proc/{self.pid}/ns/net") == os.readlink("/proc/self/ns/net"):
            time.sleep(0.01)
        link = f"node{number}"
        sh(
            f"ip link add {link} type veth peer name eth0 netns {self.pid}",
            f"ip addr add 10.0.0.1/32 dev {link}",
            f"ip link set {link} up",
            f"ip route add {self.address}/32 dev {link}",
        )
        sh(
            "ip link set lo up",
            f"ip addr add {self.address}/32 dev eth0",
            "ip link set eth0 up",
            "ip route add default via 10.0.0.1 dev eth0 onlink",
            # So that there is something to track.
            "nft add table inet others",
            "nft add chain inet others out '{ type filter hook output priority 0; policy accept; ct state new counter; }'",
            pid=self.pid,
        )
        self.write()
        self.log = open(self.folder / "log", "w")
        self.nodens = subprocess.Popen(
            ["nsenter", f"--net=/proc/{self.pid}/ns/net", binary, "serve", "--config", self.config],
            env={**os.environ, "KUBE_DNS_UPSTREAM_SERVICE_HOST": KUBE_DNS},
            stdin=subprocess.DEVNULL,
            stderr=self.log,
        )

    def write(self, ttl=3, broken=False):
        """Writes the configuration, or one that has to be refused."""
        addresses = {"listen": ", ".join(LISTEN), "corp": CORP, "resolvers": ", ".join(RESOLVERS)}
        text = CONFIG.format(folder=self.folder, ttl=ttl, **addresses)
        self.config.write_text(text.replace("forward", "forwrd") if broken else text)

    def kill_server(self):
        """Ends the server; its guardian has to start another."""
        children = pathlib.Path(f"/proc/{self.nodens.pid}/task/{self.nodens.pid}/children").read_text().split()
        os.kill(int(children[0]), signal.SIGKILL)

    def sh(self, *lines):
        sh(*lines, pid=self.pid)

    def clients(self):
        """Sockets of clients: UDP and TCP, IPv4 and IPv6."""
        sockets = []
        for address in LISTEN:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                client = socket.socket(family, kind)
                client.settimeout(2)
                client.connect((address, 53))
                client.setblocking(False)
                sockets.append(client)
        return sockets

    async def load(self, rate):
        """Asks `rate(seconds)` queries a second until it is cancelled."""
        loop, wanted, begin, asked = asyncio.get_running_loop(), names(), time.monotonic(), 0.0
        sockets = []
        try:
            while True:
                if not sockets:
                    sockets = await loop.run_in_executor(None, lambda: inside(self.pid, self.clients))
                    for client in sockets:
                        loop.add_reader(client, self.drain, client)
                await asyncio.sleep(0.05)
                asked += 0.05 * rate(time.monotonic() - begin)
                while asked >= 1:
                    asked -= 1
                    packet = query(*next(wanted))
                    client = random.choices(sockets, [70, 2, 26, 2])[0]
                    if client.type == socket.SOCK_STREAM:
                        packet = len(packet).to_bytes(2, "big") + packet
                    try:
                        client.send(packet)
                    except OSError:
                        # The server went, and with it the connections: new ones.
                        for gone in sockets:
                            loop.remove_reader(gone)
                            gone.close()
                        sockets = []
                        break
        finally:
            for client in sockets:
                loop.remove_reader(client)
                client.close()

    @staticmethod
    def drain(client):
        """Reads the answers and forgets them; at the end of a connection there is nothing more to wait for."""
        try:
            while client.recv(65536):
                pass
        except BlockingIOError:
            return
        except OSError:
            pass
        asyncio.get_running_loop().remove_reader(client)


class World:
    """All of it."""

    def __init__(self, folder, binary, nodes):
        self.folder, self.silent, self.tasks = folder, set(), []
        self.upstreams = [KUBE_DNS, *PODS[A], *RESOLVERS, CORP]
        sh("ip link set lo up", *(f"ip addr add {address}/32 dev lo" for address in self.upstreams))
        self.nodes = [Node(self, number, binary) for number in range(1, nodes + 1)]

    async def start(self, rate):
        """Has upstreams answer and clients ask: each node `rate` queries a second, more and less in waves."""
        loop = asyncio.get_running_loop()
        for address in self.upstreams:
            await loop.create_datagram_endpoint(lambda a=address: Datagrams(self, a), (address, 53))
            await loop.create_server(lambda a=address: Stream(self, a), address, 53)
        for at, node in enumerate(self.nodes):
            wave = lambda now, at=at: rate * (1 - 0.22 * at) * (1 + 0.3 * math.sin(now / 25 + 2 * at))
            self.tasks.append(asyncio.create_task(self.keep_asking(node, wave)))

    async def keep_asking(self, node, wave):
        """Begins once the node listens."""
        for _ in range(100):
            try:
                await node.load(wave)
            except OSError:
                await asyncio.sleep(0.2)
        raise AssertionError(f"{node.name} does not listen:\n{(node.folder / 'log').read_text()}")

    def later(self, address, reply):
        """Sends a reply when the upstream has thought about it, or never."""
        if address not in self.silent:
            delay = DELAYS.get(address, 0.001) * random.lognormvariate(0, 0.6)
            asyncio.get_running_loop().call_later(delay, reply)

    def stop(self):
        for task in self.tasks:
            task.cancel()
        for node in self.nodes:
            node.nodens.terminate()
        for node in self.nodes:
            node.nodens.wait(20)
            node.log.close()
            node.holder.kill()
            node.holder.wait()
