//! Netlink without a runtime: one blocking socket, requests and their answers in order.
//!
//! The guardian has no async runtime, so neither rtnetlink nor its relatives fit; messages are those of the
//! `netlink-packet-*` crates. Every call waits for the kernel's answer, which comes before `sendmsg` returns.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

/// Room for what the kernel says at once, in octets; dumps come in pieces of at most 32 KiB.
const ROOM: usize = 64 << 10;

/// How often a dump that changes under our eyes is begun again.
const DUMP_TRIES: usize = 8;

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
        let count = u32::try_from(messages.len()).unwrap_or(u32::MAX) + 1;
        for (message, flags) in messages {
            let sequence = self.write(&mut buffer, message, flags);
            if flags & NLM_F_ACK != 0 {
                awaited.push(sequence);
            }
        }
        self.socket.send(&buffer, 0)?;
        while let Some(&last) = awaited.last() {
            for (sequence, payload) in self.receive::<T>()? {
                let NetlinkPayload::Error(error) = payload else { continue };
                awaited.retain(|&waiting| waiting != sequence);
                // Not an answer to an earlier transaction, of which nobody waited for the rest.
                let ours = last.wrapping_sub(sequence) < count;
                if error.code.is_some() && ours {
                    // The kernel has undone all of it; what else it says of it is passed over.
                    return Err(error.to_io());
                }
            }
        }
        Ok(())
    }

    /// All that the kernel lists for `message`, begun again when it changes meanwhile.
    ///
    /// # Errors
    /// Why it does not, as errno.
    pub fn dump<T>(&mut self, message: T) -> io::Result<Vec<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>> + Clone,
    {
        let mut last = io::Error::from(io::ErrorKind::Interrupted);
        for _ in 0..DUMP_TRIES {
            match self.dump_once(message.clone()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    fn dump_once<T>(&mut self, message: T) -> io::Result<Vec<T>>
    where
        T: NetlinkSerializable + NetlinkDeserializable + Into<NetlinkPayload<T>>,
    {
        let mut buffer = Vec::new();
        let wanted = self.write(&mut buffer, message, NLM_F_DUMP);
        self.socket.send(&buffer, 0)?;
        let (mut found, mut torn) = (Vec::new(), false);
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for (header, payload) in messages::<T>(&datagram)? {
                if header.sequence_number != wanted {
                    continue;
                }
                torn |= header.flags & NLM_F_DUMP_INTR != 0;
                match payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Done(_) if torn => return Err(io::ErrorKind::Interrupted.into()),
                    NetlinkPayload::Done(_) => return Ok(found),
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

    fn receive<T: NetlinkDeserializable>(&self) -> io::Result<Vec<(u32, NetlinkPayload<T>)>> {
        let (datagram, _) = self.socket.recv_from_full()?;
        Ok(messages(&datagram)?.into_iter().map(|(header, payload)| (header.sequence_number, payload)).collect())
    }
}

/// The messages of a datagram.
fn messages<T: NetlinkDeserializable>(
    mut datagram: &[u8],
) -> io::Result<Vec<(netlink_packet_core::NetlinkHeader, NetlinkPayload<T>)>> {
    let mut found = Vec::new();
    while !datagram.is_empty() {
        let message = NetlinkMessage::<T>::deserialize(datagram).map_err(io::Error::other)?;
        let length = (message.header.length as usize).next_multiple_of(4).clamp(16, datagram.len().max(16));
        found.push(message.into_parts());
        datagram = datagram.get(length..).unwrap_or_default();
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
