//! The image, and the manifests' containers as a node runs them: what they may do, what kills them, what takes over.
//!
//! The node is that of the other namespace tests. podman stands for the kubelet and its runtime.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::fs;
use std::thread::sleep;
use std::time::Duration;
use support::process::can_run;
use world::clients::{Asking, Figures, all_are, targets};
use world::container::{IMAGE, Manifest, has_image, plain, podman, status_of};
use world::guardian::signal;
use world::namespace::Namespace;
use world::proxy::Proxy;
use world::report::{Report, sum, worst};
use world::{LOCAL, VIP, World, alone};

/// CAP_NET_BIND_SERVICE and CAP_NET_ADMIN.
const TWO: &str = "0000000000001400";
/// No capability.
const NONE: &str = "0000000000000000";
/// The longest gap when something dies, in milliseconds.
const KILLED: u64 = 1000;
/// What the image may be, in octets.
const MOST: u64 = 12_000_000;
const COLUMNS: &str = "event | sent | lost | failed | longest gap ms | local | kube-dns";

/// Adds what `asking` saw to the report.
fn finish(report: &mut Report, event: &str, asking: [Asking; 2]) -> Vec<Figures> {
    let figures: Vec<Figures> = asking.into_iter().flat_map(Asking::finish).collect();
    report.row(&format!(
        "{event} | {} | {} | {} | {} | {} | {}",
        sum(&figures, |f| f.sent),
        sum(&figures, |f| f.lost),
        sum(&figures, |f| f.failed),
        worst(&figures, |f| f.longest_gap_ms),
        sum(&figures, |f| f.local),
        sum(&figures, |f| f.backend),
    ));
    figures
}

/// Is it answered by nodens, for the pods and the node, at all of `targets`?
fn is_served(world: &World, targets: &[String]) -> bool {
    all_are(&world.pods[0], targets, "local") && all_are(&world.node, targets, "local")
}

/// The container of `overlay` survives what kills it, and may do no more than its manifest says.
fn survives(overlay: &str, proxy: Proxy, addresses: &[&str]) {
    let _alone = alone();
    let Some(manifest) = Manifest::of(overlay) else { return };
    let Some(world) = World::new(proxy) else { return };
    let targets = targets(addresses);
    let name = format!("nodens-test-{overlay}");
    let start = || {
        let container = manifest.start(&world.node, &name, None);
        container.until("it serves everybody", || is_served(&world, &targets));
        container.until("its probes succeed", || container.is_well(&world.node));
        container
    };
    let container = start();
    let (guardian, server) = (container.pid(), container.server());
    for (pid, capabilities) in [(guardian, TWO), (server, NONE)] {
        for set in ["CapPrm", "CapEff", "CapAmb"] {
            let expected = if set == "CapAmb" { NONE } else { capabilities };
            assert_eq!(status_of(pid, set), expected, "{pid} {set}");
        }
        assert_eq!((status_of(pid, "CapBnd"), status_of(pid, "NoNewPrivs")), (TWO.into(), "1".into()));
        assert_eq!(status_of(pid, "Seccomp"), "2", "a filter of system calls");
    }
    assert!(container.log().contains("no capabilities, no new privileges, landlock, seccomp"), "{}", container.log());
    let root = format!("/proc/{guardian}/mountinfo");
    let root = fs::read_to_string(root).unwrap().lines().find(|l| l.contains(" / / ")).unwrap().to_owned();
    assert!(root.contains(" / / ro"), "a root file system that is read-only: {root}");

    let mut report = Report::new(&format!("the container of {overlay}"), COLUMNS);
    let asking = || [&world.pods[0], &world.node].map(|n| Asking::start(n, &["--rate=100", "--timeout=300"], &targets));
    let short = |report: &mut Report, event: &str, figures: Vec<Figures>| {
        for f in figures {
            report.check(f.longest_gap_ms <= KILLED, || format!("{event}: {}: {} ms", f.target, f.longest_gap_ms));
        }
    };
    // What is measured is time: some before the event, and more after it than any gap may last.
    let around = |event: &dyn Fn()| {
        let asking = asking();
        sleep(Duration::from_millis(500));
        event();
        sleep(Duration::from_millis(KILLED + 500));
        asking
    };
    let figures = finish(&mut report, "SIGKILL server", around(&|| signal(server, "KILL")));
    short(&mut report, "SIGKILL server", figures);
    container.until("there is another server", || is_served(&world, &targets));
    let figures = finish(&mut report, "SIGKILL container", around(&|| container.kill()));
    report.check(sum(&figures, |f| f.backend) > 0, || "kube-dns never answered".into());
    short(&mut report, "SIGKILL container", figures);
    assert!(all_are(&world.pods[0], &targets, "backend"), "the dead container's queries go to kube-dns");
    drop(container);
    // The kubelet makes another one.
    drop(start());
    report.end();
}

#[test]
fn the_container_of_kube_proxy_iptables_may_be_killed() {
    survives("kube-proxy-iptables", Proxy::Iptables, &[LOCAL[0], VIP[0]]);
}

#[test]
fn the_container_of_dual_stack_may_be_killed() {
    survives("dual-stack", Proxy::Nftables, &[LOCAL[0], "fd00:169:254:20::10", VIP[0]]);
}

#[test]
fn an_upgrade_by_surge_loses_no_query_and_keeps_the_cache() {
    let _alone = alone();
    let Some(manifest) = Manifest::of("kube-proxy-nftables") else { return };
    let Some(world) = World::new(Proxy::Nftables) else { return };
    let targets = targets(&[LOCAL[0], VIP[0]]);
    let old = manifest.start(&world.node, "nodens-test-old", None);
    old.until("it serves everybody", || is_served(&world, &targets));
    old.until("its probes succeed", || old.is_well(&world.node));
    let mut report = Report::new("a surge: the second container starts, the first one is stopped", COLUMNS);
    let asking = [&world.pods[0], &world.pods[1]].map(|n| Asking::start(n, &["--rate=200"], &targets));
    sleep(Duration::from_millis(500));
    let new = manifest.start(&world.node, "nodens-test-new", None);
    new.until("its probes succeed", || new.is_well(&world.node));
    assert_eq!(old.stop(), 0);
    sleep(Duration::from_millis(500));
    let figures = finish(&mut report, "surge", asking);
    report.check(sum(&figures, |f| f.lost + f.failed + f.backend) == 0, || "queries were lost".into());
    let page = world.node.get(&format!("{}:9253", LOCAL[0]), "/metrics");
    let loaded = page.lines().find_map(|line| line.strip_prefix("nodens_persist_entries{what=\"loaded\"} "));
    assert!(
        loaded.is_some_and(|n| n != "0"),
        "the new one begins with the old one's answers: {loaded:?}\n{}",
        new.log()
    );
    assert_eq!(new.stop(), 0);
    assert!(all_are(&world.pods[0], &targets, "backend"));
    report.end();
}

#[test]
fn behind_cilium_the_container_needs_no_privilege() {
    let _alone = alone();
    let Some(manifest) = Manifest::of("cilium") else { return };
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let ips = ["-4", "-6"].map(|family| {
        let line = world.pods[0].sh(&format!("ip -o {family} address show scope global"));
        line.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned()
    });
    let container = manifest.start(&world.pods[0], "nodens-test-cilium", Some(&ips.join(",")));
    let targets = targets(&[&ips[0], &ips[1]]);
    container.until("another pod is answered", || all_are(&world.pods[1], &targets, "local"));
    // The kubelet asks from the node.
    container.until("its probes succeed", || container.is_well(&world.node));
    let pid = container.pid();
    assert_eq!(status_of(pid, "Uid"), "65532\t65532\t65532\t65532");
    assert_eq!((status_of(pid, "CapEff"), status_of(pid, "CapBnd")), (NONE.into(), NONE.into()));
    assert_eq!(container.stop(), 0, "{}", container.log());
}

#[test]
fn the_image_takes_the_place_of_node_caches() {
    let _alone = alone();
    if !has_image() {
        return;
    }
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for name in ["coredns", "kube-dns"] {
        fs::create_dir(at(name)).unwrap();
    }
    fs::write(at("xtables.lock"), "").unwrap();
    // The stock one, for a node that asks kube-dns for everything.
    let corefile = ["cluster.local:53", "in-addr.arpa:53", "ip6.arpa:53", ".:53"].map(|zone| {
        let health = if zone.starts_with("cluster") { "health 169.254.20.10:8080" } else { "" };
        format!(
            "{zone} {{\n  errors\n  cache 30\n  reload\n  loop\n  bind 169.254.20.10 {}\n  forward . __PILLAR__CLUSTER__DNS__ {{\n\
             force_tcp\n  }}\n  prometheus :9253\n  {health}\n}}\n",
            VIP[0]
        )
    });
    fs::write(at("coredns/Corefile.base"), corefile.concat()).unwrap();
    let mounts = [("coredns", "/etc/coredns"), ("kube-dns", "/etc/kube-dns"), ("xtables.lock", "/run/xtables.lock")];
    let mut options: Vec<String> =
        mounts.iter().map(|(name, path)| format!("--volume={}:{path}", at(name).display())).collect();
    let environment = format!("--env=KUBE_DNS_UPSTREAM_SERVICE_HOST={}", world::UPSTREAM[0]);
    options.extend(["--cap-add=NET_ADMIN".into(), "--volume=/dev/net:/dev/net".into(), environment]);
    let local = format!("169.254.20.10,{}", VIP[0]);
    let arguments = "-conf /etc/Corefile -upstreamsvc kube-dns-upstream -pidfile /tmp/node-cache.pid".split(' ');
    let arguments: Vec<&str> = ["-localip", &local].into_iter().chain(arguments).collect();
    let container = plain(&world.node, "nodens-test-swap", &options, &arguments);
    let targets = targets(&[LOCAL[0], VIP[0]]);
    container.until("it serves everybody", || is_served(&world, &targets));
    container.until("it is alive", || world.node.get("169.254.20.10:8080", "/health").contains("200 OK"));
    container.until("it says who it is", || container.read("/tmp/node-cache.pid").is_some_and(|pid| pid.trim() == "1"));
    assert!(container.read("/etc/Corefile").is_some_and(|text| text.contains(world::UPSTREAM[0])));
    for port in ["9253", "9353"] {
        let page = world.node.get(&format!("169.254.20.10:{port}"), "/metrics");
        assert!(page.contains("\ncoredns_nodecache_setup_errors_total{"), "{port}: {page}");
    }
    assert_eq!(container.stop(), 0, "{}", container.log());
    assert!(all_are(&world.pods[0], &targets[2..], "backend"), "the VIP leads to kube-dns again");
}

#[test]
fn the_image_is_one_program_and_answers_at_once() {
    if !has_image() || !can_run("dig") {
        return;
    }
    let inspect = |format: &str| {
        let output = podman("image inspect --format").args([format, IMAGE]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let size: u64 = inspect("{{.Size}}").parse().unwrap();
    println!("{IMAGE}: {size} octets, of {}", inspect("{{index .Labels \"org.opencontainers.image.revision\"}}"));
    assert!(size <= MOST, "{size} octets");
    assert_eq!(inspect("{{index .Labels \"org.opencontainers.image.version\"}}"), env!("CARGO_PKG_VERSION"));

    let Ok(host) = Namespace::outer() else { return };
    host.sh("ip link set lo up");
    let demo = plain(&host, "nodens-test-demo", &["--cap-drop=ALL".into(), "--user=65532".into()], &["demo"]);
    let ask = "dig @127.0.0.1 -p 5300 +short +tries=1 +time=1 web.shop.svc.cluster.local";
    demo.until("it answers", || host.try_sh(ask).stdout == b"10.96.14.20\n");
    let list = demo.read("/nodens.cdx.json").unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list["bomFormat"], "CycloneDX");
    let parts: Vec<&str> = list["components"].as_array().unwrap().iter().filter_map(|c| c["name"].as_str()).collect();
    let lock = include_str!("../Cargo.lock");
    assert!(parts.contains(&"moka") && parts.contains(&"hickory-proto"), "{parts:?}");
    assert!(parts.iter().all(|name| lock.contains(&format!("name = \"{name}\""))), "{parts:?}");
    assert!(!parts.contains(&"criterion"), "what only tests need is not in the image");
    assert_eq!(fs::read_link(format!("/proc/{}/exe", demo.pid())).unwrap().to_str(), Some("/nodens"));
    let files = fs::read_dir(format!("/proc/{}/root", demo.pid())).unwrap();
    let mut files: Vec<String> = files.map(|f| f.unwrap().file_name().into_string().unwrap()).collect();
    files.retain(|name| !["proc", "sys", "dev", "run"].contains(&name.as_str()));
    files.sort();
    assert_eq!(files, ["etc", "node-cache", "nodens", "nodens.cdx.json", "tmp", "var"]);
    assert_eq!(demo.stop(), 0);
}
