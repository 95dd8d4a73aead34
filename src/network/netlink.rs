//! Netlink without a runtime: one blocking socket, requests and their answers in order.
//!
//! The guardian has no async runtime, so neither rtnetlink nor its relatives fit; messages are those of the
//! `netlink-packet-*` crates. Every call waits for the kernel's answer, which comes before `sendmsg` returns.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Room for what the kernel says at once, in octets; dumps come in pieces of at most 32 KiB.
const ROOM: usize = 64 << 10;

/// How long an answer may take. It is there when a request has been sent; should one ever be missing, the guardian must
/// not wait for it for good.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how long a dump that changes under our eyes is begun again. Where somebody writes all the time, and there is much
/// to read, it would never end.
const DUMP_PATIENCE: Duration = Duration::from_millis(100);

/// Set on messages of a dump during which what is dumped changed (linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;

/// The largest transaction, in octets: a standing table of some thousand endpoints.
const LARGEST: usize = 4 << 20;

/// A socket for requests. Closed on exec; what the kernel keeps for its owner goes when it is dropped.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// A socket of `protocol` (`NETLINK_ROUTE`, `NETLINK_NETFILTER`) in the current network namespace.
    ///
    /// # Errors
    /// What the kernel says to `socket` or `bind`.
    pub fn open(protocol: isize) -> io::Result<Netlink> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        // A transaction is one datagram. Without CAP_NET_ADMIN this fails, and so would any transaction.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&socket, LARGEST);
        // Acknowledgements need not repeat the request.
        socket.set_cap_ack(true)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Our address, as notifications name who caused them.
    ///
    /// # Errors
    /// What the kernel says to `getsockname`.
    pub fn port(&self) -> io::Result<u32> {
        let mut address = SocketAddr::new(0, 0);
        self.socket.get_address(&mut address)?;
        Ok(address.port_number())
    }

    /// Has the kernel do one thing; `flags` are those beside `NLM_F_REQUEST` and `NLM_F_ACK`.
    ///
    /// # Errors
    /// Why it did not, as errno.
    pub fn change<T>(&mut self, message: T, flags: u16) -> io::Result<()>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        self.changes(vec![(message, flags | NLM_F_ACK)])
    }

    /// Sends messages together, as nftables wants a transaction. Those with `NLM_F_ACK` among their flags are waited
    /// for.
    ///
    /// # Errors
    /// The first that the kernel names.
    pub fn changes<T>(&mut self, messages: Vec<(T, u16)>) -> io::Result<()>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        let mut buffer = Vec::new();
        let mut awaited = Vec::new();
        let first = self.sequence.wrapping_add(1);
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX);
        for (message, flags) in messages {
            let sequence = self.write(&mut buffer, message, flags);
            if flags & NLM_F_ACK != 0 {
                awaited.push(sequence);
            }
        }
        self.socket.send(&buffer, 0)?;
        while !awaited.is_empty() {
            for (header, payload) in self.receive::<T>()? {
                let NetlinkPayload::Error(error) = payload else { continue };
                // Not an answer to an earlier transaction, of which nobody waited for the rest.
                let ours = header.sequence_number.wrapping_sub(first) < count;
                if error.code.is_some() && ours {
                    // The kernel has undone all of it; what else it says of it is passed over.
                    return Err(error.to_io());
                }
                awaited.retain(|&waiting| waiting != header.sequence_number);
            }
        }
        Ok(())
    }

    /// The one thing that `message` asks for.
    ///
    /// # Errors
    /// Why the kernel does not say, as errno; `InvalidData` when its answer cannot be read.
    pub fn get<T>(&mut self, message: T) -> io::Result<T>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        let mut buffer = Vec::new();
        let wanted = self.write(&mut buffer, message, NLM_F_ACK);
        self.socket.send(&buffer, 0)?;
        let mut found = None;
        loop {
            for (header, payload) in self.receive::<T>()? {
                if header.sequence_number != wanted {
                    continue;
                }
                match payload {
                    NetlinkPayload::InnerMessage(inner) => found = Some(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return found.ok_or_else(|| io::ErrorKind::InvalidData.into()),
                    _ => {}
                }
            }
        }
    }

    /// What `keep` makes of all that the kernel lists for `message`, begun again when it changes meanwhile. What cannot be
    /// read is left out. Only what is kept takes memory: a host may have a hundred thousand rules of others.
    ///
    /// # Errors
    /// Why it does not, as errno.
    pub fn dump<T, U>(&mut self, message: T, keep: impl Fn(T) -> Option<U>) -> io::Result<Vec<U>>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>> + Clone,
    {
        let begin = Instant::now();
        loop {
            match self.dump_once(message.clone(), &keep) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted && begin.elapsed() < DUMP_PATIENCE => {}
                other => return other,
            }
        }
    }

    fn dump_once<T, U>(&mut self, message: T, keep: impl Fn(T) -> Option<U>) -> io::Result<Vec<U>>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        let mut buffer = Vec::new();
        let wanted = self.write(&mut buffer, message, NLM_F_DUMP);
        self.socket.send(&buffer, 0)?;
        let (mut found, mut torn) = (Vec::new(), false);
        loop {
            for (header, payload) in self.receive::<T>()? {
                if header.sequence_number != wanted {
                    continue;
                }
                torn |= header.flags & NLM_F_DUMP_INTR != 0;
                match payload {
                    NetlinkPayload::InnerMessage(inner) => found.extend(keep(inner)),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(done) => return ended(done.code, torn).map(|()| found),
                    _ => {}
                }
            }
        }
    }

    /// Appends a message to `buffer` and returns its number.
    fn write<T>(&mut self, buffer: &mut Vec<u8>, message: T, flags: u16) -> u32
    where
        T: NetlinkSerializable + Into<NetlinkPayload<T>>,
    {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let start = buffer.len();
        // The kernel wants each message to begin at a multiple of four.
        buffer.resize(start + message.buffer_len().next_multiple_of(4), 0);
        message.serialize(&mut buffer[start..]);
        self.sequence
    }

    /// What the kernel says next.
    fn receive<T: NetlinkDeserializable>(&self) -> io::Result<Vec<(NetlinkHeader, NetlinkPayload<T>)>> {
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => return messages(&datagram),
                // A signal; the kernel would refuse a second dump while one is half read.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
                Err(error) => return Err(error),
            }
        }
    }
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// How a dump has ended: with an error on the way, whole, or `torn` by a change meanwhile.
fn ended(code: i32, torn: bool) -> io::Result<()> {
    match code {
        ..0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ if torn => Err(io::ErrorKind::Interrupted.into()),
        _ => Ok(()),
    }
}

/// The messages of a datagram.
///
/// One that cannot be read is left out: a newer kernel may say things of other people's links and rules that the crates
/// do not know, which is no reason to see nothing of our own.
fn messages<T: NetlinkDeserializable>(mut datagram: &[u8]) -> io::Result<Vec<(NetlinkHeader, NetlinkPayload<T>)>> {
    let mut found = Vec::new();
    while !datagram.is_empty() {
        let length = NetlinkBuffer::new_checked(datagram).map_err(io::Error::other)?.length() as usize;
        match NetlinkMessage::<T>::deserialize(datagram) {
            Ok(message) => found.push(message.into_parts()),
            Err(error) => tracing::debug!(%error, "a netlink message is passed over"),
        }
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// Notifications of changes, whoever makes them. Non-blocking; to be polled.
pub struct Events {
    socket: Socket,
}

impl Events {
    /// Listens to multicast `groups` of `protocol`.
    ///
    /// # Errors
    /// What the kernel says to `socket`, `bind` or `setsockopt`.
    pub fn listen(protocol: isize, groups: &[u32]) -> io::Result<Events> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        groups.iter().try_for_each(|&group| socket.add_membership(group))?;
        socket.set_non_blocking(true)?;
        Ok(Events { socket })
    }

    /// Reads everything that has come, and tells whether there was anything not caused by `own` sockets. That some
    /// were lost (ENOBUFS) counts as something.
    pub fn drain(&self, own: &[u32]) -> bool {
        let mut any = false;
        let mut buffer = Vec::with_capacity(ROOM);
        loop {
            buffer.clear();
            match self.socket.recv_from(&mut buffer, 0) {
                Ok((0, _)) => return any,
                // sequence number and port follow length, type and flags (struct nlmsghdr)
                Ok(_) => any |= port_of(&buffer).is_none_or(|port| !own.contains(&port)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return any,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
    }
}

/// Who caused the first message of a datagram.
fn port_of(datagram: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(datagram.get(12..16)?.try_into().ok()?))
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::RouteNetlinkMessage;
    use netlink_packet_route::link::{LinkAttribute, LinkMessage};

    /// A message of `kind` with this number and content, padded.
    fn message(kind: u16, sequence: u32, content: &[u8]) -> Vec<u8> {
        let length = 16 + content.len() as u32;
        let mut octets =
            [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[0; 2], &sequence.to_ne_bytes(), &[0; 4], content]
                .concat();
        octets.resize(octets.len().next_multiple_of(4), 0);
        octets
    }

    /// RTM_NEWADDR, and one of its messages on 127.0.0.1.
    const ADDRESS: (u16, [u8; 16]) = (20, [2, 8, 0, 0, 1, 0, 0, 0, 8, 0, 2, 0, 127, 0, 0, 1]);

    fn numbers(datagram: &[u8]) -> io::Result<Vec<u32>> {
        let found = messages::<RouteNetlinkMessage>(datagram)?;
        Ok(found.into_iter().map(|(header, _)| header.sequence_number).collect())
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_else() {
        let good = |sequence| message(ADDRESS.0, sequence, &ADDRESS.1);
        // An IPv4 address of five octets, padded; and a kind of message that nobody knows.
        let bad = message(ADDRESS.0, 2, &[2, 8, 0, 0, 1, 0, 0, 0, 9, 0, 2, 0, 127, 0, 0, 1, 9]);
        let unknown = message(0xfff, 3, &[]);
        assert_eq!(numbers(&[good(1), bad, unknown, good(4)].concat()).unwrap(), [1, 4]);
    }

    #[test]
    fn lengths_that_cannot_be_are_errors() {
        let mut short = message(ADDRESS.0, 1, &ADDRESS.1);
        for length in [0u32, 15, 33] {
            short[..4].copy_from_slice(&length.to_ne_bytes());
            assert!(numbers(&short).is_err(), "{length}");
        }
        assert!(numbers(&[32, 0, 0]).is_err());
        assert_eq!(numbers(&[]).unwrap(), [0; 0]);
    }

    #[test]
    fn a_dump_ends_well_torn_or_with_an_error() {
        assert!(ended(0, false).is_ok());
        assert_eq!(ended(0, true).unwrap_err().kind(), io::ErrorKind::Interrupted);
        assert_eq!(ended(-libc::EPERM, true).unwrap_err().raw_os_error(), Some(libc::EPERM));
        assert!(ended(i32::MIN, false).is_err());
    }

    #[test]
    fn one_thing_is_asked_for_and_its_absence_is_no_answer_to_the_next() {
        let mut netlink = Netlink::open(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
        let mut index = |name: &str| {
            let mut message = LinkMessage::default();
            message.attributes.push(LinkAttribute::IfName(name.to_owned()));
            match netlink.get(RouteNetlinkMessage::GetLink(message))? {
                RouteNetlinkMessage::NewLink(link) => Ok(link.header.index),
                _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
            }
        };
        for _ in 0..3 {
            assert_eq!(index("lo").unwrap(), 1);
            assert_eq!(index("no-such-link").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        }
    }
}
