#!/usr/bin/env python3
"""What clients of nodens notice when upstreams fail: each figure beside the bar that it is to meet.

nodens runs in a network namespace of its own, its upstreams (nsd, or a script) in others; nothing of the host's network
is touched. Loads are bounded; every client is a dnsperf with a loopback address of its own.

  blackhole  one of two upstreams drops everything under load     p99 of misses, failures
  stale      all upstreams drop everything, then come back        p99 first and then, time to recover
  loss       30 % of all datagrams lost, both ways, over UDP      share answered in 5 s
  slow       one name takes 1.9 s, its server answers in order    p99 of 1,000 other names a second, against before
  herd       10,000 ask for one name that has just expired        upstream queries, answers
  roll       all pods behind a Service address are replaced       errors at 5,000 misses a second
  restart    a restart with `cache.persist`                       hits in the first second, against before
  miss       CPU time per miss against another binary (--before)  ratio

Needs root, and Debian's dnsperf, nsd, nftables, iproute2 and util-linux.
Example:  cargo build --release && benches/failures.py --bars blackhole,stale
"""
import argparse, asyncio, os, re, select, shutil, signal, socket, statistics, struct, subprocess, sys
import tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
BARS = ["blackhole", "stale", "loss", "slow", "herd", "roll", "restart", "miss"]
PACKAGES = {"dnsperf": "dnsperf", "nsd": "nsd", "nft": "nftables", "ip": "iproute2", "unshare": "util-linux",
            "nsenter": "util-linux", "setpriv": "util-linux"}
NODE, SERVICE = "10.7.0.1", "10.96.0.11"
PEERS = ["10.7.1.2", "10.7.2.2"]
CLIENTS = 10


class Failure(Exception):
    """What the user has to know, as one sentence."""


def tool(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if not path:
        raise Failure(f"{name} is not installed: apt-get install {PACKAGES[name]}")
    return path


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def p99(values):
    """In milliseconds, of seconds."""
    values = sorted(values)
    return values[min(len(values) * 99 // 100, len(values) - 1)] * 1e3 if values else float("nan")


def packet(name, number=0x1234):
    """An A query with an OPT record, so that the answer may say that it is stale."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack(">6H", number, 0x0100, 1, 0, 0, 1) + labels + b"\0\0\1\0\1" + b"\0\0\x29\x04\xd0" + bytes(6)


def is_stale(reply):
    """Does it have extended error 3 in its OPT record, which comes last?"""
    return b"\0\x0f" in reply and b"\0\x03" in reply[reply.rindex(b"\0\x0f"):][4:6]


class Namespace:
    """A network namespace, kept by a process that ends with this one."""

    def __init__(self):
        self.holder = subprocess.Popen([tool("unshare"), "--net", "--mount", "sh", "-c", "echo held; exec cat"],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if self.holder.stdout.readline() != "held\n":
            raise Failure(f"no network namespaces: {self.holder.stderr.read().strip()}")
        self.sh("ip link set lo up")

    def command(self, *words):
        return [tool("nsenter"), "--target", str(self.holder.pid), "--net", "--mount", "--", *map(str, words)]

    def sh(self, script):
        done = subprocess.run(self.command("sh", "-e"), input=script, capture_output=True, text=True, timeout=30)
        if done.returncode:
            raise Failure(f"{script.strip()}: {done.stderr.strip()}")
        return done.stdout

    def start(self, *words, log=subprocess.DEVNULL, **more):
        """Starts something that is killed when this process ends."""
        return subprocess.Popen(self.command(tool("setpriv"), "--pdeathsig", "KILL", *words), stderr=log,
                                **{"stdin": subprocess.DEVNULL, "stdout": log, **more})

    def close(self):
        self.holder.kill()
        self.holder.wait()


class Peer:
    """A host behind a link of the node, with a server on it."""

    def __init__(self, bench, ip, link):
        self.bench, self.ip, self.space, self.server = bench, ip, Namespace(), None
        bench.spaces.append(self.space)
        bench.node.sh(f"""ip link add {link} type veth peer name eth0 netns {self.space.holder.pid}
ip link set {link} up
ip addr add {NODE}/32 dev {link}
ip route add {ip}/32 dev {link} src {NODE}
""")
        self.space.sh(f"""ip link set eth0 up
ip addr add {ip}/32 dev eth0
ip route add {NODE}/32 dev eth0
ip route add default via {NODE}
""")

    def nsd(self):
        work = f"{self.bench.work}/{self.ip}"
        os.makedirs(work, exist_ok=True)
        write(f"{work}/zone.db", f"$ORIGIN cluster.local.\n$TTL {self.bench.ttl}\n@ SOA ns.dns hostmaster 1 7200 1800 86400 5\n"
              "@ NS ns.dns\nns.dns A 127.0.0.1\n*.miss A 10.9.9.9\n*.known A 10.9.9.8\n")
        write(f"{work}/nsd.conf", f"""server:
  ip-address: {self.ip}@53
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{work}"
  database: ""
  pidfile: "{work}/nsd.pid"
  xfrdfile: "{work}/xfrd"
  zonelistfile: "{work}/zonelist"
  tcp-count: 1000
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: cluster.local
  zonefile: zone.db
""")
        self.server = self.space.start(tool("nsd"), "-d", "-c", f"{work}/nsd.conf", start_new_session=True)
        self.wait()

    def script(self):
        """A server in this file that answers in order on each connection."""
        self.server = self.space.start(sys.executable, os.path.abspath(__file__), "--serve", self.ip,
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.wait()

    def wait(self):
        deadline = time.monotonic() + 10
        ask = "import socket,sys; s=socket.create_connection((sys.argv[1],53),1)"
        while subprocess.run(self.space.command(sys.executable, "-c", ask, self.ip), capture_output=True).returncode:
            if time.monotonic() > deadline or self.server.poll() is not None:
                raise Failure(f"the upstream at {self.ip} did not start")

    def drop(self, matches=""):
        """Drops what matches, of all that arrives and leaves."""
        self.space.sh(f"""nft 'table inet chaos {{
chain input {{ type filter hook input priority 0; {matches} drop; }}
chain output {{ type filter hook output priority 0; {matches} drop; }}
}}'""")

    def heal(self):
        self.space.sh("nft delete table inet chaos")

    def kill(self):
        os.killpg(self.server.pid, signal.SIGKILL)
        self.server.wait()


class Bench:
    def __init__(self, args):
        self.args, self.work = args, tempfile.mkdtemp(prefix="failures-")
        self.node, self.spaces, self.peers, self.nodens, self.ttl, self.rows = None, [], [], None, 300, []

    # What each measurement starts with and ends with.

    def world(self, peers=PEERS, ttl=300):
        self.ttl, self.node = ttl, Namespace()
        self.spaces = [self.node]
        self.peers = [Peer(self, ip, f"up{n}") for n, ip in enumerate(peers)]

    def start(self, to=None, forward="", rest="", binary=None):
        """Starts nodens and waits until it answers."""
        write(f"{self.work}/nodens.yaml", f"""listen: {{ addresses: [127.0.0.1] }}
zones: [{{ match: [.], forward: {{ to: [{', '.join(to or [p.ip for p in self.peers])}], {forward or 'protocol: tcp'} }} }}]
metrics: {{ listen: ["127.0.0.1:9253"] }}
health: {{ listen: "127.0.0.1:8080" }}
limits: {{ inFlight: 100000, inFlightPerClient: 20000 }}
{rest}
""")
        with open(f"{self.work}/nodens.log", "w") as log:
            self.nodens = self.node.start(binary or self.args.subject, "serve", "--config", f"{self.work}/nodens.yaml", log=log)
        deadline = time.monotonic() + 10
        while not self.ask("start.known.cluster.local"):
            if self.nodens.poll() is not None or time.monotonic() > deadline:
                with open(f"{self.work}/nodens.log") as log:
                    raise Failure(f"nodens did not start: {log.read()[-400:].strip()}")

    def stop(self):
        """Ends nodens as a stop of the service does."""
        if self.nodens:
            self.nodens.terminate()
            try:
                self.nodens.wait(8)
            except subprocess.TimeoutExpired:
                self.nodens.kill()
            self.nodens = None

    def clear(self):
        self.stop()
        for peer in self.peers:
            if peer.server and peer.server.poll() is None:
                peer.server.kill()
        for space in self.spaces:
            space.close()
        self.spaces, self.peers = [], []

    # Clients.

    def ask(self, name, timeout=2.0):
        """The reply to one query, and after how many seconds; None when there is none."""
        done = subprocess.run(self.node.command(sys.executable, os.path.abspath(__file__), "--ask", name, str(timeout)),
                              capture_output=True, text=True)
        took, _, octets = done.stdout.partition(" ")
        return (float(took), bytes.fromhex(octets)) if octets else None

    def each(self, names):
        """Asks for all, a thousand a second; after how long each answer came, in seconds, and whether it is stale."""
        done = subprocess.run(self.node.command(sys.executable, os.path.abspath(__file__), "--each"), input="\n".join(names),
                              capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise Failure(done.stderr.strip().splitlines()[-1])
        return [(float(took), stale == "True") for took, stale in map(str.split, done.stdout.splitlines())]

    def load(self, name, count, rate, seconds, runs=None, clients=CLIENTS):
        """Starts `clients` dnsperfs that ask for `name` with a number in place of {}, `count` names each."""
        running = []
        for client in range(clients):
            file = f"{self.work}/q{client}-{name.split('.')[0]}-{time.monotonic_ns()}"
            write(file, "".join(name.format(i * clients + client) + ".cluster.local A\n" for i in range(count)))
            limit = ["-n", str(runs)] if runs else ["-l", str(seconds)]
            command = ["dnsperf", "-s", "127.0.0.1", "-a", f"127.0.1.{client + 1}", "-d", file, "-T", "1", "-c", "1", "-t", "5",
                       "-q", "1000", "-Q", str(max(1, rate // clients)), "-v", *limit]
            # Into a file: a pipe would fill and hold it up.
            with open(f"{file}.out", "w") as out:
                running.append((self.node.start(*command, stdout=out), f"{file}.out"))
        return running

    @staticmethod
    def finish(running):
        """Their latencies in seconds, and how many queries got no answer or a failure."""
        lines = []
        for process, path in running:
            process.wait(120)
            with open(path) as out:
                lines += re.findall(r"^> (\S+) \S+ A(?: ([\d.]+))?$", out.read(), re.M)
        if not lines:
            raise Failure("dnsperf asked nothing")
        took = [float(seconds) for code, seconds in lines if code in ("NOERROR", "NXDOMAIN")]
        codes = [code for code, _ in lines if code not in ("NOERROR", "NXDOMAIN")]
        if codes:
            print("    " + ", ".join(f"{codes.count(code)} {'lost' if code == 'T' else code}" for code in sorted(set(codes))))
        return took, len(lines) - len(took)

    def metric(self, name, labels=""):
        """The sum of all series of a metric."""
        page = subprocess.run(self.node.command(sys.executable, os.path.abspath(__file__), "--get"), capture_output=True,
                              text=True).stdout
        lines = [line for line in page.splitlines() if re.match(name + r"[{ ]", line) and labels in line]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def row(self, bar, what, value, unit, limit, more=False):
        """A figure and its bar; with `more`, no less than it."""
        met = value >= limit if more else value <= limit
        self.rows.append((bar, what, f"{value:.4g} {unit}".strip(), f"{'>=' if more else '<='} {limit:g} {unit}".strip(),
                          "met" if met else "NOT MET"))
        print(f"  {bar}: {what}: {value:.4g} {unit}", flush=True)

    # The bars.

    def blackhole(self):
        for protocol in ("tcp", "auto"):
            self.world()
            for peer in self.peers:
                peer.nsd()
            self.start(forward=f"protocol: {protocol}")
            load = self.load("b{}.miss", 600, 500, 6)
            time.sleep(3)
            self.peers[0].drop()
            # From here on by itself: what was asked before would hide what is slow now.
            took, failed = self.finish(self.load("c{}.miss", 200, 500, 3))
            _, failed_before = self.finish(load)
            self.row("blackhole", f"p99 of misses in the next 3 s, {protocol}", p99(took), "ms", 300)
            self.row("blackhole", f"worst of them, {protocol}", max(took) * 1e3, "ms", 5000)
            self.row("blackhole", f"failures, {protocol}", failed + failed_before, "", 0)
            self.clear()

    def stale(self):
        recheck = 5
        self.world(ttl=2)
        for peer in self.peers:
            peer.nsd()
        self.start(rest=f"cache: {{ serveStale: {{ recheck: {recheck}s }} }}")
        names = [f"s{n}.known.cluster.local" for n in range(50)]
        self.each(names)
        fresh, _ = self.finish(self.load("s{}.known", 5, 1000, 2))
        for peer in self.peers:
            peer.drop()
        time.sleep(2.5)
        first = self.each(names)
        # What is there at once, dnsperf measures more exactly.
        then, failed = self.finish(self.load("s{}.known", 5, 1000, 2))
        self.row("stale", "p99 of the first answers", p99([took for took, _ in first]), "ms", 1900)
        self.row("stale", f"p99 of those after (fresh hits: {p99(fresh):.2g} ms)", p99(then), "ms", 1)
        # Long enough for rechecks to fall into it.
        long, failed_long = self.finish(self.load("s{}.known", 5, 1000, 2 * recheck))
        self.row("stale", f"p99 over {2 * recheck} s with rechecks", p99(long), "ms", 1)
        self.row("stale", "failures", failed + failed_long, "", 0)
        self.row("stale", "answers that are not stale", sum(not stale for _, stale in first + self.each(names)), "", 0)
        for peer in self.peers:
            peer.heal()
        begin = time.monotonic()
        while True:
            answer = self.ask("s0.known.cluster.local")
            if answer and not is_stale(answer[1]):
                break
            if time.monotonic() - begin > 60:
                raise Failure("no fresh answer within a minute")
        self.row("stale", f"recovery, recheck {recheck} s", time.monotonic() - begin, "s", recheck)
        self.clear()

    def loss(self):
        self.world(PEERS[:1])
        self.peers[0].nsd()
        self.start(forward="protocol: udp")
        self.peers[0].drop("meta l4proto udp numgen random mod 100 < 30")
        took, failed = self.finish(self.load("l{}.miss", 500, 250, 20))
        share = 100 * sum(seconds <= 5 for seconds in took) / (len(took) + failed)
        self.row("loss", f"answered in 5 s of {len(took) + failed}", share, "%", 99.9, more=True)
        self.clear()

    def slow(self):
        before, beside = [], []
        self.world(PEERS[:1])
        self.peers[0].script()
        self.start()
        for number in range(self.args.rounds):
            before.append(p99(self.finish(self.load(f"r{number}a{{}}.miss", 500, 1000, 5))[0]))
            slow = self.load("slow.miss", 60, 10, 7, clients=1)
            time.sleep(0.5)
            beside.append(p99(self.finish(self.load(f"r{number}b{{}}.miss", 500, 1000, 5))[0]))
            self.finish(slow)
        before, beside = statistics.median(before), statistics.median(beside)
        self.row("slow", f"p99 of others, against {before:.3g} ms before", beside / before, "", 1.1)
        self.clear()

    def herd(self):
        self.world(PEERS[:1])
        self.peers[0].script()
        self.start(rest="cache: { prefetch: { enabled: false } }")
        done = subprocess.run(self.node.command(sys.executable, os.path.abspath(__file__), "--herd"), capture_output=True,
                              text=True, timeout=60)
        hedges = self.metric("nodens_upstream_hedges_total")
        self.stop()
        if done.returncode:
            raise Failure(done.stderr.strip().splitlines()[-1])
        answers = int(done.stdout)
        counts, _ = self.peers[0].server.communicate(timeout=10)
        self.row("herd", f"upstream queries, beside {hedges:.0f} hedges", int(counts) - 1 - hedges, "", 1)
        self.row("herd", "answers of 10000", answers, "", 10_000, more=True)
        self.clear()

    def roll(self):
        for how in ("killed", "dropped"):
            self.world([])
            pods = [[Peer(self, f"10.7.{tag}.{n}", f"pod{tag}{n}") for n in (2, 3)] for tag in (1, 2)]
            self.peers = pods[0] + pods[1]
            for pod in self.peers:
                pod.nsd()
            self.node.sh(f"ip route add default via 10.7.1.2 dev pod12 src {NODE} onlink")
            self.service(pods[0])
            self.start(to=[SERVICE])
            load = self.load("p{}.miss", 5000, 5000, 10)
            time.sleep(4)
            self.service(pods[1])
            for pod in pods[0]:
                pod.kill() if how == "killed" else pod.drop()
            took, failed = self.finish(load)
            self.row("roll", f"errors of {len(took) + failed}, {how}", failed, "", 0)
            self.row("roll", f"worst answer, {how}", max(took) * 1e3, "ms", 5000)
            self.clear()

    def service(self, pods):
        """What kube-proxy makes of a Service with these pods."""
        choice = ", ".join(f"{n} : {pod.ip}" for n, pod in enumerate(pods))
        self.node.sh(f"""nft -f - <<'END'
table ip service
delete table ip service
table ip service {{ chain nat {{ type nat hook output priority -100;
ip daddr {SERVICE} meta l4proto {{ tcp, udp }} dnat to numgen random mod {len(pods)} map {{ {choice} }}; }}; }}
END
""")

    def restart(self):
        self.world(PEERS[:1])
        self.peers[0].nsd()
        path = f"{self.work}/cache"
        rest = f"cache: {{ positive: {{ maxTtl: 300s }}, persist: {{ path: {path}, interval: 1s }} }}"
        self.start(rest=rest)

        def hits():
            hit, missed = (self.metric(f"nodens_cache_{what}_total") for what in ("hits", "misses"))
            self.finish(self.load("k{}.known", 100, 2000, 1))
            hit, missed = (self.metric(f"nodens_cache_{what}_total") - old
                           for what, old in (("hits", hit), ("misses", missed)))
            return hit / (hit + missed)
        self.finish(self.load("k{}.known", 100, 2000, 0, runs=1))
        before = hits()
        time.sleep(2)
        self.stop()
        self.start(rest=rest)
        self.row("restart", f"hits in the first second, against {100 * before:.1f} % before", 100 * hits() / before, "%", 95,
                 more=True)
        self.clear()

    def miss(self):
        if not self.args.before:
            print("  miss: left out, for there is no other binary (--before)")
            return
        figures = {self.args.subject: [], self.args.before: []}
        for number in range(self.args.rounds):
            for binary in sorted(figures, reverse=number % 2 == 0):
                self.world(PEERS[:1])
                self.peers[0].nsd()
                self.start(binary=binary)
                before = self.processor()
                took, failed = self.finish(self.load("m{}.miss", 5000, 8000, 6))
                figures[binary].append((self.processor() - before) * 1e6 / (len(took) + failed))
                self.clear()
        now, then = (statistics.median(figures[binary]) for binary in (self.args.subject, self.args.before))
        self.row("miss", f"CPU per miss ({now:.1f} µs) against before ({then:.1f} µs)", now / then, "", 1.05)

    def processor(self):
        with open(f"/proc/{self.nodens.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def serve(ip):
    """The scripted upstream: in order on each connection; `slow` takes 1.9 s, `herd` 0.15 s after the first time.

    When its input ends it prints how often it was asked for `herd`."""
    herd = 0

    def reply(query):
        nonlocal herd
        label = query[13:13 + query[12]]
        end = query.index(b"\0", 12) + 5
        pause, ttl = 1.9 if label == b"slow" else 0, 0 if label == b"slow" else 300
        if label == b"herd":
            herd, pause, ttl = herd + 1, 0.15 if herd else 0, 1
        answer = b"\xc0\x0c\0\1\0\1" + struct.pack(">IH", ttl, 4) + bytes([10, 9, 9, 9])
        return pause, query[:2] + b"\x85\x80" + b"\0\1\0\1\0\0\0\0" + query[12:end] + answer

    async def connection(reader, writer):
        try:
            while True:
                pause, message = reply(await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big")))
                if pause:
                    await asyncio.sleep(pause)
                writer.write(struct.pack(">H", len(message)) + message)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    class Datagrams(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, address):
            pause, message = reply(data)
            asyncio.get_running_loop().call_later(pause, self.transport.sendto, message, address)

    async def run():
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(Datagrams, local_addr=(ip, 53))
        await asyncio.start_server(connection, ip, 53)
        await loop.run_in_executor(None, sys.stdin.read)
    asyncio.run(run())
    print(herd)


def ask(name, timeout):
    """Prints after how many seconds the reply came, and its octets."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(float(timeout))
        begin = time.perf_counter()
        try:
            s.connect(("127.0.0.1", 53))
            s.send(packet(name))
            reply = s.recv(4096)
        except OSError:
            return
        print(time.perf_counter() - begin, reply.hex())


def each():
    """Asks for the names of its input, and prints of each after how long the answer came and whether it is stale.

    Not by dnsperf, which looks at what is late only every now and then."""
    names, took, sent = sys.stdin.read().split(), {}, {}
    sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(CLIENTS)]
    for n, s in enumerate(sockets):
        s.bind((f"127.0.2.{n + 1}", 0))
        s.connect(("127.0.0.1", 53))
    begin, number = time.perf_counter(), 0
    while len(took) < len(names):
        now = time.perf_counter()
        if number < len(names) and now >= begin + number / 1000:
            sent[number] = now
            sockets[number % CLIENTS].send(packet(names[number], number))
            number += 1
        for s in select.select(sockets, [], [], 0.0002)[0]:
            reply = s.recv(4096)
            which = int.from_bytes(reply[:2], "big")
            if reply[3] & 15 == 0 and reply[7]:
                took[which] = (time.perf_counter() - sent[which], is_stale(reply))
        if now > begin + len(names) / 1000 + 6:
            sys.exit(f"{len(names) - len(took)} of {len(names)} not answered")
    for seconds, stale in took.values():
        print(seconds, stale)


def herd():
    """Has a name expire, asks for it 10,000 times, and prints how many answers with an address came."""
    sockets = []
    for n in range(200):
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        s.bind((f"127.0.1.{n + 1}", 0))
        s.connect(("127.0.0.1", 53))
        sockets.append(s)
    question = packet("herd.miss.cluster.local")
    sockets[0].send(question)
    sockets[0].recv(4096)
    time.sleep(1.3)
    for turn in range(50):
        for s in sockets:
            s.send(question)
    answers, deadline = 0, time.monotonic() + 5
    while answers < 10_000 and time.monotonic() < deadline:
        for s in select.select(sockets, [], [], 0.5)[0]:
            reply = s.recv(4096)
            answers += reply[3] & 15 == 0 and reply[7] == 1
    print(answers)


def get():
    """Prints the page of metrics."""
    with socket.create_connection(("127.0.0.1", 9253), 2) as s:
        s.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        print(b"".join(iter(lambda: s.recv(65536), b"")).decode())


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", f"{HERE}/../target")
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--bars", default="all", help="comma-separated (default: %(default)s)")
    ap.add_argument("--subject", default=f"{target}/release/nodens", help="the binary (default: that of cargo build --release)")
    ap.add_argument("--before", help="an older binary, for miss")
    ap.add_argument("--rounds", type=int, default=3, help="of slow and miss (default: %(default)s)")
    ap.add_argument("--check", action="store_true", help="say whether all that is needed is there, and stop")
    args = ap.parse_args()
    args.bars = BARS if args.bars == "all" else args.bars.split(",")
    for name in args.bars:
        if name not in BARS:
            ap.error(f"{name} is none of {', '.join(BARS)}")
    args.subject = os.path.abspath(args.subject)
    return args


def main():
    own = {"--serve": serve, "--ask": ask, "--each": each, "--herd": herd, "--get": get}
    if len(sys.argv) > 1 and sys.argv[1] in own:
        return own[sys.argv[1]](*sys.argv[2:])
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    bench = Bench(args)
    try:
        for name in PACKAGES:
            tool(name)
        for binary in filter(None, (args.subject, args.before)):
            if not os.access(binary, os.X_OK):
                raise Failure(f"{binary} is not there: cargo build --release, or name it with --subject")
        if os.geteuid() != 0:
            raise Failure("network namespaces take root")
        if args.check:
            print("all that is needed is there")
            return 0
        for bar in args.bars:
            print(bar, flush=True)
            try:
                getattr(bench, bar)()
            except Failure as failure:
                bench.rows.append((bar, str(failure).splitlines()[0][:60], "-", "-", "NOT MEASURED"))
                print(f"  {failure}", flush=True)
                bench.clear()
    except Failure as failure:
        print(f"failures: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        bench.clear()
        shutil.rmtree(bench.work, ignore_errors=True)
    widths = [max(len(row[i]) for row in bench.rows + [("bar", "figure", "value", "wanted", "")]) for i in range(5)] if bench.rows else []
    print()
    for row in [("bar", "figure", "value", "wanted", "")] * bool(bench.rows) + bench.rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    return int(any(row[4] != "met" for row in bench.rows))


if __name__ == "__main__":
    sys.exit(main())
