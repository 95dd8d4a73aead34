//! Datagrams by the batch: `recvmmsg` and `sendmmsg` over buffers that are allocated once.
//!
//! Slot `i` holds a received packet, where it came from, and room for its reply. A reply is addressed by the kernel's
//! own record of the peer: no address is parsed on the way. Only the headers that the last call used are reset, since
//! most batches at ordinary load hold one packet.

#![expect(unsafe_code, reason = "the kernel is handed pointers into buffers that this module owns")]

use super::origin::Control;
use smallvec::SmallVec;
use socket2::SockAddr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

/// Packets per batch.
pub const BATCH: usize = 64;
/// Room per received packet, in octets; no sane query is longer.
pub const RECEIVE: usize = 2048;
/// Room per reply, in octets, unless more is asked for: the most that goes out in one datagram, rounded up.
pub const SEND: usize = 1280;

/// A peer's address as the kernel wrote it: large enough for IPv6.
type RawAddress = libc::sockaddr_in6;
const ADDRESS_LEN: libc::socklen_t = size_of::<RawAddress>() as libc::socklen_t;

/// Buffers for one thread's batches. Not `Send`: it is made where it is used.
pub struct Batch {
    packets: Box<[[u8; RECEIVE]]>,
    replies: Box<[u8]>,
    room: usize,
    peers: Box<[RawAddress]>,
    receive_iov: Box<[libc::iovec]>,
    send_iov: Box<[libc::iovec]>,
    receive: Box<[libc::mmsghdr]>,
    send: Box<[libc::mmsghdr]>,
    received: usize,
    queued: usize,
    /// Where packets came to, if their socket has several addresses.
    origins: Option<Box<[Control]>>,
}

/// What a batch brought at one place.
pub struct Slot<'a> {
    /// The packet.
    pub packet: &'a [u8],
    /// Room for the reply.
    pub reply: &'a mut [u8],
    /// Where it came from.
    pub peer: Peer<'a>,
    /// The address that it came to, where the socket has several.
    pub origin: Option<IpAddr>,
}

/// A peer's address, parsed when somebody wants it.
#[derive(Clone, Copy)]
pub struct Peer<'a>(&'a RawAddress);

impl Peer<'_> {
    /// The peer's port.
    #[inline]
    pub fn port(&self) -> u16 {
        // sockaddr_in and sockaddr_in6 have their ports at the same place.
        u16::from_be(self.0.sin6_port)
    }

    /// The peer's address and port.
    pub fn address(&self) -> SocketAddr {
        if i32::from(self.0.sin6_family) == libc::AF_INET {
            // The IPv4 address stands where IPv6 has its flow label, in network order already.
            let address = Ipv4Addr::from(self.0.sin6_flowinfo.to_ne_bytes());
            return SocketAddr::new(address.into(), self.port());
        }
        let address = Ipv6Addr::from(self.0.sin6_addr.s6_addr);
        SocketAddrV6::new(address, self.port(), self.0.sin6_flowinfo, self.0.sin6_scope_id).into()
    }
}

/// A boxed slice of `n` all-zero values of a plain C type.
fn zeroed<T: Copy>(n: usize) -> Box<[T]> {
    // SAFETY: only called with C structs, for which all-zero is a valid value.
    vec![unsafe { std::mem::zeroed::<T>() }; n].into_boxed_slice()
}

impl Default for Batch {
    fn default() -> Self {
        Batch::new()
    }
}

impl Batch {
    /// Buffers for [`BATCH`] packets.
    pub fn new() -> Batch {
        Batch::for_socket(SEND, false)
    }

    /// The same, with at least `room` octets for each reply. With `origins`, replies leave from where their packets came to:
    /// for a socket that was made for all addresses ([`super::socket::udp`]).
    pub fn for_socket(room: usize, origins: bool) -> Batch {
        let room = room.max(SEND);
        let mut batch = Batch {
            // Zeroed by the kernel, page by page as they are used: a quiet worker uses a few.
            packets: vec![[0; RECEIVE]; BATCH].into(),
            replies: vec![0; room * BATCH].into(),
            room,
            peers: zeroed(BATCH),
            receive_iov: zeroed(BATCH),
            send_iov: zeroed(BATCH),
            receive: zeroed(BATCH),
            send: zeroed(BATCH),
            received: BATCH,
            queued: 0,
            origins: origins.then(|| vec![Control::default(); BATCH].into()),
        };
        for i in 0..BATCH {
            batch.receive_iov[i] = libc::iovec { iov_base: batch.packets[i].as_mut_ptr().cast(), iov_len: RECEIVE };
            let header = &mut batch.receive[i].msg_hdr;
            header.msg_iov = &raw mut batch.receive_iov[i];
            header.msg_iovlen = 1;
            header.msg_name = (&raw mut batch.peers[i]).cast();
            let header = &mut batch.send[i].msg_hdr;
            header.msg_iov = &raw mut batch.send_iov[i];
            header.msg_iovlen = 1;
        }
        batch
    }

    /// Waits for at least one packet, takes what has come up to [`BATCH`], and says how many. What was queued to be
    /// sent and is not sent yet is forgotten.
    ///
    /// # Errors
    /// What `recvmmsg` says; `ECONNREFUSED` and `EINTR` among it are no reason to stop.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.queued = 0;
        for header in &mut self.receive[..self.received] {
            header.msg_hdr.msg_namelen = ADDRESS_LEN;
            header.msg_hdr.msg_flags = 0;
        }
        if let Some(origins) = &mut self.origins {
            let used = origins.iter_mut().zip(&mut self.receive[..self.received]);
            used.for_each(|(origin, header)| origin.lend(&mut header.msg_hdr, Control::ROOM));
        }
        self.received = 0;
        // SAFETY: every header points at buffers of this struct, which live as long as it and are not moved (boxed);
        // their lengths are those set in `new`.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.receive.as_mut_ptr(),
                BATCH as libc::c_uint,
                libc::MSG_WAITFORONE,
                ptr::null_mut(),
            )
        };
        let Ok(n) = usize::try_from(n) else { return Err(io::Error::last_os_error()) };
        self.received = n;
        Ok(n)
    }

    /// The packet at `i`, below what [`Batch::receive`] returned.
    #[inline]
    pub fn slot(&mut self, i: usize) -> Slot<'_> {
        let (len, origin) = ((self.receive[i].msg_len as usize).min(RECEIVE), self.origin(i));
        Slot {
            packet: &self.packets[i][..len],
            reply: &mut self.replies[i * self.room..(i + 1) * self.room],
            peer: Peer(&self.peers[i]),
            origin,
        }
    }

    fn origin(&self, i: usize) -> Option<IpAddr> {
        self.origins.as_ref()?;
        Control::address(&self.receive[i].msg_hdr)
    }

    /// Is slot `i` no packet at all, but the sign that the socket was shut down and its queue is empty?
    #[inline]
    pub fn is_end(&self, i: usize) -> bool {
        self.receive[i].msg_hdr.msg_namelen == 0
    }

    /// Queues the first `len` octets of slot `i`'s reply to go back where its packet came from.
    #[inline]
    pub fn queue(&mut self, i: usize, len: usize) {
        let (iov, header) = (&mut self.send_iov[self.queued], &mut self.send[self.queued].msg_hdr);
        let reply = &mut self.replies[i * self.room..(i + 1) * self.room];
        iov.iov_base = reply.as_mut_ptr().cast();
        iov.iov_len = len.min(reply.len());
        header.msg_name = (&raw mut self.peers[i]).cast();
        header.msg_namelen = self.receive[i].msg_hdr.msg_namelen;
        if let Some(origins) = &mut self.origins {
            // Of another batch.
            (header.msg_control, header.msg_controllen) = (ptr::null_mut(), 0);
            if let Some(address) = Control::address(&self.receive[i].msg_hdr) {
                origins[i].leave_from(address, header);
            }
        }
        self.queued += 1;
    }

    /// Sends what is queued and returns how many replies could not be sent: a full socket buffer is not waited for.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> usize {
        let queued = std::mem::take(&mut self.queued);
        // SAFETY: as in `receive`; `queue` set every header up to `queued`.
        unsafe { send_all(socket, &mut self.send[..queued]) }
    }
}

/// Sends the messages of `headers` in order; returns how many could not be sent.
///
/// # Safety
/// Every header must point at a name, an array of buffers and buffers that live until this returns, with their lengths.
unsafe fn send_all(socket: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> usize {
    let (mut at, mut lost) = (0, 0);
    while at < headers.len() {
        let rest = &mut headers[at..];
        // SAFETY: the caller's promise.
        let n = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                rest.as_mut_ptr(),
                rest.len() as libc::c_uint,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        match usize::try_from(n) {
            Ok(sent) if sent > 0 => at += sent,
            _ => match io::Error::last_os_error().kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => return lost + headers.len() - at,
                // The error belongs to the first of the rest: a peer that is gone, a route that is not there.
                _ => {
                    lost += 1;
                    at += 1;
                }
            },
        }
    }
    lost
}

/// A message, where it goes, and from where if the socket has several addresses.
pub type Letter = (Vec<u8>, SocketAddr, Option<IpAddr>);

/// Sends `letters`, all with one system call where the kernel takes them; returns how many could not be sent. A full
/// socket buffer is not waited for.
pub fn send_letters(socket: BorrowedFd<'_>, letters: &mut [Letter]) -> usize {
    let mut lost = 0;
    for part in letters.chunks_mut(BATCH) {
        let mut addresses: SmallVec<[SockAddr; 8]> = part.iter().map(|(_, to, _)| SockAddr::from(*to)).collect();
        let mut buffers: SmallVec<[libc::iovec; 8]> = SmallVec::new();
        buffers
            .extend(part.iter_mut().map(|(m, ..)| libc::iovec { iov_base: m.as_mut_ptr().cast(), iov_len: m.len() }));
        let mut headers: SmallVec<[libc::mmsghdr; 8]> = zeroed(part.len()).into_iter().collect();
        for ((header, buffer), address) in headers.iter_mut().zip(&mut buffers).zip(&mut addresses) {
            header.msg_hdr.msg_iov = buffer;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_name = address.as_ptr().cast_mut().cast();
            header.msg_hdr.msg_namelen = address.len();
        }
        let mut origins: SmallVec<[Control; 1]> = SmallVec::new();
        if part.iter().any(|(.., from)| from.is_some()) {
            origins.resize(part.len(), Control::default());
            for ((origin, header), (.., from)) in origins.iter_mut().zip(&mut headers).zip(part.iter()) {
                if let Some(from) = from {
                    origin.leave_from(*from, &mut header.msg_hdr);
                }
            }
        }
        // SAFETY: names, buffers and messages are those set just above; none is moved or dropped before the call is over.
        lost += unsafe { send_all(socket, &mut headers) };
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;
    use std::os::fd::AsFd;

    /// Sends `n` packets of growing length and expects each back, reversed.
    fn echo(address: &str, n: usize) {
        let server = UdpSocket::bind(address).unwrap();
        let clients: Vec<UdpSocket> = (0..n).map(|_| UdpSocket::bind(address).unwrap()).collect();
        for (i, client) in clients.iter().enumerate() {
            client.send_to(&vec![i as u8; i], server.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::new();
        let mut seen = 0;
        while seen < n {
            let got = batch.receive(server.as_fd()).unwrap();
            for i in 0..got {
                let slot = batch.slot(i);
                let len = slot.packet.len();
                assert_eq!(slot.peer.address(), clients[len].local_addr().unwrap());
                assert_eq!(slot.peer.port(), clients[len].local_addr().unwrap().port());
                slot.reply[..len].copy_from_slice(slot.packet);
                slot.reply[len] = 0xff;
                batch.queue(i, len + 1);
            }
            assert_eq!(batch.send(server.as_fd()), 0);
            seen += got;
        }
        for (i, client) in clients.iter().enumerate() {
            let mut buf = [0; 256];
            let (len, from) = client.recv_from(&mut buf).unwrap();
            assert_eq!(from, server.local_addr().unwrap());
            assert_eq!(buf[..len], [vec![i as u8; i], vec![0xff]].concat());
        }
    }

    #[test]
    fn batches_come_and_go_over_both_families() {
        echo("127.0.0.1:0", 1);
        echo("127.0.0.1:0", 150);
        if UdpSocket::bind("[::1]:0").is_ok() {
            echo("[::1]:0", 70);
        }
    }

    #[test]
    fn replies_leave_from_where_the_packet_came_to() {
        for (any, ways) in [("0.0.0.0:0", ["127.0.0.1", "127.0.0.2"]), ("[::]:0", ["::1", "::1"])] {
            let Ok(server) = crate::sys::socket::udp(any.parse().unwrap()) else { continue };
            let port = server.local_addr().unwrap().port();
            let mut batch = Batch::for_socket(SEND, true);
            for way in ways.map(|way| SocketAddr::new(way.parse().unwrap(), port)) {
                let client = UdpSocket::bind(SocketAddr::new(way.ip(), 0)).unwrap();
                // A connected socket takes nothing but what comes from where it sent to.
                client.connect(way).unwrap();
                client.send(b"first").unwrap();
                assert_eq!(batch.receive(server.as_fd()).unwrap(), 1);
                let origin = batch.slot(0).origin;
                assert_eq!(origin, Some(way.ip()));
                batch.slot(0).reply[..2].copy_from_slice(b"in");
                batch.queue(0, 2);
                assert_eq!(batch.send(server.as_fd()), 0);
                let mut letters = vec![(b"later".to_vec(), client.local_addr().unwrap(), origin)];
                assert_eq!(send_letters(server.as_fd(), &mut letters), 0);
                let mut buf = [0; 16];
                client.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
                for expected in [&b"in"[..], b"later"] {
                    let length = client.recv(&mut buf).unwrap();
                    assert_eq!(&buf[..length], expected);
                }
            }
        }
    }

    #[test]
    fn letters_reach_their_addresses() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let clients: Vec<UdpSocket> = (0..100).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let letter = |(i, c): (usize, &UdpSocket)| (vec![i as u8; i + 1], c.local_addr().unwrap(), None);
        let mut letters: Vec<Letter> = clients.iter().enumerate().map(letter).collect();
        // Nobody can be reached at port 0; the others are none the worse for it.
        letters.insert(50, (vec![1], "127.0.0.1:0".parse().unwrap(), None));
        assert_eq!(send_letters(server.as_fd(), &mut letters), 1);
        for (i, client) in clients.iter().enumerate() {
            let mut buf = [0; 256];
            let len = client.recv(&mut buf).unwrap();
            assert_eq!(buf[..len], vec![i as u8; i + 1]);
        }
    }

    #[test]
    fn an_unsendable_reply_costs_only_itself() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for octet in [1u8, 2, 3] {
            client.send_to(&[octet], server.local_addr().unwrap()).unwrap();
        }
        let mut batch = Batch::new();
        let mut seen = 0;
        while seen < 3 {
            seen += batch.receive(server.as_fd()).unwrap();
        }
        assert_eq!(seen, 3, "loopback delivers before send returns");
        batch.peers[1].sin6_family = libc::AF_UNIX as libc::sa_family_t;
        (0..3).for_each(|i| {
            let slot = batch.slot(i);
            slot.reply[0] = slot.packet[0];
            batch.queue(i, 1);
        });
        assert_eq!(batch.send(server.as_fd()), 1);
        let mut buf = [0; 8];
        assert_eq!(client.recv(&mut buf).unwrap(), 1);
        assert_eq!(buf[0], 1);
        client.recv(&mut buf).unwrap();
        assert_eq!(buf[0], 3);
    }
}
