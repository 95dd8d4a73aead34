//! The keys of server blocks: `[SCHEME://]ZONE[:PORT]`, or a network that stands for reverse zones.

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
    Ok(Key { scheme: Scheme::Dns, zones: vec![text.to_owned()], port: None })
}
