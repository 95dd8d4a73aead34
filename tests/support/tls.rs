//! A DNS server over TLS on a loopback port, with an issuer of its own; a closure says what it answers.

use super::{framed, read_framed};
use hickory_proto::op::Message;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use tempfile::TempDir;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The name that its certificate is for.
pub const NAME: &str = "dns.corp.example";

/// The running server. Its port stays open until the test ends.
pub struct TlsUpstream {
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    directory: TempDir,
}

impl TlsUpstream {
    /// Starts one whose certificate is valid until the end of the year `until`.
    pub fn start(until: i32, answer: impl Fn(&Message) -> Message + Send + Sync + 'static) -> TlsUpstream {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();

        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(until, 12, 31);
        let chain = vec![CertificateDer::from(params.signed_by(&key, &issuer).unwrap())];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(chain, key).unwrap());

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let (counter, answer) = (Arc::clone(&connections), Arc::new(answer));
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                counter.fetch_add(1, Ordering::SeqCst);
                let (config, answer) = (Arc::clone(&config), Arc::clone(&answer));
                thread::spawn(move || serve(stream, config, &*answer));
            }
        });
        TlsUpstream { address, connections, directory }
    }

    /// The file for `forward.ca`.
    pub fn ca(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// As `forward.to` names it.
    pub fn target(&self) -> String {
        format!("tls://{}#{NAME}", self.address)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// Answers on `stream` until it ends.
fn serve(stream: TcpStream, config: Arc<ServerConfig>, answer: &dyn Fn(&Message) -> Message) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    while let Some(query) = read_framed(&mut stream) {
        let answer = answer(&Message::from_vec(&query).unwrap()).to_vec().unwrap();
        if stream.write_all(&framed(&answer)).and_then(|()| stream.flush()).is_err() {
            return;
        }
    }
}
