//! What nodens makes of a node's network, keeps in order, and gives back: rows G3, G16 to G18, H5, H6 and H10.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::time::Duration;
use support::process::NODENS;
use world::clients::{all_are, targets};
use world::guardian::{Guardian, Setup, is_prepared, live_tables, signal};
use world::namespace::Namespace;
use world::proxy::{self, Proxy};
use world::report::Report;
use world::{LOCAL, VIP, World, alone, node_cache, within};

/// How soon what others remove is back.
const SOON: Duration = Duration::from_secs(1);

/// The links of the node that hold an address of nodens, one word each: `nodelocaldns:169.254.20.10/32`.
fn addresses(node: &Namespace) -> Vec<String> {
    let lines = node.sh("ip -o addr show");
    let mut found = Vec::new();
    for line in lines.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ours = |ip: &&str| LOCAL.iter().chain(&VIP).any(|own| ip.split('/').next() == Some(own));
        found.extend(words.get(3).filter(|ip| ours(ip)).map(|ip| format!("{}:{ip}", words[1])));
    }
    found.sort_unstable();
    found
}

/// Is everything in place, once?
fn in_order(world: &World, setup: &Setup) -> Result<(), String> {
    let (node, rules) = (&world.node, world.rules());
    let have = addresses(node);
    let tables = live_tables(node);
    let expected = usize::from(setup.firewall == "nftables");
    let wrong = [
        (have.len() != setup.addresses.len(), format!("addresses: {have:?}")),
        (tables.len() != expected, format!("live tables: {tables:?}")),
        (!is_prepared(world, &setup.addresses), format!("no way to kube-dns:\n{rules}")),
        (rules.matches("table inet nodens-failopen").count() > 1, format!("two standing tables:\n{rules}")),
    ];
    wrong.into_iter().find(|(wrong, _)| *wrong).map_or(Ok(()), |(_, what)| Err(what))
}

/// Takes `damage` to the node, and waits until nothing is to be seen of it and every pod's query is answered here.
fn repaired(report: &mut Report, world: &World, setup: &Setup, nodens: &Guardian, kind: &str, damage: &str) {
    let counted = || nodens.metric(&world.node, "nodens_network_repairs_total", "");
    let before = counted();
    world.node.sh(damage);
    let order = within(SOON, || in_order(world, setup).is_ok());
    let served = within(SOON, || all_are(&world.pods[0], &setup.targets(), "local"));
    let count = within(Duration::from_secs(2), || counted() > before);
    let ms = |time: Option<Duration>| time.map_or("never".to_owned(), |time| time.as_millis().to_string());
    report.row(&format!("{kind} | {} | {} | {}", ms(order), ms(served), counted() - before));
    report.check(order.is_some(), || format!("{kind}: {}", in_order(world, setup).unwrap_err()));
    report.check(served.is_some(), || format!("{kind}: not everything is answered here"));
    report.check(count.is_some(), || format!("{kind}: it is not counted"));
    // A repair that came late is not the next one's.
    let _ = within(Duration::from_secs(5), || in_order(world, setup).is_ok());
}

const REPAIRS: &str = "removed | back after ms | answers after another ms | counted";

#[test]
fn g17_g18_what_others_remove_is_back_at_once() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut report = Report::new("removed by others, nftables", REPAIRS);
    let nodens = setup.start(&world);
    let mut check = |kind: &str, damage: &str| repaired(&mut report, &world, &setup, &nodens, kind, damage);
    check("the link", "ip link del nodelocaldns");
    check("an IPv4 address", "ip addr del 169.254.20.10/32 dev nodelocaldns");
    check("an IPv6 address", "ip addr del fd00:169::10/128 dev nodelocaldns");
    check("IPv6 addresses, by taking the link down", "ip link set nodelocaldns down");
    check("the standing table", "nft delete table inet nodens-failopen");
    check("the rules of the standing table", "nft flush table inet nodens-failopen");
    check("all rules", "nft flush ruleset");
    // Those of kube-proxy were among them.
    proxy::install(&world.node, Proxy::Iptables);
    report.check(in_order(&world, &setup).is_ok(), || "not in order".to_owned());
    report.end();
}

#[test]
fn g18_rules_of_iptables_are_back_at_once() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Nftables) else { return };
    let setup = Setup { firewall: "iptables", ..Setup::default() };
    let mut report = Report::new("removed by others, iptables", REPAIRS);
    let nodens = setup.start(&world);
    let rules = world.node.sh("iptables-save; ip6tables-save").lines().count();
    let mut check = |kind: &str, damage: &str| repaired(&mut report, &world, &setup, &nodens, kind, damage);
    check("raw", "iptables -t raw -F");
    check("raw, IPv6", "ip6tables -t raw -F");
    check("all chains", "for t in raw nat filter; do iptables -t $t -F; ip6tables -t $t -F; done");
    let back = within(SOON, || world.node.sh("iptables-save; ip6tables-save").lines().count() == rules);
    report.check(back.is_some(), || format!("there were {rules} lines:\n{}", world.rules()));
    report.end();
}

#[test]
fn g03_a_start_after_a_kill_leaves_nothing_twice() {
    let _alone = alone();
    for firewall in ["nftables", "iptables"] {
        for link_stays in [false, true] {
            let Some(world) = World::new(Proxy::Iptables) else { return };
            if link_stays {
                node_cache::link(&world.node);
            }
            let setup = Setup { firewall, ..Setup::default() };
            let mut first = setup.start(&world);
            let (rules, standing) = (without_counters(&world.node), addresses(&world.node));
            signal(first.pid(), "KILL");
            let _ = first.end(Duration::from_secs(5));
            let _second = setup.start(&world);
            assert_eq!(addresses(&world.node), standing, "{firewall}");
            assert_eq!(without_counters(&world.node), rules, "{firewall}");
        }
    }
}

/// The rules of iptables, and how many tables of which name there are.
fn without_counters(node: &Namespace) -> String {
    node.sh("{ iptables-save; ip6tables-save; } | grep -v '^#' | sed 's/\\[.*\\]//'; nft list tables | sed 's/nodens-[0-9].*/live/' | sort")
}

/// H5 and the beginning of H6: the Service address may stand on another link already, as with kube-proxy in IPVS mode.
#[test]
fn h06_an_address_that_stands_elsewhere_is_left_there() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Absent) else { return };
    world.node.sh("ip tuntap add dev kube-ipvs0 mode tun && ip addr add 10.96.0.10/32 dev kube-ipvs0");
    let setup = Setup { addresses: vec![LOCAL[0], VIP[0]], upstream: world::BACKENDS[0][0], ..Setup::default() };
    let mut nodens = setup.start(&world);
    assert_eq!(addresses(&world.node), ["kube-ipvs0:10.96.0.10/32", "nodelocaldns:169.254.20.10/32"]);
    signal(nodens.pid(), "QUIT");
    assert!(nodens.end(Duration::from_secs(5)).success());
    assert_eq!(addresses(&world.node), ["kube-ipvs0:10.96.0.10/32"]);
}

#[test]
fn g16_without_ipv6_the_rest_is_served() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    world.node.sh("for all in all default; do echo 1 >/proc/sys/net/ipv6/conf/$all/disable_ipv6; done");
    let mut nodens = Setup::default().launch(&world);
    let v4 = targets(&[LOCAL[0], VIP[0]]);
    nodens.until("IPv4 is served", || all_are(&world.pods[0], &v4, "local"));
    for ip in [LOCAL[1], VIP[1]] {
        assert!(nodens.log().contains(ip), "{ip} is not spoken of:\n{}", nodens.log());
    }
    nodens.until("the way to kube-dns is prepared", || is_prepared(&world, &[LOCAL[0]]));
    signal(nodens.pid(), "KILL");
    let _ = nodens.end(Duration::from_secs(5));
    let left = within(SOON, || all_are(&world.pods[0], &v4, "backend"));
    assert!(left.is_some(), "not left to kube-dns; rules:\n{}", world.rules());
}

/// What is ours: nothing of it may be left.
fn nothing_left(world: &World) {
    let gone = within(SOON, || addresses(&world.node).is_empty() && !world.rules().to_lowercase().contains("nodens"));
    let links = world.node.sh("ip -o link");
    assert!(gone.is_some(), "{links}\n{:?}\n{}", addresses(&world.node), world.rules());
    assert!(!links.contains("nodelocaldns"), "{links}");
    for ip in LOCAL {
        assert!(!world.rules().contains(ip), "{ip} is in a rule:\n{}", world.rules());
    }
    let vip = targets(&VIP);
    for from in [&world.pods[0], &world.node] {
        assert!(within(SOON, || all_are(from, &vip, "backend")).is_some(), "kube-proxy leads to kube-dns");
    }
}

#[test]
fn h10_sigquit_gives_the_node_back() {
    let _alone = alone();
    for firewall in ["nftables", "iptables"] {
        let Some(world) = World::new(Proxy::Iptables) else { return };
        let mut nodens = Setup { firewall, ..Setup::default() }.start(&world);
        signal(nodens.pid(), "QUIT");
        assert!(nodens.end(Duration::from_secs(5)).success(), "{}", nodens.log());
        nothing_left(&world);
    }
}

#[test]
fn h10_cleanup_gives_the_node_back_after_a_kill() {
    let _alone = alone();
    for firewall in ["nftables", "iptables"] {
        let Some(world) = World::new(Proxy::Iptables) else { return };
        // All that can stay behind: rules of node-cache, ours, and a dummy link where the kernel has that.
        let mut nodens = Setup { firewall, ..Setup::default() }.start(&world);
        signal(nodens.pid(), "KILL");
        let _ = nodens.end(Duration::from_secs(5));
        node_cache::rules(&world.node);
        let output = world.node.command(NODENS).arg("cleanup").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        nothing_left(&world);
        assert!(!world.rules().contains(node_cache::COMMENT), "{}", world.rules());
    }
}

#[test]
fn what_node_cache_has_left_behind_is_taken_over() {
    let _alone = alone();
    for firewall in ["nftables", "iptables"] {
        let Some(world) = World::new(Proxy::Iptables) else { return };
        node_cache::link(&world.node);
        node_cache::rules(&world.node);
        let setup = Setup { firewall, ..Setup::default() };
        let mut nodens = setup.start(&world);
        assert!(!world.rules().contains(node_cache::COMMENT), "{}", world.rules());
        signal(nodens.pid(), "KILL");
        let _ = nodens.end(Duration::from_secs(5));
        let left = within(SOON, || all_are(&world.pods[0], &setup.targets(), "backend"));
        let raw = || world.node.sh("iptables-save -t raw; ip -o addr show");
        assert!(left.is_some(), "{firewall}: a black hole:\n{}", raw());
    }
}
