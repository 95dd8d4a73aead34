//! One query to one server over plain UDP or TCP: send, wait, match the reply, retry over TCP when it is truncated.
//!
//! A reply counts only when id and question match (RFC 5452 §9.1); over UDP all else is ignored until time is up.

use crate::wire::header::{self, Header};
use crate::wire::question::{self, Mismatch};
use hickory_proto::op::Message;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time;

/// How long an exchange may take per transport: longer than a nodens server gives its upstreams, so that its own
/// SERVFAIL arrives.
const PATIENCE: Duration = Duration::from_secs(6);
/// When a UDP query that got no reply is sent once more.
const RESEND: Duration = Duration::from_secs(1);

/// How a message travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// One datagram each way.
    Udp,
    /// A connection for this query alone.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
        })
    }
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing that matches came in time.
    #[error("no reply from {server} over {transport} within {} s", PATIENCE.as_secs())]
    Timeout {
        /// Who was asked.
        server: SocketAddr,
        /// How.
        transport: Transport,
    },
    /// The network said no.
    #[error("cannot ask {server} over {transport}: {error}")]
    Network {
        /// Who was asked.
        server: SocketAddr,
        /// How.
        transport: Transport,
        /// What the system said.
        error: io::Error,
    },
    /// A reply came over TCP that is not one to this query.
    #[error("{server} sent over tcp what is no reply to this query ({0:?})", mismatch)]
    Mismatch {
        /// Who was asked.
        server: SocketAddr,
        /// In what it differs.
        mismatch: Mismatch,
    },
    /// The reply is not a DNS message.
    #[error("the reply of {server} over {transport} cannot be read: {error}")]
    Unreadable {
        /// Who was asked.
        server: SocketAddr,
        /// How.
        transport: Transport,
        /// What the decoder said.
        error: String,
    },
}

/// A reply and how it travelled.
#[derive(Debug)]
pub struct Exchanged {
    /// The reply.
    pub reply: Message,
    /// Its size in octets.
    pub octets: usize,
    /// How the reply came.
    pub transport: Transport,
    /// The reply over UDP was truncated, so TCP was used after all.
    pub truncated: bool,
    /// From the first octet sent to the reply read, both transports together.
    pub elapsed: Duration,
}

/// Sends `query`, a whole message, to `server`, over TCP at once if `tcp`; waits at most 6 s per transport.
pub async fn ask(server: SocketAddr, query: &[u8], tcp: bool) -> Result<Exchanged, Error> {
    let started = Instant::now();
    let mut truncated = false;
    let mut transport = if tcp { Transport::Tcp } else { Transport::Udp };
    let mut reply = within(server, transport, query).await?;
    if transport == Transport::Udp && Header::read(&reply).is_some_and(|h| h.flags & header::TC != 0) {
        truncated = true;
        transport = Transport::Tcp;
        reply = within(server, transport, query).await?;
    }
    let elapsed = started.elapsed();
    if let (Transport::Tcp, Err(mismatch)) = (transport, question::is_reply_to(query, &reply)) {
        return Err(Error::Mismatch { server, mismatch });
    }
    let octets = reply.len();
    let reply = Message::from_vec(&reply).map_err(|e| Error::Unreadable { server, transport, error: e.to_string() })?;
    Ok(Exchanged { reply, octets, transport, truncated, elapsed })
}

async fn within(server: SocketAddr, transport: Transport, query: &[u8]) -> Result<Vec<u8>, Error> {
    let exchange = async {
        match transport {
            Transport::Udp => over_udp(server, query).await,
            Transport::Tcp => over_tcp(server, query).await,
        }
    };
    match time::timeout(PATIENCE, exchange).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(error)) => Err(Error::Network { server, transport, error }),
        Err(_) => Err(Error::Timeout { server, transport }),
    }
}

/// Waits for ever: the caller sets the limit.
async fn over_udp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any = match server {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    match time::timeout(RESEND, matching(&socket, query)).await {
        Ok(reply) => reply,
        Err(_) => {
            socket.send(query).await?;
            matching(&socket, query).await
        }
    }
}

/// The first datagram that is a reply to `query`.
async fn matching(socket: &UdpSocket, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(reply) = buffer.get(..length)
            && question::is_reply_to(query, reply).is_ok()
        {
            return Ok(reply.to_vec());
        }
    }
}

async fn over_tcp(server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let too_long = |_| io::Error::new(io::ErrorKind::InvalidInput, "a message of more than 65535 octets");
    let length = u16::try_from(query.len()).map_err(too_long)?;
    let mut stream = TcpStream::connect(server).await?;
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let mut reply = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut reply).await?;
    Ok(reply)
}
