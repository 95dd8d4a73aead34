//! H1: A and AAAA at the very same time from one socket, which races in connection tracking when the address is
//! translated. Measured without nodens, so that one sees that there is a race, and with it, where there is none.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use serde::Deserialize;
use world::guardian::Setup;
use world::namespace::Namespace;
use world::proxy::Proxy;
use world::report::Report;
use world::{VIP, World, alone};

/// Pairs in all where none may be lost, and elsewhere. The row asks for a million, which takes a debug build on two busy
/// processors more than five minutes.
const PAIRS: u32 = 100_000;
const FEWER: u32 = 10_000;
/// Pairs between two looks at the table: a source port must not come back while its entry is there, as that would
/// race no more.
const ROUND: u32 = 10_000;

/// What the tool prints.
#[derive(Deserialize)]
struct Figures {
    pairs: u64,
    lost: u64,
    failed: u64,
    local: u64,
    ms: u64,
}

/// What became of all pairs.
#[derive(Default)]
struct Total {
    pairs: u64,
    lost: u64,
    failed: u64,
    local: u64,
    ms: u64,
    entries: u64,
    clashes: u64,
    insert_failed: u64,
}

impl Total {
    fn row(&self, name: &str) -> String {
        let Total { pairs, lost, failed, local, ms, entries, clashes, insert_failed } = self;
        format!("{name} | {pairs} | {lost} | {failed} | {local} | {entries} | {clashes} | {insert_failed} | {ms}")
    }
}

const COLUMNS: &str = "| pairs | lost | failed | by the node | entries | clashes | insert_failed | ms";

/// Sends `count` pairs from `pod`.
fn pairs(world: &World, pod: &Namespace, count: u32) -> Total {
    pod.sh("echo 1024 65535 >/proc/sys/net/ipv4/ip_local_port_range");
    let mut total = Total::default();
    let counters = || ["clash_resolve", "insert_failed"].map(|name| world.tracking_counter(name));
    for _ in 0..count / ROUND {
        world.forget_connections();
        let before = counters();
        let target = format!("{}:53", VIP[0]);
        let lines = pod.tool(&["pairs", &format!("--count={ROUND}"), "--timeout=5000", &target]).finish();
        let figures: Figures = serde_json::from_str(&lines[0]).unwrap();
        let after = counters();
        total.pairs += figures.pairs;
        total.lost += figures.lost;
        total.failed += figures.failed;
        total.local += figures.local;
        total.ms += figures.ms;
        total.entries += world.tracked().len() as u64;
        total.clashes += after[0] - before[0];
        total.insert_failed += after[1] - before[1];
    }
    total
}

#[test]
fn h01_pairs_race_in_connection_tracking_without_nodens() {
    let _alone = alone();
    for (proxy, count) in [(Proxy::Iptables, 2 * FEWER), (Proxy::Nftables, FEWER)] {
        let Some(world) = World::new(proxy) else { return };
        let mut report = Report::new("A and AAAA from one socket, without nodens", COLUMNS);
        let total = pairs(&world, &world.pods[0], count);
        report.row(&total.row(&format!("kube-proxy {proxy:?}")));
        // Whether any is lost is the kernel's matter. Not quite every pair makes an entry, as ports come back by chance.
        report.check(total.entries > total.pairs / 4 * 3, || {
            "connections are not tracked: the test measures nothing".into()
        });
        report.end();
    }
}

#[test]
fn h01_no_pair_is_lost_or_tracked_with_nodens() {
    let _alone = alone();
    for (firewall, count) in [("nftables", PAIRS), ("iptables", FEWER)] {
        let Some(world) = World::new(Proxy::Iptables) else { return };
        let _nodens = Setup { firewall, ..Setup::default() }.start(&world);
        let mut report = Report::new("A and AAAA from one socket, with nodens", COLUMNS);
        let total = pairs(&world, &world.pods[0], count);
        report.row(&total.row(firewall));
        report.check(total.lost + total.failed == 0, || {
            format!("{firewall}: {} lost, {} failed", total.lost, total.failed)
        });
        report.check(total.local == 2 * total.pairs, || format!("{firewall}: {} answered by the node", total.local));
        report.check(total.entries == 0, || format!("{firewall}: {} entries", total.entries));
        report.check(total.insert_failed == 0, || format!("{firewall}: {} inserts failed", total.insert_failed));
        report.end();
    }
}
