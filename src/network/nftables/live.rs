//! The live table, `inet nodens-GENERATION`: it keeps our packets out of connection tracking while we answer them.
//!
//! The kernel ties it to our socket. Nobody else can change it, `nft flush ruleset` passes it by, and it is gone the
//! moment we are, however we go; then the packets are tracked, and the standing rules send them to kube-dns.
//!
//! Part of it stays for as long as the table does, captured or not. The guardian's probe must reach the local socket
//! while nothing is captured: else it would be translated and find kube-dns healthy. And replies to what was captured a
//! moment ago must stay untracked: a reply that is tracked makes an entry that the client's next packet from the same
//! port would belong to, and that is then not translated.

use super::expr::{PROTOCOLS, Rule, Side, TCP};
use super::table::{self, Chain};
use super::{Error, Match, PREFIX, raw, untracked};
use crate::network::netlink::Netlink;
use crate::network::{PROBE_V4, PROBE_V6};
use netlink_packet_core::NLM_F_EXCL;
use netlink_packet_netfilter::nftables::{InetHookNumber, TableFlags};
use rustix::io::Errno;
use std::io;
use std::net::IpAddr;

/// A live table; dropped, it is gone.
pub struct Live {
    netlink: Netlink,
    table: String,
    what: Match,
    captured: bool,
}

impl Live {
    /// Makes the table `nodens-GENERATION` in the current network namespace, not capturing anything. `generation` is to
    /// differ between instances on one node.
    ///
    /// # Errors
    /// Why it cannot be had; see [`Error`].
    pub fn open(generation: &str, what: &Match) -> Result<Live, Error> {
        Live::install(super::open()?, format!("{PREFIX}{generation}"), what.clone())
    }

    fn install(mut netlink: Netlink, table: String, what: Match) -> Result<Live, Error> {
        let operation = format!("make the nftables table inet {table}");
        // On its own, so that what is said of it is about the owner and nothing else.
        let owned = table::new_table(&table, TableFlags::Owner, NLM_F_EXCL);
        if let Err(source) = table::transact(&mut netlink, vec![owned]) {
            return Err(match Errno::from_io_error(&source) {
                Some(Errno::INVAL) => Error::NoOwner { operation, source },
                _ => Error::of(operation)(source),
            });
        }
        let kept = table::new_chains(&table, &[kept(&what)]);
        table::transact(&mut netlink, kept).map_err(Error::of(operation))?;
        Ok(Live { netlink, table, what, captured: false })
    }

    /// Takes the packets. Nothing happens when they are taken already.
    ///
    /// # Errors
    /// What the kernel says; then nothing has changed.
    pub fn capture(&mut self) -> Result<(), Error> {
        self.turn(true)
    }

    /// Gives the packets back, to the standing rules. Nothing happens when they are not taken.
    ///
    /// # Errors
    /// What the kernel says; then nothing has changed.
    pub fn release(&mut self) -> Result<(), Error> {
        self.turn(false)
    }

    fn turn(&mut self, captured: bool) -> Result<(), Error> {
        if self.captured == captured {
            return Ok(());
        }
        let chains = capturing(&self.what);
        let (verb, steps) = if captured {
            ("fill", table::new_chains(&self.table, &chains))
        } else {
            ("empty", chains.iter().map(|chain| table::delete_chain(&self.table, chain)).collect())
        };
        let operation = format!("{verb} the nftables table inet {}", self.table);
        table::transact(&mut self.netlink, steps).map_err(Error::of(operation))?;
        self.captured = captured;
        Ok(())
    }

    /// As whom notifications name us.
    ///
    /// # Errors
    /// What the kernel says to `getsockname`.
    pub fn port(&self) -> io::Result<u32> {
        self.netlink.port()
    }
}

/// Makes a table that captures `what`, and removes it.
pub(super) fn tried(what: Match) -> Result<(), Error> {
    let netlink = super::open()?;
    let port = netlink.port().map_err(Error::of("name a netfilter socket"))?;
    // Two may try at a time; and nobody is to take it for an instance.
    Live::install(netlink, format!("nodens_try_{port}"), what)?.capture()
}

/// What is there while the table is.
fn kept(what: &Match) -> Chain {
    let mut rules = Vec::new();
    for &address in &what.addresses {
        rules.extend(untracked(Side::Source, address, what.port));
    }
    if let Some(health) = what.health {
        rules.extend([Side::Source, Side::Destination].map(|side| {
            Rule::family(health.ip()).address(side, health.ip()).port(TCP, side, health.port()).untracked()
        }));
    }
    for &address in &what.addresses {
        let probe = if address.is_ipv4() { IpAddr::V4(PROBE_V4) } else { IpAddr::V6(PROBE_V6) };
        rules.extend(PROTOCOLS.map(|protocol| {
            Rule::family(address)
                .address(Side::Source, probe)
                .address(Side::Destination, address)
                .port(protocol, Side::Destination, what.port)
                .untracked()
        }));
    }
    raw("replies", InetHookNumber::LocalOut, rules)
}

/// What takes the packets: those of others, and those of this host.
fn capturing(what: &Match) -> [Chain; 2] {
    let addresses = what.addresses.iter();
    let rules: Vec<Rule> = addresses.flat_map(|&address| untracked(Side::Destination, address, what.port)).collect();
    let health = what.health.map(|health| {
        let side = Side::Destination;
        Rule::family(health.ip()).address(side, health.ip()).port(TCP, side, health.port()).untracked()
    });
    let outside = rules.iter().cloned().chain(health).collect();
    [raw("prerouting", InetHookNumber::PreRouting, outside), raw("output", InetHookNumber::LocalOut, rules)]
}
