//! One nodens takes over from another on the same node: no query is lost (G1, G14, H9).
//!
//! Clients ask all the while: over long-lived UDP sockets, over long-lived TCP connections, and over fresh ones of both.
//! Nothing is sent twice over UDP; a connection may be closed between two queries.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::process::NODENS;
use world::clients::{Asking, Figures, all_are, targets};
use world::guardian::{Guardian, Setup, children, live_tables, signal, stages};
use world::proxy::Proxy;
use world::report::{Report, sum, worst};
use world::{LOCAL, VIP, World, alone};

/// How long an instance may take to leave: what kubelet gives it is 30 s.
const GRACE: Duration = Duration::from_secs(10);

const COLUMNS: &str =
    "clients | sent | lost | failed | cut off | reopened | longest gap ms | local | kube-dns | kube-dns for ms";

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
            ("udp, host", Asking::start(&world.node, &["--rate=100", "--sockets=5"], &only(&v4, "udp"))),
        ])
    }

    /// Stops, prints, and checks that nothing was lost; gives all figures.
    fn finish(self, report: &mut Report) -> Vec<Figures> {
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
            for f in &figures {
                report.check(f.lost + f.failed + f.cut == 0, || {
                    format!(
                        "{name}, {}: {} lost, {} failed, {} cut off: {:?}",
                        f.target, f.lost, f.failed, f.cut, f.errors
                    )
                });
            }
            all.extend(figures);
        }
        all
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
    let figures = load.finish(&mut report);
    report.note(&format!("ready after ms: {came:?}; gone after ms: {left:?}"));
    report.check(sum(&figures, |f| f.backend) == 0, || "while one serves, kube-dns has nothing to answer".to_owned());
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
    let figures = load.finish(&mut report);
    report.note(&format!("gone after {} ms", took.as_millis()));
    report.check(sum(&figures, |f| f.backend) == 0, || "kube-dns was asked: it did not wait".to_owned());
    report.check(all_are(&world.pods[0], &setup.targets(), "local"), || "the new one does not serve".to_owned());
    report.end();
}

#[test]
fn g14_a_successor_that_dies_at_its_start_costs_nothing() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut report = Report::new("successors that die at their start", COLUMNS);
    let mut old = setup.start(&world);
    let server = old.server_pid();
    let load = Load::start(&world);
    // Killed as soon as it is there, as soon as it has a server, as soon as it serves.
    for stage in ["there", "with a server", "serving"] {
        let mut new = setup.launch(&world);
        let pid = new.pid();
        new.until(stage, || match stage {
            "there" => stages(&world.node).values().sum::<usize>() == 2,
            "with a server" => !children(pid).is_empty(),
            _ => serving(&world) == 2,
        });
        signal(pid, "KILL");
        let _ = new.end(Duration::from_secs(5));
    }
    // One whose server never starts.
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("nodens");
    fs::copy(NODENS, &program).unwrap();
    let mut broken = Setup { program, ..setup.clone() }.launch(&world);
    fs::write(broken.config_path(), "zones: 7\n").unwrap();
    let status = broken.end(GRACE);
    report.check(!status.success(), || "a broken configuration is no error".to_owned());
    sleep(Duration::from_millis(500));
    let figures = load.finish(&mut report);
    report.check(sum(&figures, |f| f.backend) == 0, || "kube-dns was asked".to_owned());
    report.check(old.server() == Some(server), || "the old one has another server".to_owned());
    let tables = live_tables(&world.node);
    report.check(tables.len() == 1, || format!("live tables: {tables:?}"));
    report.end();
}

/// Alone on the node, it leaves what comes to kube-dns before it stops answering.
#[test]
fn g01_without_a_successor_nothing_is_lost_either() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut report = Report::new("told to end, alone", COLUMNS);
    let mut only = setup.start(&world);
    let load = Load::start(&world);
    sleep(Duration::from_millis(300));
    let took = leave(&mut only);
    sleep(Duration::from_millis(500));
    report.note(&format!("gone after {} ms", took.as_millis()));
    report.check(took < Duration::from_secs(5), || "it takes too long".to_owned());
    // Connections made while packets were ours know nothing of translation: they end with it, and are counted as cut.
    for (name, asking) in load.0 {
        let figures = asking.finish();
        let [sent, lost, cut] = [sum(&figures, |f| f.sent), sum(&figures, |f| f.lost), sum(&figures, |f| f.cut)];
        let [failed, local, backend] =
            [sum(&figures, |f| f.failed), sum(&figures, |f| f.local), sum(&figures, |f| f.backend)];
        let gap = worst(&figures, |f| f.longest_gap_ms);
        report.row(&format!("{name} | {sent} | {lost} | {failed} | {cut} | - | {gap} | {local} | {backend} | -"));
        report.check(gap <= 1000, || format!("{name}: {gap} ms without an answer"));
    }
    report.end();
}
