//! Tables: what each directive becomes, and what is said of forms that are none. The shapes in `tests/corefiles` are tried
//! by `tests/migrate.rs`.

use crate::config::{Config, load_bytes, load_str};
use crate::config::{Loaded, Overrides};

/// The forward that makes a block complete.
const TO: &str = "forward . 10.0.0.53";

fn load(text: &str) -> Result<Loaded, String> {
    load_bytes("Corefile", text.as_bytes(), &Overrides::default()).map_err(|problems| problems.to_string())
}

fn good(text: &str) -> Loaded {
    load(text).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// What a block with `body` and a forward becomes: the lines of the zone behind its forward, or of its forward.
fn zone(body: &str) -> String {
    let loaded = good(&format!(".:53 {{\nbind 10.0.0.1\n{TO}\n{body}\n}}\n"));
    let text = &loaded.text;
    let (_, zone) = text.split_once("forward: { to: [10.0.0.53], protocol: auto, policy: random }\n").unwrap();
    let (zone, _) = zone.split_once("metrics:").unwrap();
    let lines = zone.lines().map(|line| line.strip_prefix("    ").unwrap_or(line));
    lines.filter(|line| *line != "cache: { enabled: false }").collect::<Vec<_>>().join("\n")
}

/// The keys of a forward with `options` after `to`.
fn forward(line: &str) -> String {
    let loaded = good(&format!(".:53 {{\nbind 10.0.0.1\n{line}\n}}\n"));
    let (_, zone) = loaded.text.split_once("match: [.]\n").unwrap();
    let (zone, _) = zone.split_once("    cache:").unwrap();
    let lines = zone.lines().map(|line| line.strip_prefix("    ").unwrap_or(line));
    lines.collect::<Vec<_>>().join("\n")
}

/// What is said of a block with `body`, without the name of the file.
fn wrong(body: &str) -> String {
    match load(&format!(". {{\nbind 10.0.0.1\n{body}\n}}\n")) {
        Err(problems) => problems.replace("Corefile:", ""),
        Ok(loaded) => panic!("accepted: {body}\n{}", loaded.text),
    }
}

/// Warnings about a block with `body`, without the name of the file.
fn warnings(body: &str) -> Vec<String> {
    let loaded = good(&format!(". {{\nbind 10.0.0.1\n{body}\n}}\n"));
    loaded.warnings.0.iter().map(|warning| warning.to_string().replace("Corefile:", "")).collect()
}

/// Each line of `rows` is said of a block with the text before it.
fn refused(rows: &[(&str, &str)]) {
    for (body, message) in rows {
        let said = wrong(body);
        assert!(said.starts_with(message), "{body}\n{said}");
    }
}

fn becomes(rows: &[(&str, &str)]) {
    for (body, keys) in rows {
        assert_eq!(zone(body).trim(), *keys, "{body}");
    }
}

#[test]
fn the_whole_of_a_small_file() {
    let text = "\
# The cluster.
cluster.local:53 { # by kube-dns
    errors
    cache {
        success 9984 30
        denial 9984 5
    }
    reload
    bind 169.254.20.10 10.96.0.10
    forward . 10.96.0.11 {
        force_tcp # always
    }
    prometheus :9253
    health 169.254.20.10:8080
}
.:53 {
    cache 30
    bind 169.254.20.10 10.96.0.10
    forward . /etc/resolv.conf
    # the end
}
";
    let expected = "\
listen: { addresses: [169.254.20.10, 10.96.0.10], port: 53 }
answers: { style: coredns, udpSize: 4096 }
";
    let loaded = good(text);
    assert!(loaded.text.len() > expected.len(), "{}", loaded.text);
    assert_eq!(loaded.text, include_str!("small.yaml"));
    let same = load_str("small.yaml", &loaded.text).unwrap();
    assert_eq!(same.config, loaded.config);
    assert_eq!(loaded.warnings.0, []);
}

#[test]
fn where_a_file_listens() {
    let listens = |text: &str| {
        let config: Config = good(text).config;
        let zones = config.zones.iter().map(|zone| {
            let at: Vec<String> = zone.listen.iter().map(ToString::to_string).collect();
            format!("{} @{}", zone.names.join(" "), at.join(" "))
        });
        let all: Vec<String> = config.listen.addresses.iter().map(ToString::to_string).collect();
        (all.join(" "), zones.collect::<Vec<_>>().join(", "))
    };
    let body = |bind: &str| format!("{{\n{bind}\n{TO}\n}}\n");
    for (text, all, zones) in [
        (format!(". {}", body("bind 10.0.0.1")), "10.0.0.1:53", ". @"),
        (format!("a b:53 {}", body("bind 10.0.0.1 10.0.0.2")), "10.0.0.1:53 10.0.0.2:53", "a b @"),
        (format!("a:54 {}", body("bind 10.0.0.1\nbind fd00::1")), "10.0.0.1:54 [fd00::1]:54", "a @"),
        (
            format!("a b:1053 {}", body("bind 10.0.0.1")),
            "10.0.0.1:53 10.0.0.1:1053",
            "a @10.0.0.1:53, b @10.0.0.1:1053",
        ),
        (
            format!(". {}. {}", body("bind 10.0.0.1"), body("bind 10.0.0.2")),
            "10.0.0.1:53 10.0.0.2:53",
            ". @10.0.0.1:53, . @10.0.0.2:53",
        ),
        (format!(". {}", body("bind 10.0.0.1 10.0.0.2 10.0.0.1 {\nexcept 10.0.0.2\n}")), "10.0.0.1:53", ". @"),
        (format!(". {}", body("bind lo {\nexcept ::1\n}")), "127.0.0.1:53", ". @"),
        (format!(". {}", body("")), "0.0.0.0:53 [::]:53", ". @"),
        (format!("10.0.0.0/24 {}", body("bind 10.0.0.1")), "10.0.0.1:53", "0.0.10.in-addr.arpa @"),
        (format!("tls://a {}", body("bind 10.0.0.1")), "10.0.0.1:853", "a @"),
    ] {
        assert_eq!(listens(&text), (all.to_owned(), zones.to_owned()), "{text}");
    }
    let any = good(&format!(". {}", body("bind 0.0.0.0")));
    assert!(!any.config.network_is_on(), "no interface holds it");
}

#[test]
fn what_is_served_twice_is_refused() {
    let body = |bind: &str| format!("{{\n{bind}\n{TO}\n}}\n");
    for (text, expected) in [
        (
            format!("a {}A. {}", body("bind 10.0.0.1"), body("bind 10.0.0.1")),
            "Corefile:5:1: A.: cannot serve dns://a.:53 on 10.0.0.1 - it is already defined (line 1)",
        ),
        (
            format!(". {}. {}", body("bind 10.0.0.1"), body("")),
            "Corefile:5:1: .: dns://.:53 is served on all addresses in one block and on some in another",
        ),
        (format!(". {}", body("bind")), "Corefile:2:1: bind: at least one address or interface name is expected"),
        (
            format!(". {}", body("bind there-is-none")),
            "Corefile:2:6: bind: \"there-is-none\" is not a valid IP address, and no interface",
        ),
        (String::new(), "Corefile: there is no server block in it"),
        ("# nothing\n".into(), "Corefile: there is no server block in it"),
    ] {
        let said = load(&text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert!(said.starts_with(expected), "{text}\n{said}");
    }
}

#[test]
fn cache() {
    becomes(&[
        ("", ""),
        ("cache", ""),
        ("cache 30", "cache:\n  positive: { maxTtl: 30s }\n  negative: { maxTtl: 30s }"),
        ("cache 3", "cache:\n  positive: { minTtl: 3s, maxTtl: 3s }\n  negative: { minTtl: 3s, maxTtl: 3s }"),
        (
            "cache 3600 {\nsuccess 9984\ndenial 9984 5\n}",
            "cache:\n  positive: { maxTtl: 1h }\n  negative: { maxTtl: 5s }",
        ),
        (
            "cache {\nsuccess 1000 30 0\ndenial 1000 60 10\n}",
            "cache:\n  positive: { minTtl: 0s, maxTtl: 30s }\n  negative: { minTtl: 10s, maxTtl: 1m }",
        ),
        ("cache {\ndenial 9984 1\n}", "cache:\n  negative: { minTtl: 1s, maxTtl: 1s }"),
        (
            "cache 30 a.org b.org",
            "cache:\n  only: [a.org, b.org]\n  positive: { maxTtl: 30s }\n  negative: { maxTtl: 30s }",
        ),
        ("cache 3600s", "cache:\n  only: [3600s]"),
        ("cache {}", "cache:\n  enabled: false"),
        ("cache {\nservfail 0\n}", "cache:\n  failureTtl: 0s"),
        ("cache {\nservfail 1m30s\nkeepttl\n}", "cache:\n  failureTtl: 90s\n  keepTtl: true"),
        ("cache {\ndisable denial\n}", "cache:\n  negative: { never: [.] }"),
        ("cache {\ndisable success a.org B.org.\n}", "cache:\n  positive: { never: [a.org, b.org] }"),
        ("cache {\nprefetch 10 1m 25%\n}", "cache:\n  prefetch: { enabled: true, minHits: 3, remaining: 25% }"),
        ("cache {\nprefetch 1\n}", "cache:\n  prefetch: { enabled: true, minHits: 1, remaining: 10% }"),
        ("cache {\nprefetch 9999\n}", "cache:\n  prefetch: { enabled: true, minHits: 255, remaining: 10% }"),
        ("cache {\nprefetch 0\n}", ""),
        (
            "cache {\nserve_stale\n}",
            "cache:\n  serveStale: { enabled: true, maxAge: 1h, answerTtl: 0s, clientWait: 0s, recheck: 1s }",
        ),
        (
            "cache {\nserve_stale 3600s Immediate 5s 10s\n}",
            "cache:\n  serveStale: { enabled: true, maxAge: 1h, answerTtl: 5s, clientWait: 0s, recheck: 10s }",
        ),
        (
            "cache {\nserve_stale 72000s verify\n}",
            "cache:\n  serveStale: { enabled: true, maxAge: 20h, answerTtl: 0s, clientWait: 4500ms, recheck: 1s }",
        ),
        (
            "cache {\nserve_stale 30m verify 2s\nserve_stale_policy prefer_positive\n}",
            "cache:\n  serveStale:\n    enabled: true\n    maxAge: 30m\n    answerTtl: 0s\n    clientWait: 2s\n    recheck: 1s\n    \
             preferPositive: true",
        ),
        ("cache {\nserve_stale 0\n}", "cache:\n  serveStale: { enabled: false }"),
    ]);
    refused(&[
        ("cache 0", "3:7: cache: cache TTL can not be zero or negative: 0"),
        ("cache -5", "3:7: cache: cache TTL can not be zero or negative: -5"),
        ("cache\ncache", "4:1: cache: this plugin can only be used once per Server Block"),
        ("cache {\nsucces 9984\n}", "4:1: cache: unknown property \"succes\"; did you mean \"success\"?"),
        ("cache {\nsuccess\n}", "4:1: cache: an argument is missing; write success CAPACITY [TTL [MINTTL]]"),
        ("cache {\nsuccess many\n}", "4:9: cache: \"many\" is not a whole number"),
        ("cache {\nsuccess 1 0\n}", "4:11: cache: cache TTL can not be zero or negative: 0"),
        ("cache {\nsuccess 1 30s\n}", "4:11: cache: \"30s\" is not a whole number"),
        ("cache {\ndenial 1 30 -1\n}", "4:13: cache: cache min TTL can not be negative: -1"),
        ("cache {\nprefetch\n}", "4:1: cache: an argument is missing"),
        ("cache {\nprefetch -1\n}", "4:10: cache: -1 is out of range: must be at least 0"),
        ("cache {\nprefetch 1 60\n}", "4:12: cache: \"60\" has no unit; write 60s for seconds"),
        ("cache {\nprefetch 1 1m 25\n}", "4:15: cache: \"25\" is not a percentage, such as 25%"),
        ("cache {\nprefetch 1 1m 95%\n}", "4:15: cache: percentage should fall in range 10-90: 95"),
        ("cache {\nserve_stale 20\n}", "4:13: cache: \"20\" has no unit"),
        ("cache {\nserve_stale -1s\n}", "4:13: cache: \"-1s\" is negative"),
        ("cache {\nserve_stale 1h later\n}", "4:16: cache: invalid value for serve_stale refresh mode: later"),
        ("cache {\nserve_stale 1h immediate 1s 2s 3s\n}", "4:32: cache: \"3s\" is too much"),
        ("cache {\nserve_stale_policy prefer_positive\n}", "4:1: cache: serve_stale_policy has a meaning with"),
        ("cache {\nservfail\n}", "4:1: cache: an argument is missing; write servfail DURATION"),
        ("cache {\nservfail 6m\n}", "4:10: cache: caching SERVFAIL responses over 5 minutes is not permitted"),
        ("cache {\ndisable\n}", "4:1: cache: an argument is missing"),
        ("cache {\ndisable all\n}", "4:9: cache: cache type for disable must be"),
        ("cache {\nkeepttl yes\n}", "4:9: cache: \"yes\" is too much"),
    ]);
    let loaded = good(". {\nbind 10.0.0.1\ncache {\nsuccess 120000\ndenial 65536\n}\n}\n");
    assert_eq!(loaded.config.cache.max_bytes, 91 << 20);
    assert!(good(". {\nbind 10.0.0.1\ncache {\nsuccess 9984\n}\n}\n").text.starts_with("listen"));
}

#[test]
fn capacities_of_all_blocks_count_and_little_leaves_the_default() {
    let bytes = |capacities: &[&str]| {
        let blocks = capacities
            .iter()
            .enumerate()
            .map(|(i, capacity)| format!("z{i} {{\nbind 10.0.0.1\ncache {{\nsuccess {capacity}\n}}\n}}\n"));
        good(&blocks.collect::<String>()).config.cache.max_bytes
    };
    assert_eq!(bytes(&["9984"]), 64 << 20);
    assert_eq!(bytes(&["-1", "0"]), 64 << 20);
    assert_eq!(bytes(&["131072", "131072"]), 128 << 20);
    assert_eq!(bytes(&["9223372036854775807", "9223372036854775807"]), 64 << 30);
}

#[test]
fn forwards() {
    let simple = |to: &str, rest: &str| format!("forward: {{ to: [{to}], protocol: auto, policy: random{rest} }}");
    for (line, keys) in [
        ("forward . 10.0.0.1:5353 1.1.1.1", simple("\"10.0.0.1:5353\", 1.1.1.1", "")),
        ("forward . /etc/resolv.conf", simple("/etc/resolv.conf", "")),
        ("forward . dns://10.0.0.3 [fd00::1]:54 fd00::2", simple("10.0.0.3, \"[fd00::1]:54\", \"fd00::2\"", "")),
        ("forward . dns.example.org", simple("dns.example.org", "")),
        ("forward Example.ORG. 10.0.0.3", simple("10.0.0.3", ", from: example.org")),
        ("forward . tls://9.9.9.9", simple("\"tls://9.9.9.9#9.9.9.9\"", "")),
        ("forward . tls://9.9.9.9%dns.quad9.net:8853", simple("\"tls://9.9.9.9:8853#dns.quad9.net\"", "")),
        ("forward . tls://[2620:fe::fe%dns.quad9.net]:853", simple("\"tls://[2620:fe::fe]:853#dns.quad9.net\"", "")),
        ("forward . tls://[2620:fe::fe]:853", simple("\"tls://[2620:fe::fe]:853#2620:fe::fe\"", "")),
    ] {
        assert_eq!(forward(line), keys, "{line}");
    }
    for (options, keys) in [
        ("force_tcp", "protocol: tcp\npolicy: random"),
        ("prefer_udp", "protocol: auto\npolicy: random"),
        ("prefer_udp\nforce_tcp", "protocol: tcp\npolicy: random"),
        ("policy sequential", "protocol: auto\npolicy: sequential"),
        ("policy round_robin", "protocol: auto\npolicy: round-robin"),
        ("expire 30s", "protocol: auto\npolicy: random\nidle: 30s"),
        ("max_age 1m", "protocol: auto\npolicy: random\nmaxAge: 1m"),
        ("max_age 0", "protocol: auto\npolicy: random\nmaxAge: 0s"),
        ("expire 5s\nmax_age 6s", "protocol: auto\npolicy: random\nidle: 5s\nmaxAge: 6s"),
        ("read_timeout 500ms", "protocol: auto\npolicy: random\ntimeout: 500ms"),
        ("max_concurrent 1000", "protocol: auto\npolicy: random\nmaxConcurrent: 1000"),
        ("except a.org\nexcept 10.0.0.0/8", "protocol: auto\npolicy: random\nexcept:\n  - a.org\n  - 10.in-addr.arpa"),
        ("failfast_all_unhealthy_upstreams", "protocol: auto\npolicy: random\nfailFast: true"),
        ("failover servfail REFUSED", "protocol: auto\npolicy: random\nfailover: [SERVFAIL, REFUSED]"),
        ("source_address 10.0.0.9", "protocol: auto\npolicy: random\nsourceAddress: 10.0.0.9"),
    ] {
        let keys = keys.replace('\n', "\n  ");
        assert_eq!(
            forward(&format!("forward . 10.0.0.53 {{\n{options}\n}}")),
            format!("forward:\n  to: [10.0.0.53]\n  {keys}")
        );
    }
    let ignored = "max_fails 0\nhealth_check 0.5s no_rec domain example.org\nmax_connect_attempts 3\nmax_idle_conns 10";
    assert_eq!(forward(&format!("forward . 10.0.0.53 {{\n{ignored}\n}}")), simple("10.0.0.53", ""));
    let tls = forward("forward . tls://9.9.9.9 {\ntls /c /k /ca\ntls_servername dns.quad9.net\n}");
    assert!(tls.contains("tls://9.9.9.9#dns.quad9.net"), "{tls}");
    assert!(tls.ends_with("certificate: /c\n  key: /k\n  ca: /ca"), "{tls}");
    assert!(forward("forward . tls://9.9.9.9 {\ntls /ca\n}").ends_with("ca: /ca"));
    let chain = forward("forward a.org 10.0.0.3 {\nnext nxdomain\nnext_on_nodata\n}\nforward . 10.0.0.2");
    assert!(
        chain.contains("next:\n    - NXDOMAIN\n    - NODATA\n  from: a.org\nfurther:\n  - { to: [10.0.0.2]"),
        "{chain}"
    );
}

#[test]
fn forwards_that_are_refused() {
    refused(&[
        ("forward", "3:1: forward: an argument is missing; write forward FROM TO..."),
        ("forward .", "3:1: forward: an argument is missing"),
        ("forward . <nil>", "3:11: forward: not an IP address or file: \"<nil>\""),
        ("forward . 10.0.0.300", "3:11: forward: not an IP address or file"),
        ("forward . resolv/conf", "3:11: forward: \"resolv/conf\" is not an absolute path"),
        ("forward . https://dns.google", "3:11: forward: https:// is not supported"),
        ("forward . grpc://10.0.0.1", "3:11: forward: grpc:// is not supported"),
        (&format!("forward . {}", "10.0.0.1 ".repeat(16)), "3:146: forward: more than 15 servers: 16"),
        (
            "forward . 10.0.0.2 {\nforce_udp\n}",
            "4:1: forward: unknown property \"force_udp\"; did you mean \"force_tcp\"?",
        ),
        ("forward . 10.0.0.2 {\nforce_tcp yes\n}", "4:11: forward: \"yes\" is too much; write force_tcp"),
        ("forward . 10.0.0.2 {\npolicy fastest\n}", "4:8: forward: unknown policy \"fastest\"; choose from: random"),
        ("forward . 10.0.0.2 {\npolicy\n}", "4:1: forward: an argument is missing; write policy random"),
        ("forward . 10.0.0.2 {\nexpire 30\n}", "4:8: forward: \"30\" has no unit; write 30s for seconds"),
        ("forward . 10.0.0.2 {\nexpire -1s\n}", "4:8: forward: \"-1s\" is negative"),
        ("forward . 10.0.0.2 {\nmax_age 5s\n}", "4:9: forward: max_age must not be less than expire"),
        ("forward . 10.0.0.2 {\nmax_fails -1\n}", "4:11: forward: -1 is out of range"),
        ("forward . 10.0.0.2 {\nmax_concurrent many\n}", "4:16: forward: \"many\" is not a whole number"),
        ("forward . 10.0.0.2 {\nhealth_check\n}", "4:1: forward: an argument is missing"),
        ("forward . 10.0.0.2 {\nhealth_check 1s fast\n}", "4:17: forward: unknown property \"fast\""),
        ("forward . 10.0.0.2 {\nhealth_check 1s domain\n}", "4:17: forward: a name is missing"),
        (
            "forward . 10.0.0.2 {\nnext NXDOMIAN\n}",
            "4:6: forward: \"NXDOMIAN\" is not a valid rcode; did you mean \"NXDOMAIN\"?",
        ),
        ("forward . 10.0.0.2 {\nfailover NOERROR\n}", "4:10: forward: NOERROR is no failure"),
        ("forward . 10.0.0.2 {\nexcept\n}", "4:1: forward: an argument is missing; write except ZONES..."),
        ("forward . 10.0.0.2 {\ntls a b c d\n}", "4:11: forward: \"d\" is too much"),
        // What only the validation sees is said under the directive's name, too.
        ("forward . 10.0.0.1", "3:11: forward: 10.0.0.1:53 is where nodens itself listens"),
    ]);
}

#[test]
fn hosts_and_templates() {
    becomes(
        &[
            ("hosts", "hosts: { files: [/etc/hosts], fallthrough: [] }"),
            (
                "hosts /etc/more a.org {\n10.0.0.7 db.a.org db2.a.org\n10.0.0.8 x.a.org\n10.0.0.7 y.a.org\nttl 60\nno_reverse\nreload 0s\nfallthrough\n}",
                "hosts:\n  files: [/etc/more]\n  names: [a.org]\n  entries:\n    10.0.0.7:\n      - db.a.org\n      - db2.a.org\n      - y.a.org\n    \
             10.0.0.8: [x.a.org]\n  ttl: 60s\n  reverse: false\n  reload: 0s\n  fallthrough: [.]",
            ),
            (
                "hosts {\nfd00::1 six.org\nfallthrough in-addr.arpa\n}",
                "hosts:\n  files: [/etc/hosts]\n  entries:\n    \"fd00::1\": [six.org]\n  fallthrough: [in-addr.arpa]",
            ),
            ("template IN AAAA", "respond:\n  - { class: IN, types: [AAAA], fallthrough: [] }"),
            (
                "template ANY A a.org {\nmatch \"^x\\.\" y\nanswer \"{{ .Name }} 60 IN A 10.0.0.1\"\nrcode NXDOMAIN\nederror 15 \"blocked here\"\nfallthrough\n}\ntemplate IN ANY b.org {\nrcode REFUSED\n}",
                "respond:\n  -\n",
            ),
        ][..4],
    );
    let two = zone(
        "template ANY A a.org {\nmatch \"^x\\.\" y\nanswer \"{{ .Name }} 60 IN A 10.0.0.1\"\nrcode NXDOMAIN\nederror 15 \"blocked here\"\nfallthrough\n}\ntemplate IN ANY b.org {\nrcode REFUSED\n}",
    );
    for line in [
        "  - class: ANY",
        "    types: [A]",
        "    names: [a.org]",
        "    match: [\"^x\\\\.\", y]",
        "    answer: [\"{{ .Name }} 60 IN A 10.0.0.1\"]",
        "    rcode: NXDOMAIN",
        "    ede: { code: 15, text: \"blocked here\" }",
        "    fallthrough: [.]",
        "  - class: IN",
    ] {
        assert!(two.lines().any(|found| found == line), "{line}\n{two}");
    }
    refused(&[
        ("hosts\nhosts", "4:1: hosts: this plugin can only be used once per Server Block"),
        ("hosts here", "3:7: hosts: \"here\" is not the absolute path of a file"),
        ("hosts {\nttl 0\n}", "4:5: hosts: 0 is out of range: must be between 1 and 65535"),
        ("hosts {\nttl\n}", "4:1: hosts: an argument is missing"),
        ("hosts {\nreload 5\n}", "4:8: hosts: \"5\" has no unit"),
        ("hosts {\nfallthrough\n10.0.0.7 late.org\n}", "5:1: hosts: unknown property \"10.0.0.7\""),
        ("template", "3:1: template: an argument is missing; write template CLASS TYPE"),
        ("template IN", "3:10: template: an argument is missing"),
        ("template in AAAA", "3:10: template: \"in\" must be in upper case: IN"),
        ("template IN QUAD", "3:13: template: \"QUAD\" is not an RR type"),
        ("template IN A {\nanswer\n}", "4:1: template: an argument is missing; write answer \"TEXT\"..."),
        ("template IN A {\nrcode NOPE\n}", "4:7: template: \"NOPE\" is not an RCODE"),
        ("template IN A {\nmatch \"(\"\n}", "4:7: template: \"(\" is not a regular expression"),
        ("template IN A {\nederror x\n}", "4:9: template: \"x\" is not a whole number"),
        ("template IN A {\nmatches x\n}", "4:1: template: unknown property \"matches\"; did you mean \"match\"?"),
    ]);
    let odd = warnings(&format!("{TO}\nhosts {{\nprometheus: 9253\n}}"));
    assert_eq!(odd, ["5:1: hosts: \"prometheus:\" is no IP address: the line is passed over, as CoreDNS does"]);
}

#[test]
fn rewrites() {
    let rule = |line: &str| {
        let zone = zone(&format!("rewrite {line}"));
        zone.trim().strip_prefix("rewrite:\n  - ").unwrap_or_else(|| panic!("{zone}")).to_owned()
    };
    for (line, expected) in [
        ("name a.org b.org", "{ name: { kind: exact, from: a.org, to: b.org } }"),
        ("name exact a.org b.org", "{ name: { kind: exact, from: a.org, to: b.org } }"),
        ("continue name suffix .a.org .b.org", "{ name: { kind: suffix, from: .a.org, to: .b.org }, continue: true }"),
        ("stop name Prefix a b answer auto", "{ name: { kind: prefix, from: a, to: b, auto: true } }"),
        ("type ANY hinfo", "{ type: { from: ANY, to: HINFO } }"),
        ("class ch IN", "{ class: { from: CH, to: IN } }"),
        ("edns0 nsid set", "{ edns0: { action: set, option: nsid } }"),
        ("edns0 local unset 0xffee", "{ edns0: { action: unset, option: local, code: 0xffee } }"),
        (
            "edns0 subnet append 24 56 revert",
            "{ edns0: { action: append, option: subnet, v4: 24, v6: 56, revert: true } }",
        ),
        ("ttl a.org 30", "{ ttl: { kind: exact, name: a.org, min: 30s, max: 30s } }"),
        ("ttl suffix a.org 30-60", "{ ttl: { kind: suffix, name: a.org, min: 30s, max: 60s } }"),
        ("ttl suffix a.org -60", "{ ttl: { kind: suffix, name: a.org, max: 60s } }"),
        ("ttl suffix a.org 30-", "{ ttl: { kind: suffix, name: a.org, min: 30s } }"),
        ("cname exact a.org b.org", "{ cname: { kind: exact, from: a.org, to: b.org } }"),
        (
            "rcode suffix a.org nxdomain NOERROR",
            "{ rcode: { kind: suffix, name: a.org, from: NXDOMAIN, to: NOERROR } }",
        ),
    ] {
        assert_eq!(rule(line), expected, "{line}");
    }
    let long = zone(
        "rewrite stop {\nname regex (.*)\\.a\\.org {1}.b.org\nanswer name (.*)\\.b\\.org {1}.a.org\nanswer value (.*)\\.b {1}.a\n}",
    );
    assert!(long.contains("kind: regex") && long.contains("answerNames:") && long.contains("answerValues:"), "{long}");
    refused(&[
        ("rewrite", "3:1: rewrite: a rule is missing"),
        ("rewrite stop", "3:1: rewrite: a rule is missing"),
        ("rewrite nmae a b", "3:9: rewrite: invalid rule type \"nmae\"; did you mean \"name\"?"),
        ("rewrite answer name a b", "3:9: rewrite: response rewrites must begin with a name rule"),
        ("rewrite name a.org", "3:9: rewrite: too few arguments for a name rule"),
        ("rewrite name a.org b.org c.org", "3:14: rewrite: \"a.org\" is no way to compare names"),
        ("rewrite name suffix a b answer", "3:25: rewrite: behind the names stands"),
        ("rewrite name suffix a b answer later", "3:32: rewrite: invalid type \"later\" for answer rule"),
        ("rewrite name regex a b answer name x", "3:31: rewrite: write answer name REGEX TO"),
        ("rewrite type A", "3:9: rewrite: type rules must have exactly two arguments"),
        ("rewrite edns0 local", "3:9: rewrite: too few arguments for an EDNS0 rule"),
        ("rewrite edns0 local set 0xffee", "3:15: rewrite: write edns0 local set CODE DATA"),
        ("rewrite edns0 nsid set x", "3:24: rewrite: nsid takes no value"),
        ("rewrite edns0 subnet set 33 56", "3:26: rewrite: 33 is out of range"),
        ("rewrite ttl a.org", "3:9: rewrite: write ttl [KIND] NAME SECONDS"),
        ("rewrite ttl a.org soon", "3:19: rewrite: invalid TTL \"soon\""),
        ("rewrite ttl a.org -", "3:19: rewrite: invalid TTL \"-\""),
        ("rewrite rcode a.org NXDOMAIN", "3:9: rewrite: write rcode [KIND] NAME FROM TO"),
        ("rewrite name a b {\nx\n}", "4:1: rewrite: rewrite takes no block"),
    ]);
}

#[test]
fn filters_and_orders() {
    becomes(&[
        (
            "acl {\nblock type A AAAA net 10.0.0.5/8 10.1.1.1\nallow\n}\nacl a.org {\nfilter type * net *\nDrop net fd00::/8\n}",
            "acl:\n  - { action: block, types: [A, AAAA], networks: [10.0.0.0/8, 10.1.1.1/32] }\n  - { action: allow }\n  \
             - action: filter\n    names: [a.org]\n  - action: drop\n    names: [a.org]\n    networks: [\"fd00::/8\"]",
        ),
        ("dns64", "dns64: {}"),
        (
            "dns64 64:1::/96 {\ntranslate_all\nallow_ipv4\n}",
            "dns64:\n  prefix: \"64:1::/96\"\n  translateAll: true\n  allowIpv4: true",
        ),
        ("dns64 {\nprefix 64:2::/96\n}", "dns64:\n  prefix: \"64:2::/96\""),
        ("loadbalance", "loadBalance: {}"),
        ("loadbalance round_robin", "loadBalance: { policy: round-robin }"),
        (
            "loadbalance weighted /etc/weights {\nreload 10s\n}",
            "loadBalance:\n  policy: weighted\n  file: /etc/weights\n  reload: 10s",
        ),
        ("loadbalance {\nprefer 10.0.0.0/8\n}", "loadBalance:\n  prefer: [10.0.0.0/8]"),
    ]);
    refused(&[
        ("acl {\ndeny\n}", "4:1: acl: unexpected \"deny\"; "),
        ("acl {\nblock all\n}", "4:7: acl: unexpected \"all\"; write type TYPES or net NETWORKS"),
        ("acl {\nblock net\n}", "4:7: acl: an argument is missing"),
        ("acl {\nblock net 10.0.0.0/33\n}", "4:11: acl: illegal CIDR notation \"10.0.0.0/33\""),
        ("acl {\nblock type B\n}", "4:12: acl: \"B\" is not an RR type"),
        ("dns64 64:1::/97", "3:7: dns64: "),
        ("dns64 10.0.0.0/8", "3:7: dns64: "),
        ("dns64 {\nprefixes x\n}", "4:1: dns64: unknown property \"prefixes\"; did you mean \"prefix\"?"),
        ("loadbalance random", "3:13: loadbalance: unknown policy \"random\""),
        ("loadbalance weighted", "3:13: loadbalance: an argument is missing; write loadbalance weighted FILE"),
        ("loadbalance round_robin x", "3:25: loadbalance: \"x\" is too much"),
        ("loadbalance {\nreload 5s\n}", "4:1: loadbalance: unknown property \"reload\""),
    ]);
}

#[test]
fn logs_and_errors() {
    becomes(
        &[
            ("log", "log: {}"),
            ("log . {\nclass error\n}", "log:\n  classes: [error]"),
            (
                "log a.org b.org \"{remote} {name}\" {\nclass denial error\n}",
                "log:\n  names:\n    - a.org\n    - b.org\n",
            ),
            ("errors", "errors: {}"),
            ("errors stdout", "errors: {}"),
            (
                "errors {\nconsolidate 10s \".* i/o timeout$\"\nconsolidate 1m x warning show_first\nstacktrace\n}",
                "errors:\n  consolidate:\n    - { every: 10s, matching: \".* i/o timeout$\" }\n    \
             - { every: 1m, matching: x, level: warning, showFirst: true }\n  stacktrace: true",
            ),
        ][..2],
    );
    assert!(zone("log a.org b.org \"{remote} {name}\" {\nclass denial error\n}").contains("names: [a.org, b.org]"));
    assert!(zone("log a.org\nlog b.org {\nclass denial\n}").contains("names:\n    - a.org\n    - b.org"));
    becomes(&[
        ("errors", "errors: {}"),
        ("errors stdout", "errors: {}"),
        (
            "errors {\nconsolidate 10s \".* i/o timeout$\"\nconsolidate 1m x warning show_first\nstacktrace\n}",
            "errors:\n  consolidate:\n    - { every: 10s, matching: \".* i/o timeout$\" }\n    \
             - { every: 1m, matching: x, level: warning, showFirst: true }\n  stacktrace: true",
        ),
    ]);
    refused(&[
        ("log {\nclass none\n}", "4:7: log: invalid class: \"none\""),
        ("log {\nclass\n}", "4:1: log: an argument is missing"),
        ("log {\nlevel error\n}", "4:1: log: unknown property \"level\""),
        ("log \"{combined}\"", "3:5: log: CoreDNS takes \"{combined}\" for a name"),
        ("errors file", "3:8: errors: invalid log file: \"file\""),
        ("errors\nerrors", "4:1: errors: this plugin can only be used once"),
        ("errors {\nconsolidate 10s\n}", "4:13: errors: a regular expression is missing"),
        ("errors {\nconsolidate ten x\n}", "4:13: errors: \"ten\" is not a duration"),
        ("errors {\nconsolidate 10s x loud\n}", "4:19: errors: unknown log level: \"loud\""),
        ("errors {\nconsolidate 10s (\n}", "4:17: errors: \"(\" is not a regular expression"),
    ]);
}

#[test]
fn what_is_served_over_http() {
    let keys = |body: &str| {
        let loaded = good(&format!(". {{\nbind 10.0.0.1\n{TO}\n{body}\n}}\n"));
        let (_, rest) = loaded.text.split_once("\nmetrics:").unwrap();
        let (rest, _) = rest.split_once("log:").unwrap();
        rest.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (body, expected) in [
        ("", "{ listen: [], corednsNames: true } health: { enabled: false }"),
        ("prometheus", "{ listen: [\"127.0.0.1:9153\"], corednsNames: true } health: { enabled: false }"),
        ("prometheus :9253", "{ listen: [\"0.0.0.0:9253\"], corednsNames: true } health: { enabled: false }"),
        (
            "prometheus localhost:9253",
            "{ listen: [\"127.0.0.1:9253\"], corednsNames: true } health: { enabled: false }",
        ),
        ("health", "{ listen: [], corednsNames: true } health: { listen: \"0.0.0.0:8080\" }"),
        (
            "health [::1]:8099 {\nlameduck 5s\n}",
            "{ listen: [], corednsNames: true } health: listen: \"[::1]:8099\" lameDuck: 5s",
        ),
        (
            "health :8081\nready 10.0.0.1:8181",
            "{ listen: [], corednsNames: true } health: listen: \"0.0.0.0:8081\" also: [\"10.0.0.1:8181\"]",
        ),
        ("ready {\nmonitor continuously\n}", "{ listen: [], corednsNames: true } health: { listen: \"0.0.0.0:8181\" }"),
    ] {
        assert_eq!(keys(body), expected, "{body}");
    }
    refused(&[
        ("prometheus 9253", "3:12: prometheus: \"9253\" is not [ADDRESS]:PORT, such as :9253"),
        ("prometheus :http", "3:12: prometheus: \"http\" is not a port"),
        ("prometheus :0", "3:12: prometheus: \"0\" is not a port"),
        ("prometheus node:9253", "3:12: prometheus: \"node\" is not an IP address"),
        ("prometheus :1 :2", "3:15: prometheus: \":2\" is too much"),
        ("prometheus :1\nprometheus :2", "4:1: prometheus: this plugin can only be used once"),
        ("health 10.0.0.1", "3:8: health: \"10.0.0.1\" is not [ADDRESS]:PORT"),
        ("health {\nlameduck 5\n}", "4:10: health: \"5\" has no unit"),
        ("health {\nlameduk 5s\n}", "4:1: health: unknown property \"lameduk\""),
        ("ready {\nmonitor often\n}", "4:9: ready: \"often\" is not valid"),
    ]);
}

#[test]
fn plugins_for_all_blocks_and_switches() {
    becomes(&[
        ("whoami", "whoami: true"),
        ("any", "refuseAny: true"),
        ("minimal", "minimalResponses: true"),
        ("nsid Use the Force", "nsid: \"Use the Force\""),
        ("reload 30s 15s\nloop\nmetadata\npprof\ntrace zipkin here\ndnstap /tmp/d full\ncancel 1s", ""),
    ]);
    let udp_size = |body: &str| good(&format!(". {{\nbind 10.0.0.1\n{body}\n}}\n")).config.answers.udp_size;
    assert_eq!((udp_size(""), udp_size("bufsize"), udp_size("bufsize 512")), (4096, 1232, 512));
    assert_eq!(udp_size("bufsize 4096\n}\na {\nbind 10.0.0.1\nbufsize 1400"), 1400);
    assert!(good(". {\nbind 10.0.0.1\ndebug\n}\n").text.ends_with("log:\n  format: coredns\n  level: debug\n"));
    let timeouts = good(". {\nbind 10.0.0.1\ntimeouts {\nread 3\nwrite 5s\nidle 1m\n}\n}\n").text;
    assert!(timeouts.contains("timeouts:\n    read: 3s\n    write: 5s\n    idle: 1m\n"), "{timeouts}");
    refused(&[
        ("whoami x", "3:8: whoami: \"x\" is too much"),
        ("whoami {\nx\n}", "4:1: whoami: whoami takes no block"),
        ("bufsize 511", "3:9: bufsize: 511 is out of range: must be between 512 and 4096"),
        ("bufsize big", "3:9: bufsize: \"big\" is not a whole number"),
        ("timeouts", "3:1: timeouts: timeouts block with no timeouts specified"),
        ("timeouts {\nread 0\n}", "4:6: timeouts: timeout 0 needs to be between 1 second and 24 hours"),
        ("timeouts {\nidel 5s\n}", "4:1: timeouts: unknown property \"idel\"; did you mean \"idle\"?"),
        ("loop x", "3:6: loop: \"x\" is too much"),
        ("loop\nloop", "4:1: loop: this plugin can only be used once per Server Block"),
        ("pprof\npprof", "4:1: pprof: this plugin can only be used once per Server Block"),
        ("reload 1s", "3:8: reload: interval value must be greater or equal to 2s"),
        ("reload 30", "3:8: reload: \"30\" has no unit"),
        ("reload 30s 500ms", "3:12: reload: jitter value must be greater or equal to 1s, or 0s"),
        ("debug yes", "3:7: debug: \"yes\" is too much"),
    ]);
}

#[test]
fn what_means_something_else_here_is_said_once_a_file() {
    let body = format!("{TO}\nloop\nreload 5s\ndebug\n}}\na {{\nbind 10.0.0.1\n{TO}\nloop\nreload 5s\ndebug");
    let said = warnings(&body);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].starts_with("5:8: reload: ") && said[1].starts_with("6:1: debug"));
}

#[test]
fn variables_of_node_cache_are_kept_readable() {
    let text = "__PILLAR__DNS__DOMAIN__:53 {\nbind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__\n\
                forward . __PILLAR__CLUSTER__DNS__\nprometheus __PROMETHEUS__ENDPOINT__\nhealth __PILLAR__LOCAL__DNS__:8080\n}\n\
                . {\nbind __PILLAR__LOCAL__DNS__\nforward . __PILLAR__UPSTREAM__SERVERS__\n}\n";
    let loaded = good(text);
    assert!(loaded.text.contains("match: [cluster.local]\n    forward: { to: [kube-dns]"), "{}", loaded.text);
    assert!(loaded.text.contains("addresses: [169.254.20.10]") && loaded.text.contains("to: [/etc/resolv.conf]"));
    assert!(loaded.text.contains("\"169.254.20.10:8080\"") && loaded.text.contains("0.0.0.0:9253"));
    let said: Vec<String> = loaded.warnings.0.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 6, "{said:?}");
    assert_eq!(
        said[3],
        "Corefile:3:11: __PILLAR__CLUSTER__DNS__: the variable of node-cache that nothing was put in place of is taken for kube-dns"
    );
}

#[test]
fn what_was_imported_is_named_by_its_own_file() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("part"), "cache {\n  succes 1\n}\n").unwrap();
    let name = folder.path().join("Corefile").display().to_string();
    let text = ". {\nbind 10.0.0.1\nimport part\n}\n";
    let said = load_bytes(&name, text.as_bytes(), &Overrides::default()).unwrap_err().to_string();
    let part = folder.path().join("part").display().to_string();
    assert!(said.starts_with(&format!("{part}:2:3: cache: unknown property \"succes\"")), "{said}");
    std::fs::write(&part, "forward . 10.0.0.53\n").unwrap();
    let loaded = load_bytes(&name, text.as_bytes(), &Overrides::default()).unwrap();
    assert_eq!(loaded.files, [std::path::PathBuf::from(&part)]);
}

/// Words that Corefiles are made of, and some that they are not.
const WORDS: &[&str] = &[
    ".",
    ".:53",
    "a.org",
    "10.0.0.0/15",
    "tls://x:1",
    "{",
    "}",
    "{}",
    "\n",
    "\n",
    "\n",
    "\"",
    "#",
    "cache",
    "success",
    "denial",
    "prefetch",
    "serve_stale",
    "servfail",
    "disable",
    "forward",
    "tls",
    "policy",
    "next",
    "health_check",
    "bind",
    "except",
    "hosts",
    "ttl",
    "reload",
    "fallthrough",
    "template",
    "IN",
    "ANY",
    "answer",
    "rewrite",
    "name",
    "regex",
    "edns0",
    "local",
    "set",
    "answer",
    "acl",
    "block",
    "net",
    "type",
    "*",
    "dns64",
    "prefix",
    "loadbalance",
    "weighted",
    "log",
    "class",
    "error",
    "errors",
    "consolidate",
    "prometheus",
    "health",
    "lameduck",
    "ready",
    "nsid",
    "bufsize",
    "timeouts",
    "read",
    "loop",
    "debug",
    "whoami",
    "0",
    "-1",
    "30",
    "9223372036854775807",
    "5s",
    "-5s",
    "1h",
    "99999999h",
    "25%",
    "%",
    "10.0.0.1",
    "::1",
    "fd00::/8",
    ":9253",
    "[::1]:1",
    "0xffee",
    "(",
    "[",
    "{1}",
    "-",
    "__PILLAR__DNS__SERVER__",
    "__PILLAR__LOCAL__DNS__",
    "verify",
    "immediate",
    "ü",
    "\u{feff}",
];

proptest::proptest! {
    #[test]
    fn whatever_is_written_gets_an_answer(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60)) {
        for text in [words.join(" "), format!(". {{\nbind 10.0.0.1\n{}\n}}\n", words.join(" "))] {
            if let Ok(loaded) = load(&text) {
                let again = load_str("it.yaml", &loaded.text).map_err(|e| proptest::test_runner::TestCaseError::fail(e.to_string()))?;
                proptest::prop_assert_eq!(again.config, loaded.config, "{}", loaded.text);
            }
        }
    }
}
