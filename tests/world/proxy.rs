//! A stand-in for kube-proxy: the rules that it makes for the two DNS Services, in iptables and in nftables shape.
//!
//! Chains are named after what they are for instead of by a hash; otherwise they are what kube-proxy writes.

use super::namespace::Namespace;
use super::{BACKENDS, UPSTREAM, VIP};
use std::fmt::Write;

/// Which kube-proxy the node has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// `mode: iptables`.
    Iptables,
    /// `mode: nftables`.
    Nftables,
    /// None.
    Absent,
}

/// Pods of the cluster: what comes from them needs no masquerade.
const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:244::/32"];

/// Installs its rules.
pub fn install(node: &Namespace, proxy: Proxy) {
    for family in [0, 1] {
        match proxy {
            Proxy::Iptables => {
                let restore = ["iptables-restore", "ip6tables-restore"][family];
                node.sh(&format!("{restore} --noflush <<'END'\n{}END\n", iptables(family)));
            }
            Proxy::Nftables => drop(node.sh(&format!("nft -f - <<'END'\n{}END\n", nftables(family)))),
            Proxy::Absent => {}
        }
    }
}

/// An address before a port.
pub fn with_port(ip: &str) -> String {
    if ip.contains(':') { format!("[{ip}]:53") } else { format!("{ip}:53") }
}

fn iptables(family: usize) -> String {
    let pods = PODS[family];
    let mut chains = "*nat\n:KUBE-SERVICES - [0:0]\n:KUBE-POSTROUTING - [0:0]\n:KUBE-MARK-MASQ - [0:0]\n".to_owned();
    let mut rules = String::from(
        "-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -m comment --comment \"kubernetes service traffic requiring SNAT\" -j MASQUERADE --random-fully
",
    );
    for (service, vip) in [("DNS", VIP[family]), ("UPSTREAM", UPSTREAM[family])] {
        for proto in ["udp", "tcp"] {
            let chain = format!("KUBE-SVC-{service}-{proto}");
            let _ = writeln!(chains, ":{chain} - [0:0]");
            let to = format!("-d {vip} -p {proto} -m {proto} --dport 53");
            let _ = writeln!(rules, "-A KUBE-SERVICES {to} -j {chain}");
            let _ = writeln!(rules, "-A {chain} ! -s {pods} {to} -j KUBE-MARK-MASQ");
            for (i, backend) in BACKENDS.iter().enumerate() {
                let (endpoint, ip) = (format!("KUBE-SEP-{service}-{proto}-{i}"), backend[family]);
                let _ = writeln!(chains, ":{endpoint} - [0:0]");
                let share = if i == 0 { "-m statistic --mode random --probability 0.5 " } else { "" };
                let _ = writeln!(rules, "-A {chain} {share}-j {endpoint}");
                let _ = writeln!(rules, "-A {endpoint} -s {ip} -j KUBE-MARK-MASQ");
                let to = with_port(ip);
                let _ = writeln!(rules, "-A {endpoint} -p {proto} -m {proto} -j DNAT --to-destination {to}");
            }
        }
    }
    let filter = "*filter\n:KUBE-FORWARD - [0:0]\n-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\nCOMMIT\n";
    format!("{chains}{rules}COMMIT\n{filter}")
}

fn nftables(family: usize) -> String {
    let (ip, addr) = [("ip", "ipv4_addr"), ("ip6", "ipv6_addr")][family];
    let pods = PODS[family];
    let (mut chains, mut elements) = (String::new(), Vec::new());
    for (service, vip) in [("dns", VIP[family]), ("upstream", UPSTREAM[family])] {
        for proto in ["udp", "tcp"] {
            let chain = format!("service-{service}-{proto}");
            let mut verdicts = Vec::new();
            for (i, backend) in BACKENDS.iter().enumerate() {
                let (endpoint, at) = (format!("endpoint-{service}-{proto}-{i}"), backend[family]);
                verdicts.push(format!("{i} : goto {endpoint}"));
                let _ = write!(
                    chains,
                    "chain {endpoint} {{
                        {ip} saddr {at} jump mark-for-masquerade
                        meta l4proto {proto} dnat to {}
                    }}\n",
                    with_port(at)
                );
            }
            let _ = write!(
                chains,
                "chain {chain} {{
                    {ip} daddr {vip} {proto} dport 53 {ip} saddr != {pods} jump mark-for-masquerade
                    numgen random mod 2 vmap {{ {} }}
                }}\n",
                verdicts.join(", ")
            );
            elements.push(format!("{vip} . {proto} . 53 : goto {chain}"));
        }
    }
    format!(
        "table {ip} kube-proxy {{
            comment \"rules for kube-proxy\"
            chain mark-for-masquerade {{ meta mark set meta mark or 0x4000; }}
            chain masquerading {{
                meta mark and 0x4000 == 0 return
                meta mark set meta mark xor 0x4000
                masquerade fully-random
            }}
            {chains}
            map service-ips {{
                type {addr} . inet_proto . inet_service : verdict
                elements = {{ {} }}
            }}
            chain services {{ {ip} daddr . meta l4proto . th dport vmap @service-ips; }}
            chain nat-prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                jump services
            }}
            chain nat-output {{
                type nat hook output priority -100; policy accept;
                jump services
            }}
            chain nat-postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                jump masquerading
            }}
        }}\n",
        elements.join(", ")
    )
}
