//! The node, two pods, two kube-dns pods on another node, the world outside; links and routes between them.

use super::namespace::{Namespace, Tool};
use super::proxy::{self, Proxy};
use super::{BACKENDS, LOCAL, VIP};
use crate::support::process::{can_run, skip};

/// Addresses of the two pods on this node.
const PODS: [[&str; 2]; 2] = [["10.244.1.2", "fd00:244:1::2"], ["10.244.1.3", "fd00:244:1::3"]];

/// Before any link is made: packets are forwarded, and no address has to prove itself, which takes a second.
const SETTINGS: &str = "
mount -t tmpfs none /run
ip link set lo up
cd /proc/sys/net
echo 1 >ipv4/ip_forward
echo 1 >ipv6/conf/all/forwarding
for all in all default; do
    echo 2 >ipv4/conf/$all/rp_filter
    echo 0 >ipv6/conf/$all/accept_dad
done
";

/// The whole of it.
pub struct World {
    /// The node, where nodens runs.
    pub node: Namespace,
    /// Pods of this node.
    pub pods: [Namespace; 2],
    kube_dns: [Namespace; 2],
    /// Where the default route leads; nobody answers there.
    _outside: Namespace,
    backends: Vec<Tool>,
}

impl World {
    /// Makes it, with a kube-proxy of the given kind; says why not and gives nothing where that cannot be.
    pub fn new(proxy: Proxy) -> Option<World> {
        for tool in ["ip", "nft", "iptables-restore", "ip6tables-restore", "conntrack", "unshare", "nsenter", "setpriv"]
        {
            if !can_run(tool) {
                return None;
            }
        }
        let node = match Namespace::outer() {
            Ok(node) => node,
            Err(error) => {
                skip(&format!("needs network namespaces: {error}"));
                return None;
            }
        };
        node.sh(SETTINGS);
        if !node.try_sh("ip tuntap add dev probe mode tun && ip link del probe").status.success() {
            skip("needs /dev/net/tun");
            return None;
        }
        let [p1, p2, d1, d2, outside] = [(); 5].map(|()| node.beside());
        join(&node, &p1, "p1", PODS[0]);
        join(&node, &p2, "p2", PODS[1]);
        join(&node, &d1, "d1", BACKENDS[0]);
        join(&node, &d2, "d2", BACKENDS[1]);
        uplink(&node, &outside);
        proxy::install(&node, proxy);
        let mut world = World { node, pods: [p1, p2], kube_dns: [d1, d2], _outside: outside, backends: Vec::new() };
        world.start_kube_dns();
        Some(world)
    }

    /// Starts both kube-dns pods.
    pub fn start_kube_dns(&mut self) {
        let endpoints: Vec<String> = BACKENDS.iter().flatten().map(|ip| format!("--endpoint={ip}")).collect();
        for (i, namespace) in self.kube_dns.iter().enumerate() {
            let [v4, v6] = BACKENDS[i];
            let (name, v4, v6) = (format!("--name=d{}", i + 1), format!("{v4}:53"), format!("[{v6}]:53"));
            let mut args = vec!["backend", &name, &v4, &v6];
            args.extend(endpoints.iter().map(String::as_str));
            self.backends.push(namespace.tool(&args));
        }
        self.backends.iter().for_each(|backend| backend.wait_for("serving"));
    }

    /// Entries of connection tracking with port 53 that come from pods or are about the addresses of nodens.
    pub fn tracked(&self) -> Vec<String> {
        let ours = |line: &&str| {
            let original = line.split("dport=53").next().unwrap_or_default();
            let from_pod = PODS.iter().flatten().any(|ip| original.contains(&format!("src={ip} ")));
            let to_us = LOCAL.iter().chain(&VIP).any(|ip| original.contains(&format!("dst={} ", expanded(ip))));
            line.contains("dport=53 ") && (from_pod || to_us)
        };
        let lists = self.node.sh("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
        lists.lines().filter(ours).map(str::to_owned).collect()
    }

    /// Forgets all connections.
    pub fn forget_connections(&self) {
        self.node.sh("conntrack -F 2>/dev/null");
    }

    /// The sum of a counter over all processors, as `conntrack -S` has it.
    pub fn tracking_counter(&self, name: &str) -> u64 {
        let stats = self.node.sh("conntrack -S");
        let values = stats.split_whitespace().filter_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        values.map(|value| value.parse::<u64>().unwrap()).sum()
    }

    /// All rules of the node, of nft and iptables.
    pub fn rules(&self) -> String {
        self.node.sh("nft list ruleset 2>/dev/null; iptables-save; ip6tables-save")
    }
}

/// An address as `conntrack` writes it, which is what `inet_ntop` makes of it.
fn expanded(ip: &str) -> String {
    ip.parse::<std::net::IpAddr>().unwrap().to_string()
}

/// A link between the node and a pod, as most plugins make it: a /32 here, a default route there.
fn join(node: &Namespace, pod: &Namespace, name: &str, [v4, v6]: [&str; 2]) {
    let pid = pod.pid();
    node.sh(&format!(
        "ip link add {name} type veth peer name eth0 netns {pid}
        ip link set {name} up
        ip addr add 10.244.1.1/32 dev {name}
        ip addr add fd00:244:1::1/128 dev {name} nodad
        ip route add {v4}/32 dev {name}
        ip route add {v6}/128 dev {name}"
    ));
    pod.sh(&format!(
        "ip link set lo up
        echo 0 >/proc/sys/net/ipv6/conf/eth0/accept_dad
        ip link set eth0 up
        ip addr add {v4}/32 dev eth0
        ip addr add {v6}/128 dev eth0 nodad
        ip route add 10.244.1.1/32 dev eth0
        ip route add default via 10.244.1.1
        ip route add fd00:244:1::1/128 dev eth0
        ip route add default via fd00:244:1::1"
    ));
}

/// The node's own address and its default route.
fn uplink(node: &Namespace, outside: &Namespace) {
    let pid = outside.pid();
    node.sh(&format!(
        "ip link add eth0 type veth peer name eth0 netns {pid}
        ip link set eth0 up
        ip addr add 192.168.77.10/24 dev eth0
        ip addr add fd00:77::10/64 dev eth0 nodad"
    ));
    outside.sh("ip link set eth0 up
        ip addr add 192.168.77.1/24 dev eth0
        ip addr add fd00:77::1/64 dev eth0 nodad");
    node.sh("ip route add default via 192.168.77.1
        ip route add default via fd00:77::1");
}
