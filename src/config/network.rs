//! What is to be made of the node's network: the typed form of the keys below `network`, and how two of them are written.
//!
//! Nothing here touches the network. With loopback addresses alone, or with everything switched off, there is nothing to
//! be made of it, and the daemon is one process without privileges.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::config::address::{Name, address_and_port, host_and_port, looks_like_address};
use crate::config::problem::quoted;
use crate::config::text::Form;
use crate::config::{Config, Firewall, InterfaceKind, limits};

/// What is to be made of the node's network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// The addresses of interface and rules; empty for the listen addresses.
    pub addresses: Vec<IpAddr>,
    /// The interface to make; `None` when somebody else sees to the addresses.
    pub interface: Option<Interface>,
    /// Who writes the rules.
    pub firewall: Firewall,
    /// Where the servers are that answer when we do not; `None` for nowhere, as always when nobody writes rules.
    pub fail_open: Option<Endpoint>,
}

/// The interface that holds the listen addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, at most [`limits::MAX_INTERFACE_NAME`] octets.
    pub name: String,
    /// What it is made of.
    pub kind: InterfaceKind,
    /// Does it stay at the end, if it can?
    pub keep: bool,
}

/// Where the servers are that answer when we do not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// One server.
    Address(SocketAddr),
    /// All addresses of a name, looked up and followed.
    Name {
        /// The absolute name, lower-case, no trailing dot.
        host: String,
        /// The port of all of them.
        port: u16,
    },
}

impl Config {
    /// The addresses that an interface can hold and rules can speak of: loopback ones are there already, and their
    /// packets never leave the host.
    pub fn network_addresses(&self) -> Vec<IpAddr> {
        let possible = |ip: &IpAddr| !ip.to_canonical().is_loopback() && !ip.is_unspecified();
        let listed = self.network.addresses.iter().copied();
        let ours = self.listen.addresses.iter().filter(|address| address.port() == self.listen.port);
        let ours = ours.map(SocketAddr::ip).filter(|_| self.network.addresses.is_empty());
        listed.chain(ours).filter(possible).collect()
    }

    /// Whether anything is to be made of the node's network.
    pub fn network_is_on(&self) -> bool {
        let wanted = self.network.interface.is_some() || self.network.firewall != Firewall::None;
        wanted && !self.network_addresses().is_empty()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Address(address) => write!(f, "{address}"),
            Endpoint::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

impl Form for Endpoint {
    const FORMAT: &'static str = "endpoint";

    fn read(text: &str) -> Result<Endpoint, String> {
        let no = |why: &str| Err(format!("{} is no place to fail over to: {why}", quoted(text)));
        const EXAMPLE: &str = "write the whole name of a Service, such as \
                               kube-dns-endpoints.kube-system.svc.cluster.local, or one address";
        if let Some(address) = address_and_port(text, limits::FAIL_OPEN_PORT) {
            let ip = address.ip().to_canonical();
            if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() {
                return no("nobody can answer there");
            }
            return Ok(Endpoint::Address(address));
        }
        let Some((host, port)) = host_and_port(text, limits::FAIL_OPEN_PORT) else {
            return no("the port must be between 1 and 65535");
        };
        if looks_like_address(host) {
            return no("it looks like an IP address, but is none");
        }
        match Name::read(host) {
            // No search path is tried, so that one label is never enough; no host has a slash, which zones may.
            Ok(Name(host)) if host.contains('.') && host != "." && !host.contains('/') => {
                Ok(Endpoint::Name { host, port })
            }
            _ => no(EXAMPLE),
        }
    }
}

/// The name of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InterfaceName(pub(super) String);

impl Form for InterfaceName {
    const FORMAT: &'static str = "interface-name";

    fn read(text: &str) -> Result<InterfaceName, String> {
        let no = |why: &str| Err(format!("{} is not an interface name: {why}", quoted(text)));
        if text.is_empty() || text.len() > limits::MAX_INTERFACE_NAME {
            return no(&format!("it must have 1 to {} octets", limits::MAX_INTERFACE_NAME));
        }
        // The kernel takes "%d" as a request to number the name, and refuses the others (dev_valid_name).
        if let Some(c) = text.chars().find(|c| !c.is_ascii_graphic() || "/:%".contains(*c)) {
            return no(&format!("{c:?} cannot stand in it"));
        }
        // Directories of sysctl, and the one interface that every host has.
        if [".", "..", "all", "default", "lo"].contains(&text) {
            return no("it has a meaning of its own");
        }
        Ok(InterfaceName(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Endpoint, Firewall, Interface, InterfaceKind, Overrides, load_bytes, load_str};

    fn network(text: &str) -> super::Network {
        load_str("f", &format!("network: {text}")).unwrap().config.network
    }

    #[test]
    fn values_reach_the_configuration_as_written() {
        let all = network(
            "{interface: {manage: TRUE, name: dns0, kind: tun}, firewall: nftables, failOpen: {endpoints: Dns.Example.:55}}",
        );
        assert_eq!(all.interface, Some(Interface { name: "dns0".into(), kind: InterfaceKind::Tun, keep: false }));
        assert_eq!(all.firewall, Firewall::Nftables);
        assert_eq!(all.fail_open, Some(Endpoint::Name { host: "dns.example".into(), port: 55 }));
        assert_eq!(network("{interface: {manage: false}}").interface, None);
        assert_eq!(network("{failOpen: {enabled: false, endpoints: 10.0.0.1}}").fail_open, None);
        for (text, address) in
            [("10.0.0.1", "10.0.0.1:53"), ("'[fd00::1]:5353'", "[fd00::1]:5353"), ("fd00::1", "[fd00::1]:53")]
        {
            let found = network(&format!("{{failOpen: {{endpoints: {text}}}}}")).fail_open;
            assert_eq!(found, Some(Endpoint::Address(address.parse().unwrap())));
        }
    }

    #[test]
    fn the_default_endpoint_is_in_the_cluster_domain() {
        let config = load_str("f", "kubernetes: {clusterDomain: k8s.example}").unwrap().config;
        let host = "kube-dns-endpoints.kube-system.svc.k8s.example".into();
        assert_eq!(config.network.fail_open, Some(Endpoint::Name { host, port: 53 }));
    }

    #[test]
    fn without_rules_there_is_nowhere_to_fail_over_to() {
        let silent = load_str("f", "network: {firewall: none}").unwrap();
        assert_eq!((silent.config.network.fail_open, silent.warnings.0.len()), (None, 0));
        let asked = load_str("f", "network: {firewall: none, failOpen: {enabled: true}}").unwrap();
        assert_eq!(asked.config.network.fail_open, None);
        let warning = "f:1:27: network.failOpen: has no effect: it takes rules, and with network.firewall none nobody \
                       writes any";
        assert_eq!(asked.warnings.to_string(), warning);
    }

    #[test]
    fn interface_names_that_the_kernel_refuses_are_refused() {
        let fifteen = "a".repeat(15);
        for (name, why) in [
            ("\"\"", "it must have 1 to 14 octets"),
            (&fifteen, "it must have 1 to 14 octets"),
            ("a/b", "'/' cannot stand in it"),
            ("'a:b'", "':' cannot stand in it"),
            ("a b", "' ' cannot stand in it"),
            ("dns%d", "'%' cannot stand in it"),
            ("düse", "'ü' cannot stand in it"),
            ("..", "it has a meaning of its own"),
            ("lo", "it has a meaning of its own"),
        ] {
            let found = load_str("f", &format!("network: {{interface: {{name: {name}}}}}")).unwrap_err().to_string();
            assert!(found.starts_with("f:1:29: network.interface.name: ") && found.ends_with(why), "{name}: {found}");
        }
        assert_eq!(network("{interface: {name: nodelocaldns.1}}").interface.unwrap().name, "nodelocaldns.1");
    }

    #[test]
    fn endpoints_that_cannot_be_are_refused() {
        for (text, why) in [
            ("127.0.0.1", "nobody can answer there"),
            ("0.0.0.0", "nobody can answer there"),
            ("'::ffff:127.0.0.1'", "nobody can answer there"),
            ("'10.0.0.1:0'", "nobody can answer there"),
            ("dns.example:99999", "the port must be between 1 and 65535"),
            ("10.0.0", "it looks like an IP address, but is none"),
            ("kube-dns", "or one address"),
            (".", "or one address"),
            ("/etc/resolv.conf", "or one address"),
        ] {
            let found =
                load_str("f", &format!("network: {{failOpen: {{endpoints: {text}}}}}")).unwrap_err().to_string();
            assert!(found.starts_with("f:1:33: network.failOpen.endpoints: "), "{text}: {found}");
            assert!(found.ends_with(why), "{text}: {found}");
        }
    }

    #[test]
    fn nothing_is_made_of_the_network_for_loopback_addresses_or_when_all_is_off() {
        let on = |text: &str, listen: &[&str]| {
            let listen = listen.iter().map(|s| s.to_string()).collect();
            let overrides = Overrides { listen, ..Overrides::default() };
            load_bytes("f", text.as_bytes(), &overrides).unwrap().config.network_is_on()
        };
        let off = "network: {interface: {manage: false}, firewall: none}";
        for (text, listen, expected) in [
            ("", &[][..], true),
            ("listen: {addresses: [127.0.0.1, '::1', '::ffff:127.0.0.2']}", &[], false),
            ("listen: {addresses: [127.0.0.1, 10.0.0.1]}", &[], true),
            ("network: {interface: {manage: false}}", &[], true),
            ("network: {firewall: none}", &[], true),
            (off, &[], false),
            ("", &["169.254.20.10"], false),
        ] {
            assert_eq!(on(text, listen), expected, "{text} {listen:?}");
        }
        let config = load_str("f", "listen: {addresses: [127.0.0.1, 10.0.0.1]}").unwrap().config;
        assert_eq!(config.network_addresses(), ["10.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
        let config = load_bytes("f", b"", &Overrides { listen: vec!["10.0.0.1".into()], ..Overrides::default() });
        let network = config.unwrap().config.network;
        assert_eq!((network.interface, network.firewall, network.fail_open), (None, Firewall::None, None));
    }
}
