//! Rows G10 and G11 of the behaviour table: a container with little memory, and one with little processor time.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;
mod world;

use hickory_proto::rr::RecordType;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::net::{Ipv4Addr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::client::{edns_query, is_closed, receive_udp, send, tcp_from, udp_from};
use support::process::skip;
use support::server::{Server, forward};
use support::upstream::Upstream;
use support::{addresses, proc, query};
use world::cgroup::Cgroup;
use world::clients::{Asking, targets};
use world::guardian::Setup;
use world::proxy::Proxy;
use world::{LOCAL, World, alone};

const A: RecordType = RecordType::A;
/// How many connections.
const CONNECTIONS: usize = 2000;

/// Says why a group cannot be had.
fn had(group: Result<Cgroup, String>) -> Option<Cgroup> {
    group.map_err(|error| skip(&format!("needs a cgroup: {error}"))).ok()
}

#[test]
fn g10_a_full_cache_and_two_thousand_connections_fit_into_32_mib() {
    let Some(group) = had(Cgroup::new(32)) else { return };
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    if most.is_some_and(|most| most < CONNECTIONS as u64 + 200) {
        return skip("needs 2200 descriptors");
    }
    let upstream = Upstream::start(|q| addresses(&q.message(), 50, 300).into());
    let config = format!("{}cache: {{ maxBytes: 12Mi, positive: {{ maxTtl: 1h }} }}\n", forward(upstream.address()));
    let mut server = Server::launch(&config, &|_| {});
    group.enter(server.pid());
    server.until("it is alive", |server| server.get(server.health, "/health").is_some_and(|r| r.contains("200 OK")));
    // Twelve thousand answers of a kilobyte, and more.
    let socket = udp_from(Ipv4Addr::LOCALHOST, server.dns);
    let mut number = 0;
    server.until("the cache is full", |server| {
        for _ in 0..100 {
            for n in number..number + 20 {
                socket.send(&query(&format!("n{n}.example."), A).to_vec().unwrap()).unwrap();
            }
            number += 20;
            (0..20).for_each(|_| drop(receive_udp(&socket)));
        }
        server.metric("nodens_cache_evictions_total", "") > 1000.0
    });
    let mut open: Vec<TcpStream> =
        (0..CONNECTIONS).map(|n| tcp_from(Ipv4Addr::new(127, 0, 7, (n / 100) as u8 + 1), server.dns)).collect();
    // With so many, those that do not ask are closed soon; they ask again and again.
    let begin = Instant::now();
    let (mut answered, mut held) = (0, 0);
    while begin.elapsed() < Duration::from_secs(4) {
        for (n, stream) in open.iter_mut().enumerate() {
            if is_closed(stream) {
                *stream = tcp_from(Ipv4Addr::new(127, 0, 7, (n / 100) as u8 + 1), server.dns);
            }
            send(stream, &query(&format!("n{n}.example."), A));
        }
        held = held.max(proc::open_files(server.pid()));
        answered += open.iter_mut().filter_map(support::read_framed).count();
    }
    assert!(answered >= CONNECTIONS && held >= CONNECTIONS / 2, "{answered} answers, {held} descriptors");
    server.until("it goes on", |server| server.udp(&edns_query("last.example.")).answers.len() == 50);
    println!("{} MiB at most, {held} descriptors, {answered} answers", proc::peak_memory(server.pid()) >> 20);
}

/// With 25 thousandths of a processor everything takes long, but nobody takes that for death.
#[test]
fn g11_with_a_quota_of_25_m_nobody_is_taken_for_dead() {
    let _alone = alone();
    let Some(world) = World::new(Proxy::Iptables) else { return };
    let Some(group) = had(Cgroup::with_quota(25)) else { return };
    let setup = Setup { addresses: vec![LOCAL[0]], ..Setup::default() };
    let mut nodens = setup.start(&world);
    let (guardian, server) = (nodens.pid(), nodens.server_pid());
    [guardian, server].into_iter().for_each(|pid| group.enter(pid));
    let asking = Asking::start(&world.pods[0], &["--rate=5"], &targets(&[LOCAL[0]]));
    let end = Instant::now() + Duration::from_secs(15);
    let mut worst = Duration::ZERO;
    while Instant::now() < end {
        let begin = Instant::now();
        let page = world.node.get(&format!("{}:8080", LOCAL[0]), "/health");
        worst = worst.max(begin.elapsed());
        assert!(page.contains("200 OK"), "after {:?}: {page}\n{}", begin.elapsed(), nodens.log());
        sleep(Duration::from_millis(500));
    }
    // The manifest gives it five.
    assert!(worst < Duration::from_secs(5), "{worst:?}");
    assert_eq!(nodens.server(), Some(server), "{}", nodens.log());
    let figures = asking.finish();
    println!("health after {worst:?} at most; {figures:#?}");
}
