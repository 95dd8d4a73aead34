//! Asks a listen address the question of [`crate::wire::probe`], and wants any reply.
//!
//! That a socket is bound says nothing: its thread may be gone. A probe takes the way of a query, so it sees what a
//! client sees. The reply's content does not matter; a refusal is an answer.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::wire::{header, probe};

/// How long a probe waits in all.
const PATIENCE: Duration = Duration::from_secs(1);

/// After how long a datagram is sent again: a full queue may have dropped the first.
const RESEND: Duration = Duration::from_millis(400);

/// Asks `address` over UDP.
///
/// # Errors
/// When there is no reply within a second.
pub async fn udp(address: SocketAddr) -> io::Result<()> {
    let any: SocketAddr =
        if address.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let exchange = async {
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        let id = rand::random();
        loop {
            socket.send(&probe::query(id)).await?;
            if let Ok(heard) = timeout(RESEND, reply(&socket, id)).await {
                return heard;
            }
        }
    };
    within_patience(exchange).await
}

/// Asks `address` over TCP (RFC 7766 §8).
///
/// # Errors
/// When there is no reply within a second.
pub async fn tcp(address: SocketAddr) -> io::Result<()> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let id = rand::random();
        stream.write_all(&probe::framed(id)).await?;
        let mut head = [0; 2 + header::LEN];
        stream.read_exact(&mut head).await?;
        if probe::answers(&head[2..], id) { Ok(()) } else { Err(io::Error::other("the reply is to another query")) }
    };
    within_patience(exchange).await
}

async fn within_patience(exchange: impl Future<Output = io::Result<()>>) -> io::Result<()> {
    let late = |_| io::Error::new(ErrorKind::TimedOut, "no reply within 1 s");
    timeout(PATIENCE, exchange).await.map_err(late)?
}

/// Waits for the reply to `id`, whatever else arrives.
async fn reply(socket: &UdpSocket, id: u16) -> io::Result<()> {
    // The header is enough: the kernel drops the rest of the datagram.
    let mut head = [0; header::LEN];
    loop {
        let len = socket.recv(&mut head).await?;
        if probe::answers(&head[..len], id) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// Makes a query its own reply.
    fn turned(query: &[u8]) -> Vec<u8> {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        reply
    }

    #[tokio::test]
    async fn g13_a_udp_listener_that_answers_is_heard_even_if_the_first_datagram_is_lost() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            socket.recv_from(&mut buffer).await.unwrap();
            let (len, from) = socket.recv_from(&mut buffer).await.unwrap();
            assert_eq!(len, probe::LEN);
            let mut other = turned(&buffer[..len]);
            other[0] ^= 1;
            socket.send_to(&other, from).await.unwrap();
            socket.send_to(&turned(&buffer[..len]), from).await.unwrap();
        });
        udp(address).await.unwrap();
    }

    #[tokio::test]
    async fn g13_a_udp_listener_whose_worker_is_gone_is_not() {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let error = udp(socket.local_addr().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn g13_a_closed_udp_port_is_noticed_at_once() {
        let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(udp(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn g13_tcp_answered_unanswered_and_misanswered() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            for wrong_id in [0, 1] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut framed = [0; 2 + probe::LEN];
                stream.read_exact(&mut framed).await.unwrap();
                let mut reply = turned(&framed[2..]);
                reply[0] ^= wrong_id;
                stream.write_all(&framed[..2]).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
            listener
        });
        tcp(address).await.unwrap();
        assert_eq!(tcp(address).await.unwrap_err().to_string(), "the reply is to another query");
        let listener = server.await.unwrap();
        // The kernel completes the handshake; nobody accepts.
        assert_eq!(tcp(address).await.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(listener);
        assert_eq!(tcp(address).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
