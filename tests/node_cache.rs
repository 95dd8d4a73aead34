//! A run in the place of node-cache on loopback addresses, where nothing is made of the network: its flags, the stock
//! manifest's Corefile, the ConfigMap kube-dns, files, signals, and a Service that is missing.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use support::client::{GOOD, receive, send, tcp_from};
use support::process::{NODENS, can_run, nodens, shell, stderr, stdout};
use support::server::Server;
use support::upstream::Upstream;
use support::{addresses, free_port, nxdomain, query};

const A: RecordType = RecordType::A;
/// The variable of the Service `kube-dns-upstream`.
const SERVICE: &str = "KUBE_DNS_UPSTREAM_SERVICE_HOST";

/// The Corefile of the stock manifest as it is kept there, odd indentation and all.
const STOCK: &str = "\
__PILLAR__DNS__DOMAIN__:53 {
    errors
    cache {
            success 9984 30
            denial 9984 5
    }
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    health __PILLAR__LOCAL__DNS__:8080
    }
in-addr.arpa:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    }
ip6.arpa:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__CLUSTER__DNS__ {
            force_tcp
    }
    prometheus :9253
    }
.:53 {
    errors
    cache 30
    reload
    loop
    bind __PILLAR__LOCAL__DNS__ __PILLAR__DNS__SERVER__
    forward . __PILLAR__UPSTREAM__SERVERS__
    prometheus :9253
    }
";

/// What is different from run to run.
struct Setup {
    /// Where it answers DNS, and serves metrics and health.
    at: [SocketAddr; 3],
    /// The second place of metrics.
    metrics: SocketAddr,
    /// Before the variables are filled in.
    corefile: String,
    /// What `-pidfile` and `-conf` say, if not the directory's.
    written: Option<&'static str>,
    /// What the variable of the Service says.
    service: Option<&'static str>,
}

impl Setup {
    /// The stock manifest after the documented commands, with ports that are free; the cluster's names are asked of
    /// `cluster`.
    fn stock(cluster: SocketAddr) -> Setup {
        let [dns, metrics, health, besides] = [(); 4].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let sed = [
            ("__PILLAR__LOCAL__DNS__:8080", health.to_string()),
            ("__PILLAR__LOCAL__DNS__", dns.ip().to_string()),
            (" __PILLAR__DNS__SERVER__", String::new()),
            ("__PILLAR__DNS__DOMAIN__", "cluster.local".to_owned()),
            // There is no port 53 here for everybody.
            (":53 {", format!(":{} {{", dns.port())),
            ("prometheus :9253", format!("prometheus {metrics}")),
            ("__PILLAR__CLUSTER__DNS__ {", format!("__PILLAR__CLUSTER__DNS__:{} {{", cluster.port())),
        ];
        let corefile = sed.iter().fold(STOCK.to_owned(), |text, (from, to)| text.replace(from, to));
        let at = [dns, metrics, health];
        Setup { at, metrics: besides, corefile, written: None, service: Some("127.0.0.1") }
    }

    fn launch(&self) -> Server {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("kube-dns")).unwrap();
        fs::write(directory.path().join("Corefile.base"), &self.corefile).unwrap();
        let of = |name: &str| directory.path().join(name).display().to_string();
        let written = |name: &str| self.written.map_or_else(|| of(name), |folder| format!("{folder}/{name}"));
        let mut command = Command::new(NODENS);
        command.args(["node-cache", "-localip", "127.0.0.1,", "-conf", &written("Corefile")]);
        command.args(["-upstreamsvc=kube-dns-upstream", "--pidfile", &written("pid"), "-quiet"]);
        command.args(["-basecorefile", &of("Corefile.base"), "-kubednscm", &of("kube-dns")]);
        command.args([
            "-metrics-listen-address",
            &self.metrics.to_string(),
            "-dns.port",
            &self.at[0].port().to_string(),
        ]);
        command.env_remove(SERVICE);
        command.envs(self.service.map(|address| (SERVICE, address)));
        Server::run(command, directory, self.at, &|_| {})
    }

    /// The same, until it is alive.
    fn start(&self) -> Server {
        let mut server = self.launch();
        server.until("it is alive", |server| server.get(server.health, "/health").is_some());
        server
    }
}

/// A server whose answers have `n` addresses.
fn upstream(n: u8) -> Upstream {
    Upstream::start(move |q| addresses(&q.message(), n, 300).into())
}

/// How many addresses `name` has.
fn count(server: &Server, name: &str) -> usize {
    server.udp(&query(name, A)).answers.len()
}

/// Puts a file of the ConfigMap in place.
fn config_map(server: &Server, file: &str, text: &str) {
    let folder = server.directory().join("kube-dns");
    fs::write(folder.join(".new"), text).unwrap();
    fs::rename(folder.join(".new"), folder.join(file)).unwrap();
}

fn reloads(server: &Server, outcome: &str) -> f64 {
    server.metric("nodens_config_reloads_total", outcome)
}

#[test]
fn the_stock_manifest_is_served() {
    let cluster = upstream(1);
    let setup = Setup::stock(cluster.address());
    let mut server = setup.start();
    let asked = query("web.default.svc.cluster.local.", A);
    assert_eq!((server.udp(&asked).answers.len(), server.tcp(&asked).answers.len()), (1, 1));
    assert_eq!(cluster.asked_for("web.default.svc.cluster.local.").len(), 1, "and cached");
    let reverse = query("1.0.0.10.in-addr.arpa.", RecordType::PTR);
    assert_eq!(server.udp(&reverse).metadata.response_code, ResponseCode::NoError);
    assert!(cluster.received().iter().all(|q| !q.is_udp()), "force_tcp");
    for place in [setup.at[1], setup.metrics] {
        let page = server.get(place, "/metrics").unwrap();
        assert!(page.contains("coredns_nodecache_setup_errors_total{errortype=\"configmap\"} 0"), "{page}");
    }
    assert_eq!(server.metric("nodens_metrics_listeners_missing", ""), 0.0);
    let pid = server.directory().join("pid");
    server.until("the file with the process id is there", |_| pid.exists());
    assert_eq!(fs::read_to_string(&pid).unwrap().trim(), server.pid().to_string());
    let written = fs::read_to_string(server.directory().join("Corefile")).unwrap();
    assert!(!written.contains("__PILLAR__") && written.contains("forward . /etc/resolv.conf"), "{written}");
    let line = format!("dig @127.0.0.1 -p {} +short web.default.svc.cluster.local", server.dns.port());
    if can_run(&line) {
        assert_eq!(stdout(&shell(&line, Path::new("/"))).trim(), "10.0.0.1");
    }
    server.signal("TERM");
    let directory = server.directory().to_owned();
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(!directory.join("pid").exists());
}

#[test]
fn the_config_map_is_followed() {
    let (cluster, first, second) = (upstream(1), upstream(2), upstream(3));
    let mut server = Setup::stock(cluster.address()).start();
    config_map(&server, "upstreamNameservers", &format!("[\"{}\"]", first.address()));
    server.until("it is in force", |server| reloads(server, "loaded") == 1.0);
    assert_eq!(count(&server, "a.example."), 2);
    config_map(&server, "stubDomains", &format!("{{\"corp.example\": [\"{}\"]}}", second.address()));
    server.until("it is in force", |server| reloads(server, "loaded") == 2.0);
    assert_eq!((count(&server, "a.corp.example."), count(&server, "b.example.")), (3, 2));
    let written = fs::read_to_string(server.directory().join("Corefile")).unwrap();
    assert!(written.contains("\ncorp.example:53 {") || written.contains("\ncorp.example:"), "{written}");
    // What cannot be used is passed over, as a whole.
    config_map(&server, "stubDomains", "{ \"corp.example\": [");
    let errors = |server: &Server| server.metric("coredns_nodecache_setup_errors_total", "configmap");
    server.until("it is counted", |server| errors(server) >= 1.0);
    server.until_logged("kube-dns/stubDomains: the ConfigMap is passed over: not the JSON it should be");
    assert_eq!((count(&server, "b.corp.example."), count(&server, "c.example.")), (3, 2));
}

#[test]
fn the_corefile_is_followed_and_a_bad_one_changes_nothing() {
    let (cluster, other) = (upstream(1), upstream(2));
    let setup = Setup::stock(cluster.address());
    let mut server = setup.start();
    assert_eq!(count(&server, "a.cluster.local."), 1);
    let base = server.directory().join("Corefile.base");
    fs::write(&base, setup.corefile.replace("    errors\n", "    errors\n    nonsense\n")).unwrap();
    server.until("it is refused", |server| reloads(server, "refused") == 1.0);
    server.until_logged("Corefile.base:3:5: ");
    assert_eq!(count(&server, "b.cluster.local."), 1);
    let moved = format!("__PILLAR__CLUSTER__DNS__:{}", other.address().port());
    let before = format!("__PILLAR__CLUSTER__DNS__:{}", cluster.address().port());
    fs::write(&base, setup.corefile.replace(&before, &moved)).unwrap();
    server.until("it is in force", |server| reloads(server, "loaded") == 1.0);
    assert_eq!(count(&server, "c.cluster.local."), 2);
}

#[test]
fn what_is_imported_is_followed() {
    let (cluster, other) = (upstream(1), upstream(2));
    let mut setup = Setup::stock(cluster.address());
    setup.corefile = format!("import custom/*.server\n{}", setup.corefile);
    let mut server = setup.start();
    let custom = server.directory().join("custom");
    fs::create_dir(&custom).unwrap();
    let block =
        format!("corp.example:{} {{\n  bind 127.0.0.1\n  forward . {}\n}}\n", setup.at[0].port(), other.address());
    fs::write(custom.join("corp.server"), block).unwrap();
    server.until("it is in force", |server| reloads(server, "loaded") >= 1.0);
    assert_eq!(count(&server, "a.corp.example."), 2);
}

#[test]
fn signals_do_what_they_do_to_node_cache() {
    let cluster = upstream(1);
    for (signal, code) in [("INT", 0), ("QUIT", 0), ("TERM", 0)] {
        let mut server = Setup::stock(cluster.address()).start();
        server.signal("HUP");
        server.signal("USR1");
        server.until("it reads again", |server| reloads(server, "unchanged") >= 1.0);
        server.signal("USR2");
        server.until_logged("SIGUSR2 reloads");
        assert_eq!(count(&server, "a.cluster.local."), 1);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(code), "{signal}");
    }
}

#[test]
fn signals_that_come_early_are_harmless() {
    let cluster = upstream(1);
    let mut server = Setup::stock(cluster.address()).launch();
    server.until("its files are read", |server| server.directory().join("Corefile").exists());
    ["HUP", "USR1", "USR2"].iter().for_each(|signal| server.signal(signal));
    server.until("it is alive", |server| server.get(server.health, "/health").is_some());
}

#[test]
fn nothing_need_be_writable() {
    let cluster = upstream(1);
    // Nobody makes files there, not even root.
    let mut server = Setup { written: Some("/proc/self"), ..Setup::stock(cluster.address()) }.start();
    assert_eq!(count(&server, "a.cluster.local."), 1);
    server.until_logged("the file with the process id cannot be written");
}

#[test]
fn a_second_place_of_metrics_that_is_taken_is_only_said() {
    let cluster = upstream(1);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut server = Setup { metrics: taken.local_addr().unwrap(), ..Setup::stock(cluster.address()) }.start();
    assert_eq!(count(&server, "a.cluster.local."), 1);
    assert_eq!(server.metric("nodens_metrics_listeners_missing", ""), 1.0);
    server.until_logged("metrics are not served there");
}

#[test]
fn without_the_service_what_does_not_need_it_is_served() {
    let (cluster, other) = (upstream(1), upstream(2));
    let setup = Setup { service: None, ..Setup::stock(cluster.address()) };
    let mut server = setup.launch();
    server.until("it is unwell", |server| {
        server.get(server.health, "/health").is_some_and(|page| page.contains(" 503 "))
    });
    config_map(&server, "upstreamNameservers", &format!("[\"{}\"]", other.address()));
    server.until("it is in force", |server| reloads(server, "loaded") == 1.0);
    assert_eq!(count(&server, "a.example."), 2);
    assert_eq!(server.udp(&query("a.cluster.local.", A)).metadata.response_code, ResponseCode::ServFail);
    assert!(!server.is_ready());
    let health = server.get(server.health, "/health").unwrap();
    assert!(health.contains("the Service kube-dns-upstream was not there when this container was started"), "{health}");
    server.until_logged("-upstreamsvc kube-dns-upstream: the environment variable KUBE_DNS_UPSTREAM_SERVICE_HOST");
    // Once nothing needs it any more it is of no matter.
    let base = server.directory().join("Corefile.base");
    fs::write(&base, setup.corefile.replace("__PILLAR__CLUSTER__DNS__", "127.0.0.1")).unwrap();
    server
        .until("it is well", |server| server.get(server.health, "/health").is_some_and(|page| page.contains(" 200 ")));
    assert_eq!(count(&server, "b.cluster.local."), 1);
}

#[test]
fn a_lame_duck_still_answers() {
    let cluster = Upstream::start(|q| nxdomain(&q.message(), "cluster.local.", 5).into());
    let mut setup = Setup::stock(cluster.address());
    let health = format!("health {}", setup.at[2]);
    setup.corefile = setup.corefile.replace(&health, &format!("{health} {{\n      lameduck 60s\n    }}"));
    let mut server = setup.start();
    server.until("it is ready", |server| server.is_ready());
    server.signal("TERM");
    server.until("it is not ready any more", |server| !server.is_ready());
    assert_eq!(server.udp(&query("a.cluster.local.", A)).metadata.response_code, ResponseCode::NXDomain);
    assert!(server.get(server.health, "/health").unwrap().contains(" 200 "));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0), "the second ends it");
}

#[test]
fn tcp_clients_have_as_long_as_the_corefile_says() {
    let cluster = upstream(1);
    let mut setup = Setup::stock(cluster.address());
    setup.corefile =
        setup.corefile.replacen("    errors\n", "    errors\n    timeouts {\n      read 1h\n      idle 1s\n    }\n", 1);
    let mut server = setup.start();
    let mut silent = tcp_from(GOOD, server.dns);
    let mut asking = tcp_from(GOOD, server.dns);
    let asked = query("a.cluster.local.", A);
    send(&mut asking, &asked);
    assert_eq!(receive(&mut asking).answers.len(), 1);
    server.until("the one that has asked is closed", |server| server.metric("nodens_dropped_total", "tcp_idle") == 1.0);
    assert_eq!(asking.read(&mut [0]).unwrap(), 0, "this one");
    // The other one was there before it.
    send(&mut silent, &asked);
    assert_eq!(receive(&mut silent).answers.len(), 1);
}

#[test]
fn the_file_written_by_others_is_read_where_there_is_no_base() {
    let cluster = upstream(1);
    let setup = Setup::stock(cluster.address());
    let directory = tempfile::tempdir().unwrap();
    let conf = directory.path().join("Corefile");
    let text = setup.corefile.replace("__PILLAR__CLUSTER__DNS__", "127.0.0.1");
    let text = text.replace("__PILLAR__UPSTREAM__SERVERS__", &cluster.address().to_string());
    fs::write(&conf, &text).unwrap();
    let mut command = Command::new(NODENS);
    command.args(["node-cache", "-localip=127.0.0.1", "-metrics-listen-address=", "-basecorefile=/nonexistent/base"]);
    command.arg("-conf").arg(&conf);
    let mut server = Server::run(command, directory, setup.at, &|_| {});
    server.until("it is alive", |server| server.get(server.health, "/health").is_some());
    assert_eq!(count(&server, "a.example."), 1);
    assert_eq!(fs::read_to_string(&conf).unwrap(), text, "it is not ours to write");
}

#[test]
fn what_the_program_is_called_decides() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("node-cache");
    std::os::unix::fs::symlink(NODENS, &program).unwrap();
    let output = Command::new(&program).arg("-version").output().unwrap();
    assert!(output.status.success() && stdout(&output).starts_with("nodens "));
    let output = Command::new(NODENS).arg0("/node-cache").arg("-plugins").output().unwrap();
    assert!(stdout(&output).contains("dns.forward\n"), "{}", stdout(&output));
}

#[test]
fn mistakes_in_flags_are_wrong_usage() {
    for (flags, message) in [
        (&["-locolip", "127.0.0.1"][..], "flag provided but not defined: -locolip; did you mean -localip?"),
        (&["-setupiptables=no"], "invalid value \"no\" for flag -setupiptables: must be true or false"),
        (&["-conf"], "flag needs an argument: -conf"),
    ] {
        let output = nodens(&[&["node-cache"], flags].concat());
        assert_eq!(output.status.code(), Some(2), "{flags:?}");
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
    let output = nodens(&["node-cache", "-basecorefile", "/nonexistent/Corefile.base"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/nonexistent/Corefile.base: cannot read the Corefile: "));
}
