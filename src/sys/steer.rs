//! Leads new TCP connections to one member of a SO_REUSEPORT group: away from the instance that ends, or to the one that
//! came last.
//!
//! A listener that is closed takes with it what stands in its queue or is on its way there; one that no connection is led
//! to any more can be read out first. The kernel is told an index into the group, and does not tell which process has
//! which: it is found by trial, connecting to the group's own address and looking whether the listener's queue grew. An
//! index that nobody has means chance, so that the program may stay when the group shrinks.

#![expect(unsafe_code, reason = "socket options that no safe crate offers")]

use rustix::net::getsockname;
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Members of a group that are tried; one instance is usual, and two are an upgrade.
const MEMBERS: u32 = 8;

/// How long the whole search may take; connections of a host to itself come about in some 50 us.
const PATIENCE: Duration = Duration::from_millis(50);

/// How often to look whether a queue has grown, and how long to wait each time.
const LOOKS: usize = 10;
/// See [`LOOKS`].
const LOOK: Duration = Duration::from_micros(50);

/// Of so many connections at least, and of twice as many less one at most, the majority tells where an index leads: one
/// of a client may have been on its way when the index was set.
const MAJORITY: usize = 3;

/// Where a connection ended up.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Where {
    Here,
    Elsewhere,
}

/// Has new connections to `listener`'s address go to another member of its group. What is in its queue stays there; nothing
/// may be accepted from it meanwhile. `false` when there is no other.
///
/// Makes some connections that ask nothing; takes some milliseconds, 50 at most.
///
/// # Errors
/// When the listener shares its port with nobody by design, or connections to it do not come about; nothing is led then.
pub fn lead_away(listener: impl AsFd) -> io::Result<bool> {
    lead(listener.as_fd(), Where::Elsewhere, PATIENCE)
}

/// Has new connections to `listener`'s address come to it and to no other member of its group; otherwise as
/// [`lead_away`].
///
/// # Errors
/// As for [`lead_away`].
pub fn lead_here(listener: impl AsFd) -> io::Result<bool> {
    lead(listener.as_fd(), Where::Here, PATIENCE)
}

fn lead(listener: BorrowedFd<'_>, wanted: Where, patience: Duration) -> io::Result<bool> {
    let found = search(listener, wanted, Instant::now() + patience);
    if !matches!(found, Ok(true)) {
        // Back to chance. Before Linux 5.3 the last index tried stays, which is one that nobody has.
        let _ = set(listener, libc::SO_DETACH_REUSEPORT_BPF, &0);
    }
    found
}

fn search(listener: BorrowedFd<'_>, wanted: Where, deadline: Instant) -> io::Result<bool> {
    let mut address = SocketAddr::try_from(getsockname(listener)?)?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    for index in 0..MEMBERS {
        attach(listener, index)?;
        if leads(listener, address, deadline)? == wanted {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Where new connections go, by majority.
fn leads(listener: BorrowedFd<'_>, address: SocketAddr, deadline: Instant) -> io::Result<Where> {
    let (mut here, mut elsewhere) = (0, 0);
    while here < MAJORITY && elsewhere < MAJORITY {
        match one(listener, address, deadline)? {
            Where::Here => here += 1,
            Where::Elsewhere => elsewhere += 1,
        }
    }
    Ok(if here > elsewhere { Where::Here } else { Where::Elsewhere })
}

/// Where one connection goes.
fn one(listener: BorrowedFd<'_>, address: SocketAddr, deadline: Instant) -> io::Result<Where> {
    let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
    let before = info(listener)?.tcpi_unacked;
    let _connection = TcpStream::connect_timeout(&address, left.ok_or(ErrorKind::TimedOut)?)?;
    // As a rule it is in a queue before `connect` returns.
    for _ in 0..LOOKS {
        if info(listener)?.tcpi_unacked > before {
            return Ok(Where::Here);
        }
        sleep(LOOK);
    }
    Ok(Where::Elsewhere)
}

/// What the kernel knows of a TCP socket; of one that listens, `tcpi_unacked` is the length of its queue.
pub(super) fn info(socket: BorrowedFd<'_>) -> io::Result<libc::tcp_info> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut size = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes `size` octets at most; all its fields are numbers, for which zeros do.
    let done = unsafe {
        let to = info.as_mut_ptr().cast();
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, to, &raw mut size)
    };
    // SAFETY: it was all zeros before the kernel wrote.
    if done == 0 { Ok(unsafe { info.assume_init() }) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel choose the member at `index` of the group that `listener` is in.
fn attach(listener: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let mut answer = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: index };
    set(listener, libc::SO_ATTACH_REUSEPORT_CBPF, &libc::sock_fprog { len: 1, filter: &raw mut answer })
}

/// Sets an option of the socket level.
fn set<T>(socket: BorrowedFd<'_>, name: libc::c_int, value: &T) -> io::Result<()> {
    let size = size_of::<T>() as libc::socklen_t;
    // SAFETY: the kernel reads `size` octets of the value, and what a program's pointer leads to while its maker waits.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw const *value).cast(), size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket::tcp;
    use std::net::TcpListener;

    /// Far more than on the busiest machine it takes.
    const LONG: Duration = Duration::from_secs(10);

    fn lead_away(listener: &TcpListener) -> io::Result<bool> {
        lead(listener.as_fd(), Where::Elsewhere, LONG)
    }

    fn lead_here(listener: &TcpListener) -> io::Result<bool> {
        lead(listener.as_fd(), Where::Here, LONG)
    }

    /// `n` listeners on one port.
    fn group(n: usize, address: &str) -> Vec<TcpListener> {
        let first = tcp(address.parse().unwrap()).unwrap();
        let address = first.local_addr().unwrap();
        let mut all = vec![first];
        all.extend((1..n).map(|_| tcp(address).unwrap()));
        all
    }

    /// How many connections each listener has in its queue.
    fn queues(group: &[TcpListener]) -> Vec<u32> {
        group.iter().map(|listener| info(listener.as_fd()).unwrap().tcpi_unacked).collect()
    }

    /// Empties all queues and makes 20 connections; how many each listener has got.
    fn connect(group: &[TcpListener]) -> Vec<u32> {
        group.iter().for_each(empty);
        let address = group[0].local_addr().unwrap();
        for _ in 0..20 {
            TcpStream::connect_timeout(&address, LONG).unwrap();
        }
        let deadline = Instant::now() + LONG;
        while queues(group).iter().sum::<u32>() < 20 && Instant::now() < deadline {
            sleep(LOOK);
        }
        queues(group)
    }

    /// Empties the queue.
    fn empty(listener: &TcpListener) {
        while listener.accept().is_ok() {}
    }

    #[test]
    fn connections_are_led_to_the_other() {
        for address in ["127.0.0.1:0", "0.0.0.0:0"] {
            for leaving in 0..2 {
                let group = group(2, address);
                assert!(lead_away(&group[leaving]).unwrap());
                let got = connect(&group);
                assert_eq!((got[leaving], got[1 - leaving]), (0, 20));
            }
        }
    }

    #[test]
    fn connections_are_led_here_among_many() {
        let group = group(5, "127.0.0.1:0");
        for chosen in [3, 0, 4] {
            assert!(lead_here(&group[chosen]).unwrap());
            let got = connect(&group);
            assert_eq!((got[chosen], got.iter().sum()), (20, 20));
        }
    }

    #[test]
    fn what_was_in_the_queue_stays_there() {
        let group = group(2, "127.0.0.1:0");
        let before = connect(&group);
        assert_eq!(before.iter().sum::<u32>(), 20);
        assert!(lead_away(&group[0]).unwrap());
        assert!(queues(&group)[0] >= before[0]);
    }

    #[test]
    fn alone_a_listener_keeps_its_connections() {
        let group = group(1, "127.0.0.1:0");
        assert!(!lead_away(&group[0]).unwrap());
        assert!(lead_here(&group[0]).unwrap());
        assert_eq!(connect(&group), [20]);
    }

    #[test]
    fn the_last_of_a_group_has_all_wherever_they_were_led() {
        let mut group = group(2, "127.0.0.1:0");
        assert!(lead_here(&group[1]).unwrap());
        group.remove(0);
        assert_eq!(connect(&group), [20]);
    }

    #[test]
    fn a_port_that_is_not_shared_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(lead_away(&listener).is_err());
    }
}
