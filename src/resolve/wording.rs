//! Why a look-up failed, in the words that CoreDNS has for it: people's patterns look for `i/o timeout` and
//! `connection refused` at the end of a line. Go's words for errors of the kernel are those of strerror(3) in small letters.

use crate::upstream::Error;
use std::io;

/// `error` of an upstream that is asked over `transport` first.
pub(super) fn of(error: &Error, transport: &str) -> String {
    match error {
        Error::Timeout { server, .. } => format!("read {transport} {server}: i/o timeout"),
        Error::Unreachable { server, source } => {
            let call = match source.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                // What a packet filter forbids fails when it is sent.
                Some(rustix::io::Errno::PERM | rustix::io::Errno::ACCESS) => "write",
                _ => "connect",
            };
            format!("dial {transport} {server}: {call}: {}", kernel(source))
        }
        Error::Closed { source: None, .. } => "EOF".to_owned(),
        Error::Closed { server, source: Some(source) } => format!("read tcp {server}: read: {}", kernel(source)),
        Error::NoServers | Error::AllDown => "no healthy proxies".to_owned(),
        other => other.to_string(),
    }
}

/// An error of the kernel in Go's words.
fn kernel(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        return "connection refused".to_owned();
    }
    let text = error.to_string();
    // Without the number that Rust puts behind it.
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn failures_are_told_as_go_tells_them() {
        let server = SocketAddr::from(([8, 8, 8, 8], 53));
        let says = |error: Error| of(&error, "udp");
        let unreachable = |errno: Errno| says(Error::Unreachable { server, source: Arc::new(errno.into()) });
        let closed = |source| says(Error::Closed { server, source });
        for (said, want) in [
            (says(Error::Timeout { server, after: Duration::from_secs(2) }), "read udp 8.8.8.8:53: i/o timeout"),
            (unreachable(Errno::CONNREFUSED), "dial udp 8.8.8.8:53: connect: connection refused"),
            (unreachable(Errno::HOSTUNREACH), "dial udp 8.8.8.8:53: connect: no route to host"),
            (unreachable(Errno::NETUNREACH), "dial udp 8.8.8.8:53: connect: network is unreachable"),
            (unreachable(Errno::PERM), "dial udp 8.8.8.8:53: write: operation not permitted"),
            (closed(None), "EOF"),
            (closed(Some(Arc::new(Errno::CONNRESET.into()))), "read tcp 8.8.8.8:53: read: connection reset by peer"),
            (says(Error::AllDown), "no healthy proxies"),
            (says(Error::NoServers), "no healthy proxies"),
        ] {
            assert_eq!(said, want);
        }
        let plain = io::Error::from(io::ErrorKind::ConnectionRefused);
        let refused = says(Error::Unreachable { server, source: Arc::new(plain) });
        assert!(refused.ends_with("connection refused"), "{refused}");
    }
}
