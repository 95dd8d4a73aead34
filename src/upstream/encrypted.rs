//! DNS over TLS (RFC 7858) by the strict profile of RFC 8310: a server proves to have the name that was configured, by a
//! certificate that somebody trusted has signed and that is valid now, or it is not asked at all.
//!
//! This makes the encrypted connection and says why there is none; what runs on it is the connection of `stream`, so
//! that pool, ages, retries and health are those of TCP. hickory's exchange would know none of these: it matches replies
//! by id alone, drops a connection that others use when one query is late, and never closes one that is idle.
//! Trust is read anew for every connection (`trust`), and no session is resumed: a certificate that has expired, or an
//! issuer that was removed, serves no longer than the connection that is open.

mod trust;

use super::server::Server;
use super::{Endpoint, Error, Security};
use futures_util::FutureExt;
use std::fmt::Display;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, CertificateError, ClientConfig};

/// Connections to one server at most. Servers of this kind answer in any order, so that few are enough; that it is not
/// one is for those that do not.
pub(super) const CONNECTIONS: usize = 4;
/// Queries that share one of them.
pub(super) const DEPTH: usize = 64;

/// A connection that has been opened.
pub(super) enum Link {
    /// Nobody has to prove anything.
    Plain(TcpStream),
    /// The server has proved who it is.
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Link {
    /// The part that the connection's task has to itself, and the part by which anybody may write. Nothing is written
    /// under encryption but by the task: what it encrypts has an order.
    pub(super) fn split(self) -> (Own, Option<OwnedWriteHalf>) {
        match self {
            Link::Plain(stream) => {
                let (read, write) = stream.into_split();
                (Own::Plain(read), Some(write))
            }
            Link::Encrypted(stream) => (Own::Encrypted(stream), None),
        }
    }
}

/// What the task of a connection reads from, and under encryption writes to.
pub(super) enum Own {
    /// The half of the socket that is read.
    Plain(OwnedReadHalf),
    /// All of it.
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Own {
    /// Reads what is there.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Own::Plain(read) => Pin::new(read).poll_read(cx, buffer),
            Own::Encrypted(stream) => Pin::new(stream).poll_read(cx, buffer).map(|result| match result {
                // Closed without a farewell. Messages say how long they are: none is taken for whole because of it.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
                result => result,
            }),
        }
    }

    /// Writes some of `octets`: by `write` where there is such a thing.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        write: &mut Option<OwnedWriteHalf>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        match (self, write) {
            (Own::Encrypted(stream), _) => Pin::new(stream).poll_write(cx, first(octets)),
            (Own::Plain(_), Some(write)) => Pin::new(write).poll_write(cx, octets),
            (Own::Plain(_), None) => Poll::Pending,
        }
    }

    /// Sends what has been encrypted and not yet sent.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Own::Plain(_) => Poll::Ready(Ok(())),
            Own::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    /// Tells the server that this was all (RFC 8446 §6.1), if that can be done at once.
    pub(super) fn farewell(&mut self) {
        if let Own::Encrypted(stream) = self {
            let _ = stream.shutdown().now_or_never();
        }
    }
}

/// The first message of those in `octets`. Each goes into a record of its own: there are servers that answer the first
/// of a record and then wait for the socket, while their TLS library has had the others all along (NSD 4.6).
fn first(octets: &[u8]) -> &[u8] {
    match octets {
        [high, low, ..] => &octets[..octets.len().min(2 + usize::from(u16::from_be_bytes([*high, *low])))],
        _ => octets,
    }
}

/// Makes of `stream` the connection that `server` wants, until `deadline`.
pub(super) async fn link(server: &Server, stream: TcpStream, deadline: Instant) -> Result<Link, Error> {
    let Some(security) = server.endpoint().security() else { return Ok(Link::Plain(stream)) };
    let began = Instant::now();
    let (reason, error) = match timeout_at(deadline, handshake(security, stream)).await {
        Ok(Ok(stream)) => return Ok(Link::Encrypted(Box::new(stream))),
        Ok(Err(Failed { reason, broken: None })) => (reason.clone(), untrusted(server.endpoint(), &reason)),
        // A connection may break at any time, and says nothing of who is at its end.
        Ok(Err(Failed { reason, broken: Some(source) })) => {
            (reason, Error::Closed { server: server.address(), source: Some(Arc::new(source)) })
        }
        Err(_) => {
            let reason = "the TLS handshake was not finished in time; does it speak TLS on this port?".to_owned();
            (reason, Error::Timeout { server: server.address(), after: began.elapsed() })
        }
    };
    complain(server, &reason);
    Err(error)
}

/// The error that says so.
pub(super) fn untrusted(server: &Endpoint, reason: &str) -> Error {
    Error::Untrusted { server: server.clone(), reason: reason.into() }
}

/// A line in the log, now and then: when another server answers, nothing else tells of this one.
fn complain(server: &Server, reason: &str) {
    if let Some(suppressed) = server.may_complain(Instant::now()) {
        let upstream = server.endpoint();
        tracing::warn!(%upstream, reason, suppressed, "no encrypted connection to an upstream; it is not asked in plain");
    }
}

/// A handshake that failed.
struct Failed {
    /// What is wrong, in words.
    reason: String,
    /// What the kernel said, where it is the connection that failed.
    broken: Option<io::Error>,
}

impl From<String> for Failed {
    fn from(reason: String) -> Failed {
        Failed { reason, broken: None }
    }
}

/// TLS on `stream`; the error says what is wrong.
async fn handshake(security: &Security, stream: TcpStream) -> Result<TlsStream<TcpStream>, Failed> {
    let roots = trust::roots(security.ca.as_deref()).await?;
    let name = ServerName::try_from(security.name.clone())
        .map_err(|error| format!("no certificate can be for {}: {error}", security.name))?;
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots);
    let mut config = match &security.identity {
        None => config.with_no_client_auth(),
        Some(files) => {
            let (chain, key) = trust::identity(files)?;
            config.with_client_auth_cert(chain, key).map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => format!(
                    "{} (forward.key) is not the key of {} (forward.certificate)",
                    files.key.display(),
                    files.certificate.display()
                ),
                error => format!("cannot use {} (forward.key): {error}", files.key.display()),
            })?
        }
    };
    config.resumption = Resumption::disabled();
    let connect = TlsConnector::from(Arc::new(config)).connect(name, stream);
    connect.await.map_err(|error| Failed {
        reason: reason(&error, security),
        broken: error.get_ref().is_none_or(|inner| !inner.is::<rustls::Error>()).then_some(error),
    })
}

/// What to say of a handshake that failed.
fn reason(error: &io::Error, security: &Security) -> String {
    let failed = |error: &dyn Display| format!("the TLS handshake failed: {error}");
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => refusal(error, security),
        Some(rustls::Error::InvalidMessage(_)) => "does not speak TLS on this port".to_owned(),
        Some(error) => failed(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "closed the connection in the TLS handshake; does it speak TLS on this port?".to_owned()
        }
        None => failed(error),
    }
}

/// What is wrong with a certificate.
fn refusal(error: &CertificateError, security: &Security) -> String {
    use CertificateError::*;
    match error {
        Expired | ExpiredContext { .. } => "certificate expired".to_owned(),
        NotValidYet | NotValidYetContext { .. } => "certificate not valid yet; is the node's clock right?".to_owned(),
        NotValidForName | NotValidForNameContext { .. } => format!("certificate is not for {}", security.name),
        UnknownIssuer => match &security.ca {
            Some(path) => format!("certificate signed by nobody in {} (forward.ca)", path.display()),
            None => "certificate signed by nobody whom the system trusts; forward.ca names others".to_owned(),
        },
        Other(error) if error.to_string() == "CaUsedAsEndEntity" => {
            "certificate is an issuer's own (CA:TRUE) and no server's".to_owned()
        }
        BadSignature => "certificate not signed by the issuer that it names; has that one a new key?".to_owned(),
        error => format!("certificate not accepted: {error}"),
    }
}
