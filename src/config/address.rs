//! Domain names, IP addresses, networks and upstreams, as they are written in the configuration.
//!
//! Only the writing is judged here: whether a name exists or an address is ours shows elsewhere.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;

use crate::config::limits;
use crate::config::problem::quoted;
use crate::config::text::Form;

/// An absolute domain name in lower case: no trailing dot, the root is `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Name(pub(super) String);

impl Form for Name {
    const FORMAT: &'static str = "domain-name";

    fn read(text: &str) -> Result<Name, String> {
        let no = |why: &str| Err(format!("{} is not a domain name: {why}", quoted(text)));
        if text == "." {
            return Ok(Name(".".into()));
        }
        if text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok() {
            return no("for reverse lookups write the zone, such as 10.in-addr.arpa");
        }
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.is_empty() {
            return no("it is empty; the root is \".\"");
        }
        // One length octet a label and the root's: 255 octets on the wire are 253 characters (RFC 1035, 2.3.4).
        if name.len() > 253 {
            return no("longer than 255 octets");
        }
        if name.split('.').any(|label| label == "*") {
            return no("a zone covers all names below it already; leave the \"*.\" out");
        }
        for label in name.split('.') {
            match label.len() {
                0 => return no("it has an empty label"),
                1..=63 => {}
                _ => return no("a label is longer than 63 octets"),
            }
            if !label.is_ascii() {
                return no("write non-ASCII names in their xn-- form");
            }
            if let Some(c) = label.chars().find(|c| !c.is_ascii_alphanumeric() && !"-_/".contains(*c)) {
                return no(&format!("{c:?} cannot stand in it"));
            }
        }
        Ok(Name(name.to_ascii_lowercase()))
    }
}

/// The Service that clients ask, where its address is to be listened on, and the one that is asked, in `forward.to`.
const SERVICE: &str = "kube-dns";

/// Where queries come in: an address, or one with a port, or the address of the Service `kube-dns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// None for the Service's.
    ip: Option<IpAddr>,
    port: Option<u16>,
}

impl Place {
    /// With `port`, if it has none of its own, and `service`, if it is the Service's.
    pub(super) fn at(self, port: u16, service: IpAddr) -> SocketAddr {
        SocketAddr::new(self.ip.unwrap_or(service), self.port.unwrap_or(port))
    }

    /// Is it the address of the Service `kube-dns`?
    pub(super) const fn is_service(self) -> bool {
        self.ip.is_none()
    }
}

impl From<IpAddr> for Place {
    fn from(ip: IpAddr) -> Place {
        Place { ip: Some(ip), port: None }
    }
}

impl Form for Place {
    const FORMAT: &'static str = "listen-address";

    fn read(text: &str) -> Result<Place, String> {
        if text == SERVICE {
            return Ok(Place { ip: None, port: None });
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Place::from(ip));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(Place { ip: Some(address.ip()), port: Some(address.port()) }),
            Ok(_) => Err(format!("{}: the port must be between 1 and 65535", quoted(text))),
            Err(_) => IpAddr::read(text).map(Place::from).map_err(|e| format!("{e}, or {SERVICE}")),
        }
    }
}

/// Whom to ask: one entry of `forward.to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A server by address.
    Address(SocketAddr),
    /// A server by name, looked up and followed.
    Name {
        /// The host name, lower-case, no trailing dot.
        host: String,
        /// The server's port.
        port: u16,
    },
    /// The name servers listed in a file like `/etc/resolv.conf`, followed when it changes.
    ResolvConf(PathBuf),
    /// The address in the environment variable `KUBE_DNS_UPSTREAM_SERVICE_HOST`.
    KubeDns {
        /// The server's port.
        port: u16,
    },
    /// A server by address that is spoken to under encryption alone.
    Secure(Secure),
}

/// How an encrypted server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// DNS over TLS (RFC 7858).
    Tls,
}

impl Scheme {
    /// As it is written before `://`.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Tls => "tls",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Scheme::Tls => limits::TLS_PORT,
        }
    }
}

/// A server that must prove to be who it is said to be: `SCHEME://ADDRESS[:PORT]#NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secure {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it is.
    pub address: SocketAddr,
    /// Whom its certificate must be for: a domain name, lower-case, no trailing dot, or an IP address.
    pub name: String,
}

impl Secure {
    /// Reads what stands on both sides of `://`; the error says what is wrong.
    fn read(scheme: &str, rest: &str) -> Result<Secure, &'static str> {
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "tls" => Scheme::Tls,
            _ => return Err("write tls://ADDRESS#NAME, or an address, a name, a path or kube-dns without a scheme"),
        };
        let Some((address, name)) = rest.split_once('#') else {
            return Err("write whom its certificate must be for, as in tls://10.1.0.54#dns.corp.example");
        };
        let Some(address) = address_and_port(address, scheme.port()).filter(is_possible) else {
            return Err("before the # stands an IP address, or one with a port");
        };
        // Where nothing was written, TLS clients look for the address in the certificate.
        if let Ok(ip) = name.parse::<IpAddr>() {
            return Ok(Secure { scheme, address, name: ip.to_string() });
        }
        match Name::read(name) {
            Ok(Name(name)) if name != "." && !looks_like_address(&name) => Ok(Secure { scheme, address, name }),
            _ => Err("behind the # stands the domain name, or the IP address, that its certificate is for"),
        }
    }
}

impl fmt::Display for Secure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}#{}", self.scheme.name(), self.address, self.name)
    }
}

/// Whether anybody can answer at an address.
fn is_possible(address: &SocketAddr) -> bool {
    address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
}

impl Form for Target {
    const FORMAT: &'static str = "upstream";

    fn read(text: &str) -> Result<Target, String> {
        let no = |why: &str| Err(format!("{} is not an upstream: {why}", quoted(text)));
        if let Some((scheme, rest)) = text.split_once("://") {
            return Secure::read(scheme, rest).map(Target::Secure).or_else(no);
        }
        if text.starts_with('/') {
            return Ok(Target::ResolvConf(PathBuf::from(text)));
        }
        if let Some(address) = address_and_port(text, limits::UPSTREAM_PORT) {
            return if is_possible(&address) { Ok(Target::Address(address)) } else { no("nobody can answer there") };
        }
        let (host, port) = match host_and_port(text, limits::UPSTREAM_PORT) {
            Some(split) => split,
            None => return no("the port must be between 1 and 65535"),
        };
        if host == SERVICE {
            return Ok(Target::KubeDns { port });
        }
        if looks_like_address(host) {
            return no("it looks like an IP address, but is none");
        }
        match Name::read(host) {
            // A single label is seldom meant as a host's name, and this one is easily mistyped.
            Ok(Name(name)) if !name.contains('.') && strsim::damerau_levenshtein(&name, SERVICE) == 1 => {
                no("did you mean \"kube-dns\"?")
            }
            Ok(Name(name)) if name != "." => Ok(Target::Name { host: name, port }),
            _ => no("write an address, a name, a path or kube-dns"),
        }
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        Target::read(text)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => write!(f, "{address}"),
            Target::Name { host, port } => write!(f, "{host}:{port}"),
            Target::ResolvConf(path) => write!(f, "{}", path.display()),
            Target::KubeDns { port } => write!(f, "kube-dns:{port}"),
            Target::Secure(server) => server.fmt(f),
        }
    }
}

impl Form for IpAddr {
    const FORMAT: &'static str = "ip-address";

    fn read(text: &str) -> Result<IpAddr, String> {
        text.parse().map_err(|_| format!("{} is not an IP address, such as 169.254.20.10 or fd00::a", quoted(text)))
    }
}

impl Form for SocketAddr {
    const FORMAT: &'static str = "ip-address:port";

    fn read(text: &str) -> Result<SocketAddr, String> {
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(address),
            _ => Err(format!("{} is not ADDRESS:PORT, such as 0.0.0.0:9253 or [::1]:8080", quoted(text))),
        }
    }
}

impl Form for IpNet {
    const FORMAT: &'static str = "network";

    fn read(text: &str) -> Result<IpNet, String> {
        let one = |address: IpAddr| IpNet::from(address);
        let network = text.parse::<IpNet>().ok().or_else(|| text.parse().ok().map(one));
        let network = network.ok_or_else(|| format!("{} is not a network, such as 10.0.0.0/8", quoted(text)))?;
        match network.trunc() {
            whole if whole == network => Ok(network),
            whole => Err(format!("{} has host bits set; did you mean \"{whole}\"?", quoted(text))),
        }
    }
}

/// Reads `ADDR`, `ADDR:PORT` or `[V6]:PORT`; IPv6 needs no brackets when there is no port.
pub(super) fn address_and_port(text: &str, port: u16) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let without = bare.parse().ok().map(|ip| SocketAddr::new(ip, port));
    without.or_else(|| text.parse().ok())
}

/// Reads `HOST` or `HOST:PORT`; nothing if the port is none.
pub(super) fn host_and_port(text: &str, port: u16) -> Option<(&str, u16)> {
    match text.rsplit_once(':') {
        None => Some((text, port)),
        Some((host, port)) => port.parse().ok().filter(|port| *port != 0).map(|port| (host, port)),
    }
}

/// Whether `host` was rather meant as an IPv4 address.
pub(super) fn looks_like_address(host: &str) -> bool {
    host.ends_with(|c: char| c.is_ascii_digit()) && !host.contains(|c: char| c.is_ascii_alphabetic())
}
