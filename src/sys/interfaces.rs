//! Addresses of this host's interfaces, as they were when first asked for.
//!
//! Asking takes a netlink socket, which a server behind seccomp may not open: what it was started with has to do.

#![expect(unsafe_code, reason = "getifaddrs has no safe counterpart")]

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ptr;
use std::sync::LazyLock;

/// All addresses, with the name of the interface that each is on.
static ALL: LazyLock<Vec<(String, IpAddr)>> = LazyLock::new(all);

/// The addresses of the interface called `name`; none if there is none, or the kernel does not say.
pub fn addresses(name: &str) -> Vec<IpAddr> {
    ALL.iter().filter(|(interface, _)| interface == name).map(|(_, ip)| *ip).collect()
}

fn all() -> Vec<(String, IpAddr)> {
    let mut first: *mut libc::ifaddrs = ptr::null_mut();
    // SAFETY: the pointer is valid for writing; on success it holds a list that is freed below and nowhere else.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut next = first;
    // SAFETY: `next` is null or an entry of the list, which is not freed yet.
    while let Some(entry) = unsafe { next.as_ref() } {
        next = entry.ifa_next;
        if entry.ifa_name.is_null() {
            continue;
        }
        // SAFETY: the name is a string that ends in a zero and lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        // SAFETY: the address is null or one of the family that it names.
        found.extend(unsafe { address(entry.ifa_addr) }.map(|ip| (name, ip)));
    }
    // SAFETY: the list came from `getifaddrs`, and nothing refers to it any more.
    unsafe { libc::freeifaddrs(first) };
    found
}

/// The IP address in `raw`, if it is one.
///
/// # Safety
/// `raw` is null or points to a socket address as large as its family says.
unsafe fn address(raw: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: as the caller promises.
    let family = unsafe { raw.as_ref() }?.sa_family;
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: an address of this family is a `sockaddr_in`; it may not be aligned like one.
            let v4 = unsafe { raw.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the same with `sockaddr_in6`.
            let v6 = unsafe { raw.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_its_address_and_what_is_not_there_has_none() {
        assert!(addresses("lo").contains(&Ipv4Addr::LOCALHOST.into()));
        assert_eq!(addresses("there-is-none"), Vec::<IpAddr>::new());
    }
}
