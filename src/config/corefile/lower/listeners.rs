//! Where a Corefile listens: the keys of its blocks and the plugin bind, as `listen.addresses` and `zones[].listen`.
//!
//! In CoreDNS each key of a block has a port of its own, and every port of every address is a server with zones of its
//! own. Here a block is one zone for each port that its keys name.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::config::corefile::lower::node::{Map, text};
use crate::config::corefile::lower::words::{Findings, Reading, any};
use crate::config::corefile::{Block, Directive, Scheme, Word, key};
use crate::config::problem::quoted;
use crate::config::tree::{Node, Place};

/// Some names of a block, and where they are asked for.
#[derive(Debug)]
pub(super) struct Site {
    /// Where the first of them stands.
    pub(super) place: Place,
    names: Vec<Node>,
    port: u16,
    at: Vec<SocketAddr>,
}

/// Where all blocks listen.
#[derive(Debug)]
pub(super) struct Listeners {
    /// The port of keys without one.
    port: u16,
    /// Every address and port, in the order of the text.
    all: Vec<(SocketAddr, Place)>,
    /// How many sites each port has, in the order of the text.
    ports: Vec<(u16, usize)>,
    /// Which zones are served where already, by the line of the key.
    taken: HashMap<(String, SocketAddr), usize>,
    /// Whether a zone and port were met with bind or without.
    bound: HashMap<(String, u16), bool>,
}

impl Listeners {
    /// None yet; `port` is that of keys without one.
    pub(super) fn new(port: u16) -> Listeners {
        Listeners { port, all: Vec::new(), ports: Vec::new(), taken: HashMap::new(), bound: HashMap::new() }
    }

    /// Takes up what `block` is for.
    pub(super) fn block(
        &mut self,
        block: &Block,
        interface: &dyn Fn(&str) -> Vec<IpAddr>,
        findings: &mut Findings,
    ) -> Vec<Site> {
        let binds: Vec<&Directive> = block.directives.iter().filter(|d| d.name.text == "bind").collect();
        let mut addresses = bind(&binds, interface, &mut Reading::new("bind", findings));
        if binds.is_empty() {
            let place = block.keys.first().map_or((1, 1), |key| key.from);
            addresses = vec![(any(false), place), (any(true), place)];
        }
        let mut sites: Vec<Site> = Vec::new();
        for word in &block.keys {
            let reading = &mut Reading::new(&word.text, findings);
            let key = match key(&word.text) {
                Ok(key) => key,
                Err(why) => {
                    reading.refuse::<()>(word, why);
                    continue;
                }
            };
            let port = key.port.unwrap_or(match key.scheme {
                Scheme::Dns => self.port,
                Scheme::Tls | Scheme::Quic => 853,
                Scheme::Grpc | Scheme::Https | Scheme::Https3 => 443,
            });
            if key.scheme != Scheme::Dns {
                let message =
                    format!("nodens takes plain DNS alone, over UDP and TCP: that is what port {port} is for");
                reading.warn(word, message);
            }
            let site = match sites.iter_mut().position(|site| site.port == port) {
                Some(at) => sites.get_mut(at),
                None => {
                    let at = addresses.iter().map(|(ip, _)| SocketAddr::new(*ip, port)).collect();
                    sites.push(Site { place: word.from, names: Vec::new(), port, at });
                    sites.last_mut()
                }
            };
            let Some(site) = site else { continue };
            for name in key.zones {
                self.claim(&name, site, !binds.is_empty(), word, reading);
                site.names.push(text(word.from, name));
            }
        }
        for site in &sites {
            for (address, (_, place)) in site.at.iter().zip(&addresses) {
                if !self.all.iter().any(|(known, _)| known == address) {
                    self.all.push((*address, *place));
                }
            }
            match self.ports.iter_mut().find(|(port, _)| *port == site.port) {
                Some((_, count)) => *count += 1,
                None => self.ports.push((site.port, 1)),
            }
        }
        sites
    }

    /// Notes that `name` is served at `site`; nobody else may.
    fn claim(&mut self, name: &str, site: &Site, bound: bool, word: &Word, reading: &mut Reading<'_>) {
        let shown = format!("dns://{}.:{}", name.trim_end_matches('.'), site.port);
        if *self.bound.entry((name.to_owned(), site.port)).or_insert(bound) != bound {
            let message = format!("{shown} is served on all addresses in one block and on some in another");
            return reading.refuse(word, message).unwrap_or_default();
        }
        for at in &site.at {
            if let Some(line) = self.taken.insert((name.to_owned(), *at), word.from.0) {
                let message = format!("cannot serve {shown} on {} - it is already defined (line {line})", at.ip());
                return reading.refuse(word, message).unwrap_or_default();
            }
        }
    }

    /// The port that need not be written.
    fn main_port(&self) -> u16 {
        let most = self.ports.iter().map(|(_, count)| *count).max();
        let is_used = self.ports.iter().any(|(port, _)| *port == self.port);
        let most = self.ports.iter().find(|(_, count)| Some(*count) == most);
        if is_used { self.port } else { most.map_or(self.port, |(port, _)| *port) }
    }

    /// The keys below `listen`.
    pub(super) fn keys(&self, place: Place) -> Map {
        let place = self.all.first().map_or(place, |(_, place)| *place);
        let mut listen = Map::new(place);
        listen.list("addresses", self.all.iter().map(|(address, place)| self.node(*address, *place)).collect());
        if let Some((_, place)) = self.all.iter().find(|(address, _)| address.ip().is_unspecified()) {
            listen.text("anyAddress", *place, "true");
        }
        listen.text("port", place, self.main_port());
        listen
    }

    /// The keys below `network`: no interface holds the address that stands for all.
    pub(super) fn network(&self, place: Place) -> Map {
        let mut network = Map::new(place);
        if let Some((_, place)) = self.all.iter().find(|(address, _)| address.ip().is_unspecified()) {
            let mut interface = Map::new(*place);
            interface.text("manage", *place, "false");
            network.map("interface", interface);
            network.text("firewall", *place, "none");
        }
        network
    }

    /// What `site` is for.
    pub(super) fn zone(&self, site: Site, zone: &mut Map) {
        zone.list("match", site.names);
        let others = self.all.iter().any(|(address, _)| !site.at.contains(address));
        if others {
            let places = site.at.iter().filter_map(|at| self.all.iter().find(|(known, _)| known == at));
            zone.list("listen", places.map(|(address, _)| self.node(*address, site.place)).collect());
        }
    }

    fn node(&self, address: SocketAddr, place: Place) -> Node {
        if address.port() == self.main_port() { text(place, address.ip()) } else { text(place, address) }
    }
}

/// The addresses that all lines of bind name together, each once.
fn bind(
    lines: &[&Directive],
    interface: &dyn Fn(&str) -> Vec<IpAddr>,
    reading: &mut Reading<'_>,
) -> Vec<(IpAddr, Place)> {
    let mut found: Vec<(IpAddr, Place)> = Vec::new();
    let mut any_named = false;
    for line in lines {
        if line.arguments.is_empty() {
            reading.refuse::<()>(&line.name, "at least one address or interface name is expected");
        }
        let mut these: Vec<(IpAddr, Place)> = Vec::new();
        for word in &line.arguments {
            these.extend(addresses(word, interface, reading).into_iter().map(|ip| (ip, word.from)));
        }
        any_named |= !these.is_empty();
        for property in line.body.iter().flatten() {
            match property.0.split_first() {
                Some((name, rest)) if name.text == "except" => {
                    let _ = reading.first(name, rest, "except ADDRESS");
                    let without: Vec<IpAddr> =
                        rest.iter().flat_map(|word| addresses(word, interface, reading)).collect();
                    these.retain(|(ip, _)| !without.contains(ip));
                }
                Some((name, _)) => reading.unknown(name, &["except"]),
                None => {}
            }
        }
        for one in these {
            if !found.iter().any(|(ip, _)| *ip == one.0) {
                found.push(one);
            }
        }
    }
    if let (true, Some(line)) = (any_named && found.is_empty(), lines.first()) {
        reading.refuse::<()>(&line.name, "no address is left to listen on");
    }
    found
}

/// The addresses that one word of bind stands for.
fn addresses(word: &Word, interface: &dyn Fn(&str) -> Vec<IpAddr>, reading: &mut Reading<'_>) -> Vec<IpAddr> {
    if let Ok(ip) = word.text.parse() {
        return vec![ip];
    }
    if word.text.split('%').next().is_some_and(|ip| ip.parse::<IpAddr>().is_ok()) {
        let message = format!("{}: link-local addresses cannot be had; use a unique local one (fd00::/8)", word.text);
        return reading.refuse(word, message).unwrap_or_default();
    }
    let found = interface(&word.text);
    if found.is_empty() {
        let message = format!(
            "{} is not a valid IP address, and no interface of that name has one; write the address",
            quoted(&word.text)
        );
        return reading.refuse(word, message).unwrap_or_default();
    }
    let link_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    found.into_iter().filter(|ip| !link_local(ip)).collect()
}
