//! To which of its addresses a packet came that a wildcard socket received, and from which its reply is to leave
//! (IP_PKTINFO, IPV6_PKTINFO; RFC 3542 §6). Without it the kernel would choose, and a client drops a reply that comes from
//! where it did not ask.

#![expect(unsafe_code, reason = "control messages are read and written where the kernel wants them")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;

/// Room for one control message that holds an address, in words: what must be aligned for its header is.
const WORDS: usize = 8;

/// One message's control buffer.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(super) struct Control([usize; WORDS]);

impl Control {
    /// Has `header` receive into it, or send from it.
    pub(super) fn lend(&mut self, header: &mut libc::msghdr, length: usize) {
        header.msg_control = self.0.as_mut_ptr().cast();
        header.msg_controllen = length as _;
    }

    /// Octets of room.
    pub(super) const ROOM: usize = WORDS * size_of::<usize>();

    /// The address that the packet came to which `header` has received, with this as its buffer.
    pub(super) fn address(header: &libc::msghdr) -> Option<IpAddr> {
        // SAFETY: the kernel has filled in the control buffer that `header` points at, and its length.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(header);
            if message.is_null() {
                return None;
            }
            let data = libc::CMSG_DATA(message);
            match ((*message).cmsg_level, (*message).cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let info = ptr::read_unaligned(data.cast::<libc::in_pktinfo>());
                    Some(Ipv4Addr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()).into())
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let info = ptr::read_unaligned(data.cast::<libc::in6_pktinfo>());
                    Some(Ipv6Addr::from(info.ipi6_addr.s6_addr).into())
                }
                _ => None,
            }
        }
    }

    /// Has the message of `header` leave from `address`.
    pub(super) fn leave_from(&mut self, address: IpAddr, header: &mut libc::msghdr) {
        // SAFETY: `lend` gives `header` this buffer, which has room for either message, its header included.
        unsafe {
            match address {
                IpAddr::V4(v4) => {
                    let spec_dst = libc::in_addr { s_addr: u32::from_ne_bytes(v4.octets()) };
                    let any = libc::in_addr { s_addr: 0 };
                    let info = libc::in_pktinfo { ipi_ifindex: 0, ipi_spec_dst: spec_dst, ipi_addr: any };
                    self.write(header, (libc::IPPROTO_IP, libc::IP_PKTINFO), info);
                }
                IpAddr::V6(v6) => {
                    let addr = libc::in6_addr { s6_addr: v6.octets() };
                    let info = libc::in6_pktinfo { ipi6_addr: addr, ipi6_ifindex: 0 };
                    self.write(header, (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), info);
                }
            }
        }
    }

    /// # Safety
    /// `T` must fit into the room behind a header.
    unsafe fn write<T>(&mut self, header: &mut libc::msghdr, (level, kind): (i32, i32), info: T) {
        let size = size_of::<T>() as u32;
        // SAFETY: arithmetic alone.
        let (space, length) = unsafe { (libc::CMSG_SPACE(size) as usize, libc::CMSG_LEN(size)) };
        debug_assert!(space <= Control::ROOM);
        self.lend(header, space);
        // SAFETY: the buffer has `space` octets, which is what one such message takes.
        unsafe {
            let message = libc::CMSG_FIRSTHDR(header);
            if !message.is_null() {
                (*message).cmsg_level = level;
                (*message).cmsg_type = kind;
                (*message).cmsg_len = length as _;
                ptr::write_unaligned(libc::CMSG_DATA(message).cast::<T>(), info);
            }
        }
    }
}
