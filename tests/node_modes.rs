//! What a node may be like beside the usual: filters that drop, a node-cache that comes back, networks that others
//! manage; and what there is for people who look and clean up. Rows G2, G18, H6 and H10.

#![allow(clippy::panic, clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};
use support::process::{NODENS, can_run, stderr, stdout};
use world::clients::{all_are, targets, who_answers_within};
use world::guardian::{Guardian, Setup, children, fallback, is_prepared, live_tables, signal, stages};
use world::namespace::Namespace;
use world::proxy::{self, Proxy};
use world::{BACKENDS, LOCAL, VIP, World, alone, node_cache, within};

/// How long nodens may take to end.
const END: Duration = Duration::from_secs(10);
/// How soon what others change is put right.
const SOON: Duration = Duration::from_secs(1);
/// The same where times are not what it is about.
const PATIENCE: Duration = Duration::from_secs(8);

/// A configuration with these settings of the network.
fn config(network: &str) -> String {
    let addresses = LOCAL.iter().chain(&VIP).map(|ip| format!("\"{ip}\"")).collect::<Vec<_>>().join(", ");
    format!(
        "listen: {{ addresses: [{addresses}] }}
network: {network}
zones: [{{ match: [.], forward: {{ to: [kube-dns], protocol: tcp }} }}]
metrics: {{ listen: [\"{}:9253\"] }}
health: {{ listen: \"{}:8080\" }}
log: {{ format: text }}\n",
        LOCAL[0], LOCAL[0]
    )
}

/// What `/ready` says.
fn ready(node: &Namespace) -> String {
    node.get(&format!("{}:8080", LOCAL[0]), "/ready")
}

/// What the metrics say of the node's network, one line each.
fn metrics(node: &Namespace) -> String {
    let page = node.get(&format!("{}:9253", LOCAL[0]), "/metrics");
    let of_network = ["nodens_network_", "nodens_interface_", "nodens_notrack_", "nodens_failopen_"];
    let lines = page.lines().filter(|line| of_network.iter().any(|name| line.starts_with(name)));
    lines.map(|line| format!("{line}\n")).collect()
}

/// Sends a signal and waits for the end.
fn stop(nodens: &mut Guardian, name: &str) {
    signal(nodens.pid(), name);
    let status = nodens.end(END);
    assert!(name == "KILL" || status.success(), "{status}; log:\n{}", nodens.log());
}

/// Has this host let in and out only what it must, by `program`, such as `iptables-legacy`.
fn close(node: &Namespace, program: &str) {
    for (program, icmp, kube_dns) in [
        (program.to_owned(), "icmp", "10.244.9.0/24"),
        (program.replacen("ip", "ip6", 1), "ipv6-icmp", "fd00:244:9::/64"),
    ] {
        node.sh(&format!(
            "for chain in INPUT OUTPUT; do
                {program} -A $chain -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
                {program} -A $chain -p {icmp} -j ACCEPT
                {program} -P $chain DROP
            done
            {program} -A INPUT -i lo -j ACCEPT
            {program} -A OUTPUT -o lo -j ACCEPT
            {program} -A OUTPUT -p tcp -d {kube_dns} --dport 53 -j ACCEPT
            {program} -A OUTPUT -p udp -d {kube_dns} --dport 53 -j ACCEPT"
        ));
    }
}

/// How many rules of ours let packets pass, in all four kinds of iptables.
fn accepting(node: &Namespace) -> usize {
    let all =
        node.sh("for backend in nft legacy; do iptables-$backend-save; ip6tables-$backend-save; done 2>/dev/null");
    all.lines().filter(|line| line.contains("nodens: allow DNS traffic") && line.ends_with("-j ACCEPT")).count()
}

#[test]
fn h06_where_iptables_drops_what_it_does_not_know_ours_passes() {
    let _alone = alone();
    for (program, firewall) in [("iptables", "auto"), ("iptables-legacy", "nftables"), ("iptables-legacy", "iptables")]
    {
        if !can_run(program) {
            return;
        }
        let Some(world) = World::new(Proxy::Iptables) else { return };
        close(&world.node, program);
        let setup = Setup { firewall, ..Setup::default() };
        let mut first = setup.start(&world);
        let case = format!("{program}, firewall {firewall}");
        assert!(!metrics(&world.node).contains("nodens_network_filter_drops"), "{case}");
        assert!(ready(&world.node).contains(" 200 "), "{case}: {}", ready(&world.node));
        let rules = accepting(&world.node);
        assert!(rules >= 16, "{case}: {rules}");
        // Another one takes over, and has no others written.
        let mut second = setup.launch(&world);
        second.until("both serve", || stages(&world.node).get("serving") == Some(&2));
        stop(&mut first, "TERM");
        assert_eq!(accepting(&world.node), rules, "{case}");
        assert!(setup.is_served(&world), "{case}");
        stop(&mut second, "TERM");
        assert_eq!(accepting(&world.node), 0, "{case}:\n{}", world.rules());
        assert!(all_are(&world.pods[0], &setup.targets(), "backend"), "{case}: not left to kube-dns");
    }
}

/// Where iptables drops, and there is none to have ours pass, as in an image of nothing else: kube-dns answers.
#[test]
fn h06_where_iptables_drops_and_cannot_be_had_packets_are_left_to_kube_dns() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    close(&world.node, "iptables");
    // Those that are not for the node itself pass.
    let setup = Setup { firewall: "auto", by: vec!["env", "PATH=/nonexistent"], ..Setup::default() };
    let mut nodens = setup.launch(&world);
    let left = || all_are(&world.pods[0], &setup.targets(), "backend");
    nodens.until("kube-dns answers the pods", || ready(&world.node).contains("packets are left to kube-dns") && left());
    let status = stdout(&cli(&world.node, "network status", ""));
    assert!(status.contains("the policy of ip filter INPUT drops untracked packets"), "{status}");
    world.node.sh("for chain in INPUT OUTPUT; do iptables -P $chain ACCEPT; ip6tables -P $chain ACCEPT; done");
    nodens.until("it serves everybody", || setup.is_served(&world));
}

/// Nobody can outweigh a drop of another table. It can be said, and kube-dns answers.
#[test]
fn h06_where_nftables_drops_what_it_does_not_know_it_is_said() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let close = "nft 'table inet guard { chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
    }; }'";
    world.node.sh(close);
    let setup = Setup { firewall: "auto", ..Setup::default() };
    let mut nodens = setup.launch(&world);
    let drops = || metrics(&world.node).contains("nodens_network_filter_drops{chain=\"inet guard input\"} 1\n");
    nodens.until("it is counted", drops);
    let log = nodens.log();
    let said = log.lines().filter(|line| line.contains("and no rule of ours outweighs that")).collect::<Vec<_>>();
    assert!(said.len() == 1 && said[0].contains("chain=\"inet guard input\"") && said[0].contains("port 53"), "{log}");
    let left = || all_are(&world.pods[0], &setup.targets(), "backend");
    nodens.until("kube-dns answers the pods", left);
    let why = "the policy of inet guard input would drop them untracked; when its rules let them pass, write network.firewall: \
               nftables";
    assert!(ready(&world.node).contains(" 503 ") && ready(&world.node).contains(why), "{}", ready(&world.node));
    let status = stdout(&cli(&world.node, "network status", ""));
    assert!(status.contains("the policy of inet guard input drops untracked packets"), "{status}");
    world.node.sh("nft 'chain inet guard input { policy accept; }'");
    let gone = within(SOON, || !metrics(&world.node).contains("nodens_network_filter_drops"));
    assert!(gone.is_some(), "{}", metrics(&world.node));
    nodens.until("it serves everybody", || setup.is_served(&world));
    assert!(ready(&world.node).contains(" 200 "), "{}", ready(&world.node));
    // It comes back while everybody is served.
    world.node.sh("nft 'chain inet guard input { policy drop; }'");
    nodens.until("kube-dns answers the pods again", left);
    stop(&mut nodens, "TERM");

    // Somebody has seen to it, and said so.
    world.node.sh("nft 'insert rule inet guard input meta l4proto { tcp, udp } th dport 53 accept'");
    let setup = Setup { firewall: "nftables", ..Setup::default() };
    let nodens = setup.start(&world);
    assert!(drops(), "{}", nodens.log());
}

/// Everybody is answered by node-cache, and nothing of it is tracked.
fn node_cache_serves(world: &World, case: &str) {
    node_cache::link(&world.node);
    node_cache::rules(&world.node);
    let _server = node_cache::server(&world.node);
    let all = targets(&[LOCAL[0], LOCAL[1], VIP[0], VIP[1]]);
    for from in [&world.pods[0], &world.node] {
        let served = within(PATIENCE, || all_are(from, &all, "local"));
        assert!(served.is_some(), "{case}: node-cache does not serve:\n{}", world.rules());
    }
    world.forget_connections();
    assert!(all_are(&world.pods[0], &all, "local"));
    assert_eq!(world.tracked(), [""; 0], "{case}");
}

#[test]
fn rolling_back_to_node_cache_works() {
    let _alone = alone();
    for (firewall, end) in [("nftables", "TERM"), ("nftables", "KILL"), ("iptables", "TERM"), ("iptables", "KILL")] {
        let Some(world) = World::new(Proxy::Iptables) else { return };
        let mut nodens = Setup { firewall, ..Setup::default() }.start(&world);
        stop(&mut nodens, end);
        node_cache_serves(&world, &format!("{firewall}, {end}"));
    }
}

/// Is a pod answered here, without waiting for long?
fn answers_at_once(world: &World, targets: &[String]) -> bool {
    who_answers_within(&world.pods[0], targets, 150).values().all(|outcome| outcome == "local")
}

/// What node-cache does when it ends: its rules go, then the link, by name, whoever made it.
const TEARDOWN: &str = "
for iptables in iptables ip6tables; do
    for table in raw filter; do
        {
            echo \"*$table\"
            $iptables-save -t $table | grep 'NodeLocal DNS Cache' | sed 's/^-A/-D/'
            echo COMMIT
        } | $iptables-restore --noflush
    done
done
ip link del nodelocaldns
";

#[test]
fn g18_a_node_cache_that_ends_beside_us_takes_nothing_for_long() {
    let _alone = alone();
    for (firewall, shared) in [("nftables", false), ("nftables", true), ("iptables", false)] {
        let Some(world) = World::new(Proxy::Iptables) else { return };
        if shared {
            node_cache::link(&world.node);
        }
        let setup = Setup { firewall, ..Setup::default() };
        let mut nodens = setup.start(&world);
        // What it writes once a minute.
        node_cache::rules(&world.node);
        world.node.sh(TEARDOWN);
        let back = within(SOON, || answers_at_once(&world, &setup.targets()));
        assert!(back.is_some(), "{firewall}, shared {shared}: not back; log:\n{}", nodens.log());
        nodens.until("it serves everybody", || setup.is_served(&world));
        assert!(is_prepared(&world, &setup.addresses) && ready(&world.node).contains(" 200 "));
        assert!(!world.rules().contains(node_cache::COMMENT));
    }
}

/// Has the addresses stand on the node by other hands.
fn addresses(node: &Namespace) {
    node.sh("ip link add theirs type bridge && ip link set theirs up");
    for ip in LOCAL.iter().chain(&VIP) {
        let length = if ip.contains(':') { "128" } else { "32" };
        node.sh(&format!("ip addr add {ip}/{length} dev theirs"));
    }
}

#[test]
fn h06_with_nothing_to_manage_it_is_one_process_and_changes_nothing() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    addresses(&world.node);
    let everything = || steady(&world.node);
    let before = everything();
    let mut nodens = Setup::default().launch_with(&world, &config("{interface: {manage: false}, firewall: none}"));
    nodens.until("it serves", || all_are(&world.pods[0], &targets(&LOCAL), "local"));
    nodens.until("it is ready", || ready(&world.node).contains(" 200 "));
    assert_eq!(children(nodens.pid()), [0; 0], "processes");
    assert_eq!(stages(&world.node).len(), 0, "it announces itself");
    assert_eq!(everything(), before);
    assert!(!metrics(&world.node).contains("nodens_notrack_active"));
    // What a redirect by others goes by.
    world
        .node
        .sh("nft 'table inet trouble { chain out { type filter hook output priority 0; tcp dport 53 reject; }; }'");
    nodens.until("it is not ready without an upstream", || ready(&world.node).contains(" 503 "));
    assert!(ready(&world.node).contains("upstream"), "{}", ready(&world.node));
    world.node.sh("nft delete table inet trouble");
    nodens.until("it is ready again", || ready(&world.node).contains(" 200 "));
    stop(&mut nodens, "TERM");
    assert_eq!(everything(), before);
}

#[test]
fn h06_without_rules_the_interface_alone_is_managed() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let rules = || world.node.sh("nft -s list ruleset");
    let before = rules();
    let mut nodens = Setup::default().launch_with(&world, &config("{firewall: none}"));
    nodens.until("it serves", || all_are(&world.pods[0], &targets(&LOCAL), "local"));
    nodens.until("it is ready", || ready(&world.node).contains(" 200 "));
    assert_eq!(children(nodens.pid()).len(), 1);
    assert_eq!(rules(), before);
    let page = metrics(&world.node);
    assert!(page.contains("nodens_notrack_active{firewall=\"none\"} 0\n"), "{page}");
    assert!(page.contains("nodens_interface_up{interface=\"nodelocaldns\",kind=\""), "{page}");
    world.node.sh("ip link del nodelocaldns");
    assert!(within(SOON, || answers_at_once(&world, &targets(&LOCAL))).is_some(), "{}", nodens.log());
    stop(&mut nodens, "TERM");
    assert_eq!(rules(), before);
    assert!(!world.node.sh("ip -o link").contains("nodelocaldns"));
}

#[test]
fn h06_who_writes_the_rules_is_said_and_why() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Nftables) else { return };
    for (network, said) in [
        ("{}", "firewall: nftables why=\"this kernel has it\""),
        ("{firewall: nftables}", "firewall: nftables why=\"so it is configured\""),
        ("{firewall: iptables}", "firewall: iptables why=\"so it is configured\""),
    ] {
        let mut nodens = Setup::default().launch_with(&world, &config(network));
        let log = nodens.config_path().with_file_name("log");
        nodens.until("it is said", || fs::read_to_string(&log).unwrap().contains(said));
        nodens.until("it serves", || all_are(&world.pods[0], &targets(&LOCAL), "local"));
        stop(&mut nodens, "QUIT");
    }
}

/// Is there a way to kube-dns that is not kube-proxy's?
fn has_fallback(world: &World) -> bool {
    fallback(world).contains(BACKENDS[0][0])
}

#[test]
fn h06_without_failing_open_what_was_prepared_before_is_removed() {
    let _alone = alone();
    const OFF: &str = "{failOpen: {enabled: false}}";
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let setup = Setup { firewall: "auto", ..Setup::default() };
    // By one that was killed.
    let mut before = setup.start(&world);
    stop(&mut before, "KILL");
    assert!(has_fallback(&world));
    let mut nodens = setup.launch_with(&world, &config(OFF));
    nodens.until("it serves everybody", || setup.is_served(&world));
    assert!(!has_fallback(&world), "{}", fallback(&world));
    let page = metrics(&world.node);
    assert!(page.contains("nodens_failopen_endpoints{family=\"ipv4\"} 0\n"), "{page}");
    stop(&mut nodens, "TERM");
    // By one that is still there.
    let mut before = setup.start(&world);
    let mut nodens = setup.launch_with(&world, &config(OFF));
    nodens.until("both serve", || stages(&world.node).get("serving") == Some(&2));
    stop(&mut before, "TERM");
    nodens.until("it is removed", || !has_fallback(&world));
    assert!(setup.is_served(&world));
    stop(&mut nodens, "TERM");
    assert!(!has_fallback(&world));
}

/// It takes a while, in which there is nothing to do: others need not wait for it.
#[test]
fn the_way_to_kube_dns_follows_where_kube_dns_is() {
    let Some(world) = World::new(Proxy::Iptables) else { return };
    // Who knows where kube-dns is; its answers are believed for no longer than a second.
    let told = |endpoints: &[&str]| {
        let mut args = vec!["backend".to_owned(), "--name=told".to_owned(), "127.0.0.1:5301".to_owned()];
        args.extend(endpoints.iter().map(|ip| format!("--endpoint={ip}")));
        let server = world.node.tool(&args.iter().map(String::as_str).collect::<Vec<_>>());
        server.wait_for("serving");
        server
    };
    let zone = "  - match: [kube-system.svc.cluster.local]
    forward: { to: [\"127.0.0.1:5301\"], protocol: udp }
    cache: { positive: { maxTtl: 1s }, negative: { maxTtl: 1s } }\n";
    let text = config("{}").replace("zones: [{", "zones:\n  - {").replace("tcp } }]\n", &format!("tcp }} }}\n{zone}"));
    let first = told(&[BACKENDS[0][0], BACKENDS[0][1]]);
    let mut nodens = Setup::default().launch_with(&world, &text);
    let leads = |wanted: &[&str]| {
        let rules = world.node.sh("nft list table inet nodens-failopen 2>/dev/null || true");
        BACKENDS.iter().flatten().all(|ip| rules.contains(ip) == wanted.contains(ip))
    };
    nodens.until("it leads to the first", || leads(&BACKENDS[0]));
    drop(first);
    let _second = told(&[BACKENDS[1][0], BACKENDS[1][1], BACKENDS[0][1]]);
    let now = [BACKENDS[1][0], BACKENDS[1][1], BACKENDS[0][1]];
    let followed = within(Duration::from_secs(20), || leads(&now));
    assert!(followed.is_some(), "{}\n{}", fallback(&world), nodens.log());
    let counted = |page: &str| {
        page.contains("nodens_failopen_endpoints{family=\"ipv4\"} 1\n")
            && page.contains("nodens_failopen_endpoints{family=\"ipv6\"} 2\n")
    };
    nodens.until("it is counted", || counted(&metrics(&world.node)));
    assert_eq!(nodens.metric(&world.node, "nodens_network_repairs_total", ""), 0.0, "nobody else changed anything");
    stop(&mut nodens, "KILL");
    let left = within(PATIENCE, || all_are(&world.pods[0], &targets(&LOCAL), "backend"));
    assert!(left.is_some(), "not left to kube-dns:\n{}", fallback(&world));
}

/// Runs nodens to its end in the node, started by `before`, such as `setpriv`.
fn cli(node: &Namespace, arguments: &str, before: &str) -> Output {
    let words: Vec<&str> = before.split_whitespace().chain([NODENS]).chain(arguments.split_whitespace()).collect();
    node.command(words[0]).args(&words[1..]).output().unwrap()
}

/// `nodens network status` in both forms; it has gone well.
fn status(node: &Namespace) -> (String, Value) {
    let [text, json] = ["network status", "network status --output json"].map(|arguments| cli(node, arguments, ""));
    assert!(text.status.success() && json.status.success(), "{}{}", stderr(&text), stderr(&json));
    (stdout(&text), serde_json::from_slice(&json.stdout).unwrap())
}

/// The number of items in a list of `nodens network status`.
fn count(json: &Value, key: &str) -> usize {
    json[key].as_array().unwrap().len()
}

/// The first words of a text, each once.
fn labels(text: &str) -> BTreeSet<&str> {
    text.lines().filter_map(|line| line.split_whitespace().next()).collect()
}

const POWERLESS: &str = "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs";

#[test]
fn status_shows_what_there_is() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let (text, json) = status(&world.node);
    assert!(text.starts_with("nodens      nothing of it on this host\n"), "{text}");
    for key in ["instances", "interfaces", "liveTables", "iptablesRules", "nodeCacheRules", "droppingFilters", "unseen"]
    {
        assert_eq!(count(&json, key), 0, "{key}");
    }
    let mut nodens = Setup::default().start(&world);
    let (text, json) = status(&world.node);
    assert_eq!(labels(&text), ["conntrack", "fallback", "instance", "interface", "rules"].into(), "{text}");
    let generation = json["instances"][0]["generation"].as_str().unwrap();
    assert_eq!(json["instances"][0]["stage"], "serving");
    assert!(text.contains(&format!("instance    {generation} serving\n")), "{text}");
    assert!(text.contains(&format!("rules       nftables table inet nodens-{generation}\n")), "{text}");
    assert_eq!(json["liveTables"][0], format!("nodens-{generation}"));
    let interface = &json["interfaces"][0];
    assert_eq!((&interface["name"], &interface["up"]), (&"nodelocaldns".into(), &true.into()));
    assert_eq!(count(interface, "addresses"), 4 + usize::from(interface["addresses"].to_string().contains("fe80")));
    for ip in LOCAL.iter().chain(&VIP) {
        assert!(interface["addresses"].to_string().contains(ip) && text.contains(ip), "{text}");
    }
    let wanted: Vec<String> = [0, 1].iter().flat_map(|&f| BACKENDS.map(|b| proxy::with_port(b[f]))).collect();
    assert_eq!(json["fallback"], Value::from(wanted.clone()));
    assert!(text.contains(&format!("fallback    {}\n", wanted.join(", "))), "{text}");

    let refused = cli(&world.node, "network status", POWERLESS);
    assert_eq!(refused.status.code(), Some(1));
    let text = stdout(&refused);
    assert_eq!(labels(&text), ["conntrack", "instance", "interface", "unseen"].into(), "{text}");
    let unseen = text.lines().filter(|line| line.starts_with("unseen")).collect::<Vec<_>>();
    assert!(unseen.len() == 1 && unseen[0].contains("nftables") && unseen[0].contains("CAP_NET_ADMIN"), "{text}");

    stop(&mut nodens, "KILL");
    within(SOON, || live_tables(&world.node).is_empty()).expect("the live table goes");
    let (text, json) = status(&world.node);
    assert_eq!((count(&json, "instances"), count(&json, "liveTables")), (0, 0), "{text}");
    assert_eq!(json["fallback"], Value::from(wanted));
}

#[test]
fn h10_cleanup_takes_what_nobody_uses_and_says_what_it_would_take() {
    let _alone = alone();
    for firewall in ["nftables", "iptables"] {
        let Some(world) = World::new(Proxy::Nftables) else { return };
        let setup = Setup { firewall, ..Setup::default() };
        let mut nodens = setup.start(&world);
        let refused = cli(&world.node, "cleanup", "");
        assert_eq!((refused.status.code(), stdout(&refused)), (Some(1), String::new()));
        assert!(stderr(&refused).contains("an instance of nodens runs here"), "{}", stderr(&refused));
        assert!(setup.is_served(&world) && is_prepared(&world, &setup.addresses), "it has taken something");
        stop(&mut nodens, "KILL");
        node_cache::rules(&world.node);
        let before = steady(&world.node);
        let planned = cli(&world.node, "cleanup --dry-run", "");
        assert!(planned.status.success(), "{}", stderr(&planned));
        assert_eq!(steady(&world.node), before, "a dry run changes nothing");
        let powerless = cli(&world.node, "cleanup", POWERLESS);
        assert_eq!((powerless.status.code(), stdout(&powerless)), (Some(1), String::new()));
        assert!(stderr(&powerless).contains("CAP_NET_ADMIN"), "{}", stderr(&powerless));
        let done = cli(&world.node, "cleanup", "");
        assert!(done.status.success(), "{}", stderr(&done));
        let (mut planned, mut done) =
            (sorted(&stdout(&planned), "would remove: "), sorted(&stdout(&done), "removed: "));
        assert_eq!(planned, done, "{firewall}");
        planned.append(&mut done);
        let of = |part: &str| planned.iter().filter(|line| line.contains(part)).count() / 2;
        assert_eq!(of("the fallback to kube-dns"), 1, "{planned:#?}");
        assert_eq!(of("NodeLocal DNS Cache: "), 4 * 12, "{planned:#?}");
        assert_eq!(of("nodens: ") > 0, firewall == "iptables", "{planned:#?}");
        let rules = world.rules();
        assert!(!rules.contains("nodens") && !rules.contains(node_cache::COMMENT), "{rules}");
        let again = cli(&world.node, "cleanup", "");
        assert_eq!((again.status.code(), &*stdout(&again)), (Some(0), "nothing to remove\n"));
    }
}

/// All rules and addresses, without counts and times.
fn steady(node: &Namespace) -> String {
    node.sh("nft -s list ruleset; { iptables-save; ip6tables-save; } | grep -v '^[#:]'; ip -o addr show")
}

/// The lines of `text` without what they begin with, in order.
fn sorted(text: &str, verb: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(|line| line.strip_prefix(verb).unwrap().to_owned()).collect();
    lines.sort_unstable();
    lines
}

/// Has `iptables` be the older kind for a nodens started by the script that is returned.
fn with_legacy(directory: &Path) -> std::path::PathBuf {
    for name in ["iptables", "ip6tables"] {
        for companion in ["", "-save", "-restore"] {
            let target = format!("/usr/sbin/{name}-legacy{companion}");
            symlink(target, directory.join(format!("{name}{companion}"))).unwrap();
        }
    }
    let script = directory.join("start");
    fs::write(&script, format!("#!/bin/sh\nPATH={}:$PATH\nexec {NODENS} \"$@\"\n", directory.display())).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

#[test]
fn g02_a_stop_does_not_wait_for_who_holds_the_lock_of_iptables() {
    let _alone = alone();
    if !can_run("iptables-legacy") || !can_run("flock") {
        return;
    }
    let Some(world) = World::new(Proxy::Nftables) else { return };
    let directory = tempfile::tempdir().unwrap();
    let setup = Setup { firewall: "iptables", program: with_legacy(directory.path()), ..Setup::default() };
    let mut nodens = setup.start(&world);
    let rules = || world.node.sh("iptables-legacy-save; ip6tables-legacy-save").matches("nodens: ").count();
    assert!(rules() > 0, "where are they?");
    let mut hold = world.node.mortal("flock");
    hold.args(["--no-fork", "/run/xtables.lock", "sleep", "60"]).stdout(Stdio::null());
    let mut holder = hold.spawn().unwrap();
    let held = || !world.node.try_sh("flock --nonblock /run/xtables.lock true").status.success();
    assert!(within(PATIENCE, held).is_some(), "nobody holds it");
    let begin = Instant::now();
    stop(&mut nodens, "TERM");
    let took = begin.elapsed();
    holder.kill().unwrap();
    holder.wait().unwrap();
    println!("gone after {} ms", took.as_millis());
    assert!(nodens.log().contains("xtables lock"), "what kept it? {}", nodens.log());
    // The link is gone, and what is left leads nowhere.
    assert!(rules() > 0, "then who has waited?");
    for from in [&world.pods[0], &world.node] {
        let left = within(PATIENCE, || all_are(from, &setup.targets(), "backend"));
        assert!(left.is_some(), "a black hole:\n{}", nodens.log());
    }
    // The next one removes it, though it writes no such rules.
    let mut next = Setup::default().start(&world);
    assert_eq!(rules(), 0);
    stop(&mut next, "TERM");
}
