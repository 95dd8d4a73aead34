//! Row D of the behaviour table, what lies between nodens and its upstreams: a Service whose pods are replaced, a host that is
//! replaced behind its address, ports and connection tracking that run out, packets that are too large.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::thread::sleep;
use std::time::Duration;
use support::proc;
use world::chain::{self, Chain, Daemon, Peer, config, figures};
use world::namespace::Namespace;
use world::report::{LOAD, Report};

/// Names of which none is asked for twice.
const UNIQUE: &str = "--names=0";
const SECOND: Duration = Duration::from_secs(1);

/// What arrives without belonging to a connection is dropped, as kube-proxy and most firewalls do: nobody sends a reset.
const SILENT: &str = "
echo 0 >/proc/sys/net/netfilter/nf_conntrack_tcp_loose 2>/dev/null || true
nft 'table inet stateful {
    chain input { type filter hook input priority 0; ct state invalid drop; meta l4proto tcp ct state new tcp flags & (syn | ack) != syn drop; }
}'";

#[test]
fn d07_a_host_behind_the_same_address_is_found_though_the_old_one_sends_no_reset() {
    let mut report = Report::new("the host of the only server is replaced", LOAD);
    let Some(node) = chain::node() else { return };
    let ip = "10.7.9.2";
    let [mut old, mut new] = ["old", "new"].map(|link| Peer::join(&node, link, ip));
    for peer in [&mut old, &mut new] {
        peer.serve(&["--in-order", "--delay=5"]);
        peer.namespace.sh(SILENT);
    }
    old.lead(&node);
    let _daemon = Daemon::start(&node, &config(&[ip], "maxConnections: 8", ""));
    let chain = Chain { node, peers: vec![old, new] };
    // Eight connections, of which the load below leaves some idle.
    let burst = chain.ask(800, &[UNIQUE, "--prefix=burst"]);
    sleep(SECOND);
    report.unharmed("before", &figures(burst), SECOND);
    let load = chain.ask(100, &[UNIQUE]);
    sleep(SECOND);
    chain.peers[1].lead(&chain.node);
    sleep(5 * SECOND);
    let after = chain.ask(100, &[UNIQUE, "--prefix=after"]);
    sleep(2 * SECOND);
    let load = figures(load);
    report.unharmed("meanwhile", &load, 3 * SECOND);
    report.check(load.longest_gap_ms < 3000, || format!("no answer for {} ms", load.longest_gap_ms));
    report.unharmed("after", &figures(after), SECOND);
    report.end();
}

/// The address of the Service.
const SERVICE: &str = "10.96.0.11";

/// What kube-proxy makes of a Service: connections go to one of its pods, by chance; without any they are refused.
fn proxy(node: &Namespace, pods: &[&Peer]) {
    let choice: Vec<String> = pods.iter().enumerate().map(|(n, pod)| format!("{n} : {}", pod.ip)).collect();
    let translate = format!(
        "ip daddr {SERVICE} meta l4proto {{ tcp, udp }} dnat to numgen random mod {} map {{ {} }}",
        pods.len(),
        choice.join(", ")
    );
    let (nat, filter) = match pods {
        [] => (String::new(), format!("ip daddr {SERVICE} ct state new reject")),
        _ => (translate, String::new()),
    };
    node.sh(&format!(
        "nft -f - <<'END'
table ip service
delete table ip service
table ip service {{
    chain nat {{ type nat hook output priority -100; {nat}; }}
    chain filter {{ type filter hook output priority 0; {filter}; }}
}}
END"
    ));
}

/// How the old pods go.
#[derive(Clone, Copy, Debug)]
enum End {
    /// Their processes die, and their kernels say so.
    Killed,
    /// They are cut off: nobody says anything any more.
    Dropped,
    /// They die before the others are there.
    Gap,
}

#[test]
fn d19_all_pods_of_kube_dns_are_replaced_and_no_client_gets_an_error() {
    let mut report = Report::new("all pods behind one Service address are replaced", LOAD);
    // The full rate is for machines that have nothing else to do.
    let rate = if std::env::var_os("CI").is_some() { 500 } else { 1000 };
    for end in [End::Killed, End::Dropped, End::Gap] {
        let Some(node) = chain::node() else { return };
        let pods = |tag: u8| {
            let pod = |n: u8| Peer::join(&node, &format!("pod{tag}{n}"), &format!("10.7.{tag}.{n}"));
            let mut pods = [2, 3].map(pod);
            pods.iter_mut().for_each(|pod| pod.serve(&["--in-order", "--delay=2"]));
            pods
        };
        let mut old = pods(1);
        let new = pods(2);
        node.sh("ip route add default via 10.7.1.2 dev pod12 src 10.7.0.1 onlink");
        proxy(&node, &old.each_ref());
        let _daemon = Daemon::start(&node, &config(&[SERVICE], "", ""));
        let chain = Chain { node, peers: Vec::new() };
        let load = chain.ask(rate, &[UNIQUE]);
        sleep(2 * SECOND);
        match end {
            End::Killed => {
                proxy(&chain.node, &new.each_ref());
                old.iter_mut().for_each(Peer::kill);
            }
            End::Dropped => {
                proxy(&chain.node, &new.each_ref());
                old.iter().for_each(Peer::vanish);
            }
            End::Gap => {
                old.iter_mut().for_each(Peer::kill);
                proxy(&chain.node, &[]);
                sleep(SECOND / 2);
                proxy(&chain.node, &new.each_ref());
            }
        }
        sleep(4 * SECOND);
        report.unharmed(&format!("{end:?}"), &figures(load), 3 * SECOND);
        drop(new);
    }
    report.end();
}

/// How much processor time is spent while `body` runs: close to all the time that passes is a spin.
fn calm(report: &mut Report, case: &str, daemon: &Daemon, body: impl FnOnce()) {
    let (begin, before) = (std::time::Instant::now(), proc::processor_time(daemon.pid()));
    body();
    let (passed, spent) = (begin.elapsed(), proc::processor_time(daemon.pid()) - before);
    report.note(&format!("{case}: {spent:?} of processor time in {passed:?}"));
    report.check(spent * 4 < passed * 3, || format!("{case}: {spent:?} of processor time in {passed:?}"));
}

/// Tries that were not answered.
fn unanswered(daemon: &Daemon, chain: &Chain) -> f64 {
    let tries = |labels| daemon.metric(&chain.node, "nodens_upstream_queries_total", labels);
    tries("") - tries("outcome=\"ok\"")
}

#[test]
fn d21_without_free_ports_queries_wait_or_fail_calmly_and_it_recovers() {
    let mut report = Report::new("sixteen ports for queries that take 300 ms", LOAD);
    for protocol in ["udp", "tcp"] {
        let forward = format!("protocol: {protocol}");
        let Some((chain, daemon)) = Chain::start(1, &["--in-order", "--delay=300"], &forward, "") else { return };
        // Its sockets are there before ports are rare.
        let load = chain.ask(100, &[UNIQUE, "--prefix=rare"]);
        chain.node.sh("echo 50000 50015 >/proc/sys/net/ipv4/ip_local_port_range");
        calm(&mut report, protocol, &daemon, || sleep(4 * SECOND));
        let figures_of_rare = figures(load);
        report.load(&format!("{protocol}, few ports"), &figures_of_rare);
        // It may fail, but it may not keep anybody waiting.
        report.check(figures_of_rare.lost == 0, || format!("{protocol}: {} lost", figures_of_rare.lost));
        report.check(figures_of_rare.answered > 0, || format!("{protocol}: none answered"));
        chain.node.sh("echo 32768 60999 >/proc/sys/net/ipv4/ip_local_port_range");
        if figures_of_rare.failed > 0 {
            report.check(unanswered(&daemon, &chain) > 0.0, || format!("{protocol}: nothing is counted"));
        }
        sleep(2 * SECOND);
        let load = chain.ask(50, &[UNIQUE, "--prefix=free"]);
        sleep(2 * SECOND);
        report.unharmed(&format!("{protocol}, many ports"), &figures(load), 2 * SECOND);
    }
    report.end();
}

#[test]
fn d21_what_the_kernel_refuses_to_send_goes_elsewhere_and_it_recovers() {
    let mut report = Report::new("sending is refused, as when connection tracking is full", LOAD);
    // EPERM for datagrams, silence for connections; ECONNREFUSED for both.
    for (protocol, verdict) in [("udp", "drop"), ("tcp", "drop"), ("udp", "reject"), ("tcp", "reject with tcp reset")] {
        let case = format!("{protocol}, {verdict}");
        let forward = format!("protocol: {protocol}");
        let Some((chain, mut daemon)) = Chain::start(2, &[], &forward, "") else { return };
        let refuse = |matches: &str| {
            let l4 = format!("meta l4proto {protocol}");
            chain.node.sh(&format!(
                "nft 'table inet full {{ chain out {{ type filter hook output priority 0; {matches} {l4} {verdict}; }}; }}'"
            ));
        };
        let load = chain.ask(200, &[UNIQUE]);
        sleep(SECOND / 2);
        refuse("ip daddr 10.7.1.2");
        calm(&mut report, &case, &daemon, || sleep(2 * SECOND));
        report.unharmed(&case, &figures(load), SECOND);
        chain.node.sh("nft delete table inet full");
        refuse("ip daddr { 10.7.1.2, 10.7.2.2 }");
        let load = chain.ask(50, &[UNIQUE, "--prefix=none"]);
        calm(&mut report, &format!("{case}, both"), &daemon, || sleep(2 * SECOND));
        chain.node.sh("nft delete table inet full");
        let nobody = figures(load);
        report.load(&format!("{case}, both"), &nobody);
        report.check(nobody.lost == 0, || format!("{case}: {} lost", nobody.lost));
        let mut names = (0..).map(|n| format!("back{n}.example."));
        daemon.until("it is answered again", || chain.once(&names.next().unwrap()).outcome == "local");
        report.check(unanswered(&daemon, &chain) > 0.0, || format!("{case}: nothing is counted"));
    }
    report.end();
}

#[test]
fn d22_where_large_packets_vanish_large_answers_come_all_the_same() {
    let Some(node) = chain::node() else { return };
    let router = Peer::join(&node, "far", "10.7.8.2");
    let ip = "10.7.7.2";
    let mut server = Peer::behind(&router.namespace, &router.ip, "near", ip);
    // The server may send 1500 octets; on the last link fit 1280, and it is not told.
    router.namespace.sh("echo 1 >/proc/sys/net/ipv4/ip_forward
        ip link set eth0 mtu 1280
        nft 'table inet chaos { chain output { type filter hook output priority 0; meta l4proto icmp drop; }; }'");
    node.sh(&format!("ip route replace {ip}/32 via 10.7.8.2 dev far src 10.7.0.1 onlink"));
    server.serve(&[]);
    for protocol in ["tcp", "udp", "auto"] {
        let _daemon = Daemon::start(&node, &config(&[ip], &format!("protocol: {protocol}"), ""));
        // Some 1000 octets, which fit; and some 16,000, which do not, and for which UDP alone is not enough.
        let counts: &[u32] = if protocol == "udp" { &[60] } else { &[60, 1000] };
        for (n, target) in ["udp:127.0.0.1", "tcp:127.0.0.1"].into_iter().enumerate() {
            for count in counts {
                let answer = world::clients::ask_once(&node, target, &format!("big-{count}-{n}.example."));
                assert!(answer.outcome == "local" && answer.ms < 4000, "{protocol}, {target}, {count}: {answer:?}");
            }
        }
    }
    server.end();
}
