//! The keys of server blocks: `[SCHEME://]ZONE[:PORT]`, or a network that stands for reverse zones.
//!
//! Stricter than CoreDNS in what a zone may be: what could never be asked for, such as `a,b`, is refused here and served
//! in vain there.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::address::Name;
use crate::config::limits;
use crate::config::problem::quoted;
use crate::config::text::Form;

/// How clients of a block speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::config) enum Scheme {
    /// Plain DNS, the default.
    Dns,
    /// DNS over TLS.
    Tls,
    /// DNS over QUIC.
    Quic,
    /// DNS over gRPC.
    Grpc,
    /// DNS over HTTPS.
    Https,
    /// DNS over HTTP/3.
    Https3,
}

/// The schemes as they are written.
const SCHEMES: [(&str, Scheme); 6] = [
    ("dns", Scheme::Dns),
    ("tls", Scheme::Tls),
    ("quic", Scheme::Quic),
    ("grpc", Scheme::Grpc),
    ("https", Scheme::Https),
    ("https3", Scheme::Https3),
];

/// What one key says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct Key {
    /// How clients speak.
    pub(in crate::config) scheme: Scheme,
    /// Absolute names, lower-case, without the trailing dot; the root is `.`. At least one; more for a network that does
    /// not end at a label of its reverse zone.
    pub(in crate::config) zones: Vec<String>,
    /// The port, where one is written.
    pub(in crate::config) port: Option<u16>,
}

/// Reads one key.
///
/// # Errors
/// What is wrong with it.
pub(in crate::config) fn key(text: &str) -> Result<Key, String> {
    let no = |why: &str| Err(format!("{} is not ZONE or ZONE:PORT: {why}", quoted(text)));
    if text.ends_with('{') {
        return no("write a space before the {");
    }
    let (scheme, rest) = match text.split_once("://") {
        None => (Scheme::Dns, text),
        Some((scheme, rest)) => match SCHEMES.iter().find(|(name, _)| *name == scheme) {
            Some((_, scheme)) => (*scheme, rest),
            None => return no("before :// stands dns, tls, quic, grpc, https or https3"),
        },
    };
    let (zone, port) = match rest.rsplit_once(':') {
        Some((_, "")) => return no("a port is missing behind the last colon"),
        // A colon before anything but a number belongs to an IPv6 network.
        Some((zone, port)) if port.bytes().all(|b| b.is_ascii_digit()) => (zone, Some(port)),
        _ => (rest, None),
    };
    let port = match port.map(str::parse) {
        None => None,
        Some(Ok(port)) if limits::PORT.allows(&u64::from(port)) => Some(port),
        Some(_) => return no("the port must be between 1 and 65535"),
    };
    match zone {
        "" => no("the zone is missing; the root is \".\""),
        _ if zone.contains(',') => no("write a space behind the comma between two zones"),
        _ => match zone.parse::<IpNet>() {
            Ok(network) => Ok(Key { scheme, zones: reverse_zones(network), port }),
            // A slash may stand in a name (RFC 2317), but nobody means this one.
            Err(_) if zone.split_once('/').is_some_and(|(address, _)| address.parse::<IpAddr>().is_ok()) => {
                no("it is no network: the length behind the slash is not possible")
            }
            Err(_) => Name::read(zone).map(|name| Key { scheme, zones: vec![name.0], port }),
        },
    }
}

/// The zones of the names of the addresses in `network`: several where it does not end at a label (RFC 1035, section 3.5;
/// RFC 3596, section 2.5).
fn reverse_zones(network: IpNet) -> Vec<String> {
    let network = network.trunc();
    // Bits of a label.
    let step = if network.addr().is_ipv4() { 8 } else { 4 };
    let length = network.prefix_len().next_multiple_of(step);
    // Never an error: the length is one of the family's, and at least the network's own.
    let parts = network.subnets(length).into_iter().flatten();
    parts.map(|part| reverse_zone(part.addr(), usize::from(length / step))).collect()
}

/// The name made of the first `labels` octets or nibbles of `address`.
fn reverse_zone(address: IpAddr, labels: usize) -> String {
    let mut digits: Vec<String> = match address {
        IpAddr::V4(v4) => v4.octets().iter().map(u8::to_string).collect(),
        IpAddr::V6(v6) => {
            v6.octets().iter().flat_map(|b| [b >> 4, b & 15]).map(|nibble| format!("{nibble:x}")).collect()
        }
    };
    digits.truncate(labels);
    digits.reverse();
    digits.push(if address.is_ipv4() { "in-addr.arpa" } else { "ip6.arpa" }.into());
    digits.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scheme, zones and port of a key.
    fn read(text: &str) -> String {
        match key(text) {
            Ok(Key { scheme, zones, port }) => {
                format!("{scheme:?} {} {}", zones.join(","), port.map_or("-".into(), |p| p.to_string()))
            }
            Err(message) => message,
        }
    }

    #[test]
    fn accepted_keys() {
        for (text, expected) in [
            (".", "Dns . -"),
            (".:53", "Dns . 53"),
            ("cluster.local", "Dns cluster.local -"),
            ("cluster.local.:1053", "Dns cluster.local 1053"),
            ("Example.ORG:53", "Dns example.org 53"),
            ("dns://example.org", "Dns example.org -"),
            ("dns://.:53", "Dns . 53"),
            ("tls://example.org:853", "Tls example.org 853"),
            ("quic://example.org", "Quic example.org -"),
            ("grpc://example.org", "Grpc example.org -"),
            ("https://mycompany.local:4453", "Https mycompany.local 4453"),
            ("https3://example.org", "Https3 example.org -"),
            ("in-addr.arpa:53", "Dns in-addr.arpa 53"),
            ("10.0.0.0/24", "Dns 0.0.10.in-addr.arpa -"),
            ("10.0.0.0/24:5353", "Dns 0.0.10.in-addr.arpa 5353"),
            ("dns://10.1.2.3/8:53", "Dns 10.in-addr.arpa 53"),
            ("10.2.0.0/15", "Dns 2.10.in-addr.arpa,3.10.in-addr.arpa -"),
            ("192.0.2.1/32", "Dns 1.2.0.192.in-addr.arpa -"),
            ("192.0.2.4/31", "Dns 4.2.0.192.in-addr.arpa,5.2.0.192.in-addr.arpa -"),
            ("0.0.0.0/0", "Dns in-addr.arpa -"),
            ("::/0", "Dns ip6.arpa -"),
            ("2001:db8::/32", "Dns 8.b.d.0.1.0.0.2.ip6.arpa -"),
            ("2001:db8::/32:53", "Dns 8.b.d.0.1.0.0.2.ip6.arpa 53"),
            ("2001:db8::/31", "Dns 8.b.d.0.1.0.0.2.ip6.arpa,9.b.d.0.1.0.0.2.ip6.arpa -"),
            ("fd00::/7", "Dns c.f.ip6.arpa,d.f.ip6.arpa -"),
            ("0/25.2.0.192.in-addr.arpa", "Dns 0/25.2.0.192.in-addr.arpa -"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
        assert_eq!(key("128.0.0.0/1").unwrap().zones.len(), 128);
    }

    #[test]
    fn refused_keys_say_why() {
        for (text, expected) in [
            ("", "the zone is missing"),
            (":53", "the zone is missing; the root is \".\""),
            ("dns://:53", "the zone is missing"),
            ("example.org:", "behind the last colon"),
            (":", "behind the last colon"),
            ("example.org:0", "between 1 and 65535"),
            ("example.org:65536", "between 1 and 65535"),
            ("example.org:99999999999999999999", "between 1 and 65535"),
            ("example.org:dns", "':' cannot stand in it"),
            ("example.org:-1", "':' cannot stand in it"),
            ("ftp://example.org", "before :// stands dns"),
            ("DNS://example.org", "before :// stands dns"),
            (".:53{", "a space before the {"),
            ("{}", "'{' cannot stand in it"),
            ("a,b", "a space behind the comma"),
            ("a..b", "empty label"),
            ("*.example.org", "leave the \"*.\" out"),
            ("10.0.0.1", "write the zone"),
            ("10.0.0.0/33", "it is no network"),
            ("10.0.0.0/a:53", "it is no network"),
            ("münchen.example", "xn--"),
            ("a b", "' ' cannot stand in it"),
            (&"a.".repeat(128), "longer than 255"),
            (&format!("{}.org", "a".repeat(64)), "longer than 63"),
        ] {
            assert!(read(text).contains(expected), "{text}: {}", read(text));
        }
    }
}
