#!/usr/bin/env python3
"""What a query costs nodens and its peers, side by side on this machine.

Each server in turn is started on loopback with one CPU to itself, checked to give the right answer, driven with
dnsperf, and stopped; rounds are interleaved and medians shown with their spread. All servers forward cluster.local to
one nsd, over TCP where they can. Compare only within one run, and quote ratios: `echo` is the floor (a UDP echo).

  hits     UDP, 1000 names, all cached, as fast as it goes        CPU per query
  idle     the same at 20,000 queries a second                    CPU per query
  tcp      hits over 20 TCP connections, pipelined                CPU per query
  miss     names never asked before                               CPU per query
  quota    hits under a CPU quota (needs root)                    queries per second
  memory   100,000 A records in the cache                         bytes per entry
  flood    1,000,000 unique names                                 peak resident memory
  startup  from exec to the first answer                          milliseconds

Needs Debian's dnsperf, nsd and gcc; unbound, dnsdist and knot-resolver for the peers of these names. Only `quota`
needs root. Example:  cargo build --release && benches/side_by_side.py --modes hits,miss,tcp
"""
import argparse, os, re, shutil, signal, socket, statistics, struct, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
MODES = ["hits", "idle", "tcp", "miss", "quota", "memory", "flood", "startup"]
UPSTREAM = ("127.0.0.1", 5454)
PORT = 5355
ENTRIES, FLOOD = 100_000, 1_000_000
PACKAGES = {"dnsperf": "dnsperf", "nsd": "nsd", "gcc": "gcc", "unbound": "unbound", "dnsdist": "dnsdist", "kresd": "knot-resolver"}
# For each mode: unit, whether less is better, format, and whether the echo can take part.
METRIC = {
    "hits": ("us CPU/query", True, "{:.2f}", True),
    "idle": ("us CPU/query", True, "{:.2f}", True),
    "tcp": ("us CPU/query", True, "{:.2f}", False),
    "miss": ("us CPU/query", True, "{:.2f}", False),
    "quota": ("queries/s", False, "{:.0f}", True),
    "memory": ("bytes/entry", True, "{:.0f}", False),
    "flood": ("MiB peak RSS", True, "{:.1f}", False),
    "startup": ("ms to answer", True, "{:.1f}", False),
}


class Failure(Exception):
    """What the user has to know, as one sentence."""


def write(path, text):
    with open(path, "w") as f:
        f.write(text)


def tool(name):
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if not path:
        raise Failure(f"{name} is not installed: apt-get install {PACKAGES[name]}"
                      + (", or leave it out with --peers" if name in ("unbound", "dnsdist", "kresd") else ""))
    return path


class Server:
    """A program to measure: its command, where it answers, and a remark on how it is set up."""

    def __init__(self, name, command, ip, note=""):
        self.name, self.command, self.ip, self.note = name, command, ip, note
        self.process = None

    def start(self, work, cpus):
        """Starts it on `cpus` and waits for its first answer; returns how many seconds that took."""
        mine = os.sched_getaffinity(0)
        with open(f"{work}/{self.name}.log", "w") as log:
            os.sched_setaffinity(0, cpus)  # the child inherits it
            try:
                begin = time.perf_counter()
                self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=work,
                                                start_new_session=True)
            finally:
                os.sched_setaffinity(0, mine)
        while not (ask(self.ip, "svc-1.ns-1.svc.cluster.local", 0.002)):
            if self.process.poll() is not None or time.perf_counter() - begin > 15:
                with open(f"{work}/{self.name}.log") as log:
                    raise Failure(f"{self.name} did not start: {log.read()[-400:].strip() or 'it says nothing'}")
        return time.perf_counter() - begin

    def stop(self):
        if self.process:
            stop(self.process)

    def pids(self):
        """The process and all its descendants."""
        children = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                children.setdefault(stat(entry)[1], []).append(int(entry))
            except OSError:
                pass
        found = [self.process.pid]
        for pid in found:
            found += children.get(str(pid), [])
        return found

    def cpu_seconds(self):
        return sum(int(f[11]) + int(f[12]) for f in map(stat, self.pids())) / os.sysconf("SC_CLK_TCK")

    def resident(self, field="VmRSS"):
        """MiB of all processes; VmHWM is the highest it ever was."""
        total = 0
        for pid in self.pids():
            with open(f"/proc/{pid}/status") as f:
                total += sum(int(line.split()[1]) for line in f if line.startswith(field + ":"))
        return total / 1024


def stop(process):
    """Ends a process that leads a session of its own, and whatever it has started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(8)
        except subprocess.TimeoutExpired:
            pass
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def stat(pid):
    """The fields of /proc/PID/stat from the state on."""
    with open(f"/proc/{pid}/stat") as f:
        return f.read().rsplit(")", 1)[1].split()


def ask(ip, name, timeout, port=PORT):
    """The reply to an A query over UDP, or None."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(timeout)
        try:
            s.connect((ip, port))
            s.send(struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1")
            return s.recv(4096)
        except OSError:
            return None


def check_answer(server):
    """Same work for all: the right address must be in the answer."""
    for i in (1, 500, 999):
        reply = ask(server.ip, f"svc-{i}.ns-{i % 50}.svc.cluster.local", 2)
        if not reply or bytes([10, 100, i // 256, i % 256]) not in reply:
            raise Failure(f"{server.name} does not answer svc-{i} with 10.100.{i // 256}.{i % 256}")


class Bench:
    def __init__(self, args):
        self.args = args
        self.dnsperf_path = tool("dnsperf")
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) < 2:
            raise Failure("at least two CPUs are needed: one for the server, one for the load")
        self.server_cpu, self.load_cpu, self.upstream_cpu = {cpus[0]}, {cpus[1]}, {cpus[-1]}
        self.work = tempfile.mkdtemp(prefix="side-by-side-")
        self.upstream, self.group, self.current = None, None, None

    def close(self):
        if self.current:
            self.current.stop()
        if self.upstream:
            stop(self.upstream)
        if self.group:
            try:
                os.rmdir(self.group)
            except OSError as e:
                print(f"cannot remove {self.group}: {e}", file=sys.stderr)
        shutil.rmtree(self.work, ignore_errors=True)

    def prepare(self):
        """The upstream's zone, the query files, the upstream itself."""
        zone = ["$ORIGIN cluster.local.", "$TTL 300", "@ SOA ns.dns hostmaster 1 7200 1800 86400 300",
                "@ NS ns.dns", "ns.dns A 127.0.0.1", "*.flood.svc A 10.9.9.9"]
        zone += [f"svc-{i}.ns-{i % 50}.svc A 10.100.{i // 256}.{i % 256}" for i in range(1000)]
        zone += [f"m{i}.mem.svc A 10.9.{i // 256 % 256}.{i % 256}" for i in range(ENTRIES)]
        write(f"{self.work}/zone.db", "\n".join(zone) + "\n")
        names = {"hits": (1000, lambda i: f"svc-{i}.ns-{i % 50}"), "miss": (FLOOD, lambda i: f"u{i}.nope"),
                 "memory": (ENTRIES, lambda i: f"m{i}.mem"), "flood": (FLOOD, lambda i: f"f{i}.flood")}
        for file, (count, name) in names.items():
            if file == "hits" or file in self.args.modes:
                write(f"{self.work}/{file}", "".join(f"{name(i)}.svc.cluster.local A\n" for i in range(count)))
        write(f"{self.work}/nsd.conf", f"""server:
  ip-address: {UPSTREAM[0]}@{UPSTREAM[1]}
  server-count: 1
  username: ""
  chroot: ""
  zonesdir: "{self.work}"
  database: ""
  pidfile: "{self.work}/nsd.pid"
  xfrdfile: "{self.work}/xfrd"
  zonelistfile: "{self.work}/zonelist"
  tcp-count: 1000
  rrl-ratelimit: 0
remote-control:
  control-enable: no
zone:
  name: cluster.local
  zonefile: zone.db
""")
        if ask(*UPSTREAM[:1], "cluster.local", 0.1, UPSTREAM[1]):
            raise Failure(f"something answers on {UPSTREAM[0]}:{UPSTREAM[1]} already")
        with open(f"{self.work}/nsd.log", "w") as log:
            self.upstream = subprocess.Popen([tool("nsd"), "-d", "-c", f"{self.work}/nsd.conf"], stdout=log, stderr=log,
                                             start_new_session=True)
        os.sched_setaffinity(self.upstream.pid, self.upstream_cpu)
        deadline = time.monotonic() + 15
        while not ask(UPSTREAM[0], "svc-1.ns-1.svc.cluster.local", 0.1, UPSTREAM[1]):
            if self.upstream.poll() is not None or time.monotonic() > deadline:
                with open(f"{self.work}/nsd.log") as log:
                    raise Failure(f"nsd did not start: {log.read()[-400:]}")

    def servers(self):
        """nodens (or what --subject says) and the peers."""
        found = []
        for name in self.args.peers:
            found.append(getattr(self, f"peer_{name}")())
        found.append(self.subject())
        return found

    def subject(self):
        if self.args.subject:
            return Server("subject", self.args.subject.split(), self.args.address)
        if not os.access(self.args.nodens, os.X_OK):
            raise Failure(f"{self.args.nodens} is not there: cargo build --release, or name it with --nodens")
        self.configure("64Mi")
        return Server("nodens", [os.path.abspath(self.args.nodens), "serve", "--config", f"{self.work}/nodens.yaml"],
                      "127.0.0.2", "64 MiB cache (memory: 256)")

    def configure(self, size):
        write(f"{self.work}/nodens.yaml", f"""listen: {{ addresses: [127.0.0.2], port: {PORT} }}
cache: {{ maxBytes: {size}, positive: {{ maxTtl: 300s }}, negative: {{ maxTtl: 300s }} }}
zones:
  - match: [.]
    forward: {{ to: ["{UPSTREAM[0]}:{UPSTREAM[1]}"], protocol: tcp }}
metrics: {{ listen: ["127.0.0.2:9253"] }}
health: {{ listen: "127.0.0.2:8080" }}
""")

    def peer_echo(self):
        subprocess.run([tool("gcc"), "-O2", "-o", f"{self.work}/echo", f"{HERE}/echo.c"], check=True, timeout=60)
        return Server("echo", [f"{self.work}/echo", "127.0.0.9", str(PORT)], "127.0.0.9")

    def peer_unbound(self):
        write(f"{self.work}/unbound.conf", f"""server:
  interface: 127.0.0.3@{PORT}
  num-threads: 1
  do-daemonize: no
  username: ""
  chroot: ""
  pidfile: ""
  directory: "{self.work}"
  use-syslog: no
  verbosity: 0
  module-config: "iterator"
  do-not-query-localhost: no
  access-control: 127.0.0.0/8 allow
  msg-cache-size: 128m
  rrset-cache-size: 256m
  incoming-num-tcp: 100
  so-rcvbuf: 4m
  so-sndbuf: 4m
  minimal-responses: yes
  domain-insecure: "cluster.local"
forward-zone:
  name: "cluster.local."
  forward-addr: {UPSTREAM[0]}@{UPSTREAM[1]}
  forward-tcp-upstream: yes
remote-control:
  control-enable: no
""")
        return Server("unbound", [tool("unbound"), "-c", f"{self.work}/unbound.conf", "-d"], "127.0.0.3", "384 MiB cache")

    def peer_dnsdist(self):
        write(f"{self.work}/dnsdist.conf", f"""setLocal("127.0.0.4:{PORT}", {{}})
setACL({{"127.0.0.0/8"}})
newServer({{address="{UPSTREAM[0]}:{UPSTREAM[1]}", tcpOnly=true, checkName="cluster.local."}})
getPool(""):setCache(newPacketCache(120000, {{maxTTL=300, minTTL=0}}))
setSecurityPollSuffix("")
""")
        command = [tool("dnsdist"), "-C", f"{self.work}/dnsdist.conf", "--supervised", "--disable-syslog"]
        return Server("dnsdist", command, "127.0.0.4", "120,000 entries")

    def peer_kresd(self):
        os.makedirs(f"{self.work}/kresd", exist_ok=True)
        write(f"{self.work}/kresd.conf", f"""net.listen('127.0.0.5', {PORT})
modules.unload('ta_update'); modules.unload('ta_signal_query'); modules.unload('priming')
modules.unload('detect_time_skew'); modules.unload('detect_time_jump')
trust_anchors.remove('.')
cache.size = 100*MB
policy.add(policy.all(policy.FORWARD({{'{UPSTREAM[0]}@{UPSTREAM[1]}'}})))
""")
        command = [tool("kresd"), "-n", "-c", f"{self.work}/kresd.conf", f"{self.work}/kresd"]
        return Server("kresd", command, "127.0.0.5", "100 MB cache file; misses over udp")

    def load(self, server, file, seconds, *options):
        """Runs dnsperf for at most `seconds`; returns what it saw."""
        command = [self.dnsperf_path, "-s", server.ip, "-p", PORT, "-d", f"{self.work}/{file}", "-T", 1, "-t", 2,
                   "-l", seconds, *options]
        out = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=seconds + 30,
                             preexec_fn=lambda: os.sched_setaffinity(0, self.load_cpu)).stdout

        def number(pattern):
            found = re.search(pattern, out)
            return float(found.group(1)) if found else 0.0
        result = {"qps": number(r"Queries per second:\s+([\d.]+)"), "done": number(r"Queries completed:\s+(\d+)"),
                  "lost": number(r"Queries lost:\s+(\d+)"), "latency": number(r"Average Latency \(s\):\s+([\d.]+)") * 1e6}
        if not result["done"]:
            raise Failure(f"{server.name} answered nothing that dnsperf asked")
        return result

    def measure(self, mode, server):
        """One figure for the table, and a dictionary of what else was seen."""
        started = server.start(self.work, self.server_cpu)
        if server.name != "echo":
            check_answer(server)
        seconds = self.args.seconds
        if mode == "startup":
            return started * 1e3, {}
        if mode == "memory":
            before = server.resident()
            for _ in range(2):  # the second pass asks again for what the first one lost
                seen = self.load(server, "memory", 60, "-n", 1, "-q", 50)
            after = server.resident()
            return (after - before) * 1048576 / ENTRIES, {"idle MiB": before, "full MiB": after, "% held": self.held(server)}
        if mode == "flood":
            idle = server.resident()
            seen = self.load(server, "flood", 180, "-n", 1, "-q", 100, "-c", 20)
            return server.resident("VmHWM"), {"idle MiB": idle, "answered": seen["done"], "lost": seen["lost"]}
        if mode == "quota":
            self.load(server, "hits", 1, "-q", 50)
            self.confine(server)
            seen = self.load(server, "hits", seconds, "-q", 20)
            return seen["qps"], {"us latency": seen["latency"], "lost": seen["lost"]}
        options = {"hits": ["-q", 200, "-c", 20], "tcp": ["-q", 200, "-c", 20, "-m", "tcp"],
                   "idle": ["-q", 100, "-c", 20, "-Q", 20000], "miss": ["-q", 100, "-c", 20]}[mode]
        if mode != "miss":
            self.load(server, "hits", 2, *options)
        before = server.cpu_seconds()
        seen = self.load(server, "miss" if mode == "miss" else "hits", seconds, *options)
        spent = server.cpu_seconds() - before
        return 1e6 * spent / seen["done"], {"q/s": seen["qps"], "us latency": seen["latency"], "lost": seen["lost"],
                                           "MiB": server.resident()}

    def held(self, server):
        """How many of a hundred names of `memory` it can answer while the upstream is silent."""
        os.kill(self.upstream.pid, signal.SIGSTOP)
        try:
            names = range(0, ENTRIES, ENTRIES // 100)
            return sum(ask(server.ip, f"m{i}.mem.svc.cluster.local", 0.05) is not None for i in names)
        finally:
            os.kill(self.upstream.pid, signal.SIGCONT)

    def confine(self, server):
        """Puts all threads of the server into a control group with the quota, version 1 or 2."""
        milli = self.args.quota
        try:
            if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
                self.group, limit, tasks = "/sys/fs/cgroup/nodens-side-by-side", "cpu.max", "cgroup.procs"
                write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu")
                os.makedirs(self.group, exist_ok=True)
                write(f"{self.group}/{limit}", f"{milli * 100} 100000")
                members = server.pids()
            else:
                self.group, tasks = "/sys/fs/cgroup/cpu/nodens-side-by-side", "tasks"
                os.makedirs(self.group, exist_ok=True)
                write(f"{self.group}/cpu.cfs_period_us", "100000")
                write(f"{self.group}/cpu.cfs_quota_us", str(milli * 100))
                members = [task for pid in server.pids() for task in os.listdir(f"/proc/{pid}/task")]
            for member in members:
                write(f"{self.group}/{tasks}", str(member))
        except OSError as e:
            self.group = self.group if self.group and os.path.isdir(self.group) else None
            raise Failure(f"cannot set a CPU quota (root and a writable /sys/fs/cgroup are needed): {e}")

    def run(self, mode, servers):
        """All rounds of one mode, then its table."""
        servers = [s for s in servers if METRIC[mode][3] or s.name != "echo"]
        rounds = 1 if mode in ("memory", "flood") else self.args.rounds
        self.configure("256Mi" if mode == "memory" else "64Mi")
        figures = {s.name: [] for s in servers}
        for number in range(rounds):
            turn = number % len(servers)
            for server in servers[turn:] + servers[:turn]:
                self.current = server
                try:
                    figure, seen = self.measure(mode, server)
                    figures[server.name].append(figure)
                    rest = "".join(f"  {k} {v:.0f}" for k, v in seen.items())
                    print(f"  {mode} {number + 1}/{rounds} {server.name:8s} " + METRIC[mode][2].format(figure)
                          + f" {METRIC[mode][0]}{rest}", flush=True)
                except Failure as failure:
                    print(f"  {mode} {number + 1}/{rounds} {server.name:8s} {failure}", flush=True)
                finally:
                    server.stop()
        table(mode, servers, figures)


def table(mode, servers, figures):
    unit, less_is_better, form, _ = METRIC[mode]
    medians = {name: statistics.median(values) for name, values in figures.items() if values}
    peers = [v for name, v in medians.items() if name not in ("echo", "nodens", "subject")]
    best = (min if less_is_better else max)(peers, default=None)

    def ratio(value, to):
        return f"{value / to:.2f}" if to else "-"
    print(f"\n{mode}: {unit}, {'less' if less_is_better else 'more'} is better")
    print(f"{'server':10s}{'median':>10s}{'spread':>20s}{'to echo':>10s}{'to best peer':>14s}  set-up")
    for server in servers:
        values = figures[server.name]
        if not values:
            print(f"{server.name:10s}{'-':>10s}")
            continue
        median = medians[server.name]
        spread = form.format(min(values)) + " to " + form.format(max(values)) if len(values) > 1 else ""
        print(f"{server.name:10s}{form.format(median):>10s}{spread:>20s}{ratio(median, medians.get('echo')):>10s}"
              f"{ratio(median, best):>14s}  {server.note}")
    print(flush=True)


def arguments():
    target = os.environ.get("CARGO_TARGET_DIR", f"{HERE}/../target")
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--modes", default="hits,tcp,miss", help="comma-separated, or all (default: %(default)s)")
    ap.add_argument("--peers", default="echo,unbound,dnsdist,kresd", help="comma-separated (default: %(default)s)")
    ap.add_argument("--rounds", type=int, default=3, help="default: %(default)s; memory and flood are run once")
    ap.add_argument("--seconds", type=int, default=6, help="of load per measurement (default: %(default)s)")
    ap.add_argument("--quota", type=int, default=100, help="thousandths of a CPU, for quota (default: %(default)s)")
    ap.add_argument("--nodens", default=f"{target}/release/nodens",
                    help="the binary (default: that of cargo build --release)")
    ap.add_argument("--subject", help=f"another command to measure instead; it must forward cluster.local to "
                                      f"{UPSTREAM[0]}:{UPSTREAM[1]} and stay in the foreground")
    ap.add_argument("--address", default="127.0.0.2", help=f"where --subject answers, port {PORT}")
    ap.add_argument("--check", action="store_true", help="say whether all that is needed is there, and stop")
    args = ap.parse_args()
    args.modes = MODES if args.modes == "all" else args.modes.split(",")
    args.peers = [peer for peer in args.peers.split(",") if peer]
    for given, known in ((args.modes, MODES), (args.peers, ["echo", "unbound", "dnsdist", "kresd"])):
        for name in given:
            if name not in known:
                ap.error(f"{name} is none of {', '.join(known)}")
    if args.rounds < 1 or args.seconds < 1 or not 1 <= args.quota <= 1000:
        ap.error("rounds and seconds must be at least 1, the quota 1 to 1000")
    return args


def main():
    args = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    bench = None
    try:
        bench = Bench(args)
        servers = bench.servers()
        tool("nsd")
        if args.check:
            print("all that is needed is there")
            return 0
        runs = sum(1 if m in ("memory", "flood") else args.rounds for m in args.modes) * len(servers)
        print(f"{runs} measurements, some {runs * (args.seconds + 5) // 60 + 1} minutes", flush=True)
        bench.prepare()
        for mode in args.modes:
            bench.run(mode, servers)
    except Failure as failure:
        print(f"side_by_side: {failure}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        if bench:
            bench.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
