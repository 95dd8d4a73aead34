//! Who counts as failing, and what it costs to find out. Time is paused, and passes as fast as the sockets allow.

use super::support::*;
use crate::upstream::{Condition, Exchange, Group, Options, Outcome, Policy, Protocol, Query, Route, Transport};
use crate::wire::header::{self, Header, rcode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, UdpSocket};
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// The bar for a query while one server of two is silent, with room for the coarseness of the clock here.
const BAR: Duration = Duration::from_millis(300);

fn group(protocol: Protocol, policy: Policy, servers: &[SocketAddr]) -> Arc<Group> {
    Arc::new(Group::new(Options { protocol, policy, ..Options::default() }, servers))
}

/// To failing, to healthy.
fn changes(group: &Group, server: usize, transport: Transport) -> [u64; 2] {
    snapshot(group, server).health_changes[transport as usize]
}

/// A port to which no connection can be made, and that does not refuse: its queue is full.
async fn full_port() -> (TcpListener, Vec<tokio::net::TcpStream>, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let first = tokio::net::TcpStream::connect(address).await.unwrap();
    (listener, vec![first], address)
}

#[tokio::test(start_paused = true)]
async fn d02_with_one_server_of_two_silent_every_query_is_answered_in_time_from_the_first_on() {
    let_time_pass();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for policy in [Policy::LeastLoaded, Policy::RoundRobin, Policy::Sequential] {
            let (silent, working) = match protocol {
                Protocol::Tcp => (tcp(|stream, _| hang(stream)).await, tcp(|stream, _| answer_all(stream)).await),
                _ => (udp(|_, _| vec![]).await, udp(|query, _| vec![reply(&query, 0)]).await),
            };
            let group = group(protocol, policy, &[silent.address, working.address]);
            let mut times = ask_steadily(&group, 400, 5 * MS).await;
            times.sort();
            assert!(times[399] <= BAR, "{protocol:?} {policy:?}: {:?}", &times[390..]);
            let of_working = if protocol == Protocol::Tcp { Transport::Tcp } else { Transport::Udp };
            assert_eq!(changes(&group, 0, of_working), [1, 0], "{protocol:?} {policy:?}");
            assert_eq!(changes(&group, 1, of_working), [0, 0], "{protocol:?} {policy:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d02_a_server_to_which_no_connection_can_be_made_costs_no_more() {
    let_time_pass();
    let (_listener, _streams, full) = full_port().await;
    let working = tcp(|stream, _| answer_all(stream)).await;
    let group = group(Protocol::Tcp, Policy::Sequential, &[full, working.address]);
    let times = ask_steadily(&group, 300, 10 * MS).await;
    assert!(times.iter().all(|time| *time <= BAR), "{:?}", times.iter().max());
    assert!(snapshot(&group, 0).failing[1]);
    let slow = times.iter().filter(|time| **time > 50 * MS).count();
    assert!(slow <= 80, "after it failed nobody waits for it: {slow}");
}

#[tokio::test(start_paused = true)]
async fn d06_a_server_that_stops_is_left_at_once_and_taken_back_when_it_goes_on() {
    let_time_pass();
    let stopped = Arc::new(AtomicBool::new(false));
    let held = stopped.clone();
    let pausing = tcp(move |mut stream, _| {
        let stopped = held.clone();
        async move {
            while let Some(query) = read_query(&mut stream).await {
                while stopped.load(SeqCst) {
                    tokio::time::sleep(10 * MS).await;
                }
                send(&mut stream, &reply(&query, 0)).await;
            }
        }
    })
    .await;
    let working = tcp(|stream, _| answer_all(stream)).await;
    let group = group(Protocol::Tcp, Policy::Sequential, &[pausing.address, working.address]);
    let before = ask_steadily(&group, 100, 5 * MS).await;
    assert_eq!(snapshot(&group, 1).queries[1], [0; Outcome::ALL.len()]);
    assert!(before.iter().all(|time| *time < BAR / 3), "{before:?}");
    stopped.store(true, SeqCst);
    let times = ask_steadily(&group, 400, 5 * MS).await;
    assert!(times.iter().all(|time| *time <= BAR), "{:?}", times.iter().max());
    assert_eq!(changes(&group, 0, Transport::Tcp), [1, 0]);
    stopped.store(false, SeqCst);
    let times = ask_steadily(&group, 800, 5 * MS).await;
    assert!(times.iter().all(|time| *time < BAR / 3), "nobody waits for the probe: {:?}", times.iter().max());
    assert_eq!(changes(&group, 0, Transport::Tcp), [1, 1]);
    assert_eq!(ask(&group, "www").await.unwrap().server.address(), pausing.address);
}

#[tokio::test(start_paused = true)]
async fn d01_over_udp_one_refusal_decides_nothing() {
    let_time_pass();
    let (_reserved, closed) = closed_udp_port().await;
    let working = udp(|query, _| vec![reply(&query, 0)]).await;
    let group = group(Protocol::Udp, Policy::Sequential, &[closed, working.address]);
    for failing in [false, false, true] {
        ask(&group, "www").await.unwrap();
        assert_eq!(snapshot(&group, 0).failing, [failing, false, false]);
    }
    assert_eq!(snapshot(&group, 0).queries[0][Outcome::Unreachable as usize], 3);
}

#[tokio::test(start_paused = true)]
async fn d15_a_distant_server_with_jitter_and_duplicates_never_counts_as_failing() {
    let_time_pass();
    let distant = || async {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut octets = [0; 512];
            for n in 0.. {
                let (len, from) = socket.recv_from(&mut octets).await.unwrap();
                let (socket, query) = (socket.clone(), octets[..len].to_vec());
                tokio::spawn(async move {
                    for again in 0..2u32 {
                        tokio::time::sleep((150 + (n * 37 + again * 11) % 100) * MS).await;
                        let _ = socket.send_to(&reply(&query, 0), from).await;
                    }
                });
            }
        });
        address
    };
    for interval in [20 * MS, 400 * MS] {
        let servers = [distant().await, distant().await];
        let group = group(Protocol::Udp, Policy::LeastLoaded, &servers);
        let times = ask_steadily(&group, 100, interval).await;
        assert!(times.iter().all(|time| *time < 600 * MS), "{:?}", times.iter().max());
        for server in 0..2 {
            assert_eq!(changes(&group, server, Transport::Udp), [0, 0], "every {interval:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn d16_one_slow_name_says_nothing_about_its_server() {
    let_time_pass();
    // Like CoreDNS: one query at a time per connection.
    let server = || {
        tcp(|mut stream, _| async move {
            while let Some(query) = read_query(&mut stream).await {
                if label(&query) == "slow" {
                    tokio::time::sleep(1900 * MS).await;
                }
                send(&mut stream, &reply(&query, 0)).await;
            }
        })
    };
    let (one, two) = (server().await, server().await);
    let group = group(Protocol::Tcp, Policy::LeastLoaded, &[one.address, two.address]);
    let slow = async {
        for _ in 0..3 {
            let started = Instant::now();
            ask(&group, "slow").await.unwrap();
            assert!(started.elapsed() < 2 * SECOND, "{:?}", started.elapsed());
        }
    };
    let (times, ()) = tokio::join!(ask_steadily(&group, 1200, 5 * MS), slow);
    assert!(times.iter().all(|time| *time < BAR / 3), "{:?}", times.iter().max());
    for server in 0..2 {
        assert_eq!(changes(&group, server, Transport::Tcp), [0, 0]);
    }
}

/// A server that answers every query with SERVFAIL for which `fails` says so, given its number.
async fn failing_for(fails: impl Fn(usize) -> bool + Send + 'static) -> Script {
    udp(move |query, n| vec![reply(&query, if fails(n) { rcode::SERVFAIL } else { 0 })]).await
}

fn code(reply: &crate::upstream::Reply) -> u16 {
    Header::read(&reply.message).unwrap().flags & 0xf
}

#[tokio::test(start_paused = true)]
async fn d17_a_tenth_of_servfail_changes_nothing_and_nothing_but_servfail_does() {
    let_time_pass();
    let working = failing_for(|_| false).await;
    let tenth = failing_for(|n| n % 10 == 0).await;
    let some = group(Protocol::Udp, Policy::Sequential, &[tenth.address, working.address]);
    for n in 0..500 {
        let answer = ask(&some, "www").await.unwrap();
        assert_eq!((answer.server.address(), code(&answer) == rcode::SERVFAIL), (tenth.address, n % 10 == 0));
    }
    assert_eq!(changes(&some, 0, Transport::Udp), [0, 0]);

    let broken = Arc::new(AtomicBool::new(true));
    let switch = broken.clone();
    let all = failing_for(move |_| switch.load(SeqCst)).await;
    let group = group(Protocol::Udp, Policy::Sequential, &[all.address, working.address]);
    let mut failed = 0;
    for _ in 0..500 {
        failed += usize::from(code(&ask(&group, "www").await.unwrap()) == rcode::SERVFAIL);
        tokio::time::sleep(10 * MS).await;
    }
    assert!((20..=32).contains(&failed), "{failed}");
    assert!(snapshot(&group, 0).failing[0]);
    assert_eq!(group.condition(), Condition::Well);
    broken.store(false, SeqCst);
    let back = Instant::now() + 15 * SECOND;
    while snapshot(&group, 0).failing[0] {
        assert!(Instant::now() < back, "its replies are good, and it stays behind");
        assert_eq!(code(&ask(&group, "www").await.unwrap()), rcode::NOERROR);
        tokio::time::sleep(10 * MS).await;
    }
    assert_eq!(ask(&group, "www").await.unwrap().server.address(), all.address);
}

#[tokio::test(start_paused = true)]
async fn d17_where_all_say_servfail_so_do_we() {
    let_time_pass();
    let (one, two) = (failing_for(|_| true).await, failing_for(|_| true).await);
    let group = group(Protocol::Udp, Policy::RoundRobin, &[one.address, two.address]);
    for _ in 0..200 {
        assert_eq!(code(&ask(&group, "www").await.unwrap()), rcode::SERVFAIL);
    }
    assert_eq!(group.condition(), Condition::Well, "they answer");
    let sent = one.seen() + two.seen();
    assert!(sent <= 270, "{sent} for 200 queries");
}

#[tokio::test(start_paused = true)]
async fn d18_a_server_that_flaps_is_soon_left_alone_and_nobody_notices() {
    let_time_pass();
    let started = Instant::now();
    let is_up = move || started.elapsed().as_millis() % 930 < 500;
    let flapping = tcp(move |mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            if !is_up() {
                return;
            }
            send(&mut stream, &reply(&query, 0)).await;
        }
    })
    .await;
    let working = tcp(|stream, _| answer_all(stream)).await;
    let group = group(Protocol::Tcp, Policy::Sequential, &[flapping.address, working.address]);
    let times = ask_steadily(&group, 3000, 20 * MS).await;
    assert!(times.iter().all(|time| *time < BAR / 3), "{:?}", times.iter().max());
    let [failed, back] = changes(&group, 0, Transport::Tcp);
    assert!((2..=8).contains(&failed) && failed - back <= 1, "{failed} {back} in a minute");
}

#[tokio::test(start_paused = true)]
async fn d05_the_condition_tells_a_moment_without_servers_from_a_lasting_one() {
    let_time_pass();
    let nobody = Group::new(Options::default(), &[] as &[SocketAddr]);
    assert_eq!(nobody.condition(), Condition::Down);
    let (reserved, address) = closed_port();
    let group = group(Protocol::Tcp, Policy::LeastLoaded, &[address]);
    assert_eq!(group.condition(), Condition::Well, "as far as is known");
    ask(&group, "www").await.unwrap_err();
    assert_eq!(group.condition(), Condition::Down, "it never answered");

    let listener = reserved.listen(16).unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _answered = tokio::time::timeout(SECOND, answer_all(stream)).await;
        listener
    });
    let started = Instant::now();
    ask(&group, "www").await.unwrap();
    assert!(started.elapsed() < BAR);
    assert_eq!(group.condition(), Condition::Well);
    drop(serving.await.unwrap());
    tokio::time::sleep(100 * MS).await;
    ask(&group, "www").await.unwrap_err();
    assert_eq!(group.condition(), Condition::Shaken);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(group.condition(), Condition::Down);
}

#[tokio::test(start_paused = true)]
async fn d16_one_slow_name_on_a_quiet_node_is_one_doubt_however_often_it_is_sent() {
    let_time_pass();
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut octets = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut octets).await {
            let (socket, reply) = (socket.clone(), reply(&octets[..length], 0));
            tokio::spawn(async move {
                tokio::time::sleep(SECOND * 3 / 2).await;
                let _ = socket.send_to(&reply, peer).await;
            });
        }
    });
    let group = group(Protocol::Udp, Policy::Sequential, &[address]);
    ask_until(&group, "slow", Instant::now() + 4 * SECOND).await.unwrap();
    assert!(snapshot(&group, 0).queries[0].iter().sum::<u64>() > 2, "it was sent again and again");
    assert_eq!((changes(&group, 0, Transport::Udp), group.condition()), ([0, 0], Condition::Well));
}

#[tokio::test(start_paused = true)]
async fn d19_a_server_that_was_not_asked_for_long_and_refuses_now_is_shaken() {
    let_time_pass();
    let (reserved, address) = closed_port();
    let listener = reserved.listen(16).unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let _answered = tokio::time::timeout(SECOND, answer_all(stream)).await;
    });
    let group = group(Protocol::Tcp, Policy::LeastLoaded, &[address]);
    ask(&group, "www").await.unwrap();
    serving.await.unwrap();
    tokio::time::sleep(60 * SECOND).await;
    ask(&group, "www").await.unwrap_err();
    assert_eq!(group.condition(), Condition::Shaken);
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(group.condition(), Condition::Down);
}

#[tokio::test(start_paused = true)]
async fn c27_a_rejection_is_returned_rather_than_a_failing_server_waited_for() {
    let_time_pass();
    let silent = tcp(|stream, _| hang(stream)).await;
    let refusing = tcp(|mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            send(&mut stream, &reply(&query, rcode::REFUSED)).await;
        }
    })
    .await;
    let group = group(Protocol::Tcp, Policy::Sequential, &[silent.address, refusing.address]);
    while changes(&group, 0, Transport::Tcp)[0] == 0 {
        ask(&group, "www").await.unwrap();
    }
    for _ in 0..10 {
        let started = Instant::now();
        let rejection = ask(&group, "www").await.unwrap();
        assert_eq!(Header::read(&rejection.message).unwrap().rcode(), rcode::REFUSED);
        assert!(started.elapsed() < BAR, "{:?}", started.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn d23_a_server_that_loops_is_no_comfort_when_all_others_are_down() {
    let_time_pass();
    let looping = tcp(|stream, _| answer_all(stream)).await;
    let (_reserved, closed) = closed_port();
    let group = group(Protocol::Tcp, Policy::Sequential, &[looping.address, closed]);
    let route = Route::new(group.clone());
    route.mark(&group.servers()[0], true);
    assert_eq!(route.condition(), Condition::Well, "as far as is known of the other");
    let message = query("www");
    let query = Query { message: &message, opt_len: 0 };
    route.exchange(query, Instant::now() + SECOND).await.unwrap_err();
    assert_eq!((route.condition(), group.condition()), (Condition::Down, Condition::Well));
    route.mark(&group.servers()[0], false);
    assert_eq!(route.condition(), Condition::Well);
}

#[tokio::test(start_paused = true)]
async fn h08_a_server_that_is_not_there_yet_is_found_within_a_second_of_its_coming() {
    let_time_pass();
    let (reserved, address) = closed_port();
    let (_other, second) = closed_port();
    let group = group(Protocol::Tcp, Policy::LeastLoaded, &[address, second]);
    for _ in 0..300 {
        let started = Instant::now();
        ask(&group, "www").await.unwrap_err();
        assert!(started.elapsed() < BAR, "told at once");
        tokio::time::sleep(100 * MS).await;
    }
    tcp_on(reserved.listen(16).unwrap(), |stream, _| answer_all(stream));
    ask(&group, "www").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn udp_and_tcp_are_judged_separately_and_one_stands_in_for_the_other() {
    let_time_pass();
    let (listener, socket) = both().await;
    let server = tcp_on(listener, |stream, _| answer_all(stream));
    let blocked = Arc::new(AtomicBool::new(true));
    let held = blocked.clone();
    tokio::spawn(async move {
        let mut octets = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut octets).await {
            if !held.load(SeqCst) {
                socket.send_to(&reply(&octets[..len], header::AA), from).await.unwrap();
            }
        }
    });
    let group = group(Protocol::Auto, Policy::LeastLoaded, &[server.address]);
    // Nothing comes over UDP: three tries in a row, of this query and others.
    let asked = ask_steadily(&group, 3, SECOND);
    let blocking = async {
        until(&group, |s| s.failing == [true, false, false]).await;
        assert_eq!(ask(&group, "www").await.unwrap().transport, Transport::Tcp);
        blocked.store(false, SeqCst);
    };
    tokio::join!(asked, blocking);
    tokio::time::sleep(5 * SECOND).await;
    ask(&group, "www").await.unwrap();
    until(&group, |s| s.failing == [false; 3]).await;
    assert_eq!(ask(&group, "www").await.unwrap().transport, Transport::Udp);
    assert_eq!((changes(&group, 0, Transport::Udp), changes(&group, 0, Transport::Tcp)), ([1, 1], [0, 0]));
}
