//! Rows D25 and F12 of the behaviour table: ten thousand who ask for one name that has just expired, and one who saves up
//! slow answers to have them all sent at once.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};
use support::client::{GOOD, RUDE, edns_query, extended_error, receive_udp, udp_from};
use support::server::{Server, forward_to};
use support::upstream::Upstream;
use support::{DEADLINE, addresses, query};

const A: RecordType = RecordType::A;
/// An answer after its lifetime (RFC 8914).
const STALE_ANSWER: u16 = 3;
/// Who asks: pods, and sockets of each, none of which is left with more answers than its buffer holds.
const PODS: u8 = 20;
const SOCKETS: usize = 10;
const EACH: usize = 50;

/// An upstream that answers the first query for each name at once and all others when `Sender` is dropped, with
/// a lifetime of one second.
fn quick_once() -> (Upstream, mpsc::Sender<()>) {
    let (release, held) = mpsc::channel::<()>();
    let (held, seen) = (Mutex::new(held), Mutex::new(std::collections::HashSet::new()));
    let upstream = Upstream::start(move |q| {
        if !seen.lock().unwrap().insert(q.name()) {
            let _ = held.lock().unwrap().recv();
        }
        addresses(&q.message(), 1, 1).into()
    });
    (upstream, release)
}

/// A server of which any number may wait for an answer.
fn server(upstream: &Upstream, cache: &str) -> Server {
    let limits = "limits: { inFlight: 20000, inFlightPerClient: 1000 }\n";
    let forward = forward_to(&[upstream.address()], "timeout: 4500ms");
    Server::start(&format!("{forward}{limits}cache: {{ prefetch: {{ enabled: false }}, {cache} }}\n"))
}

/// Has `name` answered and forgotten: at the end somebody waits for it, or got an old answer.
fn expire(server: &Server, upstream: &Upstream, name: &str) {
    let asked = edns_query(name);
    assert_eq!(server.udp(&asked).answers.len(), 1);
    let socket = udp_from(GOOD, server.dns);
    let deadline = Instant::now() + DEADLINE;
    while upstream.asked_for(name).len() < 2 {
        assert!(Instant::now() < deadline, "{name} does not expire");
        socket.send(&asked.to_vec().unwrap()).unwrap();
        // Polling, with no meaning for the outcome.
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// All the sockets.
fn pods(server: &Server) -> Vec<UdpSocket> {
    let socket = |n: usize| udp_from(Ipv4Addr::new(127, 0, 9, (n / SOCKETS) as u8 + 1), server.dns);
    (0..usize::from(PODS) * SOCKETS).map(socket).collect()
}

#[test]
fn d25_ten_thousand_askers_of_an_expired_name_make_one_query() {
    let (upstream, release) = quick_once();
    // So patient that all of them wait at the same time.
    let mut server = server(&upstream, "serveStale: { clientWait: 4500ms }");
    let sockets = pods(&server);
    let name = "herd.example.";
    expire(&server, &upstream, name);
    let asked = edns_query(name).to_vec().unwrap();
    let before = server.metric("nodens_queries_total", "");
    for (n, socket) in sockets.iter().enumerate() {
        (0..EACH).for_each(|_| assert_eq!(socket.send(&asked).unwrap(), asked.len()));
        // In lots that any socket's buffer holds.
        if n % 4 == 3 {
            let sent = ((n + 1) * EACH) as f64;
            server.until("they are taken", |server| server.metric("nodens_queries_total", "") >= before + sent);
        }
    }
    drop(release);
    for socket in &sockets {
        for _ in 0..EACH {
            let answer = receive_udp(socket);
            assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::NoError, 1));
        }
    }
    // Once at first, and once for all of them; what takes so long may be asked once more, by no asker's doing.
    let times = upstream.asked_for(name).len();
    assert!((2..=5).contains(&times), "{times} queries");
}

#[test]
fn d25_ten_thousand_askers_of_an_expired_name_get_the_old_answer_from_a_silent_upstream() {
    let (upstream, release) = quick_once();
    let mut server = server(&upstream, "serveStale: { clientWait: 500ms }");
    let sockets = pods(&server);
    let name = "herd.example.";
    expire(&server, &upstream, name);
    let asked = edns_query(name).to_vec().unwrap();
    let mut stale = 0;
    for lot in sockets.chunks(4) {
        for socket in lot {
            (0..EACH).for_each(|_| assert_eq!(socket.send(&asked).unwrap(), asked.len()));
        }
        for socket in lot {
            for _ in 0..EACH {
                let answer = receive_udp(socket);
                assert_eq!(answer.answers.len(), 1, "{:?}", answer.metadata);
                stale += usize::from(extended_error(&answer) == Some(STALE_ANSWER));
            }
        }
    }
    assert_eq!(stale, usize::from(PODS) * SOCKETS * EACH);
    // A try that has had its time may be made once more, but no asker makes one.
    let times = upstream.asked_for(name).len();
    assert!(times <= 5, "{times} queries");
    drop(release);
    server.until("it is fresh again", |server| extended_error(&server.udp(&edns_query(name))).is_none());
}

#[test]
fn f12_dnsbomb_answers_that_were_saved_up_are_not_all_sent() {
    // What is asked for `slow…` waits for one word, each for its own.
    let gate = Arc::new((Mutex::new(false), std::sync::Condvar::new()));
    let inside = gate.clone();
    let upstream = Upstream::start(move |q| {
        if q.name().starts_with("slow") {
            let (open, changed) = &*inside;
            drop(changed.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        }
        addresses(&q.message(), 20, 300).into()
    });
    let mut server = Server::start(&forward_to(&[upstream.address()], "timeout: 4500ms"));
    let rude = udp_from(RUDE, server.dns);
    let good = udp_from(GOOD, server.dns);
    let saved_up: i32 = 400;
    for n in 0..saved_up {
        rude.send(&query(&format!("slow{n}.example."), A).to_vec().unwrap()).unwrap();
        // In lots that any socket's buffer holds.
        if n % 50 == 49 {
            server.until("they wait", |server| server.metric("nodens_in_flight", "") == f64::from(n + 1));
        }
    }
    let wanted = query("slow-and-wanted.example.", A);
    good.send(&wanted.to_vec().unwrap()).unwrap();
    upstream.wait_for_name("slow-and-wanted.example.");
    // So long that the answers are late, and so short that they still come.
    std::thread::sleep(Duration::from_millis(2200));
    {
        let (open, changed) = &*gate;
        *open.lock().unwrap() = true;
        changed.notify_all();
    }
    let answer = receive_udp(&good);
    assert_eq!((answer.metadata.id, answer.answers.len()), (wanted.metadata.id, 20), "who waits for one gets it, late");
    // Until nothing has come for a second.
    rude.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut buffer = [0; 4096];
    let pulse = std::iter::from_fn(|| rude.recv(&mut buffer).ok()).count();
    assert!(pulse <= 64, "{pulse} of {saved_up} answers in one go");
    assert!(server.metric("nodens_dropped_total", "\"late\"") >= f64::from(saved_up - 64));
    // It goes on being served.
    rude.set_read_timeout(Some(DEADLINE)).unwrap();
    rude.send(&query("slow0.example.", A).to_vec().unwrap()).unwrap();
    assert_eq!(receive_udp(&rude).answers.len(), 20);
}
