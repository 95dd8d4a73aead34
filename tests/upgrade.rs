//! One nodens takes over from another on the same node: no query is lost (G1, G14, H9).
//!
//! Clients ask all the while: over long-lived UDP sockets, over long-lived TCP connections, and over fresh ones of both.
//! Nothing is sent twice over UDP; a connection may be closed between two queries.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::thread::sleep;
use std::time::{Duration, Instant};
use world::clients::{Asking, Figures, all_are, targets};
use world::guardian::{Guardian, Setup, children, live_tables, signal, stages};
use world::proxy::Proxy;
use world::report::{Report, sum, worst};
use world::{LOCAL, VIP, World, alone};

/// How long an instance may take to leave: what kubelet gives it is 30 s.
const GRACE: Duration = Duration::from_secs(10);

const COLUMNS: &str =
    "clients | sent | lost | failed | cut off | reopened | longest gap ms | local | kube-dns | kube-dns for ms";

/// The clients that are processes of the host, with long-lived UDP sockets.
const HOST_SOCKETS: &str = "udp, host";

/// Every kind of client, both families and addresses.
struct Load(Vec<(&'static str, Asking)>);

impl Load {
    fn start(world: &World) -> Load {
        let [pod, other] = &world.pods;
        let (v4, v6) = ([LOCAL[0], VIP[0]], [LOCAL[1], VIP[1]]);
        let only = |addresses: &[&str], proto: &str| {
            targets(addresses).into_iter().filter(|t| t.starts_with(proto)).collect::<Vec<_>>()
        };
        Load(vec![
            ("udp, 50 sockets", Asking::start(pod, &["--rate=900", "--sockets=25", "--names=100"], &only(&v4, "udp"))),
            ("udp, 10 sockets, v6", Asking::start(pod, &["--rate=100", "--sockets=5"], &only(&v6, "udp"))),
            ("udp, fresh", Asking::start(other, &["--rate=100"], &only(&v4, "udp"))),
            ("tcp, fresh", Asking::start(other, &["--rate=100"], &only(&[v4, v6].concat(), "tcp"))),
            ("tcp, 10 connections", Asking::start(other, &["--rate=100", "--sockets=5"], &only(&v4, "tcp"))),
            ("tcp, host", Asking::start(&world.node, &["--rate=50"], &only(&v4, "tcp"))),
            (HOST_SOCKETS, Asking::start(&world.node, &["--rate=100", "--sockets=5"], &only(&v4, "udp"))),
        ])
    }

    /// Stops and adds a row for each; gives all figures, by client.
    fn finish(mut self, report: &mut Report) -> Vec<(&'static str, Vec<Figures>)> {
        self.0.iter_mut().for_each(|(_, asking)| asking.stop());
        let mut all = Vec::new();
        for (name, asking) in self.0 {
            let figures = asking.finish();
            report.row(&format!(
                "{name} | {} | {} | {} | {} | {} | {} | {} | {} | {}",
                sum(&figures, |f| f.sent),
                sum(&figures, |f| f.lost),
                sum(&figures, |f| f.failed),
                sum(&figures, |f| f.cut),
                sum(&figures, |f| f.reopened),
                worst(&figures, |f| f.longest_gap_ms),
                sum(&figures, |f| f.local),
                sum(&figures, |f| f.backend),
                worst(&figures, |f| f.backend_for_ms),
            ));
            for f in figures.iter().filter(|f| !f.errors.is_empty()) {
                report.note(&format!("{name}, {}: {:?}", f.target, f.errors));
            }
            all.push((name, figures));
        }
        all
    }

    /// The same, where nothing may be lost and nobody be sent to kube-dns.
    fn finish_whole(self, report: &mut Report) {
        for (name, figures) in self.finish(report) {
            let [lost, failed] = [sum(&figures, |f| f.lost), sum(&figures, |f| f.failed)];
            report.check(lost + failed == 0, || format!("{name}: {lost} lost, {failed} failed"));
            report.check(sum(&figures, |f| f.backend) == 0, || format!("{name}: kube-dns was asked"));
            // A query and the end of its connection may cross on the way (RFC 7766 §6.2.4); more often than now and
            // then, they are cut off.
            let [cut, reopened] = [sum(&figures, |f| f.cut), sum(&figures, |f| f.reopened)];
            report.check(cut <= 1 + reopened / 20, || format!("{name}: {cut} cut off"));
        }
    }
}

/// How many instances serve.
fn serving(world: &World) -> usize {
    stages(&world.node).get("serving").copied().unwrap_or(0)
}

/// Tells `old` to end and waits for it; gives how long that took.
fn leave(old: &mut Guardian) -> Duration {
    let begin = Instant::now();
    signal(old.pid(), "TERM");
    let status = old.end(GRACE);
    assert!(status.success(), "{status}; log:\n{}", old.log());
    begin.elapsed()
}

/// Rolls over ten times under load.
fn roll(world: &World, setup: &Setup, title: &str) {
    let mut report = Report::new(title, COLUMNS);
    let mut current = setup.start(world);
    let load = Load::start(world);
    sleep(Duration::from_millis(500));
    let (mut came, mut left) = (Vec::new(), Vec::new());
    for _ in 0..10 {
        let begin = Instant::now();
        let mut next = setup.launch(world);
        next.until("both serve", || serving(world) == 2);
        came.push(begin.elapsed().as_millis());
        left.push(leave(&mut current).as_millis());
        current = next;
    }
    sleep(Duration::from_millis(500));
    load.finish_whole(&mut report);
    report.note(&format!("ready after ms: {came:?}; gone after ms: {left:?}"));
    report.check(all_are(&world.pods[0], &setup.targets(), "local"), || "the last one does not serve".to_owned());
    if setup.firewall == "nftables" {
        let tables = live_tables(&world.node);
        report.check(tables.len() == 1, || format!("live tables: {tables:?}"));
    }
    report.end();
}

#[test]
fn h09_g01_ten_roll_overs_lose_nothing() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    roll(&world, &Setup::default(), "ten roll-overs, nftables");
}

#[test]
fn h09_ten_roll_overs_on_a_link_that_stays_lose_nothing() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Nftables) else { return };
    world::node_cache::link(&world.node);
    roll(&world, &Setup::default(), "ten roll-overs, nftables, the link stays");
}

#[test]
fn h09_ten_roll_overs_with_iptables_lose_nothing() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    roll(&world, &Setup { firewall: "iptables", ..Setup::default() }, "ten roll-overs, iptables");
}

/// The cache goes from one to the next by a file that is written when the next one starts: TTLs are short.
#[test]
fn e17_g14_after_an_upgrade_what_was_asked_before_is_not_asked_again() {
    const NAMES: u64 = 300;
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    let setup = Setup { persist: Some(file.clone()), ..Setup::default() };
    let mut report = Report::new("three upgrades that take the cache along", COLUMNS);
    let ask_all = || {
        let names = format!("--names={NAMES}");
        let figures = Asking::start(&world.pods[0], &["--rate=600", "--duration=1000", &names], &targets(&[LOCAL[0]]));
        let figures = figures.finish();
        [sum(&figures, |f| f.lost), sum(&figures, |f| f.failed)]
    };
    let mut current = setup.start(&world);
    assert!(!file.exists(), "there is nothing to load, and nobody to save for");
    let load = Load::start(&world);
    assert_eq!(ask_all(), [0, 0]);
    for round in 1..=3 {
        let mut next = setup.launch(&world);
        next.until("both serve", || serving(&world) == 2);
        leave(&mut current);
        let misses = next.metric(&world.node, "nodens_cache_misses_total", "");
        assert_eq!(ask_all(), [0, 0]);
        let missed = next.metric(&world.node, "nodens_cache_misses_total", "") - misses;
        let loaded = next.metric(&world.node, "nodens_persist_entries", "loaded");
        report.note(&format!("upgrade {round}: {loaded} answers loaded, {missed} misses after it"));
        report.check(loaded >= NAMES as f64, || format!("upgrade {round}: only {loaded} answers loaded"));
        // Beside those of the clients, nodens looks up the addresses of kube-dns.
        report.check(missed < NAMES as f64 / 10.0, || format!("upgrade {round}: {missed} misses"));
        report.check(!next.log().contains("WARN"), || format!("upgrade {round}: {}", next.log()));
        current = next;
    }
    load.finish_whole(&mut report);
    report.end();
}

/// A probe cannot tell whom it asks while two are there, so the old one may be told to end too early.
#[test]
fn g01_told_to_end_too_early_the_old_one_waits_for_the_new_one() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut report = Report::new("told to end while the successor starts", COLUMNS);
    let mut old = setup.start(&world);
    let load = Load::start(&world);
    let mut new = setup.launch(&world);
    new.until("it has begun", || stages(&world.node).values().sum::<usize>() == 2);
    let took = leave(&mut old);
    sleep(Duration::from_millis(500));
    load.finish_whole(&mut report);
    report.note(&format!("gone after {} ms", took.as_millis()));
    report.check(all_are(&world.pods[0], &setup.targets(), "local"), || "the new one does not serve".to_owned());
    report.end();
}

/// A successor that serves has a part of the queries; those that wait there when it dies are lost with it. All others are
/// answered, and the old instance goes on as if nothing had been. Before that it has none; but it may be quick.
#[test]
fn g14_a_successor_that_dies_costs_what_it_had() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut old = setup.start(&world);
    let server = old.server_pid();
    for (stage, one_in) in [("announced", 50), ("with a server", 50), ("serving", 4)] {
        let mut report = Report::new(&format!("five successors killed as soon as they are {stage}"), COLUMNS);
        let load = Load::start(&world);
        for _ in 0..5 {
            let mut new = setup.launch(&world);
            let pid = new.pid();
            new.until(stage, || match stage {
                "announced" => stages(&world.node).values().sum::<usize>() == 2,
                "with a server" => !children(pid).is_empty(),
                _ => serving(&world) == 2,
            });
            signal(pid, "KILL");
            let _ = new.end(Duration::from_secs(5));
        }
        // What a client notices comes after the death, too.
        sleep(Duration::from_millis(300));
        for (name, figures) in load.finish(&mut report) {
            let [sent, lost, failed] =
                [sum(&figures, |f| f.sent), sum(&figures, |f| f.lost), sum(&figures, |f| f.failed)];
            report.check(lost * one_in <= sent && failed == 0, || {
                format!("{name}: {lost} of {sent} lost, {failed} failed")
            });
            report.check(sum(&figures, |f| f.backend) == 0, || format!("{name}: kube-dns was asked"));
        }
        report.end();
    }
    let broken = setup.launch_with(&world, "zones: 7\n").end(GRACE);
    assert!(!broken.success(), "a broken configuration is no error");
    assert_eq!(old.server(), Some(server), "the old one has another server");
    assert_eq!(live_tables(&world.node).len(), 1);
    assert!(all_are(&world.pods[0], &setup.targets(), "local"));
}

/// Alone on the node, it leaves what comes to kube-dns before it stops answering.
#[test]
fn g01_without_a_successor_kube_dns_answers_at_once() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut report = Report::new("told to end, alone", COLUMNS);
    let mut only = setup.start(&world);
    let load = Load::start(&world);
    sleep(Duration::from_millis(300));
    let took = leave(&mut only);
    sleep(Duration::from_millis(1500));
    report.note(&format!("gone after {} ms", took.as_millis()));
    report.check(took < Duration::from_secs(5), || "it takes too long".to_owned());
    for (name, figures) in load.finish(&mut report) {
        // A socket of the host itself that was connected to our address has that very address as its source, which is
        // gone now. Resolvers take a new one for each query.
        if name == HOST_SOCKETS {
            continue;
        }
        let [lost, failed] = [sum(&figures, |f| f.lost), sum(&figures, |f| f.failed)];
        // A connection that is just being made knows nothing of kube-dns.
        report.check(name.starts_with("tcp") || lost + failed == 0, || format!("{name}: {lost} lost, {failed} failed"));
        let gap = worst(&figures, |f| f.longest_gap_ms);
        report.check(gap <= 1000, || format!("{name}: {gap} ms without an answer"));
    }
    report.end();
}
