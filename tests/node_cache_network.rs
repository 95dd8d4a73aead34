//! A run in the place of node-cache on a node: the arguments of the stock manifest, interface and rules on, two processes.

#![allow(clippy::panic, clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::fs;
use std::time::Duration;
use world::clients::{all_are, targets};
use world::guardian::{Guardian, Setup, live_tables, signal};
use world::namespace::Namespace;
use world::proxy::Proxy;
use world::{LOCAL, VIP, World, alone, node_cache, within};

/// How long nodens may take to end.
const END: Duration = Duration::from_secs(10);
/// How long anything else may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// The blocks of the stock Corefile, without those for reverse look-ups, in the older form that asks the node's servers
/// over TCP.
const COREFILE: &str = "\
cluster.local:53 {
    errors
    cache {
            success 9984 30
            denial 9984 5
    }
    reload
    loop
    bind 169.254.20.10 10.96.0.10
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus 169.254.20.10:9253
    health 169.254.20.10:8080
    }
.:53 {
    errors
    cache 30
    reload
    loop
    bind 169.254.20.10 10.96.0.10
    forward . __PILLAR__UPSTREAM__SERVERS__ {
            force_tcp
    }
    prometheus 169.254.20.10:9253
    }
";

/// One family, as node-cache has it.
fn setup() -> Setup {
    Setup { addresses: vec![LOCAL[0], VIP[0]], ..Setup::default() }
}

fn get(node: &Namespace, port: u16, path: &str) -> String {
    node.get(&format!("{}:{port}", LOCAL[0]), path)
}

fn read(nodens: &Guardian, name: &str) -> String {
    fs::read_to_string(nodens.directory().join(name)).unwrap_or_default()
}

/// Starts one that answers everybody.
fn start(world: &World, flags: &[&str]) -> Guardian {
    let setup = setup();
    let mut nodens = setup.launch_as_node_cache(world, COREFILE, flags);
    nodens.until("it serves everybody", || setup.is_served(world));
    nodens
}

#[test]
fn the_stock_arguments_make_interface_and_rules_and_take_them_back() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let mut nodens = start(&world, &[]);
    assert!(!live_tables(&world.node).is_empty(), "rules");
    let guardian = nodens.pid().to_string();
    let pid = nodens.directory().join("pid");
    nodens.until("the process id is written", || fs::read_to_string(&pid).is_ok_and(|text| text.trim() == guardian));
    for port in [9253, 9353] {
        let page = get(&world.node, port, "/metrics");
        assert!(page.contains("coredns_nodecache_setup_errors_total{errortype=\"interface_add\"} 0"), "{port}: {page}");
    }
    assert!(get(&world.node, 8080, "/health").contains(" 200 "));
    // The server, which may open no file for writing, follows the ConfigMap and writes the Corefile.
    fs::write(nodens.directory().join("kube-dns/upstreamNameservers"), "[\"10.96.0.11\"]").unwrap();
    let loaded = |nodens: &Guardian| nodens.metric(&world.node, "nodens_config_reloads_total", "loaded");
    assert!(within(PATIENCE, || loaded(&nodens) == 1.0).is_some(), "{}", nodens.log());
    assert!(read(&nodens, "Corefile").contains("    forward . 10.96.0.11\n"), "{}", read(&nodens, "Corefile"));
    // A server that dies is replaced by one that knows the flags.
    let server = nodens.server_pid();
    signal(server, "KILL");
    let targets = targets(&[LOCAL[0], VIP[0]]);
    nodens.until("the next one serves", || {
        world::guardian::children(guardian.parse().unwrap()).iter().any(|pid| *pid != server)
            && all_are(&world.pods[0], &targets, "local")
    });
    ["HUP", "USR1", "USR2"].iter().for_each(|name| signal(nodens.pid(), name));
    assert!(within(PATIENCE, || nodens.log().contains("SIGUSR2 reloads")).is_some(), "{}", nodens.log());
    signal(nodens.pid(), "TERM");
    assert!(nodens.end(END).success(), "{}", nodens.log());
    assert!(live_tables(&world.node).is_empty() && !pid.exists());
    assert!(!world.node.sh("ip -o addr show").contains(LOCAL[0]));
    assert!(all_are(&world.pods[0], &world::clients::targets(&[VIP[0]]), "backend"));
}

#[test]
fn an_interface_that_is_left_keeps_nobody_from_kube_dns() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    // One that node-cache has left: it does not go with nodens.
    node_cache::link(&world.node);
    node_cache::rules(&world.node);
    let mut nodens = start(&world, &["-skipteardown"]);
    assert!(!world.node.sh("iptables-save; ip6tables-save").contains(node_cache::COMMENT), "rules of node-cache");
    signal(nodens.pid(), "TERM");
    assert!(nodens.end(END).success(), "{}", nodens.log());
    assert!(world.node.sh("ip -o addr show").contains(LOCAL[0]), "the interface stays");
    let vip = targets(&[VIP[0]]);
    assert!(within(PATIENCE, || all_are(&world.pods[0], &vip, "backend")).is_some(), "a black hole");
    assert!(all_are(&world.node, &vip, "backend"));
    // And the next one that is to take it down does so.
    let mut next = start(&world, &[]);
    signal(next.pid(), "QUIT");
    assert!(next.end(END).success(), "{}", next.log());
    assert!(!world.node.sh("ip -o addr show").contains(LOCAL[0]));
}

#[test]
fn without_the_service_packets_are_left_to_kube_dns() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup { upstream: "", ..setup() };
    let mut nodens = setup.launch_as_node_cache(&world, COREFILE, &[]);
    nodens.until("it is unwell", || get(&world.node, 8080, "/health").contains(" 503 "));
    assert!(all_are(&world.pods[0], &targets(&[VIP[0]]), "backend"), "as if it were not there");
    assert!(all_are(&world.pods[0], &targets(&[LOCAL[0]]), "failed"));
    assert!(live_tables(&world.node).is_empty());
    signal(nodens.pid(), "TERM");
    assert!(nodens.end(END).success(), "{}", nodens.log());
}

#[test]
fn a_lame_duck_captures_until_its_time_is_over() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let corefile = COREFILE.replace(":8080\n", ":8080 {\n      lameduck 60s\n    }\n");
    let setup = setup();
    let mut nodens = setup.launch_as_node_cache(&world, &corefile, &[]);
    nodens.until("it serves everybody", || setup.is_served(&world));
    signal(nodens.pid(), "TERM");
    nodens.until("it is not ready any more", || get(&world.node, 8080, "/ready").contains(" 503 "));
    assert!(setup.is_served(&world), "{}", nodens.log());
    assert!(!live_tables(&world.node).is_empty());
    signal(nodens.pid(), "TERM");
    assert!(nodens.end(END).success(), "{}", nodens.log());
}
