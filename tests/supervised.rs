//! The server under a guardian, which this test plays: it binds the sockets, holds the last good configuration, starts
//! the server, and talks to it.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use nodens::app::last_good;
use nodens::app::sockets::Sockets;
use nodens::config;
use nodens::guardian::control::{self, LONGEST, Order, Report, State, pack, unpack};
use nodens::network::host::Status;
use nodens::sys::spawn::{Child, Ending, Spawn};
use rustix::process::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};
use support::client::{GOOD, receive_udp, udp_from};
use support::process::NODENS;
use support::server::forward;
use support::tls::TlsUpstream;
use support::upstream::Upstream;
use support::{DEADLINE, addresses, ask_tcp, ask_udp, free_port, query, reply};
use tempfile::TempDir;

const A: RecordType = RecordType::A;

/// What a guardian has. The server dies with it.
struct Guardian {
    directory: TempDir,
    sockets: Sockets,
    memory: File,
    /// The part of the configuration that the sockets were bound for.
    head: String,
    dns: SocketAddr,
    metrics: SocketAddr,
    health: SocketAddr,
}

/// A server that was started.
struct Server {
    control: UnixDatagram,
    child: Child,
}

impl Guardian {
    /// Binds for a server that forwards everything to `upstream`, and writes that down as the last good configuration.
    fn new(upstream: &Upstream) -> Guardian {
        let [dns, metrics, health] = [(); 3].map(|()| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let head = format!(
            "listen: {{ addresses: [{}], port: {} }}\nmetrics: {{ listen: [\"{metrics}\"] }}\nhealth: {{ listen: \"{health}\" }}\n",
            dns.ip(),
            dns.port()
        );
        let text = head.clone() + &forward(upstream.address());
        let sockets = Sockets::bind(&config::load_str("test", &text).unwrap().config).unwrap();
        let memory = last_good::create(&text).unwrap().into();
        let guardian =
            Guardian { directory: tempfile::tempdir().unwrap(), sockets, memory, head, dns, metrics, health };
        guardian.write(&forward(upstream.address()));
        guardian
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("nodens.yaml")
    }

    /// Writes the configuration file: the part about sockets, and `rest`.
    fn write(&self, rest: &str) {
        std::fs::write(self.file(), self.head.clone() + rest).unwrap();
    }

    fn start(&self) -> Server {
        let (control, theirs) = control::pair().unwrap();
        let mut sockets = vec![theirs.as_fd(), self.memory.as_fd()];
        sockets.extend(self.sockets.descriptors());
        let count = sockets.len().to_string();
        let mut arguments: Vec<_> = ["serve", "--supervised", &*count, "--config"].map(Into::into).to_vec();
        arguments.push(self.file().into_os_string());
        let child = Spawn { program: Path::new(NODENS), arguments: &arguments, sockets: &sockets }.start().unwrap();
        control.set_read_timeout(Some(DEADLINE)).unwrap();
        Server { control, child }
    }

    /// Starts a server and waits until it serves.
    fn serving(&self) -> Server {
        let mut server = self.start();
        assert_eq!(server.report(), Report::Ready);
        server.order(Order::Open);
        assert_eq!(server.report(), Report::Serving);
        server
    }

    fn udp(&self, name: &str) -> Message {
        Message::from_vec(&ask_udp(self.dns, &query(name, A).to_vec().unwrap())).unwrap()
    }

    fn tcp(&self, name: &str) -> Message {
        Message::from_vec(&ask_tcp(self.dns, &query(name, A).to_vec().unwrap())).unwrap()
    }

    /// `GET path` at `address`: head and body.
    fn get(&self, address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn ready(&self) -> String {
        self.get(self.health, "/ready")
    }

    fn page(&self) -> String {
        self.get(self.metrics, "/metrics")
    }

    /// What is kept for the next server.
    fn kept(&self) -> String {
        last_good::read(&self.memory).unwrap()
    }
}

impl Server {
    /// What it says next.
    fn report(&mut self) -> Report {
        let mut room = [0; LONGEST];
        let length = self.control.recv(&mut room).unwrap();
        assert!(length > 0, "it has ended: {:?}", self.child.try_wait());
        unpack(&room[..length]).unwrap()
    }

    fn order(&self, order: Order) {
        self.control.send(&pack(&order).unwrap()).unwrap();
    }

    fn kill(&self, signal: Signal) {
        self.child.kill(signal).unwrap();
    }

    fn end(mut self) -> Ending {
        end(&mut self.child)
    }

    /// The value of a line of /proc/PID/status.
    fn status(&self, line: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.pid().as_raw_pid())).unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn end(child: &mut Child) -> Ending {
    until("it has ended", || child.try_wait().unwrap())
}

/// What `find` finds in the end.
fn until<T>(what: &str, mut find: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        // Polling, with no meaning for the outcome.
        thread::sleep(Duration::from_millis(10));
    }
}

/// Two addresses for every name, and none of IPv6.
fn upstream() -> Upstream {
    Upstream::start(|q| match q.rtype() {
        RecordType::AAAA => reply(&q.message(), ResponseCode::NoError).into(),
        _ => addresses(&q.message(), 2, 300).into(),
    })
}

fn good() -> State {
    let network = Status {
        interface: Some(("nodelocaldns".to_owned(), "tun".to_owned())),
        interface_up: true,
        firewall: "nftables".to_owned(),
        notrack: true,
        ..Status::default()
    };
    State { network, ..State::default() }
}

#[test]
fn it_serves_over_inherited_sockets_without_any_privilege() {
    let upstream = upstream();
    let guardian = Guardian::new(&upstream);
    let mut server = guardian.serving();
    assert_eq!((guardian.udp("a.example.").answers.len(), guardian.tcp("b.example.").answers.len()), (2, 2));
    let endpoints = ["10.0.0.1:53", "10.0.0.2:53"].map(|a| a.parse().unwrap());
    assert_eq!(server.report(), Report::Endpoints(endpoints.to_vec()));
    let service = "kube-dns-endpoints.kube-system.svc.cluster.local.";
    assert!(!upstream.asked_for(service).is_empty(), "by the zone's upstream, as for any client");
    for (line, value) in [("CapEff", "0000000000000000"), ("NoNewPrivs", "1"), ("Seccomp", "2")] {
        assert_eq!(server.status(line), value, "{line}");
    }
    assert!(guardian.page().contains("nodens_build_info"));
}

#[test]
fn d24_a_confined_server_reads_whom_to_trust_and_speaks_tls() {
    let encrypted = TlsUpstream::start(4000, |query| addresses(query, 2, 300));
    let (to, ca) = (encrypted.target(), encrypted.ca());
    let guardian = Guardian::new(&upstream());
    guardian.write(&format!(
        "zones: [{{ match: [.], forward: {{ to: [\"{to}\"], ca: \"{}\" }} }},\n\
         {{ match: [other.example], forward: {{ to: [\"{to}\"] }} }}]\n",
        ca.display()
    ));
    let server = guardian.serving();
    assert_eq!(server.status("Seccomp"), "2");
    assert_eq!((guardian.udp("a.example.").answers.len(), guardian.tcp("b.example.").answers.len()), (2, 2));
    // Whom the system trusts is read as well: it is not this one.
    assert_eq!(guardian.udp("www.other.example.").metadata.response_code, ResponseCode::ServFail);
    let page = guardian.page();
    let untrusted = |line: &&str| line.contains("proto=\"tls\",outcome=\"untrusted\"");
    assert!(page.lines().any(|line| untrusted(&line)), "{page}");
}

#[test]
fn readiness_and_metrics_follow_what_the_guardian_says() {
    let upstream = upstream();
    let guardian = Guardian::new(&upstream);
    let server = guardian.serving();
    let before = guardian.ready();
    assert!(
        before.starts_with("HTTP/1.1 503") && before.contains("network: the guardian has not said yet"),
        "{before}"
    );
    server.order(Order::State(Box::new(good())));
    until("it is ready", || guardian.ready().starts_with("HTTP/1.1 200").then_some(()));
    assert!(guardian.page().contains("nodens_notrack_active{firewall=\"nftables\"} 1"));
    let problem = "cannot write rules: Operation not permitted".to_owned();
    let mut state = State { restarts: [("hang".to_owned(), 2)].into(), ..good() };
    (state.network.notrack, state.network.problem) = (false, problem.clone());
    server.order(Order::State(Box::new(state)));
    let after = until("it is not ready", || Some(guardian.ready()).filter(|r| r.starts_with("HTTP/1.1 503")));
    assert!(after.contains(&format!("FAILED network: {problem}")), "{after}");
    let page = guardian.page();
    assert!(page.contains("nodens_notrack_active{firewall=\"nftables\"} 0"), "{page}");
    assert!(page.contains("nodens_server_restarts_total{reason=\"hang\"} 2"), "{page}");
}

#[test]
fn it_ends_when_the_guardian_says_so_and_not_at_a_signal() {
    let (upstream, release) = Upstream::holding_slow();
    let guardian = Guardian::new(&upstream);
    let server = guardian.serving();
    let client = udp_from(GOOD, guardian.dns);
    client.send(&query("slow.udp.", A).to_vec().unwrap()).unwrap();
    upstream.wait_for_name("slow.udp.");
    for signal in [Signal::TERM, Signal::INT, Signal::TERM] {
        server.kill(signal);
    }
    assert_eq!(guardian.udp("a.example.").answers.len(), 1, "it goes on");
    server.order(Order::Stop);
    until("it stops", || guardian.ready().contains("FAILED lifecycle").then_some(()));
    release.send(()).unwrap();
    assert_eq!(receive_udp(&client).answers.len(), 1, "what it owes it gives");
    assert_eq!(server.end(), Ending::Exited(0));
}

#[test]
fn it_ends_when_the_guardian_is_gone_even_while_it_drains() {
    let (upstream, _release) = Upstream::holding_slow();
    let guardian = Guardian::new(&upstream);
    for draining in [false, true] {
        let mut server = guardian.serving();
        if draining {
            let client = udp_from(GOOD, guardian.dns);
            client.send(&query("slow.udp.", A).to_vec().unwrap()).unwrap();
            upstream.wait_for_name("slow.udp.");
            server.order(Order::Stop);
            until("it stops", || guardian.ready().contains("FAILED lifecycle").then_some(()));
        }
        let begin = Instant::now();
        server.control = UnixDatagram::unbound().unwrap();
        assert_eq!(server.end(), Ending::Exited(1));
        assert!(begin.elapsed() < Duration::from_secs(4), "at once, and not after a drain");
    }
}

#[test]
fn g03_what_waits_in_the_sockets_is_answered_by_the_next_server() {
    let upstream = upstream();
    let guardian = Guardian::new(&upstream);
    let server = guardian.serving();
    server.kill(Signal::KILL);
    assert_eq!(server.end(), Ending::Killed { signal: 9, core: false });
    let client = udp_from(GOOD, guardian.dns);
    client.send(&query("a.example.", A).to_vec().unwrap()).unwrap();
    let _server = guardian.serving();
    assert_eq!(receive_udp(&client).answers.len(), 2);
}

/// What it may write it is told by the configuration: a file in one folder.
#[test]
fn e17_a_server_leaves_its_cache_to_the_next_however_it_ends() {
    let upstream = upstream();
    let guardian = Guardian::new(&upstream);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    let persist = format!("cache: {{ persist: {{ path: {}, interval: 1d }} }}\n", file.display());
    guardian.write(&(forward(upstream.address()) + &persist));
    let server = guardian.serving();
    assert_eq!(guardian.udp("a.example.").answers.len(), 2);
    server.order(Order::Save);
    until("it is saved", || file.exists().then_some(()));
    server.kill(Signal::KILL);
    server.end();
    let server = guardian.serving();
    assert_eq!(server.status("Seccomp"), "2");
    assert_eq!((guardian.udp("a.example.").answers.len(), guardian.udp("b.example.").answers.len()), (2, 2));
    let [a, b] = ["a.example.", "b.example."].map(|name| upstream.asked_for(name).len());
    assert_eq!([a, b], [1, 1], "what was saved is known");
    let before = std::fs::metadata(&file).unwrap().len();
    server.order(Order::Stop);
    assert_eq!(server.end(), Ending::Exited(0));
    assert!(std::fs::metadata(&file).unwrap().len() > before, "with the second name");
}

#[test]
fn g05_a_broken_file_does_not_keep_a_server_from_coming_back() {
    let (before, after) = (upstream(), upstream());
    let guardian = Guardian::new(&before);
    let good = guardian.kept();
    let server = guardian.serving();
    guardian.write("zones: [");
    server.kill(Signal::KILL);
    server.end();
    let _server = guardian.serving();
    guardian.udp("a.example.");
    assert_eq!(before.asked_for("a.example.").len(), 1, "by the last good configuration");
    assert_eq!(guardian.kept(), good);
    // Once mended it is taken over, and kept for the next one.
    guardian.write(&forward(after.address()));
    until("it is kept", || guardian.kept().contains(&after.address().to_string()).then_some(()));
    guardian.udp("b.example.");
    assert_eq!(after.asked_for("b.example.").len(), 1);
}

#[test]
fn what_the_sockets_were_not_bound_for_waits_for_the_guardian_and_the_rest_does_not() {
    let (before, after) = (upstream(), upstream());
    let guardian = Guardian::new(&before);
    let good = guardian.kept();
    let elsewhere = format!("listen: {{ addresses: [127.0.0.1], port: 1 }}\n{}", forward(after.address()));
    std::fs::write(guardian.file(), elsewhere).unwrap();
    let _server = guardian.serving();
    until("it is loaded", || {
        guardian.page().contains("nodens_config_reloads_total{outcome=\"loaded\"} 1").then_some(())
    });
    guardian.udp("a.example.");
    assert_eq!(after.asked_for("a.example.").len(), 1, "zones need no sockets");
    assert_eq!(guardian.kept(), good, "the next server has these sockets too");
}

#[test]
fn without_sockets_or_with_those_of_another_configuration_it_does_not_start() {
    let upstream = upstream();
    let mut guardian = Guardian::new(&upstream);
    std::fs::write(guardian.file(), "a: [").unwrap();
    guardian.memory = tempfile::tempfile().unwrap();
    let server = guardian.start();
    assert_eq!(server.end(), Ending::Exited(1), "nothing to go by");
    std::fs::write(guardian.file(), "listen: { addresses: [127.0.0.1], port: 1 }").unwrap();
    let server = guardian.start();
    assert_eq!(server.end(), Ending::Exited(1), "not its sockets");
}
