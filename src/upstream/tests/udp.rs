//! What arrives over UDP and is, or is not, the reply.

use super::support::*;
use crate::upstream::{Error, Group, Options, Outcome, Protocol, Query, Transport};
use crate::wire::header::{self, rcode};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;

fn group(server: SocketAddr) -> Group {
    Group::new(options(Protocol::Udp), &[server])
}

/// A server that sends `wrong` first and then the reply must be understood, and `wrong` counted.
async fn ignores(wrong: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) {
    let server = udp(move |query, _| vec![wrong(&query), reply(&query, 0)]).await;
    let group = group(server.address);
    let answer = ask(&group, "www").await.unwrap();
    assert_eq!((answer.transport, answer.server.address()), (Transport::Udp, server.address));
    assert_eq!((snapshot(&group, 0).unsolicited, server.seen()), (1, 1), "the wait goes on, nothing is sent again");
}

#[tokio::test]
async fn c01_a_wrong_id_is_ignored() {
    ignores(|query| {
        let mut wrong = reply(query, rcode::NXDOMAIN);
        wrong[1] ^= 1;
        wrong
    })
    .await;
}

#[tokio::test]
async fn c02_another_source_is_never_heard() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let group = group(socket.local_addr().unwrap());
    tokio::spawn(async move {
        let mut octets = [0; 512];
        let (len, from) = socket.recv_from(&mut octets).await.unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        // The kernel answers a stranger with "port unreachable": the socket is connected.
        stranger.connect(from).await.unwrap();
        stranger.send(&reply(&octets[..len], rcode::NXDOMAIN)).await.unwrap();
        assert!(stranger.recv(&mut [0; 1]).await.is_err());
        socket.send_to(&reply(&octets[..len], 0), from).await.unwrap();
    });
    let answer = ask(&group, "www").await.unwrap();
    assert_eq!(header::Header::read(&answer.message).unwrap().rcode(), rcode::NOERROR);
    assert_eq!(snapshot(&group, 0).unsolicited, 0);
}

#[tokio::test]
async fn c03_another_question_is_ignored() {
    ignores(other_question).await;
}

#[tokio::test]
async fn c04_a_missing_question_is_ignored() {
    ignores(|query| {
        let mut wrong = reply(query, rcode::NXDOMAIN)[..header::LEN].to_vec();
        wrong[5] = 0;
        wrong
    })
    .await;
}

#[tokio::test]
async fn c04_half_a_header_is_ignored() {
    ignores(|query| reply(query, 0)[..7].to_vec()).await;
}

#[tokio::test]
async fn c05_another_spelling_is_accepted() {
    let server = udp(|query, _| {
        let mut answer = reply(&query, 0);
        answer[header::LEN + 1..].make_ascii_uppercase();
        vec![answer]
    })
    .await;
    let answer = ask(&group(server.address), "www").await.unwrap();
    assert_eq!(label(&answer.message), "WWW");
}

#[tokio::test]
async fn c06_a_query_or_another_opcode_is_ignored() {
    ignores(|query| query.to_vec()).await;
    ignores(|query| reply(query, 4 << 11)).await;
}

#[tokio::test]
async fn c16_a_truncated_reply_is_asked_for_again_over_tcp() {
    let (listener, socket) = both().await;
    let server = tcp_on(listener, |stream, _| answer_all(stream));
    tokio::spawn(async move {
        let mut octets = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut octets).await {
            socket.send_to(&reply(&octets[..len], header::TC), from).await.unwrap();
        }
    });
    let auto = Group::new(options(Protocol::Auto), &[server.address]);
    let answer = ask(&auto, "www").await.unwrap();
    assert_eq!((answer.transport, server.seen()), (Transport::Tcp, 1));
    assert_eq!(header::Header::read(&answer.message).unwrap().flags & header::TC, 0);
    let [of_udp, of_tcp, _] = snapshot(&auto, 0).queries;
    assert_eq!((of_udp[Outcome::Truncated as usize], of_tcp[Outcome::Ok as usize]), (1, 1));

    let udp_only = ask(&group(server.address), "www").await.unwrap();
    assert_ne!(header::Header::read(&udp_only.message).unwrap().flags & header::TC, 0, "as it is");
}

#[tokio::test]
async fn c16_without_tcp_a_truncated_reply_is_an_error() {
    let server = udp(|query, _| vec![reply(&query, header::TC)]).await;
    let auto = Group::new(options(Protocol::Auto), &[server.address]);
    assert!(matches!(ask(&auto, "www").await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn c29_a_second_reply_meets_nobody() {
    let server = udp(|query, _| vec![reply(&query, 0), reply(&query, rcode::NXDOMAIN)]).await;
    let group = group(server.address);
    for _ in 0..3 {
        let answer = ask(&group, "www").await.unwrap();
        assert_eq!(header::Header::read(&answer.message).unwrap().rcode(), rcode::NOERROR);
    }
}

#[tokio::test]
async fn d01_a_closed_port_is_known_at_once() {
    let working = udp(|query, _| vec![reply(&query, 0)]).await;
    let (_reserved, closed) = closed_udp_port().await;
    let both = Group::new(options(Protocol::Udp), &[closed, working.address]);
    assert_eq!(ask(&both, "www").await.unwrap().server.address(), working.address);
    let refused = ask(&group(closed), "www").await.unwrap_err();
    assert!(matches!(refused, Error::Unreachable { server, .. } if server == closed), "{refused}");
    assert_eq!(refused.ede(), 23);
}

#[tokio::test]
async fn d14_a_lost_datagram_is_sent_again_from_another_port_under_another_id() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let patient = Options { timeout: Duration::from_millis(200), ..options(Protocol::Udp) };
    let group = Group::new(patient, &[socket.local_addr().unwrap()]);
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let noted = seen.clone();
    tokio::spawn(async move {
        let mut octets = [0; 512];
        while let Ok((len, from)) = socket.recv_from(&mut octets).await {
            noted.lock().unwrap().insert((from.port(), [octets[0], octets[1]]));
            if noted.lock().unwrap().len() == 4 {
                socket.send_to(&reply(&octets[..len], 0), from).await.unwrap();
            }
        }
    });
    ask(&group, "www").await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 4);
    assert!(seen.iter().map(|(port, _)| port).collect::<HashSet<_>>().len() > 1);
    assert!(seen.iter().map(|(_, id)| id).collect::<HashSet<_>>().len() > 1);
}

#[tokio::test]
async fn d21_a_socket_that_cannot_send_is_a_failure_of_that_try_only() {
    let working = udp(|query, _| vec![reply(&query, 0)]).await;
    // EACCES: broadcasting was not asked for.
    let forbidden = SocketAddr::from(([255, 255, 255, 255], 53));
    let both = Group::new(options(Protocol::Udp), &[forbidden, working.address]);
    assert_eq!(ask(&both, "www").await.unwrap().server.address(), working.address);
    assert_eq!(snapshot(&both, 0).queries[0][Outcome::Unreachable as usize], 1);
    assert!(matches!(ask(&group(forbidden), "www").await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn sockets_are_bounded_and_the_rest_waits() {
    let server = udp(|query, _| vec![reply(&query, 0)]).await;
    let group = Group::new(Options { max_sockets: 2, ..options(Protocol::Udp) }, &[server.address]);
    let all = (0..50).map(|_| ask(&group, "www"));
    assert!(futures_util::future::join_all(all).await.iter().all(Result::is_ok));
    assert_eq!(server.seen(), 50);
}

#[tokio::test]
async fn b24_an_error_to_edns_is_followed_by_one_query_without() {
    let mut badvers = OPT;
    badvers[5] = 1;
    let with_opt = move |query: &[u8]| {
        let mut answer = reply(query, 0);
        answer[11] = 1;
        answer.extend(badvers);
        answer
    };
    type Answer = Box<dyn Fn(&[u8]) -> Vec<u8> + Send>;
    let answers: [(&str, Answer); 4] = [
        ("FORMERR", Box::new(|query| reply(query, rcode::FORMERR))),
        (
            "FORMERR without question",
            Box::new(|query| {
                let mut bare = reply(query, rcode::FORMERR)[..header::LEN].to_vec();
                bare[5] = 0;
                bare
            }),
        ),
        ("NOTIMP", Box::new(|query| reply(query, rcode::NOTIMP))),
        ("BADVERS", Box::new(with_opt)),
    ];
    for (name, error) in answers {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let noted = sizes.clone();
        let server = udp(move |query, _| {
            noted.lock().unwrap().push(query.len());
            let edns = header::Header::read(&query).unwrap().arcount > 0;
            vec![if edns { error(&query) } else { reply(&query, 0) }]
        })
        .await;
        let group = group(server.address);
        let answer = ask_with_opt(&group, "www").await.unwrap();
        assert_eq!(header::Header::read(&answer.message).unwrap().rcode(), rcode::NOERROR, "{name}");
        ask_with_opt(&group, "www").await.unwrap();
        let (long, short) = (query_with_opt("www").len(), query("www").len());
        assert_eq!(*sizes.lock().unwrap(), [long, short, short], "{name}: remembered");
    }
}

#[tokio::test]
async fn b24_a_server_that_errs_without_edns_too_is_not_remembered_as_old() {
    let server = udp(|query, _| vec![reply(&query, rcode::FORMERR)]).await;
    let group = group(server.address);
    for asked in [2, 4] {
        let answer = ask_with_opt(&group, "www").await.unwrap();
        assert_eq!(header::Header::read(&answer.message).unwrap().rcode(), rcode::FORMERR);
        assert_eq!(server.seen(), asked, "with and without OPT, every time");
    }
}

#[tokio::test]
async fn a_message_that_cannot_be_one_is_not_sent() {
    let server = udp(|query, _| vec![reply(&query, 0)]).await;
    let group = group(server.address);
    for message in [vec![0; 11], vec![0; 65536]] {
        let query = Query { message: &message, opt_len: 0 };
        let result = crate::upstream::Exchange::exchange(&group, query, tokio::time::Instant::now() + LONG).await;
        assert!(matches!(result, Err(Error::BadQuery { octets }) if octets == message.len()));
    }
    assert_eq!(server.seen(), 0);
}
