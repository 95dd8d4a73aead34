//! Bounds: connections, dials, queries that wait; and what is left behind by those who go away.

use super::support::*;
use crate::upstream::{Connections, Error, Exchange, Group, Options, Outcome, Protocol, Query};
use futures_util::future::join_all;
use futures_util::poll;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::sync::Semaphore;
use tokio::time::Instant;

#[tokio::test]
async fn connections_grow_to_the_limit_and_then_are_shared_shallowly() {
    let (deepest, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (deep, held) = (deepest.clone(), gate.clone());
    // Reads all it can before it answers.
    let server = tcp(move |mut stream, _| {
        let (deepest, gate) = (deep.clone(), held.clone());
        async move {
            let mut queries = Vec::new();
            loop {
                tokio::select! {
                    biased;
                    query = read_query(&mut stream) => match query {
                        Some(query) => queries.push(query),
                        None => return,
                    },
                    _ = gate.acquire(), if !queries.is_empty() => {
                        deepest.fetch_max(queries.len(), SeqCst);
                        for query in queries.drain(..) {
                            send(&mut stream, &reply(&query, 0)).await;
                        }
                    }
                }
            }
        }
    })
    .await;
    let group = Group::new(Options { max_connections: 3, ..options(Protocol::Tcp) }, &[server.address]);
    let names: Vec<_> = (0..30).map(|n| format!("name{n}")).collect();
    let open = async {
        until(&group, |s| s.connections == Connections { dialing: 0, idle: 0, busy: 3 }).await;
        gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(join_all(names.iter().map(|name| ask(&group, name))), open);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(server.seen(), 3);
    assert!((2..=4).contains(&deepest.load(SeqCst)), "{} at once on one connection", deepest.load(SeqCst));
    assert_eq!(snapshot(&group, 0).connections.idle, 3);
}

#[tokio::test]
async fn a_cold_start_dials_a_few_connections_not_one_per_query() {
    let server = tcp(|stream, _| answer_all(stream)).await;
    let group = group_of(&server);
    let mut all: Vec<_> = (0..500).map(|_| Box::pin(ask(&group, "www"))).collect();
    for one in &mut all {
        assert!(poll!(one).is_pending());
    }
    assert_eq!(snapshot(&group, 0).connections, Connections { dialing: 8, idle: 0, busy: 0 });
    assert!(join_all(all).await.iter().all(Result::is_ok));
    assert!(server.seen() <= 32, "{} connections", server.seen());
}

#[tokio::test]
async fn one_query_dials_one_connection() {
    let server = tcp(|stream, _| answer_all(stream)).await;
    let group = group_of(&server);
    let mut one = Box::pin(ask(&group, "www"));
    assert!(poll!(&mut one).is_pending());
    assert_eq!(snapshot(&group, 0).connections.dialing, 1);
    one.await.unwrap();
}

#[tokio::test]
async fn too_many_that_wait_are_told_so() {
    let server = tcp(|stream, _| hang(stream)).await;
    let tight = Options { max_connections: 1, max_waiting: 2, ..options(Protocol::Tcp) };
    let group = Group::new(tight, &[server.address]);
    let mut first = Box::pin(ask(&group, "www"));
    let connected = until(&group, |s| s.connections.busy == 1);
    tokio::select! { _ = &mut first => panic!("never answered"), () = connected => {} }
    // Three more share the connection, two wait, the next is one too many.
    let mut fitting: Vec<_> = (0..5).map(|_| Box::pin(ask(&group, "www"))).collect();
    for one in &mut fitting {
        assert!(poll!(one).is_pending());
    }
    assert!(matches!(ask(&group, "www").await, Err(Error::Busy { .. })));
    assert!(!snapshot(&group, 0).failing[1]);
    // Who goes away makes room.
    fitting.truncate(3);
    assert!(poll!(Box::pin(ask(&group, "www"))).is_pending());
}

#[tokio::test]
async fn a_dropped_exchange_leaves_nothing_behind() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let server = tcp(move |mut stream, _| {
        let gate = held.clone();
        async move {
            while let Some(query) = read_query(&mut stream).await {
                gate.acquire().await.unwrap().forget();
                send(&mut stream, &reply(&query, 0)).await;
            }
        }
    })
    .await;
    let group = group_of(&server);
    // Dropped while dialling, and while waiting for the reply.
    assert!(poll!(Box::pin(ask(&group, "dialling"))).is_pending());
    until(&group, |s| s.connections.idle == 1).await;
    for n in 0..3 {
        let mut one = Box::pin(ask(&group, "www"));
        assert!(poll!(&mut one).is_pending());
        assert_eq!((snapshot(&group, 0).in_flight, snapshot(&group, 0).connections.busy), (1, 1));
        drop(one);
        assert_eq!((snapshot(&group, 0).in_flight, snapshot(&group, 0).connections.busy), (0, 1));
        gate.add_permits(1);
        until(&group, |s| s.connections.idle == 1 && s.late == n + 1).await;
    }
    gate.add_permits(1);
    ask(&group, "www").await.unwrap();
    assert_eq!((server.seen(), snapshot(&group, 0).queries[1][Outcome::Abandoned as usize]), (1, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_share_a_group() {
    let server = tcp(|stream, _| answer_all(stream)).await;
    // Held, so that no query that goes out over UDP as well is sent from this very port, and heard by its sender.
    let _silent = tokio::net::UdpSocket::bind(server.address).await;
    let group = Arc::new(Group::new(Options { max_connections: 4, ..options(Protocol::Tcp) }, &[server.address]));
    let askers = (0..64).map(|asker| {
        let group = group.clone();
        tokio::spawn(async move {
            for n in 0..50 {
                let name = format!("name{asker}x{n}");
                let mut asked = Box::pin(ask(&group, &name));
                if n % 7 == 3 {
                    let _ = poll!(&mut asked);
                } else {
                    asked.await.unwrap();
                }
            }
        })
    });
    assert!(join_all(askers).await.iter().all(Result::is_ok));
    assert!(server.seen() <= 16, "four, and some in their place on a machine too busy to answer: {}", server.seen());
    until(&group, |s| s.connections.busy == 0 && s.in_flight == 0).await;
    assert_eq!(snapshot(&group, 0).unsolicited, 0);
}

#[tokio::test]
async fn an_exchange_is_an_object() {
    let server = tcp(|stream, _| answer_all(stream)).await;
    let exchange: Arc<dyn Exchange> = Arc::new(group_of(&server));
    let message = query("www");
    let reply = exchange.exchange(Query { message: &message, opt_len: 0 }, Instant::now() + LONG).await.unwrap();
    assert_eq!(reply.server.address(), server.address);
}
