//! What guardian and server say to each other: JSON, one message per packet of a `SOCK_SEQPACKET` pair.
//!
//! The server parses hostile packets and is not trusted: what comes from it is bounded in size and checked by whoever
//! uses it. The end of file tells either that the other is gone.

use crate::network::host::Status;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;

/// Most octets of a message.
pub const LONGEST: usize = 16 << 10;

/// From the guardian to the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// How things stand; sent at the start and when something changes.
    State(Box<State>),
    /// The sockets are open.
    Open,
    /// Close TCP connections behind an answer: packets of theirs will not find their way for long.
    Farewell,
    /// Save the cache, if it is to be kept: another instance starts and will read it.
    Save,
    /// Take sockets out of their groups, answer what has arrived, end.
    Stop,
}

/// From the server to the guardian.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// Everything is prepared, and the sockets may be opened.
    Ready,
    /// Everything runs: from now on probes are answered by this very server.
    Serving,
    /// Where kube-dns is to be found when nobody answers here; never empty.
    Endpoints(Vec<SocketAddr>),
}

/// How the node's network and the server's past stand: what metrics and `/ready` show of the guardian.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The network.
    pub network: Status,
    /// Servers replaced, by reason: `exit`, `signal`, `panic`, `oom`, `hang`.
    pub restarts: BTreeMap<String, u64>,
}

/// A packet with `message`.
///
/// # Errors
/// When it cannot be written as JSON or is too long.
pub fn pack<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let packet = serde_json::to_vec(message)?;
    if packet.len() > LONGEST { Err(io::ErrorKind::InvalidInput.into()) } else { Ok(packet) }
}

/// The message in a packet.
///
/// # Errors
/// When it is none.
pub fn unpack<T: DeserializeOwned>(packet: &[u8]) -> io::Result<T> {
    Ok(serde_json::from_slice(packet)?)
}

/// A pair of connected ends, closed on exec. That they are called datagram sockets is for want of a type for packets in
/// sequence.
///
/// # Errors
/// What the kernel says to `socketpair`.
pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
    Ok((ours.into(), theirs.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_go_both_ways_and_the_end_is_seen() {
        let (ours, theirs) = pair().unwrap();
        let network = Status { firewall: "nftables".to_owned(), notrack: true, ..Status::default() };
        let state = State { network, restarts: [("hang".to_owned(), 1)].into() };
        for order in [Order::State(Box::new(state)), Order::Open, Order::Farewell, Order::Save, Order::Stop] {
            ours.send(&pack(&order).unwrap()).unwrap();
            let mut room = [0; LONGEST];
            let len = theirs.recv(&mut room).unwrap();
            assert_eq!(unpack::<Order>(&room[..len]).unwrap(), order);
        }
        drop(theirs);
        assert_eq!(ours.recv(&mut [0; 16]).unwrap(), 0);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert!(unpack::<Report>(b"").is_err());
        assert!(unpack::<Report>(b"{\"Endpoints\":[\"name:53\"]}").is_err());
    }
}
