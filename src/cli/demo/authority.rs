//! The demo's upstream: hickory-server with in-memory zones on a loopback port of its own, UDP and TCP.

use super::zone;
use hickory_server::Server;
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, ZoneType};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, UdpSocket};

/// When an idle TCP connection is closed: CoreDNS's number.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// Responses that may wait on one TCP connection.
const TCP_RESPONSES: usize = 32;
/// How many ports are tried for one that is free for UDP and TCP.
const PORT_ATTEMPTS: usize = 16;

/// Why the server is not there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The built-in data is broken.
    #[error(transparent)]
    Zone(#[from] zone::Error),
    /// The built-in data is not what a server can serve.
    #[error("cannot load a built-in zone: {0}")]
    Load(String),
    /// No port.
    #[error("cannot bind a loopback port for the embedded authoritative server (udp and tcp): {0}")]
    Bind(#[source] io::Error),
}

/// A running server; it stops when this is dropped.
pub struct Authority {
    address: SocketAddr,
    _server: Server<Catalog>,
}

impl Authority {
    /// Starts the server inside the current tokio runtime.
    pub async fn start() -> Result<Authority, Error> {
        let mut catalog = Catalog::new();
        for zone in zone::all()? {
            let key = zone::key(&zone);
            let (origin, records) = zone;
            let handler: InMemoryZoneHandler =
                InMemoryZoneHandler::new(origin, records, ZoneType::Primary, AxfrPolicy::Deny).map_err(Error::Load)?;
            catalog.upsert(key, vec![Arc::new(handler)]);
        }
        let (udp, tcp) = bind().await.map_err(Error::Bind)?;
        let address = udp.local_addr().map_err(Error::Bind)?;
        let mut server = Server::new(catalog);
        server.register_socket(udp);
        server.register_listener(tcp, TCP_IDLE, TCP_RESPONSES);
        Ok(Authority { address, _server: server })
    }

    /// Where it answers, over UDP and TCP.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A UDP socket and a TCP listener on one loopback port that the system chooses.
async fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut attempt = 1;
    loop {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(e) if attempt == PORT_ATTEMPTS || e.kind() != io::ErrorKind::AddrInUse => return Err(e),
            Err(_) => attempt += 1,
        }
    }
}

#[cfg(test)]
mod tests;
