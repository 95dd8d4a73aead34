//! Tables of files and what is said of them; the command line; the shipped files; hostile text.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::load::load_from;
use super::*;

/// The contract's example, whole, features that are not built yet included.
const CONTRACT: &str = r#"listen:
  addresses: [169.254.20.10]
  port: 53
  workers: auto
  tls: { port: 853, certificate: /etc/nodens/tls.crt, key: /etc/nodens/tls.key }
network:
  interface: { manage: true, name: nodelocaldns, kind: auto }
  firewall: auto
  failOpen: { enabled: true, endpoints: kube-dns-endpoints.kube-system.svc.cluster.local }
cache:
  maxBytes: 64Mi
  positive: { minTtl: 0s, maxTtl: 30s }
  negative: { minTtl: 0s, maxTtl: 5s }
  failureTtl: 5s
  serveStale: { enabled: true, maxAge: 1h, answerTtl: 30s, clientWait: 1800ms, recheck: 30s }
  prefetch: { enabled: true, minHits: 2, remaining: 10% }
  persist: { path: /var/lib/nodens/cache.bin, interval: 60s }
zones:
  - match: [cluster.local, in-addr.arpa, ip6.arpa]
    forward: { to: [kube-dns], protocol: tcp, policy: least-loaded, timeout: 2s, maxConnections: 32 }
    cache: { positive: { maxTtl: 30s } }
  - match: [corp.example]
    forward: { to: [10.1.0.53, "tls://10.1.0.54#dns.corp.example"] }
  - match: [.]
    forward: { to: [/etc/resolv.conf] }
    hosts: { entries: { "10.0.0.7": [db.internal] }, ttl: 60s }
kubernetes: { clusterDomain: cluster.local, searchShield: true }
limits: { inFlight: 10000, inFlightPerClient: 500, tcpConnections: 2000, tcpConnectionsPerClient: 100 }
metrics: { listen: ["0.0.0.0:9253"], corednsNames: true }
health: { listen: "169.254.20.10:8080" }
admin: { socket: /run/nodens/admin.sock }
log: { format: json, level: info, queries: { sample: 0 }, slow: 500ms }
"#;

fn complaints(text: &str) -> Vec<String> {
    match load_str("f", text) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
    }
}

fn good(text: &str) -> Config {
    load_str("f", text).unwrap_or_else(|problems| panic!("{problems}")).config
}

fn args(listen: &[&str], upstream: &[&str]) -> Overrides {
    let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
    Overrides { listen: own(listen), upstream: own(upstream), node_cache: None }
}

fn with_args(text: &str, overrides: &Overrides) -> Result<Config, String> {
    load_bytes("f", text.as_bytes(), overrides).map(|l| l.config).map_err(|p| p.to_string())
}

#[test]
fn every_kind_of_mistake_is_named_with_its_place_and_a_way_out() {
    let zones = "zones:\n- match: [.]\n  forward:\n    to: [10.0.0.1]\n    ";
    let table: &[(&str, &str)] = &[
        // Keys.
        ("listn: {}", r#"f:1:1: listn: unknown key; did you mean "listen"?"#),
        ("cache:\n  serveStal: {}", r#"f:2:3: cache.serveStal: unknown key; did you mean "serveStale"?"#),
        ("log:\n  colour: red", "f:2:3: log.colour: unknown key; choose from: format, level"),
        (
            "network: {bridge: x}",
            "f:1:11: network.bridge: unknown key; choose from: addresses, failOpen, firewall, interface",
        ),
        ("zones:\n- {match: [.], forward: {to: [1.1.1.1]}, x: 1}", "f:2:42: zones[0].x: unknown key"),
        ("\"a\\nb\": 1", r"f:1:1: a\nb: unknown key"),
        ("cache:\n  maxBytes: 1Mi\n  maxBytes: 2Mi", "f:3:3: cache.maxBytes: written twice; the first is on line 2"),
        // Types.
        ("- a", "f:1:1: expected keys and values"),
        ("hello", "f:1:1: expected keys and values"),
        ("listen: yes", "f:1:9: listen: expected keys and values"),
        ("zones: [a]", "f:1:9: zones[0]: expected keys and values"),
        ("zones: [~]", "f:1:9: zones[0]: expected keys and values"),
        ("listen: {addresses: 10.0.0.1}", r#"f:1:21: listen.addresses: expected a list: write ["10.0.0.1"]"#),
        ("listen: {addresses: [~]}", "f:1:22: listen.addresses[0]: an empty entry"),
        ("cache: {maxBytes: [1]}", "f:1:9: cache.maxBytes: expected a single value"),
        ("zones:\n- forward: {to: [1.1.1.1]}", r#"f:2:3: zones[0]: "match" is missing"#),
        ("zones:\n- match: [.]\n  forward: {policy: random}", r#"f:3:3: zones[0].forward: "to" is missing"#),
        ("zones:\n- match: [.]\n  forward: {ca: /a}", r#"f:3:3: zones[0].forward: "to" is missing"#),
        ("cache: {persist: {interval: 5s}}", r#"f:1:9: cache.persist: "path" is missing"#),
        // Values.
        ("listen: {port: 70000}", "f:1:16: listen.port: 70000 is out of range: must be between 1 and 65535"),
        ("listen: {port: dns}", r#"f:1:16: listen.port: "dns" is not a whole number; it must be between 1 and 65535"#),
        ("listen: {workers: 65}", "f:1:19: listen.workers: 65 is out of range: must be between 1 and 64"),
        ("listen: {workers: all}", r#"f:1:19: listen.workers: "all" is neither "auto" nor a number from 1 to 64"#),
        (
            "cache: {maxBytes: 64MB}",
            r#"f:1:19: cache.maxBytes: "64MB" is not a size; write bytes or a number with Ki, Mi or Gi, such as 64Mi"#,
        ),
        ("cache: {maxBytes: 1Ki}", "f:1:19: cache.maxBytes: 1Ki is out of range: must be between 1Mi and 64Gi"),
        ("cache: {failureTtl: 30}", r#"f:1:21: cache.failureTtl: "30" has no unit; write 30s for seconds"#),
        (
            "cache: {failureTtl: 1w}",
            r#"f:1:21: cache.failureTtl: "1w" is not a duration; write a number with ms, s, m, h or d, such as 30s"#,
        ),
        ("cache: {failureTtl: 6m}", "f:1:21: cache.failureTtl: 6m is out of range: must be between 0s and 5m"),
        (
            "cache: {serveStale: {enabled: maybe}}",
            r#"f:1:31: cache.serveStale.enabled: "maybe" is neither true nor false"#,
        ),
        (
            "cache: {serveStale: {maxAge: 8d}}",
            "f:1:30: cache.serveStale.maxAge: 8d is out of range: must be between 0s and 7d",
        ),
        (
            "cache: {serveStale: {answerTtl: 2h}}",
            "f:1:33: cache.serveStale.answerTtl: 2h is out of range: must be between 0s and 1h",
        ),
        (
            "cache: {serveStale: {clientWait: 5s}}",
            "f:1:34: cache.serveStale.clientWait: 5s is out of range: must be between 0s and 4500ms",
        ),
        (
            "cache: {serveStale: {recheck: 10m}}",
            "f:1:31: cache.serveStale.recheck: 10m is out of range: must be between 1s and 5m",
        ),
        (
            "cache: {serveStale: {preferPositiv: true}}",
            r#"f:1:22: cache.serveStale.preferPositiv: unknown key; did you mean "preferPositive"?"#,
        ),
        ("cache: {serveStale: true}", "f:1:21: cache.serveStale: expected keys and values"),
        (
            "cache: {prefetch: {minHits: 0}}",
            "f:1:29: cache.prefetch.minHits: 0 is out of range: must be between 1 and 255",
        ),
        (
            "cache: {prefetch: {minHits: 256}}",
            "f:1:29: cache.prefetch.minHits: 256 is out of range: must be between 1 and 255",
        ),
        (
            "cache: {prefetch: {remaining: 0%}}",
            "f:1:31: cache.prefetch.remaining: 0% is out of range: must be between 1% and 90%",
        ),
        (
            "cache: {prefetch: {remaining: 300%}}",
            "f:1:31: cache.prefetch.remaining: 300% is out of range: must be between 1% and 90%",
        ),
        (
            "cache: {prefetch: {remaining: 10}}",
            r#"f:1:31: cache.prefetch.remaining: "10" is not a percentage, such as 10%"#,
        ),
        (
            "cache: {persist: {path: cache.bin}}",
            "f:1:25: cache.persist.path: must be the absolute path of a file, such as /var/lib/nodens/cache.bin",
        ),
        (
            "cache: {persist: {path: /var/lib/nodens/}}",
            "f:1:25: cache.persist.path: must be the absolute path of a file, such as /var/lib/nodens/cache.bin",
        ),
        (
            "cache: {persist: {path: /cache.bin}}",
            "f:1:25: cache.persist.path: must be in a folder of its own: in all that is below it the server may write",
        ),
        (
            "cache: {persist: {path: /var/lib/../../cache.bin}}",
            "f:1:25: cache.persist.path: must be in a folder of its own: in all that is below it the server may write",
        ),
        (
            "cache: {persist: {path: /n/c, interval: 0s}}",
            "f:1:41: cache.persist.interval: 0s is out of range: must be between 1s and 1d",
        ),
        (
            &format!("{zones}\n  cache: {{serveStale: {{maxAge: 8d}}}}"),
            "f:6:32: zones[0].cache.serveStale.maxAge: 8d is out of range: must be between 0s and 7d",
        ),
        (
            &format!("{zones}\n  cache: {{prefetch: {{remaining: 91%}}}}"),
            "f:6:33: zones[0].cache.prefetch.remaining: 91% is out of range: must be between 1% and 90%",
        ),
        (
            &format!("{zones}\n  cache: {{persist: {{path: /c}}}}"),
            "f:6:11: zones[0].cache.persist: unknown key; choose from: enabled, failureTtl, keepTtl, negative, only, positive, prefetch, serveStale",
        ),
        (
            &format!("{zones}ca: /etc/nodens/ca.crt"),
            "f:5:9: zones[0].forward.ca: has no effect: no server of this forward is spoken to under encryption (tls://)",
        ),
        (
            "zones: [{match: [.], forward: {to: ['tls://10.1.0.54#a.example'], ca: ca.crt}}]",
            "f:1:71: zones[0].forward.ca: must be the absolute path of a file, such as /etc/nodens/ca.crt",
        ),
        // One mistake is one complaint: the server that the file is for may be the one that is wrong.
        (
            "zones: [{match: [.], forward: {to: [1.1.1.1, 'tls://10.1.0.54'], ca: /ca.crt}}]",
            r#"f:1:46: zones[0].forward.to[1]: "tls://10.1.0.54" is not an upstream: write whom its certificate must be for, as in tls://10.1.0.54#dns.corp.example"#,
        ),
        (
            "zones: [{match: [.], forward: {to: ['tls://10.1.0.54#a'], certificate: /tls.crt}}]",
            "f:1:72: zones[0].forward.certificate: stands without key: write the file of its private key",
        ),
        (
            "zones: [{match: [.], forward: {to: ['tls://10.1.0.54#a'], key: /tls.key}}]",
            "f:1:64: zones[0].forward.key: stands without certificate: write the file that it belongs to",
        ),
        (
            "zones: [{match: [.], forward: {to: ['tls://10.1.0.54#a'], certificate: /a, key: b}}]",
            "f:1:81: zones[0].forward.key: must be the absolute path of a file, such as /etc/nodens/tls.key",
        ),
        (
            &format!("{zones}certificate: /a\n    key: /b"),
            "f:5:18: zones[0].forward.certificate: has no effect: no server of this forward is spoken to under encryption (tls://)",
        ),
        (
            &format!("{zones}from: a..b"),
            r#"f:5:11: zones[0].forward.from: "a..b" is not a domain name: it has an empty label"#,
        ),
        (
            &format!("{zones}except: a.example"),
            r#"f:5:13: zones[0].forward.except: expected a list: write ["a.example"]"#,
        ),
        (
            &format!("{zones}next: [NXDOMIAN]"),
            r#"f:5:12: zones[0].forward.next[0]: "NXDOMIAN" is not valid; did you mean "NXDOMAIN"?"#,
        ),
        (
            &format!("{zones}failover: [SERVFAIL, NOERROR]"),
            "f:5:26: zones[0].forward.failover[1]: NOERROR is no failure; for answers without data write NODATA",
        ),
        (&format!("{zones}failFast: 1"), r#"f:5:15: zones[0].forward.failFast: "1" is neither true nor false"#),
        (
            &format!("{zones}maxConcurrent: 1000001"),
            "f:5:20: zones[0].forward.maxConcurrent: 1000001 is out of range: must be between 0 and 1000000",
        ),
        (
            &format!("{zones}idle: 0s"),
            "f:5:11: zones[0].forward.idle: 0s is out of range: must be between 100ms and 1d",
        ),
        (&format!("{zones}idle: 10"), r#"f:5:11: zones[0].forward.idle: "10" has no unit; write 10s for seconds"#),
        (
            &format!("{zones}maxAge: 999ms"),
            "f:5:13: zones[0].forward.maxAge: 999ms is out of range: must be between 1s and 30d",
        ),
        (
            &format!("{zones}sourceAddress: '::'"),
            "f:5:20: zones[0].forward.sourceAddress: :: is no address to send from; leave it out to let the kernel choose",
        ),
        (
            &format!("{zones}sourceAddress: fd00::1"),
            "f:5:20: zones[0].forward.sourceAddress: fd00::1 is IPv6 and 10.0.0.1:53 is IPv4: nothing can be sent there",
        ),
        (
            "zones:\n- match: [.]\n  further: [{to: [1.1.1.1]}]",
            "f:3:3: zones[0].further: stands without forward: write the first of them there",
        ),
        (
            "zones:\n- match: [.]\n  forward: {to: [1.1.1.1]}\n  further: [{to: [169.254.20.10]}]",
            "f:4:19: zones[0].further[0].to[0]: 169.254.20.10:53 is where nodens itself listens: queries would go round in circles",
        ),
        (
            "zones:\n- match: [.]\n  forward: {to: [1.1.1.1]}\n  further: [{policy: random}]",
            r#"f:4:13: zones[0].further[0]: "to" is missing"#,
        ),
        (
            "log: {level: verbose}",
            r#"f:1:14: log.level: "verbose" is not valid; choose from: error, warn, info, debug"#,
        ),
        (
            "health: {listen: 8080}",
            r#"f:1:18: health.listen: "8080" is not ADDRESS:PORT, such as 0.0.0.0:9253 or [::1]:8080"#,
        ),
        (
            "listen: {allowFrom: [10.0.0.1/8]}",
            r#"f:1:22: listen.allowFrom[0]: "10.0.0.1/8" has host bits set; did you mean "10.0.0.0/8"?"#,
        ),
        (
            "listen: {allowFrom: []}",
            "f:1:10: listen.allowFrom: an empty list: nobody could ask; leave the key out to allow everyone",
        ),
        ("kubernetes: {clusterDomain: .}", "f:1:29: kubernetes.clusterDomain: the root cannot be the cluster's domain"),
        (&format!("{zones}polcy: random"), r#"f:5:5: zones[0].forward.polcy: unknown key; did you mean "policy"?"#),
        (
            &format!("{zones}policy: roundrobin"),
            r#"f:5:13: zones[0].forward.policy: "roundrobin" is not valid; did you mean "round-robin"?"#,
        ),
        (
            &format!("{zones}timeout: 5s"),
            "f:5:14: zones[0].forward.timeout: 5s is out of range: must be between 10ms and 4500ms",
        ),
        (
            &format!("{zones}maxConnections: 0"),
            "f:5:21: zones[0].forward.maxConnections: 0 is out of range: must be between 1 and 1024",
        ),
        ("network: {interface: {manage: yes}}", r#"f:1:31: network.interface.manage: "yes" is neither true nor false"#),
        (
            "network: {interface: {kind: veth}}",
            r#"f:1:29: network.interface.kind: "veth" is not valid; choose from: auto, dummy, tun"#,
        ),
        (
            "network: {firewall: iptable}",
            r#"f:1:21: network.firewall: "iptable" is not valid; did you mean "iptables"?"#,
        ),
        ("network: {failopen: {enabled: false}}", r#"f:1:11: network.failopen: unknown key; did you mean "failOpen"?"#),
        ("network: {failOpen: {endpoints: [10.0.0.1]}}", "f:1:22: network.failOpen.endpoints: expected a single value"),
        // Rules over several keys.
        (
            "network: {failOpen: {endpoints: '169.254.20.10:5353'}}",
            "f:1:33: network.failOpen.endpoints: 169.254.20.10:5353 is where nodens itself listens: nobody would answer when it does not",
        ),
        ("zones: []", "f:1:1: zones: no zones: every name would be refused; leave the key out for the default ones"),
        ("cache:\n  positive: {minTtl: 1m}", "f:2:3: cache.positive: minTtl 1m is above maxTtl 30s"),
        (
            &format!("{zones}\n  cache: {{negative: {{minTtl: 6s}}}}"),
            "f:6:11: zones[0].cache.negative: minTtl 6s is above maxTtl 5s",
        ),
        (
            "zones:\n- match: [a.b, A.b.]\n  forward: {to: [1.1.1.1]}",
            r#"f:2:16: zones[0].match[1]: "a.b" is matched already (zones[0].match[0], line 2)"#,
        ),
        (
            "zones:\n- match: []\n  forward: {to: [1.1.1.1]}",
            "f:2:3: zones[0].match: an empty list: the zone would match nothing",
        ),
        (
            "zones:\n- match: [.]\n  forward: {to: []}",
            "f:3:13: zones[0].forward.to: an empty list: nobody would be asked",
        ),
        (
            "zones:\n- match: [.]\n  forward: {to: [1.1.1.1, \"1.1.1.1:53\"]}",
            "f:3:27: zones[0].forward.to[1]: 1.1.1.1:53 is listed twice",
        ),
        (
            "zones:\n- match: [.]\n  forward: {to: ['tls://10.0.0.1#a.example', 'TLS://10.0.0.1:853#A.example.']}",
            "f:3:46: zones[0].forward.to[1]: tls://10.0.0.1:853#a.example is listed twice",
        ),
        (
            "listen: {addresses: [0.0.0.0]}",
            "f:1:22: listen.addresses[0]: 0.0.0.0 is a wildcard: anybody who reaches the node could ask; write exact addresses, or listen.anyAddress: true",
        ),
        (
            "listen: {addresses: [fe80::1]}",
            "f:1:22: listen.addresses[0]: fe80::1 is link-local and would need an interface's name; use a unique local address (fd00::/8)",
        ),
        ("listen: {addresses: [10.0.0.1, 10.0.0.1]}", "f:1:32: listen.addresses[1]: 10.0.0.1:53 is listed twice"),
        ("listen: {addresses: []}", "f:1:10: listen.addresses: an empty list: nobody could ask"),
        (
            "listen: {port: 9253}",
            "f: metrics.listen[0]: 0.0.0.0:9253 is taken by listen.addresses[0] (169.254.20.10:9253); give one of them another port",
        ),
        (
            "health: {listen: '10.0.0.1:9253'}",
            "f:1:18: health.listen: 10.0.0.1:9253 is taken by metrics.listen[0] (0.0.0.0:9253); give one of them another port",
        ),
        (
            "metrics: {listen: ['[::]:8080']}",
            "f: health.listen: 169.254.20.10:8080 is taken by metrics.listen[0] ([::]:8080); give one of them another port",
        ),
        (
            "zones:\n- match: [.]\n  forward: {to: [169.254.20.10]}",
            "f:3:18: zones[0].forward.to[0]: 169.254.20.10:53 is where nodens itself listens: queries would go round in circles",
        ),
        (
            "zones:\n- match: [.]\n  forward: {to: ['::ffff:169.254.20.10']}",
            "f:3:18: zones[0].forward.to[0]: [::ffff:169.254.20.10]:53 is where nodens itself listens: queries would go round in circles",
        ),
        (
            "zones:\n- match: [.]\n  forward: {to: ['tls://169.254.20.10:53#a.example']}",
            "f:3:18: zones[0].forward.to[0]: 169.254.20.10:53 is where nodens itself listens: queries would go round in circles",
        ),
        (
            "limits: {inFlight: 10, inFlightPerClient: 20}",
            "f:1:43: limits.inFlightPerClient: 20 is more than limits.inFlight, 10",
        ),
        // YAML.
        ("a: [", "f:2:1: not valid YAML: while parsing a node, did not find expected node content"),
        ("a: 1\n--- \nb: 1", "f:2:1: a second YAML document; the configuration is one"),
        ("a: !x 1", r#"f:1:4: YAML tags such as "!x" have no meaning here"#),
        ("[a]: 1", "f:1:1: a key must be a plain word"),
        ("a: &x [*x]", "f:1:8: an alias inside the value it stands for"),
    ];
    let mut wrong = Vec::new();
    for (text, expected) in table {
        let found = complaints(text);
        if found != [*expected] {
            wrong.push(format!("--- {text}\nexpected {expected}\nfound    {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn domain_names_and_upstreams_that_cannot_be_are_refused() {
    let long = format!("{}com", "abcdefghi.".repeat(26));
    let label = "a".repeat(64);
    let names = [
        ("a..b", "it has an empty label"),
        ("\"\"", "it is empty; the root is \".\""),
        (&label, "a label is longer than 63 octets"),
        (&long, "longer than 255 octets"),
        ("\"*.corp.example\"", "a zone covers all names below it already; leave the \"*.\" out"),
        ("bücher.example", "write non-ASCII names in their xn-- form"),
        ("a b", "' ' cannot stand in it"),
        ("10.0.0.0/8", "for reverse lookups write the zone, such as 10.in-addr.arpa"),
    ];
    for (name, why) in names {
        let found = complaints(&format!("zones: [{{match: [{name}], forward: {{to: [1.1.1.1]}}}}]"));
        assert!(found.len() == 1 && found[0].contains(why), "{name}: {found:?}");
    }
    let upstreams = [
        ("tls://1.1.1.1", "write whom its certificate must be for, as in tls://10.1.0.54#dns.corp.example"),
        ("tls://dns.example#dns.example", "before the # stands an IP address, or one with a port"),
        ("tls://#dns.example", "before the # stands an IP address"),
        ("tls://1.1.1.1:0#dns.example", "before the # stands an IP address"),
        ("tls://1.1.1.1:65536#dns.example", "before the # stands an IP address"),
        ("tls://0.0.0.0#dns.example", "before the # stands an IP address"),
        ("tls://fd00::1:853#", "behind the # stands the domain name, or the IP address, that its certificate is for"),
        ("tls://1.1.1.1#.", "behind the # stands the domain name"),
        ("tls://1.1.1.1#1.1.1", "behind the # stands the domain name"),
        ("tls://1.1.1.1#dns.example#x", "behind the # stands the domain name"),
        ("tls://1.1.1.1#*.example", "behind the # stands the domain name"),
        ("https://dns.example/dns-query", "write tls://ADDRESS#NAME, or an address, a name, a path or kube-dns"),
        ("quic://1.1.1.1", "write tls://ADDRESS#NAME"),
        ("dns://1.1.1.1", "without a scheme"),
        ("://1.1.1.1", "without a scheme"),
        ("1.1.1.1#dns.example", "write an address, a name, a path or kube-dns"),
        ("1.2.3", "it looks like an IP address, but is none"),
        ("1.2.3.4:99999", "the port must be between 1 and 65535"),
        ("dns.example:0", "the port must be between 1 and 65535"),
        ("0.0.0.0", "nobody can answer there"),
        ("kubedns", "did you mean \"kube-dns\"?"),
        (".", "write an address, a name, a path or kube-dns"),
        ("a b", "write an address, a name, a path or kube-dns"),
    ];
    for (to, why) in upstreams {
        let found = complaints(&format!("zones: [{{match: [.], forward: {{to: [\"{to}\"]}}}}]"));
        assert!(found.len() == 1 && found[0].contains(why), "{to}: {found:?}");
    }
}

#[test]
fn every_problem_of_a_file_is_reported_in_the_order_of_its_lines() {
    let text = "listn: 1\ncache:\n  positive: {minTtl: 2m, maxTtl: 1m}\n  failureTtl: 9h\n  prefetch: {remaining: 95%}\nzones:\n- match: [a]\n  forward: {next: [NO]}\n- match: [b]\n  forward: {to: [x://y], policy: best}\n- match: [b]\n  forward: {to: [1.1.1.1]}\nlog: {level: 7}\n";
    let keys: Vec<String> = complaints(text).iter().filter_map(|p| Some(p.split(": ").nth(1)?.to_owned())).collect();
    let expected = [
        "listn",
        "cache.positive",
        "cache.failureTtl",
        "cache.prefetch.remaining",
        "zones[0].forward",
        "zones[0].forward.next[0]",
        "zones[1].forward.to[0]",
        "zones[1].forward.policy",
        "zones[2].match[0]",
        "log.level",
    ];
    assert_eq!(keys, expected);
}

#[test]
fn every_key_of_the_contract_works_or_is_not_supported_yet() {
    let expected = [
        "f:5:3: listen.tls: not supported yet; leave it out",
        "f:27:45: kubernetes.searchShield: not supported yet; leave it out or write \"false\"",
        "f:31:1: admin: not supported yet; leave it out",
        "f:32:59: log.slow: not supported yet; leave it out",
    ];
    assert_eq!(complaints(CONTRACT), expected);
    // The refused lines out, the rest is a configuration.
    let refused = [5, 26, 31];
    let lines = CONTRACT.lines().enumerate().filter(|(i, _)| !refused.contains(&(i + 1))).map(|(_, line)| line);
    let rest = lines.collect::<Vec<_>>().join("\n");
    let rest = rest.replace(", searchShield: true", "").replace(", slow: 500ms", "");
    let config = good(&rest);
    assert!(config.coredns_names);
    assert_eq!(config.zones.len(), 3);
    // What it writes out are the defaults, but for the one that has none.
    let persist = Persist { path: "/var/lib/nodens/cache.bin".into(), interval: Duration::from_secs(60) };
    assert_eq!(config.cache, Cache { persist: Some(persist), ..Config::default().cache });
    for (zone, default) in config.zones.iter().zip(Config::default().zones.iter().cycle()) {
        assert_eq!((zone.serve_stale, zone.prefetch), (default.serve_stale, default.prefetch));
    }
}

#[test]
fn keys_that_ask_for_nothing_are_accepted() {
    let off = "
cache: { serveStale: ~, prefetch: , persist: ~ }
kubernetes: { searchShield: false }
metrics: { corednsNames: false }
log: { queries: { sample: 0 } }
";
    assert_eq!(good(off), Config::default());
    assert_eq!(good("network:\nlisten:\nzones: ~\n"), Config::default());
    assert_eq!(
        complaints("admin: /run/x\nlog: {queries: {sample: 1}}"),
        [
            "f:1:1: admin: not supported yet; leave it out",
            "f:2:7: log.queries: not supported yet; leave it out or write \"sample: 0\""
        ]
    );
}

#[test]
fn the_defaults_are_those_of_the_contract_and_of_the_shipped_file() {
    let shipped = load_str("nodens.yaml", include_str!("../../config/nodens.yaml")).unwrap();
    assert_eq!(shipped.config, Config::default());
    assert!(shipped.warnings.is_empty());
    for nothing in ["", "---\n", "# nothing\n", "{}", "\u{feff}"] {
        assert_eq!(good(nothing), Config::default(), "{nothing:?}");
    }
    let config = Config::default();
    assert_eq!(config.listen.addresses, ["169.254.20.10:53".parse().unwrap()]);
    assert_eq!(
        config.network.interface,
        Some(Interface { name: "nodelocaldns".into(), kind: InterfaceKind::Auto, keep: false })
    );
    assert_eq!(config.network.firewall, Firewall::Auto);
    let endpoint = config.network.fail_open.unwrap().to_string();
    assert_eq!(endpoint, "kube-dns-endpoints.kube-system.svc.cluster.local:53");
    assert_eq!((config.listen.port, config.listen.workers, config.cache.max_bytes), (53, Workers::Auto, 64 << 20));
    assert_eq!(config.zones[0].names, ["cluster.local", "in-addr.arpa", "ip6.arpa"]);
    assert_eq!(config.zones[0].forwards[0].to, [Target::KubeDns { port: 53 }]);
    assert_eq!(config.zones[1].forwards[0].to, [Target::ResolvConf("/etc/resolv.conf".into())]);
    assert_eq!(config.zones[1].forwards[0].protocol, Protocol::Tcp);
    assert_eq!(config.zones[1].ttls.positive_max, Duration::from_secs(30));
    for zone in &config.zones {
        let stale = ServeStale {
            max_age: Duration::from_secs(3600),
            answer_ttl: Duration::from_secs(30),
            client_wait: Duration::from_millis(1800),
            recheck: Duration::from_secs(30),
            prefer_positive: false,
        };
        assert_eq!(zone.serve_stale, Some(stale));
        assert_eq!(zone.prefetch, Some(Prefetch { min_hits: 2, remaining: 10 }));
        assert_eq!(zone.forwards[0].ca, None);
    }
    assert_eq!(config.cache.persist, None);
    assert_eq!(config.health, Some("169.254.20.10:8080".parse().unwrap()));
    assert_eq!(config.metrics, ["0.0.0.0:9253".parse::<SocketAddr>().unwrap()]);
}

#[test]
fn every_shipped_example_loads_without_a_warning() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/examples");
    let files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 4);
    for file in files {
        let loaded = load(Some(&file), &Overrides::default()).unwrap_or_else(|problems| panic!("{problems}"));
        // Here is no Service.
        let odd = loaded.warnings.0.iter().filter(|w| !w.message.starts_with("KUBE_DNS_SERVICE_HOST is not set"));
        assert_eq!(odd.count(), 0, "{}", loaded.warnings);
        assert_eq!(loaded.source.unwrap().file(), file);
    }
}

#[test]
fn values_reach_the_configuration_as_written() {
    let config = good(
        "
listen: { addresses: [127.0.0.1, '::1'], port: '5300', workers: 3, allowFrom: [10.0.0.0/8, 192.168.0.1] }
cache: { maxBytes: 2097152, positive: { minTtl: 0, maxTtl: 2m }, negative: { maxTtl: 1500ms }, failureTtl: 1s }
kubernetes: { clusterDomain: K8s.Example. }
zones:
- match: [K8s.Example., no, 10]
  forward: { to: ['10.0.0.1:5353', '[fd00::1]:54', 'fd00::2', Dns.Example.:55, /run/resolv.conf, kube-dns:9, core-dns] }
- match: [.]
  forward: { to: [localhost], protocol: auto, policy: round-robin, timeout: 250ms, maxConnections: 7 }
  cache: { positive: { maxTtl: 1h }, negative: { minTtl: 1s }, failureTtl: 2s }
limits: { inFlight: 50 }
metrics: { listen: [] }
health: { listen: '[::1]:8081' }
log: { format: text, level: debug }
",
    );
    assert_eq!(config.listen.port, 5300);
    assert_eq!(config.listen.workers, Workers::Count(3));
    assert_eq!(config.listen.allow_from, ["10.0.0.0/8".parse().unwrap(), "192.168.0.1/32".parse::<IpNet>().unwrap()]);
    assert_eq!(config.cache.max_bytes, 2 << 20);
    assert_eq!(config.cluster_domain, "k8s.example");
    assert_eq!(config.zones[0].names, ["k8s.example", "no", "10"]);
    let to: Vec<String> = config.zones[0].forwards[0].to.iter().map(Target::to_string).collect();
    let expected = [
        "10.0.0.1:5353",
        "[fd00::1]:54",
        "[fd00::2]:53",
        "dns.example:55",
        "/run/resolv.conf",
        "kube-dns:9",
        "core-dns:53",
    ];
    assert_eq!(to, expected);
    let ms = Duration::from_millis;
    let ttls = |positive_max, negative_min, failure| Ttls {
        positive_min: ms(0),
        positive_max: ms(positive_max),
        negative_min: ms(negative_min),
        negative_max: ms(1500),
        failure: ms(failure),
    };
    assert_eq!(config.zones[0].ttls, ttls(120_000, 0, 1000));
    assert_eq!(config.zones[1].ttls, ttls(3_600_000, 1000, 2000));
    let forward = &config.zones[1].forwards[0];
    assert_eq!(forward.to, [Target::Name { host: "localhost".into(), port: 53 }]);
    assert_eq!((forward.protocol, forward.policy), (Protocol::Auto, Policy::RoundRobin));
    assert_eq!((forward.timeout, forward.max_connections), (ms(250), 7));
    assert_eq!((config.limits.in_flight, config.limits.in_flight_per_client), (50, 50));
    assert!(config.metrics.is_empty());
    assert_eq!(config.health, Some("[::1]:8081".parse().unwrap()));
    assert_eq!(config.log, Log { format: LogFormat::Text, level: LogLevel::Debug });
}

#[test]
fn what_a_zone_says_of_stale_answers_and_prefetch_stands_over_what_all_say_key_by_key() {
    let zones = |cache: &[&str]| {
        let zone =
            |(i, cache): (usize, &&str)| format!("- {{match: [z{i}], forward: {{to: [1.1.1.1]}}, cache: {cache}}}\n");
        cache.iter().enumerate().map(zone).collect::<String>()
    };
    let text = format!(
        "cache:\n  serveStale: {{maxAge: 2h, answerTtl: 0s, recheck: 1s}}\n  prefetch: {{minHits: 255, remaining: 1%}}\nzones:\n{}",
        zones(&[
            "{}",
            "{serveStale: {enabled: false}}",
            "{prefetch: {enabled: false}}",
            "{serveStale: {maxAge: 7d, clientWait: 0, preferPositive: true}, prefetch: {remaining: 50%}}",
        ])
    );
    let found: Vec<_> = good(&text).zones.iter().map(|zone| (zone.serve_stale, zone.prefetch)).collect();
    let stale = ServeStale {
        max_age: Duration::from_secs(7200),
        answer_ttl: Duration::ZERO,
        client_wait: Duration::from_millis(1800),
        recheck: Duration::from_secs(1),
        prefer_positive: false,
    };
    let prefetch = Prefetch { min_hits: 255, remaining: 1 };
    let last = ServeStale {
        max_age: Duration::from_secs(7 * 86_400),
        client_wait: Duration::ZERO,
        prefer_positive: true,
        ..stale
    };
    let expected = [
        (Some(stale), Some(prefetch)),
        (None, Some(prefetch)),
        (Some(stale), None),
        (Some(last), Some(Prefetch { remaining: 50, ..prefetch })),
    ];
    assert_eq!(found, expected);
    // Off for all, and on again for one, with what all say but for that.
    let text = format!(
        "cache: {{serveStale: {{enabled: false, maxAge: 2h}}, prefetch: {{enabled: false}}}}\nzones:\n{}",
        zones(&["{}", "{serveStale: {enabled: true, recheck: 5m}, prefetch: {enabled: true, minHits: 1}}"])
    );
    let config = good(&text);
    assert_eq!((config.zones[0].serve_stale, config.zones[0].prefetch), (None, None));
    let stale = config.zones[1].serve_stale.unwrap();
    assert_eq!((stale.max_age, stale.recheck), (Duration::from_secs(7200), Duration::from_secs(300)));
    assert_eq!(config.zones[1].prefetch, Some(Prefetch { min_hits: 1, remaining: 10 }));
    // The zones of a file without any have what all say.
    let config = good("cache: {serveStale: {enabled: false}, prefetch: {minHits: 3}}");
    assert!(config.zones.iter().all(|z| z.serve_stale.is_none() && z.prefetch.unwrap().min_hits == 3));
}

#[test]
fn encrypted_servers_are_read_in_every_form_they_are_written_in() {
    let to = [
        "tls://10.1.0.54#dns.corp.example",
        "TLS://10.1.0.54:8853#DNS.Corp.Example.",
        "tls://fd00::1#a.b",
        "tls://[fd00::1]:54#a",
    ];
    let config = good(&format!(
        "zones: [{{match: [.], forward: {{to: [{}], ca: /etc/ca.crt}}}}]",
        to.map(|t| format!("'{t}'")).join(", ")
    ));
    let forward = &config.zones[0].forwards[0];
    let shown: Vec<String> = forward.to.iter().map(Target::to_string).collect();
    let expected = [
        "tls://10.1.0.54:853#dns.corp.example",
        "tls://10.1.0.54:8853#dns.corp.example",
        "tls://[fd00::1]:853#a.b",
        "tls://[fd00::1]:54#a",
    ];
    assert_eq!(shown, expected);
    assert_eq!(forward.ca, Some("/etc/ca.crt".into()));
    // What is shown is read back as the same.
    assert_eq!(shown.iter().map(|text| text.parse().unwrap()).collect::<Vec<Target>>(), forward.to);
    // The same address by another name, or in the clear, is another server.
    let config = good("zones: [{match: [.], forward: {to: [10.0.0.1, 'tls://10.0.0.1#a', 'tls://10.0.0.1#b']}}]");
    assert_eq!((config.zones[0].forwards[0].to.len(), &config.zones[0].forwards[0].ca), (3, &None));
}

#[test]
fn a_forward_is_read_with_all_that_can_be_said_of_it() {
    let text = "zones:
- match: [example, corp]
  forward:
    to: ['tls://10.0.0.1#10.0.0.1']
    from: Example.
    except: [a.example, B.example.]
    next: [NXDOMAIN, NODATA]
    failover: [SERVFAIL, REFUSED]
    failFast: true
    maxConcurrent: 1000
    idle: 10s
    maxAge: 5m
    certificate: /tls.crt
    key: /tls.key
    sourceAddress: '::ffff:10.0.0.9'
  further:
  - { to: [10.0.0.2], maxAge: 0, maxConcurrent: 0 }
- match: [.]
";
    let loaded = load_str("f", text).unwrap();
    let expected = "f:18:3: zones[1]: no forward: every name of this zone fails (SERVFAIL)";
    assert_eq!(loaded.warnings.to_string(), expected);
    let config = loaded.config;
    let [first, second] = &config.zones[0].forwards[..] else { panic!("{:?}", config.zones[0].forwards) };
    let plain = &Config::default().zones[0].forwards[0];
    let expected = Forward {
        to: vec!["tls://10.0.0.1:853#10.0.0.1".parse().unwrap()],
        from: "example".to_owned(),
        except: vec!["a.example".to_owned(), "b.example".to_owned()],
        next: vec![ReplyCode::NxDomain, ReplyCode::NoData],
        failover: vec![ReplyCode::ServFail, ReplyCode::Refused],
        fail_fast: true,
        max_concurrent: Some(1000),
        idle: Duration::from_secs(10),
        max_age: Some(Duration::from_secs(300)),
        identity: Some(Identity { certificate: "/tls.crt".into(), key: "/tls.key".into() }),
        source: Some([10, 0, 0, 9].into()),
        ..plain.clone()
    };
    assert_eq!(*first, expected);
    assert_eq!(*second, Forward { to: vec!["10.0.0.2".parse().unwrap()], max_age: None, ..plain.clone() });
    assert_eq!(config.zones[1].forwards, []);
}

#[test]
fn what_a_forward_says_in_vain_is_a_warning() {
    for (zones, warning) in [
        (
            "[{match: [.], forward: {to: [1.1.1.1], next: [NXDOMAIN]}}]",
            "f:1:47: zones[0].forward.next: has no effect: no forward comes after this one",
        ),
        ("[{match: [.], forward: {to: [1.1.1.1], next: [NODATA]}, further: [{to: [1.1.1.2]}]}]", ""),
        (
            "[{match: [., corp], forward: {to: [1.1.1.1]}, further: [{to: [1.1.1.2], next: [NODATA]}]}]",
            "f:1:80: zones[0].further[0].next: has no effect: no forward comes after this one",
        ),
        ("[{match: [., corp], forward: {to: [1.1.1.1], from: a.corp}}]", ""),
        ("[{match: [a.corp, .], forward: {to: [1.1.1.1], from: corp}}]", ""),
        (
            "[{match: [.], forward: {to: [1.1.1.1]}}, {match: [corp], forward: {to: [1.1.1.1], from: xcorp}}]",
            "f:1:96: zones[1].forward.from: no name of this zone is at or below xcorp: nobody is asked",
        ),
    ] {
        assert_eq!(load_str("f", &format!("zones: {zones}")).unwrap().warnings.to_string(), warning, "{zones}");
    }
}

#[test]
fn aliases_stand_for_the_value_they_name() {
    let config = good("zones:\n- match: [a.example]\n  forward: &f {to: [10.0.0.1]}\n- match: [.]\n  forward: *f\n");
    assert_eq!(config.zones[0].forwards, config.zones[1].forwards);
}

#[test]
fn zones_without_the_root_are_a_warning() {
    let loaded = load_str("f", "zones:\n- match: [a.example]\n  forward: {to: [10.0.0.1]}\n").unwrap();
    let expected = "f:1:1: zones: no zone matches \".\": names outside these zones will be refused";
    assert_eq!(loaded.warnings.to_string(), expected);
}

#[test]
fn arguments_replace_addresses_and_zones() {
    let config = with_args("listen: {port: 99}", &args(&["127.0.0.1", "::1"], &["9.9.9.9", "[::2]:5353"])).unwrap();
    assert_eq!(config.listen.addresses, ["127.0.0.1:53".parse().unwrap(), "[::1]:53".parse().unwrap()]);
    assert_eq!(config.listen.port, 53);
    assert_eq!(config.health, Some("127.0.0.1:8080".parse().unwrap()));
    assert_eq!(config.zones.len(), 1);
    assert_eq!(config.zones[0].names, ["."]);
    let servers = [Target::Address("9.9.9.9:53".parse().unwrap()), Target::Address("[::2]:5353".parse().unwrap())];
    assert_eq!(config.zones[0].forwards[0].to, servers);
    assert_eq!(config.zones[0].forwards[0].protocol, Protocol::Tcp);
    let config =
        with_args("cache: {prefetch: {minHits: 9}}", &args(&[], &["tls://10.1.0.54#dns.corp.example"])).unwrap();
    assert_eq!(config.zones[0].forwards[0].to[0].to_string(), "tls://10.1.0.54:853#dns.corp.example");
    assert_eq!(config.zones[0].prefetch.unwrap().min_hits, 9, "what the file says of the cache holds");
    let config = with_args("", &args(&["127.0.0.1:5300", "[::1]:5300"], &[])).unwrap();
    assert_eq!((config.listen.port, config.zones.len()), (5300, 2));
}

#[test]
fn wrong_arguments_are_problems_of_their_own() {
    let table: &[(&[&str], &[&str], &str)] = &[
        (&["here"], &[], "--listen here: not ADDRESS or ADDRESS:PORT, such as 127.0.0.1:5300 or [::1]:5300"),
        (&["127.0.0.1:0"], &[], "--listen 127.0.0.1:0: the port must be between 1 and 65535"),
        (
            &["127.0.0.1:5300", "127.0.0.2"],
            &[],
            "--listen 127.0.0.2: all addresses share one port, which is 53 where none is written",
        ),
        (
            &["0.0.0.0"],
            &[],
            "--listen 0.0.0.0: 0.0.0.0 is a wildcard: anybody who reaches the node could ask; write exact addresses, or listen.anyAddress: true",
        ),
        (
            &[],
            &["tls://1.1.1.1"],
            "--upstream tls://1.1.1.1: \"tls://1.1.1.1\" is not an upstream: write whom its certificate must be for, as in tls://10.1.0.54#dns.corp.example",
        ),
        (
            &["127.0.0.1:853"],
            &["tls://127.0.0.1#dns.corp.example"],
            "--upstream tls://127.0.0.1#dns.corp.example: 127.0.0.1:853 is where nodens itself listens: queries would go round in circles",
        ),
        (
            &["127.0.0.1:5300"],
            &["127.0.0.1:5300"],
            "--upstream 127.0.0.1:5300: 127.0.0.1:5300 is where nodens itself listens: queries would go round in circles",
        ),
    ];
    for (listen, upstream, expected) in table {
        assert_eq!(with_args("", &args(listen, upstream)), Err(expected.to_string()));
    }
}

#[test]
fn a_file_that_is_not_there_is_a_problem_only_if_it_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nodens.yaml");
    let none = Overrides::default();
    let loaded = load_from(None, &file, &none).unwrap();
    assert_eq!((loaded.config, loaded.source.is_none()), (Config::default(), true));
    let missing = load_from(Some(&file), &file, &none).unwrap_err().to_string();
    assert!(missing.contains("nodens.yaml: cannot read the configuration: No such file"), "{missing}");
    fs::write(&file, "listen: {port: 54}").unwrap();
    let loaded = load_from(None, &file, &none).unwrap();
    assert_eq!((loaded.config.listen.port, loaded.source.unwrap().file()), (54, &*file));
    assert_eq!(loaded.fingerprint, fingerprint(b"listen: {port: 54}"));
    fs::write(&file, b"listen:\n  \xff").unwrap();
    assert!(load_from(None, &file, &none).unwrap_err().to_string().ends_with(": not UTF-8 text (line 2)"));
    assert!(load_from(Some(folder.path()), &file, &none).unwrap_err().to_string().contains("Is a directory"));
}

#[test]
fn hostile_text_is_refused_in_bounded_time() {
    let megabyte = limits::MAX_FILE_BYTES;
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
    for (this, last) in ('b'..='z').zip('a'..='y') {
        bomb.push_str(&format!("{this}: &{this} [*{last},*{last},*{last},*{last},*{last},*{last},*{last},*{last}]\n"));
    }
    let texts = [
        ("too long", "#".repeat(megabyte + 1)),
        ("comment", "#".repeat(megabyte)),
        ("flow depth", "[".repeat(megabyte)),
        ("map depth", "{a: ".repeat(megabyte / 4)),
        ("block depth", "- ".repeat(megabyte / 2)),
        ("question marks", "? ".repeat(megabyte / 2)),
        ("alias bomb", bomb),
        ("aliases of long text", format!("a: &a '{}'\nb: [{}]", "x".repeat(200_000), "*a,".repeat(200_000))),
        ("aliases of long keys", format!("a: &a {{{}: 1}}\nb: [{}]", "x".repeat(1_000), "*a,".repeat(200_000))),
        ("anchors", "- &a x\n".repeat(megabyte / 7)),
        ("one long key", "k".repeat(megabyte)),
        ("many keys", (0..megabyte / 10).map(|i| format!("k{i}: 1\n")).collect()),
        ("many flow keys", format!("{{{}}}", (0..megabyte / 12).map(|i| format!("k{i}: 1,")).collect::<String>())),
        ("many addresses", format!("listen: {{addresses: [{}]}}", "10.0.0.1,".repeat(100_000))),
        ("many bad addresses", format!("listen: {{addresses: [{}]}}", "10.0.0,".repeat(100_000))),
        ("many metrics", format!("metrics:\n  listen:\n{}", "  - 1.1.1.1:9\n".repeat(70_000))),
        ("many zones", format!("zones:\n{}", "- match: [a]\n".repeat(60_000))),
        ("many names", {
            let names: String = (0..40_000).map(|i| format!("n{i},")).collect();
            format!("zones: [{{match: [{names}], forward: {{to: [1.1.1.1]}}}}]")
        }),
        ("long scalar", format!("log: {{level: '{}'}}", "\\".repeat(megabyte - 100))),
        ("quotes", "\"".repeat(megabyte)),
    ];
    for (what, text) in texts {
        let started = Instant::now();
        let found = load_str("f", &text);
        let took = started.elapsed();
        println!("{what}: {took:?}: {:?}", found.as_ref().map(|_| ()).map_err(|p| p.0[0].to_string()));
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
        assert!(found.is_err() || what == "comment", "{what}");
        assert!(
            found.err().is_none_or(|p| p.0.len() <= limits::MAX_PROBLEMS && p.0.iter().all(|p| p.message.len() < 500))
        );
    }
}

/// Text made of what YAML and the configuration are made of.
fn yaml_like() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "listen",
            "addresses",
            "port",
            "cache",
            "positive",
            "maxTtl",
            "zones",
            "match",
            "forward",
            "to",
            "network",
            "log",
            "admin",
            "hosts",
            ": ",
            ":",
            "- ",
            "-",
            "? ",
            "\n",
            "\n  ",
            "\n    ",
            "[",
            "]",
            "{",
            "}",
            ",",
            "&a ",
            "*a",
            "!t ",
            "!!str ",
            "'",
            "\"",
            "|\n",
            ">-\n",
            "#",
            " ",
            "\t",
            "---\n",
            "...\n",
            "%YAML 1.2\n",
            "~",
            "null",
            "10.0.0.1",
            "tls://",
            "%",
            "kube-dns",
            "30s",
            "64Mi",
            "\r\n",
            "\u{feff}",
            "\\",
            "<<",
            "@",
            "`",
            "\u{0}",
            "\u{85}",
            "é",
            "tcp",
            "%TAG ! x\n",
            "<",
            ">",
            "|",
            "2",
            "+",
        ])
        .prop_map(str::to_owned),
        "[ -~]{0,6}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// The contract with some of its characters replaced.
fn mutated() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec((0..CONTRACT.len(), yaml_like()), 1..5);
    edits.prop_map(|edits| {
        let mut text = CONTRACT.to_owned();
        for (at, piece) in edits {
            let at = (0..=at.min(text.len())).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            let end = (at + 3).min(text.len());
            match text.is_char_boundary(end) {
                true => text.replace_range(at..end, &piece),
                false => text.insert_str(at, &piece),
            }
        }
        text
    })
}

proptest! {
    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_bytes("f", &bytes, &Overrides::default());
    }

    #[test]
    fn any_yaml_is_answered_without_a_panic_and_with_places_in_the_text(
        text in prop_oneof![yaml_like(), mutated()]
    ) {
        if let Err(problems) = load_str("f", &text) {
            prop_assert!(!problems.is_empty());
            for problem in &problems.0 {
                prop_assert!(!problem.message.contains("cannot be understood"), "{}", problem);
                prop_assert!(!problem.to_string().contains('\n'), "{}", problem);
            }
        }
    }

}

#[test]
fn the_schema_describes_every_key() {
    fn walk(schema: &serde_json::Value, path: &str, keys: &mut Vec<String>) {
        for (key, value) in schema["properties"].as_object().into_iter().flatten() {
            assert!(value["description"].as_str().is_some_and(|d| !d.is_empty()), "{path}.{key}");
            assert_eq!(schema["additionalProperties"], false, "{path}");
            keys.push(format!("{path}.{key}"));
            walk(value, &format!("{path}.{key}"), keys);
            walk(&value["items"], &format!("{path}.{key}[]"), keys);
        }
    }
    let mut keys = Vec::new();
    walk(&schema(), "", &mut keys);
    for key in [
        ".listen.allowFrom",
        ".zones[].forward.maxConnections",
        ".zones[].further[].maxConcurrent",
        ".zones[].cache.negative.maxTtl",
        ".zones[].cache.serveStale.enabled",
        ".cache.prefetch.remaining",
        ".log.level",
    ] {
        assert!(keys.iter().any(|k| k == key), "{key}");
    }
    assert_eq!(schema()["properties"]["zones"]["items"]["required"], serde_json::json!(["match"]));
    assert_eq!(schema()["properties"]["cache"]["properties"]["persist"]["required"], serde_json::json!(["path"]));
}
