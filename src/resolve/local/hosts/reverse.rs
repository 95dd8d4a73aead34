//! The address that a name below `in-addr.arpa` or `ip6.arpa` stands for (RFC 1035 §3.5, RFC 3596 §2.5).

use crate::wire::question::to_wire;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The address of a lower-case wire name; `None` for other names, and for zones of addresses.
pub(super) fn address(name: &[u8]) -> Option<IpAddr> {
    let mut labels: Vec<&[u8]> = Vec::new();
    let mut rest = name;
    while let Some((&length, tail)) = rest.split_first().filter(|(length, _)| **length > 0) {
        let (label, tail) = tail.split_at_checked(usize::from(length))?;
        if labels.len() == 32 {
            return if rest == to_wire("ip6.arpa") { v6(&labels) } else { None };
        }
        if labels.len() == 4 && rest == to_wire("in-addr.arpa") {
            return v4(&labels);
        }
        labels.push(label);
        rest = tail;
    }
    None
}

fn v4(labels: &[&[u8]]) -> Option<IpAddr> {
    let mut octets = [0; 4];
    for (octet, label) in octets.iter_mut().rev().zip(labels) {
        let text = std::str::from_utf8(label).ok()?;
        // One spelling for each address: neither signs nor leading zeros.
        *octet = text.parse().ok().filter(|number: &u8| number.to_string() == text)?;
    }
    Some(Ipv4Addr::from(octets).into())
}

fn v6(labels: &[&[u8]]) -> Option<IpAddr> {
    let mut bits = 0u128;
    for label in labels.iter().rev() {
        let [digit] = label else { return None };
        bits = bits << 4 | u128::from(char::from(*digit).to_digit(16)?);
    }
    Some(IpAddr::from(Ipv6Addr::from(bits)).to_canonical())
}
