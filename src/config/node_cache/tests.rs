//! What is read in node-cache's place. The text between variables is of no matter here: it is YAML.

use super::*;
use std::collections::HashMap;
use std::fs;
use std::sync::Arc;

use crate::config::{Firewall, Source};

const BASE: &str = "\
listen: { addresses: [__PILLAR__LOCAL__DNS__] }
zones:
- { match: [cluster.local], forward: { to: [__PILLAR__CLUSTER__DNS__] } }
- { match: [.], forward: { to: [__PILLAR__UPSTREAM__SERVERS__] } }
";

/// Flags for files in `folder`, and what else the line says.
fn flags(folder: &Path, line: &str) -> Flags {
    let at = |name: &str| folder.join(name).display().to_string();
    let line = format!("-localip 169.254.20.10 -upstreamsvc kube-dns-upstream -basecorefile {} {line}", at("base"));
    let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    match flags::read(&arguments).unwrap() {
        flags::Wanted::Serve(flags) => *flags,
        other => panic!("{other:?}"),
    }
}

fn service(name: &str) -> Option<String> {
    (name == "KUBE_DNS_UPSTREAM_SERVICE_HOST").then(|| "10.0.0.7".to_owned())
}

fn over(flags: &Flags) -> Overrides {
    let over = Over { flags: flags.clone(), arguments: Vec::new(), memory: None };
    Overrides { node_cache: Some(Arc::new(over)), ..Overrides::default() }
}

fn targets(config: &Config) -> Vec<String> {
    let forwards = config.zones.iter().flat_map(|zone| &zone.forwards);
    forwards.flat_map(|forward| forward.to.iter().map(ToString::to_string)).collect()
}

/// What comes of `base` with these files in the ConfigMap.
fn complete(sources: &NodeCache, base: &str, files: Option<&[(&str, &str)]>) -> Result<Loaded, String> {
    let files: Option<HashMap<String, String>> =
        files.map(|files| files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect());
    let content = files.map(|files| move |name: &str| files.get(name).cloned());
    sources.complete("base", base.as_bytes(), content, &over(&sources.flags)).map_err(|problems| problems.to_string())
}

#[test]
fn the_service_is_found_in_the_environment() {
    for (service, name) in
        [("kube-dns-upstream", "KUBE_DNS_UPSTREAM_SERVICE_HOST"), ("kube-dns", "KUBE_DNS_SERVICE_HOST")]
    {
        assert_eq!(variable(service), name);
    }
    let folder = tempfile::tempdir().unwrap();
    let loaded = complete(&NodeCache::new(&flags(folder.path(), ""), service), BASE, None).unwrap();
    assert_eq!(targets(&loaded.config), ["10.0.0.7:53", "/etc/resolv.conf"]);
    assert_eq!((loaded.config.missing_service(), loaded.warnings.0.len()), (None, 0));
    assert!(loaded.rendered.unwrap().contains("addresses: [169.254.20.10]"));
}

#[test]
fn where_the_service_is_missing_nothing_is_captured_and_everybody_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for nonsense in [None, Some(""), Some("None")] {
        let sources = NodeCache::new(&flags(folder.path(), ""), |_| nonsense.map(str::to_owned));
        let loaded = complete(&sources, BASE, None).unwrap();
        assert_eq!(targets(&loaded.config)[0], "kube-dns-upstream.missing.invalid:53");
        assert_eq!(loaded.config.missing_service(), Some("kube-dns-upstream"));
        assert_eq!(loaded.config.network.firewall, Firewall::None);
        assert!(loaded.config.network.interface.is_some(), "what can be served is served");
        let warning = loaded.warnings.to_string();
        assert!(
            warning.contains("-upstreamsvc kube-dns-upstream: the environment variable KUBE_DNS_UPSTREAM_SERVICE_HOST")
        );
        let literal = BASE.replace("__PILLAR__CLUSTER__DNS__", "10.0.0.8");
        let loaded = complete(&sources, &literal, None).unwrap();
        assert_eq!((loaded.config.missing_service(), loaded.warnings.0.len()), (None, 0), "it is of no matter");
        assert_eq!(loaded.config.network.firewall, Firewall::Auto);
    }
}

#[test]
fn flags_are_laid_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = |line: &str, base: &str| {
        complete(&NodeCache::new(&flags(folder.path(), line), service), base, None).map(|loaded| loaded.config)
    };
    let plain = config("", BASE).unwrap();
    assert_eq!(plain.metrics_optional, ["0.0.0.0:9353".parse().unwrap()]);
    let interface = plain.network.interface.clone().unwrap();
    assert_eq!((interface.name.as_str(), interface.keep), ("nodelocaldns", false));
    assert_eq!(plain.network_addresses(), ["169.254.20.10".parse::<IpAddr>().unwrap()]);
    let line = "-localip 169.254.20.10,10.96.0.10 -interfacename dns0 -skipteardown -metrics-listen-address=";
    let other = config(line, &BASE.replace("__PILLAR__LOCAL__DNS__", "169.254.20.10")).unwrap();
    let interface = other.network.interface.clone().unwrap();
    assert_eq!((interface.name.as_str(), interface.keep), ("dns0", true));
    assert_eq!(other.network_addresses().len(), 2, "an address that nobody listens on");
    assert!(other.metrics_optional.is_empty());
    let off = config("-setupinterface=false -setupiptables=false", BASE).unwrap();
    assert!(!off.network_is_on());
    assert!(config("-setupinterface=false", BASE).unwrap().network_is_on());
    let wrong = config("-localip 0.0.0.0", &BASE.replace("__PILLAR__LOCAL__DNS__", "127.0.0.1")).unwrap_err();
    assert_eq!(wrong, "-localip 0.0.0.0: 0.0.0.0 is no address that an interface can have");
    let same = config("", &format!("{BASE}metrics: {{ listen: ['0.0.0.0:9353'] }}\n")).unwrap();
    assert!(same.metrics_optional.is_empty(), "the same place twice is no mistake");
}

#[test]
fn an_address_that_nobody_listens_on_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let sources = NodeCache::new(&flags(folder.path(), "-localip 169.254.20.10,10.96.0.10"), service);
    let loaded = complete(&sources, &BASE.replace("__PILLAR__LOCAL__DNS__", "169.254.20.10"), None).unwrap();
    let expected = "-localip 169.254.20.10,10.96.0.10: nothing listens on 10.96.0.10: what is asked there is refused";
    assert_eq!(loaded.warnings.to_string(), expected);
}

#[test]
fn the_cache_stays_within_the_containers_memory() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = |memory: Option<u64>, text: &str| {
        let over = Over { flags: flags(folder.path(), ""), arguments: Vec::new(), memory };
        let overrides = Overrides { node_cache: Some(Arc::new(over)), ..Overrides::default() };
        load_bytes("f", text.as_bytes(), &overrides).unwrap().config.cache.max_bytes >> 20
    };
    let listen = "listen: { addresses: [169.254.20.10] }";
    for (memory, text, mebibytes) in [
        (None, "", 64),
        (Some(1 << 30), "", 64),
        (Some(96 << 20), "", 32),
        (Some(1 << 20), "", 1),
        (None, "cache: { maxBytes: 200Mi }", 200),
        (Some(300 << 20), "cache: { maxBytes: 200Mi }", 100),
    ] {
        assert_eq!(bytes(memory, &format!("{listen}\n{text}")), mebibytes, "{memory:?} {text}");
    }
}

#[test]
fn a_config_map_that_cannot_be_used_is_passed_over_for_the_last_one_that_could() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("-kubednscm {}", folder.path().display());
    let sources = NodeCache::new(&flags(folder.path(), &line), service);
    let loaded = complete(&sources, BASE, Some(&[("upstreamNameservers", "[")])).unwrap();
    assert_eq!(targets(&loaded.config)[1], "/etc/resolv.conf");
    let [problem] = &loaded.passed_over[..] else { panic!("{:?}", loaded.passed_over) };
    let file = folder.path().join("upstreamNameservers").display().to_string();
    assert!(
        problem.to_string().starts_with(&format!("{file}: the ConfigMap is passed over: not the JSON")),
        "{problem}"
    );
    let good = [("upstreamNameservers", r#"["10.1.1.1"]"#), ("federations", "{")];
    let loaded = complete(&sources, BASE, Some(&good)).unwrap();
    assert_eq!((targets(&loaded.config)[1].as_str(), loaded.passed_over.len()), ("10.1.1.1:53", 0));
    let loaded = complete(&sources, BASE, Some(&[("stubDomains", "1")])).unwrap();
    assert_eq!((targets(&loaded.config)[1].as_str(), loaded.passed_over.len()), ("10.1.1.1:53", 1));
    // What makes a Corefile that cannot be used is not kept either.
    let taken = [("upstreamNameservers", r#"["169.254.20.10"]"#)];
    assert!(complete(&sources, BASE, Some(&taken)).unwrap_err().contains("round in circles"));
    let loaded = complete(&sources, BASE, Some(&[("stubDomains", "1")])).unwrap();
    assert_eq!(targets(&loaded.config)[1], "10.1.1.1:53");
    let loaded = complete(&sources, BASE, Some(&[])).unwrap();
    assert_eq!(targets(&loaded.config)[1], "/etc/resolv.conf", "it was emptied");
}

#[test]
fn mistakes_are_found_where_they_were_written() {
    let folder = tempfile::tempdir().unwrap();
    let sources = NodeCache::new(&flags(folder.path(), ""), service);
    let wrong = format!("{BASE}nonsense: 1\n");
    assert!(complete(&sources, &wrong, None).unwrap_err().starts_with("base:5:1: nonsense: unknown key"));
    let problems = sources.complete("base", b"\xff", None::<fn(&str) -> Option<String>>, &over(&sources.flags));
    assert_eq!(problems.unwrap_err().to_string(), "base: not UTF-8 text (line 1)");
}

#[test]
fn without_a_base_the_file_itself_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("Corefile");
    let line = format!("-conf {}", conf.display());
    let load = || {
        let flags = flags(folder.path(), &line);
        let sources = Arc::new(NodeCache::new(&flags, service));
        (Source::NodeCache(Arc::clone(&sources)).load(&over(&flags)), sources.conf().is_some())
    };
    let (missing, _) = load();
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("base: cannot read the Corefile: "), "{missing}");
    fs::write(&conf, ".:53 {\n  bind 169.254.20.10\n  forward . 10.0.0.1\n  # __PILLAR__DNS__SERVER__\n}\n").unwrap();
    let (loaded, written) = load();
    let loaded = loaded.unwrap();
    assert_eq!((loaded.rendered, written), (None, false), "it is not written over");
    assert!(matches!(&loaded.source, Some(source) if source.file() == conf));
    fs::write(folder.path().join("base"), BASE).unwrap();
    let (loaded, written) = load();
    assert!(loaded.unwrap().rendered.is_some() && written);
}

#[test]
fn the_folder_of_the_config_map_is_read_file_by_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("base"), BASE).unwrap();
    let kube_dns = folder.path().join("kube-dns");
    let flags = flags(folder.path(), &format!("-kubednscm={}", kube_dns.display()));
    let sources = NodeCache::new(&flags, service);
    assert_eq!(sources.folder(), Some(&*kube_dns));
    let upstream = || targets(&sources.load(&over(&flags)).unwrap().config).remove(1);
    assert_eq!(upstream(), "/etc/resolv.conf", "an optional volume");
    fs::create_dir(&kube_dns).unwrap();
    fs::write(kube_dns.join("upstreamNameservers"), "[\"10.1.1.1\"]").unwrap();
    assert_eq!(upstream(), "10.1.1.1:53");
    fs::remove_file(kube_dns.join("upstreamNameservers")).unwrap();
    fs::create_dir(kube_dns.join("upstreamNameservers")).unwrap();
    assert_eq!(sources.load(&over(&flags)).unwrap().passed_over.len(), 1, "no file");
}

/// The Corefile of the stock manifest, with its indentation.
fn stock() -> String {
    let block = |key: &str, cache: &str, upstream: &str, health: &str| {
        format!(
            "{key}:53 {{\n    errors\n    cache {cache}\n    reload\n    loop\n    bind __PILLAR__LOCAL__DNS__ \
             __PILLAR__DNS__SERVER__\n    forward . {upstream}\n    prometheus :9253\n{health}    }}\n"
        )
    };
    let own = "__PILLAR__CLUSTER__DNS__ {\n            force_tcp\n    }";
    let bounds = "{\n            success 9984 30\n            denial 9984 5\n    }";
    [
        block("__PILLAR__DNS__DOMAIN__", bounds, own, "    health __PILLAR__LOCAL__DNS__:8080\n"),
        block("in-addr.arpa", "30", own, ""),
        block("ip6.arpa", "30", own, ""),
        block(".", "30", "__PILLAR__UPSTREAM__SERVERS__", ""),
    ]
    .concat()
}

#[test]
fn the_stock_corefile_means_what_it_does_in_node_cache() {
    let folder = tempfile::tempdir().unwrap();
    let both = stock().replace("__PILLAR__LOCAL__DNS__", "169.254.20.10");
    let both =
        both.replace("__PILLAR__DNS__SERVER__", "10.96.0.10").replace("__PILLAR__DNS__DOMAIN__", "cluster.local");
    let alone = both.replace(" 10.96.0.10", "").replace("__PILLAR__CLUSTER__DNS__", "10.96.0.10");
    for (text, local, cluster_dns) in
        [(both, "169.254.20.10,10.96.0.10", "10.0.0.7:53"), (alone, "169.254.20.10", "10.96.0.10:53")]
    {
        let sources = NodeCache::new(&flags(folder.path(), &format!("-localip {local}")), service);
        let loaded = complete(&sources, &text, None).unwrap();
        let config = loaded.config;
        let listen: Vec<String> = config.listen.addresses.iter().map(ToString::to_string).collect();
        let expected: Vec<String> = local.split(',').map(|ip| format!("{ip}:53")).collect();
        assert_eq!(listen, expected);
        assert!(loaded.warnings.0.iter().all(|warning| warning.key == "loop"), "{}", loaded.warnings);
        let names: Vec<&str> = config.zones.iter().flat_map(|zone| &zone.names).map(String::as_str).collect();
        assert_eq!(names, ["cluster.local", "in-addr.arpa", "ip6.arpa", "."]);
        let found: Vec<String> = targets(&config);
        assert_eq!(found, [cluster_dns, cluster_dns, cluster_dns, "/etc/resolv.conf"]);
        assert_eq!(config.health, "169.254.20.10:8080".parse().ok());
        assert_eq!(config.metrics, ["0.0.0.0:9253".parse().unwrap()]);
        assert_eq!(config.metrics_optional, ["0.0.0.0:9353".parse().unwrap()]);
        assert!(config.coredns_names && config.network_is_on());
        assert_eq!(config.network_addresses().len(), local.split(',').count());
    }
}

#[test]
fn a_wildcard_does_without_an_interface_only_where_there_are_no_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let text = ".:53 {\n  bind 0.0.0.0\n  health\n  forward . 10.0.0.1\n}\n";
    let with = |line: &str| {
        let sources = NodeCache::new(&flags(folder.path(), line), service);
        complete(&sources, text, None).unwrap().config
    };
    let on = with("-localip 169.254.20.10,10.96.0.10");
    assert!(on.network_is_on() && on.network_addresses().len() == 2);
    assert!(!with("-localip 169.254.20.10 -setupinterface=false -setupiptables=false").network_is_on());
    assert!(!with("-localip=").network_is_on());
}

#[test]
fn what_is_imported_is_looked_for_from_the_written_file_and_watched() {
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("etc");
    fs::create_dir_all(etc.join("custom")).unwrap();
    fs::write(etc.join("custom/one.override"), "log\n").unwrap();
    let text = ".:54 {\n  bind 127.0.0.1\n  import custom/*.override\n  forward . 10.0.0.1\n}\n";
    let line = format!("-conf {} -p 54", etc.join("Corefile").display());
    let loaded = complete(&NodeCache::new(&flags(folder.path(), &line), service), text, None).unwrap();
    assert!(loaded.files.iter().any(|file| file.ends_with("custom/one.override")), "{:?}", loaded.files);
}

#[test]
fn the_port_is_that_of_blocks_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let sources = NodeCache::new(&flags(folder.path(), "-dns.port 5300"), service);
    let text = ". {\n  bind 127.0.0.1\n  forward . 10.0.0.1\n}\n";
    let stub = [("stubDomains", r#"{"a.example": ["10.0.0.2"]}"#)];
    let loaded = complete(&sources, text, Some(&stub)).unwrap().config;
    let listen: Vec<String> = loaded.listen.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(listen, ["127.0.0.1:5300", "169.254.20.10:5300"], "stub domains are served on -localip");
}
