//! Several servers, some of them down.

use super::support::*;
use crate::upstream::{Error, Group, Options, Outcome, Policy, Protocol};
use futures_util::future::join_all;
use std::time::Duration;
use tokio::time::Instant;

#[tokio::test]
async fn d01_a_closed_port_is_passed_over_at_once() {
    let (_reserved, closed) = closed_port();
    let working = tcp(|stream, _| answer_all(stream)).await;
    let group = Group::new(options(Protocol::Tcp), &[closed, working.address]);
    let started = Instant::now();
    assert_eq!(ask(&group, "www").await.unwrap().server.address(), working.address);
    assert!(started.elapsed() < LONG / 4, "neither timeout nor patience was waited for");
    assert!(snapshot(&group, 0).failing[1]);
    ask(&group, "www").await.unwrap();
    assert_eq!(snapshot(&group, 0).queries[1][Outcome::Unreachable as usize], 1, "it comes last now");
}

#[tokio::test]
async fn d01_when_all_ports_are_closed_the_error_is_immediate() {
    let (one, two) = (closed_port(), closed_port());
    let group = Group::new(options(Protocol::Tcp), &[one.1, two.1]);
    let started = Instant::now();
    let all = join_all((0..20).map(|_| ask(&group, "www"))).await;
    assert!(all.iter().all(|r| matches!(r, Err(Error::Unreachable { .. }))), "{all:?}");
    assert!(started.elapsed() < LONG / 4);
}

#[tokio::test]
async fn d02_a_silent_server_costs_patience_once_and_little_later() {
    let (silent, working) = (tcp(|stream, _| hang(stream)).await, tcp(|stream, _| answer_all(stream)).await);
    for policy in [Policy::LeastLoaded, Policy::Random, Policy::RoundRobin, Policy::Sequential] {
        let brief = Options { policy, timeout: Duration::from_secs(1), ..options(Protocol::Tcp) };
        let group = Group::new(brief, &[silent.address, working.address]);
        let mut times = Vec::new();
        for _ in 0..100 {
            let started = Instant::now();
            assert_eq!(ask(&group, "www").await.unwrap().server.address(), working.address);
            times.push(started.elapsed());
        }
        times.sort();
        assert!(times[97] < Duration::from_millis(400), "{policy:?}: {:?}", &times[95..]);
        assert!(times[99] < Duration::from_secs(1), "{policy:?}: half the timeout, then the other server");
    }
}

#[tokio::test]
async fn d02_over_udp_too() {
    let (silent, working) = (udp(|_, _| vec![]).await, udp(|query, _| vec![reply(&query, 0)]).await);
    let brief = Options { timeout: Duration::from_secs(1), ..options(Protocol::Udp) };
    let group = Group::new(brief, &[silent.address, working.address]);
    for _ in 0..50 {
        assert_eq!(ask(&group, "www").await.unwrap().server.address(), working.address);
    }
    assert!(silent.seen() <= 4, "three doubts, and perhaps a probe: {}", silent.seen());
    assert!(snapshot(&group, 0).failing[0]);
}

#[tokio::test]
async fn d02_the_first_server_may_still_win() {
    let server = |delay| {
        tcp(move |mut stream, _| async move {
            let query = read_query(&mut stream).await.unwrap();
            tokio::time::sleep(Duration::from_millis(delay)).await;
            send(&mut stream, &reply(&query, 0)).await;
            hang(stream).await;
        })
    };
    let (slow, slower) = (server(300).await, server(5000).await);
    let brief = Options { timeout: Duration::from_millis(500), ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[slow.address, slower.address]);
    assert_eq!(ask(&group, "www").await.unwrap().server.address(), slow.address);
    assert_eq!(slower.seen(), 1, "it was asked as well");
}

#[tokio::test]
async fn d04_all_silent_is_a_timeout_by_the_deadline() {
    let (one, two) = (tcp(|stream, _| hang(stream)).await, tcp(|stream, _| hang(stream)).await);
    let brief = Options { timeout: Duration::from_millis(100), ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[one.address, two.address]);
    let deadline = Instant::now() + Duration::from_millis(450);
    let error = ask_until(&group, "www", deadline).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_eq!(error.ede(), 22);
    assert!(Instant::now() >= deadline);
    assert!(one.seen() >= 2 && two.seen() >= 2, "both are tried again: {} {}", one.seen(), two.seen());
}

#[tokio::test]
async fn d05_a_server_that_is_back_is_used_at_once_when_there_is_no_other() {
    let (reserved, address) = closed_port();
    let group = Group::new(options(Protocol::Tcp), &[address]);
    ask(&group, "www").await.unwrap_err();
    assert!(snapshot(&group, 0).failing[1]);
    assert_eq!(group.tally().all_down.get(), 0, "nothing was known of it");
    tcp_on(reserved.listen(16).unwrap(), |stream, _| answer_all(stream));
    ask(&group, "www").await.unwrap();
    assert!(!snapshot(&group, 0).failing[1]);
    assert_eq!(group.tally().all_down.get(), 1);
    ask(&group, "www").await.unwrap();
    assert_eq!(group.tally().all_down.get(), 1);
}

#[tokio::test]
async fn a_single_silent_server_is_asked_again_on_a_new_connection() {
    let server = tcp(|stream, n| async move {
        match n {
            0 => hang(stream).await,
            _ => answer_all(stream).await,
        }
    })
    .await;
    let brief = Options { timeout: Duration::from_millis(100), ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[server.address]);
    ask(&group, "www").await.unwrap();
    assert_eq!(server.seen(), 2);
    assert_eq!(snapshot(&group, 0).queries[1][Outcome::Abandoned as usize], 1, "long before the timeout");
}

#[tokio::test]
async fn a_deadline_in_the_past_asks_nobody() {
    let server = tcp(|stream, _| answer_all(stream)).await;
    let group = group_of(&server);
    assert!(matches!(ask_until(&group, "www", Instant::now()).await, Err(Error::Timeout { .. })));
    assert_eq!(snapshot(&group, 0).in_flight, 0);
    assert_eq!(server.seen(), 0);
}
