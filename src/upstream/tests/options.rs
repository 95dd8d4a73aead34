//! What a `forward` may say beside its servers: upon which replies another is asked, whether queries fail at once, from
//! which address they are sent, and how long connections live.

use super::support::*;
use crate::upstream::{Codes, Condition, Ended, Error, Exchange, Group, Options, Policy, Protocol};
use crate::wire::header::rcode;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// A server that says `code` to everything.
async fn says(code: u16) -> Script {
    tcp(move |mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            send(&mut stream, &reply(&query, code)).await;
        }
    })
    .await
}

#[tokio::test]
async fn replies_that_count_as_failures_have_another_server_asked_once_each() {
    const NX: u16 = rcode::NXDOMAIN;
    const SERVFAIL: u16 = rcode::SERVFAIL;
    let failover = Codes::default().with(NX).with(SERVFAIL);
    for (servers, failover, answered) in [
        // Without being told so, a name that is not, or a failure, is an answer.
        (&[NX, 0][..], Codes::default(), 0),
        (&[SERVFAIL, 0], Codes::default(), 0),
        (&[NX, 0], failover, 1),
        (&[SERVFAIL, NX, 0, 0], failover, 2),
        // What nobody betters is the answer: that of the last.
        (&[SERVFAIL, NX, SERVFAIL], failover, 2),
        (&[NX], failover, 0),
        (&[rcode::REFUSED, NX], failover, 1),
        (&[rcode::REFUSED, rcode::NOTIMP], Codes::default(), 0),
        (&[0, NX], Codes::default().with_nodata(), 1),
    ] {
        let mut scripts = Vec::new();
        for code in servers {
            scripts.push(says(*code).await);
        }
        let addresses: Vec<SocketAddr> = scripts.iter().map(|script| script.address).collect();
        let group = Group::new(Options { failover, ..options(Protocol::Tcp) }, &addresses);
        let answer = ask(&group, "www").await.unwrap();
        assert_eq!(answer.server.address(), addresses[answered], "{servers:?} {failover:?}");
        assert_eq!(answer.message[3] & 15, servers[answered] as u8);
        let asked = scripts.iter().map(Script::seen).collect::<Vec<_>>();
        assert!(asked.iter().all(|&n| n <= 1), "{servers:?}: one round: {asked:?}");
        assert!((0..servers.len()).all(|n| !snapshot(&group, n).failing[1]), "{servers:?}: it is there");
    }
}

#[tokio::test]
async fn with_all_servers_down_queries_fail_at_once_until_one_is_back() {
    let ((reserved, one), (_other, two)) = (closed_port(), closed_port());
    let fast = Options { fail_fast: true, ..options(Protocol::Tcp) };
    let group = Group::new(fast, &[one, two]);
    assert!(matches!(ask(&group, "www").await, Err(Error::Unreachable { .. })), "nothing was known of them");
    let error = ask(&group, "www").await.unwrap_err();
    assert_eq!((error.to_string().as_str(), error.ede()), ("no upstream server works", 22));
    assert_eq!(group.tally().all_down.get(), 1);
    assert_eq!(group.condition(), Condition::Down);
    tcp_on(reserved.listen(16).unwrap(), |stream, _| answer_all(stream));
    let deadline = Instant::now() + LONG;
    loop {
        match ask(&group, "www").await {
            Ok(reply) => break assert_eq!(reply.server.address(), one),
            Err(Error::AllDown) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(group.condition(), Condition::Well);
}

#[tokio::test]
async fn nobody_waits_for_servers_that_answered_a_moment_ago_where_failures_are_wanted_at_once() {
    for (fail_fast, condition) in [(false, Condition::Shaken), (true, Condition::Down)] {
        // Answers once, and is gone.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            let query = read_query(&mut stream).await.unwrap();
            send(&mut stream, &reply(&query, 0)).await;
        });
        let group = Group::new(Options { fail_fast, ..options(Protocol::Tcp) }, &[address]);
        ask(&group, "www").await.unwrap();
        assert!(ask(&group, "www").await.is_err());
        assert_eq!(group.condition(), condition);
    }
}

#[test]
fn servers_are_looked_at_again_twice_a_second() {
    let (group, now) = (Group::new::<SocketAddr>(Options::default(), &[]), Instant::now());
    let at = |ms| group.may_look_again(now + Duration::from_millis(ms));
    assert_eq!([0, 1, 499, 500, 501, 999, 1000].map(at), [true, false, false, true, false, false, true]);
}

#[tokio::test]
async fn queries_are_sent_from_the_address_that_is_asked_for() {
    let source: IpAddr = [127, 0, 0, 2].into();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heard = seen.clone();
    let server = tcp(move |stream, _| {
        heard.lock().unwrap().push(stream.peer_addr().unwrap().ip());
        answer_all(stream)
    })
    .await;
    let from = |source, protocol| Options { source, ..options(protocol) };
    for source in [Some(source), None] {
        ask(&Group::new(from(source, Protocol::Tcp), &[server.address]), "www").await.unwrap();
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = datagrams.local_addr().unwrap();
    let heard = seen.clone();
    tokio::spawn(async move {
        let mut octets = [0; 512];
        while let Ok((len, peer)) = datagrams.recv_from(&mut octets).await {
            heard.lock().unwrap().push(peer.ip());
            datagrams.send_to(&reply(&octets[..len], 0), peer).await.unwrap();
        }
    });
    ask(&Group::new(from(Some(source), Protocol::Udp), &[address]), "www").await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [source, [127, 0, 0, 1].into(), source]);
    // One that is not ours, one of the other family.
    for wrong in ["192.0.2.1", "::1"] {
        for (protocol, server) in [(Protocol::Tcp, server.address), (Protocol::Udp, address)] {
            let group = Group::new(from(Some(wrong.parse().unwrap()), protocol), &[server]);
            let error = ask(&group, "www").await.unwrap_err();
            let text = format!("cannot reach upstream {server}: cannot send from {wrong} (forward.sourceAddress): ");
            assert!(error.to_string().starts_with(&text) && !error.is_ours(), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn connections_live_as_long_as_is_said() {
    let_time_pass();
    let server = tcp(|stream, _| answer_all(stream)).await;
    let second = Duration::from_secs(1);
    let ten_years = 3650 * 24 * 3600 * second;
    for (idle, max_age, ended, least, most) in [
        (second / 2, ten_years, Ended::Idle, second / 2, second),
        (3 * second, second, Ended::Age, second * 4 / 5, second * 3 / 2),
    ] {
        let brief = Options { idle, max_age, policy: Policy::Sequential, ..options(Protocol::Tcp) };
        let group = Group::new(brief, &[server.address]);
        let started = Instant::now();
        ask(&group, "www").await.unwrap();
        until(&group, |s| s.closed[ended as usize] == 1).await;
        assert!((least..most).contains(&started.elapsed()), "{ended:?} {:?}", started.elapsed());
        assert_eq!(snapshot(&group, 0).dials, 1);
    }
}
