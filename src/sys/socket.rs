//! Sockets as a DNS server wants them: exact addresses, shared ports, large buffers, no path-MTU games.

#![expect(unsafe_code, reason = "three socket options that no safe crate offers")]

use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

/// Room that is asked for datagrams on their way in and out, in octets; the kernel may grant less
/// (`net.core.rmem_max`).
const BUFFER: usize = 4 << 20;

/// A UDP socket at exactly `address`, one of a SO_REUSEPORT group: the kernel spreads flows over its members.
///
/// # Errors
/// What the kernel says to `socket`, `setsockopt` or `bind`.
pub fn udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = udp_closed(address)?;
    open(socket.as_fd(), address)?;
    Ok(socket)
}

/// The same, not bound yet: nothing comes to it before [`open`].
///
/// # Errors
/// What the kernel says to `socket` or `setsockopt`.
pub fn udp_closed(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_port(true)?;
    // Fewer octets than asked for are no error.
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    no_path_mtu_discovery(&socket, address.is_ipv6())?;
    if address.ip().is_unspecified() {
        match address {
            SocketAddr::V4(_) => set(socket.as_fd(), libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?,
            SocketAddr::V6(_) => set(socket.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?,
        }
    }
    Ok(socket.into())
}

/// A listening TCP socket at exactly `address`, non-blocking, one of a SO_REUSEPORT group.
///
/// # Errors
/// What the kernel says to `socket`, `setsockopt`, `bind` or `listen`.
pub fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = tcp_closed(address)?;
    open(socket.as_fd(), address)?;
    Ok(socket)
}

/// The same, bound but not listening: nothing comes to it before [`open`].
///
/// # Errors
/// What the kernel says to `socket`, `setsockopt` or `bind`.
pub fn tcp_closed(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = stream(address)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    bound(socket, address)
}

/// Has packets come to a socket that was made closed for `address`; not only this process's copy of it.
///
/// # Errors
/// What the kernel says to `bind` or `listen`.
pub fn open(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<()> {
    if is_datagram(socket) { Ok(rustix::net::bind(socket, &address)?) } else { Ok(rustix::net::listen(socket, 1024)?) }
}

/// The same, but that `[::]` takes IPv4 as well where the host has it so: what HTTP is served on.
///
/// # Errors
/// As for [`tcp`].
pub fn http(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(stream(address)?, address)?;
    open(socket.as_fd(), address)?;
    Ok(socket)
}

fn stream(address: SocketAddr) -> io::Result<Socket> {
    Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
}

fn bound(socket: Socket, address: SocketAddr) -> io::Result<TcpListener> {
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Replies may be fragmented on the way and no spoofed ICMP message can shrink them (as NSD and Unbound do).
fn no_path_mtu_discovery(socket: &Socket, v6: bool) -> io::Result<()> {
    let omit: libc::c_int = libc::IP_PMTUDISC_OMIT;
    let (level, name) =
        if v6 { (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER) } else { (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER) };
    set(socket.as_fd(), level, name, omit)
}

/// Sets an option whose value is an int.
fn set(socket: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: the option takes an int, whose address and size are given.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a socket that is not yet connected send from `source`; the port is chosen when it is connected, and may be one
/// that others use towards other addresses.
///
/// # Errors
/// What the kernel says to `setsockopt` or `bind`: the address is not this host's, or of the other family.
pub fn send_from(socket: BorrowedFd<'_>, source: IpAddr) -> io::Result<()> {
    let bound = set(socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)
        .and_then(|()| Ok(rustix::net::bind(socket, &SocketAddr::new(source, 0))?));
    // Of another kind than when ports are short, which passes.
    bound.map_err(|error| io::Error::other(format!("cannot send from {source} (forward.sourceAddress): {error}")))
}

/// Is nobody at the other end of a TCP connection any more, as far as the kernel can tell? What was sent has been sent
/// again, and nothing acknowledged for `time`. A peer that is merely slow acknowledges all the same.
pub fn is_deserted(socket: BorrowedFd<'_>, time: Duration) -> bool {
    super::steer::info(socket).is_ok_and(|info| {
        let quiet = u128::from(info.tcpi_last_ack_recv) >= time.as_millis();
        info.tcpi_unacked > 0 && info.tcpi_retransmits > 0 && quiet
    })
}

/// Is it a socket for datagrams?
pub fn is_datagram(socket: impl AsFd) -> bool {
    rustix::net::sockopt::socket_type(socket).is_ok_and(|kind| kind == rustix::net::SocketType::DGRAM)
}

/// Takes a UDP socket out of its SO_REUSEPORT group without losing what is queued in it, and wakes whoever reads it.
///
/// Connecting it to an address that sends nothing takes it out of the kernel's look-up; what has arrived stays
/// readable. After that, a read of the empty queue returns at once with a packet of no octets.
///
/// # Errors
/// What the kernel says to `connect`.
pub fn retire(socket: &UdpSocket) -> io::Result<()> {
    let own = socket.local_addr()?;
    // Port 9 of our own address: nothing is ever sent there, and nothing there can send to us.
    socket.connect(SocketAddr::new(own.ip(), 9))?;
    match rustix::net::shutdown(socket.as_fd(), rustix::net::Shutdown::Read) {
        Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::mmsg::{Batch, send_letters};
    use std::io::Write;

    #[test]
    fn ports_are_shared_and_addresses_exact() {
        let first = udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        assert_eq!(udp(address).unwrap().local_addr().unwrap(), address);
        let first = tcp("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(tcp(first.local_addr().unwrap()).is_ok());
    }

    #[test]
    fn a_peer_that_does_not_read_is_there_all_the_same() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stream.write_all(&[0; 100]).unwrap();
        assert!(!is_deserted(stream.as_fd(), Duration::ZERO));
        assert!(!is_deserted(listener.as_fd(), Duration::ZERO));
    }

    #[test]
    fn a_retired_socket_is_read_out_and_then_wakes_its_reader() {
        let socket = udp("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        for packet in [&[0u8][..], &[1], &[2], &[]] {
            client.send_to(packet, socket.local_addr().unwrap()).unwrap();
        }
        retire(&socket).unwrap();
        let mut batch = Batch::new();
        let mut packets = Vec::new();
        let mut ended = false;
        while !ended {
            let n = batch.receive(socket.as_fd()).unwrap();
            ended = (0..n).any(|i| batch.is_end(i));
            for i in 0..n {
                if !batch.is_end(i) {
                    packets.push(batch.slot(i).packet.to_vec());
                }
            }
        }
        assert_eq!(packets, [vec![0], vec![1], vec![2], vec![]], "an empty datagram is not the end");
        let mut letters = [(vec![7], client.local_addr().unwrap(), None)];
        assert_eq!(send_letters(socket.as_fd(), &mut letters), 0);
        let mut buf = [0; 8];
        assert_eq!(client.recv(&mut buf).unwrap(), 1, "it can still answer");
    }

    #[test]
    fn a_waiting_reader_is_woken() {
        let socket = std::sync::Arc::new(udp("127.0.0.1:0".parse().unwrap()).unwrap());
        let reader = std::thread::spawn({
            let socket = socket.clone();
            move || Batch::new().receive(socket.as_fd()).unwrap()
        });
        retire(&socket).unwrap();
        assert!(reader.join().unwrap() >= 1);
    }
}
