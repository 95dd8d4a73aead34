//! What `forward.to` stands for: followed when it changes, and never ourselves.

use super::*;

/// Answers every A query with 192.0.2.`octet`, for ever; returns where.
async fn resolver(octet: Arc<std::sync::atomic::AtomicU8>) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buf = [0; 512];
        while let Ok((len, peer)) = socket.recv_from(&mut buf).await {
            let query = hickory_proto::op::Message::from_vec(&buf[..len]).unwrap();
            let mut answer = hickory_proto::op::Message::response(query.metadata.id, query.metadata.op_code);
            answer.metadata.recursion_available = true;
            let question = query.queries[0].clone();
            if question.query_type() == hickory_proto::rr::RecordType::A {
                let ip = [192, 0, 2, octet.load(std::sync::atomic::Ordering::SeqCst)].into();
                let data = hickory_proto::rr::RData::A(hickory_proto::rr::rdata::A(ip));
                answer.add_answer(hickory_proto::rr::Record::from_rdata(question.name().clone(), 1, data));
            }
            answer.add_query(question);
            socket.send_to(&answer.to_vec().unwrap(), peer).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn d20_host_names_are_looked_up_and_followed() {
    let octet = Arc::new(std::sync::atomic::AtomicU8::new(1));
    let resolver = resolver(Arc::clone(&octet)).await;
    let upstreams = Upstreams::new(Vec::new(), Metrics::new(), Some(vec![resolver]));
    let config = "zones: [{ match: [.], forward: { to: [\"dns.example:5353\"] } }]";
    let config = config::load_str("test", config).unwrap().config;
    upstreams.zones(&config).unwrap();
    assert!(upstreams.servers().is_empty(), "nothing is known yet");
    let sources = upstreams.groups().clone();
    upstreams.refresh(&sources).await;
    let addresses = |u: &Upstreams| u.servers().iter().map(|s| s.address().to_string()).collect::<Vec<_>>();
    assert_eq!(addresses(&upstreams), ["192.0.2.1:5353"]);
    octet.store(2, std::sync::atomic::Ordering::SeqCst);
    upstreams.refresh(&sources).await;
    assert_eq!(addresses(&upstreams), ["192.0.2.1:5353"], "not due yet");
    upstreams.0.names.lock().unwrap().values_mut().for_each(|found| found.at -= SELDOM);
    upstreams.refresh(&sources).await;
    assert_eq!(addresses(&upstreams), ["192.0.2.2:5353"]);
}

#[tokio::test]
async fn a_group_that_several_zones_share_is_listed_once() {
    let upstreams = Upstreams::new(Vec::new(), Metrics::new(), None);
    let zone = |name: &str, to: &str| format!("{{ match: [{name}], forward: {{ to: [{to}] }} }}");
    let zones = [zone("a", "192.0.2.1"), zone("b", "192.0.2.2"), zone("c", "192.0.2.1")].join(", ");
    let config = config::load_str("test", &format!("zones: [{zones}]")).unwrap().config;
    for _ in 0..2 {
        upstreams.zones(&config).unwrap();
        let addresses: Vec<String> = upstreams.servers().iter().map(|s| s.address().to_string()).collect();
        assert_eq!(addresses, ["192.0.2.1:53", "192.0.2.2:53"], "each server's counts are exported once");
    }
}

#[tokio::test]
async fn a_zone_keeps_its_way_to_servers_over_a_reload_that_leaves_them() {
    let upstreams = Upstreams::new(Vec::new(), Metrics::new(), None);
    let load = |ca: &str, names: &str| {
        let to = "'tls://192.0.2.1#a.example'";
        let zones = format!(
            "{{ match: [{names}], forward: {{ to: [{to}]{ca} }} }}, {{ match: [c], forward: {{ to: [{to}] }} }}"
        );
        config::load_str("test", &format!("zones: [{zones}]")).unwrap().config
    };
    let routes = |text: &Config| {
        upstreams.zones(text).unwrap();
        upstreams.routes()
    };
    let before = routes(&load("", "a, b"));
    assert_eq!(before.len(), 1, "one group: {before:?}");
    let group = |(_, route): &(Arc<str>, Arc<Route>)| Arc::as_ptr(route.group());
    assert!(before[0].len() == 3 && before[0].iter().all(|route| group(route) == group(&before[0][0])));
    let after = routes(&load("", "b"));
    let names: Vec<&str> = after[0].iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["b", "c"]);
    assert!(Arc::ptr_eq(&after[0][0].1, &before[0][1].1) && Arc::ptr_eq(&after[0][1].1, &before[0][2].1));
    // Another CA is another group: those who were trusted before are not.
    let apart = routes(&load(", ca: /etc/ca.crt", "b"));
    assert_eq!(apart.len(), 2);
    assert_ne!(group(&apart[0][0]), group(&apart[1][0]));
    assert!(Arc::ptr_eq(&apart[1][0].1, &before[0][2].1));
    let endpoints: Vec<Option<PathBuf>> =
        apart.iter().map(|r| r[0].1.group().servers()[0].endpoint().security().unwrap().ca.clone()).collect();
    assert_eq!(endpoints, [Some("/etc/ca.crt".into()), None]);
}

#[tokio::test]
async fn only_a_zone_that_must_choose_has_somebody_to_choose() {
    let upstreams = Upstreams::new(Vec::new(), Metrics::new(), None);
    let load = |zone: &str| config::load_str("test", &format!("zones: [{{ match: [., a.example], {zone} }}]")).unwrap();
    let probed = |zone: &str| {
        let zones = upstreams.zones(&load(zone).config).unwrap();
        let routes = upstreams.routes();
        let names: Vec<Vec<String>> =
            routes.iter().map(|group| group.iter().map(|(name, _)| name.to_string()).collect()).collect();
        let direct = |name: &str| {
            let way = Arc::as_ptr(&zones.find(0, &to_wire(name)).unwrap().upstream).cast::<()>();
            routes.iter().flatten().any(|(_, route)| Arc::as_ptr(route).cast::<()>() == way)
        };
        (names, direct("."), direct("a.example"))
    };
    let both = |names: &[&[&str]]| names.iter().map(|of| of.iter().map(|n| (*n).to_owned()).collect()).collect();
    let table: [(&str, &[&[&str]], bool, bool); 7] = [
        (
            "forward: { to: [192.0.2.1], failover: [SERVFAIL], failFast: true, idle: 1s }",
            &[&[".", "a.example"]],
            true,
            true,
        ),
        ("forward: { to: [192.0.2.1], next: [SERVFAIL] }", &[&[".", "a.example"]], true, true),
        // What comes only for some names is probed by one of them.
        ("forward: { to: [192.0.2.1], from: a.example }", &[&["a.example"]], false, true),
        ("forward: { to: [192.0.2.1], except: [b.a.example] }", &[&[".", "a.example"]], false, false),
        ("forward: { to: [192.0.2.1], maxConcurrent: 9 }", &[&[".", "a.example"]], false, false),
        (
            "forward: { to: [192.0.2.1], from: a.example }, further: [{ to: [192.0.2.2] }]",
            &[&["a.example"], &[".", "a.example"]],
            false,
            false,
        ),
        ("cache: {}", &[], false, false),
    ];
    for (zone, names, root, below) in table {
        assert_eq!(probed(zone), (both(names), root, below), "{zone}");
    }
}

#[tokio::test]
async fn queries_go_where_the_zone_says_and_too_many_are_refused_by_zone() {
    let (one, two) = (resolver(Arc::new(1.into())).await, resolver(Arc::new(2.into())).await);
    let upstreams = Upstreams::new(Vec::new(), Metrics::new(), None);
    let text = format!(
        "zones: [{{ match: [.], forward: {{ to: ['{one}'], protocol: udp, from: a.example, except: [c.a.example] }},
           further: [{{ to: ['{two}'], protocol: udp, maxConcurrent: 1 }}] }}]"
    );
    let zones = upstreams.zones(&config::load_str("test", &text).unwrap().config).unwrap();
    let zone = Arc::clone(zones.find(0, &[0]).unwrap());
    let ask = async |name: &str| {
        let question = Question::new(&to_wire(name), rtype::A, CLASS_IN).unwrap();
        let message = reply::upstream_query(question.as_bytes(), true, false, false);
        let query = upstream::Query { message: &message, opt_len: OPT_LEN };
        zone.upstream.exchange(query, Instant::now() + OFTEN * 20).await.map(|reply| reply.server.address())
    };
    for (name, server) in [("a.example", one), ("b.a.example", one), ("c.a.example", two), ("example", two)] {
        assert_eq!(ask(name).await.unwrap(), server, "{name}");
    }
    let (first, second) = tokio::join!(ask("x"), ask("y"));
    assert_eq!(first.unwrap(), two);
    assert!(second.unwrap_err().is_refusal());
    assert_eq!(upstreams.tally().rejected.get(), 1);
}

#[test]
fn d20_d23_what_is_wrong_with_a_resolv_conf_is_told_whenever_it_changes_and_once() {
    let own = vec!["169.254.20.10:53".parse().unwrap()];
    let upstreams = Upstreams::new(own, Metrics::new(), None);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    let ours = "a name server is not used: line 1: nameserver 169.254.20.10: nodens itself listens there";
    let mapped = "a name server is not used: line 2: nameserver ::ffff:169.254.20.10: nodens itself listens there";
    let none = "no name server can be used: ";
    let missing = "cannot read it (No such file";
    let steps: [(Option<&str>, usize, &[&str]); 8] = [
        (None, 0, &[missing]),
        (Some("nameserver 192.0.2.1"), 1, &[]),
        (Some("nameserver 169.254.20.10"), 0, &[ours, none]),
        (Some("nameserver 169.254.20.10\nnameserver ::ffff:169.254.20.10"), 0, &[mapped]),
        (Some("nameserver 169.254.20.10\nnameserver 192.0.2.1"), 1, &[]),
        (Some("nameserver 192.0.2.1"), 1, &[]),
        (Some("nameserver 169.254.20.10"), 0, &[ours, none]),
        (None, 0, &[missing]),
    ];
    for (step, (text, servers, told)) in steps.into_iter().enumerate() {
        match text {
            Some(text) => std::fs::write(&file, text).unwrap(),
            None => drop(std::fs::remove_file(&file)),
        }
        let (found, complaints) = upstreams.look(&file);
        let news = upstreams.news("f".to_owned(), complaints.clone());
        assert_eq!((found.len(), news.len()), (servers, told.len()), "step {step}: {news:?}");
        assert!(news.iter().zip(told).all(|(news, told)| news.starts_with(told)), "step {step}: {news:?}");
        assert_eq!(upstreams.news("f".to_owned(), complaints), [""; 0], "step {step}: once");
    }
}

#[tokio::test]
async fn d23_a_host_name_that_turns_out_to_be_ours_is_not_asked() {
    let octet = Arc::new(std::sync::atomic::AtomicU8::new(7));
    let resolver = resolver(Arc::clone(&octet)).await;
    let own = vec!["[::ffff:192.0.2.7]:53".parse().unwrap()];
    let upstreams = Upstreams::new(own, Metrics::new(), Some(vec![resolver]));
    let config = "zones: [{ match: [.], forward: { to: [dns.example] } }]";
    upstreams.zones(&config::load_str("test", config).unwrap().config).unwrap();
    let sources = upstreams.groups().clone();
    upstreams.refresh(&sources).await;
    assert_eq!(upstreams.servers().len(), 0);
    octet.store(8, std::sync::atomic::Ordering::SeqCst);
    upstreams.0.names.lock().unwrap().values_mut().for_each(|found| found.at -= SELDOM);
    upstreams.refresh(&sources).await;
    assert_eq!(upstreams.servers()[0].address().to_string(), "192.0.2.8:53");
}

#[test]
fn d23_kube_dns_is_never_where_we_listen() {
    let own: Vec<SocketAddr> = vec!["169.254.20.10:53".parse().unwrap(), "[fd00::a]:53".parse().unwrap()];
    let at = |value: &str, port| kube_dns_at(value, port, &own).map_err(|error| error.to_string());
    assert_eq!(at("10.96.0.11", 53), Ok("10.96.0.11:53".parse().unwrap()));
    assert_eq!(at("169.254.20.10", 5353), Ok("169.254.20.10:5353".parse().unwrap()), "somebody else's port");
    for value in ["169.254.20.10", "::ffff:169.254.20.10", "fd00::a", "fd00:0::000a"] {
        let error = at(value, 53).unwrap_err();
        assert!(error.contains("where nodens itself listens") && error.contains(KUBE_DNS), "{error}");
    }
    assert!(at("", 53).unwrap_err().contains("not an IP address"));
}

#[test]
fn names_become_labels() {
    assert_eq!((label("."), label("cluster.local")), (".".to_owned(), "cluster.local.".to_owned()));
}
