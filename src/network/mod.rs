//! Making the node's DNS ours, and giving it back: the interface, the rules that keep packets out of connection
//! tracking, and the standing fallback to kube-dns.
//!
//! Nothing here knows DNS, upstreams or the server; the guardian calls it and no one else holds CAP_NET_ADMIN. All of it
//! blocks, for less than a millisecond each, but for [`iptables`], which runs a command.

pub mod host;
pub mod iptables;
pub mod link;
pub mod netlink;
pub mod nftables;
pub mod survey;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where the guardian's probes of IPv4 addresses come from: an address that no client has. Rules lead what comes from there
/// to our own sockets, whatever happens to everybody else's packets.
pub const PROBE_V4: Ipv4Addr = Ipv4Addr::new(127, 116, 20, 10);

/// The same for IPv6, which has but one loopback address.
pub const PROBE_V6: Ipv6Addr = Ipv6Addr::LOCALHOST;

/// What is to be made of the host's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The addresses that are to be ours, without loopback ones. The DNS port on them is captured.
    pub addresses: Vec<IpAddr>,
    /// The DNS port.
    pub port: u16,
    /// Where probes ask over HTTP: not tracked either.
    pub health: Option<SocketAddr>,
    /// The interface to make; `None` when somebody else sees to the addresses.
    pub interface: Option<Interface>,
    /// How packets are kept out of connection tracking.
    pub firewall: Firewall,
    /// Is there to be a standing fallback?
    pub fail_open: bool,
    /// Does the interface stay at the end, if it can?
    pub keep: bool,
}

/// Which packets are ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// The addresses that are captured.
    pub addresses: Vec<IpAddr>,
    /// The DNS port on them, over UDP and TCP.
    pub port: u16,
    /// Where health is asked, over TCP. An unspecified address matches nothing.
    pub health: Option<SocketAddr>,
}

/// The interface that holds the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, at most 15 octets.
    pub name: String,
    /// What it is made of.
    pub kind: Kind,
}

/// What an interface is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A dummy link where the kernel has that, else a TUN device.
    #[default]
    Auto,
    /// A dummy link: it stays when we die.
    Dummy,
    /// A TUN device that lives as long as we do.
    Tun,
}

/// Who writes the rules.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Firewall {
    /// nftables, unless this host needs iptables.
    #[default]
    Auto,
    /// Our own table, by netlink; it goes when we do.
    Nftables,
    /// `iptables-restore` and `ip6tables-restore`.
    Iptables,
    /// Nobody: the data plane redirects, or nothing tracks connections.
    None,
}
