//! While nodens answers, the addresses of the node's DNS are local; when it does not, whatever the reason, they lead to
//! kube-dns: link-local address and Service address, UDP and TCP, IPv4 and IPv6, for pods and for the node itself.
//!
//! Every event is measured from all sixteen ends at once, by clients that ask every 10 ms on fresh sockets; the figures
//! are printed as a table. What is put back when others remove it is in `network.rs`.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;
use support::process::{NODENS, skip};
use world::cgroup::Cgroup;
use world::clients::{Asking, Figures, all_are, all_targets, who_answers_within};
use world::guardian::{Guardian, Setup, signal};
use world::proxy::Proxy;
use world::report::{Report, sum, worst};
use world::{World, alone, node_cache, within};

/// The longest gap when something dies.
const KILLED: u64 = 1000;
/// The longest gap when something hangs.
const HUNG: u64 = 2000;
/// The columns of the tables.
const COLUMNS: &str =
    "event | gap pod udp | gap pod tcp | gap host udp | gap host tcp | lost of sent | local | kube-dns";

/// Measures all ends of `setup` around `event`, adds a row, and checks that no gap is longer than `longest` ms.
fn measure(
    report: &mut Report,
    world: &World,
    setup: &Setup,
    name: &str,
    longest: u64,
    event: impl FnOnce(),
) -> Vec<Figures> {
    let ends = [&world.pods[0], &world.node];
    let options = ["--rate=100", "--timeout=300"];
    let asking = ends.map(|from| Asking::start(from, &options, &setup.targets()));
    // What is measured is time: some before the event, and more after it than any gap may last.
    sleep(Duration::from_millis(500));
    event();
    sleep(Duration::from_millis(longest + 500));
    let [pod, host] = asking.map(Asking::finish);
    let gap = |of: &[Figures], proto: &str| {
        let of: Vec<Figures> = of.iter().filter(|f| f.target.starts_with(proto)).cloned().collect();
        worst(&of, |f| f.longest_gap_ms)
    };
    let all = [pod.clone(), host.clone()].concat();
    report.row(&format!(
        "{name} | {} | {} | {} | {} | {} of {} | {} | {}",
        gap(&pod, "udp"),
        gap(&pod, "tcp"),
        gap(&host, "udp"),
        gap(&host, "tcp"),
        sum(&all, |f| f.sent - f.answered),
        sum(&all, |f| f.sent),
        sum(&all, |f| f.local),
        sum(&all, |f| f.backend),
    ));
    for (from, figures) in [("pod", &pod), ("host", &host)] {
        for f in figures {
            report.check(f.longest_gap_ms <= longest, || {
                format!("{name}: {from}, {}: {} ms without an answer {:?}", f.target, f.longest_gap_ms, f.errors)
            });
        }
    }
    all
}

/// Nothing of what pods ask is tracked, nor of what the host asks, where nodens answers it.
fn untracked(report: &mut Report, world: &World, setup: &Setup) {
    for (from, outcome) in [(&world.pods[0], "local"), (&world.node, setup.host_outcome(world))] {
        world.forget_connections();
        assert!(all_are(from, &setup.targets(), outcome), "{outcome} was to answer");
        let tracked = world.tracked();
        report.check(outcome != "local" || tracked.is_empty(), || format!("tracked: {tracked:#?}"));
    }
}

/// Kills guardian and server without a word.
fn kill_both(nodens: &Guardian) {
    // The guardian first: it would start another server.
    let server = nodens.server();
    signal(nodens.pid(), "KILL");
    server.into_iter().for_each(|pid| signal(pid, "KILL"));
}

/// What is measured against: node-cache's rules stay when it dies, and nobody answers any more.
#[test]
fn the_rules_of_node_cache_are_a_black_hole_without_it() {
    let _alone = alone();
    for proxy in [Proxy::Iptables, Proxy::Nftables] {
        let Some(world) = World::new(proxy) else { return };
        let columns = "address | pod, alive | host, alive | pod, killed | host, killed";
        let mut report = Report::new(&format!("node-cache's rules, kube-proxy {proxy:?}"), columns);
        let (pod, targets) = (&world.pods[0], all_targets());
        let vip = targets[4..].to_vec();
        assert!(all_are(pod, &vip, "backend") && all_are(&world.node, &vip, "backend"), "kube-proxy leads to kube-dns");
        node_cache::link(&world.node);
        node_cache::rules(&world.node);
        let server = node_cache::server(&world.node);
        assert!(within(Duration::from_secs(3), || all_are(pod, &targets, "local")).is_some());
        world.forget_connections();
        let alive = [pod, &world.node].map(|from| who_answers_within(from, &targets, 1000));
        let tracked = world.tracked();
        assert!(tracked.is_empty(), "{tracked:?}");
        drop(server);
        let killed = [pod, &world.node].map(|from| who_answers_within(from, &targets, 3000));
        for target in &targets {
            let [a, b, c, d] = [&alive[0], &alive[1], &killed[0], &killed[1]].map(|of| &of[target]);
            report.row(&format!("{target} | {a} | {b} | {c} | {d}"));
            report.check(a == "local" && b == "local", || format!("{target}: not served by the node"));
            report.check(c == "lost" && d == "lost", || format!("{target}: somebody answers in its place"));
        }
        report.end();
    }
}

/// The measure itself: a silence of known length is seen from every end, and nothing is where there is none.
#[test]
fn a_silence_is_measured() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    node_cache::link(&world.node);
    node_cache::rules(&world.node);
    let server = node_cache::server(&world.node);
    let setup = Setup::default();
    assert!(within(Duration::from_secs(3), || all_are(&world.pods[0], &setup.targets(), "local")).is_some());
    let mut report = Report::new("a silence of 600 ms", COLUMNS);
    let none = measure(&mut report, &world, &setup, "none", 500, || {});
    let some = measure(&mut report, &world, &setup, "600 ms", 900, || {
        signal(server.pid(), "STOP");
        sleep(Duration::from_millis(600));
        signal(server.pid(), "CONT");
    });
    for figures in none.iter().chain(&some) {
        report.check(figures.sent > 100, || format!("{}: only {} asked", figures.target, figures.sent));
    }
    let least = some.iter().map(|f| f.longest_gap_ms).min().unwrap();
    report.check(least >= 590, || format!("a silence of 600 ms is taken for one of {least} ms"));
    report.end();
}

#[test]
fn g03_every_end_is_served_through_every_death() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut report = Report::new("nftables, kube-proxy iptables", COLUMNS);
    let mut nodens = setup.start(&world);
    untracked(&mut report, &world, &setup);
    measure(&mut report, &world, &setup, "alive", 500, || {});
    for (name, longest) in [("KILL", KILLED), ("ABRT", KILLED), ("STOP", HUNG)] {
        let server = nodens.server_pid();
        measure(&mut report, &world, &setup, &format!("SIG{name} server"), longest, || signal(server, name));
        nodens.until("another server answers", || all_are(&world.pods[0], &setup.targets(), "local"));
        report.check(nodens.server() != Some(server), || format!("SIG{name}: it is still the same server"));
    }
    measure(&mut report, &world, &setup, "SIGKILL guardian", KILLED, || signal(nodens.pid(), "KILL"));
    drop(nodens);
    nodens = setup.start(&world);
    measure(&mut report, &world, &setup, "SIGKILL both", KILLED, || kill_both(&nodens));
    drop(nodens);
    nodens = setup.start(&world);
    untracked(&mut report, &world, &setup);
    measure(&mut report, &world, &setup, "SIGTERM guardian", KILLED, || signal(nodens.pid(), "TERM"));
    let status = nodens.end(Duration::from_secs(5));
    report.check(status.success(), || format!("SIGTERM: {status}"));
    report.end();
}

/// A world in which something else is different.
fn in_another_world(name: &str, proxy: Proxy, firewall: &'static str, link_stays: bool) {
    let _alone = alone();
    let Some(world) = World::new(proxy) else { return };
    if link_stays {
        node_cache::link(&world.node);
    }
    let setup = Setup { firewall, ..Setup::default() };
    let mut report = Report::new(name, COLUMNS);
    let mut nodens = setup.start(&world);
    untracked(&mut report, &world, &setup);
    for (name, longest) in [("KILL", KILLED), ("STOP", HUNG)] {
        let server = nodens.server_pid();
        measure(&mut report, &world, &setup, &format!("SIG{name} server"), longest, || signal(server, name));
        nodens.until("another server answers", || all_are(&world.pods[0], &setup.targets(), "local"));
    }
    measure(&mut report, &world, &setup, "SIGKILL both", KILLED, || kill_both(&nodens));
    drop(nodens);
    nodens = setup.start(&world);
    untracked(&mut report, &world, &setup);
    measure(&mut report, &world, &setup, "SIGKILL guardian", KILLED, || signal(nodens.pid(), "KILL"));
    report.end();
}

#[test]
fn h06_with_a_kube_proxy_of_nftables() {
    in_another_world("nftables, kube-proxy nftables", Proxy::Nftables, "nftables", false);
}

#[test]
fn with_rules_written_by_iptables() {
    in_another_world("iptables, kube-proxy iptables", Proxy::Iptables, "iptables", false);
}

#[test]
fn with_a_link_that_stays_as_a_dummy_does() {
    in_another_world("nftables, the link stays", Proxy::Iptables, "nftables", true);
}

#[test]
fn with_rules_written_by_iptables_and_a_link_that_stays() {
    in_another_world("iptables, the link stays", Proxy::Iptables, "iptables", true);
}

/// Without kube-proxy (its place taken by something that translates sockets, say) the fallback is ours alone.
#[test]
fn h06_without_kube_proxy() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Absent) else { return };
    let setup = Setup { upstream: world::BACKENDS[0][0], ..Setup::default() };
    let mut report = Report::new("nftables, no kube-proxy", COLUMNS);
    let nodens = setup.start(&world);
    measure(&mut report, &world, &setup, "SIGKILL both", KILLED, || kill_both(&nodens));
    report.end();
}

#[test]
fn g03_when_memory_runs_out() {
    let _alone = alone();
    if let Err(error) = Cgroup::new(1) {
        return skip(&format!("needs a memory cgroup: {error}"));
    }
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let mut report = Report::new("out of memory", COLUMNS);
    for victim in ["server", "guardian", "both"] {
        let mut nodens = setup.start(&world);
        let victims = match victim {
            "server" => vec![nodens.server_pid()],
            "guardian" => vec![nodens.pid()],
            _ => vec![nodens.server_pid(), nodens.pid()],
        };
        let group = Cgroup::new(64).unwrap();
        victims.iter().for_each(|&pid| group.add(pid));
        measure(&mut report, &world, &setup, &format!("OOM kill of {victim}"), KILLED, || group.exhaust(&world.node));
        let dead = victims.iter().all(|&pid| is_dead(pid));
        report.check(dead, || format!("{victim}: nothing was killed"));
    }
    report.end();
}

/// Is the process gone, or a zombie?
fn is_dead(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
}

/// What the next server would be started from is spoilt, then the one that runs dies.
#[test]
fn g14_when_no_server_starts_any_more() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let mut report = Report::new("the next server cannot start", COLUMNS);
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("nodens");
    fs::copy(NODENS, &program).unwrap();
    let setup = Setup { program: program.clone(), ..Setup::default() };
    let mut nodens = setup.start(&world);
    let pod = &world.pods[0];

    let good = fs::read_to_string(nodens.config_path()).unwrap();
    replace(&nodens.config_path(), "zones: 7\n");
    let server = nodens.server_pid();
    measure(&mut report, &world, &setup, "configuration broken", KILLED, || signal(server, "KILL"));
    replace(&nodens.config_path(), &good);
    nodens.until("the configuration is good again", || all_are(pod, &setup.targets(), "local"));

    fs::copy("/bin/false", directory.path().join("false")).unwrap();
    fs::rename(directory.path().join("false"), &program).unwrap();
    let server = nodens.server_pid();
    measure(&mut report, &world, &setup, "program replaced", KILLED, || signal(server, "KILL"));
    fs::remove_file(&program).unwrap();
    let server = nodens.server_pid();
    measure(&mut report, &world, &setup, "program removed", KILLED, || signal(server, "KILL"));

    // Nothing can be opened, so nothing be passed on.
    nodens.until("a server answers", || all_are(pod, &setup.targets(), "local"));
    let (server, guardian) = (nodens.server_pid(), nodens.pid());
    let before = limit_files(guardian, Some(10));
    let figures = measure(&mut report, &world, &setup, "no descriptors", KILLED, || signal(server, "KILL"));
    report.check(figures.iter().all(|f| f.backend > 0), || "kube-dns was not asked: what was measured?".to_owned());
    limit_files(guardian, before);
    nodens.until("there are descriptors again", || all_are(pod, &setup.targets(), "local"));
    report.end();
}

/// Lets a process have at most `files` descriptors, for now; gives what it might have before.
fn limit_files(pid: u32, files: Option<u64>) -> Option<u64> {
    use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(Pid::from_raw(pid as i32), Resource::Nofile, Rlimit { current: files, maximum }).unwrap().current
}

/// Puts `text` into a file in one go.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// A transport that is dead alone is enough: the node says so, and its clients are led to kube-dns.
#[test]
fn g13_when_only_one_transport_answers() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup::default();
    let pod = &world.pods[0];
    let mut report = Report::new("one transport dead", "transport | left to kube-dns after ms | back after ms");
    let mut nodens = setup.start(&world);
    for proto in ["udp", "tcp"] {
        // What the guardian asks goes over lo, as everything does that a host asks of itself.
        world.node.sh(&format!(
            "nft 'table inet trouble {{ chain in {{ type filter hook input priority 0; iif lo {proto} dport 53 drop; }}; }}'"
        ));
        let left = within(Duration::from_secs(3), || all_are(pod, &setup.targets(), "backend"));
        world.node.sh("nft delete table inet trouble");
        let back = within(Duration::from_secs(15), || all_are(pod, &setup.targets(), "local"));
        let ms = |time: Option<Duration>| time.map_or("never".to_owned(), |time| time.as_millis().to_string());
        report.row(&format!("{proto} | {} | {}", ms(left), ms(back)));
        report.check(left.is_some_and(|left| left.as_millis() <= u128::from(HUNG)), || format!("{proto}: not left"));
        report.check(back.is_some(), || format!("{proto}: not back; log:\n{}", nodens.log()));
    }
    let _ = nodens.server_pid();
    report.end();
}
