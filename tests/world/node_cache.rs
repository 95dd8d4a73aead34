//! What node-cache does to a node: its interface, its twelve rules per address, and somebody who answers.

use super::namespace::{Namespace, Tool};
use super::{LOCAL, VIP};
use std::fmt::Write;

/// The name of its link, which nodens takes over.
pub const LINK: &str = "nodelocaldns";
/// What its rules are marked with.
pub const COMMENT: &str = "NodeLocal DNS Cache:";

/// Makes the link, or, where the kernel has no dummy type, something that stays as well when processes die.
pub fn link(node: &Namespace) {
    node.sh(&format!("ip link add {LINK} type dummy 2>/dev/null || ip link add {LINK} type bridge"));
    for ip in LOCAL.iter().chain(&VIP) {
        let (length, nodad) = if ip.contains(':') { (128, " nodad") } else { (32, "") };
        node.sh(&format!("ip addr add {ip}/{length} dev {LINK}{nodad}"));
    }
    // An IPv6 address of a link that is down is not local.
    node.sh(&format!("ip link set {LINK} up"));
}

/// Its rules, for both families.
pub fn rules(node: &Namespace) {
    for family in [0, 1] {
        let restore = ["iptables-restore", "ip6tables-restore"][family];
        let (mut raw, mut filter) = ("*raw\n".to_owned(), "*filter\n".to_owned());
        for ip in [LOCAL[family], VIP[family]] {
            for proto in ["tcp", "udp"] {
                let p = format!("-p {proto} -m {proto}");
                let skip = format!("-j NOTRACK -m comment --comment \"{COMMENT} skip conntrack\"");
                let allow = format!("-j ACCEPT -m comment --comment \"{COMMENT} allow DNS traffic\"");
                let _ = writeln!(raw, "-I PREROUTING -d {ip} {p} --dport 53 {skip}");
                let _ = writeln!(raw, "-I OUTPUT -s {ip} {p} --sport 53 {skip}");
                let _ = writeln!(raw, "-I OUTPUT -d {ip} {p} --dport 53 {skip}");
                let _ = writeln!(filter, "-I INPUT -d {ip} {p} --dport 53 {allow}");
                let _ = writeln!(filter, "-I OUTPUT -s {ip} {p} --sport 53 {allow}");
                if proto == "tcp" {
                    let _ = writeln!(raw, "-I OUTPUT -d {ip} {p} --dport 8080 {skip}");
                    let _ = writeln!(raw, "-I OUTPUT -s {ip} {p} --sport 8080 {skip}");
                }
            }
        }
        node.sh(&format!("{restore} --noflush <<'END'\n{raw}COMMIT\n{filter}COMMIT\nEND\n"));
    }
}

/// Somebody who answers on all its addresses.
pub fn server(node: &Namespace) -> Tool {
    let at: Vec<String> = LOCAL.iter().chain(&VIP).map(|ip| super::proxy::with_port(ip)).collect();
    let mut args = vec!["backend", "--name=node-cache", "--local"];
    args.extend(at.iter().map(String::as_str));
    let server = node.tool(&args);
    server.wait_for("serving");
    server
}
