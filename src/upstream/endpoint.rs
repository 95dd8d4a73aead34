//! What a server is told apart by: its address, and for one that is spoken to under encryption alone, the name that it
//! must prove to have.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// A server. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    address: SocketAddr,
    security: Option<Arc<Security>>,
}

/// How a server is spoken to under encryption.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Security {
    /// The protocol, as it is written before `://`.
    pub scheme: &'static str,
    /// Whom its certificate must be for.
    pub name: String,
    /// A file with the certificates of those who may sign its own, PEM; those that the system trusts when `None`.
    pub ca: Option<PathBuf>,
    /// Who we prove to be, if the server is to be told.
    pub identity: Option<Identity>,
}

/// Files, PEM, that prove who a client is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The client's certificate, and those between it and the issuer that the server knows.
    pub certificate: PathBuf,
    /// The private key that belongs to it.
    pub key: PathBuf,
}

impl Endpoint {
    /// A server at `address` that is spoken to under encryption alone.
    pub fn secure(address: SocketAddr, security: Security) -> Endpoint {
        Endpoint { address, security: Some(Arc::new(security)) }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is spoken to, if that is not the group's protocol.
    pub fn security(&self) -> Option<&Security> {
        self.security.as_deref()
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        Endpoint { address, security: None }
    }
}

impl From<&SocketAddr> for Endpoint {
    fn from(address: &SocketAddr) -> Endpoint {
        Endpoint::from(*address)
    }
}

impl fmt::Display for Endpoint {
    /// `10.0.0.10:53`, `tls://10.1.0.54:853#dns.corp.example`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.security {
            None => self.address.fmt(f),
            Some(security) => write!(f, "{}://{}#{}", security.scheme, self.address, security.name),
        }
    }
}
