//! Encrypted servers: who is trusted, what is never sent, and the life of their connections.

use super::support::*;
use crate::upstream::{Endpoint, Error, Group, Identity, Options, Outcome, Protocol, Security, Transport};
use futures_util::future::join_all;
use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio_rustls::server::TlsStream;

const NAME: &str = "dns.corp.example";

/// An issuer, with its certificate in a file.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

impl Authority {
    fn new() -> Authority {
        Authority::called("issuer")
    }

    fn called(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authority = Authority { issuer, folder: tempfile::tempdir().unwrap() };
        std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    /// The file for `forward.ca`.
    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// What a server called `name` until the end of the year `until` presents.
    fn signs(&self, name: &str, until: i32) -> Arc<ServerConfig> {
        self.signs_for(name, until, rustls::ALL_VERSIONS)
    }

    fn signs_for(&self, name: &str, until: i32, versions: &[&'static SupportedProtocolVersion]) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        present(certificate, &key, versions)
    }

    /// The server at `address` that must have the name [`NAME`] and a certificate of ours.
    fn expects(&self, address: SocketAddr) -> Endpoint {
        endpoint(address, Some(self.file()))
    }
}

fn endpoint(address: SocketAddr, ca: Option<PathBuf>) -> Endpoint {
    Endpoint::secure(address, Security { scheme: "tls", name: NAME.to_owned(), ca, identity: None })
}

/// What a server with this certificate and key is configured with.
fn present(
    certificate: Certificate,
    key: &KeyPair,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ServerConfig> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
    Arc::new(builder.with_single_cert(vec![certificate.into()], key).unwrap())
}

/// A server over TLS that runs `script` for every connection whose handshake succeeds.
async fn tls<F>(config: Arc<ServerConfig>, script: impl Fn(TlsStream<TcpStream>, usize) -> F + Send + 'static) -> Script
where
    F: Future<Output = ()> + Send + 'static,
{
    let script = Arc::new(Mutex::new(script));
    tcp(move |stream, n| {
        let (config, script) = (config.clone(), script.clone());
        async move {
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                let running = script.lock().unwrap()(stream, n);
                running.await;
            }
        }
    })
    .await
}

/// A group of encrypted servers, in this order.
fn group(servers: &[Endpoint]) -> Group {
    // Whatever protocol the others are spoken to by: these are not.
    Group::new(options(Protocol::Auto), servers)
}

/// Asks the one server of `endpoint`, which must fail for `reason`, say so, and be passed over for a plain one after it.
async fn d24_fails(endpoint: Endpoint, reason: &str) {
    let alone = group(std::slice::from_ref(&endpoint));
    let error = ask(&alone, "secret").await.unwrap_err();
    assert_eq!(error.to_string(), format!("upstream {endpoint}: {reason}"));
    assert!(matches!(error, Error::Untrusted { .. }) && error.ede() == 23, "{error:?}");
    let cells = snapshot(&alone, 0);
    assert!(cells.failing[Transport::Tls as usize], "health is told");
    assert!(cells.queries[Transport::Tls as usize][Outcome::Untrusted as usize] >= 1, "{cells:?}");
    assert_eq!((cells.queries[0], cells.queries[1], cells.dials), ([0; 10], [0; 10], 0));

    let next = tcp(|stream, _| answer_all(stream)).await;
    let both = Group::new(options(Protocol::Tcp), &[endpoint, next.address.into()]);
    assert_eq!(ask(&both, "www").await.unwrap().server.address(), next.address);
}

#[tokio::test]
async fn d24_a_query_goes_over_tls_to_a_server_that_proves_its_name() {
    let authority = Authority::new();
    for versions in [[&version::TLS13], [&version::TLS12]] {
        let server = tls(authority.signs_for(NAME, 4000, &versions), |stream, _| answer_all(stream)).await;
        let group = group(&[authority.expects(server.address)]);
        let reply = ask_with_opt(&group, "www").await.unwrap();
        assert_eq!((reply.transport, reply.server), (Transport::Tls, authority.expects(server.address)));
        for _ in 0..20 {
            ask(&group, "www").await.unwrap();
        }
        let cells = snapshot(&group, 0);
        assert_eq!((server.seen(), cells.dials), (1, 1), "one connection for all of them");
        assert_eq!(cells.queries[Transport::Tls as usize][Outcome::Ok as usize], 21);
        assert_eq!((cells.queries[0], cells.queries[1]), ([0; 10], [0; 10]));
    }
}

#[tokio::test]
async fn d24_expired_certificate() {
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 2020), |stream, _| answer_all(stream)).await;
    d24_fails(authority.expects(server.address), "certificate expired").await;
}

#[tokio::test]
async fn d24_wrong_name() {
    let authority = Authority::new();
    let server = tls(authority.signs("dns.other.example", 4000), |stream, _| answer_all(stream)).await;
    d24_fails(authority.expects(server.address), "certificate is not for dns.corp.example").await;
}

#[tokio::test]
async fn d24_unknown_issuer() {
    let (ours, others) = (Authority::called("ours"), Authority::called("others"));
    let server = tls(others.signs(NAME, 4000), |stream, _| answer_all(stream)).await;
    let reason = format!("certificate signed by nobody in {} (forward.ca)", ours.file().display());
    d24_fails(ours.expects(server.address), &reason).await;
    let named = tls(Authority::called("ours").signs(NAME, 4000), |stream, _| answer_all(stream)).await;
    let reason = "certificate not signed by the issuer that it names; has that one a new key?";
    d24_fails(ours.expects(named.address), reason).await;
    let reason = "certificate signed by nobody whom the system trusts; forward.ca names others";
    d24_fails(endpoint(server.address, None), reason).await;
}

#[tokio::test]
async fn d24_an_issuers_certificate_is_no_servers() {
    // What `openssl req -x509` makes unless it is told otherwise.
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let certificate = params.self_signed(&key).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate.pem()).unwrap();
    let server = tls(present(certificate, &key, rustls::ALL_VERSIONS), |stream, _| answer_all(stream)).await;
    let reason = "certificate is an issuer's own (CA:TRUE) and no server's";
    d24_fails(endpoint(server.address, Some(file)), reason).await;
}

#[tokio::test]
async fn d24_every_query_has_a_record_of_its_own() {
    // Like NSD: takes what one record holds for one query, and waits for the next record.
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 4000), |mut stream, _| async move {
        while let Ok(record @ [_, ..]) = stream.fill_buf().await {
            let (record, length) = (record.to_vec(), usize::from(u16::from_be_bytes([record[0], record[1]])));
            stream.consume(record.len());
            send(&mut stream, &reply(&record[2..][..length], 0)).await;
        }
    })
    .await;
    let one = Options { max_connections: 1, ..options(Protocol::Tcp) };
    let group = Group::new(one, &[authority.expects(server.address)]);
    let names: Vec<_> = (0..40).map(|n| format!("name{n}")).collect();
    for _ in 0..5 {
        for answer in join_all(names.iter().map(|name| ask(&group, name))).await {
            answer.unwrap();
        }
    }
}

#[tokio::test]
async fn d24_a_file_of_issuers_that_cannot_be_used_is_named() {
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 4000), |stream, _| answer_all(stream)).await;
    let path = authority.file();
    let cannot = |why: &str| format!("cannot use {} (forward.ca): {why}", path.display());
    std::fs::write(&path, "nothing of the kind").unwrap();
    d24_fails(authority.expects(server.address), &cannot("no certificate of an issuer in it")).await;
    std::fs::remove_file(&path).unwrap();
    d24_fails(authority.expects(server.address), &cannot("No such file or directory (os error 2)")).await;
}

#[tokio::test]
async fn d24_a_renewed_file_of_issuers_is_taken_up() {
    let (old, new) = (Authority::called("old"), Authority::called("new"));
    let server = tls(new.signs(NAME, 4000), |stream, _| answer_all(stream)).await;
    let group = group(&[old.expects(server.address)]);
    ask(&group, "www").await.unwrap_err();
    std::fs::copy(new.file(), old.file()).unwrap();
    ask(&group, "www").await.unwrap();
}

#[tokio::test]
async fn d24_no_downgrade() {
    // Servers of plain DNS on that port, over TCP and UDP, that would answer; all that comes is kept.
    let seen = Arc::new(Mutex::new(Vec::new()));
    let kept = seen.clone();
    let server = tcp(move |mut stream, _| {
        let kept = kept.clone();
        async move {
            let mut octets = [0; 4096];
            while let Ok(n @ 1..) = stream.read(&mut octets).await {
                kept.lock().unwrap().extend_from_slice(&octets[..n]);
                // To a server of plain DNS the greeting is the beginning of a message; this one answers all the same.
                send(&mut stream, &reply(&query("secret"), 0)).await;
            }
        }
    })
    .await;
    let datagrams = tokio::net::UdpSocket::bind(server.address).await.unwrap();
    let authority = Authority::new();
    for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Auto] {
        let group = Group::new(options(protocol), &[authority.expects(server.address)]);
        for _ in 0..3 {
            let error = ask(&group, "secret").await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("upstream tls://{}#{NAME}: does not speak TLS on this port", server.address)
            );
        }
        let cells = snapshot(&group, 0);
        assert_eq!((cells.queries[0], cells.queries[1]), ([0; 10], [0; 10]));
    }
    let seen = seen.lock().unwrap();
    assert!(seen.len() > 100 && seen[0] == 22, "greetings came");
    assert!(!seen.windows(6).any(|octets| octets == b"secret"), "but no question");
    assert!(datagrams.try_recv(&mut [0; 512]).is_err(), "nor did any datagram");
}

#[tokio::test]
async fn d24_a_full_pool_does_not_overflow_to_udp() {
    let authority = Authority::new();
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let server = tls(authority.signs(NAME, 4000), move |stream, _| {
        let gate = held.clone();
        async move {
            let _ = gate.acquire().await.unwrap();
            answer_all(stream).await;
        }
    })
    .await;
    let datagrams = tokio::net::UdpSocket::bind(server.address).await.unwrap();
    let group = group(&[authority.expects(server.address)]);
    let names: Vec<_> = (0..400).map(|n| format!("name{n}")).collect();
    let all = join_all(names.iter().map(|name| ask(&group, name)));
    let open = async {
        until(&group, |s| s.in_flight == 400 && s.connections.busy == 4).await;
        gate.add_permits(1);
    };
    let (answers, ()) = tokio::join!(all, open);
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(snapshot(&group, 0).overflows, 0);
    assert!(datagrams.try_recv(&mut [0; 512]).is_err());
}

#[tokio::test]
async fn d24_handshake_hangs() {
    let authority = Authority::new();
    let server = tcp(|stream, _| hang(stream)).await;
    let started = Instant::now();
    // Packets may be lost as well: nothing is said of who is there.
    let alone = group(&[authority.expects(server.address)]);
    let error = ask_until(&alone, "secret", started + LONG / 2).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert!(started.elapsed() <= LONG);
    let cells = snapshot(&alone, 0);
    assert_eq!((cells.queries[0], cells.queries[1], cells.dials), ([0; 10], [0; 10], 0));
    let next = tcp(|stream, _| answer_all(stream)).await;
    let both = Group::new(options(Protocol::Tcp), &[authority.expects(server.address), next.address.into()]);
    assert_eq!(ask(&both, "www").await.unwrap().server.address(), next.address);
    let server = tcp(|stream, _| async move { drop(stream) }).await;
    let group = group(&[authority.expects(server.address)]);
    let error = ask(&group, "www").await.unwrap_err().to_string();
    assert!(error.contains("closed the connection before it answered"), "{error}");
}

#[tokio::test]
async fn d24_silent_close() {
    let authority = Authority::new();
    // Every connection answers one query and ends without a farewell when the next one comes.
    let server = tls(authority.signs(NAME, 4000), |mut stream, _| async move {
        let query = read_query(&mut stream).await.unwrap();
        send(&mut stream, &reply(&query, 0)).await;
        read_query(&mut stream).await;
        drop(stream.into_inner().0);
    })
    .await;
    let group = group(&[authority.expects(server.address)]);
    for n in 1..=5 {
        ask(&group, "www").await.unwrap();
        assert_eq!(server.seen(), n);
    }
    let cells = snapshot(&group, 0);
    assert_eq!(cells.queries[Transport::Tls as usize][Outcome::Ok as usize], 5);
    assert_eq!((cells.retries, cells.failing), (4, [false; 3]), "asked once more on a new connection, no harm done");

    // One that never answers has failed, and says what happened without a library's prose.
    let server = tls(authority.signs(NAME, 4000), |mut stream, _| async move {
        read_query(&mut stream).await;
        drop(stream.into_inner().0);
    })
    .await;
    let group = self::group(&[authority.expects(server.address)]);
    let error = ask(&group, "www").await.unwrap_err();
    assert!(matches!(error, Error::Closed { source: None, .. }), "{error}");
    assert!(snapshot(&group, 0).failing[Transport::Tls as usize]);
}

#[tokio::test]
async fn d24_replies_out_of_order_reach_their_queries() {
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 4000), |mut stream, _| async move {
        // The first is for the connection's sake; the others are answered last first.
        let first = read_query(&mut stream).await.unwrap();
        send(&mut stream, &reply(&first, 0)).await;
        let mut queries = Vec::new();
        while queries.len() < 10 {
            queries.extend(read_query(&mut stream).await);
        }
        for query in queries.iter().rev() {
            send(&mut stream, &reply(query, 0)).await;
        }
        answer_all(stream).await;
    })
    .await;
    let one = Options { max_connections: 1, ..options(Protocol::Tcp) };
    let group = Group::new(one, &[authority.expects(server.address)]);
    ask(&group, "first").await.unwrap();
    let names: Vec<_> = (0..10).map(|n| format!("name{n}")).collect();
    let answers = join_all(names.iter().map(|name| ask(&group, name))).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn d24_a_reply_to_another_question_is_none() {
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 4000), |mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            send(&mut stream, &other_question(&query)).await;
        }
    })
    .await;
    let group = group(&[authority.expects(server.address)]);
    assert!(matches!(ask(&group, "www").await.unwrap_err(), Error::BadReply { .. }));
}

#[tokio::test]
async fn d16_a_name_that_is_never_answered_delays_no_other_over_tls() {
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 4000), |mut stream, _| async move {
        while let Some(query) = read_query(&mut stream).await {
            if label(&query) != "lost" {
                send(&mut stream, &reply(&query, 0)).await;
            }
        }
    })
    .await;
    let brief = Options { timeout: Duration::from_millis(300), max_connections: 1, ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[authority.expects(server.address)]);
    let lost = ask_until(&group, "lost", Instant::now() + Duration::from_millis(300));
    let others = async {
        let end = Instant::now() + Duration::from_millis(450);
        while Instant::now() < end {
            ask(&group, "quick").await.unwrap();
        }
    };
    let (lost, ()) = tokio::join!(lost, others);
    assert!(matches!(lost, Err(Error::Timeout { .. })), "{lost:?}");
    assert_eq!((snapshot(&group, 0).retries, snapshot(&group, 0).connections.busy > 0), (0, true));
}

#[tokio::test]
async fn d06_a_silent_connection_is_replaced_over_tls() {
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 4000), |mut stream, n| async move {
        if n == 0 {
            let query = read_query(&mut stream).await.unwrap();
            send(&mut stream, &reply(&query, 0)).await;
            return hang(stream).await;
        }
        answer_all(stream).await;
    })
    .await;
    let brief = Options { timeout: Duration::from_millis(300), max_connections: 1, ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[authority.expects(server.address)]);
    ask(&group, "first").await.unwrap();
    ask(&group, "second").await.unwrap();
    assert_eq!(server.seen(), 2);
}

#[tokio::test]
async fn d24_an_idle_connection_is_closed_with_a_farewell_and_not_replaced() {
    let authority = Authority::new();
    let (closed, mut was_closed) = mpsc::channel(1);
    let server = tls(authority.signs(NAME, 4000), move |mut stream, _| {
        let closed = closed.clone();
        async move {
            let query = read_query(&mut stream).await.unwrap();
            send(&mut stream, &reply(&query, 0)).await;
            // An end without a farewell would be an error here.
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
            closed.send(()).await.unwrap();
        }
    })
    .await;
    let brief = Options { idle: Duration::from_millis(50), ..options(Protocol::Tcp) };
    let group = Group::new(brief, &[authority.expects(server.address)]);
    ask(&group, "www").await.unwrap();
    timeout(LONG, was_closed.recv()).await.unwrap().unwrap();
    until(&group, |s| s.connections == Default::default()).await;
    assert_eq!(server.seen(), 1);
}

#[tokio::test]
async fn d25_a_burst_opens_one_connection_first_and_few_in_all() {
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 4000), |stream, _| answer_all(stream)).await;
    let group = group(&[authority.expects(server.address)]);
    let names: Vec<_> = (0..60).map(|n| format!("name{n}")).collect();
    for answer in join_all(names.iter().map(|name| ask(&group, name))).await {
        answer.unwrap();
    }
    assert!(server.seen() <= 4, "{} connections", server.seen());
}

/// A server that asks who its clients are, and takes those whose certificates `clients` has signed.
fn asks_back(
    authority: &Authority,
    clients: &Authority,
    version: &'static SupportedProtocolVersion,
) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(clients.issuer.as_ref().clone().into()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    Arc::new(builder.with_client_cert_verifier(verifier).with_single_cert(vec![certificate.into()], key).unwrap())
}

/// Files of a client that `authority` has signed, called by number.
fn client(authority: &Authority, number: u8) -> Identity {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority.issuer).unwrap();
    let file = |kind| authority.folder.path().join(format!("{number}.{kind}"));
    std::fs::write(file("crt"), certificate.pem()).unwrap();
    std::fs::write(file("key"), key.serialize_pem()).unwrap();
    Identity { certificate: file("crt"), key: file("key") }
}

#[tokio::test]
async fn a_server_that_asks_who_we_are_is_told() {
    let (authority, clients, strangers) = (Authority::new(), Authority::called("clients"), Authority::called("others"));
    for version in [&version::TLS13, &version::TLS12] {
        let server = tls(asks_back(&authority, &clients, version), |stream, _| answer_all(stream)).await;
        let as_client = |identity| {
            let security = Security { scheme: "tls", name: NAME.to_owned(), ca: Some(authority.file()), identity };
            group(&[Endpoint::secure(server.address, security)])
        };
        ask(&as_client(Some(client(&clients, 1))), "www").await.unwrap();
        for unknown in [None, Some(client(&strangers, 1))] {
            let error = ask(&as_client(unknown), "www").await.unwrap_err();
            assert!(error.to_string().contains("alert"), "{error}");
        }
        // A renewed certificate is taken up, one that cannot be used is named.
        let renewed = client(&strangers, 2);
        let group = as_client(Some(renewed.clone()));
        ask(&group, "www").await.unwrap_err();
        let good = client(&clients, 2);
        std::fs::copy(&good.certificate, &renewed.certificate).unwrap();
        let (key, certificate) = (renewed.key.display(), renewed.certificate.display());
        let error = ask(&group, "www").await.unwrap_err();
        let text = format!("{key} (forward.key) is not the key of {certificate} (forward.certificate)");
        assert!(error.to_string().ends_with(&text), "{error}");
        std::fs::copy(&good.key, &renewed.key).unwrap();
        ask(&group, "www").await.unwrap();
    }
}

#[tokio::test]
async fn files_that_prove_nothing_are_named() {
    let authority = Authority::new();
    let server = tls(authority.signs(NAME, 4000), |stream, _| answer_all(stream)).await;
    let good = client(&authority, 1);
    let path = |name: &str| authority.folder.path().join(name);
    std::fs::write(path("empty"), "nothing of the kind").unwrap();
    for (identity, reason) in [
        (Identity { certificate: path("none"), ..good.clone() }, "none (forward.certificate): No such file"),
        (Identity { certificate: path("empty"), ..good.clone() }, "empty (forward.certificate): no certificate in it"),
        (
            Identity { certificate: good.key.clone(), ..good.clone() },
            "1.key (forward.certificate): no certificate in it",
        ),
        (Identity { key: path("none"), ..good.clone() }, "none (forward.key): No such file"),
        (Identity { key: path("empty"), ..good.clone() }, "empty (forward.key): "),
    ] {
        let ca = Some(authority.file());
        let security = Security { scheme: "tls", name: NAME.to_owned(), ca, identity: Some(identity) };
        let error = ask(&group(&[Endpoint::secure(server.address, security)]), "www").await.unwrap_err().to_string();
        assert!(error.contains("cannot use ") && error.contains(reason), "{error}");
    }
}

#[tokio::test]
async fn a_certificate_may_be_for_an_address() {
    let authority = Authority::new();
    let server = tls(authority.signs("127.0.0.1", 4000), |stream, _| answer_all(stream)).await;
    let of = |name: &str| {
        let (name, ca) = (name.to_owned(), Some(authority.file()));
        Endpoint::secure(server.address, Security { scheme: "tls", name, ca, identity: None })
    };
    ask(&group(&[of("127.0.0.1")]), "www").await.unwrap();
    let error = ask(&group(&[of("127.0.0.2")]), "www").await.unwrap_err();
    assert!(error.to_string().ends_with("certificate is not for 127.0.0.2"), "{error}");
}
