//! Row D of the behaviour table in real networks: servers that vanish, stop, are late or slow or fail, lose packets, and what clients notice of it, which is nothing.
//!
//! The load is moderate and the times that are allowed are generous, for processors are few; what is really reached is
//! measured by `benches/failures.py`.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::thread::sleep;
use std::time::Duration;
use world::chain::{Chain, Daemon, Peer, figures};
use world::report::{LOAD, Report};
use world::within;

/// Names of which none is asked for twice.
const UNIQUE: &str = "--names=0";
const SECOND: Duration = Duration::from_secs(1);

/// How many servers are known to fail.
fn failing(daemon: &Daemon, chain: &Chain) -> f64 {
    daemon.metric(&chain.node, "nodens_upstream_failing", "")
}

/// How often the opinion of a server has changed.
fn changes(daemon: &Daemon, chain: &Chain) -> f64 {
    daemon.metric(&chain.node, "nodens_upstream_health_changes_total", "")
}

#[test]
fn d02_one_of_two_vanishes_and_nobody_notices() {
    let mut report = Report::new("one of two servers vanishes under load", LOAD);
    for protocol in ["tcp", "udp", "auto"] {
        let forward = format!("protocol: {protocol}");
        let Some((chain, _daemon)) = Chain::start(2, &[], &forward, "") else { return };
        let load = chain.ask(500, &[UNIQUE]);
        sleep(SECOND);
        chain.peers[0].vanish();
        sleep(4 * SECOND);
        report.unharmed(protocol, &figures(load), SECOND);
    }
    report.end();
}

/// A short recheck, so that recovery is seen soon.
const STALE: &str = "cache: { serveStale: { recheck: 2s } }";

#[test]
fn d03_d05_all_vanish_and_what_is_known_is_still_said() {
    for protocol in ["tcp", "auto"] {
        let forward = format!("protocol: {protocol}");
        let Some((chain, mut daemon)) = Chain::start(2, &["--ttl=1"], &forward, STALE) else { return };
        let name = "known.example.";
        assert_eq!(chain.once(name).outcome, "local");
        chain.peers.iter().for_each(Peer::vanish);
        let mut first = None;
        daemon.until("it is stale", || {
            let answer = chain.once(name);
            assert!(["local", "stale"].contains(&answer.outcome.as_str()), "{protocol}: {answer:?}");
            first = (answer.outcome == "stale").then_some(answer);
            first.is_some()
        });
        let first = first.unwrap();
        assert!(first.ms < 3000 && (1..=30).contains(&first.ttl), "{protocol}: {first:?}");
        // Not one of them asks first and waits; the machine may be busy.
        let mut later: Vec<u64> = (0..10)
            .map(|_| chain.once(name))
            .map(|answer| {
                assert!(answer.outcome == "stale" && answer.ttl <= 30, "{protocol}: {answer:?}");
                answer.ms
            })
            .collect();
        later.sort_unstable();
        assert!(later[4] < 500, "{protocol}: {later:?}");
        chain.peers.iter().for_each(Peer::heal);
        let took = daemon.until("it is fresh", || chain.once(name).outcome == "local");
        assert!(took < Duration::from_secs(8), "{protocol}: {took:?}");
    }
}

#[test]
fn d03_under_load_every_known_name_is_answered_while_all_are_gone() {
    let mut report = Report::new("both servers vanish for some seconds, known names", LOAD);
    let Some((chain, _daemon)) = Chain::start(2, &["--ttl=1"], "", STALE) else { return };
    let load = chain.ask(300, &["--names=100"]);
    sleep(2 * SECOND);
    chain.peers.iter().for_each(Peer::vanish);
    sleep(6 * SECOND);
    chain.peers.iter().for_each(Peer::heal);
    sleep(4 * SECOND);
    let figures = figures(load);
    report.unharmed("known names", &figures, 3 * SECOND);
    report.check(figures.stale > 100, || format!("{} stale answers", figures.stale));
    report.end();
}

#[test]
fn d06_a_stopped_server_takes_nobody_along_and_is_used_again() {
    let mut report = Report::new("one of two servers stops and goes on", LOAD);
    for protocol in ["tcp", "auto"] {
        let forward = format!("protocol: {protocol}");
        let Some((chain, mut daemon)) = Chain::start(2, &["--in-order"], &forward, "") else { return };
        let load = chain.ask(300, &[UNIQUE]);
        sleep(SECOND);
        chain.peers[0].signal("STOP");
        sleep(3 * SECOND);
        chain.peers[0].signal("CONT");
        let node = &chain.node;
        let page = || node.get("127.0.0.1:9253", "/metrics");
        let of_first = |page: &str| {
            let ours = |l: &&str| l.starts_with("nodens_upstream_queries_total{") && l.contains("10.7.1.2");
            let ok = page.lines().filter(ours).filter(|l| l.contains("outcome=\"ok\""));
            ok.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        };
        let before = of_first(&page());
        daemon.until("it is used again", || of_first(&page()) > before + 20.0);
        report.unharmed(protocol, &figures(load), SECOND);
    }
    report.end();
}

#[test]
fn d10_d14_three_of_ten_datagrams_lost_each_way_lose_hardly_an_answer() {
    let mut report = Report::new("30 % of all datagrams lost, both ways", LOAD);
    for (servers, protocol) in [(1, "udp"), (2, "auto")] {
        let forward = format!("protocol: {protocol}");
        let Some((chain, _daemon)) = Chain::start(servers, &[], &forward, "") else { return };
        chain.peers.iter().for_each(|peer| peer.drop_packets("meta l4proto udp numgen random mod 100 < 30"));
        let load = chain.ask(250, &[UNIQUE]);
        sleep(8 * SECOND);
        let figures = figures(load);
        report.load(&format!("{servers} servers, {protocol}"), &figures);
        let lacking = figures.sent - figures.answered;
        report.check(figures.sent > 1500 && lacking * 1000 <= figures.sent, || {
            format!("{lacking} of {} not answered", figures.sent)
        });
    }
    report.end();
}

#[test]
fn d15_a_long_and_crooked_way_makes_nobody_a_failing_server() {
    let mut report = Report::new("200 ms away, in disorder, twice", LOAD);
    for protocol in ["udp", "tcp"] {
        let forward = format!("protocol: {protocol}");
        let options = ["--delay=150", "--jitter=100", "--copies=2"];
        let Some((chain, daemon)) = Chain::start(2, &options, &forward, "") else { return };
        let load = chain.ask(150, &[UNIQUE]);
        let fails = within(6 * SECOND, || failing(&daemon, &chain) > 0.0);
        report.check(fails.is_none(), || format!("{protocol}: failing after {fails:?}"));
        report.check(changes(&daemon, &chain) == 0.0, || format!("{protocol}: {} changes", changes(&daemon, &chain)));
        report.unharmed(protocol, &figures(load), SECOND);
    }
    report.end();
}

#[test]
fn d16_a_name_that_takes_long_holds_up_no_other() {
    let mut report = Report::new("one server that answers in order, one name that takes 1.9 s", LOAD);
    let Some((chain, _daemon)) = Chain::start(1, &["--in-order"], "", "") else { return };
    let alone = chain.ask(300, &[UNIQUE, "--prefix=alone"]);
    sleep(3 * SECOND);
    report.unharmed("without", &figures(alone), SECOND / 2);
    let slow = chain.ask(10, &[UNIQUE, "--prefix=slow-1900-"]);
    sleep(SECOND / 2);
    let beside = chain.ask(300, &[UNIQUE, "--prefix=beside"]);
    sleep(5 * SECOND);
    report.unharmed("beside", &figures(beside), SECOND / 2);
    report.unharmed("slow", &figures(slow), 4 * SECOND);
    report.end();
}

#[test]
fn d17_a_server_that_fails_one_query_in_ten_is_not_given_up() {
    let mut report = Report::new("one of two servers fails one query in ten", LOAD);
    let Some(mut chain) = Chain::new(2) else { return };
    chain.peers[0].serve(&["--servfail=10"]);
    chain.peers[1].serve(&[]);
    let daemon = Daemon::start(&chain.node, &chain.config("policy: round-robin", ""));
    let load = chain.ask(200, &[UNIQUE]);
    let fails = within(5 * SECOND, || failing(&daemon, &chain) > 0.0);
    report.check(fails.is_none(), || format!("failing after {fails:?}"));
    report.check(changes(&daemon, &chain) == 0.0, || format!("{} changes", changes(&daemon, &chain)));
    let figures = figures(load);
    report.load("load", &figures);
    report.check(figures.lost + figures.wrong == 0, || "some are lost".to_owned());
    report.check(figures.failed * 10 < figures.sent, || format!("{} failed", figures.failed));
    let asked = chain.peers[0].end();
    report.check(asked * 4 > figures.sent, || format!("it was asked {asked} of {} times", figures.sent));
    report.end();
}

#[test]
fn d18_a_server_that_comes_and_goes_is_judged_calmly() {
    let mut report = Report::new("one of two servers is silent every other half second", LOAD);
    for protocol in ["tcp", "udp"] {
        let Some(mut chain) = Chain::new(2) else { return };
        chain.peers[0].serve(&["--flap=500"]);
        chain.peers[1].serve(&[]);
        let daemon = Daemon::start(&chain.node, &chain.config(&format!("protocol: {protocol}"), ""));
        let load = chain.ask(200, &[UNIQUE]);
        sleep(10 * SECOND);
        let seen = changes(&daemon, &chain);
        report.unharmed(protocol, &figures(load), SECOND);
        report.note(&format!("{protocol}: {seen} changes"));
        // It changes twenty times itself.
        report.check(seen <= 8.0, || format!("{protocol}: {seen} changes"));
    }
    report.end();
}
