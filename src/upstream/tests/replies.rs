//! What arrives over TCP and is, or is not, the reply.

use super::support::*;
use crate::upstream::{Group, Options, Outcome, Protocol, Transport};
use crate::wire::header::{self, Header, rcode};
use futures_util::future::join_all;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};

/// A group whose server gets one connection at a time, so that queries share it.
fn one_connection(server: &Script) -> Group {
    Group::new(Options { max_connections: 1, ..options(Protocol::Tcp) }, &[server.address])
}

#[tokio::test]
async fn c03_another_question_closes_the_connection_and_is_asked_again() {
    let (closed, mut was_closed) = mpsc::channel(1);
    let server = tcp(move |mut stream, n| {
        let closed = closed.clone();
        async move {
            if n > 0 {
                return answer_all(stream).await;
            }
            let query = read_query(&mut stream).await.unwrap();
            send(&mut stream, &other_question(&query)).await;
            assert!(read_query(&mut stream).await.is_none());
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let group = group_of(&server);
    ask(&group, "www").await.unwrap();
    assert_eq!(server.seen(), 2);
    assert_eq!(snapshot(&group, 0).queries[1][Outcome::Mismatch as usize], 1);
    timeout(LONG, was_closed.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn c05_another_spelling_is_accepted() {
    let server = tcp(|mut stream, _| async move {
        let query = read_query(&mut stream).await.unwrap();
        let mut answer = reply(&query, 0);
        answer[header::LEN + 1..].make_ascii_uppercase();
        send(&mut stream, &answer).await;
        hang(stream).await;
    })
    .await;
    assert_eq!(label(&ask(&group_of(&server), "www").await.unwrap().message), "WWW");
}

#[tokio::test]
async fn c15_an_impossible_length_closes_the_connection_and_its_queries_are_asked_again() {
    for len in [0, 1, 11] {
        let server = tcp(move |mut stream, n| async move {
            if n > 0 {
                return answer_all(stream).await;
            }
            read_query(&mut stream).await.unwrap();
            read_query(&mut stream).await.unwrap();
            stream.write_all(&[0, len]).await.unwrap();
            assert!(stream.read_u8().await.is_err(), "closed");
        })
        .await;
        let group = one_connection(&server);
        let (one, two) = tokio::join!(ask(&group, "one"), ask(&group, "two"));
        assert!(one.is_ok() && two.is_ok(), "{len}: {one:?} {two:?}");
        assert_eq!(server.seen(), 2, "{len}");
    }
}

#[tokio::test]
async fn c17_truncation_over_tcp_is_returned_as_it_is() {
    let server = tcp(|mut stream, _| async move {
        let query = read_query(&mut stream).await.unwrap();
        send(&mut stream, &reply(&query, header::TC)).await;
        hang(stream).await;
    })
    .await;
    let answer = ask(&group_of(&server), "www").await.unwrap();
    assert_eq!(answer.transport, Transport::Tcp);
    assert_ne!(Header::read(&answer.message).unwrap().flags & header::TC, 0);
}

#[tokio::test]
async fn c27_a_server_that_will_not_answer_leaves_it_to_the_next() {
    for code in [rcode::FORMERR, rcode::NOTIMP, rcode::REFUSED, 6, 11, 15] {
        let answering = |code| {
            tcp(move |mut stream, _| async move {
                while let Some(query) = read_query(&mut stream).await {
                    send(&mut stream, &reply(&query, code)).await;
                }
            })
        };
        let (refusing, working) = (answering(code).await, answering(rcode::NXDOMAIN).await);
        let group = Group::new(options(Protocol::Tcp), &[refusing.address, working.address]);
        let answer = ask(&group, "www").await.unwrap();
        assert_eq!(answer.server.address(), working.address, "{code}");
        assert_eq!(snapshot(&group, 0).queries[1][Outcome::Rejected as usize], 1);
        assert!(!snapshot(&group, 0).failing[1], "a code is no failure");

        let alone = Group::new(options(Protocol::Tcp), &[refusing.address]);
        let answer = ask(&alone, "www").await.unwrap();
        assert_eq!(Header::read(&answer.message).unwrap().rcode(), code, "nobody knows better");
    }
}

#[tokio::test]
async fn c27_codes_about_the_name_are_final() {
    for code in [rcode::NOERROR, rcode::SERVFAIL, rcode::NXDOMAIN] {
        let first = tcp(move |mut stream, _| async move {
            let query = read_query(&mut stream).await.unwrap();
            send(&mut stream, &reply(&query, code)).await;
            hang(stream).await;
        })
        .await;
        let second = tcp(|stream, _| answer_all(stream)).await;
        let group = Group::new(options(Protocol::Tcp), &[first.address, second.address]);
        assert_eq!(ask(&group, "www").await.unwrap().server.address(), first.address);
        assert_eq!(second.seen(), 0);
    }
}

#[tokio::test]
async fn c29_a_second_reply_is_ignored() {
    let server = tcp(|mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            let twice = [framed(&reply(&query, 0)), framed(&reply(&query, rcode::NXDOMAIN))].concat();
            stream.write_all(&twice).await.unwrap();
        }
    })
    .await;
    let group = group_of(&server);
    for _ in 0..10 {
        let answer = ask(&group, "www").await.unwrap();
        assert_eq!(Header::read(&answer.message).unwrap().rcode(), rcode::NOERROR);
    }
    until(&group, |s| s.unsolicited == 10).await;
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn c30_a_late_reply_meets_nobody_and_the_connection_goes_on() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let server = tcp(move |mut stream, _| {
        let gate = held.clone();
        async move {
            let slow = read_query(&mut stream).await.unwrap();
            let quick = read_query(&mut stream).await.unwrap();
            send(&mut stream, &reply(&quick, 0)).await;
            gate.acquire().await.unwrap().forget();
            send(&mut stream, &reply(&slow, rcode::NXDOMAIN)).await;
            answer_all(stream).await;
        }
    })
    .await;
    let group = one_connection(&server);
    {
        let mut slow = Box::pin(ask(&group, "slow"));
        // The slow one is written first; then it is given up.
        tokio::select! {
            biased;
            _ = &mut slow => panic!("not answered yet"),
            quick = ask(&group, "quick") => quick.unwrap(),
        };
    }
    assert_eq!(snapshot(&group, 0).connections.busy, 1, "the id is still reserved");
    gate.add_permits(1);
    let answer = ask(&group, "slow").await.unwrap();
    assert_eq!(Header::read(&answer.message).unwrap().rcode(), rcode::NOERROR);
    let after = snapshot(&group, 0);
    assert_eq!((after.late, after.unsolicited, server.seen()), (1, 0, 1));
    until(&group, |s| s.connections.idle == 1).await;
}

#[tokio::test]
async fn c31_a_flood_of_replies_nobody_asked_for_ends_the_connection() {
    let server = tcp(|mut stream, n| async move {
        if n > 0 {
            return answer_all(stream).await;
        }
        let query = read_query(&mut stream).await.unwrap();
        let mut unasked = reply(&query, 0);
        unasked[0] ^= 0xff;
        let flood = framed(&unasked).repeat(1000);
        // Written until we close, which may be in the middle.
        while stream.write_all(&flood).await.is_ok() {}
    })
    .await;
    let group = group_of(&server);
    ask(&group, "www").await.unwrap();
    assert_eq!(server.seen(), 2);
    assert!(snapshot(&group, 0).unsolicited > 16);
}

#[tokio::test]
async fn d12_replies_out_of_order_find_their_queries() {
    let server = tcp(|mut stream, _| async move {
        loop {
            let mut queries = Vec::new();
            while queries.len() < 4 {
                let Some(query) = read_query(&mut stream).await else { return };
                queries.push(query);
            }
            let replies: Vec<u8> = queries.iter().rev().flat_map(|q| framed(&reply(q, 0))).collect();
            stream.write_all(&replies).await.unwrap();
        }
    })
    .await;
    let group = one_connection(&server);
    let names: Vec<_> = (0..40).map(|n| format!("name{n}")).collect();
    // `ask` checks that each gets the answer to its own question.
    for answer in join_all(names.iter().map(|name| ask(&group, name))).await {
        answer.unwrap();
    }
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn d13_a_trickling_server_is_bounded_by_the_deadline() {
    let server = tcp(|mut stream, _| async move {
        let query = read_query(&mut stream).await.unwrap();
        for octet in framed(&reply(&query, 0)).into_iter().rev().chain(std::iter::repeat(0)) {
            if stream.write_all(&[if octet == 0 { 0xff } else { octet }]).await.is_err() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    let group = group_of(&server);
    let deadline = Instant::now() + std::time::Duration::from_millis(200);
    let error = ask_until(&group, "www", deadline).await.unwrap_err();
    assert!(matches!(error, crate::upstream::Error::Timeout { .. }), "{error}");
    assert!(Instant::now() < deadline + LONG / 2);
}

#[tokio::test]
async fn d13_a_reply_in_many_pieces_is_put_together() {
    let server = tcp(|mut stream, _| async move {
        stream.set_nodelay(true).unwrap();
        let query = read_query(&mut stream).await.unwrap();
        for octet in framed(&reply(&query, 0)) {
            stream.write_all(&[octet]).await.unwrap();
            tokio::task::yield_now().await;
        }
        hang(stream).await;
    })
    .await;
    ask(&group_of(&server), "www").await.unwrap();
}
