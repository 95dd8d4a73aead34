//! Rows G7 to G9 and G16 of the behaviour table: a host that is short of ports, descriptors, readers or address families.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::rr::RecordType;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};
use support::client::{RUDE, tcp_from};
use support::process::skip;
use support::server::{Server, forward};
use support::upstream::Upstream;
use support::{addresses, ask_tcp, ask_udp, framed, free_port, proc, query};

const A: RecordType = RecordType::A;

fn upstream() -> Upstream {
    Upstream::start(|q| addresses(&q.message(), 1, 300).into())
}

/// Starts a server that cannot start, and returns what it says.
fn fails(addresses: [SocketAddr; 3]) -> String {
    // Nothing is to be made of this host's network, least of all the address of another.
    const CONFIG: &str = "network: { interface: { manage: false }, firewall: none }\n\
                          zones: [{ match: [.], forward: { to: [127.0.0.9] } }]\n";
    let server = Server::launch_at(addresses, CONFIG, &|_| {});
    let (status, log) = server.end();
    assert_eq!(status.code(), Some(1), "{log}");
    log
}

#[test]
fn g07_a_taken_port_is_named_with_its_holder_and_the_key_to_change() {
    let at = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let holder = format!("(pid {})", std::process::id());
    let says = |log: &str, wanted: &[&str]| {
        for wanted in wanted.iter().chain(&[&*holder]) {
            assert!(log.contains(wanted), "{wanted} is not in\n{log}");
        }
    };
    let udp = UdpSocket::bind(at()).unwrap();
    let address = udp.local_addr().unwrap();
    says(&fails([address, at(), at()]), &[&format!("{address} (udp)"), "listen.port"]);
    let tcp = TcpListener::bind(at()).unwrap();
    let address = tcp.local_addr().unwrap();
    says(&fails([address, at(), at()]), &[&format!("{address} (tcp)"), "listen.port"]);
    says(&fails([at(), address, at()]), &[&address.to_string(), "metrics.listen"]);
    says(&fails([at(), at(), address]), &[&address.to_string(), "health.listen"]);
}

#[test]
fn g07_an_address_of_another_host_is_named_with_the_key_to_change() {
    let port = free_port();
    let elsewhere = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), port));
    let at = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let log = fails([elsewhere, at(), at()]);
    assert!(log.contains(&format!("192.0.2.1:{port}")) && log.contains("listen.addresses"), "{log}");
}

/// Lets a process have at most `files` descriptors.
fn limit_files(pid: u32, files: u64) {
    let limit = Rlimit { current: Some(files), maximum: Some(files) };
    prlimit(Pid::from_raw(pid as i32), Resource::Nofile, limit).unwrap();
}

#[test]
fn g08_without_descriptors_udp_goes_on_nothing_spins_and_it_passes() {
    let upstream = upstream();
    let mut server = Server::forwarding_to(upstream.address());
    server.udp(&query("hit.example.", A));
    limit_files(server.pid(), proc::open_files(server.pid()) as u64 + 20);
    // More than there is room for; those that are in ask all the time, and so they stay.
    let mut streams: Vec<TcpStream> = (0..60).map(|_| tcp_from(RUDE, server.dns)).collect();
    let packet = framed(&query("hit.example.", A).to_vec().unwrap());
    let (begin, used) = (Instant::now(), proc::processor_time(server.pid()));
    while begin.elapsed() < Duration::from_secs(3) {
        for stream in &mut streams {
            let _ = stream.write_all(&packet);
            stream.set_nonblocking(true).unwrap();
            let _ = stream.read(&mut [0; 512]);
            stream.set_nonblocking(false).unwrap();
        }
        assert_eq!(server.udp(&query("hit.example.", A)).answers.len(), 1);
        // The pace of the clients.
        thread::sleep(Duration::from_millis(50));
    }
    let used = proc::processor_time(server.pid()) - used;
    assert!(used < Duration::from_secs(2), "{used:?} of processor time for next to nothing");
    server.until_logged("cannot accept a TCP connection");
    drop(streams);
    server.until("TCP is back", |server| {
        server.get(server.metrics, "/metrics").is_some_and(|page| page.contains("nodens_build_info"))
            && server.tcp(&query("hit.example.", A)).answers.len() == 1
    });
    assert!(server.metric("nodens_dropped_total", "tcp_accept_error") >= 1.0);
    assert_eq!(server.tcp(&query("miss.example.", A)).answers.len(), 1);
}

#[test]
fn g09_a_log_that_nobody_reads_blocks_nothing() {
    let upstream = upstream();
    let mut server = Server::start_with(&forward(upstream.address()), &|command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    });
    // A hundred lines per reload: a pipe holds 64 KiB.
    let invalid: String = (0..100).map(|n| format!("unknown{n}: {{}}\n")).collect();
    server.rewrite(&invalid);
    for n in 0..20 {
        server.signal("HUP");
        server.until("it is refused", |server| server.metric("nodens_config_reloads_total", "refused") > f64::from(n));
        assert_eq!(server.udp(&query(&format!("n{n}.example."), A)).answers.len(), 1);
        assert_eq!(server.tcp(&query(&format!("m{n}.example."), A)).answers.len(), 1);
    }
    let waiting = rustix::io::ioctl_fionread(server.stderr()).unwrap();
    assert!(waiting > 60_000, "{waiting} octets wait in the pipe");
    assert!(server.get(server.health, "/ready").unwrap().contains("200 OK"));
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn g16_both_families_in_one_process() {
    let port = free_port();
    if let Err(error) = UdpSocket::bind((Ipv6Addr::LOCALHOST, port)) {
        return skip(&format!("no IPv6 on this host: {error}"));
    }
    let upstream = upstream();
    let [v4, v6] = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].map(|ip| SocketAddr::new(ip, port));
    let at = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let mut server = Server::launch_at([v4, at(), at()], &forward(upstream.address()), &|command| {
        command.args(["--listen", &v4.to_string(), "--listen", &v6.to_string()]);
    });
    server.until("it is ready", |server| server.is_ready());
    let asked = query("a.example.", A);
    for address in [v4, v6] {
        for answer in [ask_tcp(address, &asked.to_vec().unwrap()), ask_udp(address, &asked.to_vec().unwrap())] {
            assert_eq!(answer[7], 1, "{address}: an answer");
        }
    }
    assert_eq!(upstream.asked_for("a.example.").len(), 1, "one cache");
    for family in ["ipv4", "ipv6"] {
        for proto in ["udp", "tcp"] {
            let labels = format!("proto=\"{proto}\",family=\"{family}\"");
            assert!(server.metric("nodens_queries_total", &labels) >= 1.0, "{labels}");
        }
    }
    let report = server.get(server.health, "/ready").unwrap();
    assert!(
        report.contains(&format!("udp {v6}: answers")) && report.contains(&format!("tcp {v4}: answers")),
        "{report}"
    );
}
