//! The life of TCP connections: reuse, loss, limits.

use super::support::*;
use crate::upstream::{Ended, Error, Group, Options, Outcome, Protocol};
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = tcp(|stream, _| answer_all(stream)).await;
    let group = group_of(&server);
    for _ in 0..20 {
        ask(&group, "www").await.unwrap();
    }
    assert_eq!((server.seen(), snapshot(&group, 0).dials), (1, 1));
    assert_eq!(snapshot(&group, 0).queries[1][Outcome::Ok as usize], 20);
    assert_eq!(snapshot(&group, 0).carried, [1, 19]);
    let replies = snapshot(&group, 0).replies;
    assert_eq!((replies.len(), replies[0].rcode, replies[0].buckets.iter().sum::<u64>()), (1, "NOERROR", 20));
    assert_eq!(group.servers()[0].durations().snapshot().0.iter().sum::<u64>(), 20);
}

#[tokio::test]
async fn d06_a_silent_connection_is_given_up_and_its_other_queries_are_asked_again() {
    // The first connection answers one query and then hangs, like a stopped process; the second works.
    let server = tcp(|mut stream, n| async move {
        if n == 0 {
            let query = read_query(&mut stream).await.unwrap();
            send(&mut stream, &reply(&query, 0)).await;
            return hang(stream).await;
        }
        answer_all(stream).await;
    })
    .await;
    let brief = Options { max_connections: 1, timeout: Duration::from_millis(300), ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[server.address]);
    ask(&group, "first").await.unwrap();
    let started = Instant::now();
    let (one, two) = tokio::join!(ask(&group, "one"), ask(&group, "two"));
    assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
    assert!(started.elapsed() >= Duration::from_millis(150), "half the timeout, since so much is less than 200 ms");
    assert_eq!(server.seen(), 2, "one new connection, beside the only one there may be, for both");
    until(&group, |s| s.closed[Ended::Unresponsive as usize] == 1).await;
}

#[tokio::test]
async fn d07_when_a_connection_proves_dead_the_idle_ones_beside_it_are_dropped() {
    // All connections of the first kind answer once and then hang: the peer has gone without a word.
    let good = Arc::new(AtomicUsize::new(3));
    let held = Arc::new(Semaphore::new(0));
    let gate = held.clone();
    let server = tcp(move |mut stream, n| {
        let (good, gate) = (good.clone(), gate.clone());
        async move {
            if n >= good.load(SeqCst) {
                return answer_all(stream).await;
            }
            let query = read_query(&mut stream).await.unwrap();
            gate.acquire().await.unwrap().forget();
            send(&mut stream, &reply(&query, 0)).await;
            hang(stream).await;
        }
    })
    .await;
    let brief = Options { timeout: Duration::from_millis(500), ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[server.address]);
    let warm = async {
        until(&group, |s| s.connections.busy == 3).await;
        held.add_permits(3);
    };
    let (answers, ()) = tokio::join!(join_all(["a", "b", "c"].map(|name| ask(&group, name))), warm);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(snapshot(&group, 0).connections.idle, 3);
    ask(&group, "www").await.unwrap();
    until(&group, |s| s.connections.idle == 1 && s.connections.busy == 0).await;
    assert_eq!(server.seen(), 4);
}

#[tokio::test]
async fn d08_an_idle_connection_closed_as_we_write_is_no_error() {
    let server = tcp(|mut stream, n| async move {
        if n > 0 {
            return answer_all(stream).await;
        }
        let query = read_query(&mut stream).await.unwrap();
        send(&mut stream, &reply(&query, 0)).await;
        read_query(&mut stream).await.unwrap();
    })
    .await;
    let group = group_of(&server);
    ask(&group, "one").await.unwrap();
    ask(&group, "two").await.unwrap();
    let after = snapshot(&group, 0);
    assert_eq!((server.seen(), after.retries), (2, 1));
    assert_eq!(after.queries[1][Outcome::Ok as usize], 2);
    assert!(!after.failing[1], "it says nothing about the server");
}

#[tokio::test]
async fn d08_a_new_connection_that_closes_is_a_failure_of_the_server() {
    let closing = tcp(|mut stream, _| async move {
        read_query(&mut stream).await;
    })
    .await;
    let working = tcp(|stream, _| answer_all(stream)).await;
    let both = Group::new(options(Protocol::Tcp), &[closing.address, working.address]);
    assert_eq!(ask(&both, "www").await.unwrap().server.address(), working.address);
    assert_eq!(closing.seen(), 2, "once more: behind one address there may be several");
    assert!(snapshot(&both, 0).failing[1]);
    let error = ask(&group_of(&closing), "www").await.unwrap_err();
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    assert_eq!(closing.seen(), 6, "twice that, then it is enough");
}

#[tokio::test]
async fn d09_a_server_that_closes_after_each_reply_works_without_a_storm() {
    let open = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (count, peak) = (open.clone(), most.clone());
    let server = tcp(move |mut stream, _| {
        let (open, most) = (count.clone(), peak.clone());
        async move {
            most.fetch_max(open.fetch_add(1, SeqCst) + 1, SeqCst);
            if let Some(query) = read_query(&mut stream).await {
                send(&mut stream, &reply(&query, 0)).await;
            }
            open.fetch_sub(1, SeqCst);
        }
    })
    .await;
    let group = group_of(&server);
    for _ in 0..50 {
        ask(&group, "www").await.unwrap();
    }
    assert!((50..=60).contains(&server.seen()), "{} connections for 50 queries", server.seen());
    let names: Vec<_> = (0..50).map(|n| format!("name{n}")).collect();
    for answer in join_all(names.iter().map(|name| ask(&group, name))).await {
        answer.unwrap();
    }
    assert!(most.load(SeqCst) <= 32 + 8, "{} at once", most.load(SeqCst));
    assert!(server.seen() <= 250, "{} connections for 100 queries", server.seen());
}

#[tokio::test]
async fn d10_a_server_that_takes_no_more_connections_is_served_by_those_it_took() {
    // A full backlog: what is not accepted, and does not fit, is not answered either.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            answer_all(stream).await;
        }
    });
    let brief = Options { timeout: Duration::from_millis(400), ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[address]);
    ask(&group, "first").await.unwrap();
    let names: Vec<_> = (0..20).map(|n| format!("name{n}")).collect();
    let answers = join_all(names.iter().map(|name| ask(&group, name))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn d11_a_limit_of_queries_per_connection_goes_unnoticed() {
    let server = tcp(|mut stream, _| async move {
        for _ in 0..10 {
            let Some(query) = read_query(&mut stream).await else { return };
            send(&mut stream, &reply(&query, 0)).await;
        }
    })
    .await;
    let group = group_of(&server);
    for _ in 0..100 {
        ask(&group, "www").await.unwrap();
    }
    assert_eq!(server.seen(), 10);
}

#[tokio::test]
async fn d16_one_slow_name_delays_no_other() {
    // Like CoreDNS: one query at a time per connection.
    let server = tcp(|mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            if label(&query) == "slow" {
                return hang(stream).await;
            }
            send(&mut stream, &reply(&query, 0)).await;
        }
    })
    .await;
    let group = group_of(&server);
    let mut slow = Box::pin(ask(&group, "slow"));
    let others = async {
        for _ in 0..200 {
            ask(&group, "quick").await.unwrap();
        }
    };
    tokio::select! {
        biased;
        _ = &mut slow => panic!("never answered"),
        () = others => {}
    }
    assert!(server.seen() <= 3, "the slow one has its connection, perhaps a hedge, the others have theirs");
}

#[tokio::test]
async fn an_idle_connection_is_closed_by_us() {
    let (closed, mut was_closed) = tokio::sync::mpsc::channel(1);
    let server = tcp(move |mut stream, _| {
        let closed = closed.clone();
        async move {
            let query = read_query(&mut stream).await.unwrap();
            send(&mut stream, &reply(&query, 0)).await;
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0, "an orderly close");
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let group = Group::new(Options { idle: Duration::from_millis(50), ..options(Protocol::Tcp) }, &[server.address]);
    ask(&group, "www").await.unwrap();
    timeout(LONG, was_closed.recv()).await.unwrap().unwrap();
    until(&group, |s| s.connections.idle == 0).await;
}

/// Answers one query when `gate` lets it, expects no more of them, and opens the gate wide when the connection ends.
async fn answer_one_when_told(mut stream: TcpStream, gate: &Semaphore) {
    let query = read_query(&mut stream).await.unwrap();
    gate.acquire().await.unwrap().forget();
    send(&mut stream, &reply(&query, 0)).await;
    assert!(read_query(&mut stream).await.is_none());
    gate.add_permits(10);
}

#[tokio::test]
async fn d19_an_old_connection_answers_what_it_has_and_gets_no_more() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let server = tcp(move |stream, n| {
        let gate = held.clone();
        async move {
            if n > 0 {
                return answer_all(stream).await;
            }
            answer_one_when_told(stream, &gate).await;
        }
    })
    .await;
    let (max_age, idle) = (Duration::from_millis(50), Duration::from_millis(50));
    let options = Options { max_age, idle, max_connections: 1, ..options(Protocol::Tcp) };
    let group = Group::new(options, &[server.address]);
    let others = async {
        until(&group, |s| s.connections.busy == 1).await;
        until(&group, |s| s.connections.busy == 0).await;
        ask(&group, "other").await.unwrap();
        gate.add_permits(1);
    };
    let (first, ()) = tokio::join!(ask(&group, "first"), others);
    first.unwrap();
    let _ = timeout(LONG, gate.acquire_many(10)).await.expect("closed when drained").unwrap();
    assert!(server.seen() >= 2);
}

#[tokio::test]
async fn d20_servers_that_stay_keep_their_connections_and_those_that_go_finish() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let going = tcp(move |stream, _| {
        let gate = held.clone();
        async move {
            answer_one_when_told(stream, &gate).await;
        }
    })
    .await;
    let staying = tcp(|stream, _| answer_all(stream)).await;
    let group = group_of(&staying);
    ask(&group, "www").await.unwrap();
    group.set_servers(&[going.address, staying.address, going.address]);
    assert_eq!(group.servers().iter().map(|s| s.address()).collect::<Vec<_>>(), [going.address, staying.address]);
    let swap = async {
        until(&group, |s| s.connections.busy == 1).await;
        group.set_servers(&[staying.address]);
        ask(&group, "www").await.unwrap();
        gate.add_permits(1);
    };
    let (answer, ()) = tokio::join!(ask(&group, "www"), swap);
    assert_eq!(answer.unwrap().server.address(), going.address);
    let _ = timeout(LONG, gate.acquire_many(10)).await.expect("closed when drained").unwrap();
    assert_eq!(staying.seen(), 1);

    group.set_servers(&[] as &[std::net::SocketAddr]);
    assert!(matches!(ask(&group, "www").await, Err(Error::NoServers)));
}
