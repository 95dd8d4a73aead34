//! Queries sent once more: hedges, broken connections, pods replaced behind one address.

use super::support::*;
use crate::upstream::{Ended, Group, Options, Outcome, Policy, Protocol};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn group(protocol: Protocol, servers: &[&Script]) -> Arc<Group> {
    let options = Options { protocol, policy: Policy::Sequential, ..Options::default() };
    let servers: Vec<_> = servers.iter().map(|server| server.address).collect();
    Arc::new(Group::new(options, &servers))
}

/// A TCP server that waits before the answers to those names for which `delay` says so.
async fn delaying(delay: impl Fn(&str) -> Duration + Clone + Send + Sync + 'static) -> Script {
    tcp(move |mut stream, _| {
        let delay = delay.clone();
        async move {
            while let Some(query) = read_query(&mut stream).await {
                tokio::time::sleep(delay(&label(&query))).await;
                send(&mut stream, &reply(&query, 0)).await;
            }
        }
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn d02_a_query_that_takes_long_is_sent_to_another_server_as_well() {
    let_time_pass();
    let first = delaying(|name| if name == "late" { 800 * MS } else { MS }).await;
    let second = delaying(|_| MS).await;
    let group = group(Protocol::Tcp, &[&first, &second]);
    ask_steadily(&group, 100, 5 * MS).await;
    assert_eq!(second.seen(), 0);
    let started = Instant::now();
    let answer = ask(&group, "late").await.unwrap();
    assert_eq!(answer.server.address(), second.address);
    assert!((30 * MS..100 * MS).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!((snapshot(&group, 0).hedges, snapshot(&group, 1).hedges), ([0, 0], [1, 0]));
    assert!(!snapshot(&group, 0).failing[1]);
}

#[tokio::test(start_paused = true)]
async fn d07_a_hedge_takes_another_connection_or_another_port_where_there_is_no_other_server() {
    let_time_pass();
    let over_tcp = tcp(|mut stream, n| async move {
        while let Some(query) = read_query(&mut stream).await {
            if label(&query) == "late" && n == 0 {
                return hang(stream).await;
            }
            send(&mut stream, &reply(&query, 0)).await;
        }
    })
    .await;
    let late = AtomicUsize::new(0);
    let over_udp = udp(move |query, _| match label(&query) == "late" && late.fetch_add(1, SeqCst) == 0 {
        true => vec![],
        false => vec![reply(&query, 0)],
    })
    .await;
    for (protocol, server) in [(Protocol::Tcp, &over_tcp), (Protocol::Udp, &over_udp)] {
        let group = group(protocol, &[server]);
        for n in 0..40 {
            ask(&group, &format!("name{n}")).await.unwrap();
        }
        let started = Instant::now();
        ask(&group, "late").await.unwrap();
        assert!(started.elapsed() < 150 * MS, "{protocol:?}: {:?}", started.elapsed());
        assert_eq!(snapshot(&group, 0).hedges, [1, 0], "{protocol:?}");
    }
    assert_eq!(over_tcp.seen(), 2);
}

#[tokio::test(start_paused = true)]
async fn d16_hedges_add_a_twentieth_at_the_most() {
    let_time_pass();
    // Three in ten names are slow, everywhere, and the usual time does not grow to theirs at once.
    let slow = |name: &str| if name.ends_with(['1', '4', '7']) { 150 * MS } else { MS };
    let (one, two) = (delaying(slow).await, delaying(slow).await);
    let group = group(Protocol::Tcp, &[&one, &two]);
    ask_steadily(&group, 2000, 2 * MS).await;
    let queries: u64 = (0..2).map(|n| snapshot(&group, n).queries[1].iter().sum::<u64>()).sum();
    let hedges: u64 = (0..2).map(|n| snapshot(&group, n).hedges.iter().sum::<u64>()).sum();
    assert!((1..=100).contains(&hedges), "{hedges}");
    assert_eq!(queries, 2000 + hedges);
}

#[tokio::test(start_paused = true)]
async fn d16_many_slow_names_at_a_server_that_answers_in_order_hold_up_no_other() {
    let_time_pass();
    let server = delaying(|name| if name.starts_with("slow") { 1900 * MS } else { MS }).await;
    let group = group(Protocol::Tcp, &[&server]);
    let slow = (0..40).map(|n| {
        let group = group.clone();
        tokio::spawn(async move {
            tokio::time::sleep(n * 100 * MS).await;
            ask(&group, &format!("slow{n}")).await.unwrap()
        })
    });
    let slow: Vec<_> = slow.collect();
    let mut times = ask_steadily(&group, 1800, 3 * MS).await;
    times.sort();
    assert!(times[1780] < 20 * MS && times[1799] < 100 * MS, "{:?}", &times[1780..]);
    for one in slow {
        one.await.unwrap();
    }
    assert_eq!(snapshot(&group, 0).overflows, 0, "never full");
}

#[tokio::test(start_paused = true)]
async fn d07_connections_whose_other_end_is_gone_are_found_and_get_no_more_queries() {
    let_time_pass();
    // The first connections stay open and fall silent when the time has come; those opened later work.
    let (gone, is_gone) = watch::channel(false);
    let lost = Arc::new(AtomicUsize::new(0));
    let count = lost.clone();
    let server = tcp(move |mut stream, _| {
        let (is_gone, lost) = (is_gone.clone(), count.clone());
        let old = !*is_gone.borrow();
        async move {
            while let Some(query) = read_query(&mut stream).await {
                if old && *is_gone.borrow() {
                    lost.fetch_add(1, SeqCst);
                    return hang(stream).await;
                }
                tokio::time::sleep(4 * MS).await;
                send(&mut stream, &reply(&query, 0)).await;
            }
        }
    })
    .await;
    let group = group(Protocol::Tcp, &[&server]);
    ask_steadily(&group, 1000, MS).await;
    let old = server.seen();
    gone.send(true).unwrap();
    let started = Instant::now();
    let times = ask_steadily(&group, 2500, MS).await;
    assert!(started.elapsed() >= 2 * SECOND);
    assert!(times.iter().all(|time| *time <= 300 * MS), "{:?}", times.iter().max());
    let slow = times.iter().filter(|time| **time > 30 * MS).count();
    assert!(slow <= 2 * old + 2, "{slow} slow for {old} connections");
    assert!(lost.load(SeqCst) <= old, "one query each");
    let after = snapshot(&group, 0);
    assert_eq!(after.closed[Ended::Unresponsive as usize] as usize, old, "{after:?}");
    assert_eq!(after.queries[1][Outcome::Closed as usize], 0);
}

#[tokio::test(start_paused = true)]
async fn d07_when_as_many_are_stuck_as_may_be_open_others_are_opened_in_their_place() {
    let_time_pass();
    let server = tcp(|mut stream, n| async move {
        if n < 4 {
            let _ = read_query(&mut stream).await;
            return hang(stream).await;
        }
        answer_all(stream).await;
    })
    .await;
    let options = Options { max_connections: 4, ..Options::default() };
    let group = Arc::new(Group::new(options, &[server.address]));
    let times = ask_steadily(&group, 300, 2 * MS).await;
    let lost = times.iter().filter(|time| **time > 300 * MS).count();
    assert!(lost <= 16, "only what these had: {lost}");
    assert!(times.iter().all(|time| *time <= 2100 * MS), "{:?}", times.iter().max());
    assert!(server.seen() <= 8, "{}", server.seen());
}

#[tokio::test(start_paused = true)]
async fn d14_with_three_in_ten_datagrams_lost_each_way_hardly_a_query_fails() {
    let_time_pass();
    let mut random = 1u32;
    let mut lost = move || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 16) % 10 < 3
    };
    let server = udp(move |query, _| if lost() | lost() { vec![] } else { vec![reply(&query, 0)] }).await;
    let group = group(Protocol::Udp, &[&server]);
    let asked = (0..2000).map(|n| {
        let group = group.clone();
        tokio::spawn(async move {
            tokio::time::sleep(n * 2 * MS).await;
            ask_until(&group, &format!("name{n}"), Instant::now() + 5 * SECOND).await
        })
    });
    let answers = futures_util::future::join_all(asked).await;
    let failed = answers.iter().filter(|answer| answer.as_ref().unwrap().is_err()).count();
    assert!(failed <= 2, "{failed} of 2000");
    assert!(server.seen() <= 2000 * 5 / 2, "{}", server.seen());
}

/// Answers after a moment until `end` changes; then ends the connection under its queries, orderly or not.
async fn pod(mut stream: TcpStream, mut end: watch::Receiver<u32>, orderly: bool) {
    let serve = async {
        while let Some(query) = read_query(&mut stream).await {
            tokio::time::sleep(5 * MS).await;
            send(&mut stream, &reply(&query, 0)).await;
        }
    };
    end.mark_unchanged();
    tokio::select! {
        () = serve => {}
        _ = end.changed() => match orderly {
            true => _ = stream.shutdown().await,
            false => _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)),
        },
    }
}

#[tokio::test(start_paused = true)]
async fn d19_when_all_connections_are_closed_under_their_queries_nobody_notices() {
    let_time_pass();
    for orderly in [true, false] {
        let (end, ends) = watch::channel(0);
        let server = tcp(move |stream, _| pod(stream, ends.clone(), orderly)).await;
        let group = group(Protocol::Tcp, &[&server]);
        let replace = async {
            for n in 1..=10 {
                tokio::time::sleep(100 * MS).await;
                end.send(n).unwrap();
            }
        };
        let (times, ()) = tokio::join!(ask_steadily(&group, 1200, MS), replace);
        assert!(times.iter().all(|time| *time < 150 * MS), "{:?}", times.iter().max());
        let after = snapshot(&group, 0);
        assert!(after.closed[Ended::Peer as usize] >= 10 && after.retries >= 10, "{after:?}");
        assert_eq!((after.health_changes[1], after.queries[1][Outcome::Closed as usize]), ([0, 0], 0));
    }
}

#[tokio::test(start_paused = true)]
async fn d19_a_connection_that_never_answered_is_replaced_as_well() {
    let_time_pass();
    let server = tcp(|mut stream, n| async move {
        let query = read_query(&mut stream).await;
        if n % 2 == 1 {
            send(&mut stream, &reply(&query.unwrap(), 0)).await;
        }
    })
    .await;
    let group = group(Protocol::Tcp, &[&server]);
    for _ in 0..20 {
        ask(&group, "www").await.unwrap();
    }
    assert_eq!(snapshot(&group, 0).health_changes[1], [0, 0]);
}

#[tokio::test]
async fn d19_a_dial_that_hangs_gets_company_long_before_the_kernel_tries_again() {
    // The queue of the listener is full: what else comes is dropped, and tried again by the kernel after a second.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let _first = TcpStream::connect(address).await.unwrap();
    let group = Group::new(Options::default(), &[address]);
    let making_room = async {
        until(&group, |s| s.connections.dialing == 1).await;
        tokio::time::sleep(50 * MS).await;
        tcp_on(listener, |stream, _| answer_all(stream));
    };
    let started = Instant::now();
    let (answer, ()) = tokio::join!(ask(&group, "www"), making_room);
    answer.unwrap();
    assert!(started.elapsed() < 900 * MS, "{:?}", started.elapsed());
}
