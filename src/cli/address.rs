//! `ADDR[:PORT]` as typed on a command line: IPv4 or IPv6, port 53 where none is given.

use crate::config::Target;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The port of DNS (RFC 1035 §4.2).
pub const DNS_PORT: u16 = 53;

/// Reads `192.0.2.1`, `192.0.2.1:5300`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:5300`.
///
/// The error is a sentence for the user; names are not accepted, since whoever could resolve them is being set up.
pub fn parse(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("port 0 is not a port".to_owned()),
            _ => Ok(address),
        };
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(ip) = bracketed.and_then(|inside| inside.parse::<Ipv6Addr>().ok()) {
        return Ok(SocketAddr::new(ip.into(), DNS_PORT));
    }
    Err("expected an IP address with an optional port, as 10.96.0.10, 10.96.0.10:53 or [fd00::a]:53".to_owned())
}

/// Reads what [`parse`] does, or `tls://ADDR[:PORT]#NAME`, and returns it as the configuration writes it.
pub fn parse_upstream(text: &str) -> Result<String, String> {
    if text.contains("://") {
        return text.parse().map(|target: Target| target.to_string());
    }
    parse(text).map(|address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_a_port() {
        for (typed, read) in [
            ("192.0.2.1", "192.0.2.1:53"),
            ("192.0.2.1:5300", "192.0.2.1:5300"),
            ("2001:db8::1", "[2001:db8::1]:53"),
            ("[2001:db8::1]", "[2001:db8::1]:53"),
            ("[2001:db8::1]:5300", "[2001:db8::1]:5300"),
        ] {
            assert_eq!(parse(typed), Ok(read.parse().unwrap()), "{typed}");
            assert_eq!(parse_upstream(typed), Ok(read.to_owned()), "{typed}");
        }
        let secure = parse_upstream("TLS://10.1.0.54#DNS.Corp.Example.");
        assert_eq!(secure, Ok("tls://10.1.0.54:853#dns.corp.example".to_owned()));
    }

    #[test]
    fn everything_else_is_refused() {
        for typed in ["tls://10.1.0.54", "quic://10.1.0.54#dns.corp.example", "kube-dns", "/etc/resolv.conf"] {
            assert!(parse_upstream(typed).is_err(), "{typed}");
        }
        for typed in
            ["", "dns.example", "192.0.2.1:", "192.0.2.1:0", "192.0.2.1:65536", "[192.0.2.1]", "[::1", "::1]:53"]
        {
            assert!(parse(typed).is_err() && parse_upstream(typed).is_err(), "{typed}");
        }
    }
}
