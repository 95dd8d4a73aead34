//! What nodens needs to be allowed, and what it says and does when it is not: row G19, and the user without a name that
//! systemd gives a service.
//!
//! The world is made by root; nodens is started by a script that gives up privileges first.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;
use support::process::{NODENS, can_run};
use tempfile::TempDir;
use world::clients::{all_are, targets};
use world::guardian::{Guardian, Setup, is_prepared, signal};
use world::proxy::Proxy;
use world::{LOCAL, VIP, World, node_cache, within};

/// How long nodens may take to end.
const END: Duration = Duration::from_secs(10);
/// How soon kube-dns answers when nodens is dead; more than is promised, for here it is not about time.
const SOON: Duration = Duration::from_secs(3);
/// The capabilities that the documentation asks for.
const BOTH: &str = ",+net_admin,+net_bind_service";
/// The same as the kernel writes them: bits 10 and 12.
const BOTH_BITS: u64 = 1 << 10 | 1 << 12;
/// Somebody who is not root.
const NOBODY: &str = "--reuid=65534 --regid=65534 --clear-groups";

/// A way to start nodens; the files go when this does.
struct Restricted {
    setup: Setup,
    _directory: TempDir,
}

/// Has nodens run after `setpriv` with `options`, and with no capability but `capabilities` left to anybody.
fn restricted(options: &str, capabilities: &str) -> Restricted {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    // Whoever it is can neither look into the directories of cargo nor into that of the configuration.
    let (program, script) = (path.join("nodens"), path.join("start"));
    fs::copy(NODENS, &program).unwrap();
    let text = format!(
        "#!/bin/sh\nchmod -R a+rX \"$(dirname \"$3\")\"\nexec setpriv --pdeathsig KILL --no-new-privs \
         --bounding-set=-all{capabilities} --inh-caps=-all{capabilities} {options} -- {} \"$@\"\n",
        program.display()
    );
    fs::write(&script, text).unwrap();
    for path in [path, &script] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let setup = Setup { firewall: "auto", program: script, ..Setup::default() };
    Restricted { setup, _directory: directory }
}

impl Restricted {
    /// Starts it with these settings of the network, and waits for nothing.
    fn launch(&self, world: &World, network: &str) -> Guardian {
        let addresses = self.setup.addresses.iter().map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
        let first = self.setup.addresses[0];
        self.setup.launch_with(
            world,
            &format!(
                "listen: {{ addresses: [{addresses}] }}
network: {network}
zones: [{{ match: [.], forward: {{ to: [kube-dns], protocol: tcp }} }}]
metrics: {{ listen: [\"{first}:9253\"] }}
health: {{ listen: \"{first}:8080\" }}
log: {{ format: text }}\n"
            ),
        )
    }

    /// What it says last, after it has ended with status 1.
    fn last_words(&self, world: &World, network: &str) -> String {
        let mut nodens = self.launch(world, network);
        let status = nodens.end(END);
        let log = nodens.log();
        assert_eq!(status.code(), Some(1), "{status}; log:\n{log}");
        log.lines().last().unwrap_or_default().to_owned()
    }
}

/// A number in hexadecimal digits, or a decimal one, of `/proc/PID/status`.
fn status(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t")).unwrap();
    u64::from_str_radix(value, if name.starts_with("Cap") { 16 } else { 10 }).unwrap()
}

/// Is the server as confined as it can be?
fn confined(nodens: &mut Guardian) {
    let server = nodens.server_pid();
    for (name, wanted) in
        [("CapEff", 0), ("CapPrm", 0), ("CapInh", 0), ("CapAmb", 0), ("NoNewPrivs", 1), ("Seccomp", 2)]
    {
        assert_eq!(status(server, name), wanted, "{name}");
    }
    assert_eq!(status(server, "CapBnd") & !BOTH_BITS, 0, "of what can be had by running a program that has it");
    let log = nodens.log();
    let line = log.lines().find(|line| line.contains("confined")).unwrap_or_default();
    assert!(line.contains("no capabilities, no new privileges, ") && line.contains("seccomp"), "{log}");
}

/// Everybody is served, and led to kube-dns after a kill.
fn serves_and_fails_open(world: &World, setup: &Setup, nodens: &mut Guardian) {
    nodens.until("it serves everybody", || setup.is_served(world));
    nodens.until("the way to kube-dns is prepared", || is_prepared(world, &setup.addresses));
    assert!(world.node.get(&format!("{}:8080", LOCAL[0]), "/ready").contains(" 200 "), "{}", nodens.log());
    assert_eq!(nodens.metric(&world.node, "nodens_notrack_active", ""), 1.0);
    confined(nodens);
    let log = nodens.log();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "something is amiss: {log}");
    let server = nodens.server_pid();
    signal(nodens.pid(), "KILL");
    let _ = nodens.end(END);
    let gone = within(SOON, || !Path::new(&format!("/proc/{server}")).exists());
    assert!(gone.is_some(), "the server has outlived its guardian");
    let left = within(SOON, || all_are(&world.pods[0], &setup.targets(), "backend"));
    assert!(left.is_some(), "not left to kube-dns:\n{}", world.rules());
}

#[test]
fn g19_two_capabilities_are_enough_where_nothing_can_be_written() {
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let root = restricted("", BOTH);
    world.node.sh("mount --bind /proc/sys /proc/sys
        mount -o remount,bind,ro /proc/sys
        mount -o remount,bind,ro /");
    for path in ["/proc/sys/net/ipv4/ip_forward", "/written"] {
        assert!(!world.node.try_sh(&format!("echo 1 >{path}")).status.success(), "{path} can be written");
    }
    let mut nodens = root.launch(&world, "{}");
    serves_and_fails_open(&world, &root.setup, &mut nodens);
}

/// Untracked packets may be dropped where we are not even allowed to look.
#[test]
fn without_net_raw_the_filters_that_cannot_be_seen_are_spoken_of() {
    if !can_run("iptables-legacy") {
        return;
    }
    let Some(world) = World::new(Proxy::Nftables) else { return };
    world.node.sh("iptables-legacy -A INPUT -p tcp --dport 22 -j ACCEPT");
    let root = restricted("", BOTH);
    let mut nodens = root.launch(&world, "{}");
    nodens.until("it serves", || all_are(&world.pods[0], &targets(&LOCAL), "local"));
    let log = nodens.log();
    let said: Vec<&str> = log.lines().filter(|line| line.contains("iptables-legacy may drop")).collect();
    assert!(said.len() == 1 && said[0].contains("NET_RAW"), "{log}");
}

/// Has `/dev/net` hold a device that these permissions are for, or nothing.
fn device(world: &World, mode: Option<&str>) {
    world.node.sh("mount -t tmpfs -o mode=755 none /dev/net");
    if let Some(mode) = mode {
        world.node.sh(&format!("mknod /dev/net/tun c 10 200 && chmod {mode} /dev/net/tun"));
    }
}

/// As a service of systemd with `DynamicUser` and `AmbientCapabilities`.
#[test]
fn g19_nobody_with_ambient_capabilities_will_do() {
    let Some(world) = World::new(Proxy::Iptables) else { return };
    device(&world, Some("666"));
    let nobody = restricted(&format!("{NOBODY} --ambient-caps=-all{BOTH}"), BOTH);
    let mut nodens = nobody.launch(&world, "{interface: {kind: tun}}");
    let guardian = nodens.pid();
    nodens.until("it has given up its privileges", || status(guardian, "CapBnd") == BOTH_BITS);
    assert_eq!(status(guardian, "CapEff"), BOTH_BITS);
    serves_and_fails_open(&world, &nobody.setup, &mut nodens);
}

#[test]
fn without_a_tun_device_it_is_named_and_what_to_do() {
    let Some(world) = World::new(Proxy::Iptables) else { return };
    device(&world, Some("600"));
    let nobody = restricted(&format!("{NOBODY} --ambient-caps=-all{BOTH}"), BOTH);
    let said = nobody.last_words(&world, "{interface: {kind: tun}}");
    assert!(said.contains("interface nodelocaldns: /dev/net/tun may not be opened: let the container use"), "{said}");
    world.node.sh("rm /dev/net/tun");
    let root = restricted("", BOTH);
    let said = root.last_words(&world, "{interface: {kind: tun}}");
    assert!(said.contains("interface nodelocaldns: /dev/net/tun is not there: mount it into the pod"), "{said}");
    if !world.node.try_sh("ip link add probe type dummy").status.success() {
        let said = root.last_words(&world, "{}");
        let both = "no dummy links (modprobe dummy), and /dev/net/tun is not there: mount it into the pod";
        assert!(said.contains(both), "{said}");
    }
}

#[test]
fn without_net_bind_service_the_port_is_named() {
    let Some(world) = World::new(Proxy::Iptables) else { return };
    world.node.sh("echo 1024 >/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let said = restricted("", ",+net_admin").last_words(&world, "{}");
    assert!(said.contains("cannot bind 169.254.20.10:53 (udp): "), "{said}");
    assert!(said.contains("ports below 1024 take CAP_NET_BIND_SERVICE: grant it, or change listen.port"), "{said}");
    let links = world.node.sh("ip -o link");
    assert!(!links.contains("nodelocaldns") && !world.rules().contains("nodens"), "{links}\n{}", world.rules());
}

#[test]
fn without_net_admin_addresses_that_are_there_are_served_and_tracked() {
    let Some(world) = World::new(Proxy::Iptables) else { return };
    node_cache::link(&world.node);
    let powerless = restricted("", ",+net_bind_service");
    // Without the counts of packets.
    let rules = || world.node.sh("nft -s list ruleset");
    let before = rules();
    let mut nodens = powerless.launch(&world, "{}");
    // What goes to the Service is translated by kube-proxy.
    let (local, vip) = (targets(&LOCAL), targets(&VIP));
    nodens.until("it serves", || all_are(&world.pods[0], &local, "local"));
    assert!(all_are(&world.pods[0], &vip, "backend"));
    assert!(!world.tracked().is_empty(), "how would that be?");
    assert_eq!(rules(), before);
    let ready = || world.node.get(&format!("{}:8080", LOCAL[0]), "/ready");
    assert!(
        ready().contains(" 503 ") && ready().contains("nodelocaldns") && ready().contains("NET_ADMIN"),
        "{}",
        ready()
    );
    let page = world.node.get(&format!("{}:9253", LOCAL[0]), "/metrics");
    assert!(page.contains("\nnodens_notrack_active{firewall=\"auto\"} 0\n"), "{page}");
    confined(&mut nodens);
    let log = nodens.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(lines.len() == 2 && lines[0].contains("NET_ADMIN"), "what is missing, and what was done instead: {log}");
}

#[test]
fn without_net_admin_what_is_missing_is_named() {
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let powerless = restricted("", ",+net_bind_service");
    let said = powerless.last_words(&world, "{}");
    assert!(said.contains("nodelocaldns") && said.contains("NET_ADMIN") && said.contains(LOCAL[0]), "{said}");
    for firewall in ["nftables", "iptables"] {
        let said = powerless.last_words(&world, &format!("{{firewall: {firewall}}}"));
        assert!(said.contains(&format!("network.firewall is {firewall}: ")) && said.contains("NET_ADMIN"), "{said}");
    }
}
