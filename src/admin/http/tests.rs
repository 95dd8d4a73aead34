//! The server over real sockets, as probes, scrapers and worse meet it.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::sys::clock::Clock;

/// How long a test waits for what must come.
const LONG: Duration = Duration::from_secs(30);

struct Subject {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
    _tasks: JoinSet<io::Result<Infallible>>,
}

fn start(health: bool, limits: Limits) -> Subject {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (metrics, readiness) = (Metrics::new(), Readiness::new(Clock::System));
    let routes = if health { Routes::Health(readiness.clone()) } else { Routes::Metrics };
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, routes, metrics.clone(), limits));
    Subject { address, metrics, readiness, _tasks: tasks }
}

impl Subject {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends `request` and returns all that comes back until the server closes.
    async fn send(&self, request: &[u8]) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request).await.unwrap();
        rest(&mut stream).await
    }

    async fn get(&self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await
    }
}

/// All that is left to read; a reset ends it as well as an orderly close.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = async {
        let mut buffer = [0; 4096];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..n]);
        }
    };
    timeout(LONG, read).await.expect("the server keeps the connection open");
    String::from_utf8(bytes).unwrap()
}

fn status(answer: &str) -> &str {
    answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or(answer)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn metrics_are_served_as_prometheus_text() {
    let subject = start(false, Limits::default());
    subject.metrics.coalesced.add(3);
    let answer = subject.get("/metrics").await;
    assert_eq!(status(&answer), "200");
    assert!(answer.contains("content-type: text/plain; version=0.0.4\r\n"), "{answer}");
    assert!(body(&answer).contains("\nnodens_coalesced_total 3\n"), "{answer}");
}

#[tokio::test]
async fn each_listener_serves_its_own_paths_only() {
    let metrics = start(false, Limits::default());
    let health = start(true, Limits::default());
    for path in ["/", "/health", "/ready", "/metrics/", "/metrics2"] {
        assert_eq!(status(&metrics.get(path).await), "404", "{path}");
    }
    for path in ["/", "/metrics", "/healthz"] {
        assert_eq!(status(&health.get(path).await), "404", "{path}");
    }
    assert_eq!(status(&metrics.get("/metrics?name=x").await), "200");
    let answer = health.get("/health").await;
    assert_eq!((status(&answer), body(&answer)), ("200", "OK\n"));
}

#[tokio::test]
async fn head_has_no_body_and_other_methods_are_refused() {
    let subject = start(true, Limits::default());
    let head = subject.send(b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!((status(&head), body(&head)), ("200", ""));
    assert!(head.contains("content-length: 3\r\n"), "{head}");
    let post = subject.send(b"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n").await;
    assert_eq!(status(&post), "405");
    assert!(post.contains("allow: GET, HEAD\r\n"), "{post}");
    assert_eq!(status(&subject.send(b"POST /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").await), "404");
    assert_eq!(status(&subject.send(b"what is this\r\n\r\n").await), "400");
}

#[tokio::test]
async fn ready_follows_its_conditions() {
    let subject = start(true, Limits::default());
    let upstream = subject.readiness.register("upstream");
    let answer = subject.get("/ready").await;
    assert_eq!((status(&answer), body(&answer)), ("503", "not ready\nFAILED upstream: not yet\n"));
    assert_eq!(status(&subject.get("/health").await), "200", "not ready is still alive");
    upstream.set(true, "reached");
    let answer = subject.get("/ready").await;
    assert_eq!((status(&answer), body(&answer)), ("200", "ready\nok     upstream: reached\n"));
}

#[tokio::test]
async fn f14_a_huge_header_is_refused() {
    let subject = start(false, Limits::default());
    let huge = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(9 * 1024));
    assert_eq!(status(&subject.send(huge.as_bytes()).await), "431");
    let many = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{}\r\n", "a: b\r\n".repeat(500));
    assert_eq!(status(&subject.send(many.as_bytes()).await), "431");
    // One that never ends: the server must hang up, not collect.
    let mut stream = subject.connect().await;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nX: ").await.unwrap();
    let endless = async { while stream.write_all(&[b'x'; 4096]).await.is_ok() {} };
    timeout(LONG, endless).await.expect("the server reads an endless header");
    assert_eq!(status(&subject.get("/metrics").await), "200");
}

#[tokio::test]
async fn f14_a_slow_header_is_cut_off() {
    let limits = Limits { header_time: Duration::from_millis(50), ..Limits::default() };
    let subject = start(false, limits);
    for opening in ["", "GET /metrics HTTP/1.1\r\nHost:"] {
        let mut stream = subject.connect().await;
        stream.write_all(opening.as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(!answer.contains("200"), "{answer}");
    }
}

#[tokio::test]
async fn f14_a_slow_body_is_not_waited_for() {
    let subject = start(false, Limits::default());
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc";
    assert_eq!(status(&subject.send(request).await), "200");
    let request = b"POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab";
    assert_eq!(status(&subject.send(request).await), "405");
}

#[tokio::test]
async fn f14_a_client_that_does_not_read_is_cut_off() {
    let limits = Limits { total_time: Duration::from_millis(100), ..Limits::default() };
    let subject = start(false, limits);
    // More than the sockets on both sides can hold.
    let help = "Filler.";
    subject.metrics.register(Box::new(move |sink| {
        for n in 0..200_000 {
            sink.gauge("filler", help, &[("n", &format!("{n:0>64}"))], 0.0);
        }
    }));
    let mut stream = subject.connect().await;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    // The answer starts; then it is not read for longer than the server has patience. Both wait on one timer wheel, so
    // the server's time is up first however slow the machine.
    stream.readable().await.unwrap();
    sleep(limits.total_time * 2).await;
    let answer = rest(&mut stream).await;
    let promised = answer.split("content-length: ").nth(1).and_then(|l| l.split_once('\r')).unwrap().0;
    assert!(body(&answer).len() < promised.parse().unwrap(), "it was all sent");
}

#[tokio::test]
async fn f14_idle_connections_do_not_keep_a_probe_out() {
    let limits = Limits { connections: 8, ..Limits::default() };
    let subject = start(true, limits);
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(subject.connect().await);
    }
    let answer = subject.get("/health").await;
    assert_eq!(status(&answer), "200");
    // 101 came; of these the eight newest may stay, and the one that was answered is through.
    assert!(subject.metrics.http_closed.get() >= 92, "{}", subject.metrics.http_closed.get());
    assert_eq!(rest(&mut idle[0]).await, "", "the oldest is closed");
}

#[tokio::test]
async fn a_connection_carries_one_request() {
    let subject = start(true, Limits::default());
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let answer = subject.send(request).await;
    assert_eq!(answer.matches("HTTP/1.1 200").count(), 1, "{answer}");
    assert!(answer.contains("connection: close\r\n"), "{answer}");
}
