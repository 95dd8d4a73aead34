//! Rows G2 and G18 of the behaviour table, and node-cache's rules, where iptables writes ours: in network namespaces,
//! for both backends and both families, with packets.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use nodens::network::iptables::{Backend, Error, Guard, Iptables};
use nodens::network::{Match, PROBE_V4, PROBE_V6};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use support::DEADLINE;
use support::process::{can_run, skip};

/// Names the iptables to be used, for a test that was started again in namespaces of its own.
const INSIDE: &str = "NODENS_TEST_IPTABLES";

/// The two backends.
const BOTH: [&str; 2] = ["iptables-nft", "iptables-legacy"];

/// Runs the test `name` again for each backend, where the network and `/run`, and with that the xtables lock, are its
/// own; there `body` runs.
fn with_each(name: &str, body: impl Fn(&str)) {
    if let Ok(program) = std::env::var(INSIDE) {
        return body(&program);
    }
    let unshare = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    for tool in ["unshare", "ip", "iptables-nft", "iptables-legacy", "conntrack"] {
        if !can_run(tool) {
            return;
        }
    }
    if !Command::new("unshare").args(unshare).arg("true").output().unwrap().status.success() {
        return skip("needs root: namespaces");
    }
    for program in BOTH {
        let mut command = Command::new("unshare");
        command.args(unshare).args(["sh", "-c", "mount -t tmpfs none /run && ip link set lo up && exec \"$0\" \"$@\""]);
        command.arg(std::env::current_exe().unwrap()).args([name, "--exact", "--nocapture", "--test-threads=1"]);
        let output = command.env(INSIDE, program).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "with {program}:\n{text}");
    }
}

/// Runs a command line and returns what it writes; it must succeed.
fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// `ip6tables-nft` for `iptables-nft`.
fn sixth(program: &str) -> String {
    program.replacen("ip", "ip6", 1)
}

/// The other of [`BOTH`].
fn other(program: &str) -> &'static str {
    if program == BOTH[0] { BOTH[1] } else { BOTH[0] }
}

/// The rules of both families in the order in which they are tried, each with its family and table.
fn rules(program: &str) -> Vec<String> {
    let mut found = Vec::new();
    for program in [program, &sixth(program)] {
        for table in ["raw", "filter", "nat"] {
            let saved = run(&format!("{program}-save -t {table} 2>/dev/null"));
            let rules = saved.lines().filter(|line| line.starts_with("-A "));
            found.extend(rules.map(|rule| format!("{program} -t {table} {rule}")));
        }
    }
    found
}

/// As many rules of each kind, whatever their order.
fn sorted(mut rules: Vec<String>) -> Vec<String> {
    rules.sort_unstable();
    rules
}

const LOCAL_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 20, 10));
const LOCAL_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd00, 0x6e6f, 0, 0, 0, 0, 0, 0xa));

fn dual() -> Match {
    Match { addresses: vec![LOCAL_V4, LOCAL_V6], port: 53, health: Some(SocketAddr::new(LOCAL_V4, 8080)) }
}

/// Rules as others write them, in all tables and both families.
fn foreign(program: &str) -> Vec<String> {
    for program in [program, &sixth(program)] {
        run(&format!(
            "{program} -t raw -A PREROUTING -p udp --dport 53 -m comment --comment \"it's nodens: ours\" -j ACCEPT"
        ));
        run(&format!("{program} -t filter -A INPUT -p tcp --dport 22 -j ACCEPT"));
        run(&format!(
            "{program} -t nat -N THEIRS && {program} -t nat -A PREROUTING -m comment --comment 'a b' -j THEIRS"
        ));
    }
    rules(program)
}

/// Writes node-cache's twelve rules for `address` as it does.
fn node_cache(program: &str, address: IpAddr) {
    let program = if address.is_ipv4() { program.to_owned() } else { sixth(program) };
    let insert = |table: &str, chain: &str, packets: &str| {
        let (what, target) =
            if table == "raw" { ("skip conntrack", "NOTRACK") } else { ("allow DNS traffic", "ACCEPT") };
        let comment = format!("-m comment --comment 'NodeLocal DNS Cache: {what}'");
        run(&format!("{program} -w 5 -I {chain} -t {table} {packets} -j {target} {comment}"));
    };
    for protocol in ["tcp", "udp"] {
        insert("raw", "PREROUTING", &format!("-p {protocol} -d {address} --dport 53"));
        insert("filter", "INPUT", &format!("-p {protocol} -d {address} --dport 53"));
        insert("raw", "OUTPUT", &format!("-p {protocol} -s {address} --sport 53"));
        insert("filter", "OUTPUT", &format!("-p {protocol} -s {address} --sport 53"));
        insert("raw", "OUTPUT", &format!("-p {protocol} -d {address} --dport 53"));
    }
    insert("raw", "OUTPUT", &format!("-p tcp -d {address} --dport 8080"));
    insert("raw", "OUTPUT", &format!("-p tcp -s {address} --sport 8080"));
}

#[test]
fn rules_are_those_of_node_cache_and_replace_them() {
    with_each("rules_are_those_of_node_cache_and_replace_them", |program| {
        let iptables = Iptables::with(program).unwrap();
        let backend = if program == BOTH[0] { Backend::Nft } else { Backend::Legacy };
        assert_eq!(iptables.backend(), backend);
        node_cache(program, LOCAL_V4);
        let theirs: Vec<String> =
            rules(program).iter().map(|rule| rule.replace("NodeLocal DNS Cache:", "nodens:")).collect();
        assert_eq!(theirs.len(), 12);

        let before = foreign(program);
        let planned = iptables.remove_node_cache(true).unwrap();
        assert_eq!(rules(program), before, "a dry run changes nothing");
        assert_eq!(iptables.remove_node_cache(false).unwrap(), planned);
        assert_eq!(planned.len(), 12);
        assert!(planned[0].starts_with(&format!("{program} -t raw -D ")), "{}", planned[0]);

        let of = Match { addresses: vec![LOCAL_V4], ..dual() };
        assert!(iptables.keep(&of).unwrap() && iptables.capture(&of, Guard::None).unwrap());
        let ours: BTreeSet<String> = rules(program).into_iter().collect();
        let missing: Vec<&String> = theirs.iter().filter(|rule| !ours.contains(*rule)).collect();
        assert!(missing.is_empty(), "{missing:#?}\n{ours:#?}");
        assert!(!ours.iter().any(|rule| rule.contains("NodeLocal")));
    });
}

#[test]
fn leftovers_of_the_other_backend_are_found() {
    with_each("leftovers_of_the_other_backend_are_found", |program| {
        node_cache(other(program), LOCAL_V4);
        node_cache(other(program), LOCAL_V6);
        let predecessor = Iptables::with(other(program)).unwrap();
        predecessor.keep(&dual()).unwrap();
        predecessor.standing_replace(&dual(), &["10.0.0.1:53".parse().unwrap()]).unwrap();
        let iptables = Iptables::with(program).unwrap();
        assert_eq!(iptables.remove_node_cache(false).unwrap().len(), 24);
        assert!(!iptables.remove_ours(false).unwrap().is_empty());
        assert_eq!(rules(other(program)), [""; 0]);
        assert_eq!(iptables.remove_ours(false).unwrap(), [""; 0]);
    });
}

#[test]
fn starts_leave_nothing_twice_and_stops_nothing_of_ours() {
    with_each("starts_leave_nothing_twice_and_stops_nothing_of_ours", |program| {
        let before = foreign(program);
        let of = dual();
        let endpoints: Vec<SocketAddr> =
            ["10.0.0.1:53", "10.0.0.2:53", "10.0.0.3:53", "[fd00::1]:53"].map(|e| e.parse().unwrap()).into();
        for guard in [Guard::None, Guard::Local, Guard::Socket] {
            let start = || {
                let iptables = Iptables::with(program).unwrap();
                let changed =
                    [iptables.keep(&of), iptables.capture(&of, guard), iptables.standing_replace(&of, &endpoints)];
                changed.map(Result::unwrap)
            };
            assert!(start()[1]);
            let once = rules(program);
            assert_eq!(once.iter().collect::<BTreeSet<_>>().len(), once.len(), "{once:#?}");
            assert_eq!(start(), [false; 3]);
            assert_eq!(rules(program), once);
        }
        let iptables = Iptables::with(program).unwrap();
        assert_eq!(iptables.standing_endpoints().unwrap(), endpoints);
        assert!(iptables.standing_replace(&of, &endpoints[1..2]).unwrap());
        assert_eq!(iptables.standing_endpoints().unwrap(), endpoints[1..2]);
        assert!(iptables.standing_remove().unwrap() && !iptables.standing_remove().unwrap());
        assert_eq!(iptables.standing_endpoints().unwrap(), []);
        iptables.standing_replace(&of, &endpoints).unwrap();
        let planned = iptables.remove_ours(true).unwrap();
        assert!(planned.contains(&format!("{program} -t nat -X NODENS-FAILOPEN")), "{planned:#?}");
        assert_eq!(iptables.remove_ours(false).unwrap(), planned);
        assert_eq!(rules(program), before);
        assert!(!run(&format!("{program}-save -t nat")).contains("NODENS"));
    });
}

#[test]
fn g18_what_others_flush_is_missed_and_restored() {
    with_each("g18_what_others_flush_is_missed_and_restored", |program| {
        foreign(program);
        let iptables = Iptables::with(program).unwrap();
        let of = dual();
        let guard = Guard::Local;
        let write = || {
            let changed = iptables.keep(&of).unwrap() | iptables.capture(&of, guard).unwrap();
            assert!(changed && iptables.intact(&of, guard, true).unwrap());
        };
        assert!(!iptables.intact(&of, guard, false).unwrap());
        write();
        let whole = rules(program);
        for flush in ["-F -t raw", "-F -t filter", "-t raw -D PREROUTING 1"] {
            for program in [program, &sixth(program)] {
                run(&format!("{program} {flush}"));
                assert!(!iptables.intact(&of, guard, true).unwrap(), "{program} {flush}");
                write();
            }
        }
        let ours = |rules: Vec<String>| sorted(rules.into_iter().filter(|r| r.contains("\"nodens: ")).collect());
        assert_eq!(ours(rules(program)), ours(whole));

        assert!(iptables.release(&of).unwrap() && !iptables.release(&of).unwrap());
        assert!(iptables.intact(&of, guard, false).unwrap(), "what is kept is left");
        assert!(!iptables.intact(&of, guard, true).unwrap());
    });
}

#[test]
fn g02_a_held_lock_is_told_apart_and_not_waited_for_long() {
    with_each("g02_a_held_lock_is_told_apart_and_not_waited_for_long", |program| {
        let mut iptables = Iptables::with(program).unwrap();
        iptables.keep(&dual()).unwrap();
        let lock = File::create("/run/xtables.lock").unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        iptables.set_patience(Duration::from_secs(1));
        let begin = Instant::now();
        let captured = iptables.capture(&dual(), Guard::None);
        if iptables.backend() == Backend::Legacy {
            let error = captured.unwrap_err();
            assert!(matches!(error, Error::Locked { .. }), "{error}");
            assert_eq!(error.name(), "iptables_lock");
            // Once for each family.
            assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
            drop(lock);
            assert!(iptables.capture(&dual(), Guard::None).unwrap());
        } else {
            assert!(captured.unwrap(), "nftables has no such lock");
        }
    });
}

#[test]
fn policies_that_drop_are_found_in_both_backends() {
    with_each("policies_that_drop_are_found_in_both_backends", |program| {
        let iptables = Iptables::with(program).unwrap();
        run(&format!("{program} -P FORWARD DROP"));
        assert_eq!(iptables.dropping().unwrap(), [""; 0]);
        run(&format!("{program} -P INPUT DROP"));
        run(&format!("{} -P OUTPUT DROP", sixth(other(program))));
        assert_eq!(iptables.dropping().unwrap(), ["ip filter INPUT", "ip6 filter OUTPUT"]);
        run(&format!("{} -P INPUT DROP", other(program)));
        assert_eq!(iptables.dropping().unwrap(), ["ip filter INPUT", "ip6 filter OUTPUT"]);
        let before = rules(program);
        assert!(iptables.accept(&dual()).unwrap() && !iptables.accept(&dual()).unwrap());
        assert_eq!(before, [""; 0]);
        assert!(rules(program).iter().all(|rule| rule.ends_with("\"nodens: allow DNS traffic\" -j ACCEPT")));
        assert_eq!(rules(program).len(), 8);
    });
}

#[test]
fn reading_loads_no_tables() {
    with_each("reading_loads_no_tables", |program| {
        let iptables = Iptables::with(program).unwrap();
        iptables.dropping().unwrap();
        iptables.standing_endpoints().unwrap();
        iptables.remove_ours(false).unwrap();
        iptables.remove_node_cache(false).unwrap();
        assert!(!iptables.release(&dual()).unwrap());
        for names in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
            assert_eq!(fs::read_to_string(names).unwrap(), "");
        }
    });
}

#[test]
fn a_table_that_iptables_cannot_show_is_not_written_to() {
    with_each("a_table_that_iptables_cannot_show_is_not_written_to", |program| {
        if program == BOTH[1] || !can_run("nft") {
            return;
        }
        node_cache(program, LOCAL_V4);
        run(
            "iptables-nft -t nat -P INPUT ACCEPT && nft add rule ip nat INPUT fib saddr type local limit rate 3/second log",
        );
        let iptables = Iptables::with(program).unwrap();
        assert_eq!(iptables.remove_node_cache(false).unwrap().len(), 12, "no concern of its");
        run("nft add rule ip filter INPUT fib saddr type local limit rate 3/second log");
        let error = iptables.keep(&dual()).unwrap_err();
        assert!(matches!(&error, Error::Unreadable { table, .. } if table == "filter"), "{error}");
        assert!(iptables.intact(&dual(), Guard::None, false).is_err());
        assert!(rules(program).iter().any(|rule| rule.contains("--sport 53")), "the raw table is written to");
        assert!(!run("nft list table ip filter").contains("dport 53"));
    });
}

/// What a server at `addresses` port 53 says to everybody, over UDP and TCP; all its sockets close when it is dropped.
struct Speaker {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Speaker {
    /// Starts in the current network namespace.
    fn start(addresses: &[IpAddr], word: &'static str) -> Speaker {
        let stop = Arc::new(AtomicBool::new(false));
        let mut threads = Vec::new();
        for &address in addresses {
            let udp = UdpSocket::bind((address, 53)).unwrap();
            udp.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
            let tcp = TcpListener::bind((address, 53)).unwrap();
            tcp.set_nonblocking(true).unwrap();
            let stop = Arc::clone(&stop);
            threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((_, from)) = udp.recv_from(&mut [0; 16]) {
                        udp.send_to(word.as_bytes(), from).unwrap();
                    }
                    if let Ok((mut stream, _)) = tcp.accept() {
                        stream.set_read_timeout(Some(DEADLINE)).unwrap();
                        let _ = stream.read(&mut [0; 1]);
                        let _ = stream.write_all(word.as_bytes());
                    }
                }
            }));
        }
        Speaker { stop, threads }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().unwrap());
    }
}

/// Runs `body` in the network namespace `name`.
fn inside<T: Send>(name: &str, body: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{name}")).unwrap();
    let body = move || {
        use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
        use std::os::fd::AsFd;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        body()
    };
    thread::scope(|scope| scope.spawn(body).join().unwrap())
}

/// Who answers at `address` over UDP and TCP, asked from `source` if that is given.
fn who(address: IpAddr, source: Option<IpAddr>) -> String {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let source = SocketAddr::new(source.unwrap_or(any), 0);
    let udp = || {
        let socket = UdpSocket::bind(source)?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.connect((address, 53))?;
        socket.send(b"?")?;
        let mut room = [0; 16];
        let length = socket.recv(&mut room)?;
        Ok(String::from_utf8_lossy(&room[..length]).into_owned())
    };
    let tcp = || {
        let socket = socket2::Socket::new(socket2::Domain::for_address(source), socket2::Type::STREAM, None)?;
        socket.bind(&source.into())?;
        socket.connect_timeout(&SocketAddr::new(address, 53).into(), Duration::from_secs(5))?;
        let mut stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"?")?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        Ok(said)
    };
    let text = |said: std::io::Result<String>| said.unwrap_or_else(|error| format!("{:?}", error.kind()));
    let (udp, tcp) = (text(udp()), text(tcp()));
    if udp == tcp { udp } else { format!("udp {udp}, tcp {tcp}") }
}

/// A node with a pod and a kube-dns pod, each in its namespace; ours is the node.
struct Node {
    iptables: Iptables,
    of: Match,
    _kube_dns: Speaker,
}

impl Node {
    fn start(program: &str) -> Node {
        // Mounts of `ip netns` are to be seen here.
        run("mkdir /run/netns && mount --bind /run/netns /run/netns && mount --make-private /run/netns");
        run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for (name, net) in [("pod", 9), ("kube", 8)] {
            run(&format!(
                "ip netns add {name} && ip link add {name} type veth peer name eth0 netns {name} &&
                 ip addr add 10.{net}.0.1/24 dev {name} && ip addr add fd00:{net}::1/64 dev {name} nodad &&
                 ip link set {name} up && ip -n {name} link set lo up &&
                 ip -n {name} addr add 10.{net}.0.2/24 dev eth0 &&
                 ip -n {name} addr add fd00:{net}::2/64 dev eth0 nodad && ip -n {name} link set eth0 up &&
                 ip -n {name} route add default via 10.{net}.0.1 &&
                 ip -n {name} -6 route add default via fd00:{net}::1"
            ));
        }
        run("ip -n kube addr add 10.8.0.3/24 dev eth0");
        run("ip route add default via 10.8.0.2 && ip -6 route add default via fd00:8::2");
        // An interface for our addresses that can be taken away at once.
        run(&format!(
            "ip link add ours type veth peer name ours1 && ip link set ours up && ip link set ours1 up &&
             ip addr add {LOCAL_V4}/32 dev ours && ip addr add {LOCAL_V6}/128 dev ours nodad"
        ));
        let kube_dns = ["10.8.0.2", "10.8.0.3", "fd00:8::2"].map(|address| address.parse().unwrap());
        let node = Node {
            iptables: Iptables::with(program).unwrap(),
            of: dual(),
            _kube_dns: inside("kube", || Speaker::start(&kube_dns, "kube-dns")),
        };
        let endpoints: Vec<SocketAddr> = kube_dns.map(|address| SocketAddr::new(address, 53)).into();
        assert!(node.iptables.standing_replace(&node.of, &endpoints).unwrap());
        assert!(node.iptables.keep(&node.of).unwrap());
        node
    }

    /// Who answers a pod, and who a process of the host; both families must agree.
    fn answers(&self) -> [String; 2] {
        let [v4, v6] = [LOCAL_V4, LOCAL_V6].map(|address| [inside("pod", || who(address, None)), who(address, None)]);
        assert_eq!(v4, v6, "IPv4 and IPv6");
        v4
    }

    /// Who answers the guardian's probes.
    fn probed(&self) -> [String; 2] {
        [who(LOCAL_V4, Some(PROBE_V4.into())), who(LOCAL_V6, Some(PROBE_V6.into()))]
    }
}

/// Entries of the node's connection tracking for port 53.
fn tracked() -> usize {
    let list = |family: &str| run(&format!("conntrack -L -f {family} 2>/dev/null"));
    (list("ipv4") + &list("ipv6")).lines().filter(|line| line.contains(" dport=53 ")).count()
}

fn forget_tracked() {
    run("conntrack -F 2>/dev/null");
}

#[test]
fn killed_with_its_interface_pods_and_host_reach_kube_dns_at_once() {
    with_each("killed_with_its_interface_pods_and_host_reach_kube_dns_at_once", |program| {
        let node = Node::start(program);
        let server = Speaker::start(&[LOCAL_V4, LOCAL_V6], "cache");
        assert_eq!(node.answers(), ["kube-dns", "kube-dns"]);
        assert_eq!(node.probed(), ["cache", "cache"], "probes ask the server before anybody else does");
        assert!(tracked() > 0, "what goes to kube-dns is tracked");
        node.iptables.capture(&node.of, Guard::Local).unwrap();
        forget_tracked();
        assert_eq!(node.answers(), ["cache", "cache"]);
        assert_eq!(node.probed(), ["cache", "cache"]);
        assert_eq!(tracked(), 0);

        drop(server);
        run("ip link del ours");
        assert_eq!(node.answers(), ["kube-dns", "kube-dns"]);
        assert!(node.iptables.intact(&node.of, Guard::Local, true).unwrap(), "the rules are still there");
    });
}

#[test]
fn killed_and_its_interface_left_pods_reach_kube_dns_at_once() {
    with_each("killed_and_its_interface_left_pods_reach_kube_dns_at_once", |program| {
        let node = Node::start(program);
        let server = Speaker::start(&[LOCAL_V4, LOCAL_V6], "cache");
        node.iptables.capture(&node.of, Guard::Socket).unwrap();
        forget_tracked();
        let pod = || [LOCAL_V4, LOCAL_V6].map(|address| inside("pod", || who(address, None)));
        assert_eq!(pod(), ["cache", "cache"]);
        assert_eq!(tracked(), 0);
        assert_eq!(node.answers(), ["cache", "kube-dns"], "the host's own processes are not captured");
        assert_eq!(node.probed(), ["cache", "cache"]);

        drop(server);
        assert_eq!(node.answers(), ["kube-dns", "kube-dns"]);
        let _somebody = Speaker::start(&[Ipv4Addr::UNSPECIFIED.into()], "somebody");
        assert_eq!(node.answers(), ["kube-dns", "kube-dns"], "a resolver on all addresses is not ours");
        assert!(node.iptables.intact(&node.of, Guard::Socket, true).unwrap(), "the rules are still there");
    });
}

#[test]
fn released_everybody_reaches_kube_dns_and_probes_the_server() {
    with_each("released_everybody_reaches_kube_dns_and_probes_the_server", |program| {
        let node = Node::start(program);
        let _server = Speaker::start(&[LOCAL_V4, LOCAL_V6], "cache");
        node.iptables.capture(&node.of, Guard::None).unwrap();
        assert_eq!(node.answers(), ["cache", "cache"]);
        node.iptables.release(&node.of).unwrap();
        assert_eq!(node.answers(), ["kube-dns", "kube-dns"]);
        assert_eq!(node.probed(), ["cache", "cache"]);
        let one = ["10.8.0.2:53", "[fd00:8::2]:53"].map(|endpoint| endpoint.parse().unwrap());
        node.iptables.standing_replace(&node.of, &one).unwrap();
        for address in [LOCAL_V4, LOCAL_V6] {
            assert_eq!(inside("kube", || who(address, None)), "kube-dns", "kube-dns asks itself");
        }
        node.iptables.standing_remove().unwrap();
        forget_tracked();
        assert_eq!(node.answers()[1], "cache", "without a fallback the host asks whoever listens");
    });
}

#[test]
fn the_fallback_reaches_every_endpoint() {
    with_each("the_fallback_reaches_every_endpoint", |program| {
        let _node = Node::start(program);
        inside("pod", || {
            for _ in 0..60 {
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                socket.send_to(b"?", (LOCAL_V4, 53)).unwrap();
                socket.recv_from(&mut [0; 16]).unwrap();
            }
        });
        let seen = run("conntrack -L -p udp 2>/dev/null");
        for endpoint in ["10.8.0.2", "10.8.0.3"] {
            assert!(seen.contains(&format!("src={endpoint} dst=10.9.0.2 sport=53 ")), "{endpoint}:\n{seen}");
        }
    });
}
