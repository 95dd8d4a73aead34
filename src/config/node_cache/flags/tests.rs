//! Every flag in every form, and what is said of mistakes.

use super::*;

fn wanted(line: &str) -> Result<Wanted, String> {
    let arguments: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
    read(&arguments).map_err(|e| e.to_string())
}

fn flags(line: &str) -> Flags {
    match wanted(line) {
        Ok(Wanted::Serve(flags)) => *flags,
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn nothing_is_needed_and_the_defaults_are_node_caches() {
    let found = flags("");
    assert_eq!(found, Flags::default());
    assert_eq!((found.port, found.service.as_str()), (53, "kube-dns"));
    assert_eq!(found.metrics, "0.0.0.0:9353".parse().ok());
    assert_eq!((found.interface_name.as_str(), found.prometheus.as_str()), ("nodelocaldns", ":9253"));
    assert_eq!(found.base, PathBuf::from("/etc/coredns/Corefile.base"));
    assert!(found.setup_interface && found.setup_iptables && !found.skip_teardown);
}

#[test]
fn the_stock_manifest_is_understood() {
    let found = flags(
        "-localip 169.254.20.10,10.96.0.10 -conf /etc/Corefile -upstreamsvc kube-dns-upstream \
         -pidfile /tmp/node-cache.pid",
    );
    assert_eq!(found.local_ips, ["169.254.20.10", "10.96.0.10"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert_eq!(found.conf, Some("/etc/Corefile".into()));
    assert_eq!(found.service, "kube-dns-upstream");
    assert_eq!(found.pid_file, Some("/tmp/node-cache.pid".into()));
}

#[test]
fn one_dash_or_two_an_equals_sign_or_a_space() {
    for line in ["-dns.port 54", "-dns.port=54", "--dns.port 54", "--dns.port=54", "-p 54", "-p 54 --"] {
        assert_eq!(flags(line).port, 54, "{line}");
    }
    assert_eq!(flags("-p 54 -dns.port 55").port, 55, "the last one counts");
    assert_eq!(flags("-conf=a=b").conf, Some("a=b".into()));
    assert_eq!(flags("-conf -p=1").conf, Some("-p=1".into()), "a value may look like a flag");
    assert_eq!(flags("-conf=").conf, None);
}

#[test]
fn switches_stand_alone_or_take_a_value_behind_an_equals_sign() {
    for yes in ["-skipteardown", "--skipteardown", "-skipteardown=1", "-skipteardown=t", "-skipteardown=TRUE"] {
        assert!(flags(yes).skip_teardown, "{yes}");
    }
    for no in ["-setupiptables=false", "-setupiptables=0", "-setupiptables=F", "--setupiptables=False"] {
        assert!(!flags(no).setup_iptables, "{no}");
    }
    assert!(flags("-setupinterface=false").setup_iptables);
    let no = "invalid value \"yes\" for flag -skipteardown: must be true or false";
    assert_eq!(wanted("-skipteardown=yes").unwrap_err(), no);
    assert_eq!(wanted("-skipteardown false").unwrap_err(), "extra argument \"false\": all of them are flags");
}

#[test]
fn what_has_no_effect_is_taken() {
    let line = "-corefile /x -quiet -reloadwithsignal=true -health-port 8099 -syncinterval 60";
    assert_eq!(flags(line), Flags::default());
    for interval in ["60", "60s", "1m30s", "1.5h", "300ms", "0"] {
        assert_eq!(flags(&format!("-syncinterval={interval}")), Flags::default());
    }
    for interval in ["", "s", "1x", "1m3", "-5s"] {
        assert!(wanted(&format!("-syncinterval={interval}")).is_err(), "{interval}");
    }
}

#[test]
fn addresses_are_read_leniently() {
    let of =
        |list: &str| flags(&format!("-localip={list}")).local_ips.iter().map(IpAddr::to_string).collect::<Vec<_>>();
    assert_eq!(of("169.254.20.10,"), ["169.254.20.10"]);
    assert_eq!(of(",169.254.20.10,,fd00::a,169.254.20.10"), ["169.254.20.10", "fd00::a"]);
    assert_eq!(of("169.254.20.10,__PILLAR__DNS__SERVER__"), ["169.254.20.10"]);
    assert_eq!(of(""), [""; 0]);
    let no = "invalid value \"1.2.3.4,x\" for flag -localip: \"x\" is no IP address";
    assert_eq!(wanted("-localip=1.2.3.4,x").unwrap_err(), no);
}

#[test]
fn places_are_written_as_go_writes_them() {
    let of = |value: &str| flags(&format!("-metrics-listen-address={value}")).metrics.map(|a| a.to_string());
    assert_eq!(of(":9353").as_deref(), Some("0.0.0.0:9353"));
    assert_eq!(of("localhost:9353").as_deref(), Some("127.0.0.1:9353"));
    assert_eq!(of("[::]:9353").as_deref(), Some("[::]:9353"));
    assert_eq!(of(""), None);
    assert_eq!(flags("-prometheus-listen-address 127.0.0.1:9253").prometheus, "127.0.0.1:9253");
    for wrong in ["-metrics-listen-address=9353", "-prometheus-listen-address=:0"] {
        assert!(wanted(wrong).unwrap_err().ends_with("must be ADDRESS:PORT"), "{wrong}");
    }
}

#[test]
fn mistakes_are_named_with_what_was_meant() {
    for (line, message) in [
        ("-localips 1.2.3.4", "flag provided but not defined: -localips; did you mean -localip?"),
        ("-zzzzzz", "flag provided but not defined: -zzzzzz"),
        ("-supervise 3", "flag provided but not defined: -supervise"),
        ("---conf x", "bad flag syntax: \"---conf\""),
        ("-=x", "bad flag syntax: \"-=x\""),
        ("-conf", "flag needs an argument: -conf"),
        ("serve", "extra argument \"serve\": all of them are flags"),
        ("-", "extra argument \"-\": all of them are flags"),
        ("-quiet -- x", "extra argument \"x\": all of them are flags"),
        ("-p 0", "invalid value \"0\" for flag -p: must be a port, from 1 to 65535"),
        ("-dns.port dns", "invalid value \"dns\" for flag -dns.port: must be a port, from 1 to 65535"),
        ("-basecorefile=", "invalid value \"\" for flag -basecorefile: a file is to be named"),
        (
            "-upstreamsvc kube_dns",
            "invalid value \"kube_dns\" for flag -upstreamsvc: must be the name of a Service, such as kube-dns-upstream",
        ),
    ] {
        assert_eq!(wanted(line).unwrap_err(), message, "{line}");
    }
    let long = wanted("-interfacename nodelocaldns1234").unwrap_err();
    assert!(long.ends_with("is not an interface name: it must have 1 to 14 octets"), "{long}");
}

#[test]
fn questions_are_answered_without_anything_else() {
    assert_eq!(wanted("-version"), Ok(Wanted::Version));
    assert_eq!(wanted("-plugins -quiet"), Ok(Wanted::Plugins));
    for line in ["-h", "-help", "--help -conf x"] {
        let Ok(Wanted::Usage(text)) = wanted(line) else { panic!("{line}") };
        assert!(text.contains("\n  -localip\n") && !text.contains("supervised"), "{text}");
        assert!(text.contains("(default 0.0.0.0:9353)"), "{text}");
    }
}

#[test]
fn a_guardian_tells_its_server_more() {
    let Ok(Wanted::Supervised { flags, descriptors, saved_since }) = wanted("-p=54 --supervised 7 --saved-since 1000")
    else {
        panic!("not understood");
    };
    assert_eq!((flags.port, descriptors, saved_since), (54, 7, Some(1000)));
}
