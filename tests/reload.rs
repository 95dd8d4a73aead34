//! Rows G4 to G6 of the behaviour table: a changed configuration takes effect, an invalid one does not, and neither costs
//! an answer.

#![allow(clippy::unwrap_used, reason = "what a test cannot go on without")]

mod support;

use hickory_proto::rr::RecordType;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::client::{GOOD, receive, receive_udp, send, tcp_from, udp_from};
use support::server::{Server, forward};
use support::upstream::Upstream;
use support::{addresses, query};

const A: RecordType = RecordType::A;

fn upstream() -> Upstream {
    Upstream::start(|q| addresses(&q.message(), 1, 300).into())
}

fn reloads(server: &Server, outcome: &str) -> f64 {
    server.metric("nodens_config_reloads_total", outcome)
}

#[test]
fn g04_a_reload_under_load_keeps_the_cache_and_loses_nothing() {
    let (before, after) = (upstream(), upstream());
    let mut server = Server::forwarding_to(before.address());
    (0..50).for_each(|n| drop(server.udp(&query(&format!("n{n}.example."), A))));
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..4 {
            let (stop, answered, dns) = (&stop, &answered, server.dns);
            scope.spawn(move || {
                let socket = udp_from(GOOD, dns);
                let mut stream = tcp_from(GOOD, dns);
                for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                    // Hits and, now and then, a miss; the one question is asked when the other is answered.
                    let name =
                        if n % 20 == 0 { format!("c{client}-{n}.example.") } else { format!("n{}.example.", n % 50) };
                    let asked = query(&name, A);
                    socket.send(&asked.to_vec().unwrap()).unwrap();
                    assert_eq!(receive_udp(&socket).answers.len(), 1);
                    send(&mut stream, &asked);
                    assert_eq!(receive(&mut stream).answers.len(), 1);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let more = |server: &mut Server| {
            let already = answered.load(Ordering::Relaxed);
            server.until("queries go on", |_| answered.load(Ordering::Relaxed) > already + 200);
        };
        for (n, upstream) in [&after, &before, &after].into_iter().enumerate() {
            more(&mut server);
            server.rewrite(&forward(upstream.address()));
            server.signal("HUP");
            server.until("it is loaded", |server| reloads(server, "loaded") == (n + 1) as f64);
        }
        more(&mut server);
        stop.store(true, Ordering::Relaxed);
    });
    assert!(after.received().iter().any(|q| q.name().starts_with('c')), "the new upstream is asked");
    let asked_again =
        |n| before.asked_for(&format!("n{n}.example.")).len() + after.asked_for(&format!("n{n}.example.")).len();
    assert!((0..50).all(|n| asked_again(n) == 1), "what was in the cache is");
}

#[test]
fn g05_an_invalid_configuration_is_refused_and_the_old_one_stays() {
    let (upstream, elsewhere) = (upstream(), upstream());
    let mut server = Server::forwarding_to(upstream.address());
    server.udp(&query("a.example.", A));
    let invalid = forward(elsewhere.address()) + "cache:\n  maxBytes: many\n  failureTtl: 9h\nlimit: {}\n";
    let line = 1 + server.whole(&invalid).lines().position(|line| line.contains("maxBytes")).unwrap();
    server.rewrite(&invalid);
    server.signal("HUP");
    server.until("it is refused", |server| reloads(server, "refused") >= 1.0);
    assert_eq!(server.metric("nodens_config_last_reload_successful", ""), 0.0);
    for wanted in [&format!("nodens.yaml:{line}:"), "cache.maxBytes", "cache.failureTtl", "limits"] {
        server.until_logged(wanted);
    }
    for broken in ["\u{0}", "zones: [", "- a\n- b\n", "zones: *nobody\n", &"[".repeat(10_000)] {
        let refused = reloads(&server, "refused");
        std::fs::write(server.config_path(), broken).unwrap();
        server.signal("HUP");
        server.until("it is refused", |server| reloads(server, "refused") > refused);
    }
    let refused = reloads(&server, "refused");
    std::fs::remove_file(server.config_path()).unwrap();
    server.signal("HUP");
    server.until("a missing file is refused", |server| reloads(server, "refused") > refused);
    server.udp(&query("a.example.", A));
    assert_eq!(server.udp(&query("b.example.", A)).answers.len(), 1);
    assert_eq!((upstream.asked_for("a.example.").len(), upstream.asked_for("b.example.").len()), (1, 1));
    assert!(elsewhere.received().is_empty());
    server.rewrite(&forward(elsewhere.address()));
    server.until("a good one is loaded", |server| reloads(server, "loaded") == 1.0);
    assert_eq!(server.metric("nodens_config_last_reload_successful", ""), 1.0);
}

#[test]
fn g06_a_swapped_configmap_is_noticed() {
    let (before, after) = (upstream(), upstream());
    let mut server = Server::forwarding_to(before.address());
    let directory = server.config_path().parent().unwrap().to_owned();
    // As kubelet lays a ConfigMap out: the file is a link through `..data` to a directory that is never changed.
    let version = |n: u32, upstream: &Upstream| {
        let name = format!("..2026_{n}");
        std::fs::create_dir(directory.join(&name)).unwrap();
        std::fs::write(directory.join(&name).join("nodens.yaml"), server.whole(&forward(upstream.address()))).unwrap();
        let link = directory.join("..data_tmp");
        std::os::unix::fs::symlink(&name, &link).unwrap();
        std::fs::rename(link, directory.join("..data")).unwrap();
    };
    version(1, &before);
    std::os::unix::fs::symlink("..data/nodens.yaml", directory.join("link")).unwrap();
    std::fs::rename(directory.join("link"), server.config_path()).unwrap();
    server.udp(&query("kept.example.", A));
    version(2, &after);
    let begin = Instant::now();
    server.until("it is loaded", |server| reloads(server, "loaded") == 1.0);
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    server.udp(&query("kept.example.", A));
    server.udp(&query("new.example.", A));
    assert_eq!((after.asked_for("new.example.").len(), after.asked_for("kept.example.").len()), (1, 0));
}
